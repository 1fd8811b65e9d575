//! Logical units: registration, online and offline.

use scsi_core::Guid;
use serde::Serialize;
use std::sync::Arc;

use super::nexuses::Aftermath;
use super::{State, Stmf, StmfError};
use crate::config::DefaultState;
use crate::provider::LogicalUnit;

/// A registered logical unit.
pub(super) struct LuEntry {
    pub(super) lu: Arc<dyn LogicalUnit>,
    pub(super) provider: String,
    pub(super) state: State,
}

/// A logical unit as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LuStatus {
    /// Its name.
    #[serde(serialize_with = "crate::guid::serialize")]
    pub guid: Guid,
    /// Its state; `None`: view entries mention it, but nobody has registered it.
    pub state: Option<State>,
    /// The provider that registered it (`sbd`); empty when nobody has.
    pub provider: String,
    /// How many view entries it has.
    pub view_entries: usize,
}

impl Stmf {
    /// Takes in a logical unit of an LU provider (`sbd`). It goes online if that is the default.
    ///
    /// # Errors
    /// [`StmfError::LuExists`], [`StmfError::LuName`]. [`StmfError::LuFailed`] when it does not come online: it stays
    /// registered, offline.
    pub fn register_lu(&self, lu: Arc<dyn LogicalUnit>, provider: &str) -> Result<(), StmfError> {
        let name = lu.guid();
        let guid = Guid::from_bytes(name).map_err(|_| StmfError::LuName(name))?;
        let default = {
            let mut live = self.lock();
            if live.lus.contains_key(&guid) {
                return Err(StmfError::LuExists(guid));
            }
            lu.registered(&self.surroundings());
            lu.set_target_ports(&live.target_ports);
            live.lus.insert(guid, LuEntry { lu, provider: provider.to_owned(), state: State::Offline });
            live.config.settings().default_lu_state
        };
        match default {
            DefaultState::Online => self.online_lu(guid),
            DefaultState::Offline => Ok(()),
        }
    }

    /// Brings a logical unit online: it appears in the LUN maps of all sessions that its view entries are for. May
    /// wait for a device.
    ///
    /// # Errors
    /// [`StmfError::LuNotFound`]; [`StmfError::Busy`] while it is on its way to another state;
    /// [`StmfError::LuFailed`] with what its store says.
    pub fn online_lu(&self, guid: Guid) -> Result<(), StmfError> {
        let Some(lu) = self.begin(guid, State::Offline, State::Onlining)? else { return Ok(()) };
        let result = lu.bring_online();
        let state = if result.is_ok() { State::Online } else { State::Offline };
        self.set_lu_state(guid, state);
        result.map_err(|reason| StmfError::LuFailed { guid, reason })
    }

    /// Takes a logical unit offline: it leaves all LUN maps, and its tasks are aborted. May wait for a device.
    ///
    /// # Errors
    /// [`StmfError::LuNotFound`]; [`StmfError::Busy`] while it is on its way to another state.
    pub fn offline_lu(&self, guid: Guid) -> Result<(), StmfError> {
        let Some(lu) = self.begin(guid, State::Online, State::Offlining)? else { return Ok(()) };
        self.set_lu_state(guid, State::Offlining);
        lu.take_offline();
        self.set_lu_state(guid, State::Offline);
        Ok(())
    }

    /// Says that something about a logical unit has changed: the sessions that reach it are woken, so that a transport which
    /// can tell its initiators without being asked does so. Unit attentions tell the others.
    pub fn lu_changed(&self, guid: Guid) {
        let sessions = self.sessions().into_iter();
        let reach = sessions.filter(|session| session.lun_map().iter().any(|entry| entry.guid == guid));
        reach.for_each(|session| session.mailbox().wake());
    }

    /// Takes a logical unit offline and forgets it; its view entries stay. Gives it back.
    ///
    /// # Errors
    /// As [`Stmf::offline_lu`].
    pub fn unregister_lu(&self, guid: Guid) -> Result<Arc<dyn LogicalUnit>, StmfError> {
        self.offline_lu(guid)?;
        let mut live = self.lock();
        match live.lus.get(&guid) {
            None => Err(StmfError::LuNotFound(guid)),
            Some(entry) if entry.state != State::Offline => Err(busy(guid)),
            Some(_) => live.lus.remove(&guid).map(|entry| entry.lu).ok_or(StmfError::LuNotFound(guid)),
        }
    }

    /// A registered logical unit.
    pub fn lu(&self, guid: Guid) -> Option<Arc<dyn LogicalUnit>> {
        self.lock().lus.get(&guid).map(|entry| entry.lu.clone())
    }

    /// One logical unit, registered or only mentioned by view entries.
    ///
    /// # Errors
    /// [`StmfError::LuNotFound`] when it is neither.
    pub fn lu_status(&self, guid: Guid) -> Result<LuStatus, StmfError> {
        let live = self.lock();
        let view_entries = live.config.views(guid).len();
        match live.lus.get(&guid) {
            Some(entry) => {
                Ok(LuStatus { guid, state: Some(entry.state), provider: entry.provider.clone(), view_entries })
            }
            None if view_entries > 0 => Ok(LuStatus { guid, state: None, provider: String::new(), view_entries }),
            None => Err(StmfError::LuNotFound(guid)),
        }
    }

    /// All logical units that are registered or have view entries, ascending by name.
    pub fn lus(&self) -> Vec<LuStatus> {
        let live = self.lock();
        let mut units: Vec<LuStatus> = live
            .lus
            .iter()
            .map(|(&guid, entry)| LuStatus {
                guid,
                state: Some(entry.state),
                provider: entry.provider.clone(),
                view_entries: live.config.views(guid).len(),
            })
            .collect();
        let unknown = live.config.units_with_views().filter(|guid| !live.lus.contains_key(guid));
        units.extend(unknown.map(|guid| LuStatus {
            guid,
            state: None,
            provider: String::new(),
            view_entries: live.config.views(guid).len(),
        }));
        units.sort_by_key(|unit| unit.guid);
        units
    }

    /// Starts a transition; `None` when the unit is already where it leads.
    fn begin(&self, guid: Guid, from: State, via: State) -> Result<Option<Arc<dyn LogicalUnit>>, StmfError> {
        let mut live = self.lock();
        let entry = live.lus.get_mut(&guid).ok_or(StmfError::LuNotFound(guid))?;
        match entry.state {
            State::Onlining | State::Offlining => Err(busy(guid)),
            state if state == from => {
                entry.state = via;
                Ok(Some(entry.lu.clone()))
            }
            _ => Ok(None),
        }
    }

    /// Puts a unit into a state and lets the sessions follow.
    fn set_lu_state(&self, guid: Guid, state: State) {
        let mut aftermath = Aftermath::default();
        {
            let mut live = self.lock();
            if let Some(entry) = live.lus.get_mut(&guid) {
                entry.state = state;
                self.note_online(guid, (state == State::Online).then(|| entry.lu.clone()));
            }
            let concerned = live.concerned_by_lu(guid);
            live.follow(concerned, &mut aftermath);
        }
        self.settle(aftermath);
    }
}

fn busy(guid: Guid) -> StmfError {
    StmfError::Busy(format!("{guid:X}"))
}

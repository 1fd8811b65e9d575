//! Targets: registration, online and offline, relative target port identifiers.

use scsi_core::ProtocolId;
use serde::Serialize;
use std::sync::Arc;

use super::nexuses::SessionInfo;
use super::{Live, State, Stmf, StmfError, folded};
use crate::config::{DefaultState, GroupKind};
use crate::provider::TargetPort;
use crate::session::Termination;

/// A target as its port provider describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetInfo {
    /// Its name: an iSCSI name, `wwn.` and 16 digits, or what the transport has. Folded when it is taken in.
    pub name: String,
    /// The protocol it speaks.
    pub protocol: ProtocolId,
    /// A name for people.
    pub alias: Option<String>,
    /// The port provider (`iscsit`).
    pub provider: String,
}

/// A registered target.
pub(super) struct TargetEntry {
    pub(super) info: TargetInfo,
    pub(super) port: Arc<dyn TargetPort>,
    pub(super) state: State,
    registration: u64,
}

/// A target as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TargetStatus {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: State,
    /// The port provider.
    pub provider: String,
    /// A name for people.
    pub alias: Option<String>,
    /// SCSI protocol identifier: 0 Fibre Channel, 4 SRP, 5 iSCSI, 6 SAS.
    pub protocol: u8,
    /// The target group it is in.
    pub target_group: Option<String>,
    /// Its sessions, the oldest first.
    pub sessions: Vec<SessionInfo>,
}

impl Stmf {
    /// Takes in a target of a port provider. It goes online if that is the default.
    ///
    /// # Errors
    /// [`StmfError::TargetExists`]. [`StmfError::TargetFailed`] when it does not come online: it stays registered,
    /// offline.
    pub fn register_target(&self, mut info: TargetInfo, port: Arc<dyn TargetPort>) -> Result<(), StmfError> {
        info.name = folded(&info.name);
        let name = info.name.clone();
        let default = {
            let mut live = self.lock();
            if live.targets.contains_key(&name) {
                return Err(StmfError::TargetExists(name));
            }
            live.registrations += 1;
            let registration = live.registrations;
            live.targets.insert(name.clone(), TargetEntry { info, port, state: State::Offline, registration });
            live.follow_ports();
            live.config.settings().default_target_state
        };
        match default {
            DefaultState::Online => self.online_target(&name),
            DefaultState::Offline => Ok(()),
        }
    }

    /// Forgets a target that is offline.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`]; [`StmfError::Busy`] unless it is offline.
    pub fn unregister_target(&self, name: &str) -> Result<(), StmfError> {
        let mut live = self.lock();
        let name = folded(name);
        match live.targets.get(&name) {
            None => return Err(StmfError::TargetNotFound(name)),
            Some(entry) if entry.state != State::Offline => return Err(StmfError::Busy(name)),
            Some(_) => {}
        }
        live.targets.remove(&name);
        live.forget_ports(&name);
        Ok(())
    }

    /// Gives a target another alias.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`].
    pub fn set_target_alias(&self, name: &str, alias: Option<String>) -> Result<(), StmfError> {
        let name = folded(name);
        let mut live = self.lock();
        let entry = live.targets.get_mut(&name).ok_or(StmfError::TargetNotFound(name))?;
        entry.info.alias = alias;
        Ok(())
    }

    /// Brings a target online: it takes logins.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`]; [`StmfError::Busy`] while it is on its way to another state;
    /// [`StmfError::TargetFailed`] with the port provider's reason.
    pub fn online_target(&self, name: &str) -> Result<(), StmfError> {
        let name = folded(name);
        let port = {
            let mut live = self.lock();
            let entry = live.targets.get_mut(&name).ok_or_else(|| StmfError::TargetNotFound(name.clone()))?;
            match entry.state {
                State::Online => return Ok(()),
                State::Onlining | State::Offlining => return Err(StmfError::Busy(name)),
                State::Offline => entry.state = State::Onlining,
            }
            entry.port.clone()
        };
        let result = port.bring_online();
        if let Some(entry) = self.lock().targets.get_mut(&name) {
            entry.state = if result.is_ok() { State::Online } else { State::Offline };
        }
        result.map_err(|error| StmfError::TargetFailed { name, reason: error.to_string() })
    }

    /// Takes a target offline: it takes no more logins, and its sessions are asked to end as `how` says. It is
    /// [`State::Offlining`] until the last of them has closed.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`]; [`StmfError::Busy`] while it is on its way online.
    pub fn offline_target(&self, name: &str, how: Termination) -> Result<(), StmfError> {
        let name = folded(name);
        let port = {
            let mut live = self.lock();
            let entry = live.targets.get_mut(&name).ok_or_else(|| StmfError::TargetNotFound(name.clone()))?;
            match entry.state {
                State::Offline => return Ok(()),
                State::Onlining => return Err(StmfError::Busy(name)),
                // Once more, to insist.
                State::Offlining => None,
                State::Online => {
                    entry.state = State::Offlining;
                    Some(entry.port.clone())
                }
            }
        };
        if let Some(port) = port {
            port.take_offline();
        }
        self.end_sessions_of(&name, how);
        self.lock().settle_target(&name);
        Ok(())
    }

    /// One target.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`].
    pub fn target(&self, name: &str) -> Result<TargetStatus, StmfError> {
        let name = folded(name);
        let live = self.lock();
        match live.targets.get(&name) {
            Some(entry) => Ok(live.target_status(entry)),
            None => Err(StmfError::TargetNotFound(name)),
        }
    }

    /// All targets, the most recently registered first.
    pub fn targets(&self) -> Vec<TargetStatus> {
        let live = self.lock();
        let mut entries: Vec<&TargetEntry> = live.targets.values().collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.registration));
        entries.into_iter().map(|entry| live.target_status(entry)).collect()
    }
}

impl Live {
    /// A target on its way offline has arrived when its last session is gone.
    pub(super) fn settle_target(&mut self, name: &str) {
        let idle = self.by_target.get(name).is_none_or(|sessions| sessions.is_empty());
        if let Some(entry) = self.targets.get_mut(name)
            && entry.state == State::Offlining
            && idle
        {
            entry.state = State::Offline;
        }
    }

    fn target_status(&self, entry: &TargetEntry) -> TargetStatus {
        let sessions = self.by_target.get(&entry.info.name).into_iter().flatten();
        TargetStatus {
            name: entry.info.name.clone(),
            state: entry.state,
            provider: entry.info.provider.clone(),
            alias: entry.info.alias.clone(),
            protocol: entry.info.protocol.0,
            target_group: self
                .config
                .group_of(GroupKind::Target, &entry.info.name)
                .map(|group| group.name().to_owned()),
            sessions: sessions.filter_map(|id| self.sessions.get(id)).map(|session| SessionInfo::of(session)).collect(),
        }
    }
}

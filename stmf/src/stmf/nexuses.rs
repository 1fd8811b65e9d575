//! Sessions: who may log in, opening and closing, and following changes.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError};

use super::{Live, Route, State, Stmf, StmfError, folded};
use crate::config::{Access, Edit, GroupId, GroupKind, Row, Scope};
use crate::lun_map::{LunMap, MappedLu};
use crate::nexus::{Nexus, NexusId};
use crate::provider::{Effects, LogicalUnit, Mailbox, NexusLoss};
use crate::session::{CounterValues, Session, Termination};
use scsi_core::Guid;

/// What a port provider knows when an initiator has logged in.
#[derive(Clone)]
pub struct SessionRequest {
    /// The initiator's device name; folded here.
    pub initiator: String,
    /// What the initiator calls itself.
    pub initiator_alias: Option<String>,
    /// The initiator port's TransportID (SPC-5), encoded.
    pub transport_id: Vec<u8>,
    /// The target's name; folded here.
    pub target: String,
    /// The SCSI name of the target port: `<target>,t,0x<tag>` for iSCSI, the same as `target` elsewhere.
    pub target_port_name: String,
    /// Where effects from other threads go.
    pub mailbox: Arc<dyn Mailbox>,
    /// Now, in seconds since 1970: "Logged in since".
    pub logged_in: u64,
}

/// Why an initiator may not log in to a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum LoginRefusal {
    /// There is no such target.
    #[error("there is no such target")]
    NoSuchTarget,
    /// The target is not online.
    #[error("the target is offline")]
    TargetOffline,
    /// Access is for named initiators, and this one is in no host group. The port provider may know its name.
    #[error("access is for named initiators and this one is in no host group")]
    NotNamed,
}

/// A session as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SessionInfo {
    /// Its number, for [`Stmf::end_session`].
    pub id: u64,
    /// The initiator.
    pub initiator: String,
    /// What the initiator calls itself.
    pub initiator_alias: Option<String>,
    /// The target.
    pub target: String,
    /// The target port.
    pub target_port: String,
    /// Since when, in seconds since 1970.
    pub logged_in: u64,
    /// How many logical units it reaches.
    pub luns: usize,
    /// What went through.
    pub counters: CounterValues,
}

impl SessionInfo {
    pub(super) fn of(session: &Session) -> Self {
        let nexus = session.nexus();
        Self {
            id: nexus.id.0,
            initiator: nexus.initiator.clone(),
            initiator_alias: session.initiator_alias().map(str::to_owned),
            target: nexus.target.clone(),
            target_port: nexus.target_port_name.clone(),
            logged_in: session.logged_in(),
            luns: session.lun_map().len(),
            counters: session.counters().values(),
        }
    }
}

/// What is left to do when a step has been taken and the lock is given back.
#[derive(Default)]
pub(super) struct Aftermath {
    /// What logical units want, of sessions anywhere.
    pub(super) effects: Vec<(Arc<dyn LogicalUnit>, Effects)>,
    /// Sessions whose LUN map is another.
    pub(super) changed: Vec<Arc<Session>>,
}

impl Stmf {
    /// Whether an initiator may log in to a target (and find it by discovery).
    ///
    /// # Errors
    /// Why not. With [`LoginRefusal::NotNamed`] the port provider may still admit an initiator that it knows by name.
    pub fn may_log_in(&self, initiator: &str, target: &str) -> Result<(), LoginRefusal> {
        self.lock().may_log_in(&folded(initiator), &folded(target))
    }

    /// Makes the session of an initiator that has logged in, with its LUN map as of now.
    ///
    /// Whether the initiator may do so was asked before, of [`Stmf::may_log_in`] and of the port provider.
    ///
    /// # Errors
    /// [`StmfError::TargetNotFound`], [`StmfError::TargetOffline`], [`StmfError::NoRelativeTargetPort`].
    pub fn open_session(&self, request: SessionRequest) -> Result<Arc<Session>, StmfError> {
        let initiator = folded(&request.initiator);
        let target = folded(&request.target);
        let mut live = self.lock();
        let live = &mut *live;
        let protocol = match live.targets.get(&target) {
            None => return Err(StmfError::TargetNotFound(target)),
            Some(entry) if matches!(entry.state, State::Online | State::Onlining) => entry.info.protocol.0,
            Some(_) => return Err(StmfError::TargetOffline(target)),
        };
        let relative_target_port = live.relative_target_port(&request.target_port_name)?;
        live.follow_ports();
        let id = NexusId(live.next_nexus);
        live.next_nexus += 1;
        let nexus = Arc::new(Nexus {
            id,
            initiator: initiator.clone(),
            transport_id: request.transport_id,
            target: target.clone(),
            target_port_name: request.target_port_name,
            relative_target_port,
            protocol,
        });
        let map = live.lun_map(live.config.scope_of(&initiator, &target));
        let mailbox = request.mailbox.clone();
        for unit in map.iter() {
            unit.lu.attach(&nexus);
        }
        let session = Session::new(
            nexus,
            request.initiator_alias,
            request.logged_in,
            request.mailbox,
            self.this.clone(),
            Arc::new(map),
        );
        let session = Arc::new(session);
        let route = Route { mailbox, session: session.clone() };
        self.routes(id).write().unwrap_or_else(PoisonError::into_inner).insert(id, route);
        live.sessions.insert(id, session.clone());
        live.by_initiator.entry(initiator).or_default().insert(id);
        live.by_target.entry(target).or_default().insert(id);
        Ok(session)
    }

    /// All sessions, the oldest first.
    pub fn sessions(&self) -> Vec<Arc<Session>> {
        self.lock().sessions.values().cloned().collect()
    }

    /// The session of a nexus.
    pub fn session(&self, id: NexusId) -> Option<Arc<Session>> {
        self.lock().sessions.get(&id).cloned()
    }

    /// Asks the port provider to end one session.
    ///
    /// # Errors
    /// [`StmfError::SessionNotFound`].
    pub fn end_session(&self, id: NexusId, how: Termination) -> Result<(), StmfError> {
        self.session(id).ok_or(StmfError::SessionNotFound(id))?.terminate(how);
        Ok(())
    }

    /// Asks the port provider to end every session of a target.
    pub fn end_sessions_of(&self, target: &str, how: Termination) {
        let sessions: Vec<Arc<Session>> = {
            let live = self.lock();
            let ids = live.by_target.get(&folded(target)).into_iter().flatten();
            ids.filter_map(|id| live.sessions.get(id).cloned()).collect()
        };
        for session in sessions {
            session.terminate(how);
        }
    }

    /// See [`Session::close`].
    pub(crate) fn close_session(&self, id: NexusId) {
        let mut aftermath = Aftermath::default();
        {
            let mut live = self.lock();
            let Some(session) = live.sessions.remove(&id) else { return };
            let nexus = session.nexus();
            forget(&mut live.by_initiator, &nexus.initiator, id);
            forget(&mut live.by_target, &nexus.target, id);
            // The route first: what the units still want for this nexus goes to nobody, but store operations.
            self.routes(id).write().unwrap_or_else(PoisonError::into_inner).remove(&id);
            for unit in session.lun_map().iter() {
                aftermath.detach(&unit.lu, id, NexusLoss::SessionEnded);
            }
            live.settle_target(&nexus.target);
        }
        self.settle(aftermath);
    }
}

impl Aftermath {
    fn detach(&mut self, lu: &Arc<dyn LogicalUnit>, nexus: NexusId, loss: NexusLoss) {
        let mut effects = Effects::new();
        lu.detach(nexus, loss, &mut effects);
        if !effects.is_empty() {
            self.effects.push((lu.clone(), effects));
        }
    }
}

impl Live {
    pub(super) fn may_log_in(&self, initiator: &str, target: &str) -> Result<(), LoginRefusal> {
        match self.targets.get(target) {
            None => return Err(LoginRefusal::NoSuchTarget),
            Some(entry) if entry.state != State::Online => return Err(LoginRefusal::TargetOffline),
            Some(_) => {}
        }
        match self.config.settings().access {
            Access::Named if self.config.group_of(GroupKind::Host, initiator).is_none() => Err(LoginRefusal::NotNamed),
            _ => Ok(()),
        }
    }

    /// The LUN map of nexuses whose ends are in these groups: their view entries, of units that are online.
    fn lun_map(&self, scope: Scope) -> LunMap {
        let entries = self.config.resolve(scope).into_iter().filter_map(|entry| {
            let unit = self.lus.get(&entry.lu).filter(|unit| unit.state == State::Online)?;
            Some(MappedLu { lun: entry.lun, guid: entry.lu, lu: unit.lu.clone() })
        });
        LunMap::new(entries.collect())
    }

    /// The sessions whose LUN map the edits may change.
    pub(super) fn concerned_by(&self, edits: &[Edit]) -> BTreeSet<NexusId> {
        let mut concerned = BTreeSet::new();
        for edit in edits {
            match edit {
                Edit::Put(Row::Member { kind, name, .. }) | Edit::DeleteMember { kind, name } => {
                    concerned.extend(self.sessions_of(*kind, name.as_str()));
                }
                Edit::Put(Row::View(entry)) => self.in_scope(entry.scope, &mut concerned),
                Edit::DeleteView { lu, index } => {
                    if let Ok(entry) = self.config.view(*lu, *index) {
                        self.in_scope(entry.scope, &mut concerned);
                    }
                }
                // An empty group, or one that no view entry mentions, shows nothing to anybody.
                Edit::Put(Row::Settings(_) | Row::Group { .. } | Row::Access { .. })
                | Edit::DeleteGroup { .. }
                | Edit::DeleteAccess { .. } => {}
            }
        }
        concerned
    }

    /// The sessions that a unit's view entries are for.
    pub(super) fn concerned_by_lu(&self, guid: Guid) -> BTreeSet<NexusId> {
        let mut concerned = BTreeSet::new();
        for entry in self.config.views(guid) {
            self.in_scope(entry.scope, &mut concerned);
        }
        concerned
    }

    /// Brings the LUN maps of these sessions up to date.
    pub(super) fn follow(&mut self, concerned: BTreeSet<NexusId>, aftermath: &mut Aftermath) {
        let mut maps: HashMap<Scope, Arc<LunMap>> = HashMap::new();
        // Detaching goes unit by unit, so that what one unit wants comes together.
        let mut lost: BTreeMap<Guid, (Arc<dyn LogicalUnit>, Vec<NexusId>)> = BTreeMap::new();
        for id in concerned {
            let Some(session) = self.sessions.get(&id) else { continue };
            let nexus = session.nexus();
            let scope = self.config.scope_of(&nexus.initiator, &nexus.target);
            let new = maps.entry(scope).or_insert_with(|| Arc::new(self.lun_map(scope))).clone();
            let old = session.lun_map();
            if new.same_as(&old) {
                continue;
            }
            for unit in new.iter().filter(|unit| !old.has(unit)) {
                unit.lu.attach(nexus);
            }
            session.replace_map(new.clone());
            for unit in old.iter().filter(|unit| !new.has(unit)) {
                lost.entry(unit.guid).or_insert_with(|| (unit.lu.clone(), Vec::new())).1.push(id);
            }
            aftermath.changed.push(session.clone());
        }
        for (lu, nexuses) in lost.into_values() {
            let mut effects = Effects::new();
            for id in nexuses {
                lu.detach(id, NexusLoss::Unmapped, &mut effects);
            }
            if !effects.is_empty() {
                aftermath.effects.push((lu, effects));
            }
        }
    }

    fn sessions_of(&self, kind: GroupKind, device: &str) -> impl Iterator<Item = NexusId> {
        let index = match kind {
            GroupKind::Host => &self.by_initiator,
            GroupKind::Target => &self.by_target,
        };
        index.get(device).into_iter().flatten().copied()
    }

    fn in_scope(&self, scope: Scope, concerned: &mut BTreeSet<NexusId>) {
        let members = |kind, id: GroupId| {
            let group = self.config.group_by_id(kind, id);
            group
                .into_iter()
                .flat_map(|group| group.members())
                .flat_map(move |name| self.sessions_of(kind, name.as_str()))
        };
        match (scope.host_group, scope.target_group) {
            (None, None) => concerned.extend(self.sessions.keys()),
            (Some(id), None) => concerned.extend(members(GroupKind::Host, id)),
            (None, Some(id)) => concerned.extend(members(GroupKind::Target, id)),
            (Some(host), Some(target)) => {
                let at_target: BTreeSet<NexusId> = members(GroupKind::Target, target).collect();
                concerned.extend(members(GroupKind::Host, host).filter(|id| at_target.contains(id)));
            }
        }
    }
}

fn forget(index: &mut HashMap<String, BTreeSet<NexusId>>, key: &str, id: NexusId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

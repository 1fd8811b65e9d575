//! What the framework is to the logical units in it.

use scsi_core::Guid;
use std::sync::{Arc, PoisonError, Weak};

use super::Stmf;
use crate::nexus::NexusId;
use crate::provider::{Effects, Host, LogicalUnit, Surroundings};

impl Stmf {
    /// Gives the framework time and randomness, for the units that need them: tokens of copied data have a lifetime
    /// and must not be guessed. Once, before units are registered; `false` when it has them already.
    pub fn set_host(&self, host: Arc<dyn Host>) -> bool {
        self.host.set(host).is_ok()
    }

    pub(super) fn surroundings(&self) -> Weak<dyn Surroundings> {
        self.this.clone()
    }

    /// A unit has come online, or is so no more.
    pub(super) fn note_online(&self, guid: Guid, unit: Option<Arc<dyn LogicalUnit>>) {
        let mut online = self.online.write().unwrap_or_else(PoisonError::into_inner);
        match unit {
            Some(unit) => online.insert(*guid.as_bytes(), unit),
            None => online.remove(guid.as_bytes()),
        };
    }
}

impl Surroundings for Stmf {
    fn find(&self, guid: [u8; 16], reached_by: Option<NexusId>) -> Option<Arc<dyn LogicalUnit>> {
        let Some(nexus) = reached_by else {
            return self.online.read().unwrap_or_else(PoisonError::into_inner).get(&guid).cloned();
        };
        let session = {
            let routes = self.routes(nexus).read().unwrap_or_else(PoisonError::into_inner);
            routes.get(&nexus)?.session.clone()
        };
        session.lun_map().iter().find(|entry| *entry.guid.as_bytes() == guid).map(|entry| entry.lu.clone())
    }

    fn carry_out(&self, lu: &Arc<dyn LogicalUnit>, effects: &mut Effects) {
        self.dispatch(lu, effects, |_| false);
    }

    fn host(&self) -> Option<Arc<dyn Host>> {
        self.host.get().cloned()
    }
}

//! The medium of a removable disk: loaded or ejected, and who prevents its removal.
//!
//! A fixed disk has a medium that is always there. What is ejected stays with its store: only the initiators do not
//! reach it until it is loaded again, by one of them or by an administrator.

use scsi_core::cdb::{PreventAllow, StartStopUnit};
use scsi_core::{AdditionalSense, SenseData};
use stmf::NexusId;
use stmf::provider::{Effects, StoreOp};

use super::Lu;
use super::ops::Purpose;
use super::slab::Key;
use super::task::Work;
use super::transfer::Checked;

/// The medium as START STOP UNIT and PREVENT ALLOW MEDIUM REMOVAL see it.
#[derive(Debug, Default)]
pub(super) struct Medium {
    ejected: bool,
    /// Nexuses that prevent the removal; gone when they allow it, are lost, or the unit is reset.
    prevented_by: Vec<NexusId>,
}

impl Medium {
    /// A nexus is gone, and with it what it prevented.
    pub(super) fn forget(&mut self, nexus: NexusId) {
        self.prevented_by.retain(|known| *known != nexus);
    }

    /// A reset lets everybody remove the medium; whether there is one does not change.
    pub(super) fn reset(&mut self) {
        self.prevented_by.clear();
    }
}

impl Lu {
    /// Why the medium cannot be used, if it is not there.
    pub(super) fn medium_missing(&self) -> Option<SenseData> {
        self.medium.ejected.then(|| SenseData::not_ready(AdditionalSense::MEDIUM_NOT_PRESENT_TRAY_OPEN))
    }

    /// Whether the medium can be removed and is.
    pub fn is_ejected(&self) -> bool {
        self.medium.ejected
    }

    /// Loads or ejects the medium of a removable disk from the administrator's side, whoever prevents its removal;
    /// does nothing to a fixed one. A medium that is loaded is told of by a unit attention.
    pub fn set_ejected(&mut self, ejected: bool) {
        if self.identity.removable && self.medium.ejected != ejected {
            self.medium.ejected = ejected;
            if !ejected {
                self.attention_others(None, AdditionalSense::NOT_READY_TO_READY_CHANGE);
            }
        }
    }

    /// PREVENT ALLOW MEDIUM REMOVAL: each nexus for itself.
    pub(super) fn prevent_allow(&mut self, key: Key, command: &PreventAllow, fx: &mut Effects) {
        let Some(task) = self.tasks.get(key) else { return };
        let nexus = task.id.nexus;
        self.medium.forget(nexus);
        if command.prevent == 1 {
            self.medium.prevented_by.push(nexus);
        }
        self.good(key, 0, fx);
    }

    /// START STOP UNIT. Nothing turns, so nothing starts or stops; but what stops or is ejected promises that cached
    /// data is safe. A removable disk accepts power conditions and does nothing. LOEJ counts with START_VALID only;
    /// beside it the parser lets pass the conditions that SBC reserves too, since libiscsi's suite tries all of them so
    /// and wants each to end well with the medium in its place.
    pub(super) fn start_stop(&mut self, key: Key, command: &StartStopUnit, fx: &mut Effects) -> Checked {
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        let load_eject = command.load_eject && command.power_condition == 0;
        if load_eject && !self.identity.removable {
            return Err(SenseData::invalid_field_in_cdb(4, Some(1)));
        }
        // A fixed disk has no power condition that it could go to.
        if command.power_condition != 0 && !self.identity.removable {
            return Err(SenseData::invalid_field_in_cdb(4, Some(7)));
        }
        // While the removal is prevented what is there stays, and what is not there does not come.
        let changes = if command.start { self.medium.ejected } else { !self.medium.ejected };
        if load_eject && changes && !self.medium.prevented_by.is_empty() {
            return Err(SenseData::illegal_request(AdditionalSense::MEDIUM_REMOVAL_PREVENTED));
        }
        if load_eject && command.start {
            if std::mem::take(&mut self.medium.ejected) {
                self.attention_others(Some(nexus), AdditionalSense::NOT_READY_TO_READY_CHANGE);
            }
            self.good(key, 0, fx);
            return Ok(());
        }
        let was_there = !self.medium.ejected;
        self.medium.ejected |= load_eject;
        let stops = command.power_condition == 0 && !command.start && was_there;
        // A medium that leaves takes everything along that was written to it.
        let flush = stops && (load_eject || !command.no_flush) && self.capabilities.volatile_cache && !self.failed;
        if !flush {
            self.good(key, 0, fx);
        } else if command.immediate {
            self.issue_detached(nexus, Purpose::Flush, StoreOp::Flush, fx);
            self.good(key, 0, fx);
        } else {
            self.set(key, Work::Finish { total: 0 });
            self.issue(key, Purpose::Flush, StoreOp::Flush, fx);
        }
        Ok(())
    }
}

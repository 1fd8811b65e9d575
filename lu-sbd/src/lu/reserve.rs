//! Reservations: what other nexuses may not do meanwhile.

use scsi_core::SenseData;
use scsi_core::command::{CommandFlags, ParsedCommand};
use stmf::NexusId;
use stmf::provider::Effects;

use super::Lu;
use super::media::Checked;
use super::slab::Key;

/// Who holds what.
#[derive(Clone, Debug, Default)]
pub(super) struct Reservations {
    /// The nexus that holds the unit by RESERVE.
    reserved: Option<NexusId>,
    /// What survives a loss of power.
    kept: Vec<u8>,
}

impl Reservations {
    pub(super) fn restore(kept: &[u8]) -> Self {
        Self { reserved: None, kept: kept.to_vec() }
    }

    pub(super) fn kept(&self) -> Vec<u8> {
        self.kept.clone()
    }

    /// Registrations, and whether a persistent reservation is held.
    pub(super) fn summary(&self) -> (usize, bool) {
        (0, false)
    }

    pub(super) fn reset(&mut self) {
        self.reserved = None;
    }

    pub(super) fn nexus_lost(&mut self, nexus: NexusId) {
        if self.reserved == Some(nexus) {
            self.reserved = None;
        }
    }
}

impl Lu {
    pub(super) fn conflicts(&self, nexus: NexusId, parsed: &ParsedCommand) -> bool {
        let other = self.reservations.reserved.is_some_and(|holder| holder != nexus);
        other && !parsed.entry.flags.contains(CommandFlags::ALLOWED_UNDER_RESERVE)
    }

    pub(super) fn reserve(&mut self, key: Key, fx: &mut Effects) -> Checked {
        let Some(task) = self.tasks.get(key) else { return Err(SenseData::no_sense()) };
        self.reservations.reserved = Some(task.id.nexus);
        self.good(key, 0, fx);
        Ok(())
    }

    pub(super) fn release(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.tasks.get(key) else { return };
        self.reservations.nexus_lost(task.id.nexus);
        self.good(key, 0, fx);
    }
}

//! What a unit keeps of each I_T nexus that reaches it.

use scsi_core::AdditionalSense;
use scsi_core::data::AsymmetricAccessState;
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::reservation::{NexusName, Standing};
use smallvec::SmallVec;
use std::sync::Arc;
use stmf::Nexus;

use super::reserve;

/// Unit attentions kept for one nexus; the oldest of lowest precedence is left out beyond.
const MAX_UNIT_ATTENTIONS: usize = 16;

/// One nexus.
#[derive(Debug)]
pub(super) struct NexusState {
    pub(super) nexus: Arc<Nexus>,
    /// As reservations know it.
    pub(super) name: NexusName,
    /// What it is to the reservations, and of which revision that is known.
    pub(super) standing: Option<(u64, Standing)>,
    pub(super) attentions: UnitAttentions,
    /// The asymmetric access state of its target port.
    pub(super) access: AsymmetricAccessState,
    /// Its number in the task set.
    pub(super) number: usize,
}

impl NexusState {
    pub(super) fn new(nexus: Arc<Nexus>, number: usize, access: AsymmetricAccessState) -> Self {
        let mut attentions = UnitAttentions::default();
        if !is_active(Mutation::NewNexusNotTold) {
            attentions.establish(AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET);
        }
        let name = reserve::name_of(&nexus);
        Self { nexus, name, standing: None, attentions, access, number }
    }
}

/// The unit attention conditions of one nexus, the one to be reported next first (SAM-5, Unit attention conditions).
#[derive(Debug, Default)]
pub(super) struct UnitAttentions(SmallVec<[AdditionalSense; 2]>);

impl UnitAttentions {
    /// Establishes a condition; one that is pending already is not repeated, and a reset swallows what it implies.
    pub(super) fn establish(&mut self, code: AdditionalSense) {
        let rank = precedence(code);
        if self.0.contains(&code) {
            return;
        }
        if rank == 0 {
            // A lesser reset says nothing that a greater one has not said.
            self.0.retain(|pending| precedence(*pending) != 0 || *pending < code);
            if self.0.iter().any(|pending| precedence(*pending) == 0) {
                return;
            }
        }
        let at = self.0.partition_point(|pending| precedence(*pending) <= rank);
        self.0.insert(at, code);
        self.0.truncate(MAX_UNIT_ATTENTIONS);
    }

    /// The condition that would be reported next, and how many there are.
    pub(super) fn peek(&self) -> Option<(AdditionalSense, usize)> {
        self.0.first().map(|code| (*code, self.0.len()))
    }

    /// Reports the next condition, which is cleared by that.
    pub(super) fn report(&mut self) -> Option<AdditionalSense> {
        if is_active(Mutation::AttentionRepeated) {
            return self.0.first().copied();
        }
        if self.0.is_empty() { None } else { Some(self.0.remove(0)) }
    }

    pub(super) fn clear_all(&mut self) {
        self.0.clear();
    }
}

/// SAM-5 reports resets first, then the rest in the order of their occurrence.
fn precedence(code: AdditionalSense) -> u8 {
    match code.asc {
        0x29 => 0,
        0x3f => 1,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resets_come_first_once_and_swallow_lesser_ones() {
        let mut attentions = UnitAttentions::default();
        attentions.establish(AdditionalSense::MODE_PARAMETERS_CHANGED);
        attentions.establish(AdditionalSense::BUS_DEVICE_RESET_FUNCTION_OCCURRED);
        attentions.establish(AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET);
        attentions.establish(AdditionalSense::IT_NEXUS_LOSS_OCCURRED);
        attentions.establish(AdditionalSense::MODE_PARAMETERS_CHANGED);
        assert_eq!(attentions.peek(), Some((AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET, 2)));
        assert_eq!(attentions.report(), Some(AdditionalSense::POWER_ON_RESET_OR_BUS_DEVICE_RESET));
        assert_eq!(attentions.report(), Some(AdditionalSense::MODE_PARAMETERS_CHANGED));
        assert_eq!(attentions.report(), None);
    }
}

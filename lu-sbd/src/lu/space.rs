//! How full the store is: the soft threshold of thin provisioning, and what LOG SENSE tells of it.
//!
//! The threshold stands in the Logical Block Provisioning mode page, in threshold sets of 1 MiB that the unit uses; it
//! counts when LBPERE of the error recovery page is set. The store is asked when enough was written since it was asked
//! last, or given back, and when the threshold itself changes. Reaching it is a unit attention 38/07 for everybody, or
//! with SITUA for one nexus; it comes again only when less was used in between.

use scsi_core::AdditionalSense;
use scsi_core::log::{LogPage, ProvisioningResources};
use stmf::NexusId;
use stmf::provider::{Effects, StoreOp, StoreUsage};

use super::Lu;
use super::ops::Purpose;

/// Bytes of a threshold set.
const SET_BYTES: u64 = 1 << 20;
/// So much may change before the store is asked again.
const UNCHECKED_BYTES: u64 = 4 << 20;

/// What is known of the space in the store.
#[derive(Debug, Default)]
pub(super) struct Space {
    /// Bytes written and given back since the store was asked.
    changed: u64,
    asking: bool,
    /// The threshold is reached, and that was told.
    reached: bool,
    /// What the store told last.
    usage: Option<StoreUsage>,
}

impl Lu {
    /// THRESHOLD EXPONENT: a set as a power of two of logical blocks; 0 when there are no thresholds.
    pub(super) fn threshold_exponent(&self) -> u8 {
        let thin = self.capabilities.unmap.is_some() && self.capabilities.usage;
        if thin { (SET_BYTES >> self.block_shift).max(2).ilog2() as u8 } else { 0 }
    }

    fn threshold_set_bytes(&self) -> u64 {
        u64::from(self.identity.block_size) << self.threshold_exponent()
    }

    /// Log page 0Ch, of what the store told last.
    pub(super) fn provisioning_page(&self) -> LogPage {
        let sets = |bytes: u64| u32::try_from(bytes / self.threshold_set_bytes()).unwrap_or(u32::MAX);
        let usage = self.space.usage;
        ProvisioningResources {
            available: usage.and_then(|usage| usage.available).map(sets),
            used: usage.map(|usage| sets(usage.used)),
            // Others may write to the same file system.
            shared: true,
        }
        .page()
    }

    /// Data was written or given back.
    pub(super) fn space_changed(&mut self, nexus: NexusId, bytes: u64, fx: &mut Effects) {
        self.space.changed += bytes;
        if self.space.changed >= UNCHECKED_BYTES {
            self.look_at_space(nexus, fx);
        }
    }

    /// Asks the store how full it is, if there is a threshold.
    pub(super) fn look_at_space(&mut self, nexus: NexusId, fx: &mut Effects) {
        if self.control().threshold.is_none() {
            self.space.reached = false;
        } else if self.capabilities.usage && !self.space.asking {
            self.space.asking = true;
            self.space.changed = 0;
            self.issue_detached(nexus, Purpose::Usage, StoreOp::Usage, fx);
        }
    }

    /// The store has told, or has failed to.
    pub(super) fn space_known(&mut self, usage: Option<StoreUsage>) {
        self.space.asking = false;
        self.space.usage = usage.or(self.space.usage);
        let (Some(usage), Some((count, single))) = (usage, self.control().threshold) else { return };
        let set = self.threshold_set_bytes();
        let reached = usage.used >= u64::from(count).saturating_mul(set);
        if reached && !self.space.reached {
            let code = AdditionalSense::THIN_PROVISIONING_SOFT_THRESHOLD_REACHED;
            if single {
                let first = self.nexuses.keys().min().copied();
                first.into_iter().for_each(|nexus| self.attention(nexus, code));
            } else {
                self.attention_others(None, code);
            }
        }
        self.space.reached = reached;
    }
}

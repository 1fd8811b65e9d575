//! Selective negative or positive acknowledgement (RFC 7143 11.16).

use scsi_core::Lun;

use super::wire::*;
use super::{Bhs, EncodePdu, InitiatorTaskTag, Malformed, Opcode, TargetTransferTag};
use crate::frame::Frame;
use crate::sn::StatSn;

registry! {
    /// What a SNACK asks for (RFC 7143 11.16.1). Four bits.
    pub struct SnackType(u8) {
        /// Data-In or R2T PDUs again.
        DATA_R2T = 0, "Data/R2T";
        /// Status PDUs again.
        STATUS = 1, "status";
        /// Acknowledges Data-In PDUs.
        DATA_ACK = 2, "data ACK";
        /// Data-In PDUs again, cut anew.
        R_DATA = 3, "R-Data";
    }
}

/// SNACK Request, opcode 10h; error recovery level 1 and above (RFC 7143 11.16).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Snack {
    /// What is asked for.
    pub snack_type: SnackType,
    /// The logical unit, for a Data ACK.
    pub lun: Lun,
    /// The task; reserved for status and Data ACK.
    pub initiator_task_tag: InitiatorTaskTag,
    /// For a Data ACK as in the Data-In; for R-Data the SNACK tag; else reserved.
    pub target_transfer_tag: TargetTransferTag,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// BegRun: the first number missing; of a Data ACK, the next one expected.
    pub first_missing: u32,
    /// RunLength: how many are missing; 0 for all from the first on.
    pub run_length: u32,
}

wire_struct! {
    struct Wire {
        opcode: u8,
        snack_type: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        target_transfer_tag: U32<BE>,
        _reserved24: U32<BE>,
        exp_stat_sn: U32<BE>,
        _reserved32: [u8; 8],
        first_missing: U32<BE>,
        run_length: U32<BE>,
    }
}

impl Snack {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = Wire::from(frame.bhs);
        Ok(Self {
            snack_type: SnackType(wire.snack_type & 0x0f),
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            first_missing: wire.first_missing.get(),
            run_length: wire.run_length.get(),
        })
    }
}

impl EncodePdu for Snack {
    fn bhs(&self) -> Bhs {
        Wire {
            opcode: Opcode::SNACK.0,
            snack_type: FINAL | self.snack_type.0,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            first_missing: self.first_missing.into(),
            run_length: self.run_length.into(),
            ..Wire::new_zeroed()
        }
        .into()
    }
}

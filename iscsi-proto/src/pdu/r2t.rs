//! Ready To Transfer (RFC 7143 11.8).

use scsi_core::Lun;

use super::wire::*;
use super::{Bhs, EncodePdu, InitiatorTaskTag, Malformed, Opcode, TargetTransferTag};
use crate::frame::Frame;
use crate::sn::{CmdSn, R2tSn, StatSn};

/// R2T, opcode 31h: the target asks for a part of a write's data (RFC 7143 11.8).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct R2t {
    /// The logical unit.
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The target's name for this transfer; the Data-Outs that answer repeat it. Never reserved.
    pub target_transfer_tag: TargetTransferTag,
    /// The next StatSN; not used up.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// Number of this R2T within the task, from 0.
    pub r2t_sn: R2tSn,
    /// Where the wanted data begins in the command's whole transfer, in bytes.
    pub buffer_offset: u32,
    /// How many bytes are wanted: 1 to MaxBurstLength.
    pub desired_data_transfer_length: u32,
}

wire_struct! {
    struct Wire {
        opcode: u8,
        flags: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        target_transfer_tag: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        r2t_sn: U32<BE>,
        buffer_offset: U32<BE>,
        desired_data_transfer_length: U32<BE>,
    }
}

impl R2t {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = Wire::from(frame.bhs);
        Ok(Self {
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            r2t_sn: R2tSn(wire.r2t_sn.get()),
            buffer_offset: wire.buffer_offset.get(),
            desired_data_transfer_length: wire.desired_data_transfer_length.get(),
        })
    }
}

impl EncodePdu for R2t {
    fn bhs(&self) -> Bhs {
        Wire {
            opcode: Opcode::R2T.0,
            flags: FINAL,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            r2t_sn: self.r2t_sn.0.into(),
            buffer_offset: self.buffer_offset.into(),
            desired_data_transfer_length: self.desired_data_transfer_length.into(),
            ..Wire::new_zeroed()
        }
        .into()
    }
}

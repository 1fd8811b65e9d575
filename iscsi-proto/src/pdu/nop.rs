//! NOP-Out and NOP-In: pings in both directions (RFC 7143 11.18, 11.19).

use scsi_core::Lun;

use super::wire::*;
use super::{Bhs, DataSegment, EncodePdu, InitiatorTaskTag, Malformed, Opcode, TargetTransferTag};
use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

/// NOP-Out, opcode 00h: a ping to the target, the answer to one of its pings, or a mere ExpStatSN (RFC 7143 11.18).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NopOut {
    /// I bit: outside the command numbering; always set when no answer is wanted.
    pub immediate: bool,
    /// As in the NOP-In answered; else of no use.
    pub lun: Lun,
    /// Names the ping; reserved when no answer is wanted.
    pub initiator_task_tag: InitiatorTaskTag,
    /// As in the NOP-In answered; else reserved.
    pub target_transfer_tag: TargetTransferTag,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// Ping data, to be sent back.
    pub data: DataSegment,
}

wire_struct! {
    struct OutWire {
        opcode: u8,
        flags: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        target_transfer_tag: U32<BE>,
        cmd_sn: U32<BE>,
        exp_stat_sn: U32<BE>,
        _reserved32: [u8; 16],
    }
}

impl NopOut {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = OutWire::from(frame.bhs);
        Ok(Self {
            immediate: frame.bhs.is_immediate(),
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            data: frame.data,
        })
    }
}

impl EncodePdu for NopOut {
    fn bhs(&self) -> Bhs {
        OutWire {
            opcode: opcode_byte(Opcode::NOP_OUT, self.immediate),
            flags: FINAL,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ..OutWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

/// NOP-In, opcode 20h: the answer to a ping, a ping of the target, or mere numbers (RFC 7143 11.19).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct NopIn {
    /// The logical unit, for a ping of the target; else of no use.
    pub lun: Lun,
    /// As in the ping answered; else reserved.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The target's name for its ping; reserved when no answer is wanted.
    pub target_transfer_tag: TargetTransferTag,
    /// Status sequence number; used up only when this answers a ping.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// The ping data sent back.
    pub data: DataSegment,
}

wire_struct! {
    struct InWire {
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
        _reserved36: [u8; 12],
    }
}

impl NopIn {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = InWire::from(frame.bhs);
        Ok(Self {
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            data: frame.data,
        })
    }
}

impl EncodePdu for NopIn {
    fn bhs(&self) -> Bhs {
        InWire {
            opcode: Opcode::NOP_IN.0,
            flags: FINAL,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            ..InWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

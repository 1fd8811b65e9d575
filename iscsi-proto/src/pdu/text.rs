//! Text Request and Text Response (RFC 7143 11.10, 11.11).

use scsi_core::Lun;

use super::wire::*;
use super::{Bhs, DataSegment, EncodePdu, InitiatorTaskTag, Malformed, Opcode, TargetTransferTag};
use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

const CONTINUE: u8 = 0x40;

const fn flags(is_final: bool, is_continued: bool) -> u8 {
    (if is_final { FINAL } else { 0 }) | if is_continued { CONTINUE } else { 0 }
}

/// Text Request, opcode 04h (RFC 7143 11.10).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TextRequest {
    /// I bit: outside the command numbering.
    pub immediate: bool,
    /// F bit: the initiator has nothing more to say in this negotiation.
    pub is_final: bool,
    /// C bit: the text goes on in the next PDU. Never together with `is_final`.
    pub is_continued: bool,
    /// As in the Text Response this continues; else zero.
    pub lun: Lun,
    /// Names the negotiation; the same in all its requests.
    pub initiator_task_tag: InitiatorTaskTag,
    /// As in the Text Response this continues; reserved at the beginning.
    pub target_transfer_tag: TargetTransferTag,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// key=value pairs.
    pub data: DataSegment,
}

wire_struct! {
    struct RequestWire {
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

impl TextRequest {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = RequestWire::from(frame.bhs);
        Ok(Self {
            immediate: frame.bhs.is_immediate(),
            is_final: frame.bhs.is_final(),
            is_continued: wire.flags & CONTINUE != 0,
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            data: frame.data,
        })
    }
}

impl EncodePdu for TextRequest {
    fn bhs(&self) -> Bhs {
        RequestWire {
            opcode: opcode_byte(Opcode::TEXT_REQUEST, self.immediate),
            flags: flags(self.is_final, self.is_continued),
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ..RequestWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

/// Text Response, opcode 24h (RFC 7143 11.11).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TextResponse {
    /// F bit: the negotiation ends here.
    pub is_final: bool,
    /// C bit: the text goes on in the next PDU. Never together with `is_final`.
    pub is_continued: bool,
    /// For the next request to repeat; zero at the end.
    pub lun: Lun,
    /// As in the request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// For the next request to repeat; reserved at the end.
    pub target_transfer_tag: TargetTransferTag,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// key=value pairs.
    pub data: DataSegment,
}

wire_struct! {
    struct ResponseWire {
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

impl TextResponse {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = ResponseWire::from(frame.bhs);
        Ok(Self {
            is_final: frame.bhs.is_final(),
            is_continued: wire.flags & CONTINUE != 0,
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

impl EncodePdu for TextResponse {
    fn bhs(&self) -> Bhs {
        ResponseWire {
            opcode: Opcode::TEXT_RESPONSE.0,
            flags: flags(self.is_final, self.is_continued),
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            ..ResponseWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

//! Data-Out and Data-In (RFC 7143 11.7).

use bitflags::bitflags;
use scsi_core::{Lun, Status};

use super::wire::*;
use super::{Bhs, DataSegment, EncodePdu, InitiatorTaskTag, Malformed, Opcode, Residual, TargetTransferTag};
use crate::frame::Frame;
use crate::sn::{CmdSn, DataSn, StatSn};

/// Data-Out, opcode 05h: data of a write, asked for by an R2T or unsolicited (RFC 7143 11.7).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DataOut {
    /// F bit: the last PDU of its sequence, which is the answer to one R2T or all unsolicited data.
    pub is_final: bool,
    /// The logical unit; of use only when the target transfer tag is valid.
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Names the R2T answered; reserved for unsolicited data.
    pub target_transfer_tag: TargetTransferTag,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// Number of this PDU within its sequence, from 0.
    pub data_sn: DataSn,
    /// Where the data belongs in the command's whole transfer, in bytes.
    pub buffer_offset: u32,
    /// The data.
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
        _reserved24: U32<BE>,
        exp_stat_sn: U32<BE>,
        _reserved32: U32<BE>,
        data_sn: U32<BE>,
        buffer_offset: U32<BE>,
        _reserved44: U32<BE>,
    }
}

impl DataOut {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = OutWire::from(frame.bhs);
        Ok(Self {
            is_final: frame.bhs.is_final(),
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            data_sn: DataSn(wire.data_sn.get()),
            buffer_offset: wire.buffer_offset.get(),
            data: frame.data,
        })
    }
}

impl EncodePdu for DataOut {
    fn bhs(&self) -> Bhs {
        OutWire {
            opcode: Opcode::DATA_OUT.0,
            flags: if self.is_final { FINAL } else { 0 },
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            data_sn: self.data_sn.0.into(),
            buffer_offset: self.buffer_offset.into(),
            ..OutWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

bitflags! {
    /// The flags of a Data-In that are not implied by its other fields (RFC 7143 11.7.1, 11.7.2).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct DataInFlags: u8 {
        /// F bit: the last PDU of a sequence.
        const FINAL = 0x80;
        /// A bit: the target asks for a Data ACK SNACK (error recovery level 1 and above).
        const ACKNOWLEDGE = 0x40;
    }
}

/// Data-In, opcode 25h: data of a read, the last one perhaps with the command's status (RFC 7143 11.7).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct DataIn {
    /// F and A.
    pub flags: DataInFlags,
    /// S bit and Status: the command ends here with this status and no SCSI Response follows.
    pub status: Option<Status>,
    /// The logical unit; of use only when the target transfer tag is valid.
    pub lun: Lun,
    /// The task.
    pub initiator_task_tag: InitiatorTaskTag,
    /// For the Data ACK, when one is asked for; else reserved.
    pub target_transfer_tag: TargetTransferTag,
    /// Status sequence number; of use only with a status.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// Number of this PDU within the task, from 0.
    pub data_sn: DataSn,
    /// Where the data belongs in the command's whole transfer, in bytes.
    pub buffer_offset: u32,
    /// Residual; of use only with a status.
    pub residual: Residual,
    /// The data.
    pub data: DataSegment,
}

wire_struct! {
    struct InWire {
        opcode: u8,
        flags: u8,
        _reserved: u8,
        status: u8,
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        target_transfer_tag: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        data_sn: U32<BE>,
        buffer_offset: U32<BE>,
        residual: U32<BE>,
    }
}

const OVERFLOW: u8 = 0x04;
const UNDERFLOW: u8 = 0x02;
const STATUS: u8 = 0x01;

impl DataIn {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = InWire::from(frame.bhs);
        let flag = |bit: u8| wire.flags & bit != 0;
        Ok(Self {
            flags: DataInFlags::from_bits_truncate(wire.flags),
            status: flag(STATUS).then_some(Status(wire.status)),
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            target_transfer_tag: TargetTransferTag(wire.target_transfer_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            data_sn: DataSn(wire.data_sn.get()),
            buffer_offset: wire.buffer_offset.get(),
            residual: Residual::from_wire(flag(OVERFLOW), flag(UNDERFLOW), wire.residual.get())?,
            data: frame.data,
        })
    }
}

impl EncodePdu for DataIn {
    fn bhs(&self) -> Bhs {
        InWire {
            opcode: Opcode::DATA_IN.0,
            flags: self.flags.bits() | self.residual.bits(OVERFLOW) | if self.status.is_some() { STATUS } else { 0 },
            status: self.status.map_or(0, |status| status.0),
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            target_transfer_tag: self.target_transfer_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            data_sn: self.data_sn.0.into(),
            buffer_offset: self.buffer_offset.into(),
            residual: self.residual.count().into(),
            ..InWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

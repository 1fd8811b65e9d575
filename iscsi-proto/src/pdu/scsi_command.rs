//! SCSI Command and SCSI Response (RFC 7143 11.3, 11.4).

use core::fmt;

use bitflags::bitflags;
use bytes::{BufMut, Bytes, BytesMut};
use scsi_core::{Lun, Status, TaskAttribute};
use smallvec::SmallVec;

use super::wire::*;
use super::{Ahs, AhsType, Bhs, DataSegment, EncodePdu, InitiatorTaskTag, Malformed, Opcode, SnackTag, ahs};
use crate::frame::Frame;
use crate::sn::{CmdSn, DataSn, StatSn};

/// Bytes of a CDB that fit in the header.
const HEADER_CDB_LEN: usize = 16;

bitflags! {
    /// The flags of a SCSI Command (RFC 7143 11.3.1).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct ScsiCommandFlags: u8 {
        /// F bit: no unsolicited Data-Out follows this PDU.
        const FINAL = 0x80;
        /// R bit: the command is expected to send data to the initiator.
        const READ = 0x40;
        /// W bit: the command is expected to take data from the initiator.
        const WRITE = 0x20;
    }
}

/// A command descriptor block, opaque to this crate: 16 bytes as padded by the initiator, or more when the PDU came
/// with an extended CDB.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct CdbBytes(SmallVec<[u8; HEADER_CDB_LEN]>);

impl CdbBytes {
    /// Longest CDB that can be carried: what an Additional Header Segment list of 1020 bytes holds beyond 16.
    pub const MAX_LEN: usize = HEADER_CDB_LEN + ahs::MAX_AHS_LEN - 4;

    /// Takes a CDB of any length up to [`CdbBytes::MAX_LEN`]; one shorter than 16 bytes is padded with zeros.
    ///
    /// Returns `None` for a longer one.
    pub fn new(cdb: &[u8]) -> Option<Self> {
        if cdb.len() > Self::MAX_LEN {
            return None;
        }
        let mut bytes = SmallVec::from_slice(cdb);
        if bytes.len() < HEADER_CDB_LEN {
            bytes.resize(HEADER_CDB_LEN, 0);
        }
        Some(Self(bytes))
    }

    /// The bytes, never fewer than 16.
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }

    fn header_part(&self) -> [u8; HEADER_CDB_LEN] {
        self.0.first_chunk().copied().unwrap_or_default()
    }

    fn extension(&self) -> &[u8] {
        self.0.get(HEADER_CDB_LEN..).unwrap_or_default()
    }
}

impl Default for CdbBytes {
    fn default() -> Self {
        Self(SmallVec::from_buf([0; HEADER_CDB_LEN]))
    }
}

impl From<[u8; 16]> for CdbBytes {
    fn from(cdb: [u8; HEADER_CDB_LEN]) -> Self {
        Self(SmallVec::from_buf(cdb))
    }
}

impl AsRef<[u8]> for CdbBytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for CdbBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CdbBytes(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// SCSI Command, opcode 01h: carries a CDB to the target, perhaps with immediate data (RFC 7143 11.3).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ScsiCommand {
    /// I bit: outside the command numbering; `cmd_sn` is not used up.
    pub immediate: bool,
    /// F, R and W.
    pub flags: ScsiCommandFlags,
    /// ATTR field.
    pub attribute: TaskAttribute,
    /// PRI field: command priority, 0 (none) to 15 (RFC 7144 3.1).
    pub priority: u8,
    /// The logical unit addressed.
    pub lun: Lun,
    /// Names the task.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Bytes the initiator expects to transfer: of a write, else of a read; of a bidirectional command, the write
    /// part.
    pub expected_data_transfer_length: u32,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// The CDB, with its extension if one came.
    pub cdb: CdbBytes,
    /// Bytes the read part of a bidirectional command is expected to transfer.
    pub bidirectional_read_length: Option<u32>,
    /// Additional Header Segments of other types, as they came.
    pub other_ahs: Vec<Ahs>,
    /// Immediate data.
    pub data: DataSegment,
}

wire_struct! {
    struct CommandWire {
        opcode: u8,
        flags: u8,
        priority: u8,
        _reserved: u8,
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        expected_data_transfer_length: U32<BE>,
        cmd_sn: U32<BE>,
        exp_stat_sn: U32<BE>,
        cdb: [u8; 16],
    }
}

impl ScsiCommand {
    #[inline]
    pub(crate) fn decode(frame: Frame) -> Result<Self, Malformed> {
        let wire = CommandWire::from(frame.bhs);
        let mut command = Self {
            immediate: frame.bhs.is_immediate(),
            flags: ScsiCommandFlags::from_bits_truncate(wire.flags),
            attribute: attribute_from_bits(wire.flags & 7)?,
            priority: wire.priority >> 4,
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            expected_data_transfer_length: wire.expected_data_transfer_length.get(),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            cdb: wire.cdb.into(),
            bidirectional_read_length: None,
            other_ahs: Vec::new(),
            data: frame.data,
        };
        if !frame.ahs.is_empty() {
            command.take_ahs(frame.ahs)?;
        }
        Ok(command)
    }

    fn take_ahs(&mut self, list: Bytes) -> Result<(), Malformed> {
        for ahs in ahs::parse(list)? {
            match (ahs.ahs_type, &*ahs.bytes) {
                (AhsType::EXTENDED_CDB, [_reserved, extension @ ..])
                    if !extension.is_empty() && self.cdb.extension().is_empty() =>
                {
                    self.cdb.0.extend_from_slice(extension);
                }
                (AhsType::BIDIRECTIONAL_READ_LENGTH, &[_reserved, a, b, c, d])
                    if self.bidirectional_read_length.is_none() =>
                {
                    self.bidirectional_read_length = Some(u32::from_be_bytes([a, b, c, d]));
                }
                (AhsType::EXTENDED_CDB | AhsType::BIDIRECTIONAL_READ_LENGTH, _) => {
                    return Err(Malformed::Field { offset: 48, what: "a well-formed and single AHS of its type" });
                }
                _ => self.other_ahs.push(ahs),
            }
        }
        Ok(())
    }
}

impl EncodePdu for ScsiCommand {
    fn bhs(&self) -> Bhs {
        CommandWire {
            opcode: opcode_byte(Opcode::SCSI_COMMAND, self.immediate),
            flags: self.flags.bits() | attribute_bits(self.attribute),
            priority: self.priority << 4,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            expected_data_transfer_length: self.expected_data_transfer_length.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            cdb: self.cdb.header_part(),
            ..CommandWire::new_zeroed()
        }
        .into()
    }

    fn put_ahs(&self, out: &mut BytesMut) {
        let extension = self.cdb.extension();
        if !extension.is_empty() {
            ahs::put(AhsType::EXTENDED_CDB, &[&[0], extension], out);
        }
        if let Some(length) = self.bidirectional_read_length {
            ahs::put(AhsType::BIDIRECTIONAL_READ_LENGTH, &[&[0], &length.to_be_bytes()], out);
        }
        self.other_ahs.iter().for_each(|ahs| ahs.put(out));
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

/// The ATTR field (RFC 7143 11.3.1); 5 to 7 are reserved.
fn attribute_from_bits(bits: u8) -> Result<TaskAttribute, Malformed> {
    Ok(match bits {
        0 => TaskAttribute::Untagged,
        1 => TaskAttribute::Simple,
        2 => TaskAttribute::Ordered,
        3 => TaskAttribute::HeadOfQueue,
        4 => TaskAttribute::Aca,
        _ => return Err(Malformed::Field { offset: 1, what: "a task attribute from 0 to 4" }),
    })
}

const fn attribute_bits(attribute: TaskAttribute) -> u8 {
    match attribute {
        TaskAttribute::Untagged => 0,
        TaskAttribute::Simple => 1,
        TaskAttribute::Ordered => 2,
        TaskAttribute::HeadOfQueue => 3,
        TaskAttribute::Aca => 4,
    }
}

registry! {
    /// The Response field of a SCSI Response (RFC 7143 11.4.3); 80h to FFh are the vendor's.
    pub struct ScsiResponseCode(u8) {
        /// The SCSI status is valid.
        COMPLETED = 0x00, "command completed at target";
        /// The target failed; there is no SCSI status.
        TARGET_FAILURE = 0x01, "target failure";
    }
}

/// How far the transfer differed from what the initiator expected (RFC 7143 11.4.5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Residual {
    /// It did not.
    #[default]
    None,
    /// U bit: so many bytes were expected and not transferred.
    Underflow(u32),
    /// O bit: so many bytes were not transferred because the expected length left no room.
    Overflow(u32),
}

impl Residual {
    /// The residual of a command that had `available` bytes to transfer where `expected` were expected.
    pub const fn of(expected: u32, available: u64) -> Self {
        let wide = expected as u64;
        if available < wide {
            Self::Underflow((wide - available) as u32)
        } else if available > wide {
            let over = available - wide;
            Self::Overflow(if over > u32::MAX as u64 { u32::MAX } else { over as u32 })
        } else {
            Self::None
        }
    }

    /// The Residual Count field.
    pub const fn count(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Underflow(count) | Self::Overflow(count) => count,
        }
    }

    pub(super) const fn from_wire(overflow: bool, underflow: bool, count: u32) -> Result<Self, Malformed> {
        match (overflow, underflow) {
            (false, false) => Ok(Self::None),
            (false, true) => Ok(Self::Underflow(count)),
            (true, false) => Ok(Self::Overflow(count)),
            (true, true) => Err(Malformed::Field { offset: 1, what: "overflow or underflow, not both" }),
        }
    }

    /// The flag bit, given the overflow bit; the underflow bit is half of it in both places.
    pub(super) const fn bits(self, overflow: u8) -> u8 {
        match self {
            Self::None => 0,
            Self::Underflow(_) => overflow >> 1,
            Self::Overflow(_) => overflow,
        }
    }
}

/// SCSI Response, opcode 21h: ends a command with its status and perhaps sense data (RFC 7143 11.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScsiResponse {
    /// Whether the status counts.
    pub response: ScsiResponseCode,
    /// SCSI status; of use only with [`ScsiResponseCode::COMPLETED`].
    pub status: Status,
    /// The task that ends.
    pub initiator_task_tag: InitiatorTaskTag,
    /// For a later R-Data SNACK, else 0.
    pub snack_tag: SnackTag,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// Number of Data-In and R2T PDUs sent for the task; 0 without any.
    pub exp_data_sn: DataSn,
    /// Residual of the read part of a bidirectional command (bits o, u).
    pub bidirectional_read_residual: Residual,
    /// Residual of the write, or else of the read (bits O, U).
    pub residual: Residual,
    /// Two bytes of SenseLength, sense data, response data; empty when there is neither. See
    /// [`ScsiResponse::with_sense`] and [`ScsiResponse::sense`].
    pub data: DataSegment,
}

wire_struct! {
    struct ResponseWire {
        opcode: u8,
        flags: u8,
        response: u8,
        status: u8,
        lengths: [u8; 4],
        _reserved: [u8; 8],
        initiator_task_tag: U32<BE>,
        snack_tag: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        exp_data_sn: U32<BE>,
        bidirectional_read_residual: U32<BE>,
        residual: U32<BE>,
    }
}

const BIDIRECTIONAL_OVERFLOW: u8 = 0x10;
const OVERFLOW: u8 = 0x04;

impl Default for ScsiResponse {
    fn default() -> Self {
        Self {
            response: ScsiResponseCode::COMPLETED,
            status: Status::GOOD,
            initiator_task_tag: InitiatorTaskTag::RESERVED,
            snack_tag: SnackTag::default(),
            stat_sn: StatSn::default(),
            exp_cmd_sn: CmdSn::default(),
            max_cmd_sn: CmdSn::default(),
            exp_data_sn: DataSn::default(),
            bidirectional_read_residual: Residual::None,
            residual: Residual::None,
            data: DataSegment::new(),
        }
    }
}

impl ScsiResponse {
    /// The same response with `sense` in its data segment. Sense beyond 65,535 bytes is cut; SPC allows 252.
    #[must_use]
    pub fn with_sense(mut self, sense: &[u8]) -> Self {
        self.data = put_sense(sense);
        self
    }

    /// The sense data; empty when there is none or its length points past the segment's end.
    pub fn sense(&self) -> Bytes {
        split_sense(&self.data).map(|(sense, _)| sense).unwrap_or_default()
    }

    /// What follows the sense data.
    pub fn response_data(&self) -> Bytes {
        split_sense(&self.data).map(|(_, rest)| rest).unwrap_or_default()
    }

    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = ResponseWire::from(frame.bhs);
        let flag = |bit: u8| wire.flags & bit != 0;
        split_sense(&frame.data)?;
        Ok(Self {
            response: ScsiResponseCode(wire.response),
            status: Status(wire.status),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            snack_tag: SnackTag(wire.snack_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            exp_data_sn: DataSn(wire.exp_data_sn.get()),
            bidirectional_read_residual: Residual::from_wire(
                flag(BIDIRECTIONAL_OVERFLOW),
                flag(BIDIRECTIONAL_OVERFLOW >> 1),
                wire.bidirectional_read_residual.get(),
            )?,
            residual: Residual::from_wire(flag(OVERFLOW), flag(OVERFLOW >> 1), wire.residual.get())?,
            data: frame.data,
        })
    }
}

impl EncodePdu for ScsiResponse {
    fn bhs(&self) -> Bhs {
        ResponseWire {
            opcode: Opcode::SCSI_RESPONSE.0,
            flags: FINAL | self.bidirectional_read_residual.bits(BIDIRECTIONAL_OVERFLOW) | self.residual.bits(OVERFLOW),
            response: self.response.0,
            status: self.status.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            snack_tag: self.snack_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            exp_data_sn: self.exp_data_sn.0.into(),
            bidirectional_read_residual: self.bidirectional_read_residual.count().into(),
            residual: self.residual.count().into(),
            ..ResponseWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

/// SenseLength and sense as a data segment.
pub(super) fn put_sense(sense: &[u8]) -> DataSegment {
    let length = u16::try_from(sense.len()).unwrap_or(u16::MAX);
    let mut bytes = BytesMut::with_capacity(2 + usize::from(length));
    bytes.put_u16(length);
    bytes.put_slice(&sense[..usize::from(length)]);
    bytes.freeze().into()
}

/// The sense data of a segment and what follows it.
pub(super) fn split_sense(data: &DataSegment) -> Result<(Bytes, Bytes), Malformed> {
    if data.is_empty() {
        return Ok(Default::default());
    }
    let mut bytes = data.to_contiguous();
    let Some(&head) = bytes.first_chunk::<2>() else {
        return Err(Malformed::DataTooShort { left: bytes.len(), wanted: 2 });
    };
    let end = 2 + usize::from(u16::from_be_bytes(head));
    if end > bytes.len() {
        return Err(Malformed::DataTooShort { left: bytes.len(), wanted: end });
    }
    let rest = bytes.split_off(end);
    Ok((bytes.split_off(2), rest))
}

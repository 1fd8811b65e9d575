//! Sense data: what happened to a command, in both formats.

use core::fmt;

pub use crate::asc::AdditionalSense;
use crate::bytes_util::{be32, be64};

/// The SENSE KEY field, four bits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct SenseKey(pub u8);

impl SenseKey {
    /// Nothing to report.
    pub const NO_SENSE: Self = Self(0x0);
    /// Completed with a recovery action.
    pub const RECOVERED_ERROR: Self = Self(0x1);
    /// The logical unit cannot be accessed.
    pub const NOT_READY: Self = Self(0x2);
    /// A flaw of the medium or of the data.
    pub const MEDIUM_ERROR: Self = Self(0x3);
    /// A failure that cannot be recovered.
    pub const HARDWARE_ERROR: Self = Self(0x4);
    /// The CDB or the parameter data is wrong.
    pub const ILLEGAL_REQUEST: Self = Self(0x5);
    /// Something happened that the initiator has to know.
    pub const UNIT_ATTENTION: Self = Self(0x6);
    /// Protected from the operation.
    pub const DATA_PROTECT: Self = Self(0x7);
    /// Blank medium.
    pub const BLANK_CHECK: Self = Self(0x8);
    /// Vendor specific.
    pub const VENDOR_SPECIFIC: Self = Self(0x9);
    /// EXTENDED COPY was aborted.
    pub const COPY_ABORTED: Self = Self(0xa);
    /// The device server aborted the command; trying again may help.
    pub const ABORTED_COMMAND: Self = Self(0xb);
    /// A partition's end was reached.
    pub const VOLUME_OVERFLOW: Self = Self(0xd);
    /// The data compared is not equal.
    pub const MISCOMPARE: Self = Self(0xe);
    /// Completed as asked (progress, power conditions).
    pub const COMPLETED: Self = Self(0xf);

    /// The standard's name of the key, if it has one.
    pub const fn name(self) -> Option<&'static str> {
        Some(match self.0 {
            0x0 => "NO SENSE",
            0x1 => "RECOVERED ERROR",
            0x2 => "NOT READY",
            0x3 => "MEDIUM ERROR",
            0x4 => "HARDWARE ERROR",
            0x5 => "ILLEGAL REQUEST",
            0x6 => "UNIT ATTENTION",
            0x7 => "DATA PROTECT",
            0x8 => "BLANK CHECK",
            0x9 => "VENDOR SPECIFIC",
            0xa => "COPY ABORTED",
            0xb => "ABORTED COMMAND",
            0xd => "VOLUME OVERFLOW",
            0xe => "MISCOMPARE",
            0xf => "COMPLETED",
            _ => return None,
        })
    }
}

impl fmt::Display for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "sense key {:#x}", self.0),
        }
    }
}

impl fmt::Debug for SenseKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Where an ILLEGAL REQUEST was found (SPC-5, Field pointer sense key specific data).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FieldPointer {
    /// In the CDB (C/D bit), else in the data-out parameter list.
    pub in_cdb: bool,
    /// Offset of the byte in error; for a field of several bytes its first.
    pub byte: u16,
    /// The most significant bit of the field in error, 7 the highest; `None` leaves BPV clear.
    pub bit: Option<u8>,
}

/// Sense-key-specific data (three bytes).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SenseSpecific {
    /// ILLEGAL REQUEST: where.
    FieldPointer(FieldPointer),
    /// NO SENSE, NOT READY: progress of an operation, in 1/65536.
    Progress(u16),
    /// HARDWARE, MEDIUM, RECOVERED ERROR: how often it was tried.
    ActualRetryCount(u16),
    /// COPY ABORTED: the descriptor and byte in error.
    SegmentPointer {
        /// The pointer counts from the beginning of the segment descriptor (SD bit), else of the parameter list.
        in_segment: bool,
        /// Offset of the byte in error.
        byte: u16,
        /// The bit in error.
        bit: Option<u8>,
    },
    /// UNIT ATTENTION: whether the queue of unit attentions overflowed.
    UnitAttentionOverflow(bool),
}

/// Which of the two encodings to use: D_SENSE of the control mode page, DESC of REQUEST SENSE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SenseFormat {
    /// Response codes 70h and 71h.
    #[default]
    Fixed,
    /// Response codes 72h and 73h.
    Descriptor,
}

impl SenseFormat {
    /// The format that a D_SENSE or DESC bit chooses.
    pub const fn from_descriptor_bit(descriptor: bool) -> Self {
        if descriptor { Self::Descriptor } else { Self::Fixed }
    }
}

/// Sense data as a value (SPC-5, Sense data).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct SenseData {
    /// SENSE KEY.
    pub key: SenseKey,
    /// ADDITIONAL SENSE CODE and QUALIFIER.
    pub code: AdditionalSense,
    /// About an earlier command that had already been answered.
    pub deferred: bool,
    /// INFORMATION: for block commands the LBA, for MISCOMPARE the byte offset. Fixed format can only carry 32 bits
    /// and leaves VALID clear for more.
    pub information: Option<u64>,
    /// COMMAND-SPECIFIC INFORMATION. Fixed format can only carry 32 bits.
    pub command_specific: Option<u64>,
    /// Sense-key-specific data.
    pub specific: Option<SenseSpecific>,
    /// ILI: the length asked for does not match the block.
    pub incorrect_length: bool,
    /// FIELD REPLACEABLE UNIT CODE, zero when none.
    pub field_replaceable_unit: u8,
}

impl SenseData {
    /// The longest encoding this type gives.
    pub const MAX_ENCODED_LENGTH: usize = 8 + 12 + 12 + 8 + 4 + 4;

    /// Sense data of nothing but a key and a code.
    pub const fn new(key: SenseKey, code: AdditionalSense) -> Self {
        Self {
            key,
            code,
            deferred: false,
            information: None,
            command_specific: None,
            specific: None,
            incorrect_length: false,
            field_replaceable_unit: 0,
        }
    }

    /// NO SENSE, 00/00: what REQUEST SENSE answers when there is nothing to say.
    pub const fn no_sense() -> Self {
        Self::new(SenseKey::NO_SENSE, AdditionalSense::NO_ADDITIONAL_SENSE)
    }

    /// ILLEGAL REQUEST with `code`.
    pub const fn illegal_request(code: AdditionalSense) -> Self {
        Self::new(SenseKey::ILLEGAL_REQUEST, code)
    }

    /// UNIT ATTENTION with `code`.
    pub const fn unit_attention(code: AdditionalSense) -> Self {
        Self::new(SenseKey::UNIT_ATTENTION, code)
    }

    /// NOT READY with `code`.
    pub const fn not_ready(code: AdditionalSense) -> Self {
        Self::new(SenseKey::NOT_READY, code)
    }

    /// ABORTED COMMAND with `code`.
    pub const fn aborted(code: AdditionalSense) -> Self {
        Self::new(SenseKey::ABORTED_COMMAND, code)
    }

    /// 05/20/00: the operation code is not supported.
    pub const fn invalid_opcode() -> Self {
        Self::illegal_request(AdditionalSense::INVALID_COMMAND_OPERATION_CODE).with_field(true, 0, Some(7))
    }

    /// 05/24/00: the field of the CDB that begins at `byte`, its most significant bit `bit`.
    pub const fn invalid_field_in_cdb(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_request(AdditionalSense::INVALID_FIELD_IN_CDB).with_field(true, byte, bit)
    }

    /// 05/26/00: the field of the parameter list that begins at `byte`, its most significant bit `bit`.
    pub const fn invalid_field_in_parameter_list(byte: u16, bit: Option<u8>) -> Self {
        Self::illegal_request(AdditionalSense::INVALID_FIELD_IN_PARAMETER_LIST).with_field(false, byte, bit)
    }

    /// 05/1A/00: the parameter list ends inside a field that is needed.
    pub const fn parameter_list_length_error() -> Self {
        Self::illegal_request(AdditionalSense::PARAMETER_LIST_LENGTH_ERROR)
    }

    /// 05/21/00: `lba` is the first logical block that does not exist.
    pub const fn lba_out_of_range(lba: u64) -> Self {
        Self::illegal_request(AdditionalSense::LOGICAL_BLOCK_ADDRESS_OUT_OF_RANGE).with_information(lba)
    }

    /// 0E/1D/00: the first byte that differs, counted from the beginning of what was compared.
    pub const fn miscompare(offset: u64) -> Self {
        Self::new(SenseKey::MISCOMPARE, AdditionalSense::MISCOMPARE_DURING_VERIFY_OPERATION).with_information(offset)
    }

    /// The same with INFORMATION.
    pub const fn with_information(mut self, information: u64) -> Self {
        self.information = Some(information);
        self
    }

    /// The same with COMMAND-SPECIFIC INFORMATION.
    pub const fn with_command_specific(mut self, information: u64) -> Self {
        self.command_specific = Some(information);
        self
    }

    /// The same with a progress indication, in 1/65536 of the whole.
    pub const fn with_progress(mut self, progress: u16) -> Self {
        self.specific = Some(SenseSpecific::Progress(progress));
        self
    }

    /// The same with a field pointer.
    pub const fn with_field(mut self, in_cdb: bool, byte: u16, bit: Option<u8>) -> Self {
        self.specific = Some(SenseSpecific::FieldPointer(FieldPointer { in_cdb, byte, bit }));
        self
    }

    /// The same about an earlier command.
    pub const fn into_deferred(mut self) -> Self {
        self.deferred = true;
        self
    }

    /// The field pointer, if there is one.
    pub const fn field_pointer(&self) -> Option<FieldPointer> {
        match self.specific {
            Some(SenseSpecific::FieldPointer(pointer)) => Some(pointer),
            _ => None,
        }
    }

    /// Whether this is `key` with `code`, whatever else it says.
    pub fn is(&self, key: SenseKey, code: AdditionalSense) -> bool {
        self.key == key && self.code == code
    }

    /// The bytes in `format`: 18 when fixed, 8 and the descriptors needed otherwise.
    pub fn encode(&self, format: SenseFormat) -> Vec<u8> {
        match format {
            SenseFormat::Fixed => self.encode_fixed(),
            SenseFormat::Descriptor => self.encode_descriptors(),
        }
    }

    fn encode_fixed(&self) -> Vec<u8> {
        let mut out = vec![0; 18];
        out[0] = 0x70 | u8::from(self.deferred);
        out[2] = self.key.0 & 0x0f | u8::from(self.incorrect_length) << 5;
        if let Some(information) = self.information.and_then(|value| u32::try_from(value).ok()) {
            out[0] |= 0x80;
            out[3..7].copy_from_slice(&information.to_be_bytes());
        }
        out[7] = 10;
        if let Some(information) = self.command_specific.and_then(|value| u32::try_from(value).ok()) {
            out[8..12].copy_from_slice(&information.to_be_bytes());
        }
        out[12] = self.code.asc;
        out[13] = self.code.ascq;
        out[14] = self.field_replaceable_unit;
        if let Some(specific) = self.specific {
            out[15..18].copy_from_slice(&specific.encode());
        }
        out
    }

    fn encode_descriptors(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::MAX_ENCODED_LENGTH);
        out.extend_from_slice(&[0x72 | u8::from(self.deferred), self.key.0 & 0x0f, self.code.asc, self.code.ascq]);
        out.extend_from_slice(&[0; 4]);
        if let Some(information) = self.information {
            out.extend_from_slice(&[0x00, 0x0a, 0x80, 0]);
            out.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(information) = self.command_specific {
            out.extend_from_slice(&[0x01, 0x0a, 0, 0]);
            out.extend_from_slice(&information.to_be_bytes());
        }
        if let Some(specific) = self.specific {
            let [a, b, c] = specific.encode();
            out.extend_from_slice(&[0x02, 0x06, 0, 0, a, b, c, 0]);
        }
        if self.field_replaceable_unit != 0 {
            out.extend_from_slice(&[0x03, 0x02, 0, self.field_replaceable_unit]);
        }
        if self.incorrect_length {
            out.extend_from_slice(&[0x05, 0x02, 0, 0x20]);
        }
        out[7] = (out.len() - 8) as u8;
        out
    }

    /// Reads sense data of either format; `None` when it is neither or too short to hold a key.
    ///
    /// Sense data may be cut anywhere (allocation lengths): what is missing is as if absent.
    pub fn decode(data: &[u8]) -> Option<Self> {
        match data.first()? & 0x7f {
            0x70 | 0x71 => Self::decode_fixed(data),
            0x72 | 0x73 => Self::decode_descriptors(data),
            _ => None,
        }
    }

    fn decode_fixed(data: &[u8]) -> Option<Self> {
        let key = SenseKey(data.get(2)? & 0x0f);
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        let mut sense = Self::new(key, AdditionalSense::new(byte(12), byte(13)));
        sense.deferred = data[0] & 1 != 0;
        sense.incorrect_length = data[2] & 0x20 != 0;
        if data[0] & 0x80 != 0 {
            sense.information = be32(data, 3).map(u64::from);
        }
        sense.command_specific = be32(data, 8).filter(|&value| value != 0).map(u64::from);
        sense.field_replaceable_unit = byte(14);
        sense.specific = data.get(15..18).and_then(|bytes| SenseSpecific::decode(key, *bytes.first_chunk()?));
        Some(sense)
    }

    fn decode_descriptors(data: &[u8]) -> Option<Self> {
        let &[first, key, asc, ascq, ..] = data else { return None };
        let key = SenseKey(key & 0x0f);
        let mut sense = Self::new(key, AdditionalSense::new(asc, ascq));
        sense.deferred = first & 1 != 0;
        let mut rest = data.get(8..).unwrap_or(&[]);
        while let [kind, length, ..] = *rest {
            let Some(descriptor) = rest.get(..2 + usize::from(length)) else { break };
            match kind {
                0x00 if descriptor.get(2).is_some_and(|flags| flags & 0x80 != 0) => {
                    sense.information = be64(descriptor, 4);
                }
                0x01 => sense.command_specific = be64(descriptor, 4),
                0x02 => {
                    let bytes = descriptor.get(4..7).and_then(|bytes| bytes.first_chunk());
                    sense.specific = bytes.and_then(|&bytes| SenseSpecific::decode(key, bytes));
                }
                0x03 => sense.field_replaceable_unit = descriptor.get(3).copied().unwrap_or(0),
                0x05 => sense.incorrect_length = descriptor.get(3).is_some_and(|flags| flags & 0x20 != 0),
                _ => {}
            }
            rest = &rest[descriptor.len()..];
        }
        Some(sense)
    }
}

impl SenseSpecific {
    fn encode(self) -> [u8; 3] {
        let pointer = |flag: bool, byte: u16, bit: Option<u8>| {
            let [high, low] = byte.to_be_bytes();
            let bit = bit.map_or(0, |bit| 0x08 | bit & 7);
            [0x80 | u8::from(flag) << 6 | bit, high, low]
        };
        let count = |value: u16| [0x80, (value >> 8) as u8, value as u8];
        match self {
            Self::FieldPointer(FieldPointer { in_cdb, byte, bit }) => pointer(in_cdb, byte, bit),
            Self::Progress(value) | Self::ActualRetryCount(value) => count(value),
            Self::SegmentPointer { in_segment, byte, bit } => {
                let [flags, high, low] = pointer(false, byte, bit);
                [flags | u8::from(in_segment) << 5, high, low]
            }
            Self::UnitAttentionOverflow(overflow) => [0x80 | u8::from(overflow), 0, 0],
        }
    }

    fn decode(key: SenseKey, [flags, high, low]: [u8; 3]) -> Option<Self> {
        if flags & 0x80 == 0 {
            return None;
        }
        let value = u16::from_be_bytes([high, low]);
        let bit = (flags & 0x08 != 0).then_some(flags & 7);
        Some(match key {
            SenseKey::ILLEGAL_REQUEST => {
                Self::FieldPointer(FieldPointer { in_cdb: flags & 0x40 != 0, byte: value, bit })
            }
            SenseKey::NO_SENSE | SenseKey::NOT_READY => Self::Progress(value),
            SenseKey::RECOVERED_ERROR | SenseKey::MEDIUM_ERROR | SenseKey::HARDWARE_ERROR => {
                Self::ActualRetryCount(value)
            }
            SenseKey::COPY_ABORTED => Self::SegmentPointer { in_segment: flags & 0x20 != 0, byte: value, bit },
            SenseKey::UNIT_ATTENTION => Self::UnitAttentionOverflow(flags & 1 != 0),
            _ => return None,
        })
    }
}

impl fmt::Display for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.key, self.code)?;
        if self.deferred {
            f.write_str(", deferred")?;
        }
        if let Some(information) = self.information {
            write!(f, ", information {information:#x}")?;
        }
        match self.specific {
            Some(SenseSpecific::FieldPointer(FieldPointer { in_cdb, byte, bit })) => {
                let place = if in_cdb { "CDB" } else { "parameter list" };
                write!(f, ", {place} byte {byte}")?;
                bit.map_or(Ok(()), |bit| write!(f, " bit {bit}"))
            }
            Some(SenseSpecific::Progress(progress)) => write!(f, ", {}% done", u32::from(progress) * 100 / 65536),
            _ => Ok(()),
        }
    }
}

impl fmt::Debug for SenseData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SenseData({self})")
    }
}

#[cfg(test)]
mod tests;

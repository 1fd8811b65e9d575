//! The Basic Header Segment: the 48 bytes every PDU begins with (RFC 7143 11.2.1).

use core::fmt;

use scsi_core::Lun;
use zerocopy::byteorder::{BE, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::{InitiatorTaskTag, Opcode};

/// Length of the Basic Header Segment, in bytes.
pub const BHS_LEN: usize = 48;

/// The largest data segment the 24-bit length field can announce, in bytes.
pub const MAX_DATA_SEGMENT: usize = (1 << 24) - 1;

/// The 48 bytes of a Basic Header Segment as received, or ready to send.
#[derive(Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Bhs {
    opcode: u8,
    flags: u8,
    specific_2: [u8; 2],
    total_ahs_length: u8,
    data_segment_length: [u8; 3],
    lun: [u8; 8],
    initiator_task_tag: U32<BE>,
    specific_20: [u8; 28],
}

const _: () = assert!(size_of::<Bhs>() == BHS_LEN);

impl Bhs {
    /// Takes the bytes as they are; every value is a header, if perhaps of a PDU nobody knows.
    pub const fn new(bytes: [u8; BHS_LEN]) -> Self {
        zerocopy::transmute!(bytes)
    }

    /// The bytes.
    pub const fn to_bytes(self) -> [u8; BHS_LEN] {
        zerocopy::transmute!(self)
    }

    /// The opcode, without the immediate bit (RFC 7143 11.2.1.2).
    pub const fn opcode(&self) -> Opcode {
        Opcode(self.opcode & 0x3f)
    }

    /// I bit: the PDU is outside the command numbering (RFC 7143 11.2.1.1).
    pub const fn is_immediate(&self) -> bool {
        self.opcode & 0x40 != 0
    }

    /// F bit of the PDUs that have one (RFC 7143 11.2.1.3).
    pub const fn is_final(&self) -> bool {
        self.flags & 0x80 != 0
    }

    /// Length of the Additional Header Segments with their padding, in bytes: 0 to 1020, a multiple of 4.
    pub const fn ahs_length(&self) -> usize {
        self.total_ahs_length as usize * 4
    }

    /// Length of the data segment without its padding, in bytes: 0 to 2^24 - 1.
    pub const fn data_segment_length(&self) -> usize {
        let [a, b, c] = self.data_segment_length;
        (a as usize) << 16 | (b as usize) << 8 | c as usize
    }

    /// The padding after the data segment, 0 to 3 bytes.
    pub const fn data_padding(&self) -> usize {
        padding(self.data_segment_length())
    }

    /// The LUN field. In PDUs without a LUN its bytes mean something else (ISID and TSIH in a login).
    pub const fn lun(&self) -> Lun {
        Lun(self.lun)
    }

    /// The Initiator Task Tag, present in every PDU.
    pub const fn initiator_task_tag(&self) -> InitiatorTaskTag {
        InitiatorTaskTag(self.initiator_task_tag.get())
    }

    /// Sets both length fields. `ahs` is in bytes with padding, `data` without.
    ///
    /// Lengths beyond what the fields hold (1020, [`MAX_DATA_SEGMENT`]) are an error of the caller and cut to the
    /// field's width; the encoder refuses them before it gets here.
    pub(crate) fn set_lengths(&mut self, ahs: usize, data: usize) {
        self.total_ahs_length = (ahs / 4) as u8;
        let [.., a, b, c] = (data as u32).to_be_bytes();
        self.data_segment_length = [a, b, c];
    }
}

impl AsRef<[u8]> for Bhs {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl fmt::Debug for Bhs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bhs")
            .field("opcode", &self.opcode())
            .field("immediate", &self.is_immediate())
            .field("flags", &format_args!("{:#04x}", self.flags))
            .field("ahs_length", &self.ahs_length())
            .field("data_segment_length", &self.data_segment_length())
            .field("initiator_task_tag", &self.initiator_task_tag())
            .finish_non_exhaustive()
    }
}

/// The zero bytes that bring `length` to a multiple of four.
pub(crate) const fn padding(length: usize) -> usize {
    length.wrapping_neg() & 3
}

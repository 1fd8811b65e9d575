//! What the wire structs of all PDUs share.

pub(super) use zerocopy::byteorder::{BE, U16, U32};
pub(super) use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::frame::Frame;
use crate::pdu::Malformed;

/// The F bit, and in PDUs without one the bit that is always set.
pub(super) const FINAL: u8 = 0x80;
/// The I bit of the opcode byte.
pub(super) const IMMEDIATE: u8 = 0x40;

/// The opcode byte with its immediate bit.
pub(super) const fn opcode_byte(opcode: super::Opcode, immediate: bool) -> u8 {
    opcode.0 | if immediate { IMMEDIATE } else { 0 }
}

/// Only SCSI Commands have Additional Header Segments (RFC 7143 11.2.2).
pub(super) fn no_ahs(frame: &Frame) -> Result<(), Malformed> {
    match frame.ahs.len() {
        0 => Ok(()),
        len => Err(Malformed::UnexpectedAhs(len)),
    }
}

/// For PDUs that are a header and nothing else.
pub(super) fn header_only(frame: &Frame) -> Result<(), Malformed> {
    no_ahs(frame)?;
    match frame.data.len() {
        0 => Ok(()),
        len => Err(Malformed::UnexpectedData(len)),
    }
}

/// Declares a wire struct with the size assertion and the conversions from and to a [`super::Bhs`].
macro_rules! wire_struct {
    (struct $name:ident { $($field:ident: $ty:ty,)* }) => {
        #[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
        #[repr(C)]
        struct $name { $($field: $ty,)* }

        const _: () = assert!(size_of::<$name>() == super::BHS_LEN);

        impl From<super::Bhs> for $name {
            fn from(bhs: super::Bhs) -> Self {
                zerocopy::transmute!(bhs)
            }
        }

        impl From<$name> for super::Bhs {
            fn from(wire: $name) -> Self {
                zerocopy::transmute!(wire)
            }
        }
    };
}

//! Why a frame is not a PDU, with what a Reject needs to say so.

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use super::{Bhs, Opcode, RejectReason};

/// What is wrong with a PDU. Always the peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    /// No PDU has this opcode, or its meaning is private (1Ch to 1Eh, 3Ch to 3Eh).
    #[error("no PDU has opcode {0:?}")]
    UnknownOpcode(Opcode),
    /// The opcode belongs to the other role.
    #[error("a PDU of opcode {0:?} goes the other way")]
    WrongDirection(Opcode),
    /// A field has a value the standard does not allow.
    #[error("byte {offset} of the header: {what}")]
    Field {
        /// Byte of the header where the field begins.
        offset: u8,
        /// What was expected.
        what: &'static str,
    },
    /// An Additional Header Segment is longer than the list it stands in.
    #[error("an additional header segment of {wanted} bytes, {left} bytes were left")]
    Ahs {
        /// Bytes left in the list.
        left: usize,
        /// Bytes the segment claims, with its head.
        wanted: usize,
    },
    /// The PDU's kind has no Additional Header Segments, but some came.
    #[error("{0} bytes of additional header segments where none belong")]
    UnexpectedAhs(usize),
    /// The PDU's kind has no data segment, but one came.
    #[error("a data segment of {0} bytes where none belongs")]
    UnexpectedData(usize),
    /// A length inside the data segment points past its end.
    #[error("{wanted} bytes are claimed inside a data segment of {left}")]
    DataTooShort {
        /// Bytes there are.
        left: usize,
        /// Bytes claimed.
        wanted: usize,
    },
}

/// A frame that could not be decoded, with the header to be sent back in a Reject.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{kind}")]
pub struct DecodeError {
    /// What is wrong.
    pub kind: Malformed,
    /// The offending header.
    pub bhs: Bhs,
    /// Its Additional Header Segments.
    pub ahs: Bytes,
}

impl DecodeError {
    /// The reason code that answers it (RFC 7143 11.17.1).
    pub fn reject_reason(&self) -> RejectReason {
        match self.kind {
            Malformed::UnknownOpcode(_) => RejectReason::COMMAND_NOT_SUPPORTED,
            Malformed::WrongDirection(_) => RejectReason::PROTOCOL_ERROR,
            _ => RejectReason::INVALID_PDU_FIELD,
        }
    }

    /// The complete header of the offending PDU, for the Reject's data segment.
    pub fn rejected_header(&self) -> Bytes {
        rejected_header(&self.bhs, &self.ahs)
    }
}

/// A header with its Additional Header Segments in one piece.
pub(crate) fn rejected_header(bhs: &Bhs, ahs: &[u8]) -> Bytes {
    let mut header = BytesMut::with_capacity(super::BHS_LEN + ahs.len());
    header.extend_from_slice(bhs.as_ref());
    header.extend_from_slice(ahs);
    header.freeze()
}

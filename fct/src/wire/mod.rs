//! Frames and payloads as values: what stands in them, and nothing of what it is for.

mod ct;
mod els;
mod fcp;
mod header;
mod login;

pub use ct::{CtCommand, CtHeader, CtReason};
pub use els::{Els, ElsCommand, LsExplanation, LsReason, RecAnswer};
pub use fcp::{FcpCommand, FcpManagement, FcpResponse, ResponseCode, TransferReady};
pub(crate) use header::UNASSIGNED;
pub use header::{FrameControl, FrameHeader, RoutingControl, Type};
pub use login::{FcpService, LoginParameters, PrliPage};

use stmf::provider::Segments;

/// A payload could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireError {
    /// It ends too early.
    #[error("the payload has {got} bytes, {expected} are needed")]
    Short {
        /// Its length.
        got: usize,
        /// What is needed.
        expected: usize,
    },
    /// A field has a value that means nothing.
    #[error("the field at byte {0} has a value without a meaning")]
    Field(usize),
}

/// A payload in one piece, at most `limit` bytes of it: for the short ones that are read and not passed on.
pub(crate) fn flat(payload: &Segments, limit: usize) -> Vec<u8> {
    let length = payload.iter().map(|piece| piece.len()).sum::<usize>().min(limit);
    let mut bytes = Vec::with_capacity(length);
    for piece in payload {
        let room = limit - bytes.len();
        bytes.extend_from_slice(&piece[..piece.len().min(room)]);
    }
    bytes
}

/// How long a payload is in bytes.
pub(crate) fn length(payload: &Segments) -> usize {
    payload.iter().map(|piece| piece.len()).sum()
}

pub(crate) fn need(bytes: &[u8], expected: usize) -> Result<(), WireError> {
    match bytes.len() >= expected {
        true => Ok(()),
        false => Err(WireError::Short { got: bytes.len(), expected }),
    }
}

/// Two bytes at `at`, big-endian; 0 behind the end.
pub(crate) fn be16(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]))
}

/// Three bytes.
pub(crate) fn be24(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 3).map_or(0, |three| u32::from_be_bytes([0, three[0], three[1], three[2]]))
}

/// Four bytes.
pub(crate) fn be32(bytes: &[u8], at: usize) -> u32 {
    u32::from(be16(bytes, at)) << 16 | u32::from(be16(bytes, at + 2))
}

/// Eight bytes.
pub(crate) fn be64(bytes: &[u8], at: usize) -> u64 {
    u64::from(be32(bytes, at)) << 32 | u64::from(be32(bytes, at + 4))
}

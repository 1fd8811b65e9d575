//! The command descriptor block as a value, and the fields of each command.
//!
//! One struct per command, or per family of commands that differ only in the width of their fields. Each has a
//! `to_cdb`, for the initiator's side; [`crate::command::parse`] goes the other way.

mod fields;

mod block_io;
mod cache;
mod copy;
mod device;
mod diagnostic;
mod format;
mod inquiry;
mod maintenance;
mod mode;
mod provisioning;
mod reservation;

pub use self::block_io::{ByteCheck, CompareAndWrite, OrWrite, Read, Verify, Write, WriteAndVerify, WriteAtomic};
pub use self::cache::{PreFetch, SynchronizeCache};
pub use self::copy::{
    CopyOperationAbort, ExtendedCopy, PopulateToken, ReceiveCopy, ReceiveCopyAction, WriteUsingToken,
};
pub use self::device::{PreventAllow, ReadCapacity10, ReadCapacity16, StartStopUnit};
pub use self::diagnostic::{LogSelect, LogSense, ReceiveDiagnostic, SendDiagnostic};
pub use self::format::{FormatUnit, ReadDefectData, Sanitize, SanitizeService};
pub use self::inquiry::{Inquiry, ReportLuns, RequestSense};
pub use self::maintenance::{
    ReportIdentifyingInformation, ReportSupportedOperationCodes, ReportSupportedTaskManagementFunctions,
    ReportTargetPortGroups, ReportTimestamp, SetIdentifyingInformation, SetTargetPortGroups, SetTimestamp,
};
pub use self::mode::{ModeSelect, ModeSense, PageControl};
pub use self::provisioning::{GetLbaStatus, Unmap, WriteSame};
pub use self::reservation::{PersistentReserveIn, PersistentReserveOut, PrInAction, PrOutAction};

use core::fmt;
use core::ops::Deref;

use smallvec::SmallVec;

/// A command descriptor block: 6 to 260 bytes, up to 16 of them inline.
///
/// Transports with a 16-byte field (iSCSI) may leave the bytes behind the command's length in place; [`crate::command`]
/// looks only at those the operation code calls for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Cdb(SmallVec<[u8; 16]>);

/// Why bytes are no [`Cdb`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a CDB has 1 to {max} bytes, got {0}", max = Cdb::MAX_LENGTH)]
pub struct CdbLengthError(pub usize);

impl Cdb {
    /// The longest CDB there is: variable length, 8 bytes and ADDITIONAL CDB LENGTH up to 252.
    pub const MAX_LENGTH: usize = 260;

    /// Takes `bytes` as a CDB.
    ///
    /// # Errors
    /// [`CdbLengthError`] when empty or longer than [`Cdb::MAX_LENGTH`].
    pub fn new(bytes: &[u8]) -> Result<Self, CdbLengthError> {
        if bytes.is_empty() || bytes.len() > Self::MAX_LENGTH {
            return Err(CdbLengthError(bytes.len()));
        }
        Ok(Self(SmallVec::from_slice(bytes)))
    }

    /// The first `length` bytes (at most 16) of an image.
    pub(crate) fn from_image(image: &[u8; 16], length: u8) -> Self {
        Self(SmallVec::from_slice(&image[..usize::from(length).min(16)]))
    }

    /// The operation code: byte 0.
    pub fn opcode(&self) -> u8 {
        self.0.first().copied().unwrap_or(0)
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes in a 16-byte field, padded with zeros; what is longer is cut.
    pub fn to_array(&self) -> [u8; 16] {
        let mut array = [0; 16];
        for (to, from) in array.iter_mut().zip(self.0.iter()) {
            *to = *from;
        }
        array
    }

    /// The CONTROL byte of a fixed-length CDB: its last byte by the operation code's group; 0 when it is missing.
    pub fn control(&self) -> u8 {
        let at = match fixed_length(self.opcode()) {
            Some(length) => length - 1,
            None => 1,
        };
        self.0.get(at).copied().unwrap_or(0)
    }
}

/// The length in bytes that the group of an operation code fixes, `None` for variable length (7Eh, 7Fh), reserved and
/// vendor specific groups (SPC-5, OPERATION CODE byte, group code).
pub const fn fixed_length(opcode: u8) -> Option<usize> {
    match opcode {
        0x00..=0x1f => Some(6),
        0x20..=0x5f => Some(10),
        0x80..=0x9f => Some(16),
        0xa0..=0xbf => Some(12),
        _ => None,
    }
}

impl<const N: usize> From<[u8; N]> for Cdb {
    /// Takes a CDB of a length known when compiling; 1 to 260 bytes, which the compiler checks.
    fn from(bytes: [u8; N]) -> Self {
        const { assert!(N >= 1 && N <= Self::MAX_LENGTH) };
        Self(SmallVec::from_slice(&bytes))
    }
}

impl Deref for Cdb {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for Cdb {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Cdb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cdb(")?;
        for (at, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if at == 0 { "" } else { " " })?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bytes_stay_inline() {
        assert!(!Cdb::new(&[0x88; 16]).unwrap().0.spilled());
        assert_eq!(Cdb::new(&[0x7f; 260]).unwrap().len(), 260);
    }

    #[test]
    fn lengths_outside_the_standard_are_refused() {
        assert_eq!(Cdb::new(&[]), Err(CdbLengthError(0)));
        assert_eq!(Cdb::new(&[0; 261]), Err(CdbLengthError(261)));
    }

    #[test]
    fn control_is_the_last_byte_of_the_group() {
        assert_eq!(Cdb::from([0, 0, 0, 0, 0, 4]).control(), 4);
        let mut padded = [0; 16];
        padded[5] = 4;
        assert_eq!(Cdb::from(padded).control(), 4);
    }
}

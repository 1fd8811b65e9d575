//! CRC32C, the digest of headers and data segments (RFC 7143 11.2.3, 13.1).

use core::fmt;

use bytes::Bytes;
use crc_fast::{CrcAlgorithm, Digest};

/// Length of a digest on the wire, in bytes.
pub const DIGEST_LEN: usize = 4;

/// Which digests a connection uses, in both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Digests {
    /// HeaderDigest=CRC32C.
    pub header: bool,
    /// DataDigest=CRC32C.
    pub data: bool,
}

/// The CRC32C of `bytes` in one go.
pub fn crc32c(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The CRC32C of several slices and the zero padding that follows them, as a data segment has it.
pub fn crc32c_slices(slices: &[Bytes], padding: usize) -> u32 {
    const ZEROS: [u8; 3] = [0; 3];
    match slices {
        [one] if padding == 0 => crc32c(one),
        _ => {
            let mut crc = Crc32c::new();
            slices.iter().for_each(|slice| crc.update(slice));
            crc.update(&ZEROS[..padding.min(3)]);
            crc.finish()
        }
    }
}

/// The four bytes of a digest as they go over the wire. The standard's bit order makes that the little-endian form of
/// the usual CRC value (RFC 7143 A.4).
pub const fn to_wire(crc: u32) -> [u8; DIGEST_LEN] {
    crc.to_le_bytes()
}

/// The value of a digest received, inverse of [`to_wire`].
pub const fn from_wire(bytes: [u8; DIGEST_LEN]) -> u32 {
    u32::from_le_bytes(bytes)
}

/// A CRC32C that grows slice by slice.
#[derive(Clone)]
pub struct Crc32c(Digest);

impl Crc32c {
    /// The digest of nothing.
    pub fn new() -> Self {
        Self(Digest::new(CrcAlgorithm::Crc32Iscsi))
    }

    /// Adds the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added so far.
    pub fn finish(&self) -> u32 {
        // The 32-bit algorithms keep their value in the low half.
        self.0.finalize() as u32
    }
}

impl Default for Crc32c {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Crc32c {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Crc32c({:#010x})", self.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The examples of RFC 7143 A.4, in wire order.
    fn check(input: &[u8], wire: [u8; 4]) {
        assert_eq!(to_wire(crc32c(input)), wire);
        for split in 0..=input.len() {
            let mut crc = Crc32c::new();
            crc.update(&input[..split]);
            crc.update(&input[split..]);
            assert_eq!(to_wire(crc.finish()), wire, "split at {split}");
        }
    }

    #[test]
    fn zeros_match_the_standard() {
        check(&[0; 32], [0xaa, 0x36, 0x91, 0x8a]);
    }

    #[test]
    fn ones_match_the_standard() {
        check(&[0xff; 32], [0x43, 0xab, 0xa8, 0x62]);
    }

    #[test]
    fn ascending_bytes_match_the_standard() {
        let bytes: Vec<u8> = (0..32).collect();
        check(&bytes, [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn descending_bytes_match_the_standard() {
        let bytes: Vec<u8> = (0..32).rev().collect();
        check(&bytes, [0x5c, 0xdb, 0x3f, 0x11]);
    }

    #[test]
    fn a_read_command_matches_the_standard() {
        let mut pdu = [0u8; 48];
        pdu[0] = 0x01;
        pdu[1] = 0xc0;
        pdu[16] = 0x14;
        pdu[22] = 0x04;
        pdu[27] = 0x14;
        pdu[31] = 0x18;
        pdu[32] = 0x28;
        pdu[40] = 0x02;
        check(&pdu, [0x56, 0x3a, 0x96, 0xd9]);
    }

    #[test]
    fn padding_counts_as_zeros() {
        let slices = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")];
        assert_eq!(crc32c_slices(&slices, 1), crc32c(b"abc\0"));
    }
}

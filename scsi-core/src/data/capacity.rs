//! READ CAPACITY data.

use crate::bytes_util::{be32, be64};

/// READ CAPACITY(10) data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ReadCapacity10Data {
    /// RETURNED LOGICAL BLOCK ADDRESS: the last one; FFFF_FFFFh when it has no room, then READ CAPACITY(16) tells.
    pub last_lba: u32,
    /// LOGICAL BLOCK LENGTH in bytes.
    pub block_length: u32,
}

impl ReadCapacity10Data {
    /// The data for a last logical block address of any size.
    pub fn new(last_lba: u64, block_length: u32) -> Self {
        Self { last_lba: u32::try_from(last_lba).unwrap_or(u32::MAX), block_length }
    }

    /// The eight bytes.
    pub fn encode(&self) -> Vec<u8> {
        [self.last_lba.to_be_bytes(), self.block_length.to_be_bytes()].concat()
    }

    /// Reads the data; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        Some(Self { last_lba: be32(data, 0)?, block_length: be32(data, 4)? })
    }
}

/// READ CAPACITY(16) data; no protection information.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadCapacity16Data {
    /// RETURNED LOGICAL BLOCK ADDRESS: the last one.
    pub last_lba: u64,
    /// LOGICAL BLOCK LENGTH in bytes.
    pub block_length: u32,
    /// LOGICAL BLOCKS PER PHYSICAL BLOCK EXPONENT, four bits.
    pub physical_exponent: u8,
    /// LOWEST ALIGNED LOGICAL BLOCK ADDRESS, 14 bits.
    pub lowest_aligned_lba: u16,
    /// LBPME: logical block provisioning management: UNMAP is supported.
    pub provisioning_management: bool,
    /// LBPRZ: unmapped blocks read as zeros.
    pub provisioning_read_zeros: bool,
}

impl ReadCapacity16Data {
    /// Bytes of the data.
    pub const LENGTH: usize = 32;

    /// The 32 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; Self::LENGTH];
        out[0..8].copy_from_slice(&self.last_lba.to_be_bytes());
        out[8..12].copy_from_slice(&self.block_length.to_be_bytes());
        out[13] = self.physical_exponent & 0x0f;
        let [high, low] = (self.lowest_aligned_lba & 0x3fff).to_be_bytes();
        out[14] = u8::from(self.provisioning_management) << 7 | u8::from(self.provisioning_read_zeros) << 6 | high;
        out[15] = low;
        out
    }

    /// Reads the data; `None` when fewer than 12 bytes came, what else is missing is as zero.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let byte = |at: usize| data.get(at).copied().unwrap_or(0);
        Some(Self {
            last_lba: be64(data, 0)?,
            block_length: be32(data, 8)?,
            physical_exponent: byte(13) & 0x0f,
            lowest_aligned_lba: u16::from_be_bytes([byte(14) & 0x3f, byte(15)]),
            provisioning_management: byte(14) & 0x80 != 0,
            provisioning_read_zeros: byte(14) & 0x40 != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_32_bits_are_capped() {
        assert_eq!(ReadCapacity10Data::new(1 << 32, 512).encode(), [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
        assert_eq!(ReadCapacity10Data::new(7, 4096).last_lba, 7);
    }

    #[test]
    fn it_round_trips() {
        let data = ReadCapacity16Data {
            last_lba: u64::MAX - 1,
            block_length: 512,
            physical_exponent: 3,
            lowest_aligned_lba: 7,
            provisioning_management: true,
            provisioning_read_zeros: true,
        };
        assert_eq!(data.encode()[12..16], [0, 3, 0xc0, 7]);
        assert_eq!(ReadCapacity16Data::decode(&data.encode()), Some(data));
        assert_eq!(ReadCapacity16Data::decode(&data.encode()[..11]), None);
    }
}

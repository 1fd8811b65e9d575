//! Page B0h: Block Limits.

use super::{VpdPage, fixed_body, padded};
use crate::bytes_util::{be16, be32, be64};

/// Block Limits (B0h). Counts are in logical blocks; zero means not told or not supported, as the field has it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BlockLimits {
    /// WSNZ: WRITE SAME with a number of blocks of zero is refused.
    pub write_same_non_zero: bool,
    /// MAXIMUM COMPARE AND WRITE LENGTH; 0 the command is not supported.
    pub max_compare_and_write_length: u8,
    /// OPTIMAL TRANSFER LENGTH GRANULARITY.
    pub optimal_transfer_granularity: u16,
    /// MAXIMUM TRANSFER LENGTH; 0 no limit told.
    pub max_transfer_length: u32,
    /// OPTIMAL TRANSFER LENGTH.
    pub optimal_transfer_length: u32,
    /// MAXIMUM PREFETCH LENGTH.
    pub max_prefetch_length: u32,
    /// MAXIMUM UNMAP LBA COUNT; FFFF_FFFFh no limit, 0 UNMAP is not supported.
    pub max_unmap_lba_count: u32,
    /// MAXIMUM UNMAP BLOCK DESCRIPTOR COUNT; FFFF_FFFFh no limit, 0 UNMAP is not supported.
    pub max_unmap_descriptor_count: u32,
    /// OPTIMAL UNMAP GRANULARITY.
    pub optimal_unmap_granularity: u32,
    /// UNMAP GRANULARITY ALIGNMENT, `None` leaves UGAVALID clear; 31 bits.
    pub unmap_granularity_alignment: Option<u32>,
    /// MAXIMUM WRITE SAME LENGTH; 0 no limit told.
    pub max_write_same_length: u64,
    /// MAXIMUM ATOMIC TRANSFER LENGTH; 0 no limit told.
    pub max_atomic_transfer_length: u32,
    /// ATOMIC ALIGNMENT.
    pub atomic_alignment: u32,
    /// ATOMIC TRANSFER LENGTH GRANULARITY.
    pub atomic_transfer_granularity: u32,
    /// MAXIMUM ATOMIC TRANSFER LENGTH WITH ATOMIC BOUNDARY.
    pub max_atomic_transfer_with_boundary: u32,
    /// MAXIMUM ATOMIC BOUNDARY SIZE.
    pub max_atomic_boundary: u32,
}

const LENGTH: usize = 0x3c;

impl VpdPage for BlockLimits {
    const CODE: u8 = 0xb0;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, LENGTH, |body| {
            body.put8(4, u8::from(self.write_same_non_zero));
            body.put8(5, self.max_compare_and_write_length);
            body.put16(6, self.optimal_transfer_granularity);
            body.put32(8, self.max_transfer_length);
            body.put32(12, self.optimal_transfer_length);
            body.put32(16, self.max_prefetch_length);
            body.put32(20, self.max_unmap_lba_count);
            body.put32(24, self.max_unmap_descriptor_count);
            body.put32(28, self.optimal_unmap_granularity);
            body.put32(32, self.unmap_granularity_alignment.map_or(0, |value| 1 << 31 | value));
            body.put64(36, self.max_write_same_length);
            body.put32(44, self.max_atomic_transfer_length);
            body.put32(48, self.atomic_alignment);
            body.put32(52, self.atomic_transfer_granularity);
            body.put32(56, self.max_atomic_transfer_with_boundary);
            body.put32(60, self.max_atomic_boundary);
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let body = padded::<LENGTH>(body);
        let long = |at: usize| be32(&body, at - 4).unwrap_or(0);
        let alignment = long(32);
        Some(Self {
            write_same_non_zero: body[0] & 1 != 0,
            max_compare_and_write_length: body[1],
            optimal_transfer_granularity: be16(&body, 2)?,
            max_transfer_length: long(8),
            optimal_transfer_length: long(12),
            max_prefetch_length: long(16),
            max_unmap_lba_count: long(20),
            max_unmap_descriptor_count: long(24),
            optimal_unmap_granularity: long(28),
            unmap_granularity_alignment: (alignment >> 31 != 0).then_some(alignment & 0x7fff_ffff),
            max_write_same_length: be64(&body, 32)?,
            max_atomic_transfer_length: long(44),
            atomic_alignment: long(48),
            atomic_transfer_granularity: long(52),
            max_atomic_transfer_with_boundary: long(56),
            max_atomic_boundary: long(60),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inquiry::Peripheral;

    #[test]
    fn it_round_trips() {
        let page = BlockLimits {
            write_same_non_zero: true,
            max_compare_and_write_length: 255,
            optimal_transfer_granularity: 8,
            max_transfer_length: 1,
            optimal_transfer_length: 2,
            max_prefetch_length: 3,
            max_unmap_lba_count: u32::MAX,
            max_unmap_descriptor_count: 256,
            optimal_unmap_granularity: 8,
            unmap_granularity_alignment: Some(0),
            max_write_same_length: 1 << 40,
            max_atomic_transfer_length: 4,
            atomic_alignment: 5,
            atomic_transfer_granularity: 6,
            max_atomic_transfer_with_boundary: 7,
            max_atomic_boundary: 9,
        };
        let bytes = page.encode(Peripheral::DISK);
        assert_eq!(bytes.len(), 64);
        assert_eq!(bytes[32..36], [0x80, 0, 0, 0]);
        assert_eq!(BlockLimits::decode(&bytes), Some(page));
    }

    #[test]
    fn the_short_page_of_old_devices_is_read() {
        let page = BlockLimits::decode(&[0, 0xb0, 0, 12, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 1, 0]).unwrap();
        assert_eq!((page.max_compare_and_write_length, page.optimal_transfer_length), (1, 256));
        assert_eq!(page.max_unmap_lba_count, 0);
    }
}

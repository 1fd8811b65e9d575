//! The parameter list of UNMAP.

use crate::bytes_util::{be16, be32, be64};
use crate::sense::SenseData;

/// One range to unmap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UnmapRange {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 unmaps nothing.
    pub blocks: u32,
}

/// The parameter list of UNMAP, read in place.
#[derive(Clone, Copy, Debug)]
pub struct UnmapList<'a> {
    descriptors: &'a [u8],
}

/// UNMAP list header and each descriptor, in bytes.
const HEADER: usize = 8;
const DESCRIPTOR: usize = 16;

impl<'a> UnmapList<'a> {
    /// Reads a list of as many bytes as the CDB told. An empty list unmaps nothing; bytes of a descriptor that is not
    /// whole are not looked at, as SBC has it.
    ///
    /// # Errors
    /// 05/1A/00 when the list is shorter than its header.
    pub fn parse(data: &'a [u8]) -> Result<Self, SenseData> {
        if data.is_empty() {
            return Ok(Self { descriptors: &[] });
        }
        let length = be16(data, 2).filter(|_| data.len() >= HEADER);
        let length = usize::from(length.ok_or(SenseData::parameter_list_length_error())?);
        let rest = &data[HEADER..];
        let whole = rest.len().min(length) / DESCRIPTOR * DESCRIPTOR;
        Ok(Self { descriptors: &rest[..whole] })
    }

    /// How many ranges there are.
    pub fn len(&self) -> usize {
        self.descriptors.len() / DESCRIPTOR
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// The ranges.
    pub fn ranges(&self) -> impl Iterator<Item = UnmapRange> + use<'a> {
        self.descriptors
            .chunks_exact(DESCRIPTOR)
            .filter_map(|bytes| Some(UnmapRange { lba: be64(bytes, 0)?, blocks: be32(bytes, 8)? }))
    }

    /// Checks the ranges against the limits of the block limits page (`u32::MAX` is no limit) and the capacity in
    /// logical blocks.
    ///
    /// # Errors
    /// 05/26/00 pointing to what exceeds a limit; 05/21/00 with the first logical block that does not exist.
    pub fn check(&self, max_blocks: u32, max_descriptors: u32, capacity_blocks: u64) -> Result<(), SenseData> {
        if max_descriptors != u32::MAX && self.len() > max_descriptors as usize {
            return Err(SenseData::invalid_field_in_parameter_list(2, Some(7)));
        }
        let mut total = 0u64;
        for (at, range) in self.ranges().enumerate() {
            let end = range.lba.checked_add(range.blocks.into());
            if end.is_none_or(|end| end > capacity_blocks) || range.lba > capacity_blocks {
                return Err(SenseData::lba_out_of_range(range.lba.max(capacity_blocks)));
            }
            total += u64::from(range.blocks);
            if max_blocks != u32::MAX && total > max_blocks.into() {
                let byte = HEADER + at * DESCRIPTOR + 8;
                return Err(SenseData::invalid_field_in_parameter_list(byte.min(0xffff) as u16, Some(7)));
            }
        }
        Ok(())
    }

    /// The list of these ranges, for the initiator's side; at most 4095 of them.
    pub fn encode(ranges: &[UnmapRange]) -> Vec<u8> {
        let ranges = &ranges[..ranges.len().min(4095)];
        let descriptors = (ranges.len() * DESCRIPTOR) as u16;
        let mut out = (descriptors + 6).to_be_bytes().to_vec();
        out.extend_from_slice(&descriptors.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        for range in ranges {
            out.extend_from_slice(&range.lba.to_be_bytes());
            out.extend_from_slice(&range.blocks.to_be_bytes());
            out.extend_from_slice(&[0; 4]);
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_round_trip() {
        let ranges = [UnmapRange { lba: 1, blocks: 2 }, UnmapRange { lba: 1 << 40, blocks: u32::MAX }];
        let data = UnmapList::encode(&ranges);
        assert_eq!(data[..4], [0, 38, 0, 32]);
        assert!(UnmapList::parse(&data).unwrap().ranges().eq(ranges));
        assert_eq!(UnmapList::parse(&data[..39]).unwrap().len(), 1);
    }

    #[test]
    fn a_cut_header_is_a_length_error() {
        assert!(UnmapList::parse(&[]).unwrap().is_empty());
        assert_eq!(UnmapList::parse(&[0; 7]).unwrap_err(), SenseData::parameter_list_length_error());
        assert!(UnmapList::parse(&[0; 8]).unwrap().is_empty());
    }

    #[test]
    fn limits_and_capacity_are_checked() {
        let data = UnmapList::encode(&[UnmapRange { lba: 0, blocks: 8 }, UnmapRange { lba: 8, blocks: 8 }]);
        let list = UnmapList::parse(&data).unwrap();
        assert_eq!(list.check(16, 2, 16), Ok(()));
        assert_eq!(list.check(15, 2, 16), Err(SenseData::invalid_field_in_parameter_list(32, Some(7))));
        assert_eq!(list.check(16, 1, 16), Err(SenseData::invalid_field_in_parameter_list(2, Some(7))));
        assert_eq!(list.check(16, 2, 15), Err(SenseData::lba_out_of_range(15)));
        let wraps = UnmapList::encode(&[UnmapRange { lba: u64::MAX, blocks: 2 }]);
        assert_eq!(UnmapList::parse(&wraps).unwrap().check(16, 2, 16), Err(SenseData::lba_out_of_range(u64::MAX)));
    }
}

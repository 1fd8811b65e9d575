//! ROD tokens: the parameter lists of POPULATE TOKEN and WRITE USING TOKEN, and what RECEIVE ROD TOKEN INFORMATION
//! tells.

use super::copy_results::CopyStatusLid4;
use crate::bytes_util::{be16, be32, be64};
use crate::sense::SenseData;

/// Bytes of a ROD token.
const TOKEN_LENGTH: usize = 512;

/// A block device range descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockRange {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 is skipped.
    pub blocks: u32,
}

/// The parameter list of POPULATE TOKEN.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct PopulateTokenList {
    /// IMMED: GOOD is sent before it is done.
    pub immediate: bool,
    /// ROD TYPE when RTV is set; else the device server chooses.
    pub rod_type: Option<u32>,
    /// INACTIVITY TIMEOUT in seconds; 0 asks for the default.
    pub inactivity_timeout_seconds: u32,
    /// What the token is to stand for.
    pub ranges: Vec<BlockRange>,
}

/// The parameter list of WRITE USING TOKEN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteUsingTokenList {
    /// IMMED: GOOD is sent before it is done.
    pub immediate: bool,
    /// DEL_TKN: the token is not needed afterwards.
    pub delete_token: bool,
    /// OFFSET INTO ROD in logical blocks.
    pub offset: u64,
    /// The token.
    pub token: Box<[u8; TOKEN_LENGTH]>,
    /// Where to write.
    pub ranges: Vec<BlockRange>,
}

impl PopulateTokenList {
    /// Reads the list of at most `max_ranges` ranges.
    ///
    /// # Errors
    /// 05/1A/00 when it is cut; 05/26/00 pointing to lengths that do not agree; 05/26/08 for too many ranges.
    pub fn parse(data: &[u8], max_ranges: usize) -> Result<Self, SenseData> {
        let too_short = SenseData::parameter_list_length_error();
        let flags = *data.get(2).ok_or(too_short)?;
        let rod_type = be32(data, 8).ok_or(too_short)?;
        Ok(Self {
            immediate: flags & 1 != 0,
            rod_type: (flags & 2 != 0).then_some(rod_type),
            inactivity_timeout_seconds: be32(data, 4).ok_or(too_short)?,
            ranges: ranges(data, 14, max_ranges)?,
        })
    }
}

impl WriteUsingTokenList {
    /// Bytes of a ROD token.
    pub const TOKEN_LENGTH: usize = TOKEN_LENGTH;

    /// Reads the list of at most `max_ranges` ranges.
    ///
    /// # Errors
    /// As [`PopulateTokenList::parse`].
    pub fn parse(data: &[u8], max_ranges: usize) -> Result<Self, SenseData> {
        let too_short = SenseData::parameter_list_length_error();
        let flags = *data.get(2).ok_or(too_short)?;
        let token = data.get(16..).and_then(|rest| rest.first_chunk()).ok_or(too_short)?;
        Ok(Self {
            immediate: flags & 1 != 0,
            delete_token: flags & 2 != 0,
            offset: be64(data, 8).ok_or(too_short)?,
            token: Box::new(*token),
            ranges: ranges(data, 534, max_ranges)?,
        })
    }
}

/// The range descriptors, their length at offset `at` and themselves behind it.
fn ranges(data: &[u8], at: usize, max_ranges: usize) -> Result<Vec<BlockRange>, SenseData> {
    let too_short = SenseData::parameter_list_length_error();
    let whole = usize::from(be16(data, 0).ok_or(too_short)?) + 2;
    let length = usize::from(be16(data, at).ok_or(too_short)?);
    if whole < at + 2 + length {
        return Err(SenseData::invalid_field_in_parameter_list(0, Some(7)));
    }
    if length < 16 {
        return Err(SenseData::invalid_field_in_parameter_list(at as u16, Some(7)));
    }
    let list = data.get(at + 2..at + 2 + length / 16 * 16).ok_or(too_short)?;
    if list.len() / 16 > max_ranges {
        return Err(SenseData::illegal_request(crate::AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS));
    }
    let ranges =
        list.chunks_exact(16).filter_map(|bytes| Some(BlockRange { lba: be64(bytes, 0)?, blocks: be32(bytes, 8)? }));
    Ok(ranges.collect())
}

/// RECEIVE ROD TOKEN INFORMATION data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RodTokenInformation {
    /// How the operation goes.
    pub status: CopyStatusLid4,
    /// The token, once POPULATE TOKEN is done.
    pub token: Option<Box<[u8; TOKEN_LENGTH]>>,
}

impl RodTokenInformation {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.status.head();
        match &self.token {
            // Each descriptor is two reserved bytes and a token.
            Some(token) => {
                out.extend_from_slice(&(2 + TOKEN_LENGTH as u32).to_be_bytes());
                out.extend_from_slice(&[0, 0]);
                out.extend_from_slice(&token[..]);
            }
            None => out.extend_from_slice(&[0; 4]),
        }
        let available = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_populate_list_is_read() {
        let mut data = vec![0, 30, 3, 0, 0, 0, 0, 60, 0, 0x80, 0, 0, 0, 0, 0, 16];
        data.extend_from_slice(&[0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 8, 0, 0, 0, 0]);
        let list = PopulateTokenList::parse(&data, 1).unwrap();
        assert_eq!(list.rod_type, Some(0x0080_0000));
        assert_eq!((list.immediate, list.inactivity_timeout_seconds), (true, 60));
        assert_eq!(list.ranges, [BlockRange { lba: 9, blocks: 8 }]);
        assert!(PopulateTokenList::parse(&data, 0).is_err());
        assert_eq!(PopulateTokenList::parse(&data[..20], 1), Err(SenseData::parameter_list_length_error()));
    }

    #[test]
    fn the_token_stands_behind_the_status() {
        let information = RodTokenInformation { token: Some(Box::new([7; 512])), ..RodTokenInformation::default() };
        let data = information.encode();
        assert_eq!(data.len(), 32 + 4 + 514);
        assert_eq!(data[32..36], [0, 0, 2, 2]);
    }

    proptest! {
        #[test]
        fn any_list_parses_without_panic(data in prop::collection::vec(any::<u8>(), 0..600)) {
            let _ = PopulateTokenList::parse(&data, 8);
            let _ = WriteUsingTokenList::parse(&data, 8);
        }
    }
}

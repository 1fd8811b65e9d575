//! The parameter list of SANITIZE, OVERWRITE.

use crate::bytes_util::be16;
use crate::sense::SenseData;

/// What OVERWRITE writes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OverwriteParameters {
    /// INVERT: the pattern is inverted between passes.
    pub invert: bool,
    /// OVERWRITE COUNT, 1 to 31 passes.
    pub count: u8,
    /// INITIALIZATION PATTERN, 1 byte to one block, repeated.
    pub pattern: Vec<u8>,
}

impl OverwriteParameters {
    /// Reads the list for blocks of `block_length` bytes. `list_length` is the CDB's PARAMETER LIST LENGTH.
    ///
    /// # Errors
    /// 05/24/00 pointing to PARAMETER LIST LENGTH when it is under 5 or over a block and 4; 05/26/00 pointing to a
    /// count of zero, a reserved TEST value, or a pattern length that is zero or over a block; 05/1A/00 when the
    /// pattern is cut.
    pub fn parse(list_length: u16, data: &[u8], block_length: u32) -> Result<Self, SenseData> {
        if list_length < 5 || u32::from(list_length) > block_length + 4 {
            return Err(SenseData::invalid_field_in_cdb(7, Some(7)));
        }
        let too_short = SenseData::parameter_list_length_error();
        let first = *data.first().ok_or(too_short)?;
        let length = be16(data, 2).ok_or(too_short)?;
        if first & 0x60 != 0 {
            return Err(SenseData::invalid_field_in_parameter_list(0, Some(6)));
        }
        if first & 0x1f == 0 {
            return Err(SenseData::invalid_field_in_parameter_list(0, Some(4)));
        }
        if length == 0 || u32::from(length) > block_length {
            return Err(SenseData::invalid_field_in_parameter_list(2, Some(7)));
        }
        let pattern = data.get(4..4 + usize::from(length)).ok_or(SenseData::parameter_list_length_error())?;
        Ok(Self { invert: first & 0x80 != 0, count: first & 0x1f, pattern: pattern.to_vec() })
    }

    /// The list, for the initiator's side.
    pub fn encode(&self) -> Vec<u8> {
        let pattern = &self.pattern[..self.pattern.len().min(0xffff)];
        let mut out = vec![u8::from(self.invert) << 7 | self.count & 0x1f, 0];
        out.extend_from_slice(&(pattern.len() as u16).to_be_bytes());
        out.extend_from_slice(pattern);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let parameters = OverwriteParameters { invert: true, count: 3, pattern: vec![0xaa; 512] };
        let data = parameters.encode();
        assert_eq!(OverwriteParameters::parse(data.len() as u16, &data, 512), Ok(parameters));
    }

    #[test]
    fn what_is_out_of_range_is_pointed_to() {
        let refuse = |length, data: &[u8]| OverwriteParameters::parse(length, data, 512).unwrap_err();
        assert_eq!(refuse(4, &[1, 0, 0, 1]), SenseData::invalid_field_in_cdb(7, Some(7)));
        assert_eq!(refuse(517, &[1; 517]), SenseData::invalid_field_in_cdb(7, Some(7)));
        assert_eq!(refuse(5, &[0, 0, 0, 1, 9]), SenseData::invalid_field_in_parameter_list(0, Some(4)));
        assert_eq!(refuse(5, &[0x21, 0, 0, 1, 9]), SenseData::invalid_field_in_parameter_list(0, Some(6)));
        assert_eq!(refuse(5, &[1, 0, 0, 0, 9]), SenseData::invalid_field_in_parameter_list(2, Some(7)));
        assert_eq!(refuse(5, &[1, 0, 0, 2, 9]), SenseData::parameter_list_length_error());
    }
}

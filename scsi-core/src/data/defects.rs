//! READ DEFECT DATA and the parameter list of FORMAT UNIT.

use crate::bytes_util::{be16, be32};
use crate::cdb::{FormatUnit, ReadDefectData};
use crate::sense::SenseData;

/// The header of READ DEFECT DATA of a medium without defects: no descriptor follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct DefectListHeader {
    /// PLISTV: the primary list is in.
    pub primary: bool,
    /// GLISTV: the grown list is in.
    pub grown: bool,
    /// DEFECT LIST FORMAT.
    pub format: u8,
}

impl DefectListHeader {
    /// The empty lists that `command` asks for.
    pub fn for_command(command: &ReadDefectData) -> Self {
        Self { primary: command.primary, grown: command.grown, format: command.format }
    }

    /// The bytes: 4, or 8 for READ DEFECT DATA(12).
    pub fn encode(&self, twelve: bool) -> Vec<u8> {
        let mut out = vec![0; if twelve { 8 } else { 4 }];
        out[1] = u8::from(self.primary) << 4 | u8::from(self.grown) << 3 | self.format & 7;
        out
    }

    /// Reads the header: it and the bytes of descriptors that follow. `None` when it is cut.
    pub fn decode(data: &[u8], twelve: bool) -> Option<(Self, u32)> {
        let flags = *data.get(1)?;
        let length = if twelve { be32(data, 4)? } else { be16(data, 2)?.into() };
        let header = Self { primary: flags & 0x10 != 0, grown: flags & 8 != 0, format: flags & 7 };
        Some((header, length))
    }
}

/// What the parameter list of FORMAT UNIT asks for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FormatParameters {
    /// IMMED: GOOD is sent before it is done.
    pub immediate: bool,
    /// The initialization pattern to fill the medium with; `None` leaves the choice to the device server.
    pub pattern: Option<Vec<u8>>,
}

impl FormatParameters {
    /// Reads the list that goes with `command`; without FMTDATA there is none.
    ///
    /// # Errors
    /// 05/1A/00 when it is cut; 05/26/00 pointing to what is not supported: protection, a defect list, security
    /// initialization, a pattern longer than a block of `block_length` bytes.
    pub fn parse(command: &FormatUnit, data: &[u8], block_length: u32) -> Result<Self, SenseData> {
        if !command.format_data {
            return Ok(Self::default());
        }
        let too_short = SenseData::parameter_list_length_error();
        let invalid = |byte, bit| Err(SenseData::invalid_field_in_parameter_list(byte, Some(bit)));
        let header = if command.long_list { 8 } else { 4 };
        let (first, flags) = match data {
            [first, flags, ..] if data.len() >= header => (*first, *flags),
            _ => return Err(too_short),
        };
        if first & 0x07 != 0 {
            return invalid(0, 2);
        }
        // FOV, DPRY, DCRT, STPF, IP, IMMED. Without defects, the four options mean nothing and may be set.
        if flags & 0x80 == 0 && flags & 0x78 != 0 {
            return invalid(1, 7);
        }
        if flags & 0x05 != 0 {
            return invalid(1, if flags & 0x04 != 0 { 2 } else { 0 });
        }
        let (defects, at) = if command.long_list {
            if data[3] != 0 {
                return invalid(3, 7);
            }
            (be32(data, 4).unwrap_or(0), 4)
        } else {
            (be16(data, 2).unwrap_or(0).into(), 2)
        };
        if defects != 0 {
            return invalid(at, 7);
        }
        let pattern = if flags & 0x08 != 0 { Some(pattern(&data[header..], header, block_length)?) } else { None };
        Ok(Self { immediate: flags & 0x02 != 0, pattern })
    }
}

/// The initialization pattern descriptor at offset `at` of the list.
fn pattern(data: &[u8], at: usize, block_length: u32) -> Result<Vec<u8>, SenseData> {
    let at = at as u16;
    let [modifier, kind, ..] = *data else { return Err(SenseData::parameter_list_length_error()) };
    let length = be16(data, 2).ok_or(SenseData::parameter_list_length_error())?;
    // IP MODIFIER is obsolete, SI is not supported.
    if modifier & 0xe0 != 0 {
        return Err(SenseData::invalid_field_in_parameter_list(at, Some(if modifier & 0xc0 != 0 { 7 } else { 5 })));
    }
    match kind {
        0 if length == 0 => Ok(vec![0]),
        0 => Err(SenseData::invalid_field_in_parameter_list(at + 2, Some(7))),
        1 if length == 0 || u32::from(length) > block_length => {
            Err(SenseData::invalid_field_in_parameter_list(at + 2, Some(7)))
        }
        1 => Ok(data.get(4..4 + usize::from(length)).ok_or(SenseData::parameter_list_length_error())?.to_vec()),
        _ => Err(SenseData::invalid_field_in_parameter_list(at + 1, Some(7))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: FormatUnit =
        FormatUnit { long_list: false, format_data: true, complete_list: false, defect_list_format: 0 };

    #[test]
    fn a_pattern_is_taken() {
        let parsed = FormatParameters::parse(&COMMAND, &[0, 0x8a, 0, 0, 0, 1, 0, 2, 0xaa, 0x55], 512).unwrap();
        assert_eq!(parsed, FormatParameters { immediate: true, pattern: Some(vec![0xaa, 0x55]) });
    }

    #[test]
    fn what_is_not_supported_is_pointed_to() {
        let refuse = |data: &[u8]| FormatParameters::parse(&COMMAND, data, 512).unwrap_err();
        assert_eq!(refuse(&[0, 0, 0]), SenseData::parameter_list_length_error());
        assert_eq!(refuse(&[1, 0, 0, 0]), SenseData::invalid_field_in_parameter_list(0, Some(2)));
        assert_eq!(refuse(&[0, 8, 0, 0]), SenseData::invalid_field_in_parameter_list(1, Some(7)));
        assert_eq!(refuse(&[0, 0, 0, 8]), SenseData::invalid_field_in_parameter_list(2, Some(7)));
        assert_eq!(refuse(&[0, 0x88, 0, 0, 0, 1, 0, 0]), SenseData::invalid_field_in_parameter_list(6, Some(7)));
        assert_eq!(refuse(&[0, 0x88, 0, 0, 0, 1, 0, 4, 1]), SenseData::parameter_list_length_error());
    }

    #[test]
    fn an_empty_defect_list_has_only_a_header() {
        let header = DefectListHeader { primary: true, grown: false, format: 5 };
        assert_eq!(header.encode(false), [0, 0x15, 0, 0]);
        assert_eq!(DefectListHeader::decode(&header.encode(true), true), Some((header, 0)));
    }
}

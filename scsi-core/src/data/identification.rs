//! REPORT and SET IDENTIFYING INFORMATION, REPORT and SET TIMESTAMP.

use crate::bytes_util::be16;
use crate::sense::SenseData;

/// Identifying information of one type.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct IdentifyingInformation {
    /// The bytes; for type 2 UTF-8 text with a NUL at its end.
    pub bytes: Vec<u8>,
}

impl IdentifyingInformation {
    /// Peripheral device identifying information.
    pub const DEVICE: u8 = 0;
    /// Text.
    pub const TEXT: u8 = 2;
    /// The list of supported types.
    pub const SUPPORTED: u8 = 0x7f;
    /// The longest device information.
    pub const MAX_DEVICE: usize = 512;
    /// The longest text, its NUL included.
    pub const MAX_TEXT: usize = 256;

    /// The answer to REPORT IDENTIFYING INFORMATION of types 0 and 2.
    pub fn encode(&self) -> Vec<u8> {
        let length = self.bytes.len().min(0xffff);
        let mut out = vec![0, 0];
        out.extend_from_slice(&(length as u16).to_be_bytes());
        out.extend_from_slice(&self.bytes[..length]);
        out
    }

    /// Reads the answer; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = usize::from(be16(data, 2)?);
        Some(Self { bytes: data.get(4..4 + length)?.to_vec() })
    }

    /// The answer of type 7Fh: the supported types with the longest information of each.
    pub fn encode_supported() -> Vec<u8> {
        let mut out = vec![0, 0, 0, 8];
        for (kind, longest) in [(Self::DEVICE, Self::MAX_DEVICE), (Self::TEXT, Self::MAX_TEXT)] {
            let [high, low] = (longest as u16).to_be_bytes();
            out.extend_from_slice(&[kind << 1, 0, high, low]);
        }
        out
    }

    /// Takes the parameter list of SET IDENTIFYING INFORMATION of type `kind`; an empty list removes what there is.
    ///
    /// # Errors
    /// 05/24/00 pointing to the type when it cannot be set, or to the length when it is too long; 05/26/00 for a text
    /// that is no UTF-8 or has no NUL at its end.
    pub fn parse_set(kind: u8, data: &[u8]) -> Result<Self, SenseData> {
        let longest = match kind {
            Self::DEVICE => Self::MAX_DEVICE,
            Self::TEXT => Self::MAX_TEXT,
            _ => return Err(SenseData::invalid_field_in_cdb(10, Some(7))),
        };
        if data.len() > longest {
            return Err(SenseData::invalid_field_in_cdb(6, Some(7)));
        }
        if kind == Self::TEXT && !data.is_empty() {
            let last = (data.len() - 1) as u16;
            if data.last() != Some(&0) {
                return Err(SenseData::invalid_field_in_parameter_list(last, None));
            }
            if let Err(error) = core::str::from_utf8(data) {
                return Err(SenseData::invalid_field_in_parameter_list(error.valid_up_to() as u16, None));
            }
        }
        Ok(Self { bytes: data.to_vec() })
    }
}

/// Where a timestamp comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampOrigin {
    /// 000b: zero at power on or reset.
    SincePowerOn,
    /// 010b: SET TIMESTAMP.
    Set,
    /// 011b: the device's own clock.
    DeviceClock,
    /// Any other value.
    Other(u8),
}

/// A timestamp: milliseconds since 1970-01-01 00:00 UTC, 48 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Timestamp {
    /// TIMESTAMP ORIGIN.
    pub origin: TimestampOrigin,
    /// TIMESTAMP in milliseconds.
    pub milliseconds: u64,
}

impl Timestamp {
    /// The answer to REPORT TIMESTAMP: 12 bytes.
    pub fn encode(&self) -> Vec<u8> {
        let origin = match self.origin {
            TimestampOrigin::SincePowerOn => 0,
            TimestampOrigin::Set => 2,
            TimestampOrigin::DeviceClock => 3,
            TimestampOrigin::Other(other) => other & 7,
        };
        let [_, _, a, b, c, d, e, f] = self.milliseconds.to_be_bytes();
        vec![0, 10, origin, 0, a, b, c, d, e, f, 0, 0]
    }

    /// Reads the answer; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let &[_, _, origin, _, a, b, c, d, e, f, ..] = data else { return None };
        let origin = match origin & 7 {
            0 => TimestampOrigin::SincePowerOn,
            2 => TimestampOrigin::Set,
            3 => TimestampOrigin::DeviceClock,
            other => TimestampOrigin::Other(other),
        };
        Some(Self { origin, milliseconds: u64::from_be_bytes([0, 0, a, b, c, d, e, f]) })
    }

    /// Takes the parameter list of SET TIMESTAMP: the milliseconds; `None` when the list is empty.
    ///
    /// # Errors
    /// 05/1A/00 when it is neither empty nor 12 bytes.
    pub fn parse_set(data: &[u8]) -> Result<Option<u64>, SenseData> {
        match *data {
            [] => Ok(None),
            [_, _, _, _, a, b, c, d, e, f, _, _, ..] => Ok(Some(u64::from_be_bytes([0, 0, a, b, c, d, e, f]))),
            _ => Err(SenseData::parameter_list_length_error()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip() {
        let stamp = Timestamp { origin: TimestampOrigin::Set, milliseconds: 0x1234_5678_9abc };
        assert_eq!(Timestamp::decode(&stamp.encode()), Some(stamp));
        assert_eq!(Timestamp::parse_set(&stamp.encode()), Ok(Some(stamp.milliseconds)));
        assert_eq!(Timestamp::parse_set(&[0; 11]), Err(SenseData::parameter_list_length_error()));
    }

    #[test]
    fn text_must_end_in_nul_and_be_utf_8() {
        assert!(IdentifyingInformation::parse_set(2, b"disk one\0").is_ok());
        let unended = IdentifyingInformation::parse_set(2, b"disk");
        assert_eq!(unended, Err(SenseData::invalid_field_in_parameter_list(3, None)));
        assert!(IdentifyingInformation::parse_set(2, b"\xff\0").is_err());
        assert_eq!(IdentifyingInformation::parse_set(1, b""), Err(SenseData::invalid_field_in_cdb(10, Some(7))));
        let long = vec![0; 513];
        assert_eq!(IdentifyingInformation::parse_set(0, &long), Err(SenseData::invalid_field_in_cdb(6, Some(7))));
    }

    #[test]
    fn information_round_trips() {
        let information = IdentifyingInformation { bytes: b"a\0".to_vec() };
        assert_eq!(IdentifyingInformation::decode(&information.encode()), Some(information));
        assert_eq!(IdentifyingInformation::encode_supported().len(), 12);
    }
}

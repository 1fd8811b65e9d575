//! Names of logical units as text: 32 hexadecimal digits, upper case going out, either case coming in.
//!
//! For serde: `#[serde(with = "stmf::guid")]`.

use scsi_core::Guid;
use serde::{Deserialize, Deserializer, Serializer, de};

use crate::error::ConfigError;

/// Reads 32 hexadecimal digits, the first of them 6.
///
/// # Errors
/// [`ConfigError::InvalidGuid`].
pub fn parse(text: &str) -> Result<Guid, ConfigError> {
    text.parse().map_err(|_| ConfigError::InvalidGuid(text.to_owned()))
}

/// Writes upper-case digits.
///
/// # Errors
/// Those of the serializer.
pub fn serialize<S: Serializer>(guid: &Guid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&format!("{guid:X}"))
}

/// Reads digits of either case.
///
/// # Errors
/// When the text is not the name of a logical unit, or those of the deserializer.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Guid, D::Error> {
    parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anything_but_32_digits_is_refused_in_comstars_words() {
        for text in ["", "600144f0", "600144f01eb3862c0000494b55cd00010", "x00144f01eb3862c0000494b55cd0001"] {
            let error = parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("{text}: must be 32 hexadecimal digits long"));
        }
        assert!(parse("600144F01EB3862c0000494b55cd0001").is_ok());
    }
}

//! Names of initiators and targets, folded so that equal names are equal text.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

use crate::error::ConfigError;

/// The longest iSCSI name in bytes (RFC 7143 4.2.7.1).
pub const MAX_ISCSI_NAME: usize = 223;

/// The name of a SCSI device or port as groups know it, folded.
///
/// | form | accepted | kept as |
/// |---|---|---|
/// | `iqn.` | up to 223 bytes without white space and control characters | lower case |
/// | `eui.` | 16 hexadecimal digits | prefix lower, digits upper case |
/// | `naa.` | 16 or 32 hexadecimal digits | prefix lower, digits upper case |
/// | `wwn.` | 16 hexadecimal digits | prefix lower, digits upper case |
///
/// RFC 3722 allows letters, digits, `-`, `.` and `:` behind `iqn.`. Initiators with an underscore in their name are common,
/// log in with it, and must have a place in a group: what a login takes is taken here.
///
/// Letters beyond ASCII are letters too (RFC 3722 allows them) and go to lower case; the transport has normalised
/// what came over the wire.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DeviceName(String);

impl DeviceName {
    /// Reads and folds `text`.
    ///
    /// # Errors
    /// [`ConfigError::UnrecognizedDevice`] when it has none of the four forms.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        fold(text).map(Self).ok_or_else(|| ConfigError::UnrecognizedDevice(text.to_owned()))
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Folds a name as [`DeviceName`] says; `None` when it has none of its forms.
pub(crate) fn fold(text: &str) -> Option<String> {
    let prefix = text.get(..4)?.to_ascii_lowercase();
    let rest = &text[4..];
    let digits = |lengths: &[usize]| {
        let valid = lengths.contains(&rest.len()) && rest.bytes().all(|digit| digit.is_ascii_hexdigit());
        valid.then(|| format!("{prefix}{}", rest.to_ascii_uppercase()))
    };
    match prefix.as_str() {
        "iqn." => {
            let valid = |c: char| !c.is_control() && !c.is_whitespace();
            if rest.is_empty() || !rest.chars().all(valid) {
                return None;
            }
            let folded = text.to_lowercase();
            (folded.len() <= MAX_ISCSI_NAME).then_some(folded)
        }
        "eui." | "wwn." => digits(&[16]),
        "naa." => digits(&[16, 32]),
        _ => None,
    }
}

impl FromStr for DeviceName {
    type Err = ConfigError;

    fn from_str(text: &str) -> Result<Self, ConfigError> {
        Self::parse(text)
    }
}

impl TryFrom<String> for DeviceName {
    type Error = ConfigError;

    fn try_from(text: String) -> Result<Self, ConfigError> {
        Self::parse(&text)
    }
}

impl From<DeviceName> for String {
    fn from(name: DeviceName) -> Self {
        name.0
    }
}

impl std::borrow::Borrow<str> for DeviceName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn iqn_goes_to_lower_case_and_hexadecimal_to_upper() {
        for (given, kept) in [
            ("IQN.1998-01.com.VMware:ESX1", "iqn.1998-01.com.vmware:esx1"),
            ("iqn.1991-05.com.microsoft:MY_HOST", "iqn.1991-05.com.microsoft:my_host"),
            ("wwn.210000e08b100163", "wwn.210000E08B100163"),
            ("EUI.02004567a425678d", "eui.02004567A425678D"),
            ("naa.52004567ba64678d", "naa.52004567BA64678D"),
            ("naa.62004567ba64678d0123456789abcdef", "naa.62004567BA64678D0123456789ABCDEF"),
        ] {
            assert_eq!(DeviceName::parse(given).unwrap().as_str(), kept);
        }
    }

    #[test]
    fn other_forms_are_unrecognized() {
        for text in [
            "",
            "iqn.",
            "iqn.2001-04.com example",
            "iqn.2001-04.com.example:a\u{7}b",
            "21:00:00:e0:8b:10:01:63",
            "210000e08b100163",
            "wwn.210000e08b10016",
            "eui.02004567a425678g",
            "naa.1234",
            "äöü.x",
        ] {
            let error = DeviceName::parse(text).unwrap_err();
            assert_eq!(error.to_string(), format!("{text}: unrecognized device id"));
        }
    }

    #[test]
    fn an_iscsi_name_ends_at_223_bytes() {
        let longest = format!("iqn.{}", "a".repeat(219));
        assert!(DeviceName::parse(&longest).is_ok());
        assert!(DeviceName::parse(&format!("{longest}a")).is_err());
    }
}

//! iSCSI names.

use std::borrow::Borrow;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize};

/// An iSCSI node name in its folded form: `iqn.` in lower case, `eui.` and `naa.` with upper case digits.
///
/// Two spellings of one name are equal after folding, so a name typed by an administrator matches the name an
/// initiator logs in with whatever the case. RFC 7143 4.2.7; RFC 3722 folds to lower case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct IscsiName(String);

impl IscsiName {
    /// Most bytes of an iSCSI name (RFC 7143 4.2.7.1).
    pub const MAX_BYTES: usize = 223;
    /// Fewest bytes of an `iqn.` name: type, date, a dot and one character of a naming authority.
    const MIN_IQN_BYTES: usize = 13;
    /// The naming authority of generated target names.
    const GENERATED_PREFIX: &str = "iqn.2026-11.org.lunette:02:";

    /// Reads a name and folds it.
    ///
    /// # Errors
    /// [`NameError::Type`], if it begins with none of `iqn.`, `eui.`, `naa.`; [`NameError::Form`], if it is ill formed
    /// behind that.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let kind = text.get(..4).map(str::to_ascii_lowercase).unwrap_or_default();
        let rest = text.get(4..).unwrap_or_default();
        let hex = |lengths: &[usize]| lengths.contains(&rest.len()) && rest.bytes().all(|b| b.is_ascii_hexdigit());
        match kind.as_str() {
            "iqn." if is_iqn(text) => Ok(Self(text.to_ascii_lowercase())),
            "eui." if hex(&[16]) => Ok(Self(format!("eui.{}", rest.to_ascii_uppercase()))),
            "naa." if hex(&[16, 32]) => Ok(Self(format!("naa.{}", rest.to_ascii_uppercase()))),
            "iqn." | "eui." | "naa." => Err(NameError::Form),
            _ => Err(NameError::Type),
        }
    }

    /// Reads the name of an initiator and folds it. As [`parse`](Self::parse), but `iqn.` may be followed by anything but
    /// white space and control characters: initiators with an underscore in their name, or without a date, are common; they
    /// log in with it, and must have a place among the entries.
    ///
    /// # Errors
    /// As [`parse`](Self::parse).
    pub fn parse_initiator(text: &str) -> Result<Self, NameError> {
        let is_iqn = text.get(..4).is_some_and(|kind| kind.eq_ignore_ascii_case("iqn."));
        if !is_iqn {
            return Self::parse(text);
        }
        let folded = text.to_lowercase();
        let visible = folded.chars().all(|c| !c.is_control() && !c.is_whitespace());
        if visible && folded.len() > 4 && text.len() <= Self::MAX_BYTES && folded.len() <= Self::MAX_BYTES {
            Ok(Self(folded))
        } else {
            Err(NameError::Form)
        }
    }

    /// Makes a new target name, `iqn.2026-11.org.lunette:02:<uuid>`, from 16 random bytes (a version 4 UUID).
    pub fn generate(mut random: [u8; 16]) -> Self {
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut name = String::from(Self::GENERATED_PREFIX);
        for (i, byte) in random.iter().enumerate() {
            if matches!(i, 4 | 6 | 8 | 10) {
                name.push('-');
            }
            name.push_str(&format!("{byte:02x}"));
        }
        Self(name)
    }

    /// The folded name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text is no iSCSI name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// It begins with none of the known types.
    #[error("the name begins with none of iqn., eui. and naa.")]
    Type,
    /// Its type is known, what follows is not of that type's form.
    #[error("the name is not of its type's form")]
    Form,
}

/// `iqn.yyyy-mm.` and a naming authority, of letters, digits, `-`, `.` and `:`.
fn is_iqn(text: &str) -> bool {
    let bytes = text.as_bytes();
    let digits = |range: std::ops::Range<usize>| bytes[range].iter().all(u8::is_ascii_digit);
    bytes.len() >= IscsiName::MIN_IQN_BYTES
        && bytes.len() <= IscsiName::MAX_BYTES
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':'))
        && digits(4..8)
        && bytes[8] == b'-'
        && digits(9..11)
        && matches!(&bytes[9..11], [b'0', b'1'..=b'9'] | [b'1', b'0'..=b'2'])
        && bytes[11] == b'.'
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.0)
    }
}

impl Borrow<str> for IscsiName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for IscsiName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for IscsiName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // Either kind of node; a target's name was looked at more closely before it was kept.
        Self::parse_initiator(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folded(text: &str) -> Result<String, NameError> {
        IscsiName::parse(text).map(|name| name.to_string())
    }

    #[test]
    fn names_fold_to_one_spelling() {
        assert_eq!(folded("IQN.1998-01.com.VMware:ESX1").unwrap(), "iqn.1998-01.com.vmware:esx1");
        assert_eq!(folded("EUI.02004567a425678d").unwrap(), "eui.02004567A425678D");
        assert_eq!(folded("naa.52004567ba64678d").unwrap(), "naa.52004567BA64678D");
    }

    #[test]
    fn unknown_types_and_ill_formed_names_differ() {
        for text in ["", "target1", "wwn.2100001B320EFD58", "iqn", "ïqn.2001-04.com.example"] {
            assert_eq!(folded(text), Err(NameError::Type), "{text:?}");
        }
        for text in [
            "iqn.2001-04",
            "iqn.2001-04.",
            "iqn.2001-13.com.example",
            "iqn.2001-00.com.example",
            "iqn.20x1-04.com.example",
            "iqn.2001-04.com.example:a b",
            "iqn.2001-04.com.example:a_b",
            "eui.0200",
            "eui.0200456zA425678D",
            "naa.5200",
        ] {
            assert_eq!(folded(text), Err(NameError::Form), "{text:?}");
        }
    }

    #[test]
    fn an_initiator_is_called_what_it_logs_in_with() {
        let folded = |text| IscsiName::parse_initiator(text).map(|name| name.to_string());
        assert_eq!(folded("iqn.1991-05.com.microsoft:MY_HOST").unwrap(), "iqn.1991-05.com.microsoft:my_host");
        for name in ["iqn.anything", "iqn.2001-04.com.example:ä", "IQN.1998-01.com.VMware:ESX1", "eui.02004567a425678d"]
        {
            let wire = iscsi_proto::name::IscsiName::from_wire(name).unwrap();
            assert_eq!(folded(name).unwrap(), wire.as_str());
        }
        for name in ["iqn.", "iqn.a b", "iqn.a\tb", "naa.1"] {
            assert!(folded(name).is_err() && iscsi_proto::name::IscsiName::from_wire(name).is_err(), "{name}");
        }
        assert_eq!(folded("esx1"), Err(NameError::Type));
    }

    #[test]
    fn the_longest_name_has_223_bytes() {
        let prefix = "iqn.2001-04.com.example:";
        let name = |bytes: usize| format!("{prefix}{}", "x".repeat(bytes - prefix.len()));
        assert!(folded(&name(223)).is_ok());
        assert_eq!(folded(&name(224)), Err(NameError::Form));
    }

    #[test]
    fn generated_names_are_valid_version_4_uuids() {
        let name = IscsiName::generate([0xff; 16]);
        assert_eq!(name.as_str(), "iqn.2026-11.org.lunette:02:ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(IscsiName::parse(name.as_str()).unwrap(), name);
    }
}

//! iSCSI names: `iqn.`, `eui.` and `naa.` (RFC 7143 4.2.7).

use core::fmt;
use core::str::FromStr;

use thiserror::Error;

/// Longest iSCSI name, in bytes.
pub const MAX_NAME_LEN: usize = 223;

/// Why a text is not an iSCSI name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not one of the three types.
    #[error("an iSCSI name begins with iqn., eui. or naa.")]
    UnknownType,
    /// More than [`MAX_NAME_LEN`] bytes.
    #[error("an iSCSI name has at most 223 bytes, this one {0}")]
    TooLong(usize),
    /// Nothing after the type.
    #[error("nothing follows the type of the name")]
    Empty,
    /// A character that the type does not allow.
    #[error("character {0:?} is not allowed in an iSCSI name")]
    Character(char),
    /// `eui.` takes 16 hexadecimal digits, `naa.` 16 or 32.
    #[error("{0} digits: eui. takes 16 hexadecimal digits, naa. 16 or 32")]
    Digits(usize),
}

/// The name of an iSCSI node, folded so that equal names are equal bytes: `iqn.` in lower case, the digits of `eui.`
/// and `naa.` in upper case.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct IscsiName(Box<str>);

impl IscsiName {
    /// Checks and folds a name as an administrator writes it: after `iqn.` letters, digits, `-`, `.` and `:`.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn new(name: &str) -> Result<Self, NameError> {
        Self::fold(name, |c| c.is_alphanumeric() || matches!(c, '-' | '.' | ':'))
    }

    /// Folds a name as a peer sends it. As [`IscsiName::new`], but `iqn.` names may have any visible character:
    /// initiators with an underscore in their name are common, and refusing them would help nobody.
    ///
    /// # Errors
    /// See [`NameError`].
    pub fn from_wire(name: &str) -> Result<Self, NameError> {
        Self::fold(name, |c| !c.is_control() && !c.is_whitespace())
    }

    /// The folded text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn fold(name: &str, allowed: impl Fn(char) -> bool) -> Result<Self, NameError> {
        if name.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong(name.len()));
        }
        let (kind, rest) = name.split_at_checked(4).ok_or(NameError::UnknownType)?;
        let kind = kind.to_ascii_lowercase();
        let digits: &[usize] = match kind.as_str() {
            "iqn." => &[],
            "eui." => &[16],
            "naa." => &[16, 32],
            _ => return Err(NameError::UnknownType),
        };
        if rest.is_empty() {
            return Err(NameError::Empty);
        }
        let rest = if digits.is_empty() {
            if let Some(character) = rest.chars().find(|&c| !allowed(c)) {
                return Err(NameError::Character(character));
            }
            rest.to_lowercase()
        } else {
            if let Some(character) = rest.chars().find(|c| !c.is_ascii_hexdigit()) {
                return Err(NameError::Character(character));
            }
            if !digits.contains(&rest.len()) {
                return Err(NameError::Digits(rest.len()));
            }
            rest.to_ascii_uppercase()
        };
        let folded = kind + &rest;
        // Lower case can be longer than upper case outside ASCII.
        if folded.len() > MAX_NAME_LEN {
            return Err(NameError::TooLong(folded.len()));
        }
        Ok(Self(folded.into()))
    }
}

impl FromStr for IscsiName {
    type Err = NameError;

    fn from_str(name: &str) -> Result<Self, NameError> {
        Self::new(name)
    }
}

impl AsRef<str> for IscsiName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for IscsiName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_by_their_type() {
        assert_eq!(IscsiName::new("iqn.1998-01.com.VMware:Host-1").unwrap().as_str(), "iqn.1998-01.com.vmware:host-1");
        assert_eq!(IscsiName::new("eui.02004567a425678d").unwrap().as_str(), "eui.02004567A425678D");
        assert_eq!(IscsiName::new("NAA.52004567ba64678d").unwrap().as_str(), "naa.52004567BA64678D");
    }

    #[test]
    fn the_length_limit_is_223() {
        let longest = format!("iqn.{}", "a".repeat(219));
        assert!(IscsiName::new(&longest).is_ok());
        assert_eq!(IscsiName::new(&(longest + "a")), Err(NameError::TooLong(224)));
    }

    #[test]
    fn wrong_names_say_what_is_wrong() {
        assert_eq!(IscsiName::new("wwn.210000e08b01f7e2"), Err(NameError::UnknownType));
        assert_eq!(IscsiName::new("iqn."), Err(NameError::Empty));
        assert_eq!(IscsiName::new("iqn.a b"), Err(NameError::Character(' ')));
        assert_eq!(IscsiName::new("eui.0200"), Err(NameError::Digits(4)));
        assert_eq!(IscsiName::new("naa.5200456xba64678d"), Err(NameError::Character('x')));
        assert_eq!(IscsiName::new("i"), Err(NameError::UnknownType));
    }

    #[test]
    fn a_peer_may_have_an_underscore_in_its_name() {
        assert_eq!(IscsiName::new("iqn.x:my_host"), Err(NameError::Character('_')));
        assert_eq!(IscsiName::from_wire("iqn.x:my_host").unwrap().as_str(), "iqn.x:my_host");
    }
}

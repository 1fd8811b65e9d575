//! Secrets that do not show themselves.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

/// What stands for a secret wherever one might be printed.
const REDACTED: &str = "<redacted>";

/// A CHAP or RADIUS secret: 12 to 255 bytes, wiped from memory when dropped.
///
/// `Debug`, `Display` and `Serialize` write a placeholder; only [`expose`](Self::expose) gives the bytes. Whoever
/// stores or exports secrets on purpose therefore has to say so.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Fewest bytes of a secret.
    pub const MIN_BYTES: usize = 12;
    /// Most bytes of a secret.
    pub const MAX_BYTES: usize = 255;

    /// Takes a secret of 12 to 255 bytes.
    ///
    /// # Errors
    /// [`SecretError`], if it is shorter or longer.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let bytes = Zeroizing::new(bytes.into());
        match bytes.len() {
            n if n < Self::MIN_BYTES => Err(SecretError::TooShort),
            n if n > Self::MAX_BYTES => Err(SecretError::TooLong),
            _ => Ok(Self(bytes)),
        }
    }

    /// The bytes themselves.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

/// Why bytes are no secret. The words are those of the property errors of `itadm`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Fewer than 12 bytes.
    #[error("secret too short")]
    TooShort,
    /// More than 255 bytes.
    #[error("secret too long")]
    TooLong,
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        constant_time_eq(&self.0, &other.0)
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(REDACTED)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // A redacted dump read back must not make the placeholder everybody's password.
        if text == REDACTED {
            return Err(serde::de::Error::custom("the secret was redacted when this was written"));
        }
        Self::new(text).map_err(serde::de::Error::custom)
    }
}

/// Compares without telling by its duration where the difference is; only the lengths show.
fn constant_time_eq(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len() && left.iter().zip(right).fold(0u8, |acc, (l, r)| acc | (l ^ r)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_never_prints_itself() {
        let secret = Secret::new("correct horse battery").unwrap();
        assert_eq!(format!("{secret} {secret:?}"), "<redacted> <redacted>");
    }

    #[test]
    fn lengths_outside_12_to_255_are_refused() {
        assert_eq!(Secret::new("elevenbytes").unwrap_err(), SecretError::TooShort);
        assert_eq!(Secret::new(vec![b'x'; 256]).unwrap_err(), SecretError::TooLong);
        assert!(Secret::new("twelve bytes").is_ok() && Secret::new(vec![b'x'; 255]).is_ok());
    }

    #[test]
    fn equality_sees_every_byte() {
        let secret = |last: &str| Secret::new(format!("twelve byte{last}")).unwrap();
        assert_eq!(secret("s"), secret("s"));
        assert_ne!(secret("s"), secret("t"));
        assert_ne!(secret("s"), secret("ss"));
    }
}

//! The name of a logical unit: sixteen bytes of NAA type 6.

use core::fmt;
use core::str::FromStr;

/// A logical unit's world-wide name: NAA "IEEE Registered Extended", 16 bytes, the first nibble always 6.
///
/// Printed as 32 hexadecimal digits, `{}` and `{:x}` lower case, `{:X}` upper case; parsing takes either case. Order
/// is the order of the bytes. (SPC-5, NAA IEEE Registered Extended designator format.)
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Guid([u8; 16]);

/// What stands in the six bytes that tell hosts apart in a generated [`Guid`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuidHost {
    /// The MAC address of the host's first interface.
    Mac([u8; 6]),
    /// A 32-bit host id, for hosts without a usable MAC address or when an administrator gives one.
    HostId(u32),
}

/// Why a text or byte string is no [`Guid`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GuidError {
    /// Configuration: the length is wrong.
    #[error("a GUID has 32 hexadecimal digits, got {0}")]
    Length(usize),
    /// Configuration: a character is no hexadecimal digit.
    #[error("{0:?} is no hexadecimal digit")]
    Digit(char),
    /// Configuration: the name is of another NAA type.
    #[error("a GUID begins with the digit 6 (NAA type 6), got {0:x}")]
    NotNaa6(u8),
}

impl Guid {
    /// The company id used unless an administrator gives another: 00144Fh.
    pub const DEFAULT_OUI: u32 = 0x00_144f;

    /// Takes sixteen bytes as a GUID.
    ///
    /// # Errors
    /// [`GuidError::NotNaa6`] unless the first nibble is 6.
    pub const fn from_bytes(bytes: [u8; 16]) -> Result<Self, GuidError> {
        if bytes[0] >> 4 != 6 {
            return Err(GuidError::NotNaa6(bytes[0] >> 4));
        }
        Ok(Self(bytes))
    }

    /// Makes a name out of what makes it unique: the 24-bit company id (higher bits are dropped), the host, the time
    /// in Unix seconds, and a counter that the caller raises for every name it makes in one second.
    ///
    /// With the default company id the digits begin `600144f0`.
    pub const fn generate(oui: u32, host: GuidHost, unix_seconds: u32, counter: u16) -> Self {
        let [_, a, b, c] = oui.to_be_bytes();
        let host = match host {
            GuidHost::Mac(mac) => mac,
            GuidHost::HostId(id) => {
                let [a, b, c, d] = id.to_be_bytes();
                [a, b, c, d, 0, 0]
            }
        };
        let time = unix_seconds.to_be_bytes();
        let counter = counter.to_be_bytes();
        Self([
            0x60 | a >> 4,
            a << 4 | b >> 4,
            b << 4 | c >> 4,
            c << 4,
            host[0],
            host[1],
            host[2],
            host[3],
            host[4],
            host[5],
            time[0],
            time[1],
            time[2],
            time[3],
            counter[0],
            counter[1],
        ])
    }

    /// The sixteen bytes.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The 24-bit company id.
    pub const fn oui(&self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        (u32::from_be_bytes([a, b, c, d]) >> 4) & 0xff_ffff
    }
}

impl fmt::LowerHex for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::UpperHex for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02X}"))
    }
}

impl fmt::Display for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(self, f)
    }
}

impl fmt::Debug for Guid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guid({self})")
    }
}

impl FromStr for Guid {
    type Err = GuidError;

    fn from_str(text: &str) -> Result<Self, GuidError> {
        if let Some(other) = text.chars().find(|c| !c.is_ascii_hexdigit()) {
            return Err(GuidError::Digit(other));
        }
        if text.len() != 32 {
            return Err(GuidError::Length(text.len()));
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let digit = |c: u8| char::from(c).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(pair[0]) << 4 | digit(pair[1]);
        }
        Self::from_bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_id_gives_the_classic_form() {
        let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(0x1eb3_862c), 0x494b_55cd, 1);
        assert_eq!(guid.to_string(), "600144f01eb3862c0000494b55cd0001");
        assert_eq!(format!("{guid:X}"), "600144F01EB3862C0000494B55CD0001");
        assert_eq!(guid.oui(), Guid::DEFAULT_OUI);
    }

    #[test]
    fn either_case_parses_to_the_same_name() {
        let lower: Guid = "600144f07ed404000000496813070001".parse().unwrap();
        let upper: Guid = "600144F07ED404000000496813070001".parse().unwrap();
        assert_eq!(lower, upper);
    }

    #[test]
    fn what_is_no_naa_6_is_refused() {
        assert_eq!("500144f07ed404000000496813070001".parse::<Guid>(), Err(GuidError::NotNaa6(5)));
        assert_eq!("600144f0".parse::<Guid>(), Err(GuidError::Length(8)));
        assert_eq!("600144f07ed40400000049681307000g".parse::<Guid>(), Err(GuidError::Digit('g')));
    }
}

//! Logical unit numbers in their eight bytes (SAM-5, Logical unit numbers).

use core::fmt;

/// An eight-byte logical unit number field, as carried by every transport.
///
/// The number inside is 14 bits wide for single-level LUNs (0..=16383); [`Lun::number`] decodes the peripheral device
/// (00b, bus 0) and flat space (01b) addressing methods. Anything else is kept byte for byte and has no number.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lun(pub [u8; 8]);

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self([0; 8]);
    /// The largest single-level number.
    pub const MAX_NUMBER: u16 = 0x3fff;

    /// Encodes `number`: peripheral device addressing up to 255, flat space addressing above.
    ///
    /// Returns `None` above [`Lun::MAX_NUMBER`].
    pub const fn new(number: u16) -> Option<Self> {
        let method = match number {
            0..=0xff => 0x00,
            0x100..=Self::MAX_NUMBER => 0x40,
            _ => return None,
        };
        Some(Self([method | (number >> 8) as u8, number as u8, 0, 0, 0, 0, 0, 0]))
    }

    /// The number of a single-level LUN, `None` for any other addressing.
    pub const fn number(self) -> Option<u16> {
        let [high, low, rest @ ..] = self.0;
        if !matches!(rest, [0, 0, 0, 0, 0, 0]) {
            return None;
        }
        match high >> 6 {
            0b00 if high == 0 => Some(low as u16),
            0b01 => Some((((high & 0x3f) as u16) << 8) | low as u16),
            _ => None,
        }
    }
}

impl From<[u8; 8]> for Lun {
    fn from(bytes: [u8; 8]) -> Self {
        Self(bytes)
    }
}

impl fmt::Display for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.number() {
            Some(number) => write!(f, "{number}"),
            None => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

impl fmt::Debug for Lun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lun({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_above_255_use_flat_space_addressing() {
        assert_eq!(Lun::new(255).unwrap().0[..2], [0x00, 0xff]);
        assert_eq!(Lun::new(256).unwrap().0[..2], [0x41, 0x00]);
        assert_eq!(Lun::new(16384), None);
    }

    #[test]
    fn both_addressing_methods_decode_to_the_same_number() {
        assert_eq!(Lun([0x40, 5, 0, 0, 0, 0, 0, 0]).number(), Some(5));
        assert_eq!(Lun([0x00, 5, 0, 0, 0, 0, 0, 0]).number(), Some(5));
        assert_eq!(Lun([0xc1, 1, 0, 0, 0, 0, 0, 0]).number(), None);
    }
}

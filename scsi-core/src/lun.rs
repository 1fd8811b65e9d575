//! Logical unit numbers in their eight bytes (SAM-5, Logical unit numbers).

use core::fmt;

/// An eight-byte logical unit number field, as carried by every transport.
///
/// The number inside is 14 bits wide for single-level LUNs (0..=16383); [`Lun::number`] decodes the peripheral device
/// (00b, bus 0) and flat space (01b) addressing methods, and the extended flat space method (11b) as far as the number
/// fits. Anything else is kept byte for byte and has no number. Two fields that name the same number by different
/// methods are not equal: compare [`Lun::number`], or [`Lun::canonical`] forms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Lun(pub [u8; 8]);

/// How the first two bytes of a LUN are to be read (SAM-5, LUN overview: ADDRESS METHOD field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AddressMethod {
    /// 00b: bus identifier and target or LUN.
    PeripheralDevice,
    /// 01b: a 14-bit number.
    FlatSpace,
    /// 10b: bus, target and LUN of a subordinate level.
    LogicalUnit,
    /// 11b: EXTENDED ADDRESS METHOD and LENGTH say more.
    Extended,
}

impl Lun {
    /// LUN 0.
    pub const ZERO: Self = Self([0; 8]);
    /// The largest single-level number.
    pub const MAX_NUMBER: u16 = 0x3fff;
    /// The well known logical unit REPORT LUNS.
    pub const REPORT_LUNS_WELL_KNOWN: Self = Self([0xc1, 0x01, 0, 0, 0, 0, 0, 0]);

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

    /// Encodes `number` by the flat space method whatever its size; `None` above [`Lun::MAX_NUMBER`].
    pub const fn flat(number: u16) -> Option<Self> {
        if number > Self::MAX_NUMBER {
            return None;
        }
        Some(Self([0x40 | (number >> 8) as u8, number as u8, 0, 0, 0, 0, 0, 0]))
    }

    /// Encodes a 24-bit `number` by the extended flat space method (four bytes); `None` above `0xff_ffff`.
    pub const fn extended_flat(number: u32) -> Option<Self> {
        if number > 0xff_ffff {
            return None;
        }
        let [_, a, b, c] = number.to_be_bytes();
        Some(Self([0xd2, a, b, c, 0, 0, 0, 0]))
    }

    /// Encodes the well known logical unit `w_lun` (01h REPORT LUNS, 02h ACCESS CONTROLS, 03h TARGET LOG PAGES ...).
    pub const fn well_known(w_lun: u8) -> Self {
        Self([0xc1, w_lun, 0, 0, 0, 0, 0, 0])
    }

    /// The addressing method of the first level.
    pub const fn address_method(self) -> AddressMethod {
        match self.0[0] >> 6 {
            0 => AddressMethod::PeripheralDevice,
            1 => AddressMethod::FlatSpace,
            2 => AddressMethod::LogicalUnit,
            _ => AddressMethod::Extended,
        }
    }

    /// The number of a single-level LUN, `None` for any other addressing.
    pub const fn number(self) -> Option<u16> {
        let [high, low, r2, r3, rest @ ..] = self.0;
        if !matches!(rest, [0, 0, 0, 0]) {
            return None;
        }
        let plain = r2 == 0 && r3 == 0;
        match high >> 6 {
            0b00 if high == 0 && plain => Some(low as u16),
            0b01 if plain => Some((((high & 0x3f) as u16) << 8) | low as u16),
            0b11 if high == 0xd2 && low == 0 && r2 <= 0x3f => Some(((r2 as u16) << 8) | r3 as u16),
            _ => None,
        }
    }

    /// Which well known logical unit this names, `None` if it names none.
    pub const fn well_known_number(self) -> Option<u8> {
        match self.0 {
            [0xc1, w_lun, 0, 0, 0, 0, 0, 0] => Some(w_lun),
            _ => None,
        }
    }

    /// The same LUN in the form [`Lun::new`] gives, so that fields of different methods compare equal.
    ///
    /// A LUN without a number stays as it is.
    pub const fn canonical(self) -> Self {
        match self.number() {
            Some(number) => match Self::new(number) {
                Some(lun) => lun,
                None => self,
            },
            None => self,
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

    #[test]
    fn every_number_round_trips_through_each_method() {
        for number in 0..=Lun::MAX_NUMBER {
            assert_eq!(Lun::new(number).unwrap().number(), Some(number));
            let flat = Lun::flat(number).unwrap();
            assert_eq!(flat.number(), Some(number));
            assert_eq!(flat.canonical(), Lun::new(number).unwrap());
            assert_eq!(Lun::extended_flat(number.into()).unwrap().number(), Some(number));
        }
        assert_eq!(Lun::extended_flat(0x4000).unwrap().number(), None);
        assert_eq!(Lun::extended_flat(0x100_0000), None);
    }

    #[test]
    fn a_well_known_lun_has_no_number() {
        assert_eq!(Lun::REPORT_LUNS_WELL_KNOWN.well_known_number(), Some(1));
        assert_eq!(Lun::REPORT_LUNS_WELL_KNOWN.number(), None);
        assert_eq!(Lun::well_known(1), Lun::REPORT_LUNS_WELL_KNOWN);
        assert_eq!(Lun::REPORT_LUNS_WELL_KNOWN.address_method(), AddressMethod::Extended);
    }

    #[test]
    fn a_second_level_has_no_number() {
        assert_eq!(Lun([0, 1, 0, 2, 0, 0, 0, 0]).number(), None);
        assert_eq!(Lun([0x40, 1, 0, 0, 0, 0, 0, 1]).number(), None);
    }
}

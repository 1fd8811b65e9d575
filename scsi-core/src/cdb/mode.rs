//! MODE SENSE and MODE SELECT.

use super::Cdb;
use super::fields::{Image, be16, bit, bits, blank, finish};
use crate::command::CommandKind;

/// Which values of a mode page are asked for (PC field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum PageControl {
    /// 00b: those in effect.
    #[default]
    Current,
    /// 01b: a mask of what MODE SELECT can change.
    Changeable,
    /// 10b: those after manufacture.
    Default,
    /// 11b: those kept over a power loss.
    Saved,
}

/// MODE SENSE(6) or (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ModeSense {
    /// The ten-byte form, with its longer header.
    pub ten: bool,
    /// LLBAA: long block descriptors are accepted; (10) only.
    pub long_lba_accepted: bool,
    /// DBD: no block descriptors wanted.
    pub disable_block_descriptors: bool,
    /// PC.
    pub page_control: PageControl,
    /// PAGE CODE, six bits; 3Fh all pages.
    pub page_code: u8,
    /// SUBPAGE CODE; FFh all subpages.
    pub subpage_code: u8,
    /// ALLOCATION LENGTH in bytes.
    pub allocation_length: u16,
}

/// MODE SELECT(6) or (10).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ModeSelect {
    /// The ten-byte form, with its longer header.
    pub ten: bool,
    /// PF: the parameters are pages as SPC has them.
    pub page_format: bool,
    /// SP: the pages are to be saved.
    pub save_pages: bool,
    /// PARAMETER LIST LENGTH in bytes; 0 changes nothing.
    pub parameter_list_length: u16,
}

impl PageControl {
    /// The page control of a two-bit field.
    pub const fn from_bits(bits: u8) -> Self {
        match bits & 3 {
            0 => Self::Current,
            1 => Self::Changeable,
            2 => Self::Default,
            _ => Self::Saved,
        }
    }

    /// The two-bit field.
    pub const fn bits(self) -> u8 {
        match self {
            Self::Current => 0,
            Self::Changeable => 1,
            Self::Default => 2,
            Self::Saved => 3,
        }
    }
}

impl ModeSense {
    pub(crate) fn from_image(cdb: &Image, ten: bool) -> Self {
        Self {
            ten,
            long_lba_accepted: ten && bit::get(cdb, (1, 4)),
            disable_block_descriptors: bit::get(cdb, (1, 3)),
            page_control: PageControl::from_bits(cdb[2] >> 6),
            page_code: cdb[2] & 0x3f,
            subpage_code: cdb[3],
            allocation_length: if ten { be16::get(cdb, 7) } else { cdb[4].into() },
        }
    }

    /// The CDB; an allocation length that the six-byte form has no room for becomes 255.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(if self.ten { CommandKind::ModeSense10 } else { CommandKind::ModeSense6 });
        bit::put(&mut cdb, (1, 3), self.disable_block_descriptors);
        bits::put(&mut cdb, (2, 6, 2), self.page_control.bits());
        bits::put(&mut cdb, (2, 0, 6), self.page_code);
        cdb[3] = self.subpage_code;
        if self.ten {
            bit::put(&mut cdb, (1, 4), self.long_lba_accepted);
            be16::put(&mut cdb, 7, self.allocation_length);
        } else {
            cdb[4] = self.allocation_length.min(255) as u8;
        }
        finish(&cdb, entry)
    }
}

impl ModeSelect {
    pub(crate) fn from_image(cdb: &Image, ten: bool) -> Self {
        Self {
            ten,
            page_format: bit::get(cdb, (1, 4)),
            save_pages: bit::get(cdb, (1, 0)),
            parameter_list_length: if ten { be16::get(cdb, 7) } else { cdb[4].into() },
        }
    }

    /// The CDB; a list longer than 255 bytes needs the ten-byte form, else its length is cut.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(if self.ten { CommandKind::ModeSelect10 } else { CommandKind::ModeSelect6 });
        bit::put(&mut cdb, (1, 4), self.page_format);
        bit::put(&mut cdb, (1, 0), self.save_pages);
        if self.ten {
            be16::put(&mut cdb, 7, self.parameter_list_length);
        } else {
            cdb[4] = self.parameter_list_length.min(255) as u8;
        }
        finish(&cdb, entry)
    }
}

//! FORMAT UNIT, SANITIZE and READ DEFECT DATA.

use super::Cdb;
use super::fields::{Image, be16, be32, bit, bits, blank, cdb_struct, finish};
use crate::command::CommandKind;

cdb_struct! {
    /// FORMAT UNIT.
    pub struct FormatUnit (FormatUnit) {
        /// LONGLIST: the parameter list header has eight bytes instead of four.
        long_list: bool = bit((1, 5)),
        /// FMTDATA: a parameter list is sent.
        format_data: bool = bit((1, 4)),
        /// CMPLST: the defect list sent is complete.
        complete_list: bool = bit((1, 3)),
        /// DEFECT LIST FORMAT.
        defect_list_format: u8 = bits((1, 0, 3)),
    }
}

/// Which SANITIZE (service action).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SanitizeService {
    /// 01h: write a pattern over everything.
    #[default]
    Overwrite,
    /// 02h: erase the blocks by the means of the medium.
    BlockErase,
    /// 03h: forget the key.
    CryptographicErase,
    /// 1Fh: leave the state that a failed SANITIZE left behind.
    ExitFailureMode,
}

/// SANITIZE.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Sanitize {
    /// The service action.
    pub service: SanitizeService,
    /// GOOD is sent before it is done.
    pub immediate: bool,
    /// ZNR: zones are not to be reset.
    pub zoned_no_reset: bool,
    /// AUSE: EXIT FAILURE MODE will be allowed after a failure.
    pub allow_unrestricted_exit: bool,
    /// PARAMETER LIST LENGTH in bytes; nonzero for OVERWRITE alone.
    pub parameter_list_length: u16,
}

impl SanitizeService {
    /// The command of the table.
    pub const fn kind(self) -> CommandKind {
        match self {
            Self::Overwrite => CommandKind::SanitizeOverwrite,
            Self::BlockErase => CommandKind::SanitizeBlockErase,
            Self::CryptographicErase => CommandKind::SanitizeCryptoErase,
            Self::ExitFailureMode => CommandKind::SanitizeExitFailureMode,
        }
    }
}

impl Sanitize {
    pub(crate) fn from_image(cdb: &Image, service: SanitizeService) -> Self {
        Self {
            service,
            immediate: bit::get(cdb, (1, 7)),
            zoned_no_reset: bit::get(cdb, (1, 6)),
            allow_unrestricted_exit: bit::get(cdb, (1, 5)),
            parameter_list_length: be16::get(cdb, 7),
        }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(self.service.kind());
        bit::put(&mut cdb, (1, 7), self.immediate);
        bit::put(&mut cdb, (1, 6), self.zoned_no_reset);
        bit::put(&mut cdb, (1, 5), self.allow_unrestricted_exit);
        be16::put(&mut cdb, 7, self.parameter_list_length);
        finish(&cdb, entry)
    }
}

/// READ DEFECT DATA(10) or (12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadDefectData {
    /// The twelve-byte form, with its longer header.
    pub twelve: bool,
    /// REQ_PLIST: the primary defect list.
    pub primary: bool,
    /// REQ_GLIST: the grown defect list.
    pub grown: bool,
    /// DEFECT LIST FORMAT.
    pub format: u8,
    /// ADDRESS DESCRIPTOR INDEX, (12) only.
    pub index: u32,
    /// ALLOCATION LENGTH in bytes.
    pub allocation_length: u32,
}

impl ReadDefectData {
    pub(crate) fn from_image(cdb: &Image, twelve: bool) -> Self {
        let flags = if twelve { cdb[1] } else { cdb[2] };
        Self {
            twelve,
            primary: flags & 0x10 != 0,
            grown: flags & 0x08 != 0,
            format: flags & 7,
            index: if twelve { be32::get(cdb, 2) } else { 0 },
            allocation_length: if twelve { be32::get(cdb, 6) } else { be16::get(cdb, 7).into() },
        }
    }

    /// The CDB; an allocation length that the ten-byte form has no room for becomes 65535.
    pub fn to_cdb(&self) -> Cdb {
        let kind = if self.twelve { CommandKind::ReadDefectData12 } else { CommandKind::ReadDefectData10 };
        let (mut cdb, entry) = blank(kind);
        let at = if self.twelve { 1 } else { 2 };
        bit::put(&mut cdb, (at, 4), self.primary);
        bit::put(&mut cdb, (at, 3), self.grown);
        bits::put(&mut cdb, (at, 0, 3), self.format);
        if self.twelve {
            be32::put(&mut cdb, 2, self.index);
            be32::put(&mut cdb, 6, self.allocation_length);
        } else {
            be16::put(&mut cdb, 7, self.allocation_length.min(0xffff) as u16);
        }
        finish(&cdb, entry)
    }
}

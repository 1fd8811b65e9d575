//! Commands: the table, the check of a CDB against it, and the parsed form.
//!
//! [`parse`] turns the bytes of a CDB into a [`Command`], or into the sense data of the answer. The device server says
//! with a [`CommandSet`] which commands it supports; REPORT SUPPORTED OPERATION CODES is made of the same table and set,
//! so that the two cannot disagree.

mod fields;
mod markdown;
mod parsed;
mod set;
mod table;

use bitflags::bitflags;

pub use self::fields::{Field, Place, Values, When};
pub use self::markdown::render_markdown;
pub use self::parsed::{Command, ParsedCommand, parse};
pub use self::set::CommandSet;
pub use self::table::{COMMANDS, CommandEntry, CommandKind, entries_of, find};
use crate::bytes_util::{be16, be32};

bitflags! {
    /// When a command is carried out.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct CommandFlags: u16 {
        /// A pending unit attention does not stop it (INQUIRY, REPORT LUNS, REQUEST SENSE).
        const PASSES_UNIT_ATTENTION = 1 << 0;
        /// It needs a medium that is there and started.
        const NEEDS_MEDIUM = 1 << 1;
        /// Carried out in ALUA state standby.
        const STANDBY = 1 << 2;
        /// Carried out in ALUA state unavailable.
        const UNAVAILABLE = 1 << 3;
        /// Carried out in ALUA state transitioning.
        const TRANSITIONING = 1 << 4;
        /// Carried out while a FORMAT UNIT is under way.
        const FORMATTING = 1 << 5;
        /// Carried out while a SANITIZE is under way or has failed. TEST UNIT READY is, and tells so.
        const SANITIZING = 1 << 6;
        /// It writes to the medium: refused with 07/27/00 when write-protected.
        const CHANGES_DATA = 1 << 7;
        /// Carried out while another I_T nexus holds a reservation made with RESERVE.
        const ALLOWED_UNDER_RESERVE = 1 << 8;
        /// Known by name, never supported: the table is what tells the reason to whoever reads it.
        const REFUSED = 1 << 9;
    }
}

/// What reservations held by other I_T nexuses do with a command (SPC-5 and SBC-4, "allowed in the presence of various
/// reservations").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReservationClass {
    /// Always allowed.
    Allowed,
    /// Reads: conflicts with exclusive access types.
    Read,
    /// Writes or changes the device: conflicts with write exclusive and exclusive access types.
    Write,
    /// START STOP UNIT: allowed when it only starts, else as [`ReservationClass::Write`].
    StartStop,
    /// PREVENT ALLOW MEDIUM REMOVAL: allowed when it allows, else as [`ReservationClass::Write`].
    PreventAllow,
    /// RESERVE: by the rules of SPC-2.
    Reserve,
    /// RELEASE: by the rules of SPC-2.
    Release,
    /// PERSISTENT RESERVE IN: always allowed but under a RESERVE of another.
    PersistentReserveIn,
    /// PERSISTENT RESERVE OUT: by the rules of the service action.
    PersistentReserveOut,
}

/// Which way data goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataDirection {
    /// No data.
    None,
    /// From the device server to the application client.
    In,
    /// From the application client to the device server.
    Out,
}

/// How the data of a command follows from its CDB: where the length field stands and what it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DataShape {
    /// No data.
    None,
    /// In, at most the bytes of ALLOCATION LENGTH.
    AllocationLength {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// Out, the bytes of PARAMETER LIST LENGTH.
    ParameterList {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// In, a fixed number of bytes.
    FixedIn(u8),
    /// In, the logical blocks of TRANSFER LENGTH; with a one-byte field zero means 256.
    BlocksIn {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// Out, the logical blocks of TRANSFER LENGTH; with a one-byte field zero means 256.
    BlocksOut {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// Out, twice the logical blocks: those to compare, then those to write.
    BlocksOutTwice {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// Out by BYTCHK: none, the logical blocks to compare, or one of them.
    ByteCheck {
        /// Offset of the field in the CDB.
        at: u8,
        /// Width of the field in bytes.
        width: u8,
    },
    /// Out, one logical block; none with NDOB.
    OneBlockOut,
    /// Out when FMTDATA is set: a header of 4 or (LONGLIST) 8 bytes, which tells what follows.
    FormatUnit,
}

/// The data a CDB announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DataPhase {
    /// Which way.
    pub direction: DataDirection,
    /// How many bytes: in, at most; out, exactly (for FORMAT UNIT at least).
    pub length: u64,
}

impl DataPhase {
    /// No data.
    pub const NONE: Self = Self { direction: DataDirection::None, length: 0 };

    const fn new(direction: DataDirection, length: u64) -> Self {
        if length == 0 { Self::NONE } else { Self { direction, length } }
    }
}

impl DataShape {
    /// Which way data may go, whatever the CDB says.
    pub const fn direction(self) -> DataDirection {
        match self {
            Self::None => DataDirection::None,
            Self::AllocationLength { .. } | Self::FixedIn(_) | Self::BlocksIn { .. } => DataDirection::In,
            _ => DataDirection::Out,
        }
    }

    /// The data that `cdb` announces, for logical blocks of `block_size` bytes.
    pub fn phase(self, cdb: &[u8], block_size: u32) -> DataPhase {
        let blocks = |at: u8, width: u8| field(cdb, at, width) * u64::from(block_size);
        let out = |length| DataPhase::new(DataDirection::Out, length);
        let input = |length| DataPhase::new(DataDirection::In, length);
        let flags = cdb.get(1).copied().unwrap_or(0);
        match self {
            Self::None => DataPhase::NONE,
            Self::AllocationLength { at, width } => input(field(cdb, at, width)),
            Self::ParameterList { at, width } => out(field(cdb, at, width)),
            Self::FixedIn(length) => input(length.into()),
            Self::BlocksIn { at, width: 1 } => input(or_256(field(cdb, at, 1)) * u64::from(block_size)),
            Self::BlocksOut { at, width: 1 } => out(or_256(field(cdb, at, 1)) * u64::from(block_size)),
            Self::BlocksIn { at, width } => input(blocks(at, width)),
            Self::BlocksOut { at, width } => out(blocks(at, width)),
            Self::BlocksOutTwice { at, width } => out(2 * blocks(at, width)),
            Self::ByteCheck { at, width } => match flags >> 1 & 3 {
                1 => out(blocks(at, width)),
                3 if blocks(at, width) > 0 => out(block_size.into()),
                _ => DataPhase::NONE,
            },
            // NDOB is defined for WRITE SAME(16) alone.
            Self::OneBlockOut if cdb.first() == Some(&0x93) && flags & 1 != 0 => DataPhase::NONE,
            Self::OneBlockOut => out(block_size.into()),
            Self::FormatUnit if flags & 0x10 == 0 => DataPhase::NONE,
            Self::FormatUnit => out(if flags & 0x20 == 0 { 4 } else { 8 }),
        }
    }
}

fn or_256(length: u64) -> u64 {
    if length == 0 { 256 } else { length }
}

fn field(cdb: &[u8], at: u8, width: u8) -> u64 {
    let at = usize::from(at);
    match width {
        1 => cdb.get(at).copied().map(u64::from),
        2 => be16(cdb, at).map(u64::from),
        _ => be32(cdb, at).map(u64::from),
    }
    .unwrap_or(0)
}

impl CommandEntry {
    /// The CDB usage data of the command: as many bytes as the CDB has, operation code and service action as they are,
    /// elsewhere a one for each bit the device server looks at.
    ///
    /// `naca` tells whether the NACA bit of CONTROL is looked at (NORMACA).
    pub fn usage_data(&self, naca: bool) -> Vec<u8> {
        let mut bytes = self.mask(naca).to_be_bytes()[..usize::from(self.cdb_length)].to_vec();
        bytes[0] = self.opcode;
        if let Some(action) = self.service_action {
            bytes[1] = bytes[1] & 0xe0 | action;
        }
        bytes
    }

    /// As [`usage_data`](Self::usage_data), the bits that are let pass and not looked at.
    pub fn tolerated_data(&self) -> Vec<u8> {
        self.tolerated.to_be_bytes()[..usize::from(self.cdb_length)].to_vec()
    }

    /// The bits that may be set, tolerated ones left out, operation code and service action included.
    fn mask(&self, naca: bool) -> u128 {
        let first = 0xffu128 << 120;
        let action = if self.service_action.is_some() { 0x1fu128 << 112 } else { 0 };
        let control = if naca { 4u128 << (8 * (16 - u32::from(self.cdb_length))) } else { 0 };
        self.usage | first | action | control
    }

    /// The first bit of `cdb` (in a 16-byte image) that is set and must not be: byte and bit.
    pub(crate) fn reserved_bit(&self, cdb: u128, naca: bool) -> Option<(u16, u8)> {
        // What stands behind the CDB in a transport's field is not part of it.
        let all = u128::MAX << (8 * (16 - u32::from(self.cdb_length)));
        let wrong = cdb & all & !(self.mask(naca) | self.tolerated);
        if wrong == 0 {
            return None;
        }
        let at = wrong.leading_zeros();
        Some(((at / 8) as u16, 7 - (at % 8) as u8))
    }
}

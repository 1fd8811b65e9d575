//! Fields of a CDB, described once and used in both directions.

use crate::cdb::Cdb;
use crate::command::{CommandEntry, CommandKind};

/// A CDB in a 16-byte image, what is behind it zero.
pub(crate) type Image = [u8; 16];

/// An image with operation code and service action of `kind`, all else zero.
pub(crate) fn blank(kind: CommandKind) -> (Image, &'static CommandEntry) {
    let entry = kind.entry();
    let mut image = [0; 16];
    image[0] = entry.opcode;
    if let Some(action) = entry.service_action {
        image[1] = action;
    }
    (image, entry)
}

/// The CDB of an image.
pub(crate) fn finish(image: &Image, entry: &CommandEntry) -> Cdb {
    Cdb::from_image(image, entry.cdb_length)
}

macro_rules! integer_field {
    ($name:ident, $ty:ty, $width:literal) => {
        pub(crate) mod $name {
            use super::Image;

            pub(crate) fn get(cdb: &Image, at: usize) -> $ty {
                let mut bytes = [0; $width];
                bytes.copy_from_slice(&cdb[at..at + $width]);
                <$ty>::from_be_bytes(bytes)
            }

            pub(crate) fn put(cdb: &mut Image, at: usize, value: $ty) {
                cdb[at..at + $width].copy_from_slice(&value.to_be_bytes());
            }
        }
    };
}

integer_field!(be8, u8, 1);
integer_field!(be16, u16, 2);
integer_field!(be32, u32, 4);
integer_field!(be64, u64, 8);

/// One bit.
pub(crate) mod bit {
    use super::Image;

    pub(crate) fn get(cdb: &Image, (at, bit): (usize, u8)) -> bool {
        cdb[at] >> bit & 1 != 0
    }

    pub(crate) fn put(cdb: &mut Image, (at, bit): (usize, u8), value: bool) {
        cdb[at] = cdb[at] & !(1 << bit) | u8::from(value) << bit;
    }
}

/// Bits of one byte: where, the lowest bit, how many.
pub(crate) mod bits {
    use super::Image;

    pub(crate) fn get(cdb: &Image, (at, low, count): (usize, u8, u8)) -> u8 {
        cdb[at] >> low & ((1u16 << count) - 1) as u8
    }

    pub(crate) fn put(cdb: &mut Image, (at, low, count): (usize, u8, u8), value: u8) {
        let mask = ((1u16 << count) - 1) as u8;
        cdb[at] = cdb[at] & !(mask << low) | (value & mask) << low;
    }
}

/// Declares the struct of one command with its fields' places.
macro_rules! cdb_struct {
    (
        $(#[$doc:meta])*
        pub struct $name:ident ($kind:ident) {
            $($(#[$field_doc:meta])* $field:ident: $ty:ty = $how:ident($place:expr),)*
        }
    ) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $name {
            pub(crate) fn from_image(cdb: &$crate::cdb::fields::Image) -> Self {
                Self { $($field: $crate::cdb::fields::$how::get(cdb, $place),)* }
            }

            /// The CDB; bits a field has no room for are cut.
            pub fn to_cdb(&self) -> $crate::cdb::Cdb {
                let (mut cdb, entry) = $crate::cdb::fields::blank($crate::command::CommandKind::$kind);
                $($crate::cdb::fields::$how::put(&mut cdb, $place, self.$field);)*
                $crate::cdb::fields::finish(&cdb, entry)
            }
        }
    };
}

pub(crate) use cdb_struct;

/// Where LBA and number of blocks stand in the commands that come in several lengths.
pub(crate) fn block_range(cdb: &Image, length: u8) -> (u64, u32) {
    match length {
        6 => {
            let lba = be32::get(cdb, 0) & 0x1f_ffff;
            let blocks = if cdb[4] == 0 { 256 } else { u32::from(cdb[4]) };
            (lba.into(), blocks)
        }
        10 => (be32::get(cdb, 2).into(), be16::get(cdb, 7).into()),
        12 => (be32::get(cdb, 2).into(), be32::get(cdb, 6)),
        _ => (be64::get(cdb, 2), be32::get(cdb, 10)),
    }
}

/// Writes LBA and number of blocks; `None` when the form has no room for them.
pub(crate) fn put_block_range(cdb: &mut Image, length: u8, lba: u64, blocks: u32) -> Option<()> {
    match length {
        6 => {
            if lba > 0x1f_ffff || blocks == 0 || blocks > 256 {
                return None;
            }
            let [_, high, middle, low] = (lba as u32).to_be_bytes();
            cdb[1..4].copy_from_slice(&[high, middle, low]);
            cdb[4] = blocks as u8;
        }
        10 => {
            be32::put(cdb, 2, lba.try_into().ok()?);
            be16::put(cdb, 7, blocks.try_into().ok()?);
        }
        12 => {
            be32::put(cdb, 2, lba.try_into().ok()?);
            be32::put(cdb, 6, blocks);
        }
        _ => {
            be64::put(cdb, 2, lba);
            be32::put(cdb, 10, blocks);
        }
    }
    Some(())
}

//! Commands that move logical blocks: READ, WRITE, WRITE AND VERIFY, VERIFY, COMPARE AND WRITE, ORWRITE, WRITE ATOMIC.

use super::Cdb;
use super::fields::{Image, be16, be64, bit, bits, blank, block_range, finish, put_block_range};
use crate::command::CommandKind;
use crate::sense::SenseData;

const DPO: (usize, u8) = (1, 4);
const FUA: (usize, u8) = (1, 3);
/// Obsolete; who asks for non-volatile memory gets the medium.
const FUA_NV: (usize, u8) = (1, 1);
const BYTCHK: (usize, u8, u8) = (1, 1, 2);

/// READ(6), (10), (12) or (16) (SBC-4, READ commands).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Read {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 transfers nothing.
    pub blocks: u32,
    /// Disable page out: the blocks need not stay in a cache.
    pub dpo: bool,
    /// Force unit access: read from the medium, or after what is cached reached it.
    pub fua: bool,
}

/// WRITE(6), (10), (12) or (16) (SBC-4, WRITE commands).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Write {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 transfers nothing.
    pub blocks: u32,
    /// Disable page out: the blocks need not stay in a cache.
    pub dpo: bool,
    /// Force unit access: on stable storage before GOOD.
    pub fua: bool,
}

/// What VERIFY and WRITE AND VERIFY compare (BYTCHK field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ByteCheck {
    /// 00b: nothing is sent to compare; the blocks must be readable.
    #[default]
    None,
    /// 01b: byte by byte with the data sent.
    Compare,
    /// 11b: each block with the one block sent.
    CompareOneBlock,
}

/// WRITE AND VERIFY(10), (12) or (16): stable on the medium before GOOD.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct WriteAndVerify {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 transfers nothing.
    pub blocks: u32,
    /// Disable page out.
    pub dpo: bool,
    /// Whether the medium is compared with the data sent; never [`ByteCheck::CompareOneBlock`].
    pub byte_check: ByteCheck,
}

/// VERIFY(10), (12) or (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Verify {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 verifies nothing.
    pub blocks: u32,
    /// Disable page out.
    pub dpo: bool,
    /// What to compare with.
    pub byte_check: ByteCheck,
}

/// COMPARE AND WRITE: atomic against every other write of the blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CompareAndWrite {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks, each sent twice; 0 compares and writes nothing.
    pub blocks: u8,
    /// Disable page out.
    pub dpo: bool,
    /// Force unit access.
    pub fua: bool,
}

/// ORWRITE(16), set operation: each block becomes the bitwise or of itself and the data sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct OrWrite {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 transfers nothing.
    pub blocks: u32,
    /// Disable page out.
    pub dpo: bool,
    /// Force unit access.
    pub fua: bool,
}

/// WRITE ATOMIC(16): all of an atomic boundary's blocks or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct WriteAtomic {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 transfers nothing.
    pub blocks: u16,
    /// ATOMIC BOUNDARY: logical blocks of each atomic write; 0 makes the whole command one.
    pub atomic_boundary: u16,
    /// Disable page out.
    pub dpo: bool,
    /// Force unit access.
    pub fua: bool,
}

fn fua(cdb: &Image, length: u8) -> bool {
    length != 6 && (bit::get(cdb, FUA) || bit::get(cdb, FUA_NV))
}

fn dpo(cdb: &Image, length: u8) -> bool {
    length != 6 && bit::get(cdb, DPO)
}

fn start(kinds: [CommandKind; 3], length: u8) -> Option<(Image, &'static crate::command::CommandEntry)> {
    let [ten, twelve, sixteen] = kinds;
    match length {
        10 => Some(blank(ten)),
        12 => Some(blank(twelve)),
        16 => Some(blank(sixteen)),
        _ => None,
    }
}

impl Read {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Self {
        let (lba, blocks) = block_range(cdb, length);
        Self { lba, blocks, dpo: dpo(cdb, length), fua: fua(cdb, length) }
    }

    /// The CDB of `length` 6, 10, 12 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let (mut cdb, entry) = match length {
            6 if self.dpo || self.fua => return None,
            6 => blank(CommandKind::Read6),
            _ => start([CommandKind::Read10, CommandKind::Read12, CommandKind::Read16], length)?,
        };
        put_block_range(&mut cdb, length, self.lba, self.blocks)?;
        if length != 6 {
            bit::put(&mut cdb, DPO, self.dpo);
            bit::put(&mut cdb, FUA, self.fua);
        }
        Some(finish(&cdb, entry))
    }
}

impl Write {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Self {
        let (lba, blocks) = block_range(cdb, length);
        Self { lba, blocks, dpo: dpo(cdb, length), fua: fua(cdb, length) }
    }

    /// The CDB of `length` 6, 10, 12 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let (mut cdb, entry) = match length {
            6 if self.dpo || self.fua => return None,
            6 => blank(CommandKind::Write6),
            _ => start([CommandKind::Write10, CommandKind::Write12, CommandKind::Write16], length)?,
        };
        put_block_range(&mut cdb, length, self.lba, self.blocks)?;
        if length != 6 {
            bit::put(&mut cdb, DPO, self.dpo);
            bit::put(&mut cdb, FUA, self.fua);
        }
        Some(finish(&cdb, entry))
    }
}

impl ByteCheck {
    fn from_image(cdb: &Image) -> Result<Self, SenseData> {
        match bits::get(cdb, BYTCHK) {
            0 => Ok(Self::None),
            1 => Ok(Self::Compare),
            3 => Ok(Self::CompareOneBlock),
            _ => Err(SenseData::invalid_field_in_cdb(1, Some(2))),
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Compare => 1,
            Self::CompareOneBlock => 3,
        }
    }
}

impl WriteAndVerify {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Result<Self, SenseData> {
        let (lba, blocks) = block_range(cdb, length);
        let byte_check = ByteCheck::from_image(cdb)?;
        if byte_check == ByteCheck::CompareOneBlock {
            return Err(SenseData::invalid_field_in_cdb(1, Some(2)));
        }
        Ok(Self { lba, blocks, dpo: dpo(cdb, length), byte_check })
    }

    /// The CDB of `length` 10, 12 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let kinds = [CommandKind::WriteAndVerify10, CommandKind::WriteAndVerify12, CommandKind::WriteAndVerify16];
        let (mut cdb, entry) = start(kinds, length)?;
        put_block_range(&mut cdb, length, self.lba, self.blocks)?;
        bit::put(&mut cdb, DPO, self.dpo);
        bits::put(&mut cdb, BYTCHK, self.byte_check.code());
        Some(finish(&cdb, entry))
    }
}

impl Verify {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Result<Self, SenseData> {
        let (lba, blocks) = block_range(cdb, length);
        Ok(Self { lba, blocks, dpo: dpo(cdb, length), byte_check: ByteCheck::from_image(cdb)? })
    }

    /// The CDB of `length` 10, 12 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let kinds = [CommandKind::Verify10, CommandKind::Verify12, CommandKind::Verify16];
        let (mut cdb, entry) = start(kinds, length)?;
        put_block_range(&mut cdb, length, self.lba, self.blocks)?;
        bit::put(&mut cdb, DPO, self.dpo);
        bits::put(&mut cdb, BYTCHK, self.byte_check.code());
        Some(finish(&cdb, entry))
    }
}

impl CompareAndWrite {
    pub(crate) fn from_image(cdb: &Image) -> Self {
        Self { lba: be64::get(cdb, 2), blocks: cdb[13], dpo: dpo(cdb, 16), fua: fua(cdb, 16) }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(CommandKind::CompareAndWrite);
        be64::put(&mut cdb, 2, self.lba);
        cdb[13] = self.blocks;
        bit::put(&mut cdb, DPO, self.dpo);
        bit::put(&mut cdb, FUA, self.fua);
        finish(&cdb, entry)
    }
}

impl OrWrite {
    pub(crate) fn from_image(cdb: &Image) -> Self {
        let (lba, blocks) = block_range(cdb, 16);
        Self { lba, blocks, dpo: dpo(cdb, 16), fua: fua(cdb, 16) }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(CommandKind::OrWrite16);
        put_block_range(&mut cdb, 16, self.lba, self.blocks);
        bit::put(&mut cdb, DPO, self.dpo);
        bit::put(&mut cdb, FUA, self.fua);
        finish(&cdb, entry)
    }
}

impl WriteAtomic {
    pub(crate) fn from_image(cdb: &Image) -> Self {
        Self {
            lba: be64::get(cdb, 2),
            blocks: be16::get(cdb, 12),
            atomic_boundary: be16::get(cdb, 10),
            dpo: dpo(cdb, 16),
            fua: bit::get(cdb, FUA),
        }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(CommandKind::WriteAtomic16);
        be64::put(&mut cdb, 2, self.lba);
        be16::put(&mut cdb, 10, self.atomic_boundary);
        be16::put(&mut cdb, 12, self.blocks);
        bit::put(&mut cdb, DPO, self.dpo);
        bit::put(&mut cdb, FUA, self.fua);
        finish(&cdb, entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn read_6_counts_zero_as_256() {
        let read = Read { lba: 0x12_3456, blocks: 256, ..Read::default() };
        let cdb = read.to_cdb(6).unwrap();
        assert_eq!(cdb.as_bytes(), [0x08, 0x12, 0x34, 0x56, 0, 0]);
        assert_eq!(Read::from_image(&cdb.to_array(), 6), read);
        assert_eq!(Read { blocks: 0, ..read }.to_cdb(6), None);
    }

    #[test]
    fn read_10_has_no_room_beyond_32_bits() {
        assert_eq!(Read { lba: 1 << 32, blocks: 1, ..Read::default() }.to_cdb(10), None);
        assert!(Read { lba: 1 << 32, blocks: 1, ..Read::default() }.to_cdb(16).is_some());
    }

    #[test]
    fn write_atomic_has_its_length_behind_the_boundary() {
        let write = WriteAtomic { lba: 5, blocks: 8, atomic_boundary: 4, fua: true, dpo: false };
        assert_eq!(write.to_cdb().as_bytes(), [0x9c, 8, 0, 0, 0, 0, 0, 0, 0, 5, 0, 4, 0, 8, 0, 0]);
    }
}

//! SYNCHRONIZE CACHE and PRE-FETCH.

use super::Cdb;
use super::fields::{Image, bit, blank, block_range, finish, put_block_range};
use crate::command::CommandKind;

const IMMED: (usize, u8) = (1, 1);

/// SYNCHRONIZE CACHE(10) or (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct SynchronizeCache {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 means all from `lba` on.
    pub blocks: u32,
    /// GOOD is sent before it is done.
    pub immediate: bool,
}

/// PRE-FETCH(10) or (16).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PreFetch {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 means all from `lba` on.
    pub blocks: u32,
    /// The status is sent before it is done.
    pub immediate: bool,
}

impl SynchronizeCache {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Self {
        let (lba, blocks) = block_range(cdb, length);
        Self { lba, blocks, immediate: bit::get(cdb, IMMED) }
    }

    /// The CDB of `length` 10 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let kinds = (CommandKind::SynchronizeCache10, CommandKind::SynchronizeCache16);
        encode(kinds, length, self.lba, self.blocks, self.immediate)
    }
}

impl PreFetch {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Self {
        let (lba, blocks) = block_range(cdb, length);
        Self { lba, blocks, immediate: bit::get(cdb, IMMED) }
    }

    /// The CDB of `length` 10 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        encode((CommandKind::PreFetch10, CommandKind::PreFetch16), length, self.lba, self.blocks, self.immediate)
    }
}

fn encode(kinds: (CommandKind, CommandKind), length: u8, lba: u64, blocks: u32, immediate: bool) -> Option<Cdb> {
    let (mut cdb, entry) = match length {
        10 => blank(kinds.0),
        16 => blank(kinds.1),
        _ => return None,
    };
    put_block_range(&mut cdb, length, lba, blocks)?;
    bit::put(&mut cdb, IMMED, immediate);
    Some(finish(&cdb, entry))
}

//! UNMAP, WRITE SAME and GET LBA STATUS.

use super::Cdb;
use super::fields::{Image, bit, blank, block_range, cdb_struct, finish, put_block_range};
use crate::command::CommandKind;

cdb_struct! {
    /// UNMAP; the ranges are in the parameter list.
    pub struct Unmap (Unmap) {
        /// PARAMETER LIST LENGTH in bytes; 0 unmaps nothing.
        parameter_list_length: u16 = be16(7),
    }
}

cdb_struct! {
    /// GET LBA STATUS(16) (report type 0).
    pub struct GetLbaStatus (GetLbaStatus) {
        /// STARTING LOGICAL BLOCK ADDRESS.
        lba: u64 = be64(2),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(10),
    }
}

/// WRITE SAME(10) or (16): one block written to each of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct WriteSame {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks; 0 means all from `lba` on, unless WSNZ of the block limits page forbids it.
    pub blocks: u32,
    /// UNMAP bit: the range may be deallocated when it would then read as the block sent.
    pub unmap: bool,
    /// NDOB bit, (16) only: no block is sent, zeros are written.
    pub no_data_out: bool,
}

impl WriteSame {
    pub(crate) fn from_image(cdb: &Image, length: u8) -> Self {
        let (lba, blocks) = block_range(cdb, length);
        Self { lba, blocks, unmap: bit::get(cdb, (1, 3)), no_data_out: length == 16 && bit::get(cdb, (1, 0)) }
    }

    /// The CDB of `length` 10 or 16 bytes; `None` when the values do not fit, or any other length.
    pub fn to_cdb(&self, length: u8) -> Option<Cdb> {
        let (mut cdb, entry) = match length {
            10 if self.no_data_out => return None,
            10 => blank(CommandKind::WriteSame10),
            16 => blank(CommandKind::WriteSame16),
            _ => return None,
        };
        put_block_range(&mut cdb, length, self.lba, self.blocks)?;
        bit::put(&mut cdb, (1, 3), self.unmap);
        bit::put(&mut cdb, (1, 0), self.no_data_out);
        Some(finish(&cdb, entry))
    }
}

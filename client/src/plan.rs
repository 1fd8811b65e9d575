//! From byte ranges to commands.

use crate::error::Error;
use bytes::Bytes;
use iscsi_proto::initiator::{Command, DataOut};
use scsi_core::cdb::{Cdb, Read, SynchronizeCache, Unmap, Write, WriteSame};
use scsi_core::data::{UnmapList, UnmapRange};
use scsi_core::{Lun, TaskAttribute};

/// What a disk is like, as it told when it was connected to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Geometry {
    /// Bytes of a block.
    pub block_size: u32,
    /// Number of blocks.
    pub blocks: u64,
    /// UNMAP works (LBPME).
    pub can_unmap: bool,
    /// Unmapped blocks read as zeros (LBPRZ).
    pub unmapped_reads_zero: bool,
    /// Most blocks of one read or write.
    pub max_transfer_blocks: u32,
    /// Most blocks of one UNMAP.
    pub max_unmap_blocks: u32,
    /// Most blocks of one WRITE SAME.
    pub max_write_same_blocks: u32,
    /// T10 VENDOR IDENTIFICATION.
    pub vendor: String,
    /// PRODUCT IDENTIFICATION.
    pub product: String,
    /// PRODUCT REVISION LEVEL.
    pub revision: String,
}

impl Geometry {
    /// Size in bytes.
    pub fn capacity(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size.into())
    }
}

/// One thing to do with a disk. Offsets and lengths are bytes, multiples of the block size.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Operation {
    /// Read.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: usize,
    },
    /// Write. The slices are sent as they are, without a copy.
    Write {
        /// First byte.
        offset: u64,
        /// What to write; give a `Vec<u8>` or `Bytes` by `.into()`.
        data: DataOut,
        /// On stable storage before it is done (FUA).
        durable: bool,
    },
    /// Bring everything that was written to stable storage.
    Flush,
    /// Give a range back; it may read as zeros then, see [`Geometry::unmapped_reads_zero`].
    Unmap {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Write one block over and over.
    WriteSame {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// One block.
        block: Bytes,
    },
}

/// Commands, and how many bytes each has to read.
pub(crate) type Plan = Vec<Command>;

/// The commands of an operation, in order.
pub(crate) fn plan(geometry: &Geometry, lun: Lun, operation: Operation) -> Result<Plan, Error> {
    let size = u64::from(geometry.block_size);
    match operation {
        Operation::Read { offset, length } => {
            let pieces = pieces(geometry, offset, length as u64, geometry.max_transfer_blocks)?;
            Ok(pieces
                .map(|(lba, blocks)| Command {
                    data_in_length: blocks * geometry.block_size,
                    ..command(
                        lun,
                        short_or_long(lba, blocks, |length| Read { lba, blocks, ..Read::default() }.to_cdb(length)),
                    )
                })
                .collect())
        }
        Operation::Write { offset, data, durable } => {
            let pieces = pieces(geometry, offset, data.len() as u64, geometry.max_transfer_blocks)?;
            let start = offset / size;
            let mut commands: Plan = pieces
                .map(|(lba, blocks)| {
                    let write = Write { lba, blocks, fua: durable, ..Write::default() };
                    let begin = ((lba - start) * size) as usize;
                    Command {
                        data_out: data.slice(begin, blocks as usize * geometry.block_size as usize),
                        ..command(lun, short_or_long(lba, blocks, |length| write.to_cdb(length)))
                    }
                })
                .collect();
            if let [only] = &mut commands[..] {
                only.data_out = data;
            }
            Ok(commands)
        }
        Operation::Flush => {
            let flush = SynchronizeCache::default();
            Ok(vec![command(lun, flush.to_cdb(10))])
        }
        Operation::Unmap { offset, length } => {
            if !geometry.can_unmap {
                return Err(Error::Unsupported { operation: "UNMAP" });
            }
            let pieces = pieces(geometry, offset, length, geometry.max_unmap_blocks)?;
            Ok(pieces
                .map(|(lba, blocks)| {
                    let list = UnmapList::encode(&[UnmapRange { lba, blocks }]);
                    let unmap = Unmap { parameter_list_length: list.len() as u16 };
                    Command { data_out: list.into(), ..command(lun, Some(unmap.to_cdb())) }
                })
                .collect())
        }
        Operation::WriteSame { offset, length, block } => {
            if block.len() as u64 != size {
                return Err(Error::Length { got: block.len(), expected: size as usize });
            }
            let pieces = pieces(geometry, offset, length, geometry.max_write_same_blocks)?;
            Ok(pieces
                .map(|(lba, blocks)| {
                    let same = WriteSame { lba, blocks, ..WriteSame::default() };
                    Command {
                        data_out: block.clone().into(),
                        ..command(lun, short_or_long(lba, blocks, |length| same.to_cdb(length)))
                    }
                })
                .collect())
        }
    }
}

/// A command with nothing but a LUN and a CDB.
pub(crate) fn command(lun: Lun, cdb: Option<Cdb>) -> Command {
    let cdb = cdb.map(|cdb| cdb.as_bytes().to_vec()).unwrap_or_default();
    Command { lun, cdb, attribute: TaskAttribute::Simple, ..Command::default() }
}

/// The ten-byte form where the values fit; old units have no other.
fn short_or_long(lba: u64, blocks: u32, cdb: impl Fn(u8) -> Option<Cdb>) -> Option<Cdb> {
    let is_short = lba <= u32::MAX.into() && blocks <= u16::MAX.into();
    if is_short { cdb(10) } else { cdb(16) }
}

/// Checks a range and cuts it into runs of at most `most` blocks.
fn pieces(
    geometry: &Geometry,
    offset: u64,
    length: u64,
    most: u32,
) -> Result<impl Iterator<Item = (u64, u32)> + use<>, Error> {
    let size = u64::from(geometry.block_size);
    if !offset.is_multiple_of(size) || !length.is_multiple_of(size) {
        return Err(Error::Unaligned { offset, length, block_size: geometry.block_size });
    }
    let capacity = geometry.capacity();
    if offset.checked_add(length).is_none_or(|end| end > capacity) {
        return Err(Error::OutOfRange { offset, length, capacity });
    }
    let (mut lba, end) = (offset / size, (offset + length) / size);
    let most = most.max(1);
    Ok(std::iter::from_fn(move || {
        let blocks = u32::try_from(end - lba).unwrap_or(u32::MAX).min(most);
        let piece = (blocks > 0).then_some((lba, blocks));
        lba += u64::from(blocks);
        piece
    }))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn geometry() -> Geometry {
        Geometry {
            block_size: 512,
            blocks: 1 << 34,
            can_unmap: true,
            unmapped_reads_zero: true,
            max_transfer_blocks: 2048,
            max_unmap_blocks: 1 << 20,
            max_write_same_blocks: 1 << 20,
            vendor: String::new(),
            product: String::new(),
            revision: String::new(),
        }
    }

    #[test]
    fn a_long_transfer_is_cut_and_keeps_every_byte() {
        let data: Vec<u8> = (0..3 * 1024 * 1024 + 512).map(|i| (i / 512) as u8 ^ i as u8).collect();
        let slices: DataOut = data.chunks(100_000).map(Bytes::copy_from_slice).collect();
        let write = Operation::Write { offset: 512, data: slices, durable: false };
        let commands = plan(&geometry(), Lun::ZERO, write).unwrap();
        assert_eq!(commands.len(), 4);
        let written: Vec<u8> = commands.iter().flat_map(|c| c.data_out.slices().iter().flatten().copied()).collect();
        assert!(written == data);
        assert!(commands.iter().all(|command| command.cdb.len() == 10));
    }

    #[test]
    fn an_address_of_more_than_32_bits_takes_the_long_form() {
        let read = Operation::Read { offset: (1 << 33) * 512, length: 4096 };
        let commands = plan(&geometry(), Lun::ZERO, read).unwrap();
        assert_eq!((commands.len(), commands[0].cdb.len(), commands[0].data_in_length), (1, 16, 4096));
    }

    #[test]
    fn what_cannot_be_is_refused_before_it_is_sent() {
        let refuse = |offset, length| plan(&geometry(), Lun::ZERO, Operation::Read { offset, length }).unwrap_err();
        assert!(matches!(refuse(1, 512), Error::Unaligned { .. }));
        assert!(matches!(refuse(0, 511), Error::Unaligned { .. }));
        assert!(matches!(refuse((1 << 34) * 512, 512), Error::OutOfRange { .. }));
        assert!(matches!(refuse(u64::MAX - 511, 512), Error::OutOfRange { .. }));
        let same = Operation::WriteSame { offset: 0, length: 512, block: Bytes::from_static(b"short") };
        assert!(matches!(plan(&geometry(), Lun::ZERO, same), Err(Error::Length { got: 5, expected: 512 })));
    }

    #[test]
    fn nothing_to_do_is_no_command() {
        assert!(plan(&geometry(), Lun::ZERO, Operation::Read { offset: 512, length: 0 }).unwrap().is_empty());
    }
}

//! Commands that repeat, free and tell what is mapped: WRITE SAME, UNMAP, GET LBA STATUS.

use bytes::Bytes;
use scsi_core::SenseData;
use scsi_core::cdb::{GetLbaStatus, Unmap, WriteSame};
use scsi_core::command::Command;
use scsi_core::data::{LbaStatusDescriptor, LbaStatusList, ProvisioningStatus, UnmapList};
use scsi_core::mutation::{Mutation, is_active};
use smallvec::SmallVec;
use stmf::provider::{Effects, Segments, StoreExtent, StoreOp};

use super::Lu;
use super::gather::concat;
use super::ops::Purpose;
use super::slab::Key;
use super::task::{Repeating, Work};
use super::transfer::{Checked, wrong_data_length};

/// The longest answer to GET LBA STATUS, and the most it looks at, in bytes of the medium.
const MAX_LBA_STATUS_DESCRIPTORS: usize = 256;
const LBA_STATUS_WINDOW_BYTES: u64 = 1 << 30;
/// WRITE SAME goes to the store in pieces of this size, so that it can be aborted between them.
const SAME_PIECE_BYTES: u64 = 64 << 20;
const DEALLOCATE_PIECE_BYTES: u64 = 1 << 30;

/// As many blocks some initiators expect to write with one command when WRITE SAME takes as many.
const PROBED_BLOCKS: u64 = 1 << 16;

impl Lu {
    /// The longest WRITE SAME. Where a plain write of 65536 blocks is too long WRITE SAME stays below that too:
    /// libiscsi's suite, and whoever probes as it does, first writes what it then repeats.
    pub(super) fn max_write_same_bytes(&self) -> u64 {
        let probed = PROBED_BLOCKS << self.block_shift;
        let most = self.limits.max_write_same_bytes;
        if probed > self.limits.max_transfer_bytes.into() { most.min(probed - (1 << self.block_shift)) } else { most }
    }

    pub(super) fn write_same(&mut self, key: Key, command: &WriteSame, fx: &mut Effects) -> Checked {
        let (_, length) = self.range(command.lba, command.blocks.into())?;
        let sixteen = self.tasks.get(key).is_some_and(|task| task.cdb().first() == Some(&0x93));
        let blocks_at = if sixteen { 10 } else { 7 };
        if command.blocks == 0 || length > self.max_write_same_bytes() {
            // WSNZ is set: zero does not mean the rest of the unit.
            return Err(SenseData::invalid_field_in_cdb(blocks_at, Some(7)));
        }
        if command.unmap && self.capabilities.unmap.is_none() {
            return Err(SenseData::invalid_field_in_cdb(1, Some(3)));
        }
        let block = if command.no_data_out { 0 } else { 1 << self.block_shift };
        let sent = self.tasks.get(key).map_or(0, |task| task.data_out_length);
        if sent > block && !command.no_data_out {
            return Err(wrong_data_length());
        }
        self.statistics.writes += 1;
        self.gather(key, Command::WriteSame(*command), block, fx);
        Ok(())
    }

    pub(super) fn received_to_repeat(
        &mut self,
        key: Key,
        command: &WriteSame,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let block = 1 << self.block_shift;
        let mut pattern = concat(data);
        if !command.no_data_out && pattern.len() < block {
            return Err(wrong_data_length());
        }
        let total = pattern.len() as u64;
        if pattern.iter().all(|&byte| byte == 0) {
            pattern = Bytes::new();
        }
        // Only what reads as the pattern afterwards may be deallocated.
        let zeros = self.capabilities.unmap.is_some_and(|unmap| unmap.reads_zero);
        let unmap = command.unmap && pattern.is_empty() && zeros;
        let durable = self.must_flush(false);
        let repeating = Repeating { at: base, end: base + length, pattern, unmap, durable, total };
        self.same_on(key, Box::new(repeating), fx);
        Ok(())
    }

    pub(super) fn same_on(&mut self, key: Key, mut repeating: Box<Repeating>, fx: &mut Effects) {
        if repeating.at == repeating.end {
            let total = repeating.total;
            return if repeating.durable { self.flush_then_finish(key, total, fx) } else { self.good(key, total, fx) };
        }
        let offset = repeating.at;
        let left = repeating.end - offset;
        let (length, op) = if repeating.unmap {
            let length = left.min(DEALLOCATE_PIECE_BYTES);
            (length, StoreOp::Deallocate { ranges: SmallVec::from_iter([(offset, length)]) })
        } else {
            let length = left.min(SAME_PIECE_BYTES);
            let short = is_active(Mutation::SameOneBlockShort) && length > 512;
            (
                length,
                StoreOp::WriteSame {
                    offset,
                    length: length - if short { 512 } else { 0 },
                    pattern: repeating.pattern.clone(),
                    durable: false,
                },
            )
        };
        repeating.at += length;
        self.set(key, Work::Same(repeating));
        self.issue(key, Purpose::Write, op, fx);
    }

    pub(super) fn unmap(&mut self, key: Key, command: &Unmap, fx: &mut Effects) -> Checked {
        let length = u32::from(command.parameter_list_length);
        if length == 0 {
            self.good(key, 0, fx);
        } else {
            self.gather(key, Command::Unmap(*command), length, fx);
        }
        Ok(())
    }

    pub(super) fn received_to_unmap(&mut self, key: Key, data: Segments, fx: &mut Effects) -> Checked {
        let bytes = concat(data);
        let total = bytes.len() as u64;
        let list = UnmapList::parse(&bytes)?;
        // All of it is right, or nothing is done.
        list.check(self.limits.max_unmap_blocks, self.limits.max_unmap_descriptors, self.blocks())?;
        let shift = self.block_shift;
        let ranges: SmallVec<[(u64, u64); 1]> = list
            .ranges()
            .filter(|range| range.blocks > 0)
            .map(|range| {
                (
                    range.lba.saturating_sub(is_active(Mutation::UnmapOneBlockEarly).into()) << shift,
                    u64::from(range.blocks) << shift,
                )
            })
            .collect();
        self.statistics.unmaps += 1;
        if ranges.is_empty() {
            self.good(key, total, fx);
        } else if self.must_flush(false) {
            // Deallocation is not durable by itself.
            let repeating = Repeating { at: 0, end: 0, pattern: Bytes::new(), unmap: true, durable: true, total };
            self.set(key, Work::Same(Box::new(repeating)));
            self.issue(key, Purpose::Write, StoreOp::Deallocate { ranges }, fx);
        } else {
            self.set(key, Work::Finish { total });
            self.issue(key, Purpose::Write, StoreOp::Deallocate { ranges }, fx);
        }
        Ok(())
    }

    pub(super) fn get_lba_status(&mut self, key: Key, command: &GetLbaStatus, fx: &mut Effects) -> Checked {
        let (base, _) = self.range(command.lba, 1)?;
        let length = (self.size() - base).min(LBA_STATUS_WINDOW_BYTES);
        let room = LbaStatusList::room(command.allocation_length);
        if self.capabilities.extents {
            let limit = room.min(MAX_LBA_STATUS_DESCRIPTORS);
            self.issue(key, Purpose::Extents, StoreOp::Extents { offset: base, length, limit }, fx);
        } else {
            // Nothing is known: everything is mapped, as far as one descriptor reaches.
            let length = (self.size() - base).min(u64::from(u32::MAX) << self.block_shift);
            self.lba_status(key, &[StoreExtent { offset: base, length, mapped: true }], fx);
        }
        Ok(())
    }

    /// Answers GET LBA STATUS. A block that is mapped in part is mapped.
    pub(super) fn lba_status(&mut self, key: Key, extents: &[StoreExtent], fx: &mut Effects) {
        let block = 1u64 << self.block_shift;
        let mut list = LbaStatusList::default();
        let mut next = extents.first().map_or(0, |extent| extent.offset / block);
        for extent in extents {
            let end = extent.offset + extent.length;
            let end = if extent.mapped { end.div_ceil(block) } else { end / block };
            let status = if extent.mapped { ProvisioningStatus::Mapped } else { ProvisioningStatus::Deallocated };
            if next >= end {
                continue;
            }
            let blocks = u32::try_from(end - next).unwrap_or(u32::MAX);
            match list.descriptors.last_mut() {
                Some(last) if last.status == status => last.blocks = last.blocks.saturating_add(blocks),
                _ => list.descriptors.push(LbaStatusDescriptor { lba: next, blocks, status }),
            }
            next = end;
        }
        let allocation = self.tasks.get(key).and_then(|task| task.cdb().get(10..14)?.first_chunk().copied());
        self.answer(key, list.encode(), u32::from_be_bytes(allocation.unwrap_or_default()).into(), fx);
    }
}

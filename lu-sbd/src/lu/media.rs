//! Commands that reach the medium.

use bytes::Bytes;
use scsi_core::cdb::{
    ByteCheck, CompareAndWrite, GetLbaStatus, PreFetch, Read, SynchronizeCache, Unmap, Verify, Write, WriteAndVerify,
    WriteSame,
};
use scsi_core::command::{Command, CommandEntry, DataShape};
use scsi_core::data::{LbaStatusDescriptor, LbaStatusList, ProvisioningStatus, UnmapList};
use scsi_core::{SenseData, Status};
use smallvec::SmallVec;
use stmf::TaskId;
use stmf::provider::{Effect, Effects, Segments, StoreExtent, StoreOp};

use super::Lu;
use super::gather::{concat, first_difference, split_off};
use super::ops::Purpose;
use super::slab::Key;
use super::task::{Against, Comparing, Repeating, Verifying, Work, Writing};

/// The longest answer to GET LBA STATUS, and the most it looks at, in bytes of the medium.
const MAX_LBA_STATUS_DESCRIPTORS: usize = 256;
const LBA_STATUS_WINDOW_BYTES: u64 = 1 << 30;
/// WRITE SAME goes to the store in pieces of this size, so that it can be aborted between them.
const SAME_PIECE_BYTES: u64 = 64 << 20;
const DEALLOCATE_PIECE_BYTES: u64 = 1 << 30;

impl Lu {
    /// The range in bytes; an ILLEGAL REQUEST if it does not lie in the unit.
    fn range(&self, lba: u64, blocks: u64) -> Result<(u64, u64), SenseData> {
        let capacity = self.blocks();
        if lba > capacity || blocks > capacity - lba {
            return Err(SenseData::lba_out_of_range(lba.max(capacity)));
        }
        Ok((lba << self.block_shift, blocks << self.block_shift))
    }

    /// As [`range`](Self::range), for commands that move all of it: no longer than MAXIMUM TRANSFER LENGTH.
    fn transfer(&self, entry: &CommandEntry, lba: u64, blocks: u32) -> Result<(u64, u64), SenseData> {
        let (base, length) = self.range(lba, blocks.into())?;
        if length > u64::from(self.limits.max_transfer_bytes) {
            let at = match entry.data {
                DataShape::BlocksIn { at, .. }
                | DataShape::BlocksOut { at, .. }
                | DataShape::BlocksOutTwice { at, .. }
                | DataShape::ByteCheck { at, .. } => at,
                _ => 0,
            };
            return Err(SenseData::invalid_field_in_cdb(at.into(), Some(7)));
        }
        Ok((base, length))
    }

    /// Whether a write has to be made durable by itself.
    fn must_flush(&self, fua: bool) -> bool {
        self.capabilities.volatile_cache && (fua || !self.write_cache())
    }

    pub(super) fn read(&mut self, key: Key, entry: &CommandEntry, command: &Read, fx: &mut Effects) -> Checked {
        self.transfer(entry, command.lba, command.blocks)?;
        if command.fua && self.capabilities.volatile_cache && command.blocks > 0 {
            // What is newer in the cache goes to the medium first; then the cache has what the medium has.
            self.set(key, Work::FlushThenRead { lba: command.lba, blocks: command.blocks });
            self.issue(key, Purpose::Flush, StoreOp::Flush, fx);
            return Ok(());
        }
        self.start_reads(key, command.lba, command.blocks, fx);
        Ok(())
    }

    pub(super) fn start_reads(&mut self, key: Key, lba: u64, blocks: u32, fx: &mut Effects) {
        let (base, total) = (lba << self.block_shift, u64::from(blocks) << self.block_shift);
        let Some(task) = self.tasks.get(key) else { return };
        self.statistics.reads += 1;
        // What the initiator has no room for is not read.
        let wanted = total.min(task.data_in_length.into()) as u32;
        if wanted == 0 {
            return self.good(key, total, fx);
        }
        self.set(key, Work::Read { total });
        let mut at = 0;
        while at < wanted {
            let length = (wanted - at).min(self.limits.read_piece_bytes);
            let op = StoreOp::Read { offset: base + u64::from(at), length };
            self.issue(key, Purpose::Send(at), op, fx);
            at += length;
        }
    }

    pub(super) fn write(&mut self, key: Key, entry: &CommandEntry, command: &Write, fx: &mut Effects) -> Checked {
        let (base, total) = self.transfer(entry, command.lba, command.blocks)?;
        let durable = self.must_flush(command.fua);
        let Some(task) = self.tasks.get_mut(key) else { return Ok(()) };
        // An initiator with less data than the command asks for gets the whole blocks written that there are.
        let length = total.min(task.data_out_length.into()) >> self.block_shift << self.block_shift;
        let length = length as u32;
        let writing = Writing { base, length, issued: 0, durable, needs_flush: false, total };
        task.work = Work::Write(writing);
        let id = task.id;
        self.statistics.writes += 1;
        self.receive(key, id, length, fx);
        Ok(())
    }

    /// Asks for data-out; for none the task goes on at once.
    fn receive(&mut self, key: Key, task: TaskId, length: u32, fx: &mut Effects) {
        if length == 0 {
            self.runnable.push_back(key);
        } else {
            fx.push(Effect::ReceiveData { task, offset: 0, length });
        }
    }

    /// Asks for all data-out of a command before anything is done.
    pub(super) fn gather(&mut self, key: Key, command: Command, length: u32, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let length = length.min(task.data_out_length);
        let id = task.id;
        task.work = Work::Gather { length, command };
        self.receive(key, id, length, fx);
    }

    /// Takes data-out bytes of a task, in any order and partition; none twice. Data of a task that has ended is
    /// ignored.
    pub fn data_out(&mut self, task: TaskId, offset: u32, data: Segments, fx: &mut Effects) {
        let Some(&key) = self.by_id.get(&task) else { return };
        let Some(task) = self.tasks.get_mut(key) else { return };
        if !task.is_alive() {
            return;
        }
        match &task.work {
            Work::Write(writing) => {
                task.gather.insert(offset, data, writing.length);
                self.write_gathered(key, fx);
            }
            Work::Gather { length, .. } => {
                let length = *length;
                task.gather.insert(offset, data, length);
                if task.gather.received() == length {
                    self.settle(key, fx);
                }
            }
            _ => return,
        }
        self.run(fx);
    }

    /// Hands to the store what has come, as soon as it is worth an operation.
    fn write_gathered(&mut self, key: Key, fx: &mut Effects) {
        loop {
            let (block, piece) = (1 << self.block_shift, self.limits.write_piece_bytes);
            let Some(task) = self.tasks.get_mut(key) else { return };
            let Work::Write(writing) = &mut task.work else { return };
            let all = task.gather.received() == writing.length;
            let at_least = if all { 1 } else { piece };
            let taken = task.gather.take(at_least, self.limits.max_write_bytes, block, writing.length);
            let Some((offset, data)) = taken else { return };
            let length: u32 = data.iter().map(|bytes| bytes.len() as u32).sum();
            // The flag is enough where one operation writes everything; several are flushed together at the end.
            let durable = writing.durable && length == writing.length;
            writing.needs_flush = writing.durable && !durable;
            writing.issued += length;
            task.moved += u64::from(length);
            let op = StoreOp::Write { offset: writing.base + u64::from(offset), data, durable };
            self.statistics.written_bytes += u64::from(length);
            self.issue(key, Purpose::Write, op, fx);
        }
    }

    /// Goes on with a task of which nothing is in flight.
    pub(super) fn advance(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        match std::mem::replace(&mut task.work, Work::Running) {
            Work::Waiting => {
                task.work = Work::Waiting;
                self.execute(key, fx);
            }
            Work::Running => {}
            Work::FlushThenRead { lba, blocks } => self.start_reads(key, lba, blocks, fx),
            Work::Read { total } | Work::Finish { total } => self.good(key, total, fx),
            Work::Write(writing) if writing.issued < writing.length => task.work = Work::Write(writing),
            Work::Write(writing) => {
                let total = writing.total;
                if writing.needs_flush {
                    self.flush_then_finish(key, total, fx);
                } else {
                    self.good(key, total, fx);
                }
            }
            Work::Gather { length, command } if task.gather.received() < length => {
                task.work = Work::Gather { length, command };
            }
            Work::Gather { command, .. } => {
                let data = task.gather.take_all();
                if let Err(sense) = self.gathered(key, command, data, fx) {
                    self.fail(key, sense, fx);
                }
            }
            Work::Verify(verifying) => self.verify_on(key, verifying, fx),
            Work::WriteThenVerify(verifying) => self.verify_on(key, verifying, fx),
            Work::CompareAndWrite(comparing) => self.compare_on(key, comparing, fx),
            Work::Comparing(comparing) => self.compared(key, comparing, fx),
            Work::Same(repeating) => self.same_on(key, repeating, fx),
            Work::Persist(change) => {
                task.work = Work::Persist(change);
                self.persist_succeeded(key, fx);
            }
            Work::PersistQueue { command, data } => {
                if let Err(sense) = self.gathered(key, command, data, fx) {
                    self.fail(key, sense, fx);
                }
            }
        }
    }

    fn flush_then_finish(&mut self, key: Key, total: u64, fx: &mut Effects) {
        self.set(key, Work::Finish { total });
        self.issue(key, Purpose::Flush, StoreOp::Flush, fx);
    }

    pub(super) fn write_and_verify(
        &mut self,
        key: Key,
        entry: &CommandEntry,
        command: &WriteAndVerify,
        fx: &mut Effects,
    ) -> Checked {
        let (_, length) = self.transfer(entry, command.lba, command.blocks)?;
        self.statistics.writes += 1;
        self.gather(key, Command::WriteAndVerify(*command), length as u32, fx);
        Ok(())
    }

    pub(super) fn written_to_verify(
        &mut self,
        key: Key,
        command: &WriteAndVerify,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let (base, total) = self.range(command.lba, command.blocks.into())?;
        let length: u64 =
            data.iter().map(|bytes| bytes.len() as u64).sum::<u64>() >> self.block_shift << self.block_shift;
        if length == 0 {
            self.good(key, total, fx);
            return Ok(());
        }
        let mut data = data;
        split_off(&mut data, length as u32);
        let against = match command.byte_check {
            ByteCheck::None => Against::Nothing,
            _ => Against::Data(data.clone()),
        };
        self.set(key, Work::WriteThenVerify(Verifying { base, length, done: 0, against, total }));
        if let Some(task) = self.tasks.get_mut(key) {
            task.moved = length;
        }
        self.statistics.written_bytes += length;
        // What is verified is the medium: the data has to be there first.
        let durable = self.capabilities.volatile_cache;
        self.issue(key, Purpose::Write, StoreOp::Write { offset: base, data, durable }, fx);
        Ok(())
    }

    pub(super) fn verify(&mut self, key: Key, entry: &CommandEntry, command: &Verify, fx: &mut Effects) -> Checked {
        let (base, length) = match command.byte_check {
            ByteCheck::Compare => self.transfer(entry, command.lba, command.blocks)?,
            _ => self.range(command.lba, command.blocks.into())?,
        };
        match command.byte_check {
            _ if length == 0 => self.good(key, 0, fx),
            ByteCheck::None => {
                let verifying = Verifying { base, length, done: 0, against: Against::Nothing, total: 0 };
                self.verify_on(key, verifying, fx);
            }
            ByteCheck::Compare => self.gather(key, Command::Verify(*command), length as u32, fx),
            ByteCheck::CompareOneBlock => self.gather(key, Command::Verify(*command), 1 << self.block_shift, fx),
        }
        Ok(())
    }

    pub(super) fn received_to_verify(
        &mut self,
        key: Key,
        command: &Verify,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let received: u64 = data.iter().map(|bytes| bytes.len() as u64).sum();
        let block = 1 << self.block_shift;
        let verifying = if command.byte_check == ByteCheck::CompareOneBlock {
            if received < block {
                return Err(too_little_data());
            }
            let against = Against::Block(concat(data));
            Verifying { base, length, done: 0, against, total: block }
        } else {
            // An initiator with less data than it asked to compare has as much compared as there is.
            let compared = received / block * block;
            Verifying { base, length: compared, done: 0, against: Against::Data(data), total: length }
        };
        self.verify_on(key, verifying, fx);
        Ok(())
    }

    /// Compares what was read back, then reads on.
    fn verify_on(&mut self, key: Key, mut verifying: Verifying, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let read = std::mem::take(&mut task.read_back);
        let length: u64 = read.iter().map(|bytes| bytes.len() as u64).sum();
        let differs = match &mut verifying.against {
            Against::Nothing => None,
            Against::Data(data) => {
                let rest = split_off(data, length as u32);
                let differs = first_difference(data, &read);
                *data = rest;
                differs
            }
            Against::Block(block) => {
                let repeated = (0..length / block.len() as u64).map(|_| block.clone()).collect();
                first_difference(&repeated, &read).map(|offset| offset % block.len() as u64)
            }
        };
        if let Some(offset) = differs {
            let from_start = match verifying.against {
                Against::Block(_) => 0,
                _ => verifying.done,
            };
            return self.fail(key, SenseData::miscompare(from_start + offset), fx);
        }
        verifying.done += length;
        let left = verifying.length - verifying.done;
        if left == 0 {
            return self.good(key, verifying.total, fx);
        }
        let piece = left.min(self.limits.read_piece_bytes.into()) as u32;
        let op = StoreOp::Read { offset: verifying.base + verifying.done, length: piece };
        self.set(key, Work::Verify(verifying));
        self.issue(key, Purpose::ReadBack, op, fx);
    }

    pub(super) fn compare_and_write(&mut self, key: Key, command: &CompareAndWrite, fx: &mut Effects) -> Checked {
        let (_, length) = self.range(command.lba, command.blocks.into())?;
        if command.blocks > self.limits.max_compare_and_write_blocks {
            return Err(SenseData::invalid_field_in_cdb(13, Some(7)));
        }
        if length == 0 {
            self.good(key, 0, fx);
            return Ok(());
        }
        self.gather(key, Command::CompareAndWrite(*command), 2 * length as u32, fx);
        Ok(())
    }

    pub(super) fn received_to_compare(
        &mut self,
        key: Key,
        command: &CompareAndWrite,
        mut compare: Segments,
    ) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let length = length as u32;
        let received: u64 = compare.iter().map(|bytes| bytes.len() as u64).sum();
        if received < 2 * u64::from(length) {
            return Err(too_little_data());
        }
        let write = split_off(&mut compare, length);
        let durable = self.must_flush(command.fua);
        self.set(key, Work::CompareAndWrite(Comparing { base, length, compare, write, durable }));
        self.exclude(key, base, base + u64::from(length));
        Ok(())
    }

    fn compare_on(&mut self, key: Key, comparing: Comparing, fx: &mut Effects) {
        if !self.has_range(key) {
            return self.set(key, Work::CompareAndWrite(comparing));
        }
        let op = StoreOp::Read { offset: comparing.base, length: comparing.length };
        self.set(key, Work::Comparing(comparing));
        self.issue(key, Purpose::ReadBack, op, fx);
    }

    fn compared(&mut self, key: Key, comparing: Comparing, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let read = std::mem::take(&mut task.read_back);
        if let Some(offset) = first_difference(&comparing.compare, &read) {
            return self.fail(key, SenseData::miscompare(offset), fx);
        }
        let total = 2 * u64::from(comparing.length);
        task.moved = total;
        task.work = Work::Finish { total };
        self.statistics.writes += 1;
        self.statistics.written_bytes += u64::from(comparing.length);
        let op = StoreOp::Write { offset: comparing.base, data: comparing.write, durable: comparing.durable };
        self.issue(key, Purpose::Write, op, fx);
    }

    pub(super) fn write_same(&mut self, key: Key, command: &WriteSame, fx: &mut Effects) -> Checked {
        let (_, length) = self.range(command.lba, command.blocks.into())?;
        let sixteen = self.tasks.get(key).is_some_and(|task| task.cdb().first() == Some(&0x93));
        let blocks_at = if sixteen { 10 } else { 7 };
        if command.blocks == 0 || length > self.limits.max_write_same_bytes {
            // WSNZ is set: zero does not mean the rest of the unit.
            return Err(SenseData::invalid_field_in_cdb(blocks_at, Some(7)));
        }
        if command.unmap && self.capabilities.unmap.is_none() {
            return Err(SenseData::invalid_field_in_cdb(1, Some(3)));
        }
        self.statistics.writes += 1;
        let block = if command.no_data_out { 0 } else { 1 << self.block_shift };
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
            return Err(too_little_data());
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
        self.same_on(key, repeating, fx);
        Ok(())
    }

    fn same_on(&mut self, key: Key, mut repeating: Repeating, fx: &mut Effects) {
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
            (length, StoreOp::WriteSame { offset, length, pattern: repeating.pattern.clone(), durable: false })
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
            .map(|range| (range.lba << shift, u64::from(range.blocks) << shift))
            .collect();
        self.statistics.unmaps += 1;
        if ranges.is_empty() {
            self.good(key, total, fx);
        } else if self.must_flush(false) {
            // Deallocation is not durable by itself.
            let repeating = Repeating { at: 0, end: 0, pattern: Bytes::new(), unmap: true, durable: true, total };
            self.set(key, Work::Same(repeating));
            self.issue(key, Purpose::Write, StoreOp::Deallocate { ranges }, fx);
        } else {
            self.set(key, Work::Finish { total });
            self.issue(key, Purpose::Write, StoreOp::Deallocate { ranges }, fx);
        }
        Ok(())
    }

    pub(super) fn synchronize(&mut self, key: Key, command: &SynchronizeCache, fx: &mut Effects) -> Checked {
        self.range(command.lba, command.blocks.into())?;
        self.statistics.flushes += 1;
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        if !self.capabilities.volatile_cache {
            self.good(key, 0, fx);
        } else if command.immediate {
            self.issue_detached(nexus, Purpose::Flush, StoreOp::Flush, fx);
            self.good(key, 0, fx);
        } else {
            self.flush_then_finish(key, 0, fx);
        }
        Ok(())
    }

    pub(super) fn prefetch(&mut self, key: Key, command: &PreFetch, fx: &mut Effects) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        // No blocks given means all to the end.
        let length = if command.blocks == 0 { self.size() - base } else { length };
        let op = StoreOp::Prefetch { offset: base, length };
        self.issue_detached(task.id.nexus, Purpose::Advice, op, fx);
        // CONDITION MET would promise room for all of it in the cache, which nobody knows.
        self.good(key, 0, fx);
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

    pub(super) fn good(&mut self, key: Key, data_length: u64, fx: &mut Effects) {
        self.complete(key, Status::GOOD, None, data_length, fx);
    }
}

/// The outcome of a check: `Err` is the sense data of the CHECK CONDITION.
pub(super) type Checked = Result<(), SenseData>;

/// The initiator announced less data than the command cannot do without.
fn too_little_data() -> SenseData {
    SenseData::illegal_request(scsi_core::AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
}

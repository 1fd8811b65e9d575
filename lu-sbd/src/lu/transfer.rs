//! Commands that move data to and from the medium, and how a task goes on when the store has answered.

use scsi_core::cdb::{PreFetch, Read, SynchronizeCache, Write};
use scsi_core::command::{Command, CommandEntry, DataShape};
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{SenseData, Status};
use stmf::TaskId;
use stmf::provider::{Effect, Effects, Landing, Segments, StoreOp};

use super::Lu;
use super::ops::Purpose;
use super::slab::Key;
use super::task::{Work, Writing};

/// What counts as one operation where operations are limited, in bytes.
const COUNTED_BYTES: u32 = 1 << 20;

impl Lu {
    /// The range in bytes; an ILLEGAL REQUEST if it does not lie in the unit.
    pub(super) fn range(&self, lba: u64, blocks: u64) -> Result<(u64, u64), SenseData> {
        let capacity = self.blocks();
        if lba > capacity || blocks > capacity - lba {
            return Err(SenseData::lba_out_of_range(lba.max(capacity)));
        }
        Ok((lba << self.block_shift, blocks << self.block_shift))
    }

    /// As [`range`](Self::range), for commands that move all of it: no longer than MAXIMUM TRANSFER LENGTH.
    pub(super) fn transfer(&self, entry: &CommandEntry, lba: u64, blocks: u32) -> Result<(u64, u64), SenseData> {
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
    pub(super) fn must_flush(&self, fua: bool) -> bool {
        let fua = fua && !is_active(Mutation::FuaIgnored);
        let cached = self.write_cache() || is_active(Mutation::CacheOffIgnored);
        self.capabilities.volatile_cache && (fua || !cached)
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

    #[inline]
    pub(super) fn start_reads(&mut self, key: Key, lba: u64, blocks: u32, fx: &mut Effects) {
        let lba = if is_active(Mutation::ReadOneBlockOff) { lba + 1 } else { lba };
        let (base, total) = (lba << self.block_shift, u64::from(blocks) << self.block_shift);
        let Some(task) = self.tasks.get(key) else { return };
        self.statistics.reads += 1;
        // Blocks that the initiator has no room for are not read.
        let room = u64::from(task.data_in_length).next_multiple_of(1 << self.block_shift);
        let wanted = total.min(room) as u32;
        let id = task.id;
        if wanted == 0 {
            return self.good(key, total, fx);
        }
        self.set(key, Work::Read { total });
        let mut at = 0;
        while at < wanted {
            let length = (wanted - at).min(self.limits.read_piece_bytes);
            let lands = Some(Landing::new(id, at));
            let op = StoreOp::Read { offset: base + u64::from(at), length, lands };
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
            writing.needs_flush = writing.durable && !durable && !is_active(Mutation::PiecesNotFlushed);
            // A write counts once for each MiB, in however many pieces it comes.
            let counted = |bytes: u32| bytes.div_ceil(COUNTED_BYTES);
            self.pace.continues = counted(writing.issued) == counted(writing.issued + length);
            writing.issued += length;
            task.moved += u64::from(length);
            let at = if is_active(Mutation::PieceAtWrongOffset) { 0 } else { offset };
            let op = StoreOp::Write { offset: writing.base + u64::from(at), data, durable };
            self.statistics.written_bytes += u64::from(length);
            self.issue(key, Purpose::Write, op, fx);
        }
    }

    /// Goes on with a task of which nothing is in flight.
    pub(super) fn advance(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if let Work::Read { total } | Work::Finish { total } = task.work {
            return self.good(key, total, fx);
        }
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
            Work::Comparing(comparing) => self.compared(key, *comparing, fx),
            Work::WriteAtomic(atomic) => self.write_atomic_on(key, atomic, fx),
            Work::Same(repeating) => self.same_on(key, repeating, fx),
            // They go on when somebody calls.
            Work::Job(job) => task.work = Work::Job(job),
            Work::Resolve(resolving) => task.work = Work::Resolve(resolving),
            Work::Redeem(redeeming) => task.work = Work::Redeem(redeeming),
            Work::LogSense(command) => {
                if let Err(sense) = self.tell_log(key, &command, fx) {
                    self.fail(key, sense, fx);
                }
            }
            Work::Populate(populating) => self.populate_on(key, populating),
            Work::Persist(change) => {
                task.work = Work::Persist(change);
                self.persist_succeeded(key, fx);
            }
            Work::PersistQueue { command, data } => {
                if let Err(sense) = self.gathered(key, command, *data, fx) {
                    self.fail(key, sense, fx);
                }
            }
        }
    }

    pub(super) fn flush_then_finish(&mut self, key: Key, total: u64, fx: &mut Effects) {
        self.set(key, Work::Finish { total });
        self.issue(key, Purpose::Flush, StoreOp::Flush, fx);
    }

    pub(super) fn synchronize(&mut self, key: Key, command: &SynchronizeCache, fx: &mut Effects) -> Checked {
        self.range(command.lba, command.blocks.into())?;
        self.statistics.flushes += 1;
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        if !self.capabilities.volatile_cache || is_active(Mutation::FlushLost) {
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

    #[inline]
    pub(super) fn good(&mut self, key: Key, data_length: u64, fx: &mut Effects) {
        self.complete(key, Status::GOOD, None, data_length, fx);
    }
}

/// The outcome of a check: `Err` is the sense data of the CHECK CONDITION.
pub(super) type Checked = Result<(), SenseData>;

/// The initiator announced another length of data than the command can do with.
pub(super) fn wrong_data_length() -> SenseData {
    SenseData::illegal_request(scsi_core::AdditionalSense::INVALID_FIELD_IN_COMMAND_INFORMATION_UNIT)
}

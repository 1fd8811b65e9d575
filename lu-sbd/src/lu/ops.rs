//! Store operations in flight, and the ranges that a COMPARE AND WRITE has for itself.

use scsi_core::SenseData;
use scsi_core::mutation::{Mutation, is_active};
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stmf::NexusId;
use stmf::provider::{Effect, Effects, StoreDone, StoreErrorKind, StoreOp, StoreOutcome, StoreToken};

use super::gather::truncate;
use super::slab::Key;
use super::task::Work;
use super::{Lu, sense};

/// On whose account something is done to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// Nobody waits for the outcome.
    Nobody,
    /// A task.
    Task(Key),
    /// A job, which may outlive its task.
    Job(Key),
    /// A copy that another unit manages.
    Foreign(Key),
}

/// A store operation that was asked for.
#[derive(Debug)]
pub(super) struct Op {
    owner: Owner,
    purpose: Purpose,
    ranges: Ranges,
    /// Its place among operations and exclusive ranges.
    sequence: u64,
    /// Handed out; otherwise it waits for a range.
    issued: bool,
    /// Tells an asynchronous store that the task was aborted.
    cancelled: Option<Arc<AtomicBool>>,
}

/// Bytes of the medium that an operation touches: (begin, end).
type Ranges = SmallVec<[(u64, u64); 1]>;

/// What becomes of the outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Read for the initiator: goes to this offset of its buffer.
    Send(u32),
    /// Read for the unit itself.
    ReadBack,
    /// Changes the medium.
    Write,
    /// A flush.
    Flush,
    /// Keeps the record.
    Persist,
    /// GET LBA STATUS.
    Extents,
    /// A self-test reads.
    SelfTest {
        /// SELF-TEST CODE.
        code: u8,
    },
    /// How full the store is.
    Usage,
    /// Nobody cares.
    Advice,
    /// The time of what waits for its turn has come.
    Wait,
}

/// A range that one task or job has, or waits to have, for itself.
#[derive(Debug)]
pub(super) struct Exclusive {
    owner: Owner,
    begin: u64,
    end: u64,
    sequence: u64,
    granted: bool,
}

impl Exclusive {
    fn overlaps(&self, ranges: &[(u64, u64)]) -> bool {
        ranges.iter().any(|(begin, end)| *begin < self.end && self.begin < *end)
    }
}

/// An operation that waits for a range.
#[derive(Debug)]
pub(super) struct Held {
    key: Key,
    nexus: NexusId,
    op: StoreOp,
}

impl Lu {
    /// Asks for a store operation of a task.
    #[inline]
    pub(super) fn issue(&mut self, task: Key, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        let Some(owner) = self.tasks.get_mut(task) else { return };
        owner.in_flight += 1;
        let nexus = owner.id.nexus;
        self.hand_out(Owner::Task(task), nexus, purpose, op, fx);
    }

    /// Asks for a store operation that no task waits for.
    pub(super) fn issue_detached(&mut self, nexus: NexusId, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        self.hand_out(Owner::Nobody, nexus, purpose, op, fx);
    }

    #[inline]
    pub(super) fn hand_out(&mut self, owner: Owner, nexus: NexusId, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        let ranges = ranges_of(&op);
        if !self.tokens.is_empty() && changes_data(&op) {
            self.revoke_tokens(&ranges[..if let StoreOp::Copy { .. } = op { 1 } else { ranges.len() }]);
        }
        let changed: u64 = if self.control().threshold.is_some() && changes_data(&op) {
            ranges
                .iter()
                .take(if let StoreOp::Copy { .. } = op { 1 } else { usize::MAX })
                .map(|(begin, end)| end - begin)
                .sum()
        } else {
            0
        };
        // Who has its range stays in it; others that want it wait behind.
        let inside = owner != Owner::Nobody && self.has_range(owner);
        let waits =
            !inside && !is_active(Mutation::CompareNotAlone) && self.exclusives.iter().any(|one| one.overlaps(&ranges));
        let sequence = self.next_sequence();
        let key = self.ops.insert(Op { owner, purpose, ranges, sequence, issued: !waits, cancelled: None });
        if waits {
            self.pace.continues = false;
            self.held.push_back(Held { key, nexus, op });
        } else {
            self.send_out(key, nexus, op, fx);
        }
        if changed > 0 {
            self.space_changed(nexus, changed, fx);
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Waits for a range to have it alone; the task is resumed when it has. The first come is the first served, and
    /// operations that come later wait behind.
    pub(super) fn exclude(&mut self, owner: Owner, begin: u64, end: u64) {
        let sequence = self.next_sequence();
        self.exclusives.push(Exclusive { owner, begin, end, sequence, granted: false });
        self.grant();
    }

    /// Grants the ranges that have become free.
    fn grant(&mut self) {
        for index in 0..self.exclusives.len() {
            let (before, rest) = self.exclusives.split_at_mut(index);
            let one = &mut rest[0];
            let range = [(one.begin, one.end)];
            let taken = before.iter().any(|earlier| earlier.overlaps(&range));
            if one.granted || taken && !is_active(Mutation::CompareNotAlone) {
                continue;
            }
            let in_the_way = |op: &Op| {
                (op.issued || op.sequence < one.sequence) && op.owner != one.owner && one.overlaps(&op.ranges)
            };
            if self.ops.iter().any(|(_, op)| in_the_way(op)) && !is_active(Mutation::CompareNotAlone) {
                continue;
            }
            one.granted = true;
            match one.owner {
                Owner::Task(task) => self.runnable.push_back(task),
                Owner::Job(job) => self.runnable_jobs.push_back(job),
                Owner::Nobody | Owner::Foreign(_) => {}
            }
        }
    }

    /// Gives a range back.
    pub(super) fn include(&mut self, owner: Owner, fx: &mut Effects) {
        let before = self.exclusives.len();
        self.exclusives.retain(|one| one.owner != owner);
        if self.exclusives.len() != before {
            self.release_held(fx);
            self.grant();
        }
    }

    pub(super) fn has_range(&self, owner: Owner) -> bool {
        self.exclusives.iter().any(|one| one.owner == owner && one.granted)
    }

    /// Hands out what no range holds back any more, in order.
    fn release_held(&mut self, fx: &mut Effects) {
        for _ in 0..self.held.len() {
            let Some(held) = self.held.pop_front() else { break };
            let Some(op) = self.ops.get_mut(held.key) else { continue };
            if self.exclusives.iter().any(|one| one.sequence < op.sequence && one.overlaps(&op.ranges)) {
                self.held.push_back(held);
                continue;
            }
            op.issued = true;
            self.send_out(held.key, held.nexus, held.op, fx);
        }
    }

    /// Keeps others out of what an aborted task or job is still writing: its initiator may not wait for the end of that,
    /// or be gone, and what is written there after the abort must not be overwritten by what was written before. The
    /// ranges are given back when the task or job ends.
    pub(super) fn fence(&mut self, owner: Owner) {
        let writes = self.ops.iter().filter(|(_, op)| op.owner == owner && op.issued && op.purpose == Purpose::Write);
        let ranges: Vec<(u64, u64)> = writes.flat_map(|(_, op)| op.ranges.iter().copied()).collect();
        for (begin, end) in ranges {
            self.claim(owner, begin, end);
        }
    }

    /// Keeps whatever comes from now on out of a range until the owner gives it back.
    pub(super) fn claim(&mut self, owner: Owner, begin: u64, end: u64) {
        let sequence = self.next_sequence();
        self.exclusives.push(Exclusive { owner, begin, end, sequence, granted: true });
    }

    /// Drops the operations of a task that were not handed out yet.
    pub(super) fn drop_held(&mut self, owner: Owner) {
        if self.held.is_empty() && self.pace.is_idle() {
            return;
        }
        let (ops, tasks, jobs) = (&mut self.ops, &mut self.tasks, &mut self.jobs);
        let mut keep = |key: Key| {
            let owned = ops.get(key).is_some_and(|op| op.owner == owner);
            if owned {
                ops.remove(key);
                let in_flight = match owner {
                    Owner::Task(task) => tasks.get_mut(task).map(|task| &mut task.in_flight),
                    Owner::Job(job) => jobs.get_mut(job).map(|job| &mut job.in_flight),
                    Owner::Nobody | Owner::Foreign(_) => None,
                };
                if let Some(in_flight) = in_flight {
                    *in_flight -= 1;
                }
            }
            !owned
        };
        self.held.retain(|held| keep(held.key));
        self.pace.retain(keep);
    }

    /// The operation is the host's now, or not yet.
    pub(super) fn set_issued(&mut self, key: Key, issued: bool) {
        if let Some(op) = self.ops.get_mut(key) {
            op.issued = issued;
        }
    }

    /// The flag that is set when the task of an operation is aborted; only who asks for it pays for it.
    pub fn cancellation(&mut self, token: StoreToken) -> Option<Arc<AtomicBool>> {
        let op = self.ops.get_mut(Key::from_u64(token.0))?;
        let is_aborted = match op.owner {
            Owner::Task(task) => self.tasks.get(task).is_some_and(|task| task.aborted.is_some()),
            Owner::Job(job) => self.jobs.get(job).is_some_and(|job| job.failure.is_some()),
            Owner::Nobody | Owner::Foreign(_) => false,
        };
        Some(Arc::clone(op.cancelled.get_or_insert_with(|| Arc::new(AtomicBool::new(is_aborted)))))
    }

    /// Tells the stores that a task's operations are not wanted any more.
    pub(super) fn cancel_operations(&mut self, owner: Owner) {
        for (_, op) in self.ops.iter().filter(|(_, op)| op.owner == owner) {
            if let Some(cancelled) = &op.cancelled {
                cancelled.store(true, Ordering::Release);
            }
        }
    }

    /// Takes the outcome of a store operation; one that is not known here is ignored.
    pub fn store_done(&mut self, done: StoreDone, fx: &mut Effects) {
        let Some(op) = self.ops.remove(Key::from_u64(done.token.0)) else { return };
        if op.purpose == Purpose::Wait {
            self.waited(fx);
            return self.run(fx);
        }
        let was_failed = self.failed;
        let mut done = done;
        if is_active(Mutation::StoreErrorSwallowed) && op.purpose == Purpose::Write {
            done.outcome = StoreOutcome::Done;
        }
        if let StoreOutcome::Failed(error) = &done.outcome {
            if error.kind != StoreErrorKind::Cancelled {
                self.count_error(op.purpose);
            }
            let lost = match error.kind {
                StoreErrorKind::Poisoned => true,
                // What was written before may be lost, and a second flush would not tell.
                StoreErrorKind::Io | StoreErrorKind::NoSpace | StoreErrorKind::Gone => op.purpose == Purpose::Flush,
                _ => false,
            };
            if lost && !self.failed {
                self.failed = true;
                self.failure = Some(error.context.clone());
            }
        }
        if let Purpose::SelfTest { code } = op.purpose {
            self.self_tested(code, &done.outcome);
        }
        let lba = op.ranges.first().map(|(begin, _)| begin >> self.block_shift);
        let failure = match &done.outcome {
            StoreOutcome::Failed(error) => Some(sense::of_store_error(error.kind, op.purpose, lba, was_failed)),
            _ => None,
        };
        if op.purpose == Purpose::Usage {
            self.space_known(match &done.outcome {
                StoreOutcome::Usage(usage) => Some(*usage),
                _ => None,
            });
        }
        match op.owner {
            Owner::Task(task) => self.operation_ended(task, op.purpose, &op.ranges, done.outcome, failure, fx),
            Owner::Job(job) => self.job_operation_ended(job, failure, fx),
            Owner::Foreign(copy) => self.foreign_operation_ended(copy, failure, fx),
            Owner::Nobody => {}
        }
        if !self.exclusives.is_empty() {
            self.grant();
        }
        self.run(fx);
    }

    #[inline]
    fn operation_ended(
        &mut self,
        key: Key,
        purpose: Purpose,
        ranges: &[(u64, u64)],
        outcome: StoreOutcome,
        failure: Option<SenseData>,
        fx: &mut Effects,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        match outcome {
            StoreOutcome::Failed(_) => task.failure = task.failure.or(failure),
            // As below: a read without its bytes must not end well.
            StoreOutcome::Done | StoreOutcome::Extents(_) | StoreOutcome::Usage(_)
                if matches!(purpose, Purpose::Send(_) | Purpose::ReadBack) =>
            {
                task.failure.get_or_insert(sense::of_store_error(StoreErrorKind::Io, purpose, None, false));
            }
            StoreOutcome::Done | StoreOutcome::Data(_) | StoreOutcome::Usage(_) if purpose == Purpose::Extents => {
                task.failure.get_or_insert(sense::of_store_error(StoreErrorKind::Io, purpose, None, false));
            }
            StoreOutcome::Data(mut data) => {
                let wanted = ranges.first().map_or(0, |(begin, end)| end - begin);
                let got: u64 = data.iter().map(|bytes| bytes.len() as u64).sum();
                if got != wanted {
                    // A store of somebody else's that broke its promise: no byte of it may reach the initiator.
                    task.failure.get_or_insert(sense::of_store_error(StoreErrorKind::Io, purpose, None, false));
                } else if task.is_alive() {
                    match purpose {
                        Purpose::Send(offset) => {
                            let room = task.data_in_length.saturating_sub(offset);
                            if u64::from(room) < got {
                                truncate(&mut data, room);
                            }
                            task.moved += got.min(room.into());
                            self.statistics.read_bytes += got;
                            fx.push(Effect::SendData { task: task.id, offset, data });
                        }
                        _ => task.read_back = data.into_vec(),
                    }
                }
            }
            StoreOutcome::Extents(extents) => {
                if task.is_alive() {
                    self.lba_status(key, &extents, fx);
                }
            }
            StoreOutcome::Done | StoreOutcome::Usage(_) => {}
        }
        self.settle(key, fx);
    }

    /// Looks what to do with a task of which something has ended.
    pub(super) fn settle(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.tasks.get(key) else { return };
        if task.in_flight > 0 {
            return;
        }
        let (failure, aborted, moved) = (task.failure, task.aborted, task.moved);
        if matches!(task.work, Work::Persist(_)) && failure.is_some() {
            self.persist_failed(key);
        }
        match (aborted, failure) {
            (Some(_), _) => {
                // What has been kept comes into force, whether its command is still wanted or not.
                if failure.is_none() {
                    self.persist_succeeded(key, fx);
                }
                if self.tasks.get(key).is_some_and(|task| task.in_flight == 0) {
                    self.end_aborted(key, fx);
                }
            }
            (None, Some(failure)) => self.check_condition(key, failure, moved, fx),
            (None, None) => self.advance(key, fx),
        }
    }

    /// Fails a task: at once, or when what it has in flight has ended.
    pub(super) fn fail(&mut self, key: Key, failure: SenseData, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.failure.get_or_insert(failure);
        if task.in_flight == 0 {
            let (failure, moved) = (task.failure.unwrap_or(failure), task.moved);
            self.check_condition(key, failure, moved, fx);
        }
    }
}

#[inline]
fn ranges_of(op: &StoreOp) -> Ranges {
    let one = |offset: u64, length: u64| Ranges::from_buf([(offset, offset + length)]);
    match op {
        StoreOp::Read { offset, length, .. } => one(*offset, u64::from(*length)),
        StoreOp::Write { offset, data, .. } | StoreOp::WriteAtomic { offset, data, .. } => {
            one(*offset, data.iter().map(|bytes| bytes.len() as u64).sum())
        }
        StoreOp::WriteSame { offset, length, .. } => one(*offset, *length),
        // The destination first. What is read of another unit is no concern of this one.
        StoreOp::Copy { source: None, source_offset, offset, length } => {
            Ranges::from_iter([(*offset, offset + length), (*source_offset, source_offset + length)])
        }
        StoreOp::Copy { offset, length, .. } => one(*offset, *length),
        StoreOp::Deallocate { ranges } => ranges.iter().map(|(offset, length)| (*offset, offset + length)).collect(),
        _ => Ranges::new(),
    }
}

/// Whether what was read before may read otherwise afterwards.
fn changes_data(op: &StoreOp) -> bool {
    matches!(
        op,
        StoreOp::Write { .. }
            | StoreOp::WriteAtomic { .. }
            | StoreOp::WriteSame { .. }
            | StoreOp::Deallocate { .. }
            | StoreOp::Copy { .. }
    )
}

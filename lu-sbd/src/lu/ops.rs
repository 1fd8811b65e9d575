//! Store operations in flight, and the ranges that a COMPARE AND WRITE has for itself.

use scsi_core::SenseData;
use smallvec::SmallVec;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use stmf::NexusId;
use stmf::provider::{Effect, Effects, StoreDone, StoreErrorKind, StoreOp, StoreOutcome, StoreRequest, StoreToken};

use super::gather::truncate;
use super::slab::Key;
use super::task::Work;
use super::{Lu, sense};

/// A store operation that was asked for.
#[derive(Debug)]
pub(super) struct Op {
    /// The task it belongs to; `None` for one that nobody waits for.
    owner: Option<Key>,
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
    /// Nobody cares.
    Advice,
}

/// A range that one task has, or waits to have, for itself.
#[derive(Debug)]
pub(super) struct Exclusive {
    pub(super) task: Key,
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
    pub(super) fn issue(&mut self, task: Key, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        let Some(owner) = self.tasks.get_mut(task) else { return };
        owner.in_flight += 1;
        let nexus = owner.id.nexus;
        self.hand_out(Some(task), nexus, purpose, op, fx);
    }

    /// Asks for a store operation that no task waits for.
    pub(super) fn issue_detached(&mut self, nexus: NexusId, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        self.hand_out(None, nexus, purpose, op, fx);
    }

    fn hand_out(&mut self, owner: Option<Key>, nexus: NexusId, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        let ranges = ranges_of(&op);
        // Who has its range stays in it; others that want it wait behind.
        let inside = owner.is_some_and(|owner| self.has_range(owner));
        let waits = !inside && self.exclusives.iter().any(|one| one.overlaps(&ranges));
        let sequence = self.next_sequence();
        let key = self.ops.insert(Op { owner, purpose, ranges, sequence, issued: !waits, cancelled: None });
        if waits {
            self.held.push_back(Held { key, nexus, op });
        } else {
            fx.push(Effect::Store(StoreRequest { nexus, token: StoreToken(key.to_u64()), op }));
        }
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Waits for a range to have it alone; the task is resumed when it has. The first come is the first served, and
    /// operations that come later wait behind.
    pub(super) fn exclude(&mut self, task: Key, begin: u64, end: u64) {
        let sequence = self.next_sequence();
        self.exclusives.push(Exclusive { task, begin, end, sequence, granted: false });
        self.grant();
    }

    /// Grants the ranges that have become free.
    fn grant(&mut self) {
        for index in 0..self.exclusives.len() {
            let (before, rest) = self.exclusives.split_at_mut(index);
            let one = &mut rest[0];
            let range = [(one.begin, one.end)];
            if one.granted || before.iter().any(|earlier| earlier.overlaps(&range)) {
                continue;
            }
            let in_the_way = |op: &Op| {
                (op.issued || op.sequence < one.sequence) && op.owner != Some(one.task) && one.overlaps(&op.ranges)
            };
            if self.ops.iter().any(|(_, op)| in_the_way(op)) {
                continue;
            }
            one.granted = true;
            self.runnable.push_back(one.task);
        }
    }

    /// Gives a task's range back.
    pub(super) fn include(&mut self, task: Key, fx: &mut Effects) {
        let before = self.exclusives.len();
        self.exclusives.retain(|one| one.task != task);
        if self.exclusives.len() != before {
            self.release_held(fx);
            self.grant();
        }
    }

    pub(super) fn has_range(&self, task: Key) -> bool {
        self.exclusives.iter().any(|one| one.task == task && one.granted)
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
            let token = StoreToken(held.key.to_u64());
            fx.push(Effect::Store(StoreRequest { nexus: held.nexus, token, op: held.op }));
        }
    }

    /// Drops the operations of a task that were not handed out yet.
    pub(super) fn drop_held(&mut self, task: Key) {
        let (ops, tasks) = (&mut self.ops, &mut self.tasks);
        self.held.retain(|held| {
            let owned = ops.get(held.key).is_some_and(|op| op.owner == Some(task));
            if owned {
                ops.remove(held.key);
                if let Some(task) = tasks.get_mut(task) {
                    task.in_flight -= 1;
                }
            }
            !owned
        });
    }

    /// The flag that is set when the task of an operation is aborted; only who asks for it pays for it.
    pub fn cancellation(&mut self, token: StoreToken) -> Option<Arc<AtomicBool>> {
        let op = self.ops.get_mut(Key::from_u64(token.0))?;
        let owner = op.owner.and_then(|owner| self.tasks.get(owner));
        let is_aborted = owner.is_some_and(|task| task.aborted.is_some());
        Some(Arc::clone(op.cancelled.get_or_insert_with(|| Arc::new(AtomicBool::new(is_aborted)))))
    }

    /// Tells the stores that a task's operations are not wanted any more.
    pub(super) fn cancel_operations(&mut self, task: Key) {
        for (_, op) in self.ops.iter().filter(|(_, op)| op.owner == Some(task)) {
            if let Some(cancelled) = &op.cancelled {
                cancelled.store(true, Ordering::Release);
            }
        }
    }

    /// Takes the outcome of a store operation; one that is not known here is ignored.
    pub fn store_done(&mut self, done: StoreDone, fx: &mut Effects) {
        let Some(op) = self.ops.remove(Key::from_u64(done.token.0)) else { return };
        let was_failed = self.failed;
        if let StoreOutcome::Failed(error) = &done.outcome {
            self.statistics.errors += 1;
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
        if let Some(task) = op.owner {
            self.operation_ended(task, op.purpose, &op.ranges, done.outcome, was_failed, fx);
        }
        if !self.exclusives.is_empty() {
            self.grant();
        }
        self.run(fx);
    }

    fn operation_ended(
        &mut self,
        key: Key,
        purpose: Purpose,
        ranges: &[(u64, u64)],
        outcome: StoreOutcome,
        was_failed: bool,
        fx: &mut Effects,
    ) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        match outcome {
            StoreOutcome::Failed(error) => {
                let lba = ranges.first().map(|(begin, _)| begin >> self.block_shift);
                let failure = sense::of_store_error(error.kind, purpose, lba, was_failed);
                task.failure.get_or_insert(failure);
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
            StoreOutcome::Done => {}
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

fn ranges_of(op: &StoreOp) -> Ranges {
    let one = |offset: u64, length: u64| Ranges::from_iter([(offset, offset + length)]);
    match op {
        StoreOp::Read { offset, length } => one(*offset, u64::from(*length)),
        StoreOp::Write { offset, data, .. } => one(*offset, data.iter().map(|bytes| bytes.len() as u64).sum()),
        StoreOp::WriteSame { offset, length, .. } | StoreOp::Copy { offset, length, .. } => one(*offset, *length),
        StoreOp::Deallocate { ranges } => ranges.iter().map(|(offset, length)| (*offset, offset + length)).collect(),
        _ => Ranges::new(),
    }
}

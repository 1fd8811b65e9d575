//! The commands that came, and how they ended.

use scsi_core::{Guid, Lun, Status};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::nexus::{Nexus, NexusId};
use crate::provider::{Completion, LuTask};

/// How many commands a trace keeps unless another limit is given.
const DEFAULT_LIMIT: usize = 4096;

/// One command.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TraceEntry {
    /// Its number, from 0, ascending in the order of arrival.
    pub serial: u64,
    /// The unit.
    pub unit: Guid,
    /// The LUN by which it was addressed.
    pub lun: Lun,
    /// The session.
    pub nexus: NexusId,
    /// The initiator's folded name; empty if the nexus was not attached.
    pub initiator: String,
    /// The CDB.
    pub cdb: SmallVec<[u8; 16]>,
    /// Bytes the initiator has ready.
    pub data_out_length: u32,
    /// Bytes the initiator has room for.
    pub data_in_length: u32,
    /// Whether a fault was injected.
    pub injected: bool,
    /// When it came, on the trace's clock.
    pub began: Duration,
    /// When and how it ended; `None` while it is under way.
    pub ended: Option<(Duration, Ending)>,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// With a status.
    Status {
        /// The status.
        status: Status,
        /// Sense data in wire format; empty unless the status is CHECK CONDITION.
        sense: SmallVec<[u8; 32]>,
        /// Bytes moved.
        data_length: u64,
    },
    /// Aborted, or its session ended.
    Aborted,
}

impl Ending {
    pub(super) fn of(done: &Completion) -> Self {
        Self::Status { status: done.status, sense: done.sense.clone(), data_length: done.data_length }
    }
}

/// The latest commands of some units, up to a limit. All methods may be called from any thread.
pub struct Trace {
    clock: Box<dyn Fn() -> Duration + Send + Sync>,
    limit: usize,
    entries: Mutex<Entries>,
    changed: Condvar,
}

#[derive(Default)]
struct Entries {
    kept: VecDeque<TraceEntry>,
    next: u64,
}

impl Default for Trace {
    /// Keeps 4096 commands; its clock stands still.
    fn default() -> Self {
        Self::new(DEFAULT_LIMIT, || Duration::ZERO)
    }
}

impl Trace {
    /// Keeps the latest `limit` commands (0: none); `clock` tells the time since any moment.
    pub fn new(limit: usize, clock: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self { clock: Box::new(clock), limit, entries: Mutex::default(), changed: Condvar::new() }
    }

    /// The commands kept whose number is `from` or higher, oldest first.
    pub fn since(&self, from: u64) -> Vec<TraceEntry> {
        self.lock().kept.iter().filter(|entry| entry.serial >= from).cloned().collect()
    }

    /// The number that the next command gets.
    pub fn next_serial(&self) -> u64 {
        self.lock().next
    }

    /// Forgets all that has come; numbers go on.
    pub fn clear(&self) {
        self.lock().kept.clear();
    }

    /// Waits until a command satisfies `is_it` whose number is `from` or higher, and gives it; `None` when none has in
    /// `time`.
    pub fn wait(&self, from: u64, time: Duration, is_it: impl Fn(&TraceEntry) -> bool) -> Option<TraceEntry> {
        let find = |entries: &Entries| entries.kept.iter().find(|entry| entry.serial >= from && is_it(entry)).cloned();
        let mut found = None;
        let guard = self.lock();
        drop(self.changed.wait_timeout_while(guard, time, |entries| {
            found = find(entries);
            found.is_none()
        }));
        found
    }

    pub(super) fn begin(&self, unit: Guid, nexus: Option<&Nexus>, task: &LuTask<'_>, injected: bool) -> Option<u64> {
        if self.limit == 0 {
            return None;
        }
        let began = (self.clock)();
        let mut entries = self.lock();
        let serial = entries.next;
        entries.next += 1;
        if entries.kept.len() >= self.limit {
            entries.kept.pop_front();
        }
        entries.kept.push_back(TraceEntry {
            serial,
            unit,
            lun: task.lun,
            nexus: task.id.nexus,
            initiator: nexus.map(|nexus| nexus.initiator.clone()).unwrap_or_default(),
            cdb: SmallVec::from_slice(task.cdb),
            data_out_length: task.data_out_length,
            data_in_length: task.data_in_length,
            injected,
            began,
            ended: None,
        });
        drop(entries);
        self.changed.notify_all();
        Some(serial)
    }

    pub(super) fn end(&self, serial: Option<u64>, ending: Ending) {
        let Some(serial) = serial else { return };
        let now = (self.clock)();
        let mut entries = self.lock();
        let Some(first) = entries.kept.front().map(|entry| entry.serial) else { return };
        // The numbers kept are without gaps.
        let at = serial.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        if let Some(entry) = at.and_then(|at| entries.kept.get_mut(at)) {
            entry.ended = Some((now, ending));
        }
        drop(entries);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").field("limit", &self.limit).field("next", &self.next_serial()).finish_non_exhaustive()
    }
}

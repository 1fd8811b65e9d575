//! The open tasks and task management requests of a session, by slot and by Initiator Task Tag.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::time::Instant;

use bytes::Bytes;
use scsi_core::{Lun, Status, TaskManagementFunction};
use smallvec::SmallVec;

use super::data_out::DataOutBuffer;
use super::event::DataOutError;
use super::{AbortCause, ConnectionKey, TaskHandle};
use crate::digest::Digests;
use crate::pdu::{DataSegment, InitiatorTaskTag, Residual, TaskManagementResponse};
use crate::sn::{CmdSn, DataSn, StatSn};

/// Where a task stands.
///
/// ```text
///   Held --its CmdSN's turn--> Active --send_status, task_aborted--> Ended --last data came, response left--> gone
///     \--refused on arrival-------------------------------------------^
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waits for its turn in the command order; the owner does not know it yet.
    Held,
    /// The owner has it.
    Active,
    /// How it ends is known; waits for outstanding data, then for its turn to be sent.
    Ended,
}

/// What ends a task on the wire.
#[derive(Debug)]
pub(super) struct End {
    pub(super) status: Status,
    pub(super) sense: SmallVec<[u8; 32]>,
    pub(super) residual: Residual,
    pub(super) bidirectional_read_residual: Residual,
}

impl End {
    pub(super) fn of(status: Status) -> Self {
        Self { status, sense: SmallVec::new(), residual: Residual::None, bidirectional_read_residual: Residual::None }
    }

    /// Whether the last Data-In can carry it (RFC 7143 11.7.2): no sense data, and a status that means success.
    pub(super) fn is_collapsible(&self) -> bool {
        self.sense.is_empty() && matches!(self.status, Status::GOOD | Status::CONDITION_MET)
    }
}

/// The read side of a task.
#[derive(Debug, Default)]
pub(super) struct DataInBuffer {
    /// Expected data transfer length of the read part.
    pub(super) length: u32,
    /// Bytes taken from the owner in order so far.
    pub(super) taken: u32,
    /// Bytes sent.
    pub(super) sent: u32,
    /// Bytes sent in the current sequence.
    pub(super) in_sequence: u32,
    /// Slices taken and not sent, `taken - sent` bytes.
    pub(super) pending: VecDeque<Bytes>,
    /// Pieces that came before their turn, by offset.
    pub(super) early: Vec<(u32, SmallVec<[Bytes; 4]>)>,
    /// Number of the next Data-In (and R2T, if bidirectional).
    pub(super) data_sn: DataSn,
}

impl DataInBuffer {
    /// Bytes that can be sent now.
    pub(super) fn unsent(&self) -> u32 {
        self.taken - self.sent
    }

    /// Forgets what was not sent; returns how many bytes that were.
    pub(super) fn drop_unsent(&mut self) -> u32 {
        let unsent = self.unsent();
        self.pending.clear();
        self.early.clear();
        self.taken = self.sent;
        unsent
    }

    fn clear(&mut self) {
        self.pending.clear();
        self.early.clear();
        (self.length, self.taken, self.sent, self.in_sequence) = (0, 0, 0, 0);
        self.data_sn = DataSn(0);
    }
}

/// A task management request under way.
#[derive(Debug)]
pub(super) struct Management {
    /// `None` for a code nobody assigned.
    pub(super) function: Option<TaskManagementFunction>,
    /// The open task that ABORT TASK or QUERY TASK means.
    pub(super) referenced: Option<TaskHandle>,
    /// The response, once it is known.
    pub(super) answer: Option<TaskManagementResponse>,
    /// Transfers of tasks it aborted that are still to come in.
    pub(super) transfers: u32,
    /// What must be acknowledged first on other connections: the next StatSN there when everything else was done.
    pub(super) acknowledgements: Option<SmallVec<[(ConnectionKey, StatSn); 2]>>,
    /// The waiting ends here.
    pub(super) deadline: Option<Instant>,
    /// The response is in the transmit queue.
    pub(super) answered: bool,
}

/// A command or a task management request.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) handle: TaskHandle,
    pub(super) tag: InitiatorTaskTag,
    pub(super) link: ConnectionKey,
    pub(super) lun: Lun,
    pub(super) cmd_sn: CmdSn,
    pub(super) immediate: bool,
    /// Takes a place in the command window.
    pub(super) counted: bool,
    pub(super) phase: Phase,
    pub(super) read: bool,
    pub(super) write: bool,
    pub(super) data_out: DataOutBuffer,
    pub(super) data_in: DataInBuffer,
    /// Why the session gave it up, and that the owner was told.
    pub(super) given_up: Option<AbortCause>,
    pub(super) end: Option<End>,
    /// Is in its connection's transmit queue.
    pub(super) queued: bool,
    /// Data of a held command: offset, bytes, F bit.
    pub(super) early_data: Vec<(u32, DataSegment, bool)>,
    pub(super) management: Option<Box<Management>>,
    /// Digests to make wrong in what is sent next of the task.
    pub(super) spoiled: Digests,
}

impl Task {
    fn new() -> Self {
        Self {
            handle: TaskHandle::new(0, 0),
            tag: InitiatorTaskTag::RESERVED,
            link: ConnectionKey::new(0, 0),
            lun: Lun::ZERO,
            cmd_sn: CmdSn(0),
            immediate: false,
            counted: false,
            phase: Phase::Held,
            read: false,
            write: false,
            data_out: DataOutBuffer::default(),
            data_in: DataInBuffer::default(),
            given_up: None,
            end: None,
            queued: false,
            early_data: Vec::new(),
            management: None,
            spoiled: Digests::default(),
        }
    }

    /// Ready for another life; what was allocated stays.
    fn clear(&mut self) {
        self.immediate = false;
        self.counted = false;
        self.phase = Phase::Held;
        self.read = false;
        self.write = false;
        self.data_out.clear();
        self.data_in.clear();
        self.given_up = None;
        self.end = None;
        self.queued = false;
        self.early_data.clear();
        self.management = None;
        self.spoiled = Digests::default();
    }

    pub(super) fn is_command(&self) -> bool {
        self.management.is_none()
    }

    pub(super) fn is_bidirectional(&self) -> bool {
        self.read && self.write
    }

    /// The damage that the initiator will hear of instead of the owner's status.
    pub(super) fn data_error(&self) -> Option<DataOutError> {
        match self.given_up {
            Some(AbortCause::DataOut(error)) => Some(error),
            _ => None,
        }
    }

    /// Whether the response may leave: the end is known and no more data is to come in (RFC 7143 11.4.2).
    pub(super) fn may_respond(&self) -> bool {
        self.end.is_some() && self.data_out.is_quiet()
    }
}

/// Multiplies and folds: tags are chosen by the peer, but there are never more than the table's capacity.
#[derive(Default)]
struct TagHasher(u64);

impl Hasher for TagHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u32(byte.into()));
    }

    fn write_u32(&mut self, tag: u32) {
        let mixed = (u64::from(tag) ^ self.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ mixed >> 32;
    }
}

/// The table. Slots are used again with their allocations, so that a command allocates nothing in steady state.
#[derive(Debug)]
pub(super) struct Tasks {
    slots: Vec<Task>,
    live: Vec<bool>,
    free: Vec<u16>,
    by_tag: HashMap<u32, u16, BuildHasherDefault<TagHasher>>,
    sequence: u64,
    capacity: usize,
}

impl Tasks {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            slots: Vec::new(),
            live: Vec::new(),
            free: Vec::new(),
            by_tag: HashMap::default(),
            sequence: 0,
            capacity: capacity.min(usize::from(u16::MAX)),
        }
    }

    /// Number of open tasks and requests.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub(super) fn has_tag(&self, tag: InitiatorTaskTag) -> bool {
        self.by_tag.contains_key(&tag.0)
    }

    /// Opens a task under a tag that is not in use. `None` when the table is full.
    pub(super) fn open(&mut self, tag: InitiatorTaskTag, link: ConnectionKey) -> Option<&mut Task> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < self.capacity => {
                self.slots.push(Task::new());
                self.live.push(false);
                (self.slots.len() - 1) as u16
            }
            None => return None,
        };
        self.sequence += 1;
        self.by_tag.insert(tag.0, slot);
        self.live[usize::from(slot)] = true;
        let task = &mut self.slots[usize::from(slot)];
        task.handle = TaskHandle::new(slot, self.sequence);
        task.tag = tag;
        task.link = link;
        Some(task)
    }

    pub(super) fn get(&self, handle: TaskHandle) -> Option<&Task> {
        let task = self.slots.get(handle.slot())?;
        (task.handle == handle && self.live[handle.slot()]).then_some(task)
    }

    pub(super) fn get_mut(&mut self, handle: TaskHandle) -> Option<&mut Task> {
        let task = self.slots.get_mut(handle.slot())?;
        (task.handle == handle && self.live[handle.slot()]).then_some(task)
    }

    pub(super) fn by_tag(&self, tag: InitiatorTaskTag) -> Option<&Task> {
        self.by_tag.get(&tag.0).map(|&slot| &self.slots[usize::from(slot)])
    }

    pub(super) fn by_tag_mut(&mut self, tag: InitiatorTaskTag) -> Option<&mut Task> {
        self.by_tag.get(&tag.0).map(|&slot| &mut self.slots[usize::from(slot)])
    }

    /// Closes a task: its handle is stale and its tag free.
    pub(super) fn close(&mut self, handle: TaskHandle) {
        let slot = handle.slot();
        if self.get(handle).is_some() {
            let task = &mut self.slots[slot];
            self.by_tag.remove(&task.tag.0);
            task.clear();
            self.live[slot] = false;
            self.free.push(slot as u16);
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Task> {
        self.slots.iter().zip(&self.live).filter_map(|(task, live)| live.then_some(task))
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Task> {
        self.slots.iter_mut().zip(&self.live).filter_map(|(task, live)| live.then_some(task))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINK: ConnectionKey = ConnectionKey::new(0, 1);

    #[test]
    fn a_closed_task_leaves_a_stale_handle_and_a_free_tag() {
        let mut tasks = Tasks::new(2);
        let tag = InitiatorTaskTag(5);
        let old = tasks.open(tag, LINK).unwrap().handle;
        tasks.close(old);
        assert!(tasks.get(old).is_none() && !tasks.has_tag(tag));
        let new = tasks.open(tag, LINK).unwrap().handle;
        assert_eq!(new.slot(), old.slot());
        assert!(tasks.get(old).is_none() && tasks.get(new).is_some());
        assert!(old.is_older_than(new));
    }

    #[test]
    fn the_table_is_bounded() {
        let mut tasks = Tasks::new(2);
        assert!(tasks.open(InitiatorTaskTag(1), LINK).is_some());
        assert!(tasks.open(InitiatorTaskTag(2), LINK).is_some());
        assert!(tasks.open(InitiatorTaskTag(3), LINK).is_none());
        assert_eq!(tasks.len(), 2);
    }
}

//! One task, and what it is doing.

use bytes::Bytes;
use scsi_core::cdb::LogSense;
use scsi_core::command::Command;
use scsi_core::task_set::TaskKey;
use scsi_core::{Lun, SenseData};
use smallvec::SmallVec;
use stmf::TaskId;
use stmf::provider::{LuTask, Segments};

use super::copy_list::Resolving;
use super::gather::Gather;
use super::persist::Change;
use super::slab::Key;
use super::token::{Populating, Redeeming};

/// A task in the task set. It ends once, and stays here until no store operation of it is in flight.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) id: TaskId,
    pub(super) lun: Lun,
    cdb: [u8; 16],
    cdb_length: u8,
    /// Bytes the initiator has for us, bytes it has room for.
    pub(super) data_out_length: u32,
    pub(super) data_in_length: u32,
    /// When it came, in microseconds of the unit's clock.
    pub(super) begun_us: u64,
    /// Its name in the task set.
    pub(super) ticket: TaskKey,
    /// NACA: a CHECK CONDITION establishes an ACA.
    pub(super) naca: bool,
    pub(super) work: Work,
    /// Store operations that were asked for and are not done, and tasks whose end is waited for.
    pub(super) in_flight: u32,
    /// Bytes that reached the initiator or the store.
    pub(super) moved: u64,
    /// Data-out that has come and was not used yet.
    pub(super) gather: Gather,
    /// What the last read-back gave.
    pub(super) read_back: Vec<Bytes>,
    /// It failed; told when nothing is in flight any more.
    pub(super) failure: Option<SenseData>,
    /// It was aborted; told when nothing is in flight any more.
    pub(super) aborted: Option<Announce>,
    /// Who waits for its end.
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

impl Task {
    #[inline]
    pub(super) fn new(task: &LuTask<'_>, ticket: TaskKey, begun_us: u64) -> Self {
        let mut cdb = [0; 16];
        let length = task.cdb.len().min(16);
        cdb[..length].copy_from_slice(&task.cdb[..length]);
        Self {
            id: task.id,
            lun: task.lun,
            cdb,
            cdb_length: length as u8,
            data_out_length: task.data_out_length,
            data_in_length: task.data_in_length,
            begun_us,
            ticket,
            naca: false,
            work: Work::Waiting,
            in_flight: 0,
            moved: 0,
            gather: Gather::default(),
            read_back: Vec::new(),
            failure: None,
            aborted: None,
            waiters: SmallVec::new(),
        }
    }

    pub(super) fn cdb(&self) -> &[u8] {
        &self.cdb[..usize::from(self.cdb_length)]
    }

    /// Whether it has begun, and not as one of the changes that are kept beside the data.
    pub(super) fn is_on_medium(&self) -> bool {
        !matches!(self.work, Work::Waiting | Work::Persist(_) | Work::PersistQueue { .. })
    }

    /// Whether it still does something of its own: neither failed nor aborted.
    pub(super) fn is_alive(&self) -> bool {
        self.failure.is_none() && self.aborted.is_none()
    }
}

/// What is left of a task that has ended.
pub(super) struct Retired {
    pub(super) id: TaskId,
    /// It was aborted.
    pub(super) aborted: Option<Announce>,
    /// The record of the copy that it was about to begin.
    pub(super) copy: Option<u64>,
    pub(super) waiters: SmallVec<[Waiter; 1]>,
}

/// How an aborted task ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Announce {
    /// There is nobody left to tell.
    Silent,
    /// Ends without a status.
    Quiet,
    /// Ends with TASK ABORTED.
    Report,
}

/// Who waits for the end of a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiter {
    /// A task management function.
    Function(Key),
    /// A task, which counts it among its operations in flight.
    Task(Key),
}

/// What a task is doing; what is seldom done is boxed, so that tasks stay small. `total` is the number of bytes that the CDB moves.
#[derive(Debug)]
pub(super) enum Work {
    /// Not begun: older tasks come first.
    Waiting,
    /// Begun, nothing to remember.
    Running,
    /// Flushes, then reads: FUA on a read.
    FlushThenRead { lba: u64, blocks: u32 },
    /// Reads are in flight; each sends its data.
    Read { total: u64 },
    /// Data-out goes to the store as it comes.
    Write(Writing),
    /// All data-out is wanted before anything happens.
    Gather { length: u32, command: Command },
    /// Everything is done but what is in flight.
    Finish { total: u64 },
    /// The medium is read back, perhaps compared.
    Verify(Box<Verifying>),
    /// WRITE AND VERIFY: the write is in flight, then this.
    WriteThenVerify(Box<Verifying>),
    /// COMPARE AND WRITE, ORWRITE: waits for its range.
    CompareAndWrite(Box<Comparing>),
    /// The range is read back.
    Comparing(Box<Comparing>),
    /// WRITE ATOMIC: waits for its range.
    WriteAtomic(Box<Atomic>),
    /// WRITE SAME, piece by piece.
    Same(Box<Repeating>),
    /// A job is doing it; the task ends with the job.
    Job(Key),
    /// LOG SENSE: the store is asked how full it is.
    LogSense(LogSense),
    /// EXTENDED COPY: the units that it names are looked for.
    Resolve(Box<Resolving>),
    /// WRITE USING TOKEN: the token is looked for.
    Redeem(Box<Redeeming>),
    /// POPULATE TOKEN: waits for its ranges, then for a name that nobody can guess.
    Populate(Box<Populating>),
    /// A record is being kept.
    Persist(Change),
    /// Something else is being kept; the command begins again after that.
    PersistQueue { command: Command, data: Box<Segments> },
}

#[derive(Debug)]
pub(super) struct Writing {
    /// First byte on the medium.
    pub(super) base: u64,
    /// Bytes wanted of the initiator.
    pub(super) length: u32,
    /// Bytes handed to the store.
    pub(super) issued: u32,
    /// Must be durable before GOOD.
    pub(super) durable: bool,
    /// Some of it went to the store in a form that is not durable by itself.
    pub(super) needs_flush: bool,
    pub(super) total: u64,
}

#[derive(Debug)]
pub(super) struct Verifying {
    pub(super) base: u64,
    pub(super) length: u64,
    /// Bytes read back and found right.
    pub(super) done: u64,
    pub(super) against: Against,
    pub(super) total: u64,
}

/// What a verified range is compared with.
#[derive(Debug)]
pub(super) enum Against {
    /// With nothing: it only has to be readable.
    Nothing,
    /// With as many bytes; those already compared are gone.
    Data(Segments),
    /// With one block over and over.
    Block(Bytes),
}

#[derive(Debug)]
pub(super) struct Comparing {
    pub(super) base: u64,
    pub(super) length: u32,
    /// What the range has to be; for ORWRITE nothing.
    pub(super) compare: Option<Segments>,
    /// What it becomes; for ORWRITE combined with what it is.
    pub(super) write: Segments,
    pub(super) durable: bool,
}

#[derive(Debug)]
pub(super) struct Atomic {
    pub(super) offset: u64,
    pub(super) data: Segments,
    pub(super) durable: bool,
    pub(super) total: u64,
}

#[derive(Debug)]
pub(super) struct Repeating {
    /// Next byte, end of the range.
    pub(super) at: u64,
    pub(super) end: u64,
    /// One block; empty for zeros.
    pub(super) pattern: Bytes,
    /// Deallocate instead of writing zeros.
    pub(super) unmap: bool,
    pub(super) durable: bool,
    pub(super) total: u64,
}

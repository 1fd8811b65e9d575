//! The logical unit as a state machine: commands in, store operations and answers out.
//!
//! ```text
//!   submit ----> task set ----> execute ----> Effect::Store, Effect::ReceiveData
//!                 (order)       (checks)              |               |
//!                    ^                           store_done        data_out
//!                    |                                \               /
//!                    +--- retire <--- complete <------- advance ------+
//!                                     end_aborted <---- abort (manage, detach, PREEMPT AND ABORT)
//! ```
//!
//! A task is executed when its attribute lets it; then it is checked in this order: the nexus is known; the command is
//! one of the table and its CDB is well formed; a unit attention is pending; a reservation forbids it; the medium is
//! there; it may be written; the range lies in the unit; the transfer is not too long. It ends once: in `complete`, or
//! in `end_aborted` when what it has in flight has ended.

mod access;
mod answers;
mod atomic;
mod copy;
mod copy_list;
mod copy_results;
mod diagnostics;
mod execute;
mod foreign;
mod gather;
mod information;
mod job;
mod logs;
mod maintain;
mod manage;
mod modes;
mod nexus;
mod ops;
mod pace;
mod persist;
mod provision;
mod removable;
mod reserve;
mod sense;
mod slab;
mod space;
mod task;
mod token;
mod transfer;
mod verify;

use scsi_core::command::CommandSet;
use scsi_core::mode::TaskSetType;
use scsi_core::reservation::{Reservations, TargetPort};
use scsi_core::task_set::{TaskKey, TaskSet};
use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use stmf::provider::{Effects, NexusLoss};
use stmf::{Guid, Nexus, NexusId, TaskId};

use self::access::Ports;
use self::copy_results::Copies;
use self::execute::Offered;
use self::foreign::Foreign;
pub(crate) use self::foreign::{Found, Outbound, Redeemed};
use self::job::Job;
use self::logs::Logs;
use self::maintain::Condition;
use self::manage::Pending;
use self::modes::Modes;
use self::nexus::NexusState;
use self::ops::{Exclusive, Held, Op};
use self::pace::Pace;
use self::removable::Medium;
use self::slab::{Key, Slab};
use self::space::Space;
use self::task::{Announce, Task};
pub(crate) use self::token::NAME_BYTES;
use self::token::Tokens;
use crate::meta::Identity;
use crate::store::Capabilities;

/// How much one logical unit takes on; what is more is refused, never queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Tasks of all nexuses; more end with TASK SET FULL.
    pub max_tasks: usize,
    /// Tasks of one nexus; more end with TASK SET FULL.
    pub max_tasks_per_nexus: usize,
    /// The longest transfer in bytes (MAXIMUM TRANSFER LENGTH); longer ones end with 05/24/00.
    pub max_transfer_bytes: u32,
    /// The longest COMPARE AND WRITE in blocks; 0 leaves the command out.
    pub max_compare_and_write_blocks: u8,
    /// The most blocks of one UNMAP.
    pub max_unmap_blocks: u32,
    /// The most descriptors of one UNMAP.
    pub max_unmap_descriptors: u32,
    /// The longest WRITE SAME in bytes.
    pub max_write_same_bytes: u64,
    /// Reads go to the store in pieces of this size, a multiple of every block size.
    pub read_piece_bytes: u32,
    /// Data-out goes to the store as soon as so much of it lies together; the rest when all has come.
    pub write_piece_bytes: u32,
    /// The longest write to the store, a multiple of every block size.
    pub max_write_bytes: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_tasks: 4096,
            max_tasks_per_nexus: 1024,
            max_transfer_bytes: 32 << 20,
            max_compare_and_write_blocks: 128,
            max_unmap_blocks: 1 << 20,
            max_unmap_descriptors: 256,
            max_write_same_bytes: 4 << 30,
            read_piece_bytes: 1 << 20,
            write_piece_bytes: 256 << 10,
            max_write_bytes: 1 << 20,
        }
    }
}

/// What a logical unit has done since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Statistics {
    /// Commands of all kinds that were taken.
    pub commands: u64,
    /// Commands that read.
    pub reads: u64,
    /// Bytes read for initiators.
    pub read_bytes: u64,
    /// Commands that write.
    pub writes: u64,
    /// Bytes of initiators' data written.
    pub written_bytes: u64,
    /// UNMAP commands.
    pub unmaps: u64,
    /// SYNCHRONIZE CACHE commands.
    pub flushes: u64,
    /// Store operations that failed.
    pub errors: u64,
    /// Commands that were aborted.
    pub aborted: u64,
    /// Bytes read back to be verified or compared.
    pub verified_bytes: u64,
    /// Reads for initiators that failed.
    pub read_errors: u64,
    /// Writes and flushes that failed.
    pub write_errors: u64,
    /// Reads to verify or compare that failed.
    pub verify_errors: u64,
    /// Time spent on commands that read, in microseconds; zero without a clock, as all times.
    pub read_time_us: u64,
    /// Time spent on commands that write, in microseconds.
    pub write_time_us: u64,
    /// Sum over commands that read or write of how many were under way when each came.
    pub weighted_commands: u64,
    /// Sum over commands that read or write of their time, each times how many were under way at its end.
    pub weighted_time_us: u64,
    /// Time without any command, in microseconds.
    pub idle_time_us: u64,
}

/// What administrators see of a logical unit now.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LuSnapshot {
    /// Who it is, with what is saved.
    pub identity: Identity,
    /// Writes are cached until a flush.
    pub write_cache_enabled: bool,
    /// Writes are refused, for whichever reason.
    pub write_protected: bool,
    /// Why the unit has failed, if it has: it stays so until it is brought online again.
    pub failure: Option<String>,
    /// Nexuses that reach it.
    pub nexuses: usize,
    /// Tasks in the task set.
    pub tasks: usize,
    /// Persistent registrations.
    pub registrations: usize,
    /// A reservation is held, by RESERVE or a persistent one.
    pub reserved: bool,
    /// The record of persistent reservations could not be read: until they are replaced or cleared, everything that a
    /// reservation could forbid is forbidden.
    pub reservations_lost: bool,
    /// Counters.
    pub statistics: Statistics,
}

/// A logical unit without I/O, threads or locks. See [`SbdLu`](crate::SbdLu) for the one with a store.
///
/// Each call appends effects; the caller carries them out and comes back with [`data_out`](Self::data_out) and
/// [`store_done`](Self::store_done).
///
/// ```
/// use lu_sbd::meta::Identity;
/// use lu_sbd::properties::CreateProperties;
/// use lu_sbd::{Capabilities, Limits, Lu};
/// use scsi_core::{GuidHost, Lun, SenseData, SenseKey, TaskAttribute};
/// use std::path::Path;
/// use std::sync::Arc;
/// use stmf::provider::{Effect, LuTask};
/// use stmf::{Nexus, NexusId, TaskId, TaskTag};
///
/// let properties = CreateProperties::parse([], Some("1G"))?;
/// let guid = properties.guid(GuidHost::HostId(1), 0, 1);
/// let identity = properties.identity(guid, Path::new("vol1"), 0)?;
/// let mut lu = Lu::new(identity, Capabilities::default(), Limits::default());
///
/// lu.attach(&Arc::new(Nexus {
///     id: NexusId(1),
///     initiator: "iqn.2026-11.org.example:host".into(),
///     transport_id: b"\x05\0\0\x20iqn.2026-11.org.example:host\0\0\0\0".to_vec(),
///     target: "iqn.2026-11.org.example:disk".into(),
///     target_port_name: "iqn.2026-11.org.example:disk,t,0x0001".into(),
///     relative_target_port: 1,
///     protocol: 5,
/// }));
///
/// let mut effects = Vec::new();
/// let task = LuTask {
///     id: TaskId { nexus: NexusId(1), tag: TaskTag(1) },
///     lun: Lun::ZERO,
///     attribute: TaskAttribute::Simple,
///     priority: 0,
///     cdb: &[0x28, 0, 0xff, 0xff, 0xff, 0xff, 0, 0, 1, 0], // READ(10) of the last block there could be
///     data_out_length: 0,
///     data_in_length: 512,
/// };
/// lu.submit(task, &mut effects);
///
/// // The first command of a nexus meets a unit attention ...
/// let Some(Effect::Complete(completion)) = effects.pop() else { panic!() };
/// let sense = SenseData::decode(&completion.sense).unwrap();
/// assert_eq!((sense.key, sense.code.asc), (SenseKey::UNIT_ATTENTION, 0x29));
///
/// // ... the second is carried out, and this one cannot be.
/// lu.submit(task, &mut effects);
/// let Some(Effect::Complete(completion)) = effects.pop() else { panic!() };
/// let sense = SenseData::decode(&completion.sense).unwrap();
/// assert_eq!((sense.key, sense.code.asc), (SenseKey::ILLEGAL_REQUEST, 0x21));
/// # Ok::<(), lu_sbd::properties::PropertyError>(())
/// ```
#[derive(Debug)]
pub struct Lu {
    limits: Limits,
    identity: Identity,
    capabilities: Capabilities,
    commands: CommandSet,
    block_shift: u32,
    modes: Modes,
    medium: Medium,
    ports: Ports,
    reservations: Reservations,
    /// Those it was reached through since it was made.
    target_ports: Vec<TargetPort>,
    nexuses: HashMap<NexusId, NexusState, Quick>,
    tasks: Slab<Task>,
    by_id: HashMap<TaskId, Key, Quick>,
    /// Which tasks may run; what it calls them by, in the order of its indices.
    set: TaskSet,
    by_ticket: Vec<Key>,
    /// Tasks that it has just let run; empty between calls.
    enabled: Vec<TaskKey>,
    /// Numbers of nexuses that are gone.
    free_numbers: Vec<usize>,
    numbers: usize,
    ops: Slab<Op>,
    exclusives: Vec<Exclusive>,
    held: VecDeque<Held>,
    /// Limits of the rate, and what they hold back.
    pace: Pace,
    sequence: u64,
    offered: Offered,
    condition: Condition,
    space: Space,
    /// What goes on for tasks, or after them.
    jobs: Slab<Job>,
    runnable_jobs: VecDeque<Key>,
    /// How third-party copies went.
    copies: Copies,
    /// Copies to this unit that others manage.
    foreign: Slab<Foreign>,
    tokens: Tokens,
    /// What is asked of others when a call returns.
    outbox: Vec<Outbound>,
    functions: Slab<Pending>,
    /// The task whose turn it is to change what is kept, and those that wait for theirs.
    persisting: Option<Key>,
    persist_queue: VecDeque<Key>,
    /// Tasks to be looked at before a call returns.
    runnable: VecDeque<Key>,
    /// A flush failed or the store is poisoned.
    failed: bool,
    failure: Option<String>,
    statistics: Statistics,
    logs: Logs,
    /// The host's clock in microseconds since 1970, now and when it was first told; 0 for no clock.
    clock_us: u64,
    powered_on_us: u64,
    /// By how much SET TIMESTAMP has moved the time.
    timestamp_offset_ms: Option<i64>,
}

impl Lu {
    /// A unit of this identity over a store of these capabilities.
    pub fn new(identity: Identity, capabilities: Capabilities, limits: Limits) -> Self {
        let block_shift = identity.block_size.trailing_zeros();
        let capabilities = told(capabilities, &identity);
        let mut lu = Self {
            limits,
            commands: execute::commands(&identity, &capabilities, &limits, Offered::default()),
            modes: Modes::new(&identity, &capabilities),
            medium: Medium::default(),
            ports: Ports::default(),
            reservations: reserve::restore(&identity.reservations),
            target_ports: Vec::new(),
            identity,
            capabilities,
            block_shift,
            nexuses: HashMap::default(),
            tasks: Slab::new(),
            by_id: HashMap::default(),
            set: TaskSet::new(TaskSetType::Shared, limits.max_tasks),
            by_ticket: Vec::new(),
            enabled: Vec::new(),
            free_numbers: Vec::new(),
            numbers: 0,
            ops: Slab::new(),
            exclusives: Vec::new(),
            held: VecDeque::new(),
            pace: Pace::default(),
            sequence: 0,
            offered: Offered::default(),
            condition: Condition::Ready,
            space: Space::default(),
            jobs: Slab::new(),
            runnable_jobs: VecDeque::new(),
            copies: Copies::default(),
            foreign: Slab::new(),
            tokens: Tokens::default(),
            outbox: Vec::new(),
            functions: Slab::new(),
            persisting: None,
            persist_queue: VecDeque::new(),
            runnable: VecDeque::new(),
            failed: false,
            failure: None,
            statistics: Statistics::default(),
            logs: Logs::default(),
            clock_us: 0,
            powered_on_us: 0,
            timestamp_offset_ms: None,
        };
        lu.set.set_type(lu.modes.control().task_set_type);
        lu.pace.set(&lu.identity.io_limits);
        // What was begun in an earlier life and not ended is broken.
        lu.condition = Condition::of(lu.identity.unfinished);
        lu
    }

    /// The unit's name.
    pub fn guid(&self) -> Guid {
        self.identity.guid
    }

    /// Who it is, with what is saved: what a record would hold now.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Size in bytes.
    pub fn size(&self) -> u64 {
        self.identity.size
    }

    /// Size in logical blocks.
    pub fn blocks(&self) -> u64 {
        self.identity.size >> self.block_shift
    }

    /// A nexus reaches the unit from now on.
    pub fn attach(&mut self, nexus: &Arc<Nexus>) {
        let number = self.number();
        let access = self.ports.of(nexus.relative_target_port).1;
        let state = NexusState::new(Arc::clone(nexus), number, access);
        self.learn_port(&state.name.port);
        self.nexuses.insert(nexus.id, state);
    }

    /// A nexus reaches the unit no more.
    pub fn detach(&mut self, nexus: NexusId, loss: NexusLoss, fx: &mut Effects) {
        let announce = match loss {
            NexusLoss::SessionEnded => Announce::Silent,
            NexusLoss::Unmapped => Announce::Report,
        };
        let all: Vec<Key> = self.tasks.iter().filter(|(_, task)| task.id.nexus == nexus).map(|(key, _)| key).collect();
        for key in all
            .into_iter()
            .filter(|_| !scsi_core::mutation::is_active(scsi_core::mutation::Mutation::TasksOutliveSession))
        {
            self.abort(key, announce, None, fx);
        }
        if loss == NexusLoss::SessionEnded {
            self.silence_functions(nexus);
        }
        self.nexus_lost(nexus, fx);
        if let Some(state) = self.nexuses.remove(&nexus) {
            self.free_numbers.push(state.number);
        }
        self.run(fx);
    }

    /// A number for a nexus: that of one which is gone and has no task left, if there is one.
    fn number(&mut self) -> usize {
        match self.free_numbers.iter().position(|&number| self.set.len_of(number) == 0) {
            Some(at) => self.free_numbers.swap_remove(at),
            None => {
                self.numbers += 1;
                self.numbers - 1
            }
        }
    }

    /// The store was opened, again: what had failed is forgotten. Called while no nexus is attached.
    pub fn store_opened(&mut self, capabilities: Capabilities) {
        self.capabilities = told(capabilities, &self.identity);
        self.commands = execute::commands(&self.identity, &self.capabilities, &self.limits, self.offered);
        // Nobody watched what happened to the data meanwhile.
        self.tokens.revoke_all();
        self.failed = false;
        self.failure = None;
    }

    /// What administrators see.
    pub fn snapshot(&self) -> LuSnapshot {
        LuSnapshot {
            identity: self.identity.clone(),
            write_cache_enabled: self.write_cache(),
            write_protected: self.write_protected(),
            failure: self.failure.clone(),
            nexuses: self.nexuses.len(),
            tasks: self.tasks.len(),
            registrations: self.reservations.registrations().len(),
            reserved: !self.reservations.is_free(),
            reservations_lost: self.reservations.is_lost(),
            statistics: self.statistics,
        }
    }

    /// Counters.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }

    /// Whether the unit has failed and waits to be brought online again.
    pub fn has_failed(&self) -> bool {
        self.failed
    }
}

/// What the unit makes of its store's capabilities: a fully provisioned one gives nothing back.
fn told(mut capabilities: Capabilities, identity: &Identity) -> Capabilities {
    if identity.thick {
        capabilities.unmap = None;
    }
    capabilities
}

/// A hasher for names that this process chose itself: nobody can aim at collisions.
#[derive(Clone, Copy, Debug, Default)]
struct QuickHasher(u64);

type Quick = BuildHasherDefault<QuickHasher>;

impl Hasher for QuickHasher {
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, value: u64) {
        self.0 = (self.0.rotate_left(5) ^ value).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

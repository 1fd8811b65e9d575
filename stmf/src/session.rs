//! A session: one I_T nexus with its LUN map, from login to logout.

use arc_swap::ArcSwap;
use scsi_core::{AdditionalSense, Lun, TaskManagementFunction, TaskManagementResponse};
use smallvec::{SmallVec, smallvec};
use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::answer::{self, Answer};
use crate::lun_map::LunMap;
use crate::nexus::{Nexus, NexusId, TaskTag};
use crate::provider::{Effect, Effects, LogicalUnit, LuTask, Mailbox, TaskManagementRequest};
use crate::stmf::Stmf;

/// How a session is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Termination {
    /// Ask the initiator to log out, and close when it does not in due time.
    Logout,
    /// Close at once.
    Kill,
}

/// What went through a session since its login. Only ever grows.
#[derive(Debug, Default)]
pub struct Counters {
    commands: AtomicU64,
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

/// The values of [`Counters`] at some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CounterValues {
    /// Commands taken, whoever answered.
    pub commands: u64,
    /// Bytes sent to the initiator.
    pub read_bytes: u64,
    /// Bytes received from the initiator.
    pub written_bytes: u64,
}

impl Counters {
    /// Counts data sent to the initiator; the port provider calls it.
    pub fn add_read(&self, bytes: u64) {
        self.read_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts data received from the initiator; the port provider calls it.
    pub fn add_written(&self, bytes: u64) {
        self.written_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The values now.
    pub fn values(&self) -> CounterValues {
        CounterValues {
            commands: self.commands.load(Ordering::Relaxed),
            read_bytes: self.read_bytes.load(Ordering::Relaxed),
            written_bytes: self.written_bytes.load(Ordering::Relaxed),
        }
    }
}

/// A task management function to be given to a logical unit by the caller of [`Session::manage`].
#[derive(Clone, Debug)]
pub struct LuCall {
    /// The unit: call its [`LogicalUnit::manage`] and carry out the effects as its own.
    pub lu: Arc<dyn LogicalUnit>,
    /// What to call it with.
    pub request: TaskManagementRequest,
}

/// A reset of the whole target that waits for its logical units.
#[derive(Debug)]
struct TargetReset {
    outstanding: usize,
    response: TaskManagementResponse,
    cold: bool,
}

/// A session between an initiator port and a target port, made by [`Stmf::open_session`].
///
/// The port provider gives it the commands of the nexus and closes it in the end. All methods may be called from any
/// thread; the paths of commands take no lock. When something about the session changes (its LUN map, a wish to end
/// it) the session's mailbox is woken.
pub struct Session {
    nexus: Arc<Nexus>,
    initiator_alias: Option<String>,
    logged_in: u64,
    mailbox: Arc<dyn Mailbox>,
    stmf: Weak<Stmf>,
    map: ArcSwap<LunMap>,
    generation: AtomicU64,
    /// The unit attention REPORTED LUNS DATA HAS CHANGED is pending, once for the nexus.
    luns_changed: AtomicBool,
    /// 0: none; otherwise a [`Termination`] plus one.
    termination: AtomicU8,
    counters: Counters,
    resets: Mutex<HashMap<TaskTag, TargetReset>>,
}

impl Session {
    pub(crate) fn new(
        nexus: Arc<Nexus>,
        initiator_alias: Option<String>,
        logged_in: u64,
        mailbox: Arc<dyn Mailbox>,
        stmf: Weak<Stmf>,
        map: Arc<LunMap>,
    ) -> Self {
        Self {
            nexus,
            initiator_alias,
            logged_in,
            mailbox,
            stmf,
            map: ArcSwap::new(map),
            generation: AtomicU64::new(0),
            luns_changed: AtomicBool::new(false),
            termination: AtomicU8::new(0),
            counters: Counters::default(),
            resets: Mutex::default(),
        }
    }

    /// The name of the nexus.
    pub fn id(&self) -> NexusId {
        self.nexus.id
    }

    /// The two ends of the nexus.
    pub fn nexus(&self) -> &Arc<Nexus> {
        &self.nexus
    }

    /// The name that the initiator gave itself for people to read.
    pub fn initiator_alias(&self) -> Option<&str> {
        self.initiator_alias.as_deref()
    }

    /// When the initiator logged in, in seconds since 1970.
    pub fn logged_in(&self) -> u64 {
        self.logged_in
    }

    /// Where effects for this nexus go from other threads.
    pub fn mailbox(&self) -> &Arc<dyn Mailbox> {
        &self.mailbox
    }

    /// What went through.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The LUN map as it is now.
    pub fn lun_map(&self) -> Arc<LunMap> {
        self.map.load_full()
    }

    /// Grows with each change of the LUN map, so that a copy of it can be told to be old.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Whether the unit attention REPORTED LUNS DATA HAS CHANGED is pending.
    pub fn luns_changed(&self) -> bool {
        self.luns_changed.load(Ordering::Acquire)
    }

    /// The logical unit behind a LUN.
    pub fn resolve(&self, lun: Lun) -> Option<Arc<dyn LogicalUnit>> {
        self.map.load().find(lun).map(|entry| entry.lu.clone())
    }

    /// The wish, if any, that this session end.
    pub fn termination(&self) -> Option<Termination> {
        match self.termination.load(Ordering::Acquire) {
            0 => None,
            1 => Some(Termination::Logout),
            _ => Some(Termination::Kill),
        }
    }

    /// Asks the port provider to end the session. A stronger wish replaces a weaker one.
    pub fn terminate(&self, how: Termination) {
        let value = match how {
            Termination::Logout => 1,
            Termination::Kill => 2,
        };
        if self.termination.fetch_max(value, Ordering::AcqRel) < value {
            self.mailbox.wake();
        }
    }

    /// Takes a command.
    ///
    /// Returns the logical unit that took it: the effects are that unit's, some maybe for other nexuses
    /// ([`Stmf::dispatch`] sorts them). `None` when the framework has answered itself, by effects for this nexus
    /// alone: REPORT LUNS, whatever goes to a LUN without a unit, and the unit attention REPORTED LUNS DATA HAS
    /// CHANGED.
    pub fn submit(&self, task: LuTask<'_>, effects: &mut Effects) -> Option<Arc<dyn LogicalUnit>> {
        self.counters.commands.fetch_add(1, Ordering::Relaxed);
        let opcode = task.cdb.first().copied().unwrap_or(0);
        if opcode == answer::REPORT_LUNS {
            answer::finish(&task, self.report_luns(task.cdb), effects);
            return None;
        }
        let map = self.map.load();
        let Some(entry) = map.find(task.lun) else {
            let answer = if answer::is_well_known(task.lun) {
                self.attention(opcode, task.cdb).unwrap_or_else(|| answer::well_known(task.cdb, &self.nexus))
            } else {
                answer::unmapped(task.cdb)
            };
            answer::finish(&task, answer, effects);
            return None;
        };
        if let Some(answer) = self.attention(opcode, task.cdb) {
            answer::finish(&task, answer, effects);
            return None;
        }
        entry.lu.submit(task, effects);
        Some(entry.lu.clone())
    }

    /// Takes a task management function for a LUN.
    ///
    /// Returns the calls to make: one for a function on a logical unit, one for each mapped unit when the target or the
    /// nexus is reset. None: the answer is in `effects`. Every [`Effect::Managed`] of this nexus goes through
    /// [`Session::managed`] before the initiator hears of it.
    pub fn manage(&self, lun: Lun, request: TaskManagementRequest, effects: &mut Effects) -> SmallVec<[LuCall; 1]> {
        let answered = |effects: &mut Effects, response| {
            effects.push(Effect::Managed { nexus: self.nexus.id, tag: request.tag, response });
            SmallVec::new()
        };
        match request.function {
            // A nexus is between ports: losing it concerns every unit behind them, whatever LUN was named.
            TaskManagementFunction::TargetWarmReset
            | TaskManagementFunction::TargetColdReset
            | TaskManagementFunction::ItNexusReset => {
                let map = self.lun_map();
                let cold = request.function == TaskManagementFunction::TargetColdReset;
                let response = TaskManagementResponse::FunctionComplete;
                // An empty target still goes through `managed`, which knows what a cold reset does to sessions.
                let reset = TargetReset { outstanding: map.len().max(1), response, cold };
                self.lock_resets().insert(request.tag, reset);
                if map.is_empty() {
                    return answered(effects, response);
                }
                let function = match request.function {
                    TaskManagementFunction::ItNexusReset => TaskManagementFunction::ItNexusReset,
                    _ => TaskManagementFunction::LogicalUnitReset,
                };
                let request = TaskManagementRequest { function, ..request };
                map.iter().map(|entry| LuCall { lu: entry.lu.clone(), request }).collect()
            }
            TaskManagementFunction::TaskReassign => answered(effects, TaskManagementResponse::FunctionRejected),
            TaskManagementFunction::QueryAsynchronousEvent if self.luns_changed.load(Ordering::Acquire) => {
                // Sense key 6 with its code; how many more are pending is not told.
                let code = answer::LUNS_CHANGED.code;
                let additional = [answer::LUNS_CHANGED.key.0, code.asc, code.ascq];
                answered(effects, TaskManagementResponse::FunctionSucceeded { additional })
            }
            _ => match self.resolve(lun) {
                Some(lu) => smallvec![LuCall { lu, request }],
                None => answered(effects, TaskManagementResponse::IncorrectLun),
            },
        }
    }

    /// Takes the answer of one logical unit to a task management function; gives the one for the initiator.
    ///
    /// They are the same but for a reset of the target or the nexus, where it is `None` until the last unit has answered and then
    /// the worst of all. A cold reset then asks every session of the target to end: send the answer first.
    pub fn managed(&self, tag: TaskTag, response: TaskManagementResponse) -> Option<TaskManagementResponse> {
        let mut resets = self.lock_resets();
        let Some(reset) = resets.get_mut(&tag) else { return Some(response) };
        if reset.response == TaskManagementResponse::FunctionComplete {
            reset.response = response;
        }
        reset.outstanding -= 1;
        if reset.outstanding > 0 {
            return None;
        }
        let TargetReset { response, cold, .. } = resets.remove(&tag)?;
        drop(resets);
        if cold && let Some(stmf) = self.stmf.upgrade() {
            stmf.end_sessions_of(&self.nexus.target, Termination::Kill);
        }
        Some(response)
    }

    /// A task on `lun` was to end with this unit attention, and the initiator has not heard of it and will not: it is
    /// pending again, for the unit that is behind the LUN now, or for the nexus.
    pub fn restore_attention(&self, lun: Lun, code: AdditionalSense) {
        if code == answer::LUNS_CHANGED.code {
            self.luns_changed.store(true, Ordering::Release);
        } else if let Some(lu) = self.resolve(lun) {
            lu.restore_attention(self.nexus.id, code);
        }
    }

    /// Ends the session: the logical units forget the nexus, its tasks end without a word. Effects for other nexuses
    /// are delivered. Does nothing the second time.
    pub fn close(&self) {
        if let Some(stmf) = self.stmf.upgrade() {
            stmf.close_session(self.nexus.id);
        }
    }

    /// Puts another LUN map in place and establishes the unit attention.
    pub(crate) fn replace_map(&self, map: Arc<LunMap>) {
        self.map.store(map);
        self.generation.fetch_add(1, Ordering::AcqRel);
        // After the map: REPORT LUNS drops the attention first and reads the map then.
        self.luns_changed.store(true, Ordering::Release);
    }

    fn report_luns(&self, cdb: &[u8]) -> Answer {
        let pending = self.luns_changed.swap(false, Ordering::AcqRel);
        let answer = answer::report_luns(&self.map.load(), cdb);
        if answer.is_err() && pending {
            self.luns_changed.store(true, Ordering::Release);
        }
        answer
    }

    /// The pending unit attention, for commands that meet one.
    fn attention(&self, opcode: u8, cdb: &[u8]) -> Option<Answer> {
        if !self.luns_changed.load(Ordering::Relaxed) || opcode == answer::INQUIRY {
            return None;
        }
        // Whoever takes it away reports it; another command at the same time goes on.
        if !self.luns_changed.swap(false, Ordering::AcqRel) {
            return None;
        }
        Some(match opcode {
            answer::REQUEST_SENSE => Ok(answer::sense_data(cdb, &answer::LUNS_CHANGED)),
            _ => Err(answer::LUNS_CHANGED),
        })
    }

    fn lock_resets(&self) -> MutexGuard<'_, HashMap<TaskTag, TargetReset>> {
        self.resets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("nexus", &self.nexus).field("luns", &self.map.load().len()).finish()
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;

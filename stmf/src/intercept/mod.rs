//! Watching a logical unit, and doing it harm on purpose: for tests of initiators.
//!
//! An [`InterceptedLu`] stands before any other unit and passes everything through. Its [`Interceptor`], which several
//! units may share, notes each command in a [`Trace`] and holds [`Rule`]s: which commands meet which [`Fault`].
//!
//! ```
//! use stmf::intercept::{Fault, Interceptor, Rule};
//! use scsi_core::{AdditionalSense, SenseData, SenseKey};
//!
//! let interceptor = Interceptor::default();
//! // The third WRITE(10) from now on ends with MEDIUM ERROR, WRITE ERROR; later ones are carried out again.
//! let sense = SenseData::new(SenseKey::MEDIUM_ERROR, AdditionalSense { asc: 0x0c, ascq: 0 });
//! let id = interceptor.add(Rule { commands: vec![(0x2a, None)], nth: 3, count: Some(1), ..Rule::new(Fault::sense(&sense)) });
//! assert_eq!(interceptor.hits(id), Some(0));
//! assert!(interceptor.remove(id));
//! ```
//!
//! Like every unit it does no I/O of its own accord and reads no clock: a delay is a store operation that waits
//! ([`LogicalUnit::perform`]), and times of the trace come from the clock that the interceptor was given.

mod held;
mod rule;
#[cfg(test)]
mod tests;
mod trace;

pub use rule::{Fault, Rule, RuleId, blocks};
pub use trace::{Ending, Trace, TraceEntry};

use scsi_core::{AdditionalSense, Guid, SenseData, SenseFormat, Status};
use smallvec::SmallVec;
use std::any::Any;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use crate::nexus::{Nexus, NexusId, TaskId};
use crate::provider::{
    Completion, CopyEnd, CopyIn, CopyRefusal, Disturbance, Effect, Effects, LogicalUnit, LuTask, NexusLoss,
    ROD_TOKEN_BYTES, Rod, Segments, StoreCompletion, StoreDone, StoreError, StoreOp, StoreOutcome, StoreRequest,
    Surroundings, TargetPorts, TaskManagementRequest,
};
use held::Held;
use rule::Rules;

/// What intercepted units have in common: the rules and the trace. All methods may be called from any thread.
#[derive(Debug, Default)]
pub struct Interceptor {
    rules: Mutex<Rules>,
    /// Whether there is any rule: the lock is not taken without.
    armed: AtomicBool,
    trace: Trace,
}

impl Interceptor {
    /// With a trace.
    pub fn new(trace: Trace) -> Self {
        Self { trace, ..Self::default() }
    }

    /// The trace.
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// Puts a rule in force, behind those there are. A command meets the first rule that is due for it.
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut rules = self.rules();
        self.armed.store(true, Ordering::Release);
        rules.add(rule)
    }

    /// Takes a rule out of force. `false`: it was not there.
    pub fn remove(&self, id: RuleId) -> bool {
        let mut rules = self.rules();
        let removed = rules.remove(id);
        self.armed.store(!rules.is_empty(), Ordering::Release);
        removed
    }

    /// Takes every rule out of force.
    pub fn clear(&self) {
        let mut rules = self.rules();
        rules.clear();
        self.armed.store(false, Ordering::Release);
    }

    /// How many commands met the rule; `None` once it is removed.
    pub fn hits(&self, id: RuleId) -> Option<u64> {
        self.rules().hits(id)
    }

    fn due(&self, guid: Guid, nexus: Option<&Nexus>, task: &LuTask<'_>) -> Option<Fault> {
        if !self.armed.load(Ordering::Acquire) {
            return None;
        }
        self.rules().due(guid, nexus, task)
    }

    fn rules(&self) -> MutexGuard<'_, Rules> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task that was passed on and whose effects need a look.
#[derive(Debug, Default)]
struct Tracked {
    /// Its number in the trace.
    serial: Option<u64>,
    /// Data-in ends here.
    short_read: Option<u32>,
    /// To be done before the first effect that reaches the initiator.
    disturbance: Option<Disturbance>,
    /// To be done in place of the status.
    at_end: Option<Disturbance>,
}

#[derive(Debug, Default)]
struct Tasks {
    tracked: HashMap<TaskId, Tracked>,
    held: Held,
    nexuses: HashMap<NexusId, Arc<Nexus>>,
}

/// A logical unit behind an [`Interceptor`].
#[derive(Debug)]
pub struct InterceptedLu {
    inner: Arc<dyn LogicalUnit>,
    interceptor: Arc<Interceptor>,
    guid: Guid,
    tasks: Mutex<Tasks>,
}

impl InterceptedLu {
    /// `inner` behind `interceptor`. Register this one in place of `inner`.
    ///
    /// # Errors
    /// The name of `inner` is not of the form of logical units' names.
    pub fn new(inner: Arc<dyn LogicalUnit>, interceptor: Arc<Interceptor>) -> Result<Self, scsi_core::GuidError> {
        let guid = Guid::from_bytes(inner.guid())?;
        Ok(Self { inner, interceptor, guid, tasks: Mutex::default() })
    }

    /// The unit behind.
    pub fn inner(&self) -> &Arc<dyn LogicalUnit> {
        &self.inner
    }

    fn tasks(&self) -> MutexGuard<'_, Tasks> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Carries `fault` out on a task that has just come, or is over its delay.
    fn meet(&self, fault: Option<Fault>, serial: Option<u64>, task: LuTask<'_>, effects: &mut Effects) {
        let tracked = Tracked { serial, ..Tracked::default() };
        let end = |status, sense: SmallVec<[u8; 32]>, effects: &mut Effects| {
            self.interceptor.trace.end(serial, Ending::Status { status, sense: sense.clone(), data_length: 0 });
            effects.push(Effect::Complete(Completion { task: task.id, status, sense, data_length: 0 }));
        };
        match fault {
            None => self.pass(tracked, task, effects),
            Some(Fault::Status(status)) => end(status, SmallVec::new(), effects),
            Some(Fault::Sense(sense)) => end(Status::CHECK_CONDITION, sense, effects),
            Some(Fault::ShortRead(length)) => {
                self.pass(Tracked { short_read: Some(length), ..tracked }, task, effects);
            }
            Some(Fault::Hang) => self.tasks().held.swallow(task.id, serial),
            Some(Fault::Before(disturbance)) => {
                self.tasks().held.swallow(task.id, serial);
                effects.push(Effect::Disturb { task: task.id, disturbance });
            }
            Some(Fault::After(disturbance)) => {
                let tracked = match disturbance {
                    Disturbance::SpoilHeaderDigest | Disturbance::SpoilDataDigest => {
                        Tracked { disturbance: Some(disturbance), ..tracked }
                    }
                    _ => Tracked { at_end: Some(disturbance), ..tracked },
                };
                self.pass(tracked, task, effects);
            }
            Some(Fault::Delay(time, then)) => {
                let request = self.tasks().held.delay(&task, serial, time, then.map(|fault| *fault));
                effects.push(Effect::Store(request));
            }
        }
    }

    fn pass(&self, tracked: Tracked, task: LuTask<'_>, effects: &mut Effects) {
        let is_plain = tracked.serial.is_none()
            && tracked.short_read.is_none()
            && tracked.disturbance.is_none()
            && tracked.at_end.is_none();
        if !is_plain {
            self.tasks().tracked.insert(task.id, tracked);
        }
        let mark = effects.len();
        self.inner.submit(task, effects);
        self.look(mark, effects);
    }

    /// Looks at the effects from `mark` on: notes the ends of tasks, and does what faults want done.
    fn look(&self, mark: usize, effects: &mut Effects) {
        if mark == effects.len() {
            return;
        }
        let mut tasks = self.tasks();
        if tasks.tracked.is_empty() {
            return;
        }
        for effect in &mut effects[mark..] {
            if let Effect::Store(StoreRequest { op: StoreOp::Read { lands, .. }, .. }) = effect
                && let Some(landing) = lands
                && tasks.tracked.get(&landing.task).is_some_and(|tracked| tracked.short_read.is_some())
            {
                // What is left out must not be in the initiator's memory by then.
                *lands = None;
            }
        }
        let is_harmed = effects[mark..].iter().any(|effect| {
            reaches_initiator(effect)
                .and_then(|task| tasks.tracked.get(&task))
                .is_some_and(|t| t.short_read.is_some() || t.disturbance.is_some() || t.at_end.is_some())
        });
        if is_harmed {
            let tail: SmallVec<[Effect; 8]> = effects.drain(mark..).collect();
            tail.into_iter().for_each(|effect| harm(&mut tasks, &self.interceptor.trace, effect, effects));
        }
        let trace = &self.interceptor.trace;
        for effect in &effects[mark..] {
            let (task, ending) = match effect {
                Effect::Complete(done) => (done.task, Some(done)),
                Effect::Aborted { task, .. } => (*task, None),
                _ => continue,
            };
            let Some(Tracked { serial: Some(serial), .. }) = tasks.tracked.remove(&task) else { continue };
            trace.end(Some(serial), ending.map_or(Ending::Aborted, Ending::of));
        }
    }
}

/// The task for whose initiator the effect has something.
fn reaches_initiator(effect: &Effect) -> Option<TaskId> {
    match effect {
        Effect::SendData { task, .. } => Some(*task),
        Effect::Complete(done) => Some(done.task),
        _ => None,
    }
}

/// Pushes `effect` as the faults of its task want it.
fn harm(tasks: &mut Tasks, trace: &Trace, mut effect: Effect, effects: &mut Effects) {
    let Some((id, tracked)) = reaches_initiator(&effect).and_then(|task| Some((task, tasks.tracked.get_mut(&task)?)))
    else {
        effects.push(effect);
        return;
    };
    if let Some(disturbance) = tracked.disturbance.take() {
        effects.push(Effect::Disturb { task: id, disturbance });
    }
    match &mut effect {
        Effect::SendData { offset, data, .. } => {
            if let Some(limit) = tracked.short_read {
                truncate(data, limit.saturating_sub(*offset) as usize);
                if data.is_empty() {
                    return;
                }
            }
        }
        Effect::Complete(done) => {
            if let Some(limit) = tracked.short_read {
                done.data_length = done.data_length.min(limit.into());
            }
            if let Some(disturbance) = tracked.at_end.take() {
                // In place of the answer, which the transport might still send before it breaks.
                trace.end(tracked.serial, Ending::of(done));
                tasks.tracked.remove(&id);
                effects.push(Effect::Disturb { task: id, disturbance });
                return;
            }
        }
        _ => {}
    }
    effects.push(effect);
}

fn truncate(data: &mut Segments, mut room: usize) {
    data.retain(|segment| {
        segment.truncate(room);
        room -= segment.len();
        !segment.is_empty()
    });
}

impl LogicalUnit for InterceptedLu {
    fn guid(&self) -> [u8; 16] {
        self.inner.guid()
    }

    fn attach(&self, nexus: &Arc<Nexus>) {
        self.tasks().nexuses.insert(nexus.id, Arc::clone(nexus));
        self.inner.attach(nexus);
    }

    fn detach(&self, nexus: NexusId, loss: NexusLoss, effects: &mut Effects) {
        let mark = effects.len();
        self.inner.detach(nexus, loss, effects);
        self.look(mark, effects);
        let mut tasks = self.tasks();
        tasks.nexuses.remove(&nexus);
        for (task, serial) in tasks.held.release(|task| task.nexus == nexus) {
            self.interceptor.trace.end(serial, Ending::Aborted);
            if loss == NexusLoss::Unmapped {
                effects.push(Effect::Aborted { task, report: true });
            }
        }
        // Those of a session that ended end silently.
        tasks.tracked.retain(|task, tracked| {
            if task.nexus == nexus {
                self.interceptor.trace.end(tracked.serial, Ending::Aborted);
            }
            task.nexus != nexus
        });
    }

    fn submit(&self, task: LuTask<'_>, effects: &mut Effects) {
        let nexus = self.tasks().nexuses.get(&task.id.nexus).cloned();
        let fault = self.interceptor.due(self.guid, nexus.as_deref(), &task);
        let serial = self.interceptor.trace.begin(self.guid, nexus.as_deref(), &task, fault.is_some());
        self.meet(fault, serial, task, effects);
    }

    fn restore_attention(&self, nexus: NexusId, code: AdditionalSense) {
        self.inner.restore_attention(nexus, code);
    }

    fn set_target_ports(&self, ports: &Arc<TargetPorts>) {
        self.inner.set_target_ports(ports);
    }

    fn data_out(&self, task: TaskId, offset: u32, data: Segments, effects: &mut Effects) {
        let mark = effects.len();
        self.inner.data_out(task, offset, data, effects);
        self.look(mark, effects);
    }

    fn store_done(&self, done: StoreDone, effects: &mut Effects) {
        if Held::is_delay(done.token) {
            let Some(delayed) = self.tasks().held.resume(done.token) else { return };
            let (serial, then) = (delayed.serial, delayed.then.clone());
            self.meet(then, serial, delayed.task(), effects);
            return;
        }
        let mark = effects.len();
        self.inner.store_done(done, effects);
        self.look(mark, effects);
    }

    fn manage(&self, request: TaskManagementRequest, effects: &mut Effects) {
        let released = self.tasks().held.manage(&request);
        for (task, serial) in released {
            self.interceptor.trace.end(serial, Ending::Aborted);
            effects.push(Effect::Aborted { task, report: task.nexus != request.nexus });
        }
        let mark = effects.len();
        self.inner.manage(request, effects);
        self.look(mark, effects);
    }

    fn bring_online(&self) -> Result<(), StoreError> {
        self.inner.bring_online()
    }

    fn take_offline(&self) {
        self.inner.take_offline();
    }

    fn perform(&self, request: StoreRequest) -> StoreDone {
        if !Held::is_delay(request.token) {
            return self.inner.perform(request);
        }
        let time = self.tasks().held.time(request.token).unwrap_or(Duration::ZERO);
        std::thread::sleep(time);
        StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done }
    }

    fn try_perform(&self, request: StoreRequest) -> Result<StoreDone, StoreRequest> {
        if Held::is_delay(request.token) { Err(request) } else { self.inner.try_perform(request) }
    }

    fn start(&self, request: StoreRequest, completion: StoreCompletion) -> Result<(), (StoreRequest, StoreCompletion)> {
        if Held::is_delay(request.token) {
            return Err((request, completion));
        }
        self.inner.start(request, completion)
    }

    fn registered(&self, surroundings: &Weak<dyn Surroundings>) {
        self.inner.registered(surroundings);
    }

    fn medium(&self) -> Option<Arc<dyn Any + Send + Sync>> {
        self.inner.medium()
    }

    fn copy_end(&self, nexus: Option<NexusId>, write: bool) -> Result<CopyEnd, CopyRefusal> {
        self.inner.copy_end(nexus, write)
    }

    fn copy_in(&self, call: CopyIn, effects: &mut Effects) {
        let mark = effects.len();
        self.inner.copy_in(call, effects);
        self.look(mark, effects);
    }

    fn copied(&self, token: u64, outcome: Result<(), CopyRefusal>, effects: &mut Effects) {
        let mark = effects.len();
        self.inner.copied(token, outcome, effects);
        self.look(mark, effects);
    }

    fn redeem(&self, token: &[u8; ROD_TOKEN_BYTES]) -> Result<Rod, SenseData> {
        self.inner.redeem(token)
    }

    fn delete_token(&self, token: &[u8; ROD_TOKEN_BYTES]) {
        self.inner.delete_token(token);
    }
}

impl Fault {
    /// CHECK CONDITION with this sense data, in fixed format.
    pub fn sense(sense: &SenseData) -> Self {
        Self::Sense(SmallVec::from_vec(sense.encode(SenseFormat::Fixed)))
    }
}

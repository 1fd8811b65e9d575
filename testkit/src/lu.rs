//! A logical unit that follows a script and writes down what happens to it, and a mailbox to go with it.

use scsi_core::{SenseData, SenseFormat, Status, TaskAttribute, TaskManagementResponse};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use stmf::provider::{
    Completion, Effect, Effects, LogicalUnit, LuTask, Mailbox, NexusLoss, Segments, StoreDone, StoreOutcome,
    StoreRequest, TaskManagementRequest,
};
use stmf::{Guid, Nexus, NexusId, TaskId};

/// One call of a [`ScriptedLu`], without what is borrowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LuCall {
    /// `attach`.
    Attach(NexusId),
    /// `detach`.
    Detach(NexusId, NexusLoss),
    /// `submit`.
    Submit {
        /// The task.
        task: TaskId,
        /// Its attribute.
        attribute: TaskAttribute,
        /// Its CDB.
        cdb: Vec<u8>,
    },
    /// `data_out`.
    DataOut {
        /// The task.
        task: TaskId,
        /// Where in its buffer.
        offset: u32,
        /// The bytes.
        data: Vec<u8>,
    },
    /// `store_done`, by its token.
    StoreDone(u64),
    /// `manage`.
    Manage(TaskId, scsi_core::TaskManagementFunction),
    /// `bring_online`.
    Online,
    /// `take_offline`.
    Offline,
}

/// What a [`ScriptedLu`] does with a command.
#[derive(Clone, Debug)]
pub enum Reaction {
    /// GOOD.
    Good,
    /// GOOD after these bytes.
    Data(Vec<u8>),
    /// Fetches so many bytes of data-out, then GOOD.
    Receive(u32),
    /// CHECK CONDITION.
    Sense(SenseData),
    /// A status without sense.
    Status(Status),
    /// Nothing, until it is aborted or [`ScriptedLu::complete`] ends it.
    Hang,
}

/// A logical unit under the control of a test. Commands meet the reactions of its script one after the other, and
/// [`Reaction::Good`] when the script is over.
#[derive(Debug)]
pub struct ScriptedLu {
    guid: Guid,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Reaction>,
    calls: Vec<LuCall>,
    hanging: Vec<TaskId>,
    /// Task, bytes still to come, bytes in all.
    receiving: Vec<(TaskId, u32, u32)>,
}

impl ScriptedLu {
    /// A unit of that name.
    pub fn new(guid: Guid) -> Arc<Self> {
        Arc::new(Self { guid, state: Mutex::default() })
    }

    /// Adds to the script.
    pub fn react(&self, reactions: impl IntoIterator<Item = Reaction>) {
        self.lock().script.extend(reactions);
    }

    /// Everything that happened since this was last asked.
    pub fn take_calls(&self) -> Vec<LuCall> {
        std::mem::take(&mut self.lock().calls)
    }

    /// The commands that hang.
    pub fn hanging(&self) -> Vec<TaskId> {
        self.lock().hanging.clone()
    }

    /// Ends a hanging command with GOOD. False when there is no such command.
    pub fn complete(&self, task: TaskId, effects: &mut Effects) -> bool {
        let mut state = self.lock();
        let before = state.hanging.len();
        state.hanging.retain(|other| *other != task);
        let found = state.hanging.len() < before;
        if found {
            effects.push(end(task, Status::GOOD, &[], 0));
        }
        found
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets the tasks that `which` picks, and gives them.
    fn drop_tasks(&mut self, which: impl Fn(&TaskId) -> bool) -> Vec<TaskId> {
        let hanging = self.hanging.extract_if(.., |task| which(task)).collect::<Vec<_>>();
        let receiving = self.receiving.extract_if(.., |(task, ..)| which(task)).map(|(task, ..)| task);
        hanging.into_iter().chain(receiving).collect()
    }
}

fn end(task: TaskId, status: Status, sense: &[u8], data_length: u64) -> Effect {
    Effect::Complete(Completion { task, status, sense: SmallVec::from_slice(sense), data_length })
}

impl LogicalUnit for ScriptedLu {
    fn guid(&self) -> [u8; 16] {
        *self.guid.as_bytes()
    }

    fn attach(&self, nexus: &Arc<Nexus>) {
        self.lock().calls.push(LuCall::Attach(nexus.id));
    }

    fn detach(&self, nexus: NexusId, loss: NexusLoss, effects: &mut Effects) {
        let mut state = self.lock();
        state.calls.push(LuCall::Detach(nexus, loss));
        let tasks = state.drop_tasks(|task| task.nexus == nexus);
        if loss == NexusLoss::Unmapped {
            effects.extend(tasks.into_iter().map(|task| Effect::Aborted { task, report: true }));
        }
    }

    fn submit(&self, task: LuTask<'_>, effects: &mut Effects) {
        let mut state = self.lock();
        state.calls.push(LuCall::Submit { task: task.id, attribute: task.attribute, cdb: task.cdb.to_vec() });
        match state.script.pop_front().unwrap_or(Reaction::Good) {
            Reaction::Good => effects.push(end(task.id, Status::GOOD, &[], 0)),
            Reaction::Status(status) => effects.push(end(task.id, status, &[], 0)),
            Reaction::Sense(sense) => {
                effects.push(end(task.id, Status::CHECK_CONDITION, &sense.encode(SenseFormat::Fixed), 0));
            }
            Reaction::Data(data) => {
                let length = data.len();
                let sent = bytes::Bytes::from(data).slice(..length.min(task.data_in_length as usize));
                if !sent.is_empty() {
                    effects.push(Effect::SendData { task: task.id, offset: 0, data: Segments::from_iter([sent]) });
                }
                effects.push(end(task.id, Status::GOOD, &[], length as u64));
            }
            Reaction::Receive(length) => {
                let wanted = length.min(task.data_out_length);
                if wanted == 0 {
                    effects.push(end(task.id, Status::GOOD, &[], length.into()));
                } else {
                    state.receiving.push((task.id, wanted, length));
                    effects.push(Effect::ReceiveData { task: task.id, offset: 0, length: wanted });
                }
            }
            Reaction::Hang => state.hanging.push(task.id),
        }
    }

    fn data_out(&self, task: TaskId, offset: u32, data: Segments, effects: &mut Effects) {
        let mut state = self.lock();
        let data = data.concat();
        let length = data.len() as u32;
        state.calls.push(LuCall::DataOut { task, offset, data });
        let Some(at) = state.receiving.iter().position(|(other, ..)| *other == task) else { return };
        let (_, left, whole) = &mut state.receiving[at];
        *left = left.saturating_sub(length);
        if *left == 0 {
            effects.push(end(task, Status::GOOD, &[], (*whole).into()));
            state.receiving.remove(at);
        }
    }

    fn store_done(&self, done: StoreDone, _effects: &mut Effects) {
        self.lock().calls.push(LuCall::StoreDone(done.token.0));
    }

    fn manage(&self, request: TaskManagementRequest, effects: &mut Effects) {
        use scsi_core::TaskManagementFunction as Function;
        let mut state = self.lock();
        let this = TaskId { nexus: request.nexus, tag: request.tag };
        state.calls.push(LuCall::Manage(this, request.function));
        let referenced = request.referenced.map(|tag| TaskId { nexus: request.nexus, tag });
        let aborted = match request.function {
            Function::AbortTask => state.drop_tasks(|task| Some(*task) == referenced),
            Function::AbortTaskSet | Function::ItNexusReset => state.drop_tasks(|task| task.nexus == request.nexus),
            Function::ClearTaskSet | Function::LogicalUnitReset => state.drop_tasks(|_| true),
            _ => Vec::new(),
        };
        effects.extend(aborted.into_iter().map(|task| Effect::Aborted { task, report: task.nexus != request.nexus }));
        let response = TaskManagementResponse::FunctionComplete;
        effects.push(Effect::Managed { nexus: request.nexus, tag: request.tag, response });
    }

    fn bring_online(&self) -> Result<(), stmf::provider::StoreError> {
        self.lock().calls.push(LuCall::Online);
        Ok(())
    }

    fn take_offline(&self) {
        self.lock().calls.push(LuCall::Offline);
    }

    fn perform(&self, request: StoreRequest) -> StoreDone {
        StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done }
    }
}

/// A mailbox that keeps what is delivered until the test looks.
#[derive(Debug, Default)]
pub struct RecordingMailbox {
    state: Mutex<(Effects, usize)>,
    arrived: Condvar,
}

impl RecordingMailbox {
    /// An empty one.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// The effects that have arrived since this was last asked.
    pub fn take(&self) -> Effects {
        std::mem::take(&mut self.lock().0)
    }

    /// How often it was woken so far.
    pub fn wakes(&self) -> usize {
        self.lock().1
    }

    /// Waits until something arrives or it is woken, from any thread. False after `patience`.
    pub fn wait(&self, patience: Duration) -> bool {
        let state = self.lock();
        let before = (state.0.len(), state.1);
        let result = self.arrived.wait_timeout_while(state, patience, |state| (state.0.len(), state.1) == before);
        !result.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    fn lock(&self) -> MutexGuard<'_, (Effects, usize)> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Mailbox for RecordingMailbox {
    fn deliver(&self, _lu: &Arc<dyn LogicalUnit>, effect: Effect) -> Result<(), Effect> {
        self.lock().0.push(effect);
        self.arrived.notify_all();
        Ok(())
    }

    fn wake(&self) {
        self.lock().1 += 1;
        self.arrived.notify_all();
    }
}

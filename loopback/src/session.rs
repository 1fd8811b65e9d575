//! A session, sans-IO.

use crate::inbox::{Inbox, Letter, Sink};
use bytes::Bytes;
use scsi_core::{Lun, SenseData, Status, TaskAttribute, TaskManagementFunction, TaskManagementResponse};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use stmf::provider::{
    Effect, Effects, LogicalUnit, LuTask, Segments, StoreCompletion, StoreDone, StoreRequest, TaskManagementRequest,
};
use stmf::{LunMap, Stmf, TaskId, TaskTag, Termination};

/// A command to send.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The logical unit.
    pub lun: Lun,
    /// The CDB: 6 to 260 bytes.
    pub cdb: Vec<u8>,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// What to write; never copied.
    pub data_out: Segments,
    /// Bytes there is room for.
    pub data_in_length: u32,
    /// What is read comes piece by piece, each an [`Event::Data`], not with the outcome.
    pub pieces: bool,
}

impl Command {
    /// A command without data for LUN `lun`, 0 to 16383 (above: LUN 0).
    pub fn new(lun: u16, cdb: &[u8]) -> Self {
        Self { lun: Lun::new(lun).unwrap_or(Lun::ZERO), cdb: cdb.to_vec(), ..Self::default() }
    }

    /// With data to write.
    #[must_use]
    pub fn with_data_out(mut self, data: impl Into<Bytes>) -> Self {
        self.data_out = Segments::from_iter([data.into()]);
        self
    }

    /// With room for so many bytes.
    #[must_use]
    pub fn with_data_in(mut self, bytes: u32) -> Self {
        self.data_in_length = bytes;
        self
    }
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The status byte.
    pub status: Status,
    /// Sense data, if there was any.
    pub sense: Option<SenseData>,
    /// The same as the unit encoded it; empty if there was none.
    pub sense_bytes: SmallVec<[u8; 32]>,
    /// What was read, at most as much as there was room for; nothing if it came in pieces.
    pub data: Bytes,
    /// Bytes that the command would have moved by its CDB, in its direction; after an error, those that it did.
    pub data_length: u64,
}

impl Outcome {
    /// Whether the status is GOOD.
    pub fn is_good(&self) -> bool {
        self.status == Status::GOOD
    }
}

/// One thing that happened.
#[derive(Debug)]
pub enum Event {
    /// A piece of what a command read, before its end; pieces come in any order and none past the room that there is.
    Data {
        /// The command, which asked for [pieces](Command::pieces).
        tag: TaskTag,
        /// Where it belongs, in bytes.
        offset: u32,
        /// The bytes.
        data: Segments,
    },
    /// A command ended; each that was submitted does so once.
    Done {
        /// The command.
        tag: TaskTag,
        /// How; `None`: it was aborted and has no status.
        outcome: Option<Outcome>,
    },
    /// A task management function ended.
    Managed {
        /// The request.
        tag: TaskTag,
        /// The service response.
        response: TaskManagementResponse,
    },
    /// The framework wants the session to end: drop it.
    Terminated(Termination),
}

/// A store operation to carry out: [`LogicalUnit::try_perform`] or [`perform`](LogicalUnit::perform), or
/// [`start`](LogicalUnit::start) with [`Session::completion`].
#[derive(Debug)]
pub struct StoreJob {
    /// The unit.
    pub lu: Arc<dyn LogicalUnit>,
    /// What to do.
    pub request: StoreRequest,
}

#[derive(Debug)]
struct Task {
    data_out: Segments,
    room: u32,
    /// Each piece is an event.
    passes_on: bool,
    pieces: Vec<(u32, Segments)>,
}

/// An I_T nexus without a wire. After any call:
///
/// ```text
///   submit / manage / handle_store_done / handle_mail (when woken)
///       then, until none gives anything:
///   poll_store -> carry out, handle_store_done now or later
///   poll_event
/// ```
///
/// Dropping it ends the session: its tasks end without a word.
#[derive(Debug)]
pub struct Session {
    stmf: Arc<Stmf>,
    session: Arc<stmf::Session>,
    inbox: Arc<Inbox>,
    next_tag: u64,
    tasks: HashMap<TaskTag, Task>,
    stores: VecDeque<StoreJob>,
    events: VecDeque<Event>,
    terminated: bool,
}

impl Session {
    pub(crate) fn new(stmf: Arc<Stmf>, session: Arc<stmf::Session>, inbox: Arc<Inbox>) -> Self {
        Self {
            stmf,
            session,
            inbox,
            next_tag: 1,
            tasks: HashMap::new(),
            stores: VecDeque::new(),
            events: VecDeque::new(),
            terminated: false,
        }
    }

    /// What the initiator sees now.
    pub fn lun_map(&self) -> Arc<LunMap> {
        self.session.lun_map()
    }

    /// The framework's side of the session.
    pub fn stmf_session(&self) -> &Arc<stmf::Session> {
        &self.session
    }

    /// Sends a command. Its end is an [`Event::Done`].
    pub fn submit(&mut self, command: Command) -> TaskTag {
        let tag = self.tag();
        let id = TaskId { nexus: self.session.id(), tag };
        let Command { lun, cdb, attribute, data_out, data_in_length, pieces } = command;
        // A task counts at most what its field can say; whoever has more to write splits it.
        let length: usize = data_out.iter().map(Bytes::len).sum();
        let data_out_length = u32::try_from(length).unwrap_or(u32::MAX);
        self.tasks.insert(tag, Task { data_out, room: data_in_length, passes_on: pieces, pieces: Vec::new() });
        let task = LuTask { id, lun, attribute, priority: 0, cdb: &cdb, data_out_length, data_in_length };
        let mut effects = Effects::new();
        let lu = self.session.submit(task, &mut effects);
        self.take(lu.as_ref(), effects);
        tag
    }

    /// Sends a task management function; `referenced` is the task that it is about, if it is about one. Its end is an
    /// [`Event::Managed`].
    pub fn manage(&mut self, lun: Lun, function: TaskManagementFunction, referenced: Option<TaskTag>) -> TaskTag {
        let tag = self.tag();
        let request = TaskManagementRequest { nexus: self.session.id(), tag, function, referenced };
        let mut effects = Effects::new();
        let calls = self.session.manage(lun, request, &mut effects);
        self.take(None, effects);
        for call in calls {
            let mut effects = Effects::new();
            call.lu.manage(call.request, &mut effects);
            self.take(Some(&call.lu), effects);
        }
        tag
    }

    /// The next store operation to carry out.
    pub fn poll_store(&mut self) -> Option<StoreJob> {
        self.stores.pop_front()
    }

    /// The duty to report the outcome of a job that is started and not waited for; the outcome comes by mail.
    pub fn completion(&self, job: &StoreJob) -> StoreCompletion {
        let (inbox, lu) = (Arc::clone(&self.inbox), Arc::clone(&job.lu));
        let sink = Sink { inbox, lu, stmf: Arc::clone(&self.stmf) };
        StoreCompletion::new(Arc::new(sink), &job.request)
    }

    /// Takes the outcome of a store operation.
    pub fn handle_store_done(&mut self, lu: &Arc<dyn LogicalUnit>, done: StoreDone) {
        let mut effects = Effects::new();
        lu.store_done(done, &mut effects);
        self.take(Some(lu), effects);
    }

    /// Takes what other threads have for the session; called after each wake, and at any time.
    pub fn handle_mail(&mut self) {
        for letter in self.inbox.take() {
            match letter {
                Letter::Effect(lu, effect) => self.take(Some(&lu), vec![effect]),
                Letter::Stored(lu, done) => self.handle_store_done(&lu, done),
            }
        }
        if !self.terminated
            && let Some(how) = self.session.termination()
        {
            self.terminated = true;
            self.events.push_back(Event::Terminated(how));
        }
    }

    /// Whether, since this was last asked, the LUN map changed, a unit attention came up or the session is to end.
    pub fn take_look(&mut self) -> bool {
        self.inbox.take_look()
    }

    /// Whether the framework wants the session to end, and how: known as soon as it does, before
    /// [`Event::Terminated`] says so.
    pub fn termination(&self) -> Option<Termination> {
        self.session.termination()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Commands that have not ended.
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    fn tag(&mut self) -> TaskTag {
        self.next_tag += 1;
        TaskTag(self.next_tag)
    }

    /// Carries out effects; those for others go to them.
    fn take(&mut self, lu: Option<&Arc<dyn LogicalUnit>>, mut effects: Effects) {
        let own = self.session.id();
        // Effects beget effects: what is asked of a unit's data answers with more.
        while !effects.is_empty() {
            if let Some(lu) = lu {
                self.stmf.dispatch(lu, &mut effects, |nexus| nexus == own);
            }
            let mut further = Effects::new();
            for effect in effects.drain(..) {
                self.effect(lu, effect, &mut further);
            }
            effects = further;
        }
    }

    fn effect(&mut self, lu: Option<&Arc<dyn LogicalUnit>>, effect: Effect, further: &mut Effects) {
        match effect {
            Effect::Store(request) => {
                if let Some(lu) = lu {
                    self.stores.push_back(StoreJob { lu: Arc::clone(lu), request });
                }
            }
            Effect::ReceiveData { task, offset, length } => {
                let (Some(lu), Some(entry)) = (lu, self.tasks.get(&task.tag)) else { return };
                let data = part(&entry.data_out, offset as usize, length as usize);
                self.session.counters().add_written(data.iter().map(|piece| piece.len() as u64).sum());
                lu.data_out(task, offset, data, further);
            }
            Effect::SendData { task, offset, data } => {
                let Some(entry) = self.tasks.get_mut(&task.tag) else { return };
                if !entry.passes_on {
                    return entry.pieces.push((offset, data));
                }
                let room = entry.room.saturating_sub(offset) as usize;
                let data = part(&data, 0, room);
                self.session.counters().add_read(data.iter().map(|piece| piece.len() as u64).sum());
                self.events.push_back(Event::Data { tag: task.tag, offset, data });
            }
            Effect::Complete(completion) => {
                let Some(task) = self.tasks.remove(&completion.task.tag) else { return };
                let data = assemble(task);
                self.session.counters().add_read(data.len() as u64);
                let outcome = Outcome {
                    status: completion.status,
                    sense: SenseData::decode(&completion.sense),
                    sense_bytes: completion.sense,
                    data,
                    data_length: completion.data_length,
                };
                self.events.push_back(Event::Done { tag: completion.task.tag, outcome: Some(outcome) });
            }
            Effect::Aborted { task, report } => {
                if self.tasks.remove(&task.tag).is_some() {
                    let aborted = || Outcome {
                        status: Status::TASK_ABORTED,
                        sense: None,
                        sense_bytes: SmallVec::new(),
                        data: Bytes::new(),
                        data_length: 0,
                    };
                    self.events.push_back(Event::Done { tag: task.tag, outcome: report.then(aborted) });
                }
            }
            Effect::Managed { tag, response, .. } => {
                if let Some(response) = self.session.managed(tag, response) {
                    self.events.push_back(Event::Managed { tag, response });
                }
            }
            // There is no wire that could break.
            Effect::Disturb { .. } => {}
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.session.close();
        let letters = self.inbox.close();
        // What a unit still wants done is done, and what was done is told: both go the way of sessions that are gone.
        for StoreJob { lu, request } in self.stores.drain(..) {
            self.stmf.deliver(&lu, Effect::Store(request));
        }
        for letter in letters {
            match letter {
                Letter::Effect(lu, effect) => self.stmf.deliver(&lu, effect),
                Letter::Stored(lu, done) => {
                    let mut effects = Effects::new();
                    lu.store_done(done, &mut effects);
                    self.stmf.dispatch(&lu, &mut effects, |_| false);
                }
            }
        }
    }
}

/// So many bytes from `offset` on, as far as there are any: a unit asks for no more than it was told there is.
fn part(segments: &Segments, mut offset: usize, mut length: usize) -> Segments {
    let mut part = Segments::new();
    for segment in segments {
        let begin = offset.min(segment.len());
        let end = begin + length.min(segment.len() - begin);
        if end > begin {
            part.push(segment.slice(begin..end));
        }
        offset -= begin;
        length -= end - begin;
    }
    part
}

/// What was read, in order and as far as there was room: one piece as it is, several in one buffer.
fn assemble(mut task: Task) -> Bytes {
    let room = task.room as usize;
    task.pieces.sort_by_key(|(offset, _)| *offset);
    if let [(0, segments)] = &task.pieces[..]
        && let [only] = &segments[..]
    {
        return only.slice(..only.len().min(room));
    }
    let mut data = Vec::new();
    for (offset, segments) in task.pieces {
        if offset as usize != data.len() {
            break;
        }
        segments.iter().for_each(|segment| data.extend_from_slice(segment));
    }
    data.truncate(room);
    data.into()
}

//! A device: its queues, and what is under way on them.

use bytes::Bytes;
use lunette_loopback::{Command, Event, Outcome, Session, StoreJob};
use scsi_core::{Lun, SenseKey, Status, TaskManagementFunction, TaskManagementResponse};
use std::collections::{HashMap, VecDeque};
use std::num::Wrapping;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use stmf::provider::{LogicalUnit, Segments, StoreCompletion, StoreDone, StoreOp};
use stmf::traffic::{Clocked, Counters, Registry, Units};
use stmf::{LunMap, TaskTag, Termination};
use virtio_queue::{Queue, QueueT};
use vm_memory::GuestMemory;

use crate::chain::{Chain, ChainError, Lend, Ranges, WORTH_LENDING};
use crate::events::{EVENT_BYTES, Events};
use crate::inflight::Inflight;
use crate::request::{
    COMMAND_BYTES, CommandHeader, Control, MANAGEMENT_BYTES, RESPONSE_BYTES, Response, managed, response,
};
use crate::{CONTROL_QUEUE, EVENT_QUEUE};

/// Indices of queues whose driver is to be interrupted.
pub type Signals = Vec<usize>;

/// What one request may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of data in one direction; more is a failed request. At most `u32::MAX`.
    pub max_transfer: u64,
    /// Bytes that are copied because they are looked at (parameter lists, COMPARE AND WRITE) or cannot be lent.
    pub max_copied: u64,
    /// Bytes of reads under way; while there are so many, further requests wait on their rings. One request may go beyond.
    pub max_reading: u64,
    /// Requests that are taken from a queue before the others have their turn.
    pub max_turn: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_transfer: 64 << 20, max_copied: 4 << 20, max_reading: 64 << 20, max_turn: 64 }
    }
}

/// Why a queue was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// A request makes no sense.
    #[error("queue {queue}: {error}")]
    Chain {
        /// The queue.
        queue: usize,
        /// What is wrong.
        error: ChainError,
    },
    /// A request was made available twice before it was answered.
    #[error("queue {queue}: descriptor {head} is under way already")]
    Twice {
        /// The queue.
        queue: usize,
        /// The head of the request.
        head: u16,
    },
    /// The ring's index is ahead by more than the ring has, or the ring lies outside of the guest's memory.
    #[error("queue {queue}: its ring makes no sense")]
    Ring {
        /// The queue.
        queue: usize,
    },
}

/// A queue of the device.
#[derive(Debug)]
struct Ring {
    queue: Queue,
    is_running: bool,
    /// How often it was started: an answer to a request of an earlier run is nobody's any more.
    run: u64,
    /// By head: whether it is under way.
    open: Vec<bool>,
    under_way: usize,
    /// Something went on the used ring that was not signalled.
    used: bool,
}

/// Where an answer goes.
#[derive(Clone, Debug)]
struct Place {
    queue: usize,
    run: u64,
    head: u16,
    writable: Ranges,
}

#[derive(Debug)]
struct Request {
    place: Place,
    id: (Lun, u64),
    /// Bytes expected, in the one direction that there is.
    expected: u64,
    /// Bytes of data written to the guest.
    written: u64,
    is_read: bool,
    clocked: Clocked,
    lu: Option<Arc<dyn LogicalUnit>>,
}

/// The device that a guest sees: a session on one side, queues on the other.
///
/// After any call: carry out [`poll_store`](Self::poll_store), with [`lend_room`](Self::lend_room), until it gives nothing, then [`run`](Self::run), then
/// signal [`take_signals`](Self::take_signals). Calls that move data take the guest's memory; a device whose guest has
/// gone is dropped, and its session ends with it.
#[derive(Debug)]
pub struct Device {
    session: Session,
    limits: Limits,
    rings: Vec<Ring>,
    inflight: Option<Inflight>,
    requests: HashMap<TaskTag, Request>,
    /// What the driver calls its requests, for task management.
    ids: HashMap<(Lun, u64), TaskTag>,
    managements: HashMap<TaskTag, Place>,
    /// Questions of our own: which unit attention is next.
    questions: HashMap<TaskTag, u16>,
    /// There was something to look at while answers were awaited.
    looks_again: bool,
    map: Arc<LunMap>,
    events: Events,
    /// A unit attention of the session hides those of its units.
    is_hidden: bool,
    traffic: Arc<Registry>,
    counters: Arc<Counters>,
    unit_counters: Units,
    faults: VecDeque<Fault>,
    /// Bytes of reads under way.
    reading: u64,
    /// Queues whose requests wait for reads to end.
    waiting: Vec<usize>,
}

impl Device {
    /// A device with so many queues of at most `queue_size` entries, on a session that commands of any kind may use. What goes
    /// through it counts in `traffic`, which outlives it, under the name of the target.
    ///
    /// # Errors
    /// The queue size is no power of two up to 32,768.
    pub fn new(
        session: Session,
        queues: usize,
        queue_size: u16,
        limits: Limits,
        traffic: Arc<Registry>,
    ) -> Result<Self, virtio_queue::Error> {
        let ring = || {
            let queue = <Queue as QueueT>::new(queue_size)?;
            let open = vec![false; usize::from(queue_size)];
            Ok(Ring { queue, is_running: false, run: 0, open, under_way: 0, used: false })
        };
        let map = session.lun_map();
        Ok(Self {
            limits,
            rings: (0..queues).map(|_| ring()).collect::<Result<_, virtio_queue::Error>>()?,
            inflight: None,
            requests: HashMap::new(),
            ids: HashMap::new(),
            managements: HashMap::new(),
            questions: HashMap::new(),
            looks_again: false,
            events: Events::new(&map),
            map,
            counters: traffic.open(session.stmf_session().id(), &session.stmf_session().nexus().target),
            traffic,
            unit_counters: Units::default(),
            is_hidden: false,
            faults: VecDeque::new(),
            reading: 0,
            waiting: Vec::new(),
            session,
        })
    }

    /// How many queues there are.
    pub fn queues(&self) -> usize {
        self.rings.len()
    }

    /// A queue, to set it up while it does not run.
    pub fn queue(&mut self, queue: usize) -> Option<&mut Queue> {
        self.rings.get_mut(queue).map(|ring| &mut ring.queue)
    }

    /// Whether the driver took [`features::HOTPLUG`](crate::features::HOTPLUG) and wants to hear of units that come and go,
    /// and whether it took [`features::CHANGE`](crate::features::CHANGE) and wants to hear of what changes about them.
    pub fn tell_events(&mut self, units: bool, changes: bool) {
        self.events.tell(units, changes);
    }

    /// Where requests under way are noted from now on; with what is noted there [`start`](Self::start) begins.
    pub fn set_inflight(&mut self, inflight: Option<Inflight>) {
        self.inflight = inflight;
    }

    /// Starts a queue that has been set up; carries out again what was under way when an earlier device ended.
    pub fn start<M: GuestMemory>(&mut self, now: Instant, queue: usize, memory: &M, lender: &impl Lend) {
        if self.rings.get(queue).is_none_or(|ring| ring.is_running) {
            return;
        }
        // One that makes no sense was stopped with its requests.
        self.abandon(queue);
        let Some(ring) = self.rings.get_mut(queue) else { return };
        ring.queue.set_ready(true);
        if !ring.queue.is_valid(memory) {
            ring.queue.set_ready(false);
            return self.fault(Fault::Ring { queue });
        }
        let Ok(used) = ring.queue.used_idx(memory, Ordering::Acquire) else {
            return self.fault(Fault::Ring { queue });
        };
        ring.is_running = true;
        ring.run += 1;
        ring.queue.set_next_used(used.0);
        if queue == EVENT_QUEUE && ring.run == 1 && used.0 != 0 {
            // The guest has run with another device before, and has heard of nothing since that one ended.
            self.events.begin_again();
        }
        if let Some(inflight) = &mut self.inflight {
            let heads = inflight.resume(queue, used.0);
            ring.queue.set_next_avail((used + Wrapping(heads.len() as u16)).0);
            for head in heads {
                self.take(now, queue, head, memory, lender);
            }
        }
    }

    /// Stops a queue. What is under way on it is aborted and ends without an answer, also if the queue is started again
    /// meanwhile: wait until [`under_way`](Self::under_way) says 0 where it must not. The index of the next request.
    pub fn stop(&mut self, queue: usize) -> u16 {
        self.abandon(queue);
        let Some(ring) = self.rings.get_mut(queue) else { return 0 };
        ring.is_running = false;
        ring.queue.set_ready(false);
        ring.queue.next_avail()
    }

    /// [`stop`](Self::stop) for a guest that begins anew: what was under way is not carried out again by a later start.
    pub fn reset(&mut self, queue: usize) {
        if let (Some(ring), Some(inflight)) = (self.rings.get(queue), &mut self.inflight) {
            let heads = (0..).zip(&ring.open).filter(|(_, is_open)| **is_open);
            heads.for_each(|(head, _)| inflight.forget(queue, head));
        }
        self.stop(queue);
    }

    /// Aborts the requests of a queue; what they still come to is nobody's.
    fn abandon(&mut self, queue: usize) {
        let Some(ring) = self.rings.get_mut(queue).filter(|ring| ring.under_way > 0) else { return };
        ring.open.fill(false);
        ring.under_way = 0;
        let run = ring.run;
        let left = self.requests.iter().filter(|(_, Request { place, .. })| (place.queue, place.run) == (queue, run));
        let left: Vec<(TaskTag, Lun)> = left.map(|(tag, request)| (*tag, request.id.0)).collect();
        for (tag, lun) in left {
            self.session.manage(lun, TaskManagementFunction::AbortTask, Some(tag));
        }
    }

    /// Whether an answer to this place is still awaited there.
    fn is_awaited(&self, place: &Place) -> bool {
        self.rings.get(place.queue).is_some_and(|ring| ring.is_running && ring.run == place.run)
    }

    /// Requests of a queue that have not been answered; what waits for an event on the event queue does not count.
    pub fn under_way(&self, queue: usize) -> usize {
        self.rings.get(queue).map_or(0, |ring| ring.under_way)
    }

    /// Takes requests from a queue, a turn of them. Whether there are more.
    pub fn kick<M: GuestMemory>(&mut self, now: Instant, queue: usize, memory: &M, lender: &impl Lend) -> bool {
        if queue == EVENT_QUEUE {
            self.deliver_events(memory);
            return false;
        }
        let mut left = self.limits.max_turn;
        loop {
            let Some(ring) = self.rings.get_mut(queue).filter(|ring| ring.is_running) else { return false };
            let _ = ring.queue.disable_notification(memory);
            while left > 0 {
                if self.reading >= self.limits.max_reading {
                    // The end of a read looks at the ring again; until then the driver need not say anything.
                    if !self.waiting.contains(&queue) {
                        self.waiting.push(queue);
                    }
                    return false;
                }
                let Some(head) = self.pop(queue, memory) else { break };
                left -= 1;
                self.take(now, queue, head, memory, lender);
            }
            let Some(ring) = self.rings.get_mut(queue).filter(|ring| ring.is_running) else { return false };
            match (left, ring.queue.enable_notification(memory)) {
                (0, Ok(more)) => return more,
                (_, Ok(true)) => {}
                _ => return false,
            }
        }
    }

    /// The next store operation to carry out.
    pub fn poll_store(&mut self) -> Option<StoreJob> {
        self.session.poll_store()
    }

    /// Gives a read the guest's own memory to go to, if the request has room for all of it and the memory can be lent. Called
    /// once for a job, before it is carried out. What is lent so belongs to the guest again when the request is answered, and a
    /// unit has no request answered while it is being filled; who drops the device or stops a queue with requests
    /// [under way](Self::under_way) sees to that itself.
    pub fn lend_room(&self, job: &mut StoreJob, lender: &impl Lend) {
        let nexus = self.session.stmf_session().nexus().id;
        if let StoreOp::Read { length, lands: Some(landing), .. } = &mut job.request.op
            && *length as usize >= WORTH_LENDING
            && landing.task.nexus == nexus
            && let Some(request) = self.requests.get(&landing.task.tag)
            && request.is_read
            && self.is_awaited(&request.place)
            && let Some(pieces) =
                request.place.writable.span(RESPONSE_BYTES as u64 + u64::from(landing.offset), *length)
        {
            landing.room = lender.lend_room(&pieces);
        }
    }

    /// The duty to report the outcome of a job that is started and not waited for.
    pub fn completion(&self, job: &StoreJob) -> StoreCompletion {
        self.session.completion(job)
    }

    /// Takes the outcome of a store operation.
    pub fn handle_store_done(&mut self, lu: &Arc<dyn LogicalUnit>, done: StoreDone) {
        self.session.handle_store_done(lu, done);
    }

    /// Takes what other threads have for the session; called after each wake.
    pub fn handle_mail(&mut self) {
        self.session.handle_mail();
        if self.session.take_look() && self.events.tells() {
            self.look();
        }
    }

    /// Carries results to the guest.
    pub fn run<M: GuestMemory>(&mut self, now: Instant, memory: &M) {
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Data { tag, offset, data } => self.data(memory, tag, offset, &data),
                Event::Done { tag, outcome } => self.done(now, memory, tag, outcome),
                Event::Managed { tag, response } => {
                    if let Some(lun) = self.questions.remove(&tag) {
                        self.is_hidden |= is_of_the_session(response);
                        self.events.next_attention(lun, response);
                        if self.questions.is_empty() && std::mem::take(&mut self.looks_again) {
                            self.look();
                        }
                    } else if let Some(place) = self.managements.remove(&tag) {
                        self.answer(memory, &place, &[managed(response).0], 0);
                    }
                }
                // Who drops the device asks for it; a monitor may not even have shared memory yet.
                Event::Terminated(_) => {}
            }
        }
        self.deliver_events(memory);
    }

    /// The queues whose driver is to be interrupted, each once.
    pub fn take_signals<M: GuestMemory>(&mut self, memory: &M) -> Signals {
        let wants = |(at, ring): (usize, &mut Ring)| {
            let used = std::mem::take(&mut ring.used);
            // A ring that cannot be asked any more gets an interrupt too many.
            (used && ring.queue.needs_notification(memory).unwrap_or(true)).then_some(at)
        };
        self.rings.iter_mut().enumerate().filter_map(wants).collect()
    }

    /// A queue whose requests waited for reads to end, and need not any more: [`kick`](Self::kick) it.
    pub fn poll_waiting(&mut self) -> Option<usize> {
        if self.reading < self.limits.max_reading { self.waiting.pop() } else { None }
    }

    /// A queue that was stopped, and why.
    pub fn poll_fault(&mut self) -> Option<Fault> {
        self.faults.pop_front()
    }

    /// The framework wants the session to end: drop the device, and its guest's connection.
    pub fn termination(&self) -> Option<Termination> {
        self.session.termination()
    }

    /// The framework's side of the session.
    pub fn session(&self) -> &Session {
        &self.session
    }

    fn fault(&mut self, fault: Fault) {
        let (Fault::Chain { queue, .. } | Fault::Twice { queue, .. } | Fault::Ring { queue }) = fault;
        if let Some(ring) = self.rings.get_mut(queue) {
            ring.is_running = false;
        }
        self.faults.push_back(fault);
    }

    /// The head of the next request of a queue.
    fn pop<M: GuestMemory>(&mut self, queue: usize, memory: &M) -> Option<u16> {
        let ring = self.rings.get_mut(queue).filter(|ring| ring.is_running)?;
        let ahead =
            ring.queue.avail_idx(memory, Ordering::Acquire).map(|index| index - Wrapping(ring.queue.next_avail()));
        match ahead {
            Ok(Wrapping(0)) => None,
            Ok(ahead) if ahead.0 <= ring.queue.size() => {
                ring.queue.pop_descriptor_chain(memory).map(|chain| chain.head_index())
            }
            _ => {
                self.fault(Fault::Ring { queue });
                None
            }
        }
    }

    /// Begins a request.
    fn take<M: GuestMemory>(&mut self, now: Instant, queue: usize, head: u16, memory: &M, lender: &impl Lend) {
        let Some(ring) = self.rings.get_mut(queue) else { return };
        match ring.open.get_mut(usize::from(head)) {
            Some(open @ false) => *open = true,
            Some(true) => return self.fault(Fault::Twice { queue, head }),
            None => return self.fault(Fault::Chain { queue, error: ChainError::Index(head) }),
        }
        ring.under_way += 1;
        let (table, size) = (ring.queue.desc_table(), ring.queue.size());
        if let Some(inflight) = &mut self.inflight {
            inflight.begin(queue, head);
        }
        let begun = Chain::walk(memory, table, size, head).and_then(|chain| match queue {
            CONTROL_QUEUE => self.control(memory, head, chain),
            _ => self.command(now, memory, lender, queue, head, chain),
        });
        if let Err(error) = begun {
            self.fault(Fault::Chain { queue, error });
        }
    }

    fn command<M: GuestMemory>(
        &mut self,
        now: Instant,
        memory: &M,
        lender: &impl Lend,
        queue: usize,
        head: u16,
        chain: Chain,
    ) -> Result<(), ChainError> {
        let Chain { readable, writable } = chain;
        let mut bytes = [0; COMMAND_BYTES];
        let data_out = readable.len().checked_sub(COMMAND_BYTES as u64);
        let data_in = writable.len().checked_sub(RESPONSE_BYTES as u64);
        let (Some(data_out), Some(data_in)) = (data_out, data_in) else {
            return Err(ChainError::Short { readable: readable.len(), writable: writable.len() });
        };
        readable.read(memory, 0, &mut bytes);
        let header = CommandHeader::decode(&bytes);
        let place = self.place(queue, head, writable);
        let Some(lun) = header.lun else {
            self.refuse(memory, &place, Response::BAD_TARGET);
            return Ok(());
        };
        let data = match self.data_out(memory, lender, &readable, data_out, header.is_plain_write()) {
            // Data in both directions is a feature that is not offered (VIRTIO_SCSI_F_INOUT).
            Some(data) if data_in <= self.limits.max_transfer && (data_in == 0 || data_out == 0) => data,
            _ => {
                self.refuse(memory, &place, Response::FAILURE);
                return Ok(());
            }
        };
        let lu = self.session.lun_map().find(lun).map(|entry| Arc::clone(&entry.lu));
        self.counters.begin();
        if let Some(lu) = &lu {
            self.unit_counters.of(&self.traffic, lu).begin();
        }
        let clocked = Clocked::new(header.cdb(), now);
        let tag = self.session.submit(Command {
            lun,
            cdb: header.cdb().to_vec(),
            attribute: header.attribute,
            data_out: data,
            data_in_length: u32::try_from(data_in).unwrap_or(u32::MAX),
            pieces: true,
        });
        let id = (lun, header.id);
        let (expected, is_read) = (data_in.max(data_out), data_in > 0);
        self.ids.insert(id, tag);
        self.reading += data_in;
        self.requests.insert(tag, Request { place, id, expected, written: 0, is_read, clocked, lu });
        Ok(())
    }

    fn place(&self, queue: usize, head: u16, writable: Ranges) -> Place {
        Place { queue, run: self.rings.get(queue).map_or(0, |ring| ring.run), head, writable }
    }

    /// What the guest writes: lent if it goes to the medium as it is, else copied, so that what is checked is what is used.
    fn data_out<M: GuestMemory>(
        &self,
        memory: &M,
        lender: &impl Lend,
        readable: &Ranges,
        length: u64,
        is_plain: bool,
    ) -> Option<Segments> {
        if length == 0 {
            return Some(Segments::new());
        }
        if is_plain
            && (WORTH_LENDING as u64..=self.limits.max_transfer).contains(&length)
            && let Some(lent) = readable.lend(lender, COMMAND_BYTES as u64)
        {
            return Some(lent);
        }
        if length > self.limits.max_copied {
            return None;
        }
        let mut copy = vec![0; length as usize];
        let done = readable.read(memory, COMMAND_BYTES as u64, &mut copy);
        (done == copy.len()).then(|| Segments::from_iter([Bytes::from(copy)]))
    }

    fn control<M: GuestMemory>(&mut self, memory: &M, head: u16, chain: Chain) -> Result<(), ChainError> {
        let Chain { readable, writable } = chain;
        if readable.len() < 4 || writable.len() == 0 {
            return Err(ChainError::Short { readable: readable.len(), writable: writable.len() });
        }
        let mut bytes = [0; MANAGEMENT_BYTES];
        let length = readable.read(memory, 0, &mut bytes);
        let place = self.place(CONTROL_QUEUE, head, writable);
        match Control::decode(&bytes[..length]) {
            Control::Manage { function: Some(function), lun: Some(lun), id } => {
                use TaskManagementFunction::{AbortTask, QueryTask};
                let referenced = self.ids.get(&(lun, id)).copied();
                if matches!(function, AbortTask | QueryTask) && referenced.is_none() {
                    self.answer(memory, &place, &[Response::OK.0], 0);
                } else {
                    let tag = self.session.manage(lun, function, referenced);
                    self.managements.insert(tag, place);
                }
            }
            Control::Manage { function: None, .. } => {
                self.answer(memory, &place, &[Response::FUNCTION_REJECTED.0], 0);
            }
            Control::Manage { lun: None, .. } => self.answer(memory, &place, &[Response::INCORRECT_LUN.0], 0),
            // The events that will be told, none, in front of the response.
            Control::Notifications => self.answer(memory, &place, &[0, 0, 0, 0, Response::OK.0], 0),
            Control::Unknown => self.answer(memory, &place, &[Response::FAILURE.0], 0),
        }
        Ok(())
    }

    fn data<M: GuestMemory>(&mut self, memory: &M, tag: TaskTag, offset: u32, data: &Segments) {
        // The memory of a queue that was stopped is the guest's again.
        if !self.requests.get(&tag).is_some_and(|request| self.is_awaited(&request.place)) {
            return;
        }
        let Some(request) = self.requests.get_mut(&tag) else { return };
        let mut at = RESPONSE_BYTES as u64 + u64::from(offset);
        for segment in data {
            let written = request.place.writable.write(memory, at, segment);
            at += written as u64;
            request.written += written as u64;
        }
    }

    fn done<M: GuestMemory>(&mut self, now: Instant, memory: &M, tag: TaskTag, outcome: Option<Outcome>) {
        let Some(request) = self.requests.remove(&tag) else { return };
        if self.ids.get(&request.id) == Some(&tag) {
            self.ids.remove(&request.id);
        }
        let Request { place, id: (lun, _), expected, written, is_read, clocked, lu } = request;
        if self.events.tells() {
            if std::mem::take(&mut self.is_hidden) {
                // Any command may have taken it away, REPORT LUNS without a word.
                self.look();
            }
            if let Some(sense) = outcome.as_ref().and_then(|outcome| outcome.sense.as_ref())
                && sense.key == SenseKey::UNIT_ATTENTION
                && let Some(lun) = lun.number()
            {
                // The command was faster than the look at the session, or another condition waits behind this one.
                self.events.attention(lun, sense.code);
                self.ask(lun);
            }
        }
        if is_read {
            self.reading = self.reading.saturating_sub(expected);
        }
        let bytes = match outcome {
            Some(outcome) => {
                let moved = if is_read { written } else { outcome.data_length.min(expected) };
                let residual = u32::try_from(expected - moved).unwrap_or(u32::MAX);
                let overran = outcome.is_good() && outcome.data_length > expected;
                clocked.complete(&self.counters, moved, outcome.status, now);
                if let Some(lu) = &lu {
                    clocked.complete(self.unit_counters.of(&self.traffic, lu), moved, outcome.status, now);
                }
                let code = if overran { Response::OVERRUN } else { Response::OK };
                response(code, outcome.status, &outcome.sense_bytes, residual)
            }
            None => {
                self.counters.end(1);
                if let Some(lu) = &lu {
                    self.unit_counters.of(&self.traffic, lu).end(1);
                }
                response(Response::ABORTED, Status::GOOD, &[], 0)
            }
        };
        self.answer(memory, &place, &bytes, written);
    }

    fn refuse<M: GuestMemory>(&mut self, memory: &M, place: &Place, code: Response) {
        self.answer(memory, place, &response(code, Status::GOOD, &[], 0), 0);
    }

    /// Writes an answer and puts it on the used ring, unless the queue has been stopped meanwhile.
    fn answer<M: GuestMemory>(&mut self, memory: &M, place: &Place, bytes: &[u8], data: u64) {
        let Place { queue, run, head, ref writable } = *place;
        let Some(ring) = self.rings.get_mut(queue).filter(|ring| ring.run == run) else { return };
        if let Some(open) = ring.open.get_mut(usize::from(head)) {
            *open = false;
        }
        ring.under_way = ring.under_way.saturating_sub(1);
        if !ring.is_running {
            return;
        }
        let written = writable.write(memory, 0, bytes) as u64 + data;
        if let Some(inflight) = &mut self.inflight {
            inflight.end(queue, head);
        }
        match ring.queue.add_used(memory, head, u32::try_from(written).unwrap_or(u32::MAX)) {
            Ok(()) => ring.used = true,
            Err(_) => return self.fault(Fault::Ring { queue }),
        }
        let used = ring.queue.next_used();
        if let Some(inflight) = &mut self.inflight {
            inflight.ended(queue, head, used);
        }
    }

    /// Something about the session changed: units that came or went, or a unit attention.
    fn look(&mut self) {
        let map = self.session.lun_map();
        if !Arc::ptr_eq(&map, &self.map) {
            self.events.look(&map);
            self.map = Arc::clone(&map);
        }
        if !self.questions.is_empty() {
            self.looks_again = true;
            return;
        }
        for entry in map.iter() {
            self.ask(entry.lun);
        }
    }

    /// Asks a unit for the unit attention that it would report next.
    fn ask(&mut self, number: u16) {
        if let Some(lun) = Lun::new(number) {
            let tag = self.session.manage(lun, TaskManagementFunction::QueryAsynchronousEvent, None);
            self.questions.insert(tag, number);
        }
    }

    /// Tells what is to be told, as far as the driver has made room.
    fn deliver_events<M: GuestMemory>(&mut self, memory: &M) {
        while !self.events.is_empty() {
            let Some(head) = self.pop(EVENT_QUEUE, memory) else {
                // The driver has to say when it makes room, and may have done so just now.
                let ring = self.rings.get_mut(EVENT_QUEUE).filter(|ring| ring.is_running);
                match ring.map(|ring| ring.queue.enable_notification(memory)) {
                    Some(Ok(true)) => continue,
                    _ => return,
                }
            };
            let Some(ring) = self.rings.get_mut(EVENT_QUEUE) else { return };
            let walked = Chain::walk(memory, ring.queue.desc_table(), ring.queue.size(), head);
            let written = walked.and_then(|chain| {
                let room = ChainError::Short { readable: chain.readable.len(), writable: chain.writable.len() };
                let event = (chain.writable.len() >= EVENT_BYTES as u64).then(|| self.events.next()).flatten();
                event.map(|event| chain.writable.write(memory, 0, &event)).ok_or(room)
            });
            match written.map(|written| ring.queue.add_used(memory, head, written as u32)) {
                Ok(Ok(())) => ring.used = true,
                Ok(Err(_)) => self.fault(Fault::Ring { queue: EVENT_QUEUE }),
                Err(error) => self.fault(Fault::Chain { queue: EVENT_QUEUE, error }),
            }
        }
    }
}

/// Whether a session answered itself for a unit, whose own unit attentions it hides: REPORTED LUNS DATA HAS CHANGED.
fn is_of_the_session(response: TaskManagementResponse) -> bool {
    matches!(response, TaskManagementResponse::FunctionSucceeded { additional: [_, 0x3f, 0x0e] })
}

impl Drop for Device {
    fn drop(&mut self) {
        // The session, which ends right after, gives its commands no end that could be counted.
        self.unit_counters.leave(&self.traffic);
        self.traffic.close(self.session.stmf_session().id());
    }
}

//! One thread's share of the iSCSI targets: bytes and outcomes in, bytes and store operations out.

mod effects;
mod login;
mod session;
mod tasks;
mod timers;

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::frame::RecvHint;
use iscsi_proto::target::{Connection, ConnectionKey};
use slotmap::{SlotMap, new_key_type};
use stmf::NexusId;
use stmf::provider::{Effects, LogicalUnit, StoreCompletion, StoreDone, StoreRequest};

use crate::inbox::{Inbox, InboxSink, Letter, Waker};
use crate::notice::Notice;
use crate::provider::Provider;
use crate::session_map::{SessionName, WorkerId};
use login::LoginStage;
use session::SessionEntry;
use stmf::traffic::Units;
use timers::{Timer, Timers};

new_key_type! {
    /// Names a connection of one worker. A stale id is ignored everywhere.
    pub struct ConnectionId;
    /// Names a session of one worker.
    pub(crate) struct SessionKey;
    /// Names a unit's wish to be called again.
    pub(crate) struct WaitKey;
}

/// What a worker wants of its driver, apart from store operations.
#[derive(Debug)]
pub enum WorkerEvent {
    /// There is something to send: call [`Worker::poll_transmit`] until it appends nothing.
    Transmit(ConnectionId),
    /// Receiving may go on after a [`RecvHint`] of 0 bytes.
    Receive(ConnectionId),
    /// Send what [`Worker::poll_transmit`] still gives, close the socket, then call [`Worker::handle_closed`].
    Close(ConnectionId),
    /// The connection belongs on another worker: move the socket there and give `parcel` to its
    /// [`Worker::adopt`]. The id is stale from now on.
    HandOff {
        /// The connection that goes.
        connection: ConnectionId,
        /// Where it belongs.
        to: WorkerId,
        /// All that this worker knew of it.
        parcel: Box<Parcel>,
    },
    /// Something an administrator may want to know.
    Notice(Notice),
}

/// A connection on its way from one worker to another.
pub struct Parcel {
    local: SocketAddr,
    peer: SocketAddr,
    login: LoginStage,
}

impl fmt::Debug for Parcel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel").field("local", &self.local).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// A store operation to carry out, by whatever way suits: [`LogicalUnit::try_perform`] at once,
/// [`LogicalUnit::perform`] on a thread that may wait, or [`LogicalUnit::start`] with
/// [`Worker::completion`]. The outcome goes to [`Worker::handle_store_done`] with the ticket.
#[derive(Debug)]
pub struct StoreJob {
    /// What to do.
    pub request: StoreRequest,
    /// Whom to tell.
    pub ticket: StoreTicket,
}

/// The claim check of a [`StoreJob`].
#[derive(Debug, Clone)]
pub struct StoreTicket {
    pub(crate) lu: Arc<dyn LogicalUnit>,
    /// The session that it is for, as long as it has not ended.
    pub(crate) session: Option<SessionKey>,
    /// Bytes of a read that the session waits for.
    pub(crate) reading: u32,
}

impl StoreTicket {
    /// The unit whose medium the operation is for.
    pub fn lu(&self) -> &Arc<dyn LogicalUnit> {
        &self.lu
    }
}

/// The address of a worker, for other threads.
#[derive(Clone, Debug)]
pub struct WorkerHandle {
    id: WorkerId,
    inbox: Arc<Inbox>,
}

impl WorkerHandle {
    /// Which worker.
    pub fn id(&self) -> WorkerId {
        self.id
    }

    /// Reports the outcome of a store operation that was carried out on another thread.
    pub fn stored(&self, ticket: StoreTicket, done: StoreDone) {
        InboxSink { inbox: Arc::clone(&self.inbox), ticket }.put(done);
    }
}

/// All iSCSI connections and sessions of one thread.
///
/// Sans-IO: the driver owns sockets and clock and runs this loop.
///
/// ```text
///   accept / adopt / handle_received / handle_closed / handle_store_done / handle_mail / handle_timeout
///       then, until none of them gives anything:
///   poll_store    -> carry out, handle_store_done now or later
///   poll_event    -> Transmit: poll_transmit until it appends nothing; Close, HandOff, Notice
///       then
///   poll_timeout  -> sleep until then at the latest, or until a socket or the waker calls
/// ```
///
/// What a session holds on its way to its initiator, all its connections together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Whose session.
    pub nexus: NexusId,
    /// PDUs that wait to be sent, the data of reads apart; each connection stops receiving at
    /// [`iscsi_proto::target::SessionConfig::max_transmit_queue`].
    pub pdus: usize,
    /// Bytes of answers to pings, texts and Rejects that wait to be sent; each connection stops receiving at
    /// [`iscsi_proto::target::SessionConfig::max_transmit_bytes`].
    pub answer_bytes: usize,
    /// Bytes of reads that are being carried out or wait to be sent; further reads wait at
    /// [`Limits::unsent_read_bytes`](crate::Limits::unsent_read_bytes).
    pub read_bytes: u64,
}

/// Before each receive it asks [`recv_hint`](Self::recv_hint).
pub struct Worker {
    id: WorkerId,
    provider: Arc<Provider>,
    inbox: Arc<Inbox>,
    /// The letters being read; kept for its room.
    letters: Vec<Letter>,
    connections: SlotMap<ConnectionId, Socket>,
    sessions: SlotMap<SessionKey, SessionEntry>,
    nexuses: HashMap<NexusId, SessionKey>,
    names: HashMap<SessionName, SessionKey>,
    stores: VecDeque<StoreJob>,
    events: VecDeque<WorkerEvent>,
    timers: Timers,
    /// Units that asked for nothing but time: the outcomes that are due to them.
    waits: SlotMap<WaitKey, (StoreTicket, StoreDone)>,
    /// Emptied effect buffers for the next calls.
    spare_effects: Vec<Effects>,
    /// Sessions whose events are due.
    touched: Vec<SessionKey>,
    /// The time of the last call that told it.
    now: Option<Instant>,
    shutting_down: bool,
    /// Counters of units.
    units: Units,
}

/// A connection as its driver's socket.
struct Socket {
    local: SocketAddr,
    peer: SocketAddr,
    stage: Stage,
    /// A `Transmit` event is waiting.
    transmit_told: bool,
    /// The last receive hint was 0.
    receive_stopped: bool,
    /// A `Close` event was given.
    closing: bool,
}

enum Stage {
    /// Until the login is decided.
    Login(Box<LoginStage>),
    /// A connection of a session.
    Session(SessionKey, ConnectionKey),
    /// Its session is gone; only the driver's `handle_closed` is waited for.
    Over(Option<Box<Connection>>),
}

/// No more connections now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the worker has its limit of {limit} connections")]
pub struct TooManyConnections {
    /// [`Limits::connections_per_worker`](crate::Limits::connections_per_worker).
    pub limit: usize,
}

impl Worker {
    /// A worker of `provider`, the next in number; `waker` wakes the thread that drives it.
    pub fn new(provider: Arc<Provider>, waker: Arc<dyn Waker>) -> Self {
        let inbox = Inbox::new(waker, Arc::clone(provider.stmf()));
        let id = provider.enlist();
        Self {
            id,
            provider,
            inbox,
            letters: Vec::new(),
            connections: SlotMap::with_key(),
            sessions: SlotMap::with_key(),
            nexuses: HashMap::new(),
            names: HashMap::new(),
            stores: VecDeque::new(),
            events: VecDeque::new(),
            timers: Timers::default(),
            waits: SlotMap::with_key(),
            spare_effects: Vec::new(),
            touched: Vec::new(),
            now: None,
            shutting_down: false,
            units: Units::default(),
        }
    }

    /// Its address for other threads.
    pub fn handle(&self) -> WorkerHandle {
        WorkerHandle { id: self.id, inbox: Arc::clone(&self.inbox) }
    }

    /// Connections now, logins included.
    pub fn connections(&self) -> usize {
        self.connections.len()
    }

    /// Sessions now.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Takes a new TCP connection from `peer` to the portal `local`.
    ///
    /// # Errors
    /// [`TooManyConnections`]: close it.
    pub fn accept(
        &mut self,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<ConnectionId, TooManyConnections> {
        self.room()?;
        let login = LoginStage::new(Connection::new(self.provider.connection_config(), now));
        Ok(self.insert(Parcel { local, peer, login }))
    }

    /// Takes a connection that another worker handed off.
    ///
    /// # Errors
    /// [`TooManyConnections`]: close the socket.
    pub fn adopt(&mut self, now: Instant, parcel: Box<Parcel>) -> Result<ConnectionId, TooManyConnections> {
        self.room()?;
        let id = self.insert(*parcel);
        self.resume_login(now, id);
        self.after_connection(id);
        Ok(id)
    }

    /// Whether the connection belongs to a session: its login is over.
    pub fn is_logged_in(&self, id: ConnectionId) -> bool {
        matches!(self.connections.get(id).map(|socket| &socket.stage), Some(Stage::Session(..)))
    }

    /// Where the connections of each session with a nexus come from, the oldest connection first.
    pub fn peers(&self) -> Vec<(NexusId, Vec<SocketAddr>)> {
        let nexuses = self.sessions.values().filter_map(|entry| Some((entry.nexus_id()?, entry)));
        nexuses
            .map(|(nexus, entry)| {
                let sockets = entry.sockets.iter().filter_map(|(_, id)| self.connections.get(*id));
                (nexus, sockets.map(|socket| socket.peer).collect())
            })
            .collect()
    }

    /// What each session with a nexus holds on its way to its initiator.
    pub fn unsent(&self) -> impl Iterator<Item = Unsent> {
        self.sessions.values().filter_map(|entry| {
            let connections = || entry.sockets.iter().map(|(key, _)| *key);
            Some(Unsent {
                nexus: entry.nexus_id()?,
                pdus: connections().map(|key| entry.protocol.queued_pdus(key)).sum(),
                answer_bytes: connections().map(|key| entry.protocol.queued_bytes(key)).sum(),
                read_bytes: entry.unsent_reads(),
            })
        })
    }

    /// Asks every initiator to log out, takes no logins any more, and closes what is left after `grace`.
    pub fn shut_down(&mut self, now: Instant, grace: Duration) {
        self.shutting_down = true;
        for key in self.sessions.keys().collect::<Vec<_>>() {
            if let Some(entry) = self.sessions.get_mut(key) {
                entry.protocol.request_logout(now, grace);
            }
            self.touch(key);
        }
        let logins: Vec<ConnectionId> = self
            .connections
            .iter()
            .filter(|(_, socket)| matches!(socket.stage, Stage::Login(_)))
            .map(|(id, _)| id)
            .collect();
        logins.into_iter().for_each(|id| self.tell_close(id));
        self.settle(now);
    }

    /// How much to receive next, and whether a payload begins there. 0 bytes: do not receive until
    /// [`WorkerEvent::Receive`].
    pub fn recv_hint(&mut self, id: ConnectionId) -> RecvHint {
        let Some(socket) = self.connections.get_mut(id) else { return RecvHint::default() };
        let hint = match &socket.stage {
            Stage::Login(login) => login.connection.recv_hint(),
            Stage::Session(session, key) => match self.sessions.get(*session) {
                Some(entry) => entry.protocol.recv_hint(*key),
                None => RecvHint::default(),
            },
            Stage::Over(_) => RecvHint::default(),
        };
        socket.receive_stopped = hint.wanted == 0;
        hint
    }

    /// Takes bytes that arrived on a connection, in order.
    pub fn handle_received(&mut self, now: Instant, id: ConnectionId, bytes: Bytes) {
        let Some(socket) = self.connections.get_mut(id) else { return };
        match &mut socket.stage {
            Stage::Login(login) => {
                login.connection.handle_received(bytes);
                self.drive_login(now, id);
            }
            Stage::Session(session, key) => {
                let (session, key) = (*session, *key);
                if let Some(entry) = self.sessions.get_mut(session) {
                    entry.protocol.handle_received(key, now, bytes);
                    self.touch(session);
                    self.settle(now);
                }
            }
            Stage::Over(_) => {}
        }
        self.after_connection(id);
    }

    /// The socket is closed: by the peer, by an error, or after [`WorkerEvent::Close`]. The id is stale from now on.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId) {
        self.note_hang_up(id);
        let Some(socket) = self.connections.remove(id) else { return };
        match socket.stage {
            Stage::Login(login) => self.abandon_login(*login),
            Stage::Session(session, key) => {
                if let Some(entry) = self.sessions.get_mut(session) {
                    entry.forget_socket(id);
                    entry.protocol.handle_closed(key, now);
                    self.touch(session);
                    self.settle(now);
                }
            }
            Stage::Over(_) => {}
        }
    }

    /// Appends slices to send on a connection, in order; together about a batch. Returns how many bytes they have, 0
    /// when there is nothing left. The driver owes the sending of all of them before it asks again. It may bring about
    /// events: a login receives again once it has nothing left to send.
    pub fn poll_transmit(&mut self, now: Instant, id: ConnectionId, out: &mut Vec<Bytes>) -> usize {
        let Some(socket) = self.connections.get_mut(id) else { return 0 };
        socket.transmit_told = false;
        match &mut socket.stage {
            Stage::Login(login) => {
                let bytes = login.connection.poll_transmit(out);
                // A login receives nothing while it has something to send.
                self.after_connection(id);
                bytes
            }
            Stage::Over(Some(connection)) => connection.poll_transmit(out),
            Stage::Over(None) => 0,
            Stage::Session(session, key) => {
                let (session, key) = (*session, *key);
                let Some(entry) = self.sessions.get_mut(session) else { return 0 };
                let bytes = entry.protocol.poll_transmit(key, now, out);
                self.now = Some(now);
                self.touch(session);
                bytes
            }
        }
    }

    /// The next store operation to carry out.
    pub fn poll_store(&mut self) -> Option<StoreJob> {
        if self.stores.is_empty()
            && !self.touched.is_empty()
            && let Some(now) = self.now
        {
            self.settle(now);
        }
        self.stores.pop_front()
    }

    /// The means to report the outcome of `job` later and from anywhere: for [`LogicalUnit::start`].
    pub fn completion(&self, job: &StoreJob) -> StoreCompletion {
        let sink = InboxSink { inbox: Arc::clone(&self.inbox), ticket: job.ticket.clone() };
        StoreCompletion::new(Arc::new(sink), &job.request)
    }

    /// Takes the outcome of a store operation.
    pub fn handle_store_done(&mut self, now: Instant, ticket: &StoreTicket, done: StoreDone) {
        self.now = Some(now);
        let mut effects = self.effects_buffer();
        ticket.lu.store_done(done, &mut effects);
        self.carry_out(now, ticket.session, Some(&ticket.lu), effects);
        if let Some(key) = ticket.session
            && let Some(entry) = self.sessions.get_mut(key)
        {
            entry.reading -= u64::from(ticket.reading);
            // Looked after when the driver polls: many outcomes come together.
            self.touch(key);
        }
    }

    /// Takes what other threads left; called after the waker.
    pub fn handle_mail(&mut self, now: Instant) {
        let mut letters = std::mem::take(&mut self.letters);
        self.inbox.take(&mut letters);
        for letter in letters.drain(..) {
            self.read_letter(now, letter);
        }
        self.letters = letters;
    }

    /// Does what is due at `now`; early calls do nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Connection(id) => {
                    if let Some(Socket { stage: Stage::Login(login), .. }) = self.connections.get_mut(id) {
                        login.scheduled = None;
                        login.connection.handle_timeout(now);
                        self.drive_login(now, id);
                        self.after_connection(id);
                    }
                }
                Timer::Wait(key) => {
                    if let Some((ticket, done)) = self.waits.remove(key) {
                        self.handle_store_done(now, &ticket, done);
                    }
                }
                Timer::Session(key) => {
                    if let Some(entry) = self.sessions.get_mut(key) {
                        entry.scheduled = None;
                        entry.protocol.handle_timeout(now);
                        self.touch(key);
                        self.settle(now);
                    }
                }
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// The next wish.
    pub fn poll_event(&mut self) -> Option<WorkerEvent> {
        if self.events.is_empty()
            && !self.touched.is_empty()
            && let Some(now) = self.now
        {
            self.settle(now);
        }
        self.events.pop_front()
    }

    fn room(&self) -> Result<(), TooManyConnections> {
        let limit = self.provider.limits().connections_per_worker;
        if self.connections.len() < limit { Ok(()) } else { Err(TooManyConnections { limit }) }
    }

    fn insert(&mut self, parcel: Parcel) -> ConnectionId {
        let Parcel { local, peer, login } = parcel;
        let id = self.connections.insert(Socket {
            local,
            peer,
            stage: Stage::Login(Box::new(login)),
            transmit_told: false,
            receive_stopped: false,
            closing: false,
        });
        self.schedule_login(id);
        id
    }

    /// What every touch of a connection ends with: tell the driver that receiving may go on.
    fn after_connection(&mut self, id: ConnectionId) {
        if self.connections.get(id).is_some_and(|socket| socket.receive_stopped && !socket.closing)
            && self.recv_hint(id).wanted > 0
        {
            self.events.push_back(WorkerEvent::Receive(id));
        }
    }

    fn tell_transmit(&mut self, id: ConnectionId) {
        if let Some(socket) = self.connections.get_mut(id)
            && !socket.transmit_told
        {
            socket.transmit_told = true;
            self.events.push_back(WorkerEvent::Transmit(id));
        }
    }

    fn tell_close(&mut self, id: ConnectionId) {
        if let Some(socket) = self.connections.get_mut(id)
            && !socket.closing
        {
            socket.closing = true;
            self.events.push_back(WorkerEvent::Close(id));
        }
    }

    fn read_letter(&mut self, now: Instant, letter: Letter) {
        match letter {
            Letter::Effect { session, lu, effect } => {
                let mut effects = self.effects_buffer();
                effects.push(effect);
                self.carry_out(now, Some(session), Some(&lu), effects);
                self.touch(session);
                self.settle(now);
            }
            Letter::Look { session } => {
                self.look_at(now, session);
                self.settle(now);
            }
            Letter::Stored { ticket, done } => self.handle_store_done(now, &ticket, done),
            Letter::Judged { connection, verdict } => self.proof_judged(now, connection, &verdict),
        }
    }

    fn effects_buffer(&mut self) -> Effects {
        self.spare_effects.pop().unwrap_or_default()
    }
}

impl Drop for Worker {
    /// Ends all sessions for the units and the framework; sockets are the driver's to close.
    fn drop(&mut self) {
        self.inbox.close();
        // Commands of other workers may wait behind these.
        for (_, (ticket, done)) in self.waits.drain() {
            let mut effects = Effects::new();
            ticket.lu.store_done(done, &mut effects);
            self.provider.stmf().dispatch(&ticket.lu, &mut effects, |_| false);
        }
        for key in self.sessions.keys().collect::<Vec<_>>() {
            self.detach(key);
        }
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("id", &self.id)
            .field("connections", &self.connections.len())
            .field("sessions", &self.sessions.len())
            .finish_non_exhaustive()
    }
}

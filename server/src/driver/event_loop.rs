//! One thread of the data path: its sockets, its protocol, its loop.
//!
//! Each round takes what is ready, gives every connection a turn of bounded work, carries the protocol's store
//! operations out or away, and sends all ready answers of a connection in one system call.

use super::blocking::{BlockingJob, BlockingPool};
use super::chunks::{Chunk, ChunkClass, ChunkPool};
use super::counters::Counters;
use super::half_open::{HalfOpen, Serial};
use super::inbox::{Inbox, Message, Newcomer, StoreReturn};
use super::net::{Flushed, Net, Ready, Received};
use super::protocol::{Action, Arrival, Protocol, StoreJob};
use super::slab::Slab;
use super::tx_queue::TxQueue;
use super::wake::Wake;
use super::{Limits, acceptor::Loads};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use stmf::provider::StoreCompletion;

/// How often the thread looks after what needs no exact time, while there is such.
const TICK: Duration = Duration::from_millis(500);

/// What a thread is made of.
pub(crate) struct Parts<P: Protocol, N: Net> {
    pub(crate) index: usize,
    pub(crate) protocol: P,
    pub(crate) net: N,
    pub(crate) wake: Arc<Wake>,
    pub(crate) inboxes: Arc<[Arc<Inbox<P>>]>,
    pub(crate) loads: Loads,
    pub(crate) pool: Arc<BlockingPool>,
    pub(crate) half_open: Arc<HalfOpen>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
}

/// See the module.
pub(crate) struct EventLoop<P: Protocol, N: Net> {
    parts: Parts<P, N>,
    chunks: ChunkPool,
    conns: Slab<Conn<P::Conn>>,
    /// Slot of each protocol connection by its index.
    slots: Vec<usize>,
    /// Slots of half-open connections.
    serials: HashMap<Serial, usize>,
    /// Slots with work, in turn.
    run: VecDeque<usize>,
    /// Slots that may have something to send.
    dirty: Vec<usize>,
    /// Slots that hold a chunk between turns, of which slices may be alive.
    holding: Vec<usize>,
    /// Connections on their way out.
    leaving: usize,
    in_store: usize,
    round: u64,
    next_tick: Option<Instant>,
    shut_down: Option<Instant>,
    /// Something happened that the protocol has not been polled after.
    restless: bool,
    out: Vec<Bytes>,
    mail: Vec<Message<P>>,
}

struct Conn<C> {
    state: State<C>,
    arrival: Arrival,
    serial: Serial,
    half_open: bool,
    chunk: Option<Chunk>,
    class: ChunkClass,
    readable: bool,
    writable: bool,
    hangup: bool,
    queued: bool,
    dirty: bool,
    holding: bool,
    /// Bytes sent in this round, of which `sent_round` is the number.
    sent: usize,
    sent_round: u64,
}

#[derive(Clone, Copy)]
enum State<C> {
    /// The protocol has it.
    Open(C),
    /// The protocol is done with it but for the last bytes.
    Closing { id: C, until: Instant },
    /// All sent; waiting for the other end, so that unread bytes of it do not make the system reset the connection
    /// before the last answer was taken.
    Lingering { until: Instant },
}

impl<P: Protocol, N: Net> EventLoop<P, N> {
    /// A thread without connections.
    pub(crate) fn new(parts: Parts<P, N>) -> Self {
        Self {
            chunks: ChunkPool::new(parts.limits.cached_receive_bytes),
            parts,
            conns: Slab::default(),
            slots: Vec::new(),
            serials: HashMap::new(),
            run: VecDeque::new(),
            dirty: Vec::new(),
            holding: Vec::new(),
            leaving: 0,
            in_store: 0,
            round: 0,
            next_tick: None,
            shut_down: None,
            restless: false,
            out: Vec::new(),
            mail: Vec::new(),
        }
    }

    /// Runs until told to shut down, and gives the protocol back.
    ///
    /// # Errors
    /// The system refuses to wait for events: nothing can be served any more.
    pub(crate) fn run(mut self) -> std::io::Result<P> {
        let mut ready: Vec<Ready> = Vec::new();
        let result = loop {
            let started = Instant::now();
            if let Err(error) = self.wait(started, &mut ready) {
                break Err(error);
            }
            let now = Instant::now();
            self.round += 1;
            if self.parts.wake.take() {
                self.read_mail(now);
                self.parts.protocol.handle_mail(now);
            }
            for event in ready.drain(..) {
                self.note(event);
            }
            self.settle(now);
            for _ in 0..self.run.len() {
                if let Some(slot) = self.run.pop_front() {
                    self.turn(slot, now);
                }
            }
            if self.parts.protocol.poll_timeout().is_some_and(|due| due <= now) {
                self.parts.protocol.handle_timeout(now);
                self.settle(now);
            }
            if self.next_tick.is_some_and(|due| due <= now) {
                self.tick(now);
            }
            self.parts.counters.busy_ns.add(now.elapsed().as_nanos() as u64);
            if self.shut_down.is_some_and(|until| until <= now || self.conns.is_empty()) {
                break Ok(());
            }
        };
        self.end();
        result.map(|()| self.parts.protocol)
    }

    fn wait(&mut self, now: Instant, ready: &mut Vec<Ready>) -> std::io::Result<()> {
        self.parts.counters.waits.add(1);
        if !self.run.is_empty() {
            return self.parts.net.wait(Some(Duration::ZERO), ready);
        }
        if self.next_tick.is_none() && self.has_chores() {
            self.next_tick = Some(now + TICK);
        }
        let due = [self.parts.protocol.poll_timeout(), self.next_tick, self.shut_down].into_iter().flatten().min();
        if !self.parts.limits.poll.is_zero() {
            let until = now + self.parts.limits.poll;
            let until = due.map_or(until, |due| due.min(until));
            while Instant::now() < until {
                self.parts.net.wait(Some(Duration::ZERO), ready)?;
                if !ready.is_empty() || self.parts.wake.is_woken() {
                    return Ok(());
                }
                std::hint::spin_loop();
            }
        }
        let timeout = if self.parts.wake.may_sleep() {
            due.map(|due| due.saturating_duration_since(Instant::now()))
        } else {
            Some(Duration::ZERO)
        };
        self.parts.net.wait(timeout, ready)
    }

    fn read_mail(&mut self, now: Instant) {
        let mut mail = mem::take(&mut self.mail);
        self.parts.inboxes[self.parts.index].take(&mut mail);
        for message in mail.drain(..) {
            match message {
                Message::Accept(newcomer) => self.add(now, newcomer, TxQueue::default(), true, None),
                Message::Adopt { newcomer, tx, half_open, parcel } => {
                    self.add(now, newcomer, tx, half_open, Some(parcel));
                }
                Message::Stored { ticket, done } => {
                    self.in_store = self.in_store.saturating_sub(1);
                    self.parts.protocol.handle_store_done(now, &ticket, done);
                }
                Message::Evict(serial) => {
                    if let Some(slot) = self.serials.get(&serial).copied() {
                        let peer = self.conns.get(slot).map(|conn| conn.arrival.peer);
                        tracing::debug!(?peer, "closed a connection that did not log in: too many of them");
                        self.lose(slot, now);
                    }
                }
                Message::Call(call) => call(&mut self.parts.protocol, now),
                Message::ShutDown { grace } => {
                    self.shut_down = Some(now + grace);
                    self.parts.protocol.handle_shutdown(now, grace);
                }
            }
        }
        self.mail = mail;
    }

    fn add(&mut self, now: Instant, newcomer: Newcomer, tx: TxQueue, half_open: bool, parcel: Option<P::Parcel>) {
        let Newcomer { socket, arrival, serial } = newcomer;
        let id = match parcel {
            None if self.shut_down.is_some() => None,
            None => self.parts.protocol.accept(now, arrival),
            Some(parcel) => self.parts.protocol.adopt(now, arrival, parcel),
        };
        let Some(id) = id else {
            self.forget(&arrival, serial, half_open);
            return;
        };
        let slot = self.conns.insert(Conn {
            state: State::Open(id),
            arrival,
            serial,
            half_open,
            chunk: None,
            class: ChunkClass::Small,
            readable: false,
            writable: true,
            hangup: false,
            queued: false,
            dirty: false,
            holding: false,
            sent: 0,
            sent_round: 0,
        });
        let index = P::index(id);
        if self.slots.len() <= index {
            self.slots.resize(index + 1, usize::MAX);
        }
        self.slots[index] = slot;
        if half_open {
            self.serials.insert(serial, slot);
        }
        self.parts.counters.connections.add(1);
        self.parts.counters.accepted.add(1);
        if let Err(error) = self.parts.net.add(slot, self.conns.tag(slot), socket, tx) {
            tracing::warn!(peer = %arrival.peer, %error, "cannot watch a connection");
            self.lose(slot, now);
            return;
        }
        self.mark_dirty(slot);
    }

    fn note(&mut self, event: Ready) {
        let Some(conn) = self.conns.get_tagged(event.slot, event.tag) else { return };
        conn.readable |= event.readable;
        conn.writable |= event.writable;
        conn.hangup |= event.hangup;
        self.enqueue(event.slot);
    }

    fn enqueue(&mut self, slot: usize) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.queued
        {
            conn.queued = true;
            self.run.push_back(slot);
        }
    }

    fn mark_dirty(&mut self, slot: usize) {
        if let Some(conn) = self.conns.get_mut(slot)
            && !conn.dirty
        {
            conn.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// One connection's share of a round.
    fn turn(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.queued = false;
        match conn.state {
            State::Open(_) => {}
            State::Closing { .. } => return self.transmit(slot, now),
            State::Lingering { .. } => return self.discard(slot),
        }
        if conn.writable {
            // Old answers first: they make room for what comes.
            self.mark_dirty(slot);
            self.settle(now);
        }
        let mut budget = self.parts.limits.receive_bytes_per_turn;
        loop {
            let Some(conn) = self.conns.get_mut(slot) else { return };
            let State::Open(id) = conn.state else { return };
            if !conn.readable {
                break;
            }
            if self.parts.protocol.recv_hint(id) == 0 {
                // It stays readable: the protocol tells when to go on.
                break;
            }
            if budget == 0 {
                self.enqueue(slot);
                break;
            }
            let chunk = self.chunks.prepare(&mut conn.chunk, conn.class);
            self.parts.counters.receives.add(1);
            match self.parts.net.receive(slot, chunk) {
                Ok(Received::Bytes { bytes, more }) => {
                    budget = budget.saturating_sub(bytes.len());
                    self.parts.counters.received_bytes.add(bytes.len() as u64);
                    // After a hang-up the end has to be seen: no further event tells of it.
                    conn.readable = more || conn.hangup;
                    conn.class = match conn.class {
                        ChunkClass::Small if more => ChunkClass::Large,
                        ChunkClass::Large if bytes.len() < ChunkClass::Small.size() / 2 => ChunkClass::Small,
                        class => class,
                    };
                    self.parts.protocol.handle_received(now, id, bytes);
                    if conn.half_open && self.parts.protocol.is_logged_in(id) {
                        conn.half_open = false;
                        self.serials.remove(&conn.serial);
                        self.parts.half_open.end(conn.arrival.peer.ip(), conn.serial);
                    }
                    self.mark_dirty(slot);
                    self.settle(now);
                }
                Ok(Received::Nothing) => conn.readable = false,
                Ok(Received::End) => return self.lose_and_settle(slot, now),
                Err(error) => {
                    tracing::debug!(peer = %conn.arrival.peer, %error, "connection lost");
                    return self.lose_and_settle(slot, now);
                }
            }
        }
        if let Some(conn) = self.conns.get_mut(slot) {
            self.chunks.release(&mut conn.chunk);
            if conn.chunk.is_some() && !conn.holding {
                conn.holding = true;
                self.holding.push(slot);
            }
        }
    }

    fn lose_and_settle(&mut self, slot: usize, now: Instant) {
        self.lose(slot, now);
        self.settle(now);
    }

    /// Polls the protocol until it has nothing to ask for, and sends what became ready.
    fn settle(&mut self, now: Instant) {
        loop {
            let mut progress = mem::take(&mut self.restless);
            while self.in_store < self.parts.limits.max_store_operations
                && let Some(job) = self.parts.protocol.poll_store()
            {
                progress = true;
                self.carry_out(job, now);
            }
            while let Some(action) = self.parts.protocol.poll_action() {
                progress = true;
                self.act(action, now);
            }
            if self.dirty.is_empty() && !progress {
                return;
            }
            let mut dirty = mem::take(&mut self.dirty);
            for slot in dirty.drain(..) {
                self.transmit(slot, now);
            }
            // What the transmits marked meanwhile comes behind; there is nothing in the common case.
            dirty.append(&mut self.dirty);
            self.dirty = dirty;
        }
    }

    fn carry_out(&mut self, job: StoreJob<P::Ticket>, now: Instant) {
        let StoreJob { request, ticket } = job;
        let request = match P::unit(&ticket).try_perform(request) {
            Ok(done) => {
                self.parts.counters.store_inline.add(1);
                self.parts.protocol.handle_store_done(now, &ticket, done);
                return;
            }
            Err(request) => request,
        };
        self.parts.counters.store_offloaded.add(1);
        self.in_store += 1;
        let lu = Arc::clone(P::unit(&ticket));
        let inbox = Arc::clone(&self.parts.inboxes[self.parts.index]);
        let completion = StoreCompletion::new(Arc::new(StoreReturn { ticket, inbox }), &request);
        if let Err((request, completion)) = lu.start(request, completion) {
            self.parts.pool.submit(BlockingJob { lu, request, completion });
        }
    }

    fn act(&mut self, action: Action<P::Conn, P::Parcel>, now: Instant) {
        match action {
            Action::Transmit(id) => {
                if let Some(slot) = self.slot_of(id) {
                    self.mark_dirty(slot);
                }
            }
            Action::Receive(id) => {
                if let Some(slot) = self.slot_of(id) {
                    self.enqueue(slot);
                }
            }
            Action::Close(id) => {
                if let Some(slot) = self.slot_of(id) {
                    self.begin_close(slot, id, now);
                }
            }
            Action::HandOff { conn, to, parcel } => {
                if let Some(slot) = self.slot_of(conn) {
                    self.hand_off(slot, to, parcel);
                }
            }
        }
    }

    fn slot_of(&self, id: P::Conn) -> Option<usize> {
        let slot = *self.slots.get(P::index(id))?;
        match self.conns.get(slot)?.state {
            State::Open(known) | State::Closing { id: known, .. } if known == id => Some(slot),
            _ => None,
        }
    }

    fn transmit(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        conn.dirty = false;
        if conn.sent_round != self.round {
            conn.sent_round = self.round;
            conn.sent = 0;
        }
        let Parts { protocol, net, limits, counters, .. } = &mut self.parts;
        loop {
            let Some(queue) = net.queue(slot) else { return };
            if let State::Open(id) | State::Closing { id, .. } = conn.state
                && (conn.writable || queue.is_empty())
            {
                while queue.len() < limits.transmit_queue_bytes && protocol.poll_transmit(now, id, &mut self.out) > 0 {
                    queue.append(&mut self.out);
                }
            }
            if queue.is_empty() {
                queue.shrink();
                if let State::Closing { .. } = conn.state {
                    self.linger(slot, now);
                }
                return;
            }
            if !conn.writable {
                return;
            }
            let budget = limits.transmit_bytes_per_turn.saturating_sub(conn.sent);
            if budget == 0 {
                return self.enqueue(slot);
            }
            let flushed = match net.flush(slot, budget) {
                Ok((flushed, calls)) => {
                    counters.sends.add(calls.into());
                    flushed
                }
                Err(error) => {
                    tracing::debug!(peer = %conn.arrival.peer, %error, "connection lost");
                    return self.lose(slot, now);
                }
            };
            let (Flushed::All(sent) | Flushed::Blocked(sent) | Flushed::Budget(sent)) = flushed;
            counters.sent_bytes.add(sent as u64);
            conn.sent += sent;
            // What was sent may let the protocol start more reads.
            self.restless |= sent > 0;
            if let Flushed::Blocked(_) = flushed {
                conn.writable = false;
                return;
            }
        }
    }

    /// The protocol is done with a connection: sends what is left.
    fn begin_close(&mut self, slot: usize, id: P::Conn, now: Instant) {
        let Some(conn) = self.conns.get_mut(slot) else { return };
        if let State::Open(_) = conn.state {
            conn.state = State::Closing { id, until: now + self.parts.limits.close_timeout };
            conn.chunk = None;
            self.leaving += 1;
            self.mark_dirty(slot);
        }
    }

    fn linger(&mut self, slot: usize, now: Instant) {
        self.parts.net.shut_down(slot);
        if let Some(conn) = self.conns.get_mut(slot) {
            if let State::Closing { id, .. } = conn.state {
                self.parts.protocol.handle_closed(now, id);
                self.restless = true;
            }
            conn.state = State::Lingering { until: now + self.parts.limits.linger };
            self.enqueue(slot);
        }
    }

    /// Drops what still comes in on a connection that is closed for us.
    fn discard(&mut self, slot: usize) {
        let mut budget = self.parts.limits.receive_bytes_per_turn;
        let mut scratch = None;
        let ended = loop {
            let chunk = self.chunks.prepare(&mut scratch, ChunkClass::Small);
            match self.parts.net.receive(slot, chunk) {
                Ok(Received::Bytes { bytes, .. }) if budget > bytes.len() => budget -= bytes.len(),
                Ok(Received::Nothing) => break false,
                // The end, an error, or a peer that goes on and on.
                _ => break true,
            }
        };
        self.chunks.release(&mut scratch);
        if ended {
            self.drop_conn(slot);
        }
    }

    /// The connection broke, or is broken off.
    fn lose(&mut self, slot: usize, now: Instant) {
        let Some(conn) = self.conns.get(slot) else { return };
        if let State::Open(id) | State::Closing { id, .. } = conn.state {
            self.parts.protocol.handle_closed(now, id);
            self.restless = true;
        }
        self.drop_conn(slot);
    }

    fn drop_conn(&mut self, slot: usize) {
        // Dropping the socket closes it.
        let _ = self.parts.net.remove(slot);
        let Some(conn) = self.conns.remove(slot) else { return };
        if !matches!(conn.state, State::Open(_)) {
            self.leaving -= 1;
        }
        self.parts.counters.connections.sub(1);
        self.forget(&conn.arrival, conn.serial, conn.half_open);
    }

    /// Takes a connection out of what all threads count together.
    fn forget(&mut self, arrival: &Arrival, serial: Serial, half_open: bool) {
        if half_open {
            self.serials.remove(&serial);
            self.parts.half_open.end(arrival.peer.ip(), serial);
        }
        self.parts.loads[self.parts.index].fetch_sub(1, Ordering::Relaxed);
    }

    fn hand_off(&mut self, slot: usize, to: usize, parcel: P::Parcel) {
        let Some((socket, tx)) = self.parts.net.remove(slot) else { return };
        let Some(conn) = self.conns.remove(slot) else { return };
        self.parts.counters.connections.sub(1);
        self.parts.counters.handed_off.add(1);
        let Conn { arrival, serial, half_open, .. } = conn;
        let Some(inbox) = self.parts.inboxes.get(to) else {
            tracing::error!(to, "a connection was handed to a thread that does not exist");
            return self.forget(&arrival, serial, half_open);
        };
        if half_open {
            self.serials.remove(&serial);
            self.parts.half_open.moved(arrival.peer.ip(), serial, to);
        }
        self.parts.loads[self.parts.index].fetch_sub(1, Ordering::Relaxed);
        self.parts.loads[to].fetch_add(1, Ordering::Relaxed);
        let newcomer = Newcomer { socket, arrival, serial };
        if inbox.put(Message::Adopt { newcomer, tx, half_open, parcel }).is_err() {
            // That thread ended: the connection goes with the parcel.
            self.parts.loads[to].fetch_sub(1, Ordering::Relaxed);
            if half_open {
                self.parts.half_open.end(arrival.peer.ip(), serial);
            }
        }
    }

    /// Whether there is anything that [`tick`](Self::tick) looks after.
    fn has_chores(&self) -> bool {
        self.leaving > 0 || !self.holding.is_empty() || !self.chunks.is_empty()
    }

    fn tick(&mut self, now: Instant) {
        self.next_tick = None;
        if self.leaving > 0 {
            let late: Vec<usize> = self
                .conns
                .iter()
                .filter_map(|(slot, conn)| match conn.state {
                    State::Closing { until, .. } | State::Lingering { until } if until <= now => Some(slot),
                    _ => None,
                })
                .collect();
            late.into_iter().for_each(|slot| self.lose(slot, now));
            self.settle(now);
        }
        let (conns, chunks) = (&mut self.conns, &mut self.chunks);
        self.holding.retain(|&slot| {
            let Some(conn) = conns.get_mut(slot) else { return false };
            chunks.release(&mut conn.chunk);
            conn.holding = conn.chunk.is_some();
            conn.holding
        });
        // A thread that did nothing since the last tick gives its buffers back.
        let received = self.parts.counters.receives.value();
        self.chunks.trim_if_idle(received);
    }

    /// Ends everything that is left.
    fn end(&mut self) {
        let now = Instant::now();
        let slots: Vec<usize> = self.conns.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.lose(slot, now);
        }
        // What the sessions leave behind - a write that was under way, its flush - is still carried out.
        self.settle(now);
        let inbox = Arc::clone(&self.parts.inboxes[self.parts.index]);
        for message in inbox.close() {
            match message {
                Message::Accept(newcomer) => self.forget(&newcomer.arrival, newcomer.serial, true),
                Message::Adopt { newcomer, half_open, .. } => {
                    self.forget(&newcomer.arrival, newcomer.serial, half_open);
                }
                Message::Stored { ticket, done } => self.parts.protocol.handle_store_done(now, &ticket, done),
                Message::Call(call) => call(&mut self.parts.protocol, now),
                Message::Evict(_) | Message::ShutDown { .. } => {}
            }
        }
        self.settle(now);
    }
}

//! One thread of the data path: its sockets, its protocol, its loop.
//!
//! Each round takes what is ready, gives every connection a turn of bounded work, carries the protocol's store
//! operations out or away, and sends all ready answers of a connection in one system call.

mod connections;
mod transfer;

use super::blocking::{Blocking, BlockingJob};
use super::chunks::ChunkClass;
use super::counters::Counters;
use super::half_open::{HalfOpen, Serial};
use super::inbox::{Inbox, Message, Newcomer, StoreReturn};
use super::net::{Flushed, Net, Ready, Received};
use super::protocol::{Action, Arrival, Protocol, StoreJob};
use super::slab::Slab;
use super::spin::Spin;
use super::tx_queue::TxQueue;
use super::wake::Wake;
use super::{Limits, acceptor::Loads};
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};
use std::mem;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};
use stmf::provider::StoreCompletion;

/// How often the thread looks after what needs no exact time, while there is such.
const TICK: Duration = Duration::from_millis(500);

/// How long the protocol's last words to peers that stayed may take on the way out.
const AFTER_GRACE: Duration = Duration::from_millis(200);

/// What a thread is made of.
pub(crate) struct Parts<P: Protocol> {
    pub(crate) index: usize,
    pub(crate) protocol: P,
    pub(crate) wake: Arc<Wake>,
    pub(crate) inboxes: Arc<[Arc<Inbox<P>>]>,
    pub(crate) loads: Loads,
    pub(crate) pool: Blocking,
    pub(crate) half_open: Arc<HalfOpen>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) limits: Limits,
}

/// See the module.
pub(crate) struct EventLoop<P: Protocol, N: Net> {
    parts: Parts<P>,
    net: N,
    /// Whether the interface may have buffers to give back.
    cached: bool,
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
    /// Those of them that have sent everything.
    lingering: usize,
    in_store: usize,
    /// Store operations for the pool; they go to it together when the round ends or they have many bytes.
    blocking: Vec<BlockingJob>,
    /// Bytes that those write.
    blocking_bytes: usize,
    /// Bytes received since answers were last sent.
    unanswered_bytes: usize,
    round: u64,
    next_tick: Option<Instant>,
    spin: Spin,
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
    class: ChunkClass,
    /// Small receives since the last that was not.
    small: u8,
    readable: bool,
    writable: bool,
    hangup: bool,
    queued: bool,
    dirty: bool,
    /// Something is left to send: the socket was full, or its share of a round used up.
    unsent: bool,
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
    pub(crate) fn new(parts: Parts<P>, net: N) -> Self {
        let spin = Spin::new(parts.limits.poll);
        Self {
            cached: false,
            parts,
            net,
            conns: Slab::default(),
            slots: Vec::new(),
            serials: HashMap::new(),
            run: VecDeque::new(),
            dirty: Vec::new(),
            holding: Vec::new(),
            leaving: 0,
            lingering: 0,
            in_store: 0,
            blocking: Vec::new(),
            blocking_bytes: 0,
            unanswered_bytes: 0,
            round: 0,
            next_tick: None,
            spin,
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
            if self.run.is_empty() {
                let work = !ready.is_empty() || self.parts.wake.is_woken();
                self.spin.learn(now.saturating_duration_since(started), work);
            }
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
                if self.unanswered_bytes >= self.parts.limits.answer_after_bytes {
                    self.settle(now);
                }
                if self.blocking_bytes >= self.parts.limits.hand_over_bytes {
                    self.hand_over();
                    // Where both share a processor, what has come is written while a cache still holds it.
                    thread::yield_now();
                }
            }
            // What streams have been answered leaves together: a send wakes a peer that sleeps, which costs more than the rest.
            self.settle(now);
            if self.parts.protocol.poll_timeout().is_some_and(|due| due <= now) {
                self.parts.protocol.handle_timeout(now);
                self.settle(now);
            }
            if self.next_tick.is_some_and(|due| due <= now) {
                self.tick(now);
            }
            self.hand_over();
            self.parts.counters.busy_ns.add(now.elapsed().as_nanos() as u64);
            // Those that linger were told everything; they only wait for the peer's end.
            if self.shut_down.is_some_and(|until| until <= now || self.conns.len() == self.lingering) {
                break Ok(());
            }
        };
        self.end();
        result.map(|()| self.parts.protocol)
    }

    fn wait(&mut self, now: Instant, ready: &mut Vec<Ready>) -> std::io::Result<()> {
        self.parts.counters.waits.add(1);
        if !self.run.is_empty() {
            return self.net.wait(Some(Duration::ZERO), ready);
        }
        if self.next_tick.is_none() && self.has_chores() {
            self.next_tick = Some(now + TICK);
        }
        let due = [self.parts.protocol.poll_timeout(), self.next_tick, self.shut_down].into_iter().flatten().min();
        if !self.spin.span().is_zero() {
            let until = now + self.spin.span();
            let until = due.map_or(until, |due| due.min(until));
            while Instant::now() < until {
                self.net.wait(Some(Duration::ZERO), ready)?;
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
        self.net.wait(timeout, ready)
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
                    self.shut_down = Some(now + grace + AFTER_GRACE);
                    self.parts.protocol.handle_shutdown(now, grace);
                }
            }
        }
        self.mail = mail;
    }

    /// Polls the protocol until it has nothing to ask for.
    fn poll(&mut self, now: Instant) {
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
            if !progress {
                return;
            }
        }
    }

    /// The same, and sends what became ready.
    fn settle(&mut self, now: Instant) {
        self.unanswered_bytes = 0;
        loop {
            self.poll(now);
            if self.dirty.is_empty() {
                return;
            }
            let mut dirty = mem::take(&mut self.dirty);
            for slot in dirty.drain(..) {
                // Not if its answers have left meanwhile.
                if self.conns.get(slot).is_some_and(|conn| conn.dirty) {
                    self.transmit(slot, now);
                }
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
            let job = BlockingJob::Store { lu, request, completion };
            self.blocking_bytes += job.write_bytes();
            self.blocking.push(job);
        }
    }

    /// Gives the pool what is for it, with one wake-up.
    fn hand_over(&mut self) {
        self.blocking_bytes = 0;
        self.parts.pool.submit_all(&mut self.blocking);
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

    /// Whether there is anything that [`tick`](Self::tick) looks after.
    fn has_chores(&self) -> bool {
        self.leaving > 0 || !self.holding.is_empty() || self.cached
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
        let (conns, net) = (&mut self.conns, &mut self.net);
        self.holding.retain(|&slot| {
            let Some(conn) = conns.get_mut(slot) else { return false };
            conn.holding = net.release(slot);
            conn.holding
        });
        self.cached = self.net.trim();
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
        self.hand_over();
    }
}

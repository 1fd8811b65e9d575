//! Fair shares of one thread, counted in bytes: a scripted interface in place of a socket, no clock involved.

use super::chunks::ChunkClass;
use super::event_loop::{EventLoop, Parts};
use super::half_open::HalfOpen;
use super::inbox::{Inbox, Message, Newcomer};
use super::net::{Flushed, Net, Ready, Received};
use super::testing::SlowUnit;
use super::tx_queue::TxQueue;
use super::*;
use bytes::Bytes;
use std::sync::atomic::AtomicUsize;
use stmf::provider::{LogicalUnit, StoreDone};

const MIB: usize = 1 << 20;
const COMMAND: usize = 48;

/// Rounds of the loop that a test watches.
const ROUNDS: usize = 200;

/// What happened, in order: bytes that came from, or went to, a slot.
type Events = Arc<Mutex<Vec<(usize, usize)>>>;

/// Slot 0 is a stream: it always has more to receive and takes whatever is sent. All other slots ask for 4 KiB and, once they
/// have them, ask again.
struct Script {
    events: Events,
    rounds: usize,
    slots: Vec<Option<(u32, TxQueue)>>,
    /// Slots with a command to receive.
    asking: Vec<usize>,
    receives_stream: bool,
}

impl Script {
    fn ready(&self, slot: usize) -> Option<Ready> {
        let tag = self.slots.get(slot)?.as_ref()?.0;
        Some(Ready { slot, tag, readable: true, writable: true, hangup: false, sent: 0 })
    }
}

impl Net for Script {
    const NAME: &'static str = "script";

    fn new(_: Arc<Wake>, _: usize) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn add(&mut self, slot: usize, tag: u32, _: OwnedFd, tx: TxQueue) -> io::Result<()> {
        self.slots.resize_with(self.slots.len().max(slot + 1), || None);
        self.slots[slot] = Some((tag, tx));
        self.asking.push(slot);
        Ok(())
    }

    fn remove(&mut self, slot: usize) {
        self.slots[slot] = None;
    }

    fn detach(&mut self, _: usize) -> Option<(OwnedFd, TxQueue)> {
        None
    }

    fn wait(&mut self, _: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        self.rounds += 1;
        if self.rounds > ROUNDS {
            return Err(io::Error::other("enough was seen"));
        }
        ready.extend((0..self.slots.len()).filter_map(|slot| self.ready(slot)));
        Ok(())
    }

    fn receive(&mut self, slot: usize, _: ChunkClass) -> io::Result<Received> {
        if slot == 0 && self.receives_stream {
            let bytes = Bytes::from_static(&[0; 256 << 10]);
            self.events.lock().unwrap().push((0, bytes.len()));
            return Ok(Received::Bytes { bytes, more: true, full: true });
        }
        let Some(at) = self.asking.iter().position(|asking| *asking == slot) else { return Ok(Received::Nothing) };
        self.asking.remove(at);
        Ok(Received::Bytes { bytes: Bytes::from_static(&[0; COMMAND]), more: false, full: false })
    }

    fn release(&mut self, _: usize) -> bool {
        false
    }

    fn flush(&mut self, slot: usize, budget: usize) -> io::Result<(Flushed, u32)> {
        let Some(Some((_, queue))) = self.slots.get_mut(slot) else { return Ok((Flushed::All(0), 0)) };
        let sent = queue.len().min(budget);
        queue.advance(sent);
        let all = queue.is_empty();
        self.events.lock().unwrap().push((slot, sent));
        if slot > 0 && all {
            self.asking.push(slot);
        }
        Ok((if all { Flushed::All(sent) } else { Flushed::Budget(sent) }, 1))
    }

    fn queue(&mut self, slot: usize) -> Option<&mut TxQueue> {
        self.slots.get_mut(slot)?.as_mut().map(|(_, queue)| queue)
    }

    fn trim(&mut self) -> bool {
        false
    }

    fn shut_down(&mut self, _: usize) {}
}

/// Answers each command with 4 KiB, and the stream with a status for each share, or a MiB whenever it takes one.
struct Answers {
    conns: usize,
    /// Bytes that are owed to each.
    owed: Vec<usize>,
    actions: Vec<Action<usize, ()>>,
    unit: Arc<dyn LogicalUnit>,
    sends_stream: bool,
}

impl Protocol for Answers {
    type Conn = usize;
    type Parcel = ();
    type Ticket = Arc<dyn LogicalUnit>;

    fn index(conn: usize) -> usize {
        conn
    }

    fn unit(ticket: &Self::Ticket) -> &Arc<dyn LogicalUnit> {
        ticket
    }

    fn accept(&mut self, _: Instant, _: Arrival) -> Option<usize> {
        self.conns += 1;
        self.owed.push(0);
        Some(self.conns - 1)
    }

    fn adopt(&mut self, _: Instant, _: Arrival, (): ()) -> Option<usize> {
        None
    }

    fn recv_hint(&mut self, _: usize) -> usize {
        COMMAND
    }

    fn handle_received(&mut self, _: Instant, conn: usize, _: Bytes) {
        self.owed[conn] += if conn > 0 { 4096 } else { COMMAND };
        self.actions.push(Action::Transmit(conn));
    }

    fn is_logged_in(&self, _: usize) -> bool {
        true
    }

    fn handle_closed(&mut self, _: Instant, _: usize) {}

    fn handle_mail(&mut self, _: Instant) {}

    fn handle_store_done(&mut self, _: Instant, _: &Self::Ticket, _: StoreDone) {}

    fn handle_timeout(&mut self, _: Instant) {}

    fn handle_shutdown(&mut self, _: Instant, _: Duration) {}

    fn poll_store(&mut self) -> Option<StoreJob<Self::Ticket>> {
        let _ = &self.unit;
        None
    }

    fn poll_action(&mut self) -> Option<Action<usize, ()>> {
        self.actions.pop()
    }

    fn poll_transmit(&mut self, _: Instant, conn: usize, out: &mut Vec<Bytes>) -> usize {
        static ZEROS: [u8; MIB] = [0; MIB];
        if conn == 0 && self.sends_stream {
            // A stream that never ends.
            out.push(Bytes::from_static(&ZEROS));
            return MIB;
        }
        let bytes = std::mem::take(&mut self.owed[conn]);
        if bytes > 0 {
            out.push(Bytes::from_static(&ZEROS[..bytes]));
        }
        bytes
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Runs a stream beside `readers` and tells what happened.
fn run(readers: usize, receives_stream: bool, sends_stream: bool) -> Vec<(usize, usize)> {
    run_with(Limits::default(), readers, receives_stream, sends_stream)
}

fn run_with(limits: Limits, readers: usize, receives_stream: bool, sends_stream: bool) -> Vec<(usize, usize)> {
    let wake = Arc::new(Wake::new().unwrap());
    let inbox = Inbox::<Answers>::new(Arc::clone(&wake));
    let pool = BlockingPool::new(&limits);
    let events = Events::default();
    let unit: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::quick());
    for serial in 0..=readers as u64 {
        let address = "127.0.0.1:1".parse().unwrap();
        let arrival = Arrival { peer: address, local: address };
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        assert!(inbox.put(Message::Accept(Newcomer { socket, arrival, serial })).is_ok());
    }
    let parts = Parts {
        index: 0,
        protocol: Answers { conns: 0, owed: Vec::new(), actions: Vec::new(), unit, sends_stream },
        wake,
        inboxes: [inbox].into(),
        loads: [AtomicUsize::new(readers + 1)].into(),
        pool: pool.handle(),
        half_open: Arc::new(HalfOpen::new(1, 1)),
        counters: Arc::default(),
        limits,
    };
    let script =
        Script { events: Arc::clone(&events), rounds: 0, slots: Vec::new(), asking: Vec::new(), receives_stream };
    assert!(EventLoop::new(parts, script).run().is_err(), "the script ends it");
    std::mem::take(&mut *events.lock().unwrap())
}

/// Most bytes of the stream between two answers of a reader, and the answers of each.
fn shares(events: &[(usize, usize)], readers: usize) -> (usize, Vec<usize>) {
    let (mut most, mut answers) = (0, vec![0; readers]);
    for reader in 1..=readers {
        let mut stream = 0;
        for (slot, bytes) in events {
            match *slot {
                0 => stream += bytes,
                slot if slot == reader => {
                    answers[reader - 1] += 1;
                    most = most.max(std::mem::take(&mut stream));
                }
                _ => {}
            }
        }
        most = most.max(stream);
    }
    (most, answers)
}

#[test]
fn readers_of_4_kib_have_their_turn_after_each_share_of_a_stream_that_is_sent() {
    let limits = Limits::default();
    let (most, answers) = shares(&run(3, false, true), 3);
    assert!(answers.iter().all(|answers| *answers >= ROUNDS - 4), "one in each round: {answers:?}");
    // A share may be overrun by what was queued already.
    let share = limits.transmit_bytes_per_turn + MIB;
    assert!(most <= 2 * share, "{most} bytes of the stream between two answers");
}

#[test]
fn readers_of_4_kib_have_their_turn_after_each_share_of_a_stream_that_is_received() {
    let limits = Limits::default();
    let (most, answers) = shares(&run(3, true, false), 3);
    assert!(answers.iter().all(|answers| *answers >= ROUNDS - 4), "one in each round: {answers:?}");
    assert!(most <= 2 * limits.receive_bytes_per_turn, "{most} bytes of the stream between two answers");
}

/// For each answer of the stream, how many readers were answered since its share was received.
fn readers_answered_first(limits: Limits) -> Vec<usize> {
    let (mut first, mut readers) = (Vec::new(), 0);
    for (slot, bytes) in run_with(limits, 3, true, false) {
        match (slot, bytes) {
            (0, bytes) if bytes < 64 << 10 => first.push(readers),
            (0, _) => readers = 0,
            _ => readers += 1,
        }
    }
    // In the first rounds connections come.
    first.split_off(4)
}

#[test]
fn what_a_stream_is_answered_leaves_when_all_had_their_turn() {
    let first = readers_answered_first(Limits::default());
    assert!(first.len() >= ROUNDS - 8 && first.iter().all(|readers| *readers == 3), "{first:?}");
}

#[test]
fn a_stream_is_answered_sooner_when_much_came_since_the_last_answers() {
    let mut limits = Limits::default();
    limits.answer_after_bytes = limits.receive_bytes_per_turn;
    let first = readers_answered_first(limits);
    assert!(first.len() >= ROUNDS - 8 && first.iter().all(|readers| *readers == 0), "{first:?}");
}

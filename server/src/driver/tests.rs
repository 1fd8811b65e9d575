//! The loop with a protocol of eight-byte frames, over real sockets.

use super::testing::{Gate, SlowUnit};
use super::*;
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Mutex;
use stmf::NexusId;
use stmf::provider::{LogicalUnit, StoreDone, StoreOp, StoreRequest, StoreToken};

const FRAME: usize = 8;

/// Echoes frames. The first byte of one says what else to do: `L` logged in, `C` close after it, `H` go to thread 1,
/// `S` answer after a store operation, `M` answer with a megabyte behind it.
struct Echo {
    thread: usize,
    conns: Vec<Option<EchoConn>>,
    actions: VecDeque<Action<usize, EchoConn>>,
    jobs: VecDeque<StoreJob<Ticket>>,
    unit: Arc<dyn LogicalUnit>,
    closed: Arc<Mutex<usize>>,
}

type Ticket = (usize, Arc<dyn LogicalUnit>);

#[derive(Debug, Default)]
struct EchoConn {
    logged_in: bool,
    stopped: bool,
    partial: BytesMut,
    out: VecDeque<Bytes>,
}

impl Echo {
    fn frame(&mut self, conn: usize, frame: Bytes) {
        let state = self.conns[conn].as_mut().unwrap();
        match frame[0] {
            b'S' => {
                let token = StoreToken(conn as u64);
                let request = StoreRequest { nexus: NexusId(self.thread as u64), token, op: StoreOp::Flush };
                self.jobs.push_back(StoreJob { ticket: (conn, Arc::clone(&self.unit)), request });
                return;
            }
            b'L' => state.logged_in = true,
            b'C' => state.partial.clear(),
            b'H' if self.thread == 0 => {
                let mut parcel = self.conns[conn].take().unwrap();
                parcel.out.push_back(frame);
                return self.actions.push_back(Action::HandOff { conn, to: 1, parcel });
            }
            _ => {}
        }
        let kind = frame[0];
        state.out.push_back(frame);
        self.actions.push_back(match kind {
            b'C' => Action::Close(conn),
            b'M' => {
                state.out.push_back(Bytes::from(vec![b'm'; 1 << 20]));
                Action::Transmit(conn)
            }
            _ => Action::Transmit(conn),
        });
    }
}

impl Protocol for Echo {
    type Conn = usize;
    type Parcel = EchoConn;
    type Ticket = Ticket;

    fn index(conn: usize) -> usize {
        conn
    }

    fn unit(ticket: &Ticket) -> &Arc<dyn LogicalUnit> {
        &ticket.1
    }

    fn is_logged_in(&self, conn: usize) -> bool {
        self.conns[conn].as_ref().is_some_and(|state| state.logged_in)
    }

    fn accept(&mut self, now: Instant, arrival: Arrival) -> Option<usize> {
        self.adopt(now, arrival, EchoConn::default())
    }

    fn adopt(&mut self, _: Instant, _: Arrival, parcel: EchoConn) -> Option<usize> {
        self.conns.push(Some(parcel));
        Some(self.conns.len() - 1)
    }

    fn recv_hint(&mut self, conn: usize) -> usize {
        let state = self.conns[conn].as_mut().unwrap();
        state.stopped = state.out.len() > 16;
        if state.stopped { 0 } else { FRAME }
    }

    fn handle_received(&mut self, _: Instant, conn: usize, bytes: Bytes) {
        self.conns[conn].as_mut().unwrap().partial.extend_from_slice(&bytes);
        while let Some(state) = &mut self.conns[conn]
            && state.partial.len() >= FRAME
        {
            let frame = state.partial.split_to(FRAME).freeze();
            self.frame(conn, frame);
        }
    }

    fn handle_closed(&mut self, _: Instant, conn: usize) {
        assert!(self.conns[conn].take().is_some(), "closed once only");
        *self.closed.lock().unwrap() += 1;
    }

    fn handle_mail(&mut self, _: Instant) {}

    fn handle_store_done(&mut self, _: Instant, ticket: &Ticket, _: StoreDone) {
        let conn = ticket.0;
        if let Some(state) = &mut self.conns[conn] {
            state.out.push_back(Bytes::from_static(b"Stored!\n"));
            self.actions.push_back(Action::Transmit(conn));
        }
    }

    fn handle_timeout(&mut self, _: Instant) {}

    fn handle_shutdown(&mut self, _: Instant, _: Duration) {
        for (conn, state) in self.conns.iter_mut().enumerate() {
            if let Some(state) = state {
                state.out.push_back(Bytes::from_static(b"goodbye\n"));
                self.actions.push_back(Action::Transmit(conn));
            }
        }
    }

    fn poll_store(&mut self) -> Option<StoreJob<Ticket>> {
        self.jobs.pop_front()
    }

    fn poll_action(&mut self) -> Option<Action<usize, EchoConn>> {
        self.actions.pop_front()
    }

    fn poll_transmit(&mut self, _: Instant, conn: usize, out: &mut Vec<Bytes>) -> usize {
        let Some(state) = &mut self.conns[conn] else { return 0 };
        let Some(next) = state.out.pop_front() else { return 0 };
        if state.stopped && state.out.len() <= 16 {
            state.stopped = false;
            self.actions.push_back(Action::Receive(conn));
        }
        let bytes = next.len();
        out.push(next);
        bytes
    }

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

/// Each test runs over each interface.
macro_rules! over_each_interface {
    ($($name:ident)*) => {
        mod epoll {
            $(#[test] fn $name() { super::$name(super::Interface::Epoll); })*
        }
        mod io_uring {
            $(#[test] fn $name() {
                match super::Uring::probe() {
                    Ok(()) => super::$name(super::Interface::IoUring),
                    Err(error) => eprintln!("skipped: no io_uring here: {error}"),
                }
            })*
        }
    };
}

over_each_interface! {
    every_connection_gets_its_own_answers
    a_frame_in_pieces_and_many_frames_at_once_are_the_same
    a_close_sends_what_was_queued_before
    a_slow_reader_holds_up_nobody_and_gets_everything
    a_store_that_waits_holds_up_nobody
    more_store_operations_than_the_limit_wait_their_turn
    a_connection_moves_to_another_thread_with_its_answers
    half_open_connections_of_one_address_are_limited_and_logins_go_on
    connections_over_the_limit_are_turned_away
    a_portal_closes_without_its_connections
    a_shutdown_asks_peers_to_leave_and_ends_when_they_have
    a_shutdown_breaks_off_peers_that_stay
    a_call_runs_with_the_protocol_of_its_thread
    a_panic_of_a_thread_is_told
    an_idle_server_does_not_wake_up
}

struct Rig {
    driver: Driver<Echo>,
    _pool: BlockingPool,
    address: SocketAddr,
    closed: Arc<Mutex<usize>>,
}

impl Rig {
    fn new(interface: Interface, threads: usize, limits: &Limits, unit: SlowUnit) -> Self {
        let unit: Arc<dyn LogicalUnit> = Arc::new(unit);
        let pool = BlockingPool::new(limits);
        let closed: Arc<Mutex<usize>> = Arc::default();
        let make = |thread, _wake| Echo {
            thread,
            conns: Vec::new(),
            actions: VecDeque::new(),
            jobs: VecDeque::new(),
            unit: Arc::clone(&unit),
            closed: Arc::clone(&closed),
        };
        let driver = Driver::start(threads, interface, limits, &pool.handle(), make, || ()).unwrap();
        let address = driver.listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Self { driver, _pool: pool, address, closed }
    }

    fn plain(interface: Interface) -> Self {
        Self::new(interface, 2, &Limits::default(), SlowUnit::quick())
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn wait_until(&self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while !condition(self) {
            assert!(Instant::now() < deadline, "waited too long: {what}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    fn connections(&self) -> u64 {
        self.driver.statistics().iter().map(|thread| thread.connections).sum()
    }
}

fn ask(stream: &mut TcpStream, frame: &[u8; FRAME]) -> [u8; FRAME] {
    stream.write_all(frame).unwrap();
    let mut answer = [0; FRAME];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// Whether the other end closed, by an end or by a reset.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 64]) {
        Ok(count) => count == 0,
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn every_connection_gets_its_own_answers(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut streams: Vec<_> = (0..100).map(|_| rig.connect()).collect();
    for round in 0..3u8 {
        for (number, stream) in streams.iter_mut().enumerate() {
            let frame = [b'e', round, number as u8, 3, 4, 5, 6, 7];
            assert_eq!(ask(stream, &frame), frame);
        }
    }
    let statistics = rig.driver.statistics();
    assert!(statistics.iter().all(|thread| thread.connections == 50), "spread evenly: {statistics:?}");
    drop(streams);
    rig.wait_until("all closed", |rig| rig.connections() == 0);
    assert_eq!(*rig.closed.lock().unwrap(), 100);
}

fn a_frame_in_pieces_and_many_frames_at_once_are_the_same(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut stream = rig.connect();
    for byte in b"e1234567" {
        stream.write_all(&[*byte]).unwrap();
    }
    let mut answer = [0; FRAME];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"e1234567");
    let many = b"e7654321".repeat(50_000);
    let writer = {
        let (mut stream, many) = (stream.try_clone().unwrap(), many.clone());
        thread::spawn(move || stream.write_all(&many).unwrap())
    };
    let mut answers = vec![0; many.len()];
    stream.read_exact(&mut answers).unwrap();
    writer.join().unwrap();
    assert!(answers == many);
}

fn a_close_sends_what_was_queued_before(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut stream = rig.connect();
    // What is behind the close is not read; the answers must arrive all the same.
    stream.write_all(b"M1234567C1234567ignored!").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), (1 << 20) + 2 * FRAME);
    assert_eq!(&all[all.len() - FRAME..], b"C1234567");
    drop(stream);
    rig.wait_until("closed", |rig| rig.connections() == 0);
}

fn a_slow_reader_holds_up_nobody_and_gets_everything(interface: Interface) {
    let rig = Rig::new(interface, 1, &Limits::default(), SlowUnit::quick());
    let mut slow = rig.connect();
    let count = 64;
    slow.write_all(&b"M1234567".repeat(count)).unwrap();
    let mut quick = rig.connect();
    for _ in 0..100 {
        assert_eq!(ask(&mut quick, b"equick!!"), *b"equick!!");
    }
    let mut buffer = vec![0; FRAME + (1 << 20)];
    for _ in 0..count {
        slow.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer[..FRAME], b"M1234567");
        assert!(buffer[FRAME..].iter().all(|byte| *byte == b'm'));
    }
}

fn a_store_that_waits_holds_up_nobody(interface: Interface) {
    let gate = Gate::closed();
    let rig = Rig::new(interface, 1, &Limits::default(), SlowUnit::behind(&gate));
    let mut waiting = rig.connect();
    waiting.write_all(b"S1234567").unwrap();
    let mut other = rig.connect();
    assert_eq!(ask(&mut other, b"e1234567"), *b"e1234567");
    gate.open();
    let mut answer = [0; FRAME];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"Stored!\n");
    assert_eq!(rig.driver.statistics()[0].store_offloaded, 1);
}

fn more_store_operations_than_the_limit_wait_their_turn(interface: Interface) {
    let limits = Limits { max_store_operations: 3, max_blocking_threads: 2, ..Limits::default() };
    let rig = Rig::new(interface, 1, &limits, SlowUnit::quick());
    let mut stream = rig.connect();
    stream.write_all(&b"S1234567".repeat(500)).unwrap();
    let mut answers = vec![0; 500 * FRAME];
    stream.read_exact(&mut answers).unwrap();
    assert_eq!(answers, b"Stored!\n".repeat(500));
}

fn a_connection_moves_to_another_thread_with_its_answers(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut streams: Vec<_> = (0..4).map(|_| rig.connect()).collect();
    for stream in &mut streams {
        assert_eq!(ask(stream, b"H1234567"), *b"H1234567");
        assert_eq!(ask(stream, b"e1234567"), *b"e1234567");
    }
    let statistics = rig.driver.statistics();
    assert_eq!(statistics.iter().map(|thread| thread.connections).collect::<Vec<_>>(), [0, 4]);
    assert!(statistics[0].handed_off > 0 && statistics[1].handed_off == 0, "{statistics:?}");
    drop(streams);
    rig.wait_until("closed", |rig| rig.connections() == 0);
}

fn half_open_connections_of_one_address_are_limited_and_logins_go_on(interface: Interface) {
    let limits = Limits { max_half_open_per_address: 8, ..Limits::default() };
    let rig = Rig::new(interface, 2, &limits, SlowUnit::quick());
    let mut logged_in = rig.connect();
    assert_eq!(ask(&mut logged_in, b"L1234567"), *b"L1234567");
    let mut flood: Vec<_> = (0..200).map(|_| rig.connect()).collect();
    rig.wait_until("flood seen", |rig| {
        rig.driver.statistics().iter().map(|thread| thread.accepted).sum::<u64>() == 201 && rig.connections() <= 9
    });
    assert_eq!(rig.driver.half_open(), 8);
    assert!(is_closed(&mut flood[0]));
    assert_eq!(ask(&mut logged_in, b"estill!!"), *b"estill!!");
    let mut late = rig.connect();
    assert_eq!(ask(&mut late, b"L1234567"), *b"L1234567");
}

fn connections_over_the_limit_are_turned_away(interface: Interface) {
    let limits = Limits { max_connections: 3, ..Limits::default() };
    let rig = Rig::new(interface, 2, &limits, SlowUnit::quick());
    let mut streams: Vec<_> = (0..3).map(|_| rig.connect()).collect();
    // Two threads accept: the fourth may overtake one that is not counted yet.
    rig.wait_until("three are in", |rig| rig.connections() == 3);
    assert!(is_closed(&mut rig.connect()));
    assert_eq!(ask(&mut streams[0], b"e1234567"), *b"e1234567");
    drop(streams);
    rig.wait_until("room", |rig| rig.connections() == 0);
    assert_eq!(ask(&mut rig.connect(), b"e1234567"), *b"e1234567");
}

fn a_portal_closes_without_its_connections(interface: Interface) {
    let rig = Rig::plain(interface);
    let second = rig.driver.listen("[::1]:0".parse().unwrap()).unwrap();
    let mut stream = rig.connect();
    assert_eq!(ask(&mut stream, b"e1234567"), *b"e1234567");
    assert!(rig.driver.unlisten(rig.address));
    assert!(!rig.driver.unlisten(rig.address));
    assert!(TcpStream::connect(rig.address).is_err());
    assert_eq!(ask(&mut stream, b"e1234567"), *b"e1234567");
    assert_eq!(ask(&mut TcpStream::connect(second).unwrap(), b"e1234567"), *b"e1234567");
}

fn a_shutdown_asks_peers_to_leave_and_ends_when_they_have(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut stream = rig.connect();
    assert_eq!(ask(&mut stream, b"e1234567"), *b"e1234567");
    let peer = thread::spawn(move || {
        let mut answer = [0; FRAME];
        stream.read_exact(&mut answer).unwrap();
        answer
    });
    let started = Instant::now();
    let protocols = rig.driver.shut_down(Duration::from_secs(30));
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!(&peer.join().unwrap(), b"goodbye\n");
    assert_eq!(protocols.len(), 2);
    assert!(TcpStream::connect(rig.address).is_err());
}

fn a_shutdown_breaks_off_peers_that_stay(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut stream = rig.connect();
    assert_eq!(ask(&mut stream, b"e1234567"), *b"e1234567");
    rig.driver.shut_down(Duration::from_millis(50));
    assert_eq!(*rig.closed.lock().unwrap(), 1);
    stream.read_exact(&mut [0; FRAME]).unwrap();
    assert!(is_closed(&mut stream));
}

fn a_call_runs_with_the_protocol_of_its_thread(interface: Interface) {
    let rig = Rig::plain(interface);
    let threads: Vec<_> =
        (0..rig.driver.threads()).map(|index| rig.driver.call(index, |echo, _| echo.thread)).collect();
    assert_eq!(threads, [Some(0), Some(1)]);
    assert_eq!(rig.driver.call(7, |echo, _| echo.thread), None);
}

fn a_panic_of_a_thread_is_told(interface: Interface) {
    let rig = Rig::plain(interface);
    assert_eq!(rig.driver.call::<()>(1, |_, _| panic!("on purpose")), None);
    rig.wait_until("told", |rig| rig.driver.has_failed());
}

fn an_idle_server_does_not_wake_up(interface: Interface) {
    let rig = Rig::plain(interface);
    let mut stream = rig.connect();
    assert_eq!(ask(&mut stream, b"L1234567"), *b"L1234567");
    // The buffers of the last burst are given back within a few ticks; then nothing is left to look after.
    thread::sleep(Duration::from_millis(2500));
    let waits = || rig.driver.statistics().iter().map(|thread| thread.waits).sum::<u64>();
    let before = waits();
    thread::sleep(Duration::from_millis(1200));
    assert_eq!(waits(), before);
}

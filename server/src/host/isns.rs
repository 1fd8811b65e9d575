//! The sockets of the iSNS client: a thread for each server, and one that answers status inquiries.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use iscsit::isns::{Action, ESI_INTERVAL, Message, Node, Registrar, Registration, Standing, answer_esi};

/// How long a server may take to accept a connection, and to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long deregistration may hold up the end of a server.
const FAREWELL: Duration = Duration::from_secs(2);
/// Status inquiries that may stay out before a server that has asked before is thought to have forgotten us.
const MISSED_INQUIRIES: u32 = 4;
/// Bytes of an inquiry at most.
const MAX_INQUIRY_BYTES: usize = 64 << 10;

/// The registrations with all servers.
#[derive(Default)]
pub(super) struct Isns {
    clients: BTreeMap<SocketAddr, Arc<Client>>,
    inquiries: Option<Arc<Inquiries>>,
    entity: String,
}

/// The registration with one server; its thread holds it too.
struct Client {
    server: SocketAddr,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    registrar: Registrar,
    /// Deregister, then end.
    leaving: bool,
    ended: bool,
}

/// Answers Entity Status Inquiries.
struct Inquiries {
    port: u16,
    /// Milliseconds from `since` to the last inquiry; 0 before the first.
    last: AtomicU64,
    since: Instant,
    stop: AtomicBool,
}

impl Isns {
    /// Registers `nodes` with `servers`, and with no others.
    pub(super) fn follow(&mut self, servers: &[SocketAddr], nodes: &[Node]) {
        if self.entity.is_empty() {
            self.entity = entity();
        }
        for gone in self.clients.keys().copied().filter(|server| !servers.contains(server)).collect::<Vec<_>>() {
            if let Some(client) = self.clients.remove(&gone) {
                client.leave();
            }
        }
        if servers.is_empty() {
            self.inquiries = None;
            return;
        }
        if self.inquiries.is_none() {
            self.inquiries = Inquiries::start().inspect_err(|e| tracing::warn!("iSNS inquiries: {e}")).ok();
        }
        let registration = Registration {
            entity: self.entity.clone(),
            esi_port: self.inquiries.as_ref().map(|inquiries| inquiries.port),
            nodes: nodes.to_vec(),
        };
        for server in servers {
            if !self.clients.contains_key(server) {
                let client = Arc::new(Client { server: *server, state: Mutex::default(), changed: Condvar::new() });
                let (run, inquiries) = (Arc::clone(&client), self.inquiries.clone());
                let started = thread::Builder::new()
                    .name("lunette-isns".into())
                    .stack_size(256 << 10)
                    .spawn(move || run.run(inquiries.as_deref()));
                if let Err(error) = started {
                    tracing::error!(%server, "iSNS: {error}");
                    continue;
                }
                self.clients.insert(*server, client);
            }
            if let Some(client) = self.clients.get(server) {
                client.lock().registrar.set_registration(Instant::now(), registration.clone());
                client.changed.notify_one();
            }
        }
    }

    /// How each server and we stand.
    pub(super) fn standings(&self) -> Vec<(SocketAddr, Standing)> {
        self.clients.iter().map(|(server, client)| (*server, client.lock().registrar.standing().clone())).collect()
    }

    /// Deregisters everywhere, within a named time.
    pub(super) fn shut_down(&mut self) {
        self.inquiries = None;
        let clients = std::mem::take(&mut self.clients);
        clients.values().for_each(|client| client.leave());
        let deadline = Instant::now() + FAREWELL;
        for client in clients.values() {
            let mut state = client.lock();
            while !state.ended && Instant::now() < deadline {
                let left = deadline.saturating_duration_since(Instant::now());
                state = client.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }
}

impl Client {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Deregisters and ends, without waiting for it.
    fn leave(&self) {
        let mut state = self.lock();
        state.leaving = true;
        state.registrar.set_registration(Instant::now(), Registration::default());
        self.changed.notify_all();
    }

    fn run(&self, inquiries: Option<&Inquiries>) {
        let mut told = Standing::Idle;
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            if inquiries.is_some_and(|inquiries| inquiries.are_missed(now)) {
                state.registrar.refresh(now);
            }
            if let Some(Action::Exchange(bytes)) = state.registrar.poll_action(now) {
                let is_farewell = state.leaving;
                drop(state);
                let answer = exchange(self.server, &bytes);
                state = self.lock();
                match answer {
                    Ok(answer) => state.registrar.handle_answer(Instant::now(), &answer),
                    Err(error) => state.registrar.handle_failure(Instant::now(), error.to_string()),
                }
                let standing = state.registrar.standing().clone();
                if standing != told {
                    match &standing {
                        Standing::Failing(why) => tracing::warn!(server = %self.server, "iSNS registration: {why}"),
                        standing => tracing::info!(server = %self.server, "iSNS: {standing:?}"),
                    }
                    told = standing;
                }
                // One attempt is enough for a farewell: what is not deregistered runs out by itself.
                if is_farewell {
                    break;
                }
                continue;
            }
            let due = state.registrar.poll_timeout();
            if state.leaving && due.is_none_or(|due| due > now) {
                break;
            }
            let pause = due.map_or(ESI_INTERVAL, |due| due.saturating_duration_since(now).min(ESI_INTERVAL));
            if !pause.is_zero() {
                state = self.changed.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
            }
        }
        state.ended = true;
        self.changed.notify_all();
    }
}

/// One question and its answer, on a connection of their own.
fn exchange(server: SocketAddr, question: &[u8]) -> io::Result<Message> {
    let mut stream = TcpStream::connect_timeout(&server, PATIENCE)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(question)?;
    receive(&mut stream, PATIENCE, usize::MAX)
}

fn receive(stream: &mut TcpStream, patience: Duration, limit: usize) -> io::Result<Message> {
    let deadline = Instant::now() + patience;
    let (mut bytes, mut chunk) = (Vec::new(), [0; 16 << 10]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        stream.set_read_timeout(Some(left))?;
        let length = stream.read(&mut chunk)?;
        if length == 0 {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection without an answer"));
        }
        bytes.extend_from_slice(&chunk[..length]);
        let decoded = Message::decode(&bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        if let Some((message, _)) = decoded {
            return Ok(message);
        }
        if bytes.len() > limit {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
}

impl Inquiries {
    fn start() -> io::Result<Arc<Self>> {
        // Every address: a server asks at each portal that it was told.
        let any =
            TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)).or_else(|_| TcpListener::bind((Ipv4Addr::UNSPECIFIED, 0)));
        let listener = any?;
        let port = listener.local_addr()?.port();
        let this =
            Arc::new(Self { port, last: AtomicU64::new(0), since: Instant::now(), stop: AtomicBool::new(false) });
        let weak = Arc::downgrade(&this);
        let run = move || {
            for stream in listener.incoming() {
                let Some(this) = weak.upgrade().filter(|this| !this.stop.load(Ordering::Relaxed)) else { return };
                // One at a time, each with little patience: what a stranger can do is to delay inquiries, and those
                // that are missed only make us register again.
                if let Ok(mut stream) = stream {
                    let _ = this.answer(&mut stream);
                }
            }
        };
        thread::Builder::new().name("lunette-esi".into()).stack_size(256 << 10).spawn(run)?;
        Ok(this)
    }

    /// Answers inquiries on a connection until the server closes it.
    fn answer(&self, stream: &mut TcpStream) -> io::Result<()> {
        stream.set_write_timeout(Some(PATIENCE))?;
        loop {
            let inquiry = receive(stream, Duration::from_secs(1), MAX_INQUIRY_BYTES)?;
            let Some(answer) = answer_esi(&inquiry) else { return Ok(()) };
            stream.write_all(&answer.encode())?;
            let passed = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.last.store(passed.max(1), Ordering::Relaxed);
        }
    }

    /// Whether a server has asked and has stopped to; told once.
    fn are_missed(&self, now: Instant) -> bool {
        let last = self.last.load(Ordering::Relaxed);
        let missed = last != 0
            && now.saturating_duration_since(self.since)
                > Duration::from_millis(last) + ESI_INTERVAL * MISSED_INQUIRIES;
        missed && self.last.compare_exchange(last, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}

impl Drop for Isns {
    fn drop(&mut self) {
        self.inquiries = None;
        self.clients.values().for_each(|client| client.leave());
    }
}

impl Drop for Inquiries {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread; it finds that there is nobody left to listen for.
        let _ = TcpStream::connect_timeout(&(Ipv4Addr::LOCALHOST, self.port).into(), Duration::from_millis(100));
    }
}

/// The Entity Identifier: the name of this host, else that of the program.
fn entity() -> String {
    let name = rustix::system::uname();
    match name.nodename().to_str() {
        Ok(name) if !name.is_empty() && name != "(none)" => name.to_owned(),
        _ => "lunette".to_owned(),
    }
}

//! A whole target in an event loop of its own, over mio: one thread, no other runtime.
//!
//! `cargo run --example loop_mio` tells its URL. Everything that can block stays outside: the socket calls are here, the
//! protocol is in [`Embedded`].
use lunette::bytes::{Buf, Bytes};
use lunette::iscsit::{ConnectionId, Embedded, Surroundings, WorkerEvent};
use lunette::lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties, store::MemoryStore};
use lunette::scsi_core::{Guid, GuidHost};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token, Waker};
use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

const LISTENER: Token = Token(0);
const WAKER: Token = Token(1);
const TARGET: &str = "iqn.2026-11.org.example:loop-mio";

/// A socket, and what it has not taken yet.
struct Link {
    id: ConnectionId,
    stream: TcpStream,
    unsent: VecDeque<Bytes>,
    /// To be closed once everything is sent.
    is_closing: bool,
}

struct Loop {
    poll: Poll,
    target: Embedded,
    links: HashMap<Token, Link>,
    tokens: HashMap<ConnectionId, Token>,
    next_token: usize,
}

fn main() -> Result<(), Box<dyn Error>> {
    let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    println!("iscsi://{}/{TARGET}/0", listener.local_addr()?);
    serve(listener)
}

/// Serves a disk of 64 MiB until something fails that should not.
pub(crate) fn serve(listener: std::net::TcpListener) -> Result<(), Box<dyn Error>> {
    listener.set_nonblocking(true)?;
    let mut listener = TcpListener::from_std(listener);
    let poll = Poll::new()?;
    poll.registry().register(&mut listener, LISTENER, Interest::READABLE)?;
    let waker = Waker::new(poll.registry(), WAKER)?;
    let target = target(move || drop(waker.wake()))?;
    let mut this = Loop { poll, target, links: HashMap::new(), tokens: HashMap::new(), next_token: 2 };
    let mut events = Events::with_capacity(256);
    loop {
        let timeout = this.target.poll_timeout().map(|due| due.saturating_duration_since(Instant::now()));
        match this.poll.poll(&mut events, timeout) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => return Err(error.into()),
            _ => {}
        }
        this.target.handle_timeout(Instant::now());
        for event in &events {
            match event.token() {
                LISTENER => this.accept(&listener)?,
                WAKER => this.target.handle_mail(Instant::now()),
                token => {
                    if event.is_readable() || event.is_error() {
                        this.receive(token);
                    }
                    if event.is_writable() {
                        this.send(token);
                    }
                }
            }
        }
        this.follow_wishes();
    }
}

/// The target with its one disk, in memory.
fn target(wake: impl Fn() + Send + Sync + 'static) -> Result<Embedded, Box<dyn Error>> {
    let unix_time = || SystemTime::UNIX_EPOCH.elapsed().map_or(0, |time| time.as_secs());
    let entropy = |bytes: &mut [u8]| getrandom::fill(bytes).expect("the system gives random bytes");
    let surroundings =
        Surroundings { entropy: Box::new(entropy), unix_time: Box::new(unix_time), waker: Arc::new(wake) };
    let mut target = Embedded::new(TARGET, surroundings)?;
    let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), unix_time() as u32, 1);
    let identity = CreateProperties::default().identity(guid, Path::new("memory"), 64 << 20)?;
    let store = Arc::new(MemoryStore::new(64 << 20));
    target.add_unit(Arc::new(SbdLu::new(identity, store, Arc::new(NoRecord), Limits::default())), Some(0))?;
    Ok(target)
}

impl Loop {
    fn accept(&mut self, listener: &TcpListener) -> io::Result<()> {
        loop {
            let (mut stream, peer) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nodelay(true)?;
            // At the limit of connections the stream is dropped, which closes it.
            let Ok(id) = self.target.accept(Instant::now(), stream.local_addr()?, peer) else { continue };
            let token = Token(self.next_token);
            self.next_token += 1;
            self.poll.registry().register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
            self.links.insert(token, Link { id, stream, unsent: VecDeque::new(), is_closing: false });
            self.tokens.insert(id, token);
        }
    }

    /// Receives until the socket has nothing more, or the target wants nothing more.
    fn receive(&mut self, token: Token) {
        while let Some(link) = self.links.get_mut(&token) {
            let id = link.id;
            if link.is_closing || self.target.recv_hint(id).wanted == 0 {
                return;
            }
            let mut chunk = vec![0; 256 << 10];
            match link.stream.read(&mut chunk) {
                Ok(length @ 1..) => {
                    chunk.truncate(length);
                    // Payloads are slices of this chunk, all the way to the store.
                    self.target.handle_received(Instant::now(), id, chunk.into());
                    self.follow_wishes();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return self.close(token),
            }
        }
    }

    /// Sends until the socket takes nothing more, or the target has nothing more.
    fn send(&mut self, token: Token) {
        while let Some(link) = self.links.get_mut(&token) {
            if link.unsent.is_empty() {
                let mut out = Vec::new();
                self.target.poll_transmit(Instant::now(), link.id, &mut out);
                link.unsent.extend(out);
            }
            let Some(first) = link.unsent.front() else {
                if link.is_closing {
                    self.close(token);
                }
                return;
            };
            // A real program would hand the slices to writev together.
            match link.stream.write(first) {
                Ok(length) => {
                    let is_all = length == first.len();
                    let Some(first) = link.unsent.front_mut() else { continue };
                    first.advance(length);
                    if is_all {
                        link.unsent.pop_front();
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return self.close(token),
            }
        }
    }

    fn follow_wishes(&mut self) {
        while let Some(event) = self.target.poll_event() {
            let token = |id| self.tokens.get(&id).copied();
            match event {
                WorkerEvent::Transmit(id) => token(id).into_iter().for_each(|token| self.send(token)),
                WorkerEvent::Receive(id) => token(id).into_iter().for_each(|token| self.receive(token)),
                WorkerEvent::Close(id) => {
                    if let Some(token) = token(id) {
                        self.links.get_mut(&token).into_iter().for_each(|link| link.is_closing = true);
                        self.send(token);
                    }
                }
                WorkerEvent::Notice(notice) => eprintln!("{notice:?}"),
                WorkerEvent::HandOff { .. } => {}
            }
        }
    }

    fn close(&mut self, token: Token) {
        if let Some(mut link) = self.links.remove(&token) {
            let _ = self.poll.registry().deregister(&mut link.stream);
            self.tokens.remove(&link.id);
            self.target.handle_closed(Instant::now(), link.id);
        }
    }
}

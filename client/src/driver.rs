//! The thread that does a blocking disk's I/O.

use crate::core::Step;
use crate::error::Error;
use crate::handle::Shared;
use crate::options::Address;
use crate::outbox::{Inbox, Outbox};
use bytes::Bytes;
use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};
use std::io::{self, Read, Write};
use std::net::ToSocketAddrs;
use std::sync::Arc;
use std::time::Instant;

pub(crate) const WAKE: Token = Token(0);
const SOCKET: Token = Token(1);

/// Reads in a row before what is to be sent gets its turn.
const READS: usize = 16;

/// A connection, or one that is being made.
struct Socket {
    stream: TcpStream,
    is_connected: bool,
    may_read: bool,
    may_write: bool,
    out: Outbox,
}

pub(crate) struct Driver {
    shared: Arc<Shared>,
    poll: Poll,
    socket: Option<Socket>,
    /// Addresses of the host that were not tried yet.
    untried: Vec<std::net::SocketAddr>,
    address: String,
    inbox: Inbox,
    batch: Vec<Bytes>,
}

impl Driver {
    pub(crate) fn new(shared: Arc<Shared>, poll: Poll) -> Self {
        let (address, untried) = (String::new(), Vec::new());
        Self { shared, poll, socket: None, untried, address, inbox: Inbox::default(), batch: Vec::new() }
    }

    /// Runs until the disk is closed.
    pub(crate) fn run(mut self) {
        let mut events = Events::with_capacity(8);
        loop {
            let step = self.shared.with(|core| {
                let now = Instant::now();
                core.handle_timeout(now);
                core.poll_step(now)
            });
            match step {
                Some(Step::Connect(address)) => self.connect(&address),
                Some(Step::Close) => self.closed(None),
                Some(Step::Stop) => return,
                None => {
                    // What was received may have ended the connection: then there is nothing to sleep for.
                    if self.transfer() || self.shared.with(|core| core.has_step()) {
                        continue;
                    }
                    self.sleep(&mut events);
                }
            }
        }
    }

    fn connect(&mut self, address: &Address) {
        self.address = address.to_string();
        match (address.host.as_str(), address.port).to_socket_addrs() {
            Ok(found) => {
                self.untried = found.collect();
                self.untried.reverse();
                self.connect_next(&io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
            }
            Err(source) => {
                let error = Error::Resolve { host: address.host.clone(), source: Arc::new(source) };
                self.shared.with(|core| core.handle_connect_failed(Instant::now(), error));
            }
        }
    }

    /// Tries the next address of the host; tells the core when there is none left.
    fn connect_next(&mut self, last: &io::Error) {
        let mut last = io::Error::new(last.kind(), last.to_string());
        while let Some(address) = self.untried.pop() {
            let stream = TcpStream::connect(address).and_then(|mut stream| {
                let interest = Interest::READABLE | Interest::WRITABLE;
                self.poll.registry().register(&mut stream, SOCKET, interest)?;
                Ok(stream)
            });
            match stream {
                Ok(stream) => {
                    let out = Outbox::default();
                    let socket = Socket { stream, is_connected: false, may_read: false, may_write: false, out };
                    self.socket = Some(socket);
                    return;
                }
                Err(error) => last = error,
            }
        }
        let error = Error::Connect { address: self.address.clone(), source: Arc::new(last) };
        self.shared.with(|core| core.handle_connect_failed(Instant::now(), error));
    }

    fn closed(&mut self, reason: Option<&io::Error>) {
        self.socket = None;
        self.shared.with(|core| core.handle_closed(Instant::now(), reason));
    }

    /// Receives and sends; whether there may be more to do at once.
    fn transfer(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        if !socket.is_connected {
            return self.check_connected();
        }
        match exchange(socket, &self.shared, &mut self.inbox, &mut self.batch) {
            Ok(more) => more,
            Err(error) => {
                let reason = (error.kind() != io::ErrorKind::UnexpectedEof).then_some(&error);
                self.closed(reason);
                true
            }
        }
    }

    fn check_connected(&mut self) -> bool {
        let Some(socket) = &mut self.socket else { return false };
        if !socket.may_write {
            return false;
        }
        let connected = match socket.stream.take_error() {
            Ok(None) => socket.stream.peer_addr().map(|_| ()),
            Ok(Some(error)) | Err(error) => Err(error),
        };
        match connected {
            Ok(()) => {
                socket.is_connected = true;
                let _ = socket.stream.set_nodelay(true);
                self.shared.with(|core| core.handle_connected(Instant::now()));
            }
            Err(error) if error.kind() == io::ErrorKind::NotConnected => {
                socket.may_write = false;
                return false;
            }
            Err(error) => {
                self.socket = None;
                self.connect_next(&error);
            }
        }
        true
    }

    fn sleep(&mut self, events: &mut Events) {
        let deadline = self.shared.with(|core| core.poll_timeout());
        let timeout = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if let Err(error) = self.poll.poll(events, timeout)
            && error.kind() != io::ErrorKind::Interrupted
        {
            // Without it nothing is ever told: better to end the connection than to hang or spin.
            self.closed(Some(&error));
            std::thread::sleep(std::time::Duration::from_millis(10));
            return;
        }
        for event in &*events {
            if let (SOCKET, Some(socket)) = (event.token(), &mut self.socket) {
                socket.may_read |= event.is_readable() || event.is_read_closed() || event.is_error();
                socket.may_write |= event.is_writable() || event.is_write_closed() || event.is_error();
            }
        }
    }
}

/// One turn of receiving and sending. `Ok(true)`: more may be done at once. `UnexpectedEof`: the peer has closed.
fn exchange(socket: &mut Socket, shared: &Shared, inbox: &mut Inbox, batch: &mut Vec<Bytes>) -> io::Result<bool> {
    let mut reads = 0;
    while socket.may_read && reads < READS {
        reads += 1;
        let wanted = shared.with(|core| core.recv_hint().wanted);
        match inbox.read(wanted, |into| socket.stream.read(into)) {
            Ok(Some(bytes)) => shared.with(|core| core.handle_received(Instant::now(), bytes)),
            Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.may_read = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    loop {
        if socket.out.is_empty() {
            shared.with(|core| core.poll_transmit(Instant::now(), batch));
            socket.out.push(batch);
        }
        if socket.out.is_empty() || !socket.may_write {
            break;
        }
        match socket.out.write(|slices| socket.stream.write_vectored(slices)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => socket.may_write = false,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(socket.may_read)
}

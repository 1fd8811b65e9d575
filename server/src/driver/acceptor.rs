//! The thread that accepts connections and spreads them over the threads of the data path.

use super::Limits;
use super::flood::Flood;
use super::half_open::HalfOpen;
use super::inbox::{Inbox, Message, Newcomer};
use super::listener::{ListenError, listen};
use super::protocol::{Arrival, Protocol};
use super::spread::Spread;
use super::wake::Wake;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{SocketFlags, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Connections accepted of one portal before the next has its turn.
const ACCEPTS_PER_TURN: usize = 64;

/// How long to leave the portals alone when the process has no descriptor left; doubled up to the maximum.
const BACK_OFF: Duration = Duration::from_millis(50);
const MAX_BACK_OFF: Duration = Duration::from_secs(1);

/// The event data of the wake-up; no portal has it.
const WAKE: u64 = u64::MAX;

/// Connections of each thread, those on their way to it included.
pub(crate) type Loads = Arc<[AtomicUsize]>;

/// What the acceptor shares with the threads.
pub(crate) struct Crew<P: Protocol> {
    pub(crate) inboxes: Arc<[Arc<Inbox<P>>]>,
    pub(crate) loads: Loads,
    pub(crate) half_open: Arc<HalfOpen>,
    pub(crate) spread: Spread,
}

/// The accepting thread; dropping it closes all portals.
#[derive(Debug)]
pub(crate) struct Acceptor {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    orders: Mutex<Vec<Order>>,
    wake: Wake,
}

#[derive(Debug)]
enum Order {
    Open { socket: OwnedFd, address: SocketAddr, done: mpsc::Sender<io::Result<()>> },
    Close { address: SocketAddr, done: mpsc::Sender<bool> },
    End,
}

impl Acceptor {
    /// Starts the thread; it listens nowhere yet.
    pub(crate) fn start<P: Protocol>(crew: Crew<P>, limits: &Limits) -> io::Result<Self> {
        let shared = Arc::new(Shared { orders: Mutex::default(), wake: Wake::new()? });
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(
            &epoll,
            &shared.wake,
            epoll::EventData::new_u64(WAKE),
            epoll::EventFlags::IN | epoll::EventFlags::ET,
        )?;
        let accepting = Accepting {
            crew,
            shared: Arc::clone(&shared),
            epoll,
            portals: Vec::new(),
            max_connections: limits.max_connections,
            serial: 0,
            next_key: 0,
            paused_until: None,
            back_off: BACK_OFF,
            full: Flood::new(3, Duration::from_secs(10)),
            failed: Flood::new(3, Duration::from_secs(10)),
        };
        let thread =
            thread::Builder::new().name("lunette-accept".into()).stack_size(256 << 10).spawn(|| accepting.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Opens a portal and tells its address. Connections come in from now on.
    pub(crate) fn open(&self, portal: SocketAddr) -> Result<SocketAddr, ListenError> {
        let (socket, address) = listen(portal)?;
        self.watch(socket, address).map_err(|source| ListenError { portal, source })
    }

    /// Takes over a socket that listens already, and tells its address.
    pub(crate) fn adopt(&self, socket: OwnedFd) -> io::Result<SocketAddr> {
        rustix::io::ioctl_fionbio(&socket, true)?;
        let address = rustix::net::getsockname(&socket)?;
        let address = address.try_into().map_err(|_| io::Error::other("not a socket of the Internet"))?;
        self.watch(socket, address)
    }

    fn watch(&self, socket: OwnedFd, address: SocketAddr) -> io::Result<SocketAddr> {
        let (done, answer) = mpsc::channel();
        self.order(Order::Open { socket, address, done });
        let ended = || Err(io::Error::other("the accepting thread has ended"));
        answer.recv().unwrap_or_else(|_| ended()).map(|()| address)
    }

    /// Closes a portal, by the address that opening it told; its connections live on. `false` if there is none.
    pub(crate) fn close(&self, address: SocketAddr) -> bool {
        let (done, answer) = mpsc::channel();
        self.order(Order::Close { address, done });
        answer.recv().unwrap_or(false)
    }

    fn order(&self, order: Order) {
        self.shared.lock().push(order);
        self.shared.wake.wake();
    }
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        self.order(Order::End);
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Vec<Order>> {
        self.orders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Portal {
    socket: OwnedFd,
    address: SocketAddr,
    key: u64,
}

struct Accepting<P: Protocol> {
    crew: Crew<P>,
    shared: Arc<Shared>,
    epoll: OwnedFd,
    portals: Vec<Portal>,
    max_connections: usize,
    serial: u64,
    next_key: u64,
    /// While set, no portal is watched.
    paused_until: Option<Instant>,
    /// How long the next pause is.
    back_off: Duration,
    full: Flood,
    failed: Flood,
}

impl<P: Protocol> Accepting<P> {
    fn run(mut self) {
        let mut events = Vec::with_capacity(64);
        loop {
            if self.shared.wake.take() && !self.follow_orders() {
                return;
            }
            if self.paused_until.is_some_and(|until| Instant::now() >= until) {
                self.paused_until = None;
                self.watch_portals();
            }
            events.clear();
            let timeout = if self.shared.wake.may_sleep() {
                self.paused_until.map(|until| until.saturating_duration_since(Instant::now()))
            } else {
                Some(Duration::ZERO)
            };
            let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot wait for connections; none are accepted any more");
                    return;
                }
            }
            for event in &events {
                let key = event.data.u64();
                if key != WAKE && self.paused_until.is_none() {
                    self.accept_of(key);
                }
            }
        }
    }

    /// `false` ends the thread.
    fn follow_orders(&mut self) -> bool {
        let orders = std::mem::take(&mut *self.shared.lock());
        for order in orders {
            match order {
                Order::Open { socket, address, done } => {
                    let key = self.next_key;
                    self.next_key += 1;
                    let data = epoll::EventData::new_u64(key);
                    let watched = epoll::add(&self.epoll, &socket, data, self.interest());
                    if watched.is_ok() {
                        self.portals.push(Portal { socket, address, key });
                    }
                    // Nobody waits any more: then nobody needs to know.
                    let _ = done.send(watched.map_err(io::Error::from));
                }
                Order::Close { address, done } => {
                    let before = self.portals.len();
                    // Closing the descriptor ends its watch.
                    self.portals.retain(|portal| portal.address != address);
                    let _ = done.send(self.portals.len() < before);
                }
                Order::End => return false,
            }
        }
        true
    }

    fn accept_of(&mut self, key: u64) {
        let Some(index) = self.portals.iter().position(|portal| portal.key == key) else { return };
        for _ in 0..ACCEPTS_PER_TURN {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            match rustix::net::acceptfrom_with(&self.portals[index].socket, flags) {
                Ok((socket, peer)) => {
                    self.back_off = BACK_OFF;
                    if let Some(peer) = peer.and_then(|peer| SocketAddr::try_from(peer).ok()) {
                        self.welcome(socket, peer, self.portals[index].address);
                    }
                }
                Err(Errno::AGAIN) => return,
                // The peer gave up while it waited; or one of the network errors that accept(2) says to try again.
                Err(
                    Errno::CONNABORTED
                    | Errno::INTR
                    | Errno::PROTO
                    | Errno::NETDOWN
                    | Errno::NETUNREACH
                    | Errno::HOSTUNREACH
                    | Errno::PERM,
                ) => {}
                Err(error) => {
                    // No descriptors, no memory: the connection stays in the backlog. Asking again at once would only
                    // burn the processor.
                    let now = Instant::now();
                    if let Some(suppressed) = self.failed.pass(now) {
                        let portal = self.portals[index].address;
                        tracing::error!(%portal, %error, suppressed, "cannot accept a connection; trying again soon");
                    }
                    self.paused_until = Some(now + self.back_off);
                    self.back_off = (self.back_off * 2).min(MAX_BACK_OFF);
                    self.watch_portals();
                    return;
                }
            }
        }
    }

    /// What portals are watched for now.
    fn interest(&self) -> epoll::EventFlags {
        if self.paused_until.is_some() { epoll::EventFlags::empty() } else { epoll::EventFlags::IN }
    }

    fn watch_portals(&self) {
        for portal in &self.portals {
            let data = epoll::EventData::new_u64(portal.key);
            // Fails only for a descriptor that is not registered.
            let _ = epoll::modify(&self.epoll, &portal.socket, data, self.interest());
        }
    }

    fn welcome(&mut self, socket: OwnedFd, peer: SocketAddr, portal: SocketAddr) {
        let loads = &self.crew.loads;
        let total: usize = loads.iter().map(|load| load.load(Ordering::Relaxed)).sum();
        if total >= self.max_connections {
            if let Some(suppressed) = self.full.pass(Instant::now()) {
                let max = self.max_connections;
                tracing::warn!(%peer, %portal, max, suppressed, "turned a connection away: the limit is reached");
            }
            return;
        }
        // Without it a small answer waits for the peer's acknowledgement of the last one.
        let _ = sockopt::set_tcp_nodelay(&socket, true);
        // A peer that vanished shows even when nobody speaks.
        let _ = sockopt::set_socket_keepalive(&socket, true);
        let local = rustix::net::getsockname(&socket).ok().and_then(|name| name.try_into().ok()).unwrap_or(portal);
        let connections = loads.iter().map(|load| load.load(Ordering::Relaxed));
        let Some(thread) = self.crew.spread.choose(Instant::now(), connections) else { return };
        let load = &loads[thread];
        self.serial += 1;
        let serial = self.serial;
        load.fetch_add(1, Ordering::Relaxed);
        let victim = self.crew.half_open.begin(peer.ip(), serial, thread);
        let newcomer = Newcomer { socket, arrival: Arrival { peer, local }, serial };
        if self.crew.inboxes[thread].put(Message::Accept(newcomer)).is_err() {
            load.fetch_sub(1, Ordering::Relaxed);
            self.crew.half_open.end(peer.ip(), serial);
        }
        if let Some((serial, thread)) = victim {
            // A thread that has ended has no connection to close.
            let _ = self.crew.inboxes[thread].put(Message::Evict(serial));
        }
    }
}

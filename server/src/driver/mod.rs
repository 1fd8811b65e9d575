//! The data path: one thread per core, each with its sockets and its protocol; a thread that accepts; threads for store
//! operations that may wait.
//!
//! ```text
//!   accept ----> inbox of the least loaded thread
//!                  |
//!   thread: wait -> mail, ready sockets -> receive -> Protocol -> store jobs -- cannot wait --> outcome at once
//!             ^                                          |                  -- may wait -> pool -> inbox
//!             +------ one sendmsg per connection <-------+-- actions: transmit, close, hand over
//! ```
//!
//! The only code with system calls on the way of a command. What is above [`net`] does not know which system interface
//! runs.

mod acceptor;
mod batch;
mod blocking;
mod chunks;
mod counters;
mod event_loop;
#[cfg(test)]
mod fairness;
mod flood;
mod half_open;
mod inbox;
mod inherited;
mod limits;
mod listener;
mod net;
#[cfg(feature = "fcoe")]
mod packet;
mod protocol;
mod slab;
mod spin;
mod spread;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tx_queue;
mod wake;

pub use counters::ThreadStatistics;
pub(crate) use flood::Flood;
pub(crate) use inherited::take as take_inherited;
pub use limits::Limits;
pub use listener::ListenError;
#[cfg(feature = "fcoe")]
pub(crate) use packet::{PacketLink, interface_address};
pub(crate) use protocol::{Action, Arrival, Protocol, StoreJob};
pub(crate) use wake::Wake;

use acceptor::{Acceptor, Crew, Loads};
pub(crate) use blocking::{Blocking, BlockingJob, BlockingPool};
use counters::Counters;
use event_loop::{EventLoop, Parts};
use half_open::HalfOpen;
use inbox::{Inbox, Message};
use net::{Epoll, Net, Uring};
use spread::Spread;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Which system interface the data path uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Interface {
    /// epoll, which works everywhere and costs less with small commands (docs/design/data-path.md).
    #[default]
    Epoll,
    /// io_uring where it is there, which is probed at the start: it needs Linux 6.1, and containers often forbid it. Else
    /// epoll.
    IoUring,
}

/// A name that no [`Interface`] has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no interface '{name}', only epoll and io_uring")]
pub struct UnknownInterface {
    /// The name.
    pub name: String,
}

impl FromStr for Interface {
    type Err = UnknownInterface;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "epoll" => Ok(Self::Epoll),
            "io_uring" => Ok(Self::IoUring),
            _ => Err(UnknownInterface { name: name.to_owned() }),
        }
    }
}

impl Interface {
    /// What it comes to on this system.
    fn choose(self) -> Self {
        match self {
            Self::IoUring => match Uring::probe() {
                Ok(()) => Self::IoUring,
                Err(error) => {
                    tracing::warn!(%error, "io_uring is not available here; the data path uses epoll");
                    Self::Epoll
                }
            },
            Self::Epoll => Self::Epoll,
        }
    }
}

/// The running data path. Dropping it breaks all connections off; [`shut_down`](Self::shut_down) is the polite way.
pub(crate) struct Driver<P: Protocol> {
    inboxes: Arc<[Arc<Inbox<P>>]>,
    counters: Vec<Arc<Counters>>,
    half_open: Arc<HalfOpen>,
    acceptor: Mutex<Option<Acceptor>>,
    threads: Mutex<Vec<JoinHandle<Option<P>>>>,
    failed: Arc<AtomicBool>,
    interface: &'static str,
}

impl<P: Protocol> Driver<P> {
    /// Starts `threads` threads, each with the protocol that `make` gives for its number and its wake-up. It listens
    /// nowhere yet. Store operations that may wait go to `pool`. `on_failure` is called by a thread that ends unasked.
    ///
    /// # Errors
    /// The system refuses threads or descriptors.
    pub(crate) fn start(
        threads: usize,
        interface: Interface,
        limits: &Limits,
        pool: &Blocking,
        make: impl FnMut(usize, Arc<Wake>) -> P,
        on_failure: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let threads = threads.max(1);
        match interface.choose() {
            Interface::IoUring => Self::start_with::<Uring>(threads, limits, pool, make, on_failure),
            Interface::Epoll => Self::start_with::<Epoll>(threads, limits, pool, make, on_failure),
        }
    }

    fn start_with<N: Net>(
        threads: usize,
        limits: &Limits,
        pool: &Blocking,
        mut make: impl FnMut(usize, Arc<Wake>) -> P,
        on_failure: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let wakes = (0..threads).map(|_| Wake::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let inboxes: Arc<[_]> = wakes.iter().map(|wake| Inbox::<P>::new(Arc::clone(wake))).collect();
        let loads: Loads = wakes.iter().map(|_| AtomicUsize::new(0)).collect();
        let half_open = Arc::new(HalfOpen::new(limits.max_half_open_per_address, limits.max_half_open));
        let counters: Vec<Arc<Counters>> = wakes.iter().map(|_| Arc::default()).collect();
        let crew = Crew {
            inboxes: Arc::clone(&inboxes),
            loads: Arc::clone(&loads),
            half_open: Arc::clone(&half_open),
            spread: Spread::new(counters.iter().map(Arc::clone), Instant::now()),
        };
        // Made first: should a thread fail to start, dropping it ends those that did.
        let driver = Self {
            inboxes,
            counters,
            half_open,
            acceptor: Mutex::new(Some(Acceptor::start(crew, limits)?)),
            threads: Mutex::default(),
            failed: Arc::default(),
            interface: N::NAME,
        };
        for (index, wake) in wakes.into_iter().enumerate() {
            let parts = Parts {
                index,
                protocol: make(index, Arc::clone(&wake)),
                wake: Arc::clone(&wake),
                inboxes: Arc::clone(&driver.inboxes),
                loads: Arc::clone(&loads),
                pool: pool.clone(),
                half_open: Arc::clone(&driver.half_open),
                counters: Arc::clone(&driver.counters[index]),
                limits: limits.clone(),
            };
            let (failed, on_failure) = (Arc::clone(&driver.failed), on_failure.clone());
            let (started, starts) = mpsc::sync_channel(1);
            let thread = thread::Builder::new().name(format!("lunette-{index}")).spawn(move || {
                let net = match N::new(wake, parts.limits.cached_receive_bytes) {
                    Ok(net) => net,
                    Err(error) => {
                        // The starter waits.
                        let _ = started.send(Err(error));
                        return None;
                    }
                };
                let _ = started.send(Ok(()));
                let ended = run(EventLoop::new(parts, net));
                if ended.is_none() {
                    failed.store(true, Ordering::Release);
                    on_failure();
                }
                ended
            })?;
            lock(&driver.threads).push(thread);
            starts.recv().unwrap_or_else(|_| Err(io::Error::other("a thread ended at its start")))?;
        }
        Ok(driver)
    }

    /// The system interface in use.
    pub(crate) fn interface(&self) -> &'static str {
        self.interface
    }

    /// Opens a portal and tells its address; port 0 takes a free one.
    pub(crate) fn listen(&self, portal: SocketAddr) -> Result<SocketAddr, ListenError> {
        match &*lock(&self.acceptor) {
            Some(acceptor) => acceptor.open(portal),
            None => Err(ListenError { portal, source: io::Error::other("the server is shutting down") }),
        }
    }

    /// Takes over a listening socket and tells its address.
    pub(crate) fn adopt(&self, socket: OwnedFd) -> io::Result<SocketAddr> {
        match &*lock(&self.acceptor) {
            Some(acceptor) => acceptor.adopt(socket),
            None => Err(io::Error::other("the server is shutting down")),
        }
    }

    /// Closes a portal by the address it told; connections live on. `false` if there is none.
    pub(crate) fn unlisten(&self, address: SocketAddr) -> bool {
        lock(&self.acceptor).as_ref().is_some_and(|acceptor| acceptor.close(address))
    }

    /// Threads of the data path.
    pub(crate) fn threads(&self) -> usize {
        self.inboxes.len()
    }

    /// Runs `call` on a thread with its protocol and waits for its answer. `None`: the thread has ended, or did not
    /// answer in five seconds.
    pub(crate) fn call<T: Send + 'static>(
        &self,
        thread: usize,
        call: impl FnOnce(&mut P, Instant) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = mpsc::sync_channel(1);
        let call = Box::new(move |protocol: &mut P, now: Instant| {
            // The caller may have given up.
            let _ = sender.send(call(protocol, now));
        });
        self.inboxes.get(thread)?.put(Message::Call(call)).ok()?;
        answer.recv_timeout(Duration::from_secs(5)).ok()
    }

    /// The counters of each thread.
    pub(crate) fn statistics(&self) -> Vec<ThreadStatistics> {
        self.counters.iter().map(|counters| counters.snapshot()).collect()
    }

    /// Connections that have not logged in.
    pub(crate) fn half_open(&self) -> usize {
        self.half_open.len()
    }

    /// Whether a thread ended unasked.
    pub(crate) fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Closes all portals, asks every peer to leave, breaks off those that have not after `grace` and ends all threads.
    /// Gives the protocols back. Store operations under way are the pool's to finish.
    pub(crate) fn shut_down(&self, grace: Duration) -> Vec<P> {
        drop(lock(&self.acceptor).take());
        for inbox in self.inboxes.iter() {
            // A thread that has ended needs no telling.
            let _ = inbox.put(Message::ShutDown { grace });
        }
        let threads = std::mem::take(&mut *lock(&self.threads));
        threads.into_iter().filter_map(|thread| thread.join().ok().flatten()).collect()
    }
}

impl<P: Protocol> Drop for Driver<P> {
    fn drop(&mut self) {
        self.shut_down(Duration::ZERO);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a thread; `None` if it did not end as told.
fn run<P: Protocol, N: Net>(event_loop: EventLoop<P, N>) -> Option<P> {
    // A bug ends one thread with a message and lets the host decide; it must not leave a process that looks alive.
    match catch_unwind(AssertUnwindSafe(|| event_loop.run())) {
        Ok(Ok(protocol)) => Some(protocol),
        Ok(Err(error)) => {
            tracing::error!(%error, "a thread of the data path cannot go on");
            None
        }
        Err(_) => {
            tracing::error!("a thread of the data path panicked");
            None
        }
    }
}

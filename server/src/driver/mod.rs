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
mod blocking;
mod chunks;
mod counters;
mod event_loop;
mod flood;
mod half_open;
mod inbox;
mod limits;
mod listener;
mod net;
mod protocol;
mod slab;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod tx_queue;
mod wake;

pub use counters::ThreadStatistics;
pub use limits::Limits;
pub use listener::ListenError;
pub(crate) use protocol::{Action, Arrival, Protocol, StoreJob};
pub(crate) use wake::Wake;

use acceptor::{Acceptor, Crew, Loads};
use blocking::BlockingPool;
use counters::Counters;
use event_loop::{EventLoop, Parts};
use half_open::HalfOpen;
use inbox::{Inbox, Message};
use net::{Epoll, Net};
use std::io;
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The running data path. Dropping it breaks all connections off; [`shut_down`](Self::shut_down) is the polite way.
pub(crate) struct Driver<P: Protocol> {
    inboxes: Arc<[Arc<Inbox<P>>]>,
    counters: Vec<Arc<Counters>>,
    half_open: Arc<HalfOpen>,
    acceptor: Option<Acceptor>,
    threads: Vec<JoinHandle<Option<P>>>,
    pool: Option<Arc<BlockingPool>>,
    failed: Arc<AtomicBool>,
}

impl<P: Protocol> Driver<P> {
    /// Starts `threads` threads, each with the protocol that `make` gives for its number and its wake-up. It listens
    /// nowhere yet. `on_failure` is called by a thread that ends unasked.
    ///
    /// # Errors
    /// The system refuses threads or descriptors.
    pub(crate) fn start(
        threads: usize,
        limits: &Limits,
        mut make: impl FnMut(usize, Arc<Wake>) -> P,
        on_failure: impl Fn() + Clone + Send + 'static,
    ) -> io::Result<Self> {
        let threads = threads.max(1);
        let wakes = (0..threads).map(|_| Wake::new().map(Arc::new)).collect::<io::Result<Vec<_>>>()?;
        let inboxes: Arc<[_]> = wakes.iter().map(|wake| Inbox::<P>::new(Arc::clone(wake))).collect();
        let loads: Loads = wakes.iter().map(|_| AtomicUsize::new(0)).collect();
        let half_open = Arc::new(HalfOpen::new(limits.max_half_open_per_address, limits.max_half_open));
        let pool = Arc::new(BlockingPool::new(limits));
        let crew = Crew { inboxes: Arc::clone(&inboxes), loads: Arc::clone(&loads), half_open: Arc::clone(&half_open) };
        // Made first: should a thread fail to start, dropping it ends those that did.
        let mut driver = Self {
            inboxes,
            counters: Vec::new(),
            half_open,
            acceptor: Some(Acceptor::start(crew, limits)?),
            threads: Vec::new(),
            pool: Some(pool),
            failed: Arc::default(),
        };
        for (index, wake) in wakes.into_iter().enumerate() {
            let counters = Arc::new(Counters::default());
            driver.counters.push(Arc::clone(&counters));
            let Some(pool) = driver.pool.clone() else { break };
            let event_loop = EventLoop::new(Parts {
                index,
                protocol: make(index, Arc::clone(&wake)),
                net: Epoll::new(Arc::clone(&wake))?,
                wake,
                inboxes: Arc::clone(&driver.inboxes),
                loads: Arc::clone(&loads),
                pool,
                half_open: Arc::clone(&driver.half_open),
                counters,
                limits: limits.clone(),
            });
            let (failed, on_failure) = (Arc::clone(&driver.failed), on_failure.clone());
            driver.threads.push(thread::Builder::new().name(format!("lunette-{index}")).spawn(move || {
                let ended = run(event_loop);
                if ended.is_none() {
                    failed.store(true, Ordering::Release);
                    on_failure();
                }
                ended
            })?);
        }
        Ok(driver)
    }

    /// The system interface in use.
    pub(crate) fn name(&self) -> &'static str {
        Epoll::NAME
    }

    /// Opens a portal and tells its address; port 0 takes a free one.
    pub(crate) fn listen(&self, portal: SocketAddr) -> Result<SocketAddr, ListenError> {
        match &self.acceptor {
            Some(acceptor) => acceptor.open(portal),
            None => Err(ListenError { portal, source: io::Error::other("the server is shutting down") }),
        }
    }

    /// Closes a portal by the address it told; connections live on. `false` if there is none.
    pub(crate) fn unlisten(&self, address: SocketAddr) -> bool {
        self.acceptor.as_ref().is_some_and(|acceptor| acceptor.close(address))
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

    /// Closes all portals, asks every peer to leave, breaks off those that have not after `grace`, finishes every store
    /// operation and ends all threads. Gives the protocols back.
    pub(crate) fn shut_down(&mut self, grace: Duration) -> Vec<P> {
        self.acceptor = None;
        for inbox in self.inboxes.iter() {
            // A thread that has ended needs no telling.
            let _ = inbox.put(Message::ShutDown { grace });
        }
        let protocols = self.threads.drain(..).filter_map(|thread| thread.join().ok().flatten()).collect();
        // The last reference: waits for what is queued.
        self.pool = None;
        protocols
    }
}

impl<P: Protocol> Drop for Driver<P> {
    fn drop(&mut self) {
        self.shut_down(Duration::ZERO);
    }
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

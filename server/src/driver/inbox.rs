//! Where other threads leave things for a thread of the data path.

use super::half_open::Serial;
use super::protocol::{Arrival, Protocol};
use super::tx_queue::TxQueue;
use super::wake::Wake;
use std::mem;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stmf::provider::{StoreDone, StoreSink};

/// Something to run on a thread with its protocol.
pub(crate) type Call<P> = Box<dyn FnOnce(&mut P, Instant) + Send>;

/// A socket with what the driver knows of it.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) socket: OwnedFd,
    pub(crate) arrival: Arrival,
    pub(crate) serial: Serial,
}

/// A letter to a thread.
pub(crate) enum Message<P: Protocol> {
    /// A connection was accepted for it.
    Accept(Newcomer),
    /// A connection that another thread began.
    Adopt { newcomer: Newcomer, tx: TxQueue, half_open: bool, parcel: P::Parcel },
    /// A store operation that it gave away ended.
    Stored { ticket: P::Ticket, done: StoreDone },
    /// Too many half-open connections: this one goes.
    Evict(Serial),
    /// Run this.
    Call(Call<P>),
    /// Ask peers to leave, end when they have left or the time is over.
    ShutDown { grace: Duration },
}

/// The letters to one thread. What lies here is bounded by the connections accepted, the store operations in flight
/// ([`Limits::max_store_operations`](super::Limits)) and the management calls under way.
pub(crate) struct Inbox<P: Protocol> {
    inner: Mutex<Inner<P>>,
    wake: Arc<Wake>,
}

struct Inner<P: Protocol> {
    messages: Vec<Message<P>>,
    closed: bool,
}

impl<P: Protocol> Inbox<P> {
    /// An empty inbox of the thread that `wake` wakes.
    pub(crate) fn new(wake: Arc<Wake>) -> Arc<Self> {
        Arc::new(Self { inner: Mutex::new(Inner { messages: Vec::new(), closed: false }), wake })
    }

    /// Leaves a message. A thread that has ended takes none: it comes back.
    pub(crate) fn put(&self, message: Message<P>) -> Result<(), Message<P>> {
        {
            let mut inner = self.lock();
            if inner.closed {
                return Err(message);
            }
            inner.messages.push(message);
        }
        self.wake.wake();
        Ok(())
    }

    /// Takes all messages in their order; `into` must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Message<P>>) {
        mem::swap(&mut self.lock().messages, into);
    }

    /// Takes no messages any more and returns those left.
    pub(crate) fn close(&self) -> Vec<Message<P>> {
        let mut inner = self.lock();
        inner.closed = true;
        mem::take(&mut inner.messages)
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P>> {
        // Pushing and swapping leave the vector consistent wherever they could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Brings the outcome of a store operation to the thread that gave it away.
pub(crate) struct StoreReturn<P: Protocol> {
    pub(crate) ticket: P::Ticket,
    pub(crate) inbox: Arc<Inbox<P>>,
}

impl<P: Protocol> StoreSink for StoreReturn<P> {
    fn done(&self, done: StoreDone) {
        let message = Message::Stored { ticket: self.ticket.clone(), done };
        if let Err(Message::Stored { ticket, done }) = self.inbox.put(message) {
            // The thread and its sessions are gone. The unit still has to know; what it wants done beyond that is for
            // nexuses that no longer exist.
            P::unit(&ticket).store_done(done, &mut Vec::new());
        }
    }
}

//! Where other threads leave things for a worker.

use std::fmt;
use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use stmf::Stmf;
use stmf::provider::{Effect, LogicalUnit, Mailbox, StoreDone, StoreSink};

use crate::worker::{ConnectionId, SessionKey, StoreTicket};

/// Wakes the thread that drives a worker: after it, [`Worker::handle_mail`](crate::Worker::handle_mail) is due.
pub trait Waker: Send + Sync {
    /// Called from any thread, never blocks.
    fn wake(&self);
}

impl<F: Fn() + Send + Sync> Waker for F {
    fn wake(&self) {
        self();
    }
}

/// A letter to a worker.
pub(crate) enum Letter {
    /// An effect of a task or request of one of its sessions.
    Effect { session: SessionKey, lu: Arc<dyn LogicalUnit>, effect: Effect },
    /// Look at the session: it may have to end.
    Look { session: SessionKey },
    /// The outcome of an asynchronous store operation.
    Stored { ticket: StoreTicket, done: StoreDone },
    /// Somebody outside has judged the proof of a login.
    Judged { connection: ConnectionId, verdict: Result<(), String> },
}

/// The queue of letters to one worker.
///
/// It is not bounded by a number of its own: what can be in it is bounded by the tasks in flight, of which each puts
/// at most a few letters here, by the sessions, of which each has at most one [`Letter::Look`] waiting, and by the logins,
/// of which each asks once.
pub(crate) struct Inbox {
    letters: Mutex<Vec<Letter>>,
    /// Set while a wake-up is on its way, so that a burst of letters costs one.
    woken: AtomicBool,
    closed: AtomicBool,
    waker: Arc<dyn Waker>,
    stmf: Arc<Stmf>,
}

impl Inbox {
    pub(crate) fn new(waker: Arc<dyn Waker>, stmf: Arc<Stmf>) -> Arc<Self> {
        Arc::new(Self {
            letters: Mutex::default(),
            woken: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            waker,
            stmf,
        })
    }

    /// Puts a letter in; gives it back if the worker is gone.
    pub(crate) fn put(&self, letter: Letter) -> Result<(), Letter> {
        {
            let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
            if self.closed.load(Ordering::Relaxed) {
                return Err(letter);
            }
            letters.push(letter);
        }
        if !self.woken.swap(true, Ordering::AcqRel) {
            self.waker.wake();
        }
        Ok(())
    }

    /// Takes all letters, in the order in which they came, into `into`, which must be empty.
    pub(crate) fn take(&self, into: &mut Vec<Letter>) {
        // Cleared first: a letter put in after the swap below wakes anew.
        self.woken.store(false, Ordering::Release);
        let mut letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        mem::swap(&mut *letters, into);
    }

    /// Takes no letters any more.
    pub(crate) fn close(&self) {
        let _letters = self.letters.lock().unwrap_or_else(PoisonError::into_inner);
        self.closed.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// The mailbox of one session: its worker's inbox and its key there.
pub(crate) struct SessionMailbox {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) session: SessionKey,
}

impl Mailbox for SessionMailbox {
    fn deliver(&self, lu: &Arc<dyn LogicalUnit>, effect: Effect) -> Result<(), Effect> {
        match self.inbox.put(Letter::Effect { session: self.session, lu: Arc::clone(lu), effect }) {
            Err(Letter::Effect { effect, .. }) => Err(effect),
            _ => Ok(()),
        }
    }

    fn wake(&self) {
        // A worker that is gone has no session left to look at.
        let _ = self.inbox.put(Letter::Look { session: self.session });
    }
}

/// The right to say whether the proof of a login is right, once and from any thread. Dropped without a word it says no:
/// no login waits for ever.
#[derive(Debug)]
pub struct ProofAnswer {
    inbox: Arc<Inbox>,
    connection: ConnectionId,
    given: bool,
}

impl ProofAnswer {
    pub(crate) fn new(inbox: Arc<Inbox>, connection: ConnectionId) -> Self {
        Self { inbox, connection, given: false }
    }

    /// Says that the proof is right, or why not, for the log.
    pub fn give(mut self, verdict: Result<(), String>) {
        self.put(verdict);
    }

    fn put(&mut self, verdict: Result<(), String>) {
        if !mem::replace(&mut self.given, true) {
            // A worker that is gone has no login left.
            let _ = self.inbox.put(Letter::Judged { connection: self.connection, verdict });
        }
    }
}

impl Drop for ProofAnswer {
    fn drop(&mut self) {
        self.put(Err("nobody could check its proof".into()));
    }
}

/// Brings outcomes of store operations home that were carried out elsewhere.
pub(crate) struct InboxSink {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) ticket: StoreTicket,
}

impl InboxSink {
    pub(crate) fn put(&self, done: StoreDone) {
        if let Err(Letter::Stored { ticket, done }) =
            self.inbox.put(Letter::Stored { ticket: self.ticket.clone(), done })
        {
            // The worker and all its sessions are gone. The unit still has to know, and what it wants done in turn may
            // be for nexuses that live elsewhere.
            let mut effects = Vec::new();
            ticket.lu().store_done(done, &mut effects);
            self.inbox.stmf.dispatch(ticket.lu(), &mut effects, |_| false);
        }
    }
}

impl StoreSink for InboxSink {
    fn done(&self, done: StoreDone) {
        self.put(done);
    }
}

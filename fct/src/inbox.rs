//! What other threads have for the sessions of a port.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::provider::{Effect, LogicalUnit, Mailbox, StoreDone, StoreSink};

/// Wakes whoever drives a port: called from any thread, must not wait.
pub type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Debug)]
pub(crate) enum Letter {
    /// An effect that another thread's call produced.
    Effect(Arc<dyn LogicalUnit>, Effect),
    /// The outcome of an asynchronous store operation.
    Stored(Arc<dyn LogicalUnit>, StoreDone),
}

/// The mailbox of all sessions of a port.
pub(crate) struct Inbox {
    letters: Mutex<Option<Vec<Letter>>>,
    wake: Wake,
}

impl Inbox {
    /// An empty one.
    pub(crate) fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { letters: Mutex::new(Some(Vec::new())), wake })
    }

    pub(crate) fn take(&self) -> Vec<Letter> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Takes no more letters; gives those there are.
    pub(crate) fn close(&self) -> Vec<Letter> {
        self.lock().take().unwrap_or_default()
    }

    fn put(&self, letter: Letter) -> Result<(), Letter> {
        match &mut *self.lock() {
            Some(letters) => letters.push(letter),
            None => return Err(letter),
        }
        (self.wake)();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Option<Vec<Letter>>> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Mailbox for Inbox {
    fn deliver(&self, lu: &Arc<dyn LogicalUnit>, effect: Effect) -> Result<(), Effect> {
        match self.put(Letter::Effect(Arc::clone(lu), effect)) {
            Err(Letter::Effect(_, effect)) => Err(effect),
            _ => Ok(()),
        }
    }

    fn wake(&self) {
        (self.wake)();
    }
}

/// Where an asynchronous store reports to.
pub(crate) struct Sink {
    pub(crate) inbox: Arc<Inbox>,
    pub(crate) lu: Arc<dyn LogicalUnit>,
    pub(crate) stmf: Arc<stmf::Stmf>,
}

impl StoreSink for Sink {
    fn done(&self, done: StoreDone) {
        // The session may be gone; the unit has to hear of it all the same.
        if let Err(Letter::Stored(lu, done)) = self.inbox.put(Letter::Stored(Arc::clone(&self.lu), done)) {
            let mut effects = Vec::new();
            lu.store_done(done, &mut effects);
            self.stmf.dispatch(&lu, &mut effects, |_| false);
        }
    }
}

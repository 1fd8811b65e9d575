//! What other threads have for a session.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::provider::{Effect, LogicalUnit, Mailbox, StoreDone, StoreSink};

/// Wakes whoever drives a session: called from any thread, must not wait.
pub type Wake = Box<dyn Fn() + Send + Sync>;

#[derive(Debug)]
pub(crate) enum Letter {
    /// An effect that another thread's call produced.
    Effect(Arc<dyn LogicalUnit>, Effect),
    /// The outcome of an asynchronous store operation.
    Stored(Arc<dyn LogicalUnit>, StoreDone),
}

/// A session's mailbox.
pub(crate) struct Inbox {
    letters: Mutex<Option<Vec<Letter>>>,
    /// The framework asked that the session be looked at.
    look: AtomicBool,
    wake: Wake,
}

impl Inbox {
    pub(crate) fn new(wake: Wake) -> Arc<Self> {
        Arc::new(Self { letters: Mutex::new(Some(Vec::new())), look: AtomicBool::new(false), wake })
    }

    pub(crate) fn take(&self) -> Vec<Letter> {
        self.lock().as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// Whether the framework asked for a look since this was last asked.
    pub(crate) fn take_look(&self) -> bool {
        self.look.swap(false, Ordering::AcqRel)
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
        self.look.store(true, Ordering::Release);
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

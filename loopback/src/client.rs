//! The blocking client.

use crate::port::{OpenError, Port};
use crate::session::{Command, Event, Outcome, Session};
use scsi_core::{Lun, TaskManagementFunction, TaskManagementResponse};
use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use stmf::{LunMap, TaskTag, Termination};

/// Why a command has no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// It was aborted, and the mode pages say that nobody is told.
    #[error("the command was aborted")]
    Aborted,
    /// The framework ended the session.
    #[error("the session was ended")]
    Ended,
}

/// A session that several threads may use; store operations run in the threads that wait.
#[derive(Debug)]
pub struct Client {
    inner: Mutex<Inner>,
    signal: Arc<Signal>,
    /// Of a lone unit.
    port: Option<Port>,
}

#[derive(Debug)]
struct Inner {
    session: Session,
    done: HashMap<TaskTag, Option<Outcome>>,
    managed: HashMap<TaskTag, TaskManagementResponse>,
    ended: Option<Termination>,
}

/// Counts what happened, so that a wait that begins after it does not miss it.
#[derive(Debug, Default)]
struct Signal {
    count: Mutex<u64>,
    changed: Condvar,
}

impl Signal {
    fn raise(&self) {
        *self.lock() += 1;
        self.changed.notify_all();
    }

    fn seen(&self) -> u64 {
        *self.lock()
    }

    fn wait_after(&self, seen: u64) {
        let mut count = self.lock();
        while *count == seen {
            count = self.changed.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, u64> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Client {
    pub(crate) fn open(port: &Port, initiator: &str) -> Result<Self, OpenError> {
        let signal = Arc::new(Signal::default());
        let raised = Arc::clone(&signal);
        let session = port.open(initiator, Box::new(move || raised.raise()))?;
        let inner = Inner { session, done: HashMap::new(), managed: HashMap::new(), ended: None };
        Ok(Self { inner: Mutex::new(inner), signal, port: None })
    }

    pub(crate) fn keep(&mut self, port: Port) {
        self.port = Some(port);
    }

    /// Sends a command and waits for its end.
    ///
    /// # Errors
    /// [`ClientError`]. A CHECK CONDITION is an outcome.
    pub fn execute(&self, command: Command) -> Result<Outcome, ClientError> {
        let tag = self.submit(command);
        self.wait(tag)
    }

    /// Sends a command; [`wait`](Self::wait) for it, or the outcome is kept for ever.
    pub fn submit(&self, command: Command) -> TaskTag {
        let tag = self.lock().session.submit(Command { pieces: false, ..command });
        self.signal.raise();
        tag
    }

    /// Waits for the end of a command that was submitted here, and of which nobody else waits.
    ///
    /// # Errors
    /// As [`execute`](Self::execute).
    pub fn wait(&self, tag: TaskTag) -> Result<Outcome, ClientError> {
        self.drive(|inner| inner.done.remove(&tag))?.ok_or(ClientError::Aborted)
    }

    /// Sends a task management function and waits for its end.
    ///
    /// # Errors
    /// [`ClientError::Ended`].
    pub fn manage(
        &self,
        lun: Lun,
        function: TaskManagementFunction,
        referenced: Option<TaskTag>,
    ) -> Result<TaskManagementResponse, ClientError> {
        let tag = self.lock().session.manage(lun, function, referenced);
        self.signal.raise();
        self.drive(|inner| inner.managed.remove(&tag))
    }

    /// What the initiator sees now.
    pub fn lun_map(&self) -> Arc<LunMap> {
        self.lock().session.lun_map()
    }

    /// Carries out what there is to do until `look` finds what it looks for.
    fn drive<R>(&self, mut look: impl FnMut(&mut Inner) -> Option<R>) -> Result<R, ClientError> {
        loop {
            let seen = self.signal.seen();
            let mut inner = self.lock();
            inner.collect();
            // First: what is answered after the end was answered by nobody.
            if inner.ended.is_some() {
                return Err(ClientError::Ended);
            }
            if let Some(found) = look(&mut inner) {
                return Ok(found);
            }
            let Some(job) = inner.session.poll_store() else {
                drop(inner);
                self.signal.wait_after(seen);
                continue;
            };
            let completion = inner.session.completion(&job);
            drop(inner);
            // An asynchronous store answers by mail; any other is waited for here.
            let lu = Arc::clone(&job.lu);
            if let Err((request, completion)) = lu.start(job.request, completion) {
                completion.finish(lu.perform(request).outcome);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn collect(&mut self) {
        self.session.handle_mail();
        while let Some(event) = self.session.poll_event() {
            match event {
                Event::Done { tag, outcome } => drop(self.done.insert(tag, outcome)),
                Event::Managed { tag, response } => drop(self.managed.insert(tag, response)),
                Event::Terminated(how) => self.ended = Some(how),
                // Nothing that a client sends asks for pieces.
                Event::Data { .. } => {}
            }
        }
    }
}

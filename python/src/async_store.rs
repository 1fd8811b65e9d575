//! Stores whose methods are coroutine functions.

use lu_sbd::store::{AsyncStore, Capabilities, Operation, whole_blocks};
use pyo3::prelude::*;
use pyo3::types::PyList;
use std::fmt;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use stmf::provider::{Segments, StoreCompletion, StoreError, StoreErrorKind, StoreOp, StoreOutcome};

use crate::{buffer, errors, store};

/// The largest piece of a write of repeated blocks, in bytes.
const PIECE_BYTES: usize = 1 << 20;

type Job = (StoreOp, StoreCompletion);

/// A store whose operations are put on an event loop. The data path only hands them to a thread of the store's own, which
/// waits for the interpreter in its place.
pub(crate) struct PyAsyncStore {
    size: u64,
    capabilities: Capabilities,
    jobs: Mutex<Sender<Job>>,
}

impl PyAsyncStore {
    pub(crate) fn new(object: Py<PyAny>, start: Py<PyAny>, size: u64, capabilities: Capabilities) -> PyResult<Self> {
        let (jobs, waiting) = channel();
        // It ends with the sender; what it has not started then is dropped, which fails the operations.
        std::thread::Builder::new()
            .name("lunette-async".into())
            .spawn(move || {
                dispatch(&object, &start, &waiting);
                // Let go of here, or they would wait for the next call into this module.
                let _ = Python::try_attach(move |_| drop((object, start)));
            })
            .map_err(|error| errors::system(error.raw_os_error(), error))?;
        Ok(Self { size, capabilities, jobs: Mutex::new(jobs) })
    }
}

impl AsyncStore for PyAsyncStore {
    fn capacity(&self) -> u64 {
        self.size
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn start(&self, op: StoreOp, completion: StoreCompletion) {
        if let StoreOp::Prefetch { .. } = op {
            completion.finish(StoreOutcome::Done);
            return;
        }
        // If the thread is gone the job comes back, and is dropped: that is its outcome.
        let _ = self.jobs.lock().unwrap_or_else(PoisonError::into_inner).send((op, completion));
    }
}

impl fmt::Debug for PyAsyncStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PyAsyncStore")
    }
}

fn dispatch(object: &Py<PyAny>, start: &Py<PyAny>, waiting: &Receiver<Job>) {
    while let Ok(job) = waiting.recv() {
        let attached = Python::try_attach(|py| {
            for (op, completion) in std::iter::once(job).chain(waiting.try_iter()) {
                put_on_loop(py, object, start, op, completion);
            }
        });
        if attached.is_none() {
            return;
        }
    }
}

fn put_on_loop(py: Python<'_>, object: &Py<PyAny>, start: &Py<PyAny>, op: StoreOp, completion: StoreCompletion) {
    // Without an object for the completion it is dropped: a CHECK CONDITION.
    let Ok(done) = Bound::new(py, Completion::new(&op, completion)) else { return };
    let started = steps(py, op).and_then(|(name, steps)| start.call1(py, (object, name, steps, &done)));
    if let Err(error) = started {
        done.get().fail(py, error.value(py));
    }
}

/// The name of the method, and the arguments of each call of it.
fn steps(py: Python<'_>, op: StoreOp) -> PyResult<(&'static str, Bound<'_, PyList>)> {
    let steps = PyList::empty(py);
    let name = match op {
        StoreOp::Read { offset, length, .. } => {
            steps.append((length, offset))?;
            "pread"
        }
        StoreOp::Write { offset, data, durable } => {
            let mut at = offset;
            for bytes in whole_blocks(&data) {
                let length = bytes.len() as u64;
                steps.append((buffer::lend(py, bytes)?, at))?;
                at += length;
            }
            if durable { "pwrite+flush" } else { "pwrite" }
        }
        StoreOp::WriteSame { offset, length, pattern, durable } => {
            let pattern = if pattern.is_empty() { vec![0; 512] } else { pattern.to_vec() };
            let piece = bytes::Bytes::from(pattern.repeat((PIECE_BYTES / pattern.len()).max(1)));
            let mut done = 0;
            while done < length {
                let part = (length - done).min(piece.len() as u64);
                steps.append((buffer::lend(py, piece.slice(..part as usize))?, offset + done))?;
                done += part;
            }
            if durable { "pwrite+flush" } else { "pwrite" }
        }
        StoreOp::Deallocate { ranges } => {
            for range in ranges {
                steps.append(range)?;
            }
            "unmap"
        }
        StoreOp::Flush => "flush",
        _ => "unsupported",
    };
    Ok((name, steps))
}

/// The outcome of an operation, to be told once. Letting go of it untold fails the operation.
#[pyclass(frozen, name = "_Completion", module = "lunette._native")]
pub(crate) struct Completion {
    operation: Operation,
    /// Bytes that a read has to give.
    length: Option<usize>,
    completion: Mutex<Option<StoreCompletion>>,
}

impl Completion {
    fn new(op: &StoreOp, completion: StoreCompletion) -> Self {
        let (operation, length) = match op {
            StoreOp::Read { length, .. } => (Operation::Read, Some(*length as usize)),
            StoreOp::Write { .. } | StoreOp::WriteSame { .. } => (Operation::Write, None),
            StoreOp::Deallocate { .. } => (Operation::Deallocate, None),
            StoreOp::Flush => (Operation::Flush, None),
            _ => (Operation::Access, None),
        };
        Self { operation, length, completion: Mutex::new(Some(completion)) }
    }

    fn tell(&self, outcome: StoreOutcome) {
        let completion = self.completion.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(completion) = completion {
            completion.finish(outcome);
        }
    }
}

#[pymethods]
impl Completion {
    /// It is done; a read gives its data.
    fn finish(&self, py: Python<'_>, data: &Bound<'_, PyAny>) {
        let Some(length) = self.length else {
            self.tell(StoreOutcome::Done);
            return;
        };
        match buffer::bytes_of(data) {
            Ok(bytes) if bytes.len() == length => {
                self.tell(StoreOutcome::Data(Segments::from_iter([bytes])));
            }
            Ok(bytes) => {
                let text = format!("pread gave {} bytes, {length} were asked for", bytes.len());
                self.fail(py, pyo3::exceptions::PyValueError::new_err(text).value(py).as_any());
            }
            Err(error) => self.fail(py, error.value(py).as_any()),
        }
    }

    /// It failed.
    fn fail(&self, py: Python<'_>, error: &Bound<'_, PyAny>) {
        let name = "asynchronous store";
        let failed = store::failure(py, PyErr::from_value(error.clone()), self.operation, name);
        let failed = failed.into_store_error(|| name.into(), self.operation, None);
        let kind = match (self.operation, failed.kind) {
            (Operation::Flush, _) => StoreErrorKind::Poisoned,
            (_, kind) => kind,
        };
        self.tell(StoreOutcome::Failed(StoreError { kind, context: failed.context }));
    }
}

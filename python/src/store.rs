//! What a disk's data are kept in: memory, a file, or a Python object.

use bytes::Bytes;
use lu_sbd::store::{
    AsyncStore, BackingStore, BlockDeviceOptions, Capabilities, Error, FileOptions, MemoryStore, Operation, Rotation,
    Unmap, whole_blocks,
};
use pyo3::exceptions::{PyNotImplementedError, PyOSError, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use std::cell::Cell;
use std::fmt;
use std::io::IoSlice;
use std::path::PathBuf;
use std::sync::Arc;
use stmf::provider::{Segments, StoreErrorKind};

use crate::async_store::PyAsyncStore;
use crate::buffer::{self, Filling};
use crate::errors;

/// A store, to be given to a unit.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Store {
    pub(crate) kind: Kind,
}

#[derive(Clone)]
pub(crate) enum Kind {
    Blocking(Arc<dyn BackingStore>),
    Asynchronous(Arc<dyn AsyncStore>),
}

#[pymethods]
impl Store {
    /// Memory, zeros at first, or as `content` says.
    #[staticmethod]
    #[pyo3(signature = (size, content=None))]
    fn memory(py: Python<'_>, size: u64, content: Option<&Bound<'_, PyAny>>) -> PyResult<Self> {
        let store = MemoryStore::new(size);
        if let Some(content) = content {
            let content = buffer::bytes_of(content)?;
            let written = py.detach(|| store.write_at(0, &[IoSlice::new(&content)]));
            written.map_err(|error| errors::store(&error))?;
        }
        Ok(Self { kind: Kind::Blocking(Arc::new(store)) })
    }

    /// A file or block device.
    #[staticmethod]
    #[pyo3(signature = (path, *, size=None, create=false, read_only=false))]
    fn file(py: Python<'_>, path: PathBuf, size: Option<u64>, create: bool, read_only: bool) -> PyResult<Self> {
        use std::os::unix::fs::FileTypeExt;
        let is_device = std::fs::metadata(&path).is_ok_and(|data| data.file_type().is_block_device());
        let opened: Result<Arc<dyn BackingStore>, Error> = py.detach(|| {
            if is_device {
                let mut options = BlockDeviceOptions::new().read_only(read_only);
                options.size = size;
                return options.open(&path).map(|store| Arc::new(store) as _);
            }
            let mut options = FileOptions::new().read_only(read_only).create(create);
            options.size = size;
            options.open(&path).map(|store| Arc::new(store) as _)
        });
        Ok(Self { kind: Kind::Blocking(opened.map_err(|error| errors::store(&error))?) })
    }

    /// A Python object with `pread` (or `preadinto`) and `pwrite` (or `pwritev`), perhaps `flush` and `unmap`.
    #[staticmethod]
    fn python(object: &Bound<'_, PyAny>, size: u64, read_only: bool) -> PyResult<Self> {
        Ok(Self { kind: Kind::Blocking(Arc::new(PyStore::new(object, size, read_only)?)) })
    }

    /// The same whose methods are coroutine functions; `start` puts an operation on its event loop.
    #[staticmethod]
    fn asynchronous(object: &Bound<'_, PyAny>, start: Py<PyAny>, size: u64, read_only: bool) -> PyResult<Self> {
        let capabilities = capabilities(object, read_only)?;
        let store = PyAsyncStore::new(object.clone().unbind(), start, size, capabilities)?;
        Ok(Self { kind: Kind::Asynchronous(Arc::new(store)) })
    }

    /// Size in bytes.
    #[getter]
    fn size(&self) -> u64 {
        match &self.kind {
            Kind::Blocking(store) => store.capacity(),
            Kind::Asynchronous(store) => store.capacity(),
        }
    }

    /// What is kept, past every initiator: `length` bytes from `offset` on.
    fn pread<'py>(&self, py: Python<'py>, length: usize, offset: u64) -> PyResult<Bound<'py, PyBytes>> {
        let store = self.checked(length as u64, offset)?;
        let data = py.detach(|| store.read_bytes(offset, length)).map_err(|error| errors::store(&error))?;
        PyBytes::new_with(py, length, |into| {
            let mut at = 0;
            for segment in &data {
                into[at..at + segment.len()].copy_from_slice(segment);
                at += segment.len();
            }
            Ok(())
        })
    }

    /// Changes what is kept, past every initiator.
    fn pwrite(&self, py: Python<'_>, data: &Bound<'_, PyAny>, offset: u64) -> PyResult<usize> {
        let data = buffer::bytes_of(data)?;
        let store = self.checked(data.len() as u64, offset)?;
        let written = py.detach(|| store.write_at(offset, &[IoSlice::new(&data)]));
        written.map(|()| data.len()).map_err(|error| errors::store(&error))
    }
}

impl Store {
    fn checked(&self, length: u64, offset: u64) -> PyResult<Arc<dyn BackingStore>> {
        let Kind::Blocking(store) = &self.kind else {
            return Err(PyValueError::new_err("an asynchronous store is read and written by its own methods"));
        };
        let size = store.capacity();
        if offset.checked_add(length).is_none_or(|end| end > size) {
            return Err(errors::config(format!("{length} bytes at {offset} go past the end, {size} bytes"), None));
        }
        Ok(Arc::clone(store))
    }
}

/// What an object's methods make its store able to do.
fn capabilities(object: &Bound<'_, PyAny>, read_only: bool) -> PyResult<Capabilities> {
    let has_writer = object.hasattr("pwrite")? || object.hasattr("pwritev")?;
    let mut capabilities = Capabilities::default();
    capabilities.read_only = read_only || !has_writer;
    capabilities.unmap = object.hasattr("unmap")?.then_some(Unmap { granularity_bytes: 4096, reads_zero: false });
    capabilities.volatile_cache = object.hasattr("flush")?;
    capabilities.rotation = Rotation::NonRotating;
    Ok(capabilities)
}

/// A store whose operations are methods of a Python object.
///
/// Each call attaches to the interpreter for as long as the method takes. What a method raises fails the operation, and
/// the initiator gets a CHECK CONDITION; the exception goes to the log `lunette.store`.
struct PyStore {
    name: String,
    size: u64,
    capabilities: Capabilities,
    read: Reader,
    write: Option<Writer>,
    flush: Option<Py<PyAny>>,
    unmap: Option<Py<PyAny>>,
}

enum Reader {
    /// `pread(length, offset) -> buffer`
    Returns(Py<PyAny>),
    /// `preadinto(memoryview, offset)`
    Fills(Py<PyAny>),
}

enum Writer {
    /// `pwrite(memoryview, offset)`, once for each piece of whole blocks.
    Piece(Py<PyAny>),
    /// `pwritev([memoryview, ...], offset)`
    Vectored(Py<PyAny>),
}

impl PyStore {
    fn new(object: &Bound<'_, PyAny>, size: u64, read_only: bool) -> PyResult<Self> {
        let method = |name: &str| -> PyResult<Option<Py<PyAny>>> { Ok(object.getattr_opt(name)?.map(Bound::unbind)) };
        let read = match (method("preadinto")?, method("pread")?) {
            (Some(fills), _) => Reader::Fills(fills),
            (None, Some(returns)) => Reader::Returns(returns),
            (None, None) => {
                let text = format!("{} has no method pread(length, offset)", object.get_type().name()?);
                return Err(errors::config(text, Some("a disk needs pread and pwrite, as in the os module".into())));
            }
        };
        let write = match (method("pwritev")?, method("pwrite")?) {
            (Some(vectored), _) => Some(Writer::Vectored(vectored)),
            (None, piece) => piece.map(Writer::Piece),
        };
        Ok(Self {
            name: object.get_type().name()?.to_string(),
            size,
            capabilities: capabilities(object, read_only)?,
            read,
            write,
            flush: method("flush")?,
            unmap: method("unmap")?,
        })
    }

    /// Runs `work` attached to the interpreter.
    fn call<R>(&self, operation: Operation, work: impl FnOnce(Python<'_>) -> PyResult<R>) -> Result<R, Error> {
        let _inside = Inside::enter();
        let done = Python::try_attach(|py| work(py).map_err(|error| failure(py, error, operation, &self.name)));
        done.unwrap_or_else(|| Err(Error::new(StoreErrorKind::Gone, operation).of(&self.name)))
    }
}

thread_local! {
    /// Methods of stores that this thread is in.
    static DEPTH: Cell<u32> = const { Cell::new(0) };
}

/// Held while a method of a store runs.
struct Inside;

impl Inside {
    fn enter() -> Self {
        DEPTH.set(DEPTH.get() + 1);
        Self
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        DEPTH.set(DEPTH.get() - 1);
    }
}

/// Whether this thread is in a method of a store: it must not wait for such methods to end.
pub(crate) fn is_inside_a_method() -> bool {
    DEPTH.get() > 0
}

/// What a Python exception means for the operation; the exception itself is logged.
pub(crate) fn failure(py: Python<'_>, error: PyErr, operation: Operation, store: &str) -> Error {
    let errno = error
        .is_instance_of::<PyOSError>(py)
        .then(|| error.value(py).getattr("errno").ok()?.extract::<i32>().ok())
        .flatten();
    let failure = match errno {
        Some(errno) => Error::io(operation, std::io::Error::from_raw_os_error(errno)),
        None if error.is_instance_of::<PyNotImplementedError>(py) => Error::new(StoreErrorKind::Unsupported, operation),
        None => Error::io(operation, std::io::Error::other(error.to_string())),
    };
    // The log is the only place to tell: nobody of Python's waits for this.
    let logged = py
        .import("lunette._stores")
        .and_then(|module| module.call_method1("log_failure", (store, operation.to_string(), error.value(py))));
    drop(logged);
    failure.of(store)
}

impl BackingStore for PyStore {
    fn capacity(&self) -> u64 {
        self.size
    }

    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn name(&self) -> String {
        self.name.clone()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut at = 0;
        for segment in self.read_bytes(offset, into.len())? {
            into[at..at + segment.len()].copy_from_slice(&segment);
            at += segment.len();
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        let copies = data.iter().map(|slice| Bytes::copy_from_slice(slice)).collect();
        self.write_bytes(offset, &copies, false)
    }

    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        let bytes = self.call(Operation::Read, |py| match &self.read {
            Reader::Fills(method) => {
                let filling = Bound::new(py, Filling::new(length))?;
                let view = buffer::view(&filling)?;
                method.call1(py, (&view, offset))?;
                view.call_method0("release")?;
                Ok(filling.get().take())
            }
            Reader::Returns(method) => {
                let result = method.bind(py).call1((length, offset))?;
                let bytes = buffer::bytes_returned(result)?;
                if bytes.len() != length {
                    let text = format!("pread gave {} bytes at {offset}, {length} were asked for", bytes.len());
                    return Err(PyValueError::new_err(text));
                }
                Ok(bytes)
            }
        })?;
        Ok(Segments::from_iter([bytes]))
    }

    fn write_bytes(&self, offset: u64, data: &Segments, durable: bool) -> Result<(), Error> {
        self.call(Operation::Write, |py| match &self.write {
            None => Err(PyOSError::new_err((30, "the store takes no writes"))),
            Some(Writer::Vectored(method)) => {
                let views: Vec<_> =
                    data.iter().map(|bytes| buffer::lend(py, bytes.clone())).collect::<PyResult<_>>()?;
                method.bind(py).call1((PyList::new(py, views)?, offset)).map(drop)
            }
            Some(Writer::Piece(method)) => {
                let mut at = offset;
                for bytes in whole_blocks(data) {
                    let length = bytes.len() as u64;
                    method.bind(py).call1((buffer::lend(py, bytes)?, at))?;
                    at += length;
                }
                Ok(())
            }
        })?;
        if durable { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Error> {
        match &self.flush {
            Some(method) => self.call(Operation::Flush, |py| method.call0(py).map(drop)),
            None => Ok(()),
        }
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        match &self.unmap {
            Some(method) => self.call(Operation::Deallocate, |py| method.call1(py, (offset, length)).map(drop)),
            None => Err(Error::new(StoreErrorKind::Unsupported, Operation::Deallocate).at(offset, length)),
        }
    }
}

impl fmt::Debug for PyStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

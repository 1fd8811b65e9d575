//! The initiator: a disk over the network. The client waits without the interpreter.

use bytes::Bytes;
use iscsi_proto::auth::chap::{Credentials, Secret};
use lunette_client as iscsi;
use lunette_client::{DigestPreference, Operation, Options};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};
use scsi_core::{TaskAttribute, TaskManagementFunction};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError, RwLock};
use std::task::{Context, Poll, Wake};
use std::time::Duration;

use crate::scsi::Sense;
use crate::{buffer, errors};

/// A disk over the network.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Disk {
    disk: RwLock<Option<Arc<iscsi::Disk>>>,
    /// The process that connected: a fork of it has the object, but not the threads behind it.
    process: u32,
}

/// What a disk told about itself.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Geometry {
    geometry: Arc<iscsi::Geometry>,
}

/// The answer to a command, whatever its status.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Reply {
    #[pyo3(get)]
    status: u8,
    #[pyo3(get)]
    sense: Option<Sense>,
    data: Bytes,
    /// Bytes less (negative) or more than there was room for.
    #[pyo3(get)]
    residual: i64,
}

/// An operation that is under way.
#[pyclass(frozen, module = "lunette._native")]
pub(crate) struct Pending {
    state: Mutex<State>,
}

enum State {
    UnderWay(iscsi::Pending),
    Done(Result<iscsi::Data, iscsi::Error>),
    Told,
}

/// How long a wait goes on before signals to the interpreter are looked at.
const SIGNAL_INTERVAL: Duration = Duration::from_millis(100);

/// Wakes a thread that waits for an operation.
#[derive(Default)]
struct Bell {
    rung: Mutex<bool>,
    changed: Condvar,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        *self.rung.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }
}

impl Bell {
    /// Waits until it rings, at most [`SIGNAL_INTERVAL`].
    fn wait(&self) {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(rung, SIGNAL_INTERVAL, |rung| !*rung);
        *waited.unwrap_or_else(PoisonError::into_inner).0 = false;
    }
}

/// Waits without the interpreter, and hears Ctrl-C: the operation is given up then.
fn wait(py: Python<'_>, mut pending: iscsi::Pending) -> PyResult<iscsi::Data> {
    let bell = Arc::new(Bell::default());
    let waker = Arc::clone(&bell).into();
    loop {
        match Pin::new(&mut pending).poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(result) => return result.map_err(errors::client),
            Poll::Pending => py.detach(|| bell.wait()),
        }
        py.check_signals()?;
    }
}

/// Calls a Python function when an operation is done.
struct Callback(Py<PyAny>);

impl Wake for Callback {
    fn wake(self: Arc<Self>) {
        let _ = Python::try_attach(|py| {
            if let Err(error) = self.0.call0(py) {
                error.write_unraisable(py, None);
            }
        });
    }
}

#[pymethods]
impl Geometry {
    #[getter]
    fn block_size(&self) -> u32 {
        self.geometry.block_size
    }

    #[getter]
    fn blocks(&self) -> u64 {
        self.geometry.blocks
    }

    #[getter]
    fn size(&self) -> u64 {
        self.geometry.capacity()
    }

    #[getter]
    fn can_unmap(&self) -> bool {
        self.geometry.can_unmap
    }

    #[getter]
    fn max_transfer_blocks(&self) -> u32 {
        self.geometry.max_transfer_blocks
    }

    #[getter]
    fn vendor(&self) -> &str {
        self.geometry.vendor.trim_end()
    }

    #[getter]
    fn product(&self) -> &str {
        self.geometry.product.trim_end()
    }

    #[getter]
    fn revision(&self) -> &str {
        self.geometry.revision.trim_end()
    }

    fn __repr__(&self) -> String {
        format!(
            "<Geometry {} {}: {} blocks of {} bytes>",
            self.vendor(),
            self.product(),
            self.blocks(),
            self.block_size()
        )
    }
}

#[pymethods]
impl Reply {
    #[getter]
    fn data<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.data)
    }

    #[getter]
    fn ok(&self) -> bool {
        self.status == 0
    }

    fn __repr__(&self) -> String {
        let status = scsi_core::Status(self.status);
        match &self.sense {
            Some(sense) => format!("<Reply {status}: {}>", sense.data()),
            None => format!("<Reply {status}, {} bytes>", self.data.len()),
        }
    }
}

impl Pending {
    fn new(pending: iscsi::Pending) -> Self {
        Self { state: Mutex::new(State::UnderWay(pending)) }
    }
}

#[pymethods]
impl Pending {
    /// Waits for the end; gives what was read. Once.
    fn wait<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let state = {
            let mut state = self.state.lock().map_err(|_| errors::poisoned())?;
            std::mem::replace(&mut *state, State::Told)
        };
        let data = match state {
            State::UnderWay(pending) => wait(py, pending)?,
            State::Done(result) => result.map_err(errors::client)?,
            State::Told => return Err(PyRuntimeError::new_err("it was waited for before")),
        };
        collect(py, &data)
    }

    /// Calls `callback()` when waiting would not wait any more: at once, or from a thread of the client.
    fn on_done(&self, py: Python<'_>, callback: Py<PyAny>) -> PyResult<()> {
        let waker = Arc::new(Callback(callback.clone_ref(py))).into();
        let is_done = {
            let mut state = self.state.lock().map_err(|_| errors::poisoned())?;
            if let State::UnderWay(pending) = &mut *state
                && let Poll::Ready(result) = Pin::new(pending).poll(&mut Context::from_waker(&waker))
            {
                *state = State::Done(result);
            }
            !matches!(*state, State::UnderWay(_))
        };
        if is_done { callback.call0(py).map(drop) } else { Ok(()) }
    }
}

impl Disk {
    fn get(&self) -> PyResult<Arc<iscsi::Disk>> {
        if self.process != std::process::id() {
            return Err(errors::forked("disk"));
        }
        let disk = self.disk.read().map_err(|_| errors::poisoned())?;
        disk.clone().ok_or_else(|| errors::closed("disk"))
    }

    fn submit(&self, py: Python<'_>, operation: Operation) -> PyResult<iscsi::Data> {
        wait(py, self.get()?.submit(operation).map_err(errors::client)?)
    }
}

impl Drop for Disk {
    /// The logout waits: not for the interpreter.
    fn drop(&mut self) {
        let mut disk = self.disk.get_mut().ok().and_then(Option::take);
        if self.process != std::process::id() {
            std::mem::forget(disk);
        } else if disk.is_some() {
            let _ = Python::try_attach(|py| py.detach(|| drop(disk.take())));
        }
    }
}

#[pymethods]
impl Disk {
    #[new]
    #[pyo3(signature = (
        url, *, initiator=None, chap=None, target_chap=None, header_digest=None, data_digest=None,
        connect_timeout=None, login_timeout=None, timeout=None, reconnect_timeout=None
    ))]
    #[expect(clippy::too_many_arguments, reason = "each is a keyword of one Python call")]
    fn new(
        py: Python<'_>,
        url: &str,
        initiator: Option<String>,
        chap: Option<(String, String)>,
        target_chap: Option<(String, String)>,
        header_digest: Option<bool>,
        data_digest: Option<bool>,
        connect_timeout: Option<f64>,
        login_timeout: Option<f64>,
        timeout: Option<f64>,
        reconnect_timeout: Option<f64>,
    ) -> PyResult<Self> {
        let mut options: Options = url.parse().map_err(|error: iscsi::UrlError| errors::client(error.into()))?;
        set_common(&mut options, initiator, header_digest, data_digest);
        if let Some((name, secret)) = chap {
            options = options.with_credentials(name, secret);
        }
        if let Some((name, secret)) = target_chap {
            options.target_credentials = Some(Credentials { name, secret: Secret::new(secret) });
        }
        set_time(&mut options.connect_timeout, connect_timeout)?;
        set_time(&mut options.login_timeout, login_timeout)?;
        set_time(&mut options.command_timeout, timeout)?;
        set_time(&mut options.reconnect_timeout, reconnect_timeout)?;
        let disk = py.detach(|| iscsi::Disk::connect_with(options)).map_err(errors::client)?;
        Ok(Self { disk: RwLock::new(Some(Arc::new(disk))), process: std::process::id() })
    }

    #[getter]
    fn size(&self) -> PyResult<u64> {
        Ok(self.get()?.capacity())
    }

    #[getter]
    fn block_size(&self) -> PyResult<u32> {
        Ok(self.get()?.block_size())
    }

    #[getter]
    fn geometry(&self) -> PyResult<Geometry> {
        Ok(Geometry { geometry: self.get()?.geometry() })
    }

    /// Logins so far: 1, and one more for each lost connection.
    #[getter]
    fn logins(&self) -> PyResult<u64> {
        Ok(self.get()?.logins())
    }

    /// Asks for the size again.
    fn refresh(&self, py: Python<'_>) -> PyResult<Geometry> {
        let disk = self.get()?;
        let geometry = py.detach(|| disk.refresh()).map_err(errors::client)?;
        Ok(Geometry { geometry })
    }

    /// `length` bytes from `offset` on.
    fn read<'py>(&self, py: Python<'py>, offset: u64, length: usize) -> PyResult<Bound<'py, PyBytes>> {
        let data = self.submit(py, Operation::Read { offset, length })?;
        collect(py, &data)
    }

    /// Fills a writable buffer from `offset` on; gives its length.
    fn read_into(&self, py: Python<'_>, offset: u64, buffer: &Bound<'_, PyAny>) -> PyResult<usize> {
        let length = pyo3::buffer::PyBuffer::<u8>::get(buffer)?.len_bytes();
        let data = self.submit(py, Operation::Read { offset, length })?;
        buffer::copy_into(buffer, data.slices().map(|slice| &slice[..]), data.len())
    }

    /// Writes a buffer from `offset` on; `durable`: on stable storage before this returns.
    #[pyo3(signature = (offset, data, *, durable=false))]
    fn write(&self, py: Python<'_>, offset: u64, data: &Bound<'_, PyAny>, durable: bool) -> PyResult<()> {
        let data = buffer::bytes_of(data)?;
        self.submit(py, Operation::Write { offset, data: data.into(), durable }).map(drop)
    }

    /// Brings what was written to stable storage.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.submit(py, Operation::Flush).map(drop)
    }

    /// Gives a range back.
    fn unmap(&self, py: Python<'_>, offset: u64, length: u64) -> PyResult<()> {
        self.submit(py, Operation::Unmap { offset, length }).map(drop)
    }

    /// Writes one block over and over.
    fn write_same(&self, py: Python<'_>, offset: u64, length: u64, block: &Bound<'_, PyAny>) -> PyResult<()> {
        let block = buffer::bytes_of(block)?;
        self.submit(py, Operation::WriteSame { offset, length, block }).map(drop)
    }

    /// Begins a read; several may be under way at once.
    fn start_read(&self, offset: u64, length: usize) -> PyResult<Pending> {
        let pending = self.get()?.submit(Operation::Read { offset, length }).map_err(errors::client)?;
        Ok(Pending::new(pending))
    }

    /// Begins a write; several may be under way at once.
    #[pyo3(signature = (offset, data, *, durable=false))]
    fn start_write(&self, offset: u64, data: &Bound<'_, PyAny>, durable: bool) -> PyResult<Pending> {
        let data = buffer::bytes_of(data)?.into();
        let pending = self.get()?.submit(Operation::Write { offset, data, durable }).map_err(errors::client)?;
        Ok(Pending::new(pending))
    }

    /// Begins to write one block over and over.
    fn start_write_same(&self, offset: u64, length: u64, block: &Bound<'_, PyAny>) -> PyResult<Pending> {
        let operation = Operation::WriteSame { offset, length, block: buffer::bytes_of(block)? };
        Ok(Pending::new(self.get()?.submit(operation).map_err(errors::client)?))
    }

    /// Begins a flush.
    fn start_flush(&self) -> PyResult<Pending> {
        Ok(Pending::new(self.get()?.submit(Operation::Flush).map_err(errors::client)?))
    }

    /// Begins an unmap.
    fn start_unmap(&self, offset: u64, length: u64) -> PyResult<Pending> {
        Ok(Pending::new(self.get()?.submit(Operation::Unmap { offset, length }).map_err(errors::client)?))
    }

    /// Sends any CDB; gives the answer whatever its status.
    #[pyo3(signature = (cdb, *, data_out=None, data_in_length=0))]
    fn execute(
        &self,
        py: Python<'_>,
        cdb: &Bound<'_, PyAny>,
        data_out: Option<&Bound<'_, PyAny>>,
        data_in_length: u32,
    ) -> PyResult<Reply> {
        let disk = self.get()?;
        let command = iscsi::Command {
            cdb: buffer::bytes_of(cdb)?.to_vec(),
            attribute: TaskAttribute::Simple,
            data_out: data_out.map(buffer::bytes_of).transpose()?.unwrap_or_default().into(),
            data_in_length,
            ..iscsi::Command::default()
        };
        let reply = py.detach(|| disk.execute(command)).map_err(errors::client)?;
        let residual = match reply.residual {
            iscsi_proto::pdu::Residual::None => 0,
            iscsi_proto::pdu::Residual::Underflow(count) => -i64::from(count),
            iscsi_proto::pdu::Residual::Overflow(count) => i64::from(count),
        };
        Ok(Reply {
            status: reply.status.0,
            sense: reply.sense.map(Sense::from_data),
            data: reply
                .data
                .slices()
                .fold(Vec::new(), |mut all, slice| {
                    all.extend_from_slice(slice);
                    all
                })
                .into(),
            residual,
        })
    }

    /// Sends a task management function, by the standard's name.
    fn manage(&self, py: Python<'_>, function: &str) -> PyResult<String> {
        let wanted = function.replace('_', " ").to_uppercase();
        let known = TaskManagementFunction::ALL;
        let function = known.into_iter().find(|known| known.to_string().to_uppercase() == wanted).ok_or_else(|| {
            let names: Vec<_> = known.iter().map(ToString::to_string).collect();
            errors::config(format!("no task management function '{function}'"), Some(names.join(", ")))
        })?;
        let disk = self.get()?;
        let response = py.detach(|| disk.manage(function)).map_err(errors::client)?;
        Ok(response.to_string())
    }

    /// Breaks the connection off as if the network had.
    fn drop_connection(&self) -> PyResult<()> {
        self.get()?.drop_connection();
        Ok(())
    }

    /// Logs out.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        let disk = self.disk.write().map_err(|_| errors::poisoned())?.take();
        if self.process == std::process::id() {
            py.detach(|| drop(disk));
        } else {
            std::mem::forget(disk);
        }
        Ok(())
    }

    #[getter]
    fn closed(&self) -> PyResult<bool> {
        Ok(self.disk.read().map_err(|_| errors::poisoned())?.is_none())
    }
}

/// The targets at a portal: each with its name and addresses.
#[pyfunction]
#[pyo3(signature = (url, *, initiator=None))]
pub(crate) fn discover<'py>(py: Python<'py>, url: &str, initiator: Option<String>) -> PyResult<Bound<'py, PyList>> {
    let mut options = Options::discovery(url).map_err(|error| errors::client(error.into()))?;
    set_common(&mut options, initiator, None, None);
    let found = py.detach(|| iscsi::discover_with(options)).map_err(errors::client)?;
    PyList::new(py, found.into_iter().map(|target| (target.name, target.addresses)))
}

fn set_common(options: &mut Options, initiator: Option<String>, header: Option<bool>, data: Option<bool>) {
    if let Some(name) = initiator {
        options.initiator_name = name;
    }
    let preference = |wanted| if wanted { DigestPreference::Require } else { DigestPreference::Refuse };
    if let Some(wanted) = header {
        options.preferences.header_digest = preference(wanted);
    }
    if let Some(wanted) = data {
        options.preferences.data_digest = preference(wanted);
    }
}

fn set_time(slot: &mut Duration, seconds: Option<f64>) -> PyResult<()> {
    if let Some(seconds) = seconds {
        *slot = Duration::try_from_secs_f64(seconds).map_err(|error| errors::config(error, None))?;
    }
    Ok(())
}

fn collect<'py>(py: Python<'py>, data: &iscsi::Data) -> PyResult<Bound<'py, PyBytes>> {
    PyBytes::new_with(py, data.len(), |into| {
        data.copy_to(into);
        Ok(())
    })
}

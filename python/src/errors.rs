//! Errors of the crates as exceptions of `lunette._errors`.

use lunette_client::Error as ClientError;
use lunette_server::{DiskError, ListenError, StartError};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::fmt::Display;

/// The exception `class` of `lunette._errors`, made with `arguments`.
fn raise<'py>(py: Python<'py>, class: &str, arguments: impl pyo3::call::PyCallArgs<'py>) -> PyErr {
    let made = py.import("lunette._errors").and_then(|module| module.getattr(class)).and_then(|c| c.call1(arguments));
    match made {
        Ok(exception) => PyErr::from_value(exception),
        Err(error) => error,
    }
}

/// Something the caller gave is wrong.
pub(crate) fn config(error: impl Display, hint: Option<String>) -> PyErr {
    with_hint("ConfigError", error, hint)
}

/// Bytes that are no PDU, CDB, sense data or page.
pub(crate) fn decode(error: impl Display) -> PyErr {
    with_hint("DecodeError", error, None)
}

/// The object is closed.
pub(crate) fn closed(what: &str) -> PyErr {
    with_hint("ClosedError", format!("the {what} is closed"), None)
}

/// The object belongs to the process that this one was forked off.
pub(crate) fn forked(what: &str) -> PyErr {
    let hint = "make it in the process that uses it: threads do not survive a fork";
    with_hint("ClosedError", format!("the {what} belongs to another process"), Some(hint.into()))
}

/// The call would wait for the very call it is made from.
pub(crate) fn deadlock(what: &str) -> PyErr {
    let hint = "call it from another thread, or when the method of the store has returned";
    with_hint("DeadlockError", format!("{what} from inside a method of a store"), Some(hint.into()))
}

fn with_hint(class: &'static str, error: impl Display, hint: Option<String>) -> PyErr {
    Python::attach(|py| {
        let exception = raise(py, class, (error.to_string(),));
        if let Some(hint) = hint.filter(|hint| !hint.is_empty()) {
            // A note is the standard place for advice; it shows below the traceback.
            let _ = exception.value(py).call_method1("add_note", (format!("hint: {hint}"),));
        }
        exception
    })
}

/// An operation of the system that failed, with its number if there is one.
pub(crate) fn system(errno: Option<i32>, error: impl Display) -> PyErr {
    Python::attach(|py| match errno {
        Some(errno) => raise(py, "SystemCallError", (errno, error.to_string())),
        None => raise(py, "SystemCallError", (error.to_string(),)),
    })
}

pub(crate) fn store(error: &lu_sbd::store::Error) -> PyErr {
    let errno = error.source.as_ref().and_then(std::io::Error::raw_os_error);
    match errno {
        // FileNotFoundError and the like are what Python's own open raises.
        Some(errno) => std::io::Error::from_raw_os_error(errno).kind_error(error),
        None => system(None, error),
    }
}

trait KindError {
    fn kind_error(self, error: &dyn Display) -> PyErr;
}

impl KindError for std::io::Error {
    fn kind_error(self, error: &dyn Display) -> PyErr {
        let class = match self.kind() {
            std::io::ErrorKind::NotFound => "FileMissingError",
            std::io::ErrorKind::PermissionDenied => "FilePermissionError",
            _ => "SystemCallError",
        };
        let errno = self.raw_os_error().unwrap_or(0);
        Python::attach(|py| raise(py, class, (errno, error.to_string())))
    }
}

pub(crate) fn start(error: StartError) -> PyErr {
    let hint = error.hint();
    match &error {
        StartError::Target(_) => config(&error, hint),
        StartError::Disk(disk) => config(disk, hint),
        _ => with_hint("SystemCallError", error, hint),
    }
}

pub(crate) fn disk(error: DiskError) -> PyErr {
    let hint = error.hint();
    config(error, hint)
}

pub(crate) fn listen(error: ListenError) -> PyErr {
    system(None, error)
}

/// An error of the client.
pub(crate) fn client(error: ClientError) -> PyErr {
    let text = error.to_string();
    Python::attach(|py| match &error {
        ClientError::Command { command, status, sense } => {
            let sense = sense.as_ref().map(|sense| crate::scsi::Sense::from_data(**sense));
            raise(py, "CommandError", (text, *command, status.0, sense))
        }
        ClientError::Url(_)
        | ClientError::Unaligned { .. }
        | ClientError::OutOfRange { .. }
        | ClientError::Length { .. }
        | ClientError::Submit(_) => raise(py, "ConfigError", (text,)),
        ClientError::Login { .. } => raise(py, "LoginError", (text,)),
        ClientError::Timeout { .. } => raise(py, "CommandTimeoutError", (text,)),
        ClientError::Unsupported { .. } => raise(py, "UnsupportedError", (text,)),
        ClientError::Closed => raise(py, "ClosedError", (text,)),
        ClientError::Resolve { .. }
        | ClientError::Connect { .. }
        | ClientError::Lost { .. }
        | ClientError::Outage { .. } => raise(py, "ConnectionLostError", (text,)),
        ClientError::System(source) => match source.raw_os_error() {
            Some(errno) => raise(py, "SystemCallError", (errno, text)),
            None => raise(py, "SystemCallError", (text,)),
        },
        _ => raise(py, "ProtocolError", (text,)),
    })
}

/// A lock that a panic left behind: what it guards is not to be trusted.
pub(crate) fn poisoned() -> PyErr {
    PyRuntimeError::new_err("a thread failed while it held this object")
}

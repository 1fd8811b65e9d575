//! Why a store operation failed.

use std::fmt;
use std::io;
use stmf::provider::{StoreError, StoreErrorKind};

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// Not said.
    Access,
    /// Opening.
    Open,
    /// Creating.
    Create,
    /// Taking the lock that keeps other servers out.
    Lock,
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Making durable.
    Flush,
    /// Giving back.
    Deallocate,
    /// Writing zeros.
    WriteZeroes,
    /// Asking what is mapped.
    Extents,
    /// Changing the capacity.
    Resize,
    /// Copying from another store.
    Copy,
    /// Keeping the record beside the data.
    Persist,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Access => "access",
            Self::Open => "open",
            Self::Create => "create",
            Self::Lock => "lock",
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Deallocate => "deallocate",
            Self::WriteZeroes => "zero",
            Self::Extents => "query extents of",
            Self::Resize => "resize",
            Self::Copy => "copy to",
            Self::Persist => "keep the record of",
        })
    }
}

/// A failed store operation: its kind, what was attempted where, on which store, and the system's reason.
///
/// An own store may return `io::Error` with `?`; operation and place are added by the logical unit.
#[derive(Debug)]
pub struct Error {
    /// What kind of failure; decides the sense data.
    pub kind: StoreErrorKind,
    /// What was attempted.
    pub operation: Operation,
    /// First byte and number of bytes, where that makes sense.
    pub range: Option<(u64, u64)>,
    /// Path or other name of the store; empty if not known here.
    pub store: String,
    /// What to do about it, if that is known.
    pub remedy: Option<&'static str>,
    /// The system's reason.
    pub source: Option<io::Error>,
}

impl Error {
    /// An error of `kind` in `operation`.
    pub fn new(kind: StoreErrorKind, operation: Operation) -> Self {
        Self { kind, operation, range: None, store: String::new(), remedy: None, source: None }
    }

    /// An error of the system's in `operation`; the kind follows from the error number.
    pub fn io(operation: Operation, source: impl Into<io::Error>) -> Self {
        let source = source.into();
        Self { source: Some(source), ..Self::new(StoreErrorKind::Io, operation) }.with_kind_of_source()
    }

    /// With the range it happened in.
    #[must_use]
    pub fn at(mut self, offset: u64, length: u64) -> Self {
        self.range = Some((offset, length));
        self
    }

    /// With the name of the store.
    #[must_use]
    pub fn of(mut self, store: impl fmt::Display) -> Self {
        self.store = store.to_string();
        self
    }

    /// With what to do about it.
    #[must_use]
    pub fn remedy(mut self, remedy: &'static str) -> Self {
        self.remedy = Some(remedy);
        self
    }

    /// The form in which it crosses to the logical unit; what the error does not know is filled in.
    pub fn into_store_error(
        mut self,
        store: impl FnOnce() -> String,
        operation: Operation,
        range: Option<(u64, u64)>,
    ) -> StoreError {
        if self.operation == Operation::Access {
            self.operation = operation;
        }
        self.range = self.range.or(range);
        if self.store.is_empty() {
            self.store = store();
        }
        let kind = self.kind;
        let mut context = self.to_string();
        if let Some(source) = &self.source {
            context = format!("{context}: {source}");
        }
        StoreError { kind, context }
    }

    fn with_kind_of_source(mut self) -> Self {
        let source = self.source.as_ref();
        self.kind = match source.map(io::Error::kind) {
            Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge) => {
                StoreErrorKind::NoSpace
            }
            Some(io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied) => StoreErrorKind::ReadOnly,
            Some(io::ErrorKind::Unsupported) => StoreErrorKind::Unsupported,
            Some(io::ErrorKind::NotFound | io::ErrorKind::StaleNetworkFileHandle) => StoreErrorKind::Gone,
            _ => match source.and_then(io::Error::raw_os_error) {
                Some(libc::ENXIO | libc::ENODEV | libc::ENOMEDIUM) => StoreErrorKind::Gone,
                Some(libc::EOPNOTSUPP) => StoreErrorKind::Unsupported,
                _ => StoreErrorKind::Io,
            },
        };
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {}", self.operation)?;
        if let Some((offset, length)) = self.range {
            write!(f, " {length} bytes at {offset} of")?;
        }
        match &self.store[..] {
            "" => f.write_str(" the store")?,
            store => write!(f, " {store}")?,
        }
        if self.source.is_none() {
            write!(f, ": {}", self.kind)?;
        }
        match self.remedy {
            Some(remedy) => write!(f, " ({remedy})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

impl From<io::Error> for Error {
    fn from(source: io::Error) -> Self {
        Self::io(Operation::Access, source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_io_error_of_an_own_store_gets_kind_operation_and_place() {
        let error = Error::from(io::Error::from_raw_os_error(libc::ENOSPC));
        let error = error.into_store_error(|| "vol1".into(), Operation::Write, Some((8192, 4096)));
        assert_eq!(error.kind, StoreErrorKind::NoSpace);
        assert!(error.context.starts_with("cannot write 4096 bytes at 8192 of vol1: No space left"), "{error}");
    }
}

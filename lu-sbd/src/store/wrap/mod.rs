//! Stores around a store: they stack, and each does one thing.
//!
//! | wrapper | what it does |
//! |---|---|
//! | [`Delayed`] | waits before operations |
//! | [`Failing`] | fails operations: the n-th, or some by chance; or gives wrong lengths of time until healed |
//! | [`ReadOnly`] | takes no writes |
//! | [`Overlay`] | keeps writes in memory (or another store) and leaves the store below as it is |
//! | [`RateLimited`] | so many bytes and operations a second |
//! | [`Counted`] | counts operations, bytes, time and errors |
//! | [`Logged`] | tells a function of every operation |
//!
//! All but [`Overlay`] are made of one thing, an [`Interceptor`], which an own wrapper may be made of too:
//!
//! ```
//! use lu_sbd::store::wrap::{Counted, Delayed, ReadOnly, Wrap};
//! use lu_sbd::store::{BackingStore, MemoryStore};
//! use std::time::Duration;
//!
//! let (store, counts) = Counted::new(MemoryStore::new(1 << 20));
//! let store = Delayed::new(store, Duration::from_micros(10));
//! let store = ReadOnly::new(store);
//! store.read_at(0, &mut [0; 512])?;
//! assert!(store.write_zeroes(0, 512).is_err());
//! assert_eq!(counts.values().reads, 1);
//! # Ok::<(), lu_sbd::store::Error>(())
//! ```

mod counted;
mod delayed;
mod failing;
mod limited;
mod logged;
mod overlay;
mod read_only;
#[cfg(test)]
mod tests;

pub use counted::{Counted, Counts, StoreCounts};
pub use delayed::Delayed;
pub use failing::{Failing, FaultPlan, Faults};
pub use limited::RateLimited;
pub use logged::{LogEntry, Logged};
pub use overlay::Overlay;
pub use read_only::ReadOnly;

use super::{BackingStore, Capabilities, Error};
use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use stmf::provider::{Segments, StoreExtent, StoreUsage};

/// An operation that is about to be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Access {
    /// What kind.
    pub kind: AccessKind,
    /// First byte; 0 for a flush.
    pub offset: u64,
    /// Bytes; 0 for a flush.
    pub length: u64,
}

/// Kinds of operations, as wrappers tell them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AccessKind {
    /// Reads.
    Read,
    /// Writes of data, durable ones and copies included.
    Write,
    /// Writes of zeros.
    WriteZeroes,
    /// Ranges given back.
    Deallocate,
    /// Flushes.
    Flush,
}

impl AccessKind {
    /// Whether the medium changes by it.
    pub const fn is_write(self) -> bool {
        matches!(self, Self::Write | Self::WriteZeroes | Self::Deallocate)
    }

    const fn operation(self) -> super::Operation {
        match self {
            Self::Read => super::Operation::Read,
            Self::Write => super::Operation::Write,
            Self::WriteZeroes => super::Operation::WriteZeroes,
            Self::Deallocate => super::Operation::Deallocate,
            Self::Flush => super::Operation::Flush,
        }
    }
}

impl fmt::Display for AccessKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteZeroes => "write zeroes",
            Self::Deallocate => "deallocate",
            Self::Flush => "flush",
        })
    }
}

/// What stands between a unit and a store. Called from any thread, several at a time; may wait.
pub trait Interceptor: Send + Sync + fmt::Debug {
    /// Carries out an access by calling `carry_out`, before, after or in place of which it does its own.
    ///
    /// # Errors
    /// Its own, or those of `carry_out`.
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error>;

    /// The capabilities, of those of the store below.
    fn capabilities(&self, below: Capabilities) -> Capabilities {
        below
    }
}

/// A store with an interceptor in front.
#[derive(Debug)]
pub struct Intercepted<S, I> {
    store: S,
    interceptor: I,
}

impl<S: BackingStore, I: Interceptor> Intercepted<S, I> {
    /// `interceptor` in front of `store`.
    pub fn with(store: S, interceptor: I) -> Self {
        Self { store, interceptor }
    }

    /// The store below.
    pub fn inner(&self) -> &S {
        &self.store
    }

    fn pass<R>(
        &self,
        kind: AccessKind,
        offset: u64,
        length: u64,
        mut work: impl FnMut(&S) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut result = None;
        let access = Access { kind, offset, length };
        self.interceptor.intercept(access, &mut || work(&self.store).map(|value| result = Some(value)))?;
        // An interceptor that says all is well without having carried it out has nothing to give.
        result.ok_or_else(|| Error::new(stmf::provider::StoreErrorKind::Dropped, kind.operation()).at(offset, length))
    }
}

/// Short for [`Intercepted::with`] in method position.
pub trait Wrap: BackingStore + Sized {
    /// This store with an interceptor in front.
    fn wrap<I: Interceptor>(self, interceptor: I) -> Intercepted<Self, I> {
        Intercepted::with(self, interceptor)
    }
}

impl<S: BackingStore> Wrap for S {}

fn bytes_of(data: &[IoSlice<'_>]) -> u64 {
    data.iter().map(|slice| slice.len() as u64).sum()
}

impl<S: BackingStore, I: Interceptor> BackingStore for Intercepted<S, I> {
    fn capacity(&self) -> u64 {
        self.store.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.pass(AccessKind::Read, offset, into.len() as u64, |store| store.read_at(offset, into))
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.pass(AccessKind::Write, offset, bytes_of(data), |store| store.write_at(offset, data))
    }

    fn flush(&self) -> Result<(), Error> {
        self.pass(AccessKind::Flush, 0, 0, S::flush)
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.pass(AccessKind::Deallocate, offset, length, |store| store.deallocate(offset, length))
    }

    fn capabilities(&self) -> Capabilities {
        self.interceptor.capabilities(self.store.capabilities())
    }

    fn name(&self) -> String {
        self.store.name()
    }

    fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.pass(AccessKind::Write, offset, bytes_of(data), |store| store.write_durable_at(offset, data))
    }

    fn write_atomic_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.pass(AccessKind::Write, offset, bytes_of(data), |store| store.write_atomic_at(offset, data))
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.pass(AccessKind::WriteZeroes, offset, length, |store| store.write_zeroes(offset, length))
    }

    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        self.pass(AccessKind::Read, offset, length as u64, |store| store.read_bytes(offset, length))
    }

    fn write_bytes(&self, offset: u64, data: &Segments, durable: bool) -> Result<(), Error> {
        let length = data.iter().map(|bytes| bytes.len() as u64).sum();
        self.pass(AccessKind::Write, offset, length, |store| store.write_bytes(offset, data, durable))
    }

    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
        self.store.extents(offset, length, limit)
    }

    fn usage(&self) -> Result<StoreUsage, Error> {
        self.store.usage()
    }

    fn prefetch(&self, offset: u64, length: u64) {
        self.store.prefetch(offset, length);
    }

    fn set_len(&self, capacity: u64) -> Result<(), Error> {
        self.store.set_len(capacity)
    }

    // Not offered: an interceptor may wait, so nothing is done inline, and a copy inside the system would go past it.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

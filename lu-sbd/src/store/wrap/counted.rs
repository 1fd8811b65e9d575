//! Counters.

use super::{Access, AccessKind, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Error};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// What went through a store so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StoreCounts {
    /// Reads.
    pub reads: u64,
    /// Writes of data.
    pub writes: u64,
    /// Writes of zeros.
    pub zero_writes: u64,
    /// Ranges given back.
    pub deallocations: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written, without zeros.
    pub written_bytes: u64,
    /// Operations that failed; they are counted above too.
    pub errors: u64,
    /// Time spent in the store, in nanoseconds, of all operations together.
    pub busy_ns: u64,
}

#[derive(Debug, Default)]
struct Values {
    /// By kind.
    operations: [AtomicU64; 5],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
    errors: AtomicU64,
    busy_ns: AtomicU64,
}

/// The counters of a [`Counted`] store, to be looked at while it is in use.
#[derive(Clone, Debug, Default)]
pub struct Counts(Arc<Values>);

impl Counts {
    /// The values now.
    pub fn values(&self) -> StoreCounts {
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        let [reads, writes, zero_writes, deallocations, flushes] = &self.0.operations;
        StoreCounts {
            reads: load(reads),
            writes: load(writes),
            zero_writes: load(zero_writes),
            deallocations: load(deallocations),
            flushes: load(flushes),
            read_bytes: load(&self.0.read_bytes),
            written_bytes: load(&self.0.written_bytes),
            errors: load(&self.0.errors),
            busy_ns: load(&self.0.busy_ns),
        }
    }
}

/// Counts what goes through. Made by [`Counted::new`].
#[derive(Clone, Debug)]
pub struct Counted(Counts);

impl Counted {
    /// `store`, and its counters.
    pub fn new<S: BackingStore>(store: S) -> (Intercepted<S, Self>, Counts) {
        let counts = Counts::default();
        (store.wrap(Self(counts.clone())), counts)
    }
}

impl Interceptor for Counted {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let began = Instant::now();
        let result = carry_out();
        let values = &*self.0.0;
        let add = |value: &AtomicU64, amount: u64| value.fetch_add(amount, Ordering::Relaxed);
        add(&values.busy_ns, u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX));
        add(&values.operations[access.kind as usize], 1);
        match (&result, access.kind) {
            (Err(_), _) => drop(add(&values.errors, 1)),
            (Ok(()), AccessKind::Read) => drop(add(&values.read_bytes, access.length)),
            (Ok(()), AccessKind::Write) => drop(add(&values.written_bytes, access.length)),
            _ => {}
        }
        result
    }
}

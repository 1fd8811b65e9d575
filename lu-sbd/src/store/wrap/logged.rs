//! A word about every operation.

use super::{Access, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Error};
use std::fmt;
use std::time::{Duration, Instant};

/// One operation that is over.
#[derive(Debug)]
#[non_exhaustive]
pub struct LogEntry<'a> {
    /// What it was.
    pub access: Access,
    /// How long it took.
    pub took: Duration,
    /// Why it failed, if it did.
    pub error: Option<&'a Error>,
}

impl fmt::Display for LogEntry<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Access { kind, offset, length } = self.access;
        write!(f, "{kind} {length} bytes at {offset} in {:?}", self.took)?;
        self.error.map_or(Ok(()), |error| write!(f, ": {error}"))
    }
}

/// Tells a function of every operation once it is over. Made by [`Logged::new`].
pub struct Logged<F>(F);

impl<F: Fn(&LogEntry<'_>) + Send + Sync> Logged<F> {
    /// `store`, whose operations are told to `log`, by the threads that carry them out.
    pub fn new<S: BackingStore>(store: S, log: F) -> Intercepted<S, Self> {
        store.wrap(Self(log))
    }
}

impl<F> fmt::Debug for Logged<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Logged")
    }
}

impl<F: Fn(&LogEntry<'_>) + Send + Sync> Interceptor for Logged<F> {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let began = Instant::now();
        let result = carry_out();
        (self.0)(&LogEntry { access, took: began.elapsed(), error: result.as_ref().err() });
        result
    }
}

//! Operations that take their time.

use super::{Access, AccessKind, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Error};
use std::time::Duration;

/// Waits before operations. Made by [`Delayed::new`] or, for some kinds only, [`Delayed::only`].
#[derive(Clone, Debug)]
pub struct Delayed {
    delay: Duration,
    kinds: Option<Vec<AccessKind>>,
}

impl Delayed {
    /// `store`, each of whose operations begins `delay` late.
    pub fn new<S: BackingStore>(store: S, delay: Duration) -> Intercepted<S, Self> {
        store.wrap(Self { delay, kinds: None })
    }

    /// The same for operations of these kinds only.
    pub fn only<S: BackingStore>(store: S, delay: Duration, kinds: &[AccessKind]) -> Intercepted<S, Self> {
        store.wrap(Self { delay, kinds: Some(kinds.to_vec()) })
    }
}

impl Interceptor for Delayed {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        if self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&access.kind)) {
            std::thread::sleep(self.delay);
        }
        carry_out()
    }
}

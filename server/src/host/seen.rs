//! Which initiators have logged in since the server started.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Names that are remembered; with more of them nobody is called a stranger any more.
const MAX_NAMES: usize = 65_536;

/// The names, folded.
#[derive(Debug, Default)]
pub(crate) struct Seen(Mutex<BTreeSet<Box<str>>>);

impl Seen {
    /// An initiator has logged in.
    pub(super) fn note(&self, initiator: &str) {
        let mut names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if names.len() < MAX_NAMES && !names.contains(initiator) {
            names.insert(initiator.into());
        }
    }

    /// Whether it has; `None` if too many have to remember each.
    pub(super) fn has(&self, initiator: &str) -> Option<bool> {
        let names = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = names.contains(initiator);
        (known || names.len() < MAX_NAMES).then_some(known)
    }
}

//! Which deliberate bug there is. A part of scsi-core, with its feature `mutations`, that stays out of its package.

use std::cell::Cell;

use super::Mutation;

thread_local! {
    static ACTIVE: Cell<Option<Mutation>> = const { Cell::new(None) };
}

/// Puts a bug into everything that runs on this thread, or takes it out.
pub fn activate(mutation: Option<Mutation>) {
    ACTIVE.set(mutation);
}

pub(super) fn active() -> Option<Mutation> {
    ACTIVE.get()
}

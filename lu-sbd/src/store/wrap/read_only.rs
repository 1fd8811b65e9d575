//! A store that takes no writes.

use super::{Access, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Capabilities, Error};
use stmf::provider::StoreErrorKind;

/// Refuses writes; the unit is write protected. Made by [`ReadOnly::new`].
#[derive(Clone, Copy, Debug)]
pub struct ReadOnly(());

impl ReadOnly {
    /// `store`, to be read only.
    pub fn new<S: BackingStore>(store: S) -> Intercepted<S, Self> {
        store.wrap(Self(()))
    }
}

impl Interceptor for ReadOnly {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        if access.kind.is_write() {
            let error = Error::new(StoreErrorKind::ReadOnly, access.kind.operation());
            return Err(error.at(access.offset, access.length));
        }
        carry_out()
    }

    fn capabilities(&self, below: Capabilities) -> Capabilities {
        Capabilities { read_only: true, unmap: None, resizable: false, ..below }
    }
}

//! Reading right into memory of others.

use super::Error;
use std::sync::atomic::AtomicU8;

/// A store that reads into memory which a transport lends: a guest's, an adapter's.
///
/// Others may look at that memory and change it meanwhile, whence the atomic bytes; what matters is what the store puts there.
/// Calls come from any thread, several at a time, as those of [`BackingStore`](super::BackingStore).
pub trait ReadInto: Send + Sync {
    /// Fills the pieces one after the other with the bytes from `offset` on. Parts never written read as zeros. May wait for
    /// a device.
    ///
    /// # Errors
    /// Any [`Error`]; the memory may then hold anything.
    fn read_into(&self, offset: u64, into: &[&[AtomicU8]]) -> Result<(), Error>;

    /// The same if that takes no waiting, else `None`: the memory may then hold anything, and the same read follows once
    /// more.
    fn try_read_into(&self, offset: u64, into: &[&[AtomicU8]]) -> Option<Result<(), Error>> {
        let _ = (offset, into);
        None
    }
}

//! Handles: names of objects that C holds.
//!
//! A handle looks like a pointer and is a number that is given once and never again. Whatever C does with it, freeing
//! it twice or from two threads, using it afterwards, giving a store for a server, is found out here and comes to no
//! harm. A lookup costs a read lock and a short search; an object that is freed during a call lives on until its end.

use crate::result::{Failure, Outcome, lunette_result};
use std::collections::BTreeMap;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// The objects of one kind that C holds handles of.
pub(crate) struct Table<T> {
    live: RwLock<BTreeMap<usize, Arc<T>>>,
    kind: &'static str,
}

/// Handles of all kinds share the numbers, so that none passes for another. Small multiples of 16: like addresses
/// aligned, unlike them never mapped.
static NEXT: AtomicUsize = AtomicUsize::new(1);

impl<T> Table<T> {
    pub(crate) const fn new(kind: &'static str) -> Self {
        Self { live: RwLock::new(BTreeMap::new()), kind }
    }

    pub(crate) fn insert<H>(&self, object: Arc<T>) -> *mut H {
        let number = NEXT.fetch_add(1, Ordering::Relaxed) * 16;
        self.live.write().unwrap_or_else(PoisonError::into_inner).insert(number, object);
        ptr::without_provenance_mut(number)
    }

    pub(crate) fn get<H>(&self, handle: *const H) -> Outcome<Arc<T>> {
        let live = self.live.read().unwrap_or_else(PoisonError::into_inner);
        live.get(&handle.addr()).cloned().ok_or_else(|| self.none(handle.addr()))
    }

    /// Takes a handle back.
    pub(crate) fn remove<H>(&self, handle: *const H) -> Outcome<Arc<T>> {
        let mut live = self.live.write().unwrap_or_else(PoisonError::into_inner);
        live.remove(&handle.addr()).ok_or_else(|| self.none(handle.addr()))
    }

    fn none(&self, number: usize) -> Failure {
        if number == 0 {
            return Failure::null(self.kind);
        }
        let kind = self.kind;
        Failure::new(lunette_result::InvalidHandle, format!("{kind}: no such handle; was it freed already?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Handle;

    #[test]
    fn a_handle_is_good_until_it_is_removed_and_never_again() {
        static TABLE: Table<u32> = Table::new("number");
        static OTHER: Table<u32> = Table::new("other");
        let handle: *mut Handle = TABLE.insert(Arc::new(7));
        assert_eq!(TABLE.get(handle).map(|object| *object).ok(), Some(7));
        assert_eq!(OTHER.get(handle).unwrap_err().code, lunette_result::InvalidHandle);
        assert!(TABLE.remove(handle).is_ok());
        assert_eq!(TABLE.remove(handle).unwrap_err().code, lunette_result::InvalidHandle);
        assert_ne!(TABLE.insert::<Handle>(Arc::new(8)), handle);
        assert_eq!(TABLE.get(ptr::null::<Handle>()).unwrap_err().code, lunette_result::NullParameter);
    }
}

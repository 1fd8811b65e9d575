//! In steady state no command allocates, all the way from the bytes of a receive to the bytes of a send.

use lu_sbd::store::{BackingStore, FileOptions, MemoryStore};
use lunette_bench::path::Path;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::sync::Arc;

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: everything is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of 200 batches, once 200 have been there before.
fn allocations(store: Arc<dyn BackingStore>, digests: bool, writes: bool, count: u32, bytes: u32) -> u64 {
    let mut path = Path::new(store, digests);
    for _ in 0..200 {
        path.batch(writes, count, bytes);
    }
    let (before, sent) = (ALLOCATIONS.with(Cell::get), path.sent());
    for _ in 0..200 {
        path.batch(writes, count, bytes);
    }
    let data = if writes { 0 } else { count * bytes };
    assert!(path.sent() - sent >= 200 * u64::from(48 * count + data), "each was answered");
    ALLOCATIONS.with(Cell::get) - before
}

fn memory() -> Arc<dyn BackingStore> {
    Arc::new(MemoryStore::new(16 << 20))
}

/// A file, all of it in the page cache once it is written.
fn file() -> (tempfile::TempDir, Arc<dyn BackingStore>) {
    let place = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    (options.size, options.create) = (Some(16 << 20), true);
    let store = options.open(place.path().join("disk")).unwrap();
    (place, Arc::new(store))
}

#[test]
fn reads_allocate_nothing() {
    for digests in [false, true] {
        assert_eq!(allocations(memory(), digests, false, 32, 4096), 0, "4 KiB, digests: {digests}");
        assert_eq!(allocations(memory(), digests, false, 8, 65536), 0, "64 KiB, digests: {digests}");
    }
}

#[test]
fn writes_allocate_nothing() {
    for digests in [false, true] {
        assert_eq!(allocations(memory(), digests, true, 32, 4096), 0, "4 KiB, digests: {digests}");
        assert_eq!(allocations(memory(), digests, true, 3, 65536), 0, "64 KiB, digests: {digests}");
    }
}

#[test]
fn reads_of_a_file_in_the_page_cache_allocate_nothing() {
    let (_place, store) = file();
    assert_eq!(allocations(Arc::clone(&store), false, false, 32, 4096), 0, "4 KiB");
    assert_eq!(allocations(store, false, false, 3, 65536), 0, "64 KiB");
}

#[test]
fn writes_to_a_file_allocate_nothing() {
    let (_place, store) = file();
    assert_eq!(allocations(Arc::clone(&store), false, true, 32, 4096), 0, "4 KiB");
    assert_eq!(allocations(store, false, true, 3, 65536), 0, "64 KiB");
}

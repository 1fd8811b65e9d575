//! In steady state no command allocates, all the way from the bytes of a receive to the bytes of a send.

use lu_sbd::store::MemoryStore;
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

fn allocations(writes: bool, count: u32, bytes: u32) -> u64 {
    let mut path = Path::new(Arc::new(MemoryStore::new(16 << 20)), false);
    for _ in 0..200 {
        path.batch(writes, count, bytes);
    }
    let (before, sent) = (ALLOCATIONS.with(Cell::get), path.sent());
    for _ in 0..200 {
        path.batch(writes, count, bytes);
    }
    assert!(path.sent() > sent);
    ALLOCATIONS.with(Cell::get) - before
}

#[test]
fn reads_of_4_kib_allocate_nothing() {
    assert_eq!(allocations(false, 32, 4096), 0);
}

#[test]
fn reads_of_64_kib_allocate_nothing() {
    assert_eq!(allocations(false, 8, 65536), 0);
}

#[test]
fn writes_of_4_kib_allocate_nothing() {
    assert_eq!(allocations(true, 32, 4096), 0);
}

#[test]
fn writes_of_64_kib_allocate_nothing() {
    assert_eq!(allocations(true, 3, 65536), 0);
}

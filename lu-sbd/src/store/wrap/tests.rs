//! Each wrapper does its one thing, and they stack.

use super::*;
use crate::store::MemoryStore;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use stmf::provider::StoreErrorKind;

const SIZE: u64 = 1 << 20;

fn store() -> MemoryStore {
    MemoryStore::new(SIZE)
}

fn write(store: &dyn BackingStore, offset: u64, data: &[u8]) -> Result<(), Error> {
    store.write_at(offset, &[IoSlice::new(data)])
}

fn read(store: &dyn BackingStore, offset: u64, length: usize) -> Vec<u8> {
    let mut data = vec![0xee; length];
    store.read_at(offset, &mut data).unwrap();
    data
}

#[test]
fn a_delay_is_waited_for_by_the_kinds_it_is_for() {
    let slow = Delayed::only(store(), Duration::from_millis(30), &[AccessKind::Flush]);
    let began = Instant::now();
    slow.flush().unwrap();
    assert!(began.elapsed() >= Duration::from_millis(30));
    assert!(slow.try_read_bytes(0, 512).is_none());
}

#[test]
fn the_nth_operation_fails_and_no_other() {
    let (store, faults) = Failing::new(store(), Some(FaultPlan::nth(AccessKind::Write, 3)));
    let outcomes: Vec<bool> = (0..5).map(|_| write(&store, 0, &[1; 512]).is_ok()).collect();
    assert_eq!(outcomes, [true, true, false, true, true]);
    assert!(store.flush().is_ok());
    assert_eq!(faults.injected(), 1);
    faults.add(FaultPlan { error: StoreErrorKind::NoSpace, ..FaultPlan::default() });
    assert_eq!(write(&store, 0, &[1; 512]).unwrap_err().kind, StoreErrorKind::NoSpace);
    faults.heal();
    assert!(write(&store, 0, &[1; 512]).is_ok());
}

#[test]
fn the_same_seed_fails_the_same_operations() {
    let run = |seed| {
        let (store, _) = Failing::new(store(), Some(FaultPlan::random(0.3, seed)));
        (0..200).map(|_| store.flush().is_err()).collect::<Vec<bool>>()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
    let failed = run(7).into_iter().filter(|failed| *failed).count();
    assert!((30..90).contains(&failed), "{failed}");
}

#[test]
fn a_fault_in_a_range_leaves_the_rest_alone() {
    let plan = FaultPlan { range: Some((4096, 8192)), ..FaultPlan::default() };
    let (store, _) = Failing::new(store(), Some(plan));
    assert!(store.read_at(0, &mut [0; 4096]).is_ok());
    assert!(store.read_at(0, &mut [0; 4608]).is_err());
    assert!(store.read_at(8192, &mut [0; 512]).is_ok());
}

#[test]
fn a_read_only_store_is_read_and_nothing_else() {
    let below = store();
    write(&below, 0, &[7; 512]).unwrap();
    let store = ReadOnly::new(below);
    assert!(store.capabilities().read_only);
    assert_eq!(read(&store, 0, 512), [7; 512]);
    assert_eq!(write(&store, 0, &[1; 512]).unwrap_err().kind, StoreErrorKind::ReadOnly);
    assert!(store.deallocate(0, 4096).is_err());
    assert!(store.flush().is_ok());
}

#[test]
fn an_overlay_leaves_the_store_below_as_it_is() {
    let below = store();
    write(&below, 0, &[1; 65536]).unwrap();
    let overlay = Overlay::new(below);
    // In the middle of a grain, over the edges of two, and whole grains.
    write(&overlay, 512, &[2; 512]).unwrap();
    write(&overlay, 4096 * 3 - 512, &[3; 1024]).unwrap();
    write(&overlay, 4096 * 8, &[4; 8192]).unwrap();
    overlay.deallocate(4096 * 12, 4096).unwrap();
    let mut expected = vec![1; 65536];
    expected[512..1024].fill(2);
    expected[4096 * 3 - 512..4096 * 3 + 512].fill(3);
    expected[4096 * 8..4096 * 10].fill(4);
    expected[4096 * 12..4096 * 13].fill(0);
    assert!(read(&overlay, 0, 65536) == expected);
    assert!(read(overlay.below(), 0, 65536) == [1; 65536]);
    assert_eq!(overlay.written_bytes(), 4096 * 6);
    overlay.revert().unwrap();
    assert!(read(&overlay, 0, 65536) == [1; 65536]);
}

#[test]
fn two_halves_of_a_grain_written_at_once_are_both_kept() {
    let overlay = Overlay::new(store());
    std::thread::scope(|scope| {
        for half in 0..8u64 {
            let overlay = &overlay;
            scope.spawn(move || {
                for grain in 0..200 {
                    write(overlay, grain * 4096 + half * 512, &[half as u8 + 1; 512]).unwrap();
                }
            });
        }
    });
    for grain in 0..200 {
        let data = read(&overlay, grain * 4096, 4096);
        assert!(data.chunks(512).enumerate().all(|(half, part)| part.iter().all(|&byte| byte == half as u8 + 1)));
    }
}

#[test]
fn a_rate_is_kept() {
    let store = RateLimited::new(store(), None, Some(200));
    let began = Instant::now();
    (0..40).for_each(|_| drop(store.flush()));
    // Forty operations are 200 ms, of which 100 may be spent at once.
    assert!(began.elapsed() >= Duration::from_millis(90), "{:?}", began.elapsed());
}

#[test]
fn counts_and_logs_tell_what_went_through_a_stack() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&lines);
    let (store, counts) = Counted::new(store());
    let store = Logged::new(ReadOnly::new(store), move |entry| sink.lock().unwrap().push(entry.to_string()));
    store.read_bytes(512, 1024).unwrap();
    store.flush().unwrap();
    assert!(write(&store, 0, &[0; 512]).is_err());
    let values = counts.values();
    // The write was refused further up.
    assert_eq!((values.reads, values.read_bytes, values.flushes, values.writes, values.errors), (1, 1024, 1, 0, 0));
    let lines = lines.lock().unwrap();
    assert!(lines[0].starts_with("read 1024 bytes at 512 in "), "{lines:?}");
    assert!(lines[2].contains("read-only store"), "{lines:?}");
}

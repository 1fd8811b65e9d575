//! A store that answers later, end to end over iSCSI.
#![cfg(feature = "server")]

use lunette::bytes::Bytes;
use lunette::client::{Disk, Error, Operation, Options};
use lunette::lu_sbd::store::{AsyncStore, Capabilities, Unmap};
use lunette::prelude::Server;
use lunette::scsi_core::{SenseKey, TaskManagementFunction};
use lunette::stmf::provider::{Segments, StoreCompletion, StoreError, StoreErrorKind, StoreOp, StoreOutcome};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::Duration;

const SIZE: u64 = 16 << 20;
const BLOCK: u64 = 512;

/// Nothing here takes as long; what does hangs.
const LIMIT: Duration = Duration::from_secs(60);

/// What a store of a remote kind might be: it keeps what it is asked for, and its test decides when and how each
/// operation ends.
#[derive(Debug, Default)]
struct Remote {
    blocks: Mutex<BTreeMap<u64, Bytes>>,
    waiting: Mutex<Vec<(StoreOp, StoreCompletion)>>,
    changed: Condvar,
}

impl AsyncStore for Remote {
    fn capacity(&self) -> u64 {
        SIZE
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.unmap = Some(Unmap { granularity_bytes: 512, reads_zero: true });
        capabilities
    }

    fn start(&self, op: StoreOp, completion: StoreCompletion) {
        self.waiting.lock().unwrap().push((op, completion));
        self.changed.notify_all();
    }
}

impl Remote {
    /// Waits until so many operations are asked for, and takes them.
    fn take(&self, wanted: usize) -> Vec<(StoreOp, StoreCompletion)> {
        let waiting = self.waiting.lock().unwrap();
        let waited = self.changed.wait_timeout_while(waiting, LIMIT, |waiting| waiting.len() < wanted).unwrap();
        let mut waiting = waited.0;
        assert!(waiting.len() >= wanted, "{} operations of {wanted} were asked for", waiting.len());
        std::mem::take(&mut *waiting)
    }

    fn carry_out(&self, op: StoreOp) -> StoreOutcome {
        let mut blocks = self.blocks.lock().unwrap();
        match op {
            StoreOp::Read { offset, length, .. } => {
                static ZEROS: [u8; BLOCK as usize] = [0; BLOCK as usize];
                let places = (offset..offset + u64::from(length)).step_by(BLOCK as usize);
                // Lent: not a byte is copied here.
                let lend = |at| blocks.get(&at).cloned().unwrap_or(Bytes::from_static(&ZEROS));
                StoreOutcome::Data(places.map(lend).collect::<Segments>())
            }
            StoreOp::Write { offset, data, .. } => {
                // What was received ends anywhere, not only where a block does.
                let data = Bytes::from(data.concat());
                for at in (0..data.len()).step_by(BLOCK as usize) {
                    blocks.insert(offset + at as u64, data.slice(at..at + BLOCK as usize));
                }
                StoreOutcome::Done
            }
            StoreOp::Deallocate { ranges } => {
                for (offset, length) in ranges {
                    blocks.retain(|at, _| !(offset..offset + length).contains(at));
                }
                StoreOutcome::Done
            }
            StoreOp::Flush => StoreOutcome::Done,
            other => panic!("{other:?} was not asked for"),
        }
    }

    /// Carries out everything that comes, by a thread of its own, the last of what waits first.
    fn serve(self: &Arc<Self>) {
        let this = Arc::downgrade(self);
        thread::spawn(move || {
            while let Some(this) = this.upgrade() {
                let waiting = this.waiting.lock().unwrap();
                let step = Duration::from_millis(20);
                let (mut waiting, _) = this.changed.wait_timeout_while(waiting, step, |some| some.is_empty()).unwrap();
                let some = std::mem::take(&mut *waiting);
                drop(waiting);
                for (op, completion) in some.into_iter().rev() {
                    completion.finish(this.carry_out(op));
                }
            }
        });
    }
}

fn start() -> (Arc<Remote>, Server, Disk) {
    let store = Arc::new(Remote::default());
    let disk = lunette::Disk::shared_async(Arc::clone(&store) as Arc<dyn AsyncStore>);
    let server = Server::builder().disk(disk).portal(([127, 0, 0, 1], 0).into()).start().unwrap();
    let mut options: Options = server.url(0).parse().unwrap();
    options.command_timeout = LIMIT;
    let disk = Disk::connect_with(options).unwrap();
    (store, server, disk)
}

fn content(seed: u64, length: usize) -> Vec<u8> {
    (0..length as u64).map(|at| (at / 512 * 7 + at + seed * 31) as u8).collect()
}

fn write(offset: u64, data: Vec<u8>) -> Operation {
    Operation::Write { offset, data: data.into(), durable: false }
}

#[test]
fn operations_end_in_any_order_by_another_thread() {
    let (store, _server, disk) = start();
    let writes: Vec<_> = (0..8).map(|at| disk.submit(write(at << 12, content(at, 4096))).unwrap()).collect();
    let mut held = Vec::new();
    while held.len() < 8 {
        held.extend(store.take(1));
    }
    // The last first, and each write ends when its own operation does.
    for (index, write) in writes.into_iter().enumerate().rev() {
        let wanted = (index as u64) << 12;
        let is_it = |op: &StoreOp| matches!(op, StoreOp::Write { offset, .. } if *offset == wanted);
        let at = held.iter().position(|(op, _)| is_it(op)).unwrap();
        let (op, completion) = held.swap_remove(at);
        let outcome = store.carry_out(op);
        thread::spawn(move || completion.finish(outcome)).join().unwrap();
        write.wait().unwrap();
    }
    store.serve();
    for at in 0..8 {
        assert!(disk.read(at << 12, 4096).unwrap() == content(at, 4096));
    }
}

#[test]
fn what_is_written_is_lent_again_and_can_be_given_back() {
    let (store, _server, disk) = start();
    store.serve();
    let data = content(3, 4 << 20);
    disk.write(1 << 20, data.clone()).unwrap();
    disk.flush().unwrap();
    assert!(disk.read(1 << 20, data.len()).unwrap() == data);
    let kept = store.blocks.lock().unwrap().len() as u64;
    assert_eq!(kept, (4 << 20) / BLOCK);
    disk.unmap(2 << 20, 1 << 20).unwrap();
    assert!(disk.read(2 << 20, 1 << 20).unwrap().iter().all(|byte| *byte == 0));
    assert!(disk.read(1 << 20, 1 << 20).unwrap() == data[..1 << 20]);
}

#[test]
fn a_token_that_is_dropped_is_a_check_condition() {
    let (store, _server, disk) = start();
    let read = disk.submit(Operation::Read { offset: 0, length: 4096 }).unwrap();
    drop(store.take(1));
    let error = read.wait().unwrap_err();
    let sense = error.sense().unwrap_or_else(|| panic!("no sense data: {error}"));
    assert_eq!(sense.key, SenseKey::ABORTED_COMMAND, "{error}");
    // The disk goes on.
    store.serve();
    assert_eq!(disk.read(0, 4096).unwrap().len(), 4096);
}

#[test]
fn an_outcome_of_the_wrong_kind_or_length_is_a_check_condition() {
    let (store, _server, disk) = start();
    for outcome in [StoreOutcome::Done, StoreOutcome::Data([Bytes::from_static(&[0; 100])].into_iter().collect())] {
        let read = disk.submit(Operation::Read { offset: 0, length: 4096 }).unwrap();
        let (_, completion) = store.take(1).pop().unwrap();
        completion.finish(outcome);
        let error = read.wait().unwrap_err();
        assert_eq!(error.sense().map(|sense| sense.key), Some(SenseKey::MEDIUM_ERROR), "{error}");
    }
}

#[test]
fn a_failure_is_told_as_what_it_is() {
    let (store, _server, disk) = start();
    let read = disk.submit(Operation::Read { offset: 0, length: 4096 }).unwrap();
    let (_, completion) = store.take(1).pop().unwrap();
    completion.finish(StoreOutcome::Failed(StoreError { kind: StoreErrorKind::Io, context: "bucket 7".into() }));
    assert_eq!(read.wait().unwrap_err().sense().unwrap().key, SenseKey::MEDIUM_ERROR);
}

#[test]
fn a_store_sees_that_a_command_was_aborted_and_the_abort_waits_for_it() {
    let (store, _server, disk) = start();
    let read = disk.submit(Operation::Read { offset: 0, length: 4096 }).unwrap();
    let (op, completion) = store.take(1).pop().unwrap();
    assert!(!completion.is_cancelled());
    thread::scope(|scope| {
        let abort = scope.spawn(|| disk.abort(&read));
        let begun = std::time::Instant::now();
        while !completion.is_cancelled() {
            assert!(begun.elapsed() < LIMIT, "the store is not told of the abort");
            thread::sleep(Duration::from_millis(1));
        }
        let context = "given up".into();
        completion.finish(StoreOutcome::Failed(StoreError { kind: StoreErrorKind::Cancelled, context }));
        abort.join().unwrap().unwrap();
    });
    drop(op);
    let error = read.wait().unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error}");
    store.serve();
    disk.manage(TaskManagementFunction::LogicalUnitReset).unwrap();
    assert_eq!(disk.read(0, 512).unwrap().len(), 512);
}

#[test]
fn a_store_that_never_answers_times_out_at_the_initiator_alone() {
    let (store, server, other) = start();
    let mut options: Options = server.url(0).parse().unwrap();
    options.command_timeout = Duration::from_millis(300);
    let disk = Disk::connect_with(options).unwrap();
    let error = disk.submit(Operation::Read { offset: 0, length: 512 }).unwrap().wait().unwrap_err();
    assert!(matches!(error, Error::Timeout { .. }), "{error}");
    let (_, completion) = store.take(1).pop().unwrap();
    store.serve();
    assert_eq!(other.read(0, 512).unwrap().len(), 512);
    // The initiator aborted it when it gave up, and the store may learn of that.
    let begun = std::time::Instant::now();
    while !completion.is_cancelled() {
        assert!(begun.elapsed() < LIMIT, "the store is not told of the abort");
        thread::sleep(Duration::from_millis(1));
    }
}

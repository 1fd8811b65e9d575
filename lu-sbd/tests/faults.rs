//! What is promised holds over a loss of power, and what the store refuses is told.

mod common;

use common::*;
use lu_sbd::properties::ModifyProperties;
use lu_sbd::store::{BackingStore, Capabilities, Error, MemoryStore, Operation};
use proptest::prelude::*;
use scsi_core::{SenseKey, Status};
use std::io::IoSlice;
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;
use stmf::provider::{Effects, LogicalUnit, Segments, StoreErrorKind};

/// A store with what is written and what is safe: a flush makes the one the other.
#[derive(Debug)]
struct TwoImages {
    live: Mutex<Vec<u8>>,
    safe: Mutex<Vec<u8>>,
    fail_next: Mutex<Option<(Operation, StoreErrorKind)>>,
}

impl TwoImages {
    fn new(size: usize) -> Arc<Self> {
        Arc::new(Self { live: vec![0; size].into(), safe: vec![0; size].into(), fail_next: Mutex::new(None) })
    }

    fn fail(&self, operation: Operation, kind: StoreErrorKind) {
        *self.fail_next.lock().unwrap() = Some((operation, kind));
    }

    fn check(&self, operation: Operation) -> Result<(), Error> {
        match self.fail_next.lock().unwrap().take_if(|(wanted, _)| *wanted == operation) {
            Some((operation, kind)) => Err(Error::new(kind, operation)),
            None => Ok(()),
        }
    }

    fn safe(&self, lba: usize, blocks: usize) -> Vec<u8> {
        self.safe.lock().unwrap()[lba * BLOCK..(lba + blocks) * BLOCK].to_vec()
    }
}

impl BackingStore for TwoImages {
    fn capacity(&self) -> u64 {
        self.live.lock().unwrap().len() as u64
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.check(Operation::Read)?;
        let offset = offset as usize;
        into.copy_from_slice(&self.live.lock().unwrap()[offset..offset + into.len()]);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.check(Operation::Write)?;
        let mut at = offset as usize;
        for slice in data {
            self.live.lock().unwrap()[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        self.check(Operation::Flush)?;
        self.safe.lock().unwrap().copy_from_slice(&self.live.lock().unwrap());
        Ok(())
    }

    fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.write_at(offset, data)?;
        self.check(Operation::Flush)?;
        let mut at = offset as usize;
        for slice in data {
            self.safe.lock().unwrap()[at..at + slice.len()].copy_from_slice(slice);
            at += slice.len();
        }
        Ok(())
    }
}

fn rig(properties: &[&str]) -> (Rig, Arc<TwoImages>) {
    let store = TwoImages::new(4 << 20);
    (Rig::with(Arc::clone(&store) as _, properties), store)
}

#[test]
fn a_plain_write_may_be_lost_until_the_cache_is_synchronized() {
    let (mut rig, store) = rig(&[]);
    rig.write(1, 0, &[1; 512]);
    assert_eq!(store.safe(0, 1), [0; 512]);
    rig.run(1, &ten(0x35, 0, 0, 0), &[], 0).good();
    assert_eq!(store.safe(0, 1), [1; 512]);
}

#[test]
fn every_command_with_fua_or_without_cache_is_safe_when_it_is_good() {
    for (properties, fua) in [(&[][..], 8), (&["wcd=true"][..], 0)] {
        for piece in [None, Some(100_000)] {
            let (mut rig, store) = rig(properties);
            rig.backwards = piece;
            let data = pattern(2000, 1);
            rig.run(1, &ten(0x2a, fua, 10, 2000), &data, 0).good();
            assert_eq!(store.safe(10, 2000), data);
            rig.run(1, &sixteen(0x8a, fua, 3000, 5), &data[..2560], 0).good();
            assert_eq!(store.safe(3000, 5), data[..2560]);
            let mut cdb = sixteen(0x89, fua, 3000, 0);
            cdb[13] = 1;
            rig.run(1, &cdb, &[&data[..512], &[7; 512]].concat(), 0).good();
            assert_eq!(store.safe(3000, 1), [7; 512]);
            rig.run(1, &ten(0x2e, 0, 4000, 1), &[8; 512], 0).good();
            assert_eq!(store.safe(4000, 1), [8; 512]);
            if fua == 0 {
                rig.run(1, &ten(0x41, 0, 5000, 10), &[9; 512], 0).good();
                assert_eq!(store.safe(5000, 10), [9; 5120]);
            }
        }
    }
}

#[test]
fn switching_the_cache_off_makes_what_was_cached_safe() {
    let (mut rig, store) = rig(&[]);
    rig.write(1, 0, &[1; 512]);
    let mut list = rig.run(1, &[0x1a, 8, 8, 0, 255, 0], &[], 255).good();
    (list[0], list[2]) = (0, 0);
    list[4] &= 0x7f;
    list[6] &= !4;
    rig.run(1, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list, 0).good();
    assert_eq!(store.safe(0, 1), [1; 512]);

    let (mut rig, store) = self::rig(&[]);
    rig.write(1, 0, &[1; 512]);
    rig.lu.modify(&ModifyProperties { write_cache_disabled: Some(true), ..Default::default() }).unwrap();
    assert_eq!(store.safe(0, 1), [1; 512]);
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    rig.write(1, 0, &[2; 512]);
    assert_eq!(store.safe(0, 1), [2; 512]);
}

#[test]
fn a_read_with_fua_gives_what_is_on_the_medium() {
    let (mut rig, store) = rig(&[]);
    rig.write(1, 0, &[1; 512]);
    assert_eq!(rig.run(1, &ten(0x28, 8, 0, 1), &[], 512).good(), [1; 512]);
    assert_eq!(store.safe(0, 1), [1; 512]);
}

#[test]
fn stopping_the_unit_makes_what_was_cached_safe() {
    let (mut rig, store) = rig(&[]);
    rig.write(1, 0, &[1; 512]);
    rig.run(1, &[0x1b, 0, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(store.safe(0, 1), [1; 512]);
}

#[test]
fn a_failed_read_or_write_concerns_that_command_alone() {
    let (mut rig, store) = rig(&[]);
    store.fail(Operation::Read, StoreErrorKind::Io);
    let sense = rig.run(1, &read10(7, 1), &[], 512).check(SenseKey::MEDIUM_ERROR, 0x11, 0);
    assert_eq!(sense.information, Some(7));
    store.fail(Operation::Write, StoreErrorKind::Io);
    rig.run(1, &write10(7, 1), &[0; 512], 0).check(SenseKey::MEDIUM_ERROR, 0x0c, 0);
    store.fail(Operation::Write, StoreErrorKind::NoSpace);
    rig.run(1, &write10(7, 1), &[0; 512], 0).check(SenseKey::DATA_PROTECT, 0x27, 7);
    rig.write(1, 7, &[1; 512]);
    assert_eq!(rig.read(1, 7, 1), [1; 512]);
    assert_eq!(rig.lu.snapshot().statistics.errors, 3);
}

#[test]
fn after_a_failed_flush_the_unit_is_out_of_order_until_it_is_brought_online() {
    use stmf::provider::LogicalUnit;
    for durable in [false, true] {
        let store = TwoImages::new(4 << 20);
        let again = Arc::clone(&store);
        let identity = identity(4 << 20, &[]);
        let records = Arc::new(Records::default());
        let lu = lu_sbd::SbdLu::new(identity, Arc::clone(&store) as _, records, lu_sbd::Limits::default());
        let lu = Arc::new(lu.with_reopen(Box::new(move || Ok(Arc::clone(&again) as _))));
        let mut rig = Rig::new();
        rig.lu = lu;
        rig.attach(1);
        rig.attach(2);
        rig.write(1, 0, &[1; 512]);
        store.fail(Operation::Flush, StoreErrorKind::Io);
        let cdb = if durable { ten(0x2a, 8, 1, 1) } else { ten(0x35, 0, 0, 0) };
        rig.run(1, &cdb, if durable { &[2; 512] } else { &[] }, 0).check(SenseKey::MEDIUM_ERROR, 0x0c, 0);
        for nexus in [1, 2] {
            rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 4, 3);
            rig.run(nexus, &read10(0, 1), &[], 512).check(SenseKey::NOT_READY, 4, 3);
            rig.run(nexus, &ten(0x35, 0, 0, 0), &[], 0).check(SenseKey::NOT_READY, 4, 3);
            rig.run(nexus, &[0x12, 0, 0, 0, 36, 0], &[], 36).good();
        }
        assert!(rig.lu.snapshot().failure.unwrap().contains("flush"));
        rig.lu.bring_online().unwrap();
        rig.read(1, 0, 1);
        assert_eq!(rig.lu.snapshot().failure, None);
    }
}

#[test]
fn a_failed_flush_behind_an_immediate_answer_is_not_forgotten() {
    let (mut rig, store) = rig(&[]);
    store.fail(Operation::Flush, StoreErrorKind::Io);
    rig.run(1, &ten(0x35, 2, 0, 0), &[], 0).good();
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 4, 3);
}

#[test]
fn a_store_that_lends_too_little_is_a_medium_error() {
    #[derive(Debug)]
    struct Short(MemoryStore);
    impl BackingStore for Short {
        fn capacity(&self) -> u64 {
            self.0.capacity()
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), Error> {
            Ok(())
        }
        fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<(), Error> {
            Ok(())
        }
        fn flush(&self) -> Result<(), Error> {
            Ok(())
        }
        fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
            self.0.read_bytes(offset, length - 1)
        }
    }
    let mut rig = Rig::with(Arc::new(Short(MemoryStore::new(4 << 20))), &[]);
    let answer = rig.run(1, &read10(0, 1), &[], 512);
    answer.check(SenseKey::MEDIUM_ERROR, 0x11, 0);
    assert!(answer.data.is_empty());
}

/// A store whose flush waits until it may end, and says that it has begun.
#[derive(Debug)]
struct Hanging {
    memory: MemoryStore,
    begun: mpsc::Sender<()>,
    end: Mutex<mpsc::Receiver<()>>,
}

impl BackingStore for Hanging {
    fn capacity(&self) -> u64 {
        self.memory.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        self.memory.read_at(offset, into)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.memory.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), Error> {
        self.begun.send(()).unwrap();
        self.end.lock().unwrap().recv().unwrap();
        Ok(())
    }

    fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
        self.memory.try_read_bytes(offset, length)
    }
}

#[test]
fn a_unit_that_goes_offline_holds_up_nobody_who_may_not_wait() {
    let (begun, has_begun) = mpsc::channel();
    let (may_end, end) = mpsc::channel();
    let store = Hanging { memory: MemoryStore::new(1 << 20), begun, end: Mutex::new(end) };
    let mut rig = Rig::with(Arc::new(store), &[]);
    rig.hold = true;
    let read = rig.simple(1, &read10(0, 1), &[], 512);
    let request = rig.held.pop_front().expect("a request is held");
    let lu = Arc::clone(&rig.lu);
    let (answer, answered) = mpsc::channel();
    let given_back = thread::scope(|scope| {
        scope.spawn(|| lu.take_offline());
        has_begun.recv().unwrap();
        scope.spawn(|| answer.send(lu.try_perform(request)).unwrap());
        // Long enough for any machine; a thread that waits for the flush waits for ever.
        let given_back = answered.recv_timeout(Duration::from_secs(20));
        may_end.send(()).unwrap();
        given_back
    });
    // Who may wait carries it out: this unit has no way to open its store again, and so keeps it.
    let request = given_back.expect("an answer while the flush hangs").expect_err("the store is busy");
    let done = rig.lu.perform(request);
    let mut effects = Effects::new();
    rig.lu.store_done(done, &mut effects);
    rig.carry_out(effects);
    assert!(matches!(rig.ended.get(&read), Some(End::Completed(answer)) if answer.status == Status::GOOD));
}

#[test]
fn a_read_only_store_makes_a_protected_unit() {
    #[derive(Debug)]
    struct ReadOnly(MemoryStore);
    impl BackingStore for ReadOnly {
        fn capacity(&self) -> u64 {
            self.0.capacity()
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
            self.0.read_at(offset, into)
        }
        fn write_at(&self, _: u64, _: &[IoSlice<'_>]) -> Result<(), Error> {
            Err(Error::new(StoreErrorKind::ReadOnly, Operation::Write))
        }
        fn flush(&self) -> Result<(), Error> {
            Ok(())
        }
        fn capabilities(&self) -> Capabilities {
            let mut capabilities = Capabilities::default();
            capabilities.read_only = true;
            capabilities
        }
    }
    let mut rig = Rig::with(Arc::new(ReadOnly(MemoryStore::new(4 << 20))), &[]);
    rig.run(1, &write10(0, 1), &[0; 512], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    rig.read(1, 0, 1);
    assert!(rig.lu.snapshot().write_protected);
}

/// One step of the model test: who does what where.
#[derive(Clone, Debug)]
struct Step {
    nexus: u64,
    kind: u8,
    lba: u16,
    blocks: u8,
    seed: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1..4u64, 0..10u8, 0..1500u16, 0..40u8, any::<u8>());
    let step = step.prop_map(|(nexus, kind, lba, blocks, seed)| Step { nexus, kind, lba, blocks, seed });
    prop::collection::vec(step, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Commands of several nexuses against an array of bytes; the store's operations end in any order, and commands
    /// that overlap are not under way together (their outcome would be open).
    #[test]
    fn the_medium_is_what_the_commands_made_of_it(steps in steps(), cached in any::<bool>()) {
        let store = Arc::new(MemoryStore::new(1 << 20));
        let mut rig = Rig::with(store, if cached { &[] } else { &["wcd=true"] });
        let mut model = vec![0u8; 1 << 20];
        rig.hold = true;
        rig.backwards = Some(3000);
        let mut reads = Vec::new();
        let mut busy: Vec<(usize, usize)> = Vec::new();
        for Step { nexus, kind, lba, blocks, seed } in steps {
            let (first, count) = (usize::from(lba), usize::from(blocks));
            let (from, to) = (first * BLOCK, (first + count) * BLOCK);
            if busy.iter().any(|(a, b)| *a < to && from < *b) {
                rig.release_all();
                busy.clear();
            }
            busy.push((from, to));
            let (lba, length) = (u32::from(lba), u16::from(blocks));
            match kind {
                0..=3 => {
                    let data = pattern(count, seed);
                    rig.simple(nexus, &ten(0x2a, if kind == 3 { 8 } else { 0 }, lba, length), &data, 0);
                    model[from..to].copy_from_slice(&data);
                }
                4 if count > 0 => {
                    rig.simple(nexus, &ten(0x41, if seed & 1 == 0 { 8 } else { 0 }, lba, length), &[seed; BLOCK], 0);
                    model[from..to].fill(seed);
                }
                5 => {
                    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
                    list.extend_from_slice(&u64::from(lba).to_be_bytes());
                    list.extend_from_slice(&u32::from(blocks).to_be_bytes());
                    list.extend_from_slice(&[0; 4]);
                    rig.simple(nexus, &ten(0x42, 0, 0, 24), &list, 0);
                    model[from..to].fill(0);
                }
                6 if count > 0 => {
                    // Half of them compare right.
                    let mut data = model[from..from + BLOCK].to_vec();
                    data[7] ^= seed & 1;
                    data.extend_from_slice(&[seed; BLOCK]);
                    let mut cdb = sixteen(0x89, 0, lba.into(), 0);
                    cdb[13] = 1;
                    rig.simple(nexus, &cdb, &data, 0);
                    if seed & 1 == 0 {
                        model[from..from + BLOCK].fill(seed);
                    }
                }
                7 => {
                    rig.simple(nexus, &ten(0x2f, 2, lba, length), &model[from..to], 0);
                }
                _ => {
                    let id = rig.simple(nexus, &read10(lba, length), &[], (count * BLOCK) as u32);
                    reads.push((id, model[from..to].to_vec()));
                }
            }
            while rig.held.len() > 6 {
                let index = usize::from(seed) % rig.held.len();
                rig.release(index);
            }
        }
        rig.release_all();
        for (id, expected) in reads {
            let answer = rig.answer_of(id);
            prop_assert_eq!(answer.status, Status::GOOD);
            prop_assert_eq!(answer.data, expected);
        }
        for (id, end) in &rig.ended {
            if let End::Completed(answer) = end {
                let fine = answer.status == Status::GOOD
                    || answer.sense.is_some_and(|s| matches!(s.key, SenseKey::MISCOMPARE | SenseKey::UNIT_ATTENTION));
                prop_assert!(fine, "{:?}: {:?}", id, answer);
            }
        }
        rig.hold = false;
        prop_assert_eq!(rig.run(1, &read10(0, 2048), &[], 1 << 20).good(), model);
        prop_assert_eq!(rig.lu.snapshot().tasks, 0);
    }

    /// Any bytes as a command with any data end every task, once, without a panic.
    #[test]
    fn any_bytes_are_answered(
        commands in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..20), prop::collection::vec(any::<u8>(), 0..80)), 1..30),
    ) {
        let mut rig = Rig::with(Arc::new(MemoryStore::new(1 << 20)), &[]);
        for (cdb, data) in &commands {
            let id = rig.simple(1, cdb, data, 4096);
            prop_assert!(rig.ended.contains_key(&id));
        }
        // Random bytes seldom hit a command: steer the first one.
        for opcode in 0..=255u8 {
            for (cdb, data) in commands.iter().take(3) {
                let mut cdb = cdb.clone();
                cdb.resize(16, 0);
                cdb[0] = opcode;
                let id = rig.simple(1, &cdb, data, 4096);
                prop_assert!(rig.ended.contains_key(&id));
                cdb[1] &= 0x1f;
                cdb[6..].fill(0);
                cdb[8] = data.len() as u8;
                let id = rig.simple(2, &cdb, data, 4096);
                prop_assert!(rig.ended.contains_key(&id));
            }
        }
        prop_assert_eq!(rig.lu.snapshot().tasks, 0);
    }
}

//! FORMAT UNIT and SANITIZE: the whole medium anew, with progress, over aborts and resets, honest after a restart.

mod common;

use common::*;
use lu_sbd::Limits;
use lu_sbd::meta::Unfinished;
use lu_sbd::store::wrap::{AccessKind, Failing, FaultPlan};
use lu_sbd::store::{BackingStore, MemoryStore};
use scsi_core::{SenseKey, SenseSpecific, TaskManagementFunction as Function};
use std::sync::Arc;
use stmf::provider::StoreOp;

const SIZE: u64 = 256 << 20;
const BLOCK_ERASE: [u8; 10] = [0x48, 0x02, 0, 0, 0, 0, 0, 0, 0, 0];
const EXIT: [u8; 10] = [0x48, 0x1f, 0, 0, 0, 0, 0, 0, 0, 0];

fn rig() -> Rig {
    Rig::with(Arc::new(MemoryStore::new(SIZE)), &[])
}

fn overwrite(flags: u8, count: u8, pattern: &[u8]) -> ([u8; 10], Vec<u8>) {
    let mut list = vec![count, 0];
    list.extend_from_slice(&(pattern.len() as u16).to_be_bytes());
    list.extend_from_slice(pattern);
    let [high, low] = (list.len() as u16).to_be_bytes();
    ([0x48, 0x01 | flags, 0, 0, 0, 0, 0, high, low, 0], list)
}

fn sense_of(rig: &mut Rig) -> scsi_core::SenseData {
    let data = rig.run(2, &[3, 0, 0, 0, 252, 0], &[], 252).good();
    scsi_core::SenseData::decode(&data).unwrap()
}

#[test]
fn a_block_erase_leaves_zeros_and_frees_the_store() {
    let store = Arc::new(MemoryStore::new(SIZE));
    let mut rig = Rig::with(store.clone(), &[]);
    rig.write(1, 0, &pattern(64, 1));
    rig.write(1, 400_000, &pattern(64, 1));
    rig.run(1, &BLOCK_ERASE, &[], 0).good();
    assert_eq!((rig.read(1, 0, 64), rig.read(1, 400_000, 64)), (vec![0; 64 * BLOCK], vec![0; 64 * BLOCK]));
    assert_eq!(store.allocated(), 0);
    assert_eq!(rig.records.identity().unfinished, None);
}

#[test]
fn an_overwrite_repeats_its_pattern_and_inverts_it_between_passes() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(4 << 20)), &[]);
    let (cdb, list) = overwrite(0, 0x80 | 2, &[0xa5, 0x0f]);
    rig.run(1, &cdb, &list, 0).good();
    assert_eq!(rig.read(1, 8000, 2), [0x5a, 0xf0].repeat(BLOCK));
    let (cdb, list) = overwrite(0, 1, &[7; BLOCK]);
    rig.run(1, &cdb, &list, 0).good();
    assert_eq!(rig.read(1, 0, 1), [7; BLOCK]);
    let (cdb, list) = overwrite(0, 0, &[7]);
    rig.run(1, &cdb, &list, 0).invalid_field(0);
    let (mut cdb, _) = overwrite(0, 1, &[7]);
    cdb[8] = 4;
    rig.run(1, &cdb, &[1, 0, 0, 1], 0).invalid_field(7);
}

#[test]
fn meanwhile_the_unit_is_not_ready_and_tells_how_far_it_is() {
    let mut rig = rig();
    rig.write(1, 0, &pattern(8, 1));
    rig.hold = true;
    let (cdb, list) = overwrite(0x80, 1, &[0xee]); // IMMED
    let id = rig.simple(1, &cdb, &list, 0);
    assert!(!rig.ended.contains_key(&id), "not before the record is kept");
    rig.release(0);
    rig.answer_of(id).good();
    assert_eq!(rig.records.identity().unfinished, Some(Unfinished::Sanitize { unrestricted_exit: false }));
    let mut last = 0;
    for _ in 0..4 {
        rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x1b);
        rig.run(2, &read10(0, 8), &[], 4096).check(SenseKey::NOT_READY, 0x04, 0x1b);
        rig.run(1, &BLOCK_ERASE, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x1b);
        rig.run(1, &EXIT, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x1b);
        rig.run(2, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
        let sense = sense_of(&mut rig);
        let Some(SenseSpecific::Progress(progress)) = sense.specific else { panic!("{sense}") };
        assert!(progress >= last, "{progress} after {last}");
        last = progress;
        rig.release(0);
    }
    assert!(last >= 0x8000, "{last:x}");
    rig.hold = false;
    rig.release_all();
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
    assert_eq!(rig.read(2, 0, 8), [0xee; 8 * BLOCK]);
    assert_eq!(rig.records.identity().unfinished, None);
}

#[test]
fn what_is_under_way_ends_and_writes_nothing_afterwards() {
    let mut rig = rig();
    rig.hold = true;
    let write = rig.simple(2, &write10(0, 8), &pattern(8, 1), 0);
    rig.hold_data = true;
    let slow = rig.simple(3, &write10(100, 8), &pattern(8, 2), 0);
    rig.hold_data = false;
    let erase = rig.simple(1, &BLOCK_ERASE, &[], 0);
    // The record is kept; the write that is in the store's hands comes first.
    rig.release(1);
    assert!(rig.held.iter().all(|request| !matches!(request.op, StoreOp::Deallocate { .. })));
    rig.answer_of(slow).check(SenseKey::NOT_READY, 0x04, 0x1b);
    rig.feed_wanted();
    rig.release_all();
    rig.answer_of(write).check(SenseKey::NOT_READY, 0x04, 0x1b);
    rig.answer_of(erase).good();
    rig.hold = false;
    assert_eq!(rig.read(1, 0, 200), vec![0; 200 * BLOCK]);
}

#[test]
fn it_goes_on_over_aborts_resets_and_the_end_of_the_session() {
    let mut rig = rig();
    rig.write(1, 0, &pattern(8, 1));
    rig.hold = true;
    let (cdb, list) = overwrite(0, 1, &[0xee]);
    let id = rig.simple(1, &cdb, &list, 0);
    rig.release(0);
    let tag = rig.manage(1, Function::AbortTask, Some(id));
    assert!(rig.response(tag).is_some(), "the abort does not wait for the medium");
    assert_eq!(rig.ended.remove(&id), Some(End::Aborted { report: false }));
    rig.manage(1, Function::LogicalUnitReset, None);
    rig.detach(1, stmf::provider::NexusLoss::SessionEnded);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 0x03);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x1b);
    rig.release_all();
    rig.hold = false;
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
    assert_eq!(rig.read(2, 0, 8), [0xee; 8 * BLOCK]);
}

/// The unit as it comes up again after its server died.
fn restart(rig: &Rig, store: Arc<dyn BackingStore>) -> Rig {
    Rig::of(rig.records.identity(), store, Limits::default())
}

#[test]
fn an_interrupted_sanitize_has_failed_after_the_restart() {
    for ause in [false, true] {
        let store: Arc<dyn BackingStore> = Arc::new(MemoryStore::new(SIZE));
        let mut rig = Rig::with(store.clone(), &[]);
        rig.write(1, 0, &pattern(8, 1));
        rig.hold = true;
        let (cdb, list) = overwrite(if ause { 0xa0 } else { 0x80 }, 1, &[0xee]);
        let id = rig.simple(1, &cdb, &list, 0);
        rig.release(0);
        rig.answer_of(id).good();
        rig.release(0);
        let mut rig = restart_of_broken(&rig, store);
        rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::MEDIUM_ERROR, 0x31, 0x03);
        rig.run(1, &read10(0, 8), &[], 4096).check(SenseKey::MEDIUM_ERROR, 0x31, 0x03);
        assert_eq!(sense_of(&mut rig).code.asc, 0x31);
        if ause {
            rig.run(1, &EXIT, &[], 0).good();
        } else {
            rig.run(1, &EXIT, &[], 0).invalid_field(1);
            rig.run(1, &[0x48, 0x22, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).invalid_field(1);
            rig.run(1, &BLOCK_ERASE, &[], 0).good();
        }
        rig.run(1, &TEST_UNIT_READY, &[], 0).good();
        assert_eq!(rig.records.identity().unfinished, None);
    }
}

fn restart_of_broken(rig: &Rig, store: Arc<dyn BackingStore>) -> Rig {
    let rig = restart(rig, store);
    assert!(rig.lu.identity().unfinished.is_some());
    rig
}

#[test]
fn an_interrupted_format_leaves_a_corrupted_format() {
    let store: Arc<dyn BackingStore> = Arc::new(MemoryStore::new(SIZE));
    let mut rig = Rig::with(store.clone(), &[]);
    rig.hold = true;
    let id = rig.simple(1, &[4, 0x10, 0, 0, 0, 0], &[0, 0x02, 0, 0], 0);
    rig.release(0);
    rig.answer_of(id).good();
    rig.hold = false;
    rig.run(2, &read10(0, 1), &[], 512).check(SenseKey::NOT_READY, 0x04, 0x04);
    let mut rig = restart_of_broken(&rig, store);
    rig.run(1, &read10(0, 1), &[], 512).check(SenseKey::MEDIUM_ERROR, 0x31, 0x00);
    rig.run(1, &[4, 0, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(rig.read(1, 0, 1), [0; BLOCK]);
}

#[test]
fn a_format_fills_the_medium_with_its_pattern() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(4 << 20)), &[]);
    rig.write(1, 0, &pattern(8, 1));
    rig.run(1, &[4, 0x10, 0, 0, 0, 0], &[0, 0x88, 0, 0, 0, 1, 0, 1, 0x77], 0).good();
    assert_eq!(rig.read(1, 100, 2), [0x77; 2 * BLOCK]);
    rig.run(1, &[4, 0x10, 0, 0, 0, 0], &[0, 0, 0, 8], 0).invalid_field(2);
}

#[test]
fn a_store_that_fails_leaves_the_unit_failed() {
    let (store, faults) = Failing::new(MemoryStore::new(SIZE), None);
    let mut rig = Rig::with(Arc::new(store), &[]);
    faults.add(FaultPlan::nth(AccessKind::Write, 1));
    let (cdb, list) = overwrite(0x20, 1, &[0xee]);
    rig.run(1, &cdb, &list, 0).check(SenseKey::MEDIUM_ERROR, 0x31, 0x03);
    rig.run(2, &read10(0, 8), &[], 4096).check(SenseKey::MEDIUM_ERROR, 0x31, 0x03);
    assert_eq!(rig.records.identity().unfinished, Some(Unfinished::Sanitize { unrestricted_exit: true }));
    rig.run(2, &EXIT, &[], 0).good();
    rig.run(2, &read10(0, 8), &[], 4096).good();
}

#[test]
fn a_record_that_cannot_be_kept_leaves_everything_as_it_is() {
    let mut rig = rig();
    rig.write(1, 0, &pattern(8, 1));
    *rig.records.fail.lock().unwrap() = true;
    rig.run(1, &BLOCK_ERASE, &[], 0).check(SenseKey::HARDWARE_ERROR, 0x44, 0);
    assert_eq!(rig.read(1, 0, 8), pattern(8, 1));
}

#[test]
fn cryptographic_erase_is_refused_and_said_so() {
    let mut rig = rig();
    rig.run(1, &[0x48, 0x03, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).invalid_field(1);
    let mut cdb = [0; 12];
    (cdb[0], cdb[1], cdb[2], cdb[3], cdb[5], cdb[9]) = (0xa3, 0x0c, 2, 0x48, 3, 64);
    assert_eq!(rig.run(1, &cdb, &[], 64).good()[1] & 7, 1, "not supported");
    for refused in [[0x07, 0], [0x3e, 0], [0x3f, 0]] {
        let mut cdb = [0; 10];
        cdb[..2].copy_from_slice(&refused);
        rig.run(1, &cdb[..if refused[0] == 7 { 6 } else { 10 }], &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
    }
    for opcode in [0x9e, 0x9f] {
        let mut cdb = [0; 16];
        (cdb[0], cdb[1]) = (opcode, 0x11);
        let sense = rig.run(1, &cdb, &[], 0).sense.unwrap();
        assert_eq!((sense.key, matches!(sense.code.asc, 0x20 | 0x24)), (SenseKey::ILLEGAL_REQUEST, true));
    }
}

#[test]
fn a_second_one_that_waited_for_the_first_is_not_ready() {
    let mut rig = rig();
    rig.hold = true;
    let first = rig.simple(1, &BLOCK_ERASE, &[], 0);
    let second = rig.simple(2, &BLOCK_ERASE, &[], 0);
    let third = rig.simple(3, &[4, 0, 0, 0, 0, 0], &[], 0);
    rig.release_all();
    rig.answer_of(first).good();
    rig.answer_of(second).check(SenseKey::NOT_READY, 0x04, 0x1b);
    rig.answer_of(third).check(SenseKey::NOT_READY, 0x04, 0x1b);
    assert_eq!(rig.records.identity().unfinished, None);
}

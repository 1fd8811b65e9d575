//! A store that fills up: the soft threshold of thin provisioning, and what is told when nothing is left.

mod common;

use common::*;
use lu_sbd::store::wrap::{AccessKind, Failing, FaultPlan};
use lu_sbd::store::{BackingStore, FileOptions, MemoryStore};
use scsi_core::SenseKey;
use scsi_core::vpd::{LogicalBlockProvisioning, VpdPage};
use std::sync::Arc;
use stmf::provider::StoreErrorKind;

const MIB: u32 = 1 << 20;
const BLOCKS_PER_MIB: u32 = MIB / BLOCK as u32;

/// Changes a mode page by MODE SENSE(10) and MODE SELECT(10), and clears the unit attentions of that.
fn change(rig: &mut Rig, page: u8, subpage: u8, with: impl FnOnce(&mut [u8])) {
    let mut list = rig.run(1, &[0x5a, 8, page, subpage, 0, 0, 0, 1, 0, 0], &[], 256).good();
    list[..8].fill(0);
    list[8] &= 0x7f;
    with(&mut list[8..]);
    let length = list.len() as u8;
    rig.run(1, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, length, 0], &list, 0).good();
    for nexus in [2, 3] {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 0x01);
    }
}

fn arm(rig: &mut Rig, mebibytes: u32, single: bool) {
    change(rig, 0x01, 0, |page| page[3] |= 0x80);
    change(rig, 0x1c, 2, |page| {
        page[4] = u8::from(single);
        page[16] |= 0x80;
        page[20..24].copy_from_slice(&mebibytes.to_be_bytes());
    });
}

/// Writes so many MiB from there on.
fn fill(rig: &mut Rig, from: u32, mebibytes: u32) {
    for at in from..from + mebibytes {
        let answer =
            rig.run(1, &write10(at * BLOCKS_PER_MIB, BLOCKS_PER_MIB as u16), &pattern(BLOCKS_PER_MIB as usize, 1), 0);
        if answer.status != scsi_core::Status::GOOD {
            answer.check(SenseKey::UNIT_ATTENTION, 0x38, 0x07);
        }
    }
}

fn told(rig: &mut Rig, nexus: u64) -> bool {
    let answer = rig.run(nexus, &TEST_UNIT_READY, &[], 0);
    answer.sense.is_some_and(|sense| {
        assert_eq!((sense.code.asc, sense.code.ascq), (0x38, 0x07));
        true
    })
}

#[test]
fn the_threshold_is_told_once_each_time_it_is_reached() {
    let mut rig = Rig::new();
    let page = rig.run(1, &[0x12, 1, 0xb2, 1, 0, 0], &[], 256).good();
    assert_eq!(LogicalBlockProvisioning::decode(&page).unwrap().threshold_exponent, 11, "sets of 1 MiB");
    arm(&mut rig, 16, false);
    fill(&mut rig, 0, 12);
    assert!(!told(&mut rig, 2));
    fill(&mut rig, 12, 9);
    assert!(told(&mut rig, 2) && told(&mut rig, 3));
    fill(&mut rig, 21, 9);
    assert!(!told(&mut rig, 2), "once");
    // Less, and more again.
    let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
    list.extend_from_slice(&[0; 8]);
    list.extend_from_slice(&(30 * BLOCKS_PER_MIB).to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    rig.run(1, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], &list, 0).good();
    fill(&mut rig, 0, 8);
    assert!(!told(&mut rig, 2));
    fill(&mut rig, 8, 16);
    assert!(told(&mut rig, 2));
}

#[test]
fn one_nexus_is_told_when_that_is_wanted_and_nobody_without_a_threshold() {
    let mut rig = Rig::new();
    fill(&mut rig, 0, 20);
    assert!(!told(&mut rig, 1) && !told(&mut rig, 2));
    // One that is reached already is told at once.
    arm(&mut rig, 16, true);
    let told = [told(&mut rig, 1), told(&mut rig, 2), told(&mut rig, 3)];
    assert_eq!(told, [true, false, false]);
}

#[test]
fn a_file_tells_what_it_uses() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileOptions::new().create(true).size(1 << 30).open(directory.path().join("vol1")).unwrap();
    store.write_durable_at(0, &[std::io::IoSlice::new(&vec![1; 1 << 20])]).unwrap();
    let usage = store.usage().unwrap();
    assert!((1 << 20..4 << 20).contains(&usage.used), "{usage:?}");
    assert!(usage.available.is_some());
}

#[test]
fn a_write_without_space_says_so_and_the_unit_goes_on() {
    let (store, faults) = Failing::new(MemoryStore::new(64 << 20), None);
    let mut rig = Rig::with(Arc::new(store), &[]);
    rig.write(1, 0, &pattern(8, 1));
    let full = |kind| FaultPlan { error: StoreErrorKind::NoSpace, ..FaultPlan::nth(kind, 1) };
    for cdb in [write10(0, 8).to_vec(), ten(0x2e, 2, 0, 8).to_vec(), ten(0x2a, 8, 0, 8).to_vec()] {
        faults.add(full(AccessKind::Write));
        rig.run(1, &cdb, &pattern(8, 2), 0).check(SenseKey::DATA_PROTECT, 0x27, 0x07);
    }
    faults.add(full(AccessKind::WriteZeroes));
    rig.run(1, &ten(0x41, 0, 0, 8), &[0; BLOCK], 0).check(SenseKey::DATA_PROTECT, 0x27, 0x07);
    assert_eq!(rig.read(1, 0, 8), pattern(8, 1));
    // In the middle of a long write: the whole command fails.
    faults.add(FaultPlan { error: StoreErrorKind::NoSpace, ..FaultPlan::nth(AccessKind::Write, 2) });
    let long = pattern(4096, 3);
    rig.run(1, &write10(0, 4096), &long, 0).check(SenseKey::DATA_PROTECT, 0x27, 0x07);
    rig.write(1, 0, &long);
    assert_eq!(rig.read(1, 0, 4096), long);
}

#[test]
fn a_flush_without_space_fails_the_unit_since_earlier_writes_may_be_lost() {
    let (store, faults) = Failing::new(MemoryStore::new(64 << 20), None);
    let mut rig = Rig::with(Arc::new(store), &[]);
    rig.write(1, 0, &pattern(8, 1));
    faults.add(FaultPlan { error: StoreErrorKind::NoSpace, ..FaultPlan::nth(AccessKind::Flush, 1) });
    rig.run(1, &ten(0x35, 0, 0, 0), &[], 0).check(SenseKey::DATA_PROTECT, 0x27, 0x07);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x03);
    rig.run(2, &write10(0, 8), &pattern(8, 2), 0).check(SenseKey::NOT_READY, 0x04, 0x03);
}

#[test]
fn the_log_page_tells_what_is_used_and_what_is_left() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileOptions::new().create(true).size(1 << 30).open(directory.path().join("vol1")).unwrap();
    if store.capabilities().unmap.is_none() {
        eprintln!("skipped: the file system of the temporary directory cannot punch holes");
        return;
    }
    let mut rig = Rig::with(Arc::new(store), &[]);
    let mut parameters = || {
        let page = rig.run(1, &[0x4d, 0, 0x4c, 0, 0, 0, 0, 0, 255, 0], &[], 255).good();
        rig.run(1, &write10(0, 8192), &pattern(8192, 1), 0).good();
        rig.run(1, &ten(0x35, 0, 0, 0), &[], 0).good();
        scsi_core::log::LogPage::decode(&page).unwrap().parameters
    };
    let (before, after) = (parameters(), parameters());
    assert_eq!(before.iter().map(|parameter| parameter.code).collect::<Vec<_>>(), [1, 2]);
    let used = |list: &[scsi_core::log::LogParameter]| {
        u32::from_be_bytes(*list.iter().find(|parameter| parameter.code == 2).unwrap().value.first_chunk().unwrap())
    };
    assert_eq!(used(&before), 0);
    assert!((4..8).contains(&used(&after)), "{}", used(&after));
}

//! WRITE ATOMIC: all of it or nothing, for readers, after failures, and within what page B0h tells.

mod common;

use common::*;
use lu_sbd::store::wrap::{AccessKind, Failing, FaultPlan};
use lu_sbd::store::{BackingStore, FileOptions, MemoryStore};
use scsi_core::SenseKey;
use scsi_core::vpd::{BlockLimits, VpdPage};
use std::sync::Arc;

fn cdb(lba: u64, blocks: u16, boundary: u16) -> [u8; 16] {
    let mut cdb = sixteen(0x9c, 0, lba, 0);
    cdb[10..12].copy_from_slice(&boundary.to_be_bytes());
    cdb[12..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

#[test]
fn what_the_block_limits_page_tells_is_taken_and_no_more() {
    let mut rig = Rig::new();
    let page = rig.run(1, &[0x12, 1, 0xb0, 1, 0, 0], &[], 256).good();
    let page = BlockLimits::decode(&page).unwrap();
    assert_eq!((page.max_atomic_transfer_length, page.max_atomic_boundary), (2048, 0));
    let data = pattern(2048, 1);
    rig.run(1, &cdb(3, 2048, 0), &data, 0).good();
    assert_eq!(rig.read(1, 3, 2048), data);
    rig.run(1, &cdb(0, 2049, 0), &pattern(2049, 1), 0).invalid_field(12);
    rig.run(1, &cdb(0, 8, 4), &pattern(8, 1), 0).invalid_field(10);
    rig.run(1, &cdb(131_071, 2, 0), &pattern(2, 1), 0).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    rig.run(1, &cdb(0, 0, 0), &[], 0).good();
    // Half of the data is not half of the write.
    assert!(rig.run(1, &cdb(0, 8, 0), &pattern(4, 9), 0).sense.is_some());
    assert_eq!(rig.read(1, 3, 1), data[..BLOCK]);
}

#[test]
fn a_read_sees_the_old_data_or_the_new() {
    let mut rig = Rig::new();
    rig.write(1, 0, &[1; 64 * BLOCK]);
    rig.hold = true;
    let before = rig.simple(2, &read10(32, 64), &[], 64 * BLOCK as u32);
    let write = rig.simple(1, &cdb(0, 64, 0), &[2; 64 * BLOCK], 0);
    let after = rig.simple(2, &read10(0, 64), &[], 64 * BLOCK as u32);
    assert_eq!(rig.held.len(), 1, "the write waits for the read, the other read for the write");
    rig.release(0);
    assert_eq!(rig.answer_of(before).good()[..32 * BLOCK], [1; 32 * BLOCK]);
    rig.release(0);
    rig.answer_of(write).good();
    rig.release(0);
    assert_eq!(rig.answer_of(after).good(), [2; 64 * BLOCK]);
}

#[test]
fn a_store_without_atomic_writes_makes_a_unit_without_them() {
    let (store, faults) = Failing::new(MemoryStore::new(1 << 20), None);
    let mut rig = Rig::with(Arc::new(store), &[]);
    faults.add(FaultPlan::nth(AccessKind::Write, 1));
    rig.run(1, &cdb(0, 8, 0), &pattern(8, 1), 0).check(SenseKey::MEDIUM_ERROR, 0x0c, 0);
    assert_eq!(rig.read(1, 0, 8), [0; 8 * BLOCK]);
    let overlay = lu_sbd::store::wrap::Overlay::new(MemoryStore::new(1 << 20));
    let mut rig = Rig::with(Arc::new(overlay), &[]);
    rig.run(1, &cdb(0, 8, 0), &pattern(8, 1), 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
}

#[test]
fn a_file_keeps_the_old_data_until_the_new_is_safe() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("vol1");
    let store = FileOptions::new().create(true).size(1 << 20).open(&path).unwrap();
    assert!(store.capabilities().atomic_write_bytes > 0);
    let mut rig = Rig::with(Arc::new(store), &[]);
    rig.run(1, &cdb(8, 16, 0), &pattern(16, 4), 0).good();
    assert_eq!(rig.read(1, 8, 16), pattern(16, 4));
    assert_eq!(std::fs::read(&path).unwrap()[8 * BLOCK..], pattern(16, 4));
}

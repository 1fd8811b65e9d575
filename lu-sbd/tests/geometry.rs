//! What a disk can be like: removable, of any block size, large, growing.

mod common;

use common::{Rig, TEST_UNIT_READY, identity, read10, sixteen};
use lu_sbd::meta::Identity;
use lu_sbd::properties::{CreateProperties, ModifyProperties};
use lu_sbd::store::{FileOptions, MemoryStore};
use lu_sbd::{Capabilities, Limits, Lu};
use scsi_core::data::{ReadCapacity10Data, ReadCapacity16Data};
use scsi_core::{GuidHost, SenseKey, TaskManagementFunction};
use std::path::Path;
use std::sync::Arc;
use stmf::provider::NexusLoss;

const EJECT: [u8; 6] = [0x1b, 0, 0, 0, 2, 0];
const LOAD: [u8; 6] = [0x1b, 0, 0, 0, 3, 0];
const PREVENT: [u8; 6] = [0x1e, 0, 0, 0, 1, 0];
const ALLOW: [u8; 6] = [0x1e, 0, 0, 0, 0, 0];

fn removable() -> Rig {
    Rig::with(Arc::new(MemoryStore::new(64 << 20)), &["removable=true"])
}

fn read_capacity_16(rig: &mut Rig) -> ReadCapacity16Data {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    ReadCapacity16Data::decode(&rig.run(1, &cdb, &[], 32).good()).unwrap()
}

#[test]
fn a_fixed_disk_neither_ejects_nor_prevents() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good()[1], 0);
    rig.run(1, &EJECT, &[], 0).invalid_field(4);
    rig.run(1, &PREVENT, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
}

#[test]
fn an_ejected_medium_is_missing_until_it_is_loaded_again() {
    let mut rig = removable();
    assert_eq!(rig.run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good()[1], 0x80);
    rig.write(1, 3, &[7; 512]);
    rig.run(1, &EJECT, &[], 0).good();
    for cdb in [&TEST_UNIT_READY[..], &read10(0, 1), &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]] {
        rig.run(2, cdb, &[], 512).check(SenseKey::NOT_READY, 0x3a, 2);
    }
    // What needs no medium goes on, and REQUEST SENSE tells.
    rig.run(2, &[0x1a, 0, 0x3f, 0, 255, 0], &[], 255).good();
    let sense = rig.run(2, &[3, 0, 0, 0, 18, 0], &[], 18).good();
    assert_eq!((sense[2] & 0xf, sense[12], sense[13]), (2, 0x3a, 2));
    rig.run(1, &LOAD, &[], 0).good();
    assert_eq!(rig.read(1, 3, 1), [7; 512]);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x28, 0);
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn each_nexus_prevents_for_itself_and_all_must_allow() {
    let mut rig = removable();
    rig.run(1, &PREVENT, &[], 0).good();
    rig.run(2, &PREVENT, &[], 0).good();
    rig.run(3, &EJECT, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x53, 2);
    rig.run(1, &ALLOW, &[], 0).good();
    rig.run(1, &EJECT, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x53, 2);
    rig.detach(2, NexusLoss::SessionEnded);
    rig.run(1, &EJECT, &[], 0).good();
    rig.run(3, &PREVENT, &[], 0).good();
    rig.run(1, &LOAD, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x53, 2);
}

#[test]
fn a_reset_ends_the_prevention_and_leaves_the_medium_where_it_is() {
    let mut rig = removable();
    rig.run(1, &PREVENT, &[], 0).good();
    rig.manage(2, TaskManagementFunction::LogicalUnitReset, None);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
    rig.run(2, &EJECT, &[], 0).good();
    rig.manage(2, TaskManagementFunction::LogicalUnitReset, None);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x3a, 2);
}

#[test]
fn an_administrator_ejects_and_loads_whoever_prevents() {
    let mut rig = removable();
    rig.run(1, &PREVENT, &[], 0).good();
    rig.lu.set_ejected(true).unwrap();
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x3a, 2);
    rig.lu.set_ejected(false).unwrap();
    for nexus in 1..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x28, 0);
    }
}

#[test]
fn being_removable_or_thick_travels_with_the_record() {
    let kept = identity(64 << 20, &["removable=true", "thin=false"]);
    let read = Identity::from_record(&kept.to_record()).unwrap();
    assert!(read.removable && read.thick);
    assert_eq!(read, kept);
}

#[test]
fn a_thick_unit_gives_nothing_back_and_says_so() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), &["thin=false"]);
    assert!(!read_capacity_16(&mut rig).provisioning_management);
    rig.run(1, &[0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
    let page = rig.run(1, &[0x12, 1, 0xb2, 0, 64, 0], &[], 64).good();
    assert_eq!((page[5] & 0xe0, page[6] & 7), (0, 0));
}

#[test]
fn every_block_size_reads_back_what_was_written() {
    for shift in 9..=15 {
        let size = 1u32 << shift;
        let mut rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), &[&format!("blk={size}")]);
        let capacity = read_capacity_16(&mut rig);
        assert_eq!((capacity.block_length, capacity.last_lba), (size, (64 << 20 >> shift) - 1));
        let data: Vec<u8> = (0..2 * size).map(|at| (at / 7) as u8).collect();
        rig.run(1, &sixteen(0x8a, 0, capacity.last_lba - 1, 2), &data, 0).good();
        assert_eq!(rig.run(1, &sixteen(0x88, 0, capacity.last_lba - 1, 2), &[], 2 * size).good(), data);
        rig.run(1, &sixteen(0x88, 0, capacity.last_lba, 2), &[], 2 * size).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    }
}

#[test]
fn physical_blocks_and_their_alignment_are_told_in_logical_ones() {
    let mut capabilities = Capabilities::default();
    capabilities.physical_block_bytes = 4096;
    capabilities.alignment_offset_bytes = 3584;
    let lu = Lu::new(identity(64 << 20, &[]), capabilities, Limits::default());
    let data = lu.capacity();
    assert_eq!((data.physical_exponent, data.lowest_aligned_lba), (3, 7));
    let lu = Lu::new(identity(64 << 20, &["blk=4096"]), capabilities, Limits::default());
    assert_eq!(lu.capacity().physical_exponent, 0);
}

#[test]
fn a_unit_past_two_tebibytes_is_read_at_its_end() {
    let directory = tempfile::tempdir().unwrap();
    // One block less than 8 EiB cannot be a file, whose end has to fit a signed offset on most file systems: the unit
    // is as large as the file system lets it be.
    let sizes = [(4u64 << 40), (1 << 63) - 512];
    for (number, size) in sizes.into_iter().enumerate() {
        let path = directory.path().join(format!("disk{number}"));
        std::fs::File::create(&path).unwrap();
        let store = FileOptions::new().size(size).open(&path).unwrap();
        let properties = CreateProperties { size: Some(size), ..CreateProperties::default() };
        let guid = properties.guid(GuidHost::HostId(1), 1, 1);
        let identity = properties.identity(guid, Path::new("disk"), 0).unwrap();
        let mut rig = Rig::of(identity, Arc::new(store), Limits::default());
        let last = size / 512 - 1;
        assert_eq!(read_capacity_16(&mut rig).last_lba, last);
        let ten = rig.run(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 8).good();
        assert_eq!(ReadCapacity10Data::decode(&ten).unwrap().last_lba, u32::MAX);
        assert_eq!(rig.run(1, &sixteen(0x88, 0, last, 1), &[], 512).good(), [0; 512]);
        rig.run(1, &sixteen(0x88, 0, last, 2), &[], 1024).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
        rig.run(1, &sixteen(0x88, 0, u64::MAX, 1), &[], 512).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
        // Past 2 TiB, and within what every file system takes.
        let high = (2 << 40) / 512 + 5;
        rig.run(1, &sixteen(0x8a, 0, high, 1), &[0x5a; 512], 0).good();
        assert_eq!(rig.run(1, &sixteen(0x88, 0, high, 1), &[], 512).good(), [0x5a; 512]);
        assert_eq!(rig.run(1, &sixteen(0x88, 0, high & 0xffff_ffff, 1), &[], 512).good(), [0; 512]);
        if number == 1 {
            // What the file system cannot hold is a failed write, never a lost one.
            let answer = rig.run(1, &sixteen(0x8a, 0, last, 1), &[1; 512], 0);
            assert!(answer.sense.is_none_or(|sense| sense.key != SenseKey::ILLEGAL_REQUEST));
        }
    }
}

#[test]
fn a_unit_that_grows_tells_everybody_and_takes_what_is_new() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    std::fs::File::create(&path).unwrap();
    let store = FileOptions::new().size(64 << 20).open(&path).unwrap();
    let mut rig = Rig::with(Arc::new(store), &[]);
    let last = read_capacity_16(&mut rig).last_lba;
    rig.lu.modify(&ModifyProperties { size: Some(65 << 20), ..ModifyProperties::default() }).unwrap();
    for nexus in 1..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 9);
    }
    assert_eq!(read_capacity_16(&mut rig).last_lba, last + 2048);
    rig.run(2, &sixteen(0x8a, 0, last + 2048, 1), &[3; 512], 0).good();
    assert_eq!(rig.run(1, &sixteen(0x88, 0, last + 2048, 1), &[], 512).good(), [3; 512]);
    rig.lu.modify(&ModifyProperties { size: Some(64 << 20), ..ModifyProperties::default() }).unwrap();
    rig.run(1, &read10(0, 1), &[], 512).check(SenseKey::UNIT_ATTENTION, 0x2a, 9);
    rig.run(1, &sixteen(0x88, 0, last + 1, 1), &[], 512).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
}

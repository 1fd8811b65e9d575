//! Each command of a disk against a memory store.

mod common;

use common::*;
use lu_sbd::store::{Error, MemoryStore};
use lu_sbd::{BackingStore, Limits};
use scsi_core::data::OperationCodesReport;
use scsi_core::inquiry::StandardInquiry;
use scsi_core::vpd::{
    BlockDeviceCharacteristics, BlockLimits, DeviceIdentification, ExtendedInquiry, LogicalBlockProvisioning,
    SupportedPages, UnitSerialNumber, VpdPage,
};
use scsi_core::{Designator, SenseKey, Status};
use std::io::IoSlice;
use std::sync::Arc;

const ILLEGAL: SenseKey = SenseKey::ILLEGAL_REQUEST;

#[test]
fn what_was_written_is_read_back_by_every_length_of_command() {
    let mut rig = Rig::new();
    let data = pattern(4, 1);
    rig.run(1, &[0x0a, 0, 0, 100, 4, 0], &data, 0).good();
    assert_eq!(rig.run(2, &[0x08, 0, 0, 100, 4, 0], &[], 2048).good(), data);
    let data = pattern(4, 2);
    rig.run(1, &[0xaa, 0, 0, 0, 0, 200, 0, 0, 0, 4, 0, 0], &data, 0).good();
    assert_eq!(rig.run(2, &[0xa8, 0, 0, 0, 0, 200, 0, 0, 0, 4, 0, 0], &[], 2048).good(), data);
    let data = pattern(4, 3);
    rig.run(1, &sixteen(0x8a, 0x18, 300, 4), &data, 0).good();
    assert_eq!(rig.run(2, &sixteen(0x88, 0x18, 300, 4), &[], 2048).good(), data);
    let data = pattern(4, 4);
    rig.write(1, 400, &data);
    assert_eq!(rig.read(2, 400, 4), data);
}

#[test]
fn large_transfers_arrive_whole_in_whatever_pieces_they_come() {
    for piece in [None, Some(8192), Some(65536), Some(10_000), Some(777)] {
        let mut rig = Rig::new();
        rig.backwards = piece;
        let data = pattern(6000, 5);
        let answer = rig.run(1, &write10(1000, 6000), &data, 0);
        assert_eq!(answer.data_length, data.len() as u64);
        answer.good();
        assert_eq!(rig.read(1, 1000, 6000), data);
        assert_eq!(rig.read(1, 999, 1), [0; BLOCK]);
        assert_eq!(rig.read(1, 7000, 1), [0; BLOCK]);
    }
}

#[test]
fn read6_of_no_blocks_is_256() {
    let mut rig = Rig::new();
    let data = pattern(256, 9);
    rig.write(1, 0, &data);
    assert_eq!(rig.run(1, &[0x08, 0, 0, 0, 0, 0], &[], 256 * 512).good(), data);
}

#[test]
fn ranges_past_the_end_are_refused_with_the_first_bad_block() {
    let mut rig = Rig::new();
    let last = (64 << 11) - 1;
    rig.run(1, &read10(last, 1), &[], 512).good();
    let sense = rig.run(1, &read10(last, 2), &[], 1024).check(ILLEGAL, 0x21, 0);
    assert_eq!(sense.information, Some(u64::from(last) + 1));
    rig.run(1, &read10(last + 1, 0), &[], 0).good();
    rig.run(1, &read10(last + 2, 0), &[], 0).check(ILLEGAL, 0x21, 0);
    rig.run(1, &sixteen(0x88, 0, u64::MAX, 1), &[], 512).check(ILLEGAL, 0x21, 0);
    rig.run(1, &write10(last, 2), &[0; 1024], 0).check(ILLEGAL, 0x21, 0);
    rig.run(1, &ten(0x35, 0, last, 9), &[], 0).check(ILLEGAL, 0x21, 0);
    rig.run(1, &ten(0x2f, 0, last, 9), &[], 0).check(ILLEGAL, 0x21, 0);
    rig.run(1, &ten(0x41, 0, last, 9), &[0; 512], 0).check(ILLEGAL, 0x21, 0);
}

#[test]
fn transfers_longer_than_block_limits_are_refused_at_their_length_field() {
    let limits = Limits::default();
    let mut rig = Rig::new();
    let most = limits.max_transfer_bytes / 512;
    rig.run(1, &sixteen(0x88, 0, 0, most + 1), &[], u32::MAX).invalid_field(10);
    assert_eq!(rig.run(1, &sixteen(0x88, 0, 0, most), &[], most * 512).good().len(), 32 << 20);
}

#[test]
fn an_initiator_with_less_room_or_data_gets_what_fits() {
    let mut rig = Rig::new();
    let data = pattern(2, 6);
    rig.write(1, 10, &data);
    let answer = rig.run(1, &read10(10, 2), &[], 512);
    assert_eq!((answer.data_length, answer.good()), (1024, data[..512].to_vec()));
    let answer = rig.run(1, &read10(10, 2), &[], 700);
    assert_eq!((answer.data_length, answer.good()), (1024, data[..700].to_vec()));
    let answer = rig.run(1, &write10(10, 2), &[0xaa; 700], 0);
    assert_eq!((answer.data_length, answer.status), (1024, Status::GOOD));
    assert_eq!(rig.read(1, 10, 2), [&[0xaa; 512], &data[512..]].concat());
    let answer = rig.run(1, &write10(10, 1), &[0xbb; 2048], 0);
    assert_eq!((answer.data_length, answer.status), (512, Status::GOOD));
    assert_eq!(rig.read(1, 10, 2), [&[0xbb; 512], &data[512..]].concat());
}

#[test]
fn the_store_is_asked_for_whole_blocks_only() {
    #[derive(Debug)]
    struct Strict(MemoryStore);
    impl BackingStore for Strict {
        fn capacity(&self) -> u64 {
            self.0.capacity()
        }
        fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
            assert!(offset.is_multiple_of(512) && into.len().is_multiple_of(512));
            self.0.read_at(offset, into)
        }
        fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
            let length: usize = data.iter().map(|slice| slice.len()).sum();
            assert!(offset.is_multiple_of(512) && length.is_multiple_of(512));
            self.0.write_at(offset, data)
        }
        fn flush(&self) -> Result<(), Error> {
            self.0.flush()
        }
    }
    let mut rig = Rig::with(Arc::new(Strict(MemoryStore::new(64 << 20))), &[]);
    rig.backwards = Some(1001);
    let data = pattern(1500, 3);
    rig.write(1, 5, &data);
    assert_eq!(rig.run(1, &read10(5, 1500), &[], 70_000).good(), data[..70_000]);
    assert_eq!(rig.run(1, &write10(5, 2), &[1; 700], 0).status, Status::GOOD);
}

#[test]
fn unknown_commands_and_reserved_bits_are_refused_by_name() {
    let mut rig = Rig::new();
    rig.run(1, &[0xff; 16], &[], 0).check(ILLEGAL, 0x20, 0);
    rig.run(1, &[0x07, 0, 0, 0, 0, 0], &[], 0).check(ILLEGAL, 0x20, 0);
    rig.run(1, &ten(0x28, 0x20, 0, 1), &[], 512).invalid_field(1);
    rig.run(1, &[0x00, 0, 1, 0, 0, 0], &[], 0).invalid_field(2);
}

#[test]
fn a_nexus_that_is_not_attached_meets_no_unit() {
    let mut rig = Rig::new();
    rig.run(9, &TEST_UNIT_READY, &[], 0).check(ILLEGAL, 0x25, 0);
}

#[test]
fn inquiry_tells_who_the_unit_is() {
    let store: Arc<dyn BackingStore> = Arc::new(MemoryStore::new(64 << 20));
    let mut rig = Rig::with(store, &["vid=ACME", "pid=ANVIL", "serial=0815"]);
    let inquiry = StandardInquiry::decode(&rig.run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good()).unwrap();
    assert_eq!((&inquiry.vendor[..], &inquiry.product[..]), ("ACME", "ANVIL"));
    assert_eq!(rig.run(1, &[0x12, 0, 0, 0, 36, 0], &[], 255).good().len(), 36);
    let mut page = |code| rig.run(1, &[0x12, 1, code, 1, 0, 0], &[], 256).good();
    let pages = SupportedPages::decode(&page(0)).unwrap().pages;
    assert_eq!(pages, [0x00, 0x80, 0x83, 0x86, 0x87, 0x8f, 0xb0, 0xb1, 0xb2, 0xb3, 0xb6, 0xb7]);
    for code in pages {
        assert_eq!(page(code)[1], code);
    }
    assert_eq!(UnitSerialNumber::decode(&page(0x80)).unwrap().serial, "0815");
    let names = DeviceIdentification::decode(&page(0x83)).unwrap().designators;
    assert!(names.contains(&Designator::logical_unit(rig.lu.identity().guid)));
    assert_eq!(names.len(), 4);
    rig.run(1, &[0x12, 1, 0xc7, 1, 0, 0], &[], 256).invalid_field(2);
}

#[test]
fn pages_follow_the_capabilities_of_the_store() {
    let mut rig = Rig::new();
    let mut page = |code| rig.run(1, &[0x12, 1, code, 1, 0, 0], &[], 256).good();
    let limits = BlockLimits::decode(&page(0xb0)).unwrap();
    assert_eq!((limits.max_transfer_length, limits.optimal_unmap_granularity), (65536, 8));
    assert_eq!((limits.max_unmap_descriptor_count, limits.max_compare_and_write_length), (256, 128));
    assert_eq!(BlockDeviceCharacteristics::decode(&page(0xb1)).unwrap().rotation_rate, 1);
    let thin = LogicalBlockProvisioning::decode(&page(0xb2)).unwrap();
    assert!(thin.unmap && thin.write_same_16 && thin.reads_zeros == 1);
    let extended = ExtendedInquiry::decode(&page(0x86)).unwrap();
    assert!(extended.simple && extended.ordered && extended.head_of_queue && extended.volatile_cache);
}

#[test]
fn read_capacity_tells_size_and_alignment() {
    let mut rig = Rig::new();
    let last = (64u32 << 11) - 1;
    let ten = rig.run(1, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 8).good();
    assert_eq!(ten, [last.to_be_bytes(), 512u32.to_be_bytes()].concat());
    let mut cdb = sixteen(0x9e, 0x10, 0, 32);
    let long = rig.run(1, &cdb, &[], 32).good();
    assert_eq!(long[..8], u64::from(last).to_be_bytes());
    // Eight logical blocks to a physical one, thin, reads zeros.
    assert_eq!((long[13], long[14]), (3, 0xc0));
    cdb[13] = 12;
    assert_eq!(rig.run(1, &cdb, &[], 32).good().len(), 12);
}

#[test]
fn request_sense_reports_and_clears_a_unit_attention() {
    let mut rig = Rig::new();
    rig.lu.modify(&lu_sbd::properties::ModifyProperties { size: Some(128 << 20), ..Default::default() }).unwrap();
    let sense = rig.run(1, &[0x03, 0, 0, 0, 252, 0], &[], 252).good();
    assert_eq!((sense[0], sense[2], sense[12], sense[13]), (0x70, 6, 0x2a, 9));
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
    let sense = rig.run(1, &[0x03, 1, 0, 0, 252, 0], &[], 252).good();
    assert_eq!(sense[..4], [0x72, 0, 0, 0]);
}

#[test]
fn inquiry_passes_a_unit_attention_and_leaves_it_pending() {
    let mut rig = Rig::new();
    rig.lu.modify(&lu_sbd::properties::ModifyProperties { size: Some(128 << 20), ..Default::default() }).unwrap();
    rig.run(2, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
    rig.run(2, &read10(0, 1), &[], 512).check(SenseKey::UNIT_ATTENTION, 0x2a, 9);
    rig.run(2, &read10(0, 1), &[], 512).good();
    rig.run(3, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 9);
    assert_eq!(rig.read(3, (64 << 11) + 5, 1), [0; 512]);
}

#[test]
fn verify_compares_with_data_with_one_block_or_with_nothing() {
    let mut rig = Rig::new();
    let data = pattern(3000, 7);
    rig.write(1, 0, &data);
    rig.run(1, &ten(0x2f, 0, 0, 3000), &[], 0).good();
    rig.run(1, &ten(0x2f, 2, 0, 3000), &data, 0).good();
    let mut other = data.clone();
    other[2500 * 512 + 3] ^= 1;
    let sense = rig.run(1, &ten(0x2f, 2, 0, 3000), &other, 0).check(SenseKey::MISCOMPARE, 0x1d, 0);
    assert_eq!(sense.information, Some(2500 * 512 + 3));
    rig.write(1, 0, &[[1; 512], [1; 512], [2; 512]].concat());
    rig.run(1, &ten(0x2f, 6, 0, 2), &[1; 512], 0).good();
    rig.run(1, &ten(0x2f, 6, 0, 3), &[1; 512], 0).check(SenseKey::MISCOMPARE, 0x1d, 0);
    rig.run(1, &sixteen(0x8f, 2, 2, 1), &[2; 512], 0).good();
    rig.run(1, &[0xaf, 2, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0], &[2; 512], 0).good();
}

#[test]
fn write_and_verify_writes() {
    let mut rig = Rig::new();
    let data = pattern(5, 8);
    for (flags, lba) in [(0, 0), (2, 100)] {
        rig.run(1, &ten(0x2e, flags, lba, 5), &data, 0).good();
        assert_eq!(rig.read(1, lba, 5), data);
    }
    rig.run(1, &sixteen(0x8e, 2, 200, 5), &data, 0).good();
    assert_eq!(rig.read(1, 200, 5), data);
}

#[test]
fn write_same_repeats_a_block_or_deallocates() {
    let store = Arc::new(MemoryStore::new(512 << 20));
    let mut rig = Rig::with(Arc::clone(&store) as _, &[]);
    rig.run(1, &ten(0x41, 0, 8, 16), &[5; 512], 0).good();
    assert_eq!(rig.read(1, 7, 18), [vec![0; 512], vec![5; 16 * 512], vec![0; 512]].concat());
    let allocated = store.allocated();
    rig.run(1, &sixteen(0x93, 0x08, 8, 16), &[0; 512], 0).good();
    assert_eq!(rig.read(1, 8, 16), [0; 16 * 512]);
    assert!(store.allocated() < allocated);
    rig.write(1, 8, &[6; 512]);
    let answer = rig.run(1, &sixteen(0x93, 0x01, 8, 1), &[], 0);
    assert_eq!(answer.data_length, 0);
    answer.good();
    assert_eq!(rig.read(1, 8, 1), [0; 512]);
    // 300 MiB in several pieces.
    rig.run(1, &sixteen(0x93, 0, 0, 600 << 10), &[3; 512], 0).good();
    assert_eq!(rig.read(1, (600 << 10) - 1, 2), [[3; 512], [0; 512]].concat());
    rig.run(1, &ten(0x41, 0, 0, 0), &[0; 512], 0).invalid_field(7);
    rig.run(1, &ten(0x41, 0, 0, 1), &[0; 256], 0).check(ILLEGAL, 0x0e, 3);
    rig.run(1, &ten(0x41, 0, 0, 1), &[0; 1024], 0).check(ILLEGAL, 0x0e, 3);
    rig.run(1, &sixteen(0x93, 0x10, 0, 1), &[0; 512], 0).invalid_field(1);
}

fn unmap(descriptors: &[(u64, u32)]) -> Vec<u8> {
    let length = 16 * descriptors.len() as u16;
    let mut list = (length + 6).to_be_bytes().to_vec();
    list.extend_from_slice(&length.to_be_bytes());
    list.extend_from_slice(&[0; 4]);
    for (lba, blocks) in descriptors {
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&blocks.to_be_bytes());
        list.extend_from_slice(&[0; 4]);
    }
    list
}

#[test]
fn unmap_frees_all_its_ranges_or_none() {
    let store = Arc::new(MemoryStore::new(64 << 20));
    let mut rig = Rig::with(Arc::clone(&store) as _, &[]);
    let cdb = |list: &[u8]| ten(0x42, 0, 0, list.len() as u16);
    rig.write(1, 0, &pattern(64, 1));
    let before = store.allocated();
    let list = unmap(&[(0, 8), (60 << 20, 1)]);
    rig.run(1, &cdb(&list), &list, 0).check(ILLEGAL, 0x21, 0);
    assert_eq!(store.allocated(), before);
    let list = unmap(&[(0, 8), (16, 8), (40, 0)]);
    rig.run(1, &cdb(&list), &list, 0).good();
    assert_eq!(store.allocated(), before - 8192);
    assert_eq!(rig.read(1, 0, 8), [0; 4096]);
    rig.run(1, &ten(0x42, 0, 0, 0), &[], 0).good();
    rig.run(1, &ten(0x42, 0, 0, 7), &[0; 7], 0).check(ILLEGAL, 0x1a, 0);
    let many = vec![(0, 64 << 11); 17];
    let list = unmap(&many);
    rig.run(1, &cdb(&list), &list, 0).check(ILLEGAL, 0x26, 0);
    let list = unmap(&[(0, 1); 257]);
    rig.run(1, &cdb(&list), &list, 0).check(ILLEGAL, 0x26, 0);
    rig.write(1, 0, &[1; 512]);
    let mut list = unmap(&[(0, 8)]);
    list.truncate(20);
    rig.run(1, &cdb(&list), &list, 0).good();
    assert_eq!(rig.read(1, 0, 1), [1; 512], "a cut descriptor is not looked at");
}

#[test]
fn get_lba_status_shows_what_is_mapped() {
    let mut rig = Rig::new();
    rig.write(1, 8, &pattern(16, 1));
    let data = rig.run(1, &sixteen(0x9e, 0x12, 0, 8 + 3 * 16), &[], 256).good();
    let descriptor = |at: usize| {
        let bytes = &data[8 + 16 * at..];
        let lba = u64::from_be_bytes(*bytes.first_chunk().unwrap());
        (lba, u32::from_be_bytes(*bytes[8..].first_chunk().unwrap()), bytes[12])
    };
    assert_eq!(data.len(), 56);
    assert_eq!((descriptor(0), descriptor(1)), ((0, 8, 1), (8, 16, 0)));
    assert_eq!(descriptor(2), (24, (64 << 11) - 24, 1));
    rig.run(1, &sixteen(0x9e, 0x12, 64 << 11, 56), &[], 256).check(ILLEGAL, 0x21, 0);
}

#[test]
fn compare_and_write_writes_only_what_compares_equal() {
    let mut rig = Rig::new();
    let (old, new) = (pattern(2, 1), pattern(2, 2));
    rig.write(1, 50, &old);
    let mut cdb = sixteen(0x89, 0, 50, 0);
    cdb[13] = 2;
    let answer = rig.run(1, &cdb, &[&old[..], &new].concat(), 0);
    assert_eq!(answer.data_length, 2048);
    answer.good();
    assert_eq!(rig.read(1, 50, 2), new);
    let sense = rig.run(2, &cdb, &[&old[..], &old].concat(), 0).check(SenseKey::MISCOMPARE, 0x1d, 0);
    assert_eq!(sense.information, Some(0));
    assert_eq!(rig.read(1, 50, 2), new);
    rig.run(2, &cdb, &old, 0).invalid_field(13);
    rig.run(2, &cdb, &[0; 6 * 512], 0).invalid_field(13);
    cdb[13] = 129;
    rig.run(2, &cdb, &[0; 129 * 1024], 0).invalid_field(13);
    cdb[13] = 0;
    rig.run(2, &cdb, &[], 0).good();
    rig.run(2, &cdb, &[0; 1024], 0).invalid_field(13);
}

#[test]
fn orwrite_sets_bits_and_clears_none() {
    let mut rig = Rig::new();
    let old = pattern(300, 1);
    rig.write(1, 40, &old);
    let answer = rig.run(1, &sixteen(0x8b, 0x08, 40, 300), &[0x0f; 300 * 512], 0);
    assert_eq!(answer.data_length, 300 * 512);
    answer.good();
    assert_eq!(rig.read(1, 40, 300), old.iter().map(|byte| byte | 0x0f).collect::<Vec<u8>>());
    rig.run(1, &sixteen(0x8b, 0, 40, 0), &[], 0).good();
    rig.run(1, &sixteen(0x8b, 0, 40, 2), &[1; 512], 0).check(ILLEGAL, 0x0e, 3);
}

#[test]
fn there_are_no_defects_to_tell_of() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(1, &[0x37, 0, 0x18, 0, 0, 0, 0, 0, 64, 0], &[], 64).good(), [0, 0x18, 0, 0]);
    assert_eq!(rig.run(1, &[0xb7, 0x18, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], 64).good(), [0, 0x18, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn cache_and_prefetch_commands_end_well() {
    let mut rig = Rig::new();
    rig.run(1, &ten(0x35, 0, 0, 0), &[], 0).good();
    rig.run(1, &ten(0x35, 2, 0, 8), &[], 0).good();
    rig.run(1, &sixteen(0x91, 0, 0, 0), &[], 0).good();
    rig.run(1, &ten(0x34, 0, 0, 8), &[], 0).good();
    rig.run(1, &sixteen(0x90, 2, 0, 0), &[], 0).good();
    rig.run(1, &[0x1b, 0, 0, 0, 0, 0], &[], 0).good();
    rig.run(1, &[0x1b, 1, 0, 0, 1, 0], &[], 0).good();
    rig.run(1, &[0x1b, 0, 0, 0, 2, 0], &[], 0).invalid_field(4);
    rig.run(1, &[0x1b, 0, 0, 0, 0x20, 0], &[], 0).invalid_field(4);
    rig.run(1, &read10(0, 1), &[], 512).good();
}

#[test]
fn mode_pages_can_be_read_changed_and_saved() {
    let mut rig = Rig::new();
    let sense = |rig: &mut Rig, control: u8, page: u8| rig.run(1, &[0x1a, 8, control << 6 | page, 0, 255, 0], &[], 255);
    let caching = sense(&mut rig, 0, 8).good();
    // DPOFUA, and WCE is on.
    assert_eq!((caching[2], caching[4] & 0x3f, caching[6] & 4), (0x10, 8, 4));
    assert_eq!(sense(&mut rig, 1, 8).good()[6], 4);
    assert!(sense(&mut rig, 0, 0x3f).good().len() > 60);
    sense(&mut rig, 0, 0x2f).invalid_field(2);

    let mut list = caching.clone();
    (list[0], list[2]) = (0, 0);
    list[4] &= 0x7f;
    list[6] &= !4;
    let select = [0x15, 0x11, 0, 0, list.len() as u8, 0];
    rig.run(1, &select, &list, 0).good();
    assert_eq!(sense(&mut rig, 0, 8).good()[6] & 4, 0);
    assert!(!rig.lu.snapshot().write_cache_enabled);
    assert_eq!(rig.records.identity().mode_pages[0].page, 8);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();

    list[6] |= 0x10;
    rig.run(1, &select, &list, 0).invalid_field(6);
}

#[test]
fn a_mode_page_that_cannot_be_kept_does_not_change() {
    let mut rig = Rig::new();
    *rig.records.fail.lock().unwrap() = true;
    let mut list = rig.run(1, &[0x1a, 8, 8, 0, 255, 0], &[], 255).good();
    (list[0], list[2]) = (0, 0);
    list[4] &= 0x7f;
    list[6] &= !4;
    rig.run(1, &[0x15, 0x11, 0, 0, list.len() as u8, 0], &list, 0).check(SenseKey::HARDWARE_ERROR, 0x44, 0);
    assert!(rig.lu.snapshot().write_cache_enabled);
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
    // Without SP nothing needs to be kept.
    rig.run(1, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list, 0).good();
    assert!(!rig.lu.snapshot().write_cache_enabled);
}

#[test]
fn software_write_protect_and_descriptor_sense_work() {
    let mut rig = Rig::new();
    let mut list = rig.run(1, &[0x5a, 8, 0x0a, 0, 0, 0, 0, 0, 255, 0], &[], 255).good();
    (list[0], list[1], list[3]) = (0, 0, 0);
    list[8] &= 0x7f;
    list[10] |= 4;
    list[12] |= 8;
    rig.run(1, &[0x55, 0x10, 0, 0, 0, 0, 0, 0, list.len() as u8, 0], &list, 0).good();
    rig.run(1, &write10(0, 1), &[0; 512], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    rig.run(1, &ten(0x42, 0, 0, 0), &[], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    rig.read(1, 0, 1);
    let header = rig.run(1, &[0x1a, 8, 8, 0, 4, 0], &[], 255).good();
    assert_eq!(header[2] & 0x80, 0x80);
    // A reset brings the saved values back.
    rig.manage(1, scsi_core::TaskManagementFunction::LogicalUnitReset, None);
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
    rig.write(1, 0, &[1; 512]);
}

#[test]
fn an_administrators_write_protection_is_felt_and_told() {
    let mut rig = Rig::new();
    let protect = |on| lu_sbd::properties::ModifyProperties { write_protect: Some(on), ..Default::default() };
    rig.lu.modify(&protect(true)).unwrap();
    rig.run(1, &write10(0, 1), &[0; 512], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    rig.run(1, &write10(0, 1), &[0; 512], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    assert!(rig.records.identity().write_protect);
    rig.lu.modify(&protect(false)).unwrap();
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    rig.write(1, 0, &[0; 512]);
}

#[test]
fn a_change_that_cannot_be_kept_is_refused_whole() {
    let mut rig = Rig::new();
    *rig.records.fail.lock().unwrap() = true;
    let change = lu_sbd::properties::ModifyProperties { size: Some(128 << 20), ..Default::default() };
    assert!(rig.lu.modify(&change).is_err());
    assert_eq!(rig.lu.identity().size, 64 << 20);
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn supported_commands_and_functions_are_told() {
    let mut rig = Rig::new();
    let mut all = sixteen(0, 0, 0, 0)[..12].to_vec();
    (all[0], all[1], all[8]) = (0xa3, 0x0c, 0x10);
    let report = OperationCodesReport::decode(&rig.run(1, &all, &[], 4096).good()).unwrap();
    assert!(report.commands.contains(&(0x28, None)) && report.commands.contains(&(0x9e, Some(0x12))));
    assert!(report.commands.contains(&(0x04, None)) && !report.commands.contains(&(0x07, None)));
    (all[2], all[3]) = (1, 0x28);
    assert_eq!(rig.run(1, &all, &[], 4096).good()[..4], [0, 3, 0, 10]);
    let functions = rig.run(1, &[0xa3, 0x0d, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0], &[], 4).good();
    assert_eq!(functions, [0b1111_1100, 0b0000_0111, 0, 0]);
}

#[test]
fn blocks_of_4096_bytes_work_throughout() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), &["blk=4096"]);
    let data: Vec<u8> = (0..3 * 4096).map(|at| (at % 255) as u8).collect();
    rig.run(1, &write10(3, 3), &data, 0).good();
    assert_eq!(rig.run(1, &read10(3, 3), &[], 12288).good(), data);
    let capacity = rig.run(1, &sixteen(0x9e, 0x10, 0, 32), &[], 32).good();
    assert_eq!((capacity[7], capacity[6], capacity[11], capacity[10], capacity[13]), (0xff, 0x3f, 0, 0x10, 0));
    rig.run(1, &ten(0x41, 0, 3, 2), &[0; 4096], 0).good();
    assert_eq!(rig.run(1, &read10(3, 3), &[], 12288).good()[8192..], data[8192..]);
    rig.run(1, &read10(16384, 1), &[], 4096).check(ILLEGAL, 0x21, 0);
}

//! Vital product data, mode and log pages, diagnostics, identifying information, timestamp.

mod common;

use common::{BLOCK, Records, Rig, TEST_UNIT_READY, identity, nexus, ten};
use lu_sbd::store::MemoryStore;
use lu_sbd::store::wrap::{AccessKind, Failing, FaultPlan};
use lu_sbd::{Limits, SbdLu};
use scsi_core::data::{IdentifyingInformation, Timestamp, TimestampOrigin};
use scsi_core::log::{LogPage, LogPageId, LogParameter};
use scsi_core::{SenseKey, TaskManagementFunction};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stmf::provider::LogicalUnit;

fn inquiry(rig: &mut Rig, page: u8) -> Vec<u8> {
    rig.run(1, &[0x12, 1, page, 0x10, 0, 0], &[], 0x1000).good()
}

fn log_sense(nexus: u64, rig: &mut Rig, page: u8) -> LogPage {
    LogPage::decode(&rig.run(nexus, &ten(0x4d, 0, 0x4000_0000 | u32::from(page) << 24, 0x2000), &[], 0x2000).good())
        .unwrap()
}

fn counter(page: &LogPage, code: u16) -> u64 {
    let parameter = page.parameters.iter().find(|parameter| parameter.code == code).unwrap();
    u64::from_be_bytes(parameter.value[..8].try_into().unwrap())
}

/// Field `index` of the general access statistics.
fn general(page: &LogPage, index: usize) -> u64 {
    u64::from_be_bytes(page.parameters[0].value[8 * index..8 * index + 8].try_into().unwrap())
}

fn mode_sense(rig: &mut Rig, control: u8, page: u8, subpage: u8) -> Vec<u8> {
    rig.run(1, &[0x1a, 8, control << 6 | page, subpage, 255, 0], &[], 255).good()
}

/// MODE SELECT(6) of one page as MODE SENSE gave it, changed by `change`.
fn mode_select(rig: &mut Rig, nexus: u64, save: bool, page: u8, change: impl FnOnce(&mut [u8])) {
    let mut list = mode_sense(rig, 0, page, 0);
    list[..4].fill(0);
    list[4] &= 0x7f;
    change(&mut list[4..]);
    let cdb = [0x15, 0x10 | u8::from(save), 0, 0, list.len() as u8, 0];
    rig.run(nexus, &cdb, &list, 0).good();
}

#[test]
fn every_listed_vital_product_data_page_is_there_and_no_other() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), &["mgmt-url=http://a"]);
    let listed = inquiry(&mut rig, 0)[4..].to_vec();
    assert!(listed.is_sorted());
    for page in [0x00, 0x80, 0x83, 0x85, 0x86, 0x87, 0xb0, 0xb1, 0xb2, 0xb3, 0xb6, 0xb7] {
        assert!(listed.contains(&page), "{page:02x}");
    }
    for page in 0..=255 {
        let answer = rig.run(1, &[0x12, 1, page, 0x10, 0, 0], &[], 0x1000);
        if listed.contains(&page) {
            let data = answer.good();
            assert_eq!(data[1], page);
            assert_eq!(usize::from(u16::from_be_bytes([data[2], data[3]])), data.len() - 4);
        } else {
            answer.invalid_field(2);
        }
    }
}

#[test]
fn every_mode_page_has_current_changeable_default_and_saved_values() {
    let mut rig = Rig::new();
    for (page, subpage) in [(1, 0), (2, 0), (7, 0), (8, 0), (0xa, 0), (0xa, 1), (0x1a, 0), (0x1c, 0)] {
        let [current, changeable, default, saved] =
            [0, 1, 2, 3].map(|control| mode_sense(&mut rig, control, page, subpage)[4..].to_vec());
        assert_eq!(current[0] & 0x3f, page);
        assert_eq!([changeable.len(), default.len(), saved.len()], [current.len(); 3], "{page:02x}");
        assert_eq!((&current, &default), (&default, &saved), "{page:02x}");
    }
}

#[test]
fn all_pages_and_subpages_come_with_the_wildcards() {
    let mut rig = Rig::new();
    let pages = |data: &[u8]| {
        let (mut at, mut pages) = (4, Vec::new());
        while at < data.len() {
            let long = data[at] & 0x40 != 0;
            pages.push((data[at] & 0x3f, if long { data[at + 1] } else { 0 }));
            at += if long {
                4 + usize::from(u16::from_be_bytes([data[at + 2], data[at + 3]]))
            } else {
                2 + usize::from(data[at + 1])
            };
        }
        pages
    };
    let plain = pages(&mode_sense(&mut rig, 0, 0x3f, 0));
    assert!(plain.iter().all(|(_, subpage)| *subpage == 0));
    let all = pages(&mode_sense(&mut rig, 0, 0x3f, 0xff));
    assert!(all.contains(&(0xa, 1)) && plain.iter().all(|page| all.contains(page)));
    rig.run(1, &[0x1a, 0, 0x33, 0, 255, 0], &[], 255).invalid_field(2);
}

#[test]
fn software_write_protection_protects_and_is_saved() {
    let mut rig = Rig::new();
    mode_select(&mut rig, 1, true, 0xa, |page| page[4] |= 8);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    rig.run(1, &ten(0x2a, 0, 0, 1), &[0; BLOCK], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    assert_eq!(mode_sense(&mut rig, 0, 0x3f, 0)[2] & 0x80, 0x80);
    // A reset goes back to what is saved, which is the same.
    rig.manage(1, TaskManagementFunction::LogicalUnitReset, None);
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
    rig.run(1, &ten(0x2a, 0, 0, 1), &[0; BLOCK], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    let saved = rig.records.identity();
    let again = Rig::of(saved, Arc::new(MemoryStore::new(64 << 20)), Limits::default());
    let mut rig = again;
    rig.run(1, &ten(0x2a, 0, 0, 1), &[0; BLOCK], 0).check(SenseKey::DATA_PROTECT, 0x27, 0);
    mode_select(&mut rig, 1, false, 0xa, |page| page[4] &= !8);
    rig.write(1, 0, &[1; BLOCK]);
}

#[test]
fn descriptor_format_sense_is_given_when_d_sense_is_set() {
    let mut rig = Rig::new();
    mode_select(&mut rig, 1, false, 0xa, |page| page[2] |= 4);
    let answer = rig.run(1, &ten(0x28, 0, u32::MAX, 1), &[], BLOCK as u32);
    let sense = answer.check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    assert!(sense.information.is_some());
    let data = rig.run(1, &[3, 0, 0, 0, 252, 0], &[], 252).good();
    assert_eq!(data[0] & 0x7f, 0x70, "REQUEST SENSE goes by its own DESC bit");
    let data = rig.run(1, &[3, 1, 0, 0, 252, 0], &[], 252).good();
    assert_eq!(data[0] & 0x7f, 0x72);
}

#[test]
fn log_pages_are_listed_and_each_can_be_read() {
    let mut rig = Rig::new();
    let listed = rig.run(1, &ten(0x4d, 0, 0x4000_0000, 255), &[], 255).good();
    let listed = &listed[4..];
    for page in [0x00, 0x02, 0x03, 0x05, 0x0c, 0x0f, 0x10, 0x18, 0x19, 0x2f] {
        assert!(listed.contains(&page), "{page:02x}");
    }
    for page in 0..0x40u8 {
        let answer = rig.run(1, &ten(0x4d, 0, 0x4000_0000 | u32::from(page) << 24, 0x2000), &[], 0x8000);
        if listed.contains(&page) {
            assert_eq!(answer.good()[0] & 0x3f, page);
        } else {
            answer.invalid_field(2);
        }
    }
    let with_subpages = rig.run(1, &ten(0x4d, 0, 0x40ff_0000, 255), &[], 255).good();
    assert_eq!(with_subpages[..2], [0x40, 0xff]);
}

#[test]
fn counters_count_what_was_moved_and_log_select_zeroes_them() {
    let mut rig = Rig::new();
    rig.write(1, 0, &[1; 4 * BLOCK]);
    rig.read(1, 0, 8);
    rig.read(2, 0, 1);
    rig.run(1, &ten(0x2f, 0, 0, 16), &[], 0).good();
    assert_eq!(counter(&log_sense(1, &mut rig, 2), 5), 4 * BLOCK as u64);
    assert_eq!(counter(&log_sense(1, &mut rig, 3), 5), 9 * BLOCK as u64);
    assert_eq!(counter(&log_sense(1, &mut rig, 5), 5), 16 * BLOCK as u64);
    let page = log_sense(1, &mut rig, 0x19);
    assert_eq!([0, 1, 2, 3].map(|index| general(&page, index)), [2, 1, 4, 9]);
    // One page, then all of them; others are told.
    rig.run(1, &ten(0x4c, 2, 0x4300_0000, 0), &[], 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 2);
    assert_eq!(counter(&log_sense(1, &mut rig, 3), 5), 0);
    assert_eq!(counter(&log_sense(1, &mut rig, 2), 5), 4 * BLOCK as u64);
    rig.run(1, &ten(0x4c, 2, 0x4000_0000, 0), &[], 0).good();
    assert_eq!(counter(&log_sense(1, &mut rig, 2), 5), 0);
    assert_eq!(rig.lu.snapshot().statistics.written_bytes, 4 * BLOCK as u64, "administrators' numbers go on");
}

#[test]
fn failed_operations_are_counted_by_what_they_were_for() {
    let (store, faults) = Failing::new(MemoryStore::new(64 << 20), None);
    let mut rig = Rig::with(Arc::new(store), &[]);
    faults.add(FaultPlan::nth(AccessKind::Read, 1));
    rig.run(1, &ten(0x28, 0, 5, 1), &[], BLOCK as u32).check(SenseKey::MEDIUM_ERROR, 0x11, 0);
    faults.add(FaultPlan::nth(AccessKind::Write, 1));
    rig.run(1, &ten(0x2a, 0, 5, 1), &[0; BLOCK], 0).check(SenseKey::MEDIUM_ERROR, 0x0c, 0);
    assert_eq!(counter(&log_sense(1, &mut rig, 3), 6), 1);
    assert_eq!(counter(&log_sense(1, &mut rig, 2), 6), 1);
    assert_eq!(counter(&log_sense(1, &mut rig, 5), 6), 0);
    // The same for a self-test, which fails with what it found.
    faults.add(FaultPlan::nth(AccessKind::Read, 1));
    rig.run(1, &[0x1d, 4, 0, 0, 0, 0], &[], 0).check(SenseKey::HARDWARE_ERROR, 0x3e, 3);
    let results = log_sense(1, &mut rig, 0x10);
    assert_eq!((results.parameters[0].value[0], results.parameters[0].value[12]), (4, 4));
}

#[test]
fn application_clients_keep_notes_that_others_read() {
    let mut rig = Rig::new();
    let parameter = LogParameter::list(5, b"backup of monday".to_vec());
    let page = LogPage { id: LogPageId::APPLICATION_CLIENT, parameters: vec![parameter] };
    let mut list = page.encode();
    list[0] &= 0x3f;
    rig.run(1, &ten(0x4c, 0, 0x4000_0000, list.len() as u16), &list, 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 2);
    let page = log_sense(2, &mut rig, 0x0f);
    assert!(page.parameters[5].value.starts_with(b"backup of monday\0"));
    // A counter cannot be set.
    rig.run(1, &ten(0x4c, 0, 0x4000_0000, 4), &[2, 0, 0, 0], 0).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
}

#[test]
fn self_tests_run_and_leave_their_results() {
    let mut rig = Rig::new();
    rig.run(1, &[0x1d, 4, 0, 0, 0, 0], &[], 0).good();
    for code in [1, 2, 5, 6] {
        rig.run(1, &[0x1d, code << 5, 0, 0, 0, 0], &[], 0).good();
    }
    let results = log_sense(1, &mut rig, 0x10);
    let codes: Vec<u8> = results.parameters[..5].iter().map(|parameter| parameter.value[0]).collect();
    assert_eq!(codes, [6 << 5, 5 << 5, 2 << 5, 1 << 5, 0]);
    // Nothing runs in the background that could be stopped.
    rig.run(1, &[0x1d, 4 << 5, 0, 0, 0, 0], &[], 0).invalid_field(1);
    rig.run(1, &[0x1d, 3 << 5, 0, 0, 0, 0], &[], 0).invalid_field(1);
}

#[test]
fn a_self_test_in_the_background_can_be_stopped() {
    let mut rig = Rig::new();
    rig.hold = true;
    rig.run(1, &[0x1d, 1 << 5, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(log_sense(1, &mut rig, 0x10).parameters[0].value[0], 1 << 5 | 0xf);
    rig.run(1, &[0x1d, 2 << 5, 0, 0, 0, 0], &[], 0).check(SenseKey::NOT_READY, 4, 9);
    rig.run(1, &[0x1d, 4 << 5, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(log_sense(1, &mut rig, 0x10).parameters[0].value[0], 1 << 5 | 1);
    rig.release_all();
    assert_eq!(log_sense(1, &mut rig, 0x10).parameters[0].value[0], 1 << 5 | 1, "its late end changes nothing");
}

#[test]
fn diagnostic_pages_are_asked_for_both_ways() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(1, &[0x1c, 1, 0, 0, 255, 0], &[], 255).good(), [0, 0, 0, 1, 0]);
    rig.run(1, &[0x1d, 0x10, 0, 0, 4, 0], &[0, 0, 0, 0], 0).good();
    assert_eq!(rig.run(1, &[0x1c, 0, 0, 0, 255, 0], &[], 255).good(), [0, 0, 0, 1, 0]);
    rig.run(1, &[0x1c, 1, 0x40, 0, 255, 0], &[], 255).invalid_field(2);
    rig.run(1, &[0x1d, 0x10, 0, 0, 4, 0], &[0x40, 0, 0, 0], 0).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
    rig.run(1, &[0x1d, 0, 0, 0, 4, 0], &[0; 4], 0).invalid_field(1);
}

fn report_information(rig: &mut Rig, kind: u8) -> Vec<u8> {
    let cdb = [0xa3, 5, 0, 0, 0, 0, 0, 0, 2, 4, kind << 1, 0];
    rig.run(2, &cdb, &[], 516).good()
}

#[test]
fn identifying_information_is_kept_with_the_unit() {
    let mut rig = Rig::new();
    assert_eq!(report_information(&mut rig, 0), [0; 4]);
    let set = |kind: u8, length: u8| [0xa4, 6, 0, 0, 0, 0, 0, 0, 0, length, kind << 1, 0];
    rig.run(1, &set(0, 3), &[1, 2, 3], 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x3f, 5);
    rig.run(1, &set(2, 5), b"disk\0", 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x3f, 5);
    let read = |rig: &mut Rig, kind| IdentifyingInformation::decode(&report_information(rig, kind)).unwrap().bytes;
    assert_eq!(read(&mut rig, 0), [1, 2, 3]);
    assert_eq!(read(&mut rig, 2), b"disk\0");
    assert_eq!(report_information(&mut rig, 0x7f), IdentifyingInformation::encode_supported());
    rig.lu.modify(&lu_sbd::properties::ModifyProperties { alias: Some("x".into()), ..Default::default() }).unwrap();
    let kept = rig.records.identity();
    assert_eq!((kept.device_information, kept.text_information.as_str()), (vec![1, 2, 3], "disk"));
    rig.run(1, &set(1, 3), &[1, 2, 3], 0).invalid_field(10);
    rig.run(1, &set(2, 3), b"abc", 0).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
    rig.run(1, &[0xa3, 5, 0, 0, 0, 0, 0, 0, 2, 4, 3 << 1, 0], &[], 516).invalid_field(10);
}

#[test]
fn a_record_that_cannot_be_written_leaves_the_information_as_it_was() {
    let mut rig = Rig::new();
    *rig.records.fail.lock().unwrap() = true;
    let cdb = [0xa4, 6, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0];
    rig.run(1, &cdb, &[9], 0).check(SenseKey::HARDWARE_ERROR, 0x44, 0);
    assert_eq!(report_information(&mut rig, 0), [0; 4]);
}

fn timestamp(rig: &mut Rig) -> Timestamp {
    Timestamp::decode(&rig.run(2, &[0xa3, 0xf, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &[], 12).good()).unwrap()
}

/// A rig whose clock stands where the number says.
fn with_clock() -> (Rig, Arc<AtomicU64>) {
    let now = Arc::new(AtomicU64::new(1_000_000_000));
    let mut rig = Rig::new();
    let records = Arc::new(Records::default());
    let clock = Arc::clone(&now);
    let store = Arc::new(MemoryStore::new(64 << 20));
    let lu = SbdLu::new(identity(64 << 20, &[]), store, records, Limits::default());
    rig.lu = Arc::new(lu.with_clock(Box::new(move || clock.load(Ordering::Relaxed))));
    for number in 1..=3 {
        rig.lu.attach(&nexus(number));
        rig.run(number, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 0);
    }
    (rig, now)
}

#[test]
fn the_timestamp_is_the_hosts_until_it_is_set() {
    let (mut rig, now) = with_clock();
    assert_eq!(timestamp(&mut rig), Timestamp { origin: TimestampOrigin::DeviceClock, milliseconds: 1_000_000 });
    let mut list = [0; 12];
    list[4..10].copy_from_slice(&5_000u64.to_be_bytes()[2..]);
    rig.run(1, &[0xa4, 0xf, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &list, 0).good();
    now.fetch_add(7_000_000, Ordering::Relaxed);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 0x10);
    assert_eq!(timestamp(&mut rig), Timestamp { origin: TimestampOrigin::Set, milliseconds: 12_000 });
    rig.run(1, &[0xa4, 0xf, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0], &[0; 5], 0).check(SenseKey::ILLEGAL_REQUEST, 0x1a, 0);
    let mut without = Rig::new();
    assert_eq!(timestamp(&mut without).origin, TimestampOrigin::SincePowerOn);
}

#[test]
fn times_of_commands_and_of_idleness_are_by_the_clock() {
    let (mut rig, now) = with_clock();
    rig.run(1, &ten(0x4c, 2, 0x4000_0000, 0), &[], 0).good();
    for nexus in [2, 3] {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 2);
    }
    rig.hold = true;
    let read = rig.simple(1, &ten(0x28, 0, 0, 1), &[], BLOCK as u32);
    now.fetch_add(300, Ordering::Relaxed);
    let write = rig.simple(1, &ten(0x2a, 0, 8, 1), &[0; BLOCK], 0);
    now.fetch_add(500, Ordering::Relaxed);
    rig.release_all();
    rig.answer_of(read).good();
    rig.answer_of(write).good();
    now.fetch_add(40, Ordering::Relaxed);
    let page = log_sense(1, &mut rig, 0x19);
    assert_eq!([4, 5].map(|index| general(&page, index)), [800, 500]);
    assert_eq!([6, 7].map(|index| general(&page, index)), [1 + 2, 2 * 800 + 500]);
    assert_eq!(counter(&page, 2), 40);
}

#[test]
fn supported_operation_codes_come_with_usage_bitmaps_and_timeouts() {
    let mut rig = Rig::new();
    let all = rig.run(1, &[0xa3, 0xc, 0x80, 0, 0, 0, 0, 0, 0x40, 0, 0, 0], &[], 0x4000).good();
    assert_eq!(u32::from_be_bytes(all[..4].try_into().unwrap()) as usize, all.len() - 4);
    assert_eq!((all.len() - 4) % 20, 0);
    for descriptor in all[4..].chunks_exact(20) {
        assert_eq!(descriptor[5] & 2, 2);
        assert_eq!(descriptor[8..10], [0, 10]);
        let options = if descriptor[5] & 1 == 1 { 2 } else { 1 };
        let mut cdb = [0xa3, 0xc, 0x80 | options, descriptor[0], descriptor[2], descriptor[3], 0, 0, 1, 0, 0, 0];
        let one = rig.run(1, &cdb, &[], 256).good();
        assert_eq!(one[1], 0x83, "{:02x}", descriptor[0]);
        assert_eq!(u16::from_be_bytes([one[2], one[3]]), u16::from(descriptor[7]));
        assert_eq!(one[4], descriptor[0]);
        assert_eq!(one.len(), 4 + usize::from(descriptor[7]) + 12);
        cdb[2] = 3;
        assert_eq!(rig.run(1, &cdb, &[], 256).good()[1], 3);
    }
}

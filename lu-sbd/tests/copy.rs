//! Third-party copies: EXTENDED COPY in both forms, what RECEIVE COPY tells of them, and ROD tokens.

mod common;

use common::site::Site;
use common::*;
use lu_sbd::store::{BackingStore, FileOptions, MemoryStore};
use scsi_core::data::{BlockSegment, CopyList, CscdDescriptor, CscdName, SegmentDescriptor};
use scsi_core::{Guid, SenseKey, Status, TaskManagementFunction};
use std::sync::Arc;
use std::time::Duration;
use stmf::NexusId;

const MIB: u64 = 1 << 20;

fn memory(size: u64) -> Arc<dyn BackingStore> {
    Arc::new(MemoryStore::new(size))
}

fn two() -> Site {
    Site::new(vec![(memory(64 * MIB), &[]), (memory(64 * MIB), &[])])
}

fn segment(source: u16, destination: u16, source_lba: u64, destination_lba: u64, blocks: u16) -> SegmentDescriptor {
    SegmentDescriptor::Block(BlockSegment {
        source,
        destination,
        destination_count: true,
        cat: false,
        blocks,
        source_lba,
        destination_lba,
    })
}

fn list(site: &Site, units: &[usize], segments: Vec<SegmentDescriptor>, identifier: u32) -> CopyList {
    let cscds = units
        .iter()
        .map(|unit| CscdDescriptor {
            name: CscdName::Guid(Guid::from_bytes(site.guid(*unit)).unwrap()),
            block_length: 0,
            pad: false,
        })
        .collect();
    CopyList { list_identifier: identifier, cscds, segments, ..CopyList::default() }
}

fn cdb(opcode: u8, action: u8, length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, action);
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

fn copy(site: &mut Site, unit: usize, list: &CopyList) -> Answer {
    let data = list.encode_lid1();
    site.run(unit, 1, &cdb(0x83, 0, data.len()), &data, 0)
}

/// RECEIVE COPY with a one-byte (LID1) or four-byte list identifier.
fn receive(site: &mut Site, unit: usize, action: u8, identifier: u32) -> Answer {
    let mut cdb = cdb(0x84, action, 4096);
    match action {
        0..=4 => cdb[2] = identifier as u8,
        _ => cdb[2..6].copy_from_slice(&identifier.to_be_bytes()),
    }
    site.run(unit, 1, &cdb, &[], 4096)
}

fn write(site: &mut Site, unit: usize, lba: u32, data: &[u8]) {
    site.run(unit, 1, &write10(lba, (data.len() / BLOCK) as u16), data, 0).good();
}

fn read(site: &mut Site, unit: usize, lba: u32, blocks: u16) -> Vec<u8> {
    site.run(unit, 1, &read10(lba, blocks), &[], u32::from(blocks) * BLOCK as u32).good()
}

#[test]
fn a_copy_from_one_unit_to_another_moves_no_data_through_the_initiator() {
    let mut site = two();
    let data = pattern(300, 3);
    write(&mut site, 0, 100, &data);
    // Whichever of them is asked: the source, the destination, a third.
    let list = list(&site, &[0, 1], vec![segment(0, 1, 100, 2000, 300)], 7);
    for manager in [0, 1] {
        site.run(1, 1, &ten(0x41, 0, 2000, 300), &[9; BLOCK], 0).good();
        copy(&mut site, manager, &list).good();
        assert_eq!(read(&mut site, 1, 2000, 300), data);
        let status = receive(&mut site, manager, 0, 7).good();
        assert_eq!(status, [0, 0, 0, 8, 1, 0, 1, 0, 0, 2, 0x58, 0], "completed, one segment, 153600 bytes");
    }
}

#[test]
fn overlapping_ranges_of_one_unit_are_moved_as_if_at_once() {
    for (from, to) in [(1000u32, 1010u32), (1010, 1000), (1000, 1000)] {
        let mut site = two();
        let data = pattern(6000, 1);
        write(&mut site, 0, from, &data);
        let list = list(&site, &[0], vec![segment(0, 0, from.into(), to.into(), 6000)], 1);
        copy(&mut site, 0, &list).good();
        assert_eq!(read(&mut site, 0, to, 6000), data);
    }
}

#[test]
fn units_of_different_blocks_copy_whole_blocks_of_both() {
    let mut site = Site::new(vec![(memory(MIB), &[]), (memory(MIB), &["blk=4096"])]);
    write(&mut site, 0, 0, &pattern(16, 5));
    let list16 = list(&site, &[0, 1], vec![segment(0, 1, 8, 3, 1)], 1);
    copy(&mut site, 0, &list16).good();
    let copied = site.run(1, 1, &read10(3, 1), &[], 4096).good();
    assert_eq!(copied, pattern(16, 5)[8 * BLOCK..]);
    let odd = CopyList {
        segments: vec![SegmentDescriptor::Block(BlockSegment {
            source: 0,
            destination: 1,
            destination_count: false,
            cat: false,
            blocks: 3,
            source_lba: 0,
            destination_lba: 0,
        })],
        ..list16
    };
    copy(&mut site, 0, &odd).check(SenseKey::COPY_ABORTED, 0x26, 0x0a);
}

#[test]
fn what_a_nexus_does_not_reach_is_not_reachable_for_its_copies() {
    let mut site = two();
    let list = list(&site, &[0, 1], vec![segment(0, 1, 0, 0, 8)], 1);
    site.around.hidden.lock().unwrap().push((NexusId(1), 1));
    copy(&mut site, 0, &list).check(SenseKey::COPY_ABORTED, 0x0d, 0x02);
}

#[test]
fn reservations_and_write_protection_of_the_destination_count() {
    let mut site = two();
    let both = list(&site, &[0, 1], vec![segment(0, 1, 0, 0, 8)], 1);
    site.run(1, 2, &[0x16, 0, 0, 0, 0, 0], &[], 0).good();
    copy(&mut site, 0, &both).check(SenseKey::COPY_ABORTED, 0x0d, 0x01);
    site.run(1, 2, &[0x17, 0, 0, 0, 0, 0], &[], 0).good();
    copy(&mut site, 0, &both).good();
    let mut site = Site::new(vec![(memory(MIB), &[]), (memory(MIB), &["wp=true"])]);
    let both = list(&site, &[0, 1], vec![segment(0, 1, 0, 0, 8)], 1);
    copy(&mut site, 0, &both).check(SenseKey::COPY_ABORTED, 0x27, 0x00);
    let failed = receive(&mut site, 0, 4, 1).good();
    assert_eq!((failed[56], failed[60 + 2], failed[60 + 12]), (2, 0x0a, 0x27));
}

#[test]
fn segments_past_the_end_copy_nothing() {
    let mut site = two();
    write(&mut site, 0, 0, &pattern(8, 2));
    let last = 64 * MIB / BLOCK as u64 - 4;
    let segments = vec![segment(0, 1, 0, 0, 8), segment(0, 1, last, 100, 8)];
    let list = list(&site, &[0, 1], segments, 1);
    copy(&mut site, 0, &list).check(SenseKey::COPY_ABORTED, 0, 0);
    assert_eq!(read(&mut site, 1, 0, 8), [0; 8 * BLOCK]);
}

#[test]
fn an_aborted_copy_stops_after_the_piece_that_is_under_way() {
    let size = 1 << 30;
    let mut site = Site::new(vec![(memory(size), &[]), (memory(size), &[])]);
    write(&mut site, 0, 0, &pattern(8, 1));
    let segments = (0..10).map(|n| segment(0, 1, 0, n * 65535, 65535)).collect();
    let list = list(&site, &[0, 1], segments, 5);
    let data = list.encode_lid1();
    site.hold = true;
    let id = site.start(0, 1, &cdb(0x83, 0, data.len()), &data, 0);
    assert_eq!(site.held.len(), 1, "one piece at a time");
    site.release(0);
    let tag = site.manage(0, 1, TaskManagementFunction::AbortTask, Some(id));
    assert!(site.managed.is_empty(), "the answer waits for the piece");
    site.release_all();
    assert_eq!(site.managed.iter().filter(|(known, _)| *known == tag).count(), 1);
    assert!(matches!(site.ended.get(&id), Some(End::Aborted { .. })));
    site.hold = false;
    let status = receive(&mut site, 0, 0, 5).good();
    assert_eq!(status[4], 2, "terminated with an error");
}

#[test]
fn a_copy_waits_for_a_compare_and_write_at_the_destination_and_the_other_way_round() {
    let mut site = two();
    write(&mut site, 0, 0, &pattern(8, 9));
    site.hold = true;
    let mut caw = sixteen(0x89, 0, 4, 0);
    caw[13] = 1;
    let compare = site.start(1, 2, &caw, &[[0; BLOCK], [7; BLOCK]].concat(), 0);
    assert_eq!(site.held.len(), 1);
    let list = list(&site, &[0, 1], vec![segment(0, 1, 0, 0, 8)], 1);
    let data = list.encode_lid1();
    let id = site.start(0, 1, &cdb(0x83, 0, data.len()), &data, 0);
    assert_eq!(site.held.len(), 1, "the copy waits");
    site.release_all();
    site.answer_of(compare).good();
    site.answer_of(id).good();
    site.hold = false;
    assert_eq!(read(&mut site, 1, 0, 8), pattern(8, 9));
}

#[test]
fn what_a_lost_session_still_copies_to_another_unit_does_not_overwrite_what_comes_after() {
    let mut site = two();
    let (copied, new) = (pattern(8, 1), pattern(4, 2));
    write(&mut site, 0, 0, &copied);
    let list = list(&site, &[0, 1], vec![segment(0, 1, 0, 100, 8)], 1);
    let data = list.encode_lid1();
    site.hold = true;
    site.start(0, 1, &cdb(0x83, 0, data.len()), &data, 0);
    site.detach(1);
    let over = site.start(1, 2, &write10(104, 4), &new, 0);
    let beside = site.start(1, 2, &write10(108, 4), &new, 0);
    assert_eq!(site.held.len(), 2, "the overlapping write is at the store though the piece is");
    site.release(1);
    assert!(site.ended.contains_key(&beside) && !site.ended.contains_key(&over));
    site.release_all();
    site.answer_of(over).good();
    site.hold = false;
    let found = site.run(1, 2, &read10(100, 12), &[], 12 * BLOCK as u32).good();
    assert_eq!(found, [&copied[..4 * BLOCK], &new, &new].concat());
}

#[test]
fn a_copy_with_a_long_identifier_may_go_on_in_the_background() {
    let mut site = two();
    let data = pattern(64, 4);
    write(&mut site, 0, 0, &data);
    let guid = site.guid(1);
    let mut list = vec![0; 48];
    list[0] = 1;
    list[3] = 0x20;
    list[15] = 2; // IMMED
    list[16] = 0xff;
    list[20..24].copy_from_slice(&0x0102_0304u32.to_be_bytes());
    list[43] = 32;
    list[45] = 28;
    let mut cscd = vec![0xe4, 0, 0, 0, 1, 3, 0, 16];
    cscd.extend_from_slice(&guid);
    cscd.resize(32, 0);
    list.extend_from_slice(&cscd);
    // From this unit (FFFFh) to the other.
    list.extend_from_slice(&[2, 2, 0, 24, 0xff, 0xff, 0, 0, 0, 0, 0, 64]);
    list.extend_from_slice(&[0; 8]);
    list.extend_from_slice(&1000u64.to_be_bytes());
    site.hold = true;
    site.run(0, 1, &cdb(0x83, 1, list.len()), &list, 0).good();
    site.hold = false;
    let status = receive(&mut site, 0, 5, 0x0102_0304).good();
    assert_eq!(status[5], 0x11, "in the background");
    site.run(0, 1, &cdb(0x83, 1, list.len()), &list, 0).check(SenseKey::ILLEGAL_REQUEST, 0, 0x16);
    site.release_all();
    let status = receive(&mut site, 0, 5, 0x0102_0304).good();
    assert_eq!((status[5], &status[16..24]), (1, &(64 * BLOCK as u64).to_be_bytes()[..]));
    assert_eq!(read(&mut site, 1, 1000, 64), data);
    // A second one is ended from outside.
    site.hold = true;
    site.run(0, 1, &cdb(0x83, 1, list.len()), &list, 0).good();
    let mut abort = cdb(0x83, 0x1c, 0);
    abort[2..6].copy_from_slice(&0x0102_0304u32.to_be_bytes());
    site.run(0, 1, &abort, &[], 0).good();
    site.hold = false;
    site.release_all();
    assert_eq!(receive(&mut site, 0, 5, 0x0102_0304).good()[5], 0x60);
    site.run(0, 1, &abort, &[], 0).invalid_field(2);
}

#[test]
fn an_unknown_list_identifier_is_pointed_to() {
    let mut site = two();
    receive(&mut site, 0, 0, 9).invalid_field(2);
    receive(&mut site, 0, 5, 9).invalid_field(2);
}

#[test]
fn copies_within_a_sparse_file_keep_its_holes() {
    let directory = tempfile::tempdir().unwrap();
    let open = |name: &str| FileOptions::new().create(true).size(256 * MIB).open(directory.path().join(name)).unwrap();
    let (one, two) = (open("one"), open("two"));
    if one.capabilities().unmap.is_none() {
        eprintln!("skipped: the file system of the temporary directory cannot punch holes");
        return;
    }
    let mut site = Site::new(vec![(Arc::new(one), &[]), (Arc::new(two), &[])]);
    write(&mut site, 0, 2048, &pattern(2048, 6));
    write(&mut site, 1, 65536, &pattern(8, 1));
    let copied = list(&site, &[0, 1], (0..6).map(|n| segment(0, 1, n * 65535, n * 65535, 65535)).collect(), 1);
    copy(&mut site, 0, &copied).good();
    assert_eq!(read(&mut site, 1, 2048, 2048), pattern(2048, 6));
    assert_eq!(read(&mut site, 1, 65536, 8), [0; 8 * BLOCK], "the hole was copied too");
    use std::os::unix::fs::MetadataExt;
    let blocks = std::fs::metadata(directory.path().join("two")).unwrap().blocks();
    assert!(blocks * 512 < 4 * MIB, "{blocks} sectors");
}

fn populate(site: &mut Site, unit: usize, ranges: &[(u64, u32)], identifier: u32, timeout: u32) -> Answer {
    let mut data = vec![0; 16];
    data[1] = (14 + 16 * ranges.len()) as u8;
    data[4..8].copy_from_slice(&timeout.to_be_bytes());
    data[15] = (16 * ranges.len()) as u8;
    append_ranges(&mut data, ranges);
    let mut cdb = cdb(0x83, 0x10, data.len());
    cdb[6..10].copy_from_slice(&identifier.to_be_bytes());
    site.run(unit, 1, &cdb, &data, 0)
}

fn append_ranges(data: &mut Vec<u8>, ranges: &[(u64, u32)]) {
    for (lba, blocks) in ranges {
        data.extend_from_slice(&lba.to_be_bytes());
        data.extend_from_slice(&blocks.to_be_bytes());
        data.extend_from_slice(&[0; 4]);
    }
}

fn token_of(site: &mut Site, unit: usize, identifier: u32) -> Vec<u8> {
    let data = receive(site, unit, 7, identifier).good();
    assert_eq!((data[4], data[5], data[15]), (0x10, 1, 0xf1));
    data[32 + 4 + 2..].to_vec()
}

fn use_list(token: &[u8], ranges: &[(u64, u32)], offset: u64, flags: u8) -> Vec<u8> {
    let mut data = vec![0; 536];
    let length = (534 + 16 * ranges.len()) as u16;
    data[..2].copy_from_slice(&length.to_be_bytes());
    data[2] = flags;
    data[8..16].copy_from_slice(&offset.to_be_bytes());
    data[16..528].copy_from_slice(token);
    data[534..536].copy_from_slice(&((16 * ranges.len()) as u16).to_be_bytes());
    append_ranges(&mut data, ranges);
    data
}

fn use_cdb(length: usize, identifier: u32) -> [u8; 16] {
    let mut cdb = cdb(0x83, 0x11, length);
    cdb[6..10].copy_from_slice(&identifier.to_be_bytes());
    cdb
}

fn use_token(site: &mut Site, unit: usize, token: &[u8], ranges: &[(u64, u32)], offset: u64) -> Answer {
    let data = use_list(token, ranges, offset, 0);
    site.run(unit, 1, &use_cdb(data.len(), 99), &data, 0)
}

#[test]
fn a_token_copies_its_ranges_to_another_unit() {
    let mut site = two();
    let data = pattern(100, 8);
    write(&mut site, 0, 500, &data[..60 * BLOCK]);
    write(&mut site, 0, 9000, &data[60 * BLOCK..]);
    populate(&mut site, 0, &[(500, 60), (9000, 40)], 1, 0).good();
    let token = token_of(&mut site, 0, 1);
    use_token(&mut site, 1, &token, &[(10, 50), (200, 45)], 5).good();
    assert_eq!(read(&mut site, 1, 10, 50), data[5 * BLOCK..55 * BLOCK]);
    assert_eq!(read(&mut site, 1, 200, 45), data[55 * BLOCK..]);
    let told = receive(&mut site, 1, 7, 99).good();
    assert_eq!((told[4], told[5], &told[16..24]), (0x11, 1, &95u64.to_be_bytes()[..]));
    // Within the unit itself too; and no more than there is.
    use_token(&mut site, 0, &token, &[(20000, 100)], 0).good();
    assert_eq!(read(&mut site, 0, 20000, 100), data);
    use_token(&mut site, 1, &token, &[(0, 96)], 5).invalid_field(536);
    use_token(&mut site, 1, &token, &[(0, 1)], 100).invalid_field(8);
}

#[test]
fn the_zero_token_writes_zeros() {
    let mut site = two();
    write(&mut site, 0, 0, &pattern(64, 1));
    let mut token = [0; 512];
    token[..4].copy_from_slice(&0xffff_0001u32.to_be_bytes());
    token[6..8].copy_from_slice(&[1, 0xf8]);
    use_token(&mut site, 0, &token, &[(8, 48)], 0).good();
    assert_eq!(read(&mut site, 0, 8, 48), [0; 48 * BLOCK]);
    assert_eq!(read(&mut site, 0, 0, 8), pattern(64, 1)[..8 * BLOCK]);
}

#[test]
fn a_write_to_its_ranges_revokes_a_token_and_one_beside_them_does_not() {
    let mut site = two();
    populate(&mut site, 0, &[(100, 50)], 1, 0).good();
    let token = token_of(&mut site, 0, 1);
    write(&mut site, 0, 150, &pattern(8, 1));
    use_token(&mut site, 1, &token, &[(0, 50)], 0).good();
    write(&mut site, 0, 149, &pattern(1, 1));
    use_token(&mut site, 1, &token, &[(0, 50)], 0).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x06);
}

#[test]
fn a_write_during_the_copy_fails_the_copy() {
    let mut site = two();
    populate(&mut site, 0, &[(100, 50)], 1, 0).good();
    let token = token_of(&mut site, 0, 1);
    site.hold = true;
    let data = use_list(&token, &[(0, 50)], 0, 0);
    let id = site.start(1, 1, &use_cdb(data.len(), 2), &data, 0);
    let other = site.start(0, 2, &write10(120, 1), &[1; BLOCK], 0);
    site.release_all();
    site.answer_of(other).good();
    site.answer_of(id).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x06);
}

#[test]
fn a_token_waits_for_the_writes_that_came_before_it() {
    let mut site = two();
    site.hold = true;
    let first = site.start(0, 2, &write10(100, 8), &pattern(8, 3), 0);
    let mut data = vec![0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16];
    append_ranges(&mut data, &[(96, 32)]);
    let mut populate = cdb(0x83, 0x10, data.len());
    populate[9] = 1;
    let id = site.start(0, 1, &populate, &data, 0);
    assert!(site.ended.is_empty());
    site.release_all();
    site.answer_of(first).good();
    site.answer_of(id).good();
    site.hold = false;
    let token = token_of(&mut site, 0, 1);
    use_token(&mut site, 1, &token, &[(0, 32)], 0).good();
    assert_eq!(read(&mut site, 1, 4, 8), pattern(8, 3));
}

#[test]
fn a_token_expires_unless_it_is_used_and_can_be_deleted_and_not_forged() {
    let mut site = two();
    populate(&mut site, 0, &[(0, 8)], 1, 10).good();
    let token = token_of(&mut site, 0, 1);
    let pass = |site: &Site, seconds| *site.host.now.lock().unwrap() += Duration::from_secs(seconds);
    pass(&site, 9);
    use_token(&mut site, 1, &token, &[(0, 8)], 0).good();
    pass(&site, 9);
    use_token(&mut site, 1, &token, &[(0, 8)], 0).good();
    let mut forged = token.clone();
    forged[511] ^= 1;
    use_token(&mut site, 1, &forged, &[(0, 8)], 0).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x05);
    forged[15] ^= 1;
    use_token(&mut site, 1, &forged, &[(0, 8)], 0).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x04);
    pass(&site, 10);
    use_token(&mut site, 1, &token, &[(0, 8)], 0).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x07);
    populate(&mut site, 0, &[(0, 8)], 2, 10).good();
    let token = token_of(&mut site, 0, 2);
    let data = use_list(&token, &[(0, 8)], 0, 2); // DEL_TKN
    site.run(1, 1, &use_cdb(data.len(), 3), &data, 0).good();
    use_token(&mut site, 1, &token, &[(0, 8)], 0).check(SenseKey::ILLEGAL_REQUEST, 0x23, 0x09);
}

#[test]
fn an_aborted_populate_leaves_nothing_under_way() {
    let mut site = two();
    site.hold = true;
    let first = site.start(0, 2, &write10(0, 8), &pattern(8, 3), 0);
    let mut data = vec![0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16];
    append_ranges(&mut data, &[(0, 32)]);
    let id = site.start(0, 1, &cdb(0x83, 0x10, data.len()), &data, 0);
    site.manage(0, 1, TaskManagementFunction::AbortTask, Some(id));
    assert!(matches!(site.ended.get(&id), Some(End::Aborted { .. })));
    site.release_all();
    site.hold = false;
    assert_eq!(site.answer_of(first).status, Status::GOOD);
    site.run(0, 1, &cdb(0x83, 0x10, data.len()), &data, 0).good();
    assert!(site.held.is_empty());
}

#[test]
fn the_third_party_copy_page_tells_what_is_supported() {
    use scsi_core::vpd::{ThirdPartyCopy, VpdPage};
    let mut site = two();
    let page = site.run(0, 1, &[0x12, 1, 0x8f, 16, 0, 0], &[], 4096).good();
    let page = ThirdPartyCopy::decode(&page).unwrap();
    assert_eq!(page.commands[0].service_actions, [0, 1, 0x10, 0x11, 0x1c]);
    assert_eq!(page.commands[1].service_actions, [0, 1, 3, 4, 5, 6, 7]);
    assert!(page.rod_token_limits.is_some());
    let standard = site.run(0, 1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
    assert_eq!(standard[5] & 8, 8, "3PC");
}

//! Bad CDBs over a whole unit, generated from the command table: every reserved bit, every service action and operation
//! code that is not there, every field with a value that it cannot have.

mod common;

use common::{Answer, Rig};
use lu_sbd::store::MemoryStore;
use scsi_core::command::{COMMANDS, CommandEntry, CommandFlags, CommandKind as K, CommandSet, DataShape, entries_of};
use scsi_core::data::OperationCodesReport;
use scsi_core::{SenseKey, Status};
use std::sync::Arc;
use stmf::provider::{LogicalUnit, PortGroup, TargetPorts};

const BLOCKS: u64 = (64 << 20) / 512;

/// Units that together have all commands there are: a fixed thin disk, a removable and a thick one.
fn rigs() -> Vec<Rig> {
    let kinds: [&[&str]; 3] = [&[], &["removable=true"], &["thin=false"]];
    let rigs = kinds.map(|properties| {
        let rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), properties);
        let group = PortGroup { id: 0, state: Default::default(), preferred: false, ports: vec![1] };
        rig.lu.set_target_ports(&Arc::new(TargetPorts { groups: vec![group] }));
        rig
    });
    rigs.into()
}

/// What the unit says it supports.
fn supported(rig: &mut Rig) -> Vec<&'static CommandEntry> {
    let data = rig.run(1, &[0xa3, 0xc, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0], &[], 0x4000).good();
    let listed = OperationCodesReport::decode(&data).unwrap().commands;
    let is_listed = |entry: &&CommandEntry| listed.contains(&(entry.opcode, entry.service_action.map(u16::from)));
    let found: Vec<&CommandEntry> = COMMANDS.iter().filter(is_listed).collect();
    assert_eq!(found.len(), listed.len());
    found
}

fn blank(entry: &CommandEntry) -> Vec<u8> {
    let mut cdb = vec![0; usize::from(entry.cdb_length)];
    cdb[0] = entry.opcode;
    if let Some(action) = entry.service_action {
        cdb[1] = action;
    }
    cdb
}

/// A command that is not refused for its CDB may want data; it gets zeros.
fn send(rig: &mut Rig, entry: &CommandEntry, cdb: &[u8]) -> Answer {
    let phase = entry.data.phase(cdb, 512);
    let out = match phase.direction {
        scsi_core::command::DataDirection::Out => vec![0; phase.length.min(1 << 20) as usize],
        _ => Vec::new(),
    };
    let room = match phase.direction {
        scsi_core::command::DataDirection::In => phase.length.min(1 << 20) as u32,
        _ => 0,
    };
    rig.run(1, cdb, &out, room)
}

#[track_caller]
fn pointed(answer: &Answer, what: &str, asc: u8, byte: u16, bit: Option<u8>) {
    assert_eq!(answer.status, Status::CHECK_CONDITION, "{what}");
    let sense = answer.sense.unwrap();
    assert_eq!((sense.key, sense.code.asc, sense.code.ascq), (SenseKey::ILLEGAL_REQUEST, asc, 0), "{what}: {sense}");
    let pointer = sense.field_pointer().unwrap_or_else(|| panic!("{what}: no field pointer"));
    assert!(pointer.in_cdb, "{what}: {sense}");
    assert_eq!(pointer.byte, byte, "{what}: {sense}");
    if bit.is_some() {
        assert_eq!(pointer.bit, bit, "{what}: {sense}");
    }
}

#[test]
fn every_reserved_bit_of_every_command_is_refused_and_pointed_to() {
    let (mut commands, mut bits) = (std::collections::BTreeSet::new(), 0);
    for mut rig in rigs() {
        for entry in supported(&mut rig) {
            commands.insert(entry.name);
            let used = entry.usage_data(true);
            let tolerated = entry.tolerated_data();
            for byte in 1..entry.cdb_length {
                for bit in (0..8).rev() {
                    let mask = 1u8 << bit;
                    let at = usize::from(byte);
                    let action = entry.service_action.is_some() && byte == 1 && bit < 5;
                    if used[at] & mask != 0 || tolerated[at] & mask != 0 || action {
                        continue;
                    }
                    let mut cdb = blank(entry);
                    cdb[at] |= mask;
                    let answer = send(&mut rig, entry, &cdb);
                    pointed(&answer, &format!("{} {cdb:02x?}", entry.name), 0x24, byte.into(), Some(bit));
                    bits += 1;
                }
            }
        }
    }
    let all = CommandSet::all().entries().count();
    assert_eq!(commands.len() + unsupported().len(), all, "the units together have every command of the table");
    assert!(bits > 3000, "{bits} bits were tried");
}

/// Commands of the table that need more than these units have.
fn unsupported() -> Vec<&'static str> {
    let mut have: Vec<K> = Vec::new();
    for mut rig in rigs() {
        have.extend(supported(&mut rig).iter().map(|entry| entry.kind));
    }
    CommandSet::all().entries().filter(|entry| !have.contains(&entry.kind)).map(|entry| entry.name).collect()
}

#[test]
fn every_command_of_the_table_is_supported_by_some_unit() {
    // What moves tokens needs a host with a clock and neighbours; the rest is not every unit's.
    let missing = unsupported();
    let apart = ["TOKEN", "FORMAT UNIT", "SANITIZE", "WRITE ATOMIC"];
    assert!(missing.iter().all(|name| apart.iter().any(|word| name.contains(word))), "{missing:?}");
}

#[test]
fn operation_codes_and_service_actions_that_are_not_there_are_refused() {
    let mut rig = rigs().remove(0);
    let have = supported(&mut rig);
    for opcode in 0..=255u8 {
        let rows: Vec<_> = have.iter().filter(|entry| entry.opcode == opcode).collect();
        // REPORT LUNS the framework answers; here the unit does.
        let mut cdb = [0; 16];
        cdb[0] = opcode;
        if rows.is_empty() {
            rig.run(1, &cdb, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
        } else if rows[0].service_action.is_some() {
            for action in (0..32).filter(|action| rows.iter().all(|entry| entry.service_action != Some(*action))) {
                cdb[1] = action;
                pointed(&rig.run(1, &cdb, &[], 0), &format!("{cdb:02x?}"), 0x24, 1, Some(4));
            }
        }
    }
    for entry in COMMANDS.iter().filter(|entry| entry.flags.contains(CommandFlags::REFUSED)) {
        let alone = entries_of(entry.opcode).iter().all(|row| row.flags.contains(CommandFlags::REFUSED));
        let asc = if alone { 0x20 } else { 0x24 };
        rig.run(1, &blank(entry), &[], 0).check(SenseKey::ILLEGAL_REQUEST, asc, 0);
    }
}

#[test]
fn a_cdb_that_ends_too_early_is_pointed_to_at_its_end() {
    let mut rig = rigs().remove(0);
    for entry in supported(&mut rig) {
        let cdb = blank(entry);
        let short = &cdb[..cdb.len() - 1];
        pointed(&rig.run(1, short, &[], 0), entry.name, 0x24, short.len() as u16, None);
    }
}

/// Where LBA and number of blocks stand.
fn range_fields(entry: &CommandEntry) -> Option<(usize, usize, usize, usize)> {
    // First byte and width of the LBA, of the number of blocks.
    Some(match (entry.kind, entry.cdb_length) {
        (K::Read6 | K::Write6, _) => (1, 3, 4, 1),
        (K::CompareAndWrite, _) => (2, 8, 13, 1),
        (K::WriteAtomic16, _) => (2, 8, 12, 2),
        (K::GetLbaStatus, _) => (2, 8, 0, 0),
        (_, 10) if moves_blocks(entry) => (2, 4, 7, 2),
        (_, 12) if moves_blocks(entry) => (2, 4, 6, 4),
        (_, 16) if moves_blocks(entry) => (2, 8, 10, 4),
        _ => return None,
    })
}

fn moves_blocks(entry: &CommandEntry) -> bool {
    let by_shape = matches!(
        entry.data,
        DataShape::BlocksIn { .. } | DataShape::BlocksOut { .. } | DataShape::ByteCheck { .. } | DataShape::OneBlockOut
    );
    by_shape || matches!(entry.kind, K::PreFetch10 | K::PreFetch16 | K::SynchronizeCache10 | K::SynchronizeCache16)
}

fn put(cdb: &mut [u8], at: usize, width: usize, value: u64) {
    cdb[at..at + width].copy_from_slice(&value.to_be_bytes()[8 - width..]);
}

#[test]
fn every_command_with_a_range_refuses_one_that_leaves_the_unit() {
    let mut tried = 0;
    for mut rig in rigs() {
        for entry in supported(&mut rig) {
            let Some((lba_at, lba_width, at, width)) = range_fields(entry) else { continue };
            let largest = if lba_width == 8 { u64::MAX } else { (1 << (8 * lba_width)) - 1 };
            let largest = if lba_width == 3 { 0x1f_ffff } else { largest };
            // Behind the end, far behind it, and over the end.
            let mut cases = vec![(BLOCKS, 1), (largest, 1)];
            if width > 0 {
                cases.push((BLOCKS - 1, 2));
            }
            for (lba, blocks) in cases {
                let mut cdb = blank(entry);
                put(&mut cdb, lba_at, lba_width, lba);
                if width > 0 {
                    put(&mut cdb, at, width, blocks);
                }
                let sense = send(&mut rig, entry, &cdb).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
                assert_eq!(sense.key, SenseKey::ILLEGAL_REQUEST, "{}", entry.name);
                tried += 1;
            }
        }
    }
    assert!(tried > 150, "{tried} ranges were tried");
}

/// A field, the values that it cannot have, and what has to stand elsewhere in the CDB for that.
struct Field {
    kinds: &'static [K],
    byte: u16,
    /// The field's highest and lowest bit.
    high: u8,
    low: u8,
    wrong: &'static [u8],
    beside: &'static [(usize, u8)],
}

const fn field(kinds: &'static [K], byte: u16, high: u8, low: u8, wrong: &'static [u8]) -> Field {
    Field { kinds, byte, high, low, wrong, beside: &[] }
}

const fn beside(mut field: Field, beside: &'static [(usize, u8)]) -> Field {
    field.beside = beside;
    field
}

const VERIFIES: &[K] = &[K::Verify10, K::Verify12, K::Verify16];
const WRITES_AND_VERIFIES: &[K] = &[K::WriteAndVerify10, K::WriteAndVerify12, K::WriteAndVerify16];

/// Every field whose values are not all good, by command; lengths and ranges stand apart.
const FIELDS: &[Field] = &[
    beside(field(&[K::Inquiry], 2, 7, 0, &[0x01, 0x7f, 0xb8, 0xff]), &[(1, 1), (4, 255)]),
    beside(field(&[K::Inquiry], 2, 7, 0, &[0x80, 0x83]), &[(4, 255)]),
    field(&[K::ModeSelect6, K::ModeSelect10], 1, 4, 4, &[0]),
    field(&[K::ModeSense6, K::ModeSense10], 2, 5, 0, &[0x03, 0x04, 0x19, 0x3e]),
    beside(field(&[K::ModeSense6, K::ModeSense10], 3, 7, 0, &[0x02, 0xfe]), &[(2, 0x0a)]),
    field(&[K::StartStopUnit], 4, 7, 4, &[1, 4, 8, 15]),
    field(&[K::StartStopUnit], 4, 1, 1, &[1]),
    field(&[K::PreventAllow], 4, 1, 0, &[2, 3]),
    field(&[K::SendDiagnostic], 1, 7, 5, &[3, 4, 7]),
    beside(field(&[K::SendDiagnostic], 1, 4, 4, &[0]), &[(4, 4)]),
    beside(field(&[K::SendDiagnostic], 1, 7, 5, &[1, 2, 5, 6]), &[(1, 4)]),
    field(&[K::ReceiveDiagnostic], 2, 7, 0, &[1, 0x40, 0xff]),
    field(VERIFIES, 1, 2, 1, &[2]),
    field(WRITES_AND_VERIFIES, 1, 2, 1, &[2, 3]),
    field(&[K::LogSelect], 1, 0, 0, &[1]),
    field(&[K::LogSelect], 2, 5, 0, &[0x01, 0x3f]),
    beside(field(&[K::LogSelect], 2, 5, 0, &[0x02]), &[(8, 4)]),
    beside(field(&[K::LogSelect], 3, 7, 0, &[0x01]), &[(2, 0x02)]),
    field(&[K::LogSense], 1, 0, 0, &[1]),
    beside(field(&[K::LogSense], 2, 7, 6, &[0, 2]), &[(2, 0x02)]),
    beside(field(&[K::LogSense], 2, 5, 0, &[0x01, 0x3e]), &[(2, 0x40)]),
    beside(field(&[K::LogSense], 3, 7, 0, &[0x01, 0xfe]), &[(2, 0x42)]),
    beside(field(&[K::LogSense], 5, 7, 0, &[0xff]), &[(2, 0x42)]),
    field(&[K::ReportLuns], 2, 7, 0, &[0x03, 0x0f, 0x13, 0xff]),
    beside(field(&[K::ReportSupportedOperationCodes], 2, 2, 0, &[4, 5, 6, 7]), &[(9, 255)]),
    beside(field(&[K::ReportSupportedOperationCodes], 2, 2, 0, &[2]), &[(3, 0x28), (9, 255)]),
    beside(field(&[K::ReportSupportedOperationCodes], 2, 2, 0, &[1]), &[(3, 0x9e), (9, 255)]),
    field(&[K::ReportTargetPortGroups], 1, 7, 5, &[2, 3, 7]),
    field(&[K::ReportIdentifyingInformation], 10, 7, 1, &[1, 3, 0x7e]),
    field(&[K::SetIdentifyingInformation], 10, 7, 1, &[1, 3, 0x7f]),
];

#[test]
fn every_field_refuses_the_values_that_it_cannot_have() {
    let mut tried = 0;
    for mut rig in rigs() {
        let removable = rig.lu.identity().removable;
        for entry in supported(&mut rig) {
            for field in FIELDS.iter().filter(|field| field.kinds.contains(&entry.kind)) {
                // A removable disk ejects, and takes every power condition.
                if removable && entry.kind == K::StartStopUnit {
                    continue;
                }
                for wrong in field.wrong {
                    let mut cdb = blank(entry);
                    for (at, value) in field.beside {
                        cdb[*at] |= value;
                    }
                    let at = usize::from(field.byte);
                    let mask = (((1u16 << (field.high - field.low + 1)) - 1) as u8) << field.low;
                    cdb[at] = cdb[at] & !mask | wrong << field.low;
                    let what = format!("{} {cdb:02x?}", entry.name);
                    let answer = send(&mut rig, entry, &cdb);
                    pointed(&answer, &what, 0x24, field.byte, Some(field.high));
                    tried += 1;
                }
            }
        }
    }
    assert!(tried > 150, "{tried} values were tried");
}

#[test]
fn lengths_that_cannot_be_are_pointed_to() {
    let mut rig = rigs().remove(0);
    let wrong = |rig: &mut Rig, cdb: &[u8], byte: u16| {
        pointed(&rig.run(1, cdb, &[], 0), &format!("{cdb:02x?}"), 0x24, byte, Some(7));
    };
    // Longer than MAXIMUM TRANSFER LENGTH, where all of it lies in the unit.
    let long = (32 << 20) / 512 + 1;
    for (opcode, at) in [(0x88u8, 10u16), (0x8a, 10), (0x8e, 10), (0xa8, 6), (0xaa, 6), (0xae, 6)] {
        let mut cdb = vec![0; if at == 10 { 16 } else { 12 }];
        cdb[0] = opcode;
        put(&mut cdb, at.into(), 4, long);
        wrong(&mut rig, &cdb, at);
    }
    // WRITE SAME of nothing: WSNZ.
    wrong(&mut rig, &[0x41, 0, 0, 0, 0, 0, 0, 0, 0, 0], 7);
    wrong(&mut rig, &[0x93, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], 10);
    // COMPARE AND WRITE of more than its own limit.
    wrong(&mut rig, &[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 129, 0, 0], 13);
    // REPORT LUNS with no room for the header and one LUN.
    wrong(&mut rig, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 15, 0, 0], 6);
    // Identifying information that is longer than can be kept.
    wrong(&mut rig, &[0xa4, 6, 0, 0, 0, 0, 0, 0, 2, 1, 0, 0], 6);
    // Lists with a self-test, and with a reset of counters.
    wrong(&mut rig, &[0x1d, 4, 0, 0, 4, 0], 3);
    // LOG SELECT looks at its list first, so it has to come.
    let answer = rig.run(1, &[0x4c, 2, 0, 0, 0, 0, 0, 0, 4, 0], &[0; 4], 0);
    pointed(&answer, "LOG SELECT with PCR and a list", 0x24, 7, Some(7));
}

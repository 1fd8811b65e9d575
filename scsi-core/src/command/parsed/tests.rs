use proptest::prelude::*;

use super::*;
use crate::command::{COMMANDS, CommandFlags, DataDirection};
use crate::sense::{AdditionalSense, SenseKey};

fn blank(entry: &CommandEntry) -> Vec<u8> {
    entry.template()
}

#[test]
fn a_reserved_bit_of_any_command_is_pointed_to() {
    for naca in [false, true] {
        let supported = CommandSet::all().with_naca(naca);
        for entry in supported.entries() {
            let usage = entry.usage_data(naca);
            let tolerated = entry.tolerated.to_be_bytes();
            for byte in 1..entry.cdb_length {
                for bit in 0..8 {
                    let at = usize::from(byte);
                    let in_action = entry.service_action.is_some() && byte == 1 && bit < 5;
                    if in_action || (usage[at] | tolerated[at]) >> bit & 1 != 0 {
                        continue;
                    }
                    let mut cdb = blank(entry);
                    cdb[at] |= 1 << bit;
                    let expected = SenseData::invalid_field_in_cdb(byte.into(), Some(bit));
                    assert_eq!(parse(&cdb, supported), Err(expected), "{} byte {byte} bit {bit}", entry.name);
                }
            }
        }
    }
}

#[test]
fn every_supported_command_parses_when_blank() {
    let supported = CommandSet::all();
    for entry in supported.entries() {
        let parsed = parse(&blank(entry), supported).unwrap_or_else(|sense| panic!("{}: {sense}", entry.name));
        assert_eq!(parsed.entry.kind, entry.kind);
        assert!(!parsed.naca);
    }
}

#[test]
fn an_unsupported_command_is_an_invalid_operation_code() {
    for entry in &COMMANDS {
        let sense = parse(&blank(entry), CommandSet::EMPTY).unwrap_err();
        assert!(sense.is(SenseKey::ILLEGAL_REQUEST, AdditionalSense::INVALID_COMMAND_OPERATION_CODE));
        let alone = CommandSet::EMPTY.with(entry.kind);
        assert_eq!(parse(&blank(entry), alone).is_ok(), !entry.flags.contains(CommandFlags::REFUSED));
    }
}

#[test]
fn an_unsupported_service_action_is_an_invalid_field() {
    let supported = CommandSet::all();
    let sense = parse(&[0x5e, 0x04, 0, 0, 0, 0, 0, 0, 8, 0], supported).unwrap_err();
    assert_eq!(sense, SenseData::invalid_field_in_cdb(1, Some(4)));
    assert_eq!(parse(&[0xff; 6], supported), Err(SenseData::invalid_opcode()));
}

#[test]
fn what_stands_behind_the_command_is_not_looked_at() {
    let mut field = [0xff; 16];
    field[..6].copy_from_slice(&[0; 6]);
    assert_eq!(parse(&field, CommandSet::all()).unwrap().command, Command::TestUnitReady);
}

#[test]
fn a_short_cdb_is_pointed_to_where_it_ends() {
    assert_eq!(parse(&[0x28, 0, 0], CommandSet::all()), Err(SenseData::invalid_field_in_cdb(3, None)));
    assert_eq!(parse(&[], CommandSet::all()), Err(SenseData::invalid_field_in_cdb(0, None)));
}

#[test]
fn reserved_values_are_pointed_to_by_their_highest_bit() {
    let supported = CommandSet::all();
    let check = |cdb: &[u8], byte, bit| {
        assert_eq!(parse(cdb, supported), Err(SenseData::invalid_field_in_cdb(byte, Some(bit))), "{cdb:02x?}");
    };
    check(&[0x12, 0, 0x80, 0, 36, 0], 2, 7);
    check(&[0x2f, 0x04, 0, 0, 0, 0, 0, 0, 1, 0], 1, 2);
    check(&[0x2e, 0x06, 0, 0, 0, 0, 0, 0, 1, 0], 1, 2);
    check(&[0x1e, 0, 0, 0, 2, 0], 4, 1);
    check(&[0xa0, 0, 3, 0, 0, 0, 0, 0, 16, 0, 0, 0], 2, 7);
    check(&[0xa3, 0x0c, 4, 0, 0, 0, 0, 0, 16, 0, 0, 0], 2, 2);
    check(&[0x48, 0x02, 0, 0, 0, 0, 0, 0, 4, 0], 7, 7);
}

#[test]
fn naca_is_refused_unless_supported() {
    let cdb = [0, 0, 0, 0, 0, 4];
    assert_eq!(parse(&cdb, CommandSet::all()), Err(SenseData::invalid_field_in_cdb(5, Some(2))));
    assert!(parse(&cdb, CommandSet::all().with_naca(true)).unwrap().naca);
}

#[test]
fn the_data_follows_from_the_cdb() {
    let phase = |cdb: &[u8]| {
        let phase = parse(cdb, CommandSet::all()).unwrap().data_phase(512);
        (phase.direction, phase.length)
    };
    use DataDirection::{In, None, Out};
    assert_eq!(phase(&[0x08, 0, 0, 0, 0, 0]), (In, 256 * 512));
    assert_eq!(phase(&[0x28, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (None, 0));
    assert_eq!(phase(&[0x2a, 0, 0, 0, 0, 0, 0, 1, 0, 0]), (Out, 256 * 512));
    assert_eq!(phase(&[0x2f, 0, 0, 0, 0, 0, 0, 0, 8, 0]), (None, 0));
    assert_eq!(phase(&[0x2f, 2, 0, 0, 0, 0, 0, 0, 8, 0]), (Out, 8 * 512));
    assert_eq!(phase(&[0x2f, 6, 0, 0, 0, 0, 0, 0, 8, 0]), (Out, 512));
    assert_eq!(phase(&[0x41, 0, 0, 0, 0, 0, 0, 0, 8, 0]), (Out, 512));
    assert_eq!(phase(&[0x93, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0]), (None, 0));
    assert_eq!(phase(&[0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0]), (Out, 1024));
    assert_eq!(phase(&[0x12, 0, 0, 1, 0, 0]), (In, 256));
    assert_eq!(phase(&[0x04, 0x10, 0, 0, 0, 0]), (Out, 4));
    assert_eq!(phase(&[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0]), (In, 8));
}

/// Writes a command as the initiator would, by the form of its row.
fn encode(parsed: &ParsedCommand) -> crate::Cdb {
    let length = parsed.entry.cdb_length;
    match parsed.command {
        Command::TestUnitReady | Command::Reserve | Command::Release => crate::Cdb::new(&blank(parsed.entry)).unwrap(),
        Command::RequestSense(c) => c.to_cdb(),
        Command::FormatUnit(c) => c.to_cdb(),
        Command::Read(c) => c.to_cdb(length).unwrap(),
        Command::Write(c) => c.to_cdb(length).unwrap(),
        Command::Inquiry(c) => c.to_cdb(),
        Command::ModeSelect(c) => c.to_cdb(),
        Command::ModeSense(c) => c.to_cdb(),
        Command::StartStopUnit(c) => c.to_cdb(),
        Command::ReceiveDiagnostic(c) => c.to_cdb(),
        Command::SendDiagnostic(c) => c.to_cdb(),
        Command::PreventAllow(c) => c.to_cdb(),
        Command::ReadCapacity10(c) => c.to_cdb(),
        Command::WriteAndVerify(c) => c.to_cdb(length).unwrap(),
        Command::Verify(c) => c.to_cdb(length).unwrap(),
        Command::PreFetch(c) => c.to_cdb(length).unwrap(),
        Command::SynchronizeCache(c) => c.to_cdb(length).unwrap(),
        Command::ReadDefectData(c) => c.to_cdb(),
        Command::WriteSame(c) => c.to_cdb(length).unwrap(),
        Command::Unmap(c) => c.to_cdb(),
        Command::Sanitize(c) => c.to_cdb(),
        Command::LogSelect(c) => c.to_cdb(),
        Command::LogSense(c) => c.to_cdb(),
        Command::PersistentReserveIn(c) => c.to_cdb(),
        Command::PersistentReserveOut(c) => c.to_cdb(),
        Command::ExtendedCopy(c) => c.to_cdb(),
        Command::PopulateToken(c) => c.to_cdb(),
        Command::WriteUsingToken(c) => c.to_cdb(),
        Command::CopyOperationAbort(c) => c.to_cdb(),
        Command::ReceiveCopy(c) => c.to_cdb(),
        Command::CompareAndWrite(c) => c.to_cdb(),
        Command::OrWrite(c) => c.to_cdb(),
        Command::WriteAtomic(c) => c.to_cdb(),
        Command::ReadCapacity16(c) => c.to_cdb(),
        Command::GetLbaStatus(c) => c.to_cdb(),
        Command::ReportLuns(c) => c.to_cdb(),
        Command::ReportIdentifyingInformation(c) => c.to_cdb(),
        Command::ReportTargetPortGroups(c) => c.to_cdb(),
        Command::ReportSupportedOperationCodes(c) => c.to_cdb(),
        Command::ReportSupportedTaskManagementFunctions(c) => c.to_cdb(),
        Command::ReportTimestamp(c) => c.to_cdb(),
        Command::SetIdentifyingInformation(c) => c.to_cdb(),
        Command::SetTargetPortGroups(c) => c.to_cdb(),
        Command::SetTimestamp(c) => c.to_cdb(),
    }
}

proptest! {
    #[test]
    fn any_bytes_parse_or_end_in_an_illegal_request(bytes in prop::collection::vec(any::<u8>(), 0..20)) {
        match parse(&bytes, CommandSet::all()) {
            Ok(parsed) => drop(parsed.data_phase(4096)),
            Err(sense) => {
                prop_assert_eq!(sense.key, SenseKey::ILLEGAL_REQUEST);
                prop_assert!(sense.field_pointer().unwrap().in_cdb);
            }
        }
    }

    #[test]
    fn a_command_encodes_to_the_cdb_it_was_parsed_from(row in 0..COMMANDS.len(), noise in any::<[u8; 16]>()) {
        // The bits a row looks at are random, all others zero; so the encoded CDB must be the same bytes.
        let entry = &COMMANDS[row];
        let mut cdb = blank(entry);
        for (byte, (used, noise)) in cdb.iter_mut().zip(entry.usage.to_be_bytes().iter().zip(noise)) {
            *byte |= used & noise;
        }
        if let Ok(parsed) = parse(&cdb, CommandSet::all()) {
            let encoded = encode(&parsed);
            prop_assert_eq!(encoded.as_bytes(), &cdb[..], "{}", entry.name);
        }
    }
}

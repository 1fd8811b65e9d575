//! docs/compliance/scsi.md: every command, service action and page of SPC and SBC, with the test that shows it or the
//! reason why it is refused. Made from the command table and from what a unit answers; a difference from the committed
//! page fails. `cargo xtask compliance` writes it.

mod common;

use common::Rig;
use lu_sbd::store::MemoryStore;
use scsi_core::command::{COMMANDS, CommandEntry, CommandFlags, CommandKind as K};
use scsi_core::data::OperationCodesReport;
use std::collections::BTreeSet;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stmf::provider::{LogicalUnit, TargetPorts};

/// Set, the page is written instead of compared.
const WRITE: &str = "LUNETTE_WRITE_COMPLIANCE";

/// The tests that show a command at work: file, then function.
fn test_of(kind: K) -> &'static str {
    match kind {
        K::TestUnitReady => "tests/geometry.rs an_ejected_medium_is_missing_until_it_is_loaded_again",
        K::RequestSense => "tests/commands.rs request_sense_reports_and_clears_a_unit_attention",
        K::Read6 | K::Read10 | K::Read12 | K::Read16 | K::Write6 | K::Write10 | K::Write12 | K::Write16 => {
            "tests/commands.rs what_was_written_is_read_back_by_every_length_of_command"
        }
        K::Inquiry => "tests/commands.rs inquiry_tells_who_the_unit_is",
        K::ModeSelect6 | K::ModeSense6 | K::ModeSelect10 | K::ModeSense10 => {
            "tests/commands.rs mode_pages_can_be_read_changed_and_saved"
        }
        K::Reserve6 | K::Release6 | K::Reserve10 | K::Release10 => {
            "tests/reservations.rs reserve_keeps_others_out_until_release_or_reset"
        }
        K::StartStopUnit | K::PreventAllow => "tests/geometry.rs each_nexus_prevents_for_itself_and_all_must_allow",
        K::ReceiveDiagnostic => "tests/pages.rs diagnostic_pages_are_asked_for_both_ways",
        K::SendDiagnostic => "tests/pages.rs self_tests_run_and_leave_their_results",
        K::ReadCapacity10 | K::ReadCapacity16 => "tests/commands.rs read_capacity_tells_size_and_alignment",
        K::WriteAndVerify10 | K::WriteAndVerify12 | K::WriteAndVerify16 => "tests/commands.rs write_and_verify_writes",
        K::Verify10 | K::Verify12 | K::Verify16 => {
            "tests/commands.rs verify_compares_with_data_with_one_block_or_with_nothing"
        }
        K::PreFetch10 | K::PreFetch16 | K::SynchronizeCache10 | K::SynchronizeCache16 => {
            "tests/commands.rs cache_and_prefetch_commands_end_well"
        }
        K::ReadDefectData10 | K::ReadDefectData12 => "tests/commands.rs there_are_no_defects_to_tell_of",
        K::WriteSame10 | K::WriteSame16 => "tests/commands.rs write_same_repeats_a_block_or_deallocates",
        K::Unmap => "tests/commands.rs unmap_frees_all_its_ranges_or_none",
        K::GetLbaStatus => "tests/commands.rs get_lba_status_shows_what_is_mapped",
        K::CompareAndWrite => "tests/commands.rs compare_and_write_writes_only_what_compares_equal",
        K::OrWrite16 => "tests/commands.rs orwrite_sets_bits_and_clears_none",
        K::LogSelect | K::LogSense => "tests/pages.rs counters_count_what_was_moved_and_log_select_zeroes_them",
        K::PrInReadKeys | K::PrInReadReservation | K::PrInReportCapabilities | K::PrInReadFullStatus => {
            "tests/reservations.rs with_aptpl_registrations_and_reservation_survive_a_restart"
        }
        K::PrOutRegister | K::PrOutReserve | K::PrOutRegisterAndIgnore => {
            "tests/reservations.rs a_write_exclusive_reservation_lets_others_read"
        }
        K::PrOutRelease => "tests/reservations.rs registrants_are_told_when_a_registrants_reservation_is_released",
        K::PrOutClear => "tests/reservations.rs clear_takes_everything_and_tells",
        K::PrOutPreempt | K::PrOutPreemptAndAbort => {
            "tests/reservations.rs preempt_and_abort_ends_the_others_tasks_before_it_ends"
        }
        K::PrOutRegisterAndMove => "../scsi-core/src/reservation/model/tests.rs moving_takes_the_reservation_along",
        K::PrOutReplaceLost => {
            "tests/reservations.rs a_record_of_reservations_that_cannot_be_read_locks_everybody_out_until_it_is_cleared"
        }
        K::ExtendedCopyLid1
        | K::ReceiveCopyStatusLid1
        | K::ReceiveCopyDataLid1
        | K::ReceiveCopyOperatingParameters
        | K::ReceiveCopyFailureDetailsLid1 => {
            "tests/copy.rs a_copy_from_one_unit_to_another_moves_no_data_through_the_initiator"
        }
        K::ExtendedCopyLid4 | K::ReceiveCopyStatusLid4 | K::ReceiveCopyDataLid4 => {
            "tests/copy.rs a_copy_with_a_long_identifier_may_go_on_in_the_background"
        }
        K::CopyOperationAbort => "tests/copy.rs an_aborted_copy_stops_after_the_piece_that_is_under_way",
        K::FormatUnit => "tests/maintain.rs a_format_fills_the_medium_with_its_pattern",
        K::SanitizeOverwrite => "tests/maintain.rs an_overwrite_repeats_its_pattern_and_inverts_it_between_passes",
        K::SanitizeBlockErase => "tests/maintain.rs a_block_erase_leaves_zeros_and_frees_the_store",
        K::SanitizeExitFailureMode => "tests/maintain.rs an_interrupted_sanitize_has_failed_after_the_restart",
        K::WriteAtomic16 => "tests/atomic.rs a_read_sees_the_old_data_or_the_new",
        K::PopulateToken | K::WriteUsingToken | K::ReceiveRodTokenInformation => {
            "tests/copy.rs a_token_copies_its_ranges_to_another_unit"
        }
        K::ReportLuns => "../stmf/src/session_tests.rs report_luns_lists_ascending_with_flat_addressing_above_255",
        K::ReportIdentifyingInformation | K::SetIdentifyingInformation => {
            "tests/pages.rs identifying_information_is_kept_with_the_unit"
        }
        K::ReportTargetPortGroups => "tests/access.rs every_port_gives_the_same_answer_but_names_itself",
        K::SetTargetPortGroups => "tests/access.rs an_initiator_changes_the_state_of_a_group_for_this_unit",
        K::ReportSupportedOperationCodes => {
            "tests/pages.rs supported_operation_codes_come_with_usage_bitmaps_and_timeouts"
        }
        K::ReportSupportedTaskManagementFunctions => "tests/commands.rs supported_commands_and_functions_are_told",
        K::ReportTimestamp | K::SetTimestamp => "tests/pages.rs the_timestamp_is_the_hosts_until_it_is_set",
        // Refused by design: see reason_of.
        _ => "",
    }
}

/// The tests that show a page at work, by kind of page and code.
fn test_of_page(kind: Page, code: u8) -> &'static str {
    match (kind, code) {
        (Page::Vpd, 0x8f) => "tests/copy.rs the_third_party_copy_page_tells_what_is_supported",
        (Page::Vpd, _) => "tests/pages.rs every_listed_vital_product_data_page_is_there_and_no_other",
        (Page::Mode, _) => "tests/pages.rs every_mode_page_has_current_changeable_default_and_saved_values",
        (Page::Log, 0x02 | 0x03 | 0x05) => "tests/pages.rs failed_operations_are_counted_by_what_they_were_for",
        (Page::Log, 0x0c) => "tests/space.rs the_log_page_tells_what_is_used_and_what_is_left",
        (Page::Log, 0x0f) => "tests/pages.rs application_clients_keep_notes_that_others_read",
        (Page::Log, 0x10) => "tests/pages.rs self_tests_run_and_leave_their_results",
        (Page::Log, 0x19) => "tests/pages.rs counters_count_what_was_moved_and_log_select_zeroes_them",
        (Page::Log, _) => "tests/pages.rs log_pages_are_listed_and_each_can_be_read",
        (Page::Diagnostic, _) => "tests/pages.rs diagnostic_pages_are_asked_for_both_ways",
    }
}

#[derive(Clone, Copy)]
enum Page {
    Vpd,
    Mode,
    Log,
    Diagnostic,
}

const BUFFERS: &str = "there is no buffer to look into, and no microcode that an initiator could load";
const LONG: &str = "blocks have no error correction code beside their data; obsolete in SBC-4";
const SECURITY: &str = "access is decided by views, CHAP and reservations; the data is not encrypted by the unit";
const ZONES: &str = "nothing is zoned";
const STREAMS: &str = "no store has streams, and B7h says so";
const PROTECTION: &str = "protection information is not supported, and PROTECT says so";
const ENCLOSURE: &str = "a disk unit is no enclosure and no other device";
const OBSOLETE: &str = "obsolete in SPC-5 or SBC-4";

/// Why the commands of the table that are never supported are not.
fn reason_of(kind: K) -> &'static str {
    match kind {
        K::SanitizeCryptoErase => "the unit does not encrypt, so there is no key to forget",
        K::ReportAllRodTokens => "a token is its bearer's right: a list of all would give them to anybody",
        K::ReassignBlocks => "the store looks after its defects itself",
        K::WriteBuffer | K::ReadBuffer => BUFFERS,
        K::ReadLong10 | K::ReadLong16 | K::WriteLong10 | K::WriteLong16 => LONG,
        K::ReportReferrals => "one unit is reached in full through each of its ports: there is nothing to refer to",
        _ => "",
    }
}

/// Commands and service actions of SPC and SBC that the table has no row for, since nothing would look at one.
const ABSENT: &[(&str, &str, &str)] = &[
    ("01h", "REZERO UNIT", OBSOLETE),
    ("0Bh, 2Bh", "SEEK(6), SEEK(10)", OBSOLETE),
    ("18h, 39h, 3Ah", "COPY, COMPARE, COPY AND VERIFY", OBSOLETE),
    ("27h..2Ch", "SET WINDOW and other scanner commands", ENCLOSURE),
    ("33h, 36h", "SET LIMITS, LOCK UNLOCK CACHE", OBSOLETE),
    ("40h", "CHANGE DEFINITION", OBSOLETE),
    ("50h..53h", "XDWRITE(10), XPWRITE(10), XDREAD(10), XDWRITEREAD(10)", "XOR commands are obsolete in SBC-4"),
    ("7Fh/0009h..0010h", "READ(32), VERIFY(32), WRITE(32), WRITE AND VERIFY(32), WRITE SAME(32)", PROTECTION),
    ("7Fh/000Eh", "ORWRITE(32)", PROTECTION),
    ("7Fh/0011h, 0012h", "WRITE SCATTERED(16), WRITE SCATTERED(32)", "no initiator in use sends it, and B7h says so"),
    ("7Fh/0012h", "GET LBA STATUS(32)", "GET LBA STATUS(16) reaches every block"),
    ("7Fh/1800h", "WRITE ATOMIC(32)", PROTECTION),
    ("7Fh/3800h..3884h", "object-based storage commands", ENCLOSURE),
    ("85h, A1h", "ATA PASS-THROUGH(16), ATA PASS-THROUGH(12)", "there is no ATA device behind the unit"),
    ("86h, 87h", "ACCESS CONTROL IN, ACCESS CONTROL OUT", OBSOLETE),
    ("8Ch, 8Dh", "READ ATTRIBUTE, WRITE ATTRIBUTE", "there is no medium auxiliary memory"),
    ("94h, 95h", "ZBC OUT, ZBC IN", ZONES),
    ("96h..99h", "READ STREAM(16) and others", STREAMS),
    ("9Ah, 9Dh, 9Eh/14h, 9Eh/16h", "WRITE STREAM(16), STREAM CONTROL, GET STREAM STATUS", STREAMS),
    ("9Eh/15h, 9Eh/17h", "BACKGROUND CONTROL, GET PHYSICAL ELEMENT STATUS", "there is no background medium scan"),
    ("9Eh/18h, 9Eh/19h", "REMOVE ELEMENT AND TRUNCATE, RESTORE ELEMENTS AND REBUILD", "there are no elements"),
    ("A2h, B5h", "SECURITY PROTOCOL IN, SECURITY PROTOCOL OUT", SECURITY),
    ("A3h/0Bh", "REPORT ALIASES", "designators are given in full"),
    ("A3h/0Eh", "REPORT PRIORITY", "command priority comes with each command"),
    (
        "A3h/10h, A4h/10h",
        "MANAGEMENT PROTOCOL IN, MANAGEMENT PROTOCOL OUT",
        "see VPD page 85h for how a unit is managed",
    ),
    ("A4h/0Bh", "CHANGE ALIASES", "designators are given in full"),
    ("A4h/0Eh", "SET PRIORITY", "command priority comes with each command"),
    ("A9h/..", "SERVICE ACTION OUT(12)", "no service action of it is for disks"),
    ("ABh/01h", "READ MEDIA SERIAL NUMBER", "the medium has no name apart from the unit's"),
    ("B3h, B4h", "SET LIMITS(12), READ ELEMENT STATUS", OBSOLETE),
    ("BAh, BBh, BCh, BDh, BEh, BFh", "REDUNDANCY GROUP, SPARE and VOLUME SET commands", "obsolete with SCC-2"),
    ("48h/04h..1Eh", "other service actions of SANITIZE", "reserved"),
    ("5Eh/04h..1Fh", "other service actions of PERSISTENT RESERVE IN", "reserved"),
    ("5Fh/09h..1Fh", "other service actions of PERSISTENT RESERVE OUT", "reserved"),
    ("83h/02h..0Fh, 12h..1Bh", "other service actions of third-party copy out", "reserved or obsolete"),
    ("84h/02h, 09h..1Fh", "other service actions of third-party copy in", "reserved or obsolete"),
];

/// Vital product data pages: code, name, the reason when it is not there.
const VPD: &[(u8, &str, &str)] = &[
    (0x00, "Supported VPD Pages", ""),
    (0x80, "Unit Serial Number", ""),
    (0x83, "Device Identification", ""),
    (0x84, "Software Interface Identification", "no software interface has an IEEE identifier here"),
    (0x85, "Management Network Addresses", ""),
    (0x86, "Extended INQUIRY Data", ""),
    (0x87, "Mode Page Policy", ""),
    (
        0x88,
        "SCSI Ports",
        "a unit does not know the ports that it is not reached through; REPORT TARGET PORT GROUPS names all",
    ),
    (0x89, "ATA Information", "there is no ATA device behind the unit"),
    (0x8a, "Power Condition", "nothing turns, so there is nothing to slow down"),
    (0x8b, "Device Constituents", "the store is not told about"),
    (0x8c, "CFA Profile Information", "this is no CompactFlash card"),
    (0x8d, "Power Consumption", "the unit consumes nothing of its own"),
    (0x8f, "Third-party Copy", ""),
    (0x90, "Protocol Specific Logical Unit Information", "iSCSI has none"),
    (0x91, "Protocol Specific Port Information", "iSCSI has none"),
    (0x92, "SCSI Feature Sets", "no feature set is claimed"),
    (0xb0, "Block Limits", ""),
    (0xb1, "Block Device Characteristics", ""),
    (0xb2, "Logical Block Provisioning", ""),
    (0xb3, "Referrals", ""),
    (0xb4, "Supported Block Lengths and Protection Types", "there is one block length, and no protection information"),
    (0xb5, "Block Device Characteristics Extension", "utilization is not told"),
    (0xb6, "Zoned Block Device Characteristics", ""),
    (0xb7, "Block Limits Extension", ""),
    (0xb8, "Format Presets", "FORMAT UNIT has one form"),
    (0xb9, "Concurrent Positioning Ranges", "nothing is positioned"),
];

/// Mode pages: page, subpage, name, the reason when it is not there.
const MODE: &[(u8, u8, &str, &str)] = &[
    (0x01, 0x00, "Read-Write Error Recovery", ""),
    (0x02, 0x00, "Disconnect-Reconnect", ""),
    (0x03, 0x00, "Format Device", OBSOLETE),
    (0x04, 0x00, "Rigid Disk Geometry", OBSOLETE),
    (0x05, 0x01, "IO Advice Hints Grouping", "the store takes no hints"),
    (0x05, 0x02, "Background Operation Control", "there are no background operations"),
    (0x07, 0x00, "Verify Error Recovery", ""),
    (0x08, 0x00, "Caching", ""),
    (0x09, 0x00, "Peripheral Device", OBSOLETE),
    (0x0a, 0x00, "Control", ""),
    (0x0a, 0x01, "Control Extension", ""),
    (0x0a, 0x02, "Application Tag", PROTECTION),
    (0x0a, 0x03, "Command Duration Limit A", "commands have no duration limits"),
    (0x0a, 0x04, "Command Duration Limit B", "commands have no duration limits"),
    (0x0b, 0x00, "Medium Types Supported", OBSOLETE),
    (0x10, 0x00, "XOR Control", OBSOLETE),
    (0x14, 0x00, "Enclosure Services Management", ENCLOSURE),
    (0x18, 0x00, "Protocol Specific Logical Unit", "iSCSI has none"),
    (0x19, 0x00, "Protocol Specific Port", "iSCSI has none"),
    (0x1a, 0x00, "Power Condition", ""),
    (0x1a, 0x01, "Power Consumption", "the unit consumes nothing of its own"),
    (0x1c, 0x00, "Informational Exceptions Control", ""),
    (0x1c, 0x01, "Background Control", "there is no background medium scan"),
    (0x1c, 0x02, "Logical Block Provisioning", ""),
];

/// Log pages: page, subpage, name, the reason when it is not there.
const LOG: &[(u8, u8, &str, &str)] = &[
    (0x00, 0x00, "Supported Log Pages", ""),
    (0x00, 0xff, "Supported Log Pages and Subpages", ""),
    (0x01, 0x00, "Buffer Over-Run/Under-Run", "buffers neither run over nor under"),
    (0x02, 0x00, "Write Error Counters", ""),
    (0x03, 0x00, "Read Error Counters", ""),
    (0x05, 0x00, "Verify Error Counters", ""),
    (0x06, 0x00, "Non-Medium Error", "there is no such thing apart from what the other pages count"),
    (0x07, 0x00, "Last n Error Events", "the server has a log"),
    (0x08, 0x00, "Format Status", "FORMAT UNIT reports to the initiator that asked for it"),
    (0x0b, 0x00, "Last n Deferred Errors", "the server has a log"),
    (0x0c, 0x00, "Logical Block Provisioning", ""),
    (0x0d, 0x00, "Temperature", "there is no sensor"),
    (0x0e, 0x00, "Start-Stop Cycle Counter", "nothing turns"),
    (0x0f, 0x00, "Application Client", ""),
    (0x10, 0x00, "Self-Test Results", ""),
    (0x11, 0x00, "Solid State Media", "the store does not tell its wear"),
    (0x15, 0x00, "Background Scan Results", "there is no background medium scan"),
    (0x16, 0x00, "ATA PASS-THROUGH Results", "there is no ATA device behind the unit"),
    (0x17, 0x00, "Non-volatile Cache", "the cache is the host's memory"),
    (0x18, 0x00, "Protocol Specific Port", ""),
    (0x19, 0x00, "General Statistics and Performance", ""),
    (0x19, 0x01, "Group Statistics and Performance", "the grouping function is not supported"),
    (0x19, 0x20, "Cache Memory Statistics", "the cache is the host's memory, which others use too"),
    (0x1a, 0x00, "Power Condition Transitions", "nothing turns"),
    (0x2f, 0x00, "Informational Exceptions", ""),
];

/// Diagnostic pages.
const DIAGNOSTIC: &[(&str, &str, &str)] = &[
    ("00h", "Supported Diagnostic Pages", ""),
    ("01h..0Fh", "Enclosure Services", ENCLOSURE),
    ("40h", "Translate Address", "a store has no other address than the logical one"),
    ("42h", "Rebuild Assist", "the unit is not rebuilt from peers"),
    ("64h", "SAS and other protocol specific pages", "iSCSI has none"),
];

fn rig(properties: &[&str]) -> Rig {
    let rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), properties);
    rig.lu.set_target_ports(&Arc::new(TargetPorts::default()));
    rig
}

/// Every command that some kind of unit has.
fn commands() -> BTreeSet<(u8, Option<u16>)> {
    let mut all = BTreeSet::new();
    for properties in [&["removable=true"][..], &["thin=false"]] {
        let mut rig = rig(properties);
        let data = rig.run(1, &[0xa3, 0xc, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0], &[], 0x4000).good();
        all.extend(OperationCodesReport::decode(&data).unwrap().commands);
    }
    all
}

fn shown(page: &mut String, code: &str, name: &str, there: bool, test: &str, reason: &str) {
    assert!(!there || reason.is_empty(), "{code} {name} is there and has a reason why not");
    let (state, why) = if there {
        let (file, test) = test.split_once(' ').unwrap_or_else(|| panic!("{code} {name} has no test"));
        assert_is_a_test(file, test);
        ("implemented", format!("`{test}` in {}", path_of(file)))
    } else {
        assert!(!reason.is_empty(), "{code} {name} is not there and has no reason why");
        ("refused by design", reason.to_owned())
    };
    let _ = writeln!(page, "| {code} | {name} | {state} | {why} |");
}

/// The function is there, and the test runner runs it.
fn assert_is_a_test(file: &str, test: &str) {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file)).unwrap();
    let at = text.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("there is no {test} in {file}"));
    let before: Vec<&str> = text[..at].lines().rev().take_while(|line| !line.trim().is_empty()).collect();
    assert!(before.iter().any(|line| line.trim() == "#[test]"), "{test} in {file} is no test");
}

fn path_of(file: &str) -> String {
    file.strip_prefix("../").map_or_else(|| format!("lu-sbd/{file}"), str::to_owned)
}

fn head(page: &mut String, title: &str) {
    let _ = writeln!(page, "\n## {title}\n\n| Code | Name | State | Test, or reason |\n|---|---|---|---|");
}

fn code_of(entry: &CommandEntry) -> String {
    match entry.service_action {
        Some(action) => format!("{:02X}h/{action:02X}h", entry.opcode),
        None => format!("{:02X}h", entry.opcode),
    }
}

fn render() -> String {
    let mut page = String::from(
        "# SCSI commands and pages\n\n\
         Every command, service action and page of SPC-5 and SBC-4 that a disk could have: implemented, with a test that \
         shows it, or refused by design, with the reason. What is refused ends with 05/20/00 or 05/24/00 and is not in \
         REPORT SUPPORTED OPERATION CODES. Made by `cargo xtask compliance` from the command table \
         (`scsi-core/src/command/table.rs`) and from what a unit answers; the tests compare.\n\n\
         How every command meets bad CDBs: `lu-sbd/tests/bad_cdbs.rs`, generated from the same table and from the legal \
         values of every field (`scsi-core/src/command/fields.rs`); bad parameter lists: `lu-sbd/tests/bad_lists.rs`. \
         sg3-utils read the same pages in `lu-sbd/tests/decoders.rs`. PREVENT ALLOW MEDIUM REMOVAL needs a unit made with \
         `removable=true`; commands of tokens need the server.\n\n\
         One exception is known: a removable disk lets a reserved POWER CONDITION of START STOP UNIT pass when LOEJ is \
         set beside it, since libiscsi's suite tries all sixteen so and wants GOOD.\n",
    );
    head(&mut page, "Commands");
    let have = commands();
    for entry in &COMMANDS {
        let listed = have.contains(&(entry.opcode, entry.service_action.map(u16::from)));
        // Tokens need a host with neighbours and a clock, which this unit stands without.
        let tokens = matches!(entry.kind, K::PopulateToken | K::WriteUsingToken | K::ReceiveRodTokenInformation);
        let refused = entry.flags.contains(CommandFlags::REFUSED);
        assert!(!(listed && refused));
        let reason = if refused { reason_of(entry.kind) } else { "" };
        let there = listed || tokens;
        shown(&mut page, &code_of(entry), entry.name, there, test_of(entry.kind), reason);
    }
    head(&mut page, "Commands that the table has no row for");
    for (code, name, reason) in ABSENT {
        shown(&mut page, code, name, false, "", reason);
    }
    let mut rig = rig(&["mgmt-url=http://a"]);
    head(&mut page, "Vital product data pages");
    let listed = rig.run(1, &[0x12, 1, 0, 1, 0, 0], &[], 256).good()[4..].to_vec();
    for (code, name, reason) in VPD {
        let test = test_of_page(Page::Vpd, *code);
        shown(&mut page, &format!("{code:02X}h"), name, listed.contains(code), test, reason);
    }
    assert!(listed.iter().all(|page| VPD.iter().any(|(code, ..)| code == page)), "{listed:02x?}");
    head(&mut page, "Mode pages");
    for (code, subpage, name, reason) in MODE {
        let answer = rig.run(1, &[0x1a, 8, *code, *subpage, 255, 0], &[], 255);
        let test = test_of_page(Page::Mode, *code);
        shown(&mut page, &with_subpage(*code, *subpage), name, answer.sense.is_none(), test, reason);
    }
    head(&mut page, "Log pages");
    for (code, subpage, name, reason) in LOG {
        let answer = rig.run(1, &[0x4d, 0, 0x40 | code, *subpage, 0, 0, 0, 0x20, 0, 0], &[], 0x2000);
        let test = test_of_page(Page::Log, *code);
        shown(&mut page, &with_subpage(*code, *subpage), name, answer.sense.is_none(), test, reason);
    }
    head(&mut page, "Diagnostic pages");
    for (code, name, reason) in DIAGNOSTIC {
        let test = test_of_page(Page::Diagnostic, 0);
        shown(&mut page, code, name, reason.is_empty(), test, reason);
    }
    page
}

fn with_subpage(code: u8, subpage: u8) -> String {
    if subpage == 0 { format!("{code:02X}h") } else { format!("{code:02X}h/{subpage:02X}h") }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

#[test]
fn the_committed_page_is_what_the_table_and_a_unit_say() {
    let path = root().join("docs/compliance/scsi.md");
    let page = render();
    if std::env::var_os(WRITE).is_some() {
        std::fs::write(&path, page).unwrap();
        return;
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differs = committed.lines().zip(page.lines()).find(|(old, new)| old != new);
    assert!(committed == page, "docs/compliance/scsi.md is behind, run cargo xtask compliance; first: {differs:#?}");
}

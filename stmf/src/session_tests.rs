use scsi_core::{AdditionalSense, Lun, SenseData, SenseKey, TaskManagementFunction, TaskManagementResponse};

use super::*;
use crate::test_support::*;

const ESX1: &str = "iqn.1998-01.com.vmware:esx1";
const TARGET: &str = "iqn.2026-11.org.lunette:02:a";
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 255, 0];
const TEST_UNIT_READY: [u8; 6] = [0; 6];
const REQUEST_SENSE: [u8; 6] = [0x03, 0, 0, 0, 252, 0];

fn report_luns(select: u8, allocation: u32) -> [u8; 12] {
    let [a, b, c, d] = allocation.to_be_bytes();
    [0xa0, 0, select, 0, 0, 0, a, b, c, d, 0, 0]
}

fn lun(number: u16) -> Lun {
    Lun::new(number).unwrap()
}

/// A session that sees units 1 and 2 as LUNs 0 and 300.
fn two_luns() -> (Arc<Stmf>, Arc<FakeLu>, Arc<FakeLu>, Login) {
    let stmf = framework();
    target(&stmf, TARGET);
    let (a, b) = (lu(&stmf, 1), lu(&stmf, 2));
    view(&stmf, 1, None, None, 0);
    view(&stmf, 2, None, None, 300);
    let login = login(&stmf, ESX1, TARGET);
    (stmf, a, b, login)
}

#[test]
fn a_command_reaches_the_unit_behind_its_lun_by_either_addressing_method() {
    let (_stmf, a, b, login) = two_luns();
    login.command(lun(300), 1, &TEST_UNIT_READY);
    login.command(Lun::flat(0).unwrap(), 2, &TEST_UNIT_READY);
    assert_eq!(b.tasks.lock().unwrap().len(), 1);
    assert_eq!(a.tasks.lock().unwrap().len(), 1);
    assert_eq!(login.session.counters().values().commands, 2);
}

#[test]
fn report_luns_lists_ascending_with_flat_addressing_above_255() {
    let (_stmf, .., login) = two_luns();
    let data = login.answer(Lun::ZERO, &report_luns(0, 4096)).unwrap();
    assert_eq!(data, [[0, 0, 0, 16, 0, 0, 0, 0], [0; 8], [0x41, 0x2c, 0, 0, 0, 0, 0, 0]].concat());
}

#[test]
fn report_luns_selects_well_known_units() {
    let (_stmf, .., login) = two_luns();
    let well_known = Lun::REPORT_LUNS_WELL_KNOWN;
    let only = login.answer(well_known, &report_luns(1, 4096)).unwrap();
    assert_eq!(only, [[0, 0, 0, 8, 0, 0, 0, 0], well_known.0].concat());
    let all = login.answer(well_known, &report_luns(2, 4096)).unwrap();
    assert_eq!((all[3], &all[24..]), (24, &well_known.0[..]));
    let sense = login.answer(well_known, &report_luns(3, 4096)).unwrap_err();
    assert_eq!(sense, SenseData::invalid_field_in_cdb(2, Some(7)));
}

#[test]
fn report_luns_keeps_to_the_allocation_length_and_asks_for_16() {
    let (_stmf, .., login) = two_luns();
    assert_eq!(login.answer(Lun::ZERO, &report_luns(0, 16)).unwrap().len(), 16);
    let sense = login.answer(Lun::ZERO, &report_luns(0, 15)).unwrap_err();
    assert_eq!(sense, SenseData::invalid_field_in_cdb(6, Some(7)));
}

#[test]
fn an_empty_inventory_is_an_empty_list() {
    let stmf = framework();
    target(&stmf, TARGET);
    let login = login(&stmf, ESX1, TARGET);
    assert_eq!(login.answer(Lun::ZERO, &report_luns(0, 4096)).unwrap(), [0; 8]);
}

#[test]
fn an_unmapped_lun_says_there_is_no_device() {
    let (_stmf, .., login) = two_luns();
    let data = login.answer(lun(5), &INQUIRY).unwrap();
    assert_eq!((data[0], data.len()), (0x7f, 36));
    let unsupported = SenseData::illegal_request(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
    assert_eq!(login.answer(lun(5), &TEST_UNIT_READY).unwrap_err(), unsupported);
    let sense = login.answer(lun(5), &REQUEST_SENSE).unwrap();
    assert_eq!(SenseData::decode(&sense).unwrap(), unsupported);
    assert_eq!(login.answer(lun(5), &report_luns(0, 64)).unwrap().len(), 24);
    assert_eq!(login.answer(Lun([0xff; 8]), &TEST_UNIT_READY).unwrap_err(), unsupported);
}

#[test]
fn an_unmapped_lun_has_no_vpd_pages() {
    let (_stmf, .., login) = two_luns();
    for (cdb, byte) in [([0x12, 1, 0x83, 0, 255, 0], 2), ([0x12, 0, 1, 0, 255, 0], 2)] {
        assert_eq!(login.answer(lun(5), &cdb).unwrap_err(), SenseData::invalid_field_in_cdb(byte, Some(7)));
    }
}

#[test]
fn the_well_known_unit_answers_the_commands_it_must() {
    let (_stmf, .., login) = two_luns();
    let well_known = Lun::REPORT_LUNS_WELL_KNOWN;
    assert_eq!(login.answer(well_known, &INQUIRY).unwrap()[0], 0x1e);
    assert_eq!(login.answer(well_known, &[0x12, 1, 0, 0, 255, 0]).unwrap(), [0x1e, 0, 0, 2, 0, 0x83]);
    let names = login.answer(well_known, &[0x12, 1, 0x83, 0, 255, 0]).unwrap();
    let name = format!("{TARGET},t,0x0001");
    assert!(names.windows(name.len()).any(|part| part == name.as_bytes()));
    assert!(login.answer(well_known, &TEST_UNIT_READY).unwrap().is_empty());
    assert_eq!(login.answer(well_known, &[0x28; 10]).unwrap_err(), SenseData::invalid_opcode());
}

#[test]
fn naca_is_refused() {
    let (_stmf, .., login) = two_luns();
    let sense = login.answer(lun(5), &[0x12, 0, 0, 0, 36, 0x04]).unwrap_err();
    assert_eq!(sense, SenseData::invalid_field_in_cdb(5, Some(2)));
}

#[test]
fn a_short_cdb_is_read_as_zeros() {
    let (_stmf, .., login) = two_luns();
    assert!(login.answer(lun(5), &[0x12]).unwrap().is_empty());
    assert!(login.answer(lun(5), &[]).is_err());
}

#[test]
fn data_stops_where_the_initiator_has_no_room_but_its_length_is_told() {
    let (_stmf, .., login) = two_luns();
    let mut effects = Effects::new();
    let cdb = report_luns(0, 4096);
    let task = LuTask { data_in_length: 10, ..task(&login.session, Lun::ZERO, 1, &cdb) };
    login.session.submit(task, &mut effects);
    match &effects[..] {
        [Effect::SendData { data, .. }, Effect::Complete(done)] => {
            assert_eq!((data.concat().len(), done.data_length), (10, 24));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_changed_inventory_is_told_once_to_the_first_command_that_may_fail() {
    let (stmf, a, _, login) = two_luns();
    lu(&stmf, 3);
    view(&stmf, 3, None, None, 1);
    assert_eq!(login.mailbox.wakes(), 1);
    login.command(Lun::ZERO, 1, &INQUIRY);
    assert_eq!(a.tasks.lock().unwrap().len(), 1, "INQUIRY passes");
    let sense = login.answer(Lun::ZERO, &TEST_UNIT_READY).unwrap_err();
    assert_eq!((sense.key, sense.code), (SenseKey::UNIT_ATTENTION, AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED));
    login.command(lun(300), 2, &TEST_UNIT_READY);
    login.command(Lun::ZERO, 3, &TEST_UNIT_READY);
    assert_eq!(a.tasks.lock().unwrap().len(), 2, "once for the nexus");
}

#[test]
fn report_luns_takes_the_attention_away_and_request_sense_reports_it() {
    let (stmf, a, _, login) = two_luns();
    lu(&stmf, 3);
    view(&stmf, 3, None, None, 1);
    assert!(login.answer(Lun::ZERO, &report_luns(0, 3)).is_err());
    assert!(login.session.luns_changed(), "a refused REPORT LUNS leaves it");
    assert_eq!(login.answer(lun(77), &report_luns(0, 64)).unwrap().len(), 32);
    login.command(Lun::ZERO, 1, &TEST_UNIT_READY);
    assert_eq!(a.tasks.lock().unwrap().len(), 1);

    stmf.offline_lu(guid(3)).unwrap();
    let sense = SenseData::decode(&login.answer(Lun::ZERO, &REQUEST_SENSE).unwrap()).unwrap();
    assert_eq!(sense.code, AdditionalSense::REPORTED_LUNS_DATA_HAS_CHANGED);
    assert!(!login.session.luns_changed());
}

#[test]
fn management_of_an_unmapped_lun_is_an_incorrect_lun() {
    let (_stmf, .., login) = two_luns();
    let mut effects = Effects::new();
    let request = management(&login.session, TaskManagementFunction::AbortTaskSet);
    assert!(login.session.manage(lun(9), request, &mut effects).is_empty());
    assert!(matches!(&effects[..], [Effect::Managed { response: TaskManagementResponse::IncorrectLun, .. }]));
}

#[test]
fn management_of_a_mapped_lun_is_a_call_of_its_unit() {
    let (_stmf, _, b, login) = two_luns();
    let request = management(&login.session, TaskManagementFunction::LogicalUnitReset);
    let calls = login.session.manage(lun(300), request, &mut Effects::new());
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].lu.guid(), b.guid());
    let done = TaskManagementResponse::FunctionComplete;
    assert_eq!(login.session.managed(request.tag, done), Some(done));
}

#[test]
fn a_target_reset_is_one_answer_for_all_units_and_the_worst() {
    let (_stmf, .., login) = two_luns();
    let request = management(&login.session, TaskManagementFunction::TargetWarmReset);
    let calls = login.session.manage(Lun::ZERO, request, &mut Effects::new());
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.request.function == TaskManagementFunction::LogicalUnitReset));
    let (done, refused) = (TaskManagementResponse::FunctionComplete, TaskManagementResponse::FunctionRejected);
    assert_eq!(login.session.managed(request.tag, refused), None);
    assert_eq!(login.session.managed(request.tag, done), Some(refused));
    assert_eq!(login.session.managed(request.tag, done), Some(done), "the tag is free again");
    assert_eq!(login.session.termination(), None);
}

#[test]
fn a_lost_nexus_is_lost_for_all_units_whatever_lun_was_named() {
    let (_stmf, .., login) = two_luns();
    let request = management(&login.session, TaskManagementFunction::ItNexusReset);
    let calls = login.session.manage(lun(9999), request, &mut Effects::new());
    assert_eq!(calls.len(), 2);
    assert!(calls.iter().all(|call| call.request.function == TaskManagementFunction::ItNexusReset));
    let done = TaskManagementResponse::FunctionComplete;
    assert_eq!(login.session.managed(request.tag, done), None);
    assert_eq!(login.session.managed(request.tag, done), Some(done));
    assert_eq!(login.session.termination(), None, "the session goes on");
}

#[test]
fn a_cold_reset_ends_every_session_of_the_target_and_no_other() {
    let (stmf, .., login1) = two_luns();
    target(&stmf, "iqn.2026-11.org.lunette:02:b");
    let login2 = login(&stmf, "iqn.1998-01.com.vmware:esx2", TARGET);
    let other = login(&stmf, ESX1, "iqn.2026-11.org.lunette:02:b");
    let request = management(&login1.session, TaskManagementFunction::TargetColdReset);
    let done = TaskManagementResponse::FunctionComplete;
    assert_eq!(login1.session.manage(Lun::ZERO, request, &mut Effects::new()).len(), 2);
    assert_eq!(login1.session.managed(request.tag, done), None);
    assert_eq!(login1.session.managed(request.tag, done), Some(done));
    assert_eq!(login1.session.termination(), Some(Termination::Kill));
    assert_eq!(login2.session.termination(), Some(Termination::Kill));
    assert_eq!(login2.mailbox.wakes(), 1);
    assert_eq!(other.session.termination(), None);
}

#[test]
fn a_reset_of_a_target_without_units_is_done_at_once() {
    let stmf = framework();
    target(&stmf, TARGET);
    let login = login(&stmf, ESX1, TARGET);
    let request = management(&login.session, TaskManagementFunction::TargetColdReset);
    let mut effects = Effects::new();
    assert!(login.session.manage(Lun::ZERO, request, &mut effects).is_empty());
    let [Effect::Managed { tag, response, .. }] = effects[..] else { panic!("{effects:?}") };
    assert_eq!(login.session.managed(tag, response), Some(TaskManagementResponse::FunctionComplete));
    assert_eq!(login.session.termination(), Some(Termination::Kill));
}

#[test]
fn query_asynchronous_event_sees_the_attention() {
    let (stmf, .., login) = two_luns();
    let request = management(&login.session, TaskManagementFunction::QueryAsynchronousEvent);
    assert_eq!(login.session.manage(Lun::ZERO, request, &mut Effects::new()).len(), 1);
    stmf.offline_lu(guid(2)).unwrap();
    let mut effects = Effects::new();
    login.session.manage(Lun::ZERO, request, &mut effects);
    let [Effect::Managed { response, .. }] = effects[..] else { panic!("{effects:?}") };
    let additional = [0x06, 0x3f, 0x0e];
    assert_eq!(response, TaskManagementResponse::FunctionSucceeded { additional });
}

#[test]
fn a_stronger_wish_to_end_replaces_a_weaker_and_wakes_once() {
    let (_stmf, .., login) = two_luns();
    login.session.terminate(Termination::Logout);
    login.session.terminate(Termination::Kill);
    login.session.terminate(Termination::Logout);
    assert_eq!(login.session.termination(), Some(Termination::Kill));
    assert_eq!(login.mailbox.wakes(), 2);
}

#[test]
fn closing_detaches_from_every_unit_once() {
    let (stmf, a, b, login) = two_luns();
    login.command(Lun::ZERO, 1, &TEST_UNIT_READY);
    *a.on_detach.lock().unwrap() = vec![store(login.session.id(), 42)];
    login.session.close();
    login.session.close();
    assert_eq!(*a.losses.lock().unwrap(), [(login.session.id(), crate::provider::NexusLoss::SessionEnded)]);
    assert!(b.attached().is_empty());
    assert!(stmf.route(login.session.id()).is_none());
    assert!(login.mailbox.effects.lock().unwrap().is_empty(), "tasks end without a word");
    assert_eq!(a.stores.lock().unwrap().len(), 1, "a store operation is carried out all the same");
}

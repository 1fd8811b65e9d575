//! Unit attentions reach exactly the nexuses that they are for, and task management tells the right ones.

mod common;

use common::{BLOCK, End, Rig, TEST_UNIT_READY, read10, write10};
use scsi_core::{SenseKey, Status, TaskManagementFunction as Function, TaskManagementResponse};
use stmf::provider::NexusLoss;

const WRITE_EXCLUSIVE: u8 = 1;
const EXCLUSIVE_ACCESS: u8 = 3;
const REGISTRANTS_ONLY: u8 = 5;

const RESERVATIONS_PREEMPTED: u8 = 3;
const RESERVATIONS_RELEASED: u8 = 4;
const REGISTRATIONS_PREEMPTED: u8 = 5;

fn out(rig: &mut Rig, nexus: u64, action: u8, kind: u8, key: u64, other: u64) {
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&other.to_be_bytes());
    rig.run(nexus, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &list, 0).good();
}

/// Nexuses 1 to 3 are registered with key 10 times their number, 4 is not.
fn registered() -> Rig {
    let mut rig = Rig::new();
    rig.attach(4);
    for nexus in 1..=3 {
        out(&mut rig, nexus, 0, 0, 0, 10 * nexus);
    }
    rig
}

/// What every nexus is told next: the qualifier of 2Ah, 0 for nothing.
fn told(rig: &mut Rig) -> [u8; 4] {
    [1, 2, 3, 4].map(|nexus| {
        // It passes reservations, and meets unit attentions.
        let answer = rig.run(nexus, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[], 8);
        match answer.sense {
            Some(sense) if sense.key == SenseKey::UNIT_ATTENTION => {
                assert_eq!(sense.code.asc, 0x2a);
                assert_eq!(rig.run(nexus, &[0x5e, 0, 0, 0, 0, 0, 0, 0, 8, 0], &[], 8).status, Status::GOOD);
                sense.code.ascq
            }
            _ => 0,
        }
    })
}

#[test]
fn clear_tells_the_other_registrants() {
    let mut rig = registered();
    out(&mut rig, 2, 1, WRITE_EXCLUSIVE, 20, 0);
    out(&mut rig, 1, 3, 0, 10, 0);
    assert_eq!(told(&mut rig), [0, RESERVATIONS_PREEMPTED, RESERVATIONS_PREEMPTED, 0]);
}

#[test]
fn a_release_tells_the_other_registrants_of_a_registrants_only_reservation() {
    let mut rig = registered();
    out(&mut rig, 1, 1, REGISTRANTS_ONLY, 10, 0);
    assert_eq!(told(&mut rig), [0; 4]);
    out(&mut rig, 1, 2, REGISTRANTS_ONLY, 10, 0);
    assert_eq!(told(&mut rig), [0, RESERVATIONS_RELEASED, RESERVATIONS_RELEASED, 0]);
    out(&mut rig, 1, 1, WRITE_EXCLUSIVE, 10, 0);
    out(&mut rig, 1, 2, WRITE_EXCLUSIVE, 10, 0);
    assert_eq!(told(&mut rig), [0; 4], "nobody had access by it, so nobody is told");
}

#[test]
fn a_holder_that_unregisters_releases_and_tells() {
    let mut rig = registered();
    out(&mut rig, 1, 1, REGISTRANTS_ONLY, 10, 0);
    out(&mut rig, 1, 0, 0, 10, 0);
    assert_eq!(told(&mut rig), [0, RESERVATIONS_RELEASED, RESERVATIONS_RELEASED, 0]);
}

#[test]
fn preempt_tells_those_who_lose_their_registration_and_nobody_else() {
    let mut rig = registered();
    out(&mut rig, 1, 4, WRITE_EXCLUSIVE, 10, 30);
    assert_eq!(told(&mut rig), [0, 0, REGISTRATIONS_PREEMPTED, 0]);
}

#[test]
fn preempting_the_holder_tells_the_rest_only_when_the_type_changes() {
    let mut rig = registered();
    out(&mut rig, 2, 1, WRITE_EXCLUSIVE, 20, 0);
    out(&mut rig, 1, 4, WRITE_EXCLUSIVE, 10, 20);
    assert_eq!(told(&mut rig), [0, REGISTRATIONS_PREEMPTED, 0, 0]);
    let mut rig = registered();
    out(&mut rig, 2, 1, WRITE_EXCLUSIVE, 20, 0);
    out(&mut rig, 1, 4, EXCLUSIVE_ACCESS, 10, 20);
    assert_eq!(told(&mut rig), [0, REGISTRATIONS_PREEMPTED, RESERVATIONS_RELEASED, 0]);
}

#[test]
fn a_registration_and_a_reservation_tell_nobody() {
    let mut rig = registered();
    assert_eq!(told(&mut rig), [0; 4]);
    out(&mut rig, 3, 1, EXCLUSIVE_ACCESS, 30, 0);
    out(&mut rig, 2, 6, 0, 0, 77);
    assert_eq!(told(&mut rig), [0; 4]);
}

#[test]
fn cleared_tasks_are_told_to_those_who_had_some() {
    let mut rig = Rig::new();
    rig.hold = true;
    let theirs = rig.simple(2, &read10(0, 1), &[], BLOCK as u32);
    let own = rig.simple(1, &read10(8, 1), &[], BLOCK as u32);
    let tag = rig.manage(1, Function::ClearTaskSet, None);
    assert_eq!(rig.response(tag), None, "the store is not done with them");
    rig.release_all();
    assert_eq!(rig.response(tag), Some(TaskManagementResponse::FunctionComplete));
    assert_eq!(rig.ended.get(&theirs), Some(&End::Aborted { report: false }));
    assert_eq!(rig.ended.get(&own), Some(&End::Aborted { report: false }));
    rig.hold = false;
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2f, 0);
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
    rig.run(3, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn abort_task_set_of_one_nexus_is_no_news_for_the_others() {
    let mut rig = Rig::new();
    rig.hold = true;
    rig.simple(1, &read10(0, 1), &[], BLOCK as u32);
    let theirs = rig.simple(2, &read10(8, 1), &[], BLOCK as u32);
    rig.manage(1, Function::AbortTaskSet, None);
    rig.hold = false;
    rig.release_all();
    rig.answer_of(theirs).good();
    for nexus in 1..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).good();
    }
}

#[test]
fn query_functions_tell_what_is_there_and_what_is_pending() {
    let mut rig = Rig::new();
    let ask = |rig: &mut Rig, function, task| {
        let tag = rig.manage(1, function, task);
        rig.response(tag).unwrap()
    };
    assert_eq!(ask(&mut rig, Function::QueryTaskSet, None), TaskManagementResponse::FunctionComplete);
    rig.hold = true;
    let task = rig.simple(1, &read10(0, 1), &[], BLOCK as u32);
    assert_eq!(ask(&mut rig, Function::QueryTaskSet, None), TaskManagementResponse::SUCCEEDED);
    assert_eq!(ask(&mut rig, Function::QueryTask, Some(task)), TaskManagementResponse::SUCCEEDED);
    rig.hold = false;
    rig.release_all();
    assert_eq!(ask(&mut rig, Function::QueryTask, Some(task)), TaskManagementResponse::FunctionComplete);
    assert_eq!(ask(&mut rig, Function::QueryAsynchronousEvent, None), TaskManagementResponse::FunctionComplete);
    rig.manage(2, Function::LogicalUnitReset, None);
    let TaskManagementResponse::FunctionSucceeded { additional } =
        ask(&mut rig, Function::QueryAsynchronousEvent, None)
    else {
        panic!("a unit attention is pending");
    };
    assert_eq!(additional, [0x10 | SenseKey::UNIT_ATTENTION.0, 0x29, 3]);
    // Asking has not cleared it.
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
}

#[test]
fn a_nexus_reset_drops_what_belongs_to_the_nexus_and_keeps_its_registration() {
    let mut rig = registered();
    out(&mut rig, 1, 1, WRITE_EXCLUSIVE, 10, 0);
    rig.manage(1, Function::ItNexusReset, None);
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 7);
    for nexus in 2..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).good();
    }
    assert_eq!(rig.run(2, &write10(0, 1), &[0; BLOCK], 0).status, Status::RESERVATION_CONFLICT);
    rig.run(1, &write10(0, 1), &[0; BLOCK], 0).good();
}

#[test]
fn an_abort_is_answered_after_the_write_in_flight_and_nothing_follows_it() {
    let mut rig = Rig::new();
    rig.hold = true;
    let task = rig.simple(1, &write10(0, 4), &[5; 4 * BLOCK], 0);
    let tag = rig.manage(1, Function::AbortTask, Some(task));
    assert_eq!(rig.response(tag), None);
    rig.release_all();
    assert_eq!(rig.response(tag), Some(TaskManagementResponse::FunctionComplete));
    assert_eq!(rig.ended.get(&task), Some(&End::Aborted { report: false }));
    assert!(rig.held.is_empty());
}

#[test]
fn a_session_that_ends_takes_its_attentions_along_and_tells_nobody() {
    let mut rig = registered();
    rig.hold = true;
    rig.simple(3, &read10(0, 1), &[], BLOCK as u32);
    rig.detach(3, NexusLoss::SessionEnded);
    rig.hold = false;
    rig.release_all();
    for nexus in [1, 2, 4] {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).good();
    }
}

//! Task sets, aborts and resets, with store operations that take their time.

mod common;

use common::*;
use lu_sbd::Limits;
use lu_sbd::store::MemoryStore;
use scsi_core::{
    SenseKey, Status, TaskAttribute, TaskManagementFunction as Function, TaskManagementResponse as Response,
};
use std::sync::Arc;
use stmf::NexusId;
use stmf::provider::NexusLoss;

fn slow() -> Rig {
    let mut rig = Rig::new();
    rig.hold = true;
    rig
}

#[test]
fn simple_tasks_run_side_by_side_and_end_in_the_order_of_the_store() {
    let mut rig = slow();
    let one = rig.simple(1, &read10(0, 1), &[], 512);
    let two = rig.simple(2, &read10(1, 1), &[], 512);
    rig.release(1);
    rig.release(0);
    assert_eq!(rig.order[3..], [two, one]);
}

#[test]
fn an_ordered_task_waits_for_all_that_are_older_and_holds_back_the_younger() {
    let mut rig = slow();
    let old = rig.simple(1, &read10(0, 1), &[], 512);
    let ordered = rig.start(2, TaskAttribute::Ordered, &read10(1, 1), &[], 512);
    let young = rig.simple(1, &read10(2, 1), &[], 512);
    assert_eq!(rig.held.len(), 1);
    rig.release(0);
    assert_eq!(rig.held.len(), 1);
    rig.release_all();
    assert_eq!(rig.order[3..], [old, ordered, young]);
}

#[test]
fn a_head_of_queue_task_passes_those_that_wait() {
    let mut rig = slow();
    let old = rig.simple(1, &read10(0, 1), &[], 512);
    let ordered = rig.start(1, TaskAttribute::Ordered, &read10(1, 1), &[], 512);
    let head = rig.start(1, TaskAttribute::HeadOfQueue, &read10(2, 1), &[], 512);
    assert_eq!(rig.held.len(), 2);
    rig.release(1);
    rig.release_all();
    assert_eq!(rig.order[3..], [head, old, ordered]);
}

#[test]
fn a_thousand_waiting_tasks_end_without_recursion() {
    let mut rig = slow();
    rig.simple(1, &read10(0, 1), &[], 512);
    for _ in 0..1000 {
        rig.start(1, TaskAttribute::Ordered, &TEST_UNIT_READY, &[], 0);
    }
    rig.release(0);
    assert_eq!(rig.order.len(), 3 + 1001);
}

#[test]
fn a_full_task_set_says_so_and_takes_the_command_later() {
    let store = Arc::new(MemoryStore::new(64 << 20));
    let mut limits = Limits::default();
    (limits.max_tasks, limits.max_tasks_per_nexus) = (5, 3);
    let mut rig = Rig::of(identity(64 << 20, &[]), store, limits);
    rig.hold = true;
    for lba in 0..3 {
        rig.simple(1, &read10(lba, 1), &[], 512);
    }
    assert_eq!(rig.run(1, &read10(9, 1), &[], 512).status, Status::TASK_SET_FULL);
    rig.simple(2, &read10(0, 1), &[], 512);
    rig.simple(2, &read10(0, 1), &[], 512);
    assert_eq!(rig.run(2, &read10(9, 1), &[], 512).status, Status::TASK_SET_FULL);
    rig.release(0);
    let id = rig.simple(1, &read10(9, 1), &[], 512);
    rig.release_all();
    rig.answer_of(id).good();
}

#[test]
fn abort_task_is_answered_when_the_store_is_done_with_it() {
    let mut rig = slow();
    let id = rig.simple(1, &write10(0, 1), &[1; 512], 0);
    let tag = rig.manage(1, Function::AbortTask, Some(id));
    assert_eq!((rig.response(tag), rig.ended.get(&id)), (None, None));
    rig.release(0);
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    assert_eq!(rig.ended[&id], End::Aborted { report: false });
    let tag = rig.manage(1, Function::AbortTask, Some(id));
    assert_eq!(rig.response(tag), Some(Response::TaskDoesNotExist));
}

#[test]
fn a_task_that_waits_for_data_is_aborted_at_once() {
    let mut rig = Rig::new();
    rig.hold_data = true;
    let id = rig.simple(1, &write10(0, 1), &[1; 512], 0);
    let tag = rig.manage(1, Function::AbortTask, Some(id));
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    rig.feed_wanted();
    rig.hold_data = false;
    assert_eq!(rig.read(1, 0, 1), [0; 512]);
}

#[test]
fn abort_task_set_ends_the_own_tasks_only() {
    let mut rig = slow();
    let mine = [rig.simple(1, &read10(0, 1), &[], 512), rig.start(1, TaskAttribute::Ordered, &read10(0, 1), &[], 512)];
    let other = rig.simple(2, &read10(0, 1), &[], 512);
    let tag = rig.manage(1, Function::AbortTaskSet, None);
    // The one that had not begun is gone, and what waited for it runs.
    assert_eq!(rig.ended[&mine[1]], End::Aborted { report: false });
    rig.release_all();
    assert_eq!(rig.ended[&mine[0]], End::Aborted { report: false });
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    rig.answer_of(other).good();
}

#[test]
fn clear_task_set_tells_the_others() {
    let mut rig = slow();
    let mine = rig.simple(1, &read10(0, 1), &[], 512);
    let other = rig.simple(2, &read10(0, 1), &[], 512);
    rig.manage(1, Function::ClearTaskSet, None);
    rig.release_all();
    assert_eq!(rig.ended[&mine], End::Aborted { report: false });
    assert_eq!(rig.ended[&other], End::Aborted { report: false });
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2f, 0);
    rig.run(3, &TEST_UNIT_READY, &[], 0).good();
}

fn set_control(rig: &mut Rig, byte: usize, bits: u8) {
    let mut list = rig.run(1, &[0x1a, 8, 0x0a, 0, 255, 0], &[], 255).good();
    (list[0], list[2]) = (0, 0);
    list[4] &= 0x7f;
    list[4 + byte] |= bits;
    rig.run(1, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list, 0).good();
    for nexus in 2..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    }
}

#[test]
fn with_tas_the_others_get_task_aborted_instead() {
    let mut rig = Rig::new();
    set_control(&mut rig, 5, 0x40);
    rig.hold = true;
    let other = rig.simple(2, &read10(0, 1), &[], 512);
    rig.manage(1, Function::ClearTaskSet, None);
    rig.release_all();
    assert_eq!(rig.ended[&other], End::Aborted { report: true });
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn with_a_task_set_for_each_nexus_others_are_left_alone() {
    let mut rig = Rig::new();
    set_control(&mut rig, 2, 0x20);
    rig.hold = true;
    let other = rig.simple(2, &read10(0, 1), &[], 512);
    rig.start(1, TaskAttribute::Ordered, &read10(0, 1), &[], 512);
    assert_eq!(rig.held.len(), 2);
    rig.manage(1, Function::ClearTaskSet, None);
    rig.release_all();
    rig.answer_of(other).good();
}

#[test]
fn with_qerr_an_error_aborts_the_other_tasks() {
    let mut rig = Rig::new();
    set_control(&mut rig, 3, 0x02);
    rig.hold = true;
    let mine = rig.simple(1, &read10(0, 1), &[], 512);
    let other = rig.simple(2, &read10(0, 1), &[], 512);
    rig.run(1, &read10(u32::MAX, 1), &[], 512).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    rig.release_all();
    for id in [mine, other] {
        assert_eq!(rig.ended[&id], End::Aborted { report: false });
    }
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2f, 0);
}

#[test]
fn an_allegiance_stops_the_others_until_it_is_cleared() {
    let mut rig = Rig::new();
    let mut cdb = read10(u32::MAX, 1);
    cdb[9] = 4;
    rig.run(1, &cdb, &[], 512).check(SenseKey::ILLEGAL_REQUEST, 0x21, 0);
    assert_eq!(rig.run(1, &TEST_UNIT_READY, &[], 0).status, Status::ACA_ACTIVE);
    assert_eq!(rig.run(2, &TEST_UNIT_READY, &[], 0).status, Status::ACA_ACTIVE);
    let aca = rig.start(1, TaskAttribute::Aca, &read10(0, 1), &[], 512);
    rig.answer_of(aca).good();
    let tag = rig.manage(1, Function::ClearAca, None);
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
    let aca = rig.start(1, TaskAttribute::Aca, &TEST_UNIT_READY, &[], 0);
    rig.answer_of(aca).check(SenseKey::ABORTED_COMMAND, 0x49, 0);
}

#[test]
fn nexuses_that_come_and_go_leave_nothing_behind() {
    let mut rig = slow();
    for round in 0..50 {
        rig.simple(3, &read10(0, 1), &[], 512);
        rig.start(3, TaskAttribute::Ordered, &TEST_UNIT_READY, &[], 0);
        rig.detach(3, NexusLoss::SessionEnded);
        rig.hold = false;
        if round % 3 == 0 {
            rig.release_all();
        }
        rig.attach(3);
        rig.hold = true;
    }
    rig.release_all();
    assert_eq!(rig.lu.snapshot().tasks, 0);
    rig.start(2, TaskAttribute::Ordered, &TEST_UNIT_READY, &[], 0);
    assert_eq!(rig.lu.snapshot().tasks, 0);
}

#[test]
fn a_unit_reset_ends_everything_and_tells_everybody() {
    let mut rig = slow();
    let other = rig.simple(2, &write10(0, 1), &[1; 512], 0);
    let tag = rig.manage(1, Function::LogicalUnitReset, None);
    assert_eq!(rig.response(tag), None);
    rig.release_all();
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    assert_eq!(rig.ended[&other], End::Aborted { report: false });
    for nexus in 1..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).good();
    }
}

#[test]
fn queries_tell_what_is_there() {
    let mut rig = slow();
    let id = rig.simple(1, &read10(0, 1), &[], 512);
    let query = |rig: &mut Rig, nexus, function, task| {
        let tag = rig.manage(nexus, function, task);
        rig.response(tag).unwrap()
    };
    assert_eq!(query(&mut rig, 1, Function::QueryTask, Some(id)), Response::SUCCEEDED);
    assert_eq!(query(&mut rig, 2, Function::QueryTask, Some(id)), Response::FunctionComplete);
    assert_eq!(query(&mut rig, 1, Function::QueryTaskSet, None), Response::SUCCEEDED);
    assert_eq!(query(&mut rig, 2, Function::QueryTaskSet, None), Response::FunctionComplete);
    assert_eq!(query(&mut rig, 1, Function::QueryAsynchronousEvent, None), Response::FunctionComplete);
    rig.release_all();
    assert_eq!(query(&mut rig, 1, Function::QueryTask, Some(id)), Response::FunctionComplete);
    rig.manage(2, Function::LogicalUnitReset, None);
    let event = query(&mut rig, 1, Function::QueryAsynchronousEvent, None);
    assert_eq!(event, Response::FunctionSucceeded { additional: [0x16, 0x29, 3] });
    assert_eq!(query(&mut rig, 1, Function::TaskReassign, None), Response::FunctionRejected);
}

#[test]
fn tasks_of_a_session_that_ended_end_silently() {
    let mut rig = slow();
    let id = rig.simple(1, &write10(0, 1), &[1; 512], 0);
    rig.detach(1, NexusLoss::SessionEnded);
    rig.release_all();
    assert_eq!(rig.ended.get(&id), None);
    assert_eq!(rig.lu.snapshot().tasks, 0);
}

#[test]
fn what_a_lost_session_still_writes_does_not_overwrite_what_comes_after() {
    let mut rig = Rig::new();
    rig.hold = true;
    let (old, new, other) = (pattern(8, 1), pattern(8, 2), pattern(8, 3));
    rig.simple(1, &write10(100, 8), &old, 0);
    rig.detach(1, NexusLoss::SessionEnded);
    rig.attach(4);
    let overlapping = rig.simple(4, &write10(104, 8), &new, 0);
    let apart = rig.simple(4, &write10(108 + 8, 8), &other, 0);
    assert_eq!(rig.held.len(), 2, "the overlapping write is at the store though the old one is");
    rig.release(1);
    assert!(rig.ended.contains_key(&apart) && !rig.ended.contains_key(&overlapping));
    rig.release_all();
    rig.answer_of(overlapping).good();
    rig.hold = false;
    assert_eq!(rig.read(2, 100, 4), old[..4 * BLOCK]);
    assert_eq!(rig.read(2, 104, 8), new);
}

#[test]
fn what_an_aborted_task_still_writes_does_not_overwrite_what_comes_after() {
    // Who hears of the abort by a unit attention writes again long before the function is answered.
    let mut rig = Rig::new();
    rig.hold = true;
    let (old, new) = (pattern(8, 1), pattern(8, 2));
    rig.simple(1, &write10(100, 8), &old, 0);
    let tag = rig.manage(2, Function::LogicalUnitReset, None);
    assert_eq!(rig.response(tag), None);
    let attention = rig.simple(1, &write10(100, 8), &new, 0);
    rig.answer_of(attention).check(SenseKey::UNIT_ATTENTION, 0x29, 0x03);
    let again = rig.simple(1, &write10(100, 8), &new, 0);
    assert_eq!(rig.held.len(), 1);
    rig.release_all();
    assert!(rig.response(tag).is_some());
    rig.answer_of(again).good();
    rig.hold = false;
    assert_eq!(rig.read(1, 100, 8), new);
}

#[test]
fn tasks_of_a_unit_that_is_unmapped_end_with_task_aborted() {
    let mut rig = slow();
    let id = rig.simple(1, &write10(0, 1), &[1; 512], 0);
    rig.detach(1, NexusLoss::Unmapped);
    rig.release_all();
    assert_eq!(rig.ended[&id], End::Aborted { report: true });
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x25, 0);
}

#[test]
fn a_function_is_answered_though_the_unit_is_unmapped_meanwhile() {
    let mut rig = slow();
    let id = rig.simple(1, &read10(0, 1), &[], 512);
    let tag = rig.manage(1, Function::AbortTask, Some(id));
    assert_eq!(rig.response(tag), None);
    rig.detach(1, NexusLoss::Unmapped);
    rig.release_all();
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    let late = rig.manage(1, Function::AbortTaskSet, None);
    assert_eq!(rig.response(late), Some(Response::FunctionComplete), "it was on its way");
}

#[test]
fn a_function_of_a_session_that_ended_is_not_answered() {
    let mut rig = slow();
    rig.simple(1, &read10(0, 1), &[], 512);
    let tag = rig.manage(1, Function::AbortTaskSet, None);
    rig.detach(1, NexusLoss::SessionEnded);
    rig.release_all();
    assert_eq!(rig.response(tag), None);
}

#[test]
fn a_nexus_reset_is_felt_by_that_nexus_alone() {
    let mut rig = slow();
    let id = rig.simple(1, &read10(0, 1), &[], 512);
    rig.run(1, &[0x16, 0, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(rig.run(2, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
    rig.manage(1, Function::ItNexusReset, None);
    rig.release_all();
    assert_eq!(rig.ended[&id], End::Aborted { report: false });
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 7);
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
    let read = rig.simple(2, &read10(0, 1), &[], 512);
    rig.release_all();
    rig.answer_of(read).good();
}

fn compare_and_write(lba: u64, old: u8, new: u8) -> ([u8; 16], Vec<u8>) {
    let mut cdb = sixteen(0x89, 0, lba, 0);
    cdb[13] = 1;
    (cdb, [[old; 512], [new; 512]].concat())
}

#[test]
fn compare_and_write_has_its_range_for_itself() {
    let mut rig = slow();
    let write = rig.simple(1, &write10(10, 4), &[1; 2048], 0);
    let (cdb, data) = compare_and_write(12, 1, 2);
    let swap = rig.simple(2, &cdb, &data, 0);
    let read = rig.simple(3, &read10(12, 1), &[], 512);
    let elsewhere = rig.simple(3, &read10(13, 1), &[], 512);
    // The write and the read of another block are under way, nothing else.
    assert_eq!(rig.held.len(), 2);
    rig.release(1);
    rig.release_all();
    assert_eq!(rig.order[3..], [elsewhere, write, swap, read]);
    assert_eq!(rig.answer_of(read).good(), [2; 512]);
}

#[test]
fn of_several_compare_and_writes_one_wins() {
    let mut rig = slow();
    let ids: Vec<_> = (1..=3u8)
        .map(|nexus| {
            let (cdb, data) = compare_and_write(5, 0, nexus);
            rig.simple(nexus.into(), &cdb, &data, 0)
        })
        .collect();
    assert_eq!(rig.held.len(), 1);
    rig.release_all();
    let won: Vec<bool> = ids.iter().map(|id| rig.answer_of(*id).status == Status::GOOD).collect();
    assert_eq!(won, [true, false, false]);
    rig.hold = false;
    assert_eq!(rig.read(1, 5, 1), [1; 512]);
}

#[test]
fn an_aborted_compare_and_write_frees_its_range() {
    let mut rig = slow();
    let read = rig.simple(1, &read10(5, 1), &[], 512);
    let (cdb, data) = compare_and_write(5, 0, 1);
    let swap = rig.simple(2, &cdb, &data, 0);
    let behind = rig.simple(3, &read10(5, 1), &[], 512);
    assert_eq!(rig.held.len(), 1);
    let tag = rig.manage(2, Function::AbortTask, Some(swap));
    assert_eq!(rig.response(tag), Some(Response::FunctionComplete));
    assert_eq!(rig.held.len(), 2);
    rig.release_all();
    rig.answer_of(read).good();
    rig.answer_of(behind).good();
}

#[test]
fn a_write_same_is_aborted_between_its_pieces() {
    let mut rig = Rig::with(Arc::new(MemoryStore::new(1 << 30)), &[]);
    rig.hold = true;
    let id = rig.simple(1, &sixteen(0x93, 0, 0, 2 << 20), &[1; 512], 0);
    rig.release(0);
    rig.manage(1, Function::AbortTask, Some(id));
    rig.release(0);
    assert!(rig.held.is_empty());
    assert_eq!(rig.ended[&id], End::Aborted { report: false });
}

#[test]
fn outcomes_that_nobody_asked_for_are_ignored() {
    use stmf::provider::{Effects, LogicalUnit, StoreDone, StoreOutcome, StoreToken};
    let rig = Rig::new();
    let mut effects = Effects::new();
    let done = StoreDone { nexus: NexusId(1), token: StoreToken(77), outcome: StoreOutcome::Done };
    rig.lu.store_done(done, &mut effects);
    assert!(effects.is_empty());
}

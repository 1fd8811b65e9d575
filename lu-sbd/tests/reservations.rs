//! Reservations as initiators meet them: conflicts, unit attentions, aborted tasks, and what survives.

mod common;

use common::*;
use lu_sbd::store::MemoryStore;
use lu_sbd::{Limits, SbdLu};
use scsi_core::reservation::{
    Capabilities, FullStatus, ReadKeys, ReadReservation, RegisterParameters, ReservationType,
};
use scsi_core::{SenseKey, Status};
use std::sync::Arc;
use stmf::provider::NexusLoss;

fn out(action: u8, kind: u8) -> [u8; 10] {
    [0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0]
}

fn list(key: u64, service_action_key: u64, aptpl: bool) -> Vec<u8> {
    RegisterParameters { key, service_action_key, aptpl, ..Default::default() }.encode()
}

fn keys(rig: &mut Rig) -> Vec<u64> {
    ReadKeys::decode(&rig.run(1, &[0x5e, 0, 0, 0, 0, 0, 0, 1, 0, 0], &[], 256).good()).unwrap().keys
}

fn registered() -> Rig {
    let mut rig = Rig::new();
    for nexus in 1..=2 {
        rig.run(nexus, &out(0, 0), &list(0, nexus, false), 0).good();
    }
    rig
}

#[test]
fn reserve_keeps_others_out_until_release_or_reset() {
    let mut rig = Rig::new();
    rig.run(1, &[0x16, 0, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(rig.run(2, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
    assert_eq!(rig.run(2, &[0x16, 0, 0, 0, 0, 0], &[], 0).status, Status::RESERVATION_CONFLICT);
    rig.run(2, &[0x12, 0, 0, 0, 36, 0], &[], 36).good();
    rig.run(2, &[0x17, 0, 0, 0, 0, 0], &[], 0).good();
    assert_eq!(rig.run(2, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
    rig.read(1, 0, 1);
    rig.run(1, &[0x57, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).good();
    rig.read(2, 0, 1);
    rig.run(2, &[0x56, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 0).good();
    rig.detach(2, NexusLoss::SessionEnded);
    rig.read(1, 0, 1);
}

#[test]
fn a_write_exclusive_reservation_lets_others_read() {
    let mut rig = registered();
    rig.run(1, &out(1, 1), &list(1, 0, false), 0).good();
    rig.read(2, 0, 1);
    rig.read(3, 0, 1);
    assert_eq!(rig.run(2, &write10(0, 1), &[0; 512], 0).status, Status::RESERVATION_CONFLICT);
    assert_eq!(rig.run(3, &ten(0x42, 0, 0, 0), &[], 0).status, Status::RESERVATION_CONFLICT);
    rig.write(1, 0, &[1; 512]);
    let held = ReadReservation::decode(&rig.run(3, &[0x5e, 1, 0, 0, 0, 0, 0, 1, 0, 0], &[], 256).good()).unwrap();
    assert_eq!(held.reservation, Some((1, ReservationType::WriteExclusive)));
    assert!(rig.lu.snapshot().reserved);
    assert_eq!(rig.run(3, &out(2, 1), &list(1, 0, false), 0).status, Status::RESERVATION_CONFLICT);
    rig.run(1, &out(2, 1), &list(1, 0, false), 0).good();
    rig.write(3, 0, &[1; 512]);
}

#[test]
fn registrants_are_told_when_a_registrants_reservation_is_released() {
    let mut rig = registered();
    rig.run(1, &out(1, 5), &list(1, 0, false), 0).good();
    rig.write(2, 0, &[1; 512]);
    assert_eq!(rig.run(3, &write10(0, 1), &[0; 512], 0).status, Status::RESERVATION_CONFLICT);
    rig.run(1, &out(2, 5), &list(1, 0, false), 0).good();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 4);
    rig.run(3, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn preempt_and_abort_ends_the_others_tasks_before_it_ends() {
    let mut rig = registered();
    rig.run(2, &out(1, 3), &list(2, 0, false), 0).good();
    rig.hold = true;
    let write = rig.simple(2, &write10(0, 1), &[9; 512], 0);
    let preempt = rig.simple(1, &out(5, 3), &list(1, 2, false), 0);
    assert!(!rig.ended.contains_key(&preempt) && !rig.ended.contains_key(&write));
    rig.release_all();
    rig.answer_of(preempt).good();
    assert_eq!(rig.ended[&write], End::Aborted { report: false });
    assert_eq!(keys(&mut rig), [1]);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 5);
    assert_eq!(rig.run(2, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
}

#[test]
fn clear_takes_everything_and_tells() {
    let mut rig = registered();
    rig.run(1, &out(1, 3), &list(1, 0, false), 0).good();
    rig.run(2, &out(3, 0), &list(2, 0, false), 0).good();
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 3);
    assert!(keys(&mut rig).is_empty());
    assert!(!rig.lu.snapshot().reserved);
}

#[test]
fn persistent_reservations_survive_resets_and_sessions() {
    let mut rig = registered();
    rig.run(1, &out(1, 3), &list(1, 0, false), 0).good();
    rig.manage(2, scsi_core::TaskManagementFunction::LogicalUnitReset, None);
    rig.detach(1, NexusLoss::SessionEnded);
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 3);
    assert_eq!(rig.run(2, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
    rig.attach(1);
    rig.read(1, 0, 1);
}

/// The unit as it is after a restart: what the record says, and nothing else.
fn restarted(rig: &Rig) -> Rig {
    let identity = rig.records.identity();
    Rig::of(identity, Arc::new(MemoryStore::new(64 << 20)), Limits::default())
}

#[test]
fn with_aptpl_registrations_and_reservation_survive_a_restart() {
    let mut rig = Rig::new();
    rig.run(1, &out(0, 0), &list(0, 0x11, true), 0).good();
    rig.run(2, &out(0, 0), &list(0, 0x22, true), 0).good();
    rig.run(1, &out(1, 5), &list(0x11, 0, true), 0).good();
    let mut after = restarted(&rig);
    assert_eq!(keys(&mut after), [0x11, 0x22]);
    after.write(2, 0, &[1; 512]);
    assert_eq!(after.run(3, &write10(0, 1), &[0; 512], 0).status, Status::RESERVATION_CONFLICT);
    let status = FullStatus::decode(&after.run(3, &[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], &[], 1024).good()).unwrap();
    assert_eq!(status.entries[0].holds, Some(ReservationType::WriteExclusiveRegistrantsOnly));
    let capabilities = after.run(3, &[0x5e, 2, 0, 0, 0, 0, 0, 0, 8, 0], &[], 8).good();
    assert!(Capabilities::decode(&capabilities).unwrap().persist_active);
    // Registering anew without APTPL ends it.
    after.run(1, &out(6, 0), &list(0, 0x11, false), 0).good();
    assert!(after.records.identity().reservations.is_empty());
}

#[test]
fn a_registration_that_cannot_be_kept_is_none() {
    let mut rig = Rig::new();
    *rig.records.fail.lock().unwrap() = true;
    rig.run(1, &out(0, 0), &list(0, 0x11, true), 0).check(SenseKey::HARDWARE_ERROR, 0x44, 0);
    assert!(keys(&mut rig).is_empty());
    rig.run(1, &out(0, 0), &list(0, 0x11, false), 0).good();
    assert_eq!(keys(&mut rig), [0x11]);
}

#[test]
fn reservation_commands_wait_for_the_one_that_is_being_kept() {
    let mut rig = Rig::new();
    rig.hold = true;
    let one = rig.simple(1, &out(0, 0), &list(0, 1, true), 0);
    let two = rig.simple(2, &out(0, 0), &list(0, 2, true), 0);
    let three = rig.simple(3, &[0x16, 0, 0, 0, 0, 0], &[], 0);
    let mut mode = rig.run(3, &[0x1a, 8, 8, 0, 255, 0], &[], 255).good();
    (mode[0], mode[2]) = (0, 0);
    mode[4] &= 0x7f;
    let four = rig.simple(3, &[0x15, 0x11, 0, 0, mode.len() as u8, 0], &mode, 0);
    assert_eq!(rig.held.len(), 1);
    assert!(keys(&mut rig).is_empty());
    rig.release_all();
    // Saved mode values have changed.
    rig.run(1, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 1);
    assert_eq!(keys(&mut rig), [1, 2]);
    rig.answer_of(one).good();
    rig.answer_of(two).good();
    // Who is not registered cannot reserve the old way beside registrations.
    assert_eq!(rig.answer_of(three).status, Status::RESERVATION_CONFLICT);
    rig.answer_of(four).good();
    let kept = rig.records.identity();
    assert_eq!((kept.mode_pages.len(), kept.reservations.is_empty()), (1, false));
}

#[test]
fn an_aborted_registration_that_was_kept_counts() {
    let mut rig = Rig::new();
    rig.hold = true;
    let one = rig.simple(1, &out(0, 0), &list(0, 1, true), 0);
    rig.manage(1, scsi_core::TaskManagementFunction::AbortTask, Some(one));
    rig.release_all();
    assert_eq!(rig.ended[&one], End::Aborted { report: false });
    assert_eq!(keys(&mut rig), [1]);
    assert!(!rig.records.identity().reservations.is_empty());
}

#[test]
fn a_record_of_reservations_that_cannot_be_read_locks_everybody_out_until_it_is_cleared() {
    let mut identity = identity(64 << 20, &[]);
    identity.reservations = vec![1, 2, 3];
    let mut rig = Rig::of(identity, Arc::new(MemoryStore::new(64 << 20)), Limits::default());
    assert!(rig.lu.snapshot().reservations_lost);
    assert_eq!(rig.run(1, &read10(0, 1), &[], 512).status, Status::RESERVATION_CONFLICT);
    rig.lu.clear_reservations().unwrap();
    rig.read(1, 0, 1);
    assert!(rig.records.identity().reservations.is_empty());
}

#[test]
fn an_administrator_clears_reservations_and_the_registrants_learn_of_it() {
    let mut rig = registered();
    rig.run(1, &out(1, 3), &list(1, 0, false), 0).good();
    SbdLu::clear_reservations(&rig.lu).unwrap();
    rig.run(2, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 3);
    rig.read(2, 0, 1);
}

#[test]
fn malformed_lists_change_nothing() {
    let mut rig = registered();
    let mut cdb = out(0, 0);
    cdb[8] = 23;
    rig.run(1, &cdb, &[0; 23], 0).check(SenseKey::ILLEGAL_REQUEST, 0x1a, 0);
    rig.run(1, &out(0, 0), &[0; 20], 0).check(SenseKey::ILLEGAL_REQUEST, 0x1a, 0);
    rig.run(1, &out(1, 2), &list(1, 0, false), 0).invalid_field(2);
    assert_eq!(rig.run(1, &out(1, 3), &list(7, 0, false), 0).status, Status::RESERVATION_CONFLICT);
    assert_eq!(keys(&mut rig), [1, 2]);
}

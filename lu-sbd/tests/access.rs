//! Target port groups and their states: what a unit tells of them and what it refuses.

mod common;

use common::{Rig, TEST_UNIT_READY, identity, nexus, read10};
use lu_sbd::store::{BackingStore, MemoryStore};
use lu_sbd::{Limits, SbdLu};
use scsi_core::data::{AsymmetricAccessState as State, StatusCode, TargetPortGroups};
use scsi_core::{Designator, DesignatorName, SenseKey};
use std::sync::Arc;
use stmf::Nexus;
use stmf::provider::{LogicalUnit, PortGroup, TargetPorts};

const REPORT: [u8; 12] = [0xa3, 0x0a, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];

fn groups(first: State, second: State) -> Arc<TargetPorts> {
    let group = |id, state, ports: &[u16]| PortGroup { id, state, preferred: id == 1, ports: ports.to_vec() };
    Arc::new(TargetPorts { groups: vec![group(1, first, &[1, 2]), group(7, second, &[5])] })
}

/// Nexuses 1 and 2 come through port 1, nexus 3 through port 5 of the other group.
fn rig() -> Rig {
    let mut rig = Rig::new();
    let store: Arc<dyn BackingStore> = Arc::new(MemoryStore::new(64 << 20));
    let records = Arc::clone(&rig.records);
    let lu = Arc::new(SbdLu::new(identity(64 << 20, &[]), store, records, Limits::default()));
    lu.set_target_ports(&groups(State::ActiveOptimized, State::ActiveOptimized));
    for number in 1..=3 {
        let port = if number == 3 { 5 } else { 1 };
        lu.attach(&Arc::new(Nexus { relative_target_port: port, ..Nexus::clone(&nexus(number)) }));
    }
    rig.lu = lu;
    for number in 1..=3 {
        rig.run(number, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 0);
    }
    rig
}

fn report(rig: &mut Rig, nexus: u64) -> TargetPortGroups {
    TargetPortGroups::decode(&rig.run(nexus, &REPORT, &[], 256).good()).unwrap()
}

fn set(rig: &mut Rig, nexus: u64, group: u16, state: State) -> common::Answer {
    let [high, low] = group.to_be_bytes();
    let list = [0, 0, 0, 0, state.code(), 0, high, low];
    rig.run(nexus, &[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0], &list, 0)
}

#[test]
fn without_ports_told_there_is_no_asymmetric_access() {
    let mut rig = Rig::new();
    assert_eq!(rig.run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good()[5] & 0x30, 0);
    rig.run(1, &REPORT, &[], 256).check(SenseKey::ILLEGAL_REQUEST, 0x24, 0);
}

#[test]
fn every_port_gives_the_same_answer_but_names_itself() {
    let mut rig = rig();
    assert_eq!(rig.run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good()[5] & 0x30, 0x30);
    let first = report(&mut rig, 1);
    assert_eq!(
        first.groups.iter().map(|group| (group.group, group.preferred)).collect::<Vec<_>>(),
        [(1, true), (7, false)]
    );
    assert_eq!(first.groups.iter().map(|group| group.ports.clone()).collect::<Vec<_>>(), [vec![1, 2], vec![5]]);
    assert_eq!(report(&mut rig, 3), first);
    let mut extended = REPORT;
    extended[1] |= 1 << 5;
    let data = rig.run(1, &extended, &[], 256).good();
    assert_eq!(data[4] & 0x70, 0x10);
    for (nexus, port, group) in [(1, 1, 1), (3, 5, 7)] {
        let page = rig.run(nexus, &[0x12, 1, 0x83, 1, 0, 0], &[], 256).good();
        let designators = Designator::decode_all(&page[4..]);
        let has = |wanted: &DesignatorName| designators.iter().any(|designator| designator.name == *wanted);
        assert!(has(&DesignatorName::RelativeTargetPort(port)));
        assert!(has(&DesignatorName::TargetPortGroup(group)));
        assert!(has(&DesignatorName::ScsiName("iqn.2026-11.org.example:disk,t,0x0001".into())));
        assert!(has(&DesignatorName::ScsiName("iqn.2026-11.org.example:disk".into())));
    }
}

#[test]
fn each_of_the_five_states_lets_through_what_it_has_to() {
    let mut rig = rig();
    for (state, code) in [
        (State::ActiveOptimized, None),
        (State::ActiveNonOptimized, None),
        (State::Standby, Some(0x0b)),
        (State::Unavailable, Some(0x0c)),
        (State::Transitioning, Some(0x0a)),
    ] {
        rig.lu.set_target_ports(&groups(State::ActiveOptimized, state));
        if state != State::ActiveOptimized {
            for nexus in 1..=3 {
                rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 6);
            }
        }
        let reported = report(&mut rig, 3);
        assert_eq!(reported.groups[1].state, state);
        rig.run(3, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
        rig.run(3, &[3, 0, 0, 0, 18, 0], &[], 18).good();
        // The other group is not concerned.
        rig.run(1, &read10(0, 1), &[], 512).good();
        match code {
            None => drop(rig.run(3, &read10(0, 1), &[], 512).good()),
            Some(code) => {
                rig.run(3, &read10(0, 1), &[], 512).check(SenseKey::NOT_READY, 0x04, code);
                rig.run(3, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x04, code);
            }
        }
        let modes = rig.run(3, &[0x1a, 0, 0x3f, 0, 255, 0], &[], 255);
        match state {
            State::Unavailable | State::Transitioning => drop(modes.check(SenseKey::NOT_READY, 0x04, code.unwrap())),
            _ => drop(modes.good()),
        }
    }
}

#[test]
fn an_initiator_changes_the_state_of_a_group_for_this_unit() {
    let mut rig = rig();
    set(&mut rig, 1, 7, State::Standby).good();
    for nexus in [2, 3] {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 6);
    }
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
    let reported = report(&mut rig, 1);
    assert_eq!((reported.groups[1].state, reported.groups[1].status), (State::Standby, StatusCode::Explicit));
    rig.run(3, &read10(0, 1), &[], 512).check(SenseKey::NOT_READY, 0x04, 0x0b);
    // From the group that is in standby itself, back again.
    set(&mut rig, 3, 7, State::ActiveNonOptimized).good();
    rig.run(3, &read10(0, 1), &[], 512).good();
}

#[test]
fn the_administrators_word_ends_what_an_initiator_has_set() {
    let mut rig = rig();
    set(&mut rig, 1, 7, State::Unavailable).good();
    rig.lu.set_target_ports(&groups(State::ActiveOptimized, State::Standby));
    for nexus in 1..=3 {
        rig.run(nexus, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x2a, 6);
    }
    let reported = report(&mut rig, 1);
    assert_eq!((reported.groups[1].state, reported.groups[1].status), (State::Standby, StatusCode::Implicit));
    // What says the same again changes nothing, and nobody is told.
    rig.lu.set_target_ports(&groups(State::ActiveOptimized, State::Standby));
    rig.run(1, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn groups_that_are_not_there_and_states_that_cannot_be_set_change_nothing() {
    let mut rig = rig();
    let unknown = set(&mut rig, 1, 9, State::Standby);
    assert_eq!(unknown.check(SenseKey::ILLEGAL_REQUEST, 0x26, 0).field_pointer().unwrap().byte, 6);
    for state in [State::Transitioning, State::Offline, State::LogicalBlockDependent] {
        let answer = set(&mut rig, 1, 7, state);
        assert_eq!(answer.check(SenseKey::ILLEGAL_REQUEST, 0x26, 0).field_pointer().unwrap().byte, 4);
    }
    let twice = [0, 0, 0, 0, 2, 0, 0, 1, 2, 0, 0, 1];
    rig.run(1, &[0xa4, 0x0a, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0], &twice, 0).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
    assert!(report(&mut rig, 1).groups.iter().all(|group| group.state == State::ActiveOptimized));
    rig.run(2, &TEST_UNIT_READY, &[], 0).good();
}

#[test]
fn a_nexus_that_comes_later_meets_the_state_as_it_is() {
    let mut rig = rig();
    rig.lu.set_target_ports(&groups(State::ActiveOptimized, State::Standby));
    rig.lu.attach(&Arc::new(Nexus { relative_target_port: 5, ..Nexus::clone(&nexus(4)) }));
    rig.run(4, &TEST_UNIT_READY, &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 0);
    rig.run(4, &TEST_UNIT_READY, &[], 0).check(SenseKey::NOT_READY, 0x04, 0x0b);
}

use super::super::persistent::{APTPL_AT, SERVICE_ACTION_KEY_AT, SPEC_I_PT_AT, invalid};
use super::*;
use crate::cdb::{PersistentReserveOut, PrOutAction};
use crate::command::{CommandSet, parse};
use crate::reservation::{MoveParameters, RegisterParameters, ReservationType as T};

fn nexus(initiator: u64, port: u16) -> NexusName {
    NexusName::new(TransportId::FibreChannel(initiator), &format!("wwn.{port:016X}"), port)
}

fn out(state: &mut Reservations, nexus: &NexusName, action: PrOutAction, kind: u8, key: u64, sark: u64) -> Outcome {
    let command = PersistentReserveOut { action, kind, ..PersistentReserveOut::default() };
    let parameters = RegisterParameters { key, service_action_key: sark, ..RegisterParameters::default() };
    state.persistent_reserve_out(nexus, &command, &parameters, Topology::default())
}

/// Three initiators registered with keys 1, 2 and 3; the first holds a reservation of type `kind`.
fn held(kind: T) -> (Reservations, [NexusName; 3]) {
    let mut state = Reservations::new(true, 16);
    let nexuses = [nexus(1, 1), nexus(2, 1), nexus(3, 1)];
    for (at, nexus) in nexuses.iter().enumerate() {
        assert_eq!(out(&mut state, nexus, PrOutAction::Register, 0, 0, at as u64 + 1).status, OutcomeStatus::Good);
    }
    assert_eq!(out(&mut state, &nexuses[0], PrOutAction::Reserve, kind.code(), 1, 0).status, OutcomeStatus::Good);
    (state, nexuses)
}

fn access(state: &Reservations, nexus: &NexusName, cdb: &[u8]) -> Access {
    state.access(nexus, &parse(cdb, CommandSet::all()).unwrap())
}

const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const INQUIRY: [u8; 6] = [0x12, 0, 0, 0, 36, 0];

#[test]
fn each_type_admits_whom_it_should() {
    use Access::{Allowed as A, Conflict as C};
    // (type, registrant reads, registrant writes, stranger reads, stranger writes)
    let rows = [
        (T::WriteExclusive, A, C, A, C),
        (T::ExclusiveAccess, C, C, C, C),
        (T::WriteExclusiveRegistrantsOnly, A, A, A, C),
        (T::ExclusiveAccessRegistrantsOnly, A, A, C, C),
        (T::WriteExclusiveAllRegistrants, A, A, A, C),
        (T::ExclusiveAccessAllRegistrants, A, A, C, C),
    ];
    for (kind, reads, writes, stranger_reads, stranger_writes) in rows {
        let (state, [holder, registrant, _]) = held(kind);
        let stranger = nexus(9, 1);
        assert_eq!(access(&state, &holder, &WRITE), A);
        assert_eq!(access(&state, &registrant, &READ), reads, "{kind:?}");
        assert_eq!(access(&state, &registrant, &WRITE), writes, "{kind:?}");
        assert_eq!(access(&state, &stranger, &READ), stranger_reads, "{kind:?}");
        assert_eq!(access(&state, &stranger, &WRITE), stranger_writes, "{kind:?}");
        assert_eq!(access(&state, &stranger, &INQUIRY), A);
    }
}

#[test]
fn start_and_allow_pass_where_stop_and_prevent_do_not() {
    let (state, _) = held(T::WriteExclusive);
    let stranger = nexus(9, 1);
    assert_eq!(access(&state, &stranger, &[0x1b, 0, 0, 0, 1, 0]), Access::Allowed);
    assert_eq!(access(&state, &stranger, &[0x1b, 0, 0, 0, 0, 0]), Access::Conflict);
    assert_eq!(access(&state, &stranger, &[0x1e, 0, 0, 0, 0, 0]), Access::Allowed);
    assert_eq!(access(&state, &stranger, &[0x1e, 0, 0, 0, 1, 0]), Access::Conflict);
}

#[test]
fn registering_needs_the_key_that_is_registered() {
    let mut state = Reservations::new(true, 16);
    let a = nexus(1, 1);
    assert_eq!(out(&mut state, &a, PrOutAction::Register, 0, 5, 6).status, OutcomeStatus::Conflict);
    assert_eq!(out(&mut state, &a, PrOutAction::Register, 0, 0, 6).status, OutcomeStatus::Good);
    assert_eq!(out(&mut state, &a, PrOutAction::Register, 0, 0, 7).status, OutcomeStatus::Conflict);
    assert_eq!(out(&mut state, &a, PrOutAction::RegisterAndIgnoreExistingKey, 0, 0, 8).status, OutcomeStatus::Good);
    assert_eq!(state.generation(), 2);
    assert_eq!(state.registrations()[0].key, 8);
    assert_eq!(out(&mut state, &a, PrOutAction::Register, 0, 8, 0).status, OutcomeStatus::Good);
    assert!(state.registrations().is_empty());
}

#[test]
fn releasing_tells_registrants_only_where_they_had_access() {
    for kind in T::ALL {
        let (mut state, [a, b, c]) = held(kind);
        let outcome = out(&mut state, &a, PrOutAction::Release, kind.code(), 1, 0);
        assert_eq!(outcome.status, OutcomeStatus::Good);
        let expected: Vec<_> = if kind.admits_registrants() {
            [b, c].map(|nexus| (nexus, AdditionalSense::RESERVATIONS_RELEASED)).into()
        } else {
            Vec::new()
        };
        assert_eq!(outcome.attentions, expected);
    }
}

#[test]
fn releasing_another_type_is_an_error_and_by_another_nothing() {
    let (mut state, [a, b, _]) = held(T::WriteExclusive);
    let outcome = out(&mut state, &a, PrOutAction::Release, 3, 1, 0);
    let code = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;
    assert_eq!(outcome.status, OutcomeStatus::CheckCondition(SenseData::illegal_request(code)));
    assert_eq!(out(&mut state, &b, PrOutAction::Release, 1, 2, 0).status, OutcomeStatus::Good);
    assert!(state.is_holder(&a));
}

#[test]
fn preempting_the_holder_takes_the_reservation() {
    let (mut state, [a, b, c]) = held(T::WriteExclusiveRegistrantsOnly);
    let outcome = out(&mut state, &b, PrOutAction::PreemptAndAbort, T::ExclusiveAccess.code(), 2, 1);
    assert_eq!(outcome.status, OutcomeStatus::Good);
    assert_eq!(outcome.abort, std::slice::from_ref(&a));
    let preempted = (a.clone(), AdditionalSense::REGISTRATIONS_PREEMPTED);
    assert_eq!(outcome.attentions, [preempted, (c, AdditionalSense::RESERVATIONS_RELEASED)]);
    assert!(state.is_holder(&b) && !state.is_registered(&a));
    assert_eq!(state.reservation_type(), Some(T::ExclusiveAccess));
}

#[test]
fn preempting_another_registrant_leaves_the_reservation() {
    let (mut state, [a, b, c]) = held(T::WriteExclusive);
    let outcome = out(&mut state, &b, PrOutAction::Preempt, 0, 2, 3);
    assert_eq!(outcome.status, OutcomeStatus::Good);
    assert_eq!(outcome.attentions, [(c.clone(), AdditionalSense::REGISTRATIONS_PREEMPTED)]);
    assert!(outcome.abort.is_empty() && state.is_holder(&a) && !state.is_registered(&c));
    assert_eq!(out(&mut state, &b, PrOutAction::Preempt, 1, 2, 99).status, OutcomeStatus::Conflict);
    assert_eq!(out(&mut state, &b, PrOutAction::Preempt, 1, 2, 0), invalid(SERVICE_ACTION_KEY_AT));
}

#[test]
fn preempting_all_registrants_needs_key_zero() {
    let (mut state, [a, b, c]) = held(T::WriteExclusiveAllRegistrants);
    out(&mut state, &b, PrOutAction::Preempt, 1, 2, 3);
    assert!(!state.is_registered(&c) && state.is_holder(&a) && state.is_holder(&b));
    let outcome = out(&mut state, &b, PrOutAction::Preempt, 1, 2, 0);
    assert_eq!(outcome.attentions, [(a.clone(), AdditionalSense::REGISTRATIONS_PREEMPTED)]);
    assert_eq!(state.reservation_type(), Some(T::WriteExclusive));
    assert!(state.is_holder(&b) && !state.is_registered(&a));
}

#[test]
fn clearing_preempts_everybody_else() {
    let (mut state, [a, b, c]) = held(T::ExclusiveAccess);
    let outcome = out(&mut state, &b, PrOutAction::Clear, 0, 2, 0);
    let expected = [a, c].map(|nexus| (nexus, AdditionalSense::RESERVATIONS_PREEMPTED));
    assert_eq!(outcome.attentions, expected);
    assert!(state.registrations().is_empty() && state.is_free());
}

#[test]
fn the_last_of_all_registrants_releases_when_it_goes() {
    let (mut state, [a, b, c]) = held(T::ExclusiveAccessAllRegistrants);
    for (nexus, key) in [(&a, 1), (&b, 2)] {
        assert!(out(&mut state, nexus, PrOutAction::Register, 0, key, 0).attentions.is_empty());
        assert!(state.reservation_type().is_some());
    }
    out(&mut state, &c, PrOutAction::Register, 0, 3, 0);
    assert!(state.is_free());
}

#[test]
fn a_registrants_only_holder_that_goes_tells_the_others() {
    let (mut state, [a, b, c]) = held(T::WriteExclusiveRegistrantsOnly);
    let outcome = out(&mut state, &a, PrOutAction::Register, 0, 1, 0);
    assert_eq!(outcome.attentions, [b, c].map(|nexus| (nexus, AdditionalSense::RESERVATIONS_RELEASED)));
    assert!(state.is_free());
}

#[test]
fn ports_can_be_specified() {
    let mut state = Reservations::new(true, 16);
    let port = |id: u16| TargetPort { name: format!("iqn.t:{id},t,0x0001").into(), relative_id: id };
    let me = NexusName { initiator: TransportId::iscsi_port("iqn.a:me", [1; 6]), port: port(1) };
    let known = [TransportId::iscsi_port("iqn.a:b", [2; 6]), TransportId::iscsi_port("iqn.a:b", [3; 6])];
    let ports = [port(1), port(2)];
    let topology = Topology { target_ports: &ports, initiator_ports: &known };
    let parameters = RegisterParameters {
        service_action_key: 5,
        initiators: Some(vec![TransportId::iscsi("iqn.a:b"), TransportId::iscsi_port("iqn.a:c", [4; 6])]),
        all_target_ports: true,
        ..RegisterParameters::default()
    };
    let outcome = state.persistent_reserve_out(&me, &PersistentReserveOut::default(), &parameters, topology);
    assert_eq!(outcome.status, OutcomeStatus::Good);
    // Four initiator ports (the sender, two of the device named without ISID, one named) with two target ports.
    assert_eq!(state.registrations().len(), 8);
    assert!(state.is_registered(&NexusName { initiator: known[1].clone(), port: port(2) }));
    assert_eq!(state.generation(), 1);

    let again = RegisterParameters { key: 5, ..parameters };
    let outcome = state.persistent_reserve_out(&me, &PersistentReserveOut::default(), &again, topology);
    assert_eq!(outcome, invalid(SPEC_I_PT_AT));
}

#[test]
fn too_many_registrations_register_none() {
    let mut state = Reservations::new(true, 2);
    let parameters = RegisterParameters {
        service_action_key: 5,
        initiators: Some(vec![TransportId::FibreChannel(2), TransportId::FibreChannel(3)]),
        ..RegisterParameters::default()
    };
    let command = PersistentReserveOut::default();
    let outcome = state.persistent_reserve_out(&nexus(1, 1), &command, &parameters, Topology::default());
    let code = AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES;
    assert_eq!(outcome.status, OutcomeStatus::CheckCondition(SenseData::illegal_request(code)));
    assert!(state.registrations().is_empty());
}

#[test]
fn moving_takes_the_reservation_along() {
    let (mut state, [a, b, _]) = held(T::WriteExclusive);
    let parameters = MoveParameters {
        key: 1,
        service_action_key: 77,
        unregister: true,
        aptpl: false,
        relative_target_port: 1,
        initiator: TransportId::FibreChannel(42),
    };
    let mut not_holder = parameters.clone();
    not_holder.key = 2;
    assert_eq!(state.register_and_move(&b, &not_holder, Topology::default()).status, OutcomeStatus::Conflict);
    let elsewhere = MoveParameters { relative_target_port: 9, ..parameters.clone() };
    assert_eq!(state.register_and_move(&a, &elsewhere, Topology::default()), invalid((18, 7)));
    let itself = MoveParameters { initiator: a.initiator.clone(), ..parameters.clone() };
    assert_eq!(state.register_and_move(&a, &itself, Topology::default()), invalid((24, 7)));
    let outcome = state.register_and_move(&a, &parameters, Topology::default());
    assert_eq!(outcome.status, OutcomeStatus::Good);
    assert!(state.is_holder(&nexus(42, 1)) && !state.is_registered(&a));
    assert_eq!(state.holder().unwrap().key, 77);
}

#[test]
fn aptpl_asks_for_persistence_also_when_it_ends() {
    let mut state = Reservations::new(true, 16);
    let a = nexus(1, 1);
    let command = PersistentReserveOut::default();
    let mut register = |key, sark, aptpl| {
        let parameters = RegisterParameters { key, service_action_key: sark, aptpl, ..Default::default() };
        state.persistent_reserve_out(&a, &command, &parameters, Topology::default()).persist
    };
    assert!(!register(0, 1, false));
    assert!(register(1, 2, true));
    assert!(register(2, 3, false));
    assert!(!register(3, 0, false));
    let mut unable = Reservations::new(false, 16);
    let parameters = RegisterParameters { service_action_key: 1, aptpl: true, ..Default::default() };
    let outcome = unable.persistent_reserve_out(&a, &command, &parameters, Topology::default());
    assert_eq!(outcome, invalid(APTPL_AT));
}

#[test]
fn reserve_and_persistent_reservations_do_not_mix() {
    let mut state = Reservations::new(true, 16);
    let (a, b) = (nexus(1, 1), nexus(2, 1));
    assert_eq!(state.reserve(&a), OutcomeStatus::Good);
    assert_eq!(state.reserve(&b), OutcomeStatus::Conflict);
    assert_eq!(state.release(&b), OutcomeStatus::Good);
    assert_eq!(access(&state, &b, &READ), Access::Conflict);
    assert_eq!(access(&state, &b, &[0; 6]), Access::Conflict);
    assert_eq!(access(&state, &b, &INQUIRY), Access::Allowed);
    assert_eq!(access(&state, &b, &[0x1e, 0, 0, 0, 0, 0]), Access::Allowed);
    assert_eq!(access(&state, &b, &[0x1e, 0, 0, 0, 1, 0]), Access::Conflict);
    assert_eq!(access(&state, &a, &WRITE), Access::Allowed);
    for nexus in [&a, &b] {
        assert_eq!(out(&mut state, nexus, PrOutAction::Register, 0, 0, 1).status, OutcomeStatus::Conflict);
    }
    assert_eq!(state.release(&a), OutcomeStatus::Good);

    out(&mut state, &a, PrOutAction::Register, 0, 0, 1);
    assert_eq!(state.reserve(&a), OutcomeStatus::Conflict);
    out(&mut state, &a, PrOutAction::Reserve, 1, 1, 0);
    assert_eq!(state.reserve(&a), OutcomeStatus::Good);
    assert_eq!(state.reserve(&b), OutcomeStatus::Conflict);
    assert_eq!(state.legacy_holder(), None);
}

#[test]
fn a_reset_releases_reserve_and_keeps_registrations() {
    let (mut state, _) = held(T::WriteExclusive);
    state.reset();
    assert_eq!(state.registrations().len(), 3);
    let mut state = Reservations::new(true, 16);
    state.reserve(&nexus(1, 1));
    state.reset();
    assert!(state.is_free());
}

#[test]
fn what_was_lost_forbids_until_it_is_replaced() {
    let mut state = Reservations::new(true, 16);
    let a = nexus(1, 1);
    assert!(matches!(
        out(&mut state, &a, PrOutAction::ReplaceLostReservation, 1, 0, 5).status,
        OutcomeStatus::CheckCondition(_)
    ));
    state.set_lost();
    assert_eq!(access(&state, &a, &READ), Access::Conflict);
    assert_eq!(access(&state, &a, &INQUIRY), Access::Allowed);
    let outcome = out(&mut state, &a, PrOutAction::ReplaceLostReservation, 1, 0, 5);
    assert!(outcome.status == OutcomeStatus::Good && outcome.persist);
    assert_eq!(access(&state, &a, &WRITE), Access::Allowed);
    assert_eq!(access(&state, &nexus(2, 1), &WRITE), Access::Conflict);
}

#[test]
fn bad_scopes_and_types_are_pointed_to() {
    let (mut state, [a, ..]) = held(T::WriteExclusive);
    let command = PersistentReserveOut { action: PrOutAction::Reserve, scope: 1, kind: 1, ..Default::default() };
    let parameters = RegisterParameters { key: 1, ..Default::default() };
    let outcome = state.persistent_reserve_out(&a, &command, &parameters, Topology::default());
    assert_eq!(outcome, Outcome::sense(SenseData::invalid_field_in_cdb(2, Some(7))));
    let outcome = out(&mut state, &a, PrOutAction::Reserve, 2, 1, 0);
    assert_eq!(outcome, Outcome::sense(SenseData::invalid_field_in_cdb(2, Some(3))));
}

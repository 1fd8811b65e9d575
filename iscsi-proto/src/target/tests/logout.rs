//! Logout, failure, reinstatement, asynchronous messages.

use std::time::Duration;

use super::support::*;
use crate::pdu::*;
use crate::target::*;

fn logout(rig: &mut Rig, reason: LogoutReason, cid: u16) -> LogoutRequest {
    LogoutRequest {
        immediate: false,
        reason,
        initiator_task_tag: rig.tag(),
        cid: Cid(cid),
        cmd_sn: rig.number(),
        ..LogoutRequest::default()
    }
}

fn code(replies: &[TargetPdu]) -> LogoutResponseCode {
    match replies {
        [TargetPdu::LogoutResponse(response)] => response.response,
        other => panic!("{other:?}"),
    }
}

fn closes(events: &[Event]) -> Vec<(ConnectionKey, CloseReason)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::Close { connection, reason, .. } => Some((*connection, reason.clone())),
            _ => None,
        })
        .collect()
}

fn ended(events: &[Event]) -> EndReason {
    match events.last() {
        Some(Event::Ended(reason)) => reason.clone(),
        _ => panic!("{events:?}"),
    }
}

#[test]
fn a_session_logout_closes_everything_after_its_response() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    assert!(rig.events().is_empty());
    assert_eq!(code(&rig.replies()), LogoutResponseCode::SUCCESS);
    let events = rig.events();
    assert_eq!(closes(&events), [(rig.key, CloseReason::LoggedOut), (other, CloseReason::LoggedOut)]);
    assert_eq!(ended(&events), EndReason::LoggedOut);
}

#[test]
fn a_logout_waits_for_the_tasks_it_ends() {
    let mut rig = Rig::new();
    let task = rig.write(512);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    let events = rig.events();
    assert!(matches!(&events[..], [Event::AbortTask { cause: AbortCause::Logout, .. }]), "{events:?}");
    assert!(rig.replies().is_empty());
    rig.session.task_aborted(task, false);
    assert_eq!(code(&rig.replies()), LogoutResponseCode::SUCCESS);
}

#[test]
fn a_logout_does_not_wait_for_ever() {
    let mut rig = Rig::new();
    rig.write(512);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    rig.wait(Duration::from_secs(1));
    assert_eq!(code(&rig.replies()), LogoutResponseCode::SUCCESS);
}

#[test]
fn nothing_is_taken_after_a_logout() {
    let mut rig = Rig::new();
    rig.write(512);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    rig.events();
    let command = rig.read_command(512);
    rig.send(command);
    assert!(rig.events().is_empty());
    assert_eq!(rig.session.recv_hint(rig.key).wanted, 0);
}

#[test]
fn responses_that_were_due_leave_before_the_logout_response() {
    let mut rig = Rig::new();
    let task = rig.read(512);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.good(task, 512);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    assert!(matches!(&rig.replies()[..], [TargetPdu::DataIn(_), TargetPdu::LogoutResponse(_)]));
}

#[test]
fn closing_one_connection_leaves_the_others() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    let task = rig.read(512);
    let request = logout(&mut rig, LogoutReason::CLOSE_CONNECTION, 1);
    rig.send(request);
    assert_eq!(closes(&rig.events()), [(other, CloseReason::LoggedOut)]);
    assert_eq!(code(&rig.replies()), LogoutResponseCode::SUCCESS);
    rig.session.handle_closed(other, rig.now);
    rig.good(task, 512);
    assert_eq!(rig.replies().len(), 1);
    assert!(!rig.session.is_ended());
}

#[test]
fn closing_the_last_connection_ends_the_session() {
    let mut rig = Rig::new();
    let request = logout(&mut rig, LogoutReason::CLOSE_CONNECTION, 0);
    rig.send(request);
    assert_eq!(code(&rig.replies()), LogoutResponseCode::SUCCESS);
    assert_eq!(ended(&rig.events()), EndReason::LoggedOut);
}

#[test]
fn a_connection_that_is_not_there_cannot_be_closed() {
    let mut rig = Rig::new();
    let request = logout(&mut rig, LogoutReason::CLOSE_CONNECTION, 9);
    rig.send(request);
    assert_eq!(code(&rig.replies()), LogoutResponseCode::CID_NOT_FOUND);
    assert!(!rig.session.is_ended());
}

#[test]
fn removal_for_recovery_needs_recovery() {
    let mut rig = Rig::new();
    let request = logout(&mut rig, LogoutReason::REMOVE_FOR_RECOVERY, 0);
    rig.send(request);
    assert_eq!(code(&rig.replies()), LogoutResponseCode::RECOVERY_NOT_SUPPORTED);
}

#[test]
fn unknown_reasons_are_rejected() {
    let mut rig = Rig::new();
    let request = logout(&mut rig, LogoutReason(7), 0);
    rig.send(request);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn a_lost_connection_ends_the_session() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    rig.session.handle_closed(other, rig.now);
    let events = rig.events();
    assert_eq!(closes(&events), [(other, CloseReason::Lost), (rig.key, CloseReason::SessionEnded)]);
    assert_eq!(ended(&events), EndReason::ConnectionFailed(CloseReason::Lost));
}

#[test]
fn a_peer_that_closes_after_its_logout_has_logged_out() {
    let mut rig = Rig::new();
    rig.write(512);
    let request = logout(&mut rig, LogoutReason::CLOSE_SESSION, 0);
    rig.send(request);
    rig.session.handle_closed(rig.key, rig.now);
    assert_eq!(ended(&rig.events()), EndReason::LoggedOut);
}

#[test]
fn a_new_connection_of_the_same_cid_replaces_the_old() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let task = rig.write(512);
    let (connection, mut peer) = negotiate(&Options::default(), Tsih(7), 0, rig.cmd_sn, rig.now);
    let new = rig.session.join(connection, rig.now).unwrap();
    let events = rig.events();
    assert!(matches!(
        &events[..],
        [
            Event::AbortTask { cause: AbortCause::ConnectionReplaced, .. },
            Event::Close { reason: CloseReason::Replaced, .. }
        ]
    ));
    let mut out = Vec::new();
    assert_eq!(rig.session.poll_transmit(new, rig.now, &mut out), 0);
    rig.session.task_aborted(task, false);
    rig.session.poll_transmit(new, rig.now, &mut out);
    assert!(matches!(&peer.decode(out)[..], [TargetPdu::LoginResponse(_)]));
    assert_eq!(rig.session.connections().collect::<Vec<_>>(), [(new, Cid(0))]);
    rig.session.handle_closed(rig.key, rig.now);
    assert!(!rig.session.is_ended());
}

#[test]
fn a_connection_too_many_is_refused() {
    let mut rig = Rig::new();
    let (connection, mut peer) = negotiate(&Options::default(), Tsih(7), 1, rig.cmd_sn, rig.now);
    let Err(EnterError::Refused { mut connection, status }) = rig.session.join(connection, rig.now) else {
        panic!("it was taken")
    };
    assert_eq!(status, LoginStatus::TOO_MANY_CONNECTIONS);
    let mut out = Vec::new();
    connection.poll_transmit(&mut out);
    let replies = peer.decode(out);
    assert!(matches!(&replies[..], [TargetPdu::LoginResponse(response)] if response.status == status));
}

#[test]
fn a_requested_logout_is_told_with_its_time_and_enforced() {
    let mut rig = Rig::new();
    rig.session.request_logout(rig.now, Duration::from_secs(5));
    let replies = rig.replies();
    let [TargetPdu::AsyncMessage(message)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((message.event, message.parameter3), (AsyncEvent::LOGOUT_REQUESTED, 5));
    let task = rig.read(512);
    rig.good(task, 512);
    assert_eq!(rig.replies().len(), 1);
    rig.wait(Duration::from_secs(5));
    assert_eq!(ended(&rig.events()), EndReason::ConnectionFailed(CloseReason::LogoutTimeout));
}

#[test]
fn a_dropped_session_says_so() {
    let mut rig = Rig::new();
    rig.session.drop_session(rig.now);
    let replies = rig.replies();
    let [TargetPdu::AsyncMessage(message)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((message.event, message.parameter2, message.parameter3), (AsyncEvent::SESSION_DROPPED, 2, 0));
    assert_eq!(ended(&rig.events()), EndReason::Terminated);
}

#[test]
fn a_reinstated_session_ends_without_a_word() {
    let mut rig = Rig::new();
    rig.read(512);
    rig.session.terminate(rig.now, EndReason::Reinstated);
    assert!(rig.replies().is_empty());
    assert_eq!(ended(&rig.events()), EndReason::Reinstated);
    assert_eq!(rig.session.poll_timeout(), None);
}

#[test]
fn scsi_events_carry_their_sense_data() {
    let mut rig = Rig::new();
    rig.session.scsi_event(scsi_core::Lun::new(2).unwrap(), &[0x72, 6]);
    let replies = rig.replies();
    assert!(matches!(&replies[..], [TargetPdu::AsyncMessage(message)] if message.sense() == [0x72, 6][..]));
}

#[test]
fn a_connection_that_is_logging_out_is_not_logged_out_twice() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    let command = rig.write_command(512);
    rig.send_on(other, command);
    for _ in 0..2 {
        let request = logout(&mut rig, LogoutReason::CLOSE_CONNECTION, 1);
        rig.send(request);
    }
    assert_eq!(code(&rig.replies()), LogoutResponseCode::CID_NOT_FOUND);
}

#[test]
fn connections_that_nobody_closes_are_bounded() {
    let mut rig = Rig::keys(&[("MaxConnections", "1")]);
    for _ in 0..8 {
        let (connection, _) = negotiate(&Options::default(), Tsih(7), 0, rig.cmd_sn, rig.now);
        rig.session.join(connection, rig.now).unwrap();
    }
    let (connection, _) = negotiate(&Options::default(), Tsih(7), 0, rig.cmd_sn, rig.now);
    assert!(matches!(rig.session.join(connection, rig.now), Err(EnterError::Refused { .. })));
}

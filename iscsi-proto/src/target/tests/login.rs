//! The connection before it belongs to a session.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::support::*;
use crate::frame::{Framer, Limits};
use crate::login::{LoginPolicy, Preferences};
use crate::pdu::*;
use crate::target::*;

fn connection() -> (Connection, Instant) {
    let now = Instant::now();
    (Connection::new(connection_config(Preferences::default()), now), now)
}

fn encode(pdu: impl Into<InitiatorPdu>) -> Bytes {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    encoder.encode(&pdu.into(), &mut out).unwrap();
    encoder.finish(&mut out);
    out.concat().into()
}

fn replies(connection: &mut Connection) -> Vec<LoginResponse> {
    let mut out = Vec::new();
    connection.poll_transmit(&mut out);
    let mut framer = Framer::new(Limits::default());
    out.into_iter().for_each(|chunk| framer.handle_received(chunk));
    std::iter::from_fn(|| framer.poll_frame().unwrap())
        .map(|frame| match TargetPdu::decode(frame).unwrap() {
            TargetPdu::LoginResponse(response) => response,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn close_reason(connection: &mut Connection) -> CloseReason {
    std::iter::from_fn(|| connection.poll_event())
        .find_map(|event| match event {
            ConnectionEvent::Close(reason) => Some(reason),
            _ => None,
        })
        .expect("no close")
}

fn first_request() -> Bytes {
    encode(login_request(&login_text(&Options::default()), Tsih::NEW, 0, 1))
}

#[test]
fn the_owner_hears_who_wants_in_before_anything_is_answered() {
    let (mut connection, _) = connection();
    connection.handle_received(first_request());
    let Some(ConnectionEvent::Identify(identity)) = connection.poll_event() else { panic!("nothing asked") };
    assert_eq!(identity.initiator_name.as_str(), INITIATOR);
    assert!(replies(&mut connection).is_empty());
    assert_eq!(connection.recv_hint().wanted, 0);
}

#[test]
fn a_refused_login_is_told_and_closed() {
    let (mut connection, _) = connection();
    connection.handle_received(first_request());
    connection.refuse(LoginStatus::NOT_FOUND);
    assert_eq!(replies(&mut connection)[0].status, LoginStatus::NOT_FOUND);
    assert_eq!(close_reason(&mut connection), CloseReason::LoginRefused);
}

#[test]
fn a_pdu_before_login_is_answered_and_closed() {
    let (mut connection, _) = connection();
    connection.handle_received(encode(NopOut::default()));
    assert_eq!(replies(&mut connection)[0].status, LoginStatus::INVALID_DURING_LOGIN);
    assert_eq!(close_reason(&mut connection), CloseReason::LoginRefused);
}

#[test]
fn garbage_before_login_closes() {
    let (mut connection, _) = connection();
    connection
        .handle_received(Bytes::from_static(b"GET / HTTP/1.1\r\nHost: target.example\r\nUser-Agent: none\r\n\r\n"));
    close_reason(&mut connection);
    assert_eq!(connection.recv_hint().wanted, 0);
}

#[test]
fn a_login_with_too_much_data_is_refused_before_any_is_kept() {
    let (mut connection, _) = connection();
    let mut bytes = vec![0u8; 48];
    (bytes[0], bytes[5]) = (0x43, 0xff);
    connection.handle_received(bytes.into());
    assert!(!replies(&mut connection).is_empty());
    assert!(matches!(close_reason(&mut connection), CloseReason::Stream(_)));
}

#[test]
fn a_login_may_not_take_for_ever() {
    let (mut connection, now) = connection();
    assert_eq!(connection.poll_timeout(), Some(now + Duration::from_secs(20)));
    connection.handle_timeout(now + Duration::from_secs(19));
    assert!(connection.poll_event().is_none());
    connection.handle_timeout(now + Duration::from_secs(20));
    assert_eq!(close_reason(&mut connection), CloseReason::LoginTimeout);
}

#[test]
fn a_session_is_only_made_of_a_negotiated_login() {
    let (mut connection, now) = connection();
    connection.handle_received(first_request());
    let result = Session::establish(connection, SessionConfig::default(), Tsih(1), now);
    assert!(matches!(result, Err(EnterError::NotNegotiated(_))));
}

#[test]
fn the_last_response_carries_the_session_and_its_window() {
    let (connection, mut peer) = negotiate(&Options::default(), Tsih::NEW, 0, FIRST, Instant::now());
    let now = Instant::now();
    let (mut session, key) = Session::establish(connection, SessionConfig::default(), Tsih(42), now).unwrap();
    let mut out = Vec::new();
    session.poll_transmit(key, now, &mut out);
    let replies = peer.decode(out);
    let [TargetPdu::LoginResponse(response)] = &replies[..] else { panic!("{replies:?}") };
    assert!(response.flags.transit && response.flags.next == Stage::FULL_FEATURE_PHASE);
    assert_eq!((response.tsih, response.exp_cmd_sn.0), (Tsih(42), FIRST));
    assert_eq!(response.max_cmd_sn.0, FIRST.wrapping_add(127));
}

#[test]
fn what_came_behind_the_login_is_not_lost() {
    let now = Instant::now();
    let (mut connection, mut peer) = negotiate(&Options::default(), Tsih::NEW, 0, FIRST, now);
    let ping = NopOut { immediate: true, initiator_task_tag: InitiatorTaskTag(5), ..NopOut::default() };
    connection.handle_received(peer.encode(ping));
    let (mut session, key) = Session::establish(connection, SessionConfig::default(), Tsih(42), now).unwrap();
    let mut out = Vec::new();
    while session.poll_transmit(key, now, &mut out) > 0 {}
    let replies = peer.decode(out);
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert!(matches!(replies[0], TargetPdu::LoginResponse(_)));
}

#[test]
fn a_second_login_request_in_full_feature_phase_is_rejected() {
    let mut rig = Rig::new();
    rig.send(login_request("", Tsih(7), 0, FIRST));
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
    assert!(!rig.session.is_ended());
}

#[test]
fn a_connection_can_be_moved_before_it_is_accepted() {
    fn assert_send<T: Send>(value: T) -> T {
        value
    }
    let (mut connection, now) = connection();
    connection.handle_received(first_request());
    assert!(matches!(connection.poll_event(), Some(ConnectionEvent::Identify(_))));
    let mut moved = std::thread::spawn(move || assert_send(connection)).join().unwrap();
    moved.accept(LoginPolicy::open(Some(1)));
    replies(&mut moved);
    assert!(now <= moved.poll_timeout().unwrap());
}

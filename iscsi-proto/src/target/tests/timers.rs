//! Pings.

use std::time::Duration;

use bytes::Bytes;

use super::support::*;
use crate::pdu::*;
use crate::target::*;

const SECOND: Duration = Duration::from_secs(1);

fn ping(rig: &mut Rig) -> NopIn {
    rig.wait(20 * SECOND);
    match &rig.replies()[..] {
        [TargetPdu::NopIn(ping)] => ping.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_silent_initiator_is_pinged() {
    let mut rig = Rig::new();
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + 20 * SECOND));
    rig.wait(19 * SECOND);
    assert!(rig.replies().is_empty());
    rig.wait(SECOND);
    let replies = rig.replies();
    let [TargetPdu::NopIn(ping)] = &replies[..] else { panic!("{replies:?}") };
    assert!(ping.initiator_task_tag.is_reserved() && !ping.target_transfer_tag.is_reserved());
}

#[test]
fn an_answered_ping_starts_the_silence_anew() {
    let mut rig = Rig::new();
    let ping = ping(&mut rig);
    rig.send(NopOut {
        immediate: true,
        initiator_task_tag: InitiatorTaskTag::RESERVED,
        target_transfer_tag: ping.target_transfer_tag,
        ..NopOut::default()
    });
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + 20 * SECOND));
    assert!(rig.replies().is_empty());
}

#[test]
fn an_unanswered_ping_ends_the_session() {
    let mut rig = Rig::new();
    ping(&mut rig);
    rig.wait(29 * SECOND);
    assert!(rig.events().is_empty());
    rig.wait(SECOND);
    let events = rig.events();
    assert!(matches!(events.last(), Some(Event::Ended(EndReason::ConnectionFailed(CloseReason::PingTimeout)))));
}

#[test]
fn a_connection_that_is_not_read_is_not_blamed() {
    let mut rig = Rig::new();
    ping(&mut rig);
    rig.session.pause_receive(rig.key, true);
    rig.wait(60 * SECOND);
    assert!(rig.events().is_empty());
    rig.session.pause_receive(rig.key, false);
    rig.wait(30 * SECOND);
    assert!(!rig.events().is_empty());
}

#[test]
fn pings_can_be_switched_off() {
    let mut options = Options::default();
    options.session.ping_interval = Duration::ZERO;
    let rig = Rig::with(options);
    assert_eq!(rig.session.poll_timeout(), None);
}

#[test]
fn an_initiator_that_takes_no_answers_is_given_up() {
    let mut options = Options::default();
    options.session.max_transmit_queue = 2;
    let mut rig = Rig::with(options);
    for _ in 0..3 {
        let tag = rig.tag();
        rig.send(NopOut { immediate: true, initiator_task_tag: tag, ..NopOut::default() });
    }
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + 50 * SECOND));
    rig.wait(50 * SECOND);
    let events = rig.events();
    assert!(matches!(events.last(), Some(Event::Ended(EndReason::ConnectionFailed(CloseReason::PingTimeout)))));
}

#[test]
fn a_logout_response_that_nobody_takes_does_not_keep_the_session() {
    let mut rig = Rig::new();
    let request = LogoutRequest { initiator_task_tag: rig.tag(), cmd_sn: rig.number(), ..LogoutRequest::default() };
    rig.send(request);
    rig.wait(31 * SECOND);
    assert!(matches!(rig.events().last(), Some(Event::Ended(_))));
}

#[test]
fn what_waits_to_be_sent_is_bounded_and_told() {
    let mut options = Options::default();
    options.session.max_transmit_queue = 8;
    options.session.max_transmit_bytes = 1000;
    let mut rig = Rig::with(options);
    for _ in 0..20 {
        let tag = rig.tag();
        let data = Bytes::from_static(&[7; 300]).into();
        rig.send(NopOut { immediate: true, initiator_task_tag: tag, data, ..NopOut::default() });
    }
    // The fourth goes over the limit, the fifth is not taken.
    assert_eq!((rig.session.queued_pdus(rig.key), rig.session.queued_bytes(rig.key)), (4, 1200));
    rig.wait(SECOND);
    assert_eq!((rig.session.queued_pdus(rig.key), rig.session.queued_bytes(rig.key)), (4, 1200));
}

//! Digests and other damage.

use super::support::*;
use crate::pdu::*;
use crate::target::*;

fn rig() -> Rig {
    Rig::keys(&[("HeaderDigest", "CRC32C"), ("DataDigest", "CRC32C")])
}

fn flip(rig: &mut Rig, pdu: impl Into<InitiatorPdu>, at: impl Fn(usize) -> usize) {
    let mut bytes = rig.peer(rig.key).encode(pdu).to_vec();
    let at = at(bytes.len());
    bytes[at] ^= 1;
    rig.session.handle_received(rig.key, rig.now, bytes.into());
}

#[test]
fn digests_hold_both_ways_from_the_first_pdu_on() {
    let mut rig = rig();
    let task = rig.read(1024);
    rig.session.send_data_in(task, 0, [payload(0, 1024)]);
    rig.good(task, 1024);
    let replies = rig.replies();
    assert!(matches!(&replies[..], [TargetPdu::DataIn(data)] if data.data.to_contiguous() == payload(0, 1024)));
}

#[test]
fn a_damaged_header_drops_the_connection_without_a_word() {
    let mut rig = rig();
    let command = rig.read_command(512);
    flip(&mut rig, command, |_| 20);
    assert!(rig.replies().is_empty());
    let events = rig.events();
    assert!(matches!(&events[..], [Event::Close { reason: CloseReason::Stream(_), .. }, Event::Ended(_)]));
}

#[test]
fn a_damaged_data_out_is_rejected_and_fails_its_task() {
    let mut rig = rig();
    let command = rig.write_command(512);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    flip(&mut rig, data_out(tag, transfer, 0, 0, 512), |len| len - 10);
    let events = rig.events();
    assert!(matches!(&events[..], [Event::AbortTask { cause: AbortCause::DataOut(DataOutError::Damaged), .. }]));
    assert_eq!(reject_reason(&rig.replies()), RejectReason::DATA_DIGEST_ERROR);
    rig.session.task_aborted(task, false);
    let sense = response(&rig.replies()).sense();
    assert_eq!((sense[2], sense[12], sense[13]), (0x0b, 0x47, 0x05));
}

#[test]
fn a_damaged_numbered_request_ends_the_session_after_its_reject() {
    let mut rig = rig();
    let mut command = rig.write_command(512);
    command.data = payload(0, 512).into();
    flip(&mut rig, command, |len| len - 10);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::DATA_DIGEST_ERROR);
    assert!(matches!(rig.events().last(), Some(Event::Ended(EndReason::ConnectionFailed(_)))));
}

#[test]
fn a_damaged_ping_is_only_rejected() {
    let mut rig = rig();
    let ping =
        NopOut { immediate: true, initiator_task_tag: rig.tag(), data: payload(0, 64).into(), ..NopOut::default() };
    flip(&mut rig, ping, |len| len - 10);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::DATA_DIGEST_ERROR);
    assert!(!rig.session.is_ended());
}

#[test]
fn a_segment_longer_than_declared_is_rejected_and_ends_the_session() {
    let mut rig = Rig::new();
    let mut command = rig.write_command(1 << 20);
    command.data = payload(0, (1 << 18) + 4).into();
    rig.send(command);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
    assert!(matches!(rig.events().last(), Some(Event::Ended(_))));
}

#[test]
fn a_reserved_attribute_is_rejected_and_its_number_counts() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let mut bytes = rig.peer(rig.key).encode(command).to_vec();
    bytes[1] |= 7;
    rig.session.handle_received(rig.key, rig.now, bytes.into());
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
    rig.read(512);
}

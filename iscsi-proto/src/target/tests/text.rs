//! Text exchanges in full feature phase.

use super::support::*;
use crate::pdu::*;
use crate::target::*;

fn request(rig: &mut Rig, text: &str) -> TextRequest {
    TextRequest {
        immediate: false,
        is_final: true,
        initiator_task_tag: rig.tag(),
        cmd_sn: rig.number(),
        data: bytes::Bytes::copy_from_slice(text.as_bytes()).into(),
        ..TextRequest::default()
    }
}

fn discovery() -> Rig {
    Rig::with(Options { is_discovery: true, ..Options::default() })
}

fn asked(events: &[Event]) -> (TextHandle, SendTargetsScope) {
    match events {
        [Event::SendTargets { request, scope }] => (*request, scope.clone()),
        other => panic!("{other:?}"),
    }
}

fn only(replies: Vec<TargetPdu>) -> TextResponse {
    match &replies[..] {
        [TargetPdu::TextResponse(response)] => response.clone(),
        other => panic!("{other:?}"),
    }
}

fn record(number: u32) -> TargetRecord {
    TargetRecord {
        name: format!("iqn.2026-11.org.example:disk{number}"),
        addresses: vec![("192.0.2.1:3260".into(), 1), ("[2001:db8::1]:3260".into(), 2)],
    }
}

#[test]
fn discovery_lists_targets_with_their_addresses() {
    let mut rig = discovery();
    let pdu = request(&mut rig, "SendTargets=All\0");
    rig.send(pdu);
    let (handle, scope) = asked(&rig.events());
    assert_eq!(scope, SendTargetsScope::All);
    rig.session.send_targets_response(handle, &[record(1)]);
    let response = only(rig.replies());
    assert!(response.is_final && response.target_transfer_tag.is_reserved());
    assert_eq!(
        &response.data.to_contiguous()[..],
        &b"TargetName=iqn.2026-11.org.example:disk1\0TargetAddress=192.0.2.1:3260,1\0TargetAddress=[2001:db8::1]:3260,2\0"[..]
    );
}

#[test]
fn a_long_list_is_sent_in_pieces_as_the_initiator_asks() {
    let mut rig = Rig::with(Options {
        is_discovery: true,
        keys: vec![("MaxRecvDataSegmentLength", "512")],
        ..Options::default()
    });
    let mut pdu = request(&mut rig, "SendTargets=All\0");
    rig.send(pdu.clone());
    let (handle, _) = asked(&rig.events());
    let records: Vec<_> = (0..20).map(record).collect();
    rig.session.send_targets_response(handle, &records);
    let mut text = Vec::new();
    loop {
        let response = only(rig.replies());
        text.extend_from_slice(&response.data.to_contiguous());
        assert!(response.data.len() <= 512);
        assert_ne!(response.is_final, response.is_continued);
        if response.is_final {
            break;
        }
        pdu.target_transfer_tag = response.target_transfer_tag;
        pdu.data = DataSegment::new();
        pdu.cmd_sn = rig.number();
        rig.send(pdu.clone());
    }
    let pairs = crate::text::parse(&text).unwrap();
    assert_eq!(pairs.iter().filter(|(key, _)| *key == "TargetName").count(), 20);
}

#[test]
fn a_request_may_come_in_pieces() {
    let mut rig = discovery();
    let mut first = request(&mut rig, "SendTar");
    (first.is_final, first.is_continued) = (false, true);
    rig.send(first.clone());
    let go_on = only(rig.replies());
    assert!(!go_on.is_final && go_on.data.is_empty() && !go_on.target_transfer_tag.is_reserved());
    let mut second = request(&mut rig, "gets=All\0");
    second.initiator_task_tag = first.initiator_task_tag;
    second.target_transfer_tag = go_on.target_transfer_tag;
    rig.send(second);
    assert_eq!(asked(&rig.events()).1, SendTargetsScope::All);
}

#[test]
fn a_normal_session_may_ask_for_its_own_target_but_not_for_all() {
    let mut rig = Rig::new();
    let pdu = request(&mut rig, "SendTargets=\0");
    rig.send(pdu);
    assert_eq!(asked(&rig.events()).1, SendTargetsScope::Session);
    let pdu = request(&mut rig, "SendTargets=All\0");
    rig.send(pdu);
    assert!(rig.events().is_empty());
    assert_eq!(only(rig.replies()).data.to_contiguous(), &b"SendTargets=Reject\0"[..]);
}

#[test]
fn a_discovery_session_takes_no_commands() {
    let mut rig = discovery();
    let command = rig.read_command(512);
    rig.send(command);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
    let management = rig.management(TaskManagementFunctionCode::TARGET_WARM_RESET, true);
    rig.send(management);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
}

#[test]
fn the_initiator_may_declare_a_new_segment_length() {
    let mut rig = Rig::new();
    let pdu = request(&mut rig, "MaxRecvDataSegmentLength=512\0");
    rig.send(pdu);
    only(rig.replies());
    let task = rig.read(1024);
    rig.session.send_data_in(task, 0, [payload(0, 1024)]);
    rig.good(task, 1024);
    assert_eq!(rig.replies().len(), 2);
}

#[test]
fn a_tag_that_was_not_given_is_rejected() {
    let mut rig = Rig::new();
    let mut pdu = request(&mut rig, "SendTargets=\0");
    pdu.target_transfer_tag = TargetTransferTag(99);
    rig.send(pdu);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn text_without_end_is_rejected() {
    let mut rig = Rig::new();
    let pdu = request(&mut rig, "SendTargets");
    rig.send(pdu);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
}

#[test]
fn too_much_text_is_rejected() {
    let mut options = Options::default();
    options.session.max_text_bytes = 1000;
    let mut rig = Rig::with(options);
    let pdu = request(&mut rig, &"X-a=b\0".repeat(300));
    rig.send(pdu);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
}

#[test]
fn a_late_answer_to_an_abandoned_exchange_is_ignored() {
    let mut rig = Rig::new();
    let pdu = request(&mut rig, "SendTargets=\0");
    rig.send(pdu);
    let (old, _) = asked(&rig.events());
    let pdu = request(&mut rig, "SendTargets=\0");
    rig.send(pdu);
    let (new, _) = asked(&rig.events());
    rig.session.send_targets_response(old, &[record(1)]);
    assert!(rig.replies().is_empty());
    rig.session.send_targets_response(new, &[]);
    assert!(only(rig.replies()).data.is_empty());
}

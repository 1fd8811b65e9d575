//! Reads, statuses, residuals, pings.

use bytes::Bytes;
use scsi_core::{Lun, Status, TaskAttribute};

use super::support::*;
use crate::pdu::*;
use crate::sn::{DataSn, StatSn};
use crate::target::*;

fn data_ins(replies: &[TargetPdu]) -> Vec<DataIn> {
    replies
        .iter()
        .map(|pdu| match pdu {
            TargetPdu::DataIn(data) => data.clone(),
            other => panic!("{other:?}"),
        })
        .collect()
}

#[test]
fn a_command_arrives_as_it_was_sent() {
    let mut rig = Rig::new();
    let mut sent = rig.read_command(4096);
    sent.lun = Lun::new(3).unwrap();
    sent.attribute = TaskAttribute::Ordered;
    sent.cdb = CdbBytes::new(&[0x28; 32]).unwrap();
    rig.send(sent.clone());
    let events = rig.events();
    let [Event::Command(command)] = &events[..] else { panic!("{events:?}") };
    assert_eq!((command.lun, command.attribute), (sent.lun, sent.attribute));
    assert_eq!(command.cdb.as_slice(), [0x28; 32]);
    assert_eq!((command.read, command.write, command.immediate), (true, false, false));
    assert_eq!((command.data_in_length, command.data_out_length), (4096, 0));
}

#[test]
fn good_status_rides_on_the_last_data_in() {
    let mut rig = Rig::keys(&[("MaxRecvDataSegmentLength", "1024")]);
    let task = rig.read(2500);
    rig.session.send_data_in(task, 0, [payload(0, 2500)]);
    rig.good(task, 2500);
    let data = data_ins(&rig.replies());
    assert_eq!(data.iter().map(|pdu| pdu.data.len()).collect::<Vec<_>>(), [1024, 1024, 452]);
    assert_eq!(data.iter().map(|pdu| pdu.data_sn.0).collect::<Vec<_>>(), [0, 1, 2]);
    assert_eq!(data.iter().map(|pdu| pdu.buffer_offset).collect::<Vec<_>>(), [0, 1024, 2048]);
    assert_eq!(data.iter().map(|pdu| pdu.status).collect::<Vec<_>>(), [None, None, Some(Status::GOOD)]);
    assert!(data[2].flags.contains(DataInFlags::FINAL) && data[2].residual == Residual::None);
    let bytes: Vec<Bytes> = data.into_iter().map(|pdu| pdu.data.to_contiguous()).collect();
    assert_eq!(bytes.concat(), payload(0, 2500));
    assert_eq!(rig.session.open_tasks(), 0);
}

#[test]
fn the_f_bit_ends_each_sequence_of_max_burst_length() {
    let mut rig = Rig::keys(&[("MaxRecvDataSegmentLength", "1024"), ("MaxBurstLength", "2048")]);
    let task = rig.read(5000);
    rig.session.send_data_in(task, 0, [payload(0, 5000)]);
    rig.good(task, 5000);
    let finals: Vec<bool> = data_ins(&rig.replies()).iter().map(|pdu| pdu.flags.contains(DataInFlags::FINAL)).collect();
    assert_eq!(finals, [false, true, false, true, true]);
}

#[test]
fn pieces_given_out_of_order_leave_in_order() {
    let mut rig = Rig::new();
    let task = rig.read(300);
    for start in [200, 100, 0] {
        rig.session.send_data_in(task, start, [payload(start, 100)]);
    }
    rig.good(task, 300);
    let data = data_ins(&rig.replies());
    assert_eq!(data.len(), 1);
    assert_eq!(data[0].data.to_contiguous(), payload(0, 300));
}

#[test]
fn data_without_a_known_status_leaves_at_once_and_the_status_follows() {
    let mut rig = Rig::new();
    let task = rig.read(1024);
    rig.session.send_data_in(task, 0, [payload(0, 1024)]);
    assert_eq!(data_ins(&rig.replies())[0].status, None);
    assert_eq!(rig.session.unsent_bytes(rig.key), 0);
    rig.good(task, 1024);
    let response = response(&rig.replies());
    assert_eq!((response.status, response.exp_data_sn), (Status::GOOD, DataSn(1)));
}

#[test]
fn sense_data_keeps_the_status_out_of_data_in() {
    let mut rig = Rig::new();
    let task = rig.read(1024);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    let sense = [0x70, 0, 3, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x11, 0, 0, 0, 0, 0];
    rig.session.send_status(
        task,
        TaskStatus { status: Status::CHECK_CONDITION, sense: &sense, data_length: 512, bidirectional_read_length: 0 },
    );
    let replies = rig.replies();
    let [TargetPdu::DataIn(data), TargetPdu::ScsiResponse(response)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(data.status, None);
    assert_eq!(response.sense(), &sense[..]);
    assert_eq!(response.residual, Residual::Underflow(512));
}

#[test]
fn less_than_expected_is_an_underflow_in_the_data_in() {
    let mut rig = Rig::new();
    let task = rig.read(1000);
    rig.session.send_data_in(task, 0, [payload(0, 600)]);
    rig.good(task, 600);
    assert_eq!(data_ins(&rig.replies())[0].residual, Residual::Underflow(400));
}

#[test]
fn more_than_expected_is_an_overflow_and_not_sent() {
    let mut rig = Rig::new();
    let task = rig.read(200);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.good(task, 512);
    let data = data_ins(&rig.replies());
    assert_eq!((data[0].data.len(), data[0].residual), (200, Residual::Overflow(312)));
}

#[test]
fn a_read_with_no_expected_data_overflows_in_a_response() {
    let mut rig = Rig::new();
    let task = rig.read(0);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.good(task, 512);
    assert_eq!(response(&rig.replies()).residual, Residual::Overflow(512));
}

#[test]
fn a_bidirectional_command_has_two_residuals_and_one_numbering() {
    let mut rig = Rig::new();
    let flags = ScsiCommandFlags::FINAL | ScsiCommandFlags::READ | ScsiCommandFlags::WRITE;
    let mut command = rig.command(flags, 1024);
    command.bidirectional_read_length = Some(2048);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 1024);
    let replies = rig.replies();
    assert_eq!(r2ts(&replies)[0].r2t_sn.0, 0);
    rig.send(data_out(tag, r2ts(&replies)[0].target_transfer_tag, 0, 0, 1024));
    rig.session.send_data_in(task, 0, [payload(0, 1500)]);
    rig.session.send_status(
        task,
        TaskStatus { status: Status::GOOD, sense: &[], data_length: 1000, bidirectional_read_length: 1500 },
    );
    let replies = rig.replies();
    let [TargetPdu::DataIn(data), TargetPdu::ScsiResponse(response)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(data.data_sn, DataSn(1));
    assert_eq!(response.residual, Residual::Underflow(24));
    assert_eq!(response.bidirectional_read_residual, Residual::Underflow(548));
    assert_eq!(response.exp_data_sn, DataSn(2));
}

#[test]
fn a_bidirectional_command_without_its_read_length_is_rejected() {
    let mut rig = Rig::new();
    let command = rig.command(ScsiCommandFlags::FINAL | ScsiCommandFlags::READ | ScsiCommandFlags::WRITE, 1024);
    rig.send(command);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn long_reads_take_turns() {
    let mut options = Options::default();
    options.session.transmit_quantum_bytes = 8192;
    let mut rig = Rig::with(options);
    let (long, short) = (rig.read(1 << 20), rig.read(512));
    rig.session.send_data_in(long, 0, [payload(0, 1 << 20)]);
    rig.good(long, 1 << 20);
    rig.session.send_data_in(short, 0, [payload(0, 512)]);
    rig.good(short, 512);
    let data = data_ins(&rig.replies());
    assert!(data.iter().position(|pdu| pdu.data.len() == 512).unwrap() < 3);
    let total: usize = data.iter().map(|pdu| pdu.data.len()).sum();
    assert_eq!(total, (1 << 20) + 512);
}

#[test]
fn one_call_gives_about_a_batch() {
    let mut options = Options::default();
    options.session.transmit_batch_bytes = 64 << 10;
    let mut rig = Rig::with(options);
    let task = rig.read(1 << 20);
    rig.session.send_data_in(task, 0, [payload(0, 1 << 20)]);
    let (mut out, now) = (Vec::new(), rig.now);
    let sent = rig.session.poll_transmit(rig.key, now, &mut out);
    assert!((64 << 10..(64 << 10) + (512 << 10)).contains(&sent), "{sent}");
    assert_eq!(sent, out.iter().map(Bytes::len).sum::<usize>());
}

#[test]
fn payloads_are_the_slices_that_were_given() {
    let mut rig = Rig::new();
    let task = rig.read(4096);
    let given = payload(0, 4096);
    rig.session.send_data_in(task, 0, [given.clone()]);
    rig.good(task, 4096);
    let (mut out, now) = (Vec::new(), rig.now);
    rig.session.poll_transmit(rig.key, now, &mut out);
    assert!(out.iter().any(|slice| slice.as_ptr() == given.as_ptr()));
}

#[test]
fn every_status_takes_the_next_stat_sn() {
    let mut rig = Rig::new();
    let mut numbers = Vec::new();
    for _ in 0..3 {
        let task = rig.read(0);
        rig.good(task, 0);
        numbers.push(response(&rig.replies()).stat_sn);
    }
    assert_eq!(numbers, [StatSn(1), StatSn(2), StatSn(3)]);
}

#[test]
fn a_tag_in_use_is_rejected_as_task_in_progress() {
    let mut rig = Rig::new();
    let first = rig.read_command(512);
    let tag = first.initiator_task_tag;
    rig.open(first);
    let mut second = rig.read_command(512);
    second.initiator_task_tag = tag;
    rig.send(second);
    assert!(rig.events().is_empty());
    assert_eq!(reject_reason(&rig.replies()), RejectReason::TASK_IN_PROGRESS);
    let third = rig.read_command(512);
    rig.open(third);
}

#[test]
fn the_reserved_tag_names_no_task() {
    let mut rig = Rig::new();
    let mut command = rig.read_command(512);
    command.initiator_task_tag = InitiatorTaskTag::RESERVED;
    rig.send(command);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
}

#[test]
fn too_many_immediate_commands_are_rejected() {
    let mut options = Options::default();
    options.session.max_immediate = 1;
    let mut rig = Rig::with(options);
    for _ in 0..2 {
        let mut command = rig.read_command(512);
        rig.cmd_sn = rig.cmd_sn.wrapping_sub(1);
        command.immediate = true;
        rig.send(command);
    }
    assert_eq!(rig.events().len(), 1);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::IMMEDIATE_COMMAND_REJECT);
}

#[test]
fn a_ping_comes_back_with_its_data() {
    let mut rig = Rig::new();
    let ping =
        NopOut { immediate: true, initiator_task_tag: rig.tag(), data: payload(0, 600).into(), ..NopOut::default() };
    rig.send(ping.clone());
    let replies = rig.replies();
    let [TargetPdu::NopIn(pong)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((pong.initiator_task_tag, &pong.data), (ping.initiator_task_tag, &ping.data));
    assert!(pong.target_transfer_tag.is_reserved());
}

#[test]
fn a_ping_answer_is_cut_to_what_the_initiator_takes() {
    let mut rig = Rig::keys(&[("MaxRecvDataSegmentLength", "512")]);
    let tag = rig.tag();
    rig.send(NopOut { immediate: true, initiator_task_tag: tag, data: payload(0, 600).into(), ..NopOut::default() });
    let replies = rig.replies();
    assert!(matches!(&replies[..], [TargetPdu::NopIn(pong)] if pong.data.to_contiguous() == payload(0, 512)));
}

#[test]
fn a_nop_out_without_a_tag_wants_no_answer() {
    let mut rig = Rig::new();
    rig.send(NopOut { immediate: true, initiator_task_tag: InitiatorTaskTag::RESERVED, ..NopOut::default() });
    assert!(rig.replies().is_empty());
}

#[test]
fn an_unknown_opcode_is_rejected_with_its_header() {
    let mut rig = Rig::new();
    let mut bytes = vec![0u8; 48];
    bytes[0] = 0x5c;
    bytes[16..20].copy_from_slice(&[1, 2, 3, 4]);
    rig.session.handle_received(rig.key, rig.now, bytes.clone().into());
    let replies = rig.replies();
    let [TargetPdu::Reject(reject)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(reject.reason, RejectReason::COMMAND_NOT_SUPPORTED);
    assert_eq!(reject.data.to_contiguous(), bytes);
}

#[test]
fn a_snack_is_refused_without_recovery() {
    let mut rig = Rig::new();
    rig.send(Snack::default());
    assert_eq!(reject_reason(&rig.replies()), RejectReason::PROTOCOL_ERROR);
    assert!(!rig.session.is_ended());
}

#[test]
fn stale_handles_are_ignored() {
    let mut rig = Rig::new();
    let task = rig.read(512);
    rig.good(task, 512);
    rig.replies();
    rig.good(task, 512);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.session.request_data(task, 0, 512);
    rig.session.task_aborted(task, true);
    assert!(rig.replies().is_empty() && rig.events().is_empty());
}

//! Writes: immediate, unsolicited and solicited data.

use scsi_core::Status;

use super::support::*;
use crate::pdu::*;
use crate::target::*;

/// Offsets, lengths and F bits of the data that arrived.
fn arrived(events: &[Event]) -> Vec<(u32, usize, bool)> {
    events
        .iter()
        .filter_map(|event| match event {
            Event::DataOut(data) => Some((data.offset, data.data.len(), data.is_final)),
            _ => None,
        })
        .collect()
}

fn unsolicited(tag: InitiatorTaskTag, sn: u32, offset: u32, length: usize) -> DataOut {
    data_out(tag, TargetTransferTag::RESERVED, sn, offset, length)
}

fn sense_code(response: &ScsiResponse) -> (u8, u8) {
    let sense = response.sense();
    assert_eq!((response.status, sense[2]), (Status::CHECK_CONDITION, 0x0b));
    (sense[12], sense[13])
}

#[test]
fn immediate_data_follows_its_command() {
    let mut rig = Rig::new();
    let mut command = rig.write_command(512);
    command.data = payload(0, 512).into();
    rig.send(command);
    let events = rig.events();
    assert!(matches!(&events[..], [Event::Command(_), Event::DataOut(_)]));
    assert_eq!(arrived(&events), [(0, 512, true)]);
}

#[test]
fn what_came_is_not_asked_for() {
    let mut rig = Rig::new();
    let mut command = rig.write_command(2048);
    command.data = payload(0, 512).into();
    let task = rig.open(command);
    rig.session.request_data(task, 0, 2048);
    let asked = r2ts(&rig.replies());
    assert_eq!((asked[0].buffer_offset, asked[0].desired_data_transfer_length), (512, 1536));
    assert_eq!(asked.len(), 1);
}

#[test]
fn an_r2t_does_not_use_a_stat_sn() {
    let mut rig = Rig::new();
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    let before = r2ts(&rig.replies())[0].stat_sn;
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    assert_eq!(r2ts(&rig.replies())[0].stat_sn, before);
}

#[test]
fn r2t_waits_for_max_outstanding() {
    let mut rig = Rig::keys(&[("MaxOutstandingR2T", "2"), ("MaxBurstLength", "1024")]);
    let command = rig.write_command(4096);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 4096);
    let asked = r2ts(&rig.replies());
    assert_eq!(asked.iter().map(|r2t| r2t.buffer_offset).collect::<Vec<_>>(), [0, 1024]);
    assert_eq!(asked.iter().map(|r2t| r2t.r2t_sn.0).collect::<Vec<_>>(), [0, 1]);
    rig.send(data_out(tag, asked[0].target_transfer_tag, 0, 0, 1024));
    let more = r2ts(&rig.replies());
    assert_eq!(more.iter().map(|r2t| (r2t.buffer_offset, r2t.r2t_sn.0)).collect::<Vec<_>>(), [(2048, 2)]);
    assert_eq!(arrived(&rig.events()), [(0, 1024, true)]);
}

#[test]
fn bytes_past_the_expected_length_are_not_asked_for() {
    let mut rig = Rig::new();
    let task = rig.write(200);
    rig.session.request_data(task, 0, 512);
    assert_eq!(r2ts(&rig.replies())[0].desired_data_transfer_length, 200);
}

#[test]
fn unsolicited_data_comes_up_where_it_is_allowed() {
    let mut rig = Rig::keys(&[("InitialR2T", "No"), ("FirstBurstLength", "1024")]);
    let mut command = rig.command(ScsiCommandFlags::WRITE, 2048);
    command.data = payload(0, 256).into();
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    let mut first = unsolicited(tag, 0, 256, 256);
    first.is_final = false;
    rig.send(first);
    rig.send(unsolicited(tag, 1, 512, 512));
    assert_eq!(arrived(&rig.events()), [(256, 256, false), (512, 512, true)]);
    rig.session.request_data(task, 0, 2048);
    let asked = r2ts(&rig.replies());
    assert_eq!((asked[0].buffer_offset, asked[0].desired_data_transfer_length), (1024, 1024));
}

#[test]
fn unsolicited_data_after_initial_r2t_yes_is_refused_after_its_end() {
    let mut rig = Rig::keys(&[("InitialR2T", "Yes")]);
    let command = rig.command(ScsiCommandFlags::WRITE, 1024);
    let tag = command.initiator_task_tag;
    rig.send(command);
    assert!(rig.events().is_empty() && rig.replies().is_empty());
    rig.send(unsolicited(tag, 0, 0, 1024));
    assert!(rig.events().is_empty());
    assert_eq!(sense_code(&response(&rig.replies())), (0x0c, 0x0c));
}

#[test]
fn immediate_data_that_was_not_agreed_on_is_refused() {
    let mut rig = Rig::keys(&[("ImmediateData", "No")]);
    let mut command = rig.write_command(512);
    command.data = payload(0, 512).into();
    rig.send(command);
    assert!(rig.events().is_empty());
    assert_eq!(sense_code(&response(&rig.replies())), (0x0c, 0x0c));
}

#[test]
fn immediate_data_beyond_first_burst_is_refused() {
    let mut rig = Rig::keys(&[("FirstBurstLength", "512")]);
    let mut command = rig.write_command(4096);
    command.data = payload(0, 1024).into();
    rig.send(command);
    assert_eq!(sense_code(&response(&rig.replies())), (0x0c, 0x0d));
}

#[test]
fn immediate_data_without_the_w_bit_is_rejected_and_its_number_counts() {
    let mut rig = Rig::new();
    let mut command = rig.read_command(512);
    command.data = payload(0, 512).into();
    rig.send(command);
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
    assert_eq!(rig.window().0, rig.cmd_sn);
}

#[test]
fn a_response_waits_for_the_last_data_of_every_sequence() {
    let mut rig = Rig::new();
    let command = rig.write_command(512);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    let asked = r2ts(&rig.replies());
    rig.session.send_status(task, TaskStatus::check_condition(&[0x70; 18]));
    assert!(rig.replies().is_empty());
    rig.send(data_out(tag, asked[0].target_transfer_tag, 0, 0, 512));
    assert!(rig.events().is_empty());
    assert_eq!(response(&rig.replies()).status, Status::CHECK_CONDITION);
}

#[test]
fn an_r2t_that_has_not_left_is_taken_back() {
    let mut rig = Rig::new();
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    rig.session.send_status(task, TaskStatus::check_condition(&[0x70; 18]));
    assert_eq!(response(&rig.replies()).residual, Residual::Underflow(512));
}

#[test]
fn a_gap_in_data_sn_fails_the_task_when_its_data_has_come() {
    let mut rig = Rig::new();
    let command = rig.write_command(1024);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 1024);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    let mut second = data_out(tag, transfer, 1, 512, 256);
    second.is_final = false;
    rig.send(second);
    let events = rig.events();
    assert!(matches!(&events[..], [Event::AbortTask { task: given_up, .. }] if *given_up == task));
    rig.session.task_aborted(task, false);
    assert!(rig.replies().is_empty());
    rig.send(data_out(tag, transfer, 2, 768, 256));
    assert_eq!(sense_code(&response(&rig.replies())), (0x47, 0x05));
}

#[test]
fn more_data_than_asked_for_fails_the_task() {
    let mut rig = Rig::new();
    let command = rig.write_command(1024);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    rig.send(data_out(tag, transfer, 0, 0, 1024));
    assert!(matches!(&rig.events()[..], [Event::AbortTask { .. }]));
    rig.good(task, 0);
    assert_eq!(sense_code(&response(&rig.replies())), (0x0c, 0x0d));
}

#[test]
fn data_for_a_transfer_that_never_was_is_rejected() {
    let mut rig = Rig::new();
    let command = rig.write_command(1024);
    let tag = command.initiator_task_tag;
    rig.open(command);
    rig.send(data_out(tag, TargetTransferTag(77), 0, 0, 512));
    assert_eq!(reject_reason(&rig.replies()), RejectReason::INVALID_PDU_FIELD);
    assert!(rig.events().is_empty());
}

#[test]
fn data_of_an_aborted_task_is_swallowed() {
    let mut rig = Rig::new();
    let command = rig.write_command(1024);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 1024);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    rig.session.task_aborted(task, false);
    rig.send(data_out(tag, transfer, 0, 0, 1024));
    assert!(rig.events().is_empty() && rig.replies().is_empty());
}

#[test]
fn a_third_party_abort_can_be_reported() {
    let mut rig = Rig::new();
    let task = rig.write(1024);
    rig.session.task_aborted(task, true);
    assert_eq!(response(&rig.replies()).status, Status::TASK_ABORTED);
}

#[test]
fn data_comes_up_in_the_slices_it_came_in() {
    let mut rig = Rig::new();
    let mut command = rig.write_command(4096);
    command.data = payload(0, 4096).into();
    let bytes = rig.peer(rig.key).encode(command);
    let (head, tail) = (bytes.slice(..1000), bytes.slice(1000..));
    rig.session.handle_received(rig.key, rig.now, head);
    rig.session.handle_received(rig.key, rig.now, tail);
    let events = rig.events();
    let Event::DataOut(data) = &events[1] else { panic!("{events:?}") };
    let starts: Vec<_> = data.data.slices().iter().map(|slice| slice.as_ptr()).collect();
    assert_eq!(starts, [bytes[48..].as_ptr(), bytes[1000..].as_ptr()]);
}

#[test]
fn data_on_another_connection_is_a_protocol_error() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    let command = rig.write_command(512);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    rig.send_on(other, data_out(tag, transfer, 0, 0, 512));
    assert_eq!(reject_reason(&rig.replies_on(other)), RejectReason::PROTOCOL_ERROR);
}

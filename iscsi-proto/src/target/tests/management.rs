//! Task management.

use std::time::Duration;

use scsi_core::{Lun, TaskManagementFunction, TaskManagementResponse as Answer};

use super::support::*;
use crate::pdu::TaskManagementFunctionCode as Function;
use crate::pdu::TaskManagementResponseCode as Code;
use crate::pdu::*;
use crate::sn::CmdSn;
use crate::target::*;

fn raised(events: &[Event]) -> TaskManagement {
    match events {
        [Event::TaskManagement(management)] => *management,
        other => panic!("{other:?}"),
    }
}

fn code(replies: &[TargetPdu]) -> Code {
    match replies {
        [TargetPdu::TaskManagementResponse(response)] => response.response,
        other => panic!("{other:?}"),
    }
}

fn abort(rig: &mut Rig, tag: InitiatorTaskTag, number: u32) -> TaskManagementRequest {
    TaskManagementRequest {
        referenced_task_tag: tag,
        ref_cmd_sn: CmdSn(number),
        ..rig.management(Function::ABORT_TASK, true)
    }
}

#[test]
fn abort_task_names_the_task_and_its_answer_comes_back() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    let request = abort(&mut rig, tag, number);
    rig.send(request.clone());
    let management = raised(&rig.events());
    assert_eq!(management.function, TaskManagementFunction::AbortTask);
    assert_eq!(management.referenced, Some(task));
    rig.session.task_aborted(task, false);
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    let replies = rig.replies();
    let [TargetPdu::TaskManagementResponse(response)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!(response.initiator_task_tag, request.initiator_task_tag);
    assert_eq!(response.response, Code::FUNCTION_COMPLETE);
    assert_eq!(rig.session.open_tasks(), 0);
}

#[test]
fn the_end_of_a_task_that_is_still_on_its_way_does_not_follow_the_answer_to_its_abort() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_management_response(management.request, Answer::TaskDoesNotExist);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.good(task, 512);
    assert!(rig.replies().is_empty());
    assert_eq!(rig.session.open_tasks(), 0);
}

#[test]
fn abort_task_of_another_lun_does_not_find_it() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    rig.open(command);
    let request = TaskManagementRequest { lun: Lun::new(1).unwrap(), ..abort(&mut rig, tag, number) };
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::TASK_DOES_NOT_EXIST);
}

#[test]
fn abort_task_of_a_task_that_is_long_gone_says_so() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    rig.good(task, 0);
    rig.replies();
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::TASK_DOES_NOT_EXIST);
}

#[test]
fn abort_task_of_a_command_that_has_not_come_uses_its_number_up() {
    let mut rig = Rig::new();
    let lost = rig.read_command(512);
    let next = rig.read_command(512);
    rig.send(next);
    let request = abort(&mut rig, lost.initiator_task_tag, lost.cmd_sn.0);
    rig.send(request);
    assert!(matches!(&rig.events()[..], [Event::Command(_)]));
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
    rig.send(lost);
    assert!(rig.events().is_empty());
}

#[test]
fn abort_task_of_a_held_command_ends_it_before_it_begins() {
    let mut rig = Rig::new();
    let first = rig.read_command(512);
    let held = rig.read_command(512);
    let (tag, number) = (held.initiator_task_tag, held.cmd_sn.0);
    rig.send(held);
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
    rig.send(first);
    assert_eq!(rig.events().len(), 1);
    assert_eq!(rig.window().0, rig.cmd_sn);
}

#[test]
fn abort_task_takes_back_a_response_that_waits_for_data() {
    let mut rig = Rig::new();
    let command = rig.write_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    rig.replies();
    rig.session.send_status(task, TaskStatus::check_condition(&[0x70; 18]));
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
}

/// CHECK CONDITION, UNIT ATTENTION, POWER ON.
const ATTENTION: [u8; 18] = [0x70, 0, 6, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x29, 0, 0, 0, 0, 0];

#[test]
fn abort_task_lets_a_unit_attention_go_out_first() {
    let mut rig = Rig::new();
    let command = rig.read_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    rig.session.send_status(task, TaskStatus::check_condition(&ATTENTION));
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    let replies = rig.replies();
    let [TargetPdu::ScsiResponse(response), TargetPdu::TaskManagementResponse(answer)] = &replies[..] else {
        panic!("{replies:?}")
    };
    assert_eq!((response.initiator_task_tag, answer.response), (tag, Code::FUNCTION_COMPLETE));
    assert_eq!(rig.session.poll_undelivered(), None);
}

#[test]
fn a_unit_attention_that_is_taken_back_is_given_back() {
    let mut rig = Rig::new();
    let command = rig.write_command(512);
    let (tag, number) = (command.initiator_task_tag, command.cmd_sn.0);
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    rig.replies();
    rig.session.send_status(task, TaskStatus::check_condition(&ATTENTION));
    let request = abort(&mut rig, tag, number);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
    let (lun, sense) = rig.session.poll_undelivered().expect("the response has not gone out");
    assert_eq!((lun, sense.code.asc), (Lun::ZERO, 0x29));
    assert_eq!(rig.session.poll_undelivered(), None);
}

#[test]
fn no_response_follows_the_answer_to_a_reset() {
    for is_ended in [true, false] {
        let mut rig = Rig::new();
        let command = rig.write_command(512);
        let tag = command.initiator_task_tag;
        let task = rig.open(command);
        rig.session.request_data(task, 0, 512);
        let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
        if is_ended {
            rig.session.send_status(task, TaskStatus::check_condition(&[0x70; 18]));
        }
        let reset = rig.management(Function::LOGICAL_UNIT_RESET, true);
        rig.send(reset);
        let management = raised(&rig.events());
        rig.session.task_management_response(management.request, Answer::FunctionComplete);
        assert!(rig.replies().is_empty(), "the data that was asked for is still to come");
        rig.send(data_out(tag, transfer, 0, 0, 512));
        assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
        rig.session.send_status(task, TaskStatus::check_condition(&[0x70; 18]));
        assert!(rig.replies().is_empty(), "the owner's own end of it came too late");
        assert_eq!(rig.session.open_tasks(), 0);
    }
}

#[test]
fn reassignment_needs_recovery() {
    let mut rig = Rig::new();
    let request = rig.management(Function::TASK_REASSIGN, true);
    rig.send(request);
    assert!(rig.events().is_empty());
    assert_eq!(code(&rig.replies()), Code::TASK_REASSIGN_NOT_SUPPORTED);
}

#[test]
fn unknown_functions_are_not_supported() {
    let mut rig = Rig::new();
    let request = rig.management(Function(0x55), false);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_NOT_SUPPORTED);
}

#[test]
fn queries_need_protocol_level_two() {
    let mut rig = Rig::new();
    let request = rig.management(Function::QUERY_TASK_SET, true);
    rig.send(request);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_NOT_SUPPORTED);

    let mut rig = Rig::keys(&[("iSCSIProtocolLevel", "2")]);
    let request = rig.management(Function::QUERY_TASK_SET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_management_response(management.request, Answer::FunctionSucceeded { additional: [0; 3] });
    assert_eq!(code(&rig.replies()), Code::FUNCTION_SUCCEEDED);
}

#[test]
fn an_immediate_set_function_waits_for_what_was_sent_before_it() {
    let mut rig = Rig::new();
    let first = rig.read_command(512);
    let request = rig.management(Function::ABORT_TASK_SET, true);
    rig.send(request);
    assert!(rig.events().is_empty());
    rig.send(first);
    assert!(matches!(&rig.events()[..], [Event::Command(_), Event::TaskManagement(_)]));
}

#[test]
fn a_target_reset_does_not_wait_for_what_has_not_come() {
    let mut rig = Rig::new();
    let lost = rig.read_command(512);
    let request = rig.management(Function::TARGET_WARM_RESET, true);
    rig.send(request);
    raised(&rig.events());
    rig.send(lost);
    assert!(rig.events().is_empty());
    assert_eq!(rig.window().0, rig.cmd_sn);
}

#[test]
fn a_set_function_answers_after_the_data_of_its_tasks() {
    let mut rig = Rig::new();
    let command = rig.write_command(512);
    let tag = command.initiator_task_tag;
    let task = rig.open(command);
    rig.session.request_data(task, 0, 512);
    let transfer = r2ts(&rig.replies())[0].target_transfer_tag;
    let request = rig.management(Function::LOGICAL_UNIT_RESET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_aborted(task, false);
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert!(rig.replies().is_empty());
    rig.send(data_out(tag, transfer, 0, 0, 512));
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
}

#[test]
fn a_set_function_does_not_wait_for_ever() {
    let mut rig = Rig::new();
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    rig.replies();
    let request = rig.management(Function::ABORT_TASK_SET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_aborted(task, false);
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert!(rig.replies().is_empty());
    assert_eq!(rig.session.poll_timeout(), Some(rig.now + Duration::from_secs(1)));
    rig.wait(Duration::from_secs(1));
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
}

#[test]
fn with_fast_abort_nobody_waits_for_data() {
    let mut rig = Rig::keys(&[("TaskReporting", "FastAbort")]);
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    rig.replies();
    let request = rig.management(Function::ABORT_TASK_SET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_aborted(task, false);
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
}

#[test]
fn with_fast_abort_a_third_party_abort_is_told_once_a_lun() {
    let mut rig = Rig::keys(&[("TaskReporting", "FastAbort")]);
    let tasks = [rig.read(512), rig.read(512)];
    tasks.into_iter().for_each(|task| rig.session.task_aborted(task, false));
    let replies = rig.replies();
    let [TargetPdu::AsyncMessage(message)] = &replies[..] else { panic!("{replies:?}") };
    assert_eq!((message.event, message.lun), (AsyncEvent::TASKS_TERMINATED, Lun::ZERO));
}

#[test]
fn responses_of_tasks_that_ended_leave_before_the_answer() {
    let mut options = Options::default();
    options.session.transmit_quantum_bytes = 4096;
    let mut rig = Rig::with(options);
    let task = rig.read(1 << 20);
    let request = rig.management(Function::ABORT_TASK_SET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.send_data_in(task, 0, [payload(0, 1 << 20)]);
    rig.good(task, 1 << 20);
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert!(matches!(rig.replies().last(), Some(TargetPdu::TaskManagementResponse(_))));
}

#[test]
fn with_two_connections_the_answer_waits_for_acknowledgement_of_earlier_responses() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    let command = rig.read_command(512);
    rig.send_on(other, command);
    let task = task(&rig.events());
    rig.good(task, 0);
    assert!(matches!(&rig.replies_on(other)[..], [TargetPdu::ScsiResponse(_)]));
    let request = rig.management(Function::LOGICAL_UNIT_RESET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert!(rig.replies().is_empty());
    let replies = rig.replies_on(other);
    let [TargetPdu::NopIn(ping)] = &replies[..] else { panic!("{replies:?}") };
    rig.send_on(
        other,
        NopOut {
            immediate: true,
            initiator_task_tag: InitiatorTaskTag::RESERVED,
            target_transfer_tag: ping.target_transfer_tag,
            exp_stat_sn: ping.stat_sn,
            ..NopOut::default()
        },
    );
    assert!(matches!(&rig.replies()[..], [TargetPdu::TaskManagementResponse(_), ..]));
}

#[test]
fn after_a_fenced_answer_the_other_connection_waits_for_its_acknowledgement() {
    let mut rig = Rig::keys(&[("MaxConnections", "2")]);
    let other = rig.join(1);
    rig.send_on(
        other,
        NopOut {
            immediate: true,
            initiator_task_tag: InitiatorTaskTag::RESERVED,
            exp_stat_sn: crate::sn::StatSn(1),
            ..NopOut::default()
        },
    );
    let request = rig.management(Function::CLEAR_TASK_SET, true);
    rig.send(request);
    let management = raised(&rig.events());
    let command = rig.read_command(512);
    rig.send_on(other, command);
    let task = task(&rig.events());
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    let replies = rig.replies();
    let [TargetPdu::TaskManagementResponse(answer), TargetPdu::NopIn(ping)] = &replies[..] else {
        panic!("{replies:?}")
    };
    rig.good(task, 0);
    assert!(rig.replies_on(other).is_empty());
    rig.send(NopOut {
        immediate: true,
        initiator_task_tag: InitiatorTaskTag::RESERVED,
        target_transfer_tag: ping.target_transfer_tag,
        exp_stat_sn: answer.stat_sn.next(),
        ..NopOut::default()
    });
    assert!(matches!(&rig.replies_on(other)[..], [TargetPdu::ScsiResponse(_)]));
}

#[test]
fn a_cold_reset_ends_the_session_after_its_answer() {
    let mut rig = Rig::new();
    let request = rig.management(Function::TARGET_COLD_RESET, true);
    rig.send(request);
    let management = raised(&rig.events());
    rig.session.task_management_response(management.request, Answer::FunctionComplete);
    assert_eq!(code(&rig.replies()), Code::FUNCTION_COMPLETE);
    assert!(matches!(rig.events().last(), Some(Event::Ended(EndReason::ColdReset))));
}

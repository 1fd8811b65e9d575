//! The command order and the window.

use std::time::Duration;

use super::support::*;
use crate::pdu::*;
use crate::sn::CmdSn;
use crate::target::*;

fn tags(events: &[Event]) -> Vec<u64> {
    events
        .iter()
        .map(|event| match event {
            Event::Command(command) => u64::from(command.cdb.as_slice()[1]),
            other => panic!("{other:?}"),
        })
        .collect()
}

fn marked(rig: &mut Rig, mark: u8) -> ScsiCommand {
    let mut command = rig.read_command(512);
    let mut cdb = [0; 16];
    cdb[1] = mark;
    command.cdb = cdb.into();
    command
}

fn two_connections() -> (Rig, ConnectionKey) {
    let mut rig = Rig::keys(&[("MaxConnections", "4")]);
    let other = rig.join(1);
    (rig, other)
}

#[test]
fn commands_of_two_connections_come_in_the_order_of_their_numbers() {
    let (mut rig, other) = two_connections();
    let commands: Vec<_> = (0..6).map(|mark| marked(&mut rig, mark)).collect();
    let key = rig.key;
    for (index, on) in [(5, key), (1, other), (3, other), (0, key), (2, key), (4, other)] {
        rig.send_on(on, commands[index].clone());
    }
    assert_eq!(tags(&rig.events()), [0, 1, 2, 3, 4, 5]);
}

#[test]
fn data_of_a_held_command_comes_after_it() {
    let (mut rig, other) = two_connections();
    let first = marked(&mut rig, 0);
    let mut second = rig.write_command(512);
    second.data = payload(0, 512).into();
    rig.send_on(other, second);
    assert!(rig.events().is_empty());
    rig.send(first);
    assert!(matches!(&rig.events()[..], [Event::Command(_), Event::Command(_), Event::DataOut(_)]));
}

#[test]
fn immediate_commands_do_not_wait_and_use_no_number() {
    let mut rig = Rig::new();
    let late = marked(&mut rig, 0);
    let next = marked(&mut rig, 1);
    rig.send(next);
    let mut immediate = marked(&mut rig, 9);
    rig.cmd_sn = rig.cmd_sn.wrapping_sub(1);
    immediate.immediate = true;
    rig.send(immediate);
    assert_eq!(tags(&rig.events()), [9]);
    rig.send(late);
    assert_eq!(tags(&rig.events()), [0, 1]);
}

#[test]
fn duplicates_are_ignored_without_a_word() {
    let mut rig = Rig::new();
    let command = marked(&mut rig, 0);
    rig.send(command.clone());
    rig.events();
    rig.send(command);
    assert!(rig.events().is_empty() && rig.replies().is_empty());
}

#[test]
fn numbers_outside_the_window_are_ignored_without_a_word() {
    let mut rig = Rig::new();
    for distance in [128, 1 << 30, 1 << 31, u32::MAX] {
        let mut command = marked(&mut rig, 0);
        rig.cmd_sn = rig.cmd_sn.wrapping_sub(1);
        command.cmd_sn = CmdSn(rig.cmd_sn.wrapping_add(distance));
        rig.send(command);
    }
    assert!(rig.events().is_empty() && rig.replies().is_empty());
    assert_eq!(rig.session.open_tasks(), 0);
}

#[test]
fn open_commands_narrow_the_window_and_responses_widen_it() {
    let mut options = Options::default();
    options.session.queue_depth = 4;
    let mut rig = Rig::with(options);
    let tasks: Vec<_> = (0..4).map(|_| rig.read(0)).collect();
    assert_eq!(rig.window(), (FIRST.wrapping_add(4), FIRST.wrapping_add(3)));
    let refused = marked(&mut rig, 9);
    rig.cmd_sn = rig.cmd_sn.wrapping_sub(1);
    rig.send(refused.clone());
    assert!(rig.events().is_empty());
    rig.good(tasks[2], 0);
    let told = response(&rig.replies());
    assert_eq!((told.exp_cmd_sn.0, told.max_cmd_sn.0), (FIRST.wrapping_add(4), FIRST.wrapping_add(4)));
    rig.send(refused);
    assert_eq!(rig.events().len(), 1);
}

#[test]
fn a_window_that_opens_silently_is_told() {
    let mut options = Options::default();
    options.session.queue_depth = 1;
    let mut rig = Rig::with(options);
    let task = rig.write(512);
    rig.session.request_data(task, 0, 512);
    rig.replies();
    rig.session.task_aborted(task, false);
    let replies = rig.replies();
    assert!(matches!(&replies[..], [TargetPdu::AsyncMessage(_)] | [TargetPdu::NopIn(_)]), "{replies:?}");
}

#[test]
fn a_window_that_was_used_up_is_told_when_others_end_its_tasks() {
    let mut options = Options::default();
    options.session.queue_depth = 2;
    let mut rig = Rig::with(options);
    // Nothing has been sent since the window was open: that it is closed the initiator knows by counting.
    let tasks = [rig.read(512), rig.read(512)];
    assert!(rig.replies().is_empty());
    rig.session.task_aborted(tasks[0], false);
    let replies = rig.replies();
    let [TargetPdu::NopIn(ping)] = &replies[..] else { panic!("{replies:?}") };
    assert!(ping.target_transfer_tag.is_reserved(), "no answer is wanted");
    assert_eq!(ping.max_cmd_sn.0, rig.cmd_sn);
    rig.session.task_aborted(tasks[1], false);
    assert!(rig.replies().is_empty(), "a number is left, which is enough to hear of the rest");
}

#[test]
fn what_is_queued_for_a_task_that_is_gone_does_not_keep_the_window_from_being_told() {
    let mut options = Options::default();
    options.session.queue_depth = 1;
    let mut rig = Rig::with(options);
    let task = rig.read(512);
    rig.session.send_data_in(task, 0, [payload(0, 512)]);
    rig.session.task_aborted(task, false);
    let replies = rig.replies();
    assert!(matches!(&replies[..], [TargetPdu::NopIn(_)]), "{replies:?}");
}

#[test]
fn a_number_that_never_comes_ends_the_session() {
    let mut rig = Rig::new();
    marked(&mut rig, 0);
    let next = marked(&mut rig, 1);
    rig.send(next);
    rig.wait(Duration::from_secs(10));
    assert!(!rig.session.is_ended());
    rig.wait(Duration::from_secs(21));
    assert!(matches!(rig.events().last(), Some(Event::Ended(EndReason::CommandLost))));
}

#[test]
fn numbered_pings_keep_their_place() {
    let mut rig = Rig::new();
    let command = marked(&mut rig, 0);
    let ping = NopOut { initiator_task_tag: rig.tag(), cmd_sn: rig.number(), ..NopOut::default() };
    rig.send(ping);
    assert!(rig.replies().is_empty());
    rig.send(command);
    assert!(matches!(&rig.replies()[..], [TargetPdu::NopIn(_)]));
}

#[test]
fn back_pressure_stops_reading_and_sending_lets_it_go_on() {
    let mut options = Options::default();
    options.session.max_transmit_queue = 4;
    let mut rig = Rig::with(options);
    let pings: Vec<u8> = (0..10)
        .flat_map(|_| {
            let ping = NopOut { immediate: true, initiator_task_tag: rig.tag(), ..NopOut::default() };
            rig.peer(rig.key).encode(ping).to_vec()
        })
        .collect();
    rig.session.handle_received(rig.key, rig.now, pings.into());
    assert_eq!(rig.session.recv_hint(rig.key).wanted, 0);
    assert_eq!(rig.replies().len(), 10);
    assert_ne!(rig.session.recv_hint(rig.key).wanted, 0);
}

#[test]
fn events_have_a_limit_too() {
    let mut options = Options::default();
    options.session.max_events = 3;
    let mut rig = Rig::with(options);
    let bytes: Vec<u8> = (0..8)
        .flat_map(|mark| {
            let command = marked(&mut rig, mark);
            rig.peer(rig.key).encode(command).to_vec()
        })
        .collect();
    rig.session.handle_received(rig.key, rig.now, bytes.into());
    assert_eq!(rig.session.events.len(), 3);
    assert_eq!(rig.session.recv_hint(rig.key).wanted, 0);
    assert_eq!(tags(&rig.events()), (0..8).collect::<Vec<_>>());
}

#[test]
fn the_owner_can_pause_a_connection() {
    let mut rig = Rig::new();
    rig.session.pause_receive(rig.key, true);
    assert_eq!(rig.session.recv_hint(rig.key).wanted, 0);
    rig.session.pause_receive(rig.key, false);
    assert_eq!(rig.session.recv_hint(rig.key).wanted, 48);
}

//! The initiator role against the target role: commands, losses, logouts, faults.

mod world;

use std::time::Duration;

use bytes::Bytes;
use iscsi_proto::auth::chap::{Algorithm, Credentials, Secret};
use iscsi_proto::initiator::{CloseReason, Event, LoginError, Outcome, SubmitError, TargetProof, TaskManagement};
use iscsi_proto::login::{AuthPolicy, ChapPolicy, ChapVerifier, DigestPreference, LoginPolicy, Preferences};
use iscsi_proto::pdu::*;
use iscsi_proto::sn::{CmdSn, DataSn, R2tSn, StatSn};
use proptest::prelude::*;
use scsi_core::{Lun, Status, TaskManagementFunction};
use world::{World, config, login_config, read, write};

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn lost(outcome: Option<Outcome>) -> bool {
    matches!(outcome, Some(Outcome::Lost))
}

fn closes(world: &World) -> Vec<&CloseReason> {
    let mut reasons = Vec::new();
    for event in &world.events {
        if let Event::Close { reason, .. } = event {
            reasons.push(reason);
        }
    }
    reasons
}

fn preferences() -> impl Strategy<Value = Preferences> {
    let digest = prop::sample::select(vec![DigestPreference::PreferNone, DigestPreference::PreferCrc32c]);
    (any::<[bool; 2]>(), 512u32..70_000, 512u32..70_000, 512u32..70_000, 1u16..5, digest.clone(), digest).prop_map(
        |([initial_r2t, immediate], burst, first, segment, r2ts, header_digest, data_digest)| {
            let mut preferences = Preferences { header_digest, data_digest, ..Preferences::default() };
            preferences.session.initial_r2t = initial_r2t;
            preferences.session.immediate_data = immediate;
            preferences.session.max_burst_length = burst;
            preferences.session.first_burst_length = first;
            preferences.session.max_outstanding_r2t = r2ts;
            preferences.max_recv_data_segment_length = segment;
            preferences
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn data_arrives_whatever_was_agreed(
        ours in preferences(),
        theirs in preferences(),
        length in prop_oneof![1usize..3000, 1usize..300_000],
        at in 0u32..100_000,
        piece in prop_oneof![Just(usize::MAX), 1usize..5000],
    ) {
        let mut config = config();
        config.login.preferences = ours;
        let mut world = World::unconnected(config);
        (world.target_preferences, world.piece) = (theirs, piece.max(length / 200));
        world.connect();
        world.run();
        let data = pattern(length);
        let done = world.submit(write(at, data.clone()));
        world.good(done);
        let done = world.submit(read(at, length as u32));
        prop_assert_eq!(&world.good(done)[..], &data[..]);
        prop_assert_eq!(world.host.outstanding(), 0);
    }
}

#[test]
fn a_lost_connection_ends_commands_as_lost() {
    let mut world = World::new(config());
    world.holds = true;
    let task = world.submit(write(0, pattern(1000)));
    world.cut(0);
    assert!(lost(world.outcome(task)));
    assert!(matches!(world.host.submit(read(0, 1)), Err(SubmitError::NotLoggedIn)));
    assert!(world.host.tsih().is_new());
}

#[test]
fn with_resubmit_commands_wait_and_are_sent_anew() {
    let mut world = World::new(iscsi_proto::initiator::SessionConfig { resubmit: true, ..config() });
    world.holds = true;
    let data = pattern(200_000);
    let (first, second) = (world.submit(write(0, data.clone())), world.submit(read(500_000, 3000)));
    world.cut(0);
    let third = world.submit(read(0, 200_000));
    assert!(world.outcome(first).is_none() && world.outcome(second).is_none());
    world.holds = false;
    world.connect();
    world.run();
    world.good(first);
    assert_eq!(world.good(second), vec![0; 3000]);
    assert_eq!(world.good(third), data);
    assert_eq!((world.seen, world.host.outstanding()), (5, 0));
}

#[test]
fn a_new_login_replaces_the_session_that_was_lost() {
    let mut world = World::new(config());
    assert_eq!(world.host.tsih(), Tsih(1));
    world.swallow(0);
    let task = world.host.submit(read(0, 10)).unwrap();
    world.run();
    world.host.close(world.key(0));
    world.run();
    assert!(lost(world.outcome(task)));
    world.connect();
    world.run();
    assert_eq!(world.host.tsih(), Tsih(2));
    let task = world.submit(read(0, 10));
    world.good(task);
}

fn several() -> World {
    let mut config = config();
    config.resubmit = true;
    config.login.preferences.session.max_connections = 4;
    let mut world = World::new(config);
    (0..2).for_each(|_| {
        world.connect();
        world.run();
    });
    assert_eq!(world.wires(), 3);
    world
}

#[test]
fn commands_keep_their_order_across_connections() {
    let mut world = several();
    let tasks: Vec<_> = (0..30u32).map(|n| world.host.submit(write(0, vec![n as u8; 100])).unwrap()).collect();
    world.run();
    tasks.into_iter().for_each(|task| {
        world.good(task);
    });
    assert_eq!(world.disk[..100], [29; 100]);
}

#[test]
fn a_session_survives_the_loss_of_one_of_its_connections() {
    let mut world = several();
    world.holds = true;
    let tasks: Vec<_> = (0..9u32).map(|n| world.submit(write(n * 1000, pattern(1000)))).collect();
    // Its answer says which commands the target has.
    world.host.ping(Bytes::new()).unwrap();
    world.run();
    world.cut_at_host(1);
    // The target let go of what came there before it was sent anew.
    assert!(world.held.len() == 9 && world.seen > 9, "{} held, {} seen", world.held.len(), world.seen);
    world.carry_out_held();
    tasks.into_iter().for_each(|task| {
        world.good(task);
    });
    assert_eq!((world.host.tsih(), world.wires(), world.host.outstanding()), (Tsih(1), 2, 0));
}

#[test]
fn a_hole_in_the_numbers_ends_the_session() {
    let mut world = several();
    world.swallow(1);
    let tasks: Vec<_> = (0..6u32).map(|n| world.host.submit(write(n * 1000, pattern(1000))).unwrap()).collect();
    world.run();
    world.cut(1);
    assert_eq!(closes(&world), [&CloseReason::SessionLost; 2]);
    assert!(world.host.tsih().is_new());
    world.connect();
    world.run();
    tasks.into_iter().for_each(|task| {
        world.good(task);
    });
}

#[test]
fn a_logout_that_the_target_asks_for_is_sent_when_the_commands_are_done() {
    let mut world = World::new(iscsi_proto::initiator::SessionConfig { resubmit: true, ..config() });
    world.holds = true;
    let under_way = world.submit(read(0, 100));
    world.target.as_mut().unwrap().request_logout(world.now, Duration::from_secs(10));
    world.run();
    let waits = world.submit(read(0, 200));
    assert_eq!((world.seen, world.wires()), (1, 1));
    world.carry_out_held();
    world.good(under_way);
    assert_eq!(closes(&world), [&CloseReason::LoggedOut]);
    world.connect();
    world.run();
    world.good(waits);
}

#[test]
fn commands_that_do_not_end_in_time_do_not_hold_the_logout() {
    let mut world = World::new(config());
    world.holds = true;
    let task = world.submit(read(0, 100));
    world.target.as_mut().unwrap().request_logout(world.now, Duration::from_secs(10));
    world.run();
    assert_eq!(world.wires(), 1);
    world.pass(Duration::from_secs(5));
    // The target waits for its task, then answers.
    world.pass(Duration::from_secs(2));
    assert!(lost(world.outcome(task)));
    assert_eq!(closes(&world), [&CloseReason::LoggedOut]);
}

#[test]
fn the_owner_may_keep_the_logout_to_itself() {
    let mut world = World::new(iscsi_proto::initiator::SessionConfig { obey_logout_requests: false, ..config() });
    world.target.as_mut().unwrap().request_logout(world.now, Duration::from_secs(10));
    world.run();
    assert_eq!(world.wires(), 1);
    world.host.logout().unwrap();
    world.run();
    assert_eq!((world.wires(), closes(&world)), (0, vec![&CloseReason::LoggedOut]));
    assert!(world.target.is_none());
}

#[test]
fn a_negotiation_that_the_target_asks_for_takes_place() {
    let mut world = World::new(config());
    world.target.as_mut().unwrap().request_negotiation(world.now, Duration::from_secs(10));
    world.run();
    assert_eq!((world.host.outstanding(), world.wires()), (0, 1));
}

#[test]
fn a_target_that_drops_the_session_is_believed() {
    let mut world = World::new(config());
    world.target.as_mut().unwrap().drop_session(world.now);
    world.run();
    assert!(world.host.tsih().is_new());
    assert_eq!(world.wires(), 0);
}

#[test]
fn discovery_takes_as_many_texts_as_it_needs() {
    let mut config = config();
    config.login.target_name = None;
    let mut world = World::unconnected(config);
    world.policy = LoginPolicy::open(None);
    world.connect();
    world.run();
    world.host.send_targets("All").unwrap();
    world.run();
    let targets = world.events.iter().find_map(|event| match event {
        Event::Targets { targets: Some(targets), .. } => Some(targets),
        _ => None,
    });
    let targets = targets.unwrap();
    assert_eq!(targets.len(), 300);
    assert_eq!(targets[299].addresses, ["192.0.2.1:3260,1", "[2001:db8::1]:3260,1"]);
}

#[test]
fn abort_ends_the_command_before_the_answer() {
    let mut world = World::new(config());
    world.holds = true;
    let task = world.submit(write(0, pattern(100)));
    let abort = TaskManagement { function: TaskManagementFunction::AbortTask, lun: Lun::ZERO, referenced: Some(task) };
    let request = world.host.manage(abort).unwrap();
    world.run();
    let order: Vec<bool> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::TaskDone { task: done, outcome: Outcome::Lost } => Some(*done != task),
            Event::TaskManaged { request: done, response: Some(_) } => Some(*done == request),
            _ => None,
        })
        .collect();
    assert_eq!(order, [false, true]);
}

#[test]
fn a_reset_ends_the_commands_of_its_unit_alone() {
    let mut world = World::new(config());
    world.holds = true;
    let other = iscsi_proto::initiator::Command { lun: Lun::new(1).unwrap(), ..read(0, 10) };
    let (here, there) = (world.submit(read(0, 10)), world.submit(other));
    let reset = TaskManagement { function: TaskManagementFunction::LogicalUnitReset, lun: Lun::ZERO, referenced: None };
    world.host.manage(reset).unwrap();
    world.run();
    assert!(lost(world.outcome(here)) && world.outcome(there).is_none());
    world.carry_out_held();
    world.good(there);
}

#[test]
fn more_commands_than_the_window_takes_wait_for_it() {
    let mut world = World::new(config());
    world.holds = true;
    let tasks: Vec<_> = (0..500u32).map(|n| world.host.submit(read(n, 1)).unwrap()).collect();
    world.run();
    assert_eq!(world.held.len(), 128);
    world.carry_out_held();
    tasks.into_iter().for_each(|task| {
        world.good(task);
    });
}

#[test]
fn outstanding_requests_have_a_limit() {
    let mut world = World::new(iscsi_proto::initiator::SessionConfig { max_outstanding: 2, ..config() });
    world.holds = true;
    (0..2).for_each(|_| assert!(world.host.submit(read(0, 1)).is_ok()));
    assert!(matches!(world.host.submit(read(0, 1)), Err(SubmitError::TooMany { limit: 2 })));
}

#[test]
fn a_silent_target_is_pinged_then_given_up() {
    let mut world = World::new(config());
    let interval = config().ping_interval;
    world.pass(interval);
    assert_eq!((world.wires(), world.host.outstanding()), (1, 0), "it answered");
    world.swallow(0);
    world.pass(interval);
    world.pass(config().ping_timeout);
    assert_eq!(closes(&world), [&CloseReason::Silent]);
    // Our own pings are nobody's business.
    assert!(!world.events.iter().any(|event| matches!(event, Event::Pong { .. })));
}

#[test]
fn a_login_that_is_not_answered_ends_in_time() {
    let mut world = World::unconnected(config());
    let wire = world.connect();
    world.swallow(wire);
    world.run();
    assert_eq!(world.host.poll_timeout(), Some(world.now + config().login_timeout));
    world.pass(config().login_timeout);
    let error = world.events.iter().find_map(|event| match event {
        Event::LoginFailed { error, .. } => Some(error),
        _ => None,
    });
    assert_eq!(error, Some(&LoginError::Timeout));
}

#[test]
fn a_redirection_gives_every_address() {
    let mut world = World::unconnected(config());
    let addresses = vec!["192.0.2.9:3260,1".to_owned(), "[2001:db8::9]:3260,2".to_owned()];
    world.redirect = Some(addresses.clone());
    world.connect();
    world.run();
    let moved = LoginError::Moved { addresses, permanently: false };
    assert!(world.events.iter().any(|event| matches!(event, Event::LoginFailed { error, .. } if *error == moved)));
}

fn mutual(challenge: u8) -> World {
    let mut config = config();
    config.login.credentials = Some(Credentials { name: "host".into(), secret: Secret::new("secret of host") });
    config.login.target_proof = Some(TargetProof {
        credentials: Credentials { name: "disk".into(), secret: Secret::new("secret of disk") },
        identifier: 3,
        challenge: vec![challenge; 32],
    });
    let mut world = World::unconnected(config);
    world.policy.auth = AuthPolicy::Chap(ChapPolicy {
        identifier: 7,
        challenge: vec![0xa5; 32],
        minimum: Algorithm::SHA256,
        verifier: ChapVerifier::Credentials(Credentials { name: "host".into(), secret: Secret::new("secret of host") }),
        mutual: Some(Credentials { name: "disk".into(), secret: Secret::new("secret of disk") }),
    });
    world.connect();
    world.run();
    world
}

#[test]
fn a_challenge_is_used_for_one_login() {
    let mut world = mutual(0x11);
    assert_eq!(world.host.tsih(), Tsih(1));
    world.cut(0);
    world.connect();
    world.run();
    let used = |event: &Event| matches!(event, Event::LoginFailed { error: LoginError::ChallengeUsed, .. });
    assert!(world.events.iter().any(used));
    world.host.set_challenge(4, vec![0x12; 32]);
    world.connect();
    world.run();
    assert_eq!(world.host.tsih(), Tsih(2));
}

#[test]
fn a_target_that_sends_our_challenge_back_gets_no_answer() {
    let world = mutual(0xa5);
    assert!(world.host.tsih().is_new());
    let words = world.events.iter().find_map(|event| match event {
        Event::LoginFailed { error: LoginError::Protocol(words), .. } => Some(words.as_str()),
        _ => None,
    });
    assert_eq!(words, Some("peer reflected the CHAP challenge"));
}

/// What a scripted target may send after the login.
fn broken_by(submit: Option<iscsi_proto::initiator::Command>, pdus: &[TargetPdu]) -> Option<String> {
    let mut world = World::new(config());
    world.holds = true;
    if let Some(command) = submit {
        world.submit(command);
    }
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    pdus.iter().for_each(|pdu| assert!(encoder.encode(pdu, &mut out).is_ok()));
    encoder.finish(&mut out);
    let key = world.key(0);
    out.into_iter().for_each(|bytes: Bytes| world.host.handle_received(world.now, key, bytes));
    world.run();
    closes(&world).into_iter().find_map(|reason| match reason {
        CloseReason::Protocol(words) => Some(words.clone()),
        _ => None,
    })
}

/// The tag of the first task.
const TAG: InitiatorTaskTag = InitiatorTaskTag(0x1_0000);

fn data_in(number: u32, offset: u32, length: usize) -> TargetPdu {
    DataIn {
        initiator_task_tag: TAG,
        data_sn: DataSn(number),
        buffer_offset: offset,
        data: vec![0; length].into(),
        ..DataIn::default()
    }
    .into()
}

fn r2t(number: u32, offset: u32, length: u32) -> TargetPdu {
    R2t {
        initiator_task_tag: TAG,
        target_transfer_tag: TargetTransferTag(1),
        r2t_sn: R2tSn(number),
        buffer_offset: offset,
        desired_data_transfer_length: length,
        ..R2t::default()
    }
    .into()
}

#[test]
fn a_target_that_breaks_the_rules_is_left() {
    let reading = || Some(read(0, 1000));
    assert_eq!(broken_by(reading(), &[data_in(0, 0, 500), data_in(1, 500, 500)]), None);
    assert!(broken_by(reading(), &[data_in(1, 0, 500)]).is_some(), "a Data-In is missing");
    assert!(broken_by(reading(), &[data_in(0, 500, 501)]).is_some(), "too much data");
    assert!(broken_by(reading(), &[data_in(0, 0, 500), data_in(1, 0, 500)]).is_some(), "data twice");
    assert!(broken_by(reading(), &[r2t(0, 0, 1)]).is_some(), "an R2T for a read");
    let writing = || Some(write(0, vec![0; 1 << 20]));
    assert_eq!(broken_by(writing(), &[r2t(0, 262_144, 4096), r2t(1, 500_000, 4096)]), None);
    assert!(broken_by(writing(), &[r2t(1, 262_144, 4096)]).is_some(), "an R2T is missing");
    assert!(broken_by(writing(), &[r2t(0, 1 << 20, 1)]).is_some(), "past the end");
    assert!(broken_by(writing(), &[r2t(0, 262_144, 0)]).is_some(), "nothing");
    assert!(broken_by(writing(), &[r2t(0, 0, 1 << 20), r2t(1, 0, 1)]).is_some(), "data twice");
    let skipped = AsyncMessage { event: AsyncEvent::VENDOR, stat_sn: StatSn(0x7000), ..AsyncMessage::default() };
    assert!(broken_by(None, &[skipped.into()]).is_some(), "a status number was left out");
    assert!(broken_by(None, &[LoginResponse::default().into()]).is_some(), "a login response");
}

#[test]
fn endless_pings_of_a_target_are_bounded() {
    let ping = NopIn { target_transfer_tag: TargetTransferTag(1), ..NopIn::default() };
    let words = broken_by(None, &vec![ping.into(); 6000]);
    assert!(words.is_some_and(|words| words.contains("answers")));
}

#[test]
fn answers_to_commands_that_are_over_are_passed_over() {
    assert_eq!(broken_by(None, &[data_in(0, 0, 10), r2t(0, 0, 10)]), None);
    let window = NopIn { exp_cmd_sn: CmdSn(0), max_cmd_sn: CmdSn(0xffff_fff0), ..NopIn::default() };
    assert_eq!(broken_by(None, &[window.into()]), None);
}

proptest! {
    #[test]
    fn no_bytes_of_a_target_panic(bytes in prop::collection::vec(any::<u8>(), 0..400), opcode in 0x20u8..0x40) {
        let mut world = World::new(config());
        world.holds = true;
        world.submit(read(0, 1000));
        world.submit(write(0, vec![1; 1000]));
        let key = world.key(0);
        let mut bytes = bytes;
        if let Some(first) = bytes.first_mut() {
            *first = opcode;
        }
        if bytes.len() >= 48 {
            bytes[4..8].fill(0);
            bytes[16..20].copy_from_slice(&TAG.0.to_be_bytes());
        }
        world.host.handle_received(world.now, key, bytes.into());
        world.run();
    }
}

#[test]
fn the_status_of_a_command_is_what_the_target_sent() {
    let mut world = World::new(config());
    let task = world.submit(iscsi_proto::initiator::Command { cdb: vec![0xff; 6], ..Default::default() });
    let Some(Outcome::Response(response)) = world.outcome(task) else { panic!() };
    assert_eq!((response.status, &response.sense[..3]), (Status::CHECK_CONDITION, &[0x70, 0, 5][..]));
    assert_eq!(login_config().session_type(), iscsi_proto::login::SessionType::Normal);
}

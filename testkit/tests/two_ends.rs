//! An initiator and the whole target in one thread.

use iscsi_proto::pdu::{LoginStatus, TaskManagementFunctionCode, TaskManagementResponseCode};
use lu_sbd::store::Operation;
use scsi_core::{SenseKey, Status, TaskAttribute};
use std::time::Duration;
use stmf::config::{GroupKind, NewView};
use stmf::provider::{StoreErrorKind, StoreOp};
use testkit::initiator::{Chap, Command, Initiator, InitiatorError, LoginOptions, Outcome};
use testkit::link::LinkFaults;
use testkit::rng::Rng;
use testkit::san::{San, SanWire, TARGET, guid};
use testkit::store::{Fault, PowerCut};

const HOST: &str = "iqn.2026-11.test:host";
const TEST_UNIT_READY: [u8; 6] = [0; 6];

fn log_in(san: &San, options: &LoginOptions, faults: LinkFaults) -> Initiator<SanWire> {
    let mut host = Initiator::new(san.connect(0, faults));
    host.login(options).unwrap();
    host
}

/// A host that is logged in and has met the power-on unit attention of LUN 0.
fn ready(san: &San, options: &LoginOptions, faults: LinkFaults) -> Initiator<SanWire> {
    let mut host = log_in(san, options, faults);
    let outcome = host.command(&Command::new(0, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((6, 0x29, 0)));
    host
}

fn plain() -> LoginOptions {
    LoginOptions::normal(HOST, TARGET)
}

fn pattern(length: usize, seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Rng::new(seed).fill(&mut bytes);
    bytes
}

fn good(outcome: Result<Outcome, InitiatorError>) -> Outcome {
    let outcome = outcome.unwrap();
    assert!(outcome.is_good(), "{outcome:?}");
    outcome
}

#[test]
fn what_is_written_is_read_however_the_data_travels() {
    let data = pattern(1 << 20, 1);
    let ways = [
        plain(),
        plain().with("ImmediateData", "No").with("InitialR2T", "Yes"),
        plain().with("InitialR2T", "No").with("FirstBurstLength", "262144"),
        plain().with("MaxBurstLength", "4096").with("FirstBurstLength", "512"),
        plain().with("MaxRecvDataSegmentLength", "512").with("MaxBurstLength", "65536"),
        plain().with_digests(),
    ];
    for (number, options) in ways.into_iter().enumerate() {
        let san = San::new(1, 1);
        let (_, store) = san.disk(1, 0, 2 << 20);
        let mut host = ready(&san, &options, LinkFaults::default());
        good(host.command(&Command::write_blocks(0, 5, data.clone())));
        assert!(store.live_image()[5 * 512..][..data.len()] == data, "way {number}");
        let outcome = good(host.command(&Command::read_blocks(0, 5, 2048)));
        assert!(outcome.data == data, "way {number}");
        host.logout().unwrap();
        assert_eq!(san.census().1, 0);
    }
}

#[test]
fn any_split_and_delay_of_the_bytes_gives_the_same_disk() {
    let options = plain().with_digests().with("MaxRecvDataSegmentLength", "4096");
    for seed in 0..20 {
        let faults = LinkFaults {
            longest_piece: 1 + 97 * seed as usize % 1500,
            longest_delay: Duration::from_millis(seed % 7),
            ..LinkFaults::default()
        };
        let san = San::new(1, seed);
        let (_, store) = san.disk(1, 0, 1 << 18);
        let mut host = ready(&san, &options, faults);
        let data = pattern(100 * 512, seed);
        let tags: Vec<_> = (0..4)
            .map(|part| {
                let piece = data[part * 25 * 512..][..25 * 512].to_vec();
                host.start(&Command::write_blocks(0, part as u64 * 25, piece)).unwrap()
            })
            .collect();
        for tag in tags.into_iter().rev() {
            good(host.finish(tag));
        }
        assert!(store.live_image()[..data.len()] == data, "seed {seed}");
        assert!(good(host.command(&Command::read_blocks(0, 0, 100))).data == data, "seed {seed}");
    }
}

#[test]
fn a_flipped_bit_never_reaches_the_disk_unnoticed_with_digests() {
    let options = plain().with_digests();
    let mut noticed = 0;
    for seed in 0..40 {
        let san = San::new(1, seed);
        let (_, store) = san.disk(1, 0, 1 << 16);
        let mut host = ready(&san, &options, LinkFaults::default());
        host.wire.set_faults(LinkFaults { flips_per_million: 200_000, longest_piece: 300, ..LinkFaults::default() });
        let data = pattern(8 * 512, seed);
        for round in 0..4 {
            match host.command(&Command::write_blocks(0, round * 8, data.clone())) {
                Ok(outcome) if outcome.is_good() => {
                    assert!(store.live_image()[round as usize * 8 * 512..][..data.len()] == data, "seed {seed}");
                }
                _ => {
                    noticed += 1;
                    break;
                }
            }
        }
    }
    assert!(noticed > 10, "only {noticed} of 40 runs met a flipped bit");
}

#[test]
fn acknowledged_and_durable_survives_any_power_cut() {
    for seed in 0..50 {
        let san = San::new(1, seed);
        let (_, store) = san.disk(1, 0, 64 * 512);
        let mut host = ready(&san, &plain(), LinkFaults::default());
        let mut rng = Rng::new(seed);
        // By sector: the durable content, and what was written since.
        let mut durable = [0u8; 64];
        let mut possible: Vec<Vec<u8>> = vec![vec![]; 64];
        for byte in 1..=40 {
            let lba = rng.below(60);
            let data = vec![byte; 4 * 512];
            let is_fua = rng.chance(300_000);
            let write = Command::write_blocks(0, lba, data);
            good(host.command(&if is_fua { write.fua() } else { write }));
            for sector in lba as usize..lba as usize + 4 {
                if is_fua {
                    durable[sector] = byte;
                    possible[sector].clear();
                } else {
                    possible[sector].push(byte);
                }
            }
            if rng.chance(100_000) {
                good(host.command(&Command::new(0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0])));
                for (durable, possible) in durable.iter_mut().zip(&mut possible) {
                    *durable = possible.pop().unwrap_or(*durable);
                    possible.clear();
                }
            }
        }
        let after = San::new(1, seed);
        after.disk_on(1, 0, store.after(PowerCut::Random { seed }));
        let mut host = ready(&after, &plain(), LinkFaults::default());
        let data = good(host.command(&Command::read_blocks(0, 0, 64))).data;
        for (sector, content) in data.chunks(512).enumerate() {
            let byte = content[0];
            assert!(content.iter().all(|other| *other == byte), "sector {sector} is torn");
            let allowed = byte == durable[sector] || possible[sector].contains(&byte);
            assert!(allowed, "seed {seed}, sector {sector}: {byte}, durable was {}", durable[sector]);
        }
    }
}

#[test]
fn a_failing_store_is_a_check_condition_and_no_more() {
    let san = San::new(1, 1);
    let (_, store) = san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    store.fail(Fault { operation: Operation::Write, nth: 1, kind: StoreErrorKind::Io, sectors_done: 1 });
    let outcome = host.command(&Command::write_blocks(0, 0, pattern(4096, 1))).unwrap();
    assert_eq!(outcome.sense_data().unwrap().key, SenseKey::MEDIUM_ERROR);
    good(host.command(&Command::write_blocks(0, 0, pattern(4096, 1))));
    store.fail(Fault { operation: Operation::Read, nth: 1, kind: StoreErrorKind::Io, sectors_done: 0 });
    let outcome = host.command(&Command::read_blocks(0, 0, 8)).unwrap();
    assert_eq!(outcome.sense_data().unwrap().key, SenseKey::MEDIUM_ERROR);
    assert_eq!(good(host.command(&Command::read_blocks(0, 0, 8))).data, pattern(4096, 1));
}

#[test]
fn after_a_failed_flush_nothing_is_promised_any_more() {
    let san = San::new(1, 1);
    let (_, store) = san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    good(host.command(&Command::write_blocks(0, 0, pattern(512, 1))));
    store.fail(Fault { operation: Operation::Flush, nth: 1, kind: StoreErrorKind::Io, sectors_done: 0 });
    let flush = Command::new(0, &[0x35, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(host.command(&flush).unwrap().status, Status::CHECK_CONDITION);
    assert_eq!(host.command(&flush).unwrap().status, Status::CHECK_CONDITION);
    assert_eq!(host.command(&Command::write_blocks(0, 0, pattern(512, 1))).unwrap().status, Status::CHECK_CONDITION);
}

#[test]
fn a_new_lun_is_told_once_and_then_there() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    san.disk(2, 300, 1 << 16);
    let outcome = host.command(&Command::new(0, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((6, 0x3f, 0x0e)));
    good(host.command(&Command::new(0, &TEST_UNIT_READY)));
    let report = Command::read(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0], 256);
    let outcome = good(host.command(&report));
    assert_eq!(outcome.data[..8], [0, 0, 0, 16, 0, 0, 0, 0]);
    assert_eq!(outcome.data[16..18], [0x41, 0x2c]);
    let outcome = host.command(&Command::new(300, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((6, 0x29, 0)));
}

#[test]
fn unmapping_ends_what_is_under_way_and_leaves_the_others_alone() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 16);
    san.change(|config| config.create_group(GroupKind::Host, "host"));
    san.change(|config| config.add_member(GroupKind::Host, "host", HOST));
    let mut host = ready(&san, &plain(), LinkFaults::default());
    let mut other = ready(&san, &LoginOptions::normal("iqn.2026-11.test:other", TARGET), LinkFaults::default());
    let view = NewView { lu: guid(2), host_group: Some("host"), target_group: None, lun: Some(1) };
    san.stmf().register_lu(testkit::lu::ScriptedLu::new(guid(2)), "test").unwrap();
    san.change(|config| Ok(config.add_view(&view)?.0));
    assert!(!host.command(&Command::new(0, &TEST_UNIT_READY)).unwrap().is_good(), "the host is told");
    good(other.command(&Command::new(0, &TEST_UNIT_READY)));
    good(host.command(&Command::new(1, &TEST_UNIT_READY)));

    san.hold_stores(true);
    let tag = host.start(&Command::read_blocks(0, 0, 8)).unwrap();
    san.stmf().offline_lu(guid(1)).unwrap();
    san.hold_stores(false);
    let outcome = host.finish(tag).unwrap();
    assert_eq!(outcome.status, Status::TASK_ABORTED);
    let outcome = host.command(&Command::new(0, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((5, 0x25, 0)));
    let outcome = host.command(&Command::new(1, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((6, 0x3f, 0x0e)));
}

#[test]
fn a_reset_of_the_target_is_one_answer() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 16);
    san.disk(2, 1, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    let response = host.task_management(TaskManagementFunctionCode::TARGET_WARM_RESET, 0, None).unwrap();
    assert_eq!(response.response, TaskManagementResponseCode::FUNCTION_COMPLETE);
    let outcome = host.command(&Command::new(1, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_data().unwrap().key, SenseKey::UNIT_ATTENTION);
}

/// Two hosts on two threads; a command of the first waits for a write of the second, and ends on the other thread. The
/// first asks for `function` before it hears of that: whatever the unit says, no response may follow the answer.
fn an_end_from_another_thread_and(function: TaskManagementFunctionCode) -> (San, Initiator<SanWire>) {
    let san = San::new(2, 1);
    san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    let mut other = Initiator::new(san.connect(1, LinkFaults::default()));
    other.login(&LoginOptions::normal("iqn.2026-11.test:other", TARGET)).unwrap();
    assert!(!other.command(&Command::new(0, &TEST_UNIT_READY)).unwrap().is_good(), "the power-on unit attention");

    san.hold_stores(true);
    let write = other.start(&Command::write_blocks(0, 0, pattern(512, 1))).unwrap();
    assert_eq!(san.held_stores(), 1);
    let waits = Command { attribute: TaskAttribute::Ordered, ..Command::new(0, &TEST_UNIT_READY) };
    let waits = host.start(&waits).unwrap();
    san.settle();
    san.hold_mail(Some(0));
    san.hold_stores(false);
    good(other.finish(write));

    let response = host.task_management(function, 0, Some(waits)).unwrap();
    assert_eq!(response.response, TaskManagementResponseCode::FUNCTION_COMPLETE);
    assert!(host.forget(waits), "it was answered before");
    // An answer to the command would be one to a command that is not open: the initiator does not let that pass.
    san.hold_mail(None);
    host.ping(b"").unwrap();
    (san, host)
}

#[test]
fn an_abort_is_not_followed_by_the_end_that_another_thread_sent() {
    let (_, mut host) = an_end_from_another_thread_and(TaskManagementFunctionCode::ABORT_TASK);
    good(host.command(&Command::new(0, &TEST_UNIT_READY)));
}

#[test]
fn a_reset_of_the_unit_is_not_followed_by_the_end_that_another_thread_sent() {
    let (_, mut host) = an_end_from_another_thread_and(TaskManagementFunctionCode::LOGICAL_UNIT_RESET);
    let outcome = host.command(&Command::new(0, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_triple(), Some((6, 0x29, 0x03)));
}

#[test]
fn a_cold_reset_is_answered_and_then_ends_the_sessions_of_the_target() {
    let san = San::new(2, 1);
    san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    let mut other = Initiator::new(san.connect(1, LinkFaults::default()));
    other.login(&LoginOptions::normal("iqn.2026-11.test:other", TARGET)).unwrap();
    let response = host.task_management(TaskManagementFunctionCode::TARGET_COLD_RESET, 0, None).unwrap();
    assert_eq!(response.response, TaskManagementResponseCode::FUNCTION_COMPLETE);
    host.await_close().unwrap();
    other.await_close().unwrap();
    assert_eq!(san.census(), (0, 0));
}

#[test]
fn a_second_login_of_the_same_name_ends_the_first_wherever_it_arrives() {
    let san = San::new(2, 1);
    san.disk(1, 0, 1 << 16);
    let mut first = ready(&san, &plain(), LinkFaults::default());
    let mut second = Initiator::new(san.connect(1, LinkFaults::default()));
    second.login(&plain()).unwrap();
    first.await_close().unwrap();
    assert_eq!(san.census(), (1, 1));
    let outcome = second.command(&Command::new(0, &TEST_UNIT_READY)).unwrap();
    assert_eq!(outcome.sense_data().unwrap().key, SenseKey::UNIT_ATTENTION);
    assert_eq!(san.stmf().sessions().len(), 1);
}

#[test]
fn a_pulled_cable_leaves_no_session_behind() {
    let san = San::new(1, 1);
    let (_, store) = san.disk(1, 0, 1 << 16);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    san.hold_stores(true);
    host.start(&Command::write_blocks(0, 0, pattern(512, 9))).unwrap();
    host.wire.pull();
    san.hold_stores(false);
    san.pass(Duration::from_secs(60));
    assert_eq!((san.census(), san.stmf().sessions().len()), ((0, 0), 0));
    assert_eq!(store.live_image()[..512], pattern(512, 9), "the write was on its way to the disk");
}

#[test]
fn reads_that_wait_for_an_initiator_are_not_carried_out_when_its_session_ends() {
    let san = San::with(1, 1, |config| config.limits.unsent_read_bytes = 4096);
    let (disk, store) = san.disk(1, 0, 1 << 20);
    let mut host = ready(&san, &plain(), LinkFaults::default());
    san.hold_stores(true);
    for at in 0..8 {
        host.start(&Command::read_blocks(0, at * 8, 8)).unwrap();
    }
    assert_eq!(san.held_stores(), 1, "the others wait until the first is sent");
    // Were one of those at the store, it would fail and count.
    store.fail(Fault { operation: Operation::Read, nth: 2, kind: StoreErrorKind::Io, sectors_done: 0 });
    drop(host);
    san.connect(0, LinkFaults::default());
    let mut again = log_in(&san, &plain(), LinkFaults::default());
    assert_eq!(san.held_stores(), 1);
    san.hold_stores(false);
    assert_eq!(disk.snapshot().tasks, 0);
    assert_eq!(again.command(&Command::new(0, &TEST_UNIT_READY)).unwrap().sense_triple(), Some((6, 0x29, 0)));
}

#[test]
fn data_of_writes_is_asked_for_as_far_as_a_unit_takes_it() {
    let san = San::with(1, 1, |config| config.limits.unwritten_bytes = 64 << 10);
    let (_, store) = san.disk(1, 0, 4 << 20);
    let login = plain().with("ImmediateData", "No").with("InitialR2T", "Yes");
    let mut host = ready(&san, &login, LinkFaults::default());
    san.hold_stores(true);
    // One that is larger than the limit, and many that are not.
    let sizes: Vec<usize> = std::iter::once(256 << 10).chain([16 << 10; 20]).collect();
    let mut at = 0;
    let commands: Vec<_> = sizes
        .iter()
        .map(|size| {
            let command = Command::write_blocks(0, (at / 512) as u64, pattern(*size, at as u64));
            at += size;
            host.start(&command).unwrap()
        })
        .collect();
    let held = || {
        let mut held = 0;
        san.store_requests(|request| {
            if let StoreOp::Write { data, .. } = &request.op {
                held += data.iter().map(bytes::Bytes::len).sum::<usize>();
            }
        });
        held
    };
    // What it is asked for, it sends while it waits for this.
    good(host.command(&Command::read(0, &[0x12, 0, 0, 0, 36, 0], 36)));
    assert_eq!(held(), 256 << 10, "one command has all the room that it needs, the others wait");
    san.hold_stores(false);
    for command in commands {
        good(host.finish(command));
    }
    let mut at = 0;
    for size in sizes {
        assert_eq!(store.live_image()[at..at + size], pattern(size, at as u64));
        at += size;
    }
}

#[test]
fn chap_right_and_wrong() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 16);
    san.demand_chap(HOST, "icuid1", b"a good secret");
    for algorithm in [5, 6, 7, 8] {
        let chap = Chap { algorithms: vec![algorithm], ..Chap::one_way("icuid1", b"a good secret") };
        let mut host = log_in(&san, &plain().with_chap(chap), LinkFaults::default());
        host.logout().unwrap();
    }
    let wrong = plain().with_chap(Chap::one_way("icuid1", b"another secret"));
    let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
    let error = host.login(&wrong).unwrap_err();
    assert!(matches!(error, InitiatorError::Login(LoginStatus(0x0201))), "{error}");
    let words: Vec<String> = san.take_notices().iter().map(ToString::to_string).collect();
    assert!(words.iter().any(|words| words.contains("refused") && words.contains(HOST)), "{words:?}");
    assert!(!words.iter().any(|words| words.contains("good secret") || words.contains("another")), "{words:?}");
    let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
    assert!(host.login(&plain()).is_err(), "without CHAP");
}

#[test]
fn an_initiator_that_hangs_up_on_a_target_with_another_secret_is_told_of() {
    let san = San::new(1, 1);
    san.disk(1, 0, 1 << 16);
    san.demand_chap(HOST, "icuid1", b"a good secret");
    let secret = iscsit::config::Patch::Set(b"the target's own".to_vec());
    let patch = iscsit::config::TargetPatch { chap_secret: secret, ..Default::default() };
    san.configure(|config| config.plan_modify_target(TARGET, &patch, false).expect("a secret").1.remove(0));
    let told = |san: &San| -> Vec<String> {
        san.settle();
        san.take_notices().iter().map(ToString::to_string).filter(|words| words.contains("refused")).collect()
    };
    let attempt = |secret: &[u8], target_secret: &[u8]| {
        let chap = Chap { target_secret: Some(target_secret.into()), ..Chap::one_way("icuid1", secret) };
        let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
        let result = host.login(&plain().with_chap(chap));
        host.wire.close();
        result
    };
    attempt(b"a good secret", b"the target's own").unwrap();
    assert_eq!(told(&san), [""; 0]);
    attempt(b"a good secret", b"not that of it").unwrap_err();
    let words = told(&san);
    assert!(words.len() == 1 && words[0].contains(HOST) && words[0].contains("hung up after the proof"), "{words:?}");
    // What was refused is told once, though it hangs up as well.
    attempt(b"another secret", b"the target's own").unwrap_err();
    let words = told(&san);
    assert!(words.len() == 1 && words[0].contains("(status 0201)"), "{words:?}");
}

#[test]
fn discovery_names_the_targets_and_their_portals() {
    let san = San::new(1, 1);
    san.add_target("iqn.2026-11.org.lunette:02:other");
    let mut host = log_in(&san, &LoginOptions::discovery(HOST), LinkFaults::default());
    let targets = host.send_targets("All").unwrap();
    let names: Vec<&str> = targets.iter().filter(|(key, _)| key == "TargetName").map(|(_, name)| &name[..]).collect();
    assert_eq!(names, ["iqn.2026-11.org.lunette:02:other", TARGET]);
    assert!(targets.contains(&("TargetAddress".into(), "192.0.2.1:3260,1".into())));
}

#[test]
fn a_login_that_never_ends_is_ended() {
    let san = San::new(1, 1);
    let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
    host.send_raw(vec![0x43, 0x87, 0, 0]).unwrap();
    host.await_close().unwrap();
    assert!(san.elapsed() <= Duration::from_secs(30));
    assert_eq!(san.census(), (0, 0));
}

//! Peers that lie, stop half-way or flood: each costs bounded memory, gets the RFC's answer, and harms nobody else.

use iscsi_proto::pdu::{
    DataOut, InitiatorTaskTag, LogoutReason, LogoutRequest, NopOut, RejectReason, ScsiCommand, ScsiCommandFlags,
    SnackType, TargetPdu, TargetTransferTag, TextRequest,
};
use iscsi_proto::pdu::{LoginFlags, LoginRequest, Snack, Stage};
use iscsi_proto::sn::CmdSn;
use std::time::Duration;
use testkit::initiator::{Command, Initiator, InitiatorError, LoginOptions};
use testkit::link::LinkFaults;
use testkit::rng::Rng;
use testkit::san::{San, SanWire, TARGET};

/// A target with a disk, a host that misbehaves and one that must not notice.
struct Scene {
    san: San,
    bad: Initiator<SanWire>,
    good: Initiator<SanWire>,
}

impl Scene {
    fn new() -> Self {
        let san = San::new(1, 1);
        san.disk(1, 0, 1 << 16);
        let log_in = |name: &str| {
            let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
            host.login(&LoginOptions::normal(name, TARGET)).unwrap();
            assert!(!host.command(&Command::new(0, &[0; 6])).unwrap().is_good());
            host
        };
        let (bad, good) = (log_in("iqn.2026-11.test:bad"), log_in("iqn.2026-11.test:good"));
        Self { san, bad, good }
    }

    fn others_go_on(&mut self) {
        assert!(self.good.command(&Command::new(0, &[0; 6])).unwrap().is_good());
    }

    fn session_goes_on(&mut self) {
        assert!(self.bad.command(&Command::new(0, &[0; 6])).unwrap().is_good());
        self.others_go_on();
    }

    fn connection_ends(&mut self) {
        self.bad.await_close().unwrap();
        self.others_go_on();
        assert_eq!(self.san.census(), (1, 1));
    }

    /// For misbehaviour that the RFC lets a target answer either way.
    fn session_goes_on_or_ends(&mut self) {
        loop {
            match self.bad.ping(b"?") {
                Ok(_) => break,
                Err(InitiatorError::Reject(_)) => {}
                Err(InitiatorError::Closed) => break,
                Err(other) => panic!("{other}"),
            }
        }
        self.others_go_on();
    }

    fn rejected(&mut self) -> RejectReason {
        match self.bad.receive() {
            Ok(TargetPdu::Reject(reject)) => reject.reason,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn an_unknown_opcode_is_rejected_and_the_session_goes_on() {
    let mut scene = Scene::new();
    let mut pdu = scene.bad.encode(NopOut { immediate: true, cmd_sn: scene.bad.cmd_sn, ..NopOut::default() });
    pdu[0] = 0x40 | 0x1c;
    scene.bad.send_raw(pdu).unwrap();
    assert_eq!(scene.rejected(), RejectReason::COMMAND_NOT_SUPPORTED);
    scene.session_goes_on();
}

#[test]
fn a_segment_longer_than_was_declared_ends_the_connection() {
    let mut scene = Scene::new();
    let mut header = [0u8; 48];
    header[0] = 0x40;
    header[1] = 0x80;
    header[5..8].copy_from_slice(&[0xff, 0xff, 0xff]);
    header[16..24].fill(0xff);
    scene.bad.send_raw(header.to_vec()).unwrap();
    scene.connection_ends();
}

#[test]
fn a_pdu_that_never_ends_costs_one_pdu() {
    let mut scene = Scene::new();
    let command = ScsiCommand {
        flags: ScsiCommandFlags::FINAL | ScsiCommandFlags::WRITE,
        initiator_task_tag: InitiatorTaskTag(77),
        expected_data_transfer_length: 4096,
        cmd_sn: scene.bad.cmd_sn,
        exp_stat_sn: scene.bad.exp_stat_sn,
        data: vec![1; 4096].into(),
        ..ScsiCommand::default()
    };
    let pdu = scene.bad.encode(command);
    scene.bad.send_raw(pdu[..1000].to_vec()).unwrap();
    scene.others_go_on();
    scene.bad.wire.close();
    scene.connection_ends();
}

#[test]
fn a_command_outside_the_window_is_ignored() {
    let mut scene = Scene::new();
    let before = scene.bad.cmd_sn;
    scene.bad.cmd_sn = CmdSn(scene.bad.max_cmd_sn.0.wrapping_add(1000));
    let tag = scene.bad.start(&Command::new(0, &[0; 6])).unwrap();
    scene.bad.cmd_sn = before;
    scene.session_goes_on();
    assert!(scene.bad.forget(tag), "it was not answered");
}

#[test]
fn data_nobody_asked_for_is_rejected() {
    let mut scene = Scene::new();
    scene
        .bad
        .send(DataOut {
            is_final: true,
            initiator_task_tag: InitiatorTaskTag(4711),
            target_transfer_tag: TargetTransferTag(42),
            exp_stat_sn: scene.bad.exp_stat_sn,
            data: vec![9; 512].into(),
            ..DataOut::default()
        })
        .unwrap();
    // Rejected, or dropped as the late data of a task that has ended; never written.
    scene.session_goes_on_or_ends();
    let read = scene.good.command(&Command::read_blocks(0, 0, 128)).unwrap();
    assert!(read.data.iter().all(|byte| *byte == 0));
}

#[test]
fn a_login_request_in_full_feature_phase_does_not_disturb_others() {
    let mut scene = Scene::new();
    let flags = LoginFlags {
        transit: true,
        current: Stage::OPERATIONAL_NEGOTIATION,
        next: Stage::FULL_FEATURE_PHASE,
        ..LoginFlags::default()
    };
    scene.bad.send(LoginRequest { flags, cmd_sn: scene.bad.cmd_sn, ..LoginRequest::default() }).unwrap();
    scene.session_goes_on_or_ends();
}

#[test]
fn a_snack_at_error_recovery_level_0_does_not_disturb_others() {
    let mut scene = Scene::new();
    scene
        .bad
        .send(Snack { snack_type: SnackType::STATUS, exp_stat_sn: scene.bad.exp_stat_sn, ..Snack::default() })
        .unwrap();
    scene.session_goes_on_or_ends();
}

#[test]
fn a_logout_of_a_connection_that_is_not_there_is_answered() {
    let mut scene = Scene::new();
    scene
        .bad
        .send(LogoutRequest {
            immediate: true,
            reason: LogoutReason::CLOSE_CONNECTION,
            initiator_task_tag: InitiatorTaskTag(5),
            cid: iscsi_proto::pdu::Cid(999),
            cmd_sn: scene.bad.cmd_sn,
            exp_stat_sn: scene.bad.exp_stat_sn,
        })
        .unwrap();
    match scene.bad.receive().unwrap() {
        TargetPdu::LogoutResponse(response) => assert!(response.response.0 != 0),
        other => panic!("{other:?}"),
    }
    scene.session_goes_on();
}

#[test]
fn text_without_end_is_bounded() {
    let mut scene = Scene::new();
    let mut request = TextRequest {
        is_final: false,
        is_continued: true,
        initiator_task_tag: InitiatorTaskTag(9),
        data: vec![b'x'; 8000].into(),
        ..TextRequest::default()
    };
    for _ in 0..200 {
        request.cmd_sn = scene.bad.command_number(false);
        request.exp_stat_sn = scene.bad.exp_stat_sn;
        scene.bad.send(request.clone()).unwrap();
        match scene.bad.receive() {
            Ok(TargetPdu::TextResponse(response)) => request.target_transfer_tag = response.target_transfer_tag,
            Ok(TargetPdu::Reject(_)) | Err(InitiatorError::Closed) => {
                scene.others_go_on();
                return;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("1.6 MB of text were taken");
}

#[test]
fn ten_thousand_half_open_logins_are_swept_and_others_go_on() {
    let mut scene = Scene::new();
    let wires: Vec<SanWire> = (0..10_000).map(|_| scene.san.connect(0, LinkFaults::default())).collect();
    scene.others_go_on();
    assert_eq!(scene.san.census().0, 10_002);
    scene.san.pass(Duration::from_secs(30));
    scene.others_go_on();
    assert_eq!(scene.san.census().0, 2);
    drop(wires);
}

#[test]
fn any_first_bytes_are_survived() {
    let san = San::new(1, 1);
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut host = Initiator::new(san.connect(0, LinkFaults { longest_piece: 64, ..LinkFaults::default() }));
        let mut bytes = vec![0; 48 + rng.below(2000) as usize];
        rng.fill(&mut bytes);
        if rng.chance(700_000) {
            // Enough of a login to be read further.
            bytes[0] = 0x43;
            bytes[4] = 0;
            bytes[5] = 0;
        }
        host.send_raw(bytes).unwrap();
        host.wire.close();
    }
    san.pass(Duration::from_secs(60));
    assert_eq!(san.census(), (0, 0));
}

#[test]
fn any_damage_to_a_session_is_survived_by_the_others() {
    let mut scene = Scene::new();
    for seed in 0..300 {
        let mut rng = Rng::new(seed);
        let mut host = Initiator::new(scene.san.connect(0, LinkFaults::default()));
        host.login(&LoginOptions::normal("iqn.2026-11.test:wild", TARGET)).unwrap();
        for _ in 0..20 {
            let lba = rng.below(1 << 7);
            let command = ScsiCommand {
                immediate: rng.chance(100_000),
                flags: ScsiCommandFlags::from_bits_truncate(rng.next() as u8),
                initiator_task_tag: InitiatorTaskTag(rng.below(8) as u32),
                expected_data_transfer_length: rng.below(8192) as u32,
                cmd_sn: host.cmd_sn,
                exp_stat_sn: host.exp_stat_sn,
                cdb: [0x88, 0, 0, 0, 0, 0, 0, 0, 0, lba as u8, 0, 0, 0, 4, 0, 0].into(),
                data: vec![seed as u8; rng.below(1024) as usize].into(),
                ..ScsiCommand::default()
            };
            host.cmd_sn.take();
            let mut pdu = host.encode(command);
            for _ in 0..rng.below(4) {
                let at = rng.below(pdu.len().min(56) as u64) as usize;
                pdu[at] = rng.next() as u8;
            }
            host.send_raw(pdu).unwrap();
        }
        host.wire.close();
        scene.others_go_on();
    }
    scene.san.pass(Duration::from_secs(120));
    assert!(scene.san.census().1 <= 2, "{:?}", scene.san.census());
}

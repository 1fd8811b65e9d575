//! Bad input at a Fibre Channel port of a running server: its driver moves frames on a segment where anybody may say
//! anything under any address. Tables end where they should, who asks gets the standard's reject, and another host on the
//! same port goes on.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fct::initiator::{Command, Event, Initiator};
use fct::soft::{SoftHba, SoftHbaConfig, Wire, WireEnd};
use fct::wire::{
    Els, ElsCommand, FcpCommand, FcpResponse, FcpService, FrameControl, FrameHeader, LoginParameters, PrliPage,
    ResponseCode, RoutingControl, TransferReady, Type,
};
use lu_sbd::store::MemoryStore;
use lunette_server::fc::{Adapter, FcDriver, FcMode, FcPort, Wake, Wwn};
use lunette_server::{Disk, Server};
use scsi_core::{Lun, Status, TaskAttribute};
use stmf::provider::hba::{FcFrame, HbaLimits, PortId, Topology};

const TARGET: Wwn = Wwn(0x2100_001b_320e_fd58);
const TARGET_ID: PortId = PortId(0x01_0400);
const HOST: Wwn = Wwn(0x2100_00e0_8b10_0163);
const HOST_ID: PortId = PortId(0x01_0300);
const RUDE: Wwn = Wwn(0x2100_0000_0000_00aa);
const RUDE_ID: PortId = PortId(0x02_0000);
/// Sizes of the adapter's tables.
const LIMITS: HbaLimits = HbaLimits { max_logins: 100, max_exchanges: 512, max_frame_payload: 2048 };
/// How long anything may take.
const TIME: Duration = Duration::from_secs(60);

/// A driver with one adapter, and the segment that it stands on.
#[derive(Debug)]
struct Segment(Mutex<Option<WireEnd>>);

impl FcDriver for Segment {
    fn open(&self, port: &FcPort, wake: Wake) -> Result<Adapter, String> {
        let end = self.0.lock().unwrap().take().ok_or("the segment has one plug")?;
        end.set_wake(wake);
        let config = SoftHbaConfig {
            topology: Topology::Vn2Vn,
            port_id: TARGET_ID,
            limits: LIMITS,
            ..SoftHbaConfig::new(port.port_name, port.node_name)
        };
        Ok(Adapter::new(SoftHba::new(config, end)))
    }
}

/// A server's port, a host that behaves, and whatever else is said.
struct World {
    server: Server,
    end: WireEnd,
    woken: Receiver<()>,
    host: Initiator,
    host_end: WireEnd,
    /// Frames for others than the host.
    answers: Vec<FcFrame>,
}

impl World {
    /// The host is logged in.
    fn new() -> Self {
        let (theirs, end) = Wire::new(1).ends();
        let (wake, woken) = channel();
        end.set_wake(Box::new(move || {
            let _ = wake.send(());
        }));
        let driver = Arc::new(Segment(Mutex::new(Some(theirs))));
        let port = FcPort::new(TARGET, Wwn(0x2000_001b_320e_fd58), FcMode::Target, "segment");
        let server = Server::builder().no_portal().disk(Disk::new(MemoryStore::new(16 << 20)));
        let server = server.fc_driver("segment", driver).fc_port(port).start().unwrap();
        end.switch(true);
        let (ours, host_end) = Wire::new(2).ends();
        host_end.switch(true);
        let config = SoftHbaConfig::new(HOST, Wwn(0x2000_00e0_8b10_0163));
        let config = SoftHbaConfig { topology: Topology::Vn2Vn, port_id: HOST_ID, ..config };
        let host = Initiator::new(Instant::now(), Box::new(SoftHba::new(config, ours)), "");
        let mut world = Self { server, end, woken, host, host_end, answers: Vec::new() };
        world.hear(|event| matches!(event, Event::Up(_)));
        world.wait("the server's port is switched on", |world| world.end.link().0);
        world.host.log_in(Instant::now(), TARGET_ID);
        world.hear(|event| matches!(event, Event::LoggedIn(_)));
        world
    }

    /// Moves what there is to move.
    fn pump(&mut self) -> bool {
        let mut progress = self.host.drive(Instant::now());
        while self.end.has_room()
            && let Some(frame) = self.host_end.receive()
        {
            progress = true;
            self.end.send(frame).expect("there is room");
        }
        while self.host_end.has_room()
            && let Some(frame) = self.end.receive()
        {
            progress = true;
            if FrameHeader::decode(&frame.header).d_id == HOST_ID {
                self.host_end.send(frame).expect("there is room");
            } else {
                self.answers.push(frame);
            }
        }
        progress
    }

    fn wait(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + TIME;
        while !done(self) {
            assert!(Instant::now() < deadline, "{what}: {} answers", self.answers.len());
            if !self.pump() {
                let _ = self.woken.recv_timeout(Duration::from_millis(10));
            }
        }
    }

    /// The host's next event of a kind.
    fn hear(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        let deadline = Instant::now() + TIME;
        loop {
            assert!(Instant::now() < deadline, "the host waits in vain");
            let progress = self.pump();
            while let Some(event) = self.host.poll_event() {
                if wanted(&event) {
                    return event;
                }
            }
            if !progress {
                let _ = self.woken.recv_timeout(Duration::from_millis(10));
            }
        }
    }

    fn send(&mut self, frame: FcFrame) {
        let mut frame = Some(frame);
        let deadline = Instant::now() + TIME;
        while let Some(back) = frame.take().and_then(|frame| self.end.send(frame).err()) {
            assert!(Instant::now() < deadline, "the port takes no more frames");
            frame = Some(back);
            if !self.pump() {
                let _ = self.woken.recv_timeout(Duration::from_millis(1));
            }
        }
    }

    /// Sends a request and gives its answer: what kind it is, and its payload.
    fn ask(&mut self, frame: FcFrame) -> (RoutingControl, Vec<u8>) {
        self.answers.clear();
        self.send(frame);
        self.wait("an answer", |world| !world.answers.is_empty());
        let answer = self.answers.remove(0);
        (FrameHeader::decode(&answer.header).r_ctl, answer.payload.concat())
    }

    /// PLOGI and PRLI.
    fn log_in(&mut self, from: PortId, name: Wwn) {
        for payload in [plogi(name), prli()] {
            let (_, answer) = self.ask(els(from, payload));
            assert_eq!(answer[0], ElsCommand::LS_ACC.0, "{answer:02x?}");
        }
    }

    /// A command of the host, past unit attentions.
    fn command(&mut self, cdb: [u8; 10], data_out: &[u8], data_in_length: u32) -> (Status, Vec<u8>) {
        loop {
            let (cdb, data_out) = ([&cdb[..], &[0; 6]].concat(), data_out.to_vec().into());
            let command = Command { lun: Lun::ZERO, cdb, data_out, data_in_length, ..Command::default() };
            let sent = self.host.submit(Instant::now(), TARGET_ID, command);
            let done = self.hear(|event| matches!(event, Event::Done(id, _) if *id == sent));
            let Event::Done(_, outcome) = done else { unreachable!() };
            let response = outcome.response.expect("a response");
            if response.status != Status::CHECK_CONDITION.0 {
                return (Status(response.status), outcome.data.to_vec());
            }
            assert_eq!(response.sense[2] & 0xf, 6, "a unit attention: {response:?}");
        }
    }

    /// The host writes and reads back, as if it were alone.
    fn host_goes_on(&mut self, byte: u8, bytes: usize) {
        let data = vec![byte; bytes];
        assert_eq!(self.command(transfer(0x2a, bytes), &data, 0).0, Status::GOOD);
        let read = self.command(transfer(0x28, bytes), &[], bytes as u32);
        assert!(read == (Status::GOOD, data), "what was written is read");
    }
}

/// READ(10) or WRITE(10) at the beginning.
fn transfer(opcode: u8, bytes: usize) -> [u8; 10] {
    let blocks = ((bytes / 512) as u16).to_be_bytes();
    [opcode, 0, 0, 0, 0, 0, 0, blocks[0], blocks[1], 0]
}

fn frame(r_ctl: RoutingControl, kind: Type, from: PortId, ox_id: u16, payload: Vec<u8>) -> FcFrame {
    let f_ctl = FrameControl::FIRST_SEQUENCE.and(FrameControl::END_SEQUENCE).and(FrameControl::TRANSFER_INITIATIVE);
    let header = FrameHeader {
        r_ctl,
        d_id: TARGET_ID,
        cs_ctl: 0,
        s_id: from,
        kind,
        f_ctl,
        seq_id: 0,
        df_ctl: 0,
        seq_cnt: 0,
        ox_id,
        rx_id: 0xffff,
        parameter: 0,
    };
    FcFrame { header: header.encode(), payload: [Bytes::from(payload)].into_iter().collect() }
}

fn els(from: PortId, payload: Vec<u8>) -> FcFrame {
    frame(RoutingControl::ELS_REQUEST, Type::ELS, from, 1, payload)
}

fn plogi(name: Wwn) -> Vec<u8> {
    Els::Plogi(LoginParameters {
        port_name: name,
        node_name: name,
        f_port: false,
        credit: 8,
        max_frame_payload: 2048,
        class3: true,
        e_d_tov_ms: 2000,
        r_a_tov_ms: 0,
    })
    .encode()
}

fn prli() -> Vec<u8> {
    let parameters = FcpService::INITIATOR.and(FcpService::READ_XFER_RDY_DISABLED).0;
    Els::Prli(PrliPage { kind: 8, flags: PrliPage::IMAGE_PAIR, words: [0; 2], parameters }).encode()
}

/// A command of the one that misbehaves.
fn command(ox_id: u16, cdb: [u8; 10], data_out: u32) -> FcFrame {
    let unit = FcpCommand {
        lun: Lun::ZERO,
        reference: 0,
        priority: 0,
        attribute: TaskAttribute::Simple,
        management: None,
        cdb: cdb.into_iter().chain([0; 6]).collect(),
        write: data_out > 0,
        read: false,
        data_length: data_out,
        bidirectional_read_length: 0,
    };
    frame(RoutingControl::COMMAND, Type::FCP, RUDE_ID, ox_id, unit.encode())
}

#[test]
fn ten_thousand_logins_fill_the_table_and_no_more() {
    let mut world = World::new();
    for number in 0..10_000u32 {
        world.send(els(PortId(0x03_0000 + number), plogi(Wwn(0x2100_0001_0000_0000 | u64::from(number)))));
        if number % 1000 == 0 {
            world.host_goes_on(number as u8, 4096);
        }
    }
    world.wait("an answer to each", |world| world.answers.len() == 10_000);
    let (mut accepted, mut rejected) = (Vec::new(), 0);
    for answer in std::mem::take(&mut world.answers) {
        let (header, payload) = (FrameHeader::decode(&answer.header), answer.payload.concat());
        match (payload[0], payload.get(5..7)) {
            (0x02, _) => accepted.push(header.d_id),
            // LS_RJT: unable to perform, no resources.
            (0x01, Some([0x09, 0x29])) => rejected += 1,
            other => panic!("{other:02x?}"),
        }
    }
    assert_eq!((accepted.len(), rejected), (LIMITS.max_logins - 1, 10_001 - LIMITS.max_logins));
    for id in &accepted {
        world.send(els(*id, prli()));
    }
    world.wait("process logins", |world| world.answers.len() == accepted.len());
    assert_eq!(world.server.sessions().len(), LIMITS.max_logins);
    world.host_goes_on(7, 1 << 20);
    // Whoever leaves makes room.
    let (_, answer) = world.ask(els(accepted[0], Els::Logo { port_id: accepted[0], port_name: RUDE }.encode()));
    assert_eq!(answer[0], ElsCommand::LS_ACC.0);
    world.log_in(RUDE_ID, RUDE);
    assert_eq!(world.server.sessions().len(), LIMITS.max_logins);
}

#[test]
fn exchanges_that_never_end_leave_room_for_another_host() {
    let mut world = World::new();
    for round in 0..2u8 {
        // Its login anew ends what it had.
        world.log_in(RUDE_ID, RUDE);
        let (_, told) = world.ask(command(1, [0; 10], 0));
        assert_eq!(FcpResponse::decode(&told).unwrap().status, Status::CHECK_CONDITION.0, "it is new");
        world.answers.clear();
        // Writes whose data never come, then link services that are begun and not ended.
        for ox_id in 0..2_000 {
            world.send(command(ox_id, transfer(0x2a, 4096), 4096));
        }
        for ox_id in 2_000..4_000 {
            let mut begun = frame(RoutingControl::ELS_REQUEST, Type::ELS, RUDE_ID, ox_id, vec![0x03; 1024]);
            begun.header[9] &= !0x08;
            world.send(begun);
        }
        let half = LIMITS.max_exchanges / 2;
        let full = 2_000 - half;
        world.wait("TASK SET FULL", |world| {
            world.answers.iter().filter(|answer| answer.header[0] == RoutingControl::RESPONSE.0).count() >= full
        });
        world.host_goes_on(round, 1 << 20);
        let (mut ready, mut refused) = (0, 0);
        for answer in std::mem::take(&mut world.answers) {
            let payload = answer.payload.concat();
            match RoutingControl(answer.header[0]) {
                RoutingControl::RESPONSE => {
                    assert_eq!(FcpResponse::decode(&payload).unwrap().status, Status::TASK_SET_FULL.0);
                    refused += 1;
                }
                RoutingControl::TRANSFER_READY => {
                    assert_eq!(TransferReady::decode(&payload).unwrap().length, 4096);
                    ready += 1;
                }
                other => panic!("{other:?}"),
            }
        }
        // Half of the table and half of the bursts, and all the rest is told.
        assert_eq!((ready, refused), (32, full));
    }
    assert_eq!(world.server.sessions().len(), 2);
}

#[test]
fn malformed_requests_get_the_standards_reject_and_other_frames_none() {
    let mut world = World::new();
    let short = |command: ElsCommand| vec![command.0, 0, 0, 0];
    let no_data_field = {
        let mut payload = plogi(RUDE);
        payload[10..12].copy_from_slice(&[0, 0]);
        payload[74..76].copy_from_slice(&[0, 0]);
        payload
    };
    // Reason and explanation of LS_RJT.
    for (what, payload, expected) in [
        ("a login that is cut", short(ElsCommand::PLOGI), [0x07, 0x2d]),
        ("a login without a data field", no_data_field, [0x03, 0x01]),
        ("a service that there is not", short(ElsCommand(0x7e)), [0x0b, 0x2c]),
        ("a process login without a login", prli(), [0x09, 0x1e]),
        ("link errors without a login", vec![ElsCommand::RLS.0, 0, 0, 0, 0, 0, 0, 0], [0x09, 0x1e]),
    ] {
        let (r_ctl, answer) = world.ask(els(RUDE_ID, payload));
        assert_eq!((r_ctl, answer[0]), (RoutingControl::ELS_REPLY, ElsCommand::LS_RJT.0), "{what}: {answer:02x?}");
        assert_eq!(answer[5..7], expected, "{what}");
    }
    let (r_ctl, answer) = world.ask(frame(RoutingControl::ABTS, Type::BLS, RUDE_ID, 9, Vec::new()));
    assert_eq!((r_ctl, &answer[1..3]), (RoutingControl::BA_RJT, &[0x03, 0x03][..]));
    let (_, answer) = world.ask(command(9, [0; 10], 0));
    assert_eq!(answer[0], ElsCommand::LOGO.0, "who is not logged in is told");
    world.log_in(RUDE_ID, RUDE);
    let (r_ctl, answer) = world.ask(frame(RoutingControl::COMMAND, Type::FCP, RUDE_ID, 9, vec![0; 8]));
    let response = FcpResponse::decode(&answer).unwrap().response.map(|(_, code)| code);
    assert_eq!((r_ctl, response), (RoutingControl::RESPONSE, Some(ResponseCode::INVALID_COMMAND)));
    // In class 3 there is no P_RJT: what is no request is dropped. The answer to the next one is the only answer.
    let mut with_options = els(RUDE_ID, plogi(RUDE));
    with_options.header[13] = 0x20;
    let elsewhere = {
        let mut lost = command(9, [0; 10], 0);
        lost.header[1..4].copy_from_slice(&[1, 5, 0]);
        lost
    };
    let odd = [
        with_options,
        elsewhere,
        frame(RoutingControl(0x7f), Type(0x55), RUDE_ID, 9, vec![0; 64]),
        frame(RoutingControl::DATA, Type::FCP, RUDE_ID, 9, vec![0; 64]),
        frame(RoutingControl::ELS_REPLY, Type::ELS, RUDE_ID, 9, vec![2, 0, 0, 0]),
        frame(RoutingControl::RESPONSE, Type::FCP, RUDE_ID, 9, vec![0; 24]),
    ];
    world.answers.clear();
    odd.into_iter().for_each(|frame| world.send(frame));
    world.send(els(RUDE_ID, [ElsCommand::ECHO.0, 0, 0, 0, 1, 2, 3, 4].to_vec()));
    world.wait("an echo", |world| !world.answers.is_empty());
    assert_eq!(world.answers[0].payload.concat(), [ElsCommand::LS_ACC.0, 0, 0, 0, 1, 2, 3, 4]);
    world.host_goes_on(3, 1 << 20);
}

#[test]
fn frames_of_any_bytes_leave_another_host_alone() {
    let mut world = World::new();
    world.log_in(RUDE_ID, RUDE);
    let mut random = 88172645463325252u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..20_000u32 {
        let mut header = [0; 24];
        header.iter_mut().for_each(|byte| *byte = next() as u8);
        let kinds = [0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x22, 0x23, 0x32, 0x33, 0x80, 0x81, 0x84, 0x85];
        header[0] = kinds[next() as usize % kinds.len()];
        header[1..4].copy_from_slice(&TARGET_ID.to_bytes());
        // Under a few addresses, none of them the host's.
        header[5..8].copy_from_slice(&[2, 0, next() as u8 % 4]);
        header[8] = [0x00, 0x01, 0x08, 0x20][next() as usize % 4];
        (header[13], header[16]) = (0, 0);
        let mut payload = match next() % 8 {
            0 => plogi(Wwn(next())),
            1 => prli(),
            _ => (0..next() % 300).map(|_| next() as u8).collect(),
        };
        if let (Some(first), 0) = (payload.first_mut(), next() % 2) {
            *first = [0x03, 0x05, 0x0f, 0x12, 0x13, 0x14, 0x20, 0x21, 0x24, 0x50, 0x52, 0x61][next() as usize % 12];
        }
        world.send(FcFrame { header, payload: [Bytes::from(payload)].into_iter().collect() });
        if round % 2_000 == 0 {
            world.host_goes_on(round as u8, 64 << 10);
        }
        // Answers that nobody reads are not kept here either.
        if world.answers.len() > 1_000 {
            world.answers.clear();
        }
    }
    world.host_goes_on(1, 1 << 20);
    let sessions = world.server.sessions();
    assert!(sessions.len() <= 5, "{} sessions", sessions.len());
    assert!(sessions.iter().any(|session| session.initiator == HOST.device_name()));
}

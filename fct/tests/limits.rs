//! Tables have ends: many logins, exchanges that never end, frames of nothing.

mod common;

use bytes::Bytes;
use common::*;
use fct::engine::{Engine, EngineConfig};
use fct::soft::{SoftHba, Wire, WireEnd};
use fct::wire::{Els, FcpCommand, FcpResponse, FrameControl, FrameHeader, LoginParameters, RoutingControl, Type};
use fct::{Port, PortConfig};
use scsi_core::{Lun, TaskAttribute};
use smallvec::smallvec;
use std::time::{Duration, Instant};
use stmf::provider::hba::{FcFrame, Hba, HbaControl, HbaEvent, HbaRequest, PortId, Topology, Wwn};

fn frame(r_ctl: RoutingControl, kind: Type, from: u32, ox_id: u16, payload: Vec<u8>) -> FcFrame {
    let header = FrameHeader {
        r_ctl,
        d_id: PortId(0x01_0400),
        cs_ctl: 0,
        s_id: PortId(from),
        kind,
        f_ctl: FrameControl::FIRST_SEQUENCE.and(FrameControl::END_SEQUENCE).and(FrameControl::TRANSFER_INITIATIVE),
        seq_id: 0,
        df_ctl: 0,
        seq_cnt: 0,
        ox_id,
        rx_id: 0xffff,
        parameter: 0,
    };
    FcFrame { header: header.encode(), payload: smallvec![Bytes::from(payload)] }
}

fn login(name: u64) -> Vec<u8> {
    Els::Plogi(LoginParameters {
        port_name: Wwn(name),
        node_name: Wwn(name),
        f_port: false,
        credit: 8,
        max_frame_payload: 2048,
        class3: true,
        e_d_tov_ms: 2000,
        r_a_tov_ms: 0,
    })
    .encode()
}

/// A port with an address of its own, and the bare end of its wire.
fn port(now: Instant) -> (Port, WireEnd) {
    let (a, b) = Wire::new(1).ends();
    let mut config = adapter(TARGET);
    (config.topology, config.port_id) = (Topology::Vn2Vn, PortId(0x01_0400));
    config.limits.max_logins = 100;
    let port = Port::new(&framework(), Box::new(SoftHba::new(config, a)), PortConfig::default(), Box::new(|| {}));
    let mut port = port.unwrap();
    b.switch(true);
    port.drive(now);
    (port, b)
}

#[test]
fn ten_thousand_logins_fill_a_table_and_no_more() {
    let now = Instant::now();
    let (mut port, end) = port(now);
    let (mut accepted, mut rejected) = (0, 0);
    for number in 0..10_000u32 {
        let payload = login(0x2100_0000_0000_0000 | u64::from(number));
        end.send(frame(RoutingControl::ELS_REQUEST, Type::ELS, 0x02_0000 + number, 1, payload)).unwrap();
        port.drive(now);
        while let Some(answer) = end.receive() {
            match answer.payload[0][0] {
                2 => accepted += 1,
                // Unable to perform, no resources.
                1 if answer.payload[0][5..7] == [0x09, 0x29] => rejected += 1,
                other => panic!("answer {other:02x}: {:02x?}", answer.payload[0]),
            }
        }
    }
    assert_eq!((accepted, rejected), (100, 9_900));
    assert_eq!(port.info().remotes.len(), 100);
}

#[test]
fn exchanges_that_never_end_meet_a_full_table() {
    let now = Instant::now();
    let mut engine = Engine::new(EngineConfig { max_exchanges: 64, ..EngineConfig::default() });
    engine.handle_request(now, HbaRequest::Address(PortId(0x01_0400)));
    let command = FcpCommand {
        lun: Lun::ZERO,
        reference: 0,
        priority: 0,
        attribute: TaskAttribute::Simple,
        management: None,
        cdb: smallvec![0; 16],
        write: false,
        read: false,
        data_length: 0,
        bidirectional_read_length: 0,
    };
    let (mut commands, mut full) = (0, 0);
    for ox_id in 0..10_000 {
        engine.handle_frame(now, frame(RoutingControl::COMMAND, Type::FCP, 0x02_0000, ox_id, command.encode()));
        while let Some(event) = engine.poll_event() {
            assert!(matches!(event, HbaEvent::Command { .. }));
            commands += 1;
        }
        while let Some(answer) = engine.poll_frame() {
            assert_eq!(answer.payload[0][11], 0x28, "TASK SET FULL");
            full += 1;
        }
    }
    assert_eq!((commands, full, engine.open_exchanges()), (64, 9_936, 64));
}

#[test]
fn sequences_that_never_end_are_few_and_forgotten() {
    let now = Instant::now();
    let mut engine = Engine::new(EngineConfig::default());
    engine.handle_request(now, HbaRequest::Address(PortId(0x01_0400)));
    for ox_id in 0..10_000 {
        let mut begun = frame(RoutingControl::ELS_REQUEST, Type::ELS, 0x02_0000, ox_id, vec![0; 2048]);
        begun.header[9] &= !0x08;
        engine.handle_frame(now, begun);
    }
    // Half of the table: the other half is for others.
    assert_eq!(engine.open_sequences(), 128);
    let mut begun = frame(RoutingControl::ELS_REQUEST, Type::ELS, 0x02_0001, 1, vec![0; 2048]);
    begun.header[9] &= !0x08;
    engine.handle_frame(now, begun);
    assert_eq!(engine.open_sequences(), 129);
    engine.handle_timeout(now + Duration::from_secs(3));
    assert_eq!(engine.open_sequences(), 0);
    assert_eq!(engine.statistics().dropped_sequences, 10_001);
}

#[test]
fn responses_that_nobody_confirms_keep_no_command_out() {
    let now = Instant::now();
    let mut engine = Engine::new(EngineConfig { max_exchanges: 64, max_retained: 16, ..EngineConfig::default() });
    engine.handle_request(now, HbaRequest::Address(PortId(0x01_0400)));
    let response = FcpResponse { status: 2, confirm: true, ..FcpResponse::default() }.encode();
    let mut ended = 0;
    for ox_id in 0..1_000 {
        engine.handle_frame(now, frame(RoutingControl::COMMAND, Type::FCP, 0x02_0000, ox_id, vec![0; 32]));
        while let Some(event) = engine.poll_event() {
            match event {
                HbaEvent::Command { exchange, .. } => {
                    let payload = smallvec![Bytes::from(response.clone())];
                    engine.handle_request(now, HbaRequest::Respond { exchange, payload });
                }
                HbaEvent::Ended(_) => ended += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    // None was refused, each response goes out, and few wait to be confirmed.
    let responses = std::iter::from_fn(|| engine.poll_frame()).filter(|frame| frame.header[0] == 0x07).count();
    assert_eq!((responses, ended, engine.open_exchanges()), (1_000, 984, 16));
    assert_eq!(engine.statistics().refused_exchanges, 0);
}

#[test]
fn an_unknown_exchange_cannot_be_aborted() {
    let now = Instant::now();
    let mut engine = Engine::new(EngineConfig::default());
    engine.handle_request(now, HbaRequest::Address(PortId(0x01_0400)));
    engine.handle_frame(now, frame(RoutingControl::ABTS, Type::BLS, 0x02_0000, 7, Vec::new()));
    let answer = engine.poll_frame().expect("an answer");
    let header = FrameHeader::decode(&answer.header);
    assert_eq!((header.r_ctl, header.ox_id, header.d_id), (RoutingControl::BA_RJT, 7, PortId(0x02_0000)));
    assert_eq!(answer.payload[0][1..3], [0x03, 0x03]);
}

#[test]
fn a_command_without_a_login_is_answered_by_a_logout() {
    let now = Instant::now();
    let (mut port, end) = port(now);
    end.send(frame(RoutingControl::COMMAND, Type::FCP, 0x02_0000, 1, vec![0; 32])).unwrap();
    port.drive(now);
    let answer = end.receive().expect("an answer");
    assert_eq!(answer.payload[0][0], 0x05, "LOGO");
    assert!(end.receive().is_none());
}

#[test]
fn any_bytes_are_survived() {
    let now = Instant::now();
    let (mut port, end) = port(now);
    let mut random = 88172645463325252u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for round in 0..20_000 {
        let mut header = [0; 24];
        header.iter_mut().for_each(|byte| *byte = next() as u8);
        let kinds = [0x01, 0x02, 0x03, 0x05, 0x06, 0x07, 0x22, 0x23, 0x32, 0x81, 0x84];
        header[0] = kinds[next() as usize % kinds.len()];
        header[1..4].copy_from_slice(&[1, 4, 0]);
        header[5..8].copy_from_slice(&[2, 0, next() as u8 % 4]);
        header[8] = [0x00, 0x01, 0x08, 0x20][next() as usize % 4];
        header[13] = 0;
        header[16] = 0;
        let mut payload = match next() % 4 {
            0 => login(next()),
            _ => (0..next() % 200).map(|_| next() as u8).collect(),
        };
        if let Some(first) = payload.first_mut()
            && next() % 2 == 0
        {
            *first = [0x03, 0x05, 0x20, 0x21, 0x24, 0x52, 0x61, 0x13][next() as usize % 8];
        }
        let _ = end.send(FcFrame { header, payload: smallvec![Bytes::from(payload)] });
        port.drive(now + Duration::from_millis(round));
        while let Some(job) = port.poll_store() {
            let done = job.lu.perform(job.request);
            port.handle_store_done(now, &job.lu, done);
        }
        while end.receive().is_some() {}
    }
    assert!(port.info().remotes.len() <= 5);
}

#[test]
fn a_link_that_is_reset_comes_back() {
    let now = Instant::now();
    let (a, b) = Wire::new(1).ends();
    let mut hba = SoftHba::new(adapter(TARGET), a);
    b.switch(true);
    hba.control(now, HbaControl::Online).unwrap();
    assert!(matches!(hba.poll_event(now), Some(HbaEvent::LinkUp(_))));
    hba.control(now, HbaControl::ResetLink).unwrap();
    assert!(matches!(hba.poll_event(now), Some(HbaEvent::LinkDown)));
    assert!(matches!(hba.poll_event(now), Some(HbaEvent::LinkUp(_))));
}

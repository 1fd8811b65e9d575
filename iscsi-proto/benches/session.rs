//! What does a command cost a session, from its bytes to the bytes of its answer?
#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use std::time::Instant;

use bytes::{Bytes, BytesMut};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use iscsi_proto::login::LoginPolicy;
use iscsi_proto::pdu::{
    Encoder, InitiatorPdu, InitiatorTaskTag, LoginFlags, LoginRequest, ScsiCommand, ScsiCommandFlags, Stage, Tsih,
};
use iscsi_proto::sn::CmdSn;
use iscsi_proto::target::*;
use scsi_core::Status;

const TEXT: &[u8] = b"InitiatorName=iqn.2026-11.org.example:host\0TargetName=iqn.2026-11.org.example:disk\0\
    MaxRecvDataSegmentLength=262144\0InitialR2T=No\0";

/// Commands in flight at once.
const DEPTH: u32 = 32;

fn encode(pdus: impl IntoIterator<Item = InitiatorPdu>) -> Bytes {
    let (mut encoder, mut out) = (Encoder::new(), Vec::new());
    for pdu in pdus {
        encoder.encode(&pdu, &mut out).unwrap();
    }
    encoder.finish(&mut out);
    out.concat().into()
}

fn open(now: Instant) -> (Session, ConnectionKey) {
    let mut connection = Connection::new(ConnectionConfig::default(), now);
    let flags = LoginFlags {
        transit: true,
        is_continued: false,
        current: Stage::OPERATIONAL_NEGOTIATION,
        next: Stage::FULL_FEATURE_PHASE,
    };
    let mut text = TEXT;
    loop {
        let request = LoginRequest { flags, data: text.into(), ..LoginRequest::default() };
        connection.handle_received(encode([request.into()]));
        text = b"";
        while let Some(event) = connection.poll_event() {
            match event {
                ConnectionEvent::Identify(_) => connection.accept(LoginPolicy::open(Some(1))),
                ConnectionEvent::Negotiated(_) => {
                    return Session::establish(connection, SessionConfig::default(), Tsih(1), now).unwrap();
                }
                other => panic!("{other:?}"),
            }
        }
        connection.poll_transmit(&mut Vec::new());
    }
}

/// One received chunk with `DEPTH` commands, answered and sent.
fn round(session: &mut Session, key: ConnectionKey, now: Instant, chunk: Bytes, data: &Bytes, out: &mut Vec<Bytes>) {
    session.handle_received(key, now, chunk);
    while let Some(event) = session.poll_event() {
        match event {
            Event::Command(command) => {
                if command.read {
                    session.send_data_in(command.task, 0, [data.clone()]);
                }
                session.send_status(command.task, TaskStatus::new(Status::GOOD, data.len() as u64));
            }
            Event::DataOut(_) => {}
            other => panic!("{other:?}"),
        }
    }
    while session.poll_transmit(key, now, out) > 0 {}
    out.clear();
}

fn commands(flags: ScsiCommandFlags, data: &Bytes) -> impl Fn(u32) -> Bytes {
    let immediate = if flags.contains(ScsiCommandFlags::WRITE) { data.clone() } else { Bytes::new() };
    let length = data.len() as u32;
    move |first| {
        encode((0..DEPTH).map(|index| {
            ScsiCommand {
                flags,
                initiator_task_tag: InitiatorTaskTag(index),
                expected_data_transfer_length: length,
                cmd_sn: CmdSn(first.wrapping_add(index)),
                data: immediate.clone().into(),
                ..ScsiCommand::default()
            }
            .into()
        }))
    }
}

fn session(c: &mut Criterion) {
    let now = Instant::now();
    let mut group = c.benchmark_group("session");
    group.throughput(Throughput::Elements(DEPTH.into()));
    let read = ScsiCommandFlags::FINAL | ScsiCommandFlags::READ;
    let write = ScsiCommandFlags::FINAL | ScsiCommandFlags::WRITE;
    for (name, flags, length) in [("read_4k", read, 4096), ("read_64k", read, 65536), ("write_4k", write, 4096)] {
        let data = BytesMut::zeroed(length).freeze();
        let make = commands(flags, &data);
        let (mut session, key) = open(now);
        let (mut out, mut number) = (Vec::new(), 0u32);
        while session.poll_transmit(key, now, &mut out) > 0 {}
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let chunk = make(number);
                    number = number.wrapping_add(DEPTH);
                    chunk
                },
                |chunk| round(&mut session, key, now, chunk, &data, &mut out),
                BatchSize::NumIterations(1),
            );
        });
    }
    group.finish();
}

criterion_group!(benches, session);
criterion_main!(benches);

//! What does a PDU cost on its way through the codec?
#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iscsi_proto::digest::Digests;
use iscsi_proto::frame::{Framer, Limits};
use iscsi_proto::pdu::{DataIn, DataOut, Encoder, InitiatorPdu, ScsiCommand, ScsiResponse, TargetPdu};
use scsi_core::Status;

const BATCH: usize = 64;
const PLAIN: Digests = Digests { header: false, data: false };
const BOTH: Digests = Digests { header: true, data: true };

fn name(pdu: &str, digests: Digests) -> String {
    format!("{pdu}/{}", if digests.header { "digests" } else { "plain" })
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(BATCH as u64));
    let data = Bytes::from(vec![0x5a; 4096]);
    let pdus: [(&str, TargetPdu); 2] = [
        ("scsi_response", ScsiResponse::default().into()),
        ("data_in_4k", DataIn { status: Some(Status::GOOD), data: data.into(), ..DataIn::default() }.into()),
    ];
    for (pdu_name, pdu) in &pdus {
        for digests in [PLAIN, BOTH] {
            group.bench_function(name(pdu_name, digests), |b| {
                let (mut encoder, mut out) = (Encoder::new(), Vec::with_capacity(4 * BATCH));
                encoder.set_digests(digests);
                b.iter(|| {
                    out.clear();
                    for _ in 0..BATCH {
                        encoder.encode(black_box(pdu), &mut out).unwrap();
                    }
                    encoder.finish(&mut out);
                    out.len()
                });
            });
        }
    }
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(BATCH as u64));
    let pdus: [(&str, InitiatorPdu); 2] = [
        ("scsi_command", ScsiCommand::default().into()),
        ("data_out_4k", DataOut { data: vec![0x5a; 4096].into(), ..DataOut::default() }.into()),
    ];
    for (pdu_name, pdu) in &pdus {
        for digests in [PLAIN, BOTH] {
            let (mut encoder, mut out) = (Encoder::new(), Vec::new());
            encoder.set_digests(digests);
            (0..BATCH).for_each(|_| assert!(encoder.encode(pdu, &mut out).is_ok()));
            encoder.finish(&mut out);
            let chunk = Bytes::from(out.concat());
            group.bench_function(name(pdu_name, digests), |b| {
                let mut framer = Framer::new(Limits::default());
                framer.set_digests(digests);
                b.iter(|| {
                    framer.handle_received(chunk.clone());
                    while let Some(frame) = framer.poll_frame().unwrap() {
                        black_box(InitiatorPdu::decode(frame).unwrap());
                    }
                });
            });
        }
    }
}

criterion_group!(benches, encode, decode);
criterion_main!(benches);

//! What does a command cost from the CDB to the status, with a store in memory?
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::store::MemoryStore;
use lu_sbd::{Limits, SbdLu};
use scsi_core::{GuidHost, Lun, TaskAttribute};
use std::path::Path;
use std::sync::Arc;
use stmf::provider::{Effect, Effects, LogicalUnit, LuTask, Segments};
use stmf::{Nexus, NexusId, TaskId, TaskTag};

const SIZE: u64 = 256 << 20;

fn unit() -> SbdLu {
    let properties = CreateProperties::default();
    let guid = properties.guid(GuidHost::HostId(1), 0, 1);
    let identity = properties.identity(guid, Path::new("bench"), SIZE).expect("the size is valid");
    let lu = SbdLu::new(identity, Arc::new(MemoryStore::new(SIZE)), Arc::new(NoRecord), Limits::default());
    lu.attach(&Arc::new(Nexus {
        id: NexusId(1),
        initiator: "iqn.2026-11.org.example:host".into(),
        transport_id: Vec::new(),
        target: "iqn.2026-11.org.example:disk".into(),
        target_port_name: "iqn.2026-11.org.example:disk,t,0x0001".into(),
        relative_target_port: 1,
        protocol: 5,
    }));
    lu
}

fn run(lu: &SbdLu, tag: u64, cdb: &[u8], out: &Bytes, room: u32, effects: &mut Effects) {
    let id = TaskId { nexus: NexusId(1), tag: TaskTag(tag) };
    let attribute = TaskAttribute::Simple;
    let data_out_length = out.len() as u32;
    let task = LuTask { id, lun: Lun::ZERO, attribute, priority: 0, cdb, data_out_length, data_in_length: room };
    lu.submit(task, effects);
    while let Some(effect) = effects.pop() {
        match effect {
            Effect::Store(request) => {
                let done = lu.try_perform(request).unwrap_or_else(|request| lu.perform(request));
                lu.store_done(done, effects);
            }
            Effect::ReceiveData { task, offset, .. } => {
                lu.data_out(task, offset, Segments::from_iter([out.clone()]), effects);
            }
            _ => {}
        }
    }
}

fn dispatch(criterion: &mut Criterion) {
    let lu = unit();
    let mut effects = Effects::new();
    let mut tag = 0;
    let none = Bytes::new();
    let mut group = criterion.benchmark_group("dispatch");
    group.bench_function("test unit ready", |bencher| {
        bencher.iter(|| {
            tag += 1;
            run(&lu, tag, &[0; 6], &none, 0, &mut effects);
        });
    });
    group.bench_function("inquiry", |bencher| {
        bencher.iter(|| {
            tag += 1;
            run(&lu, tag, &[0x12, 0, 0, 0, 96, 0], &none, 96, &mut effects);
        });
    });
    for (name, blocks) in [("4 KiB", 8u16), ("64 KiB", 128), ("1 MiB", 2048)] {
        let bytes = u32::from(blocks) * 512;
        group.throughput(Throughput::Bytes(bytes.into()));
        let data = Bytes::from(vec![7; bytes as usize]);
        for (direction, opcode) in [("write", 0x2a), ("read", 0x28)] {
            group.bench_function(format!("{direction} {name}"), |bencher| {
                bencher.iter(|| {
                    tag += 1;
                    let lba = (tag * u64::from(blocks) % (SIZE / 512 - 2048)) as u32;
                    let ([a, b, c, d], [h, l]) = (lba.to_be_bytes(), blocks.to_be_bytes());
                    let cdb = [opcode, 0, a, b, c, d, 0, h, l, 0];
                    let (out, room) = if opcode == 0x2a { (&data, 0) } else { (&none, bytes) };
                    run(&lu, tag, &cdb, out, room, &mut effects);
                });
            });
        }
    }
    group.finish();
}

criterion_group!(benches, dispatch);
criterion_main!(benches);

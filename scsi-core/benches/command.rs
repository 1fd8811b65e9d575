//! How long it takes to parse a command, to decide whether it may go on, and to order it.
#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use scsi_core::cdb::{PersistentReserveOut, PrOutAction};
use scsi_core::command::{COMMANDS, CommandSet, parse};
use scsi_core::mode::TaskSetType;
use scsi_core::reservation::{NexusName, RegisterParameters, Reservations, Topology};
use scsi_core::task_set::TaskSet;
use scsi_core::{SenseData, SenseFormat, TaskAttribute, TransportId};
use std::hint::black_box;

const READ_16: [u8; 16] = [0x88, 0x08, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 8, 0, 0];

fn dispatch(criterion: &mut Criterion) {
    let supported = CommandSet::all();
    let mut group = criterion.benchmark_group("command");
    group.throughput(Throughput::Elements(1));
    group.bench_function("parse READ(16)", |bencher| {
        bencher.iter(|| parse(black_box(&READ_16), supported).map(|parsed| parsed.data_phase(512)));
    });
    let inquiry = [0x12, 1, 0x83, 0, 0xff, 0];
    group.bench_function("parse INQUIRY", |bencher| bencher.iter(|| parse(black_box(&inquiry), supported)));
    let mut reserved = READ_16;
    reserved[1] |= 0x20;
    group.bench_function("refuse a reserved bit", |bencher| bencher.iter(|| parse(black_box(&reserved), supported)));
    group.finish();

    let cdbs: Vec<[u8; 16]> = supported
        .entries()
        .map(|entry| {
            let mut cdb = [0; 16];
            cdb[0] = entry.opcode;
            cdb[1] = entry.service_action.unwrap_or(0);
            cdb
        })
        .collect();
    let mut group = criterion.benchmark_group("every command");
    group.throughput(Throughput::Elements(cdbs.len() as u64));
    group.bench_function(format!("parse {} of {}", cdbs.len(), COMMANDS.len()), |bencher| {
        bencher.iter(|| cdbs.iter().filter(|cdb| parse(black_box(&cdb[..]), supported).is_ok()).count());
    });
    group.finish();
}

fn nexus(number: u64) -> NexusName {
    NexusName::new(TransportId::FibreChannel(number), "iqn.2026-11.org.lunette:02:a,t,0x0001", 1)
}

fn reservations(criterion: &mut Criterion) {
    let parsed = parse(&READ_16, CommandSet::all()).expect("a well-formed CDB");
    let mut group = criterion.benchmark_group("reservation");
    let free = Reservations::new(true, 1024);
    let me = nexus(15);
    group.bench_function("access, nothing reserved", |bencher| bencher.iter(|| free.access(black_box(&me), &parsed)));
    let mut held = Reservations::new(true, 1024);
    for number in 0..16 {
        let parameters = RegisterParameters { service_action_key: number + 1, ..Default::default() };
        let command = PersistentReserveOut::default();
        held.persistent_reserve_out(&nexus(number), &command, &parameters, Topology::default());
    }
    let reserve = PersistentReserveOut { action: PrOutAction::Reserve, kind: 5, ..Default::default() };
    let parameters = RegisterParameters { key: 1, ..Default::default() };
    held.persistent_reserve_out(&nexus(0), &reserve, &parameters, Topology::default());
    group.bench_function("access, last of 16 registrants", |bencher| {
        bencher.iter(|| held.access(black_box(&me), &parsed));
    });
    let standing = held.standing(&me);
    group.bench_function("access, standing known", |bencher| {
        bencher.iter(|| held.access_of(black_box(standing), &parsed));
    });
    group.finish();
}

fn tasks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("task set");
    let mut set = TaskSet::new(TaskSetType::Shared, 4096);
    let mut enabled = Vec::new();
    for _ in 0..128 {
        let _ = set.admit(0, TaskAttribute::Simple, false);
    }
    group.bench_function("admit and end a simple task among 128", |bencher| {
        bencher.iter(|| {
            if let Ok((key, _)) = set.admit(1, black_box(TaskAttribute::Simple), false) {
                set.finish(key, &mut enabled);
            }
        });
    });
    group.finish();
    let sense = SenseData::invalid_field_in_cdb(1, Some(5));
    criterion.bench_function("sense data, descriptor format", |bencher| {
        bencher.iter_batched(|| sense, |sense| sense.encode(SenseFormat::Descriptor), BatchSize::SmallInput);
    });
}

criterion_group!(benches, dispatch, reservations, tasks);
criterion_main!(benches);

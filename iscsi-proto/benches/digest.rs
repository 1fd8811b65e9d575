//! What does CRC32C cost at the sizes of headers and data segments?
#![allow(missing_docs, reason = "criterion's macro writes a public function")]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use iscsi_proto::digest::{crc32c, crc32c_slices};

fn digest(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for len in [48usize, 512, 4096, 65536, 262_144] {
        let data = Bytes::from(vec![0x5a; len]);
        group.throughput(Throughput::Bytes(len as u64));
        group.bench_function(format!("{len}"), |b| b.iter(|| crc32c(black_box(&data))));
        let halves = [data.slice(..len / 2), data.slice(len / 2..)];
        group.bench_function(format!("{len}/two_slices"), |b| b.iter(|| crc32c_slices(black_box(&halves), 0)));
    }
}

criterion_group!(benches, digest);
criterion_main!(benches);

//! Seeds of the simulator; `cargo run --release -p testkit --bin sim -- --seeds N` runs more.

use std::sync::atomic::{AtomicU64, Ordering};

use testkit::sim::{Options, run};

/// Half a minute on two cores in the profile of the tests.
const SEEDS: u64 = 40_000;

/// The same with two of the three hosts on a fabric: some seconds.
const SEEDS_ON_A_FABRIC: u64 = 4_000;

#[test]
fn every_seed_keeps_every_promise() {
    all(SEEDS, &Options::default(), "");
}

#[test]
fn every_seed_with_a_fabric_keeps_every_promise() {
    all(SEEDS_ON_A_FABRIC, &Options { fibre_channel: true, ..Options::default() }, " --fc");
}

fn all(seeds: u64, options: &Options, again: &str) {
    let next = AtomicU64::new(0);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut seed = next.fetch_add(1, Ordering::Relaxed);
                while seed < seeds {
                    let report = run(seed, options);
                    assert_eq!(report.violation, None, "cargo run -p testkit --bin sim -- --seed {seed}{again}");
                    seed = next.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
}

//! Some seeds of the simulator; `cargo run -p testkit --bin sim -- --seeds N` runs more.

use testkit::sim::{Options, run};

/// As many as a few seconds allow, whatever the profile.
const SEEDS: u64 = 2_000;

#[test]
fn every_seed_keeps_every_promise() {
    let options = Options::default();
    for seed in 0..SEEDS {
        let report = run(seed, &options);
        assert_eq!(report.violation, None, "cargo run -p testkit --bin sim -- --seed {seed}");
    }
}

//! Hosts over a lossy fabric and one over iSCSI at the same unit: whatever the wires do, nobody sees what must not be seen.

use testkit::sim::run_fibre_channel;

#[test]
fn whatever_the_wires_do_the_rules_hold() {
    for seed in 0..300 {
        let report = run_fibre_channel(seed, 60);
        assert_eq!(report.violation, None, "seed {seed}");
    }
}

#[test]
fn a_seed_replays_bit_for_bit() {
    for seed in 0..20 {
        assert_eq!(run_fibre_channel(seed, 60), run_fibre_channel(seed, 60), "seed {seed}");
    }
}

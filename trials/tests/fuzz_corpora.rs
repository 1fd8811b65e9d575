//! Replays the committed corpora of the fuzz targets of this package, and mutations of them, without a fuzzer.

use lunette_trials::fuzz_targets::{TARGETS, remove_files};
use testkit::fuzz_targets::{FuzzTarget, replay};

/// Those that speak over a socket or write files are slow, and tried less.
fn has_sockets((name, _): &FuzzTarget) -> bool {
    name.ends_with("socket") || *name == "state_file"
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer() {
    replay::check_fuzzers(TARGETS);
}

#[test]
fn the_committed_corpora_and_mutations_of_them_replay() {
    replay::replay(TARGETS);
    let (slow, quick): (Vec<FuzzTarget>, Vec<FuzzTarget>) = TARGETS.iter().partition(|target| has_sockets(target));
    replay::replay_mutations(&quick, 1000);
    replay::replay_mutations(&slow, 100);
    remove_files();
}

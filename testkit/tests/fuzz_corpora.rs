//! Replays the committed corpora of the fuzz targets, and a few thousand mutations of them, without a fuzzer.

use testkit::fuzz_targets::{TARGETS, replay};

#[test]
fn every_target_has_a_corpus_and_a_fuzzer() {
    replay::check_fuzzers(TARGETS);
}

#[test]
fn the_committed_corpora_replay() {
    replay::replay(TARGETS);
}

#[test]
fn mutations_of_the_corpora_replay() {
    replay::replay_mutations(TARGETS, 3000);
}

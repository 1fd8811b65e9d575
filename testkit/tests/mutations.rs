//! Deliberate bugs, one after the other, and the simulator that has to find each:
//! `cargo test --release -p testkit --features mutations --test mutations -- --nocapture`.
#![cfg(feature = "mutations")]

use testkit::sim::Options;
use testkit::sim::mutations::{MOST_SEEDS, Mutation, find};

#[test]
fn every_deliberate_bug_is_found() {
    let mut missed = Vec::new();
    for mutation in Mutation::ALL {
        match find(*mutation, &Options::default()) {
            Some((seed, words)) => println!("{seed:>5} {mutation:?}: {words}"),
            None => missed.push(*mutation),
        }
    }
    assert!(missed.is_empty(), "not found within {MOST_SEEDS} seeds: {missed:?}");
}

//! A simulated storage network: initiators, cables, target, stores and clock in one thread, everything from one seed,
//! and a judge that knows what may happen.
//!
//! ```
//! let report = testkit::sim::run(1, &testkit::sim::Options::default());
//! assert_eq!(report.violation, None);
//! assert_eq!(report.fingerprint, testkit::sim::run(1, &testkit::sim::Options::default()).fingerprint);
//! ```
//!
//! A seed gives a list of actions (commands, faults, changes); each carries a seed of its own, so that a list stays
//! what it is when some are left out. [`shrink`] leaves out what a failure does not need.

mod blocks;
mod changes;
mod deeds;
mod fc_peer;
mod fibre_channel;
mod healing;
mod host;
mod judge;
#[cfg(feature = "mutations")]
pub mod mutations;
mod nexus;
mod peer;
mod plan;
mod unit;
mod world;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

pub use fibre_channel::{FcReport, run_fibre_channel};
pub use plan::Action;
pub use world::HEALING;

/// What a run is to be like.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many actions.
    pub operations: usize,
    /// Keep what happened in words.
    pub trace: bool,
    /// One kind of [`faults`] and no other.
    pub only: Option<&'static str>,
    /// The last two of the three initiators are plugged into a fabric, the first keeps to iSCSI.
    pub fibre_channel: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { operations: 60, trace: false, only: None, fibre_channel: false }
    }
}

/// How a run went.
#[derive(Clone, Debug)]
pub struct Report {
    /// The rule that was broken first, and how.
    pub violation: Option<String>,
    /// The same for the same seed and options, always.
    pub fingerprint: u64,
    /// What was done and injected, by kind.
    pub counts: BTreeMap<&'static str, u64>,
    /// What happened, if asked for.
    pub trace: Vec<String>,
    /// Virtual milliseconds from the end of the faults until everybody was served again.
    pub healing_ms: u64,
}

/// The kinds of faults there are, and the names by which each is counted in [`Report::counts`].
pub fn faults() -> Vec<(&'static str, &'static [&'static str])> {
    plan::faults().collect()
}

/// Runs a seed.
pub fn run(seed: u64, options: &Options) -> Report {
    run_actions(seed, &plan(seed, options), options)
}

/// The actions of a seed.
pub fn plan(seed: u64, options: &Options) -> Vec<Action> {
    match options.only {
        None => plan::generate(seed, options.operations),
        Some(fault) => plan::generate_with(seed, options.operations, fault),
    }
}

/// Runs some actions in the world of a seed.
pub fn run_actions(seed: u64, actions: &[Action], options: &Options) -> Report {
    let mut world = world::World::new(seed, options);
    let result = catch_unwind(AssertUnwindSafe(|| world.run(actions)));
    if let Err(panic) = result {
        let words = panic.downcast_ref::<String>().cloned();
        let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
        world.violation.get_or_insert(format!("panic: {}", words.unwrap_or_default()));
    }
    world.report()
}

/// The fewest actions, as far as can be found by leaving out, that still break a rule.
pub fn shrink(seed: u64, options: &Options) -> Vec<Action> {
    let quiet = Options { trace: false, ..options.clone() };
    let mut actions = plan(seed, options);
    let kind = |violation: &str| violation.chars().filter(|one| one.is_alphabetic()).collect::<String>();
    let wanted = run_actions(seed, &actions, &quiet).violation.as_deref().map(kind);
    let fails = |actions: &[Action]| run_actions(seed, actions, &quiet).violation.as_deref().map(kind) == wanted;
    let mut piece = actions.len().div_ceil(2);
    loop {
        let mut at = 0;
        while at < actions.len() {
            let mut fewer = actions.clone();
            fewer.drain(at..(at + piece).min(actions.len()));
            if fails(&fewer) {
                actions = fewer;
            } else {
                at += piece;
            }
        }
        if piece <= 1 {
            return actions;
        }
        piece = piece.div_ceil(2);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_replays_bit_for_bit() {
        for seed in 0..20 {
            let options = Options::default();
            let (first, second) = (run(seed, &options), run(seed, &options));
            assert_eq!(first.violation, None, "seed {seed}");
            assert_eq!((first.fingerprint, first.counts), (second.fingerprint, second.counts), "seed {seed}");
        }
    }

    #[test]
    fn a_seed_with_a_fabric_replays_bit_for_bit() {
        let options = Options { fibre_channel: true, ..Options::default() };
        for seed in 0..20 {
            let (first, second) = (run(seed, &options), run(seed, &options));
            assert_eq!(first.violation, None, "seed {seed}");
            assert_eq!((first.fingerprint, first.counts), (second.fingerprint, second.counts), "seed {seed}");
        }
    }
}

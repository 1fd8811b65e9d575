//! Deliberate bugs in the target, and how long the simulator takes to find each.

pub use scsi_core::mutation::Mutation;
use scsi_core::mutation::activate;

use super::{Options, run};

/// A bug has to show within so many seeds.
pub const MOST_SEEDS: u64 = 2_000;

/// Bugs of Fibre Channel: they are looked for where two of the hosts are on a fabric.
const ON_A_FABRIC: [Mutation; 10] = [
    Mutation::FcTasksKept,
    Mutation::FcAttentionLost,
    Mutation::FcAbortNamesAnother,
    Mutation::FcAbortDoesNothing,
    Mutation::FcResidualOffByOne,
    Mutation::FcOffsetStays,
    Mutation::FcSenseLeftOut,
    Mutation::FcSessionKept,
    Mutation::FcReadyNotSentAgain,
    Mutation::FcResponseNotSentAgain,
];

/// The first seed, from 0 on, that breaks a rule with this bug in the target, and the rule. `None`: the first
/// [`MOST_SEEDS`] do not.
pub fn find(mutation: Mutation, options: &Options) -> Option<(u64, String)> {
    let fibre_channel = options.fibre_channel || ON_A_FABRIC.contains(&mutation);
    let options = Options { fibre_channel, ..options.clone() };
    activate(Some(mutation));
    let found = (0..MOST_SEEDS).find_map(|seed| run(seed, &options).violation.map(|words| (seed, words)));
    activate(None);
    found
}

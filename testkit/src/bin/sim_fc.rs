//! Runs the simulator of Fibre Channel beside iSCSI: `sim_fc [--seed N] [--seeds COUNT] [--ops N]`. The exit code is 1 when
//! a rule is broken.

use std::collections::BTreeMap;
use std::process::ExitCode;

use testkit::sim::run_fibre_channel;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut wanted = BTreeMap::from([("--seed", 0), ("--seeds", 1), ("--ops", 60)]);
    for pair in words.chunks(2) {
        let number = pair.get(1).and_then(|number| number.parse::<u64>().ok());
        match (wanted.iter_mut().find(|(name, _)| **name == pair[0]), number) {
            (Some((_, slot)), Some(number)) => *slot = number,
            _ => {
                eprintln!("usage: sim_fc [--seed N] [--seeds COUNT] [--ops N]");
                return ExitCode::from(2);
            }
        }
    }
    let (first, seeds, actions) = (wanted["--seed"], wanted["--seeds"], wanted["--ops"] as usize);
    let mut counts: BTreeMap<&'static str, u64> = BTreeMap::new();
    for seed in first..first + seeds {
        let report = run_fibre_channel(seed, actions);
        if let Some(violation) = report.violation {
            println!("seed {seed}: {violation}");
            return ExitCode::FAILURE;
        }
        report.counts.into_iter().for_each(|(what, count)| *counts.entry(what).or_default() += count);
    }
    println!("{seeds} seeds");
    counts.iter().for_each(|(what, count)| println!("{count:>10} {what}"));
    ExitCode::SUCCESS
}

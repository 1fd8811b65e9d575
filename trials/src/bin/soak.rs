//! `cargo run --release -p lunette-trials --bin soak -- --seconds 3600`: see `lunette_trials::soak`.

use lunette_trials::soak::{Plan, run};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Mixed load from many sessions against the real server, with faults: every byte is checked, every error must be explained.

Usage: soak [OPTIONS]

Options:
  --seconds N     How long, in seconds (default 20)
  --seed S        What the random numbers begin with (default 1)
  --sessions N    Sessions (default 16; 64 for 300 seconds and more)
  --dir PATH      Where files and state go (default a temporary directory)

Exit code 0: nothing was lost, every error was explained, memory and descriptors are back where they were.
";

fn main() -> ExitCode {
    if lunette_trials::process::is_server() {
        return lunette_server::cli::main();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| words.iter().position(|word| word == name).and_then(|at| words.get(at + 1));
    if words.iter().any(|word| word == "--help") {
        print!("{HELP}");
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| value(name).and_then(|word| word.parse::<u64>().ok());
    let mut plan = Plan::lasting(Duration::from_secs(number("--seconds").unwrap_or(20)));
    plan.seed = number("--seed").unwrap_or(plan.seed);
    plan.sessions = number("--sessions").map_or(plan.sessions, |sessions| sessions as usize);
    plan.directory = value("--dir").map(Into::into);
    match run(&plan) {
        Ok(report) => {
            println!("\n{report}");
            let complaints = report.complaints();
            complaints.iter().for_each(|complaint| println!("FAILED: {complaint}"));
            if complaints.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("soak: {error:#}");
            ExitCode::FAILURE
        }
    }
}

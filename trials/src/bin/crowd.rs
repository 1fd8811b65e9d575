//! `cargo run --release -p lunette-trials --bin crowd`: see `lunette_trials::crowd`.

use lunette_trials::crowd::{MOST_SUFFERED, Row, Sizes, run};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Thousands of peers that do nothing, come and go, take nothing or give nothing; what they cost the server and a neighbour.
Each comes in three rounds, each time after the neighbour was measured alone, and the middle factor by which its latency grew is
judged: the exit code is 1 where it is above 1.5.

Usage: crowd [--small]

Options:
  --small    A few hundred instead of 10,000 sessions and 100,000 attempts, once, and no judgement of time

Example: cargo run --release -p lunette-trials --bin crowd
";

fn main() -> ExitCode {
    if lunette_trials::process::is_server() {
        return lunette_server::cli::main();
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let sizes = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Sizes {
            sessions: 10_000,
            attempts: 100_000,
            readers: 64,
            writers: 64,
            time: Duration::from_secs(5),
            rounds: 3,
        },
        ["--small"] => {
            Sizes { sessions: 300, attempts: 2000, readers: 8, writers: 8, time: Duration::from_millis(400), rounds: 1 }
        }
        _ => {
            print!("{HELP}");
            return ExitCode::FAILURE;
        }
    };
    match run(&sizes) {
        Ok(outcome) => {
            println!("{}", Row::HEAD);
            outcome.rows.iter().for_each(|(row, count)| println!("{}", row.line(*count)));
            let (log, audit) = outcome.log_lines;
            println!(
                "\nlog: {log} lines, audit log: {audit} lines; descriptors: {} before, {} after all",
                outcome.before.descriptors, outcome.after.descriptors
            );
            if outcome.after.descriptors > outcome.before.descriptors {
                eprintln!("crowd: the server has not closed what its peers have");
                return ExitCode::FAILURE;
            }
            let mut suffers = false;
            for (name, median, most) in outcome.factors().into_iter().filter(|_| sizes.rounds > 1) {
                println!("{name}: the neighbour's median grew by x {median:.2}, its 99 % by x {most:.2}");
                suffers |= median.max(most) > MOST_SUFFERED;
            }
            if suffers {
                eprintln!("crowd: the neighbour's latency grew by more than x {MOST_SUFFERED}");
                return ExitCode::FAILURE;
            }
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("crowd: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! Runs the simulator: `sim --seed N [--seeds COUNT] [--ops N] [--trace]`.
//!
//! A seed that breaks a rule is shrunk, its trace printed with the command that does it again, and the exit code is 1.
//! `--only FAULT` injects one kind of faults and no other, `--table` runs so many seeds for each kind alone, and all
//! together, and prints what became of it; `--fc` plugs two of the hosts into a fabric; `--mutations`, built with the
//! feature of that name, looks for each deliberate bug.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use testkit::sim::{Options, Report, faults, plan, run, run_actions, shrink};

struct Arguments {
    seed: u64,
    seeds: u64,
    threads: usize,
    table: bool,
    #[cfg(feature = "mutations")]
    mutations: bool,
    options: Options,
}

fn main() -> ExitCode {
    let arguments = match parse(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(words) => {
            eprintln!(
                "{words}\nusage: sim [--seed N] [--seeds COUNT] [--ops N] [--threads N] [--trace] [--table] [--fc] [--only FAULT]"
            );
            faults().iter().for_each(|(fault, _)| eprintln!("    --only '{fault}'"));
            return ExitCode::from(2);
        }
    };
    // A panic is a violation, which is told below.
    std::panic::set_hook(Box::new(|_| {}));
    #[cfg(feature = "mutations")]
    if arguments.mutations {
        return if find_bugs(&arguments.options) { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    if arguments.seeds == 1 && arguments.options.trace {
        let report = run(arguments.seed, &arguments.options);
        report.trace.iter().for_each(|line| println!("{line}"));
    }
    if arguments.table {
        return table(&arguments);
    }
    let begun = Instant::now();
    let summary = all(&arguments, &arguments.options);
    println!("{} seeds in {:.1} s", summary.done, begun.elapsed().as_secs_f64());
    for (what, count) in &summary.counts {
        println!("{count:>10} {what}");
    }
    println!("{:>10} ms of virtual time to heal, at most", summary.healing_ms.iter().max().unwrap_or(&0));
    match summary.failed {
        None => ExitCode::SUCCESS,
        Some((seed, words)) => {
            explain(seed, &words, &arguments.options);
            ExitCode::FAILURE
        }
    }
}

/// Prints the first seed that finds each deliberate bug, and what gives it away. False when one is not found.
#[cfg(feature = "mutations")]
fn find_bugs(options: &Options) -> bool {
    use testkit::sim::mutations::{MOST_SEEDS, Mutation, find};
    let found: Vec<_> = Mutation::ALL.iter().map(|bug| (bug, find(*bug, options))).collect();
    println!("| Bug | seed | what gives it away |");
    println!("|---|---|---|");
    for (bug, found) in &found {
        let words = bug.words().trim().trim_end_matches('.');
        match found {
            Some((seed, violation)) => {
                let violation: String = violation.chars().map(|one| if one == '|' { '/' } else { one }).collect();
                // The end tells more than the operation's own words at the beginning.
                let violation = violation.rsplit("): ").next().unwrap_or_default();
                println!("| {words} | {seed} | {} |", violation.chars().take(100).collect::<String>());
            }
            None => println!("| {words} | **not within {MOST_SEEDS}** | |"),
        }
    }
    let count = found.iter().filter(|(_, found)| found.is_some()).count();
    println!("{count} of {} bugs found", found.len());
    count == found.len()
}

#[derive(Default)]
struct Summary {
    done: u64,
    counts: BTreeMap<&'static str, u64>,
    /// Of each seed.
    healing_ms: Vec<u64>,
    failed: Option<(u64, String)>,
}

impl Summary {
    fn add(&mut self, seed: u64, report: Report) {
        self.done += 1;
        self.healing_ms.push(report.healing_ms);
        for (what, count) in report.counts {
            *self.counts.entry(what).or_default() += count;
        }
        if let Some(words) = report.violation
            && self.failed.as_ref().is_none_or(|(known, _)| seed < *known)
        {
            self.failed = Some((seed, words));
        }
    }
}

fn all(arguments: &Arguments, options: &Options) -> Summary {
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..arguments.threads {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if at >= arguments.seeds || summary.lock().is_ok_and(|summary| summary.failed.is_some()) {
                        return;
                    }
                    let seed = arguments.seed.wrapping_add(at);
                    let report = run(seed, &Options { trace: false, ..options.clone() });
                    if let Ok(mut summary) = summary.lock() {
                        summary.add(seed, report);
                    }
                }
            });
        }
    });
    summary.into_inner().unwrap_or_default()
}

/// One line for each kind of faults: how many there were, what was written, what was lost, and when all was well again.
fn table(arguments: &Arguments) -> ExitCode {
    println!("| Fault | injected | writes acknowledged | lost | until normal, median | most |");
    println!("|---|---|---|---|---|---|");
    let all_counted: Vec<&str> = faults().into_iter().flat_map(|(_, counted)| counted.iter().copied()).collect();
    let rows = faults().into_iter().map(|(fault, counted)| (fault, Some(fault), counted.to_vec()));
    for (name, only, counted) in rows.chain([("all of them together", None, all_counted)]) {
        let options = Options { only, ..arguments.options.clone() };
        let mut summary = all(arguments, &options);
        if let Some((seed, words)) = summary.failed {
            explain(seed, &words, &options);
            return ExitCode::FAILURE;
        }
        let count = |name: &str| summary.counts.get(name).copied().unwrap_or(0);
        let (injected, written) = (counted.into_iter().map(count).sum::<u64>(), count("writes acknowledged"));
        summary.healing_ms.sort_unstable();
        let median = summary.healing_ms.get(summary.healing_ms.len() / 2).unwrap_or(&0);
        let most = summary.healing_ms.last().unwrap_or(&0);
        println!("| {name} | {injected} | {written} | 0 | {median} ms | {most} ms |");
    }
    ExitCode::SUCCESS
}

fn explain(seed: u64, words: &str, options: &Options) {
    println!("seed {seed}: {words}");
    let actions = shrink(seed, options);
    println!("the {} of {} actions that it takes:", actions.len(), plan(seed, options).len());
    let report = run_actions(seed, &actions, &Options { trace: true, ..options.clone() });
    report.trace.iter().for_each(|line| println!("{line}"));
    println!("again: sim {}", again(seed, options));
}

/// The arguments, for a shell, that run a seed once more as it was.
fn again(seed: u64, options: &Options) -> String {
    let mut words = format!("--seed {seed} --ops {}", options.operations);
    if options.fibre_channel {
        words.push_str(" --fc");
    }
    if let Some(fault) = options.only {
        words.push_str(&format!(" --only '{fault}'"));
    }
    words
}

fn parse(words: impl IntoIterator<Item = String>) -> Result<Arguments, String> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut parsed = Arguments {
        seed: 0,
        seeds: 1,
        threads,
        table: false,
        #[cfg(feature = "mutations")]
        mutations: false,
        options: Options::default(),
    };
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let mut number = || {
            let value = words.next().ok_or(format!("{word} needs a number"))?;
            value.parse::<u64>().map_err(|error| format!("{word} {value}: {error}"))
        };
        match word.as_str() {
            "--seed" => parsed.seed = number()?,
            "--seeds" => parsed.seeds = number()?,
            "--ops" => parsed.options.operations = number()? as usize,
            "--threads" => parsed.threads = number()?.max(1) as usize,
            #[cfg(feature = "mutations")]
            "--mutations" => parsed.mutations = true,
            "--trace" => parsed.options.trace = true,
            "--fc" => parsed.options.fibre_channel = true,
            "--table" => parsed.table = true,
            "--only" => {
                let name = words.next().ok_or("--only needs the name of a fault")?;
                let fault = faults().into_iter().find(|(fault, _)| *fault == name);
                parsed.options.only = Some(fault.ok_or(format!("there is no fault '{name}'"))?.0);
            }
            _ => return Err(format!("unknown: {word}")),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// The words that a shell makes of a command.
    fn by_a_shell(command: &str) -> Vec<String> {
        let output = Command::new("sh").args(["-c", &format!("printf '%s\\n' {command}")]).output().expect("a shell");
        String::from_utf8(output.stdout).expect("words").lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_command_that_is_printed_runs_the_same_again() {
        let all = faults().into_iter().map(|(fault, _)| Some(fault)).chain([None]);
        for (seed, only) in (100..).zip(all) {
            for fibre_channel in [false, true] {
                let options = Options { operations: 40, trace: false, only, fibre_channel };
                let parsed = parse(by_a_shell(&again(seed, &options))).expect("arguments");
                assert_eq!((parsed.seed, parsed.seeds, parsed.table), (seed, 1, false));
                let (first, second) = (run(seed, &options), run(parsed.seed, &parsed.options));
                assert_eq!(first.fingerprint, second.fingerprint, "{only:?} {fibre_channel}");
            }
        }
    }
}

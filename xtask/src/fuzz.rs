//! `cargo xtask fuzz`: every fuzz target for a while.

use crate::process::{find, run_limited, tethered};
use crate::report::{Tally, human, tail};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Fuzzes every target for a while. Needs the nightly toolchain and cargo-fuzz.

Usage: cargo xtask fuzz [OPTIONS] [NAME]...

Arguments:
  [NAME]...      Only these targets; `cargo xtask fuzz --list` shows them

Options:
  --minutes N    How long all of them together run, in minutes, each the same time
  --seconds N    How long each target runs, in seconds (default 60)
  --list         Names of the targets

The committed corpora are where it starts; what it finds is kept in target/fuzz-corpus/ and serves the next run. A
finding stands in fuzz/artifacts/NAME/; put it into fuzz/corpus/NAME/ with the fix. At the end a table says for each
target how long it ran, how many inputs it tried, what they reach (edges of the code and features of libFuzzer, which
count how often and in what company an edge was taken) and how large the corpus is that reaches it.

Example: cargo xtask fuzz --seconds 600 framer
";

/// `cargo xtask fuzz`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut seconds, mut minutes, mut names, mut list) = (60u64, None::<u64>, Vec::new(), false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => list = true,
            "--seconds" => {
                let number = words.next().and_then(|word| word.parse().ok());
                seconds = number.context("--seconds needs a whole number of seconds")?;
            }
            "--minutes" => {
                let number = words.next().and_then(|word| word.parse().ok());
                minutes = Some(number.context("--minutes needs a whole number of minutes")?);
            }
            option if option.starts_with('-') => bail!("no option '{option}'\n\n{HELP}"),
            name => names.push(name.to_owned()),
        }
    }
    let all = targets()?;
    if list {
        all.iter().for_each(|name| println!("{name}"));
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(name) = names.iter().find(|name| !all.contains(name)) {
        bail!("no fuzz target '{name}'; there are: {}", all.join(" "));
    }
    if find("cargo-fuzz").is_none() {
        bail!("no cargo-fuzz\nhint: cargo install cargo-fuzz");
    }
    let found = workspace::target_directory()?.join("fuzz-corpus");
    let logs = workspace::log_directory()?;
    let mut tally = Tally::default();
    let chosen: Vec<&String> = all.iter().filter(|name| names.is_empty() || names.contains(name)).collect();
    if let Some(minutes) = minutes {
        seconds = (minutes * 60 / chosen.len().max(1) as u64).max(1);
    }
    let mut table = String::from(HEAD);
    for name in chosen {
        let corpus = found.join(name);
        std::fs::create_dir_all(&corpus)?;
        // rustup picks the toolchain by the name it is given as an argument, which the cargo that runs us cannot.
        let mut command = tethered("cargo");
        command.args(["+nightly", "fuzz", "run", name]).arg(&corpus).arg(format!("corpus/{name}"));
        command.arg("--").args([&format!("-max_total_time={seconds}"), "-max_len=4096", "-timeout=10"]);
        command.arg("-print_final_stats=1");
        if name == "state_file" {
            // The store that configurations are kept in panics over some spoiled files, which is caught and told, and
            // leaves a few bytes behind each time.
            command.arg("-detect_leaks=0").env("ASAN_OPTIONS", "detect_leaks=0");
        }
        command.current_dir(workspace::root().join("fuzz")).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        // Building comes first, and that may take long on the first run.
        let limit = Duration::from_secs(seconds + 1800);
        let finished = run_limited(name, command, limit, &logs.join(format!("fuzz-{name}.log")))?;
        if finished.success() {
            tally += Tally::PASSED;
            let reached = Reached::of(&finished.output);
            println!(
                "    ok      {name} ({}) {} edges, {} features",
                human(finished.elapsed),
                reached.edges,
                reached.features
            );
        } else {
            tally += Tally::FAILED;
            println!("    FAILED  {name} ({})\n{}", finished.verdict(), tail(&finished.output, 40, "            "));
        }
        table.push_str(&Reached::of(&finished.output).line(name, seconds, finished.success()));
    }
    println!("\n{table}\n{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

const HEAD: &str = "| Target | seconds | inputs tried | edges | features | corpus | new | finding |\n\
                    |---|---|---|---|---|---|---|---|\n";

/// What a target came to, by libFuzzer's own words.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reached {
    inputs: u64,
    edges: u64,
    features: u64,
    /// Inputs and their size, as libFuzzer writes it: `83/2108b`.
    corpus: String,
    new: u64,
}

impl Reached {
    fn of(output: &str) -> Self {
        let mut reached = Self::default();
        for line in output.lines() {
            let mut words = line.split_whitespace();
            while let Some(word) = words.next() {
                match word {
                    "cov:" => reached.edges = number(words.next()).unwrap_or(reached.edges),
                    "ft:" => reached.features = number(words.next()).unwrap_or(reached.features),
                    "corp:" => reached.corpus = words.next().unwrap_or_default().to_owned(),
                    "stat::number_of_executed_units:" => reached.inputs = number(words.next()).unwrap_or(0),
                    "stat::new_units_added:" => reached.new = number(words.next()).unwrap_or(0),
                    _ => {}
                }
            }
        }
        reached
    }

    fn line(&self, name: &str, seconds: u64, success: bool) -> String {
        let Self { inputs, edges, features, corpus, new } = self;
        let finding = if success { "" } else { "yes" };
        format!("| {name} | {seconds} | {inputs} | {edges} | {features} | {corpus} | {new} | {finding} |\n")
    }
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.parse().ok()
}

/// The targets are the files; a test of testkit holds them against its own list.
fn targets() -> Result<Vec<String>> {
    let directory = workspace::root().join("fuzz/fuzz_targets");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&directory).with_context(|| format!("cannot read '{}'", directory.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        names.extend(name.strip_suffix(".rs").map(str::to_owned));
    }
    names.sort();
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_fuzzer_says_last_is_told() {
        let output = "#2\tINITED cov: 98 ft: 99 corp: 1/1b exec/s: 0 rss: 43Mb\n\
                      #512\tNEW    cov: 118 ft: 324 corp: 83/2108b lim: 4096 exec/s: 0 rss: 44Mb L: 3/9 MS: 1 CMP-\n\
                      stat::number_of_executed_units: 858300\nstat::new_units_added:          7\n";
        let expected = Reached { inputs: 858_300, edges: 118, features: 324, corpus: "83/2108b".into(), new: 7 };
        assert_eq!(Reached::of(output), expected);
    }
}

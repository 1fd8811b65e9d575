//! `cargo xtask bench-path`: instructions of one command from the bytes of a receive to the bytes of a send, counted by
//! callgrind, so that no other load of the machine is in the figures.

use crate::process::{find, run_limited, tethered};
use crate::scratch::Scratch;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Counts the instructions of one command on its way through protocol, framework, unit and a store in memory, without the
kernel, by callgrind; tells where they go, and what becomes of them with many units, views and sessions.

Usage: cargo xtask bench-path [OPTIONS]

Options:
  --no-build   Take the release binary as it is
  --no-growth  Only one unit and one session
  --functions N  How many functions to list; default 16

Example: cargo xtask bench-path --no-growth
";

const LIMIT: Duration = Duration::from_secs(600);

/// Commands of a batch of 4 KiB.
const BATCH: u64 = 32;

/// What there is: words for the table, options of `lunette-bench path`.
const SCALES: [(&str, &[&str]); 4] = [
    ("1 unit, 1 view, 1 session", &[]),
    ("10,000 units, each seen by the session", &["--units", "10000"]),
    ("10,000 units, 20,000 views", &["--units", "10000", "--views", "20000"]),
    ("1,000 sessions", &["--sessions", "1000"]),
];

/// `cargo xtask bench-path`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut build, mut growth, mut functions) = (true, true, 16);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--no-build" => build = false,
            "--no-growth" => growth = false,
            "--functions" => functions = words.next().context("--functions needs a value")?.parse()?,
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    ensure!(find("valgrind").is_some(), "there is no valgrind\nhint: apt-get install valgrind");
    let binary = crate::bench_peers::build(build, &workspace::log_directory()?)?;
    let scratch = Scratch::new("path")?;
    println!("| instructions of one command of 4 KiB | read | write |\n|---|---:|---:|");
    for (words, options) in SCALES.iter().take(if growth { SCALES.len() } else { 1 }) {
        let count = |operation| each(&binary, &scratch, operation, options);
        println!("| {words} | {} | {} |", count("read")?, count("write")?);
    }
    for operation in ["read", "write"] {
        println!("\n4 KiB {operation}, where they go:\n\n| share | function |\n|---:|---|");
        for (share, name) in shares(&binary, &scratch, operation, functions)? {
            println!("| {share} | `{name}` |");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Instructions of one command: the difference of two runs, so that start and end do not count.
fn each(binary: &Path, scratch: &Scratch, operation: &str, options: &[&str]) -> Result<u64> {
    let (few, many) = (100, 300);
    let first = total(&callgrind(binary, scratch, operation, few, options)?)?;
    let second = total(&callgrind(binary, scratch, operation, many, options)?)?;
    Ok(second.saturating_sub(first) / ((many - few) * BATCH))
}

/// Runs so many batches and gives back what callgrind wrote.
fn callgrind(binary: &Path, scratch: &Scratch, operation: &str, rounds: u64, options: &[&str]) -> Result<String> {
    let out = scratch.join(&format!("callgrind.{operation}.{rounds}"));
    let mut command = tethered("valgrind");
    command.args(["--tool=callgrind", "--quiet", "--toggle-collect=*Path*batch*"]);
    command.arg(format!("--callgrind-out-file={}", out.display()));
    command.arg(binary).arg("path").args(options).args(["--rounds", &rounds.to_string(), operation]);
    let done = run_limited("callgrind", command, LIMIT, &scratch.join("callgrind.log"))?;
    ensure!(done.success(), "callgrind: {}: {}", done.verdict(), done.output.trim());
    std::fs::read_to_string(&out).with_context(|| format!("cannot read '{}'", out.display()))
}

fn total(profile: &str) -> Result<u64> {
    let line =
        profile.lines().rev().find_map(|line| line.strip_prefix("totals: ").or_else(|| line.strip_prefix("summary: ")));
    Ok(line.context("callgrind wrote no total")?.trim().parse()?)
}

/// The functions that take most, each with its share.
fn shares(binary: &Path, scratch: &Scratch, operation: &str, most: usize) -> Result<Vec<(String, String)>> {
    callgrind(binary, scratch, operation, 300, &[])?;
    let mut command = tethered("callgrind_annotate");
    command.arg("--threshold=90").arg(scratch.join(&format!("callgrind.{operation}.300")));
    let done = run_limited("callgrind_annotate", command, LIMIT, &scratch.join("annotate.log"))?;
    Ok(done.output.lines().filter_map(share).filter(|(share, _)| share != "100.0%").take(most).collect())
}

/// `1,234 (12.34%)  file:function [object]`.
fn share(line: &str) -> Option<(String, String)> {
    let (_, rest) = line.split_once('(')?;
    let (share, rest) = rest.split_once(')')?;
    let name = rest.trim().split(" [").next()?;
    let name = name.split_once(':').map_or(name, |(_, name)| name);
    let known = share.trim().strip_suffix('%').is_some_and(|number| number.parse::<f64>().is_ok());
    (known && !name.is_empty()).then(|| (share.trim().to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_callgrind_prints_is_understood() {
        let line = " 1,234 (12.34%)  ./src/x.rs:lu_sbd::lu::Lu::submit [/target/release/lunette-bench]";
        assert_eq!(share(line), Some(("12.34%".into(), "lu_sbd::lu::Lu::submit".into())));
        assert_eq!(share("Ir (instructions)"), None);
        assert_eq!(total("x\ntotals: 815\n").unwrap(), 815);
    }
}

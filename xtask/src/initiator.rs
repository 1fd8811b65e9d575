//! The initiator against other people's targets and ours.

use crate::packages::Need;
use crate::process::run_limited;
use crate::report::{Tally, tail};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Logs in to a target with random parameters, again and again, and checks every byte of random I/O, with digests and
connections that break.

Usage: cargo xtask initiator-soak [OPTIONS]

Options:
  --seconds N      How long; default 20
  --target TARGET  tgt, istgt or lunette; may be given several times; default all three, one after the other
  --seed S         What the random numbers begin with; default 1

istgt takes about a second for each login. The long run, ten minutes and well over 1,000 logins: cargo xtask initiator-soak --seconds 200

Example: cargo xtask initiator-soak --target tgt --seconds 60 --seed 7
";

/// What there is to log in to, and what that needs.
const TARGETS: [(&str, Option<Need>); 3] = [("lunette", None), ("tgt", Some(Need::Tgt)), ("istgt", Some(Need::Istgt))];

/// Building, and what a run needs beside its time: a request may take 30 s until it counts as lost.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const SLACK: Duration = Duration::from_secs(120);

/// `cargo xtask initiator-soak`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut seconds, mut seed, mut targets) = (20, 1, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--seconds" => seconds = value()?.parse().context("--seconds takes a number")?,
            "--seed" => seed = value()?.parse().context("--seed takes a number")?,
            "--target" => targets.push(value()?.clone()),
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let tally = soak(&targets, seconds, seed)?;
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Targets that now and then leave a command unanswered, without a reset to explain it; see docs/compliance/initiator.md. They
/// get a second chance, said aloud: twice in a row would be ours.
const FORGETFUL: [&str; 1] = ["istgt"];

/// What the long run says of a command without an answer.
const UNANSWERED: &str = "was not answered within";

/// The step of the test run: what the client's tests ask of tgt and istgt, and a minute of the long run.
pub(crate) fn test() -> Result<Tally> {
    let mut tally = Tally::default();
    for (name, need) in TARGETS {
        let Some(need) = need else { continue };
        if let Some(reason) = need.missing() {
            println!("    skipped peers/{name}: {reason}");
            tally += Tally::SKIPPED;
            continue;
        }
        // Whole words of names: "tgt" is a part of "istgt".
        let tests = ["serves_us", "and_we_prove_ourselves_to_each_other"].map(|claim| format!("{name}_{claim}"));
        let words: Vec<&str> = ["--exact"].into_iter().chain(tests.iter().map(String::as_str)).collect();
        let finished = run("peers", &words, BUILD_LIMIT)?;
        let counted = Tally::of_libtest(&finished.0);
        if finished.1 && counted.passed > 0 {
            println!("    ok      peers/{name}: {counted}");
            tally += counted;
        } else {
            println!("    FAILED  peers/{name}\n{}", tail(&finished.0, 40, "            "));
            tally += Tally { failed: counted.failed.max(1), ..counted };
        }
    }
    tally += soak(&[], 20, 1)?;
    Ok(tally)
}

/// A line for each target; those named, or all.
fn soak(names: &[String], seconds: u64, seed: u64) -> Result<Tally> {
    if let Some(name) = names.iter().find(|name| TARGETS.iter().all(|target| target.0 != **name)) {
        bail!("no target '{name}'; there are tgt, istgt, lunette");
    }
    let mut tally = Tally::default();
    for (name, need) in TARGETS {
        if !names.is_empty() && names.iter().all(|wanted| wanted != name) {
            continue;
        }
        if let Some(reason) = need.and_then(Need::missing) {
            println!("    skipped soak/{name}: {reason}");
            tally += Tally::SKIPPED;
            continue;
        }
        let words =
            ["--target", name, "--seconds", &seconds.to_string(), "--seed", &seed.to_string()].map(str::to_owned);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let limit = BUILD_LIMIT + Duration::from_secs(seconds) + SLACK;
        let (mut said, mut success) = run("soak", &words, limit)?;
        if !success && FORGETFUL.contains(&name) && said.contains(UNANSWERED) {
            println!(
                "    again   soak/{name}: {}",
                said.lines().find(|line| line.contains(UNANSWERED)).unwrap_or_default()
            );
            (said, success) = run("soak", &words, limit)?;
        }
        if success {
            println!("    ok      soak/{}", said.lines().last().unwrap_or_default());
            tally += Tally::PASSED;
        } else {
            println!("    FAILED  soak/{name}\n{}", tail(&said, 20, "            "));
            tally += Tally::FAILED;
        }
    }
    Ok(tally)
}

/// Runs one of the client's tests that run by name only; what it said, and whether it succeeded.
fn run(test: &str, arguments: &[&str], limit: Duration) -> Result<(String, bool)> {
    let mut command = workspace::cargo();
    command.args(["test", "--quiet", "--package", "lunette-client", "--test", test, "--"]).args(arguments);
    let log = workspace::log_directory()?.join(format!("initiator-{test}.log"));
    let finished = run_limited("cargo test", command, limit, &log)?;
    let success = finished.success();
    Ok((finished.output, success))
}

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
  --seconds N    How long each target runs, in seconds (default 60)
  --list         Names of the targets

The committed corpora are where it starts; what it finds is kept in target/fuzz-corpus/ and serves the next run. A
finding stands in fuzz/artifacts/NAME/; put it into fuzz/corpus/NAME/ with the fix.

Example: cargo xtask fuzz --seconds 600 framer
";

/// `cargo xtask fuzz`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut seconds, mut names, mut list) = (60u64, Vec::new(), false);
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
    for name in all.iter().filter(|name| names.is_empty() || names.contains(name)) {
        let corpus = found.join(name);
        std::fs::create_dir_all(&corpus)?;
        // rustup picks the toolchain by the name it is given as an argument, which the cargo that runs us cannot.
        let mut command = tethered("cargo");
        command.args(["+nightly", "fuzz", "run", name]).arg(&corpus).arg(format!("corpus/{name}"));
        command.arg("--").args([&format!("-max_total_time={seconds}"), "-max_len=4096", "-timeout=10"]);
        command.current_dir(workspace::root().join("fuzz")).env_remove("RUSTUP_TOOLCHAIN").env_remove("CARGO");
        // Building comes first, and that may take long on the first run.
        let limit = Duration::from_secs(seconds + 1800);
        let finished = run_limited(name, command, limit, &logs.join(format!("fuzz-{name}.log")))?;
        if finished.success() {
            tally += Tally::PASSED;
            let done = finished.output.lines().rfind(|line| line.contains("DONE")).unwrap_or_default();
            println!("    ok      {name} ({}) {}", human(finished.elapsed), done.trim());
        } else {
            tally += Tally::FAILED;
            println!("    FAILED  {name} ({})\n{}", finished.verdict(), tail(&finished.output, 40, "            "));
        }
    }
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
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

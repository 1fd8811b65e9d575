//! `cargo xtask bench-loops`: the same target under different loops, by the same load: which interface of the system costs what
//! on the real protocol.

use crate::bench_peers::{self, Figures};
use crate::interop::target::free_portal;
use crate::process::{Running, run_limited, tethered};
use crate::scratch::Scratch;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::net::TcpStream;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
Measures the target under the server's own loop, over epoll and over io_uring, beside the same target in the loops of the
examples (compio; tokio's current-thread runtime; mio; threads of the standard library) and a server that is nothing but
TCP. Each has its turn in every round, in a process of its own; the table shows the middle of the rounds and, behind it, the
lowest and the highest.

Usage: cargo xtask bench-loops [--no-build] [--seconds S] [--rounds N]

Example: cargo xtask bench-loops --seconds 0.5 --rounds 5
";

const LIMIT: Duration = Duration::from_secs(60);

const WORKLOADS: [&str; 5] = ["read-4k-8x32", "read-4k-8x1", "read-4k-1x1", "read-64k-8x32", "write-64k-8x1"];

/// Rows of the table, in order: what `lunette-bench` serves, and examples of the facade.
const LOOPS: [(&str, Loop); 7] = [
    ("bare TCP", Loop::Bench("raw")),
    ("epoll", Loop::Bench("epoll")),
    ("io_uring", Loop::Bench("io_uring")),
    ("compio", Loop::Example("loop_compio")),
    ("tokio, current thread", Loop::Example("loop_tokio")),
    ("mio", Loop::Example("loop_mio")),
    ("threads and std", Loop::Example("loop_std")),
];

#[derive(Clone, Copy)]
enum Loop {
    Bench(&'static str),
    Example(&'static str),
}

/// `cargo xtask bench-loops`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut build, mut seconds, mut rounds) = (true, "1".to_owned(), 3);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--no-build" => build = false,
            "--seconds" => seconds = words.next().context("--seconds needs a value")?.clone(),
            "--rounds" => {
                let number = words.next().and_then(|word| word.parse().ok());
                rounds = number.filter(|rounds| *rounds > 0).context("--rounds needs a whole number from 1 on")?;
            }
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let logs = workspace::log_directory()?;
    let binary = bench_peers::build(build, &logs)?;
    let examples = workspace::target_directory()?.join("release").join("examples");
    if build {
        let mut command = workspace::cargo();
        command.args(["build", "--release", "--package", "lunette"]);
        for (_, one) in LOOPS {
            if let Loop::Example(example) = one {
                command.args(["--example", example]);
            }
        }
        let built = run_limited("cargo build", command, Duration::from_secs(1800), &logs.join("loops-build.log"))?;
        ensure!(built.success(), "they do not build: {}", built.output);
    }
    let scratch = Scratch::new("loops")?;
    let load = Load { binary: &binary, scratch: &scratch, seconds: &seconds };
    let mut results = vec![vec![Vec::new(); WORKLOADS.len()]; LOOPS.len()];
    for round in 1..=rounds {
        for ((name, one), results) in LOOPS.iter().zip(&mut results) {
            eprintln!("round {round} of {rounds}: {name}");
            let served = Served::start(*one, &binary, &examples, &scratch).with_context(|| (*name).to_owned())?;
            for (at, workload) in WORKLOADS.iter().enumerate() {
                results[at].push(load.run(&served, workload, at == 0).with_context(|| format!("{name}, {workload}"))?);
            }
        }
    }
    println!("| commands a CPU second | {} |\n|---|{}", WORKLOADS.join(" | "), "---:|".repeat(WORKLOADS.len()));
    for ((name, _), mut results) in LOOPS.into_iter().zip(results) {
        println!("| {name} | {} |", results.iter_mut().map(|rounds| cell(rounds)).collect::<Vec<_>>().join(" | "));
    }
    Ok(ExitCode::SUCCESS)
}

/// The middle of the rounds, and between what they lie.
fn cell(rounds: &mut [f64]) -> String {
    rounds.sort_by(f64::total_cmp);
    match &*rounds {
        [] => "-".to_owned(),
        [one] => format!("{one:.0}"),
        [first, .., last] => format!("{:.0} ({first:.0} - {last:.0})", rounds[rounds.len() / 2]),
    }
}

/// A running target.
struct Served {
    running: Running,
    portal: String,
    target: Option<String>,
}

impl Served {
    fn start(one: Loop, binary: &Path, examples: &Path, scratch: &Scratch) -> Result<Self> {
        let deadline = Instant::now() + LIMIT;
        let mut command = tethered("taskset");
        command.args(["-c", "0"]);
        match one {
            Loop::Bench(interface) => {
                let portal = free_portal()?;
                command.arg(binary);
                if interface == "raw" {
                    command.args(["raw", "--portal", &portal.to_string()]);
                } else {
                    command.args(["target", "--interface", interface, "--portal", &portal.to_string()]);
                }
                let running = Running::start(interface, command, &scratch.join(interface))?;
                while TcpStream::connect(portal).is_err() {
                    ensure!(Instant::now() < deadline, "it does not listen: {}", running.log());
                    std::thread::sleep(Duration::from_millis(10));
                }
                let target = (interface != "raw").then(|| "iqn.2026-11.org.lunette.bench:disk".to_owned());
                Ok(Self { running, portal: portal.to_string(), target })
            }
            Loop::Example(example) => {
                command.arg(examples.join(example));
                let running = Running::start(example, command, &scratch.join(example))?;
                loop {
                    // iscsi://ADDRESS:PORT/TARGET/0
                    let log = running.log();
                    let url = log.lines().find_map(|line| line.strip_prefix("iscsi://"));
                    if let Some((portal, target)) = url.and_then(|url| url.strip_suffix("/0")?.split_once('/')) {
                        let (portal, target) = (portal.to_owned(), Some(target.to_owned()));
                        return Ok(Self { running, portal, target });
                    }
                    ensure!(Instant::now() < deadline, "it tells no URL: {log}");
                    std::thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
}

struct Load<'a> {
    binary: &'a Path,
    scratch: &'a Scratch,
    seconds: &'a str,
}

impl Load<'_> {
    /// Commands for each second of the target's processor.
    fn run(&self, served: &Served, workload: &str, fill: bool) -> Result<f64> {
        let mut command = tethered(self.binary);
        command.args(["load", "--cpu", "1", "--seconds", self.seconds, "--portal", &served.portal]);
        // The disks of the examples have 64 MiB.
        command.args(["--pid", &served.running.id().to_string(), "--span-mib", "64"]);
        if let Some(target) = &served.target {
            command.args(["--iqn", target, "--lun", "0", "--fill", if fill { "true" } else { "false" }]);
        }
        command.arg(workload);
        let done = run_limited("load", command, LIMIT, &self.scratch.join("load.log"))?;
        let figures: Figures = bench_peers::parse(&done.output).with_context(|| done.verdict())?;
        figures.per_cpu_second().context("it used no processor time")
    }
}

#[cfg(test)]
mod tests {
    use super::cell;

    #[test]
    fn a_cell_tells_the_middle_and_the_ends() {
        assert_eq!(cell(&mut [3.0, 9.0, 1.0]), "3 (1 - 9)");
        assert_eq!(cell(&mut [5.4]), "5");
        assert_eq!(cell(&mut []), "-");
    }
}

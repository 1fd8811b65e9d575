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
examples (tokio's current-thread runtime; mio; threads of the standard library) and a server that is nothing but TCP.

Usage: cargo xtask bench-loops [--no-build] [--seconds S]
";

const LIMIT: Duration = Duration::from_secs(60);

const WORKLOADS: [&str; 5] = ["read-4k-8x32", "read-4k-8x1", "read-4k-1x1", "read-64k-8x32", "write-64k-8x1"];

const EXAMPLES: [(&str, &str); 3] =
    [("tokio, current thread", "loop_tokio"), ("mio", "loop_mio"), ("threads and std", "loop_std")];

/// `cargo xtask bench-loops`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut build, mut seconds) = (true, "1".to_owned());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--no-build" => build = false,
            "--seconds" => seconds = words.next().context("--seconds needs a value")?.clone(),
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let logs = workspace::log_directory()?;
    let binary = bench_peers::build(build, &logs)?;
    let examples = workspace::target_directory()?.join("release").join("examples");
    if build {
        let mut command = workspace::cargo();
        command.args(["build", "--release", "--package", "lunette"]);
        for (_, example) in EXAMPLES {
            command.args(["--example", example]);
        }
        let built = run_limited("cargo build", command, Duration::from_secs(1800), &logs.join("loops-build.log"))?;
        ensure!(built.success(), "they do not build: {}", built.output);
    }
    let scratch = Scratch::new("loops")?;
    println!("| commands a CPU second | {} |\n|---|{}", WORKLOADS.join(" | "), "---:|".repeat(WORKLOADS.len()));
    for interface in ["raw", "epoll", "io_uring"] {
        let portal = free_portal()?;
        let mut command = tethered("taskset");
        command.args(["-c", "0"]).arg(&binary);
        if interface == "raw" {
            command.args(["raw", "--portal", &portal.to_string()]);
        } else {
            command.args(["target", "--interface", interface, "--portal", &portal.to_string()]);
        }
        let running = Running::start(interface, command, &scratch.join(interface))?;
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(portal).is_err() {
            ensure!(Instant::now() < deadline, "{interface}: it does not listen: {}", running.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        let target = (interface != "raw").then_some("iqn.2026-11.org.lunette.bench:disk");
        row(interface, &binary, &scratch, &running, &portal.to_string(), target, &seconds)?;
    }
    for (name, example) in EXAMPLES {
        let mut command = tethered("taskset");
        command.args(["-c", "0"]).arg(examples.join(example));
        let running = Running::start(example, command, &scratch.join(example))?;
        let deadline = Instant::now() + LIMIT;
        let url = loop {
            // iscsi://ADDRESS:PORT/TARGET/0
            if let Some(url) = running.log().lines().find_map(|line| line.strip_prefix("iscsi://").map(str::to_owned)) {
                break url;
            }
            ensure!(Instant::now() < deadline, "{example}: it tells no URL: {}", running.log());
            std::thread::sleep(Duration::from_millis(10));
        };
        let mut parts = url.split('/');
        let (Some(portal), Some(target)) = (parts.next(), parts.next()) else { bail!("{example}: '{url}' is no URL") };
        row(name, &binary, &scratch, &running, portal, Some(target), &seconds)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// One line of the table: a target under all loads.
fn row(
    name: &str,
    binary: &Path,
    scratch: &Scratch,
    running: &Running,
    portal: &str,
    target: Option<&str>,
    seconds: &str,
) -> Result<()> {
    let mut line = format!("| {name} |");
    for (at, workload) in WORKLOADS.iter().enumerate() {
        let mut command = tethered(binary);
        command.args(["load", "--cpu", "1", "--seconds", seconds, "--portal", portal]);
        // The disks of the examples have 64 MiB.
        command.args(["--pid", &running.id().to_string(), "--span-mib", "64"]);
        if let Some(target) = target {
            command.args(["--iqn", target, "--lun", "0", "--fill", if at == 0 { "true" } else { "false" }]);
        }
        command.arg(workload);
        let done = run_limited("load", command, LIMIT, &scratch.join("load.log"))?;
        let figure = bench_peers::parse(&done.output).ok().and_then(|figures: Figures| figures.per_cpu_second());
        line += &figure.map_or(" - |".to_owned(), |figure| format!(" {figure:.0} |"));
    }
    println!("{line}");
    Ok(())
}

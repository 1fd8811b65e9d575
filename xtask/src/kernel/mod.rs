//! Debian's kernel with its open-iscsi and its FCoE in a virtual machine, against the server on this machine.
//!
//! Server and machine stand in a network namespace of their own with two addresses of a documentation network, so that
//! discovery gives addresses which the guest can reach and one of two paths can be pulled, while nothing of this machine's
//! network is touched.

mod boot_disk;
mod cable;
mod fcoe;
mod guest;
mod image;
mod lab;
mod qemu;
mod steps;
mod tools;
mod vhost;

use crate::packages::{self, Need};
use crate::process::{capture, find, tethered};
use crate::report::{Tally, human};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

const HELP: &str = "\
Boots Debian's kernel with open-iscsi, multipath-tools and fio in QEMU and lets it use the server.

Usage: cargo xtask kernel-test [--list] [--no-build] [NAME]...

NAME: only the steps whose names begin so. Most build on those before them; those of fcoe only on each other.

Everything comes from Debian packages, which are unpacked under the target directory and not installed. Takes root or
unprivileged user namespaces. LUNETTE_BIN names another binary than the one in the target directory.

Example: cargo xtask kernel-test
";

/// The inner part's argument: it runs in the namespace.
const INSIDE: &str = "--inside";

/// What the whole may take; each step has limits of its own.
const LIMIT: Duration = Duration::from_secs(15 * 60);

/// `cargo xtask kernel-test`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let mut build = true;
    let mut names = Vec::new();
    for argument in arguments {
        match argument.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => {
                for step in steps::STEPS {
                    println!("{:12} {}", step.name, step.claim);
                }
                return Ok(ExitCode::SUCCESS);
            }
            "--no-build" => build = false,
            INSIDE => return inside(&arguments[1..]),
            name if steps::STEPS.iter().any(|step| step.name.starts_with(name)) => names.push(name.to_owned()),
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    packages::install(&[Need::Kernel])?;
    if let Some(reason) = missing() {
        bail!("{reason}");
    }
    if build && std::env::var_os("LUNETTE_BIN").is_none() {
        let built = workspace::build_lunette(&workspace::log_directory()?.join("kernel-build.log"))?;
        if !built.success() {
            bail!("the server does not build:\n{}", built.output);
        }
    }
    let tally = match run(&names) {
        Ok(tally) => tally,
        Err(error) => match packages::without_archive(&error) {
            Some(reason) => {
                println!("skipped: {reason}");
                return Ok(ExitCode::SUCCESS);
            }
            None => return Err(error),
        },
    };
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the test cannot run here; `None` when it can.
pub(crate) fn missing() -> Option<String> {
    if let Some(reason) = Need::Kernel.missing() {
        return Some(reason);
    }
    for program in ["unshare", "ip", "apt-get", "dpkg-deb", "find"] {
        if find(program).is_none() {
            return Some(format!("no {program}"));
        }
    }
    let output = namespace().args(["ip", "link", "set", "lo", "up"]).output();
    match output {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(format!("no network namespace: {}", String::from_utf8_lossy(&output.stderr).trim())),
        Err(error) => Some(format!("no network namespace: {error}")),
    }
}

fn namespace() -> Command {
    let mut command = tethered("unshare");
    command.arg("--net");
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    command
}

/// Makes the image, runs the steps, all or those whose names begin so, and prints a line for each.
///
/// # Errors
/// [`packages::NoArchive`] when the image is to be made and there is nothing to make it of; what else fails.
pub(crate) fn run(names: &[String]) -> Result<Tally> {
    image::Image::make().context("cannot make the guest's image")?;
    qemu::fetch()?;
    let myself = std::env::current_exe().context("where is this program?")?;
    let mut command = namespace();
    command.arg(myself).args(["kernel-test", INSIDE]).args(names);
    // The namespace needs no second build and no cargo: everything that it uses is told to it here.
    command.env("LUNETTE_BIN", workspace::lunette_binary()?);
    command.stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().context("cannot start unshare")?;
    let output = child.stdout.take().context("no output")?;
    let reader = std::thread::spawn(move || {
        use std::io::BufRead;
        let mut tally = None;
        for line in std::io::BufReader::new(output).lines().map_while(Result::ok) {
            match line.strip_prefix("tally ") {
                Some(counts) => tally = parse(counts),
                None => println!("{line}"),
            }
        }
        tally
    });
    while child.try_wait()?.is_none() {
        if started.elapsed() > LIMIT {
            child.kill()?;
            child.wait()?;
            bail!("not done within {}", human(LIMIT));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let tally = reader.join().ok().flatten();
    tally.context("the part in the namespace ended without a result")
}

fn parse(counts: &str) -> Option<Tally> {
    let mut numbers = counts.split(' ').map(str::parse);
    let mut next = || numbers.next()?.ok();
    Some(Tally { passed: next()?, failed: next()?, skipped: next()? })
}

fn inside(names: &[String]) -> Result<ExitCode> {
    capture("ip", &["link", "set", "lo", "up"])?;
    let tally = steps::run(names);
    println!("tally {} {} {}", tally.passed, tally.failed, tally.skipped);
    Ok(ExitCode::SUCCESS)
}

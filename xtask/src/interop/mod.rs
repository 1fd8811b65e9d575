//! Real initiators against a real target process: libiscsi's tools, QEMU, and a hand-written initiator for what no
//! well-behaved program does.

mod bad_input;
mod chap;
mod clients;
mod crash;
mod isns;
mod load;
mod package;
mod radius;
mod reflink;
mod startup;
pub(crate) mod target;
mod wire;

use crate::packages::Need;
use crate::report::{Tally, human, tail};
use crate::workspace;
use anyhow::{Result, bail};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;
use target::Kind;

const HELP: &str = "\
Runs real initiators against a target and checks what they see.

Usage: cargo xtask interop [OPTIONS] [NAME]...

Arguments:
  [NAME]...        Only the checks whose name contains one of these

Options:
  --list           Names of the checks, and what each claims
  --target TARGET  lunette (default) or tgt, which shows whether a check is at fault
  --no-build       Take the binary as it is

LUNETTE_BIN names another binary than the one in the target directory.

Example: cargo xtask interop qemu chap
";

/// One claim about a target, and how to see whether it holds.
pub(crate) struct Check {
    pub(crate) name: &'static str,
    pub(crate) claim: &'static str,
    pub(crate) needs: &'static [Need],
    /// Whether it makes sense with a peer's target as well.
    pub(crate) peers: bool,
    pub(crate) run: fn(Kind) -> Result<()>,
}

/// Why a check could not be made; carried as an error so that `?` works.
#[derive(Debug)]
pub(crate) struct Skip(pub(crate) String);

impl fmt::Display for Skip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

/// All checks, in the order in which they run: the plain ones first, so that a broken server shows at once.
pub(crate) fn checks() -> Vec<Check> {
    [
        clients::CHECKS,
        chap::CHECKS,
        radius::CHECKS,
        isns::CHECKS,
        load::CHECKS,
        reflink::CHECKS,
        startup::CHECKS,
        crash::CHECKS,
        bad_input::CHECKS,
        package::CHECKS,
    ]
    .into_iter()
    .flat_map(all)
    .collect()
}

fn all(checks: &'static [Check]) -> impl Iterator<Item = Check> {
    checks.iter().map(|check| Check { ..*check })
}

/// `cargo xtask interop`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let mut kind = Kind::Lunette;
    let mut names = Vec::new();
    let mut build = true;
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => {
                for check in checks() {
                    println!("{:34} {}", check.name, check.claim);
                }
                return Ok(ExitCode::SUCCESS);
            }
            "--target" => kind = Kind::parse(words.next().map(String::as_str).unwrap_or_default())?,
            "--no-build" => build = false,
            option if option.starts_with('-') => bail!("no option '{option}'\n\n{HELP}"),
            name => names.push(name.to_owned()),
        }
    }
    if kind == Kind::Lunette && build && std::env::var_os("LUNETTE_BIN").is_none() {
        let log = workspace::log_directory()?.join("interop-build.log");
        let built = workspace::build_lunette(&log)?;
        if !built.success() {
            bail!("the server does not build:\n{}", tail(&built.output, 60, ""));
        }
    }
    let tally = run(kind, &names);
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Runs the checks whose name contains one of `names` (all without any) and prints a line for each.
pub(crate) fn run(kind: Kind, names: &[String]) -> Tally {
    let mut tally = Tally::default();
    for check in checks() {
        if !names.is_empty() && !names.iter().any(|name| check.name.contains(name.as_str())) {
            continue;
        }
        let started = Instant::now();
        let outcome = run_one(&check, kind);
        let time = human(started.elapsed());
        match outcome {
            Ok(()) => {
                tally += Tally::PASSED;
                println!("    ok      {} ({time})", check.name);
            }
            Err(error) => match error.downcast_ref::<Skip>() {
                Some(Skip(reason)) => {
                    tally += Tally::SKIPPED;
                    println!("    skipped {}: {reason}", check.name);
                }
                None => {
                    tally += Tally::FAILED;
                    println!("    FAILED  {} ({time}): {}", check.name, check.claim);
                    print!("{}", tail(&format!("{error:#}"), 40, "            "));
                }
            },
        }
    }
    tally
}

fn run_one(check: &Check, kind: Kind) -> Result<()> {
    if kind != Kind::Lunette && !check.peers {
        return Err(Skip(format!("says nothing about {}", kind.name())).into());
    }
    let peer: &[Need] = if kind == Kind::Tgt { &[Need::Tgt] } else { &[] };
    if let Some(reason) = check.needs.iter().chain(peer).find_map(|need| need.missing()) {
        return Err(Skip(reason).into());
    }
    catch_unwind(AssertUnwindSafe(|| (check.run)(kind))).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no words");
        bail!("the check itself panicked: {words}")
    })
}

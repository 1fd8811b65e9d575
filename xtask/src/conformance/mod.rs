//! `cargo xtask conformance`: libiscsi's own test suite against a target, and the table that says how each test ended.

mod disk;
pub(crate) mod suite;
mod table;

use crate::interop::target::Kind;
use crate::packages::Need;
use crate::report::{Tally, human, tail};
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;
use suite::{Run, Verdict};
use table::Table;

const HELP: &str = "\
Runs libiscsi's iscsi-test-cu, every test by itself under a timeout, and compares with the committed table.

Usage: cargo xtask conformance [OPTIONS] [NAME]...

Arguments:
  [NAME]...        Only the tests whose name contains one of these; shows what the suite said

Options:
  --target TARGET  lunette (default) or tgt
  --write          Write the table instead of comparing with it
  --no-build       Take the binary as it is

Ours is asked with every kind of LU that the suite has tests for, each behind a target of its own: thin and thick,
removable, of 4 KiB blocks, write-protected. Without --write, a test that ended worse than the table says fails the run. The tables stand in docs/compliance/; what
is written by hand below their line '## Notes' is kept.

Example: cargo xtask conformance --target tgt --write
";

/// `cargo xtask conformance`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut kind, mut write, mut build, mut names) = (Kind::Lunette, false, true, Vec::new());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--target" => kind = Kind::parse(words.next().map(String::as_str).unwrap_or_default())?,
            "--write" => write = true,
            "--no-build" => build = false,
            option if option.starts_with('-') => bail!("no option '{option}'\n\n{HELP}"),
            name => names.push(name.to_owned()),
        }
    }
    if let Some(reason) = missing(kind) {
        bail!("{reason}");
    }
    if kind == Kind::Lunette && build && std::env::var_os("LUNETTE_BIN").is_none() {
        let built = workspace::build_lunette(&workspace::log_directory()?.join("conformance-build.log"))?;
        if !built.success() {
            bail!("the server does not build:\n{}", tail(&built.output, 60, ""));
        }
    }
    if !names.is_empty() {
        return show(kind, &names);
    }
    if write {
        let run = suite::run(kind, &[])?;
        let path = table_path(kind);
        let table = Table::of(kind, &run);
        table.write(&path)?;
        println!("{}\nwritten to {}", table.summary(), path.display());
        return Ok(ExitCode::SUCCESS);
    }
    let tally = compare(kind)?;
    println!("{tally}");
    Ok(if tally.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why the suite cannot run against this target.
pub(crate) fn missing(kind: Kind) -> Option<String> {
    let peer = if kind == Kind::Tgt { Need::Tgt.missing() } else { None };
    Need::Libiscsi.missing().or(peer)
}

fn table_path(kind: Kind) -> PathBuf {
    workspace::root().join(format!("docs/compliance/iscsi-test-cu-{}.md", kind.name()))
}

/// Runs the tests that match and shows all that the suite said about those that did not pass.
fn show(kind: Kind, names: &[String]) -> Result<ExitCode> {
    let run = suite::run(kind, names)?;
    let mut code = ExitCode::SUCCESS;
    for name in run.names() {
        for (disk, result) in run.of(name) {
            println!("{name} on {}: {} ({})", disk.name, result.verdict, human(result.elapsed));
            if result.verdict != Verdict::Passed {
                print!("{}", tail(&result.output, 60, "    "));
            }
            if result.verdict > Verdict::Skipped {
                code = ExitCode::FAILURE;
            }
        }
    }
    Ok(code)
}

/// Runs the whole suite and compares with the committed table.
///
/// A test that ended worse is run once more before it counts, since a busy machine can make one late; it counts as
/// failed when it is worse again. In the tally each test counts once, with its total over the kinds of LU; what passes
/// on none today counts as skipped.
pub(crate) fn compare(kind: Kind) -> Result<Tally> {
    let path = table_path(kind);
    let expected = Table::read(&path)
        .with_context(|| format!("hint: cargo xtask conformance --target {} --write", kind.name()))?;
    let started = Instant::now();
    let mut run = suite::run(kind, &[])?;
    let mut tally = Tally::default();
    let mut better = Vec::new();
    for (disk, results) in &mut run.disks {
        for result in results {
            let Some(before) = expected.verdict(&result.name, disk.name) else {
                better.push(format!("{} on {} is not in the table", result.name, disk.name));
                continue;
            };
            if result.verdict < before {
                better.push(format!("{} on {}: {before} -> {}", result.name, disk.name, result.verdict));
            }
            if result.verdict <= before {
                continue;
            }
            let second = suite::run_on(kind, disk, &[format!("={}", result.name)])?.pop();
            match second {
                Some(second) if second.verdict <= before => {
                    let (first, then) = (result.verdict, second.verdict);
                    println!("    unsteady {} on {}: {first} at first, {then} when run again", result.name, disk.name);
                    *result = second;
                }
                _ => {
                    println!(
                        "    WORSE    {} on {}: {before} in the table, {} now",
                        result.name, disk.name, result.verdict
                    );
                    print!("{}", tail(&result.output, 12, "             "));
                    tally.failed += 1;
                }
            }
        }
    }
    let names = run.names();
    for name in expected.names().filter(|name| !names.contains(name.as_str())) {
        println!("    GONE     {name}: in the table, but the suite has no such test");
        tally.failed += 1;
    }
    for line in &better {
        println!("    better   {line}");
    }
    if !better.is_empty() {
        println!("    the table is behind: cargo xtask conformance --target {} --write", kind.name());
    }
    for name in &names {
        tally += if run.total(name) == Verdict::Passed { Tally::PASSED } else { Tally::SKIPPED };
    }
    let summary = Table::of(kind, &run).summary();
    println!("    iscsi-test-cu against {}: {summary} ({})", kind.name(), human(started.elapsed()));
    if kind == Kind::Lunette {
        tally.failed += standards(&run);
    }
    Ok(tally)
}

/// What holds for us whatever the table says.
fn standards(run: &Run) -> u32 {
    let mut failed = 0;
    for name in run.names() {
        let total = run.total(name);
        if total >= Verdict::Failed && name != IMPOSSIBLE {
            println!("    FAILED   {name} {total}: {}", run.reason(name));
            failed += 1;
        }
    }
    let passed = run.names().into_iter().filter(|name| run.total(name) == Verdict::Passed).count();
    if passed < PASSES_WANTED {
        println!("    FAILED   {passed} tests pass, {PASSES_WANTED} must");
        failed += 1;
    }
    failed
}

/// How many tests have to pass in total.
const PASSES_WANTED: usize = 220;

/// The test that no target passes: libiscsi 1.19 looks at a variable before its callback has set it.
const IMPOSSIBLE: &str = "ALL.iSCSITMF.LUNResetSimpleAsync";

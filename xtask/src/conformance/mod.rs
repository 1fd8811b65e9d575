//! `cargo xtask conformance`: libiscsi's own test suite against a target, and the table that says how each test ended.

mod suite;
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

Without --write, a test that ended worse than the table says fails the run. The tables stand in docs/compliance/; what
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
    for result in &run.results {
        println!("{} {} ({})", result.name, result.verdict, human(result.elapsed));
        if result.verdict != Verdict::Passed {
            print!("{}", tail(&result.output, 60, "    "));
        }
        if result.verdict > Verdict::Skipped {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Runs the whole suite and compares with the committed table.
///
/// A test that ended worse is run once more before it counts, since a busy machine can make one late; it counts as
/// failed when it is worse again. Tests that pass on nobody's side today count as skipped.
pub(crate) fn compare(kind: Kind) -> Result<Tally> {
    let path = table_path(kind);
    let expected = Table::read(&path)
        .with_context(|| format!("hint: cargo xtask conformance --target {} --write", kind.name()))?;
    let started = Instant::now();
    let mut run = suite::run(kind, &[])?;
    let mut tally = Tally::default();
    let (mut better, mut again) = (Vec::new(), Vec::new());
    for (index, result) in run.results.iter().enumerate() {
        match expected.verdict(&result.name) {
            Some(before) if result.verdict > before => again.push((index, before)),
            Some(before) if result.verdict < before => {
                better.push(format!("{} {before} -> {}", result.name, result.verdict))
            }
            Some(_) => {}
            None => better.push(format!("{} is not in the table", result.name)),
        }
    }
    for (index, before) in again {
        let first = &run.results[index];
        let name = first.name.clone();
        let second = suite::run(kind, &[format!("={name}")])?.results.pop();
        match second {
            Some(second) if second.verdict <= before => {
                println!("    unsteady {name}: {} at first, {} when run again", first.verdict, second.verdict);
                run.results[index] = second;
            }
            _ => {
                println!("    WORSE    {name}: {} in the table, {} now", before, first.verdict);
                print!("{}", tail(&first.output, 12, "             "));
                tally.failed += 1;
                run.results[index].worse = true;
            }
        }
    }
    for name in expected.names().filter(|name| run.results.iter().all(|result| result.name != **name)) {
        println!("    GONE     {name}: in the table, but the suite has no such test");
        tally.failed += 1;
    }
    for line in &better {
        println!("    better   {line}");
    }
    if !better.is_empty() {
        println!("    the table is behind: cargo xtask conformance --target {} --write", kind.name());
    }
    for result in run.results.iter().filter(|result| !result.worse) {
        tally += if result.verdict == Verdict::Passed { Tally::PASSED } else { Tally::SKIPPED };
    }
    println!("    iscsi-test-cu against {}: {} ({})", kind.name(), summary(&run), human(started.elapsed()));
    if kind == Kind::Lunette {
        tally.failed += standards(&run)?;
    }
    Ok(tally)
}

/// What holds for us whatever the table says: nothing hangs or crashes, and we pass more than Debian's tgt.
fn standards(run: &Run) -> Result<u32> {
    let mut failed = 0;
    for result in run.results.iter().filter(|result| result.verdict >= Verdict::Hung) {
        println!("    FAILED   {} {}: {}", result.name, result.verdict, result.reason);
        failed += 1;
    }
    let ours = run.results.iter().filter(|result| result.verdict == Verdict::Passed).count();
    let peers = Table::read(&table_path(Kind::Tgt))?.count(Verdict::Passed);
    if ours <= peers {
        println!("    FAILED   {ours} tests pass, and {peers} do with tgt");
        failed += 1;
    }
    Ok(failed)
}

fn summary(run: &Run) -> String {
    let count = |verdict| run.results.iter().filter(|result| result.verdict == verdict).count();
    let mut text = format!(
        "{} tests: {} passed, {} failed, {} skipped",
        run.results.len(),
        count(Verdict::Passed),
        count(Verdict::Failed),
        count(Verdict::Skipped)
    );
    text.push_str(&format!(", {} hung, {} crashed", count(Verdict::Hung), count(Verdict::Crashed)));
    text
}

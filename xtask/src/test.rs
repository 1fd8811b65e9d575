//! `cargo xtask test`: everything that must hold before a change lands, step by step.

use crate::interop::target::Kind;
use crate::packages::{self, Need};
use crate::process::{Finished, find, run_limited};
use crate::report::{Tally, gist, human, tail};
use crate::{c, conformance, initiator, interop, kernel, python, ram_disks, workspace};
use anyhow::{Context, Result, bail};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

const HELP: &str = "\
Installs what the tests need and runs everything.

Usage: cargo xtask test [OPTIONS]

Options:
  --list        Names of the steps
  --only STEP   Run only this step; may be given several times
  --skip STEP   Leave this step out; may be given several times
  --no-install  Install nothing; tests whose packages are missing are skipped, with the reason
  --any-seed    Property tests begin with random numbers that nobody has seen yet, not with those of every run

A run does the same each time, so that it blames a change only for what the change did. What chance finds is looked for
with --any-seed, the simulator (cargo run --release -p testkit --bin sim -- --help) and cargo xtask fuzz.

As root, missing Debian packages are installed by apt-get; otherwise the run says which ones to install and skips what
needs them. The last line is always 'N passed, N failed, N skipped'; the exit code is 0 when nothing failed.

Example: cargo xtask test --only clippy --only test
";

/// Compiling on a slow machine takes long, hanging for ever must not be possible.
const CARGO_LIMIT: Duration = Duration::from_secs(30 * 60);

/// What the property tests of every run begin with, and where proptest looks for it.
const PROPTEST_SEED: (&str, &str) = ("PROPTEST_RNG_SEED", "7143");

struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Shared) -> Result<Outcome>,
}

/// What the steps share.
struct Shared {
    logs: PathBuf,
    install: bool,
    any_seed: bool,
}

struct Outcome {
    tally: Tally,
    /// A few words behind the time; reasons for skips go here.
    note: String,
    /// What to show when something failed.
    details: String,
}

const STEPS: &[Step] = &[
    Step { name: "packages", about: "install what the tests use of Debian", run: packages_step },
    Step { name: "fmt", about: "cargo fmt --check", run: fmt },
    Step { name: "clippy", about: "clippy on all targets and on the fuzzers, warnings fail", run: clippy },
    Step { name: "features", about: "clippy on the server without each of its features", run: features },
    Step { name: "build", about: "the server and all tests, in the profile of the tests", run: build },
    Step { name: "test", about: "unit, vector, property and two-ended tests, and the fuzz corpora", run: test },
    Step {
        name: "mutations",
        about: "deliberate bugs in the target, each of which the simulator has to find",
        run: mutations,
    },
    Step { name: "python", about: "the Python package: pip install, pytest, stubs and types", run: python_step },
    Step { name: "c", about: "C programs against the library: sanitized, under valgrind, installed", run: c_step },
    Step {
        name: "ram-disks",
        about: "the small disks in Rust, Python and C: 60 libiscsi tests, QEMU",
        run: ram_disks_step,
    },
    Step {
        name: "initiator",
        about: "our initiator against tgt, istgt and ourselves, a minute of it",
        run: initiator_step,
    },
    Step { name: "doctest", about: "the examples in the documentation", run: doctest },
    Step { name: "doc", about: "the documentation itself, warnings fail", run: doc },
    Step { name: "bench", about: "every benchmark once, without measuring", run: bench },
    Step { name: "interop", about: "libiscsi, QEMU and a rude initiator against the server", run: interop_step },
    Step { name: "kernel", about: "the Linux kernel's initiator in QEMU against the server", run: kernel_step },
    Step {
        name: "conformance",
        about: "iscsi-test-cu against the server, compared with the table",
        run: conformance_step,
    },
];

/// `cargo xtask test`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut only, mut skip, mut install, mut any_seed) = (Vec::new(), Vec::new(), true, false);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--list" => {
                for step in STEPS {
                    println!("{:12} {}", step.name, step.about);
                }
                return Ok(ExitCode::SUCCESS);
            }
            "--only" => only.push(step_name(words.next())?),
            "--skip" => skip.push(step_name(words.next())?),
            "--no-install" => install = false,
            "--any-seed" => any_seed = true,
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let context = Shared { logs: workspace::log_directory()?, install, any_seed };
    let steps: Vec<&Step> = STEPS
        .iter()
        .filter(|step| (only.is_empty() || only.contains(&step.name)) && !skip.contains(&step.name))
        .collect();
    let started = Instant::now();
    let mut sum = Tally::default();
    let mut failures = String::new();
    for (index, step) in steps.iter().enumerate() {
        println!("[{}/{}] {}: {}", index + 1, steps.len(), step.name, step.about);
        std::io::stdout().flush()?;
        let began = Instant::now();
        let outcome = (step.run)(&context).unwrap_or_else(|error| Outcome {
            tally: Tally::FAILED,
            note: String::new(),
            details: format!("{error:#}\n"),
        });
        sum += outcome.tally;
        let word = match outcome.tally {
            Tally { failed: 1.., .. } => {
                failures.push_str(&format!("{} failed\n{}", step.name, gist(&outcome.details, 20)));
                "FAILED"
            }
            Tally { passed: 0, skipped: 1.., .. } => "skipped",
            _ => "ok",
        };
        let note = if outcome.note.is_empty() { String::new() } else { format!(": {}", outcome.note) };
        print!("{}", outcome.details);
        println!("    {word} in {}{note}", human(began.elapsed()));
    }
    print!("\n{failures}");
    println!("{} in all", human(started.elapsed()));
    println!("{sum}");
    Ok(if sum.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn step_name(word: Option<&String>) -> Result<&'static str> {
    let name = word.context("--only and --skip need the name of a step; --list shows them")?;
    let step = STEPS.iter().find(|step| step.name == name);
    step.map(|step| step.name).with_context(|| format!("no step '{name}'; --list shows them"))
}

fn passed(note: impl Into<String>) -> Outcome {
    Outcome { tally: Tally::PASSED, note: note.into(), details: String::new() }
}

fn skipped(reason: impl Into<String>) -> Outcome {
    Outcome { tally: Tally::SKIPPED, note: reason.into(), details: String::new() }
}

/// Runs cargo with its words in a log that is shown when it fails.
fn cargo(context: &Shared, step: &str, arguments: &[&str], flags: &[(&str, &str)]) -> Result<(Finished, PathBuf)> {
    let log = context.logs.join(format!("{step}.log"));
    let mut command = workspace::cargo();
    command.args(arguments).envs(flags.iter().copied()).env("CARGO_TERM_COLOR", "never");
    if !context.any_seed && std::env::var_os(PROPTEST_SEED.0).is_none() {
        command.env(PROPTEST_SEED.0, PROPTEST_SEED.1);
    }
    Ok((run_limited("cargo", command, CARGO_LIMIT, &log)?, log))
}

/// A step that is one cargo command and counts as one test.
fn single(context: &Shared, step: &str, arguments: &[&str], flags: &[(&str, &str)]) -> Result<Outcome> {
    let (finished, log) = cargo(context, step, arguments, flags)?;
    Ok(if finished.success() { passed("") } else { failure(Tally::FAILED, &finished, &log) })
}

fn failure(tally: Tally, finished: &Finished, log: &Path) -> Outcome {
    let note = format!("{}, all of it in {}", finished.verdict(), log.display());
    let telling = gist(&finished.output, 40).lines().map(|line| format!("    | {line}\n")).collect::<String>();
    Outcome { tally, note, details: format!("{telling}    | at its end:\n{}", tail(&finished.output, 60, "    | ")) }
}

/// A step that runs libtest and counts its tests.
fn counted(context: &Shared, step: &str, arguments: &[&str]) -> Result<Outcome> {
    let (finished, log) = cargo(context, step, arguments, &[])?;
    let mut tally = Tally::of_libtest(&finished.output);
    if finished.success() {
        return Ok(Outcome { tally, note: tally.to_string(), details: String::new() });
    }
    // What did not compile, or was killed, failed too, though libtest counted nothing.
    tally.failed = tally.failed.max(1);
    Ok(failure(tally, &finished, &log))
}

fn packages_step(context: &Shared) -> Result<Outcome> {
    let needs = [
        Need::Libiscsi,
        Need::Qemu,
        Need::C,
        Need::Tgt,
        Need::Istgt,
        Need::Python,
        Need::Freeradius,
        Need::Isns,
        Need::Kernel,
        Need::Xfs,
        Need::Strace,
        Need::Sg3Utils,
    ];
    let missing: Vec<String> = needs.iter().filter_map(|need| need.missing()).collect();
    if missing.is_empty() {
        return Ok(passed("all there"));
    }
    let root = rustix::process::geteuid().is_root();
    if !context.install || !root || find("apt-get").is_none() {
        let advice = packages::install_advice(&needs);
        return Ok(skipped(format!("{}\n    hint: {advice}", missing.join("; "))));
    }
    Ok(passed(packages::install(&needs)?.unwrap_or_default()))
}

fn fmt(context: &Shared) -> Result<Outcome> {
    single(context, "fmt", &["fmt", "--all", "--check", "--", "--color", "never"], &[])
}

fn clippy(context: &Shared) -> Result<Outcome> {
    let outcome =
        single(context, "clippy", &["clippy", "--workspace", "--all-targets", "--quiet", "--", "-Dwarnings"], &[])?;
    if outcome.tally.failed > 0 {
        return Ok(outcome);
    }
    // The fuzzers are a workspace of their own, which nothing else compiles; the runtime they link to is C++.
    if find("c++").is_none() {
        return Ok(Outcome { note: "without the fuzzers: no C++ compiler".into(), ..outcome });
    }
    let fuzzers = ["clippy", "--manifest-path", "fuzz/Cargo.toml", "--locked", "--quiet", "--", "-Dwarnings"];
    single(context, "clippy-fuzz", &fuzzers, &[])
}

/// What is built for those who leave a transport out; the whole workspace has them all.
fn features(context: &Shared) -> Result<Outcome> {
    let mut all = Outcome { tally: Tally::default(), note: String::new(), details: String::new() };
    for (log, chosen) in [("no-features", ""), ("feature-fcoe", "fcoe"), ("feature-vhost-user", "vhost-user")] {
        let package = ["clippy", "--package", "lunette-server", "--lib", "--bins", "--quiet"];
        let chosen = ["--no-default-features", "--features", chosen, "--", "-Dwarnings"];
        let outcome = single(context, log, &[&package[..], &chosen].concat(), &[])?;
        all.tally += outcome.tally;
        all.details.push_str(&outcome.details);
        if outcome.tally.failed > 0 {
            all.note = outcome.note;
        }
    }
    Ok(all)
}

fn build(context: &Shared) -> Result<Outcome> {
    // One command for the server and the tests: they share every dependency, and cargo keeps both cores busy.
    single(context, "build", &["test", "--workspace", "--no-run", "--quiet"], &[]).and_then(|outcome| {
        if outcome.tally.failed > 0 {
            return Ok(outcome);
        }
        single(context, "build", &["build", "--package", "lunette-server", "--bin", "lunette", "--quiet"], &[])
    })
}

fn test(context: &Shared) -> Result<Outcome> {
    let arguments = ["test", "--workspace", "--exclude", "lunette-ffi", "--lib", "--bins", "--tests", "--examples"];
    counted(context, "test", &[&arguments[..], &["--no-fail-fast"]].concat())
}

/// By itself: everything below the simulator is compiled anew with the bugs in it.
fn mutations(context: &Shared) -> Result<Outcome> {
    let arguments = ["test", "--package", "testkit", "--features", "mutations", "--test", "mutations"];
    counted(context, "mutations", &arguments)
}

/// By themselves: they start compilers and servers of their own, several at a time.
fn c_step(context: &Shared) -> Result<Outcome> {
    if find("cc").is_none() {
        return Ok(skipped("no C compiler"));
    }
    let mut outcome = counted(context, "c", &["test", "--package", "lunette-ffi", "--no-fail-fast"])?;
    if outcome.tally.failed == 0 {
        match c::try_installation() {
            Ok(None) => outcome.tally += Tally::PASSED,
            Ok(Some(reason)) => {
                outcome.tally += Tally::SKIPPED;
                outcome.note = format!("{}; not installed: {reason}", outcome.note);
            }
            Err(error) => {
                outcome.tally += Tally::FAILED;
                outcome.details = format!("{error:#}\n");
            }
        }
    }
    Ok(outcome)
}

fn python_step(_: &Shared) -> Result<Outcome> {
    Ok(match python::test()? {
        Ok((tally, details)) => Outcome { tally, note: tally.to_string(), details },
        Err(reason) => skipped(reason),
    })
}

fn ram_disks_step(_: &Shared) -> Result<Outcome> {
    let (tally, note, details) = ram_disks::run()?;
    Ok(Outcome { tally, note, details })
}

fn initiator_step(_: &Shared) -> Result<Outcome> {
    let tally = initiator::test()?;
    Ok(Outcome { tally, note: tally.to_string(), details: String::new() })
}

fn doctest(context: &Shared) -> Result<Outcome> {
    counted(context, "doctest", &["test", "--workspace", "--doc", "--no-fail-fast"])
}

fn doc(context: &Shared) -> Result<Outcome> {
    let arguments = ["doc", "--workspace", "--no-deps", "--quiet"];
    single(context, "doc", &arguments, &[("RUSTDOCFLAGS", "-Dwarnings")])
}

fn bench(context: &Shared) -> Result<Outcome> {
    let any = std::fs::read_dir(workspace::root())?
        .filter_map(|entry| entry.ok())
        .map(|entry| entry.path())
        .chain([workspace::root()])
        .any(|package| package.join("Cargo.toml").is_file() && package.join("benches").is_dir());
    if !any {
        return Ok(skipped("there are none"));
    }
    single(context, "bench", &["test", "--workspace", "--bench", "*", "--quiet"], &[])
}

fn interop_step(_: &Shared) -> Result<Outcome> {
    let tally = interop::run(Kind::Lunette, &[]);
    Ok(Outcome { tally, note: tally.to_string(), details: String::new() })
}

fn kernel_step(_: &Shared) -> Result<Outcome> {
    if let Some(reason) = kernel::missing() {
        return Ok(skipped(reason));
    }
    let tally = match kernel::run(&[]) {
        Ok(tally) => tally,
        Err(error) => return packages::without_archive(&error).map(skipped).ok_or(error),
    };
    Ok(Outcome { tally, note: tally.to_string(), details: String::new() })
}

fn conformance_step(_: &Shared) -> Result<Outcome> {
    if let Some(reason) = conformance::missing(Kind::Lunette) {
        return Ok(skipped(reason));
    }
    let tally = conformance::compare(Kind::Lunette)?;
    Ok(Outcome { tally, note: tally.to_string(), details: String::new() })
}

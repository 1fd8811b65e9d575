//! The Python package: its wheel, and its tests in an environment of their own.

use crate::process::{self, Finished, find, run_limited};
use crate::report::Tally;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const WHEEL_HELP: &str = "\
Builds the wheel of the Python package, optimised, into wheels/ of the target directory: one for every CPython from 3.11 on.

Usage: cargo xtask wheel

The tool that does it, maturin, is put into an environment in the target directory.

Example: cargo xtask wheel && pip install target/wheels/lunette-*.whl
";

const BENCH_HELP: &str = "\
Measures disks that are Python objects against a disk in memory, which runs no Python, and prints the ratios.

Usage: cargo xtask bench-python [--write]

Options:
  --write  Put the figures into docs/guide/python.md

Example: cargo xtask bench-python
";

/// Compiling the server optimised takes a while.
const BUILD_LIMIT: Duration = Duration::from_secs(30 * 60);
const INSTALL_LIMIT: Duration = Duration::from_secs(5 * 60);
const TEST_LIMIT: Duration = Duration::from_secs(10 * 60);

/// What the environment has beside the package.
const TOOLS: [&str; 4] = ["maturin>=1.7,<2", "mypy>=1.10", "pip>=23", "pytest>=8"];

/// Asks an interpreter whether it will do.
const PROBE: &str = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))";

/// An environment in the target directory.
struct Environment {
    python: PathBuf,
    logs: PathBuf,
}

/// Why the package cannot be built or tested here; `None` when it can.
pub(crate) fn missing() -> Option<String> {
    let probe = || {
        let mut command = Command::new("python3");
        command.args(["-c", PROBE]).stderr(std::process::Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    match find("python3") {
        Some(_) if probe() => None,
        _ => Some("no python3 from 3.11 on with venv: install the package python3-venv".into()),
    }
}

/// `cargo xtask wheel`.
pub(crate) fn wheel(arguments: &[String]) -> Result<ExitCode> {
    if !arguments.is_empty() {
        print!("{WHEEL_HELP}");
        let asked = arguments.iter().all(|word| word == "--help" || word == "-h");
        return Ok(if asked { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    if let Some(reason) = missing() {
        bail!(reason);
    }
    let directory = workspace::target_directory()?.join("wheels");
    let environment = Environment::make()?;
    let mut command = environment.command(&["-m", "maturin", "build", "--release", "--out"]);
    command.arg(&directory);
    let finished = environment.demand("wheel", command, BUILD_LIMIT)?;
    match finished.output.lines().find(|line| line.contains("Built wheel")) {
        Some(line) => println!("{line}"),
        None => println!("the wheel is in {}", directory.display()),
    }
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask bench-python`.
pub(crate) fn bench(arguments: &[String]) -> Result<ExitCode> {
    let write = match arguments {
        [] => false,
        [word] if word == "--write" => true,
        _ => {
            print!("{BENCH_HELP}");
            let asked = arguments.iter().all(|word| word == "--help" || word == "-h");
            return Ok(if asked { ExitCode::SUCCESS } else { ExitCode::from(2) });
        }
    };
    if let Some(reason) = missing() {
        bail!(reason);
    }
    let environment = Environment::make()?;
    environment.install("release")?;
    let mut command = Command::new(&environment.python);
    command.arg(workspace::root().join("python/benches/stores.py"));
    command.args(write.then_some("--write")).current_dir(&environment.logs);
    let status = command.status().context("cannot start the benchmark")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Builds and installs the package as `pip install .` does, then runs its tests and checks its types and stubs.
///
/// Gives the tally, and what to show of the failures. `Err` with the reason: the tools cannot be had, so that nothing was
/// tested.
pub(crate) fn test() -> Result<std::result::Result<(Tally, String), String>> {
    if let Some(reason) = missing() {
        return Ok(Err(reason));
    }
    let environment = match Environment::make() {
        Ok(environment) => environment,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    environment.install("dev")?;
    let root = workspace::root();
    let (mut tally, mut details) = (Tally::PASSED, String::new());
    let mut check = |name: &str, command: Command, count: fn(&Finished) -> Tally| -> Result<()> {
        let finished = environment.run(name, command, TEST_LIMIT)?;
        let counted = count(&finished);
        if counted.failed > 0 {
            details += &format!(
                "    {name}: {}\n{}",
                finished.verdict(),
                crate::report::tail(&finished.output, 120, "    | ")
            );
        }
        tally += counted;
        Ok(())
    };
    // Both outside of the sources: what is installed is what counts.
    let mut pytest = environment.command(&["-m", "pytest", "-p", "no:cacheprovider"]);
    pytest.arg(root.join("python/tests")).current_dir(&environment.logs).env("PYTHONDONTWRITEBYTECODE", "1");
    check("pytest", pytest, tally_of_pytest)?;
    let mut stubs = environment.command(&["-m", "mypy.stubtest", "lunette"]);
    stubs.current_dir(&environment.logs);
    check("stubtest", stubs, tally_of_status)?;
    let mut types = environment.command(&["-m", "mypy", "--strict", "--cache-dir=/dev/null", "-p", "lunette"]);
    types.current_dir(&environment.logs);
    check("mypy", types, tally_of_status)?;
    Ok(Ok((tally, details)))
}

/// An interpreter that has the package, in the profile of the tests; or why there is none.
pub(crate) fn interpreter() -> Result<std::result::Result<PathBuf, String>> {
    if let Some(reason) = missing() {
        return Ok(Err(reason));
    }
    let environment = match Environment::make() {
        Ok(environment) => environment,
        Err(error) => return Ok(Err(format!("{error:#}"))),
    };
    environment.install("dev")?;
    Ok(Ok(environment.python))
}

impl Environment {
    /// The environment in the target directory, with the tools; made, or mended, where it is not.
    fn make() -> Result<Self> {
        let target = workspace::target_directory()?;
        let (directory, logs) = (target.join("python"), workspace::log_directory()?);
        let this = Self { python: directory.join("bin/python"), logs };
        // One whose interpreter was removed meanwhile is made anew.
        let alive = Command::new(&this.python).args(["-c", PROBE]).status().is_ok_and(|status| status.success());
        if !alive {
            let mut command = process::tethered("python3");
            command.args(["-m", "venv", "--clear"]).arg(&directory);
            this.demand("venv", command, INSTALL_LIMIT)?;
        }
        let mut command = this.command(&["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
        command.args(TOOLS);
        this.demand("pip", command, INSTALL_LIMIT)?;
        Ok(this)
    }

    /// Does what `pip install .` does, in one of cargo's profiles, with the tools of the environment.
    fn install(&self, profile: &str) -> Result<()> {
        let arguments = ["-m", "pip", "install", "--disable-pip-version-check", "--no-build-isolation", "--no-deps"];
        let mut command = self.command(&arguments);
        command.args(["--no-index", "--force-reinstall", "."]);
        command.env("MATURIN_PEP517_ARGS", format!("--profile {profile}"));
        self.demand("pip-install", command, BUILD_LIMIT).map(drop)
    }

    /// The interpreter in the directory of the package, with cargo as it started us.
    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::tethered(&self.python);
        command.args(arguments).current_dir(workspace::root().join("python"));
        command.env("CARGO_TERM_COLOR", "never").env_remove("PYTHONPATH").env_remove("PYTHONHOME");
        // maturin is found beside the interpreter.
        let beside = self.python.parent().map(Path::to_path_buf);
        let path = std::env::var_os("PATH").unwrap_or_default();
        if let Ok(path) = std::env::join_paths(beside.into_iter().chain(std::env::split_paths(&path))) {
            command.env("PATH", path);
        }
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
                command.env_remove(name);
            }
        }
        command
    }

    fn run(&self, name: &str, command: Command, limit: Duration) -> Result<Finished> {
        run_limited(name, command, limit, &self.logs.join(format!("python-{name}.log")))
    }

    fn demand(&self, name: &str, command: Command, limit: Duration) -> Result<Finished> {
        let finished = self.run(name, command, limit)?;
        if !finished.success() {
            bail!("{name}: {}\n{}", finished.verdict(), crate::report::tail(&finished.output, 40, "    | "));
        }
        Ok(finished)
    }
}

fn tally_of_status(finished: &Finished) -> Tally {
    if finished.success() { Tally::PASSED } else { Tally::FAILED }
}

/// Reads pytest's last line: `3 failed, 20 passed, 1 skipped in 1.20s`.
fn tally_of_pytest(finished: &Finished) -> Tally {
    let mut tally = Tally::default();
    let last = finished.output.lines().rev().find(|line| line.contains(" in ")).unwrap_or_default();
    let words: Vec<&str> = last.split([' ', ',', '=']).filter(|word| !word.is_empty()).collect();
    for pair in words.windows(2) {
        let [number, word] = pair else { continue };
        let Ok(number) = number.parse::<u32>() else { continue };
        match *word {
            "passed" => tally.passed += number,
            "failed" | "error" | "errors" => tally.failed += number,
            "skipped" => tally.skipped += number,
            _ => {}
        }
    }
    if !finished.success() {
        tally.failed = tally.failed.max(1);
    }
    tally
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_of_pytest_is_counted() {
        let status = Command::new("true").status().ok();
        let output = "tests/a.py ...\n1 failed, 20 passed, 2 skipped, 1 error in 1.20s\n".to_owned();
        let finished = Finished { status, output, elapsed: Duration::ZERO };
        assert_eq!(tally_of_pytest(&finished), Tally { passed: 20, failed: 2, skipped: 2 });
    }
}

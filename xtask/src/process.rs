//! Programs under control: every one has a process group of its own and ends with its owner, whatever happens.

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process_group};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// Whether a program of this name stands in `PATH` or in the administrator's directories, which `PATH` of an ordinary
/// user leaves out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|directory| directory.join(program))
        .find(|candidate| candidate.is_file())
}

/// A command that the kernel kills when this process dies, so that an interrupted run leaves nothing behind.
///
/// `setpriv` of util-linux arms the parent death signal and then becomes the program. The signal follows the thread that
/// spawned the program, hence spawn from a thread that lives as long.
pub(crate) fn tethered(program: impl AsRef<OsStr>) -> Command {
    let mut command = if find("setpriv").is_some() {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(program.as_ref());
        command
    } else {
        Command::new(program.as_ref())
    };
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// A running program; dropping it kills its whole process group.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    name: String,
    log: PathBuf,
    ended: Option<ExitStatus>,
}

impl Running {
    /// Starts `command` with both its outputs in the file `log`.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = File::create(log).with_context(|| format!("cannot create '{}'", log.display()))?;
        let err = out.try_clone()?;
        command.stdout(out).stderr(err);
        let child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        Ok(Self { child, name: name.to_owned(), log: log.to_owned(), ended: None })
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the program has said so far.
    pub(crate) fn log(&self) -> String {
        read_lossy(&self.log)
    }

    /// The exit status when the program has ended.
    pub(crate) fn poll(&mut self) -> Option<ExitStatus> {
        if self.ended.is_none() {
            self.ended = self.child.try_wait().ok().flatten();
        }
        self.ended
    }

    /// Waits for the end, at most `limit`.
    pub(crate) fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        let deadline = Instant::now() + limit;
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(status) = self.poll() {
                return Some(status);
            }
            if Instant::now() >= deadline {
                return None;
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Sends `signal` to the program's whole group.
    pub(crate) fn signal(&self, signal: Signal) {
        if self.ended.is_none()
            && let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw)
        {
            let _ = kill_process_group(pid, signal);
        }
    }

    /// Kills without notice, as a power cut would from the program's point of view, and waits until it is gone.
    pub(crate) fn kill(&mut self) {
        self.signal(Signal::KILL);
        self.ended = self.ended.or_else(|| self.child.wait().ok());
    }

    /// Asks the program to end and gives its status.
    ///
    /// # Errors
    /// When it is still there after `limit`; then it is killed.
    pub(crate) fn terminate(&mut self, limit: Duration) -> Result<ExitStatus> {
        self.signal(Signal::TERM);
        match self.wait(limit) {
            Some(status) => Ok(status),
            None => {
                self.kill();
                bail!("{} did not end within {} s of SIGTERM and was killed", self.name, limit.as_secs())
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a command with a time limit ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// `None` when the limit was reached and the command was killed.
    pub(crate) status: Option<ExitStatus>,
    /// Standard output and error as they came.
    pub(crate) output: String,
    pub(crate) elapsed: Duration,
}

impl Finished {
    pub(crate) fn success(&self) -> bool {
        self.status.is_some_and(|status| status.success())
    }

    /// "exit code 3", "signal 11", "killed after 20 s".
    pub(crate) fn verdict(&self) -> String {
        match self.status {
            None => format!("killed after {:.0} s", self.elapsed.as_secs_f64()),
            Some(status) => match (status.code(), status.signal()) {
                (Some(code), _) => format!("exit code {code}"),
                (None, Some(signal)) => format!("signal {signal}"),
                (None, None) => status.to_string(),
            },
        }
    }
}

/// Runs `command` to its end or to `limit`; its group is killed then.
pub(crate) fn run_limited(name: &str, command: Command, limit: Duration, log: &Path) -> Result<Finished> {
    let started = Instant::now();
    let mut running = Running::start(name, command, log)?;
    let status = running.wait(limit);
    let elapsed = started.elapsed();
    // Also after an orderly end: what the command left in its group goes with it.
    running.kill();
    Ok(Finished { status, output: running.log(), elapsed })
}

/// Runs a short command and gives its standard output, or an error that says what it said.
pub(crate) fn capture(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start {program}"))?;
    if !output.status.success() {
        bail!(
            "'{program} {}' failed ({}): {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

pub(crate) fn read_lossy(path: &Path) -> String {
    std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::Scratch;

    fn shell(script: &str) -> Command {
        let mut command = tethered("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_past_its_limit_is_killed_with_its_children() {
        let scratch = Scratch::new("process").unwrap();
        let script = "sleep 100 & echo $!; wait";
        let finished = run_limited("sh", shell(script), Duration::from_millis(300), &scratch.join("log")).unwrap();
        assert!(finished.status.is_none(), "{finished:?}");
        let child = finished.output.trim().to_owned();
        // The child has no parent that reaps it at once, so it may be a zombie for a moment.
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            let stat = std::fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
            if stat.is_empty() || stat.contains(") Z ") {
                break;
            }
            assert!(Instant::now() < deadline, "sleep is still there: {stat}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    #[test]
    fn both_outputs_are_kept() {
        let scratch = Scratch::new("process").unwrap();
        let finished =
            run_limited("sh", shell("echo a; echo b >&2; exit 3"), Duration::from_secs(5), &scratch.join("log"))
                .unwrap();
        assert_eq!(finished.output, "a\nb\n");
        assert_eq!(finished.verdict(), "exit code 3");
    }
}

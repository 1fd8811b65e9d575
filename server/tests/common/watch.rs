//! strace beside a running server.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use super::Host;
use super::calls::{self, Call};
use super::crashed::{self, Tree};
use super::served::Served;

/// Why processes cannot be killed at a system call here.
pub(crate) fn unable() -> Option<String> {
    let tried = Command::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "inject=write:signal=KILL:when=1", "echo", "x"])
        .stdin(Stdio::null())
        .output();
    match tried {
        Err(error) => Some(format!("no strace: {error}")),
        Ok(output) if output.status.signal() == Some(9) && output.stdout.is_empty() => None,
        Ok(output) => Some(format!("strace cannot trace here: {}", String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// strace beside a server, watching from a moment on at which nothing goes on there.
pub(crate) struct Watch(Child);

impl Watch {
    pub(crate) fn attach(served: &Served, options: &[&str]) -> Self {
        let mut child = Command::new("strace")
            .args(["-f", "-e", "signal=none", "-p", &served.id().to_string()])
            .args(options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut words = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        while !line.contains("attached") {
            line.clear();
            assert!(words.read_line(&mut line).unwrap() > 0, "strace ended: {:?}", child.wait());
        }
        // Its further words are of no interest, but somebody has to take them.
        std::thread::spawn(move || words.read_to_end(&mut Vec::new()));
        Self(child)
    }
}

impl Watch {
    /// Leaves the server alone again.
    fn detach(self) {
        kill_process(Pid::from_child(&self.0), Signal::TERM).unwrap();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        // When the server is gone, strace is too.
        let _ = self.0.wait();
    }
}

/// What the server does to the files of the host until `work` has what it asked for, and the files before; those longer
/// than `longest` bytes left out.
pub(crate) fn recorded(host: &Host, served: &Served, longest: u64, work: impl FnOnce()) -> (Tree, Vec<Call>) {
    let (root, trace) = (host.path(), host.path().join("trace"));
    let before = crashed::tree(root, longest);
    let lengths: HashMap<PathBuf, u64> =
        crashed::tree(root, u64::MAX).into_iter().map(|(path, bytes)| (path, bytes.len() as u64)).collect();
    let traced = format!("trace={}", calls::TRACED);
    let options = ["-xx", "-s", "2000000", "-e", &traced, "-o", trace.to_str().unwrap()];
    let watch = Watch::attach(served, &options);
    let open = calls::open_files(served.id());
    work();
    // The server was held until strace had written down what came before its answer.
    let text = std::fs::read_to_string(&trace).unwrap();
    watch.detach();
    std::fs::remove_file(&trace).unwrap();
    let length = |path: &Path| lengths.get(path).copied();
    (before, calls::read(&text, root, length, open))
}

//! A host to run commands on: a state directory, links named as COMSTAR's commands, files for logical units.
#![allow(dead_code, reason = "each test file uses its part")]

pub(crate) mod calls;
pub(crate) mod changes;
pub(crate) mod crashed;
pub(crate) mod live;
pub(crate) mod served;
pub(crate) mod watch;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use lunette_server::admin::{Engine, ManagementServer, serve};

/// A host of its own.
pub(crate) struct Host {
    dir: tempfile::TempDir,
    server: Option<ManagementServer>,
}

/// What a command did.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: i32,
}

impl Host {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["lunette", "stmfadm", "sbdadm", "itadm", "fcinfo", "fcadm"] {
            std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lunette"), dir.path().join(name)).unwrap();
        }
        Self { dir, server: None }
    }

    /// The same, with a server of `live` objects behind the socket.
    pub(crate) fn with_server(live: Arc<live::Lab>) -> Self {
        let mut host = Self::new();
        host.start(live);
        host
    }

    pub(crate) fn start(&mut self, live: Arc<live::Lab>) {
        let mut engine = Engine::open(&self.state()).unwrap();
        live.load(engine.configuration());
        engine.attach(live);
        self.server = Some(serve(Arc::new(Mutex::new(engine)), &self.socket()).unwrap());
    }

    pub(crate) fn stop(&mut self) {
        self.server = None;
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.path().join("socket")
    }

    /// A sparse file, and its path as text.
    pub(crate) fn file(&self, name: &str, bytes: u64) -> String {
        let path = self.dir.path().join(name);
        std::fs::File::create(&path).unwrap().set_len(bytes).unwrap();
        path.display().to_string()
    }

    /// Runs a command line; words are separated by spaces.
    pub(crate) fn run(&self, line: &str) -> Outcome {
        self.run_with(line, "")
    }

    /// Runs a command line that reads `input`.
    pub(crate) fn run_with(&self, line: &str, input: &str) -> Outcome {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        let mut child = Command::new(self.dir.path().join(words.next().unwrap()))
            .args(words)
            .current_dir(self.dir.path())
            .env("LUNETTE_STATE", self.state())
            .env("LUNETTE_SOCKET", self.socket())
            .env("TZ", "UTC")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // A command that does not read its input may be gone before it is written.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        let output = child.wait_with_output().unwrap();
        Outcome {
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
            status: output.status.code().unwrap(),
        }
    }

    /// The command succeeds and says exactly this, nothing else.
    #[track_caller]
    pub(crate) fn prints(&self, line: &str, stdout: &str) {
        let outcome = self.run(line);
        let expected = Outcome { stdout: stdout.into(), stderr: String::new(), status: 0 };
        assert_eq!(outcome, expected, "{line}");
    }

    /// The command succeeds without a word.
    #[track_caller]
    pub(crate) fn silent(&self, line: &str) {
        self.prints(line, "");
    }

    /// The command succeeds; its stdout.
    #[track_caller]
    pub(crate) fn output(&self, line: &str) -> String {
        let outcome = self.run(line);
        assert_eq!(outcome.status, 0, "{line}: {outcome:?}");
        outcome.stdout
    }

    /// The command fails with this first line on stderr and this status; its stdout is empty.
    #[track_caller]
    pub(crate) fn fails(&self, line: &str, message: &str, status: i32) {
        let outcome = self.run(line);
        let first = outcome.stderr.lines().next().unwrap_or_default();
        assert_eq!((first, outcome.status, outcome.stdout.as_str()), (message, status, ""), "{line}: {outcome:?}");
        assert!(outcome.stderr.contains("\nhint: "), "no hint: {line}: {outcome:?}");
    }

    /// The command fails with this first line on stdout, followed by the usage, and status 1.
    #[track_caller]
    pub(crate) fn misused(&self, line: &str, message: &str) {
        let outcome = self.run(line);
        let first = outcome.stdout.lines().next().unwrap_or_default();
        assert_eq!((first, outcome.status), (message, 1), "{line}: {outcome:?}");
        assert!(outcome.stdout.contains("Usage:\t"), "{line}: {outcome:?}");
    }

    /// `itadm` is used wrongly: this on stderr, the usage on stdout, status 1.
    #[track_caller]
    pub(crate) fn itadm_misused(&self, line: &str, message: &str) {
        let outcome = self.run(line);
        assert_eq!((outcome.stderr.as_str(), outcome.status), (format!("{message}\n").as_str(), 1), "{line}");
        assert!(outcome.stdout.starts_with("usage: itadm "), "{line}: {outcome:?}");
    }

    /// `itadm` is used wrongly without a subcommand: this on stderr, the general usage on stdout, status 1.
    #[track_caller]
    pub(crate) fn itadm_misused_general(&self, line: &str, message: &str) {
        let outcome = self.run(line);
        assert_eq!((outcome.stderr.as_str(), outcome.status), (format!("{message}\n").as_str(), 1), "{line}");
        assert!(outcome.stdout.starts_with("usage: itadm <subcommand> <args> ...\n"), "{line}: {outcome:?}");
    }

    /// `itadm` refuses: this first on stderr, `failed with error` last, and that status.
    #[track_caller]
    pub(crate) fn itadm_fails(&self, line: &str, message: &str, error: i32) {
        let outcome = self.run(line);
        let sub = line.split(' ').nth(1).unwrap();
        assert!(outcome.stderr.starts_with(&format!("{message}\n")), "{line}: {outcome:?}");
        assert!(outcome.stderr.ends_with(&format!("itadm {sub} failed with error {error}\n")), "{line}: {outcome:?}");
        assert!(outcome.stderr.contains("\nhint: "), "no hint: {line}: {outcome:?}");
        assert_eq!((outcome.status, outcome.stdout.as_str()), (error, ""), "{line}: {outcome:?}");
    }

    /// Creates a logical unit of a sparse file with this name and gives its file's path.
    #[track_caller]
    pub(crate) fn lu(&self, name: &str, guid: &str) -> String {
        let file = self.file(name, 16 << 20);
        self.prints(
            &format!("stmfadm create-lu -p guid={guid} {file}"),
            &format!("Logical unit created: {}\n", guid.to_uppercase()),
        );
        file
    }
}

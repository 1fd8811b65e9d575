//! Building and running C programs against the library that cargo has just built.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// A directory with what was built, under the names that an installation has.
pub(crate) struct Scratch {
    directory: tempfile::TempDir,
}

/// How a program is built.
#[derive(Clone)]
pub(crate) struct Build {
    source: PathBuf,
    compiler: &'static str,
    flags: Vec<String>,
    statically: bool,
}

impl Build {
    pub(crate) fn c(source: &Path) -> Self {
        Self { source: source.into(), compiler: "cc", flags: vec!["-std=gnu11".into()], statically: false }
    }

    pub(crate) fn cpp(source: &Path) -> Self {
        let flags = vec!["-x".into(), "c++".into()];
        Self { source: source.into(), compiler: "c++", flags, statically: false }
    }

    pub(crate) fn flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.into());
        self
    }

    pub(crate) fn statically(mut self) -> Self {
        self.statically = true;
        self
    }
}

/// Whether a program is installed.
pub(crate) fn has(program: &str) -> bool {
    std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).any(|path| path.join(program).is_file())
}

pub(crate) fn manifest() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A library, made by cargo now: for a test it makes only those that Rust links, and these two are for C.
fn built(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        // TARGET/PROFILE/deps/THIS-TEST
        let test = std::env::current_exe().expect("the test has a path");
        let directory = test.ancestors().nth(2).expect("cargo's place of the profile").to_owned();
        let profile = match directory.file_name().and_then(|name| name.to_str()).expect("its name") {
            "debug" => "dev",
            other => other,
        };
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(["build", "--quiet", "--package", "lunette-ffi", "--lib", "--profile", profile]);
        command.arg("--target-dir").arg(directory.parent().expect("cargo's place")).current_dir(manifest());
        run(command, Duration::from_secs(1800));
        directory
    });
    let path = directory.join(name);
    assert!(path.is_file(), "cargo made no {}", path.display());
    path
}

impl Scratch {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let library = built("liblunette.so");
        for name in [Self::soname(), "liblunette.so".into()] {
            std::os::unix::fs::symlink(&library, directory.path().join(name)).expect("a link");
        }
        Self { directory }
    }

    pub(crate) fn soname() -> String {
        let part = |index| env!("CARGO_PKG_VERSION").split('.').nth(index).unwrap_or_default();
        format!("liblunette.so.{}.{}", part(0), part(1))
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn tests(&self) -> PathBuf {
        manifest().join("tests/c")
    }

    /// Builds a program; warnings are errors.
    pub(crate) fn build(&self, build: &Build) -> PathBuf {
        let (mut command, program) = self.compiler(build);
        let output = command.output().unwrap_or_else(|error| panic!("{}: {error}", build.compiler));
        assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        program
    }

    pub(crate) fn compiles(&self, build: &Build) -> bool {
        self.compiler(build).0.output().is_ok_and(|output| output.status.success())
    }

    pub(crate) fn sanitizer_works(&self) -> bool {
        static WORKS: OnceLock<bool> = OnceLock::new();
        *WORKS.get_or_init(|| {
            self.compiles(&Build::c(&self.tests().join("header.c")).flag("-fsanitize=address,undefined"))
        })
    }

    fn compiler(&self, build: &Build) -> (Command, PathBuf) {
        let name = build.source.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let program = self.path().join(name);
        let mut command = Command::new(build.compiler);
        command.args(["-g", "-O1", "-Wall", "-Wextra", "-Wshadow", "-Werror"]).args(&build.flags);
        if build.compiler == "cc" {
            command.args(["-Wstrict-prototypes", "-Wno-missing-field-initializers"]);
        }
        command.arg("-I").arg(manifest().join("include")).arg(&build.source);
        if build.compiler == "c++" {
            // What follows is no source.
            command.args(["-x", "none"]);
        }
        if build.statically {
            command.arg(built("liblunette.a")).args(["-lm", "-ldl", "-lgcc_s"]);
        } else {
            command.arg("-L").arg(self.path()).arg("-llunette");
        }
        command.arg("-pthread").arg("-o").arg(&program);
        (command, program)
    }

    pub(crate) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        self.environment(&mut command);
        command
    }

    pub(crate) fn environment(&self, command: &mut Command) {
        command.env("LD_LIBRARY_PATH", self.path());
        command.env("ASAN_OPTIONS", "detect_leaks=1:abort_on_error=0");
    }
}

/// Runs a program to its end; gives what it said on both outputs.
pub(crate) fn run(mut command: Command, limit: Duration) -> String {
    let log = tempfile::NamedTempFile::new().expect("a file");
    // Both outputs go to the end of one file.
    let both = || fs::OpenOptions::new().append(true).open(log.path()).expect("a file");
    command.stdin(Stdio::null()).stdout(both()).stderr(both());
    let mut child = Kill(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    let deadline = Instant::now() + limit;
    let status = loop {
        match child.0.try_wait().expect("a child can be waited for") {
            Some(status) => break Some(status),
            None if Instant::now() >= deadline => break None,
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let said = fs::read(log.path()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(status.is_some_and(|status| status.success()), "{command:?} ended with {status:?}:\n{said}");
    said
}

/// A child that does not outlive its test.
pub(crate) struct Kill(pub Child);

impl Drop for Kill {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The first line that a child says.
pub(crate) fn first_line(child: &mut Child) -> String {
    let mut line = Vec::new();
    let out = child.stdout.as_mut().expect("its output is a pipe");
    let mut byte = [0];
    while out.read(&mut byte).is_ok_and(|n| n == 1) && byte[0] != b'\n' {
        line.push(byte[0]);
    }
    String::from_utf8(line).expect("text")
}

//! The C interface: the header made anew, the library installed, and both tried.

use crate::process::{self, Finished, capture, find, run_limited};
use crate::scratch::Scratch;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(30 * 60);

const HEADER_HELP: &str = "\
Makes ffi/include/lunette.h anew from the source. The tests hold the two against each other.

Usage: cargo xtask header

Example: cargo xtask header
";

const INSTALL_HELP: &str = "\
Builds the C library and installs it: header, shared and static library, pkg-config file. cargo-c does the same.

Usage: cargo xtask install-c [OPTIONS]

Options:
  --prefix DIRECTORY   Where programs will find it; default /usr/local
  --destdir DIRECTORY  Put in front of every path, for packagers
  --profile PROFILE    Cargo's profile; default release

Example: cargo xtask install-c --prefix ~/.local
";

/// `cargo xtask header`.
pub(crate) fn header(arguments: &[String]) -> Result<ExitCode> {
    if !arguments.is_empty() {
        print!("{HEADER_HELP}");
        let asked = arguments.iter().all(|word| word == "--help" || word == "-h");
        return Ok(if asked { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    let mut command = workspace::cargo();
    command.args(["test", "--package", "lunette-ffi", "--test", "header", "--quiet"]).env("LUNETTE_UPDATE_HEADER", "1");
    let log = workspace::log_directory()?.join("header.log");
    demand("cargo test", run_limited("cargo test", command, LIMIT, &log)?)?;
    println!("ffi/include/lunette.h is that of the source");
    Ok(ExitCode::SUCCESS)
}

/// `cargo xtask install-c`.
pub(crate) fn install_command(arguments: &[String]) -> Result<ExitCode> {
    let (mut prefix, mut destination, mut profile) = (PathBuf::from("/usr/local"), None, "release".to_owned());
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        let mut value = || words.next().with_context(|| format!("{word} needs a value"));
        match word.as_str() {
            "--help" | "-h" => {
                print!("{INSTALL_HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--prefix" => prefix = std::path::absolute(value()?)?,
            "--destdir" => destination = Some(std::path::absolute(value()?)?),
            "--profile" => profile = value()?.clone(),
            other => bail!("no option '{other}'\n\n{INSTALL_HELP}"),
        }
    }
    for path in install(&prefix, destination.as_deref(), &profile)? {
        println!("{}", path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// Installs to `prefix`, below `destination` if there is one; tells what.
fn install(prefix: &Path, destination: Option<&Path>, profile: &str) -> Result<Vec<PathBuf>> {
    let mut command = workspace::cargo();
    command.args(["build", "--package", "lunette-ffi", "--lib", "--profile", profile, "--quiet"]);
    let log = workspace::log_directory()?.join("install-c.log");
    demand("cargo build", run_limited("cargo build", command, LIMIT, &log)?)?;
    // Cargo's own name of the directory of the profile dev.
    let built = workspace::target_directory()?.join(if profile == "dev" { "debug" } else { profile });
    let place = |path: PathBuf| match destination {
        Some(destination) => destination.join(path.strip_prefix("/").unwrap_or(&path)),
        None => path,
    };
    let (include, libraries) = (place(prefix.join("include")), place(prefix.join("lib")));
    let configuration = libraries.join("pkgconfig");
    for directory in [&include, &libraries, &configuration] {
        fs::create_dir_all(directory).with_context(|| format!("cannot create '{}'", directory.display()))?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let interface: String = version.split('.').take(2).collect::<Vec<_>>().join(".");
    let (full, soname) = (format!("liblunette.so.{version}"), format!("liblunette.so.{interface}"));
    let header = workspace::root().join("ffi/include/lunette.h");
    let files = [
        (header, include.join("lunette.h")),
        (built.join("liblunette.so"), libraries.join(&full)),
        (built.join("liblunette.a"), libraries.join("liblunette.a")),
    ];
    let mut installed = Vec::new();
    for (from, to) in files {
        // A program that runs keeps the file it has.
        let _ = fs::remove_file(&to);
        fs::copy(&from, &to).with_context(|| format!("cannot copy '{}' to '{}'", from.display(), to.display()))?;
        installed.push(to);
    }
    for (name, target) in [(&soname, &full), (&"liblunette.so".to_owned(), &soname)] {
        let link = libraries.join(name);
        let _ = fs::remove_file(&link);
        symlink(target, &link).with_context(|| format!("cannot link '{}'", link.display()))?;
        installed.push(link);
    }
    let text = format!(
        "prefix={}\nincludedir=${{prefix}}/include\nlibdir=${{prefix}}/lib\n\n\
         Name: lunette\nDescription: A SCSI target to embed, and an initiator\nVersion: {version}\n\
         Cflags: -I${{includedir}}\nLibs: -L${{libdir}} -llunette\nLibs.private: -lgcc_s -lutil -lrt -lpthread -lm -ldl -lc\n",
        prefix.display()
    );
    let file = configuration.join("lunette.pc");
    fs::write(&file, text).with_context(|| format!("cannot write '{}'", file.display()))?;
    installed.push(file);
    Ok(installed)
}

/// Installs to a directory that does not stay, and builds and starts a program the way a user would. Says why if it
/// cannot be tried.
pub(crate) fn try_installation() -> Result<Option<String>> {
    if find("pkg-config").is_none() || find("cc").is_none() {
        return Ok(Some("no pkg-config or no C compiler".into()));
    }
    let scratch = Scratch::new("c")?;
    let mut command = program(&workspace::root().join("ffi/tests/c/header.c"), &scratch)?;
    let status = command.status().context("cannot start the program that was built")?;
    if !status.success() {
        bail!("a program built against the installed library ended with {status}");
    }
    Ok(None)
}

/// Installs the library into `scratch`, and builds a program there the way a user would.
pub(crate) fn program(source: &Path, scratch: &Scratch) -> Result<Command> {
    let prefix = scratch.join("prefix");
    install(&prefix, None, "dev")?;
    let output = Command::new("pkg-config")
        .args(["--cflags", "--libs", "lunette"])
        .env("PKG_CONFIG_PATH", prefix.join("lib/pkgconfig"))
        .output()
        .context("cannot start pkg-config")?;
    let flags = String::from_utf8_lossy(&output.stdout).into_owned();
    let program = scratch.join("program");
    let mut words: Vec<&str> = vec![path_text(source)?, "-o", path_text(&program)?];
    words.extend(flags.split_whitespace());
    capture("cc", &words)?;
    let mut command = process::tethered(&program);
    command.env("LD_LIBRARY_PATH", prefix.join("lib"));
    Ok(command)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("'{}' is not UTF-8", path.display()))
}

fn demand(name: &str, finished: Finished) -> Result<()> {
    if finished.success() {
        return Ok(());
    }
    bail!("{name} {}\n{}", finished.verdict(), finished.output)
}

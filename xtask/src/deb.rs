//! `cargo deb`: the Debian package, by dpkg-deb from what stands in `packaging/`.
//!
//! The tool of that name packs files that are there; the manual pages and completions are made by the program that is
//! packed, and its commands are links. So the command is our own, and needs nothing that Debian does not have.

use crate::process::{capture, find, run_limited};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

const HELP: &str = "\
Makes the Debian package of the server.

Usage: cargo deb [OPTIONS]

Options:
  --out DIR      Where to put it; the target directory if missing
  --binary PATH  Pack this program instead of building one in the release profile

Example: cargo deb --out /tmp
";

/// Names of the commands that are links to the program.
pub(crate) const LINKS: [&str; 5] = ["stmfadm", "sbdadm", "itadm", "fcinfo", "fcadm"];

/// `cargo deb`, or `cargo xtask deb`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    let (mut out, mut binary) = (None, None);
    let mut words = arguments.iter();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--help" | "-h" => {
                print!("{HELP}");
                return Ok(ExitCode::SUCCESS);
            }
            "--out" => out = Some(PathBuf::from(words.next().context("--out needs a directory")?)),
            "--binary" => binary = Some(PathBuf::from(words.next().context("--binary needs a path")?)),
            other => bail!("no option '{other}'\n\n{HELP}"),
        }
    }
    let out = match out {
        Some(out) => out,
        None => workspace::target_directory()?,
    };
    let binary = match binary {
        Some(binary) => binary,
        None => build()?,
    };
    let package = make(&binary, env!("CARGO_PKG_VERSION"), &out, "xz")?;
    println!("{}", package.display());
    Ok(ExitCode::SUCCESS)
}

fn build() -> Result<PathBuf> {
    let mut command = workspace::cargo();
    command.args(["build", "--release", "--package", "lunette-server", "--bin", "lunette"]);
    let log = workspace::log_directory()?.join("deb.log");
    let built = run_limited("cargo build", command, Duration::from_secs(30 * 60), &log)?;
    ensure!(built.success(), "the server does not build:\n{}", built.output);
    Ok(workspace::target_directory()?.join("release").join("lunette"))
}

/// Packs `binary` as this version, compressed as dpkg-deb's `-Z` says (`none` is fast), and gives the package's path in `out`.
pub(crate) fn make(binary: &Path, version: &str, out: &Path, compression: &str) -> Result<PathBuf> {
    ensure!(find("dpkg-deb").is_some(), "no dpkg-deb: Debian packages are made on Debian");
    let architecture = capture("dpkg", &["--print-architecture"])?.trim().to_owned();
    let tree = out.join(format!("lunette-{version}-tree"));
    if tree.exists() {
        std::fs::remove_dir_all(&tree)?;
    }
    let tree = Tree(tree);
    let packaging = workspace::root().join("packaging");
    tree.copy(binary, "usr/bin/lunette", 0o755)?;
    for link in LINKS {
        let path = tree.place(&format!("usr/sbin/{link}"))?;
        symlink("../bin/lunette", path)?;
    }
    tree.copy(&packaging.join("lunette.service"), "lib/systemd/system/lunette.service", 0o644)?;
    tree.copy(&packaging.join("lunette.socket"), "lib/systemd/system/lunette.socket", 0o644)?;
    tree.copy(&packaging.join("lunette.sysusers"), "usr/lib/sysusers.d/lunette.conf", 0o644)?;
    tree.copy(&packaging.join("lunette.default"), "etc/default/lunette", 0o644)?;
    for licence in ["LICENSE-MIT", "LICENSE-APACHE"] {
        tree.copy(&workspace::root().join(licence), &format!("usr/share/doc/lunette/{licence}"), 0o644)?;
    }
    tree.write(
        "usr/share/doc/lunette/copyright",
        "Lunette is licensed under either of the Apache License 2.0 or the MIT license, at your option:\n\
         /usr/share/doc/lunette/LICENSE-APACHE, /usr/share/doc/lunette/LICENSE-MIT.\n",
        0o644,
    )?;
    pages(binary, &tree)?;
    completions(binary, &tree)?;
    for script in ["postinst", "prerm", "postrm"] {
        tree.copy(&packaging.join("debian").join(script), &format!("DEBIAN/{script}"), 0o755)?;
    }
    tree.write("DEBIAN/conffiles", "/etc/default/lunette\n", 0o644)?;
    let libc = "libc6 (>= 2.34), libgcc-s1, passwd | systemd";
    tree.write(
        "DEBIAN/control",
        &format!(
            "Package: lunette\nVersion: {version}\nArchitecture: {architecture}\nMaintainer: The Lunette maintainers \
             <maintainers@lunette.example>\nDepends: {libc}\nSection: admin\nPriority: optional\nDescription: SCSI target \
             in user space, administered as COMSTAR\n Serves files and block devices over iSCSI. Host groups, target \
             groups and views decide who\n sees which logical unit; stmfadm, sbdadm and itadm administer it.\n"
        ),
        0o644,
    )?;
    let package = out.join(format!("lunette_{version}_{architecture}.deb"));
    let (from, to) = (tree.0.display().to_string(), package.display().to_string());
    capture("dpkg-deb", &["--root-owner-group", &format!("-Z{compression}"), "--build", &from, &to])?;
    Ok(package)
}

fn pages(binary: &Path, tree: &Tree) -> Result<()> {
    let made = tree.0.join("pages");
    let output = Command::new(binary).arg("man").arg(&made).output()?;
    ensure!(output.status.success(), "lunette man: {}", String::from_utf8_lossy(&output.stderr));
    for entry in std::fs::read_dir(&made)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let section = name.rsplit('.').next().unwrap_or("1").to_owned();
        tree.copy(&path, &format!("usr/share/man/man{section}/{name}"), 0o644)?;
    }
    Ok(std::fs::remove_dir_all(made)?)
}

/// One script a shell, and links to it by the names that the shells look for.
fn completions(binary: &Path, tree: &Tree) -> Result<()> {
    for (shell, directory, ending, prefix) in [
        ("bash", "usr/share/bash-completion/completions", "", ""),
        ("zsh", "usr/share/zsh/vendor-completions", "", "_"),
        ("fish", "usr/share/fish/vendor_completions.d", ".fish", ""),
    ] {
        let output = Command::new(binary).args(["completions", shell]).output()?;
        ensure!(output.status.success(), "lunette completions {shell} failed");
        let script = format!("{prefix}lunette{ending}");
        tree.write(&format!("{directory}/{script}"), &String::from_utf8_lossy(&output.stdout), 0o644)?;
        for link in LINKS.iter().filter(|_| shell != "zsh") {
            symlink(&script, tree.place(&format!("{directory}/{prefix}{link}{ending}"))?)?;
        }
    }
    Ok(())
}

/// The files of the package; removed when it is made.
struct Tree(PathBuf);

impl Tree {
    fn place(&self, path: &str) -> Result<PathBuf> {
        let path = self.0.join(path);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        Ok(path)
    }

    fn copy(&self, from: &Path, to: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        std::fs::copy(from, &to).with_context(|| format!("cannot pack '{}'", from.display()))?;
        Ok(std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?)
    }

    fn write(&self, to: &str, text: &str, mode: u32) -> Result<()> {
        let to = self.place(to)?;
        std::fs::write(&to, text)?;
        Ok(std::fs::set_permissions(to, std::fs::Permissions::from_mode(mode))?)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

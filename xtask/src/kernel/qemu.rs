//! The emulators: the system's own, and one that connects again to a vhost-user-scsi server that went away.
//!
//! QEMU does that since 8.2. Where the system's is older, the one of Debian's backports is fetched and unpacked under the
//! target directory, with package lists of its own: neither the system's packages nor its sources are touched.

use crate::process::{capture, find, tethered};
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first version that connects again.
const RECONNECTS: (u32, u32) = (8, 2);

/// What is fetched; the libraries are those that the system's own emulator brought.
const PACKAGES: [&str; 4] = ["qemu-system-x86", "qemu-system-common", "qemu-system-data", "seabios"];

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// The file that keeps why there is none.
const REASON: &str = "reason";

/// An emulator of a PC.
#[derive(Debug, Clone)]
pub(super) struct Qemu {
    program: PathBuf,
    /// Where firmware is looked for, before the places it looks at anyway.
    data: Vec<PathBuf>,
}

impl Qemu {
    /// The system's.
    pub(super) fn system() -> Result<Self> {
        let program = find("qemu-system-x86_64");
        let program = program.context("no qemu-system-x86_64: install the package qemu-system-x86")?;
        Ok(Self { program, data: Vec::new() })
    }

    /// The one that [`fetch`] found or unpacked.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn reconnecting() -> Result<Self> {
        if let Ok(system) = Self::system()
            && system.version()? >= RECONNECTS
        {
            return Ok(system);
        }
        let place = place()?;
        if let Ok(reason) = fs::read_to_string(place.join(REASON)) {
            bail!("{reason}");
        }
        let root = place.join("root");
        let program = root.join("usr/bin/qemu-system-x86_64");
        let data = ["usr/share/qemu", "usr/share/seabios"].map(|data| root.join(data)).to_vec();
        let qemu = Self { program, data };
        let version = qemu.version()?;
        ensure!(version >= RECONNECTS, "Debian's backports have QEMU {}.{}, which is too old", version.0, version.1);
        Ok(qemu)
    }

    /// A command that ends with this program.
    pub(super) fn command(&self) -> Command {
        let mut command = tethered(&self.program);
        for data in &self.data {
            command.arg("-L").arg(data);
        }
        command
    }

    fn version(&self) -> Result<(u32, u32)> {
        let said = capture(&self.program.display().to_string(), &["--version"])?;
        parse(&said).with_context(|| format!("what version is this: {said}"))
    }
}

fn parse(said: &str) -> Option<(u32, u32)> {
    let version = said.split_whitespace().skip_while(|word| *word != "version").nth(1)?;
    let mut numbers = version.split('.').map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn place() -> Result<PathBuf> {
    Ok(workspace::target_directory()?.join("xtask").join("qemu"))
}

/// Fetches what [`Qemu::reconnecting`] gives, unless it is there; why that fails is kept for it to say.
pub(super) fn fetch() -> Result<()> {
    if Qemu::reconnecting().is_ok() {
        return Ok(());
    }
    let place = place()?;
    let _ = fs::remove_dir_all(&place);
    fs::create_dir_all(&place).with_context(|| format!("cannot create '{}'", place.display()))?;
    if let Err(error) = unpack(&place) {
        fs::write(place.join(REASON), format!("QEMU before 8.2 here, and no newer one can be fetched: {error:#}"))?;
    }
    Ok(())
}

fn unpack(place: &Path) -> Result<()> {
    let listed = capture("apt-get", &["indextargets", "--format", "$(REPO_URI) $(CODENAME)"])?;
    let release = fs::read_to_string("/etc/os-release")?;
    let release = release.lines().find_map(|line| line.strip_prefix("VERSION_CODENAME="));
    let release = release.context("this system has no code name")?;
    // The mirror that the system uses.
    let mirror = listed.lines().find_map(|line| line.strip_suffix(release)?.strip_suffix(' '));
    let mirror = mirror.with_context(|| format!("apt has no source of {release} itself"))?;
    let backports = format!("{release}-backports");
    let sources = place.join("sources.list");
    fs::write(&sources, format!("deb [signed-by={KEYRING}] {mirror} {backports} main\n"))?;
    for directory in ["lists/partial", "cache/archives/partial", "packages", "root"] {
        fs::create_dir_all(place.join(directory))?;
    }
    let apt = |arguments: &[&str]| -> Result<()> {
        let mut command = Command::new("timeout");
        command.args(["120", "apt-get", "--quiet", "--quiet", "-o", "Dir::Etc::sourceparts=/dev/null"]);
        command.args(["-o", "Acquire::Languages=none", "-o", "APT::Get::List-Cleanup=0"]);
        for (option, file) in [("Etc::sourcelist", "sources.list"), ("State::lists", "lists"), ("Cache", "cache")] {
            command.arg("-o").arg(format!("Dir::{option}={}", place.join(file).display()));
        }
        let output = command.args(arguments).current_dir(place.join("packages")).output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "'apt-get {}' failed: {}", arguments.join(" "), words.trim());
        Ok(())
    };
    apt(&["update"])?;
    let wanted = PACKAGES.map(|package| format!("{package}/{backports}"));
    let mut download = vec!["download"];
    download.extend(wanted.iter().map(String::as_str));
    apt(&download)?;
    let root = place.join("root").display().to_string();
    for entry in fs::read_dir(place.join("packages"))? {
        capture("dpkg-deb", &["--extract", &entry?.path().display().to_string(), &root])?;
    }
    fs::remove_dir_all(place.join("packages"))?;
    // What the loader says when a library is missing is the reason then.
    Qemu::reconnecting().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read() {
        assert_eq!(parse("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n"), Some((7, 2)));
        assert_eq!(parse("QEMU emulator version 10.0.2 (Debian)\n"), Some((10, 0)));
        assert_eq!(parse("qemu"), None);
    }
}

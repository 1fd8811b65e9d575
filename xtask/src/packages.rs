//! Debian packages that the tests need: looked for, and installed where that is possible.

use crate::process::{capture, find};
use crate::python;
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::{Command, Stdio};

/// There is no archive to take packages from: what needs them cannot be done here, and is no failure of anybody's.
#[derive(Debug)]
pub(crate) struct NoArchive(String);

impl std::fmt::Display for NoArchive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for NoArchive {}

/// Why what ended with this error cannot be done here, if that is for want of an archive; any other error is a failure.
pub(crate) fn without_archive(error: &anyhow::Error) -> Option<String> {
    error.chain().find_map(|cause| cause.downcast_ref::<NoArchive>()).map(ToString::to_string)
}

/// What apt says of an archive that cannot be reached. That it has not what is asked for (404) is another matter.
const UNREACHABLE: [&str; 9] = [
    "Temporary failure resolving",
    "Could not resolve",
    "Could not connect",
    "Unable to connect",
    "Cannot initiate the connection",
    "Connection failed",
    "Connection timed out",
    "Network is unreachable",
    "No route to host",
];

/// Whether apt's words say that it reached nothing of what it wanted: the first line of those that do.
fn unreachable(words: &str) -> Option<&str> {
    let mut failed = words.lines().filter(|line| line.contains("Failed to fetch"));
    let is_unreachable = |line: &&str| UNREACHABLE.iter().any(|reason| line.contains(reason));
    failed.clone().all(|line| is_unreachable(&line)).then(|| failed.next())?.map(str::trim)
}

/// What the tests use of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// `iscsi-inq` and its brothers, and `iscsi-test-cu`.
    Libiscsi,
    /// `qemu-img` and `qemu-io` with the iSCSI driver.
    Qemu,
    /// `python3` with `venv`, to build and test the Python package.
    Python,
    /// The RADIUS server.
    Freeradius,
    /// The iSNS server and its control program.
    Isns,
    /// `mkfs.xfs`, for a file system with reflinks.
    Xfs,
    /// Debian's user-space target, the peer that we measure ourselves against; only where it is asked for.
    Tgt,
    /// QEMU's whole machine, and what makes an initramfs for it.
    Kernel,
    /// Another one of Debian's, for the same purpose.
    Istgt,
    /// `strace`, by which the server is killed at each of its writes.
    Strace,
    /// Compilers for C and C++, valgrind and pkg-config.
    C,
    /// `sg_vpd` and its brothers, which decode what a unit answers.
    Sg3Utils,
}

impl Need {
    fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Libiscsi => &["libiscsi-bin"],
            // The driver is a module that QEMU loads only from a package of its very own version.
            Self::Qemu => &["qemu-utils", "qemu-block-extra"],
            Self::Python => &["python3-venv"],
            Self::Freeradius => &["freeradius"],
            Self::Isns => &["open-isns-server", "open-isns-utils"],
            Self::Xfs => &["xfsprogs"],
            Self::Tgt => &["tgt"],
            Self::Istgt => &["istgt"],
            Self::Strace => &["strace"],
            Self::Sg3Utils => &["sg3-utils"],
            Self::C => &["gcc", "g++", "libc6-dev", "valgrind", "pkgconf"],
            Self::Kernel => &["qemu-system-x86", "cpio", "kmod", "iproute2"],
        }
    }

    /// Says why tests with this need cannot run now; `None` when they can.
    pub(crate) fn missing(self) -> Option<String> {
        match self {
            Self::Libiscsi => missing_program("iscsi-test-cu", "libiscsi-bin"),
            Self::Qemu => missing_program("qemu-img", "qemu-utils").or_else(qemu_without_iscsi),
            Self::Python => python::missing(),
            Self::Freeradius => missing_program("freeradius", "freeradius"),
            Self::Isns => {
                missing_program("isnsd", "open-isns-server").or_else(|| missing_program("isnsadm", "open-isns-utils"))
            }
            Self::Xfs => missing_program("mkfs.xfs", "xfsprogs"),
            Self::Tgt => missing_program("tgtd", "tgt"),
            Self::Istgt => missing_program("istgt", "istgt"),
            Self::Strace => missing_program("strace", "strace"),
            Self::Sg3Utils => missing_program("sg_vpd", "sg3-utils"),
            Self::C => [("cc", "gcc"), ("c++", "g++"), ("valgrind", "valgrind"), ("pkg-config", "pkgconf")]
                .into_iter()
                .find_map(|(program, package)| missing_program(program, package)),
            Self::Kernel => missing_program("qemu-system-x86_64", "qemu-system-x86")
                .or_else(|| missing_program("cpio", "cpio"))
                .or_else(|| missing_program("depmod", "kmod"))
                .or_else(|| missing_program("ip", "iproute2")),
        }
    }
}

fn missing_program(program: &str, package: &str) -> Option<String> {
    find(program).is_none().then(|| format!("no {program}: install the package {package}"))
}

/// Asks QEMU itself: naming a dead portal fails either way, but with other words.
fn qemu_without_iscsi() -> Option<String> {
    let probe = ["info", "iscsi://127.0.0.1:1/iqn.2026-11.org.lunette:probe/0"];
    let output = Command::new("qemu-img").args(probe).stdin(Stdio::null()).output().ok()?;
    let output = String::from_utf8_lossy(&output.stderr);
    if !output.contains("Unknown protocol") && !output.contains("Unknown driver") && !output.contains("module") {
        return None;
    }
    let utils = installed("qemu-utils").unwrap_or_else(|| "no".into());
    let extra = installed("qemu-block-extra").unwrap_or_else(|| "no".into());
    Some(format!(
        "qemu-img knows no iscsi: install qemu-utils and qemu-block-extra of one version \
         (here {utils} and {extra})"
    ))
}

fn installed(package: &str) -> Option<String> {
    let text = capture("dpkg-query", &["-W", "-f", "${db:Status-Status} ${Version}", package]).ok()?;
    text.strip_prefix("installed ").map(str::to_owned)
}

/// The newest version that an archive has; `None` when it knows the package from no archive.
///
/// A version that only dpkg knows (priority 100, "now") is no candidate of an archive, hence the list of `madison`.
fn archived(package: &str) -> Option<String> {
    newest_of(&capture("apt-cache", &["madison", package]).ok()?, package)
}

/// What `madison` says of a package first, which is the newest.
fn newest_of(listed: &str, package: &str) -> Option<String> {
    listed.lines().find_map(|line| {
        let mut columns = line.split('|').map(str::trim);
        (columns.next()? == package).then(|| columns.next().map(str::to_owned))?
    })
}

/// Packages as apt takes them, `NAME=VERSION`, each in the newest version that an archive has: the one that is installed,
/// which apt would take otherwise, may have gone from all archives.
///
/// # Errors
/// When no archive has one of them.
pub(crate) fn in_archive<'a>(packages: impl IntoIterator<Item = &'a str>) -> Result<Vec<String>> {
    let names: Vec<&str> = packages.into_iter().collect();
    let listed = capture("apt-cache", &[&["madison"][..], &names].concat())?;
    let versioned = names.iter().map(|name| {
        let version = newest_of(&listed, name);
        let version = version.with_context(|| format!("no archive of apt's sources has the package {name}"))?;
        Ok(format!("{name}={version}"))
    });
    versioned.collect()
}

/// Has apt know its archives.
///
/// # Errors
/// [`NoArchive`] when it has none or reaches none; what apt-get says.
pub(crate) fn learn_archives() -> Result<()> {
    apt(&["update"])?;
    if capture("apt-get", &["indextargets", "--format", "$(URI)"])?.trim().is_empty() {
        return Err(NoArchive("apt has no archive in its sources".into()).into());
    }
    Ok(())
}

/// Downloads packages into a directory; nothing is installed.
///
/// # Errors
/// [`NoArchive`] when none can be reached; when no archive has one of them, and what apt-get says.
pub(crate) fn download<'a>(packages: impl IntoIterator<Item = &'a str> + Clone, into: &Path) -> Result<()> {
    let fetch = || {
        let names = in_archive(packages.clone())?;
        run_apt(Command::new("apt-get").arg("download").args(names).current_dir(into))
    };
    fetch().or_else(|error| {
        // Lists older than the archive name files that are gone; only root can renew them.
        apt(&["update"]).map_err(|_| error)?;
        fetch()
    })
}

/// Installs what `needs` lack.
///
/// Gives one sentence about what was done, or nothing when nothing was missing.
///
/// # Errors
/// When something is missing and cannot be installed: not root, no apt, no archive. The message names the packages.
pub(crate) fn install(needs: &[Need]) -> Result<Option<String>> {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| need.missing().is_some()).collect();
    if missing.is_empty() {
        return Ok(None);
    }
    let names: Vec<&str> = missing.iter().flat_map(|need| need.packages()).copied().collect();
    if find("apt-get").is_none() {
        bail!("missing: {}; this system has no apt-get to install them with", names.join(" "));
    }
    if !rustix::process::geteuid().is_root() {
        bail!("missing: {}\nhint: {}", names.join(" "), install_advice(&missing));
    }
    if names.iter().any(|name| archived(name).is_none()) {
        apt(&["update"])?;
    }
    let wanted = versioned(&missing)?;
    let mut arguments = vec!["install", "--yes", "--no-install-recommends", "--allow-downgrades"];
    arguments.extend(wanted.iter().map(String::as_str));
    if apt(&arguments).is_err() {
        // Lists older than the archive name files that are gone.
        apt(&["update"])?;
        let wanted = versioned(&missing)?;
        arguments.truncate(4);
        arguments.extend(wanted.iter().map(String::as_str));
        apt(&arguments)?;
    }
    for need in &missing {
        if let Some(reason) = need.missing() {
            bail!("apt-get succeeded, yet {reason}");
        }
    }
    Ok(Some(format!("installed {}", wanted.join(" "))))
}

/// The packages as apt takes them. QEMU's pair gets the driver's version, since an archive has the driver in its own
/// release only, while a newer qemu-utils may have come from a backport.
fn versioned(needs: &[Need]) -> Result<Vec<String>> {
    let mut wanted = Vec::new();
    for need in needs {
        match need {
            Need::Qemu => {
                let version = archived("qemu-block-extra")
                    .context("apt knows no qemu-block-extra: is a Debian archive in its sources?")?;
                wanted.extend(need.packages().iter().map(|name| format!("{name}={version}")));
            }
            _ => wanted.extend(need.packages().iter().map(|name| (*name).to_owned())),
        }
    }
    Ok(wanted)
}

/// The command that installs what `needs` lack, for people who are not root here.
pub(crate) fn install_advice(needs: &[Need]) -> String {
    let missing: Vec<Need> = needs.iter().copied().filter(|need| need.missing().is_some()).collect();
    let names = versioned(&missing)
        .unwrap_or_else(|_| missing.iter().flat_map(|need| need.packages()).map(|name| (*name).to_owned()).collect());
    format!("sudo apt-get install --allow-downgrades {}", names.join(" "))
}

fn apt(arguments: &[&str]) -> Result<()> {
    run_apt(Command::new("apt-get").args(arguments))
}

fn run_apt(command: &mut Command) -> Result<()> {
    let output = command
        // Another apt at work is waited for; a service that a package brings is not our business to start, but
        // invoke-rc.d decides that, not apt.
        .args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0", "-qq"])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .output()
        .context("cannot start apt-get")?;
    let said = String::from_utf8_lossy(&output.stderr);
    // An update that reaches nothing ends well, with warnings.
    if let Some(line) = unreachable(&said) {
        return Err(NoArchive(format!("no archive of apt's sources can be reached: {line}")).into());
    }
    if !output.status.success() {
        let words: Vec<_> =
            command.get_args().take_while(|word| *word != "-o").map(|word| word.to_string_lossy()).collect();
        bail!("'apt-get {}' failed: {}", words.join(" "), said.trim());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_that_cannot_be_reached_is_told_from_one_that_lacks_a_package() {
        let name =
            "E: Failed to fetch http://deb.example/debian/pool/f/fio.deb  Temporary failure resolving 'deb.example'";
        let port = "W: Failed to fetch http://127.0.0.1:9/dists/x/InRelease  Could not connect to 127.0.0.1:9 (127.0.0.1). - \
                    connect (111: Connection refused)";
        let gone = "E: Failed to fetch http://deb.example/debian/pool/f/fio.deb  404  Not Found [IP: 192.0.2.7 80]";
        let some = "E: Unable to fetch some archives, maybe run apt-get update or try with --fix-missing?";
        assert_eq!(unreachable(&format!("{name}\n{port}\n{some}\n")), Some(name));
        assert_eq!(unreachable(port), Some(port));
        for words in [gone, some, "", &format!("{name}\n{gone}\n"), "E: Unable to locate package fioo"] {
            assert_eq!(unreachable(words), None, "{words}");
        }
    }

    #[test]
    fn only_the_want_of_an_archive_is_a_reason_to_skip() {
        let none = || anyhow::Error::from(NoArchive("no archive".into()));
        let around = none().context("cannot download").context("cannot make the guest's image");
        assert_eq!(without_archive(&none()).as_deref(), Some("no archive"));
        assert_eq!(without_archive(&around).as_deref(), Some("no archive"));
        for other in ["no archive", "'apt-get download fio=1' failed: 404"] {
            assert_eq!(without_archive(&anyhow::anyhow!("{other}").context("cannot make the guest's image")), None);
        }
    }

    #[test]
    fn the_newest_version_of_an_archive_is_the_first_that_is_listed() {
        let listed = " linux-image | 6.1.172-1 | http://archive.example bookworm-security/main amd64 Packages\n \
                      linux-image | 6.1.170-3 | http://archive.example bookworm/main amd64 Packages\n\
                      libpcre2-8-0 |    10.42-1 | http://archive.example bookworm/main amd64 Packages\n";
        assert_eq!(newest_of(listed, "linux-image").as_deref(), Some("6.1.172-1"));
        assert_eq!(newest_of(listed, "libpcre2-8-0").as_deref(), Some("10.42-1"));
        assert_eq!(newest_of(listed, "libpcre2"), None);
    }
}

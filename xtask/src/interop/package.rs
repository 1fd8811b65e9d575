//! The Debian package: installed, started, upgraded, removed on this very system.

use super::target::{Kind, free_portal, lunette};
use super::{Check, Skip};
use crate::deb;
use crate::process::{Running, capture, find, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

const STATE: &str = "/var/lib/lunette";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "package/units",
        claim: "systemd finds nothing wrong with the service and the socket",
        needs: &[],
        peers: false,
        run: units,
    },
    Check {
        name: "package/install",
        claim: "the package installs with its links, runs as its own user, keeps the configuration over an upgrade and a \
                removal, and takes everything along when it is purged",
        needs: &[],
        peers: false,
        run: install,
    },
];

fn skip(reason: impl Into<String>) -> anyhow::Error {
    Skip(reason.into()).into()
}

fn units(_: Kind) -> Result<()> {
    let program = find("systemd-analyze").ok_or_else(|| skip("no systemd-analyze: install the package systemd"))?;
    let scratch = Scratch::new("units")?;
    let packaging = crate::workspace::root().join("packaging");
    // The units name a program that is not installed here, and the verifier looks for it.
    for unit in ["lunette.service", "lunette.socket"] {
        let text = std::fs::read_to_string(packaging.join(unit))?;
        let binary = lunette()?.display().to_string();
        std::fs::write(scratch.join(unit), text.replace("/usr/bin/lunette", &binary))?;
    }
    let output = std::process::Command::new(program)
        .args(["verify", "--man=no"])
        .args(["lunette.service", "lunette.socket"].map(|unit| scratch.join(unit)))
        .output()?;
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    let ours: Vec<&str> = words.lines().filter(|line| line.contains("lunette")).collect();
    ensure!(ours.is_empty(), "systemd-analyze verify says:\n{}", ours.join("\n"));
    Ok(())
}

/// Removes what a check that failed half way has left installed.
struct Installed;

impl Drop for Installed {
    fn drop(&mut self) {
        let _ = capture("dpkg", &["--purge", "lunette"]);
    }
}

fn install(_: Kind) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        return Err(skip("only root installs packages"));
    }
    for program in ["dpkg", "dpkg-deb", "setpriv"] {
        find(program).ok_or_else(|| skip(format!("no {program}")))?;
    }
    if Path::new("/run/systemd/system").exists() {
        return Err(skip("this system runs systemd: it is somebody's machine, and the package would start a service"));
    }
    let present = capture("dpkg-query", &["-W", "-f", "${db:Status-Status}", "lunette"]).unwrap_or_default();
    if (!present.is_empty() && present != "not-installed") || Path::new(STATE).exists() {
        return Err(skip("lunette is installed here, or its state is"));
    }
    let scratch = Scratch::new("package")?;
    let out = scratch.join("");
    let first = deb::make(&lunette()?, "0.1.0~test1", &out, "none")?;
    let second = deb::make(&lunette()?, "0.1.0~test2", &out, "none")?;
    let _installed = Installed;
    capture("dpkg", &["--install", &first.display().to_string()])?;
    for link in deb::LINKS {
        let target = std::fs::read_link(format!("/usr/sbin/{link}")).with_context(|| format!("/usr/sbin/{link}"))?;
        ensure!(target == Path::new("../bin/lunette"), "{link} leads to {}", target.display());
    }
    for path in ["/usr/share/man/man8/stmfadm.8", "/usr/share/man/man1/lunette.1", "/etc/default/lunette"] {
        ensure!(Path::new(path).exists(), "no {path}");
    }
    let state = std::fs::metadata(STATE)?;
    ensure!(state.uid() != 0 && state.mode() & 0o777 == 0o700, "the state directory is not the service's own");
    // A command of root's before the first start must not get in the service's way.
    capture("/usr/sbin/stmfadm", &["create-hg", "before"])?;
    {
        let server = serve(&scratch, state.uid())?;
        command(&scratch, "stmfadm", &["create-hg", "kept"])?;
        drop(server);
    }
    std::fs::write("/etc/default/lunette", "LUNETTE_OPTIONS=\"--log warn\"\n")?;
    capture("dpkg", &["--install", &second.display().to_string()])?;
    let options = std::fs::read_to_string("/etc/default/lunette")?;
    ensure!(options.contains("--log warn"), "the upgrade overwrote /etc/default/lunette");
    {
        let _server = serve(&scratch, state.uid())?;
        let groups = command(&scratch, "stmfadm", &["list-hg"])?;
        ensure!(groups == "Host Group: before\nHost Group: kept\n", "after the upgrade there is\n{groups}");
    }
    capture("dpkg", &["--remove", "lunette"])?;
    ensure!(!Path::new("/usr/bin/lunette").exists() && !Path::new("/usr/sbin/stmfadm").exists(), "not removed");
    ensure!(Path::new(STATE).join("config.redb").exists(), "the removal took the configuration along");
    capture("dpkg", &["--purge", "lunette"])?;
    ensure!(!Path::new(STATE).exists() && !Path::new("/etc/default/lunette").exists(), "not purged");
    Ok(())
}

/// The installed server as the unit starts it: as its own user, on the state directory.
fn serve(scratch: &Scratch, uid: u32) -> Result<Running> {
    let portal = free_portal()?;
    let place = scratch.join("run");
    std::fs::create_dir_all(&place)?;
    std::os::unix::fs::chown(&place, Some(uid), None)?;
    // The way there must be open to that user.
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(scratch.join(""), open)?;
    let mut program = tethered("setpriv");
    program.args(["--reuid", "lunette", "--regid", "lunette", "--clear-groups", "/usr/bin/lunette", "serve"]);
    program.args(["--state", STATE, "--portal", &portal.to_string(), "--socket"]).arg(place.join("socket"));
    let mut running = Running::start("lunette serve", program, &scratch.join("serve.log"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect(portal).is_err() || !place.join("socket").exists() {
        ensure!(running.poll().is_none(), "the installed server ended: {}", running.log());
        ensure!(Instant::now() < deadline, "the installed server does not listen: {}", running.log());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(running)
}

/// An installed command, by its link.
fn command(scratch: &Scratch, name: &str, arguments: &[&str]) -> Result<String> {
    let socket = scratch.join("run").join("socket").display().to_string();
    let arguments = [arguments, &["--socket", &socket]].concat();
    capture(&format!("/usr/sbin/{name}"), &arguments)
}

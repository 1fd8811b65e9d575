//! The server beside the guest, and the two networks between them.

use super::cable::Cable;
use super::guest::Guest;
use super::image::Image;
use crate::interop::target::{interface, lunette};
use crate::process::{Running, capture, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::net::TcpStream;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The addresses of the server's portals.
pub(super) const PORTALS: [&str; 2] = ["192.0.2.1", "192.0.2.2"];

/// The guest's name.
pub(super) const INITIATOR: &str = "iqn.2026-11.org.lunette.test:guest";

/// The target without authentication.
pub(super) const OPEN: &str = "iqn.2026-11.org.lunette.test:open";

/// What the steps work on.
pub(super) struct Lab {
    pub(super) guest: Guest,
    /// The guest's second card and what it is plugged into, or why there is none.
    pub(super) cable: Result<Cable>,
    server: Running,
    /// The first logical unit's GUID.
    pub(super) guid: String,
    // Last, since fields drop in order and the server works in this directory.
    scratch: Scratch,
}

impl Lab {
    /// Starts both, with a logical unit of `size` bytes that everyone sees as LUN 0.
    pub(super) fn start(size: u64) -> Result<Self> {
        for portal in PORTALS {
            plug(portal)?;
        }
        let scratch = Scratch::new("kernel")?;
        let server = serve(&scratch)?;
        let cable = Cable::make();
        let more = cable.as_ref().map(Cable::arguments).unwrap_or_default();
        let guest = Guest::boot(&Image::made()?, &more)?;
        let mut lab = Self { guest, cable, server, guid: String::new(), scratch };
        lab.guid = lab.create_lu("disk", size)?;
        lab.administer(&["stmfadm", "add-view", "-n", "0", &lab.guid])?;
        lab.administer(&["itadm", "create-target", "-n", OPEN])?;
        Ok(lab)
    }

    /// Makes a logical unit and gives its GUID.
    pub(super) fn create_lu(&self, file: &str, size: u64) -> Result<String> {
        let path = self.backing(file).display().to_string();
        let said = self.administer(&["stmfadm", "create-lu", "-s", &size.to_string(), &path])?;
        let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        ensure!(guid.len() == 32, "create-lu printed no GUID: {said}");
        Ok(guid)
    }

    /// Runs one of the administration commands and gives its standard output.
    pub(super) fn administer(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(lunette()?)
            .args(arguments)
            .env("LUNETTE_SOCKET", self.scratch.join("socket"))
            .env("LUNETTE_STATE", self.scratch.join("state"))
            .stdin(Stdio::null())
            .output()
            .context("cannot start lunette")?;
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "'lunette {}' failed: {said}{complained}", arguments.join(" "));
        Ok(said.into_owned())
    }

    /// A file with a secret, for `-S`.
    pub(super) fn secret(&self, name: &str, secret: &str) -> Result<String> {
        let path = self.scratch.join(name);
        std::fs::write(&path, secret)?;
        Ok(path.display().to_string())
    }

    /// A backing file's path.
    pub(super) fn backing(&self, file: &str) -> PathBuf {
        self.scratch.join(file)
    }

    /// How many bytes a backing file takes on this machine's disk.
    pub(super) fn allocated(&self, file: &str) -> Result<u64> {
        Ok(std::fs::metadata(self.backing(file))?.blocks() * 512)
    }

    /// What the server has said since its last start.
    pub(super) fn log(&self) -> String {
        self.server.log()
    }

    /// SIGKILL, a pause, and the server again on the same data.
    pub(super) fn kill_and_restart(&mut self, pause: Duration) -> Result<()> {
        self.server.kill();
        std::thread::sleep(pause);
        self.server = serve(&self.scratch)?;
        Ok(())
    }

    /// SIGTERM; the server must end in order.
    pub(super) fn stop(&mut self) -> Result<()> {
        let status = self.server.terminate(Duration::from_secs(20))?;
        ensure!(status.success(), "the server ended with {status}");
        Ok(())
    }
}

/// Gives the server's machine an address.
pub(super) fn plug(portal: &str) -> Result<()> {
    capture("ip", &["address", "add", &format!("{portal}/32"), "dev", "lo"]).map(drop)
}

/// Takes it away: packets to it vanish, connections notice nothing.
pub(super) fn unplug(portal: &str) -> Result<()> {
    capture("ip", &["address", "delete", &format!("{portal}/32"), "dev", "lo"]).map(drop)
}

fn serve(scratch: &Scratch) -> Result<Running> {
    let mut program = tethered(lunette()?);
    program.arg("serve").arg("--state").arg(scratch.join("state")).arg("--socket").arg(scratch.join("socket"));
    program.env("LUNETTE_INTERFACE", interface());
    for portal in PORTALS {
        program.args(["--portal", &format!("{portal}:3260")]);
    }
    let mut server = Running::start("lunette serve", program, &scratch.join("log"))?;
    let deadline = Instant::now() + Duration::from_secs(20);
    while TcpStream::connect((PORTALS[0], 3260)).is_err() {
        ensure!(server.poll().is_none(), "the server ended: {}", server.log().trim());
        ensure!(Instant::now() < deadline, "the server does not listen: {}", server.log().trim());
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(server)
}

//! Registration with Debian's iSNS server, isnsd.

use super::Check;
use super::target::{Kind, Target, free_portal};
use crate::packages::Need;
use crate::process::{Running, find, run_limited, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const LIMIT: Duration = Duration::from_secs(15);
const SECOND: &str = "iqn.2026-11.org.lunette.test:second";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "isns/registration",
        claim: "isnsd lists the targets with portal and alias, follows offline-target and new targets, and forgets all \
                of it when iSNS is disabled or the server ends",
        needs: &[Need::Isns],
        peers: false,
        run: registration,
    },
    Check {
        name: "isns/server-comes-back",
        claim: "a server that is down is named in the status, and has the targets soon after it came up",
        needs: &[Need::Isns],
        peers: false,
        run: server_comes_back,
    },
];

struct Isnsd {
    address: SocketAddr,
    scratch: Scratch,
    running: Option<Running>,
}

impl Isnsd {
    fn new() -> Result<Self> {
        let scratch = Scratch::new("isnsd")?;
        let address = free_portal()?;
        let place = scratch.join("").display().to_string();
        let place = place.trim_end_matches('/');
        let configuration = format!(
            "SourceName = iqn.2026-11.org.lunette.test:isnsd\nBindAddress = {address}\nServerAddress = {address}\n\
             Database = {place}/database\nPIDFile = {place}/isnsd.pid\nControlSocket = {place}/control\n\
             Security = 0\nDefaultDiscoveryDomain = 1\nESIMinInterval = 1s\nESIMaxInterval = 5s\n\
             RegistrationPeriod = 10m\nAuthKeyFile = {place}/none\nServer.AuthKeyFile = {place}/none\n"
        );
        std::fs::write(scratch.join("isnsd.conf"), &configuration)?;
        let client = configuration.replace(":isnsd", ":control");
        std::fs::write(scratch.join("isnsadm.conf"), client)?;
        Ok(Self { address, scratch, running: None })
    }

    fn start(&mut self) -> Result<()> {
        let mut command = tethered(find("isnsd").context("no isnsd: install the package open-isns-server")?);
        command.arg("-f").arg("-c").arg(self.scratch.join("isnsd.conf"));
        let mut running = Running::start("isnsd", command, &self.scratch.join("log"))?;
        let deadline = Instant::now() + LIMIT;
        while TcpStream::connect(self.address).is_err() {
            if let Some(status) = running.poll() {
                bail!("isnsd ended ({status}): {}", running.log());
            }
            ensure!(Instant::now() < deadline, "isnsd does not listen: {}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.running = Some(running);
        Ok(())
    }

    /// What isnsd lists of a kind of object (`nodes`, `portals`, `entities`), asked through its control socket.
    fn list(&self, kind: &str) -> Result<String> {
        let mut command = tethered(find("isnsadm").context("no isnsadm: install the package open-isns-utils")?);
        command.arg("--local").arg("-c").arg(self.scratch.join("isnsadm.conf")).args(["--list", kind]);
        let finished = run_limited("isnsadm", command, LIMIT, &self.scratch.join("isnsadm.log"))?;
        Ok(finished.output)
    }

    fn log(&self) -> String {
        self.running.as_ref().map(Running::log).unwrap_or_default()
    }

    /// Waits until the list of nodes is as wanted.
    fn await_nodes(&self, what: &str, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let nodes = self.list("nodes")?;
            if wanted(&nodes) {
                return Ok(nodes);
            }
            ensure!(Instant::now() < deadline, "{what}: isnsadm lists\n{nodes}\nisnsd says\n{}", self.log());
            std::thread::sleep(Duration::from_millis(100));
        }
    }
}

fn enable(target: &Target, server: &Isnsd) -> Result<()> {
    let address = server.address.to_string();
    target.administer(&["itadm", "modify-defaults", "-i", "enable", "-I", &address]).map(drop)
}

fn registration(kind: Kind) -> Result<()> {
    let mut server = Isnsd::new()?;
    server.start()?;
    let target = Target::start_configured(kind, 16 * MIB, None)?;
    let iqn = target.iqn().to_owned();
    let portal = target.portal();
    target.administer(&["itadm", "modify-target", "-l", "the-first", &iqn])?;
    target.examine(|target| {
        enable(target, &server)?;
        server.await_nodes("the target is not registered", |nodes| nodes.contains(&iqn))?;
        let portals = server.list("portals")?;
        ensure!(portals.contains(&portal.port().to_string()), "no portal {portal} in\n{portals}");
        // isnsd asks whether we are alive, every few seconds; who does not answer is forgotten.
        std::thread::sleep(Duration::from_secs(7));
        server.await_nodes("forgotten in spite of answered inquiries", |nodes| nodes.contains(&iqn))?;
        target.administer(&["itadm", "create-target", "-n", SECOND])?;
        server.await_nodes("a new target is not registered", |nodes| nodes.contains(SECOND))?;
        target.administer(&["stmfadm", "offline-target", &iqn])?;
        server.await_nodes("an offline target is still registered", |nodes| !nodes.contains(&iqn))?;
        target.administer(&["stmfadm", "online-target", &iqn])?;
        server.await_nodes("an online target is not registered", |nodes| nodes.contains(&iqn))?;
        target.administer(&["itadm", "modify-defaults", "-i", "disable"])?;
        let none = |nodes: &str| !nodes.contains(SECOND) && !nodes.contains(&iqn);
        server.await_nodes("still registered although disabled", none)?;
        target.administer(&["itadm", "modify-defaults", "-i", "enable"])?;
        server.await_nodes("not registered again", |nodes| nodes.contains(&iqn))?;
        target.terminate()?;
        server.await_nodes("still registered after the end", none)?;
        target.restart()?;
        server.await_nodes("not registered after a restart", |nodes| nodes.contains(&iqn)).map(drop)
    })
}

fn server_comes_back(kind: Kind) -> Result<()> {
    let mut server = Isnsd::new()?;
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        enable(target, &server)?;
        let deadline = Instant::now() + LIMIT;
        let address = server.address.to_string();
        loop {
            let status = target.administer(&["status"])?;
            if status.contains("iSNS") && status.contains(&address) {
                break;
            }
            ensure!(Instant::now() < deadline, "the status does not name {address}:\n{status}");
            std::thread::sleep(Duration::from_millis(100));
        }
        server.start()?;
        let iqn = target.iqn().to_owned();
        server.await_nodes("not registered", |nodes| nodes.contains(&iqn))?;
        let status = target.administer(&["status"])?;
        ensure!(!status.contains(&format!("iSNS server {address}")), "still complained about:\n{status}");
        Ok(())
    })
}

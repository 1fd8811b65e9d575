//! CHAP that Debian's FreeRADIUS decides.

use super::Check;
use super::chap::{INITIATOR, admitted, refused};
use super::target::{Kind, Target, free_udp};
use crate::packages::Need;
use crate::process::{Running, find, tethered};
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
// Secrets that occur nowhere else, so that finding one in a log means that it leaked.
const USER_SECRET: &str = "heron-1618-brook";
const WRONG_SECRET: &str = "raven-1414-cliff";
const SHARED_SECRET: &str = "plover-2236-dune";
const OTHER_SECRET: &str = "dunlin-1732-moor";

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "radius/verdict",
        claim: "FreeRADIUS's users log in with their secrets and nobody else does; no secret appears in the log",
        needs: &[Need::Libiscsi, Need::Freeradius],
        peers: false,
        run: verdict,
    },
    Check {
        name: "radius/failover",
        claim: "with the first server dead or silent the second one decides; with none, the login is refused",
        needs: &[Need::Libiscsi, Need::Freeradius],
        peers: false,
        run: failover,
    },
    Check {
        name: "radius/shared-secret",
        claim: "a server that has another shared secret lets nobody in, and the log says what is wrong",
        needs: &[Need::Libiscsi, Need::Freeradius],
        peers: false,
        run: shared_secret,
    },
];

/// A FreeRADIUS with one user, on a port of its own.
struct Freeradius {
    address: SocketAddr,
    running: Running,
    _scratch: Scratch,
}

impl Freeradius {
    fn start() -> Result<Self> {
        let scratch = Scratch::new("freeradius")?;
        let address = free_udp()?;
        let place = scratch.join("").display().to_string();
        let place = place.trim_end_matches('/');
        let users = format!("reader Cleartext-Password := \"{USER_SECRET}\"\n\tReply-Message := \"welcome\"\n");
        std::fs::write(scratch.join("users"), users)?;
        // Nothing of Debian's own configuration: it would bring ports and modules that nobody needs here.
        let configuration = format!(
            r#"prefix = {place}
logdir = {place}
run_dir = {place}
db_dir = {place}
libdir = /usr/lib/freeradius
correct_escapes = true
max_request_time = 5
cleanup_delay = 1
log {{
    destination = stdout
    auth = no
}}
security {{
    reject_delay = 0
    status_server = no
}}
client lunette {{
    ipaddr = 127.0.0.1
    secret = "{SHARED_SECRET}"
    require_message_authenticator = yes
}}
thread pool {{
    start_servers = 1
    max_servers = 2
    min_spare_servers = 1
    max_spare_servers = 2
}}
modules {{
    chap {{
    }}
    files {{
        filename = {place}/users
    }}
}}
server default {{
    listen {{
        type = auth
        ipaddr = 127.0.0.1
        port = {port}
    }}
    authorize {{
        # Older releases answer without one, unless told to.
        update reply {{
            Message-Authenticator := 0x00
        }}
        chap
        files
    }}
    authenticate {{
        Auth-Type CHAP {{
            chap
        }}
    }}
}}
"#,
            port = address.port()
        );
        std::fs::write(scratch.join("radiusd.conf"), configuration)?;
        let program = find("freeradius").context("no freeradius: install the package freeradius")?;
        let mut command = tethered(program);
        command.args(["-f", "-l", "stdout", "-n", "radiusd", "-d", place, "-D", "/usr/share/freeradius"]);
        let mut running = Running::start("freeradius", command, &scratch.join("log"))?;
        let deadline = Instant::now() + Duration::from_secs(20);
        // A datagram socket does not tell whether somebody listens: its log does.
        while !running.log().contains("Ready to process requests") {
            if let Some(status) = running.poll() {
                bail!("freeradius ended ({status}): {}", running.log());
            }
            ensure!(Instant::now() < deadline, "freeradius is not ready: {}", running.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Self { address, running, _scratch: scratch })
    }
}

/// A target whose logins `servers` decide.
fn target(kind: Kind, servers: &[SocketAddr], shared: &str) -> Result<Target> {
    let target = Target::start_configured(kind, 16 * MIB, None)?;
    let file = target.secret_file("radius-secret", shared)?;
    let servers: Vec<String> = servers.iter().map(ToString::to_string).collect();
    target.administer(&["itadm", "modify-defaults", "-r", &servers.join(","), "-D", &file])?;
    target.administer(&["itadm", "modify-target", "-a", "radius", target.iqn()])?;
    Ok(target)
}

fn has_no_secret(log: &str) -> Result<()> {
    for secret in [USER_SECRET, WRONG_SECRET, SHARED_SECRET, OTHER_SECRET] {
        ensure!(!log.contains(secret), "the log shows a secret");
    }
    Ok(())
}

fn verdict(kind: Kind) -> Result<()> {
    let server = Freeradius::start()?;
    target(kind, &[server.address], SHARED_SECRET)?.examine(|target| {
        admitted(&target.url_with("reader", USER_SECRET, None)).with_context(|| server.running.log())?;
        refused("a wrong secret", &target.url_with("reader", WRONG_SECRET, None))?;
        refused("an unknown user", &target.url_with("writer", USER_SECRET, None))?;
        refused("no CHAP at all", &target.url())?;
        admitted(&target.url_with("reader", USER_SECRET, None))?;
        let log = target.log();
        ensure!(log.contains("rejects it"), "the log does not say who rejected it:\n{log}");
        ensure!(log.contains(INITIATOR), "the log does not name {INITIATOR}:\n{log}");
        has_no_secret(&log)?;
        let shown = target.administer(&["itadm", "list-defaults"])?;
        ensure!(shown.contains("radiussecret:  \tset"), "list-defaults says:\n{shown}");
        has_no_secret(&shown)
    })
}

fn failover(kind: Kind) -> Result<()> {
    let mut server = Freeradius::start()?;
    // Bound and never read: a server that is silent. The other one is not there at all.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0")?;
    let dead = free_udp()?;
    target(kind, &[dead, silent.local_addr()?, server.address], SHARED_SECRET)?.examine(|target| {
        let began = Instant::now();
        admitted(&target.url_with("reader", USER_SECRET, None)).with_context(|| server.running.log())?;
        let first = began.elapsed();
        let began = Instant::now();
        admitted(&target.url_with("reader", USER_SECRET, None))?;
        let second = began.elapsed();
        ensure!(second < Duration::from_secs(2) && second < first, "the silent server was not left out: {second:?}");
        let log = target.log();
        let silent = silent.local_addr()?.to_string();
        ensure!(log.contains(&silent), "the log does not name the silent server {silent}:\n{log}");
        server.running.kill();
        refused("a login that nobody can check", &target.url_with("reader", USER_SECRET, None))?;
        let log = target.log();
        ensure!(log.contains("no RADIUS server answers"), "the log does not say why:\n{log}");
        has_no_secret(&log)
    })
}

fn shared_secret(kind: Kind) -> Result<()> {
    let server = Freeradius::start()?;
    target(kind, &[server.address], OTHER_SECRET)?.examine(|target| {
        refused("a login", &target.url_with("reader", USER_SECRET, None))?;
        let log = target.log();
        // A server drops what it cannot verify, so that there is no answer to disbelieve.
        ensure!(log.contains("no RADIUS server"), "the log does not say why:\n{log}");
        has_no_secret(&log)
    })
}

//! Target programs under test: started on a free loopback port, watched, and stopped by their process id.

use crate::process::{Running, capture, find, tethered};
use crate::report::tail;
use crate::scratch::Scratch;
use crate::workspace;
use anyhow::{Context, Result, bail, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// How long a target may take until its portal answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// How long a target may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Whose program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Ours.
    Lunette,
    /// Debian's user-space target.
    Tgt,
}

impl Kind {
    pub(crate) fn parse(name: &str) -> Result<Self> {
        match name {
            "lunette" => Ok(Self::Lunette),
            "tgt" => Ok(Self::Tgt),
            other => bail!("no target '{other}'; there are: lunette, tgt"),
        }
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lunette => "lunette",
            Self::Tgt => "tgt",
        }
    }

    /// Name and version, for the head of a report.
    pub(crate) fn version(self) -> String {
        match self {
            Self::Lunette => concat!("lunette ", env!("CARGO_PKG_VERSION")).to_owned(),
            Self::Tgt => {
                let version = capture("dpkg-query", &["-W", "-f", "${Version}", "tgt"]).unwrap_or_default();
                format!("tgt {version}").trim().to_owned()
            }
        }
    }
}

/// CHAP names and secrets: who proves what is said per field.
#[derive(Debug, Clone)]
pub(crate) struct Chap {
    /// The initiator's node name, which an initiator context is made for.
    pub(crate) initiator: String,
    /// User name and secret by which the initiator proves itself.
    pub(crate) user: String,
    pub(crate) secret: String,
    /// User name and secret by which the target proves itself, when it is asked to.
    pub(crate) mutual: Option<(String, String)>,
}

/// A running target with one LU that every initiator may see.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    running: Running,
    portal: SocketAddr,
    iqn: String,
    lun: u16,
    command: Restart,
    // Last, since fields drop in order and the program works in this directory.
    scratch: Scratch,
}

/// What is needed to start the same program again on the same data.
#[derive(Debug, Clone)]
enum Restart {
    Demo { size: u64 },
    Serve,
    Tgt { size: u64 },
}

impl Target {
    /// Starts a target with one LU of `size` bytes in a sparse file, open to all: `lunette demo`, or `tgtd`.
    pub(crate) fn start(kind: Kind, size: u64) -> Result<Self> {
        let command = match kind {
            Kind::Lunette => Restart::Demo { size },
            Kind::Tgt => Restart::Tgt { size },
        };
        Self::launch(kind, command, Scratch::new(kind.name())?)
    }

    /// Starts a target that keeps its configuration, with one LU of `size` bytes; with `chap`, initiators must log in by
    /// CHAP.
    pub(crate) fn start_configured(kind: Kind, size: u64, chap: Option<&Chap>) -> Result<Self> {
        let command = match kind {
            Kind::Lunette => Restart::Serve,
            Kind::Tgt => Restart::Tgt { size },
        };
        let mut target = Self::launch(kind, command, Scratch::new(kind.name())?)?;
        match kind {
            Kind::Lunette => target.configure_lunette(size, &[], chap)?,
            Kind::Tgt => {
                if let Some(chap) = chap {
                    target.configure_tgt_chap(chap)?;
                }
            }
        }
        Ok(target)
    }

    /// Starts a target with one LU of `size` bytes that has these properties of `create-lu`, open to all.
    pub(crate) fn start_disk(size: u64, properties: &[&str]) -> Result<Self> {
        let mut target = Self::launch(Kind::Lunette, Restart::Serve, Scratch::new("disk")?)?;
        target.configure_lunette(size, properties, None)?;
        Ok(target)
    }

    fn launch(kind: Kind, command: Restart, scratch: Scratch) -> Result<Self> {
        // Between asking for a free port and using it another program may take it, hence a few attempts.
        let mut attempts = 3;
        let portal = loop {
            attempts -= 1;
            let portal = free_portal()?;
            match Self::spawn(&command, portal, &scratch) {
                Ok(running) => break (portal, running),
                Err(error) if attempts == 0 => return Err(error),
                Err(_) => {}
            }
        };
        let (portal, running) = portal;
        let mut target = Self { kind, running, portal, iqn: format!("{IQN_PREFIX}:interop"), lun: 0, command, scratch };
        target.settle()?;
        Ok(target)
    }

    fn spawn(command: &Restart, portal: SocketAddr, scratch: &Scratch) -> Result<Running> {
        let (name, program) = match command {
            Restart::Demo { size } => {
                let mut program = tethered(lunette()?);
                program.arg("demo").arg("--dir").arg(scratch.join("demo"));
                program.args(["--size", &format!("{}M", size >> 20), "--portal", &portal.to_string()]);
                program.env("LUNETTE_INTERFACE", interface());
                ("lunette demo", program)
            }
            Restart::Serve => {
                let mut program = tethered(lunette()?);
                program.arg("serve").arg("--state").arg(scratch.join("state"));
                program.arg("--socket").arg(scratch.join("socket"));
                program.args(["--portal", &portal.to_string()]).env("LUNETTE_INTERFACE", interface());
                ("lunette serve", program)
            }
            Restart::Tgt { .. } => {
                let tgtd = find("tgtd").context("no tgtd: install the package tgt")?;
                let mut program = tethered(tgtd);
                program.args(["-f", "-C", "1", "--iscsi", &format!("portal={portal}")]);
                program.env("TGT_IPC_SOCKET", scratch.join("control"));
                ("tgtd", program)
            }
        };
        let log = scratch.join(&format!("log.{}", next_number()));
        let mut running = Running::start(name, program, &log)?;
        wait_for_portal(&mut running, portal, name)?;
        Ok(running)
    }

    /// Learns, or makes, what the program serves.
    fn settle(&mut self) -> Result<()> {
        match self.command.clone() {
            Restart::Demo { .. } => {
                let (iqn, lun) = self.announced()?;
                self.iqn = iqn;
                self.lun = lun;
            }
            Restart::Serve => {}
            Restart::Tgt { size } => {
                self.lun = 1;
                let backing = self.scratch.join("lu");
                if !backing.exists() {
                    self.scratch.sparse_file("lu", size)?;
                }
                self.tgtadm(&["--op", "new", "--mode", "target", "--tid", "1", "-T", &self.iqn])?;
                let backing = backing.display().to_string();
                self.tgtadm(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &backing])?;
                // A thin LU is what most of the suite's UNMAP tests want to see.
                let thin = ["--params", "thin_provisioning=1"];
                let update = ["--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", "1"];
                self.tgtadm(&[&update[..], &thin].concat())?;
                // It offers no digest unless told to, and then takes what the initiator likes best.
                for digest in ["HeaderDigest", "DataDigest"] {
                    let update = ["--op", "update", "--mode", "target", "--tid", "1", "--name", digest];
                    self.tgtadm(&[&update[..], &["--value", "CRC32C,None"]].concat())?;
                }
                self.tgtadm(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?;
            }
        }
        Ok(())
    }

    /// Reads the URL that `lunette demo` prints for libiscsi.
    fn announced(&mut self) -> Result<(String, u16)> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let said = self.running.log();
            if let Some(found) = said.split_whitespace().find_map(parse_url) {
                return Ok(found);
            }
            ensure!(self.running.poll().is_none(), "lunette demo ended: {said}");
            ensure!(Instant::now() < deadline, "lunette demo printed no iscsi:// URL: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs one of the administration commands, such as `["stmfadm", "list-lu"]`, and gives its standard output.
    pub(crate) fn administer(&self, arguments: &[&str]) -> Result<String> {
        let socket = self.scratch.join("socket").display().to_string();
        let output = Command::new(lunette()?)
            .args(arguments)
            .env("LUNETTE_SOCKET", &socket)
            .env("LUNETTE_STATE", self.scratch.join("state"))
            .stdin(std::process::Stdio::null())
            .output()
            .context("cannot start lunette")?;
        ensure!(
            output.status.success(),
            "'lunette {}' failed ({}): {}{}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn configure_lunette(&mut self, size: u64, properties: &[&str], chap: Option<&Chap>) -> Result<()> {
        let backing = self.scratch.join("lu").display().to_string();
        let size = format!("{}M", size >> 20);
        let mut create = vec!["stmfadm", "create-lu", "--size", &size];
        properties.iter().for_each(|property| create.extend(["-p", property]));
        create.push(&backing);
        let said = self.administer(&create)?;
        let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
        ensure!(guid.len() == 32, "create-lu printed no GUID: {said}");
        self.administer(&["stmfadm", "add-view", "--lun", "0", &guid])?;
        let iqn = self.iqn.clone();
        let Some(chap) = chap else {
            self.administer(&["itadm", "create-target", "--node-name", &iqn])?;
            return Ok(());
        };
        let secret = self.secret_file("initiator-secret", &chap.secret)?;
        self.administer(&[
            "itadm",
            "create-initiator",
            "--chap-user",
            &chap.user,
            "--chap-secret-file",
            &secret,
            &chap.initiator,
        ])?;
        let mut create = vec!["itadm", "create-target", "--auth-method", "chap", "--node-name", &iqn];
        let mutual = match &chap.mutual {
            Some((user, secret)) => Some((user.clone(), self.secret_file("target-secret", secret)?)),
            None => None,
        };
        if let Some((user, secret)) = &mutual {
            create.extend(["--chap-user", user, "--chap-secret-file", secret]);
        }
        self.administer(&create)?;
        Ok(())
    }

    pub(crate) fn secret_file(&self, name: &str, secret: &str) -> Result<String> {
        let path = self.scratch.join(name);
        std::fs::write(&path, format!("{secret}\n"))?;
        Ok(path.display().to_string())
    }

    fn configure_tgt_chap(&self, chap: &Chap) -> Result<()> {
        let account = ["--op", "new", "--mode", "account"];
        let bind = ["--op", "bind", "--mode", "account", "--tid", "1"];
        let one = ["--user", &chap.user, "--password", &chap.secret];
        self.tgtadm(&[&account[..], &one[..]].concat())?;
        self.tgtadm(&[&bind[..], &one[..2]].concat())?;
        if let Some((user, secret)) = &chap.mutual {
            let two = ["--user", user, "--password", secret];
            self.tgtadm(&[&account[..], &two[..]].concat())?;
            self.tgtadm(&[&bind[..], &two[..2], &["--outgoing"]].concat())?;
        }
        Ok(())
    }

    fn tgtadm(&self, arguments: &[&str]) -> Result<()> {
        let program = find("tgtadm").context("no tgtadm: install the package tgt")?;
        let output = Command::new(program)
            .args(["-C", "1", "--lld", "iscsi"])
            .args(arguments)
            .env("TGT_IPC_SOCKET", self.scratch.join("control"))
            .stdin(std::process::Stdio::null())
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "'tgtadm {}' failed: {}", arguments.join(" "), words.trim());
        Ok(())
    }

    pub(crate) fn portal(&self) -> SocketAddr {
        self.portal
    }

    pub(crate) fn iqn(&self) -> &str {
        &self.iqn
    }

    pub(crate) fn lun(&self) -> u16 {
        self.lun
    }

    /// `iscsi://127.0.0.1:PORT`, what discovery takes.
    pub(crate) fn portal_url(&self) -> String {
        format!("iscsi://{}", self.portal)
    }

    /// The LU as libiscsi and QEMU name it.
    pub(crate) fn url(&self) -> String {
        format!("iscsi://{}/{}/{}", self.portal, self.iqn, self.lun)
    }

    /// The same with a user and a secret, and the target's own when it shall prove itself as well.
    pub(crate) fn url_with(&self, user: &str, secret: &str, mutual: Option<(&str, &str)>) -> String {
        let tail = mutual.map(|(user, secret)| format!("?target_user={user}&target_password={secret}"));
        let tail = tail.unwrap_or_default();
        format!("iscsi://{user}%{secret}@{}/{}/{}{tail}", self.portal, self.iqn, self.lun)
    }

    pub(crate) fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Everything that the program has said since its last start.
    pub(crate) fn log(&self) -> String {
        self.running.log()
    }

    /// Runs `check`; the program must outlive it, end in order after it, and its last words go with any error.
    pub(crate) fn examine(mut self, check: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        let mut outcome = check(&mut self);
        if let Err(ended) = self.check_alive() {
            outcome = outcome.and(Err(ended));
        }
        match outcome {
            Ok(()) => self.stop(),
            Err(error) => {
                let log = tail(&self.log(), 15, "");
                bail!("{error:#}\nthe last lines of {}'s log:\n{log}", self.kind.name())
            }
        }
    }

    /// Whether the program runs on; when not, how it ended.
    pub(crate) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.running.poll() {
            bail!("{} ended by itself ({status}); it said:\n{}", self.kind.name(), self.log());
        }
        Ok(())
    }

    /// Resident memory in bytes, from the kernel's books.
    pub(crate) fn resident_bytes(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.running.id());
        let status = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }

    /// SIGKILL, then the same program on the same data and portal.
    pub(crate) fn kill_and_restart(&mut self) -> Result<()> {
        self.running.kill();
        self.running = Self::spawn(&self.command, self.portal, &self.scratch)?;
        self.settle()
    }

    /// SIGKILL, and nothing after it.
    pub(crate) fn kill(&mut self) {
        self.running.kill();
    }

    /// SIGTERM, and an orderly end; [`Target::restart`] may follow.
    pub(crate) fn terminate(&mut self) -> Result<()> {
        let status = self.running.terminate(STOP_LIMIT)?;
        ensure!(status.success(), "{} ended with {status} after SIGTERM:\n{}", self.kind.name(), self.log());
        Ok(())
    }

    /// Starts the program again after [`Target::kill`].
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.kill_and_restart()
    }

    /// SIGTERM, and waits for an orderly end.
    pub(crate) fn stop(mut self) -> Result<()> {
        // tgtd ends at SIGTERM only when it has no target, and this is not a test of tgtd.
        if self.kind == Kind::Tgt {
            self.running.signal(Signal::KILL);
            return Ok(());
        }
        self.terminate()
    }
}

const IQN_PREFIX: &str = "iqn.2026-11.org.lunette.test";

/// A port of the loopback interface that nobody listens on at this moment.
pub(crate) fn free_portal() -> Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind to 127.0.0.1")?;
    Ok(listener.local_addr()?)
}

/// A UDP port of the loopback interface that nobody uses at this moment.
pub(crate) fn free_udp() -> Result<SocketAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind to 127.0.0.1")?;
    Ok(socket.local_addr()?)
}

/// The system interface of the next server: that of `$LUNETTE_INTERFACE`, else each in turn, so that whatever is tested is
/// tested over both.
pub(crate) fn interface() -> OsString {
    use std::sync::atomic::{AtomicUsize, Ordering};
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    std::env::var_os("LUNETTE_INTERFACE").unwrap_or_else(|| {
        if STARTED.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { "epoll" } else { "io_uring" }.into()
    })
}

/// The binary under test.
pub(crate) fn lunette() -> Result<PathBuf> {
    let path = workspace::lunette_binary()?;
    ensure!(
        Path::new(&path).is_file(),
        "no binary '{}'\nhint: cargo build --package lunette-server, or set LUNETTE_BIN",
        path.display()
    );
    Ok(path)
}

fn next_number() -> u32 {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn wait_for_portal(running: &mut Running, portal: SocketAddr, name: &str) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        if TcpStream::connect_timeout(&portal, Duration::from_secs(1)).is_ok() {
            // Somebody else's listener would accept as well, while our program would have ended.
            std::thread::sleep(Duration::from_millis(20));
            ensure!(running.poll().is_none(), "{name} ended: {}", running.log().trim());
            return Ok(());
        }
        ensure!(running.poll().is_none(), "{name} ended: {}", running.log().trim());
        ensure!(Instant::now() < deadline, "{name} does not listen on {portal}: {}", running.log().trim());
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Target name and LUN of `iscsi://PORTAL/IQN/LUN`, as printed between other words.
fn parse_url(word: &str) -> Option<(String, u16)> {
    let rest = word.trim_matches(['\'', '"', '`', ',', ';']).split_once("iscsi://")?.1;
    let mut parts = rest.split('/');
    let (_portal, iqn, lun) = (parts.next()?, parts.next()?, parts.next()?);
    Some((iqn.to_owned(), lun.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_printed_url_is_understood() {
        let expect = Some(("iqn.2026-11.org.lunette:02:a-b".to_owned(), 3));
        assert_eq!(parse_url("'iscsi://127.0.0.1:3260/iqn.2026-11.org.lunette:02:a-b/3'"), expect);
        assert_eq!(parse_url("file=iscsi://127.0.0.1:3260/iqn.2026-11.org.lunette:02:a-b/3"), expect);
        assert_eq!(parse_url("iscsi://127.0.0.1:3260"), None);
    }
}

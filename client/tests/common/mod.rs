//! Other people's targets on a free loopback port, and ours.
#![allow(dead_code)]

use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a target may take until its portal answers.
const START_LIMIT: Duration = Duration::from_secs(20);

/// Bytes of the disk that a peer serves.
pub(crate) const SIZE: u64 = 64 << 20;

/// The name and secret that an initiator needs where CHAP is on, and those of the target.
pub(crate) const USER: (&str, &str) = ("alice", "correct-horse-9");
pub(crate) const TARGET_USER: (&str, &str) = ("tess", "battery-staple-7");

/// A target program with one disk, killed when dropped.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) name: &'static str,
    pub(crate) portal: SocketAddr,
    pub(crate) target: String,
    pub(crate) lun: u16,
    child: Child,
    directory: tempfile::TempDir,
}

/// Which peers there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Program {
    Tgt,
    Istgt,
}

impl Program {
    /// Where the program is, or why not.
    fn find(self) -> Result<PathBuf, String> {
        let (name, package) = match self {
            Self::Tgt => ("tgtd", "tgt"),
            Self::Istgt => ("istgt", "istgt"),
        };
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
        places.push("/usr/sbin".into());
        let found = places.into_iter().map(|place| place.join(name)).find(|path| path.is_file());
        found.ok_or_else(|| format!("no {name}: install the package {package}"))
    }

    /// Starts it; with `chap` it asks for [`USER`] and proves itself as [`TARGET_USER`]. `Err` says why it cannot run
    /// here.
    pub(crate) fn start(self, chap: bool) -> Result<Peer, String> {
        let program = self.find()?;
        let mut last = String::new();
        // Between asking for a free port and using it another program may take it.
        for _ in 0..3 {
            let started = match self {
                Self::Tgt => start_tgt(&program, chap),
                Self::Istgt => start_istgt(&program, chap),
            };
            match started {
                Ok(peer) => return Ok(peer),
                Err(error) => last = error,
            }
        }
        Err(last)
    }
}

/// Runs a test with a peer. A peer that is not there fails the test: who asks for these tests has it.
pub(crate) fn with_peer(program: Program, chap: bool, test: impl FnOnce(&Peer)) {
    match program.start(chap) {
        Ok(peer) => test(&peer),
        Err(reason) => panic!("cannot start {program:?}: {reason}"),
    }
}

impl Peer {
    pub(crate) fn url(&self) -> String {
        format!("iscsi://{}/{}/{}", self.portal, self.target, self.lun)
    }

    /// The URL with the secrets of CHAP both ways.
    pub(crate) fn url_with_chap(&self) -> String {
        let ((user, secret), (target, password)) = (USER, TARGET_USER);
        format!(
            "iscsi://{user}%{secret}@{}/{}/{}?target_user={target}&target_password={password}",
            self.portal, self.target, self.lun
        )
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).map_or(0, |address| address.port())
}

fn wait_for(child: &mut Child, portal: SocketAddr) -> Result<(), String> {
    let deadline = Instant::now() + START_LIMIT;
    while TcpStream::connect(portal).is_err() {
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("the target ended: {status}"));
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            return Err("the target's portal does not answer".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn disk_file(directory: &tempfile::TempDir) -> Result<PathBuf, String> {
    let path = directory.path().join("disk");
    let file = std::fs::File::create(&path).map_err(|error| error.to_string())?;
    file.set_len(SIZE).map_err(|error| error.to_string())?;
    Ok(path)
}

fn start_tgt(program: &PathBuf, chap: bool) -> Result<Peer, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let portal = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let control = directory.path().join("control");
    // The number of the control socket tells two daemons of one machine apart.
    let number = (portal.port() % 30_000 + 10).to_string();
    let mut child = Command::new(program)
        .args(["-f", "-C", &number, "--iscsi", &format!("portal={portal}")])
        .env("TGT_IPC_SOCKET", &control)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| error.to_string())?;
    wait_for(&mut child, portal)?;
    let target = "iqn.2026-11.org.example:tgt".to_owned();
    let disk = disk_file(&directory)?.display().to_string();
    let peer = Peer { name: "tgt", portal, target: target.clone(), lun: 1, child, directory };
    let admin = |arguments: &[&str]| {
        let output = Command::new(program.with_file_name("tgtadm"))
            .args(["-C", &number, "--lld", "iscsi"])
            .args(arguments)
            .env("TGT_IPC_SOCKET", &control)
            .output()
            .map_err(|error| error.to_string())?;
        let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if output.status.success() { Ok(()) } else { Err(format!("tgtadm {arguments:?}: {words}")) }
    };
    let update = ["--op", "update", "--mode"];
    admin(&["--op", "new", "--mode", "target", "--tid", "1", "-T", &target])?;
    admin(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &disk])?;
    admin(&[&update[..], &["logicalunit", "--tid", "1", "--lun", "1", "--params", "thin_provisioning=1"]].concat())?;
    for digest in ["HeaderDigest", "DataDigest"] {
        admin(&[&update[..], &["target", "--tid", "1", "--name", digest, "--value", "CRC32C,None"]].concat())?;
    }
    admin(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])?;
    if chap {
        for ((user, secret), outgoing) in [(USER, false), (TARGET_USER, true)] {
            admin(&["--op", "new", "--mode", "account", "--user", user, "--password", secret])?;
            let mut bind = vec!["--op", "bind", "--mode", "account", "--tid", "1", "--user", user];
            bind.extend(outgoing.then_some("--outgoing"));
            admin(&bind)?;
        }
    }
    Ok(peer)
}

fn start_istgt(program: &PathBuf, chap: bool) -> Result<Peer, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let portal = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let disk = disk_file(&directory)?.display().to_string();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        let written = std::fs::File::create(&path).and_then(|mut file| file.write_all(text.as_bytes()));
        written.map(|()| path.display().to_string()).map_err(|error| error.to_string())
    };
    let ((user, secret), (target_user, target_secret)) = (USER, TARGET_USER);
    let auth = file(
        "auth.conf",
        &format!("[AuthGroup1]\n  Auth \"{user}\" \"{secret}\" \"{target_user}\" \"{target_secret}\"\n"),
    )?;
    // It refuses secrets that others may read.
    std::fs::set_permissions(&auth, std::os::unix::fs::PermissionsExt::from_mode(0o600))
        .map_err(|error| error.to_string())?;
    let (pid, media) = (directory.path().join("pid").display().to_string(), directory.path().display());
    // It insists on an initial R2T.
    let (method, group) = if chap { ("CHAP Mutual", "AuthGroup1") } else { ("None", "None") };
    let port = portal.port();
    let control = free_port();
    let conf = format!(
        "[Global]\n  NodeBase \"iqn.2026-11.org.example\"\n  PidFile {pid}\n  AuthFile {auth}\n  MediaDirectory {media}\n  \
         LogFacility \"local7\"\n  Timeout 30\n  \
         NopInInterval 20\n  DiscoveryAuthMethod None\n  MaxSessions 64\n  MaxConnections 4\n  MaxR2T 32\n  \
         MaxOutstandingR2T 16\n  DefaultTime2Wait 2\n  DefaultTime2Retain 60\n  FirstBurstLength 262144\n  \
         MaxBurstLength 1048576\n  MaxRecvDataSegmentLength 262144\n  InitialR2T Yes\n  ImmediateData Yes\n  \
         DataPDUInOrder Yes\n  DataSequenceInOrder Yes\n  ErrorRecoveryLevel 0\n\
         [UnitControl]\n  AuthMethod None\n  AuthGroup None\n  Portal UC1 127.0.0.1:{control}\n  Netmask 127.0.0.1\n\
         [PortalGroup1]\n  Portal DA1 127.0.0.1:{port}\n\
         [InitiatorGroup1]\n  InitiatorName \"ALL\"\n  Netmask 127.0.0.0/8\n\
         [LogicalUnit1]\n  TargetName disk1\n  Mapping PortalGroup1 InitiatorGroup1\n  AuthMethod {method}\n  \
         AuthGroup {group}\n  UseDigest Auto\n  UnitType Disk\n  QueueDepth 32\n  LUN0 Storage {disk} 64MB\n"
    );
    let conf = file("istgt.conf", &conf)?;
    let log = std::fs::File::create(directory.path().join("log")).map_err(|error| error.to_string())?;
    let mut child = Command::new(program)
        .args(["-D", "-c", &conf])
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| error.to_string())?;
    if let Err(error) = wait_for(&mut child, portal) {
        let said = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
        return Err(format!("{error}: {said}"));
    }
    let target = "iqn.2026-11.org.example:disk1".to_owned();
    Ok(Peer { name: "istgt", portal, target, lun: 0, child, directory })
}

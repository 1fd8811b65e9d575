//! Who is measured: each a process of its own on processor 0.

use crate::interop::target::free_portal;
use crate::packages::Need;
use crate::process::{Running, capture, find, tethered};
use crate::report::tail;
use crate::scratch::Scratch;
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::time::{Duration, Instant};

const START_LIMIT: Duration = Duration::from_secs(20);

/// Size of each disk; the load works in the first half.
const DISK_BYTES: u64 = 512 << 20;

const IQN: &str = "iqn.2026-11.org.lunette.bench:disk";

/// One column of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Contender {
    /// A server that does nothing but TCP.
    Raw,
    /// The same, with as much memory as the disks of the others are used.
    RawCold,
    LunetteMemory,
    LunetteUring,
    LunettePolling,
    LunetteFile,
    TgtMemory,
    TgtFile,
    IstgtMemory,
    IstgtFile,
    /// A target that somebody else has started, by the name that they gave it.
    Given(&'static str),
}

/// A target that runs already: `NAME=ADDRESS:PORT,IQN,PID[,LUN]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Peer {
    name: &'static str,
    portal: SocketAddr,
    iqn: String,
    pid: u32,
    lun: u16,
}

impl FromStr for Peer {
    type Err = anyhow::Error;

    fn from_str(words: &str) -> Result<Self> {
        let parts = words.split_once('=').map(|(name, rest)| (name, rest.split(',').collect::<Vec<_>>()));
        let (name, portal, iqn, pid, lun) = match parts {
            Some((name, rest)) if !name.is_empty() => match rest[..] {
                [portal, iqn, pid] => (name, portal, iqn, pid, "0"),
                [portal, iqn, pid, lun] => (name, portal, iqn, pid, lun),
                _ => bail!("'{words}' is not NAME=ADDRESS:PORT,IQN,PID[,LUN]"),
            },
            _ => bail!("'{words}' is not NAME=ADDRESS:PORT,IQN,PID[,LUN]"),
        };
        Ok(Self {
            // Once a run: contenders are small values that are compared and copied everywhere.
            name: Box::leak(name.to_owned().into_boxed_str()),
            portal: portal.parse().with_context(|| format!("'{portal}' is no ADDRESS:PORT"))?,
            iqn: iqn.to_owned(),
            pid: pid.parse().with_context(|| format!("'{pid}' is no number of a process"))?,
            lun: lun.parse().with_context(|| format!("'{lun}' is no LUN"))?,
        })
    }
}

impl Contender {
    pub(crate) const ALL: [Self; 10] = [
        Self::Raw,
        Self::RawCold,
        Self::LunetteMemory,
        Self::LunetteUring,
        Self::LunettePolling,
        Self::LunetteFile,
        Self::TgtMemory,
        Self::TgtFile,
        Self::IstgtMemory,
        Self::IstgtFile,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw TCP",
            Self::RawCold => "raw TCP, 256 MiB",
            Self::LunetteMemory => "lunette, memory",
            Self::LunetteUring => "lunette, memory, io_uring",
            Self::LunettePolling => "lunette, memory, polls",
            Self::LunetteFile => "lunette, file",
            Self::TgtMemory => "tgt, tmpfs",
            Self::TgtFile => "tgt, file",
            Self::IstgtMemory => "istgt, tmpfs",
            Self::IstgtFile => "istgt, file",
            Self::Given(name) => name,
        }
    }

    /// Whether it speaks nothing but TCP.
    pub(super) fn is_bare(self) -> bool {
        matches!(self, Self::Raw | Self::RawCold)
    }

    /// The one with the same kind of store among tgt's.
    pub(crate) fn rival(self) -> Option<Self> {
        match self {
            Self::LunetteMemory | Self::LunetteUring | Self::LunettePolling | Self::IstgtMemory => {
                Some(Self::TgtMemory)
            }
            Self::LunetteFile | Self::IstgtFile => Some(Self::TgtFile),
            Self::Raw | Self::RawCold | Self::TgtMemory | Self::TgtFile | Self::Given(_) => None,
        }
    }

    /// Whether a workload says anything about it.
    pub(crate) fn takes(self, workload: &str) -> bool {
        match self {
            // A bare server knows neither digests nor durability.
            Self::Raw | Self::RawCold => !workload.contains("-digest") && !workload.contains("-fua"),
            // Polling is about latency.
            Self::LunettePolling => workload.contains("1x1"),
            // Memory is durable or never is.
            Self::LunetteMemory | Self::LunetteUring | Self::TgtMemory | Self::IstgtMemory => {
                !workload.contains("-fua")
            }
            Self::IstgtFile | Self::LunetteFile | Self::TgtFile | Self::Given(_) => true,
        }
    }

    /// What runs, for the head of the report.
    pub(crate) fn version(self) -> String {
        let package = |name: &str| {
            let version = capture("dpkg-query", &["-W", "-f", "${Version}", name]).unwrap_or_default();
            format!("{name} {version}").trim().to_owned()
        };
        match self {
            Self::TgtMemory | Self::TgtFile => package("tgt"),
            Self::IstgtMemory | Self::IstgtFile => package("istgt"),
            Self::Given(name) => name.to_owned(),
            _ => concat!("lunette ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// The process whose processor time is counted.
#[derive(Debug)]
enum Process {
    /// Started here, and ended here.
    Own(Running),
    /// Somebody else's.
    Theirs(u32),
}

/// A running contender.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) contender: Contender,
    process: Process,
    portal: SocketAddr,
    iqn: String,
    lun: u16,
    /// Where the disk is, when it stands in memory; removed with the program.
    shared_memory: Option<PathBuf>,
}

impl Program {
    pub(super) fn start(contender: Contender, bench: &Path, scratch: &Scratch) -> Result<Self> {
        let missing = match contender {
            Contender::TgtMemory | Contender::TgtFile => Need::Tgt.missing(),
            Contender::IstgtMemory | Contender::IstgtFile => Need::Istgt.missing(),
            _ => None,
        };
        if let Some(missing) = missing {
            bail!("{missing}");
        }
        let portal = free_portal()?;
        let name = format!("{contender:?}").to_lowercase();
        let mut shared_memory = None;
        let mut disk = || -> Result<PathBuf> {
            let path = if matches!(contender, Contender::TgtMemory | Contender::IstgtMemory) {
                let path = PathBuf::from(format!("/dev/shm/lunette-bench-{}-{name}", std::process::id()));
                shared_memory = Some(path.clone());
                path
            } else {
                scratch.join(&name)
            };
            let file = std::fs::File::create(&path).with_context(|| format!("cannot create '{}'", path.display()))?;
            file.set_len(DISK_BYTES)?;
            Ok(path)
        };
        let mut command = tethered("taskset");
        command.args(["-c", "0"]);
        let mut lun = 0;
        match contender {
            Contender::Raw | Contender::RawCold => {
                command.arg(bench).args(["raw", "--portal", &portal.to_string()]);
                if contender == Contender::RawCold {
                    command.args(["--keep-mib", "256"]);
                }
            }
            Contender::LunetteMemory | Contender::LunetteUring | Contender::LunettePolling | Contender::LunetteFile => {
                command.arg(bench).args(["target", "--portal", &portal.to_string()]);
                command.args(["--size", &DISK_BYTES.to_string()]);
                match contender {
                    Contender::LunetteUring => command.args(["--interface", "io_uring"]),
                    Contender::LunettePolling => command.args(["--poll-us", "200"]),
                    Contender::LunetteFile => command.arg("--file").arg(disk()?),
                    _ => &mut command,
                };
            }
            Contender::TgtMemory | Contender::TgtFile => {
                lun = 1;
                let control = if contender == Contender::TgtMemory { "11" } else { "12" };
                command.arg(find("tgtd").context("no tgtd")?);
                command.args(["-f", "-C", control, "--iscsi", &format!("portal={portal}")]);
                command.env("TGT_IPC_SOCKET", scratch.join(&format!("{name}.control")));
            }
            Contender::IstgtMemory | Contender::IstgtFile => {
                let config = istgt(&name, portal, &disk()?, scratch)?;
                command.arg(find("istgt").context("no istgt")?).arg("-D").arg("-c").arg(config);
            }
            Contender::Given(name) => bail!("{name} is not started here"),
        }
        let mut running = Running::start(&name, command, &scratch.join(&format!("{name}.log")))?;
        wait_for_portal(&mut running, portal, contender.name())?;
        if matches!(contender, Contender::TgtMemory | Contender::TgtFile) {
            configure_tgt(&name, contender, &disk()?, scratch)?;
        }
        Ok(Self { contender, process: Process::Own(running), portal, iqn: IQN.to_owned(), lun, shared_memory })
    }

    /// One that runs already. What is on its disk is overwritten.
    pub(super) fn given(peer: &Peer) -> Result<Self> {
        let Peer { name, portal, iqn, pid, lun } = peer.clone();
        let mut program = Self {
            contender: Contender::Given(name),
            process: Process::Theirs(pid),
            portal,
            iqn,
            lun,
            shared_memory: None,
        };
        program.check_alive()?;
        Ok(program)
    }

    pub(super) fn load_arguments(&self) -> Vec<String> {
        let pid = match &self.process {
            Process::Own(running) => running.id(),
            Process::Theirs(pid) => *pid,
        };
        let mut arguments: Vec<String> =
            ["--portal", &self.portal.to_string(), "--pid", &pid.to_string()].map(str::to_owned).to_vec();
        if !self.contender.is_bare() {
            arguments.extend(["--iqn", &self.iqn, "--lun", &self.lun.to_string()].map(str::to_owned));
        }
        arguments
    }

    pub(super) fn check_alive(&mut self) -> Result<()> {
        match &mut self.process {
            Process::Own(running) => {
                if let Some(status) = running.poll() {
                    bail!("{} ended ({status}): {}", self.contender.name(), tail(&running.log(), 5, ""));
                }
            }
            Process::Theirs(pid) => {
                let is_there = Path::new("/proc").join(pid.to_string()).exists();
                ensure!(is_there, "{}: there is no process {pid}", self.contender.name());
            }
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Process::Own(running) = &mut self.process {
            running.kill();
        }
        if let Some(path) = &self.shared_memory {
            // It may be gone with the directory.
            let _ = std::fs::remove_file(path);
        }
    }
}

fn wait_for_portal(running: &mut Running, portal: SocketAddr, name: &str) -> Result<()> {
    let deadline = Instant::now() + START_LIMIT;
    loop {
        ensure!(running.poll().is_none(), "{name} ended: {}", tail(&running.log(), 5, ""));
        if TcpStream::connect_timeout(&portal, Duration::from_secs(1)).is_ok() {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{name} does not listen on {portal}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One target with one disk, and the lengths that suit large transfers: a peer at its best.
fn configure_tgt(name: &str, contender: Contender, disk: &Path, scratch: &Scratch) -> Result<()> {
    let control = if contender == Contender::TgtMemory { "11" } else { "12" };
    let run = |arguments: &[&str]| -> Result<()> {
        let output = Command::new(find("tgtadm").context("no tgtadm")?)
            .args(["-C", control, "--lld", "iscsi"])
            .args(arguments)
            .env("TGT_IPC_SOCKET", scratch.join(&format!("{name}.control")))
            .stdin(Stdio::null())
            .output()?;
        let words = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "'tgtadm {}' failed: {}", arguments.join(" "), words.trim());
        Ok(())
    };
    run(&["--op", "new", "--mode", "target", "--tid", "1", "-T", IQN])?;
    let disk = disk.display().to_string();
    run(&["--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", &disk])?;
    for (key, value) in [
        ("HeaderDigest", "CRC32C,None"),
        ("DataDigest", "CRC32C,None"),
        ("MaxRecvDataSegmentLength", "262144"),
        ("MaxXmitDataSegmentLength", "262144"),
        ("FirstBurstLength", "262144"),
        ("MaxBurstLength", "1048576"),
        ("InitialR2T", "No"),
        ("ImmediateData", "Yes"),
    ] {
        run(&["--op", "update", "--mode", "target", "--tid", "1", "--name", key, "--value", value])?;
    }
    run(&["--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"])
}

/// istgt's configuration: the lengths of its own example, which suit large transfers. It insists on an initial R2T.
fn istgt(name: &str, portal: SocketAddr, disk: &Path, scratch: &Scratch) -> Result<PathBuf> {
    let directory = scratch.join(&format!("{name}.d"));
    std::fs::create_dir_all(&directory)?;
    let mut text = String::new();
    let _ = write!(
        text,
        "[Global]
  NodeBase \"iqn.2026-11.org.lunette.bench\"
  PidFile {directory}/pid
  AuthFile {directory}/auth
  MediaDirectory {directory}
  LogFacility \"local7\"
  Timeout 30
  NopInInterval 20
  DiscoveryAuthMethod None
  MaxSessions 64
  MaxConnections 4
  MaxR2T 32
  MaxOutstandingR2T 16
  DefaultTime2Wait 2
  DefaultTime2Retain 60
  FirstBurstLength 262144
  MaxBurstLength 1048576
  MaxRecvDataSegmentLength 262144
  InitialR2T Yes
  ImmediateData Yes
  DataPDUInOrder Yes
  DataSequenceInOrder Yes
  ErrorRecoveryLevel 0
[UnitControl]
  AuthMethod None
  Portal UC1 {control}
  Netmask 127.0.0.1
[PortalGroup1]
  Portal P1 {portal}
[InitiatorGroup1]
  InitiatorName \"ALL\"
  Netmask 127.0.0.0/8
[LogicalUnit1]
  TargetName disk
  Mapping PortalGroup1 InitiatorGroup1
  AuthMethod None
  UseDigest Auto
  UnitType Disk
  QueueDepth 64
  LUN0 Storage {disk} {bytes}MB
",
        control = free_portal()?,
        directory = directory.display(),
        disk = disk.display(),
        bytes = DISK_BYTES >> 20,
    );
    std::fs::write(directory.join("auth"), "")?;
    let path = directory.join("conf");
    std::fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_that_runs_already_is_named_with_its_process() {
        let peer: Peer = "mine=127.0.0.1:3260,iqn.2026-11.org.example:disk,4711,3".parse().unwrap();
        let portal = "127.0.0.1:3260".parse().unwrap();
        let iqn = "iqn.2026-11.org.example:disk".to_owned();
        assert_eq!(peer, Peer { name: "mine", portal, iqn, pid: 4711, lun: 3 });
        for wrong in ["", "mine", "mine=127.0.0.1:3260", "=127.0.0.1:3260,iqn.x,1", "mine=127.0.0.1:3260,iqn.x,one"] {
            assert!(wrong.parse::<Peer>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_target_that_does_not_run_is_refused() {
        // No process has this number: the kernel's greatest is smaller.
        let peer: Peer = "gone=127.0.0.1:3260,iqn.x,4294967294".parse().unwrap();
        let refused = Program::given(&peer).unwrap_err().to_string();
        assert_eq!(refused, "gone: there is no process 4294967294");
    }
}

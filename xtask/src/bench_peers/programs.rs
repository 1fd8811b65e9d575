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
            Self::Raw | Self::RawCold | Self::TgtMemory | Self::TgtFile => None,
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
            Self::IstgtFile | Self::LunetteFile | Self::TgtFile => true,
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
            _ => concat!("lunette ", env!("CARGO_PKG_VERSION")).to_owned(),
        }
    }
}

/// A running contender.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) contender: Contender,
    running: Running,
    portal: SocketAddr,
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
        }
        let mut running = Running::start(&name, command, &scratch.join(&format!("{name}.log")))?;
        wait_for_portal(&mut running, portal, contender.name())?;
        if matches!(contender, Contender::TgtMemory | Contender::TgtFile) {
            configure_tgt(&name, contender, &disk()?, scratch)?;
        }
        Ok(Self { contender, running, portal, lun, shared_memory })
    }

    pub(super) fn load_arguments(&self) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["--portal", &self.portal.to_string(), "--pid", &self.running.id().to_string()].map(str::to_owned).to_vec();
        if !self.contender.is_bare() {
            arguments.extend(["--iqn", IQN, "--lun", &self.lun.to_string()].map(str::to_owned));
        }
        arguments
    }

    pub(super) fn check_alive(&mut self) -> Result<()> {
        if let Some(status) = self.running.poll() {
            bail!("{} ended ({status}): {}", self.contender.name(), tail(&self.running.log(), 5, ""));
        }
        Ok(())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        self.running.kill();
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

//! A server as a process of its own, and what it holds of the system.

use anyhow::{Context, Result, bail, ensure};
use lunette_server::admin::{Answer, Client, Done, LuInfo, Request, TargetSettings};
use std::fs::File;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to listen.
const START: Duration = Duration::from_secs(60);

/// The name of the target.
pub const TARGET: &str = "iqn.2026-11.org.example:trial";

/// The name by which a program of this package is the server itself.
const SERVER: &str = "lunette";

/// For the first line of a program: whether it was started by [`Served`] and is the server.
pub fn is_server() -> bool {
    std::env::args_os().next().is_some_and(|name| name == SERVER)
}

/// A running server with one target, killed when dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    portal: SocketAddr,
    client: Client,
    log: PathBuf,
}

impl Served {
    /// Starts this very program as a server: [`is_server`] then says so there. Its state and log are in `directory`.
    ///
    /// # Errors
    /// It does not come up in a minute.
    pub fn start(directory: &Path) -> Result<Self> {
        let (state, socket, log) = (directory.join("state"), directory.join("socket"), directory.join("log"));
        let mut command = Command::new(std::env::current_exe()?);
        command.arg0(SERVER).arg("serve").arg("--state").arg(&state).arg("--socket").arg(&socket);
        command.args(["--portal", "127.0.0.1:0"]).stdin(Stdio::null()).stderr(File::create(&log)?);
        let client = Client::new(&socket, Some(state));
        let portal = ([127, 0, 0, 1], 0).into();
        let mut served = Self { child: command.spawn().context("cannot start the server")?, portal, client, log };
        let deadline = Instant::now() + START;
        loop {
            let log = served.log();
            // It says so when it serves both: the portals and the management socket.
            let said = log.lines().filter(|line| line.contains("listening"));
            let mut said = said.filter_map(|line| line.split_once("portal=")?.1.split_once(' '));
            if let Some((portal, _)) = said.next_back() {
                served.portal = portal.parse().context("the portal in the log")?;
                break;
            }
            ensure!(Instant::now() < deadline, "the server does not listen: {log}");
            std::thread::sleep(Duration::from_millis(10));
        }
        let settings = TargetSettings { name: Some(TARGET.into()), ..TargetSettings::default() };
        served.change(&Request::CreateTarget { settings })?;
        Ok(served)
    }

    /// Where it listens.
    pub fn portal(&self) -> SocketAddr {
        self.portal
    }

    /// Its management.
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The URL of a logical unit.
    pub fn url(&self, lun: u16) -> String {
        format!("iscsi://{}/{TARGET}/{lun}", self.portal)
    }

    /// Carries out a change.
    ///
    /// # Errors
    /// The server's words.
    pub fn change(&self, request: &Request) -> Result<Done> {
        match self.client.execute(request)? {
            Answer::Done(done) => {
                if let Some(failure) = done.failures.first() {
                    bail!("{failure}");
                }
                Ok(done)
            }
            other => bail!("an answer of another kind: {other:?}"),
        }
    }

    /// Makes a unit of a new sparse file and shows it to everybody. Its name.
    ///
    /// # Errors
    /// The server's words, or the system's.
    pub fn add_unit(&self, file: &Path, bytes: u64, lun: u16) -> Result<String> {
        File::create(file).and_then(|file| file.set_len(bytes)).with_context(|| format!("{}", file.display()))?;
        let create =
            Request::CreateLu { file: file.display().to_string(), size: None, properties: vec![], force: true };
        let done = self.change(&create)?;
        let lu = done.lu.map(|lu: Box<LuInfo>| lu.guid).or(done.name).context("a unit without a name")?;
        let view = Request::AddView { lu: lu.clone(), host_group: None, target_group: None, lun: Some(lun.into()) };
        self.change(&view)?;
        Ok(lu)
    }

    /// What it holds now.
    ///
    /// # Errors
    /// It is gone.
    pub fn resources(&self) -> Result<Resources> {
        Resources::of(self.child.id())
    }

    /// Whether the process still runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a process holds of the system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Resident memory in KiB.
    pub resident_kib: u64,
    /// Open descriptors.
    pub descriptors: usize,
    /// Threads.
    pub threads: u64,
    /// Processor time used so far, in milliseconds.
    pub cpu_ms: u64,
}

impl Resources {
    /// Of this process.
    ///
    /// # Errors
    /// There is none of that number.
    pub fn of(pid: u32) -> Result<Self> {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the process is gone")?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.trim().trim_end_matches(" kB").parse().unwrap_or(0)
        };
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let (_, fields) = stat.rsplit_once(") ").context("no process name")?;
        let ticks = |at: usize| fields.split(' ').nth(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let cpu_ms = (ticks(11) + ticks(12)) * 1000 / rustix::param::clock_ticks_per_second().max(1);
        let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Self { resident_kib: number("VmRSS:"), descriptors, threads: number("Threads:"), cpu_ms })
    }
}

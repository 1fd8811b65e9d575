//! `lunette serve` as a process of its own, on a host of the tests.

use std::ffi::OsString;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::Host;

/// A running server, killed when dropped.
pub(crate) struct Served {
    child: Child,
    portal: SocketAddr,
}

/// A port of the loopback interface that nobody listens on. It lies below those that the system gives to connections of all
/// the tests beside this one, which could take it before it is used.
pub(crate) fn free_portal() -> SocketAddr {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let ports = std::iter::repeat_with(|| {
        let number = std::process::id() as usize * 16 + NEXT.fetch_add(1, Ordering::Relaxed);
        SocketAddr::from(([127, 0, 0, 1], 12_000 + (number % 20_000) as u16))
    });
    ports.take(20_000).find(|portal| TcpListener::bind(portal).is_ok()).expect("one of 20,000 ports is free")
}

/// The system interface of the next server: that of `$LUNETTE_INTERFACE`, else each in turn, so that restarts change it, too.
fn interface() -> OsString {
    static STARTED: AtomicUsize = AtomicUsize::new(0);
    std::env::var_os("LUNETTE_INTERFACE").unwrap_or_else(|| {
        if STARTED.fetch_add(1, Ordering::Relaxed).is_multiple_of(2) { "io_uring" } else { "epoll" }.into()
    })
}

impl Served {
    /// Serves the state of `host`, with a portal of the default group; its log is in the file `log` there.
    pub(crate) fn start(host: &Host) -> Self {
        Self::start_with(host, |_| {})
    }

    /// The same, with changes of the command line or environment.
    pub(crate) fn start_with(host: &Host, change: impl FnOnce(&mut Command)) -> Self {
        let log = std::fs::File::create(host.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
        command
            .arg("serve")
            .arg("--state")
            .arg(host.state())
            .arg("--socket")
            .arg(host.socket())
            .args(["--portal", "127.0.0.1:0"])
            .env("LUNETTE_INTERFACE", interface())
            .stdin(Stdio::null())
            .stderr(log);
        change(&mut command);
        let mut served = Self { child: command.spawn().unwrap(), portal: ([127, 0, 0, 1], 0).into() };
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let log = served.log(host);
            // It says so when it serves both: the portals and the management socket.
            let said = log.lines().filter(|line| line.contains("listening"));
            let mut said = said.filter_map(|line| line.split_once("portal=")?.1.split_once(' '));
            if let Some((portal, _)) = said.next_back() {
                served.portal = portal.parse().unwrap();
                return served;
            }
            assert!(Instant::now() < deadline, "it does not listen: {log}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The portal of the default group.
    pub(crate) fn portal(&self) -> SocketAddr {
        self.portal
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged.
    pub(crate) fn log(&self, host: &Host) -> String {
        std::fs::read_to_string(host.path().join("log")).unwrap_or_default()
    }

    /// Holds the process as it is, between any two of its instructions, for as long as `work` takes.
    pub(crate) fn frozen<R>(&self, work: impl FnOnce() -> R) -> R {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, Signal::STOP).unwrap();
        let result = work();
        kill_process(pid, Signal::CONT).unwrap();
        result
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

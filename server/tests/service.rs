//! The binary as a service: sockets that were opened before it, and what it tells the service manager.

mod common;

use std::net::{TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::Host;
use rustix::io::{FdFlags, fcntl_setfd};
use rustix::process::{Pid, Signal, kill_process};

/// A service manager of its own: it opens the sockets, starts the program, and hears what it says.
struct Manager {
    host: Host,
    words: UnixDatagram,
    portal: TcpListener,
    control: UnixListener,
}

impl Manager {
    fn new() -> Self {
        let host = Host::new();
        let words = UnixDatagram::bind(host.path().join("notify")).unwrap();
        words.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let portal = TcpListener::bind("127.0.0.1:0").unwrap();
        let control = UnixListener::bind(host.socket()).unwrap();
        fcntl_setfd(&portal, FdFlags::empty()).unwrap();
        fcntl_setfd(&control, FdFlags::empty()).unwrap();
        Self { host, words, portal, control }
    }

    fn start(&self) -> Service {
        let (portal, control) = (self.portal.as_raw_fd(), self.control.as_raw_fd());
        // High numbers first, so that neither is overwritten before it is moved. The shell becomes the program, which
        // therefore has the shell's process id.
        let script = format!(
            "exec 91<&{portal} 92<&{control}; exec 3<&91 4<&92 91<&- 92<&-; LISTEN_PID=$$ LISTEN_FDS=2 \
             NOTIFY_SOCKET={} WATCHDOG_USEC=200000 exec {} serve --state {} --log info",
            self.host.path().join("notify").display(),
            env!("CARGO_BIN_EXE_lunette"),
            self.host.state().display()
        );
        let log = std::fs::File::create(self.host.path().join("log")).unwrap();
        // bash: a file descriptor of two digits is no word of sh's grammar.
        let child = Command::new("bash").args(["-c", &script]).stdin(Stdio::null()).stderr(log).spawn().unwrap();
        Service(child)
    }

    /// Waits for a word of the program.
    fn hears(&self, word: &str) {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut buffer = [0; 256];
        while Instant::now() < deadline {
            let length = self.words.recv(&mut buffer).unwrap_or_else(|error| panic!("{word}: {error}: {}", self.log()));
            if String::from_utf8_lossy(&buffer[..length]).lines().any(|line| line == word) {
                return;
            }
        }
        panic!("it does not say {word}: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.host.path().join("log")).unwrap_or_default()
    }
}

struct Service(Child);

impl Service {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn inherited_sockets_are_served_and_the_service_manager_is_told() {
    let manager = Manager::new();
    let portal = manager.portal.local_addr().unwrap();
    // Connections and commands that come before the program do not fail: they wait.
    let early = TcpStream::connect(portal).unwrap();
    let mut service = manager.start();
    manager.hears("READY=1");
    manager.hears("WATCHDOG=1");
    manager.hears("WATCHDOG=1");
    assert_eq!(manager.host.output("stmfadm list-hg"), "");
    manager.host.silent("stmfadm create-hg hg1");
    let status = manager.host.output("lunette status");
    assert!(status.contains(&portal.to_string()), "{status}");
    assert!(!manager.log().contains("3260"), "it listens elsewhere, too: {}", manager.log());
    drop(early);
    service.signal(Signal::TERM);
    manager.hears("STOPPING=1");
    assert!(service.0.wait().unwrap().success(), "{}", manager.log());
    assert!(manager.host.socket().exists(), "the service manager's socket was removed");
    // The next start takes over the same sockets and the configuration.
    let _second = manager.start();
    manager.hears("READY=1");
    assert_eq!(manager.host.output("stmfadm list-hg"), "Host Group: hg1\n");
}

#[test]
fn sockets_for_another_process_are_not_taken() {
    let host = Host::new();
    let served = common::served::Served::start_with(&host, |command| {
        command.env("LISTEN_PID", "1").env("LISTEN_FDS", "2").env("NOTIFY_SOCKET", "/nonexistent/notify");
    });
    assert_eq!(host.output("stmfadm list-hg"), "");
    // A service manager that cannot be told is no reason not to serve.
    assert!(served.log(&host).contains("service manager"), "{}", served.log(&host));
}

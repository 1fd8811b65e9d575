//! The binary as a process: how it starts, refuses to start, and ends.

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};
use testkit::initiator::{Initiator, LoginOptions, TcpWire};

struct Serve {
    child: Child,
    log: BufReader<ChildStderr>,
    portal: SocketAddr,
}

impl Serve {
    fn start(place: &Path) -> Self {
        let mut child = command(place, "127.0.0.1:0").spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let portal = loop {
            let mut line = String::new();
            assert!(log.read_line(&mut line).unwrap() > 0, "ended before it listened");
            if let Some((_, rest)) = line.split_once("portal=") {
                break rest.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Self { child, log, portal }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn wait(mut self) -> (Option<i32>, Duration) {
        let started = Instant::now();
        // The log has to be taken, or the server would wait for its reader.
        let _ = self.log.read_to_string(&mut String::new());
        (self.child.wait().unwrap().code(), started.elapsed())
    }

    fn discover(&self) -> Initiator<TcpWire> {
        let mut initiator = Initiator::new(TcpWire::connect(self.portal).unwrap());
        initiator.login(&LoginOptions::discovery("iqn.2026-11.org.example:test")).unwrap();
        initiator
    }
}

fn command(place: &Path, portal: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.arg("serve").arg("--state").arg(place.join("state")).arg("--socket").arg(place.join("socket"));
    command.args(["--threads", "1", "--log", "info", "--portal", portal]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

#[test]
fn sigint_ends_an_initiator_that_stays() {
    let place = tempfile::tempdir().unwrap();
    let serve = Serve::start(place.path());
    let _initiator = serve.discover();
    serve.signal(Signal::INT);
    let (code, time) = serve.wait();
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(10), "{time:?}");
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = tempfile::tempdir().unwrap();
    let serve = Serve::start(place.path());
    let mut initiator = serve.discover();
    serve.signal(Signal::TERM);
    while initiator.async_messages.is_empty() {
        initiator.ping(b"still here").unwrap();
    }
    serve.signal(Signal::TERM);
    let (code, time) = serve.wait();
    assert_eq!(code, Some(1));
    assert!(time < Duration::from_secs(3), "{time:?}");
}

#[test]
fn a_used_port_is_named_with_the_remedy() {
    let place = tempfile::tempdir().unwrap();
    let holder = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let portal = holder.local_addr().unwrap().to_string();
    let output = command(place.path(), &portal).output().unwrap();
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(words.contains(&format!("cannot listen on portal {portal}")), "{words}");
    assert!(words.contains("hint: another program"), "{words}");
}

//! The binary as a process: how it starts, refuses to start, and ends.

use iscsi_proto::pdu::AsyncEvent;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command as Program, Stdio};
use std::time::{Duration, Instant};
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};

const TARGET: &str = "iqn.2026-11.org.example:disks";

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

    fn log_in(&self) -> Initiator<TcpWire> {
        let mut initiator = Initiator::new(TcpWire::connect(self.portal).unwrap());
        initiator.login(&LoginOptions::normal("iqn.2026-11.org.example:test", TARGET)).unwrap();
        initiator
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

fn command(place: &Path, portal: &str) -> Program {
    let mut command = Program::new(env!("CARGO_BIN_EXE_lunette"));
    command.arg("serve").arg("--state").arg(place.join("state")).arg("--socket").arg(place.join("socket"));
    command.args(["--threads", "1", "--log", "info", "--portal", portal]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Changes the configuration of a server that does not run.
fn administer(place: &Path, program: &str, arguments: &[&str]) -> String {
    let mut command = Program::new(env!("CARGO_BIN_EXE_lunette"));
    command.arg(program).args(arguments).arg("--state").arg(place.join("state"));
    let output = command.arg("--socket").arg(place.join("socket")).output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn sigterm_asks_for_logout_and_ends_well() {
    let place = tempfile::tempdir().unwrap();
    let serve = Serve::start(place.path());
    let mut initiator = serve.discover();
    serve.signal(Signal::TERM);
    while initiator.async_messages.is_empty() {
        initiator.ping(b"still here").unwrap();
    }
    initiator.logout().unwrap();
    drop(initiator);
    let (code, time) = serve.wait();
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(4), "{time:?}");
}

#[test]
fn sigterm_lets_a_session_finish_what_it_began_and_log_out() {
    let place = tempfile::tempdir().unwrap();
    administer(place.path(), "itadm", &["create-target", "-n", TARGET]);
    let disk = place.path().join("disk");
    administer(place.path(), "sbdadm", &["create-lu", "-s", "16m", disk.to_str().unwrap()]);
    let listed = administer(place.path(), "stmfadm", &["list-lu"]);
    let guid = listed.rsplit(' ').next().unwrap().trim();
    administer(place.path(), "stmfadm", &["add-view", guid]);

    let serve = Serve::start(place.path());
    let mut initiator = serve.log_in();
    while !initiator.command(&Command::new(0, &[0; 6])).unwrap().is_good() {}
    serve.signal(Signal::TERM);
    let mut lba = 0;
    while initiator.async_messages.is_empty() {
        assert!(initiator.command(&Command::write_blocks(0, lba, vec![0xa5; 4096])).unwrap().is_good());
        lba = (lba + 8) % 1024;
    }
    let request = &initiator.async_messages[0];
    assert_eq!(request.event, AsyncEvent::LOGOUT_REQUESTED);
    assert!(initiator.command(&Command::write_blocks(0, 2048, vec![0x5a; 4096])).unwrap().is_good());
    initiator.logout().unwrap();
    drop(initiator);
    let (code, time) = serve.wait();
    assert_eq!(code, Some(0));
    assert!(time < Duration::from_secs(4), "{time:?}");
    let written = std::fs::read(&disk).unwrap();
    assert!(written[2048 * 512..2048 * 512 + 4096].iter().all(|byte| *byte == 0x5a));
}

#[test]
fn a_signal_while_the_server_starts_is_kept() {
    for delay in [0, 1, 2, 5, 10, 20] {
        let place = tempfile::tempdir().unwrap();
        let mut child = command(place.path(), "127.0.0.1:0").spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        // From the first line on the program has its signals in hand.
        assert!(log.read_line(&mut String::new()).unwrap() > 0);
        std::thread::sleep(Duration::from_millis(delay));
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let mut rest = String::new();
        log.read_to_string(&mut rest).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0), "{rest}");
        assert!(rest.contains("SIGTERM: stopping"), "{rest}");
    }
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

/// What `lunette status` says of the data path of a server that was told to use io_uring, and the server's log.
fn io_uring_asked_for(runner: &[&str]) -> (String, String) {
    let place = tempfile::tempdir().unwrap();
    let (plain, socket) = (command(place.path(), "127.0.0.1:0"), place.path().join("socket"));
    let mut words: Vec<_> = runner.iter().map(std::ffi::OsStr::new).collect();
    words.push(plain.get_program());
    words.extend(plain.get_args());
    let mut child = Program::new(words[0]);
    child.args(&words[1..]).args(["--interface", "io_uring"]);
    let mut child = child.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains("portal=") {
        assert!(log.read_line(&mut said).unwrap() > 0, "ended before it listened: {said}");
    }
    let status =
        Program::new(env!("CARGO_BIN_EXE_lunette")).arg("status").arg("--socket").arg(&socket).output().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    log.read_to_string(&mut said).unwrap();
    child.wait().unwrap();
    assert!(status.status.success(), "{status:?}");
    let status = String::from_utf8(status.stdout).unwrap();
    let interface = status.lines().find(|line| line.contains("ata path")).unwrap_or_else(|| panic!("{status}"));
    (interface.to_owned(), said)
}

#[test]
fn where_io_uring_is_forbidden_epoll_serves_and_status_says_so() {
    // As a container forbids it; the tracer stands aside, and the child is the server.
    let forbidding = ["strace", "-D", "-f", "-qq", "-o", "/dev/null", "-e", "inject=io_uring_setup:error=EPERM"];
    let tried = Program::new(forbidding[0]).args(&forbidding[1..]).arg("true").output();
    if !tried.as_ref().is_ok_and(|output| output.status.success()) {
        return eprintln!(
            "skipped: strace cannot trace here: {tried:?}; Debian's package is strace, and ptrace must be allowed"
        );
    }
    let (interface, log) = io_uring_asked_for(&forbidding);
    assert!(interface.contains("epoll") && !interface.contains("io_uring"), "{interface}");
    assert!(log.contains("io_uring is not available here; the data path uses epoll"), "{log}");
    assert!(log.contains("Operation not permitted"), "{log}");
}

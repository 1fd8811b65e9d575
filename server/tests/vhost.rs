//! Ports for virtual machines, as an administrator sees them: the commands, over a socket to which a monitor connects.
#![cfg(feature = "vhost-user")]

mod common;

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::Host;
use common::served::Served;

const TARGET: &str = "iqn.2026-11.org.lunette:vhost.web";
const GUEST: &str = "iqn.2026-11.org.lunette:guest.web";

/// What a command prints once it prints what is waited for.
fn until(host: &Host, line: &str, wanted: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let said = host.output(line);
        if said.contains(wanted) {
            return said;
        }
        assert!(Instant::now() < deadline, "'{line}' does not say '{wanted}': {said}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A monitor that connects and says nothing.
fn connect(socket: &Path) -> UnixStream {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

#[test]
fn a_port_is_listed_and_taken_offline_as_any_target() {
    let host = Host::new();
    let socket = host.path().join("web.sock");
    let _served = Served::start_with(&host, |command| {
        command.arg(format!("--vhost-user={}", socket.display()));
    });
    let said = host.output("stmfadm list-target -v");
    let expected = [
        format!("Target: {TARGET}"),
        "Operational Status: Online".into(),
        "Provider Name     : vhost-user".into(),
        format!("Alias             : {}", socket.display()),
        "Sessions          : 0".into(),
    ];
    for words in expected {
        assert!(said.contains(&words), "no '{words}' in: {said}");
    }

    let mut monitor = connect(&socket);
    until(&host, "stmfadm list-target -v", &format!("Initiator: {GUEST}"));
    let said = host.output(&format!("lunette explain {GUEST}"));
    assert!(said.contains(&format!("the machine at {} logs in by this name", socket.display())), "{said}");

    host.output(&format!("stmfadm offline-target {TARGET}"));
    let said = host.output(&format!("stmfadm list-target -v {TARGET}"));
    assert!(said.contains("Operational Status: Offline") && said.contains("Sessions          : 0"), "{said}");
    assert_eq!(monitor.read(&mut [0; 16]).unwrap(), 0, "the session of the machine has ended");
    // One that comes now is turned away.
    assert_eq!(connect(&socket).read(&mut [0; 16]).unwrap(), 0);

    host.output(&format!("stmfadm online-target {TARGET}"));
    let _monitor = connect(&socket);
    until(&host, "stmfadm list-target -v", &format!("Initiator: {GUEST}"));
}

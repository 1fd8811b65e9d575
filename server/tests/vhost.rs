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
const NAMED: &str = "iqn.2026-11.org.example:second";
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

fn refused(host: &Host, line: &str, words: &str) {
    let outcome = host.run(line);
    assert!(outcome.status != 0 && outcome.stderr.contains(words), "{line}: {outcome:?}");
    assert!(outcome.stderr.contains("\nhint: "), "{line}: {outcome:?}");
}

#[test]
fn a_port_is_made_listed_kept_over_a_restart_and_deleted() {
    let host = Host::new();
    let (first, second) = (host.path().join("web.sock"), host.path().join("other").join("web.sock"));
    std::fs::create_dir(host.path().join("other")).unwrap();
    let create = |path: &Path, more: &str| format!("lunette vhost create-port {}{more}", path.display());
    let served = Served::start(&host);
    host.prints(&create(&first, ""), &format!("{TARGET}\n"));
    // One name for two of them is refused, and so is one socket for two.
    let clash = format!("{TARGET}: there is a target of this name");
    refused(&host, &create(&second, ""), &clash);
    let taken = format!("{}: there is a port with this socket", first.display());
    refused(&host, &create(&first, &format!(" --target {NAMED}")), &taken);
    refused(&host, &format!("itadm create-target -n {TARGET}"), "there is a vhost-user port of this name");
    let json = host.output(&create(&second, &format!(" --target {NAMED} --initiator wwn.210000e08b01f7e2 --json")));
    assert!(json.contains(NAMED), "{json}");
    let listed = host.output("lunette vhost list -p");
    let lines = [
        format!("{}\t{NAMED}\twwn.210000E08B01F7E2\tnot connected\n", second.display()),
        format!("{}\t{TARGET}\t{GUEST}\tnot connected\n", first.display()),
    ];
    assert_eq!(listed, lines.concat());
    let monitor = connect(&first);
    until(&host, "lunette vhost list", &format!("{TARGET}  guest {GUEST}  connected"));
    let audit = std::fs::read_to_string(host.state().join("audit.log")).unwrap();
    assert!(audit.contains(&format!("vhost-user port {NAMED} is {}", second.display())), "{audit}");

    // The same in a document, which makes them again.
    let document = host.output("lunette config export");
    assert_eq!(document.matches("[[vhost-port]]").count(), 2, "{document}");
    host.output(&format!("lunette vhost delete-port {NAMED}"));
    assert!(!second.exists(), "the socket goes with its port");
    let file = host.path().join("document");
    std::fs::write(&file, &document).unwrap();
    let done = host.output(&format!("lunette config import {}", file.display()));
    assert!(done.contains(&format!("create vhost-port {NAMED}")), "{done}");
    assert!(UnixStream::connect(&second).is_ok());

    drop(monitor);
    drop(served);
    // Without a server they can be listed and deleted too.
    assert_eq!(host.output("lunette vhost list -p"), lines.concat());
    host.output(&format!("lunette vhost delete-port {}", second.display()));
    let _served = Served::start(&host);
    let _monitor = connect(&first);
    until(&host, "stmfadm list-target -v", &format!("Initiator: {GUEST}"));
    assert!(!host.output("stmfadm list-target").contains(NAMED));
    // A port that goes while its machine is connected can come back at once.
    host.output(&format!("lunette vhost delete-port {}", first.display()));
    host.prints(&create(&first, ""), &format!("{TARGET}\n"));
    let _monitor = connect(&first);
    until(&host, "lunette vhost list", &format!("{TARGET}  guest {GUEST}  connected"));
}

#[test]
fn a_port_whose_socket_cannot_be_made_is_told_and_tried_again() {
    let host = Host::new();
    let directory = host.path().join("later");
    let socket = directory.join("web.sock");
    let _served = Served::start(&host);
    let outcome = host.run(&format!("lunette vhost create-port {}", socket.display()));
    assert_eq!(outcome.status, 0, "{outcome:?}");
    assert!(outcome.stderr.contains("No such file or directory"), "{outcome:?}");
    let status = host.output("lunette status");
    assert!(status.contains(&format!("vhost-user port {}: No such file", socket.display())), "{status}");
    std::fs::create_dir(&directory).unwrap();
    // The keeper tries every ten seconds, and after each change.
    host.output(&format!("lunette vhost create-port {}", host.path().join("other.sock").display()));
    until(&host, "lunette vhost list", "vhost.web  guest iqn.2026-11.org.lunette:guest.web  not connected");
    assert!(UnixStream::connect(&socket).is_ok());
}

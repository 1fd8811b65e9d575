//! FCoE with CAP_NET_RAW and no other right, and without it: a server in a network namespace of the test's own, with both
//! ends of a virtual cable.
#![cfg(feature = "fcoe")]

mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::Host;
use common::served::Served;

/// Makes the cable and becomes the program of the arguments.
const INSIDE: &str = "ip link set lo up && ip link add fc0 type veth peer name fc1 && ip link set fc0 mtu 2500 up && \
                      ip link set fc1 mtu 2500 up && exec \"$@\"";

/// Every right but that one.
const WITHOUT: &[&str] = &["--bounding-set=-net_raw"];
/// That right alone, as root of a namespace, which owns its files.
const ALONE: &[&str] = &["--inh-caps=-all,+net_raw", "--bounding-set=-all,+net_raw"];
/// That right alone, as nobody.
const AS_NOBODY: &[&str] = &[
    "--reuid=65534",
    "--regid=65534",
    "--clear-groups",
    "--inh-caps=-all,+net_raw",
    "--ambient-caps=-all,+net_raw",
    "--bounding-set=-all,+net_raw",
];

/// CAP_NET_RAW as `/proc` prints a set with it alone.
const NET_RAW: &str = "CapEff:\t0000000000002000";

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command in a namespace with the cable, and with these rights.
fn confined(rights: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command.arg("--net");
    if !is_root() {
        command.arg("--map-root-user");
    }
    command.args(["sh", "-c", INSIDE, "sh", "setpriv"]).args(rights);
    command
}

/// Why that cannot be had here.
fn missing(rights: &[&str]) -> Option<String> {
    match confined(rights).arg("true").stdin(Stdio::null()).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => Some(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// The server with these rights; its program is where anybody may read it.
fn serve(host: &Host, rights: &[&str]) -> Served {
    let program = host.path().join("program");
    if !program.exists() {
        let built = Path::new(env!("CARGO_BIN_EXE_lunette"));
        std::fs::hard_link(built, &program).or_else(|_| std::fs::copy(built, &program).map(drop)).unwrap();
        std::fs::set_permissions(host.path(), PermissionsExt::from_mode(0o777)).unwrap();
    }
    Served::start_with(host, |command| {
        let mut inside = confined(rights);
        inside.arg(&program).args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            if let Some(value) = value {
                inside.env(name, value);
            }
        }
        // What was set before is lost with the command that it was set of.
        inside.stderr(std::fs::File::create(host.path().join("log")).unwrap());
        *command = inside;
    })
}

/// What a command prints once it prints what is waited for.
fn until(host: &Host, line: &str, wanted: &str) -> String {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let output = host.output(line);
        if output.contains(wanted) {
            return output;
        }
        assert!(Instant::now() < deadline, "{line}: {output}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn without_cap_net_raw_a_port_is_kept_told_and_up_once_the_server_has_it() {
    if let Some(reason) = missing(WITHOUT).or_else(|| missing(ALONE)) {
        eprintln!("skipped: no namespace with a virtual cable: {reason}");
        return;
    }
    let host = Host::new();
    let server = serve(&host, WITHOUT);
    let said = host.run("fcadm create-fcoe-port -t fc0");
    assert_eq!((said.stdout.as_str(), said.status), ("", 0), "{said:?}");
    // The interface, the reason, the remedy, and what becomes of it.
    for words in ["packet socket on 'fc0'", "CAP_NET_RAW", "AmbientCapabilities=CAP_NET_RAW", "the port is kept"] {
        assert!(said.stderr.contains(words), "{said:?}");
    }
    let listed = host.output("fcadm list-fcoe-ports");
    assert!(listed.contains("MAC Name: fc0\n") && listed.contains("\tProblem: no permission"), "{listed}");
    assert!(host.output("lunette status").contains("no permission to open a packet socket on 'fc0'"));
    // It is a target that nobody reaches, and there is one of it.
    assert!(host.output("stmfadm list-target -v").contains("Operational Status: Offline"));
    let again = host.run("fcadm create-fcoe-port -t fc0");
    assert!(again.status == 1 && again.stderr.contains("already exists"), "{again:?}");
    drop(server);

    let _server = serve(&host, ALONE);
    let listed = until(&host, "fcadm list-fcoe-ports", "FCoE State: ");
    assert!(!listed.contains("Problem"), "{listed}");
    until(&host, "fcinfo hba-port -t -e", "Port Mode: Target");
}

#[test]
fn cap_net_raw_alone_is_enough_for_ports_that_find_each_other() {
    let rights = if is_root() { AS_NOBODY } else { ALONE };
    if let Some(reason) = missing(rights) {
        eprintln!("skipped: no namespace with a virtual cable: {reason}");
        return;
    }
    let host = Host::new();
    let server = serve(&host, rights);
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    assert!(status.contains(NET_RAW), "{status}");
    host.silent("fcadm create-fcoe-port -t fc0");
    host.silent("fcadm create-fcoe-port -i fc1");
    let listed = until(&host, "stmfadm list-target -v", "Sessions          : 1");
    let ports = host.output("fcadm list-fcoe-ports");
    for words in ["MAC Name: fc0\n", "MAC Name: fc1\n", "MTU Size: 2500\n", "FCoE State: vn2vn\n", "Neighbours: 1\n"] {
        assert!(ports.contains(words), "{ports}");
    }
    // The session is that of the other end.
    let name = ports.lines().filter_map(|line| line.strip_prefix("HBA Port WWN: ")).zip(["-i", "-t"]);
    for (name, mode) in name {
        assert!(
            host.output(&format!("fcinfo hba-port {mode}")).contains(&format!("HBA Port WWN: {name}\n")),
            "{ports}"
        );
        if mode == "-i" {
            assert!(listed.contains(&format!("Initiator: wwn.{}", name.to_uppercase())), "{listed}");
        }
    }
    host.silent("fcadm delete-fcoe-port fc0");
    host.silent("fcadm delete-fcoe-port fc1");
    host.silent("fcadm list-fcoe-ports");
}

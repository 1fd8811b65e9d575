//! Commands in a row over a running workload: it notices none of them.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::Host;
use common::served::{Served, free_portal};
use lunette_client::{Disk, Options};
use lunette_server::admin::{Answer, Client, Done, Kind, Request, TargetSettings};

const LOADED: &str = "600144f0000000000000000000000001";
const TARGET: &str = "iqn.2026-11.org.example:loaded";
const INITIATOR: &str = "iqn.2026-11.org.example:busy";
const COMMANDS: usize = 2000;

/// Reads and writes everything until it is told to stop; the first error is the end.
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: std::thread::JoinHandle<Result<u64, String>>,
}

impl Load {
    fn start(portal: std::net::SocketAddr) -> Self {
        let mut options = Options::new(portal.ip().to_string(), TARGET, 0);
        options.port = portal.port();
        options.initiator_name = INITIATOR.into();
        options.reconnect_timeout = std::time::Duration::ZERO;
        let disk = Disk::connect_with(options).unwrap();
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, count) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            let mut round = 0u64;
            while !stopped.load(Ordering::Relaxed) {
                let (offset, data) = (round % 2000 * 4096, [round as u8; 4096]);
                let mut back = [0; 4096];
                disk.write_at(offset, &data).map_err(|error| error.to_string())?;
                disk.read_at(offset, &mut back).map_err(|error| error.to_string())?;
                if back != data {
                    return Err(format!("round {round}: other bytes came back"));
                }
                round += 1;
                count.store(round, Ordering::Relaxed);
            }
            Ok(disk.logins())
        });
        Self { stop, rounds, thread }
    }

    fn end(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let logins = self.thread.join().unwrap().expect("an error of the workload");
        assert_eq!(logins, 1, "the session was interrupted");
        self.rounds.load(Ordering::Relaxed)
    }
}

fn view(lu: &str, host_group: Option<&str>) -> Request {
    Request::AddView { lu: lu.into(), host_group: host_group.map(str::to_owned), target_group: None, lun: None }
}

fn get(address: std::net::SocketAddr) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn two_thousand_commands_cost_a_workload_no_error() {
    let host = Host::new();
    let metrics = free_portal();
    let server = Served::start_with(&host, |command| {
        command.args(["--metrics", &metrics.to_string()]);
    });
    host.lu("loaded", LOADED);
    host.silent("stmfadm create-hg busy");
    host.output(&format!("stmfadm add-hg-member -g busy {INITIATOR}"));
    host.silent(&format!("stmfadm add-view -h busy -n 0 {LOADED}"));
    host.output(&format!("itadm create-target -n {TARGET}"));
    let load = Load::start(server.portal());
    let client = Client::new(host.socket(), None);
    let file = host.file("other", 1 << 20);
    let mut commands = 0;
    let mut call = |request: Request| -> Done {
        commands += 1;
        match client.execute(&request).unwrap_or_else(|error| panic!("{request:?}: {error}")) {
            Answer::Done(done) => done,
            answer => panic!("{answer:?}"),
        }
    };
    let mut round = 0;
    let mut by_hand = 0;
    while call(Request::CreateGroup { kind: Kind::Host, name: format!("group-{round}") }) == Done::default() {
        let group = format!("group-{round}");
        // What the busy initiator sees changes too: a LUN comes, grows, is moved to another entry and goes.
        let created = Request::CreateLu { file: file.clone(), size: None, properties: vec![], force: true };
        let lu = call(created).name.expect("a name");
        call(view(&lu, Some("busy")));
        call(Request::ModifyLu { lu: lu.clone(), size: Some(format!("{}M", 2 + round % 7)), properties: vec![] });
        call(Request::SetLuState { lu: lu.clone(), online: false });
        call(Request::SetLuState { lu: lu.clone(), online: true });
        call(Request::RemoveViews { lu: lu.clone(), indexes: None });
        call(view(&lu, Some(&group)));
        let members = vec![format!("iqn.2026-11.org.example:stranger-{round}")];
        call(Request::AddMembers { kind: Kind::Host, group: group.clone(), members: members.clone() });
        call(Request::RemoveMembers { kind: Kind::Host, group: group.clone(), members });
        let settings = TargetSettings { alias: lunette_server::admin::Field::Set(group.clone()), ..Default::default() };
        call(Request::ModifyTarget { target: TARGET.into(), settings });
        let other = format!("iqn.2026-11.org.example:target-{round}");
        call(Request::CreateTarget { settings: TargetSettings { name: Some(other.clone()), ..Default::default() } });
        call(Request::SetPortState { target: other.clone(), online: false });
        call(Request::DeleteTarget { target: other, force: false });
        call(Request::DeleteLu { lu, keep_views: false });
        call(Request::DeleteGroup { kind: Kind::Host, name: group });
        // Now and then as a process, as an administrator does.
        if round % 8 == 0 {
            host.output("stmfadm list-lu -v");
            host.output("lunette status");
            host.output(&format!("lunette explain {INITIATOR}"));
            by_hand += 3;
        }
        round += 1;
        if round * 16 + by_hand >= COMMANDS {
            break;
        }
    }
    assert!(commands + by_hand >= COMMANDS);
    let text = get(metrics);
    let rounds = load.end();
    // Each round is a read and a write; the counters come a little late.
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("no {name} in {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    let of_target = format!("{{target=\"{TARGET}\"}}");
    assert!(value(&format!("lunette_target_reads_total{of_target}")) > 50.0);
    assert!(value(&format!("lunette_target_written_bytes_total{of_target}")) > 50.0 * 4096.0);
    assert!(value(&format!("lunette_target_write_latency_seconds_sum{of_target}")) > 0.0);
    let of_lu = format!("{{lu=\"{LOADED}\"}}").to_uppercase().replace("LU=", "lu=");
    let counted = value(&format!("lunette_lu_read_latency_seconds_count{of_lu}"));
    assert!((50.0..=rounds as f64 + 1.0).contains(&counted), "{counted} of {rounds}");
    assert!(value(&format!("lunette_lu_queue_depth{of_lu}")) <= 1.0);
    assert!(text.contains(&format!("initiator=\"{INITIATOR}\",target=\"{TARGET}\"}}")), "{text}");
    assert!(rounds > 100, "only {rounds} rounds beside {commands} commands");
}

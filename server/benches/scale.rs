//! Many objects: how long a server takes to start, a view to change and a list to come, with 10,000 logical units, 1,000
//! host groups and 20,000 view entries.
//!
//! `cargo bench -p lunette-server --bench scale` measures, prints a table, and fails when a limit is not kept. Without
//! `--bench` (`cargo test --benches`) a hundredth of all that is made, and nothing is timed.

#![allow(missing_docs)]

use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use lu_sbd::properties::CreateProperties;
use lunette_server::admin::{Client, Engine, Request};
use scsi_core::GuidHost;

/// What is measured: name, time, and the limit that must be kept.
struct Row(&'static str, Duration, Option<Duration>);

/// How many of each.
#[derive(Clone, Copy)]
struct Scale {
    units: u32,
    groups: u32,
}

impl Scale {
    /// Each unit has two view entries, in two host groups.
    fn views(self) -> u32 {
        2 * self.units
    }
}

const TARGET: &str = "iqn.2026-11.org.lunette:scale";
const DISK_BYTES: u64 = 1 << 20;

fn main() {
    let measures = std::env::args().any(|word| word == "--bench");
    let scale = if measures { Scale { units: 10_000, groups: 1_000 } } else { Scale { units: 100, groups: 10 } };
    let place = tempfile::tempdir().expect("a directory");
    let began = Instant::now();
    furnish(place.path(), scale);
    let mut rows = vec![Row("import of the configuration, one transaction", began.elapsed(), None)];
    rows.extend(run(place.path(), scale));
    if !measures {
        return;
    }
    println!("{} logical units, {} host groups, {} view entries", scale.units, scale.groups, scale.views());
    let mut kept = true;
    for Row(what, time, limit) in &rows {
        let words = limit.map(|limit| format!("limit {limit:?}")).unwrap_or_default();
        let failed = limit.is_some_and(|limit| *time > limit);
        kept &= !failed;
        println!("{what:48} {:>10.1} ms  {words}{}", time.as_secs_f64() * 1e3, if failed { "  FAILED" } else { "" });
    }
    if !kept {
        std::process::exit(1);
    }
}

/// Makes the state directory and the disks; all of the configuration goes in by one import.
fn furnish(place: &Path, scale: Scale) {
    let disks = place.join("disks");
    std::fs::create_dir(&disks).expect("a directory of disks");
    let mut document = format!("[[target]]\nname = \"{TARGET}\"\n");
    for group in 0..scale.groups {
        let name = format!("iqn.2026-11.org.lunette.test:host-{group}");
        let _ = writeln!(document, "[[host-group]]\nname = \"group-{group}\"\nmembers = [\"{name}\"]");
    }
    let properties = CreateProperties::parse([], Some("1M")).expect("properties");
    for unit in 0..scale.units {
        let guid = properties.guid(GuidHost::HostId(1), unit, 1);
        let file = disks.join(format!("disk-{unit}"));
        let identity = properties.identity(guid, &file, DISK_BYTES).expect("an identity");
        std::fs::File::create(&file).and_then(|file| file.set_len(DISK_BYTES)).expect("a disk");
        let record = file.with_extension("lu");
        std::fs::write(record, identity.to_record()).expect("a record");
        let _ = writeln!(document, "[[lu]]\nguid = \"{guid:x}\"\nfile = \"{}\"", file.display());
        for copy in 0..2 {
            let group = (unit + copy * scale.groups / 2) % scale.groups;
            let lun = 2 * (unit / scale.groups) + copy;
            let _ = writeln!(document, "[[view]]\nlu = \"{guid:x}\"\nlun = {lun}\nhost-group = \"group-{group}\"");
        }
    }
    let mut engine = Engine::open(&place.join("state")).expect("a state directory");
    let import =
        Request::ImportConfiguration { document, dry_run: false, map_paths: Vec::new(), map_portals: Vec::new() };
    engine.execute(import).expect("the import");
}

fn run(place: &Path, scale: Scale) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut starts = Vec::new();
    let mut server = None;
    for _ in 0..3 {
        drop(server.take());
        let (started, time) = Server::start(place);
        starts.push(time);
        server = Some(started);
    }
    rows.push(Row("start until a portal accepts, median of 3", median(&mut starts), Some(Duration::from_secs(2))));
    let server = server.expect("a server");
    let client = Client::new(place.join("socket"), None);
    let guid = CreateProperties::default().guid(GuidHost::HostId(1), 7, 1);
    let (mut added, mut removed) = (Vec::new(), Vec::new());
    for _ in 0..50 {
        // Another group than those it is in.
        let view = Request::AddView {
            lu: format!("{guid:X}"),
            host_group: Some(format!("group-{}", 8 % scale.groups)),
            target_group: None,
            lun: Some(9_999),
        };
        let began = Instant::now();
        client.execute(&view).expect("a view");
        added.push(began.elapsed());
        let began = Instant::now();
        client.execute(&Request::RemoveViews { lu: format!("{guid:X}"), indexes: Some(vec![2]) }).expect("no view");
        removed.push(began.elapsed());
    }
    let limit = Some(Duration::from_millis(10));
    rows.push(Row("a view added over the socket, median of 50", median(&mut added), limit));
    rows.push(Row("a view removed over the socket, median of 50", median(&mut removed), limit));
    rows.push(Row("one fsync of 4 KiB on this file system", fsync(place), None));
    let (first, all, peak) = list(place, scale);
    rows.push(Row("first line of 'stmfadm list-lu -v'", first, Some(Duration::from_millis(100))));
    rows.push(Row("all of 'stmfadm list-lu -v'", all, None));
    assert!(peak < 64 << 20, "list-lu -v took {peak} bytes: it does not stream");
    drop(server);
    rows
}

/// What the file system alone asks for a durable change.
fn fsync(place: &Path) -> Duration {
    let file = std::fs::File::create(place.join("fsync")).expect("a file");
    let mut times = Vec::new();
    for at in 0..20 {
        let began = Instant::now();
        file.write_all_at(&[at as u8; 4096], 0).expect("a write");
        file.sync_data().expect("a sync");
        times.push(began.elapsed());
    }
    median(&mut times)
}

fn list(place: &Path, scale: Scale) -> (Duration, Duration, u64) {
    let began = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
    command.args(["stmfadm", "list-lu", "-v"]).env("LUNETTE_SOCKET", place.join("socket"));
    let mut child = command.stdout(Stdio::piped()).spawn().expect("stmfadm");
    let mut output = BufReader::new(child.stdout.take().expect("its output"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let first = began.elapsed();
    assert!(line.starts_with("LU Name: "), "{line}");
    // The command waits in its pipe: this is what it holds while it prints.
    let peak = resident_peak(child.id());
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("the rest");
    assert!(child.wait().expect("its end").success());
    let units = rest.matches("LU Name: ").count() as u32 + 1;
    assert_eq!(units, scale.units);
    (first, began.elapsed(), peak)
}

fn resident_peak(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).map_or(0, |kib| kib << 10)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

/// `lunette serve`, killed when dropped: a server that must start after that is the harder case.
struct Server(Child);

impl Server {
    fn start(place: &Path) -> (Self, Duration) {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port");
        let began = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lunette"));
        command.arg("serve").arg("--state").arg(place.join("state")).arg("--socket").arg(place.join("socket"));
        command.args(["--log", "error", "--portal", &free.to_string()]);
        let mut child = command.spawn().expect("lunette serve");
        loop {
            if TcpStream::connect(free).is_ok() {
                let time = began.elapsed();
                // The management socket comes right behind the portals.
                let client = Client::new(place.join("socket"), None);
                while client.execute(&Request::ListState {}).is_err() {
                    assert!(child.try_wait().expect("its state").is_none(), "the server ended");
                    std::thread::sleep(Duration::from_millis(1));
                }
                return (Self(child), time);
            }
            assert!(child.try_wait().expect("its state").is_none(), "the server ended");
            assert!(began.elapsed() < Duration::from_secs(60), "the server does not listen");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

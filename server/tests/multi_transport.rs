//! The administrator's second article, whole: an array exports six units over Fibre Channel to a gateway, and a unit of
//! the gateway is one for a host with both kinds of adapter. Two servers, their commands, and the wire.

mod common;
#[path = "common/fc_host.rs"]
mod fc_host;

use std::net::SocketAddr;
use std::os::unix::fs::FileExt;
use std::process::Command as Process;
use std::time::{Duration, Instant};

use common::Host;
use common::served::{Served, free_portal};
use fc_host::FcHost;
use iscsi_proto::initiator::Command;
use lunette_client::{Disk, Options, Reply};
use lunette_server::admin::{Answer, Client, Request, Traffic};
use lunette_server::fc::Wwn;
use scsi_core::Status;

const TRIO: [&str; 6] = [
    "600144F01EB3862C0000494B55CD0001",
    "600144F01EB3862C0000494B55F50002",
    "600144F01EB3862C0000494B55F80003",
    "600144F01EB3862C0000494B55FA0004",
    "600144F01EB3862C0000494B55FD0005",
    "600144F01EB3862C0000494B56000006",
];
const STORE: &str = "600144F07ED404000000496813070001";
/// The array's target port, the gateway's initiator port, the host's port.
const ARRAY: &str = "2100001b320efd58";
const GATEWAY: &str = "210000e08b100163";
const ESX: Wwn = Wwn(0x2100_00e0_8b01_f7e2);
/// The gateway's target port.
const GATEWAY_TARGET: Wwn = Wwn(0x2100_001b_320e_fd59);
const IQN: &str = "iqn.1998-01.com.vmware:vh1";
const TARGET: &str = "iqn.2026-11.org.example:esx";

/// Block B3: the gateway's adapter, as COMSTAR showed it.
const B3: &str = "HBA Port WWN: 210000e08b100163
\tPort Mode: Initiator
\tPort ID: 10300
\tOS Device Name: /dev/cfg/c8
\tManufacturer: QLogic Corp.
\tModel: QLA2300
\tFirmware Version: 03.03.27
\tFCode/BIOS Version:  BIOS: 1.47;
\tSerial Number: not available
\tDriver Name: qlc
\tDriver Version: 20080617-2.30
\tType: N-port
\tState: online
\tSupported Speeds: 1Gb 2Gb \n\tCurrent Speed: 2Gb \n\tNode WWN: 200000e08b100163
\tNPIV Not Supported
";

/// Block B4: the array's port with the gateway's session.
const B4: &str = "Target: wwn.2100001B320EFD58
    Operational Status: Online
    Provider Name     : qlt
    Alias             : qlt2,0
    Sessions          : 1
        Initiator: wwn.210000E08B100163
            Alias: :qlc1
            Logged in since: Fri Dec 19 01:47:07 2008
";

/// A command line with words that hold spaces.
fn lunette(host: &Host, words: &[&str]) -> String {
    let output = Process::new(host.path().join("lunette"))
        .args(words)
        .env("LUNETTE_STATE", host.state())
        .env("LUNETTE_SOCKET", host.socket())
        .output()
        .unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a command prints once it prints what is waited for.
fn until(host: &Host, line: &str, wanted: impl Fn(&str) -> bool) -> String {
    let deadline = Instant::now() + fc_host::TIME;
    loop {
        let output = host.output(line);
        if wanted(&output) {
            return output;
        }
        assert!(Instant::now() < deadline, "{line}: {output}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The article's moment in the place of ours, which has its form.
fn at_that_time(listed: &str) -> String {
    let since = "            Logged in since: ";
    let line = |line: &str| match line.strip_prefix(since) {
        Some(time) => {
            assert_eq!(time.len(), 24, "{time}");
            format!("{since}Fri Dec 19 01:47:07 2008\n")
        }
        None => format!("{line}\n"),
    };
    listed.lines().map(line).collect()
}

/// Plugs the gateway's initiator port into the array's fabric.
fn plug_gateway(ss2: &Host, fabric: &str) {
    let connect = format!("connect={fabric}");
    let name = lunette(
        ss2,
        &[
            "fc",
            "create-port",
            "--initiator",
            "--port-name",
            GATEWAY,
            "-o",
            &connect,
            "-o",
            "switch-port=0",
            "-o",
            "manufacturer=QLogic Corp.",
            "-o",
            "model=QLA2300",
            "-o",
            "firmware=03.03.27",
            "-o",
            "option-rom= BIOS: 1.47;",
            "-o",
            "driver-name=qlc",
            "-o",
            "driver-version=20080617-2.30",
            "-o",
            "speeds=1,2",
            "-o",
            "os-device=/dev/cfg/c8",
            "-o",
            "symbolic-name=:qlc1",
        ],
    );
    assert_eq!(name, format!("{GATEWAY}\n"));
}

#[test]
fn an_array_exports_six_units_over_fibre_channel_to_a_gateway() {
    let (ss1, ss2) = (Host::new(), Host::new());
    let (_array, _gateway) = (Served::start(&ss1), Served::start(&ss2));
    for (number, guid) in TRIO.iter().enumerate() {
        let file = ss1.file(&format!("trio{}", number + 1), 16 << 30);
        ss1.output(&format!("stmfadm create-lu -p guid={guid} {file}"));
    }
    assert!(ss1.output("sbdadm list-lu").starts_with("\nFound 6 LU(s)\n"));
    ss1.silent("stmfadm create-hg GW1");
    for (lun, guid) in TRIO.iter().enumerate() {
        ss1.silent(&format!("stmfadm add-view -h GW1 -n {lun} {guid}"));
    }
    let fabric = ss1.path().join("fabric").display().to_string();
    ss1.prints(
        &format!(
            "lunette fc create-port --port-name {ARRAY} -o listen={fabric} -o switch-port=1 -o driver-name=qlt -o \
             instance=2"
        ),
        &format!("{ARRAY}\n"),
    );
    // The gateway's port is named from what the gateway prints.
    plug_gateway(&ss2, &fabric);
    assert_eq!(until(&ss2, "fcinfo hba-port", |listed| listed == B3), B3);
    ss1.silent(&format!("stmfadm add-hg-member -g GW1 wwn.{GATEWAY}"));
    let listed = until(&ss1, "stmfadm list-target -v", |listed| listed.contains("Logged in since"));
    assert_eq!(at_that_time(&listed), B4);
    // What `format` shows on the gateway: six disks with the array's names.
    let disks: String = TRIO.iter().map(|guid| format!("OS Device Name: c0t{guid}d0\n")).collect();
    assert_eq!(until(&ss2, "fcinfo logical-unit", |listed| listed.lines().count() == 6), disks);
    let remote = ss2.output(&format!("fcinfo remote-port -s -p {GATEWAY}"));
    assert!(remote.starts_with(&format!(
        "Remote Port WWN: {ARRAY}\n\tActive FC4 Types: SCSI\n\tSCSI Target: yes\n\tPort Symbolic Name: Lunette \
         wwn.2100001B320EFD58\n\tNode WWN: 2000001b320efd58\n\tLUN: 0\n\t  Vendor: LUNETTE \n\t  Product: VIRTUAL DISK    \
         \n\t  OS Device Name: c0t{}d0\n",
        TRIO[0]
    )));
    // Each side asks the other for the errors of its link.
    let errors = "\tLink Error Statistics:\n\t\tLink Failure Count: 0\n\t\tLoss of Sync Count: 0\n\t\tLoss of Signal Count: \
                  0\n\t\tPrimitive Seq Protocol Error Count: 0\n\t\tInvalid Tx Word Count: 0\n\t\tInvalid CRC Count: 0\n";
    for (host, port) in [(&ss1, ARRAY), (&ss2, GATEWAY)] {
        let remote = host.output(&format!("fcinfo remote-port -l -p {port}"));
        assert!(remote.ends_with(errors), "{remote}");
    }
    let verbose = ss2.output(&format!("fcinfo lu -v c0t{}d0", TRIO[3]));
    let expected = format!(
        "OS Device Name: c0t{}d0\n\tHBA Port WWN: {GATEWAY}\n\t\tRemote Port WWN: {ARRAY}\n\t\t\tLUN: 3\n\tVendor: LUNETTE \
         \n\tProduct: VIRTUAL DISK    \n\tDevice Type: Disk Device\n",
        TRIO[3]
    );
    assert_eq!(verbose, expected);
    // A view that goes is gone there.
    ss1.silent(&format!("stmfadm remove-view -l {} 0", TRIO[5]));
    until(&ss2, "fcinfo logical-unit", |listed| listed.lines().count() == 5);
    a_cable_is_pulled(&ss1, &ss2);
    everything_is_there_after_a_restart(&ss1, _array, &ss2);
}

/// Both sides see that the link is down, count it, and find each other again.
fn a_cable_is_pulled(ss1: &Host, ss2: &Host) {
    ss1.silent(&format!("lunette fc link {ARRAY} down"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 0"));
    assert!(ss1.output("fcinfo hba-port -l").contains("\tState: link down\n"));
    until(ss2, &format!("fcinfo remote-port -p {GATEWAY}"), str::is_empty);
    ss1.silent(&format!("lunette fc link {ARRAY} up"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 1"));
    let counted = ss1.output("fcinfo hba-port -l");
    assert!(counted.contains("\tLink Error Statistics:\n\t\tLink Failure Count: 1\n"), "{counted}");
    ss1.silent(&format!("fcadm force-lip {ARRAY}"));
    until(ss1, "fcadm hba-port -l", |listed| listed.contains("Link Failure Count: 2\n"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 1"));
    ss1.silent(&format!("stmfadm offline-target wwn.{ARRAY}"));
    let offline = ss1.output("stmfadm list-target -v");
    assert!(offline.contains("Operational Status: Offline") && offline.contains(": 0\n"), "{offline}");
    ss1.silent(&format!("stmfadm online-target wwn.{ARRAY}"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 1"));
}

fn everything_is_there_after_a_restart(ss1: &Host, array: Served, ss2: &Host) {
    let exported = ss1.output("lunette config export");
    assert!(exported.contains("[[fc-port]]\nport-name = \"2100001b320efd58\"\n"), "{exported}");
    drop(array);
    until(ss2, "fcinfo hba-port", |listed| listed.contains("\tState: link down\n"));
    let _array = Served::start(ss1);
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 1"));
    assert_eq!(ss2.output("fcinfo hba-port"), B3);
    assert!(ss1.output("lunette status").contains(&format!("{ARRAY}  target  softfc  online, address 10400")));
    ss1.silent(&format!("lunette fc delete-port {ARRAY}"));
    ss1.prints("fcinfo hba-port", "No Adapters Found.\n");
    ss1.silent("stmfadm list-target");
    // An export brings it back.
    let document = ss1.path().join("export.toml");
    std::fs::write(&document, exported).unwrap();
    let plan = ss1.output(&format!("lunette config import {}", document.display()));
    assert_eq!(plan, format!("create fc-port {ARRAY}\n"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 1"));
    blocks_are_written_by_the_name_of_the_gateway(ss1, ss2);
}

/// The gateway's own port only lists units, so a host that can write takes its place on the fabric, by its name.
fn blocks_are_written_by_the_name_of_the_gateway(ss1: &Host, ss2: &Host) {
    ss1.silent(&format!("stmfadm add-view -h GW1 -n 5 {}", TRIO[5]));
    ss2.silent(&format!("lunette fc delete-port {GATEWAY}"));
    until(ss1, "stmfadm list-target -v", |listed| listed.contains("Sessions          : 0"));
    let wwn = |name: &str| Wwn::parse(name).unwrap();
    let mut gateway = FcHost::log_in(&ss1.path().join("fabric"), wwn(GATEWAY), wwn(ARRAY));
    assert_eq!(gateway.luns(), [0, 1, 2, 3, 4, 5]);
    for lun in 0..6_u8 {
        let data = vec![0xc0 | lun; 4096];
        assert_eq!(gateway.write(lun.into(), 8, &data), Status::GOOD);
        assert_eq!(gateway.read(lun.into(), 8, 8), (Status::GOOD, data.clone()));
        let file = std::fs::File::open(ss1.path().join(format!("trio{}", lun + 1))).unwrap();
        let mut stored = vec![0; 4096];
        file.read_exact_at(&mut stored, 8 * 512).unwrap();
        assert!(stored == data, "unit {lun} of the array has what was written to it");
    }
}

/// A host with both kinds of adapter at the gateway.
struct Site {
    ss2: Host,
    _gateway: Served,
    fc: FcHost,
    iscsi: Disk,
}

impl Site {
    fn new() -> Self {
        let ss2 = Host::new();
        let gateway = Served::start(&ss2);
        let file = ss2.file("lun0", 32 << 30);
        ss2.output(&format!("stmfadm create-lu -p guid={STORE} {file}"));
        ss2.silent("stmfadm create-hg ESX1");
        ss2.silent(&format!("stmfadm add-view -h ESX1 -n 1 {}", STORE.to_lowercase()));
        ss2.prints(
            &format!("stmfadm list-view -l {STORE}"),
            "View Entry: 0\n    Host group   : ESX1\n    Target group : All\n    LUN          : 1\n",
        );
        // Warned of: neither has been seen yet.
        ss2.output("stmfadm add-hg-member -g ESX1 wwn.210000e08b01f7e2");
        let fabric = ss2.path().join("fabric");
        let name = format!("{GATEWAY_TARGET}");
        ss2.output(&format!("lunette fc create-port --port-name {name} -o listen={}", fabric.display()));
        let portal = free_portal();
        ss2.silent(&format!("itadm create-tpg 2 {portal}"));
        ss2.output(&format!("itadm create-target -n {TARGET} -t 2"));
        ss2.silent(&format!("itadm create-initiator {IQN}"));
        ss2.output(&format!("stmfadm add-hg-member -g ESX1 {IQN}"));
        let fc = FcHost::log_in(&fabric, ESX, GATEWAY_TARGET);
        Self { ss2, _gateway: gateway, fc, iscsi: connect(portal) }
    }

    fn over_iscsi(&self, cdb: &[u8], data_out: &[u8], room: u32) -> Reply {
        loop {
            let data_out = data_out.to_vec().into();
            let command = Command { cdb: cdb.to_vec(), data_out, data_in_length: room, ..Command::default() };
            let reply = self.iscsi.execute(command).unwrap();
            let attention = reply.sense.as_ref().is_some_and(|sense| sense.key == scsi_core::SenseKey::UNIT_ATTENTION);
            if !attention {
                return reply;
            }
        }
    }

    fn status(&self, cdb: &[u8], data_out: &[u8]) -> Status {
        self.over_iscsi(cdb, data_out, 0).status
    }

    /// Each way is counted for itself, and the unit has both.
    fn statistics_add_up(&self) {
        let answer = Client::new(self.ss2.socket(), None).execute(&Request::Statistics {}).unwrap();
        let Answer::Statistics(statistics) = answer else { panic!("{answer:?}") };
        let unit = &statistics.lus[STORE];
        let (fc, iscsi) = (&statistics.targets["wwn.2100001B320EFD59"], &statistics.targets[TARGET]);
        let sum = |value: fn(&Traffic) -> u64| (value(fc), value(iscsi), value(fc) + value(iscsi));
        let reads = |traffic: &Traffic| traffic.read_latency.counts.iter().sum();
        let writes = |traffic: &Traffic| traffic.write_latency.counts.iter().sum();
        // Commands are counted with how long they took; a unit's `reads` and `writes` are operations of its store.
        let each: [fn(&Traffic) -> u64; 4] = [|of| of.read_bytes, |of| of.written_bytes, reads, writes];
        for value in each {
            let (over_fc, over_iscsi, both) = sum(value);
            assert!(over_fc > 0 && over_iscsi > 0, "{statistics:?}");
            assert_eq!(value(unit), both, "{statistics:?}");
        }
        assert_eq!((unit.written_bytes, unit.queue_depth), ((128 << 10) + 512, 0));
    }
}

fn bytes(reply: &Reply) -> Vec<u8> {
    reply.data.slices().flat_map(|slice| slice.to_vec()).collect()
}

fn connect(portal: SocketAddr) -> Disk {
    let mut options = Options::new(portal.ip().to_string(), TARGET, 1);
    options.port = portal.port();
    options.initiator_name = IQN.into();
    Disk::connect_with(options).unwrap()
}

const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const RESERVE: [u8; 6] = [0x16, 0, 0, 0, 0, 0];
const RELEASE: [u8; 6] = [0x17, 0, 0, 0, 0, 0];

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 512]
}

/// PERSISTENT RESERVE OUT and its parameters.
fn persistent(action: u8, key: u8, new_key: u8) -> ([u8; 10], Vec<u8>) {
    let mut parameters = vec![0; 24];
    (parameters[7], parameters[15]) = (key, new_key);
    // Write exclusive.
    ([0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], parameters)
}

#[test]
fn a_unit_is_one_for_a_host_with_both_kinds_of_adapter() {
    let mut site = Site::new();
    // What is written over one is read over the other.
    let data: Vec<u8> = (0..128 << 10).map(|at: u32| (at * 7 + at / 512) as u8).collect();
    assert_eq!(site.fc.write(1, 8, &data), Status::GOOD);
    assert_eq!(&site.iscsi.read(8 * 512, data.len()).unwrap()[..], &data[..]);
    site.iscsi.write(8 * 512, block(9)).unwrap();
    assert_eq!(site.fc.read(1, 8, 1), (Status::GOOD, block(9)));
    site.statistics_add_up();
    // One identity.
    let inquiry = [0x12, 1, 0x83, 4, 0, 0];
    let unit =
        |page: &[u8]| page.windows(4).position(|four| four == [1, 3, 0, 16]).map(|at| page[at + 4..at + 20].to_vec());
    let over_fc = unit(&site.fc.command(1, &inquiry, &[], 1024).1);
    let over_iscsi: Vec<u8> = bytes(&site.over_iscsi(&inquiry, &[], 1024));
    assert_eq!(over_fc, unit(&over_iscsi));
    let name: String = over_fc.unwrap().iter().map(|byte| format!("{byte:02X}")).collect();
    assert_eq!(name, STORE);
    // COMPARE AND WRITE meets what the other has written.
    let mut swap = [0; 16];
    (swap[0], swap[13]) = (0x89, 1);
    let both = |old: u8, new: u8| [block(old), block(new)].concat();
    assert_eq!(site.fc.write(1, 0, &block(1)), Status::GOOD);
    assert_eq!(site.status(&swap, &both(1, 2)), Status::GOOD);
    assert_eq!(site.fc.command(1, &swap, &both(1, 3), 0).0, Status::CHECK_CONDITION);
    assert_eq!(site.fc.command(1, &swap, &both(2, 4), 0).0, Status::GOOD);
    assert_eq!(site.status(&swap, &both(2, 5)), Status::CHECK_CONDITION);
    // Both kinds of reservations keep the other way out.
    assert_eq!(site.fc.command(1, &RESERVE, &[], 0).0, Status::GOOD);
    assert_eq!(site.status(&WRITE, &block(6)), Status::RESERVATION_CONFLICT);
    assert_eq!(site.fc.command(1, &RELEASE, &[], 0).0, Status::GOOD);
    assert_eq!(site.status(&RESERVE, &[]), Status::GOOD);
    assert_eq!(site.fc.write(1, 0, &block(6)), Status::RESERVATION_CONFLICT);
    assert_eq!(site.status(&RELEASE, &[]), Status::GOOD);
    let register = |key| persistent(0, 0, key);
    let (cdb, parameters) = register(1);
    assert_eq!(site.fc.command(1, &cdb, &parameters, 0).0, Status::GOOD);
    let (cdb, parameters) = register(2);
    assert_eq!(site.status(&cdb, &parameters), Status::GOOD);
    let (cdb, parameters) = persistent(1, 1, 0);
    assert_eq!(site.fc.command(1, &cdb, &parameters, 0).0, Status::GOOD);
    assert_eq!(site.status(&WRITE, &block(6)), Status::RESERVATION_CONFLICT);
    assert_eq!(site.fc.write(1, 0, &block(7)), Status::GOOD);
    // READ FULL STATUS names both ends.
    let full = bytes(&site.over_iscsi(&[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], &[], 1024));
    let has = |wanted: &[u8]| full.windows(wanted.len()).any(|some| some == wanted);
    assert!(has(&ESX.0.to_be_bytes()) && has(IQN.as_bytes()));
    // And so do the commands.
    let listed = site.ss2.output("stmfadm list-target -v");
    assert!(listed.contains("Initiator: wwn.210000E08B01F7E2\n") && listed.contains(&format!("Initiator: {IQN}\n")));
    for initiator in ["wwn.210000e08b01f7e2", IQN] {
        let explained = site.ss2.output(&format!("lunette explain {initiator}"));
        assert!(explained.contains("host group ESX1, 1 session(s)"), "{explained}");
        assert!(explained.contains(&format!("LUN 1     {STORE}  by view entry 0")), "{explained}");
    }
    let sessions = site.ss2.output("lunette session list");
    assert!(sessions.contains("wwn.210000E08B01F7E2 -> wwn.2100001B320EFD59  1 LUN(s)"), "{sessions}");
}

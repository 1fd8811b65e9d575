//! One logical unit for a virtual machine on this host and for an initiator over iSCSI: a server, a monitor at its socket with
//! a driver of virtio-scsi, a client at its portal.
#![cfg(feature = "vhost-user")]

mod common;

use std::time::{Duration, Instant};

use common::Host;
use common::served::Served;
use iscsi_proto::initiator::Command;
use lunette_client::{Disk, Options};
use lunette_server::admin::{Answer, Client, Request, Traffic};
use testkit::monitor::Machine;
use vhost_scsi::FIRST_REQUEST_QUEUE;

const UNIT: &str = "600144F07ED404000000496813070001";
const GUEST: &str = "wwn.210000E08B01F7E2";
const IQN: &str = "iqn.1998-01.com.vmware:vh1";
const TARGET: &str = "iqn.2026-11.org.example:esx";
const VHOST_TARGET: &str = "iqn.2026-11.org.lunette:vhost.web";
const MIB: u64 = 1 << 20;

const GOOD: u8 = 0;
const CHECK_CONDITION: u8 = 2;
const RESERVATION_CONFLICT: u8 = 0x18;
const TEST_UNIT_READY: [u8; 6] = [0; 6];
const WRITE: [u8; 10] = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
const READ: [u8; 10] = [0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0];

/// How a command ended: status, key with ASC and ASCQ, data.
#[derive(Debug, PartialEq)]
struct Ended {
    status: u8,
    sense: Option<(u8, u8, u8)>,
    data: Vec<u8>,
}

/// The server, and both that use its unit.
struct Site {
    host: Host,
    _served: Served,
    machine: Machine,
    iscsi: Disk,
}

/// The two ways to the unit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Guest,
    Iscsi,
}

impl Site {
    fn new() -> Self {
        let host = Host::new();
        let socket = host.path().join("web.sock");
        let served = Served::start_with(&host, |command| {
            command.arg(format!("--vhost-user={},initiator={GUEST}", socket.display()));
        });
        let file = host.file("lun0", MIB);
        host.output(&format!("stmfadm create-lu -p guid={UNIT} {file}"));
        host.output(&format!("itadm create-target -n {TARGET}"));
        host.output(&format!("stmfadm add-view -n 0 {UNIT}"));
        let machine = Machine::start(&socket).unwrap();
        let mut options = Options::new(served.portal().ip().to_string(), TARGET, 0);
        options.port = served.portal().port();
        options.initiator_name = IQN.into();
        let iscsi = Disk::connect_with(options).unwrap();
        let mut site = Self { host, _served: served, machine, iscsi };
        // Whatever there was to be told of a unit that has just come.
        for way in [Way::Guest, Way::Iscsi] {
            while site.by(way, &TEST_UNIT_READY, &[], 0).status != GOOD {}
        }
        site
    }

    fn by(&mut self, way: Way, cdb: &[u8], data_out: &[u8], room: u32) -> Ended {
        match way {
            Way::Guest => {
                let answer = self.machine.command(FIRST_REQUEST_QUEUE, 0, cdb, data_out, room as usize).unwrap();
                assert_eq!(answer.response, 0, "{cdb:02x?}");
                Ended { status: answer.status, sense: answer.sense_triple(), data: answer.data }
            }
            Way::Iscsi => {
                let command = Command {
                    cdb: cdb.to_vec(),
                    data_out: data_out.to_vec().into(),
                    data_in_length: room,
                    ..Command::default()
                };
                let reply = self.iscsi.execute(command).unwrap();
                let sense = reply.sense.as_ref().map(|sense| (sense.key.0, sense.code.asc, sense.code.ascq));
                let data = reply.data.slices().flat_map(|slice| slice.to_vec()).collect();
                Ended { status: reply.status.0, sense, data }
            }
        }
    }

    fn status(&mut self, way: Way, cdb: &[u8], data_out: &[u8]) -> u8 {
        self.by(way, cdb, data_out, 0).status
    }

    /// PERSISTENT RESERVE OUT, write exclusive.
    fn persistent(&mut self, way: Way, action: u8, key: u8, new_key: u8) -> u8 {
        let mut parameters = vec![0; 24];
        (parameters[7], parameters[15]) = (key, new_key);
        self.status(way, &[0x5f, action, 1, 0, 0, 0, 0, 0, 24, 0], &parameters)
    }
}

fn block(byte: u8) -> Vec<u8> {
    vec![byte; 512]
}

#[test]
fn both_ways_lead_to_one_identity_and_one_medium() {
    let mut site = Site::new();
    let unit = |page: &[u8]| {
        let at = page.windows(4).position(|four| four == [1, 3, 0, 16]).unwrap();
        page[at + 4..at + 20].iter().map(|byte| format!("{byte:02X}")).collect::<String>()
    };
    let ways = [(Way::Guest, Way::Iscsi), (Way::Iscsi, Way::Guest)];
    for (way, other) in ways {
        assert_eq!(unit(&site.by(way, &[0x12, 1, 0x83, 2, 0, 0], &[], 512).data), UNIT, "{way:?}");
        // COMPARE AND WRITE meets what the other has written, and the other what it has swapped.
        let mut swap = [0; 16];
        (swap[0], swap[13]) = (0x89, 1);
        let both = |old: u8, new: u8| [block(old), block(new)].concat();
        assert_eq!(site.status(other, &WRITE, &block(1)), GOOD);
        let late = site.by(way, &swap, &both(9, 2), 0);
        assert_eq!((late.status, late.sense), (CHECK_CONDITION, Some((0x0e, 0x1d, 0))), "MISCOMPARE");
        assert_eq!(site.status(way, &swap, &both(1, 2)), GOOD);
        assert_eq!(site.by(other, &READ, &[], 512), Ended { status: GOOD, sense: None, data: block(2) });
    }
}

#[test]
fn a_reservation_of_either_keeps_the_other_out() {
    let mut site = Site::new();
    for (holder, other) in [(Way::Guest, Way::Iscsi), (Way::Iscsi, Way::Guest)] {
        assert_eq!(site.persistent(holder, 0, 0, 1), GOOD, "REGISTER");
        assert_eq!(site.persistent(other, 0, 0, 2), GOOD);
        assert_eq!(site.persistent(holder, 1, 1, 0), GOOD, "RESERVE");
        assert_eq!(site.status(other, &WRITE, &block(6)), RESERVATION_CONFLICT);
        assert_eq!(site.persistent(other, 1, 2, 0), RESERVATION_CONFLICT);
        assert_eq!(site.by(other, &READ, &[], 512).status, GOOD);
        assert_eq!(site.status(holder, &WRITE, &block(7)), GOOD);
        // READ FULL STATUS names both: the guest by the port name of Fibre Channel that it was given.
        let full = site.by(other, &[0x5e, 3, 0, 0, 0, 0, 0, 2, 0, 0], &[], 512).data;
        let mut id = [0; 24];
        id[8..16].copy_from_slice(&0x2100_00e0_8b01_f7e2_u64.to_be_bytes());
        let has = |wanted: &[u8]| full.windows(wanted.len()).any(|some| some == wanted);
        assert!(has(&id) && has(IQN.as_bytes()) && !has(b"wwn."), "{full:02x?}");
        assert_eq!(site.persistent(holder, 2, 1, 0), GOOD, "RELEASE");
        assert_eq!(site.persistent(holder, 0, 1, 0), GOOD);
        assert_eq!(site.persistent(other, 0, 2, 0), GOOD);
    }
}

#[test]
fn a_new_capacity_is_told_to_both() {
    let mut site = Site::new();
    site.host.output(&format!("stmfadm modify-lu -s {} {UNIT}", 2 * MIB));
    let ways = [Way::Guest, Way::Iscsi];
    for way in ways {
        let attention = site.by(way, &TEST_UNIT_READY, &[], 0);
        assert_eq!((attention.status, attention.sense), (CHECK_CONDITION, Some((6, 0x2a, 9))), "{way:?}");
        assert_eq!(site.status(way, &TEST_UNIT_READY, &[]), GOOD, "{way:?} is told once");
        let capacity = site.by(way, &[0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[], 8).data;
        assert_eq!(capacity[..4], ((2 * MIB / 512 - 1) as u32).to_be_bytes(), "{way:?}");
    }
}

#[test]
fn what_goes_over_both_adds_up() {
    let mut site = Site::new();
    for (way, count) in [(Way::Guest, 3), (Way::Iscsi, 5)] {
        for _ in 0..count {
            assert_eq!(site.status(way, &WRITE, &block(count)), GOOD);
            assert_eq!(site.by(way, &READ, &[], 512).data, block(count));
        }
    }
    // A command is counted behind its answer.
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answer = Client::new(site.host.socket(), None).execute(&Request::Statistics {}).unwrap();
        let Answer::Statistics(statistics) = answer else { panic!("{answer:?}") };
        let of = |target: &str| statistics.targets.get(target).cloned().unwrap_or_default();
        let (guest, iscsi, unit) = (of(VHOST_TARGET), of(TARGET), &statistics.lus[UNIT]);
        let counts = |of: &Traffic| {
            let commands = |counts: &[u64]| counts.iter().sum::<u64>();
            let (reads, writes) = (commands(&of.read_latency.counts), commands(&of.write_latency.counts));
            [reads, writes, of.read_bytes, of.written_bytes]
        };
        let done = (counts(&guest), counts(&iscsi), counts(unit));
        let wanted = ([3, 3, 1536, 1536], [5, 5, 2560, 2560], [8, 8, 4096, 4096]);
        if done == wanted {
            assert_eq!(unit.queue_depth, 0);
            return;
        }
        assert!(Instant::now() < deadline, "{done:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

//! A second server takes over from the first, as after a disaster: the configuration by export and import, the data by a
//! snapshot taken under load, and the initiators find everything as it was.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use common::Host;
use common::served::{Served, free_portal};
use iscsi_proto::initiator::Command;
use iscsi_proto::pdu::Isid;
use lunette_client::{Disk, Operation, Options, Reply};
use scsi_core::Status;

const A: &str = "600144f0000000000000000000000001";
const B: &str = "600144f0000000000000000000000002";
const TARGET: &str = "iqn.2026-11.org.example:gateway";
const ESX1: &str = "iqn.1998-01.com.vmware:esx1";
const ESX2: &str = "iqn.1998-01.com.vmware:esx2";
const SECRET: &str = "the secret of esx1";
const KEY: [u8; 8] = *b"esx1-key";
const BLOCKS: u64 = 16 << 11;

fn connect(portal: std::net::SocketAddr, initiator: &str, lun: u16) -> Disk {
    let mut options = Options::new(portal.ip().to_string(), TARGET, lun).with_credentials(initiator, SECRET);
    options.port = portal.port();
    options.initiator_name = initiator.into();
    // An initiator keeps the name of its port over restarts: reservations go by it. Each LUN has a session of its own here.
    options.isid = Some(Isid::random([1, 2, 3], lun));
    Disk::connect_with(options).unwrap()
}

/// A command; unit attentions are met and left behind.
fn execute(disk: &Disk, cdb: &[u8], data_out: &[u8], room: u32) -> Reply {
    loop {
        let command = Command {
            cdb: cdb.to_vec(),
            data_out: data_out.to_vec().into(),
            data_in_length: room,
            ..Command::default()
        };
        let reply = disk.execute(command).unwrap();
        if reply.status != Status::CHECK_CONDITION || reply.raw_sense.get(2).is_none_or(|key| key & 0xf != 6) {
            return reply;
        }
    }
}

fn good(disk: &Disk, cdb: &[u8], data_out: &[u8], room: u32) -> Vec<u8> {
    let reply = execute(disk, cdb, data_out, room);
    assert_eq!(reply.status, Status::GOOD, "{cdb:02x?}: {:?}", reply.sense);
    reply.data.to_bytes().to_vec()
}

/// What the initiator knows the unit by: the device identification page but for the target port, and the serial number.
fn identity(disk: &Disk) -> (Vec<u8>, Vec<u8>) {
    let page = |code| good(disk, &[0x12, 1, code, 0, 255, 0], &[], 255);
    let naa = page(0x83);
    let at = naa.windows(4).position(|bytes| bytes == [1, 3, 0, 16]).expect("an NAA designator");
    (naa[at..at + 20].to_vec(), page(0x80))
}

/// Persistent Reserve In, by service action.
fn reservations(disk: &Disk, action: u8) -> Vec<u8> {
    let reply = good(disk, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], &[], 256);
    // The generation counts changes since the unit came up; it starts anew with the unit.
    reply[4..].to_vec()
}

fn persistent_reserve_out(disk: &Disk, action: u8, kind: u8, key: [u8; 8], new_key: [u8; 8], aptpl: u8) {
    let mut parameters = [key, new_key, [0; 8]].concat();
    parameters[20] = aptpl;
    good(disk, &[0x5f, action, kind, 0, 0, 0, 0, 0, 24, 0], &parameters, 0);
}

fn block(number: u64) -> Vec<u8> {
    number.to_be_bytes().repeat(64)
}

/// The first server: two units for two initiators, CHAP, a portal group of its own.
fn furnish(host: &Host, portal: std::net::SocketAddr) {
    host.lu("a", A);
    host.lu("b", B);
    std::fs::write(host.path().join("secret"), SECRET).unwrap();
    host.silent("stmfadm create-hg ESX");
    host.output(&format!("stmfadm add-hg-member -g ESX {ESX1} {ESX2}"));
    host.silent(&format!("stmfadm add-view -h ESX -n 1 {A}"));
    host.silent(&format!("stmfadm add-view -h ESX -n 5 {B}"));
    host.silent(&format!("itadm create-tpg 7 {portal}"));
    host.output(&format!("itadm create-target -n {TARGET} -a chap -t 7"));
    for initiator in [ESX1, ESX2] {
        host.silent(&format!("itadm create-initiator -S secret {initiator}"));
    }
}

#[test]
fn a_second_server_takes_over_data_names_luns_and_reservations() {
    let (first, second) = (Host::new(), Host::new());
    let (portal, other_portal) = (free_portal(), free_portal());
    let server = Served::start(&first);
    furnish(&first, portal);
    let (disk, other) = (Arc::new(connect(portal, ESX1, 1)), connect(portal, ESX1, 5));
    let names = (identity(&disk), identity(&other));
    // Write exclusive, registrants only, through a loss of power.
    persistent_reserve_out(&disk, 0, 0, [0; 8], KEY, 1);
    persistent_reserve_out(&disk, 1, 5, KEY, [0; 8], 0);
    let held = (reservations(&disk, 0), reservations(&disk, 1));
    assert!(held.0.windows(8).any(|bytes| bytes == KEY));

    // The load: block after block, each acknowledged before the next.
    let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let load = std::thread::spawn({
        let (disk, written, stop) = (Arc::clone(&disk), Arc::clone(&written), Arc::clone(&stop));
        move || {
            for number in 0.. {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                disk.write_at(number % BLOCKS * 512, &block(number)).unwrap();
                written.store(number + 1, Ordering::Release);
            }
        }
    });
    while written.load(Ordering::Acquire) < 100 {
        std::thread::yield_now();
    }
    let document = first.output("lunette config export --with-secrets");
    std::fs::create_dir(second.path().join("replica")).unwrap();
    // A snapshot: the files as they are at one moment, of a server that is at work.
    let acknowledged = server.frozen(|| {
        for name in ["a", "a.lu", "b", "b.lu"] {
            std::fs::copy(first.path().join(name), second.path().join("replica").join(name)).unwrap();
        }
        written.load(Ordering::Acquire)
    });
    let before = written.load(Ordering::Acquire);
    while written.load(Ordering::Acquire) < before + 10 {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Relaxed);
    load.join().unwrap();
    assert_eq!(disk.logins(), 1, "the load was never interrupted");
    drop(server);

    let takeover = Served::start(&second);
    std::fs::write(second.path().join("all.toml"), document).unwrap();
    let (old, new) = (first.path().display(), second.path().join("replica"));
    let import = format!(
        "lunette config import --map-path {old}={} --map-portal {portal}={other_portal} all.toml",
        new.display()
    );
    second.output(&import);
    second.silent(&import);
    let (disk, other) = (connect(other_portal, ESX1, 1), connect(other_portal, ESX1, 5));
    assert_eq!((identity(&disk), identity(&other)), names, "{}", takeover.log(&second));
    let luns = good(&disk, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0], &[], 64);
    assert_eq!((luns[3], luns[9], luns[17]), (16, 1, 5));
    let from = acknowledged.saturating_sub(BLOCKS);
    for number in from..acknowledged {
        let mut read = [0; 512];
        disk.read_at(number % BLOCKS * 512, &mut read).unwrap();
        assert!(u64::from_be_bytes(read[..8].try_into().unwrap()) >= number, "block {number} is lost");
    }
    assert_eq!((reservations(&disk, 0), reservations(&disk, 1)), held);
    // Who holds a registration may write, by its old key; who does not, may not.
    disk.write_at(0, &block(7)).unwrap();
    let stranger = connect(other_portal, ESX2, 1);
    let write = [0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0];
    assert_eq!(execute(&stranger, &write, &[0; 512], 0).status, Status::RESERVATION_CONFLICT);
    stranger.submit(Operation::Read { offset: 0, length: 512 }).unwrap().wait().unwrap();
}

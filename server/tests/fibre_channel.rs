//! Fibre Channel ports of a running server: adapters opened, units reached, links coming and going.

#[path = "common/fc_host.rs"]
mod fc_host;

use std::path::Path;
use std::time::{Duration, Instant};

use fc_host::{FcHost, TIME};
use fct::initiator::Event;
use lu_sbd::store::MemoryStore;
use lunette_server::fc::soft::DRIVER;
use lunette_server::fc::{FcMode, FcPort, Wwn};
use lunette_server::{Disk, Server};
use scsi_core::Status;

const TARGET: Wwn = Wwn(0x2100_001b_320e_fd58);
const HOST: Wwn = Wwn(0x2100_00e0_8b10_0163);

fn target(listening: &Path) -> FcPort {
    FcPort::new(TARGET, Wwn(0x2000_001b_320e_fd58), FcMode::Target, DRIVER)
        .option("listen", listening.to_str().unwrap())
        .option("driver-name", "qlt")
        .option("instance", "2")
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + TIME;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_disk_of_a_server_is_read_and_written_over_fibre_channel() {
    let place = tempfile::tempdir().unwrap();
    let listening = place.path().join("fabric");
    let disk = Disk::new(MemoryStore::new(16 << 20));
    let server = Server::builder().no_portal().disk(disk).fc_port(target(&listening)).start().unwrap();
    let seen = server.stmf().target("wwn.2100001B320EFD58").unwrap();
    assert_eq!((seen.provider.as_str(), seen.alias.as_deref()), ("qlt", Some("qlt2,0")));
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    assert_eq!(host.luns(), [0]);
    let data: Vec<u8> = (0..1 << 20).map(|at: u32| (at * 7 + at / 4096) as u8).collect();
    assert_eq!(host.write(0, 16, &data), Status::GOOD);
    assert_eq!(host.read(0, 16, 2048), (Status::GOOD, data));
    let session = &server.sessions()[0];
    assert_eq!(session.initiator, "wwn.210000E08B100163");
    assert_eq!(session.initiator_alias.as_deref(), Some(":qlc1"));
    drop(host);
    until("the session ends with its link", || server.sessions().is_empty());
    server.stop();
    assert!(!listening.exists());
}

#[test]
fn a_host_that_was_cut_off_finds_the_restarted_server_again() {
    let place = tempfile::tempdir().unwrap();
    let listening = place.path().join("fabric");
    let start = || {
        let disk = Disk::new(MemoryStore::new(1 << 20));
        Server::builder().no_portal().disk(disk).fc_port(target(&listening)).start().unwrap()
    };
    let server = start();
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    server.stop();
    host.next(Instant::now() + TIME, |event| matches!(event, Event::Down));
    let server = start();
    host.next(Instant::now() + TIME, |event| matches!(event, Event::Up(_)));
    host.initiator.discover(Instant::now());
    host.next(Instant::now() + TIME, |event| matches!(event, Event::LoggedIn(_)));
    assert_eq!(host.luns(), [0]);
    assert_eq!(server.sessions().len(), 1);
}

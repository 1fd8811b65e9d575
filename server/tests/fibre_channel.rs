//! Fibre Channel ports of a running server: adapters opened, units reached, links coming and going.

#[path = "common/fc_host.rs"]
mod fc_host;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fc_host::{FcHost, TIME};
use fct::initiator::Event;
use fct::soft::{Wire, WireEnd};
use fct::wire::{Els, FrameHeader, LoginParameters};
use lu_sbd::store::MemoryStore;
use lunette_server::fc::soft::{Cable, DRIVER};
use lunette_server::fc::{Adapter, FcDriver, FcDrivers, FcMode, FcPort, Wake, Wwn};
use lunette_server::{Disk, Server};
use scsi_core::Status;
use stmf::provider::PortError;
use stmf::provider::hba::{
    FcFrame, Hba, HbaControl, HbaDetails, HbaEvent, HbaLimits, HbaRequest, LinkStatistics, Offload, PortId,
};

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
fn a_host_gets_its_data_right_over_a_link_that_loses_and_reorders_frames() {
    let place = tempfile::tempdir().unwrap();
    let listening = place.path().join("fabric");
    let disk = Disk::new(MemoryStore::new(4 << 20));
    let faulty = target(&listening).option("loss", "5").option("reorder", "300");
    let server = Server::builder().no_portal().disk(disk).fc_port(faulty).start().unwrap();
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    let (mut all, mut again) = (Vec::new(), 0);
    for number in 0..32_u8 {
        let data: Vec<u8> = (0..64 << 10).map(|at: u32| (at / 512) as u8 ^ number.wrapping_mul(37)).collect();
        let (status, _, sent) = host.insist(&[0x2a, 0, 0, 0, number >> 1, number << 7, 0, 0, 128, 0], &data, 0);
        assert_eq!(status, Status::GOOD);
        again += sent - 1;
        all.push(data);
    }
    for (number, data) in (0..).zip(&all) {
        let (status, read, sent) =
            host.insist(&[0x28, 0, 0, 0, number >> 1, number << 7, 0, 0, 128, 0_u8], &[], 64 << 10);
        assert_eq!(status, Status::GOOD);
        assert!(read == *data, "piece {number}");
        again += sent - 1;
    }
    assert!(again > 0, "some of 64 commands of forty frames had to be sent again");
    server.stop();
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
    host.find(TARGET);
    assert_eq!(host.luns(), [0]);
    assert_eq!(server.sessions().len(), 1);
}

/// Logs in to the fabric by hand; the address that it gives.
fn enter(end: &WireEnd) -> PortId {
    let login = LoginParameters {
        port_name: Wwn(0x2100_0000_0000_00bb),
        node_name: Wwn(0x2000_0000_0000_00bb),
        f_port: false,
        credit: 8,
        max_frame_payload: 2048,
        class3: true,
        e_d_tov_ms: 2000,
        r_a_tov_ms: 0,
    };
    let mut header = [0; 24];
    (header[0], header[8]) = (0x22, 0x01);
    header[1..4].copy_from_slice(&[0xff, 0xff, 0xfe]);
    header[9] = 0x29;
    header[16..20].copy_from_slice(&[0, 1, 0xff, 0xff]);
    let payload = [Bytes::from(Els::Flogi(login).encode())].into_iter().collect();
    end.send(FcFrame { header, payload }).unwrap();
    let mut address = None;
    let deadline = Instant::now() + TIME;
    while address.is_none() {
        assert!(Instant::now() < deadline, "the fabric does not answer");
        address = end.receive().map(|answer| FrameHeader::decode(&answer.header).d_id);
        std::thread::sleep(Duration::from_millis(1));
    }
    address.unwrap()
}

/// Sends what no port would, as fast as the cable takes it: to the fabric's services, and from a port that the fabric
/// knows to the target.
fn make_noise(listening: &Path, target: PortId, frames: u32) {
    let (ours, theirs) = Wire::new(3).ends();
    let _cable = Cable::connect(listening, None, theirs).unwrap();
    ours.switch(true);
    until("the cable is plugged in", || ours.link().0);
    let address = enter(&ours);
    let mut random = 1u64;
    let mut next = || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random
    };
    for number in 0..frames {
        let mut header = [0; 24];
        header.iter_mut().for_each(|byte| *byte = next() as u8);
        if number % 2 == 0 {
            // To the fabric's own services, as link services: those are looked at.
            (header[0], header[8]) = (0x22, 0x01);
            header[1..4].copy_from_slice(&[0xff, 0xff, 0xfc + (number % 3) as u8]);
        } else {
            let kinds = [0x01, 0x03, 0x05, 0x06, 0x07, 0x22, 0x23, 0x32, 0x81, 0x84];
            header[0] = kinds[next() as usize % kinds.len()];
            header[1..4].copy_from_slice(&target.to_bytes());
            header[5..8].copy_from_slice(&address.to_bytes());
            header[8] = [0x00, 0x01, 0x08, 0x20][next() as usize % 4];
        }
        let payload: Vec<u8> = (0..next() % 200).map(|_| next() as u8).collect();
        let mut frame = FcFrame { header, payload: [Bytes::from(payload)].into_iter().collect() };
        while let Err(back) = ours.send(frame) {
            frame = back;
            std::thread::sleep(Duration::from_millis(1));
        }
        // Whatever is answered is left unread for a while, then thrown away.
        if number % 100 == 0 {
            while ours.receive().is_some() {}
        }
    }
}

#[test]
fn noise_and_ten_thousand_logins_leave_another_host_alone() {
    let place = tempfile::tempdir().unwrap();
    let listening = place.path().join("fabric");
    let disk = Disk::new(MemoryStore::new(16 << 20));
    let server = Server::builder().no_portal().disk(disk).fc_port(target(&listening)).start().unwrap();
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    let mut busy = FcHost::log_in(&listening, Wwn(0x2100_0000_0000_00aa), TARGET);
    let target = host.target;
    std::thread::scope(|scope| {
        let noise = scope.spawn(|| make_noise(&listening, target, 10_000));
        for round in 0..10_000u32 {
            busy.initiator.log_in(Instant::now(), busy.target);
            busy.initiator.drive(Instant::now());
            while busy.initiator.poll_event().is_some() {}
            if round % 500 == 0 {
                let data = vec![round as u8; 4096];
                assert_eq!(host.write(0, round / 50, &data), Status::GOOD);
                assert_eq!(host.read(0, round / 50, 8), (Status::GOOD, data));
            }
        }
        noise.join().unwrap();
    });
    // The last login is answered as the first was, or the table was full and says so; the other host has noticed nothing.
    assert_eq!(host.luns(), [0]);
    assert!(server.sessions().len() <= 2);
    assert!(server.sessions().iter().any(|session| session.initiator == "wwn.210000E08B100163"));
}

/// Adapters in software that fail when they are told to.
#[derive(Debug, Default)]
struct BrittleDriver {
    opened: AtomicUsize,
    fails: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Brittle {
    hba: Box<dyn Hba>,
    fails: Arc<AtomicBool>,
}

impl FcDriver for BrittleDriver {
    fn open(&self, port: &FcPort, wake: Wake) -> Result<Adapter, String> {
        self.opened.fetch_add(1, Ordering::Relaxed);
        let drivers = FcDrivers::default();
        let adapter = drivers.find(DRIVER).ok_or("no softfc")?.open(port, wake)?;
        let hba = Box::new(Brittle { hba: adapter.hba, fails: Arc::clone(&self.fails) });
        Ok(Adapter { hba, ..adapter })
    }
}

impl Hba for Brittle {
    fn port_name(&self) -> Wwn {
        self.hba.port_name()
    }

    fn node_name(&self) -> Wwn {
        self.hba.node_name()
    }

    fn details(&self) -> HbaDetails {
        self.hba.details()
    }

    fn offload(&self) -> Offload {
        self.hba.offload()
    }

    fn limits(&self) -> HbaLimits {
        self.hba.limits()
    }

    fn statistics(&self) -> LinkStatistics {
        self.hba.statistics()
    }

    fn control(&mut self, now: Instant, control: HbaControl) -> Result<(), PortError> {
        self.hba.control(now, control)
    }

    fn submit(&mut self, now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        self.hba.submit(now, request)
    }

    fn poll_event(&mut self, now: Instant) -> Option<HbaEvent> {
        if self.fails.swap(false, Ordering::Relaxed) {
            return Some(HbaEvent::Failed("its firmware has stopped".into()));
        }
        self.hba.poll_event(now)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.hba.poll_timeout()
    }
}

#[test]
fn an_adapter_that_fails_is_opened_anew() {
    let place = tempfile::tempdir().unwrap();
    let listening = place.path().join("fabric");
    let driver = Arc::new(BrittleDriver::default());
    let port = FcPort::new(TARGET, Wwn(0x2000_001b_320e_fd58), FcMode::Target, "brittle")
        .option("listen", listening.to_str().unwrap());
    let disk = Disk::new(MemoryStore::new(1 << 20));
    let builder =
        Server::builder().no_portal().disk(disk).fc_driver("brittle", Arc::clone(&driver) as Arc<dyn FcDriver>);
    let server = builder.fc_port(port).start().unwrap();
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    assert_eq!(host.write(0, 0, &[7; 512]), Status::GOOD);
    driver.fails.store(true, Ordering::Relaxed);
    // A frame has the adapter looked at.
    drop(host);
    until("its session ends", || server.sessions().is_empty());
    let deadline = Instant::now() + 3 * TIME;
    while driver.opened.load(Ordering::Relaxed) < 2 {
        assert!(Instant::now() < deadline, "it is not opened anew");
        std::thread::sleep(Duration::from_millis(50));
    }
    let mut host = FcHost::log_in(&listening, HOST, TARGET);
    assert_eq!(host.read(0, 0, 1), (Status::GOOD, vec![7; 512]));
    server.stop();
}

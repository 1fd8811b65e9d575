//! A target and an initiator, each with an Ethernet interface of its own, without a fabric.

mod common;

use bytes::Bytes;
use common::{INITIATOR, TARGET, framework, pattern, status, transfer};
use fct::fcoe::{EthernetLink, FcoeConfig, FcoeHba, FcoeState, FcoeWatch, MacAddress, MemoryLink};
use fct::initiator::{Command, Event, Initiator, Outcome};
use fct::{Port, PortConfig};
use scsi_core::Lun;
use std::time::{Duration, Instant};
use stmf::provider::hba::{Hba, PortId, Wwn};

const A: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 1]);
const B: MacAddress = MacAddress([0x52, 0x54, 0, 0, 0, 2]);

struct World {
    now: Instant,
    port: Port,
    initiator: Initiator,
    watch: FcoeWatch,
    cable: MemoryLink,
    events: Vec<Event>,
}

fn adapter(now: Instant, name: Wwn, link: MemoryLink) -> FcoeHba<MemoryLink> {
    let config = FcoeConfig { port_name: name, ..FcoeConfig::new("eth0", link.address()) };
    FcoeHba::new(now, config, link).unwrap()
}

impl World {
    fn new(mtu: usize) -> Self {
        let now = Instant::now();
        let (a, b) = MemoryLink::pair(A, B, mtu);
        let cable = a.tap();
        let stmf = framework();
        let target = adapter(now, TARGET, a);
        let watch = target.watch();
        let port = Port::new(&stmf, Box::new(target), PortConfig::default(), Box::new(|| {})).unwrap();
        let initiator = Initiator::new(now, Box::new(adapter(now, INITIATOR, b)), "eth1");
        Self { now, port, initiator, watch, cable, events: Vec::new() }
    }

    fn run(&mut self) {
        loop {
            self.port.drive(self.now);
            let mut progress = false;
            while let Some(job) = self.port.poll_store() {
                progress = true;
                let done = job.lu.perform(job.request);
                self.port.handle_store_done(self.now, &job.lu, done);
                self.port.drive(self.now);
            }
            progress |= self.initiator.drive(self.now);
            while let Some(event) = self.initiator.poll_event() {
                progress = true;
                self.events.push(event);
            }
            if !progress {
                return;
            }
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while self.now < end {
            self.now += Duration::from_millis(10);
            self.run();
        }
    }

    /// Waits for both, and logs in; the target's identifier.
    fn log_in(&mut self) -> PortId {
        self.pass(Duration::from_secs(12));
        let target = PortId(TARGET.0 as u32 & 0xffff);
        assert_eq!(self.watch.get().state, FcoeState::Vn2Vn, "{:?}", self.watch.get());
        self.initiator.log_in(self.now, target);
        self.pass(Duration::from_millis(50));
        assert!(matches!(self.events.last(), Some(Event::LoggedIn(id)) if *id == target), "{:?}", self.events);
        // The unit attention of a unit that has just come up.
        let _ = self.execute(target, &[0; 6], Vec::new(), 0);
        target
    }

    fn execute(&mut self, to: PortId, cdb: &[u8], data_out: Vec<u8>, length: u32) -> Option<Outcome> {
        let mut cdb = cdb.to_vec();
        cdb.resize(16, 0);
        let command =
            Command { lun: Lun::ZERO, cdb, data_out: data_out.into(), data_in_length: length, ..Command::default() };
        let exchange = self.initiator.submit(self.now, to, command);
        self.pass(Duration::from_millis(20));
        let at = self.events.iter().position(|event| matches!(event, Event::Done(id, _) if *id == exchange))?;
        match self.events.remove(at) {
            Event::Done(_, outcome) => Some(outcome),
            _ => None,
        }
    }

    fn write_and_read(&mut self, target: PortId) {
        let data = pattern(64 << 10);
        let written = self.execute(target, &transfer(0x2a, 8, data.len()), data.clone(), 0);
        assert_eq!(status(written), Some(0));
        let read = self.execute(target, &transfer(0x28, 8, data.len()), Vec::new(), data.len() as u32).unwrap();
        assert!(read.data == data, "what is read is not what was written");
    }
}

#[test]
fn two_adapters_find_each_other_log_in_and_move_data() {
    for mtu in [9000, 2500, 1500] {
        let mut world = World::new(mtu);
        let target = world.log_in();
        world.write_and_read(target);
        let status = world.watch.get();
        assert_eq!((status.mtu, status.primary, status.neighbours), (mtu, A, 1));
        assert_eq!(status.current, Some(MacAddress::mapped([0x0e, 0xfd, 0], target)));
    }
}

#[test]
fn a_pulled_cable_ends_the_session_and_a_plugged_one_lets_it_come_back() {
    let mut world = World::new(2500);
    let target = world.log_in();
    world.cable.plug(false);
    world.pass(Duration::from_millis(50));
    assert_eq!(world.watch.get().state, FcoeState::NoCarrier);
    assert!(world.port.info().remotes.is_empty());
    world.cable.plug(true);
    assert_eq!(world.log_in(), target, "the same identifier as before");
    world.write_and_read(target);
}

#[test]
fn frames_of_any_bytes_and_floods_leave_a_session_alone() {
    let mut world = World::new(2500);
    let target = world.log_in();
    let ours = MacAddress::mapped([0x0e, 0xfd, 0], target);
    let mut seed = 7u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for round in 0..10_000u32 {
        let length = 14 + usize::from(random());
        let mut frame: Vec<u8> = (0..length).map(|_| random()).collect();
        frame[..6].copy_from_slice(&ours.0);
        frame[12..14].copy_from_slice(if round % 2 == 0 { &[0x89, 0x06] } else { &[0x89, 0x14] });
        if let (1, Some(byte)) = (round % 2, frame.get_mut(14)) {
            *byte = 0x10;
        }
        world.cable.inject(Bytes::from(frame));
        if round % 500 == 0 {
            world.run();
        }
    }
    world.run();
    world.write_and_read(target);
    let status = world.watch.get();
    assert!(status.ignored > 0 && status.neighbours <= 256, "{status:?}");
}

#[test]
fn an_interface_with_too_small_an_mtu_is_refused_in_words() {
    let now = Instant::now();
    let (link, _) = MemoryLink::pair(A, B, 200);
    let error = FcoeHba::new(now, FcoeConfig::new("eth0", A), link).unwrap_err();
    assert!(error.0.contains("MTU of 200"), "{}", error.0);
    let (link, _) = MemoryLink::pair(A, B, 1500);
    let hba = FcoeHba::new(now, FcoeConfig::new("eth0", A), link).unwrap();
    assert_eq!(hba.limits().max_frame_payload, 1452);
}

#[test]
fn an_initiator_meets_its_neighbours_though_nothing_but_deadlines_wakes_it() {
    let mut world = World::new(2500);
    let (begun, target) = (world.now, PortId(TARGET.0 as u32 & 0xffff));
    let met = |events: &[Event]| events.iter().any(|event| matches!(event, Event::NeighbourUp(id) if *id == target));
    world.run();
    // It has asked nothing yet: the deadline is its adapter's.
    assert!(world.initiator.poll_timeout().is_some());
    while !met(&world.events) {
        assert!(world.now - begun < Duration::from_secs(20), "{:?}", world.events);
        let due = [world.port.poll_timeout(), world.initiator.poll_timeout()].into_iter().flatten().min();
        world.now = due.expect("a deadline").max(world.now + Duration::from_millis(1));
        world.run();
    }
    world.cable.plug(false);
    world.pass(Duration::from_millis(500));
    assert!(world.events.iter().any(|event| matches!(event, Event::Down)), "{:?}", world.events);
}

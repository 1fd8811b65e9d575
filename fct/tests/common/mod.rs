//! A target port and an initiator in one thread, joined by a wire; time jumps to the next deadline.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use fct::initiator::{Command, Event, Initiator, Outcome};
use fct::soft::{SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig};
use lu_sbd::store::{BackingStore, MemoryStore};
use lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties};
use scsi_core::{Guid, GuidHost, Lun};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stmf::Stmf;
use stmf::config::{Config, NewView};
use stmf::provider::hba::{ExchangeId, HbaLevel, PortId, Wwn};

pub const TARGET: Wwn = Wwn(0x2100_001b_320e_fd58);
pub const INITIATOR: Wwn = Wwn(0x2100_00e0_8b10_0163);
/// A name below the target's: then the target gives the addresses.
pub const LOW_INITIATOR: Wwn = Wwn(0x1000_0000_0000_0001);

/// A framework with one disk of 1 MiB at LUN 0, open to all.
pub fn framework() -> Arc<Stmf> {
    framework_on(MemoryStore::new(1 << 20))
}

/// The same, the disk on a store of 1 MiB.
pub fn framework_on(store: impl BackingStore + 'static) -> Arc<Stmf> {
    let stmf = Stmf::new(Config::new(), Box::new(|job| job.run()));
    let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, 1);
    let identity = CreateProperties::default().identity(guid, Path::new("ram"), 1 << 20).unwrap();
    let lu = SbdLu::new(identity, Arc::new(store), Arc::new(NoRecord), Limits::default());
    let view = NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
    let (change, _) = stmf.with_config(|config| config.add_view(&view)).unwrap();
    stmf.commit(change);
    stmf.register_lu(Arc::new(lu), "sbd").unwrap();
    stmf
}

pub fn adapter(port_name: Wwn) -> SoftHbaConfig {
    SoftHbaConfig::new(port_name, Wwn(0x2000_0000_0000_0000 | port_name.0 & 0xffff_ffff_ffff))
}

pub struct World {
    pub now: Instant,
    pub stmf: Arc<Stmf>,
    pub wire: Wire,
    pub port: Port,
    pub initiator: Initiator,
    pub events: Vec<Event>,
}

impl World {
    pub fn new(initiator: Wwn, level: HbaLevel, config: PortConfig) -> Self {
        let now = Instant::now();
        let stmf = framework();
        let wire = Wire::new(7);
        let (a, b) = wire.ends();
        let target = SoftHba::new(SoftHbaConfig { level, ..adapter(TARGET) }, a);
        let port = Port::new(&stmf, Box::new(target), config, Box::new(|| {})).unwrap();
        let initiator = Initiator::new(now, Box::new(SoftHba::new(adapter(initiator), b)), ":qlc1");
        Self { now, stmf, wire, port, initiator, events: Vec::new() }
    }

    /// Point to point, frames, logged in: the target's address.
    pub fn logged_in() -> (Self, PortId) {
        let mut world = Self::new(INITIATOR, HbaLevel::Frames, PortConfig::default());
        let target = world.log_in();
        (world, target)
    }

    /// Everything that happens without the time passing.
    pub fn run(&mut self) {
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

    /// Lets time pass, deadline by deadline.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.run();
        while self.now < end {
            let next = [self.port.poll_timeout(), self.initiator.poll_timeout()].into_iter().flatten().min();
            self.now = next.map_or(end, |next| next.clamp(self.now + Duration::from_millis(1), end));
            self.run();
        }
    }

    /// Logs in; the target's address.
    pub fn log_in(&mut self) -> PortId {
        self.pass(Duration::from_secs(5));
        let ours = self.initiator.address();
        assert_ne!(ours, PortId::NONE, "{:?}", self.port);
        // Of two ports one has address 1, the other 2.
        let target = PortId(3 - ours.0);
        self.initiator.log_in(self.now, target);
        self.run();
        assert!(
            self.events.iter().any(|event| matches!(event, Event::LoggedIn(id) if *id == target)),
            "{:?}",
            self.events
        );
        // The unit attention of a unit that has just come up.
        let outcome = self.execute(target, &[0; 6], Vec::new(), 0).unwrap();
        assert_eq!(outcome.response.unwrap().status, 2);
        target
    }

    pub fn submit(&mut self, to: PortId, cdb: &[u8], data_out: Vec<u8>, data_in_length: u32) -> ExchangeId {
        let mut field = cdb.to_vec();
        field.resize(cdb.len().max(16), 0);
        let command =
            Command { lun: Lun::ZERO, cdb: field, data_out: data_out.into(), data_in_length, ..Command::default() };
        self.initiator.submit(self.now, to, command)
    }

    /// Sends a command and runs until there is nothing to do; its outcome, if there is one.
    pub fn execute(&mut self, to: PortId, cdb: &[u8], data_out: Vec<u8>, data_in_length: u32) -> Option<Outcome> {
        let exchange = self.submit(to, cdb, data_out, data_in_length);
        self.run();
        self.outcome(exchange)
    }

    pub fn outcome(&mut self, exchange: ExchangeId) -> Option<Outcome> {
        let at = self.events.iter().position(|event| matches!(event, Event::Done(id, _) if *id == exchange))?;
        match self.events.remove(at) {
            Event::Done(_, outcome) => Some(outcome),
            _ => None,
        }
    }

    pub fn write(&mut self, to: PortId, lba: u32, data: Vec<u8>) -> Option<Outcome> {
        let cdb = transfer(0x2a, lba, data.len());
        self.execute(to, &cdb, data, 0)
    }

    pub fn read(&mut self, to: PortId, lba: u32, bytes: usize) -> Option<Outcome> {
        self.execute(to, &transfer(0x28, lba, bytes), Vec::new(), bytes as u32)
    }
}

/// READ (10) or WRITE (10).
pub fn transfer(opcode: u8, lba: u32, bytes: usize) -> [u8; 10] {
    let (mut cdb, blocks) = ([0; 10], (bytes / 512) as u16);
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub fn pattern(bytes: usize) -> Vec<u8> {
    (0..bytes).map(|at| (at / 512 * 31 + at) as u8).collect()
}

pub fn status(outcome: Option<Outcome>) -> Option<u8> {
    outcome?.response.map(|response| response.status)
}

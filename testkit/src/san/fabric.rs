//! Fibre Channel of a [`San`]: a fabric of one switch, the target's port on it, and ports for hosts.

use fct::soft::{Fabric, FabricConfig, SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig, StoreJob};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use stmf::Stmf;
use stmf::provider::StoreDone;
use stmf::provider::hba::{HbaLevel, PortId, Wwn};

use super::San;

const FABRIC: Wwn = Wwn(0x1000_0000_0000_0001);
const TARGET: Wwn = Wwn(0x2100_0000_0000_0001);

/// The fabric and the target's port.
pub(super) struct FibreChannel {
    fabric: Fabric,
    port: Port,
    wire: Wire,
    /// All that are plugged in: they are told the time.
    wires: Vec<Wire>,
    address: PortId,
    /// Other threads would have something for the port.
    woken: Arc<AtomicBool>,
}

impl FibreChannel {
    fn new(stmf: &Arc<Stmf>, level: HbaLevel, seed: u64) -> Self {
        let mut fabric = Fabric::new(FabricConfig { domain: 1, name: FABRIC });
        let wire = Wire::new(seed);
        let (ours, theirs) = wire.ends();
        let address = fabric.attach(theirs);
        let hba = SoftHba::new(SoftHbaConfig { level, ..adapter(TARGET) }, ours);
        let woken = Arc::new(AtomicBool::new(true));
        let wake = Arc::clone(&woken);
        let wake = Box::new(move || wake.store(true, Ordering::Relaxed));
        let port = Port::new(stmf, Box::new(hba), PortConfig::default(), wake).expect("a new target");
        Self { fabric, port, wires: vec![wire.clone()], wire, address, woken }
    }

    /// Moves everything that can be moved; `true` when there was anything.
    pub(super) fn drive(&mut self, now: Instant) -> bool {
        self.wires.iter().for_each(|wire| wire.set_time(now));
        let woken = self.woken.swap(false, Ordering::Relaxed);
        woken | self.port.drive(now) | self.fabric.drive(now)
    }

    pub(super) fn poll_store(&mut self) -> Option<StoreJob> {
        self.port.poll_store()
    }

    pub(super) fn handle_store_done(&mut self, now: Instant, StoreJobDone(lu, done): StoreJobDone) {
        self.port.handle_store_done(now, &lu, done);
        self.woken.store(true, Ordering::Relaxed);
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let others = [self.port.poll_timeout(), self.fabric.poll_timeout()].into_iter().flatten();
        self.wires.iter().filter_map(Wire::poll_timeout).chain(others).min()
    }
}

/// A unit and the outcome of an operation of its store.
pub(super) struct StoreJobDone(pub(super) Arc<dyn stmf::provider::LogicalUnit>, pub(super) StoreDone);

impl San {
    /// Gives the target a Fibre Channel port on a fabric of its own.
    ///
    /// # Panics
    /// When it has one already.
    pub fn add_fabric(&self, level: HbaLevel) {
        let stmf = self.stmf();
        let mut inner = self.0.borrow_mut();
        assert!(inner.fabric.is_none(), "one fabric is enough");
        let seed = inner.rng.next();
        inner.fabric = Some(FibreChannel::new(&stmf, level, seed));
        inner.settle();
    }

    /// An adapter of a host, plugged into the fabric, and the wire that it is plugged in with.
    ///
    /// # Panics
    /// Without a fabric.
    pub fn plug(&self, port_name: Wwn) -> (SoftHba, Wire) {
        let mut inner = self.0.borrow_mut();
        let wire = Wire::new(inner.rng.next());
        let (ours, theirs) = wire.ends();
        let inner = inner.fabric.as_mut().expect("a fabric");
        inner.fabric.attach(theirs);
        inner.wires.push(wire.clone());
        (SoftHba::new(adapter(port_name), ours), wire)
    }

    /// Address and wire of the target's port.
    ///
    /// # Panics
    /// Without a fabric.
    pub fn fabric_port(&self) -> (PortId, Wire) {
        let inner = self.0.borrow();
        let fabric = inner.fabric.as_ref().expect("a fabric");
        (fabric.address, fabric.wire.clone())
    }

    /// Commands of the target's Fibre Channel port that have not ended.
    pub fn fabric_outstanding(&self) -> usize {
        self.0.borrow().fabric.as_ref().map_or(0, |fabric| fabric.port.outstanding())
    }
}

fn adapter(port_name: Wwn) -> SoftHbaConfig {
    SoftHbaConfig::new(port_name, Wwn(port_name.0 & 0x00ff_ffff_ffff_ffff | 0x2000_0000_0000_0000))
}

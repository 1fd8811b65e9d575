//! A target-mode driver with everything in it that a driver has to have, over hardware that is a pair of queues.
//!
//! Copy it, and replace `Hardware` by yours. What must be thought about stands at each method. This one moves frames;
//! a driver whose firmware does FCP says `HbaLevel::Commands`, takes the other requests and gives the other events, and may
//! have files read right into its own memory (`Hba::lend_room`, which `tests/lent_memory.rs` shows). What such a driver owes
//! and is owed stands in `stmf::provider::hba`, "Drivers at the level of commands".
//!
//! Run it: `cargo run -p fct --example template_driver`. A host is joined to the hardware's rings then, logs in, writes a block
//! to a disk in memory and reads it back; `tests/template.rs` does the same.

use fct::initiator::{Command, Event, Initiator};
use fct::soft::{SoftHba, SoftHbaConfig, Wire, WireEnd};
use fct::{Port, PortConfig};
use std::collections::VecDeque;
use std::error::Error;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use stmf::Stmf;
use stmf::provider::PortError;
use stmf::provider::hba::{
    FabricLogin, FcFrame, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, Link, LinkStatistics,
    Offload, PortId, Speeds, Topology, Wwn,
};

/// What is yours: rings, registers, an interrupt. Shared, for the other side of the rings is the hardware's.
#[derive(Debug, Default)]
struct Hardware {
    transmit: VecDeque<FcFrame>,
    receive: VecDeque<FcFrame>,
    link_changed: Option<bool>,
}

impl Hardware {
    /// How many frames the ring takes.
    const RING: usize = 256;
}

#[derive(Debug)]
struct TemplateHba {
    hardware: Arc<Mutex<Hardware>>,
    statistics: LinkStatistics,
}

impl TemplateHba {
    fn hardware(&self) -> MutexGuard<'_, Hardware> {
        self.hardware.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hba for TemplateHba {
    // From the adapter's non-volatile memory: the target is named after it, for ever.
    fn port_name(&self) -> Wwn {
        Wwn(0x2100_0000_0000_0001)
    }

    fn node_name(&self) -> Wwn {
        Wwn(0x2000_0000_0000_0001)
    }

    // For people; the driver's name is the provider's, and with the instance the alias: `template0,0`.
    fn details(&self) -> HbaDetails {
        HbaDetails {
            manufacturer: "Example Corp.".into(),
            model: "EX-16".into(),
            driver_name: "template".into(),
            driver_version: "1.0".into(),
            supported_speeds: Speeds(&[4, 8, 16]),
            ..HbaDetails::default()
        }
    }

    fn offload(&self) -> Offload {
        Offload { level: HbaLevel::Frames, logins: false, max_segments: 16, max_transfer_length: 1 << 20 }
    }

    // What the adapter's tables hold: a login or an exchange beyond it is refused as the standard says, not by you.
    fn limits(&self) -> HbaLimits {
        HbaLimits { max_logins: 64, max_exchanges: 1024, max_frame_payload: 2048 }
    }

    fn statistics(&self) -> LinkStatistics {
        self.statistics
    }

    // Begin, do not wait: the link's coming and going is told by events.
    fn control(&mut self, _now: Instant, control: HbaControl) -> Result<(), PortError> {
        self.hardware().link_changed = Some(control != HbaControl::Offline);
        Ok(())
    }

    // Give it back when the ring is full. The slices of a frame's payload are the store's memory: hold the frame until
    // the hardware has read it, then drop it. Hardware that scatters takes the slices as they are.
    fn submit(&mut self, _now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        match request {
            HbaRequest::Frame(_) if self.hardware().transmit.len() >= Hardware::RING => Err(request),
            HbaRequest::Frame(frame) => {
                self.hardware().transmit.push_back(frame);
                Ok(())
            }
            // Nothing else is asked of a driver that moves frames.
            _ => Ok(()),
        }
    }

    // Link first, then frames, in the order in which they came. `Bytes::from_owner` lends your receive memory.
    fn poll_event(&mut self, _now: Instant) -> Option<HbaEvent> {
        let changed = self.hardware().link_changed.take();
        match changed {
            Some(true) => {
                return Some(HbaEvent::LinkUp(Link {
                    topology: Topology::PointToPoint,
                    port_id: PortId::NONE,
                    speed: 16,
                    fabric_login: FabricLogin::ToDo,
                }));
            }
            Some(false) => {
                self.statistics.link_failures += 1;
                return Some(HbaEvent::LinkDown);
            }
            None => {}
        }
        self.hardware().receive.pop_front().map(HbaEvent::Frame)
    }
}

/// Everything in one thread: the port over the driver, and what stands for the rest of the world.
struct Bench {
    hardware: Arc<Mutex<Hardware>>,
    port: Port,
    cable: WireEnd,
    host: Initiator,
}

impl Bench {
    fn new(stmf: &Arc<Stmf>) -> Result<Self, Box<dyn Error>> {
        let (cable, theirs) = Wire::new(1).ends();
        cable.switch(true);
        let (name, node) = (Wwn(0x2100_0000_0000_0002), Wwn(0x2000_0000_0000_0002));
        let host =
            Initiator::new(Instant::now(), Box::new(SoftHba::new(SoftHbaConfig::new(name, node), theirs)), "host");
        let hardware = Arc::<Mutex<Hardware>>::default();
        let hba = TemplateHba { hardware: Arc::clone(&hardware), statistics: LinkStatistics::default() };
        // The last argument wakes your thread when another one has something for the port; your interrupt does the same.
        let port = Port::new(stmf, Box::new(hba), PortConfig::default(), Box::new(|| {}))?;
        Ok(Self { hardware, port, cable, host })
    }

    /// What your thread does each time that it is woken. It goes on while the adapter has more than is taken at a time.
    fn drive(&mut self) {
        while self.port.drive(Instant::now()) {}
        while let Some(job) = self.port.poll_store() {
            // May wait for a device: elsewhere, if that hurts.
            let done = job.lu.perform(job.request);
            self.port.handle_store_done(Instant::now(), &job.lu, done);
            self.port.drive(Instant::now());
        }
    }

    /// What the hardware does: frames go out of one ring and come into the other.
    fn carry(&self) {
        let mut hardware = self.hardware.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(frame) = hardware.transmit.pop_front() {
            if let Err(frame) = self.cable.send(frame) {
                return hardware.transmit.push_front(frame);
            }
        }
        hardware.receive.extend(std::iter::from_fn(|| self.cable.receive()));
    }

    /// Runs until the host hears what is waited for.
    fn until<R>(&mut self, wanted: impl Fn(Event) -> Option<R>) -> Result<R, Box<dyn Error>> {
        for _ in 0..1000 {
            self.drive();
            self.carry();
            self.host.drive(Instant::now());
            while let Some(event) = self.host.poll_event() {
                if let Some(found) = wanted(event) {
                    return Ok(found);
                }
            }
        }
        Err("nothing happens any more".into())
    }

    /// A command of the host: its status, and what was read.
    fn command(&mut self, to: PortId, cdb: &[u8], data_out: &[u8], room: u32) -> Result<(u8, Vec<u8>), Box<dyn Error>> {
        let mut field = cdb.to_vec();
        field.resize(16, 0);
        let data_out = data_out.to_vec().into();
        let command = Command { cdb: field, data_out, data_in_length: room, ..Command::default() };
        let id = self.host.submit(Instant::now(), to, command);
        let outcome = self.until(|event| match event {
            Event::Done(done, outcome) if done == id => Some(outcome),
            _ => None,
        })?;
        let response = outcome.response.ok_or("the command was aborted")?;
        Ok((response.status, outcome.data.to_vec()))
    }
}

/// A framework with one disk of a MiB in memory, which everybody sees.
fn framework() -> Result<Arc<Stmf>, Box<dyn Error>> {
    let stmf = Stmf::new(stmf::config::Config::new(), Box::new(|job| job.run()));
    let guid = scsi_core::Guid::generate(scsi_core::Guid::DEFAULT_OUI, scsi_core::GuidHost::HostId(1), 0, 1);
    let identity = lu_sbd::properties::CreateProperties::default().identity(guid, Path::new("ram"), 1 << 20)?;
    let store = Arc::new(lu_sbd::store::MemoryStore::new(1 << 20));
    let lu = lu_sbd::SbdLu::new(identity, store, Arc::new(lu_sbd::meta::NoRecord), lu_sbd::Limits::default());
    let view = stmf::config::NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
    let (change, _) = stmf.with_config(|config| config.add_view(&view))?;
    stmf.commit(change);
    stmf.register_lu(Arc::new(lu), "sbd")?;
    Ok(stmf)
}

/// A block on its way to the disk and back.
pub(crate) fn demonstrate() -> Result<String, Box<dyn Error>> {
    let stmf = framework()?;
    let mut bench = Bench::new(&stmf)?;
    bench.until(|event| matches!(event, Event::Up(_)).then_some(()))?;
    // Of two ports one has address 1, the other 2.
    let target = PortId(3 - bench.host.address().0);
    bench.host.log_in(Instant::now(), target);
    bench.until(|event| matches!(event, Event::LoggedIn(_)).then_some(()))?;
    // Each disk tells once that it is new.
    while bench.command(target, &[0; 6], &[], 0)?.0 != 0 {}
    let block = [0xa5; 512];
    let (written, _) = bench.command(target, &[0x2a, 0, 0, 0, 0, 7, 0, 0, 1], &block, 0)?;
    let (read, data) = bench.command(target, &[0x28, 0, 0, 0, 0, 7, 0, 0, 1], &[], 512)?;
    if (written, read) != (0, 0) || data != block {
        return Err(format!("WRITE ended with {written:02x}h, READ with {read:02x}h").into());
    }
    let info = bench.port.info();
    Ok(format!("{} {}: {}, one block written and read", bench.port.name(), info.details.model, info.state))
}

fn main() -> Result<(), Box<dyn Error>> {
    println!("{}", demonstrate()?);
    Ok(())
}

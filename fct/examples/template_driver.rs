//! A target-mode driver with everything in it that a driver has to have, over hardware that is a pair of queues.
//!
//! Copy it, and replace `Hardware` by yours. What must be thought about stands at each method. This one moves frames;
//! a driver whose firmware does FCP says `HbaLevel::Commands`, takes the other requests and gives the other events, and may
//! have files read right into its own memory (`Hba::lend_room`, which `tests/lent_memory.rs` shows).
//!
//! Run it: `cargo run -p fct --example template_driver`

use fct::{Port, PortConfig};
use std::collections::VecDeque;
use std::time::Instant;
use stmf::provider::PortError;
use stmf::provider::hba::{
    FabricLogin, FcFrame, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, Link, LinkStatistics,
    Offload, PortId, Speeds, Topology, Wwn,
};

/// What is yours: rings, registers, an interrupt.
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
    hardware: Hardware,
    statistics: LinkStatistics,
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
        self.hardware.link_changed = Some(control != HbaControl::Offline);
        Ok(())
    }

    // Give it back when the ring is full. The slices of a frame's payload are the store's memory: hold the frame until
    // the hardware has read it, then drop it. Hardware that scatters takes the slices as they are.
    fn submit(&mut self, _now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        match request {
            HbaRequest::Frame(_) if self.hardware.transmit.len() >= Hardware::RING => Err(request),
            HbaRequest::Frame(frame) => {
                self.hardware.transmit.push_back(frame);
                Ok(())
            }
            // Nothing else is asked of a driver that moves frames.
            _ => Ok(()),
        }
    }

    // Link first, then frames, in the order in which they came. `Bytes::from_owner` lends your receive memory.
    fn poll_event(&mut self, _now: Instant) -> Option<HbaEvent> {
        match self.hardware.link_changed.take() {
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
        self.hardware.receive.pop_front().map(HbaEvent::Frame)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let stmf = stmf::Stmf::new(stmf::config::Config::new(), Box::new(|job| job.run()));
    let hba = TemplateHba { hardware: Hardware::default(), statistics: LinkStatistics::default() };
    // The last argument wakes your thread when another one has something for the port; your interrupt does the same.
    let mut port = Port::new(&stmf, Box::new(hba), PortConfig::default(), Box::new(|| {}))?;
    port.drive(Instant::now());
    while let Some(job) = port.poll_store() {
        // May wait for a device: elsewhere, if that hurts.
        let done = job.lu.perform(job.request);
        port.handle_store_done(Instant::now(), &job.lu, done);
        port.drive(Instant::now());
    }
    let info = port.info();
    println!("{} {}: {}, next deadline in {:?}", port.name(), info.details.model, info.state, port.poll_timeout());
    Ok(())
}

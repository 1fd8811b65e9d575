//! The software adapter.

use std::collections::VecDeque;
use std::time::Instant;
use stmf::provider::PortError;
use stmf::provider::hba::{
    FabricLogin, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, Link, LinkStatistics, Offload,
    PortId, Speeds, Topology, Wwn,
};

use super::WireEnd;
use crate::engine::{Engine, EngineConfig};

/// What a software adapter says of itself.
#[derive(Clone, Debug)]
pub struct SoftHbaConfig {
    /// Port name.
    pub port_name: Wwn,
    /// Node name.
    pub node_name: Wwn,
    /// What it moves: at [`HbaLevel::Commands`] it has an engine of its own, as firmware does.
    pub level: HbaLevel,
    /// How it is joined; with [`Topology::Vn2Vn`] and [`Topology::PrivateLoop`] `port_id` is its address.
    pub topology: Topology,
    /// Its address where the topology has none to give.
    pub port_id: PortId,
    /// The words about it.
    pub details: HbaDetails,
    /// Speed in gigabits per second.
    pub speed: u32,
    /// Sizes of its tables.
    pub limits: HbaLimits,
}

impl SoftHbaConfig {
    /// An adapter with these names that moves frames, joined to one other port or a fabric.
    pub fn new(port_name: Wwn, node_name: Wwn) -> Self {
        Self {
            port_name,
            node_name,
            level: HbaLevel::Frames,
            topology: Topology::PointToPoint,
            port_id: PortId::NONE,
            details: HbaDetails {
                manufacturer: "Lunette".into(),
                model: "Soft-FC".into(),
                model_description: "Fibre Channel in memory".into(),
                serial_number: String::new(),
                hardware_version: String::new(),
                firmware_version: env!("CARGO_PKG_VERSION").into(),
                option_rom_version: String::new(),
                driver_name: "softfc".into(),
                driver_version: env!("CARGO_PKG_VERSION").into(),
                instance: 0,
                supported_speeds: Speeds(&[1, 2, 4, 8, 16]),
            },
            speed: 16,
            limits: HbaLimits { max_logins: 1024, max_exchanges: 2048, max_frame_payload: 2048 },
        }
    }
}

/// An adapter at the end of a [`Wire`](super::Wire).
#[derive(Debug)]
pub struct SoftHba {
    config: SoftHbaConfig,
    end: WireEnd,
    firmware: Option<Engine>,
    /// What was told last: up or down, and how often it had gone down then.
    told: (bool, u32),
    events: VecDeque<HbaEvent>,
    statistics: LinkStatistics,
}

impl SoftHba {
    /// An adapter that is switched off.
    pub fn new(config: SoftHbaConfig, end: WireEnd) -> Self {
        let engine = EngineConfig {
            max_exchanges: config.limits.max_exchanges,
            max_frame_payload: config.limits.max_frame_payload,
            ..EngineConfig::default()
        };
        Self {
            firmware: (config.level == HbaLevel::Commands).then(|| Engine::new(engine)),
            told: (false, end.link().1),
            config,
            end,
            events: VecDeque::new(),
            statistics: LinkStatistics::default(),
        }
    }

    /// Looks at the link; tells of each time it went down, even when it is up again.
    fn look(&mut self) {
        let (up, flaps) = self.end.link();
        let (was_up, seen) = self.told;
        if (up, flaps) == self.told {
            return;
        }
        self.told = (up, flaps);
        if was_up && flaps != seen {
            self.statistics.link_failures += 1;
            self.statistics.losses_of_signal += 1;
            self.events.push_back(HbaEvent::LinkDown);
            if let Some(firmware) = &mut self.firmware {
                firmware.handle_link_down();
                while firmware.poll_event().is_some() {}
            }
        }
        if up {
            self.events.push_back(HbaEvent::LinkUp(Link {
                topology: self.config.topology,
                port_id: self.config.port_id,
                speed: self.config.speed,
                fabric_login: FabricLogin::ToDo,
            }));
        }
    }

    /// Moves frames between the firmware and the wire.
    fn run_firmware(&mut self, now: Instant) {
        let Some(firmware) = &mut self.firmware else { return };
        firmware.handle_timeout(now);
        while let Some(frame) = self.end.receive() {
            firmware.handle_frame(now, frame);
        }
        // Bounded by the wire: what it has no room for stays in the engine, frame by frame.
        while self.end.has_room() {
            let Some(frame) = firmware.poll_frame() else { break };
            let _ = self.end.send(frame);
        }
    }
}

impl Hba for SoftHba {
    fn port_name(&self) -> Wwn {
        self.config.port_name
    }

    fn node_name(&self) -> Wwn {
        self.config.node_name
    }

    fn details(&self) -> HbaDetails {
        self.config.details.clone()
    }

    fn offload(&self) -> Offload {
        Offload { level: self.config.level, logins: false, max_segments: 256, max_transfer_length: 1 << 20 }
    }

    fn limits(&self) -> HbaLimits {
        self.config.limits
    }

    fn statistics(&self) -> LinkStatistics {
        self.statistics
    }

    fn control(&mut self, _now: Instant, control: HbaControl) -> Result<(), PortError> {
        match control {
            HbaControl::Online => self.end.switch(true),
            HbaControl::Offline => self.end.switch(false),
            HbaControl::ResetLink => {
                self.end.switch(false);
                self.end.switch(true);
            }
        }
        Ok(())
    }

    fn submit(&mut self, now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        match (&mut self.firmware, request) {
            (None, HbaRequest::Frame(frame)) => self.end.send(frame).map_err(HbaRequest::Frame),
            (None, _) => Ok(()),
            (Some(firmware), request) => {
                firmware.handle_request(now, request);
                Ok(())
            }
        }
    }

    fn poll_event(&mut self, now: Instant) -> Option<HbaEvent> {
        self.look();
        self.run_firmware(now);
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        match &mut self.firmware {
            Some(firmware) => firmware.poll_event(),
            None => self.end.receive().map(HbaEvent::Frame),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.firmware.as_ref().and_then(Engine::poll_timeout)
    }
}

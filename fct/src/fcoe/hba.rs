//! An adapter of an Ethernet interface.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stmf::provider::hba::{
    FabricLogin, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, Link, LinkStatistics, Offload,
    PortId, Speeds, Topology, Wwn,
};
use stmf::provider::{PortError, Segments};

use super::fip::{FcoeMode, Fip, FipEvent, Node, Route};
use super::frame::OVERHEAD;
use super::{Carrier, ETHERTYPE_FCOE, ETHERTYPE_FIP, EthernetLink, FcoeError, MacAddress, decapsulate, encapsulate};

/// Frames that may wait for the interface.
const MAX_WAITING: usize = 512;
/// How long to wait when the interface takes no frame now.
const FULL_WAIT: Duration = Duration::from_millis(1);
/// Data fields that ports have to be able to take at least.
const LEAST_PAYLOAD: usize = 256;
/// The longest data field there is.
const MOST_PAYLOAD: usize = 2112;

/// What an [`FcoeHba`] is told of itself.
#[derive(Clone, Debug)]
pub struct FcoeConfig {
    /// Name of the interface, for people.
    pub interface: String,
    /// Port name; the interface's address makes one: [`MacAddress::port_name`].
    pub port_name: Wwn,
    /// Node name: [`MacAddress::node_name`].
    pub node_name: Wwn,
    /// Whom it looks for.
    pub mode: FcoeMode,
    /// Number of the port among those of its kind.
    pub instance: u32,
    /// Ports that may be logged in at once, and neighbours that are remembered.
    pub max_logins: usize,
    /// Exchanges that may be open at once.
    pub max_exchanges: usize,
    /// For jitter: another number in each process.
    pub seed: u64,
}

impl FcoeConfig {
    /// A port of this interface with the names that its address makes.
    pub fn new(interface: impl Into<String>, address: MacAddress) -> Self {
        Self {
            interface: interface.into(),
            port_name: address.port_name(),
            node_name: address.node_name(),
            mode: FcoeMode::Auto,
            instance: 0,
            max_logins: 256,
            max_exchanges: 2048,
            seed: address.port_name().0,
        }
    }
}

/// Where a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FcoeState {
    /// Switched off.
    #[default]
    Offline,
    /// The interface is down, or its frames are too short.
    NoCarrier,
    /// It looks for others.
    Searching,
    /// It is known to a fabric's forwarder.
    Fabric,
    /// It has an identifier among equals.
    Vn2Vn,
}

/// What others may see of a port at any time: `fcadm list-fcoe-ports`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FcoeStatus {
    /// Where it is.
    pub state: FcoeState,
    /// The interface's MTU in bytes.
    pub mtu: usize,
    /// The interface's address.
    pub primary: MacAddress,
    /// The address that frames have now.
    pub current: Option<MacAddress>,
    /// Ports that are known, among equals.
    pub neighbours: usize,
    /// Messages and frames that were of no use.
    pub ignored: u64,
    /// The last trouble, in words.
    pub trouble: Option<String>,
}

/// A view of a port's [`FcoeStatus`] that outlives it.
#[derive(Clone, Debug, Default)]
pub struct FcoeWatch(Arc<Mutex<FcoeStatus>>);

impl FcoeWatch {
    /// The status now.
    pub fn get(&self) -> FcoeStatus {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, FcoeStatus> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An adapter that moves frames, over an interface: FIP, and FC frames in Ethernet frames. Sans-IO but for what its
/// [`EthernetLink`] does.
#[derive(Debug)]
pub struct FcoeHba<L> {
    config: FcoeConfig,
    link: L,
    fip: Fip,
    /// Longest data field, from the MTU at its making.
    max_payload: u16,
    online: bool,
    carrier: Carrier,
    /// The port has been told of a link.
    up: bool,
    out: VecDeque<Segments>,
    /// When to try again, since the interface took no more.
    retry: Option<Instant>,
    events: VecDeque<HbaEvent>,
    statistics: LinkStatistics,
    watch: FcoeWatch,
    trouble: Option<String>,
    current: Option<MacAddress>,
}

impl<L: EthernetLink> FcoeHba<L> {
    /// A port that is switched off. The MTU says how long its frames are for its life; 2180 bytes and more let them be
    /// as long as any.
    ///
    /// # Errors
    /// The MTU is too small for the frames that any port must take.
    pub fn new(now: Instant, config: FcoeConfig, mut link: L) -> Result<Self, PortError> {
        let mtu = link.carrier(now).mtu;
        let max_payload = mtu.saturating_sub(OVERHEAD).min(MOST_PAYLOAD) & !3;
        if max_payload < LEAST_PAYLOAD {
            let words = format!("the interface '{}' has an MTU of {mtu}: FCoE needs 2180 or more", config.interface);
            return Err(PortError(words));
        }
        let node = Node {
            mac: link.address(),
            port_name: config.port_name,
            node_name: config.node_name,
            max_size: (max_payload + OVERHEAD) as u16,
        };
        let fip = Fip::new(node, config.mode, config.max_logins, config.seed);
        let hba = Self {
            config,
            fip,
            max_payload: max_payload as u16,
            online: false,
            carrier: Carrier { mtu, ..Carrier::default() },
            up: false,
            out: VecDeque::new(),
            retry: None,
            events: VecDeque::new(),
            statistics: LinkStatistics::default(),
            watch: FcoeWatch::default(),
            trouble: None,
            current: None,
            link,
        };
        hba.publish();
        Ok(hba)
    }

    /// What may be asked for its status while the port owns it.
    pub fn watch(&self) -> FcoeWatch {
        self.watch.clone()
    }

    /// The interface below.
    pub fn link_mut(&mut self) -> &mut L {
        &mut self.link
    }

    /// Looks at the interface; FIP begins and ends with its carrier.
    fn look(&mut self, now: Instant) {
        let mut carrier = self.link.carrier(now);
        if carrier.up && carrier.mtu < usize::from(self.max_payload) + OVERHEAD {
            self.trouble = Some(format!(
                "the MTU of '{}' is {} now and was {}: set it to that again, or create the port anew",
                self.config.interface,
                carrier.mtu,
                usize::from(self.max_payload) + OVERHEAD,
            ));
            carrier.up = false;
        }
        let before = std::mem::replace(&mut self.carrier, carrier);
        let wanted = carrier.up && self.online;
        let runs = self.fip.among_equals().is_some();
        if runs && !wanted {
            self.statistics.losses_of_signal += u32::from(before.up && !carrier.up);
            self.halt();
        } else if wanted && !runs {
            self.trouble = None;
            self.fip.start(now, self.max_payload + OVERHEAD as u16);
        }
    }

    /// Forgets the link and everything on it.
    fn halt(&mut self) {
        self.fip.stop();
        self.out.clear();
        self.fall();
    }

    fn fall(&mut self) {
        self.link.listen(None);
        self.current = None;
        if std::mem::take(&mut self.up) {
            self.statistics.link_failures += 1;
            self.events.push_back(HbaEvent::LinkDown);
        }
    }

    fn rise(&mut self, topology: Topology, port_id: PortId) {
        self.up = true;
        let speed = self.carrier.speed;
        self.events.push_back(HbaEvent::LinkUp(Link { topology, port_id, speed, fabric_login: FabricLogin::ToDo }));
    }

    fn listen(&mut self, address: MacAddress) {
        self.current = Some(address);
        self.link.listen(Some(address));
    }

    fn take_fip_events(&mut self) {
        while let Some(event) = self.fip.poll_event() {
            match event {
                FipEvent::Up { id: Some(id), address } => {
                    address.into_iter().for_each(|address| self.listen(address));
                    self.rise(Topology::Vn2Vn, id);
                }
                FipEvent::Up { id: None, .. } => self.rise(Topology::PointToPoint, PortId::NONE),
                FipEvent::Down => self.fall(),
                FipEvent::Address(address) => self.listen(address),
                FipEvent::NeighbourUp { port_id, port_name } => {
                    self.events.push_back(HbaEvent::NeighbourUp { port_id, port_name });
                }
                FipEvent::NeighbourDown(id) => self.events.push_back(HbaEvent::NeighbourDown(id)),
                FipEvent::Service(frame) => self.events.push_back(HbaEvent::Frame(frame)),
                FipEvent::Trouble(words) => self.trouble = Some(words),
            }
        }
    }

    /// Takes frames until one has to be told of.
    fn receive(&mut self, now: Instant) {
        while self.events.is_empty() {
            let Some(ethernet) = self.link.receive() else { return };
            let ethertype = ethernet.get(12..14).map_or(0, |two| u16::from_be_bytes([two[0], two[1]]));
            match ethertype {
                ETHERTYPE_FIP => {
                    self.fip.handle(now, &ethernet);
                    self.take_fip_events();
                }
                ETHERTYPE_FCOE if self.up => match decapsulate(&ethernet) {
                    Ok(frame) if self.fip.accepts(now, &ethernet, &frame) => {
                        self.events.push_back(HbaEvent::Frame(frame));
                    }
                    Ok(_) => {}
                    Err(FcoeError::Crc) => self.statistics.invalid_crcs += 1,
                    Err(_) => self.statistics.invalid_words += 1,
                },
                _ => {}
            }
        }
    }

    /// Gives the interface what waits, messages first.
    fn transmit(&mut self, now: Instant) {
        self.retry = None;
        loop {
            let (next, waiting) = match self.fip.poll_transmit() {
                Some(message) => (message, false),
                None => match self.out.pop_front() {
                    Some(frame) => (frame, true),
                    None => break,
                },
            };
            if let Err(frame) = self.link.send(next) {
                self.retry = Some(now + FULL_WAIT);
                // A message that is lost is sent again by its protocol.
                if waiting {
                    self.out.push_front(frame);
                }
                break;
            }
        }
        self.link.flush();
    }

    fn publish(&self) {
        let state = match (self.online, self.carrier.up, self.up, self.fip.among_equals()) {
            (false, ..) => FcoeState::Offline,
            (_, false, ..) => FcoeState::NoCarrier,
            (.., true, Some(true)) => FcoeState::Vn2Vn,
            (.., true, _) => FcoeState::Fabric,
            _ => FcoeState::Searching,
        };
        let mut status = self.watch.lock();
        status.state = state;
        status.mtu = self.carrier.mtu;
        status.primary = self.link.address();
        status.current = self.current;
        status.neighbours = self.fip.neighbours();
        status.ignored = self.fip.ignored();
        if status.trouble != self.trouble {
            status.trouble.clone_from(&self.trouble);
        }
    }
}

impl<L: EthernetLink> Hba for FcoeHba<L> {
    fn port_name(&self) -> Wwn {
        self.config.port_name
    }

    fn node_name(&self) -> Wwn {
        self.config.node_name
    }

    fn details(&self) -> HbaDetails {
        HbaDetails {
            manufacturer: "Lunette".into(),
            model: "FCoE Virtual FC HBA".into(),
            model_description: format!("Fibre Channel over Ethernet on {}", self.config.interface),
            serial_number: String::new(),
            hardware_version: String::new(),
            firmware_version: env!("CARGO_PKG_VERSION").into(),
            option_rom_version: String::new(),
            driver_name: "fcoet".into(),
            driver_version: env!("CARGO_PKG_VERSION").into(),
            instance: self.config.instance,
            supported_speeds: Speeds(&[1, 10]),
        }
    }

    fn offload(&self) -> Offload {
        Offload { level: HbaLevel::Frames, logins: false, max_segments: 64, max_transfer_length: 1 << 20 }
    }

    fn limits(&self) -> HbaLimits {
        HbaLimits {
            max_logins: self.config.max_logins,
            max_exchanges: self.config.max_exchanges,
            max_frame_payload: self.max_payload,
        }
    }

    fn statistics(&self) -> LinkStatistics {
        self.statistics
    }

    fn control(&mut self, now: Instant, control: HbaControl) -> Result<(), PortError> {
        self.online = control != HbaControl::Offline;
        if control != HbaControl::Online {
            self.halt();
        }
        self.look(now);
        self.publish();
        Ok(())
    }

    fn submit(&mut self, now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        let HbaRequest::Frame(frame) = request else { return Ok(()) };
        if self.out.len() >= MAX_WAITING {
            self.transmit(now);
            if self.out.len() >= MAX_WAITING {
                return Err(HbaRequest::Frame(frame));
            }
        }
        if let (true, Route::Frame { to, from }) = (self.up, self.fip.send(&frame)) {
            self.out.push_back(encapsulate(to, from, &frame));
        }
        Ok(())
    }

    fn poll_event(&mut self, now: Instant) -> Option<HbaEvent> {
        if self.events.is_empty() {
            self.look(now);
            self.fip.handle_timeout(now);
            self.take_fip_events();
            self.receive(now);
            self.transmit(now);
            self.publish();
        }
        self.events.pop_front()
    }

    fn poll_timeout(&self) -> Option<Instant> {
        [self.fip.poll_timeout(), self.retry, self.link.poll_timeout()].into_iter().flatten().min()
    }
}

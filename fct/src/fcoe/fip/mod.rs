//! FIP: the protocol by which FCoE ports find a fabric's forwarder, or each other. Sans-IO.

mod fabric;
mod message;
#[cfg(test)]
mod tests;
mod vn2vn;

pub use message::{Descriptor, FipError, Flags, Message, Operation, ServiceKind};

use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use stmf::provider::Segments;
use stmf::provider::hba::{FcFrame, PortId, Wwn};

use super::{ETHERTYPE_FIP, MacAddress, ethernet_header};
use crate::wire::{ElsCommand, FrameHeader, RoutingControl, Type, flat};
use fabric::Fabric;
use vn2vn::Vn2Vn;

/// Messages that may wait to be sent; further ones are dropped.
const MAX_WAITING: usize = 256;
/// Link services that came by FIP and whose answers go the same way; the oldest are forgotten.
const MAX_SERVICES: usize = 64;
/// How long a fabric is looked for before a port that may do both claims an identifier.
const FABRIC_WAIT: Duration = Duration::from_millis(2500);
/// The longest link service that is sent.
const LONGEST_SERVICE: usize = 512;

/// Whom the port looks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum FcoeMode {
    /// A fabric; where none shows up within 2.5 seconds, other ports.
    #[default]
    Auto,
    /// A fabric's forwarder.
    Fabric,
    /// Other ports, without a fabric: VN2VN.
    Vn2Vn,
}

/// Who the node is.
#[derive(Clone, Debug)]
pub struct Node {
    /// The interface's address.
    pub mac: MacAddress,
    /// Port name.
    pub port_name: Wwn,
    /// Node name.
    pub node_name: Wwn,
    /// The longest FCoE frame that it takes: payload of an Ethernet frame in bytes.
    pub max_size: u16,
}

/// What comes of it.
#[derive(Debug)]
#[non_exhaustive]
pub enum FipEvent {
    /// There is a link: an identifier is claimed, or a forwarder is found that FLOGI may go to.
    Up {
        /// The identifier, among equals.
        id: Option<PortId>,
        /// The address for frames, among equals.
        address: Option<MacAddress>,
    },
    /// The link is no more.
    Down,
    /// The fabric gave an address for frames.
    Address(MacAddress),
    /// Another port, among equals.
    NeighbourUp {
        /// Its identifier.
        port_id: PortId,
        /// Its port name.
        port_name: Wwn,
    },
    /// It is gone.
    NeighbourDown(PortId),
    /// A link service, or the answer to one.
    Service(FcFrame),
    /// Words for the administrator.
    Trouble(String),
}

/// How a frame goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// By FIP: it is queued as a message.
    Queued,
    /// As an FCoE frame.
    Frame {
        /// To this address.
        to: MacAddress,
        /// From this one.
        from: MacAddress,
    },
    /// Not at all: there is no link, or nobody there.
    Nowhere,
}

/// What the state machines share: a way out for messages and events.
#[derive(Debug)]
struct Context {
    out: VecDeque<Segments>,
    events: VecDeque<FipEvent>,
    seed: u64,
    max_neighbours: usize,
    ignored: u64,
}

impl Context {
    fn tell(&mut self, event: FipEvent) {
        self.events.push_back(event);
    }

    fn ignored(&mut self) {
        self.ignored += 1;
    }

    /// The next number of SplitMix64: enough for jitter.
    fn random(&mut self) -> u64 {
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Queues a message whose payload has `size` bytes at least.
    fn send(&mut self, to: MacAddress, from: MacAddress, message: &Message, size: usize) {
        if self.out.len() >= MAX_WAITING {
            return self.ignored();
        }
        let mut bytes = BytesMut::from(&ethernet_header(to, from, ETHERTYPE_FIP)[..]);
        bytes.extend_from_slice(&message.encode());
        // The shortest Ethernet frame has 46 bytes.
        let whole = bytes.len().max(14 + size.max(46));
        bytes.resize(whole, 0);
        self.out.push_back(Segments::from_iter([bytes.freeze()]));
    }
}

#[derive(Debug)]
enum Machine {
    Off,
    Fabric(Fabric),
    Vn2Vn(Vn2Vn),
}

/// A link service that came by FIP.
#[derive(Debug)]
struct Asked {
    from: PortId,
    ox_id: u16,
    kind: ServiceKind,
}

/// The node's side of FIP.
///
/// ```text
///   start / stop / handle / handle_timeout / send
///       then, until none gives anything:
///   poll_event
///   poll_transmit    while the interface takes frames
///   poll_timeout     the next deadline
/// ```
#[derive(Debug)]
pub struct Fip {
    node: Node,
    mode: FcoeMode,
    machine: Machine,
    /// When a search for a fabric gives way.
    give_way: Option<Instant>,
    /// The identifier of the last time.
    before: Option<u16>,
    asked: VecDeque<Asked>,
    context: Context,
}

impl Fip {
    /// A node that does nothing yet. `seed`: for jitter and for identifiers; another one in each process.
    pub fn new(node: Node, mode: FcoeMode, max_neighbours: usize, seed: u64) -> Self {
        let context = Context { out: VecDeque::new(), events: VecDeque::new(), seed, max_neighbours, ignored: 0 };
        Self { node, mode, machine: Machine::Off, give_way: None, before: None, asked: VecDeque::new(), context }
    }

    /// The interface has come up: looks for others. `max_size`: the longest FCoE frame now.
    pub fn start(&mut self, now: Instant, max_size: u16) {
        self.stop();
        self.node.max_size = max_size;
        match self.mode {
            FcoeMode::Vn2Vn => self.claim(now),
            _ => self.machine = Machine::Fabric(Fabric::new(now)),
        }
        self.give_way = (self.mode == FcoeMode::Auto).then(|| now + FABRIC_WAIT);
        self.handle_timeout(now);
    }

    /// The interface has gone down, or the port is switched off: everything is forgotten, no event is told.
    pub fn stop(&mut self) {
        if let Machine::Vn2Vn(vn2vn) = &self.machine {
            self.before = Some(vn2vn.wish());
        }
        self.machine = Machine::Off;
        self.give_way = None;
        self.asked.clear();
        self.context.events.clear();
        self.context.out.clear();
    }

    fn claim(&mut self, now: Instant) {
        self.machine = Machine::Vn2Vn(Vn2Vn::new(now, &self.node, self.before, &mut self.context));
    }

    /// Takes an Ethernet frame of EtherType 8914h.
    pub fn handle(&mut self, now: Instant, ethernet: &Bytes) {
        let Some((_, from)) = addresses(ethernet) else { return self.context.ignored() };
        let Ok(message) = Message::decode(&ethernet.slice(14..)) else { return self.context.ignored() };
        let services = [Operation::LINK_SERVICE_REQUEST, Operation::LINK_SERVICE_REPLY];
        if services.contains(&message.operation) {
            return self.service(now, from, &message);
        }
        match &mut self.machine {
            Machine::Off => {}
            Machine::Fabric(fabric) => fabric.handle(now, &self.node, &message, &mut self.context),
            Machine::Vn2Vn(vn2vn) => vn2vn.handle(now, &self.node, &message, &mut self.context),
        }
    }

    fn service(&mut self, now: Instant, from: MacAddress, message: &Message) {
        let Some((kind, bytes)) = message.service() else { return self.context.ignored() };
        let mut header = [0; 24];
        header.copy_from_slice(&bytes[..24]);
        let frame = FcFrame { header, payload: Segments::from_iter([bytes.slice(24..)]) };
        let taken = match &mut self.machine {
            Machine::Off => false,
            Machine::Fabric(fabric) => fabric.service(now, from, (kind, message.mac()), frame, &mut self.context),
            Machine::Vn2Vn(vn2vn) => vn2vn.service(now, from, frame, &mut self.context),
        };
        if !taken {
            return self.context.ignored();
        }
        if message.operation == Operation::LINK_SERVICE_REQUEST {
            let header = FrameHeader::decode(&header);
            if self.asked.len() >= MAX_SERVICES {
                self.asked.pop_front();
            }
            self.asked.push_back(Asked { from: header.s_id, ox_id: header.ox_id, kind });
        }
    }

    /// How a frame of ours goes; what goes by FIP is queued.
    pub fn send(&mut self, frame: &FcFrame) -> Route {
        let header = FrameHeader::decode(&frame.header);
        if let Some((kind, reply)) = self.by_fip(&header, frame) {
            let route = match &self.machine {
                Machine::Off => None,
                Machine::Fabric(fabric) => fabric.service_route(kind),
                Machine::Vn2Vn(vn2vn) => vn2vn.service_route(header.d_id),
            };
            let Some((to, own)) = route else { return Route::Nowhere };
            let mut bytes = frame.header.to_vec();
            bytes.extend(flat(&frame.payload, LONGEST_SERVICE));
            let operation = if reply { Operation::LINK_SERVICE_REPLY } else { Operation::LINK_SERVICE_REQUEST };
            let flags = if matches!(self.machine, Machine::Fabric(_)) { Flags::FPMA } else { Flags(0) };
            let message = Message::new(operation, flags)
                .with(Descriptor::Service(kind, Bytes::from(bytes)))
                .with(Descriptor::Mac(own));
            self.context.send(to, self.node.mac, &message, 0);
            return Route::Queued;
        }
        let route = match &self.machine {
            Machine::Off => None,
            Machine::Fabric(fabric) => fabric.route(),
            Machine::Vn2Vn(vn2vn) => vn2vn.route(header.d_id),
        };
        route.map_or(Route::Nowhere, |(to, from)| Route::Frame { to, from })
    }

    /// Whether a frame is one of those that go by FIP; whether it is an answer.
    fn by_fip(&mut self, header: &FrameHeader, frame: &FcFrame) -> Option<(ServiceKind, bool)> {
        if header.kind != Type::ELS {
            return None;
        }
        if header.r_ctl == RoutingControl::ELS_REPLY {
            let asked = |asked: &Asked| (asked.from, asked.ox_id) == (header.d_id, header.ox_id);
            let at = self.asked.iter().position(asked)?;
            return self.asked.remove(at).map(|asked| (asked.kind, true));
        }
        let command = *frame.payload.first()?.first()?;
        let among_equals = matches!(self.machine, Machine::Vn2Vn(_));
        if command == ElsCommand::FLOGI.0 {
            Some((ServiceKind::FLOGI, false))
        } else if command == ElsCommand::LOGO.0 && (among_equals || header.d_id == PortId::FABRIC) {
            Some((ServiceKind::LOGO, false))
        } else {
            None
        }
    }

    /// Whether an FCoE frame came the way that it has to come; who forges addresses is not heard.
    pub fn accepts(&mut self, now: Instant, ethernet: &Bytes, frame: &FcFrame) -> bool {
        let Some((to, from)) = addresses(ethernet) else { return false };
        let s_id = PortId::from_bytes([frame.header[5], frame.header[6], frame.header[7]]);
        let good = match &mut self.machine {
            Machine::Off => false,
            Machine::Fabric(fabric) => fabric.accepts(to, from),
            Machine::Vn2Vn(vn2vn) => vn2vn.accepts(now, to, from, s_id),
        };
        self.context.ignored += u64::from(!good);
        good
    }

    /// Looks at deadlines.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.give_way.is_some_and(|at| at <= now) {
            self.give_way = None;
            if matches!(&self.machine, Machine::Fabric(fabric) if !fabric.found()) {
                self.claim(now);
            }
        }
        match &mut self.machine {
            Machine::Off => {}
            Machine::Fabric(fabric) => fabric.handle_timeout(now, &self.node, &mut self.context),
            Machine::Vn2Vn(vn2vn) => vn2vn.handle_timeout(now, &self.node, &mut self.context),
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let machine = match &self.machine {
            Machine::Off => None,
            Machine::Fabric(fabric) => fabric.poll_timeout(),
            Machine::Vn2Vn(vn2vn) => vn2vn.poll_timeout(),
        };
        machine.into_iter().chain(self.give_way).min()
    }

    /// The next Ethernet frame to send.
    pub fn poll_transmit(&mut self) -> Option<Segments> {
        self.context.out.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<FipEvent> {
        self.context.events.pop_front()
    }

    /// The identifier, once there is one.
    pub fn identifier(&self) -> Option<PortId> {
        match &self.machine {
            Machine::Off => None,
            Machine::Fabric(fabric) => fabric.identifier(),
            Machine::Vn2Vn(vn2vn) => vn2vn.identifier(),
        }
    }

    /// Whether it is among equals; `None` while it is off.
    pub fn among_equals(&self) -> Option<bool> {
        match &self.machine {
            Machine::Off => None,
            Machine::Fabric(_) => Some(false),
            Machine::Vn2Vn(_) => Some(true),
        }
    }

    /// Other ports that are known, among equals.
    pub fn neighbours(&self) -> usize {
        match &self.machine {
            Machine::Vn2Vn(vn2vn) => vn2vn.neighbours(),
            _ => 0,
        }
    }

    /// Messages and frames that were of no use: malformed, from strangers, or beyond a limit.
    pub fn ignored(&self) -> u64 {
        self.context.ignored
    }
}

/// To and from.
fn addresses(ethernet: &Bytes) -> Option<(MacAddress, MacAddress)> {
    let (to, from) = (ethernet.get(..6)?.try_into().ok()?, ethernet.get(6..12)?.try_into().ok()?);
    (ethernet.len() >= 14).then_some((MacAddress(to), MacAddress(from)))
}

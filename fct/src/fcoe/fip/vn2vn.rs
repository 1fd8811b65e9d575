//! Ports among equals: who has which identifier (FC-BB-6, VN2VN).
//!
//! ```text
//!   Start --random wait--> Probe --100 ms--> Probe again --400 ms--> Claim --400 ms--> Up: a beacon every 8 s
//!     ^                      |                   |                     |                |
//!     +---- another identifier, when somebody else has it or a higher name wants it ----+
//! ```

use bytes::Bytes;
use std::collections::HashMap;
use std::time::{Duration, Instant};
use stmf::provider::hba::{FcFrame, PortId, Wwn};

use super::super::MacAddress;
use super::message::{Descriptor, Flags, Message, Operation};
use super::{Context, FipEvent, Node};

/// What the addresses of ports without a fabric begin with.
const FC_MAP: [u8; 3] = [0x0e, 0xfd, 0x00];
/// Identifiers above it are nobody's.
const LAST_IDENTIFIER: u16 = 0xfe00;

const PROBE_WAIT: Duration = Duration::from_millis(100);
const CLAIM_WAIT: Duration = Duration::from_millis(400);
const BEACON_INTERVAL: Duration = Duration::from_secs(8);
/// Up to so much is added to the interval, so that ports do not keep step.
const BEACON_JITTER_MS: u64 = 100;
/// Two and a half intervals without a beacon, and a port is gone.
const BEACON_LIMIT: Duration = Duration::from_secs(20);
/// Identifiers that are tried in a row; then one every ten seconds.
const RAPID_TRIES: u32 = 10;
const SLOW_TRY: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Start,
    FirstProbe,
    SecondProbe,
    Claim,
    Up,
}

/// Another port.
#[derive(Clone, Debug)]
struct Neighbour {
    port_name: Wwn,
    node_name: Wwn,
    enode: MacAddress,
    /// When it was heard of last.
    seen: Instant,
    /// It sent more than claims: it is not forgotten for the sake of those that send nothing else.
    active: bool,
}

/// The state machine of a port among equals.
#[derive(Debug)]
pub(super) struct Vn2Vn {
    stage: Stage,
    deadline: Instant,
    id: u16,
    tries: u32,
    claimed: Instant,
    neighbours: HashMap<PortId, Neighbour>,
}

impl Vn2Vn {
    pub(super) fn new(now: Instant, node: &Node, before: Option<u16>, context: &mut Context) -> Self {
        // What it had before, or what its name ends in: with luck it is the same every day.
        let id = before.unwrap_or(node.port_name.0 as u16);
        let mut this = Self {
            stage: Stage::Start,
            deadline: now,
            id: if (1..=LAST_IDENTIFIER).contains(&id) { id } else { 1 },
            tries: 0,
            claimed: now,
            neighbours: HashMap::new(),
        };
        this.begin(now, context);
        this
    }

    /// The identifier that is claimed.
    pub(super) fn identifier(&self) -> Option<PortId> {
        (self.stage == Stage::Up).then_some(PortId(u32::from(self.id)))
    }

    /// The identifier that it would like to have again.
    pub(super) fn wish(&self) -> u16 {
        self.id
    }

    pub(super) fn neighbours(&self) -> usize {
        self.neighbours.len()
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let gone = self.neighbours.values().map(|neighbour| neighbour.seen + BEACON_LIMIT);
        gone.chain([self.deadline]).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, node: &Node, context: &mut Context) {
        let gone = |neighbour: &Neighbour| neighbour.seen + BEACON_LIMIT <= now;
        let gone: Vec<PortId> = self.neighbours.iter().filter(|(_, one)| gone(one)).map(|(id, _)| *id).collect();
        for id in gone {
            self.forget(id, context);
        }
        if self.deadline > now {
            return;
        }
        match self.stage {
            Stage::Start => {
                self.stage = Stage::FirstProbe;
                self.deadline = now + PROBE_WAIT;
                self.send(node, Operation::PROBE_REQUEST, MacAddress::ALL_VN2VN, 0, context);
            }
            Stage::FirstProbe => {
                self.stage = Stage::SecondProbe;
                self.deadline = now + CLAIM_WAIT;
                self.send(node, Operation::PROBE_REQUEST, MacAddress::ALL_VN2VN, 0, context);
            }
            Stage::SecondProbe => {
                self.stage = Stage::Claim;
                self.deadline = now + CLAIM_WAIT;
                self.claim(now, node, context);
            }
            Stage::Claim => {
                self.stage = Stage::Up;
                self.tries = 0;
                context.tell(FipEvent::Up { id: Some(PortId(u32::from(self.id))), address: Some(self.address()) });
                for (id, neighbour) in &self.neighbours {
                    context.tell(FipEvent::NeighbourUp { port_id: *id, port_name: neighbour.port_name });
                }
                self.beacon(now, node, context);
                // The second follows soon, for those who lost the first.
                self.deadline = now + CLAIM_WAIT;
            }
            Stage::Up => self.beacon(now, node, context),
        }
    }

    /// Takes a message of VN2VN.
    pub(super) fn handle(&mut self, now: Instant, node: &Node, message: &Message, context: &mut Context) {
        let (Some(enode), Some(node_name), Some((mac, id, port_name))) =
            (message.mac(), message.name(), message.port())
        else {
            return context.ignored();
        };
        let valid = (1..=0xffff).contains(&id.0) && mac == MacAddress::mapped(FC_MAP, id) && enode.is_station();
        if !valid || port_name == node.port_name {
            return context.ignored();
        }
        let ours = id.0 == u32::from(self.id);
        let settled = matches!(self.stage, Stage::Claim | Stage::Up);
        let seen = Neighbour { port_name, node_name, enode, seen: now, active: false };
        match message.operation {
            Operation::PROBE_REQUEST => {
                // Who probes has lost what it had.
                let before = self.neighbours.iter().find(|(_, other)| other.port_name == port_name);
                if let Some(before) = before.map(|(id, _)| *id) {
                    self.forget(before, context);
                }
                if !ours {
                    return;
                }
                let stronger = node.port_name > port_name && !message.flags.has(Flags::RECORDED);
                if settled || (self.stage != Stage::Start && stronger) {
                    self.send(node, Operation::PROBE_REPLY, enode, 0, context);
                } else {
                    self.restart(now, context);
                }
            }
            Operation::PROBE_REPLY if ours && self.stage == Stage::Up => self.claim(now, node, context),
            Operation::PROBE_REPLY if ours => self.restart(now, context),
            Operation::CLAIM_NOTIFICATION if ours && (!settled || port_name > node.port_name) => {
                self.restart(now, context);
            }
            Operation::CLAIM_NOTIFICATION if ours => self.claim(now, node, context),
            Operation::CLAIM_NOTIFICATION if settled => {
                // As long as both take, so that what the path cannot carry shows now.
                let size = message.max_size().unwrap_or(0).min(node.max_size);
                self.send(node, Operation::CLAIM_RESPONSE, enode, size, context);
                self.learn(id, seen, context);
            }
            Operation::CLAIM_RESPONSE if settled && !ours => self.learn(id, seen, context),
            Operation::BEACON if ours => {
                if self.stage == Stage::Up && port_name < node.port_name {
                    self.claim(now, node, context);
                } else {
                    self.restart(now, context);
                }
            }
            Operation::BEACON => match self.neighbours.get_mut(&id) {
                Some(known) if (known.port_name, known.node_name) == (port_name, node_name) => known.seen = now,
                // Who it is is told by the answer to a claim.
                _ if self.stage == Stage::Up && self.claimed + CLAIM_WAIT <= now => self.claim(now, node, context),
                _ => {}
            },
            _ => {}
        }
    }

    /// Where a link service for a port goes: the node's own address, and the address that comes along.
    pub(super) fn service_route(&self, to: PortId) -> Option<(MacAddress, MacAddress)> {
        Some((self.neighbours.get(&to)?.enode, self.address()))
    }

    /// Where a frame goes, and whence.
    pub(super) fn route(&self, to: PortId) -> Option<(MacAddress, MacAddress)> {
        (self.stage == Stage::Up).then(|| (MacAddress::mapped(FC_MAP, to), self.address()))
    }

    /// Whether a frame came the way that frames of that port come.
    pub(super) fn accepts(&mut self, now: Instant, to: MacAddress, from: MacAddress, s_id: PortId) -> bool {
        let good = self.stage == Stage::Up && to == self.address() && from == MacAddress::mapped(FC_MAP, s_id);
        if good {
            self.heard(now, s_id);
        }
        good
    }

    /// Takes a link service.
    pub(super) fn service(&mut self, now: Instant, from: MacAddress, frame: FcFrame, context: &mut Context) -> bool {
        let s_id = PortId::from_bytes([frame.header[5], frame.header[6], frame.header[7]]);
        let known = self.neighbours.get(&s_id).is_some_and(|neighbour| neighbour.enode == from);
        if known && self.stage == Stage::Up {
            self.heard(now, s_id);
            context.tell(FipEvent::Service(frame));
        }
        known
    }

    fn heard(&mut self, now: Instant, id: PortId) {
        if let Some(neighbour) = self.neighbours.get_mut(&id) {
            neighbour.active = true;
            neighbour.seen = now;
        }
    }

    fn address(&self) -> MacAddress {
        MacAddress::mapped(FC_MAP, PortId(u32::from(self.id)))
    }

    /// Waits a little, so that not all speak at once after an outage.
    fn begin(&mut self, now: Instant, context: &mut Context) {
        self.stage = Stage::Start;
        self.deadline = if self.tries < RAPID_TRIES {
            now + Duration::from_millis(context.random() % PROBE_WAIT.as_millis() as u64)
        } else {
            now + SLOW_TRY
        };
        self.tries += 1;
    }

    /// The identifier is somebody else's: another one.
    fn restart(&mut self, now: Instant, context: &mut Context) {
        if self.stage == Stage::Up {
            context.tell(FipEvent::Down);
        }
        self.neighbours.clear();
        self.id = 1 + (context.random() % u64::from(LAST_IDENTIFIER)) as u16;
        self.begin(now, context);
    }

    fn beacon(&mut self, now: Instant, node: &Node, context: &mut Context) {
        self.send(node, Operation::BEACON, MacAddress::ALL_VN2VN, 0, context);
        self.deadline = now + BEACON_INTERVAL + Duration::from_millis(context.random() % BEACON_JITTER_MS);
    }

    fn claim(&mut self, now: Instant, node: &Node, context: &mut Context) {
        self.claimed = now;
        self.send(node, Operation::CLAIM_NOTIFICATION, MacAddress::ALL_VN2VN, 0, context);
    }

    fn send(&self, node: &Node, operation: Operation, to: MacAddress, size: u16, context: &mut Context) {
        let (id, address) = (PortId(u32::from(self.id)), self.address());
        let mut message = Message::new(operation, Flags(0))
            .with(Descriptor::Mac(node.mac))
            .with(Descriptor::Name(node.node_name))
            .with(Descriptor::VnPort { mac: address, id, name: node.port_name });
        if matches!(operation, Operation::CLAIM_NOTIFICATION | Operation::CLAIM_RESPONSE) {
            message = message.with(Descriptor::Fc4(features())).with(Descriptor::MaxSize(node.max_size));
        }
        let from = if operation == Operation::BEACON { address } else { node.mac };
        context.send(to, from, &message, usize::from(size));
    }

    fn learn(&mut self, id: PortId, seen: Neighbour, context: &mut Context) {
        if let Some(known) = self.neighbours.get_mut(&id) {
            if (known.port_name, known.node_name) == (seen.port_name, seen.node_name) {
                known.seen = seen.seen;
                known.enode = seen.enode;
                return;
            }
            self.forget(id, context);
        }
        if self.neighbours.len() >= context.max_neighbours {
            let idle = self.neighbours.iter().filter(|(_, neighbour)| !neighbour.active);
            let Some(oldest) = idle.min_by_key(|(_, neighbour)| neighbour.seen).map(|(id, _)| *id) else {
                return context.ignored();
            };
            self.forget(oldest, context);
        }
        if self.stage == Stage::Up {
            context.tell(FipEvent::NeighbourUp { port_id: id, port_name: seen.port_name });
        }
        self.neighbours.insert(id, seen);
    }

    fn forget(&mut self, id: PortId, context: &mut Context) {
        if self.neighbours.remove(&id).is_some() && self.stage == Stage::Up {
            context.tell(FipEvent::NeighbourDown(id));
        }
    }
}

/// FCP, as a target.
fn features() -> Bytes {
    let mut bytes = vec![0; 160];
    // TYPE 08h is bit 8 of the first word, its features are the first nibble of the second word of features.
    bytes[2] = 1;
    bytes[32 + 7] = 1;
    Bytes::from(bytes)
}

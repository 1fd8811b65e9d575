//! Finding a fabric's forwarder, and staying known to it (FC-BB-6, FIP of an ENode).

use std::time::{Duration, Instant};
use stmf::provider::hba::{FcFrame, PortId, Wwn};

use super::super::MacAddress;
use super::message::{Descriptor, Flags, Message, Operation, ServiceKind};
use super::{Context, FipEvent, Node};
use crate::wire::ElsCommand;

/// Forwarders that are remembered.
const MAX_FORWARDERS: usize = 16;
/// How long others have to show up after the first.
const SELECTION_WAIT: Duration = Duration::from_millis(500);
/// Between solicitations: doubled from the first to the last.
const FIRST_SOLICITATION: Duration = Duration::from_secs(1);
const LAST_SOLICITATION: Duration = Duration::from_secs(8);
/// How often a port that has logged in says that it is still here.
const PORT_KEEP_ALIVE: Duration = Duration::from_secs(90);
/// What a forwarder may ask for at least, and what it is taken to want when it says less.
const LEAST_PERIOD: Duration = Duration::from_millis(250);
const LONGEST_PERIOD: Duration = Duration::from_secs(90);

/// A forwarder that told of itself.
#[derive(Clone, Debug)]
struct Forwarder {
    mac: MacAddress,
    name: Wwn,
    fc_map: [u8; 3],
    priority: u8,
    period: Duration,
    silent: bool,
    seen: Instant,
    /// It has answered a solicitation with a frame as long as any, and takes logins.
    usable: bool,
}

/// The state machine of a node that looks for a fabric.
#[derive(Debug)]
pub(super) struct Fabric {
    forwarders: Vec<Forwarder>,
    selected: Option<MacAddress>,
    select_at: Option<Instant>,
    solicit_at: Option<Instant>,
    interval: Duration,
    granted: Option<(MacAddress, PortId)>,
    node_keep_alive: Option<Instant>,
    port_keep_alive: Option<Instant>,
    complained: bool,
}

impl Fabric {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            forwarders: Vec::new(),
            selected: None,
            select_at: None,
            solicit_at: Some(now),
            interval: FIRST_SOLICITATION,
            granted: None,
            node_keep_alive: None,
            port_keep_alive: None,
            complained: false,
        }
    }

    /// Whether there is a forwarder that can be used.
    pub(super) fn found(&self) -> bool {
        self.selected.is_some() || self.select_at.is_some()
    }

    pub(super) fn identifier(&self) -> Option<PortId> {
        self.granted.map(|(_, id)| id)
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let gone = self.forwarders.iter().map(|one| one.seen + one.period * 5 / 2);
        let timers = [self.select_at, self.solicit_at, self.node_keep_alive, self.port_keep_alive];
        gone.chain(timers.into_iter().flatten()).min()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant, node: &Node, context: &mut Context) {
        // Two advertisements missed, and half the time to the next.
        self.forwarders.retain(|one| one.seen + one.period * 5 / 2 > now);
        if self.selected.is_some_and(|mac| !self.forwarders.iter().any(|one| one.mac == mac)) {
            self.lose(now, context);
        }
        if self.select_at.is_some_and(|at| at <= now) {
            self.select_at = None;
            self.select(context);
        }
        if self.solicit_at.is_some_and(|at| at <= now) {
            self.solicit_at = None;
            if self.selected.is_none() {
                self.solicit(node, MacAddress::ALL_FORWARDERS, context);
                // Also on which VLAN it should ask; who knows answers.
                let ask = Message::new(Operation::VLAN_REQUEST, Flags(0))
                    .with(Descriptor::Mac(node.mac))
                    .with(Descriptor::Name(node.node_name));
                context.send(MacAddress::ALL_FORWARDERS, node.mac, &ask, 0);
                self.solicit_at = Some(now + self.interval);
                self.interval = (self.interval * 2).min(LAST_SOLICITATION);
            }
        }
        let Some(forwarder) = self.forwarders.iter().find(|one| Some(one.mac) == self.selected) else { return };
        if self.node_keep_alive.is_some_and(|at| at <= now) {
            let alive = Message::new(Operation::KEEP_ALIVE, Flags(0)).with(Descriptor::Mac(node.mac));
            context.send(forwarder.mac, node.mac, &alive, 0);
            self.node_keep_alive = (!forwarder.silent).then(|| now + forwarder.period);
        }
        if let (Some((mac, id)), true) = (self.granted, self.port_keep_alive.is_some_and(|at| at <= now)) {
            let alive = Message::new(Operation::KEEP_ALIVE, Flags(0))
                .with(Descriptor::Mac(node.mac))
                .with(Descriptor::VnPort { mac, id, name: node.port_name });
            context.send(forwarder.mac, mac, &alive, 0);
            self.port_keep_alive = (!forwarder.silent).then(|| now + PORT_KEEP_ALIVE);
        }
    }

    /// Takes what forwarders say.
    pub(super) fn handle(&mut self, now: Instant, node: &Node, message: &Message, context: &mut Context) {
        match message.operation {
            Operation::ADVERTISEMENT => self.advertised(now, node, message, context),
            Operation::CLEAR_VIRTUAL_LINK => self.cleared(now, node, message, context),
            Operation::VLAN_NOTIFICATION if !self.complained && self.selected.is_none() => {
                let vlan =
                    |descriptor: &Descriptor| if let Descriptor::Vlan(vlan) = descriptor { Some(*vlan) } else { None };
                if let Some(vlan) = message.descriptors.iter().find_map(vlan).filter(|vlan| *vlan != 0) {
                    self.complained = true;
                    let words = format!("the fabric is on VLAN {vlan}: make the port on an interface of that VLAN");
                    context.tell(FipEvent::Trouble(words));
                }
            }
            _ => {}
        }
    }

    fn advertised(&mut self, now: Instant, node: &Node, message: &Message, context: &mut Context) {
        let (mut priority, mut fabric, mut period) = (None, None, None);
        for descriptor in &message.descriptors {
            match descriptor {
                Descriptor::Priority(value) => priority = Some(*value),
                Descriptor::Fabric { fc_map, .. } => fabric = Some(*fc_map),
                Descriptor::KeepAlive { period_ms, silent } => period = Some((*period_ms, *silent)),
                _ => {}
            }
        }
        let (Some(mac), Some(name), Some(priority), Some(fc_map), Some((period_ms, silent))) =
            (message.mac().filter(|mac| mac.is_station()), message.name(), priority, fabric, period)
        else {
            return context.ignored();
        };
        if !message.flags.has(Flags::FORWARDER) || fc_map[..2] != [0x0e, 0xfc] {
            return context.ignored();
        }
        if !message.flags.has(Flags::FPMA) {
            if !std::mem::replace(&mut self.complained, true) {
                let words =
                    format!("the forwarder {mac} gives no addresses (FPMA) and wants them brought along (SPMA)");
                context.tell(FipEvent::Trouble(words));
            }
            return;
        }
        let period = Duration::from_millis(u64::from(period_ms)).clamp(LEAST_PERIOD, LONGEST_PERIOD);
        let at = match self.forwarders.iter().position(|one| (one.mac, one.name) == (mac, name)) {
            Some(at) => at,
            None if self.forwarders.len() >= MAX_FORWARDERS => return context.ignored(),
            None => {
                self.forwarders.push(Forwarder {
                    mac,
                    name,
                    fc_map,
                    priority,
                    period,
                    silent,
                    seen: now,
                    usable: false,
                });
                if !message.flags.has(Flags::SOLICITED) {
                    self.solicit(node, mac, context);
                }
                self.forwarders.len() - 1
            }
        };
        let forwarder = &mut self.forwarders[at];
        (forwarder.seen, forwarder.period, forwarder.silent, forwarder.priority) = (now, period, silent, priority);
        if message.flags.has(Flags::SOLICITED) && message.flags.has(Flags::AVAILABLE) {
            forwarder.usable = true;
            forwarder.fc_map = fc_map;
            if self.selected.is_none() && self.select_at.is_none() {
                self.select_at = Some(now + SELECTION_WAIT);
            }
        }
        if self.selected == Some(mac) && self.node_keep_alive.is_none() && !silent {
            self.node_keep_alive = Some(now + period);
        }
    }

    fn select(&mut self, context: &mut Context) {
        let best = self.forwarders.iter().filter(|one| one.usable).min_by_key(|one| one.priority);
        let Some(forwarder) = best else { return };
        self.selected = Some(forwarder.mac);
        self.solicit_at = None;
        self.interval = FIRST_SOLICITATION;
        context.tell(FipEvent::Up { id: None, address: None });
    }

    fn cleared(&mut self, now: Instant, node: &Node, message: &Message, context: &mut Context) {
        let forwarder = self.forwarders.iter().find(|one| Some(one.mac) == self.selected);
        let said = (message.mac(), message.name());
        if forwarder.is_none_or(|one| said != (Some(one.mac), Some(one.name))) {
            return context.ignored();
        }
        let port = |descriptor: &Descriptor| match descriptor {
            Descriptor::VnPort { id, name, .. } => Some((*id, *name)),
            _ => None,
        };
        let mut ports = message.descriptors.iter().filter_map(port).peekable();
        let ours = self.granted.map(|(_, id)| (id, node.port_name));
        if ports.peek().is_none() || ports.any(|port| Some(port) == ours) {
            self.forwarders.retain(|one| Some(one.mac) != self.selected);
            self.lose(now, context);
        }
    }

    /// The forwarder is gone, and the login with it.
    fn lose(&mut self, now: Instant, context: &mut Context) {
        self.selected = None;
        self.granted = None;
        self.node_keep_alive = None;
        self.port_keep_alive = None;
        self.solicit_at = Some(now);
        self.interval = FIRST_SOLICITATION;
        self.select_at = self.forwarders.iter().any(|one| one.usable).then_some(now);
        context.tell(FipEvent::Down);
    }

    fn solicit(&self, node: &Node, to: MacAddress, context: &mut Context) {
        let message = Message::new(Operation::SOLICITATION, Flags::FPMA)
            .with(Descriptor::Mac(node.mac))
            .with(Descriptor::Name(node.node_name))
            .with(Descriptor::MaxSize(node.max_size));
        context.send(to, node.mac, &message, 0);
    }

    /// Where a link service of the fabric goes, and the address that comes along.
    pub(super) fn service_route(&self, kind: ServiceKind) -> Option<(MacAddress, MacAddress)> {
        let own = self.granted.map(|(mac, _)| mac).filter(|_| kind == ServiceKind::LOGO);
        Some((self.selected?, own.unwrap_or_default()))
    }

    pub(super) fn route(&self) -> Option<(MacAddress, MacAddress)> {
        Some((self.selected?, self.granted?.0))
    }

    pub(super) fn accepts(&self, to: MacAddress, from: MacAddress) -> bool {
        self.selected == Some(from) && self.granted.is_some_and(|(mac, _)| mac == to)
    }

    /// Takes a link service, or the answer to ours. `mac`: the address that came along.
    pub(super) fn service(
        &mut self,
        now: Instant,
        from: MacAddress,
        (kind, mac): (ServiceKind, Option<MacAddress>),
        frame: FcFrame,
        context: &mut Context,
    ) -> bool {
        let forwarder = self.forwarders.iter().find(|one| Some(one.mac) == self.selected && one.mac == from);
        let Some(forwarder) = forwarder else { return false };
        let d_id = PortId::from_bytes([frame.header[1], frame.header[2], frame.header[3]]);
        let accepted = frame.payload.first().and_then(|piece| piece.first()) == Some(&ElsCommand::LS_ACC.0);
        if kind == ServiceKind::FLOGI && accepted {
            let address = MacAddress::mapped(forwarder.fc_map, d_id);
            if mac != Some(address) {
                let words = format!("the forwarder {from} gave an address that is not made of the identifier {d_id}");
                context.tell(FipEvent::Trouble(words));
                return false;
            }
            self.granted = Some((address, d_id));
            self.node_keep_alive = (!forwarder.silent).then(|| now + forwarder.period);
            self.port_keep_alive = (!forwarder.silent).then(|| now + PORT_KEEP_ALIVE);
            context.tell(FipEvent::Address(address));
        }
        if kind == ServiceKind::LOGO && accepted {
            self.granted = None;
            self.port_keep_alive = None;
        }
        context.tell(FipEvent::Service(frame));
        true
    }
}

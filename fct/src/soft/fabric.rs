//! A fabric of one switch: addresses, names, notifications.

use bytes::Bytes;
use smallvec::smallvec;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Instant;
use stmf::provider::hba::{ExchangeId, FcFrame, HbaEvent, HbaRequest, LinkService, PortId, RemotePort, Wwn};

use super::WireEnd;
use crate::engine::{Engine, EngineConfig};
use crate::wire::{
    CtCommand, CtHeader, CtReason, Els, ElsCommand, FrameHeader, LoginParameters, LsExplanation, LsReason, flat,
};

/// What a fabric says of itself.
#[derive(Clone, Copy, Debug)]
pub struct FabricConfig {
    /// Domain of the switch, 1 to 239: the first byte of the addresses it gives.
    pub domain: u8,
    /// Its name.
    pub name: Wwn,
}

/// A port of the switch.
#[derive(Debug)]
struct FPort {
    end: WireEnd,
    engine: Engine,
    address: PortId,
    told: (bool, u32),
    /// Frames that wait for room on the wire.
    outbound: VecDeque<FcFrame>,
    registered: Registration,
}

/// What a port has told the name server.
#[derive(Debug, Default)]
struct Registration {
    logged_in: bool,
    port_name: Wwn,
    node_name: Wwn,
    symbolic_name: Vec<u8>,
    fcp: bool,
    wants_changes: bool,
}

/// Ports of the switch.
const SWITCH_PORTS: u8 = 250;

/// Frames that wait for a port; further ones are lost, as a switch loses what it cannot deliver.
const MAX_OUTBOUND: usize = 4096;

/// A switch whose ports are ends of wires; every port sees every other. Addresses are domain, port number plus 3, 0.
#[derive(Debug)]
pub struct Fabric {
    config: FabricConfig,
    ports: Vec<FPort>,
    symbolic_nodes: BTreeMap<Wwn, Vec<u8>>,
    next_request: u64,
}

impl Fabric {
    /// A switch without ports.
    pub fn new(config: FabricConfig) -> Self {
        Self { config, ports: Vec::new(), symbolic_nodes: BTreeMap::new(), next_request: 1 }
    }

    /// Plugs in an end; its address. At most 250 make sense.
    pub fn attach(&mut self, end: WireEnd) -> PortId {
        let number = self.ports.len() as u8;
        self.plug(number, end)
    }

    /// Plugs an end into the switch port of that number, 0 to 249, or into the lowest free one; its address. A port is
    /// free when nothing was ever plugged in, or the other end of what was is dropped. `None`: there is no free one.
    pub fn attach_at(&mut self, number: Option<u8>, end: WireEnd) -> Option<PortId> {
        self.ports.retain(|port| !port.end.is_alone());
        let free = |number: &u8| {
            let address = self.address(*number);
            self.ports.iter().all(|port| port.address != address)
        };
        let number = match number {
            Some(number) => Some(number).filter(|number| *number < SWITCH_PORTS && free(number)),
            None => (0..SWITCH_PORTS).find(free),
        };
        number.map(|number| self.plug(number, end))
    }

    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.ports.iter().filter_map(|port| port.engine.poll_timeout()).min()
    }

    fn address(&self, number: u8) -> PortId {
        PortId::from_bytes([self.config.domain, number.wrapping_add(3), 0])
    }

    fn plug(&mut self, number: u8, end: WireEnd) -> PortId {
        let address = self.address(number);
        end.switch(true);
        let told = (false, end.link().1);
        let mut engine = Engine::new(EngineConfig::default());
        // Several well known addresses are answered: it takes what it is given.
        engine.handle_request(Instant::now(), HbaRequest::Address(PortId::NONE));
        let registered = Registration::default();
        self.ports.push(FPort { end, engine, address, told, outbound: VecDeque::new(), registered });
        address
    }

    /// Moves everything that can be moved; `true` when there was anything.
    pub fn drive(&mut self, now: Instant) -> bool {
        let mut progress = false;
        let mut changed = BTreeSet::new();
        for at in 0..self.ports.len() {
            changed.extend(self.look_at_link(at));
            self.ports[at].engine.handle_timeout(now);
            progress |= self.take_frames(now, at, &mut changed);
            while let Some(event) = self.ports[at].engine.poll_event() {
                progress = true;
                if let Some(address) = self.serve(now, at, event) {
                    changed.insert(address);
                }
            }
        }
        for address in changed {
            self.notify(now, address);
        }
        for port in &mut self.ports {
            while let Some(frame) = port.engine.poll_frame() {
                port.outbound.push_back(frame);
            }
            while port.end.has_room() {
                let Some(frame) = port.outbound.pop_front() else { break };
                progress = true;
                let _ = port.end.send(frame);
            }
        }
        progress
    }

    /// Takes what has come to a port; `true` when there was anything.
    fn take_frames(&mut self, now: Instant, at: usize, changed: &mut BTreeSet<PortId>) -> bool {
        let mut progress = false;
        while let Some(frame) = self.ports[at].end.receive() {
            progress = true;
            // The other end may have come back on another thread, and this is its first frame.
            changed.extend(self.look_at_link(at));
            self.route(now, at, frame);
        }
        progress
    }

    /// Forgets who was on a link that has been down; the address of a port that was logged in.
    fn look_at_link(&mut self, at: usize) -> Option<PortId> {
        let port = &mut self.ports[at];
        let (up, flaps) = port.end.link();
        let (was_up, seen) = std::mem::replace(&mut port.told, (up, flaps));
        if !was_up || flaps == seen && up {
            return None;
        }
        port.engine.handle_link_down();
        while port.engine.poll_event().is_some() {}
        port.outbound.clear();
        std::mem::take(&mut port.registered).logged_in.then_some(port.address)
    }

    /// A frame of a port: to a service, or to the port it is for.
    fn route(&mut self, now: Instant, at: usize, frame: FcFrame) {
        let header = FrameHeader::decode(&frame.header);
        if header.d_id.is_well_known() {
            return self.ports[at].engine.handle_frame(now, frame);
        }
        let from = &self.ports[at];
        if !from.registered.logged_in || header.s_id != from.address {
            return;
        }
        let to = self.ports.iter_mut().find(|port| port.address == header.d_id && port.registered.logged_in);
        if let Some(to) = to
            && to.outbound.len() < MAX_OUTBOUND
        {
            to.outbound.push_back(frame);
        }
    }

    /// A link service for the fabric; the address of a port whose registration is another now.
    fn serve(&mut self, now: Instant, at: usize, event: HbaEvent) -> Option<PortId> {
        let HbaEvent::Service { exchange, service, from, to, payload } = event else { return None };
        let payload = flat(&payload, 2048);
        let mut changed = None;
        let answer = match (service, Els::decode(&payload)) {
            (LinkService::Ct, _) => self.answer_names(at, &payload, &mut changed),
            (_, Ok(Els::Flogi(parameters))) if to == PortId::FABRIC => {
                let port = &mut self.ports[at];
                port.registered = Registration {
                    logged_in: true,
                    port_name: parameters.port_name,
                    node_name: parameters.node_name,
                    ..Registration::default()
                };
                // The address is told by that of the answer.
                port.engine.readdress(exchange, port.address);
                self.parameters(true).encode(ElsCommand::LS_ACC.0)
            }
            (_, Ok(Els::Plogi(parameters))) => {
                let remote = RemotePort {
                    port_id: from,
                    port_name: parameters.port_name,
                    node_name: parameters.node_name,
                    max_frame_payload: parameters.max_frame_payload,
                    service_parameters: 0,
                };
                self.ports[at].engine.handle_request(now, HbaRequest::Register(remote));
                self.parameters(false).encode(ElsCommand::LS_ACC.0)
            }
            (_, Ok(Els::Scr { .. })) => {
                self.ports[at].registered.wants_changes = true;
                Els::accept()
            }
            (_, Ok(Els::Logo { .. })) => Els::accept(),
            _ => Els::Reject { reason: LsReason::NOT_SUPPORTED, explanation: LsExplanation::NOT_SUPPORTED }.encode(),
        };
        let payload = smallvec![Bytes::from(answer)];
        self.ports[at].engine.handle_request(now, HbaRequest::Reply { exchange, payload });
        changed
    }

    fn parameters(&self, f_port: bool) -> LoginParameters {
        LoginParameters {
            port_name: self.config.name,
            node_name: self.config.name,
            f_port,
            credit: 64,
            max_frame_payload: 2112,
            class3: true,
            e_d_tov_ms: 2000,
            r_a_tov_ms: 10_000,
        }
    }

    /// The name server.
    fn answer_names(&mut self, at: usize, payload: &[u8], changed: &mut Option<PortId>) -> Vec<u8> {
        let reject = |reason| CtHeader { command: CtCommand::REJECT, words: 0, reason }.encode();
        let mut accept = CtHeader { command: CtCommand::ACCEPT, words: 0, reason: CtReason::default() }.encode();
        let Ok(header) = CtHeader::decode(payload) else { return reject(CtReason::INVALID_SIZE) };
        let body = &payload[CtHeader::LENGTH..];
        let subject = CtHeader::subject(payload);
        let known =
            |id: Option<PortId>| self.ports.iter().find(|port| port.registered.logged_in && Some(port.address) == id);
        match header.command {
            CtCommand::RFT_ID | CtCommand::RNN_ID | CtCommand::RCS_ID | CtCommand::RFF_ID | CtCommand::RSPN_ID
                if subject != Some(self.ports[at].address) =>
            {
                return reject(CtReason::NOT_REGISTERED);
            }
            CtCommand::RFT_ID => {
                self.ports[at].registered.fcp = body.get(6).is_some_and(|types| types & 1 != 0);
                *changed = subject;
            }
            CtCommand::RSPN_ID => {
                let length = usize::from(body.get(4).copied().unwrap_or(0));
                self.ports[at].registered.symbolic_name = body.get(5..5 + length).unwrap_or_default().to_vec();
            }
            CtCommand::RSNN_NN => {
                let name = CtHeader::name(payload).filter(|&name| name == self.ports[at].registered.node_name);
                let Some(name) = name else { return reject(CtReason::NOT_REGISTERED) };
                self.symbolic_nodes.insert(name, body.get(9..).unwrap_or_default().to_vec());
            }
            CtCommand::RNN_ID | CtCommand::RCS_ID | CtCommand::RFF_ID => {}
            CtCommand::GID_FT => {
                let ids: Vec<PortId> =
                    self.ports.iter().filter(|port| port.registered.fcp).map(|port| port.address).collect();
                if ids.is_empty() {
                    return reject(CtReason::NOT_REGISTERED);
                }
                for (index, id) in ids.iter().enumerate() {
                    accept.push(if index + 1 == ids.len() { 0x80 } else { 0 });
                    accept.extend_from_slice(&id.to_bytes());
                }
            }
            CtCommand::GID_PN => {
                let name = CtHeader::name(payload);
                let found = self.ports.iter().find(|port| Some(port.registered.port_name) == name);
                let Some(port) = found else { return reject(CtReason::NOT_REGISTERED) };
                accept.push(0);
                accept.extend_from_slice(&port.address.to_bytes());
            }
            CtCommand::GPN_ID | CtCommand::GNN_ID => {
                let Some(port) = known(subject) else { return reject(CtReason::NOT_REGISTERED) };
                let registered = &port.registered;
                let node = header.command == CtCommand::GNN_ID;
                let name = if node { registered.node_name } else { registered.port_name };
                accept.extend_from_slice(&name.0.to_be_bytes());
            }
            CtCommand::GSPN_ID => {
                let Some(port) = known(subject) else { return reject(CtReason::NOT_REGISTERED) };
                let name = &port.registered.symbolic_name;
                accept.push(name.len() as u8);
                accept.extend_from_slice(name);
            }
            _ => return reject(CtReason::NOT_SUPPORTED),
        }
        accept
    }

    /// Tells those that want to know that something about a port is another.
    fn notify(&mut self, now: Instant, changed: PortId) {
        let rscn = Els::Rscn(smallvec![(0, changed)]).encode();
        let concerned = self.ports.iter_mut().filter(|port| port.registered.wants_changes && port.address != changed);
        for port in concerned {
            let exchange = ExchangeId(ExchangeId::LOCAL | self.next_request);
            self.next_request += 1;
            let (from, to) = (PortId::FABRIC_CONTROLLER, port.address);
            let payload = smallvec![Bytes::copy_from_slice(&rscn)];
            let request = HbaRequest::Request { exchange, service: LinkService::Els, from, to, payload };
            port.engine.handle_request(now, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::initiator::{Event, Initiator};
    use crate::soft::{SoftHba, SoftHbaConfig, Wire};

    #[test]
    fn a_port_that_comes_back_between_two_looks_at_its_link_stays_logged_in() {
        let now = Instant::now();
        let mut fabric = Fabric::new(FabricConfig { domain: 1, name: Wwn(0x1000_0000_0000_0001) });
        let wire = Wire::new(1);
        let (ours, theirs) = wire.ends();
        fabric.attach(theirs);
        let hba = SoftHba::new(SoftHbaConfig::new(Wwn(0x2100_0000_0000_0001), Wwn(0x2000_0000_0000_0001)), ours);
        let mut port = Initiator::new(now, Box::new(hba), "");
        while port.drive(now) | fabric.drive(now) {}
        assert!(fabric.ports[0].registered.logged_in);

        // The fabric has looked at the link already in this round.
        wire.flap();
        port.drive(now);
        fabric.take_frames(now, 0, &mut BTreeSet::new());
        while port.drive(now) | fabric.drive(now) {}
        assert!(fabric.ports[0].registered.logged_in);
        let events = std::iter::from_fn(|| port.poll_event());
        assert_eq!(events.filter(|event| matches!(event, Event::Up(_))).count(), 2);
    }
}

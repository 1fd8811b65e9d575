//! The link coming and going, the fabric, its name server, changes that it tells of.

use std::time::Instant;
use stmf::provider::hba::{ExchangeId, FabricLogin, HbaRequest, Link, LinkService, PortId, RemotePort, Topology, Wwn};

use super::{Asked, FLOGI_RETRY, Port, PortEvent, Stage};
use crate::wire::{CtCommand, CtHeader, CtReason, Els, ElsCommand, LoginParameters};

/// Addresses of two ports without a fabric: the one with the higher name gives them.
const FIRST_OF_TWO: PortId = PortId(1);
const SECOND_OF_TWO: PortId = PortId(2);

/// What is left to tell the fabric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Node,
    Class,
    Types,
    Features,
    SymbolicPort,
    SymbolicNode,
    StateChanges,
}

const STEPS: [Step; 7] =
    [Step::Node, Step::Class, Step::Types, Step::Features, Step::SymbolicPort, Step::SymbolicNode, Step::StateChanges];

impl Port {
    pub(super) fn link_up(&mut self, now: Instant, link: Link) {
        if self.link.is_some() {
            self.link_down(now);
        }
        if !self.switched {
            return;
        }
        self.link = Some(link);
        match (link.fabric_login, link.topology) {
            (FabricLogin::Fabric, _) => {
                self.fabric = true;
                self.come_up(now, link.port_id);
                self.enter_fabric(now);
            }
            (FabricLogin::NoFabric { log_in_to: PortId::NONE }, _) => self.come_up(now, link.port_id),
            (FabricLogin::NoFabric { log_in_to }, _) => self.log_in_first(now, link.port_id, log_in_to),
            (FabricLogin::ToDo, Topology::PrivateLoop | Topology::Vn2Vn) => self.come_up(now, link.port_id),
            (FabricLogin::ToDo, _) => self.say_flogi(now),
        }
    }

    /// Everything that there was is gone.
    pub(super) fn link_down(&mut self, now: Instant) {
        let was = self.link.take().is_some();
        let mut ids: Vec<PortId> = self.remotes.keys().copied().collect();
        ids.sort_unstable();
        for id in ids {
            self.log_out(now, id, "the link is down");
        }
        self.asked.clear();
        self.steps.clear();
        self.stage = Stage::Down;
        self.fabric = false;
        self.address = PortId::NONE;
        if let Some(engine) = &mut self.engine {
            engine.handle_link_down();
            // What that has to tell is of things that are forgotten here as well.
            while engine.poll_event().is_some() {}
        }
        self.held = None;
        // An adapter that does exchanges has forgotten its own.
        self.requests.clear();
        if was {
            self.tell(PortEvent::Down);
        }
    }

    fn come_up(&mut self, now: Instant, address: PortId) {
        self.address = address;
        self.stage = Stage::Up;
        self.lower(now, HbaRequest::Address(address));
        self.tell(PortEvent::Up(address));
    }

    /// Our service parameters.
    pub(super) fn parameters(&self) -> LoginParameters {
        LoginParameters {
            port_name: self.hba.port_name(),
            node_name: self.hba.node_name(),
            f_port: false,
            credit: 64,
            max_frame_payload: self.config.engine.max_frame_payload,
            class3: true,
            e_d_tov_ms: self.config.engine.e_d_tov.as_millis() as u32,
            r_a_tov_ms: 0,
        }
    }

    pub(super) fn say_flogi(&mut self, now: Instant) {
        self.stage = Stage::FabricLogin(None);
        let payload = Els::Flogi(self.parameters()).encode();
        self.ask(now, Asked::Flogi, PortId::NONE, PortId::FABRIC, LinkService::Els, payload);
    }

    pub(super) fn flogi_answered(&mut self, now: Instant, to: PortId, payload: Option<&[u8]>) {
        if !matches!(self.stage, Stage::FabricLogin(_)) {
            return;
        }
        let accepted = payload.filter(|payload| payload.first() == Some(&ElsCommand::LS_ACC.0));
        match accepted.map(LoginParameters::decode) {
            Some(Ok(fabric)) if fabric.f_port && to != PortId::NONE => {
                self.fabric = true;
                self.come_up(now, to);
                self.enter_fabric(now);
            }
            Some(Ok(other)) if !fabric_like(&other) => self.meet(now, &other),
            _ => self.stage = Stage::FabricLogin(Some(now + FLOGI_RETRY)),
        }
    }

    /// Whether the other end of the link may turn out to be an N_Port.
    pub(super) fn may_be_one_of_two(&self) -> bool {
        !self.fabric && self.link.is_some_and(|link| link.topology == Topology::PointToPoint)
    }

    /// FLOGI from the other side: there is no fabric.
    pub(super) fn flogi_received(&mut self, now: Instant, exchange: ExchangeId, other: &LoginParameters) {
        self.answer(now, exchange, self.parameters().encode(ElsCommand::LS_ACC.0));
        if self.stage == Stage::Up && !self.fabric {
            // It begins anew.
            let ids: Vec<PortId> = self.remotes.keys().copied().collect();
            for id in ids {
                self.log_out(now, id, "the other port began anew");
            }
            self.stage = Stage::FabricLogin(None);
        }
        if matches!(self.stage, Stage::FabricLogin(_)) {
            self.meet(now, other);
        }
    }

    /// Whether ports are joined without a fabric, each with an address that it claimed.
    pub(super) fn is_among_equals(&self) -> bool {
        self.link.is_some_and(|link| link.topology == Topology::Vn2Vn)
    }

    /// FLOGI among equals: another port begins. The one with the higher name logs in (FC-BB-6, VN2VN).
    pub(super) fn greeted(&mut self, now: Instant, exchange: ExchangeId, from: PortId, other: &LoginParameters) {
        let ours = self.parameters();
        let mut accept = ours.encode(ElsCommand::LS_ACC.0);
        // Where PLOGI has sequences and offsets, FLOGI has R_A_TOV.
        accept[12..16].copy_from_slice(&(self.config.engine.r_a_tov.as_millis() as u32).to_be_bytes());
        self.answer(now, exchange, accept);
        self.log_out(now, from, "it began anew");
        if ours.port_name > other.port_name {
            let payload = Els::Plogi(ours).encode();
            self.ask(now, Asked::Plogi(from), self.address, from, LinkService::Els, payload);
        }
    }

    /// Two N_Ports: whose name is higher gives the addresses and logs in.
    fn meet(&mut self, now: Instant, other: &LoginParameters) {
        if self.hba.port_name() < other.port_name {
            self.stage = Stage::AwaitingLogin;
            return;
        }
        self.log_in_first(now, FIRST_OF_TWO, SECOND_OF_TWO);
    }

    /// The port with the higher name of two logs in, and so tells the other its address.
    fn log_in_first(&mut self, now: Instant, own: PortId, other: PortId) {
        self.come_up(now, own);
        let payload = Els::Plogi(self.parameters()).encode();
        self.ask(now, Asked::Plogi(other), own, other, LinkService::Els, payload);
    }

    /// PLOGI of the other of two ports: it says which address is ours.
    pub(super) fn adopt_address(&mut self, now: Instant, to: PortId) {
        if self.stage == Stage::AwaitingLogin && to != PortId::NONE && !to.is_well_known() {
            self.come_up(now, to);
        }
    }

    /// Logs in to the directory, which is told who we are.
    fn enter_fabric(&mut self, now: Instant) {
        self.steps = STEPS.into();
        let payload = Els::Plogi(self.parameters()).encode();
        self.ask(now, Asked::Directory, self.address, PortId::DIRECTORY, LinkService::Els, payload);
    }

    /// The next step of the registration. A fabric that refuses one is told the others all the same.
    pub(super) fn next_step(&mut self, now: Instant) {
        let Some(step) = self.steps.pop_front() else { return };
        let (id, node) = (self.address, self.hba.node_name());
        let payload = match step {
            Step::Node => CtHeader::register_node(id, node),
            Step::Class => CtHeader::register_class(id),
            Step::Types => CtHeader::register_fcp(id),
            Step::Features => CtHeader::register_features(id, true, false),
            Step::SymbolicPort => CtHeader::register_symbolic_port(id, &self.config.symbolic_port_name),
            Step::SymbolicNode => CtHeader::register_symbolic_node(node, &self.config.symbolic_node_name),
            Step::StateChanges => {
                let payload = Els::Scr { function: 3 }.encode();
                return self.ask(now, Asked::Step, id, PortId::FABRIC_CONTROLLER, LinkService::Els, payload);
            }
        };
        self.ask(now, Asked::Step, id, PortId::DIRECTORY, LinkService::Ct, payload);
    }

    pub(super) fn directory_answered(&mut self, now: Instant, payload: Option<&[u8]>) {
        let accepted = payload.filter(|payload| payload.first() == Some(&ElsCommand::LS_ACC.0));
        let Some(Ok(directory)) = accepted.map(LoginParameters::decode) else {
            // Without a directory initiators have to know us; they may.
            self.steps.clear();
            return self.tell(PortEvent::Trouble("the fabric's directory server refuses our login".into()));
        };
        self.lower(
            now,
            HbaRequest::Register(RemotePort {
                port_id: PortId::DIRECTORY,
                port_name: directory.port_name,
                node_name: directory.node_name,
                max_frame_payload: directory.max_frame_payload,
                service_parameters: 0,
            }),
        );
        self.next_step(now);
    }

    /// Asks the name server what a remote port calls itself.
    pub(super) fn ask_symbolic_name(&mut self, now: Instant, id: PortId) {
        if !self.fabric || id.is_well_known() {
            return;
        }
        let exchange = ExchangeId(ExchangeId::LOCAL | self.next_request);
        let payload = CtHeader::about(CtCommand::GSPN_ID, id);
        self.ask(now, Asked::Symbolic(id), self.address, PortId::DIRECTORY, LinkService::Ct, payload);
        if self.asked.contains_key(&exchange)
            && let Some(remote) = self.remotes.get_mut(&id)
        {
            remote.asking = Some(exchange);
        }
    }

    /// The fabric tells of changes: whoever may be concerned is asked whether it is still there.
    pub(super) fn verify(&mut self, now: Instant, pages: &[(u8, PortId)]) {
        let concerned = |id: PortId| {
            pages.iter().any(|&(format, page)| {
                // Port, area, domain, fabric.
                let mask = [0xff_ffff, 0xff_ff00, 0xff_0000, 0][usize::from(format & 3)];
                id.0 & mask == page.0 & mask
            })
        };
        let found = self.remotes.iter().filter(|(id, _)| concerned(**id));
        let mut found: Vec<(PortId, Wwn)> = found.map(|(id, remote)| (*id, remote.port.port_name)).collect();
        found.sort_unstable();
        for (id, name) in found {
            if self.fabric {
                let payload = CtHeader::find(name);
                self.ask(now, Asked::Registered(id), self.address, PortId::DIRECTORY, LinkService::Ct, payload);
            } else {
                self.ask_whether_there(now, id);
            }
        }
    }

    /// What the name server knows of a port. One that is not registered any more is gone, and need not be waited for.
    pub(super) fn looked_up(&mut self, now: Instant, id: PortId, payload: Option<&[u8]>) {
        let answer = payload.and_then(|payload| Some((CtHeader::decode(payload).ok()?, CtHeader::subject(payload))));
        match answer {
            Some((CtHeader { command: CtCommand::REJECT, reason: CtReason::NOT_REGISTERED, .. }, _)) => {
                self.log_out(now, id, "the fabric knows it no more");
            }
            Some((CtHeader { command: CtCommand::ACCEPT, .. }, Some(elsewhere))) if elsewhere != id => {
                self.log_out(now, id, "it is at another address now");
            }
            // It may have forgotten its login all the same.
            _ => self.ask_whether_there(now, id),
        }
    }

    fn ask_whether_there(&mut self, now: Instant, id: PortId) {
        let (port_name, node_name) = (self.hba.port_name(), self.hba.node_name());
        let adisc = Els::Adisc { port_name, node_name, port_id: self.address };
        self.ask(now, Asked::Verify(id), self.address, id, LinkService::Els, adisc.encode());
    }

    pub(super) fn verified(&mut self, now: Instant, id: PortId, payload: Option<&[u8]>) {
        let Some(remote) = self.remotes.get(&id) else { return };
        let names = (remote.port.port_name, remote.port.node_name);
        // The accept has the form of the request.
        let same = payload.filter(|payload| payload.first() == Some(&ElsCommand::LS_ACC.0)).is_some_and(|payload| {
            let mut request = payload.to_vec();
            request[0] = ElsCommand::ADISC.0;
            matches!(Els::decode(&request), Ok(Els::Adisc { port_name, node_name, .. }) if (port_name, node_name) == names)
        });
        if !same {
            self.log_out(now, id, "the port is no longer there");
        }
    }
}

fn fabric_like(parameters: &LoginParameters) -> bool {
    parameters.f_port
}

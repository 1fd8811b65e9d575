//! The initiator's side of a port: enough of it to test and to demonstrate.

use bytes::{Bytes, BytesMut};
use scsi_core::{Lun, TaskAttribute, TaskManagementFunction};
use smallvec::{SmallVec, smallvec};
use std::collections::{HashMap, VecDeque};
use std::time::Instant;
use stmf::provider::hba::{
    ExchangeId, Hba, HbaControl, HbaEvent, HbaRequest, Link, LinkService, PortId, RemotePort, Topology, Wwn,
};
use stmf::provider::{PortError, Segments};

use crate::engine::{Engine, EngineConfig, InitiatorEvent};
use crate::wire::{
    CtCommand, CtHeader, Els, ElsCommand, FcpCommand, FcpManagement, FcpResponse, FcpService, LoginParameters,
    LsReason, PrliPage, RoutingControl, flat, length,
};

/// What an initiator sends.
#[derive(Clone, Debug, Default)]
pub struct Command {
    /// The logical unit.
    pub lun: Lun,
    /// The CDB.
    pub cdb: Vec<u8>,
    /// Its place in the task set.
    pub attribute: TaskAttribute,
    /// What to write.
    pub data_out: Bytes,
    /// Bytes there is room for.
    pub data_in_length: u32,
}

/// What became of a command.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The response; `None`: the exchange ended without one.
    pub response: Option<FcpResponse>,
    /// What was read.
    pub data: Bytes,
    /// Whether all of that has come: a frame that was overtaken by the response leaves zeros.
    pub whole: bool,
    /// Bytes of what is to be written that the target has asked for, in order.
    pub sent: usize,
}

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The port has an address; on a fabric it is registered.
    Up(PortId),
    /// The link is down.
    Down,
    /// A target is logged in to: commands can be sent.
    LoggedIn(PortId),
    /// A login did not succeed, for this reason of LS_RJT where there is one.
    Refused(PortId, Option<LsReason>),
    /// A target ended the login.
    LoggedOut(PortId),
    /// A command, or a task management function, is over.
    Done(ExchangeId, Outcome),
    /// The answer to a link service that was sent by [`Initiator::request`].
    Answered(ExchangeId, Option<Vec<u8>>),
    /// Targets that the name server knows: the answer to [`Initiator::discover`].
    Found(Vec<PortId>),
    /// The fabric tells that something about these ports is another; they may have forgotten the login.
    Changed(Vec<PortId>),
    /// Among equals (VN2VN): another port has claimed its address.
    NeighbourUp(PortId),
    /// Among equals: another port is gone, and the login with it.
    NeighbourDown(PortId),
}

#[derive(Debug)]
struct Running {
    data_out: Bytes,
    data_in: BytesMut,
    /// The end of what has come, and how much has.
    got: usize,
    count: usize,
    /// The end of what the target has asked for, without a gap.
    sent: usize,
    /// How often it has asked.
    asked_for: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Flogi,
    Directory,
    Step,
    Find,
    Name(PortId),
    Plogi(PortId),
    Prli(PortId),
    User,
}

/// A port that logs in to targets and sends commands, over an adapter that moves frames.
#[derive(Debug)]
pub struct Initiator {
    hba: Box<dyn Hba>,
    engine: Engine,
    config: EngineConfig,
    symbolic_name: String,
    parameters: FcpService,
    address: PortId,
    link: Option<Link>,
    failure: Option<String>,
    names: HashMap<PortId, String>,
    fabric: bool,
    awaiting: bool,
    steps: u8,
    held: Option<HbaRequest>,
    asked: HashMap<ExchangeId, Asked>,
    remotes: HashMap<PortId, RemotePort>,
    running: HashMap<ExchangeId, Running>,
    events: VecDeque<Event>,
    next_request: u64,
}

impl Initiator {
    /// A port that is switched on. On a fabric the name server is told `symbolic_name`.
    pub fn new(now: Instant, mut hba: Box<dyn Hba>, symbolic_name: &str) -> Self {
        // An adapter that does not come up has no link.
        let _ = hba.control(now, HbaControl::Online);
        let config = EngineConfig { max_frame_payload: hba.limits().max_frame_payload, ..EngineConfig::default() };
        Self {
            hba,
            engine: Engine::new(config.clone()),
            config,
            symbolic_name: symbolic_name.into(),
            parameters: FcpService::INITIATOR.and(FcpService::READ_XFER_RDY_DISABLED),
            address: PortId::NONE,
            link: None,
            failure: None,
            names: HashMap::new(),
            fabric: false,
            awaiting: false,
            steps: 0,
            held: None,
            asked: HashMap::new(),
            remotes: HashMap::new(),
            running: HashMap::new(),
            events: VecDeque::new(),
            next_request: 1,
        }
    }

    /// What PRLI offers beyond being an initiator: confirmation, retries.
    pub fn offer(&mut self, parameters: FcpService) {
        self.parameters = self.parameters.and(parameters);
    }

    /// Its address.
    pub fn address(&self) -> PortId {
        self.address
    }

    /// The adapter.
    pub fn hba(&self) -> &dyn Hba {
        &*self.hba
    }

    /// The port name of a target that is logged in to.
    pub fn port_name_of(&self, id: PortId) -> Option<Wwn> {
        self.remotes.get(&id).map(|remote| remote.port_name)
    }

    /// A port that is logged in to; its service parameters are those that it answered PRLI with.
    pub fn remote(&self, id: PortId) -> Option<&RemotePort> {
        self.remotes.get(&id)
    }

    /// What the name server says that a port calls itself, once it is logged in to.
    pub fn symbolic_name_of(&self, id: PortId) -> Option<&str> {
        self.names.get(&id).map(String::as_str)
    }

    /// The link; `None` while it is down.
    pub fn link(&self) -> Option<Link> {
        self.link
    }

    /// Whether there is a fabric.
    pub fn is_on_fabric(&self) -> bool {
        self.fabric
    }

    /// Initialises the link anew.
    ///
    /// # Errors
    /// What the driver says.
    pub fn reset_link(&mut self, now: Instant) -> Result<(), PortError> {
        self.hba.control(now, HbaControl::ResetLink)
    }

    /// Forgets a login without a word: the port is gone, or will be logged in to anew.
    pub fn forget(&mut self, now: Instant, id: PortId) {
        self.names.remove(&id);
        if self.remotes.remove(&id).is_some() {
            self.engine.handle_request(now, HbaRequest::Deregister(id));
        }
    }

    /// Moves everything that can be moved; `true` when there was anything.
    pub fn drive(&mut self, now: Instant) -> bool {
        if self.failure.is_some() {
            return false;
        }
        self.engine.handle_timeout(now);
        let mut progress = false;
        while let Some(event) = self.hba.poll_event(now) {
            progress = true;
            match event {
                HbaEvent::LinkUp(link) => {
                    self.reset();
                    self.link = Some(link);
                    match link.topology {
                        Topology::PrivateLoop | Topology::Vn2Vn => self.come_up(now, link.port_id),
                        _ => self.say_flogi(now),
                    }
                }
                HbaEvent::LinkDown => {
                    self.reset();
                    self.events.push_back(Event::Down);
                }
                HbaEvent::Failed(reason) => {
                    self.reset();
                    self.events.push_back(Event::Down);
                    self.failure = Some(reason);
                    return false;
                }
                HbaEvent::Frame(frame) => self.engine.handle_frame(now, frame),
                HbaEvent::NeighbourUp { port_id, .. } => self.events.push_back(Event::NeighbourUp(port_id)),
                HbaEvent::NeighbourDown(id) => {
                    self.forget(now, id);
                    self.events.push_back(Event::NeighbourDown(id));
                }
                _ => {}
            }
            self.drain(now);
        }
        self.drain(now);
        loop {
            let next = self.held.take().or_else(|| self.engine.poll_frame().map(HbaRequest::Frame));
            let Some(request) = next else { return progress };
            if let Err(request) = self.hba.submit(now, request) {
                self.held = Some(request);
                return progress;
            }
            progress = true;
        }
    }

    /// Why the adapter is of no use any more, once it has said so.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The next deadline.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.engine.poll_timeout(), self.hba.poll_timeout()].into_iter().flatten().min()
    }

    /// Logs in to a port: PLOGI and PRLI. [`Event::LoggedIn`] or [`Event::Refused`] follows.
    pub fn log_in(&mut self, now: Instant, id: PortId) {
        let payload = Els::Plogi(self.login()).encode();
        self.ask(now, Asked::Plogi(id), self.address, id, LinkService::Els, payload);
    }

    /// Asks the name server for FCP ports. [`Event::Found`] follows.
    pub fn discover(&mut self, now: Instant) {
        let payload = CtHeader::find_fcp();
        self.ask(now, Asked::Find, self.address, PortId::DIRECTORY, LinkService::Ct, payload);
    }

    /// Sends a link service. [`Event::Answered`] follows.
    pub fn request(&mut self, now: Instant, to: PortId, els: &Els) -> ExchangeId {
        self.ask(now, Asked::User, self.address, to, LinkService::Els, els.encode())
    }

    /// Sends a command. [`Event::Done`] follows.
    pub fn submit(&mut self, now: Instant, to: PortId, command: Command) -> ExchangeId {
        let (write, read) = (!command.data_out.is_empty(), command.data_in_length > 0);
        let unit = FcpCommand {
            lun: command.lun,
            reference: 0,
            priority: 0,
            attribute: command.attribute,
            management: None,
            cdb: SmallVec::from_slice(&command.cdb),
            write,
            read,
            data_length: if write { command.data_out.len() as u32 } else { command.data_in_length },
            bidirectional_read_length: if write { command.data_in_length } else { 0 },
        };
        let room = command.data_in_length as usize;
        self.start(now, to, &unit, command.data_out, room)
    }

    /// Sends a task management function that FCP_CMND can carry; others do nothing. [`Event::Done`] follows.
    pub fn manage(
        &mut self,
        now: Instant,
        to: PortId,
        lun: Lun,
        function: TaskManagementFunction,
    ) -> Option<ExchangeId> {
        let unit = FcpCommand {
            lun,
            reference: 0,
            priority: 0,
            attribute: TaskAttribute::Simple,
            management: Some(FcpManagement::of(function)?),
            cdb: smallvec![0; 16],
            write: false,
            read: false,
            data_length: 0,
            bidirectional_read_length: 0,
        };
        Some(self.start(now, to, &unit, Bytes::new(), 0))
    }

    /// Aborts a command: ABTS. [`Event::Done`] without a response follows.
    pub fn abort(&mut self, now: Instant, exchange: ExchangeId) {
        self.engine.handle_request(now, HbaRequest::Abort(exchange));
    }

    /// The names of a command on the wire, for REC and SRR.
    pub fn wire_names(&self, exchange: ExchangeId) -> Option<(u16, u16)> {
        self.engine.wire_names(exchange)
    }

    /// How often the target has asked for data of a command that is under way.
    pub fn transfers_asked_for(&self, exchange: ExchangeId) -> Option<u32> {
        self.running.get(&exchange).map(|running| running.asked_for)
    }

    /// Asks for a lost information unit again: SRR, from `offset` on, 0 for data of a read. [`Event::Answered`] says
    /// whether the target agrees; then the unit follows. `None`: the command is over.
    pub fn ask_again(
        &mut self,
        now: Instant,
        to: PortId,
        exchange: ExchangeId,
        offset: u32,
        unit: RoutingControl,
    ) -> Option<ExchangeId> {
        let (ox_id, rx_id) = self.engine.wire_names(exchange)?;
        let running = self.running.get_mut(&exchange)?;
        if unit == RoutingControl::DATA {
            (running.got, running.count) = (0, 0);
        }
        let request = self.next(Asked::User);
        let payload = Els::Srr { ox_id, rx_id, offset, r_ctl: unit.0 }.encode();
        self.engine.send_srr(now, request, self.address, to, payload);
        Some(request)
    }

    fn start(&mut self, now: Instant, to: PortId, unit: &FcpCommand, data_out: Bytes, room: usize) -> ExchangeId {
        let exchange = self.engine.command(now, to, Bytes::from(unit.encode()));
        let data_in = BytesMut::zeroed(room);
        self.running.insert(exchange, Running { data_out, data_in, got: 0, count: 0, sent: 0, asked_for: 0 });
        exchange
    }

    fn drain(&mut self, now: Instant) {
        while let Some(event) = self.engine.poll_event() {
            match event {
                HbaEvent::Reply { exchange, to, payload } => self.answered(now, exchange, to, payload),
                HbaEvent::Service { exchange, from, to, payload, .. } => {
                    self.serve(now, exchange, from, to, &flat(&payload, 256));
                }
                HbaEvent::Command { exchange, .. } => {
                    self.engine.handle_request(now, HbaRequest::Terminate(exchange));
                }
                HbaEvent::AbortReceived(exchange) => {
                    self.engine.handle_request(now, HbaRequest::AbortDone(exchange));
                }
                _ => {}
            }
        }
        while let Some(event) = self.engine.poll_initiator_event() {
            self.command_event(now, event);
        }
    }

    fn command_event(&mut self, now: Instant, event: InitiatorEvent) {
        match event {
            InitiatorEvent::TransferReady(exchange, ready) => {
                let Some(running) = self.running.get_mut(&exchange) else { return };
                running.asked_for += 1;
                let start = (ready.offset as usize).min(running.data_out.len());
                let end = start.saturating_add(ready.length as usize).min(running.data_out.len());
                let data: Segments = smallvec![running.data_out.slice(start..end)];
                let offset = ready.offset;
                if start <= running.sent {
                    running.sent = running.sent.max(end);
                }
                self.engine.handle_request(now, HbaRequest::SendData { exchange, offset, data });
            }
            InitiatorEvent::Data { exchange, offset, data } => {
                let Some(running) = self.running.get_mut(&exchange) else { return };
                let mut at = offset as usize;
                for piece in &data {
                    let Some(room) = running.data_in.get_mut(at..at + piece.len()) else { return };
                    room.copy_from_slice(piece);
                    at += piece.len();
                    running.count += piece.len();
                }
                running.got = running.got.max(at);
            }
            InitiatorEvent::Response(exchange, payload) => {
                let response = FcpResponse::decode(&flat(&payload, length(&payload))).ok();
                self.finish(exchange, response);
            }
            InitiatorEvent::Gone(exchange) => self.finish(exchange, None),
        }
    }

    fn finish(&mut self, exchange: ExchangeId, response: Option<FcpResponse>) {
        let Some(mut running) = self.running.remove(&exchange) else { return };
        running.data_in.truncate(running.got);
        let whole = running.count >= running.got;
        let (data, sent) = (running.data_in.freeze(), running.sent);
        self.events.push_back(Event::Done(exchange, Outcome { response, data, whole, sent }));
    }

    fn serve(&mut self, now: Instant, exchange: ExchangeId, from: PortId, to: PortId, payload: &[u8]) {
        let mut came_up = None;
        let answer = match Els::decode(payload) {
            Ok(Els::Flogi(other)) => {
                if self.address == PortId::NONE {
                    came_up = self.meet(other.port_name);
                }
                self.login().encode(ElsCommand::LS_ACC.0)
            }
            Ok(Els::Plogi(_)) => {
                if self.awaiting {
                    came_up = Some(to);
                }
                self.login().encode(ElsCommand::LS_ACC.0)
            }
            Ok(Els::Logo { .. }) => {
                if self.remotes.remove(&from).is_some() {
                    self.engine.handle_request(now, HbaRequest::Deregister(from));
                    self.events.push_back(Event::LoggedOut(from));
                }
                Els::accept()
            }
            Ok(Els::Rscn(pages)) => {
                self.events.push_back(Event::Changed(pages.iter().map(|(_, id)| *id).collect()));
                Els::accept()
            }
            Ok(Els::Adisc { .. }) => {
                let (port_name, node_name) = (self.hba.port_name(), self.hba.node_name());
                Els::Adisc { port_name, node_name, port_id: self.address }.encode_adisc(ElsCommand::LS_ACC)
            }
            Ok(Els::Rls) => Els::link_errors(&self.hba.statistics()),
            _ => Els::accept(),
        };
        let payload = smallvec![Bytes::from(answer)];
        self.engine.handle_request(now, HbaRequest::Reply { exchange, payload });
        if let Some(address) = came_up {
            self.come_up(now, address);
        }
    }

    /// Of two ports the one with the higher name has address 1 and logs in; the other waits for its address.
    fn meet(&mut self, other: Wwn) -> Option<PortId> {
        self.awaiting = self.hba.port_name() < other;
        (!self.awaiting).then_some(PortId(1))
    }

    fn come_up(&mut self, now: Instant, address: PortId) {
        self.awaiting = false;
        self.address = address;
        self.engine.handle_request(now, HbaRequest::Address(address));
        if !self.fabric {
            self.events.push_back(Event::Up(address));
        }
    }

    fn answered(&mut self, now: Instant, exchange: ExchangeId, to: PortId, payload: Option<Segments>) {
        let Some(asked) = self.asked.remove(&exchange) else { return };
        let payload = payload.map(|payload| flat(&payload, 4096));
        let accepted = payload.as_deref().filter(|payload| payload.first() == Some(&ElsCommand::LS_ACC.0));
        let reason = match payload.as_deref().map(Els::decode) {
            Some(Ok(Els::Reject { reason, .. })) => Some(reason),
            _ => None,
        };
        match asked {
            Asked::Flogi => match accepted.map(LoginParameters::decode) {
                Some(Ok(fabric)) if fabric.f_port => {
                    self.fabric = true;
                    self.come_up(now, to);
                    let payload = Els::Plogi(self.login()).encode();
                    self.ask(now, Asked::Directory, to, PortId::DIRECTORY, LinkService::Els, payload);
                }
                Some(Ok(other)) if self.address == PortId::NONE && !self.awaiting => {
                    if let Some(address) = self.meet(other.port_name) {
                        self.come_up(now, address);
                    }
                }
                // It is lost, or its answer is. Who refuses it is not asked again.
                _ if payload.is_none() && self.address == PortId::NONE && !self.awaiting => self.say_flogi(now),
                _ => {}
            },
            Asked::Directory | Asked::Step => self.step(now),
            Asked::Find => {
                let ids = payload.as_deref().map(|payload| CtHeader::port_ids(payload, 1024)).unwrap_or_default();
                let others = ids.into_iter().filter(|&id| id != self.address).collect();
                self.events.push_back(Event::Found(others));
            }
            Asked::Name(id) => {
                if let Some(name) = payload.as_deref().and_then(CtHeader::symbolic_name) {
                    self.names.insert(id, name);
                }
            }
            Asked::Plogi(id) => match accepted.map(LoginParameters::decode) {
                Some(Ok(parameters)) => {
                    let remote = RemotePort {
                        port_id: id,
                        port_name: parameters.port_name,
                        node_name: parameters.node_name,
                        max_frame_payload: parameters.max_frame_payload,
                        service_parameters: 0,
                    };
                    self.engine.handle_request(now, HbaRequest::Register(remote));
                    self.remotes.insert(id, remote);
                    let flags = PrliPage::IMAGE_PAIR;
                    let page = PrliPage { kind: 0x08, flags, words: [0; 2], parameters: self.parameters.0 };
                    let payload = Els::Prli(page).encode();
                    self.ask(now, Asked::Prli(id), self.address, id, LinkService::Els, payload);
                }
                _ => self.events.push_back(Event::Refused(id, reason)),
            },
            Asked::Prli(id) => match accepted.map(PrliPage::decode) {
                Some(Ok(page)) if page.flags & PrliPage::IMAGE_PAIR != 0 => {
                    if let Some(remote) = self.remotes.get_mut(&id) {
                        remote.service_parameters = page.parameters;
                    }
                    self.events.push_back(Event::LoggedIn(id));
                    if self.fabric {
                        let payload = CtHeader::about(CtCommand::GSPN_ID, id);
                        self.ask(now, Asked::Name(id), self.address, PortId::DIRECTORY, LinkService::Ct, payload);
                    }
                }
                _ => self.events.push_back(Event::Refused(id, reason)),
            },
            Asked::User => self.events.push_back(Event::Answered(exchange, payload)),
        }
    }

    /// The next word for the name server.
    fn step(&mut self, now: Instant) {
        let (id, from) = (self.address, self.address);
        self.steps += 1;
        let payload = match self.steps {
            1 => CtHeader::register_fcp(id),
            2 => CtHeader::register_symbolic_port(id, &self.symbolic_name),
            3 => {
                let (controller, payload) = (PortId::FABRIC_CONTROLLER, Els::Scr { function: 3 }.encode());
                self.ask(now, Asked::Step, from, controller, LinkService::Els, payload);
                return;
            }
            4 => return self.events.push_back(Event::Up(id)),
            _ => return,
        };
        self.ask(now, Asked::Step, from, PortId::DIRECTORY, LinkService::Ct, payload);
    }

    fn say_flogi(&mut self, now: Instant) {
        let payload = Els::Flogi(self.login()).encode();
        self.ask(now, Asked::Flogi, PortId::NONE, PortId::FABRIC, LinkService::Els, payload);
    }

    fn login(&self) -> LoginParameters {
        LoginParameters {
            port_name: self.hba.port_name(),
            node_name: self.hba.node_name(),
            f_port: false,
            credit: 64,
            max_frame_payload: self.config.max_frame_payload,
            class3: true,
            e_d_tov_ms: 2000,
            r_a_tov_ms: 0,
        }
    }

    fn ask(
        &mut self,
        now: Instant,
        asked: Asked,
        from: PortId,
        to: PortId,
        service: LinkService,
        payload: Vec<u8>,
    ) -> ExchangeId {
        let exchange = self.next(asked);
        let payload = smallvec![Bytes::from(payload)];
        self.engine.handle_request(now, HbaRequest::Request { exchange, service, from, to, payload });
        exchange
    }

    /// A name for an exchange of ours.
    fn next(&mut self, asked: Asked) -> ExchangeId {
        let exchange = ExchangeId(ExchangeId::LOCAL | self.next_request);
        self.next_request += 1;
        self.asked.insert(exchange, asked);
        exchange
    }

    fn reset(&mut self) {
        self.engine.handle_link_down();
        while self.engine.poll_event().is_some() {}
        while let Some(event) = self.engine.poll_initiator_event() {
            if let InitiatorEvent::Gone(exchange) = event {
                self.finish(exchange, None);
            }
        }
        self.asked.clear();
        self.remotes.clear();
        self.names.clear();
        self.link = None;
        self.address = PortId::NONE;
        (self.fabric, self.awaiting, self.steps, self.held) = (false, false, 0, None);
    }
}

//! A target port: logins, and commands on their way to logical units.

mod bursts;
mod fabric;
mod info;
mod link_service;
mod login;
mod tasks;
mod traffic;

pub use info::{PortEvent, PortInfo, PortState, PortType, RemoteInfo};

use bytes::Bytes;
use scsi_core::ProtocolId;
use smallvec::smallvec;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use stmf::provider::hba::{
    ExchangeId, Hba, HbaControl, HbaEvent, HbaLevel, HbaRequest, Link, LinkService, LinkStatistics, PortId, RemotePort,
};
use stmf::provider::{LogicalUnit, PortError, Segments, StoreCompletion, StoreDone, StoreRequest, TargetPort};
use stmf::traffic::{Counters, Registry, Units};
use stmf::{NexusId, Stmf, StmfError, TargetInfo, TaskTag, Termination};

use crate::engine::{Engine, EngineConfig, EngineStatistics};
use crate::inbox::{Inbox, Letter, Sink, Wake};
use crate::wire::Els;
use bursts::Bursts;
use fabric::Step;
use tasks::{Managing, Task, Told};

/// Limits and settings of a [`Port`].
pub struct PortConfig {
    /// Exchanges and their timers; the table's size is the smaller of this and the adapter's. Commands of one initiator
    /// are as many as it leaves free for others; more end with TASK SET FULL.
    pub engine: EngineConfig,
    /// Longest burst of data that is asked for at once, in bytes.
    pub max_burst_length: u32,
    /// Bursts that may be on their way at once, of all initiators together; one initiator has as many as it leaves free.
    pub max_bursts: usize,
    /// Bytes of reads that may wait for the link before store operations are held back.
    pub max_unsent_bytes: usize,
    /// Events that are kept for [`Port::poll_event`]; the oldest are dropped.
    pub max_events: usize,
    /// What the name server is told that the port is.
    pub symbolic_port_name: String,
    /// What the name server is told that the node is.
    pub symbolic_node_name: String,
    /// Unix time in seconds at the moment of the call, for "logged in since".
    pub unix_time: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Where traffic is counted: of this port alone, unless others are given the same. It outlives the port.
    pub traffic: Arc<Registry>,
}

impl Default for PortConfig {
    fn default() -> Self {
        Self {
            engine: EngineConfig::default(),
            max_burst_length: 256 << 10,
            max_bursts: 64,
            max_unsent_bytes: 8 << 20,
            max_events: 256,
            symbolic_port_name: "Lunette".into(),
            symbolic_node_name: "Lunette".into(),
            unix_time: Box::new(|| 0),
            traffic: Arc::default(),
        }
    }
}

/// A store operation to carry out: [`LogicalUnit::try_perform`] or [`perform`](LogicalUnit::perform), or
/// [`start`](LogicalUnit::start) with [`Port::completion`].
#[derive(Debug)]
pub struct StoreJob {
    /// The unit.
    pub lu: Arc<dyn LogicalUnit>,
    /// What to do.
    pub request: StoreRequest,
}

/// How long to wait before another FLOGI.
const FLOGI_RETRY: Duration = Duration::from_secs(2);
/// Events of the adapter that are taken at a time.
const EVENTS_AT_A_TIME: usize = 1024;
/// Link services of ours that may be unanswered; further ones are not sent.
const MAX_REQUESTS: usize = 1024;
/// LOGO and PRLO to strangers that may be unanswered.
const MAX_STRANGERS: usize = 16;

/// The switch by which the framework turns the port on and off.
struct Switch {
    online: AtomicBool,
    inbox: Arc<Inbox>,
}

impl std::fmt::Debug for Switch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Switch").field(&self.online).finish()
    }
}

impl TargetPort for Switch {
    fn bring_online(&self) -> Result<(), PortError> {
        self.online.store(true, Ordering::Release);
        stmf::provider::Mailbox::wake(&*self.inbox);
        Ok(())
    }

    fn take_offline(&self) {
        self.online.store(false, Ordering::Release);
        stmf::provider::Mailbox::wake(&*self.inbox);
    }
}

/// A remote port that has logged in.
#[derive(Debug)]
struct Remote {
    port: RemotePort,
    session: Option<Arc<stmf::Session>>,
    confirm: bool,
    symbolic_name: Option<String>,
    /// Its commands that have not ended.
    tasks: usize,
    /// What it last said of its link's errors.
    link_errors: Option<LinkStatistics>,
    /// The name server is asked for its symbolic name.
    asking: Option<ExchangeId>,
    /// A PRLI that waits for that.
    waiting: Option<(ExchangeId, crate::wire::PrliPage)>,
}

impl Remote {
    fn new(port: RemotePort, confirm: bool) -> Self {
        let (session, symbolic_name, link_errors) = (None, None, None);
        Self { port, session, confirm, symbolic_name, tasks: 0, link_errors, asking: None, waiting: None }
    }
}

/// What a link service of ours was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Flogi,
    /// PLOGI to the other port of two.
    Plogi(PortId),
    /// PLOGI to the directory server.
    Directory,
    /// A step of the registration.
    Step,
    Symbolic(PortId),
    /// Whether the name server still knows a port, then whether that is there.
    Registered(PortId),
    Verify(PortId),
    /// The counters of its link.
    LinkErrors(PortId),
    /// LOGO, PRLO: whatever the answer.
    Farewell,
    Stranger,
}

/// Where the link is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Down,
    /// FLOGI is sent, or will be again at this time.
    FabricLogin(Option<Instant>),
    /// Two N_Ports: the other one gives the addresses.
    AwaitingLogin,
    Up,
}

/// A target port over an [`Hba`], sans-IO. It is a target of the framework from its making to its end.
///
/// ```text
///   drive(now)             whenever woken, at the deadline, and after any other call
///   poll_store ->          carry out, handle_store_done now or later
///   poll_event             for the log
///   poll_timeout           the next deadline
/// ```
pub struct Port {
    stmf: Arc<Stmf>,
    hba: Box<dyn Hba>,
    /// Absent where the adapter does exchanges itself.
    engine: Option<Engine>,
    config: PortConfig,
    target: String,
    max_logins: usize,
    max_exchanges: usize,
    switch: Arc<Switch>,
    inbox: Arc<Inbox>,
    switched: bool,
    link: Option<Link>,
    /// Why the adapter is of no use any more.
    failure: Option<String>,
    stage: Stage,
    fabric: bool,
    address: PortId,
    /// What the adapter had no room for.
    held: Option<HbaRequest>,
    requests: VecDeque<HbaRequest>,
    remotes: HashMap<PortId, Remote>,
    nexuses: HashMap<NexusId, PortId>,
    asked: HashMap<ExchangeId, Asked>,
    steps: VecDeque<Step>,
    tasks: HashMap<TaskTag, Task>,
    managing: HashMap<TaskTag, Managing>,
    told: VecDeque<Told>,
    bursts: Bursts,
    stores: VecDeque<StoreJob>,
    events: VecDeque<PortEvent>,
    traffic: Arc<Registry>,
    session_counters: HashMap<NexusId, Arc<Counters>>,
    unit_counters: Units,
    next_request: u64,
}

impl Port {
    /// Registers the adapter's port as a target, `wwn.` and its port name, of the provider that its driver is named
    /// after. It goes online as the framework's settings say. `wake` is called when other threads have something for it.
    ///
    /// # Errors
    /// [`StmfError::TargetExists`].
    pub fn new(stmf: &Arc<Stmf>, hba: Box<dyn Hba>, mut config: PortConfig, wake: Wake) -> Result<Self, StmfError> {
        let (details, limits, offload) = (hba.details(), hba.limits(), hba.offload());
        config.engine.max_exchanges = config.engine.max_exchanges.min(limits.max_exchanges);
        config.engine.max_frame_payload = config.engine.max_frame_payload.min(limits.max_frame_payload);
        config.max_burst_length = config.max_burst_length.clamp(512, offload.max_transfer_length.max(512));
        let bursts = Bursts::new(config.max_bursts);
        let inbox = Inbox::new(wake);
        let switch = Arc::new(Switch { online: AtomicBool::new(false), inbox: Arc::clone(&inbox) });
        let target = hba.port_name().device_name();
        let info = TargetInfo {
            name: target.clone(),
            protocol: ProtocolId::FIBRE_CHANNEL,
            alias: Some(format!("{}{},0", details.driver_name, details.instance)),
            provider: details.driver_name,
        };
        stmf.register_target(info, Arc::clone(&switch) as Arc<dyn TargetPort>)?;
        Ok(Self {
            stmf: Arc::clone(stmf),
            engine: (offload.level == HbaLevel::Frames).then(|| Engine::new(config.engine.clone())),
            max_logins: limits.max_logins,
            max_exchanges: config.engine.max_exchanges,
            hba,
            traffic: Arc::clone(&config.traffic),
            config,
            target,
            switch,
            inbox,
            switched: false,
            link: None,
            failure: None,
            stage: Stage::Down,
            fabric: false,
            address: PortId::NONE,
            held: None,
            requests: VecDeque::new(),
            remotes: HashMap::new(),
            nexuses: HashMap::new(),
            asked: HashMap::new(),
            steps: VecDeque::new(),
            tasks: HashMap::new(),
            managing: HashMap::new(),
            told: VecDeque::new(),
            bursts,
            stores: VecDeque::new(),
            events: VecDeque::new(),
            session_counters: HashMap::new(),
            unit_counters: Units::default(),
            next_request: 1,
        })
    }

    /// The target's name.
    pub fn name(&self) -> &str {
        &self.target
    }

    /// Takes what the adapter and other threads have, looks at deadlines, and gives the adapter what there is for it.
    /// `true`: the adapter has more than is taken at a time; drive it again when other work has had its turn.
    pub fn drive(&mut self, now: Instant) -> bool {
        self.follow_switch(now);
        self.take_mail(now);
        self.end_terminated(now);
        self.take_deadlines(now);
        let mut left = EVENTS_AT_A_TIME;
        loop {
            let mut progress = false;
            while left > 0
                && self.failure.is_none()
                && let Some(event) = self.hba.poll_event(now)
            {
                left -= 1;
                progress = true;
                self.take_from_adapter(now, event);
                self.take_from_engine(now);
            }
            self.take_from_engine(now);
            self.start_bursts(now);
            progress |= self.give_to_adapter(now);
            if !progress || left == 0 {
                return left == 0;
            }
        }
    }

    /// The next store operation to carry out; none while too much waits for the link.
    pub fn poll_store(&mut self) -> Option<StoreJob> {
        let unsent = self.engine.as_ref().map_or(0, Engine::queued_bytes);
        if unsent >= self.config.max_unsent_bytes || self.requests.len() >= self.max_exchanges {
            return None;
        }
        let mut job = self.stores.pop_front()?;
        if self.engine.is_none() {
            self.lend_room(&mut job.request);
        }
        Some(job)
    }

    /// The duty to report the outcome of a job that is started and not waited for; the outcome comes by mail.
    pub fn completion(&self, lu: &Arc<dyn LogicalUnit>, request: &StoreRequest) -> StoreCompletion {
        let sink = Sink { inbox: Arc::clone(&self.inbox), lu: Arc::clone(lu), stmf: Arc::clone(&self.stmf) };
        StoreCompletion::new(Arc::new(sink), request)
    }

    /// Takes the outcome of a store operation; [`drive`](Self::drive) the port afterwards.
    pub fn handle_store_done(&mut self, now: Instant, lu: &Arc<dyn LogicalUnit>, done: StoreDone) {
        let mut effects = Vec::new();
        lu.store_done(done, &mut effects);
        self.take_effects(now, Some(lu), effects);
    }

    /// When to [`drive`](Self::drive) without being woken.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let retry = match self.stage {
            Stage::FabricLogin(retry) => retry,
            _ => None,
        };
        let engine = self.engine.as_ref().and_then(Engine::poll_timeout);
        [retry, engine, self.hba.poll_timeout()].into_iter().flatten().min()
    }

    /// Why the adapter is of no use any more, once it has said so: drop the port, and open the adapter anew.
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref()
    }

    /// The next event for the log.
    pub fn poll_event(&mut self) -> Option<PortEvent> {
        self.events.pop_front()
    }

    /// Initialises the link anew (`fcadm force-lip`).
    ///
    /// # Errors
    /// What the driver says.
    pub fn reset_link(&mut self, now: Instant) -> Result<(), PortError> {
        self.hba.control(now, HbaControl::ResetLink)
    }

    /// Asks each port that is logged in for the errors of its link (RLS); what it says stands in
    /// [`RemoteInfo::link_errors`] once [`awaits_link_errors`](Self::awaits_link_errors) says no more. [`drive`](Self::drive)
    /// the port afterwards.
    pub fn ask_link_errors(&mut self, now: Instant) {
        let asked = |id: &PortId| self.asked.values().any(|asked| *asked == Asked::LinkErrors(*id));
        let mut ids: Vec<PortId> = self.remotes.keys().copied().filter(|id| !asked(id)).collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(remote) = self.remotes.get_mut(&id) {
                remote.link_errors = None;
            }
            self.ask(now, Asked::LinkErrors(id), self.address, id, LinkService::Els, Els::Rls.encode());
        }
    }

    /// Whether a port has not answered that it was asked for the errors of its link. One that never does is given up when
    /// the engine or the adapter gives the exchange up.
    pub fn awaits_link_errors(&self) -> bool {
        self.asked.values().any(|asked| matches!(asked, Asked::LinkErrors(id) if self.remotes.contains_key(id)))
    }

    /// Commands that have not ended.
    pub fn outstanding(&self) -> usize {
        self.tasks.len()
    }

    /// What the engine dropped or refused; nothing where the adapter does exchanges itself.
    pub fn engine_statistics(&self) -> EngineStatistics {
        self.engine.as_ref().map(Engine::statistics).unwrap_or_default()
    }

    fn follow_switch(&mut self, now: Instant) {
        let wanted = self.switch.online.load(Ordering::Acquire);
        if wanted == self.switched {
            return;
        }
        self.switched = wanted;
        let control = if wanted { HbaControl::Online } else { HbaControl::Offline };
        if let Err(error) = self.hba.control(now, control) {
            self.tell(PortEvent::Trouble(error.0));
        }
        if !wanted {
            self.link_down(now);
        }
    }

    fn take_mail(&mut self, now: Instant) {
        for letter in self.inbox.take() {
            match letter {
                Letter::Effect(lu, effect) => self.take_effects(now, Some(&lu), vec![effect]),
                Letter::Stored(lu, done) => self.handle_store_done(now, &lu, done),
            }
        }
    }

    /// Ends the sessions that the framework wants to end.
    fn end_terminated(&mut self, now: Instant) {
        let wish = |remote: &Remote| remote.session.as_ref().and_then(|session| session.termination());
        let ended = self.remotes.iter().filter_map(|(id, remote)| wish(remote).map(|how| (*id, how)));
        let ended: Vec<(PortId, Termination)> = ended.collect();
        for (id, _) in ended {
            // Logout or not, there is one way: LOGO, and the login is gone.
            self.say_logo(now, id, Asked::Farewell);
            self.log_out(now, id, "the target ended the session");
        }
    }

    fn take_deadlines(&mut self, now: Instant) {
        if let Some(engine) = &mut self.engine {
            engine.handle_timeout(now);
        }
        if let Stage::FabricLogin(Some(at)) = self.stage
            && at <= now
        {
            self.say_flogi(now);
        }
    }

    fn take_from_adapter(&mut self, now: Instant, event: HbaEvent) {
        match (event, &mut self.engine) {
            (HbaEvent::Frame(frame), Some(engine)) => engine.handle_frame(now, frame),
            (HbaEvent::LinkDown, _) => self.link_down(now),
            (HbaEvent::Failed(reason), _) => {
                self.link_down(now);
                self.tell(PortEvent::Failed(reason.clone()));
                self.failure = Some(reason);
            }
            (event, _) => self.take_event(now, event),
        }
    }

    fn take_from_engine(&mut self, now: Instant) {
        while let Some(event) = self.engine.as_mut().and_then(Engine::poll_event) {
            self.take_event(now, event);
        }
    }

    fn take_event(&mut self, now: Instant, event: HbaEvent) {
        match event {
            HbaEvent::LinkUp(link) => self.link_up(now, link),
            HbaEvent::LinkDown => self.link_down(now),
            HbaEvent::NeighbourUp { .. } => {}
            HbaEvent::NeighbourDown(id) => self.log_out(now, id, "the port is gone"),
            HbaEvent::RemotePortUp(remote) => self.logged_in_by_adapter(now, remote),
            HbaEvent::RemotePortDown(id) => self.log_out(now, id, "the port is gone"),
            HbaEvent::Service { exchange, service, from, to, payload } => {
                self.take_service(now, exchange, service, from, to, &payload);
            }
            HbaEvent::Reply { exchange, to, payload } => self.take_reply(now, exchange, to, payload.as_ref()),
            HbaEvent::Command { exchange, from, payload, .. } => self.take_command(now, exchange, from, &payload),
            HbaEvent::Data { exchange, offset, data } => self.take_data(now, exchange, offset, data),
            HbaEvent::AbortReceived(exchange) => self.take_abort(now, exchange),
            HbaEvent::Ended(exchange) => self.exchange_ended(now, exchange),
            // A frame at the level of commands is a driver's mistake.
            _ => {}
        }
    }

    /// Gives the adapter what it has room for; `true` when it took something.
    fn give_to_adapter(&mut self, now: Instant) -> bool {
        let mut progress = false;
        if self.failure.is_some() {
            self.held = None;
            self.requests.clear();
            return false;
        }
        loop {
            let next = self.held.take().or_else(|| match &mut self.engine {
                Some(engine) => engine.poll_frame().map(HbaRequest::Frame),
                None => self.requests.pop_front(),
            });
            let Some(request) = next else { return progress };
            match self.hba.submit(now, request) {
                Ok(()) => progress = true,
                Err(request) => {
                    self.held = Some(request);
                    return progress;
                }
            }
        }
    }

    /// Asks the engine, or the adapter that needs none.
    fn lower(&mut self, now: Instant, request: HbaRequest) {
        match &mut self.engine {
            Some(engine) => engine.handle_request(now, request),
            None => self.requests.push_back(request),
        }
    }

    /// Begins a link service.
    fn ask(&mut self, now: Instant, asked: Asked, from: PortId, to: PortId, service: LinkService, payload: Vec<u8>) {
        if self.asked.len() >= MAX_REQUESTS {
            return;
        }
        let exchange = ExchangeId(ExchangeId::LOCAL | self.next_request);
        self.next_request += 1;
        self.asked.insert(exchange, asked);
        let payload = smallvec![Bytes::from(payload)];
        self.lower(now, HbaRequest::Request { exchange, service, from, to, payload });
    }

    fn answer(&mut self, now: Instant, exchange: ExchangeId, payload: Vec<u8>) {
        self.lower(now, HbaRequest::Reply { exchange, payload: smallvec![Bytes::from(payload)] });
    }

    fn say_logo(&mut self, now: Instant, to: PortId, asked: Asked) {
        let logo = Els::Logo { port_id: self.address, port_name: self.hba.port_name() };
        self.ask(now, asked, self.address, to, LinkService::Els, logo.encode());
    }

    fn tell(&mut self, event: PortEvent) {
        if self.events.len() >= self.config.max_events {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let sessions: Vec<_> = self.remotes.values_mut().filter_map(|remote| remote.session.take()).collect();
        for session in sessions {
            self.traffic.close(session.id());
            session.close();
        }
        self.unit_counters.leave(&self.traffic);
        let letters = self.inbox.close();
        for StoreJob { lu, request } in self.stores.drain(..) {
            self.stmf.deliver(&lu, stmf::provider::Effect::Store(request));
        }
        for letter in letters {
            match letter {
                Letter::Effect(lu, effect) => self.stmf.deliver(&lu, effect),
                Letter::Stored(lu, done) => {
                    let mut effects = Vec::new();
                    lu.store_done(done, &mut effects);
                    self.stmf.dispatch(&lu, &mut effects, |_| false);
                }
            }
        }
        let _ = self.stmf.offline_target(&self.target, Termination::Kill);
        let _ = self.stmf.unregister_target(&self.target);
    }
}

impl std::fmt::Debug for Port {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Port")
            .field("target", &self.target)
            .field("stage", &self.stage)
            .field("address", &self.address)
            .field("remotes", &self.remotes.len())
            .field("tasks", &self.tasks.len())
            .finish_non_exhaustive()
    }
}

fn segments(bytes: Vec<u8>) -> Segments {
    smallvec![Bytes::from(bytes)]
}

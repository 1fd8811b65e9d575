//! A whole target as one value, for programs with an event loop of their own.

use std::collections::VecDeque;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use iscsi_proto::RecvHint;
use iscsi_proto::target::{ConnectionConfig, SessionConfig};
use scsi_core::ProtocolId;
use stmf::config::NewView;
use stmf::provider::{LogicalUnit, PortError, StoreCompletion, StoreRequest, TargetPort};
use stmf::{Guid, Stmf, StmfError, TargetInfo};

use crate::config::{ConfigError, TargetPatch};
use crate::discovery::DefaultPortals;
use crate::inbox::Waker;
use crate::limits::Limits;
use crate::provider::{Entropy, Provider, ProviderConfig};
use crate::worker::{ConnectionId, StoreJob, TooManyConnections, Worker, WorkerEvent};

/// Addresses at which connections may arrive, at most: each is told in discovery.
const MAX_PORTALS: usize = 256;

/// Why an [`Embedded`] target cannot be made as asked.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EmbeddedError {
    /// The target's name or properties.
    #[error(transparent)]
    Target(#[from] ConfigError),
    /// The view entry: the LUN is taken or too large.
    #[error(transparent)]
    View(#[from] stmf::ConfigError),
    /// The framework refuses.
    #[error(transparent)]
    Stmf(#[from] StmfError),
    /// The unit's name is not of NAA type 6.
    #[error("{0}")]
    Guid(String),
}

/// Where a target gets what it does not have: no system is asked for anything.
pub struct Surroundings {
    /// Random bytes, for the challenges of CHAP: unguessable ones.
    pub entropy: Box<dyn Entropy>,
    /// Unix time in seconds, for "logged in since".
    pub unix_time: Box<dyn Fn() -> u64 + Send + Sync>,
    /// Called, from any thread, when [`Embedded::handle_mail`] has something to do.
    pub waker: Arc<dyn Waker>,
}

impl fmt::Debug for Surroundings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings").finish_non_exhaustive()
    }
}

/// An iSCSI target without sockets, threads and clocks: bytes in, bytes out.
///
/// The program accepts connections, receives and sends, and calls when it has something:
///
/// ```text
///   accept / handle_received / handle_closed / handle_timeout / handle_mail
///       then, until both give nothing:
///   poll_store  -> StoreWork::run, here or on a thread that may wait (only with hand_out)
///   poll_event  -> Transmit: poll_transmit until it gives 0; Close: the same, close the socket, handle_closed
///       then
///   poll_timeout -> be back by then
/// ```
///
/// Before it receives it asks [`recv_hint`](Self::recv_hint). It stops receiving where that says 0 bytes, until
/// [`WorkerEvent::Receive`]. While it has bytes of a connection that the socket does not take it does not ask for more.
///
/// Store operations that need not wait, such as those of a memory store, are carried out inside the call; so are those
/// that may wait, unless [`hand_out`](Self::hand_out) was called. Asynchronous stores are started and answer whenever
/// they do.
///
/// The framework ([`stmf`](Self::stmf)) and the provider ([`provider`](Self::provider)) are there for everything beyond
/// one target that shows its units to everybody: groups, views, CHAP, further targets.
pub struct Embedded {
    provider: Arc<Provider>,
    worker: Worker,
    target: String,
    portals: Vec<SocketAddr>,
    is_handing_out: bool,
    work: VecDeque<StoreWork>,
}

/// A store operation that may wait for its device.
#[derive(Debug)]
#[must_use = "an operation that is dropped fails, and the initiator sees a CHECK CONDITION"]
pub struct StoreWork {
    lu: Arc<dyn LogicalUnit>,
    request: StoreRequest,
    completion: StoreCompletion,
}

impl StoreWork {
    /// Carries it out, on any thread. The outcome finds its way by itself, through the waker.
    pub fn run(self) {
        let done = self.lu.perform(self.request);
        self.completion.finish(done.outcome);
    }
}

#[derive(Debug)]
struct AlwaysOn;

impl TargetPort for AlwaysOn {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

impl Embedded {
    /// A target of this iSCSI name, without units, that lets everybody in.
    ///
    /// # Errors
    /// [`EmbeddedError::Target`] when the name is none.
    pub fn new(name: &str, surroundings: Surroundings) -> Result<Self, EmbeddedError> {
        let stmf = Stmf::new(stmf::config::Config::new(), Box::new(stmf::StoreJob::run));
        let Surroundings { entropy, unix_time, waker } = surroundings;
        let (connection, session) = (ConnectionConfig::default(), SessionConfig::default());
        let limits = Limits::default();
        let config = ProviderConfig { limits, connection, session, entropy, unix_time };
        let provider = Provider::new(Arc::clone(&stmf), config);
        let mut config = (*provider.config()).clone();
        let patch = TargetPatch { name: Some(name.to_owned()), ..TargetPatch::default() };
        let (name, change) = config.plan_create_target(&patch, [0; 16])?;
        config.commit(change);
        let name = name.to_string();
        let info =
            TargetInfo { name: name.clone(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
        stmf.register_target(info, Arc::new(AlwaysOn))?;
        provider.set_config(Arc::new(config));
        let worker = Worker::new(Arc::clone(&provider), waker);
        Ok(Self { provider, worker, target: name, portals: Vec::new(), is_handing_out: false, work: VecDeque::new() })
    }

    /// The target's name, in the form in which names are compared.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// Shows a unit to every initiator, as this LUN or the next that is free; gives the LUN.
    ///
    /// # Errors
    /// Any [`EmbeddedError`] but [`EmbeddedError::Target`]; the unit is not there then.
    pub fn add_unit(&mut self, lu: Arc<dyn LogicalUnit>, lun: Option<u16>) -> Result<u16, EmbeddedError> {
        let guid = Guid::from_bytes(lu.guid()).map_err(|error| EmbeddedError::Guid(error.to_string()))?;
        let stmf = self.provider.stmf();
        let view = NewView { lu: guid, host_group: None, target_group: None, lun: lun.map(u64::from) };
        let (change, entry) = stmf.with_config(|config| config.add_view(&view))?;
        stmf.commit(change);
        if let Err(error) = stmf.register_lu(lu, "sbd") {
            if let Ok(change) = stmf.with_config(|config| config.remove_view(guid, entry.index)) {
                stmf.commit(change);
            }
            if matches!(error, StmfError::LuFailed { .. }) {
                // It is registered, but offline.
                let _ = stmf.unregister_lu(guid);
            }
            return Err(error.into());
        }
        Ok(entry.lun)
    }

    /// From now on [`poll_store`](Self::poll_store) gives the store operations that may wait, instead of carrying them
    /// out inside the call.
    pub fn hand_out(&mut self) {
        self.is_handing_out = true;
    }

    /// The framework: who sees which unit.
    pub fn stmf(&self) -> &Arc<Stmf> {
        self.provider.stmf()
    }

    /// The provider: targets, whom they let in, how they are proved to.
    pub fn provider(&self) -> &Arc<Provider> {
        &self.provider
    }

    /// Connections now, and sessions among them.
    pub fn load(&self) -> (usize, usize) {
        (self.worker.connections(), self.worker.sessions())
    }

    /// Takes a connection from `peer` that was accepted at `local`. Discovery names every `local` there has been.
    ///
    /// # Errors
    /// [`TooManyConnections`]: close it.
    pub fn accept(
        &mut self,
        now: Instant,
        local: SocketAddr,
        peer: SocketAddr,
    ) -> Result<ConnectionId, TooManyConnections> {
        if !self.portals.contains(&local) && self.portals.len() < MAX_PORTALS {
            self.portals.push(local);
            let advertised = self.portals.clone();
            self.provider.set_default_portals(DefaultPortals { advertised, any_address: vec![] });
        }
        let id = self.worker.accept(now, local, peer)?;
        self.settle(now);
        Ok(id)
    }

    /// How much to receive next, and whether a payload begins there.
    pub fn recv_hint(&mut self, id: ConnectionId) -> RecvHint {
        self.worker.recv_hint(id)
    }

    /// Takes bytes that arrived on a connection, in order and in any pieces.
    pub fn handle_received(&mut self, now: Instant, id: ConnectionId, bytes: Bytes) {
        self.worker.handle_received(now, id, bytes);
        self.settle(now);
    }

    /// The socket is closed. The id is stale from now on.
    pub fn handle_closed(&mut self, now: Instant, id: ConnectionId) {
        self.worker.handle_closed(now, id);
        self.settle(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.worker.handle_timeout(now);
        self.settle(now);
    }

    /// Takes what other threads left; called after the waker.
    pub fn handle_mail(&mut self, now: Instant) {
        self.settle(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.worker.poll_timeout()
    }

    /// The next store operation that may wait, after [`hand_out`](Self::hand_out).
    pub fn poll_store(&mut self) -> Option<StoreWork> {
        self.work.pop_front()
    }

    /// The next wish. There is no [`WorkerEvent::HandOff`]: there is nobody to hand anything to.
    pub fn poll_event(&mut self) -> Option<WorkerEvent> {
        self.worker.poll_event()
    }

    /// Appends slices to send on a connection, in order; gives how many bytes they have, 0 when there is nothing left.
    /// All of them have to be sent before it is asked again. It may bring about events.
    pub fn poll_transmit(&mut self, now: Instant, id: ConnectionId, out: &mut Vec<Bytes>) -> usize {
        let bytes = self.worker.poll_transmit(now, id, out);
        self.settle(now);
        bytes
    }

    /// Carries out what can be carried out, until nothing more comes of it.
    fn settle(&mut self, now: Instant) {
        self.worker.handle_mail(now);
        while let Some(job) = self.worker.poll_store() {
            self.carry_out(now, job);
            self.worker.handle_mail(now);
        }
    }

    fn carry_out(&mut self, now: Instant, job: StoreJob) {
        let StoreJob { request, ticket } = job;
        let request = match ticket.lu().try_perform(request) {
            Ok(done) => return self.worker.handle_store_done(now, &ticket, done),
            Err(request) => request,
        };
        let job = StoreJob { request, ticket };
        let completion = self.worker.completion(&job);
        let lu = Arc::clone(job.ticket.lu());
        if let Err((request, completion)) = lu.start(job.request, completion) {
            let work = StoreWork { lu, request, completion };
            if self.is_handing_out { self.work.push_back(work) } else { work.run() }
        }
    }
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").field("target", &self.target).field("worker", &self.worker).finish_non_exhaustive()
    }
}

//! A whole target in memory for the fuzzer: one worker, one disk, no cable between. [`crate::san`] has all that, and is
//! too slow to be built anew for every input.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::target::{ConnectionConfig, SessionConfig};
use iscsit::config::{Change, Config as PortConfig, IscsiName, Target};
use iscsit::{
    ConnectionId, DefaultPortals, Entropy, Limits as WorkerLimits, Provider, ProviderConfig, StoreJob, Waker, Worker,
    WorkerEvent,
};
use lu_sbd::meta::{Identity, NoRecord};
use lu_sbd::store::MemoryStore;
use lu_sbd::{Limits, SbdLu};
use scsi_core::{Guid, ProtocolId};
use stmf::config::{Config, NewView};
use stmf::provider::{LogicalUnit, PortError, TargetPort};
use stmf::{Stmf, TargetInfo};

/// The name of the one target.
pub(super) const TARGET: &str = "iqn.2026-11.org.example:disk";

/// One target with one disk at LUN 0, open to all, over memory.
///
/// Deterministic: time is told, randomness is constant, and store operations wait in [`WholeTarget::jobs`] until they
/// are asked for.
pub(super) struct WholeTarget {
    /// The worker, for what the methods here do not cover.
    pub(super) worker: Worker,
    /// Store operations that were asked for and not carried out yet, the oldest first.
    pub(super) jobs: Vec<StoreJob>,
    /// What was sent on each connection since it was last looked at.
    sent: Vec<(ConnectionId, Vec<u8>)>,
    /// Connections that the target wants closed, or has.
    closed: Vec<ConnectionId>,
    now: Instant,
}

impl WholeTarget {
    /// A target whose disk has `bytes` bytes, a multiple of 512.
    ///
    /// # Panics
    /// When the parts do not fit together, which is what the caller tests.
    pub(super) fn new(bytes: u64) -> Self {
        let guid = Guid::from_bytes([0x60, 0x01, 0x44, 0xf0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]).expect("NAA 6");
        let stmf = Stmf::new(Config::new(), Box::new(stmf::StoreJob::run));
        let lu =
            SbdLu::new(identity(guid, bytes), Arc::new(MemoryStore::new(bytes)), Arc::new(NoRecord), Limits::default());
        stmf.register_lu(Arc::new(lu) as Arc<dyn LogicalUnit>, "sbd").expect("the unit is new");
        let view = NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
        let (change, _) = stmf.with_config(|config| config.add_view(&view)).expect("the view is new");
        stmf.commit(change);
        let info = TargetInfo {
            name: TARGET.to_owned(),
            protocol: ProtocolId::ISCSI,
            alias: None,
            provider: "iscsit".to_owned(),
        };
        stmf.register_target(info, Arc::new(AlwaysOn)).expect("the target is new");
        let provider = Provider::new(
            stmf,
            ProviderConfig {
                limits: WorkerLimits::default(),
                connection: ConnectionConfig::default(),
                session: SessionConfig::default(),
                entropy: Box::new(NoEntropy),
                unix_time: Box::new(|| 1_800_000_000),
            },
        );
        let mut config = PortConfig::default();
        config.commit(Change::PutTarget(Target::new(IscsiName::parse(TARGET).expect("a valid name"))));
        provider.set_config(Arc::new(config));
        provider.set_default_portals(DefaultPortals { advertised: vec![portal()], any_address: Vec::new() });
        Self {
            worker: Worker::new(provider, Arc::new(NobodyAsleep)),
            jobs: Vec::new(),
            sent: Vec::new(),
            closed: Vec::new(),
            now: Instant::now(),
        }
    }

    /// Opens a connection.
    ///
    /// # Panics
    /// When there are too many.
    pub(super) fn connect(&mut self) -> ConnectionId {
        let peer = SocketAddr::from(([127, 0, 0, 1], 50_000));
        self.worker.accept(self.now, portal(), peer).expect("room for a connection")
    }

    /// Bytes from the initiator.
    pub(super) fn receive(&mut self, connection: ConnectionId, bytes: impl Into<Bytes>) {
        self.worker.handle_received(self.now, connection, bytes.into());
        self.settle();
    }

    /// The initiator closes its end, or loses it.
    pub(super) fn close(&mut self, connection: ConnectionId) {
        self.worker.handle_closed(self.now, connection);
        self.settle();
    }

    /// Carries out one of the store operations that wait.
    pub(super) fn perform(&mut self, index: usize) {
        if index < self.jobs.len() {
            let StoreJob { request, ticket } = self.jobs.remove(index);
            let done = ticket.lu().perform(request);
            self.worker.handle_store_done(self.now, &ticket, done);
            self.settle();
        }
    }

    /// Carries out store operations until none waits.
    pub(super) fn perform_all(&mut self) {
        while !self.jobs.is_empty() {
            self.perform(0);
        }
    }

    /// Time passes; what falls due on the way is done in its turn.
    pub(super) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        // Timers that arm themselves again within `by` are bounded by this, not by a count.
        while let Some(due) = self.worker.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due) + Duration::from_millis(1);
            self.worker.handle_timeout(self.now);
            self.settle();
        }
        self.now = self.now.max(end);
    }

    /// What was sent on the connection since the last call.
    pub(super) fn take_sent(&mut self, connection: ConnectionId) -> Vec<u8> {
        let place = self.sent.iter_mut().find(|(id, _)| *id == connection);
        place.map(|(_, bytes)| std::mem::take(bytes)).unwrap_or_default()
    }

    /// Whether the target has closed the connection.
    pub(super) fn is_closed(&self, connection: ConnectionId) -> bool {
        self.closed.contains(&connection)
    }

    /// Takes all that the worker wants, until it wants nothing.
    fn settle(&mut self) {
        loop {
            self.worker.handle_mail(self.now);
            while let Some(job) = self.worker.poll_store() {
                self.jobs.push(job);
            }
            let Some(event) = self.worker.poll_event() else { return };
            match event {
                WorkerEvent::Transmit(id) => self.transmit(id),
                WorkerEvent::Close(id) => {
                    self.transmit(id);
                    self.worker.handle_closed(self.now, id);
                    self.closed.push(id);
                }
                // There is no other worker, and nobody reads the log.
                WorkerEvent::Receive(_) | WorkerEvent::HandOff { .. } | WorkerEvent::Notice(_) => {}
            }
        }
    }

    fn transmit(&mut self, id: ConnectionId) {
        let mut slices = Vec::new();
        while self.worker.poll_transmit(self.now, id, &mut slices) > 0 {}
        let bytes = slices.into_iter().flatten();
        match self.sent.iter_mut().find(|(known, _)| *known == id) {
            Some((_, sent)) => sent.extend(bytes),
            None => self.sent.push((id, bytes.collect())),
        }
    }
}

fn portal() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 3260))
}

fn identity(guid: Guid, size: u64) -> Identity {
    Identity {
        guid,
        vendor: "LUNETTE".to_owned(),
        product: "VIRTUAL DISK".to_owned(),
        revision: "0001".to_owned(),
        serial: None,
        alias: "disk".to_owned(),
        block_size: 512,
        size,
        write_protect: false,
        write_cache_disabled: false,
        management_urls: Vec::new(),
        data: None,
        removable: false,
        thick: false,
        io_limits: lu_sbd::IoLimits::default(),
        device_information: Vec::new(),
        text_information: String::new(),
        mode_pages: Vec::new(),
        reservations: Vec::new(),
        unfinished: None,
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

struct NoEntropy;

impl Entropy for NoEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0xa5);
    }
}

struct NobodyAsleep;

impl Waker for NobodyAsleep {
    fn wake(&self) {}
}

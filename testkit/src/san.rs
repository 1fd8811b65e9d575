//! A whole target in the test's own thread: workers, framework, disks, cables and clock, without a socket; with
//! [`San::add_fabric`] a Fibre Channel port beside iSCSI.
//!
//! ```
//! use testkit::initiator::{Command, Initiator, LoginOptions};
//! use testkit::link::LinkFaults;
//! use testkit::san::{San, TARGET};
//!
//! let san = San::new(1, 7);
//! let (_disk, store) = san.disk(1, 0, 1 << 20);
//! let mut host = Initiator::new(san.connect(0, LinkFaults::default()));
//! host.login(&LoginOptions::normal("iqn.2026-11.test:host", TARGET))?;
//! host.command(&Command::write_blocks(0, 3, vec![7; 512]).fua())?;   // the power-on unit attention
//! host.command(&Command::write_blocks(0, 3, vec![7; 512]).fua())?;
//! assert_eq!(store.durable_image()[3 * 512], 7);
//! # Ok::<(), testkit::initiator::InitiatorError>(())
//! ```

mod fabric;

use bytes::Bytes;
use iscsi_proto::target::{ConnectionConfig, SessionConfig};
use iscsit::config::{Config, DefaultsPatch, InitiatorPatch, TargetPatch};
use iscsit::{
    ConnectionId, DefaultPortals, Entropy, Limits, Notice, Provider, ProviderConfig, StoreJob, Waker, Worker,
    WorkerEvent,
};
use lu_sbd::SbdLu;
use lu_sbd::meta::{Identity, NoRecord};
use scsi_core::{GuidHost, ProtocolId};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use stmf::config::{Change, ConfigError, NewView};
use stmf::provider::{LogicalUnit, PortError, TargetPort};
use stmf::{Guid, Stmf, TargetInfo};

use crate::initiator::Wire;
use crate::link::{Delivery, FaultyLink, LinkFaults};
use crate::rng::Rng;
use crate::store::FaultyStore;
use crate::time::VirtualTime;
use fabric::{FibreChannel, StoreJobDone};

/// The target that every [`San`] has.
pub const TARGET: &str = "iqn.2026-11.org.lunette:02:san";

/// The one portal, of the default portal group.
pub const PORTAL: &str = "192.0.2.1:3260";

/// How long, in virtual time, an initiator waits for bytes before it gives up.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What a connection holds on its way to the initiator before the worker has to keep the rest.
const SOCKET_BYTES: u64 = 256 << 10;

/// A target and the cables to it. Clones are the same one.
#[derive(Clone)]
pub struct San(Rc<RefCell<Inner>>);

struct Inner {
    time: VirtualTime,
    rng: Rng,
    stmf: Arc<Stmf>,
    provider: Arc<Provider>,
    workers: Vec<Worker>,
    fabric: Option<FibreChannel>,
    cables: Vec<Cable>,
    notices: Vec<Notice>,
    /// Store operations that wait to be carried out, in the order in which they were asked for.
    jobs: VecDeque<Job>,
    hold_stores: bool,
    /// The worker that reads no mail.
    held_mail: Option<usize>,
    store_delay: Duration,
    store_rng: Rng,
    socket_bytes: u64,
}

/// A store operation, and when the store is done with it.
struct Job {
    due: Instant,
    from: From,
}

/// Who asked for a store operation.
enum From {
    Worker(usize, StoreJob),
    Fabric(fct::StoreJob),
}

/// A connection: two directions, and where it ends.
struct Cable {
    up: FaultyLink,
    down: FaultyLink,
    at: Option<(usize, ConnectionId)>,
}

/// The initiator's end of a cable.
pub struct SanWire {
    san: San,
    cable: usize,
}

#[derive(Debug)]
struct AlwaysOn;

impl TargetPort for AlwaysOn {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

impl Waker for AlwaysOn {
    fn wake(&self) {}
}

struct Seeded(Mutex<Rng>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill(bytes);
    }
}

/// The name of the `number`th unit.
pub fn guid(number: u16) -> Guid {
    Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, number)
}

impl San {
    /// A target with so many workers and no disk, everything at its default. The same seed does the same.
    pub fn new(workers: usize, seed: u64) -> Self {
        Self::with(workers, seed, |_| {})
    }

    /// The same with other limits and timers.
    ///
    /// # Panics
    /// When the target cannot be registered: never.
    pub fn with(workers: usize, seed: u64, change: impl FnOnce(&mut ProviderConfig)) -> Self {
        Self::with_clock(workers, seed, VirtualTime::new(), change)
    }

    /// The same at a time that another one has reached: what is started after it was switched off.
    ///
    /// # Panics
    /// As [`San::with`].
    pub fn with_clock(workers: usize, seed: u64, time: VirtualTime, change: impl FnOnce(&mut ProviderConfig)) -> Self {
        let mut rng = Rng::new(seed);
        let stmf = Stmf::new(stmf::config::Config::new(), Box::new(stmf::StoreJob::run));
        let mut config = ProviderConfig {
            limits: Limits::default(),
            connection: ConnectionConfig::default(),
            session: SessionConfig::default(),
            entropy: Box::new(Seeded(Mutex::new(rng.fork()))),
            unix_time: Box::new(|| 1_229_651_227),
        };
        change(&mut config);
        let provider = Provider::new(Arc::clone(&stmf), config);
        provider.set_default_portals(DefaultPortals { advertised: vec![portal()], any_address: vec![] });
        let workers = (0..workers).map(|_| Worker::new(Arc::clone(&provider), Arc::new(AlwaysOn))).collect();
        let san = Self(Rc::new(RefCell::new(Inner {
            time,
            store_rng: rng.fork(),
            store_delay: Duration::ZERO,
            socket_bytes: SOCKET_BYTES,
            rng,
            stmf,
            provider,
            workers,
            fabric: None,
            cables: Vec::new(),
            notices: Vec::new(),
            jobs: VecDeque::new(),
            hold_stores: false,
            held_mail: None,
        })));
        san.add_target(TARGET);
        san
    }

    /// The framework.
    pub fn stmf(&self) -> Arc<Stmf> {
        Arc::clone(&self.0.borrow().stmf)
    }

    /// Adds a target.
    ///
    /// # Panics
    /// When its name is taken or none.
    pub fn add_target(&self, name: &str) {
        let patch = TargetPatch { name: Some(name.into()), ..TargetPatch::default() };
        self.configure(|config| config.plan_create_target(&patch, [0; 16]).expect("a new target").1);
        let info =
            TargetInfo { name: name.into(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
        self.stmf().register_target(info, Arc::new(AlwaysOn)).expect("a new target");
    }

    /// Changes the configuration of the port provider.
    pub fn configure(&self, plan: impl FnOnce(&Config) -> iscsit::config::Change) {
        let provider = Arc::clone(&self.0.borrow().provider);
        let mut config = (*provider.config()).clone();
        let change = plan(&config);
        config.commit(change);
        provider.set_config(Arc::new(config));
    }

    /// Demands CHAP of every initiator and sets one initiator's secret.
    ///
    /// # Panics
    /// When the secret is too short or long.
    pub fn demand_chap(&self, initiator: &str, user: &str, secret: &[u8]) {
        let auth = iscsit::config::Patch::Set(iscsit::config::AuthMethod::Chap);
        let patch = DefaultsPatch { auth, ..DefaultsPatch::default() };
        self.configure(|config| config.plan_modify_defaults(&patch).expect("valid defaults"));
        let patch = InitiatorPatch {
            chap_user: iscsit::config::Patch::Set(user.into()),
            chap_secret: iscsit::config::Patch::Set(secret.to_vec()),
        };
        self.configure(|config| config.plan_create_initiator(initiator, &patch).expect("a new initiator"));
    }

    /// Plans and commits a change of groups and views; the sessions there are notice before the next byte moves.
    ///
    /// # Panics
    /// When the change is refused.
    pub fn change(&self, plan: impl FnOnce(&stmf::config::Config) -> Result<Change, ConfigError>) {
        let stmf = self.stmf();
        stmf.commit(stmf.with_config(plan).expect("a valid change"));
        self.settle();
    }

    /// Adds a unit, seen by everybody at `lun`.
    ///
    /// # Panics
    /// When its name or its LUN is taken.
    pub fn add_unit(&self, unit: Arc<dyn LogicalUnit>, lun: u16) {
        let lu = Guid::from_bytes(unit.guid()).expect("a NAA 6 name");
        self.stmf().register_lu(unit, "test").expect("a new unit");
        let view = NewView { lu, host_group: None, target_group: None, lun: Some(lun.into()) };
        self.change(|config| Ok(config.add_view(&view)?.0));
    }

    /// Adds the `number`th disk, of so many bytes, seen by everybody at `lun`.
    ///
    /// # Panics
    /// As [`San::add_unit`].
    pub fn disk(&self, number: u16, lun: u16, bytes: usize) -> (Arc<SbdLu>, FaultyStore) {
        let store = FaultyStore::new(bytes);
        (self.disk_on(number, lun, store.clone()), store)
    }

    /// Adds the `number`th disk on a store that is there, as after a restart.
    ///
    /// # Panics
    /// As [`San::add_unit`].
    pub fn disk_on(&self, number: u16, lun: u16, store: impl lu_sbd::BackingStore + 'static) -> Arc<SbdLu> {
        let identity = Identity {
            guid: guid(number),
            vendor: "LUNETTE".into(),
            product: "VIRTUAL DISK".into(),
            revision: "0001".into(),
            serial: None,
            alias: format!("disk{number}"),
            block_size: 512,
            size: store.capacity(),
            write_protect: false,
            write_cache_disabled: false,
            management_urls: vec![],
            data: None,
            removable: false,
            thick: false,
            io_limits: lu_sbd::IoLimits::default(),
            device_information: Vec::new(),
            text_information: String::new(),
            mode_pages: vec![],
            reservations: vec![],
            unfinished: None,
        };
        let unit = SbdLu::new(identity, Arc::new(store), Arc::new(NoRecord), lu_sbd::Limits::default());
        let unit = Arc::new(unit);
        self.add_unit(Arc::clone(&unit) as Arc<dyn LogicalUnit>, lun);
        unit
    }

    /// Plugs a cable into a worker.
    ///
    /// # Panics
    /// When there is no such worker, or it takes no more connections.
    pub fn connect(&self, worker: usize, faults: LinkFaults) -> SanWire {
        let mut inner = self.0.borrow_mut();
        let now = inner.time.now();
        let cable = inner.cables.len();
        let peer = SocketAddr::from(([192, 0, 2, 100], 40_000 + cable as u16));
        let id = inner.workers[worker].accept(now, portal(), peer).expect("room for a connection");
        let (up, down) = (inner.rng.next(), inner.rng.next());
        inner.cables.push(Cable {
            up: FaultyLink::new(faults.clone(), up),
            down: FaultyLink::new(faults, down),
            at: Some((worker, id)),
        });
        drop(inner);
        SanWire { san: self.clone(), cable }
    }

    /// Holds store operations back from now on, or carries out those held and goes on.
    pub fn hold_stores(&self, hold: bool) {
        self.0.borrow_mut().hold_stores = hold;
        self.settle();
    }

    /// Lets a worker find no mail from now on, as a thread that is at work on something else; or, with `None`, lets it
    /// read what has come and go on.
    pub fn hold_mail(&self, worker: Option<usize>) {
        self.0.borrow_mut().held_mail = worker;
        self.settle();
    }

    /// How many store operations are held back.
    pub fn held_stores(&self) -> usize {
        self.0.borrow().jobs.len()
    }

    /// Lets each store operation take up to so long from now on; they overtake each other.
    pub fn set_store_delay(&self, longest: Duration) {
        self.0.borrow_mut().store_delay = longest;
    }

    /// How many bytes a connection holds on its way to the initiator before the worker has to keep the rest, 256 KiB
    /// unless told otherwise.
    pub fn set_socket_bytes(&self, bytes: u64) {
        self.0.borrow_mut().socket_bytes = bytes;
    }

    /// What the sessions of iSCSI hold on its way to their initiators.
    pub fn unsent(&self, look: impl FnMut(iscsit::Unsent)) {
        self.0.borrow().workers.iter().flat_map(Worker::unsent).for_each(look);
    }

    /// The requests of iSCSI sessions that the stores are at work on.
    pub fn store_requests(&self, mut look: impl FnMut(&stmf::provider::StoreRequest)) {
        for job in &self.0.borrow().jobs {
            if let From::Worker(_, job) = &job.from {
                look(&job.request);
            }
        }
    }

    /// Switches everything off between two instructions: sessions end without a word, cables are dead, and of the
    /// store operations under way those are carried out that `reaches` picks. The clock as it stands, for
    /// [`San::with_clock`].
    pub fn switch_off(&self, mut reaches: impl FnMut(&stmf::provider::StoreRequest) -> bool) -> VirtualTime {
        let mut inner = self.0.borrow_mut();
        for Job { from, .. } in std::mem::take(&mut inner.jobs) {
            // Nobody is left to hear of the outcome.
            match from {
                From::Worker(_, job) if reaches(&job.request) => drop(job.ticket.lu().perform(job.request)),
                From::Fabric(job) if reaches(&job.request) => drop(job.lu.perform(job.request)),
                _ => {}
            }
        }
        inner.workers.clear();
        inner.fabric = None;
        inner.cables.clear();
        inner.time
    }

    /// The clock.
    pub fn clock(&self) -> VirtualTime {
        self.0.borrow().time
    }

    /// Goes to the next moment at which something happens by itself, or `at_most` so far, and does what is due then.
    pub fn run(&self, at_most: Duration) {
        let mut inner = self.0.borrow_mut();
        let end = inner.time.now() + at_most;
        inner.settle();
        match inner.next_due() {
            Some(due) if due <= end => {
                inner.step();
            }
            _ => {
                let rest = end.saturating_duration_since(inner.time.now());
                inner.time.advance(rest);
                inner.settle();
            }
        }
    }

    /// What the workers reported since this was last asked.
    pub fn take_notices(&self) -> Vec<Notice> {
        std::mem::take(&mut self.0.borrow_mut().notices)
    }

    /// Connections and sessions of all workers.
    pub fn census(&self) -> (usize, usize) {
        let inner = self.0.borrow();
        inner.workers.iter().fold((0, 0), |(c, s), worker| (c + worker.connections(), s + worker.sessions()))
    }

    /// How long the clock has run.
    pub fn elapsed(&self) -> Duration {
        self.0.borrow().time.elapsed()
    }

    /// Lets time pass, with everything that is due on the way.
    pub fn pass(&self, time: Duration) {
        let mut inner = self.0.borrow_mut();
        let end = inner.time.now() + time;
        inner.settle();
        while inner.next_due().is_some_and(|due| due <= end) {
            inner.step();
        }
        let rest = end.saturating_duration_since(inner.time.now());
        inner.time.advance(rest);
        inner.settle();
    }

    /// Does everything that can be done now.
    pub fn settle(&self) {
        self.0.borrow_mut().settle();
    }
}

impl Inner {
    fn settle(&mut self) {
        while self.move_bytes() | self.drive_workers() {}
    }

    /// When something happens next by itself.
    fn next_due(&self) -> Option<Instant> {
        let cables = self.cables.iter().flat_map(|cable| [cable.up.poll_timeout(), cable.down.poll_timeout()]);
        // What has come down waits for its initiator, not for the clock.
        let cables = cables.filter(|due| due.is_some_and(|due| due > self.time.now()));
        let jobs = self.jobs.iter().filter(|_| !self.hold_stores).map(|job| Some(job.due));
        let fabric = self.fabric.iter().map(FibreChannel::poll_timeout);
        cables.chain(self.workers.iter().map(Worker::poll_timeout)).chain(fabric).chain(jobs).flatten().min()
    }

    /// Jumps to the next due moment and does what is due then. False when nothing is.
    fn step(&mut self) -> bool {
        if !self.time.jump([self.next_due()]) {
            return false;
        }
        let now = self.time.now();
        for worker in &mut self.workers {
            worker.handle_timeout(now);
        }
        self.settle();
        true
    }

    /// Carries what has come up the cables to the workers.
    fn move_bytes(&mut self) -> bool {
        let now = self.time.now();
        let mut moved = false;
        for cable in &mut self.cables {
            while let Some((worker, id)) = cable.at {
                let worker = &mut self.workers[worker];
                if worker.recv_hint(id).wanted == 0 {
                    break;
                }
                match cable.up.poll(now) {
                    None => break,
                    Some(Delivery::Bytes(bytes)) => worker.handle_received(now, id, bytes),
                    Some(Delivery::End) => {
                        worker.handle_closed(now, id);
                        cable.down.close(now);
                        cable.at = None;
                    }
                    Some(Delivery::Reset) => {
                        worker.handle_closed(now, id);
                        cable.down.reset(now);
                        cable.at = None;
                    }
                }
                moved = true;
            }
        }
        moved
    }

    fn drive_workers(&mut self) -> bool {
        let now = self.time.now();
        let mut moved = self.drive_fabric(now);
        for at in 0..self.workers.len() {
            if self.held_mail != Some(at) {
                self.workers[at].handle_mail(now);
            }
            while let Some(job) = self.workers[at].poll_store() {
                self.start_job(now, From::Worker(at, job));
                moved = true;
            }
            while let Some(event) = self.workers[at].poll_event() {
                self.handle_event(now, at, event);
                moved = true;
            }
        }
        while !self.hold_stores
            && let Some(next) = self.due_job(now)
            && let Some(Job { from, .. }) = self.jobs.remove(next)
        {
            match from {
                From::Worker(at, job) => {
                    let done = job.ticket.lu().perform(job.request);
                    self.workers[at].handle_store_done(now, &job.ticket, done);
                }
                From::Fabric(job) => {
                    let done = job.lu.perform(job.request);
                    if let Some(fabric) = &mut self.fabric {
                        fabric.handle_store_done(now, StoreJobDone(job.lu, done));
                    }
                }
            }
            moved = true;
        }
        moved
    }

    fn drive_fabric(&mut self, now: Instant) -> bool {
        let Some(fabric) = &mut self.fabric else { return false };
        let mut moved = fabric.drive(now);
        let jobs: Vec<fct::StoreJob> = std::iter::from_fn(|| fabric.poll_store()).collect();
        for job in jobs {
            self.start_job(now, From::Fabric(job));
            moved = true;
        }
        moved
    }

    fn start_job(&mut self, now: Instant, from: From) {
        let nanos = u64::try_from(self.store_delay.as_nanos()).unwrap_or(u64::MAX);
        let delay = if nanos == 0 { 0 } else { self.store_rng.below(nanos) };
        self.jobs.push_back(Job { due: now + Duration::from_nanos(delay), from });
    }

    /// The job that is due first, if that is now.
    fn due_job(&self, now: Instant) -> Option<usize> {
        let due = self.jobs.iter().enumerate().filter(|(_, job)| job.due <= now);
        due.min_by_key(|(at, job)| (job.due, *at)).map(|(at, _)| at)
    }

    fn handle_event(&mut self, now: Instant, at: usize, event: WorkerEvent) {
        match event {
            WorkerEvent::Transmit(id) => self.transmit(now, at, id),
            WorkerEvent::Receive(_) => {}
            WorkerEvent::Close(id) => {
                self.transmit(now, at, id);
                self.workers[at].handle_closed(now, id);
                if let Some(cable) = self.cable(at, id) {
                    cable.down.close(now);
                    cable.at = None;
                }
            }
            WorkerEvent::HandOff { connection, to, parcel } => {
                let adopted = self.workers[to.0].adopt(now, parcel).ok().map(|id| (to.0, id));
                if let Some(cable) = self.cable(at, connection) {
                    cable.at = adopted;
                    if adopted.is_none() {
                        cable.down.close(now);
                    }
                }
            }
            WorkerEvent::Notice(notice) => self.notices.push(notice),
        }
    }

    fn transmit(&mut self, now: Instant, at: usize, id: ConnectionId) {
        let (mut out, socket_bytes) = (Vec::new(), self.socket_bytes);
        // What a peer does not take stays with the worker, as behind a full socket.
        while self.cable(at, id).is_none_or(|cable| cable.down.under_way() < socket_bytes)
            && self.workers[at].poll_transmit(now, id, &mut out) > 0
        {
            // As one write: what a socket would take at once.
            let bytes = Bytes::from(out.concat());
            out.clear();
            if let Some(cable) = self.cable(at, id) {
                cable.down.send(now, bytes);
            }
        }
    }

    fn cable(&mut self, worker: usize, id: ConnectionId) -> Option<&mut Cable> {
        self.cables.iter_mut().find(|cable| cable.at == Some((worker, id)))
    }
}

impl Inner {
    /// What has come down a cable by now.
    fn poll_down(&mut self, cable: usize) -> Option<Delivery> {
        let now = self.time.now();
        let at = self.cables.get(cable)?.at;
        let was_full = self.cables[cable].down.under_way() >= self.socket_bytes;
        let delivery = self.cables[cable].down.poll(now);
        if was_full
            && delivery.is_some()
            && let Some((worker, id)) = at
        {
            self.transmit(now, worker, id);
            // With that out of the way the worker may receive again: now, not when something else happens.
            self.settle();
        }
        delivery
    }
}

impl SanWire {
    /// What has come by now, without waiting.
    pub fn poll(&mut self) -> Option<Delivery> {
        self.san.0.borrow_mut().poll_down(self.cable)
    }

    /// Bits that were flipped on the way so far, in both directions.
    pub fn flipped(&self) -> u64 {
        let inner = self.san.0.borrow();
        inner.cables.get(self.cable).map_or(0, |cable| cable.up.flipped() + cable.down.flipped())
    }

    /// Closes the connection from the initiator's side, behind what was sent.
    pub fn close(&mut self) {
        let mut inner = self.san.0.borrow_mut();
        let now = inner.time.now();
        if let Some(cable) = inner.cables.get_mut(self.cable) {
            cable.up.close(now);
        }
        inner.settle();
    }

    /// Pulls the cable: what is under way is lost, both sides notice.
    pub fn pull(&mut self) {
        let mut inner = self.san.0.borrow_mut();
        let now = inner.time.now();
        if let Some(cable) = inner.cables.get_mut(self.cable) {
            cable.up.reset(now);
        }
        inner.settle();
    }

    /// From now on nothing arrives any more, to the target, to the initiator or to both, and neither hears why.
    pub fn go_dead(&mut self, to_target: bool, to_initiator: bool) {
        let mut inner = self.san.0.borrow_mut();
        if let Some(cable) = inner.cables.get_mut(self.cable) {
            if to_target {
                cable.up.go_dead();
            }
            if to_initiator {
                cable.down.go_dead();
            }
        }
    }

    /// Changes the faults of both directions from now on.
    pub fn set_faults(&mut self, faults: LinkFaults) {
        let mut inner = self.san.0.borrow_mut();
        if let Some(cable) = inner.cables.get_mut(self.cable) {
            cable.up.set_faults(faults.clone());
            cable.down.set_faults(faults);
        }
    }
}

impl Wire for SanWire {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut inner = self.san.0.borrow_mut();
        let now = inner.time.now();
        if let Some(cable) = inner.cables.get_mut(self.cable) {
            cable.up.send(now, bytes);
        }
        inner.settle();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let mut inner = self.san.0.borrow_mut();
        inner.settle();
        let until = inner.time.now() + PATIENCE;
        loop {
            let now = inner.time.now();
            match inner.poll_down(self.cable) {
                Some(Delivery::Bytes(bytes)) => return Ok(Some(bytes)),
                Some(Delivery::End) => return Ok(None),
                Some(Delivery::Reset) => return Err(io::ErrorKind::ConnectionReset.into()),
                None => {}
            }
            if now >= until || !inner.step() {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

fn portal() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 3260))
}

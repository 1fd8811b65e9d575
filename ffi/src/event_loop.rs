//! A server without threads, sockets and timers: one iSCSI worker that the calling program's event loop drives.

use crate::connection::lunette_connection;
use crate::input::{Sized0, UserData, output, put, read_sized, write_sized};
use crate::job::{JOBS, Job, JobObject, lunette_job};
use crate::result::{Failure, Outcome, guard, lunette_result, outside_callbacks};
use crate::server::{Backend, Plan, SERVERS, config_failure, lunette_server, view_failure};
use bytes::{Bytes, BytesMut};
use iscsi_proto::target::{ConnectionConfig, SessionConfig};
use iscsit::config::{Config, TargetPatch};
use iscsit::{ConnectionId, DefaultPortals, Entropy, Provider, ProviderConfig, Waker, Worker, WorkerEvent};
use scsi_core::ProtocolId;
use std::cell::Cell;
use std::collections::{BTreeSet, HashMap, VecDeque};
use std::ffi::c_void;
use std::fmt;
use std::net::SocketAddr;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stmf::config::NewView;
use stmf::provider::{LogicalUnit, PortError, TargetPort};
use stmf::{Guid, Stmf, TargetInfo, Termination};

pub(crate) type Wake = Box<dyn Fn() + Send + Sync>;

/// The name under which targets are registered.
const PROVIDER: &str = "iscsit";

/// Addresses at which connections may arrive, at most; discovery lists them.
const MAX_PORTALS: usize = 256;

/// See the module.
pub(crate) struct EventLoop {
    stmf: Arc<Stmf>,
    provider: Arc<Provider>,
    target: String,
    /// Held while targets are changed.
    changing: Mutex<()>,
    held: Mutex<Vec<Guid>>,
    /// Targets that are not in the configuration any more and whose sessions are ending.
    leaving: Mutex<Vec<String>>,
    portals: Mutex<BTreeSet<SocketAddr>>,
    /// The moment that the program's clock calls 0.
    base: Instant,
    hand_out: bool,
    id: usize,
    state: Mutex<Option<State>>,
}

/// What only one thread at a time may touch.
pub(crate) struct State {
    pub(crate) worker: Worker,
    pub(crate) connections: HashMap<ConnectionId, Conn>,
    events: VecDeque<(lunette_event_kind, ConnectionId)>,
    jobs: VecDeque<Job>,
    pub(crate) now: Instant,
}

/// A connection as the program's loop sees it.
pub(crate) struct Conn {
    pub(crate) handle: usize,
    pub(crate) userdata: UserData,
    /// What the protocol gave to send and the program has not sent.
    pub(crate) unsent: VecDeque<Bytes>,
    pub(crate) unsent_bytes: usize,
    pub(crate) receive: BytesMut,
}

thread_local! {
    /// The loop whose turn this thread is in: it looks at its mail before it leaves, and needs no waking.
    static SETTLING: Cell<usize> = const { Cell::new(0) };
}

struct LoopWaker {
    id: usize,
    wake: Wake,
}

impl Waker for LoopWaker {
    fn wake(&self) {
        if SETTLING.try_with(Cell::get).unwrap_or(0) != self.id {
            (self.wake)();
        }
    }
}

#[derive(Debug)]
struct Port;

impl TargetPort for Port {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // A challenge must not be guessable, so there is nothing to fall back to; the guard makes a code of it.
        if let Err(error) = getrandom::fill(bytes) {
            panic!("the system gives no random bytes: {error}");
        }
    }
}

impl EventLoop {
    pub(crate) fn new(target: Option<String>, hand_out: bool, wake: Wake) -> Outcome<Arc<Self>> {
        static NEXT: AtomicUsize = AtomicUsize::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let stmf = Stmf::new(stmf::config::Config::new(), Box::new(stmf::StoreJob::run));
        let unix_time = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let config = ProviderConfig {
            limits: iscsit::Limits::default(),
            connection: ConnectionConfig::default(),
            session: SessionConfig::default(),
            entropy: Box::new(SystemEntropy),
            unix_time: Box::new(unix_time),
        };
        let provider = Provider::new(Arc::clone(&stmf), config);
        let worker = Worker::new(Arc::clone(&provider), Arc::new(LoopWaker { id, wake }));
        let base = Instant::now();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(Failure::system)?;
        let patch = TargetPatch { name: target, ..TargetPatch::default() };
        let (name, change) =
            provider.config().plan_create_target(&patch, random).map_err(|error| config_failure(&error))?;
        let made = Self {
            stmf,
            provider,
            target: name.to_string(),
            changing: Mutex::default(),
            held: Mutex::default(),
            leaving: Mutex::default(),
            portals: Mutex::default(),
            base,
            hand_out,
            id,
            state: Mutex::new(Some(State {
                worker,
                connections: HashMap::new(),
                events: VecDeque::new(),
                jobs: VecDeque::new(),
                now: base,
            })),
        };
        let mut change = Some(change);
        made.change_iscsi(&mut |_| Ok(change.take().into_iter().collect()))?;
        Ok(Arc::new(made))
    }

    /// Runs `f` as the one thread inside, at `now_ns` (the last time known, for `None`), and does afterwards all that
    /// it gave rise to.
    pub(crate) fn enter<R>(&self, now_ns: Option<u64>, f: impl FnOnce(&mut State) -> Outcome<R>) -> Outcome<R> {
        // In a callback the lock may be this thread's own; elsewhere it is held for a short time.
        let lock = match outside_callbacks() {
            Ok(()) => self.state.lock().map_err(TryLockError::Poisoned),
            Err(_) => self.state.try_lock(),
        };
        let mut state = match lock {
            Ok(state) => state,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Err(Failure::busy("called from a callback of the same server")),
        };
        let state = state.as_mut().ok_or_else(|| Failure::closed("the server was stopped"))?;
        if let Some(ns) = now_ns {
            let now = self.base.checked_add(Duration::from_nanos(ns));
            let now = now.ok_or_else(|| Failure::invalid(format!("now_ns {ns} is past the end of time")))?;
            // A clock that went back has stood still.
            state.now = state.now.max(now);
        }
        let _settling = Settling::begin(self.id);
        let result = f(state)?;
        state.settle(self.hand_out);
        Ok(result)
    }

    /// A connection arrived at `local`: it belongs to the portals.
    pub(crate) fn note_portal(&self, local: SocketAddr) -> Outcome {
        let mut portals = self.portals.lock().unwrap_or_else(PoisonError::into_inner);
        if portals.contains(&local) {
            return Ok(());
        }
        if portals.len() >= MAX_PORTALS {
            let message = format!("connections arrived at {MAX_PORTALS} addresses, which is the limit");
            return Err(Failure::new(lunette_result::Limit, message));
        }
        portals.insert(local);
        let advertised = portals.iter().copied().collect();
        self.provider.set_default_portals(DefaultPortals { advertised, any_address: vec![] });
        Ok(())
    }

    /// Breaks everything off.
    pub(crate) fn close(&self) {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(state);
        let held = std::mem::take(&mut *self.held());
        held.into_iter().for_each(|guid| self.drop_unit(guid));
    }

    fn next_timeout(&self, state: &State) -> u64 {
        state.worker.poll_timeout().map_or(u64::MAX, |due| {
            let from_zero = due.saturating_duration_since(self.base).as_nanos();
            u64::try_from(from_zero).unwrap_or(u64::MAX)
        })
    }

    fn follow(&self, config: &Config) {
        self.provider.set_config(Arc::new(config.clone()));
        for gone in self.stmf.targets().into_iter().filter(|target| config.target(&target.name).is_none()) {
            let _ = self.stmf.offline_target(&gone.name, Termination::Logout);
            if self.stmf.unregister_target(&gone.name).is_err() {
                let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
                if !leaving.contains(&gone.name) {
                    leaving.push(gone.name);
                }
            }
        }
        for target in config.targets() {
            // One that is there, or is still leaving, is refused.
            let info = TargetInfo {
                name: target.name.to_string(),
                protocol: ProtocolId::ISCSI,
                alias: target.alias.clone(),
                provider: PROVIDER.into(),
            };
            let _ = self.stmf.register_target(info, Arc::new(Port));
        }
    }

    /// Forgets targets whose sessions have gone.
    fn see_off(&self) {
        let mut leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner);
        if leaving.is_empty() {
            return;
        }
        let before = leaving.len();
        leaving.retain(|name| self.stmf.unregister_target(name).is_err());
        let some_left = leaving.len() < before;
        drop(leaving);
        if some_left {
            self.follow(&self.provider.config());
        }
    }

    fn held(&self) -> MutexGuard<'_, Vec<Guid>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn drop_unit(&self, guid: Guid) {
        let _ = self.stmf.unregister_lu(guid);
        if let Ok(change) = self.stmf.with_config(|config| config.remove_views(guid)) {
            self.stmf.commit(change);
        }
    }
}

impl Backend for EventLoop {
    fn stmf(&self) -> &Arc<Stmf> {
        &self.stmf
    }

    fn target(&self) -> String {
        self.target.clone()
    }

    fn change_iscsi(&self, plan: &mut Plan<'_>) -> Outcome {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = (*self.provider.config()).clone();
        let changes = plan(&config).map_err(|error| config_failure(&error))?;
        changes.into_iter().for_each(|change| config.commit(change));
        self.follow(&config);
        Ok(())
    }

    fn add_unit(&self, lu: Arc<dyn LogicalUnit>, view: Option<Option<u16>>) -> Outcome<Guid> {
        let guid = Guid::from_bytes(lu.guid()).map_err(Failure::refused)?;
        let mut held = self.held();
        if held.contains(&guid) {
            return Err(Failure::new(lunette_result::Exists, format!("disk {guid:X} exists already")));
        }
        if let Some(lun) = view {
            let view = NewView { lu: guid, host_group: None, target_group: None, lun: lun.map(u64::from) };
            let added = self.stmf.with_config(|config| config.add_view(&view));
            self.stmf.commit(added.map_err(|error| view_failure(&error))?.0);
        }
        if let Err(error) = self.stmf.register_lu(lu, "sbd") {
            self.drop_unit(guid);
            return Err(Failure::refused(error));
        }
        held.push(guid);
        Ok(guid)
    }

    fn remove_unit(&self, guid: Guid) -> bool {
        let mut held = self.held();
        let Some(index) = held.iter().position(|name| *name == guid) else { return false };
        held.remove(index);
        self.drop_unit(guid);
        true
    }
}

struct Settling {
    before: usize,
}

impl Settling {
    fn begin(id: usize) -> Self {
        Self { before: SETTLING.try_with(|settling| settling.replace(id)).unwrap_or(0) }
    }
}

impl Drop for Settling {
    fn drop(&mut self) {
        let _ = SETTLING.try_with(|settling| settling.set(self.before));
    }
}

impl State {
    /// Carries out what can be carried out, until nothing more comes of it.
    fn settle(&mut self, hand_out: bool) {
        let now = self.now;
        loop {
            self.worker.handle_mail(now);
            let mut idle = true;
            while let Some(job) = self.worker.poll_store() {
                idle = false;
                self.carry_out(job, hand_out);
            }
            while let Some(event) = self.worker.poll_event() {
                idle = false;
                match event {
                    WorkerEvent::Transmit(id) => self.events.push_back((lunette_event_kind::Transmit, id)),
                    WorkerEvent::Receive(id) => self.events.push_back((lunette_event_kind::Receive, id)),
                    WorkerEvent::Close(id) => self.events.push_back((lunette_event_kind::Close, id)),
                    // There is no other worker to hand anything to; notices are for logs, which are the program's.
                    WorkerEvent::HandOff { .. } | WorkerEvent::Notice(_) => {}
                }
            }
            if idle {
                return;
            }
        }
    }

    fn carry_out(&mut self, job: iscsit::StoreJob, hand_out: bool) {
        let iscsit::StoreJob { request, ticket } = job;
        let request = match ticket.lu().try_perform(request) {
            Ok(done) => return self.worker.handle_store_done(self.now, &ticket, done),
            Err(request) => request,
        };
        let job = iscsit::StoreJob { request, ticket };
        let completion = self.worker.completion(&job);
        let lu = Arc::clone(job.ticket.lu());
        if let Err((request, completion)) = lu.start(job.request, completion) {
            let job = Job { lu, request, completion };
            if hand_out { self.jobs.push_back(job) } else { job.run() }
        }
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop").field("target", &self.target).finish_non_exhaustive()
    }
}

/// What an event asks for.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum lunette_event_kind {
    /// There is none.
    None = 0,
    /// There is something to send: call lunette_connection_transmit until it gives no slices, or until the socket takes
    /// no more.
    Transmit = 1,
    /// Receiving may go on after lunette_connection_wanted gave 0.
    Receive = 2,
    /// Send what lunette_connection_transmit still gives, close the socket, call lunette_connection_free.
    Close = 3,
}

/// Something that the event loop is to do.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_event {
    /// sizeof(lunette_event), set by the caller.
    pub size: usize,
    /// What.
    pub kind: lunette_event_kind,
    /// On which connection; NULL for none.
    pub connection: *mut lunette_connection,
    /// What lunette_connection_new was given for it.
    pub userdata: *mut c_void,
}

// SAFETY: repr(C), size first; a kind of 0 is None, pointers.
unsafe impl Sized0 for lunette_event {}

fn with_loop<R>(
    server: *mut lunette_server,
    now_ns: Option<u64>,
    f: impl FnOnce(&EventLoop, &mut State) -> Outcome<R>,
) -> Outcome<R> {
    let server = SERVERS.get(server)?;
    let event_loop = server.event_loop()?;
    event_loop.enter(now_ns, |state| f(event_loop, state))
}

/// Gives the next thing to do, in the event-loop mode; `event->kind` is LUNETTE_EVENT_KIND_NONE when there is none. To
/// be asked until then after every other call of the loop.
///
/// Functions of the event-loop mode may be called from any thread; they wait for each other. In a callback of the same
/// server they are refused with LUNETTE_RESULT_BUSY.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_poll_event(
    server: *mut lunette_server,
    event: *mut lunette_event,
) -> lunette_result {
    guard(|| {
        // The kind may be anything as long as it is not read as one: only the size is looked at.
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        unsafe { read_sized::<EventPlace>(event.cast(), "event") }?;
        with_loop(server, None, |_, state| {
            let mut found = lunette_event {
                size: 0,
                kind: lunette_event_kind::None,
                connection: ptr::null_mut(),
                userdata: ptr::null_mut(),
            };
            while let Some((kind, id)) = state.events.pop_front() {
                // One that was freed meanwhile needs nothing.
                if let Some(conn) = state.connections.get(&id) {
                    found.kind = kind;
                    found.connection = ptr::without_provenance_mut(conn.handle);
                    found.userdata = conn.userdata.0;
                    break;
                }
            }
            // SAFETY: looked at above.
            unsafe { write_sized(event, found) };
            Ok(())
        })
    })
}

/// A [`lunette_event`] as a caller may leave it.
#[repr(C)]
#[derive(Clone, Copy)]
struct EventPlace {
    size: usize,
    rest: [usize; 3],
}

// SAFETY: repr(C), size first, integers.
unsafe impl Sized0 for EventPlace {}

/// Tells when lunette_server_process is due next, in the event-loop mode; UINT64_MAX for never. It may change with
/// every other call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_next_timeout(server: *mut lunette_server, at_ns: *mut u64) -> lunette_result {
    guard(|| {
        let place = output(at_ns, "at_ns")?;
        let due = with_loop(server, None, |event_loop, state| Ok(event_loop.next_timeout(state)))?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, due) };
        Ok(())
    })
}

/// Does what is due at `now_ns` and takes what other threads left, in the event-loop mode: to be called when the time of
/// lunette_server_next_timeout has come, and after `wake`. Calling it early does no harm.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_server_process(server: *mut lunette_server, now_ns: u64) -> lunette_result {
    guard(|| {
        with_loop(server, Some(now_ns), |event_loop, state| {
            event_loop.see_off();
            let now = state.now;
            state.worker.handle_timeout(now);
            Ok(())
        })
    })
}

/// Asks every initiator to log out, in the event-loop mode; connections that are left `grace_ns` later are closed. The
/// loop goes on until lunette_server_connections gives 0.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_server_shut_down(server: *mut lunette_server, now_ns: u64, grace_ns: u64) -> lunette_result {
    guard(|| {
        with_loop(server, Some(now_ns), |_, state| {
            let now = state.now;
            state.worker.shut_down(now, Duration::from_nanos(grace_ns));
            Ok(())
        })
    })
}

/// How many connections the event-loop mode has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_connections(server: *mut lunette_server, count: *mut usize) -> lunette_result {
    guard(|| {
        let place = output(count, "count")?;
        let connections = with_loop(server, None, |_, state| Ok(state.connections.len()))?;
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, connections) };
        Ok(())
    })
}

/// Gives the next store operation to carry out, with LUNETTE_SERVER_HAND_OUT_JOBS; `*job` is NULL when there is none. To
/// be asked until then after every other call of the loop.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_server_poll_job(
    server: *mut lunette_server,
    job: *mut *mut lunette_job,
) -> lunette_result {
    guard(|| {
        let place = output(job, "job")?;
        let next = with_loop(server, None, |_, state| Ok(state.jobs.pop_front()))?;
        let handle = next.map_or(ptr::null_mut(), |job| JOBS.insert(Arc::new(JobObject::new(job))));
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, handle) };
        Ok(())
    })
}

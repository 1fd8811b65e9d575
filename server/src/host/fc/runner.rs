//! One adapter and its thread.

use super::Surroundings;
use super::initiator::InitiatorPort;
use crate::audit;
use crate::driver::{BlockingJob, Flood, Wake};
use crate::fc::{Adapter, FcDriver, FcMode, FcPort, Plug, Report};
use fct::{Port, PortConfig, PortEvent, StoreJob};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// How long a caller waits for the thread.
const ANSWER_TIME: Duration = Duration::from_secs(5);

/// Store operations that are begun in one turn; then the adapter has its own.
const STORES_AT_A_TIME: usize = 256;

/// What the thread drives.
pub(super) enum Role {
    Target(Box<Port>),
    Initiator(Box<InitiatorPort>),
}

/// Something the thread is asked to do; it is dropped when the thread has ended.
type Call = Box<dyn FnOnce(&mut Role, Instant) + Send>;

/// An open adapter. Dropping it ends the thread and closes the adapter.
pub(super) struct Runner {
    shared: Arc<Shared>,
    plug: Option<Plug>,
    report: Option<Report>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: Arc<Wake>,
    stop: AtomicBool,
    calls: Mutex<Vec<Call>>,
    /// Why the adapter is of no use any more.
    failure: Mutex<Option<String>>,
}

impl Runner {
    /// Opens the adapter of a port and drives it.
    pub(super) fn start(port: &FcPort, driver: &dyn FcDriver, surroundings: &Surroundings) -> Result<Self, String> {
        let wake = Arc::new(Wake::new().map_err(|error| error.to_string())?);
        let waker = || {
            let wake = Arc::clone(&wake);
            Box::new(move || wake.wake())
        };
        let Adapter { hba, descriptor, plug, report } = driver.open(port, waker())?;
        if hba.port_name() != port.port_name {
            return Err(format!("the adapter's port name is {}", hba.port_name()));
        }
        let role = match port.mode {
            FcMode::Target => {
                let config = PortConfig {
                    symbolic_port_name: format!("Lunette {}", port.device_name()),
                    symbolic_node_name: "Lunette".into(),
                    unix_time: Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs())),
                    traffic: Arc::clone(&surroundings.traffic),
                    ..PortConfig::default()
                };
                let port = Port::new(&surroundings.stmf, hba, config, waker()).map_err(|error| error.to_string())?;
                Role::Target(Box::new(port))
            }
            FcMode::Initiator => {
                let name = port.options.get("symbolic-name").map_or("Lunette initiator", String::as_str);
                Role::Initiator(Box::new(InitiatorPort::new(Instant::now(), hba, name)))
            }
        };
        let shared =
            Arc::new(Shared { wake, stop: AtomicBool::new(false), calls: Mutex::default(), failure: Mutex::default() });
        let (run, surroundings) = (Arc::clone(&shared), surroundings.clone());
        let thread = thread::Builder::new().name("lunette-fc".into());
        let thread = thread.spawn(move || {
            let on_failure = Arc::clone(&surroundings.on_failure);
            if catch_unwind(AssertUnwindSafe(|| run.run(role, descriptor.as_ref(), surroundings))).is_err() {
                on_failure();
            }
        });
        let thread = thread.map_err(|error| format!("cannot start a thread: {error}"))?;
        Ok(Self { shared, plug, report, thread: Some(thread) })
    }

    /// Has the thread do something; `None` if it does not get to it in time.
    pub(super) fn call<R: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Role, Instant) -> R + Send + 'static,
    ) -> Option<R> {
        let (sender, answer) = mpsc::sync_channel(1);
        self.shared.calls.lock().unwrap_or_else(PoisonError::into_inner).push(Box::new(move |role, now| {
            // Nobody may be waiting any more.
            let _ = sender.try_send(work(role, now));
        }));
        self.shared.wake.wake();
        answer.recv_timeout(ANSWER_TIME).ok()
    }

    /// Why the adapter has to be opened anew, if it has.
    pub(super) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How to unplug the cable, where it is software.
    pub(super) fn plug(&self) -> Option<&Plug> {
        self.plug.as_ref()
    }

    /// What the driver tells lists.
    pub(super) fn report(&self) -> Option<&Report> {
        self.report.as_ref()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.wake();
        if let Some(thread) = self.thread.take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn run(&self, mut role: Role, descriptor: Option<&OwnedFd>, surroundings: Surroundings) {
        let mut news = News::new(surroundings);
        loop {
            self.wake.take();
            if self.stop.load(Ordering::Acquire) {
                return;
            }
            let now = Instant::now();
            let calls = std::mem::take(&mut *self.calls.lock().unwrap_or_else(PoisonError::into_inner));
            calls.into_iter().for_each(|call| call(&mut role, now));
            let (more, due) = match &mut role {
                Role::Target(port) => (turn(port, now, &mut news), port.poll_timeout()),
                Role::Initiator(port) => (port.drive(now), port.poll_timeout()),
            };
            let failure = match &role {
                Role::Target(port) => port.failure(),
                Role::Initiator(port) => port.failure(),
            };
            if let Some(reason) = failure {
                *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason.to_owned());
            }
            let wait = if more { Some(now) } else { due }.map(|due| due.saturating_duration_since(Instant::now()));
            let wait = if self.wake.may_sleep() { wait } else { Some(Duration::ZERO) };
            self.wake.sleep(wait, descriptor.map(AsFd::as_fd));
        }
    }
}

/// Drives a target port once; `true` if there is more to do at once.
fn turn(port: &mut Port, now: Instant, news: &mut News) -> bool {
    let mut more = port.drive(now);
    for number in 0.. {
        if number == STORES_AT_A_TIME {
            more = true;
            break;
        }
        let Some(StoreJob { lu, request }) = port.poll_store() else { break };
        match lu.try_perform(request) {
            Ok(done) => {
                port.handle_store_done(now, &lu, done);
                more |= port.drive(now);
            }
            Err(request) => {
                let completion = port.completion(&lu, &request);
                news.surroundings.pool.begin(lu, request, completion);
            }
        }
    }
    while let Some(event) = port.poll_event() {
        news.tell(port.name(), &event);
    }
    more
}

/// What a port has to say, in the log and in the audit log, no more than is good for them.
struct News {
    surroundings: Surroundings,
    warnings: Flood,
    others: Flood,
}

impl News {
    fn new(surroundings: Surroundings) -> Self {
        let (warnings, others) = (Flood::new(10, Duration::from_secs(10)), Flood::new(100, Duration::from_secs(10)));
        Self { surroundings, warnings, others }
    }

    fn tell(&mut self, target: &str, event: &PortEvent) {
        let (line, warning) = match event {
            PortEvent::Up(id) => (format!("{target} is up at address {id}"), false),
            PortEvent::Down => (format!("the link of {target} is down"), false),
            PortEvent::LoggedIn(name) => {
                self.surroundings.seen.note(&name.device_name());
                (format!("{} logged in to {target}", name.device_name()), false)
            }
            PortEvent::LoggedOut { port_name, reason } => {
                (format!("{} is logged out of {target}: {reason}", port_name.device_name()), false)
            }
            PortEvent::Refused { port_name, reason } => {
                (format!("refused login of {} to {target}: {reason}", port_name.device_name()), true)
            }
            PortEvent::Trouble(reason) => (format!("{target}: {reason}"), true),
            PortEvent::Failed(reason) => (format!("the adapter of {target} has failed: {reason}"), true),
            _ => return,
        };
        let flood = if warning { &mut self.warnings } else { &mut self.others };
        let Some(suppressed) = flood.pass(Instant::now()) else { return };
        if suppressed > 0 {
            tracing::warn!("{suppressed} messages of this kind were left out");
        }
        if warning {
            tracing::warn!(target: audit::TARGET, "{line}");
        } else {
            tracing::info!(target: audit::TARGET, "{line}");
        }
        if let Some(file) = self.surroundings.audit.clone() {
            let write = move || file.lines_by("fibre channel", &[line]);
            self.surroundings.pool.submit(BlockingJob::Other(Box::new(write)));
        }
    }
}

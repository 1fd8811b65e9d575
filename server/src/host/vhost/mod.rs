//! vhost-user-scsi ports: a thread for each, with its socket, its guest's rings and their store operations.

mod frontend;
mod memory;
#[cfg(test)]
mod tests;

use super::fc::Surroundings;
use crate::admin::LocalPort;
use crate::audit;
use crate::driver::{BlockingJob, Flood, Wake};
use crate::unix_socket;
use crate::vhost::VhostPort;
use frontend::{Frontend, QUEUE_SIZE, QUEUES};
use lunette_loopback::Port;
use memory::Gate;
use scsi_core::ProtocolId;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stmf::{StmfError, TargetInfo, Termination};
use vhost::vhost_user::BackendReqHandler;
use vhost_scsi::{Device, Limits};

/// How long what is under way may hold up the end of a port.
const CLOSING_TIME: Duration = Duration::from_secs(5);

/// How often it is asked whether reads for a monitor that has left have ended.
const LEAVING_PAUSE: Duration = Duration::from_millis(20);

/// All ports of a server, by their names as targets.
#[derive(Default)]
pub(super) struct VhostPorts(Mutex<BTreeMap<String, Entry>>);

struct Entry {
    port: VhostPort,
    /// Whether it is in the configuration.
    kept: bool,
    runner: Result<Runner, String>,
}

impl VhostPorts {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a port for this run of the server.
    pub(super) fn open(&self, port: &VhostPort, surroundings: &Surroundings) -> io::Result<()> {
        let mut ports = self.lock();
        match ports.get(&port.target) {
            // It is in the configuration as well.
            Some(entry) if entry.port == *port => return Ok(()),
            Some(_) => return Err(io::Error::other(format!("there is another port named {}", port.target))),
            None => {}
        }
        let runner = Runner::start(port, surroundings)?;
        ports.insert(port.target.clone(), Entry { port: port.clone(), kept: false, runner: Ok(runner) });
        Ok(())
    }

    /// Opens and closes ports until those of the configuration are open.
    pub(super) fn follow(&self, wanted: &BTreeMap<String, VhostPort>, surroundings: &Surroundings) {
        let mut ports = self.lock();
        // What goes, goes first: what comes may have its socket.
        ports.retain(|target, entry| !entry.kept || wanted.get(target) == Some(&entry.port));
        for (target, port) in wanted {
            ports.entry(target.clone()).or_insert_with(|| {
                let runner = Runner::start(port, surroundings).map_err(|error| error.to_string());
                if let Err(reason) = &runner {
                    tracing::warn!("vhost-user port {}: {reason}", port.path.display());
                }
                Entry { port: port.clone(), kept: true, runner }
            });
        }
    }

    /// Tries ports again that could not be opened; `true` while there are any.
    pub(super) fn retry(&self, surroundings: &Surroundings) -> bool {
        let mut ports = self.lock();
        let mut left = false;
        for entry in ports.values_mut().filter(|entry| entry.runner.is_err()) {
            entry.runner = Runner::start(&entry.port, surroundings).map_err(|error| error.to_string());
            left |= entry.runner.is_err();
        }
        left
    }

    /// The ports.
    pub(super) fn list(&self) -> Vec<LocalPort> {
        let info = |Entry { port, runner, .. }: &Entry| LocalPort {
            target: port.target.clone(),
            initiator: port.initiator.clone(),
            path: port.path.clone(),
            problem: runner.as_ref().err().cloned(),
        };
        self.lock().values().map(info).collect()
    }

    /// The names of the targets that are open.
    pub(super) fn targets(&self) -> Vec<String> {
        let ports = self.lock();
        ports.iter().filter(|(_, entry)| entry.runner.is_ok()).map(|(target, _)| target.clone()).collect()
    }

    /// Closes all: guests find their disks gone until the sockets are back.
    pub(super) fn shut_down(&self) {
        std::mem::take(&mut *self.lock());
    }
}

struct Runner {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: Arc<Wake>,
    stop: AtomicBool,
}

impl Runner {
    fn start(port: &VhostPort, surroundings: &Surroundings) -> io::Result<Self> {
        let (wake, stop) = (Arc::new(Wake::new()?), AtomicBool::new(false));
        let shared = Arc::new(Shared { wake, stop });
        let socket = Socket::bind(&port.path)?;
        let info = TargetInfo {
            name: port.target.clone(),
            protocol: ProtocolId::NONE,
            alias: Some(port.path.display().to_string()),
            provider: "vhost-user".into(),
        };
        let target = Port::with(&surroundings.stmf, info).map_err(io::Error::other)?;
        tracing::info!(path = %port.path.display(), initiator = %port.initiator, "listening for virtual machines");
        let (run, surroundings, port) = (Arc::clone(&shared), surroundings.clone(), port.clone());
        let thread = thread::Builder::new().name("lunette-vhost".into()).spawn(move || {
            let on_failure = Arc::clone(&surroundings.on_failure);
            let mut turns = Turns::new(port, target, socket, surroundings, &run);
            if catch_unwind(AssertUnwindSafe(|| turns.run(&run))).is_err() {
                on_failure();
            }
        })?;
        Ok(Self { shared, thread: Some(thread) })
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

/// A socket in the file system, which goes when its server does.
struct Socket {
    listener: UnixListener,
    path: std::path::PathBuf,
}

impl Socket {
    /// Makes the socket; one that a server left which is no more is replaced. Only its owner may connect.
    fn bind(path: &Path) -> io::Result<Self> {
        let socket = Self { listener: unix_socket::bind(path)?, path: path.to_owned() };
        socket.listener.set_nonblocking(true)?;
        Ok(socket)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Somebody may have removed it before.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A monitor that is connected.
struct Monitor {
    messages: BackendReqHandler<Mutex<Frontend>>,
    /// The same socket, to wait for messages.
    socket: UnixStream,
    frontend: Arc<Mutex<Frontend>>,
}

impl Monitor {
    fn lock(&self) -> MutexGuard<'_, Frontend> {
        self.frontend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Turns {
    port: VhostPort,
    target: Port,
    socket: Socket,
    surroundings: Surroundings,
    wake: Arc<Wake>,
    monitor: Option<Monitor>,
    /// What may still write to the memory of the monitor before: the next one may have the same.
    leaving: Option<Arc<Gate>>,
    /// Queues that have more than was taken in their turn.
    hungry: Vec<usize>,
    messages: Flood,
}

impl Turns {
    fn new(port: VhostPort, target: Port, socket: Socket, surroundings: Surroundings, shared: &Shared) -> Self {
        Self {
            port,
            target,
            socket,
            surroundings,
            wake: Arc::clone(&shared.wake),
            monitor: None,
            leaving: None,
            hungry: Vec::new(),
            messages: Flood::new(10, Duration::from_secs(10)),
        }
    }

    fn run(&mut self, shared: &Shared) {
        loop {
            let is_woken = shared.wake.take();
            if shared.stop.load(Ordering::Acquire) {
                return self.close();
            }
            let more = self.turn(is_woken);
            let wait = (more || !shared.wake.may_sleep()).then_some(Duration::ZERO);
            let ready = self.sleep(wait);
            for what in ready {
                self.serve(what);
            }
        }
    }

    /// Ends the session and takes the target out, so that one of that name may come at once.
    fn close(&mut self) {
        if self.monitor.is_some() {
            self.hang_up("the port is closed");
        }
        let (stmf, name) = (&self.surroundings.stmf, self.target.name());
        let _ = stmf.offline_target(name, Termination::Kill);
        let deadline = Instant::now() + CLOSING_TIME;
        while matches!(stmf.unregister_target(name), Err(StmfError::Busy(_))) && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        // Whoever opens a port here again may have the same machine.
        while self.is_leaving() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Does what can be done now; `true` if there is more at once.
    fn turn(&mut self, is_woken: bool) -> bool {
        let Some(monitor) = &self.monitor else { return false };
        let mut frontend = monitor.lock();
        // A queue that has just been started or enabled may hold requests from before.
        let queues = if is_woken { (0..QUEUES).collect() } else { std::mem::take(&mut self.hungry) };
        let mut hungry: Vec<usize> = queues.into_iter().filter(|queue| frontend.serve(*queue)).collect();
        let more = frontend.turn();
        hungry.extend(frontend.take_waiting());
        let more = more || !hungry.is_empty();
        let faults = frontend.faults();
        let ended = frontend.termination().is_some();
        drop(frontend);
        self.hungry = hungry;
        for fault in faults {
            self.tell(&format!("{} of {} stopped: {fault}", self.port.initiator, self.target.name()));
        }
        if ended {
            self.hang_up("the session was ended");
        }
        more
    }

    fn sleep(&self, wait: Option<Duration>) -> Vec<Ready> {
        let Some(monitor) = &self.monitor else {
            if self.is_leaving() {
                self.wake.sleep(wait.or(Some(LEAVING_PAUSE)), []);
                return Vec::new();
            }
            let ready = self.wake.sleep(wait, [self.socket.listener.as_fd()]);
            return ready.into_iter().map(|_| Ready::Caller).collect();
        };
        let frontend = monitor.lock();
        let kicks: Vec<(usize, BorrowedFd<'_>)> = frontend.kicks().collect();
        let descriptors = std::iter::once(monitor.socket.as_fd()).chain(kicks.iter().map(|(_, kick)| *kick));
        let ready = self.wake.sleep(wait, descriptors).into_iter();
        ready.map(|at| at.checked_sub(1).map_or(Ready::Message, |kick| Ready::Kick(kicks[kick].0))).collect()
    }

    fn serve(&mut self, ready: Ready) {
        match ready {
            Ready::Caller => self.answer_call(),
            Ready::Kick(queue) => {
                let more = self.monitor.as_ref().is_some_and(|monitor| monitor.lock().kicked(queue));
                if more {
                    self.hungry.push(queue);
                }
            }
            Ready::Message => {
                let Some(monitor) = &mut self.monitor else { return };
                match monitor.messages.handle_request() {
                    // What the device refuses the monitor is told; the connection stands.
                    Ok(()) => {}
                    Err(vhost::vhost_user::Error::Disconnected) => self.hang_up("the virtual machine's monitor left"),
                    Err(error) => self.hang_up(&error.to_string()),
                }
            }
        }
    }

    fn answer_call(&mut self) {
        let Ok((stream, _)) = self.socket.listener.accept() else { return };
        let device = stream.set_nonblocking(false).map_err(|error| error.to_string()).and_then(|()| {
            let wake = Arc::clone(&self.wake);
            // One machine at a time: it is always the same initiator port, whose reservations outlast a connection.
            let (initiator, id) = (&self.port.initiator, vhost_scsi::transport_id(&self.port.initiator));
            let session = self.target.open_by(initiator, &id, Box::new(move || wake.wake()));
            let session = session.map_err(|error| error.to_string())?;
            let device =
                Device::new(session, QUEUES, QUEUE_SIZE, Limits::default(), Arc::clone(&self.surroundings.traffic));
            let socket = stream.try_clone().map_err(|error| error.to_string())?;
            Ok((device.map_err(|error| error.to_string())?, socket))
        });
        match device {
            Ok((device, socket)) => {
                self.surroundings.seen.note(&self.port.initiator);
                let frontend = Frontend::new(device, Arc::clone(&self.wake), self.surroundings.pool.clone());
                let frontend = Arc::new(Mutex::new(frontend));
                let messages = BackendReqHandler::from_stream(stream, Arc::clone(&frontend));
                self.monitor = Some(Monitor { messages, socket, frontend });
                self.tell(&format!("{} logged in to {}", self.port.initiator, self.target.name()));
            }
            Err(reason) => self.tell(&format!("refused {} at {}: {reason}", self.port.initiator, self.target.name())),
        }
    }

    /// Whether reads for a monitor that has left are still going to its memory.
    fn is_leaving(&self) -> bool {
        self.leaving.as_ref().is_some_and(|gate| !gate.try_close())
    }

    fn hang_up(&mut self, reason: &str) {
        // Reads that have not begun find the gate closed; the others are not waited for here.
        self.leaving = self.monitor.take().map(|monitor| monitor.lock().gate()).filter(|gate| !gate.try_close());
        self.hungry.clear();
        self.tell(&format!("{} is logged out of {}: {reason}", self.port.initiator, self.target.name()));
    }

    fn tell(&mut self, line: &str) {
        if let Some(suppressed) = self.messages.pass(Instant::now()) {
            if suppressed > 0 {
                tracing::warn!("{suppressed} messages of this kind were left out");
            }
            match self.surroundings.audit.clone() {
                // What is kept is logged as well.
                Some(file) => {
                    let lines = [line.to_owned()];
                    let write = move || file.lines_by("vhost-user", &lines);
                    self.surroundings.pool.submit(BlockingJob::Other(Box::new(write)));
                }
                None => tracing::info!(target: audit::TARGET, "{line}"),
            }
        }
    }
}

enum Ready {
    Caller,
    Message,
    Kick(usize),
}

//! vhost-user-scsi ports: a thread for each, with its socket, its guest's rings and their store operations.

mod frontend;
mod memory;

use super::fc::Surroundings;
use crate::audit;
use crate::driver::{BlockingJob, Flood, Wake};
use crate::unix_socket;
use crate::vhost::VhostPort;
use frontend::{Frontend, QUEUE_SIZE, QUEUES};
use lunette_loopback::Port;
use scsi_core::ProtocolId;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stmf::TargetInfo;
use vhost::vhost_user::BackendReqHandler;
use vhost_scsi::{Device, Limits};

/// All ports of a server.
#[derive(Default)]
pub(super) struct VhostPorts(Mutex<Vec<Runner>>);

impl VhostPorts {
    /// Opens a port.
    pub(super) fn open(&self, port: &VhostPort, surroundings: &Surroundings) -> io::Result<()> {
        let runner = Runner::start(port, surroundings)?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(runner);
        Ok(())
    }

    /// The ports.
    pub(super) fn list(&self) -> Vec<VhostPort> {
        let runners = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        runners.iter().map(|runner| runner.port.clone()).collect()
    }

    /// Closes all: guests find their disks gone until the sockets are back.
    pub(super) fn shut_down(&self) {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

struct Runner {
    port: VhostPort,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    wake: Arc<Wake>,
    stop: AtomicBool,
}

impl Runner {
    fn start(port: &VhostPort, surroundings: &Surroundings) -> io::Result<Self> {
        let shared = Arc::new(Shared { wake: Arc::new(Wake::new()?), stop: AtomicBool::new(false) });
        let socket = Socket::bind(&port.path)?;
        let info = TargetInfo {
            name: port.target(),
            protocol: ProtocolId::NONE,
            alias: Some(port.path.display().to_string()),
            provider: "vhost-user".into(),
        };
        let target = Port::with(&surroundings.stmf, info).map_err(io::Error::other)?;
        tracing::info!(path = %port.path.display(), initiator = %port.initiator, "listening for virtual machines");
        let (run, surroundings, of_thread) = (Arc::clone(&shared), surroundings.clone(), port.clone());
        let thread = thread::Builder::new().name("lunette-vhost".into()).spawn(move || {
            let on_failure = Arc::clone(&surroundings.on_failure);
            let mut turns = Turns::new(of_thread, target, socket, surroundings, Arc::clone(&run.wake));
            if catch_unwind(AssertUnwindSafe(|| turns.run(&run))).is_err() {
                on_failure();
            }
        })?;
        Ok(Self { port: port.clone(), shared, thread: Some(thread) })
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
    /// Queues that have more than was taken in their turn.
    hungry: Vec<usize>,
    messages: Flood,
}

impl Turns {
    fn new(port: VhostPort, target: Port, socket: Socket, surroundings: Surroundings, wake: Arc<Wake>) -> Self {
        let messages = Flood::new(10, Duration::from_secs(10));
        Self { port, target, socket, surroundings, wake, monitor: None, hungry: Vec::new(), messages }
    }

    fn run(&mut self, shared: &Shared) {
        loop {
            let is_woken = shared.wake.take();
            if shared.stop.load(Ordering::Acquire) {
                return;
            }
            let more = self.turn(is_woken);
            let wait = (more || !shared.wake.may_sleep()).then_some(Duration::ZERO);
            let ready = self.sleep(wait);
            for what in ready {
                self.serve(what);
            }
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
            let session = self.target.open_as(&self.port.initiator, 0, Box::new(move || wake.wake()));
            let session = session.map_err(|error| error.to_string())?;
            let device = Device::new(session, QUEUES, QUEUE_SIZE, Limits::default());
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

    fn hang_up(&mut self, reason: &str) {
        self.monitor = None;
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

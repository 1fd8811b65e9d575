//! A switch in software with a thread of its own.

use super::Cable;
use super::cable::{Hello, Listener};
use crate::driver::Wake;
use fct::soft::{Fabric, FabricConfig, WireEnd};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use stmf::provider::hba::{PortId, Wwn};

/// The switch's domain: the first byte of addresses.
const DOMAIN: u8 = 1;

/// The switch's own name; no port has it, since those are made of other kinds.
const NAME: Wwn = Wwn(0x1000_0014_4f00_0001);

/// A fabric, driven by its thread while anybody holds it.
pub(super) struct SharedFabric {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    name: String,
    wake: Arc<Wake>,
    inner: Mutex<Inner>,
}

struct Inner {
    fabric: Fabric,
    listeners: Vec<(PathBuf, Arc<Listener>)>,
    cables: Vec<Cable>,
    stop: bool,
}

impl std::fmt::Debug for SharedFabric {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("SharedFabric").field(&self.shared.name).finish()
    }
}

impl SharedFabric {
    /// A fabric without ports.
    pub(super) fn start(name: &str) -> io::Result<Arc<Self>> {
        let fabric = Fabric::new(FabricConfig { domain: DOMAIN, name: NAME });
        let inner = Inner { fabric, listeners: Vec::new(), cables: Vec::new(), stop: false };
        let shared = Arc::new(Shared { name: name.into(), wake: Arc::new(Wake::new()?), inner: Mutex::new(inner) });
        let run = Arc::clone(&shared);
        let thread = thread::Builder::new().name("lunette-fabric".into()).spawn(move || run.run())?;
        Ok(Arc::new(Self { shared, thread: Mutex::new(Some(thread)) }))
    }

    /// Plugs an end into a port of the switch, the lowest free one if none is named.
    pub(super) fn attach(&self, number: Option<u8>, end: WireEnd) -> Result<PortId, String> {
        self.shared.attach(&mut self.shared.lock(), number, end)
    }

    /// Plugs whoever connects to a socket into the switch.
    pub(super) fn listen(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.shared.lock();
        if inner.listeners.iter().any(|(listening, _)| listening == path) {
            return Ok(());
        }
        inner.listeners.push((path.to_owned(), Arc::new(Listener::bind(path)?)));
        self.shared.wake.wake();
        Ok(())
    }
}

impl Drop for SharedFabric {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
        self.shared.wake.wake();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn attach(&self, inner: &mut Inner, number: Option<u8>, end: WireEnd) -> Result<PortId, String> {
        let wake = Arc::clone(&self.wake);
        end.set_wake(Box::new(move || wake.wake()));
        let attached = inner.fabric.attach_at(number, end).ok_or_else(|| match number {
            Some(number) => format!("switch port {number} of fabric {} is taken", self.name),
            None => format!("fabric {} has no switch port left", self.name),
        });
        self.wake.wake();
        attached
    }

    fn run(&self) {
        loop {
            self.wake.take();
            let (due, listeners) = {
                let mut inner = self.lock();
                if inner.stop {
                    return;
                }
                inner.cables.retain(|cable| !cable.is_over());
                inner.fabric.drive(Instant::now());
                let listeners: Vec<Arc<Listener>> = inner.listeners.iter().map(|(_, l)| Arc::clone(l)).collect();
                (inner.fabric.poll_timeout(), listeners)
            };
            let mut wait = due.map(|due| due.saturating_duration_since(Instant::now()));
            if !self.wake.may_sleep() {
                wait = Some(Duration::ZERO);
            }
            let descriptors = listeners.iter().map(|listener| listener.as_fd());
            for ready in self.wake.sleep(wait, descriptors) {
                if let Some((socket, hello)) = listeners.get(ready).and_then(|listener| listener.accept()) {
                    self.take_cable(socket, hello);
                }
            }
        }
    }

    fn take_cable(&self, socket: std::os::fd::OwnedFd, hello: Hello) {
        let (ours, theirs) = fct::soft::Wire::new(1).ends();
        let mut inner = self.lock();
        // The port that is wished for may be taken: any other does as well.
        let attached = match self.attach(&mut inner, hello.switch_port, ours) {
            Err(_) if hello.switch_port.is_some() => {
                let (ours, again) = fct::soft::Wire::new(1).ends();
                self.attach(&mut inner, None, ours).map(|id| (id, again))
            }
            attached => attached.map(|id| (id, theirs)),
        };
        let started =
            attached.and_then(|(id, end)| Cable::serve(socket, end).map_err(|e| e.to_string()).map(|c| (id, c)));
        match started {
            Ok((id, cable)) => {
                tracing::info!(fabric = self.name, address = %id, "a cable is plugged in");
                inner.cables.push(cable);
            }
            Err(reason) => tracing::warn!(fabric = self.name, "turned a cable away: {reason}"),
        }
    }
}

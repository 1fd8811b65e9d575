//! Fibre Channel ports: a thread for each adapter, made from the configuration and following its changes.

mod initiator;
mod report;
mod runner;

use super::Host;
use super::seen::Seen;
use crate::admin::LiveError;
use crate::admin::fibre_channel::{FcPortInfo, FcQuestions};
use crate::audit::AuditLog;
use crate::driver::Blocking;
use crate::fc::{FcDrivers, FcMode, FcPort};
use crate::model::Configuration;
use runner::{Role, Runner};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::Stmf;
use stmf::provider::hba::Wwn;
use stmf::traffic::Registry;

/// What threads of adapters need of the server.
#[derive(Clone)]
pub(super) struct Surroundings {
    pub(super) stmf: Arc<Stmf>,
    pub(super) pool: Blocking,
    pub(super) seen: Arc<Seen>,
    pub(super) audit: Option<Arc<AuditLog>>,
    /// Where their traffic is counted. It stays when a port goes, as what units have done does.
    pub(super) traffic: Arc<Registry>,
    /// Called by a thread that ends unasked.
    pub(super) on_failure: Arc<dyn Fn() + Send + Sync>,
}

/// The adapters that are open, or should be.
pub(super) struct FcPorts {
    drivers: FcDrivers,
    surroundings: Surroundings,
    ports: Mutex<BTreeMap<Wwn, Entry>>,
}

struct Entry {
    port: FcPort,
    runner: Result<Runner, String>,
}

impl FcPorts {
    pub(super) fn new(drivers: FcDrivers, surroundings: Surroundings) -> Self {
        Self { drivers, surroundings, ports: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Wwn, Entry>> {
        self.ports.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens and closes adapters until they are those of the configuration.
    fn follow(&self, wanted: &BTreeMap<Wwn, FcPort>) {
        let mut ports = self.lock();
        // What goes, goes first: what comes may take its place on a switch.
        ports.retain(|name, entry| wanted.get(name) == Some(&entry.port));
        for (name, port) in wanted {
            ports.entry(*name).or_insert_with(|| {
                let runner = self.open(port);
                if let Err(reason) = &runner {
                    tracing::warn!("Fibre Channel port {name}: {reason}");
                }
                Entry { port: port.clone(), runner }
            });
        }
    }

    /// Tries adapters again that could not be opened or have failed; `true` while there are any to look after.
    fn retry(&self) -> bool {
        let mut ports = self.lock();
        for entry in ports.values_mut() {
            if let Some(reason) = entry.runner.as_ref().ok().and_then(Runner::failure) {
                // It is closed before it is opened anew.
                entry.runner = Err(reason);
            }
            if entry.runner.is_err() {
                entry.runner = self.open(&entry.port);
                if entry.runner.is_ok() {
                    tracing::info!("Fibre Channel port {} is open now", entry.port.port_name);
                }
            }
        }
        !ports.is_empty()
    }

    fn open(&self, port: &FcPort) -> Result<Runner, String> {
        self.drivers.check(port)?;
        let driver = self.drivers.find(&port.driver).ok_or("there is no such driver")?;
        Runner::start(port, driver.as_ref(), &self.surroundings)
    }

    fn with<R>(&self, name: Wwn, work: impl FnOnce(&Runner) -> Result<R, LiveError>) -> Result<R, LiveError> {
        match self.lock().get(&name).map(|entry| &entry.runner) {
            Some(Ok(runner)) => work(runner),
            Some(Err(reason)) => Err(LiveError::Failed(reason.clone())),
            None => Err(LiveError::NotFound),
        }
    }

    /// Closes all.
    pub(super) fn shut_down(&self) {
        std::mem::take(&mut *self.lock());
    }

    /// Whether every thread still does what it is asked.
    pub(super) fn answer(&self) -> bool {
        self.lock()
            .values()
            .filter_map(|entry| entry.runner.as_ref().ok())
            .all(|runner| runner.call(|_, _| ()).is_some())
    }
}

impl Host {
    /// Opens the adapters of the configuration and follows its changes. Called when logical units are up, so that an
    /// initiator which logs in misses none.
    pub(crate) fn follow_fc(&self, configuration: &Configuration) {
        self.fc.follow(&configuration.fc_ports);
        self.tell_ports(configuration);
        self.keeper.wake();
    }

    /// Tries again what could not be opened; `true` while there is something.
    pub(super) fn retry_fc(&self) -> bool {
        self.fc.retry()
    }

    pub(super) fn check_fc(&self, port: &FcPort) -> Result<(), String> {
        self.fc.drivers.check(port)
    }

    pub(super) fn reset_fc(&self, name: Wwn) -> Result<(), LiveError> {
        self.fc.with(name, |runner| {
            let reset = runner.call(|role, now| match role {
                Role::Target(port) => port.reset_link(now),
                Role::Initiator(port) => port.reset_link(now),
            });
            reset.ok_or(LiveError::TimedOut)?.map_err(|error| LiveError::Failed(error.0))
        })
    }

    pub(super) fn plug_fc(&self, name: Wwn, plugged: bool) -> Result<(), LiveError> {
        self.fc.with(name, |runner| match runner.plug() {
            Some(plug) => {
                plug(plugged);
                Ok(())
            }
            None => Err(LiveError::Failed("its cable is not software: unplug it by hand".into())),
        })
    }

    /// The adapters as lists show them.
    pub(super) fn list_fc(&self, questions: FcQuestions) -> Vec<FcPortInfo> {
        let ports = self.fc.lock();
        let info = |entry: &Entry| FcPortInfo {
            port_name: entry.port.port_name.to_string(),
            problem: entry.runner.as_ref().err().cloned(),
            adapter: entry.runner.as_ref().ok().and_then(|runner| report::adapter(&entry.port, runner, questions)),
            ..FcPortInfo::default()
        };
        ports.values().map(info).collect()
    }

    /// The names of the targets that are open.
    pub(super) fn fc_targets(&self) -> Vec<String> {
        let ports = self.fc.lock();
        let open = ports.values().filter(|entry| entry.runner.is_ok() && entry.port.mode == FcMode::Target);
        open.map(|entry| entry.port.port_name.device_name()).collect()
    }
}

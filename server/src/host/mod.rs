//! The live objects of a server: the framework, the iSCSI port provider, the data path, the portals.
//!
//! A host is made from a configuration and follows its changes; it never writes one.

mod fc;
mod interfaces;
mod isns;
mod keeper;
mod live;
mod portals;
mod radius;
mod seen;
#[cfg(feature = "vhost-user")]
mod vhost;
mod worker;

use crate::audit::{AuditLog, LoginLog};
use crate::driver::{Blocking, BlockingJob, BlockingPool, Driver, Interface, Limits, ThreadStatistics};
use crate::fc::FcDrivers;
use crate::model::Configuration;
use fc::{FcPorts, Surroundings};
use iscsit::config::{Config, Target};
use iscsit::{Entropy, Provider, ProviderConfig};
use isns::Isns;
use keeper::Keeper;
use portals::Portals;
use radius::Radius;
use scsi_core::ProtocolId;
use seen::Seen;
use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stmf::provider::{PortError, TargetPort};
use stmf::{State, Stmf, StmfError, TargetInfo, Termination};
use worker::TargetWorker;

/// The name under which targets are registered, as COMSTAR's lists show it.
const PROVIDER: &str = "iscsit";

/// How long sessions may take to log out when their target goes offline; then they are closed.
const LOGOUT_TIME: Duration = Duration::from_secs(5);

/// What a host is started with.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostOptions {
    /// Threads of the data path; `None`: as many as the process may use processors.
    pub(crate) threads: Option<usize>,
    /// The system interface of the data path.
    pub(crate) interface: Interface,
    /// Limits of the data path.
    pub(crate) limits: Limits,
    /// Where logins are kept.
    pub(crate) audit: Option<Arc<AuditLog>>,
    /// Drivers of Fibre Channel adapters.
    pub(crate) fc_drivers: FcDrivers,
}

/// See the module. Stop it by [`shut_down`](Self::shut_down); dropping it breaks connections off.
pub(crate) struct Host {
    // The order is that of dropping: first who may ask for work, last who does it.
    keeper: Keeper,
    fc: FcPorts,
    #[cfg(feature = "vhost-user")]
    vhost: vhost::VhostPorts,
    surroundings: Surroundings,
    driver: Driver<TargetWorker>,
    provider: Arc<Provider>,
    stmf: Arc<Stmf>,
    pool: BlockingPool,
    portals: Mutex<Portals>,
    /// Targets that are not in the configuration any more and whose sessions are ending, and since when.
    leaving: Mutex<Vec<(String, Instant)>>,
    radius: Mutex<Radius>,
    isns: Mutex<Isns>,
    seen: Arc<Seen>,
}

/// What the data path does and has done.
#[derive(Clone, Debug, serde::Serialize)]
#[non_exhaustive]
pub struct DataPathStatistics {
    /// The system interface in use: `io_uring` or `epoll`.
    pub interface: &'static str,
    /// Connections that have not logged in.
    pub half_open: usize,
    /// Threads that carry out store operations which may wait, now.
    pub blocking_threads: usize,
    /// Each thread of the data path.
    pub threads: Vec<ThreadStatistics>,
}

struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        // Linux's getrandom fails only before it exists; a challenge must not be guessable then either.
        if let Err(error) = getrandom::fill(bytes) {
            tracing::error!(%error, "the system gives no random bytes");
            std::process::abort();
        }
    }
}

/// Time and randomness for logical units.
impl stmf::provider::Host for SystemEntropy {
    fn now(&self) -> Instant {
        Instant::now()
    }

    fn unix_time(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    fn fill_random(&self, bytes: &mut [u8]) {
        self.fill(bytes);
    }
}

/// A target's port: logins come by the data path, which asks the framework whether the target is online.
#[derive(Debug)]
struct IscsiPort;

impl TargetPort for IscsiPort {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("portals", &self.portals).finish_non_exhaustive()
    }
}

impl Host {
    /// Live objects of `configuration`, without logical units and portals. `on_failure` is called when a thread of
    /// the data path ends unasked.
    ///
    /// # Errors
    /// The system refuses threads or descriptors.
    pub(crate) fn start(
        options: &HostOptions,
        configuration: &Configuration,
        on_failure: impl Fn() + Clone + Send + Sync + 'static,
    ) -> io::Result<Arc<Self>> {
        let pool = BlockingPool::new(&options.limits);
        let leftovers: Blocking = pool.handle();
        let stmf = Stmf::new(
            configuration.stmf.clone(),
            Box::new(move |job| leftovers.submit(BlockingJob::Other(Box::new(|| job.run())))),
        );
        stmf.set_host(Arc::new(SystemEntropy));
        let provider = Provider::new(
            Arc::clone(&stmf),
            ProviderConfig {
                limits: iscsit::Limits::default(),
                connection: iscsi_proto::target::ConnectionConfig::default(),
                session: iscsi_proto::target::SessionConfig::default(),
                entropy: Box::new(SystemEntropy),
                unix_time: Box::new(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())),
            },
        );
        let audit = options.audit.as_ref().map(|file| Arc::new(LoginLog::new(Arc::clone(file), pool.handle())));
        let seen = Arc::new(Seen::default());
        let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        let failed = on_failure.clone();
        let driver = Driver::start(
            threads,
            options.interface,
            &options.limits,
            &pool.handle(),
            |_, wake| TargetWorker::new(&provider, wake, audit.clone(), Arc::clone(&seen)),
            on_failure,
        )?;
        let surroundings = Surroundings {
            stmf: Arc::clone(&stmf),
            pool: pool.handle(),
            seen: Arc::clone(&seen),
            audit: options.audit.clone(),
            traffic: Arc::default(),
            on_failure: Arc::new(failed),
        };
        let fc = FcPorts::new(options.fc_drivers.clone(), surroundings.clone());
        let host = Arc::new_cyclic(|this: &Weak<Self>| Self {
            keeper: Keeper::new(this.clone()),
            fc,
            #[cfg(feature = "vhost-user")]
            vhost: vhost::VhostPorts::default(),
            surroundings,
            driver,
            provider,
            stmf,
            pool,
            portals: Mutex::default(),
            leaving: Mutex::default(),
            radius: Mutex::default(),
            isns: Mutex::default(),
            seen,
        });
        host.keeper.start()?;
        host.tell_ports(configuration);
        host.follow(&configuration.iscsi);
        Ok(host)
    }

    /// Tells the framework the numbers that target ports have been given.
    pub(crate) fn tell_ports(&self, configuration: &Configuration) {
        for target in configuration.iscsi.targets() {
            self.stmf.set_target_ports(target.name.as_str(), &configuration.ports_of(target));
        }
        for port in configuration.fc_targets() {
            let name = port.device_name();
            let number = configuration.ports.get(&name).map(|number| (name.clone(), *number));
            self.stmf.set_target_ports(&name, number.as_slice());
        }
        for name in configuration.vhost_ports.keys() {
            let number = configuration.ports.get(name).map(|number| (name.clone(), *number));
            self.stmf.set_target_ports(name, number.as_slice());
        }
    }

    /// The framework.
    pub(crate) fn stmf(&self) -> &Arc<Stmf> {
        &self.stmf
    }

    /// The iSCSI configuration as it is live.
    pub(crate) fn iscsi(&self) -> Arc<Config> {
        self.provider.config()
    }

    /// Takes over a configuration of the port provider: targets appear and go, portals are opened and closed.
    /// Sessions that are not concerned notice nothing.
    pub(crate) fn follow(&self, config: &Config) {
        self.provider.set_config(Arc::new(config.clone()));
        let registered = self.stmf.targets();
        let ours = registered.iter().filter(|target| target.provider == PROVIDER);
        for gone in ours.filter(|target| config.target(&target.name).is_none()) {
            self.dismiss(&gone.name);
        }
        let known: BTreeSet<&str> = registered.iter().map(|target| target.name.as_str()).collect();
        for target in config.targets() {
            let name = target.name.as_str();
            if known.contains(name) {
                // One that is leaving is not: the keeper registers it anew when it has left.
                let _ = self.stmf.set_target_alias(name, alias(config, target));
            } else {
                self.register(config, target);
            }
        }
        self.radius.lock().unwrap_or_else(PoisonError::into_inner).follow(&self.provider, config.defaults());
        self.follow_portals(config);
        self.keeper.wake();
    }

    /// Tells the iSNS servers which targets take logins, and where.
    fn follow_isns(&self) {
        let config = self.provider.config();
        let defaults = config.defaults();
        let portals = defaults.isns_servers.iter().filter(|_| defaults.isns);
        let servers: Vec<SocketAddr> = portals.map(|portal| portal.address()).collect();
        let nodes = self.provider.advertisement();
        self.isns.lock().unwrap_or_else(PoisonError::into_inner).follow(&servers, &nodes);
    }

    /// What outside of this server does not answer as it should.
    fn troubles(&self) -> Vec<String> {
        let standings = self.isns.lock().unwrap_or_else(PoisonError::into_inner).standings();
        let words = standings.into_iter().filter_map(|(server, standing)| match standing {
            iscsit::isns::Standing::Failing(why) => Some(format!("iSNS server {server}: {why}")),
            _ => None,
        });
        words.collect()
    }

    /// What the data path does and has done.
    pub(crate) fn statistics(&self) -> DataPathStatistics {
        DataPathStatistics {
            interface: self.driver.interface(),
            half_open: self.driver.half_open(),
            blocking_threads: self.pool.threads(),
            threads: self.driver.statistics(),
        }
    }

    /// Where the connections of sessions come from, by nexus.
    fn peers(&self) -> std::collections::HashMap<stmf::NexusId, Vec<SocketAddr>> {
        let workers =
            (0..self.driver.threads()).filter_map(|index| self.driver.call(index, |worker, _| worker.peers()));
        workers.flatten().collect()
    }

    /// Closes all portals, asks every initiator to log out, closes the connections of those that have not after
    /// `grace`, and ends the threads of the data path. Logical units stay registered.
    pub(crate) fn shut_down(&self, grace: Duration) {
        self.keeper.stop();
        self.fc.shut_down();
        #[cfg(feature = "vhost-user")]
        self.vhost.shut_down();
        self.isns.lock().unwrap_or_else(PoisonError::into_inner).shut_down();
        drop(self.driver.shut_down(grace));
    }

    /// Opens sockets for the monitors of virtual machines. Called when logical units are up.
    #[cfg(feature = "vhost-user")]
    pub(crate) fn open_vhost(&self, port: &crate::vhost::VhostPort) -> io::Result<()> {
        self.vhost.open(port, &self.surroundings)
    }

    /// Opens the ports for virtual machines that the configuration has, and follows its changes. Called when logical
    /// units are up.
    #[cfg(feature = "vhost-user")]
    pub(crate) fn follow_vhost(&self, configuration: &Configuration) {
        self.vhost.follow(&configuration.vhost_ports, &self.surroundings);
        self.tell_ports(configuration);
        self.keeper.wake();
    }

    /// Tries again what could not be opened; `true` while there is something.
    fn retry_vhost(&self) -> bool {
        #[cfg(feature = "vhost-user")]
        return self.vhost.retry(&self.surroundings);
        #[cfg(not(feature = "vhost-user"))]
        false
    }

    /// Whether every thread of the data path still does what it is asked. Waits for them, a few seconds at most.
    pub(crate) fn answers(&self) -> bool {
        !self.has_failed()
            && self.fc.answer()
            && (0..self.driver.threads()).all(|index| self.driver.call(index, |_, _| ()).is_some())
    }

    /// Whether a thread of the data path ended unasked.
    pub(crate) fn has_failed(&self) -> bool {
        self.driver.has_failed()
    }

    fn register(&self, config: &Config, target: &Target) {
        let info = TargetInfo {
            name: target.name.to_string(),
            protocol: ProtocolId::ISCSI,
            alias: alias(config, target),
            provider: PROVIDER.into(),
        };
        if let Err(error) = self.stmf.register_target(info, Arc::new(IscsiPort)) {
            // A target of this name by another provider.
            tracing::error!("target {}: {error}", target.name);
        }
    }

    /// Takes a target out: its sessions are asked to log out, and it is forgotten when they have.
    fn dismiss(&self, name: &str) {
        self.stmf.set_target_ports(name, &[]);
        if self.leaving().iter().any(|(leaving, _)| leaving == name) {
            return;
        }
        // It is online, offline, or on its way there: all end offline.
        let _ = self.stmf.offline_target(name, Termination::Logout);
        if self.stmf.unregister_target(name).is_err() {
            self.leaving().push((name.to_owned(), Instant::now()));
        }
    }

    /// Forgets targets whose sessions have gone, and hurries those that take too long. `true` while there are any.
    fn see_off(&self) -> bool {
        let mut leaving = std::mem::take(&mut *self.leaving());
        let mut gone = false;
        leaving.retain(|(name, since)| {
            if since.elapsed() >= LOGOUT_TIME {
                let _ = self.stmf.offline_target(name, Termination::Kill);
            }
            match self.stmf.unregister_target(name) {
                Err(StmfError::Busy(_)) => true,
                _ => {
                    gone = true;
                    false
                }
            }
        });
        let some_left = {
            let mut all = self.leaving();
            all.extend(leaving);
            !all.is_empty()
        };
        if gone {
            // One of that name may have been made again meanwhile.
            let config = self.provider.config();
            for target in config.targets() {
                if self.stmf.target(target.name.as_str()).is_err() {
                    self.register(&config, target);
                }
            }
        }
        some_left
    }

    /// Brings a target to `state` and waits until it is there. `false` if it did not come there in time.
    fn await_target(&self, name: &str, state: State) -> bool {
        let deadline = Instant::now() + 2 * LOGOUT_TIME;
        let mut hurried = false;
        loop {
            match self.stmf.target(name) {
                Ok(target) if target.state == state => return true,
                Err(_) => return state == State::Offline,
                Ok(_) => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            if left < LOGOUT_TIME && !hurried && state == State::Offline {
                hurried = true;
                let _ = self.stmf.offline_target(name, Termination::Kill);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn leaving(&self) -> MutexGuard<'_, Vec<(String, Instant)>> {
        self.leaving.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn alias(config: &Config, target: &Target) -> Option<String> {
    target.alias.clone().or_else(|| config.defaults().alias.clone())
}

//! A running server.

mod access;
mod builder;
mod disk;
mod error;
mod run;
#[cfg(test)]
mod tests;

pub use builder::ServerBuilder;
pub use disk::Disk;
pub use error::{ChangeError, DiskError, RunError, StartError};
pub use run::StopSignals;

use crate::admin::serve_on;
use crate::admin::{Engine, Live, ManagementServer, MetricsServer, SessionInfo, serve};
use crate::config::ServerConfig;
use crate::host::{DataPathStatistics, Host, HostOptions};
use crate::system::Sockets;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stmf::Stmf;
use tokio::sync::Notify;

/// How long initiators may take to log out when a server stops, unless another time is given.
pub const STOP_GRACE: Duration = Duration::from_secs(5);

/// A running server: targets, logical units, sockets, threads.
///
/// There are two ways to one. [`Server::start`] serves what stands in a state directory and is managed through a socket:
/// `lunette serve`. [`Server::builder`] serves disks of the calling program and keeps nothing:
///
/// ```
/// use lunette_server::{Disk, Server};
/// use lu_sbd::store::MemoryStore;
///
/// let server = Server::builder()
///     .disk(Disk::new(MemoryStore::new(64 << 20)))
///     .portal("127.0.0.1:0".parse()?)
///     .start()?;
/// println!("{}", server.url(0)); // iscsi://127.0.0.1:40123/iqn.2026-11.org.lunette:02:.../0
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// Dropping it breaks all connections off; what was acknowledged is safe all the same. [`stop`](Self::stop) is the polite
/// way.
#[derive(Debug)]
pub struct Server {
    // In the order of dropping.
    admin: Option<ManagementServer>,
    metrics: Option<MetricsServer>,
    host: Arc<Host>,
    engine: Option<Arc<Mutex<Engine>>>,
    /// The target that the builder made.
    target: Option<String>,
    failure: Arc<Notify>,
    guids: disk::Guids,
    /// Held while the configuration of targets is changed.
    changing: Mutex<()>,
}

impl Server {
    /// A server of disks of the calling program.
    pub fn builder() -> ServerBuilder {
        ServerBuilder::default()
    }

    /// Serves what stands in a state directory, and its management on a socket.
    ///
    /// Logical units come up before portals are opened, so that an initiator which connects again after a restart misses
    /// none of them.
    ///
    /// # Errors
    /// [`StartError`] names what stands in the way; nothing is served then.
    pub fn start(config: &ServerConfig) -> Result<Self, StartError> {
        Self::start_with(config, Sockets::default())
    }

    /// As [`start`](Self::start), with sockets that listen already beside those of `config`. A management socket among
    /// them takes the place of the one of `config`, and stays when the server ends.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(config: &ServerConfig, sockets: Sockets) -> Result<Self, StartError> {
        raise_descriptor_limit();
        let engine = Engine::open(&config.state).map_err(StartError::State)?;
        let mut options = HostOptions { threads: config.threads.map(NonZeroUsize::get), ..HostOptions::default() };
        options.limits.poll = config.poll;
        options.interface = config.interface;
        options.audit = Some(engine.audit_log());
        options.fc_drivers = config.fc_drivers.clone();
        let failure: Arc<Notify> = Arc::default();
        let host = start_host(&options, engine.configuration(), &failure)?;
        let engine = Arc::new(Mutex::new(engine));
        let mut server = Self {
            admin: None,
            metrics: None,
            host,
            engine: Some(engine),
            target: None,
            failure,
            guids: disk::Guids::default(),
            changing: Mutex::default(),
        };
        server.take_over(config, sockets)?;
        Ok(server)
    }

    fn take_over(&mut self, config: &ServerConfig, sockets: Sockets) -> Result<(), StartError> {
        let Some(engine) = &self.engine else { return Ok(()) };
        engine.lock().unwrap_or_else(PoisonError::into_inner).attach(Arc::clone(&self.host) as Arc<dyn Live>);
        self.host.follow_fc(engine.lock().unwrap_or_else(PoisonError::into_inner).configuration());
        #[cfg(feature = "vhost-user")]
        self.host.follow_vhost(engine.lock().unwrap_or_else(PoisonError::into_inner).configuration());
        let mut portals = self.host.adopt_default_portals(sockets.portals).map_err(StartError::System)?;
        portals.extend(self.host.open_default_portals(&config.portals)?);
        #[cfg(feature = "vhost-user")]
        for port in &config.vhost_ports {
            let path = port.path.clone();
            self.host.open_vhost(port).map_err(|source| StartError::Vhost { path, source })?;
        }
        let admin = match sockets.management {
            Some(listener) => serve_on(Arc::clone(engine), listener, None),
            None => serve(Arc::clone(engine), &config.socket),
        };
        let admin = admin.map_err(|source| StartError::Socket { path: config.socket.clone(), source })?;
        self.admin = Some(admin);
        if let Some(address) = config.metrics {
            let metrics = MetricsServer::start(Arc::clone(engine), address);
            self.metrics = Some(metrics.map_err(|source| StartError::Metrics { address, source })?);
        }
        let interface = self.host.statistics().interface;
        for portal in portals {
            tracing::info!(%portal, interface, "listening");
        }
        Ok(())
    }

    /// The addresses of the default portal group, as they were bound.
    pub fn portals(&self) -> Vec<SocketAddr> {
        self.host.default_portals()
    }

    /// Portals of portal groups that cannot be listened on now, and why; they are tried again.
    pub fn failed_portals(&self) -> Vec<(SocketAddr, String)> {
        self.host.failed_portals()
    }

    /// The target that [`Server::builder`] made; `None` for a server of a state directory.
    pub fn target(&self) -> Option<&str> {
        self.target.as_deref()
    }

    /// The URL of a logical unit of the builder's target at the first portal, as libiscsi and QEMU take it.
    pub fn url(&self, lun: u16) -> String {
        let portal = self.portals().first().map_or_else(|| "127.0.0.1:0".into(), SocketAddr::to_string);
        format!("iscsi://{portal}/{}/{lun}", self.target.as_deref().unwrap_or_default())
    }

    /// The operations of the management API; `None` for a server of the builder.
    pub fn engine(&self) -> Option<&Arc<Mutex<Engine>>> {
        self.engine.as_ref()
    }

    /// The framework: who sees what.
    pub fn stmf(&self) -> &Arc<Stmf> {
        self.host.stmf()
    }

    /// The sessions, oldest first.
    pub fn sessions(&self) -> Vec<SessionInfo> {
        self.host.sessions()
    }

    /// What the data path does and has done.
    pub fn statistics(&self) -> DataPathStatistics {
        self.host.statistics()
    }

    /// Whether a thread of the data path ended unasked: the server should be stopped and started anew.
    pub fn has_failed(&self) -> bool {
        self.host.has_failed()
    }

    /// Stops: takes no connections any more, asks every initiator to log out, closes after `grace` the connections of
    /// those that have not, finishes what was begun at the stores and flushes them.
    pub fn stop_within(mut self, grace: Duration) {
        self.end(grace);
    }

    /// As [`stop_within`](Self::stop_within) with [`STOP_GRACE`].
    pub fn stop(self) {
        self.stop_within(STOP_GRACE);
    }

    fn end(&mut self, grace: Duration) {
        // No change of the configuration from now on.
        self.admin = None;
        self.metrics = None;
        self.host.shut_down(grace);
        if let Some(engine) = self.engine.take() {
            engine.lock().unwrap_or_else(PoisonError::into_inner).shut_down();
        }
        self.remove_all_disks();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end(Duration::ZERO);
    }
}

fn start_host(
    options: &HostOptions,
    configuration: &crate::model::Configuration,
    failure: &Arc<Notify>,
) -> Result<Arc<Host>, StartError> {
    let told = Arc::clone(failure);
    Host::start(options, configuration, move || told.notify_one()).map_err(StartError::System)
}

/// Each connection is a descriptor: takes as many as the system allows.
fn raise_descriptor_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum
        && let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
    {
        tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit of open files");
    }
}

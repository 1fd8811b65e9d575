//! Where a server keeps its state and where it listens.

use crate::driver::Interface;
use crate::fc::FcDrivers;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::Duration;

/// The port of the default portal group.
pub const DEFAULT_PORT: u16 = iscsit::config::ISCSI_PORT;

/// What is given to a server at its start, as opposed to what an administrator configures while it runs.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// The state directory, made if missing.
    pub state: PathBuf,
    /// The management socket.
    pub socket: PathBuf,
    /// The portals of the default portal group (tag 1).
    pub portals: Vec<SocketAddr>,
    /// Where OpenMetrics are served, if anywhere.
    pub metrics: Option<SocketAddr>,
    /// Threads of the data path; one per core if not given.
    pub threads: Option<NonZeroUsize>,
    /// How long a thread of the data path looks for work before it sleeps; zero, the default, sleeps at once. More
    /// buys latency with processor time.
    pub poll: Duration,
    /// The system interface of the data path.
    pub interface: Interface,
    /// The drivers of Fibre Channel adapters.
    pub fc_drivers: FcDrivers,
    /// Sockets for the monitors of virtual machines on this host.
    #[cfg(feature = "vhost-user")]
    pub vhost_ports: Vec<crate::vhost::VhostPort>,
    /// What is logged, in the syntax of `tracing`'s filters: `info`, `lunette_server=debug,warn` ...
    pub log: String,
}

impl Default for ServerConfig {
    /// The places of [`default_state`] and [`default_socket`], every address on port 3260, no metrics.
    fn default() -> Self {
        Self {
            state: default_state(),
            socket: default_socket(),
            portals: vec![
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), DEFAULT_PORT),
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), DEFAULT_PORT),
            ],
            metrics: None,
            threads: None,
            poll: Duration::ZERO,
            interface: Interface::default(),
            fc_drivers: FcDrivers::default(),
            #[cfg(feature = "vhost-user")]
            vhost_ports: Vec::new(),
            log: "info".into(),
        }
    }
}

/// `$LUNETTE_STATE`, else `/var/lib/lunette` for root, else `$XDG_STATE_HOME/lunette`, by default
/// `~/.local/state/lunette`.
pub fn default_state() -> PathBuf {
    if let Some(path) = variable("LUNETTE_STATE") {
        path
    } else if is_root() {
        "/var/lib/lunette".into()
    } else {
        let home = || variable("HOME").unwrap_or_else(|| "/".into());
        variable("XDG_STATE_HOME").unwrap_or_else(|| home().join(".local/state")).join("lunette")
    }
}

/// `$LUNETTE_SOCKET`, else `/run/lunette.sock` for root, else `$XDG_RUNTIME_DIR/lunette.sock`; without a runtime
/// directory `lunette.sock` in the state directory, which nobody else can write to.
pub fn default_socket() -> PathBuf {
    if let Some(path) = variable("LUNETTE_SOCKET") {
        path
    } else if is_root() {
        "/run/lunette.sock".into()
    } else {
        variable("XDG_RUNTIME_DIR").unwrap_or_else(default_state).join("lunette.sock")
    }
}

fn variable(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

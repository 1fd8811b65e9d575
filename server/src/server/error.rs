//! Why a server does not start, and why it ended.

use crate::config_store::StoreError;
use crate::driver::ListenError;
use lu_sbd::properties::PropertyError;
use std::io;
use std::path::PathBuf;

/// Why a server does not start. The text names the thing and the reason, [`hint`](Self::hint) the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The configuration in the state directory.
    #[error(transparent)]
    State(StoreError),
    /// A portal.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The management socket.
    #[error("cannot serve the management socket {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The address for metrics.
    #[error("cannot serve metrics at {address}: {source}")]
    Metrics {
        /// The address.
        address: std::net::SocketAddr,
        /// The system's reason.
        source: io::Error,
    },
    /// A socket for virtual machines.
    #[cfg(feature = "vhost-user")]
    #[error("cannot serve virtual machines at {}: {source}", path.display())]
    Vhost {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Threads or descriptors.
    #[error("cannot start the data path: {0}")]
    System(io::Error),
    /// The target of the builder.
    #[error(transparent)]
    Target(#[from] iscsit::config::ConfigError),
    /// A disk of the builder.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

impl StartError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::State(error) => Some(error.hint()),
            Self::Listen(error) => error.hint(),
            Self::Socket { path, source } => Some(match source.kind() {
                io::ErrorKind::AddrInUse => {
                    format!("a server is running: stop it, or give another --socket than {}", path.display())
                }
                io::ErrorKind::NotFound => "make its directory, or give --socket PATH".into(),
                io::ErrorKind::PermissionDenied => "choose a place that you may write to with --socket PATH".into(),
                io::ErrorKind::AlreadyExists => format!("move {} away, or give --socket PATH", path.display()),
                _ => return None,
            }),
            Self::Metrics { .. } => {
                Some("give an address of this machine that is free with --metrics ADDR:PORT".into())
            }
            #[cfg(feature = "vhost-user")]
            Self::Vhost { path, .. } => {
                Some(format!("make the directory of {}, or give another path with --vhost-user", path.display()))
            }
            Self::System(_) => Some("see the limits of the process ('ulimit -a') and of its control group".into()),
            Self::Target(_) => None,
            Self::Disk(error) => error.hint(),
        }
    }
}

/// Why a disk is not added.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DiskError {
    /// A property of it.
    #[error(transparent)]
    Property(#[from] PropertyError),
    /// A logical unit of its name exists.
    #[error("logical unit {0:X} exists already")]
    Exists(stmf::Guid),
    /// The framework refuses it.
    #[error(transparent)]
    Refused(#[from] stmf::StmfError),
    /// Its LUN is taken, or none is free.
    #[error(transparent)]
    View(#[from] stmf::ConfigError),
    /// The server keeps a configuration, in which the disk would not stand.
    #[error("the server is managed by a state directory: logical units are created through its engine")]
    Managed,
}

impl DiskError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Property(error) => Some(error.hint().to_owned()).filter(|hint| !hint.is_empty()),
            Self::View(error) => Some(error.hint()).filter(|hint| !hint.is_empty()),
            Self::Exists(_) => Some("give each disk a name of its own, or none".into()),
            Self::Refused(_) | Self::Managed => None,
        }
    }
}

/// Why the configuration of targets is not changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// The change is refused.
    #[error(transparent)]
    Refused(#[from] iscsit::config::ConfigError),
    /// The server keeps a configuration, in which the change would not stand.
    #[error("the server is managed by a state directory: targets are configured through its engine")]
    Managed,
}

/// How a server ended that was to run until it is told to stop.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A thread of the data path ended unasked; the log tells why.
    #[error("a thread of the data path has failed")]
    DataPath,
    /// A second signal came before all initiators had logged out.
    #[error("stopped at once by a second signal")]
    Forced,
    /// Signals cannot be waited for.
    #[error("cannot wait for signals: {0}")]
    Signals(io::Error),
}

//! The Lunette server: sockets, threads, the configuration store and the commands.
//!
//! - [`Server`]: a running server, of a state directory or of disks of the calling program.
//! - [`ServerConfig`]: where a server keeps its state and where it listens.
//! - [`model`]: everything an administrator configures, as one value; [`config_store`] keeps it on disk.
//! - [`admin`]: the operations on it, the management API on a Unix socket, and its client.
//! - [`fc`]: Fibre Channel ports, and how a driver's author adds an adapter.
//! - `vhost`: sockets for the monitors of virtual machines on this host.
//! - [`cli`]: `lunette` and the commands of COMSTAR.

pub mod admin;
mod audit;
pub mod cli;
mod clock;
mod config;
pub mod config_store;
mod driver;
pub mod fc;
mod host;
pub mod model;
mod server;
mod system;
mod unix_socket;
pub mod vhost;

pub use config::{DEFAULT_PORT, ServerConfig, default_socket, default_state};
pub use driver::{Interface, Limits, ListenError, ThreadStatistics, UnknownInterface};
pub use host::DataPathStatistics;
pub use server::{ChangeError, Disk, DiskError, RunError, STOP_GRACE, Server, ServerBuilder, StartError, StopSignals};
pub use system::Sockets;

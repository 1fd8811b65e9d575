//! The Lunette server: sockets, threads, the configuration store and the commands.
//!
//! - [`ServerConfig`]: where a server keeps its state and where it listens.
//! - [`model`]: everything an administrator configures, as one value; [`config_store`] keeps it on disk.
//! - [`admin`]: the operations on it, the management API on a Unix socket, and its client.
//! - [`cli`]: `lunette` and the commands of COMSTAR.

pub mod admin;
pub mod cli;
mod config;
pub mod config_store;
#[allow(dead_code, unused_imports, reason = "the composition that uses it follows")]
mod driver;
pub mod model;

pub use config::{DEFAULT_PORT, ServerConfig, default_socket, default_state};
pub use driver::{Interface, Limits, ListenError, ThreadStatistics};

//! The Lunette server: sockets, threads, the configuration store and the commands.

#[allow(dead_code, unused_imports, reason = "the composition that uses it follows")]
mod driver;

pub use driver::{Limits, ListenError, ThreadStatistics};

//! Whole servers under trial: what only shows with real sockets, many sessions and much time.
//!
//! - [`soak`]: mixed load from many sessions with faults, for as long as one likes; every byte is checked, and what the
//!   server holds of the system's resources is sampled.
//! - [`crowd`]: peers by the thousand, and a neighbour that measures.
//! - [`fuzz_targets`]: the management, its files and the sockets of a server under any bytes.
//!
//! Unpublished.
#![forbid(unsafe_code)]

pub mod crowd;
pub mod fuzz_targets;
mod fuzz_vhost;
pub mod latency;
pub mod process;
pub mod soak;

//! Adapters in software: ports joined in memory, for tests, the simulator and demonstration.
//!
//! A [`Wire`] joins two ends. An end is an adapter ([`SoftHba`]), at either level, or a port of a [`Fabric`]. The wire
//! loses and reorders frames at random from a seed, and goes down and up when told.

mod fabric;
mod hba;
mod wire;

pub use fabric::{Fabric, FabricConfig};
pub use hba::{SoftHba, SoftHbaConfig};
pub use wire::{Faults, Wire, WireEnd};

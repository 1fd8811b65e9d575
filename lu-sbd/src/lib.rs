//! Block logical units: SCSI commands turned into store operations; memory, file and block device stores.
//!
//! - [`store`]: what data is kept in: the [`BackingStore`] trait for own stores, and memory, file and block device
//!   stores. The only part of this crate that touches the system.
#![deny(unsafe_code)]

pub mod store;

pub use store::{AsyncStore, BackingStore, Capabilities};

//! Block logical units: SCSI commands turned into store operations; memory, file and block device stores.
//!
//! - [`store`]: what data is kept in: the [`BackingStore`] trait for own stores, and memory, file and block device
//!   stores.
//! - [`meta`]: what is kept beside the data: the identity of a unit, its saved mode pages and reservations.
//! - [`properties`]: the properties of `create-lu` and `modify-lu`, and their validation.
//!
//! Only `store` and the record file of `meta` touch the system.
#![deny(unsafe_code)]

pub mod meta;
pub mod properties;
pub mod store;

pub use store::{AsyncStore, BackingStore, Capabilities};

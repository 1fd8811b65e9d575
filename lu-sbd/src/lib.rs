//! Block logical units: SCSI commands turned into store operations; memory, file and block device stores.
//!
//! - [`SbdLu`]: a unit with its store, as STMF registers it; [`Lu`]: the state machine inside, without I/O.
//! - [`store`]: what data is kept in: the [`BackingStore`] trait for own stores, and memory, file and block device
//!   stores.
//! - [`meta`]: what is kept beside the data: the identity of a unit, its saved mode pages and reservations.
//! - [`properties`]: the properties of `create-lu` and `modify-lu`, and their validation.
//!
//! Only `store` and the record file of `meta` touch the system.
#![deny(unsafe_code)]

mod lu;
pub mod meta;
mod neighbours;
pub mod properties;
mod rates;
mod sbd;
pub mod store;

pub use lu::{Limits, Lu, LuSnapshot, Statistics};
pub use rates::{IoLimits, MAX_BANDWIDTH, MAX_IOPS};
pub use sbd::{Clock, ModifyError, Reopen, SbdLu};
pub use store::{AsyncStore, BackingStore, Capabilities};

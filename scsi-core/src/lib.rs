//! SAM, SPC and SBC as values: commands, sense, VPD and mode pages, reservations; no transport, no store.
#![forbid(unsafe_code)]

pub mod cdb;
pub mod command;
pub mod data;
pub mod inquiry;
pub mod log;
pub mod mode;
pub mod reservation;
pub mod task_set;
pub mod vpd;

mod asc;
mod bytes_util;
mod designator;
mod guid;
mod lun;
mod sense;
mod status;
mod task_management;
mod transport_id;

pub use cdb::{Cdb, CdbLengthError, fixed_length};
pub use designator::{Association, Designator, DesignatorName, ProtocolId};
pub use guid::{Guid, GuidError, GuidHost};
pub use lun::{AddressMethod, Lun};
pub use sense::{AdditionalSense, FieldPointer, SenseData, SenseFormat, SenseKey, SenseSpecific};
pub use status::Status;
pub use task_management::{TaskAttribute, TaskManagementFunction, TaskManagementResponse};
pub use transport_id::{TransportId, TransportIdError};

//! SAM, SPC and SBC as values: commands, sense, VPD and mode pages, reservations; no transport, no store.
#![forbid(unsafe_code)]

mod lun;
mod status;
mod task_management;

pub use lun::Lun;
pub use status::Status;
pub use task_management::{TaskAttribute, TaskManagementFunction, TaskManagementResponse};

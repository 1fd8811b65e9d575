//! The SCSI target mode framework: who sees which logical unit, and what happens to a task.
#![forbid(unsafe_code)]

mod answer;
pub mod config;
mod error;
mod groups;
pub mod guid;
pub mod intercept;
mod lun_map;
mod name;
mod nexus;
pub mod provider;
mod session;
mod stmf;
#[cfg(test)]
mod test_support;
pub mod traffic;
mod view;

pub use error::ConfigError;
pub use lun_map::{LunMap, MappedLu};
pub use name::{DeviceName, MAX_ISCSI_NAME};
pub use nexus::{Nexus, NexusId, TaskId, TaskTag};
pub use scsi_core::Guid;
pub use session::{CounterValues, Counters, LuCall, Session, Termination};
pub use stmf::{
    ExplainedLun, Explanation, HiddenLun, HiddenReason, LoginRefusal, LuStatus, SessionInfo, SessionRequest, State,
    Stmf, StmfError, StoreJob, StoreRunner, TargetInfo, TargetStatus, explain_views, port_group_number,
};

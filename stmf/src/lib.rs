//! The SCSI target mode framework: who sees which logical unit, and what happens to a task.
#![forbid(unsafe_code)]

pub mod config;
mod error;
mod groups;
pub mod guid;
mod name;
mod nexus;
pub mod provider;
mod view;

pub use error::ConfigError;
pub use name::{DeviceName, MAX_ISCSI_NAME};
pub use nexus::{Nexus, NexusId, TaskId, TaskTag};
pub use scsi_core::Guid;

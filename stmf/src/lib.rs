//! The SCSI target mode framework: who sees which logical unit, and what happens to a task.
#![forbid(unsafe_code)]

mod nexus;
pub mod provider;

pub use nexus::{Nexus, NexusId, TaskId, TaskTag};

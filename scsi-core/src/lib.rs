//! SAM, SPC and SBC as values: commands, sense, VPD and mode pages, reservations; no transport, no store.
//!
//! | Module | What is in it |
//! |---|---|
//! | [`command`] | the one table of commands; [`command::parse`] checks a CDB against it; [`command::CommandSet`] |
//! | [`cdb`] | the fields of each command, in both directions |
//! | [`data`] | parameter data: capacities, LUNs, operation codes, port groups, UNMAP and copy lists, tokens |
//! | [`inquiry`], [`vpd`], [`mode`], [`log`] | what a device tells about itself, and what can be set |
//! | [`reservation`] | RESERVE, RELEASE and persistent reservations as one model |
//! | [`task_set`] | when a task may run, what aborts and errors do to others |
//! | here | [`Lun`], [`Status`], [`SenseData`], task attributes and task management, [`Designator`], [`Guid`], [`TransportId`], [`Cdb`] |
//!
//! Codes from registries are newtypes or have a variant for what is not known, so that nothing is lost on the way
//! through. Encoders give the whole data (the device server cuts it at the allocation length), decoders take what any
//! peer may send and answer `None` or sense data, never a panic.
//!
//! ```
//! use scsi_core::cdb::Read;
//! use scsi_core::command::{Command, CommandSet, parse};
//! use scsi_core::SenseData;
//!
//! // The initiator's side writes a CDB ...
//! let read = Read { lba: 8, blocks: 16, fua: true, ..Read::default() };
//! let cdb = read.to_cdb(10).expect("it fits the ten-byte form");
//!
//! // ... and the device server reads it.
//! let supported = CommandSet::all();
//! let parsed = parse(&cdb, supported)?;
//! assert_eq!(parsed.command, Command::Read(read));
//! assert_eq!(parsed.data_phase(512).length, 16 * 512);
//!
//! // A reserved bit is answered with a pointer to it.
//! let mut wrong = cdb.to_array();
//! wrong[1] |= 0x20;
//! assert_eq!(parse(&wrong, supported), Err(SenseData::invalid_field_in_cdb(1, Some(5))));
//! # Ok::<(), SenseData>(())
//! ```
#![forbid(unsafe_code)]

pub mod cdb;
pub mod command;
pub mod data;
pub mod inquiry;
pub mod log;
pub mod mode;
#[doc(hidden)]
pub mod mutation;
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

//! An in-process port: sessions and commands without a wire, for tests and embedding.
//!
//! A [`Port`] is a target of the framework like any other: host groups, target groups and view entries decide what its
//! sessions see, units attach and detach, reservations and unit attentions know its initiators by their names.
//!
//! - [`Session`]: sans-IO. Commands in, store operations and outcomes out.
//! - [`Client`]: blocking, on a session; store operations run in the calling thread.
//! - [`alone`]: a client of one unit, with nothing else around it.
//!
//! ```
//! use lu_sbd::store::MemoryStore;
//! use lu_sbd::{Limits, SbdLu, meta::NoRecord, properties::CreateProperties};
//! use lunette_loopback::{Command, alone};
//! use scsi_core::cdb::Read;
//! use scsi_core::{Guid, GuidHost, SenseKey, Status};
//! use std::{path::Path, sync::Arc};
//!
//! let guid = Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, 1);
//! let identity = CreateProperties::default().identity(guid, Path::new("ram"), 1 << 20)?;
//! let lu = SbdLu::new(identity, Arc::new(MemoryStore::new(1 << 20)), Arc::new(NoRecord), Limits::default());
//! let client = alone(Arc::new(lu))?;
//!
//! // The first command meets the unit attention of a unit that has just come up, the second one reads.
//! let read = Read { lba: 2, blocks: 1, ..Read::default() }.to_cdb(10).unwrap();
//! let command = || Command::new(0, read.as_bytes()).with_data_in(512);
//! assert_eq!(client.execute(command())?.sense.unwrap().key, SenseKey::UNIT_ATTENTION);
//! let outcome = client.execute(command())?;
//! assert_eq!((outcome.status, outcome.data.len()), (Status::GOOD, 512));
//!
//! // Past the end: CHECK CONDITION with the address.
//! let read = Read { lba: 4096, blocks: 1, ..Read::default() }.to_cdb(10).unwrap();
//! let outcome = client.execute(Command::new(0, read.as_bytes()).with_data_in(512))?;
//! let words = "ILLEGAL REQUEST, 21h/00h LOGICAL BLOCK ADDRESS OUT OF RANGE, information 0x1000";
//! assert_eq!(outcome.sense.unwrap().to_string(), words);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]

mod client;
mod inbox;
mod port;
mod session;

pub use client::{Client, ClientError};
pub use inbox::Wake;
pub use port::{OpenError, Port, alone};
pub use session::{Command, Event, Outcome, Session, StoreJob};

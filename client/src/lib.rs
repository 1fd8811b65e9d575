//! An iSCSI initiator as a library: disks over the network, without a kernel, root or a daemon.
//!
//! - [`Disk`]: blocking; a thread of its own does the I/O. `tokio::Disk` (feature `tokio`): the same, awaited.
//! - [`discover`]: which targets there are.
//! - [`Options`]: the URL, and what a URL cannot say.
//! - Who wants neither sockets nor threads takes [`iscsi_proto::initiator`], on which this is built.
//!
//! ```no_run
//! use lunette_client::{Disk, Operation, discover};
//!
//! for target in discover("iscsi://192.0.2.1")? {
//!     println!("{} at {}", target.name, target.addresses.join(" "));
//! }
//! let disk = Disk::connect("iscsi://user%secret@192.0.2.1/iqn.2026-11.org.example:disk/0")?;
//! // Several at once:
//! let reads = (0..8).map(|i| disk.submit(Operation::Read { offset: i << 20, length: 65536 }));
//! for read in reads.collect::<Result<Vec<_>, _>>()? {
//!     println!("{} bytes", read.wait()?.len());
//! }
//! # Ok::<(), lunette_client::Error>(())
//! ```
//!
//! With digests, a proof that the target is the right one, and a name of our own:
//! `iscsi://user%secret@host/target/0?target_user=name&target_password=other&header_digest=crc32c&data_digest=crc32c&initiator=iqn.2026-11.org.example:host`.
#![forbid(unsafe_code)]

mod blocking;
mod core;
mod driver;
mod error;
mod handle;
mod options;
mod outbox;
mod pending;
mod plan;
mod probe;
#[cfg(feature = "tokio")]
pub mod tokio;

pub use blocking::{Disk, discover, discover_with};
pub use error::{Error, UrlError};
pub use iscsi_proto::initiator::{Command, DataIn, DataOut, DiscoveredTarget, LoginError};
pub use iscsi_proto::login::{DigestPreference, Parameters, Preferences};
pub use iscsi_proto::pdu::TaskManagementResponseCode;
pub use options::{DEFAULT_INITIATOR_NAME, Options};
pub use pending::{Data, Pending, Reply};
pub use plan::{Geometry, Operation};
pub use scsi_core::TaskManagementFunction;

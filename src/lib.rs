//! A SCSI target you can embed, and an initiator to go with it.
//!
//! | feature | what it adds |
//! |---|---|
//! | `server` (default) | `Server`: sockets, threads, clocks |
//! | `client` | `client`: disks over the network, blocking |
//! | `tokio` | the client for tokio, `client::tokio` |
//! | `loopback` | `loopback`: sessions and commands in the process, without a wire |
//! | `fc` | `fct`: Fibre Channel targets over an adapter of yours, or one in software |
//!
//! Without features nothing here opens a socket, starts a thread or reads a clock, and each layer is of use alone:
//! [`iscsi_proto`], [`scsi_core`], [`stmf`], [`lu_sbd`], [`iscsit`].
#![forbid(unsafe_code)]

#[cfg(feature = "fc")]
pub use fct;
#[cfg(feature = "client")]
pub use lunette_client as client;
#[cfg(feature = "loopback")]
pub use lunette_loopback as loopback;
#[cfg(feature = "server")]
pub use lunette_server as server;
#[cfg(feature = "server")]
pub use lunette_server::{Disk, Server};
pub use {bytes, iscsi_proto, iscsit, lu_sbd, scsi_core, stmf};

/// What a program with an own store needs.
pub mod prelude {
    pub use lu_sbd::store::{AsyncStore, BackingStore, Capabilities, Error as StoreError, FileStore, MemoryStore};
    #[cfg(feature = "server")]
    pub use lunette_server::{Disk, Server};
    pub use std::io::IoSlice;
}

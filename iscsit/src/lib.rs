//! The iSCSI port provider: [`iscsi_proto`] joined to [`stmf`], without IO.
//!
//! A [`Provider`] holds what all threads share: targets, portals, whom they let in. Each thread drives a [`Worker`]:
//! bytes from sockets and outcomes of store operations in, bytes and store operations out. [`Embedded`] is all of that as
//! one value, for a program with an event loop of its own: a whole target in a few calls, without a socket.
#![forbid(unsafe_code)]

pub mod config;
mod discovery;
mod embedded;
mod inbox;
pub mod isns;
mod limits;
mod notice;
mod provider;
pub mod radius;
mod session_map;
mod worker;

pub use discovery::DefaultPortals;
pub use embedded::{Embedded, EmbeddedError, StoreWork, Surroundings};
pub use inbox::{ProofAnswer, Waker};
pub use limits::Limits;
pub use notice::Notice;
pub use provider::{Entropy, ProofChecker, Provider, ProviderConfig};
pub use session_map::WorkerId;
pub use worker::{
    ConnectionId, Parcel, StoreJob, StoreTicket, TooManyConnections, Unsent, Worker, WorkerEvent, WorkerHandle,
};

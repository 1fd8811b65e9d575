//! The iSCSI port provider: [`iscsi_proto`] joined to [`stmf`], without IO.
//!
//! A [`Provider`] holds what all threads share: targets, portals, whom they let in. Each thread drives a [`Worker`]:
//! bytes from sockets and outcomes of store operations in, bytes and store operations out. A whole target can be driven
//! by a test without a socket.
#![forbid(unsafe_code)]

pub mod config;
mod discovery;
mod inbox;
pub mod isns;
mod limits;
mod notice;
mod provider;
pub mod radius;
mod session_map;
pub mod traffic;
mod worker;

pub use discovery::DefaultPortals;
pub use inbox::{ProofAnswer, Waker};
pub use limits::Limits;
pub use notice::Notice;
pub use provider::{Entropy, ProofChecker, Provider, ProviderConfig};
pub use session_map::WorkerId;
pub use worker::{ConnectionId, Parcel, StoreJob, StoreTicket, TooManyConnections, Worker, WorkerEvent, WorkerHandle};

//! The traits by which logical units and transports meet in STMF.
//!
//! ```text
//!   port provider (iSCSI, FC, loopback)            LU provider (sbd)
//!     Session::submit ------------------------------> LogicalUnit::submit
//!     data that arrived ----------------------------> LogicalUnit::data_out
//!     outcome of a store request -------------------> LogicalUnit::store_done
//!          <------------- Effects: store requests, data to send or receive, completions
//! ```
//!
//! Nothing here blocks, reads a clock or touches a socket: a call goes in, effects come out, and the caller carries
//! each effect to where its nexus lives (its own thread, or the [`Mailbox`] of another).

mod effect;
pub mod hba;
mod lu;
mod port;
mod room;
mod store;
mod target_ports;
mod third_party;

pub use effect::{Completion, Disturbance, Effect, Effects, Mailbox, Segments};
pub use lu::{LogicalUnit, LuTask, NexusLoss, TaskManagementRequest};
pub use port::{PortError, TargetPort};
pub use room::{Landing, Room};
pub use store::{
    StoreCompletion, StoreDone, StoreError, StoreErrorKind, StoreExtent, StoreOp, StoreOutcome, StoreRequest,
    StoreSink, StoreToken, StoreUsage,
};
pub use target_ports::{PortGroup, TargetPorts};
pub use third_party::{CopyEnd, CopyIn, CopyRefusal, CopySource, Host, ROD_TOKEN_BYTES, Rod, Surroundings};

//! The initiator role: logs in, sends commands, gives their outcomes. Sans-IO, the mirror of [`target`](crate::target).
//!
//! A [`Session`] owns its connections. The host opens a transport connection for each, and after any input or operation
//! runs the same loop:
//!
//! ```text
//!   handle_received / handle_closed / handle_timeout / submit ...
//!       then
//!   poll_event until None
//!   poll_transmit for each connection until it appends nothing
//!   poll_timeout: be back by then
//! ```
//!
//! # When a connection is lost
//!
//! At error recovery level 0 a lost connection ends the session, unless others are left and the target has every
//! command of the lost one. Commands then end as [`Outcome::Lost`], for whether they were carried out nobody knows; or,
//! with [`SessionConfig::resubmit`], they wait and are sent anew. The next [`Session::connect`] logs in under the same
//! ISID, so that the target ends what it still has of the old session (session reinstatement, RFC 7143 6.3.5).

mod config;
mod data;
mod event;
mod link;
mod loss;
mod recv;
mod session;
mod tasks;
mod transmit;

pub use crate::login::{InitiatorLoginConfig as LoginConfig, TargetProof};
pub use config::SessionConfig;
pub use data::{DataIn, DataOut};
pub use event::{
    CloseReason, Command, ConnectionKey, DiscoveredTarget, Event, LoginError, Outcome, Response, TaskKey,
    TaskManagement,
};
pub use session::{Session, SubmitError};

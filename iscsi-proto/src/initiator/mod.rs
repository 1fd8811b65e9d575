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
//! A session that was lost is made anew by a new [`Session`] of the same configuration: the ISID is the same, so the
//! target ends the old one (session reinstatement, RFC 7143 6.3.5). Commands that were outstanding end as
//! [`Outcome::Lost`]; whether to send them again only their sender knows.

mod config;
mod data;
mod event;
mod link;
mod login;
mod recv;
mod session;
mod tasks;
mod transmit;

pub use config::SessionConfig;
pub use data::{DataIn, DataOut};
pub use event::{
    CloseReason, Command, ConnectionKey, DiscoveredTarget, Event, LoginError, Outcome, Response, TaskKey,
    TaskManagement,
};
pub use login::{LoginConfig, TargetProof};
pub use session::{Session, SubmitError};

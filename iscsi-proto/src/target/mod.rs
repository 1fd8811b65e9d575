//! The target role: a connection through its login, then the session it belongs to.
//!
//! A [`Connection`] begins with the first byte of a TCP connection. When its login is negotiated it is moved into a
//! [`Session`], a new one ([`Session::establish`]) or one that exists ([`Session::join`]); the session owns its
//! connections from there on and names them by [`ConnectionKey`]. Commands go up as [`Event`]s and are named by
//! [`TaskHandle`]s; their data and status come down by calls.
//!
//! ```text
//!              Connection                                  Session
//!   bytes --> login requests --Identify--> owner     --> Command, DataOut, TaskManagement, SendTargets --> owner
//!   bytes <-- login responses <--accept-------'      <-- request_data, send_data_in, send_status <-----------'
//!                          \--Negotiated--> establish, join
//! ```
//!
//! # Run loop
//!
//! After any input or operation: drain [`Session::poll_event`], then [`Session::poll_transmit`] of each connection that
//! has something to send until it gives 0, drain the events again (sending may let held input through), and ask
//! [`Session::poll_timeout`]. Receive as [`Session::recv_hint`] says; 0 is back-pressure.
//!
//! Time is an argument. Nothing here blocks, and every queue has a limit in [`SessionConfig`].

mod command;
mod config;
mod connection;
mod data_out;
mod event;
mod handle;
mod link;
mod logout;
mod manage;
mod recv;
mod session;
mod tasks;
mod text;
mod timers;
mod transmit;
mod window;

#[cfg(test)]
mod tests;

pub use config::SessionConfig;
pub use connection::{Connection, ConnectionConfig, ConnectionEvent, EnterError};
pub use event::{
    AbortCause, CloseReason, Command, DataArrived, DataOutError, EndReason, Event, SendTargetsScope, TargetRecord,
    TaskManagement, TaskStatus,
};
pub use handle::{ConnectionKey, TaskHandle, TextHandle};
pub use session::Session;

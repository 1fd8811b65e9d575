//! The target role: a connection through its login, then the session it belongs to.
//!
//! [`Event`]s go up, operations come down; commands are named by [`TaskHandle`]s, connections by [`ConnectionKey`]s.
#![allow(dead_code, reason = "the session that uses these types follows")]

mod config;
mod event;
mod handle;
mod window;

pub use config::SessionConfig;
pub use event::{
    AbortCause, CloseReason, Command, DataArrived, DataOutError, EndReason, Event, SendTargetsScope, TargetRecord,
    TaskManagement, TaskStatus,
};
pub use handle::{ConnectionKey, TaskHandle, TextHandle};

//! An iSNS client (RFC 4171), without sockets: targets and portals are registered with a server, kept registered, and
//! deregistered in the end.
//!
//! Left out: state change notifications and discovery domains. They serve initiators that look for targets; a target only
//! has to be found.

mod message;
mod registrar;

pub use message::{ESI_INTERVAL, Message, MessageError, REGISTRATION_PERIOD, answer_esi};
pub use registrar::{Action, Node, Registrar, Registration, Standing};

//! The login phase: parameters, their negotiation, and the state machine of each role (RFC 7143 6.3).

mod identity;
mod initiator;
mod negotiate;
mod parameters;
mod security;
mod target;

pub use identity::{LoginFailure, LoginFault, LoginIdentity, SessionType};
pub use initiator::{InitiatorLogin, InitiatorLoginConfig, LoginNumbers, LoginOutcome, TargetProof};
pub use negotiate::{NegotiationError, Negotiator, TextReply, handle_full_feature_text};
pub use parameters::{
    ConnectionParameters, DigestPreference, Parameters, Preferences, SessionParameters, TaskReporting,
};
pub use security::{AuthPolicy, ChapPolicy, ChapVerifier};
pub use target::{LoginConfig, LoginEvent, LoginPolicy, TargetLogin};

/// The two ends of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sends commands.
    Initiator,
    /// Executes them.
    Target,
}

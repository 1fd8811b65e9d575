//! The login phase: parameters, their negotiation, and the state machine of each role (RFC 7143 6.3).
//!
//! Both roles of a login need no connection, only somebody who carries their PDUs:
//!
//! ```
//! use iscsi_proto::auth::chap::ChallengeMemory;
//! use iscsi_proto::login::*;
//! use iscsi_proto::pdu::{Cid, InitiatorTaskTag, Isid, Tsih};
//! use iscsi_proto::sn::CmdSn;
//!
//! let config = InitiatorLoginConfig::new("iqn.2026-11.org.example:host", Some("iqn.2026-11.org.example:disk"), Isid::default());
//! let numbers = LoginNumbers { tsih: Tsih::NEW, cid: Cid(0), initiator_task_tag: InitiatorTaskTag(1), cmd_sn: CmdSn(1) };
//! let mut initiator = InitiatorLogin::new(config, numbers, None);
//! let mut target = TargetLogin::new(Default::default());
//!
//! let mut sent_challenges = ChallengeMemory::new(16);
//! while let Some(request) = initiator.poll_request() {
//!     target.handle_request(request);
//!     while let Some(event) = target.poll_event() {
//!         match event {
//!             LoginEvent::Identify(_) => target.accept(LoginPolicy::open(Some(1))),
//!             LoginEvent::Negotiated(_) => target.complete(Tsih(7)),
//!             _ => unreachable!("nobody fails and nobody proves anything"),
//!         }
//!     }
//!     while let Some(response) = target.poll_response() {
//!         initiator.handle_response(&response, &mut sent_challenges);
//!     }
//! }
//! let Some(LoginOutcome::Done { parameters, tsih, .. }) = initiator.outcome() else { panic!() };
//! assert_eq!(*tsih, Tsih(7));
//! assert_eq!(parameters.session, target.parameters().session);
//! assert!(!parameters.session.initial_r2t);
//! ```

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

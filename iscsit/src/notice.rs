//! What happened that an administrator may want to know.

use std::fmt;
use std::net::SocketAddr;

use iscsi_proto::pdu::{LoginStatus, Tsih};
use iscsi_proto::target::EndReason;

/// An entry for the log; never holds a secret. `Display` is one line.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Notice {
    /// An initiator logged in.
    LoggedIn {
        /// Its name.
        initiator: String,
        /// The target; `None` for a discovery session.
        target: Option<String>,
        /// From where.
        peer: SocketAddr,
        /// At which portal.
        portal: SocketAddr,
        /// The session.
        tsih: Tsih,
        /// How it proved itself: `none`, or CHAP's algorithm.
        authentication: &'static str,
    },
    /// A login was refused.
    LoginRefused {
        /// The name it gave, if it came to that.
        initiator: Option<String>,
        /// The target it asked for, if it came to that.
        target: Option<String>,
        /// From where.
        peer: SocketAddr,
        /// At which portal.
        portal: SocketAddr,
        /// The status it got; `None` when the connection ended without one.
        status: Option<LoginStatus>,
        /// Why, in words.
        reason: String,
    },
    /// A session ended.
    SessionEnded {
        /// The initiator's name.
        initiator: String,
        /// The target; `None` for a discovery session.
        target: Option<String>,
        /// The session.
        tsih: Tsih,
        /// Why.
        reason: EndReason,
    },
}

impl Notice {
    /// Whether it tells of something that went wrong.
    pub fn is_warning(&self) -> bool {
        matches!(self, Self::LoginRefused { status, .. } if !status.is_some_and(|status| status.is_redirection()))
    }
}

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::LoggedIn { initiator, target, peer, portal, tsih, authentication } => {
                let target = target.as_deref().unwrap_or("discovery");
                write!(f, "{initiator} from {peer} logged in to {target} at {portal} as session {tsih} ")?;
                write!(f, "(authentication {authentication})")
            }
            Self::LoginRefused { initiator, target, peer, portal, status, reason } => {
                let initiator = initiator.as_deref().unwrap_or("an unnamed initiator");
                let target = target.as_deref().unwrap_or("discovery");
                let verb = if status.is_some_and(|status| status.is_redirection()) { "redirected" } else { "refused" };
                write!(f, "{verb} login of {initiator} from {peer} to {target} at {portal}: {reason}")?;
                match status {
                    Some(status) => write!(f, " (status {:02x}{:02x})", status.class(), status.detail()),
                    None => Ok(()),
                }
            }
            Self::SessionEnded { initiator, target, tsih, reason } => {
                let target = target.as_deref().unwrap_or("discovery");
                write!(f, "session {tsih} of {initiator} with {target} ended: {reason}")
            }
        }
    }
}

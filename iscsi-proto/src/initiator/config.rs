//! What an initiator's session is made of.

use std::time::Duration;

use crate::login::{InitiatorLoginConfig, Preferences};

/// Configuration of a [`Session`](super::Session).
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Names, ISID, credentials and wishes for the login.
    pub login: InitiatorLoginConfig,
    /// Requests that may be outstanding or waiting at once; further ones are refused.
    pub max_outstanding: usize,
    /// Send commands anew after a lost connection, instead of ending them as [`Outcome::Lost`](super::Outcome::Lost);
    /// and take commands while there is no connection. Right for reads and writes of a disk, wrong for commands that
    /// must not run twice.
    pub resubmit: bool,
    /// Log out when the target asks for it: new commands go elsewhere or wait, those under way have half of the time
    /// that the target gives. Otherwise the owner is told only, by [`Event::Async`](super::Event::Async).
    pub obey_logout_requests: bool,
    /// How long the answer to a logout may take before the connection is closed without it.
    pub logout_timeout: Duration,
    /// How long a login may take.
    pub login_timeout: Duration,
    /// How long a connection may be silent before it is pinged; zero never pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// About how many bytes one call of `poll_transmit` gives; a call may go over it by one PDU.
    pub transmit_batch_bytes: usize,
    /// Longest answer to SendTargets, in bytes.
    pub max_text_bytes: usize,
}

impl SessionConfig {
    /// The defaults around a login configuration.
    pub fn new(login: InitiatorLoginConfig) -> Self {
        Self {
            login,
            max_outstanding: 1024,
            resubmit: false,
            obey_logout_requests: true,
            logout_timeout: Duration::from_secs(10),
            login_timeout: Duration::from_secs(15),
            ping_interval: Duration::from_secs(5),
            ping_timeout: Duration::from_secs(5),
            transmit_batch_bytes: 1 << 20,
            max_text_bytes: 1 << 20,
        }
    }

    /// The wishes for the negotiation.
    pub fn preferences(&self) -> &Preferences {
        &self.login.preferences
    }
}

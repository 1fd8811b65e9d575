//! What an initiator's session is made of.

use std::time::Duration;

use super::login::LoginConfig;
use crate::login::Preferences;

/// Configuration of a [`Session`](super::Session).
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Names, ISID, credentials and wishes for the login.
    pub login: LoginConfig,
    /// Requests that may be outstanding or waiting at once; further ones are refused.
    pub max_outstanding: usize,
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
    pub fn new(login: LoginConfig) -> Self {
        Self {
            login,
            max_outstanding: 1024,
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

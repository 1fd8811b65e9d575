//! The bounds of what peers can make a worker hold.

use std::time::Duration;

/// Limits of a provider's workers. Those of a single connection and session stand in
/// [`iscsi_proto::target::ConnectionConfig`] and [`iscsi_proto::target::SessionConfig`].
#[derive(Clone, Debug)]
pub struct Limits {
    /// Connections of one worker, logins included. 16384.
    pub connections_per_worker: usize,
    /// Bytes of reads that one session may have under way or unsent before further reads wait: what an initiator that
    /// asks and does not take can make the server hold. At least one read of a chunk is always let through. 4 MiB.
    pub unsent_read_bytes: u64,
    /// Bytes of writes that units of one session may have asked for before further commands are asked for theirs: what an
    /// initiator can make the server hold for a unit that hangs, with one command beyond. 32 MiB.
    pub unwritten_bytes: u64,
    /// How long initiators have to log out when they are asked to, before their connections are closed. 3 s.
    pub logout_grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections_per_worker: 16384,
            unsent_read_bytes: 4 << 20,
            unwritten_bytes: 32 << 20,
            logout_grace: Duration::from_secs(3),
        }
    }
}

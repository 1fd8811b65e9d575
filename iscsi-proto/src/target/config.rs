//! Limits and timers of a session.

use std::time::Duration;

/// Limits and timers of a session. Each queue has its limit here; at the limit the session stops asking for bytes or
/// refuses, it never grows.
///
/// Memory of a session, payloads of writes apart: [`queue_depth`](Self::queue_depth) tasks, and for each connection
/// [`max_transmit_queue`](Self::max_transmit_queue) PDUs, [`max_transmit_bytes`](Self::max_transmit_bytes) of answers
/// to pings and texts, [`max_text_bytes`](Self::max_text_bytes), and what was received in one go. Payloads of writes
/// belong to the owner from their event on; unsolicited ones are at most FirstBurstLength for each task.
#[derive(Clone, Debug)]
pub struct SessionConfig {
    /// Commands that may be open at once, 1 to 16,384: the width of the command window (MaxCmdSN).
    pub queue_depth: u16,
    /// Immediate commands and task management requests that may be open at once. Further ones are rejected.
    pub max_immediate: u16,
    /// PDUs that may wait to be sent on a connection before it stops receiving.
    pub max_transmit_queue: usize,
    /// Bytes of ping and text data that may wait to be sent on a connection before it stops receiving.
    pub max_transmit_bytes: usize,
    /// Events that may wait before the session stops receiving.
    pub max_events: usize,
    /// About how many bytes one call of `poll_transmit` gives; a call may go over it by one PDU.
    pub transmit_batch_bytes: usize,
    /// How many bytes of one read are sent before another task's turn.
    pub transmit_quantum_bytes: usize,
    /// Longest text of one exchange, in bytes: further text is rejected.
    pub max_text_bytes: usize,
    /// Connections that were told to close and have not been closed yet; with more, no further one is taken.
    pub max_closing: usize,
    /// Transfers of aborted tasks that are remembered until their last data comes.
    pub max_stale_transfers: usize,
    /// How long a connection may be silent before it is pinged; zero never pings.
    pub ping_interval: Duration,
    /// How long the answer to a ping may take.
    pub ping_timeout: Duration,
    /// How long a gap in the command numbers may last.
    pub hole_timeout: Duration,
    /// How long a logout or task management response waits for aborted tasks, their outstanding transfers and, with
    /// several connections, the acknowledgement of earlier responses. Some initiators never send the data of a task
    /// they aborted, so this is short.
    pub abort_wait: Duration,
}

impl SessionConfig {
    /// The largest [`queue_depth`](Self::queue_depth).
    pub const MAX_QUEUE_DEPTH: u16 = 16_384;

    pub(super) fn depth(&self) -> u32 {
        u32::from(self.queue_depth.clamp(1, Self::MAX_QUEUE_DEPTH))
    }
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            queue_depth: 128,
            max_immediate: 32,
            max_transmit_queue: 1024,
            max_transmit_bytes: 1 << 20,
            max_events: 4096,
            transmit_batch_bytes: 1 << 20,
            transmit_quantum_bytes: 256 << 10,
            max_text_bytes: 64 << 10,
            max_closing: 8,
            max_stale_transfers: 256,
            ping_interval: Duration::from_secs(20),
            ping_timeout: Duration::from_secs(30),
            hole_timeout: Duration::from_secs(30),
            abort_wait: Duration::from_secs(1),
        }
    }
}

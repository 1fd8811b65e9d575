//! The limits of the data path, each with its name.

use std::time::Duration;

/// What the driver of the data path may use, and how long it waits. The defaults suit a server with some thousand
/// sessions; an embedder with one disk needs to change none of them.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections at a time, over all threads, logged in or not. One more is closed as soon as it is accepted.
    pub max_connections: usize,
    /// Connections of one address that have not finished their login. One more closes the oldest of them, so that a
    /// flood of half-open logins does not lock out a real one, which takes milliseconds.
    pub max_half_open_per_address: usize,
    /// Connections of all addresses together that have not finished their login; handled like the limit per address.
    pub max_half_open: usize,
    /// Bytes taken from one connection before the next has its turn.
    pub receive_bytes_per_turn: usize,
    /// Bytes taken from a connection in one turn from which on it counts as a stream: its answers leave with those of others
    /// when all that were ready have had their turn, which spares peers to be woken for each. The answers of others leave at
    /// the end of their own turn.
    pub stream_bytes_per_turn: usize,
    /// Bytes taken from all connections after which answers that are ready wait no longer.
    pub answer_after_bytes: usize,
    /// Bytes handed to one connection's socket before the next has its turn.
    pub transmit_bytes_per_turn: usize,
    /// Bytes that wait in a connection's transmit queue before nothing more is asked of the protocol. What is queued is
    /// counted payload, not copied.
    pub transmit_queue_bytes: usize,
    /// Bytes of writes to a store that may wait which a thread takes in before those who carry them out have their turn at
    /// the processor, if they have none of their own: about what a processor's cache holds.
    pub hand_over_bytes: usize,
    /// Receive buffers kept for reuse by each thread, in bytes.
    pub cached_receive_bytes: usize,
    /// Store operations of one thread that are with the blocking pool or an asynchronous store at a time.
    pub max_store_operations: usize,
    /// Threads that carry out store operations which may wait, at most. They are started when needed and end when idle.
    pub max_blocking_threads: usize,
    /// How long a thread of the blocking pool waits for work before it ends.
    pub blocking_thread_idle: Duration,
    /// How long a connection that is being closed may take to receive its last bytes.
    pub close_timeout: Duration,
    /// How long a closed connection's socket is kept to see the peer's end, so that the last answer is not lost to a
    /// reset.
    pub linger: Duration,
    /// How long a thread looks for work without sleeping once it has none, at most: the span grows to it while work keeps coming
    /// that soon, and shrinks to nothing while it does not. Zero, the default, always sleeps at once; more buys latency with
    /// processor time.
    pub poll: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 16_384,
            max_half_open_per_address: 128,
            max_half_open: 1024,
            receive_bytes_per_turn: 1 << 20,
            stream_bytes_per_turn: 256 << 10,
            answer_after_bytes: 8 << 20,
            transmit_bytes_per_turn: 2 << 20,
            transmit_queue_bytes: 256 << 10,
            hand_over_bytes: 512 << 10,
            cached_receive_bytes: 32 << 20,
            max_store_operations: 1024,
            max_blocking_threads: 32,
            blocking_thread_idle: Duration::from_secs(5),
            close_timeout: Duration::from_secs(5),
            linger: Duration::from_secs(2),
            poll: Duration::ZERO,
        }
    }
}

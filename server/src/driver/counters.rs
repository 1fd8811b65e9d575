//! What a thread counts. Each counter has one writer; readers see it a little late.

use std::sync::atomic::{AtomicU64, Ordering};

/// A counter with one writing thread: a plain load and store, no locked instruction.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds; only the owning thread may.
    pub(crate) fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    /// Takes away; only the owning thread may.
    pub(crate) fn sub(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_sub(count), Ordering::Relaxed);
    }

    /// The value.
    pub(crate) fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one thread, alone on their cache lines.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Counters {
    pub(crate) connections: Counter,
    pub(crate) accepted: Counter,
    pub(crate) handed_off: Counter,
    pub(crate) received_bytes: Counter,
    pub(crate) receives: Counter,
    pub(crate) sent_bytes: Counter,
    pub(crate) sends: Counter,
    pub(crate) waits: Counter,
    pub(crate) busy_ns: Counter,
    pub(crate) store_inline: Counter,
    pub(crate) store_offloaded: Counter,
}

/// Counters of one thread of the data path at one moment. All but `connections` only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[non_exhaustive]
pub struct ThreadStatistics {
    /// Connections that live on the thread now.
    pub connections: u64,
    /// Connections accepted for it.
    pub accepted: u64,
    /// Connections it gave to another thread, where their session lives.
    pub handed_off: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// System calls that received.
    pub receives: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// System calls that sent.
    pub sends: u64,
    /// Times it asked the system for work.
    pub waits: u64,
    /// Nanoseconds it worked, by the clock.
    pub busy_ns: u64,
    /// Store operations it carried out itself.
    pub store_inline: u64,
    /// Store operations it gave to the blocking pool or an asynchronous store.
    pub store_offloaded: u64,
}

impl Counters {
    /// A copy of all.
    pub(crate) fn snapshot(&self) -> ThreadStatistics {
        ThreadStatistics {
            connections: self.connections.value(),
            accepted: self.accepted.value(),
            handed_off: self.handed_off.value(),
            received_bytes: self.received_bytes.value(),
            receives: self.receives.value(),
            sent_bytes: self.sent_bytes.value(),
            sends: self.sends.value(),
            waits: self.waits.value(),
            busy_ns: self.busy_ns.value(),
            store_inline: self.store_inline.value(),
            store_offloaded: self.store_offloaded.value(),
        }
    }
}

//! Waking a thread that may sleep in the system.

use rustix::event::{EventfdFlags, eventfd};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};

const AWAKE: u8 = 0;
const ASLEEP: u8 = 1;
const WOKEN: u8 = 2;

/// Wakes one thread. A thread that is awake costs its wakers one atomic swap, a sleeping one costs the first of them
/// a system call.
#[derive(Debug)]
pub(crate) struct Wake {
    state: AtomicU8,
    event: OwnedFd,
}

impl Wake {
    /// A wake-up for a thread that is awake.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { state: AtomicU8::new(AWAKE), event: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Has the thread look at its mail soon. Any thread may call it; it never blocks.
    pub(crate) fn wake(&self) {
        if self.state.swap(WOKEN, Ordering::SeqCst) == ASLEEP {
            // The descriptor is watched for edges and never read: each write is one. Its counter would take centuries
            // to fill, and a full one is an edge that has not been seen yet.
            let _ = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// The thread is about to sleep. `false`: it has been woken meanwhile and must only look, not wait.
    pub(crate) fn may_sleep(&self) -> bool {
        self.state.compare_exchange(AWAKE, ASLEEP, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Whether somebody woke the thread, which is awake, since the last [`take`](Self::take).
    pub(crate) fn is_woken(&self) -> bool {
        self.state.load(Ordering::SeqCst) == WOKEN
    }

    /// The thread is awake again; `true` if somebody woke it since the last call.
    pub(crate) fn take(&self) -> bool {
        self.state.swap(AWAKE, Ordering::SeqCst) == WOKEN
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

//! Waking a thread that may sleep in the system.

use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

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

    /// Sleeps until woken, until one of these descriptors is readable or broken, or for so long; the numbers of the
    /// descriptors that are. For threads that have no [`Net`](super::net::Net) to wait with.
    pub(crate) fn sleep<'a>(
        &self,
        time: Option<Duration>,
        descriptors: impl IntoIterator<Item = BorrowedFd<'a>>,
    ) -> Vec<usize> {
        let mut watched: Vec<PollFd<'_>> = vec![PollFd::new(&self.event, PollFlags::IN)];
        for descriptor in descriptors {
            watched.push(PollFd::from_borrowed_fd(descriptor, PollFlags::IN));
        }
        let time = time.and_then(|time| Timespec::try_from(time).ok());
        if poll(&mut watched, time.as_ref()).is_err() {
            // A signal: whoever sleeps looks after everything anyway.
            return Vec::new();
        }
        if !watched[0].revents().is_empty() {
            let _ = rustix::io::read(&self.event, &mut [0; 8]);
        }
        let ready = watched[1..].iter().enumerate().filter(|(_, watched)| !watched.revents().is_empty());
        ready.map(|(number, _)| number).collect()
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

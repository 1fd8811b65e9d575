//! Descriptors that whoever started the process has left open for it.

use rustix::io::FdFlags;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

/// Where they begin, by systemd's convention (sd_listen_fds).
const FIRST: RawFd = 3;

/// Takes `count` descriptors from number 3 on; once only, later calls get none. Those that are not open are left out.
/// None of them is passed on to programs that this one starts.
///
/// To be called before the process has opened anything itself: then these numbers are still those that it was given.
pub(crate) fn take(count: usize) -> Vec<OwnedFd> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::AcqRel) {
        return Vec::new();
    }
    let numbers =
        (FIRST..).take(count).filter(|number| std::path::Path::new(&format!("/proc/self/fd/{number}")).exists());
    // SAFETY: each is open, was opened by whoever started the process and named by number in the environment, so that
    // nothing in this process owns it; `TAKEN` sees to it that it gets one owner.
    let descriptors = numbers.map(|number| unsafe { OwnedFd::from_raw_fd(number) }).collect::<Vec<_>>();
    for descriptor in &descriptors {
        // It would only be passed on to a child, and none is started.
        let _ = rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC);
    }
    descriptors
}

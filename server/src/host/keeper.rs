//! A thread that looks after what takes its time: targets whose sessions are ending, portals and adapters that cannot be
//! opened yet, addresses that come and go. Without any of these it sleeps for ever.

use super::Host;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// How often sessions that are ending are looked at.
const SOON: Duration = Duration::from_millis(50);

/// How often portals and interfaces are looked at.
const LATER: Duration = Duration::from_secs(10);

/// See the module.
pub(super) struct Keeper {
    host: Weak<Host>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    orders: Mutex<Orders>,
    changed: Condvar,
}

#[derive(Default)]
struct Orders {
    look: bool,
    stop: bool,
}

impl Keeper {
    /// A keeper of `host`; it does nothing before [`start`](Self::start).
    pub(super) fn new(host: Weak<Host>) -> Self {
        Self { host, shared: Arc::default(), thread: Mutex::default() }
    }

    /// Starts the thread.
    pub(super) fn start(&self) -> io::Result<()> {
        let (host, shared) = (self.host.clone(), Arc::clone(&self.shared));
        let run = move || run(&host, &shared);
        let thread = thread::Builder::new().name("lunette-keeper".into()).stack_size(256 << 10).spawn(run)?;
        *self.thread.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread);
        Ok(())
    }

    /// Has it look now.
    pub(super) fn wake(&self) {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).look = true;
        self.shared.changed.notify_one();
    }

    /// Ends the thread.
    pub(super) fn stop(&self) {
        self.shared.orders.lock().unwrap_or_else(PoisonError::into_inner).stop = true;
        self.shared.changed.notify_one();
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        // The host may be dropped by the keeper itself, which held it for a moment.
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // A panic was reported where it happened.
            let _ = thread.join();
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

fn run(host: &Weak<Host>, shared: &Shared) {
    let mut next: Option<Instant> = None;
    loop {
        {
            let mut orders = shared.orders.lock().unwrap_or_else(PoisonError::into_inner);
            loop {
                if orders.stop {
                    return;
                }
                let now = Instant::now();
                if std::mem::take(&mut orders.look) || next.is_some_and(|next| next <= now) {
                    break;
                }
                orders = match next {
                    None => shared.changed.wait(orders).unwrap_or_else(PoisonError::into_inner),
                    Some(next) => {
                        let wait = shared.changed.wait_timeout(orders, next - now);
                        wait.unwrap_or_else(PoisonError::into_inner).0
                    }
                };
            }
        }
        let Some(host) = host.upgrade() else { return };
        let ending = host.see_off();
        host.follow_isns();
        let retry = host.retry_fc() | host.retry_vhost();
        let care = host.portals_need_care();
        if care {
            host.refresh_advertised();
            host.follow_portals(&host.iscsi());
        }
        next = if ending {
            Some(Instant::now() + SOON)
        } else if care || retry {
            Some(Instant::now() + LATER)
        } else {
            None
        };
    }
}

//! Connections that have not logged in: counted per address, the oldest of too many goes.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Names a connection for its whole life, over all threads; never used twice.
pub(crate) type Serial = u64;

/// The half-open connections of all threads. Touched at accept, at login and at close only.
#[derive(Debug)]
pub(crate) struct HalfOpen {
    per_address: usize,
    total: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    /// Thread of each; the lowest serial is the oldest.
    by_address: HashMap<IpAddr, BTreeMap<Serial, usize>>,
    all: BTreeMap<Serial, IpAddr>,
}

impl HalfOpen {
    /// Nothing half-open; at most `per_address` of each address and `total` together will be.
    pub(crate) fn new(per_address: usize, total: usize) -> Self {
        Self { per_address: per_address.max(1), total: total.max(1), inner: Mutex::default() }
    }

    /// A connection was accepted for `thread`. Returns the connection that has to go for it, and its thread.
    pub(crate) fn begin(&self, address: IpAddr, serial: Serial, thread: usize) -> Option<(Serial, usize)> {
        let mut inner = self.lock();
        let mine = inner.by_address.entry(address).or_default();
        mine.insert(serial, thread);
        let victim = if mine.len() > self.per_address {
            mine.first_key_value().map(|(serial, _)| (*serial, address))
        } else {
            None
        };
        inner.all.insert(serial, address);
        let victim = victim.or_else(|| {
            (inner.all.len() > self.total)
                .then(|| inner.all.first_key_value().map(|(serial, address)| (*serial, *address)))?
        });
        victim.and_then(|(serial, address)| inner.remove(address, serial).map(|thread| (serial, thread)))
    }

    /// The connection moved to another thread.
    pub(crate) fn moved(&self, address: IpAddr, serial: Serial, thread: usize) {
        if let Some(entry) = self.lock().by_address.get_mut(&address).and_then(|mine| mine.get_mut(&serial)) {
            *entry = thread;
        }
    }

    /// The connection logged in, or is gone.
    pub(crate) fn end(&self, address: IpAddr, serial: Serial) {
        self.lock().remove(address, serial);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.lock().all.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each method leaves both maps consistent wherever it could panic (on allocation).
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn remove(&mut self, address: IpAddr, serial: Serial) -> Option<usize> {
        self.all.remove(&serial);
        let mine = self.by_address.get_mut(&address)?;
        let thread = mine.remove(&serial);
        if mine.is_empty() {
            self.by_address.remove(&address);
        }
        thread
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn the_oldest_of_the_same_address_goes() {
        let half_open = HalfOpen::new(2, 100);
        assert_eq!(half_open.begin(address(1), 1, 0), None);
        assert_eq!(half_open.begin(address(2), 2, 0), None);
        assert_eq!(half_open.begin(address(1), 3, 1), None);
        assert_eq!(half_open.begin(address(1), 4, 1), Some((1, 0)));
        assert_eq!(half_open.len(), 3);
    }

    #[test]
    fn a_finished_login_makes_room() {
        let half_open = HalfOpen::new(1, 100);
        assert_eq!(half_open.begin(address(1), 1, 0), None);
        half_open.end(address(1), 1);
        assert_eq!(half_open.begin(address(1), 2, 0), None);
    }

    #[test]
    fn the_total_limit_takes_the_oldest_of_all() {
        let half_open = HalfOpen::new(10, 2);
        half_open.begin(address(1), 1, 0);
        half_open.moved(address(1), 1, 3);
        half_open.begin(address(2), 2, 0);
        assert_eq!(half_open.begin(address(3), 3, 0), Some((1, 3)));
        assert_eq!(half_open.len(), 2);
    }
}

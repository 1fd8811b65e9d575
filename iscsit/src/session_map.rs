//! Which worker a session lives on, and the TSIHs given out.
//!
//! Workers share this table. It is asked at login only: a login that names a session which lives, or is being made, on
//! another worker goes there, so that reinstatement and further connections are that worker's own affair.

use iscsi_proto::pdu::{Isid, Tsih};
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Names one of the workers of a provider, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerId(pub usize);

/// The name of a session before it has a TSIH: the I_T nexus (RFC 7143 4.4.3 and 6.3.5).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct SessionName {
    /// Folded.
    pub(crate) initiator: Arc<str>,
    /// The initiator's part of the session's name.
    pub(crate) isid: Isid,
    /// Folded.
    pub(crate) target: Arc<str>,
    /// Target portal group tag.
    pub(crate) tag: u16,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct SessionMap {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    homes: HashMap<SessionName, Home>,
    tsihs: TsihPool,
}

#[derive(Debug)]
struct Home {
    worker: WorkerId,
    /// Logins under way and sessions alive under this name; 0 removes the entry.
    holders: usize,
}

impl SessionMap {
    /// Where a login of this name belongs. If nobody holds the name, `worker` holds it from now on; if `worker` holds
    /// it already, once more. Every answer of `worker` itself must be given back with [`release`](Self::release).
    pub(crate) fn claim(&self, name: &SessionName, worker: WorkerId) -> WorkerId {
        let mut inner = self.lock();
        match inner.homes.entry(name.clone()) {
            Entry::Vacant(vacant) => {
                vacant.insert(Home { worker, holders: 1 });
                worker
            }
            Entry::Occupied(mut occupied) => {
                let home = occupied.get_mut();
                if home.worker == worker {
                    home.holders += 1;
                }
                home.worker
            }
        }
    }

    /// Gives back one claim of the worker that holds `name`.
    pub(crate) fn release(&self, name: &SessionName) {
        let mut inner = self.lock();
        if let Some(home) = inner.homes.get_mut(name) {
            home.holders -= 1;
            if home.holders == 0 {
                inner.homes.remove(name);
            }
        }
    }

    /// A TSIH that no session has, 1..=65535; `None` when all are taken.
    pub(crate) fn allocate_tsih(&self) -> Option<Tsih> {
        self.lock().tsihs.allocate()
    }

    /// Gives a TSIH back.
    pub(crate) fn free_tsih(&self, tsih: Tsih) {
        self.lock().tsihs.free(tsih);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every method leaves the table consistent at each point where it could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The numbers in use as a bitmap; the search goes round, so that a number is reused late and a stale one is noticed.
#[derive(Debug)]
struct TsihPool {
    used: Box<[u64]>,
    next: u16,
}

impl Default for TsihPool {
    fn default() -> Self {
        let mut used = vec![0; 1024].into_boxed_slice();
        // 0 asks for a new session and is never given out.
        used[0] = 1;
        Self { used, next: 1 }
    }
}

impl TsihPool {
    fn allocate(&mut self) -> Option<Tsih> {
        let start = usize::from(self.next) / 64;
        // The first word is visited twice: its part from `next` on first, its part before at the end.
        for step in 0..=self.used.len() {
            let word = (start + step) % self.used.len();
            let below_next = if step == 0 { (1u64 << (self.next % 64)) - 1 } else { 0 };
            let taken = self.used[word] | below_next;
            if taken != u64::MAX {
                let bit = taken.trailing_ones();
                self.used[word] |= 1 << bit;
                let tsih = (word * 64) as u16 + bit as u16;
                self.next = tsih.wrapping_add(1).max(1);
                return Some(Tsih(tsih));
            }
        }
        None
    }

    fn free(&mut self, tsih: Tsih) {
        if !tsih.is_new() {
            self.used[usize::from(tsih.0) / 64] &= !(1 << (tsih.0 % 64));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(isid: u8) -> SessionName {
        SessionName {
            initiator: "iqn.2001-04.com.example:host".into(),
            isid: Isid([0x80, 0, 0, 0, 0, isid]),
            target: "iqn.2001-04.com.example:disk".into(),
            tag: 1,
        }
    }

    #[test]
    fn a_name_stays_with_its_first_worker_until_released() {
        let map = SessionMap::default();
        assert_eq!(map.claim(&name(1), WorkerId(0)), WorkerId(0));
        assert_eq!(map.claim(&name(1), WorkerId(1)), WorkerId(0));
        assert_eq!(map.claim(&name(1), WorkerId(0)), WorkerId(0));
        map.release(&name(1));
        assert_eq!(map.claim(&name(1), WorkerId(1)), WorkerId(0));
        map.release(&name(1));
        assert_eq!(map.claim(&name(1), WorkerId(1)), WorkerId(1));
    }

    #[test]
    fn all_65535_tsihs_are_given_once_and_come_back() {
        let map = SessionMap::default();
        let mut seen = vec![false; 65536];
        for _ in 1..=65535 {
            let tsih = map.allocate_tsih().unwrap();
            assert!(!tsih.is_new() && !std::mem::replace(&mut seen[usize::from(tsih.0)], true));
        }
        assert_eq!(map.allocate_tsih(), None);
        map.free_tsih(Tsih(777));
        assert_eq!(map.allocate_tsih(), Some(Tsih(777)));
    }

    #[test]
    fn a_freed_tsih_is_reused_late() {
        let map = SessionMap::default();
        let first = map.allocate_tsih().unwrap();
        map.free_tsih(first);
        assert_ne!(map.allocate_tsih().unwrap(), first);
    }
}

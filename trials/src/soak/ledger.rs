//! Which faults were injected when, and which of them explains an error.

use lunette_client::Error;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long after its end a fault may still show: a client finds out by itself and logs in again.
const ECHO: Duration = Duration::from_secs(15);

/// What was done to the server or to those who use it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// An initiator's connection broke amid commands.
    Cut,
    /// A second login took a session's place.
    Reinstated,
    /// The administrator ended a session.
    Killed,
    /// A unit's commands were ended: ABORT TASK SET or LOGICAL UNIT RESET.
    Reset,
    /// A unit was offline for a while.
    Offline,
    /// A unit's view entry was taken away for a while.
    Hidden,
    /// A unit was made larger or smaller.
    Resized,
    /// A unit was added, used, removed and deleted.
    Churned,
    /// Connections that spoke no iSCSI.
    Noise,
    /// A connection that ended inside a PDU.
    Torn,
    /// An initiator that asked for much and took nothing.
    Stalled,
    /// Connections that never logged in.
    HalfOpen,
    /// The whole machine stood still, or this program and the server did.
    Standstill,
}

impl Fault {
    /// Those that are injected, in the order in which they take turns; the others come from the sessions or by
    /// themselves.
    pub const ALL: [Self; 11] = [
        Self::Reinstated,
        Self::Noise,
        Self::Killed,
        Self::Resized,
        Self::Stalled,
        Self::Churned,
        Self::Reset,
        Self::Offline,
        Self::Torn,
        Self::Hidden,
        Self::HalfOpen,
    ];

    /// Whether an error of this kind may come of the fault. An initiator sends again what a lost connection or a reset
    /// left open, so most faults explain no error at all.
    fn may_cause(self, error: &Error, at_login: bool) -> bool {
        let broke = matches!(error, Error::Lost { .. } | Error::Outage { .. } | Error::Timeout { .. });
        match self {
            Self::Offline | Self::Hidden => match error {
                Error::Command { .. } | Error::Rejected { .. } => true,
                // A login looks for a disk at the LUN.
                Error::NotADisk { .. } => at_login,
                _ => false,
            },
            Self::Standstill => broke,
            // A first login is not tried again by itself.
            Self::Reinstated | Self::Killed => at_login && broke,
            _ => false,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cut => "connections cut amid commands",
            Self::Reinstated => "sessions reinstated",
            Self::Killed => "sessions ended by the administrator",
            Self::Reset => "units reset, task sets aborted",
            Self::Offline => "units offline for a while",
            Self::Hidden => "units hidden for a while",
            Self::Resized => "units resized",
            Self::Churned => "units added, used and removed",
            Self::Noise => "connections that spoke no iSCSI",
            Self::Torn => "connections that ended inside a PDU",
            Self::Stalled => "initiators that took nothing",
            Self::HalfOpen => "connections that never logged in",
            Self::Standstill => "the machine stood still",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    fault: Fault,
    /// The one unit that it concerns, or all of them.
    unit: Option<usize>,
    ended: Option<Instant>,
}

/// All faults of a run.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: Mutex<Vec<Entry>>,
    unexplained: Mutex<Vec<String>>,
    explained: Mutex<u64>,
}

/// A fault that is going on.
#[derive(Debug)]
#[must_use]
pub struct Ongoing(usize);

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A fault begins; to be called before its cause is given.
    pub fn begin(&self, fault: Fault, unit: Option<usize>) -> Ongoing {
        let mut entries = self.entries();
        entries.push(Entry { fault, unit, ended: None });
        Ongoing(entries.len() - 1)
    }

    /// It is over.
    pub fn end(&self, ongoing: &Ongoing) {
        if let Some(entry) = self.entries().get_mut(ongoing.0) {
            entry.ended = Some(Instant::now());
        }
    }

    /// A fault of one moment.
    pub fn note(&self, fault: Fault, unit: Option<usize>) {
        let ongoing = self.begin(fault, unit);
        self.end(&ongoing);
    }

    /// Judges an error of an operation on `unit` that began at `since` and has just ended. False when no fault explains
    /// it.
    pub fn judge(&self, who: &str, unit: usize, since: Instant, error: &Error) -> bool {
        self.weigh(who, unit, since, error, false)
    }

    /// The same for a login that failed.
    pub fn judge_login(&self, who: &str, unit: usize, since: Instant, error: &Error) -> bool {
        self.weigh(who, unit, since, error, true)
    }

    fn weigh(&self, who: &str, unit: usize, since: Instant, error: &Error, at_login: bool) -> bool {
        let since = since.checked_sub(ECHO).unwrap_or(since);
        let explained = self.entries().iter().any(|entry| {
            let concerns = entry.unit.is_none_or(|one| one == unit);
            concerns && entry.ended.is_none_or(|ended| ended >= since) && entry.fault.may_cause(error, at_login)
        });
        if explained {
            *self.explained.lock().unwrap_or_else(PoisonError::into_inner) += 1;
        } else {
            let what = if at_login { ", login" } else { "" };
            self.accuse(format!("{who}{what}, unit {unit}: {error}"));
        }
        explained
    }

    /// Something that no fault explains.
    pub fn accuse(&self, words: String) {
        eprintln!("unexplained: {words}");
        let mut list = self.unexplained.lock().unwrap_or_else(PoisonError::into_inner);
        if list.len() < 100 {
            list.push(words);
        }
    }

    /// What no fault explains, the first hundred.
    pub fn unexplained(&self) -> Vec<String> {
        self.unexplained.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many errors a fault explained.
    pub fn explained(&self) -> u64 {
        *self.explained.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of a kind there were.
    pub fn count(&self, fault: Fault) -> usize {
        self.entries().iter().filter(|entry| entry.fault == fault).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_unit_that_can_cause_the_error_explains_it() {
        let ledger = Ledger::default();
        let lost = Error::Lost { command: "READ(16)", reason: "reset".into() };
        let refused = Error::Command { command: "READ(16)", status: scsi_core::Status::BUSY, sense: None };
        let before = Instant::now();
        assert!(!ledger.judge("a", 0, before, &refused));
        let ongoing = ledger.begin(Fault::Offline, Some(0));
        assert!(ledger.judge("a", 0, Instant::now(), &refused));
        assert!(!ledger.judge("a", 1, Instant::now(), &refused));
        assert!(!ledger.judge("a", 0, Instant::now(), &lost));
        ledger.end(&ongoing);
        assert!(!ledger.judge("a", 0, Instant::now() + 2 * ECHO, &refused));
        assert!(ledger.judge("a", 0, before, &refused));
        assert_eq!((ledger.explained(), ledger.unexplained().len(), ledger.count(Fault::Offline)), (2, 4, 1));
    }
}

//! What an initiator may and must hear of a unit: reservations and unit attentions, as the standards have them.

use std::collections::BTreeMap;

use super::blocks::{OPEN, Tick};

/// Reservations of one unit, by the number of the initiator.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reservations {
    keys: BTreeMap<usize, u64>,
    /// Type, and the one holder.
    held: Option<(u8, Option<usize>)>,
    aptpl: bool,
}

/// A PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReserveOut {
    pub(super) action: u8,
    pub(super) kind: u8,
    pub(super) key: u64,
    pub(super) service_key: u64,
    pub(super) aptpl: bool,
}

/// How a PERSISTENT RESERVE OUT ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Good,
    Conflict,
    Check,
}

pub(super) const REGISTER: u8 = 0;
pub(super) const RESERVE: u8 = 1;
pub(super) const RELEASE: u8 = 2;
pub(super) const CLEAR: u8 = 3;
pub(super) const PREEMPT: u8 = 4;
pub(super) const PREEMPT_AND_ABORT: u8 = 5;
pub(super) const REGISTER_AND_IGNORE: u8 = 6;

const ALL: [u8; 2] = [7, 8];

impl Reservations {
    /// SPC-5, Persistent reservations: the verdict, the state after it, and who is told what (ASCQ of 2Ah).
    pub(super) fn apply(&self, who: usize, out: ReserveOut) -> (Verdict, Self, Vec<(usize, u8)>) {
        let mut next = self.clone();
        let mut told = Vec::new();
        let verdict = next.change(who, out, &mut told);
        match verdict {
            Verdict::Good => (verdict, next, told),
            _ => (verdict, self.clone(), Vec::new()),
        }
    }

    fn change(&mut self, who: usize, out: ReserveOut, told: &mut Vec<(usize, u8)>) -> Verdict {
        let own = self.keys.get(&who).copied();
        if out.action == REGISTER || out.action == REGISTER_AND_IGNORE {
            if out.action == REGISTER && own.unwrap_or(0) != out.key {
                return Verdict::Conflict;
            }
            if out.service_key != 0 {
                self.keys.insert(who, out.service_key);
                self.aptpl = out.aptpl;
            } else if own.is_some() {
                let held = self.holds(who);
                self.keys.remove(&who);
                if let Some((kind, holder)) = self.held
                    && (holder.is_some() && held || self.keys.is_empty())
                {
                    self.held = None;
                    if kind >= 5 {
                        told.extend(self.keys.keys().map(|other| (*other, 4)));
                    }
                }
                self.aptpl = out.aptpl;
            }
            return Verdict::Good;
        }
        if own.is_none() || own != Some(out.key) {
            return Verdict::Conflict;
        }
        match out.action {
            RESERVE => match self.held {
                None => self.held = Some(held_by(who, out.kind)),
                Some((kind, _)) if self.holds(who) && kind == out.kind => {}
                Some(_) => return Verdict::Conflict,
            },
            RELEASE => match self.held {
                Some((kind, _)) if self.holds(who) => {
                    if kind != out.kind {
                        return Verdict::Check;
                    }
                    self.held = None;
                    if kind >= 5 {
                        told.extend(self.others(who).map(|other| (other, 4)));
                    }
                }
                _ => {}
            },
            CLEAR => {
                told.extend(self.others(who).map(|other| (other, 3)));
                self.keys.clear();
                self.held = None;
            }
            _ => return self.preempt(who, out, told),
        }
        Verdict::Good
    }

    fn preempt(&mut self, who: usize, out: ReserveOut, told: &mut Vec<(usize, u8)>) -> Verdict {
        let all = self.held.is_some_and(|(kind, _)| ALL.contains(&kind));
        if out.service_key == 0 && !all {
            return Verdict::Check;
        }
        let takes = match self.held {
            None => false,
            Some((_, None)) => out.service_key == 0,
            Some((_, Some(holder))) => self.keys.get(&holder) == Some(&out.service_key),
        };
        let hit = |key: u64| out.service_key == 0 || key == out.service_key;
        if !takes && !self.keys.values().any(|key| hit(*key)) {
            return Verdict::Conflict;
        }
        let gone: Vec<usize> =
            self.keys.iter().filter(|(other, key)| **other != who && hit(**key)).map(|(other, _)| *other).collect();
        for other in gone {
            self.keys.remove(&other);
            told.push((other, 5));
        }
        if takes {
            let old = self.held.map(|(kind, _)| kind);
            self.held = Some(held_by(who, out.kind));
            if old != Some(out.kind) {
                told.extend(self.others(who).map(|other| (other, 4)));
            }
        }
        Verdict::Good
    }

    fn others(&self, who: usize) -> impl Iterator<Item = usize> {
        self.keys.keys().copied().filter(move |other| *other != who)
    }

    fn holds(&self, who: usize) -> bool {
        match self.held {
            None => false,
            Some((_, Some(holder))) => holder == who,
            Some((_, None)) => self.keys.contains_key(&who),
        }
    }

    pub(super) fn key(&self, who: usize) -> Option<u64> {
        self.keys.get(&who).copied()
    }

    /// The keys, in no order, and the reservation: the holder's key and the type.
    pub(super) fn answers(&self) -> (Vec<u64>, Option<(u64, u8)>) {
        let mut keys: Vec<u64> = self.keys.values().copied().collect();
        keys.sort_unstable();
        let held = self.held.map(|(kind, holder)| (holder.and_then(|holder| self.key(holder)).unwrap_or(0), kind));
        (keys, held)
    }

    /// Whether the medium is closed to `who`.
    pub(super) fn forbids(&self, who: usize, writes: bool) -> bool {
        match self.held {
            None => false,
            Some(_) if self.holds(who) => false,
            Some((kind, _)) if kind >= 5 && self.keys.contains_key(&who) => false,
            Some((kind, _)) => writes || matches!(kind, 3 | 6 | 8),
        }
    }

    /// What a loss of power or a restart leaves.
    pub(super) fn restarted(&self) -> Self {
        if self.aptpl { self.clone() } else { Self::default() }
    }
}

fn held_by(who: usize, kind: u8) -> (u8, Option<usize>) {
    (kind, if ALL.contains(&kind) { None } else { Some(who) })
}

/// Which states the reservations of a unit may have been in, and when.
#[derive(Clone, Debug)]
pub(super) struct History(Vec<Era>);

#[derive(Clone, Debug)]
struct Era {
    states: Vec<Reservations>,
    from: Tick,
    to: Tick,
}

impl Default for History {
    fn default() -> Self {
        Self(vec![Era { states: vec![Reservations::default()], from: 0, to: OPEN }])
    }
}

impl History {
    /// The states it may be in now.
    pub(super) fn now(&self) -> &[Reservations] {
        self.0.last().map_or(&[], |era| &era.states)
    }

    /// Other states from `from` on; until `to` it may still have been as before.
    pub(super) fn set(&mut self, mut states: Vec<Reservations>, from: Tick, to: Tick) {
        states.dedup();
        if let Some(last) = self.0.last_mut() {
            last.to = to;
        }
        self.0.push(Era { states, from, to: OPEN });
    }

    /// Whether at some time between `start` and `end` it may have been such that `what`.
    pub(super) fn possibly(&self, start: Tick, end: Tick, what: impl Fn(&Reservations) -> bool) -> bool {
        self.0.iter().any(|era| era.from <= end && era.to >= start && era.states.iter().any(&what))
    }

    /// The states that it may have been in before `at`.
    pub(super) fn before(&self, at: Tick) -> Vec<Reservations> {
        self.0.iter().rev().find(|era| era.from < at).map(|era| era.states.clone()).unwrap_or_default()
    }
}

/// A unit attention that a nexus has coming.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attention {
    pub(super) asc: u8,
    pub(super) ascq: u8,
    /// Established no earlier than this, and by that.
    pub(super) from: Tick,
    pub(super) by: Tick,
    /// It must come.
    pub(super) certain: bool,
    /// Commands that begin later cannot hear of it: the nexus has been renewed.
    until: Tick,
}

/// The unit attentions of one initiator and unit.
#[derive(Clone, Debug, Default)]
pub(super) struct Attentions {
    pending: Vec<Attention>,
    /// When each was heard of last.
    heard: BTreeMap<(u8, u8), Tick>,
}

impl Attentions {
    pub(super) fn establish(&mut self, asc: u8, ascq: u8, from: Tick, by: Tick, certain: bool) {
        let heard = self.heard.get(&code(asc, ascq)).is_some_and(|heard| *heard >= from);
        self.pending.push(Attention { asc, ascq, from, by, certain: certain && !heard, until: OPEN });
    }

    /// A new nexus: nothing from before, and the first thing that it hears is that it is new.
    pub(super) fn renew(&mut self, from: Tick, by: Tick) {
        // What was established while it came to be may belong to it; what is older may be on its way to the initiator,
        // in the answer to an older command.
        for one in self.pending.iter_mut().filter(|one| one.by < from) {
            one.until = one.until.min(by);
        }
        self.doubt();
        self.heard.clear();
        self.establish(0x29, 0, from, by, true);
    }

    /// It heard of `asc`/`ascq` by a command from `start` to `end`. False when there was no reason.
    pub(super) fn heard(&mut self, asc: u8, ascq: u8, start: Tick, end: Tick) -> bool {
        let same = |one: &Attention| code(one.asc, one.ascq) == code(asc, ascq);
        let known = self.pending.iter().any(|one| same(one) && one.from <= end && start <= one.until);
        // A condition that was established before the command was told by it; a later one may be still to come.
        self.pending.retain_mut(|one| {
            one.certain &= !same(one);
            !(same(one) && one.by < start)
        });
        self.heard.insert(code(asc, ascq), end);
        known
    }

    /// An answer to a command that began at `start` may have been lost with one of these: what was heard since then may
    /// come again.
    pub(super) fn again(&mut self, start: Tick) {
        let heard: Vec<(u8, u8)> = self.heard.iter().filter(|(_, at)| **at >= start).map(|(code, _)| *code).collect();
        heard.into_iter().for_each(|(asc, ascq)| self.establish(asc, ascq, start, OPEN, false));
    }

    /// What should have been told instead of the outcome of a command that began at `start`.
    pub(super) fn missed(&self, start: Tick) -> Option<Attention> {
        self.pending.iter().copied().find(|one| one.certain && one.by < start)
    }

    /// Whatever was certain is not any more.
    pub(super) fn doubt(&mut self) {
        self.pending.iter_mut().for_each(|one| one.certain = false);
    }
}

/// A reset swallows lesser ones, so all count as one.
fn code(asc: u8, ascq: u8) -> (u8, u8) {
    (asc, if asc == 0x29 { 0 } else { ascq })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn out(action: u8, kind: u8, key: u64, service_key: u64) -> ReserveOut {
        ReserveOut { action, kind, key, service_key, aptpl: false }
    }

    #[test]
    fn a_preempted_holder_is_told_and_locked_out() {
        let state = Reservations::default();
        let state = state.apply(0, out(REGISTER, 0, 0, 10)).1;
        let state = state.apply(1, out(REGISTER, 0, 0, 11)).1;
        let state = state.apply(0, out(RESERVE, 1, 10, 0)).1;
        assert!(state.forbids(1, true) && !state.forbids(1, false) && !state.forbids(0, true));
        let (verdict, state, told) = state.apply(1, out(PREEMPT, 3, 11, 10));
        assert_eq!((verdict, told), (Verdict::Good, vec![(0, 5)]));
        assert!(state.forbids(0, false));
        assert_eq!(state.restarted(), Reservations::default());
    }

    #[test]
    fn an_attention_is_heard_once_and_must_be() {
        let mut attentions = Attentions::default();
        attentions.renew(1, 2);
        assert!(attentions.missed(3).is_some());
        assert!(attentions.heard(0x29, 0, 3, 4));
        assert!(attentions.missed(5).is_none());
        assert!(!attentions.heard(0x29, 0, 5, 6));
    }

    #[test]
    fn what_a_nexus_had_coming_before_it_was_renewed_is_heard_by_older_commands_alone() {
        let mut attentions = Attentions::default();
        attentions.establish(0x2a, 1, 1, 2, true);
        attentions.renew(5, 6);
        assert!(attentions.clone().heard(0x2a, 1, 3, 9), "the answer was late");
        assert!(!attentions.heard(0x2a, 1, 7, 9));
    }
}

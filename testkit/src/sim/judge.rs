//! Whether what an initiator hears may be.

use iscsi_proto::pdu::{Residual, TaskManagementFunctionCode as Function};
use scsi_core::{SenseData, SenseKey, Status};

use super::blocks::{BLOCK, OPEN, Tick};
use super::nexus::{PREEMPT_AND_ABORT, Reservations, Verdict};
use super::peer::{Ending, OpId, Said, State};
use super::plan::PEERS;
use super::world::{Deed, Op, World};

/// TASK MANAGEMENT: Function complete.
const FUNCTION_COMPLETE: u8 = 0;

impl World {
    pub(super) fn hear(&mut self, at: usize, said: Said) {
        match said {
            Said::Violation(words) => self.fail(format!("host{at}: {words}")),
            // What somebody else has ended is not there any more.
            Said::Broken(op, words) => {
                if self.ops.get(&op).is_some_and(|op| !op.may_vanish) {
                    self.fail(format!("host{at} op {op}: {words}"));
                }
            }
            // It had been heard already when the answer to the function was.
            Said::Gone(op) if self.given_up.remove(&op) => {}
            Said::Ended(op, ending) if ending.late && self.given_up.remove(&op) => {}
            Said::LoggedIn => self.logged_in(at),
            Said::Closed(why) => {
                self.tick();
                self.note(|| format!("host{at} lost its connection: {why}"), 8);
                self.count("connections lost");
                let lost = self.peers[at].drop_connection(false);
                self.lose(at, lost);
            }
            Said::Ended(op, ending) => self.ended(at, op, *ending),
            Said::Gone(op) => self.gone(at, op),
            Said::Managed(op, response) => self.managed(at, op, response),
        }
    }

    /// These will not be answered; what they do, they may still do until the target has noticed.
    pub(super) fn lose(&mut self, at: usize, lost: Vec<OpId>) {
        let ops = lost.into_iter().filter_map(|id| Some((id, self.ops.remove(&id)?)));
        self.orphans[at].extend(ops);
        self.attentions[at].iter_mut().for_each(|attentions| attentions.doubt());
    }

    /// A new session. What stores were at work on for the one before may still reach the medium, but not over what is
    /// written from now on.
    fn logged_in(&mut self, at: usize) {
        let now = self.tick();
        self.note(|| format!("host{at} is logged in"), 9);
        for (id, op) in std::mem::take(&mut self.orphans[at]) {
            let unit = &mut self.units[op.unit];
            // A PREEMPT AND ABORT that waits for its record goes on without its initiator.
            if !matches!(op.deed, Deed::ReserveOut(out) if out.action == PREEMPT_AND_ABORT) {
                unit.ending.retain(|ending| *ending != id);
            }
            unit.blocks.orphan(id, now);
            if unit.deciding == Some(id) {
                unit.deciding = None;
            }
        }
        let since = self.login_since[at];
        for unit in 0..self.units.len() {
            if self.sees(at, unit) {
                self.attentions[at][unit].renew(since, now);
            }
        }
    }

    /// A command is over, and nobody knows what it did; what is not answered goes on.
    fn gone(&mut self, at: usize, id: OpId) {
        let Some(op) = self.ops.remove(&id) else {
            return self.fail(format!("host{at}: op {id} is gone and was not open"));
        };
        let end = self.tick();
        self.note(|| format!("host{at} op {id} is gone"), id ^ 0xb);
        self.count("commands without an end");
        self.told_again(at, op.unit, op.start);
        if !matches!(op.deed, Deed::Manage { .. }) {
            self.units[op.unit].blocks.end(id, end, false, false);
            self.undecided(&op, id);
        }
    }

    /// The answer to a command that began at `start` may be lost. That the inventory is another is told by whichever unit
    /// is asked next.
    fn told_again(&mut self, at: usize, unit: usize, start: Tick) {
        for (other, attentions) in self.attentions[at].iter_mut().enumerate() {
            match other == unit {
                true => attentions.again(start),
                false => attentions.establish(0x3f, 0x0e, start, OPEN, false),
            }
        }
    }

    fn ended(&mut self, at: usize, id: OpId, ending: Ending) {
        let Some(op) = self.ops.remove(&id) else {
            return self.fail(format!("host{at}: op {id} ended and was not open"));
        };
        let end = self.tick();
        let status = ending.status;
        let sense = ending.sense.map(|sense| (sense.key.0, sense.code.asc, sense.code.ascq));
        self.note(
            || format!("host{at} op {id} ends: {status:?} {sense:02x?} {} bytes in", ending.data.len()),
            id ^ 0xe,
        );
        self.last_statuses.insert(id, status.0);
        let crossed = ending.crossed;
        let lied = ending.lied;
        if ending.late {
            self.told_again(at, op.unit, op.start);
        }
        let verdict = match (status, &ending.sense) {
            (Status::GOOD, _) if lied => Err("data that was not what was asked for was taken".into()),
            (Status::CHECK_CONDITION, Some(sense)) if lied && is_wrong_data(sense) => {
                self.units[op.unit].blocks.end(id, end, false, false);
                self.undecided(&op, id);
                Ok(())
            }
            (Status::GOOD, _) => self.good(&op, id, &ending, end),
            (Status::CHECK_CONDITION, Some(sense)) => self.checked(&op, id, sense, end),
            (Status::RESERVATION_CONFLICT, _) => self.conflicted(&op, id, end),
            (Status::BUSY | Status::TASK_SET_FULL, _) => {
                self.units[op.unit].blocks.undo(id);
                self.decided(&op, id, None, end)
            }
            (Status::TASK_ABORTED, _) if op.may_vanish => {
                self.units[op.unit].blocks.end(id, end, false, false);
                Ok(())
            }
            _ => Err(format!("status {status:?} with sense {sense:02x?} has no reason")),
        };
        if crossed {
            self.told_again(at, op.unit, op.start);
        }
        if let Err(words) = verdict {
            self.fail(format!("host{at} op {id} ({:?} on unit {}): {words}", op.deed, op.unit));
        }
    }

    fn good(&mut self, op: &Op, id: OpId, ending: &Ending, end: Tick) -> Result<(), String> {
        self.could_be_seen(op, end)?;
        self.nothing_missed(op)?;
        self.admitted(op, end)?;
        self.lengths_are_right(op, ending)?;
        let unit = &mut self.units[op.unit];
        let uncached = unit.uncached.is_some_and(|since| since < op.start);
        if matches!(op.deed, Deed::Write { .. } | Deed::Same | Deed::Unmap | Deed::Compare { .. }) {
            *self.counts.entry("writes acknowledged").or_default() += 1;
        }
        match &op.deed {
            Deed::Read { lba, .. } => {
                let whole = ending.data.len() / BLOCK * BLOCK;
                unit.blocks.read(*lba, &ending.data[..whole], op.start, end)?;
            }
            Deed::Write { fua, .. } => unit.blocks.end(id, end, true, *fua || uncached),
            Deed::Same => unit.blocks.end(id, end, true, uncached),
            Deed::Unmap => unit.blocks.end(id, end, true, false),
            Deed::Compare { lba, old, fua } => {
                unit.blocks.read(*lba, old, op.start, end)?;
                unit.blocks.end(id, end, true, *fua || uncached);
            }
            Deed::Flush => unit.blocks.flushed(op.start),
            Deed::ReserveOut(_) => return self.decided(op, id, Some(Verdict::Good), end),
            Deed::ReadKeys => return self.keys_are_right(op, &ending.data, end),
            Deed::ReadReservation => return self.reservation_is_right(op, &ending.data, end),
            Deed::Probe | Deed::Manage { .. } => {}
        }
        Ok(())
    }

    fn checked(&mut self, op: &Op, id: OpId, sense: &SenseData, end: Tick) -> Result<(), String> {
        let (asc, ascq) = (sense.code.asc, sense.code.ascq);
        let unit = op.unit;
        match sense.key {
            SenseKey::UNIT_ATTENTION => {
                self.units[unit].blocks.undo(id);
                self.undecided(op, id);
                if self.attentions[op.peer][unit].heard(asc, ascq, op.start, end) {
                    return Ok(());
                }
                return Err(format!("unit attention {asc:02x}/{ascq:02x} has no reason"));
            }
            SenseKey::MISCOMPARE => {
                if let Deed::Compare { .. } = &op.deed {
                    self.units[unit].blocks.undo(id);
                    return self.nothing_missed(op);
                }
            }
            SenseKey::ILLEGAL_REQUEST if asc == 0x25 => {
                self.units[unit].blocks.undo(id);
                self.undecided(op, id);
                let sight = self.sights[op.peer];
                let hidden = unit != 0 && (!sight.visible || sight.since >= op.start);
                let offline = self.units[unit].offline.is_some_and(|(_, to)| to >= op.start);
                if hidden || offline {
                    return Ok(());
                }
                return Err("the unit is there".into());
            }
            SenseKey::ILLEGAL_REQUEST => {
                if let Deed::ReserveOut(_) = op.deed {
                    self.nothing_missed(op)?;
                    return self.decided(op, id, Some(Verdict::Check), end);
                }
                // A parameter list or a block that the expected length cut short is refused.
            }
            _ => {}
        }
        self.units[unit].blocks.end(id, end, false, false);
        self.undecided(op, id);
        let flipped = self.peers[op.peer].flipped() > 0;
        let troubled = self.units[unit].troubled;
        if (troubled || flipped) && sense.key != SenseKey::ILLEGAL_REQUEST {
            return Ok(());
        }
        Err(format!("{:?} {asc:02x}/{ascq:02x} has no reason", sense.key))
    }

    fn conflicted(&mut self, op: &Op, id: OpId, end: Tick) -> Result<(), String> {
        self.units[op.unit].blocks.undo(id);
        self.nothing_missed(op)?;
        if let Deed::ReserveOut(_) = op.deed {
            return self.decided(op, id, Some(Verdict::Conflict), end);
        }
        let writes = !matches!(op.deed, Deed::Read { .. });
        let history = &self.units[op.unit].reservations;
        if history.possibly(op.start, end, |state| state.forbids(op.peer, writes)) {
            return Ok(());
        }
        Err("a reservation conflict without a reservation that forbids it".into())
    }

    /// Reservations let a command that moves data pass.
    fn admitted(&self, op: &Op, end: Tick) -> Result<(), String> {
        let writes = match op.deed {
            Deed::Read { .. } => false,
            Deed::Write { .. } | Deed::Same | Deed::Unmap | Deed::Compare { .. } => true,
            _ => return Ok(()),
        };
        let history = &self.units[op.unit].reservations;
        if history.possibly(op.start, end, |state| !state.forbids(op.peer, writes)) {
            return Ok(());
        }
        Err("the reservation of another forbids it".into())
    }

    fn could_be_seen(&self, op: &Op, end: Tick) -> Result<(), String> {
        let sight = self.sights[op.peer];
        if op.unit != 0 && !sight.visible && sight.since < op.start && op.start < end {
            return Err("the initiator does not see the unit".into());
        }
        Ok(())
    }

    fn nothing_missed(&self, op: &Op) -> Result<(), String> {
        match self.attentions[op.peer][op.unit].missed(op.start) {
            Some(_) if op.may_have_missed => Ok(()),
            Some(one) => Err(format!("unit attention {:02x}/{:02x} should have come first", one.asc, one.ascq)),
            None => Ok(()),
        }
    }

    /// Data, residual and R2Ts fit the lengths that the command and the initiator gave.
    fn lengths_are_right(&self, op: &Op, ending: &Ending) -> Result<(), String> {
        let (moved, total, expected) = match op.deed {
            Deed::Read { blocks, expected, .. } => (ending.data.len(), (blocks * BLOCK) as u32, expected),
            Deed::Write { blocks, expected, .. } => {
                let total = (blocks * BLOCK) as u32;
                let whole = expected.min(total) as usize / BLOCK * BLOCK;
                if (ending.sent as usize) < whole {
                    return Err(format!("GOOD after {} of {whole} bytes of data", ending.sent));
                }
                (expected.min(total) as usize, total, expected)
            }
            _ => return Ok(()),
        };
        let residual = match total.cmp(&expected) {
            std::cmp::Ordering::Less => Residual::Underflow(expected - total),
            std::cmp::Ordering::Equal => Residual::None,
            std::cmp::Ordering::Greater => Residual::Overflow(total - expected),
        };
        if moved != expected.min(total) as usize || ending.residual != residual {
            let got = ending.residual;
            return Err(format!("{moved} bytes and {got:?} for {total} of {expected} expected: {residual:?} was due"));
        }
        Ok(())
    }

    /// A PERSISTENT RESERVE OUT ended in a known way; `None`: it was not begun.
    fn decided(&mut self, op: &Op, id: OpId, verdict: Option<Verdict>, end: Tick) -> Result<(), String> {
        let Deed::ReserveOut(out) = op.deed else { return Ok(()) };
        let unit = &mut self.units[op.unit];
        unit.ending.retain(|ending| *ending != id);
        if unit.deciding != Some(id) {
            return Ok(());
        }
        unit.deciding = None;
        if verdict.is_some() {
            // They are carried out one after the other: those of lost sessions are over.
            let ops = &self.ops;
            unit.ending.retain(|ending| *ending > id || ops.contains_key(ending));
        }
        let before = self.before(op);
        let Some(verdict) = verdict else {
            self.units[op.unit].reservations.set(before, op.start, end);
            return Ok(());
        };
        let mut states: Vec<Reservations> = Vec::new();
        let mut told: Option<Vec<(usize, u8)>> = None;
        for state in &before {
            let (expected, next, tells) = state.apply(op.peer, out);
            if expected == verdict {
                states.push(next);
                told = Some(
                    told.map_or(tells.clone(), |told| told.into_iter().filter(|one| tells.contains(one)).collect()),
                );
            }
        }
        if states.is_empty() {
            return Err(format!("{verdict:?} does not follow from any of {before:?}"));
        }
        self.units[op.unit].reservations.set(states, op.start, end);
        self.tell(op, told.unwrap_or_default(), end);
        Ok(())
    }

    fn tell(&mut self, op: &Op, told: Vec<(usize, u8)>, end: Tick) {
        for (who, ascq) in told {
            let certain = self.peers[who].state() == State::Up && self.sees(who, op.unit) && !self.recently_offline(op);
            let certain = certain && self.settled(who, op.start);
            self.attentions[who][op.unit].establish(0x2a, ascq, op.start, end, certain);
        }
    }

    /// The session of `who` is older than `start`.
    fn settled(&self, who: usize, start: Tick) -> bool {
        self.login_since[who] < start && (self.sights[who].since < start)
    }

    fn recently_offline(&self, op: &Op) -> bool {
        self.units[op.unit].offline.is_some_and(|(_, to)| to >= op.start)
    }

    /// It is known that the command was not carried out, or nothing is known.
    fn undecided(&mut self, op: &Op, id: OpId) {
        // A parameter list that never came, or a unit that was not there: as before. A failure of the store leaves
        // the old state or the new.
        let unit = &mut self.units[op.unit];
        unit.ending.retain(|ending| *ending != id);
        if let Deed::ReserveOut(_) = op.deed
            && unit.deciding == Some(id)
        {
            unit.deciding = None;
        }
    }

    /// The states from before a command that is being decided.
    fn before(&self, op: &Op) -> Vec<Reservations> {
        self.units[op.unit].reservations.before(op.start)
    }

    fn keys_are_right(&mut self, op: &Op, data: &[u8], end: Tick) -> Result<(), String> {
        let Some(answer) = scsi_core::reservation::ReadKeys::decode(data) else { return Err("a cut answer".into()) };
        let mut keys = answer.keys;
        keys.sort_unstable();
        self.agrees(op, end, |state| state.answers().0 == keys, format!("keys {keys:x?}"))
    }

    fn reservation_is_right(&mut self, op: &Op, data: &[u8], end: Tick) -> Result<(), String> {
        let Some(answer) = scsi_core::reservation::ReadReservation::decode(data) else {
            return Err("a cut answer".into());
        };
        let held = answer.reservation.map(|(key, kind)| (key, kind.code()));
        self.agrees(op, end, |state| state.answers().1 == held, format!("reservation {held:x?}"))
    }

    fn agrees(
        &mut self,
        op: &Op,
        end: Tick,
        what: impl Fn(&Reservations) -> bool,
        words: String,
    ) -> Result<(), String> {
        let unit = &mut self.units[op.unit];
        if !unit.reservations.possibly(op.start, end, &what) {
            return Err(format!("{words} cannot be, it is {:?}", unit.reservations.now()));
        }
        Ok(())
    }

    fn managed(&mut self, at: usize, id: OpId, response: u8) {
        let Some(op) = self.ops.remove(&id) else {
            return self.fail(format!("host{at}: function {id} was answered and was not open"));
        };
        let end = self.tick();
        self.note(|| format!("host{at} op {id} is answered with {response}"), id ^ 0xf);
        let Deed::Manage { function, referenced } = op.deed else { return };
        let unit = op.unit;
        self.units[unit].ending.retain(|ending| *ending != id);
        if response != FUNCTION_COMPLETE {
            return;
        }
        // The initiator's own tasks are over, and touch the medium no more.
        let all = function != Function::ABORT_TASK;
        let over: Vec<OpId> = self
            .ops
            .iter()
            .filter(|(other, task)| {
                let named = if all { task.unit == unit && task.start < op.start } else { referenced == Some(**other) };
                task.peer == at && named && !matches!(task.deed, Deed::Manage { .. })
            })
            .map(|(other, _)| *other)
            .collect();
        for other in over {
            self.note(|| format!("host{at} op {other} is aborted"), other ^ 0xa);
            self.peers[at].give_up(other);
            self.given_up.insert(other);
            if let Some(start) = self.ops.get(&other).filter(|_| self.peers[at].is_fc()).map(|task| task.start) {
                self.told_again(at, unit, start);
            }
            if self.peers[at].lost() > 0 {
                // A unit attention of its answer may have been lost, and the abort that says so as well.
                self.attentions[at][unit].doubt();
            }
            if let Some(task) = self.ops.remove(&other) {
                self.units[unit].blocks.end(other, end, false, false);
                self.undecided(&task, other);
            }
        }
        if function == Function::LOGICAL_UNIT_RESET {
            for who in 0..PEERS {
                let up = self.peers[who].state() == State::Up && self.sees(who, unit);
                let certain = up && self.settled(who, op.start) && !self.recently_offline(&op);
                self.attentions[who][unit].establish(0x29, 3, op.start, end, certain);
            }
        }
    }
}

/// ABORTED COMMAND, for the data was damaged, unexpected or not as much as was asked for (RFC 7143 11.4.7.2).
fn is_wrong_data(sense: &SenseData) -> bool {
    sense.key == SenseKey::ABORTED_COMMAND
        && matches!((sense.code.asc, sense.code.ascq), (0x47, 0x05) | (0x0c, 0x0c) | (0x0c, 0x0d))
}

//! What initiators ask of units.

use iscsi_proto::pdu::TaskManagementFunctionCode as Function;

use super::blocks::{BLOCK, OPEN, content, value};
use super::host::Host;
use super::nexus::{PREEMPT, PREEMPT_AND_ABORT, REGISTER, REGISTER_AND_IGNORE, ReserveOut};
use super::peer::{OpId, State, with_attribute};
use super::plan::PEERS;
use super::world::{Deed, QUEUE_DEPTH, World};
use crate::initiator::Command;
use crate::rng::Rng;

impl World {
    pub(super) fn read(&mut self, at: usize, lun: u16, lba: usize, blocks: usize, ordered: bool, rng: &mut Rng) {
        let length = (blocks * BLOCK) as u32;
        let expected = odd_length(length, rng);
        let mut command = Command::read_blocks(lun, lba as u64, blocks as u32);
        if rng.chance(100_000) {
            command = command.fua();
        }
        command.read_length = expected;
        self.issue(at, lun, Deed::Read { lba, blocks, expected }, &with_attribute(command, ordered));
    }

    #[allow(clippy::too_many_arguments)]
    pub(super) fn write(
        &mut self,
        at: usize,
        lun: u16,
        lba: usize,
        blocks: usize,
        fua: bool,
        ordered: bool,
        rng: &mut Rng,
    ) {
        let (unit, op) = (self.unit_at(at, lun), self.next_op);
        let value = value(unit, op);
        let mut data: Vec<u8> = (lba..lba + blocks).flat_map(|lba| content(value, Some(lba as u64))).collect();
        let expected = odd_length(data.len() as u32, rng);
        data.resize(expected as usize, 0xee);
        let mut command = Command::write_blocks(lun, lba as u64, data);
        command.cdb[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
        if fua {
            command = command.fua();
        }
        let written = blocks.min(expected as usize / BLOCK);
        let deed = Deed::Write { blocks, expected, fua };
        self.begin_write(at, lun, deed, &with_attribute(command, ordered), (lba, written, false), value);
    }

    pub(super) fn begin_write(
        &mut self,
        at: usize,
        lun: u16,
        deed: Deed,
        command: &Command,
        (lba, blocks, same): (usize, usize, bool),
        value: u64,
    ) {
        let unit = self.unit_at(at, lun);
        let start = self.tick;
        if let Some(op) = self.issue(at, lun, deed, command) {
            self.units[unit].blocks.begin(op, value, same, lba, blocks, start);
        }
    }

    pub(super) fn write_same(&mut self, at: usize, lun: u16, lba: usize, blocks: usize) {
        let value = value(self.unit_at(at, lun), self.next_op);
        let mut command = Command::write_blocks(lun, lba as u64, content(value, None).to_vec());
        command.cdb[0] = 0x93;
        command.cdb[10..14].copy_from_slice(&(blocks as u32).to_be_bytes());
        self.begin_write(at, lun, Deed::Same, &command, (lba, blocks, true), value);
    }

    pub(super) fn unmap(&mut self, at: usize, lun: u16, lba: usize, blocks: usize) {
        let mut list = vec![0, 22, 0, 16, 0, 0, 0, 0];
        list.extend_from_slice(&(lba as u64).to_be_bytes());
        list.extend_from_slice(&(blocks as u32).to_be_bytes());
        list.extend_from_slice(&[0; 4]);
        let command = Command::write(lun, &[0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0], list);
        self.begin_write(at, lun, Deed::Unmap, &command, (lba, blocks, false), 0);
    }

    pub(super) fn compare(&mut self, at: usize, lun: u16, lba: usize, fua: bool, wrong: bool) {
        let unit = self.unit_at(at, lun);
        let value = value(unit, self.next_op);
        let mut old = self.units[unit].blocks.guess(lba).to_vec();
        if wrong {
            old[BLOCK - 1] ^= 0x80;
        }
        let mut data = old.clone();
        data.extend_from_slice(&content(value, Some(lba as u64)));
        let mut command = Command::write_blocks(lun, lba as u64, data);
        command.cdb[0] = 0x89;
        command.cdb[10..14].copy_from_slice(&[0, 0, 0, 1]);
        if fua {
            command = command.fua();
        }
        self.begin_write(at, lun, Deed::Compare { lba, old, fua }, &command, (lba, 1, false), value);
    }

    pub(super) fn flush(&mut self, at: usize, lun: u16) -> Option<OpId> {
        let mut cdb = [0; 16];
        cdb[0] = 0x91;
        self.issue(at, lun, Deed::Flush, &Command::new(lun, &cdb))
    }

    pub(super) fn reserve_out(&mut self, at: usize, lun: u16, rng: &mut Rng) {
        let unit = self.unit_at(at, lun);
        if self.units[unit].deciding.is_some() {
            return;
        }
        let known = self.units[unit].reservations.now().first().and_then(|state| state.key(at));
        let action = match known {
            None if rng.chance(800_000) => [REGISTER, REGISTER_AND_IGNORE][rng.below(2) as usize],
            _ => rng.below(7) as u8,
        };
        let registers = action == REGISTER || action == REGISTER_AND_IGNORE;
        let kind = [1, 3, 5, 6, 7, 8][rng.below(6) as usize];
        let own = 0x100 + at as u64;
        let other = 0x100 + (at as u64 + 1 + rng.below(PEERS as u64 - 1)) % PEERS as u64;
        let key = if rng.chance(50_000) { 0xbad } else { known.unwrap_or(0) };
        let service_key = match action {
            _ if registers && known.is_some() && rng.chance(300_000) => 0,
            _ if registers => own,
            PREEMPT | PREEMPT_AND_ABORT if rng.chance(150_000) => 0,
            _ => other,
        };
        let out = ReserveOut { action, kind, key, service_key, aptpl: registers && rng.chance(400_000) };
        if self.send_reserve_out(at, lun, out).is_some() {
            self.count("reservation changes");
        }
    }

    pub(super) fn send_reserve_out(&mut self, at: usize, lun: u16, out: ReserveOut) -> Option<OpId> {
        let unit = self.unit_at(at, lun);
        let mut list = vec![0; 24];
        list[..8].copy_from_slice(&out.key.to_be_bytes());
        list[8..16].copy_from_slice(&out.service_key.to_be_bytes());
        list[20] = u8::from(out.aptpl);
        let command = Command::write(lun, &[0x5f, out.action, out.kind, 0, 0, 0, 0, 0, 24, 0], list);
        let start = self.tick;
        let op = self.issue(at, lun, Deed::ReserveOut(out), &command)?;
        self.units[unit].deciding = Some(op);
        if out.action == PREEMPT_AND_ABORT {
            self.begin_ending(unit, op);
        }
        // What it may do, it may do from now on.
        let states = self.units[unit].reservations.now().to_vec();
        let mut all = states.clone();
        for state in states {
            let (_, next, told) = state.apply(at, out);
            all.push(next);
            for (who, ascq) in told {
                self.attentions[who][unit].establish(0x2a, ascq, start, OPEN, false);
            }
        }
        self.units[unit].reservations.set(all, start, start);
        Some(op)
    }

    pub(super) fn reserve_in(&mut self, at: usize, lun: u16, keys: bool) {
        let action = u8::from(!keys);
        let deed = if keys { Deed::ReadKeys } else { Deed::ReadReservation };
        self.issue(at, lun, deed, &Command::read(lun, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], 256));
    }

    pub(super) fn manage(&mut self, at: usize, lun: u16, rng: &mut Rng) {
        if self.peers[at].state() != State::Up {
            return;
        }
        let unit = self.unit_at(at, lun);
        let open: Vec<(u32, OpId)> = self.peers[at]
            .open_tasks()
            .into_iter()
            .filter(|(_, op)| self.ops.get(op).is_some_and(|op| op.unit == unit))
            .collect();
        let (function, referenced) = match rng.below(6) {
            0..=2 if !open.is_empty() => (Function::ABORT_TASK, Some(open[rng.below(open.len() as u64) as usize])),
            3 => (Function::ABORT_TASK_SET, None),
            4 => (Function::CLEAR_TASK_SET, None),
            _ => (Function::LOGICAL_UNIT_RESET, None),
        };
        let deed = Deed::Manage { function, referenced: referenced.map(|(_, op)| op) };
        let op = self.open(at, lun, deed);
        let start = self.tick;
        self.count("task management");
        self.note(|| format!("host{at} LUN {lun} op {op}: {function:?} {referenced:?}"), op);
        if function != Function::ABORT_TASK {
            self.begin_ending(unit, op);
        }
        if function == Function::LOGICAL_UNIT_RESET {
            for attentions in &mut self.attentions {
                attentions[unit].establish(0x29, 3, start, OPEN, false);
            }
        }
        if function == Function::CLEAR_TASK_SET {
            for attentions in &mut self.attentions {
                attentions[unit].establish(0x2f, 0, start, OPEN, false);
            }
        }
        self.peers[at].manage(op, function, lun, referenced.map(|(tag, _)| tag));
    }

    /// An initiator says what is not so. Its session hears what the standard has for that, and nobody else is touched.
    pub(super) fn lie(&mut self, at: usize, rng: &mut Rng) {
        let Host::Iscsi(peer) = &mut self.peers[at] else { return };
        // With a number left out an old one is not old.
        if peer.state != State::Up || peer.has_gap {
            return;
        }
        let lie = peer.lie(QUEUE_DEPTH.into(), rng);
        self.count("lies");
        self.count(lie.kind);
        self.note(|| format!("host{at} lies: {}", lie.words), 11);
    }

    /// From now on tasks of the unit may end without a word.
    pub(super) fn begin_ending(&mut self, unit: usize, op: OpId) {
        self.units[unit].ending.push(op);
        for other in self.ops.values_mut().filter(|other| other.unit == unit) {
            other.may_vanish = true;
        }
    }
}

/// Mostly the length of the command, sometimes less or more.
fn odd_length(length: u32, rng: &mut Rng) -> u32 {
    match rng.below(12) {
        0 => length - 1 - rng.below(u64::from(length) - 1) as u32,
        1 => length + 1 + rng.below(2000) as u32,
        _ => length,
    }
}

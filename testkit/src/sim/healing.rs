//! The end of a run: the faults stop, everybody is served again, and everything is looked at.

use std::time::Duration;

use super::blocks::BLOCK;
use super::host::Host;
use super::nexus::{CLEAR, REGISTER_AND_IGNORE, ReserveOut};
use super::peer::{OpId, State};
use super::plan::{PEERS, UNITS};
use super::world::{BLOCKS, Deed, HEALING, Op, SETTLING, World};
use crate::initiator::Command;
use crate::rng::Rng;
use crate::store::PowerCut;

/// How long initiators wait, once the faults have stopped, for a connection that is silent. Others may wait for what such a
/// session has begun, so it is less than the time after which they take a command for one that has vanished.
const PATIENCE: Duration = Duration::from_secs(2);

impl World {
    /// The faults stop; everything has to come to rest within [`HEALING`].
    pub(super) fn heal_everything(&mut self) {
        self.note(|| "the faults stop".into(), 7);
        let stopped = self.san.elapsed();
        self.san.set_store_delay(Duration::ZERO);
        for at in 0..PEERS {
            self.peers[at].mend();
            self.peers[at].stall(Duration::ZERO);
            if let Host::Iscsi(peer) = &mut self.peers[at] {
                peer.give_up_until(stopped + PATIENCE);
            }
            // What was lost on a fabric would be waited for twice R_A_TOV: a host begins anew.
            if let Host::Fc(peer) = &mut self.peers[at] {
                peer.reset_unless_up();
                self.log_in(at);
            }
            if !self.sights[at].visible {
                self.change_view(at);
            }
        }
        for unit in 0..UNITS {
            self.heal_unit(unit);
        }
        let is_ready = |peer: &Host| peer.state() == State::Up && !peer.is_busy() && peer.window() > 0;
        let mut waited = Duration::ZERO;
        while self.violation.is_none() && waited < HEALING {
            self.sweep(waited);
            if self.peers.iter().all(is_ready) {
                // What was sent before the faults stopped may still be under way, a login on an older connection say.
                self.advance(SETTLING);
                if self.peers.iter().all(is_ready) {
                    break;
                }
            }
            for at in 0..PEERS {
                if self.peers[at].state() == State::Down {
                    self.log_in(at);
                }
            }
            let step = Duration::from_millis(if waited < Duration::from_millis(100) { 1 } else { 100 });
            self.advance(step);
            waited = self.san.elapsed() - stopped;
        }
        self.healing_ms = waited.as_millis() as u64;
        if self.violation.is_none()
            && let Some(at) = (0..PEERS).find(|at| !is_ready(&self.peers[*at]))
        {
            let open: Vec<&Op> = self.ops.values().filter(|op| op.peer == at).collect();
            let (state, window) = (self.peers[at].state(), self.peers[at].window());
            self.fail(format!(
                "host{at} is not served after {HEALING:?}: {state:?}, {window} commands may come, open: {open:?}"
            ));
        }
    }

    /// Gives up what nobody has to answer, and connections that flipped bits have ruined.
    pub(super) fn sweep(&mut self, waited: Duration) {
        if waited > Duration::from_secs(3) {
            // A task management function is always answered.
            let gone: Vec<(OpId, usize)> = self
                .ops
                .iter()
                .filter(|(_, op)| op.may_vanish && !matches!(op.deed, Deed::Manage { .. }))
                // With flipped bits it may not have arrived, and the connection is not what it was.
                .filter(|(_, op)| self.peers[op.peer].flipped() == 0)
                .map(|(id, op)| (*id, op.peer))
                .collect();
            for (op, peer) in gone {
                self.note(|| format!("op {op} vanished"), op);
                self.peers[peer].give_up(op);
                self.ops.remove(&op);
            }
        }
        if waited > Duration::from_secs(5) {
            for at in 0..PEERS {
                if self.peers[at].is_busy() && self.peers[at].flipped() > 0 {
                    let lost = self.peers[at].drop_connection(false);
                    self.lose(at, lost);
                }
            }
        }
    }

    /// Runs one command to its end; its status.
    pub(super) fn finish(&mut self, op: Option<OpId>) -> Option<u8> {
        let op = op?;
        for _ in 0..5_000 {
            self.advance(Duration::from_millis(1));
            if let Some(status) = self.last_statuses.remove(&op) {
                return Some(status);
            }
            if self.violation.is_some() {
                return None;
            }
        }
        self.fail(format!("op {op} has no end after 5 s without faults"));
        None
    }

    /// With everything healed, everybody reads everything, and a last loss of power takes nothing that was flushed.
    pub(super) fn check_everything(&mut self) {
        for at in 0..PEERS {
            for lun in 0..2 {
                for _ in 0..8 {
                    let op = self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
                    if self.finish(op) != Some(2) {
                        break;
                    }
                }
                let (own, unit) = (0x100 + at as u64, self.unit_at(at, lun));
                for read in [0, 1] {
                    let before = self.next_op;
                    self.reserve_in(at, lun, read == 0);
                    self.finish((self.next_op > before).then_some(before));
                }
                let register =
                    ReserveOut { action: REGISTER_AND_IGNORE, kind: 0, key: 0, service_key: own, aptpl: false };
                let clear = ReserveOut { action: CLEAR, kind: 0, key: own, service_key: 0, aptpl: false };
                for out in [register, clear] {
                    self.units[unit].deciding = None;
                    let op = self.send_reserve_out(at, lun, out);
                    self.finish(op);
                }
            }
        }
        let mut rng = Rng::new(1);
        for at in 0..PEERS {
            for lun in 0..2 {
                for _ in 0..4 {
                    let op = self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
                    if self.finish(op) != Some(2) {
                        break;
                    }
                }
                let unit = self.unit_at(at, lun);
                self.units[unit].troubled = false;
                let op = self.next_op;
                let command = Command::read_blocks(lun, 0, BLOCKS as u32);
                let expected = (BLOCKS * BLOCK) as u32;
                self.issue(at, lun, Deed::Read { lba: 0, blocks: BLOCKS, expected }, &command);
                let read = self.finish(Some(op));
                let op = self.next_op;
                self.write(at, lun, at, 1, true, false, &mut rng);
                let written = self.finish(Some(op));
                if self.violation.is_none() && (read, written) != (Some(0), Some(0)) {
                    self.fail(format!(
                        "host{at} LUN {lun}: read and write end with {read:?} and {written:?} after healing"
                    ));
                }
                if self.violation.is_some() {
                    return;
                }
            }
        }
        let tasks: usize = self.units.iter().map(|unit| unit.lu.snapshot().tasks).sum();
        let (connections, sessions) = self.san.census();
        let on_iscsi = self.peers.iter().filter(|peer| !peer.is_fc()).count();
        let (all, open) = (self.san.stmf().sessions().len(), self.san.fabric_outstanding());
        if tasks != 0 || sessions != on_iscsi || connections != on_iscsi || all != PEERS || open != 0 {
            self.fail(format!(
                "at the end: {tasks} tasks, {sessions} sessions, {connections} connections are left, {all} sessions of \
                 the framework, {open} commands over the fabric"
            ));
        }
        if self.violation.is_none() {
            self.restart(Some(PowerCut::LosesAll), &mut rng);
        }
    }
}

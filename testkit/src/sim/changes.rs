//! What happens to links, views and units meanwhile: faults, the administrator, a restart.

use fct::soft::Faults;
use lu_sbd::meta::Identity;
use lu_sbd::properties::ModifyProperties;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use stmf::config::{GroupKind, NewView};
use stmf::provider::LogicalUnit;

use super::host::Host;
use super::peer::State;
use super::plan::{PEERS, UNITS};
use super::unit::unit;
use super::world::{Deed, HOLE_TIMEOUT, PING, PING_INTERVAL, PING_TIMEOUT, Sight, World, start};
use crate::initiator::Command;
use crate::link::LinkFaults;
use crate::rng::Rng;
use crate::san::guid;
use crate::store::PowerCut;

impl World {
    pub(super) fn change_links(&mut self, at: usize, rng: &mut Rng) {
        self.count("links disturbed");
        let faults = LinkFaults {
            longest_piece: [0, 1 + rng.below(60) as usize, 1 + rng.below(3000) as usize][rng.below(3) as usize],
            longest_delay: Duration::from_micros(rng.below(3_000)),
            flips_per_million: if rng.chance(400_000) { 1 + rng.below(30_000) as u32 } else { 0 },
            reset_after: None,
        };
        let frames = Faults {
            loss_per_mille: if rng.chance(500_000) { rng.below(60) as u16 } else { 0 },
            lose_nth: rng.below(8) as u32,
            // Frames of a sequence may take several paths; a whole exchange overtakes no other on this fabric.
            reorder_per_mille: 0,
            reorder_data_per_mille: if rng.chance(400_000) { rng.below(400) as u16 } else { 0 },
            longest_delay: Duration::from_micros(if rng.chance(600_000) { rng.below(2_000) } else { 0 }),
        };
        match &mut self.peers[at] {
            Host::Iscsi(peer) => {
                peer.set_faults(faults.clone());
                self.note(|| format!("host{at}: {faults:?}"), faults.longest_piece as u64);
            }
            Host::Fc(peer) => {
                peer.set_faults(frames);
                self.note(|| format!("host{at}: {frames:?}"), frames.loss_per_mille.into());
            }
        }
    }

    /// A connection goes dead: nothing arrives any more in one direction or in both, and nobody says so. The target has to
    /// notice by itself when its pings are not answered.
    pub(super) fn silence(&mut self, at: usize, rng: &mut Rng) {
        let (to_target, to_initiator) = [(true, false), (false, true), (true, true)][rng.below(3) as usize];
        let patience = self.san.elapsed() + Duration::from_micros(rng.below(40_000_000));
        let Host::Iscsi(peer) = &mut self.peers[at] else { return };
        if peer.state != State::Up {
            return;
        }
        peer.go_dead(to_target, to_initiator, patience);
        self.count("links gone dead");
        self.note(|| format!("host{at} is dead: to the target {to_target}, to the initiator {to_initiator}"), 12);
        if rng.chance(500_000) {
            self.wait_for_end(at, PING_INTERVAL + PING_TIMEOUT);
        }
    }

    /// An initiator leaves a command number out, and sends what comes after it. The target waits, and then gives up.
    pub(super) fn leave_gap(&mut self, at: usize, lun: u16, rng: &mut Rng) {
        let Host::Iscsi(peer) = &mut self.peers[at] else { return };
        if peer.state != State::Up || peer.window() < 2 || peer.gives_up_at().is_some() || peer.has_gap {
            return;
        }
        peer.leave_gap();
        self.count("command numbers left out");
        self.note(|| format!("host{at} leaves a command number out"), 13);
        self.issue(at, lun, Deed::Probe, &Command::new(lun, &[0; 6]));
        // With a bit of a length flipped the target may not have seen that there is a gap.
        if rng.chance(500_000) && self.peers[at].flipped() == 0 {
            self.wait_for_end(at, HOLE_TIMEOUT);
        }
    }

    /// Lets `time` pass and a second more; then the session of this initiator has to be gone.
    fn wait_for_end(&mut self, at: usize, time: Duration) {
        self.advance(time + Duration::from_secs(1));
        let name = self.peers[at].name();
        let is_there = self.san.stmf().sessions().iter().any(|session| session.nexus().initiator == name);
        // Where bytes arrive, an initiator that has heard of the end is not meant: the session that is there may be one that
        // it has given up, whose login arrived late and took the place of its own. Pings end that one, later.
        let is_certain = time > HOLE_TIMEOUT
            || self.peers[at].flipped() == 0 && matches!(&self.peers[at], Host::Iscsi(peer) if peer.state == State::Up);
        if self.violation.is_none() && is_there && is_certain {
            self.fail(format!("host{at} has a session after {time:?} in which its connection was of no use"));
        }
    }

    /// Many pings come from an initiator that does not take the answers for a while.
    pub(super) fn storm(&mut self, at: usize, rng: &mut Rng) {
        let until = self.san.elapsed() + Duration::from_micros(rng.below(50_000));
        let Host::Iscsi(peer) = &mut self.peers[at] else { return };
        if peer.state != State::Up {
            return;
        }
        peer.stalled_until = until;
        peer.storm(PING, rng);
        self.count("storms of pings");
        self.note(|| format!("host{at} pings and takes nothing until {until:?}"), 14);
    }

    /// A link of the fabric goes down and comes up at once.
    pub(super) fn flap(&mut self, at: usize, rng: &mut Rng) {
        let everybody = rng.chance(300_000);
        self.note(|| format!("the link of {} flaps", if everybody { "the target" } else { "a host" }), 10);
        match &self.peers[at] {
            Host::Fc(peer) if !everybody => peer.flap(),
            _ => self.san.fabric_port().1.flap(),
        }
    }

    pub(super) fn change_view(&mut self, at: usize) {
        self.count("views changed");
        let (unit, before) = (self.unit_at(at, 1), self.tick());
        let visible = !self.sights[at].visible;
        self.note(|| format!("host{at} {} unit {unit}", if visible { "sees" } else { "does not see" }), 5);
        let lu = guid(unit as u16 + 1);
        let group = format!("group{at}");
        for op in self.ops.values_mut().filter(|op| op.peer == at) {
            op.may_vanish |= op.unit == unit;
        }
        self.san.change(|config| match visible {
            true => {
                let view = NewView { lu, host_group: Some(&group), target_group: None, lun: Some(1) };
                Ok(config.add_view(&view)?.0)
            }
            false => {
                let id = config.group(GroupKind::Host, &group)?.id();
                let views = config.views(lu);
                let index = views.iter().find(|view| view.scope.host_group == Some(id)).map_or(0, |view| view.index);
                config.remove_view(lu, index)
            }
        });
        let after = self.tick();
        self.sights[at] = Sight { visible, since: after };
        self.attentions[at][0].establish(0x3f, 0x0e, before, after, false);
        match visible {
            true => self.attentions[at][unit].renew(before, after),
            false => self.attentions[at][unit].doubt(),
        }
        self.attentions[at][unit].establish(0x3f, 0x0e, before, after, false);
    }

    pub(super) fn change_cache(&mut self, unit: usize) {
        if self.units[unit].troubled {
            return;
        }
        self.count("write caches switched");
        let before = self.tick();
        let off = self.units[unit].uncached.is_none();
        let word = if off { "wcd=true" } else { "wcd=false" };
        let done = ModifyProperties::parse([word], None).map(|change| self.units[unit].lu.modify(&change));
        if !matches!(done, Ok(Ok(()))) {
            return self.fail(format!("unit {unit}: {word} was refused: {done:?}"));
        }
        let after = self.tick();
        self.note(|| format!("unit {unit}: {word}"), u64::from(off));
        self.units[unit].uncached = off.then_some(after);
        if off {
            self.units[unit].blocks.flushed(before);
        }
        for at in 0..PEERS {
            let certain = self.peers[at].state() == State::Up && self.sees(at, unit);
            self.attentions[at][unit].establish(0x2a, 1, before, after, certain);
        }
    }

    pub(super) fn heal_unit(&mut self, unit: usize) {
        self.units[unit].store.heal();
        let failed = self.units[unit].lu.snapshot().failure.is_some();
        self.note(|| format!("unit {unit} is healed, had failed: {failed}"), u64::from(failed));
        if !failed {
            return;
        }
        self.count("units brought back");
        let before = self.tick();
        for op in self.ops.values_mut().filter(|op| op.unit == unit) {
            op.may_vanish = true;
        }
        let lu = guid(unit as u16 + 1);
        let stmf = self.san.stmf();
        let _ = stmf.offline_lu(lu);
        self.san.settle();
        let _ = stmf.online_lu(lu);
        self.san.settle();
        let after = self.tick();
        self.units[unit].offline = Some((before, after));
        for at in 0..PEERS {
            let attentions = &mut self.attentions[at];
            attentions[unit].doubt();
            attentions[unit].establish(0x29, 0, before, after, false);
            attentions.iter_mut().for_each(|attentions| attentions.establish(0x3f, 0x0e, before, after, false));
        }
    }

    /// Power cut or end of the process, and a new process over what is there.
    pub(super) fn restart(&mut self, cut: Option<PowerCut>, rng: &mut Rng) {
        self.count(if cut.is_some() { "power cuts" } else { "process restarts" });
        self.tick();
        self.note(|| format!("restart, {cut:?}"), 6);
        let time = self.san.switch_off(|_| rng.chance(500_000));
        let at = self.tick();
        for peer in 0..PEERS {
            self.peers[peer].forget();
            self.orphans[peer].clear();
        }
        self.ops.clear();
        self.san = start(&mut self.rng, time, self.level);
        self.choose_socket();
        for index in 0..UNITS {
            let unit_ = &mut self.units[index];
            if let Some(cut) = cut {
                unit_.store = unit_.store.after(cut);
            }
            let text = unit_.records.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let identity = match Identity::from_record(&String::from_utf8_lossy(&text)) {
                Ok(identity) => identity,
                Err(error) => return self.fail(format!("unit {index}: the record is lost: {error}")),
            };
            unit_.lu = unit(identity, &unit_.store, &unit_.records);
            unit_.deciding = None;
            unit_.ending.clear();
            unit_.offline = None;
            let states = unit_.reservations.now().iter().map(|state| state.restarted()).collect();
            unit_.reservations.set(states, at, at);
            let image = unit_.store.live_image();
            if let Err(words) = unit_.blocks.restarted(&image, at, cut.is_some()) {
                return self.fail(words);
            }
        }
        self.publish();
    }

    /// Makes the units known to the target and visible to whom they belong.
    pub(super) fn publish(&mut self) {
        for at in 0..PEERS {
            let group = format!("group{at}");
            self.san.change(|config| config.create_group(GroupKind::Host, &group));
            self.san.change(|config| config.add_member(GroupKind::Host, &group, self.peers[at].name()));
        }
        let stmf = self.san.stmf();
        for (index, unit) in self.units.iter().enumerate() {
            if stmf.register_lu(Arc::clone(&unit.lu) as Arc<dyn LogicalUnit>, "sbd").is_err() {
                self.violation.get_or_insert(format!("unit {index} could not be registered"));
            }
        }
        let all = NewView { lu: guid(1), host_group: None, target_group: None, lun: Some(0) };
        self.san.change(|config| Ok(config.add_view(&all)?.0));
        for at in (0..PEERS).filter(|at| self.sights[*at].visible) {
            let (group, lu) = (format!("group{at}"), guid(self.unit_at(at, 1) as u16 + 1));
            let view = NewView { lu, host_group: Some(&group), target_group: None, lun: Some(1) };
            self.san.change(|config| Ok(config.add_view(&view)?.0));
        }
    }
}

//! Reservations: what other nexuses may not do meanwhile. The rules are [`scsi_core::reservation`]'s; here they meet
//! tasks, unit attentions and the record beside the data.

use scsi_core::cdb::{PersistentReserveIn, PersistentReserveOut, PrInAction, PrOutAction};
use scsi_core::command::{Command, ParsedCommand};
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::reservation::{
    Access, Capabilities, FullStatus, NexusName, Outcome, OutcomeStatus, ReadKeys, ReadReservation, Reservations,
    TargetPort, Topology, parse_move, parse_register,
};
use scsi_core::{AdditionalSense, Status, TransportId};
use stmf::provider::{Effects, Segments};
use stmf::{Nexus, NexusId};

use super::Lu;
use super::gather::concat;
use super::persist::Change;
use super::slab::Key;
use super::task::{Announce, Waiter, Work};
use super::transfer::Checked;

/// Target ports that are remembered for ALL_TG_PT.
const MAX_TARGET_PORTS: usize = 256;

/// The name under which reservations know a nexus.
pub(super) fn name_of(nexus: &Nexus) -> NexusName {
    let initiator = match TransportId::decode(&nexus.transport_id) {
        Ok((id, _)) => id,
        // A port provider without TransportIDs: the initiator's name has to do.
        Err(_) => TransportId::iscsi(&nexus.initiator),
    };
    NexusName::new(initiator, &nexus.target_port_name, nexus.relative_target_port)
}

/// The state that a record kept; what cannot be read is lost, and then nobody gets in who might have been locked out.
pub(super) fn restore(kept: &[u8]) -> Reservations {
    let most = Reservations::DEFAULT_MAX_REGISTRATIONS;
    if kept.is_empty() {
        return Reservations::new(true, most);
    }
    Reservations::from_aptpl(kept, most).unwrap_or_else(|_| {
        let mut state = Reservations::new(true, most);
        state.set_lost();
        state
    })
}

/// What the record keeps of a state.
pub(super) fn kept(state: &Reservations) -> Vec<u8> {
    if state.aptpl() && !is_active(Mutation::AptplForgotten) { state.to_aptpl() } else { Vec::new() }
}

impl Lu {
    /// Remembers a target port that the unit is reached through.
    pub(super) fn learn_port(&mut self, port: &TargetPort) {
        if !self.target_ports.contains(port) && self.target_ports.len() < MAX_TARGET_PORTS {
            self.target_ports.push(port.clone());
        }
    }

    /// Whether a reservation of others forbids the command.
    pub(super) fn conflicts(&mut self, nexus: NexusId, parsed: &ParsedCommand) -> bool {
        if self.reservations.is_free() || is_active(Mutation::ReservationNotChecked) {
            return false;
        }
        let Some(state) = self.nexuses.get_mut(&nexus) else { return true };
        let revision = self.reservations.revision();
        // With many registrants looking the nexus up costs more than the command.
        let standing = match state.standing {
            Some((known, standing)) if known == revision || is_active(Mutation::StandingStale) => standing,
            _ => {
                let standing = self.reservations.standing(&state.name);
                state.standing = Some((revision, standing));
                standing
            }
        };
        self.reservations.access_of(standing, parsed) == Access::Conflict
    }

    fn name(&self, key: Key) -> Option<NexusName> {
        let nexus = self.tasks.get(key)?.id.nexus;
        self.nexuses.get(&nexus).map(|state| state.name.clone())
    }

    pub(super) fn reserve_or_release(&mut self, key: Key, command: Command, fx: &mut Effects) -> Checked {
        if self.must_queue(key, command, &Segments::new()) {
            return Ok(());
        }
        let Some(name) = self.name(key) else { return Ok(()) };
        let status = match command {
            Command::Reserve => self.reservations.reserve(&name),
            _ => self.reservations.release(&name),
        };
        self.reservation_status(key, status, fx)
    }

    fn reservation_status(&mut self, key: Key, status: OutcomeStatus, fx: &mut Effects) -> Checked {
        match status {
            OutcomeStatus::Good => self.good(key, 0, fx),
            OutcomeStatus::Conflict => self.complete(key, Status::RESERVATION_CONFLICT, None, 0, fx),
            OutcomeStatus::CheckCondition(sense) => return Err(sense),
        }
        Ok(())
    }

    pub(super) fn persistent_reserve_in(&mut self, key: Key, command: &PersistentReserveIn, fx: &mut Effects) {
        let state = &self.reservations;
        let data = match command.action {
            PrInAction::ReadKeys => ReadKeys::of(state).encode(),
            PrInAction::ReadReservation => ReadReservation::of(state).encode(),
            PrInAction::ReportCapabilities => Capabilities::of(state).encode(),
            PrInAction::ReadFullStatus => FullStatus::of(state).encode(),
        };
        self.answer(key, data, command.allocation_length.into(), fx);
    }

    /// All of a PERSISTENT RESERVE OUT is here. It is carried out on a copy of the state, which takes its place when
    /// what has to be kept is kept.
    pub(super) fn received_reservation(
        &mut self,
        key: Key,
        command: &PersistentReserveOut,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        if self.must_queue(key, Command::PersistentReserveOut(*command), &data) {
            return Ok(());
        }
        let Some(name) = self.name(key) else { return Ok(()) };
        let list = concat(data);
        let initiator_ports: Vec<TransportId> =
            self.nexuses.values().map(|state| state.name.initiator.clone()).collect();
        let topology = Topology { target_ports: &self.target_ports, initiator_ports: &initiator_ports };
        let mut state = self.reservations.clone();
        let outcome = match command.action {
            PrOutAction::RegisterAndMove => state.register_and_move(&name, &parse_move(&list)?, topology),
            _ => state.persistent_reserve_out(&name, command, &parse_register(&list)?, topology),
        };
        if outcome.status != OutcomeStatus::Good {
            return self.reservation_status(key, outcome.status, fx);
        }
        let persist = outcome.persist && (state.aptpl() || !is_active(Mutation::ReservationsKeptUnasked));
        let change =
            Change::Reservations { state: Box::new(state), outcome: Box::new(outcome), total: list.len() as u64 };
        if persist {
            self.persist(key, change, fx);
        } else {
            self.commit(key, change, fx);
        }
        Ok(())
    }

    /// A change of the reservations comes into force: others are told, and PREEMPT AND ABORT ends their tasks before it
    /// ends itself.
    pub(super) fn commit_reservations(
        &mut self,
        key: Key,
        state: Reservations,
        outcome: &Outcome,
        total: u64,
        fx: &mut Effects,
    ) {
        self.reservations = state;
        self.identity.reservations = kept(&self.reservations);
        for (name, code) in outcome.attentions.iter().filter(|_| !is_active(Mutation::PreemptNotTold)) {
            self.attention_by_name(name, *code);
        }
        // What a preempted nexus had stopped goes on.
        let preempted: Vec<NexusId> = self
            .nexuses
            .iter()
            .filter(|(_, state)| outcome.abort.contains(&state.name))
            .map(|(nexus, _)| *nexus)
            .collect();
        for nexus in preempted {
            self.clear_aca(nexus, fx);
            self.cancel_copies(|copy| copy == nexus, fx);
        }
        let announce = if self.control().task_aborted_status { Announce::Report } else { Announce::Quiet };
        let victims: Vec<Key> = self
            .tasks_of(|task| {
                let state = self.nexuses.get(&task.id.nexus);
                state.is_some_and(|state| outcome.abort.contains(&state.name))
            })
            .filter(|victim| *victim != key)
            .collect();
        if victims.is_empty() {
            return self.good(key, total, fx);
        }
        self.set(key, Work::Finish { total });
        if let Some(task) = self.tasks.get_mut(key) {
            task.in_flight += victims.len() as u32;
        }
        for victim in victims {
            self.abort(victim, announce, Some(Waiter::Task(key)), fx);
        }
    }

    fn attention_by_name(&mut self, name: &NexusName, code: AdditionalSense) {
        for state in self.nexuses.values_mut().filter(|state| state.name == *name) {
            state.attentions.establish(code);
        }
    }

    /// Forgets every registration and reservation, as an administrator asks, and tells those who had one. Gives back
    /// what was there, for the case that this cannot be kept.
    pub(crate) fn clear_reservations(&mut self) -> Reservations {
        let before = self.reservations.clone();
        for name in self.reservations.clear_all() {
            self.attention_by_name(&name, AdditionalSense::RESERVATIONS_PREEMPTED);
        }
        self.identity.reservations = Vec::new();
        // A change that is just being kept would bring registrations back.
        let pending = self.persisting.and_then(|key| self.tasks.get_mut(key)).map(|task| &mut task.work);
        if let Some(Work::Persist(Change::Reservations { state, .. })) = pending {
            state.clear_all();
        }
        before
    }

    /// Puts back what [`clear_reservations`](Self::clear_reservations) gave.
    pub(crate) fn put_reservations_back(&mut self, before: Reservations) {
        self.identity.reservations = kept(&before);
        self.reservations = before;
    }
}

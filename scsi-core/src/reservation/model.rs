//! The rules of reservations (SPC-5, Reservations; SPC-2 for RESERVE and RELEASE).

use super::commands::{MoveParameters, RegisterParameters};
use super::names::{NexusName, ReservationType, TargetPort};
use crate::cdb::{PersistentReserveOut, PrOutAction};
use crate::command::{Command, CommandFlags, ParsedCommand, ReservationClass};
use crate::sense::{AdditionalSense, SenseData};
use crate::transport_id::TransportId;

/// A registration: an I_T nexus and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Who.
    pub nexus: NexusName,
    /// RESERVATION KEY, never 0.
    pub key: u64,
}

/// A persistent reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reservation {
    pub(super) kind: ReservationType,
    /// The holder; `None` for the all registrants types.
    pub(super) holder: Option<NexusName>,
}

/// The ports that the logical unit can be reached through, as far as they are known: what ALL_TG_PT, SPEC_I_PT without
/// ISID, and REGISTER AND MOVE mean.
#[derive(Clone, Copy, Debug, Default)]
pub struct Topology<'a> {
    /// Every target port of the logical unit; the port of the command itself need not be among them.
    pub target_ports: &'a [TargetPort],
    /// Every initiator port that is known.
    pub initiator_ports: &'a [TransportId],
}

/// Whether a command may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Access {
    /// It may.
    Allowed,
    /// It ends with RESERVATION CONFLICT.
    Conflict,
}

/// What a nexus is to the persistent reservation. A device server may keep it until [`Reservations::revision`] changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Standing {
    /// It is registered.
    pub registered: bool,
    /// It holds the persistent reservation.
    pub holder: bool,
    /// It holds the reservation of RESERVE.
    pub legacy_holder: bool,
}

/// How a reservation command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutcomeStatus {
    /// GOOD.
    Good,
    /// RESERVATION CONFLICT.
    Conflict,
    /// CHECK CONDITION.
    CheckCondition(SenseData),
}

/// How a reservation command ends, and what it does to others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The status.
    pub status: OutcomeStatus,
    /// Unit attentions to establish: 2A/03, 2A/04, 2A/05.
    pub attentions: Vec<(NexusName, AdditionalSense)>,
    /// I_T nexuses whose tasks are to be aborted (PREEMPT AND ABORT), before the command ends.
    pub abort: Vec<NexusName>,
    /// The state must be kept ([`Reservations::to_aptpl`]) before GOOD is sent. If that fails, put the state from
    /// before the command back.
    pub persist: bool,
}

impl Outcome {
    fn of(status: OutcomeStatus) -> Self {
        Self { status, attentions: Vec::new(), abort: Vec::new(), persist: false }
    }

    fn good() -> Self {
        Self::of(OutcomeStatus::Good)
    }

    fn conflict() -> Self {
        Self::of(OutcomeStatus::Conflict)
    }

    fn sense(sense: SenseData) -> Self {
        Self::of(OutcomeStatus::CheckCondition(sense))
    }
}

/// Reservations of one logical unit: the whole state.
///
/// Cheap to clone as long as few are registered; a device server keeps a clone to go back to when what must persist
/// could not be kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservations {
    pub(super) generation: u32,
    pub(super) registrations: Vec<Registration>,
    pub(super) reservation: Option<Reservation>,
    pub(super) aptpl: bool,
    aptpl_capable: bool,
    lost: bool,
    legacy: Option<NexusName>,
    max_registrations: usize,
    revision: u64,
}

/// Offset and bit of the flags in the basic parameter list.
const SPEC_I_PT_AT: (u16, u8) = (20, 3);
const APTPL_AT: (u16, u8) = (20, 0);
const SERVICE_ACTION_KEY_AT: (u16, u8) = (8, 7);

fn invalid((byte, bit): (u16, u8)) -> Outcome {
    Outcome::sense(SenseData::invalid_field_in_parameter_list(byte, Some(bit)))
}

impl Reservations {
    /// How many registrations there may be unless told otherwise.
    pub const DEFAULT_MAX_REGISTRATIONS: usize = 1024;

    /// No reservation and no registration. `aptpl_capable` tells whether the store can keep them over power loss.
    pub fn new(aptpl_capable: bool, max_registrations: usize) -> Self {
        Self {
            generation: 0,
            registrations: Vec::new(),
            reservation: None,
            aptpl: false,
            aptpl_capable,
            lost: false,
            legacy: None,
            max_registrations,
            revision: 0,
        }
    }

    /// PRGENERATION.
    pub fn generation(&self) -> u32 {
        self.generation
    }

    /// A number that grows with every change of who may do what.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Whether APTPL is in effect.
    pub fn aptpl(&self) -> bool {
        self.aptpl
    }

    /// Whether the store can keep the state over power loss.
    pub fn aptpl_capable(&self) -> bool {
        self.aptpl_capable
    }

    /// The registrations, oldest first.
    pub fn registrations(&self) -> &[Registration] {
        &self.registrations
    }

    /// The type of the persistent reservation, if there is one.
    pub fn reservation_type(&self) -> Option<ReservationType> {
        self.reservation.as_ref().map(|reservation| reservation.kind)
    }

    /// The one holder; `None` without a reservation and for the all registrants types.
    pub fn holder(&self) -> Option<&Registration> {
        let holder = self.reservation.as_ref()?.holder.as_ref()?;
        self.registrations.iter().find(|registration| registration.nexus == *holder)
    }

    /// Whether `nexus` is registered.
    pub fn is_registered(&self, nexus: &NexusName) -> bool {
        self.key_of(nexus).is_some()
    }

    /// Whether `nexus` holds the persistent reservation, alone or with all registrants.
    pub fn is_holder(&self, nexus: &NexusName) -> bool {
        match &self.reservation {
            None => false,
            Some(Reservation { holder: Some(holder), .. }) => holder == nexus,
            Some(Reservation { holder: None, .. }) => self.is_registered(nexus),
        }
    }

    /// Who holds the reservation of RESERVE.
    pub fn legacy_holder(&self) -> Option<&NexusName> {
        self.legacy.as_ref()
    }

    /// What was kept is lost (a record that could not be read): until REPLACE LOST RESERVATION, CLEAR, a new
    /// reservation, or [`Reservations::clear_all`] every access that a reservation could forbid conflicts.
    pub fn set_lost(&mut self) {
        self.lost = true;
        self.revision += 1;
    }

    /// Whether what was kept is lost.
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Forgets everything, as an administrator asks; gives who was registered. The record must be kept afterwards.
    pub fn clear_all(&mut self) -> Vec<NexusName> {
        self.revision += 1;
        self.lost = false;
        self.reservation = None;
        self.legacy = None;
        self.registrations.drain(..).map(|registration| registration.nexus).collect()
    }

    fn key_of(&self, nexus: &NexusName) -> Option<u64> {
        self.registrations.iter().find(|registration| registration.nexus == *nexus).map(|found| found.key)
    }

    /// What `nexus` is to the reservations.
    pub fn standing(&self, nexus: &NexusName) -> Standing {
        Standing {
            registered: self.is_registered(nexus),
            holder: self.is_holder(nexus),
            legacy_holder: self.legacy.as_ref() == Some(nexus),
        }
    }

    /// Whether nothing is reserved: every command is allowed, whoever sends it. Constant time.
    #[inline]
    pub fn is_free(&self) -> bool {
        self.reservation.is_none() && self.legacy.is_none() && !self.lost
    }

    /// Whether `command` of `nexus` may go on. RESERVE, RELEASE and PERSISTENT RESERVE OUT always may: their own rules
    /// decide, but PERSISTENT RESERVE OUT does not go together with RESERVE.
    #[inline]
    pub fn access(&self, nexus: &NexusName, command: &ParsedCommand) -> Access {
        if self.is_free() {
            return Access::Allowed;
        }
        self.access_of(self.standing(nexus), command)
    }

    /// As [`Reservations::access`], for a nexus whose standing is known.
    pub fn access_of(&self, standing: Standing, command: &ParsedCommand) -> Access {
        let class = effective_class(command);
        if matches!(class, ReservationClass::Reserve | ReservationClass::Release) {
            return Access::Allowed;
        }
        if self.legacy.is_some() {
            let allowed = match class {
                ReservationClass::PersistentReserveOut => false,
                _ => standing.legacy_holder || command.entry.flags.contains(CommandFlags::ALLOWED_UNDER_RESERVE),
            };
            // PREVENT ALLOW that prevents is not let pass, though one that allows is.
            let prevents = class == ReservationClass::Write
                && command.entry.reservation == ReservationClass::PreventAllow
                && !standing.legacy_holder;
            return if allowed && !prevents { Access::Allowed } else { Access::Conflict };
        }
        let exclusive = match &self.reservation {
            Some(_) if standing.holder => return Access::Allowed,
            Some(reservation) if reservation.kind.admits_registrants() && standing.registered => {
                return Access::Allowed;
            }
            Some(reservation) => reservation.kind.is_exclusive_access(),
            // Nobody knows what was forbidden to whom.
            None if self.lost => true,
            None => return Access::Allowed,
        };
        match class {
            ReservationClass::Write => Access::Conflict,
            ReservationClass::Read if exclusive => Access::Conflict,
            _ => Access::Allowed,
        }
    }

    /// RESERVE: of the whole logical unit by `nexus`.
    pub fn reserve(&mut self, nexus: &NexusName) -> OutcomeStatus {
        if !self.registrations.is_empty() || self.lost {
            return self.compatible(nexus);
        }
        match &self.legacy {
            Some(holder) if holder != nexus => OutcomeStatus::Conflict,
            _ => {
                self.legacy = Some(nexus.clone());
                self.revision += 1;
                OutcomeStatus::Good
            }
        }
    }

    /// RELEASE by `nexus`: of what it reserved itself; a reservation of another stays.
    pub fn release(&mut self, nexus: &NexusName) -> OutcomeStatus {
        if !self.registrations.is_empty() || self.lost {
            return self.compatible(nexus);
        }
        self.drop_legacy(nexus);
        OutcomeStatus::Good
    }

    /// RESERVE and RELEASE beside registrations: no operation for who has the access of a holder (compatible
    /// reservation handling, CRH), a conflict for all others.
    fn compatible(&self, nexus: &NexusName) -> OutcomeStatus {
        let admitted = self.reservation_type().is_some_and(ReservationType::admits_registrants);
        if self.is_holder(nexus) || admitted && self.is_registered(nexus) {
            return OutcomeStatus::Good;
        }
        OutcomeStatus::Conflict
    }

    /// The session of `nexus` is gone: what it reserved with RESERVE is released; persistent reservations stay.
    pub fn drop_legacy(&mut self, nexus: &NexusName) {
        if self.legacy.as_ref() == Some(nexus) {
            self.legacy = None;
            self.revision += 1;
        }
    }

    /// The logical unit is reset: what was reserved with RESERVE is released; persistent reservations stay.
    pub fn reset(&mut self) {
        if self.legacy.take().is_some() {
            self.revision += 1;
        }
    }

    /// PERSISTENT RESERVE OUT, every service action but REGISTER AND MOVE.
    pub fn persistent_reserve_out(
        &mut self,
        nexus: &NexusName,
        command: &PersistentReserveOut,
        parameters: &RegisterParameters,
        topology: Topology<'_>,
    ) -> Outcome {
        if self.legacy.is_some() {
            return Outcome::conflict();
        }
        let registers = matches!(command.action, PrOutAction::Register | PrOutAction::RegisterAndIgnoreExistingKey);
        if parameters.initiators.is_some() && command.action != PrOutAction::Register {
            return invalid(SPEC_I_PT_AT);
        }
        if registers && parameters.aptpl && !self.aptpl_capable {
            return invalid(APTPL_AT);
        }
        let kind = if command.action.has_type() {
            if command.scope != 0 {
                return Outcome::sense(SenseData::invalid_field_in_cdb(2, Some(7)));
            }
            ReservationType::from_code(command.kind)
        } else {
            None
        };
        let needed = SenseData::invalid_field_in_cdb(2, Some(3));
        if command.action == PrOutAction::ReplaceLostReservation {
            return match kind {
                Some(kind) => self.replace_lost(nexus, kind, parameters),
                None => Outcome::sense(needed),
            };
        }
        let key = self.key_of(nexus);
        if registers {
            let ignore = command.action == PrOutAction::RegisterAndIgnoreExistingKey;
            if !ignore && key.unwrap_or(0) != parameters.key {
                return Outcome::conflict();
            }
            return self.register(nexus, key.is_some(), parameters, topology);
        }
        if key.is_none() || key != Some(parameters.key) {
            return Outcome::conflict();
        }
        match (command.action, kind) {
            (PrOutAction::Clear, _) => self.clear(nexus),
            (PrOutAction::Reserve, Some(kind)) => self.make_reservation(nexus, kind),
            (PrOutAction::Release, Some(kind)) => self.release_reservation(nexus, kind),
            (PrOutAction::Preempt, _) => self.preempt(nexus, kind, parameters.service_action_key, false),
            (PrOutAction::PreemptAndAbort, _) => self.preempt(nexus, kind, parameters.service_action_key, true),
            _ => Outcome::sense(needed),
        }
    }

    /// Notes a change: the record must be kept if APTPL is or was in effect.
    fn changed(&mut self, outcome: &mut Outcome) {
        self.revision += 1;
        outcome.persist |= self.aptpl;
    }

    fn set_aptpl(&mut self, aptpl: bool, outcome: &mut Outcome) {
        outcome.persist |= self.aptpl || aptpl;
        self.aptpl = aptpl;
    }

    fn register(
        &mut self,
        nexus: &NexusName,
        registered: bool,
        parameters: &RegisterParameters,
        topology: Topology<'_>,
    ) -> Outcome {
        let mut outcome = Outcome::good();
        let key = parameters.service_action_key;
        if key == 0 {
            if registered {
                self.unregister(nexus, &mut outcome);
                self.generation = self.generation.wrapping_add(1);
                self.set_aptpl(parameters.aptpl, &mut outcome);
                self.changed(&mut outcome);
            }
            return outcome;
        }
        if registered && parameters.initiators.is_some() {
            return invalid(SPEC_I_PT_AT);
        }
        let mut nexuses = vec![nexus.clone()];
        for initiator in parameters.initiators.iter().flatten() {
            let ports = topology.initiator_ports.iter().filter(|port| initiator.covers(port));
            if matches!(initiator, TransportId::Iscsi { .. }) {
                nexuses.extend(ports.map(|port| NexusName { initiator: port.clone(), port: nexus.port.clone() }));
            } else {
                nexuses.push(NexusName { initiator: initiator.clone(), port: nexus.port.clone() });
            }
        }
        if parameters.all_target_ports {
            for at in 0..nexuses.len() {
                let initiator = nexuses[at].initiator.clone();
                let ports = topology.target_ports.iter().filter(|port| **port != nexus.port);
                nexuses.extend(ports.map(|port| NexusName { initiator: initiator.clone(), port: port.clone() }));
            }
        }
        // The nexus itself and, with ALL_TG_PT, its initiator's other nexuses get the key; what another initiator has
        // registered stays.
        let mut registrations = self.registrations.clone();
        for name in nexuses {
            match registrations.iter_mut().find(|registration| registration.nexus == name) {
                Some(registration) if name.initiator == nexus.initiator => registration.key = key,
                Some(_) => {}
                None => registrations.push(Registration { nexus: name, key }),
            }
        }
        if registrations.len() > self.max_registrations {
            return Outcome::sense(SenseData::illegal_request(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES));
        }
        self.registrations = registrations;
        self.generation = self.generation.wrapping_add(1);
        self.set_aptpl(parameters.aptpl, &mut outcome);
        self.changed(&mut outcome);
        outcome
    }

    /// Removes a registration, and the reservation with it when nobody is left to hold it.
    fn unregister(&mut self, nexus: &NexusName, outcome: &mut Outcome) {
        let held = self.is_holder(nexus);
        self.registrations.retain(|registration| registration.nexus != *nexus);
        let Some(reservation) = &self.reservation else { return };
        let released = match reservation.holder {
            Some(_) => held,
            None => self.registrations.is_empty(),
        };
        if !released {
            return;
        }
        if reservation.kind.admits_registrants() {
            self.attention_to_others(nexus, AdditionalSense::RESERVATIONS_RELEASED, outcome);
        }
        self.reservation = None;
    }

    fn attention_to_others(&self, nexus: &NexusName, code: AdditionalSense, outcome: &mut Outcome) {
        let others = self.registrations.iter().filter(|registration| registration.nexus != *nexus);
        outcome.attentions.extend(others.map(|registration| (registration.nexus.clone(), code)));
    }

    fn hold(&mut self, nexus: &NexusName, kind: ReservationType) {
        let holder = if kind.is_all_registrants() { None } else { Some(nexus.clone()) };
        self.reservation = Some(Reservation { kind, holder });
    }

    fn make_reservation(&mut self, nexus: &NexusName, kind: ReservationType) -> Outcome {
        let mut outcome = Outcome::good();
        match &self.reservation {
            None => {
                self.hold(nexus, kind);
                self.lost = false;
                self.changed(&mut outcome);
                outcome
            }
            Some(reservation) if self.is_holder(nexus) && reservation.kind == kind => outcome,
            Some(_) => Outcome::conflict(),
        }
    }

    fn release_reservation(&mut self, nexus: &NexusName, kind: ReservationType) -> Outcome {
        let mut outcome = Outcome::good();
        let Some(reservation) = &self.reservation else { return outcome };
        if !self.is_holder(nexus) {
            return outcome;
        }
        if reservation.kind != kind {
            let code = AdditionalSense::INVALID_RELEASE_OF_PERSISTENT_RESERVATION;
            return Outcome::sense(SenseData::illegal_request(code));
        }
        self.reservation = None;
        if kind.admits_registrants() {
            self.attention_to_others(nexus, AdditionalSense::RESERVATIONS_RELEASED, &mut outcome);
        }
        self.changed(&mut outcome);
        outcome
    }

    fn clear(&mut self, nexus: &NexusName) -> Outcome {
        let mut outcome = Outcome::good();
        self.attention_to_others(nexus, AdditionalSense::RESERVATIONS_PREEMPTED, &mut outcome);
        self.registrations.clear();
        self.reservation = None;
        self.lost = false;
        self.generation = self.generation.wrapping_add(1);
        self.changed(&mut outcome);
        outcome
    }

    fn preempt(&mut self, nexus: &NexusName, kind: Option<ReservationType>, key: u64, abort: bool) -> Outcome {
        let all_registrants = self.reservation_type().is_some_and(ReservationType::is_all_registrants);
        if key == 0 && !all_registrants {
            return invalid(SERVICE_ACTION_KEY_AT);
        }
        let takes_reservation = match &self.reservation {
            None => false,
            Some(_) if all_registrants => key == 0,
            Some(_) => self.holder().is_some_and(|holder| holder.key == key),
        };
        let hit = |registration: &Registration| key == 0 || registration.key == key;
        if !takes_reservation && !self.registrations.iter().any(hit) {
            return Outcome::conflict();
        }
        if takes_reservation && kind.is_none() {
            return Outcome::sense(SenseData::invalid_field_in_cdb(2, Some(3)));
        }
        let mut outcome = Outcome::good();
        let old = self.reservation_type();
        // The one that preempts stays registered, also when it names its own key.
        let (removed, kept): (Vec<_>, Vec<_>) =
            self.registrations.drain(..).partition(|registration| hit(registration) && registration.nexus != *nexus);
        self.registrations = kept;
        for registration in removed {
            outcome.attentions.push((registration.nexus.clone(), AdditionalSense::REGISTRATIONS_PREEMPTED));
            if abort {
                outcome.abort.push(registration.nexus);
            }
        }
        if takes_reservation && let Some(kind) = kind {
            self.hold(nexus, kind);
            if old != Some(kind) {
                self.attention_to_others(nexus, AdditionalSense::RESERVATIONS_RELEASED, &mut outcome);
            }
        }
        self.generation = self.generation.wrapping_add(1);
        self.changed(&mut outcome);
        outcome
    }

    /// REGISTER AND MOVE.
    pub fn register_and_move(
        &mut self,
        nexus: &NexusName,
        parameters: &MoveParameters,
        topology: Topology<'_>,
    ) -> Outcome {
        if self.legacy.is_some() || self.key_of(nexus) != Some(parameters.key) {
            return Outcome::conflict();
        }
        let all_registrants = self.reservation_type().is_some_and(ReservationType::is_all_registrants);
        if all_registrants || !self.is_holder(nexus) {
            return Outcome::conflict();
        }
        if parameters.service_action_key == 0 {
            return invalid(SERVICE_ACTION_KEY_AT);
        }
        if parameters.aptpl && !self.aptpl_capable {
            return invalid((17, 0));
        }
        let mut ports = topology.target_ports.iter().chain([&nexus.port]);
        let Some(port) = ports.find(|port| port.relative_id == parameters.relative_target_port) else {
            return invalid((18, 7));
        };
        let to = NexusName { initiator: parameters.initiator.clone(), port: port.clone() };
        let is_port = !matches!(to.initiator, TransportId::Iscsi { .. });
        if !is_port || to.initiator.protocol() != nexus.initiator.protocol() || to == *nexus {
            return invalid((24, 7));
        }
        let known = self.registrations.iter().position(|registration| registration.nexus == to);
        if known.is_none() && self.registrations.len() >= self.max_registrations {
            return Outcome::sense(SenseData::illegal_request(AdditionalSense::INSUFFICIENT_REGISTRATION_RESOURCES));
        }
        match known {
            Some(at) => self.registrations[at].key = parameters.service_action_key,
            None => self.registrations.push(Registration { nexus: to.clone(), key: parameters.service_action_key }),
        }
        if let Some(reservation) = &mut self.reservation {
            reservation.holder = Some(to);
        }
        if parameters.unregister {
            self.registrations.retain(|registration| registration.nexus != *nexus);
        }
        let mut outcome = Outcome::good();
        self.generation = self.generation.wrapping_add(1);
        self.set_aptpl(parameters.aptpl, &mut outcome);
        self.changed(&mut outcome);
        outcome
    }

    fn replace_lost(&mut self, nexus: &NexusName, kind: ReservationType, parameters: &RegisterParameters) -> Outcome {
        if !self.lost {
            return Outcome::sense(SenseData::invalid_field_in_cdb(1, Some(4)));
        }
        if parameters.key != 0 {
            return invalid((0, 7));
        }
        if parameters.service_action_key == 0 {
            return invalid(SERVICE_ACTION_KEY_AT);
        }
        self.lost = false;
        self.registrations.clear();
        self.registrations.push(Registration { nexus: nexus.clone(), key: parameters.service_action_key });
        self.hold(nexus, kind);
        let mut outcome = Outcome::good();
        self.generation = self.generation.wrapping_add(1);
        // What was lost had been kept, so its successor is.
        self.aptpl = self.aptpl_capable;
        self.changed(&mut outcome);
        outcome
    }
}

/// The class of a command with those that depend on its fields resolved.
fn effective_class(command: &ParsedCommand) -> ReservationClass {
    match (command.entry.reservation, &command.command) {
        (ReservationClass::StartStop, Command::StartStopUnit(command)) => {
            if command.start && command.power_condition == 0 {
                ReservationClass::Allowed
            } else {
                ReservationClass::Write
            }
        }
        (ReservationClass::PreventAllow, Command::PreventAllow(command)) => {
            if command.prevent == 0 {
                ReservationClass::Allowed
            } else {
                ReservationClass::Write
            }
        }
        (class, _) => class,
    }
}

#[cfg(test)]
mod tests;

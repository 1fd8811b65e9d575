//! PERSISTENT RESERVE OUT: what each service action does.

use super::commands::{MoveParameters, RegisterParameters};
use super::model::{Outcome, Registration, Reservation, Reservations, Topology};
use super::names::{NexusName, ReservationType};
use crate::cdb::{PersistentReserveOut, PrOutAction};
use crate::sense::{AdditionalSense, SenseData};
use crate::transport_id::TransportId;

/// Offset and bit of the flags in the basic parameter list.
pub(super) const SPEC_I_PT_AT: (u16, u8) = (20, 3);
pub(super) const APTPL_AT: (u16, u8) = (20, 0);
pub(super) const SERVICE_ACTION_KEY_AT: (u16, u8) = (8, 7);

pub(super) fn invalid((byte, bit): (u16, u8)) -> Outcome {
    Outcome::sense(SenseData::invalid_field_in_parameter_list(byte, Some(bit)))
}

impl Reservations {
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

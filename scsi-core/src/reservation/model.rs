//! The rules of reservations (SPC-5, Reservations; SPC-2 for RESERVE and RELEASE).

use super::names::{NexusName, ReservationType, TargetPort};
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
    pub(super) fn of(status: OutcomeStatus) -> Self {
        Self { status, attentions: Vec::new(), abort: Vec::new(), persist: false }
    }

    pub(super) fn good() -> Self {
        Self::of(OutcomeStatus::Good)
    }

    pub(super) fn conflict() -> Self {
        Self::of(OutcomeStatus::Conflict)
    }

    pub(super) fn sense(sense: SenseData) -> Self {
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
    pub(super) aptpl_capable: bool,
    pub(super) lost: bool,
    pub(super) legacy: Option<NexusName>,
    pub(super) max_registrations: usize,
    pub(super) revision: u64,
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

    pub(super) fn key_of(&self, nexus: &NexusName) -> Option<u64> {
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

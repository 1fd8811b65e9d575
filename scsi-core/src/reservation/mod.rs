//! Reservations: SPC-2 RESERVE and RELEASE, and persistent reservations.
//!
//! [`Reservations`] is the whole state of one logical unit and all its rules, with no I/O: a command goes in with the
//! name of its I_T nexus, an [`Outcome`] says the status, who gets which unit attention, whose tasks to abort, and
//! whether the state must be kept ([`Reservations::to_aptpl`]) before GOOD is sent. An I_T nexus is known by names that
//! outlive sessions and restarts ([`NexusName`]).

mod aptpl;
mod commands;
mod model;
mod names;
mod persistent;

pub use self::aptpl::AptplError;
pub use self::commands::{
    Capabilities, FullStatus, FullStatusEntry, MoveParameters, ReadKeys, ReadReservation, RegisterParameters,
    parse_move, parse_register,
};
pub use self::model::{Access, Outcome, OutcomeStatus, Registration, Reservations, Standing, Topology};
pub use self::names::{NexusName, ReservationType, TargetPort};

#[cfg(test)]
mod oracle;

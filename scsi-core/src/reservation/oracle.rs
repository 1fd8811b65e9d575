//! A second reading of the rules, kept apart from the first: tables over small numbers, held against [`Reservations`]
//! by random commands.

use proptest::prelude::*;

use super::*;
use crate::AdditionalSense;
use crate::cdb::{PersistentReserveOut, PrOutAction};
use crate::command::{CommandSet, parse};
use crate::transport_id::TransportId;

const NEXUSES: usize = 5;

/// Nexus `n`: keys[n] is its key, 0 when it is not registered.
#[derive(Clone, Debug, Default)]
struct Oracle {
    keys: [u64; NEXUSES],
    /// (type code, holder; nobody in particular for 7 and 8).
    reservation: Option<(u8, usize)>,
    generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Good,
    Conflict,
    Check,
}

/// 3: preempted by CLEAR, 4: released, 5: registration preempted.
type Attention = (usize, u8);

impl Oracle {
    fn holds(&self, n: usize) -> bool {
        match self.reservation {
            None => false,
            Some((7 | 8, _)) => self.keys[n] != 0,
            Some((_, holder)) => holder == n,
        }
    }

    fn others(&self, n: usize) -> Vec<usize> {
        (0..NEXUSES).filter(|&other| other != n && self.keys[other] != 0).collect()
    }

    fn run(&mut self, n: usize, action: u8, kind: u8, key: u64, sark: u64) -> (Status, Vec<Attention>, Vec<usize>) {
        let mut told = Vec::new();
        let mut aborted = Vec::new();
        let valid = [1, 3, 5, 6, 7, 8].contains(&kind);
        let mine = self.keys[n];
        let status = match action {
            0 | 6 if action == 0 && mine != key => Status::Conflict,
            0 | 6 => {
                if sark == 0 && mine == 0 {
                    return (Status::Good, told, aborted);
                }
                let held = self.holds(n);
                self.keys[n] = sark;
                self.generation += 1;
                if sark == 0
                    && let Some((code, _)) = self.reservation
                {
                    let gone = if code >= 7 { self.keys.iter().all(|&key| key == 0) } else { held };
                    if gone {
                        self.reservation = None;
                        if code >= 5 {
                            told.extend(self.others(n).into_iter().map(|other| (other, 4)));
                        }
                    }
                }
                Status::Good
            }
            _ if mine == 0 || mine != key => Status::Conflict,
            1 if !valid => Status::Check,
            1 => match self.reservation {
                None => {
                    self.reservation = Some((kind, n));
                    Status::Good
                }
                Some((code, _)) if code == kind && self.holds(n) => Status::Good,
                Some(_) => Status::Conflict,
            },
            2 if !valid => Status::Check,
            2 => match self.reservation {
                Some((code, _)) if self.holds(n) => {
                    if code != kind {
                        Status::Check
                    } else {
                        self.reservation = None;
                        if code >= 5 {
                            told.extend(self.others(n).into_iter().map(|other| (other, 4)));
                        }
                        Status::Good
                    }
                }
                _ => Status::Good,
            },
            3 => {
                told.extend(self.others(n).into_iter().map(|other| (other, 3)));
                self.keys = [0; NEXUSES];
                self.reservation = None;
                self.generation += 1;
                Status::Good
            }
            _ => {
                // 4 and 5: PREEMPT. What is asked: victims by key, or all; and does the reservation change hands?
                let (victims, takes): (Vec<usize>, bool) = match (self.reservation, sark) {
                    (Some((7 | 8, _)), 0) => (self.others(n), true),
                    (_, 0) => return (Status::Check, told, aborted),
                    (reservation, _) => {
                        let same = (0..NEXUSES).filter(|&other| self.keys[other] == sark);
                        let takes =
                            matches!(reservation, Some((code, holder)) if code < 7 && self.keys[holder] == sark);
                        (same.collect(), takes)
                    }
                };
                if victims.is_empty() && !takes {
                    return (Status::Conflict, told, aborted);
                }
                if takes && !valid {
                    return (Status::Check, told, aborted);
                }
                for victim in victims.into_iter().filter(|&victim| victim != n) {
                    self.keys[victim] = 0;
                    told.push((victim, 5));
                    if action == 5 {
                        aborted.push(victim);
                    }
                }
                if takes {
                    let old = self.reservation.map(|(code, _)| code);
                    self.reservation = Some((kind, n));
                    if old != Some(kind) {
                        told.extend(self.others(n).into_iter().map(|other| (other, 4)));
                    }
                }
                self.generation += 1;
                Status::Good
            }
        };
        (status, told, aborted)
    }

    /// The table "commands allowed in the presence of reservations" for READ and WRITE.
    fn allowed(&self, n: usize, write: bool) -> bool {
        let Some((code, _)) = self.reservation else { return true };
        if self.holds(n) {
            return true;
        }
        matches!((code, self.keys[n] != 0, write), (5..=8, true, _) | (1 | 5 | 7, _, false))
    }
}

fn name(n: usize) -> NexusName {
    // Two initiators share a port, one initiator is behind two ports.
    let (initiator, port) = [(1, 1), (2, 1), (2, 2), (3, 2), (4, 1)][n];
    NexusName::new(TransportId::FibreChannel(initiator), &format!("wwn.{port:016X}"), port)
}

fn action(code: u8) -> PrOutAction {
    match code {
        0 => PrOutAction::Register,
        1 => PrOutAction::Reserve,
        2 => PrOutAction::Release,
        3 => PrOutAction::Clear,
        4 => PrOutAction::Preempt,
        5 => PrOutAction::PreemptAndAbort,
        _ => PrOutAction::RegisterAndIgnoreExistingKey,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn the_model_follows_the_oracle(
        steps in prop::collection::vec(
            (0..NEXUSES, prop_oneof![4 => 0u8..7, 2 => Just(0u8), 1 => 4u8..6],
             prop_oneof![8 => prop::sample::select(vec![1u8, 3, 5, 6, 7, 8]), 1 => 0u8..16], any::<bool>(), 0u64..4, 0u64..4),
            1..60,
        )
    ) {
        let mut oracle = Oracle::default();
        let mut model = Reservations::new(true, 64);
        let read = parse(&[0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0], CommandSet::all()).unwrap();
        let write = parse(&[0x2a, 0, 0, 0, 0, 0, 0, 0, 1, 0], CommandSet::all()).unwrap();
        for (n, code, kind, right_key, key, sark) in steps {
            let key = if right_key { oracle.keys[n] } else { key };
            let (status, mut told, aborted) = oracle.run(n, code, kind, key, sark);
            let command = PersistentReserveOut { action: action(code), kind, ..Default::default() };
            let parameters = RegisterParameters { key, service_action_key: sark, ..Default::default() };
            let outcome = model.persistent_reserve_out(&name(n), &command, &parameters, Topology::default());

            let actual = match outcome.status {
                OutcomeStatus::Good => Status::Good,
                OutcomeStatus::Conflict => Status::Conflict,
                OutcomeStatus::CheckCondition(_) => Status::Check,
            };
            prop_assert_eq!(actual, status);
            let number = |nexus: &NexusName| (0..NEXUSES).find(|&n| name(n) == *nexus).unwrap();
            let mut actual: Vec<Attention> = outcome.attentions.iter().map(|(nexus, code)| {
                assert_eq!(code.asc, AdditionalSense::RESERVATIONS_RELEASED.asc);
                (number(nexus), code.ascq)
            }).collect();
            actual.sort_unstable();
            told.sort_unstable();
            prop_assert_eq!(actual, told);
            let mut actual: Vec<_> = outcome.abort.iter().map(number).collect();
            actual.sort_unstable();
            prop_assert_eq!(actual, aborted);

            prop_assert_eq!(model.generation(), oracle.generation);
            prop_assert_eq!(model.reservation_type().map(ReservationType::code), oracle.reservation.map(|(code, _)| code));
            for n in 0..NEXUSES {
                let nexus = name(n);
                let key = model.registrations().iter().find(|known| known.nexus == nexus).map_or(0, |known| known.key);
                prop_assert_eq!(key, oracle.keys[n]);
                prop_assert_eq!(model.is_holder(&nexus), oracle.holds(n));
                prop_assert_eq!(model.access(&nexus, &read) == Access::Allowed, oracle.allowed(n, false));
                prop_assert_eq!(model.access(&nexus, &write) == Access::Allowed, oracle.allowed(n, true));
            }
            let full = FullStatus::of(&model);
            prop_assert_eq!(FullStatus::decode(&full.encode()), Some(full));
            let keys = ReadKeys::of(&model);
            prop_assert_eq!(ReadKeys::decode(&keys.encode()), Some(keys));
        }
    }
}

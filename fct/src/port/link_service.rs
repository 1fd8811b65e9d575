//! Link services that come in, and answers to ours.

use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::{ExchangeId, LinkService, PortId};

use super::{Asked, Port};
use crate::wire::{CtCommand, CtHeader, CtReason, Els, ElsCommand, LsExplanation, LsReason, WireError, flat};

/// The longest link service that is looked at; ECHO comes back as far as this.
const LONGEST: usize = 2048;

impl Port {
    pub(super) fn take_service(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        service: LinkService,
        from: PortId,
        to: PortId,
        payload: &Segments,
    ) {
        let payload = flat(payload, LONGEST);
        if service == LinkService::Ct {
            let reject = CtHeader { command: CtCommand::REJECT, words: 0, reason: CtReason::NOT_SUPPORTED };
            return self.answer(now, exchange, reject.encode());
        }
        let els = match Els::decode(&payload) {
            Ok(els) => els,
            Err(WireError::Short { .. }) => {
                return self.reject(now, exchange, LsReason::PROTOCOL_ERROR, LsExplanation::INVALID_LENGTH);
            }
            Err(WireError::Field(_)) => {
                return self.reject(now, exchange, LsReason::LOGICAL_ERROR, LsExplanation::PARAMETERS);
            }
        };
        let known = self.remotes.contains_key(&from);
        match els {
            Els::Flogi(parameters) if self.is_among_equals() => self.greeted(now, exchange, from, &parameters),
            Els::Flogi(parameters) if self.may_be_one_of_two() => self.flogi_received(now, exchange, &parameters),
            Els::Plogi(parameters) => self.plogi(now, exchange, from, to, &parameters),
            Els::Logo { .. } => {
                self.answer(now, exchange, Els::accept());
                self.log_out(now, from, "it logged out");
            }
            Els::Rscn(pages) => {
                self.answer(now, exchange, Els::accept());
                self.verify(now, &pages);
            }
            Els::Rtv => {
                let ms = |time: std::time::Duration| time.as_millis() as u32;
                let engine = &self.config.engine;
                let answer = Els::timeouts(ms(engine.r_a_tov), ms(engine.e_d_tov));
                self.answer(now, exchange, answer);
            }
            Els::Echo => {
                let mut answer = payload;
                answer[0] = ElsCommand::LS_ACC.0;
                self.answer(now, exchange, answer);
            }
            // The rest is for those that have logged in.
            Els::Pdisc(_) | Els::Prli(_) | Els::Prlo(_) | Els::Tprlo(_) | Els::Adisc { .. } | Els::Rls | Els::Rrq
                if !known =>
            {
                self.reject(now, exchange, LsReason::UNABLE, LsExplanation::LOGIN_REQUIRED);
            }
            Els::Pdisc(_) => self.answer(now, exchange, self.parameters().encode(ElsCommand::LS_ACC.0)),
            Els::Prli(page) => self.prli(now, exchange, from, page),
            Els::Prlo(page) => self.prlo(now, exchange, from, page),
            Els::Tprlo(page) => self.tprlo(now, exchange, page),
            Els::Adisc { port_name, node_name, .. } => {
                let same = self
                    .remotes
                    .get(&from)
                    .is_some_and(|remote| (remote.port.port_name, remote.port.node_name) == (port_name, node_name));
                if !same {
                    self.reject(now, exchange, LsReason::UNABLE, LsExplanation::LOGIN_REQUIRED);
                    return self.log_out(now, from, "its names are others");
                }
                let (port_name, node_name) = (self.hba.port_name(), self.hba.node_name());
                let ours = Els::Adisc { port_name, node_name, port_id: self.address };
                self.answer(now, exchange, ours.encode_adisc(ElsCommand::LS_ACC));
            }
            Els::Rls => self.answer(now, exchange, Els::link_errors(&self.hba.statistics())),
            Els::Rrq => self.answer(now, exchange, Els::accept()),
            _ => self.reject(now, exchange, LsReason::NOT_SUPPORTED, LsExplanation::NOT_SUPPORTED),
        }
    }

    pub(super) fn reject(&mut self, now: Instant, exchange: ExchangeId, reason: LsReason, explanation: LsExplanation) {
        self.answer(now, exchange, Els::Reject { reason, explanation }.encode());
    }

    pub(super) fn take_reply(&mut self, now: Instant, exchange: ExchangeId, to: PortId, payload: Option<&Segments>) {
        let Some(asked) = self.asked.remove(&exchange) else { return };
        let payload = payload.map(|payload| flat(payload, LONGEST));
        let payload = payload.as_deref();
        match asked {
            Asked::Flogi => self.flogi_answered(now, to, payload),
            Asked::Plogi(id) => self.plogi_answered(now, id, payload),
            Asked::Directory => self.directory_answered(now, payload),
            Asked::Step => self.next_step(now),
            Asked::Symbolic(id) => {
                let accepted = payload.filter(|payload| {
                    CtHeader::decode(payload).is_ok_and(|header| header.command == CtCommand::ACCEPT)
                });
                self.named(now, id, exchange, accepted.and_then(CtHeader::symbolic_name));
            }
            Asked::Registered(id) => self.looked_up(now, id, payload),
            Asked::Verify(id) => self.verified(now, id, payload),
            Asked::LinkErrors(id) => {
                if let Some(remote) = self.remotes.get_mut(&id) {
                    remote.link_errors = payload.and_then(Els::accepted_link_errors);
                }
            }
            Asked::Farewell | Asked::Stranger => {}
        }
    }
}

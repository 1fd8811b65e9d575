//! Aborts, and asking for what was lost: ABTS, REC, SRR.

use bytes::Bytes;
use scsi_core::mutation::{Mutation, is_active};
use smallvec::smallvec;
use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::{ExchangeId, HbaEvent, PortId};

use super::Engine;
use super::exchange::{Key, Kind};
use crate::wire::{
    Els, FrameControl, FrameHeader, LsExplanation, LsReason, RecAnswer, RoutingControl, Type, UNASSIGNED, flat, length,
};

/// BA_RJT: logical error, no such exchange.
const NO_EXCHANGE: [u8; 12] = [0, 0x03, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0];

impl Engine {
    /// Basic link services.
    pub(super) fn handle_basic(&mut self, header: &FrameHeader, _payload: &Segments) {
        let key = Key { remote: header.s_id, ox_id: header.ox_id, ours: header.f_ctl.has(FrameControl::RESPONDER) };
        let id = self.keys.get(&key).copied();
        match (header.r_ctl, id) {
            (RoutingControl::ABTS, Some(id)) => self.handle_abts(id, header),
            (RoutingControl::ABTS, None) => {
                if let Some(at) = self.answered.iter().rposition(|(answered, _)| *answered == key)
                    && let Some((_, id)) = self.answered.remove(at)
                {
                    // Whoever answered may have to tell it again.
                    self.events.push_back(HbaEvent::AbortReceived(id));
                }
                self.basic_reply(header, RoutingControl::BA_RJT, NO_EXCHANGE);
            }
            (RoutingControl::BA_ACC | RoutingControl::BA_RJT, Some(id)) => {
                let aborted = self.exchanges.get(&id).is_some_and(|exchange| exchange.aborting);
                if aborted {
                    match self.exchanges.get(&id).map(|exchange| exchange.kind) {
                        Some(Kind::ServiceOut) => self.answered(id, PortId::NONE, None),
                        // Whoever carries out the command still has to say that it is done.
                        Some(Kind::CommandIn) => {}
                        _ => self.end(id),
                    }
                }
            }
            (RoutingControl::NOP, _) => {}
            _ => self.statistics.stray_frames += 1,
        }
    }

    fn handle_abts(&mut self, id: ExchangeId, header: &FrameHeader) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.kind {
            Kind::CommandIn => {
                exchange.receiving = None;
                exchange.deadline = None;
                exchange.silent = false;
                if !std::mem::replace(&mut exchange.aborting, true) {
                    self.events.push_back(HbaEvent::AbortReceived(id));
                }
            }
            _ => {
                let accept = accept(exchange.ox_id, exchange.rx_id);
                self.basic_reply(header, RoutingControl::BA_ACC, accept);
                self.end(id);
            }
        }
    }

    /// The command of an abort has no further effect.
    pub(super) fn abort_done(&mut self, id: ExchangeId) {
        let Some(exchange) = self.forget(id) else { return };
        if exchange.silent {
            return;
        }
        let header = FrameHeader {
            r_ctl: RoutingControl::BA_ACC,
            d_id: exchange.remote,
            cs_ctl: 0,
            s_id: exchange.local,
            kind: Type::BLS,
            f_ctl: FrameControl::RESPONDER.and(FrameControl::END_SEQUENCE).and(FrameControl::LAST_SEQUENCE),
            seq_id: 0,
            df_ctl: 0,
            seq_cnt: 0,
            ox_id: exchange.ox_id ^ u16::from(is_active(Mutation::FcAbortNamesAnother)),
            rx_id: exchange.rx_id,
            parameter: 0,
        };
        let payload = accept(exchange.ox_id, exchange.rx_id);
        self.queue(None, true, header, smallvec![Bytes::copy_from_slice(&payload)], None);
    }

    /// Aborts an exchange on the wire.
    pub(super) fn abort(&mut self, now: Instant, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        exchange.aborting = true;
        exchange.receiving = None;
        self.send_abts(now, id);
    }

    pub(super) fn send_abts(&mut self, now: Instant, id: ExchangeId) {
        let deadline = now + self.config.r_a_tov;
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        exchange.aborting = true;
        exchange.deadline = Some(deadline);
        let control = FrameControl::END_SEQUENCE.and(FrameControl::TRANSFER_INITIATIVE);
        self.send_sequence(id, RoutingControl::ABTS, Type::BLS, control, Segments::new(), None);
    }

    /// Answers REC, if it is one: the exchanges are known here alone.
    pub(super) fn handle_rec(&mut self, header: &FrameHeader, payload: &Segments) -> bool {
        if header.kind != Type::ELS {
            return false;
        }
        let Ok(Els::Rec { originator, ox_id, .. }) = Els::decode(&flat(payload, 64)) else { return false };
        let answer = match self.theirs(originator, ox_id).and_then(|id| self.exchanges.get(&id)) {
            Some(exchange) => RecAnswer {
                ox_id,
                rx_id: exchange.rx_id,
                originator,
                responder: exchange.local,
                transferred: exchange.receiving.as_ref().map_or(exchange.transferred, |burst| burst.first_gap()),
                is_responder: true,
                // Waiting for data, it is the other side that is to send.
                initiative: exchange.receiving.is_none() && !exchange.confirming && !exchange.retained,
                complete: exchange.retained || exchange.confirming,
            }
            .encode(),
            None => {
                Els::Reject { reason: LsReason::LOGICAL_ERROR, explanation: LsExplanation::INVALID_EXCHANGE }.encode()
            }
        };
        self.answer_at_once(header, RoutingControl::ELS_REPLY, Type::ELS, answer);
        true
    }

    /// SRR: sends again what an initiator has not got.
    pub(super) fn handle_srr(&mut self, header: &FrameHeader, payload: &Segments) {
        let request = Els::decode(&flat(payload, 64));
        let reject = Els::Reject { reason: LsReason::UNABLE, explanation: LsExplanation::UNABLE_TO_SUPPLY }.encode();
        let answer = |engine: &mut Self, answer| {
            engine.answer_at_once(header, RoutingControl::FC4_REPLY, Type::FCP, answer);
        };
        let Ok(Els::Srr { ox_id, offset, r_ctl, .. }) = request else { return answer(self, reject) };
        let Some(id) = self.theirs(header.s_id, ox_id).filter(|&id| self.retries(id)) else {
            return answer(self, reject);
        };
        let Some(exchange) = self.exchanges.get_mut(&id) else { return answer(self, reject) };
        let response = exchange.response.clone();
        match RoutingControl(r_ctl) {
            RoutingControl::TRANSFER_READY if exchange.receiving.is_some() => {
                let Some(burst) = exchange.receiving.as_mut() else { return };
                let end = burst.offset + burst.length;
                if offset < burst.offset || offset >= end {
                    return answer(self, reject);
                }
                burst.rewind(offset);
                answer(self, Els::accept());
                if !is_active(Mutation::FcReadyNotSentAgain) {
                    self.send_transfer_ready(id, offset, end - offset);
                }
            }
            RoutingControl::DATA => {
                let again: Vec<(u32, Segments)> =
                    exchange.sent.iter().filter_map(|piece| from(piece, offset)).collect();
                if again.is_empty() {
                    return answer(self, reject);
                }
                answer(self, Els::accept());
                for (offset, data) in again {
                    let control = FrameControl::END_SEQUENCE;
                    self.send_sequence(id, RoutingControl::DATA, Type::FCP, control, data, Some(offset));
                }
                if let Some(response) = response {
                    self.respond_again(id, response);
                }
            }
            RoutingControl::RESPONSE if response.is_some() => {
                answer(self, Els::accept());
                self.respond_again(id, response.unwrap_or_default());
            }
            _ => answer(self, reject),
        }
    }

    /// Sends SRR in an exchange of its own; its answer is a [`HbaEvent::Reply`].
    pub(crate) fn send_srr(&mut self, now: Instant, id: ExchangeId, from: PortId, to: PortId, payload: Vec<u8>) {
        let kind = (RoutingControl::FC4_REQUEST, Type::FCP);
        self.originate(now, id, Kind::ServiceOut, from, to, kind, smallvec![Bytes::from(payload)]);
    }

    fn respond_again(&mut self, id: ExchangeId, response: Segments) {
        if is_active(Mutation::FcResponseNotSentAgain) {
            return;
        }
        let confirming = self.exchanges.get(&id).is_some_and(|exchange| exchange.confirming);
        let control = FrameControl::END_SEQUENCE
            .and_if(confirming, FrameControl::TRANSFER_INITIATIVE)
            .and_if(!confirming, FrameControl::LAST_SEQUENCE);
        self.send_sequence(id, RoutingControl::RESPONSE, Type::FCP, control, response, None);
    }

    /// Answers a request that needs no exchange of its own.
    fn answer_at_once(&mut self, header: &FrameHeader, r_ctl: RoutingControl, kind: Type, payload: Vec<u8>) {
        if self.outgoing.len() >= 2 * self.config.max_exchanges {
            return;
        }
        let header = FrameHeader {
            r_ctl,
            d_id: header.s_id,
            s_id: header.d_id,
            kind,
            f_ctl: FrameControl::RESPONDER.and(FrameControl::END_SEQUENCE).and(FrameControl::LAST_SEQUENCE),
            seq_cnt: 0,
            rx_id: UNASSIGNED,
            parameter: 0,
            ..*header
        };
        self.queue(None, true, header, smallvec![Bytes::from(payload)], None);
    }
}

/// The payload of BA_ACC: the whole exchange is aborted.
fn accept(ox_id: u16, rx_id: u16) -> [u8; 12] {
    let mut payload = [0; 12];
    payload[4..6].copy_from_slice(&ox_id.to_be_bytes());
    payload[6..8].copy_from_slice(&rx_id.to_be_bytes());
    payload[10..12].copy_from_slice(&[0xff, 0xff]);
    payload
}

/// The part of a piece from `offset` on.
fn from((at, data): &(u32, Segments), offset: u32) -> Option<(u32, Segments)> {
    let end = u64::from(*at) + length(data) as u64;
    if u64::from(offset) >= end {
        return None;
    }
    let mut skip = offset.saturating_sub(*at) as usize;
    let mut rest = Segments::new();
    for piece in data {
        if skip >= piece.len() {
            skip -= piece.len();
            continue;
        }
        rest.push(piece.slice(skip..));
        skip = 0;
    }
    Some((offset.max(*at), rest))
}

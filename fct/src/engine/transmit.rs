//! What goes out: sequences, cut into frames when they are polled.

use bytes::Bytes;
use scsi_core::mutation::{Mutation, is_active};
use smallvec::smallvec;
use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::{ExchangeId, FcFrame, PortId};

use super::Engine;
use super::exchange::{Key, Kind};
use crate::wire::{
    ElsCommand, FcpResponse, FrameControl, FrameHeader, LsExplanation, LsReason, RoutingControl, Type, UNASSIGNED,
    length,
};

/// The smallest data field that every port takes.
const LEAST_PAYLOAD: u16 = 256;

/// A sequence on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) exchange: Option<ExchangeId>,
    /// It is sent though its exchange is over.
    pub(super) outlives: bool,
    header: FrameHeader,
    payload: Segments,
    left: usize,
    /// Bytes of the first slice that are sent.
    start: usize,
    frame_payload: usize,
    relative: bool,
}

impl Outgoing {
    pub(super) fn left(&self) -> usize {
        self.left
    }

    /// The next frame; the last when nothing is left after it.
    fn next(&mut self) -> FcFrame {
        let count = self.left.min(self.frame_payload);
        let mut payload = Segments::new();
        let mut wanted = count;
        while wanted > 0 {
            let Some(first) = self.payload.first() else { break };
            let end = first.len().min(self.start + wanted);
            payload.push(first.slice(self.start..end));
            wanted -= end - self.start;
            self.start = end;
            if self.start == first.len() {
                self.payload.remove(0);
                self.start = 0;
            }
        }
        self.left -= count;
        let mut header = self.header;
        if self.left > 0 {
            // Both say something about the last frame only.
            header.f_ctl = FrameControl(
                header.f_ctl.0
                    & !(FrameControl::END_SEQUENCE.0
                        | FrameControl::TRANSFER_INITIATIVE.0
                        | FrameControl::LAST_SEQUENCE.0),
            );
        }
        header.f_ctl.0 |= (count.wrapping_neg() & 3) as u32;
        self.header.seq_cnt = self.header.seq_cnt.wrapping_add(1);
        if self.relative && !is_active(Mutation::FcOffsetStays) {
            self.header.parameter = self.header.parameter.wrapping_add(count as u32);
        }
        FcFrame { header: header.encode(), payload }
    }
}

/// Answers with sense data that are kept in mind; the oldest are forgotten.
const MAX_ANSWERED: usize = 64;

impl Engine {
    /// The next frame to send.
    pub fn poll_frame(&mut self) -> Option<FcFrame> {
        let front = self.outgoing.front_mut()?;
        let before = front.left();
        let frame = front.next();
        self.queued_bytes -= before - front.left();
        if front.left() == 0 {
            self.outgoing.pop_front();
        }
        Some(frame)
    }

    /// Queues a sequence of an exchange. `offset`: it is data, that begins there.
    pub(super) fn send_sequence(
        &mut self,
        id: ExchangeId,
        r_ctl: RoutingControl,
        kind: Type,
        control: FrameControl,
        payload: Segments,
        offset: Option<u32>,
    ) {
        let Some(exchange) = self.exchanges.get(&id) else { return };
        let control = control.and_if(!exchange.ours(), FrameControl::RESPONDER);
        let header = FrameHeader {
            r_ctl,
            d_id: exchange.answer_to.unwrap_or(exchange.remote),
            cs_ctl: 0,
            s_id: exchange.local,
            kind,
            f_ctl: control,
            seq_id: 0,
            df_ctl: 0,
            seq_cnt: 0,
            ox_id: exchange.ox_id,
            rx_id: exchange.rx_id,
            parameter: 0,
        };
        self.queue(Some(id), false, header, payload, offset);
    }

    /// Queues a sequence that belongs to no exchange, or outlives it.
    pub(super) fn queue(
        &mut self,
        exchange: Option<ExchangeId>,
        outlives: bool,
        mut header: FrameHeader,
        payload: Segments,
        offset: Option<u32>,
    ) {
        header.seq_id = self.next_sequence;
        self.next_sequence = self.next_sequence.wrapping_add(1);
        if let Some(offset) = offset {
            header.f_ctl = header.f_ctl.and(FrameControl::RELATIVE_OFFSET);
            header.parameter = offset;
        }
        // Logins go out before anything is agreed upon, and fit.
        let theirs = self.remotes.get(&header.d_id).map_or(LEAST_PAYLOAD, |remote| remote.max_frame_payload);
        let frame_payload = usize::from(theirs.min(self.config.max_frame_payload).max(LEAST_PAYLOAD));
        let left = length(&payload);
        self.queued_bytes += left;
        let payload = payload.into_iter().filter(|piece| !piece.is_empty()).collect();
        self.outgoing.push_back(Outgoing {
            exchange,
            outlives,
            header,
            payload,
            left,
            start: 0,
            frame_payload,
            relative: offset.is_some(),
        });
    }

    /// A link service is answered: its exchange is over.
    pub(super) fn reply(&mut self, id: ExchangeId, payload: Segments) {
        let Some(exchange) = self.exchanges.get(&id).filter(|exchange| exchange.kind == Kind::ServiceIn) else {
            return;
        };
        let (r_ctl, kind) = match exchange.response {
            // A request of a generic service leaves a mark.
            Some(_) => (RoutingControl::SOLICITED_CONTROL, Type::CT),
            None => (RoutingControl::ELS_REPLY, Type::ELS),
        };
        self.send_last(id, r_ctl, kind, payload);
        self.forget(id);
    }

    /// Sends data: of a read, or what a target asked for.
    pub(super) fn send_data(&mut self, id: ExchangeId, offset: u32, data: Segments) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let end = offset.saturating_add(length(&data) as u32);
        exchange.transferred = exchange.transferred.max(end);
        // A write's data gives the initiative back, a read's does not.
        let control = FrameControl::END_SEQUENCE.and_if(exchange.ours(), FrameControl::TRANSFER_INITIATIVE);
        let retry = exchange.kind == Kind::CommandIn && self.retries(id);
        if retry && let Some(exchange) = self.exchanges.get_mut(&id) {
            exchange.sent.push((offset, data.clone()));
        }
        self.send_sequence(id, RoutingControl::DATA, Type::FCP, control, data, Some(offset));
    }

    /// Sends the response of a command.
    pub(super) fn respond(&mut self, now: Instant, id: ExchangeId, payload: Segments) {
        let (confirm, retry) = (
            payload.first().is_some_and(|first| first.get(10).is_some_and(|flags| flags & 0x10 != 0)),
            self.retries(id),
        );
        let deadline = now + self.config.r_a_tov;
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        if exchange.kind != Kind::CommandIn || exchange.aborting {
            return;
        }
        exchange.receiving = None;
        exchange.deadline = None;
        if confirm {
            exchange.confirming = true;
            exchange.deadline = Some(deadline);
            exchange.response = Some(payload.clone());
            let control = FrameControl::END_SEQUENCE.and(FrameControl::TRANSFER_INITIATIVE);
            self.send_sequence(id, RoutingControl::RESPONSE, Type::FCP, control, payload, None);
            self.keep(id);
            return;
        }
        if retry {
            exchange.response = Some(payload.clone());
            exchange.retained = true;
            exchange.deadline = Some(deadline);
            let control = FrameControl::END_SEQUENCE.and(FrameControl::LAST_SEQUENCE);
            self.send_sequence(id, RoutingControl::RESPONSE, Type::FCP, control, payload, None);
            self.events.push_back(stmf::provider::hba::HbaEvent::Ended(id));
            self.keep(id);
            return;
        }
        let key = exchange.key();
        self.keep_in_mind(key, id, &payload);
        self.send_last(id, RoutingControl::RESPONSE, Type::FCP, payload);
        self.end(id);
    }

    /// An exchange is kept though its command is over, while there is room.
    fn keep(&mut self, id: ExchangeId) {
        self.retained.push_back(id);
        if self.retained.len() > self.config.max_retained {
            self.drop_retained();
        }
    }

    /// Keeps in mind that a command was answered with sense data: an abort that comes later says that the initiator has
    /// not got them.
    pub(super) fn keep_in_mind(&mut self, key: Key, id: ExchangeId, response: &Segments) {
        let sense = response.first().is_some_and(|first| first.get(11) == Some(&scsi_core::Status::CHECK_CONDITION.0));
        if !sense {
            return;
        }
        if self.answered.len() >= MAX_ANSWERED {
            self.answered.pop_front();
        }
        self.answered.push_back((key, id));
    }

    /// Queues the last sequence of an exchange; it and what was queued before go out though the exchange ends now.
    fn send_last(&mut self, id: ExchangeId, r_ctl: RoutingControl, kind: Type, payload: Segments) {
        let control = FrameControl::END_SEQUENCE.and(FrameControl::LAST_SEQUENCE);
        self.send_sequence(id, r_ctl, kind, control, payload, None);
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.exchange == Some(id)) {
            outgoing.outlives = true;
        }
    }

    /// Answers a frame for which there is no exchange and no room for one.
    pub(super) fn refuse(&mut self, header: &FrameHeader) {
        self.statistics.refused_exchanges += 1;
        let (r_ctl, kind, payload) = match (header.r_ctl, header.kind) {
            (RoutingControl::COMMAND, _) => {
                let full = FcpResponse { status: scsi_core::Status::TASK_SET_FULL.0, ..FcpResponse::default() };
                (RoutingControl::RESPONSE, Type::FCP, full.encode())
            }
            (RoutingControl::ELS_REQUEST, _) => {
                let (reason, explanation) = (LsReason::LOGICAL_BUSY, LsExplanation::NO_RESOURCES);
                let payload = vec![ElsCommand::LS_RJT.0, 0, 0, 0, 0, reason.0, explanation.0, 0];
                (RoutingControl::ELS_REPLY, Type::ELS, payload)
            }
            // Others wait for an answer in vain, as class 3 has it.
            _ => return,
        };
        // What nobody fetches is not piled up.
        if self.outgoing.len() < 2 * self.config.max_exchanges {
            let control = FrameControl::END_SEQUENCE.and(FrameControl::LAST_SEQUENCE);
            self.queue(None, true, Self::back(header, r_ctl, kind, control), smallvec![Bytes::from(payload)], None);
        }
    }

    /// Answers a basic link service.
    pub(super) fn basic_reply(&mut self, header: &FrameHeader, r_ctl: RoutingControl, payload: [u8; 12]) {
        if self.outgoing.len() < 2 * self.config.max_exchanges {
            let length = if r_ctl == RoutingControl::BA_RJT { 4 } else { 12 };
            let payload = smallvec![Bytes::copy_from_slice(&payload[..length])];
            let control = FrameControl::END_SEQUENCE.and(FrameControl::LAST_SEQUENCE);
            self.queue(None, true, Self::back(header, r_ctl, Type::BLS, control), payload, None);
        }
    }

    /// The header of an answer to `header` on the same exchange.
    fn back(header: &FrameHeader, r_ctl: RoutingControl, kind: Type, control: FrameControl) -> FrameHeader {
        FrameHeader {
            r_ctl,
            d_id: header.s_id,
            s_id: header.d_id,
            kind,
            f_ctl: control.and_if(!header.f_ctl.has(FrameControl::RESPONDER), FrameControl::RESPONDER),
            seq_cnt: 0,
            df_ctl: 0,
            rx_id: if header.rx_id == UNASSIGNED { UNASSIGNED } else { header.rx_id },
            parameter: 0,
            ..*header
        }
    }

    /// Whether sequences of an exchange can be asked for again.
    pub(super) fn retries(&self, id: ExchangeId) -> bool {
        let remote = |exchange: &super::Exchange| self.remotes.get(&exchange.remote).copied();
        self.exchanges.get(&id).and_then(remote).is_some_and(|remote| {
            crate::wire::FcpService(remote.service_parameters).has(crate::wire::FcpService::RETRY)
        })
    }

    /// Whether a frame is for us. Before there is an address, and for link services, every one is: the answer to a
    /// login brings the address.
    pub(super) fn is_ours(&self, to: PortId, kind: Type) -> bool {
        to == self.address || self.address == PortId::NONE || kind == Type::ELS
    }
}

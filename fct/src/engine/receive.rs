//! What comes in.

use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::{ExchangeId, FcFrame, HbaEvent, LinkService, PortId};

use super::exchange::{Exchange, Key, Kind};
use super::{Engine, InitiatorEvent};
use crate::wire::{
    FcpResponse, FrameControl, FrameHeader, RoutingControl, TransferReady, Type, UNASSIGNED, flat, length,
};

/// The longest data field there is.
const MAX_PAYLOAD: usize = 2112;

impl Engine {
    /// Takes a frame.
    pub fn handle_frame(&mut self, now: Instant, frame: FcFrame) {
        let header = FrameHeader::decode(&frame.header);
        // Optional headers are not agreed upon with anybody.
        if length(&frame.payload) > MAX_PAYLOAD || header.df_ctl != 0 {
            self.statistics.malformed_frames += 1;
            return;
        }
        if !self.is_ours(header.d_id, header.kind) {
            self.statistics.stray_frames += 1;
            return;
        }
        if header.r_ctl.is_basic() {
            return self.handle_basic(&header, &frame.payload);
        }
        let key = Key { remote: header.s_id, ox_id: header.ox_id, ours: header.f_ctl.has(FrameControl::RESPONDER) };
        // The answer to FLOGI comes from the address it went to, and so does any other.
        let id = self.keys.get(&key).copied();
        if let (Some(id), true) = (id, key.ours)
            && let Some(exchange) = self.exchanges.get_mut(&id)
            && exchange.rx_id == UNASSIGNED
        {
            exchange.rx_id = header.rx_id;
        }
        if header.r_ctl == RoutingControl::DATA && header.kind == Type::FCP {
            return match id {
                Some(id) => self.handle_data(id, &header, frame.payload),
                None => self.statistics.stray_frames += 1,
            };
        }
        let Some((header, payload)) = self.assemble(now, &header, frame.payload) else { return };
        match (header.r_ctl, header.kind, id) {
            (RoutingControl::COMMAND, Type::FCP, _) if !key.ours => {
                self.begin(Kind::CommandIn, &header, payload);
            }
            (RoutingControl::ELS_REQUEST, Type::ELS, _) if !key.ours => {
                self.begin(Kind::ServiceIn, &header, payload);
            }
            (RoutingControl::CT_REQUEST, Type::CT, _) if !key.ours => {
                self.begin(Kind::ServiceIn, &header, payload);
            }
            (RoutingControl::FC4_REQUEST, Type::FCP, _) if !key.ours => self.handle_srr(&header, &payload),
            (RoutingControl::ELS_REPLY, Type::ELS, Some(id))
            | (RoutingControl::FC4_REPLY, Type::FCP, Some(id))
            | (RoutingControl::SOLICITED_CONTROL, Type::CT, Some(id))
                if self.is_kind(id, Kind::ServiceOut) =>
            {
                self.answered(id, header.d_id, Some(payload));
            }
            (RoutingControl::SOLICITED_CONTROL, Type::FCP, Some(id)) if !key.ours => {
                if self.exchanges.get(&id).is_some_and(|exchange| exchange.confirming) {
                    self.end(id);
                }
            }
            (RoutingControl::TRANSFER_READY, Type::FCP, Some(id)) if self.is_kind(id, Kind::CommandOut) => {
                match TransferReady::decode(&flat(&payload, 12)) {
                    Ok(ready) => self.initiator_events.push_back(InitiatorEvent::TransferReady(id, ready)),
                    Err(_) => self.statistics.malformed_frames += 1,
                }
            }
            (RoutingControl::RESPONSE, Type::FCP, Some(id)) if self.is_kind(id, Kind::CommandOut) => {
                self.handle_response(id, payload);
            }
            _ => self.statistics.stray_frames += 1,
        }
    }

    fn is_kind(&self, id: ExchangeId, kind: Kind) -> bool {
        self.exchanges.get(&id).is_some_and(|exchange| exchange.kind == kind)
    }

    /// The first sequence of an exchange of the other side.
    fn begin(&mut self, kind: Kind, header: &FrameHeader, payload: Segments) {
        let key = Key { remote: header.s_id, ox_id: header.ox_id, ours: false };
        if let Some(old) = self.keys.get(&key).copied() {
            // Its name is used again, so that the originator has forgotten it.
            self.supersede(old);
        }
        if !self.answered.is_empty() {
            self.answered.retain(|(answered, _)| *answered != key);
        }
        if kind == Kind::ServiceIn && self.handle_rec(header, &payload) {
            return;
        }
        if self.exchanges.len() >= self.config.max_exchanges && !self.drop_retained() {
            return self.refuse(header);
        }
        let id = ExchangeId(self.next_exchange);
        self.next_exchange += 1;
        let mut exchange = Exchange::new(kind, header.d_id, header.s_id, header.ox_id);
        exchange.rx_id = id.0 as u16 & 0x7fff;
        if header.kind == Type::CT {
            exchange.response = Some(Segments::new());
        }
        self.keys.insert(key, id);
        self.exchanges.insert(id, exchange);
        let (from, to) = (header.s_id, header.d_id);
        self.events.push_back(match kind {
            Kind::CommandIn => HbaEvent::Command { exchange: id, from, to, ox_id: header.ox_id, payload },
            _ => {
                let service = if header.kind == Type::CT { LinkService::Ct } else { LinkService::Els };
                HbaEvent::Service { exchange: id, service, from, to, payload }
            }
        });
    }

    /// Ends an exchange whose name is used again.
    fn supersede(&mut self, id: ExchangeId) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        match exchange.kind {
            Kind::CommandIn if !exchange.retained && !exchange.confirming => {
                self.keys.remove(&exchange.key());
                exchange.silent = true;
                exchange.receiving = None;
                exchange.deadline = None;
                if !std::mem::replace(&mut exchange.aborting, true) {
                    self.events.push_back(HbaEvent::AbortReceived(id));
                }
            }
            _ => self.end(id),
        }
    }

    fn handle_data(&mut self, id: ExchangeId, header: &FrameHeader, data: Segments) {
        let Some(exchange) = self.exchanges.get_mut(&id) else { return };
        let offset = header.parameter;
        if exchange.kind == Kind::CommandOut {
            self.initiator_events.push_back(InitiatorEvent::Data { exchange: id, offset, data });
            return;
        }
        let taken = exchange.receiving.as_mut().is_some_and(|receiving| receiving.take(offset, data));
        if !taken {
            self.statistics.stray_frames += 1;
            return;
        }
        if let Some(whole) = exchange.receiving.take_if(|receiving| receiving.is_whole()) {
            exchange.deadline = None;
            exchange.transferred = exchange.transferred.max(whole.offset + whole.length);
            let offset = whole.offset;
            self.events.push_back(HbaEvent::Data { exchange: id, offset, data: whole.into_segments() });
        }
    }

    fn handle_response(&mut self, id: ExchangeId, payload: Segments) {
        let confirm = FcpResponse::decode(&flat(&payload, 512)).is_ok_and(|response| response.confirm);
        if confirm {
            let control = FrameControl::END_SEQUENCE.and(FrameControl::LAST_SEQUENCE);
            self.send_sequence(id, RoutingControl::SOLICITED_CONTROL, Type::FCP, control, Segments::new(), None);
            self.outlive(id);
        }
        if self.forget(id).is_some() {
            self.initiator_events.push_back(InitiatorEvent::Response(id, payload));
        }
    }

    /// What is queued for an exchange goes out though it ends.
    pub(super) fn outlive(&mut self, id: ExchangeId) {
        for outgoing in self.outgoing.iter_mut().filter(|outgoing| outgoing.exchange == Some(id)) {
            outgoing.outlives = true;
        }
    }

    /// The exchange of the other side with these names.
    pub(super) fn theirs(&self, originator: PortId, ox_id: u16) -> Option<ExchangeId> {
        self.keys.get(&Key { remote: originator, ox_id, ours: false }).copied()
    }
}

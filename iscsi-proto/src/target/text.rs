//! Text exchanges of the full feature phase: SendTargets and the few keys that may still change (RFC 7143 11.10, 11.11,
//! appendix C).

use super::recv::Numbered;
use super::{Event, SendTargetsScope, Session, TargetRecord, TextHandle};
use crate::login::{Parameters, Role, SessionType, handle_full_feature_text};
use crate::pdu::{InitiatorTaskTag, RejectReason, TargetTransferTag, TextRequest, TextResponse};
use crate::text::{self, TextAccumulator, TextSender, TextWriter};

/// A text exchange of one connection; there is at most one.
#[derive(Debug)]
pub(super) struct TextExchange {
    tag: InitiatorTaskTag,
    /// What the initiator's next request has to repeat.
    transfer: TargetTransferTag,
    input: TextAccumulator,
    output: TextSender,
    /// The request that is being answered had the F bit.
    is_final: bool,
    /// Waits for the owner's answer to this SendTargets.
    waiting: Option<u32>,
}

impl Session {
    /// Answers [`Event::SendTargets`]. With no targets, the initiator gets an empty answer.
    pub fn send_targets_response(&mut self, request: TextHandle, targets: &[TargetRecord]) {
        let Some(link) = self.links.get_mut(request.connection) else { return };
        let Some(exchange) = link.text.as_mut().filter(|text| text.waiting == Some(request.number)) else { return };
        exchange.waiting = None;
        let mut writer = TextWriter::new();
        for target in targets {
            writer.push("TargetName", &target.name);
            for (address, tag) in &target.addresses {
                writer.push("TargetAddress", &format!("{address},{tag}"));
            }
        }
        exchange.output.push(writer.take());
        self.send_text(request.connection);
    }

    pub(super) fn execute_text(&mut self, request: &Numbered, pdu: &TextRequest) {
        let limit = self.config.max_text_bytes;
        let Some(link) = self.links.get_mut(request.link) else { return };
        if pdu.target_transfer_tag.is_reserved() {
            // A request without a tag begins anew, whatever went on before (RFC 7143 11.10.4).
            link.text = Some(TextExchange {
                tag: pdu.initiator_task_tag,
                transfer: TargetTransferTag::RESERVED,
                input: TextAccumulator::new(limit),
                output: TextSender::default(),
                is_final: false,
                waiting: None,
            });
        }
        let Some(exchange) = link.text.as_mut().filter(|text| {
            text.tag == pdu.initiator_task_tag && text.transfer == pdu.target_transfer_tag && text.waiting.is_none()
        }) else {
            return self.reject(request.link, RejectReason::INVALID_PDU_FIELD, &request.bhs, &[]);
        };
        exchange.is_final = pdu.is_final && !pdu.is_continued;
        if !exchange.output.is_empty() {
            return self.send_text(request.link);
        }
        match exchange.input.push(&pdu.data, pdu.is_continued) {
            Ok(None) => self.send_text(request.link),
            Ok(Some(text)) => self.take_text(request, &text),
            Err(_) => self.refuse_text(request),
        }
    }

    fn refuse_text(&mut self, request: &Numbered) {
        if let Some(link) = self.links.get_mut(request.link) {
            link.text = None;
        }
        self.reject(request.link, RejectReason::PROTOCOL_ERROR, &request.bhs, &[]);
    }

    /// Acts on a whole text.
    fn take_text(&mut self, request: &Numbered, text: &[u8]) {
        let (session_type, preferences) = (self.identity.session_type, self.preferences);
        let Some(link) = self.links.get_mut(request.link) else { return };
        let mut parameters = Parameters { session: self.rules, connection: link.parameters };
        let reply = match handle_full_feature_text(Role::Target, session_type, preferences, &mut parameters, text) {
            Ok(reply) => reply,
            Err(_) => return self.refuse_text(request),
        };
        link.parameters = parameters.connection;
        let Some(exchange) = &mut link.text else { return };
        exchange.output.push(reply.reply);
        let Some(value) = reply.send_targets else { return self.send_text(request.link) };
        match send_targets_scope(&value, session_type) {
            Some(scope) => {
                self.text_number = self.text_number.wrapping_add(1);
                exchange.waiting = Some(self.text_number);
                let request = TextHandle { connection: request.link, number: self.text_number };
                self.events.push_back(Event::SendTargets { request, scope });
            }
            None => {
                let mut writer = TextWriter::new();
                writer.push("SendTargets", text::REJECT);
                exchange.output.push(writer.take());
                self.send_text(request.link);
            }
        }
    }

    /// Sends the next piece of the answer, or asks for the next piece of the request.
    fn send_text(&mut self, key: super::ConnectionKey) {
        let Some(link) = self.links.get_mut(key) else { return };
        let Some(exchange) = &mut link.text else { return };
        let (data, is_continued) = exchange.output.next_segment(link.parameters.max_send_data_segment_length as usize);
        let is_final = exchange.is_final && !is_continued;
        let tag = exchange.tag;
        if is_final {
            link.text = None;
        }
        let transfer = if is_final { TargetTransferTag::RESERVED } else { self.transfer_tags.take() };
        let Some(link) = self.links.get_mut(key) else { return };
        if let Some(exchange) = &mut link.text {
            exchange.transfer = transfer;
        }
        link.push(TextResponse {
            is_final,
            is_continued,
            initiator_task_tag: tag,
            target_transfer_tag: transfer,
            data: data.into(),
            ..TextResponse::default()
        });
    }
}

/// What a value of SendTargets asks for; `None` where it may not be asked (RFC 7143, appendix C).
fn send_targets_scope(value: &str, session_type: SessionType) -> Option<SendTargetsScope> {
    match (value, session_type) {
        ("All", SessionType::Discovery) => Some(SendTargetsScope::All),
        ("", SessionType::Normal) => Some(SendTargetsScope::Session),
        ("All", SessionType::Normal) | ("", SessionType::Discovery) => None,
        (name, _) => Some(SendTargetsScope::Target(name.to_owned())),
    }
}

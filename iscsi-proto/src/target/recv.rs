//! From frames to what they mean: dispatch, command order, Rejects, pings.

use bytes::Bytes;

use super::window::Arrival;
use super::{CloseReason, Command, ConnectionKey, Session, TaskHandle};
use crate::frame::{Frame, FrameError};
use crate::pdu::{
    Bhs, DecodeError, InitiatorPdu, LogoutRequest, NopIn, NopOut, Opcode, RejectReason, ScsiCommand, TargetTransferTag,
    TaskManagementRequest, TextRequest,
};
use crate::sn::{CmdSn, StatSn};

/// A request that has its place in the command order, with its header for a Reject.
#[derive(Debug)]
pub(super) struct Numbered {
    pub(super) link: ConnectionKey,
    pub(super) bhs: Bhs,
}

/// A request to be carried out in its turn.
#[derive(Debug)]
pub(super) enum Request {
    Command(Command),
    Management(TaskHandle, TaskManagementRequest),
    Nop(NopOut),
    Text(TextRequest),
    Logout(LogoutRequest),
}

impl Session {
    /// Takes frames off a connection until there is none, or a limit is reached.
    pub(super) fn pump(&mut self, key: ConnectionKey) {
        loop {
            let has_room = self.events.len() < self.config.max_events;
            let Some(link) = self.links.get_mut(key) else { return };
            if !link.is_open() {
                return;
            }
            let is_stalled = !has_room || link.is_full(&self.config);
            let was_stalled = std::mem::replace(&mut link.is_stalled, is_stalled);
            if link.is_stalled {
                return;
            }
            if was_stalled {
                link.resume(self.now);
            }
            match link.framer.poll_frame() {
                Ok(Some(frame)) => self.handle_frame(key, frame),
                Ok(None) => return,
                Err(error) => return self.handle_frame_error(key, error),
            }
        }
    }

    /// Goes on with connections whose input had to wait.
    pub(super) fn pump_stalled(&mut self) {
        if self.events.len() >= self.config.max_events {
            return;
        }
        loop {
            let stalled =
                self.links.iter().find(|link| link.is_stalled && link.is_open() && !link.is_full(&self.config));
            let Some(key) = stalled.map(|link| link.key) else { return };
            self.pump(key);
            if self.events.len() >= self.config.max_events {
                return;
            }
        }
    }

    fn handle_frame_error(&mut self, key: ConnectionKey, error: FrameError) {
        // A damaged header is not answered: nobody knows whose it was (RFC 7143 7.8). One that announces too much is.
        if let FrameError::DataSegmentTooLong { bhs, .. } | FrameError::AhsTooLong { bhs, .. } = &error {
            self.reject(key, RejectReason::PROTOCOL_ERROR, bhs, &[]);
        }
        self.fail_link(key, CloseReason::Stream(error));
    }

    fn handle_frame(&mut self, key: ConnectionKey, frame: Frame) {
        let (bhs, is_intact) = (frame.bhs, frame.data_digest.is_ok());
        // What comes most often need not go through the type that has room for every PDU.
        if bhs.opcode() == Opcode::SCSI_COMMAND && is_intact && frame.ahs.is_empty() {
            return match ScsiCommand::decode(frame) {
                Ok(pdu) => {
                    self.acknowledge(key, pdu.exp_stat_sn);
                    self.receive_command(Numbered { link: key, bhs }, pdu, &[]);
                }
                Err(kind) => self.reject_malformed(key, &DecodeError { kind, bhs, ahs: Bytes::new() }),
            };
        }
        let ahs = frame.ahs.clone();
        let pdu = match InitiatorPdu::decode(frame) {
            Ok(pdu) => pdu,
            Err(error) => return self.reject_malformed(key, &error),
        };
        self.acknowledge(key, pdu.exp_stat_sn());
        if !is_intact {
            self.reject(key, RejectReason::DATA_DIGEST_ERROR, &bhs, &ahs);
            if !matches!(pdu, InitiatorPdu::DataOut(_)) {
                return self.lose(key, &pdu);
            }
        }
        let request = Numbered { link: key, bhs };
        match pdu {
            InitiatorPdu::ScsiCommand(pdu) => self.receive_command(request, pdu, &ahs),
            InitiatorPdu::DataOut(pdu) => self.receive_data_out(&request, pdu, is_intact),
            InitiatorPdu::TaskManagementRequest(pdu) => self.receive_management(request, pdu),
            InitiatorPdu::NopOut(pdu) => self.receive_nop(request, pdu),
            InitiatorPdu::TextRequest(pdu) => {
                let (number, immediate) = (pdu.cmd_sn, pdu.immediate);
                self.sequence(request, number, immediate, Request::Text(pdu));
            }
            InitiatorPdu::LogoutRequest(pdu) => {
                let (number, immediate) = (pdu.cmd_sn, pdu.immediate);
                self.sequence(request, number, immediate, Request::Logout(pdu));
            }
            // Recovery of data and status needs error recovery level 1; a login is over.
            InitiatorPdu::Snack(_) | InitiatorPdu::LoginRequest(_) => {
                self.reject(key, RejectReason::PROTOCOL_ERROR, &bhs, &ahs);
            }
        }
    }

    /// Takes what the initiator says it has got, and goes on with what waited for that.
    fn acknowledge(&mut self, key: ConnectionKey, exp_stat_sn: StatSn) {
        if let Some(link) = self.links.get_mut(key) {
            let before = link.acknowledged;
            link.acknowledge(exp_stat_sn);
            if link.acknowledged != before && self.is_waiting() {
                self.settle();
            }
        }
    }

    pub(super) fn reject(&mut self, key: ConnectionKey, reason: RejectReason, bhs: &Bhs, ahs: &[u8]) {
        if let Some(link) = self.links.get_mut(key) {
            link.reject(reason, bhs, ahs);
        }
    }

    /// A request whose data came damaged was told so and is dropped. Its number is now missing, which at error
    /// recovery level 0 only a new session mends.
    fn lose(&mut self, key: ConnectionKey, pdu: &InitiatorPdu) {
        if let Some((number, false)) = pdu.command_number()
            && self.window.classify(number) != Arrival::Ignore
        {
            self.fail_link(key, CloseReason::Protocol("data digest error in a numbered request"));
        }
    }

    fn reject_malformed(&mut self, key: ConnectionKey, error: &DecodeError) {
        self.reject(key, error.reject_reason(), &error.bhs, &error.ahs);
        if error.bhs.is_immediate() || matches!(error.bhs.opcode(), Opcode::DATA_OUT | Opcode::SNACK) {
            return;
        }
        // The number of a rejected request counts as come, or everything behind it would wait for ever. Every other
        // PDU of an initiator has its CmdSN here; for one we do not know, only the number that is due is believed.
        let header = error.bhs.to_bytes();
        let number = CmdSn(u32::from_be_bytes([header[24], header[25], header[26], header[27]]));
        if error.bhs.opcode().name().is_some() || number == self.window.expected() {
            self.skip(number);
        }
    }

    /// Counts a number as come without carrying anything out.
    pub(super) fn skip(&mut self, number: CmdSn) {
        if self.window.classify(number) != Arrival::Ignore {
            self.window.plug(number);
            self.deliver_held();
        }
    }

    /// The same for a request that was refused, if it had a number of its own.
    pub(super) fn skip_unless_immediate(&mut self, immediate: bool, number: CmdSn) {
        if !immediate {
            self.skip(number);
        }
    }

    /// Carries a request out in its turn.
    pub(super) fn sequence(&mut self, numbered: Numbered, number: CmdSn, immediate: bool, request: Request) {
        if immediate {
            return self.execute(&numbered, request);
        }
        match self.window.classify(number) {
            Arrival::Ignore => {}
            Arrival::Hold => {
                self.window.hold(number, (numbered, request));
                self.hole_since.get_or_insert(self.now);
            }
            Arrival::Deliver => {
                self.window.advance();
                self.execute(&numbered, request);
                self.deliver_held();
            }
        }
    }

    /// Carries out what was held and whose turn has come.
    pub(super) fn deliver_held(&mut self) {
        while let Some((numbered, request)) = self.window.next_held() {
            self.hole_since = Some(self.now);
            self.execute(&numbered, request);
        }
        if !self.window.has_hole() {
            self.hole_since = None;
        }
        self.release_managements();
    }

    fn execute(&mut self, numbered: &Numbered, request: Request) {
        match request {
            Request::Command(command) => self.deliver_command(command),
            Request::Management(handle, pdu) => self.execute_management(handle, &pdu),
            Request::Nop(pdu) => self.execute_nop(numbered.link, pdu),
            Request::Text(pdu) => self.execute_text(numbered, &pdu),
            Request::Logout(pdu) => self.execute_logout(numbered, &pdu),
        }
    }

    fn receive_nop(&mut self, request: Numbered, pdu: NopOut) {
        if !pdu.target_transfer_tag.is_reserved()
            && let Some(link) = self.links.get_mut(request.link)
            && link.ping.is_some_and(|ping| ping.tag == pdu.target_transfer_tag)
        {
            link.ping = None;
        }
        if self.tasks.has_tag(pdu.initiator_task_tag) {
            self.reject(request.link, RejectReason::TASK_IN_PROGRESS, &request.bhs, &[]);
            return self.skip_unless_immediate(pdu.immediate, pdu.cmd_sn);
        }
        let (number, immediate) = (pdu.cmd_sn, pdu.immediate);
        self.sequence(request, number, immediate, Request::Nop(pdu));
    }

    /// Answers a ping with its data, as far as the initiator can take it (RFC 7143 11.19).
    fn execute_nop(&mut self, key: ConnectionKey, pdu: NopOut) {
        if pdu.initiator_task_tag.is_reserved() {
            return;
        }
        let Some(link) = self.links.get_mut(key) else { return };
        let mut left = link.parameters.max_send_data_segment_length as usize;
        let data = pdu.data.into_slices().into_iter().map(|mut slice| {
            slice.truncate(left);
            left -= slice.len();
            slice
        });
        let data = data.collect();
        link.push_urgent(NopIn {
            initiator_task_tag: pdu.initiator_task_tag,
            target_transfer_tag: TargetTransferTag::RESERVED,
            data,
            ..NopIn::default()
        });
    }
}

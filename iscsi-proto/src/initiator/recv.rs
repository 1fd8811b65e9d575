//! From PDUs to events.

use std::time::Instant;

use bytes::Bytes;

use super::event::{CloseReason, ConnectionKey, DiscoveredTarget, Event, LoginError, Outcome, Response};
use super::link::{Item, Link, Run, State};
use super::session::Session;
use super::tasks::Kind;
use crate::frame::Limits;
use crate::pdu::{
    AsyncEvent, DataIn, InitiatorPdu, InitiatorTaskTag, LogoutResponseCode, NopIn, NopOut, R2t, Reject, ScsiResponse,
    TargetPdu, TextRequest, TextResponse,
};
use crate::sn::{CmdSn, DataSn, StatSn};
use crate::text;

impl Link {
    /// Encodes the login request that is due.
    pub(super) fn send_login(&mut self) {
        let State::Login(login) = &mut self.state else { return };
        if let Some(mut request) = login.take_request() {
            request.exp_stat_sn = self.exp_stat_sn;
            // A login's texts are far below what a header can say.
            let _ = self.encoder.encode(&request, &mut self.raw);
            self.encoder.finish(&mut self.raw);
        }
    }
}

/// What went wrong with a PDU; the connection ends.
struct Broken(String);

impl<E: std::error::Error> From<E> for Broken {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Session {
    /// Takes bytes that arrived on a connection, in order.
    pub fn handle_received(&mut self, now: Instant, connection: ConnectionKey, bytes: Bytes) {
        let Some(link) = self.link_mut(connection) else { return };
        link.framer.handle_received(bytes);
        link.last_received = now;
        link.pinged = None;
        loop {
            let Some(link) = self.link_mut(connection) else { return };
            if matches!(link.state, State::Closing) {
                return;
            }
            let is_open = link.is_open();
            let pdu = match link.framer.poll_frame() {
                Ok(None) => return,
                Ok(Some(frame)) if !frame.data_digest.is_ok() => Err(Broken("wrong data digest".into())),
                Ok(Some(frame)) => TargetPdu::decode(frame).map_err(Broken::from),
                Err(error) => Err(error.into()),
            };
            let outcome = pdu.and_then(|pdu| match is_open {
                true => self.handle_pdu(connection, pdu),
                false => self.handle_login(connection, &pdu),
            });
            if let Err(Broken(words)) = outcome {
                match self.link(connection).map(|link| &link.state) {
                    Some(State::Login(_)) => self.fail_login(connection, LoginError::Protocol(words)),
                    _ => self.close_link(connection, CloseReason::Protocol(words)),
                }
            }
        }
    }

    fn handle_login(&mut self, connection: ConnectionKey, pdu: &TargetPdu) -> Result<(), Broken> {
        let TargetPdu::LoginResponse(response) = pdu else {
            return Err(Broken("a PDU other than a login response during the login".into()));
        };
        let Some(link) = self.link_mut(connection) else { return Ok(()) };
        let State::Login(login) = &mut link.state else { return Ok(()) };
        match login.handle_response(response) {
            Err(error) => self.fail_login(connection, error),
            Ok(None) => {
                link.exp_stat_sn = response.stat_sn.next();
                link.send_login();
                self.learn_window(response.exp_cmd_sn, response.max_cmd_sn);
            }
            Ok(Some(logged_in)) => {
                let agreed = logged_in.parameters.connection;
                link.exp_stat_sn = response.stat_sn.next();
                link.state = State::Open;
                link.login_deadline = None;
                link.max_send_segment = agreed.max_send_data_segment_length;
                link.encoder.set_digests(agreed.digests);
                link.framer.set_digests(agreed.digests);
                link.framer.set_limits(Limits {
                    max_data_segment_length: agreed.max_recv_data_segment_length,
                    ..Limits::default()
                });
                self.tsih = logged_in.tsih;
                self.parameters.get_or_insert(logged_in.parameters);
                self.learn_window(response.exp_cmd_sn, response.max_cmd_sn);
                self.events.push_back(Event::LoggedIn { connection });
            }
        }
        Ok(())
    }

    fn handle_pdu(&mut self, connection: ConnectionKey, pdu: TargetPdu) -> Result<(), Broken> {
        match pdu {
            TargetPdu::ScsiResponse(pdu) => self.scsi_response(connection, pdu),
            TargetPdu::DataIn(pdu) => self.data_in(connection, pdu),
            TargetPdu::R2t(pdu) => self.r2t(connection, &pdu),
            TargetPdu::NopIn(pdu) => self.nop_in(connection, pdu),
            TargetPdu::TextResponse(pdu) => self.text_response(connection, &pdu),
            TargetPdu::TaskManagementResponse(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                if let Some(entry) = self.entries.remove(pdu.initiator_task_tag)
                    && let Kind::Management { function, referenced } = entry.kind
                {
                    let response = Some((pdu.response, pdu.additional_information));
                    self.events.push_back(Event::TaskManaged { request: entry.key, response });
                    if pdu.response == crate::pdu::TaskManagementResponseCode::FUNCTION_COMPLETE {
                        self.forget_aborted(function, entry.lun, referenced);
                    }
                }
                Ok(())
            }
            TargetPdu::LogoutResponse(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                let Some(entry) = self.entries.remove(pdu.initiator_task_tag) else { return Ok(()) };
                let Kind::Logout { whole_session, connection } = entry.kind else { return Ok(()) };
                self.events.push_back(Event::LoggedOut { request: entry.key, response: pdu.response });
                if pdu.response == LogoutResponseCode::SUCCESS {
                    let ends: Vec<ConnectionKey> = self
                        .links
                        .iter()
                        .map(|link| link.key)
                        .filter(|key| whole_session || *key == connection)
                        .collect();
                    ends.into_iter().for_each(|key| self.close_link(key, CloseReason::LoggedOut));
                }
                Ok(())
            }
            TargetPdu::AsyncMessage(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                let event = pdu.event;
                self.events.push_back(Event::Async(Box::new(pdu)));
                match event {
                    AsyncEvent::CONNECTION_DROPPED | AsyncEvent::SESSION_DROPPED => {
                        self.close_link(connection, CloseReason::Dropped);
                    }
                    _ => {}
                }
                Ok(())
            }
            TargetPdu::Reject(pdu) => self.reject(connection, &pdu),
            TargetPdu::LoginResponse(_) => Err(Broken("a login response after the login".into())),
        }
    }

    fn scsi_response(&mut self, connection: ConnectionKey, pdu: ScsiResponse) -> Result<(), Broken> {
        self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
        let Some(entry) = self.entries.remove(pdu.initiator_task_tag) else { return Ok(()) };
        let Kind::Command(task) = entry.kind else { return Err(Broken("a SCSI response to no command".into())) };
        let data = pdu.data.to_contiguous();
        // Sense data has its length in front (RFC 7143 11.4.7.2).
        let sense = match data.first_chunk::<2>() {
            Some(length) => {
                let end = (2 + usize::from(u16::from_be_bytes(*length))).min(data.len());
                data.slice(2..end)
            }
            None => Bytes::new(),
        };
        let response = Response {
            response: pdu.response,
            status: pdu.status,
            sense,
            data_in: task.data_in,
            residual: pdu.residual,
            bidirectional_read_residual: pdu.bidirectional_read_residual,
        };
        self.events.push_back(Event::TaskDone { task: entry.key, outcome: Outcome::Response(response) });
        Ok(())
    }

    fn data_in(&mut self, connection: ConnectionKey, pdu: DataIn) -> Result<(), Broken> {
        if pdu.status.is_some() {
            self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
        } else {
            self.learn_window(pdu.exp_cmd_sn, pdu.max_cmd_sn);
        }
        let Some(entry) = self.entries.by_tag(pdu.initiator_task_tag) else { return Ok(()) };
        let Kind::Command(task) = &mut entry.kind else { return Err(Broken("Data-In for no command".into())) };
        let end = u64::from(pdu.buffer_offset) + pdu.data.len() as u64;
        if end > u64::from(task.data_in_length) || !task.data_in.insert(pdu.buffer_offset, pdu.data) {
            return Err(Broken(format!("Data-In up to {end} of {} bytes expected", task.data_in_length)));
        }
        if let Some(status) = pdu.status {
            let Some(entry) = self.entries.remove(pdu.initiator_task_tag) else { return Ok(()) };
            let Kind::Command(task) = entry.kind else { return Ok(()) };
            let response = Response {
                response: crate::pdu::ScsiResponseCode::COMPLETED,
                status,
                sense: Bytes::new(),
                data_in: task.data_in,
                residual: pdu.residual,
                bidirectional_read_residual: crate::pdu::Residual::None,
            };
            self.events.push_back(Event::TaskDone { task: entry.key, outcome: Outcome::Response(response) });
        }
        Ok(())
    }

    fn r2t(&mut self, connection: ConnectionKey, pdu: &R2t) -> Result<(), Broken> {
        self.learn_window(pdu.exp_cmd_sn, pdu.max_cmd_sn);
        let Some(entry) = self.entries.by_tag(pdu.initiator_task_tag) else { return Ok(()) };
        let Kind::Command(task) = &entry.kind else { return Err(Broken("an R2T for no command".into())) };
        let end = u64::from(pdu.buffer_offset) + u64::from(pdu.desired_data_transfer_length);
        if pdu.desired_data_transfer_length == 0 || end > task.data_out.len() as u64 {
            return Err(Broken(format!("an R2T up to {end} of {} bytes", task.data_out.len())));
        }
        let run = Run {
            task: pdu.initiator_task_tag,
            transfer: pdu.target_transfer_tag,
            next: pdu.buffer_offset,
            end: end as u32,
            data_sn: DataSn::default(),
        };
        if let Some(link) = self.link_mut(connection) {
            link.urgent.push_back(Item::DataOut(run));
        }
        Ok(())
    }

    fn nop_in(&mut self, connection: ConnectionKey, pdu: NopIn) -> Result<(), Broken> {
        if pdu.initiator_task_tag.is_reserved() {
            // Its StatSN is the next one and does not advance (RFC 7143 11.19.3).
            self.learn_window(pdu.exp_cmd_sn, pdu.max_cmd_sn);
        } else {
            self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
            if let Some(entry) = self.entries.remove(pdu.initiator_task_tag) {
                let data = Some(pdu.data.to_contiguous());
                self.events.push_back(Event::Pong { request: entry.key, data });
            }
        }
        if !pdu.target_transfer_tag.is_reserved() {
            let answer = NopOut {
                immediate: true,
                lun: pdu.lun,
                initiator_task_tag: InitiatorTaskTag::RESERVED,
                target_transfer_tag: pdu.target_transfer_tag,
                ..NopOut::default()
            };
            self.push_urgent(connection, answer.into());
        }
        Ok(())
    }

    fn text_response(&mut self, connection: ConnectionKey, pdu: &TextResponse) -> Result<(), Broken> {
        self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
        let Some(entry) = self.entries.by_tag(pdu.initiator_task_tag) else { return Ok(()) };
        let Kind::Targets { received, .. } = &mut entry.kind else {
            return Err(Broken("a text response to no text request".into()));
        };
        // A target that has more to say keeps the exchange open by C bit or by its transfer tag.
        let more = pdu.is_continued || !pdu.is_final;
        let Some(block) = received.push(&pdu.data, more)? else {
            let ask = TextRequest {
                immediate: true,
                is_final: true,
                lun: pdu.lun,
                initiator_task_tag: pdu.initiator_task_tag,
                target_transfer_tag: pdu.target_transfer_tag,
                ..TextRequest::default()
            };
            self.push_urgent(connection, ask.into());
            return Ok(());
        };
        let targets = Some(discovered(&block)?);
        let key = entry.key;
        self.entries.remove(pdu.initiator_task_tag);
        self.events.push_back(Event::Targets { request: key, targets });
        Ok(())
    }

    fn reject(&mut self, connection: ConnectionKey, pdu: &Reject) -> Result<(), Broken> {
        self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
        // The data is the header that was rejected; its task tag stands at byte 16.
        let header = pdu.data.to_contiguous();
        let tag = header.get(16..20).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes);
        let Some(entry) = tag.and_then(|tag| self.entries.remove(InitiatorTaskTag(tag))) else { return Ok(()) };
        match entry.kind {
            Kind::Command(_) => {
                let outcome = Outcome::Rejected(pdu.reason);
                self.events.push_back(Event::TaskDone { task: entry.key, outcome });
            }
            _ => self.lose(entry),
        }
        Ok(())
    }

    /// Ends what a task management function has aborted: nothing more comes for it.
    fn forget_aborted(
        &mut self,
        function: scsi_core::TaskManagementFunction,
        lun: scsi_core::Lun,
        referenced: Option<super::TaskKey>,
    ) {
        use scsi_core::TaskManagementFunction::*;
        let tags = self.entries.tags(|entry| {
            matches!(entry.kind, Kind::Command(_))
                && entry.cmd_sn.is_some()
                && match function {
                    AbortTask => Some(entry.key) == referenced,
                    AbortTaskSet | ClearTaskSet | LogicalUnitReset => entry.lun == lun,
                    TargetWarmReset | TargetColdReset => true,
                    _ => false,
                }
        });
        for tag in tags {
            if let Some(entry) = self.remove(tag) {
                self.lose(entry);
            }
        }
    }

    fn push_urgent(&mut self, connection: ConnectionKey, pdu: InitiatorPdu) {
        if let Some(link) = self.link_mut(connection) {
            link.urgent.push_back(Item::Pdu(Box::new(pdu)));
        }
    }

    /// Takes the numbers of a PDU with a status.
    fn status(
        &mut self,
        connection: ConnectionKey,
        stat_sn: StatSn,
        exp_cmd_sn: CmdSn,
        max_cmd_sn: CmdSn,
    ) -> Result<(), Broken> {
        self.learn_window(exp_cmd_sn, max_cmd_sn);
        let Some(link) = self.link_mut(connection) else { return Ok(()) };
        if stat_sn != link.exp_stat_sn {
            return Err(Broken(format!("{stat_sn:?} where {:?} was due", link.exp_stat_sn)));
        }
        link.exp_stat_sn = stat_sn.next();
        Ok(())
    }

    /// Takes ExpCmdSN and MaxCmdSN by the rules of RFC 7143 4.2.2.1.
    fn learn_window(&mut self, exp_cmd_sn: CmdSn, max_cmd_sn: CmdSn) {
        if max_cmd_sn.is_before(exp_cmd_sn.minus(1)) {
            return;
        }
        if exp_cmd_sn.is_after(self.exp_cmd_sn) {
            self.exp_cmd_sn = exp_cmd_sn;
        }
        if max_cmd_sn.is_after(self.max_cmd_sn) {
            self.max_cmd_sn = max_cmd_sn;
        }
    }
}

fn discovered(block: &[u8]) -> Result<Vec<DiscoveredTarget>, Broken> {
    let mut targets: Vec<DiscoveredTarget> = Vec::new();
    for (key, value) in text::parse(block)? {
        match (key, targets.last_mut()) {
            ("TargetName", _) => targets.push(DiscoveredTarget { name: value.to_owned(), addresses: Vec::new() }),
            ("TargetAddress", Some(target)) => target.addresses.push(value.to_owned()),
            _ => {}
        }
    }
    Ok(targets)
}

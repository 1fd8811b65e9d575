//! From PDUs to events.

use std::time::{Duration, Instant};

use bytes::Bytes;
use scsi_core::{Lun, TaskManagementFunction};

use super::event::{CloseReason, ConnectionKey, DiscoveredTarget, Event, LoginError, Outcome, Response};
use super::link::{Item, Link, Run, State};
use super::session::Session;
use super::tasks::Kind;
use crate::frame::Limits;
use crate::login::{
    ConnectionParameters, LoginFault, LoginOutcome, Parameters, Role, SessionType, handle_full_feature_text,
};
use crate::pdu::{
    AsyncEvent, AsyncMessage, Cid, DataIn, DataSegment, InitiatorTaskTag, NopIn, NopOut, R2t, Reject, ScsiResponse,
    TargetPdu, TaskManagementResponse, TaskManagementResponseCode, TextRequest, TextResponse,
};
use crate::sn::{CmdSn, DataSn, R2tSn, StatSn};
use crate::text;

impl Link {
    /// Encodes the login request that is due.
    pub(super) fn send_login(&mut self) {
        let State::Login(login) = &mut self.state else { return };
        if let Some(mut request) = login.poll_request() {
            request.exp_stat_sn = self.exp_stat_sn;
            // A login's texts are far below what a header can say.
            let _ = self.encoder.encode(&request, &mut self.raw);
            self.encoder.finish(&mut self.raw);
        }
    }
}

impl Link {
    /// Full feature phase begins with the next byte in either direction.
    fn enter(&mut self, parameters: ConnectionParameters) {
        self.state = State::Open;
        self.login_deadline = None;
        self.parameters = parameters;
        self.encoder.set_digests(parameters.digests);
        self.framer.set_digests(parameters.digests);
        self.framer.set_limits(Limits {
            max_data_segment_length: parameters.max_recv_data_segment_length,
            ..Limits::default()
        });
    }
}

/// Answers to pings and R2Ts that may wait on a connection, beyond one for each request that is outstanding.
const MAX_ANSWERS: usize = 4096;

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
        while let Some(link) = self.link_mut(connection).filter(|link| !matches!(link.state, State::Closing)) {
            let is_open = link.is_open();
            let pdu = match link.framer.poll_frame() {
                Ok(None) => break,
                // Recovery within a connection is error recovery level 1.
                Ok(Some(frame)) if !frame.data_digest.is_ok() => Err(Broken("wrong data digest".into())),
                Ok(Some(frame)) => TargetPdu::decode(frame).map_err(Broken::from),
                Err(error) => Err(error.into()),
            };
            let outcome = pdu.and_then(|pdu| match is_open {
                true => self.handle_pdu(connection, now, pdu),
                false => self.handle_login(connection, &pdu),
            });
            if let Err(Broken(words)) = outcome {
                match self.link(connection).map(|link| &link.state) {
                    Some(State::Login(_)) => self.fail_login(connection, LoginError::Protocol(words)),
                    _ => self.close_link(connection, CloseReason::Protocol(words), None),
                }
            }
        }
        self.drain(now);
    }

    fn handle_login(&mut self, connection: ConnectionKey, pdu: &TargetPdu) -> Result<(), Broken> {
        let TargetPdu::LoginResponse(response) = pdu else {
            return Err(Broken("a PDU other than a login response during the login".into()));
        };
        let (links, challenges) = (&mut self.links, &mut self.challenges);
        let Some(link) = links.iter_mut().find(|link| link.key == connection) else { return Ok(()) };
        let State::Login(login) = &mut link.state else { return Ok(()) };
        link.exp_stat_sn = response.stat_sn.next();
        login.handle_response(response, challenges);
        let Some(outcome) = login.outcome().cloned() else {
            link.send_login();
            return Ok(());
        };
        match outcome {
            LoginOutcome::Failed(failure) => {
                let error = match failure.fault {
                    LoginFault::Answered(status) => LoginError::Refused { status },
                    LoginFault::TargetNotAuthenticated => LoginError::TargetNotAuthenticated,
                    fault => LoginError::Protocol(fault.to_string()),
                };
                self.fail_login(connection, error);
            }
            LoginOutcome::Redirected { addresses, permanent } => {
                self.fail_login(connection, LoginError::Moved { addresses, permanently: permanent });
            }
            LoginOutcome::Done { parameters, tsih, .. } => {
                link.enter(parameters.connection);
                self.tsih = tsih;
                self.parameters.get_or_insert(parameters);
                self.learn_window(response.exp_cmd_sn, response.max_cmd_sn);
                self.events.push_back(Event::LoggedIn { connection });
                self.send_pending();
            }
        }
        Ok(())
    }

    fn handle_pdu(&mut self, connection: ConnectionKey, now: Instant, pdu: TargetPdu) -> Result<(), Broken> {
        match pdu {
            TargetPdu::ScsiResponse(pdu) => self.scsi_response(connection, pdu),
            TargetPdu::DataIn(pdu) => self.data_in(connection, pdu),
            TargetPdu::R2t(pdu) => self.r2t(connection, &pdu),
            TargetPdu::NopIn(pdu) => self.nop_in(connection, pdu),
            TargetPdu::TextResponse(pdu) => self.text_response(connection, &pdu),
            TargetPdu::TaskManagementResponse(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                self.task_managed(&pdu);
                Ok(())
            }
            TargetPdu::LogoutResponse(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                let Some(entry) = self.entries.remove(pdu.initiator_task_tag) else { return Ok(()) };
                let after = Duration::from_secs(pdu.time2wait.into());
                self.logged_out(entry, pdu.response, after);
                Ok(())
            }
            TargetPdu::AsyncMessage(pdu) => {
                self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
                self.async_message(connection, now, pdu);
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
        if pdu.data_sn != DataSn(task.next_data_sn) {
            return Err(Broken(format!("{:?} where {} was due", pdu.data_sn, task.next_data_sn)));
        }
        task.next_data_sn = task.next_data_sn.wrapping_add(1);
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
        let Kind::Command(task) = &mut entry.kind else { return Err(Broken("an R2T for no command".into())) };
        if pdu.r2t_sn != R2tSn(task.next_data_sn) {
            return Err(Broken(format!("{:?} where {} was due", pdu.r2t_sn, task.next_data_sn)));
        }
        task.next_data_sn = task.next_data_sn.wrapping_add(1);
        let end = u64::from(pdu.buffer_offset) + u64::from(pdu.desired_data_transfer_length);
        let length = task.data_out.len() as u64;
        task.solicited += u64::from(pdu.desired_data_transfer_length);
        if pdu.desired_data_transfer_length == 0 || end > length || task.solicited > length {
            return Err(Broken(format!("an R2T up to {end}, {} in all, of {length} bytes", task.solicited)));
        }
        if pdu.target_transfer_tag.is_reserved() {
            return Err(Broken("an R2T without a tag".into()));
        }
        let run = Run {
            task: pdu.initiator_task_tag,
            transfer: pdu.target_transfer_tag,
            next: pdu.buffer_offset,
            end: end as u32,
            data_sn: DataSn::default(),
        };
        self.push_urgent(connection, Item::DataOut(run))
    }

    fn nop_in(&mut self, connection: ConnectionKey, pdu: NopIn) -> Result<(), Broken> {
        if pdu.initiator_task_tag.is_reserved() {
            // Its StatSN is the next one and does not advance (RFC 7143 11.19.3).
            self.learn_window(pdu.exp_cmd_sn, pdu.max_cmd_sn);
        } else {
            self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
            if let Some(entry) = self.entries.remove(pdu.initiator_task_tag)
                && let Kind::Ping { owned: true, .. } = entry.kind
            {
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
            self.push_urgent(connection, Item::Pdu(Box::new(answer.into())))?;
        }
        Ok(())
    }

    fn text_response(&mut self, connection: ConnectionKey, pdu: &TextResponse) -> Result<(), Broken> {
        self.status(connection, pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn)?;
        let Some(entry) = self.entries.by_tag(pdu.initiator_task_tag) else { return Ok(()) };
        let received = match &mut entry.kind {
            Kind::Targets { received, .. } => received,
            Kind::Negotiate => return self.negotiated(connection, pdu),
            _ => return Err(Broken("a text response to no text request".into())),
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
            return self.push_urgent(connection, Item::Pdu(Box::new(ask.into())));
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

    fn task_managed(&mut self, pdu: &TaskManagementResponse) {
        use TaskManagementFunction::*;
        let Some(entry) = self.entries.remove(pdu.initiator_task_tag) else { return };
        let Kind::Management { function, referenced } = entry.kind else { return };
        let is_done = pdu.response == TaskManagementResponseCode::FUNCTION_COMPLETE;
        // A task that the target does not know is over as well: its number counts as come (RFC 7143 11.6.1).
        let is_gone = is_done || pdu.response == TaskManagementResponseCode::TASK_DOES_NOT_EXIST;
        let number = entry.cmd_sn;
        let tags = self.entries.tags(|task| {
            // What was sent after the request is not touched by it.
            let is_older = task.cmd_sn.zip(number).is_some_and(|(task, request)| task.is_before(request));
            matches!(task.kind, Kind::Command(_))
                && match function {
                    AbortTask => is_gone && Some(task.key) == referenced && task.cmd_sn.is_some(),
                    AbortTaskSet | ClearTaskSet | LogicalUnitReset => is_done && is_older && task.lun == entry.lun,
                    TargetWarmReset | TargetColdReset | ItNexusReset => is_done && is_older,
                    _ => false,
                }
        });
        for tag in tags {
            if let Some(task) = self.entries.remove(tag) {
                self.lose(task);
            }
        }
        let response = Some((pdu.response, pdu.additional_information));
        self.events.push_back(Event::TaskManaged { request: entry.key, response });
    }

    fn negotiated(&mut self, connection: ConnectionKey, pdu: &TextResponse) -> Result<(), Broken> {
        self.entries.remove(pdu.initiator_task_tag);
        let (preferences, session) = (self.config.login.preferences, self.parameters.unwrap_or_default().session);
        let Some(link) = self.link_mut(connection) else { return Ok(()) };
        let mut parameters = Parameters { session, connection: link.parameters };
        let text = pdu.data.to_contiguous();
        handle_full_feature_text(Role::Initiator, SessionType::Normal, preferences, &mut parameters, &text)?;
        link.parameters = parameters.connection;
        Ok(())
    }

    fn async_message(&mut self, connection: ConnectionKey, now: Instant, pdu: AsyncMessage) {
        let seconds = |seconds: u16| Duration::from_secs(seconds.into());
        let after = Some(seconds(pdu.parameter2));
        match pdu.event {
            AsyncEvent::LOGOUT_REQUESTED if self.config.obey_logout_requests => {
                if let Some(link) = self.link_mut(connection).filter(|link| link.takes_requests()) {
                    // Half of the time for what is under way, half for the logout.
                    link.drain_deadline = Some(now + seconds(pdu.parameter3) / 2);
                    self.send_elsewhere(connection);
                }
            }
            AsyncEvent::CONNECTION_DROPPED => {
                let dropped = self.links.iter().find(|link| link.cid == Cid(pdu.parameter1)).map(|link| link.key);
                if let Some(dropped) = dropped {
                    self.close_link(dropped, CloseReason::Dropped, after);
                }
            }
            AsyncEvent::SESSION_DROPPED => self.close_all(&CloseReason::Dropped, after),
            AsyncEvent::NEGOTIATION_REQUESTED => {
                // At the limit of outstanding requests it has to do without.
                let _ = self.request(Lun::ZERO, false, Kind::Negotiate, Some(connection));
            }
            AsyncEvent::TASKS_TERMINATED => {
                let lun = pdu.lun;
                let tags = self
                    .entries
                    .tags(|task| matches!(task.kind, Kind::Command(_)) && task.cmd_sn.is_some() && task.lun == lun);
                for tag in tags {
                    if let Some(task) = self.entries.remove(tag) {
                        self.lose(task);
                    }
                }
                // The acknowledgement that the target waits for.
                let ping = Kind::Ping { data: DataSegment::new(), owned: false };
                let _ = self.request(Lun::ZERO, true, ping, Some(connection));
            }
            _ => {}
        }
        self.events.push_back(Event::Async(Box::new(pdu)));
    }

    /// Queues an answer. A target that makes us queue without end is cut off.
    fn push_urgent(&mut self, connection: ConnectionKey, item: Item) -> Result<(), Broken> {
        let limit = self.config.max_outstanding + MAX_ANSWERS;
        let Some(link) = self.link_mut(connection) else { return Ok(()) };
        if link.urgent.len() >= limit {
            return Err(Broken(format!("more than {limit} answers asked for at once")));
        }
        link.urgent.push_back(item);
        Ok(())
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

//! Who is logged in: PLOGI, PRLI, and their ends.

use scsi_core::TransportId;
use scsi_core::mutation::{Mutation, is_active};
use std::sync::Arc;
use std::time::Instant;
use stmf::SessionRequest;
use stmf::provider::hba::{ExchangeId, HbaRequest, PortId, RemotePort};

use super::{Asked, Port, PortEvent, Remote};
use crate::wire::{ElsCommand, FcpService, LoginParameters, LsExplanation, LsReason, PrliPage};

/// The type in PRLI pages.
const FCP: u8 = 0x08;

impl Port {
    pub(super) fn plogi(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        from: PortId,
        to: PortId,
        parameters: &LoginParameters,
    ) {
        self.adopt_address(now, to);
        if self.address == PortId::NONE || to != self.address || from == PortId::NONE || from == self.address {
            return self.reject(now, exchange, LsReason::UNABLE, LsExplanation::NONE);
        }
        if !parameters.class3 {
            return self.reject(now, exchange, LsReason::LOGICAL_ERROR, LsExplanation::PARAMETERS);
        }
        if parameters.port_name == self.hba.port_name() {
            return self.reject(now, exchange, LsReason::LOGICAL_ERROR, LsExplanation::NONE);
        }
        if is_active(Mutation::FcSessionKept) && self.remotes.contains_key(&from) {
            return self.answer(now, exchange, self.parameters().encode(ElsCommand::LS_ACC.0));
        }
        // A login anew ends what there was; so does one of the same port at another address.
        self.log_out_keeping(now, from, Some(exchange), "it logged in anew");
        let elsewhere = self.remotes.values().find(|remote| remote.port.port_name == parameters.port_name);
        if let Some(id) = elsewhere.map(|remote| remote.port.port_id) {
            self.log_out(now, id, "it is at another address now");
        }
        if self.remotes.len() >= self.max_logins {
            return self.reject(now, exchange, LsReason::UNABLE, LsExplanation::NO_RESOURCES);
        }
        self.answer(now, exchange, self.parameters().encode(ElsCommand::LS_ACC.0));
        self.admit(now, from, parameters);
    }

    fn admit(&mut self, now: Instant, id: PortId, parameters: &LoginParameters) {
        let port = RemotePort {
            port_id: id,
            port_name: parameters.port_name,
            node_name: parameters.node_name,
            max_frame_payload: parameters.max_frame_payload,
            service_parameters: 0,
        };
        self.lower(now, HbaRequest::Register(port));
        self.remotes.insert(id, Remote::new(port, false));
        self.ask_symbolic_name(now, id);
    }

    /// The answer to our PLOGI to the other of two ports.
    pub(super) fn plogi_answered(&mut self, now: Instant, id: PortId, payload: Option<&[u8]>) {
        let accepted = payload.filter(|payload| payload.first() == Some(&ElsCommand::LS_ACC.0));
        match accepted.map(LoginParameters::decode) {
            // It may have logged in to us meanwhile, and more.
            Some(Ok(_)) if self.remotes.contains_key(&id) => {}
            Some(Ok(parameters)) => self.admit(now, id, &parameters),
            // The other side may still log in.
            _ => {}
        }
    }

    /// The name server has told what a port calls itself, or nothing.
    pub(super) fn named(&mut self, now: Instant, id: PortId, exchange: ExchangeId, name: Option<String>) {
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.asking == Some(exchange)) else { return };
        remote.asking = None;
        remote.symbolic_name = name;
        if let Some((exchange, page)) = remote.waiting.take() {
            self.prli(now, exchange, id, page);
        }
    }

    pub(super) fn prli(&mut self, now: Instant, exchange: ExchangeId, from: PortId, page: PrliPage) {
        let Some(remote) = self.remotes.get_mut(&from) else { return };
        if remote.asking.is_some() {
            // One at a time: who asks again while it waits is told to wait.
            if remote.waiting.is_some() {
                return self.reject(now, exchange, LsReason::LOGICAL_BUSY, LsExplanation::NONE);
            }
            remote.waiting = Some((exchange, page));
            return;
        }
        if page.kind != FCP {
            return self.reject(now, exchange, LsReason::UNABLE, LsExplanation::NOT_SUPPORTED);
        }
        let kept = is_active(Mutation::FcSessionKept)
            && self.remotes.get(&from).is_some_and(|remote| remote.session.is_some());
        if !kept {
            self.end_session(now, from, "it logged in anew");
        }
        let theirs = FcpService(page.parameters);
        let mut flags = PrliPage::EXECUTED;
        if page.flags & PrliPage::IMAGE_PAIR != 0 && theirs.has(FcpService::INITIATOR) {
            if !kept && let Err(reason) = self.open_session(from) {
                let port_name = self.remotes.get(&from).map(|remote| remote.port.port_name).unwrap_or_default();
                self.tell(PortEvent::Refused { port_name, reason });
                return self.reject(now, exchange, LsReason::UNABLE, LsExplanation::NONE);
            }
            flags |= PrliPage::IMAGE_PAIR;
        }
        let mut ours = FcpService::TARGET.and(FcpService::READ_XFER_RDY_DISABLED);
        for both in [FcpService::CONFIRMED_COMPLETION, FcpService::RETRY, FcpService::REC_SUPPORTED] {
            // Where the adapter does exchanges, recovery is its own.
            if theirs.has(both) && (self.engine.is_some() || both == FcpService::CONFIRMED_COMPLETION) {
                ours = ours.and(both);
            }
        }
        let Some(remote) = self.remotes.get_mut(&from) else { return };
        remote.confirm = ours.has(FcpService::CONFIRMED_COMPLETION);
        remote.port.service_parameters = page.parameters & (ours.0 | FcpService::INITIATOR.0 | FcpService::TARGET.0);
        let port = remote.port;
        self.lower(now, HbaRequest::Register(port));
        let accept = PrliPage { kind: FCP, flags, words: [0; 2], parameters: ours.0 };
        self.answer(now, exchange, accept.encode(ElsCommand::LS_ACC.0));
    }

    /// Makes the framework's session of a remote port.
    fn open_session(&mut self, id: PortId) -> Result<(), String> {
        let Some(remote) = self.remotes.get_mut(&id) else { return Err("not logged in".into()) };
        let initiator = remote.port.port_name.device_name();
        self.stmf.may_log_in(&initiator, &self.target).map_err(|refusal| refusal.to_string())?;
        let mut transport_id = Vec::new();
        TransportId::FibreChannel(remote.port.port_name.0).encode(&mut transport_id);
        let session = self
            .stmf
            .open_session(SessionRequest {
                initiator,
                initiator_alias: remote.symbolic_name.clone(),
                transport_id,
                target: self.target.clone(),
                target_port_name: self.target.clone(),
                mailbox: Arc::clone(&self.inbox) as Arc<dyn stmf::provider::Mailbox>,
                logged_in: (self.config.unix_time)(),
            })
            .map_err(|error| error.to_string())?;
        self.nexuses.insert(session.id(), id);
        self.session_counters.insert(session.id(), self.traffic.open(session.id(), &self.target));
        remote.session = Some(session);
        let port_name = remote.port.port_name;
        self.tell(PortEvent::LoggedIn(port_name));
        Ok(())
    }

    pub(super) fn prlo(&mut self, now: Instant, exchange: ExchangeId, from: PortId, page: PrliPage) {
        let flags = if page.kind == FCP { PrliPage::EXECUTED } else { PrliPage::NO_IMAGE };
        if page.kind == FCP {
            self.end_session(now, from, "its process logged out");
        }
        let accept = PrliPage { kind: page.kind, flags, words: [0; 2], parameters: 0 };
        self.answer(now, exchange, accept.encode(ElsCommand::LS_ACC.0));
    }

    pub(super) fn tprlo(&mut self, now: Instant, exchange: ExchangeId, page: PrliPage) {
        let ids: Vec<PortId> = if page.flags & PrliPage::GLOBAL != 0 {
            self.remotes.keys().copied().collect()
        } else if page.flags & PrliPage::THIRD_PARTY != 0 {
            vec![PortId(page.parameters & 0xff_ffff)]
        } else {
            return self.reject(now, exchange, LsReason::LOGICAL_ERROR, LsExplanation::PARAMETERS);
        };
        let flags = if page.kind == FCP { PrliPage::EXECUTED } else { PrliPage::NO_IMAGE };
        if page.kind == FCP {
            ids.into_iter().for_each(|id| self.end_session(now, id, "a third party logged it out"));
        }
        let accept = PrliPage { kind: page.kind, flags, words: [0; 2], parameters: 0 };
        self.answer(now, exchange, accept.encode(ElsCommand::LS_ACC.0));
    }

    /// Firmware that does logins has taken one.
    pub(super) fn logged_in_by_adapter(&mut self, now: Instant, port: RemotePort) {
        self.log_out(now, port.port_id, "it logged in anew");
        if self.remotes.len() >= self.max_logins {
            return self.lower(now, HbaRequest::Deregister(port.port_id));
        }
        let confirm = FcpService(port.service_parameters).has(FcpService::CONFIRMED_COMPLETION);
        self.remotes.insert(port.port_id, Remote::new(port, confirm));
        if let Err(reason) = self.open_session(port.port_id) {
            self.tell(PortEvent::Refused { port_name: port.port_name, reason });
            self.say_logo(now, port.port_id, Asked::Farewell);
            self.log_out(now, port.port_id, "it may not log in");
        }
    }

    /// A remote port is gone, with everything of it.
    pub(super) fn log_out(&mut self, now: Instant, id: PortId, reason: &'static str) {
        self.log_out_keeping(now, id, None, reason);
    }

    /// As [`log_out`](Self::log_out); `asking` is the exchange of the request that is the reason and will be answered.
    fn log_out_keeping(&mut self, now: Instant, id: PortId, asking: Option<ExchangeId>, reason: &'static str) {
        self.end_session(now, id, reason);
        let Some(remote) = self.remotes.remove(&id) else { return };
        if let Some((exchange, _)) = remote.waiting {
            self.reject(now, exchange, LsReason::UNABLE, LsExplanation::LOGIN_REQUIRED);
        }
        // Tables are freed; the exchange of a login anew is no part of the old one.
        if asking.is_none() {
            self.lower(now, HbaRequest::Deregister(id));
        }
    }

    /// Ends the session of a remote port: its commands end without a word.
    pub(super) fn end_session(&mut self, now: Instant, id: PortId, reason: &'static str) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let Some(session) = remote.session.take() else { return };
        let port_name = remote.port.port_name;
        let nexus = session.id();
        self.nexuses.remove(&nexus);
        if !is_active(Mutation::FcTasksKept) {
            self.drop_tasks(now, nexus);
            self.bursts.forget(id);
        }
        self.session_counters.remove(&nexus);
        self.traffic.close(nexus);
        session.close();
        self.tell(PortEvent::LoggedOut { port_name, reason });
    }
}

//! A connection from its first byte until its login is decided.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use thiserror::Error;

use super::link::{Link, LinkState};
use super::{AbortCause, CloseReason, ConnectionKey, Session, SessionConfig};
use crate::auth::chap::Proof;
use crate::frame::{FrameError, Framer, Limits, RecvHint};
use crate::login::{
    LoginConfig, LoginEvent, LoginFailure, LoginIdentity, LoginPolicy, Parameters, Preferences, TargetLogin,
};
use crate::pdu::{Encoder, InitiatorPdu, LoginResponse, LoginStatus, Tsih};
use crate::sn::StatSn;

/// Limits and wishes of every connection before it belongs to a session.
///
/// Memory of a connection until then: one chunk as received, [`LoginConfig::max_text_bytes`], and one response.
#[derive(Clone, Debug)]
pub struct ConnectionConfig {
    /// What the login negotiates, and its limits.
    pub login: Arc<LoginConfig>,
    /// How long a login may take, from the first byte to the last response.
    pub login_timeout: Duration,
}

impl Default for ConnectionConfig {
    fn default() -> Self {
        Self { login: Arc::new(LoginConfig::default()), login_timeout: Duration::from_secs(20) }
    }
}

/// What a connection tells its owner, and asks.
#[derive(Debug)]
pub enum ConnectionEvent {
    /// Who wants in, and where. Answer: [`Connection::accept`], [`Connection::refuse`] or [`Connection::redirect`].
    /// Before that, the connection may be moved to where its session lives.
    Identify(LoginIdentity),
    /// Is this proof right? Answer: [`Connection::verified`].
    Verify(Proof),
    /// The login has succeeded but for its last response. Answer: [`Session::establish`], [`Session::join`] or
    /// [`Connection::refuse`].
    Negotiated(Parameters),
    /// The login has failed; for the log.
    Failed(LoginFailure),
    /// The connection ends: send what [`Connection::poll_transmit`] still gives, close the socket and drop this.
    Close(CloseReason),
}

/// A connection whose login is under way.
///
/// The run loop is that of a session: input, [`poll_event`](Self::poll_event) until `None`,
/// [`poll_transmit`](Self::poll_transmit) until 0, [`poll_timeout`](Self::poll_timeout).
#[derive(Debug)]
pub struct Connection {
    login: TargetLogin,
    preferences: Preferences,
    framer: Framer,
    encoder: Encoder,
    responses: VecDeque<LoginResponse>,
    /// StatSN of the next response; the initiator chooses the first.
    stat_sn: Option<StatSn>,
    deadline: Instant,
    events: VecDeque<ConnectionEvent>,
    /// All but the last response is agreed.
    is_negotiated: bool,
    is_closing: bool,
}

/// Why a connection cannot enter a session. The connection itself comes back and has been, or is to be, refused.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum EnterError {
    /// The login has not got as far as [`ConnectionEvent::Negotiated`]. The caller's fault; nothing has changed.
    #[error("the login is not negotiated yet")]
    NotNegotiated(Box<Connection>),
    /// The session cannot take it; the login was refused with this status.
    #[error("refused: {status}")]
    Refused {
        /// The connection, with its refusal to send.
        connection: Box<Connection>,
        /// The status.
        status: LoginStatus,
    },
}

impl Connection {
    /// A connection on which nothing has come yet.
    pub fn new(config: ConnectionConfig, now: Instant) -> Self {
        Self {
            login: TargetLogin::new(config.login.clone()),
            preferences: config.login.preferences,
            // Nothing of a login has Additional Header Segments.
            framer: Framer::new(Limits { max_ahs_length: 0, ..Limits::default() }),
            encoder: Encoder::new(),
            responses: VecDeque::new(),
            stat_sn: None,
            deadline: now + config.login_timeout,
            events: VecDeque::new(),
            is_negotiated: false,
            is_closing: false,
        }
    }

    /// Takes bytes as received, in any split. Never fails: what is wrong with them ends the login.
    pub fn handle_received(&mut self, bytes: Bytes) {
        if !self.is_closing {
            self.framer.handle_received(bytes);
            self.pump();
        }
    }

    /// How much to receive; nothing while the owner's answer is due or a response is to be sent first.
    pub fn recv_hint(&self) -> RecvHint {
        if self.is_closing || self.login.is_waiting() || !self.responses.is_empty() {
            return RecvHint::default();
        }
        self.framer.recv_hint()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<ConnectionEvent> {
        self.events.pop_front()
    }

    /// Appends what is to be sent to `out`; returns how many bytes that are. 0: nothing now.
    pub fn poll_transmit(&mut self, out: &mut Vec<Bytes>) -> usize {
        let mut sent = 0;
        while let Some(mut response) = self.responses.pop_front() {
            response.stat_sn = self.stat_sn.get_or_insert_default().take();
            if let Some(identity) = self.login.identity() {
                // A login is immediate: it uses no number. The window of the session comes with the last response.
                (response.exp_cmd_sn, response.max_cmd_sn) = (identity.cmd_sn, identity.cmd_sn);
            }
            sent += self.encoder.encode(&response, out).unwrap_or(0);
        }
        self.encoder.finish(out);
        self.pump();
        sent
    }

    /// When [`handle_timeout`](Self::handle_timeout) is to be called at the latest.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (!self.is_closing).then_some(self.deadline)
    }

    /// Ends the login if it has taken too long. Calling it early does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        if now >= self.deadline {
            self.close(CloseReason::LoginTimeout);
        }
    }

    /// The peer closed the socket, or the network did.
    pub fn handle_closed(&mut self) {
        self.responses.clear();
        self.close(CloseReason::Lost);
    }

    /// Who wants in; known from [`ConnectionEvent::Identify`] on.
    pub fn identity(&self) -> Option<&LoginIdentity> {
        self.login.identity()
    }

    /// The CHAP name of a proof that was right.
    pub fn authenticated_as(&self) -> Option<&str> {
        self.login.authenticated_as()
    }

    /// Answers [`ConnectionEvent::Identify`]: the login may go on.
    pub fn accept(&mut self, policy: LoginPolicy) {
        self.preferences = policy.preferences.unwrap_or(self.preferences);
        self.login.accept(policy);
        self.after_login();
    }

    /// Refuses the login; [`ConnectionEvent::Close`] follows.
    pub fn refuse(&mut self, status: LoginStatus) {
        self.login.refuse(status);
        self.after_login();
    }

    /// Sends the initiator elsewhere: each address as `host:port` or `host:port,tag`, an IPv6 host in brackets.
    pub fn redirect(&mut self, addresses: &[String], permanent: bool) {
        self.login.redirect(addresses, permanent);
        self.after_login();
    }

    /// Answers [`ConnectionEvent::Verify`].
    pub fn verified(&mut self, is_right: bool) {
        self.login.verified(is_right);
        self.after_login();
    }

    fn pump(&mut self) {
        while !self.is_closing && !self.login.is_waiting() && !self.login.is_done() && self.responses.is_empty() {
            match self.framer.poll_frame() {
                Ok(None) => return,
                Ok(Some(frame)) => {
                    let tag = frame.bhs.initiator_task_tag();
                    match InitiatorPdu::decode(frame) {
                        Ok(InitiatorPdu::LoginRequest(request)) => {
                            self.stat_sn.get_or_insert(request.exp_stat_sn);
                            self.login.handle_request(request);
                        }
                        Ok(_) | Err(_) => self.login.handle_other_pdu(tag),
                    }
                    self.after_login();
                }
                Err(error) => return self.lose_stream(error),
            }
        }
    }

    fn lose_stream(&mut self, error: FrameError) {
        if let Some(bhs) = error.bhs()
            && self.login.identity().is_none()
        {
            self.login.handle_other_pdu(bhs.initiator_task_tag());
        } else {
            self.login.refuse(LoginStatus::INITIATOR_ERROR);
        }
        self.take_from_login();
        self.close(CloseReason::Stream(error));
    }

    fn after_login(&mut self) {
        self.take_from_login();
        if self.login.is_failed() {
            self.close(CloseReason::LoginRefused);
        } else {
            self.pump();
        }
    }

    fn take_from_login(&mut self) {
        while let Some(event) = self.login.poll_event() {
            self.events.push_back(match event {
                LoginEvent::Identify(identity) => ConnectionEvent::Identify(identity),
                LoginEvent::Verify(proof) => ConnectionEvent::Verify(proof),
                LoginEvent::Negotiated(parameters) => {
                    self.is_negotiated = true;
                    ConnectionEvent::Negotiated(parameters)
                }
                LoginEvent::Failed(failure) => ConnectionEvent::Failed(failure),
            });
        }
        while let Some(response) = self.login.poll_response() {
            self.responses.push_back(response);
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if !std::mem::replace(&mut self.is_closing, true) {
            self.events.push_back(ConnectionEvent::Close(reason));
        }
    }

    /// Completes the login; gives its last response. `None`: it is not negotiated yet, or has failed.
    fn complete(&mut self, tsih: Tsih) -> Option<LoginResponse> {
        if self.is_closing {
            return None;
        }
        self.login.complete(tsih);
        if !self.login.is_done() {
            return None;
        }
        self.login.poll_response()
    }

    fn is_negotiated(&self) -> bool {
        self.is_negotiated && !self.is_closing && self.login.is_waiting()
    }

    fn into_link(mut self, key: ConnectionKey, now: Instant) -> Link {
        let parameters = self.login.parameters().connection;
        self.framer.set_digests(parameters.digests);
        self.framer.set_limits(Limits {
            max_data_segment_length: parameters.max_recv_data_segment_length,
            ..Limits::default()
        });
        let stat_sn = self.stat_sn.unwrap_or_default();
        Link {
            key,
            cid: self.login.identity().map_or_else(Default::default, |identity| identity.cid),
            framer: self.framer,
            encoder: self.encoder,
            parameters,
            stat_sn,
            acknowledged: stat_sn,
            urgent: VecDeque::new(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            unsent: 0,
            state: LinkState::Entering,
            last_received: now,
            last_sent: now,
            ping: None,
            text: None,
            is_paused: false,
            is_stalled: false,
            logout_deadline: None,
        }
    }
}

impl Session {
    /// Makes a new session out of a connection whose login is negotiated, and sends the last response of that login.
    ///
    /// `tsih` is any number but 0 that no other session has. When the initiator port already has a session with this
    /// target (same names, ISID and portal group), the owner first ends that one with
    /// [`terminate`](Self::terminate): session reinstatement (RFC 7143 6.3.5).
    ///
    /// # Errors
    /// [`EnterError::NotNegotiated`].
    pub fn establish(
        mut connection: Connection,
        config: SessionConfig,
        tsih: Tsih,
        now: Instant,
    ) -> Result<(Self, ConnectionKey), EnterError> {
        let (Some(identity), true) = (connection.identity().cloned(), connection.is_negotiated()) else {
            return Err(EnterError::NotNegotiated(Box::new(connection)));
        };
        let Some(response) = connection.complete(tsih) else {
            return Err(EnterError::NotNegotiated(Box::new(connection)));
        };
        let rules = connection.login.parameters().session;
        let mut session = Self::empty(config, tsih, identity, connection.preferences, rules, now);
        let key = session.enter(connection, now);
        session.respond_login(key, response);
        Ok((session, key))
    }

    /// Takes a further connection into the session, or one that replaces the connection of the same CID (connection
    /// reinstatement, RFC 7143 6.3.4): then [`Event::Close`](super::Event::Close) tells of the old one, its tasks are
    /// given up, and the last Login Response waits for them.
    ///
    /// # Errors
    /// [`EnterError::NotNegotiated`]; [`EnterError::Refused`] when the session is over or another initiator's, or has
    /// as many connections as were negotiated.
    pub fn join(&mut self, mut connection: Connection, now: Instant) -> Result<ConnectionKey, EnterError> {
        self.now = now;
        let (Some(identity), true) = (connection.identity().cloned(), connection.is_negotiated()) else {
            return Err(EnterError::NotNegotiated(Box::new(connection)));
        };
        let old = self.links.by_cid(identity.cid);
        let is_ours = identity.initiator_name == self.identity.initiator_name
            && identity.isid == self.identity.isid
            && identity.session_type == self.identity.session_type
            && !self.is_discovery();
        let refusal = if self.is_ended || !is_ours {
            Some(LoginStatus::SESSION_DOES_NOT_EXIST)
        } else if old.is_none() && self.links.open_count() >= usize::from(self.rules.max_connections)
            || self.links.iter().count() >= usize::from(self.rules.max_connections) + self.config.max_closing
        {
            Some(LoginStatus::TOO_MANY_CONNECTIONS)
        } else {
            None
        };
        if let Some(status) = refusal {
            connection.refuse(status);
            return Err(EnterError::Refused { connection: Box::new(connection), status });
        }
        let Some(response) = connection.complete(self.tsih) else {
            return Err(EnterError::NotNegotiated(Box::new(connection)));
        };
        let key = match old {
            None => {
                let key = self.enter(connection, now);
                self.respond_login(key, response);
                key
            }
            Some(old) => {
                self.end_tasks(Some(old), AbortCause::ConnectionReplaced);
                self.announce_close(old, CloseReason::Replaced);
                let key = self.enter(connection, now);
                self.log_in_after(old, key, response);
                key
            }
        };
        Ok(key)
    }

    fn enter(&mut self, connection: Connection, now: Instant) -> ConnectionKey {
        self.add_link(|key| connection.into_link(key, now))
    }
}

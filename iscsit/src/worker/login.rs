//! Logins: who may in, how they prove themselves, which session they belong to.

use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::auth::chap::{self, Algorithm, Credentials};
use iscsi_proto::login::{AuthPolicy, ChapPolicy, ChapVerifier, LoginIdentity, LoginPolicy, SessionType};
use iscsi_proto::pdu::LoginStatus;
use iscsi_proto::target::{CloseReason, Connection, ConnectionEvent, ConnectionKey, EndReason, EnterError, Session};
use scsi_core::TransportId;
use stmf::{LoginRefusal, SessionRequest};

use super::session::SessionEntry;
use super::timers::Timer;
use super::{ConnectionId, Parcel, SessionKey, Stage, Worker, WorkerEvent};
use crate::config::{AuthMethod, Config, Redirection, Secret};
use crate::inbox::{ProofAnswer, SessionMailbox};
use crate::notice::Notice;
use crate::provider::{LoginTarget, Provider};
use crate::session_map::{SessionName, WorkerId};

/// A connection that has not finished its login.
pub(super) struct LoginStage {
    pub(super) connection: Connection,
    /// What it asked for, if that exists here.
    target: Option<LoginTarget>,
    /// The session's name, claimed for this worker; `None` for discovery and before.
    claim: Option<SessionName>,
    /// How it is to prove itself, for the log.
    authentication: &'static str,
    /// Why we refused, for the log.
    refusal: Option<String>,
    /// How it ended was told.
    is_told: bool,
    pub(super) scheduled: Option<Instant>,
}

impl LoginStage {
    pub(super) fn new(connection: Connection) -> Self {
        Self {
            connection,
            target: None,
            claim: None,
            authentication: "none",
            refusal: None,
            is_told: false,
            scheduled: None,
        }
    }
}

/// The session and the connection's key in it; or the connection, the status it is refused with, and why.
type JoinResult = Result<(SessionKey, ConnectionKey), (Option<Box<Connection>>, LoginStatus, String)>;

/// A login that is refused: the status for the initiator, the reason for the log.
struct Refusal(LoginStatus, String);

/// A login that may not go on here.
enum Denial {
    Refused(Refusal),
    /// Its target is to be reached elsewhere.
    Redirected(Redirection),
}

impl From<Refusal> for Denial {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl Worker {
    /// Drains the events of a login and tells the driver what is to be sent.
    pub(super) fn drive_login(&mut self, now: Instant, id: ConnectionId) {
        while let Some(event) = self.login_stage(id).and_then(|login| login.connection.poll_event()) {
            match event {
                ConnectionEvent::Identify(_) => {
                    if !self.place_login(id) {
                        return;
                    }
                    self.decide_login(id);
                }
                // Proofs by the secrets of the configuration are verified in place; this one is for somebody outside,
                // who answers in a letter.
                ConnectionEvent::Verify(proof) => {
                    let answer = ProofAnswer::new(Arc::clone(&self.inbox), id);
                    self.provider.check_proof(proof, answer);
                }
                ConnectionEvent::Negotiated(_) => {
                    self.finish_login(now, id);
                    self.settle(now);
                    return;
                }
                ConnectionEvent::Failed(failure) => {
                    self.note_refusal(id, Some(failure.status), failure.fault.to_string());
                }
                ConnectionEvent::Close(reason) => {
                    if !matches!(reason, CloseReason::LoginRefused) {
                        self.note_refusal(id, None, reason.to_string());
                    }
                    self.tell_close(id);
                }
            }
        }
        self.schedule_login(id);
        self.tell_transmit(id);
    }

    /// Goes on with a login that came from another worker, where it had just named itself.
    pub(super) fn resume_login(&mut self, now: Instant, id: ConnectionId) {
        if self.place_login(id) {
            self.decide_login(id);
            self.drive_login(now, id);
        }
    }

    /// Finds what the login is for and where its session lives. `false`: it was handed off.
    fn place_login(&mut self, id: ConnectionId) -> bool {
        let worker = self.id;
        let Some(socket) = self.connections.get_mut(id) else { return false };
        let Stage::Login(login) = &mut socket.stage else { return false };
        let Some(identity) = login.connection.identity() else { return true };
        let Some(target_name) = &identity.target_name else { return true };
        if identity.session_type == SessionType::Discovery {
            return true;
        }
        login.target = self.provider.login_target(target_name.as_str(), socket.local);
        let Some(target) = &login.target else { return true };
        let name = SessionName {
            initiator: identity.initiator_name.as_str().into(),
            isid: identity.isid,
            target: target.target.name.as_str().into(),
            tag: target.tag,
        };
        let home = self.provider.sessions().claim(&name, worker);
        if home == worker {
            login.claim = Some(name);
            return true;
        }
        self.hand_off(id, home);
        false
    }

    fn hand_off(&mut self, id: ConnectionId, to: WorkerId) {
        let Some(socket) = self.connections.remove(id) else { return };
        if let Stage::Login(mut login) = socket.stage {
            login.scheduled = None;
            let parcel = Box::new(Parcel { local: socket.local, peer: socket.peer, login: *login });
            self.events.push_back(WorkerEvent::HandOff { connection: id, to, parcel });
        }
    }

    fn decide_login(&mut self, id: ConnectionId) {
        let Some(socket) = self.connections.get(id) else { return };
        let Stage::Login(login) = &socket.stage else { return };
        let Some(identity) = login.connection.identity() else { return };
        let decision = self.policy(identity, login.target.as_ref());
        let Some(login) = self.login_stage(id) else { return };
        match decision {
            Ok((policy, authentication)) => {
                login.authentication = authentication;
                login.connection.accept(policy);
            }
            Err(Denial::Refused(Refusal(status, reason))) => {
                login.refusal = Some(reason);
                login.connection.refuse(status);
            }
            Err(Denial::Redirected(Redirection { portals, permanent })) => {
                // RFC 7143, 13.8: without a portal group tag here.
                let addresses: Vec<String> = portals.iter().map(ToString::to_string).collect();
                login.refusal = Some(format!("the target is to be reached at {}", addresses.join(", ")));
                login.connection.redirect(&addresses, permanent);
            }
        }
    }

    /// Whether, and how proven, the initiator may go on.
    fn policy(
        &self,
        identity: &LoginIdentity,
        target: Option<&LoginTarget>,
    ) -> Result<(LoginPolicy, &'static str), Denial> {
        if self.shutting_down {
            return Err(Refusal(LoginStatus::SERVICE_UNAVAILABLE, "the server is shutting down".into()).into());
        }
        let config = self.provider.config();
        let initiator = identity.initiator_name.as_str();
        if identity.session_type == SessionType::Discovery {
            let (auth, words) = match config.defaults().auth {
                _ if !config.defaults().discovery_chap => (AuthPolicy::None, "none"),
                Some(AuthMethod::Radius) => self.radius(&config, None)?,
                _ => self.chap(&config, initiator, None)?,
            };
            return Ok((LoginPolicy { auth, ..LoginPolicy::open(None) }, words));
        }
        let Some(LoginTarget { target, tag }) = target else {
            return Err(Refusal(LoginStatus::NOT_FOUND, "there is no such target at this portal".into()).into());
        };
        let admitted = self.provider.admit(&config, initiator, target);
        if let (Ok(()) | Err(LoginRefusal::TargetOffline), Some(redirection)) = (&admitted, &target.redirection) {
            // Who may log in is told where, whether the target is still up here or not.
            return Err(Denial::Redirected(redirection.clone()));
        }
        admitted.map_err(|refusal| {
            let status = match refusal {
                LoginRefusal::NoSuchTarget => LoginStatus::NOT_FOUND,
                LoginRefusal::TargetOffline => LoginStatus::SERVICE_UNAVAILABLE,
                _ => LoginStatus::AUTHORIZATION_FAILURE,
            };
            Refusal(status, refusal.to_string())
        })?;
        let session = if identity.is_leading() {
            None
        } else {
            let entry = self
                .find_session(identity, target.name.as_str(), *tag)
                .and_then(|key| self.sessions.get(key))
                .filter(|entry| entry.protocol.tsih() == identity.tsih && !entry.ended);
            let Some(entry) = entry else {
                let reason = format!("it asked to join session {}, which does not exist", identity.tsih);
                return Err(Refusal(LoginStatus::SESSION_DOES_NOT_EXIST, reason).into());
            };
            Some(*entry.protocol.parameters())
        };
        let (auth, words) = match config.effective_auth(target) {
            AuthMethod::None => (AuthPolicy::None, "none"),
            AuthMethod::Chap => {
                let own = target.chap_secret.as_ref().map(|secret| (target.effective_chap_user(), secret));
                self.chap(&config, initiator, own)?
            }
            AuthMethod::Radius => {
                let own = target.chap_secret.as_ref().map(|secret| (target.effective_chap_user(), secret));
                self.radius(&config, own)?
            }
        };
        let target_alias = target.alias.clone().or_else(|| config.defaults().alias.clone());
        Ok((LoginPolicy { portal_group_tag: Some(*tag), target_alias, auth, session, preferences: None }, words))
    }

    /// CHAP with the secret of the initiator's entry, and `own` for the other direction.
    fn chap(
        &self,
        config: &Config,
        initiator: &str,
        own: Option<(&str, &Secret)>,
    ) -> Result<(AuthPolicy, &'static str), Refusal> {
        let refused = |reason: &str| Refusal(LoginStatus::AUTHENTICATION_FAILURE, reason.into());
        let entry = config
            .initiator(initiator)
            .ok_or_else(|| refused("CHAP is required and the initiator has no entry (itadm create-initiator)"))?;
        let secret = entry.chap_secret.as_ref().ok_or_else(|| {
            refused("CHAP is required and the initiator's entry has no secret (itadm modify-initiator -s)")
        })?;
        let [identifier] = self.provider.random();
        Ok((
            AuthPolicy::Chap(ChapPolicy {
                identifier,
                challenge: self.provider.random::<CHALLENGE_BYTES>().to_vec(),
                minimum: config.defaults().chap_minimum.algorithm(),
                verifier: ChapVerifier::Credentials(credentials(entry.effective_chap_user(), secret)),
                mutual: own.map(|(user, secret)| credentials(user, secret)),
            }),
            "CHAP",
        ))
    }

    /// CHAP that a RADIUS server checks, and `own` for the other direction.
    fn radius(&self, config: &Config, own: Option<(&str, &Secret)>) -> Result<(AuthPolicy, &'static str), Refusal> {
        let refused = |reason: &str| Refusal(LoginStatus::AUTHENTICATION_FAILURE, reason.into());
        let defaults = config.defaults();
        if defaults.radius_servers.is_empty() || defaults.radius_secret.is_none() {
            return Err(refused("no RADIUS server is set up (itadm modify-defaults -r ADDRESS -d)"));
        }
        let minimum = config.defaults().chap_minimum.algorithm();
        if minimum.strength() > Algorithm::MD5.strength() {
            return Err(refused("RADIUS knows CHAP with MD5 only, and that is forbidden here"));
        }
        let [identifier] = self.provider.random();
        Ok((
            AuthPolicy::Chap(ChapPolicy {
                identifier,
                challenge: self.provider.random::<CHALLENGE_BYTES>().to_vec(),
                minimum,
                verifier: ChapVerifier::External,
                mutual: own.map(|(user, secret)| credentials(user, secret)),
            }),
            "CHAP by RADIUS",
        ))
    }

    /// The word of the one who was asked about a proof.
    pub(super) fn proof_judged(&mut self, now: Instant, id: ConnectionId, verdict: &Result<(), String>) {
        let Some(login) = self.login_stage(id) else { return };
        if let Err(reason) = verdict {
            login.refusal = Some(reason.clone());
        }
        login.connection.verified(verdict.is_ok());
        self.drive_login(now, id);
        self.after_connection(id);
    }

    fn find_session(&self, identity: &LoginIdentity, target: &str, tag: u16) -> Option<SessionKey> {
        let name = SessionName {
            initiator: identity.initiator_name.as_str().into(),
            isid: identity.isid,
            target: target.into(),
            tag,
        };
        self.names.get(&name).copied()
    }

    /// Everything is agreed: the connection becomes part of a session, new or old.
    fn finish_login(&mut self, now: Instant, id: ConnectionId) {
        let Some(socket) = self.connections.get_mut(id) else { return };
        let (local, peer) = (socket.local, socket.peer);
        let stage = std::mem::replace(&mut socket.stage, Stage::Over(None));
        let Stage::Login(login) = stage else { return };
        let LoginStage { connection, target, claim, authentication, .. } = *login;
        let Some(identity) = connection.identity().cloned() else { return };

        let joined = match (&claim, identity.is_leading()) {
            (Some(name), false) => self.names.get(name).copied(),
            _ => None,
        };
        let outcome = match joined {
            Some(key) => self.join(now, key, connection),
            None if identity.is_leading() => self.establish(now, &identity, target.as_ref(), claim.clone(), connection),
            None => refuse(connection, LoginStatus::SESSION_DOES_NOT_EXIST, "the session has ended"),
        };
        let target_name = target.as_ref().map(|target| target.target.name.to_string());
        match outcome {
            Ok((key, connection)) => {
                if let (Some(name), true) = (&claim, joined.is_some()) {
                    // The session holds a claim of its own.
                    self.provider.sessions().release(name);
                }
                self.bind(key, connection, id);
                let tsih = self.sessions.get(key).map(|entry| entry.protocol.tsih()).unwrap_or_default();
                self.events.push_back(WorkerEvent::Notice(Notice::LoggedIn {
                    initiator: identity.initiator_name.to_string(),
                    target: target_name,
                    peer,
                    portal: local,
                    tsih,
                    authentication,
                }));
            }
            Err((connection, status, reason)) => {
                if let Some(name) = &claim {
                    self.provider.sessions().release(name);
                }
                if let Some(socket) = self.connections.get_mut(id) {
                    socket.stage = Stage::Over(connection);
                }
                self.events.push_back(WorkerEvent::Notice(Notice::LoginRefused {
                    initiator: Some(identity.initiator_name.to_string()),
                    target: target_name,
                    peer,
                    portal: local,
                    status: Some(status),
                    reason,
                }));
                self.tell_close(id);
            }
        }
    }

    fn join(&mut self, now: Instant, key: SessionKey, connection: Connection) -> JoinResult {
        match self.sessions.get_mut(key) {
            None => refuse(connection, LoginStatus::SESSION_DOES_NOT_EXIST, "the session has ended"),
            Some(entry) => match entry.protocol.join(connection, now) {
                Ok(connection) => Ok((key, connection)),
                Err(error) => Err(refused(error)),
            },
        }
    }

    fn establish(
        &mut self,
        now: Instant,
        identity: &LoginIdentity,
        target: Option<&LoginTarget>,
        claim: Option<SessionName>,
        connection: Connection,
    ) -> JoinResult {
        // Session reinstatement (RFC 7143 6.3.5): the old session of this name ends first.
        if let Some(old) = claim.as_ref().and_then(|name| self.names.get(name)).copied() {
            if let Some(entry) = self.sessions.get_mut(old) {
                entry.protocol.terminate(now, EndReason::Reinstated);
            }
            self.touch(old);
            self.settle(now);
        }
        let Some(tsih) = self.provider.sessions().allocate_tsih() else {
            return refuse(connection, LoginStatus::OUT_OF_RESOURCES, "all 65535 session handles are taken");
        };
        let provider = Arc::clone(&self.provider);
        let inbox = Arc::clone(&self.inbox);
        let (mut key_of_connection, mut failed) = (None, None);
        let made = self.sessions.try_insert_with_key(|key| {
            // The nexus needs the session's key for its mailbox; the protocol's session is last, since it takes the
            // connection for good.
            let mailbox = Arc::new(SessionMailbox { inbox, session: key });
            let nexus = match target {
                Some(target) => {
                    match provider.stmf().open_session(session_request(&provider, identity, target, mailbox)) {
                        Ok(nexus) => Some(nexus),
                        Err(error) => {
                            failed = refuse(connection, LoginStatus::SERVICE_UNAVAILABLE, &error.to_string()).err();
                            return Err(());
                        }
                    }
                }
                None => None,
            };
            match Session::establish(connection, provider.session_config(), tsih, now) {
                Ok((protocol, connection)) => {
                    key_of_connection = Some(connection);
                    Ok(SessionEntry::new(protocol, nexus, claim.clone()))
                }
                Err(error) => {
                    if let Some(nexus) = nexus {
                        nexus.close();
                    }
                    failed = Some(refused(error));
                    Err(())
                }
            }
        });
        match (made, key_of_connection, failed) {
            (Ok(key), Some(connection), _) => {
                if let Some(nexus) = self.sessions.get(key).and_then(SessionEntry::nexus_id) {
                    self.nexuses.insert(nexus, key);
                    if let (Some(entry), Some(target)) = (self.sessions.get_mut(key), target) {
                        let registry = self.provider.traffic_registry();
                        entry.counters = Some(registry.open(nexus, target.target.name.as_str()));
                    }
                }
                if let Some(name) = claim {
                    self.names.insert(name, key);
                }
                Ok((key, connection))
            }
            (_, _, failed) => {
                self.provider.sessions().free_tsih(tsih);
                // One of the two is always set.
                Err(failed
                    .unwrap_or_else(|| (None, LoginStatus::TARGET_ERROR, "the session could not be made".to_owned())))
            }
        }
    }

    /// The connection is gone before its login was done.
    pub(super) fn abandon_login(&mut self, mut login: LoginStage) {
        if let Some(name) = login.claim.take() {
            self.provider.sessions().release(&name);
        }
    }

    pub(super) fn schedule_login(&mut self, id: ConnectionId) {
        if let Some(Stage::Login(login)) = self.connections.get_mut(id).map(|socket| &mut socket.stage) {
            let deadline = login.connection.poll_timeout();
            self.timers.schedule(Timer::Connection(id), &mut login.scheduled, deadline);
        }
    }

    fn login_stage(&mut self, id: ConnectionId) -> Option<&mut LoginStage> {
        match self.connections.get_mut(id).map(|socket| &mut socket.stage) {
            Some(Stage::Login(login)) => Some(login),
            _ => None,
        }
    }

    /// A peer that has named itself hung up before its login was done. One that had proved who it is may have found that the
    /// target's proof is none: it has no status to say so by.
    pub(super) fn note_hang_up(&mut self, id: ConnectionId) {
        let Some(Stage::Login(login)) = self.connections.get(id).map(|socket| &socket.stage) else { return };
        if login.is_told || login.connection.identity().is_none() {
            return;
        }
        let reason = match login.connection.authenticated_as() {
            Some(_) => "the initiator hung up after the proof of who it is; it may have another secret for the target",
            None => "the initiator hung up before its login was done",
        };
        self.note_refusal(id, None, reason.into());
    }

    fn note_refusal(&mut self, id: ConnectionId, status: Option<LoginStatus>, fault: String) {
        let Some(socket) = self.connections.get_mut(id) else { return };
        let (local, peer) = (socket.local, socket.peer);
        let Stage::Login(login) = &mut socket.stage else { return };
        login.is_told = true;
        let identity = login.connection.identity();
        let notice = Notice::LoginRefused {
            initiator: identity.map(|identity| identity.initiator_name.to_string()),
            target: identity.and_then(|identity| identity.target_name.as_ref()).map(ToString::to_string),
            peer,
            portal: local,
            status,
            // Our own reason says more than the status that it became.
            reason: login.refusal.take().unwrap_or(fault),
        };
        self.events.push_back(WorkerEvent::Notice(notice));
    }
}

/// Bytes of our challenges: as many as the longest digest has.
const CHALLENGE_BYTES: usize = 32;

fn credentials(user: &str, secret: &Secret) -> Credentials {
    Credentials { name: user.to_owned(), secret: chap::Secret::new(secret.expose()) }
}

fn refuse(mut connection: Connection, status: LoginStatus, reason: &str) -> JoinResult {
    connection.refuse(status);
    Err((Some(Box::new(connection)), status, reason.to_owned()))
}

fn refused(error: EnterError) -> (Option<Box<Connection>>, LoginStatus, String) {
    match error {
        EnterError::Refused { connection, status } => (Some(connection), status, status.to_string()),
        EnterError::NotNegotiated(mut connection) => {
            connection.refuse(LoginStatus::TARGET_ERROR);
            (Some(connection), LoginStatus::TARGET_ERROR, "the login was not negotiated".to_owned())
        }
        error => (None, LoginStatus::TARGET_ERROR, error.to_string()),
    }
}

fn session_request(
    provider: &Provider,
    identity: &LoginIdentity,
    target: &LoginTarget,
    mailbox: Arc<SessionMailbox>,
) -> SessionRequest {
    let mut transport_id = Vec::new();
    TransportId::iscsi_port(identity.initiator_name.as_str(), identity.isid.0).encode(&mut transport_id);
    SessionRequest {
        initiator: identity.initiator_name.to_string(),
        initiator_alias: identity.initiator_alias.clone(),
        transport_id,
        target: target.target.name.to_string(),
        target_port_name: format!("{},t,0x{:04x}", target.target.name, target.tag),
        mailbox,
        logged_in: provider.unix_time(),
    }
}

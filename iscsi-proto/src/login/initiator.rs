//! The login phase as the initiator sees it (RFC 7143 6.3, 11.12, 11.13).

use std::fmt;

use bytes::Bytes;

use super::Role;
use super::identity::{LoginFailure, LoginFault, SessionType};
use super::negotiate::{NegotiationError, Negotiator, shorten};
use super::parameters::{Parameters, Preferences, SessionParameters};
use super::security::SecurityKeys;
use crate::auth::chap::{Algorithm, ChallengeMemory, ChapError, Credentials, Proof, answer};
use crate::name::IscsiName;
use crate::pdu::{
    Cid, InitiatorTaskTag, Isid, LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, Tsih, VERSION,
};
use crate::sn::CmdSn;
use crate::text::{
    self, Key, KeyType, MAX_TEXT_LEN, NONE, Phases, TextAccumulator, TextSender, TextWriter, encode_hex, parse_number,
};

/// Longest text of a request, in bytes: before a declaration takes effect, 8,192.
const MAX_REQUEST_BYTES: usize = 8192;

/// Most exchanges of one login.
const MAX_EXCHANGES: u32 = 64;

/// Names, credentials and wishes for a login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InitiatorLoginConfig {
    /// Our iSCSI name.
    pub initiator_name: String,
    /// Our alias, if any.
    pub initiator_alias: Option<String>,
    /// The target; `None` makes a discovery session.
    pub target_name: Option<String>,
    /// Our part of the session's name. A second session with the same ends the first.
    pub isid: Isid,
    /// What we prove ourselves with, if the target asks.
    pub credentials: Option<Credentials>,
    /// The CHAP algorithms offered, most wanted first.
    pub algorithms: Vec<Algorithm>,
    /// What the target has to prove itself with, if it has to. Without credentials of our own there is no mutual CHAP,
    /// and the login fails.
    pub target_proof: Option<TargetProof>,
    /// What is offered in the negotiation.
    pub preferences: Preferences,
}

impl InitiatorLoginConfig {
    /// A login without credentials and with the default wishes; `target_name` `None` for discovery.
    pub fn new(initiator_name: &str, target_name: Option<&str>, isid: Isid) -> Self {
        Self {
            initiator_name: initiator_name.to_owned(),
            initiator_alias: None,
            target_name: target_name.map(str::to_owned),
            isid,
            credentials: None,
            algorithms: vec![Algorithm::SHA3_256, Algorithm::SHA256, Algorithm::SHA1, Algorithm::MD5],
            target_proof: None,
            preferences: Preferences::default(),
        }
    }

    /// Normal with a target's name, discovery without.
    pub fn session_type(&self) -> SessionType {
        if self.target_name.is_some() { SessionType::Normal } else { SessionType::Discovery }
    }

    /// The value of AuthMethod.
    fn methods(&self) -> &'static str {
        match (&self.credentials, &self.target_proof) {
            (_, Some(_)) => "CHAP",
            (Some(_), None) => "CHAP,None",
            (None, None) => NONE,
        }
    }
}

/// How the target is to prove itself (mutual CHAP). The secret must differ from our own.
#[derive(Clone, PartialEq, Eq)]
pub struct TargetProof {
    /// The target's secret, and its name if that matters (empty: any).
    pub credentials: Credentials,
    /// CHAP_I to send; random.
    pub identifier: u8,
    /// CHAP_C to send: 16 random bytes or more, new for each login.
    pub challenge: Vec<u8>,
}

impl fmt::Debug for TargetProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TargetProof").field("name", &self.credentials.name).finish_non_exhaustive()
    }
}

/// What names this login among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginNumbers {
    /// 0 for a new session, or to replace one of the same ISID; else the session to join.
    pub tsih: Tsih,
    /// The connection's name.
    pub cid: Cid,
    /// Names the exchange.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The session's next CmdSN.
    pub cmd_sn: CmdSn,
}

/// How a login came out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// Full feature phase.
    Done {
        /// What was agreed.
        parameters: Parameters,
        /// The session's handle.
        tsih: Tsih,
        /// TargetPortalGroupTag, if told.
        portal_group_tag: Option<u16>,
        /// TargetAlias, if told.
        target_alias: Option<String>,
    },
    /// Another address is to be tried: each `host:port` or `host:port,tag`.
    Redirected {
        /// Where.
        addresses: Vec<String>,
        /// Whether from now on.
        permanent: bool,
    },
    /// It failed; the connection is to be closed.
    Failed(LoginFailure),
}

/// The login phase of one connection, at the initiator.
///
/// ```text
///   Methods --AuthMethod=None, T------------------------------> Operational --T--> Done
///      \--AuthMethod=CHAP--> Algorithm --CHAP_A, I, C--> Proof --T--^
/// ```
///
/// Order rule: [`InitiatorLogin::poll_request`], send it; [`InitiatorLogin::handle_response`] with what comes; again,
/// until [`InitiatorLogin::outcome`] is there. ExpStatSN of the requests is the connection's to set.
#[derive(Debug)]
pub struct InitiatorLogin {
    config: InitiatorLoginConfig,
    numbers: LoginNumbers,
    stage: Stage,
    step: Step,
    negotiator: Negotiator,
    text: TextAccumulator,
    sender: TextSender,
    /// T bit of the last request.
    asked_transit: bool,
    exchanges: u32,
    request: Option<LoginRequest>,
    portal_group_tag: Option<u16>,
    target_alias: Option<String>,
    outcome: Option<LoginOutcome>,
}

/// Where the security exchange stands: what the next response must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Method,
    Challenge,
    /// The target's own proof, if one was asked for.
    Verdict(Algorithm),
    Complete,
}

impl InitiatorLogin {
    /// Begins a login. `session` has the parameters of the session that is joined.
    pub fn new(config: InitiatorLoginConfig, numbers: LoginNumbers, session: Option<SessionParameters>) -> Self {
        let mut negotiator = match session {
            Some(session) => {
                let values = Parameters { session, ..Parameters::default() };
                Negotiator::further(Role::Initiator, config.preferences, values)
            }
            None => Negotiator::leading(Role::Initiator, config.preferences),
        };
        negotiator.set_session_type(config.session_type());
        negotiator.declare_text(Key::InitiatorName, &config.initiator_name);
        if let Some(alias) = &config.initiator_alias {
            negotiator.declare_text(Key::InitiatorAlias, alias);
        }
        if session.is_none() {
            negotiator.declare_text(Key::SessionType, config.session_type().as_str());
        }
        if let Some(target) = &config.target_name {
            negotiator.declare_text(Key::TargetName, target);
        }
        let methods = config.methods();
        negotiator.declare_text(Key::AuthMethod, methods);
        let mut login = Self {
            config,
            numbers,
            stage: Stage::SECURITY_NEGOTIATION,
            step: Step::Method,
            negotiator,
            text: TextAccumulator::new(MAX_TEXT_LEN),
            sender: TextSender::default(),
            asked_transit: false,
            exchanges: 0,
            request: None,
            portal_group_tag: None,
            target_alias: None,
            outcome: None,
        };
        login.ask(Bytes::new(), methods == NONE);
        login
    }

    /// The next request to send.
    pub fn poll_request(&mut self) -> Option<LoginRequest> {
        self.request.take()
    }

    /// How it came out, once it has.
    pub fn outcome(&self) -> Option<&LoginOutcome> {
        self.outcome.as_ref()
    }

    /// Takes the target's response. `sent` are the challenges of this initiator on all its connections: one that comes
    /// back is not answered, and ours is added.
    pub fn handle_response(&mut self, response: &LoginResponse, sent: &mut ChallengeMemory) {
        if self.outcome.is_some() {
            return;
        }
        if let Err(fault) = self.take_response(response, sent) {
            self.fail(fault);
        }
    }

    /// Gives up: a PDU came that does not belong here.
    pub fn handle_other_pdu(&mut self) {
        if self.outcome.is_none() {
            self.fail(LoginFault::OtherPdu);
        }
    }

    fn take_response(&mut self, response: &LoginResponse, sent: &mut ChallengeMemory) -> Result<(), LoginFault> {
        if response.initiator_task_tag != self.numbers.initiator_task_tag {
            return Err(LoginFault::Response("another task tag"));
        }
        if !response.status.is_success() {
            return self.refused(response);
        }
        self.check(response)?;
        let Some(text) = self.text.push(&response.data, response.flags.is_continued)? else {
            self.ask(Bytes::new(), false);
            return Ok(());
        };
        if !self.sender.is_empty() {
            // The rest of a text of ours that did not fit into one request.
            self.ask(Bytes::new(), self.asked_transit);
            return Ok(());
        }
        let reply = self.take_text(&text, sent)?;
        if response.flags.transit {
            return self.transit(response);
        }
        // In the security stage each step says by itself when it is the last.
        let transit = self.stage == Stage::OPERATIONAL_NEGOTIATION && self.negotiator.is_settled()
            || matches!(self.step, Step::Verdict(_) | Step::Complete);
        self.ask(reply, transit);
        Ok(())
    }

    fn check(&self, response: &LoginResponse) -> Result<(), LoginFault> {
        let flags = response.flags;
        if response.version_active != VERSION {
            return Err(LoginFault::Version { min: response.version_active, max: response.version_max });
        }
        if flags.current != self.stage {
            return Err(LoginFault::Stage { current: self.stage, next: flags.current });
        }
        if flags.transit && flags.is_continued {
            return Err(LoginFault::TransitAndContinue);
        }
        if flags.transit && (!self.asked_transit || flags.next != self.next_stage()) {
            return Err(LoginFault::Stage { current: flags.current, next: flags.next });
        }
        if response.isid != self.config.isid {
            return Err(LoginFault::Changed("ISID"));
        }
        if self.exchanges >= MAX_EXCHANGES {
            return Err(LoginFault::TooManyExchanges(MAX_EXCHANGES));
        }
        Ok(())
    }

    fn next_stage(&self) -> Stage {
        match self.stage {
            Stage::SECURITY_NEGOTIATION => Stage::OPERATIONAL_NEGOTIATION,
            _ => Stage::FULL_FEATURE_PHASE,
        }
    }

    /// Acts upon a whole text; gives the security keys to send next.
    fn take_text(&mut self, text: &[u8], sent: &mut ChallengeMemory) -> Result<Bytes, LoginFault> {
        let mut keys = SecurityKeys::default();
        let phase = match self.stage {
            Stage::SECURITY_NEGOTIATION => Phases::SECURITY,
            _ => Phases::OPERATIONAL,
        };
        for (name, value) in text::parse(text)? {
            match Key::by_name(name) {
                Some(key) if phase == Phases::SECURITY && key.spec().key_type == KeyType::Security => {
                    keys.take(key, value)?;
                }
                Some(key) => {
                    self.negotiator.handle_pair(name, value, phase)?;
                    match key {
                        Key::TargetAlias => self.target_alias = Some(value.to_owned()),
                        Key::TargetPortalGroupTag => {
                            self.portal_group_tag = parse_number(value).and_then(|tag| tag.try_into().ok());
                        }
                        _ => {}
                    }
                }
                None => self.negotiator.handle_pair(name, value, phase)?,
            }
        }
        if phase == Phases::SECURITY { self.authenticate(&keys, sent) } else { Ok(Bytes::new()) }
    }

    fn authenticate(&mut self, keys: &SecurityKeys<'_>, sent: &mut ChallengeMemory) -> Result<Bytes, LoginFault> {
        let mut reply = TextWriter::new();
        match self.step {
            Step::Method => match (keys.method, &self.config.credentials) {
                (Some("CHAP"), Some(_)) => {
                    let list: Vec<String> =
                        self.config.algorithms.iter().map(|algorithm| algorithm.0.to_string()).collect();
                    reply.push(Key::ChapA.name(), &list.join(","));
                    self.step = Step::Challenge;
                }
                (Some(NONE), _) if self.config.target_proof.is_none() => self.step = Step::Complete,
                (None, None) if self.config.target_proof.is_none() => self.step = Step::Complete,
                (method, _) => return Err(LoginFault::NoMethod(shorten(method.unwrap_or_default()))),
            },
            Step::Challenge => self.step = Step::Verdict(self.prove(keys, sent, &mut reply)?),
            Step::Verdict(algorithm) => {
                self.check_target(keys, algorithm)?;
                self.step = Step::Complete;
            }
            Step::Complete => {}
        }
        Ok(reply.take())
    }

    /// Answers the target's challenge, and challenges it if it has to prove itself too.
    fn prove(
        &self,
        keys: &SecurityKeys<'_>,
        sent: &mut ChallengeMemory,
        reply: &mut TextWriter,
    ) -> Result<Algorithm, LoginFault> {
        let ours = self.config.credentials.as_ref().ok_or(LoginFault::NoCredentials)?;
        let chosen = keys.chap_a.ok_or(LoginFault::MissingKey(Key::ChapA))?;
        let algorithm = parse_number(chosen).and_then(|number| number.try_into().ok()).map(Algorithm);
        let algorithm = algorithm
            .filter(|algorithm| self.config.algorithms.contains(algorithm))
            .ok_or(ChapError::NoAlgorithm { minimum: Algorithm::MD5 })?;
        let (identifier, challenge) = keys.challenge()?.ok_or(LoginFault::MissingKey(Key::ChapC))?;
        let target = self.config.target_proof.as_ref();
        if sent.contains(&challenge) || target.is_some_and(|target| target.challenge == challenge) {
            return Err(ChapError::Reflected.into());
        }
        let response = answer(algorithm, identifier, &challenge, ours.secret.as_bytes())?;
        reply.push(Key::ChapN.name(), &ours.name);
        reply.push(Key::ChapR.name(), &encode_hex(&response));
        if let Some(target) = target {
            if target.credentials.secret == ours.secret {
                return Err(ChapError::SharedSecret.into());
            }
            sent.remember(&target.challenge);
            reply.push(Key::ChapI.name(), &target.identifier.to_string());
            reply.push(Key::ChapC.name(), &encode_hex(&target.challenge));
        }
        Ok(algorithm)
    }

    /// The target's own proof, if it has to prove itself.
    fn check_target(&self, keys: &SecurityKeys<'_>, algorithm: Algorithm) -> Result<(), LoginFault> {
        let Some(target) = &self.config.target_proof else { return Ok(()) };
        let (name, response) = keys.proof()?.ok_or(LoginFault::TargetNotAuthenticated)?;
        let proof = Proof {
            name: name.to_owned(),
            algorithm,
            identifier: target.identifier,
            challenge: target.challenge.clone(),
            response,
        };
        let is_right = match target.credentials.name.as_str() {
            "" => proof.verify(target.credentials.secret.as_bytes()),
            _ => proof.verify_credentials(&target.credentials),
        };
        if is_right { Ok(()) } else { Err(LoginFault::TargetNotAuthenticated) }
    }

    /// Follows the target into the next stage.
    fn transit(&mut self, response: &LoginResponse) -> Result<(), LoginFault> {
        if self.step != Step::Complete {
            return Err(LoginFault::AuthenticationRequired);
        }
        self.stage = response.flags.next;
        if self.stage == Stage::OPERATIONAL_NEGOTIATION {
            self.negotiator.declare_receive_length();
            self.negotiator.offer_all();
            self.ask(Bytes::new(), true);
            return Ok(());
        }
        if !self.negotiator.is_settled() {
            return Err(LoginFault::Response("an offer was not answered"));
        }
        if !self.negotiator.ensure_digests()? {
            return Err(NegotiationError::DigestRequired.into());
        }
        let tsih = if self.numbers.tsih.is_new() { response.tsih } else { self.numbers.tsih };
        if tsih.is_new() {
            return Err(LoginFault::Response("no session handle"));
        }
        self.outcome = Some(LoginOutcome::Done {
            parameters: self.negotiator.parameters(),
            tsih,
            portal_group_tag: self.portal_group_tag,
            target_alias: self.target_alias.take(),
        });
        Ok(())
    }

    fn refused(&mut self, response: &LoginResponse) -> Result<(), LoginFault> {
        if !response.status.is_redirection() {
            return Err(LoginFault::Answered(response.status));
        }
        let text = response.data.to_contiguous();
        let addresses: Vec<String> = text::parse(&text)?
            .into_iter()
            .filter(|&(name, _)| name == Key::TargetAddress.name())
            .map(|(_, value)| value.to_owned())
            .collect();
        if addresses.is_empty() {
            return Err(LoginFault::MissingKey(Key::TargetAddress));
        }
        let permanent = response.status == LoginStatus::TARGET_MOVED_PERMANENTLY;
        self.outcome = Some(LoginOutcome::Redirected { addresses, permanent });
        Ok(())
    }

    /// Queues the next request.
    fn ask(&mut self, security: Bytes, transit: bool) {
        self.sender.push(security);
        self.sender.push(self.negotiator.take_reply());
        let (text, is_continued) = self.sender.next_segment(MAX_REQUEST_BYTES);
        self.exchanges += 1;
        self.asked_transit = transit && !is_continued;
        let flags = LoginFlags {
            transit: self.asked_transit,
            is_continued,
            current: self.stage,
            next: if self.asked_transit { self.next_stage() } else { Stage::default() },
        };
        self.request = Some(LoginRequest {
            flags,
            version_max: VERSION,
            version_min: VERSION,
            isid: self.config.isid,
            tsih: self.numbers.tsih,
            initiator_task_tag: self.numbers.initiator_task_tag,
            cid: self.numbers.cid,
            cmd_sn: self.numbers.cmd_sn,
            data: text.into(),
            ..LoginRequest::default()
        });
    }

    fn fail(&mut self, fault: LoginFault) {
        let initiator_name = IscsiName::from_wire(&self.config.initiator_name).ok();
        self.outcome = Some(LoginOutcome::Failed(LoginFailure { status: fault.status(), fault, initiator_name }));
    }
}

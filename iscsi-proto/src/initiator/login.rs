//! The login phase as the initiator sees it (RFC 7143 6.3, 11.12, 11.13).

use std::fmt;

use super::event::LoginError;
use crate::auth::chap::{self, Algorithm, Authenticator, Credentials};
use crate::login::{Negotiator, Parameters, Preferences, Role, SessionType};
use crate::pdu::{Cid, InitiatorTaskTag, Isid, LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, Tsih};
use crate::sn::{CmdSn, StatSn};
use crate::text::{self, Key, NONE, Phases, TextAccumulator, TextWriter};

/// Names, credentials and wishes for a login.
#[derive(Clone, Debug)]
pub struct LoginConfig {
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
    /// What the target has to prove itself with, if it has to.
    pub target_proof: Option<TargetProof>,
    /// What is offered in the negotiation.
    pub preferences: Preferences,
}

impl LoginConfig {
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
}

/// How the target is to prove itself (mutual CHAP). Name and secret must differ from our own credentials.
#[derive(Clone)]
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

/// What a login agreed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct LoggedIn {
    pub(super) parameters: Parameters,
    pub(super) tsih: Tsih,
}

#[derive(Debug)]
enum State {
    /// AuthMethod was offered.
    Method,
    /// CHAP_A was offered.
    Algorithm,
    /// Our proof was sent, with a challenge for the target if it has to prove itself.
    Proof(Option<Authenticator>),
    /// Everything is said in the security stage; the target has not moved on yet.
    SecurityDone,
    Operational,
}

/// One login.
///
/// ```text
///   Method --AuthMethod=CHAP--> Algorithm --CHAP_A,I,C--> Proof --(CHAP_N,R)--+
///      |                                                                      v
///      +--AuthMethod=None------------------------------------------------> Operational --T, NSG 3--> logged in
/// ```
#[derive(Debug)]
pub(super) struct InitiatorLogin {
    config: LoginConfig,
    state: State,
    negotiator: Negotiator,
    tsih: Tsih,
    cid: Cid,
    cmd_sn: CmdSn,
    text: TextAccumulator,
    security: TextWriter,
    request: Option<LoginRequest>,
    exchanges: u32,
}

/// Most requests of one login.
const MAX_EXCHANGES: u32 = 32;

impl InitiatorLogin {
    /// Begins; `session` has the values of the session that is joined (`tsih` not 0).
    pub(super) fn new(config: LoginConfig, tsih: Tsih, cid: Cid, cmd_sn: CmdSn, session: Option<Parameters>) -> Self {
        let mut negotiator = match session.filter(|_| !tsih.is_new()) {
            Some(mut values) => {
                values.connection = Default::default();
                Negotiator::further(Role::Initiator, config.preferences, values)
            }
            None => Negotiator::leading(Role::Initiator, config.preferences),
        };
        if config.target_name.is_none() {
            negotiator.set_session_type(SessionType::Discovery);
        }
        let mut login = Self {
            config,
            state: State::Method,
            negotiator,
            tsih,
            cid,
            cmd_sn,
            text: TextAccumulator::default(),
            security: TextWriter::new(),
            request: None,
            exchanges: 0,
        };
        login.say(Key::InitiatorName, &login.config.initiator_name.clone());
        if let Some(alias) = login.config.initiator_alias.clone() {
            login.say(Key::InitiatorAlias, &alias);
        }
        match login.config.target_name.clone() {
            Some(target) => {
                login.say(Key::TargetName, &target);
                login.say(Key::SessionType, SessionType::Normal.as_str());
            }
            None => login.say(Key::SessionType, SessionType::Discovery.as_str()),
        }
        let methods = match (&login.config.credentials, &login.config.target_proof) {
            (Some(_), Some(_)) => "CHAP",
            (Some(_), None) => "CHAP,None",
            (None, _) => NONE,
        };
        login.say(Key::AuthMethod, methods);
        login.send_security(methods == NONE);
        login
    }

    /// The request to send now.
    pub(super) fn take_request(&mut self) -> Option<LoginRequest> {
        self.request.take()
    }

    /// Takes the target's answer; gives the outcome when the login is over.
    ///
    /// # Errors
    /// The login has failed.
    pub(super) fn handle_response(&mut self, response: &LoginResponse) -> Result<Option<LoggedIn>, LoginError> {
        if response.status != LoginStatus::SUCCESS {
            return Err(self.refused(response));
        }
        self.exchanges += 1;
        if self.exchanges > MAX_EXCHANGES {
            return Err(LoginError::Protocol(format!("no end after {MAX_EXCHANGES} exchanges")));
        }
        let Some(block) = self.text.push(&response.data, response.flags.is_continued).map_err(protocol)? else {
            // An empty request asks for the rest.
            let stage = self.stage();
            self.send(stage, stage, false, bytes::Bytes::new());
            return Ok(None);
        };
        match self.state {
            State::Operational => self.operational(response, &block),
            _ => self.security(response, &block),
        }
    }

    fn stage(&self) -> Stage {
        match self.state {
            State::Operational => Stage::OPERATIONAL_NEGOTIATION,
            _ => Stage::SECURITY_NEGOTIATION,
        }
    }

    fn security(&mut self, response: &LoginResponse, block: &[u8]) -> Result<Option<LoggedIn>, LoginError> {
        let pairs = text::parse(block).map_err(protocol)?;
        let value = |key: Key| pairs.iter().find(|(name, _)| *name == key.name()).map(|(_, value)| *value);
        let moves_on = response.flags.transit && response.flags.next == Stage::OPERATIONAL_NEGOTIATION;
        match std::mem::replace(&mut self.state, State::SecurityDone) {
            State::Method => match value(Key::AuthMethod) {
                Some("CHAP") if self.config.credentials.is_some() => {
                    let list: Vec<String> =
                        self.config.algorithms.iter().map(|algorithm| algorithm.0.to_string()).collect();
                    self.say(Key::ChapA, &list.join(","));
                    self.state = State::Algorithm;
                    self.send_security(false);
                }
                Some(NONE) if self.config.target_proof.is_none() || self.config.credentials.is_none() => {
                    return self.leave_security(moves_on);
                }
                Some(other) => return Err(LoginError::Protocol(format!("AuthMethod={other} was not offered"))),
                // The target has not answered yet: go on asking, a bounded number of times.
                None => {
                    self.state = State::Method;
                    self.send_security(false);
                }
            },
            State::Algorithm => {
                let missing = |key: Key| LoginError::Protocol(format!("no {} in the target's challenge", key.name()));
                let number = |key: Key| {
                    let text = value(key).ok_or_else(|| missing(key))?;
                    let number = text::parse_number(text).and_then(|number| u8::try_from(number).ok());
                    number.ok_or_else(|| LoginError::Protocol(format!("{}={text} is no number", key.name())))
                };
                let algorithm = Algorithm(number(Key::ChapA)?);
                if !self.config.algorithms.contains(&algorithm) {
                    return Err(LoginError::Protocol(format!("CHAP algorithm {algorithm} was not offered")));
                }
                let identifier = number(Key::ChapI)?;
                let challenge = value(Key::ChapC).ok_or_else(|| missing(Key::ChapC))?;
                let challenge = text::decode_binary(challenge, chap::MAX_CHALLENGE_BYTES).map_err(protocol)?;
                self.prove(algorithm, identifier, &challenge)?;
            }
            State::Proof(Some(mut authenticator)) => {
                let (Some(name), Some(response)) = (value(Key::ChapN), value(Key::ChapR)) else {
                    return Err(LoginError::TargetNotAuthenticated);
                };
                let proof = text::decode_binary(response, chap::MAX_CHALLENGE_BYTES)
                    .ok()
                    .and_then(|response| authenticator.response(name, &response).ok());
                let expected = self.config.target_proof.as_ref().map(|proof| &proof.credentials);
                let right = proof.zip(expected).is_some_and(|(proof, expected)| {
                    proof.verify(expected.secret.as_bytes()) && (expected.name.is_empty() || expected.name == name)
                });
                if !right {
                    return Err(LoginError::TargetNotAuthenticated);
                }
                return self.leave_security(moves_on);
            }
            State::Proof(None) | State::SecurityDone => return self.leave_security(moves_on),
            State::Operational => {}
        }
        Ok(None)
    }

    fn prove(&mut self, algorithm: Algorithm, identifier: u8, challenge: &[u8]) -> Result<(), LoginError> {
        let Some(credentials) = self.config.credentials.clone() else {
            return Err(LoginError::Protocol("a challenge came unasked".into()));
        };
        let answer = chap::answer(algorithm, identifier, challenge, credentials.secret.as_bytes()).map_err(protocol)?;
        self.say(Key::ChapN, &credentials.name);
        self.say(Key::ChapR, &text::encode_hex(&answer));
        let mut theirs = None;
        if let Some(proof) = self.config.target_proof.clone() {
            if proof.challenge == challenge {
                return Err(LoginError::Protocol("the target sent our own challenge".into()));
            }
            self.say(Key::ChapI, &proof.identifier.to_string());
            self.say(Key::ChapC, &text::encode_hex(&proof.challenge));
            let mut authenticator = Authenticator::new([algorithm], Algorithm::MD5).map_err(protocol)?;
            authenticator.challenge(proof.identifier, proof.challenge);
            theirs = Some(authenticator);
        }
        self.state = State::Proof(theirs);
        self.send_security(true);
        Ok(())
    }

    /// The security stage is over for us; asks the target to move on, or does so.
    fn leave_security(&mut self, moves_on: bool) -> Result<Option<LoggedIn>, LoginError> {
        if !moves_on {
            self.state = State::SecurityDone;
            self.send_security(true);
            return Ok(None);
        }
        self.state = State::Operational;
        self.negotiator.declare_receive_length();
        self.negotiator.offer_all();
        let text = self.negotiator.take_reply();
        self.send(Stage::OPERATIONAL_NEGOTIATION, Stage::FULL_FEATURE_PHASE, true, text);
        Ok(None)
    }

    fn operational(&mut self, response: &LoginResponse, block: &[u8]) -> Result<Option<LoggedIn>, LoginError> {
        self.negotiator.handle_text(block, Phases::OPERATIONAL).map_err(protocol)?;
        let settled = self.negotiator.is_settled();
        let text = self.negotiator.take_reply();
        if response.flags.transit && response.flags.next == Stage::FULL_FEATURE_PHASE {
            if !settled || !text.is_empty() {
                return Err(LoginError::Protocol("the target moved on before everything was negotiated".into()));
            }
            self.negotiator.ensure_digests().map_err(protocol)?;
            return Ok(Some(LoggedIn { parameters: self.negotiator.parameters(), tsih: response.tsih }));
        }
        self.send(Stage::OPERATIONAL_NEGOTIATION, Stage::FULL_FEATURE_PHASE, settled, text);
        Ok(None)
    }

    fn refused(&self, response: &LoginResponse) -> LoginError {
        let address = || {
            let block = response.data.to_contiguous();
            let pairs = text::parse(&block).unwrap_or_default();
            let address = pairs.iter().find(|(name, _)| *name == Key::TargetAddress.name());
            address.map_or_else(|| "an address it does not tell".to_owned(), |(_, value)| (*value).to_owned())
        };
        match response.status {
            LoginStatus::TARGET_MOVED_TEMPORARILY => LoginError::Moved { address: address(), permanently: false },
            LoginStatus::TARGET_MOVED_PERMANENTLY => LoginError::Moved { address: address(), permanently: true },
            status => LoginError::Refused { status },
        }
    }

    fn say(&mut self, key: Key, value: &str) {
        self.security.push(key.name(), value);
    }

    fn send_security(&mut self, transit: bool) {
        let text = self.security.take();
        self.send(Stage::SECURITY_NEGOTIATION, Stage::OPERATIONAL_NEGOTIATION, transit, text);
    }

    fn send(&mut self, current: Stage, next: Stage, transit: bool, text: bytes::Bytes) {
        self.request = Some(LoginRequest {
            flags: LoginFlags { transit, is_continued: false, current, next: if transit { next } else { Stage(0) } },
            version_max: crate::pdu::VERSION,
            version_min: crate::pdu::VERSION,
            isid: self.config.isid,
            tsih: self.tsih,
            initiator_task_tag: InitiatorTaskTag(0),
            cid: self.cid,
            cmd_sn: self.cmd_sn,
            exp_stat_sn: StatSn::default(),
            data: text.into(),
        });
    }
}

fn protocol(error: impl fmt::Display) -> LoginError {
    LoginError::Protocol(error.to_string())
}

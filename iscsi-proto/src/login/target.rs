//! The login phase as the target sees it (RFC 7143 6.3, 11.12, 11.13).

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::Role;
use super::identity::{LoginFailure, LoginFault, LoginIdentity, SessionType};
use super::negotiate::{NegotiationError, Negotiator, shorten};
use super::parameters::{Parameters, Preferences, SessionParameters};
use super::security::{AuthPolicy, Security, SecurityKeys};
use crate::auth::chap::Proof;
use crate::name::IscsiName;
use crate::pdu::{
    Cid, InitiatorTaskTag, Isid, LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, Tsih, VERSION,
};
use crate::sn::CmdSn;
use crate::text::{self, Key, KeyType, MAX_TEXT_LEN, Phases, TextAccumulator, TextSender, TextWriter};

/// What bounds and guides every login of a target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginConfig {
    /// What the target would like to agree on.
    pub preferences: Preferences,
    /// Most requests of one login. One that needs more is refused.
    pub max_exchanges: u32,
    /// Most text the initiator may send before we answer, in bytes.
    pub max_text_bytes: usize,
    /// Longest data segment of a response, in bytes: before a declaration takes effect, 8,192.
    pub max_response_bytes: usize,
}

impl Default for LoginConfig {
    fn default() -> Self {
        Self {
            preferences: Preferences::default(),
            max_exchanges: 64,
            max_text_bytes: MAX_TEXT_LEN,
            max_response_bytes: 8192,
        }
    }
}

/// What the owner decides about a login it accepts so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginPolicy {
    /// TargetPortalGroupTag of the portal; `None` for a discovery session.
    pub portal_group_tag: Option<u16>,
    /// TargetAlias, if there is one.
    pub target_alias: Option<String>,
    /// How the initiator proves itself.
    pub auth: AuthPolicy,
    /// When the connection joins a session: that session's parameters.
    pub session: Option<SessionParameters>,
    /// When this target or portal wants other parameters than the configuration has.
    pub preferences: Option<Preferences>,
}

impl LoginPolicy {
    /// Nobody proves anything.
    pub fn open(portal_group_tag: Option<u16>) -> Self {
        Self { portal_group_tag, target_alias: None, auth: AuthPolicy::None, session: None, preferences: None }
    }
}

/// What the owner is told, and asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LoginEvent {
    /// Who wants in, and where. Answer: [`TargetLogin::accept`], [`TargetLogin::refuse`] or [`TargetLogin::redirect`].
    Identify(LoginIdentity),
    /// Is this proof right? Answer: [`TargetLogin::verified`].
    Verify(Proof),
    /// All is agreed. Answer: [`TargetLogin::complete`] or [`TargetLogin::refuse`].
    Negotiated(Parameters),
    /// The login has failed. The refusing response, if one is due, is queued; close the connection once it is sent.
    Failed(LoginFailure),
}

/// The login phase of one connection, at the target.
///
/// ```text
///            CSG 0                 policy            T, NSG 1               T, NSG 3
///   Start ----------> Identify ------------> Security --------> Operational --------> Complete ---> Done
///     \------------------/  \-------------------/-----------------^   \-------------------^
///            CSG 1                CSG 1                                  T, NSG 3 from Security
/// ```
///
/// Each request gets one response. Where the owner is asked, the response waits for its answer; the initiator must
/// wait too, and one that does not is refused. A fault at any point ends in a refusing response and
/// [`LoginEvent::Failed`].
///
/// Order rule: [`TargetLogin::handle_request`] or an owner's answer, then [`TargetLogin::poll_event`] until `None`,
/// then [`TargetLogin::poll_response`] until `None`. StatSN, ExpCmdSN and MaxCmdSN of the responses are the
/// connection's to set, and so is the deadline.
#[derive(Debug)]
pub struct TargetLogin {
    config: Arc<LoginConfig>,
    state: State,
    /// What must not change from request to request.
    constants: Option<Constants>,
    last_flags: LoginFlags,
    exchanges: u32,
    text: TextAccumulator,
    sender: TextSender,
    identity: Option<LoginIdentity>,
    negotiator: Negotiator,
    security: Security,
    /// The failure was reported and answered; there is only one.
    failure_told: bool,
    events: VecDeque<LoginEvent>,
    responses: VecDeque<LoginResponse>,
}

#[derive(Debug)]
enum State {
    Start,
    /// The next request of this stage is due.
    Negotiating(Stage),
    /// The owner's answer is due.
    Waiting(Stage, Wait),
    Done,
    Failed,
}

#[derive(Debug)]
enum Wait {
    Policy { text: Bytes, flags: LoginFlags },
    Verdict { flags: LoginFlags },
    Completion { text: Bytes, flags: LoginFlags },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Constants {
    isid: Isid,
    tsih: Tsih,
    cid: Cid,
    initiator_task_tag: InitiatorTaskTag,
    cmd_sn: CmdSn,
}

impl TargetLogin {
    /// The login of a connection on which nothing has come yet.
    pub fn new(config: Arc<LoginConfig>) -> Self {
        Self {
            state: State::Start,
            constants: None,
            last_flags: LoginFlags::default(),
            exchanges: 0,
            text: TextAccumulator::new(config.max_text_bytes),
            sender: TextSender::default(),
            identity: None,
            negotiator: Negotiator::leading(Role::Target, config.preferences),
            security: Security::open(),
            failure_told: false,
            events: VecDeque::new(),
            responses: VecDeque::new(),
            config,
        }
    }

    /// Takes the next Login Request.
    pub fn handle_request(&mut self, request: LoginRequest) {
        let result = self.take_request(request);
        self.settle(result);
    }

    /// Takes note of a PDU that is no Login Request, which ends the login (RFC 7143 6.3).
    pub fn handle_other_pdu(&mut self, initiator_task_tag: InitiatorTaskTag) {
        if self.is_done() {
            return;
        }
        self.constants.get_or_insert(Constants {
            isid: Isid::default(),
            tsih: Tsih::NEW,
            cid: Cid(0),
            initiator_task_tag,
            cmd_sn: CmdSn(0),
        });
        self.settle(Err(LoginFault::OtherPdu));
    }

    /// What the owner is told or asked next.
    pub fn poll_event(&mut self) -> Option<LoginEvent> {
        self.events.pop_front()
    }

    /// The next response to send.
    pub fn poll_response(&mut self) -> Option<LoginResponse> {
        self.responses.pop_front()
    }

    /// Whether the owner's answer is due.
    pub fn is_waiting(&self) -> bool {
        matches!(self.state, State::Waiting(..))
    }

    /// Whether the final response was queued: full feature phase begins behind it.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// Whether the login has failed.
    pub fn is_failed(&self) -> bool {
        matches!(self.state, State::Failed)
    }

    /// Who wants in; known from [`LoginEvent::Identify`] on.
    pub fn identity(&self) -> Option<&LoginIdentity> {
        self.identity.as_ref()
    }

    /// CHAP_N of a proof that was right.
    pub fn authenticated_as(&self) -> Option<&str> {
        self.security.authenticated_as()
    }

    /// What is agreed so far.
    pub fn parameters(&self) -> Parameters {
        self.negotiator.parameters()
    }

    /// Answers [`LoginEvent::Identify`]: the login may go on under this policy. Of no effect at any other time.
    pub fn accept(&mut self, policy: LoginPolicy) {
        let Some((stage, Wait::Policy { text, flags })) = self.take_wait(|wait| matches!(wait, Wait::Policy { .. }))
        else {
            return;
        };
        let result = self.begin(policy, stage).and_then(|()| self.process(stage, flags, &text));
        self.settle(result);
    }

    /// Refuses the login, at any time before it is done.
    pub fn refuse(&mut self, status: LoginStatus) {
        if !self.is_done() {
            self.settle(Err(LoginFault::Refused(status)));
        }
    }

    /// Sends the initiator elsewhere: each address as `host:port` or `host:port,tag`, an IPv6 host in brackets.
    pub fn redirect(&mut self, addresses: &[String], permanent: bool) {
        if self.is_done() || self.is_failed() {
            return;
        }
        let status = match permanent {
            true => LoginStatus::TARGET_MOVED_PERMANENTLY,
            false => LoginStatus::TARGET_MOVED_TEMPORARILY,
        };
        let mut text = TextWriter::new();
        addresses.iter().for_each(|address| text.push(Key::TargetAddress.name(), address));
        self.fail(LoginFault::Refused(status), text.take());
    }

    /// Answers [`LoginEvent::Verify`]. Of no effect at any other time.
    pub fn verified(&mut self, is_right: bool) {
        let Some((stage, Wait::Verdict { flags })) = self.take_wait(|wait| matches!(wait, Wait::Verdict { .. })) else {
            return;
        };
        let result = self.security.verified(is_right).and_then(|()| self.answer(stage, flags));
        self.settle(result);
    }

    /// Answers [`LoginEvent::Negotiated`]: queues the final response, with the session's handle, which must not be 0.
    /// Of no effect at any other time.
    pub fn complete(&mut self, tsih: Tsih) {
        let Some((stage, Wait::Completion { text, flags })) =
            self.take_wait(|wait| matches!(wait, Wait::Completion { .. }))
        else {
            return;
        };
        let flags = LoginFlags { transit: true, is_continued: false, current: stage, next: flags.next };
        let response = self.response(flags, text);
        self.responses.push_back(LoginResponse { tsih, ..response });
        self.state = State::Done;
    }

    fn take_request(&mut self, request: LoginRequest) -> Result<(), LoginFault> {
        let stage = match self.state {
            State::Start => self.check_first(&request)?,
            State::Negotiating(stage) => stage,
            State::Waiting(..) => return Err(LoginFault::OutOfTurn),
            State::Done | State::Failed => return Ok(()),
        };
        self.check(&request, stage)?;
        let flags = request.flags;
        if !self.sender.is_empty() {
            // Our text goes on; until it is out the initiator has nothing to say (RFC 7143 6.2).
            if !request.data.is_empty() || flags.is_continued {
                return Err(LoginFault::OutOfTurn);
            }
            return self.answer(stage, flags);
        }
        let Some(text) = self.text.push(&request.data, flags.is_continued)? else {
            let go_on = LoginFlags { current: stage, ..LoginFlags::default() };
            let response = self.response(go_on, Bytes::new());
            self.responses.push_back(response);
            self.state = State::Negotiating(stage);
            return Ok(());
        };
        if self.identity.is_some() {
            return self.process(stage, flags, &text);
        }
        let identity = identify(&text, &request)?;
        self.identity = Some(identity.clone());
        self.events.push_back(LoginEvent::Identify(identity));
        self.state = State::Waiting(stage, Wait::Policy { text, flags });
        Ok(())
    }

    /// Checks that only the first request can fail; gives the stage the login begins in.
    fn check_first(&mut self, request: &LoginRequest) -> Result<Stage, LoginFault> {
        self.constants = Some(Constants::of(request));
        if request.version_min > VERSION {
            return Err(LoginFault::Version { min: request.version_min, max: request.version_max });
        }
        match request.flags.current {
            stage @ (Stage::SECURITY_NEGOTIATION | Stage::OPERATIONAL_NEGOTIATION) => Ok(stage),
            current => Err(LoginFault::Stage { current, next: request.flags.next }),
        }
    }

    fn check(&mut self, request: &LoginRequest, stage: Stage) -> Result<(), LoginFault> {
        let flags = request.flags;
        self.last_flags = flags;
        self.exchanges += 1;
        if self.exchanges > self.config.max_exchanges {
            return Err(LoginFault::TooManyExchanges(self.config.max_exchanges));
        }
        if let Some(constants) = &self.constants {
            constants.check(request)?;
        }
        if flags.current != stage {
            return Err(LoginFault::Stage { current: stage, next: flags.current });
        }
        if flags.transit && flags.is_continued {
            return Err(LoginFault::TransitAndContinue);
        }
        let is_step = matches!(
            (flags.current, flags.next),
            (Stage::SECURITY_NEGOTIATION, Stage::OPERATIONAL_NEGOTIATION)
                | (Stage::SECURITY_NEGOTIATION | Stage::OPERATIONAL_NEGOTIATION, Stage::FULL_FEATURE_PHASE)
        );
        if flags.transit && !is_step {
            return Err(LoginFault::Stage { current: flags.current, next: flags.next });
        }
        Ok(())
    }

    /// Puts the owner's policy into force.
    fn begin(&mut self, policy: LoginPolicy, stage: Stage) -> Result<(), LoginFault> {
        let preferences = policy.preferences.unwrap_or(self.config.preferences);
        self.negotiator = match policy.session {
            Some(session) => {
                let values = Parameters { session, ..Parameters::default() };
                Negotiator::further(Role::Target, preferences, values)
            }
            None => Negotiator::leading(Role::Target, preferences),
        };
        if let Some(identity) = &self.identity {
            self.negotiator.set_session_type(identity.session_type);
        }
        // Both are due in the first response (RFC 7143 13.6, 13.9).
        if let Some(alias) = &policy.target_alias {
            self.negotiator.declare_text(Key::TargetAlias, alias);
        }
        if let Some(tag) = policy.portal_group_tag {
            self.negotiator.declare_text(Key::TargetPortalGroupTag, &tag.to_string());
        }
        self.security = Security::new(policy.auth);
        if stage != Stage::SECURITY_NEGOTIATION && !self.security.is_complete() {
            return Err(LoginFault::AuthenticationRequired);
        }
        Ok(())
    }

    /// Acts upon a whole text.
    fn process(&mut self, stage: Stage, flags: LoginFlags, text: &[u8]) -> Result<(), LoginFault> {
        let mut pairs = text::parse(text)?;
        if stage == Stage::SECURITY_NEGOTIATION {
            let mut keys = SecurityKeys::default();
            for &(name, value) in &pairs {
                match Key::by_name(name) {
                    Some(key) if key.spec().key_type == KeyType::Security => keys.take(key, value)?,
                    _ => self.negotiator.handle_pair(name, value, Phases::SECURITY)?,
                }
            }
            if let Some(proof) = self.security.handle(&keys, flags.transit)? {
                self.events.push_back(LoginEvent::Verify(proof));
                self.state = State::Waiting(stage, Wait::Verdict { flags });
                return Ok(());
            }
        } else {
            // What FirstBurstLength may be depends on MaxBurstLength, wherever that stands.
            pairs.sort_by_key(|&(name, _)| name == Key::FirstBurstLength.name());
            for (name, value) in pairs {
                self.negotiator.handle_pair(name, value, Phases::OPERATIONAL)?;
            }
            self.negotiator.declare_receive_length();
        }
        self.answer(stage, flags)
    }

    /// Queues the response to the request with these flags, or asks the owner when it would be the last.
    fn answer(&mut self, stage: Stage, flags: LoginFlags) -> Result<(), LoginFault> {
        let is_ready = match stage {
            Stage::SECURITY_NEGOTIATION => self.security.is_complete(),
            _ => !flags.transit || (self.negotiator.ensure_digests()? && self.negotiator.is_settled()),
        };
        self.sender.push(self.security.take_reply());
        self.sender.push(self.negotiator.take_reply());
        let (text, is_continued) = self.sender.next_segment(self.config.max_response_bytes);
        let transit = flags.transit && is_ready && !is_continued;

        if transit && flags.next == Stage::FULL_FEATURE_PHASE {
            if stage == Stage::SECURITY_NEGOTIATION && !self.negotiator.ensure_digests()? {
                return Err(NegotiationError::DigestRequired.into());
            }
            self.events.push_back(LoginEvent::Negotiated(self.negotiator.parameters()));
            self.state = State::Waiting(stage, Wait::Completion { text, flags });
            return Ok(());
        }
        let next = if transit { flags.next } else { Stage::default() };
        let response = self.response(LoginFlags { transit, is_continued, current: stage, next }, text);
        self.responses.push_back(response);
        self.state = State::Negotiating(if transit { flags.next } else { stage });
        Ok(())
    }

    fn response(&self, flags: LoginFlags, text: Bytes) -> LoginResponse {
        let (isid, tsih, initiator_task_tag) = match &self.constants {
            Some(constants) => (constants.isid, constants.tsih, constants.initiator_task_tag),
            None => Default::default(),
        };
        LoginResponse {
            flags,
            version_max: VERSION,
            version_active: VERSION,
            isid,
            tsih,
            initiator_task_tag,
            data: text.into(),
            ..LoginResponse::default()
        }
    }

    fn take_wait(&mut self, wanted: impl Fn(&Wait) -> bool) -> Option<(Stage, Wait)> {
        match std::mem::replace(&mut self.state, State::Failed) {
            State::Waiting(stage, wait) if wanted(&wait) => Some((stage, wait)),
            other => {
                self.state = other;
                None
            }
        }
    }

    fn settle(&mut self, result: Result<(), LoginFault>) {
        if let Err(fault) = result {
            self.fail(fault, Bytes::new());
        }
    }

    fn fail(&mut self, fault: LoginFault, text: Bytes) {
        if std::mem::replace(&mut self.failure_told, true) {
            return;
        }
        self.state = State::Failed;
        let status = fault.status();
        let flags = LoginFlags { current: self.last_flags.current, ..LoginFlags::default() };
        let response = self.response(flags, text);
        self.responses.push_back(LoginResponse { status, ..response });
        let initiator_name: Option<IscsiName> = self.identity.as_ref().map(|identity| identity.initiator_name.clone());
        self.events.push_back(LoginEvent::Failed(LoginFailure { status, fault, initiator_name }));
    }
}

impl Constants {
    fn of(request: &LoginRequest) -> Self {
        Self {
            isid: request.isid,
            tsih: request.tsih,
            cid: request.cid,
            initiator_task_tag: request.initiator_task_tag,
            cmd_sn: request.cmd_sn,
        }
    }

    fn check(&self, request: &LoginRequest) -> Result<(), LoginFault> {
        let now = Self::of(request);
        let changed = match () {
            () if self.isid != now.isid => "ISID",
            () if self.tsih != now.tsih => "TSIH",
            () if self.cid != now.cid => "CID",
            () if self.initiator_task_tag != now.initiator_task_tag => "the initiator task tag",
            () if self.cmd_sn != now.cmd_sn => "CmdSN",
            () => return Ok(()),
        };
        Err(LoginFault::Changed(changed))
    }
}

/// Finds the names in the first text (RFC 7143 6.3: they must be there).
fn identify(text: &[u8], request: &LoginRequest) -> Result<LoginIdentity, LoginFault> {
    let pairs = text::parse(text)?;
    let find = |key: Key| pairs.iter().find(|&&(name, _)| name == key.name()).map(|&(_, value)| value);
    let name = |key: Key| {
        let parse = |value| IscsiName::from_wire(value).map_err(|error| LoginFault::Name { key, error });
        find(key).map(parse).transpose()
    };
    let session_type = match find(Key::SessionType) {
        None | Some("Normal") => SessionType::Normal,
        Some("Discovery") => SessionType::Discovery,
        Some(other) => {
            let value = shorten(other);
            return Err(NegotiationError::BadValue { key: Key::SessionType, value }.into());
        }
    };
    let initiator_name = name(Key::InitiatorName)?.ok_or(LoginFault::MissingKey(Key::InitiatorName))?;
    let target_name = match find(Key::TargetName) {
        // Discovery needs no target; what some send for want of one is not looked at.
        _ if session_type == SessionType::Discovery => name(Key::TargetName).ok().flatten(),
        None => return Err(LoginFault::MissingKey(Key::TargetName)),
        Some(_) => name(Key::TargetName)?,
    };
    Ok(LoginIdentity {
        initiator_name,
        initiator_alias: find(Key::InitiatorAlias).map(str::to_owned),
        target_name,
        session_type,
        isid: request.isid,
        tsih: request.tsih,
        cid: request.cid,
        cmd_sn: request.cmd_sn,
    })
}

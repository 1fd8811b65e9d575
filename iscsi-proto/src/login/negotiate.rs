//! The negotiation of operational parameters, the same on both sides, in the login and in full feature phase
//! (RFC 7143 6.2, 13).

use bytes::Bytes;
use thiserror::Error;

use super::parameters::{Parameters, Preferences, clamp};
use super::{Role, SessionType};
use crate::text::{
    self, IRRELEVANT, Key, KeyType, NOT_UNDERSTOOD, Phases, REJECT, Senders, Sessions, TextError, TextWriter,
    parse_bool, parse_number,
};

/// Why a negotiation fails. The peer's fault.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum NegotiationError {
    /// The text is malformed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// A key came twice (RFC 7143 6.3).
    #[error("key {} came twice", .0.name())]
    Duplicate(Key),
    /// The other side's key.
    #[error("key {} is not the peer's to send", .0.name())]
    WrongSender(Key),
    /// The key has no place in this stage.
    #[error("key {} does not belong into this stage", .0.name())]
    WrongPhase(Key),
    /// An answer that does not follow from what we offered.
    #[error("answer {value:?} to key {} does not follow from our offer", .key.name())]
    BadAnswer {
        /// The key.
        key: Key,
        /// The value, cut to 64 characters.
        value: String,
    },
    /// A declared value that is malformed, too long or out of range.
    #[error("value {value:?} of key {} is not allowed", .key.name())]
    BadValue {
        /// The key.
        key: Key,
        /// The value, cut to 64 characters.
        value: String,
    },
    /// A digest we require is not to be had.
    #[error("the peer does not agree to a digest that is required here")]
    DigestRequired,
}

/// The negotiation between one side and its peer.
///
/// Feed the peer's pairs with [`Negotiator::handle_pair`], take what is to be sent with [`Negotiator::take_reply`].
/// A further negotiation in full feature phase is another one, begun with the present values.
#[derive(Clone, Debug)]
pub struct Negotiator {
    role: Role,
    preferences: Preferences,
    values: Parameters,
    session_type: SessionType,
    /// This login makes the session, so keys that are its first connection's alone may be negotiated.
    leading: bool,
    /// Keys offered by us, not yet answered.
    offered: u64,
    /// Keys the peer has sent.
    received: u64,
    /// Keys we have declared.
    declared: u64,
    reply: TextWriter,
    send_targets: Option<String>,
}

impl Negotiator {
    /// The negotiation of a login that makes a new session.
    pub fn leading(role: Role, preferences: Preferences) -> Self {
        Self::new(role, preferences, Parameters::default(), true)
    }

    /// The negotiation of a further connection, or of full feature phase, from these values on.
    pub fn further(role: Role, preferences: Preferences, values: Parameters) -> Self {
        Self::new(role, preferences, values, false)
    }

    fn new(role: Role, preferences: Preferences, values: Parameters, leading: bool) -> Self {
        Self {
            role,
            preferences,
            values,
            session_type: SessionType::Normal,
            leading,
            offered: 0,
            received: 0,
            declared: 0,
            reply: TextWriter::new(),
            send_targets: None,
        }
    }

    /// In a discovery session most keys are irrelevant.
    pub fn set_session_type(&mut self, session_type: SessionType) {
        self.session_type = session_type;
    }

    /// The values agreed so far.
    pub fn parameters(&self) -> Parameters {
        let mut values = self.values;
        // Each was agreed on by itself; the burst bounds its first part (RFC 7143 13.14).
        values.session.first_burst_length = values.session.first_burst_length.min(values.session.max_burst_length);
        values
    }

    /// What is to be sent, answers and offers in order.
    pub fn take_reply(&mut self) -> Bytes {
        self.reply.take()
    }

    /// The value of SendTargets, if the peer asked.
    pub fn take_send_targets(&mut self) -> Option<String> {
        self.send_targets.take()
    }

    /// Whether no offer of ours waits for its answer.
    pub fn is_settled(&self) -> bool {
        self.offered == 0
    }

    /// Adds a pair of ours as it is: names, aliases, addresses.
    pub fn declare_text(&mut self, key: Key, value: &str) {
        self.declared |= key.bit();
        self.reply.push(key.name(), value);
    }

    /// Declares our MaxRecvDataSegmentLength, once.
    pub fn declare_receive_length(&mut self) {
        let key = Key::MaxRecvDataSegmentLength;
        if self.declared & key.bit() == 0 {
            let value = clamp(key, self.preferences.max_recv_data_segment_length);
            self.values.connection.max_recv_data_segment_length = value;
            self.declare_text(key, &value.to_string());
        }
    }

    /// Offers a key with our preferred value, unless the peer has brought it up already.
    pub fn offer(&mut self, key: Key) {
        if (self.received | self.offered | self.declared) & key.bit() != 0 {
            return;
        }
        let ours = clamp(key, self.preferences.session.number(key));
        let value = match key.spec().key_type {
            KeyType::And { .. } | KeyType::Or { .. } => yes_no(ours != 0).to_owned(),
            KeyType::Minimum { .. } | KeyType::Maximum { .. } => ours.to_string(),
            KeyType::List { .. } => self.preferences.list(key).to_owned(),
            _ => return,
        };
        self.offered |= key.bit();
        self.reply.push(key.name(), &value);
    }

    /// Offers every operational key that means something here. An initiator's first move in that stage.
    pub fn offer_all(&mut self) {
        for spec in Key::TABLE {
            let relevant = self.session_type == SessionType::Normal || spec.sessions == Sessions::Any;
            let negotiable = spec.phases.contains(Phases::OPERATIONAL) && (self.leading || !spec.leading_only);
            if relevant && negotiable {
                self.offer(spec.key);
            }
        }
    }

    /// Whether the required digests are there. If not, offers them, which the peer may not yet have had occasion to.
    ///
    /// # Errors
    /// The peer has had its say, and it was no.
    pub fn ensure_digests(&mut self) -> Result<bool, NegotiationError> {
        if self.preferences.satisfied_by(self.values.connection.digests) {
            return Ok(true);
        }
        let digests = self.values.connection.digests;
        if !self.preferences.header_satisfied_by(digests) {
            self.offer(Key::HeaderDigest);
        }
        if !self.preferences.data_satisfied_by(digests) {
            self.offer(Key::DataDigest);
        }
        if self.offered == 0 { Err(NegotiationError::DigestRequired) } else { Ok(false) }
    }

    /// Takes all pairs of a text.
    ///
    /// # Errors
    /// See [`NegotiationError`]; the negotiation is then over.
    pub fn handle_text(&mut self, text: &[u8], phase: Phases) -> Result<(), NegotiationError> {
        let mut pairs = text::parse(text)?;
        // What FirstBurstLength may be depends on MaxBurstLength, wherever that stands.
        pairs.sort_by_key(|&(name, _)| name == Key::FirstBurstLength.name());
        pairs.into_iter().try_for_each(|(name, value)| self.handle_pair(name, value, phase))
    }

    /// Takes one pair: an offer to be answered, the answer to an offer of ours, or a declaration.
    ///
    /// # Errors
    /// See [`NegotiationError`]; the negotiation is then over.
    pub fn handle_pair(&mut self, name: &str, value: &str, phase: Phases) -> Result<(), NegotiationError> {
        let Some(key) = Key::by_name(name) else {
            if !is_answer_word(value) {
                self.reply.push(name, NOT_UNDERSTOOD);
            }
            return Ok(());
        };
        let spec = key.spec();
        let sender = match self.role {
            Role::Target => Senders::INITIATOR,
            Role::Initiator => Senders::TARGET,
        };
        if !spec.senders.contains(sender) {
            return Err(NegotiationError::WrongSender(key));
        }
        let is_answer = self.offered & key.bit() != 0;
        if !is_answer {
            if !spec.phases.contains(phase) {
                // In full feature phase the session goes on; in a login it does not (RFC 7143 6.3, 6.4).
                if phase == Phases::FULL_FEATURE {
                    self.reply.push(name, REJECT);
                    return Ok(());
                }
                return Err(NegotiationError::WrongPhase(key));
            }
            if self.received & key.bit() != 0 && key != Key::TargetAddress {
                return Err(NegotiationError::Duplicate(key));
            }
        }
        self.received |= key.bit();
        if is_answer {
            self.offered &= !key.bit();
            return self.take_answer(key, value);
        }
        if spec.leading_only && !self.leading {
            // A declaration says again what the session already is; only an offer wants an answer.
            if !matches!(spec.key_type, KeyType::DeclaredChoice { .. } | KeyType::DeclaredText { .. }) {
                self.reply.push(name, REJECT);
            }
            return Ok(());
        }
        if spec.sessions == Sessions::Normal && self.session_type == SessionType::Discovery {
            self.reply.push(name, IRRELEVANT);
            return Ok(());
        }
        self.take_offer(key, value)
    }

    /// Applies the result function and answers.
    fn take_offer(&mut self, key: Key, value: &str) -> Result<(), NegotiationError> {
        let ours = clamp(key, self.preferences.session.number(key));
        let result = match key.spec().key_type {
            KeyType::And { .. } => parse_bool(value).map(|theirs| u32::from(theirs && ours != 0)),
            KeyType::Or { .. } => parse_bool(value).map(|theirs| u32::from(theirs || ours != 0)),
            KeyType::Minimum { range, .. } => {
                let ours = match key {
                    Key::FirstBurstLength => ours.min(self.values.session.max_burst_length),
                    _ => ours,
                };
                in_range(value, range).map(|theirs| theirs.min(ours))
            }
            KeyType::Maximum { range, .. } => in_range(value, range).map(|theirs| theirs.max(ours)),
            KeyType::List { .. } => {
                let choice = value.split(',').find(|choice| self.preferences.accepts(key, choice));
                if let Some(choice) = choice {
                    self.values.set_choice(key, choice);
                }
                self.reply.push(key.name(), choice.unwrap_or(REJECT));
                return Ok(());
            }
            KeyType::Obsolete { answer } => {
                self.reply.push(key.name(), answer);
                return Ok(());
            }
            KeyType::Request => {
                self.send_targets = Some(value.to_owned());
                return Ok(());
            }
            KeyType::DeclaredNumber { .. } | KeyType::DeclaredChoice { .. } | KeyType::DeclaredText { .. } => {
                return self.take_declaration(key, value);
            }
            // The security exchange takes its keys before they get here.
            KeyType::Security => return Err(NegotiationError::WrongPhase(key)),
        };
        let Some(result) = result else {
            // Both sides keep what they have (RFC 7143 6.2).
            self.reply.push(key.name(), REJECT);
            return Ok(());
        };
        self.values.session.set_number(key, result);
        match key.spec().key_type {
            KeyType::And { .. } | KeyType::Or { .. } => self.reply.push(key.name(), yes_no(result != 0)),
            _ => self.reply.push(key.name(), &result.to_string()),
        }
        Ok(())
    }

    fn take_declaration(&mut self, key: Key, value: &str) -> Result<(), NegotiationError> {
        let allowed = match key.spec().key_type {
            KeyType::DeclaredNumber { range, .. } => match in_range(value, range) {
                Some(number) => {
                    if key == Key::MaxRecvDataSegmentLength {
                        self.values.connection.max_send_data_segment_length = number;
                    }
                    true
                }
                None => false,
            },
            KeyType::DeclaredChoice { values, .. } => values.contains(&value),
            KeyType::DeclaredText { limit } => value.len() <= limit,
            _ => true,
        };
        if allowed { Ok(()) } else { Err(NegotiationError::BadValue { key, value: shorten(value) }) }
    }

    /// Takes the answer to an offer of ours. A word instead of a value leaves things as they were.
    fn take_answer(&mut self, key: Key, value: &str) -> Result<(), NegotiationError> {
        if is_answer_word(value) {
            return Ok(());
        }
        let ours = clamp(key, self.preferences.session.number(key));
        let result = match key.spec().key_type {
            KeyType::And { .. } => parse_bool(value).map(u32::from).filter(|&result| result <= ours),
            KeyType::Or { .. } => parse_bool(value).map(u32::from).filter(|&result| result >= ours),
            KeyType::Minimum { range, .. } => in_range(value, range).filter(|&result| result <= ours),
            KeyType::Maximum { range, .. } => in_range(value, range).filter(|&result| result >= ours),
            KeyType::List { .. } if self.preferences.list(key).split(',').any(|choice| choice == value) => {
                self.values.set_choice(key, value);
                return Ok(());
            }
            _ => None,
        };
        match result {
            Some(result) => {
                self.values.session.set_number(key, result);
                Ok(())
            }
            None => Err(NegotiationError::BadAnswer { key, value: shorten(value) }),
        }
    }
}

/// The outcome of a text in full feature phase.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TextReply {
    /// The pairs to send back.
    pub reply: Bytes,
    /// The value of SendTargets, whose answer the owner knows.
    pub send_targets: Option<String>,
}

/// Answers a whole text of the peer in full feature phase and brings `parameters` up to date.
///
/// # Errors
/// See [`NegotiationError`]; the parameters are then as before, and the text is to be rejected.
pub fn handle_full_feature_text(
    role: Role,
    session_type: SessionType,
    preferences: Preferences,
    parameters: &mut Parameters,
    text: &[u8],
) -> Result<TextReply, NegotiationError> {
    let mut negotiator = Negotiator::further(role, preferences, *parameters);
    negotiator.set_session_type(session_type);
    negotiator.handle_text(text, Phases::FULL_FEATURE)?;
    *parameters = negotiator.parameters();
    Ok(TextReply { reply: negotiator.take_reply(), send_targets: negotiator.take_send_targets() })
}

const fn yes_no(value: bool) -> &'static str {
    if value { "Yes" } else { "No" }
}

fn is_answer_word(value: &str) -> bool {
    matches!(value, NOT_UNDERSTOOD | IRRELEVANT | REJECT)
}

fn in_range(value: &str, (least, most): (u32, u32)) -> Option<u32> {
    parse_number(value).and_then(|number| u32::try_from(number).ok()).filter(|number| (least..=most).contains(number))
}

pub(super) fn shorten(value: &str) -> String {
    value.chars().take(64).collect()
}

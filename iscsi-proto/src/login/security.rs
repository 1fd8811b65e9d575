//! The security negotiation stage as the target sees it: AuthMethod and CHAP (RFC 7143 12).

use bytes::Bytes;

use super::identity::LoginFault;
use super::negotiate::{NegotiationError, shorten};
use crate::auth::chap::{Algorithm, Authenticator, Credentials, MAX_CHALLENGE_BYTES, Proof};
use crate::text::{Key, NONE, TextWriter, decode_binary, encode_hex, parse_number};

/// How the initiator proves itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthPolicy {
    /// Not at all.
    None,
    /// By CHAP.
    Chap(ChapPolicy),
}

/// CHAP, with its randomness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChapPolicy {
    /// CHAP_I to send; random.
    pub identifier: u8,
    /// CHAP_C to send: 32 random bytes, never used before.
    pub challenge: Vec<u8>,
    /// The weakest algorithm taken.
    pub minimum: Algorithm,
    /// Who checks the initiator's proof.
    pub verifier: ChapVerifier,
    /// What to prove ourselves with when the initiator asks; without it such a login fails.
    pub mutual: Option<Credentials>,
}

/// Who checks the initiator's proof.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChapVerifier {
    /// We do, with these credentials.
    Credentials(Credentials),
    /// The owner does, asked by [`super::LoginEvent::Verify`]: RADIUS, whose CHAP-Password has room for MD5 alone
    /// (RFC 2865 5.3), which is therefore the only algorithm taken.
    External,
}

/// The security keys of one text, each at most once.
#[derive(Debug, Default)]
pub(super) struct SecurityKeys<'a> {
    pub(super) method: Option<&'a str>,
    pub(super) chap_a: Option<&'a str>,
    pub(super) chap_i: Option<&'a str>,
    pub(super) chap_c: Option<&'a str>,
    pub(super) chap_n: Option<&'a str>,
    pub(super) chap_r: Option<&'a str>,
}

impl<'a> SecurityKeys<'a> {
    pub(super) fn take(&mut self, key: Key, value: &'a str) -> Result<(), LoginFault> {
        let (place, limit) = match key {
            Key::AuthMethod => (&mut self.method, 255),
            Key::ChapA => (&mut self.chap_a, 255),
            Key::ChapI => (&mut self.chap_i, 255),
            Key::ChapN => (&mut self.chap_n, 255),
            // Binary values have their own bound.
            Key::ChapC => (&mut self.chap_c, usize::MAX),
            Key::ChapR => (&mut self.chap_r, usize::MAX),
            // Of a method that is never agreed on.
            _ => return Err(NegotiationError::WrongPhase(key).into()),
        };
        if value.len() > limit {
            return Err(bad_value(key, value));
        }
        match place.replace(value) {
            None => Ok(()),
            Some(_) => Err(NegotiationError::Duplicate(key).into()),
        }
    }

    /// CHAP_N and CHAP_R: both, or neither.
    pub(super) fn proof(&self) -> Result<Option<(&'a str, Vec<u8>)>, LoginFault> {
        match (self.chap_n, self.chap_r) {
            (None, None) => Ok(None),
            (Some(name), Some(response)) => Ok(Some((name, binary(Key::ChapR, response)?))),
            (None, Some(_)) => Err(LoginFault::MissingKey(Key::ChapN)),
            (Some(_), None) => Err(LoginFault::MissingKey(Key::ChapR)),
        }
    }

    /// CHAP_I and CHAP_C: both, or neither.
    pub(super) fn challenge(&self) -> Result<Option<(u8, Vec<u8>)>, LoginFault> {
        match (self.chap_i, self.chap_c) {
            (None, None) => Ok(None),
            (Some(identifier), Some(challenge)) => {
                let number = parse_number(identifier).and_then(|number| number.try_into().ok());
                let identifier = number.ok_or_else(|| bad_value(Key::ChapI, identifier))?;
                Ok(Some((identifier, binary(Key::ChapC, challenge)?)))
            }
            (None, Some(_)) => Err(LoginFault::MissingKey(Key::ChapI)),
            (Some(_), None) => Err(LoginFault::MissingKey(Key::ChapC)),
        }
    }

    fn first_chap_key(&self) -> Option<Key> {
        let keys = [
            (self.chap_a, Key::ChapA),
            (self.chap_i, Key::ChapI),
            (self.chap_c, Key::ChapC),
            (self.chap_n, Key::ChapN),
            (self.chap_r, Key::ChapR),
        ];
        keys.into_iter().find(|(value, _)| value.is_some()).map(|(_, key)| key)
    }
}

/// The exchange that proves who the initiator is, and if it asks, who we are.
///
/// ```text
///   WantMethod --AuthMethod--> WantAlgorithm --CHAP_A--> WantProof --CHAP_N, CHAP_R--> Judging --verdict--> Proved
/// ```
#[derive(Debug)]
pub(super) struct Security {
    state: State,
    reply: TextWriter,
    authenticated_as: Option<String>,
}

#[derive(Debug)]
enum State {
    /// Nothing to prove.
    Open {
        method_seen: bool,
    },
    WantMethod(ChapPolicy),
    WantAlgorithm(ChapPolicy),
    WantProof {
        policy: ChapPolicy,
        authenticator: Authenticator,
    },
    Judging {
        policy: ChapPolicy,
        authenticator: Authenticator,
        proof: Proof,
        challenge: Option<(u8, Vec<u8>)>,
    },
    Proved,
    /// An error was returned; the login is over.
    Failed,
}

impl Security {
    pub(super) fn new(policy: AuthPolicy) -> Self {
        let state = match policy {
            AuthPolicy::None => State::Open { method_seen: false },
            AuthPolicy::Chap(policy) => State::WantMethod(policy),
        };
        Self { state, reply: TextWriter::new(), authenticated_as: None }
    }

    /// Before the owner has said what it wants.
    pub(super) fn open() -> Self {
        Self::new(AuthPolicy::None)
    }

    /// Whether the stage may be left.
    pub(super) fn is_complete(&self) -> bool {
        matches!(self.state, State::Open { .. } | State::Proved)
    }

    pub(super) fn authenticated_as(&self) -> Option<&str> {
        self.authenticated_as.as_deref()
    }

    pub(super) fn take_reply(&mut self) -> Bytes {
        self.reply.take()
    }

    /// Takes the keys of a text. A proof in return is the owner's to judge: [`Security::verified`].
    pub(super) fn handle(&mut self, keys: &SecurityKeys<'_>, transit: bool) -> Result<Option<Proof>, LoginFault> {
        if let Some(methods) = keys.method {
            self.choose_method(methods)?;
        }
        let Some(key) = keys.first_chap_key() else {
            return match self.state {
                // It goes on without even offering: there is nothing left to wait for.
                State::WantMethod(_) if transit => Err(LoginFault::AuthenticationRequired),
                _ => Ok(None),
            };
        };
        match std::mem::replace(&mut self.state, State::Failed) {
            State::WantAlgorithm(policy) => self.choose_algorithm(policy, keys).map(|()| None),
            State::WantProof { policy, mut authenticator } if keys.chap_a.is_none() => {
                let (name, response) = keys.proof()?.ok_or(LoginFault::MissingKey(Key::ChapR))?;
                let challenge = keys.challenge()?;
                let proof = authenticator.response(name, &response)?;
                let verdict = match &policy.verifier {
                    ChapVerifier::Credentials(credentials) => Some(proof.verify_credentials(credentials)),
                    ChapVerifier::External => None,
                };
                self.state = State::Judging { policy, authenticator, proof: proof.clone(), challenge };
                match verdict {
                    Some(is_right) => self.verified(is_right).map(|()| None),
                    None => Ok(Some(proof)),
                }
            }
            State::WantProof { .. } => Err(NegotiationError::Duplicate(Key::ChapA).into()),
            _ => Err(NegotiationError::WrongPhase(key).into()),
        }
    }

    /// Ends the exchange with the verdict, and proves ourselves if asked to.
    pub(super) fn verified(&mut self, is_right: bool) -> Result<(), LoginFault> {
        let State::Judging { policy, authenticator, proof, challenge } =
            std::mem::replace(&mut self.state, State::Failed)
        else {
            return Err(LoginFault::OutOfTurn);
        };
        if !is_right {
            return Err(LoginFault::WrongProof { name: proof.name });
        }
        if let Some((identifier, challenge)) = challenge {
            let ours = policy.mutual.ok_or(LoginFault::NoCredentials)?;
            let response = authenticator.answer(identifier, &challenge, ours.secret.as_bytes())?;
            self.reply.push(Key::ChapN.name(), &ours.name);
            self.reply.push(Key::ChapR.name(), &encode_hex(&response));
        }
        self.authenticated_as = Some(proof.name);
        self.state = State::Proved;
        Ok(())
    }

    fn choose_method(&mut self, methods: &str) -> Result<(), LoginFault> {
        let offers = |method: &str| methods.split(',').any(|offered| offered == method);
        let method = match std::mem::replace(&mut self.state, State::Failed) {
            State::Open { method_seen: false } if offers(NONE) => {
                self.state = State::Open { method_seen: true };
                NONE
            }
            State::WantMethod(policy) if offers("CHAP") => {
                self.state = State::WantAlgorithm(policy);
                "CHAP"
            }
            State::Open { method_seen: false } | State::WantMethod(_) => {
                return Err(LoginFault::NoMethod(shorten(methods)));
            }
            _ => return Err(NegotiationError::Duplicate(Key::AuthMethod).into()),
        };
        self.reply.push(Key::AuthMethod.name(), method);
        Ok(())
    }

    fn choose_algorithm(&mut self, policy: ChapPolicy, keys: &SecurityKeys<'_>) -> Result<(), LoginFault> {
        let list = keys.chap_a.ok_or(LoginFault::MissingKey(Key::ChapA))?;
        let others = SecurityKeys { chap_a: None, ..*keys };
        if let Some(key) = others.first_chap_key() {
            return Err(NegotiationError::WrongPhase(key).into());
        }
        let offered = list.split(',').filter_map(|number| Some(Algorithm(parse_number(number)?.try_into().ok()?)));
        let external = matches!(policy.verifier, ChapVerifier::External);
        let offered = offered.filter(|algorithm| !external || *algorithm == Algorithm::MD5);
        let mut authenticator = Authenticator::new(offered, policy.minimum)?;
        let algorithm = authenticator.algorithm().unwrap_or(Algorithm::MD5);
        authenticator.challenge(policy.identifier, policy.challenge.clone());
        self.reply.push(Key::ChapA.name(), &algorithm.0.to_string());
        self.reply.push(Key::ChapI.name(), &policy.identifier.to_string());
        self.reply.push(Key::ChapC.name(), &encode_hex(&policy.challenge));
        self.state = State::WantProof { policy, authenticator };
        Ok(())
    }
}

fn binary(key: Key, value: &str) -> Result<Vec<u8>, LoginFault> {
    decode_binary(value, MAX_CHALLENGE_BYTES).map_err(|_| bad_value(key, value))
}

fn bad_value(key: Key, value: &str) -> LoginFault {
    NegotiationError::BadValue { key, value: shorten(value) }.into()
}

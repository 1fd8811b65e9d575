//! CHAP: a secret is proven without being sent (RFC 7143 12.1.3, RFC 1994).
//!
//! ```text
//!   authenticator                              peer
//!     CHAP_A  <------------------------------- algorithms, most wanted first
//!     CHAP_A, CHAP_I, CHAP_C ----------------> the one chosen, an identifier, a challenge
//!             <------------------------------- CHAP_N, CHAP_R: name, digest(identifier, secret, challenge)
//! ```
//!
//! In a login the target is the [`Authenticator`]. If the initiator adds CHAP_I and CHAP_C to its answer it asks the
//! target to prove itself with the same algorithm: mutual authentication, [`Authenticator::answer`].
//!
//! The types here hold bytes; hexadecimal and base64 forms are the text module's affair. Randomness comes from
//! the caller. A response is checked by [`Proof::verify`], or by somebody else: a [`Proof`] has all that a RADIUS
//! server needs.

use std::collections::VecDeque;
use std::fmt;

use md5::{Digest, Md5};
use sha1::Sha1;
use sha2::Sha256;
use sha3::Sha3_256;
use smallvec::SmallVec;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// A digest by its CHAP number (IANA, PPP Authentication Algorithms). Unknown numbers survive.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithm(pub u8);

/// The bytes of a response, 16 to 32 of them.
pub type ResponseBytes = SmallVec<[u8; 32]>;

impl Algorithm {
    /// MD5, 16 bytes. Every RFC 7143 implementation has it.
    pub const MD5: Self = Self(5);
    /// SHA-1, 20 bytes.
    pub const SHA1: Self = Self(6);
    /// SHA-256, 32 bytes.
    pub const SHA256: Self = Self(7);
    /// SHA3-256, 32 bytes.
    pub const SHA3_256: Self = Self(8);

    /// All that are implemented, weakest first.
    pub const SUPPORTED: [Self; 4] = [Self::MD5, Self::SHA1, Self::SHA256, Self::SHA3_256];

    /// How strong it is among the supported ones, 0 the weakest; `None` if it is not supported.
    pub fn strength(self) -> Option<usize> {
        Self::SUPPORTED.iter().position(|&supported| supported == self)
    }

    /// The first of `offered` that is supported and no weaker than `minimum`: the peer's preference decides among
    /// those that are good enough (RFC 7143 6.2.1).
    pub fn choose(offered: impl IntoIterator<Item = Self>, minimum: Self) -> Option<Self> {
        offered.into_iter().find(|algorithm| algorithm.strength() >= minimum.strength().max(Some(0)))
    }

    /// The response to a challenge: the digest of identifier, secret and challenge, in this order (RFC 1994 4.1).
    /// `None` if the algorithm is not supported.
    pub fn respond(self, identifier: u8, secret: &[u8], challenge: &[u8]) -> Option<ResponseBytes> {
        fn digest<D: Digest>(parts: [&[u8]; 3]) -> ResponseBytes {
            let mut digest = D::new();
            for part in parts {
                digest.update(part);
            }
            ResponseBytes::from_slice(&digest.finalize())
        }
        let parts = [&[identifier][..], secret, challenge];
        Some(match self {
            Self::MD5 => digest::<Md5>(parts),
            Self::SHA1 => digest::<Sha1>(parts),
            Self::SHA256 => digest::<Sha256>(parts),
            Self::SHA3_256 => digest::<Sha3_256>(parts),
            _ => return None,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::MD5 => f.write_str("MD5"),
            Self::SHA1 => f.write_str("SHA1"),
            Self::SHA256 => f.write_str("SHA-256"),
            Self::SHA3_256 => f.write_str("SHA3-256"),
            Self(number) => write!(f, "algorithm {number}"),
        }
    }
}

impl fmt::Debug for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A CHAP secret: wiped when dropped, never printed, compared in constant time.
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

impl Secret {
    /// Takes the secret's bytes. Their length is the administrator's to choose; COMSTAR takes 12 to 255.
    pub fn new(secret: impl Into<Vec<u8>>) -> Self {
        Self(Zeroizing::new(secret.into()))
    }

    /// The bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(redacted)")
    }
}

/// A name (CHAP_N) and its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// The name.
    pub name: String,
    /// The secret.
    pub secret: Secret,
}

/// What a peer sent to prove that it knows a secret, with the challenge that it answers.
#[derive(Clone, PartialEq, Eq)]
pub struct Proof {
    /// The name it gave (CHAP_N).
    pub name: String,
    /// The algorithm agreed on.
    pub algorithm: Algorithm,
    /// The identifier of the challenge (CHAP_I).
    pub identifier: u8,
    /// The challenge (CHAP_C).
    pub challenge: Vec<u8>,
    /// The response (CHAP_R).
    pub response: Vec<u8>,
}

impl Proof {
    /// Whether the response is the one that `secret` gives. Takes the same time for every response of the right
    /// length.
    pub fn verify(&self, secret: &[u8]) -> bool {
        match self.algorithm.respond(self.identifier, secret, &self.challenge) {
            Some(expected) => expected.as_slice().ct_eq(&self.response).into(),
            None => false,
        }
    }
}

impl Proof {
    /// Whether it proves these credentials, name and secret.
    pub fn verify_credentials(&self, credentials: &Credentials) -> bool {
        let name: bool = self.name.as_bytes().ct_eq(credentials.name.as_bytes()).into();
        self.verify(credentials.secret.as_bytes()) && name
    }
}

impl fmt::Debug for Proof {
    /// Without challenge and response: together they allow a dictionary attack.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proof").field("name", &self.name).field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

/// Why a CHAP exchange cannot go on. To the peer all of them are an authentication failure.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChapError {
    /// No algorithm in common.
    #[error("peer offered no CHAP algorithm of at least {minimum}")]
    NoAlgorithm {
        /// The weakest that is accepted.
        minimum: Algorithm,
    },
    /// The response has not the length of the algorithm's digest.
    #[error("peer sent a CHAP response of {got} bytes, {algorithm} has {expected}")]
    ResponseLength {
        /// The algorithm.
        algorithm: Algorithm,
        /// Bytes sent.
        got: usize,
        /// Bytes of the digest.
        expected: usize,
    },
    /// The peer sent our own challenge back to have it answered by us (RFC 7143 12.1.3).
    #[error("peer reflected the CHAP challenge")]
    Reflected,
    /// The peer's challenge is empty or longer than 1024 bytes (RFC 7143 12.1.3).
    #[error("peer sent a CHAP challenge of {got} bytes, 1 to 1024 are allowed")]
    ChallengeLength {
        /// Bytes sent.
        got: usize,
    },
    /// The peer proved itself with our own secret: one secret must not serve both directions (RFC 7143 12.1.3).
    #[error("the same CHAP secret is set for both directions")]
    SharedSecret,
    /// An answer came with no challenge out, or a second time.
    #[error("peer sent a CHAP answer that no challenge asked for")]
    Unexpected,
}

/// Most bytes of a challenge (RFC 7143 12.1.3: binary values of up to 1024 bytes).
pub const MAX_CHALLENGE_BYTES: usize = 1024;

/// The side that challenges. One exchange each: a challenge is answered once, or never again.
pub struct Authenticator {
    state: State,
}

enum State {
    Chosen { algorithm: Algorithm },
    Challenged { algorithm: Algorithm, identifier: u8, challenge: Vec<u8> },
    Answered { proof: Box<Proof> },
    Spent,
}

impl Authenticator {
    /// Begins with the peer's list of algorithms, most wanted first.
    ///
    /// # Errors
    /// [`ChapError::NoAlgorithm`], if none is supported and at least `minimum`.
    pub fn new(offered: impl IntoIterator<Item = Algorithm>, minimum: Algorithm) -> Result<Self, ChapError> {
        let algorithm = Algorithm::choose(offered, minimum).ok_or(ChapError::NoAlgorithm { minimum })?;
        Ok(Self { state: State::Chosen { algorithm } })
    }

    /// The algorithm agreed on.
    pub fn algorithm(&self) -> Option<Algorithm> {
        match &self.state {
            State::Chosen { algorithm } | State::Challenged { algorithm, .. } => Some(*algorithm),
            State::Answered { proof } => Some(proof.algorithm),
            State::Spent => None,
        }
    }

    /// Sets the challenge that is sent: random bytes, as many as the digest has, never used before.
    pub fn challenge(&mut self, identifier: u8, challenge: Vec<u8>) {
        if let State::Chosen { algorithm } = self.state {
            self.state = State::Challenged { algorithm, identifier, challenge };
        }
    }

    /// Takes the peer's name and response; gives them as a [`Proof`] to be judged.
    ///
    /// # Errors
    /// [`ChapError::ResponseLength`]; [`ChapError::Unexpected`] for a second answer to one challenge.
    pub fn response(&mut self, name: &str, response: &[u8]) -> Result<Proof, ChapError> {
        let State::Challenged { algorithm, identifier, challenge } = std::mem::replace(&mut self.state, State::Spent)
        else {
            return Err(ChapError::Unexpected);
        };
        let expected = algorithm.respond(0, b"", b"").map_or(0, |digest| digest.len());
        if response.len() != expected {
            return Err(ChapError::ResponseLength { algorithm, got: response.len(), expected });
        }
        let proof = Proof { name: name.to_owned(), algorithm, identifier, challenge, response: response.to_vec() };
        self.state = State::Answered { proof: Box::new(proof.clone()) };
        Ok(proof)
    }

    /// Answers the peer's own challenge with `secret`, for mutual authentication.
    ///
    /// # Errors
    /// [`ChapError::Reflected`], [`ChapError::ChallengeLength`]; [`ChapError::SharedSecret`] if the peer's proof was
    /// made with `secret`; [`ChapError::Unexpected`] before the peer's own answer.
    pub fn answer(&self, identifier: u8, challenge: &[u8], secret: &[u8]) -> Result<ResponseBytes, ChapError> {
        let State::Answered { proof } = &self.state else { return Err(ChapError::Unexpected) };
        if proof.challenge == challenge {
            return Err(ChapError::Reflected);
        }
        if proof.verify(secret) {
            return Err(ChapError::SharedSecret);
        }
        answer(proof.algorithm, identifier, challenge, secret)
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("algorithm", &self.algorithm()).finish_non_exhaustive()
    }
}

/// The challenges we sent lately, on all connections, so that one that is sent back is known for what it is.
///
/// Bounded: the oldest is forgotten first.
#[derive(Clone, Debug)]
pub struct ChallengeMemory {
    challenges: VecDeque<Vec<u8>>,
    limit: usize,
}

impl ChallengeMemory {
    /// Remembers at most `limit` challenges.
    pub fn new(limit: usize) -> Self {
        Self { challenges: VecDeque::new(), limit }
    }

    /// Adds a challenge of ours.
    pub fn remember(&mut self, challenge: &[u8]) {
        while self.challenges.len() >= self.limit.max(1) {
            self.challenges.pop_front();
        }
        self.challenges.push_back(challenge.to_vec());
    }

    /// Whether a peer's challenge is one of ours.
    pub fn contains(&self, challenge: &[u8]) -> bool {
        self.challenges.iter().any(|ours| ours == challenge)
    }
}

/// Answers a challenge: the peer's side.
///
/// # Errors
/// [`ChapError::ChallengeLength`]; [`ChapError::NoAlgorithm`], if `algorithm` is not supported.
pub fn answer(
    algorithm: Algorithm,
    identifier: u8,
    challenge: &[u8],
    secret: &[u8],
) -> Result<ResponseBytes, ChapError> {
    if !(1..=MAX_CHALLENGE_BYTES).contains(&challenge.len()) {
        return Err(ChapError::ChallengeLength { got: challenge.len() });
    }
    algorithm.respond(identifier, secret, challenge).ok_or(ChapError::NoAlgorithm { minimum: Algorithm::MD5 })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &[u8] = b"correct horse battery";

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn challenged(algorithm: Algorithm) -> Authenticator {
        let mut authenticator = Authenticator::new([algorithm], Algorithm::MD5).unwrap();
        authenticator.challenge(7, vec![0x5a; 16]);
        authenticator
    }

    #[test]
    fn responses_are_digests_of_identifier_secret_challenge() {
        // Each value: printf '\001secretchallenge' through md5sum, sha1sum, sha256sum, openssl dgst -sha3-256.
        for (algorithm, expected) in [
            (Algorithm::MD5, "46e47770030e2b4e26a0db72a7efec00"),
            (Algorithm::SHA1, "011f25d29fe1baaced569c0d7e4878e40ddb7d7e"),
            (Algorithm::SHA256, "2dfa0526f4764864b7c3c5bc6596bcead3d8dbd984f4fc1d9f330299f0beced4"),
            (Algorithm::SHA3_256, "9444877c4dff778ed2add0f102dcd561e11944e7e948ee1b89508451a9e680ad"),
        ] {
            assert_eq!(hex(&algorithm.respond(1, b"secret", b"challenge").unwrap()), expected);
        }
    }

    #[test]
    fn the_peers_first_good_enough_choice_wins() {
        let offered = [Algorithm(99), Algorithm::MD5, Algorithm::SHA256, Algorithm::SHA3_256];
        assert_eq!(Algorithm::choose(offered, Algorithm::MD5), Some(Algorithm::MD5));
        assert_eq!(Algorithm::choose(offered, Algorithm::SHA1), Some(Algorithm::SHA256));
        assert_eq!(Algorithm::choose([Algorithm::MD5, Algorithm(99)], Algorithm::SHA1), None);
    }

    #[test]
    fn an_unknown_algorithm_is_never_chosen_even_with_an_unknown_minimum() {
        assert_eq!(Algorithm::choose([Algorithm(99)], Algorithm(77)), None);
    }

    #[test]
    fn only_the_right_secret_verifies() {
        for algorithm in Algorithm::SUPPORTED {
            let response = algorithm.respond(7, SECRET, &[0x5a; 16]).unwrap();
            let proof = challenged(algorithm).response("host", &response).unwrap();
            assert!(proof.verify(SECRET));
            assert!(!proof.verify(b"wrong horse battery!"));
        }
    }

    #[test]
    fn a_response_of_another_length_is_refused() {
        assert!(matches!(challenged(Algorithm::MD5).response("host", &[0; 20]), Err(ChapError::ResponseLength { .. })));
    }

    #[test]
    fn a_challenge_is_answered_once() {
        let mut authenticator = challenged(Algorithm::MD5);
        authenticator.response("host", &[0; 16]).unwrap();
        assert_eq!(authenticator.response("host", &[0; 16]).unwrap_err(), ChapError::Unexpected);
    }

    #[test]
    fn our_own_challenge_is_not_answered() {
        let mut authenticator = challenged(Algorithm::SHA1);
        authenticator.response("host", &[0; 20]).unwrap();
        assert_eq!(authenticator.answer(9, &[0x5a; 16], SECRET), Err(ChapError::Reflected));
        assert!(authenticator.answer(9, &[0x5b; 16], SECRET).is_ok());
    }

    #[test]
    fn one_secret_for_both_directions_is_refused() {
        let mut authenticator = challenged(Algorithm::MD5);
        let response = Algorithm::MD5.respond(7, SECRET, &[0x5a; 16]).unwrap();
        authenticator.response("host", &response).unwrap();
        assert_eq!(authenticator.answer(9, &[1; 16], SECRET), Err(ChapError::SharedSecret));
    }

    #[test]
    fn a_proof_is_of_a_name_and_a_secret() {
        let response = Algorithm::MD5.respond(7, SECRET, &[0x5a; 16]).unwrap();
        let proof = challenged(Algorithm::MD5).response("host", &response).unwrap();
        let credentials = |name: &str| Credentials { name: name.into(), secret: Secret::new(SECRET) };
        assert!(proof.verify_credentials(&credentials("host")));
        assert!(!proof.verify_credentials(&credentials("Host")));
    }

    #[test]
    fn a_memory_forgets_the_oldest_challenge() {
        let mut memory = ChallengeMemory::new(2);
        [b"one", b"two", b"six"].iter().for_each(|challenge| memory.remember(*challenge));
        assert!(!memory.contains(b"one"));
        assert!(memory.contains(b"two") && memory.contains(b"six"));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", Secret::new("hidden")), "Secret(redacted)");
    }

    #[test]
    fn nothing_secret_is_printed() {
        let mut authenticator = challenged(Algorithm::MD5);
        let proof = authenticator.response("host", &[0x77; 16]).unwrap();
        let printed = format!("{authenticator:?} {proof:?}");
        assert!(!printed.contains("90") && !printed.contains("119"), "{printed}");
    }
}

//! Who logs in to what, and why it failed.

use thiserror::Error;

use super::NegotiationError;
use crate::auth::chap::ChapError;
use crate::name::{IscsiName, NameError};
use crate::pdu::{Cid, Isid, LoginStatus, Stage, Tsih};
use crate::sn::CmdSn;
use crate::text::{Key, TextError};

/// SessionType (RFC 7143 13.21).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum SessionType {
    /// To use a target.
    #[default]
    Normal,
    /// To ask which targets there are.
    Discovery,
}

impl SessionType {
    /// Its value in text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Discovery => "Discovery",
        }
    }
}

/// What the first text of a login tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginIdentity {
    /// InitiatorName.
    pub initiator_name: IscsiName,
    /// InitiatorAlias.
    pub initiator_alias: Option<String>,
    /// TargetName; always there in a normal session.
    pub target_name: Option<IscsiName>,
    /// SessionType.
    pub session_type: SessionType,
    /// The initiator's part of the session's name.
    pub isid: Isid,
    /// 0 for a new session, else the session to join.
    pub tsih: Tsih,
    /// The connection's name.
    pub cid: Cid,
    /// The session's first CmdSN in a leading login.
    pub cmd_sn: CmdSn,
}

impl LoginIdentity {
    /// Whether the login is to make a new session (or replace one of the same name).
    pub const fn is_leading(&self) -> bool {
        self.tsih.is_new()
    }
}

/// What went wrong in a login.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LoginFault {
    /// The initiator speaks no version we do.
    #[error("the initiator speaks version {min} to {max}, here is version 0")]
    Version {
        /// Version-min.
        min: u8,
        /// Version-max.
        max: u8,
    },
    /// The stages do not follow one another as they must.
    #[error("stage {next} after {current} is not a step of a login")]
    Stage {
        /// CSG.
        current: Stage,
        /// NSG.
        next: Stage,
    },
    /// T and C bit in one PDU.
    #[error("T and C bit in one request")]
    TransitAndContinue,
    /// ISID, TSIH, CID, task tag or CmdSN changed between two requests.
    #[error("{0} changed between two requests of a login")]
    Changed(&'static str),
    /// A request came before the last one was answered, or text while ours was not yet sent.
    #[error("a request out of turn")]
    OutOfTurn,
    /// A PDU that is no Login Request.
    #[error("a PDU other than a login request")]
    OtherPdu,
    /// More requests than a login takes.
    #[error("more than {0} requests")]
    TooManyExchanges(u32),
    /// A key that must come did not.
    #[error("no {}", .0.name())]
    MissingKey(Key),
    /// A name that is none.
    #[error("{}: {error}", .key.name())]
    Name {
        /// The key.
        key: Key,
        /// What is wrong with it.
        error: NameError,
    },
    /// The text is malformed.
    #[error(transparent)]
    Text(#[from] TextError),
    /// The negotiation failed.
    #[error(transparent)]
    Negotiation(#[from] NegotiationError),
    /// No authentication method in common.
    #[error("no acceptable method in AuthMethod={0}")]
    NoMethod(String),
    /// The initiator must authenticate and does not try to.
    #[error("authentication is required")]
    AuthenticationRequired,
    /// The CHAP exchange failed.
    #[error(transparent)]
    Chap(#[from] ChapError),
    /// The name, or the response to our challenge, is wrong.
    #[error("wrong CHAP name or secret for {name:?}")]
    WrongProof {
        /// CHAP_N as it came.
        name: String,
    },
    /// The peer wants us to prove ourselves, and there is no secret to do it with.
    #[error("the peer asks for a proof of ours, but no secret is set for it")]
    NoCredentials,
    /// The target did not prove who it is.
    #[error("the target did not prove that it knows the secret")]
    TargetNotAuthenticated,
    /// The owner refused, for a reason of its own.
    #[error("refused: {0}")]
    Refused(LoginStatus),
    /// The peer refused.
    #[error("the target answered: {0}")]
    Answered(LoginStatus),
    /// A response that does not belong to the request.
    #[error("malformed response: {0}")]
    Response(&'static str),
}

impl LoginFault {
    /// The status that says it to the initiator (RFC 7143 11.13.5): one table for all of them.
    pub fn status(&self) -> LoginStatus {
        match self {
            Self::Version { .. } => LoginStatus::UNSUPPORTED_VERSION,
            Self::OtherPdu => LoginStatus::INVALID_DURING_LOGIN,
            Self::MissingKey(_) => LoginStatus::MISSING_PARAMETER,
            Self::NoMethod(_)
            | Self::AuthenticationRequired
            | Self::Chap(_)
            | Self::WrongProof { .. }
            | Self::NoCredentials
            | Self::TargetNotAuthenticated => LoginStatus::AUTHENTICATION_FAILURE,
            Self::Negotiation(NegotiationError::BadValue { key: Key::SessionType, .. }) => {
                LoginStatus::SESSION_TYPE_NOT_SUPPORTED
            }
            Self::Refused(status) | Self::Answered(status) => *status,
            _ => LoginStatus::INITIATOR_ERROR,
        }
    }
}

/// A failed login, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoginFailure {
    /// The status sent.
    pub status: LoginStatus,
    /// What went wrong.
    pub fault: LoginFault,
    /// Who it was, if that became known.
    pub initiator_name: Option<IscsiName>,
}

//! Why an operation was refused.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Why an operation was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// What kind of refusal.
    pub kind: ErrorKind,
    /// The words of COMSTAR's commands, without the command's name.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The exit status of `itadm` for it; an errno value where there is one.
    #[serde(default = "one")]
    pub code: u8,
}

fn one() -> u8 {
    1
}

/// Kinds of refusals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The request itself is wrong.
    Invalid,
    /// No such object.
    NotFound,
    /// There is one already.
    Exists,
    /// Something else is in the way.
    Conflict,
    /// It is in use.
    Busy,
    /// It takes a running server, or one that answers.
    Unavailable,
    /// It takes longer than the time allowed.
    TimedOut,
    /// The caller may not.
    Denied,
    /// The server failed.
    Internal,
}

impl ApiError {
    /// A refusal with these words.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let code = match kind {
            ErrorKind::NotFound => 2,
            ErrorKind::Denied => 13,
            ErrorKind::Busy | ErrorKind::Conflict => 16,
            ErrorKind::Exists => 17,
            ErrorKind::Invalid => 22,
            ErrorKind::Unavailable | ErrorKind::TimedOut | ErrorKind::Internal => 1,
        };
        Self { kind, message: message.into(), hint: None, code }
    }

    /// The same with what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The HTTP status.
    pub fn http_status(&self) -> u16 {
        match self.kind {
            ErrorKind::Invalid => 400,
            ErrorKind::Denied => 403,
            ErrorKind::NotFound => 404,
            ErrorKind::Exists | ErrorKind::Conflict | ErrorKind::Busy => 409,
            ErrorKind::Internal => 500,
            ErrorKind::Unavailable => 503,
            ErrorKind::TimedOut => 504,
        }
    }
}

//! How the errors of the models become those of the API.

use iscsit::config as iscsi;
use lu_sbd::properties::PropertyError;
use stmf::config::ConfigError;

use crate::admin::api::{ApiError, ErrorKind};
use crate::admin::live::LiveError;
use crate::config_store::StoreError;

impl From<ConfigError> for ApiError {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::GroupExists { .. } | ConfigError::MemberExists { .. } => ErrorKind::Exists,
            ConfigError::GroupNotFound { .. }
            | ConfigError::MemberNotFound { .. }
            | ConfigError::NoViews(_)
            | ConfigError::ViewNotFound { .. } => ErrorKind::NotFound,
            ConfigError::GroupInUse { .. } => ErrorKind::Busy,
            ConfigError::ViewExists { .. } | ConfigError::LunInUse { .. } | ConfigError::NoFreeLun => {
                ErrorKind::Conflict
            }
            _ => ErrorKind::Invalid,
        };
        Self::new(kind, error.to_string()).hint(error.hint())
    }
}

impl From<iscsi::ConfigError> for ApiError {
    fn from(error: iscsi::ConfigError) -> Self {
        let kind = match error.exit_code() {
            2 => ErrorKind::NotFound,
            16 => ErrorKind::Busy,
            17 => ErrorKind::Exists,
            _ => ErrorKind::Invalid,
        };
        Self { hint: error.hint(), code: error.exit_code(), ..Self::new(kind, error.to_string()) }
    }
}

impl From<PropertyError> for ApiError {
    fn from(error: PropertyError) -> Self {
        Self::new(ErrorKind::Invalid, error.to_string()).hint(error.hint())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Locked { .. } => ErrorKind::Busy,
            StoreError::Io { source, .. } if source.kind() == std::io::ErrorKind::PermissionDenied => ErrorKind::Denied,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string()).hint(error.hint())
    }
}

/// A live object did not come to a state; `what` is "Logical Unit" or "Target" and `end` what COMSTAR puts behind.
pub(super) fn state_change(error: LiveError, name: &str, what: &str, end: &str) -> ApiError {
    match error {
        LiveError::NotFound => ApiError::new(ErrorKind::NotFound, format!("{name}: not found"))
            .hint("it went away while it was asked for; list again what there is"),
        LiveError::TimedOut => ApiError::new(
            ErrorKind::TimedOut,
            format!("{what} state change request submitted. Waiting for completion timed out{end}"),
        )
        .hint("commands still in flight hold it up; see 'lunette session list'"),
        error => ApiError::new(ErrorKind::Internal, format!("{name}: {error}")),
    }
}

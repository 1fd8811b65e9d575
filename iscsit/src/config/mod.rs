//! What an administrator sets of the iSCSI port provider: targets, portal groups, initiators, defaults.
//!
//! A pure model: no files, no clock, no randomness of its own. Every operation of `itadm` is a `plan_*` method that
//! checks the wish and gives the [`Change`]s which fulfil it; the caller makes them durable and then carries them out:
//!
//! ```
//! use iscsit::config::{Config, TargetPatch};
//!
//! let mut config = Config::default();
//! let wish = TargetPatch { name: Some("iqn.2026-11.org.example:disk1".into()), ..TargetPatch::default() };
//! let (name, change) = config.plan_create_target(&wish, [0; 16])?;
//! // ... write `change` to stable storage ...
//! config.commit(change);
//! assert_eq!(config.target("IQN.2026-11.org.example:disk1").unwrap().name, name);
//! # Ok::<(), iscsit::config::ConfigError>(())
//! ```

mod error;
mod load;
mod model;
mod name;
mod plan;
mod portal;
mod secret;
#[cfg(test)]
mod tests;

pub use error::{ConfigError, PropertyError, PropertyOwner, PropertyReason};
pub use load::LoadProblem;
pub use model::{AuthMethod, Change, ChapMinimum, Config, Defaults, Initiator, Redirection, TaggedGroup, Target};
pub use name::{IscsiName, NameError};
pub use plan::{DefaultsPatch, InitiatorPatch, Patch, TargetPatch};
pub use portal::{DEFAULT_TAG, ISCSI_PORT, Portal, PortalError, PortalGroup};
pub use secret::{Secret, SecretError};

//! Ports for virtual machines in the management API's types.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A port for a virtual machine on this host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct VhostPortInfo {
    /// Its name as a target.
    pub target: String,
    /// Its socket.
    pub path: PathBuf,
    /// The initiator that the guest is.
    pub initiator: String,
    /// Whether it is in the configuration; else it was given at the server's start and goes with it.
    pub kept: bool,
    /// Whether a monitor is connected.
    pub connected: bool,
    /// Why its socket cannot be made now; it is tried again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

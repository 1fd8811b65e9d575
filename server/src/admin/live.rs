//! What the management plane asks of a running server.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stmf::Guid;
use stmf::provider::LogicalUnit;

use super::fibre_channel::{FcPortInfo, FcQuestions};
use crate::fc::{FcDrivers, FcPort, Wwn};
use crate::model::{Configuration, Transaction};

/// A target port of this host's own virtual machines.
#[derive(Clone, Debug)]
pub struct LocalPort {
    /// Its name as a target.
    pub target: String,
    /// The one initiator that it has.
    pub initiator: String,
    /// Where it is reached.
    pub path: std::path::PathBuf,
    /// Why it cannot be reached there now.
    pub problem: Option<String>,
}

/// The live objects: logical units, targets and sessions of a running server.
///
/// The engine is the only caller. It validates a change, makes it durable, and only then publishes it here, so no
/// method can refuse a change of the configuration. Calls come from one thread at a time, but for
/// [`unregister_lu`](Self::unregister_lu) at the end of a server, and may wait (draining a unit) within the named limits
/// of the implementation.
pub trait Live: Send + Sync {
    /// Something about a logical unit that is online has changed: initiators that can be told without asking are told.
    fn lu_changed(&self, guid: Guid);

    /// Publishes a committed transaction; `configuration` is the state after it. Targets, portal groups and views of
    /// every session follow, sessions that are not concerned notice nothing. A new target goes online unless
    /// [`default_target_state`](stmf::config::Settings::default_target_state) says otherwise; sessions of a target
    /// that is gone are logged out.
    fn apply(&self, configuration: &Configuration, transaction: &Transaction);

    /// Makes a logical unit known, and reachable if `online`.
    ///
    /// # Errors
    /// [`LiveError::Exists`], if there is one of that name.
    fn register_lu(&self, lu: Arc<dyn LogicalUnit>, online: bool) -> Result<(), LiveError>;

    /// Takes a logical unit out of every session, waits until it has no task left, and forgets it: afterwards nobody
    /// but the caller holds it. Does nothing when there is none of that name.
    ///
    /// # Errors
    /// [`LiveError::TimedOut`], if tasks were left after the named limit; the unit is gone for initiators all the same.
    fn unregister_lu(&self, guid: Guid) -> Result<(), LiveError>;

    /// The state of a logical unit; `None` when it is not registered.
    fn lu_state(&self, guid: Guid) -> Option<ObjectState>;

    /// Brings a registered logical unit online or offline.
    ///
    /// # Errors
    /// [`LiveError::NotFound`]; [`LiveError::TimedOut`], when tasks did not end in time.
    fn set_lu_online(&self, guid: Guid, online: bool) -> Result<(), LiveError>;

    /// The state of a target by its folded name; `None` when no port provider has it.
    fn target_state(&self, name: &str) -> Option<ObjectState>;

    /// Brings a target online or offline; offline logs its sessions out first.
    ///
    /// # Errors
    /// [`LiveError::NotFound`]; [`LiveError::TimedOut`], when sessions did not end in time.
    fn set_target_online(&self, name: &str, online: bool) -> Result<(), LiveError>;

    /// The sessions, oldest first.
    fn sessions(&self) -> Vec<SessionInfo>;

    /// Ends a session: asks the initiator to log out, then drops it.
    ///
    /// # Errors
    /// [`LiveError::NotFound`].
    fn end_session(&self, id: u64) -> Result<(), LiveError>;

    /// Whether an initiator has logged in since the server started; `None` where nobody knows.
    fn has_logged_in(&self, initiator: &str) -> Option<bool> {
        let _ = initiator;
        None
    }

    /// The data path: how it runs and where it listens; `None` where there is none.
    fn data_path(&self) -> Option<DataPath> {
        None
    }

    /// What outside of the server does not answer as it should, one line each, for the status.
    fn troubles(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether a Fibre Channel port can be configured.
    ///
    /// # Errors
    /// Why not.
    fn check_fc_port(&self, port: &FcPort) -> Result<(), String> {
        FcDrivers::default().check(port)
    }

    /// The Fibre Channel ports that are open or should be: [`FcPortInfo::port_name`], `problem` and `adapter` are
    /// filled in.
    fn fc_ports(&self, questions: FcQuestions) -> Vec<FcPortInfo> {
        let _ = questions;
        Vec::new()
    }

    /// Sockets for virtual machines: those of the configuration and those that were given at the server's start.
    fn local_ports(&self) -> Vec<LocalPort> {
        Vec::new()
    }

    /// The provider and the alias of a Fibre Channel target by its folded name.
    fn fc_target(&self, name: &str) -> Option<(String, Option<String>)> {
        let _ = name;
        None
    }

    /// Initialises the link of a Fibre Channel port anew.
    ///
    /// # Errors
    /// [`LiveError::NotFound`]; what the driver says.
    fn reset_fc_link(&self, port: Wwn) -> Result<(), LiveError> {
        let _ = port;
        Err(LiveError::NotFound)
    }

    /// Plugs in or unplugs the cable of a Fibre Channel port in software.
    ///
    /// # Errors
    /// [`LiveError::NotFound`]; [`LiveError::Failed`] for a cable of metal or glass.
    fn set_fc_link(&self, port: Wwn, plugged: bool) -> Result<(), LiveError> {
        let _ = (port, plugged);
        Err(LiveError::NotFound)
    }

    /// Counters of targets and sessions, and of logical units as far as the port providers know them.
    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// How the data path runs and where it listens.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DataPath {
    /// The system interface in use: `io_uring` or `epoll`.
    pub interface: String,
    /// Its threads.
    pub threads: usize,
    /// What it listens on, the default portal group first.
    pub portals: Vec<SocketAddr>,
    /// Portals that cannot be listened on now, and why; they are tried again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed_portals: Vec<(SocketAddr, String)>,
}

/// Why a live object did not do as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LiveError {
    /// No such object.
    NotFound,
    /// There is one already.
    Exists,
    /// It was asked, and has not come there within the limit.
    TimedOut,
    /// It cannot, for this reason.
    Failed(String),
}

impl fmt::Display for LiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound => f.write_str("not found"),
            Self::Exists => f.write_str("already exists"),
            Self::TimedOut => f.write_str("timed out"),
            Self::Failed(reason) => f.write_str(reason),
        }
    }
}

impl std::error::Error for LiveError {}

/// The state of a logical unit or a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ObjectState {
    /// Nobody reaches it.
    Offline,
    /// On its way to online.
    Onlining,
    /// It works.
    Online,
    /// On its way to offline: draining.
    Offlining,
}

impl fmt::Display for ObjectState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Offline => "Offline",
            Self::Onlining => "Onlining",
            Self::Online => "Online",
            Self::Offlining => "Offlining",
        })
    }
}

/// A session (I_T nexus).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionInfo {
    /// Its number, for `lunette session kill`; never used again while the server runs.
    pub id: u64,
    /// The initiator's folded name.
    pub initiator: String,
    /// The alias the initiator gave.
    pub initiator_alias: Option<String>,
    /// The target's folded name.
    pub target: String,
    /// The target portal group tag by which it came in.
    pub tag: u16,
    /// Where its connections come from; the leading connection first.
    pub addresses: Vec<SocketAddr>,
    /// When it logged in.
    #[serde(with = "unix_seconds")]
    #[schemars(with = "u64")]
    pub since: SystemTime,
    /// How many LUNs it sees.
    pub luns: usize,
}

/// Counters, all since the start of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Statistics {
    /// By name of the logical unit, 32 upper-case digits.
    pub lus: std::collections::BTreeMap<String, Traffic>,
    /// By name of the target, with its sessions that have ended.
    pub targets: std::collections::BTreeMap<String, Traffic>,
    /// Of the sessions there are, by number.
    #[serde(default)]
    pub sessions: std::collections::BTreeMap<u64, Traffic>,
}

/// How much went through an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Traffic {
    /// Read commands.
    pub reads: u64,
    /// Write commands.
    pub writes: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Of a logical unit: operations of its store that failed. Of a target or session: commands that ended with another
    /// status than GOOD, unit attentions among them.
    pub errors: u64,
    /// Other commands.
    pub others: u64,
    /// Commands under way.
    pub queue_depth: u64,
    /// How long reads took.
    pub read_latency: Latency,
    /// How long writes took.
    pub write_latency: Latency,
}

/// How long commands took, from the command to its status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Latency {
    /// How many took up to 32 µs, up to 64 µs, and so on in powers of two up to 1.05 s; the last one: longer. Empty for
    /// none.
    pub counts: Vec<u64>,
    /// All of it together, in nanoseconds.
    pub sum_ns: u64,
}

impl Traffic {
    /// Adds another one up.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.errors += other.errors;
        self.others += other.others;
        self.queue_depth += other.queue_depth;
        self.read_latency.add(&other.read_latency);
        self.write_latency.add(&other.write_latency);
    }
}

impl Latency {
    fn add(&mut self, other: &Self) {
        self.counts.resize(self.counts.len().max(other.counts.len()), 0);
        self.counts.iter_mut().zip(&other.counts).for_each(|(mine, theirs)| *mine += theirs);
        self.sum_ns += other.sum_ns;
    }
}

impl From<stmf::traffic::Latency> for Latency {
    fn from(latency: stmf::traffic::Latency) -> Self {
        Self { counts: latency.counts.to_vec(), sum_ns: u64::try_from(latency.sum.as_nanos()).unwrap_or(u64::MAX) }
    }
}

impl From<stmf::traffic::Traffic> for Traffic {
    fn from(traffic: stmf::traffic::Traffic) -> Self {
        Self {
            reads: traffic.reads,
            writes: traffic.writes,
            read_bytes: traffic.read_bytes,
            written_bytes: traffic.written_bytes,
            errors: traffic.errors,
            others: traffic.others,
            queue_depth: traffic.queue_depth,
            read_latency: traffic.read_latency.into(),
            write_latency: traffic.write_latency.into(),
        }
    }
}

mod unix_seconds {
    use std::time::{Duration, SystemTime, UNIX_EPOCH};

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
        Ok(UNIX_EPOCH + Duration::from_secs(u64::deserialize(deserializer)?.min(1 << 40)))
    }
}

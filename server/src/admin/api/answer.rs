//! What is answered: reports and lists.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::ApiError;
use super::settings::RedirectSettings;
use crate::admin::fibre_channel::FcPortInfo;
use crate::admin::live::{DataPath, ObjectState, SessionInfo, Statistics, Traffic};
use crate::admin::vhost::VhostPortInfo;

/// What an operation gives back.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The change was made.
    Done(Done),
    /// The state of the service.
    State(ServiceState),
    /// Everything at one glance.
    Status(Box<StatusReport>),
    /// Groups.
    Groups(Vec<GroupInfo>),
    /// View entries.
    Views(Vec<ViewInfo>),
    /// How well units are reached through target groups.
    Access(Vec<AccessInfo>),
    /// Logical units.
    Lus(Vec<LuInfo>),
    /// Target ports.
    Ports(Vec<PortInfo>),
    /// iSCSI targets.
    Targets(Vec<TargetInfo>),
    /// Portal groups.
    PortalGroups(Vec<PortalGroupInfo>),
    /// Initiators' entries.
    Initiators(Vec<InitiatorInfo>),
    /// The defaults.
    Defaults(DefaultsInfo),
    /// Fibre Channel ports.
    FcPorts(Vec<FcPortInfo>),
    /// Ports for virtual machines.
    VhostPorts(Vec<VhostPortInfo>),
    /// Sessions.
    Sessions(Vec<SessionInfo>),
    /// Counters.
    Statistics(Statistics),
    /// What an initiator sees, and why.
    Explanation(Explanation),
    /// A TOML document.
    Document(String),
    /// What an import did or would do, one line each; empty: nothing differs.
    Plan(Vec<String>),
}

/// How well units are reached through a target group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AccessInfo {
    /// The target group; missing: the targets that are in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_group: Option<String>,
    /// TARGET PORT GROUP, by which initiators know it.
    pub number: u16,
    /// The state, as it is set.
    pub state: String,
    /// Initiators should like these paths best.
    pub preferred: bool,
}

/// A change was made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Done {
    /// The name of what was created or changed, where it has one of its own: a GUID, a target name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The view entry that was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub view: Option<ViewInfo>,
    /// The logical unit that was created or imported.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lu: Option<Box<LuInfo>>,
    /// What was not done of several things, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ApiError>,
    /// What the administrator should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// The state of the service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceState {
    /// Whether a server is running.
    pub online: bool,
    /// The state directory.
    pub state_directory: String,
    /// The version of the program that answers.
    pub version: String,
}

/// Everything at one glance.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct StatusReport {
    /// The service.
    pub service: ServiceState,
    /// The data path of a running server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_path: Option<DataPath>,
    /// What has gone through all targets since the server started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Traffic>,
    /// The logical units.
    pub lus: Vec<LuInfo>,
    /// The iSCSI targets.
    pub targets: Vec<TargetInfo>,
    /// The Fibre Channel ports.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fc_ports: Vec<FcPortInfo>,
    /// The ports for virtual machines.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vhost_ports: Vec<VhostPortInfo>,
    /// The sessions.
    pub sessions: Vec<SessionInfo>,
    /// What needs an administrator's attention.
    pub warnings: Vec<String>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GroupInfo {
    /// Its name.
    pub name: String,
    /// Its members in the order in which they were added.
    pub members: Vec<String>,
}

/// A view entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ViewInfo {
    /// The logical unit.
    pub lu: String,
    /// Its number among the entries of that unit.
    pub index: u32,
    /// The host group; missing for every initiator.
    pub host_group: Option<String>,
    /// The target group; missing for every target.
    pub target_group: Option<String>,
    /// The LUN.
    pub lun: u16,
}

/// A logical unit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LuInfo {
    /// Its name, 32 upper-case digits.
    pub guid: String,
    /// Its state; missing: not registered.
    pub state: Option<ObjectState>,
    /// How many view entries it has.
    pub view_entries: usize,
    /// What it is; missing when it is not registered.
    pub disk: Option<DiskInfo>,
    /// Where its data should be, when they cannot be used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file: Option<String>,
    /// Why it is not registered although it is configured, or what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// What a logical unit is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DiskInfo {
    /// Text for people.
    pub alias: String,
    /// Where its data are.
    pub data_file: String,
    /// Where its metadata are, if not beside the data.
    pub meta_file: Option<String>,
    /// Bytes.
    pub size: u64,
    /// Bytes in a logical block.
    pub block_size: u32,
    /// Where it is managed, separated by spaces.
    pub management_url: Option<String>,
    /// INQUIRY vendor.
    pub vendor: String,
    /// INQUIRY product.
    pub product: String,
    /// Unit serial number.
    pub serial: Option<String>,
    /// Writes are refused.
    pub write_protect: bool,
    /// Writes may stay in a cache until they are flushed.
    pub writeback_cache: bool,
    /// Operations in a second at most.
    #[serde(default)]
    pub iops_limit: Option<u64>,
    /// Operations that may go at once.
    #[serde(default)]
    pub iops_burst: Option<u64>,
    /// Bytes in a second at most.
    #[serde(default)]
    pub bandwidth_limit: Option<u64>,
    /// Bytes that may go at once.
    #[serde(default)]
    pub bandwidth_burst: Option<u64>,
}

/// A target port as the framework sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortInfo {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: ObjectState,
    /// The port provider: `iscsit`, or the name of the Fibre Channel adapter's driver.
    pub provider: String,
    /// Its alias.
    pub alias: Option<String>,
    /// The protocol: `iSCSI` or `Fibre Channel`.
    pub protocol: String,
    /// Its sessions, the newest last.
    pub sessions: Vec<SessionInfo>,
}

/// An iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetInfo {
    /// Its name.
    pub name: String,
    /// Its state; missing when no server is running.
    pub state: Option<ObjectState>,
    /// How many sessions it has.
    pub sessions: usize,
    /// Its alias.
    pub alias: Option<String>,
    /// `none`, `chap` or `radius`.
    pub auth: String,
    /// Whether that is the default and not set on the target.
    pub auth_is_default: bool,
    /// The CHAP user for mutual CHAP.
    pub chap_user: Option<String>,
    /// Whether it has a secret for mutual CHAP.
    pub chap_secret: bool,
    /// Its portal groups and their tags; empty means the default one.
    pub portal_groups: BTreeMap<String, u16>,
    /// Where its initiators are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect: Option<RedirectSettings>,
}

/// A portal group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PortalGroupInfo {
    /// Its name.
    pub name: String,
    /// Its portals.
    pub portals: Vec<String>,
}

/// The entry of an initiator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct InitiatorInfo {
    /// Its name.
    pub name: String,
    /// The CHAP user.
    pub chap_user: Option<String>,
    /// Whether it has a secret.
    pub chap_secret: bool,
}

/// The defaults.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DefaultsInfo {
    /// Alias of targets without one.
    pub alias: Option<String>,
    /// `none`, `chap` or `radius`; missing when it was never set, which means none.
    pub auth: Option<String>,
    /// RADIUS servers.
    pub radius_servers: Vec<String>,
    /// Whether there is a RADIUS secret.
    pub radius_secret: bool,
    /// Whether targets are registered with iSNS.
    pub isns: bool,
    /// iSNS servers.
    pub isns_servers: Vec<String>,
    /// Whether discovery demands CHAP.
    pub discovery_chap: bool,
    /// The weakest CHAP algorithm that logins may use.
    pub chap_minimum: String,
    /// `all` or `named`.
    pub access: String,
}

/// What an initiator sees, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Explanation {
    /// The initiator's folded name.
    pub initiator: String,
    /// The host group it is in.
    pub host_group: Option<String>,
    /// How many sessions it has now.
    pub sessions: usize,
    /// What an administrator may have meant otherwise: a name that was never seen, logical units open to everybody.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// For each target in question.
    pub targets: Vec<TargetExplanation>,
}

/// What an initiator sees at one target, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct TargetExplanation {
    /// The target.
    pub target: String,
    /// The target group it is in.
    pub target_group: Option<String>,
    /// Whether a login can succeed, and what it takes or what is in the way.
    pub login: Vec<String>,
    /// Whether a login can succeed.
    pub admitted: bool,
    /// The LUNs seen and the view entries that give them.
    pub seen: Vec<ViewInfo>,
    /// The logical units not seen, with the reason.
    pub unseen: Vec<Unseen>,
}

/// A logical unit that is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Unseen {
    /// The logical unit.
    pub lu: String,
    /// Why it is not seen.
    pub reason: String,
}

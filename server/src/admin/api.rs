//! The management API as types: requests, answers, errors. Commands, the HTTP server and `/openapi.json` share them.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stmf::config::GroupKind;

use crate::fc::FcMode;
use zeroize::ZeroizeOnDrop;

use super::fibre_channel::FcPortInfo;
use super::live::{DataPath, ObjectState, SessionInfo, Statistics, Traffic};
use super::vhost::VhostPortInfo;

/// One operation. Over HTTP it is `POST /v1/<operation>` with the parameters as a JSON object.
///
/// Names of logical units are 32 hexadecimal digits in either case; names of initiators and targets are folded
/// before they are looked up; group names are compared byte for byte.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "operation", content = "parameters", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// The state of the service.
    ListState {},
    /// Everything at one glance.
    Status {},

    /// Creates a host group or target group.
    CreateGroup {
        /// Which kind of group.
        kind: Kind,
        /// 1 to 255 bytes, not beginning with `*`.
        name: String,
    },
    /// Deletes a group that no view entry refers to.
    DeleteGroup {
        /// Which kind of group.
        kind: Kind,
        /// Its name.
        name: String,
    },
    /// Lists the groups of a kind with their members, in the order of their creation.
    ListGroups {
        /// Which kind of group.
        kind: Kind,
    },
    /// Adds members to a group. Those that cannot be added are told, the others are.
    AddMembers {
        /// Which kind of group.
        kind: Kind,
        /// The group's name.
        group: String,
        /// Names of initiators or targets; they need not exist.
        members: Vec<String>,
    },
    /// Removes members from a group. Those that cannot be removed are told, the others are.
    RemoveMembers {
        /// Which kind of group.
        kind: Kind,
        /// The group's name.
        group: String,
        /// Names of initiators or targets.
        members: Vec<String>,
    },

    /// Adds a view entry: shows a logical unit to initiators.
    AddView {
        /// The logical unit; it need not exist.
        lu: String,
        /// A host group; every initiator if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        host_group: Option<String>,
        /// A target group; every target if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_group: Option<String>,
        /// The LUN, 0 to 16383; the lowest free one if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lun: Option<u64>,
    },
    /// Removes view entries. Those that cannot be removed are told, the others are.
    RemoveViews {
        /// The logical unit.
        lu: String,
        /// Numbers of its entries; all of them if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        indexes: Option<Vec<u32>>,
    },
    /// Lists the view entries of one logical unit, or of all.
    ListViews {
        /// The logical unit.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        lu: Option<String>,
    },
    /// Lists how well units are reached through each target group: what ALUA tells initiators.
    ListAccess {},
    /// Sets how well units are reached through the ports of a target group.
    SetAccess {
        /// The target group; missing: the targets that are in none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target_group: Option<String>,
        /// `active-optimized`, `active-non-optimized`, `standby`, `unavailable` or `transitioning`.
        state: String,
        /// Initiators should like these paths best.
        #[serde(default)]
        preferred: bool,
    },

    /// Makes a logical unit of a file or block device.
    CreateLu {
        /// Its absolute path; a regular file or a block device.
        file: String,
        /// Its size as in `16G`; the size of the file if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<String>,
        /// Properties as `name=value`: alias, bandwidth-burst, bandwidth-limit, blk, guid,
        /// host-id, iops-burst, iops-limit, meta, mgmt-url, oui, pid, removable, serial, thin, vid, wcd, wp.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        properties: Vec<String>,
        /// Overwrite the identity of a logical unit that is there already.
        #[serde(default)]
        force: bool,
    },
    /// Takes over a logical unit with the identity that stands beside its data.
    ImportLu {
        /// The absolute path of its data, or of its metadata.
        file: String,
        /// Give it a new name: it is a copy of another one.
        #[serde(default)]
        new_guid: bool,
    },
    /// Changes a logical unit.
    ModifyLu {
        /// Its name, or the absolute path of its data.
        lu: String,
        /// Its new size as in `16G`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        size: Option<String>,
        /// Properties as `name=value`: alias, bandwidth-burst, bandwidth-limit, iops-burst,
        /// iops-limit, mgmt-url, wcd, wp.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        properties: Vec<String>,
    },
    /// Forgets a logical unit. Its data and its identity stay as they are.
    DeleteLu {
        /// Its name.
        lu: String,
        /// Keep its view entries.
        #[serde(default)]
        keep_views: bool,
    },
    /// Lists the logical units by name: those registered, and those that only have view entries. A long list is read
    /// in parts: `limit` units, then those `after` the last one.
    ListLus {
        /// Only units whose name is greater than this one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
        /// At most so many; all if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        limit: Option<usize>,
    },
    /// Brings a logical unit online or offline.
    SetLuState {
        /// Its name.
        lu: String,
        /// Online or offline.
        online: bool,
    },

    /// Forgets every persistent registration and reservation of a logical unit, for a host that is gone for good. Those
    /// that had one are told by unit attentions.
    ClearReservations {
        /// Its name.
        lu: String,
    },

    /// Lists the target ports as the framework sees them, the newest first.
    ListPorts {},
    /// Brings a target port online or offline.
    SetPortState {
        /// Its name.
        target: String,
        /// Online or offline.
        online: bool,
    },

    /// Creates an iSCSI target.
    CreateTarget {
        /// What to set; without a name it gets a generated one.
        #[serde(flatten)]
        settings: TargetSettings,
    },
    /// Changes an iSCSI target.
    ModifyTarget {
        /// Its name.
        target: String,
        /// What to set; a name renames it.
        #[serde(flatten)]
        settings: TargetSettings,
    },
    /// Deletes an iSCSI target.
    DeleteTarget {
        /// Its name.
        target: String,
        /// Log its sessions out and delete it although it is online.
        #[serde(default)]
        force: bool,
    },
    /// Lists the iSCSI targets by name.
    ListTargets {},
    /// Creates a portal group.
    CreatePortalGroup {
        /// Its name; a number from 2 to 65535 becomes its tag.
        name: String,
        /// `ADDRESS[:PORT]`, at least one.
        portals: Vec<String>,
    },
    /// Deletes a portal group.
    DeletePortalGroup {
        /// Its name.
        name: String,
        /// Delete it although targets use it.
        #[serde(default)]
        force: bool,
    },
    /// Lists the portal groups by name.
    ListPortalGroups {},
    /// Makes an entry for an initiator.
    CreateInitiator {
        /// Its name.
        initiator: String,
        /// What to set.
        #[serde(flatten)]
        settings: InitiatorSettings,
    },
    /// Changes the entry of an initiator.
    ModifyInitiator {
        /// Its name.
        initiator: String,
        /// What to set.
        #[serde(flatten)]
        settings: InitiatorSettings,
    },
    /// Deletes the entry of an initiator.
    DeleteInitiator {
        /// Its name.
        initiator: String,
    },
    /// Lists the initiators' entries by name.
    ListInitiators {},
    /// Changes the defaults.
    ModifyDefaults {
        /// What to set.
        #[serde(flatten)]
        settings: DefaultsSettings,
    },
    /// Shows the defaults.
    ListDefaults {},

    /// Makes a Fibre Channel port: opens an adapter and joins it to the framework.
    CreateFcPort {
        /// The driver that opens the adapter, as `softfc`.
        driver: String,
        /// Which end it is.
        #[serde(default)]
        mode: FcMode,
        /// Its port name, 16 digits; one is made up if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        port_name: Option<String>,
        /// Its node name; one that goes with the port name if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        node_name: Option<String>,
        /// The driver's options.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        options: BTreeMap<String, String>,
    },
    /// Forgets a Fibre Channel port and closes its adapter.
    DeleteFcPort {
        /// Its port name.
        port: String,
    },
    /// Lists the Fibre Channel ports by port name, with their links and who is logged in.
    ListFcPorts {
        /// Ask the targets that initiator ports are logged in to for their logical units.
        #[serde(default)]
        units: bool,
    },
    /// Initialises the link of a Fibre Channel port anew.
    ResetFcLink {
        /// Its port name.
        port: String,
    },
    /// Unplugs the cable of a Fibre Channel port in software, or plugs it in.
    SetFcLink {
        /// Its port name.
        port: String,
        /// Whether it is to be plugged in.
        plugged: bool,
    },

    /// Makes a port for a virtual machine: a socket to which its monitor connects (vhost-user-scsi).
    CreateVhostPort {
        /// The socket: an absolute path.
        path: PathBuf,
        /// What it is called as a target; made of the socket's name if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
        /// What the guest is called as an initiator; made of the socket's name if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        initiator: Option<String>,
    },
    /// Forgets a port for a virtual machine and closes its socket.
    DeleteVhostPort {
        /// Its socket, or its name as a target.
        port: String,
    },
    /// Lists the ports for virtual machines by their names as targets.
    ListVhostPorts {},

    /// Lists the sessions, the oldest first.
    ListSessions {},
    /// Ends a session.
    KillSession {
        /// Its number.
        id: u64,
    },
    /// What has gone through logical units and targets.
    Statistics {},
    /// Says which LUNs an initiator sees and why not the others.
    Explain {
        /// Its name.
        initiator: String,
        /// One target; all if missing.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<String>,
    },
    /// The whole configuration as a TOML document.
    ExportConfiguration {
        /// With the secrets in clear text.
        #[serde(default)]
        with_secrets: bool,
    },
    /// Makes the configuration equal to a TOML document, in one transaction, changing only what differs.
    ImportConfiguration {
        /// The document.
        document: String,
        /// Only tell what would be done.
        #[serde(default)]
        dry_run: bool,
        /// Paths that begin with the first of a pair begin with the second here.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        map_paths: Vec<(String, String)>,
        /// The portal that is the first of a pair is the second here.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        map_portals: Vec<(String, String)>,
    },
}

/// Host groups or target groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Groups of initiators.
    Host,
    /// Groups of targets.
    Target,
}

impl From<Kind> for GroupKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Host => Self::Host,
            Kind::Target => Self::Target,
        }
    }
}

/// A property in a change: missing leaves it, `null` unsets it, a value sets it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Field<T> {
    /// Leave it.
    #[default]
    Keep,
    /// Unset it.
    Clear,
    /// Set it.
    Set(T),
}

impl<T> Field<T> {
    /// Whether the property is left.
    pub fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The same with another kind of value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Field<U> {
        match self {
            Self::Keep => Field::Keep,
            Self::Clear => Field::Clear,
            Self::Set(value) => Field::Set(f(value)),
        }
    }
}

impl<T: Serialize> Serialize for Field<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Set(value) => serializer.serialize_some(value),
            Self::Keep | Self::Clear => serializer.serialize_none(),
        }
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Field<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::<T>::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

impl<T: JsonSchema> JsonSchema for Field<T> {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        Option::<T>::schema_name()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Option::<T>::json_schema(generator)
    }

    fn inline_schema() -> bool {
        true
    }
}

/// A secret on its way from an administrator to the configuration: plain on the wire, which is a socket only its
/// owner can open, wiped afterwards, and never printed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema, ZeroizeOnDrop)]
#[serde(transparent)]
pub struct SecretText(String);

impl SecretText {
    /// Takes a secret.
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The secret.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<redacted>")
    }
}

/// What to set on a target.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TargetSettings {
    /// Its name, `iqn.` or `eui.`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its alias, up to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub alias: Field<String>,
    /// `none`, `chap` or `radius`; unset follows the default.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub auth: Field<String>,
    /// The name the target proves itself under with mutual CHAP; its own name if unset.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_user: Field<String>,
    /// What the target proves itself with, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_secret: Field<SecretText>,
    /// All its portal groups; unset means the default one.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub portal_groups: Field<Vec<String>>,
    /// Where initiators that log in are sent instead.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub redirect: Field<RedirectSettings>,
}

/// Where the initiators of a target are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RedirectSettings {
    /// Portals, `ADDRESS[:PORT]`, port 3260 unless given.
    pub portals: Vec<String>,
    /// Whether the target has moved for good: the initiator may forget that it was here.
    #[serde(default)]
    pub permanent: bool,
}

/// What to set on an initiator's entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InitiatorSettings {
    /// The name it must give with CHAP; its own name if unset.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_user: Field<String>,
    /// The secret it must know, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub chap_secret: Field<SecretText>,
}

/// What to set of the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct DefaultsSettings {
    /// Alias of targets without one.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub alias: Field<String>,
    /// `none`, `chap` or `radius`.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub auth: Field<String>,
    /// RADIUS servers, `ADDRESS[:PORT]`, port 1812 unless given.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub radius_servers: Field<Vec<String>>,
    /// The secret shared with them, 12 to 255 bytes.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub radius_secret: Field<SecretText>,
    /// Whether targets are registered with iSNS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub isns: Option<bool>,
    /// iSNS servers, `ADDRESS[:PORT]`, port 3205 unless given, at most 8.
    #[serde(skip_serializing_if = "Field::is_keep")]
    pub isns_servers: Field<Vec<String>>,
    /// Whether discovery demands CHAP.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub discovery_chap: Option<bool>,
    /// The weakest CHAP algorithm that logins may use: `md5`, `sha1`, `sha256` or `sha3-256`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chap_minimum: Option<String>,
    /// `all`, or `named` to let only initiators in that have an entry or are in a host group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub access: Option<String>,
}

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

//! What is asked: one operation each.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use stmf::config::GroupKind;

use super::settings::{DefaultsSettings, InitiatorSettings, TargetSettings};
use crate::fc::FcMode;

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
        /// Ask the ports that are logged in for the errors of their links.
        #[serde(default)]
        link_errors: bool,
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

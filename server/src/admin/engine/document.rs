//! The configuration as a TOML document: its form, and the reading of it into models.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use iscsit::config as iscsi;
use iscsit::config::{
    AuthMethod, ChapMinimum, Defaults, DefaultsPatch, Initiator, InitiatorPatch, Patch, Portal, Redirection, Target,
    TargetPatch,
};
use serde::{Deserialize, Serialize};
use stmf::config::{Access, AccessState, DefaultState, GroupKind, NewView, PathAccess, Settings};

use crate::admin::api::{ApiError, ErrorKind};
use crate::fc::FcPort;
use crate::model::{Configuration, LuRecord};
use crate::vhost::VhostPort;

/// The form this program writes and reads.
const FORMAT: u32 = 1;

/// Everything an administrator configures. A table or key that is missing stands for its default, a secret that is
/// missing for the one that is there.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Document {
    pub(super) format: Option<u32>,
    pub(super) settings: SettingsTable,
    pub(super) defaults: DefaultsTable,
    #[serde(rename = "lu", skip_serializing_if = "Vec::is_empty")]
    pub(super) lus: Vec<LuRecord>,
    #[serde(rename = "host-group", skip_serializing_if = "Vec::is_empty")]
    pub(super) host_groups: Vec<GroupTable>,
    #[serde(rename = "target-group", skip_serializing_if = "Vec::is_empty")]
    pub(super) target_groups: Vec<GroupTable>,
    #[serde(rename = "access", skip_serializing_if = "Vec::is_empty")]
    pub(super) access: Vec<AccessTable>,
    #[serde(rename = "view", skip_serializing_if = "Vec::is_empty")]
    pub(super) views: Vec<ViewTable>,
    #[serde(rename = "portal-group", skip_serializing_if = "Vec::is_empty")]
    pub(super) portal_groups: Vec<PortalGroupTable>,
    #[serde(rename = "target", skip_serializing_if = "Vec::is_empty")]
    pub(super) targets: Vec<TargetTable>,
    #[serde(rename = "initiator", skip_serializing_if = "Vec::is_empty")]
    pub(super) initiators: Vec<InitiatorTable>,
    #[serde(rename = "fc-port", skip_serializing_if = "Vec::is_empty")]
    pub(super) fc_ports: Vec<FcPort>,
    #[serde(rename = "vhost-port", skip_serializing_if = "Vec::is_empty")]
    pub(super) vhost_ports: Vec<VhostPort>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct SettingsTable {
    access: Access,
    default_lu_state: DefaultState,
    default_target_state: DefaultState,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct DefaultsTable {
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<AuthMethod>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    radius_servers: Vec<Portal>,
    #[serde(skip_serializing_if = "Option::is_none")]
    radius_secret: Option<String>,
    isns: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    isns_servers: Vec<Portal>,
    discovery_chap: bool,
    chap_minimum: ChapMinimum,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GroupTable {
    pub(super) name: String,
    #[serde(default)]
    pub(super) members: Vec<String>,
}

/// How well units are reached through a target group, where that is not the default.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct AccessTable {
    /// Missing: the targets that are in none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target_group: Option<String>,
    #[serde(with = "access_state", default)]
    state: AccessState,
    #[serde(default)]
    preferred: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct ViewTable {
    #[serde(with = "stmf::guid")]
    pub(super) lu: stmf::Guid,
    pub(super) lun: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) host_group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target_group: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortalGroupTable {
    name: String,
    pub(super) portals: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct TargetTable {
    pub(super) name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth: Option<AuthMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_secret: Option<String>,
    /// Portal groups and their tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    portal_groups: BTreeMap<String, u16>,
    /// Where initiators are sent instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirection: Option<Redirection>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct InitiatorTable {
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_secret: Option<String>,
}

impl Document {
    /// The document of a configuration.
    pub(super) fn of(configuration: &Configuration, with_secrets: bool) -> Self {
        let Configuration { stmf, iscsi, lus, fc_ports, vhost_ports, .. } = configuration;
        // A secret that is no text cannot stand in TOML; it has to be given anew.
        let secret = |secret: &Option<iscsi::Secret>| {
            let secret = secret.as_ref().filter(|_| with_secrets)?;
            String::from_utf8(secret.expose().to_vec()).ok()
        };
        let groups = |kind| {
            let table = |group: &stmf::config::Group| GroupTable {
                name: group.name().to_owned(),
                members: group.members().map(ToString::to_string).collect(),
            };
            stmf.groups(kind).map(table).collect()
        };
        let name = |kind, id| stmf.group_by_id(kind, id).map(|group| group.name().to_owned());
        let settings = stmf.settings();
        let defaults = iscsi.defaults();
        Self {
            format: Some(FORMAT),
            settings: SettingsTable {
                access: settings.access,
                default_lu_state: settings.default_lu_state,
                default_target_state: settings.default_target_state,
            },
            defaults: DefaultsTable {
                alias: defaults.alias.clone(),
                auth: defaults.auth,
                radius_servers: defaults.radius_servers.clone(),
                radius_secret: secret(&defaults.radius_secret),
                isns: defaults.isns,
                isns_servers: defaults.isns_servers.clone(),
                discovery_chap: defaults.discovery_chap,
                chap_minimum: defaults.chap_minimum,
            },
            lus: lus.values().cloned().collect(),
            host_groups: groups(GroupKind::Host),
            target_groups: groups(GroupKind::Target),
            access: std::iter::once(None)
                .chain(stmf.groups(GroupKind::Target).map(Some))
                .map(|group| (group, stmf.access(group.map(stmf::config::Group::id))))
                .filter(|(_, access)| *access != PathAccess::default())
                .map(|(group, PathAccess { state, preferred })| AccessTable {
                    target_group: group.map(|group| group.name().to_owned()),
                    state,
                    preferred,
                })
                .collect(),
            views: stmf
                .all_views()
                .map(|entry| ViewTable {
                    lu: entry.lu,
                    lun: entry.lun,
                    host_group: entry.scope.host_group.and_then(|id| name(GroupKind::Host, id)),
                    target_group: entry.scope.target_group.and_then(|id| name(GroupKind::Target, id)),
                })
                .collect(),
            fc_ports: fc_ports.values().cloned().collect(),
            vhost_ports: vhost_ports.values().cloned().collect(),
            portal_groups: iscsi
                .portal_groups()
                .map(|group| PortalGroupTable {
                    name: group.name.clone(),
                    portals: group.portals.iter().map(Portal::to_string).collect(),
                })
                .collect(),
            targets: iscsi
                .targets()
                .map(|target| TargetTable {
                    name: target.name.to_string(),
                    alias: target.alias.clone(),
                    auth: target.auth,
                    chap_user: target.chap_user.clone(),
                    chap_secret: secret(&target.chap_secret),
                    portal_groups: target.portal_groups.iter().map(|g| (g.group.clone(), g.tag)).collect(),
                    redirection: target.redirection.clone(),
                })
                .collect(),
            initiators: iscsi
                .initiators()
                .map(|initiator| InitiatorTable {
                    name: initiator.name.to_string(),
                    chap_user: initiator.chap_user.clone(),
                    chap_secret: secret(&initiator.chap_secret),
                })
                .collect(),
        }
    }

    /// Reads a document.
    pub(super) fn parse(text: &str) -> Result<Self, ApiError> {
        let document: Self = toml::from_str(text).map_err(|error| {
            ApiError::new(ErrorKind::Invalid, error.to_string().trim_end().to_owned())
                .hint("'lunette config export' shows the form")
        })?;
        match document.format {
            None | Some(FORMAT) => Ok(document),
            Some(other) => {
                Err(ApiError::new(ErrorKind::Invalid, format!("the document has format {other}, this is {FORMAT}"))
                    .hint("use the version of lunette that wrote it"))
            }
        }
    }

    /// Puts other paths and portals in the place of those of the host it was written on.
    pub(super) fn relocate(&mut self, paths: &[(String, String)], portals: &[(String, String)]) {
        let moved = |path: &Path| -> PathBuf {
            for (old, new) in paths {
                if let Ok(rest) = path.strip_prefix(old) {
                    // Joining nothing would leave a separator at the end.
                    return if rest.as_os_str().is_empty() { new.into() } else { Path::new(new).join(rest) };
                }
            }
            path.to_owned()
        };
        for lu in &mut self.lus {
            lu.file = moved(&lu.file);
            lu.meta = lu.meta.as_deref().map(moved);
        }
        for portal in self.portal_groups.iter_mut().flat_map(|group| &mut group.portals) {
            let here: Option<Portal> = portal.parse().ok();
            for (old, new) in portals {
                // An address alone stands for each of its ports.
                let (old, new): (Option<Portal>, _) = (old.parse().ok(), new);
                let (Some(here), Some(old)) = (here, old) else { continue };
                if here == old {
                    *portal = new.clone();
                }
            }
        }
    }

    /// The settings of the framework.
    pub(super) fn settings(&self) -> Settings {
        Settings {
            access: self.settings.access,
            default_lu_state: self.settings.default_lu_state,
            default_target_state: self.settings.default_target_state,
        }
    }

    /// The iSCSI part as a configuration, with the secrets of `present` where the document has none.
    pub(super) fn iscsi(&self, present: &iscsi::Config) -> Result<iscsi::Config, ApiError> {
        let mut config = iscsi::Config::default();
        let secret = |text: &Option<String>, kept: Option<&iscsi::Secret>| match (text, kept) {
            (Some(text), _) => Patch::Set(text.as_bytes().to_vec()),
            (None, Some(kept)) => Patch::Set(kept.expose().to_vec()),
            (None, None) => Patch::Keep,
        };
        let set = |text: &Option<String>| text.clone().map_or(Patch::Keep, Patch::Set);
        let table = &self.defaults;
        config.commit(config.plan_modify_defaults(&DefaultsPatch {
            alias: set(&table.alias),
            auth: table.auth.map_or(Patch::Keep, Patch::Set),
            radius_servers: Patch::Set(table.radius_servers.clone()),
            radius_secret: secret(&table.radius_secret, present.defaults().radius_secret.as_ref()),
            isns: Some(table.isns),
            isns_servers: Patch::Set(table.isns_servers.clone()),
            discovery_chap: Some(table.discovery_chap),
            chap_minimum: Some(table.chap_minimum),
        })?);
        for group in &self.portal_groups {
            config.commit(config.plan_create_portal_group(&group.name, &group.portals)?);
        }
        for table in &self.targets {
            let kept = present.target(&table.name).and_then(|target| target.chap_secret.as_ref());
            let patch = TargetPatch {
                name: Some(table.name.clone()),
                alias: set(&table.alias),
                auth: table.auth.map_or(Patch::Keep, Patch::Set),
                chap_user: set(&table.chap_user),
                chap_secret: secret(&table.chap_secret, kept),
                portal_groups: Patch::Set(table.portal_groups.keys().cloned().collect()),
                redirection: table.redirection.clone().map_or(Patch::Keep, Patch::Set),
            };
            let (_, change) = config.plan_create_target(&patch, [0; 16])?;
            config.commit(match change {
                iscsi::Change::PutTarget(target) => iscsi::Change::PutTarget(tagged(target, table)?),
                change => change,
            });
        }
        for table in &self.initiators {
            let kept = present.initiator(&table.name).and_then(|initiator| initiator.chap_secret.as_ref());
            let patch =
                InitiatorPatch { chap_user: set(&table.chap_user), chap_secret: secret(&table.chap_secret, kept) };
            config.commit(config.plan_create_initiator(&table.name, &patch)?);
        }
        Ok(config)
    }

    /// Whether groups, members and views fit together.
    pub(super) fn check_stmf(&self) -> Result<(), ApiError> {
        let mut config = stmf::config::Config::new();
        for (kind, groups) in [(GroupKind::Host, &self.host_groups), (GroupKind::Target, &self.target_groups)] {
            for group in groups {
                config.commit(config.create_group(kind, &group.name)?);
                for member in &group.members {
                    config.commit(config.add_member(kind, &group.name, member)?);
                }
            }
        }
        let mut named = HashSet::new();
        for table in &self.access {
            let group = table.target_group.as_deref();
            config.commit(config.set_access(group, table.wish())?);
            if !named.insert(group) {
                let group = group.unwrap_or("targets in no group");
                return Err(ApiError::new(ErrorKind::Invalid, format!("access through {group} comes twice"))
                    .hint("one [[access]] for each target group"));
            }
        }
        for view in &self.views {
            let change = config.add_view(&view.wish())?.0;
            config.commit(change);
        }
        Ok(())
    }
}

impl AccessTable {
    /// What initiators are to be told.
    pub(super) fn wish(&self) -> PathAccess {
        PathAccess { state: self.state, preferred: self.preferred }
    }
}

/// States by the words of the command line.
mod access_state {
    use super::AccessState;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(state: &AccessState, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(state)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<AccessState, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(Error::custom)
    }
}

impl ViewTable {
    /// The view entry to be made.
    pub(super) fn wish(&self) -> NewView<'_> {
        NewView {
            lu: self.lu,
            host_group: self.host_group.as_deref(),
            target_group: self.target_group.as_deref(),
            lun: Some(self.lun.into()),
        }
    }
}

/// The target with the very tags of the document.
fn tagged(mut target: Target, table: &TargetTable) -> Result<Target, ApiError> {
    for group in &mut target.portal_groups {
        group.tag = table.portal_groups.get(&group.group).copied().unwrap_or(group.tag);
    }
    target.portal_groups.sort_by_key(|group| group.tag);
    let tags: Vec<u16> = target.portal_groups.iter().map(|group| group.tag).collect();
    if tags.iter().any(|tag| *tag < 2) || tags.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(ApiError::new(ErrorKind::Invalid, format!("target {}: its portal group tags clash", target.name))
            .hint("tags are from 2 to 65535, each once on a target"));
    }
    Ok(target)
}

/// One line for each object of the iSCSI provider that differs, and the change that makes it equal.
pub(super) fn difference(present: &iscsi::Config, wanted: &iscsi::Config) -> (Vec<String>, Vec<iscsi::Change>) {
    let (mut lines, mut changes) = (Vec::new(), Vec::new());
    let mut note = |verb: &str, object: String, change| {
        lines.push(format!("{verb} {object}"));
        changes.push(change);
    };
    for old in present.targets().filter(|old| wanted.target(old.name.as_str()).is_none()) {
        note("delete", format!("target {}", old.name), iscsi::Change::RemoveTarget(old.name.clone()));
    }
    for old in present.portal_groups().filter(|old| wanted.portal_group(&old.name).is_none()) {
        note("delete", format!("portal group {}", old.name), iscsi::Change::RemovePortalGroup(old.name.clone()));
    }
    for old in present.initiators().filter(|old| wanted.initiator(old.name.as_str()).is_none()) {
        note("delete", format!("initiator {}", old.name), iscsi::Change::RemoveInitiator(old.name.clone()));
    }
    for new in wanted.portal_groups() {
        match present.portal_group(&new.name) {
            Some(old) if old == new => {}
            old => note(verb(old), format!("portal group {}", new.name), iscsi::Change::PutPortalGroup(new.clone())),
        }
    }
    for new in wanted.targets() {
        match present.target(new.name.as_str()) {
            Some(old) if old == new => {}
            old => note(verb(old), format!("target {}", new.name), iscsi::Change::PutTarget(new.clone())),
        }
    }
    for new in wanted.initiators() {
        match present.initiator(new.name.as_str()) {
            Some(old) if old == new => {}
            old => note(
                verb::<Initiator>(old),
                format!("initiator {}", new.name),
                iscsi::Change::PutInitiator(new.clone()),
            ),
        }
    }
    if present.defaults() != wanted.defaults() {
        let defaults: Defaults = wanted.defaults().clone();
        note("change", "defaults".into(), iscsi::Change::SetDefaults(Box::new(defaults)));
    }
    (lines, changes)
}

/// What is done to an object that is there or not.
fn verb<T>(present: Option<&T>) -> &'static str {
    if present.is_some() { "change" } else { "create" }
}

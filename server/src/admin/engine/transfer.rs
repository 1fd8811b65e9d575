//! The configuration as a document: export, and import of one in a single transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use stmf::Guid;
use stmf::config::{ConfigError, Draft, GroupKind};

use super::Engine;
use super::document::{AccessTable, Document, GroupTable, ViewTable, difference};
use super::unit::{self, Unit};
use crate::admin::api::{ApiError, ErrorKind};
use crate::model::Transaction;

/// Checks a document by itself: its form, its names, and that its parts fit together.
///
/// # Errors
/// [`ApiError`] with the first thing that is wrong.
pub fn check_document(text: &str) -> Result<(), ApiError> {
    let document = Document::parse(text)?;
    document.check_stmf()?;
    document.iscsi(&iscsit::config::Config::default()).map(drop)
}

impl Engine {
    pub(super) fn export(&self, with_secrets: bool) -> Result<String, ApiError> {
        toml::to_string(&Document::of(&self.configuration, with_secrets))
            .map_err(|error| ApiError::new(ErrorKind::Internal, format!("cannot write the document: {error}")))
    }

    pub(super) fn import(
        &mut self,
        text: &str,
        dry_run: bool,
        paths: &[(String, String)],
        portals: &[(String, String)],
    ) -> Result<Vec<String>, ApiError> {
        let mut document = Document::parse(text)?;
        document.relocate(paths, portals);
        document.check_stmf()?;
        let (mut lines, lus) = self.plan_lus(&document)?;
        let stmf = self.configuration.stmf.batch(|draft| plan_stmf(draft, &document, &mut lines))?;
        let wanted = document.iscsi(&self.configuration.iscsi)?;
        let (more, iscsi) = difference(&self.configuration.iscsi, &wanted);
        lines.extend(more);
        let fc_ports = self.plan_fc_ports(&document, &mut lines)?;
        let vhost_ports = self.plan_vhost_ports(&document, &mut lines)?;
        if dry_run || lines.is_empty() {
            return Ok(lines);
        }
        let ports = self.plan_ports(&iscsi);
        for (guid, _) in &lus {
            if let (Some(live), Some(unit)) = (&self.live, self.units.get_mut(guid))
                && unit.lu.take().is_some()
                && let Err(error) = live.unregister_lu(*guid)
            {
                tracing::warn!("{guid:X} was taken away before its commands had ended: {error}");
            }
        }
        let changed: Vec<_> = lus.iter().map(|(guid, _)| *guid).collect();
        let committed = self.commit(Transaction { stmf: Some(stmf), iscsi, lus, fc_ports, vhost_ports, ports });
        self.number_ports();
        for guid in changed {
            match self.configuration.lus.get(&guid) {
                Some(record) => {
                    self.units.insert(guid, Unit::new(record.clone()));
                    self.bring_up(guid);
                }
                None => {
                    self.units.remove(&guid);
                }
            }
        }
        committed.map(|()| lines)
    }

    /// The logical units that come, go, or have moved.
    fn plan_lus(&self, document: &Document) -> Result<(Vec<String>, LuEdits), ApiError> {
        let (mut lines, mut edits) = (Vec::new(), Vec::new());
        let wanted: HashSet<Guid> = document.lus.iter().map(|record| record.guid).collect();
        for guid in self.units.keys() {
            if !wanted.contains(guid) {
                lines.push(format!("delete lu {guid:X}"));
                edits.push((*guid, None));
            }
        }
        let (mut guids, mut files) = (HashSet::new(), HashSet::new());
        for record in &document.lus {
            let guid = record.guid;
            if !guids.insert(guid) || !files.insert(&record.file) {
                return Err(ApiError::new(ErrorKind::Invalid, format!("lu {guid:X} or its file comes twice"))
                    .hint("one [[lu]] for each logical unit"));
            }
            let present = self.units.get(&guid).map(|unit| &unit.record);
            if present == Some(record) {
                continue;
            }
            // A file that is missing may still come; one that holds something else must not become this unit.
            if let Ok(identity) = unit::record_file(record).load()
                && identity.guid != guid
            {
                return Err(ApiError::new(
                    ErrorKind::Conflict,
                    format!("{} holds logical unit {:X}, not {guid:X}", record.file.display(), identity.guid),
                )
                .hint("correct the path, or give --map-path OLD=NEW"));
            }
            let verb = if present.is_some() { "move" } else { "import" };
            lines.push(format!("{verb} lu {guid:X} from {}", record.file.display()));
            edits.push((guid, Some(record.clone())));
        }
        Ok((lines, edits))
    }

    /// The Fibre Channel ports that come, go, or change.
    fn plan_fc_ports(&self, document: &Document, lines: &mut Vec<String>) -> Result<FcEdits, ApiError> {
        let mut wanted = BTreeMap::new();
        for port in &document.fc_ports {
            self.check_fc_port(port)?;
            if wanted.insert(port.port_name, port).is_some() {
                return Err(ApiError::new(ErrorKind::Invalid, format!("fc-port {} comes twice", port.port_name))
                    .hint("one [[fc-port]] for each port name"));
            }
        }
        let present = &self.configuration.fc_ports;
        let mut edits = Vec::new();
        for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
            lines.push(format!("delete fc-port {name}"));
            edits.push((*name, None));
        }
        for (name, port) in wanted {
            match present.get(&name) {
                Some(old) if old == port => continue,
                old => lines.push(format!("{} fc-port {name}", if old.is_some() { "change" } else { "create" })),
            }
            edits.push((name, Some(port.clone())));
        }
        Ok(edits)
    }

    /// The ports for virtual machines that come, go, or change.
    fn plan_vhost_ports(&self, document: &Document, lines: &mut Vec<String>) -> Result<VhostEdits, ApiError> {
        let (mut wanted, mut paths) = (BTreeMap::new(), HashSet::new());
        for port in &document.vhost_ports {
            self.check_vhost_port(port)?;
            let target = &port.target;
            if wanted.insert(target, port).is_some() || !paths.insert(&port.path) {
                let reason = format!("vhost-port {target} or its socket comes twice");
                return Err(ApiError::new(ErrorKind::Invalid, reason).hint("one [[vhost-port]] for each socket"));
            }
            if document.targets.iter().any(|other| other.name.eq_ignore_ascii_case(target)) {
                let reason = format!("vhost-port {target} has the name of a target");
                return Err(ApiError::new(ErrorKind::Invalid, reason).hint("give one of them another name"));
            }
        }
        let present = &self.configuration.vhost_ports;
        let mut edits = Vec::new();
        for target in present.keys().filter(|target| !wanted.contains_key(target)) {
            lines.push(format!("delete vhost-port {target}"));
            edits.push((target.clone(), None));
        }
        for (target, port) in wanted {
            match present.get(target) {
                Some(old) if old == port => continue,
                old => lines.push(format!("{} vhost-port {target}", if old.is_some() { "change" } else { "create" })),
            }
            edits.push((target.clone(), Some(port.clone())));
        }
        Ok(edits)
    }

    /// Relative target port identifiers for the targets that come and go.
    fn plan_ports(&self, changes: &[iscsit::config::Change]) -> Vec<(String, Option<u16>)> {
        let mut draft = self.configuration.ports.clone();
        let mut used: BTreeSet<u16> = draft.values().copied().collect();
        // Everything below is taken; what is freed below lowers it again.
        let mut lowest = 1;
        let mut ports = Vec::new();
        for change in changes {
            match change {
                iscsit::config::Change::RemoveTarget(name) => {
                    if let Some(number) = draft.remove(name.as_str()) {
                        used.remove(&number);
                        lowest = lowest.min(number);
                    }
                    ports.push((name.to_string(), None));
                }
                iscsit::config::Change::PutTarget(target) if !draft.contains_key(target.name.as_str()) => {
                    let free = (lowest..=u16::MAX).find(|number| !used.contains(number));
                    if let Some(number) = free {
                        draft.insert(target.name.to_string(), number);
                        used.insert(number);
                        lowest = number;
                    }
                    ports.push((target.name.to_string(), free));
                }
                _ => {}
            }
        }
        ports
    }
}

/// Fibre Channel ports to add or replace, and to forget.
type FcEdits = Vec<(stmf::provider::hba::Wwn, Option<crate::fc::FcPort>)>;

/// Ports for virtual machines to add or replace, and to forget.
type VhostEdits = Vec<(String, Option<crate::vhost::VhostPort>)>;

/// Logical units to add or replace, and to forget.
type LuEdits = Vec<(Guid, Option<crate::model::LuRecord>)>;

/// Brings groups and views from what they are to what the document says: first everything goes that must, then what
/// is missing comes, so that no step is in another's way.
fn plan_stmf(draft: &mut Draft, document: &Document, lines: &mut Vec<String>) -> Result<(), ConfigError> {
    let kinds = [(GroupKind::Host, &document.host_groups), (GroupKind::Target, &document.target_groups)];
    if draft.config().settings() != document.settings() {
        lines.push("change settings".into());
        draft.apply(draft.config().set_settings(document.settings()));
    }
    let present: Vec<(u32, ViewTable)> = Document::of_views(draft.config());
    let wanted: HashSet<&ViewTable> = document.views.iter().collect();
    for (index, view) in &present {
        if !wanted.contains(view) {
            lines.push(format!("remove view {} of {:X}: {}", index, view.lu, view.words()));
            draft.apply(draft.config().remove_view(view.lu, *index)?);
        }
    }
    for (kind, groups) in kinds {
        let present: Vec<(String, Vec<String>)> = draft
            .config()
            .groups(kind)
            .map(|group| (group.name().to_owned(), group.members().map(ToString::to_string).collect()))
            .collect();
        let by_name: HashMap<&str, &GroupTable> = groups.iter().map(|group| (group.name.as_str(), group)).collect();
        for (name, members) in present {
            let wanted = by_name.get(name.as_str()).copied();
            for member in &members {
                let stays = wanted.is_some_and(|group| group.members.iter().any(|other| same(other, member)));
                if !stays {
                    lines.push(format!("remove {member} from {} {name}", kind.noun()));
                    draft.apply(draft.config().remove_member(kind, &name, member)?);
                }
            }
            if wanted.is_none() {
                lines.push(format!("delete {} {name}", kind.noun()));
                draft.apply(draft.config().delete_group(kind, &name)?);
            }
        }
    }
    for (kind, groups) in kinds {
        for group in groups {
            if draft.config().group(kind, &group.name).is_err() {
                lines.push(format!("create {} {}", kind.noun(), group.name));
                draft.apply(draft.config().create_group(kind, &group.name)?);
            }
            for member in &group.members {
                let there = draft.config().group(kind, &group.name)?.members().any(|name| same(member, name.as_str()));
                if !there {
                    lines.push(format!("add {member} to {} {}", kind.noun(), group.name));
                    draft.apply(draft.config().add_member(kind, &group.name, member)?);
                }
            }
        }
    }
    let groups =
        draft.config().groups(GroupKind::Target).map(|group| (Some(group.name().to_owned()), Some(group.id())));
    let groups: Vec<_> = std::iter::once((None, None)).chain(groups).collect();
    for (name, id) in groups {
        let table = document.access.iter().find(|table| table.target_group == name);
        let access = table.map(AccessTable::wish).unwrap_or_default();
        if draft.config().access(id) != access {
            let preferred = if access.preferred { ", preferred" } else { "" };
            let through = name.as_deref().unwrap_or("targets in no group");
            lines.push(format!("access through {through}: {}{preferred}", access.state));
            draft.apply(draft.config().set_access(name.as_deref(), access)?);
        }
    }
    let present: HashSet<&ViewTable> = present.iter().map(|(_, view)| view).collect();
    for view in &document.views {
        if !present.contains(view) {
            lines.push(format!("add view of {:X}: {}", view.lu, view.words()));
            draft.apply(draft.config().add_view(&view.wish())?.0);
        }
    }
    Ok(())
}

/// Whether a name as typed is that folded name.
fn same(typed: &str, folded: &str) -> bool {
    stmf::DeviceName::parse(typed).is_ok_and(|name| name.as_str() == folded)
}

impl ViewTable {
    fn words(&self) -> String {
        let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "All".into());
        format!("LUN {} for host group {} at target group {}", self.lun, all(&self.host_group), all(&self.target_group))
    }
}

impl Document {
    /// The view entries of a configuration with their indexes.
    fn of_views(stmf: &stmf::config::Config) -> Vec<(u32, ViewTable)> {
        let name = |kind, id| stmf.group_by_id(kind, id).map(|group| group.name().to_owned());
        let table = |entry: &stmf::config::ViewEntry| ViewTable {
            lu: entry.lu,
            lun: entry.lun,
            host_group: entry.scope.host_group.and_then(|id| name(GroupKind::Host, id)),
            target_group: entry.scope.target_group.and_then(|id| name(GroupKind::Target, id)),
        };
        stmf.all_views().map(|entry| (entry.index, table(entry))).collect()
    }
}

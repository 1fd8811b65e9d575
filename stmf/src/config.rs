//! The configuration of the framework as a value: groups, view entries, defaults.
//!
//! Nothing here knows of sessions or disks. A change goes in two steps, so that it can be written down in between:
//!
//! ```
//! use stmf::config::{Config, GroupKind, NewView};
//!
//! let mut config = Config::new();
//! let change = config.create_group(GroupKind::Host, "GW1")?;   // validated, nothing has changed yet
//! for edit in change.edits() {
//!     // put or delete the row `edit.key()` in stable storage, all of a change in one transaction
//! }
//! config.commit(change);                                       // cannot fail
//!
//! let lu = stmf::guid::parse("600144F01EB3862C0000494B55CD0001")?;
//! let (change, entry) = config.add_view(&NewView { lu, host_group: Some("GW1"), target_group: None, lun: None })?;
//! config.commit(change);
//! assert_eq!((entry.index, entry.lun), (0, 0));
//! # Ok::<(), stmf::ConfigError>(())
//! ```

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

pub use crate::error::{ConfigError, GroupKind};
pub use crate::groups::{Group, GroupId, MAX_GROUP_NAME};
pub use crate::view::{MAX_LUN, Scope, ViewEntry};

use crate::groups::Groups;
use crate::name::DeviceName;
use crate::view::Views;
use scsi_core::Guid;

/// What a logical unit or a target is brought to when it is registered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DefaultState {
    /// It goes online by itself.
    #[default]
    Online,
    /// It waits for an administrator.
    Offline,
}

/// Who may log in at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Access {
    /// Every initiator; what it sees is up to the view entries.
    #[default]
    All,
    /// Only initiators that somebody has named: as a member of a host group, or to the port provider.
    Named,
}

/// What holds for the framework as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Settings {
    /// The state of a logical unit when it is registered.
    pub default_lu_state: DefaultState,
    /// The state of a target when it is registered.
    pub default_target_state: DefaultState,
    /// Who may log in.
    pub access: Access,
}

/// How well a unit is reached through the ports of a target group (SPC, asymmetric access state).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AccessState {
    /// As well as it gets.
    #[default]
    ActiveOptimized,
    /// All commands are carried out, but another path is better.
    ActiveNonOptimized,
    /// Only what inquires and what changes the state.
    Standby,
    /// Hardly anything.
    Unavailable,
    /// On its way from one of these to another: initiators are to wait.
    Transitioning,
}

impl AccessState {
    /// Every state with the word for it.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::ActiveOptimized, "active-optimized"),
        (Self::ActiveNonOptimized, "active-non-optimized"),
        (Self::Standby, "standby"),
        (Self::Unavailable, "unavailable"),
        (Self::Transitioning, "transitioning"),
    ];
}

impl fmt::Display for AccessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = Self::ALL.into_iter().find(|(state, _)| state == self).map_or("", |(_, word)| word);
        f.write_str(word)
    }
}

impl std::str::FromStr for AccessState {
    type Err = UnknownAccessState;

    fn from_str(text: &str) -> Result<Self, UnknownAccessState> {
        let found = Self::ALL.into_iter().find(|(_, word)| word.eq_ignore_ascii_case(text));
        found.map(|(state, _)| state).ok_or_else(|| UnknownAccessState(text.to_owned()))
    }
}

/// There is no access state of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}: no access state; there are active-optimized, active-non-optimized, standby, unavailable, transitioning")]
pub struct UnknownAccessState(pub String);

/// What initiators are told of the paths through a target group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PathAccess {
    /// The state that the administrator wants.
    #[serde(default)]
    pub state: AccessState,
    /// Initiators should like these paths best.
    #[serde(default)]
    pub preferred: bool,
}

/// One row of the configuration, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Row {
    /// What holds for the framework as a whole.
    Settings(Settings),
    /// A group.
    Group {
        /// Host or target group.
        kind: GroupKind,
        /// Its number; ascending in the order of creation.
        id: GroupId,
        /// Its name.
        name: String,
    },
    /// A member of a group.
    Member {
        /// Host or target group.
        kind: GroupKind,
        /// The device.
        name: DeviceName,
        /// The group it is in.
        group: GroupId,
        /// Its place: members are listed in ascending order.
        order: u64,
    },
    /// A view entry.
    View(ViewEntry),
    /// How well units are reached through a target group, where that is not the default.
    Access {
        /// The target group; `None` for the targets that are in none.
        group: Option<GroupId>,
        /// How well.
        access: PathAccess,
    },
}

/// One step of a change: write a row or delete one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Write this row in place of the one with the same key, if any.
    Put(Row),
    /// Delete a group.
    DeleteGroup {
        /// Host or target group.
        kind: GroupKind,
        /// Its number.
        id: GroupId,
    },
    /// Delete a member.
    DeleteMember {
        /// Host or target group.
        kind: GroupKind,
        /// The device.
        name: DeviceName,
    },
    /// Delete a view entry.
    DeleteView {
        /// The logical unit.
        #[serde(with = "crate::guid")]
        lu: Guid,
        /// The entry's index.
        index: u32,
    },
    /// Go back to the default access through a target group.
    DeleteAccess {
        /// The target group; `None` for the targets that are in none.
        group: Option<GroupId>,
    },
}

/// Identifies a row in storage; prints as a path such as `view/600144F0.../0`. Unique among all rows.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKey {
    /// `settings`
    Settings,
    /// `group/host/0000000001`
    Group(GroupKind, GroupId),
    /// `member/target/iqn...`
    Member(GroupKind, DeviceName),
    /// `view/600144F0.../0000000000`
    View(Guid, u32),
    /// `access/0000000001`, `access/none`
    Access(Option<GroupId>),
}

impl fmt::Display for RowKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |kind: &GroupKind| match kind {
            GroupKind::Host => "host",
            GroupKind::Target => "target",
        };
        match self {
            Self::Settings => f.write_str("settings"),
            Self::Group(kind, id) => write!(f, "group/{}/{:010}", word(kind), id.0),
            Self::Member(kind, name) => write!(f, "member/{}/{name}", word(kind)),
            Self::View(lu, index) => write!(f, "view/{lu:X}/{index:010}"),
            Self::Access(Some(group)) => write!(f, "access/{:010}", group.0),
            Self::Access(None) => f.write_str("access/none"),
        }
    }
}

impl Row {
    /// Where the row is kept.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Settings(_) => RowKey::Settings,
            Self::Group { kind, id, .. } => RowKey::Group(*kind, *id),
            Self::Member { kind, name, .. } => RowKey::Member(*kind, name.clone()),
            Self::View(entry) => RowKey::View(entry.lu, entry.index),
            Self::Access { group, .. } => RowKey::Access(*group),
        }
    }
}

impl Edit {
    /// The row that is written or deleted.
    pub fn key(&self) -> RowKey {
        match self {
            Self::Put(row) => row.key(),
            Self::DeleteGroup { kind, id } => RowKey::Group(*kind, *id),
            Self::DeleteMember { kind, name } => RowKey::Member(*kind, name.clone()),
            Self::DeleteView { lu, index } => RowKey::View(*lu, *index),
            Self::DeleteAccess { group } => RowKey::Access(*group),
        }
    }
}

/// A validated change that waits for [`Config::commit`].
///
/// It belongs to the state of the configuration that it was made from: commit it before any other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a change has no effect until it is committed"]
pub struct Change {
    edits: Vec<Edit>,
    revision: u64,
}

impl Change {
    /// The rows to write and delete, in order. Empty when the configuration already is as wanted.
    pub fn edits(&self) -> &[Edit] {
        &self.edits
    }
}

/// A view entry to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewView<'a> {
    /// The logical unit; it need not exist.
    pub lu: Guid,
    /// The name of a host group, or `None` for all initiators.
    pub host_group: Option<&'a str>,
    /// The name of a target group, or `None` for all targets.
    pub target_group: Option<&'a str>,
    /// The LUN, or `None` for the lowest that is free.
    pub lun: Option<u64>,
}

/// A row that was not taken over when a configuration was loaded, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {reason}", row.key())]
pub struct LoadProblem {
    /// The row left out.
    pub row: Row,
    /// What is wrong with it.
    pub reason: String,
}

/// Groups, view entries and settings, consistent at any time.
#[derive(Clone, Debug)]
pub struct Config {
    settings: Settings,
    hosts: Groups,
    targets: Groups,
    views: Views,
    access: BTreeMap<Option<GroupId>, PathAccess>,
    revision: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self::new()
    }
}

impl PartialEq for Config {
    /// Equal content; how often either was changed does not count.
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
            && self.hosts == other.hosts
            && self.targets == other.targets
            && self.views == other.views
            && self.access == other.access
    }
}

impl Config {
    /// No groups, no view entries, everything at its default.
    pub fn new() -> Self {
        Self {
            settings: Settings::default(),
            hosts: Groups::new(GroupKind::Host),
            targets: Groups::new(GroupKind::Target),
            views: Views::default(),
            access: BTreeMap::new(),
            revision: 0,
        }
    }

    /// Builds a configuration from its rows, given in any order. Rows that break a rule are left out and told, the
    /// rest is taken over.
    pub fn load(rows: impl IntoIterator<Item = Row>) -> (Self, Vec<LoadProblem>) {
        let mut config = Self::new();
        let mut problems = Vec::new();
        let mut rows: Vec<Row> = rows.into_iter().collect();
        // Groups before members and view entries, as RowKey orders them; then by number, so that the older one wins.
        rows.sort_by_cached_key(Row::key);
        for row in rows {
            match config.check_row(&row) {
                Ok(()) => config.apply(Edit::Put(row)),
                Err(reason) => problems.push(LoadProblem { row, reason }),
            }
        }
        (config, problems)
    }

    /// All rows: what [`Config::load`] takes.
    pub fn rows(&self) -> impl Iterator<Item = Row> {
        let groups = [(GroupKind::Host, &self.hosts), (GroupKind::Target, &self.targets)];
        let groups = groups.into_iter().flat_map(|(kind, groups)| {
            groups.iter().flat_map(move |group| {
                let row = Row::Group { kind, id: group.id(), name: group.name().to_owned() };
                let members = group.numbered_members().map(move |(order, name)| Row::Member {
                    kind,
                    name: name.clone(),
                    group: group.id(),
                    order,
                });
                std::iter::once(row).chain(members)
            })
        });
        let views = self.views.iter().copied().map(Row::View);
        let access = self.access.iter().map(|(group, access)| Row::Access { group: *group, access: *access });
        std::iter::once(Row::Settings(self.settings)).chain(groups).chain(views).chain(access)
    }

    /// What holds for the framework as a whole.
    pub fn settings(&self) -> Settings {
        self.settings
    }

    /// How well units are reached through the ports of a target group, or of the targets that are in none.
    pub fn access(&self, target_group: Option<GroupId>) -> PathAccess {
        self.access.get(&target_group).copied().unwrap_or_default()
    }

    /// Sets how well units are reached through a target group, or through the targets that are in none.
    ///
    /// # Errors
    /// [`ConfigError::InvalidTargetGroup`].
    pub fn set_access(&self, target_group: Option<&str>, access: PathAccess) -> Result<Change, ConfigError> {
        let find = |name: &str| {
            self.targets.by_name(name).map(Group::id).ok_or_else(|| ConfigError::InvalidTargetGroup(name.to_owned()))
        };
        let group = target_group.map(find).transpose()?;
        let edits = match access {
            access if access == self.access(group) => vec![],
            access if access == PathAccess::default() => vec![Edit::DeleteAccess { group }],
            access => vec![Edit::Put(Row::Access { group, access })],
        };
        Ok(self.change(edits))
    }

    /// The groups of a kind in the order of their creation.
    pub fn groups(&self, kind: GroupKind) -> impl ExactSizeIterator<Item = &Group> {
        self.table(kind).iter()
    }

    /// The group of that name.
    ///
    /// # Errors
    /// [`ConfigError::GroupNotFound`].
    pub fn group(&self, kind: GroupKind, name: &str) -> Result<&Group, ConfigError> {
        self.table(kind).find(name)
    }

    /// The group of that number.
    pub fn group_by_id(&self, kind: GroupKind, id: GroupId) -> Option<&Group> {
        self.table(kind).get(id)
    }

    /// The group that a device is in. The name must be folded, as [`DeviceName`] is.
    pub fn group_of(&self, kind: GroupKind, device: &str) -> Option<&Group> {
        self.table(kind).of(device)
    }

    /// The view entries of a logical unit, ascending by index.
    pub fn views(&self, lu: Guid) -> &[ViewEntry] {
        self.views.of(lu)
    }

    /// All view entries, ascending by logical unit and index.
    pub fn all_views(&self) -> impl Iterator<Item = &ViewEntry> {
        self.views.iter()
    }

    /// The logical units that have view entries, whether they exist or not; ascending.
    pub fn units_with_views(&self) -> impl ExactSizeIterator<Item = Guid> {
        self.views.units()
    }

    /// The view entry of a unit with that index.
    ///
    /// # Errors
    /// [`ConfigError::NoViews`] when the unit has none at all, [`ConfigError::ViewNotFound`] when not this one.
    pub fn view(&self, lu: Guid, index: u32) -> Result<&ViewEntry, ConfigError> {
        match self.views.get(lu, index) {
            Some(entry) => Ok(entry),
            None if self.views.of(lu).is_empty() => Err(ConfigError::NoViews(lu)),
            None => Err(ConfigError::ViewNotFound { lu, index }),
        }
    }

    /// The groups that the two ends of a nexus are in: the most specific scope that covers it. Names must be folded.
    pub fn scope_of(&self, initiator: &str, target: &str) -> Scope {
        Scope {
            host_group: self.hosts.of(initiator).map(Group::id),
            target_group: self.targets.of(target).map(Group::id),
        }
    }

    /// The view entries that hold for nexuses whose ends are in these groups, ascending by LUN, each LUN once.
    pub fn resolve(&self, scope: Scope) -> Vec<ViewEntry> {
        self.views.resolve(scope.host_group, scope.target_group)
    }

    /// Creates a group.
    ///
    /// # Errors
    /// [`ConfigError::InvalidGroupName`], [`ConfigError::GroupExists`].
    pub fn create_group(&self, kind: GroupKind, name: &str) -> Result<Change, ConfigError> {
        let id = self.table(kind).check_new(name)?;
        Ok(self.change(vec![Edit::Put(Row::Group { kind, id, name: name.to_owned() })]))
    }

    /// Deletes a group, with its members.
    ///
    /// # Errors
    /// [`ConfigError::GroupNotFound`]; [`ConfigError::GroupInUse`] while a view entry refers to it.
    pub fn delete_group(&self, kind: GroupKind, name: &str) -> Result<Change, ConfigError> {
        let group = self.table(kind).find(name)?;
        let id = group.id();
        let user = match kind {
            GroupKind::Host => self.views.using_host_group(id),
            GroupKind::Target => self.views.using_target_group(id),
        };
        if let Some(entry) = user {
            return Err(ConfigError::GroupInUse { kind, name: name.to_owned(), lu: entry.lu, index: entry.index });
        }
        let members = group.members().map(|name| Edit::DeleteMember { kind, name: name.clone() });
        let access = (kind == GroupKind::Target && self.access.contains_key(&Some(id)))
            .then_some(Edit::DeleteAccess { group: Some(id) });
        Ok(self.change(members.chain(access).chain([Edit::DeleteGroup { kind, id }]).collect()))
    }

    /// Adds an initiator to a host group or a target to a target group. Neither need exist.
    ///
    /// # Errors
    /// [`ConfigError::GroupNotFound`]; [`ConfigError::UnrecognizedDevice`] for a name of no known form;
    /// [`ConfigError::MemberExists`] when the device is in this group or another.
    pub fn add_member(&self, kind: GroupKind, group: &str, member: &str) -> Result<Change, ConfigError> {
        let table = self.table(kind);
        let group = table.find(group)?.id();
        let name = DeviceName::parse(member)?;
        let order = table.check_join(&name)?;
        Ok(self.change(vec![Edit::Put(Row::Member { kind, name, group, order })]))
    }

    /// Takes a member out of a group.
    ///
    /// # Errors
    /// [`ConfigError::GroupNotFound`], [`ConfigError::UnrecognizedDevice`], [`ConfigError::MemberNotFound`].
    pub fn remove_member(&self, kind: GroupKind, group: &str, member: &str) -> Result<Change, ConfigError> {
        let table = self.table(kind);
        let group = table.find(group)?;
        let name = DeviceName::parse(member)?;
        table.check_leave(group, &name)?;
        Ok(self.change(vec![Edit::DeleteMember { kind, name }]))
    }

    /// Adds a view entry; tells the entry that it will be.
    ///
    /// # Errors
    /// In this order: [`ConfigError::LunTooLarge`], [`ConfigError::InvalidHostGroup`],
    /// [`ConfigError::InvalidTargetGroup`], [`ConfigError::ViewExists`] when the unit has an overlapping entry,
    /// [`ConfigError::LunInUse`] when another has the LUN for some nexus in the scope, [`ConfigError::NoFreeLun`].
    pub fn add_view(&self, view: &NewView<'_>) -> Result<(Change, ViewEntry), ConfigError> {
        let lun = match view.lun {
            None => None,
            Some(lun) => {
                let valid = u16::try_from(lun).ok().filter(|lun| *lun <= MAX_LUN);
                Some(valid.ok_or(ConfigError::LunTooLarge(lun))?)
            }
        };
        let id = |table: &Groups, name: Option<&str>, error: fn(String) -> ConfigError| match name {
            None => Ok(None),
            Some(name) => table.by_name(name).map(|group| Some(group.id())).ok_or_else(|| error(name.to_owned())),
        };
        let scope = Scope {
            host_group: id(&self.hosts, view.host_group, ConfigError::InvalidHostGroup)?,
            target_group: id(&self.targets, view.target_group, ConfigError::InvalidTargetGroup)?,
        };
        let entry = self.views.check_new(view.lu, scope, lun)?;
        Ok((self.change(vec![Edit::Put(Row::View(entry))]), entry))
    }

    /// Removes one view entry.
    ///
    /// # Errors
    /// [`ConfigError::NoViews`], [`ConfigError::ViewNotFound`].
    pub fn remove_view(&self, lu: Guid, index: u32) -> Result<Change, ConfigError> {
        self.view(lu, index)?;
        Ok(self.change(vec![Edit::DeleteView { lu, index }]))
    }

    /// Removes all view entries of a unit.
    ///
    /// # Errors
    /// [`ConfigError::NoViews`].
    pub fn remove_views(&self, lu: Guid) -> Result<Change, ConfigError> {
        let entries = self.views.of(lu);
        if entries.is_empty() {
            return Err(ConfigError::NoViews(lu));
        }
        Ok(self.change(entries.iter().map(|entry| Edit::DeleteView { lu, index: entry.index }).collect()))
    }

    /// Sets what holds for the framework as a whole.
    pub fn set_settings(&self, settings: Settings) -> Change {
        let edits = if settings == self.settings { vec![] } else { vec![Edit::Put(Row::Settings(settings))] };
        self.change(edits)
    }

    /// Plans several operations as one change: all or none. `plan` makes them one after the other on a draft, each
    /// by [`Draft::apply`].
    ///
    /// # Errors
    /// What `plan` gives back.
    pub fn batch<E>(&self, plan: impl FnOnce(&mut Draft) -> Result<(), E>) -> Result<Change, E> {
        let mut draft = Draft { config: self.clone(), edits: Vec::new() };
        plan(&mut draft)?;
        Ok(self.change(draft.edits))
    }

    /// Carries out a planned change. It must have been planned on this very state of the configuration: edits of a
    /// change that came too late are applied all the same, without their checks.
    pub fn commit(&mut self, change: Change) {
        debug_assert_eq!(change.revision, self.revision, "a change was planned on another state");
        for edit in change.edits {
            self.apply(edit);
        }
        self.revision += 1;
    }

    fn table(&self, kind: GroupKind) -> &Groups {
        match kind {
            GroupKind::Host => &self.hosts,
            GroupKind::Target => &self.targets,
        }
    }

    fn table_mut(&mut self, kind: GroupKind) -> &mut Groups {
        match kind {
            GroupKind::Host => &mut self.hosts,
            GroupKind::Target => &mut self.targets,
        }
    }

    fn change(&self, edits: Vec<Edit>) -> Change {
        Change { edits, revision: self.revision }
    }

    fn apply(&mut self, edit: Edit) {
        match edit {
            Edit::Put(Row::Settings(settings)) => self.settings = settings,
            Edit::Put(Row::Group { kind, id, name }) => self.table_mut(kind).put(id, name),
            Edit::Put(Row::Member { kind, name, group, order }) => self.table_mut(kind).put_member(group, order, name),
            Edit::Put(Row::View(entry)) => self.views.put(entry),
            Edit::Put(Row::Access { group, access }) => {
                self.access.insert(group, access);
            }
            Edit::DeleteAccess { group } => {
                self.access.remove(&group);
            }
            Edit::DeleteGroup { kind, id } => self.table_mut(kind).delete(id),
            Edit::DeleteMember { kind, name } => self.table_mut(kind).delete_member(&name),
            Edit::DeleteView { lu, index } => self.views.delete(lu, index),
        }
    }

    /// Whether a stored row fits what is there; the reason if not.
    fn check_row(&self, row: &Row) -> Result<(), String> {
        let missing = |kind: GroupKind, id: GroupId| match self.table(kind).get(id) {
            Some(_) => Ok(()),
            None => Err(format!("there is no {} number {}", kind.noun(), id.0)),
        };
        match row {
            Row::Settings(_) | Row::Access { group: None, .. } => Ok(()),
            Row::Access { group: Some(id), .. } => missing(GroupKind::Target, *id),
            Row::Group { kind, id, name } => {
                if self.table(*kind).get(*id).is_some() {
                    return Err(format!("{} number {} comes twice", kind.noun(), id.0));
                }
                self.table(*kind).check_new(name).map(|_| ()).map_err(|error| error.to_string())
            }
            Row::Member { kind, name, group, order } => {
                missing(*kind, *group)?;
                let table = self.table(*kind);
                if table.get(*group).is_some_and(|group| group.numbered_members().any(|(other, _)| other == *order)) {
                    return Err(format!("two members have place {order}"));
                }
                table.check_join(name).map(|_| ()).map_err(|error| error.to_string())
            }
            Row::View(entry) => {
                if let Some(id) = entry.scope.host_group {
                    missing(GroupKind::Host, id)?;
                }
                if let Some(id) = entry.scope.target_group {
                    missing(GroupKind::Target, id)?;
                }
                if entry.lun > MAX_LUN {
                    return Err(ConfigError::LunTooLarge(entry.lun.into()).to_string());
                }
                if self.views.get(entry.lu, entry.index).is_some() {
                    return Err(format!("view entry {} comes twice", entry.index));
                }
                let checked = self.views.check_new(entry.lu, entry.scope, Some(entry.lun));
                checked.map(|_| ()).map_err(|error| error.to_string())
            }
        }
    }
}

/// A copy of a configuration on which the operations of a batch are tried.
#[derive(Debug)]
pub struct Draft {
    config: Config,
    edits: Vec<Edit>,
}

impl Draft {
    /// The configuration as it would be after the operations so far: plan the next one on it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Adds a change that was planned on [`Draft::config`].
    pub fn apply(&mut self, change: Change) {
        self.edits.extend_from_slice(&change.edits);
        self.config.commit(change);
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;

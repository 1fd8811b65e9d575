//! Host groups and target groups: one table for each kind, with the same rules.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

use crate::error::{ConfigError, GroupKind};
use crate::name::DeviceName;

/// The longest group name in bytes.
pub const MAX_GROUP_NAME: usize = 255;

/// Names a group for as long as it exists. Ascending in the order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GroupId(pub u32);

/// A host group or target group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    id: GroupId,
    name: String,
    /// By order of insertion; the keys only ever grow.
    members: BTreeMap<u64, DeviceName>,
}

impl Group {
    /// The group's own number.
    pub fn id(&self) -> GroupId {
        self.id
    }

    /// Its name: 1 to 255 bytes, compared byte for byte.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its members in the order in which they were added.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &DeviceName> {
        self.members.values()
    }

    /// Members with the numbers by which they are ordered.
    pub(crate) fn numbered_members(&self) -> impl Iterator<Item = (u64, &DeviceName)> {
        self.members.iter().map(|(order, name)| (*order, name))
    }
}

/// The groups of one kind. Membership is exclusive: a device is in one group at most.
#[derive(Clone, Debug)]
pub(crate) struct Groups {
    kind: GroupKind,
    groups: BTreeMap<GroupId, Group>,
    by_name: HashMap<String, GroupId>,
    by_member: HashMap<DeviceName, (GroupId, u64)>,
    next_order: u64,
}

impl PartialEq for Groups {
    /// The indexes follow from the groups; the next number does not matter.
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind && self.groups == other.groups
    }
}

impl Groups {
    pub(crate) fn new(kind: GroupKind) -> Self {
        Self { kind, groups: BTreeMap::new(), by_name: HashMap::new(), by_member: HashMap::new(), next_order: 0 }
    }

    pub(crate) fn iter(&self) -> impl ExactSizeIterator<Item = &Group> {
        self.groups.values()
    }

    pub(crate) fn get(&self, id: GroupId) -> Option<&Group> {
        self.groups.get(&id)
    }

    pub(crate) fn by_name(&self, name: &str) -> Option<&Group> {
        self.groups.get(self.by_name.get(name)?)
    }

    /// The group whose member `device` (folded) is.
    pub(crate) fn of(&self, device: &str) -> Option<&Group> {
        self.groups.get(&self.by_member.get(device)?.0)
    }

    pub(crate) fn find(&self, name: &str) -> Result<&Group, ConfigError> {
        self.by_name(name).ok_or_else(|| ConfigError::GroupNotFound { kind: self.kind, name: name.to_owned() })
    }

    /// Whether a group of that name may be created; the number it will have.
    pub(crate) fn check_new(&self, name: &str) -> Result<GroupId, ConfigError> {
        let valid =
            (1..=MAX_GROUP_NAME).contains(&name.len()) && !name.starts_with('*') && !name.chars().any(char::is_control);
        if !valid {
            return Err(ConfigError::InvalidGroupName { kind: self.kind, name: name.to_owned() });
        }
        if self.by_name.contains_key(name) {
            return Err(ConfigError::GroupExists { kind: self.kind, name: name.to_owned() });
        }
        Ok(GroupId(self.groups.last_key_value().map_or(1, |(last, _)| last.0 + 1)))
    }

    /// Whether `member` may join a group; the order number it will have.
    pub(crate) fn check_join(&self, member: &DeviceName) -> Result<u64, ConfigError> {
        match self.of(member.as_str()) {
            Some(group) => Err(ConfigError::MemberExists {
                kind: self.kind,
                member: member.to_string(),
                group: group.name.clone(),
            }),
            None => Ok(self.next_order),
        }
    }

    /// Whether `member` may leave `group`.
    pub(crate) fn check_leave(&self, group: &Group, member: &DeviceName) -> Result<(), ConfigError> {
        match self.of(member.as_str()) {
            Some(current) if current.id == group.id => Ok(()),
            current => Err(ConfigError::MemberNotFound {
                kind: self.kind,
                member: member.to_string(),
                group: group.name.clone(),
                elsewhere: current.map(|group| group.name.clone()),
            }),
        }
    }

    /// Inserts a checked group.
    pub(crate) fn put(&mut self, id: GroupId, name: String) {
        self.by_name.insert(name.clone(), id);
        self.groups.insert(id, Group { id, name, members: BTreeMap::new() });
    }

    pub(crate) fn delete(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            self.by_name.remove(&group.name);
            for member in group.members.values() {
                self.by_member.remove(member);
            }
        }
    }

    /// Inserts a checked member.
    pub(crate) fn put_member(&mut self, id: GroupId, order: u64, member: DeviceName) {
        if let Some(group) = self.groups.get_mut(&id) {
            group.members.insert(order, member.clone());
            self.by_member.insert(member, (id, order));
            self.next_order = self.next_order.max(order + 1);
        }
    }

    pub(crate) fn delete_member(&mut self, member: &DeviceName) {
        if let Some((id, order)) = self.by_member.remove(member)
            && let Some(group) = self.groups.get_mut(&id)
        {
            group.members.remove(&order);
        }
    }
}

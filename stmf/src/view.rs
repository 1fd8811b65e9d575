//! View entries: which logical unit has which LUN for whom.

use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};

use crate::error::ConfigError;
use crate::groups::GroupId;
use scsi_core::Guid;
use scsi_core::mutation::{Mutation, is_active};

/// The largest LUN that a view entry can give.
pub const MAX_LUN: u16 = 0x3fff;

/// For whom a view entry is: a host group or all initiators, at a target group or all targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Scope {
    /// The host group; `None` is ALL: every initiator, whether in a group or not.
    pub host_group: Option<GroupId>,
    /// The target group; `None` is ALL: every target, whether in a group or not.
    pub target_group: Option<GroupId>,
}

impl Scope {
    /// Whether some nexus may be in both scopes. Two named groups of one kind share no member.
    pub fn overlaps(self, other: Self) -> bool {
        let meet = |a: Option<GroupId>, b: Option<GroupId>| a.is_none() || b.is_none() || a == b;
        meet(self.host_group, other.host_group) && meet(self.target_group, other.target_group)
    }

    /// The scopes that cover a nexus whose ends are in these groups (`None`: in no group).
    fn covering(host_group: Option<GroupId>, target_group: Option<GroupId>) -> impl Iterator<Item = Self> {
        let all = Self { host_group: None, target_group: None };
        let host = host_group.map(|id| Self { host_group: Some(id), ..all });
        let target = target_group.map(|id| Self { target_group: Some(id), ..all });
        let both = host.zip(target).map(|(h, t)| Self { host_group: h.host_group, target_group: t.target_group });
        [Some(all), host, target, both].into_iter().flatten()
    }
}

/// One view entry of one logical unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ViewEntry {
    /// The logical unit; it need not exist.
    #[serde(with = "crate::guid")]
    pub lu: Guid,
    /// Its number among the entries of the unit: the smallest that was free when it was made.
    pub index: u32,
    /// For whom.
    #[serde(flatten)]
    pub scope: Scope,
    /// The logical unit number there, 0 to 16383.
    pub lun: u16,
}

/// All view entries, indexed by unit, by scope and by LUN.
///
/// With the indexes a nexus is resolved by at most four look-ups, and a new entry is checked against the entries of
/// its own unit and those of its own LUN only.
#[derive(Clone, Debug, Default)]
pub(crate) struct Views {
    by_lu: BTreeMap<Guid, Vec<ViewEntry>>,
    by_scope: HashMap<Scope, BTreeMap<u16, ViewEntry>>,
    by_lun: BTreeMap<u16, Vec<ViewEntry>>,
    host_uses: HashMap<GroupId, u32>,
    target_uses: HashMap<GroupId, u32>,
}

impl PartialEq for Views {
    /// The indexes follow from the entries.
    fn eq(&self, other: &Self) -> bool {
        self.by_lu == other.by_lu
    }
}

impl Views {
    /// The entries of a unit, ascending by index.
    pub(crate) fn of(&self, lu: Guid) -> &[ViewEntry] {
        self.by_lu.get(&lu).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn get(&self, lu: Guid, index: u32) -> Option<&ViewEntry> {
        let entries = self.of(lu);
        entries.binary_search_by_key(&index, |entry| entry.index).ok().map(|at| &entries[at])
    }

    /// All entries, by unit and index.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &ViewEntry> {
        self.by_lu.values().flatten()
    }

    /// The units that have entries, ascending.
    pub(crate) fn units(&self) -> impl ExactSizeIterator<Item = Guid> {
        self.by_lu.keys().copied()
    }

    /// An entry that refers to the host group.
    pub(crate) fn using_host_group(&self, id: GroupId) -> Option<&ViewEntry> {
        self.host_uses.get(&id)?;
        self.iter().find(|entry| entry.scope.host_group == Some(id))
    }

    /// An entry that refers to the target group.
    pub(crate) fn using_target_group(&self, id: GroupId) -> Option<&ViewEntry> {
        self.target_uses.get(&id)?;
        self.iter().find(|entry| entry.scope.target_group == Some(id))
    }

    /// The entry that a new one would become, with `lun` or the lowest LUN that is free everywhere in its scope.
    pub(crate) fn check_new(&self, lu: Guid, scope: Scope, lun: Option<u16>) -> Result<ViewEntry, ConfigError> {
        let own = self.of(lu);
        if let Some(other) = own.iter().find(|other| other.scope.overlaps(scope)) {
            return Err(ConfigError::ViewExists { lu, index: other.index, lun: other.lun });
        }
        let lun = match lun {
            Some(lun) => {
                if let Some(other) = self.holder(lun, scope) {
                    return Err(ConfigError::LunInUse { lun, lu: other.lu, index: other.index });
                }
                lun
            }
            None => (0..=MAX_LUN).find(|&lun| self.holder(lun, scope).is_none()).ok_or(ConfigError::NoFreeLun)?,
        };
        // Ascending and distinct: the first index that is not its own place is past the first gap.
        let index = own.iter().zip(0u32..).find(|(entry, place)| entry.index != *place);
        let index = index.map_or(own.len() as u32, |(_, place)| place);
        Ok(ViewEntry { lu, index, scope, lun })
    }

    /// Who has `lun` for some nexus in `scope`.
    fn holder(&self, lun: u16, scope: Scope) -> Option<&ViewEntry> {
        self.by_lun.get(&lun)?.iter().find(|entry| entry.scope.overlaps(scope))
    }

    /// The entries that hold for a nexus whose ends are in these groups, ascending by LUN.
    ///
    /// No LUN comes twice: the checks before insertion see to it.
    pub(crate) fn resolve(&self, host_group: Option<GroupId>, target_group: Option<GroupId>) -> Vec<ViewEntry> {
        let maps = || Scope::covering(host_group, target_group).filter_map(|scope| self.by_scope.get(&scope));
        let mut entries = Vec::with_capacity(maps().map(BTreeMap::len).sum());
        for map in maps() {
            entries.extend(map.values().copied());
        }
        if is_active(Mutation::ViewLeak) {
            entries = self.iter().copied().collect();
            entries.sort_unstable_by_key(|entry| entry.lun);
            entries.dedup_by_key(|entry| entry.lun);
        }
        entries.sort_unstable_by_key(|entry| entry.lun);
        entries
    }

    /// Inserts a checked entry.
    pub(crate) fn put(&mut self, entry: ViewEntry) {
        self.delete(entry.lu, entry.index);
        let own = self.by_lu.entry(entry.lu).or_default();
        let at = own.partition_point(|other| other.index < entry.index);
        own.insert(at, entry);
        self.by_scope.entry(entry.scope).or_default().insert(entry.lun, entry);
        self.by_lun.entry(entry.lun).or_default().push(entry);
        if let Some(id) = entry.scope.host_group {
            *self.host_uses.entry(id).or_default() += 1;
        }
        if let Some(id) = entry.scope.target_group {
            *self.target_uses.entry(id).or_default() += 1;
        }
    }

    pub(crate) fn delete(&mut self, lu: Guid, index: u32) {
        let Some(own) = self.by_lu.get_mut(&lu) else { return };
        let Ok(at) = own.binary_search_by_key(&index, |entry| entry.index) else { return };
        let entry = own.remove(at);
        if own.is_empty() {
            self.by_lu.remove(&lu);
        }
        if let Some(map) = self.by_scope.get_mut(&entry.scope) {
            map.remove(&entry.lun);
            if map.is_empty() {
                self.by_scope.remove(&entry.scope);
            }
        }
        if let Some(holders) = self.by_lun.get_mut(&entry.lun) {
            holders.retain(|other| (other.lu, other.index) != (lu, index));
            if holders.is_empty() {
                self.by_lun.remove(&entry.lun);
            }
        }
        release(&mut self.host_uses, entry.scope.host_group);
        release(&mut self.target_uses, entry.scope.target_group);
    }
}

fn release(uses: &mut HashMap<GroupId, u32>, id: Option<GroupId>) {
    let Some(id) = id else { return };
    if let Some(count) = uses.get_mut(&id) {
        *count -= 1;
        if *count == 0 {
            uses.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn lu(number: u8) -> Guid {
        Guid::generate(number as u32, scsi_core::GuidHost::HostId(0), 0, 0)
    }

    const fn scope(host: u32, target: u32) -> Scope {
        Scope {
            host_group: if host == 0 { None } else { Some(GroupId(host)) },
            target_group: if target == 0 { None } else { Some(GroupId(target)) },
        }
    }

    fn views(entries: &[(u8, Scope, u16)]) -> Views {
        let mut views = Views::default();
        for &(number, scope, lun) in entries {
            let entry = views.check_new(lu(number), scope, Some(lun)).unwrap();
            views.put(entry);
        }
        views
    }

    #[test]
    fn a_lun_is_free_in_another_host_group_and_taken_in_the_same() {
        let views = views(&[(1, scope(1, 0), 5)]);
        assert!(views.check_new(lu(2), scope(2, 0), Some(5)).is_ok());
        let error = views.check_new(lu(2), scope(1, 0), Some(5)).unwrap_err();
        assert_eq!(error, ConfigError::LunInUse { lun: 5, lu: lu(1), index: 0 });
    }

    #[test]
    fn all_overlaps_every_group() {
        let views = views(&[(1, scope(0, 0), 5)]);
        assert!(matches!(views.check_new(lu(2), scope(1, 1), Some(5)), Err(ConfigError::LunInUse { .. })));
        assert!(matches!(views.check_new(lu(1), scope(1, 1), Some(6)), Err(ConfigError::ViewExists { .. })));
    }

    #[test]
    fn the_same_unit_is_refused_before_its_lun_is_looked_at() {
        let views = views(&[(1, scope(1, 0), 5), (2, scope(1, 0), 6)]);
        let error = views.check_new(lu(1), scope(1, 2), Some(6)).unwrap_err();
        assert_eq!(error, ConfigError::ViewExists { lu: lu(1), index: 0, lun: 5 });
    }

    #[test]
    fn the_automatic_lun_is_the_lowest_free_in_the_whole_scope() {
        let views = views(&[(1, scope(1, 0), 0), (2, scope(0, 1), 1), (3, scope(2, 0), 2)]);
        assert_eq!(views.check_new(lu(9), scope(1, 1), None).unwrap().lun, 2);
        assert_eq!(views.check_new(lu(9), scope(2, 2), None).unwrap().lun, 0);
        assert_eq!(views.check_new(lu(9), scope(0, 0), None).unwrap().lun, 3);
    }

    #[test]
    fn the_index_is_the_smallest_unused() {
        let mut views = views(&[(1, scope(1, 0), 0), (1, scope(2, 0), 0), (1, scope(3, 0), 0)]);
        views.delete(lu(1), 1);
        assert_eq!(views.check_new(lu(1), scope(4, 0), None).unwrap().index, 1);
        views.delete(lu(1), 0);
        assert_eq!(views.check_new(lu(1), scope(4, 0), None).unwrap().index, 0);
    }

    #[test]
    fn resolution_merges_the_four_scopes_in_lun_order() {
        let views = views(&[
            (1, scope(0, 0), 9),
            (2, scope(1, 0), 3),
            (3, scope(0, 1), 7),
            (4, scope(1, 1), 1),
            (5, scope(2, 0), 4),
            (6, scope(1, 2), 5),
        ]);
        let luns = |host, target| -> Vec<u16> { views.resolve(host, target).iter().map(|entry| entry.lun).collect() };
        assert_eq!(luns(Some(GroupId(1)), Some(GroupId(1))), [1, 3, 7, 9]);
        assert_eq!(luns(None, Some(GroupId(1))), [7, 9]);
        assert_eq!(luns(Some(GroupId(2)), None), [4, 9]);
        assert_eq!(luns(None, None), [9]);
    }

    #[test]
    fn when_every_lun_is_taken_there_is_no_automatic_one() {
        let mut views = Views::default();
        for lun in 0..=MAX_LUN {
            let lu = Guid::generate(0, scsi_core::GuidHost::HostId(0), 1, lun);
            views.put(ViewEntry { lu, index: 0, scope: scope(0, 0), lun });
        }
        assert_eq!(views.check_new(lu(0xff), scope(1, 0), None), Err(ConfigError::NoFreeLun));
    }
}

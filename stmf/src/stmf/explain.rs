//! Why an initiator sees what it sees.

use scsi_core::Guid;
use serde::Serialize;

use super::{LoginRefusal, State, Stmf, folded};
use crate::config::{Config, GroupKind, Scope, ViewEntry};

/// What an initiator sees at a target, what it does not see, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The initiator, folded.
    pub initiator: String,
    /// The host group it is in.
    pub host_group: Option<String>,
    /// The target, folded.
    pub target: String,
    /// The target group that is in.
    pub target_group: Option<String>,
    /// The target's state; `None` when it is not registered.
    pub target_state: Option<State>,
    /// Why the initiator may not log in, if it may not.
    pub refusal: Option<LoginRefusal>,
    /// The sessions there are between the two.
    pub sessions: Vec<u64>,
    /// What it sees, ascending by LUN.
    pub luns: Vec<ExplainedLun>,
    /// The logical units that it does not see, ascending by name.
    pub hidden: Vec<HiddenLun>,
}

/// A LUN that is seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExplainedLun {
    /// The logical unit number.
    pub lun: u16,
    /// The logical unit.
    #[serde(serialize_with = "crate::guid::serialize")]
    pub lu: Guid,
    /// The index of the view entry that shows it.
    pub view_entry: u32,
    /// The host group of that entry; `None` is all.
    pub host_group: Option<String>,
    /// The target group of that entry; `None` is all.
    pub target_group: Option<String>,
}

/// A logical unit that is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HiddenLun {
    /// The logical unit.
    #[serde(serialize_with = "crate::guid::serialize")]
    pub lu: Guid,
    /// Why.
    pub reason: HiddenReason,
}

/// Why a logical unit is not seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "why")]
#[non_exhaustive]
pub enum HiddenReason {
    /// It has no view entry at all: nobody sees it.
    NoView,
    /// An entry shows it to this nexus as this LUN, but no LU provider has registered the unit.
    NotRegistered {
        /// The LUN it would have.
        lun: u16,
    },
    /// An entry shows it to this nexus as this LUN, but the unit is not online.
    NotOnline {
        /// The LUN it would have.
        lun: u16,
        /// Its state.
        state: State,
    },
    /// Its entries are for other host groups.
    OtherHostGroups {
        /// Those.
        groups: Vec<String>,
    },
    /// Entries are for this initiator, but at other target groups.
    OtherTargetGroups {
        /// Those.
        groups: Vec<String>,
    },
}

impl Stmf {
    /// Explains what `initiator` sees at `target`. Neither need exist or be logged in.
    pub fn explain(&self, initiator: &str, target: &str) -> Explanation {
        let live = self.lock();
        let config = &live.config;
        let (initiator, target) = (folded(initiator), folded(target));
        let scope = config.scope_of(&initiator, &target);
        let name = |kind, id| config.group_by_id(kind, id).map(|group| group.name().to_owned());
        let state = |lu| live.lus.get(&lu).map(|unit| unit.state);
        let (luns, hidden) = explain_views(config, live.lus.keys().copied(), state, &initiator, &target);

        let sessions = live.by_initiator.get(&initiator).into_iter().flatten();
        let sessions = sessions.filter(|id| live.sessions.get(id).is_some_and(|s| s.nexus().target == target));
        Explanation {
            host_group: scope.host_group.and_then(|id| name(GroupKind::Host, id)),
            target_group: scope.target_group.and_then(|id| name(GroupKind::Target, id)),
            target_state: live.targets.get(&target).map(|entry| entry.state),
            refusal: live.may_log_in(&initiator, &target).err(),
            sessions: sessions.map(|id| id.0).collect(),
            luns,
            hidden,
            initiator,
            target,
        }
    }
}

/// What `initiator` sees at `target` by a configuration, ascending by LUN, and the logical units that it does not see,
/// ascending by name. `units` are those there are besides the ones with view entries, `state` tells the state of one;
/// `None`: nobody has registered it. Names are folded already.
pub fn explain_views(
    config: &Config,
    units: impl Iterator<Item = Guid>,
    state: impl Fn(Guid) -> Option<State>,
    initiator: &str,
    target: &str,
) -> (Vec<ExplainedLun>, Vec<HiddenLun>) {
    let scope = config.scope_of(initiator, target);
    let name = |kind, id| config.group_by_id(kind, id).map(|group| group.name().to_owned());
    let host_name = |entry: &ViewEntry| name(GroupKind::Host, entry.scope.host_group?);
    let target_name = |entry: &ViewEntry| name(GroupKind::Target, entry.scope.target_group?);
    let (mut luns, mut hidden) = (Vec::new(), Vec::new());
    let units: std::collections::BTreeSet<Guid> = units.chain(config.units_with_views()).collect();
    for lu in units {
        let entries = config.views(lu);
        let state = state(lu);
        let reason = match (entries.iter().find(|entry| covers(entry.scope, scope)), state) {
            (Some(entry), Some(State::Online)) => {
                luns.push(ExplainedLun {
                    lun: entry.lun,
                    lu,
                    view_entry: entry.index,
                    host_group: host_name(entry),
                    target_group: target_name(entry),
                });
                continue;
            }
            (Some(entry), Some(state)) => HiddenReason::NotOnline { lun: entry.lun, state },
            (Some(entry), None) => HiddenReason::NotRegistered { lun: entry.lun },
            (None, _) if entries.is_empty() => HiddenReason::NoView,
            (None, _) => {
                let ours =
                    |entry: &&ViewEntry| entry.scope.host_group.is_none() || entry.scope.host_group == scope.host_group;
                let groups: Vec<String> = entries.iter().filter(ours).filter_map(target_name).collect();
                if groups.is_empty() {
                    HiddenReason::OtherHostGroups { groups: entries.iter().filter_map(host_name).collect() }
                } else {
                    HiddenReason::OtherTargetGroups { groups }
                }
            }
        };
        hidden.push(HiddenLun { lu, reason });
    }
    luns.sort_by_key(|entry| entry.lun);
    (luns, hidden)
}

/// Whether a view entry for `entry` holds for a nexus whose ends are in the groups of `nexus`.
fn covers(entry: Scope, nexus: Scope) -> bool {
    (entry.host_group.is_none() || entry.host_group == nexus.host_group)
        && (entry.target_group.is_none() || entry.target_group == nexus.target_group)
}

//! A configuration from stored parts, of which some may no longer fit.

use super::PortalGroup;
use super::model::{Config, Defaults, Initiator, Target};

/// A stored object that was left out or bent to fit, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {reason}")]
pub struct LoadProblem {
    /// Which object: "portal group 2", "target iqn...".
    pub object: String,
    /// What is wrong and what was done about it.
    pub reason: String,
}

impl Config {
    /// Puts a configuration together from its stored parts, takes what is valid and reports the rest: one broken
    /// object must not keep the others down.
    pub fn load(
        targets: impl IntoIterator<Item = Target>,
        portal_groups: impl IntoIterator<Item = PortalGroup>,
        initiators: impl IntoIterator<Item = Initiator>,
        defaults: Defaults,
    ) -> (Self, Vec<LoadProblem>) {
        let mut config = Self { defaults, ..Self::default() };
        let mut problems = Vec::new();
        let mut problem = |object: String, reason: String| problems.push(LoadProblem { object, reason });
        for mut group in portal_groups {
            let object = format!("portal group {}", group.name);
            let taken = |portal: &super::Portal| config.portal_groups.values().any(|g| g.portals.contains(portal));
            if let Some(portal) = group.portals.iter().find(|portal| taken(portal)) {
                problem(object.clone(), format!("portal {portal} is in another group already: left out"));
            }
            group.portals.retain(|portal| !taken(portal));
            if group.portals.is_empty() {
                problem(object, "no portal is left: left out".into());
            } else {
                config.portal_groups.insert(group.name.clone(), group);
            }
        }
        for mut target in targets {
            let object = format!("target {}", target.name);
            let known = |name: &str| config.portal_groups.contains_key(name);
            let had_groups = !target.portal_groups.is_empty();
            for tagged in target.portal_groups.iter().filter(|tagged| !known(&tagged.group)) {
                problem(object.clone(), format!("portal group {} does not exist: left out", tagged.group));
            }
            target.portal_groups.retain(|tagged| known(&tagged.group));
            // Without any group it would fall back to the default one: open where the administrator had narrowed it.
            if had_groups && target.portal_groups.is_empty() {
                problem(object, "none of its portal groups is left: target left out".into());
                continue;
            }
            config.targets.insert(target.name.clone(), target);
        }
        config.initiators.extend(initiators.into_iter().map(|initiator| (initiator.name.clone(), initiator)));
        (config, problems)
    }
}

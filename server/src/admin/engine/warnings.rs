//! What an administrator may have meant otherwise: said by the command that makes it so, and in the status as long as it
//! is so.

use std::collections::BTreeSet;

use iscsit::config::{AuthMethod, ChapMinimum};
use stmf::config::GroupKind;

use super::Engine;

/// A fact that an administrator should know.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Warning {
    /// The target or initiator that it is about; empty: the defaults.
    about: String,
    /// The words.
    pub(super) text: String,
}

impl Engine {
    /// What is odd about how initiators prove themselves.
    pub(super) fn auth_warnings(&self) -> BTreeSet<Warning> {
        let iscsi = &self.configuration.iscsi;
        let mut warnings = BTreeSet::new();
        let mut warn = |about: &str, text: String| {
            warnings.insert(Warning { about: about.to_owned(), text });
        };
        let some_secret = iscsi.initiators().any(|initiator| initiator.chap_secret.is_some());
        let minimum = iscsi.defaults().chap_minimum;
        for target in iscsi.targets() {
            let name = target.name.as_str();
            match iscsi.effective_auth(target) {
                AuthMethod::None if target.chap_secret.is_some() => warn(
                    name,
                    format!(
                        "authentication of {name} is none: its secret is not asked for; 'itadm modify-target -a chap \
                         {name}' demands CHAP"
                    ),
                ),
                AuthMethod::Chap if !some_secret => warn(
                    name,
                    format!(
                        "{name} demands CHAP and no initiator has a secret: nobody can log in; 'itadm create-initiator \
                         -s NAME' gives one"
                    ),
                ),
                AuthMethod::Radius if minimum != ChapMinimum::Md5 => warn(
                    name,
                    format!(
                        "{name} asks RADIUS, which knows CHAP with MD5 only, and the least that is taken is {minimum}: \
                         nobody can log in; 'itadm modify-defaults --chap-minimum md5' or 'itadm modify-target -a chap \
                         {name}'"
                    ),
                ),
                _ => {}
            }
        }
        let defaults = iscsi.defaults();
        if defaults.discovery_chap && defaults.auth == Some(AuthMethod::Radius) && minimum != ChapMinimum::Md5 {
            warn(
                "",
                format!(
                    "discovery asks RADIUS, which knows CHAP with MD5 only, and the least that is taken is {minimum}: \
                     nobody can discover; 'itadm modify-defaults --chap-minimum md5'"
                ),
            );
        }
        if defaults.discovery_chap && defaults.auth != Some(AuthMethod::Radius) && !some_secret {
            warn(
                "",
                "discovery demands CHAP and no initiator has a secret: nobody can discover; 'itadm create-initiator -s \
                 NAME' gives one"
                    .to_owned(),
            );
        }
        let demanded =
            defaults.discovery_chap || iscsi.targets().any(|target| iscsi.effective_auth(target) != AuthMethod::None);
        for initiator in iscsi.initiators().filter(|initiator| initiator.chap_secret.is_some() && !demanded) {
            let name = initiator.name.as_str();
            warn(
                name,
                format!(
                    "no target demands CHAP: the secret of {name} is not asked for; 'itadm modify-target -a chap \
                     TARGET' or 'itadm modify-defaults -a chap' demands it"
                ),
            );
        }
        warnings
    }

    /// What has become odd since `before`, and all that is odd about the object that was changed.
    pub(super) fn new_warnings(&self, before: &BTreeSet<Warning>, about: &str) -> Vec<String> {
        let now = self.auth_warnings().into_iter();
        now.filter(|warning| warning.about == about || !before.contains(warning)).map(|warning| warning.text).collect()
    }

    /// An initiator that has not logged in as far as anybody knows; `None` if it has, or nobody knows.
    pub(super) fn stranger(&self, initiator: &str) -> Option<String> {
        if self.live.as_ref()?.has_logged_in(initiator)? {
            return None;
        }
        Some(format!("{initiator} has not logged in since the server started: compare the name with the host's own"))
    }

    /// Members of host groups that were never seen.
    pub(super) fn strangers(&self) -> Vec<String> {
        let groups = self.configuration.stmf.groups(GroupKind::Host);
        let of_group = |group: &stmf::config::Group| {
            let words = group.members().filter_map(|member| self.stranger(member.as_str()));
            words.map(|words| format!("host group {}: {words}", group.name())).collect::<Vec<_>>()
        };
        groups.flat_map(of_group).collect()
    }
}

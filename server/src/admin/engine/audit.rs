//! A transaction in the words of the audit log: a line for each thing that it changes, without secrets.

use iscsit::config::{Change, Initiator, Target};
use stmf::config::{Edit, GroupKind, Row};

use crate::model::{Configuration, Transaction};
use crate::vhost::VhostPort;

/// What a transaction changes, a line for each thing.
pub(super) fn lines(before: &Configuration, transaction: &Transaction) -> Vec<String> {
    let mut lines = Vec::new();
    for edit in transaction.stmf.iter().flat_map(|change| change.edits()) {
        lines.push(edit_line(before, transaction, edit));
    }
    for change in &transaction.iscsi {
        lines.push(change_line(before, change));
    }
    for (guid, record) in &transaction.lus {
        lines.push(match record {
            Some(record) => format!("logical unit {guid:X} is {}", record.file.display()),
            None => format!("logical unit {guid:X} is forgotten"),
        });
    }
    for (name, port) in &transaction.fc_ports {
        lines.push(match port {
            Some(port) => {
                let options: Vec<String> = port.options.iter().map(|(name, value)| format!("{name}={value}")).collect();
                format!("Fibre Channel port {name} is a {:?} of {}{}", port.mode, port.driver, settings(&options))
            }
            None => format!("Fibre Channel port {name} is deleted"),
        });
    }
    for (target, port) in &transaction.vhost_ports {
        lines.push(match port {
            Some(VhostPort { path, initiator, .. }) => {
                format!("vhost-user port {target} is {} for the machine {initiator}", path.display())
            }
            None => format!("vhost-user port {target} is deleted"),
        });
    }
    lines
}

fn edit_line(before: &Configuration, transaction: &Transaction, edit: &Edit) -> String {
    // A group may have been created by the very transaction.
    let group = |kind: GroupKind, id| {
        let created = transaction.stmf.iter().flat_map(|change| change.edits()).find_map(|edit| match edit {
            Edit::Put(Row::Group { kind: k, id: i, name }) if *k == kind && *i == id => Some(name.clone()),
            _ => None,
        });
        let known = before.stmf.group_by_id(kind, id).map(|group| group.name().to_owned());
        known.or(created).unwrap_or_else(|| format!("number {}", id.0))
    };
    match edit {
        Edit::Put(Row::Settings(settings)) => format!("settings become {settings:?}"),
        Edit::Put(Row::Group { kind, name, .. }) => format!("{} {name} is created", kind.noun()),
        Edit::Put(Row::Member { kind, name, group: id, .. }) => {
            format!("{name} joins {} {}", kind.noun(), group(*kind, *id))
        }
        Edit::Put(Row::View(entry)) => format!(
            "view entry {} of {:X} is added: LUN {} for host group {} at target group {}",
            entry.index,
            entry.lu,
            entry.lun,
            entry.scope.host_group.map_or_else(|| "All".into(), |id| group(GroupKind::Host, id)),
            entry.scope.target_group.map_or_else(|| "All".into(), |id| group(GroupKind::Target, id)),
        ),
        Edit::DeleteGroup { kind, id } => format!("{} {} is deleted", kind.noun(), group(*kind, *id)),
        Edit::DeleteMember { kind, name } => format!("{name} leaves its {}", kind.noun()),
        Edit::DeleteView { lu, index } => format!("view entry {index} of {lu:X} is removed"),
        Edit::Put(Row::Access { group: id, access }) => format!(
            "access through {} becomes {}{}",
            id.map_or_else(|| "targets in no group".into(), |id| group(GroupKind::Target, id)),
            access.state,
            if access.preferred { ", preferred" } else { "" },
        ),
        Edit::DeleteAccess { group: id } => format!(
            "access through {} becomes the default",
            id.map_or_else(|| "targets in no group".into(), |id| group(GroupKind::Target, id)),
        ),
    }
}

fn change_line(before: &Configuration, change: &Change) -> String {
    match change {
        Change::PutTarget(target) => match before.iscsi.target(target.name.as_str()) {
            None => format!("target {} is created{}", target.name, settings(&target_settings(target))),
            Some(_) => format!("target {} is changed{}", target.name, settings(&target_settings(target))),
        },
        Change::RemoveTarget(name) => format!("target {name} is deleted"),
        Change::PutPortalGroup(group) => format!("portal group {} is {:?}", group.name, group.portals),
        Change::RemovePortalGroup(name) => format!("portal group {name} is deleted"),
        Change::PutInitiator(initiator) => {
            let verb = if before.iscsi.initiator(initiator.name.as_str()).is_some() { "changed" } else { "created" };
            format!("initiator {} is {verb}{}", initiator.name, settings(&initiator_settings(initiator)))
        }
        Change::RemoveInitiator(name) => format!("initiator {name} is deleted"),
        // Its secret redacts itself.
        Change::SetDefaults(defaults) => format!("iSCSI defaults become {defaults:?}"),
        other => format!("{other:?}"),
    }
}

fn target_settings(target: &Target) -> Vec<String> {
    let mut words = Vec::new();
    words.extend(target.alias.iter().map(|alias| format!("alias {alias}")));
    words.extend(target.auth.iter().map(|auth| format!("authentication {auth}")));
    words.extend(target.chap_user.iter().map(|user| format!("CHAP user {user}")));
    words.extend(target.chap_secret.iter().map(|_| "a CHAP secret".to_owned()));
    words.extend(target.portal_groups.iter().map(|group| format!("portal group {} as {}", group.group, group.tag)));
    words
}

fn initiator_settings(initiator: &Initiator) -> Vec<String> {
    let user = initiator.chap_user.iter().map(|user| format!("CHAP user {user}"));
    user.chain(initiator.chap_secret.iter().map(|_| "a CHAP secret".to_owned())).collect()
}

fn settings(words: &[String]) -> String {
    if words.is_empty() { String::new() } else { format!(": {}", words.join(", ")) }
}

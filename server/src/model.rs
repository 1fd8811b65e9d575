//! Everything an administrator configures, as one value, and the transactions that change it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stmf::Guid;
use stmf::provider::hba::Wwn;

use crate::fc::{FcMode, FcPort};
use crate::vhost::VhostPort;

/// What is needed to register a logical unit again after a restart. Everything else about it stands in the metadata
/// beside its data, so that it travels with them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LuRecord {
    /// The unit's name.
    #[serde(with = "stmf::guid")]
    pub guid: Guid,
    /// Where its data are: an absolute path of a file or block device.
    pub file: PathBuf,
    /// Where its metadata are, if not beside the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meta: Option<PathBuf>,
}

/// The configuration of a server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Configuration {
    /// Groups, views and the framework's settings.
    pub stmf: stmf::config::Config,
    /// Targets, portal groups, initiators, and the iSCSI defaults.
    pub iscsi: iscsit::config::Config,
    /// The logical units.
    pub lus: BTreeMap<Guid, LuRecord>,
    /// The Fibre Channel ports, by port name.
    pub fc_ports: BTreeMap<Wwn, FcPort>,
    /// The ports for virtual machines, by their names as targets.
    pub vhost_ports: BTreeMap<String, VhostPort>,
    /// The relative target port identifier of each target, by folded name: given once and kept, since persistent
    /// reservations and multipath software know ports by it.
    pub ports: BTreeMap<String, u16>,
}

/// The changes of one command: made durable together, then carried out together.
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// Of groups, views and settings.
    pub stmf: Option<stmf::config::Change>,
    /// Of the iSCSI port provider, in order.
    pub iscsi: Vec<iscsit::config::Change>,
    /// Logical units to add or to replace (`Some`), or to forget (`None`).
    pub lus: Vec<(Guid, Option<LuRecord>)>,
    /// Fibre Channel ports to add or to replace (`Some`), or to forget (`None`).
    pub fc_ports: Vec<(Wwn, Option<FcPort>)>,
    /// Ports for virtual machines to add or to replace (`Some`), or to forget (`None`).
    pub vhost_ports: Vec<(String, Option<VhostPort>)>,
    /// Relative target port identifiers to give or to free.
    pub ports: Vec<(String, Option<u16>)>,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stmf.as_ref().is_none_or(|change| change.edits().is_empty())
            && self.iscsi.is_empty()
            && self.lus.is_empty()
            && self.fc_ports.is_empty()
            && self.vhost_ports.is_empty()
            && self.ports.is_empty()
    }
}

impl Configuration {
    /// Carries out a transaction that was planned on this very state.
    pub fn commit(&mut self, transaction: Transaction) {
        if let Some(change) = transaction.stmf {
            self.stmf.commit(change);
        }
        for change in transaction.iscsi {
            self.iscsi.commit(change);
        }
        for (guid, record) in transaction.lus {
            match record {
                Some(record) => self.lus.insert(guid, record),
                None => self.lus.remove(&guid),
            };
        }
        for (name, port) in transaction.fc_ports {
            match port {
                Some(port) => self.fc_ports.insert(name, port),
                None => self.fc_ports.remove(&name),
            };
        }
        for (target, port) in transaction.vhost_ports {
            match port {
                Some(port) => self.vhost_ports.insert(target, port),
                None => self.vhost_ports.remove(&target),
            };
        }
        for (target, port) in transaction.ports {
            match port {
                Some(port) => self.ports.insert(target, port),
                None => self.ports.remove(&target),
            };
        }
    }

    /// The ports of a target, in ascending order of tags: the name by which SCSI knows the port, and the name under
    /// which its number is kept. The first is that of the default portal group, whether the target is offered there
    /// now or not; it has the target's own name.
    fn port_names(target: &iscsit::config::Target) -> Vec<(String, String)> {
        let port = |tag: u16| format!("{},t,0x{tag:04x}", target.name);
        let default = (port(1), target.name.to_string());
        let groups = target.portal_groups.iter().map(|group| (port(group.tag), port(group.tag)));
        std::iter::once(default).chain(groups).collect()
    }

    /// The ports at which a target is offered, with their relative target port identifiers.
    pub fn ports_of(&self, target: &iscsit::config::Target) -> Vec<(String, u16)> {
        let default = target.portal_groups.is_empty();
        let names = Self::port_names(target).into_iter().skip(usize::from(!default));
        names.filter_map(|(port, kept)| Some((port, *self.ports.get(&kept)?))).collect()
    }

    /// The Fibre Channel ports that are targets.
    pub fn fc_targets(&self) -> impl Iterator<Item = &FcPort> {
        self.fc_ports.values().filter(|port| port.mode == FcMode::Target)
    }

    /// What numbers are to be given, and freed, so that every port of every target has one that stays its own.
    pub fn unnumbered_ports(&self) -> Vec<(String, Option<u16>)> {
        let fibre_channel = self.fc_targets().map(FcPort::device_name);
        let iscsi = self.iscsi.targets().flat_map(Self::port_names).map(|(_, kept)| kept);
        let local = self.vhost_ports.keys().cloned();
        let wanted: BTreeSet<String> = iscsi.chain(fibre_channel).chain(local).collect();
        let target = |kept: &str| kept.rsplit_once(",t,0x").map_or(kept.to_owned(), |(target, _)| target.to_owned());
        let mut changes: Vec<(String, Option<u16>)> =
            self.ports.keys().filter(|kept| !wanted.contains(&target(kept))).map(|kept| (kept.clone(), None)).collect();
        let mut used: BTreeSet<u16> = self.ports.values().copied().collect();
        for kept in wanted.into_iter().filter(|kept| !self.ports.contains_key(kept)) {
            if let Some(number) = (1..=u16::MAX).find(|number| !used.contains(number)) {
                used.insert(number);
                changes.push((kept, Some(number)));
            }
        }
        changes
    }

    /// The lowest relative target port identifier that no target has; `None` when all 65535 are given.
    pub fn free_port(&self) -> Option<u16> {
        let used: BTreeSet<u16> = self.ports.values().copied().collect();
        (1..=u16::MAX).find(|port| !used.contains(port))
    }
}

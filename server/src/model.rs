//! Everything an administrator configures, as one value, and the transactions that change it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use stmf::Guid;

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
    /// Relative target port identifiers to give or to free.
    pub ports: Vec<(String, Option<u16>)>,
}

impl Transaction {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.stmf.as_ref().is_none_or(|change| change.edits().is_empty())
            && self.iscsi.is_empty()
            && self.lus.is_empty()
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
        for (target, port) in transaction.ports {
            match port {
                Some(port) => self.ports.insert(target, port),
                None => self.ports.remove(&target),
            };
        }
    }

    /// The lowest relative target port identifier that no target has; `None` when all 65535 are given.
    pub fn free_port(&self) -> Option<u16> {
        let used: std::collections::BTreeSet<u16> = self.ports.values().copied().collect();
        (1..=u16::MAX).find(|port| !used.contains(port))
    }
}

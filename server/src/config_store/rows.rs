//! The rows of the configuration: how each object is written down.

use std::collections::BTreeSet;

use iscsit::config::{
    AuthMethod, Change, ChapMinimum, Defaults, Initiator, IscsiName, Portal, PortalGroup, Redirection, Secret,
    TaggedGroup, Target,
};
use serde::{Deserialize, Serialize};
use stmf::config::Edit;
use stmf::provider::hba::Wwn;

use super::LoadProblem;
use crate::fc::FcPort;
use crate::model::{Configuration, LuRecord, Transaction};
use crate::vhost::VhostPort;

/// One object as it is stored. Secrets stand in clear text: the file is its owner's alone, and CHAP needs them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Row {
    Stmf(stmf::config::Row),
    Target(TargetRow),
    PortalGroup(PortalGroup),
    Initiator(InitiatorRow),
    IscsiDefaults(DefaultsRow),
    Lu(LuRecord),
    FcPort(FcPort),
    VhostPort(VhostPort),
    Port { target: String, number: u16 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct TargetRow {
    name: IscsiName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    auth: Option<AuthMethod>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clear")]
    chap_secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    portal_groups: Vec<TaggedGroup>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    redirection: Option<Redirection>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct InitiatorRow {
    name: IscsiName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    chap_user: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none", with = "clear")]
    chap_secret: Option<Secret>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct DefaultsRow {
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth: Option<AuthMethod>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    radius_servers: Vec<Portal>,
    #[serde(skip_serializing_if = "Option::is_none", with = "clear")]
    radius_secret: Option<Secret>,
    isns: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    isns_servers: Vec<Portal>,
    discovery_chap: bool,
    chap_minimum: ChapMinimum,
}

impl Row {
    pub(super) fn encode(&self) -> Vec<u8> {
        // Text keys and plain values only: there is nothing in a row that JSON cannot hold.
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    /// Where the row stands; unique for each object.
    pub(super) fn key(&self) -> String {
        match self {
            Self::Stmf(row) => row.key().to_string(),
            Self::Target(row) => target_key(&row.name),
            Self::PortalGroup(group) => portal_group_key(&group.name),
            Self::Initiator(row) => initiator_key(&row.name),
            Self::IscsiDefaults(_) => DEFAULTS_KEY.into(),
            Self::Lu(record) => lu_key(record.guid),
            Self::FcPort(port) => fc_port_key(port.port_name),
            Self::VhostPort(port) => vhost_port_key(&port.target),
            Self::Port { target, .. } => port_key(target),
        }
    }
}

const DEFAULTS_KEY: &str = "iscsi-defaults";

fn target_key(name: &IscsiName) -> String {
    format!("target/{name}")
}

fn portal_group_key(name: &str) -> String {
    format!("portal-group/{name}")
}

fn initiator_key(name: &IscsiName) -> String {
    format!("initiator/{name}")
}

fn lu_key(guid: stmf::Guid) -> String {
    format!("lu/{guid:X}")
}

fn fc_port_key(name: Wwn) -> String {
    format!("fc-port/{name}")
}

fn vhost_port_key(target: &str) -> String {
    format!("vhost-port/{target}")
}

fn port_key(target: &str) -> String {
    format!("port/{target}")
}

/// The rows that a transaction writes (`Some`) and deletes (`None`), in order.
pub(super) fn edits(transaction: &Transaction) -> Vec<(String, Option<Row>)> {
    let mut edits = Vec::new();
    for edit in transaction.stmf.iter().flat_map(|change| change.edits()) {
        let row = if let Edit::Put(row) = edit { Some(Row::Stmf(row.clone())) } else { None };
        edits.push((edit.key().to_string(), row));
    }
    for change in &transaction.iscsi {
        edits.push(match change {
            Change::PutTarget(target) => (target_key(&target.name), Some(Row::Target(target.into()))),
            Change::RemoveTarget(name) => (target_key(name), None),
            Change::PutPortalGroup(group) => (portal_group_key(&group.name), Some(Row::PortalGroup(group.clone()))),
            Change::RemovePortalGroup(name) => (portal_group_key(name), None),
            Change::PutInitiator(initiator) => (initiator_key(&initiator.name), Some(Row::Initiator(initiator.into()))),
            Change::RemoveInitiator(name) => (initiator_key(name), None),
            Change::SetDefaults(defaults) => (DEFAULTS_KEY.into(), Some(Row::IscsiDefaults((&**defaults).into()))),
            // A kind of change this layout has no row for is none that a plan gives.
            _ => continue,
        });
    }
    for (guid, record) in &transaction.lus {
        edits.push((lu_key(*guid), record.clone().map(Row::Lu)));
    }
    for (name, port) in &transaction.fc_ports {
        edits.push((fc_port_key(*name), port.clone().map(Row::FcPort)));
    }
    for (target, port) in &transaction.vhost_ports {
        edits.push((vhost_port_key(target), port.clone().map(Row::VhostPort)));
    }
    for (target, number) in &transaction.ports {
        let row = number.map(|number| Row::Port { target: target.clone(), number });
        edits.push((port_key(target), row));
    }
    edits
}

/// Puts the configuration together; what does not fit is left out and told.
pub(super) fn assemble(rows: Vec<Row>) -> (Configuration, Vec<LoadProblem>) {
    let mut problems = Vec::new();
    let (mut stmf, mut targets, mut groups, mut initiators) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut defaults = Defaults::default();
    let mut configuration = Configuration::default();
    let mut numbers = BTreeSet::new();
    for row in rows {
        match row {
            Row::Stmf(row) => stmf.push(row),
            Row::Target(row) => targets.push(row.into()),
            Row::PortalGroup(group) => groups.push(group),
            Row::Initiator(row) => initiators.push(row.into()),
            Row::IscsiDefaults(row) => defaults = row.into(),
            Row::Lu(record) => {
                configuration.lus.insert(record.guid, record);
            }
            Row::FcPort(port) => {
                configuration.fc_ports.insert(port.port_name, port);
            }
            Row::VhostPort(port) => {
                configuration.vhost_ports.insert(port.target.clone(), port);
            }
            Row::Port { target, number } if number > 0 && numbers.insert(number) => {
                configuration.ports.insert(target, number);
            }
            Row::Port { target, number } => problems.push(LoadProblem {
                object: format!("target {target}"),
                reason: format!("relative target port {number} is another target's: a new one will be given"),
            }),
        }
    }
    let (stmf, left_out) = stmf::config::Config::load(stmf);
    configuration.stmf = stmf;
    problems.extend(left_out.into_iter().map(|problem| LoadProblem {
        object: problem.row.key().to_string(),
        reason: format!("{}: left out", problem.reason),
    }));
    let (iscsi, left_out) = iscsit::config::Config::load(targets, groups, initiators, defaults);
    configuration.iscsi = iscsi;
    problems.extend(left_out.into_iter().map(|p| LoadProblem { object: p.object, reason: p.reason }));
    (configuration, problems)
}

impl From<&Target> for TargetRow {
    fn from(target: &Target) -> Self {
        let Target { name, alias, auth, chap_user, chap_secret, portal_groups, redirection } = target.clone();
        Self { name, alias, auth, chap_user, chap_secret, portal_groups, redirection }
    }
}

impl From<TargetRow> for Target {
    fn from(row: TargetRow) -> Self {
        let TargetRow { name, alias, auth, chap_user, chap_secret, portal_groups, redirection } = row;
        Self { name, alias, auth, chap_user, chap_secret, portal_groups, redirection }
    }
}

impl From<&Initiator> for InitiatorRow {
    fn from(initiator: &Initiator) -> Self {
        let Initiator { name, chap_user, chap_secret } = initiator.clone();
        Self { name, chap_user, chap_secret }
    }
}

impl From<InitiatorRow> for Initiator {
    fn from(row: InitiatorRow) -> Self {
        let InitiatorRow { name, chap_user, chap_secret } = row;
        Self { name, chap_user, chap_secret }
    }
}

impl From<&Defaults> for DefaultsRow {
    fn from(defaults: &Defaults) -> Self {
        let Defaults { alias, auth, radius_servers, radius_secret, isns, isns_servers, discovery_chap, chap_minimum } =
            defaults.clone();
        Self { alias, auth, radius_servers, radius_secret, isns, isns_servers, discovery_chap, chap_minimum }
    }
}

impl From<DefaultsRow> for Defaults {
    fn from(row: DefaultsRow) -> Self {
        let DefaultsRow {
            alias,
            auth,
            radius_servers,
            radius_secret,
            isns,
            isns_servers,
            discovery_chap,
            chap_minimum,
        } = row;
        Self { alias, auth, radius_servers, radius_secret, isns, isns_servers, discovery_chap, chap_minimum }
    }
}

/// Secrets in hexadecimal digits: any bytes survive, and nobody takes them for something to read.
mod clear {
    use iscsit::config::Secret;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => {
                let digits: String = secret.expose().iter().map(|byte| format!("{byte:02x}")).collect();
                serializer.serialize_some(&digits)
            }
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        let Some(digits) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        let digit = |c: u8| char::from(c).to_digit(16).map(|digit| digit as u8);
        let pair = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?);
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(pair).collect();
        let bytes = bytes.ok_or_else(|| D::Error::custom("a secret is not in hexadecimal digits"))?;
        Secret::new(bytes).map(Some).map_err(D::Error::custom)
    }
}

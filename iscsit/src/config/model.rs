//! The objects of the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use iscsi_proto::auth::chap::Algorithm;
use serde::{Deserialize, Serialize};

use super::{IscsiName, Portal, PortalGroup, PropertyReason, Secret};

/// How an initiator proves who it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMethod {
    /// Not at all: whoever can reach the portal may log in.
    #[default]
    None,
    /// CHAP against the secret of the initiator's entry.
    Chap,
    /// CHAP, checked by a RADIUS server.
    Radius,
}

impl fmt::Display for AuthMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Chap => "chap",
            Self::Radius => "radius",
        })
    }
}

impl FromStr for AuthMethod {
    type Err = PropertyReason;

    fn from_str(text: &str) -> Result<Self, PropertyReason> {
        match text {
            "none" => Ok(Self::None),
            "chap" => Ok(Self::Chap),
            "radius" => Ok(Self::Radius),
            _ => Err(PropertyReason::NotAMethod),
        }
    }
}

/// The weakest CHAP algorithm that is good enough, weakest first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ChapMinimum {
    /// Any, MD5 too, which every initiator has.
    #[default]
    #[serde(rename = "md5")]
    Md5,
    /// SHA-1 or stronger.
    #[serde(rename = "sha1")]
    Sha1,
    /// SHA-256 or stronger.
    #[serde(rename = "sha256")]
    Sha256,
    /// SHA3-256 only.
    #[serde(rename = "sha3-256")]
    Sha3_256,
}

impl ChapMinimum {
    /// The algorithm it names.
    pub fn algorithm(self) -> Algorithm {
        match self {
            Self::Md5 => Algorithm::MD5,
            Self::Sha1 => Algorithm::SHA1,
            Self::Sha256 => Algorithm::SHA256,
            Self::Sha3_256 => Algorithm::SHA3_256,
        }
    }
}

impl fmt::Display for ChapMinimum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha3_256 => "sha3-256",
        })
    }
}

impl FromStr for ChapMinimum {
    type Err = PropertyReason;

    fn from_str(text: &str) -> Result<Self, PropertyReason> {
        match text {
            "md5" => Ok(Self::Md5),
            "sha1" => Ok(Self::Sha1),
            "sha256" => Ok(Self::Sha256),
            "sha3-256" => Ok(Self::Sha3_256),
            _ => Err(PropertyReason::NotAnAlgorithm),
        }
    }
}

/// Where initiators that log in to a target are sent instead (RFC 7143, 13.8 and status classes 0101 and 0102).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Redirection {
    /// The portals to go to, in order of preference; never empty.
    pub portals: Vec<Portal>,
    /// Whether the initiator may forget that the target was here.
    #[serde(default)]
    pub permanent: bool,
}

/// A portal group on one target.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaggedGroup {
    /// The portal group's name.
    pub group: String,
    /// The target portal group tag on this target, 2..65535; unique on the target, never changed while it is there.
    pub tag: u16,
}

/// An iSCSI target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The target's name.
    pub name: IscsiName,
    /// Free text shown to initiators, up to 255 bytes.
    pub alias: Option<String>,
    /// Overrides the default authentication method.
    pub auth: Option<AuthMethod>,
    /// The name under which the target proves itself (mutual CHAP); its own name if unset.
    pub chap_user: Option<String>,
    /// What the target proves itself with. It does not admit initiators: their own entries do.
    pub chap_secret: Option<Secret>,
    /// Portal groups in ascending order of tags; empty: the default portal group under tag 1.
    pub portal_groups: Vec<TaggedGroup>,
    /// Where initiators are sent that would log in; `None`: nowhere, they log in here.
    pub redirection: Option<Redirection>,
}

impl Target {
    /// A target of this name with nothing set.
    pub fn new(name: IscsiName) -> Self {
        Self {
            name,
            alias: None,
            auth: None,
            chap_user: None,
            chap_secret: None,
            portal_groups: Vec::new(),
            redirection: None,
        }
    }

    /// The name the target sends with mutual CHAP.
    pub fn effective_chap_user(&self) -> &str {
        self.chap_user.as_deref().unwrap_or(self.name.as_str())
    }
}

/// What the server knows of an initiator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Initiator {
    /// The initiator's name; it may never have been seen.
    pub name: IscsiName,
    /// The name it must send with CHAP; its own name if unset.
    pub chap_user: Option<String>,
    /// The secret it must know.
    pub chap_secret: Option<Secret>,
}

impl Initiator {
    /// An entry of this name with nothing set.
    pub fn new(name: IscsiName) -> Self {
        Self { name, chap_user: None, chap_secret: None }
    }

    /// The name the initiator must send with CHAP.
    pub fn effective_chap_user(&self) -> &str {
        self.chap_user.as_deref().unwrap_or(self.name.as_str())
    }
}

/// What holds where a target says nothing of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Defaults {
    /// Alias of targets without one.
    pub alias: Option<String>,
    /// Authentication of targets without an override; `None` means not set, which is no authentication.
    pub auth: Option<AuthMethod>,
    /// RADIUS servers in the order they are asked, port 1812 unless given.
    pub radius_servers: Vec<Portal>,
    /// The secret shared with the RADIUS servers.
    pub radius_secret: Option<Secret>,
    /// Whether targets are registered with the iSNS servers.
    pub isns: bool,
    /// iSNS servers, at most 8, port 3205 unless given.
    pub isns_servers: Vec<Portal>,
    /// Whether discovery sessions must prove themselves by CHAP.
    pub discovery_chap: bool,
    /// The weakest algorithm that a login by CHAP may use.
    pub chap_minimum: ChapMinimum,
}

/// The configuration of the iSCSI port provider.
///
/// Changes go in two steps: `plan_*` checks a wish and gives the [`Change`] that fulfils it, [`commit`](Self::commit)
/// carries a change out. Between the two the caller makes the change durable, so that memory never runs ahead of
/// what survives a restart. A change is valid for the configuration it was planned on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    pub(super) targets: BTreeMap<IscsiName, Target>,
    pub(super) portal_groups: BTreeMap<String, PortalGroup>,
    pub(super) initiators: BTreeMap<IscsiName, Initiator>,
    pub(super) defaults: Defaults,
}

/// One step from one valid configuration to the next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Change {
    /// The target is new, or takes the place of the one of that name.
    PutTarget(Target),
    /// The target goes.
    RemoveTarget(IscsiName),
    /// The portal group is new, or takes the place of the one of that name.
    PutPortalGroup(PortalGroup),
    /// The portal group goes.
    RemovePortalGroup(String),
    /// The initiator's entry is new, or takes the place of the one of that name.
    PutInitiator(Initiator),
    /// The initiator's entry goes.
    RemoveInitiator(IscsiName),
    /// The defaults become these.
    SetDefaults(Box<Defaults>),
}

impl Config {
    /// Most targets.
    pub const MAX_TARGETS: usize = 4095;
    /// Most portal groups on one target, besides the default one.
    pub const MAX_GROUPS_PER_TARGET: usize = 256;
    /// Most iSNS servers.
    pub const MAX_ISNS_SERVERS: usize = 8;
    /// Most RADIUS servers.
    pub const MAX_RADIUS_SERVERS: usize = 8;
    /// Most portals that a target's initiators are sent to.
    pub const MAX_REDIRECTION_PORTALS: usize = 16;
    /// Most bytes of an alias, a CHAP user name or a portal group's name.
    pub const MAX_TEXT_BYTES: usize = 255;

    /// The targets in ascending order of names.
    pub fn targets(&self) -> impl ExactSizeIterator<Item = &Target> {
        self.targets.values()
    }

    /// The target of this name, in any case.
    pub fn target(&self, name: &str) -> Option<&Target> {
        self.targets.get(&IscsiName::parse(name).ok()?)
    }

    /// The portal groups in ascending order of names.
    pub fn portal_groups(&self) -> impl ExactSizeIterator<Item = &PortalGroup> {
        self.portal_groups.values()
    }

    /// The portal group of this name, which is compared byte for byte.
    pub fn portal_group(&self, name: &str) -> Option<&PortalGroup> {
        self.portal_groups.get(name)
    }

    /// The initiators' entries in ascending order of names.
    pub fn initiators(&self) -> impl ExactSizeIterator<Item = &Initiator> {
        self.initiators.values()
    }

    /// The entry of the initiator of this name, in any case.
    pub fn initiator(&self, name: &str) -> Option<&Initiator> {
        self.initiators.get(&IscsiName::parse_initiator(name).ok()?)
    }

    /// The defaults.
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// How initiators must prove themselves to `target`: its own setting, else the default, else not at all.
    pub fn effective_auth(&self, target: &Target) -> AuthMethod {
        target.auth.or(self.defaults.auth).unwrap_or_default()
    }

    /// The tag under which `target` is offered at `portal`; `None` if it is not. A target without portal groups is
    /// offered at every portal of the default group, which the caller knows: for those this is `None`.
    pub fn tag_at(&self, target: &Target, portal: Portal) -> Option<u16> {
        let group = self.portal_groups.values().find(|group| group.portals.contains(&portal))?;
        target.portal_groups.iter().find(|tagged| tagged.group == group.name).map(|tagged| tagged.tag)
    }

    /// The portals at which `target` is offered, with their tags, in ascending order of tags; empty for the default
    /// portal group.
    pub fn portals_of<'a>(&'a self, target: &'a Target) -> impl Iterator<Item = (u16, Portal)> + 'a {
        target.portal_groups.iter().flat_map(|tagged| {
            let group = self.portal_groups.get(&tagged.group);
            group.into_iter().flat_map(|group| &group.portals).map(|portal| (tagged.tag, *portal))
        })
    }

    /// Carries out a planned change.
    pub fn commit(&mut self, change: Change) {
        match change {
            Change::PutTarget(target) => {
                self.targets.insert(target.name.clone(), target);
            }
            Change::RemoveTarget(name) => {
                self.targets.remove(&name);
            }
            Change::PutPortalGroup(group) => {
                self.portal_groups.insert(group.name.clone(), group);
            }
            Change::RemovePortalGroup(name) => {
                self.portal_groups.remove(&name);
            }
            Change::PutInitiator(initiator) => {
                self.initiators.insert(initiator.name.clone(), initiator);
            }
            Change::RemoveInitiator(name) => {
                self.initiators.remove(&name);
            }
            Change::SetDefaults(defaults) => self.defaults = *defaults,
        }
    }
}

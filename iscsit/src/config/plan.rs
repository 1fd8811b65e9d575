//! The operations of `itadm`: a wish is checked against the configuration and becomes changes.

use super::model::{AuthMethod, Change, ChapMinimum, Config, Defaults, Initiator, Redirection, TaggedGroup, Target};
use super::{
    ConfigError, IscsiName, Portal, PortalGroup, PropertyError, PropertyOwner, PropertyReason, Secret, SecretError,
};

/// What to do with an optional property.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Leave it.
    #[default]
    Keep,
    /// Unset it.
    Clear,
    /// Set it.
    Set(T),
}

impl<T: Clone> Patch<T> {
    fn apply(&self, slot: &mut Option<T>) {
        match self {
            Self::Keep => {}
            Self::Clear => *slot = None,
            Self::Set(value) => *slot = Some(value.clone()),
        }
    }
}

/// What to set on a target; the default sets nothing.
#[derive(Clone, Debug, Default)]
pub struct TargetPatch {
    /// Its name: for a new target, or to rename one.
    pub name: Option<String>,
    /// The alias.
    pub alias: Patch<String>,
    /// The authentication override.
    pub auth: Patch<AuthMethod>,
    /// The CHAP user name for mutual CHAP.
    pub chap_user: Patch<String>,
    /// The CHAP secret for mutual CHAP, 12 to 255 bytes.
    pub chap_secret: Patch<Vec<u8>>,
    /// All portal groups by name; [`Patch::Clear`] leaves the default one.
    pub portal_groups: Patch<Vec<String>>,
    /// Where initiators are sent instead.
    pub redirection: Patch<Redirection>,
}

/// What to set on an initiator's entry; the default sets nothing.
#[derive(Clone, Debug, Default)]
pub struct InitiatorPatch {
    /// The CHAP user name.
    pub chap_user: Patch<String>,
    /// The CHAP secret, 12 to 255 bytes.
    pub chap_secret: Patch<Vec<u8>>,
}

/// What to set of the defaults; the default sets nothing.
#[derive(Clone, Debug, Default)]
pub struct DefaultsPatch {
    /// The alias of targets without one.
    pub alias: Patch<String>,
    /// The authentication method.
    pub auth: Patch<AuthMethod>,
    /// All RADIUS servers.
    pub radius_servers: Patch<Vec<Portal>>,
    /// The RADIUS secret, 12 to 255 bytes.
    pub radius_secret: Patch<Vec<u8>>,
    /// Whether to register with iSNS.
    pub isns: Option<bool>,
    /// All iSNS servers.
    pub isns_servers: Patch<Vec<Portal>>,
    /// Whether discovery demands CHAP.
    pub discovery_chap: Option<bool>,
    /// The weakest CHAP algorithm.
    pub chap_minimum: Option<ChapMinimum>,
}

impl Config {
    /// A new target. Without a name in the patch it gets a generated one from the 16 random bytes.
    ///
    /// # Errors
    /// Ill-formed or taken names, unknown portal groups, wrong properties, [`Config::MAX_TARGETS`].
    pub fn plan_create_target(
        &self,
        patch: &TargetPatch,
        random: [u8; 16],
    ) -> Result<(IscsiName, Change), ConfigError> {
        let name = match &patch.name {
            Some(text) => IscsiName::parse(text).map_err(|e| ConfigError::name(text, e))?,
            None => IscsiName::generate(random),
        };
        if self.targets.contains_key(&name) {
            return Err(ConfigError::TargetExists { name: name.to_string() });
        }
        if self.targets.len() >= Self::MAX_TARGETS {
            return Err(ConfigError::TooManyTargets { limit: Self::MAX_TARGETS });
        }
        let mut target = Target::new(name.clone());
        self.patch_target(&mut target, patch, |name| ConfigError::CreateWithUnknownGroup { name })?;
        Ok((name, Change::PutTarget(target)))
    }

    /// Changes a target; a name in the patch renames it, which takes that it is not `online`. Gives the target's
    /// name after the change and the changes in the order to carry them out.
    ///
    /// # Errors
    /// No such target, the new name ill-formed or taken, the target online, unknown portal groups, wrong properties.
    pub fn plan_modify_target(
        &self,
        name: &str,
        patch: &TargetPatch,
        online: bool,
    ) -> Result<(IscsiName, Vec<Change>), ConfigError> {
        let old = self.find_target(name)?;
        let mut target = old.clone();
        if let Some(text) = &patch.name {
            let new = IscsiName::parse(text).map_err(|e| ConfigError::name(text, e))?;
            if new != old.name {
                if self.targets.contains_key(&new) {
                    return Err(ConfigError::RenameTaken { name: new.to_string() });
                }
                if online {
                    return Err(ConfigError::TargetBusy { name: old.name.to_string() });
                }
                target.name = new;
            }
        }
        self.patch_target(&mut target, patch, |name| ConfigError::ModifyWithUnknownGroup { name })?;
        let name = target.name.clone();
        let mut changes = vec![Change::PutTarget(target)];
        if name != old.name {
            changes.insert(0, Change::RemoveTarget(old.name.clone()));
        }
        Ok((name, changes))
    }

    /// Deletes a target. If it is `online`, only by `force`: then the caller takes it offline.
    ///
    /// # Errors
    /// No such target; online without force.
    pub fn plan_delete_target(&self, name: &str, online: bool, force: bool) -> Result<Change, ConfigError> {
        let target = self.find_target(name)?;
        if online && !force {
            return Err(ConfigError::TargetBusy { name: target.name.to_string() });
        }
        Ok(Change::RemoveTarget(target.name.clone()))
    }

    /// A new portal group; the portals are texts as typed, port 3260 unless given.
    ///
    /// # Errors
    /// The name taken or unusable, no portals, an ill-formed portal, a portal in use.
    pub fn plan_create_portal_group(&self, name: &str, portals: &[impl AsRef<str>]) -> Result<Change, ConfigError> {
        // The name ends up in lists with commas, and "default" in one means no group at all.
        if name.is_empty() || name.len() > Self::MAX_TEXT_BYTES || name.contains([',', '\n', '\t']) || name == "default"
        {
            return Err(ConfigError::InvalidGroupName { name: name.into() });
        }
        if portals.is_empty() {
            return Err(ConfigError::NoPortals);
        }
        if self.portal_groups.contains_key(name) {
            return Err(ConfigError::GroupExists { name: name.into() });
        }
        let mut group = PortalGroup { name: name.into(), portals: Vec::with_capacity(portals.len()) };
        for text in portals {
            let text = text.as_ref();
            let portal: Portal = text.parse().map_err(|_| ConfigError::InvalidPortal { text: text.into() })?;
            let owner =
                std::iter::once(&group).chain(self.portal_groups.values()).find(|g| g.portals.contains(&portal));
            if let Some(owner) = owner {
                return Err(ConfigError::PortalInUse { portal: portal.to_string(), group: owner.name.clone() });
            }
            group.portals.push(portal);
        }
        Ok(Change::PutPortalGroup(group))
    }

    /// Deletes a portal group; by `force` also one that targets use, which then lose it.
    ///
    /// # Errors
    /// No such group; in use without force.
    pub fn plan_delete_portal_group(&self, name: &str, force: bool) -> Result<Vec<Change>, ConfigError> {
        if !self.portal_groups.contains_key(name) {
            return Err(ConfigError::GroupNotFound { name: name.into() });
        }
        let users = || self.targets.values().filter(|t| t.portal_groups.iter().any(|g| g.group == name));
        let targets: Vec<String> = users().map(|target| target.name.to_string()).collect();
        if !force && !targets.is_empty() {
            return Err(ConfigError::GroupInUse { name: name.into(), targets });
        }
        let mut changes: Vec<Change> = users()
            .map(|target| {
                let mut target = target.clone();
                target.portal_groups.retain(|tagged| tagged.group != name);
                Change::PutTarget(target)
            })
            .collect();
        changes.push(Change::RemovePortalGroup(name.into()));
        Ok(changes)
    }

    /// A new entry for an initiator.
    ///
    /// # Errors
    /// An ill-formed or taken name, wrong properties.
    pub fn plan_create_initiator(&self, name: &str, patch: &InitiatorPatch) -> Result<Change, ConfigError> {
        let folded = IscsiName::parse_initiator(name).map_err(|e| ConfigError::name(name, e))?;
        if self.initiators.contains_key(&folded) {
            return Err(ConfigError::InitiatorExists { name: folded.to_string() });
        }
        patch_initiator(Initiator::new(folded), patch)
    }

    /// Changes an initiator's entry.
    ///
    /// # Errors
    /// No such entry, wrong properties.
    pub fn plan_modify_initiator(&self, name: &str, patch: &InitiatorPatch) -> Result<Change, ConfigError> {
        patch_initiator(self.find_initiator(name)?.clone(), patch)
    }

    /// Deletes an initiator's entry.
    ///
    /// # Errors
    /// No such entry.
    pub fn plan_delete_initiator(&self, name: &str) -> Result<Change, ConfigError> {
        Ok(Change::RemoveInitiator(self.find_initiator(name)?.name.clone()))
    }

    /// Changes the defaults.
    ///
    /// # Errors
    /// Wrong properties; RADIUS as the method without server and secret.
    pub fn plan_modify_defaults(&self, patch: &DefaultsPatch) -> Result<Change, ConfigError> {
        let mut defaults = self.defaults.clone();
        let mut errors = Vec::new();
        check_text("alias", &patch.alias, &mut errors);
        patch.alias.apply(&mut defaults.alias);
        patch.auth.apply(&mut defaults.auth);
        set_list(&patch.radius_servers, &mut defaults.radius_servers);
        set_list(&patch.isns_servers, &mut defaults.isns_servers);
        set_secret("radiussecret", &patch.radius_secret, &mut defaults.radius_secret, &mut errors);
        defaults.isns = patch.isns.unwrap_or(defaults.isns);
        defaults.discovery_chap = patch.discovery_chap.unwrap_or(defaults.discovery_chap);
        defaults.chap_minimum = patch.chap_minimum.unwrap_or(defaults.chap_minimum);
        if defaults.isns_servers.len() > Self::MAX_ISNS_SERVERS {
            return Err(ConfigError::TooManyIsnsServers { limit: Self::MAX_ISNS_SERVERS });
        }
        if defaults.radius_servers.len() > Self::MAX_RADIUS_SERVERS {
            errors.push(PropertyError { property: "radiusserver", reason: PropertyReason::InvalidAddress });
        }
        let radius_wanted = defaults.auth == Some(AuthMethod::Radius)
            || self.targets.values().any(|target| target.auth == Some(AuthMethod::Radius));
        if radius_wanted {
            require_radius(&defaults, &mut errors);
        }
        refuse(PropertyOwner::Defaults, errors)?;
        Ok(Change::SetDefaults(Box::new(defaults)))
    }

    fn find_target(&self, name: &str) -> Result<&Target, ConfigError> {
        self.target(name).ok_or_else(|| ConfigError::TargetNotFound { name: name.into() })
    }

    fn find_initiator(&self, name: &str) -> Result<&Initiator, ConfigError> {
        self.initiator(name).ok_or_else(|| ConfigError::InitiatorNotFound { name: name.into() })
    }

    fn patch_target(
        &self,
        target: &mut Target,
        patch: &TargetPatch,
        unknown_group: impl Fn(String) -> ConfigError,
    ) -> Result<(), ConfigError> {
        match &patch.portal_groups {
            Patch::Keep => {}
            Patch::Clear => target.portal_groups.clear(),
            Patch::Set(names) => {
                if let Some(name) = names.iter().find(|name| !self.portal_groups.contains_key(*name)) {
                    return Err(unknown_group(name.clone()));
                }
                target.portal_groups = assign_tags(&target.portal_groups, names);
                if target.portal_groups.len() > Self::MAX_GROUPS_PER_TARGET {
                    return Err(ConfigError::TooManyGroups { limit: Self::MAX_GROUPS_PER_TARGET });
                }
            }
        }
        let mut errors = Vec::new();
        check_text("alias", &patch.alias, &mut errors);
        check_text("targetchapuser", &patch.chap_user, &mut errors);
        if let Patch::Set(redirection) = &patch.redirection
            && (redirection.portals.is_empty() || redirection.portals.len() > Self::MAX_REDIRECTION_PORTALS)
        {
            errors.push(PropertyError { property: "redirect", reason: PropertyReason::InvalidAddress });
        }
        patch.redirection.apply(&mut target.redirection);
        patch.alias.apply(&mut target.alias);
        patch.auth.apply(&mut target.auth);
        patch.chap_user.apply(&mut target.chap_user);
        set_secret("targetchapsecret", &patch.chap_secret, &mut target.chap_secret, &mut errors);
        if matches!(patch.auth, Patch::Set(AuthMethod::Radius)) {
            require_radius(&self.defaults, &mut errors);
        }
        refuse(PropertyOwner::Target, errors)
    }
}

/// Gives each group its tag: the one it has already; else, if its name is a number from 2 to 65535 that is free here,
/// that number; else one more than the highest in use (the lowest free one, when the highest is 65535).
fn assign_tags(present: &[TaggedGroup], names: &[String]) -> Vec<TaggedGroup> {
    let mut tagged: Vec<TaggedGroup> = present.iter().filter(|group| names.contains(&group.group)).cloned().collect();
    for name in names {
        if tagged.iter().any(|group| group.group == *name) {
            continue;
        }
        let free = |tag: &u16| *tag >= 2 && tagged.iter().all(|group| group.tag != *tag);
        // "02" is not the number 2 written the usual way; two names must not contend for one tag.
        let own = name.parse::<u16>().ok().filter(|tag| tag.to_string() == *name).filter(free);
        let highest = tagged.iter().map(|group| group.tag).max().unwrap_or(1);
        let tag = own.or_else(|| highest.checked_add(1)).or_else(|| (2..=u16::MAX).find(free));
        if let Some(tag) = tag {
            tagged.push(TaggedGroup { group: name.clone(), tag });
        }
    }
    tagged.sort_by_key(|group| group.tag);
    tagged
}

fn patch_initiator(mut initiator: Initiator, patch: &InitiatorPatch) -> Result<Change, ConfigError> {
    let mut errors = Vec::new();
    check_text("chapuser", &patch.chap_user, &mut errors);
    patch.chap_user.apply(&mut initiator.chap_user);
    set_secret("chapsecret", &patch.chap_secret, &mut initiator.chap_secret, &mut errors);
    refuse(PropertyOwner::Initiator, errors)?;
    Ok(Change::PutInitiator(initiator))
}

fn check_text(property: &'static str, patch: &Patch<String>, errors: &mut Vec<PropertyError>) {
    if let Patch::Set(text) = patch
        && (text.is_empty() || text.len() > Config::MAX_TEXT_BYTES || text.chars().any(char::is_control))
    {
        errors.push(PropertyError { property, reason: PropertyReason::NotAString });
    }
}

fn set_list(patch: &Patch<Vec<Portal>>, slot: &mut Vec<Portal>) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => slot.clear(),
        Patch::Set(list) => slot.clone_from(list),
    }
}

fn set_secret(
    property: &'static str,
    patch: &Patch<Vec<u8>>,
    slot: &mut Option<Secret>,
    errors: &mut Vec<PropertyError>,
) {
    match patch {
        Patch::Keep => {}
        Patch::Clear => *slot = None,
        Patch::Set(bytes) => match Secret::new(bytes.clone()) {
            Ok(secret) => *slot = Some(secret),
            Err(SecretError::TooShort) => {
                errors.push(PropertyError { property, reason: PropertyReason::SecretTooShort });
            }
            Err(SecretError::TooLong) => errors.push(PropertyError { property, reason: PropertyReason::SecretTooLong }),
        },
    }
}

fn require_radius(defaults: &Defaults, errors: &mut Vec<PropertyError>) {
    if defaults.radius_servers.is_empty() {
        errors.push(PropertyError { property: "radiusserver", reason: PropertyReason::Missing });
    }
    if defaults.radius_secret.is_none() {
        errors.push(PropertyError { property: "radiussecret", reason: PropertyReason::Missing });
    }
}

fn refuse(owner: PropertyOwner, errors: Vec<PropertyError>) -> Result<(), ConfigError> {
    if errors.is_empty() { Ok(()) } else { Err(ConfigError::Properties { owner, errors }) }
}

//! Host groups and target groups.

use stmf::DeviceName;
use stmf::config::{AccessState, Config, ConfigError, GroupId, GroupKind, PathAccess};

use super::{Engine, done};
use crate::admin::api::{AccessInfo, ApiError, Done, ErrorKind, GroupInfo};
use crate::model::Transaction;

impl Engine {
    pub(super) fn create_group(&mut self, kind: GroupKind, name: &str) -> Result<Done, ApiError> {
        let change = self.configuration.stmf.create_group(kind, name)?;
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        Ok(done())
    }

    pub(super) fn delete_group(&mut self, kind: GroupKind, name: &str) -> Result<Done, ApiError> {
        let change = self.configuration.stmf.delete_group(kind, name)?;
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        Ok(done())
    }

    pub(super) fn list_groups(&self, kind: GroupKind) -> Vec<GroupInfo> {
        let info = |group: &stmf::config::Group| GroupInfo {
            name: group.name().to_owned(),
            members: group.members().map(ToString::to_string).collect(),
        };
        self.configuration.stmf.groups(kind).map(info).collect()
    }

    pub(super) fn add_members(&mut self, kind: GroupKind, group: &str, members: &[String]) -> Result<Done, ApiError> {
        let mut done =
            self.change_members(kind, group, members, |config, member| config.add_member(kind, group, member))?;
        if kind == GroupKind::Host {
            let added = members.iter().filter_map(|member| DeviceName::parse(member).ok());
            let added = added.filter(|member| {
                self.configuration.stmf.group_of(kind, member.as_str()).is_some_and(|of| of.name() == group)
            });
            done.warnings.extend(added.filter_map(|member| self.stranger(member.as_str())));
        }
        Ok(done)
    }

    pub(super) fn remove_members(
        &mut self,
        kind: GroupKind,
        group: &str,
        members: &[String],
    ) -> Result<Done, ApiError> {
        self.change_members(kind, group, members, |config, member| config.remove_member(kind, group, member))
    }

    pub(super) fn list_access(&self) -> Vec<AccessInfo> {
        let stmf = &self.configuration.stmf;
        let info = |name: Option<&str>, id: Option<GroupId>| {
            let PathAccess { state, preferred } = stmf.access(id);
            let number = stmf::port_group_number(id);
            AccessInfo { target_group: name.map(str::to_owned), number, state: state.to_string(), preferred }
        };
        let groups = stmf.groups(GroupKind::Target).map(|group| info(Some(group.name()), Some(group.id())));
        std::iter::once(info(None, None)).chain(groups).collect()
    }

    pub(super) fn set_access(
        &mut self,
        target_group: Option<&str>,
        state: &str,
        preferred: bool,
    ) -> Result<Done, ApiError> {
        let state: AccessState = state.parse().map_err(|error: stmf::config::UnknownAccessState| {
            ApiError::new(ErrorKind::Invalid, error.to_string())
                .hint("active-optimized, active-non-optimized, standby, unavailable or transitioning")
        })?;
        let change = self.configuration.stmf.set_access(target_group, PathAccess { state, preferred })?;
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        Ok(done())
    }

    /// Plans a change for each member; those that cannot be made are told, the others are one transaction.
    fn change_members(
        &mut self,
        kind: GroupKind,
        group: &str,
        members: &[String],
        plan: impl Fn(&Config, &str) -> Result<stmf::config::Change, ConfigError>,
    ) -> Result<Done, ApiError> {
        // The group itself must be there: that is one failure, not one for each member.
        self.configuration.stmf.group(kind, group)?;
        let mut done = done();
        let change = self.configuration.stmf.batch(|draft| {
            for member in members {
                match plan(draft.config(), member) {
                    Ok(change) => draft.apply(change),
                    Err(error) => done.failures.push(error.into()),
                }
            }
            Ok::<(), ApiError>(())
        })?;
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        Ok(done)
    }
}

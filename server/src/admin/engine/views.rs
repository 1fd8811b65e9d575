//! View entries.

use stmf::Guid;
use stmf::config::{ConfigError, GroupKind, NewView, ViewEntry};

use super::{Engine, done};
use crate::admin::api::{ApiError, Done, ViewInfo};
use crate::model::Transaction;

impl Engine {
    pub(super) fn add_view(
        &mut self,
        lu: &str,
        host_group: Option<&str>,
        target_group: Option<&str>,
        lun: Option<u64>,
    ) -> Result<Done, ApiError> {
        let guid = stmf::guid::parse(lu)?;
        let view = NewView { lu: guid, host_group, target_group, lun };
        let (change, entry) = self.configuration.stmf.add_view(&view)?;
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        let mut done = done();
        if !self.units.contains_key(&guid) {
            done.warnings.push(format!("there is no logical unit {guid:X} yet: the view entry waits for it"));
        } else if host_group.is_none() {
            done.warnings.push(format!("logical unit {guid:X} is open to every initiator that can log in"));
        }
        done.view = Some(self.view_info(&entry));
        Ok(done)
    }

    pub(super) fn remove_views(&mut self, lu: &str, indexes: Option<&[u32]>) -> Result<Done, ApiError> {
        let guid = stmf::guid::parse(lu)?;
        let mut done = done();
        let change = match indexes {
            None => self.configuration.stmf.remove_views(guid)?,
            Some(indexes) => {
                if self.configuration.stmf.views(guid).is_empty() {
                    return Err(ConfigError::NoViews(guid).into());
                }
                self.configuration.stmf.batch(|draft| {
                    for index in indexes {
                        // Without an entry left the unit has no views; what was asked for is this index.
                        let missing = ConfigError::ViewNotFound { lu: guid, index: *index };
                        match draft.config().remove_view(guid, *index) {
                            Ok(change) => draft.apply(change),
                            Err(_) => done.failures.push(missing.into()),
                        }
                    }
                    Ok::<(), ApiError>(())
                })?
            }
        };
        self.commit(Transaction { stmf: Some(change), ..Transaction::default() })?;
        Ok(done)
    }

    pub(super) fn list_views(&self, lu: Option<&str>) -> Result<Vec<ViewInfo>, ApiError> {
        let stmf = &self.configuration.stmf;
        Ok(match lu {
            Some(lu) => stmf.views(stmf::guid::parse(lu)?).iter().map(|entry| self.view_info(entry)).collect(),
            None => stmf.all_views().map(|entry| self.view_info(entry)).collect(),
        })
    }

    pub(super) fn view_info(&self, entry: &ViewEntry) -> ViewInfo {
        let stmf = &self.configuration.stmf;
        let name = |kind, id| stmf.group_by_id(kind, id).map(|group| group.name().to_owned());
        ViewInfo {
            lu: text(entry.lu),
            index: entry.index,
            host_group: entry.scope.host_group.and_then(|id| name(GroupKind::Host, id)),
            target_group: entry.scope.target_group.and_then(|id| name(GroupKind::Target, id)),
            lun: entry.lun,
        }
    }
}

/// The name as the API writes it.
pub(super) fn text(guid: Guid) -> String {
    format!("{guid:X}")
}

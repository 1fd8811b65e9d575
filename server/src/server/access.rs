//! Targets, initiators and portals of a server of the calling program.

use super::{ChangeError, Server};
use crate::driver::ListenError;
use iscsit::config::{Change, Config, ConfigError};
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};

impl Server {
    /// Listens on one more address of the default portal group, and tells it as it was bound: port 0 takes a free one.
    ///
    /// # Errors
    /// The system refuses it.
    pub fn listen(&self, portal: SocketAddr) -> Result<SocketAddr, ListenError> {
        let opened = self.host.open_default_portals(&[portal])?;
        Ok(opened.first().copied().unwrap_or(portal))
    }

    /// The targets, portal groups, initiators and defaults as they are.
    pub fn iscsi(&self) -> Arc<Config> {
        self.host.iscsi()
    }

    /// Changes targets, portal groups, initiators or defaults: what `plan` makes of the configuration is carried out,
    /// all of it, before this returns. Sessions that are not concerned notice nothing.
    ///
    /// ```
    /// # use lunette_server::Server;
    /// use iscsit::config::TargetPatch;
    /// # let server = Server::builder().no_portal().threads(1).start()?;
    /// let patch = TargetPatch { name: Some("iqn.2026-11.com.example:second".into()), ..TargetPatch::default() };
    /// server.change_iscsi(|config| Ok(vec![config.plan_create_target(&patch, [0; 16])?.1]))?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`ChangeError`]; nothing has changed then.
    pub fn change_iscsi(
        &self,
        plan: impl FnOnce(&Config) -> Result<Vec<Change>, ConfigError>,
    ) -> Result<(), ChangeError> {
        if self.engine.is_some() {
            return Err(ChangeError::Managed);
        }
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = (*self.host.iscsi()).clone();
        plan(&config)?.into_iter().for_each(|change| config.commit(change));
        self.host.follow(&config);
        Ok(())
    }
}

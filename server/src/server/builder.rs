//! What a server of the calling program is made of.

use super::{Disk, Server, StartError, disk, start_host};
use crate::driver::{Interface, Limits};
use crate::fc::{FcDriver, FcPort};
use crate::host::HostOptions;
use crate::model::Configuration;
use iscsit::config::{ISCSI_PORT, TargetPatch};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stmf::provider::LogicalUnit;
use tokio::sync::Notify;

/// Makes a [`Server`] of disks of the calling program. It keeps no configuration and has no management socket.
#[derive(Clone, Debug, Default)]
pub struct ServerBuilder {
    target: Option<String>,
    portals: Vec<SocketAddr>,
    no_portal: bool,
    disks: Vec<Disk>,
    units: Vec<(Arc<dyn LogicalUnit>, Option<u16>)>,
    fc_ports: Vec<FcPort>,
    options: HostOptions,
}

impl ServerBuilder {
    /// The target's name; generated if not given.
    #[must_use]
    pub fn target(mut self, name: impl Into<String>) -> Self {
        self.target = Some(name.into());
        self
    }

    /// One more address to listen on; port 0 takes a free one. Without any it is 127.0.0.1:3260.
    #[must_use]
    pub fn portal(mut self, address: SocketAddr) -> Self {
        self.portals.push(address);
        self
    }

    /// Without a portal, unless one is given: [`Server::listen`] opens them when the server is configured.
    #[must_use]
    pub fn no_portal(mut self) -> Self {
        self.no_portal = true;
        self
    }

    /// One more disk.
    #[must_use]
    pub fn disk(mut self, disk: Disk) -> Self {
        self.disks.push(disk);
        self
    }

    /// One more logical unit of another kind than a disk over a store, at `lun` or the lowest that is free.
    #[must_use]
    pub fn unit(mut self, lu: Arc<dyn LogicalUnit>, lun: Option<u16>) -> Self {
        self.units.push((lu, lun));
        self
    }

    /// One more driver of Fibre Channel adapters, under a name that ports refer to; see [`fc`](crate::fc).
    #[must_use]
    pub fn fc_driver(mut self, name: impl Into<String>, driver: Arc<dyn FcDriver>) -> Self {
        self.options.fc_drivers = std::mem::take(&mut self.options.fc_drivers).with(name, driver);
        self
    }

    /// One more Fibre Channel port. All disks are reached by it as well; it is opened after they are there.
    #[must_use]
    pub fn fc_port(mut self, port: FcPort) -> Self {
        self.fc_ports.push(port);
        self
    }

    /// Threads of the data path; one per processor if not given.
    #[must_use]
    pub fn threads(mut self, threads: usize) -> Self {
        self.options.threads = Some(threads);
        self
    }

    /// The system interface of the data path.
    #[must_use]
    pub fn interface(mut self, interface: Interface) -> Self {
        self.options.interface = interface;
        self
    }

    /// Limits of the data path.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.options.limits = limits;
        self
    }

    /// How long a thread looks for work before it sleeps; see [`Limits::poll`].
    #[must_use]
    pub fn poll(mut self, time: Duration) -> Self {
        self.options.limits.poll = time;
        self
    }

    /// Starts it. Everything is served when this returns.
    ///
    /// # Errors
    /// [`StartError`] names what stands in the way; nothing is served then.
    pub fn start(self) -> Result<Server, StartError> {
        let mut configuration = Configuration::default();
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| StartError::System(std::io::Error::other(error.to_string())))?;
        let patch = TargetPatch { name: self.target, ..TargetPatch::default() };
        let (target, change) = configuration.iscsi.plan_create_target(&patch, random)?;
        configuration.iscsi.commit(change);
        for port in self.fc_ports {
            self.options.fc_drivers.check(&port).map_err(|error| StartError::System(std::io::Error::other(error)))?;
            configuration.fc_ports.insert(port.port_name, port);
        }
        configuration.ports.extend(configuration.unnumbered_ports().into_iter().filter_map(|(k, n)| Some((k, n?))));
        let failure: Arc<Notify> = Arc::default();
        let server = Server {
            admin: None,
            metrics: None,
            host: start_host(&self.options, &configuration, &failure)?,
            engine: None,
            target: Some(target.to_string()),
            failure,
            guids: disk::Guids::default(),
            changing: std::sync::Mutex::default(),
        };
        for disk in self.disks {
            server.add_disk(disk)?;
        }
        for (lu, lun) in self.units {
            server.add_unit(lu, lun)?;
        }
        server.host.follow_fc(&configuration);
        let default = [SocketAddr::from((Ipv4Addr::LOCALHOST, ISCSI_PORT))];
        let unsaid = self.portals.is_empty() && !self.no_portal;
        server.host.open_default_portals(if unsaid { &default } else { &self.portals })?;
        Ok(server)
    }
}

//! Fibre Channel adapters: what an administrator configures of them, and how a driver's author adds his own.
//!
//! A *driver* ([`FcDriver`]) opens adapters; a *port* ([`FcPort`]) is what the configuration keeps of one: its names,
//! whether it is a target's or an initiator's, the driver's name, and the driver's own options. The server opens the
//! adapters of all ports when it starts, each driven by a thread of its own, and follows changes.
//!
//! ```
//! use lunette_server::Server;
//! use lunette_server::fc::{Adapter, FcDriver, FcMode, FcPort, Wake, Wwn};
//! use std::sync::Arc;
//!
//! #[derive(Debug)]
//! struct MyDriver;
//!
//! impl FcDriver for MyDriver {
//!     fn open(&self, port: &FcPort, wake: Wake) -> Result<Adapter, String> {
//!         // Your interrupt calls `wake`, or the adapter's descriptor becomes readable.
//!         # let _ = wake;
//!         # let (end, _) = fct::soft::Wire::new(1).ends();
//!         # let hba = fct::soft::SoftHba::new(fct::soft::SoftHbaConfig::new(port.port_name, port.node_name), end);
//!         Ok(Adapter::new(hba))
//!     }
//! }
//!
//! let port = FcPort::new(Wwn(0x2100_0000_0000_0001), Wwn(0x2000_0000_0000_0001), FcMode::Target, "mine");
//! let server = Server::builder().no_portal().fc_driver("mine", Arc::new(MyDriver)).fc_port(port).start()?;
//! assert!(server.stmf().target("wwn.2100000000000001").is_ok());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#[cfg(feature = "fcoe")]
pub mod fcoe;
pub mod soft;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use stmf::provider::hba::Hba;

pub use fct::Wake;
pub use stmf::provider::hba::Wwn;

/// Which end of a nexus a port is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FcMode {
    /// It is a target of the framework: views and host groups say who sees what through it.
    #[default]
    Target,
    /// It logs in to the targets that it finds, and lists their logical units.
    Initiator,
}

/// What the configuration keeps of a Fibre Channel port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct FcPort {
    /// Its port name; unique.
    #[serde(with = "wwn_text")]
    pub port_name: Wwn,
    /// Its node name.
    #[serde(with = "wwn_text")]
    pub node_name: Wwn,
    /// Which end it is.
    #[serde(default)]
    pub mode: FcMode,
    /// The driver that opens its adapter.
    pub driver: String,
    /// What the driver wants to know: an interface, a fabric. Each driver documents its own.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

impl FcPort {
    /// A port without options.
    pub fn new(port_name: Wwn, node_name: Wwn, mode: FcMode, driver: impl Into<String>) -> Self {
        Self { port_name, node_name, mode, driver: driver.into(), options: BTreeMap::new() }
    }

    /// The same with one more option.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// The name of its target in groups and lists: `wwn.` and 16 upper-case digits.
    pub fn device_name(&self) -> String {
        self.port_name.device_name()
    }
}

/// Words for lists, by the driver's labels.
pub type Report = Box<dyn Fn() -> BTreeMap<String, String> + Send + Sync>;

/// Plugs the cable in (`true`) or unplugs it.
pub type Plug = Box<dyn Fn(bool) + Send + Sync>;

/// An opened adapter, which the server drives from a thread of its own.
pub struct Adapter {
    /// The adapter.
    pub hba: Box<dyn Hba>,
    /// A descriptor that is readable when the adapter has something: a packet socket, an event descriptor of a device.
    /// The thread sleeps on it as well, so that a driver needs none of its own. Reading it empty is the adapter's, at
    /// [`Hba::poll_event`].
    pub descriptor: Option<OwnedFd>,
    /// For adapters whose cable is software: unplugs it and plugs it in again. May be called from any thread.
    pub plug: Option<Plug>,
    /// What lists show beyond [`Hba::details`]. May be called from any thread.
    pub report: Option<Report>,
}

impl Adapter {
    /// An adapter that wakes the thread by itself.
    pub fn new(hba: impl Hba + 'static) -> Self {
        Self { hba: Box::new(hba), descriptor: None, plug: None, report: None }
    }

    /// The same, with a descriptor to sleep on.
    #[must_use]
    pub fn descriptor(mut self, descriptor: OwnedFd) -> Self {
        self.descriptor = Some(descriptor);
        self
    }

    /// The same, with a cable that can be unplugged.
    #[must_use]
    pub fn plug(mut self, plug: impl Fn(bool) + Send + Sync + 'static) -> Self {
        self.plug = Some(Box::new(plug));
        self
    }

    /// The same, with words for lists.
    #[must_use]
    pub fn report(mut self, report: impl Fn() -> BTreeMap<String, String> + Send + Sync + 'static) -> Self {
        self.report = Some(Box::new(report));
        self
    }
}

impl fmt::Debug for Adapter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Adapter").field("hba", &self.hba).field("descriptor", &self.descriptor).finish_non_exhaustive()
    }
}

/// Opens adapters. One object serves all ports of its kind, and may be called from any thread.
pub trait FcDriver: Send + Sync + fmt::Debug {
    /// Whether the port's mode and options make sense; looks at no device. What is refused here is never configured.
    ///
    /// # Errors
    /// Why not, in words for the administrator.
    fn check(&self, port: &FcPort) -> Result<(), String> {
        let _ = port;
        Ok(())
    }

    /// Opens the adapter of a port, switched off; [`Hba::port_name`] is [`FcPort::port_name`]. `wake` has the thread
    /// poll the adapter; any thread may call it, also during this call.
    ///
    /// # Errors
    /// Why not, in words for the administrator. The server shows them, and tries again every ten seconds.
    fn open(&self, port: &FcPort, wake: Wake) -> Result<Adapter, String>;
}

/// Drivers by name. The default has those that are built in: `softfc`, ports in software ([`soft`]), and `fcoe`, ports over
/// Ethernet.
#[derive(Clone, Debug)]
pub struct FcDrivers(BTreeMap<String, Arc<dyn FcDriver>>);

impl Default for FcDrivers {
    fn default() -> Self {
        let drivers = Self(BTreeMap::new()).with(soft::DRIVER, Arc::new(soft::SoftDriver::default()));
        #[cfg(feature = "fcoe")]
        let drivers = drivers.with(fcoe::DRIVER, Arc::new(fcoe::FcoeDriver::default()));
        drivers
    }
}

impl FcDrivers {
    /// The same with one more driver, or another one of that name.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, driver: Arc<dyn FcDriver>) -> Self {
        self.0.insert(name.into(), driver);
        self
    }

    /// The driver of that name.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn FcDriver>> {
        self.0.get(name)
    }

    /// The names of all.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Whether a port can be configured: its driver is there and takes it.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, port: &FcPort) -> Result<(), String> {
        match self.find(&port.driver) {
            Some(driver) => driver.check(port),
            None => {
                let known: Vec<&str> = self.names().collect();
                Err(format!("driver {} is not in this program, which has {}", port.driver, known.join(", ")))
            }
        }
    }
}

/// World wide names as 16 digits.
pub(crate) mod wwn_text {
    use super::Wwn;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(name: &Wwn, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(name)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Wwn, D::Error> {
        let text = String::deserialize(deserializer)?;
        Wwn::parse(&text).ok_or_else(|| D::Error::custom(format!("{text} is no world wide name of 16 digits")))
    }
}

//! What the service manager hands over, and what it wants to hear: systemd's socket activation and notification, which
//! others speak as well. Without a service manager nothing here does anything.

use std::env;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixDatagram, UnixListener};
use std::time::Duration;

use rustix::net::{SocketType, sockopt};

use crate::driver::take_inherited;

/// Listening sockets that were opened before the program started.
#[derive(Debug, Default)]
pub struct Sockets {
    /// Portals of the default portal group.
    pub(crate) portals: Vec<OwnedFd>,
    /// The management socket.
    pub(crate) management: Option<UnixListener>,
}

impl Sockets {
    /// Those that the environment names (`LISTEN_PID`, `LISTEN_FDS`): the TCP sockets are portals of the default portal
    /// group, the Unix one is the management socket. Empty when it names none, or another process, or when they were
    /// taken before. To be called first of all: it takes descriptors by their numbers.
    pub fn from_environment() -> Self {
        let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
        if number("LISTEN_PID") != Some(std::process::id()) {
            return Self::default();
        }
        let mut sockets = Self::default();
        for socket in take_inherited(number("LISTEN_FDS").unwrap_or_default() as usize) {
            let listens = sockopt::socket_acceptconn(&socket).unwrap_or(false)
                && sockopt::socket_type(&socket).is_ok_and(|kind| kind == SocketType::STREAM);
            let address = rustix::net::getsockname(&socket).ok();
            let is_portal = address.as_ref().is_some_and(|address| SocketAddr::try_from(address.clone()).is_ok());
            let is_unix = address.is_some_and(|address| address.address_family() == rustix::net::AddressFamily::UNIX);
            match (listens, is_portal, is_unix) {
                (true, true, _) => sockets.portals.push(socket),
                (true, _, true) if sockets.management.is_none() => sockets.management = Some(socket.into()),
                _ => tracing::warn!("the service manager passed a descriptor that is of no use here"),
            }
        }
        sockets
    }

    /// Whether there are portals among them.
    pub fn has_portals(&self) -> bool {
        !self.portals.is_empty()
    }
}

/// Tells the service manager, if there is one: `READY=1` and the like (sd_notify).
pub(crate) fn notify(state: &str) {
    let Some(place) = env::var_os("NOTIFY_SOCKET") else { return };
    let bytes = place.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => UnixAddr::from_abstract_name(name),
        None => UnixAddr::from_pathname(&place),
    };
    let told = address.and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = told {
        tracing::warn!("cannot tell the service manager: {error}");
    }
}

/// How often the service manager wants to hear `WATCHDOG=1`; half of what it allows. `None`: not at all.
pub(crate) fn watchdog_interval() -> Option<Duration> {
    let number = |name: &str| env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    if number("WATCHDOG_PID").is_some_and(|pid| pid != u64::from(std::process::id())) {
        return None;
    }
    number("WATCHDOG_USEC").filter(|micros| *micros > 0).map(|micros| Duration::from_micros(micros / 2))
}

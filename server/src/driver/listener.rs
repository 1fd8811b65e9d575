//! Listening sockets of portals.

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

/// Connections that the system keeps ready for accepting; it caps this at net.core.somaxconn.
const BACKLOG: i32 = 4096;

/// Why a portal cannot be listened on: which one, and the system's reason.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on portal {portal}: {source}")]
pub struct ListenError {
    /// The address asked for.
    pub portal: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

impl ListenError {
    /// What to do about it, if that is known.
    pub fn hint(&self) -> Option<String> {
        let port = self.portal.port();
        Some(match Errno::from_io_error(&self.source)? {
            Errno::ADDRINUSE => format!(
                "another program (a second lunette, tgtd, the kernel's target) listens there: stop it \
                 ('ss -ltnp sport = :{port}' names it) or choose another port with --portal"
            ),
            Errno::ADDRNOTAVAIL => {
                format!("no interface has the address {} ('ip address' lists them)", self.portal.ip())
            }
            Errno::ACCESS | Errno::PERM => {
                format!("port {port} needs privileges (CAP_NET_BIND_SERVICE); the iSCSI port 3260 needs none")
            }
            Errno::AFNOSUPPORT => "this host has no IPv6; give an IPv4 address".into(),
            _ => return None,
        })
    }

    /// Whether this host has no such address family at all (IPv6 switched off), which an all-addresses portal may
    /// shrug off.
    pub fn is_family_unsupported(&self) -> bool {
        matches!(
            Errno::from_io_error(&self.source),
            Some(Errno::AFNOSUPPORT | Errno::PROTONOSUPPORT | Errno::ADDRNOTAVAIL)
        )
    }
}

/// Opens a listening socket and tells the address it got (port 0 takes a free one).
pub(crate) fn listen(portal: SocketAddr) -> Result<(OwnedFd, SocketAddr), ListenError> {
    open(portal).map_err(|errno| ListenError { portal, source: errno.into() })
}

fn open(portal: SocketAddr) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = if portal.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None)?;
    // A restarted server takes its port back though old connections linger in TIME-WAIT.
    sockopt::set_socket_reuseaddr(&socket, true)?;
    if portal.is_ipv6() {
        // 0.0.0.0 and [::] are two portals that stand side by side.
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    rustix::net::bind(&socket, &portal)?;
    rustix::net::listen(&socket, BACKLOG)?;
    let address = rustix::net::getsockname(&socket)?.try_into().unwrap_or(portal);
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_port_names_the_portal_and_the_remedy() {
        let (_first, address) = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let error = listen(address).unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
        assert!(error.hint().unwrap().contains("another program"), "{error}");
    }

    #[test]
    fn an_address_of_nobody_is_named() {
        let error = listen("192.0.2.1:0".parse().unwrap()).unwrap_err();
        assert!(error.is_family_unsupported());
        assert!(error.hint().unwrap().contains("no interface has the address 192.0.2.1"), "{error}");
    }
}

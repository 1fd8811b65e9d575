//! Portals and portal groups.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The TCP port IANA gave to iSCSI targets.
pub const ISCSI_PORT: u16 = 3260;

/// The tag of the default portal group, on every target without portal groups of its own.
pub const DEFAULT_TAG: u16 = 1;

/// An address and TCP port on which targets are offered; written `192.0.2.1:3260` or `[2001:db8::1]:3260`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Portal(SocketAddr);

impl Portal {
    /// A portal at this address. IPv4 addresses mapped into IPv6 become IPv4 again, so that one place has one name.
    pub fn new(address: SocketAddr) -> Self {
        Self(SocketAddr::new(address.ip().to_canonical(), address.port()))
    }

    /// Address and port.
    pub fn address(self) -> SocketAddr {
        self.0
    }

    /// Reads `IP[:port]` with `[IPv6][:port]`; `default_port` stands in for a missing port. A bare IPv6 address is
    /// taken, too, since without brackets it cannot have a port.
    ///
    /// # Errors
    /// [`PortalError`], if it is no address, port 0, the unspecified address or a multicast one: initiators are told
    /// portals, and cannot connect to any of these.
    pub fn parse(text: &str, default_port: u16) -> Result<Self, PortalError> {
        let address = if let Ok(address) = text.parse::<SocketAddr>() {
            address
        } else {
            let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']'));
            let ip = match bare {
                Some(v6) => IpAddr::V6(v6.parse::<Ipv6Addr>().map_err(|_| PortalError)?),
                None => text.parse::<IpAddr>().map_err(|_| PortalError)?,
            };
            SocketAddr::new(ip, default_port)
        };
        let ip = address.ip();
        let broadcast = ip == IpAddr::V4(Ipv4Addr::BROADCAST);
        if address.port() == 0 || ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(PortalError);
        }
        Ok(Self::new(address))
    }
}

/// A text is no address that an initiator could connect to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid address")]
pub struct PortalError;

impl FromStr for Portal {
    type Err = PortalError;

    fn from_str(text: &str) -> Result<Self, PortalError> {
        Self::parse(text, ISCSI_PORT)
    }
}

impl fmt::Display for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Portal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Serialize for Portal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Portal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A named set of portals. A portal is in one group at most; a group may serve many targets, on each under a tag.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortalGroup {
    /// Free text, 1 to 255 bytes without commas (`itadm -t` lists names with commas between).
    pub name: String,
    /// At least one, in the order given.
    pub portals: Vec<Portal>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn portals_read_with_and_without_port() {
        for (text, shown) in [
            ("192.0.2.1", "192.0.2.1:3260"),
            ("192.0.2.1:860", "192.0.2.1:860"),
            ("[2001:db8::1]", "[2001:db8::1]:3260"),
            ("[2001:db8::1]:3261", "[2001:db8::1]:3261"),
            ("2001:db8::1", "[2001:db8::1]:3260"),
            ("[::ffff:192.0.2.1]:3260", "192.0.2.1:3260"),
        ] {
            assert_eq!(text.parse::<Portal>().unwrap().to_string(), shown);
        }
    }

    #[test]
    fn nobody_connects_to_these() {
        for text in ["", "host", "192.0.2.1:0", "192.0.2.1:65536", "0.0.0.0", "[::]:3260", "224.0.0.1", "[192.0.2.1]"] {
            assert_eq!(text.parse::<Portal>(), Err(PortalError), "{text}");
        }
    }
}

//! Fibre Channel over Ethernet (FC-BB-6): frames in frames, and the initialisation protocol that finds the others.
//!
//! - [`encapsulate`] and [`decapsulate`]: EtherType 8906h.
//! - [`fip`]: EtherType 8914h, and the state machines that log in to a fabric's forwarder or claim an address among
//!   equals.
//! - [`FcoeHba`]: an adapter made of both, over whatever moves Ethernet frames ([`EthernetLink`]).
//! - [`MemoryLink`]: two ends joined in memory.

pub mod fip;
mod frame;
mod hba;
mod memory;

pub use frame::{FcoeError, decapsulate, encapsulate};
pub use hba::{FcoeConfig, FcoeHba, FcoeState, FcoeStatus, FcoeWatch};
pub use memory::MemoryLink;

use bytes::Bytes;
use std::fmt;
use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::{PortId, Wwn};

/// The EtherType of FC frames.
pub const ETHERTYPE_FCOE: u16 = 0x8906;
/// The EtherType of the initialisation protocol.
pub const ETHERTYPE_FIP: u16 = 0x8914;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MacAddress(pub [u8; 6]);

impl MacAddress {
    /// The group of all ports that take FCoE frames.
    pub const ALL_FCOE: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x00]);
    /// The group of all end nodes.
    pub const ALL_ENODES: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x01]);
    /// The group of all forwarders.
    pub const ALL_FORWARDERS: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x02]);
    /// The group of all ports that need no forwarder.
    pub const ALL_VN2VN: Self = Self([0x01, 0x10, 0x18, 0x01, 0x00, 0x04]);

    /// The address that a port has for its N_Port identifier: FC-MAP and identifier.
    pub const fn mapped(fc_map: [u8; 3], id: PortId) -> Self {
        let [a, b, c] = id.to_bytes();
        Self([fc_map[0], fc_map[1], fc_map[2], a, b, c])
    }

    /// Whether a station may have it: no group, and not zero.
    pub fn is_station(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }

    /// The node name that an Ethernet address makes: 1000h and the address.
    pub const fn node_name(self) -> Wwn {
        Wwn(0x1000 << 48 | self.number())
    }

    /// The port name that an Ethernet address makes: 2000h and the address.
    pub const fn port_name(self) -> Wwn {
        Wwn(0x2000 << 48 | self.number())
    }

    const fn number(self) -> u64 {
        let [a, b, c, d, e, f] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What is known of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Carrier {
    /// It is up and has a carrier.
    pub up: bool,
    /// Longest payload of an Ethernet frame in bytes.
    pub mtu: usize,
    /// Speed in gigabits per second; 0 when it is not known.
    pub speed: u32,
}

/// What moves Ethernet frames: an interface, seen from an [`FcoeHba`]. Nothing here waits.
pub trait EthernetLink: Send + fmt::Debug {
    /// The interface's own address.
    fn address(&self) -> MacAddress;

    /// How the interface is, now; asked often.
    fn carrier(&mut self, now: Instant) -> Carrier;

    /// When the answer to [`carrier`](Self::carrier) may be another, if nobody says so before.
    fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// A frame of one of the two EtherTypes, addresses first; none when there is none.
    fn receive(&mut self) -> Option<Bytes>;

    /// Sends a frame, addresses first.
    ///
    /// # Errors
    /// The frame when there is no room now.
    fn send(&mut self, frame: Segments) -> Result<(), Segments>;

    /// Sends what [`send`](Self::send) has gathered.
    fn flush(&mut self) {}

    /// From now on takes frames to this address of its own, besides [`address`](Self::address) and the groups; `None`:
    /// to no other.
    fn listen(&mut self, address: Option<MacAddress>);
}

/// The first 14 bytes of an Ethernet frame.
fn ethernet_header(to: MacAddress, from: MacAddress, ethertype: u16) -> [u8; 14] {
    let mut bytes = [0; 14];
    bytes[..6].copy_from_slice(&to.0);
    bytes[6..12].copy_from_slice(&from.0);
    bytes[12..].copy_from_slice(&ethertype.to_be_bytes());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_the_interface_s_address() {
        let address = MacAddress([0x52, 0x54, 0, 0x12, 0x34, 0x56]);
        assert_eq!(address.node_name(), Wwn(0x1000_5254_0012_3456));
        assert_eq!(address.port_name(), Wwn(0x2000_5254_0012_3456));
        assert_eq!(address.to_string(), "52:54:00:12:34:56");
        assert!(address.is_station() && !MacAddress::ALL_VN2VN.is_station() && !MacAddress([0; 6]).is_station());
        let mapped = MacAddress::mapped([0x0e, 0xfc, 0], PortId(0x01_0203));
        assert_eq!(mapped.to_string(), "0e:fc:00:01:02:03");
    }
}

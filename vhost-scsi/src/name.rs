//! What reservations call a guest.

use scsi_core::TransportId;

/// The TransportID of the guest of this name, which is one initiator port (SPC-5, TransportID identifiers).
///
/// Virtio has no protocol identifier and no names. `wwn.` and 16 digits is the name of a Fibre Channel port and no iSCSI name,
/// so it is told as N_PORT_NAME; `iqn.`, `eui.` and `naa.` are iSCSI names (RFC 7143 4.2.7), told with an ISID of the random
/// format that is always the same, since a guest that comes back has to be the nexus that it was.
pub fn transport_id(initiator: &str) -> TransportId {
    let is_hex = |digits: &&str| digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let (prefix, rest) = initiator.split_at_checked(4).unwrap_or_default();
    let digits = Some(rest).filter(|_| prefix.eq_ignore_ascii_case("wwn.")).filter(is_hex);
    let name = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
    // A guest is one initiator port: always the same ISID, of the random format.
    name.map_or_else(|| TransportId::iscsi_port(initiator, [0x80, 0, 0, 0, 0, 0]), TransportId::FibreChannel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_fibre_channel_ports_are_told_as_such_and_iscsi_names_as_ports() {
        for name in ["wwn.210000E08B01F7E2", "WWN.210000e08b01f7e2"] {
            assert_eq!(transport_id(name), TransportId::FibreChannel(0x2100_00e0_8b01_f7e2));
        }
        for name in ["iqn.2026-11.test:guest", "eui.0123456789ABCDEF", "naa.52004567BA64678D"] {
            assert_eq!(transport_id(name), TransportId::iscsi_port(name, [0x80, 0, 0, 0, 0, 0]));
        }
        for name in ["", "wwn.", "wwn.+10000e08b01f7e2", "wwn.210000e08b01f7e2aa", "wwn.é1000e08b01f7e2"] {
            assert!(matches!(transport_id(name), TransportId::IscsiPort { .. }), "{name}");
        }
    }
}

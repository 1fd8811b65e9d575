//! The bytes that keep registrations and reservation over power loss.
//!
//! Big-endian: magic `LuPR`; version (1); flags (bit 0: APTPL, bit 1: a reservation); type code; index of the holder
//! among the registrations (FFFFh: all registrants or none); how many registrations; each of them as key (8), relative
//! target port (2), length and bytes of the port's name (2 + n), length and bytes of the TransportID (2 + n); CRC-32C of
//! all that (4). A later version may append fields before the checksum and raise the version.

use super::model::{Registration, Reservation, Reservations};
use super::names::{NexusName, ReservationType};
use crate::bytes_util::{be16, be32, be64};
use crate::transport_id::TransportId;

const MAGIC: &[u8; 4] = b"LuPR";
const VERSION: u8 = 1;
const NO_HOLDER: u16 = 0xffff;

/// Why a record of reservations cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AptplError {
    /// Store: it is not such a record, or cut.
    #[error("no reservation record")]
    Malformed,
    /// Store: a later version wrote it.
    #[error("reservation record of version {0}, this is version {VERSION}")]
    Version(u8),
    /// Store: it was damaged.
    #[error("reservation record with checksum {found:#010x}, {expected:#010x} expected")]
    Checksum {
        /// What the record says.
        found: u32,
        /// What its bytes give.
        expected: u32,
    },
}

impl Reservations {
    /// The record to keep. Without APTPL in effect it says that there is nothing to restore.
    pub fn to_aptpl(&self) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        let registrations: &[Registration] = if self.aptpl { &self.registrations } else { &[] };
        let reservation = self.reservation.as_ref().filter(|_| self.aptpl);
        let holder = reservation.and_then(|reservation| {
            let holder = reservation.holder.as_ref()?;
            registrations.iter().position(|registration| registration.nexus == *holder)
        });
        out.push(VERSION);
        out.push(u8::from(self.aptpl) | u8::from(reservation.is_some()) << 1);
        out.push(reservation.map_or(0, |reservation| reservation.kind.code()));
        out.extend_from_slice(&holder.map_or(NO_HOLDER, |at| at as u16).to_be_bytes());
        out.extend_from_slice(&(registrations.len() as u16).to_be_bytes());
        for Registration { nexus, key } in registrations {
            out.extend_from_slice(&key.to_be_bytes());
            out.extend_from_slice(&nexus.port.relative_id.to_be_bytes());
            put_bytes(&mut out, nexus.port.name.as_bytes());
            let mut id = Vec::new();
            nexus.initiator.encode(&mut id);
            put_bytes(&mut out, &id);
        }
        let checksum = crc32c(&out);
        out.extend_from_slice(&checksum.to_be_bytes());
        out
    }

    /// The state that a record kept. PRGENERATION begins at zero again, as SPC has it.
    ///
    /// # Errors
    /// When the record cannot be read; then what it held is lost ([`Reservations::set_lost`]).
    pub fn from_aptpl(record: &[u8], max_registrations: usize) -> Result<Self, AptplError> {
        let body = record.len().checked_sub(4).map(|length| &record[..length]).ok_or(AptplError::Malformed)?;
        let rest = body.strip_prefix(MAGIC).ok_or(AptplError::Malformed)?;
        let found = be32(record, body.len()).ok_or(AptplError::Malformed)?;
        let expected = crc32c(body);
        if found != expected {
            return Err(AptplError::Checksum { found, expected });
        }
        let (&version, rest) = rest.split_first().ok_or(AptplError::Malformed)?;
        if version != VERSION {
            return Err(AptplError::Version(version));
        }
        decode(rest, max_registrations).ok_or(AptplError::Malformed)
    }
}

fn decode(data: &[u8], max_registrations: usize) -> Option<Reservations> {
    let (flags, kind) = (*data.first()?, *data.get(1)?);
    let (holder, count) = (be16(data, 2)?, be16(data, 4)?);
    let mut rest = data.get(6..)?;
    let mut state = Reservations::new(true, max_registrations);
    for _ in 0..count {
        let (key, relative_id) = (be64(rest, 0)?, be16(rest, 8)?);
        let (name, tail) = take_bytes(rest.get(10..)?)?;
        let (id, tail) = take_bytes(tail)?;
        let (initiator, taken) = TransportId::decode(id).ok()?;
        if taken != id.len() || key == 0 {
            return None;
        }
        let nexus = NexusName::new(initiator, core::str::from_utf8(name).ok()?, relative_id);
        state.registrations.push(Registration { nexus, key });
        rest = tail;
    }
    if !rest.is_empty() {
        return None;
    }
    state.aptpl = flags & 1 != 0;
    if flags & 2 != 0 {
        let kind = ReservationType::from_code(kind)?;
        let holder = if kind.is_all_registrants() {
            None
        } else {
            Some(state.registrations.get(usize::from(holder))?.nexus.clone())
        };
        state.reservation = Some(Reservation { kind, holder });
    }
    Some(state)
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(0xffff)];
    out.extend_from_slice(&(bytes.len() as u16).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_bytes(data: &[u8]) -> Option<(&[u8], &[u8])> {
    let length = usize::from(be16(data, 0)?);
    let rest = &data[2..];
    Some((rest.get(..length)?, &rest[length..]))
}

/// CRC-32C (Castagnoli), bit by bit: records are small and rare.
fn crc32c(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 != 0 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 })
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cdb::{PersistentReserveOut, PrOutAction};
    use crate::reservation::{RegisterParameters, Topology};

    fn state(kind: ReservationType) -> Reservations {
        let mut state = Reservations::new(true, 8);
        let nexus = NexusName::new(TransportId::iscsi_port("iqn.a:b", [1; 6]), "iqn.t:x,t,0x0001", 1);
        let other = NexusName::new(TransportId::FibreChannel(7), "wwn.0000000000000001", 2);
        for nexus in [&other, &nexus] {
            let register = PersistentReserveOut::default();
            let parameters = RegisterParameters { service_action_key: 9, aptpl: true, ..Default::default() };
            state.persistent_reserve_out(nexus, &register, &parameters, Topology::default());
        }
        let reserve = PersistentReserveOut { action: PrOutAction::Reserve, kind: kind.code(), ..Default::default() };
        let parameters = RegisterParameters { key: 9, ..Default::default() };
        assert!(state.persistent_reserve_out(&nexus, &reserve, &parameters, Topology::default()).persist);
        state
    }

    #[test]
    fn the_checksum_is_castagnoli() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    #[test]
    fn registrations_and_reservation_come_back() {
        for kind in ReservationType::ALL {
            let before = state(kind);
            let after = Reservations::from_aptpl(&before.to_aptpl(), 8).unwrap();
            assert_eq!(after.registrations(), before.registrations());
            assert_eq!(after.holder(), before.holder());
            assert_eq!(after.reservation_type(), Some(kind));
            assert_eq!((after.generation(), after.aptpl()), (0, true));
        }
    }

    #[test]
    fn without_aptpl_nothing_comes_back() {
        let mut before = state(ReservationType::WriteExclusive);
        before.aptpl = false;
        let after = Reservations::from_aptpl(&before.to_aptpl(), 8).unwrap();
        assert_eq!(after, Reservations::new(true, 8));
    }

    #[test]
    fn a_damaged_record_is_told_from_a_later_one() {
        let mut record = state(ReservationType::WriteExclusive).to_aptpl();
        assert_eq!(Reservations::from_aptpl(&[], 8), Err(AptplError::Malformed));
        record[20] ^= 1;
        assert!(matches!(Reservations::from_aptpl(&record, 8), Err(AptplError::Checksum { .. })));
        record[20] ^= 1;
        record[4] = 2;
        let end = record.len() - 4;
        let checksum = crc32c(&record[..end]);
        record[end..].copy_from_slice(&checksum.to_be_bytes());
        assert_eq!(Reservations::from_aptpl(&record, 8), Err(AptplError::Version(2)));
    }

    proptest! {
        #[test]
        fn any_record_is_read_without_panic(body in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut record = b"LuPR\x01".to_vec();
            record.extend_from_slice(&body);
            let checksum = crc32c(&record);
            record.extend_from_slice(&checksum.to_be_bytes());
            let _ = Reservations::from_aptpl(&record, 8);
            let _ = Reservations::from_aptpl(&body, 8);
        }
    }
}

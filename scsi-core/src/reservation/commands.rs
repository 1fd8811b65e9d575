//! The data of PERSISTENT RESERVE IN, and the parameter lists of PERSISTENT RESERVE OUT.

use super::model::Reservations;
use super::names::ReservationType;
use crate::bytes_util::{be16, be32, be64};
use crate::sense::SenseData;
use crate::transport_id::TransportId;

/// Bytes of the basic parameter list.
const BASIC_LENGTH: usize = 24;

/// The basic parameter list: every service action but REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RegisterParameters {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub service_action_key: u64,
    /// SPEC_I_PT: the initiator ports to register too.
    pub initiators: Option<Vec<TransportId>>,
    /// ALL_TG_PT: register with every target port.
    pub all_target_ports: bool,
    /// APTPL: registrations and reservation survive power loss.
    pub aptpl: bool,
}

/// The parameter list of REGISTER AND MOVE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MoveParameters {
    /// RESERVATION KEY.
    pub key: u64,
    /// SERVICE ACTION RESERVATION KEY.
    pub service_action_key: u64,
    /// UNREG: the I_T nexus that moves the reservation away is unregistered.
    pub unregister: bool,
    /// APTPL: registrations and reservation survive power loss.
    pub aptpl: bool,
    /// RELATIVE TARGET PORT IDENTIFIER of the I_T nexus to move to.
    pub relative_target_port: u16,
    /// Initiator port of the I_T nexus to move to.
    pub initiator: TransportId,
}

/// Reads the basic parameter list.
///
/// # Errors
/// 05/1A/00 when it is shorter than 24 bytes, or longer without SPEC_I_PT, or the TransportIDs end inside; 05/26/00
/// pointing to a malformed TransportID.
pub fn parse_register(data: &[u8]) -> Result<RegisterParameters, SenseData> {
    let too_short = SenseData::parameter_list_length_error();
    if data.len() < BASIC_LENGTH {
        return Err(too_short);
    }
    let flags = data[20];
    let spec_i_pt = flags & 0x08 != 0;
    if !spec_i_pt && data.len() != BASIC_LENGTH {
        return Err(too_short);
    }
    let initiators = if spec_i_pt { Some(transport_ids(data)?) } else { None };
    Ok(RegisterParameters {
        key: be64(data, 0).unwrap_or(0),
        service_action_key: be64(data, 8).unwrap_or(0),
        initiators,
        all_target_ports: flags & 0x04 != 0,
        aptpl: flags & 0x01 != 0,
    })
}

fn transport_ids(data: &[u8]) -> Result<Vec<TransportId>, SenseData> {
    let length = be32(data, BASIC_LENGTH).ok_or(SenseData::parameter_list_length_error())? as usize;
    let start = BASIC_LENGTH + 4;
    let mut list = data.get(start..).unwrap_or(&[]);
    if list.len() < length {
        return Err(SenseData::parameter_list_length_error());
    }
    list = &list[..length];
    let mut ids = Vec::new();
    let mut at = start;
    while !list.is_empty() {
        let (id, taken) = decode_transport_id(list, at)?;
        ids.push(id);
        list = &list[taken..];
        at += taken;
    }
    Ok(ids)
}

fn decode_transport_id(data: &[u8], at: usize) -> Result<(TransportId, usize), SenseData> {
    TransportId::decode(data)
        .map_err(|error| SenseData::invalid_field_in_parameter_list((at + error.offset).min(0xffff) as u16, None))
}

/// Reads the parameter list of REGISTER AND MOVE.
///
/// # Errors
/// 05/1A/00 when it is cut; 05/26/00 pointing to a malformed TransportID.
pub fn parse_move(data: &[u8]) -> Result<MoveParameters, SenseData> {
    let too_short = SenseData::parameter_list_length_error();
    let length = be32(data, 20).ok_or(too_short)? as usize;
    let list = data.get(24..).ok_or(too_short)?;
    if list.len() != length {
        return Err(too_short);
    }
    let (initiator, taken) = decode_transport_id(list, 24)?;
    if taken != length {
        return Err(SenseData::invalid_field_in_parameter_list(20, Some(7)));
    }
    Ok(MoveParameters {
        key: be64(data, 0).unwrap_or(0),
        service_action_key: be64(data, 8).unwrap_or(0),
        unregister: data[17] & 2 != 0,
        aptpl: data[17] & 1 != 0,
        relative_target_port: be16(data, 18).unwrap_or(0),
        initiator,
    })
}

impl RegisterParameters {
    /// The list, for the initiator's side.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; BASIC_LENGTH];
        out[..8].copy_from_slice(&self.key.to_be_bytes());
        out[8..16].copy_from_slice(&self.service_action_key.to_be_bytes());
        out[20] =
            u8::from(self.initiators.is_some()) << 3 | u8::from(self.all_target_ports) << 2 | u8::from(self.aptpl);
        if let Some(initiators) = &self.initiators {
            let mut list = Vec::new();
            initiators.iter().for_each(|id| id.encode(&mut list));
            out.extend_from_slice(&(list.len() as u32).to_be_bytes());
            out.extend_from_slice(&list);
        }
        out
    }
}

impl MoveParameters {
    /// The list, for the initiator's side.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; BASIC_LENGTH];
        out[..8].copy_from_slice(&self.key.to_be_bytes());
        out[8..16].copy_from_slice(&self.service_action_key.to_be_bytes());
        out[17] = u8::from(self.unregister) << 1 | u8::from(self.aptpl);
        out[18..20].copy_from_slice(&self.relative_target_port.to_be_bytes());
        self.initiator.encode(&mut out);
        let length = (out.len() - BASIC_LENGTH) as u32;
        out[20..24].copy_from_slice(&length.to_be_bytes());
        out
    }
}

fn header(generation: u32, additional: usize) -> Vec<u8> {
    let mut out = generation.to_be_bytes().to_vec();
    out.extend_from_slice(&(additional as u32).to_be_bytes());
    out
}

/// READ KEYS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ReadKeys {
    /// PRGENERATION.
    pub generation: u32,
    /// The key of every registration; equal keys come as often as they are.
    pub keys: Vec<u64>,
}

impl ReadKeys {
    /// What `state` answers.
    pub fn of(state: &Reservations) -> Self {
        let keys = state.registrations().iter().map(|registration| registration.key).collect();
        Self { generation: state.generation(), keys }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = header(self.generation, 8 * self.keys.len());
        self.keys.iter().for_each(|key| out.extend_from_slice(&key.to_be_bytes()));
        out
    }

    /// Reads the data; keys that were cut are left out. `None` when the header is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = be32(data, 4)? as usize;
        let list = &data[8..];
        let keys = list[..list.len().min(length)].chunks_exact(8).filter_map(|key| be64(key, 0)).collect();
        Some(Self { generation: be32(data, 0)?, keys })
    }
}

/// READ RESERVATION data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ReadReservation {
    /// PRGENERATION.
    pub generation: u32,
    /// The holder's key (0 for the all registrants types) and the type; `None` without a reservation.
    pub reservation: Option<(u64, ReservationType)>,
}

impl ReadReservation {
    /// What `state` answers.
    pub fn of(state: &Reservations) -> Self {
        let reservation = state.reservation_type().map(|kind| (state.holder().map_or(0, |holder| holder.key), kind));
        Self { generation: state.generation(), reservation }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let Some((key, kind)) = self.reservation else { return header(self.generation, 0) };
        let mut out = header(self.generation, 16);
        out.extend_from_slice(&key.to_be_bytes());
        out.extend_from_slice(&[0, 0, 0, 0, 0, kind.code(), 0, 0]);
        out
    }

    /// Reads the data; `None` when it is cut or of an unknown type.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let generation = be32(data, 0)?;
        if be32(data, 4)? == 0 {
            return Some(Self { generation, reservation: None });
        }
        let kind = ReservationType::from_code(data.get(21)? & 0x0f)?;
        Some(Self { generation, reservation: Some((be64(data, 8)?, kind)) })
    }
}

/// REPORT CAPABILITIES data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// RLR_C: REPLACE LOST RESERVATION.
    pub replace_lost: bool,
    /// CRH: RESERVE and RELEASE of a holder are accepted as no operation.
    pub compatible_handling: bool,
    /// SIP_C: SPEC_I_PT.
    pub specify_initiator_ports: bool,
    /// ATP_C: ALL_TG_PT.
    pub all_target_ports: bool,
    /// PTPL_C: APTPL.
    pub persist: bool,
    /// PTPL_A: APTPL is in effect.
    pub persist_active: bool,
}

impl Capabilities {
    /// What `state` answers: everything is supported, APTPL if the store can keep it.
    pub fn of(state: &Reservations) -> Self {
        Self {
            replace_lost: true,
            compatible_handling: true,
            specify_initiator_ports: true,
            all_target_ports: true,
            persist: state.aptpl_capable(),
            persist_active: state.aptpl(),
        }
    }

    /// The eight bytes; all six types.
    pub fn encode(&self) -> Vec<u8> {
        let flags = u8::from(self.replace_lost) << 7
            | u8::from(self.compatible_handling) << 4
            | u8::from(self.specify_initiator_ports) << 3
            | u8::from(self.all_target_ports) << 2
            | u8::from(self.persist);
        vec![0, 8, flags, 0x80 | u8::from(self.persist_active), 0xea, 0x01, 0, 0]
    }

    /// Reads the data; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let &[_, _, flags, more, ..] = data else { return None };
        Some(Self {
            replace_lost: flags & 0x80 != 0,
            compatible_handling: flags & 0x10 != 0,
            specify_initiator_ports: flags & 0x08 != 0,
            all_target_ports: flags & 0x04 != 0,
            persist: flags & 0x01 != 0,
            persist_active: more & 0x01 != 0,
        })
    }
}

/// One registration of READ FULL STATUS data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullStatusEntry {
    /// RESERVATION KEY.
    pub key: u64,
    /// R_HOLDER, and the type when it is set.
    pub holds: Option<ReservationType>,
    /// RELATIVE TARGET PORT IDENTIFIER.
    pub relative_target_port: u16,
    /// The initiator port.
    pub initiator: TransportId,
}

/// READ FULL STATUS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct FullStatus {
    /// PRGENERATION.
    pub generation: u32,
    /// The registrations. Each is of one I_T nexus, also those that ALL_TG_PT made.
    pub entries: Vec<FullStatusEntry>,
}

impl FullStatus {
    /// What `state` answers.
    pub fn of(state: &Reservations) -> Self {
        let entries = state.registrations().iter().map(|registration| FullStatusEntry {
            key: registration.key,
            holds: state.reservation_type().filter(|_| state.is_holder(&registration.nexus)),
            relative_target_port: registration.nexus.port.relative_id,
            initiator: registration.nexus.initiator.clone(),
        });
        Self { generation: state.generation(), entries: entries.collect() }
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Vec::new();
        for entry in &self.entries {
            let start = list.len();
            list.extend_from_slice(&entry.key.to_be_bytes());
            let kind = entry.holds.map_or(0, ReservationType::code);
            list.extend_from_slice(&[0, 0, 0, 0, u8::from(entry.holds.is_some()), kind, 0, 0, 0, 0]);
            list.extend_from_slice(&entry.relative_target_port.to_be_bytes());
            list.extend_from_slice(&[0; 4]);
            entry.initiator.encode(&mut list);
            let length = (list.len() - start - 24) as u32;
            list[start + 20..start + 24].copy_from_slice(&length.to_be_bytes());
        }
        let mut out = header(self.generation, list.len());
        out.extend_from_slice(&list);
        out
    }

    /// Reads the data; a last entry that is cut is left out. `None` when the header is cut or an entry malformed.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = be32(data, 4)? as usize;
        let list = &data[8..];
        let mut list = &list[..list.len().min(length)];
        let mut entries = Vec::new();
        while let Some(id_length) = be32(list, 20) {
            let Some(id) = list.get(24..).and_then(|rest| rest.get(..id_length as usize)) else { break };
            let holder = list[12] & 1 != 0;
            entries.push(FullStatusEntry {
                key: be64(list, 0)?,
                holds: if holder { Some(ReservationType::from_code(list[13] & 0x0f)?) } else { None },
                relative_target_port: be16(list, 18)?,
                initiator: TransportId::decode(id).ok()?.0,
            });
            list = &list[24 + id.len()..];
        }
        Some(Self { generation: be32(data, 0)?, entries })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn parameter_lists_round_trip() {
        let parameters = RegisterParameters {
            key: 1,
            service_action_key: 2,
            initiators: Some(vec![TransportId::iscsi("iqn.a:b"), TransportId::FibreChannel(7)]),
            all_target_ports: true,
            aptpl: true,
        };
        assert_eq!(parse_register(&parameters.encode()), Ok(parameters));
        let parameters = MoveParameters {
            key: 1,
            service_action_key: 2,
            unregister: true,
            aptpl: false,
            relative_target_port: 3,
            initiator: TransportId::iscsi_port("iqn.a:b", [0, 1, 2, 3, 4, 5]),
        };
        assert_eq!(parse_move(&parameters.encode()), Ok(parameters));
    }

    #[test]
    fn lengths_that_do_not_fit_are_refused() {
        let error = SenseData::parameter_list_length_error();
        assert_eq!(parse_register(&[0; 23]), Err(error));
        assert_eq!(parse_register(&[0; 25]), Err(error));
        let mut list = RegisterParameters { initiators: Some(Vec::new()), ..Default::default() }.encode();
        assert!(parse_register(&list).is_ok());
        list[27] = 24;
        assert_eq!(parse_register(&list), Err(error));
    }

    #[test]
    fn a_malformed_transport_id_is_pointed_to() {
        let mut list =
            RegisterParameters { initiators: Some(vec![TransportId::iscsi("iqn.a:b")]), ..Default::default() };
        list.initiators.as_mut().unwrap().push(TransportId::iscsi("iqn.a:c"));
        let mut data = list.encode();
        data[28 + 24 + 3] = 3;
        assert_eq!(parse_register(&data), Err(SenseData::invalid_field_in_parameter_list(28 + 24 + 2, None)));
    }

    #[test]
    fn read_reservation_is_empty_or_sixteen_bytes() {
        let none = ReadReservation { generation: 5, reservation: None };
        assert_eq!(none.encode(), [0, 0, 0, 5, 0, 0, 0, 0]);
        let held = ReadReservation { generation: 5, reservation: Some((9, ReservationType::ExclusiveAccess)) };
        assert_eq!(held.encode().len(), 24);
        assert_eq!(ReadReservation::decode(&held.encode()), Some(held));
    }

    #[test]
    fn capabilities_name_all_six_types() {
        assert_eq!(Capabilities { persist: true, ..Default::default() }.encode(), [0, 8, 1, 0x80, 0xea, 1, 0, 0]);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(data in prop::collection::vec(any::<u8>(), 0..120)) {
            let _ = (parse_register(&data), parse_move(&data), ReadKeys::decode(&data), ReadReservation::decode(&data));
            let _ = (FullStatus::decode(&data), Capabilities::decode(&data));
        }
    }
}

//! What a peer may send never makes a decoder panic, and what one wrote reads back the same.

use proptest::prelude::*;
use scsi_core::data::{
    DefectListHeader, FormatParameters, IdentifyingInformation, LbaStatusList, LunList, OperatingParameters,
    OperationCodesReport, OverwriteParameters, ReadCapacity10Data, ReadCapacity16Data, TargetPortGroups,
    TaskManagementSupport, Timestamp, UnmapList, UnmapRange, parse_set_groups,
};
use scsi_core::inquiry::StandardInquiry;
use scsi_core::{Association, Cdb, Designator, DesignatorName, Lun, ProtocolId, SenseData, TransportId, cdb};

proptest! {
    #[test]
    fn any_parameter_data_decodes_without_panic(data in prop::collection::vec(any::<u8>(), 0..160), flag in any::<bool>()) {
        let _ = (StandardInquiry::decode(&data), SenseData::decode(&data), Designator::decode_all(&data));
        let _ = (ReadCapacity10Data::decode(&data), ReadCapacity16Data::decode(&data), LbaStatusList::decode(&data));
        let _ = (LunList::decode(&data), OperationCodesReport::decode(&data), TaskManagementSupport::decode(&data));
        let _ = (TargetPortGroups::decode(&data), parse_set_groups(&data), OperatingParameters::decode(&data));
        let _ = (IdentifyingInformation::decode(&data), Timestamp::decode(&data), Timestamp::parse_set(&data));
        let _ = DefectListHeader::decode(&data, flag);
        let _ = OverwriteParameters::parse(data.len() as u16, &data, 512);
        let command = cdb::FormatUnit { format_data: true, long_list: flag, ..Default::default() };
        let _ = FormatParameters::parse(&command, &data, 512);
        for kind in [0, 1, 2, 127] {
            let _ = IdentifyingInformation::parse_set(kind, &data);
        }
        if let Ok(list) = UnmapList::parse(&data) {
            prop_assert_eq!(list.ranges().count(), list.len());
            let _ = list.check(100, 3, 1 << 20);
        }
        let _ = Cdb::new(&data).map(|cdb| (cdb.opcode(), cdb.control(), cdb.to_array()));
    }

    #[test]
    fn any_transport_id_that_decodes_encodes_to_one_that_is_equal(
        first in prop::sample::select(vec![0u8, 4, 5, 6, 0x45, 0x0a]),
        text in "[a-zA-Z.:,0-9]{0,40}",
        padding in 0usize..8,
    ) {
        let length = (text.len() + 1 + padding).next_multiple_of(4).max(20);
        let mut data = vec![first, 0, 0, length as u8];
        data.extend_from_slice(text.as_bytes());
        data.resize(4 + length, 0);
        if let Ok((id, taken)) = TransportId::decode(&data) {
            prop_assert!(taken <= data.len());
            let mut encoded = Vec::new();
            id.encode(&mut encoded);
            prop_assert_eq!(TransportId::decode(&encoded), Ok((id, encoded.len())));
        }
    }

    #[test]
    fn designators_round_trip_in_lists(numbers in prop::collection::vec((0u8..4, any::<u16>(), "[a-z.:0-9]{1,60}"), 0..6)) {
        let designators: Vec<_> = numbers.into_iter().map(|(kind, number, text)| match kind {
            0 => Designator::relative_target_port(ProtocolId::ISCSI, number),
            1 => Designator::target_port_group(ProtocolId::FIBRE_CHANNEL, number),
            2 => Designator::iscsi_target_port(&text, number),
            _ => {
                let name = DesignatorName::Eui64(u64::from(number).to_be_bytes().to_vec());
                Designator { association: Association::LogicalUnit, protocol: None, name }
            }
        }).collect();
        let mut data = Vec::new();
        designators.iter().for_each(|designator| designator.encode(&mut data));
        prop_assert_eq!(Designator::decode_all(&data), designators);
    }

    #[test]
    fn unmap_lists_round_trip(ranges in prop::collection::vec((any::<u64>(), any::<u32>()), 0..20)) {
        let ranges: Vec<_> = ranges.into_iter().map(|(lba, blocks)| UnmapRange { lba, blocks }).collect();
        let data = UnmapList::encode(&ranges);
        prop_assert!(UnmapList::parse(&data).unwrap().ranges().eq(ranges.iter().copied()));
    }

    #[test]
    fn any_lun_field_keeps_its_number_when_made_canonical(bytes in any::<[u8; 8]>(), number in 0u16..0x4000) {
        let lun = Lun(bytes);
        prop_assert_eq!(lun.canonical().number(), lun.number());
        prop_assert_eq!(Lun::new(number).unwrap().canonical().number(), Some(number));
    }
}

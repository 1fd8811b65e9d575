//! scsi-core: the lists that commands carry, and the answers that an initiator reads.

use scsi_core::cdb::FormatUnit;
use scsi_core::data::{
    BlockRange, CopyList, DefectListHeader, FormatParameters, IdentifyingInformation, LbaStatusList, LunList,
    OperatingParameters, OperationCodesReport, OverwriteParameters, PopulateTokenList, ReadCapacity10Data,
    ReadCapacity16Data, TargetPortGroups, TaskManagementSupport, Timestamp, UnmapList, WriteUsingTokenList,
    parse_set_groups,
};
use scsi_core::inquiry::StandardInquiry;
use scsi_core::reservation::{
    Capabilities, FullStatus, ReadKeys, ReadReservation, Reservations, parse_move, parse_register,
};
use scsi_core::vpd::{
    BlockDeviceCharacteristics, BlockLimits, BlockLimitsExtension, DeviceIdentification, ExtendedInquiry,
    LogicalBlockProvisioning, ManagementNetworkAddresses, ModePagePolicies, Referrals, SupportedPages, ThirdPartyCopy,
    UnitSerialNumber, VpdPage, ZonedCharacteristics,
};

use super::steer;

/// A list of the initiator's: taken, or refused with sense data.
pub(super) fn parameter_list(data: &[u8]) {
    let (which, list) = steer(data);
    let many = usize::from(which >> 4) * 16;
    match which & 0x0f {
        0 => {
            if let Ok(unmap) = UnmapList::parse(list) {
                let _ = unmap.ranges().count();
            }
        }
        1 | 2 => {
            let limits = OperatingParameters {
                max_cscd_count: 8,
                max_segment_count: 8,
                max_descriptor_list_length: 1024,
                max_segment_length: 1 << 24,
                max_inline_data_length: 512,
                ..OperatingParameters::default()
            };
            let _ = CopyList::parse(list, which & 0x0f == 2, &limits);
        }
        3 => drop(PopulateTokenList::parse(list, many).map(|list| total(&list.ranges))),
        4 => drop(WriteUsingTokenList::parse(list, many).map(|list| total(&list.ranges))),
        5 => drop(parse_register(list)),
        6 => drop(parse_move(list)),
        7 => {
            let command = FormatUnit { format_data: true, long_list: which & 0x10 != 0, ..FormatUnit::default() };
            drop(FormatParameters::parse(&command, list, 512));
        }
        8 => drop(OverwriteParameters::parse(list.len() as u16, list, 512)),
        9 => drop(IdentifyingInformation::parse_set(which >> 4, list)),
        10 => drop(Timestamp::parse_set(list)),
        11 => drop(parse_set_groups(list)),
        12 => {
            if let Ok(kept) = Reservations::from_aptpl(list, 64) {
                let again = Reservations::from_aptpl(&kept.to_aptpl(), 64).expect("what was kept is taken back");
                assert_eq!(again.to_aptpl(), kept.to_aptpl());
            }
        }
        _ => {}
    }
}

fn total(ranges: &[BlockRange]) -> u64 {
    ranges.iter().fold(0, |sum: u64, range| sum.saturating_add(range.blocks.into()))
}

/// What a device says about itself, as far as it was cut: read, or not, and never more than was there.
pub(super) fn answer(data: &[u8]) {
    let (which, data) = steer(data);
    match which {
        0 => drop(StandardInquiry::decode(data)),
        1 => drop(SupportedPages::decode(data)),
        2 => drop(UnitSerialNumber::decode(data)),
        3 => drop(DeviceIdentification::decode(data)),
        4 => drop(BlockLimits::decode(data)),
        5 => drop(BlockLimitsExtension::decode(data)),
        6 => drop(BlockDeviceCharacteristics::decode(data)),
        7 => drop(LogicalBlockProvisioning::decode(data)),
        8 => drop(ExtendedInquiry::decode(data)),
        9 => drop(ManagementNetworkAddresses::decode(data)),
        10 => drop(ModePagePolicies::decode(data)),
        11 => drop(Referrals::decode(data)),
        12 => drop(ThirdPartyCopy::decode(data)),
        13 => drop(ZonedCharacteristics::decode(data)),
        14 => drop(ReadCapacity10Data::decode(data)),
        15 => drop(ReadCapacity16Data::decode(data)),
        16 => drop(LunList::decode(data)),
        17 => drop(LbaStatusList::decode(data)),
        18 => drop(OperationCodesReport::decode(data)),
        19 => drop(TargetPortGroups::decode(data)),
        20 => drop(TaskManagementSupport::decode(data)),
        21 => drop(OperatingParameters::decode(data)),
        23 => drop(DefectListHeader::decode(data, true)),
        24 => drop(DefectListHeader::decode(data, false)),
        25 => drop(IdentifyingInformation::decode(data)),
        26 => drop(Timestamp::decode(data)),
        27 => drop(ReadKeys::decode(data)),
        28 => drop(ReadReservation::decode(data)),
        29 => drop(FullStatus::decode(data)),
        30 => drop(Capabilities::decode(data)),
        _ => {}
    }
}

//! Parameter data that commands carry, other than VPD, mode and log pages: encoded for the device server, decoded for
//! clients, parsed where the initiator sends it.
//!
//! Encoders give the whole data; the device server cuts it at the allocation length ([`truncate`]).

mod capacity;
mod copy_list;
mod copy_results;
mod defects;
mod identification;
mod lba_status;
mod luns;
mod operation_codes;
mod sanitize;
mod target_port_groups;
mod task_management;
mod tokens;
mod unmap_list;

pub use self::capacity::{ReadCapacity10Data, ReadCapacity16Data};
pub use self::copy_list::{BlockSegment, CopyList, CscdDescriptor, CscdName, SegmentDescriptor};
pub use self::copy_results::{CopyFailureDetails, CopyState, CopyStatusLid1, CopyStatusLid4, OperatingParameters};
pub use self::defects::{DefectListHeader, FormatParameters};
pub use self::identification::{IdentifyingInformation, Timestamp, TimestampOrigin};
pub use self::lba_status::{LbaStatusDescriptor, LbaStatusList, ProvisioningStatus};
pub use self::luns::LunList;
pub use self::operation_codes::{OperationCodesReport, report_operation_codes};
pub use self::sanitize::OverwriteParameters;
pub use self::target_port_groups::{
    AsymmetricAccessState, SetTargetPortGroup, StatusCode, TargetPortGroup, TargetPortGroups, parse_set_groups,
};
pub use self::task_management::TaskManagementSupport;
pub use self::tokens::{BlockRange, PopulateTokenList, RodTokenInformation, WriteUsingTokenList};
pub use self::unmap_list::{UnmapList, UnmapRange};

/// Cuts `data` at an allocation length: what is behind it is not sent.
pub fn truncate(data: &mut Vec<u8>, allocation_length: u64) {
    data.truncate(usize::try_from(allocation_length).unwrap_or(usize::MAX));
}

//! MAINTENANCE IN and OUT: supported operation codes and functions, target port groups, timestamp, identification.

use super::fields::cdb_struct;

cdb_struct! {
    /// REPORT SUPPORTED OPERATION CODES.
    pub struct ReportSupportedOperationCodes (ReportSupportedOperationCodes) {
        /// RCTD: command timeouts descriptors are wanted.
        return_timeouts: bool = bit((2, 7)),
        /// REPORTING OPTIONS: 0 all, 1 one operation code, 2 one service action, 3 whichever of the two fits.
        reporting_options: u8 = bits((2, 0, 3)),
        /// REQUESTED OPERATION CODE.
        requested_operation_code: u8 = be8(3),
        /// REQUESTED SERVICE ACTION.
        requested_service_action: u16 = be16(4),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS.
    pub struct ReportSupportedTaskManagementFunctions (ReportSupportedTaskManagementFunctions) {
        /// REPD: the extended form is wanted.
        extended: bool = bit((2, 7)),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// REPORT TARGET PORT GROUPS.
    pub struct ReportTargetPortGroups (ReportTargetPortGroups) {
        /// PARAMETER DATA FORMAT: 0 length only, 1 extended header.
        parameter_data_format: u8 = bits((1, 5, 3)),
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// SET TARGET PORT GROUPS.
    pub struct SetTargetPortGroups (SetTargetPortGroups) {
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// REPORT TIMESTAMP.
    pub struct ReportTimestamp (ReportTimestamp) {
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// SET TIMESTAMP.
    pub struct SetTimestamp (SetTimestamp) {
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u32 = be32(6),
    }
}

cdb_struct! {
    /// REPORT IDENTIFYING INFORMATION.
    pub struct ReportIdentifyingInformation (ReportIdentifyingInformation) {
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(6),
        /// IDENTIFYING INFORMATION TYPE, seven bits: 0 peripheral device, 2 text, 7Fh the supported types.
        information_type: u8 = bits((10, 1, 7)),
    }
}

cdb_struct! {
    /// SET IDENTIFYING INFORMATION.
    pub struct SetIdentifyingInformation (SetIdentifyingInformation) {
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u32 = be32(6),
        /// IDENTIFYING INFORMATION TYPE, seven bits: 0 peripheral device, 2 text.
        information_type: u8 = bits((10, 1, 7)),
    }
}

//! The layouts of requests, responses and events (virtio 1.2, 5.6.6).

use scsi_core::{Lun, Status, TaskAttribute, TaskManagementFunction, TaskManagementResponse};

/// Bytes of a CDB in a request: the default of the field `cdb_size`, which no driver changes.
pub const CDB_BYTES: usize = 32;
/// Bytes of sense data in a response: the default of the field `sense_size`.
pub const SENSE_BYTES: usize = 96;

/// LUN, id, attribute, priority, CRN, CDB.
pub(crate) const COMMAND_BYTES: usize = 8 + 8 + 3 + CDB_BYTES;
/// Sense length, residual, status qualifier, status, response, sense.
pub(crate) const RESPONSE_BYTES: usize = 4 + 4 + 2 + 1 + 1 + SENSE_BYTES;
/// Type, subtype, LUN, id.
pub(crate) const MANAGEMENT_BYTES: usize = 4 + 4 + 8 + 8;
/// Type, LUN, events.
pub(crate) const NOTIFICATION_BYTES: usize = 4 + 8 + 4;

/// The field `response`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Response(pub(crate) u8);

impl Response {
    pub(crate) const OK: Self = Self(0);
    pub(crate) const OVERRUN: Self = Self(1);
    pub(crate) const ABORTED: Self = Self(2);
    pub(crate) const BAD_TARGET: Self = Self(3);
    pub(crate) const FAILURE: Self = Self(9);
    pub(crate) const FUNCTION_SUCCEEDED: Self = Self(10);
    pub(crate) const FUNCTION_REJECTED: Self = Self(11);
    pub(crate) const INCORRECT_LUN: Self = Self(12);
}

/// A SCSI command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CommandHeader {
    /// `None`: no target of ours.
    pub(crate) lun: Option<Lun>,
    pub(crate) id: u64,
    pub(crate) attribute: TaskAttribute,
    cdb: [u8; CDB_BYTES],
}

impl CommandHeader {
    pub(crate) fn decode(bytes: &[u8; COMMAND_BYTES]) -> Self {
        let mut cdb = [0; CDB_BYTES];
        cdb.copy_from_slice(&bytes[19..]);
        Self {
            lun: lun(&bytes[..8]),
            id: le64(&bytes[8..16]),
            attribute: match bytes[16] {
                1 => TaskAttribute::Ordered,
                2 => TaskAttribute::HeadOfQueue,
                3 => TaskAttribute::Aca,
                _ => TaskAttribute::Simple,
            },
            cdb,
        }
    }

    /// The CDB: 16 bytes, or all of them if it says that it is longer (SPC-5, variable length CDBs).
    pub(crate) fn cdb(&self) -> &[u8] {
        const VARIABLE_LENGTH: u8 = 0x7f;
        const EXTENDED: u8 = 0x7e;
        if matches!(self.cdb[0], VARIABLE_LENGTH | EXTENDED) { &self.cdb } else { &self.cdb[..16] }
    }

    /// Whether its data goes to the medium as it is and is looked at by nobody.
    pub(crate) fn is_plain_write(&self) -> bool {
        const WRITES: [u8; 8] = [0x0a, 0x2a, 0xaa, 0x8a, 0x2e, 0xae, 0x8e, 0x9c];
        WRITES.contains(&self.cdb[0])
    }
}

/// The address of a logical unit (virtio 1.2, 5.6.6.1): 1, the target, which is always 0 here, and a single-level LUN; or
/// that of the well-known unit REPORT LUNS.
pub(crate) fn lun(bytes: &[u8]) -> Option<Lun> {
    match *bytes {
        [1, 0, high, low, 0, 0, 0, 0] => Some(Lun([high, low, 0, 0, 0, 0, 0, 0])),
        [0xc1, 1, 0, 0, 0, 0, 0, 0] => Some(Lun::REPORT_LUNS_WELL_KNOWN),
        _ => None,
    }
}

/// The address by which the device names a logical unit: in the form in which REPORT LUNS lists it, for Linux compares the
/// two as numbers.
pub(crate) fn address(number: u16) -> [u8; 8] {
    let [high, low, ..] = Lun::new(number).unwrap_or_default().0;
    [1, 0, high, low, 0, 0, 0, 0]
}

/// A response to a command.
pub(crate) fn response(code: Response, status: Status, sense: &[u8], residual: u32) -> [u8; RESPONSE_BYTES] {
    let mut bytes = [0; RESPONSE_BYTES];
    let sense = &sense[..sense.len().min(SENSE_BYTES)];
    bytes[..4].copy_from_slice(&(sense.len() as u32).to_le_bytes());
    bytes[4..8].copy_from_slice(&residual.to_le_bytes());
    bytes[10] = status.0;
    bytes[11] = code.0;
    bytes[12..12 + sense.len()].copy_from_slice(sense);
    bytes
}

/// A request of the control queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    Manage {
        function: Option<TaskManagementFunction>,
        lun: Option<Lun>,
        id: u64,
    },
    /// A query for, or a subscription to, notifications of media events, of which a disk has none.
    Notifications,
    Unknown,
}

impl Control {
    /// Reads what there is, at most [`MANAGEMENT_BYTES`].
    pub(crate) fn decode(bytes: &[u8]) -> Self {
        const MANAGE: u32 = 0;
        const QUERY: u32 = 1;
        const SUBSCRIBE: u32 = 2;
        let kind = bytes.get(..4).map(le32);
        match (kind, bytes.len()) {
            (Some(MANAGE), MANAGEMENT_BYTES..) => {
                let function = match le32(&bytes[4..8]) {
                    0 => Some(TaskManagementFunction::AbortTask),
                    1 => Some(TaskManagementFunction::AbortTaskSet),
                    2 => Some(TaskManagementFunction::ClearAca),
                    3 => Some(TaskManagementFunction::ClearTaskSet),
                    4 => Some(TaskManagementFunction::ItNexusReset),
                    5 => Some(TaskManagementFunction::LogicalUnitReset),
                    6 => Some(TaskManagementFunction::QueryTask),
                    7 => Some(TaskManagementFunction::QueryTaskSet),
                    _ => None,
                };
                Self::Manage { function, lun: lun(&bytes[8..16]), id: le64(&bytes[16..24]) }
            }
            (Some(QUERY | SUBSCRIBE), NOTIFICATION_BYTES..) => Self::Notifications,
            _ => Self::Unknown,
        }
    }
}

/// What a service response is called here.
pub(crate) fn managed(response: TaskManagementResponse) -> Response {
    match response {
        TaskManagementResponse::FunctionComplete => Response::OK,
        TaskManagementResponse::FunctionSucceeded { .. } => Response::FUNCTION_SUCCEEDED,
        TaskManagementResponse::FunctionRejected => Response::FUNCTION_REJECTED,
        TaskManagementResponse::IncorrectLun => Response::INCORRECT_LUN,
        // The task has ended: it is not there any more, as the driver wishes.
        TaskManagementResponse::TaskDoesNotExist => Response::OK,
    }
}

fn le32(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

fn le64(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lun_is_behind_target_0() {
        assert_eq!(lun(&[1, 0, 0, 5, 0, 0, 0, 0]).and_then(Lun::number), Some(5));
        assert_eq!(lun(&[1, 0, 0x41, 0x2c, 0, 0, 0, 0]).and_then(Lun::number), Some(300));
        assert_eq!(lun(&[1, 1, 0, 0, 0, 0, 0, 0]), None);
        assert_eq!(lun(&[0; 8]), None);
        assert_eq!(address(300), [1, 0, 0x41, 0x2c, 0, 0, 0, 0]);
        assert_eq!(address(7), [1, 0, 0, 7, 0, 0, 0, 0]);
    }

    #[test]
    fn a_response_has_its_fields_where_the_standard_puts_them() {
        let bytes = response(Response::OK, Status::CHECK_CONDITION, &[0x70, 0, 5], 7);
        assert_eq!(bytes[..15], [3, 0, 0, 0, 7, 0, 0, 0, 0, 0, 2, 0, 0x70, 0, 5]);
        assert_eq!(bytes.len(), 108);
    }

    #[test]
    fn a_short_control_request_is_unknown() {
        assert_eq!(Control::decode(&[0; 23]), Control::Unknown);
        assert!(matches!(Control::decode(&[0; 24]), Control::Manage { lun: None, .. }));
        assert_eq!(Control::decode(&[1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]), Control::Notifications);
        assert_eq!(Control::decode(&[9; 24]), Control::Unknown);
    }
}

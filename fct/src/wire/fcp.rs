//! FCP information units (FCP-4).

use scsi_core::{Lun, TaskAttribute, TaskManagementFunction};
use smallvec::SmallVec;

use super::{WireError, be16, be32, need};

/// FCP_CMND.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FcpCommand {
    /// The logical unit.
    pub lun: Lun,
    /// Command reference number; 0: not used.
    pub reference: u8,
    /// Priority, 0 to 15.
    pub priority: u8,
    /// Task attribute.
    pub attribute: TaskAttribute,
    /// Task management; then there is no command.
    pub management: Option<FcpManagement>,
    /// The CDB: 16 bytes and what is additional, in words.
    pub cdb: SmallVec<[u8; 32]>,
    /// Data comes from the initiator.
    pub write: bool,
    /// Data goes to the initiator.
    pub read: bool,
    /// How much, in bytes; for a command in both directions, what is written.
    pub data_length: u32,
    /// For a command in both directions: bytes to read.
    pub bidirectional_read_length: u32,
}

/// The task management flags of FCP_CMND, of which one may be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FcpManagement(pub u8);

impl FcpManagement {
    /// The function, if exactly one is named that there is.
    pub const fn function(self) -> Option<TaskManagementFunction> {
        Some(match self.0 {
            0x01 => TaskManagementFunction::QueryTaskSet,
            0x02 => TaskManagementFunction::AbortTaskSet,
            0x04 => TaskManagementFunction::ClearTaskSet,
            0x08 => TaskManagementFunction::QueryAsynchronousEvent,
            0x10 => TaskManagementFunction::LogicalUnitReset,
            0x20 => TaskManagementFunction::TargetWarmReset,
            0x40 => TaskManagementFunction::ClearAca,
            _ => return None,
        })
    }

    /// The flag of a function that FCP_CMND can carry.
    pub const fn of(function: TaskManagementFunction) -> Option<Self> {
        Some(Self(match function {
            TaskManagementFunction::QueryTaskSet => 0x01,
            TaskManagementFunction::AbortTaskSet => 0x02,
            TaskManagementFunction::ClearTaskSet => 0x04,
            TaskManagementFunction::QueryAsynchronousEvent => 0x08,
            TaskManagementFunction::LogicalUnitReset => 0x10,
            TaskManagementFunction::TargetWarmReset => 0x20,
            TaskManagementFunction::ClearAca => 0x40,
            _ => return None,
        }))
    }
}

const WRITE: u8 = 0x01;
const READ: u8 = 0x02;
/// The shortest FCP_CMND.
const LEAST_COMMAND: usize = 32;

impl FcpCommand {
    /// The longest there is: 16 bytes of CDB, 63 words more, both lengths.
    pub const MAX_LENGTH: usize = LEAST_COMMAND + 63 * 4 + 4;

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError`]: too short for what it says, or a task attribute without a meaning.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, LEAST_COMMAND)?;
        let mut lun = [0; 8];
        lun.copy_from_slice(&payload[..8]);
        let attribute = match payload[9] & 0x07 {
            0 => TaskAttribute::Simple,
            1 => TaskAttribute::HeadOfQueue,
            2 => TaskAttribute::Ordered,
            4 => TaskAttribute::Aca,
            5 => TaskAttribute::Untagged,
            _ => return Err(WireError::Field(9)),
        };
        let additional = usize::from(payload[11] >> 2) * 4;
        let (write, read) = (payload[11] & WRITE != 0, payload[11] & READ != 0);
        let both = if write && read { 4 } else { 0 };
        need(payload, LEAST_COMMAND + additional + both)?;
        let end = 28 + additional;
        Ok(Self {
            lun: Lun(lun),
            reference: payload[8],
            priority: payload[9] >> 3 & 0x0f,
            attribute,
            management: (payload[10] != 0).then_some(FcpManagement(payload[10])),
            cdb: SmallVec::from_slice(&payload[12..end]),
            write,
            read,
            data_length: be32(payload, end),
            bidirectional_read_length: if both == 0 { 0 } else { be32(payload, end + 4) },
        })
    }

    /// The wire form; a CDB beyond 268 bytes is cut.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.lun.0.to_vec();
        let attribute = match self.attribute {
            TaskAttribute::Simple => 0,
            TaskAttribute::HeadOfQueue => 1,
            TaskAttribute::Ordered => 2,
            TaskAttribute::Aca => 4,
            TaskAttribute::Untagged => 5,
        };
        let additional = self.cdb.len().saturating_sub(16).div_ceil(4).min(63);
        out.extend_from_slice(&[self.reference, self.priority << 3 | attribute]);
        out.push(self.management.map_or(0, |management| management.0));
        out.push((additional as u8) << 2 | if self.read { READ } else { 0 } | if self.write { WRITE } else { 0 });
        let end = 28 + additional * 4;
        out.extend_from_slice(&self.cdb[..self.cdb.len().min(end - 12)]);
        out.resize(end, 0);
        out.extend_from_slice(&self.data_length.to_be_bytes());
        if self.read && self.write {
            out.extend_from_slice(&self.bidirectional_read_length.to_be_bytes());
        }
        out
    }
}

/// FCP_XFER_RDY.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferReady {
    /// First byte wanted.
    pub offset: u32,
    /// Bytes wanted.
    pub length: u32,
}

impl TransferReady {
    /// The wire form: 12 bytes.
    pub fn encode(self) -> [u8; 12] {
        let mut out = [0; 12];
        out[..4].copy_from_slice(&self.offset.to_be_bytes());
        out[4..8].copy_from_slice(&self.length.to_be_bytes());
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError::Short`].
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, 12)?;
        Ok(Self { offset: be32(payload, 0), length: be32(payload, 4) })
    }
}

/// RSP_CODE: how a task management function, or the protocol, ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ResponseCode(pub u8);

impl ResponseCode {
    /// Task management function complete, or no failure.
    pub const COMPLETE: Self = Self(0x00);
    /// Data that came has another length than the burst.
    pub const DATA_LENGTH: Self = Self(0x01);
    /// FCP_CMND has invalid fields.
    pub const INVALID_COMMAND: Self = Self(0x02);
    /// Task management function rejected.
    pub const REJECTED: Self = Self(0x04);
    /// Task management function failed.
    pub const FAILED: Self = Self(0x05);
    /// Task management function succeeded: what a query asked for is there.
    pub const SUCCEEDED: Self = Self(0x08);
    /// The logical unit number is not one of a unit.
    pub const INCORRECT_LUN: Self = Self(0x09);
}

/// FCP_RSP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FcpResponse {
    /// SCSI status.
    pub status: u8,
    /// Status qualifier.
    pub status_qualifier: u16,
    /// Bytes that did not fit.
    pub overflow: u32,
    /// Bytes that were left over. Not with `overflow`.
    pub underflow: u32,
    /// The initiator is to answer with FCP_CONF.
    pub confirm: bool,
    /// Response information: three bytes for a query that succeeded, and the code.
    pub response: Option<([u8; 3], ResponseCode)>,
    /// Sense data.
    pub sense: SmallVec<[u8; 32]>,
}

const CONFIRM: u8 = 0x10;
const UNDERFLOW: u8 = 0x08;
const OVERFLOW: u8 = 0x04;
const SENSE_VALID: u8 = 0x02;
const RESPONSE_VALID: u8 = 0x01;
/// The shortest FCP_RSP.
const LEAST_RESPONSE: usize = 24;

impl FcpResponse {
    /// The wire form.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; LEAST_RESPONSE];
        out[8..10].copy_from_slice(&self.status_qualifier.to_be_bytes());
        let residual = match (self.overflow, self.underflow) {
            (0, 0) => 0,
            (0, under) => {
                out[10] |= UNDERFLOW;
                under
            }
            (over, _) => {
                out[10] |= OVERFLOW;
                over
            }
        };
        out[11] = self.status;
        out[12..16].copy_from_slice(&residual.to_be_bytes());
        if self.confirm {
            out[10] |= CONFIRM;
        }
        if let Some(([a, b, c], code)) = self.response {
            out[10] |= RESPONSE_VALID;
            out[23] = 8;
            out.extend_from_slice(&[a, b, c, code.0, 0, 0, 0, 0]);
        }
        if !self.sense.is_empty() {
            out[10] |= SENSE_VALID;
            out[16..20].copy_from_slice(&(self.sense.len() as u32).to_be_bytes());
            out.extend_from_slice(&self.sense);
        }
        out
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`WireError::Short`] when lengths in it reach beyond its end.
    pub fn decode(payload: &[u8]) -> Result<Self, WireError> {
        need(payload, LEAST_RESPONSE)?;
        let flags = payload[10];
        let residual = be32(payload, 12);
        let of = |flag: u8, length: u32| if flags & flag == 0 { 0 } else { length as usize };
        let (sense, information) = (of(SENSE_VALID, be32(payload, 16)), of(RESPONSE_VALID, be32(payload, 20)));
        let expected = LEAST_RESPONSE.saturating_add(sense).saturating_add(information);
        need(payload, expected)?;
        let response = match payload.get(LEAST_RESPONSE..LEAST_RESPONSE + information) {
            Some([a, b, c, code, ..]) => Some(([*a, *b, *c], ResponseCode(*code))),
            _ => None,
        };
        Ok(Self {
            status: payload[11],
            status_qualifier: be16(payload, 8),
            overflow: if flags & OVERFLOW == 0 { 0 } else { residual },
            underflow: if flags & UNDERFLOW == 0 { 0 } else { residual },
            confirm: flags & CONFIRM != 0,
            response,
            sense: SmallVec::from_slice(&payload[LEAST_RESPONSE + information..expected]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_a_long_cdb_survives_the_wire() {
        let command = FcpCommand {
            lun: Lun::new(3).unwrap(),
            reference: 0,
            priority: 2,
            attribute: TaskAttribute::Ordered,
            management: None,
            cdb: (0..32).collect(),
            write: true,
            read: true,
            data_length: 4096,
            bidirectional_read_length: 512,
        };
        let payload = command.encode();
        assert_eq!(payload.len(), 32 + 16 + 4);
        assert_eq!(FcpCommand::decode(&payload), Ok(command));
        for cut in 0..payload.len() {
            assert!(FcpCommand::decode(&payload[..cut]).is_err(), "{cut} bytes");
        }
    }

    #[test]
    fn a_response_survives_the_wire() {
        let response = FcpResponse {
            status: 2,
            underflow: 512,
            confirm: true,
            response: Some(([1, 2, 3], ResponseCode::SUCCEEDED)),
            sense: (0..18).collect(),
            ..FcpResponse::default()
        };
        assert_eq!(FcpResponse::decode(&response.encode()), Ok(response));
        // A sense length beyond the end.
        let mut lying = FcpResponse { sense: (0..18).collect(), ..FcpResponse::default() }.encode();
        lying[16] = 0xff;
        assert!(FcpResponse::decode(&lying).is_err());
    }

    #[test]
    fn every_function_that_has_a_flag_is_found_by_it() {
        for function in TaskManagementFunction::ALL {
            if let Some(flag) = FcpManagement::of(function) {
                assert_eq!(flag.function(), Some(function));
            }
        }
        // Two at once are none.
        assert_eq!(FcpManagement(0x06).function(), None);
    }
}

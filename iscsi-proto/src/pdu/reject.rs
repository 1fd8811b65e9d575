//! Reject (RFC 7143 11.17).

use bytes::Bytes;

use super::wire::*;
use super::{BHS_LEN, Bhs, DataSegment, DecodeError, EncodePdu, InitiatorTaskTag, Malformed, Opcode, error};
use crate::frame::Frame;
use crate::sn::{CmdSn, DataSn, StatSn};

registry! {
    /// Why a PDU was rejected (RFC 7143 11.17.1).
    pub struct RejectReason(u8) {
        /// The data segment's digest is wrong; the initiator may send the PDU again.
        DATA_DIGEST_ERROR = 0x02, "data digest error";
        /// The SNACK cannot be met.
        SNACK_REJECT = 0x03, "SNACK reject";
        /// Against the protocol.
        PROTOCOL_ERROR = 0x04, "protocol error";
        /// This target does not do that.
        COMMAND_NOT_SUPPORTED = 0x05, "command not supported";
        /// Too many immediate commands at once.
        IMMEDIATE_COMMAND_REJECT = 0x06, "immediate command reject, too many immediate commands";
        /// The task is still in progress.
        TASK_IN_PROGRESS = 0x07, "task in progress";
        /// A Data ACK nobody asked for.
        INVALID_DATA_ACK = 0x08, "invalid data ACK";
        /// A field has a value it may not have.
        INVALID_PDU_FIELD = 0x09, "invalid PDU field";
        /// No resources for a long operation; the initiator may try again later.
        LONG_OPERATION_REJECT = 0x0a, "long operation reject";
        /// Deprecated by RFC 7143: a negotiation ended without result.
        NEGOTIATION_RESET = 0x0b, "negotiation reset";
        /// A logout was asked for and only that is accepted now.
        WAITING_FOR_LOGOUT = 0x0c, "waiting for logout";
    }
}

/// Reject, opcode 3Fh: a PDU was not accepted; its header comes back (RFC 7143 11.17).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Reject {
    /// Why.
    pub reason: RejectReason,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// DataSN or R2TSN the target expects or sent last, for a rejected Data-Out or SNACK; else 0.
    pub data_sn: DataSn,
    /// The rejected PDU's complete header: 48 bytes and its Additional Header Segments.
    pub data: DataSegment,
}

wire_struct! {
    struct Wire {
        opcode: u8,
        flags: u8,
        reason: u8,
        _reserved: u8,
        lengths: [u8; 4],
        _reserved8: [u8; 8],
        initiator_task_tag: U32<BE>,
        _reserved20: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        data_sn: U32<BE>,
        _reserved40: [u8; 8],
    }
}

impl Reject {
    /// Rejects the PDU with this header and these Additional Header Segments.
    pub fn new(reason: RejectReason, bhs: &Bhs, ahs: &[u8]) -> Self {
        Self { reason, data: error::rejected_header(bhs, ahs).into(), ..Self::default() }
    }

    /// The header of the rejected PDU, if all of it came.
    pub fn rejected_bhs(&self) -> Option<Bhs> {
        let data: Bytes = self.data.to_contiguous();
        data.first_chunk::<BHS_LEN>().copied().map(Bhs::new)
    }

    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = Wire::from(frame.bhs);
        Ok(Self {
            reason: RejectReason(wire.reason),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            data_sn: DataSn(wire.data_sn.get()),
            data: frame.data,
        })
    }
}

impl From<&DecodeError> for Reject {
    fn from(error: &DecodeError) -> Self {
        Self { reason: error.reject_reason(), data: error.rejected_header().into(), ..Self::default() }
    }
}

impl EncodePdu for Reject {
    fn bhs(&self) -> Bhs {
        Wire {
            opcode: Opcode::REJECT.0,
            flags: FINAL,
            reason: self.reason.0,
            initiator_task_tag: InitiatorTaskTag::RESERVED.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            data_sn: self.data_sn.0.into(),
            ..Wire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

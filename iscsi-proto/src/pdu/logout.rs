//! Logout Request and Logout Response (RFC 7143 11.14, 11.15).

use super::wire::*;
use super::{Bhs, Cid, EncodePdu, InitiatorTaskTag, Malformed, Opcode};
use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

registry! {
    /// Why a Logout Request comes (RFC 7143 11.14.1). Seven bits.
    pub struct LogoutReason(u8) {
        /// The session with all its connections is to end.
        CLOSE_SESSION = 0, "close the session";
        /// The connection named by the CID is to end.
        CLOSE_CONNECTION = 1, "close the connection";
        /// The connection named by the CID is to be replaced by another (error recovery level 2).
        REMOVE_FOR_RECOVERY = 2, "remove the connection for recovery";
    }
}

registry! {
    /// How a logout went (RFC 7143 11.15.1).
    pub struct LogoutResponseCode(u8) {
        /// Closed.
        SUCCESS = 0, "closed";
        /// There is no such connection.
        CID_NOT_FOUND = 1, "CID not found";
        /// Needs error recovery level 2.
        RECOVERY_NOT_SUPPORTED = 2, "connection recovery not supported";
        /// Something went wrong while closing.
        CLEANUP_FAILED = 3, "cleanup failed";
    }
}

/// Logout Request, opcode 06h (RFC 7143 11.14).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogoutRequest {
    /// I bit: outside the command numbering.
    pub immediate: bool,
    /// What is to be closed, and why.
    pub reason: LogoutReason,
    /// Names the request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The connection to close; of no use when the session is closed.
    pub cid: Cid,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
}

wire_struct! {
    struct RequestWire {
        opcode: u8,
        reason: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        _reserved8: [u8; 8],
        initiator_task_tag: U32<BE>,
        cid: U16<BE>,
        _reserved22: [u8; 2],
        cmd_sn: U32<BE>,
        exp_stat_sn: U32<BE>,
        _reserved32: [u8; 16],
    }
}

impl LogoutRequest {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = RequestWire::from(frame.bhs);
        Ok(Self {
            immediate: frame.bhs.is_immediate(),
            reason: LogoutReason(wire.reason & 0x7f),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            cid: Cid(wire.cid.get()),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
        })
    }
}

impl EncodePdu for LogoutRequest {
    fn bhs(&self) -> Bhs {
        RequestWire {
            opcode: opcode_byte(Opcode::LOGOUT_REQUEST, self.immediate),
            reason: FINAL | self.reason.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            cid: self.cid.0.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ..RequestWire::new_zeroed()
        }
        .into()
    }
}

/// Logout Response, opcode 26h (RFC 7143 11.15).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LogoutResponse {
    /// How it went.
    pub response: LogoutResponseCode,
    /// As in the request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// Seconds to wait before reconnecting.
    pub time2wait: u16,
    /// Seconds after `time2wait` for which tasks are kept.
    pub time2retain: u16,
}

wire_struct! {
    struct ResponseWire {
        opcode: u8,
        flags: u8,
        response: u8,
        _reserved3: u8,
        lengths: [u8; 4],
        _reserved8: [u8; 8],
        initiator_task_tag: U32<BE>,
        _reserved20: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        _reserved36: U32<BE>,
        time2wait: U16<BE>,
        time2retain: U16<BE>,
        _reserved44: U32<BE>,
    }
}

impl LogoutResponse {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = ResponseWire::from(frame.bhs);
        Ok(Self {
            response: LogoutResponseCode(wire.response),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            time2wait: wire.time2wait.get(),
            time2retain: wire.time2retain.get(),
        })
    }
}

impl EncodePdu for LogoutResponse {
    fn bhs(&self) -> Bhs {
        ResponseWire {
            opcode: Opcode::LOGOUT_RESPONSE.0,
            flags: FINAL,
            response: self.response.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            time2wait: self.time2wait.into(),
            time2retain: self.time2retain.into(),
            ..ResponseWire::new_zeroed()
        }
        .into()
    }
}

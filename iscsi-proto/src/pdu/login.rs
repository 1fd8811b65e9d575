//! Login Request and Login Response (RFC 7143 11.12, 11.13).

use super::wire::*;
use super::{Bhs, Cid, DataSegment, EncodePdu, InitiatorTaskTag, Isid, Malformed, Opcode, Tsih};
use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

/// The only version of the protocol (RFC 7143 11.12.4).
pub const VERSION: u8 = 0;

registry! {
    /// A stage of the login phase, as in CSG and NSG (RFC 7143 11.12.3). 2 is reserved.
    pub struct Stage(u8) {
        /// Who are you?
        SECURITY_NEGOTIATION = 0, "security negotiation";
        /// How do we talk?
        OPERATIONAL_NEGOTIATION = 1, "operational parameter negotiation";
        /// The login is over.
        FULL_FEATURE_PHASE = 3, "full feature phase";
    }
}

registry! {
    /// Status-Class and Status-Detail of a Login Response, class in the high byte (RFC 7143 11.13.5).
    pub struct LoginStatus(u16) {
        /// The login goes on, or is done.
        SUCCESS = 0x0000, "success";
        /// Log in at the TargetAddress sent along; the old one comes back.
        TARGET_MOVED_TEMPORARILY = 0x0101, "target moved temporarily";
        /// Log in at the TargetAddress sent along, from now on.
        TARGET_MOVED_PERMANENTLY = 0x0102, "target moved permanently";
        /// Some other fault of the initiator.
        INITIATOR_ERROR = 0x0200, "initiator error";
        /// The initiator could not prove who it is, or the target could not to the initiator's satisfaction.
        AUTHENTICATION_FAILURE = 0x0201, "authentication failure";
        /// The initiator is who it says, but may not enter.
        AUTHORIZATION_FAILURE = 0x0202, "authorization failure";
        /// There is no such target here.
        NOT_FOUND = 0x0203, "target not found";
        /// The target was removed and no new address is known.
        TARGET_REMOVED = 0x0204, "target removed";
        /// The version range does not include version 0.
        UNSUPPORTED_VERSION = 0x0205, "unsupported version";
        /// The session has all the connections it may have.
        TOO_MANY_CONNECTIONS = 0x0206, "too many connections";
        /// InitiatorName or TargetName, or another key that must come, did not.
        MISSING_PARAMETER = 0x0207, "missing parameter";
        /// This connection cannot be part of the session named.
        CANNOT_INCLUDE_IN_SESSION = 0x0208, "cannot include in session";
        /// Not a session type this target knows.
        SESSION_TYPE_NOT_SUPPORTED = 0x0209, "session type not supported";
        /// The TSIH names no session of this initiator.
        SESSION_DOES_NOT_EXIST = 0x020a, "session does not exist";
        /// Something the login phase does not allow.
        INVALID_DURING_LOGIN = 0x020b, "invalid during login";
        /// A hardware or software error in the target.
        TARGET_ERROR = 0x0300, "target error";
        /// The target is not ready to serve; try again later.
        SERVICE_UNAVAILABLE = 0x0301, "service unavailable";
        /// The target has no room for another session or connection.
        OUT_OF_RESOURCES = 0x0302, "out of resources";
    }
}

impl LoginStatus {
    /// Status-Class: 0 success, 1 redirection, 2 the initiator's fault, 3 the target's.
    pub const fn class(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Status-Detail.
    pub const fn detail(self) -> u8 {
        self.0 as u8
    }

    /// Class 0.
    pub const fn is_success(self) -> bool {
        self.class() == 0
    }

    /// Class 1: the initiator is to try elsewhere.
    pub const fn is_redirection(self) -> bool {
        self.class() == 1
    }
}

/// T, C, CSG and NSG, alike in request and response (RFC 7143 11.12.1 to 11.12.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct LoginFlags {
    /// T bit: ready to go on to the stage `next`.
    pub transit: bool,
    /// C bit: the text goes on in the next PDU.
    pub is_continued: bool,
    /// CSG: the stage this PDU belongs to.
    pub current: Stage,
    /// NSG: the stage wanted next; of use only with `transit`.
    pub next: Stage,
}

impl LoginFlags {
    const fn from_wire(bits: u8) -> Self {
        Self {
            transit: bits & 0x80 != 0,
            is_continued: bits & 0x40 != 0,
            current: Stage(bits >> 2 & 3),
            next: Stage(bits & 3),
        }
    }

    const fn to_wire(self) -> u8 {
        let transit = if self.transit { 0x80 } else { 0 };
        let is_continued = if self.is_continued { 0x40 } else { 0 };
        transit | is_continued | (self.current.0 & 3) << 2 | (self.next.0 & 3)
    }
}

/// Login Request, opcode 03h, always immediate (RFC 7143 11.12).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoginRequest {
    /// T, C, CSG and NSG.
    pub flags: LoginFlags,
    /// Highest version the initiator speaks.
    pub version_max: u8,
    /// Lowest version the initiator speaks.
    pub version_min: u8,
    /// The initiator's part of the session's name.
    pub isid: Isid,
    /// 0 for a new session, else the session to join.
    pub tsih: Tsih,
    /// Names the login; the same in all its requests.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The new connection's name.
    pub cid: Cid,
    /// In the leading login the session's first CmdSN; constant through a login.
    pub cmd_sn: CmdSn,
    /// From the second request on, the StatSN expected next.
    pub exp_stat_sn: StatSn,
    /// key=value pairs.
    pub data: DataSegment,
}

wire_struct! {
    struct RequestWire {
        opcode: u8,
        flags: u8,
        version_max: u8,
        version_min: u8,
        lengths: [u8; 4],
        isid: [u8; 6],
        tsih: U16<BE>,
        initiator_task_tag: U32<BE>,
        cid: U16<BE>,
        _reserved22: [u8; 2],
        cmd_sn: U32<BE>,
        exp_stat_sn: U32<BE>,
        _reserved32: [u8; 16],
    }
}

impl LoginRequest {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = RequestWire::from(frame.bhs);
        Ok(Self {
            flags: LoginFlags::from_wire(wire.flags),
            version_max: wire.version_max,
            version_min: wire.version_min,
            isid: Isid(wire.isid),
            tsih: Tsih(wire.tsih.get()),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            cid: Cid(wire.cid.get()),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            data: frame.data,
        })
    }
}

impl EncodePdu for LoginRequest {
    fn bhs(&self) -> Bhs {
        RequestWire {
            opcode: opcode_byte(Opcode::LOGIN_REQUEST, true),
            flags: self.flags.to_wire(),
            version_max: self.version_max,
            version_min: self.version_min,
            isid: self.isid.0,
            tsih: self.tsih.0.into(),
            initiator_task_tag: self.initiator_task_tag.0.into(),
            cid: self.cid.0.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ..RequestWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

/// Login Response, opcode 23h (RFC 7143 11.13).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LoginResponse {
    /// T, C, CSG and NSG.
    pub flags: LoginFlags,
    /// Highest version the target speaks.
    pub version_max: u8,
    /// The version in use; in a refusal of the version, the lowest the target speaks.
    pub version_active: u8,
    /// As in the request.
    pub isid: Isid,
    /// The session's handle, in the final response of a leading login; before that as in the request.
    pub tsih: Tsih,
    /// As in the request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Status sequence number; the first response of a connection sets its start.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// Status-Class and Status-Detail.
    pub status: LoginStatus,
    /// key=value pairs.
    pub data: DataSegment,
}

wire_struct! {
    struct ResponseWire {
        opcode: u8,
        flags: u8,
        version_max: u8,
        version_active: u8,
        lengths: [u8; 4],
        isid: [u8; 6],
        tsih: U16<BE>,
        initiator_task_tag: U32<BE>,
        _reserved20: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        status: U16<BE>,
        _reserved38: [u8; 10],
    }
}

impl LoginResponse {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = ResponseWire::from(frame.bhs);
        Ok(Self {
            flags: LoginFlags::from_wire(wire.flags),
            version_max: wire.version_max,
            version_active: wire.version_active,
            isid: Isid(wire.isid),
            tsih: Tsih(wire.tsih.get()),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            status: LoginStatus(wire.status.get()),
            data: frame.data,
        })
    }
}

impl EncodePdu for LoginResponse {
    fn bhs(&self) -> Bhs {
        ResponseWire {
            opcode: Opcode::LOGIN_RESPONSE.0,
            flags: self.flags.to_wire(),
            version_max: self.version_max,
            version_active: self.version_active,
            isid: self.isid.0,
            tsih: self.tsih.0.into(),
            initiator_task_tag: self.initiator_task_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            status: self.status.0.into(),
            ..ResponseWire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

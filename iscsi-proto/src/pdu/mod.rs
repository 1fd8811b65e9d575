//! Every PDU of RFC 7143, decoded from a [`Frame`] and encoded for a vectored write.
//!
//! A data segment stays in the slices it arrived in; a header is 48 bytes read in place. Two enums, one per direction,
//! because no opcode goes both ways.

#[macro_use]
mod wire;

mod ahs;
mod async_message;
mod bhs;
mod data_segment;
mod encode;
mod error;
mod ids;
mod login;
mod logout;
mod nop;
mod r2t;
mod reject;
mod scsi_command;
mod scsi_data;
mod snack;
mod task_management;
mod text;

pub use ahs::{Ahs, AhsType, MAX_AHS_LEN, parse as parse_ahs};
pub use async_message::{AsyncEvent, AsyncMessage};
pub use bhs::{BHS_LEN, Bhs, MAX_DATA_SEGMENT};
pub use data_segment::DataSegment;
pub use encode::{EncodeError, EncodePdu, Encoder, INLINE_PAYLOAD_LEN};
pub use error::{DecodeError, Malformed};
pub use ids::{Cid, InitiatorTaskTag, Isid, SnackTag, TargetTransferTag, Tsih};
pub use login::{LoginFlags, LoginRequest, LoginResponse, LoginStatus, Stage, VERSION};
pub use logout::{LogoutReason, LogoutRequest, LogoutResponse, LogoutResponseCode};
pub use nop::{NopIn, NopOut};
pub use r2t::R2t;
pub use reject::{Reject, RejectReason};
pub use scsi_command::{CdbBytes, Residual, ScsiCommand, ScsiCommandFlags, ScsiResponse, ScsiResponseCode};
pub use scsi_data::{DataIn, DataInFlags, DataOut};
pub use snack::{Snack, SnackType};
pub use task_management::{
    TaskManagementFunctionCode, TaskManagementRequest, TaskManagementResponse, TaskManagementResponseCode,
};
pub use text::{TextRequest, TextResponse};

pub(crate) use bhs::padding;

use bytes::{Bytes, BytesMut};

use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

registry! {
    /// A PDU's opcode, six bits (RFC 7143 11.2.1.2): 00h to 1Fh from the initiator, 20h to 3Fh from the target.
    pub struct Opcode(u8) {
        /// NOP-Out.
        NOP_OUT = 0x00, "NOP-Out";
        /// SCSI Command.
        SCSI_COMMAND = 0x01, "SCSI Command";
        /// Task Management Function Request.
        TASK_MANAGEMENT_REQUEST = 0x02, "Task Management Function Request";
        /// Login Request.
        LOGIN_REQUEST = 0x03, "Login Request";
        /// Text Request.
        TEXT_REQUEST = 0x04, "Text Request";
        /// Data-Out.
        DATA_OUT = 0x05, "SCSI Data-Out";
        /// Logout Request.
        LOGOUT_REQUEST = 0x06, "Logout Request";
        /// SNACK Request.
        SNACK = 0x10, "SNACK Request";
        /// NOP-In.
        NOP_IN = 0x20, "NOP-In";
        /// SCSI Response.
        SCSI_RESPONSE = 0x21, "SCSI Response";
        /// Task Management Function Response.
        TASK_MANAGEMENT_RESPONSE = 0x22, "Task Management Function Response";
        /// Login Response.
        LOGIN_RESPONSE = 0x23, "Login Response";
        /// Text Response.
        TEXT_RESPONSE = 0x24, "Text Response";
        /// Data-In.
        DATA_IN = 0x25, "SCSI Data-In";
        /// Logout Response.
        LOGOUT_RESPONSE = 0x26, "Logout Response";
        /// Ready To Transfer.
        R2T = 0x31, "Ready To Transfer";
        /// Asynchronous Message.
        ASYNC_MESSAGE = 0x32, "Asynchronous Message";
        /// Reject.
        REJECT = 0x3f, "Reject";
    }
}

macro_rules! direction {
    (
        $(#[$meta:meta])*
        pub enum $name:ident {
            $( $(#[$vmeta:meta])* $variant:ident($ty:ty) = $opcode:ident, )*
        }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum $name {
            $( $(#[$vmeta])* $variant($ty), )*
        }

        impl $name {
            /// Decodes a frame. Its data segment is moved, not copied; its digests are not looked at.
            ///
            /// # Errors
            /// An opcode that is unknown or of the other direction, or a header that breaks a rule; the error keeps
            /// the header for a Reject.
            pub fn decode(frame: Frame) -> Result<Self, DecodeError> {
                let bhs = frame.bhs;
                // A second handle on the segments, in case of an error; nearly always there are none.
                let ahs = if frame.ahs.is_empty() { Bytes::new() } else { frame.ahs.clone() };
                let result = match bhs.opcode() {
                    $( Opcode::$opcode => <$ty>::decode(frame).map(Self::$variant), )*
                    other if other.name().is_some() => Err(Malformed::WrongDirection(other)),
                    other => Err(Malformed::UnknownOpcode(other)),
                };
                result.map_err(|kind| DecodeError { kind, bhs, ahs })
            }

            /// The opcode.
            pub const fn opcode(&self) -> Opcode {
                match self {
                    $( Self::$variant(_) => Opcode::$opcode, )*
                }
            }
        }

        impl EncodePdu for $name {
            fn bhs(&self) -> Bhs {
                match self {
                    $( Self::$variant(pdu) => pdu.bhs(), )*
                }
            }

            fn put_ahs(&self, out: &mut BytesMut) {
                match self {
                    $( Self::$variant(pdu) => pdu.put_ahs(out), )*
                }
            }

            fn data(&self) -> Option<&DataSegment> {
                match self {
                    $( Self::$variant(pdu) => pdu.data(), )*
                }
            }
        }

        $(
            impl From<$ty> for $name {
                fn from(pdu: $ty) -> Self {
                    Self::$variant(pdu)
                }
            }
        )*
    };
}

direction! {
    /// What an initiator sends.
    pub enum InitiatorPdu {
        /// NOP-Out.
        NopOut(NopOut) = NOP_OUT,
        /// SCSI Command.
        ScsiCommand(ScsiCommand) = SCSI_COMMAND,
        /// Task Management Function Request.
        TaskManagementRequest(TaskManagementRequest) = TASK_MANAGEMENT_REQUEST,
        /// Login Request.
        LoginRequest(LoginRequest) = LOGIN_REQUEST,
        /// Text Request.
        TextRequest(TextRequest) = TEXT_REQUEST,
        /// Data-Out.
        DataOut(DataOut) = DATA_OUT,
        /// Logout Request.
        LogoutRequest(LogoutRequest) = LOGOUT_REQUEST,
        /// SNACK Request.
        Snack(Snack) = SNACK,
    }
}

direction! {
    /// What a target sends.
    pub enum TargetPdu {
        /// NOP-In.
        NopIn(NopIn) = NOP_IN,
        /// SCSI Response.
        ScsiResponse(ScsiResponse) = SCSI_RESPONSE,
        /// Task Management Function Response.
        TaskManagementResponse(TaskManagementResponse) = TASK_MANAGEMENT_RESPONSE,
        /// Login Response.
        LoginResponse(LoginResponse) = LOGIN_RESPONSE,
        /// Text Response.
        TextResponse(TextResponse) = TEXT_RESPONSE,
        /// Data-In.
        DataIn(DataIn) = DATA_IN,
        /// Logout Response.
        LogoutResponse(LogoutResponse) = LOGOUT_RESPONSE,
        /// Ready To Transfer.
        R2t(R2t) = R2T,
        /// Asynchronous Message.
        AsyncMessage(AsyncMessage) = ASYNC_MESSAGE,
        /// Reject.
        Reject(Reject) = REJECT,
    }
}

impl InitiatorPdu {
    /// The CmdSN the PDU carries and whether it is immediate, which leaves the number unused (RFC 7143 4.2.2.1).
    /// `None` for Data-Out and SNACK, which stand outside the command numbering.
    pub const fn command_number(&self) -> Option<(CmdSn, bool)> {
        Some(match self {
            Self::NopOut(pdu) => (pdu.cmd_sn, pdu.immediate),
            Self::ScsiCommand(pdu) => (pdu.cmd_sn, pdu.immediate),
            Self::TaskManagementRequest(pdu) => (pdu.cmd_sn, pdu.immediate),
            Self::LoginRequest(pdu) => (pdu.cmd_sn, true),
            Self::TextRequest(pdu) => (pdu.cmd_sn, pdu.immediate),
            Self::LogoutRequest(pdu) => (pdu.cmd_sn, pdu.immediate),
            Self::DataOut(_) | Self::Snack(_) => return None,
        })
    }

    /// The ExpStatSN, which every PDU of an initiator carries: it acknowledges each status before it.
    pub const fn exp_stat_sn(&self) -> StatSn {
        match self {
            Self::NopOut(pdu) => pdu.exp_stat_sn,
            Self::ScsiCommand(pdu) => pdu.exp_stat_sn,
            Self::TaskManagementRequest(pdu) => pdu.exp_stat_sn,
            Self::LoginRequest(pdu) => pdu.exp_stat_sn,
            Self::TextRequest(pdu) => pdu.exp_stat_sn,
            Self::DataOut(pdu) => pdu.exp_stat_sn,
            Self::LogoutRequest(pdu) => pdu.exp_stat_sn,
            Self::Snack(pdu) => pdu.exp_stat_sn,
        }
    }

    /// Sets the ExpStatSN: done last, when the PDU leaves.
    pub const fn set_exp_stat_sn(&mut self, exp_stat_sn: StatSn) {
        match self {
            Self::NopOut(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::ScsiCommand(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::TaskManagementRequest(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::LoginRequest(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::TextRequest(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::DataOut(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::LogoutRequest(pdu) => pdu.exp_stat_sn = exp_stat_sn,
            Self::Snack(pdu) => pdu.exp_stat_sn = exp_stat_sn,
        }
    }

    /// The Initiator Task Tag.
    pub const fn initiator_task_tag(&self) -> InitiatorTaskTag {
        match self {
            Self::NopOut(pdu) => pdu.initiator_task_tag,
            Self::ScsiCommand(pdu) => pdu.initiator_task_tag,
            Self::TaskManagementRequest(pdu) => pdu.initiator_task_tag,
            Self::LoginRequest(pdu) => pdu.initiator_task_tag,
            Self::TextRequest(pdu) => pdu.initiator_task_tag,
            Self::DataOut(pdu) => pdu.initiator_task_tag,
            Self::LogoutRequest(pdu) => pdu.initiator_task_tag,
            Self::Snack(pdu) => pdu.initiator_task_tag,
        }
    }
}

impl TargetPdu {
    /// Whether the PDU uses up a StatSN, so that the initiator acknowledges it (RFC 7143 4.2.2.2). R2T, Data-In
    /// without status and a NOP-In that answers nothing carry a number at most for information.
    pub const fn uses_stat_sn(&self) -> bool {
        match self {
            Self::DataIn(pdu) => pdu.status.is_some(),
            Self::NopIn(pdu) => !pdu.initiator_task_tag.is_reserved(),
            Self::R2t(_) => false,
            _ => true,
        }
    }

    /// Sets StatSN, ExpCmdSN and MaxCmdSN: done last, when the PDU leaves. A Data-In without status has no StatSN
    /// and gets 0 there.
    pub const fn set_numbers(&mut self, stat_sn: StatSn, exp_cmd_sn: CmdSn, max_cmd_sn: CmdSn) {
        macro_rules! set {
            ($($variant:ident),*) => {
                match self {
                    $( Self::$variant(pdu) => {
                        pdu.stat_sn = stat_sn;
                        pdu.exp_cmd_sn = exp_cmd_sn;
                        pdu.max_cmd_sn = max_cmd_sn;
                    } )*
                    Self::DataIn(pdu) => {
                        pdu.stat_sn = if pdu.status.is_some() { stat_sn } else { StatSn(0) };
                        pdu.exp_cmd_sn = exp_cmd_sn;
                        pdu.max_cmd_sn = max_cmd_sn;
                    }
                }
            };
        }
        set!(
            NopIn,
            ScsiResponse,
            TaskManagementResponse,
            LoginResponse,
            TextResponse,
            LogoutResponse,
            R2t,
            AsyncMessage,
            Reject
        );
    }

    /// StatSN, ExpCmdSN and MaxCmdSN as they stand.
    pub const fn numbers(&self) -> (StatSn, CmdSn, CmdSn) {
        macro_rules! get {
            ($($variant:ident),*) => {
                match self {
                    $( Self::$variant(pdu) => (pdu.stat_sn, pdu.exp_cmd_sn, pdu.max_cmd_sn), )*
                }
            };
        }
        get!(
            NopIn,
            ScsiResponse,
            TaskManagementResponse,
            LoginResponse,
            TextResponse,
            DataIn,
            LogoutResponse,
            R2t,
            AsyncMessage,
            Reject
        )
    }
}

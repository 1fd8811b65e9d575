//! Task Management Function Request and Response (RFC 7143 11.5, 11.6; RFC 7144 4).

use scsi_core::{Lun, TaskManagementFunction, TaskManagementResponse as ServiceResponse};

use super::wire::*;
use super::{Bhs, EncodePdu, InitiatorTaskTag, Malformed, Opcode};
use crate::frame::Frame;
use crate::sn::{CmdSn, DataSn, StatSn};

registry! {
    /// The Function field (RFC 7143 11.5.1, RFC 7144 4.1).
    pub struct TaskManagementFunctionCode(u8) {
        /// Abort the task named by the Referenced Task Tag.
        ABORT_TASK = 1, "ABORT TASK";
        /// Abort the tasks of this session in the logical unit.
        ABORT_TASK_SET = 2, "ABORT TASK SET";
        /// Clear the auto contingent allegiance.
        CLEAR_ACA = 3, "CLEAR ACA";
        /// Abort every task in the logical unit's task set.
        CLEAR_TASK_SET = 4, "CLEAR TASK SET";
        /// Reset the logical unit.
        LOGICAL_UNIT_RESET = 5, "LOGICAL UNIT RESET";
        /// Reset every logical unit of the target.
        TARGET_WARM_RESET = 6, "TARGET WARM RESET";
        /// Reset the target and end its sessions.
        TARGET_COLD_RESET = 7, "TARGET COLD RESET";
        /// Move a task to this connection (error recovery level 2).
        TASK_REASSIGN = 8, "TASK REASSIGN";
        /// Ask whether a task is there (iSCSIProtocolLevel 2).
        QUERY_TASK = 9, "QUERY TASK";
        /// Ask whether any task is there (iSCSIProtocolLevel 2).
        QUERY_TASK_SET = 10, "QUERY TASK SET";
        /// As if the session had been lost (iSCSIProtocolLevel 2).
        I_T_NEXUS_RESET = 11, "I_T NEXUS RESET";
        /// Ask for pending unit attentions (iSCSIProtocolLevel 2).
        QUERY_ASYNCHRONOUS_EVENT = 12, "QUERY ASYNCHRONOUS EVENT";
    }
}

impl TaskManagementFunctionCode {
    /// SAM's function, `None` for a code nobody assigned.
    pub const fn function(self) -> Option<TaskManagementFunction> {
        Some(match self {
            Self::ABORT_TASK => TaskManagementFunction::AbortTask,
            Self::ABORT_TASK_SET => TaskManagementFunction::AbortTaskSet,
            Self::CLEAR_ACA => TaskManagementFunction::ClearAca,
            Self::CLEAR_TASK_SET => TaskManagementFunction::ClearTaskSet,
            Self::LOGICAL_UNIT_RESET => TaskManagementFunction::LogicalUnitReset,
            Self::TARGET_WARM_RESET => TaskManagementFunction::TargetWarmReset,
            Self::TARGET_COLD_RESET => TaskManagementFunction::TargetColdReset,
            Self::TASK_REASSIGN => TaskManagementFunction::TaskReassign,
            Self::QUERY_TASK => TaskManagementFunction::QueryTask,
            Self::QUERY_TASK_SET => TaskManagementFunction::QueryTaskSet,
            Self::I_T_NEXUS_RESET => TaskManagementFunction::ItNexusReset,
            Self::QUERY_ASYNCHRONOUS_EVENT => TaskManagementFunction::QueryAsynchronousEvent,
            _ => return None,
        })
    }
}

impl From<TaskManagementFunction> for TaskManagementFunctionCode {
    fn from(function: TaskManagementFunction) -> Self {
        match function {
            TaskManagementFunction::AbortTask => Self::ABORT_TASK,
            TaskManagementFunction::AbortTaskSet => Self::ABORT_TASK_SET,
            TaskManagementFunction::ClearAca => Self::CLEAR_ACA,
            TaskManagementFunction::ClearTaskSet => Self::CLEAR_TASK_SET,
            TaskManagementFunction::LogicalUnitReset => Self::LOGICAL_UNIT_RESET,
            TaskManagementFunction::TargetWarmReset => Self::TARGET_WARM_RESET,
            TaskManagementFunction::TargetColdReset => Self::TARGET_COLD_RESET,
            TaskManagementFunction::TaskReassign => Self::TASK_REASSIGN,
            TaskManagementFunction::QueryTask => Self::QUERY_TASK,
            TaskManagementFunction::QueryTaskSet => Self::QUERY_TASK_SET,
            TaskManagementFunction::ItNexusReset => Self::I_T_NEXUS_RESET,
            TaskManagementFunction::QueryAsynchronousEvent => Self::QUERY_ASYNCHRONOUS_EVENT,
        }
    }
}

/// Task Management Function Request, opcode 02h (RFC 7143 11.5).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskManagementRequest {
    /// I bit: outside the command numbering.
    pub immediate: bool,
    /// What is asked.
    pub function: TaskManagementFunctionCode,
    /// The logical unit, for the functions that have one.
    pub lun: Lun,
    /// Names this request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// The task meant by ABORT TASK, QUERY TASK and TASK REASSIGN; else reserved.
    pub referenced_task_tag: InitiatorTaskTag,
    /// Command sequence number.
    pub cmd_sn: CmdSn,
    /// The StatSN the initiator expects next on this connection.
    pub exp_stat_sn: StatSn,
    /// CmdSN of the task to abort, so that a command which never arrived can be counted as come.
    pub ref_cmd_sn: CmdSn,
    /// For TASK REASSIGN: the first Data-In or R2T not yet received.
    pub exp_data_sn: DataSn,
}

wire_struct! {
    struct RequestWire {
        opcode: u8,
        function: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        referenced_task_tag: U32<BE>,
        cmd_sn: U32<BE>,
        exp_stat_sn: U32<BE>,
        ref_cmd_sn: U32<BE>,
        exp_data_sn: U32<BE>,
        _reserved40: [u8; 8],
    }
}

impl TaskManagementRequest {
    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = RequestWire::from(frame.bhs);
        Ok(Self {
            immediate: frame.bhs.is_immediate(),
            function: TaskManagementFunctionCode(wire.function & 0x7f),
            lun: Lun(wire.lun),
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            referenced_task_tag: InitiatorTaskTag(wire.referenced_task_tag.get()),
            cmd_sn: CmdSn(wire.cmd_sn.get()),
            exp_stat_sn: StatSn(wire.exp_stat_sn.get()),
            ref_cmd_sn: CmdSn(wire.ref_cmd_sn.get()),
            exp_data_sn: DataSn(wire.exp_data_sn.get()),
        })
    }
}

impl EncodePdu for TaskManagementRequest {
    fn bhs(&self) -> Bhs {
        RequestWire {
            opcode: opcode_byte(Opcode::TASK_MANAGEMENT_REQUEST, self.immediate),
            function: FINAL | self.function.0,
            lun: self.lun.0,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            referenced_task_tag: self.referenced_task_tag.0.into(),
            cmd_sn: self.cmd_sn.0.into(),
            exp_stat_sn: self.exp_stat_sn.0.into(),
            ref_cmd_sn: self.ref_cmd_sn.0.into(),
            exp_data_sn: self.exp_data_sn.0.into(),
            ..RequestWire::new_zeroed()
        }
        .into()
    }
}

registry! {
    /// The Response field (RFC 7143 11.6.1, RFC 7144 4.2).
    pub struct TaskManagementResponseCode(u8) {
        /// Done.
        FUNCTION_COMPLETE = 0, "function complete";
        /// The task is not there.
        TASK_DOES_NOT_EXIST = 1, "task does not exist";
        /// The LUN is not mapped.
        LUN_DOES_NOT_EXIST = 2, "LUN does not exist";
        /// The task still belongs to a connection that has not been logged out.
        TASK_STILL_ALLEGIANT = 3, "task still allegiant";
        /// TASK REASSIGN needs error recovery level 2.
        TASK_REASSIGN_NOT_SUPPORTED = 4, "task allegiance reassignment not supported";
        /// No such function here.
        FUNCTION_NOT_SUPPORTED = 5, "task management function not supported";
        /// This initiator may not.
        AUTHORIZATION_FAILED = 6, "function authorization failed";
        /// A query found what it asked for (iSCSIProtocolLevel 2).
        FUNCTION_SUCCEEDED = 7, "function succeeded";
        /// Refused.
        FUNCTION_REJECTED = 255, "function rejected";
    }
}

/// Task Management Function Response, opcode 22h (RFC 7143 11.6).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct TaskManagementResponse {
    /// How it went.
    pub response: TaskManagementResponseCode,
    /// Additional Response Information, three bytes (RFC 7144 4.2); 0 but for QUERY ASYNCHRONOUS EVENT.
    pub additional_information: [u8; 3],
    /// Names the request.
    pub initiator_task_tag: InitiatorTaskTag,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
}

wire_struct! {
    struct ResponseWire {
        opcode: u8,
        flags: u8,
        response: u8,
        _reserved: u8,
        lengths: [u8; 4],
        additional_information: [u8; 3],
        _reserved11: [u8; 5],
        initiator_task_tag: U32<BE>,
        _reserved20: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        _reserved36: [u8; 12],
    }
}

impl TaskManagementResponse {
    /// The answer to `request` that says what SAM's service response says.
    pub fn answering(initiator_task_tag: InitiatorTaskTag, response: ServiceResponse) -> Self {
        let (response, additional_information) = match response {
            ServiceResponse::FunctionComplete => (TaskManagementResponseCode::FUNCTION_COMPLETE, [0; 3]),
            ServiceResponse::FunctionSucceeded { additional } => {
                (TaskManagementResponseCode::FUNCTION_SUCCEEDED, additional)
            }
            ServiceResponse::FunctionRejected => (TaskManagementResponseCode::FUNCTION_NOT_SUPPORTED, [0; 3]),
            ServiceResponse::IncorrectLun => (TaskManagementResponseCode::LUN_DOES_NOT_EXIST, [0; 3]),
            ServiceResponse::TaskDoesNotExist => (TaskManagementResponseCode::TASK_DOES_NOT_EXIST, [0; 3]),
        };
        Self { response, additional_information, initiator_task_tag, ..Self::default() }
    }

    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        header_only(&frame)?;
        let wire = ResponseWire::from(frame.bhs);
        Ok(Self {
            response: TaskManagementResponseCode(wire.response),
            additional_information: wire.additional_information,
            initiator_task_tag: InitiatorTaskTag(wire.initiator_task_tag.get()),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
        })
    }
}

impl EncodePdu for TaskManagementResponse {
    fn bhs(&self) -> Bhs {
        ResponseWire {
            opcode: Opcode::TASK_MANAGEMENT_RESPONSE.0,
            flags: FINAL,
            response: self.response.0,
            additional_information: self.additional_information,
            initiator_task_tag: self.initiator_task_tag.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            ..ResponseWire::new_zeroed()
        }
        .into()
    }
}

//! Asynchronous Message (RFC 7143 11.9).

use bytes::Bytes;
use scsi_core::Lun;

use super::scsi_command::{put_sense, split_sense};
use super::wire::*;
use super::{Bhs, DataSegment, EncodePdu, InitiatorTaskTag, Malformed, Opcode};
use crate::frame::Frame;
use crate::sn::{CmdSn, StatSn};

registry! {
    /// What happened (RFC 7143 11.9.1). 248 to 254 are a vendor's.
    pub struct AsyncEvent(u8) {
        /// A SCSI asynchronous event, with sense data.
        SCSI_EVENT = 0, "SCSI asynchronous event";
        /// The target asks the initiator to log out this connection. `parameter3`: seconds it has to do so.
        LOGOUT_REQUESTED = 1, "target requests logout";
        /// The target will drop a connection. `parameter1`: its CID; `parameter2`, `parameter3`: time to wait and
        /// to retain, in seconds.
        CONNECTION_DROPPED = 2, "target will drop the connection";
        /// The target will drop all connections of the session. Parameters 2 and 3 as before.
        SESSION_DROPPED = 3, "target will drop the session";
        /// The target asks for a parameter negotiation. `parameter3`: seconds the initiator has to begin it.
        NEGOTIATION_REQUESTED = 4, "target requests parameter negotiation";
        /// Every task for the LUN is ended by the target; the initiator is to acknowledge with a NOP-Out
        /// (TaskReporting=FastAbort).
        TASKS_TERMINATED = 5, "all active tasks for the LUN are terminated";
        /// The vendor's, in `vendor_code` and the data.
        VENDOR = 255, "vendor-specific event";
    }
}

/// Asynchronous Message, opcode 32h (RFC 7143 11.9).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct AsyncMessage {
    /// The logical unit, for events 0 and 5.
    pub lun: Lun,
    /// Status sequence number.
    pub stat_sn: StatSn,
    /// Next command number expected.
    pub exp_cmd_sn: CmdSn,
    /// Last command number accepted.
    pub max_cmd_sn: CmdSn,
    /// What happened.
    pub event: AsyncEvent,
    /// AsyncVCode, for a vendor's event.
    pub vendor_code: u8,
    /// Parameter1, as the event has it.
    pub parameter1: u16,
    /// Parameter2, as the event has it.
    pub parameter2: u16,
    /// Parameter3, as the event has it.
    pub parameter3: u16,
    /// SenseLength, sense data and event data for event 0; the vendor's data for a vendor's event; else empty.
    pub data: DataSegment,
}

wire_struct! {
    struct Wire {
        opcode: u8,
        flags: u8,
        _reserved: [u8; 2],
        lengths: [u8; 4],
        lun: [u8; 8],
        initiator_task_tag: U32<BE>,
        _reserved20: U32<BE>,
        stat_sn: U32<BE>,
        exp_cmd_sn: U32<BE>,
        max_cmd_sn: U32<BE>,
        event: u8,
        vendor_code: u8,
        parameter1: U16<BE>,
        parameter2: U16<BE>,
        parameter3: U16<BE>,
        _reserved44: U32<BE>,
    }
}

impl AsyncMessage {
    /// A SCSI asynchronous event with its sense data.
    pub fn scsi_event(lun: Lun, sense: &[u8]) -> Self {
        Self { lun, event: AsyncEvent::SCSI_EVENT, data: put_sense(sense), ..Self::default() }
    }

    /// The sense data of a SCSI event; empty for any other.
    pub fn sense(&self) -> Bytes {
        match self.event {
            AsyncEvent::SCSI_EVENT => split_sense(&self.data).map(|(sense, _)| sense).unwrap_or_default(),
            _ => Bytes::new(),
        }
    }

    pub(super) fn decode(frame: Frame) -> Result<Self, Malformed> {
        no_ahs(&frame)?;
        let wire = Wire::from(frame.bhs);
        let event = AsyncEvent(wire.event);
        if event == AsyncEvent::SCSI_EVENT {
            split_sense(&frame.data)?;
        }
        Ok(Self {
            lun: Lun(wire.lun),
            stat_sn: StatSn(wire.stat_sn.get()),
            exp_cmd_sn: CmdSn(wire.exp_cmd_sn.get()),
            max_cmd_sn: CmdSn(wire.max_cmd_sn.get()),
            event,
            vendor_code: wire.vendor_code,
            parameter1: wire.parameter1.get(),
            parameter2: wire.parameter2.get(),
            parameter3: wire.parameter3.get(),
            data: frame.data,
        })
    }
}

impl EncodePdu for AsyncMessage {
    fn bhs(&self) -> Bhs {
        Wire {
            opcode: Opcode::ASYNC_MESSAGE.0,
            flags: FINAL,
            lun: self.lun.0,
            initiator_task_tag: InitiatorTaskTag::RESERVED.0.into(),
            stat_sn: self.stat_sn.0.into(),
            exp_cmd_sn: self.exp_cmd_sn.0.into(),
            max_cmd_sn: self.max_cmd_sn.0.into(),
            event: self.event.0,
            vendor_code: self.vendor_code,
            parameter1: self.parameter1.into(),
            parameter2: self.parameter2.into(),
            parameter3: self.parameter3.into(),
            ..Wire::new_zeroed()
        }
        .into()
    }

    fn data(&self) -> Option<&DataSegment> {
        Some(&self.data)
    }
}

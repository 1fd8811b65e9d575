//! PERSISTENT RESERVE IN and OUT.

use super::Cdb;
use super::fields::{Image, be16, be32, blank, finish};
use crate::command::CommandKind;

/// Which PERSISTENT RESERVE IN (service action).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum PrInAction {
    /// 00h.
    #[default]
    ReadKeys,
    /// 01h.
    ReadReservation,
    /// 02h.
    ReportCapabilities,
    /// 03h.
    ReadFullStatus,
}

/// PERSISTENT RESERVE IN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PersistentReserveIn {
    /// The service action.
    pub action: PrInAction,
    /// ALLOCATION LENGTH in bytes.
    pub allocation_length: u16,
}

/// Which PERSISTENT RESERVE OUT (service action).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum PrOutAction {
    /// 00h.
    #[default]
    Register,
    /// 01h.
    Reserve,
    /// 02h.
    Release,
    /// 03h.
    Clear,
    /// 04h.
    Preempt,
    /// 05h.
    PreemptAndAbort,
    /// 06h.
    RegisterAndIgnoreExistingKey,
    /// 07h.
    RegisterAndMove,
    /// 08h.
    ReplaceLostReservation,
}

/// PERSISTENT RESERVE OUT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct PersistentReserveOut {
    /// The service action.
    pub action: PrOutAction,
    /// SCOPE, four bits: 0 the logical unit.
    pub scope: u8,
    /// TYPE, four bits.
    pub kind: u8,
    /// PARAMETER LIST LENGTH in bytes; 24 unless SPEC_I_PT or REGISTER AND MOVE add to it.
    pub parameter_list_length: u32,
}

impl PrInAction {
    /// The command of the table.
    pub const fn kind(self) -> CommandKind {
        match self {
            Self::ReadKeys => CommandKind::PrInReadKeys,
            Self::ReadReservation => CommandKind::PrInReadReservation,
            Self::ReportCapabilities => CommandKind::PrInReportCapabilities,
            Self::ReadFullStatus => CommandKind::PrInReadFullStatus,
        }
    }
}

impl PrOutAction {
    /// The command of the table.
    pub const fn kind(self) -> CommandKind {
        match self {
            Self::Register => CommandKind::PrOutRegister,
            Self::Reserve => CommandKind::PrOutReserve,
            Self::Release => CommandKind::PrOutRelease,
            Self::Clear => CommandKind::PrOutClear,
            Self::Preempt => CommandKind::PrOutPreempt,
            Self::PreemptAndAbort => CommandKind::PrOutPreemptAndAbort,
            Self::RegisterAndIgnoreExistingKey => CommandKind::PrOutRegisterAndIgnore,
            Self::RegisterAndMove => CommandKind::PrOutRegisterAndMove,
            Self::ReplaceLostReservation => CommandKind::PrOutReplaceLost,
        }
    }

    /// Whether SCOPE and TYPE mean anything to the action.
    pub const fn has_type(self) -> bool {
        matches!(
            self,
            Self::Reserve | Self::Release | Self::Preempt | Self::PreemptAndAbort | Self::ReplaceLostReservation
        )
    }
}

impl PersistentReserveIn {
    pub(crate) fn from_image(cdb: &Image, action: PrInAction) -> Self {
        Self { action, allocation_length: be16::get(cdb, 7) }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(self.action.kind());
        be16::put(&mut cdb, 7, self.allocation_length);
        finish(&cdb, entry)
    }
}

impl PersistentReserveOut {
    pub(crate) fn from_image(cdb: &Image, action: PrOutAction) -> Self {
        Self { action, scope: cdb[2] >> 4, kind: cdb[2] & 0x0f, parameter_list_length: be32::get(cdb, 5) }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(self.action.kind());
        cdb[2] = self.scope << 4 | self.kind & 0x0f;
        be32::put(&mut cdb, 5, self.parameter_list_length);
        finish(&cdb, entry)
    }
}

//! Third-party copies: EXTENDED COPY and ROD tokens.

use super::Cdb;
use super::fields::{Image, be32, blank, cdb_struct, finish};
use crate::command::CommandKind;

/// EXTENDED COPY(LID1) or (LID4); targets and segments are in the parameter list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ExtendedCopy {
    /// The form with four-byte list identifiers.
    pub lid4: bool,
    /// PARAMETER LIST LENGTH in bytes; 0 copies nothing.
    pub parameter_list_length: u32,
}

cdb_struct! {
    /// POPULATE TOKEN.
    pub struct PopulateToken (PopulateToken) {
        /// LIST IDENTIFIER.
        list_identifier: u32 = be32(6),
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u32 = be32(10),
    }
}

cdb_struct! {
    /// WRITE USING TOKEN.
    pub struct WriteUsingToken (WriteUsingToken) {
        /// LIST IDENTIFIER.
        list_identifier: u32 = be32(6),
        /// PARAMETER LIST LENGTH in bytes.
        parameter_list_length: u32 = be32(10),
    }
}

cdb_struct! {
    /// COPY OPERATION ABORT.
    pub struct CopyOperationAbort (CopyOperationAbort) {
        /// LIST IDENTIFIER of the copy to end.
        list_identifier: u32 = be32(2),
    }
}

/// What is asked about copies (service action of RECEIVE COPY RESULTS).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum ReceiveCopyAction {
    /// 00h: how a copy with a one-byte list identifier goes.
    #[default]
    StatusLid1,
    /// 01h: the data it held.
    DataLid1,
    /// 03h: what the copy manager can do.
    OperatingParameters,
    /// 04h: why it failed.
    FailureDetailsLid1,
    /// 05h: how a copy with a four-byte list identifier goes.
    StatusLid4,
    /// 06h: the data it held.
    DataLid4,
    /// 07h: how POPULATE TOKEN or WRITE USING TOKEN goes, and the token.
    RodTokenInformation,
    /// 08h: every token.
    AllRodTokens,
}

/// RECEIVE COPY STATUS, DATA, OPERATING PARAMETERS, FAILURE DETAILS, ROD TOKEN INFORMATION; REPORT ALL ROD TOKENS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReceiveCopy {
    /// The service action.
    pub action: ReceiveCopyAction,
    /// LIST IDENTIFIER; 0 where the action has none.
    pub list_identifier: u32,
    /// ALLOCATION LENGTH in bytes.
    pub allocation_length: u32,
}

impl ExtendedCopy {
    pub(crate) fn from_image(cdb: &Image, lid4: bool) -> Self {
        Self { lid4, parameter_list_length: be32::get(cdb, 10) }
    }

    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let kind = if self.lid4 { CommandKind::ExtendedCopyLid4 } else { CommandKind::ExtendedCopyLid1 };
        let (mut cdb, entry) = blank(kind);
        be32::put(&mut cdb, 10, self.parameter_list_length);
        finish(&cdb, entry)
    }
}

impl ReceiveCopyAction {
    /// The command of the table.
    pub const fn kind(self) -> CommandKind {
        match self {
            Self::StatusLid1 => CommandKind::ReceiveCopyStatusLid1,
            Self::DataLid1 => CommandKind::ReceiveCopyDataLid1,
            Self::OperatingParameters => CommandKind::ReceiveCopyOperatingParameters,
            Self::FailureDetailsLid1 => CommandKind::ReceiveCopyFailureDetailsLid1,
            Self::StatusLid4 => CommandKind::ReceiveCopyStatusLid4,
            Self::DataLid4 => CommandKind::ReceiveCopyDataLid4,
            Self::RodTokenInformation => CommandKind::ReceiveRodTokenInformation,
            Self::AllRodTokens => CommandKind::ReportAllRodTokens,
        }
    }

    /// Bytes of the LIST IDENTIFIER: 0, 1 or 4.
    const fn identifier_width(self) -> u8 {
        match self {
            Self::StatusLid1 | Self::DataLid1 | Self::FailureDetailsLid1 => 1,
            Self::StatusLid4 | Self::DataLid4 | Self::RodTokenInformation => 4,
            Self::OperatingParameters | Self::AllRodTokens => 0,
        }
    }
}

impl ReceiveCopy {
    pub(crate) fn from_image(cdb: &Image, action: ReceiveCopyAction) -> Self {
        let list_identifier = match action.identifier_width() {
            0 => 0,
            1 => cdb[2].into(),
            _ => be32::get(cdb, 2),
        };
        Self { action, list_identifier, allocation_length: be32::get(cdb, 10) }
    }

    /// The CDB; a list identifier that its field has no room for is cut.
    pub fn to_cdb(&self) -> Cdb {
        let (mut cdb, entry) = blank(self.action.kind());
        match self.action.identifier_width() {
            0 => {}
            1 => cdb[2] = self.list_identifier as u8,
            _ => be32::put(&mut cdb, 2, self.list_identifier),
        }
        be32::put(&mut cdb, 10, self.allocation_length);
        finish(&cdb, entry)
    }
}

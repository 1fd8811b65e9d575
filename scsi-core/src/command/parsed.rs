//! From the bytes of a CDB to a [`Command`].

use super::table::{CommandEntry, CommandKind as K, entries_of, find};
use super::{CommandSet, DataPhase};
use crate::cdb::{
    CompareAndWrite, CopyOperationAbort, ExtendedCopy, FormatUnit, GetLbaStatus, Inquiry, LogSelect, LogSense,
    ModeSelect, ModeSense, OrWrite, PersistentReserveIn, PersistentReserveOut, PopulateToken, PrInAction, PrOutAction,
    PreFetch, PreventAllow, Read, ReadCapacity10, ReadCapacity16, ReadDefectData, ReceiveCopy, ReceiveCopyAction,
    ReceiveDiagnostic, ReportIdentifyingInformation, ReportLuns, ReportSupportedOperationCodes,
    ReportSupportedTaskManagementFunctions, ReportTargetPortGroups, ReportTimestamp, RequestSense, Sanitize,
    SanitizeService, SendDiagnostic, SetIdentifyingInformation, SetTargetPortGroups, SetTimestamp, StartStopUnit,
    SynchronizeCache, Unmap, Verify, Write, WriteAndVerify, WriteAtomic, WriteSame, WriteUsingToken,
};
use crate::sense::SenseData;

/// A command with its fields. Commands that differ only in the width of their fields are one variant; which of them it
/// was says [`ParsedCommand::entry`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "each variant is the command of its struct")]
pub enum Command {
    /// TEST UNIT READY has no fields.
    TestUnitReady,
    RequestSense(RequestSense),
    FormatUnit(FormatUnit),
    Read(Read),
    Write(Write),
    Inquiry(Inquiry),
    ModeSelect(ModeSelect),
    /// RESERVE(6) or (10), of the whole logical unit and for the sender.
    Reserve,
    /// RELEASE(6) or (10), of the whole logical unit and for the sender.
    Release,
    ModeSense(ModeSense),
    StartStopUnit(StartStopUnit),
    ReceiveDiagnostic(ReceiveDiagnostic),
    SendDiagnostic(SendDiagnostic),
    PreventAllow(PreventAllow),
    ReadCapacity10(ReadCapacity10),
    WriteAndVerify(WriteAndVerify),
    Verify(Verify),
    PreFetch(PreFetch),
    SynchronizeCache(SynchronizeCache),
    ReadDefectData(ReadDefectData),
    WriteSame(WriteSame),
    Unmap(Unmap),
    Sanitize(Sanitize),
    LogSelect(LogSelect),
    LogSense(LogSense),
    PersistentReserveIn(PersistentReserveIn),
    PersistentReserveOut(PersistentReserveOut),
    ExtendedCopy(ExtendedCopy),
    PopulateToken(PopulateToken),
    WriteUsingToken(WriteUsingToken),
    CopyOperationAbort(CopyOperationAbort),
    ReceiveCopy(ReceiveCopy),
    CompareAndWrite(CompareAndWrite),
    OrWrite(OrWrite),
    WriteAtomic(WriteAtomic),
    ReadCapacity16(ReadCapacity16),
    GetLbaStatus(GetLbaStatus),
    ReportLuns(ReportLuns),
    ReportIdentifyingInformation(ReportIdentifyingInformation),
    ReportTargetPortGroups(ReportTargetPortGroups),
    ReportSupportedOperationCodes(ReportSupportedOperationCodes),
    ReportSupportedTaskManagementFunctions(ReportSupportedTaskManagementFunctions),
    ReportTimestamp(ReportTimestamp),
    SetIdentifyingInformation(SetIdentifyingInformation),
    SetTargetPortGroups(SetTargetPortGroups),
    SetTimestamp(SetTimestamp),
}

/// A CDB that passed the check, with the row that says how to treat it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParsedCommand {
    /// The fields.
    pub command: Command,
    /// The row of the table.
    pub entry: &'static CommandEntry,
    /// The NACA bit of CONTROL.
    pub naca: bool,
    image: [u8; 16],
}

impl ParsedCommand {
    /// The data that goes along, for logical blocks of `block_size` bytes.
    pub fn data_phase(&self, block_size: u32) -> DataPhase {
        self.entry.data.phase(&self.image, block_size)
    }
}

/// Checks `cdb` against the table and takes its fields.
///
/// `cdb` may be longer than the command (a transport's 16-byte field); what stands behind the command is not looked at.
///
/// # Errors
/// The sense data of the answer: 05/20/00 when `supported` lacks every command of the operation code; 05/24/00 with a
/// field pointer to the service action when it has others of them, to the first bit that must be zero and is not, to a
/// field whose value is reserved, or to where a short CDB ends.
#[inline]
pub fn parse(cdb: &[u8], supported: CommandSet) -> Result<ParsedCommand, SenseData> {
    let mut image = [0; 16];
    let length = cdb.len().min(16);
    image[..length].copy_from_slice(&cdb[..length]);

    let entry = match find(image[0], image[1] & 0x1f) {
        Some(entry) if supported.contains(entry.kind) => entry,
        _ => return Err(unsupported(image[0], supported)),
    };
    if length < usize::from(entry.cdb_length) {
        return Err(SenseData::invalid_field_in_cdb(length as u16, None));
    }
    let whole = u128::from_be_bytes(image);
    if let Some((byte, bit)) = entry.reserved_bit(whole, supported.naca()).or_else(|| entry.wrong_field(whole)) {
        return Err(SenseData::invalid_field_in_cdb(byte, Some(bit)));
    }
    let naca = image[usize::from(entry.cdb_length) - 1] & 4 != 0;
    let command = fields(entry, &image)?;
    Ok(ParsedCommand { command, entry, naca, image })
}

#[cold]
fn unsupported(opcode: u8, supported: CommandSet) -> SenseData {
    if entries_of(opcode).iter().any(|entry| entry.service_action.is_some() && supported.contains(entry.kind)) {
        return SenseData::invalid_field_in_cdb(1, Some(4));
    }
    SenseData::invalid_opcode()
}

fn fields(entry: &CommandEntry, cdb: &[u8; 16]) -> Result<Command, SenseData> {
    let length = entry.cdb_length;
    let pr_in = |action| Command::PersistentReserveIn(PersistentReserveIn::from_image(cdb, action));
    let pr_out = |action| Command::PersistentReserveOut(PersistentReserveOut::from_image(cdb, action));
    let receive_copy = |action| Command::ReceiveCopy(ReceiveCopy::from_image(cdb, action));
    Ok(match entry.kind {
        K::TestUnitReady => Command::TestUnitReady,
        K::RequestSense => Command::RequestSense(RequestSense::from_image(cdb)),
        K::FormatUnit => Command::FormatUnit(FormatUnit::from_image(cdb)),
        K::Read6 | K::Read10 | K::Read12 | K::Read16 => Command::Read(Read::from_image(cdb, length)),
        K::Write6 | K::Write10 | K::Write12 | K::Write16 => Command::Write(Write::from_image(cdb, length)),
        K::Inquiry => Command::Inquiry(Inquiry::from_image(cdb)),
        K::ModeSelect6 | K::ModeSelect10 => Command::ModeSelect(ModeSelect::from_image(cdb, length == 10)),
        K::Reserve6 | K::Reserve10 => Command::Reserve,
        K::Release6 | K::Release10 => Command::Release,
        K::ModeSense6 | K::ModeSense10 => Command::ModeSense(ModeSense::from_image(cdb, length == 10)),
        K::StartStopUnit => Command::StartStopUnit(StartStopUnit::from_image(cdb)),
        K::ReceiveDiagnostic => Command::ReceiveDiagnostic(ReceiveDiagnostic::from_image(cdb)),
        K::SendDiagnostic => Command::SendDiagnostic(SendDiagnostic::from_image(cdb)),
        K::PreventAllow => Command::PreventAllow(PreventAllow::from_image(cdb)),
        K::ReadCapacity10 => Command::ReadCapacity10(ReadCapacity10),
        K::WriteAndVerify10 | K::WriteAndVerify12 | K::WriteAndVerify16 => {
            Command::WriteAndVerify(WriteAndVerify::from_image(cdb, length)?)
        }
        K::Verify10 | K::Verify12 | K::Verify16 => Command::Verify(Verify::from_image(cdb, length)?),
        K::PreFetch10 | K::PreFetch16 => Command::PreFetch(PreFetch::from_image(cdb, length)),
        K::SynchronizeCache10 | K::SynchronizeCache16 => {
            Command::SynchronizeCache(SynchronizeCache::from_image(cdb, length))
        }
        K::ReadDefectData10 | K::ReadDefectData12 => {
            Command::ReadDefectData(ReadDefectData::from_image(cdb, length == 12))
        }
        K::WriteSame10 | K::WriteSame16 => Command::WriteSame(WriteSame::from_image(cdb, length)),
        K::Unmap => Command::Unmap(Unmap::from_image(cdb)),
        K::SanitizeOverwrite => Command::Sanitize(Sanitize::from_image(cdb, SanitizeService::Overwrite)),
        K::SanitizeBlockErase => Command::Sanitize(Sanitize::from_image(cdb, SanitizeService::BlockErase)),
        K::SanitizeExitFailureMode => Command::Sanitize(Sanitize::from_image(cdb, SanitizeService::ExitFailureMode)),
        K::LogSelect => Command::LogSelect(LogSelect::from_image(cdb)),
        K::LogSense => Command::LogSense(LogSense::from_image(cdb)),
        K::PrInReadKeys => pr_in(PrInAction::ReadKeys),
        K::PrInReadReservation => pr_in(PrInAction::ReadReservation),
        K::PrInReportCapabilities => pr_in(PrInAction::ReportCapabilities),
        K::PrInReadFullStatus => pr_in(PrInAction::ReadFullStatus),
        K::PrOutRegister => pr_out(PrOutAction::Register),
        K::PrOutReserve => pr_out(PrOutAction::Reserve),
        K::PrOutRelease => pr_out(PrOutAction::Release),
        K::PrOutClear => pr_out(PrOutAction::Clear),
        K::PrOutPreempt => pr_out(PrOutAction::Preempt),
        K::PrOutPreemptAndAbort => pr_out(PrOutAction::PreemptAndAbort),
        K::PrOutRegisterAndIgnore => pr_out(PrOutAction::RegisterAndIgnoreExistingKey),
        K::PrOutRegisterAndMove => pr_out(PrOutAction::RegisterAndMove),
        K::PrOutReplaceLost => pr_out(PrOutAction::ReplaceLostReservation),
        K::ExtendedCopyLid1 => Command::ExtendedCopy(ExtendedCopy::from_image(cdb, false)),
        K::ExtendedCopyLid4 => Command::ExtendedCopy(ExtendedCopy::from_image(cdb, true)),
        K::PopulateToken => Command::PopulateToken(PopulateToken::from_image(cdb)),
        K::WriteUsingToken => Command::WriteUsingToken(WriteUsingToken::from_image(cdb)),
        K::CopyOperationAbort => Command::CopyOperationAbort(CopyOperationAbort::from_image(cdb)),
        K::ReceiveCopyStatusLid1 => receive_copy(ReceiveCopyAction::StatusLid1),
        K::ReceiveCopyDataLid1 => receive_copy(ReceiveCopyAction::DataLid1),
        K::ReceiveCopyOperatingParameters => receive_copy(ReceiveCopyAction::OperatingParameters),
        K::ReceiveCopyFailureDetailsLid1 => receive_copy(ReceiveCopyAction::FailureDetailsLid1),
        K::ReceiveCopyStatusLid4 => receive_copy(ReceiveCopyAction::StatusLid4),
        K::ReceiveCopyDataLid4 => receive_copy(ReceiveCopyAction::DataLid4),
        K::ReceiveRodTokenInformation => receive_copy(ReceiveCopyAction::RodTokenInformation),
        K::CompareAndWrite => Command::CompareAndWrite(CompareAndWrite::from_image(cdb)),
        K::OrWrite16 => Command::OrWrite(OrWrite::from_image(cdb)),
        K::WriteAtomic16 => Command::WriteAtomic(WriteAtomic::from_image(cdb)),
        K::ReadCapacity16 => Command::ReadCapacity16(ReadCapacity16::from_image(cdb)),
        K::GetLbaStatus => Command::GetLbaStatus(GetLbaStatus::from_image(cdb)),
        K::ReportLuns => Command::ReportLuns(ReportLuns::from_image(cdb)),
        K::ReportIdentifyingInformation => {
            Command::ReportIdentifyingInformation(ReportIdentifyingInformation::from_image(cdb))
        }
        K::ReportTargetPortGroups => Command::ReportTargetPortGroups(ReportTargetPortGroups::from_image(cdb)),
        K::ReportSupportedOperationCodes => {
            Command::ReportSupportedOperationCodes(ReportSupportedOperationCodes::from_image(cdb))
        }
        K::ReportSupportedTaskManagementFunctions => {
            Command::ReportSupportedTaskManagementFunctions(ReportSupportedTaskManagementFunctions::from_image(cdb))
        }
        K::ReportTimestamp => Command::ReportTimestamp(ReportTimestamp::from_image(cdb)),
        K::SetIdentifyingInformation => Command::SetIdentifyingInformation(SetIdentifyingInformation::from_image(cdb)),
        K::SetTargetPortGroups => Command::SetTargetPortGroups(SetTargetPortGroups::from_image(cdb)),
        K::SetTimestamp => Command::SetTimestamp(SetTimestamp::from_image(cdb)),
        K::ReassignBlocks
        | K::SanitizeCryptoErase
        | K::ReportAllRodTokens
        | K::WriteBuffer
        | K::ReadBuffer
        | K::ReadLong10
        | K::WriteLong10
        | K::ReadLong16
        | K::ReportReferrals
        | K::WriteLong16 => return Err(SenseData::invalid_opcode()),
    })
}

#[cfg(test)]
mod tests;

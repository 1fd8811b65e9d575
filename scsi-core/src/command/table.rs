//! The one table of commands: what dispatch, CDB checks, reservations and REPORT SUPPORTED OPERATION CODES share.
//!
//! Rows stand in the order of operation code and service action. The usage bytes are those between the operation code
//! and the CONTROL byte; a bit is set where the device server looks at it. A bit that is neither used nor listed as
//! tolerated must be zero, or the command ends with 05/24/00 and a pointer to it. Protection information is not
//! supported, so RDPROTECT, WRPROTECT and VRPROTECT count as reserved; so do ZNR (there are no zones), GROUP NUMBER (but in PRE-FETCH, where
//! initiators are known to set it) and the obsolete LINK and FLAG bits. What is tolerated stands behind a tilde, with
//! the byte of the CDB if it is not byte 1.

use super::{CommandFlags as F, DataShape as D, ReservationClass as R};

/// The row of one command. (SPC-5, SBC-4: the command's own clause; "Commands allowed in the presence of various
/// reservations".)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandEntry {
    /// Which command.
    pub kind: CommandKind,
    /// OPERATION CODE.
    pub opcode: u8,
    /// SERVICE ACTION, for the operation codes that have one.
    pub service_action: Option<u8>,
    /// The standard's name.
    pub name: &'static str,
    /// Length of the CDB in bytes: 6, 10, 12 or 16.
    pub cdb_length: u8,
    /// The bits the device server looks at, without operation code, service action and CONTROL.
    pub(super) usage: u128,
    /// Obsolete bits that are let pass.
    pub(super) tolerated: u128,
    /// The fields that those bits are, with their legal values.
    pub fields: &'static [Field],
    /// Whether the parser has to look at them.
    pub(super) restricted: bool,
    /// The data that goes along.
    pub data: DataShape,
    /// What reservations of others do with it.
    pub reservation: ReservationClass,
    /// The recommended timeout in seconds, for the command timeouts descriptor.
    pub recommended_timeout_seconds: u32,
    /// When it is carried out.
    pub flags: CommandFlags,
}

use super::fields::{self, Field};
use super::{CommandFlags, DataShape, ReservationClass};

/// The image of `bytes` as they stand behind the operation code.
const fn image(bytes: &[u8]) -> u128 {
    assert!(bytes.len() <= 14);
    let mut image = 0;
    let mut at = 0;
    while at < bytes.len() {
        image |= (bytes[at] as u128) << (8 * (14 - at));
        at += 1;
    }
    image
}

macro_rules! commands {
    ($($kind:ident $opcode:literal $(/ $action:literal)? $name:literal [$($usage:expr),*]
        $(~ $tolerated:literal $(@ $at:literal)?)?
        $data:expr, $reservation:expr, $timeout:expr, $flags:expr;)*) => {
        /// Every command of the table, one variant a row.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum CommandKind {
            $(#[doc = $name] $kind,)*
        }

        /// The table, in the order of operation code and service action; [`CommandKind`] is the index.
        pub static COMMANDS: [CommandEntry; [$(CommandKind::$kind),*].len()] = [$(CommandEntry {
            kind: CommandKind::$kind,
            opcode: $opcode,
            service_action: { let action: &[u8] = &[$($action)?]; if action.is_empty() { None } else { Some(action[0]) } },
            name: $name,
            cdb_length: { let usage: &[u8] = &[$($usage),*]; usage.len() as u8 + 2 },
            usage: image(&[$($usage),*]),
            tolerated: {
                let (bits, at): (&[u8], &[u32]) = (&[$($tolerated)?], &[$($($at)?)?]);
                image(bits) >> if at.is_empty() { 0 } else { 8 * (at[0] - 1) }
            },
            fields: fields::of(CommandKind::$kind),
            restricted: fields::restricts(fields::of(CommandKind::$kind)),
            data: $data,
            reservation: $reservation,
            recommended_timeout_seconds: $timeout,
            flags: $flags,
        }),*];
    };
}

const X: u8 = 0xff;
/// Commands answered from memory.
const QUICK: u32 = 30;
/// Commands that move data or wait for the store.
const IO: u32 = 60;
/// Commands that go over the whole medium.
const WHOLE: u32 = 86_400;

const fn flags(list: &[F]) -> F {
    let mut bits = 0;
    let mut at = 0;
    while at < list.len() {
        bits |= list[at].bits();
        at += 1;
    }
    F::from_bits_retain(bits)
}

const NONE: F = F::empty();
const WRITES: F = F::CHANGES_DATA;
const MEDIUM: F = F::NEEDS_MEDIUM;
const READS: F = MEDIUM;
const WRITES_MEDIUM: F = flags(&[WRITES, MEDIUM]);
const STANDBY: F = F::STANDBY;
const ALWAYS: F = flags(&[
    F::PASSES_UNIT_ATTENTION,
    F::ALLOWED_UNDER_RESERVE,
    F::STANDBY,
    F::UNAVAILABLE,
    F::TRANSITIONING,
    F::FORMATTING,
    F::SANITIZING,
]);
const PR: F = flags(&[F::STANDBY]);
const PR_IN: F = flags(&[F::STANDBY, F::SANITIZING]);
const PORT_GROUPS: F = flags(&[F::STANDBY, F::UNAVAILABLE]);

const fn alloc(at: u8, width: u8) -> D {
    D::AllocationLength { at, width }
}

const fn list(at: u8, width: u8) -> D {
    D::ParameterList { at, width }
}

commands! {
    TestUnitReady 0x00 "TEST UNIT READY" [0, 0, 0, 0] D::None, R::Allowed, QUICK, F::SANITIZING.union(MEDIUM);
    RequestSense 0x03 "REQUEST SENSE" [1, 0, 0, X] alloc(4, 1), R::Allowed, QUICK, ALWAYS;
    FormatUnit 0x04 "FORMAT UNIT" [0x3f, 0, 0, 0] D::FormatUnit, R::Write, WHOLE, WRITES_MEDIUM;
    ReassignBlocks 0x07 "REASSIGN BLOCKS" [0, 0, 0, 0] D::None, R::Write, QUICK, WRITES_MEDIUM.union(F::REFUSED);
    Read6 0x08 "READ(6)" [0x1f, X, X, X] D::BlocksIn { at: 4, width: 1 }, R::Read, IO, READS;
    Write6 0x0a "WRITE(6)" [0x1f, X, X, X] D::BlocksOut { at: 4, width: 1 }, R::Write, IO, WRITES_MEDIUM;
    Inquiry 0x12 "INQUIRY" [1, X, X, X] alloc(3, 2), R::Allowed, QUICK, ALWAYS;
    ModeSelect6 0x15 "MODE SELECT(6)" [0x11, 0, 0, X] list(4, 1), R::Write, QUICK, STANDBY;
    Reserve6 0x16 "RESERVE(6)" [0, 0, 0, 0] D::None, R::Reserve, QUICK, NONE;
    Release6 0x17 "RELEASE(6)" [0, 0, 0, 0] D::None, R::Release, QUICK, F::ALLOWED_UNDER_RESERVE;
    ModeSense6 0x1a "MODE SENSE(6)" [0x08, X, X, X] alloc(4, 1), R::Read, QUICK, STANDBY.union(F::SANITIZING);
    StartStopUnit 0x1b "START STOP UNIT" [1, 0, 0x0f, 0xf7] D::None, R::StartStop, IO, NONE;
    ReceiveDiagnostic 0x1c "RECEIVE DIAGNOSTIC RESULTS" [1, X, X, X] alloc(3, 2), R::Read, QUICK, STANDBY;
    SendDiagnostic 0x1d "SEND DIAGNOSTIC" [0xf7, 0, X, X] list(3, 2), R::Write, IO, STANDBY;
    PreventAllow 0x1e "PREVENT ALLOW MEDIUM REMOVAL" [0, 0, 0, 3] D::None, R::PreventAllow, QUICK,
        F::ALLOWED_UNDER_RESERVE;
    ReadCapacity10 0x25 "READ CAPACITY(10)" [0, 0, 0, 0, 0, 0, 0, 0] D::FixedIn(8), R::Allowed, QUICK,
        flags(&[MEDIUM, F::STANDBY, F::ALLOWED_UNDER_RESERVE]);
    Read10 0x28 "READ(10)" [0x18, X, X, X, X, 0, X, X] ~ 0x02 D::BlocksIn { at: 7, width: 2 }, R::Read, IO, READS;
    Write10 0x2a "WRITE(10)" [0x18, X, X, X, X, 0, X, X] ~ 0x02 D::BlocksOut { at: 7, width: 2 }, R::Write, IO,
        WRITES_MEDIUM;
    WriteAndVerify10 0x2e "WRITE AND VERIFY(10)" [0x16, X, X, X, X, 0, X, X] D::BlocksOut { at: 7, width: 2 },
        R::Write, IO, WRITES_MEDIUM;
    Verify10 0x2f "VERIFY(10)" [0x16, X, X, X, X, 0, X, X] D::ByteCheck { at: 7, width: 2 }, R::Read, IO, READS;
    PreFetch10 0x34 "PRE-FETCH(10)" [0x02, X, X, X, X, 0, X, X] ~ 0x1f @ 6 D::None, R::Read, IO, READS;
    SynchronizeCache10 0x35 "SYNCHRONIZE CACHE(10)" [0x02, X, X, X, X, 0, X, X] ~ 0x04 D::None, R::Write, IO, READS;
    ReadDefectData10 0x37 "READ DEFECT DATA(10)" [0, 0x1f, 0, 0, 0, 0, X, X] alloc(7, 2), R::Read, QUICK, READS;
    WriteBuffer 0x3b "WRITE BUFFER" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write, QUICK, F::REFUSED;
    ReadBuffer 0x3c "READ BUFFER" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Read, QUICK, F::REFUSED;
    ReadLong10 0x3e "READ LONG(10)" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write, QUICK, F::REFUSED;
    WriteLong10 0x3f "WRITE LONG(10)" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write, QUICK, WRITES.union(F::REFUSED);
    WriteSame10 0x41 "WRITE SAME(10)" [0x08, X, X, X, X, 0, X, X] D::OneBlockOut, R::Write, IO, WRITES_MEDIUM;
    Unmap 0x42 "UNMAP" [0, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write, IO, WRITES_MEDIUM;
    SanitizeOverwrite 0x48 / 0x01 "SANITIZE, OVERWRITE" [0xa0, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write, WHOLE,
        WRITES_MEDIUM;
    SanitizeBlockErase 0x48 / 0x02 "SANITIZE, BLOCK ERASE" [0xa0, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write, WHOLE,
        WRITES_MEDIUM;
    SanitizeCryptoErase 0x48 / 0x03 "SANITIZE, CRYPTOGRAPHIC ERASE" [0xa0, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write,
        WHOLE, WRITES_MEDIUM.union(F::REFUSED);
    SanitizeExitFailureMode 0x48 / 0x1f "SANITIZE, EXIT FAILURE MODE" [0xa0, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write,
        QUICK, WRITES_MEDIUM.union(F::SANITIZING);
    LogSelect 0x4c "LOG SELECT" [0x03, X, X, 0, 0, 0, X, X] list(7, 2), R::Write, QUICK, STANDBY;
    LogSense 0x4d "LOG SENSE" [0x01, X, X, 0, X, X, X, X] alloc(7, 2), R::Allowed, QUICK,
        flags(&[F::STANDBY, F::ALLOWED_UNDER_RESERVE, F::SANITIZING]);
    ModeSelect10 0x55 "MODE SELECT(10)" [0x11, 0, 0, 0, 0, 0, X, X] list(7, 2), R::Write, QUICK, STANDBY;
    Reserve10 0x56 "RESERVE(10)" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Reserve, QUICK, NONE;
    Release10 0x57 "RELEASE(10)" [0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Release, QUICK, F::ALLOWED_UNDER_RESERVE;
    ModeSense10 0x5a "MODE SENSE(10)" [0x18, X, X, 0, 0, 0, X, X] alloc(7, 2), R::Read, QUICK,
        STANDBY.union(F::SANITIZING);
    PrInReadKeys 0x5e / 0x00 "PERSISTENT RESERVE IN, READ KEYS" [0, 0, 0, 0, 0, 0, X, X] alloc(7, 2),
        R::PersistentReserveIn, QUICK, PR_IN;
    PrInReadReservation 0x5e / 0x01 "PERSISTENT RESERVE IN, READ RESERVATION" [0, 0, 0, 0, 0, 0, X, X] alloc(7, 2),
        R::PersistentReserveIn, QUICK, PR_IN;
    PrInReportCapabilities 0x5e / 0x02 "PERSISTENT RESERVE IN, REPORT CAPABILITIES" [0, 0, 0, 0, 0, 0, X, X] alloc(7, 2),
        R::PersistentReserveIn, QUICK, PR_IN;
    PrInReadFullStatus 0x5e / 0x03 "PERSISTENT RESERVE IN, READ FULL STATUS" [0, 0, 0, 0, 0, 0, X, X] alloc(7, 2),
        R::PersistentReserveIn, QUICK, PR_IN;
    PrOutRegister 0x5f / 0x00 "PERSISTENT RESERVE OUT, REGISTER" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutReserve 0x5f / 0x01 "PERSISTENT RESERVE OUT, RESERVE" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutRelease 0x5f / 0x02 "PERSISTENT RESERVE OUT, RELEASE" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutClear 0x5f / 0x03 "PERSISTENT RESERVE OUT, CLEAR" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutPreempt 0x5f / 0x04 "PERSISTENT RESERVE OUT, PREEMPT" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutPreemptAndAbort 0x5f / 0x05 "PERSISTENT RESERVE OUT, PREEMPT AND ABORT" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutRegisterAndIgnore 0x5f / 0x06 "PERSISTENT RESERVE OUT, REGISTER AND IGNORE EXISTING KEY"
        [0, X, 0, 0, X, X, X, X] list(5, 4), R::PersistentReserveOut, QUICK, PR;
    PrOutRegisterAndMove 0x5f / 0x07 "PERSISTENT RESERVE OUT, REGISTER AND MOVE" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    PrOutReplaceLost 0x5f / 0x08 "PERSISTENT RESERVE OUT, REPLACE LOST RESERVATION" [0, X, 0, 0, X, X, X, X] list(5, 4),
        R::PersistentReserveOut, QUICK, PR;
    ExtendedCopyLid1 0x83 / 0x00 "EXTENDED COPY(LID1)" [0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] list(10, 4),
        R::Write, IO, MEDIUM;
    ExtendedCopyLid4 0x83 / 0x01 "EXTENDED COPY(LID4)" [0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] list(10, 4),
        R::Write, IO, MEDIUM;
    PopulateToken 0x83 / 0x10 "POPULATE TOKEN" [0, 0, 0, 0, 0, X, X, X, X, X, X, X, X, 0] list(10, 4), R::Read, IO, READS;
    WriteUsingToken 0x83 / 0x11 "WRITE USING TOKEN" [0, 0, 0, 0, 0, X, X, X, X, X, X, X, X, 0] list(10, 4), R::Write, IO,
        WRITES_MEDIUM;
    CopyOperationAbort 0x83 / 0x1c "COPY OPERATION ABORT" [0, X, X, X, X, 0, 0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write,
        QUICK, NONE;
    ReceiveCopyStatusLid1 0x84 / 0x00 "RECEIVE COPY STATUS(LID1)" [0, X, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4),
        R::Write, QUICK, NONE;
    ReceiveCopyDataLid1 0x84 / 0x01 "RECEIVE COPY DATA(LID1)" [0, X, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4),
        R::Write, QUICK, NONE;
    ReceiveCopyOperatingParameters 0x84 / 0x03 "RECEIVE COPY OPERATING PARAMETERS"
        [0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4), R::Write, QUICK, NONE;
    ReceiveCopyFailureDetailsLid1 0x84 / 0x04 "RECEIVE COPY FAILURE DETAILS(LID1)"
        [0, X, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4), R::Write, QUICK, NONE;
    ReceiveCopyStatusLid4 0x84 / 0x05 "RECEIVE COPY STATUS(LID4)" [0, X, X, X, X, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4),
        R::Write, QUICK, NONE;
    ReceiveCopyDataLid4 0x84 / 0x06 "RECEIVE COPY DATA(LID4)" [0, X, X, X, X, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4),
        R::Write, QUICK, NONE;
    ReceiveRodTokenInformation 0x84 / 0x07 "RECEIVE ROD TOKEN INFORMATION" [0, X, X, X, X, 0, 0, 0, 0, X, X, X, X, 0]
        alloc(10, 4), R::Write, QUICK, NONE;
    ReportAllRodTokens 0x84 / 0x08 "REPORT ALL ROD TOKENS" [0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4),
        R::Write, QUICK, F::REFUSED;
    Read16 0x88 "READ(16)" [0x18, X, X, X, X, X, X, X, X, X, X, X, X, 0] ~ 0x02 D::BlocksIn { at: 10, width: 4 }, R::Read,
        IO, READS;
    CompareAndWrite 0x89 "COMPARE AND WRITE" [0x18, X, X, X, X, X, X, X, X, 0, 0, 0, X, 0] ~ 0x02
        D::BlocksOutTwice { at: 13, width: 1 }, R::Write, IO, WRITES_MEDIUM;
    Write16 0x8a "WRITE(16)" [0x18, X, X, X, X, X, X, X, X, X, X, X, X, 0] ~ 0x02 D::BlocksOut { at: 10, width: 4 },
        R::Write, IO, WRITES_MEDIUM;
    OrWrite16 0x8b "ORWRITE(16)" [0x18, X, X, X, X, X, X, X, X, X, X, X, X, 0] ~ 0x02 D::BlocksOut { at: 10, width: 4 },
        R::Write, IO, WRITES_MEDIUM;
    WriteAndVerify16 0x8e "WRITE AND VERIFY(16)" [0x16, X, X, X, X, X, X, X, X, X, X, X, X, 0]
        D::BlocksOut { at: 10, width: 4 }, R::Write, IO, WRITES_MEDIUM;
    Verify16 0x8f "VERIFY(16)" [0x16, X, X, X, X, X, X, X, X, X, X, X, X, 0] D::ByteCheck { at: 10, width: 4 }, R::Read,
        IO, READS;
    PreFetch16 0x90 "PRE-FETCH(16)" [0x02, X, X, X, X, X, X, X, X, X, X, X, X, 0] ~ 0x1f @ 14 D::None, R::Read, IO, READS;
    SynchronizeCache16 0x91 "SYNCHRONIZE CACHE(16)" [0x02, X, X, X, X, X, X, X, X, X, X, X, X, 0] ~ 0x04 D::None, R::Write,
        IO, READS;
    WriteSame16 0x93 "WRITE SAME(16)" [0x09, X, X, X, X, X, X, X, X, X, X, X, X, 0] D::OneBlockOut, R::Write, IO,
        WRITES_MEDIUM;
    WriteAtomic16 0x9c "WRITE ATOMIC(16)" [0x18, X, X, X, X, X, X, X, X, X, X, X, X, 0]
        D::BlocksOut { at: 12, width: 2 }, R::Write, IO, WRITES_MEDIUM;
    ReadCapacity16 0x9e / 0x10 "READ CAPACITY(16)" [0, 0, 0, 0, 0, 0, 0, 0, 0, X, X, X, X, 0] alloc(10, 4), R::Allowed,
        QUICK, flags(&[MEDIUM, F::STANDBY, F::ALLOWED_UNDER_RESERVE]);
    ReadLong16 0x9e / 0x11 "READ LONG(16)" [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write, QUICK,
        F::REFUSED;
    GetLbaStatus 0x9e / 0x12 "GET LBA STATUS(16)" [0, X, X, X, X, X, X, X, X, X, X, X, X, 0] alloc(10, 4), R::Read, IO,
        READS;
    ReportReferrals 0x9e / 0x13 "REPORT REFERRALS" [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Allowed, QUICK,
        F::REFUSED;
    WriteLong16 0x9f / 0x11 "WRITE LONG(16)" [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] D::None, R::Write, QUICK,
        WRITES.union(F::REFUSED);
    ReportLuns 0xa0 "REPORT LUNS" [0, X, 0, 0, 0, X, X, X, X, 0] alloc(6, 4), R::Allowed, QUICK, ALWAYS;
    ReportIdentifyingInformation 0xa3 / 0x05 "REPORT IDENTIFYING INFORMATION" [0, 0, 0, 0, 0, X, X, X, X, 0xfe]
        alloc(6, 4), R::Allowed, QUICK, STANDBY;
    ReportTargetPortGroups 0xa3 / 0x0a "REPORT TARGET PORT GROUPS" [0xe0, 0, 0, 0, 0, X, X, X, X, 0] alloc(6, 4),
        R::Allowed, QUICK, PORT_GROUPS.union(F::TRANSITIONING);
    ReportSupportedOperationCodes 0xa3 / 0x0c "REPORT SUPPORTED OPERATION CODES" [0, 0x87, X, X, X, X, X, X, X, 0]
        alloc(6, 4), R::Read, QUICK, STANDBY.union(F::SANITIZING);
    ReportSupportedTaskManagementFunctions 0xa3 / 0x0d "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS"
        [0, 0x80, 0, 0, 0, X, X, X, X, 0] alloc(6, 4), R::Read, QUICK, STANDBY.union(F::SANITIZING);
    ReportTimestamp 0xa3 / 0x0f "REPORT TIMESTAMP" [0, 0, 0, 0, 0, X, X, X, X, 0] alloc(6, 4), R::Allowed, QUICK, STANDBY;
    SetIdentifyingInformation 0xa4 / 0x06 "SET IDENTIFYING INFORMATION" [0, 0, 0, 0, 0, X, X, X, X, 0xfe] list(6, 4),
        R::Write, QUICK, NONE;
    SetTargetPortGroups 0xa4 / 0x0a "SET TARGET PORT GROUPS" [0, 0, 0, 0, 0, X, X, X, X, 0] list(6, 4), R::Write, IO,
        PORT_GROUPS;
    SetTimestamp 0xa4 / 0x0f "SET TIMESTAMP" [0, 0, 0, 0, 0, X, X, X, X, 0] list(6, 4), R::Write, QUICK, NONE;
    Read12 0xa8 "READ(12)" [0x18, X, X, X, X, X, X, X, X, 0] ~ 0x02 D::BlocksIn { at: 6, width: 4 }, R::Read, IO, READS;
    Write12 0xaa "WRITE(12)" [0x18, X, X, X, X, X, X, X, X, 0] ~ 0x02 D::BlocksOut { at: 6, width: 4 }, R::Write, IO,
        WRITES_MEDIUM;
    WriteAndVerify12 0xae "WRITE AND VERIFY(12)" [0x16, X, X, X, X, X, X, X, X, 0] D::BlocksOut { at: 6, width: 4 },
        R::Write, IO, WRITES_MEDIUM;
    Verify12 0xaf "VERIFY(12)" [0x16, X, X, X, X, X, X, X, X, 0] D::ByteCheck { at: 6, width: 4 }, R::Read, IO, READS;
    ReadDefectData12 0xb7 "READ DEFECT DATA(12)" [0x1f, X, X, X, X, X, X, X, X, 0] alloc(6, 4), R::Read, QUICK, READS;
}

/// For each operation code the index of its first row, `u8::MAX` when there is none.
static FIRST: [u8; 256] = {
    let mut first = [u8::MAX; 256];
    let mut at = COMMANDS.len();
    while at > 0 {
        at -= 1;
        first[COMMANDS[at].opcode as usize] = at as u8;
    }
    first
};

impl CommandKind {
    /// The row of the command.
    pub fn entry(self) -> &'static CommandEntry {
        &COMMANDS[self as usize]
    }
}

/// The rows of `opcode`: none when it is unknown, one, or one for each service action.
pub fn entries_of(opcode: u8) -> &'static [CommandEntry] {
    let first = usize::from(FIRST[usize::from(opcode)]);
    let Some(rest) = COMMANDS.get(first..) else { return &[] };
    let count = rest.iter().take_while(|entry| entry.opcode == opcode).count();
    &rest[..count]
}

/// The row of `opcode` and, when it has service actions, `service_action`.
pub fn find(opcode: u8, service_action: u8) -> Option<&'static CommandEntry> {
    let entry = COMMANDS.get(usize::from(FIRST[usize::from(opcode)]))?;
    if entry.service_action.is_none() {
        return Some(entry);
    }
    entries_of(opcode).iter().find(|entry| entry.service_action == Some(service_action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cdb::fixed_length;

    #[test]
    fn rows_are_in_order_and_kinds_are_indices() {
        assert!(COMMANDS.is_sorted_by_key(|entry| (entry.opcode, entry.service_action)));
        for (at, entry) in COMMANDS.iter().enumerate() {
            assert_eq!(entry.kind as usize, at, "{}", entry.name);
        }
        assert!(COMMANDS.len() <= 128, "CommandSet has 128 bits");
    }

    #[test]
    fn lengths_are_those_of_the_operation_codes_group() {
        for entry in &COMMANDS {
            assert_eq!(fixed_length(entry.opcode), Some(entry.cdb_length.into()), "{}", entry.name);
        }
    }

    #[test]
    fn every_row_is_found_and_no_other() {
        for entry in &COMMANDS {
            assert_eq!(find(entry.opcode, entry.service_action.unwrap_or(0)), Some(entry));
        }
        assert_eq!(find(0xff, 0), None);
        assert_eq!(find(0x9e, 0x1f), None);
    }

    #[test]
    fn what_changes_data_is_not_read_class() {
        for entry in COMMANDS.iter().filter(|entry| entry.flags.contains(CommandFlags::CHANGES_DATA)) {
            assert_eq!(entry.reservation, ReservationClass::Write, "{}", entry.name);
        }
    }
}

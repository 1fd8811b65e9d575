//! The fields of each command's CDB and the values they may have.
//!
//! [`parse`](super::parse) refuses what is declared here with 05/24/00 and a pointer to the field; what only the device
//! server can know ([`Values::VpdPage`] and the like) it refuses itself. Tests are generated from the same declaration:
//! every bit that a row of the table looks at belongs to a field, and every value that is not legal is tried.

use super::table::{CommandEntry, CommandKind as K};

/// Where a field stands in a CDB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The byte of its highest bit.
    pub byte: u8,
    /// Its highest bit in that byte, 7 to 0: where a field pointer points to.
    pub bit: u8,
    /// How many bits it has, 1 to 64.
    pub width: u8,
}

impl Place {
    /// The bits of the field in the 16-byte image of a CDB.
    pub const fn mask(self) -> u128 {
        (u128::MAX >> (128 - self.width)) << self.shift()
    }

    /// The field's value in the 16-byte image of a CDB.
    pub const fn get(self, image: u128) -> u64 {
        ((image & self.mask()) >> self.shift()) as u64
    }

    /// The image with the field set to `value`; bits that the field has no room for are cut.
    pub const fn put(self, image: u128, value: u64) -> u128 {
        image & !self.mask() | ((value as u128) << self.shift()) & self.mask()
    }

    /// The largest value.
    pub const fn max(self) -> u64 {
        u64::MAX >> (64 - self.width)
    }

    const fn shift(self) -> u32 {
        121 + self.bit as u32 - 8 * self.byte as u32 - self.width as u32
    }
}

/// Which values of a field are legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Values {
    /// All of them.
    Any,
    /// Those from the first to the last of each pair. The parser refuses all others.
    Only(&'static [(u64, u64)]),
    /// A logical block of the unit: others end with 05/21/00.
    Lba,
    /// A number of logical blocks. With the LBA they have to lie in the unit (05/21/00) and to be no more than the unit
    /// moves with one such command.
    Blocks,
    /// The bytes that there is room for.
    AllocationLength,
    /// The bytes of parameter list that are sent. What no list can have ends with 05/1A/00, or is refused by the device
    /// server.
    ParameterListLength,
    /// A vital product data page of the unit.
    VpdPage,
    /// A mode page of the unit, or 3Fh.
    ModePage,
    /// A subpage of the mode page, or FFh.
    ModeSubpage,
    /// A log page of the unit.
    LogPage,
    /// A subpage of the log page.
    LogSubpage,
    /// Values of the log page that there are: pages have cumulative and default cumulative ones.
    LogPageControl,
    /// A parameter code that the log page has, or one below.
    ParameterPointer,
    /// The list identifier of a copy that the unit remembers.
    ListIdentifier,
    /// Zero unless the medium can be removed.
    IfRemovable,
    /// Zero unless blocks can be deallocated.
    IfDeallocating,
    /// Zero, since no store has boundaries that an atomic write must not cross.
    AtomicBoundary,
    /// Whether the operation code next to it has service actions decides.
    ReportingOptions,
    /// A self-test: 100b ends one that runs in the background, if one does.
    SelfTestCode,
    /// Zero but for the medium's own states after a failure.
    UnrestrictedExit,
    /// The type of a persistent reservation, where the service action makes or ends one.
    ReservationType,
}

/// When a field's values are looked at: always, or when another field's value lies between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum When {
    /// Always.
    Always,
    /// When the field at that place has a value from the first to the second.
    In(Place, u64, u64),
}

impl When {
    /// Whether it is so in the image of a CDB.
    pub const fn holds(self, image: u128) -> bool {
        match self {
            Self::Always => true,
            Self::In(place, low, high) => low <= place.get(image) && place.get(image) <= high,
        }
    }
}

/// One field of a command. A place stands more than once where other fields decide what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Field {
    /// The standard's name.
    pub name: &'static str,
    /// Where it stands.
    pub place: Place,
    /// What it may hold.
    pub values: Values,
    /// When that is so.
    pub when: When,
}

impl Field {
    /// Whether the parser refuses a CDB for this field.
    const fn refuses(&self, image: u128) -> bool {
        let Values::Only(ranges) = self.values else { return false };
        if !self.when.holds(image) {
            return false;
        }
        let value = self.place.get(image);
        let mut at = 0;
        while at < ranges.len() {
            if ranges[at].0 <= value && value <= ranges[at].1 {
                return false;
            }
            at += 1;
        }
        true
    }
}

impl CommandEntry {
    /// The first field of `image` that holds what it cannot: byte and highest bit.
    #[inline]
    pub(super) fn wrong_field(&self, image: u128) -> Option<(u16, u8)> {
        if !self.restricted {
            return None;
        }
        let wrong = self.fields.iter().find(|field| field.refuses(image))?;
        Some((wrong.place.byte.into(), wrong.place.bit))
    }

    /// A CDB of the command that the parser takes, without CONTROL: zero wherever that is legal.
    pub fn template(&self) -> Vec<u8> {
        let action = self.service_action.unwrap_or(0);
        let first = u128::from(self.opcode) << 120 | u128::from(action) << 112;
        let image = self.made_legal(first, 0);
        image.to_be_bytes()[..usize::from(self.cdb_length)].to_vec()
    }

    /// The image with each field that the parser refuses set to the first of its legal values, but for those that have
    /// a bit in `keep`. What other fields decide is decided by them as they are then.
    pub fn made_legal(&self, mut image: u128, keep: u128) -> u128 {
        // Fields that decide stand before those that they decide of; a second round is for those that do not.
        for _ in 0..2 {
            for field in self.fields.iter().filter(|field| field.place.mask() & keep == 0) {
                if let Values::Only(&[(low, _), ..]) = field.values
                    && field.refuses(image)
                {
                    image = field.place.put(image, low);
                }
            }
        }
        image
    }
}

const fn place(byte: u8, bit: u8, width: u8) -> Place {
    Place { byte, bit, width }
}

const fn bytes(byte: u8, count: u8) -> Place {
    place(byte, 7, 8 * count)
}

const fn any(name: &'static str, place: Place) -> Field {
    with(name, place, Values::Any)
}

const fn with(name: &'static str, place: Place, values: Values) -> Field {
    Field { name, place, values, when: When::Always }
}

const fn only(name: &'static str, place: Place, ranges: &'static [(u64, u64)]) -> Field {
    with(name, place, Values::Only(ranges))
}

const fn when(mut field: Field, place: Place, low: u64, high: u64) -> Field {
    field.when = When::In(place, low, high);
    field
}

/// Only when the other field is not zero.
const fn if_set(field: Field, place: Place) -> Field {
    when(field, place, 1, u64::MAX)
}

const fn if_clear(field: Field, place: Place) -> Field {
    when(field, place, 0, 0)
}

const fn alloc(byte: u8, count: u8) -> Field {
    with("ALLOCATION LENGTH", bytes(byte, count), Values::AllocationLength)
}

const fn list(byte: u8, count: u8) -> Field {
    with("PARAMETER LIST LENGTH", bytes(byte, count), Values::ParameterListLength)
}

const fn lba(byte: u8, count: u8) -> Field {
    with("LOGICAL BLOCK ADDRESS", bytes(byte, count), Values::Lba)
}

const fn blocks(byte: u8, count: u8) -> Field {
    with("TRANSFER LENGTH", bytes(byte, count), Values::Blocks)
}

const ZERO: &[(u64, u64)] = &[(0, 0)];
const ONE: &[(u64, u64)] = &[(1, 1)];

const DPO: Field = any("DPO", place(1, 4, 1));
const FUA: Field = any("FUA", place(1, 3, 1));
const IMMED: Field = any("IMMED", place(1, 1, 1));
const BYTCHK: Place = place(1, 2, 2);
const VERIFY_BYTCHK: Field = only("BYTCHK", BYTCHK, &[(0, 1), (3, 3)]);
const WRITE_BYTCHK: Field = only("BYTCHK", BYTCHK, &[(0, 1)]);
const UNMAP: Field = with("UNMAP", place(1, 3, 1), Values::IfDeallocating);

const EVPD: Place = place(1, 0, 1);
const PAGE: Place = bytes(2, 1);
const LONGLIST: Place = place(1, 5, 1);
const FMTDATA: Place = place(1, 4, 1);
const CMPLST: Place = place(1, 3, 1);
/// Short and long blocks, bytes from index, physical sectors, and the extended forms; 6 is vendor specific.
const DEFECT_FORMATS: &[(u64, u64)] = &[(0, 5)];
const PAGE_CODE: Place = place(2, 5, 6);
const PAGE_CONTROL: Place = place(2, 7, 2);
const SUBPAGE: Place = bytes(3, 1);
const CONDITION: Place = place(4, 7, 4);
const MODIFIER: Place = place(3, 3, 4);
const LOEJ: Place = place(4, 1, 1);
const SELF_TEST_CODE: Place = place(1, 7, 3);
const SELF_TEST: Place = place(1, 2, 1);
const PAGE_FORMAT: Place = place(1, 4, 1);
const PCR: Place = place(1, 1, 1);
const SCOPE: Place = place(2, 7, 4);
const TYPE: Place = place(2, 3, 4);
/// Write exclusive and exclusive access, each alone, for registrants, for all registrants.
const TYPES: &[(u64, u64)] = &[(1, 1), (3, 3), (5, 8)];
const INFORMATION_TYPE: Place = place(10, 7, 7);

const MODE_SENSE: [Field; 3] = [
    any("PC", PAGE_CONTROL),
    with("PAGE CODE", PAGE_CODE, Values::ModePage),
    with("SUBPAGE CODE", SUBPAGE, Values::ModeSubpage),
];
const MODE_SELECT: [Field; 2] = [only("PF", PAGE_FORMAT, ONE), any("SP", place(1, 0, 1))];
const IO_10: [Field; 4] = [DPO, FUA, lba(2, 4), blocks(7, 2)];
const IO_12: [Field; 4] = [DPO, FUA, lba(2, 4), blocks(6, 4)];
const IO_16: [Field; 4] = [DPO, FUA, lba(2, 8), blocks(10, 4)];

const fn modifier_of(low: u64, high: u64, legal: &'static [(u64, u64)]) -> Field {
    when(only("POWER CONDITION MODIFIER", MODIFIER, legal), CONDITION, low, high)
}

/// The fields of a command, for the table.
pub(super) const fn of(kind: K) -> &'static [Field] {
    match kind {
        K::TestUnitReady | K::Reserve6 | K::Release6 | K::Reserve10 | K::Release10 | K::ReadCapacity10 => &[],
        K::RequestSense => &const { [any("DESC", place(1, 0, 1)), alloc(4, 1)] },
        K::FormatUnit => {
            &const {
                [
                    any("LONGLIST", LONGLIST),
                    any("FMTDATA", FMTDATA),
                    // Of a defect list that is not sent nothing can be told.
                    if_set(any("CMPLST", CMPLST), FMTDATA),
                    if_clear(only("CMPLST", CMPLST, ZERO), FMTDATA),
                    if_set(only("DEFECT LIST FORMAT", place(1, 2, 3), DEFECT_FORMATS), FMTDATA),
                    if_clear(only("DEFECT LIST FORMAT", place(1, 2, 3), ZERO), FMTDATA),
                ]
            }
        }
        K::Read6 | K::Write6 => &const { [with("LOGICAL BLOCK ADDRESS", place(1, 4, 21), Values::Lba), blocks(4, 1)] },
        K::Inquiry => {
            &const {
                [
                    any("EVPD", EVPD),
                    if_set(with("PAGE CODE", PAGE, Values::VpdPage), EVPD),
                    if_clear(only("PAGE CODE", PAGE, ZERO), EVPD),
                    alloc(3, 2),
                ]
            }
        }
        K::ModeSelect6 => &const { [MODE_SELECT[0], MODE_SELECT[1], list(4, 1)] },
        K::ModeSelect10 => &const { [MODE_SELECT[0], MODE_SELECT[1], list(7, 2)] },
        K::ModeSense6 => {
            &const { [any("DBD", place(1, 3, 1)), MODE_SENSE[0], MODE_SENSE[1], MODE_SENSE[2], alloc(4, 1)] }
        }
        K::ModeSense10 => {
            &const {
                [
                    any("LLBAA", place(1, 4, 1)),
                    any("DBD", place(1, 3, 1)),
                    MODE_SENSE[0],
                    MODE_SENSE[1],
                    MODE_SENSE[2],
                    alloc(7, 2),
                ]
            }
        }
        K::StartStopUnit => {
            &const {
                [
                    any("IMMED", place(1, 0, 1)),
                    with("LOEJ", LOEJ, Values::IfRemovable),
                    if_clear(only("POWER CONDITION", CONDITION, &[(0, 3), (7, 7), (10, 11)]), LOEJ),
                    with("POWER CONDITION", CONDITION, Values::IfRemovable),
                    // Each power condition has modifiers of its own.
                    modifier_of(0, 1, ZERO),
                    modifier_of(2, 2, &[(0, 2)]),
                    modifier_of(3, 3, &[(0, 1)]),
                    modifier_of(7, 7, ZERO),
                    modifier_of(10, 10, &[(0, 2)]),
                    modifier_of(11, 11, &[(0, 1)]),
                    any("NO_FLUSH", place(4, 2, 1)),
                    any("START", place(4, 0, 1)),
                ]
            }
        }
        K::ReceiveDiagnostic => &const { [any("PCV", place(1, 0, 1)), only("PAGE CODE", PAGE, ZERO), alloc(3, 2)] },
        K::SendDiagnostic => {
            &const {
                [
                    any("SELFTEST", SELF_TEST),
                    only("SELF-TEST CODE", SELF_TEST_CODE, &[(0, 2), (4, 6)]),
                    if_set(only("SELF-TEST CODE", SELF_TEST_CODE, ZERO), SELF_TEST),
                    if_clear(with("SELF-TEST CODE", SELF_TEST_CODE, Values::SelfTestCode), SELF_TEST),
                    // A self-test takes no list, and what a list would mean without PF nobody has written down.
                    list(3, 2),
                    if_set(only("PARAMETER LIST LENGTH", bytes(3, 2), ZERO), SELF_TEST),
                    if_set(only("PARAMETER LIST LENGTH", bytes(3, 2), ZERO), SELF_TEST_CODE),
                    any("PF", PAGE_FORMAT),
                    if_set(only("PF", PAGE_FORMAT, ONE), bytes(3, 2)),
                    any("DEVOFFL", place(1, 1, 1)),
                    any("UNITOFFL", place(1, 0, 1)),
                ]
            }
        }
        K::PreventAllow => &const { [only("PREVENT", place(4, 1, 2), &[(0, 1)])] },
        K::Read10 | K::Write10 => &IO_10,
        K::Read12 | K::Write12 => &IO_12,
        K::Read16 | K::Write16 | K::OrWrite16 => &IO_16,
        K::WriteAndVerify10 => &const { [DPO, WRITE_BYTCHK, lba(2, 4), blocks(7, 2)] },
        K::WriteAndVerify12 => &const { [DPO, WRITE_BYTCHK, lba(2, 4), blocks(6, 4)] },
        K::WriteAndVerify16 => &const { [DPO, WRITE_BYTCHK, lba(2, 8), blocks(10, 4)] },
        K::Verify10 => &const { [DPO, VERIFY_BYTCHK, lba(2, 4), blocks(7, 2)] },
        K::Verify12 => &const { [DPO, VERIFY_BYTCHK, lba(2, 4), blocks(6, 4)] },
        K::Verify16 => &const { [DPO, VERIFY_BYTCHK, lba(2, 8), blocks(10, 4)] },
        K::PreFetch10 | K::SynchronizeCache10 => &const { [IMMED, lba(2, 4), blocks(7, 2)] },
        K::PreFetch16 | K::SynchronizeCache16 => &const { [IMMED, lba(2, 8), blocks(10, 4)] },
        K::ReadDefectData10 => {
            &const {
                [
                    any("REQ_PLIST", place(2, 4, 1)),
                    any("REQ_GLIST", place(2, 3, 1)),
                    only("DEFECT LIST FORMAT", place(2, 2, 3), DEFECT_FORMATS),
                    alloc(7, 2),
                ]
            }
        }
        K::ReadDefectData12 => {
            &const {
                [
                    any("REQ_PLIST", place(1, 4, 1)),
                    any("REQ_GLIST", place(1, 3, 1)),
                    only("DEFECT LIST FORMAT", place(1, 2, 3), DEFECT_FORMATS),
                    any("ADDRESS DESCRIPTOR INDEX", bytes(2, 4)),
                    alloc(6, 4),
                ]
            }
        }
        K::WriteSame10 => &const { [UNMAP, lba(2, 4), blocks(7, 2)] },
        K::WriteSame16 => &const { [UNMAP, any("NDOB", place(1, 0, 1)), lba(2, 8), blocks(10, 4)] },
        K::Unmap => &const { [list(7, 2)] },
        K::SanitizeOverwrite => {
            &const {
                [
                    any("IMMED", place(1, 7, 1)),
                    with("AUSE", place(1, 5, 1), Values::UnrestrictedExit),
                    // A header and at least one byte of pattern.
                    only("PARAMETER LIST LENGTH", bytes(7, 2), &[(5, 0xffff)]),
                    list(7, 2),
                ]
            }
        }
        K::SanitizeBlockErase | K::SanitizeCryptoErase | K::SanitizeExitFailureMode => {
            &const {
                [
                    any("IMMED", place(1, 7, 1)),
                    with("AUSE", place(1, 5, 1), Values::UnrestrictedExit),
                    only("PARAMETER LIST LENGTH", bytes(7, 2), ZERO),
                ]
            }
        }
        K::LogSelect => {
            &const {
                [
                    any("PCR", PCR),
                    only("SP", place(1, 0, 1), ZERO),
                    list(7, 2),
                    if_set(only("PARAMETER LIST LENGTH", bytes(7, 2), ZERO), PCR),
                    // With a list the pages are named there, and only cumulative values can be set.
                    any("PC", PAGE_CONTROL),
                    if_set(only("PC", PAGE_CONTROL, ONE), bytes(7, 2)),
                    if_set(only("PAGE CODE", PAGE_CODE, ZERO), bytes(7, 2)),
                    if_clear(with("PAGE CODE", PAGE_CODE, Values::LogPage), bytes(7, 2)),
                    if_set(only("SUBPAGE CODE", SUBPAGE, ZERO), bytes(7, 2)),
                    if_clear(with("SUBPAGE CODE", SUBPAGE, Values::LogSubpage), bytes(7, 2)),
                ]
            }
        }
        K::LogSense => {
            &const {
                [
                    only("SP", place(1, 0, 1), ZERO),
                    with("PC", PAGE_CONTROL, Values::LogPageControl),
                    with("PAGE CODE", PAGE_CODE, Values::LogPage),
                    with("SUBPAGE CODE", SUBPAGE, Values::LogSubpage),
                    with("PARAMETER POINTER", bytes(5, 2), Values::ParameterPointer),
                    alloc(7, 2),
                ]
            }
        }
        K::PrInReadKeys | K::PrInReadReservation | K::PrInReportCapabilities | K::PrInReadFullStatus => {
            &const { [alloc(7, 2)] }
        }
        K::PrOutReserve | K::PrOutRelease | K::PrOutReplaceLost => {
            &const { [only("SCOPE", SCOPE, ZERO), only("TYPE", TYPE, TYPES), list(5, 4)] }
        }
        // Whether a type is needed tells what is preempted.
        K::PrOutPreempt | K::PrOutPreemptAndAbort => {
            &const { [only("SCOPE", SCOPE, ZERO), with("TYPE", TYPE, Values::ReservationType), list(5, 4)] }
        }
        // There is nothing that scope and type could mean, so they are not looked into.
        K::PrOutRegister | K::PrOutClear | K::PrOutRegisterAndIgnore | K::PrOutRegisterAndMove => {
            &const { [any("SCOPE", SCOPE), any("TYPE", TYPE), list(5, 4)] }
        }
        K::ExtendedCopyLid1 | K::ExtendedCopyLid4 => &const { [list(10, 4)] },
        K::PopulateToken | K::WriteUsingToken => &const { [any("LIST IDENTIFIER", bytes(6, 4)), list(10, 4)] },
        K::CopyOperationAbort => &const { [with("LIST IDENTIFIER", bytes(2, 4), Values::ListIdentifier)] },
        K::ReceiveCopyStatusLid1 | K::ReceiveCopyDataLid1 | K::ReceiveCopyFailureDetailsLid1 => {
            &const { [with("LIST IDENTIFIER", bytes(2, 1), Values::ListIdentifier), alloc(10, 4)] }
        }
        K::ReceiveCopyStatusLid4 | K::ReceiveCopyDataLid4 | K::ReceiveRodTokenInformation => {
            &const { [with("LIST IDENTIFIER", bytes(2, 4), Values::ListIdentifier), alloc(10, 4)] }
        }
        K::ReceiveCopyOperatingParameters | K::ReportAllRodTokens | K::ReadCapacity16 => &const { [alloc(10, 4)] },
        K::CompareAndWrite => &const { [DPO, FUA, lba(2, 8), blocks(13, 1)] },
        K::WriteAtomic16 => {
            &const { [DPO, FUA, lba(2, 8), with("ATOMIC BOUNDARY", bytes(10, 2), Values::AtomicBoundary), blocks(12, 2)] }
        }
        K::GetLbaStatus => &const { [lba(2, 8), alloc(10, 4)] },
        K::ReportLuns => {
            &const {
                [
                    only("SELECT REPORT", bytes(2, 1), &[(0, 2), (0x10, 0x12)]),
                    // The header and one LUN.
                    only("ALLOCATION LENGTH", bytes(6, 4), &[(16, 0xffff_ffff)]),
                ]
            }
        }
        K::ReportIdentifyingInformation => {
            &const { [only("IDENTIFYING INFORMATION TYPE", INFORMATION_TYPE, &[(0, 0), (2, 2), (0x7f, 0x7f)]), alloc(6, 4)] }
        }
        K::SetIdentifyingInformation => {
            &const {
                [
                    only("IDENTIFYING INFORMATION TYPE", INFORMATION_TYPE, &[(0, 0), (2, 2)]),
                    list(6, 4),
                    when(only("PARAMETER LIST LENGTH", bytes(6, 4), &[(0, 512)]), INFORMATION_TYPE, 0, 0),
                    when(only("PARAMETER LIST LENGTH", bytes(6, 4), &[(0, 256)]), INFORMATION_TYPE, 2, 2),
                ]
            }
        }
        K::ReportTargetPortGroups => &const { [only("PARAMETER DATA FORMAT", place(1, 7, 3), &[(0, 1)]), alloc(6, 4)] },
        K::ReportSupportedOperationCodes => {
            &const {
                [
                    any("RCTD", place(2, 7, 1)),
                    only("REPORTING OPTIONS", place(2, 2, 3), &[(0, 3)]),
                    with("REPORTING OPTIONS", place(2, 2, 3), Values::ReportingOptions),
                    any("REQUESTED OPERATION CODE", bytes(3, 1)),
                    any("REQUESTED SERVICE ACTION", bytes(4, 2)),
                    alloc(6, 4),
                ]
            }
        }
        K::ReportSupportedTaskManagementFunctions => &const { [any("REPD", place(2, 7, 1)), alloc(6, 4)] },
        K::ReportTimestamp => &const { [alloc(6, 4)] },
        K::SetTargetPortGroups | K::SetTimestamp => &const { [list(6, 4)] },
        K::ReassignBlocks
        | K::WriteBuffer
        | K::ReadBuffer
        | K::ReadLong10
        | K::WriteLong10
        | K::ReadLong16
        | K::ReportReferrals
        | K::WriteLong16 => &[],
    }
}

/// Whether the parser has to look at any of the fields.
pub(super) const fn restricts(fields: &[Field]) -> bool {
    let mut at = 0;
    while at < fields.len() {
        if let Values::Only(_) = fields[at].values {
            return true;
        }
        at += 1;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::COMMANDS;

    #[test]
    fn every_bit_that_a_row_looks_at_belongs_to_a_field_and_no_other() {
        for entry in &COMMANDS {
            let all = entry.fields.iter().fold(0, |bits, field| bits | field.place.mask());
            assert_eq!(all, entry.usage, "{}: {all:032x} {:032x}", entry.name, entry.usage);
        }
    }

    #[test]
    fn fields_are_the_same_place_or_apart() {
        for entry in &COMMANDS {
            for one in entry.fields {
                for other in entry.fields.iter().filter(|other| other.place != one.place) {
                    let (a, b) = (one, other);
                    assert_eq!(a.place.mask() & b.place.mask(), 0, "{}: {} and {}", entry.name, a.name, b.name);
                }
                if let When::In(place, ..) = one.when {
                    assert!(entry.fields.iter().any(|field| field.place == place), "{}: {}", entry.name, one.name);
                }
            }
        }
    }

    #[test]
    fn a_place_is_read_and_written() {
        let lba = place(1, 4, 21);
        assert_eq!((lba.mask() >> 96, lba.max()), (0x001f_ffff, 0x1f_ffff));
        let image = lba.put(0xff << 120, 0x12_3456);
        assert_eq!((image >> 96, lba.get(image)), (0xff12_3456, 0x12_3456));
        let long = bytes(2, 8);
        assert_eq!(long.get(long.put(0, u64::MAX - 1)), u64::MAX - 1);
        assert_eq!(long.max(), u64::MAX);
    }
}

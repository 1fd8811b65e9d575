//! What a failed store operation tells the initiator.

use scsi_core::{AdditionalSense, SenseData, SenseKey};
use stmf::provider::StoreErrorKind;

use super::diagnostics::failed_self_test;
use super::ops::Purpose;

/// The one table from store errors to sense data. `failed` tells whether the unit had failed before.
pub(super) fn of_store_error(kind: StoreErrorKind, purpose: Purpose, lba: Option<u64>, failed: bool) -> SenseData {
    if matches!(purpose, Purpose::SelfTest { .. }) {
        return failed_self_test();
    }
    let reads = matches!(purpose, Purpose::Send(_) | Purpose::ReadBack | Purpose::Extents);
    let medium = if reads {
        SenseData::new(SenseKey::MEDIUM_ERROR, AdditionalSense::UNRECOVERED_READ_ERROR)
    } else {
        SenseData::new(SenseKey::MEDIUM_ERROR, AdditionalSense::WRITE_ERROR)
    };
    let sense = match kind {
        // The record is no part of the medium.
        StoreErrorKind::Io if purpose == Purpose::Persist => internal(),
        StoreErrorKind::Io => medium,
        StoreErrorKind::NoSpace if purpose == Purpose::Persist => internal(),
        StoreErrorKind::NoSpace => {
            SenseData::new(SenseKey::DATA_PROTECT, AdditionalSense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT)
        }
        StoreErrorKind::ReadOnly if purpose == Purpose::Persist => internal(),
        StoreErrorKind::ReadOnly => SenseData::new(SenseKey::DATA_PROTECT, AdditionalSense::WRITE_PROTECTED),
        // The first to learn that data is lost is told of a write error, the others that the unit is out of order.
        StoreErrorKind::Poisoned if !failed => medium,
        StoreErrorKind::Poisoned | StoreErrorKind::Gone => not_ready(),
        StoreErrorKind::Cancelled | StoreErrorKind::Dropped => {
            SenseData::aborted(AdditionalSense::IO_PROCESS_TERMINATED)
        }
        _ => internal(),
    };
    match lba {
        Some(lba) if sense.key == SenseKey::MEDIUM_ERROR => sense.with_information(lba),
        _ => sense,
    }
}

/// The unit has failed, or its store is gone: an administrator has to do something.
pub(super) fn not_ready() -> SenseData {
    SenseData::not_ready(AdditionalSense::MANUAL_INTERVENTION_REQUIRED)
}

fn internal() -> SenseData {
    SenseData::new(SenseKey::HARDWARE_ERROR, AdditionalSense::INTERNAL_TARGET_FAILURE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_store_error_has_its_sense() {
        let check = |kind, purpose, key: SenseKey, asc, ascq| {
            let sense = of_store_error(kind, purpose, Some(7), false);
            assert_eq!((sense.key, sense.code.asc, sense.code.ascq), (key, asc, ascq), "{kind:?} {purpose:?}");
        };
        check(StoreErrorKind::Io, Purpose::Send(0), SenseKey::MEDIUM_ERROR, 0x11, 0);
        check(StoreErrorKind::Io, Purpose::Write, SenseKey::MEDIUM_ERROR, 0x0c, 0);
        check(StoreErrorKind::Io, Purpose::Flush, SenseKey::MEDIUM_ERROR, 0x0c, 0);
        check(StoreErrorKind::Io, Purpose::Persist, SenseKey::HARDWARE_ERROR, 0x44, 0);
        check(StoreErrorKind::NoSpace, Purpose::Write, SenseKey::DATA_PROTECT, 0x27, 7);
        check(StoreErrorKind::ReadOnly, Purpose::Write, SenseKey::DATA_PROTECT, 0x27, 0);
        check(StoreErrorKind::Gone, Purpose::Write, SenseKey::NOT_READY, 0x04, 3);
        check(StoreErrorKind::Dropped, Purpose::Write, SenseKey::ABORTED_COMMAND, 0x00, 6);
        check(StoreErrorKind::Unsupported, Purpose::Write, SenseKey::HARDWARE_ERROR, 0x44, 0);
        assert_eq!(of_store_error(StoreErrorKind::Io, Purpose::Write, Some(7), false).information, Some(7));
    }
}

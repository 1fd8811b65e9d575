//! READ CAPACITY, START STOP UNIT, PREVENT ALLOW MEDIUM REMOVAL.

use super::Cdb;
use super::fields::cdb_struct;
use crate::command::CommandKind;

/// READ CAPACITY(10): eight bytes always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct ReadCapacity10;

impl ReadCapacity10 {
    /// The CDB.
    pub fn to_cdb(&self) -> Cdb {
        let (cdb, entry) = super::fields::blank(CommandKind::ReadCapacity10);
        super::fields::finish(&cdb, entry)
    }
}

cdb_struct! {
    /// READ CAPACITY(16).
    pub struct ReadCapacity16 (ReadCapacity16) {
        /// ALLOCATION LENGTH in bytes.
        allocation_length: u32 = be32(10),
    }
}

cdb_struct! {
    /// START STOP UNIT.
    pub struct StartStopUnit (StartStopUnit) {
        /// GOOD is sent before it is done.
        immediate: bool = bit((1, 0)),
        /// POWER CONDITION MODIFIER.
        power_condition_modifier: u8 = bits((3, 0, 4)),
        /// POWER CONDITION: 0 START_VALID, 1 ACTIVE, 2 IDLE, 3 STANDBY, 7 LU_CONTROL, Ah FORCE_IDLE_0, Bh
        /// FORCE_STANDBY_0. START and LOEJ count only with 0.
        power_condition: u8 = bits((4, 4, 4)),
        /// NO_FLUSH: cached data need not reach the medium.
        no_flush: bool = bit((4, 2)),
        /// LOEJ: load or eject the medium.
        load_eject: bool = bit((4, 1)),
        /// START: start or (with LOEJ) load; else stop or eject.
        start: bool = bit((4, 0)),
    }
}

cdb_struct! {
    /// PREVENT ALLOW MEDIUM REMOVAL.
    pub struct PreventAllow (PreventAllow) {
        /// PREVENT: 00b allow, 01b prevent; 10b and 11b are obsolete and refused.
        prevent: u8 = bits((4, 0, 2)),
    }
}

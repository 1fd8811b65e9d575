//! Which commands meet which fault.

use scsi_core::{Guid, Lun, Status};
use smallvec::SmallVec;
use std::ops::Range;
use std::time::Duration;

use crate::nexus::Nexus;
use crate::provider::{Disturbance, LuTask};

/// Harm done to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not carried out and ends with this status: BUSY, TASK SET FULL, RESERVATION CONFLICT ...
    Status(Status),
    /// It is not carried out and ends with CHECK CONDITION and this sense data, in wire format.
    Sense(SmallVec<[u8; 32]>),
    /// It waits so long before it is carried out, or meets a further fault.
    Delay(Duration, Option<Box<Fault>>),
    /// It is carried out, but only so many bytes of what it reads are sent; the rest is told as residual underflow.
    ShortRead(u32),
    /// It is never answered, until it is aborted or its session ends.
    Hang,
    /// It is not carried out; the transport is disturbed.
    Before(Disturbance),
    /// It is carried out, and the transport is disturbed in place of its answer, or, by a wrong digest, with it.
    After(Disturbance),
}

/// Names a rule of one [`Interceptor`](super::Interceptor).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleId(pub u64);

/// Which commands meet a fault. All that is given must match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Operation codes, with the service action where only that is meant; none for every command.
    pub commands: Vec<(u8, Option<u8>)>,
    /// Only at this LUN.
    pub lun: Option<Lun>,
    /// Only at the unit of this name.
    pub unit: Option<Guid>,
    /// Only of this initiator, by its folded name.
    pub initiator: Option<String>,
    /// Only if the logical blocks that the CDB names and this range have one in common. Commands without an LBA do not
    /// match.
    pub blocks: Option<Range<u64>>,
    /// The first command to meet it, counted from 1 among those that match; 0 is the same as 1.
    pub nth: u64,
    /// How many meet it from there on; `None` for all.
    pub count: Option<u64>,
    /// What happens to them.
    pub fault: Fault,
}

impl Rule {
    /// Every command, from the next on, meets `fault`.
    pub fn new(fault: Fault) -> Self {
        Self { commands: Vec::new(), lun: None, unit: None, initiator: None, blocks: None, nth: 1, count: None, fault }
    }

    fn matches(&self, guid: Guid, nexus: Option<&Nexus>, task: &LuTask<'_>) -> bool {
        let byte = |at: usize| task.cdb.get(at).copied().unwrap_or(0);
        let action = match byte(0) {
            0x7f => task.cdb.get(8..10).map_or(0, |bytes| bytes[1]),
            _ => byte(1) & 0x1f,
        };
        let is_meant = |(opcode, wanted): &(u8, Option<u8>)| *opcode == byte(0) && wanted.is_none_or(|it| it == action);
        (self.commands.is_empty() || self.commands.iter().any(is_meant))
            && self.lun.is_none_or(|lun| lun == task.lun)
            && self.unit.is_none_or(|unit| unit == guid)
            && self.initiator.as_ref().is_none_or(|name| nexus.is_some_and(|nexus| nexus.initiator == *name))
            && self.blocks.as_ref().is_none_or(|range| {
                blocks(task.cdb).is_some_and(|named| named.start < range.end && range.start < named.end)
            })
    }
}

/// The logical blocks that a CDB of a read, write, verify or the like names.
pub fn blocks(cdb: &[u8]) -> Option<Range<u64>> {
    let number = |at: usize, width: usize| {
        cdb.get(at..at + width).map(|bytes| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte)))
    };
    let (lba, count) = match *cdb.first()? {
        // READ(6) and WRITE(6): 21 bits of address, and 0 blocks are 256.
        0x08 | 0x0a => {
            (number(1, 3)? & 0x1f_ffff, Some(number(4, 1)?).map(|count| if count == 0 { 256 } else { count }))
        }
        0x28 | 0x2a | 0x2e | 0x2f | 0x34 | 0x35 | 0x41 => (number(2, 4)?, number(7, 2)),
        0xa8 | 0xaa | 0xae | 0xaf => (number(2, 4)?, number(6, 4)),
        0x88 | 0x8a | 0x8b | 0x8e | 0x8f | 0x90 | 0x91 | 0x93 => (number(2, 8)?, number(10, 4)),
        0x89 => (number(2, 8)?, number(13, 1)),
        0x9c => (number(2, 8)?, number(12, 2)),
        _ => return None,
    };
    Some(lba..lba.saturating_add(count?))
}

#[derive(Debug)]
struct Slot {
    id: RuleId,
    rule: Rule,
    seen: u64,
    hits: u64,
}

/// The rules in force, oldest first.
#[derive(Debug, Default)]
pub(super) struct Rules {
    slots: Vec<Slot>,
    next: u64,
}

impl Rules {
    pub(super) fn add(&mut self, rule: Rule) -> RuleId {
        let id = RuleId(self.next);
        self.next += 1;
        self.slots.push(Slot { id, rule, seen: 0, hits: 0 });
        id
    }

    pub(super) fn remove(&mut self, id: RuleId) -> bool {
        let before = self.slots.len();
        self.slots.retain(|slot| slot.id != id);
        self.slots.len() < before
    }

    pub(super) fn clear(&mut self) {
        self.slots.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    pub(super) fn hits(&self, id: RuleId) -> Option<u64> {
        self.slots.iter().find(|slot| slot.id == id).map(|slot| slot.hits)
    }

    /// Counts the command at every rule that it matches; gives the fault of the first that is due.
    pub(super) fn due(&mut self, guid: Guid, nexus: Option<&Nexus>, task: &LuTask<'_>) -> Option<Fault> {
        let mut due = None;
        for slot in self.slots.iter_mut().filter(|slot| slot.rule.matches(guid, nexus, task)) {
            slot.seen += 1;
            let is_due = slot.seen >= slot.rule.nth && slot.rule.count.is_none_or(|count| slot.hits < count);
            if is_due && due.is_none() {
                slot.hits += 1;
                due = Some(slot.rule.fault.clone());
            }
        }
        due
    }
}

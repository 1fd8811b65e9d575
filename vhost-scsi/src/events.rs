//! What the event queue tells (virtio 1.2, 5.6.6.3): logical units that come, go and change.

use scsi_core::{AdditionalSense, Guid, TaskManagementResponse};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use stmf::LunMap;

use crate::request::address;

/// Bytes of an event: what, where, why.
pub(crate) const EVENT_BYTES: usize = 4 + 8 + 4;

const TRANSPORT_RESET: u32 = 1;
const PARAM_CHANGE: u32 = 3;
const EVENTS_MISSED: u32 = 0x8000_0000;
const RESCAN: u32 = 1;
const REMOVED: u32 = 2;

/// Most events about units that came and went which wait for the driver to make room.
const MOST: usize = 64;
/// The additional sense codes whose unit attentions are worth an event: 2Ah, PARAMETERS CHANGED.
const PARAMETERS_CHANGED: u8 = 0x2a;

/// What was told, and what is to be.
#[derive(Debug, Default)]
pub(crate) struct Events {
    known: BTreeMap<u16, Guid>,
    /// Units that came and went, in their order.
    waiting: VecDeque<[u8; EVENT_BYTES]>,
    /// What changed about units: LUN and ASCQ. Saying it once is enough while nobody has heard it, and none may get lost:
    /// after [`EVENTS_MISSED`] drivers look for units, not at those that they know.
    changed: BTreeSet<(u16, u8)>,
    missed: bool,
    /// The driver took the feature of the one kind, and of the other.
    tells_units: bool,
    tells_changes: bool,
}

impl Events {
    /// Begins with what the guest finds when it looks for the first time.
    pub(crate) fn new(map: &LunMap) -> Self {
        Self { known: units(map), ..Self::default() }
    }

    /// Which events the driver wants: of units that come and go, and of changes.
    pub(crate) fn tell(&mut self, units: bool, changes: bool) {
        (self.tells_units, self.tells_changes) = (units, changes);
    }

    /// Whether the driver wants any.
    pub(crate) fn tells(&self) -> bool {
        self.tells_units || self.tells_changes
    }

    /// The guest has looked long ago, at another device: anything may have happened since.
    pub(crate) fn begin_again(&mut self) {
        self.missed = self.tells();
        if self.tells_changes {
            self.changed.extend(self.known.keys().map(|lun| (*lun, 0)));
        }
    }

    /// Compares what is mapped with what was.
    pub(crate) fn look(&mut self, map: &LunMap) {
        let now = units(map);
        let before = std::mem::replace(&mut self.known, now.clone());
        self.changed.retain(|(lun, _)| now.contains_key(lun));
        for (lun, guid) in &before {
            if now.get(lun) != Some(guid) {
                self.tell_unit(*lun, REMOVED);
            }
        }
        for (lun, guid) in &now {
            if before.get(lun) != Some(guid) {
                self.tell_unit(*lun, RESCAN);
            }
        }
    }

    /// The unit attention that a unit would report next, from QUERY ASYNCHRONOUS EVENT. One that was told before is told
    /// again: whether it is the same change or the next one of its kind cannot be seen, and a driver that looks once too
    /// often loses nothing.
    pub(crate) fn next_attention(&mut self, lun: u16, response: TaskManagementResponse) {
        if let TaskManagementResponse::FunctionSucceeded { additional: [_, asc, ascq] } = response {
            self.attention(lun, AdditionalSense { asc, ascq });
        }
    }

    /// A unit attention, which may have been reported with a command by now: drivers look at what has changed for events
    /// only.
    pub(crate) fn attention(&mut self, lun: u16, AdditionalSense { asc, ascq }: AdditionalSense) {
        if asc == PARAMETERS_CHANGED && self.tells_changes && self.known.contains_key(&lun) {
            self.changed.insert((lun, ascq));
        }
    }

    fn tell_unit(&mut self, lun: u16, reason: u32) {
        if !self.tells_units {
            return;
        }
        if self.waiting.len() == MOST {
            self.missed = true;
            return;
        }
        self.waiting.push_back(event(TRANSPORT_RESET, lun, reason));
    }

    /// Whether there is anything to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.changed.is_empty() && !self.missed
    }

    /// The next event. The first after some that got lost says so, and is nothing else if nothing else is to be told.
    pub(crate) fn next(&mut self) -> Option<[u8; EVENT_BYTES]> {
        let next = self.waiting.pop_front().or_else(|| {
            // A driver that has missed units looks for them first.
            if self.missed {
                return None;
            }
            let (lun, ascq) = self.changed.pop_first()?;
            Some(event(PARAM_CHANGE, lun, u32::from(PARAMETERS_CHANGED) | u32::from(ascq) << 8))
        });
        let missed = std::mem::take(&mut self.missed);
        let mut bytes = next.or_else(|| missed.then_some([0; EVENT_BYTES]))?;
        if missed {
            bytes[3] |= (EVENTS_MISSED >> 24) as u8;
        }
        Some(bytes)
    }
}

fn event(event: u32, lun: u16, reason: u32) -> [u8; EVENT_BYTES] {
    let mut bytes = [0; EVENT_BYTES];
    bytes[..4].copy_from_slice(&event.to_le_bytes());
    bytes[4..12].copy_from_slice(&address(lun));
    bytes[12..].copy_from_slice(&reason.to_le_bytes());
    bytes
}

fn units(map: &LunMap) -> BTreeMap<u16, Guid> {
    map.iter().map(|entry| (entry.lun, entry.guid)).collect()
}

//! What the event queue tells (virtio 1.2, 5.6.6.3): logical units that come, go and change.

use scsi_core::{AdditionalSense, Guid, TaskManagementResponse};
use std::collections::{BTreeMap, VecDeque};
use stmf::LunMap;

use crate::request::address;

/// Bytes of an event: what, where, why.
pub(crate) const EVENT_BYTES: usize = 4 + 8 + 4;

const TRANSPORT_RESET: u32 = 1;
const PARAM_CHANGE: u32 = 3;
const EVENTS_MISSED: u32 = 0x8000_0000;
const RESCAN: u32 = 1;
const REMOVED: u32 = 2;

/// Most events that wait for the driver to make room.
const MOST: usize = 64;
/// The additional sense codes whose unit attentions are worth an event: 2Ah, PARAMETERS CHANGED.
const PARAMETERS_CHANGED: u8 = 0x2a;

/// What was told, and what is to be.
#[derive(Debug, Default)]
pub(crate) struct Events {
    known: BTreeMap<u16, Guid>,
    waiting: VecDeque<[u8; EVENT_BYTES]>,
    missed: bool,
}

impl Events {
    /// Begins with what the guest finds when it looks for the first time.
    pub(crate) fn new(map: &LunMap) -> Self {
        Self { known: units(map), ..Self::default() }
    }

    /// Compares what is mapped with what was.
    pub(crate) fn look(&mut self, map: &LunMap) {
        let now = units(map);
        let before = std::mem::replace(&mut self.known, now.clone());
        for (lun, guid) in &before {
            if now.get(lun) != Some(guid) {
                self.tell(TRANSPORT_RESET, *lun, REMOVED);
            }
        }
        for (lun, guid) in &now {
            if before.get(lun) != Some(guid) {
                self.tell(TRANSPORT_RESET, *lun, RESCAN);
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
        if asc == PARAMETERS_CHANGED {
            self.tell(PARAM_CHANGE, lun, u32::from(asc) | u32::from(ascq) << 8);
        }
    }

    fn tell(&mut self, event: u32, lun: u16, reason: u32) {
        let mut bytes = [0; EVENT_BYTES];
        bytes[..4].copy_from_slice(&event.to_le_bytes());
        bytes[4..12].copy_from_slice(&address(lun));
        bytes[12..].copy_from_slice(&reason.to_le_bytes());
        // Saying it once is enough while nobody has heard it.
        if event == PARAM_CHANGE && self.waiting.contains(&bytes) {
            return;
        }
        if self.waiting.len() == MOST {
            self.missed = true;
            return;
        }
        self.waiting.push_back(bytes);
    }

    /// Whether there is anything to tell.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The next event. The first after some that got lost says so.
    pub(crate) fn next(&mut self) -> Option<[u8; EVENT_BYTES]> {
        let mut bytes = self.waiting.pop_front()?;
        if std::mem::take(&mut self.missed) {
            bytes[3] |= (EVENTS_MISSED >> 24) as u8;
        }
        Some(bytes)
    }
}

fn units(map: &LunMap) -> BTreeMap<u16, Guid> {
    map.iter().map(|entry| (entry.lun, entry.guid)).collect()
}

//! What is outstanding in a session, by initiator task tag.

use super::data::{DataIn, DataOut};
use super::event::{ConnectionKey, TaskKey};
use crate::pdu::{CdbBytes, Cid, DataSegment, InitiatorTaskTag};
use crate::sn::CmdSn;
use crate::text::TextAccumulator;
use scsi_core::{Lun, TaskAttribute};

/// One exchange under a task tag.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: TaskKey,
    pub(super) lun: Lun,
    pub(super) immediate: bool,
    /// Where it is sent; `None` while there is no connection for it.
    pub(super) connection: Option<ConnectionKey>,
    /// The CmdSN it was sent with.
    pub(super) cmd_sn: Option<CmdSn>,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Command(Box<Task>),
    Management {
        function: scsi_core::TaskManagementFunction,
        referenced: Option<TaskKey>,
    },
    Targets {
        text: DataSegment,
        received: TextAccumulator,
    },
    /// Our own ones (`owned` off) tell nobody how they ended.
    Ping {
        data: DataSegment,
        owned: bool,
    },
    /// Says our MaxRecvDataSegmentLength again, because the target asked for a negotiation.
    Negotiate,
    /// `connection` is the one to end, `cid` its name. With `cleanup` it is gone already, and its requests wait until
    /// the target has let go of them.
    Logout {
        whole_session: bool,
        connection: ConnectionKey,
        cid: Cid,
        owned: bool,
        cleanup: bool,
    },
}

/// A command.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) cdb: CdbBytes,
    pub(super) attribute: TaskAttribute,
    pub(super) priority: u8,
    pub(super) data_out: DataOut,
    pub(super) data_in_length: u32,
    pub(super) data_in: DataIn,
    /// Bytes that R2Ts have asked for. A target may ask for each once at error recovery level 0.
    pub(super) solicited: u64,
    /// The number of the next Data-In or R2T: they share one count (RFC 7143 11.8.3).
    pub(super) next_data_sn: u32,
}

/// The table of what is outstanding: a slab, whose index and generation make the tag.
#[derive(Debug, Default)]
pub(super) struct Entries {
    slots: Vec<Option<Entry>>,
    free: Vec<u32>,
    serial: u64,
    generation: u32,
}

/// Bits of a tag that name the slot. The generation above never reaches all ones, so no tag is the reserved one.
const SLOT_BITS: u32 = 16;
const GENERATIONS: u32 = (1 << (32 - SLOT_BITS)) - 1;

impl Entries {
    /// Most exchanges at once.
    pub(super) const MAX: usize = 1 << SLOT_BITS;

    /// Adds an exchange; `None` when there are [`Entries::MAX`].
    pub(super) fn insert(&mut self, lun: Lun, immediate: bool, kind: Kind) -> Option<TaskKey> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < Self::MAX => {
                self.slots.push(None);
                (self.slots.len() - 1) as u32
            }
            None => return None,
        };
        self.generation = (self.generation + 1) % GENERATIONS;
        self.serial += 1;
        let tag = InitiatorTaskTag(self.generation << SLOT_BITS | slot);
        let key = TaskKey { serial: self.serial, tag };
        self.slots[slot as usize] = Some(Entry { key, lun, immediate, connection: None, cmd_sn: None, kind });
        Some(key)
    }

    pub(super) fn by_tag(&mut self, tag: InitiatorTaskTag) -> Option<&mut Entry> {
        let slot = tag.0 as usize & (Self::MAX - 1);
        self.slots.get_mut(slot)?.as_mut().filter(|entry| entry.key.tag == tag)
    }

    pub(super) fn get(&mut self, key: TaskKey) -> Option<&mut Entry> {
        self.by_tag(key.tag).filter(|entry| entry.key == key)
    }

    pub(super) fn remove(&mut self, tag: InitiatorTaskTag) -> Option<Entry> {
        self.by_tag(tag)?;
        let slot = tag.0 & (Self::MAX as u32 - 1);
        self.free.push(slot);
        self.slots[slot as usize].take()
    }

    /// The tags of those that `wanted` is true for.
    pub(super) fn tags(&self, wanted: impl Fn(&Entry) -> bool) -> Vec<InitiatorTaskTag> {
        self.slots.iter().flatten().filter(|entry| wanted(entry)).map(|entry| entry.key.tag).collect()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }
}

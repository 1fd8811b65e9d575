//! Changes that must be kept beside the data before they count: saved mode pages, reservations with APTPL.
//!
//! One change is kept at a time. The record that is written has the change in it; only when it is on stable storage
//! the change comes into force and GOOD is sent, so that no initiator relies on what a loss of power would undo.

use bytes::Bytes;
use scsi_core::AdditionalSense;
use scsi_core::command::Command;
use scsi_core::reservation::{Outcome, Reservations};
use stmf::provider::{Effects, Segments, StoreOp};

use super::Lu;
use super::information;
use super::maintain::Maintaining;
use super::modes::Modes;
use super::ops::Purpose;
use super::reserve::kept;
use super::slab::Key;
use super::task::Work;
use crate::meta::Identity;

/// A change of what is kept, not in force yet.
#[derive(Debug)]
pub(super) enum Change {
    /// MODE SELECT.
    Modes {
        modes: Box<Modes>,
        /// Others have to be told.
        changed: bool,
        total: u64,
    },
    /// FORMAT UNIT or SANITIZE begins; without one, the failure of the last is left behind.
    Condition { begun: Option<Box<Maintaining>> },
    /// PERSISTENT RESERVE OUT.
    Reservations { state: Box<Reservations>, outcome: Box<Outcome>, total: u64 },
    /// SET IDENTIFYING INFORMATION: its type and what is set.
    Information { kind: u8, bytes: Vec<u8> },
}

impl Lu {
    /// If another change is being kept, puts the command aside until that is done.
    pub(super) fn must_queue(&mut self, key: Key, command: Command, data: &Segments) -> bool {
        if self.persisting.is_none() || self.persisting == Some(key) {
            return false;
        }
        self.set(key, Work::PersistQueue { command, data: Box::new(data.clone()) });
        self.persist_queue.push_back(key);
        true
    }

    /// Keeps a change, to commit it when it is safe.
    pub(super) fn persist(&mut self, key: Key, change: Change, fx: &mut Effects) {
        self.persisting = Some(key);
        self.set(key, Work::Persist(change));
        let record = Bytes::from(self.record());
        self.issue(key, Purpose::Persist, StoreOp::Persist { record }, fx);
    }

    /// The record as it has to stand beside the data now, with the change that is being kept.
    pub fn record(&self) -> String {
        self.record_with(&self.identity)
    }

    /// The record as it would be after [`modify`](Self::modify).
    pub fn record_with(&self, identity: &Identity) -> String {
        let mut identity = identity.clone();
        identity.device_information.clone_from(&self.identity.device_information);
        identity.text_information.clone_from(&self.identity.text_information);
        identity.mode_pages = self.modes_for(&identity).saved();
        identity.reservations = kept(&self.reservations);
        let pending = self.persisting.and_then(|key| self.tasks.get(key)).map(|task| &task.work);
        match pending {
            Some(Work::Persist(Change::Modes { modes, .. })) => identity.mode_pages = modes.saved(),
            Some(Work::Persist(Change::Reservations { state, .. })) => identity.reservations = kept(state),
            Some(Work::Persist(Change::Information { kind, bytes })) => information::apply(*kind, bytes, &mut identity),
            Some(Work::Persist(Change::Condition { begun })) => {
                identity.unfinished = begun.as_ref().map(|begun| begun.what());
            }
            _ => {}
        }
        identity.to_record()
    }

    /// The mode pages when the write cache is as `identity` wants it.
    fn modes_for(&self, identity: &Identity) -> Modes {
        let mut modes = self.modes.clone();
        if identity.write_cache_disabled != self.identity.write_cache_disabled && self.capabilities.volatile_cache {
            // The caching page takes WCE in either state, so this cannot be refused.
            let _ = modes.set_write_cache(!identity.write_cache_disabled, &self.device_parameters());
        }
        modes
    }

    /// The record has been kept: the change comes into force.
    pub(super) fn persist_succeeded(&mut self, key: Key, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        if !matches!(task.work, Work::Persist(_)) {
            return;
        }
        if let Work::Persist(change) = std::mem::replace(&mut task.work, Work::Running) {
            self.persist_retired(key);
            self.commit(key, change, fx);
        }
    }

    /// The record could not be kept: nothing has changed.
    pub(super) fn persist_failed(&mut self, key: Key) {
        self.persist_retired(key);
        self.set(key, Work::Running);
    }

    /// If it was the turn of this task, the next one has it.
    pub(super) fn persist_retired(&mut self, key: Key) {
        if self.persisting == Some(key) {
            self.persisting = self.persist_queue.pop_front();
            self.runnable.extend(self.persisting);
        } else if !self.persist_queue.is_empty() {
            self.persist_queue.retain(|waiting| *waiting != key);
        }
    }

    /// A change comes into force, and its command ends.
    pub(super) fn commit(&mut self, key: Key, change: Change, fx: &mut Effects) {
        match change {
            Change::Modes { modes, changed, total } => {
                self.identity.mode_pages = modes.saved();
                self.commit_modes(key, *modes, changed, total, fx);
            }
            Change::Condition { begun } => self.commit_condition(key, begun, fx),
            Change::Reservations { state, outcome, total } => {
                self.commit_reservations(key, *state, &outcome, total, fx);
            }
            Change::Information { kind, bytes } => self.commit_information(key, kind, &bytes, fx),
        }
    }

    /// Takes over what an administrator has changed, after it was kept: alias, URLs, protection, size, write cache.
    /// The initiators that reach the unit are told of what concerns them. Name and block size cannot be changed.
    pub fn modify(&mut self, identity: Identity) {
        self.modes = self.modes_for(&identity);
        let old = std::mem::replace(&mut self.identity, identity);
        self.identity.guid = old.guid;
        self.identity.block_size = old.block_size;
        self.identity.device_information = old.device_information;
        self.identity.text_information = old.text_information;
        self.identity.mode_pages = self.modes.saved();
        self.identity.reservations = kept(&self.reservations);
        self.identity.unfinished = old.unfinished;
        if old.io_limits != self.identity.io_limits {
            self.pace.set(&self.identity.io_limits);
        }
        if old.size != self.identity.size {
            self.attention_others(None, AdditionalSense::CAPACITY_DATA_HAS_CHANGED);
        }
        let protection = old.write_protect != self.identity.write_protect;
        let told = !scsi_core::mutation::is_active(scsi_core::mutation::Mutation::CacheChangeNotTold);
        if told && (protection || old.write_cache_disabled != self.identity.write_cache_disabled) {
            self.attention_others(None, AdditionalSense::MODE_PARAMETERS_CHANGED);
        }
    }
}

//! WRITE ATOMIC: one write to the store, with the range for itself, whole or not at all.

use scsi_core::SenseData;
use scsi_core::cdb::WriteAtomic;
use scsi_core::command::Command;
use stmf::provider::{Effects, Segments, StoreOp};

use super::Lu;
use super::ops::{Owner, Purpose};
use super::slab::Key;
use super::task::{Atomic, Work};
use super::transfer::{Checked, wrong_data_length};

impl Lu {
    /// MAXIMUM ATOMIC TRANSFER LENGTH in bytes.
    pub(super) fn max_atomic_bytes(&self) -> u32 {
        self.capabilities.atomic_write_bytes.min(self.limits.max_transfer_bytes)
    }

    pub(super) fn write_atomic(&mut self, key: Key, command: &WriteAtomic, fx: &mut Effects) -> Checked {
        let (_, length) = self.range(command.lba, command.blocks.into())?;
        if command.atomic_boundary != 0 {
            return Err(SenseData::invalid_field_in_cdb(10, Some(7)));
        }
        if length > self.max_atomic_bytes().into() {
            return Err(SenseData::invalid_field_in_cdb(12, Some(7)));
        }
        if length == 0 {
            self.good(key, 0, fx);
        } else {
            self.gather(key, Command::WriteAtomic(*command), length as u32, fx);
        }
        Ok(())
    }

    pub(super) fn received_atomic(&mut self, key: Key, command: &WriteAtomic, data: Segments) -> Checked {
        let (offset, length) = self.range(command.lba, command.blocks.into())?;
        // Less than all of it would not be atomic.
        if data.iter().map(|bytes| bytes.len() as u64).sum::<u64>() < length {
            return Err(wrong_data_length());
        }
        let durable = self.must_flush(command.fua);
        self.set(key, Work::WriteAtomic(Box::new(Atomic { offset, data, durable, total: length })));
        self.exclude(Owner::Task(key), offset, offset + length);
        Ok(())
    }

    pub(super) fn write_atomic_on(&mut self, key: Key, atomic: Box<Atomic>, fx: &mut Effects) {
        if !self.has_range(Owner::Task(key)) {
            return self.set(key, Work::WriteAtomic(atomic));
        }
        let Atomic { offset, data, durable, total } = *atomic;
        self.set(key, Work::Finish { total });
        if let Some(task) = self.tasks.get_mut(key) {
            task.moved = total;
        }
        self.statistics.writes += 1;
        self.statistics.written_bytes += total;
        self.issue(key, Purpose::Write, StoreOp::WriteAtomic { offset, data, durable }, fx);
    }
}

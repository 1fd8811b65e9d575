//! Commands that compare with the medium: VERIFY, WRITE AND VERIFY, COMPARE AND WRITE; ORWRITE.

use scsi_core::SenseData;
use scsi_core::cdb::{ByteCheck, CompareAndWrite, OrWrite, Verify, WriteAndVerify};
use scsi_core::command::{Command, CommandEntry};
use scsi_core::mutation::{Mutation, is_active};
use stmf::provider::{Effects, Segments, StoreOp};

use super::Lu;
use super::gather::{concat, first_difference, split_off};
use super::ops::{Owner, Purpose};
use super::slab::Key;
use super::task::{Against, Comparing, Verifying, Work};
use super::transfer::{Checked, wrong_data_length};

impl Lu {
    pub(super) fn write_and_verify(
        &mut self,
        key: Key,
        entry: &CommandEntry,
        command: &WriteAndVerify,
        fx: &mut Effects,
    ) -> Checked {
        let (_, length) = self.transfer(entry, command.lba, command.blocks)?;
        self.statistics.writes += 1;
        self.gather(key, Command::WriteAndVerify(*command), length as u32, fx);
        Ok(())
    }

    pub(super) fn written_to_verify(
        &mut self,
        key: Key,
        command: &WriteAndVerify,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let (base, total) = self.range(command.lba, command.blocks.into())?;
        let length: u64 =
            data.iter().map(|bytes| bytes.len() as u64).sum::<u64>() >> self.block_shift << self.block_shift;
        if length == 0 {
            self.good(key, total, fx);
            return Ok(());
        }
        let mut data = data;
        split_off(&mut data, length as u32);
        let against = match command.byte_check {
            ByteCheck::None => Against::Nothing,
            _ => Against::Data(data.clone()),
        };
        self.set(key, Work::WriteThenVerify(Box::new(Verifying { base, length, done: 0, against, total })));
        if let Some(task) = self.tasks.get_mut(key) {
            task.moved = length;
        }
        self.statistics.written_bytes += length;
        // What is verified is the medium: the data has to be there first.
        let durable = self.capabilities.volatile_cache;
        self.issue(key, Purpose::Write, StoreOp::Write { offset: base, data, durable }, fx);
        Ok(())
    }

    pub(super) fn verify(&mut self, key: Key, entry: &CommandEntry, command: &Verify, fx: &mut Effects) -> Checked {
        let (base, length) = match command.byte_check {
            ByteCheck::Compare => self.transfer(entry, command.lba, command.blocks)?,
            _ => self.range(command.lba, command.blocks.into())?,
        };
        match command.byte_check {
            _ if length == 0 => self.good(key, 0, fx),
            ByteCheck::None => {
                let verifying = Verifying { base, length, done: 0, against: Against::Nothing, total: 0 };
                self.verify_on(key, Box::new(verifying), fx);
            }
            ByteCheck::Compare => self.gather(key, Command::Verify(*command), length as u32, fx),
            ByteCheck::CompareOneBlock => self.gather(key, Command::Verify(*command), 1 << self.block_shift, fx),
        }
        Ok(())
    }

    pub(super) fn received_to_verify(
        &mut self,
        key: Key,
        command: &Verify,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let received: u64 = data.iter().map(|bytes| bytes.len() as u64).sum();
        let block = 1 << self.block_shift;
        let verifying = if command.byte_check == ByteCheck::CompareOneBlock {
            if received < block {
                return Err(wrong_data_length());
            }
            let against = Against::Block(concat(data));
            Verifying { base, length, done: 0, against, total: block }
        } else {
            // An initiator with less data than it asked to compare has as much compared as there is.
            let compared = received / block * block;
            Verifying { base, length: compared, done: 0, against: Against::Data(data), total: length }
        };
        self.verify_on(key, Box::new(verifying), fx);
        Ok(())
    }

    /// Compares what was read back, then reads on.
    pub(super) fn verify_on(&mut self, key: Key, mut verifying: Box<Verifying>, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let read = std::mem::take(&mut task.read_back);
        let length: u64 = read.iter().map(|bytes| bytes.len() as u64).sum();
        self.statistics.verified_bytes += length;
        let differs = match &mut verifying.against {
            Against::Nothing => None,
            Against::Data(data) => {
                let rest = split_off(data, length as u32);
                let differs = first_difference(data, &read);
                *data = rest;
                differs
            }
            Against::Block(block) => {
                let repeated: Vec<_> = (0..length / block.len() as u64).map(|_| block.clone()).collect();
                first_difference(&repeated, &read).map(|offset| offset % block.len() as u64)
            }
        };
        if let Some(offset) = differs {
            let from_start = match verifying.against {
                Against::Block(_) => 0,
                _ => verifying.done,
            };
            return self.fail(key, SenseData::miscompare(from_start + offset), fx);
        }
        verifying.done += length;
        let left = verifying.length - verifying.done;
        if left == 0 {
            return self.good(key, verifying.total, fx);
        }
        let piece = left.min(self.limits.read_piece_bytes.into()) as u32;
        let op = StoreOp::Read { offset: verifying.base + verifying.done, length: piece, lands: None };
        self.set(key, Work::Verify(verifying));
        self.issue(key, Purpose::ReadBack, op, fx);
    }

    pub(super) fn compare_and_write(&mut self, key: Key, command: &CompareAndWrite, fx: &mut Effects) -> Checked {
        let (_, length) = self.range(command.lba, command.blocks.into())?;
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        // Another length of data than the blocks ask for is a mistake that must not end in a write.
        let fits = u64::from(task.data_out_length) == 2 * length;
        if command.blocks > self.limits.max_compare_and_write_blocks || !fits {
            return Err(SenseData::invalid_field_in_cdb(13, Some(7)));
        }
        if length == 0 {
            self.good(key, 0, fx);
        } else {
            self.gather(key, Command::CompareAndWrite(*command), 2 * length as u32, fx);
        }
        Ok(())
    }

    pub(super) fn received_to_compare(
        &mut self,
        key: Key,
        command: &CompareAndWrite,
        mut compare: Segments,
    ) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let length = length as u32;
        let write = split_off(&mut compare, length);
        let durable = self.must_flush(command.fua);
        self.combine(key, Comparing { base, length, compare: Some(compare), write, durable });
        Ok(())
    }

    pub(super) fn or_write(&mut self, key: Key, entry: &CommandEntry, command: &OrWrite, fx: &mut Effects) -> Checked {
        let (_, length) = self.transfer(entry, command.lba, command.blocks)?;
        self.gather(key, Command::OrWrite(*command), length as u32, fx);
        Ok(())
    }

    pub(super) fn received_to_or(&mut self, key: Key, command: &OrWrite, write: Segments, fx: &mut Effects) -> Checked {
        let (base, length) = self.range(command.lba, command.blocks.into())?;
        let received: u64 = write.iter().map(|bytes| bytes.len() as u64).sum();
        if received < length {
            return Err(wrong_data_length());
        }
        if length == 0 {
            self.good(key, 0, fx);
            return Ok(());
        }
        let durable = self.must_flush(command.fua);
        self.combine(key, Comparing { base, length: length as u32, compare: None, write, durable });
        Ok(())
    }

    /// Waits for the range, to read and write it with nobody between.
    fn combine(&mut self, key: Key, comparing: Comparing) {
        let (begin, end) = (comparing.base, comparing.base + u64::from(comparing.length));
        self.set(key, Work::CompareAndWrite(Box::new(comparing)));
        self.exclude(Owner::Task(key), begin, end);
    }

    pub(super) fn compare_on(&mut self, key: Key, comparing: Box<Comparing>, fx: &mut Effects) {
        if !self.has_range(Owner::Task(key)) {
            return self.set(key, Work::CompareAndWrite(comparing));
        }
        let op = StoreOp::Read { offset: comparing.base, length: comparing.length, lands: None };
        self.set(key, Work::Comparing(comparing));
        self.issue(key, Purpose::ReadBack, op, fx);
    }

    pub(super) fn compared(&mut self, key: Key, comparing: Comparing, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        let read = std::mem::take(&mut task.read_back);
        let Comparing { base, length, compare, write, durable } = comparing;
        let mut total = u64::from(length);
        let data = match compare {
            Some(compare) => {
                if let Some(offset) = first_difference(&compare, &read)
                    && !is_active(Mutation::MiscompareIgnored)
                {
                    return self.fail(key, SenseData::miscompare(offset), fx);
                }
                total *= 2;
                write
            }
            None => {
                let mut bytes = write.concat();
                bytes.iter_mut().zip(read.iter().flat_map(|bytes| bytes.iter())).for_each(|(to, with)| *to |= with);
                Segments::from_iter([bytes.into()])
            }
        };
        task.moved = total;
        task.work = Work::Finish { total };
        self.statistics.writes += 1;
        self.statistics.written_bytes += u64::from(length);
        self.issue(key, Purpose::Write, StoreOp::Write { offset: base, data, durable }, fx);
    }
}

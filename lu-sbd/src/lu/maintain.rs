//! FORMAT UNIT and SANITIZE: the whole medium written anew, with progress, over resets and honestly over restarts.
//!
//! ```text
//!            command, its record kept          every pass done, flushed, the record kept
//!   Ready ---------------------------> Under -------------------------------------------> Ready
//!     ^                                  | a store operation failed; the unit was restarted meanwhile
//!     |   SANITIZE or FORMAT UNIT again; v
//!     +------------------------------- Broken
//!         EXIT FAILURE MODE, if the SANITIZE had AUSE set
//! ```
//!
//! Before the first block is touched the record beside the data says what was begun. A unit that finds it there when it
//! is made was interrupted, and answers as after a failure.

use bytes::Bytes;
use scsi_core::cdb::{FormatUnit, Sanitize, SanitizeService};
use scsi_core::command::{Command, CommandEntry, CommandFlags, CommandKind as K};
use scsi_core::data::{FormatParameters, OverwriteParameters};
use scsi_core::{AdditionalSense, SenseData, SenseKey};
use smallvec::SmallVec;
use stmf::provider::{Effects, Segments, StoreOp};

use super::Lu;
use super::gather::concat;
use super::job::{Failure, JobWork};
use super::ops::{Owner, Purpose};
use super::persist::Change;
use super::slab::Key;
use super::transfer::Checked;
use crate::meta::Unfinished;

/// Patterns go to the store in pieces of this size, deallocations in larger ones.
const PATTERN_PIECE_BYTES: u64 = 64 << 20;
const ERASE_PIECE_BYTES: u64 = 4 << 30;
/// The longest parameter list of FORMAT UNIT: a header and a pattern of the largest block.
const MAX_FORMAT_LIST: u32 = 8 + 4 + 32768;

/// Whether the medium may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    /// It may.
    Ready,
    /// It is being written anew, and so far (in 1/65536) that has come.
    Under(Unfinished, u16),
    /// That failed, or was interrupted by a restart.
    Broken(Unfinished),
}

impl Condition {
    /// As the record tells it.
    pub(super) fn of(unfinished: Option<Unfinished>) -> Self {
        unfinished.map_or(Self::Ready, Self::Broken)
    }
}

/// The medium being written anew.
#[derive(Debug)]
pub(super) struct Maintaining {
    what: Unfinished,
    /// One block for each pass; empty for zeros by deallocation.
    passes: SmallVec<[Bytes; 1]>,
    pass: usize,
    at: u64,
    step: Step,
    immediate: bool,
    total: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// What others have in flight comes first.
    Wait,
    /// Piece after piece.
    Write,
    /// Keep the record of its end.
    Record,
    End,
}

impl Maintaining {
    fn new(what: Unfinished, passes: SmallVec<[Bytes; 1]>, immediate: bool, total: u64) -> Self {
        Self { what, passes, pass: 0, at: 0, step: Step::Wait, immediate, total }
    }

    /// What is under way, as the record keeps it.
    pub(super) fn what(&self) -> Unfinished {
        self.what
    }
}

/// A block of `pattern` over and over.
fn block_of(pattern: &[u8], block: u32) -> Bytes {
    pattern.iter().copied().cycle().take(block as usize).collect()
}

impl Lu {
    /// Whether the condition of the medium lets the command through.
    pub(super) fn check_condition_of_medium(&self, entry: &CommandEntry) -> Checked {
        let allowed_by = |flag| entry.flags.contains(flag) && entry.kind != K::TestUnitReady;
        let sanitizes = matches!(
            entry.kind,
            K::SanitizeOverwrite | K::SanitizeBlockErase | K::SanitizeCryptoErase | K::SanitizeExitFailureMode
        );
        match self.condition {
            Condition::Ready => Ok(()),
            Condition::Under(what, progress) => {
                let (flag, code) = match what {
                    Unfinished::Format => (CommandFlags::FORMATTING, AdditionalSense::FORMAT_IN_PROGRESS),
                    Unfinished::Sanitize { .. } => (CommandFlags::SANITIZING, AdditionalSense::SANITIZE_IN_PROGRESS),
                };
                if allowed_by(flag) && !sanitizes {
                    return Ok(());
                }
                Err(SenseData::not_ready(code).with_progress(progress))
            }
            Condition::Broken(Unfinished::Sanitize { .. }) if allowed_by(CommandFlags::SANITIZING) || sanitizes => {
                Ok(())
            }
            Condition::Broken(Unfinished::Format)
                if !entry.flags.contains(CommandFlags::NEEDS_MEDIUM) || sanitizes || entry.kind == K::FormatUnit =>
            {
                Ok(())
            }
            Condition::Broken(what) => Err(broken(what)),
        }
    }

    /// What REQUEST SENSE tells of the condition of the medium.
    pub(super) fn condition_sense(&self) -> Option<SenseData> {
        match self.condition {
            Condition::Ready => None,
            Condition::Under(Unfinished::Format, progress) => {
                Some(SenseData::not_ready(AdditionalSense::FORMAT_IN_PROGRESS).with_progress(progress))
            }
            Condition::Under(Unfinished::Sanitize { .. }, progress) => {
                Some(SenseData::not_ready(AdditionalSense::SANITIZE_IN_PROGRESS).with_progress(progress))
            }
            Condition::Broken(what) => Some(broken(what)),
        }
    }

    pub(super) fn format_unit(&mut self, key: Key, command: FormatUnit, fx: &mut Effects) -> Checked {
        if command.format_data {
            self.gather(key, Command::FormatUnit(command), MAX_FORMAT_LIST, fx);
            return Ok(());
        }
        if command.complete_list {
            return Err(SenseData::invalid_field_in_cdb(1, Some(3)));
        }
        self.received_format_list(key, &command, Segments::new(), fx)
    }

    pub(super) fn received_format_list(
        &mut self,
        key: Key,
        command: &FormatUnit,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        if self.must_queue(key, Command::FormatUnit(*command), &data) {
            return Ok(());
        }
        // What it waited for may have been another.
        self.check_condition_of_medium(K::FormatUnit.entry())?;
        let list = concat(data);
        let parameters = FormatParameters::parse(command, &list, self.identity.block_size)?;
        let pass = match parameters.pattern {
            Some(pattern) if pattern.iter().any(|&byte| byte != 0) => block_of(&pattern, self.identity.block_size),
            _ => Bytes::new(),
        };
        let passes = SmallVec::from_iter([pass]);
        let immediate = parameters.immediate;
        self.keep_maintenance(key, Maintaining::new(Unfinished::Format, passes, immediate, list.len() as u64), fx);
        Ok(())
    }

    pub(super) fn sanitize(&mut self, key: Key, command: Sanitize, fx: &mut Effects) -> Checked {
        match command.service {
            SanitizeService::Overwrite => {
                let block = self.identity.block_size;
                // The length itself is looked at before anything is fetched.
                if command.parameter_list_length < 5 || u32::from(command.parameter_list_length) > block + 4 {
                    return Err(SenseData::invalid_field_in_cdb(7, Some(7)));
                }
                self.gather(key, Command::Sanitize(command), command.parameter_list_length.into(), fx);
                Ok(())
            }
            _ => self.received_sanitize_list(key, &command, Segments::new(), fx),
        }
    }

    pub(super) fn received_sanitize_list(
        &mut self,
        key: Key,
        command: &Sanitize,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        if self.must_queue(key, Command::Sanitize(*command), &data) {
            return Ok(());
        }
        // What it waited for may have been another.
        self.check_condition_of_medium(command.service.kind().entry())?;
        // A failed one without AUSE is only mended by another without.
        if let Condition::Broken(Unfinished::Sanitize { unrestricted_exit: false }) = self.condition
            && command.service != SanitizeService::ExitFailureMode
            && command.allow_unrestricted_exit
        {
            return Err(SenseData::invalid_field_in_cdb(1, Some(5)));
        }
        let list = concat(data);
        let passes: SmallVec<[Bytes; 1]> = match command.service {
            SanitizeService::Overwrite => {
                let block = self.identity.block_size;
                let parameters = OverwriteParameters::parse(command.parameter_list_length, &list, block)?;
                let pattern = block_of(&parameters.pattern, block);
                let inverted: Bytes = pattern.iter().map(|byte| !byte).collect();
                (0..parameters.count)
                    .map(|pass| if parameters.invert && pass % 2 == 1 { inverted.clone() } else { pattern.clone() })
                    .collect()
            }
            SanitizeService::BlockErase => SmallVec::from_iter([Bytes::new()]),
            SanitizeService::ExitFailureMode => return self.exit_failure_mode(key, fx),
            SanitizeService::CryptographicErase => return Err(SenseData::invalid_field_in_cdb(1, Some(4))),
        };
        let what = Unfinished::Sanitize { unrestricted_exit: command.allow_unrestricted_exit };
        self.keep_maintenance(key, Maintaining::new(what, passes, command.immediate, list.len() as u64), fx);
        Ok(())
    }

    fn exit_failure_mode(&mut self, key: Key, fx: &mut Effects) -> Checked {
        match self.condition {
            Condition::Broken(Unfinished::Sanitize { unrestricted_exit: true }) => {
                self.persist(key, Change::Condition { begun: None }, fx);
                Ok(())
            }
            Condition::Broken(Unfinished::Sanitize { .. }) => Err(SenseData::invalid_field_in_cdb(1, Some(4))),
            _ => {
                self.good(key, 0, fx);
                Ok(())
            }
        }
    }

    /// Keeps the record of what is about to begin.
    fn keep_maintenance(&mut self, key: Key, maintaining: Maintaining, fx: &mut Effects) {
        self.persist(key, Change::Condition { begun: Some(Box::new(maintaining)) }, fx);
    }

    /// The record is kept: it begins, or a failed one is left behind.
    pub(super) fn commit_condition(&mut self, key: Key, begun: Option<Box<Maintaining>>, fx: &mut Effects) {
        let Some(maintaining) = begun else {
            self.identity.unfinished = None;
            self.condition = Condition::Ready;
            return self.good(key, 0, fx);
        };
        let what = maintaining.what;
        self.identity.unfinished = Some(what);
        self.condition = Condition::Under(what, 0);
        self.tokens.revoke_all();
        let sense = match what {
            Unfinished::Format => SenseData::not_ready(AdditionalSense::FORMAT_IN_PROGRESS),
            Unfinished::Sanitize { .. } => SenseData::not_ready(AdditionalSense::SANITIZE_IN_PROGRESS),
        };
        let (immediate, total) = (maintaining.immediate, maintaining.total);
        let job = self.begin_job(key, JobWork::Maintain(maintaining), immediate, total, fx);
        // What else is under way ends now: nothing older may reach the medium after the first pass.
        let others: Vec<Key> = self.jobs.iter().map(|(other, _)| other).filter(|other| *other != job).collect();
        for other in others {
            self.cancel_job(other, Failure::Sense(sense), fx);
        }
        let tasks: Vec<Key> =
            self.tasks_of(|task| task.failure.is_none() && task.is_on_medium()).filter(|other| *other != key).collect();
        for task in tasks {
            self.drop_held(Owner::Task(task));
            self.fail(task, sense, fx);
        }
        self.exclude(Owner::Job(job), 0, self.size());
    }

    /// Goes on with FORMAT UNIT or SANITIZE, of which nothing is in flight.
    pub(super) fn maintain_on(&mut self, job: Key, fx: &mut Effects) {
        let (size, granted) = (self.size(), self.has_range(Owner::Job(job)));
        let Some(JobWork::Maintain(maintaining)) = self.jobs.get_mut(job).map(|entry| &mut entry.work) else { return };
        match maintaining.step {
            Step::Wait if !granted => {}
            Step::Wait => {
                maintaining.step = Step::Write;
                self.maintain_on(job, fx);
            }
            Step::Write if maintaining.at == size && maintaining.pass + 1 == maintaining.passes.len() => {
                maintaining.step = Step::Record;
                self.issue_for_job(job, Purpose::Flush, StoreOp::Flush, fx);
            }
            Step::Write => {
                if maintaining.at == size {
                    maintaining.at = 0;
                    maintaining.pass += 1;
                    // Each pass is to reach the medium, not only the last.
                    return self.issue_for_job(job, Purpose::Flush, StoreOp::Flush, fx);
                }
                let (offset, left) = (maintaining.at, size - maintaining.at);
                let pattern = maintaining.passes[maintaining.pass].clone();
                let whole = u128::from(size) * maintaining.passes.len() as u128;
                let done = u128::from(size) * maintaining.pass as u128 + u128::from(offset);
                let what = maintaining.what;
                let erase = pattern.is_empty() && self.capabilities.unmap.is_some_and(|unmap| unmap.reads_zero);
                let length = left.min(if erase { ERASE_PIECE_BYTES } else { PATTERN_PIECE_BYTES });
                maintaining.at += length;
                self.condition = Condition::Under(what, ((done << 16) / whole.max(1)) as u16);
                let op = if erase {
                    self.zeros(offset, length)
                } else {
                    StoreOp::WriteSame { offset, length, pattern, durable: false }
                };
                self.issue_for_job(job, Purpose::Write, op, fx);
            }
            Step::Record => {
                maintaining.step = Step::End;
                self.identity.unfinished = None;
                let record = Bytes::from(self.record());
                self.issue_for_job(job, Purpose::Persist, StoreOp::Persist { record }, fx);
            }
            Step::End => self.end_job(job, fx),
        }
    }

    /// FORMAT UNIT or SANITIZE is over: what its task ends with.
    pub(super) fn maintenance_ended(
        &mut self,
        maintaining: &Maintaining,
        failure: Option<Failure>,
    ) -> (u64, Option<SenseData>) {
        let what = maintaining.what;
        self.condition = match failure {
            None => Condition::Ready,
            Some(_) => {
                self.identity.unfinished = Some(what);
                Condition::Broken(what)
            }
        };
        (maintaining.total, failure.map(|_| broken(what)))
    }
}

/// What a unit is told by whose medium was left half written.
fn broken(what: Unfinished) -> SenseData {
    match what {
        Unfinished::Format => SenseData::new(SenseKey::MEDIUM_ERROR, AdditionalSense::MEDIUM_FORMAT_CORRUPTED),
        Unfinished::Sanitize { .. } => SenseData::new(SenseKey::MEDIUM_ERROR, AdditionalSense::SANITIZE_COMMAND_FAILED),
    }
}

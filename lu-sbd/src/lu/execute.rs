//! From a command to its work: the task set, the checks, the dispatch, the end.

use scsi_core::command::{Command, CommandEntry, CommandFlags, CommandKind as K, CommandSet, ParsedCommand, parse};
use scsi_core::data::AsymmetricAccessState;
use scsi_core::mode::QueueErrorManagement;
use scsi_core::{AdditionalSense, SenseData, SenseFormat, Status, task_set};
use smallvec::SmallVec;
use std::collections::hash_map::Entry;
use stmf::provider::{Completion, Effect, Effects, LuTask, Segments};

use super::ops::Owner;
use super::slab::Key;
use super::task::{Retired, Task, Work};
use super::transfer::Checked;
use super::{Limits, Lu, access, logs, sense};
use crate::meta::Identity;
use crate::store::Capabilities;

/// The longest parameter list of PERSISTENT RESERVE OUT that is looked at, as COMSTAR has it; a longer one ends inside.
const MAX_RESERVATION_LIST: u32 = 256 << 10;

/// The commands of a disk.
const COMMANDS: CommandSet = CommandSet::of(&[
    K::TestUnitReady,
    K::RequestSense,
    K::FormatUnit,
    K::SanitizeOverwrite,
    K::SanitizeExitFailureMode,
    K::Read6,
    K::Write6,
    K::Inquiry,
    K::ModeSelect6,
    K::Reserve6,
    K::Release6,
    K::ModeSense6,
    K::StartStopUnit,
    K::ReadCapacity10,
    K::Read10,
    K::Write10,
    K::WriteAndVerify10,
    K::Verify10,
    K::PreFetch10,
    K::SynchronizeCache10,
    K::WriteSame10,
    K::ModeSelect10,
    K::Reserve10,
    K::Release10,
    K::ModeSense10,
    K::PrInReadKeys,
    K::PrInReadReservation,
    K::PrInReportCapabilities,
    K::PrInReadFullStatus,
    K::PrOutRegister,
    K::PrOutReserve,
    K::PrOutRelease,
    K::PrOutClear,
    K::PrOutPreempt,
    K::PrOutPreemptAndAbort,
    K::PrOutRegisterAndIgnore,
    K::PrOutRegisterAndMove,
    K::PrOutReplaceLost,
    K::Read16,
    K::Write16,
    K::WriteAndVerify16,
    K::Verify16,
    K::PreFetch16,
    K::SynchronizeCache16,
    K::WriteSame16,
    K::ReadCapacity16,
    K::GetLbaStatus,
    K::ReportLuns,
    K::ReportSupportedOperationCodes,
    K::ReportSupportedTaskManagementFunctions,
    K::ReadDefectData10,
    K::ReadDefectData12,
    K::OrWrite16,
    K::Read12,
    K::Write12,
    K::WriteAndVerify12,
    K::Verify12,
    K::LogSelect,
    K::LogSense,
    K::ReceiveDiagnostic,
    K::SendDiagnostic,
    K::ReportIdentifyingInformation,
    K::SetIdentifyingInformation,
    K::ReportTimestamp,
    K::SetTimestamp,
]);

/// What a unit over such a store can do.
pub(super) fn commands(
    identity: &Identity,
    capabilities: &Capabilities,
    limits: &Limits,
    offered: Offered,
) -> CommandSet {
    let mut commands = COMMANDS.with_naca(true);
    if capabilities.unmap.is_some() {
        commands = commands.with(K::Unmap);
    }
    if capabilities.unmap.is_some_and(|unmap| unmap.reads_zero) {
        commands = commands.with(K::SanitizeBlockErase);
    }
    if limits.max_compare_and_write_blocks > 0 {
        commands = commands.with(K::CompareAndWrite);
    }
    if offered.ports {
        commands = commands.with(K::ReportTargetPortGroups).with(K::SetTargetPortGroups);
    }
    if identity.removable {
        commands = commands.with(K::PreventAllow);
    }
    if capabilities.atomic_write_bytes > 0 {
        commands = commands.with(K::WriteAtomic16);
    }
    if offered.copies {
        commands = COPIES.iter().fold(commands, |set, kind| set.with(*kind));
    }
    if offered.copies && offered.tokens {
        commands = TOKENS.iter().fold(commands, |set, kind| set.with(*kind));
    }
    commands
}

/// Which commands there are for what stands around the unit: third-party copies, target port groups.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Offered {
    pub(super) ports: bool,
    pub(super) copies: bool,
    pub(super) tokens: bool,
}

const COPIES: [K; 9] = [
    K::ExtendedCopyLid1,
    K::ExtendedCopyLid4,
    K::CopyOperationAbort,
    K::ReceiveCopyStatusLid1,
    K::ReceiveCopyDataLid1,
    K::ReceiveCopyOperatingParameters,
    K::ReceiveCopyFailureDetailsLid1,
    K::ReceiveCopyStatusLid4,
    K::ReceiveCopyDataLid4,
];

const TOKENS: [K; 3] = [K::PopulateToken, K::WriteUsingToken, K::ReceiveRodTokenInformation];

/// Why a command is not carried out.
enum Refusal {
    Sense(SenseData),
    Status(Status),
}

impl From<SenseData> for Refusal {
    fn from(sense: SenseData) -> Self {
        Self::Sense(sense)
    }
}

impl Lu {
    /// Takes a command.
    pub fn submit(&mut self, task: LuTask<'_>, fx: &mut Effects) {
        let refuse = |status, sense: Option<SenseData>, format| {
            let sense = sense.map(|sense| SmallVec::from_vec(sense.encode(format))).unwrap_or_default();
            Effect::Complete(Completion { task: task.id, status, sense, data_length: 0 })
        };
        self.statistics.commands += 1;
        let format = self.sense_format();
        let Some(number) = self.nexuses.get(&task.id.nexus).map(|state| state.number) else {
            let sense = SenseData::illegal_request(AdditionalSense::LOGICAL_UNIT_NOT_SUPPORTED);
            fx.push(refuse(Status::CHECK_CONDITION, Some(sense), format));
            return;
        };
        let Entry::Vacant(place) = self.by_id.entry(task.id) else {
            let sense = SenseData::aborted(AdditionalSense::OVERLAPPED_COMMANDS_ATTEMPTED);
            fx.push(refuse(Status::CHECK_CONDITION, Some(sense), format));
            return;
        };
        // PREEMPT AND ABORT may end an auto contingent allegiance, so it is let in beside one.
        let preempts = matches!(task.cdb, [0x5f, action, ..] if action & 0x1f == 5);
        let admitted = if self.set.len_of(number) >= self.limits.max_tasks_per_nexus {
            Err(task_set::Refusal::Full)
        } else {
            self.set.admit(number, task.attribute, preempts)
        };
        let (ticket, runs) = match admitted {
            Ok(admitted) => admitted,
            Err(refusal) => {
                let (status, sense) = match refusal {
                    task_set::Refusal::Full => (Status::TASK_SET_FULL, None),
                    task_set::Refusal::AcaActive => (Status::ACA_ACTIVE, None),
                    task_set::Refusal::NoAca => {
                        (Status::CHECK_CONDITION, Some(SenseData::aborted(AdditionalSense::INVALID_MESSAGE_ERROR)))
                    }
                };
                fx.push(refuse(status, sense, format));
                return;
            }
        };
        let key = self.tasks.insert(Task::new(&task, ticket, self.clock_us));
        place.insert(key);
        match self.by_ticket.get_mut(ticket.index()) {
            Some(place) => *place = key,
            None => self.by_ticket.resize(ticket.index() + 1, key),
        }
        self.count_begun(key);
        if runs {
            self.execute(key, fx);
        }
        self.run(fx);
    }

    /// Looks at every task that something happened to.
    #[inline]
    pub(super) fn run(&mut self, fx: &mut Effects) {
        if !self.runnable.is_empty() || !self.runnable_jobs.is_empty() {
            self.run_all(fx);
        }
    }

    fn run_all(&mut self, fx: &mut Effects) {
        loop {
            if let Some(key) = self.runnable.pop_front() {
                self.settle(key, fx);
            } else if let Some(job) = self.runnable_jobs.pop_front() {
                self.job_on(job, fx);
            } else {
                return;
            }
        }
    }

    /// Offers the commands of third-party copies: `copies` when the store can copy, `tokens` when there are time and
    /// randomness for tokens.
    pub(crate) fn offer(&mut self, copies: bool, tokens: bool) {
        self.offered = Offered { copies, tokens, ..self.offered };
        self.commands = commands(&self.identity, &self.capabilities, &self.limits, self.offered);
    }

    pub(super) fn set(&mut self, key: Key, work: Work) {
        if let Some(task) = self.tasks.get_mut(key) {
            task.work = work;
        }
    }

    /// Begins a task whose turn it is.
    pub(super) fn execute(&mut self, key: Key, fx: &mut Effects) {
        self.set(key, Work::Running);
        let outcome = match self.check(key) {
            Ok(parsed) => self.dispatch(key, &parsed, fx).map_err(Refusal::Sense),
            Err(refusal) => Err(refusal),
        };
        match outcome {
            Ok(()) => {}
            Err(Refusal::Sense(sense)) => self.fail(key, sense, fx),
            Err(Refusal::Status(status)) => self.complete(key, status, None, 0, fx),
        }
    }

    #[inline]
    fn check(&mut self, key: Key) -> Result<ParsedCommand, Refusal> {
        let Some(task) = self.tasks.get(key) else { return Err(Refusal::Status(Status::BUSY)) };
        let nexus = task.id.nexus;
        let parsed = parse(task.cdb(), self.commands)?;
        if parsed.naca
            && let Some(task) = self.tasks.get_mut(key)
        {
            task.naca = true;
        }
        let flags = parsed.entry.flags;
        let Some(state) = self.nexuses.get_mut(&nexus) else { return Err(Refusal::Status(Status::BUSY)) };
        if !flags.contains(CommandFlags::PASSES_UNIT_ATTENTION)
            && let Some(code) = state.attentions.report()
        {
            return Err(SenseData::unit_attention(code).into());
        }
        let access = state.access;
        if self.conflicts(nexus, &parsed) {
            return Err(Refusal::Status(Status::RESERVATION_CONFLICT));
        }
        if access != AsymmetricAccessState::ActiveOptimized
            && let Some(refusal) = access::refusal(access, flags)
        {
            return Err(refusal.into());
        }
        self.check_medium(parsed.entry)?;
        Ok(parsed)
    }

    /// Whether the medium lets the command through.
    pub(super) fn check_medium(&self, entry: &CommandEntry) -> Checked {
        let flags = entry.flags;
        self.check_condition_of_medium(entry)?;
        if self.failed && flags.contains(CommandFlags::NEEDS_MEDIUM) {
            return Err(sense::not_ready());
        }
        if flags.contains(CommandFlags::NEEDS_MEDIUM)
            && let Some(missing) = self.medium_missing()
        {
            return Err(missing);
        }
        if flags.contains(CommandFlags::CHANGES_DATA) && self.write_protected() {
            return Err(SenseData::new(scsi_core::SenseKey::DATA_PROTECT, AdditionalSense::WRITE_PROTECTED));
        }
        Ok(())
    }

    fn dispatch(&mut self, key: Key, parsed: &ParsedCommand, fx: &mut Effects) -> Checked {
        let entry = parsed.entry;
        match &parsed.command {
            Command::Read(command) => return self.read(key, entry, command, fx),
            Command::Write(command) => return self.write(key, entry, command, fx),
            Command::TestUnitReady => self.good(key, 0, fx),
            Command::RequestSense(command) => self.request_sense(key, command, fx),
            Command::Inquiry(command) => return self.inquiry(key, command, fx),
            Command::ModeSense(command) => return self.mode_sense(key, command, fx),
            Command::ModeSelect(command) => {
                self.gather(key, parsed.command, command.parameter_list_length.into(), fx);
            }
            Command::Reserve | Command::Release => return self.reserve_or_release(key, parsed.command, fx),
            Command::StartStopUnit(command) => return self.start_stop(key, command, fx),
            Command::PreventAllow(command) => self.prevent_allow(key, command, fx),
            Command::ReadCapacity10(_) => self.read_capacity_10(key, fx),
            Command::ReadCapacity16(command) => self.read_capacity_16(key, command, fx),
            Command::WriteAndVerify(command) => return self.write_and_verify(key, entry, command, fx),
            Command::Verify(command) => return self.verify(key, entry, command, fx),
            Command::PreFetch(command) => return self.prefetch(key, command, fx),
            Command::SynchronizeCache(command) => return self.synchronize(key, command, fx),
            Command::WriteSame(command) => return self.write_same(key, command, fx),
            Command::Unmap(command) => return self.unmap(key, command, fx),
            Command::CompareAndWrite(command) => return self.compare_and_write(key, command, fx),
            Command::OrWrite(command) => return self.or_write(key, entry, command, fx),
            Command::WriteAtomic(command) => return self.write_atomic(key, command, fx),
            Command::ReadDefectData(command) => self.read_defect_data(key, command, fx),
            Command::GetLbaStatus(command) => return self.get_lba_status(key, command, fx),
            Command::FormatUnit(command) => return self.format_unit(key, *command, fx),
            Command::Sanitize(command) => return self.sanitize(key, *command, fx),
            Command::ExtendedCopy(command) => self.extended_copy(key, *command, fx),
            Command::PopulateToken(command) => self.populate_token(key, *command, fx),
            Command::WriteUsingToken(command) => self.write_using_token(key, *command, fx),
            Command::CopyOperationAbort(command) => return self.copy_operation_abort(key, command, fx),
            Command::ReceiveCopy(command) => return self.receive_copy(key, command, fx),
            Command::PersistentReserveIn(command) => self.persistent_reserve_in(key, command, fx),
            Command::PersistentReserveOut(command) => {
                self.gather(key, parsed.command, command.parameter_list_length.min(MAX_RESERVATION_LIST), fx);
            }
            Command::ReportLuns(command) => return self.report_luns(key, command, fx),
            Command::ReportSupportedOperationCodes(command) => return self.report_opcodes(key, command, fx),
            Command::ReportSupportedTaskManagementFunctions(command) => self.report_functions(key, command, fx),
            Command::LogSense(command) => return self.log_sense(key, command, fx),
            Command::LogSelect(command) => self.log_select(key, command, fx),
            Command::SendDiagnostic(command) => return self.send_diagnostic(key, command, fx),
            Command::ReceiveDiagnostic(command) => return self.receive_diagnostic(key, command, fx),
            Command::ReportIdentifyingInformation(command) => return self.report_information(key, command, fx),
            Command::SetIdentifyingInformation(command) => return self.set_information(key, command, fx),
            Command::ReportTimestamp(command) => self.report_timestamp(key, command, fx),
            Command::SetTimestamp(command) => self.set_timestamp(key, command, fx),
            Command::ReportTargetPortGroups(command) => self.report_port_groups(key, command, fx),
            Command::SetTargetPortGroups(command) => self.set_port_groups(key, command, fx),
            // Not in the set of commands, so the parser has refused them.
            _ => return Err(SenseData::invalid_opcode()),
        }
        Ok(())
    }

    /// All data-out of a command is here.
    pub(super) fn gathered(&mut self, key: Key, command: Command, data: Segments, fx: &mut Effects) -> Checked {
        match &command {
            Command::WriteAndVerify(fields) => self.written_to_verify(key, fields, data, fx),
            Command::Verify(fields) => self.received_to_verify(key, fields, data, fx),
            Command::CompareAndWrite(fields) => self.received_to_compare(key, fields, data),
            Command::OrWrite(fields) => self.received_to_or(key, fields, data, fx),
            Command::WriteAtomic(fields) => self.received_atomic(key, fields, data),
            Command::WriteSame(fields) => self.received_to_repeat(key, fields, data, fx),
            Command::Unmap(_) => self.received_to_unmap(key, data, fx),
            Command::Reserve | Command::Release => self.reserve_or_release(key, command, fx),
            Command::PersistentReserveOut(fields) => self.received_reservation(key, fields, data, fx),
            Command::ModeSelect(fields) => self.received_mode_list(key, fields, data, fx),
            Command::FormatUnit(fields) => self.received_format_list(key, fields, data, fx),
            Command::Sanitize(fields) => self.received_sanitize_list(key, fields, data, fx),
            Command::ExtendedCopy(fields) => self.received_copy_list(key, fields, data, fx),
            Command::PopulateToken(fields) => self.received_populate_list(key, fields, data),
            Command::WriteUsingToken(fields) => self.received_token(key, fields, data, fx),
            Command::LogSelect(fields) => self.received_log_list(key, fields, data, fx),
            Command::SendDiagnostic(_) => self.received_diagnostic(key, data, fx),
            Command::SetIdentifyingInformation(fields) => self.received_information(key, fields, data, fx),
            Command::SetTimestamp(_) => self.received_timestamp(key, data, fx),
            Command::SetTargetPortGroups(_) => self.received_port_groups(key, data, fx),
            _ => Err(SenseData::invalid_opcode()),
        }
    }

    /// Sends an answer, cut at `allocation_length`, and GOOD.
    pub(super) fn answer(&mut self, key: Key, mut data: Vec<u8>, allocation_length: u64, fx: &mut Effects) {
        let Some(task) = self.tasks.get(key) else { return };
        let length = allocation_length.min(data.len() as u64);
        data.truncate(length.min(task.data_in_length.into()) as usize);
        if !data.is_empty() {
            fx.push(Effect::SendData { task: task.id, offset: 0, data: Segments::from_iter([data.into()]) });
        }
        self.good(key, length, fx);
    }

    /// Ends a task with CHECK CONDITION.
    pub(super) fn check_condition(&mut self, key: Key, sense: SenseData, moved: u64, fx: &mut Effects) {
        let mut victims = Vec::new();
        let queue_error = self.control().queue_error;
        let faulty = self.tasks.get(key).map(|task| (task.ticket, task.naca, task.id.nexus));
        if let Some((ticket, naca, nexus)) = faulty
            && (naca || queue_error != QueueErrorManagement::Continue)
        {
            let mut abort = Vec::new();
            self.set.fault(ticket, naca, queue_error, &mut abort);
            let abort: Vec<Key> = abort.into_iter().map(|ticket| self.by_ticket[ticket.index()]).collect();
            self.clear_tasks(&abort, nexus, &mut victims);
        }
        self.complete(key, Status::CHECK_CONDITION, Some(sense), moved, fx);
        for (victim, announce) in victims {
            self.abort(victim, announce, None, fx);
        }
    }

    /// Ends a task with a status.
    pub(super) fn complete(
        &mut self,
        key: Key,
        status: Status,
        sense: Option<SenseData>,
        data_length: u64,
        fx: &mut Effects,
    ) {
        let format = self.sense_format();
        let Some(task) = self.retire(key, fx) else { return };
        if let Some(announce) = task.aborted {
            // A change that had been kept came into force all the same.
            Self::announce(task.id, announce, fx);
        } else {
            let sense = sense.map(|sense| SmallVec::from_vec(sense.encode(format))).unwrap_or_default();
            fx.push(Effect::Complete(Completion { task: task.id, status, sense, data_length }));
        }
        self.ended(task, fx);
    }

    /// Takes a task out of everything that knows it.
    #[inline]
    pub(super) fn retire(&mut self, key: Key, fx: &mut Effects) -> Option<Retired> {
        let (task, ticket, access, begun_us) = self.tasks.drop_with(key, |task| {
            let copy = match &task.work {
                Work::Populate(populating) => Some(populating.record),
                _ => None,
            };
            let waiters = std::mem::take(&mut task.waiters);
            let retired = Retired { id: task.id, aborted: task.aborted, copy, waiters };
            (retired, task.ticket, logs::access(task), task.begun_us)
        })?;
        self.count_ended(access, begun_us);
        if self.by_id.get(&task.id) == Some(&key) {
            self.by_id.remove(&task.id);
        }
        self.set.finish(ticket, &mut self.enabled);
        if !self.enabled.is_empty() {
            self.run_enabled();
        }
        if !self.exclusives.is_empty() {
            self.include(Owner::Task(key), fx);
        }
        if task.aborted.is_some() {
            self.statistics.aborted += 1;
        }
        self.persist_retired(key);
        Some(task)
    }

    /// What the task set lets run is looked at before the call returns.
    pub(super) fn run_enabled(&mut self) {
        for ticket in self.enabled.drain(..) {
            self.runnable.push_back(self.by_ticket[ticket.index()]);
        }
    }

    pub(super) fn sense_format(&self) -> SenseFormat {
        SenseFormat::from_descriptor_bit(self.modes.control().descriptor_sense)
    }
}

//! How third-party copies went: RECEIVE COPY STATUS, DATA, FAILURE DETAILS, ROD TOKEN INFORMATION, and what the copy
//! manager can do.

use scsi_core::SenseData;
use scsi_core::cdb::{CopyOperationAbort, ReceiveCopy, ReceiveCopyAction as Action};
use scsi_core::data::{
    CopyFailureDetails, CopyState, CopyStatusLid1, CopyStatusLid4, OperatingParameters, RodTokenInformation,
};
use scsi_core::vpd::{RodTokenLimits, ThirdPartyCopy, ThirdPartyCopyCommand};
use scsi_core::{AdditionalSense, command::CommandKind as K};
use std::collections::VecDeque;
use stmf::NexusId;
use stmf::provider::{Effects, ROD_TOKEN_BYTES};

use super::Lu;
use super::job::{Failure, Job, JobWork};
use super::slab::Key;
use super::token;
use super::transfer::Checked;

/// Copies that are remembered; the oldest that is over is forgotten for a new one.
const MAX_COPIES: usize = 64;
/// CSCD descriptors and segment descriptors of one EXTENDED COPY.
const MAX_CSCDS: u16 = 8;
const MAX_SEGMENTS: u16 = 64;
/// Bytes of all its descriptors.
const MAX_DESCRIPTORS_BYTES: u32 = 32 * MAX_CSCDS as u32 + 28 * MAX_SEGMENTS as u32;
/// Bytes of one segment: 65535 blocks of the largest size.
const MAX_SEGMENT_BYTES: u32 = 0xffff * 0x8000;

/// The parameter list of EXTENDED COPY is not taken beyond this: header and descriptors.
pub(super) const MAX_COPY_LIST_BYTES: u32 = 48 + MAX_DESCRIPTORS_BYTES;

/// What is remembered of one copy.
#[derive(Debug)]
pub(super) struct CopyRecord {
    serial: u64,
    nexus: NexusId,
    list_identifier: u32,
    /// The service action of 83h that began it.
    action: u8,
    background: bool,
    state: CopyState,
    segments: u16,
    bytes: u64,
    sense: Option<SenseData>,
    token: Option<Box<[u8; ROD_TOKEN_BYTES]>>,
}

/// What is remembered of copies, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Copies {
    records: VecDeque<CopyRecord>,
    serial: u64,
}

impl Copies {
    /// Remembers a copy that begins, under the list identifier of its nexus.
    ///
    /// # Errors
    /// A copy of that identifier is under way, or too many are.
    pub(super) fn begin(
        &mut self,
        nexus: NexusId,
        list_identifier: u32,
        action: u8,
        background: bool,
    ) -> Result<u64, SenseData> {
        let same = |record: &CopyRecord| record.nexus == nexus && record.list_identifier == list_identifier;
        if self.records.iter().any(|record| same(record) && record.state == CopyState::InProgress) {
            return Err(SenseData::illegal_request(AdditionalSense::OPERATION_IN_PROGRESS));
        }
        self.records.retain(|record| !same(record));
        if self.records.len() >= MAX_COPIES {
            let over = self.records.iter().position(|record| record.state != CopyState::InProgress);
            let Some(over) = over else {
                return Err(SenseData::illegal_request(AdditionalSense::INSUFFICIENT_RESOURCES));
            };
            self.records.remove(over);
        }
        self.serial += 1;
        self.records.push_back(CopyRecord {
            serial: self.serial,
            nexus,
            list_identifier,
            action,
            background,
            state: CopyState::InProgress,
            segments: 0,
            bytes: 0,
            sense: None,
            token: None,
        });
        Ok(self.serial)
    }

    fn of(&mut self, serial: u64) -> Option<&mut CopyRecord> {
        self.records.iter_mut().find(|record| record.serial == serial)
    }

    /// A copy has come so far.
    pub(super) fn progress(&mut self, serial: Option<u64>, segments: u16, bytes: u64) {
        if let Some(record) = serial.and_then(|serial| self.of(serial)) {
            (record.segments, record.bytes) = (segments, bytes);
        }
    }

    /// A copy is over.
    pub(super) fn end(&mut self, serial: Option<u64>, failure: Option<Failure>) {
        if let Some(record) = serial.and_then(|serial| self.of(serial)) {
            (record.state, record.sense) = match failure {
                None => (CopyState::Completed, None),
                Some(Failure::Sense(sense)) => (CopyState::Failed, Some(sense)),
                Some(Failure::Cancelled) => (CopyState::Terminated, None),
            };
        }
    }

    /// A token was made.
    pub(super) fn made(&mut self, serial: Option<u64>, bytes: u64, token: &[u8; ROD_TOKEN_BYTES]) {
        if let Some(record) = serial.and_then(|serial| self.of(serial)) {
            record.bytes = bytes;
            record.token = Some(Box::new(*token));
            record.state = CopyState::Completed;
        }
    }

    /// List identifiers are a nexus's own: they go with it.
    pub(super) fn forget(&mut self, nexus: NexusId) {
        self.records.retain(|record| record.nexus != nexus);
    }
}

/// What EXTENDED COPY takes here.
pub(super) fn operating_parameters() -> OperatingParameters {
    OperatingParameters {
        no_list_identifier: true,
        max_cscd_count: MAX_CSCDS,
        max_segment_count: MAX_SEGMENTS,
        max_descriptor_list_length: MAX_DESCRIPTORS_BYTES,
        max_segment_length: MAX_SEGMENT_BYTES,
        total_concurrent_copies: MAX_COPIES as u16,
        max_concurrent_copies: MAX_COPIES as u8,
        data_segment_granularity: 9,
        descriptor_types: vec![0x02, 0xe4],
        ..OperatingParameters::default()
    }
}

impl Lu {
    /// VPD page 8Fh; only called when third-party copies are offered.
    pub(super) fn third_party_copy_page(&self) -> ThirdPartyCopy {
        let supported = |opcode: u8| ThirdPartyCopyCommand {
            opcode,
            service_actions: scsi_core::command::entries_of(opcode)
                .iter()
                .filter(|entry| self.commands.contains(entry.kind))
                .filter_map(|entry| entry.service_action)
                .collect(),
        };
        let tokens = self.commands.contains(K::PopulateToken);
        let blocks = |bytes: u64| bytes >> self.block_shift;
        ThirdPartyCopy {
            rod_token_limits: tokens.then(|| RodTokenLimits {
                max_range_descriptors: token::MAX_RANGES as u16,
                max_inactivity_timeout_seconds: token::MAX_TIMEOUT_SECONDS,
                default_inactivity_timeout_seconds: token::DEFAULT_TIMEOUT_SECONDS,
                max_token_transfer_size: blocks(token::MAX_TOKEN_BYTES),
                optimal_transfer_count: blocks(token::OPTIMAL_TRANSFER_BYTES),
            }),
            commands: vec![supported(0x83), supported(0x84)],
            parameter_data: Some((MAX_CSCDS, MAX_SEGMENTS, MAX_DESCRIPTORS_BYTES, 0)),
            descriptor_types: vec![0x02, 0xe4],
            cscd_ids: vec![0xffff],
            rod_token_features: tokens.then_some((
                0,
                token::DEFAULT_TIMEOUT_SECONDS,
                token::MAX_TIMEOUT_SECONDS,
                token::MAX_TIMEOUT_SECONDS,
            )),
            rod_types: if tokens {
                vec![(token::CHANGE_VULNERABLE, false, true, true, 0), (token::ZERO_ROD, false, false, true, 0)]
            } else {
                Vec::new()
            },
            general: Some((MAX_COPIES as u32, MAX_COPIES as u32, MAX_SEGMENT_BYTES, 9)),
        }
    }

    pub(super) fn receive_copy(&mut self, key: Key, command: &ReceiveCopy, fx: &mut Effects) -> Checked {
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        let find = || {
            let known =
                |record: &&CopyRecord| record.nexus == nexus && record.list_identifier == command.list_identifier;
            self.copies.records.iter().find(known).ok_or(SenseData::invalid_field_in_cdb(2, Some(7)))
        };
        let data = match command.action {
            Action::OperatingParameters => operating_parameters().encode(),
            Action::StatusLid1 => {
                let record = find()?;
                let (state, segments_processed) = (record.state, record.segments);
                CopyStatusLid1 { state, segments_processed, bytes: record.bytes }.encode()
            }
            // Nothing is ever held for the application client.
            Action::DataLid1 => find().map(|_| vec![0; 4])?,
            Action::FailureDetailsLid1 => {
                let record = find()?;
                match (record.state, record.sense) {
                    (CopyState::Failed, Some(sense)) => CopyFailureDetails { sense }.encode(),
                    _ => return Err(SenseData::invalid_field_in_cdb(2, Some(7))),
                }
            }
            Action::StatusLid4 => self.status(find()?).encode(),
            Action::DataLid4 | Action::RodTokenInformation => {
                let record = find()?;
                let token = match command.action {
                    Action::RodTokenInformation => record.token.clone(),
                    _ => None,
                };
                RodTokenInformation { status: self.status(record), token }.encode()
            }
            Action::AllRodTokens => return Err(SenseData::invalid_field_in_cdb(1, Some(4))),
        };
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    fn status(&self, record: &CopyRecord) -> CopyStatusLid4 {
        let count_in_blocks = record.action >= 0x10;
        CopyStatusLid4 {
            service_action: record.action,
            state: record.state,
            background: record.background,
            operation_counter: 1,
            update_delay_ms: if record.state == CopyState::InProgress { 100 } else { 0 },
            sense: record.sense,
            transfer_count: if count_in_blocks { record.bytes >> self.block_shift } else { record.bytes },
            count_in_blocks,
            segments_processed: record.segments,
        }
    }

    /// Ends a copy of the same nexus; its command, if it still waits, ends with COPY ABORTED.
    pub(super) fn copy_operation_abort(&mut self, key: Key, command: &CopyOperationAbort, fx: &mut Effects) -> Checked {
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        let known = |record: &&CopyRecord| {
            record.nexus == nexus
                && record.list_identifier == command.list_identifier
                && record.state == CopyState::InProgress
        };
        let serial = self.copies.records.iter().find(known).map(|record| record.serial);
        let serial = serial.ok_or(SenseData::invalid_field_in_cdb(2, Some(7)))?;
        let ours = |job: &Job| matches!(&job.work, JobWork::Copy(copying) if copying.record == Some(serial));
        let job = self.jobs.iter().find(|(_, job)| ours(job));
        if let Some((job, _)) = job {
            self.cancel_job(job, Failure::Cancelled, fx);
        }
        self.good(key, 0, fx);
        Ok(())
    }
}

//! Log pages: LOG SENSE and LOG SELECT over what the unit has counted.
//!
//! The unit counts once, in [`Statistics`], and never back: administrators see those numbers. Each log page is what was
//! counted since an initiator has reset that page.

use scsi_core::cdb::{LogSelect, LogSense};
use scsi_core::command::Command;
use scsi_core::log::{
    ApplicationClient, ErrorCounters, GeneralStatistics, InformationalException, LogPage, LogPageId, LogSelectAction,
    ProtocolSpecificPorts, SelfTestResults, log_select, log_sense,
};
use scsi_core::{AdditionalSense, ProtocolId};
use stmf::provider::{Effects, Segments, StoreOp};

use super::gather::concat;
use super::ops::Purpose;
use super::slab::Key;
use super::task::{Task, Work};
use super::transfer::Checked;
use super::{Lu, Statistics};

/// What the log pages keep beside the counters.
#[derive(Debug, Default)]
pub(super) struct Logs {
    /// The counters when each page was last set to zero.
    write_base: Statistics,
    read_base: Statistics,
    verify_base: Statistics,
    general_base: Statistics,
    application: ApplicationClient,
    pub(super) self_tests: SelfTestResults,
    /// When the last task ended, in microseconds; while there are tasks it means nothing.
    idle_since: u64,
}

/// Which of the general statistics a command belongs to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access {
    Read,
    Write,
}

pub(super) fn access(task: &Task) -> Option<Access> {
    match task.cdb().first()? {
        0x08 | 0x28 | 0x88 | 0xa8 => Some(Access::Read),
        0x0a | 0x2a | 0x8a | 0xaa | 0x2e | 0x8e | 0xae => Some(Access::Write),
        _ => None,
    }
}

impl Lu {
    /// The time is this many microseconds since 1970 by the host's clock, which does not go back. Commands that are
    /// taken and operations that end from now on do so at this moment. Without a clock times are told as zero.
    pub fn set_time(&mut self, microseconds: u64) {
        if self.clock_us == 0 {
            self.powered_on_us = microseconds;
            self.logs.idle_since = microseconds;
        }
        self.clock_us = self.clock_us.max(microseconds);
    }

    /// A task has come in; it is counted among the others already.
    pub(super) fn count_begun(&mut self, key: Key) {
        let under_way = self.tasks.len() as u64;
        if under_way == 1 {
            self.statistics.idle_time_us += self.clock_us - self.logs.idle_since;
        }
        if self.tasks.get(key).and_then(access).is_some() {
            self.statistics.weighted_commands += under_way;
        }
    }

    /// A task has ended and is counted no more.
    pub(super) fn count_ended(&mut self, access: Option<Access>, begun_us: u64) {
        let under_way = self.tasks.len() as u64;
        if under_way == 0 {
            self.logs.idle_since = self.clock_us;
        }
        let time = self.clock_us - begun_us;
        match access {
            Some(Access::Read) => self.statistics.read_time_us += time,
            Some(Access::Write) => self.statistics.write_time_us += time,
            None => return,
        }
        self.statistics.weighted_time_us += time * (under_way + 1);
    }

    /// A store operation failed.
    pub(super) fn count_error(&mut self, purpose: Purpose) {
        self.statistics.errors += 1;
        match purpose {
            Purpose::Send(_) => self.statistics.read_errors += 1,
            Purpose::ReadBack => self.statistics.verify_errors += 1,
            Purpose::Write | Purpose::Flush => self.statistics.write_errors += 1,
            _ => {}
        }
    }

    fn log_pages(&self) -> Vec<LogPageId> {
        let mut pages = LogPageId::DISK.to_vec();
        if self.threshold_exponent() > 0 {
            pages.push(LogPageId::PROVISIONING);
            pages.sort_unstable();
        }
        pages
    }

    fn log_page(&self, id: LogPageId) -> LogPage {
        let (now, logs) = (&self.statistics, &self.logs);
        let errors =
            |bytes_processed, uncorrected| ErrorCounters { bytes_processed, uncorrected, ..ErrorCounters::default() };
        match id {
            LogPageId::WRITE_ERRORS => {
                let base = &logs.write_base;
                errors(now.written_bytes - base.written_bytes, now.write_errors - base.write_errors).page(id)
            }
            LogPageId::READ_ERRORS => {
                let base = &logs.read_base;
                errors(now.read_bytes - base.read_bytes, now.read_errors - base.read_errors).page(id)
            }
            LogPageId::VERIFY_ERRORS => {
                let base = &logs.verify_base;
                errors(now.verified_bytes - base.verified_bytes, now.verify_errors - base.verify_errors).page(id)
            }
            LogPageId::APPLICATION_CLIENT => logs.application.page(),
            LogPageId::SELF_TEST_RESULTS => logs.self_tests.page(),
            LogPageId::PROTOCOL_SPECIFIC_PORT => self.port_page(),
            LogPageId::PROVISIONING => self.provisioning_page(),
            LogPageId::GENERAL_STATISTICS => self.general_statistics().page(),
            _ => {
                let code = if self.failed { AdditionalSense::LOGICAL_UNIT_FAILURE } else { AdditionalSense::default() };
                InformationalException { code, temperature: None }.page()
            }
        }
    }

    fn general_statistics(&self) -> GeneralStatistics {
        let (now, base) = (&self.statistics, &self.logs.general_base);
        // While nothing runs the idle time goes on.
        let idle = if self.tasks.len() == 0 { self.clock_us - self.logs.idle_since } else { 0 };
        GeneralStatistics {
            read_commands: now.reads - base.reads,
            write_commands: now.writes - base.writes,
            blocks_received: (now.written_bytes - base.written_bytes) >> self.block_shift,
            blocks_transmitted: (now.read_bytes - base.read_bytes) >> self.block_shift,
            read_time_us: now.read_time_us - base.read_time_us,
            write_time_us: now.write_time_us - base.write_time_us,
            weighted_commands: now.weighted_commands - base.weighted_commands,
            weighted_time_us: now.weighted_time_us - base.weighted_time_us,
            idle_time_us: now.idle_time_us + idle - base.idle_time_us,
        }
    }

    fn port_page(&self) -> LogPage {
        let mut ports: Vec<(u16, ProtocolId)> = self
            .nexuses
            .values()
            .map(|state| (state.nexus.relative_target_port, ProtocolId(state.nexus.protocol)))
            .collect();
        ports.sort_unstable_by_key(|(port, _)| *port);
        ports.dedup();
        ProtocolSpecificPorts { ports }.page()
    }

    pub(super) fn log_sense(&mut self, key: Key, command: &LogSense, fx: &mut Effects) -> Checked {
        if command.page_code == LogPageId::PROVISIONING.page && self.threshold_exponent() > 0 {
            // What it tells is asked of the store, now.
            self.set(key, Work::LogSense(*command));
            self.issue(key, Purpose::Usage, StoreOp::Usage, fx);
            return Ok(());
        }
        self.tell_log(key, command, fx)
    }

    pub(super) fn tell_log(&mut self, key: Key, command: &LogSense, fx: &mut Effects) -> Checked {
        let data = log_sense(command, &self.log_pages(), |id| self.log_page(id))?;
        self.answer(key, data, command.allocation_length.into(), fx);
        Ok(())
    }

    /// LOG SELECT with its list, of which initiators set the application client page only.
    pub(super) fn received_log_list(
        &mut self,
        key: Key,
        command: &LogSelect,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let list = concat(data);
        let settable = |id| id == LogPageId::APPLICATION_CLIENT;
        match log_select(command, &list, &self.log_pages(), settable)? {
            LogSelectAction::Nothing => {
                self.good(key, list.len() as u64, fx);
                return Ok(());
            }
            LogSelectAction::Reset(page) => self.reset_logs(page),
            LogSelectAction::Set(parameters) => {
                // All or nothing.
                let mut application = self.logs.application.clone();
                for (_, parameter, at) in &parameters {
                    application.set(parameter, *at)?;
                }
                self.logs.application = application;
            }
        }
        if let Some(task) = self.tasks.get(key) {
            let nexus = task.id.nexus;
            self.attention_others(Some(nexus), AdditionalSense::LOG_PARAMETERS_CHANGED);
        }
        self.good(key, list.len() as u64, fx);
        Ok(())
    }

    /// Sets the counters of a page to zero, or of all.
    fn reset_logs(&mut self, page: Option<LogPageId>) {
        let now = self.statistics;
        let wanted = |id| page.is_none_or(|page| page == id);
        for (id, base) in [
            (LogPageId::WRITE_ERRORS, &mut self.logs.write_base),
            (LogPageId::READ_ERRORS, &mut self.logs.read_base),
            (LogPageId::VERIFY_ERRORS, &mut self.logs.verify_base),
            (LogPageId::GENERAL_STATISTICS, &mut self.logs.general_base),
        ] {
            if wanted(id) {
                *base = now;
            }
        }
        // Named by the page alone: what applications have noted is no counter.
        if page == Some(LogPageId::APPLICATION_CLIENT) {
            self.logs.application.reset();
        }
    }

    pub(super) fn log_select(&mut self, key: Key, command: &LogSelect, fx: &mut Effects) {
        self.gather(key, Command::LogSelect(*command), command.parameter_list_length.into(), fx);
    }
}

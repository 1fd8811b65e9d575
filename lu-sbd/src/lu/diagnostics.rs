//! SEND DIAGNOSTIC and RECEIVE DIAGNOSTIC RESULTS.
//!
//! A self-test reads the first logical block from the store: whether the data is reached at all is what can be wrong
//! here. Short and extended tests are the same; a background test is one whose command ends before it does.

use scsi_core::cdb::{ReceiveDiagnostic, SendDiagnostic};
use scsi_core::command::Command;
use scsi_core::log::{SelfTestOutcome, SelfTestResult};
use scsi_core::{AdditionalSense, SenseData, SenseKey};
use stmf::provider::{Effects, Segments, StoreErrorKind, StoreOp, StoreOutcome};

use super::Lu;
use super::gather::concat;
use super::ops::Purpose;
use super::slab::Key;
use super::task::Work;
use super::transfer::Checked;

/// The page of supported diagnostic pages, which is the only one.
const SUPPORTED_PAGES: u8 = 0x00;

/// What SELF-TEST CODE asks for.
const BACKGROUND_SHORT: u8 = 1;
const BACKGROUND_EXTENDED: u8 = 2;
const ABORT_BACKGROUND: u8 = 4;
const FOREGROUND_SHORT: u8 = 5;
const FOREGROUND_EXTENDED: u8 = 6;

impl Lu {
    pub(super) fn send_diagnostic(&mut self, key: Key, command: &SendDiagnostic, fx: &mut Effects) -> Checked {
        let invalid = |byte, bit| Err(SenseData::invalid_field_in_cdb(byte, Some(bit)));
        let list = command.parameter_list_length;
        let code = command.self_test_code;
        if !matches!(
            code,
            0 | BACKGROUND_SHORT | BACKGROUND_EXTENDED | ABORT_BACKGROUND | FOREGROUND_SHORT | FOREGROUND_EXTENDED
        ) {
            return invalid(1, 7);
        }
        if command.self_test && code != 0 {
            return invalid(1, 7);
        }
        if (command.self_test || code != 0) && list != 0 {
            return invalid(3, 7);
        }
        match code {
            0 if command.self_test => self.test_in_foreground(key, code, fx),
            0 if list == 0 => self.good(key, 0, fx),
            // What the list would mean without PF nobody has written down.
            0 if !command.page_format => return invalid(1, 4),
            0 => self.gather(key, Command::SendDiagnostic(*command), list.into(), fx),
            BACKGROUND_SHORT | BACKGROUND_EXTENDED => self.test_in_background(key, code, fx)?,
            ABORT_BACKGROUND => {
                match self.logs.self_tests.newest_mut() {
                    Some(test) if test.outcome == SelfTestOutcome::InProgress => {
                        test.outcome = SelfTestOutcome::AbortedBySendDiagnostic;
                    }
                    _ => return invalid(1, 7),
                }
                self.good(key, 0, fx);
            }
            _ => self.test_in_foreground(key, code, fx),
        }
        Ok(())
    }

    fn first_block(&self) -> StoreOp {
        StoreOp::Read { offset: 0, length: self.identity.block_size, lands: None }
    }

    fn test_in_foreground(&mut self, key: Key, code: u8, fx: &mut Effects) {
        self.set(key, Work::Finish { total: 0 });
        self.issue(key, Purpose::SelfTest { code }, self.first_block(), fx);
    }

    fn test_in_background(&mut self, key: Key, code: u8, fx: &mut Effects) -> Checked {
        let Some(task) = self.tasks.get(key) else { return Ok(()) };
        let nexus = task.id.nexus;
        if let Some(test) = self.logs.self_tests.newest_mut()
            && test.outcome == SelfTestOutcome::InProgress
        {
            return Err(SenseData::not_ready(AdditionalSense::SELF_TEST_IN_PROGRESS));
        }
        self.note_self_test(code, SelfTestOutcome::InProgress, None);
        self.issue_detached(nexus, Purpose::SelfTest { code }, self.first_block(), fx);
        self.good(key, 0, fx);
        Ok(())
    }

    fn note_self_test(&mut self, code: u8, outcome: SelfTestOutcome, sense: Option<SenseData>) {
        let hours = (self.clock_us - self.powered_on_us) / 3_600_000_000;
        let failed_lba = sense.map(|_| 0);
        let power_on_hours = u16::try_from(hours).unwrap_or(u16::MAX);
        self.logs.self_tests.push(SelfTestResult { code, outcome, power_on_hours, failed_lba, sense });
    }

    /// The store has answered a self-test.
    pub(super) fn self_tested(&mut self, code: u8, outcome: &StoreOutcome) {
        let outcome = match outcome {
            StoreOutcome::Failed(error) if error.kind == StoreErrorKind::Cancelled => SelfTestOutcome::Aborted,
            StoreOutcome::Failed(_) => SelfTestOutcome::Failed,
            _ => SelfTestOutcome::Passed,
        };
        let failed = outcome == SelfTestOutcome::Failed;
        let sense = failed.then(failed_self_test);
        if !matches!(code, BACKGROUND_SHORT | BACKGROUND_EXTENDED) {
            self.note_self_test(code, outcome, sense);
        } else if let Some(test) = self.logs.self_tests.newest_mut()
            && test.outcome == SelfTestOutcome::InProgress
        {
            (test.outcome, test.sense, test.failed_lba) = (outcome, sense, failed.then_some(0));
        }
    }

    /// SEND DIAGNOSTIC's list asks for the page that the next RECEIVE DIAGNOSTIC RESULTS without PCV gives: there is
    /// one.
    pub(super) fn received_diagnostic(&mut self, key: Key, data: Segments, fx: &mut Effects) -> Checked {
        let list = concat(data);
        let &[page, _, high, low, ..] = &list[..] else { return Err(SenseData::parameter_list_length_error()) };
        if page != SUPPORTED_PAGES {
            return Err(SenseData::invalid_field_in_parameter_list(0, Some(7)));
        }
        if (high, low) != (0, 0) {
            return Err(SenseData::invalid_field_in_parameter_list(2, Some(7)));
        }
        if list.len() != 4 {
            return Err(SenseData::parameter_list_length_error());
        }
        self.good(key, 4, fx);
        Ok(())
    }

    pub(super) fn receive_diagnostic(&mut self, key: Key, command: &ReceiveDiagnostic, fx: &mut Effects) -> Checked {
        if command.page_code != SUPPORTED_PAGES {
            return Err(SenseData::invalid_field_in_cdb(2, Some(7)));
        }
        self.answer(key, vec![SUPPORTED_PAGES, 0, 0, 1, SUPPORTED_PAGES], command.allocation_length.into(), fx);
        Ok(())
    }
}

/// What a self-test in the foreground ends with when it fails.
pub(super) fn failed_self_test() -> SenseData {
    SenseData::new(SenseKey::HARDWARE_ERROR, AdditionalSense::LOGICAL_UNIT_FAILED_SELF_TEST)
}

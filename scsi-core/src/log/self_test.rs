//! Page 10h: Self-Test Results.

use super::{LogPage, LogPageId, LogParameter};
use crate::sense::SenseData;

/// How many results are kept.
const COUNT: usize = 20;

/// How a self-test ended (SELF-TEST RESULTS field).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SelfTestOutcome {
    /// 0h.
    Passed,
    /// 1h: SEND DIAGNOSTIC aborted it.
    AbortedBySendDiagnostic,
    /// 2h: a reset or another event aborted it.
    Aborted,
    /// 3h: it could not be run.
    NotCompleted,
    /// 4h: a part failed, which one is not known.
    Failed,
    /// Fh: it is under way.
    InProgress,
}

/// One self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SelfTestResult {
    /// SELF-TEST CODE of SEND DIAGNOSTIC; 0 for the default self-test.
    pub code: u8,
    /// How it ended.
    pub outcome: SelfTestOutcome,
    /// ACCUMULATED POWER ON HOURS when it did.
    pub power_on_hours: u16,
    /// First logical block that failed.
    pub failed_lba: Option<u64>,
    /// Sense data of the failure.
    pub sense: Option<SenseData>,
}

/// The last twenty self-tests.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SelfTestResults {
    /// The newest first.
    results: Vec<SelfTestResult>,
}

impl SelfTestResults {
    /// Adds a result; the oldest beyond twenty is forgotten.
    pub fn push(&mut self, result: SelfTestResult) {
        self.results.insert(0, result);
        self.results.truncate(COUNT);
    }

    /// The newest result, for one that is under way to be set to its end.
    pub fn newest_mut(&mut self) -> Option<&mut SelfTestResult> {
        self.results.first_mut()
    }

    /// The page: always twenty parameters, those without a test zero.
    pub fn page(&self) -> LogPage {
        let parameters = (0..COUNT).map(|at| {
            let mut value = vec![0; 16];
            if let Some(result) = self.results.get(at) {
                fill(result, &mut value);
            }
            LogParameter::list(at as u16 + 1, value)
        });
        LogPage { id: LogPageId::SELF_TEST_RESULTS, parameters: parameters.collect() }
    }
}

fn fill(result: &SelfTestResult, value: &mut [u8]) {
    let outcome = match result.outcome {
        SelfTestOutcome::Passed => 0,
        SelfTestOutcome::AbortedBySendDiagnostic => 1,
        SelfTestOutcome::Aborted => 2,
        SelfTestOutcome::NotCompleted => 3,
        SelfTestOutcome::Failed => 4,
        SelfTestOutcome::InProgress => 0xf,
    };
    value[0] = (result.code & 7) << 5 | outcome;
    value[2..4].copy_from_slice(&result.power_on_hours.to_be_bytes());
    value[4..12].copy_from_slice(&result.failed_lba.unwrap_or(u64::MAX).to_be_bytes());
    if let Some(sense) = &result.sense {
        value[12] = sense.key.0 & 0x0f;
        value[13] = sense.code.asc;
        value[14] = sense.code.ascq;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_twenty_comes_first() {
        let mut results = SelfTestResults::default();
        for hours in 0..25 {
            let outcome = SelfTestOutcome::Passed;
            results.push(SelfTestResult { code: 5, outcome, power_on_hours: hours, failed_lba: None, sense: None });
        }
        let page = results.page();
        assert_eq!(page.parameters.len(), 20);
        assert_eq!(page.parameters[0].value[..5], [0xa0, 0, 0, 24, 0xff]);
        assert_eq!(page.encode().len(), 0x194);
    }
}

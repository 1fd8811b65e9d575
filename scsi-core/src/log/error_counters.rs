//! Pages 02h, 03h and 05h: error counters of writes, reads and verifies.

use super::{LogPage, LogPageId, LogParameter};

/// Error counters of one kind of command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ErrorCounters {
    /// 0000h: corrected without substantial delay.
    pub corrected_fast: u64,
    /// 0001h: corrected with possible delays.
    pub corrected_delayed: u64,
    /// 0002h: operations done again.
    pub retries: u64,
    /// 0003h: corrected in all.
    pub corrected: u64,
    /// 0004h: how often correction was tried.
    pub correction_attempts: u64,
    /// 0005h: bytes processed.
    pub bytes_processed: u64,
    /// 0006h: not corrected.
    pub uncorrected: u64,
}

impl ErrorCounters {
    /// The page `id`: [`LogPageId::WRITE_ERRORS`], [`LogPageId::READ_ERRORS`] or [`LogPageId::VERIFY_ERRORS`].
    pub fn page(&self, id: LogPageId) -> LogPage {
        let values = [
            self.corrected_fast,
            self.corrected_delayed,
            self.retries,
            self.corrected,
            self.correction_attempts,
            self.bytes_processed,
            self.uncorrected,
        ];
        let parameters = (0u16..).zip(values).map(|(code, value)| LogParameter::counter(code, value));
        LogPage { id, parameters: parameters.collect() }
    }
}

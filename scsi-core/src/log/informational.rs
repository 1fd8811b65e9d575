//! Page 2Fh: Informational Exceptions.

use super::{LogPage, LogPageId, LogParameter};
use crate::sense::AdditionalSense;

/// The informational exception that is pending, if any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct InformationalException {
    /// What would be reported; 00/00 for nothing.
    pub code: AdditionalSense,
    /// Temperature in degrees Celsius; `None` when there is no sensor.
    pub temperature: Option<u8>,
}

impl InformationalException {
    /// The page.
    pub fn page(&self) -> LogPage {
        let value = vec![self.code.asc, self.code.ascq, self.temperature.unwrap_or(0xff), 0];
        LogPage { id: LogPageId::INFORMATIONAL_EXCEPTIONS, parameters: vec![LogParameter::list(0, value)] }
    }
}

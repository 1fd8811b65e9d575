//! Page 0Fh: Application Client: bytes that initiators leave there for each other.

use super::{LogPage, LogPageId, LogParameter};
use crate::sense::SenseData;

/// How many parameters there are, codes 0000h up.
const COUNT: usize = 64;
/// Bytes of each.
const LENGTH: usize = 252;

/// The parameters of the application client page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApplicationClient {
    values: Box<[[u8; LENGTH]; COUNT]>,
}

impl Default for ApplicationClient {
    fn default() -> Self {
        Self { values: Box::new([[0; LENGTH]; COUNT]) }
    }
}

impl ApplicationClient {
    /// The page: 64 parameters of 252 bytes.
    pub fn page(&self) -> LogPage {
        let parameters = (0u16..).zip(self.values.iter()).map(|(code, value)| LogParameter::list(code, value.to_vec()));
        LogPage { id: LogPageId::APPLICATION_CLIENT, parameters: parameters.collect() }
    }

    /// Takes a parameter that LOG SELECT sent at offset `at` of its list; a shorter value leaves the rest zero.
    ///
    /// # Errors
    /// 05/26/00 pointing to a code that is not there, or to a length over 252.
    pub fn set(&mut self, parameter: &LogParameter, at: usize) -> Result<(), SenseData> {
        let invalid = |offset| Err(SenseData::invalid_field_in_parameter_list((at + offset) as u16, Some(7)));
        let Some(value) = self.values.get_mut(usize::from(parameter.code)) else { return invalid(0) };
        if parameter.value.len() > LENGTH {
            return invalid(3);
        }
        value.fill(0);
        value[..parameter.value.len()].copy_from_slice(&parameter.value);
        Ok(())
    }

    /// Zeroes every parameter.
    pub fn reset(&mut self) {
        self.values.iter_mut().for_each(|value| value.fill(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_read_back() {
        let mut log = ApplicationClient::default();
        log.set(&LogParameter::list(3, b"mine".to_vec()), 4).unwrap();
        assert_eq!(&log.page().parameters[3].value[..5], b"mine\0");
        let error = log.set(&LogParameter::list(64, Vec::new()), 4);
        assert_eq!(error, Err(SenseData::invalid_field_in_parameter_list(4, Some(7))));
    }
}

//! LOG SELECT.

use super::{LogPageId, LogParameter};
use crate::bytes_util::be16;
use crate::cdb::LogSelect;
use crate::sense::SenseData;

/// What LOG SELECT asks for. Whatever changes raises 06/2A/02 for the other I_T nexuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogSelectAction {
    /// Nothing.
    Nothing,
    /// Set the counters of a page, or of every page, to zero.
    Reset(Option<LogPageId>),
    /// Set parameters: page, parameter, and its offset in the parameter list.
    Set(Vec<(LogPageId, LogParameter, usize)>),
}

/// Checks LOG SELECT with its parameter list for a device server that has the pages `supported`, of which initiators
/// may set those that `settable` names.
///
/// # Errors
/// 05/24/00 pointing to SP, to a parameter list together with PCR, to a page that is not supported; 05/1A/00 when the
/// list ends inside a page or parameter; 05/26/00 pointing to a page that is not supported or cannot be set.
pub fn log_select(
    command: &LogSelect,
    data: &[u8],
    supported: &[LogPageId],
    settable: impl Fn(LogPageId) -> bool,
) -> Result<LogSelectAction, SenseData> {
    if command.save_parameters {
        return Err(SenseData::invalid_field_in_cdb(1, Some(0)));
    }
    if command.parameter_list_length != 0 && command.parameter_code_reset {
        return Err(SenseData::invalid_field_in_cdb(7, Some(7)));
    }
    if data.is_empty() {
        return reset(command, supported);
    }
    // Only cumulative values can be set.
    if command.page_control != 1 {
        return Err(SenseData::invalid_field_in_cdb(2, Some(7)));
    }
    let too_short = SenseData::parameter_list_length_error();
    let mut parameters = Vec::new();
    let mut at = 0;
    while at < data.len() {
        let length = usize::from(be16(data, at + 2).ok_or(too_short)?);
        let end = at + 4 + length;
        if end > data.len() {
            return Err(too_short);
        }
        let invalid = |byte: usize, bit| SenseData::invalid_field_in_parameter_list(byte.min(0xffff) as u16, Some(bit));
        let id = LogPageId::new(data[at] & 0x3f, if data[at] & 0x40 != 0 { data[at + 1] } else { 0 });
        if !supported.contains(&id) || !settable(id) {
            return Err(invalid(at, 5));
        }
        at += 4;
        while at < end {
            let (parameter, taken) = LogParameter::decode(&data[at..end]).ok_or(too_short)?;
            parameters.push((id, parameter, at));
            at += taken;
        }
    }
    Ok(LogSelectAction::Set(parameters))
}

fn reset(command: &LogSelect, supported: &[LogPageId]) -> Result<LogSelectAction, SenseData> {
    let id = LogPageId::new(command.page_code, command.subpage_code);
    // Page 00h is every page, and its subpage FFh every page and subpage.
    let all = id == LogPageId::new(0, 0) || id == LogPageId::new(0, 0xff);
    if !all && !supported.contains(&id) {
        let known = id.page == 0 || supported.iter().any(|known| known.page == id.page);
        return Err(if known {
            SenseData::invalid_field_in_cdb(3, Some(7))
        } else {
            SenseData::invalid_field_in_cdb(2, Some(5))
        });
    }
    // PCR, or default cumulative values; thresholds there are none.
    if command.parameter_code_reset || command.page_control == 3 {
        return Ok(LogSelectAction::Reset((!all).then_some(id)));
    }
    Ok(LogSelectAction::Nothing)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn select(command: &LogSelect, data: &[u8]) -> Result<LogSelectAction, SenseData> {
        log_select(command, data, LogPageId::DISK, |id| id == LogPageId::APPLICATION_CLIENT)
    }

    #[test]
    fn counters_are_reset_by_page_or_all() {
        let all = LogSelect { parameter_code_reset: true, page_control: 1, ..LogSelect::default() };
        assert_eq!(select(&all, &[]), Ok(LogSelectAction::Reset(None)));
        let one = LogSelect { page_code: 2, ..all };
        assert_eq!(select(&one, &[]), Ok(LogSelectAction::Reset(Some(LogPageId::WRITE_ERRORS))));
        let none = LogSelect { page_code: 0x3e, ..all };
        assert_eq!(select(&none, &[]), Err(SenseData::invalid_field_in_cdb(2, Some(5))));
        let both = LogSelect { parameter_list_length: 4, ..all };
        assert_eq!(select(&both, &[0; 4]), Err(SenseData::invalid_field_in_cdb(7, Some(7))));
    }

    #[test]
    fn only_what_can_be_set_is_set() {
        let command = LogSelect { page_control: 1, parameter_list_length: 10, ..LogSelect::default() };
        let data = [0x0f, 0, 0, 6, 0, 1, 3, 2, b'h', b'i'];
        let expected = (LogPageId::APPLICATION_CLIENT, LogParameter::list(1, b"hi".to_vec()), 4);
        assert_eq!(select(&command, &data), Ok(LogSelectAction::Set(vec![expected])));
        assert_eq!(select(&command, &data[..9]), Err(SenseData::parameter_list_length_error()));
        let counters = select(&command, &[2, 0, 0, 0]);
        assert_eq!(counters, Err(SenseData::invalid_field_in_parameter_list(0, Some(5))));
    }

    proptest! {
        #[test]
        fn any_list_is_taken_or_refused_without_panic(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let command = LogSelect { page_control: 1, parameter_list_length: data.len() as u16, ..Default::default() };
            let _ = select(&command, &data);
            let _ = super::super::LogPage::decode(&data);
        }
    }
}

//! Log pages, LOG SENSE and LOG SELECT.
//!
//! The device server knows the numbers; here they get their form. [`log_sense`] checks the command, asks for the one
//! page it needs and cuts it as PARAMETER POINTER says; [`log_select`] says what is to be reset or set.

mod application_client;
mod error_counters;
mod informational;
mod port;
mod provisioning;
mod select;
mod self_test;
mod statistics;

pub use self::application_client::ApplicationClient;
pub use self::error_counters::ErrorCounters;
pub use self::informational::InformationalException;
pub use self::port::ProtocolSpecificPorts;
pub use self::provisioning::ProvisioningResources;
pub use self::select::{LogSelectAction, log_select};
pub use self::self_test::{SelfTestOutcome, SelfTestResult, SelfTestResults};
pub use self::statistics::GeneralStatistics;
use crate::bytes_util::be16;
use crate::cdb::LogSense;
use crate::sense::SenseData;

/// Page and subpage code of a log page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LogPageId {
    /// PAGE CODE, six bits.
    pub page: u8,
    /// SUBPAGE CODE.
    pub subpage: u8,
}

impl LogPageId {
    /// Write Error Counters.
    pub const WRITE_ERRORS: Self = Self::new(0x02, 0);
    /// Read Error Counters.
    pub const READ_ERRORS: Self = Self::new(0x03, 0);
    /// Verify Error Counters.
    pub const VERIFY_ERRORS: Self = Self::new(0x05, 0);
    /// Logical Block Provisioning.
    pub const PROVISIONING: Self = Self::new(0x0c, 0);
    /// Application Client.
    pub const APPLICATION_CLIENT: Self = Self::new(0x0f, 0);
    /// Self-Test Results.
    pub const SELF_TEST_RESULTS: Self = Self::new(0x10, 0);
    /// Protocol Specific Port.
    pub const PROTOCOL_SPECIFIC_PORT: Self = Self::new(0x18, 0);
    /// General Statistics and Performance.
    pub const GENERAL_STATISTICS: Self = Self::new(0x19, 0);
    /// Informational Exceptions.
    pub const INFORMATIONAL_EXCEPTIONS: Self = Self::new(0x2f, 0);

    /// The pages of a disk; a thin one has also [`LogPageId::PROVISIONING`].
    pub const DISK: &'static [Self] = &[
        Self::WRITE_ERRORS,
        Self::READ_ERRORS,
        Self::VERIFY_ERRORS,
        Self::APPLICATION_CLIENT,
        Self::SELF_TEST_RESULTS,
        Self::PROTOCOL_SPECIFIC_PORT,
        Self::GENERAL_STATISTICS,
        Self::INFORMATIONAL_EXCEPTIONS,
    ];

    /// The codes as they are.
    pub const fn new(page: u8, subpage: u8) -> Self {
        Self { page, subpage }
    }
}

/// What a log parameter counts, and so how it may be treated (FORMAT AND LINKING and its neighbours).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ParameterControl(pub u8);

impl ParameterControl {
    /// A counter that stops at its maximum.
    pub const COUNTER: Self = Self(0x00);
    /// Bytes in a list format.
    pub const BINARY_LIST: Self = Self(0x03);
    /// ASCII in a list format.
    pub const ASCII_LIST: Self = Self(0x01);

    /// Whether the parameter is a counter, which LOG SELECT can reset.
    pub const fn is_counter(self) -> bool {
        self.0 & 3 == 0
    }
}

/// One log parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogParameter {
    /// PARAMETER CODE.
    pub code: u16,
    /// The parameter control byte.
    pub control: ParameterControl,
    /// The value, at most 255 bytes.
    pub value: Vec<u8>,
}

impl LogParameter {
    /// A counter of eight bytes.
    pub fn counter(code: u16, value: u64) -> Self {
        Self { code, control: ParameterControl::COUNTER, value: value.to_be_bytes().to_vec() }
    }

    /// A list of bytes.
    pub fn list(code: u16, value: Vec<u8>) -> Self {
        Self { code, control: ParameterControl::BINARY_LIST, value }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let value = &self.value[..self.value.len().min(255)];
        out.extend_from_slice(&self.code.to_be_bytes());
        out.extend_from_slice(&[self.control.0, value.len() as u8]);
        out.extend_from_slice(value);
    }

    /// Takes one parameter from the front of `data`: it and the bytes it took; `None` when it is cut.
    fn decode(data: &[u8]) -> Option<(Self, usize)> {
        let &[_, _, control, length, ..] = data else { return None };
        let end = 4 + usize::from(length);
        let value = data.get(4..end)?.to_vec();
        Some((Self { code: be16(data, 0)?, control: ParameterControl(control), value }, end))
    }
}

/// A log page of parameters, in the order of their codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPage {
    /// Which page.
    pub id: LogPageId,
    /// The parameters, ascending.
    pub parameters: Vec<LogParameter>,
}

impl LogPage {
    /// The bytes; parameters cannot be saved (DS is set).
    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        self.parameters.iter().for_each(|parameter| parameter.encode(&mut body));
        with_header(self.id, true, &body)
    }

    /// Reads a page that a device sent; a last parameter that is cut is left out. `None` when the header is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = usize::from(be16(data, 2)?);
        let id = LogPageId::new(data[0] & 0x3f, if data[0] & 0x40 != 0 { data[1] } else { 0 });
        let rest = &data[4..];
        let mut rest = &rest[..rest.len().min(length)];
        let mut parameters = Vec::new();
        while let Some((parameter, taken)) = LogParameter::decode(rest) {
            parameters.push(parameter);
            rest = &rest[taken..];
        }
        Some(Self { id, parameters })
    }
}

fn with_header(id: LogPageId, disable_save: bool, body: &[u8]) -> Vec<u8> {
    let body = &body[..body.len().min(0xffff)];
    let has_subpage = id.subpage != 0;
    let first = u8::from(disable_save) << 7 | u8::from(has_subpage) << 6 | id.page;
    let mut out = vec![first, id.subpage];
    out.extend_from_slice(&(body.len() as u16).to_be_bytes());
    out.extend_from_slice(body);
    out
}

/// Page 00h: the list of pages, with subpages when `subpages`.
fn supported_pages(supported: &[LogPageId], command: &LogSense) -> Vec<u8> {
    let id = LogPageId::new(command.page_code, command.subpage_code);
    let with_subpages = command.subpage_code == 0xff;
    let mut ids = vec![LogPageId::new(0, 0), LogPageId::new(0, 0xff)];
    ids.extend_from_slice(supported);
    ids.sort_unstable();
    let mut body = Vec::new();
    for known in ids {
        if with_subpages {
            if command.page_code == 0 || known.page == command.page_code {
                body.extend_from_slice(&[known.page, known.subpage]);
            }
        } else if known.subpage == 0 {
            body.push(known.page);
        }
    }
    with_header(id, false, &body)
}

/// The whole answer to LOG SENSE, before it is cut at the allocation length, of a device server that has the pages
/// `supported` (page 00h and its subpage FFh are added); `build` makes the one that is asked for.
///
/// # Errors
/// 05/24/00 pointing to SP (nothing can be saved), to PC (there are no thresholds), to a page or subpage that is not
/// supported, or to PARAMETER POINTER when no parameter has that code or a later one.
pub fn log_sense(
    command: &LogSense,
    supported: &[LogPageId],
    build: impl FnOnce(LogPageId) -> LogPage,
) -> Result<Vec<u8>, SenseData> {
    if command.save_parameters {
        return Err(SenseData::invalid_field_in_cdb(1, Some(0)));
    }
    let id = LogPageId::new(command.page_code, command.subpage_code);
    let known_page = id.page == 0 || supported.iter().any(|known| known.page == id.page);
    if !known_page {
        return Err(SenseData::invalid_field_in_cdb(2, Some(5)));
    }
    let lists = id.subpage == 0xff || id == LogPageId::new(0, 0);
    if !lists && !supported.contains(&id) {
        return Err(SenseData::invalid_field_in_cdb(3, Some(7)));
    }
    let pointer = SenseData::invalid_field_in_cdb(5, Some(7));
    if lists {
        return if command.parameter_pointer == 0 { Ok(supported_pages(supported, command)) } else { Err(pointer) };
    }
    let mut page = build(id);
    match command.page_control {
        1 => {}
        // Default cumulative values: counters begin at zero.
        3 => {
            let counters = page.parameters.iter_mut().filter(|parameter| parameter.control.is_counter());
            counters.for_each(|parameter| parameter.value.fill(0));
        }
        _ => return Err(SenseData::invalid_field_in_cdb(2, Some(7))),
    }
    page.parameters.retain(|parameter| parameter.code >= command.parameter_pointer);
    if page.parameters.is_empty() && command.parameter_pointer != 0 {
        return Err(pointer);
    }
    Ok(page.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sense(page_code: u8, subpage_code: u8) -> LogSense {
        LogSense { page_control: 1, page_code, subpage_code, ..LogSense::default() }
    }

    fn ask(command: &LogSense) -> Result<Vec<u8>, SenseData> {
        log_sense(command, LogPageId::DISK, |id| ErrorCounters { bytes_processed: 77, ..Default::default() }.page(id))
    }

    #[test]
    fn the_list_of_pages_has_itself() {
        assert_eq!(ask(&sense(0, 0)).unwrap(), [0, 0, 0, 9, 0, 2, 3, 5, 0x0f, 0x10, 0x18, 0x19, 0x2f]);
        let subpages = ask(&sense(0, 0xff)).unwrap();
        assert_eq!(subpages[..10], [0x40, 0xff, 0, 20, 0, 0, 0, 0xff, 2, 0]);
        assert_eq!(ask(&sense(2, 0xff)).unwrap(), [0x42, 0xff, 0, 2, 2, 0]);
    }

    #[test]
    fn the_parameter_pointer_skips() {
        let page = LogPage::decode(&ask(&LogSense { parameter_pointer: 5, ..sense(2, 0) }).unwrap()).unwrap();
        assert_eq!(page.parameters.iter().map(|parameter| parameter.code).collect::<Vec<_>>(), [5, 6]);
        assert_eq!(page.parameters[0], LogParameter::counter(5, 77));
        let beyond = ask(&LogSense { parameter_pointer: 7, ..sense(2, 0) });
        assert_eq!(beyond, Err(SenseData::invalid_field_in_cdb(5, Some(7))));
    }

    #[test]
    fn what_is_not_there_is_pointed_to() {
        assert_eq!(ask(&sense(0x0c, 0)), Err(SenseData::invalid_field_in_cdb(2, Some(5))));
        assert_eq!(ask(&sense(2, 1)), Err(SenseData::invalid_field_in_cdb(3, Some(7))));
        let threshold = LogSense { page_control: 0, ..sense(2, 0) };
        assert_eq!(ask(&threshold), Err(SenseData::invalid_field_in_cdb(2, Some(7))));
        let save = LogSense { save_parameters: true, ..sense(2, 0) };
        assert_eq!(ask(&save), Err(SenseData::invalid_field_in_cdb(1, Some(0))));
    }

    #[test]
    fn default_counters_are_zero() {
        let page = LogPage::decode(&ask(&LogSense { page_control: 3, ..sense(2, 0) }).unwrap()).unwrap();
        assert!(page.parameters.iter().all(|parameter| parameter.value == [0; 8]));
    }
}

//! REPORT SUPPORTED OPERATION CODES data, out of the command table.

use crate::bytes_util::{be16, be32};
use crate::cdb::ReportSupportedOperationCodes;
use crate::command::{CommandEntry, CommandSet, entries_of};
use crate::sense::SenseData;

/// SUPPORT field of the one-command format.
const SUPPORTED: u8 = 0b011;
const NOT_SUPPORTED: u8 = 0b001;

/// Bytes of a command timeouts descriptor.
const TIMEOUTS_LENGTH: u16 = 12;

/// Builds the answer to REPORT SUPPORTED OPERATION CODES for a device server that supports `supported`.
///
/// # Errors
/// 05/24/00 pointing to REQUESTED OPERATION CODE or REQUESTED SERVICE ACTION when the reporting options do not fit the
/// command asked for: option 1 with an operation code that has service actions, option 2 with one that has none.
pub fn report_operation_codes(
    command: &ReportSupportedOperationCodes,
    supported: CommandSet,
) -> Result<Vec<u8>, SenseData> {
    if command.reporting_options == 0 {
        return Ok(all_commands(command.return_timeouts, supported));
    }
    let rows = entries_of(command.requested_operation_code);
    let implemented = rows.iter().any(|row| supported.contains(row.kind));
    let has_actions = implemented && rows.iter().any(|row| row.service_action.is_some());
    match command.reporting_options {
        1 if has_actions => return Err(SenseData::invalid_field_in_cdb(2, Some(2))),
        2 if implemented && !has_actions => return Err(SenseData::invalid_field_in_cdb(2, Some(2))),
        // Of a command without service actions only service action zero is supported.
        3 if implemented && !has_actions && command.requested_service_action != 0 => {
            return Ok(one_command(None, command.return_timeouts, supported));
        }
        _ => {}
    }
    let row = rows.iter().find(|row| {
        let action = row.service_action.map(u16::from);
        supported.contains(row.kind) && action.is_none_or(|action| action == command.requested_service_action)
    });
    Ok(one_command(row, command.return_timeouts, supported))
}

fn timeouts(entry: &CommandEntry, out: &mut Vec<u8>) {
    out.extend_from_slice(&(TIMEOUTS_LENGTH - 2).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    // The nominal time is not told: it depends on what the store stands on.
    out.extend_from_slice(&0u32.to_be_bytes());
    out.extend_from_slice(&entry.recommended_timeout_seconds.to_be_bytes());
}

fn all_commands(with_timeouts: bool, supported: CommandSet) -> Vec<u8> {
    let mut out = vec![0; 4];
    for entry in supported.entries() {
        let flags = u8::from(with_timeouts) << 1 | u8::from(entry.service_action.is_some());
        out.extend_from_slice(&[entry.opcode, 0, 0, entry.service_action.unwrap_or(0), 0, flags, 0, entry.cdb_length]);
        if with_timeouts {
            timeouts(entry, &mut out);
        }
    }
    let length = (out.len() - 4) as u32;
    out[..4].copy_from_slice(&length.to_be_bytes());
    out
}

fn one_command(row: Option<&CommandEntry>, with_timeouts: bool, supported: CommandSet) -> Vec<u8> {
    let Some(entry) = row else { return vec![0, NOT_SUPPORTED, 0, 0] };
    let usage = entry.usage_data(supported.naca());
    let mut out = vec![0, u8::from(with_timeouts) << 7 | SUPPORTED, 0, usage.len() as u8];
    out.extend_from_slice(&usage);
    if with_timeouts {
        timeouts(entry, &mut out);
    }
    out
}

/// What a client reads out of REPORT SUPPORTED OPERATION CODES data of option 0: (operation code, service action).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OperationCodesReport {
    /// The commands listed.
    pub commands: Vec<(u8, Option<u16>)>,
}

impl OperationCodesReport {
    /// Reads the list; a last descriptor that is cut is left out. `None` when the header is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = usize::try_from(be32(data, 0)?).ok()?;
        let rest = data.get(4..)?;
        let mut rest = &rest[..rest.len().min(length)];
        let mut commands = Vec::new();
        while let (Some(action), Some(flags)) = (be16(rest, 2), rest.get(5)) {
            let size = if flags & 2 != 0 { 8 + usize::from(TIMEOUTS_LENGTH) } else { 8 };
            let Some(tail) = rest.get(size..) else { break };
            commands.push((rest[0], (flags & 1 != 0).then_some(action)));
            rest = tail;
        }
        Some(Self { commands })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{CommandKind, find, parse};

    fn ask(options: u8, opcode: u8, action: u16) -> Result<Vec<u8>, SenseData> {
        let command = ReportSupportedOperationCodes {
            reporting_options: options,
            requested_operation_code: opcode,
            requested_service_action: action,
            ..ReportSupportedOperationCodes::default()
        };
        report_operation_codes(&command, CommandSet::all())
    }

    #[test]
    fn every_supported_command_is_listed_once() {
        for return_timeouts in [false, true] {
            let command = ReportSupportedOperationCodes { return_timeouts, ..Default::default() };
            let data = report_operation_codes(&command, CommandSet::all()).unwrap();
            let report = OperationCodesReport::decode(&data).unwrap();
            let expected = CommandSet::all().entries().map(|row| (row.opcode, row.service_action.map(u16::from)));
            assert!(report.commands.into_iter().eq(expected));
        }
    }

    #[test]
    fn one_command_has_its_usage_data() {
        let data = ask(1, 0x28, 0).unwrap();
        assert_eq!(data, [0, 3, 0, 10, 0x28, 0x18, 0xff, 0xff, 0xff, 0xff, 0, 0xff, 0xff, 0]);
        let data = ask(2, 0x9e, 0x10).unwrap();
        assert_eq!(data[1..6], [3, 0, 16, 0x9e, 0x10]);
    }

    #[test]
    fn options_must_fit_the_command() {
        assert_eq!(ask(1, 0x9e, 0x10), Err(SenseData::invalid_field_in_cdb(2, Some(2))));
        assert_eq!(ask(2, 0x28, 0), Err(SenseData::invalid_field_in_cdb(2, Some(2))));
        assert_eq!(ask(3, 0x28, 0).unwrap()[1], SUPPORTED);
        assert_eq!(ask(3, 0x28, 1).unwrap()[1], NOT_SUPPORTED);
        assert_eq!(ask(3, 0x9e, 0x10).unwrap()[1], SUPPORTED);
    }

    #[test]
    fn what_is_not_supported_says_so() {
        assert_eq!(ask(1, 0xff, 0).unwrap(), [0, 1, 0, 0]);
        assert_eq!(ask(1, 0x3f, 0).unwrap(), [0, 1, 0, 0]);
        assert_eq!(ask(2, 0x9e, 0x13).unwrap(), [0, 1, 0, 0]);
    }

    #[test]
    fn report_and_dispatch_agree() {
        let supported = CommandSet::all().without(CommandKind::Unmap);
        for opcode in 0..=255u8 {
            for action in 0..32u8 {
                let listed = supported
                    .entries()
                    .any(|row| row.opcode == opcode && row.service_action.is_none_or(|a| a == action));
                let mut cdb = [0; 16];
                cdb[0] = opcode;
                // Only commands with service actions have them there.
                if entries_of(opcode).iter().any(|row| row.service_action.is_some()) {
                    cdb[1] = action;
                }
                if let Some(row) = find(opcode, action) {
                    cdb[..row.cdb_length.into()].copy_from_slice(&row.template());
                }
                assert_eq!(parse(&cdb, supported).is_ok(), listed, "{opcode:02x}/{action:02x}");
            }
        }
    }
}

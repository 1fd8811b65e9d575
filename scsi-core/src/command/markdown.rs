//! The table as a page of documentation.

use core::fmt::Write;

use super::{COMMANDS, CommandEntry, CommandFlags, CommandSet, DataShape, ReservationClass};

/// The command table as Markdown, for docs/compliance: which of them `supported` has, how long the CDB is, which bits
/// are looked at, what reservations do.
pub fn render_markdown(supported: CommandSet) -> String {
    let mut out = String::from(
        "| Code | Command | Supported | CDB | Usage data | Data | Under reservations of others | Timeout |\n\
         |---|---|---|---|---|---|---|---|\n",
    );
    for entry in &COMMANDS {
        let code = match entry.service_action {
            Some(action) => format!("{:02X}h/{action:02X}h", entry.opcode),
            None => format!("{:02X}h", entry.opcode),
        };
        let state = match (supported.contains(entry.kind), entry.flags.contains(CommandFlags::REFUSED)) {
            (true, _) => "yes",
            (false, true) => "refused by design",
            (false, false) => "no",
        };
        let usage = if state == "refused by design" { String::new() } else { hex(&entry.usage_data(supported.naca())) };
        // Writing to a String cannot fail.
        let _ = writeln!(
            out,
            "| {code} | {} | {state} | {} | {usage} | {} | {} | {} s |",
            entry.name,
            entry.cdb_length,
            data(entry),
            reservation(entry),
            entry.recommended_timeout_seconds,
        );
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn data(entry: &CommandEntry) -> &'static str {
    match entry.data {
        DataShape::None => "none",
        DataShape::AllocationLength { .. } => "in, allocation length",
        DataShape::ParameterList { .. } => "out, parameter list",
        DataShape::FixedIn(_) => "in, fixed",
        DataShape::BlocksIn { .. } => "in, blocks",
        DataShape::BlocksOut { .. } => "out, blocks",
        DataShape::BlocksOutTwice { .. } => "out, blocks twice",
        DataShape::ByteCheck { .. } => "out, by BYTCHK",
        DataShape::OneBlockOut => "out, one block",
        DataShape::FormatUnit => "out, by FMTDATA",
    }
}

fn reservation(entry: &CommandEntry) -> &'static str {
    match entry.reservation {
        ReservationClass::Allowed => "allowed",
        ReservationClass::Read => "conflicts with exclusive access",
        ReservationClass::Write => "conflicts",
        ReservationClass::StartStop => "allowed to start, else conflicts",
        ReservationClass::PreventAllow => "allowed to allow, else conflicts",
        ReservationClass::Reserve | ReservationClass::Release => "by SPC-2",
        ReservationClass::PersistentReserveIn => "allowed",
        ReservationClass::PersistentReserveOut => "by service action",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_line() {
        let page = render_markdown(CommandSet::all());
        assert_eq!(page.lines().count(), 2 + COMMANDS.len());
        assert!(page.contains("| 28h | READ(10) | yes | 10 | 28 18 ff ff ff ff 00 ff ff 00 | in, blocks |"));
        assert!(page.contains("| 3Fh | WRITE LONG(10) | refused by design | 10 |  |"));
    }
}

//! `fcinfo` and `fcadm`: Fibre Channel ports, of which this server has none yet.

use std::process::ExitCode;

use super::getopt::{Operands, OptionSpec, Parsed, Subcommand, Tool};
use super::help::Page;
use super::terminal::{print, print_error, stop};

static FCINFO: Tool = Tool {
    name: "fcinfo",
    options: &[
        OptionSpec { letter: 'e', long: "fcoe", argument: None },
        OptionSpec { letter: 'i', long: "initiator", argument: None },
        OptionSpec { letter: 'l', long: "linkstat", argument: None },
        OptionSpec { letter: 'p', long: "port", argument: Some("HBA port WWN") },
        OptionSpec { letter: 's', long: "scsi-target", argument: None },
        OptionSpec { letter: 't', long: "target", argument: None },
        OptionSpec { letter: 'v', long: "verbose", argument: None },
    ],
    subcommands: &[
        sub("hba-port", "", "itel", Operands::OptionalMany, "WWN"),
        // -p is required, and its absence has words of its own.
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN"),
        sub("logical-unit", "", "v", Operands::OptionalMany, "OS Device Path"),
        sub("lu", "", "v", Operands::OptionalMany, "OS Device Path"),
    ],
};

static FCADM: Tool = Tool {
    name: "fcadm",
    options: &[
        OptionSpec { letter: 'f', long: "fcoe-force-promisc", argument: None },
        OptionSpec { letter: 'i', long: "initiator", argument: None },
        OptionSpec { letter: 'l', long: "linkstat", argument: None },
        OptionSpec { letter: 'n', long: "node", argument: Some("Node WWN") },
        OptionSpec { letter: 'p', long: "port", argument: Some("Port WWN") },
        OptionSpec { letter: 's', long: "scsi-target", argument: None },
        OptionSpec { letter: 't', long: "target", argument: None },
    ],
    subcommands: &[
        sub("hba-port", "", "l", Operands::OptionalMany, "WWN"),
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN"),
        sub("create-npiv-port", "", "pn", Operands::One, "WWN"),
        sub("delete-npiv-port", "p", "", Operands::One, "WWN"),
        sub("create-fcoe-port", "", "itpnf", Operands::One, "Network Interface Name"),
        sub("delete-fcoe-port", "", "", Operands::One, "Network Interface Name"),
        sub("list-fcoe-ports", "", "it", Operands::None, ""),
        sub("force-lip", "", "", Operands::One, "WWN"),
    ],
};

const fn sub(
    name: &'static str,
    required: &'static str,
    optional: &'static str,
    operands: Operands,
    operand: &'static str,
) -> Subcommand {
    Subcommand { name, required, optional, operands, operand, help: "" }
}

/// What the manuals of both say.
pub(super) fn pages() -> [Page; 2] {
    [FCINFO.page("Fibre Channel ports"), FCADM.page("administer Fibre Channel ports")]
}

pub(super) fn run(name: &str, args: &[String]) -> ExitCode {
    let tool = if name == "fcadm" { &FCADM } else { &FCINFO };
    match tool.parse(args) {
        Ok(parsed) => report(&parsed),
        Err(ended) => stop(&ended),
    }
}

fn report(parsed: &Parsed) -> ExitCode {
    let not_found = |what: &str| {
        for operand in &parsed.operands {
            print_error(&format!("Error: {what} {operand}: not found\n"));
        }
        if parsed.operands.len() > 1 {
            print_error(&format!("Error: All specified {what}s are not found\n"));
        }
        ExitCode::FAILURE
    };
    match parsed.subcommand {
        "remote-port" if !parsed.has('p') => {
            print_error("Error: -p option was not specified.\n");
            ExitCode::FAILURE
        }
        "remote-port" => {
            print_error(&format!("Error: HBA port {}: not found\n", parsed.value('p').unwrap_or_default()));
            ExitCode::FAILURE
        }
        "hba-port" if parsed.operands.is_empty() => {
            print("No Adapters Found.\n");
            ExitCode::SUCCESS
        }
        "logical-unit" | "lu" if parsed.operands.is_empty() => ExitCode::SUCCESS,
        "logical-unit" | "lu" => not_found("OS Device path"),
        "list-fcoe-ports" => ExitCode::SUCCESS,
        "create-fcoe-port" | "delete-fcoe-port" => not_found("interface"),
        _ => not_found("HBA port"),
    }
}

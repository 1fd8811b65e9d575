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
        sub("hba-port", "", "itel", Operands::OptionalMany, "WWN", "hba-port -t"),
        // -p is required, and its absence has words of its own.
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN", "remote-port -p 210000e08b100163"),
        sub("logical-unit", "", "v", Operands::OptionalMany, "OS Device Path", "logical-unit -v"),
        sub("lu", "", "v", Operands::OptionalMany, "OS Device Path", "lu -v"),
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
        sub("hba-port", "", "l", Operands::OptionalMany, "WWN", "hba-port -l"),
        sub("remote-port", "", "pls", Operands::OptionalMany, "WWN", "remote-port -p 210000e08b100163"),
        sub("create-npiv-port", "", "pn", Operands::One, "WWN", "create-npiv-port 210000e08b100163"),
        sub("delete-npiv-port", "p", "", Operands::One, "WWN", "delete-npiv-port -p 210100e08b100163 210000e08b100163"),
        sub("create-fcoe-port", "", "itpnf", Operands::One, "Network Interface Name", "create-fcoe-port -t eth0"),
        sub("delete-fcoe-port", "", "", Operands::One, "Network Interface Name", "delete-fcoe-port eth0"),
        sub("list-fcoe-ports", "", "it", Operands::None, "", "list-fcoe-ports -t"),
        sub("force-lip", "", "", Operands::One, "WWN", "force-lip 210000e08b100163"),
    ],
};

const fn sub(
    name: &'static str,
    required: &'static str,
    optional: &'static str,
    operands: Operands,
    operand: &'static str,
    example: &'static str,
) -> Subcommand {
    Subcommand { name, required, optional, operands, operand, example }
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

/// What there would be to do about an adapter that is not there.
const NO_ADAPTERS: &str =
    "hint: this server has no Fibre Channel adapter; iSCSI names are shown by 'itadm list-target'\n";

fn report(parsed: &Parsed) -> ExitCode {
    let not_found = |what: &str| {
        for operand in &parsed.operands {
            print_error(&format!("Error: {what} {operand}: not found\n"));
        }
        if parsed.operands.len() > 1 {
            print_error(&format!("Error: All specified {what}s are not found\n"));
        }
        print_error(NO_ADAPTERS);
        ExitCode::FAILURE
    };
    match parsed.subcommand {
        "remote-port" if !parsed.has('p') => {
            print_error(
                "Error: -p option was not specified.\nhint: name the port of this host by 'remote-port -p WWN'\n",
            );
            ExitCode::FAILURE
        }
        "remote-port" => {
            print_error(&format!("Error: HBA port {}: not found\n", parsed.value('p').unwrap_or_default()));
            print_error(NO_ADAPTERS);
            ExitCode::FAILURE
        }
        "hba-port" if parsed.operands.is_empty() => none(parsed, "No Adapters Found.\n"),
        "logical-unit" | "lu" if parsed.operands.is_empty() => none(parsed, ""),
        "logical-unit" | "lu" => not_found("OS Device path"),
        "list-fcoe-ports" => none(parsed, ""),
        "create-fcoe-port" | "delete-fcoe-port" => not_found("interface"),
        _ => not_found("HBA port"),
    }
}

/// An empty list.
fn none(parsed: &Parsed, words: &str) -> ExitCode {
    if parsed.extensions.json {
        print("[]\n");
    } else if !parsed.extensions.parsable {
        print(words);
    }
    ExitCode::SUCCESS
}

//! `sbdadm`: logical units of the block provider.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::backend::{Backend, Places};
use super::getopt::{Operands, OptionSpec, Parsed, Subcommand, Tool};
use super::help::Page;
use super::stmfadm::{absolute, done, each_part_of_lus};
use super::terminal::{complain, print, print_json, stop};
use crate::admin::{ApiError, DiskInfo, Done, ErrorKind, LuInfo, Request};

static TOOL: Tool = Tool {
    name: "sbdadm",
    options: &[
        OptionSpec { letter: 'k', long: "keep-views", argument: None },
        OptionSpec { letter: 's', long: "disk-size", argument: Some("size in bytes/kbytes/mbytes/gbytes/tbytes") },
    ],
    subcommands: &[
        Subcommand {
            name: "create-lu",
            required: "",
            optional: "s",
            operands: Operands::One,
            operand: "full-path-to-file",
            example: "create-lu -s 100G /srv/luns/vol1",
        },
        Subcommand {
            name: "delete-lu",
            required: "",
            optional: "k",
            operands: Operands::One,
            operand: "LU GUID",
            example: "delete-lu 600144F0C73A8B0000016B0320010001",
        },
        Subcommand {
            name: "import-lu",
            required: "",
            optional: "",
            operands: Operands::One,
            operand: "full-path-to-file",
            example: "import-lu /srv/luns/vol1",
        },
        Subcommand {
            name: "list-lu",
            required: "",
            optional: "",
            operands: Operands::None,
            operand: "",
            example: "list-lu -p",
        },
        Subcommand {
            name: "modify-lu",
            required: "s",
            optional: "",
            operands: Operands::One,
            operand: "LU GUID or full-path-to-file",
            example: "modify-lu -s 200G /srv/luns/vol1",
        },
    ],
};

/// What the manual says.
pub(super) fn page() -> Page {
    TOOL.page("logical units of the block provider")
}

pub(super) fn run(args: &[String], places: Places) -> ExitCode {
    let parsed = match TOOL.parse(args) {
        Ok(parsed) => parsed,
        Err(ended) => return stop(&ended),
    };
    let mut backend = Backend::new(places.with(&parsed.extensions));
    let outcome = match parsed.subcommand {
        "create-lu" => create_lu(&mut backend, &parsed),
        "import-lu" => import_lu(&mut backend, &parsed),
        "modify-lu" => modify_lu(&mut backend, &parsed),
        "delete-lu" => delete_lu(&mut backend, &parsed),
        _ => list_lu(&mut backend, &parsed),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(TOOL.name, &error);
            ExitCode::FAILURE
        }
    }
}

fn create_lu(backend: &mut Backend, parsed: &Parsed) -> Result<(), ApiError> {
    let request = Request::CreateLu {
        file: absolute(&parsed.operands[0]),
        size: parsed.value('s').map(str::to_owned),
        properties: Vec::new(),
        force: parsed.extensions.force,
    };
    let lu = done(backend, request)?.lu;
    show(parsed, "Created the following LU:\n", lu.as_deref().map_or(&[], std::slice::from_ref));
    Ok(())
}

fn import_lu(backend: &mut Backend, parsed: &Parsed) -> Result<(), ApiError> {
    let request = Request::ImportLu { file: absolute(&parsed.operands[0]), new_guid: parsed.extensions.new_guid };
    let lu = done(backend, request)?.lu;
    show(parsed, "Imported the following LU:\n", lu.as_deref().map_or(&[], std::slice::from_ref));
    Ok(())
}

fn modify_lu(backend: &mut Backend, parsed: &Parsed) -> Result<(), ApiError> {
    let operand = &parsed.operands[0];
    let lu = if operand.starts_with('/') { operand.clone() } else { guid(operand)? };
    let size = parsed.value('s').map(str::to_owned);
    let done = done(backend, Request::ModifyLu { lu, size, properties: Vec::new() })?;
    answer(parsed, &done)
}

fn delete_lu(backend: &mut Backend, parsed: &Parsed) -> Result<(), ApiError> {
    let lu = guid(&parsed.operands[0])?;
    let done = done(backend, Request::DeleteLu { lu, keep_views: parsed.has('k') })?;
    answer(parsed, &done)
}

/// Nothing more, or all of it with `--json`.
fn answer(parsed: &Parsed, done: &Done) -> Result<(), ApiError> {
    if parsed.extensions.json {
        print_json(done);
    }
    Ok(())
}

fn guid(text: &str) -> Result<String, ApiError> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_owned());
    }
    Err(ApiError::new(ErrorKind::Invalid, format!("{text}: must be 32 hexadecimal digits long"))
        .hint("'sbdadm list-lu' shows the names of the logical units"))
}

fn list_lu(backend: &mut Backend, parsed: &Parsed) -> Result<(), ApiError> {
    let mut lus = Vec::new();
    each_part_of_lus(backend, |part| lus.extend(part))?;
    lus.retain(|lu| lu.disk.is_some());
    if parsed.extensions.json || !lus.is_empty() {
        show(parsed, &format!("\nFound {} LU(s)\n", lus.len()), &lus);
    }
    Ok(())
}

fn show(parsed: &Parsed, head: &str, lus: &[LuInfo]) {
    if parsed.extensions.json {
        return print_json(&lus);
    }
    let rows = || lus.iter().filter_map(|lu| Some((lu.guid.to_ascii_lowercase(), lu.disk.as_ref()?)));
    if parsed.extensions.parsable {
        let line = |(guid, disk): (String, &DiskInfo)| format!("{guid}\t{}\t{}\n", disk.size, disk.data_file);
        return print(&rows().map(line).collect::<String>());
    }
    let mut text = format!("{head}\n\t      GUID{:20}DATA SIZE{:11}SOURCE\n", "", "");
    let _ = writeln!(text, "{}  {}  {}", "-".repeat(32), "-".repeat(19), "-".repeat(16));
    for (guid, disk) in rows() {
        let _ = writeln!(text, "{guid}  {:<19}  {}", disk.size, disk.data_file);
    }
    print(&text);
}

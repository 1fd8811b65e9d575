//! `stmfadm`: groups, views, logical units and target ports.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::backend::{Backend, Places};
use super::getopt::{Operands, OptionSpec, Parsed, Subcommand, Tool};
use super::help::Page;
use super::terminal::{complain, ctime, failures, print, print_json, stop, warn};
use crate::admin::{
    Answer, ApiError, Done, ErrorKind, GroupInfo, Kind, LuInfo, ObjectState, PortInfo, Request, ServiceState, ViewInfo,
};

static TOOL: Tool = Tool {
    name: "stmfadm",
    options: &[
        OptionSpec { letter: 'a', long: "all", argument: None },
        OptionSpec { letter: 'f', long: "file", argument: None },
        OptionSpec { letter: 'g', long: "group-name", argument: Some("group-name") },
        OptionSpec { letter: 'h', long: "host-group", argument: Some("host-group") },
        OptionSpec { letter: 'k', long: "keep-views", argument: None },
        OptionSpec { letter: 'l', long: "lu-name", argument: Some("LU-Name") },
        OptionSpec { letter: 'n', long: "lun", argument: Some("logical-unit-number") },
        OptionSpec { letter: 'p', long: "lu-prop", argument: Some("logical-unit-property=value") },
        OptionSpec { letter: 's', long: "size", argument: Some("size in bytes/kbytes/mbytes/gbytes/tbytes/pbytes") },
        OptionSpec { letter: 't', long: "target-group", argument: Some("target-group") },
        OptionSpec { letter: 'v', long: "verbose", argument: None },
    ],
    subcommands: &[
        sub(
            "add-hg-member",
            "g",
            "",
            Operands::OneOrMore,
            "group-member",
            "add-hg-member -g ESX1 iqn.1998-01.com.vmware:esx1",
        ),
        sub(
            "add-tg-member",
            "g",
            "",
            Operands::OneOrMore,
            "group-member",
            "add-tg-member -g fast iqn.2026-11.com.example:array1",
        ),
        sub("add-view", "", "nth", Operands::One, "LU-name", "add-view -h ESX1 -n 0 600144F0C73A8B0000016B0320010001"),
        sub("create-hg", "", "", Operands::One, "group-name", "create-hg ESX1"),
        sub("create-lu", "", "ps", Operands::One, "lu file", "create-lu -s 100G -p alias=vol1 /srv/luns/vol1"),
        sub("create-tg", "", "", Operands::One, "group-name", "create-tg fast"),
        sub("delete-hg", "", "", Operands::One, "group-name", "delete-hg ESX1"),
        sub("delete-lu", "", "k", Operands::OneOrMore, "LU-name", "delete-lu 600144F0C73A8B0000016B0320010001"),
        sub("delete-tg", "", "", Operands::One, "group-name", "delete-tg fast"),
        sub("import-lu", "", "", Operands::One, "lu file", "import-lu /srv/luns/vol1"),
        sub("list-hg", "", "v", Operands::OptionalMany, "host-group-name", "list-hg -v ESX1"),
        sub("list-lu", "", "v", Operands::OptionalMany, "LU-name", "list-lu -v 600144F0C73A8B0000016B0320010001"),
        sub("list-state", "", "", Operands::None, "", "list-state --json"),
        sub("list-target", "", "v", Operands::OptionalMany, "target-name", "list-target -v"),
        sub("list-tg", "", "v", Operands::OptionalMany, "target-group-name", "list-tg -v"),
        sub(
            "list-view",
            "l",
            "",
            Operands::OptionalMany,
            "entry-index",
            "list-view -l 600144F0C73A8B0000016B0320010001",
        ),
        sub(
            "modify-lu",
            "",
            "psf",
            Operands::One,
            "LU-name",
            "modify-lu -s 200G -p wcd=true 600144F0C73A8B0000016B0320010001",
        ),
        sub("offline-lu", "", "", Operands::One, "LU-name", "offline-lu 600144F0C73A8B0000016B0320010001"),
        sub("offline-target", "", "", Operands::One, "target-name", "offline-target iqn.2026-11.com.example:array1"),
        sub("online-lu", "", "", Operands::One, "LU-name", "online-lu 600144F0C73A8B0000016B0320010001"),
        sub("online-target", "", "", Operands::One, "target-name", "online-target iqn.2026-11.com.example:array1"),
        sub(
            "remove-hg-member",
            "g",
            "",
            Operands::OneOrMore,
            "group-member",
            "remove-hg-member -g ESX1 iqn.1998-01.com.vmware:esx1",
        ),
        sub(
            "remove-tg-member",
            "g",
            "",
            Operands::OneOrMore,
            "group-member",
            "remove-tg-member -g fast iqn.2026-11.com.example:array1",
        ),
        sub(
            "remove-view",
            "l",
            "a",
            Operands::OptionalMany,
            "entry-index",
            "remove-view -l 600144F0C73A8B0000016B0320010001 0",
        ),
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

/// What a subcommand ends with: how many operands failed, or the one reason for all of them.
type Outcome = Result<usize, ApiError>;

/// What the manual says.
pub(super) fn page() -> Page {
    TOOL.page("groups, views, logical units and target ports")
}

pub(super) fn run(args: &[String], places: Places) -> ExitCode {
    let parsed = match TOOL.parse(args) {
        Ok(parsed) => parsed,
        Err(ended) => return stop(&ended),
    };
    let mut backend = Backend::new(places.with(&parsed.extensions));
    let refuse = |text: &str| {
        let sub = TOOL.subcommands.iter().find(|sub| sub.name == parsed.subcommand);
        sub.map_or(ExitCode::FAILURE, |sub| stop(&TOOL.refuse(sub, text, 1)))
    };
    let backend = &mut backend;
    let operand = || parsed.operands.first().cloned().unwrap_or_default();
    let outcome = match parsed.subcommand {
        "create-hg" => change(backend, &parsed, Request::CreateGroup { kind: Kind::Host, name: operand() }),
        "create-tg" => change(backend, &parsed, Request::CreateGroup { kind: Kind::Target, name: operand() }),
        "delete-hg" => change(backend, &parsed, Request::DeleteGroup { kind: Kind::Host, name: operand() }),
        "delete-tg" => change(backend, &parsed, Request::DeleteGroup { kind: Kind::Target, name: operand() }),
        "add-hg-member" => members(backend, &parsed, Kind::Host, true),
        "add-tg-member" => members(backend, &parsed, Kind::Target, true),
        "remove-hg-member" => members(backend, &parsed, Kind::Host, false),
        "remove-tg-member" => members(backend, &parsed, Kind::Target, false),
        "list-hg" => list_groups(backend, &parsed, Kind::Host),
        "list-tg" => list_groups(backend, &parsed, Kind::Target),
        "add-view" => add_view(backend, &parsed),
        "remove-view" => remove_view(backend, &parsed),
        "list-view" => list_view(backend, &parsed),
        "create-lu" => create_lu(backend, &parsed),
        "import-lu" => import_lu(backend, &parsed),
        "modify-lu" if !parsed.has('p') && !parsed.has('s') => return refuse("at least one option required"),
        "modify-lu" => modify_lu(backend, &parsed),
        "delete-lu" => delete_lu(backend, &parsed),
        "list-lu" => list_lu(backend, &parsed),
        "online-lu" => set_lu_state(backend, &parsed, true),
        "offline-lu" => set_lu_state(backend, &parsed, false),
        "online-target" => change(backend, &parsed, Request::SetPortState { target: operand(), online: true }),
        "offline-target" => change(backend, &parsed, Request::SetPortState { target: operand(), online: false }),
        "list-target" => list_target(backend, &parsed),
        _ => list_state(backend, &parsed),
    };
    match outcome {
        Ok(failed) => failures(failed),
        Err(error) => {
            complain(TOOL.name, &error);
            ExitCode::FAILURE
        }
    }
}

/// An answer of another kind than the request asks for: the server is of another version.
pub(super) fn unexpected() -> ApiError {
    ApiError::new(ErrorKind::Internal, "unknown error").hint("the server's version differs from this command's")
}

/// Makes a change and tells what the administrator should know.
pub(super) fn done(backend: &mut Backend, request: Request) -> Result<Done, ApiError> {
    match backend.call(request)? {
        Answer::Done(done) => {
            warn(&done.warnings);
            Ok(done)
        }
        _ => Err(unexpected()),
    }
}

fn change(backend: &mut Backend, parsed: &Parsed, request: Request) -> Outcome {
    let done = done(backend, request)?;
    Ok(report(parsed, &done))
}

/// Tells what failed of several things; with `--json` the whole answer.
fn report(parsed: &Parsed, done: &Done) -> usize {
    if parsed.extensions.json {
        print_json(done);
    }
    for failure in &done.failures {
        complain(TOOL.name, failure);
    }
    done.failures.len()
}

fn members(backend: &mut Backend, parsed: &Parsed, kind: Kind, add: bool) -> Outcome {
    let group = parsed.value('g').unwrap_or_default().to_owned();
    let members = parsed.operands.clone();
    let request = if add {
        Request::AddMembers { kind, group, members }
    } else {
        Request::RemoveMembers { kind, group, members }
    };
    change(backend, parsed, request)
}

/// Chooses what the operands name from a whole list, in their order; without operands everything. What is not there is
/// told.
fn choose<T>(items: Vec<T>, operands: &[String], list: &str, named: impl Fn(&T, &str) -> bool) -> (Vec<T>, usize) {
    if operands.is_empty() {
        return (items, 0);
    }
    let mut items: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let (mut chosen, mut failed) = (Vec::new(), 0);
    for operand in operands {
        let found = items.iter_mut().find(|item| item.as_ref().is_some_and(|item| named(item, operand)));
        match found.and_then(Option::take) {
            Some(item) => chosen.push(item),
            None => {
                let error = ApiError::new(ErrorKind::NotFound, format!("{operand}: not found"));
                complain(TOOL.name, &error.hint(format!("'stmfadm {list}' shows what there is")));
                failed += 1;
            }
        }
    }
    (chosen, failed)
}

fn list_groups(backend: &mut Backend, parsed: &Parsed, kind: Kind) -> Outcome {
    let Answer::Groups(groups) = backend.call(Request::ListGroups { kind })? else { return Err(unexpected()) };
    let (groups, failed) =
        choose(groups, &parsed.operands, parsed.subcommand, |group: &GroupInfo, name| group.name == name);
    let label = if kind == Kind::Host { "Host Group" } else { "Target Group" };
    let mut text = String::new();
    for group in &groups {
        if parsed.extensions.parsable {
            let _ = writeln!(text, "{}\t{}", group.name, group.members.join(","));
            continue;
        }
        let _ = writeln!(text, "{label}: {}", group.name);
        for member in group.members.iter().filter(|_| parsed.has('v')) {
            let _ = writeln!(text, "\tMember: {member}");
        }
    }
    if parsed.extensions.json {
        print_json(&groups)
    } else {
        print(&text)
    }
    Ok(failed)
}

/// The name of a logical unit as typed, if it can be one.
fn guid<'a>(text: &'a str, end: &str) -> Result<&'a str, ApiError> {
    if text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        Ok(text)
    } else {
        let message = format!("{text}: must be 32 hexadecimal digits{end}");
        Err(ApiError::new(ErrorKind::Invalid, message).hint("'stmfadm list-lu' shows the names of the logical units"))
    }
}

fn add_view(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let lu = guid(&parsed.operands[0], "")?.to_owned();
    let lun = match parsed.value('n') {
        None => None,
        // What is no number is no LUN either; COMSTAR took it for 0.
        Some(text) => Some(text.parse().ok().filter(|lun| *lun < 16384).ok_or_else(|| {
            let message = format!("{text}: Logical unit number must be less than 16384");
            ApiError::new(ErrorKind::Invalid, message).hint("leave out -n to have a free one chosen")
        })?),
    };
    let request = Request::AddView {
        lu,
        host_group: parsed.value('h').map(str::to_owned),
        target_group: parsed.value('t').map(str::to_owned),
        lun,
    };
    change(backend, parsed, request)
}

/// Entry numbers; what is none is told.
fn indexes(operands: &[String]) -> (Vec<u32>, usize) {
    let (mut indexes, mut failed) = (Vec::new(), 0);
    for operand in operands {
        match operand.parse() {
            Ok(index) => indexes.push(index),
            Err(_) => {
                let error = ApiError::new(ErrorKind::Invalid, format!("{operand}: invalid input"));
                complain(TOOL.name, &error.hint("view entries are numbers: see 'stmfadm list-view -l'"));
                failed += 1;
            }
        }
    }
    (indexes, failed)
}

fn remove_view(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let lu = guid(parsed.value('l').unwrap_or_default(), " long")?.to_owned();
    if parsed.operands.is_empty() && !parsed.has('a') {
        return Err(ApiError::new(ErrorKind::Invalid, "no view entries specified")
            .hint("give their numbers from 'stmfadm list-view', or -a for all"));
    }
    let (chosen, failed) = indexes(&parsed.operands);
    if failed > 0 && chosen.is_empty() {
        return Ok(failed);
    }
    let indexes = if parsed.has('a') { None } else { Some(chosen) };
    let done = done(backend, Request::RemoveViews { lu: lu.clone(), indexes }).map_err(|error| as_typed(error, &lu))?;
    let failures = done.failures.iter().map(|error| as_typed(error.clone(), &lu)).collect();
    Ok(failed + report(parsed, &Done { failures, ..done }))
}

/// The same error with the unit's name spelled as it was typed.
fn as_typed(error: ApiError, lu: &str) -> ApiError {
    let message = match error.message.get(..lu.len()) {
        Some(start) if start.eq_ignore_ascii_case(lu) => format!("{lu}{}", &error.message[lu.len()..]),
        _ => error.message,
    };
    ApiError { message, ..error }
}

fn list_view(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let lu = guid(parsed.value('l').unwrap_or_default(), "")?.to_owned();
    let (wanted, mut failed) = indexes(&parsed.operands);
    let Answer::Views(mut views) = backend.call(Request::ListViews { lu: Some(lu.clone()) })? else {
        return Err(unexpected());
    };
    if views.is_empty() {
        return Err(ApiError::new(ErrorKind::NotFound, format!("{lu}: no views found"))
            .hint(format!("'stmfadm add-view {lu}' adds one")));
    }
    if !parsed.operands.is_empty() {
        for index in &wanted {
            if !views.iter().any(|view| view.index == *index) {
                let error = ApiError::new(ErrorKind::NotFound, format!("{lu}, {index}: not found"));
                complain(TOOL.name, &error.hint(format!("'stmfadm list-view -l {lu}' shows all its entries")));
                failed += 1;
            }
        }
        views.retain(|view| wanted.contains(&view.index));
    }
    if parsed.extensions.json {
        print_json(&views);
    } else {
        print(&views.iter().map(|view| view_text(view, parsed.extensions.parsable)).collect::<String>());
    }
    Ok(failed)
}

fn view_text(view: &ViewInfo, parsable: bool) -> String {
    let all = |name: &Option<String>| name.clone().unwrap_or_else(|| "All".into());
    let (host, target) = (all(&view.host_group), all(&view.target_group));
    if parsable {
        return format!("{}\t{host}\t{target}\t{}\n", view.index, view.lun);
    }
    format!(
        "View Entry: {}\n    Host group   : {host}\n    Target group : {target}\n    LUN          : {}\n",
        view.index, view.lun
    )
}

/// The path that an operand means, seen from here: the server has another working directory.
pub(super) fn absolute(path: &str) -> String {
    std::path::absolute(path).map(|path| path.display().to_string()).unwrap_or_else(|_| path.to_owned())
}

fn create_lu(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let request = Request::CreateLu {
        file: absolute(&parsed.operands[0]),
        size: parsed.value('s').map(str::to_owned),
        properties: properties(parsed),
        force: parsed.extensions.force,
    };
    created(backend, parsed, request, "Logical unit created")
}

fn import_lu(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let request = Request::ImportLu { file: absolute(&parsed.operands[0]), new_guid: parsed.extensions.new_guid };
    created(backend, parsed, request, "Logical unit imported")
}

fn created(backend: &mut Backend, parsed: &Parsed, request: Request, words: &str) -> Outcome {
    let done = done(backend, request)?;
    if parsed.extensions.json {
        print_json(&done);
    } else {
        print(&format!("{words}: {}\n", done.name.unwrap_or_default()));
    }
    Ok(0)
}

/// The properties; a path among them is seen from here, too.
fn properties(parsed: &Parsed) -> Vec<String> {
    let path = |property: &str| match property.split_once('=') {
        Some((name, value)) if name.eq_ignore_ascii_case("meta") && !value.is_empty() => {
            format!("{name}={}", absolute(value))
        }
        _ => property.to_owned(),
    };
    parsed.values('p').map(path).collect()
}

fn modify_lu(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let operand = &parsed.operands[0];
    let lu = if parsed.has('f') { absolute(operand) } else { guid(operand, "")?.to_owned() };
    let size = parsed.value('s').map(str::to_owned);
    change(backend, parsed, Request::ModifyLu { lu, size, properties: properties(parsed) })
}

fn delete_lu(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let mut all = Done::default();
    for operand in &parsed.operands {
        let lu = guid(operand, " long").map(str::to_owned);
        let keep_views = parsed.has('k');
        match lu.and_then(|lu| done(backend, Request::DeleteLu { lu, keep_views })) {
            Ok(done) => all.warnings.extend(done.warnings),
            Err(error) => all.failures.push(error),
        }
    }
    Ok(report(parsed, &all))
}

fn set_lu_state(backend: &mut Backend, parsed: &Parsed, online: bool) -> Outcome {
    let lu = guid(&parsed.operands[0], " long")?.to_owned();
    change(backend, parsed, Request::SetLuState { lu, online })
}

fn list_lu(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    for operand in &parsed.operands {
        guid(operand, " long")?;
    }
    let show = |lus: &[LuInfo]| {
        let text = |lu: &LuInfo| if parsed.extensions.parsable { lu_line(lu) } else { lu_text(lu, parsed.has('v')) };
        print(&lus.iter().map(text).collect::<String>());
    };
    if parsed.operands.is_empty() && !parsed.extensions.json {
        // Part by part: neither here nor in the server does a long list stand in memory.
        each_part_of_lus(backend, |lus| show(&lus))?;
        return Ok(0);
    }
    let mut all = Vec::new();
    each_part_of_lus(backend, |lus| all.extend(lus))?;
    let (lus, failed) =
        choose(all, &parsed.operands, parsed.subcommand, |lu: &LuInfo, name| lu.guid.eq_ignore_ascii_case(name));
    if parsed.extensions.json {
        print_json(&lus);
    } else {
        show(&lus);
    }
    Ok(failed)
}

/// How many logical units are asked for at a time.
const LUS_AT_A_TIME: usize = 256;

/// Hands the list of logical units over, part by part.
pub(super) fn each_part_of_lus(backend: &mut Backend, mut take: impl FnMut(Vec<LuInfo>)) -> Result<(), ApiError> {
    let mut after = None;
    loop {
        let request = Request::ListLus { after, limit: Some(LUS_AT_A_TIME) };
        let Answer::Lus(lus) = backend.call(request)? else { return Err(unexpected()) };
        after = lus.last().map(|lu| lu.guid.clone());
        let is_last = lus.len() < LUS_AT_A_TIME;
        take(lus);
        if is_last {
            return Ok(());
        }
    }
}

fn state(state: Option<ObjectState>) -> String {
    state.map_or_else(|| "unregistered".into(), |state| state.to_string())
}

fn lu_line(lu: &LuInfo) -> String {
    let mut fields = vec![lu.guid.clone(), state(lu.state), lu.view_entries.to_string()];
    if let Some(disk) = &lu.disk {
        fields.extend([disk.alias.clone(), disk.data_file.clone(), disk.size.to_string(), disk.block_size.to_string()]);
    }
    format!("{}\n", fields.join("\t"))
}

fn lu_text(lu: &LuInfo, verbose: bool) -> String {
    let mut text = format!("LU Name: {}\n", lu.guid);
    if !verbose {
        return text;
    }
    let mut line = |label: &str, value: &str| {
        let _ = writeln!(text, "    {label:<18}: {value}");
    };
    let set = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".into());
    let enabled = |on: bool| if on { "Enabled" } else { "Disabled" };
    line("Operational Status", &state(lu.state));
    line("Provider Name", if lu.disk.is_some() { "sbd" } else { "unregistered" });
    line("Alias", lu.disk.as_ref().map(|disk| disk.alias.as_str()).filter(|alias| !alias.is_empty()).unwrap_or("-"));
    line("View Entry Count", &lu.view_entries.to_string());
    if let Some(disk) = &lu.disk {
        line("Data File", &disk.data_file);
        line("Meta File", &set(&disk.meta_file));
        line("Size", &disk.size.to_string());
        line("Block Size", &disk.block_size.to_string());
        line("Management URL", &set(&disk.management_url));
        line("Vendor ID", &format!("{:<8}", disk.vendor));
        line("Product ID", &format!("{:<16}", disk.product));
        line("Serial Num", &set(&disk.serial));
        line("Write Protect", enabled(disk.write_protect));
        line("Writeback Cache", enabled(disk.writeback_cache));
        line("Access State", "Active");
        // COMSTAR has no such lines; a unit without limits shows as there.
        for (label, value) in [
            ("IOPS Limit", disk.iops_limit),
            ("IOPS Burst", disk.iops_burst),
            ("Bandwidth Limit", disk.bandwidth_limit),
            ("Bandwidth Burst", disk.bandwidth_burst),
        ] {
            if let Some(value) = value {
                line(label, &value.to_string());
            }
        }
    }
    text
}

fn list_target(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let mut names = Vec::new();
    for operand in &parsed.operands {
        names.push(stmf::DeviceName::parse(operand)?.to_string());
    }
    let Answer::Ports(ports) = backend.call(Request::ListPorts {})? else { return Err(unexpected()) };
    let (ports, failed) = choose(ports, &names, parsed.subcommand, |port: &PortInfo, name| port.name == name);
    if parsed.extensions.json {
        print_json(&ports);
    } else {
        let text = |port: &PortInfo| {
            if parsed.extensions.parsable {
                format!("{}\t{}\t{}\t{}\n", port.name, port.state, port.protocol, port.sessions.len())
            } else {
                port_text(port, parsed.has('v'))
            }
        };
        print(&ports.iter().map(text).collect::<String>());
    }
    Ok(failed)
}

/// The protocol of ports whose lists have no line for it.
const FIBRE_CHANNEL: &str = "Fibre Channel";

fn port_text(port: &PortInfo, verbose: bool) -> String {
    let mut text = format!("Target: {}\n", port.name);
    if !verbose {
        return text;
    }
    let or_dash = |alias: &Option<String>| alias.clone().unwrap_or_else(|| "-".into());
    // Of Fibre Channel the provider's name says enough; COMSTAR printed none when that was written which scripts go by.
    let protocol = (port.protocol != FIBRE_CHANNEL).then(|| ("Protocol", port.protocol.clone()));
    for (label, value) in [
        ("Operational Status", port.state.to_string()),
        ("Provider Name", port.provider.clone()),
        ("Alias", or_dash(&port.alias)),
    ]
    .into_iter()
    .chain(protocol)
    .chain([("Sessions", port.sessions.len().to_string())])
    {
        let _ = writeln!(text, "    {label:<18}: {value}");
    }
    for session in &port.sessions {
        let _ = writeln!(
            text,
            "        Initiator: {}\n            Alias: {}\n            Logged in since: {}",
            session.initiator,
            or_dash(&session.initiator_alias),
            ctime(session.since)
        );
    }
    text
}

fn list_state(backend: &mut Backend, parsed: &Parsed) -> Outcome {
    let Answer::State(state) = backend.call(Request::ListState {})? else { return Err(unexpected()) };
    let ServiceState { online, .. } = &state;
    if parsed.extensions.json {
        print_json(&state);
    } else {
        let (operational, config) = if *online { ("online", "initialized") } else { ("offline", "uninitialized") };
        if parsed.extensions.parsable {
            print(&format!("{operational}\t{config}\tdisabled\t0\n"));
            return Ok(0);
        }
        print(&format!(
            "Operational Status: {operational}\nConfig Status     : {config}\nALUA Status       : disabled\n\
             ALUA Node         : 0\n"
        ));
    }
    Ok(0)
}

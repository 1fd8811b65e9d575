//! `itadm`: targets, portal groups, initiators and defaults of the iSCSI port provider.
//!
//! It has a parser of its own: subcommands are exact, messages carry no command name, and a failure ends with
//! `itadm SUB failed with error N` and that exit status.

use std::fmt::Write as _;
use std::process::ExitCode;

use super::backend::{Backend, Places};
use super::getopt::Extensions;
use super::help::{Choice, Page, Section};
use super::secret;
use super::stmfadm::unexpected;
use super::terminal::{hint_line, print, print_error, print_json, warn};
use crate::admin::{
    Answer, ApiError, DefaultsInfo, DefaultsSettings, Done, ErrorKind, Field, InitiatorInfo, InitiatorSettings,
    ObjectState, PortalGroupInfo, RedirectSettings, Request, SecretText, TargetInfo, TargetSettings,
};

/// Letter, long name, whether it takes an argument.
const OPTIONS: [(char, &str, bool); 16] = [
    ('a', "auth-method", true),
    ('d', "radius-secret", false),
    ('D', "radius-secret-file", true),
    ('f', "force", false),
    ('i', "isns", true),
    ('I', "isns-server", true),
    ('l', "alias", true),
    ('n', "node-name", true),
    ('p', "parsable", false),
    ('r', "radius-server", true),
    ('s', "chap-secret", false),
    ('S', "chap-secret-file", true),
    ('t', "tpg-tag", true),
    ('u', "chap-user", true),
    ('v', "verbose", false),
    ('h', "help", false),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operand {
    None,
    One,
    Optional,
    Many,
}

struct Subcommand {
    name: &'static str,
    letters: &'static str,
    /// Long options beyond COMSTAR's, with an argument each.
    extra: &'static [&'static str],
    operand: Operand,
    usage: &'static str,
    /// A command line that shows how it is meant, without `itadm`.
    example: &'static str,
}

const TARGET_OPTIONS: &str = "[-a radius|chap|none|default] [-s] [-S chap-secret-path]\n\t[-u chap-username] \
                              [-n target-node-name] [-l alias]\n\t[-t tpg-name[,tpg-name,...]]\n\t[--redirect IP-address[:port][,...]|none] \
                              [--moved IP-address[:port][,...]|none]";

/// Where initiators are sent: for now, or for good.
const REDIRECT: &[&str] = &["redirect", "moved"];

static SUBCOMMANDS: [Subcommand; 13] = [
    Subcommand {
        name: "create-target",
        letters: "asSunlt",
        extra: REDIRECT,
        operand: Operand::None,
        usage: TARGET_OPTIONS,
        example: "create-target -n iqn.2026-11.com.example:array1 -a chap",
    },
    Subcommand {
        name: "modify-target",
        letters: "asSunlt",
        extra: REDIRECT,
        operand: Operand::One,
        usage: TARGET_OPTIONS,
        example: "modify-target -S secret-file -u array1 iqn.2026-11.com.example:array1",
    },
    sub("delete-target", "f", Operand::One, "[-f] target-node-name", "delete-target -f iqn.2026-11.com.example:array1"),
    sub(
        "list-target",
        "pv",
        Operand::Optional,
        "[-p] [-v] [target-node-name]",
        "list-target -v iqn.2026-11.com.example:array1",
    ),
    sub(
        "create-tpg",
        "",
        Operand::Many,
        "tpg-name IP-address[:port] [IP-address[:port]] [...]",
        "create-tpg 2 192.0.2.10 [2001:db8::10]:3261",
    ),
    sub("delete-tpg", "f", Operand::One, "[-f] tpg-name", "delete-tpg 2"),
    sub("list-tpg", "pv", Operand::Optional, "[-p] [-v] [tpg-name]", "list-tpg -v"),
    sub(
        "create-initiator",
        "sSu",
        Operand::One,
        "[-s] [-S chap-secret-path] [-u chap-username] initiator-node-name",
        "create-initiator -S secret-file iqn.1998-01.com.vmware:esx1",
    ),
    sub(
        "modify-initiator",
        "sSu",
        Operand::One,
        "[-s] [-S chap-secret-path] [-u chap-username] initiator-node-name",
        "modify-initiator -s -u esx1 iqn.1998-01.com.vmware:esx1",
    ),
    sub("list-initiator", "pv", Operand::Optional, "[-p] [-v] [initiator-node-name]", "list-initiator -p"),
    sub("delete-initiator", "", Operand::One, "initiator-node-name", "delete-initiator iqn.1998-01.com.vmware:esx1"),
    Subcommand {
        name: "modify-defaults",
        letters: "ardDiI",
        extra: &["discovery-auth", "chap-minimum", "access"],
        operand: Operand::None,
        usage: "[-a radius|chap|none] [-r IP-address[:port]|none] [-d]\n\t[-D radius-secret-path] [-i enable|disable]\n\t\
                [-I IP-address[:port][,...]|none] [--discovery-auth chap|none]\n\t\
                [--chap-minimum md5|sha1|sha256|sha3-256] [--access all|named]",
        example: "modify-defaults --access named --discovery-auth chap",
    },
    sub("list-defaults", "p", Operand::None, "[-p]", "list-defaults -p"),
];

const fn sub(
    name: &'static str,
    letters: &'static str,
    operand: Operand,
    usage: &'static str,
    example: &'static str,
) -> Subcommand {
    Subcommand { name, letters, extra: &[], operand, usage, example }
}

#[derive(Default)]
struct Parsed {
    subcommand: &'static str,
    options: Vec<(char, String)>,
    extra: Vec<(&'static str, String)>,
    operands: Vec<String>,
    extensions: Extensions,
}

impl Parsed {
    fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(l, _)| *l == letter)
    }

    fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(l, _)| *l == letter).map(|(_, value)| value.as_str())
    }

    fn extra(&self, name: &str) -> Option<&str> {
        self.extra.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| value.as_str())
    }

    fn operand(&self) -> String {
        self.operands.first().cloned().unwrap_or_default()
    }
}

/// How a command line fails.
enum Failure {
    /// Wrong usage: the message, then the usage on stdout, status 1.
    Usage(String),
    /// Refused: the message, then `failed with error`, and that status.
    Refused(ApiError),
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        Self::Refused(error)
    }
}

/// What the manual says.
pub(super) fn page() -> Page {
    let section = |sub: &Subcommand| {
        let letters = OPTIONS.iter().filter(|(letter, _, _)| sub.letters.contains(*letter));
        let choice = |(letter, long, wants): &(char, &'static str, bool)| Choice {
            letter: Some(*letter),
            long,
            argument: wants.then_some("value"),
        };
        let extra = sub.extra.iter().map(|long| Choice { letter: None, long, argument: Some("value") });
        Section {
            name: sub.name,
            // The usage begins with the options; what comes behind them are the operands.
            operands: sub.usage.rsplit("]\n").next().and_then(|rest| rest.rsplit("] ").next()).map_or_else(
                String::new,
                |rest| if sub.operand == Operand::None { String::new() } else { rest.to_owned() },
            ),
            options: letters.map(choice).chain(extra).collect(),
            example: sub.example,
        }
    };
    Page {
        name: "itadm",
        about: "targets, portal groups, initiators and defaults of iSCSI",
        subcommands: SUBCOMMANDS.iter().map(section).collect(),
    }
}

pub(super) fn run(args: &[String], places: Places) -> ExitCode {
    let Some(sub) = args.first().and_then(|name| SUBCOMMANDS.iter().find(|sub| sub.name == name)) else {
        match args.first().map(String::as_str) {
            Some("-?" | "-h" | "--help") => {}
            _ => print_error("Error, no subcommand specified\n"),
        }
        print(&usage());
        return ExitCode::FAILURE;
    };
    let parsed = match parse(sub, &args[1..]) {
        Ok(parsed) => parsed,
        Err(message) => return wrong_usage(sub, &message),
    };
    let mut backend = Backend::new(places.with(&parsed.extensions));
    match execute(sub, &parsed, &mut backend) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => wrong_usage(sub, &message),
        Err(Failure::Refused(error)) if error.kind == ErrorKind::Denied => {
            let right = if sub.name.starts_with("list-") { "read" } else { "modify" };
            print_error(&format!("Error, operation requires authorization solaris.smf.{right}.stmf\n"));
            print_error(&hint_line(&error));
            ExitCode::FAILURE
        }
        Err(Failure::Refused(error)) => {
            print_error(&format!("{error}\n{}", hint_line(&error)));
            print_error(&format!("itadm {} failed with error {}\n", sub.name, error.code));
            ExitCode::from(error.code)
        }
    }
}

fn wrong_usage(sub: &Subcommand, message: &str) -> ExitCode {
    if !message.is_empty() {
        print_error(&format!("{message}\n"));
    }
    print(&format!("usage: itadm {} {}\nexample: itadm {}\n", sub.name, sub.usage, sub.example));
    ExitCode::FAILURE
}

fn usage() -> String {
    let mut text = String::from("usage: itadm <subcommand> <args> ...\n");
    for sub in &SUBCOMMANDS {
        let _ = writeln!(text, "\n    itadm {} {}", sub.name, sub.usage);
    }
    text.push_str("\n'itadm <subcommand> -?' shows an example of it; --json makes every answer JSON.\n");
    text
}

fn parse(sub: &Subcommand, args: &[String]) -> Result<Parsed, String> {
    let mut parsed = Parsed { subcommand: sub.name, ..Parsed::default() };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--" {
            parsed.operands.extend(args.by_ref().cloned());
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
            // `--force` and `--parsable` are COMSTAR's own here.
            if !matches!(name, "force" | "parsable") {
                match parsed.extensions.take(name, value, &mut || args.next().cloned()) {
                    Some(Ok(())) => continue,
                    Some(Err(_)) => return Err(format!("Option {name} requires an operand")),
                    None => {}
                }
            }
            if let Some(extra) = sub.extra.iter().find(|extra| **extra == name) {
                let value = value.map(str::to_owned).or_else(|| args.next().cloned());
                parsed.extra.push((extra, value.ok_or_else(|| format!("Option {name} requires an operand"))?));
                continue;
            }
            let (letter, wants) = long_option(sub, name).ok_or_else(|| format!("Unrecognized option {name}"))?;
            let value = match (wants, value) {
                (false, Some(_)) => return Err(format!("Unrecognized option {long}")),
                (false, None) => String::new(),
                (true, Some(value)) => value.to_owned(),
                (true, None) => args.next().cloned().ok_or_else(|| format!("Option {name} requires an operand"))?,
            };
            parsed.options.push((letter, value));
        } else if arg.len() > 1 && arg.starts_with('-') {
            let letters = arg[1..].char_indices();
            for (at, letter) in letters {
                if matches!(letter, '?' | 'h') {
                    return Err(String::new());
                }
                let option = OPTIONS.iter().find(|(l, _, _)| *l == letter && sub.letters.contains(letter));
                let (_, _, wants) = option.ok_or_else(|| format!("Unrecognized option {letter}"))?;
                if !wants {
                    parsed.options.push((letter, String::new()));
                    continue;
                }
                let value = match &arg[1 + at + letter.len_utf8()..] {
                    "" => args.next().cloned().ok_or_else(|| format!("Option {letter} requires an operand"))?,
                    stuck => stuck.to_owned(),
                };
                parsed.options.push((letter, value));
                break;
            }
        } else {
            parsed.operands.push(arg.clone());
        }
    }
    match (sub.operand, parsed.operands.len()) {
        (Operand::One | Operand::Many, 0) => Err(format!("Error, {} requires an operand", sub.name)),
        (Operand::One | Operand::Optional, 2..) => Err(format!("Error, {} accepts only a single operand", sub.name)),
        (Operand::None, 1..) => Err(format!("Error, {} does not support any operands", sub.name)),
        _ => Ok(parsed),
    }
}

/// An exact long name or the only one that begins so, among all of `itadm`'s, as far as the subcommand takes it.
fn long_option(sub: &Subcommand, name: &str) -> Option<(char, bool)> {
    let exact = OPTIONS.iter().find(|(_, long, _)| *long == name);
    let mut begins = OPTIONS.iter().filter(|(_, long, _)| !name.is_empty() && long.starts_with(name));
    let (letter, _, wants) = match (exact, begins.next(), begins.next()) {
        (Some(exact), _, _) => exact,
        (None, Some(only), None) => only,
        _ => return None,
    };
    sub.letters.contains(*letter).then_some((*letter, *wants))
}

fn execute(sub: &Subcommand, parsed: &Parsed, backend: &mut Backend) -> Result<(), Failure> {
    match sub.name {
        "create-target" => {
            let done = change(backend, parsed, Request::CreateTarget { settings: target_settings(parsed)? })?;
            told(parsed, &done, "created");
        }
        "modify-target" => {
            let settings = target_settings(parsed)?;
            let done = change(backend, parsed, Request::ModifyTarget { target: parsed.operand(), settings })?;
            told(parsed, &done, "modified");
        }
        "delete-target" => {
            change(backend, parsed, Request::DeleteTarget { target: parsed.operand(), force: parsed.has('f') })?;
        }
        "list-target" => list_target(backend, parsed)?,
        "create-tpg" => {
            let portals = parsed.operands[1..].to_vec();
            change(backend, parsed, Request::CreatePortalGroup { name: parsed.operand(), portals })?;
        }
        "delete-tpg" => {
            change(backend, parsed, Request::DeletePortalGroup { name: parsed.operand(), force: parsed.has('f') })?;
        }
        "list-tpg" => list_tpg(backend, parsed)?,
        "create-initiator" => {
            let settings = initiator_settings(parsed)?;
            change(backend, parsed, Request::CreateInitiator { initiator: parsed.operand(), settings })?;
        }
        "modify-initiator" => {
            let settings = initiator_settings(parsed)?;
            change(backend, parsed, Request::ModifyInitiator { initiator: parsed.operand(), settings })?;
        }
        "delete-initiator" => {
            change(backend, parsed, Request::DeleteInitiator { initiator: parsed.operand() })?;
        }
        "list-initiator" => list_initiator(backend, parsed)?,
        "modify-defaults" => {
            change(backend, parsed, Request::ModifyDefaults { settings: defaults_settings(parsed)? })?;
        }
        _ => list_defaults(backend, parsed)?,
    }
    Ok(())
}

fn change(backend: &mut Backend, parsed: &Parsed, request: Request) -> Result<Done, Failure> {
    let Answer::Done(done) = backend.call(request)? else { return Err(unexpected().into()) };
    warn(&done.warnings);
    if parsed.extensions.json {
        print_json(&done);
    }
    Ok(done)
}

fn told(parsed: &Parsed, done: &Done, what: &str) {
    if !parsed.extensions.json {
        print(&format!("Target {} successfully {what}\n", done.name.as_deref().unwrap_or_default()));
    }
}

/// A text, or `none` to unset it.
fn text(parsed: &Parsed, letter: char) -> Field<String> {
    match parsed.value(letter) {
        None => Field::Keep,
        Some("none") => Field::Clear,
        Some(text) => Field::Set(text.to_owned()),
    }
}

/// What to do about a secret that cannot be taken.
const SECRETS: &str = "a secret is typed twice, or is the one line of a regular file, of 12 to 255 characters";

/// A secret that is asked for by one option or read from a file by another.
fn secret_of(parsed: &Parsed, ask: char, file: char, what: &str) -> Result<Field<SecretText>, Failure> {
    let secret = if let Some(path) = parsed.value(file) {
        secret::read_file(path)
    } else if parsed.has(ask) {
        secret::ask(what)
    } else {
        return Ok(Field::Keep);
    };
    match secret {
        Ok(secret) => Ok(Field::Set(SecretText::new(secret.to_string()))),
        Err(message) => Err(ApiError::new(ErrorKind::Invalid, message).hint(SECRETS).into()),
    }
}

fn target_settings(parsed: &Parsed) -> Result<TargetSettings, Failure> {
    Ok(TargetSettings {
        name: parsed.value('n').map(str::to_owned),
        alias: text(parsed, 'l'),
        auth: match parsed.value('a') {
            None => Field::Keep,
            Some("default") => Field::Clear,
            Some(method) => Field::Set(method.to_owned()),
        },
        chap_user: text(parsed, 'u'),
        chap_secret: secret_of(parsed, 's', 'S', "CHAP")?,
        portal_groups: match parsed.value('t') {
            None => Field::Keep,
            Some("default") => Field::Clear,
            Some(names) => Field::Set(names.split(',').map(str::to_owned).collect()),
        },
        redirect: match (parsed.extra("redirect"), parsed.extra("moved")) {
            (None, None) => Field::Keep,
            (Some("none"), None) | (None, Some("none")) => Field::Clear,
            (Some(_), Some(_)) => {
                return Err(Failure::Usage("Options redirect and moved cannot be given together".into()));
            }
            (Some(portals), None) => Field::Set(redirect(portals, false)),
            (None, Some(portals)) => Field::Set(redirect(portals, true)),
        },
    })
}

fn redirect(portals: &str, permanent: bool) -> RedirectSettings {
    RedirectSettings { portals: portals.split(',').map(str::to_owned).collect(), permanent }
}

fn initiator_settings(parsed: &Parsed) -> Result<InitiatorSettings, Failure> {
    Ok(InitiatorSettings { chap_user: text(parsed, 'u'), chap_secret: secret_of(parsed, 's', 'S', "CHAP")? })
}

fn defaults_settings(parsed: &Parsed) -> Result<DefaultsSettings, Failure> {
    let list = |letter| match parsed.value(letter) {
        None => Field::Keep,
        Some("none") => Field::Clear,
        Some(text) => Field::Set(text.split(',').map(str::to_owned).collect::<Vec<_>>()),
    };
    let isns = match parsed.value('i') {
        None => None,
        Some(word) if !word.is_empty() && "enable".starts_with(word) => Some(true),
        Some(word) if !word.is_empty() && "disable".starts_with(word) => Some(false),
        Some(_) => return Err(Failure::Usage("invalid value for -i".into())),
    };
    let isns_servers = list('I');
    if matches!(&isns_servers, Field::Set(servers) if servers.len() > 8) {
        return Err(Failure::Usage("Too many iSNS servers specified, maximum of 8 allowed".into()));
    }
    let discovery_chap = match parsed.extra("discovery-auth") {
        None => None,
        Some("chap") => Some(true),
        Some("none") => Some(false),
        Some(_) => return Err(Failure::Usage("invalid value for --discovery-auth".into())),
    };
    Ok(DefaultsSettings {
        alias: Field::Keep,
        auth: parsed.value('a').map_or(Field::Keep, |method| Field::Set(method.to_owned())),
        radius_servers: list('r'),
        radius_secret: secret_of(parsed, 'd', 'D', "RADIUS")?,
        isns,
        isns_servers,
        discovery_chap,
        chap_minimum: parsed.extra("chap-minimum").map(str::to_owned),
        access: parsed.extra("access").map(str::to_owned),
    })
}

fn list_target(backend: &mut Backend, parsed: &Parsed) -> Result<(), Failure> {
    let Answer::Targets(targets) = backend.call(Request::ListTargets {})? else { return Err(unexpected().into()) };
    let wanted = parsed.operands.first();
    let targets = pick(targets, wanted, |target: &TargetInfo, name| target.name.eq_ignore_ascii_case(name))
        .ok_or_else(|| not_found(parsed, format!("Target {} not found", parsed.operand())))?;
    if parsed.extensions.json {
        print_json(&targets);
        return Ok(());
    }
    let mut text = String::new();
    if !targets.is_empty() && !parsed.has('p') {
        let _ = writeln!(text, "{:<61}{:<9}{:<9}", "TARGET NAME", "STATE", "SESSIONS");
    }
    for target in &targets {
        let state = match target.state {
            Some(ObjectState::Online) => "online",
            Some(_) => "offline",
            None => "-",
        };
        let or_dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".into());
        let groups: Vec<String> = target.portal_groups.iter().map(|(name, tag)| format!("{name} = {tag}")).collect();
        let properties = [
            ("alias:", or_dash(&target.alias)),
            ("auth:", format!("{}{}", target.auth, if target.auth_is_default { " (defaults)" } else { "" })),
            ("targetchapuser:", or_dash(&target.chap_user)),
            ("targetchapsecret:", if target.chap_secret { "set" } else { "unset" }.into()),
            ("tpg-tags:", if groups.is_empty() { "default".into() } else { groups.join(",") }),
        ];
        if parsed.has('p') {
            let _ = write!(text, "{}\t{state}\t{}", target.name, target.sessions);
            for (_, value) in properties.iter().filter(|_| parsed.has('v')) {
                let _ = write!(text, "\t{value}");
            }
            text.push('\n');
            continue;
        }
        // A longer name pushes the columns on: a TAB keeps them apart.
        let gap = if target.name.len() > 60 { "\t" } else { "" };
        let _ = writeln!(text, "{:<61}{gap}{state:<9}{:<9}", target.name, target.sessions);
        for (label, value) in properties.iter().filter(|_| parsed.has('v')) {
            let _ = writeln!(text, "\t{label:<20}\t{value}");
        }
        // COMSTAR has no such line: it is there only when it says something.
        if let Some(redirect) = target.redirect.as_ref().filter(|_| parsed.has('v')) {
            let label = if redirect.permanent { "moved:" } else { "redirect:" };
            let _ = writeln!(text, "\t{label:<20}\t{}", redirect.portals.join(","));
        }
    }
    print(&text);
    Ok(())
}

fn list_tpg(backend: &mut Backend, parsed: &Parsed) -> Result<(), Failure> {
    let Answer::PortalGroups(groups) = backend.call(Request::ListPortalGroups {})? else {
        return Err(unexpected().into());
    };
    let groups = pick(groups, parsed.operands.first(), |group: &PortalGroupInfo, name| group.name == name)
        .ok_or_else(|| not_found(parsed, format!("Target Portal Group {} not found", parsed.operand())))?;
    if parsed.extensions.json {
        print_json(&groups);
        return Ok(());
    }
    let mut text = String::new();
    if !groups.is_empty() && !parsed.has('p') {
        let _ = writeln!(text, "{:<30}{:<9}", "TARGET PORTAL GROUP", "PORTAL COUNT");
    }
    for group in &groups {
        let portals = if group.portals.is_empty() { "<none>".into() } else { group.portals.join(",") };
        if parsed.has('p') {
            let _ = write!(text, "{}\t{}", group.name, group.portals.len());
            if parsed.has('v') {
                let _ = write!(text, "\t{portals}");
            }
        } else {
            let _ = write!(text, "{:<30}{:<9}", group.name, group.portals.len());
            if parsed.has('v') {
                let _ = write!(text, "\n    portals:\t{portals}");
            }
        }
        text.push('\n');
    }
    print(&text);
    Ok(())
}

fn list_initiator(backend: &mut Backend, parsed: &Parsed) -> Result<(), Failure> {
    let Answer::Initiators(initiators) = backend.call(Request::ListInitiators {})? else {
        return Err(unexpected().into());
    };
    let named = |initiator: &InitiatorInfo, name: &str| initiator.name.eq_ignore_ascii_case(name);
    let initiators = pick(initiators, parsed.operands.first(), named)
        .ok_or_else(|| not_found(parsed, format!("Error, initiator {} not found", parsed.operand())))?;
    if parsed.extensions.json {
        print_json(&initiators);
        return Ok(());
    }
    let mut text = String::new();
    if !initiators.is_empty() && !parsed.has('p') {
        let _ = writeln!(text, "{:<61}{:<10}{:<7}", "INITIATOR NAME", "CHAPUSER", "SECRET");
    }
    for initiator in &initiators {
        let user = initiator.chap_user.as_deref().unwrap_or("<none>");
        let secret = if initiator.chap_secret { "set" } else { "unset" };
        let _ = if parsed.has('p') {
            writeln!(text, "{}\t{user}\t{secret}", initiator.name)
        } else {
            writeln!(text, "{:<61}{user:<15}{secret:<4}", initiator.name)
        };
    }
    print(&text);
    Ok(())
}

fn list_defaults(backend: &mut Backend, parsed: &Parsed) -> Result<(), Failure> {
    let Answer::Defaults(defaults) = backend.call(Request::ListDefaults {})? else { return Err(unexpected().into()) };
    if parsed.extensions.json {
        print_json(&defaults);
        return Ok(());
    }
    let DefaultsInfo {
        alias,
        auth,
        radius_servers,
        radius_secret,
        isns,
        isns_servers,
        discovery_chap,
        chap_minimum,
        access,
    } = defaults;
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "<none>".into());
    let listed = |list: Vec<String>| if list.is_empty() { "<none>".into() } else { list.join(",") };
    let lines = [
        ("alias:", or_none(alias)),
        ("auth:", or_none(auth)),
        ("radiusserver:", listed(radius_servers)),
        ("radiussecret:", if radius_secret { "set" } else { "unset" }.into()),
        ("isns:", if isns { "enabled" } else { "disabled" }.into()),
        ("isnsserver:", listed(isns_servers)),
    ];
    if parsed.has('p') {
        let values: Vec<&str> = lines.iter().map(|(_, value)| value.as_str()).collect();
        print(&format!("{}\n", values.join("\t")));
        return Ok(());
    }
    let mut text = String::from("iSCSI Target Default Properties:\n\n");
    // COMSTAR has no such lines: they are there only when they say something.
    let more = [
        ("discoveryauth:", discovery_chap.then(|| "chap".to_owned())),
        ("chapminimum:", Some(chap_minimum).filter(|minimum| minimum != "md5")),
        ("access:", Some(access).filter(|access| access != "all")),
    ];
    let more = more.into_iter().filter_map(|(label, value)| Some((label, value?)));
    for (label, value) in lines.into_iter().chain(more) {
        let _ = writeln!(text, "{label:<15}\t{value}");
    }
    print(&text);
    Ok(())
}

/// The one item that is wanted, or all; `None` if the one is not there.
fn pick<T>(items: Vec<T>, wanted: Option<&String>, named: impl Fn(&T, &str) -> bool) -> Option<Vec<T>> {
    match wanted {
        None => Some(items),
        Some(name) => items.into_iter().find(|item| named(item, name)).map(|item| vec![item]),
    }
}

fn not_found(parsed: &Parsed, message: String) -> Failure {
    ApiError::new(ErrorKind::NotFound, message)
        .hint(format!("'itadm {}' shows what there is", parsed.subcommand))
        .into()
}

//! The command line parser that `stmfadm`, `sbdadm` and `fcinfo` share, to the letter: `CMD SUB [options] [operands]`.
//!
//! Subcommands are spelled in full, in any case. Options follow `getopt_long`: letters can be bundled, an argument
//! may stick to its letter, long options may be abbreviated while that is unambiguous and take `--name=value` or
//! `--name value`, options and operands mix, `--` ends the options. Scripts match on these messages and statuses, so
//! a general parser with messages of its own does not fit.

use std::fmt::Write as _;

use super::help::{Choice, Page, Section};

/// One option of a tool; subcommands choose theirs by letter.
pub(crate) struct OptionSpec {
    pub(crate) letter: char,
    pub(crate) long: &'static str,
    /// What its argument is called in the usage; `None` if it takes none.
    pub(crate) argument: Option<&'static str>,
}

/// How many operands a subcommand takes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operands {
    None,
    One,
    OneOrMore,
    OptionalMany,
}

/// One subcommand.
pub(crate) struct Subcommand {
    pub(crate) name: &'static str,
    /// Letters of the options it needs.
    pub(crate) required: &'static str,
    /// Letters of the options it takes besides.
    pub(crate) optional: &'static str,
    pub(crate) operands: Operands,
    /// What its operand is called in the usage.
    pub(crate) operand: &'static str,
    /// A command line that shows how it is meant, without the tool's name; printed behind the options.
    pub(crate) example: &'static str,
}

impl Subcommand {
    /// Whether it only lists, and so takes `-p` for `--parsable`. Elsewhere the letter is COMSTAR's.
    fn lists(&self) -> bool {
        self.name.starts_with("list-")
    }
}

/// A tool: its name, its options, its subcommands.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) options: &'static [OptionSpec],
    pub(crate) subcommands: &'static [Subcommand],
}

/// Options that every tool takes beyond COMSTAR's. They have no letters and are spelled in full, so that they are in
/// no abbreviation's way.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Extensions {
    /// `--json`: JSON instead of text.
    pub(crate) json: bool,
    /// `--parsable` where COMSTAR has none: TAB separated lines without headers.
    pub(crate) parsable: bool,
    /// `--force`: overwrite the identity of a medium.
    pub(crate) force: bool,
    /// `--new-guid`: import a copy under a new name.
    pub(crate) new_guid: bool,
    /// `--state DIR`.
    pub(crate) state: Option<String>,
    /// `--socket PATH`.
    pub(crate) socket: Option<String>,
}

impl Extensions {
    /// Takes `--name` if it is an extension. `value` is what stood behind `=`, `next` gives the next argument.
    pub(crate) fn take(
        &mut self,
        name: &str,
        value: Option<&str>,
        next: &mut dyn FnMut() -> Option<String>,
    ) -> Option<Result<(), String>> {
        let flag = match name {
            "json" => &mut self.json,
            "parsable" => &mut self.parsable,
            "new-guid" => &mut self.new_guid,
            "force" => &mut self.force,
            "state" | "socket" => {
                let Some(value) = value.map(str::to_owned).or_else(next) else {
                    return Some(Err(format!("option requires an argument -- {name}")));
                };
                let slot = if name == "state" { &mut self.state } else { &mut self.socket };
                *slot = Some(value);
                return Some(Ok(()));
            }
            _ => return None,
        };
        *flag = true;
        Some(Ok(()))
    }
}

/// A command line that can be carried out.
pub(crate) struct Parsed {
    pub(crate) subcommand: &'static str,
    pub(crate) options: Vec<(char, String)>,
    pub(crate) operands: Vec<String>,
    pub(crate) extensions: Extensions,
}

impl Parsed {
    pub(crate) fn has(&self, letter: char) -> bool {
        self.options.iter().any(|(l, _)| *l == letter)
    }

    /// The argument of the last such option.
    pub(crate) fn value(&self, letter: char) -> Option<&str> {
        self.options.iter().rev().find(|(l, _)| *l == letter).map(|(_, value)| value.as_str())
    }

    /// The arguments of all such options, in order.
    pub(crate) fn values(&self, letter: char) -> impl Iterator<Item = &str> {
        self.options.iter().filter(move |(l, _)| *l == letter).map(|(_, value)| value.as_str())
    }
}

/// A command line that ends here: help, version or an error.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Stop {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) status: u8,
}

/// Past this many bytes an option is "too long".
const MAX_OPTION_BYTES: usize = 80;

impl Tool {
    /// Reads the arguments behind the tool's name.
    pub(crate) fn parse(&'static self, args: &[String]) -> Result<Parsed, Stop> {
        let Some((first, rest)) = args.split_first() else {
            return Err(Stop { stdout: self.general_usage(), status: 1, ..Stop::default() });
        };
        if matches!(first.as_str(), "-?" | "--help") {
            let stdout = self.subcommands.iter().map(|sub| self.usage(sub)).collect();
            return Err(Stop { stdout, ..Stop::default() });
        }
        if matches!(first.as_str(), "-V" | "--version") {
            return Err(Stop { stdout: format!("{}: Version 1.0\n", self.name), ..Stop::default() });
        }
        let Some(sub) = self.subcommands.iter().find(|sub| sub.name.eq_ignore_ascii_case(first)) else {
            let stdout = format!("{}: invalid subcommand\n{}", self.name, self.general_usage());
            return Err(Stop { stdout, status: 1, ..Stop::default() });
        };
        self.parse_subcommand(sub, rest)
    }

    fn parse_subcommand(&'static self, sub: &'static Subcommand, args: &[String]) -> Result<Parsed, Stop> {
        let mut parsed = Parsed {
            subcommand: sub.name,
            options: Vec::new(),
            operands: Vec::new(),
            extensions: Extensions::default(),
        };
        let mut args = args.iter();
        while let Some(arg) = args.next() {
            if arg == "--" {
                parsed.operands.extend(args.by_ref().cloned());
            } else if let Some(long) = arg.strip_prefix("--") {
                let (name, value) = long.split_once('=').map_or((long, None), |(name, value)| (name, Some(value)));
                if name.len() > MAX_OPTION_BYTES {
                    return Err(self.refuse(sub, "option too long", 255));
                }
                match parsed.extensions.take(name, value, &mut || args.next().cloned()) {
                    Some(Ok(())) => continue,
                    Some(Err(text)) => return Err(self.refuse(sub, &text, 1)),
                    None => {}
                }
                if name == "help" {
                    return Err(Stop { stdout: self.usage(sub), ..Stop::default() });
                }
                let spec = self.long_option(name).ok_or_else(|| self.invalid(sub, &format!("--{name}")))?;
                let spec = self.check(sub, spec, &format!("--{name}"))?;
                let value = match (spec.argument, value) {
                    (None, Some(_)) => return Err(self.invalid(sub, &format!("--{long}"))),
                    (None, None) => String::new(),
                    (Some(_), Some(value)) => value.to_owned(),
                    (Some(_), None) => args.next().cloned().ok_or_else(|| self.wants_argument(sub, name))?,
                };
                parsed.options.push((spec.letter, value));
            } else if arg.len() > 1 && arg.starts_with('-') {
                let letters = arg[1..].char_indices();
                for (at, letter) in letters {
                    if letter == '?' {
                        return Err(Stop { stdout: self.usage(sub), ..Stop::default() });
                    }
                    if letter == 'p' && sub.lists() {
                        parsed.extensions.parsable = true;
                        continue;
                    }
                    let shown = format!("-{letter}");
                    let spec = self.options.iter().find(|spec| spec.letter == letter);
                    let spec = self.check(sub, spec.ok_or_else(|| self.invalid(sub, &shown))?, &shown)?;
                    if spec.argument.is_none() {
                        parsed.options.push((letter, String::new()));
                        continue;
                    }
                    let stuck = &arg[1 + at + letter.len_utf8()..];
                    let value = match stuck {
                        "" => args.next().cloned().ok_or_else(|| self.wants_argument(sub, &letter.to_string()))?,
                        value => value.to_owned(),
                    };
                    parsed.options.push((letter, value));
                    break;
                }
            } else {
                parsed.operands.push(arg.clone());
            }
        }
        self.check_whole(sub, parsed)
    }

    /// What can only be said once everything has been read.
    fn check_whole(&self, sub: &'static Subcommand, parsed: Parsed) -> Result<Parsed, Stop> {
        let missing: Vec<String> =
            sub.required.chars().filter(|letter| !parsed.has(*letter)).map(String::from).collect();
        if !missing.is_empty() {
            return Err(self.refuse(sub, &format!("Following option(s) required: {}", missing.join(",")), 1));
        }
        match (sub.operands, parsed.operands.len()) {
            (Operands::One | Operands::OneOrMore, 0) => {
                Err(self.refuse(sub, &format!("{} requires an operand", sub.name), 1))
            }
            (Operands::None, 1..) => {
                let stderr = format!("{}: {} takes no operands\n", self.name, sub.name);
                Err(Stop { stdout: self.usage(sub), stderr, status: 1 })
            }
            (Operands::One, 2..) => Err(self.refuse(sub, &format!("{} accepts only a single operand", sub.name), 1)),
            _ => Ok(parsed),
        }
    }

    /// An exact name, or the only one that begins so.
    fn long_option(&self, name: &str) -> Option<&'static OptionSpec> {
        if let Some(exact) = self.options.iter().find(|spec| spec.long == name) {
            return Some(exact);
        }
        // `--help` takes part in abbreviations although it is no entry of the table.
        let mut found = self.options.iter().filter(|spec| !name.is_empty() && spec.long.starts_with(name));
        match (found.next(), found.next()) {
            (Some(only), None) if !"help".starts_with(name) => Some(only),
            _ => None,
        }
    }

    fn check(
        &self,
        sub: &'static Subcommand,
        spec: &'static OptionSpec,
        shown: &str,
    ) -> Result<&'static OptionSpec, Stop> {
        if sub.required.is_empty() && sub.optional.is_empty() {
            return Err(self.refuse(sub, "no options permitted", 1));
        }
        if sub.required.contains(spec.letter) || sub.optional.contains(spec.letter) {
            Ok(spec)
        } else {
            Err(self.invalid(sub, shown))
        }
    }

    fn invalid(&self, sub: &'static Subcommand, shown: &str) -> Stop {
        self.refuse(sub, &format!("'{shown}': invalid option"), 1)
    }

    fn wants_argument(&self, sub: &'static Subcommand, option: &str) -> Stop {
        self.refuse(sub, &format!("option requires an argument -- {option}"), 1)
    }

    /// A message and the subcommand's usage, both on stdout.
    pub(crate) fn refuse(&self, sub: &Subcommand, text: &str, status: u8) -> Stop {
        Stop { stdout: format!("{}: {text}\n{}", self.name, self.usage(sub)), stderr: String::new(), status }
    }

    /// The usage in one line per subcommand.
    pub(crate) fn general_usage(&self) -> String {
        let mut text = format!("Usage:\t{} -?,-V,--help,--version\n", self.name);
        for sub in self.subcommands {
            let _ = writeln!(text, "Usage:\t{} {} [-?]", self.name, sub.name);
        }
        text
    }

    /// The tool as its manual describes it.
    pub(crate) fn page(&self, about: &'static str) -> Page {
        let section = |sub: &Subcommand| Section {
            name: sub.name,
            operands: match sub.operands {
                Operands::None => String::new(),
                Operands::One => sub.operand.to_owned(),
                Operands::OneOrMore => format!("{} ...", sub.operand),
                Operands::OptionalMany => format!("[{} ...]", sub.operand),
            },
            options: self
                .options
                .iter()
                .filter(|spec| sub.required.contains(spec.letter) || sub.optional.contains(spec.letter))
                .map(|spec| Choice { letter: Some(spec.letter), long: spec.long, argument: spec.argument })
                .chain(sub.lists().then_some(Choice { letter: Some('p'), long: "parsable", argument: None }))
                .collect(),
            example: sub.example,
        };
        Page { name: self.name, about, subcommands: self.subcommands.iter().map(section).collect() }
    }

    /// All about one subcommand.
    pub(crate) fn usage(&self, sub: &Subcommand) -> String {
        let mut text = format!("\nUsage:\t{} {}", self.name, sub.name);
        match (sub.required, sub.optional) {
            ("", "") => {}
            ("", _) => text.push_str(" [OPTIONS]"),
            _ => text.push_str(" <OPTIONS>"),
        }
        let operand = sub.operand;
        let _ = match sub.operands {
            Operands::None => Ok(()),
            Operands::One => write!(text, " <{operand}>"),
            Operands::OneOrMore => write!(text, " <{operand} ...>"),
            Operands::OptionalMany => write!(text, " [{operand} ...]"),
        };
        text.push('\n');
        let letters = || sub.required.chars().chain(sub.optional.chars());
        if letters().next().is_some() || sub.lists() {
            text.push_str("\n\tOPTIONS:\n");
        }
        for letter in letters() {
            if let Some(spec) = self.options.iter().find(|spec| spec.letter == letter) {
                let _ = match spec.argument {
                    Some(argument) => writeln!(text, "\t\t-{letter}, --{}  <{argument}>", spec.long),
                    None => writeln!(text, "\t\t-{letter}, --{}", spec.long),
                };
            }
        }
        if sub.lists() {
            text.push_str("\t\t-p, --parsable\n\t\t--json\n");
        }
        if !sub.example.is_empty() {
            let _ = writeln!(text, "\n\tEXAMPLE:\n\t\t{} {}", self.name, sub.example);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static TOOL: Tool = Tool {
        name: "stmfadm",
        options: &[
            OptionSpec { letter: 'a', long: "all", argument: None },
            OptionSpec { letter: 'g', long: "group-name", argument: Some("group-name") },
            OptionSpec { letter: 'h', long: "host-group", argument: Some("host-group") },
            OptionSpec { letter: 's', long: "size", argument: Some("size") },
            OptionSpec { letter: 'v', long: "verbose", argument: None },
        ],
        subcommands: &[
            Subcommand {
                name: "add-member",
                required: "g",
                optional: "",
                operands: Operands::OneOrMore,
                operand: "member",
                example: "",
            },
            Subcommand {
                name: "add-view",
                required: "",
                optional: "ahsv",
                operands: Operands::One,
                operand: "LU-name",
                example: "",
            },
            Subcommand {
                name: "create",
                required: "",
                optional: "",
                operands: Operands::One,
                operand: "name",
                example: "",
            },
            Subcommand {
                name: "list-state",
                required: "",
                optional: "",
                operands: Operands::None,
                operand: "",
                example: "",
            },
        ],
    };

    fn parse(line: &str) -> Result<Parsed, Stop> {
        TOOL.parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn refused(line: &str) -> (String, u8) {
        let stop = parse(line).map(|_| ()).unwrap_err();
        (stop.stdout.lines().next().unwrap_or_default().to_owned(), stop.status)
    }

    #[test]
    fn options_bundle_stick_mix_and_abbreviate() {
        for line in [
            "add-view -av -h GW1 600",
            "add-view 600 -vah GW1",
            "ADD-VIEW -a --verb 600 -hGW1",
            "add-view --host=GW1 --all -v -- 600",
            "add-view --host-group GW1 -va 600",
        ] {
            let parsed = parse(line).unwrap_or_else(|stop| panic!("{line}: {stop:?}"));
            assert_eq!(parsed.subcommand, "add-view");
            assert_eq!(parsed.value('h'), Some("GW1"), "{line}");
            assert!(parsed.has('a') && parsed.has('v'), "{line}");
            assert_eq!(parsed.operands, ["600"], "{line}");
        }
    }

    #[test]
    fn each_parse_error_has_its_words_and_status() {
        for (line, text, status) in [
            ("bogus", "stmfadm: invalid subcommand", 1),
            ("create -v x", "stmfadm: no options permitted", 1),
            ("add-view -x 600", "stmfadm: '-x': invalid option", 1),
            ("add-view -g y 600", "stmfadm: '-g': invalid option", 1),
            ("add-view --bogus 600", "stmfadm: '--bogus': invalid option", 1),
            ("add-view --h GW1 600", "stmfadm: '--h': invalid option", 1),
            ("add-member x", "stmfadm: Following option(s) required: g", 1),
            ("add-member -g", "stmfadm: option requires an argument -- g", 1),
            ("add-member -g x", "stmfadm: add-member requires an operand", 1),
            ("create a b", "stmfadm: create accepts only a single operand", 1),
        ] {
            assert_eq!(refused(line), (text.to_owned(), status), "{line}");
        }
        let long = format!("add-view --{} 600", "x".repeat(81));
        assert_eq!(refused(&long), ("stmfadm: option too long".to_owned(), 255));
    }

    #[test]
    fn superfluous_operands_are_said_on_stderr() {
        let stop = parse("list-state x").map(|_| ()).unwrap_err();
        assert_eq!((stop.stderr.as_str(), stop.status), ("stmfadm: list-state takes no operands\n", 1));
    }

    #[test]
    fn help_and_version_succeed_and_no_arguments_fail() {
        assert_eq!(parse("--version").map(|_| ()).unwrap_err().stdout, "stmfadm: Version 1.0\n");
        for line in ["-?", "--help", "add-view -?", "add-view --help", "add-view -v?"] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().status, 0, "{line}");
        }
        let stop = parse("").map(|_| ()).unwrap_err();
        assert_eq!(stop.status, 1);
        assert!(stop.stdout.starts_with("Usage:\tstmfadm -?,-V,--help,--version\nUsage:\tstmfadm add-member [-?]\n"));
    }

    #[test]
    fn the_usage_of_a_subcommand_lists_its_options() {
        let stop = parse("add-member -?").map(|_| ()).unwrap_err();
        let text =
            "\nUsage:\tstmfadm add-member <OPTIONS> <member ...>\n\n\tOPTIONS:\n\t\t-g, --group-name  <group-name>\n";
        assert_eq!(stop.stdout, text);
    }

    #[test]
    fn p_is_for_programs_where_something_is_listed() {
        for line in ["list-state -p", "list-state --parsable"] {
            assert!(parse(line).ok().unwrap().extensions.parsable, "{line}");
        }
        assert_eq!(refused("add-view -p 600").0, "stmfadm: '-p': invalid option");
    }

    #[test]
    fn extensions_are_spelled_in_full_anywhere() {
        let parsed = parse("add-view --json 600 --state=/tmp/x --socket /tmp/y --si 5").ok().unwrap();
        assert!(parsed.extensions.json);
        assert_eq!(parsed.extensions.state.as_deref(), Some("/tmp/x"));
        assert_eq!(parsed.extensions.socket.as_deref(), Some("/tmp/y"));
        assert_eq!(parsed.value('s'), Some("5"));
        assert_eq!(refused("add-view --jso 600").0, "stmfadm: '--jso': invalid option");
    }
}

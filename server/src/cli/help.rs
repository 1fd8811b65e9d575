//! Manual pages and completion scripts of COMSTAR's commands, from the tables that their parsers go by.

use std::fmt::Write as _;

/// A command as it is documented.
pub(super) struct Page {
    pub(super) name: &'static str,
    pub(super) about: &'static str,
    pub(super) subcommands: Vec<Section>,
}

/// A subcommand.
pub(super) struct Section {
    pub(super) name: &'static str,
    /// Operands as the usage shows them; empty for none.
    pub(super) operands: String,
    pub(super) options: Vec<Choice>,
    /// A command line, without the command's name.
    pub(super) example: &'static str,
}

/// An option.
pub(super) struct Choice {
    /// `None` for options that only have a long name.
    pub(super) letter: Option<char>,
    pub(super) long: &'static str,
    /// What its argument is called.
    pub(super) argument: Option<&'static str>,
}

/// All commands but `lunette` itself.
pub(super) fn pages() -> Vec<Page> {
    let [fcinfo, fcadm] = super::fcinfo::pages();
    vec![super::stmfadm::page(), super::sbdadm::page(), super::itadm::page(), fcinfo, fcadm]
}

/// The manual page, for section 8.
pub(super) fn manual(page: &Page) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!(".TH {} 8 \"\" \"lunette {version}\"\n", page.name.to_uppercase());
    let _ = writeln!(text, ".SH NAME\n{} \\- {}", page.name, roff(page.about));
    text.push_str(".SH SYNOPSIS\n");
    for section in &page.subcommands {
        let _ = writeln!(text, ".B {} {}", page.name, roff(section.name));
        for choice in &section.options {
            let argument = choice.argument.map(|argument| format!(" \\fI{}\\fR", roff(argument))).unwrap_or_default();
            let _ = writeln!(text, "[\\fB{}\\fR{argument}]", roff(&choice.shown()));
        }
        let _ = writeln!(text, "{}\n.br", roff(&section.operands));
    }
    let _ = writeln!(
        text,
        ".SH DESCRIPTION\n\\fB{}\\fR is a personality of \\fBlunette\\fR(1) with the grammar, output and messages of \
         COMSTAR's command of that name. It talks to a running server through its management socket; with none running, \
         what only needs the configuration is done on the state directory itself.",
        page.name
    );
    text.push_str(
        ".SH OPTIONS OF EVERY SUBCOMMAND\n.TP\n\\fB\\-\\-json\\fR\nJSON instead of text: what is listed, or what was done.\n.TP\n\\fB\\-\\-parsable\\fR\nLines of \
         fields separated by tabs, without headers; \\fB\\-p\\fR of every \\fBlist\\fR subcommand.\n.TP\n\\fB\\-\\-state\\fR \\fIDIR\\fR, \\fB\\-\\-socket\\fR \\fIPATH\\fR\nWhich \
         server is meant; else \\fBLUNETTE_STATE\\fR, \\fBLUNETTE_SOCKET\\fR, or their defaults.\n",
    );
    text.push_str(".SH EXAMPLES\n.nf\n");
    for section in &page.subcommands {
        let _ = writeln!(text, "{} {}", page.name, roff(section.example));
    }
    text.push_str(".fi\n");
    text.push_str(
        ".SH EXIT STATUS\n0: done. Otherwise refused; the reason is on standard error, with a hint what to do.\n",
    );
    text.push_str(".SH SEE ALSO\n\\fBlunette\\fR(1), \\fBstmfadm\\fR(8), \\fBsbdadm\\fR(8), \\fBitadm\\fR(8), \\fBfcinfo\\fR(8)\n");
    text
}

impl Choice {
    /// As on a command line.
    fn shown(&self) -> String {
        match self.letter {
            Some(letter) => format!("-{letter}|--{}", self.long),
            None => format!("--{}", self.long),
        }
    }
}

fn roff(text: &str) -> String {
    let text = text.replace('\\', "\\e").replace('-', "\\-");
    text.strip_prefix('.').map(|rest| format!("\\&.{rest}")).unwrap_or(text)
}

/// The words that complete the command line of a subcommand.
fn words(section: &Section) -> String {
    let mut words = Vec::new();
    for choice in &section.options {
        words.extend(choice.letter.map(|letter| format!("-{letter}")));
        words.push(format!("--{}", choice.long));
    }
    for extension in ["--json", "--parsable", "--state", "--socket"] {
        if !words.iter().any(|word| word == extension) {
            words.push(extension.into());
        }
    }
    words.join(" ")
}

/// What follows clap's script for `lunette` in bash.
pub(super) fn bash() -> String {
    let pages = pages();
    let mut text = String::from(
        "\n_lunette_personality() {\n    local cur=${COMP_WORDS[COMP_CWORD]} words=\n    case \"${COMP_WORDS[0]##*/} \
         $([ \"$COMP_CWORD\" -gt 1 ] && echo \"${COMP_WORDS[1]}\")\" in\n",
    );
    for page in &pages {
        let names: Vec<&str> = page.subcommands.iter().map(|section| section.name).collect();
        let _ = writeln!(text, "        \"{} \") words=\"{}\" ;;", page.name, names.join(" "));
        for section in &page.subcommands {
            let _ = writeln!(text, "        \"{} {}\") words=\"{}\" ;;", page.name, section.name, words(section));
        }
    }
    let names: Vec<&str> = pages.iter().map(|page| page.name).collect();
    let _ = write!(
        text,
        "    esac\n    COMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n    [ ${{#COMPREPLY[@]}} -gt 0 ] || \
         COMPREPLY=($(compgen -f -- \"$cur\"))\n}}\n\ncomplete -o filenames -F _lunette_personality {}\n",
        names.join(" ")
    );
    text
}

/// What follows clap's script for `lunette` in zsh.
pub(super) fn zsh() -> String {
    let mut text = String::new();
    for page in pages() {
        let names: Vec<&str> = page.subcommands.iter().map(|section| section.name).collect();
        let _ = write!(
            text,
            "\n_{0}() {{\n    if (( CURRENT == 2 )); then\n        compadd -- {1}\n        return\n    fi\n    case $words[2] \
             in\n",
            page.name,
            names.join(" ")
        );
        for section in &page.subcommands {
            let _ = writeln!(
                text,
                "        {}) [[ $words[CURRENT] == -* ]] && compadd -- {} ;;",
                section.name,
                words(section)
            );
        }
        let _ = write!(text, "    esac\n    [[ $words[CURRENT] == -* ]] || _files\n}}\ncompdef _{0} {0}\n", page.name);
    }
    text
}

/// What follows clap's script for `lunette` in fish.
pub(super) fn fish() -> String {
    let mut text = String::new();
    for page in pages() {
        for section in &page.subcommands {
            let (tool, sub) = (page.name, section.name);
            let _ = writeln!(text, "complete -c {tool} -n __fish_use_subcommand -f -a {sub}");
            for choice in &section.options {
                let letter = choice.letter.map(|letter| format!(" -s {letter}")).unwrap_or_default();
                let argument = if choice.argument.is_some() { " -r" } else { "" };
                let _ = writeln!(
                    text,
                    "complete -c {tool} -n '__fish_seen_subcommand_from {sub}'{letter} -l {}{argument}",
                    choice.long
                );
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_subcommand_and_option_stands_in_page_and_scripts() {
        let scripts = [bash(), zsh(), fish()];
        for page in pages() {
            let manual = manual(&page);
            for section in &page.subcommands {
                assert!(manual.contains(&roff(section.name)), "{} {}", page.name, section.name);
                assert!(scripts.iter().all(|script| script.contains(section.name)));
                for choice in &section.options {
                    assert!(manual.contains(&roff(choice.long)), "{} {}", page.name, choice.long);
                    assert!(scripts.iter().all(|script| script.contains(choice.long)), "{}", choice.long);
                }
            }
        }
    }

    #[test]
    fn bash_completes_with_what_the_parser_knows() {
        let script = format!(
            "{}\nCOMP_WORDS=(stmfadm add-v); COMP_CWORD=1; _lunette_personality; echo ${{COMPREPLY[@]}}; \
                              COMP_WORDS=(/usr/sbin/stmfadm add-view --host); COMP_CWORD=2; _lunette_personality; echo \
                              ${{COMPREPLY[@]}}",
            bash()
        );
        let Ok(output) = std::process::Command::new("bash").args(["--norc", "-c", &script]).output() else {
            eprintln!("skipped: there is no bash");
            return;
        };
        assert_eq!(String::from_utf8_lossy(&output.stdout), "add-view\n--host-group\n");
    }
}

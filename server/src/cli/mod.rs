//! The commands: `lunette`, and COMSTAR's `stmfadm`, `sbdadm`, `itadm`, `fcinfo` and `fcadm` as personalities of it.
//!
//! A personality is chosen by the name the program is called by, or by the first word: `lunette stmfadm list-lu`.
//! All of them are clients of the management API; with no server running, what only needs the configuration is done
//! on the state directory itself.

mod backend;
mod fc;
mod fcinfo;
mod getopt;
mod help;
mod itadm;
mod lunette;
mod sbdadm;
mod secret;
mod serve;
mod stmfadm;
mod terminal;
mod vhost;

use std::ffi::OsString;
use std::process::ExitCode;

use backend::Places;

/// The names under which the program is one of COMSTAR's commands.
const PERSONALITIES: [&str; 5] = ["stmfadm", "sbdadm", "itadm", "fcinfo", "fcadm"];

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

/// Runs a command line; the first word is the name the program is called by.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut args = args.into_iter();
    let called = args.next().unwrap_or_else(|| "lunette".into());
    let called =
        std::path::Path::new(&called).file_name().and_then(|name| name.to_str()).unwrap_or("lunette").to_owned();
    let args: Vec<OsString> = args.collect();
    if let Some(name) = PERSONALITIES.into_iter().find(|name| *name == called) {
        return personality(name, &args, Places::default());
    }
    // Global options may stand before a personality: lunette --state DIR stmfadm ...
    let mut places = Places::default();
    let mut rest = args.as_slice();
    while let Some((first, behind)) = rest.split_first() {
        let first = first.to_string_lossy();
        let (name, value) = first.split_once('=').map_or((&*first, None), |(name, value)| (name, Some(value)));
        let slot = match name {
            "--state" => &mut places.state,
            "--socket" => &mut places.socket,
            _ => break,
        };
        match (value, behind.split_first()) {
            (Some(value), _) => {
                *slot = Some(value.into());
                rest = behind;
            }
            (None, Some((value, behind))) => {
                *slot = Some(value.into());
                rest = behind;
            }
            (None, None) => break,
        }
    }
    let first = rest.first().and_then(|word| word.to_str()).unwrap_or_default();
    match PERSONALITIES.into_iter().find(|name| *name == first) {
        Some(name) => personality(name, &rest[1..], places),
        None => lunette::run(&args),
    }
}

fn personality(name: &'static str, args: &[OsString], places: Places) -> ExitCode {
    let args: Vec<String> = args.iter().map(|arg| arg.to_string_lossy().into_owned()).collect();
    match name {
        "stmfadm" => stmfadm::run(&args, places),
        "sbdadm" => sbdadm::run(&args, places),
        "itadm" => itadm::run(&args, places),
        name => fcinfo::run(name, &args, places),
    }
}

//! Words for people: what goes to stdout and stderr.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use serde::Serialize;

use super::getopt::Stop;
use crate::admin::ApiError;

/// Writes to stdout. A reader that has gone away (`| head`) is no error.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Writes to stderr.
pub(crate) fn print_error(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Writes JSON to stdout, for people to read and programs to parse.
pub(crate) fn print_json(value: &impl Serialize) {
    print(&format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default()));
}

/// An error of a command: its name, the words, and what to do.
pub(crate) fn complain(command: &str, error: &ApiError) {
    print_error(&format!("{command}: {error}\n{}", hint_line(error)));
}

/// What to do about an error, as a line.
pub(crate) fn hint_line(error: &ApiError) -> String {
    // What has no hint of its own is nothing an administrator did.
    let hint = error.hint.as_deref().unwrap_or("'lunette status' and the server's log say more");
    format!("hint: {hint}\n")
}

/// What a command did and the administrator should know.
pub(crate) fn warn(warnings: &[String]) {
    for warning in warnings {
        print_error(&format!("warning: {warning}\n"));
    }
}

/// A command line that ends before anything was done.
pub(crate) fn stop(stop: &Stop) -> ExitCode {
    print_error(&stop.stderr);
    print(&stop.stdout);
    ExitCode::from(stop.status)
}

/// How many things failed, as an exit status.
pub(crate) fn failures(count: usize) -> ExitCode {
    ExitCode::from(count.min(255) as u8)
}

/// Whether stdout is a terminal that wants colour.
pub(crate) fn colour() -> bool {
    std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// A time as C's `ctime` writes it, in the local time zone: `Fri Dec 19 01:47:07 2008`.
pub(crate) fn ctime(time: std::time::SystemTime) -> String {
    let zoned = jiff::Timestamp::try_from(time).unwrap_or_default().to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%a %b %e %H:%M:%S %Y").to_string()
}

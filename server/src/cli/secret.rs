//! Secrets from an administrator: typed without echo, or read from a file.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::path::Path;

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// The longest line taken as a secret, in bytes; anything longer than 255 is refused anyway.
const MAX_LINE_BYTES: u64 = 4096;

/// Asks for a secret twice, as `Enter CHAP secret: ` and `Re-enter secret: `. From a terminal without echo; otherwise
/// two lines of stdin.
///
/// # Errors
/// The message to print.
pub(crate) fn ask(what: &str) -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("Secret validation failed: {error}");
    let first = prompt(&format!("Enter {what} secret: ")).map_err(failed)?;
    let second = prompt("Re-enter secret: ").map_err(failed)?;
    if *first != *second {
        return Err("Secret validation failed".into());
    }
    check(first)
}

/// Reads a secret from a file; a newline at its end does not belong to it.
///
/// # Errors
/// The message to print.
pub(crate) fn read_file(path: &str) -> Result<Zeroizing<String>, String> {
    let failed = |error: io::Error| format!("Could not open secret file {path}: {}", words(&error));
    let file = File::open(Path::new(path)).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(format!("Invalid secret file {path}"));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_LINE_BYTES).read_to_string(&mut text).map_err(|_| format!("Invalid secret file {path}"))?;
    let length = text.trim_end_matches(['\n', '\r']).len();
    text.truncate(length);
    check(text)
}

fn check(secret: Zeroizing<String>) -> Result<Zeroizing<String>, String> {
    if (12..=255).contains(&secret.len()) {
        Ok(secret)
    } else {
        Err("Secret must be between 12 and 255 characters".into())
    }
}

fn prompt(text: &str) -> io::Result<Zeroizing<String>> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        let _ = io::stderr().write_all(format!("{text}\n").as_bytes());
        return read_line(&mut stdin.lock());
    }
    let mut terminal = File::options().read(true).write(true).open("/dev/tty")?;
    terminal.write_all(text.as_bytes())?;
    let line = {
        let _silent = Silence::begin(&terminal)?;
        read_line(&mut BufReader::new(&terminal))
    };
    terminal.write_all(b"\n")?;
    line
}

fn read_line(from: &mut impl BufRead) -> io::Result<Zeroizing<String>> {
    let mut line = Zeroizing::new(String::new());
    from.take(MAX_LINE_BYTES).read_line(&mut line)?;
    let length = line.trim_end_matches(['\n', '\r']).len();
    line.truncate(length);
    Ok(line)
}

/// Echo is off while this lives.
struct Silence<'a, F: AsFd> {
    terminal: &'a F,
    before: Termios,
}

impl<'a, F: AsFd> Silence<'a, F> {
    fn begin(terminal: &'a F) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        tcsetattr(terminal, OptionalActions::Flush, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl<F: AsFd> Drop for Silence<'_, F> {
    fn drop(&mut self) {
        // Nothing can be done if the terminal is gone.
        let _ = tcsetattr(self.terminal, OptionalActions::Flush, &self.before);
    }
}

/// What C's `strerror` says: without Rust's "(os error N)".
fn words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

//! `cargo xtask compliance`: writes docs/compliance/scsi.md. The test that compares it is the one that writes it.

use crate::process::run_limited;
use crate::report::tail;
use crate::workspace;
use anyhow::{Result, bail};
use std::process::ExitCode;
use std::time::Duration;

const HELP: &str = "\
Writes docs/compliance/scsi.md: every command and page, implemented with its test or refused with the reason.

Usage: cargo xtask compliance

It is made from the command table and from what a logical unit answers. `cargo xtask test` compares.
";

/// `cargo xtask compliance`.
pub(crate) fn main(arguments: &[String]) -> Result<ExitCode> {
    match arguments.first().map(String::as_str) {
        None => {}
        Some("--help" | "-h") => {
            print!("{HELP}");
            return Ok(ExitCode::SUCCESS);
        }
        Some(other) => bail!("no option '{other}'\n\n{HELP}"),
    }
    let mut command = workspace::cargo();
    command.args(["test", "--package", "lu-sbd", "--test", "compliance"]).env("LUNETTE_WRITE_COMPLIANCE", "1");
    let log = workspace::log_directory()?.join("compliance.log");
    let finished = run_limited("cargo", command, Duration::from_secs(30 * 60), &log)?;
    if !finished.success() {
        bail!("the page was not written:\n{}", tail(&finished.output, 60, ""));
    }
    println!("docs/compliance/scsi.md is written");
    Ok(ExitCode::SUCCESS)
}

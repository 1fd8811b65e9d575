//! The smallest disks with a store of their own, one in each language: real initiators use each of them alike.

use crate::conformance::suite::{self, Verdict};
use crate::packages::Need;
use crate::process::{Running, find, run_limited, tethered};
use crate::report::{Tally, tail};
use crate::scratch::Scratch;
use crate::{c, python, workspace};
use anyhow::{Context, Result, bail, ensure};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the programs serve.
const DISK_BYTES: u64 = 64 << 20;

/// How long a program may take until it tells its URL, and one client to finish.
const LIMIT: Duration = Duration::from_secs(120);

/// Tests of iscsi-test-cu that every disk passes. They read and write in every length, go past the end, compare,
/// reserve, reset, and send what is not allowed.
#[rustfmt::skip]
const TESTS: [&str; 60] = [
    "CompareAndWrite.Simple", "CompareAndWrite.DpoFua", "CompareAndWrite.Miscompare",
    "GetLBAStatus.Simple",
    "Inquiry.Standard", "Inquiry.AllocLength", "Inquiry.EVPD", "Inquiry.MandatoryVPDSBC", "Inquiry.SupportedVPD",
    "Mandatory.MandatorySBC",
    "ModeSense6.AllPages", "ModeSense6.Control-SWP", "ModeSense6.Residuals",
    "MultipathIO.Simple", "MultipathIO.Reset",
    "OrWrite.Simple", "OrWrite.Verify",
    "Prefetch10.Simple",
    "PrinReadKeys.Simple", "ProutRegister.Simple", "ProutReserve.AccessEA", "ProutReserve.AccessWERO", "ProutClear.Simple",
    "Read6.Simple", "Read6.BeyondEol",
    "Read10.Simple", "Read10.BeyondEol", "Read10.ZeroBlocks", "Read10.DpoFua", "Read10.Async",
    "Read12.Simple", "Read16.Simple", "Read16.BeyondEol",
    "ReadCapacity10.Simple", "ReadCapacity16.Simple",
    "ReportSupportedOpcodes.Simple",
    "Reserve6.Simple", "Reserve6.LUNReset",
    "TestUnitReady.Simple",
    "Verify10.Simple", "Verify10.Mismatch", "Verify16.Mismatch",
    "Write10.Simple", "Write10.BeyondEol", "Write10.ZeroBlocks", "Write10.WriteProtect", "Write10.Async",
    "Write12.Simple", "Write16.Simple", "Write16.BeyondEol",
    "WriteSame10.Simple", "WriteSame16.Simple", "WriteSame16.BeyondEol",
    "WriteVerify10.Simple", "WriteVerify16.Simple",
    "iSCSIcmdsn.iSCSICmdSnTooHigh", "iSCSIdatasn.iSCSIDataSnInvalid",
    "iSCSIResiduals.Read10Residuals", "iSCSIResiduals.Write10Residuals",
    "iSCSITMF.AbortTaskSimpleAsync",
];

/// A program that serves one disk, prints its URL and stays until it is killed; or why it cannot be had here.
type Program = fn(&Scratch) -> Result<std::result::Result<Command, String>>;

const DISKS: [(&str, Program); 3] = [("Rust", rust), ("Python", in_python), ("C", in_c)];

/// Every disk in turn: `iscsi-inq`, `qemu-img convert` and `compare`, the tests. Gives the tally, a few words, and what
/// to show of the failures.
pub(crate) fn run() -> Result<(Tally, String, String)> {
    let (mut tally, mut note, mut details) = (Tally::default(), String::new(), String::new());
    for (language, program) in DISKS {
        match one(program) {
            Ok(Ok((counted, failures))) => {
                tally += counted;
                for failure in failures {
                    writeln!(details, "    {language}: {failure}")?;
                }
            }
            Ok(Err(reason)) => {
                tally += Tally::SKIPPED;
                write!(note, "; {language} left out: {reason}")?;
            }
            Err(error) => {
                tally += Tally::FAILED;
                writeln!(details, "    {language}: {error:#}")?;
            }
        }
    }
    Ok((tally, format!("{tally}{note}"), details))
}

fn one(program: Program) -> Result<std::result::Result<(Tally, Vec<String>), String>> {
    if let Some(reason) = Need::Libiscsi.missing() {
        return Ok(Err(reason));
    }
    let scratch = Scratch::new("ram-disk")?;
    let mut command = match program(&scratch)? {
        Ok(command) => command,
        Err(reason) => return Ok(Err(reason)),
    };
    // One of them ends with its input.
    command.stdin(Stdio::piped());
    let mut running = Running::start("the RAM disk", command, &scratch.join("disk.log"))?;
    let url = url(&mut running)?;
    let (mut tally, mut failures) = (Tally::default(), Vec::new());
    let mut told = |name: &str, result: Result<()>| match result {
        Ok(()) => tally += Tally::PASSED,
        Err(error) => {
            tally += Tally::FAILED;
            failures.push(format!("{name}: {error:#}"));
        }
    };
    told("iscsi-inq", inquiry(&scratch, &url));
    match Need::Qemu.missing() {
        None => told("qemu-img", convert_and_compare(&scratch, &url)),
        Some(reason) => println!("    no qemu-img convert and compare: {reason}"),
    }
    for name in TESTS {
        told(name, test(&scratch, name, &url));
        if let Some(status) = running.poll() {
            bail!("{name}: the disk ended with {status}\n{}", tail(&running.log(), 20, "    | "));
        }
    }
    Ok(Ok((tally, failures)))
}

fn url(running: &mut Running) -> Result<String> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let log = running.log();
        if let Some((line, _)) = log.split_once('\n')
            && line.starts_with("iscsi://")
        {
            return Ok(line.trim().to_owned());
        }
        if running.poll().is_some() || Instant::now() >= deadline {
            bail!("it tells no URL\n{}", tail(&log, 20, "    | "));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn inquiry(scratch: &Scratch, url: &str) -> Result<()> {
    let mut command = tethered("iscsi-inq");
    command.arg(url);
    let finished = run_limited("iscsi-inq", command, LIMIT, &scratch.join("inq.log"))?;
    ensure!(finished.success() && finished.output.contains("LUNETTE"), "{}\n{}", finished.verdict(), finished.output);
    Ok(())
}

fn convert_and_compare(scratch: &Scratch, url: &str) -> Result<()> {
    // No two blocks are alike, and none is empty.
    let content: Vec<u8> =
        (0..DISK_BYTES / 8).flat_map(|word| (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1).to_le_bytes()).collect();
    let image = scratch.join("image");
    std::fs::write(&image, content).with_context(|| format!("cannot write '{}'", image.display()))?;
    let convert: &[&str] = &["convert", "-n", "-f", "raw", "-O", "raw"];
    for words in [convert, &["compare", "-f", "raw", "-F", "raw"]] {
        let mut command = tethered("qemu-img");
        command.args(words).arg(&image).arg(url);
        let finished = run_limited("qemu-img", command, LIMIT, &scratch.join("qemu.log"))?;
        ensure!(finished.success(), "{}: {}\n{}", words[0], finished.verdict(), finished.output);
    }
    Ok(())
}

fn test(scratch: &Scratch, name: &str, url: &str) -> Result<()> {
    let finished = suite::run_test(scratch, &format!("ALL.{name}"), url)?;
    let (verdict, reason) = suite::judge(&finished);
    ensure!(verdict == Verdict::Passed, "{verdict}: {reason}");
    Ok(())
}

fn rust(scratch: &Scratch) -> Result<std::result::Result<Command, String>> {
    let mut build = workspace::cargo();
    build.args(["build", "--package", "lunette", "--example", "ram_disk", "--quiet"]);
    let finished = run_limited("cargo build", build, 15 * LIMIT, &scratch.join("build.log"))?;
    ensure!(finished.success(), "the example does not build\n{}", finished.output);
    Ok(Ok(tethered(workspace::target_directory()?.join("debug/examples/ram_disk"))))
}

fn in_python(_: &Scratch) -> Result<std::result::Result<Command, String>> {
    Ok(python::interpreter()?.map(|interpreter: PathBuf| {
        let mut command = tethered(interpreter);
        command.arg(workspace::root().join("python/examples/ram_disk.py"));
        command
    }))
}

fn in_c(scratch: &Scratch) -> Result<std::result::Result<Command, String>> {
    if find("cc").is_none() || find("pkg-config").is_none() {
        return Ok(Err("no pkg-config or no C compiler".into()));
    }
    c::program(&workspace::root().join("ffi/examples/ramdisk.c"), scratch).map(Ok)
}

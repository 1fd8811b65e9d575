//! The project's own commands: `cargo xtask COMMAND`.
//!
//! Nothing here is shipped. The crate stays small on purpose (two dependencies, none of the workspace's crates), so that
//! `cargo xtask test` shows its first step seconds after it was typed on a fresh checkout.

mod bench_loops;
mod bench_path;
mod bench_peers;
mod c;
mod compliance;
mod conformance;
mod deb;
mod fuzz;
mod initiator;
mod interop;
mod kernel;
mod packages;
mod process;
mod python;
mod ram_disks;
mod report;
mod scratch;
mod test;
mod workspace;

use std::process::ExitCode;

const HELP: &str = "\
The project's own commands.

Usage: cargo xtask COMMAND [OPTIONS]

Commands:
  test         Install what the tests need and run everything; the gate
  interop      Run real initiators against a target
  compliance   Write the page of commands and pages that the tests compare
  conformance  Run libiscsi's iscsi-test-cu, every test by itself, and compare with the committed table
  bench-loops  Measure the target under different loops
  bench-path   Count the instructions of a command, and where they go
  bench-peers  Measure the target beside others and write docs/performance.md
  wheel        Build the wheel of the Python package
  bench-python Measure disks that are Python objects against a disk in memory
  initiator-soak  Log in and check random I/O for a while, against tgt, istgt and ourselves
  header       Make the C header anew
  install-c    Install the C library, its header and its pkg-config file
  kernel-test  Let the Linux kernel's initiator use the server, in QEMU
  deb          Make the Debian package
  fuzz         Run the fuzzers for a while (nightly toolchain and cargo-fuzz)

`cargo xtask COMMAND --help` says more.

Example: cargo xtask test --only clippy --only test
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next();
    let rest: Vec<String> = arguments.collect();
    let result = match command.as_deref() {
        Some("test") => test::main(&rest),
        Some("interop") => interop::main(&rest),
        Some("compliance") => compliance::main(&rest),
        Some("conformance") => conformance::main(&rest),
        Some("bench-peers") => bench_peers::main(&rest),
        Some("bench-loops") => bench_loops::main(&rest),
        Some("bench-path") => bench_path::main(&rest),
        Some("wheel") => python::wheel(&rest),
        Some("bench-python") => python::bench(&rest),
        Some("initiator-soak") => initiator::main(&rest),
        Some("header") => c::header(&rest),
        Some("install-c") => c::install_command(&rest),
        Some("kernel-test") => kernel::main(&rest),
        Some("deb") => deb::main(&rest),
        Some("fuzz") => fuzz::main(&rest),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(other) => {
            eprintln!("xtask: no command '{other}'\n\n{HELP}");
            return ExitCode::from(2);
        }
        None => {
            eprint!("{HELP}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

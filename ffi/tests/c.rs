//! The C programs: built with warnings as errors, run under AddressSanitizer, and under valgrind where it is installed.

mod common;

use common::{Build, Scratch, has, run};
use std::process::Command;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(300);

/// Builds a test program with AddressSanitizer, where the compiler has it, and runs it.
fn sanitized(name: &str, arguments: &[&str]) {
    let scratch = Scratch::new();
    let source = scratch.tests().join(format!("{name}.c"));
    let mut build = Build::c(&source);
    if scratch.sanitizer_works() {
        build = build.flag("-fsanitize=address,undefined").flag("-fno-sanitize-recover=all");
    }
    let program = scratch.build(&build);
    let mut command = scratch.command(&program);
    command.args(arguments);
    let said = run(command, LIMIT);
    assert!(said.trim_end().ends_with(&format!("{name}: ok")), "{said}");
}

#[test]
fn a_server_serves() {
    let directory = tempfile::tempdir().expect("a directory");
    sanitized("server", &[directory.path().to_str().expect("a path in UTF-8")]);
}

#[test]
fn stores_err_sleep_and_forget() {
    sanitized("stores", &[]);
}

#[test]
fn bad_use_has_a_code() {
    sanitized("bad_use", &[]);
}

/// 1,000 rounds of connect, login, I/O and logout; AddressSanitizer's leak check looks at the end.
#[test]
fn an_event_loop_serves_and_leaks_nothing() {
    sanitized("event_loop", &["1000"]);
}

/// The same 1,000 rounds, or as many as `LUNETTE_VALGRIND_ROUNDS` says, and what else may go wrong.
#[test]
fn valgrind_finds_nothing() {
    if !has("valgrind") {
        eprintln!("skipped: no valgrind");
        return;
    }
    let scratch = Scratch::new();
    let rounds = std::env::var("LUNETTE_VALGRIND_ROUNDS").unwrap_or_else(|_| "1000".into());
    for (name, argument) in [("event_loop", Some(rounds.as_str())), ("bad_use", None), ("stores", None)] {
        let program = scratch.build(&Build::c(&scratch.tests().join(format!("{name}.c"))));
        let mut command = Command::new("valgrind");
        command
            .env("LUNETTE_TEST_EPOLL", "1")
            .args(["--quiet", "--fair-sched=yes", "--error-exitcode=9", "--leak-check=full"])
            .arg("--errors-for-leak-kinds=definite,indirect")
            .arg(format!("--suppressions={}", scratch.tests().join("valgrind.supp").display()))
            .arg(&program)
            .args(argument);
        scratch.environment(&mut command);
        let said = run(command, LIMIT);
        assert!(said.contains(&format!("{name}: ok")), "{said}");
    }
}

#[test]
fn the_header_stands_alone_in_c_and_in_cpp() {
    let scratch = Scratch::new();
    let source = scratch.tests().join("header.c");
    for standard in ["-std=c99", "-std=c11", "-std=c23"] {
        let build = Build::c(&source).flag(standard).flag("-pedantic");
        if standard == "-std=c23" && !scratch.compiles(&build) {
            // Compilers before 2024 call it otherwise.
            continue;
        }
        let program = scratch.build(&build);
        run(scratch.command(&program), LIMIT);
    }
    if !has("c++") {
        eprintln!("skipped: no C++ compiler");
        return;
    }
    for standard in ["-std=c++11", "-std=c++20"] {
        let build = Build::cpp(&source).flag(standard).flag("-pedantic");
        let program = scratch.build(&build);
        run(scratch.command(&program), LIMIT);
    }
}

#[test]
fn the_library_has_its_soname() {
    let scratch = Scratch::new();
    let program = scratch.build(&Build::c(&scratch.tests().join("header.c")));
    if !has("readelf") {
        eprintln!("skipped: no readelf");
        return;
    }
    let mut command = Command::new("readelf");
    command.arg("-d").arg(&program);
    let said = run(command, LIMIT);
    let wanted = format!("[{}]", Scratch::soname());
    assert!(said.contains(&wanted), "the program does not ask for {wanted}:\n{said}");
}

#[test]
fn the_static_library_links() {
    let scratch = Scratch::new();
    let source = scratch.tests().join("bad_use.c");
    let program = scratch.build(&Build::c(&source).statically());
    run(scratch.command(&program), LIMIT);
}

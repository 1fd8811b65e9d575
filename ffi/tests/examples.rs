//! The examples, and the programs in docs/guide/c.md: built, run and used.

mod common;

use common::{Build, Kill, Scratch, first_line, has, manifest, run};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const LIMIT: Duration = Duration::from_secs(120);

fn example(name: &str) -> PathBuf {
    manifest().join("examples").join(name)
}

/// Starts a program that tells its URL in its first line and ends with its input.
fn serve(mut command: Command) -> (Kill, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = Kill(command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}")));
    let url = first_line(&mut child.0);
    assert!(url.starts_with("iscsi://"), "{url}");
    (child, url)
}

/// Ends a program by closing its input; it has to end well.
fn end(mut child: Kill) {
    drop(child.0.stdin.take());
    let deadline = Instant::now() + Duration::from_secs(20);
    while child.0.try_wait().expect("a child can be waited for").is_none() {
        assert!(Instant::now() < deadline, "the program does not end");
        std::thread::sleep(Duration::from_millis(5));
    }
    let status = child.0.wait().expect("its status");
    assert!(status.success(), "{status}");
}

fn thread_count(child: &Child) -> usize {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).expect("Linux");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("a line of it");
    line.trim().parse().expect("a number")
}

#[test]
fn a_ram_disk_takes_20_lines() {
    let text = fs::read_to_string(example("ramdisk.c")).expect("the example");
    let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
    assert!(lines <= 20, "it has {lines}");
    assert!(text.lines().all(|line| line.len() <= 120), "and they are lines");
}

#[test]
fn the_ram_disk_serves_the_initiator() {
    let scratch = Scratch::new();
    let disk = scratch.build(&Build::c(&example("ramdisk.c")));
    let initiator = scratch.build(&Build::c(&example("initiator.c")));
    let (child, url) = serve(scratch.command(&disk));
    let mut command = scratch.command(&initiator);
    command.arg(&url);
    let said = run(command, LIMIT);
    assert!(said.contains("67108864 bytes, blocks of 512") && said.contains("the block is the same"), "{said}");
    if has("iscsi-inq") {
        let mut command = Command::new("iscsi-inq");
        command.arg(&url);
        assert!(run(command, LIMIT).contains("LUNETTE"));
    }
    if has("qemu-img") && knows_iscsi(&url) {
        copy_there_and_back(&scratch, &url);
    }
    end(child);
}

/// QEMU's driver is a package of its own.
fn knows_iscsi(url: &str) -> bool {
    let known = Command::new("qemu-img").args(["info", "-f", "raw", url]).output();
    let known = known.is_ok_and(|output| output.status.success());
    if !known {
        eprintln!("skipped: qemu-img knows no iscsi");
    }
    known
}

fn copy_there_and_back(scratch: &Scratch, url: &str) {
    let image = scratch.path().join("image");
    let mut file = fs::File::create(&image).expect("a file");
    for block in 0..(64u32 << 20 >> 12) {
        file.write_all(&[block as u8 ^ (block >> 8) as u8; 4096]).expect("room");
    }
    for verb in ["convert", "compare"] {
        let mut command = Command::new("qemu-img");
        command.arg(verb);
        if verb == "convert" {
            command.args(["-n", "-f", "raw", "-O", "raw"]);
        } else {
            command.args(["-f", "raw", "-F", "raw"]);
        }
        command.arg(&image).arg(url);
        run(command, LIMIT);
    }
}

#[test]
fn the_file_server_serves_eight_sessions_with_one_thread() {
    let scratch = Scratch::new();
    let server = scratch.build(&Build::c(&example("file_server.c")));
    let image = scratch.path().join("disk.img");
    fs::File::create(&image).and_then(|file| file.set_len(16 << 20)).expect("a file");
    let mut command = scratch.command(&server);
    command.arg(&image);
    let (child, url) = serve(command);

    let sessions = scratch.build(&Build::c(&manifest().join("tests/c/sessions.c")));
    let mut command = scratch.command(&sessions);
    command.args([&url, "8"]);
    let said = run(command, LIMIT);
    assert!(said.contains("sessions: ok"), "{said}");
    assert_eq!(thread_count(&child.0), 1);
    end(child);
    let bytes = fs::read(&image).expect("the file");
    assert!((0..8).all(|session| bytes[session << 20] == session as u8 + 1), "it holds what they wrote");
}

/// Programs in the guide: each ```c block is one.
fn programs(guide: &str) -> Vec<String> {
    let mut programs = Vec::new();
    let mut lines = guide.lines();
    while let Some(line) = lines.next() {
        if line.trim() == "```c" {
            programs.push(
                lines
                    .by_ref()
                    .take_while(|line| line.trim() != "```")
                    .fold(String::new(), |text, line| text + line + "\n"),
            );
        }
    }
    programs
}

#[test]
fn the_programs_of_the_guide_run() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/guide/c.md");
    let programs = programs(&fs::read_to_string(path).expect("the guide"));
    assert!(programs.len() >= 4, "{}", programs.len());
    let scratch = Scratch::new();
    for (index, text) in programs.iter().enumerate() {
        let source = scratch.path().join(format!("guide{index}.c"));
        fs::write(&source, text).expect("room");
        let program = scratch.build(&Build::c(&source));
        let said = run(scratch.command(&program), LIMIT);
        let promised = text.lines().filter_map(|line| line.trim().strip_prefix("/* prints: "));
        for words in promised.filter_map(|line| line.strip_suffix(" */")) {
            assert!(said.contains(words), "guide{index} said\n{said}\nand not {words}");
        }
    }
}

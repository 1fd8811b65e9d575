//! A short soak: 16 sessions and every kind of fault in 20 seconds.

use lunette_trials::soak::Fault;
use std::process::Command;

#[test]
fn twenty_seconds_of_load_with_faults_lose_nothing_and_leave_nothing_behind() {
    let output = Command::new(env!("CARGO_BIN_EXE_soak")).args(["--seconds", "20"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    for fault in Fault::ALL {
        assert!(said.contains(&format!("| {fault} | ")), "{said}");
        assert!(!said.contains(&format!("| {fault} | 0 |")), "none: {fault}\n{said}");
    }
}

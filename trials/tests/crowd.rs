//! Small crowds: the neighbour is served, and what they cost is bounded and given back. No time is judged.

use std::process::Command;

#[test]
fn crowds_cost_bounded_memory_and_descriptors_and_their_neighbour_is_served() {
    let output = Command::new(env!("CARGO_BIN_EXE_crowd")).arg("--small").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let rows: Vec<&str> = said.lines().filter(|line| line.contains("MiB (")).collect();
    assert_eq!(rows.len(), 4, "{said}");
    for row in rows {
        // "before -> with MiB": 300 sessions, 2,000 attempts, or 8 times 4 MiB under way.
        let memory = row.split('|').nth(3).unwrap();
        let numbers: Vec<f64> = memory.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        assert!(numbers[1] - numbers[0] < 96.0, "{row}");
    }
    assert!(said.contains("descriptors: "), "the end is judged: {said}");
    // 500 refused logins leave the allowance of 64 in the audit log, and some lines about the others.
    let audit: usize = said.split("audit log: ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(audit < 1500, "{said}");
}

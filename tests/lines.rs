//! What we promise of the examples' size.

/// Lines that are neither blank nor comments.
fn lines(source: &str) -> usize {
    source.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//")).count()
}

#[test]
fn a_ram_disk_takes_at_most_15_lines() {
    assert!(lines(include_str!("../examples/ram_disk.rs")) <= 15);
}

#[test]
fn a_disk_over_memory_takes_at_most_5_lines() {
    assert!(lines(include_str!("../examples/memory_disk.rs")) <= 5);
}

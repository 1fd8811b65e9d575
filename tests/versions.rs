//! What we promise of Rust's version.

/// The tests run with the toolchain of `rust-toolchain.toml`, and so show that the least version that `Cargo.toml` names
/// is enough: they are the same.
#[test]
fn the_least_version_of_rust_is_the_one_that_the_tests_run_with() {
    let toolchain = include_str!("../rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    let least = env!("CARGO_PKG_RUST_VERSION");
    assert!(
        channel == least || channel.strip_prefix(least).is_some_and(|rest| rest.starts_with('.')),
        "{channel} {least}"
    );
}

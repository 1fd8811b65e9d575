//! Where things stand in the working tree, and cargo as a child.

use crate::process::{self, Finished};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// The root of the working tree: where this very crate was built from, unless the binary was moved away from it.
pub(crate) fn root() -> PathBuf {
    let manifest = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let manifest = manifest.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    manifest.parent().map(Path::to_path_buf).unwrap_or(manifest)
}

/// Cargo's target directory, by its own word.
pub(crate) fn target_directory() -> Result<PathBuf> {
    let mut command = cargo();
    command.args(["metadata", "--no-deps", "--format-version", "1", "--offline"]);
    let output = command.output().context("cannot start cargo")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let Some((_, rest)) = text.split_once("\"target_directory\":\"") else {
        bail!("cargo metadata gave no target directory: {}", String::from_utf8_lossy(&output.stderr).trim());
    };
    Ok(PathBuf::from(rest.split('"').next().unwrap_or_default()))
}

/// Where logs of the steps go.
pub(crate) fn log_directory() -> Result<PathBuf> {
    let directory = target_directory()?.join("xtask");
    std::fs::create_dir_all(&directory).with_context(|| format!("cannot create '{}'", directory.display()))?;
    Ok(directory)
}

/// Cargo in the root of the working tree, the same one that started us.
pub(crate) fn cargo() -> Command {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = process::tethered(cargo);
    command.current_dir(root());
    // `cargo run` tells its child about the xtask package; a nested cargo must find its own packages.
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}

/// The `lunette` binary of the profile that tests use: built by the caller beforehand, or named by `LUNETTE_BIN`.
pub(crate) fn lunette_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("LUNETTE_BIN") {
        return Ok(PathBuf::from(path));
    }
    Ok(target_directory()?.join("debug").join("lunette"))
}

/// Builds the `lunette` binary in the profile that tests use.
pub(crate) fn build_lunette(log: &Path) -> Result<Finished> {
    let mut command = cargo();
    command.args(["build", "--package", "lunette-server", "--bin", "lunette"]);
    process::run_limited("cargo build", command, Duration::from_secs(30 * 60), log)
}

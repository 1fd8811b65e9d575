//! Corpora without a fuzzer: what is committed, and mutations of it, the same in every run.

use std::path::{Path, PathBuf};

use super::FuzzTarget;
use crate::rng::Rng;

/// Where the fuzzers and their corpora are.
fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The target's corpus in the order of the file names, so that a run is the same everywhere.
///
/// # Panics
/// When it cannot be read.
pub fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = directory().join("corpus").join(name);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.into_iter().filter_map(|path| Some((path.clone(), std::fs::read(path).ok()?))).collect()
}

/// Each target has a fuzzer and a corpus.
///
/// # Panics
/// When one has not.
pub fn check_fuzzers(targets: &[FuzzTarget]) {
    let manifest = std::fs::read_to_string(directory().join("Cargo.toml")).unwrap_or_default();
    for (name, _) in targets {
        assert!(!corpus(name).is_empty(), "fuzz/corpus/{name} is empty");
        assert!(directory().join(format!("fuzz_targets/{name}.rs")).is_file(), "fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no target {name}");
    }
}

/// Runs each target on its corpus.
///
/// # Panics
/// When a target finds something.
pub fn replay(targets: &[FuzzTarget]) {
    for (name, body) in targets {
        for (path, input) in corpus(name) {
            // Said before, since a panic must tell which file it was.
            println!("{name} {}", path.display());
            body(&input);
        }
    }
}

/// Runs each target on so many mutations of its corpus.
///
/// # Panics
/// When a target finds something.
pub fn replay_mutations(targets: &[FuzzTarget], rounds: usize) {
    for (name, body) in targets {
        let inputs: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut chance = Rng::new(0x9e37_79b9_7f4a_7c15);
        for round in 0..rounds {
            let mut input = inputs[below(&mut chance, inputs.len())].clone();
            for _ in 0..=below(&mut chance, 4) {
                mutate(&mut input, &inputs, &mut chance);
            }
            println!("{name} {round} {input:02x?}");
            body(&input);
        }
    }
}

fn below(chance: &mut Rng, bound: usize) -> usize {
    chance.below(bound as u64) as usize
}

fn mutate(input: &mut Vec<u8>, all: &[Vec<u8>], chance: &mut Rng) {
    let at = below(chance, input.len() + 1);
    match below(chance, 6) {
        0 if at < input.len() => input[at] ^= 1 << below(chance, 8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][below(chance, 5)],
        2 => input.truncate(at),
        3 => input.insert(at, chance.next() as u8),
        4 if at < input.len() => drop(input.remove(at)),
        // The head of one and the tail of another.
        _ => {
            let other = &all[below(chance, all.len())];
            input.truncate(at);
            input.extend_from_slice(&other[below(chance, other.len() + 1)..]);
        }
    }
}

//! Replays the committed corpora of the fuzz targets, and a few thousand mutations of them, without a fuzzer.

use std::path::{Path, PathBuf};

use testkit::fuzz_targets::TARGETS;

fn fuzz_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz")
}

/// The target's corpus in the order of the file names, so that a run is the same everywhere.
fn corpus(name: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let directory = fuzz_directory().join("corpus").join(name);
    let entries = std::fs::read_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect()
}

#[test]
fn every_target_has_a_corpus_and_a_fuzzer() {
    let manifest = std::fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    for (name, _) in TARGETS {
        assert!(!corpus(name).is_empty(), "fuzz/corpus/{name} is empty");
        assert!(fuzz_directory().join(format!("fuzz_targets/{name}.rs")).is_file(), "fuzz_targets/{name}.rs");
        assert!(manifest.contains(&format!("name = \"{name}\"")), "fuzz/Cargo.toml has no target {name}");
    }
}

#[test]
fn the_committed_corpora_replay() {
    for (name, body) in TARGETS {
        for (path, input) in corpus(name) {
            // Said before, since a panic must tell which file it was.
            println!("{name} {}", path.display());
            body(&input);
        }
    }
}

#[test]
fn mutations_of_the_corpora_replay() {
    for (name, body) in TARGETS {
        let inputs: Vec<Vec<u8>> = corpus(name).into_iter().map(|(_, input)| input).collect();
        let mut chance = Chance(0x9e37_79b9_7f4a_7c15);
        for round in 0..3000 {
            let mut input = inputs[chance.below(inputs.len())].clone();
            for _ in 0..=chance.below(4) {
                mutate(&mut input, &inputs, &mut chance);
            }
            println!("{name} {round} {input:02x?}");
            body(&input);
        }
    }
}

fn mutate(input: &mut Vec<u8>, all: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.below(input.len() + 1);
    match chance.below(6) {
        0 if at < input.len() => input[at] ^= 1 << chance.below(8),
        1 if at < input.len() => input[at] = [0, 1, 0x7f, 0x80, 0xff][chance.below(5)],
        2 => input.truncate(at),
        3 => input.insert(at, chance.next() as u8),
        4 if at < input.len() => drop(input.remove(at)),
        // The head of one and the tail of another.
        _ => {
            let other = &all[chance.below(all.len())];
            input.truncate(at);
            input.extend_from_slice(&other[chance.below(other.len() + 1)..]);
        }
    }
}

/// xorshift: the same numbers in every run.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

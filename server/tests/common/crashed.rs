//! What a loss of power may leave of files and directories: a model of the promises that a file system makes.
//!
//! What was synced is there. Of what was not, anything may be missing: each write and change of length, each entry of a
//! directory that was made, renamed or removed, whatever came before or after it; and one write may be there in part, in
//! sectors of 512 bytes. Syncing a file says nothing about its name, which is synced with its directory.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use super::calls::Call;

const SECTOR: usize = 512;
/// So many changes that are not synced are left out in every combination; of more, the likely and some at random.
const ALL_SUBSETS: usize = 8;
const AT_RANDOM: u64 = 24;

/// Files by name.
pub(crate) type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// A change that the medium need not have.
#[derive(Clone, Debug)]
enum Change {
    Write(usize, u64, Vec<u8>),
    Length(usize, u64),
    /// Names and what they stand for afterwards.
    Names(Vec<(PathBuf, Option<usize>)>),
}

/// How much of a write is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Torn {
    Whole,
    FirstSector,
    AllButFirst,
    AllButLast,
    EverySecond,
}

/// The medium, and what is on its way there.
#[derive(Clone, Debug, Default)]
struct Medium {
    /// Files by number.
    files: Vec<Vec<u8>>,
    names: BTreeMap<PathBuf, usize>,
    /// The same as programs see it.
    seen: BTreeMap<PathBuf, usize>,
    pending: Vec<Change>,
}

impl Medium {
    fn new(tree: &Tree) -> Self {
        let mut medium = Self::default();
        for (path, bytes) in tree {
            medium.names.insert(path.clone(), medium.files.len());
            medium.files.push(bytes.clone());
        }
        medium.seen = medium.names.clone();
        medium
    }

    fn apply(&mut self, call: &Call) {
        match call {
            Call::Create(path) => {
                let number = self.files.len();
                self.files.push(Vec::new());
                self.rename(vec![(path.clone(), Some(number))]);
            }
            Call::Write(path, offset, data) => {
                if let Some(file) = self.seen.get(path) {
                    self.pending.push(Change::Write(*file, *offset, data.clone()));
                }
            }
            Call::Truncate(path, length) => {
                if let Some(file) = self.seen.get(path) {
                    self.pending.push(Change::Length(*file, *length));
                }
            }
            Call::Rename(from, to) => {
                if let Some(file) = self.seen.get(from).copied() {
                    self.rename(vec![(from.clone(), None), (to.clone(), Some(file))]);
                }
            }
            Call::Link(from, to) => {
                if let Some(file) = self.seen.get(from).copied() {
                    self.rename(vec![(to.clone(), Some(file))]);
                }
            }
            Call::Remove(path) => self.rename(vec![(path.clone(), None)]),
            Call::Sync(path) => {
                let file = self.seen.get(path).copied();
                self.sync(|change| match change {
                    Change::Write(of, ..) | Change::Length(of, _) => Some(*of) == file,
                    Change::Names(names) => file.is_none() && names.iter().all(|(name, _)| name.parent() == Some(path)),
                });
            }
            Call::SyncRange(path, offset, length) => {
                let file = self.seen.get(path).copied();
                self.sync(|change| match change {
                    Change::Write(of, at, data) => {
                        Some(*of) == file && *at < offset + length && *offset < at + data.len() as u64
                    }
                    Change::Length(of, _) => Some(*of) == file,
                    Change::Names(_) => false,
                });
            }
        }
    }

    /// What is chosen is on the medium.
    fn sync(&mut self, is_durable: impl Fn(&Change) -> bool) {
        let (durable, pending): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(is_durable);
        self.pending = pending;
        durable.iter().for_each(|change| self.keep(change, Torn::Whole));
    }

    fn rename(&mut self, names: Vec<(PathBuf, Option<usize>)>) {
        set(&mut self.seen, &names);
        self.pending.push(Change::Names(names));
    }

    /// The change is on the medium, or as much of it as is said.
    fn keep(&mut self, change: &Change, torn: Torn) {
        match change {
            Change::Names(names) => set(&mut self.names, names),
            Change::Length(file, length) => self.files[*file].resize(*length as usize, 0),
            Change::Write(file, offset, data) => {
                let file = &mut self.files[*file];
                let sectors = data.len().div_ceil(SECTOR);
                for (number, sector) in data.chunks(SECTOR).enumerate() {
                    let is_there = match torn {
                        Torn::Whole => true,
                        Torn::FirstSector => number == 0,
                        Torn::AllButFirst => number > 0,
                        Torn::AllButLast => number + 1 < sectors,
                        Torn::EverySecond => number % 2 == 1,
                    };
                    let at = *offset as usize + number * SECTOR;
                    if is_there {
                        file.resize(file.len().max(at + sector.len()), 0);
                        file[at..at + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
    }

    fn tree(&self) -> Tree {
        self.names.iter().map(|(path, file)| (path.clone(), self.files[*file].clone())).collect()
    }

    /// What may be there if the power goes now.
    fn states(&self, mut take: impl FnMut(Tree)) {
        let count = self.pending.len();
        let mut state = |there: &dyn Fn(usize) -> bool, torn: Option<(usize, Torn)>| {
            let mut medium = self.clone();
            for (number, change) in self.pending.iter().enumerate().filter(|(number, _)| there(*number)) {
                let how = torn.filter(|(one, _)| *one == number).map_or(Torn::Whole, |(_, how)| how);
                medium.keep(change, how);
            }
            take(medium.tree());
        };
        if count <= ALL_SUBSETS {
            (0..1u32 << count).for_each(|set| state(&|number| set >> number & 1 != 0, None));
        } else {
            for one in 0..=count {
                state(&|number| number < one, None);
                state(&|number| number == one, None);
                state(&|number| number != one, None);
                state(&|number| number >= one, None);
            }
            for seed in 0..AT_RANDOM {
                state(&|number| chance(seed, number), None);
            }
        }
        for (one, change) in self.pending.iter().enumerate() {
            if !matches!(change, Change::Write(_, _, data) if data.len() > SECTOR) {
                continue;
            }
            for how in [Torn::FirstSector, Torn::AllButFirst, Torn::AllButLast, Torn::EverySecond] {
                state(&|_| true, Some((one, how)));
                state(&|number| number == one, Some((one, how)));
                state(&|number| number <= one, Some((one, how)));
            }
        }
    }
}

fn set(names: &mut BTreeMap<PathBuf, usize>, changes: &[(PathBuf, Option<usize>)]) {
    for (name, file) in changes {
        match file {
            Some(file) => drop(names.insert(name.clone(), *file)),
            None => drop(names.remove(name)),
        }
    }
}

fn chance(seed: u64, number: usize) -> bool {
    let mut hasher = DefaultHasher::new();
    (seed, number).hash(&mut hasher);
    hasher.finish() & 1 != 0
}

/// Every state that a loss of power amid these calls may leave, each once, with whether all calls had been made.
pub(crate) fn states(before: &Tree, calls: &[Call], matters: impl Fn(&Path) -> bool) -> Vec<(Tree, bool)> {
    let mut medium = Medium::new(before);
    let (mut seen, mut states) = (HashSet::new(), Vec::new());
    for stop in 0..=calls.len() {
        let is_whole = stop == calls.len();
        medium.states(|mut tree| {
            tree.retain(|path, _| matters(path));
            let mut hasher = DefaultHasher::new();
            (&tree, is_whole).hash(&mut hasher);
            if seen.insert(hasher.finish()) {
                states.push((tree, is_whole));
            }
        });
        if let Some(call) = calls.get(stop) {
            medium.apply(call);
        }
    }
    states
}

/// All files below a directory, those that are longer than `longest` left out.
pub(crate) fn tree(root: &Path, longest: u64) -> Tree {
    let (mut tree, mut places) = (Tree::new(), BTreeSet::from([PathBuf::new()]));
    while let Some(place) = places.pop_first() {
        for entry in std::fs::read_dir(root.join(&place)).unwrap() {
            let entry = entry.unwrap();
            let (path, kind) = (place.join(entry.file_name()), entry.file_type().unwrap());
            if kind.is_dir() {
                places.insert(path);
            } else if kind.is_file() && entry.metadata().unwrap().len() <= longest {
                let bytes = std::fs::read(entry.path()).unwrap();
                tree.insert(path, bytes);
            }
        }
    }
    tree
}

/// Makes these files below a directory.
pub(crate) fn furnish(root: &Path, tree: &Tree) {
    for (path, bytes) in tree {
        let path = root.join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    }
}

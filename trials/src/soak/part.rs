//! One session's part of a unit, and what should stand there.

use lunette_client::{Error, Operation};
use testkit::rng::Rng;

/// What a generation is kept for, in bytes.
pub(super) const PIECE: u64 = 4096;

/// What a piece may hold.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// This generation; 0 is zeros.
    One(u32),
    /// Any of these: writes failed, and nobody knows what they left. Until a write succeeds.
    Any(Vec<u32>),
}

/// A session's part of a unit.
#[derive(Debug)]
pub(super) struct Part {
    /// Where it begins, in bytes.
    first: u64,
    /// What makes its bytes differ from all others'.
    salt: u64,
    pieces: Vec<Content>,
    /// The generation that was given last.
    last: u32,
}

/// An operation and what it means for the part.
#[derive(Debug)]
pub(super) struct Planned {
    pub(super) operation: Operation,
    first: usize,
    count: usize,
    /// The generations that a write leaves: from this one on, or zeros. `None` for a read.
    leaves: Option<u32>,
}

impl Planned {
    pub(super) fn bytes(&self) -> u64 {
        self.count as u64 * PIECE
    }

    pub(super) fn is_read(&self) -> bool {
        self.leaves.is_none()
    }
}

impl Part {
    pub(super) fn new(number: usize, unit: usize, bytes: u64) -> Self {
        Self {
            first: number as u64 * bytes,
            salt: Rng::new(((unit as u64) << 32) + number as u64).next(),
            pieces: vec![Content::One(0); (bytes / PIECE) as usize],
            last: 0,
        }
    }

    /// How many pieces it has.
    pub(super) fn pieces(&self) -> usize {
        self.pieces.len()
    }

    /// An operation on pieces that nothing else is under way on.
    pub(super) fn plan(&mut self, random: &mut Rng, first: usize, count: usize, can_unmap: bool) -> Planned {
        let (offset, length) = (self.first + first as u64 * PIECE, count as u64 * PIECE);
        let (operation, leaves) = match random.below(20) {
            0..=8 => {
                let generation = self.last + 1;
                self.last += count as u32;
                let mut data = Vec::with_capacity(length as usize);
                for number in 0..count {
                    self.fill(first + number, generation + number as u32, &mut data);
                }
                let durable = random.below(16) == 0;
                (Operation::Write { offset, data: data.into(), durable }, Some(generation))
            }
            9 if can_unmap => (Operation::Unmap { offset, length }, Some(0)),
            10 => (Operation::WriteSame { offset, length, block: vec![0; 512].into() }, Some(0)),
            _ => (Operation::Read { offset, length: length as usize }, None),
        };
        Planned { operation, first, count, leaves }
    }

    /// A read of this many pieces.
    pub(super) fn read(&self, first: usize, count: usize) -> Planned {
        let (offset, length) = (self.first + first as u64 * PIECE, count * PIECE as usize);
        Planned { operation: Operation::Read { offset, length }, first, count, leaves: None }
    }

    /// What came of an operation: a write changes what is known, a read is compared.
    ///
    /// # Errors
    /// Where what was read differs from what should stand there.
    pub(super) fn settle(&mut self, planned: &Planned, outcome: Result<&[u8], &Error>) -> Result<(), String> {
        for number in 0..planned.count {
            let at = planned.first + number;
            let left = planned.leaves.map(|first| if first == 0 { 0 } else { first + number as u32 });
            match (outcome, left) {
                (Ok(_), Some(generation)) => self.pieces[at] = Content::One(generation),
                (Err(_), Some(generation)) => {
                    let mut known = match &self.pieces[at] {
                        Content::One(known) => vec![*known],
                        Content::Any(known) => known.clone(),
                    };
                    known.push(generation);
                    self.pieces[at] = Content::Any(known);
                }
                (Ok(data), None) => {
                    let start = number * PIECE as usize;
                    let Some(piece) = data.get(start..start + PIECE as usize) else {
                        return Err(format!("{} bytes were read, not {}", data.len(), planned.bytes()));
                    };
                    self.compare(at, piece)?;
                }
                (Err(_), None) => {}
            }
        }
        Ok(())
    }

    fn compare(&self, at: usize, piece: &[u8]) -> Result<(), String> {
        let known = match &self.pieces[at] {
            Content::One(known) => std::slice::from_ref(known),
            Content::Any(known) => known,
        };
        let mut wanted = Vec::with_capacity(PIECE as usize);
        // A write that failed may have been torn: any sector may be of any of the generations.
        let mut right = [false; PIECE as usize / 512];
        for generation in known {
            wanted.clear();
            self.fill(at, *generation, &mut wanted);
            let sectors = piece.chunks_exact(512).zip(wanted.chunks_exact(512));
            right.iter_mut().zip(sectors).for_each(|(right, (got, wanted))| *right |= got == wanted);
        }
        match right.iter().position(|right| !right) {
            None => Ok(()),
            Some(sector) => {
                let offset = self.first + at as u64 * PIECE + sector as u64 * 512;
                Err(format!("the sector at byte {offset} holds none of the generations {known:?}"))
            }
        }
    }

    fn fill(&self, at: usize, generation: u32, into: &mut Vec<u8>) {
        if generation == 0 {
            into.resize(into.len() + PIECE as usize, 0);
            return;
        }
        let mut bytes = Rng::new(self.salt ^ ((at as u64) << 32) ^ u64::from(generation));
        into.extend((0..PIECE / 8).flat_map(|_| bytes.next().to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(part: &mut Part, random: &mut Rng) -> (Planned, Vec<u8>) {
        loop {
            let planned = part.plan(random, 2, 3, true);
            if let Operation::Write { data, .. } = &planned.operation {
                let bytes: Vec<u8> = data.slices().iter().flat_map(|slice| slice.to_vec()).collect();
                return (planned, bytes);
            }
        }
    }

    #[test]
    fn a_read_of_anything_but_what_was_written_is_told() {
        let (mut part, mut random) = (Part::new(1, 0, 64 * PIECE), Rng::new(1));
        let read = part.read(2, 3);
        assert!(part.settle(&read, Ok(&[0; 3 * PIECE as usize])).is_ok());
        let (write, bytes) = written(&mut part, &mut random);
        part.settle(&write, Ok(&[])).unwrap();
        assert!(part.settle(&read, Ok(&bytes)).is_ok());
        let mut wrong = bytes.clone();
        wrong[5000] ^= 1;
        let error = part.settle(&read, Ok(&wrong)).unwrap_err();
        assert!(error.contains(&format!("byte {}", 67 * PIECE + 512)), "{error}");
        assert!(part.settle(&read, Ok(&bytes[..100])).is_err());
    }

    #[test]
    fn what_a_failed_write_leaves_may_be_old_or_new_sector_by_sector() {
        let (mut part, mut random) = (Part::new(0, 3, 64 * PIECE), Rng::new(2));
        let read = part.read(2, 3);
        let (first, old) = written(&mut part, &mut random);
        part.settle(&first, Ok(&[])).unwrap();
        let (second, new) = written(&mut part, &mut random);
        part.settle(&second, Err(&Error::Closed)).unwrap();
        let torn = [&old[..1024], &new[1024..]].concat();
        for content in [&old, &new, &torn] {
            assert!(part.settle(&read, Ok(content)).is_ok());
        }
        assert!(part.settle(&read, Ok(&vec![0; old.len()])).is_err());
    }
}

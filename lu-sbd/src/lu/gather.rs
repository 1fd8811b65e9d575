//! Data-out bytes of one task, as they come in.

use bytes::Bytes;
use smallvec::SmallVec;
use stmf::provider::Segments;

/// Pieces of a buffer that arrive in any order; neighbours are joined (as lists of slices, nothing is copied).
#[derive(Debug, Default)]
pub(super) struct Gather {
    /// Ascending, disjoint, never adjacent.
    runs: SmallVec<[Run; 1]>,
    received: u32,
}

#[derive(Debug)]
struct Run {
    start: u32,
    length: u32,
    data: Segments,
}

impl Gather {
    /// Bytes received so far, taken out or not.
    pub(super) fn received(&self) -> u32 {
        self.received
    }

    /// Adds a piece; what lies at or past `limit`, or is here already, is left out.
    pub(super) fn insert(&mut self, offset: u32, mut data: Segments, limit: u32) {
        if offset >= limit {
            return;
        }
        truncate(&mut data, limit - offset);
        let length: u32 = data.iter().map(|bytes| bytes.len() as u32).sum();
        if length == 0 {
            return;
        }
        let end = offset + length;
        let at = self.runs.partition_point(|run| run.start < offset);
        let overlaps_previous = at > 0 && self.runs[at - 1].start + self.runs[at - 1].length > offset;
        let overlaps_next = self.runs.get(at).is_some_and(|run| run.start < end);
        if overlaps_previous || overlaps_next {
            return;
        }
        self.received += length;
        if at > 0 && self.runs[at - 1].start + self.runs[at - 1].length == offset {
            let run = &mut self.runs[at - 1];
            run.data.extend(data);
            run.length += length;
            if self.runs.get(at).is_some_and(|next| next.start == end) {
                let next = self.runs.remove(at);
                let run = &mut self.runs[at - 1];
                run.data.extend(next.data);
                run.length += next.length;
            }
        } else if let Some(next) = self.runs.get_mut(at).filter(|next| next.start == end) {
            data.extend(std::mem::take(&mut next.data));
            next.data = data;
            next.start = offset;
            next.length += length;
        } else {
            self.runs.insert(at, Run { start: offset, length, data });
        }
    }

    /// Takes out a run of at least `at_least` bytes, of which begin and end are multiples of `alignment` (the very end
    /// of the buffer, `limit`, counts as one); of a longer one `at_most` bytes. `at_most` is a multiple of the alignment.
    pub(super) fn take(&mut self, at_least: u32, at_most: u32, alignment: u32, limit: u32) -> Option<(u32, Segments)> {
        for index in 0..self.runs.len() {
            let run = &self.runs[index];
            let start = run.start.next_multiple_of(alignment);
            let mut end = run.start + run.length;
            if end != limit {
                end -= end % alignment;
            }
            if start >= end || end - start < at_least {
                continue;
            }
            let end = end.min(start.saturating_add(at_most));
            let mut run = self.runs.remove(index);
            let mut middle = split_off(&mut run.data, start - run.start);
            let tail = split_off(&mut middle, end - start);
            let tail_length = run.start + run.length - end;
            if tail_length > 0 {
                self.runs.insert(index, Run { start: end, length: tail_length, data: tail });
            }
            if start > run.start {
                self.runs.insert(index, Run { start: run.start, length: start - run.start, data: run.data });
            }
            return Some((start, middle));
        }
        None
    }

    /// Takes everything out; gapless when all of it was received.
    pub(super) fn take_all(&mut self) -> Segments {
        let mut all = Segments::new();
        for run in self.runs.drain(..) {
            all.extend(run.data);
        }
        all
    }
}

/// Keeps the first `length` bytes.
pub(super) fn truncate(data: &mut Segments, length: u32) {
    drop(split_off(data, length));
}

/// Cuts the list after `length` bytes and returns the rest.
pub(super) fn split_off(data: &mut Segments, length: u32) -> Segments {
    let mut left = length as usize;
    for index in 0..data.len() {
        if left < data[index].len() {
            let mut rest = Segments::new();
            if left > 0 {
                rest.push(data[index].split_off(left));
                rest.extend(data.drain(index + 1..));
            } else {
                rest.extend(data.drain(index..));
            }
            return rest;
        }
        left -= data[index].len();
    }
    Segments::new()
}

/// The bytes in one piece; copied only if they are not.
pub(super) fn concat(mut data: Segments) -> Bytes {
    match data.len() {
        0 => Bytes::new(),
        1 => data.remove(0),
        _ => data.concat().into(),
    }
}

/// Offset of the first byte in which two lists of the same length differ.
pub(super) fn first_difference(left: &[Bytes], right: &[Bytes]) -> Option<u64> {
    let (mut lefts, mut rights) = (left.iter(), right.iter());
    let (mut l, mut r): (&[u8], &[u8]) = (&[], &[]);
    let mut offset = 0;
    loop {
        if l.is_empty() {
            l = lefts.next()?;
        }
        if r.is_empty() {
            r = rights.next()?;
        }
        let length = l.len().min(r.len());
        if l[..length] != r[..length] {
            let differs = l.iter().zip(r).position(|(a, b)| a != b)?;
            return Some(offset + differs as u64);
        }
        offset += length as u64;
        (l, r) = (&l[length..], &r[length..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn piece(range: std::ops::Range<u32>) -> Segments {
        Segments::from_iter([Bytes::from(range.map(|at| at as u8).collect::<Vec<u8>>())])
    }

    proptest! {
        #[test]
        fn any_partition_in_any_order_gives_the_bytes_in_aligned_runs(
            mut cuts in prop::collection::vec(1..4095u32, 0..20), seed in any::<u64>(), at_least in 1..2000u32,
        ) {
            cuts.extend([0, 4096]);
            cuts.sort_unstable();
            cuts.dedup();
            let mut pieces: Vec<_> = cuts.windows(2).map(|pair| pair[0]..pair[1]).collect();
            let mut random = seed;
            for index in (1..pieces.len()).rev() {
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                pieces.swap(index, (random >> 33) as usize % (index + 1));
            }
            let mut gather = Gather::default();
            let mut out = vec![None; 4096];
            for (count, range) in pieces.iter().enumerate() {
                gather.insert(range.start, piece(range.clone()), 4096);
                let all = count + 1 == pieces.len();
                while let Some((start, data)) = gather.take(if all { 1 } else { at_least }, 1024, 512, 4096) {
                    prop_assert!(start % 512 == 0);
                    let bytes = data.concat();
                    prop_assert!(bytes.len() <= 1024 && bytes.len() % 512 == 0);
                    for (index, byte) in bytes.into_iter().enumerate() {
                        prop_assert!(out[start as usize + index].replace(byte).is_none());
                    }
                }
            }
            prop_assert_eq!(gather.received(), 4096);
            let expected: Vec<_> = (0..4096u32).map(|at| Some(at as u8)).collect();
            prop_assert_eq!(out, expected);
        }
    }

    #[test]
    fn bytes_past_the_limit_and_bytes_sent_twice_are_left_out() {
        let mut gather = Gather::default();
        gather.insert(0, piece(0..10), 16);
        gather.insert(5, piece(5..12), 16);
        gather.insert(10, piece(10..30), 16);
        gather.insert(16, piece(16..20), 16);
        assert_eq!(gather.received(), 16);
        assert_eq!(concat(gather.take_all())[..], (0..16).collect::<Vec<u8>>()[..]);
    }

    #[test]
    fn the_first_difference_is_found_across_slices() {
        let left = Segments::from_iter([Bytes::from_static(b"ab"), Bytes::from_static(b"cdef")]);
        let mut right = Segments::from_iter([Bytes::from_static(b"abc"), Bytes::from_static(b"deX")]);
        assert_eq!(first_difference(&left, &right), Some(5));
        right[1] = Bytes::from_static(b"def");
        assert_eq!(first_difference(&left, &right), None);
    }
}

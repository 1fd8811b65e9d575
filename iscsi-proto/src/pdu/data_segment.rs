//! A data segment: the slices it arrived in, or those it will be sent from.

use core::fmt;

use bytes::{Bytes, BytesMut};
use smallvec::SmallVec;

/// A data segment as a list of slices, without padding or digest.
///
/// A segment that lies in one received chunk has one slice, one that spans chunks has several; none is copied. Slices
/// are never empty. Equality compares the bytes, not how they are cut.
#[derive(Clone, Default)]
pub struct DataSegment {
    slices: SmallVec<[Bytes; 2]>,
    len: usize,
}

impl DataSegment {
    /// A segment of no bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The slices in order.
    pub fn slices(&self) -> &[Bytes] {
        &self.slices
    }

    /// The slices in order, by value.
    pub fn into_slices(self) -> SmallVec<[Bytes; 2]> {
        self.slices
    }

    /// Appends a slice; an empty one adds nothing.
    pub fn push(&mut self, slice: Bytes) {
        if !slice.is_empty() {
            self.len += slice.len();
            self.slices.push(slice);
        }
    }

    /// The bytes in one piece: free when there is one slice, a copy when there are several.
    pub fn to_contiguous(&self) -> Bytes {
        match self.slices.as_slice() {
            [] => Bytes::new(),
            [one] => one.clone(),
            several => {
                let mut whole = BytesMut::with_capacity(self.len);
                several.iter().for_each(|slice| whole.extend_from_slice(slice));
                whole.freeze()
            }
        }
    }

    /// The part of `len` bytes at `offset`, of the same memory. What lies beyond the end is left out.
    pub fn slice(&self, offset: usize, len: usize) -> Self {
        let (mut skip, mut left) = (offset, len);
        let mut part = Self::new();
        for slice in &self.slices {
            if left == 0 {
                break;
            }
            if skip >= slice.len() {
                skip -= slice.len();
                continue;
            }
            let end = slice.len().min(skip + left);
            left -= end - skip;
            part.push(slice.slice(skip..end));
            skip = 0;
        }
        part
    }

    /// Replaces several slices by one copy of them all. Used against peers that send a segment byte by byte.
    pub(crate) fn coalesce(&mut self) {
        let whole = self.to_contiguous();
        self.slices.clear();
        self.slices.push(whole);
    }

    fn bytes(&self) -> impl Iterator<Item = u8> + '_ {
        self.slices.iter().flat_map(|slice| slice.iter().copied())
    }
}

impl PartialEq for DataSegment {
    fn eq(&self, other: &Self) -> bool {
        match (self.slices.as_slice(), other.slices.as_slice()) {
            ([a], [b]) => a == b,
            _ => self.len == other.len && self.bytes().eq(other.bytes()),
        }
    }
}

impl Eq for DataSegment {}

impl From<Bytes> for DataSegment {
    fn from(slice: Bytes) -> Self {
        let mut segment = Self::new();
        segment.push(slice);
        segment
    }
}

impl From<Vec<u8>> for DataSegment {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes::from(bytes).into()
    }
}

impl From<&'static [u8]> for DataSegment {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes::from_static(bytes).into()
    }
}

impl FromIterator<Bytes> for DataSegment {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        let mut segment = Self::new();
        slices.into_iter().for_each(|slice| segment.push(slice));
        segment
    }
}

impl Extend<Bytes> for DataSegment {
    fn extend<I: IntoIterator<Item = Bytes>>(&mut self, slices: I) {
        slices.into_iter().for_each(|slice| self.push(slice));
    }
}

impl fmt::Debug for DataSegment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataSegment({} bytes in {} slices)", self.len, self.slices.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_may_span_slices() {
        let whole: DataSegment = ["abc", "de", "fghi"].into_iter().map(|s| Bytes::from_static(s.as_bytes())).collect();
        for offset in 0..11 {
            for len in 0..11 {
                let expected = &b"abcdefghi"[offset.min(9)..(offset + len).min(9)];
                let part = whole.slice(offset, len);
                assert_eq!(part.to_contiguous(), expected);
                assert_eq!(part.len(), expected.len());
            }
        }
    }
}

//! Data on its way out and in.

use bytes::Bytes;

use crate::pdu::DataSegment;

/// What a command writes: slices that together are the data-out buffer. Sent without a copy.
#[derive(Clone, Debug, Default)]
pub struct DataOut(DataSegment);

impl DataOut {
    /// Bytes in all.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The slices, in order.
    pub fn slices(&self) -> &[Bytes] {
        self.0.slices()
    }

    /// Bytes `offset..offset + length`, without a copy; less where the buffer ends.
    #[must_use]
    pub fn slice(&self, offset: usize, length: usize) -> Self {
        Self(self.segment(offset, length))
    }

    /// Bytes `offset..offset + length` as slices of the slices; less where the buffer ends.
    pub(super) fn segment(&self, offset: usize, length: usize) -> DataSegment {
        self.0.slice(offset, length)
    }
}

impl FromIterator<Bytes> for DataOut {
    fn from_iter<I: IntoIterator<Item = Bytes>>(slices: I) -> Self {
        Self(slices.into_iter().collect())
    }
}

impl<T: Into<Bytes>> From<T> for DataOut {
    fn from(bytes: T) -> Self {
        [bytes.into()].into_iter().collect()
    }
}

/// What a command read: slices of what was received, in the order of their offsets.
#[derive(Clone, Debug, Default)]
pub struct DataIn {
    pieces: Vec<(u32, Bytes)>,
}

impl DataIn {
    /// Adds a piece. `false`: it overlaps another, which no target may send.
    pub(super) fn insert(&mut self, offset: u32, data: DataSegment) -> bool {
        let mut offset = offset;
        for slice in data.into_slices() {
            let Ok(length) = u32::try_from(slice.len()) else { return false };
            let Some(end) = offset.checked_add(length) else { return false };
            // Nearly always the last.
            let at = match self.pieces.last() {
                Some((last, _)) if *last > offset => self.pieces.partition_point(|(start, _)| *start < offset),
                _ => self.pieces.len(),
            };
            let clear_before = at.checked_sub(1).is_none_or(|before| {
                let (start, piece) = &self.pieces[before];
                start + piece.len() as u32 <= offset
            });
            let clear_behind = self.pieces.get(at).is_none_or(|(start, _)| end <= *start);
            if !clear_before || !clear_behind {
                return false;
            }
            self.pieces.insert(at, (offset, slice));
            offset = end;
        }
        true
    }

    /// Bytes from the beginning without a gap.
    pub fn len(&self) -> usize {
        self.slices().map(Bytes::len).sum()
    }

    /// Whether nothing was read.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that came, those behind a gap included.
    pub fn received(&self) -> usize {
        self.pieces.iter().map(|(_, piece)| piece.len()).sum()
    }

    /// The slices from the beginning to the first gap.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        let mut end = 0;
        self.pieces.iter().map_while(move |(offset, piece)| {
            (*offset == end).then(|| {
                end += piece.len() as u32;
                piece
            })
        })
    }

    /// All of it in one buffer; without a copy if it came in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut slices = self.slices();
        match (slices.next(), slices.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            _ => {
                let mut all = Vec::with_capacity(self.len());
                self.slices().for_each(|slice| all.extend_from_slice(slice));
                all.into()
            }
        }
    }

    /// Copies it into `into`; returns how many bytes.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.slices() {
            let n = slice.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&slice[..n]);
            done += n;
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(bytes: &'static [u8]) -> DataSegment {
        bytes.into()
    }

    #[test]
    fn a_segment_spans_slices() {
        let out: DataOut =
            [Bytes::from_static(b"abc"), Bytes::new(), Bytes::from_static(b"defg")].into_iter().collect();
        assert_eq!(out.len(), 7);
        assert_eq!(out.segment(2, 3).to_contiguous(), "cde");
        assert_eq!(out.segment(5, 9).to_contiguous(), "fg");
        assert!(out.segment(7, 1).is_empty());
    }

    #[test]
    fn pieces_out_of_order_come_together() {
        let mut data = DataIn::default();
        assert!(data.insert(3, segment(b"def")));
        assert_eq!((data.len(), data.received()), (0, 3));
        assert!(data.insert(0, segment(b"abc")));
        assert_eq!(data.to_bytes(), "abcdef");
    }

    #[test]
    fn overlapping_pieces_are_refused() {
        let mut data = DataIn::default();
        assert!(data.insert(4, segment(b"efgh")));
        for (offset, bytes) in [(3, &b"de"[..]), (5, b"f"), (7, b"hi"), (4, b"e")] {
            assert!(!data.clone().insert(offset, segment(bytes)), "{offset}");
        }
        assert!(data.insert(8, segment(b"ijkl")));
    }
}

//! What one connection still has to send.

use bytes::{Buf, Bytes};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::IoSlice;

/// Slices for one system call. Linux takes up to 1024 (`IOV_MAX`); more than this many rarely fit a socket anyway.
pub(crate) const MAX_SLICES: usize = 256;

/// The slices that one system call sends, on the stack.
pub(crate) type Slices<'a> = SmallVec<[IoSlice<'a>; MAX_SLICES]>;

/// Bytes on their way out, in order, as the slices in which they were given.
#[derive(Debug, Default)]
pub(crate) struct TxQueue {
    slices: VecDeque<Bytes>,
    bytes: usize,
}

impl TxQueue {
    /// Appends all of `out`, leaving it empty with its capacity.
    pub(crate) fn append(&mut self, out: &mut Vec<Bytes>) {
        for slice in out.drain(..) {
            if !slice.is_empty() {
                self.bytes += slice.len();
                self.slices.push_back(slice);
            }
        }
    }

    /// Bytes not sent yet.
    pub(crate) fn len(&self) -> usize {
        self.bytes
    }

    /// Whether everything was sent.
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// The next slices to send, at most [`MAX_SLICES`].
    pub(crate) fn slices(&self) -> Slices<'_> {
        self.slices.iter().take(MAX_SLICES).map(|slice| IoSlice::new(slice)).collect()
    }

    /// All slices to send, in order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Bytes> {
        self.slices.iter()
    }

    /// Drops `sent` bytes from the front; the rest of a slice sent in part comes first next time.
    pub(crate) fn advance(&mut self, mut sent: usize) {
        debug_assert!(sent <= self.bytes, "the system sent more than there was");
        self.bytes = self.bytes.saturating_sub(sent);
        while let Some(front) = self.slices.front_mut() {
            if sent < front.len() {
                front.advance(sent);
                return;
            }
            sent -= front.len();
            self.slices.pop_front();
        }
    }

    /// Gives memory back after a burst.
    pub(crate) fn shrink(&mut self) {
        if self.slices.is_empty() && self.slices.capacity() > MAX_SLICES {
            self.slices = VecDeque::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn short_writes_resume_where_they_stopped(
            parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..600),
            cuts in prop::collection::vec(1usize..40, 1..20),
        ) {
            let mut queue = TxQueue::default();
            let mut out: Vec<Bytes> = parts.iter().cloned().map(Bytes::from).collect();
            queue.append(&mut out);
            let (mut sent, mut cut) = (Vec::new(), cuts.iter().cycle());
            while !queue.is_empty() {
                let flat: Vec<u8> = queue.slices().iter().flat_map(|slice| slice.to_vec()).collect();
                let count = flat.len().min(*cut.next().unwrap_or(&1));
                prop_assert!(count > 0);
                sent.extend_from_slice(&flat[..count]);
                queue.advance(count);
            }
            prop_assert_eq!(sent, parts.concat());
        }
    }
}

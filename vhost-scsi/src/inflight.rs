//! Which requests are under way, in memory that outlives the process (vhost-user, "Inflight I/O tracking").
//!
//! The frontend keeps the memory while the device is gone and hands it back: what is noted there and not on the used ring
//! is carried out again, in the order in which it came.

use std::sync::atomic::{Ordering, fence};

/// Bytes in front of the descriptors of a queue: features, version, their number, head of the last batch, index of the
/// used ring.
const HEADER_BYTES: usize = 16;
/// Bytes for each descriptor: the mark, padding, the next one of a batch, the counter.
const ENTRY_BYTES: usize = 16;
/// Queues begin at a multiple of this.
const ALIGNMENT: usize = 64;
const VERSION: u16 = 1;

/// The notes of all queues of a device.
pub struct Inflight {
    bytes: Box<dyn AsMut<[u8]> + Send>,
    queue_size: u16,
    counter: u64,
}

impl std::fmt::Debug for Inflight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inflight").field("queue_size", &self.queue_size).finish_non_exhaustive()
    }
}

impl Inflight {
    /// Bytes that notes of so many queues of this size take.
    pub fn bytes_for(queues: u16, queue_size: u16) -> usize {
        usize::from(queues) * stride(queue_size)
    }

    /// Notes in this memory: zeros, or what an earlier process left there. `None` if it is shorter than
    /// [`bytes_for`](Self::bytes_for) says.
    pub fn new(mut bytes: Box<dyn AsMut<[u8]> + Send>, queues: u16, queue_size: u16) -> Option<Self> {
        let slice = (*bytes).as_mut();
        if slice.len() < Self::bytes_for(queues, queue_size) {
            return None;
        }
        for queue in slice.chunks_mut(stride(queue_size)).take(usize::from(queues)) {
            queue[8..10].copy_from_slice(&VERSION.to_le_bytes());
            queue[10..12].copy_from_slice(&queue_size.to_le_bytes());
        }
        let mut notes = Self { bytes, queue_size, counter: 0 };
        let last = (0..usize::from(queues)).flat_map(|queue| notes.marked(queue)).map(|(counter, _)| counter).max();
        notes.counter = last.map_or(0, |last| last + 1);
        Some(notes)
    }

    /// A request came.
    pub(crate) fn begin(&mut self, queue: usize, head: u16) {
        self.counter += 1;
        let counter = self.counter;
        if let Some(entry) = self.entry(queue, head) {
            // The counter before the mark, and the mark before anything is done: whoever looks after a kill sees them so.
            entry[8..16].copy_from_slice(&counter.to_le_bytes());
            fence(Ordering::SeqCst);
            entry[0] = 1;
        }
        fence(Ordering::SeqCst);
    }

    /// It is about to go on the used ring.
    pub(crate) fn end(&mut self, queue: usize, head: u16) {
        if let Some(header) = self.header(queue) {
            header[12..14].copy_from_slice(&head.to_le_bytes());
        }
        fence(Ordering::SeqCst);
    }

    /// It is there; `used` is the ring's index now.
    pub(crate) fn ended(&mut self, queue: usize, head: u16, used: u16) {
        fence(Ordering::SeqCst);
        if let Some(entry) = self.entry(queue, head) {
            entry[0] = 0;
        }
        fence(Ordering::SeqCst);
        if let Some(header) = self.header(queue) {
            header[14..16].copy_from_slice(&used.to_le_bytes());
        }
    }

    /// A request is not to be carried out again.
    pub(crate) fn forget(&mut self, queue: usize, head: u16) {
        if let Some(entry) = self.entry(queue, head) {
            entry[0] = 0;
        }
    }

    /// What is under way on a queue whose used ring has this index, oldest first.
    pub(crate) fn resume(&mut self, queue: usize, used: u16) -> Vec<u16> {
        let Some(header) = self.header(queue) else { return Vec::new() };
        let noted = u16::from_le_bytes([header[14], header[15]]);
        let last = u16::from_le_bytes([header[12], header[13]]);
        // One at a time goes on the ring: the process ended after the last one got there and before it was noted.
        if noted != used {
            self.ended(queue, last, used);
        }
        let mut marked = self.marked(queue);
        marked.sort_unstable();
        marked.into_iter().map(|(_, head)| head).collect()
    }

    fn marked(&mut self, queue: usize) -> Vec<(u64, u16)> {
        let heads = 0..self.queue_size;
        heads
            .filter_map(|head| {
                let entry = self.entry(queue, head)?;
                let counter = entry[8..16].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte));
                (entry[0] == 1).then_some((counter, head))
            })
            .collect()
    }

    fn header(&mut self, queue: usize) -> Option<&mut [u8]> {
        let start = queue.checked_mul(stride(self.queue_size))?;
        (*self.bytes).as_mut().get_mut(start..start + HEADER_BYTES)
    }

    fn entry(&mut self, queue: usize, head: u16) -> Option<&mut [u8]> {
        if head >= self.queue_size {
            return None;
        }
        let start = queue.checked_mul(stride(self.queue_size))? + HEADER_BYTES + usize::from(head) * ENTRY_BYTES;
        (*self.bytes).as_mut().get_mut(start..start + ENTRY_BYTES)
    }
}

fn stride(queue_size: u16) -> usize {
    (HEADER_BYTES + usize::from(queue_size) * ENTRY_BYTES).next_multiple_of(ALIGNMENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notes(bytes: &[u8]) -> Inflight {
        Inflight::new(Box::new(bytes.to_vec()), 2, 8).unwrap()
    }

    fn bytes(mut notes: Inflight) -> Vec<u8> {
        (*notes.bytes).as_mut().to_vec()
    }

    #[test]
    fn what_has_not_ended_comes_back_in_its_order() {
        let mut before = notes(&vec![0; Inflight::bytes_for(2, 8)]);
        for head in [5, 2, 7] {
            before.begin(1, head);
        }
        before.end(1, 2);
        before.ended(1, 2, 1);
        let mut after = notes(&bytes(before));
        assert_eq!(after.resume(1, 1), [5, 7]);
        assert!(after.resume(0, 0).is_empty());
        after.begin(1, 0);
        assert_eq!(after.resume(1, 1), [5, 7, 0]);
    }

    #[test]
    fn what_got_on_the_ring_and_was_not_noted_has_ended() {
        let mut before = notes(&vec![0; Inflight::bytes_for(2, 8)]);
        before.begin(0, 3);
        before.begin(0, 4);
        before.end(0, 4);
        assert_eq!(notes(&bytes(before)).resume(0, 1), [3]);
    }

    #[test]
    fn too_little_memory_is_refused() {
        assert!(Inflight::new(Box::new(vec![0; Inflight::bytes_for(2, 8) - 1]), 2, 8).is_none());
    }
}

//! A store in memory.

use bytes::Bytes;
use std::collections::HashMap;
use std::fmt;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use stmf::provider::{Segments, StoreErrorKind, StoreExtent, StoreUsage};

use super::{BackingStore, Capabilities, Error, Operation, Rotation, Unmap, ZEROS};

const PAGE_BYTES: usize = 4096;
const CHUNK_PAGES: usize = 16;
const CHUNK_BYTES: u64 = (PAGE_BYTES * CHUNK_PAGES) as u64;
const SHARDS: usize = 64;

/// A sparse disk in memory. Only what was written takes room; what is deallocated in whole pages of 4 KiB is freed.
///
/// Buffers are immutable once written: a read lends them instead of copying, and a write puts new ones in their place.
/// (The buffers of the writer are not kept: a slice of a large receive buffer would pin all of it.) Old buffers that
/// are partly overwritten cost at most as much again as the data: then the chunk is copied together.
pub struct MemoryStore {
    capacity: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
}

type Shard = HashMap<u64, Box<Chunk>>;

/// One page: `PAGE_BYTES` of `buffer` from `start` on. Neighbours that were written together share the buffer.
#[derive(Clone)]
struct Page {
    buffer: Bytes,
    start: u32,
}

#[derive(Default)]
struct Chunk([Option<Page>; CHUNK_PAGES]);

impl MemoryStore {
    /// A disk of `capacity` bytes that reads as zeros.
    pub fn new(capacity: u64) -> Self {
        Self { capacity: AtomicU64::new(capacity), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Bytes of memory that hold data now: whole pages.
    pub fn allocated(&self) -> u64 {
        let pages = |shard: &Mutex<Shard>| -> usize {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.values().map(|chunk| chunk.0.iter().flatten().count()).sum()
        };
        (self.shards.iter().map(pages).sum::<usize>() * PAGE_BYTES) as u64
    }

    fn shard(&self, chunk: u64) -> MutexGuard<'_, Shard> {
        // The data is consistent at every point where a panic could happen.
        self.shards[(chunk % SHARDS as u64) as usize].lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn check(&self, operation: Operation, offset: u64, length: u64) -> Result<(), Error> {
        match offset.checked_add(length) {
            Some(end) if end <= self.capacity() => Ok(()),
            _ => Err(Error::new(StoreErrorKind::OutOfRange, operation).at(offset, length).of(self.name())),
        }
    }

    fn release(&self, offset: u64, length: u64) {
        for (chunk, start, end) in chunks(offset, length) {
            let mut shard = self.shard(chunk);
            let Some(entry) = shard.get_mut(&chunk) else { continue };
            entry.release(start, end);
            if entry.0.iter().all(Option::is_none) {
                shard.remove(&chunk);
            }
        }
    }
}

impl BackingStore for MemoryStore {
    fn capacity(&self) -> u64 {
        self.capacity.load(Ordering::Relaxed)
    }

    fn read_at(&self, offset: u64, mut into: &mut [u8]) -> Result<(), Error> {
        for segment in self.read_bytes(offset, into.len())? {
            let (part, rest) = into.split_at_mut(segment.len());
            part.copy_from_slice(&segment);
            into = rest;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        let length = data.iter().map(|slice| slice.len() as u64).sum();
        self.check(Operation::Write, offset, length)?;
        let mut slices = data.iter().map(|slice| &slice[..]);
        let mut slice: &[u8] = &[];
        for (chunk, start, end) in chunks(offset, length) {
            let mut buffer = Vec::with_capacity(end - start);
            while buffer.len() < end - start {
                if slice.is_empty() {
                    match slices.next() {
                        Some(next) => slice = next,
                        None => break,
                    }
                }
                let (part, rest) = slice.split_at(slice.len().min(end - start - buffer.len()));
                buffer.extend_from_slice(part);
                slice = rest;
            }
            self.shard(chunk).entry(chunk).or_default().write(start, Bytes::from(buffer));
        }
        Ok(())
    }

    fn flush(&self) -> Result<(), Error> {
        Ok(())
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.check(Operation::Deallocate, offset, length)?;
        self.release(offset, length);
        Ok(())
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities {
            unmap: Some(Unmap { granularity_bytes: PAGE_BYTES as u32, reads_zero: true }),
            extents: true,
            resizable: true,
            write_zeroes: true,
            rotation: Rotation::NonRotating,
            physical_block_bytes: PAGE_BYTES as u32,
            // Nothing is left after a loss of power, and no write fails half-way.
            atomic_write_bytes: 1 << 20,
            usage: true,
            ..Capabilities::default()
        }
    }

    fn name(&self) -> String {
        "memory".into()
    }

    fn write_atomic_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.write_at(offset, data)
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.check(Operation::WriteZeroes, offset, length)?;
        self.release(offset, length);
        Ok(())
    }

    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        self.check(Operation::Read, offset, length as u64)?;
        let mut segments = Segments::new();
        for (chunk, start, end) in chunks(offset, length as u64) {
            match self.shard(chunk).get(&chunk) {
                Some(chunk) => chunk.read(start, end, &mut segments),
                None => segments.push(Bytes::from_static(&ZEROS[..end - start])),
            }
        }
        Ok(segments)
    }

    fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
        Some(self.read_bytes(offset, length))
    }

    fn try_write_bytes(&self, offset: u64, data: &Segments) -> Option<Result<(), Error>> {
        Some(self.write_bytes(offset, data, false))
    }

    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
        self.check(Operation::Extents, offset, length)?;
        let mut extents: Vec<StoreExtent> = Vec::new();
        for (chunk, start, end) in chunks(offset, length) {
            let shard = self.shard(chunk);
            let entry = shard.get(&chunk);
            let mut at = start;
            while at < end {
                let page = at / PAGE_BYTES;
                let length = ((page + 1) * PAGE_BYTES).min(end) - at;
                let mapped = entry.is_some_and(|entry| entry.0[page].is_some());
                let full = extents.len() == limit.max(1);
                match extents.last_mut() {
                    Some(last) if last.mapped == mapped => last.length += length as u64,
                    _ if full => return Ok(extents),
                    _ => extents.push(StoreExtent {
                        offset: chunk * CHUNK_BYTES + at as u64,
                        length: length as u64,
                        mapped,
                    }),
                }
                at += length;
            }
        }
        Ok(extents)
    }

    fn usage(&self) -> Result<StoreUsage, Error> {
        Ok(StoreUsage { used: self.allocated(), available: None })
    }

    fn set_len(&self, capacity: u64) -> Result<(), Error> {
        let old = self.capacity.swap(capacity, Ordering::Relaxed);
        if capacity < old {
            // What lies past the new end must not come back when the disk grows again.
            let mut keep_until = capacity.div_ceil(CHUNK_BYTES);
            for shard in &self.shards {
                shard.lock().unwrap_or_else(PoisonError::into_inner).retain(|&chunk, _| chunk < keep_until);
            }
            keep_until *= CHUNK_BYTES;
            self.release(capacity, keep_until - capacity);
        }
        Ok(())
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryStore({} bytes)", self.capacity())
    }
}

/// The parts of a range in each chunk: chunk number, first byte and end inside of it.
fn chunks(offset: u64, length: u64) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length;
    let mut at = offset;
    std::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let chunk = at / CHUNK_BYTES;
        let start = at - chunk * CHUNK_BYTES;
        let stop = (end - chunk * CHUNK_BYTES).min(CHUNK_BYTES);
        at = chunk * CHUNK_BYTES + stop;
        Some((chunk, start as usize, stop as usize))
    })
}

impl Chunk {
    fn write(&mut self, start: usize, data: Bytes) {
        let end = start + data.len();
        let (first, last) = (start / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        // The edges are widened to whole pages, so that every page lies in one buffer.
        let head = start % PAGE_BYTES;
        let tail = last * PAGE_BYTES - end;
        let buffer = if head == 0 && tail == 0 {
            data
        } else {
            let mut whole = Vec::with_capacity((last - first) * PAGE_BYTES);
            whole.extend_from_slice(&self.page(first)[..head]);
            whole.extend_from_slice(&data);
            whole.extend_from_slice(&self.page(last - 1)[PAGE_BYTES - tail..]);
            Bytes::from(whole)
        };
        for page in first..last {
            let start = ((page - first) * PAGE_BYTES) as u32;
            self.0[page] = Some(Page { buffer: buffer.clone(), start });
        }
        self.bound_pinned();
    }

    fn page(&self, page: usize) -> &[u8] {
        match &self.0[page] {
            Some(Page { buffer, start }) => &buffer[*start as usize..*start as usize + PAGE_BYTES],
            None => &ZEROS[..PAGE_BYTES],
        }
    }

    /// Copies the chunk together when the buffers that its pages keep alive take more than twice its size.
    fn bound_pinned(&mut self) {
        let mut pinned = 0;
        for (index, page) in self.0.iter().enumerate() {
            let Some(page) = page else { continue };
            let same = |earlier: &Page| earlier.buffer.as_ptr() == page.buffer.as_ptr();
            if !self.0[..index].iter().flatten().any(same) {
                pinned += page.buffer.len();
            }
        }
        if pinned <= 2 * CHUNK_BYTES as usize {
            return;
        }
        for page in 0..CHUNK_PAGES {
            if self.0[page].is_some() {
                let buffer = Bytes::copy_from_slice(self.page(page));
                self.0[page] = Some(Page { buffer, start: 0 });
            }
        }
    }

    fn read(&self, start: usize, end: usize, segments: &mut Segments) {
        let mut at = start;
        while at < end {
            let page = at / PAGE_BYTES;
            let mut stop = page + 1;
            let in_page = at - page * PAGE_BYTES;
            // Neighbours from one buffer go out as one slice.
            match &self.0[page] {
                Some(Page { buffer, start }) => {
                    let follows = |next: &Option<Page>, distance: usize| {
                        next.as_ref().is_some_and(|next| {
                            next.buffer.as_ptr() == buffer.as_ptr()
                                && next.start as usize == *start as usize + distance * PAGE_BYTES
                        })
                    };
                    while stop * PAGE_BYTES < end && follows(&self.0[stop], stop - page) {
                        stop += 1;
                    }
                    let until = (stop * PAGE_BYTES).min(end);
                    let from = *start as usize + in_page;
                    segments.push(buffer.slice(from..from + until - at));
                    at = until;
                }
                None => {
                    while stop * PAGE_BYTES < end && self.0[stop].is_none() {
                        stop += 1;
                    }
                    let until = (stop * PAGE_BYTES).min(end);
                    segments.push(Bytes::from_static(&ZEROS[..until - at]));
                    at = until;
                }
            }
        }
    }

    fn release(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let page = at / PAGE_BYTES;
            let stop = ((page + 1) * PAGE_BYTES).min(end);
            if stop - at == PAGE_BYTES {
                self.0[page] = None;
            } else if self.0[page].is_some() {
                let mut bytes = self.page(page).to_vec();
                bytes[at - page * PAGE_BYTES..stop - page * PAGE_BYTES].fill(0);
                self.0[page] = Some(Page { buffer: Bytes::from(bytes), start: 0 });
            }
            at = stop;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn write(store: &MemoryStore, offset: u64, data: &[u8]) {
        let (one, two) = data.split_at(data.len() / 3);
        store.write_at(offset, &[IoSlice::new(one), IoSlice::new(two)]).unwrap();
    }

    proptest! {
        #[test]
        fn behaves_like_an_array_of_bytes(
            operations in prop::collection::vec((0..4u8, 0..300_000u64, 1..100_000u64, 1..=255u8), 1..40),
        ) {
            let size = 400_000u64;
            let store = MemoryStore::new(size);
            let mut model = vec![0u8; size as usize];
            for (kind, offset, length, byte) in operations {
                let (from, to) = (offset as usize, (offset + length) as usize);
                match kind {
                    0 => {
                        write(&store, offset, &vec![byte; length as usize]);
                        model[from..to].fill(byte);
                    }
                    1 => {
                        store.deallocate(offset, length).unwrap();
                        model[from..to].fill(0);
                    }
                    2 => {
                        store.write_zeroes(offset, length).unwrap();
                        model[from..to].fill(0);
                    }
                    _ => {
                        let data: Vec<u8> = (0..length).map(|i| (i % 253) as u8).collect();
                        write(&store, offset, &data);
                        model[from..to].copy_from_slice(&data);
                    }
                }
                prop_assert_eq!(store.read_bytes(offset, length as usize).unwrap().concat(), &model[from..to]);
            }
            let mut all = vec![1; size as usize];
            store.read_at(0, &mut all).unwrap();
            prop_assert_eq!(all, model);
        }
    }

    #[test]
    fn a_read_keeps_what_it_saw_when_a_write_follows() {
        let store = MemoryStore::new(1 << 20);
        write(&store, 0, &[1; 8192]);
        let lent = store.read_bytes(0, 8192).unwrap();
        write(&store, 0, &[2; 8192]);
        assert_eq!(lent.concat(), [1; 8192]);
        assert_eq!(lent.len(), 1, "pages written together are lent together");
    }

    #[test]
    fn partly_overwritten_buffers_pin_at_most_twice_the_data() {
        let store = MemoryStore::new(CHUNK_BYTES);
        for pages in (1..=CHUNK_PAGES).rev() {
            write(&store, 0, &vec![pages as u8; pages * PAGE_BYTES]);
        }
        let shard = store.shard(0);
        let mut buffers: Vec<_> = shard[&0].0.iter().flatten().map(|p| (p.buffer.as_ptr(), p.buffer.len())).collect();
        buffers.dedup();
        assert!(buffers.iter().map(|b| b.1).sum::<usize>() <= 2 * CHUNK_BYTES as usize);
    }

    #[test]
    fn only_written_pages_take_memory_and_deallocation_frees_them() {
        let store = MemoryStore::new(1 << 40);
        write(&store, 1 << 39, &[7; 5000]);
        assert_eq!(store.allocated(), 8192);
        let extents = store.extents((1 << 39) - 4096, 16384, 8).unwrap();
        assert_eq!(
            extents.iter().map(|e| (e.length, e.mapped)).collect::<Vec<_>>(),
            [(4096, false), (8192, true), (4096, false)]
        );
        store.deallocate(1 << 39, 8192).unwrap();
        assert_eq!(store.allocated(), 0);
    }

    #[test]
    fn what_was_cut_off_reads_as_zeros_after_growing_again() {
        let store = MemoryStore::new(200_000);
        write(&store, 0, &[9; 200_000]);
        store.set_len(70_000).unwrap();
        assert!(store.read_bytes(69_000, 2000).is_err());
        store.set_len(200_000).unwrap();
        assert!(store.read_bytes(70_000, 130_000).unwrap().concat().iter().all(|&b| b == 0));
        assert_eq!(store.read_bytes(0, 70_000).unwrap().concat(), [9; 70_000]);
    }
}

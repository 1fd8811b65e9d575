//! A store in memory.

use bytes::{Bytes, BytesMut};
use std::fmt;
use std::io::IoSlice;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use stmf::provider::{Segments, StoreErrorKind, StoreExtent, StoreUsage};

use super::{BackingStore, Capabilities, Error, Operation, Rotation, Unmap, ZEROS, streaming};

const PAGE_BYTES: usize = 4096;
const CHUNK_PAGES: usize = 16;
const CHUNK_BYTES: u64 = (PAGE_BYTES * CHUNK_PAGES) as u64;
const SHARDS: usize = 64;
/// Chunks of one leaf of a shard's table.
const LEAF: usize = 256;

/// A sparse disk in memory. Memory is taken in chunks of 64 KiB, of which the system backs what was written; chunks of
/// which everything was deallocated are freed.
///
/// A read lends the chunk's own bytes instead of copying them. A write goes to its place in the chunk while nobody holds
/// such a loan, and into a fresh chunk otherwise: what was lent does not change. (The buffers of the writer are not kept:
/// a slice of a large receive buffer would pin all of it.) In steady state neither allocates.
pub struct MemoryStore {
    capacity: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
}

/// The chunks whose number has the same rest, in leaves that are made when they are needed.
#[derive(Default)]
struct Shard {
    leaves: Vec<Option<Box<[Option<Chunk>; LEAF]>>>,
}

/// 64 KiB of the disk.
struct Chunk {
    /// All of it; what lies in pages that are not present means nothing.
    data: Bytes,
    /// A bit for each page that was written.
    present: u16,
}

impl Shard {
    fn get(&self, chunk: u64) -> Option<&Chunk> {
        let (leaf, place) = place(chunk);
        self.leaves.get(leaf)?.as_ref()?[place].as_ref()
    }

    /// The place of a chunk, whether it is there or not.
    fn entry(&mut self, chunk: u64) -> &mut Option<Chunk> {
        let (leaf, place) = place(chunk);
        if self.leaves.len() <= leaf {
            self.leaves.resize_with(leaf + 1, || None);
        }
        &mut self.leaves[leaf].get_or_insert_with(|| Box::new([const { None }; LEAF]))[place]
    }

    /// The place of a chunk, if its leaf is there.
    fn find_mut(&mut self, chunk: u64) -> Option<&mut Option<Chunk>> {
        let (leaf, place) = place(chunk);
        Some(&mut self.leaves.get_mut(leaf)?.as_mut()?[place])
    }

    fn iter(&self) -> impl Iterator<Item = &Chunk> {
        self.leaves.iter().flatten().flat_map(|leaf| leaf.iter().flatten())
    }

    /// Forgets the chunks from `first` on; `shard` is its own number.
    fn truncate(&mut self, shard: u64, first: u64) {
        let kept = first.saturating_sub(shard).div_ceil(SHARDS as u64) as usize;
        self.leaves.truncate(kept.div_ceil(LEAF));
        if let Some(Some(leaf)) = self.leaves.get_mut(kept / LEAF) {
            leaf[kept % LEAF..].fill_with(|| None);
        }
    }
}

/// Leaf and place of a chunk in its shard.
fn place(chunk: u64) -> (usize, usize) {
    let index = (chunk / SHARDS as u64) as usize;
    (index / LEAF, index % LEAF)
}

impl MemoryStore {
    /// A disk of `capacity` bytes that reads as zeros.
    pub fn new(capacity: u64) -> Self {
        Self { capacity: AtomicU64::new(capacity), shards: (0..SHARDS).map(|_| Mutex::default()).collect() }
    }

    /// Bytes of memory that hold data now: whole pages.
    pub fn allocated(&self) -> u64 {
        let pages = |shard: &Mutex<Shard>| -> u64 {
            let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.iter().map(|chunk| u64::from(chunk.present.count_ones())).sum()
        };
        self.shards.iter().map(pages).sum::<u64>() * PAGE_BYTES as u64
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
            let Some(place) = shard.find_mut(chunk) else { continue };
            if let Some(chunk) = place {
                chunk.release(start, end);
                if chunk.present == 0 {
                    *place = None;
                }
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
        let mut source = Source { slices: data, offset: 0 };
        for (chunk, start, end) in chunks(offset, length) {
            self.shard(chunk).entry(chunk).get_or_insert_with(Chunk::new).write(start, end, &mut source);
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
            match self.shard(chunk).get(chunk) {
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
            let present = self.shard(chunk).get(chunk).map_or(0, |chunk| chunk.present);
            let mut at = start;
            while at < end {
                let page = at / PAGE_BYTES;
                let length = ((page + 1) * PAGE_BYTES).min(end) - at;
                let mapped = present & 1 << page != 0;
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
            for (number, shard) in self.shards.iter().enumerate() {
                shard.lock().unwrap_or_else(PoisonError::into_inner).truncate(number as u64, keep_until);
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

/// The bytes of a write, taken from the front.
struct Source<'a> {
    slices: &'a [IoSlice<'a>],
    offset: usize,
}

impl Source<'_> {
    /// Fills `into`; there are as many bytes left.
    fn copy_to(&mut self, mut into: &mut [u8]) {
        while let Some(slice) = self.slices.first()
            && !into.is_empty()
        {
            let rest = &slice[self.offset..];
            let length = rest.len().min(into.len());
            let (now, later) = into.split_at_mut(length);
            streaming::copy(now, &rest[..length]);
            into = later;
            self.offset += length;
            if self.offset == slice.len() {
                self.slices = &self.slices[1..];
                self.offset = 0;
            }
        }
    }
}

/// A buffer that can be taken back from `Bytes` without an allocation when nobody else holds it.
fn buffer(make: impl FnOnce() -> BytesMut) -> BytesMut {
    // A buffer that was split once keeps its count of holders for good.
    make().split()
}

/// Reads of up to this many bytes are asked for ahead: those of a batch of commands fit a cache together.
#[cfg(target_arch = "x86_64")]
const HINTED_BYTES: usize = 16 << 10;

/// Has the processor fetch what was lent: it is sent when the other commands of its batch are done, and would be missed in
/// the cache then.
#[cfg(target_arch = "x86_64")]
fn hint(bytes: &[u8]) {
    use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
    const LINE: usize = 64;
    if bytes.len() <= HINTED_BYTES {
        for four in bytes.chunks(4 * LINE) {
            for line in 0..4 {
                // SAFETY: a hint reads nothing, wherever it points.
                #[allow(unsafe_code)]
                unsafe {
                    _mm_prefetch::<_MM_HINT_T0>(four.as_ptr().wrapping_add(line * LINE).cast());
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn hint(_bytes: &[u8]) {}

impl Chunk {
    fn new() -> Self {
        let data = buffer(|| BytesMut::zeroed(CHUNK_BYTES as usize)).freeze();
        Self { data, present: 0 }
    }

    /// Bits of the pages from `start` to `end`, those touched only in part included.
    fn pages(start: usize, end: usize) -> u16 {
        let (first, last) = (start / PAGE_BYTES, end.div_ceil(PAGE_BYTES));
        ((1u32 << last) - (1u32 << first)) as u16
    }

    /// Changes the bytes, in place if nobody was lent any. Of a fresh chunk what lies outside of `start..end` is copied.
    fn change(&mut self, start: usize, end: usize, change: impl FnOnce(&mut [u8])) {
        let mut data = std::mem::take(&mut self.data).try_into_mut().unwrap_or_else(|lent| {
            let mut fresh = buffer(|| BytesMut::zeroed(CHUNK_BYTES as usize));
            for page in 0..CHUNK_PAGES {
                let (from, to) = (page * PAGE_BYTES, (page + 1) * PAGE_BYTES);
                let covered = start <= from && to <= end;
                if self.present & 1 << page != 0 && !covered {
                    fresh[from..to].copy_from_slice(&lent[from..to]);
                }
            }
            fresh
        });
        change(&mut data);
        self.data = data.freeze();
    }

    fn write(&mut self, start: usize, end: usize, source: &mut Source<'_>) {
        let present = self.present;
        self.change(start, end, |data| {
            // What a page had before it was deallocated must not come back around the edges.
            let (head, tail) = (start / PAGE_BYTES, (end - 1) / PAGE_BYTES);
            if present & 1 << head == 0 {
                data[head * PAGE_BYTES..start].fill(0);
            }
            if present & 1 << tail == 0 {
                data[end..(tail + 1) * PAGE_BYTES].fill(0);
            }
            source.copy_to(&mut data[start..end]);
        });
        self.present |= Self::pages(start, end);
    }

    fn read(&self, start: usize, end: usize, segments: &mut Segments) {
        let wanted = Self::pages(start, end);
        if self.present & wanted == wanted {
            hint(&self.data[start..end]);
            segments.push(self.data.slice(start..end));
            return;
        }
        let mut at = start;
        while at < end {
            // Neighbours of one kind go out as one slice.
            let is_present = |page: usize| self.present & 1 << page != 0;
            let page = at / PAGE_BYTES;
            let mut stop = page + 1;
            while stop * PAGE_BYTES < end && is_present(stop) == is_present(page) {
                stop += 1;
            }
            let until = (stop * PAGE_BYTES).min(end);
            segments.push(match is_present(page) {
                true => self.data.slice(at..until),
                false => Bytes::from_static(&ZEROS[..until - at]),
            });
            at = until;
        }
    }

    fn release(&mut self, start: usize, end: usize) {
        let mut at = start;
        while at < end {
            let page = at / PAGE_BYTES;
            let stop = ((page + 1) * PAGE_BYTES).min(end);
            if stop - at == PAGE_BYTES {
                self.present &= !(1 << page);
            } else if self.present & 1 << page != 0 {
                self.change(at, stop, |data| data[at..stop].fill(0));
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
    fn a_write_goes_to_its_place_unless_somebody_reads_there() {
        let store = MemoryStore::new(1 << 20);
        write(&store, 0, &[1; 65536]);
        let address = store.read_bytes(0, 4096).unwrap()[0].as_ptr();
        write(&store, 4096, &[2; 512]);
        let lent = store.read_bytes(0, 65536).unwrap();
        assert_eq!(lent[0].as_ptr(), address);
        write(&store, 8192, &[3; 512]);
        let now = store.read_bytes(0, 65536).unwrap();
        assert_ne!(now[0].as_ptr(), address, "the loan is not touched");
        assert_eq!((lent[0][8192], now[0][8192], now[0][4096], now[0][0]), (1, 3, 2, 1));
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

//! Buffers lent to the kernel: it picks one when bytes arrive on any socket.

use crate::driver::chunks::{Chunk, ChunkClass, ChunkPool};
use bytes::Bytes;
use io_uring::IoUring;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

/// Page size: what the kernel asks of the ring's address.
const PAGE: usize = 4096;

/// A ring of provided buffers; each is a chunk of the class [`ChunkClass::Ring`].
pub(super) struct BufferRing {
    entries: NonNull<BufRingEntry>,
    layout: Layout,
    /// By buffer id; `None` only while one is replaced.
    chunks: Vec<Option<Chunk>>,
    tail: u16,
}

impl BufferRing {
    /// Registers `count` buffers (a power of two) as `group`.
    pub(super) fn new(ring: &IoUring, group: u16, count: u16, pool: &mut ChunkPool) -> io::Result<Self> {
        let bytes = usize::from(count) * size_of::<BufRingEntry>();
        let layout = Layout::from_size_align(bytes, PAGE).map_err(io::Error::other)?;
        // SAFETY: the layout's size is not zero.
        let Some(entries) = NonNull::new(unsafe { alloc_zeroed(layout) }) else { handle_alloc_error(layout) };
        let entries = entries.cast();
        let mut buffers = Self { entries, layout, chunks: Vec::new(), tail: 0 };
        // SAFETY: the memory has room for `count` entries at a page's start and is freed only after the ring is
        // closed: `Uring` declares the ring before the buffers.
        unsafe { ring.submitter().register_buf_ring_with_flags(entries.as_ptr() as u64, count, group, 0)? };
        for buffer in 0..count {
            buffers.chunks.push(Some(pool.take(ChunkClass::Ring)));
            buffers.give_back(buffer);
        }
        Ok(buffers)
    }

    /// Lends a buffer to the kernel again.
    pub(super) fn give_back(&mut self, buffer: u16) {
        let Some(Some(chunk)) = self.chunks.get_mut(usize::from(buffer)) else { return };
        chunk.buffer.clear();
        let room = chunk.buffer.spare_capacity_mut();
        let (address, length) = (room.as_mut_ptr() as u64, room.len() as u32);
        let index = usize::from(self.tail) % (self.layout.size() / size_of::<BufRingEntry>());
        // SAFETY: the index is below the number of entries, and the kernel does not touch an entry before the tail
        // passes it. The chunk stays in place and untouched until the kernel gives the buffer back.
        unsafe {
            let entry = &mut *self.entries.as_ptr().add(index);
            entry.set_addr(address);
            entry.set_len(length);
            entry.set_bid(buffer);
        }
        self.tail = self.tail.wrapping_add(1);
        // SAFETY: the tail lies in the first entry's reserved field, aligned for 16 bits; the kernel only reads it.
        unsafe {
            let tail = BufRingEntry::tail(self.entries.as_ptr()).cast_mut();
            AtomicU16::from_ptr(tail).store(self.tail, Ordering::Release);
        }
    }

    /// The bytes that the kernel put into a buffer.
    pub(super) fn filled(&mut self, buffer: u16, count: usize) -> &[u8] {
        match self.chunks.get_mut(usize::from(buffer)) {
            Some(Some(chunk)) => {
                // SAFETY: the kernel says that it wrote so many bytes to the start of the empty buffer.
                unsafe { chunk.buffer.set_len(count.min(chunk.buffer.capacity())) };
                &chunk.buffer
            }
            _ => &[],
        }
    }

    /// Takes the bytes that the kernel put into a buffer, with the chunk they lie in, and lends it `fresh` instead.
    pub(super) fn replace(&mut self, buffer: u16, count: usize, fresh: Chunk) -> (Bytes, Chunk) {
        self.filled(buffer, count);
        let Some(mut full) = self.chunks.get_mut(usize::from(buffer)).and_then(Option::take) else {
            return (Bytes::new(), fresh);
        };
        self.chunks[usize::from(buffer)] = Some(fresh);
        self.give_back(buffer);
        (full.buffer.split().freeze(), full)
    }

    /// Leaves all memory to the kernel.
    pub(super) fn forget(&mut self) {
        std::mem::forget(std::mem::take(&mut self.chunks));
        self.layout = Layout::new::<()>();
    }
}

impl Drop for BufferRing {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated with this layout; the ring is closed.
            unsafe { dealloc(self.entries.as_ptr().cast(), self.layout) };
        }
    }
}

//! Receive buffers: large chunks of which the protocol gets slices, used again once nobody holds one.
//!
//! A chunk belongs to one connection while any slice of it is alive. So a peer that leaves a PDU unfinished holds
//! memory filled by its own bytes and at most one chunk more, and a connection that holds nothing has no chunk at all.
//! The pool gives out what came back last: it is in the cache.

use bytes::BytesMut;
use std::collections::VecDeque;

/// Sizes of chunks. A connection starts small and grows when a receive fills its chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) enum ChunkClass {
    /// Enough for any login PDU and for a window of commands without data.
    #[default]
    Small,
    /// Many PDUs with data in one system call.
    Large,
    /// Lent to the kernel, which picks one when bytes arrive.
    Ring,
}

impl ChunkClass {
    /// Bytes of a chunk.
    pub(crate) const fn size(self) -> usize {
        match self {
            Self::Small => 8 << 10,
            Self::Large => 256 << 10,
            Self::Ring => 64 << 10,
        }
    }

    /// With less room than this the chunk is replaced: a receive into a small rest costs a system call for little.
    const fn least_room(self) -> usize {
        match self {
            Self::Small => 2 << 10,
            Self::Large => 64 << 10,
            Self::Ring => Self::Ring.size(),
        }
    }
}

/// A receive buffer; [`BytesMut`] counts who holds slices of it.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub(crate) buffer: BytesMut,
    pub(crate) class: ChunkClass,
}

impl Chunk {
    fn new(class: ChunkClass) -> Self {
        Self { buffer: BytesMut::with_capacity(class.size()), class }
    }

    /// Makes the whole chunk free again, if nobody holds a slice.
    pub(crate) fn reclaim(&mut self) -> bool {
        self.buffer.clear();
        self.buffer.try_reclaim(self.class.size())
    }
}

/// Chunks that nobody uses, last in first out.
#[derive(Debug)]
pub(crate) struct ChunkPool {
    free: [Vec<Chunk>; 3],
    /// Large chunks of which slices were alive when their connection had no use for them any more, the oldest first. To let
    /// go of them would be to have the system map and clear new memory for each.
    lent: VecDeque<Chunk>,
    cached_bytes: usize,
    limit_bytes: usize,
    used: bool,
}

impl ChunkPool {
    /// An empty pool that keeps up to `limit_bytes`.
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { free: Default::default(), lent: VecDeque::new(), cached_bytes: 0, limit_bytes, used: false }
    }

    /// Sees that `slot` has a chunk of `class` with room to receive into.
    pub(crate) fn prepare<'a>(&mut self, slot: &'a mut Option<Chunk>, class: ChunkClass) -> &'a mut Chunk {
        let usable = slot.as_mut().is_some_and(|chunk| {
            chunk.class == class && (chunk.buffer.capacity() >= class.least_room() || chunk.reclaim())
        });
        if !usable && let Some(old) = slot.take() {
            self.put(old);
        }
        slot.get_or_insert_with(|| self.take(class))
    }

    /// Takes the chunk of a connection back if nothing of it is in use; otherwise the connection keeps it.
    pub(crate) fn release(&mut self, slot: &mut Option<Chunk>) {
        if slot.as_mut().is_some_and(Chunk::reclaim)
            && let Some(chunk) = slot.take()
        {
            self.put(chunk);
        }
    }

    /// Gives everything cached back to the allocator, if no chunk was asked for since the last call.
    pub(crate) fn trim_if_idle(&mut self) {
        if !std::mem::take(&mut self.used) {
            self.free = Default::default();
            self.lent = VecDeque::new();
            self.cached_bytes = 0;
        }
    }

    /// Whether anything is cached.
    pub(crate) fn is_empty(&self) -> bool {
        self.cached_bytes == 0
    }

    /// A free chunk.
    pub(crate) fn take(&mut self, class: ChunkClass) -> Chunk {
        self.used = true;
        match self.free[class as usize].pop() {
            Some(chunk) => {
                self.cached_bytes -= class.size();
                chunk
            }
            None => self.returned(class).unwrap_or_else(|| Chunk::new(class)),
        }
    }

    /// A chunk that was lent and of which nothing is alive any more. Answers leave in order: the oldest comes back first.
    fn returned(&mut self, class: ChunkClass) -> Option<Chunk> {
        if class != ChunkClass::Large || !self.lent.front_mut()?.reclaim() {
            return None;
        }
        self.cached_bytes -= class.size();
        self.lent.pop_front()
    }

    /// Takes a chunk that is not needed any more. One of which slices live on comes back when they go, if it is kept.
    pub(crate) fn put(&mut self, mut chunk: Chunk) {
        let size = chunk.class.size();
        if self.cached_bytes + size > self.limit_bytes {
            return;
        }
        if chunk.reclaim() {
            self.cached_bytes += size;
            self.free[chunk.class as usize].push(chunk);
        } else if chunk.class == ChunkClass::Large {
            self.cached_bytes += size;
            self.lent.push_back(chunk);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_nobody_holds_is_used_again() {
        let mut pool = ChunkPool::new(1 << 20);
        let mut slot = None;
        let chunk = pool.prepare(&mut slot, ChunkClass::Large);
        chunk.buffer.extend_from_slice(b"abc");
        let slice = chunk.buffer.split().freeze();
        let address = slice.as_ptr();
        pool.release(&mut slot);
        assert!(slot.is_some(), "a slice is alive, the connection keeps its chunk");
        drop(slice);
        pool.release(&mut slot);
        assert!(slot.is_none());
        let chunk = pool.prepare(&mut slot, ChunkClass::Large);
        assert_eq!(chunk.buffer.spare_capacity_mut().as_ptr().cast(), address);
        assert_eq!(chunk.buffer.capacity(), ChunkClass::Large.size());
    }

    #[test]
    fn a_full_chunk_with_live_slices_is_replaced() {
        let mut pool = ChunkPool::new(1 << 20);
        let mut slot = None;
        let chunk = pool.prepare(&mut slot, ChunkClass::Small);
        chunk.buffer.extend_from_slice(&[7; 8 << 10]);
        let slice = chunk.buffer.split().freeze();
        let chunk = pool.prepare(&mut slot, ChunkClass::Small);
        assert_eq!(chunk.buffer.capacity(), ChunkClass::Small.size());
        assert!(slice.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_large_chunk_comes_back_when_its_last_slice_goes() {
        let mut pool = ChunkPool::new(1 << 20);
        let mut slot = None;
        let chunk = pool.prepare(&mut slot, ChunkClass::Large);
        chunk.buffer.extend_from_slice(&vec![7; 250 << 10]);
        let slice = chunk.buffer.split().freeze();
        let address = slice.as_ptr();
        let chunk = pool.prepare(&mut slot, ChunkClass::Large);
        assert_ne!(chunk.buffer.spare_capacity_mut().as_ptr().cast(), address, "somebody still reads it");
        drop(slice);
        let chunk = pool.take(ChunkClass::Large);
        assert_eq!(chunk.buffer.as_ptr(), address);
    }

    #[test]
    fn the_pool_keeps_no_more_than_its_limit() {
        let mut pool = ChunkPool::new(ChunkClass::Large.size());
        for _ in 0..2 {
            let mut slots = [None, None, None];
            for slot in &mut slots {
                pool.prepare(slot, ChunkClass::Large);
            }
            for slot in &mut slots {
                pool.release(slot);
            }
            assert_eq!(pool.free[1].len(), 1);
        }
        pool.trim_if_idle();
        assert!(!pool.is_empty());
        pool.trim_if_idle();
        assert!(pool.is_empty());
    }
}

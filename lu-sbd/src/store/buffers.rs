//! Buffers for reads, used again when those whom they were lent to have let go of them.

use bytes::BytesMut;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The smallest and the largest buffer that is kept, as powers of two: 4 KiB and 1 MiB.
const SMALLEST: u32 = 12;
const LARGEST: u32 = 20;

/// Most that one thread keeps, in bytes.
const MOST_BYTES: usize = 8 << 20;

/// Most that all threads keep, in bytes: a pool of many threads would otherwise hold that much of each for ever.
const MOST_OF_ALL: usize = 32 << 20;

/// What threads take of it at a time, and keep until they end: the counter is shared, and a read should not touch it.
const SHARE: usize = 1 << 20;

/// What is not taken.
static LEFT: AtomicUsize = AtomicUsize::new(MOST_OF_ALL);

/// Memory that is given back to the system with every read has to be mapped and zeroed with every read. So a thread keeps
/// hold of what it lends; the oldest loan of a size comes back first, as answers leave in order.
#[derive(Default)]
struct Buffers {
    lent: [VecDeque<BytesMut>; (LARGEST - SMALLEST + 1) as usize],
    bytes: usize,
    /// What this thread may keep by now.
    share: usize,
}

impl Buffers {
    /// Whether there is room for so many bytes more, which are a share at the most.
    fn has_room(&mut self, bytes: usize) -> bool {
        if self.bytes + bytes <= self.share {
            return true;
        }
        if self.share == MOST_BYTES {
            return false;
        }
        let taken = LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(SHARE));
        if taken.is_ok() {
            self.share += SHARE;
        }
        taken.is_ok()
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        LEFT.fetch_add(self.share, Ordering::Relaxed);
    }
}

thread_local! {
    static BUFFERS: RefCell<Buffers> = RefCell::default();
}

/// The class of a length, if it has one.
fn class(length: usize) -> Option<usize> {
    let power = length.next_power_of_two().trailing_zeros().max(SMALLEST);
    (power <= LARGEST && length > 0).then(|| (power - SMALLEST) as usize)
}

/// An empty buffer with room for `length` bytes or more.
pub(super) fn take(length: usize) -> BytesMut {
    let Some(class) = class(length) else { return BytesMut::with_capacity(length) };
    let size = 1 << (SMALLEST as usize + class);
    let again = BUFFERS.with_borrow_mut(|buffers| {
        let mut oldest = buffers.lent[class].pop_front()?;
        if oldest.try_reclaim(size) {
            buffers.bytes -= size;
            return Some(oldest);
        }
        // Whoever holds it is slow; it takes its turn at the end.
        buffers.lent[class].push_back(oldest);
        None
    });
    again.unwrap_or_else(|| BytesMut::with_capacity(size))
}

/// Lends what a buffer of [`take`] was filled with.
pub(super) fn lend(mut buffer: BytesMut) -> bytes::Bytes {
    let (length, size) = (buffer.len(), buffer.capacity());
    let filled = buffer.split().freeze();
    if let Some(class) = class(length)
        && size == 1 << (SMALLEST as usize + class)
    {
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.has_room(size) {
                buffers.bytes += size;
                buffers.lent[class].push_back(buffer);
            }
        });
    }
    filled
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(length: usize) -> bytes::Bytes {
        let mut buffer = take(length);
        buffer.resize(length, 7);
        lend(buffer)
    }

    #[test]
    fn a_buffer_comes_back_when_nobody_holds_it() {
        let first = read(5000);
        let second = read(8192);
        assert_ne!(first.as_ptr(), second.as_ptr());
        let address = first.as_ptr();
        drop(first);
        let third = read(6000);
        assert_eq!(third.as_ptr(), address);
        assert!(second.iter().chain(&third).all(|&byte| byte == 7));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let lent: Vec<_> = (0..100).map(|_| read(1 << 20)).collect();
        BUFFERS.with_borrow(|buffers| assert!(buffers.bytes <= MOST_BYTES && buffers.share <= MOST_BYTES));
        drop(lent);
        assert_eq!(read(3 << 20).len(), 3 << 20);
    }

    #[test]
    fn all_threads_together_keep_no_more_than_the_limit() {
        use std::sync::{Arc, Barrier};
        let (full, end) = (Arc::new(Barrier::new(9)), Arc::new(Barrier::new(9)));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let (full, end) = (Arc::clone(&full), Arc::clone(&end));
                std::thread::spawn(move || {
                    let lent: Vec<_> = (0..20).map(|_| read(1 << 20)).collect();
                    full.wait();
                    end.wait();
                    drop(lent);
                    BUFFERS.with_borrow(|buffers| buffers.share)
                })
            })
            .collect();
        full.wait();
        // Eight threads want 64 MiB; other tests of this process may have some of the 32.
        assert!(LEFT.load(Ordering::Relaxed) <= MOST_OF_ALL - SHARE);
        end.wait();
        let shares: usize = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
        assert!(shares <= MOST_OF_ALL, "{shares}");
        assert!(shares >= MOST_OF_ALL / 2, "{shares}");
    }
}

//! Copy on write.

use crate::store::{BackingStore, Capabilities, Error, MemoryStore, Unmap};
use std::io::IoSlice;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// The size of what is copied at once, in bytes.
const GRAIN_BYTES: u64 = 4096;

/// A store that is read where nothing was written, and another for what is written: the first never changes.
///
/// Grains of 4 KiB move from the one to the other when they are first written. Give each of many units an overlay over
/// one golden image.
#[derive(Debug)]
pub struct Overlay<B, U = MemoryStore> {
    below: B,
    upper: U,
    /// One bit a grain: it is in the upper store.
    written: RwLock<Vec<u64>>,
    /// Held while a grain moves, so that two writes to its two halves do not lose one.
    moving: Mutex<()>,
}

impl<B: BackingStore> Overlay<B> {
    /// What is written stays in memory, and is gone with the overlay.
    pub fn new(below: B) -> Self {
        let upper = MemoryStore::new(below.capacity());
        Self::over(below, upper)
    }
}

impl<B: BackingStore, U: BackingStore> Overlay<B, U> {
    /// What is written goes to `upper`, of the same size at least and with nothing in it. Which parts are written is
    /// kept in memory only.
    pub fn over(below: B, upper: U) -> Self {
        let words = below.capacity().div_ceil(GRAIN_BYTES).div_ceil(64);
        Self { below, upper, written: RwLock::new(vec![0; words as usize]), moving: Mutex::new(()) }
    }

    /// The store below.
    pub fn below(&self) -> &B {
        &self.below
    }

    /// Bytes of the grains that differ from the store below, or may.
    pub fn written_bytes(&self) -> u64 {
        self.read_map().iter().map(|word| u64::from(word.count_ones())).sum::<u64>() * GRAIN_BYTES
    }

    /// Forgets what was written: everything reads as in the store below again.
    ///
    /// # Errors
    /// None of its own; those of the upper store's deallocation are of no account.
    pub fn revert(&self) -> Result<(), Error> {
        let _moving = self.lock_moving();
        self.write_map().fill(0);
        if self.upper.capabilities().unmap.is_some() {
            let _ = self.upper.deallocate(0, self.below.capacity());
        }
        Ok(())
    }

    fn read_map(&self) -> RwLockReadGuard<'_, Vec<u64>> {
        self.written.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_map(&self) -> RwLockWriteGuard<'_, Vec<u64>> {
        self.written.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_moving(&self) -> MutexGuard<'_, ()> {
        self.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has every grain of the range be in the upper store; those that are covered in part are copied there first.
    fn claim(&self, offset: u64, length: u64) -> Result<(), Error> {
        if length == 0 {
            return Ok(());
        }
        let (first, last) = (offset / GRAIN_BYTES, (offset + length - 1) / GRAIN_BYTES);
        if self.are_written(first, last) {
            return Ok(());
        }
        let _moving = self.lock_moving();
        for grain in [first, last] {
            let start = grain * GRAIN_BYTES;
            let end = (start + GRAIN_BYTES).min(self.below.capacity());
            let is_covered = offset <= start && offset + length >= end;
            if !is_covered && !self.are_written(grain, grain) {
                let mut copy = vec![0; (end - start) as usize];
                self.below.read_at(start, &mut copy)?;
                self.upper.write_at(start, &[IoSlice::new(&copy)])?;
                self.mark(grain, grain);
            }
        }
        Ok(())
    }

    fn are_written(&self, first: u64, last: u64) -> bool {
        let map = self.read_map();
        (first..=last).all(|grain| is_set(&map, grain))
    }

    fn mark(&self, first: u64, last: u64) {
        let mut map = self.write_map();
        (first..=last).for_each(|grain| map[(grain / 64) as usize] |= 1 << (grain % 64));
    }

    /// Claims the range, writes it, and says so: in this order nobody reads a grain that is not there yet.
    fn write_with(&self, offset: u64, length: u64, write: impl FnOnce(&U) -> Result<(), Error>) -> Result<(), Error> {
        self.claim(offset, length)?;
        write(&self.upper)?;
        if length > 0 {
            self.mark(offset / GRAIN_BYTES, (offset + length - 1) / GRAIN_BYTES);
        }
        Ok(())
    }
}

fn is_set(map: &[u64], grain: u64) -> bool {
    map.get((grain / 64) as usize).is_some_and(|word| word >> (grain % 64) & 1 == 1)
}

impl<B: BackingStore, U: BackingStore> BackingStore for Overlay<B, U> {
    fn capacity(&self) -> u64 {
        self.below.capacity()
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let mut done = 0;
        while done < into.len() {
            let at = offset + done as u64;
            // The run of grains that are in the same store.
            let (from_upper, end) = {
                let map = self.read_map();
                let from_upper = is_set(&map, at / GRAIN_BYTES);
                let mut grain = at / GRAIN_BYTES + 1;
                while grain * GRAIN_BYTES < offset + into.len() as u64 && is_set(&map, grain) == from_upper {
                    grain += 1;
                }
                (from_upper, grain * GRAIN_BYTES)
            };
            let length = (into.len() - done).min((end - at) as usize);
            let part = &mut into[done..done + length];
            if from_upper {
                self.upper.read_at(at, part)?
            } else {
                self.below.read_at(at, part)?
            }
            done += length;
        }
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.write_with(offset, super::bytes_of(data), |upper| upper.write_at(offset, data))
    }

    fn flush(&self) -> Result<(), Error> {
        self.upper.flush()
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        // What is given back reads as zeros, not as what is below: the zeros are written.
        self.write_zeroes(offset, length)
    }

    fn capabilities(&self) -> Capabilities {
        let upper = self.upper.capabilities();
        Capabilities {
            unmap: Some(Unmap { granularity_bytes: GRAIN_BYTES as u32, reads_zero: true }),
            read_only: upper.read_only,
            extents: false,
            resizable: false,
            // A grain may have to move first.
            atomic_write_bytes: 0,
            usage: false,
            ..upper
        }
    }

    fn name(&self) -> String {
        format!("overlay of {}", self.below.name())
    }

    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.write_with(offset, length, |upper| upper.write_zeroes(offset, length))
    }
}

//! What the data of a logical unit is kept in.
//!
//! [`BackingStore`] is the trait for own stores: synchronous, positioned, callable from any thread. Four methods must
//! be written, a fifth ([`deallocate`](BackingStore::deallocate)) makes it thin; everything else has a default that is
//! right, if not the fastest.
//!
//! ```
//! use lu_sbd::store::{BackingStore, Error};
//! use std::io::IoSlice;
//! use std::sync::Mutex;
//!
//! #[derive(Debug)]
//! struct Ram(Mutex<Vec<u8>>);
//!
//! impl BackingStore for Ram {
//!     fn capacity(&self) -> u64 {
//!         self.0.lock().unwrap().len() as u64
//!     }
//!     fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
//!         let offset = offset as usize;
//!         into.copy_from_slice(&self.0.lock().unwrap()[offset..offset + into.len()]);
//!         Ok(())
//!     }
//!     fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
//!         let (mut bytes, mut at) = (self.0.lock().unwrap(), offset as usize);
//!         for slice in data {
//!             bytes[at..at + slice.len()].copy_from_slice(slice);
//!             at += slice.len();
//!         }
//!         Ok(())
//!     }
//!     fn flush(&self) -> Result<(), Error> {
//!         Ok(())
//!     }
//! }
//!
//! let store = Ram(Mutex::new(vec![0; 4096]));
//! store.write_zeroes(512, 512)?;
//! assert_eq!(store.read_bytes(0, 1024)?.concat(), vec![0; 1024]);
//! # Ok::<(), Error>(())
//! ```

mod ahead;
mod asynchronous;
mod atomic;
mod block_device;
mod buffers;
mod capabilities;
mod error;
mod fd;
mod file;
mod memory;
mod read_into;
mod shared;
mod streaming;
mod whole;
pub mod wrap;

pub use asynchronous::AsyncStore;
pub use block_device::{BlockDeviceOptions, BlockDeviceStore};
pub use capabilities::{Capabilities, Rotation, Unmap};
pub use error::{Error, Operation};
pub use file::{FileOptions, FileStore};
pub use memory::MemoryStore;
pub use read_into::ReadInto;
pub use whole::whole_blocks;

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::io::IoSlice;
use std::os::fd::BorrowedFd;
use stmf::provider::{Segments, StoreErrorKind, StoreExtent, StoreUsage};

/// The largest piece in which the defaults of [`BackingStore`] move data, in bytes.
const PIECE_BYTES: usize = 1 << 20;

/// 64 KiB of zeros to write from, and to lend where there is nothing.
pub(crate) static ZEROS: [u8; 1 << 16] = [0; 1 << 16];

/// Where the bytes of one logical unit are kept.
///
/// Offsets and lengths are bytes; callers stay inside [`capacity`](Self::capacity) and ask in whole logical blocks.
/// Every method may be called from any thread, several at a time; of overlapping operations in flight at once any may
/// win, byte by byte. All may wait for a device, except those named `try_`. Nothing may be assumed durable before a
/// [`flush`](Self::flush) that began after it returned success.
pub trait BackingStore: Send + Sync + fmt::Debug {
    /// Size in bytes.
    fn capacity(&self) -> u64;

    /// Fills `into` with the bytes from `offset` on. Parts never written read as zeros.
    ///
    /// # Errors
    /// Any [`Error`]; `into` may then hold anything.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error>;

    /// Writes the slices one after the other from `offset` on.
    ///
    /// # Errors
    /// Any [`Error`]; any part of the range may then have changed.
    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error>;

    /// Makes everything durable that was written before.
    ///
    /// # Errors
    /// Any [`Error`]. The logical unit counts earlier writes as lost then and fails until it is brought online again;
    /// a store should answer [`StoreErrorKind::Poisoned`] from then on.
    fn flush(&self) -> Result<(), Error>;

    /// Gives the range back. It reads as zeros afterwards if [`Unmap::reads_zero`] says so. Only called when
    /// [`Capabilities::unmap`] is there.
    ///
    /// # Errors
    /// Any [`Error`]; any part of the range may then have been given back.
    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        Err(Error::new(StoreErrorKind::Unsupported, Operation::Deallocate).at(offset, length))
    }

    /// What the store can do and how it likes to be used. Constant while the store is open.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// What to call the store in messages: a path, a URL. The default is the type's debug form.
    fn name(&self) -> String {
        format!("{self:?}")
    }

    /// As [`write_at`](Self::write_at), and durable on return. Other writes need not become durable.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at) and [`flush`](Self::flush).
    fn write_durable_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        self.write_at(offset, data)?;
        self.flush()
    }

    /// Writes all of it or nothing: after an error, or a loss of power at any moment, the range holds what it held
    /// before, or all of the new data. Readers may see both meanwhile. Only called when
    /// [`Capabilities::atomic_write_bytes`] is not zero, and with no more than that.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_atomic_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        let length = data.iter().map(|slice| slice.len() as u64).sum();
        Err(Error::new(StoreErrorKind::Unsupported, Operation::Write).at(offset, length))
    }

    /// Writes zeros over the range, keeping it allocated where the store knows the difference.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    fn write_zeroes(&self, offset: u64, length: u64) -> Result<(), Error> {
        write_repeated(self, offset, length, &ZEROS)
    }

    /// The bytes from `offset` on, `length` of them, in buffers of the store's own choice. A store that has them in
    /// memory lends them.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    fn read_bytes(&self, offset: u64, length: usize) -> Result<Segments, Error> {
        let mut buffer = vec![0; length];
        self.read_at(offset, &mut buffer)?;
        Ok(Segments::from_iter([Bytes::from(buffer)]))
    }

    /// As [`write_at`](Self::write_at), from buffers that the store may keep; durable on return if `durable`.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at) and [`flush`](Self::flush).
    fn write_bytes(&self, offset: u64, data: &Segments, durable: bool) -> Result<(), Error> {
        let slices: SmallVec<[IoSlice<'_>; 16]> = data.iter().map(|bytes| IoSlice::new(bytes)).collect();
        if durable { self.write_durable_at(offset, &slices) } else { self.write_at(offset, &slices) }
    }

    /// [`read_bytes`](Self::read_bytes) if that takes no waiting, else `None`.
    fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
        let _ = (offset, length);
        None
    }

    /// [`write_bytes`](Self::write_bytes), not durable, if that takes no waiting, else `None`. After `None` any part
    /// of the range may already have been written; the same write follows once more.
    fn try_write_bytes(&self, offset: u64, data: &Segments) -> Option<Result<(), Error>> {
        let _ = (offset, data);
        None
    }

    /// The store as one that reads right into memory of a transport, if it can: then its bytes are not copied once more on
    /// their way. A store that lends what it has in memory does no better by that.
    fn as_read_into(&self) -> Option<&dyn ReadInto> {
        None
    }

    /// Which parts of the range are backed by storage: ascending, without gaps, from `offset` on, at most `limit`
    /// extents, at least one. The answer may end before the range does. Only called when [`Capabilities::extents`] is
    /// set.
    ///
    /// # Errors
    /// Any [`Error`].
    fn extents(&self, offset: u64, length: u64, limit: usize) -> Result<Vec<StoreExtent>, Error> {
        let _ = limit;
        Ok(vec![StoreExtent { offset, length, mapped: true }])
    }

    /// How much storage is behind the data, and how much is left. Only called when [`Capabilities::usage`] is set.
    ///
    /// # Errors
    /// Any [`Error`].
    fn usage(&self) -> Result<StoreUsage, Error> {
        Err(Error::new(StoreErrorKind::Unsupported, Operation::Access))
    }

    /// The range will be read soon. Does not wait.
    fn prefetch(&self, offset: u64, length: u64) {
        let _ = (offset, length);
    }

    /// Changes the capacity. New bytes read as zeros.
    ///
    /// # Errors
    /// [`StoreErrorKind::Unsupported`] by default.
    fn set_len(&self, capacity: u64) -> Result<(), Error> {
        Err(Error::new(StoreErrorKind::Unsupported, Operation::Resize).at(0, capacity))
    }

    /// Copies a range from another store (or from this one, if the ranges do not overlap), inside the system where it
    /// can.
    ///
    /// # Errors
    /// Of the source's reads or of the own writes; any part of the range may then have been copied.
    fn copy_from(&self, source: &dyn BackingStore, source_offset: u64, offset: u64, length: u64) -> Result<(), Error> {
        let mut done = 0;
        while done < length {
            let piece = (length - done).min(PIECE_BYTES as u64);
            let data = source.read_bytes(source_offset + done, piece as usize)?;
            self.write_bytes(offset + done, &data, false)?;
            done += piece;
        }
        Ok(())
    }

    /// The file behind the store, if there is one: another store may copy from it inside the kernel.
    fn as_fd(&self) -> Option<BorrowedFd<'_>> {
        None
    }
}

/// Writes `pattern` over and over from `offset` on, `length` bytes in all (a multiple of the pattern's length, unless
/// the pattern is uniform).
pub(crate) fn write_repeated<S: BackingStore + ?Sized>(
    store: &S,
    offset: u64,
    length: u64,
    pattern: &[u8],
) -> Result<(), Error> {
    if pattern.is_empty() || length == 0 {
        return Ok(());
    }
    // Short patterns are spread out first, so that a piece takes few slices.
    let spread;
    let unit = if pattern.len() < 4096 {
        spread = pattern.repeat((1 << 16) / pattern.len());
        &spread[..]
    } else {
        pattern
    };
    let per_piece = (PIECE_BYTES / unit.len()).max(1);
    let mut done = 0;
    while done < length {
        let mut piece = 0;
        let mut slices: SmallVec<[IoSlice<'_>; 16]> = SmallVec::new();
        while slices.len() < per_piece && done + piece < length {
            let part = (length - done - piece).min(unit.len() as u64);
            slices.push(IoSlice::new(&unit[..part as usize]));
            piece += part;
        }
        store.write_at(offset + done, &slices)?;
        done += piece;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeated_pattern_fills_the_range_exactly() {
        for (pattern, blocks) in [(512, 3), (512, 5000), (4096, 1000), (24576, 90)] {
            let store = MemoryStore::new(4 << 20);
            let pattern: Vec<u8> = (0..pattern).map(|i| (i % 251) as u8 + 1).collect();
            let length = pattern.len() as u64 * blocks;
            write_repeated(&store, 512, length, &pattern).unwrap();
            let read = store.read_bytes(0, length as usize + 1024).unwrap().concat();
            assert!(read[..512].iter().all(|&b| b == 0));
            assert!(read[512..512 + length as usize].chunks(pattern.len()).all(|block| block == pattern));
            assert!(read[512 + length as usize..].iter().all(|&b| b == 0));
        }
    }
}

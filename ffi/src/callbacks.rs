//! A store of C functions that return when the work is done.

use crate::input::{Sized0, UserData, output, put, read_sized};
use crate::result::{Failure, calling_back, guard, lunette_result};
use crate::store::{LUNETTE_STORE_NEVER_WAITS, LUNETTE_STORE_READ_ONLY, STORES, Store, check_flags, lunette_store};
use lu_sbd::store::{BackingStore, Capabilities, Error, Operation, Unmap, whole_blocks};
use std::ffi::c_void;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use stmf::provider::Segments;

/// A store of the calling program.
///
/// The callbacks return 0, or an error of errno.h: ENOSPC, EROFS, EIO ... become the right sense data, any other a
/// medium error. They may be called from any thread, several at a time, until `destroy` is called; offsets and lengths
/// are whole logical blocks inside `capacity`. What two operations that overlap in time do to the same bytes is not
/// defined.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_store_callbacks {
    /// sizeof(lunette_store_callbacks).
    pub size: usize,
    /// Bytes in the store, 1 MiB at least.
    pub capacity: u64,
    /// LUNETTE_STORE_READ_ONLY, LUNETTE_STORE_NEVER_WAITS.
    pub flags: u32,
    /// Smallest range that `unmap` frees, in bytes, a power of two; 0 for one logical block.
    pub unmap_granularity: u32,
    /// Fills `buffer` with the `length` bytes from `offset` on. Must be there.
    pub read: Option<unsafe extern "C" fn(userdata: *mut c_void, offset: u64, buffer: *mut u8, length: usize) -> i32>,
    /// Writes `length` bytes from `offset` on, whole logical blocks; `data` is good until it returns. A command's data may
    /// come in several calls. NULL: the store is read-only.
    pub write: Option<unsafe extern "C" fn(userdata: *mut c_void, offset: u64, data: *const u8, length: usize) -> i32>,
    /// Makes everything durable that was written before it was called. NULL: every write is durable when it returns.
    pub flush: Option<unsafe extern "C" fn(userdata: *mut c_void) -> i32>,
    /// Gives the range back; it reads as zeros afterwards. NULL: the disk is not thin.
    pub unmap: Option<unsafe extern "C" fn(userdata: *mut c_void, offset: u64, length: u64) -> i32>,
    /// Called once, when nothing of the library refers to the store any more; no other callback runs then or follows.
    /// May be NULL.
    pub destroy: Option<unsafe extern "C" fn(userdata: *mut c_void)>,
}

// SAFETY: repr(C), size first, integers and optional functions.
unsafe impl Sized0 for lunette_store_callbacks {}

struct CallbackStore {
    calls: lunette_store_callbacks,
    userdata: UserData,
}

/// Makes a store of the calling program's functions; `userdata` is given to each of them.
///
/// On success the library owns `userdata` until it calls `destroy`; on failure it is still the caller's, and `destroy`
/// is not called.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_store_new_callbacks(
    callbacks: *const lunette_store_callbacks,
    userdata: *mut c_void,
    store: *mut *mut lunette_store,
) -> lunette_result {
    guard(|| {
        let place = output(store, "store")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let calls = unsafe { read_sized(callbacks, "callbacks") }?;
        check_flags(calls.flags, LUNETTE_STORE_READ_ONLY | LUNETTE_STORE_NEVER_WAITS)?;
        if calls.read.is_none() {
            return Err(Failure::null("callbacks.read"));
        }
        check_granularity(calls.unmap_granularity)?;
        let made = Store::Blocking(Arc::new(CallbackStore { calls, userdata: UserData(userdata) }));
        // SAFETY: not NULL, and the caller's promise.
        unsafe { put(place, STORES.insert(Arc::new(made))) };
        Ok(())
    })
}

pub(crate) fn check_granularity(bytes: u32) -> crate::result::Outcome {
    if bytes == 0 || bytes.is_power_of_two() {
        return Ok(());
    }
    Err(Failure::invalid(format!("unmap_granularity {bytes} is not a power of two")))
}

/// What a callback said.
pub(crate) fn answer(operation: Operation, code: i32) -> Result<(), Error> {
    match code.checked_abs() {
        Some(0) => Ok(()),
        Some(errno) => Err(Error::io(operation, io::Error::from_raw_os_error(errno))),
        None => Err(Error::io(operation, io::Error::other("the callback returned INT32_MIN"))),
    }
}

impl CallbackStore {
    fn never_waits(&self) -> bool {
        self.calls.flags & LUNETTE_STORE_NEVER_WAITS != 0
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        let Some(write) = self.calls.write else {
            return answer(Operation::Write, 30 /* EROFS */);
        };
        // SAFETY: the function and its userdata are good until destroy, by the promise of who gave them.
        let code = calling_back(|| unsafe { write(self.userdata.0, offset, data.as_ptr(), data.len()) });
        answer(Operation::Write, code)
    }

    /// One call for each piece of whole blocks.
    fn write_blocks(&self, mut offset: u64, data: &Segments) -> Result<(), Error> {
        for piece in whole_blocks(data) {
            self.write(offset, &piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }
}

impl BackingStore for CallbackStore {
    fn capacity(&self) -> u64 {
        self.calls.capacity
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let Some(read) = self.calls.read else {
            return answer(Operation::Read, 5 /* EIO */);
        };
        // SAFETY: as in write; the buffer is as long as told.
        let code = calling_back(|| unsafe { read(self.userdata.0, offset, into.as_mut_ptr(), into.len()) });
        answer(Operation::Read, code)
    }

    fn write_at(&self, offset: u64, data: &[IoSlice<'_>]) -> Result<(), Error> {
        match data {
            [slice] => self.write(offset, slice),
            slices => self.write(offset, &slices.iter().flat_map(|slice| slice.iter().copied()).collect::<Vec<_>>()),
        }
    }

    fn write_bytes(&self, offset: u64, data: &Segments, durable: bool) -> Result<(), Error> {
        self.write_blocks(offset, data)?;
        if durable { self.flush() } else { Ok(()) }
    }

    fn flush(&self) -> Result<(), Error> {
        let Some(flush) = self.calls.flush else { return Ok(()) };
        // SAFETY: as in write.
        answer(Operation::Flush, calling_back(|| unsafe { flush(self.userdata.0) }))
    }

    fn deallocate(&self, offset: u64, length: u64) -> Result<(), Error> {
        let Some(unmap) = self.calls.unmap else {
            return answer(Operation::Deallocate, 95 /* EOPNOTSUPP */);
        };
        // SAFETY: as in write.
        answer(Operation::Deallocate, calling_back(|| unsafe { unmap(self.userdata.0, offset, length) }))
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.read_only = self.calls.write.is_none() || self.calls.flags & LUNETTE_STORE_READ_ONLY != 0;
        capabilities.volatile_cache = self.calls.flush.is_some();
        capabilities.unmap = self.calls.unmap.map(|_| unmap_of(self.calls.unmap_granularity));
        capabilities
    }

    fn name(&self) -> String {
        "callbacks".into()
    }

    fn try_read_bytes(&self, offset: u64, length: usize) -> Option<Result<Segments, Error>> {
        self.never_waits().then(|| self.read_bytes(offset, length))
    }

    fn try_write_bytes(&self, offset: u64, data: &Segments) -> Option<Result<(), Error>> {
        self.never_waits().then(|| self.write_blocks(offset, data))
    }
}

pub(crate) fn unmap_of(granularity_bytes: u32) -> Unmap {
    Unmap { granularity_bytes: granularity_bytes.max(512), reads_zero: true }
}

impl Drop for CallbackStore {
    fn drop(&mut self) {
        if let Some(destroy) = self.calls.destroy {
            // SAFETY: this is the end of the store: nothing else of it is called again.
            calling_back(|| unsafe { destroy(self.userdata.0) });
        }
    }
}

impl fmt::Debug for CallbackStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallbackStore").field("capacity", &self.calls.capacity).finish_non_exhaustive()
    }
}

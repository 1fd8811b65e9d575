//! Stores: where the bytes of a disk are kept.

use crate::handle::Table;
use crate::input::{Sized0, output, put, read_optional, text};
use crate::result::{Failure, Outcome, guard, lunette_result};
use lu_sbd::store::{AsyncStore, BackingStore, BlockDeviceOptions, FileOptions, MemoryStore};
use std::ffi::c_char;
use std::os::unix::fs::FileTypeExt;
use std::sync::Arc;

/// A store. It may be given to several disks; each keeps hold of it, so that the handle may be freed as soon as it has
/// been given.
pub struct lunette_store {
    _opaque: (),
}

/// What a handle stands for.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    Blocking(Arc<dyn BackingStore>),
    Asynchronous(Arc<dyn AsyncStore>),
}

impl Store {
    pub(crate) fn capacity(&self) -> u64 {
        match self {
            Self::Blocking(store) => store.capacity(),
            Self::Asynchronous(store) => store.capacity(),
        }
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Blocking(store) => store.name(),
            Self::Asynchronous(store) => format!("{store:?}"),
        }
    }
}

pub(crate) static STORES: Table<Store> = Table::new("store");

/// Writes are refused: the disk is write protected.
pub const LUNETTE_STORE_READ_ONLY: u32 = 1;
/// Make the file if it is not there.
pub const LUNETTE_STORE_CREATE: u32 = 2;
/// The callbacks never wait (for a device, a lock, a network): they are called on the threads that serve connections.
/// Without this flag they are called on threads that may wait.
pub const LUNETTE_STORE_NEVER_WAITS: u32 = 4;

/// How a file is opened.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct lunette_file_options {
    /// sizeof(lunette_file_options).
    pub size: usize,
    /// LUNETTE_STORE_READ_ONLY, LUNETTE_STORE_CREATE.
    pub flags: u32,
    /// How large to make the file, in bytes; 0 leaves it as it is.
    pub file_bytes: u64,
}

// SAFETY: repr(C), size first, integers.
unsafe impl Sized0 for lunette_file_options {}

/// Makes a store in memory of `bytes` bytes, all zero; memory is taken as it is written.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_store_new_memory(bytes: u64, store: *mut *mut lunette_store) -> lunette_result {
    guard(|| {
        let place = output(store, "store")?;
        let made = Store::Blocking(Arc::new(MemoryStore::new(bytes)));
        // SAFETY: not NULL; the caller's promise is that it may be written to.
        unsafe { put(place, STORES.insert(Arc::new(made))) };
        Ok(())
    })
}

/// Opens a file or a block device as a store. A file is locked, so that no other server opens it meanwhile.
///
/// `options` may be NULL: read and write what is there.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn lunette_store_new_file(
    path: *const c_char,
    options: *const lunette_file_options,
    store: *mut *mut lunette_store,
) -> lunette_result {
    guard(|| {
        let place = output(store, "store")?;
        // SAFETY: the caller's promise, by the conventions at the top of the header.
        let (path, options) = unsafe { (text(path, "path")?, read_optional(options, "options")?) };
        let (flags, bytes) = options.map_or((0, 0), |options| (options.flags, options.file_bytes));
        check_flags(flags, LUNETTE_STORE_READ_ONLY | LUNETTE_STORE_CREATE)?;
        let opened = open(&path, flags, bytes)?;
        // SAFETY: as above.
        unsafe { put(place, STORES.insert(Arc::new(Store::Blocking(opened)))) };
        Ok(())
    })
}

fn open(path: &str, flags: u32, bytes: u64) -> Outcome<Arc<dyn BackingStore>> {
    let failure = |error: lu_sbd::store::Error| {
        Failure::system(match &error.source {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    };
    let read_only = flags & LUNETTE_STORE_READ_ONLY != 0;
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_block_device()) {
        let store = BlockDeviceOptions::new().read_only(read_only).open(path).map_err(failure)?;
        return Ok(Arc::new(store));
    }
    let mut options = FileOptions::new().read_only(read_only).create(flags & LUNETTE_STORE_CREATE != 0);
    if bytes > 0 {
        options = options.size(bytes);
    }
    Ok(Arc::new(options.open(path).map_err(failure)?))
}

pub(crate) fn check_flags(flags: u32, known: u32) -> Outcome {
    if flags & !known == 0 {
        return Ok(());
    }
    Err(Failure::new(lunette_result::Unsupported, format!("flags {:#x} are not known here", flags & !known)))
}

/// Gives a store back. Disks that use it go on; what it holds is released, and `destroy` of its callbacks called, when
/// the last of them is gone. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_store_free(store: *mut lunette_store) -> lunette_result {
    guard(|| if store.is_null() { Ok(()) } else { STORES.remove(store).map(drop) })
}

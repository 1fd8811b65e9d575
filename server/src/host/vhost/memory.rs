//! The guest's memory, mapped from the descriptors that its monitor handed over.

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};
use stmf::provider::{Room, Segments};
use vhost::vhost_user::message::VhostUserMemoryRegion;
use vhost_scsi::Lend;
use vm_memory::{
    FileOffset, GuestAddress, GuestMemoryBackend, GuestMemoryMmap, GuestMemoryRegion, GuestRegionMmap, MmapRegion,
    VolatileMemory,
};

/// Most regions of one guest.
pub(super) const MOST_REGIONS: usize = 64;

/// Where one region lies in the monitor's address space, in which it names rings, and in the guest's.
#[derive(Clone, Copy, Debug)]
struct Place {
    monitor: u64,
    guest: u64,
    bytes: u64,
}

/// The memory of a guest. What was lent from it keeps it mapped.
#[derive(Clone)]
pub(super) struct Memory {
    pub(super) guest: Arc<GuestMemoryMmap>,
    places: Vec<Place>,
    /// Through it goes whatever fills this memory on other threads.
    gate: Arc<Gate>,
}

impl Memory {
    /// Maps the regions.
    pub(super) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>, gate: Arc<Gate>) -> io::Result<Self> {
        if regions.is_empty() || regions.len() > MOST_REGIONS || regions.len() != files.len() {
            return Err(io::Error::other("a memory table of no, of too many or of half regions"));
        }
        let mut places = Vec::new();
        let mut mapped = Vec::new();
        for (region, file) in regions.iter().zip(files) {
            let bytes = usize::try_from(region.memory_size).map_err(io::Error::other)?;
            let length = file.metadata()?.len();
            // Beyond the end of a file an access would be a signal.
            if region.mmap_offset.checked_add(region.memory_size).is_none_or(|end| end > length) {
                return Err(io::Error::other("a memory region goes past the end of its file"));
            }
            let file = FileOffset::new(file, region.mmap_offset);
            let mapping = MmapRegion::from_file(file, bytes).map_err(io::Error::other)?;
            let start = GuestAddress(region.guest_phys_addr);
            mapped.push(GuestRegionMmap::new(mapping, start).ok_or_else(|| io::Error::other("a region wraps around"))?);
            let (monitor, guest) = (region.user_addr, region.guest_phys_addr);
            places.push(Place { monitor, guest, bytes: region.memory_size });
        }
        mapped.sort_by_key(GuestMemoryRegion::start_addr);
        let guest = GuestMemoryMmap::from_regions(mapped).map_err(io::Error::other)?;
        Ok(Self { guest: Arc::new(guest), places, gate })
    }

    /// Has another gate for what is lent from now on.
    pub(super) fn set_gate(&mut self, gate: Arc<Gate>) {
        self.gate = gate;
    }

    /// The guest's address of what the monitor has at `address`.
    pub(super) fn guest_address(&self, address: u64) -> Option<u64> {
        let place =
            self.places.iter().find(|place| address.checked_sub(place.monitor).is_some_and(|at| at < place.bytes))?;
        place.guest.checked_add(address - place.monitor)
    }
}

/// Bytes of the guest, as they lie there.
struct Lent {
    _memory: Arc<GuestMemoryMmap>,
    start: *const u8,
    length: usize,
}

// SAFETY: the pointer is into a shared mapping that lives as long as the value does; any thread may read it.
unsafe impl Send for Lent {}
// SAFETY: as above; nothing is changed through it.
unsafe impl Sync for Lent {}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `start` has `length` bytes of a mapping that `_memory` keeps, checked when they were lent. The guest may
        // write there meanwhile, as a disk's controller may into any buffer: the bytes are handed to the kernel or copied
        // by the store, nothing is decided by them, and a guest that does so has what it deserves on its disk.
        unsafe { std::slice::from_raw_parts(self.start, self.length) }
    }
}

impl Lend for Memory {
    fn lend(&self, address: u64, length: usize) -> Option<Bytes> {
        let slice = self.guest.get_slice(GuestAddress(address), length).ok()?;
        let start = slice.ptr_guard().as_ptr();
        Some(Bytes::from_owner(Lent { _memory: Arc::clone(&self.guest), start, length }))
    }

    fn lend_room(&self, pieces: &[(u64, u32)]) -> Option<Arc<dyn Room>> {
        let mut room: SmallVec<[(*mut u8, usize); 2]> = SmallVec::new();
        for &(address, length) in pieces {
            let length = length as usize;
            let slice = self.guest.get_slice(GuestAddress(address), length).ok()?;
            let start = slice.ptr_guard_mut().as_ptr();
            match room.last_mut() {
                _ if length == 0 => {}
                // The pages of a buffer often lie side by side.
                Some((last, bytes)) if last.wrapping_add(*bytes) == start => *bytes += length,
                _ => room.push((start, length)),
            }
        }
        let (memory, gate) = (Arc::clone(&self.guest), Arc::clone(&self.gate));
        Some(Arc::new(Fillable { memory, gate, pieces: room }))
    }
}

/// Whether memory that was lent to be filled still may be: a read that was given up must not write where the guest has
/// something else by now.
#[derive(Debug, Default)]
pub(super) struct Gate {
    is_closed: AtomicBool,
    /// Held by whoever is filling memory.
    filling: RwLock<()>,
}

impl Gate {
    /// Lets nobody through any more; `true` if nobody is behind it either.
    pub(super) fn try_close(&self) -> bool {
        self.is_closed.store(true, Ordering::SeqCst);
        !matches!(self.filling.try_write(), Err(TryLockError::WouldBlock))
    }

    /// The same, and waits for those behind it: a read that the system has begun cannot be taken back.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        drop(self.filling.write().unwrap_or_else(PoisonError::into_inner));
    }
}

/// Bytes of the guest, to be filled where they lie.
struct Fillable {
    memory: Arc<GuestMemoryMmap>,
    gate: Arc<Gate>,
    /// Not one of them empty, and none next to the one before.
    pieces: SmallVec<[(*mut u8, usize); 2]>,
}

// SAFETY: the pointers are into shared mappings that live as long as the value does; they are used as atomic bytes only.
unsafe impl Send for Fillable {}
// SAFETY: as above.
unsafe impl Sync for Fillable {}

impl Room for Fillable {
    fn fill(&self, fill: &mut dyn FnMut(&[&[AtomicU8]]) -> bool) -> Option<Segments> {
        // Whoever closes the gate is not waited for: he waits for others, perhaps long.
        let _filling = match self.gate.filling.try_read() {
            Ok(filling) => filling,
            Err(TryLockError::Poisoned(filling)) => filling.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        if self.gate.is_closed.load(Ordering::SeqCst) {
            return None;
        }
        let atomic = |&(start, length): &(*mut u8, usize)| {
            // SAFETY: `start` has `length` bytes of a writable mapping that `memory` keeps, checked when they were lent.
            // The guest may use them meanwhile, and so may another request that names the same bytes: they are atomic.
            unsafe { std::slice::from_raw_parts(start.cast::<AtomicU8>(), length) }
        };
        let pieces: SmallVec<[&[AtomicU8]; 2]> = self.pieces.iter().map(atomic).collect();
        let lent = |&(start, length): &(*mut u8, usize)| {
            Bytes::from_owner(Lent { _memory: Arc::clone(&self.memory), start: start.cast_const(), length })
        };
        fill(&pieces).then(|| self.pieces.iter().map(lent).collect())
    }
}

impl fmt::Debug for Fillable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes: usize = self.pieces.iter().map(|(_, length)| length).sum();
        write!(f, "{bytes} bytes of a guest in {} pieces", self.pieces.len())
    }
}

/// Memory for the notes of what is under way, which the monitor keeps while the device is gone.
pub(super) struct Notes(MmapRegion);

impl Notes {
    pub(super) fn map(file: File, offset: u64, bytes: u64) -> io::Result<Self> {
        let length = file.metadata()?.len();
        if offset.checked_add(bytes).is_none_or(|end| end > length) {
            return Err(io::Error::other("the notes go past the end of their file"));
        }
        let bytes = usize::try_from(bytes).map_err(io::Error::other)?;
        MmapRegion::from_file(FileOffset::new(file, offset), bytes).map(Self).map_err(io::Error::other)
    }
}

impl AsMut<[u8]> for Notes {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the mapping is ours alone; the monitor keeps the file and looks at it no more than the guest does.
        unsafe { std::slice::from_raw_parts_mut(self.0.as_ptr(), self.0.len()) }
    }
}

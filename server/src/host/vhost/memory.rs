//! The guest's memory, mapped from the descriptors that its monitor handed over.

use bytes::Bytes;
use std::fs::File;
use std::io;
use std::sync::Arc;
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
}

impl Memory {
    /// Maps the regions.
    pub(super) fn map(regions: &[VhostUserMemoryRegion], files: Vec<File>) -> io::Result<Self> {
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
        Ok(Self { guest: Arc::new(guest), places })
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

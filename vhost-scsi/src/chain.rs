//! Descriptor chains: where in the guest's memory a request lies.

use bytes::Bytes as Slice;
use smallvec::SmallVec;
use std::sync::Arc;
use stmf::provider::{Room, Segments};
use vm_memory::{Bytes, GuestAddress, GuestMemory, Permissions};

/// Memory of a guest that can be lent without copying it.
pub trait Lend {
    /// So many bytes from `address` on, as they lie there; `None` if they do not lie in one piece of memory. What the guest
    /// changes while they are lent is its own loss: whoever holds them uses them as data and nothing else.
    fn lend(&self, address: u64, length: usize) -> Option<Slice>;

    /// The pieces (address, bytes) as memory to be filled, in order; `None`, the default, if they cannot be lent so. What
    /// comes back of it, once it is filled, lies at the addresses by which the device's calls reach the same memory.
    fn lend_room(&self, pieces: &[(u64, u32)]) -> Option<Arc<dyn Room>> {
        let _ = pieces;
        None
    }
}

impl<L: Lend + ?Sized> Lend for Arc<L> {
    fn lend(&self, address: u64, length: usize) -> Option<Slice> {
        (**self).lend(address, length)
    }

    fn lend_room(&self, pieces: &[(u64, u32)]) -> Option<Arc<dyn Room>> {
        (**self).lend_room(pieces)
    }
}

/// Why a chain makes no sense; after one its queue is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// A descriptor's number is not below the size of its table.
    #[error("descriptor {0} is past the end of its table")]
    Index(u16),
    /// More descriptors than there are: the chain bites its tail.
    #[error("the chain has no end")]
    Loop,
    /// A table inside a table, a table with a next descriptor, or one of an odd length.
    #[error("a table of indirect descriptors is malformed")]
    Indirect,
    /// Something that can be read behind something that can be written (virtio 1.2, 2.7.4.2).
    #[error("a readable descriptor follows a writable one")]
    Order,
    /// Outside of the guest's memory.
    #[error("{length} bytes at {address:#x} are outside of the guest's memory")]
    Memory {
        /// First byte.
        address: u64,
        /// Bytes.
        length: u32,
    },
    /// Not even the header of a request, or no room for its response.
    #[error("{readable} readable and {writable} writable bytes are no request")]
    Short {
        /// Bytes for the device.
        readable: u64,
        /// Room for its answer.
        writable: u64,
    },
}

/// Pieces of guest memory, one after the other.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    pieces: SmallVec<[(u64, u32); 4]>,
    bytes: u64,
}

/// A request: what the device may read, then what it may write.
#[derive(Clone, Debug, Default)]
pub(crate) struct Chain {
    pub(crate) readable: Ranges,
    pub(crate) writable: Ranges,
}

/// Fewer bytes are copied: that takes less time than to lend them.
pub(crate) const WORTH_LENDING: usize = 512;

const NEXT: u16 = 1;
const WRITE: u16 = 2;
const INDIRECT: u16 = 4;
const DESCRIPTOR_BYTES: u32 = 16;

impl Chain {
    /// Follows a chain from its head in a table of `size` descriptors (virtio 1.2, 2.7.5). Nothing is read twice.
    pub(crate) fn walk<M: GuestMemory>(memory: &M, table: u64, size: u16, head: u16) -> Result<Self, ChainError> {
        let mut chain = Self::default();
        let (mut table, mut size, mut index, mut left, mut is_indirect) = (table, size, head, size, false);
        loop {
            if index >= size {
                return Err(ChainError::Index(index));
            }
            left = left.checked_sub(1).ok_or(ChainError::Loop)?;
            let (address, length, flags, next) = descriptor(memory, table, index)?;
            if flags & INDIRECT != 0 {
                let entries = length / DESCRIPTOR_BYTES;
                if is_indirect || flags & NEXT != 0 || length % DESCRIPTOR_BYTES != 0 || entries == 0 {
                    return Err(ChainError::Indirect);
                }
                let entries = u16::try_from(entries).map_err(|_| ChainError::Indirect)?;
                (table, size, left, index, is_indirect) = (address, entries, entries, 0, true);
                continue;
            }
            let (ranges, access) = match flags & WRITE != 0 {
                true => (&mut chain.writable, Permissions::Write),
                false if chain.writable.pieces.is_empty() => (&mut chain.readable, Permissions::Read),
                false => return Err(ChainError::Order),
            };
            if !memory.check_range(GuestAddress(address), length as usize, access) {
                return Err(ChainError::Memory { address, length });
            }
            ranges.push(address, length);
            if flags & NEXT == 0 {
                return Ok(chain);
            }
            index = next;
        }
    }
}

fn descriptor<M: GuestMemory>(memory: &M, table: u64, index: u16) -> Result<(u64, u32, u16, u16), ChainError> {
    let outside = ChainError::Memory { address: table, length: DESCRIPTOR_BYTES };
    let place = table.checked_add(u64::from(index) * u64::from(DESCRIPTOR_BYTES)).ok_or(outside)?;
    let mut bytes = [0; DESCRIPTOR_BYTES as usize];
    memory.read_slice(&mut bytes, GuestAddress(place)).map_err(|_| outside)?;
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = bytes;
    let address = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
    Ok((address, u32::from_le_bytes([i, j, k, l]), u16::from_le_bytes([m, n]), u16::from_le_bytes([o, p])))
}

/// Whether these bytes are the guest's own at this address.
fn lies_at<M: GuestMemory>(memory: &M, address: u64, bytes: &[u8]) -> bool {
    let Ok(mut slices) = memory.get_slices(GuestAddress(address), bytes.len(), Permissions::Write) else {
        return false;
    };
    match slices.next() {
        Some(Ok(slice)) => slice.len() == bytes.len() && slice.ptr_guard().as_ptr() == bytes.as_ptr(),
        _ => false,
    }
}

impl Ranges {
    fn push(&mut self, address: u64, length: u32) {
        if length > 0 {
            self.pieces.push((address, length));
            self.bytes += u64::from(length);
        }
    }

    /// Bytes in all.
    pub(crate) fn len(&self) -> u64 {
        self.bytes
    }

    /// What lies from `offset` on.
    pub(crate) fn from(&self, offset: u64) -> impl Iterator<Item = (u64, u32)> + '_ {
        let mut skip = offset;
        self.pieces.iter().filter_map(move |&(address, length)| {
            let begin = skip.min(u64::from(length));
            skip -= begin;
            let rest = length - begin as u32;
            (rest > 0).then_some((address + begin, rest))
        })
    }

    /// Copies bytes out; as many as there are from `offset` on.
    pub(crate) fn read<M: GuestMemory>(&self, memory: &M, offset: u64, into: &mut [u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.from(offset) {
            let room = &mut into[done..];
            let count = room.len().min(length as usize);
            if count == 0 || memory.read_slice(&mut room[..count], GuestAddress(address)).is_err() {
                break;
            }
            done += count;
        }
        done
    }

    /// So many bytes from `offset` on; `None` if there are not as many.
    pub(crate) fn span(&self, offset: u64, length: u32) -> Option<SmallVec<[(u64, u32); 4]>> {
        let mut left = length;
        let mut span = SmallVec::new();
        for (address, length) in self.from(offset) {
            let part = length.min(left);
            span.push((address, part));
            left -= part;
            if left == 0 {
                return Some(span);
            }
        }
        None
    }

    /// Copies bytes in, as far as there is room from `offset` on. What lies there already stays.
    pub(crate) fn write<M: GuestMemory>(&self, memory: &M, offset: u64, bytes: &[u8]) -> usize {
        let mut done = 0;
        for (address, length) in self.from(offset) {
            let rest = &bytes[done..];
            let count = rest.len().min(length as usize);
            if count == 0 {
                break;
            }
            let part = &rest[..count];
            if !lies_at(memory, address, part) && memory.write_slice(part, GuestAddress(address)).is_err() {
                break;
            }
            done += count;
        }
        done
    }

    /// Lends everything from `offset` on; `None` if the memory cannot be lent.
    pub(crate) fn lend(&self, lender: &impl Lend, offset: u64) -> Option<Segments> {
        self.from(offset).map(|(address, length)| lender.lend(address, length as usize)).collect()
    }
}

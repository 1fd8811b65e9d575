//! What a store can do; VPD pages B0, B1 and B2 and the caching mode page are made from it.

/// What a store can do and how it likes to be used. Sizes are bytes.
///
/// The default is the plainest store: writable, with a volatile write cache, nothing known about the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Capabilities {
    /// Writes are refused: the unit is write protected and cannot be made otherwise.
    pub read_only: bool,
    /// Ranges can be given back.
    pub unmap: Option<Unmap>,
    /// A write may be lost at power loss until the next flush. If not, every write is durable when it returns.
    pub volatile_cache: bool,
    /// [`extents`](super::BackingStore::extents) tells holes from data.
    pub extents: bool,
    /// [`set_len`](super::BackingStore::set_len) works.
    pub resizable: bool,
    /// [`write_zeroes`](super::BackingStore::write_zeroes) is cheaper than writing zeros.
    pub write_zeroes: bool,
    /// What the medium turns like.
    pub rotation: Rotation,
    /// Smallest write that needs no read first, a power of two; 0 for unknown.
    pub physical_block_bytes: u32,
    /// Where the first aligned physical block begins.
    pub alignment_offset_bytes: u32,
    /// Preferred size of a transfer; 0 for no preference.
    pub optimal_transfer_bytes: u32,
    /// [`usage`](super::BackingStore::usage) tells how full it is.
    pub usage: bool,
    /// The longest write that [`write_atomic_at`](super::BackingStore::write_atomic_at) takes; 0 when there is none.
    pub atomic_write_bytes: u32,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self {
            read_only: false,
            unmap: None,
            volatile_cache: true,
            extents: false,
            resizable: false,
            write_zeroes: false,
            rotation: Rotation::Unknown,
            physical_block_bytes: 0,
            alignment_offset_bytes: 0,
            optimal_transfer_bytes: 0,
            atomic_write_bytes: 0,
            usage: false,
        }
    }
}

/// How ranges are given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unmap {
    /// Smallest range that frees anything, in bytes, a power of two; smaller ones are accepted all the same.
    pub granularity_bytes: u32,
    /// A range given back reads as zeros.
    pub reads_zero: bool,
}

/// What the medium turns like (SBC, Block Device Characteristics VPD page).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Rotation {
    /// Not reported.
    #[default]
    Unknown,
    /// Nothing turns.
    NonRotating,
    /// It turns, at so many revolutions a minute if known (0 for unknown).
    Rotating {
        /// Revolutions a minute, 0 if unknown.
        rpm: u16,
    },
}

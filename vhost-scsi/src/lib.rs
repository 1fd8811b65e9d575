//! The device side of virtio-scsi (virtio 1.2, 5.6) as a port of the framework: what a guest puts on its rings becomes
//! tasks of a session, what becomes of them goes back to the rings.
//!
//! ```text
//!   socket, eventfds, mapped memory        the host of the device: not here
//!        |  kick of a queue, mail             ^  signals, store operations
//!   Device                                  requests, task management, events
//!        |  commands                          |  pieces of data, outcomes
//!   lunette_loopback::Session               an I_T nexus without a wire
//! ```
//!
//! [`Device`] owns no memory, socket or thread. The guest's memory is handed in with each call
//! ([`vm_memory::GuestMemory`]); rings are those of rust-vmm's `virtio-queue` (split, indirect descriptors, event index).
//!
//! - What a guest writes is lent from its memory where it lies ([`Lend`]), and a store that can reads right into it; what
//!   other stores give is copied there once.
//! - Requests under way are noted in memory that outlives the process ([`Inflight`]), so that a target that comes back
//!   carries out again what was not answered, and nothing else.
//! - A ring that makes no sense stops its queue; the other queues, and other guests, do not notice.
#![forbid(unsafe_code)]

mod chain;
mod device;
mod events;
mod inflight;
mod name;
mod request;

pub use chain::{ChainError, Lend};
pub use device::{Device, Fault, Limits, Signals};
pub use inflight::Inflight;
pub use name::transport_id;
pub use request::{CDB_BYTES, SENSE_BYTES};

/// The control queue (virtio 1.2, 5.6.2): task management.
pub const CONTROL_QUEUE: usize = 0;
/// The event queue: logical units that come, go and change.
pub const EVENT_QUEUE: usize = 1;
/// The first request queue.
pub const FIRST_REQUEST_QUEUE: usize = 2;

/// Features of the device (virtio 1.2, 5.6.3 and 6): what is offered.
pub mod features {
    /// Logical units come and go, and the event queue tells.
    pub const HOTPLUG: u64 = 1 << 1;
    /// Changes of logical units are told by the event queue.
    pub const CHANGE: u64 = 1 << 2;
    /// Descriptors that point to tables of descriptors.
    pub const RING_INDIRECT_DESC: u64 = 1 << 28;
    /// Notifications at an index.
    pub const RING_EVENT_IDX: u64 = 1 << 29;
    /// Virtio 1.0 and later.
    pub const VERSION_1: u64 = 1 << 32;
    /// All of them.
    pub const OFFERED: u64 = HOTPLUG | CHANGE | RING_INDIRECT_DESC | RING_EVENT_IDX | VERSION_1;
}

//! What a logical unit may ask of the framework, and what units ask of each other: third-party copies.
//!
//! ```text
//!   EXTENDED COPY, WRITE USING TOKEN
//!        |
//!     unit A (the copy manager) ---- copy_end? ----> source S, destination D: block length, capacity, may I
//!        |---- copy_in(call) ----------------------> D: a store operation of D's own, in order with its others
//!        |<--- copied(token, outcome) --------------- D
//! ```
//!
//! Units never call each other with a lock of their own held, and nothing waits: an outcome comes by a call.

use scsi_core::{SenseData, Status};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Effects, LogicalUnit};
use crate::nexus::NexusId;

/// Bytes of a ROD token (SPC-5, ROD token format).
pub const ROD_TOKEN_BYTES: usize = 512;

/// Time and randomness, which only the host of the framework has.
pub trait Host: Send + Sync {
    /// A clock that never goes backwards.
    fn now(&self) -> Instant;

    /// Time since 1970, as the system has it.
    fn unix_time(&self) -> Duration;

    /// Fills `bytes` with what nobody can guess.
    fn fill_random(&self, bytes: &mut [u8]);
}

/// What the framework is to a logical unit that is registered with it.
pub trait Surroundings: Send + Sync + fmt::Debug {
    /// The unit of that name. With a nexus: if the nexus reaches it, at whichever LUN; else if it is online at all.
    fn find(&self, guid: [u8; 16], reached_by: Option<NexusId>) -> Option<Arc<dyn LogicalUnit>>;

    /// Carries effects of `lu` to where their nexuses live; none stays.
    fn carry_out(&self, lu: &Arc<dyn LogicalUnit>, effects: &mut Effects);

    /// Time and randomness, if the framework was given them.
    fn host(&self) -> Option<Arc<dyn Host>>;
}

/// One end of a copy as the copy manager has to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyEnd {
    /// Bytes of a logical block.
    pub block_length: u32,
    /// Logical blocks.
    pub blocks: u64,
}

/// Why a unit takes no part in a copy, or failed in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CopyRefusal {
    /// It cannot be a source or destination at all.
    NotSupported,
    /// It would have ended a command so: RESERVATION CONFLICT, BUSY.
    Status(Status),
    /// It would have ended a command with this CHECK CONDITION.
    Sense(SenseData),
}

/// Where the bytes of a copy come from.
#[derive(Clone, Debug)]
pub enum CopySource {
    /// From this unit's medium, from this byte on.
    Unit(Arc<dyn LogicalUnit>, u64),
    /// From nowhere: zeros.
    Zeros,
}

/// A piece of a copy, asked of the destination.
#[derive(Clone, Debug)]
pub struct CopyIn {
    /// On whose behalf: reservations count.
    pub nexus: NexusId,
    /// Who asks; hears of the end by [`LogicalUnit::copied`].
    pub from: Arc<dyn LogicalUnit>,
    /// To be given back.
    pub token: u64,
    /// Where the bytes come from.
    pub source: CopySource,
    /// First byte at the destination.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
}

/// A representation of data: what a token stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rod {
    /// Bytes of a logical block of its unit.
    pub block_length: u32,
    /// (first byte, bytes) of each range, in the token's order.
    pub ranges: Vec<(u64, u64)>,
}

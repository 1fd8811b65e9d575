//! Store operations: what a logical unit wants done to its medium, by whoever may touch one.

use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::{Landing, LogicalUnit, Segments};
use crate::nexus::NexusId;

/// Names one store operation of one logical unit while it is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreToken(pub u64);

/// A store operation to carry out. Offsets and lengths are bytes of the medium.
#[derive(Debug)]
pub struct StoreRequest {
    /// The I_T nexus on whose behalf it runs: the outcome goes back through its thread.
    pub nexus: NexusId,
    /// To be given back with the outcome.
    pub token: StoreToken,
    /// What to do.
    pub op: StoreOp,
}

/// The kinds of store operations.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StoreOp {
    /// Read `length` bytes; the outcome is [`StoreOutcome::Data`] with exactly as many. Holes read as zeros.
    Read {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u32,
        /// Where the bytes go as they are; `None` if the unit itself looks at them.
        lands: Option<Landing>,
    },
    /// Write the segments one after the other from `offset` on.
    Write {
        /// First byte.
        offset: u64,
        /// What to write.
        data: Segments,
        /// On stable storage before the operation is done.
        durable: bool,
    },
    /// Write all of it or nothing: after a failure or a loss of power the old data is there, or the new.
    WriteAtomic {
        /// First byte.
        offset: u64,
        /// What to write.
        data: Segments,
        /// On stable storage before the operation is done.
        durable: bool,
    },
    /// Repeat `pattern` (one logical block) over the range.
    WriteSame {
        /// First byte.
        offset: u64,
        /// Bytes, a multiple of the pattern's length.
        length: u64,
        /// The block to repeat; empty stands for zeros.
        pattern: Bytes,
        /// On stable storage before the operation is done.
        durable: bool,
    },
    /// Give the ranges back to the store; they read as zeros afterwards.
    Deallocate {
        /// (first byte, bytes) of each range.
        ranges: SmallVec<[(u64, u64); 1]>,
    },
    /// Everything acknowledged before is on stable storage when this is done.
    Flush,
    /// Which parts of the range are mapped; the outcome is [`StoreOutcome::Extents`].
    Extents {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
        /// At most so many extents.
        limit: usize,
    },
    /// How much of the store this medium uses; the outcome is [`StoreOutcome::Usage`].
    Usage,
    /// The range will be read soon.
    Prefetch {
        /// First byte.
        offset: u64,
        /// Bytes.
        length: u64,
    },
    /// Replace what is kept beside the data (identity, saved mode pages, APTPL reservations) atomically and durably.
    Persist {
        /// The new content.
        record: Bytes,
    },
    /// Do nothing for a while: the outcome, [`StoreOutcome::Done`], comes when `time` has passed. A host with timers of its
    /// own need not keep a thread waiting for it.
    Wait {
        /// How long.
        time: Duration,
    },
    /// Copy a range from another logical unit's medium (or this one's), inside the store where it can.
    Copy {
        /// Where the bytes come from; `None` for this unit itself, also when the two ranges overlap.
        source: Option<Arc<dyn LogicalUnit>>,
        /// First byte there.
        source_offset: u64,
        /// First byte here.
        offset: u64,
        /// Bytes.
        length: u64,
    },
}

/// Part of a medium and whether it is backed by storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreExtent {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// `false`: a hole, reads as zeros.
    pub mapped: bool,
}

/// How much of a store a medium uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreUsage {
    /// Bytes of storage behind the medium.
    pub used: u64,
    /// Bytes that are left, for this medium and others that share them; `None` when not known.
    pub available: Option<u64>,
}

/// What became of a store operation.
#[derive(Debug)]
pub enum StoreOutcome {
    /// Done, nothing to return.
    Done,
    /// The bytes read.
    Data(Segments),
    /// The extents, ascending, gapless from the asked offset on.
    Extents(Vec<StoreExtent>),
    /// How full it is.
    Usage(StoreUsage),
    /// It failed. A failed write may have changed any part of its range.
    Failed(StoreError),
}

/// The outcome of a store operation on its way back to its logical unit.
#[derive(Debug)]
pub struct StoreDone {
    /// As in the request.
    pub nexus: NexusId,
    /// As in the request.
    pub token: StoreToken,
    /// What became of it.
    pub outcome: StoreOutcome,
}

/// Why a store operation failed: kind, operation and place, and the system's own words.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{context}: {kind}")]
pub struct StoreError {
    /// What kind of failure.
    pub kind: StoreErrorKind,
    /// Which operation on which store and where, with the system's message: "write 4096 bytes at 8192 of vol1: ...".
    pub context: String,
}

/// Kinds of store failures; each has one sense code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The medium failed.
    Io,
    /// No space is left for the write.
    NoSpace,
    /// The store takes no writes.
    ReadOnly,
    /// Past the end of the store.
    OutOfRange,
    /// The store does not do this.
    Unsupported,
    /// The store is gone (removed, closed, unreachable).
    Gone,
    /// An earlier flush failed: nothing more is promised until an administrator brings the unit online again.
    Poisoned,
    /// The operation was given up before it was carried out.
    Cancelled,
    /// Whoever carried it out dropped it without an outcome.
    Dropped,
}

impl fmt::Display for StoreErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Io => "medium error",
            Self::NoSpace => "no space left",
            Self::ReadOnly => "read-only store",
            Self::OutOfRange => "past the end of the store",
            Self::Unsupported => "not supported by the store",
            Self::Gone => "the store is gone",
            Self::Poisoned => "an earlier flush failed",
            Self::Cancelled => "cancelled",
            Self::Dropped => "dropped without an outcome",
        })
    }
}

/// Takes outcomes of asynchronous store operations; any thread may call it.
pub trait StoreSink: Send + Sync {
    /// The outcome of one operation.
    fn done(&self, done: StoreDone);
}

/// The duty to report the outcome of one asynchronous store operation, exactly once.
///
/// Dropping it unfinished reports [`StoreErrorKind::Dropped`], so that a forgotten operation is a CHECK CONDITION
/// and never a hang.
pub struct StoreCompletion {
    sink: Option<Arc<dyn StoreSink>>,
    nexus: NexusId,
    token: StoreToken,
    cancelled: Option<Arc<AtomicBool>>,
}

impl StoreCompletion {
    /// The duty for `request`, to be fulfilled at `sink`.
    pub fn new(sink: Arc<dyn StoreSink>, request: &StoreRequest) -> Self {
        Self { sink: Some(sink), nexus: request.nexus, token: request.token, cancelled: None }
    }

    /// With a flag that becomes true when the command is aborted; the logical unit sets it.
    #[must_use]
    pub fn with_cancellation(mut self, cancelled: Arc<AtomicBool>) -> Self {
        self.cancelled = Some(cancelled);
        self
    }

    /// Whether the command that wanted the operation was aborted meanwhile: nobody waits for the outcome but the abort.
    /// The store may give the operation up, with [`StoreErrorKind::Cancelled`], or carry it to its end; it has to report
    /// either way.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.as_ref().is_some_and(|cancelled| cancelled.load(Ordering::Acquire))
    }

    /// Reports the outcome.
    pub fn finish(mut self, outcome: StoreOutcome) {
        self.report(outcome);
    }

    fn report(&mut self, outcome: StoreOutcome) {
        if let Some(sink) = self.sink.take() {
            sink.done(StoreDone { nexus: self.nexus, token: self.token, outcome });
        }
    }
}

impl Drop for StoreCompletion {
    fn drop(&mut self) {
        self.report(StoreOutcome::Failed(StoreError {
            kind: StoreErrorKind::Dropped,
            context: "asynchronous store operation".into(),
        }));
    }
}

impl fmt::Debug for StoreCompletion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreCompletion").field("nexus", &self.nexus).field("token", &self.token).finish()
    }
}

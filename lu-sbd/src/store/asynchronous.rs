//! Stores that answer later.

use std::fmt;
use stmf::provider::{StoreCompletion, StoreOp};

use super::Capabilities;

/// A store that starts an operation and reports its outcome later, from any thread.
pub trait AsyncStore: Send + Sync + fmt::Debug {
    /// Size in bytes.
    fn capacity(&self) -> u64;

    /// What the store can do. Constant while the store is open.
    fn capabilities(&self) -> Capabilities {
        Capabilities::default()
    }

    /// Starts `op`; does not wait. `completion` is fulfilled when it is done, before `start` returns or after, by any
    /// thread. Dropping it unfulfilled fails the operation: a CHECK CONDITION, never a hang. When the command was aborted
    /// [`StoreCompletion::is_cancelled`] says so. [`StoreOp::Persist`] and [`StoreOp::Copy`] never get here.
    fn start(&self, op: StoreOp, completion: StoreCompletion);
}

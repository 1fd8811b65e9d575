//! The thin layer between the loop and the system: one implementation per system interface.
//!
//! The loop sees readiness: a slot may have something to receive, a slot may take more. An interface of completions
//! (io_uring) presents what has completed as ready.

mod buffers;
mod epoll;
mod uring;

pub(crate) use epoll::Epoll;
pub(crate) use uring::Uring;

use super::chunks::ChunkClass;
use super::tx_queue::TxQueue;
use super::wake::Wake;
use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// A socket that is ready for something, or a slot that was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ready {
    /// The slot given to [`Net::add`].
    pub(crate) slot: usize,
    /// The tag given with it: tells a stale event from one of the slot's present user.
    pub(crate) tag: u32,
    /// There may be bytes, or the end.
    pub(crate) readable: bool,
    /// The socket may take bytes.
    pub(crate) writable: bool,
    /// The other end is gone or will send no more: receive until the end shows.
    pub(crate) hangup: bool,
    /// Bytes that a flush begun before has sent meanwhile.
    pub(crate) sent: usize,
}

/// What a receive brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes.
    Bytes {
        /// Those received.
        bytes: Bytes,
        /// Whether another receive may bring more at once.
        more: bool,
        /// Whether they filled the room there was: larger chunks would save system calls.
        full: bool,
    },
    /// Nothing now: [`Net::wait`] tells when.
    Nothing,
    /// The other end sent its last.
    End,
}

/// What became of a flush.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Everything of the queue was taken, this many bytes.
    All(usize),
    /// This many bytes were taken; [`Net::wait`] tells when there is room for more.
    Blocked(usize),
    /// This many bytes were taken, more would be: the budget is used up.
    Budget(usize),
}

/// A system interface for the sockets of one thread; made and used on that thread.
pub(crate) trait Net: Sized {
    /// How it is called in the log and the status.
    const NAME: &'static str;

    /// An interface that `wake` wakes and that keeps up to `cached_bytes` of receive buffers.
    fn new(wake: Arc<Wake>, cached_bytes: usize) -> io::Result<Self>;

    /// Takes a socket. Its first event comes by itself.
    fn add(&mut self, slot: usize, tag: u32, socket: OwnedFd, tx: TxQueue) -> io::Result<()>;

    /// Closes a socket, with what it did not send.
    fn remove(&mut self, slot: usize);

    /// Gives a socket back, with what it did not send. `None` if there is none, or if it cannot be taken out of the
    /// system's hands without losing bytes: then it is closed.
    fn detach(&mut self, slot: usize) -> Option<(OwnedFd, TxQueue)>;

    /// Waits until something is ready or `timeout` has passed; `None` waits for ever.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;

    /// Receives into a chunk of about `class`.
    fn receive(&mut self, slot: usize, class: ChunkClass) -> io::Result<Received>;

    /// Gives the slot's chunk back if nothing of it is in use; `true` if something is.
    fn release(&mut self, slot: usize) -> bool;

    /// Sends of the slot's queue until it is empty, the socket full, or at least `budget` bytes are gone. The second
    /// value counts system calls.
    fn flush(&mut self, slot: usize, budget: usize) -> io::Result<(Flushed, u32)>;

    /// What the slot still has to send.
    fn queue(&mut self, slot: usize) -> Option<&mut TxQueue>;

    /// Gives cached buffers back if nothing was received since the last call; `false` if none are left.
    fn trim(&mut self) -> bool;

    /// Sends no more: the other end sees the end after the last byte.
    fn shut_down(&mut self, slot: usize);
}

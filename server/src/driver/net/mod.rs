//! The thin layer between the loop and the system: one implementation per system interface.
//!
//! The loop sees readiness: a slot may have something to receive, a slot may take more. An interface of completions
//! (io_uring) presents what has completed as ready.

mod epoll;

pub(crate) use epoll::Epoll;

use super::chunks::Chunk;
use super::tx_queue::TxQueue;
use bytes::Bytes;
use std::io;
use std::os::fd::OwnedFd;
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
}

/// What a receive brought.
#[derive(Debug)]
pub(crate) enum Received {
    /// Bytes; `more` if there may be more at once.
    Bytes {
        /// Those received.
        bytes: Bytes,
        /// Whether the chunk was filled.
        more: bool,
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

/// A system interface for the sockets of one thread.
pub(crate) trait Net: Send {
    /// How it is called in the log and the status.
    const NAME: &'static str;

    /// Takes a socket. Its first event comes by itself.
    fn add(&mut self, slot: usize, tag: u32, socket: OwnedFd, tx: TxQueue) -> io::Result<()>;

    /// Gives a socket back, with what it did not send.
    fn remove(&mut self, slot: usize) -> Option<(OwnedFd, TxQueue)>;

    /// Waits until something is ready or `timeout` has passed; `None` waits for ever.
    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()>;

    /// Receives into `chunk`, whose buffer is empty and has room.
    fn receive(&mut self, slot: usize, chunk: &mut Chunk) -> io::Result<Received>;

    /// Sends of the slot's queue until it is empty, the socket full, or at least `budget` bytes are gone. The second
    /// value counts system calls.
    fn flush(&mut self, slot: usize, budget: usize) -> io::Result<(Flushed, u32)>;

    /// What the slot still has to send.
    fn queue(&mut self, slot: usize) -> Option<&mut TxQueue>;

    /// Sends no more: the other end sees the end after the last byte.
    fn shut_down(&mut self, slot: usize);
}

//! Completions by io_uring, shown to the loop as readiness.
//!
//! A receive is submitted when the loop asks and nothing has come; the kernel picks one of a ring of buffers when bytes
//! arrive, so that an idle connection holds none. A send is submitted with all slices that are ready; the queue keeps them
//! until it is done. One system call a round submits everything and waits.

use super::buffers::BufferRing;
use super::{Flushed, Net, Ready, Received};
use crate::driver::chunks::{Chunk, ChunkClass, ChunkPool};
use crate::driver::slab::Slab;
use crate::driver::tx_queue::{MAX_SLICES, TxQueue};
use crate::driver::wake::Wake;
use bytes::Bytes;
use io_uring::squeue::{Entry, Flags};
use io_uring::{IoUring, cqueue, opcode, types};
use rustix::io::Errno;
use rustix::net::{RecvFlags, Shutdown};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

/// Submissions that fit between two system calls; more only cost another one.
const SUBMISSIONS: u32 = 512;

/// Completions that fit without the kernel setting some aside.
const COMPLETIONS: u32 = 4096;

/// The last received bytes are copied out of the kernel's buffer up to this length: a command costs less to copy than its
/// buffer to replace, and a peer that sends little bits pins little.
const COPIED: usize = 2048;

/// The buffers of the kernel, one group.
const GROUP: u16 = 0;
const RING_BUFFERS: u16 = 32;

/// `user_data` of a request: the socket's key, and what it was.
const RECEIVE: u64 = 0;
const SEND: u64 = 1;
const WAKE: u64 = 2;
const KINDS: u32 = 2;

/// Sockets of one thread under one ring.
pub(crate) struct Uring {
    ring: IoUring,
    wake: Arc<Wake>,
    wake_armed: bool,
    /// By key. A removed socket stays until the kernel is done with it.
    sockets: Slab<Socket>,
    /// Keys by slot.
    slots: Vec<Option<usize>>,
    buffers: BufferRing,
    chunks: ChunkPool,
    /// Chunks of which slices were given out.
    lent: Vec<Chunk>,
    /// Sockets added since the last wait.
    fresh: Vec<usize>,
    spare_messages: Vec<Box<Message>>,
}

struct Socket {
    fd: OwnedFd,
    slot: usize,
    tag: u32,
    tx: TxQueue,
    chunk: Option<Chunk>,
    receive: Receive,
    send: Send,
    /// The last receive found less than it had room for.
    drained: bool,
    removed: bool,
}

enum Receive {
    Idle,
    InFlight,
    Got { bytes: Bytes, full: bool },
    End,
    Failed(io::Error),
}

enum Send {
    Idle,
    InFlight(Box<Message>),
    Failed(io::Error),
}

/// What a send in flight points to, at a place of its own.
struct Message {
    header: libc::msghdr,
    slices: [libc::iovec; MAX_SLICES],
}

impl Message {
    fn new() -> Box<Self> {
        let empty = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
        // SAFETY: a msghdr of zeros is one without address, data and control.
        Box::new(Self { header: unsafe { std::mem::zeroed() }, slices: [empty; MAX_SLICES] })
    }

    /// Points to the first bytes of `tx`.
    fn fill(&mut self, tx: &TxQueue, budget: usize) {
        let (mut count, mut bytes) = (0, 0);
        for (slice, place) in tx.iter().zip(&mut self.slices) {
            *place = libc::iovec { iov_base: slice.as_ptr().cast_mut().cast(), iov_len: slice.len() };
            count += 1;
            bytes += slice.len();
            if bytes >= budget {
                break;
            }
        }
        self.header.msg_iov = self.slices.as_mut_ptr();
        self.header.msg_iovlen = count as _;
    }
}

impl Socket {
    fn in_flight(&self) -> bool {
        matches!(self.receive, Receive::InFlight) || matches!(self.send, Send::InFlight(_))
    }

    fn event(&self) -> Ready {
        Ready { slot: self.slot, tag: self.tag, readable: false, writable: false, hangup: false, sent: 0 }
    }
}

impl Uring {
    /// Whether this system has what is needed.
    pub(crate) fn probe() -> io::Result<()> {
        Self::new(Arc::new(Wake::new()?), 0).map(drop)
    }

    fn push(&mut self, entry: &Entry) -> io::Result<()> {
        loop {
            // SAFETY: what the entry points to - a message, a socket's queue, the buffer ring - lives until its
            // completion was seen: removed sockets are kept as long, and so does `drop` wait.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.ring.submit()?;
        }
    }

    fn key(&self, slot: usize) -> io::Result<usize> {
        self.slots.get(slot).copied().flatten().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    fn submit_receive(&mut self, key: usize) -> io::Result<()> {
        let Some(socket) = self.sockets.get_mut(key) else { return Ok(()) };
        socket.receive = Receive::InFlight;
        let entry = opcode::Recv::new(types::Fd(socket.fd.as_raw_fd()), std::ptr::null_mut(), 0)
            .buf_group(GROUP)
            .build()
            .flags(Flags::BUFFER_SELECT)
            .user_data((key as u64) << KINDS | RECEIVE);
        self.push(&entry)
    }

    /// Receives what is there; `None` for nothing.
    fn receive_now(&mut self, key: usize) -> io::Result<Option<Received>> {
        let Self { sockets, chunks, .. } = self;
        let Some(socket) = sockets.get_mut(key) else { return Ok(None) };
        let chunk = chunks.prepare(&mut socket.chunk, ChunkClass::Large);
        let room = chunk.buffer.spare_capacity_mut();
        let asked = room.len();
        let received = loop {
            match rustix::net::recv(&socket.fd, &mut *room, RecvFlags::DONTWAIT) {
                Ok((_, received)) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
        };
        if received == 0 {
            socket.receive = Receive::End;
            return Ok(Some(Received::End));
        }
        // SAFETY: the system initialised the first `received` bytes of the spare capacity, and the buffer was empty.
        unsafe { chunk.buffer.set_len(received) };
        let full = received == asked;
        socket.drained = !full;
        // Without another call nobody would be told of what comes later: it submits the request.
        Ok(Some(Received::Bytes { bytes: chunk.buffer.split().freeze(), more: true, full }))
    }

    fn arm_wake(&mut self) -> io::Result<()> {
        let fd = types::Fd(self.wake.as_fd().as_raw_fd());
        let entry = opcode::PollAdd::new(fd, libc::POLLIN as u32).multi(true).build().user_data(WAKE);
        self.wake_armed = true;
        self.push(&entry)
    }

    fn enter(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = match timeout {
            None => self.ring.submit_and_wait(1),
            Some(timeout) => {
                let time = types::Timespec::new().sec(timeout.as_secs()).nsec(timeout.subsec_nanos());
                self.ring.submitter().submit_with_args(1, &types::SubmitArgs::new().timespec(&time))
            }
        };
        match result {
            Ok(_) => Ok(()),
            // Time is up, a signal came, or completions have to be taken first: all of them mean to look now.
            Err(error)
                if matches!(error.raw_os_error(), Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN)) =>
            {
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    fn take_completions(&mut self, ready: &mut Vec<Ready>) {
        loop {
            let Some(completion) = self.ring.completion().next() else { return };
            let data = completion.user_data();
            let key = (data >> KINDS) as usize;
            match data & ((1 << KINDS) - 1) {
                RECEIVE => self.received(key, &completion, ready),
                SEND => self.sent(key, completion.result(), ready),
                _ => self.wake_armed = cqueue::more(completion.flags()),
            }
            if self.sockets.get(key).is_some_and(|socket| socket.removed && !socket.in_flight())
                && let Some(mut socket) = self.sockets.remove(key)
            {
                self.chunks.release(&mut socket.chunk);
            }
        }
    }

    fn received(&mut self, key: usize, completion: &cqueue::Entry, ready: &mut Vec<Ready>) {
        let picked = cqueue::buffer_select(completion.flags());
        let count = usize::try_from(completion.result()).unwrap_or(0);
        let Some(socket) = self.sockets.get_mut(key) else {
            if let Some(buffer) = picked {
                self.buffers.give_back(buffer);
            }
            return;
        };
        socket.receive = match (completion.result(), picked) {
            (1.., Some(buffer)) => {
                let bytes = if count <= COPIED {
                    // Into a large chunk where the connection has one: it fills it again right after this.
                    let class = match &socket.chunk {
                        Some(chunk) if chunk.class == ChunkClass::Large => ChunkClass::Large,
                        _ => ChunkClass::Small,
                    };
                    let small = self.chunks.prepare(&mut socket.chunk, class);
                    small.buffer.extend_from_slice(self.buffers.filled(buffer, count));
                    self.buffers.give_back(buffer);
                    small.buffer.split().freeze()
                } else {
                    let (bytes, rest) = self.buffers.replace(buffer, count, self.chunks.take(ChunkClass::Ring));
                    self.lent.push(rest);
                    bytes
                };
                Receive::Got { bytes, full: count == ChunkClass::Ring.size() }
            }
            (result, picked) => {
                if let Some(buffer) = picked {
                    self.buffers.give_back(buffer);
                }
                match -result {
                    0 => Receive::End,
                    // All buffers were taken in this round; they are back already.
                    libc::ENOBUFS | libc::EAGAIN | libc::EINTR => Receive::Idle,
                    errno => Receive::Failed(io::Error::from_raw_os_error(errno)),
                }
            }
        };
        if !socket.removed {
            ready.push(Ready { readable: true, ..socket.event() });
        }
    }

    fn sent(&mut self, key: usize, result: i32, ready: &mut Vec<Ready>) {
        let Some(socket) = self.sockets.get_mut(key) else { return };
        let next = match result {
            0.. => Send::Idle,
            result if matches!(-result, libc::EAGAIN | libc::EINTR) => Send::Idle,
            result => Send::Failed(io::Error::from_raw_os_error(-result)),
        };
        if let Send::InFlight(message) = std::mem::replace(&mut socket.send, next)
            && self.spare_messages.len() < 16
        {
            self.spare_messages.push(message);
        }
        let sent = usize::try_from(result).unwrap_or(0);
        socket.tx.advance(sent);
        if !socket.removed {
            ready.push(Ready { writable: true, sent, ..socket.event() });
        }
    }

    /// Takes back chunks whose slices are gone.
    fn collect_lent(&mut self) {
        /// More than this are the business of their slices alone.
        const MOST: usize = 64;
        if self.lent.len() > MOST {
            self.lent.drain(..self.lent.len() - MOST);
        }
        let mut index = 0;
        while index < self.lent.len() {
            if self.lent[index].reclaim() {
                let chunk = self.lent.swap_remove(index);
                self.chunks.put(chunk);
            } else {
                index += 1;
            }
        }
    }
}

impl Net for Uring {
    const NAME: &'static str = "io_uring";

    fn new(wake: Arc<Wake>, cached_bytes: usize) -> io::Result<Self> {
        let ring: IoUring = IoUring::builder()
            .setup_single_issuer()
            .setup_defer_taskrun()
            .setup_cqsize(COMPLETIONS)
            .build(SUBMISSIONS)?;
        let mut chunks = ChunkPool::new(cached_bytes);
        let buffers = BufferRing::new(&ring, GROUP, RING_BUFFERS, &mut chunks)?;
        Ok(Self {
            ring,
            wake,
            wake_armed: false,
            sockets: Slab::default(),
            slots: Vec::new(),
            buffers,
            chunks,
            lent: Vec::new(),
            fresh: Vec::new(),
            spare_messages: Vec::new(),
        })
    }

    fn add(&mut self, slot: usize, tag: u32, fd: OwnedFd, tx: TxQueue) -> io::Result<()> {
        let key = self.sockets.insert(Socket {
            fd,
            slot,
            tag,
            tx,
            chunk: None,
            receive: Receive::Idle,
            send: Send::Idle,
            drained: false,
            removed: false,
        });
        if self.slots.len() <= slot {
            self.slots.resize(slot + 1, None);
        }
        self.slots[slot] = Some(key);
        self.fresh.push(key);
        Ok(())
    }

    fn remove(&mut self, slot: usize) {
        let Some(key) = self.slots.get_mut(slot).and_then(Option::take) else { return };
        let Some(socket) = self.sockets.get_mut(key) else { return };
        if socket.in_flight() {
            socket.removed = true;
            // Ends what is in flight; fails when the peer was faster, which ends it too.
            let _ = rustix::net::shutdown(&socket.fd, Shutdown::Both);
        } else if let Some(mut socket) = self.sockets.remove(key) {
            self.chunks.release(&mut socket.chunk);
        }
    }

    fn detach(&mut self, slot: usize) -> Option<(OwnedFd, TxQueue)> {
        let key = self.key(slot).ok()?;
        // A receive in flight may have bytes already. The loop hands a connection over while it looks at bytes of it,
        // when no receive is submitted; a send in flight would be one that the peer has answered.
        if self.sockets.get(key).is_some_and(Socket::in_flight) {
            self.remove(slot);
            return None;
        }
        self.slots[slot] = None;
        let mut socket = self.sockets.remove(key)?;
        self.chunks.release(&mut socket.chunk);
        Some((socket.fd, socket.tx))
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        if !self.wake_armed {
            self.arm_wake()?;
        }
        self.collect_lent();
        let before = ready.len();
        for key in self.fresh.drain(..) {
            if let Some(socket) = self.sockets.get(key) {
                ready.push(Ready { readable: true, writable: true, ..socket.event() });
            }
        }
        let nothing_yet = ready.len() == before && self.ring.completion().is_empty();
        self.enter(if nothing_yet { timeout } else { Some(Duration::ZERO) })?;
        self.take_completions(ready);
        Ok(())
    }

    fn receive(&mut self, slot: usize, class: ChunkClass) -> io::Result<Received> {
        let key = self.key(slot)?;
        let Some(socket) = self.sockets.get_mut(key) else { return Ok(Received::End) };
        match std::mem::replace(&mut socket.receive, Receive::Idle) {
            Receive::Got { bytes, full } => Ok(Received::Bytes { bytes, more: true, full }),
            Receive::Failed(error) => Err(error),
            Receive::End => {
                socket.receive = Receive::End;
                Ok(Received::End)
            }
            Receive::InFlight => {
                socket.receive = Receive::InFlight;
                Ok(Received::Nothing)
            }
            Receive::Idle => {
                // A stream of data comes in faster than buffers of the ring can be replaced: what is there already is
                // taken into a large chunk at once. The chunk is filled before the next begins, so the cache knows it.
                let drained = std::mem::take(&mut socket.drained);
                if class == ChunkClass::Large
                    && !drained
                    && let Some(received) = self.receive_now(key)?
                {
                    return Ok(received);
                }
                self.submit_receive(key)?;
                Ok(Received::Nothing)
            }
        }
    }

    fn release(&mut self, slot: usize) -> bool {
        let Ok(key) = self.key(slot) else { return false };
        let Some(socket) = self.sockets.get_mut(key) else { return false };
        self.chunks.release(&mut socket.chunk);
        socket.chunk.is_some()
    }

    fn flush(&mut self, slot: usize, budget: usize) -> io::Result<(Flushed, u32)> {
        let key = self.key(slot)?;
        let Some(socket) = self.sockets.get_mut(key) else { return Ok((Flushed::All(0), 0)) };
        match std::mem::replace(&mut socket.send, Send::Idle) {
            Send::Failed(error) => return Err(error),
            Send::InFlight(message) => {
                socket.send = Send::InFlight(message);
                return Ok((Flushed::Blocked(0), 0));
            }
            Send::Idle if socket.tx.is_empty() => return Ok((Flushed::All(0), 0)),
            Send::Idle => {}
        }
        let mut message = self.spare_messages.pop().unwrap_or_else(Message::new);
        message.fill(&socket.tx, budget);
        let fd = types::Fd(socket.fd.as_raw_fd());
        // The kernel goes on by itself when the socket takes a part only.
        let entry = opcode::SendMsg::new(fd, &raw const message.header)
            .flags((libc::MSG_NOSIGNAL | libc::MSG_WAITALL) as u32)
            .build()
            .user_data((key as u64) << KINDS | SEND);
        socket.send = Send::InFlight(message);
        self.push(&entry)?;
        Ok((Flushed::Blocked(0), 1))
    }

    fn queue(&mut self, slot: usize) -> Option<&mut TxQueue> {
        let key = self.key(slot).ok()?;
        self.sockets.get_mut(key).map(|socket| &mut socket.tx)
    }

    fn trim(&mut self) -> bool {
        self.collect_lent();
        self.chunks.trim_if_idle();
        self.spare_messages.clear();
        !self.chunks.is_empty() || !self.lent.is_empty()
    }

    fn shut_down(&mut self, slot: usize) {
        if let Ok(key) = self.key(slot)
            && let Some(socket) = self.sockets.get(key)
        {
            // Fails when the peer was faster.
            let _ = rustix::net::shutdown(&socket.fd, Shutdown::Write);
        }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        let mut ready = Vec::new();
        for slot in 0..self.slots.len() {
            self.remove(slot);
        }
        for _ in 0..50 {
            if self.sockets.is_empty() || self.enter(Some(Duration::from_millis(20))).is_err() {
                break;
            }
            self.take_completions(&mut ready);
        }
        if !self.sockets.is_empty() {
            // The kernel still has what is in flight: memory that it may read or write must not be freed.
            std::mem::forget(std::mem::take(&mut self.sockets));
            self.buffers.forget();
        }
    }
}

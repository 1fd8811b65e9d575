//! Readiness by epoll, edge-triggered: each socket is registered once for its whole life.

use super::{Flushed, Net, Ready, Received};
use crate::driver::chunks::{Chunk, ChunkClass, ChunkPool};
use crate::driver::tx_queue::TxQueue;
use crate::driver::wake::Wake;
use rustix::event::{Timespec, epoll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// Events taken by one system call.
const EVENTS: usize = 256;

/// The event data of the wake-up; no slot has it.
const WAKE: u64 = u64::MAX;

/// Sockets of one thread under one epoll instance.
pub(crate) struct Epoll {
    epoll: OwnedFd,
    sockets: Vec<Option<Socket>>,
    chunks: ChunkPool,
    _wake: Arc<Wake>,
}

struct Socket {
    fd: OwnedFd,
    tx: TxQueue,
    chunk: Option<Chunk>,
}

fn find(sockets: &mut [Option<Socket>], slot: usize) -> io::Result<&mut Socket> {
    sockets.get_mut(slot).and_then(Option::as_mut).ok_or_else(|| io::ErrorKind::NotConnected.into())
}

impl Net for Epoll {
    const NAME: &'static str = "epoll";

    fn new(wake: Arc<Wake>, cached_bytes: usize) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
        epoll::add(&epoll, &*wake, epoll::EventData::new_u64(WAKE), flags)?;
        Ok(Self { epoll, sockets: Vec::new(), chunks: ChunkPool::new(cached_bytes), _wake: wake })
    }

    fn add(&mut self, slot: usize, tag: u32, fd: OwnedFd, tx: TxQueue) -> io::Result<()> {
        let flags = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        let data = epoll::EventData::new_u64(u64::from(tag) << 32 | slot as u64 & 0xffff_ffff);
        epoll::add(&self.epoll, &fd, data, flags)?;
        if self.sockets.len() <= slot {
            self.sockets.resize_with(slot + 1, || None);
        }
        self.sockets[slot] = Some(Socket { fd, tx, chunk: None });
        Ok(())
    }

    fn remove(&mut self, slot: usize) {
        // Dropping the descriptor closes it.
        drop(self.detach(slot));
    }

    fn detach(&mut self, slot: usize) -> Option<(OwnedFd, TxQueue)> {
        let Socket { fd, tx, mut chunk } = self.sockets.get_mut(slot)?.take()?;
        // It fails only for a descriptor that is not registered, which leaves nothing to do.
        let _ = epoll::delete(&self.epoll, &fd);
        self.chunks.release(&mut chunk);
        Some((fd, tx))
    }

    fn wait(&mut self, timeout: Option<Duration>, ready: &mut Vec<Ready>) -> io::Result<()> {
        // A span too long for the system's type is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        let mut events = [const { MaybeUninit::uninit() }; EVENTS];
        let events = match epoll::wait(&self.epoll, &mut events[..], timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let (data, flags) = (event.data.u64(), event.flags);
            if data == WAKE {
                continue;
            }
            let hangup = flags.intersects(epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR);
            ready.push(Ready {
                slot: (data & 0xffff_ffff) as usize,
                tag: (data >> 32) as u32,
                readable: hangup || flags.contains(epoll::EventFlags::IN),
                writable: hangup || flags.contains(epoll::EventFlags::OUT),
                hangup,
                sent: 0,
            });
        }
        Ok(())
    }

    fn receive(&mut self, slot: usize, class: ChunkClass) -> io::Result<Received> {
        let Self { sockets, chunks, .. } = self;
        let socket = find(sockets, slot)?;
        let chunk = chunks.prepare(&mut socket.chunk, class);
        let room = chunk.buffer.spare_capacity_mut();
        let asked = room.len();
        let received = loop {
            match rustix::net::recv(&socket.fd, &mut *room, RecvFlags::empty()) {
                Ok((_, received)) => break received,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(Received::Nothing),
                Err(error) => return Err(error.into()),
            }
        };
        if received == 0 {
            return Ok(Received::End);
        }
        // SAFETY: the system initialised the first `received` bytes of the spare capacity, and the buffer was empty.
        unsafe { chunk.buffer.set_len(received) };
        let full = received == asked;
        Ok(Received::Bytes { bytes: chunk.buffer.split().freeze(), more: full, full })
    }

    fn release(&mut self, slot: usize) -> bool {
        let Self { sockets, chunks, .. } = self;
        let Ok(socket) = find(sockets, slot) else { return false };
        chunks.release(&mut socket.chunk);
        socket.chunk.is_some()
    }

    fn flush(&mut self, slot: usize, budget: usize) -> io::Result<(Flushed, u32)> {
        let socket = find(&mut self.sockets, slot)?;
        let (mut sent, mut calls) = (0, 0);
        loop {
            if socket.tx.is_empty() {
                return Ok((Flushed::All(sent), calls));
            }
            if sent >= budget {
                return Ok((Flushed::Budget(sent), calls));
            }
            calls += 1;
            let slices = socket.tx.slices();
            let result = rustix::net::sendmsg(
                &socket.fd,
                &slices,
                &mut SendAncillaryBuffer::default(),
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            );
            drop(slices);
            match result {
                Ok(count) => {
                    socket.tx.advance(count);
                    sent += count;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok((Flushed::Blocked(sent), calls)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn queue(&mut self, slot: usize) -> Option<&mut TxQueue> {
        self.sockets.get_mut(slot)?.as_mut().map(|socket| &mut socket.tx)
    }

    fn trim(&mut self) -> bool {
        self.chunks.trim_if_idle();
        !self.chunks.is_empty()
    }

    fn shut_down(&mut self, slot: usize) {
        if let Ok(socket) = find(&mut self.sockets, slot) {
            // Fails when the peer was faster.
            let _ = rustix::net::shutdown(&socket.fd, Shutdown::Write);
        }
    }
}

//! The limit: a server that receives and sends messages of the same sizes as a target does and knows nothing else.
//!
//! It reads of a header how long the message is and what to answer, that is all: no task, no store, the same memory in
//! every answer. With a keep it has the one thing of a store that costs memory bandwidth: what it receives is copied to
//! where it lasts, each connection writing its share of the keep in sequence, and what it sends lies at random places there.

use anyhow::Result;
use rustix::event::epoll;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::io::IoSlice;
use std::net::{SocketAddr, TcpListener, TcpStream};

const HEADER: usize = 48;

/// Answers of one system call.
const BATCH: usize = 64;

/// Answers that wait on a connection before nothing more is received.
const MOST_ANSWERS: usize = 1024;

/// Bytes sent on one connection before the next has its turn.
const TURN_BYTES: usize = 2 << 20;

struct Connection {
    stream: TcpStream,
    header: [u8; HEADER],
    have: usize,
    /// Bytes of data still to be received.
    skip: usize,
    answers: VecDeque<[u8; HEADER]>,
    /// Bytes of the first answer that were sent.
    sent: usize,
    readable: bool,
    writable: bool,
    /// Bytes written to the keep, and whose share of it they go to.
    written: usize,
    index: usize,
}

/// Connections that share the keep.
const SHARES: usize = 8;

/// Serves for good; `keep` is the size of the keep in bytes, 0 for none.
pub(crate) fn run(portal: SocketAddr, keep: usize) -> Result<()> {
    let listener = TcpListener::bind(portal)?;
    listener.set_nonblocking(true)?;
    let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    epoll::add(&poll, &listener, epoll::EventData::new_u64(u64::MAX), epoll::EventFlags::IN)?;
    let mut connections: Vec<Option<Connection>> = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    // Messages are of at most 1 MiB.
    let mut payload = vec![0x5a; if keep == 0 { 1 << 20 } else { keep.max(SHARES << 20) }];
    let mut again: Vec<usize> = Vec::new();
    loop {
        let mut events = [epoll::Event { flags: epoll::EventFlags::empty(), data: epoll::EventData::new_u64(0) }; 256];
        let zero = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let count = match epoll::wait(&poll, &mut events[..], (!again.is_empty()).then_some(&zero)) {
            Ok(count) => count,
            Err(Errno::INTR) => 0,
            Err(error) => return Err(error.into()),
        };
        let mut turns = std::mem::take(&mut again);
        for event in &events[..count] {
            let (data, flags) = ({ event.data }.u64(), event.flags);
            if data == u64::MAX {
                while let Ok((stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    stream.set_nonblocking(true)?;
                    let index = connections.iter().position(Option::is_none).unwrap_or_else(|| {
                        connections.push(None);
                        connections.len() - 1
                    });
                    let wanted = epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::ET;
                    epoll::add(&poll, &stream, epoll::EventData::new_u64(index as u64), wanted)?;
                    connections[index] = Some(Connection {
                        stream,
                        header: [0; HEADER],
                        have: 0,
                        skip: 0,
                        answers: VecDeque::new(),
                        sent: 0,
                        readable: false,
                        writable: true,
                        written: 0,
                        index,
                    });
                }
                continue;
            }
            let index = data as usize;
            if let Some(Some(connection)) = connections.get_mut(index) {
                connection.readable |= !flags.intersection(epoll::EventFlags::IN | epoll::EventFlags::HUP).is_empty();
                connection.writable |= flags.contains(epoll::EventFlags::OUT);
                if !turns.contains(&index) {
                    turns.push(index);
                }
            }
        }
        for index in turns {
            let Some(connection) = connections.get_mut(index).and_then(Option::as_mut) else { continue };
            match connection.turn(&mut buffer, &mut payload, keep > 0) {
                Ok(false) => {}
                Ok(true) => again.push(index),
                Err(_) => connections[index] = None,
            }
        }
    }
}

impl Connection {
    /// Receives and sends; `true`: there is more to do at once.
    fn turn(&mut self, buffer: &mut [u8], payload: &mut [u8], keeps: bool) -> Result<bool> {
        let mut budget = TURN_BYTES;
        while self.readable && self.answers.len() < MOST_ANSWERS && budget > 0 {
            match rustix::net::recv(&self.stream, &mut *buffer, RecvFlags::empty()) {
                Ok((_, 0)) => anyhow::bail!("closed"),
                Ok((_, count)) => {
                    self.readable = count == buffer.len();
                    budget = budget.saturating_sub(count);
                    self.take(&buffer[..count], keeps.then_some(&mut *payload));
                }
                Err(Errno::AGAIN) => self.readable = false,
                Err(error) => return Err(error.into()),
            }
        }
        let mut budget = TURN_BYTES;
        while self.writable && !self.answers.is_empty() && budget > 0 {
            let sent = self.send(payload, keeps)?;
            budget = budget.saturating_sub(sent);
        }
        Ok(self.readable && self.answers.len() < MOST_ANSWERS || self.writable && !self.answers.is_empty())
    }

    fn take(&mut self, mut bytes: &[u8], mut keep: Option<&mut [u8]>) {
        loop {
            let skipped = self.skip.min(bytes.len());
            if let Some(keep) = keep.as_deref_mut() {
                self.keep(keep, &bytes[..skipped]);
            }
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return;
            }
            let part = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + part].copy_from_slice(&bytes[..part]);
            self.have += part;
            bytes = &bytes[part..];
            if self.have < HEADER {
                return;
            }
            self.have = 0;
            let header = &self.header;
            self.skip = u32::from_be_bytes([0, header[5], header[6], header[7]]) as usize;
            let mut answer = [0; HEADER];
            let reads = header[1] & 0x40 != 0;
            (answer[0], answer[1]) = if reads { (0x25, 0x81) } else { (0x21, 0x80) };
            if reads {
                answer[5..8].copy_from_slice(&header[21..24]);
            }
            answer[16..20].copy_from_slice(&header[16..20]);
            let number = u32::from_be_bytes([header[24], header[25], header[26], header[27]]);
            answer[32..36].copy_from_slice(&number.wrapping_add(1024).to_be_bytes());
            self.answers.push_back(answer);
        }
    }

    /// Copies data to this connection's share of the keep, round and round.
    fn keep(&mut self, keep: &mut [u8], data: &[u8]) {
        let share = keep.len() / SHARES;
        let at = self.written % share;
        let length = data.len().min(share - at);
        let begin = self.index % SHARES * share + at;
        keep[begin..begin + length].copy_from_slice(&data[..length]);
        self.written += data.len();
    }

    fn send(&mut self, payload: &[u8], keeps: bool) -> Result<usize> {
        let mut slices: SmallVec<[IoSlice<'_>; 2 * BATCH]> = SmallVec::new();
        let mut offset = self.sent;
        for answer in self.answers.iter().take(BATCH) {
            let length = length_of(answer);
            if offset < HEADER {
                slices.push(IoSlice::new(&answer[offset..]));
                offset = HEADER;
            }
            if length > 0 {
                let from = if keeps { place_of(answer, self.index, payload.len() - length) } else { 0 };
                slices.push(IoSlice::new(&payload[from..][offset - HEADER..length]));
            }
            offset = 0;
        }
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        let sent = match rustix::net::sendmsg(&self.stream, &slices, &mut SendAncillaryBuffer::default(), flags) {
            Ok(sent) => sent,
            Err(Errno::AGAIN) => {
                self.writable = false;
                return Ok(0);
            }
            Err(error) => return Err(error.into()),
        };
        drop(slices);
        self.sent += sent;
        while let Some(answer) = self.answers.front() {
            let whole = HEADER + length_of(answer);
            if self.sent < whole {
                break;
            }
            self.sent -= whole;
            self.answers.pop_front();
        }
        Ok(sent)
    }
}

/// Where an answer's data lies, at most at `last`: at random, but the same for all of the answer.
fn place_of(answer: &[u8; HEADER], index: usize, last: usize) -> usize {
    const PAGE: u64 = 4096;
    let number = u32::from_be_bytes([answer[32], answer[33], answer[34], answer[35]]);
    let mixed = ((index as u64) << 32 | u64::from(number)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 24;
    (mixed % (last as u64 / PAGE + 1) * PAGE) as usize
}

fn length_of(answer: &[u8; HEADER]) -> usize {
    u32::from_be_bytes([0, answer[5], answer[6], answer[7]]) as usize
}

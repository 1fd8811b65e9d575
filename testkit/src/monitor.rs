//! A virtual machine's monitor: the frontend of vhost-user at a server's socket, with a driver of virtio-scsi in memory
//! that both share. Messages go out as they are given, so that wrong ones can be sent too.

use crate::guest::{Answer, Driver, MEMORY, QUEUE_SIZE, QUEUES, available, table, used};
use rustix::event::{EventfdFlags, PollFd, PollFlags, Timespec, eventfd, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use vm_memory::{FileOffset, GuestAddress, GuestMemoryMmap};

/// Kinds of messages (vhost-user protocol, front-end message types).
pub mod message {
    /// Which features the device has.
    pub const GET_FEATURES: u32 = 1;
    /// Which of them are used.
    pub const SET_FEATURES: u32 = 2;
    /// The connection is ours.
    pub const SET_OWNER: u32 = 3;
    /// The guest's memory, with a descriptor for each region.
    pub const SET_MEM_TABLE: u32 = 5;
    /// A queue's entries.
    pub const SET_VRING_NUM: u32 = 8;
    /// Where a queue's rings lie.
    pub const SET_VRING_ADDR: u32 = 9;
    /// The next request of a queue.
    pub const SET_VRING_BASE: u32 = 10;
    /// Stops a queue and asks for its next request.
    pub const GET_VRING_BASE: u32 = 11;
    /// By what a queue is kicked; it starts.
    pub const SET_VRING_KICK: u32 = 12;
    /// By what a queue interrupts.
    pub const SET_VRING_CALL: u32 = 13;
    /// Which features of the protocol there are.
    pub const GET_PROTOCOL_FEATURES: u32 = 15;
    /// Which of them are used.
    pub const SET_PROTOCOL_FEATURES: u32 = 16;
    /// Lets a queue run.
    pub const SET_VRING_ENABLE: u32 = 18;
    /// Asks for memory for notes of what is under way.
    pub const GET_INFLIGHT_FD: u32 = 31;
    /// Gives that memory.
    pub const SET_INFLIGHT_FD: u32 = 32;
}

/// Version 1 of the protocol.
const VERSION: u32 = 1;
/// `VHOST_USER_F_PROTOCOL_FEATURES`.
const PROTOCOL_FEATURES: u64 = 1 << 30;
/// `VHOST_USER_PROTOCOL_F_MQ`, `_REPLY_ACK` and `_INFLIGHT_SHMFD`.
pub const USED_PROTOCOL_FEATURES: u64 = 1 | 1 << 3 | 1 << 12;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a server's socket.
pub struct Monitor(UnixStream);

impl Monitor {
    /// Connects.
    ///
    /// # Errors
    /// What the system says.
    pub fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self(stream))
    }

    /// Sends bytes with descriptors, whatever they are.
    ///
    /// # Errors
    /// What the system says; the server has hung up, for instance.
    pub fn send_raw(&self, bytes: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let files = &files[..files.len().min(16)];
        if !files.is_empty() {
            control.push(SendAncillaryMessage::ScmRights(files));
        }
        sendmsg(&self.0, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?;
        Ok(())
    }

    /// Sends a message.
    ///
    /// # Errors
    /// As [`Monitor::send_raw`].
    pub fn send(&self, kind: u32, payload: &[u8], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for word in [kind, VERSION, payload.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(payload);
        self.send_raw(&bytes, files)
    }

    /// Sends a message and gives the payload of its answer.
    ///
    /// # Errors
    /// What the system says, or there is no answer in time.
    pub fn ask(&mut self, kind: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
        self.send(kind, payload, &[])?;
        let mut head = [0; 12];
        self.0.read_exact(&mut head)?;
        let length = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
        let mut answer = vec![0; length.min(4096) as usize];
        self.0.read_exact(&mut answer)?;
        Ok(answer)
    }

    /// Waits until the server has hung up, or says all that it has to say; what it says is thrown away.
    ///
    /// # Errors
    /// It does neither in time.
    pub fn finish(mut self) -> io::Result<()> {
        self.0.shutdown(std::net::Shutdown::Write)?;
        let mut some = [0; 256];
        loop {
            match self.0.read(&mut some) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// A payload of words.
pub fn words(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

/// The payload that names a queue and a number.
pub fn of_queue(queue: usize, number: u32) -> Vec<u8> {
    [(queue as u32).to_le_bytes(), number.to_le_bytes()].concat()
}

/// The payload of `SET_MEM_TABLE` for one region, whose addresses are the same for the guest and its monitor.
pub fn memory_table(start: u64, bytes: u64, offset: u64) -> Vec<u8> {
    [of_queue(1, 0), words(&[start, bytes, start, offset])].concat()
}

/// The payload of `SET_VRING_ADDR`.
pub fn ring_addresses(queue: usize, table: u64, used: u64, available: u64) -> Vec<u8> {
    [of_queue(queue, 0), words(&[table, used, available, 0])].concat()
}

/// A file in memory, of zeros.
///
/// # Errors
/// What the system says.
pub fn memory_file(bytes: u64) -> io::Result<File> {
    let file = File::from(memfd_create("guest", MemfdFlags::CLOEXEC)?);
    file.set_len(bytes)?;
    Ok(file)
}

/// A counter to kick and to interrupt by.
///
/// # Errors
/// What the system says.
pub fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// A machine with such a monitor: its driver, and the way to kick and be interrupted.
pub struct Machine {
    /// The connection.
    pub monitor: Monitor,
    /// The driver.
    pub driver: Driver,
    kicks: Vec<OwnedFd>,
    calls: Vec<OwnedFd>,
}

impl Machine {
    /// Connects and sets the device up, with as many queues as the driver has.
    ///
    /// # Errors
    /// What the system says; the server may have hung up.
    pub fn start(socket: &Path) -> io::Result<Self> {
        let mut monitor = Monitor::connect(socket)?;
        let file = memory_file(MEMORY as u64)?;
        let range = (GuestAddress(0), MEMORY, Some(FileOffset::new(file.try_clone()?, 0)));
        let memory = GuestMemoryMmap::from_ranges_with_files([range]).map_err(io::Error::other)?;
        monitor.send(message::SET_OWNER, &[], &[])?;
        let offered = monitor.ask(message::GET_FEATURES, &[])?;
        let offered = offered.try_into().map(u64::from_le_bytes).map_err(|_| io::Error::other("eight bytes"))?;
        // An interrupt for each answer: no event index.
        let features = offered & !vhost_scsi::features::RING_EVENT_IDX;
        monitor.ask(message::GET_PROTOCOL_FEATURES, &[])?;
        monitor.send(message::SET_PROTOCOL_FEATURES, &words(&[USED_PROTOCOL_FEATURES]), &[])?;
        monitor.send(message::SET_FEATURES, &words(&[features | offered & PROTOCOL_FEATURES]), &[])?;
        monitor.send(message::SET_MEM_TABLE, &memory_table(0, MEMORY as u64, 0), &[file.as_fd()])?;
        let (mut kicks, mut calls) = (Vec::new(), Vec::new());
        for queue in 0..QUEUES {
            let (kick, call) = (event()?, event()?);
            monitor.send(message::SET_VRING_NUM, &of_queue(queue, u32::from(QUEUE_SIZE)), &[])?;
            let rings = ring_addresses(queue, table(queue), used(queue), available(queue));
            monitor.send(message::SET_VRING_ADDR, &rings, &[])?;
            monitor.send(message::SET_VRING_BASE, &of_queue(queue, 0), &[])?;
            monitor.send(message::SET_VRING_CALL, &words(&[queue as u64]), &[call.as_fd()])?;
            monitor.send(message::SET_VRING_KICK, &words(&[queue as u64]), &[kick.as_fd()])?;
            monitor.send(message::SET_VRING_ENABLE, &of_queue(queue, 1), &[])?;
            kicks.push(kick);
            calls.push(call);
        }
        Ok(Self { monitor, driver: Driver::new(Arc::new(memory)), kicks, calls })
    }

    /// Kicks a queue.
    ///
    /// # Errors
    /// What the system says.
    pub fn kick(&self, queue: usize) -> io::Result<()> {
        rustix::io::write(&self.kicks[queue], &1u64.to_ne_bytes())?;
        Ok(())
    }

    /// Waits for an interrupt of a queue and takes what has been answered there.
    ///
    /// # Errors
    /// There is none in time.
    pub fn wait(&mut self, queue: usize) -> io::Result<()> {
        let call = &self.calls[queue];
        let limit = Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
        if poll(&mut [PollFd::new(call, PollFlags::IN)], Some(&limit))? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
        // Another reader there is not.
        rustix::io::read(call, &mut [0; 8])?;
        self.driver.collect(queue);
        Ok(())
    }

    /// Sends a command on one of the request queues and waits for its end.
    ///
    /// # Errors
    /// There is none in time.
    pub fn command(&mut self, queue: usize, lun: u16, cdb: &[u8], data_out: &[u8], room: usize) -> io::Result<Answer> {
        let head = self.driver.offer_command(queue, lun, 1, cdb, data_out, room);
        self.kick(queue)?;
        loop {
            self.wait(queue)?;
            if let Some(answer) = self.driver.answer_on(queue, head) {
                return Ok(answer);
            }
        }
    }
}

//! The blocking client.

use crate::core::Job;
use crate::driver::{Driver, WAKE};
use crate::error::Error;
use crate::handle::{Handle, managed, reply, targets};
use crate::options::Options;
use crate::pending::{Pending, Reply};
use crate::plan::{Geometry, Operation};
use crate::probe::Probe;
use bytes::Bytes;
use iscsi_proto::initiator::{Command, DataOut, DiscoveredTarget};
use iscsi_proto::login::Parameters;
use iscsi_proto::pdu::TaskManagementResponseCode;
use mio::{Poll, Waker};
use scsi_core::TaskManagementFunction;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

/// A disk over the network. Share it between threads by reference or `Arc`; every method takes `&self`.
///
/// A thread of its own does the I/O. When the connection is lost it connects again, by itself and for as long as
/// [`Options::reconnect_timeout`] says, ends what the target has left of the old session (session reinstatement) and
/// sends again what was under way: reads, writes and the other operations of a disk may run twice. Raw commands may
/// not: they end as [`Error::Lost`].
///
/// ```
/// # use lu_sbd::store::MemoryStore;
/// # let server = lunette_server::Server::builder()
/// #     .disk(lunette_server::Disk::new(MemoryStore::new(1 << 20)))
/// #     .portal("127.0.0.1:0".parse()?)
/// #     .start()?;
/// # let url = server.url(0);
/// use lunette_client::Disk;
///
/// let disk = Disk::connect(&url)?; // "iscsi://user%secret@host/iqn.2026-11.org.example:disk/0"
/// assert_eq!((disk.capacity(), disk.block_size()), (1 << 20, 512));
/// disk.write_at(4096, &[7; 1024])?;
/// disk.flush()?;
/// let mut back = [0; 1024];
/// disk.read_at(4096, &mut back)?;
/// assert_eq!(back, [7; 1024]);
/// disk.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Disk {
    session: Connection,
    geometry: RwLock<Arc<Geometry>>,
}

/// A session and the thread that drives it.
#[derive(Debug)]
struct Connection {
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    fn open(options: Options) -> Result<Self, Error> {
        let poll = Poll::new().map_err(Error::system)?;
        let waker = Waker::new(poll.registry(), WAKE).map_err(Error::system)?;
        let handle = Handle::new(
            options,
            Box::new(move || {
                // It fails only when the driver's end is gone, and then nobody waits.
                let _ = waker.wake();
            }),
        )?;
        let driver = Driver::new(Arc::clone(&handle.shared), poll);
        let thread = std::thread::Builder::new().name("iscsi-client".into()).spawn(move || driver.run());
        Ok(Self { handle, thread: Some(thread.map_err(Error::system)?) })
    }
}

impl Drop for Connection {
    /// Logs out; takes no longer than a few seconds.
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Disk {
    /// Connects to the disk at a URL, see [`Options`], and asks it for its size.
    ///
    /// # Errors
    /// Any [`Error`]; a failed connection is not tried again here.
    pub fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(url.parse()?)
    }

    /// As [`connect`](Self::connect), with options that a URL cannot say.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub fn connect_with(options: Options) -> Result<Self, Error> {
        let session = Connection::open(options)?;
        let geometry = probe(&session.handle)?;
        Ok(Self { session, geometry: RwLock::new(Arc::new(geometry)) })
    }

    /// Size in bytes, as known from the connection or the last [`refresh`](Self::refresh).
    pub fn capacity(&self) -> u64 {
        self.geometry().capacity()
    }

    /// Bytes of a block: every offset and length is a multiple of it.
    pub fn block_size(&self) -> u32 {
        self.geometry().block_size
    }

    /// What the disk told about itself.
    pub fn geometry(&self) -> Arc<Geometry> {
        self.geometry.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks for the size and the limits again: they may change while the disk is in use.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn refresh(&self) -> Result<Arc<Geometry>, Error> {
        let geometry = Arc::new(probe(&self.session.handle)?);
        *self.geometry.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&geometry);
        Ok(geometry)
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Any [`Error`]; `into` may then hold anything.
    pub fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let data = self.submit(Operation::Read { offset, length: into.len() })?.wait()?;
        data.copy_to(into);
        Ok(())
    }

    /// The bytes from `offset` on, `length` of them; without a copy if they came in one piece.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        Ok(self.submit(Operation::Read { offset, length })?.wait()?.to_bytes())
    }

    /// Writes a copy of `data` from `offset` on.
    ///
    /// # Errors
    /// Any [`Error`]; any part of the range may then have changed.
    pub fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write(offset, Bytes::copy_from_slice(data))
    }

    /// As [`write_at`](Self::write_at), without a copy: of a `Vec<u8>`, a `Bytes`, or slices collected into a
    /// [`DataOut`].
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub fn write(&self, offset: u64, data: impl Into<DataOut>) -> Result<(), Error> {
        self.submit(Operation::Write { offset, data: data.into(), durable: false })?.wait().map(drop)
    }

    /// Brings everything that was written to stable storage (SYNCHRONIZE CACHE).
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn flush(&self) -> Result<(), Error> {
        self.submit(Operation::Flush)?.wait().map(drop)
    }

    /// Gives a range back (UNMAP). It reads as zeros afterwards if [`Geometry::unmapped_reads_zero`] says so.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the disk has no such thing, else any [`Error`].
    pub fn unmap(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.submit(Operation::Unmap { offset, length })?.wait().map(drop)
    }

    /// Writes one block over and over (WRITE SAME), `length` bytes in all.
    ///
    /// # Errors
    /// Any [`Error`].
    pub fn write_same(&self, offset: u64, length: u64, block: &[u8]) -> Result<(), Error> {
        let block = Bytes::copy_from_slice(block);
        self.submit(Operation::WriteSame { offset, length, block })?.wait().map(drop)
    }

    /// Begins an operation; several may be under way at once, and end in any order. Of operations whose ranges overlap
    /// any may come first.
    ///
    /// # Errors
    /// What can be told without asking the disk: a range that is none, an operation it does not have.
    pub fn submit(&self, operation: Operation) -> Result<Pending, Error> {
        self.session.handle.submit(&self.geometry(), operation)
    }

    /// Sends any CDB, with data either way or both, and gives the answer whatever its status. It is sent once: no
    /// retry, no second try after a lost connection. A LUN of 0 in `command` stands for the disk's own.
    ///
    /// # Errors
    /// When there was no answer. A CHECK CONDITION is one.
    pub fn execute(&self, command: Command) -> Result<Reply, Error> {
        reply(self.session.handle.command(command, false).wait())
    }

    /// Sends a task management function for the disk's LUN.
    ///
    /// # Errors
    /// [`Error::TaskManagement`] when the target refuses, else any [`Error`].
    pub fn manage(&self, function: TaskManagementFunction) -> Result<TaskManagementResponseCode, Error> {
        managed(function, self.session.handle.manage(function, None).wait())
    }

    /// Aborts the commands of an operation that are out; those then end as [`Error::Lost`] or as they do.
    ///
    /// # Errors
    /// As [`manage`](Self::manage).
    pub fn abort(&self, pending: &Pending) -> Result<(), Error> {
        let function = TaskManagementFunction::AbortTask;
        let asked: Vec<_> =
            pending.requests.iter().map(|&request| self.session.handle.manage(function, Some(request))).collect();
        asked.into_iter().try_for_each(|outcomes| managed(function, outcomes.wait()).map(drop))
    }

    /// Logins so far: 1, and one more for each time the connection was lost and made again.
    pub fn logins(&self) -> u64 {
        self.session.handle.logins()
    }

    /// What the last login agreed on.
    pub fn parameters(&self) -> Option<Parameters> {
        self.session.handle.parameters()
    }

    /// Breaks the connection off as if the network had. What follows is the same as when that happens: tests of
    /// programs that must live with it use this.
    pub fn drop_connection(&self) {
        self.session.handle.drop_connection();
    }

    /// Logs out. Operations of other threads that are under way end in errors. Dropping the disk does the same.
    ///
    /// # Errors
    /// None so far; what was acknowledged is not at stake.
    pub fn close(self) -> Result<(), Error> {
        drop(self);
        Ok(())
    }
}

/// The targets at a portal, `iscsi://[user%secret@]host[:port]`, that this initiator may see.
///
/// # Errors
/// Any [`Error`].
pub fn discover(url: &str) -> Result<Vec<DiscoveredTarget>, Error> {
    discover_with(Options::discovery(url)?)
}

/// As [`discover`], with options that a URL cannot say.
///
/// # Errors
/// Any [`Error`].
pub fn discover_with(mut options: Options) -> Result<Vec<DiscoveredTarget>, Error> {
    options.target = None;
    let connection = Connection::open(options)?;
    targets(connection.handle.jobs(vec![Job::Targets]).0.wait())
}

fn probe(handle: &Handle) -> Result<Geometry, Error> {
    let mut probe = Probe::new(handle.options().lun_field());
    while let Some(command) = probe.next() {
        probe.handle(&reply(handle.command(command, true).wait())?)?;
    }
    probe.finish()
}

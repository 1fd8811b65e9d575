//! The client for tokio: as the blocking one, with a task in the place of the thread.

use crate::core::{Job, Step};
use crate::error::Error;
use crate::handle::{Handle, Shared, managed, reply, targets};
use crate::options::{Address, Options};
use crate::outbox::{Inbox, Outbox};
use crate::pending::{Pending, Reply};
use crate::plan::{Geometry, Operation};
use crate::probe::Probe;
use ::tokio::net::TcpStream;
use ::tokio::sync::Notify;
use ::tokio::task::JoinHandle;
use ::tokio::time::{sleep_until, timeout_at};
use bytes::Bytes;
use iscsi_proto::initiator::{Command, DataOut, DiscoveredTarget};
use iscsi_proto::login::Parameters;
use iscsi_proto::pdu::TaskManagementResponseCode;
use scsi_core::TaskManagementFunction;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// Reads in a row before what is to be sent gets its turn.
const READS: usize = 16;

/// A disk over the network, for use inside a tokio runtime; see [`crate::Disk`] for what it promises.
///
/// A future that is dropped abandons the answer, not the command.
#[derive(Debug)]
pub struct Disk {
    session: Connection,
    geometry: RwLock<Arc<Geometry>>,
}

/// A session and the task that drives it.
#[derive(Debug)]
struct Connection {
    handle: Handle,
    task: Option<JoinHandle<()>>,
}

impl Connection {
    fn open(options: Options) -> Result<Self, Error> {
        let notify = Arc::new(Notify::new());
        let wake = Arc::clone(&notify);
        let handle = Handle::new(options, Box::new(move || wake.notify_one()))?;
        let driver = Driver {
            shared: Arc::clone(&handle.shared),
            notify,
            stream: None,
            out: Outbox::default(),
            inbox: Inbox::default(),
            batch: Vec::new(),
        };
        Ok(Self { handle, task: Some(::tokio::spawn(driver.run())) })
    }
}

impl Drop for Connection {
    /// The task logs out on its own, if the runtime goes on for long enough.
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl Disk {
    /// Connects to the disk at a URL, see [`Options`], and asks it for its size.
    ///
    /// # Errors
    /// Any [`Error`]; a failed connection is not tried again here.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        Self::connect_with(url.parse()?).await
    }

    /// As [`connect`](Self::connect), with options that a URL cannot say.
    ///
    /// # Errors
    /// As [`connect`](Self::connect).
    pub async fn connect_with(options: Options) -> Result<Self, Error> {
        let session = Connection::open(options)?;
        let geometry = probe(&session.handle).await?;
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
    pub async fn refresh(&self) -> Result<Arc<Geometry>, Error> {
        let geometry = Arc::new(probe(&self.session.handle).await?);
        *self.geometry.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&geometry);
        Ok(geometry)
    }

    /// Fills `into` with the bytes from `offset` on.
    ///
    /// # Errors
    /// Any [`Error`]; `into` may then hold anything.
    pub async fn read_at(&self, offset: u64, into: &mut [u8]) -> Result<(), Error> {
        let data = self.submit(Operation::Read { offset, length: into.len() })?.await?;
        data.copy_to(into);
        Ok(())
    }

    /// The bytes from `offset` on, `length` of them; without a copy if they came in one piece.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        Ok(self.submit(Operation::Read { offset, length })?.await?.to_bytes())
    }

    /// Writes a copy of `data` from `offset` on.
    ///
    /// # Errors
    /// Any [`Error`]; any part of the range may then have changed.
    pub async fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.write(offset, Bytes::copy_from_slice(data)).await
    }

    /// As [`write_at`](Self::write_at), without a copy.
    ///
    /// # Errors
    /// As [`write_at`](Self::write_at).
    pub async fn write(&self, offset: u64, data: impl Into<DataOut>) -> Result<(), Error> {
        let operation = Operation::Write { offset, data: data.into(), durable: false };
        self.submit(operation)?.await.map(drop)
    }

    /// Brings everything that was written to stable storage (SYNCHRONIZE CACHE).
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn flush(&self) -> Result<(), Error> {
        self.submit(Operation::Flush)?.await.map(drop)
    }

    /// Gives a range back (UNMAP). It reads as zeros afterwards if [`Geometry::unmapped_reads_zero`] says so.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the disk has no such thing, else any [`Error`].
    pub async fn unmap(&self, offset: u64, length: u64) -> Result<(), Error> {
        self.submit(Operation::Unmap { offset, length })?.await.map(drop)
    }

    /// Writes one block over and over (WRITE SAME), `length` bytes in all.
    ///
    /// # Errors
    /// Any [`Error`].
    pub async fn write_same(&self, offset: u64, length: u64, block: &[u8]) -> Result<(), Error> {
        let block = Bytes::copy_from_slice(block);
        self.submit(Operation::WriteSame { offset, length, block })?.await.map(drop)
    }

    /// Begins an operation; `.await` what it gives, or several of them in any order.
    ///
    /// # Errors
    /// What can be told without asking the disk: a range that is none, an operation it does not have.
    pub fn submit(&self, operation: Operation) -> Result<Pending, Error> {
        self.session.handle.submit(&self.geometry(), operation)
    }

    /// Sends any CDB once and gives the answer whatever its status; see [`crate::Disk::execute`].
    ///
    /// # Errors
    /// When there was no answer. A CHECK CONDITION is one.
    pub async fn execute(&self, command: Command) -> Result<Reply, Error> {
        reply(self.session.handle.command(command, false).await)
    }

    /// Sends a task management function for the disk's LUN.
    ///
    /// # Errors
    /// [`Error::TaskManagement`] when the target refuses, else any [`Error`].
    pub async fn manage(&self, function: TaskManagementFunction) -> Result<TaskManagementResponseCode, Error> {
        managed(function, self.session.handle.manage(function, None).await)
    }

    /// Aborts the commands of an operation that are out.
    ///
    /// # Errors
    /// As [`manage`](Self::manage).
    pub async fn abort(&self, pending: &Pending) -> Result<(), Error> {
        let function = TaskManagementFunction::AbortTask;
        let asked: Vec<_> =
            pending.requests.iter().map(|&request| self.session.handle.manage(function, Some(request))).collect();
        for outcomes in asked {
            managed(function, outcomes.await)?;
        }
        Ok(())
    }

    /// Logins so far: 1, and one more for each time the connection was lost and made again.
    pub fn logins(&self) -> u64 {
        self.session.handle.logins()
    }

    /// What the last login agreed on.
    pub fn parameters(&self) -> Option<Parameters> {
        self.session.handle.parameters()
    }

    /// Breaks the connection off as if the network had, for tests.
    pub fn drop_connection(&self) {
        self.session.handle.drop_connection();
    }

    /// Logs out and waits for the end. Dropping the disk logs out without waiting.
    ///
    /// # Errors
    /// None so far; what was acknowledged is not at stake.
    pub async fn close(mut self) -> Result<(), Error> {
        self.session.handle.close();
        if let Some(task) = self.session.task.take() {
            let _ = task.await;
        }
        Ok(())
    }
}

/// The targets at a portal that this initiator may see; see [`crate::discover`].
///
/// # Errors
/// Any [`Error`].
pub async fn discover(url: &str) -> Result<Vec<DiscoveredTarget>, Error> {
    let connection = Connection::open(Options::discovery(url)?)?;
    targets(connection.handle.jobs(vec![Job::Targets]).0.await)
}

async fn probe(handle: &Handle) -> Result<Geometry, Error> {
    let mut probe = Probe::new(handle.options().lun_field());
    while let Some(command) = probe.next() {
        probe.handle(&reply(handle.command(command, true).await)?)?;
    }
    probe.finish()
}

struct Driver {
    shared: Arc<Shared>,
    notify: Arc<Notify>,
    stream: Option<TcpStream>,
    out: Outbox,
    inbox: Inbox,
    batch: Vec<Bytes>,
}

impl Driver {
    async fn run(mut self) {
        loop {
            let (step, deadline) = self.shared.with(|core| {
                let now = Instant::now();
                core.handle_timeout(now);
                (core.poll_step(now), core.poll_timeout())
            });
            match step {
                Some(Step::Connect(address)) => self.connect(&address, deadline).await,
                Some(Step::Close) => self.closed(None),
                Some(Step::Stop) => return,
                None => self.transfer().await,
            }
        }
    }

    async fn connect(&mut self, address: &Address, deadline: Option<Instant>) {
        let deadline = deadline.unwrap_or_else(|| Instant::now() + Duration::from_secs(60));
        let connect = TcpStream::connect((address.host.as_str(), address.port));
        let connected = match timeout_at(deadline.into(), connect).await {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        };
        let now = Instant::now();
        match connected {
            Ok(stream) => {
                let _ = stream.set_nodelay(true);
                self.stream = Some(stream);
                self.shared.with(|core| core.handle_connected(now));
            }
            Err(source) => {
                let error = Error::Connect { address: address.to_string(), source: Arc::new(source) };
                self.shared.with(|core| core.handle_connect_failed(now, error));
            }
        }
    }

    fn closed(&mut self, reason: Option<&io::Error>) {
        self.stream = None;
        self.out.clear();
        self.shared.with(|core| core.handle_closed(Instant::now(), reason));
    }

    /// Receives and sends what goes, then waits for more.
    async fn transfer(&mut self) {
        if let Err(error) = self.exchange() {
            let reason = (error.kind() != io::ErrorKind::UnexpectedEof).then_some(&error);
            return self.closed(reason);
        }
        let (step_is_due, deadline) = self.shared.with(|core| (core.has_step(), core.poll_timeout()));
        if step_is_due {
            return;
        }
        let sleep = async {
            match deadline {
                Some(deadline) => sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let wants_write = !self.out.is_empty();
        match &self.stream {
            Some(stream) => ::tokio::select! {
                () = self.notify.notified() => {}
                () = sleep => {}
                _ = stream.readable() => {}
                _ = stream.writable(), if wants_write => {}
            },
            None => ::tokio::select! {
                () = self.notify.notified() => {}
                () = sleep => {}
            },
        }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let Some(stream) = &self.stream else { return Ok(()) };
        for _ in 0..READS {
            let wanted = self.shared.with(|core| core.recv_hint().wanted);
            match self.inbox.read(wanted, |into| stream.try_read(into)) {
                Ok(Some(bytes)) => self.shared.with(|core| core.handle_received(Instant::now(), bytes)),
                Ok(None) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        loop {
            if self.out.is_empty() {
                self.shared.with(|core| core.poll_transmit(Instant::now(), &mut self.batch));
                self.out.push(&mut self.batch);
            }
            if self.out.is_empty() {
                return Ok(());
            }
            match self.out.write(|slices| stream.try_write_vectored(slices)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

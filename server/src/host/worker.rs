//! One iSCSI worker as the protocol that a thread of the data path drives.

use super::seen::Seen;
use crate::audit::{self, LoginLog};
use crate::driver::{Action, Arrival, Flood, Protocol, StoreJob, Wake};
use bytes::Bytes;
use iscsit::{ConnectionId, Notice, Parcel, Provider, StoreTicket, Waker, Worker, WorkerEvent};
use slotmap::Key;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stmf::NexusId;
use stmf::provider::{LogicalUnit, StoreDone};

/// A worker, and what it has to say in the log.
pub(crate) struct TargetWorker {
    worker: Worker,
    /// Refused logins and the like: what a hostile peer can cause at will.
    warnings: Flood,
    /// Logins and endings of sessions.
    news: Flood,
    /// Both, to be kept.
    audit: Option<Arc<LoginLog>>,
    /// Who has logged in.
    seen: Arc<Seen>,
}

struct WakeThread(Arc<Wake>);

impl Waker for WakeThread {
    fn wake(&self) {
        self.0.wake();
    }
}

impl TargetWorker {
    /// The next worker of `provider`, whose thread `wake` wakes.
    pub(crate) fn new(
        provider: &Arc<Provider>,
        wake: Arc<Wake>,
        audit: Option<Arc<LoginLog>>,
        seen: Arc<Seen>,
    ) -> Self {
        Self {
            worker: Worker::new(Arc::clone(provider), Arc::new(WakeThread(wake))),
            warnings: Flood::new(10, Duration::from_secs(10)),
            news: Flood::new(100, Duration::from_secs(10)),
            audit,
            seen,
        }
    }

    /// Where the connections of its sessions come from.
    pub(crate) fn peers(&self) -> Vec<(NexusId, Vec<SocketAddr>)> {
        self.worker.peers()
    }

    fn tell(&mut self, notice: &Notice) {
        if let Notice::LoggedIn { initiator, target: Some(_), .. } = notice {
            self.seen.note(initiator);
        }
        if let Some(audit) = &self.audit {
            audit.tell(Instant::now(), notice);
        }
        let flood = if notice.is_warning() { &mut self.warnings } else { &mut self.news };
        let Some(suppressed) = flood.pass(Instant::now()) else { return };
        if suppressed > 0 {
            tracing::warn!("{suppressed} messages of this kind were left out");
        }
        if notice.is_warning() {
            tracing::warn!(target: audit::TARGET, "{notice}");
        } else {
            // Who comes and goes belongs to what an auditor wants to read.
            tracing::info!(target: audit::TARGET, "{notice}");
        }
    }
}

impl Protocol for TargetWorker {
    type Conn = ConnectionId;
    type Parcel = Box<Parcel>;
    type Ticket = StoreTicket;

    fn index(conn: ConnectionId) -> usize {
        // The lower half is the place, the upper one tells its users apart.
        (conn.data().as_ffi() & 0xffff_ffff) as usize
    }

    fn unit(ticket: &StoreTicket) -> &Arc<dyn LogicalUnit> {
        ticket.lu()
    }

    fn accept(&mut self, now: Instant, arrival: Arrival) -> Option<ConnectionId> {
        let accepted = self.worker.accept(now, arrival.local, arrival.peer);
        accepted.inspect_err(|error| self.turn_away(arrival, error)).ok()
    }

    fn adopt(&mut self, now: Instant, arrival: Arrival, parcel: Box<Parcel>) -> Option<ConnectionId> {
        let adopted = self.worker.adopt(now, parcel);
        adopted.inspect_err(|error| self.turn_away(arrival, error)).ok()
    }

    fn recv_hint(&mut self, conn: ConnectionId) -> usize {
        self.worker.recv_hint(conn).wanted
    }

    fn handle_received(&mut self, now: Instant, conn: ConnectionId, bytes: Bytes) {
        self.worker.handle_received(now, conn, bytes);
    }

    fn is_logged_in(&self, conn: ConnectionId) -> bool {
        self.worker.is_logged_in(conn)
    }

    fn handle_closed(&mut self, now: Instant, conn: ConnectionId) {
        self.worker.handle_closed(now, conn);
    }

    fn handle_mail(&mut self, now: Instant) {
        self.worker.handle_mail(now);
    }

    fn handle_store_done(&mut self, now: Instant, ticket: &StoreTicket, done: StoreDone) {
        self.worker.handle_store_done(now, ticket, done);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.worker.handle_timeout(now);
    }

    fn handle_shutdown(&mut self, now: Instant, grace: Duration) {
        self.worker.shut_down(now, grace);
    }

    fn poll_store(&mut self) -> Option<StoreJob<StoreTicket>> {
        let job = self.worker.poll_store()?;
        Some(StoreJob { request: job.request, ticket: job.ticket })
    }

    fn poll_action(&mut self) -> Option<Action<ConnectionId, Box<Parcel>>> {
        loop {
            return Some(match self.worker.poll_event()? {
                WorkerEvent::Transmit(conn) => Action::Transmit(conn),
                WorkerEvent::Receive(conn) => Action::Receive(conn),
                WorkerEvent::Close(conn) => Action::Close(conn),
                WorkerEvent::HandOff { connection, to, parcel } => {
                    Action::HandOff { conn: connection, to: to.0, parcel }
                }
                WorkerEvent::Notice(notice) => {
                    self.tell(&notice);
                    continue;
                }
            });
        }
    }

    fn poll_transmit(&mut self, now: Instant, conn: ConnectionId, out: &mut Vec<Bytes>) -> usize {
        self.worker.poll_transmit(now, conn, out)
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.worker.poll_timeout()
    }
}

impl TargetWorker {
    fn turn_away(&mut self, arrival: Arrival, error: &dyn std::error::Error) {
        if let Some(suppressed) = self.warnings.pass(Instant::now()) {
            tracing::warn!(peer = %arrival.peer, suppressed, "turned a connection away: {error}");
        }
    }
}

//! What the driver drives: the shape of `iscsit::Worker`, so that the loop can be tested with a protocol of three lines.

use bytes::Bytes;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stmf::provider::{LogicalUnit, StoreDone, StoreRequest};

/// Where a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Arrival {
    /// The other end.
    pub(crate) peer: SocketAddr,
    /// The address the other end reached us by.
    pub(crate) local: SocketAddr,
}

/// A store operation to carry out.
#[derive(Debug)]
pub(crate) struct StoreJob<T> {
    /// What to do.
    pub(crate) request: StoreRequest,
    /// To be given back with the outcome.
    pub(crate) ticket: T,
}

/// What the protocol asks of the driver.
#[derive(Debug)]
pub(crate) enum Action<C, P> {
    /// The connection may have something to send.
    Transmit(C),
    /// Receiving may go on after a receive hint of 0.
    Receive(C),
    /// Send what is left, then close.
    Close(C),
    /// The connection belongs to another thread; the protocol has forgotten it here.
    HandOff {
        /// Which connection.
        conn: C,
        /// The thread, counted from 0.
        to: usize,
        /// What its protocol needs to go on.
        parcel: P,
    },
}

/// A protocol without I/O that serves many connections on one thread.
///
/// After each `handle_*` the driver polls store jobs and actions until there are none. It transmits at the end of the
/// connection's turn or of the round.
pub(crate) trait Protocol: Send + 'static {
    /// Names a connection.
    type Conn: Copy + Eq + Send + fmt::Debug;
    /// A connection on its way to another thread.
    type Parcel: Send + fmt::Debug;
    /// Tells whom a store operation is for.
    type Ticket: Send + Sync + Clone + 'static;

    /// A small number that no other live connection has.
    fn index(conn: Self::Conn) -> usize;
    /// Whose medium a store operation is for.
    fn unit(ticket: &Self::Ticket) -> &Arc<dyn LogicalUnit>;
    /// A new connection; `None` turns it away.
    fn accept(&mut self, now: Instant, arrival: Arrival) -> Option<Self::Conn>;
    /// A connection from another thread.
    fn adopt(&mut self, now: Instant, arrival: Arrival, parcel: Self::Parcel) -> Option<Self::Conn>;
    /// How many bytes the connection can use at once; 0: receive nothing until [`Action::Receive`].
    fn recv_hint(&mut self, conn: Self::Conn) -> usize;
    /// Bytes came in.
    fn handle_received(&mut self, now: Instant, conn: Self::Conn, bytes: Bytes);
    /// Whether the connection has logged in: it counts as half-open no more.
    fn is_logged_in(&self, conn: Self::Conn) -> bool;
    /// The connection is gone; the protocol forgets it. Never called after a hand-off.
    fn handle_closed(&mut self, now: Instant, conn: Self::Conn);
    /// Somebody used the waker that was given when the protocol was made.
    fn handle_mail(&mut self, now: Instant);
    /// A store operation ended.
    fn handle_store_done(&mut self, now: Instant, ticket: &Self::Ticket, done: StoreDone);
    /// The time told by `poll_timeout` has come.
    fn handle_timeout(&mut self, now: Instant);
    /// The server goes down in `grace`: ask every peer to leave.
    fn handle_shutdown(&mut self, now: Instant, grace: Duration);
    /// The next store operation.
    fn poll_store(&mut self) -> Option<StoreJob<Self::Ticket>>;
    /// The next action.
    fn poll_action(&mut self) -> Option<Action<Self::Conn, Self::Parcel>>;
    /// Appends a batch of what the connection has to send; tells how many bytes, 0 for none.
    fn poll_transmit(&mut self, now: Instant, conn: Self::Conn, out: &mut Vec<Bytes>) -> usize;
    /// When `handle_timeout` wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
}

//! What is under way, and what came of it.

use crate::core::Outcome;
use crate::error::Error;
use bytes::Bytes;
use iscsi_proto::initiator::{DataIn, Response};
use iscsi_proto::pdu::Residual;
use scsi_core::{SenseData, Status};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// A unit's answer to a command, whatever its status.
#[derive(Debug)]
pub struct Reply {
    /// The status byte.
    pub status: Status,
    /// Sense data, if there was any that makes sense.
    pub sense: Option<SenseData>,
    /// The sense data as it came.
    pub raw_sense: Bytes,
    /// What was read.
    pub data: DataIn,
    /// Bytes less, or more, than there was room for.
    pub residual: Residual,
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self {
            status: response.status,
            sense: SenseData::decode(&response.sense),
            raw_sense: response.sense,
            data: response.data_in,
            residual: response.residual,
        }
    }
}

/// What an operation read: slices of what was received. Empty for operations that read nothing.
#[derive(Debug, Default)]
pub struct Data {
    parts: Vec<DataIn>,
}

impl Data {
    /// Bytes.
    pub fn len(&self) -> usize {
        self.parts.iter().map(DataIn::len).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The slices, in order.
    pub fn slices(&self) -> impl Iterator<Item = &Bytes> {
        self.parts.iter().flat_map(DataIn::slices)
    }

    /// All of it in one buffer; without a copy if it came in one piece.
    pub fn to_bytes(&self) -> Bytes {
        let mut slices = self.slices();
        match (slices.next(), slices.next()) {
            (None, _) => Bytes::new(),
            (Some(only), None) => only.clone(),
            _ => self
                .slices()
                .fold(Vec::with_capacity(self.len()), |mut all, slice| {
                    all.extend_from_slice(slice);
                    all
                })
                .into(),
        }
    }

    /// Copies it into `into`, as much as fits; returns how many bytes.
    pub fn copy_to(&self, into: &mut [u8]) -> usize {
        let mut done = 0;
        for slice in self.slices() {
            let n = slice.len().min(into.len() - done);
            into[done..done + n].copy_from_slice(&slice[..n]);
            done += n;
        }
        done
    }
}

/// Where the outcomes of some requests are put together.
#[derive(Debug)]
pub(crate) struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Debug)]
struct State {
    outcomes: Vec<Option<Result<Outcome, Error>>>,
    outstanding: usize,
    waker: Option<Waker>,
}

impl Slot {
    pub(crate) fn new(requests: usize) -> Arc<Self> {
        let outcomes = (0..requests).map(|_| None).collect();
        let state = State { outcomes, outstanding: requests, waker: None };
        Arc::new(Self { state: Mutex::new(state), done: Condvar::new() })
    }

    pub(crate) fn fill(&self, index: usize, outcome: Result<Outcome, Error>) {
        let mut state = self.lock();
        if state.outcomes[index].is_some() {
            return;
        }
        state.outcomes[index] = Some(outcome);
        state.outstanding -= 1;
        if state.outstanding == 0 {
            self.done.notify_all();
            if let Some(waker) = state.waker.take() {
                drop(state);
                waker.wake();
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The outcomes of some requests, in the order of the requests; to be waited for by a thread or awaited.
#[derive(Debug)]
pub(crate) struct Outcomes(pub(crate) Arc<Slot>);

impl Outcomes {
    pub(crate) fn wait(self) -> Vec<Result<Outcome, Error>> {
        let mut state = self.0.lock();
        while state.outstanding > 0 {
            state = self.0.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        take(&mut state)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.0.lock().outstanding == 0
    }
}

impl Future for Outcomes {
    type Output = Vec<Result<Outcome, Error>>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.0.lock();
        if state.outstanding > 0 {
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(take(&mut state))
    }
}

fn take(state: &mut State) -> Vec<Result<Outcome, Error>> {
    std::mem::take(&mut state.outcomes).into_iter().map(|outcome| outcome.unwrap_or(Err(Error::Closed))).collect()
}

/// What each part of an operation has to bring.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Expected {
    pub(crate) command: &'static str,
    pub(crate) data_in: usize,
}

/// An operation under way. Wait for it with [`wait`](Pending::wait), or `.await` it. Dropping it abandons the answer,
/// not the operation.
#[derive(Debug)]
#[must_use = "an operation's failure is told by wait() or .await"]
pub struct Pending {
    pub(crate) outcomes: Outcomes,
    pub(crate) expected: Vec<Expected>,
    /// Names the requests, for their abortion.
    pub(crate) requests: Vec<u64>,
}

impl Pending {
    /// Waits until it is done; gives what was read.
    ///
    /// # Errors
    /// The first failure of its commands. A failed write may have changed any part of its range.
    pub fn wait(self) -> Result<Data, Error> {
        assemble(&self.expected, self.outcomes.wait())
    }

    /// Whether waiting would not wait.
    pub fn is_done(&self) -> bool {
        self.outcomes.is_done()
    }
}

impl Future for Pending {
    type Output = Result<Data, Error>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcomes = Pin::new(&mut self.outcomes).poll(context);
        outcomes.map(|outcomes| assemble(&self.expected, outcomes))
    }
}

fn assemble(expected: &[Expected], outcomes: Vec<Result<Outcome, Error>>) -> Result<Data, Error> {
    let mut data = Data::default();
    for (expected, outcome) in expected.iter().zip(outcomes) {
        let Outcome::Reply(reply) = outcome? else { continue };
        if reply.status != Status::GOOD {
            return Err(reply.error(expected.command));
        }
        let got = reply.data.len();
        if got != expected.data_in {
            return Err(Error::Short { command: expected.command, got, expected: expected.data_in });
        }
        if expected.data_in > 0 {
            data.parts.push(reply.data);
        }
    }
    Ok(data)
}

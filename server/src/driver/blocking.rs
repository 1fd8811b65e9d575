//! Threads for store operations that may wait for a device.
//!
//! Each logical unit has its own queue and the units take turns, so that a slow or dead one delays itself only: it never
//! has all threads, and what waits for it waits in its own queue. Threads start when there is work and nobody idle, and
//! end after some idle time.
//!
//! A thread takes a run of writes into the cache at a time, and no other thread takes any of the same unit meanwhile: each is
//! soon done, a file lets only one in anyway, and to wake a thread for each would cost more than the write. What is adjacent
//! is written by one call. Writes that have to be durable and flushes, of whatever session, are committed in groups: what has come
//! together is written, one flush makes all of it durable, and then all of it is answered.

use super::Limits;
use super::batch::{failed, perform, run};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use stmf::provider::{LogicalUnit, StoreCompletion, StoreErrorKind, StoreOp, StoreRequest};

/// Most operations that a thread takes at a time.
const MOST_IN_BATCH: usize = 32;

/// Bytes of writes after which a thread takes no more at a time: those that have them wait for their answers together.
const ENOUGH_BYTES: usize = 1 << 20;

/// One operation, with the duty to report its outcome.
pub(crate) enum BlockingJob {
    /// Of a unit.
    Store { lu: Arc<dyn LogicalUnit>, request: StoreRequest, completion: StoreCompletion },
    /// Of nobody in particular; all of them share one queue.
    Other(Box<dyn FnOnce() + Send>),
}

/// What a thread takes at a time.
pub(super) type Batch = SmallVec<[BlockingJob; 1]>;

/// Which operations go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Together {
    /// None: it may take its time.
    Alone,
    /// Writes that end in a cache.
    Cached,
    /// What one flush makes durable.
    Commit,
}

/// The pool; dropping it carries out what is queued and waits for its threads.
pub(crate) struct BlockingPool {
    handle: Blocking,
}

/// A way into the pool. It may outlive the pool: a job that comes too late is carried out on the spot.
#[derive(Clone)]
pub(crate) struct Blocking {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    work: Condvar,
    ended: Condvar,
    max_threads: usize,
    /// A part of the threads is never one unit's.
    max_per_unit: usize,
    idle_time: Duration,
}

#[derive(Default)]
struct State {
    units: HashMap<usize, Unit>,
    /// Units with work that may start, in turn.
    turns: VecDeque<usize>,
    threads: usize,
    idle: usize,
    /// Threads that were woken or started and have not looked for work since.
    waking: usize,
    named: usize,
    closing: bool,
}

#[derive(Default)]
struct Unit {
    jobs: VecDeque<BlockingJob>,
    /// Writes that end in a cache.
    cached: VecDeque<BlockingJob>,
    /// A thread is at such writes.
    is_caching: bool,
    /// It is their turn rather than that of the others.
    cached_first: bool,
    running: usize,
    in_turns: bool,
}

impl BlockingPool {
    /// A pool without threads; they come with the work.
    pub(crate) fn new(limits: &Limits) -> Self {
        let max_threads = limits.max_blocking_threads.max(1);
        let shared = Shared {
            state: Mutex::default(),
            work: Condvar::new(),
            ended: Condvar::new(),
            max_threads,
            max_per_unit: max_threads - max_threads / 4,
            idle_time: limits.blocking_thread_idle,
        };
        Self { handle: Blocking { shared: Arc::new(shared) } }
    }

    /// A way into it.
    pub(crate) fn handle(&self) -> Blocking {
        self.handle.clone()
    }

    /// Threads now alive.
    pub(crate) fn threads(&self) -> usize {
        self.handle.shared.lock().threads
    }
}

impl Drop for BlockingPool {
    fn drop(&mut self) {
        let shared = &self.handle.shared;
        let mut state = shared.lock();
        state.closing = true;
        shared.work.notify_all();
        while state.threads > 0 {
            state = shared.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Blocking {
    /// Queues a job.
    pub(crate) fn submit(&self, job: BlockingJob) {
        self.submit_all(&mut vec![job]);
    }

    /// Queues jobs that have come together, and calls one thread for all. How many there can be is the callers' limit
    /// ([`Limits::max_store_operations`](super::Limits)).
    pub(crate) fn submit_all(&self, jobs: &mut Vec<BlockingJob>) {
        if jobs.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        if state.closing && state.threads == 0 {
            drop(state);
            return jobs.drain(..).for_each(BlockingJob::run);
        }
        for job in jobs.drain(..) {
            state.queue(job, self.shared.max_per_unit);
        }
        self.shared.call_for_help(state);
    }

    /// Begins an operation that may wait: by the store itself where it is asynchronous, else in the pool.
    pub(crate) fn begin(&self, lu: Arc<dyn LogicalUnit>, request: StoreRequest, completion: StoreCompletion) {
        if let Err((request, completion)) = lu.start(request, completion) {
            self.submit(BlockingJob::Store { lu, request, completion });
        }
    }

    /// Waits until no operation of a unit is queued or under way; `false` if that takes longer than `time`.
    pub(crate) fn drain(&self, lu: &Arc<dyn LogicalUnit>, time: Duration) -> bool {
        let key = unit_key(lu);
        let deadline = Instant::now() + time;
        let mut state = self.shared.lock();
        while state.units.contains_key(&key) {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.shared.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }
}

impl BlockingJob {
    fn key(&self) -> usize {
        match self {
            Self::Store { lu, .. } => unit_key(lu),
            Self::Other(_) => 0,
        }
    }

    pub(super) fn together(&self) -> Together {
        match self {
            Self::Store { request: StoreRequest { op, .. }, .. } => match op {
                StoreOp::Write { durable: false, .. } => Together::Cached,
                StoreOp::Write { durable: true, .. } | StoreOp::Flush => Together::Commit,
                _ => Together::Alone,
            },
            Self::Other(_) => Together::Alone,
        }
    }

    /// Carries it out by itself.
    pub(super) fn run(self) {
        match self {
            Self::Store { lu, request, completion } => {
                completion.finish(perform(&lu, request));
                // The unit may end with this reference, and that may take its time.
            }
            Self::Other(work) => {
                if catch_unwind(AssertUnwindSafe(work)).is_err() {
                    tracing::error!("a store operation panicked");
                }
            }
        }
    }

    /// Bytes that it writes.
    pub(super) fn write_bytes(&self) -> usize {
        match self {
            Self::Store { request: StoreRequest { op: StoreOp::Write { data, .. }, .. }, .. } => {
                data.iter().map(|bytes| bytes.len()).sum()
            }
            _ => 0,
        }
    }

    fn refuse(self, reason: String) {
        match self {
            Self::Store { completion, .. } => completion.finish(failed(StoreErrorKind::Cancelled, reason)),
            // It has nobody to report to: better late than never.
            Self::Other(work) => work(),
        }
    }
}

/// A unit's address: its own while a job holds a reference.
fn unit_key(lu: &Arc<dyn LogicalUnit>) -> usize {
    Arc::as_ptr(lu).cast::<()>() as usize
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No user code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sees that somebody looks for work, unless somebody is about to. Who takes work and leaves some calls the next.
    fn call_for_help(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        if state.waking > 0 || state.turns.is_empty() {
            return;
        }
        if state.idle > 0 {
            state.waking += 1;
            drop(state);
            self.work.notify_one();
        } else if state.threads < self.max_threads {
            self.start_thread(state);
        }
    }

    fn start_thread(self: &Arc<Self>, mut state: MutexGuard<'_, State>) {
        state.threads += 1;
        state.waking += 1;
        state.named += 1;
        let name = format!("lunette-io{}", state.named);
        drop(state);
        let shared = Arc::clone(self);
        let started = thread::Builder::new().name(name).stack_size(512 << 10).spawn(move || shared.run());
        if let Err(error) = started {
            let mut state = self.lock();
            state.threads -= 1;
            state.waking -= 1;
            tracing::warn!(%error, threads = state.threads, "cannot start a thread for store operations");
            if state.threads == 0 {
                // Nobody is left to carry anything out: better an error than a hang.
                let units = std::mem::take(&mut state.units);
                state.turns.clear();
                drop(state);
                for job in units.into_values().flat_map(|unit| unit.jobs.into_iter().chain(unit.cached)) {
                    job.refuse(format!("no thread for a store operation: {error}"));
                }
            }
        }
    }

    fn run(self: &Arc<Self>) {
        let _alive = Alive(self);
        let mut state = self.lock();
        state.waking = state.waking.saturating_sub(1);
        loop {
            let Some((key, batch)) = state.next(self.max_per_unit) else {
                if state.closing {
                    return;
                }
                state.idle += 1;
                let (guard, timeout) =
                    self.work.wait_timeout(state, self.idle_time).unwrap_or_else(PoisonError::into_inner);
                state = guard;
                state.idle -= 1;
                state.waking = state.waking.saturating_sub(1);
                if timeout.timed_out() && state.turns.is_empty() && !state.closing {
                    return;
                }
                continue;
            };
            self.call_for_help(state);
            let cached = batch.first().is_some_and(|job| job.together() == Together::Cached);
            run(batch);
            state = self.lock();
            if state.finished(key, cached, self.max_per_unit) {
                self.ended.notify_all();
            }
        }
    }
}

impl Unit {
    /// Whether there is work for a thread, and nobody was told of it.
    fn may_start(&self, max_per_unit: usize) -> bool {
        let work = !self.jobs.is_empty() || !self.cached.is_empty() && !self.is_caching;
        work && !self.in_turns && self.running < max_per_unit
    }

    fn next(&mut self) -> Option<Batch> {
        let cached = !self.cached.is_empty() && !self.is_caching && (self.cached_first || self.jobs.is_empty());
        self.cached_first = !cached;
        self.is_caching |= cached;
        let queue = if cached { &mut self.cached } else { &mut self.jobs };
        let job = queue.pop_front()?;
        let together = job.together();
        let mut bytes = job.write_bytes();
        let mut batch = Batch::new();
        batch.push(job);
        while together != Together::Alone
            && batch.len() < MOST_IN_BATCH
            && bytes < ENOUGH_BYTES
            && let Some(job) = queue.pop_front_if(|job| job.together() == together)
        {
            bytes += job.write_bytes();
            batch.push(job);
        }
        Some(batch)
    }
}

impl State {
    fn queue(&mut self, job: BlockingJob, max_per_unit: usize) {
        let key = job.key();
        let unit = self.units.entry(key).or_default();
        match job.together() {
            Together::Cached => unit.cached.push_back(job),
            _ => unit.jobs.push_back(job),
        }
        if unit.may_start(max_per_unit) {
            unit.in_turns = true;
            self.turns.push_back(key);
        }
    }

    fn next(&mut self, max_per_unit: usize) -> Option<(usize, Batch)> {
        while let Some(key) = self.turns.pop_front() {
            let Some(unit) = self.units.get_mut(&key) else { continue };
            unit.in_turns = false;
            let Some(batch) = unit.next() else { continue };
            unit.running += 1;
            if unit.may_start(max_per_unit) {
                unit.in_turns = true;
                self.turns.push_back(key);
            }
            return Some((key, batch));
        }
        None
    }

    /// Counts operations out; `true` if the unit has none any more.
    fn finished(&mut self, key: usize, cached: bool, max_per_unit: usize) -> bool {
        let Some(unit) = self.units.get_mut(&key) else { return false };
        unit.running = unit.running.saturating_sub(1);
        unit.is_caching &= !cached;
        if unit.running == 0 && unit.jobs.is_empty() && unit.cached.is_empty() {
            // Its key may be another unit's tomorrow.
            self.units.remove(&key);
            return true;
        }
        if unit.may_start(max_per_unit) {
            unit.in_turns = true;
            self.turns.push_back(key);
        }
        false
    }
}

/// Counts a thread out however it ends.
struct Alive<'a>(&'a Shared);

impl Drop for Alive<'_> {
    fn drop(&mut self) {
        self.0.lock().threads -= 1;
        self.0.ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::driver::testing::{Gate, SlowUnit};
    use std::sync::mpsc;
    use stmf::NexusId;
    use stmf::provider::{StoreDone, StoreOp, StoreOutcome, StoreSink, StoreToken};

    struct Sink(mpsc::Sender<StoreDone>);

    impl StoreSink for Sink {
        fn done(&self, done: StoreDone) {
            let _ = self.0.send(done);
        }
    }

    fn job(lu: &Arc<dyn LogicalUnit>, token: u64, sink: &Arc<dyn StoreSink>) -> BlockingJob {
        let request = StoreRequest { nexus: NexusId(1), token: StoreToken(token), op: StoreOp::Flush };
        let completion = StoreCompletion::new(Arc::clone(sink), &request);
        BlockingJob::Store { lu: Arc::clone(lu), request, completion }
    }

    fn pool(threads: usize) -> BlockingPool {
        BlockingPool::new(&Limits {
            max_blocking_threads: threads,
            blocking_thread_idle: Duration::from_millis(30),
            ..Limits::default()
        })
    }

    #[test]
    fn a_stuck_unit_leaves_threads_for_its_neighbour() {
        let pool = pool(4);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let gate = Gate::closed();
        let stuck: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::behind(&gate));
        let quick: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::quick());
        for token in 0..20 {
            pool.handle().submit(job(&stuck, token, &sink));
        }
        pool.handle().submit(job(&quick, 100, &sink));
        let first = outcomes.recv_timeout(Duration::from_secs(5)).unwrap();
        assert_eq!(first.token, StoreToken(100));
        gate.open();
        for _ in 0..20 {
            assert!(outcomes.recv_timeout(Duration::from_secs(5)).unwrap().token.0 < 20);
        }
    }

    #[test]
    fn idle_threads_end_and_come_back() {
        let pool = pool(2);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let quick: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::quick());
        for round in 0..2 {
            pool.handle().submit(job(&quick, round, &sink));
            outcomes.recv_timeout(Duration::from_secs(5)).unwrap();
            let deadline = Instant::now() + Duration::from_secs(5);
            while pool.threads() > 0 {
                assert!(Instant::now() < deadline);
                thread::sleep(Duration::from_millis(5));
            }
        }
    }

    #[test]
    fn dropping_the_pool_carries_out_what_is_queued() {
        let pool = pool(1);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let quick: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::quick());
        for token in 0..50 {
            pool.handle().submit(job(&quick, token, &sink));
        }
        drop(pool);
        assert_eq!(outcomes.try_iter().count(), 50);
    }

    #[test]
    fn what_comes_together_is_made_durable_by_one_flush() {
        let pool = pool(1);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let gate = Gate::closed();
        let unit = Arc::new(SlowUnit::behind(&gate));
        let lu: Arc<dyn LogicalUnit> = Arc::clone(&unit) as _;
        pool.handle().submit(job(&lu, 0, &sink));
        // The first may be with the thread already; the others wait behind it.
        for token in 1..20 {
            let nexus = NexusId(token % 2);
            let op = match token % 3 {
                0 => StoreOp::Flush,
                _ => StoreOp::Write { offset: token * 4096, data: Default::default(), durable: true },
            };
            let request = StoreRequest { nexus, token: StoreToken(token), op };
            let completion = StoreCompletion::new(Arc::clone(&sink), &request);
            pool.handle().submit(BlockingJob::Store { lu: Arc::clone(&lu), request, completion });
        }
        gate.open();
        for _ in 0..20 {
            let done = outcomes.recv_timeout(Duration::from_secs(5)).unwrap();
            assert!(matches!(done.outcome, StoreOutcome::Done));
        }
        let (flushes, writes) = unit.counts();
        assert_eq!(writes, 13);
        assert!(flushes <= 2, "{flushes} flushes");
    }

    #[test]
    fn a_burst_of_adjacent_writes_is_one_write() {
        let pool = pool(4);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let gate = Gate::closed();
        let unit = Arc::new(SlowUnit::behind(&gate));
        let lu: Arc<dyn LogicalUnit> = Arc::clone(&unit) as _;
        for token in 0..40 {
            let data = [bytes::Bytes::from(vec![7; 4096])].into_iter().collect();
            // Two streams, in turn.
            let offset = (token % 2) << 30 | (token / 2 * 4096);
            let op = StoreOp::Write { offset, data, durable: false };
            let request = StoreRequest { nexus: NexusId(1), token: StoreToken(token), op };
            let completion = StoreCompletion::new(Arc::clone(&sink), &request);
            pool.handle().submit(BlockingJob::Store { lu: Arc::clone(&lu), request, completion });
        }
        gate.open();
        let mut tokens: Vec<u64> = (0..40)
            .map(|_| outcomes.recv_timeout(Duration::from_secs(5)).unwrap())
            .inspect(|done| assert!(matches!(done.outcome, StoreOutcome::Done)))
            .map(|done| done.token.0)
            .collect();
        tokens.sort_unstable();
        assert!(tokens.into_iter().eq(0..40), "each has its own answer");
        // The first may have gone alone, or with some of the others; then 32 in two runs, and the rest in two.
        let (_, writes) = unit.counts();
        assert!(writes <= 6, "{writes} writes");
    }

    #[test]
    fn a_panicking_store_is_an_outcome_and_not_a_hang() {
        let pool = pool(1);
        let (sender, outcomes) = mpsc::channel();
        let sink: Arc<dyn StoreSink> = Arc::new(Sink(sender));
        let bad: Arc<dyn LogicalUnit> = Arc::new(SlowUnit::panicking());
        for token in 0..2 {
            pool.handle().submit(job(&bad, token, &sink));
            let done = outcomes.recv_timeout(Duration::from_secs(5)).unwrap();
            assert!(matches!(done.outcome, StoreOutcome::Failed(_)));
        }
    }
}

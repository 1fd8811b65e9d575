//! What goes through sessions, targets and logical units: counts, bytes, how long commands took, how many are under way.
//!
//! A port provider keeps a [`Registry`], opens counters in it for each session, and finds those of units by [`Units`]. Every
//! set of counters has one writer, the thread that drives the session, which needs no locked instruction for it; readers
//! add the sets up and see them a little late.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use scsi_core::Status;

use crate::NexusId;
use crate::provider::LogicalUnit;

/// How many bounds latency is counted by; one more count has what took longer.
pub const LATENCY_BOUNDS: usize = 16;

/// The upper bound of a count, inclusive: 32 µs, and twice as much with each further one, up to 1.05 s.
pub const fn latency_bound(number: usize) -> Duration {
    Duration::from_micros(32 << number)
}

/// A counter with one writing thread: a plain load and store.
#[derive(Default)]
struct Count(AtomicU64);

impl Count {
    #[inline]
    fn add(&self, count: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Default)]
struct Histogram {
    counts: [Count; LATENCY_BOUNDS + 1],
    nanoseconds: Count,
}

impl Histogram {
    #[inline]
    fn add(&self, time: Duration) {
        // Of two numbers of 32 and 64 bits: nanoseconds in one would be 128 bits to divide.
        let (seconds, fraction) = (time.as_secs(), time.subsec_nanos());
        let micros = seconds.saturating_mul(1_000_000).saturating_add(fraction.div_ceil(1000).into());
        // 32 µs are the first one, and each further bit of the time is one more.
        let number = (64 - (micros.saturating_sub(1) >> 5).leading_zeros()) as usize;
        self.counts[number.min(LATENCY_BOUNDS)].add(1);
        self.nanoseconds.add(seconds.saturating_mul(1_000_000_000).saturating_add(fraction.into()));
    }

    fn read(&self) -> Latency {
        Latency {
            counts: self.counts.each_ref().map(Count::value),
            sum: Duration::from_nanos(self.nanoseconds.value()),
        }
    }
}

/// What a command does with data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// READ, in all lengths.
    Read,
    /// WRITE and WRITE AND VERIFY, in all lengths.
    Write,
    /// Anything else.
    Other,
}

impl Direction {
    /// By its operation code.
    #[inline]
    pub fn of(cdb: &[u8]) -> Self {
        match cdb.first() {
            Some(0x08 | 0x28 | 0xa8 | 0x88) => Self::Read,
            Some(0x0a | 0x2a | 0xaa | 0x8a | 0x2e | 0xae | 0x8e) => Self::Write,
            _ => Self::Other,
        }
    }
}

/// The counters of one session, or of one unit at one thread; alone on their cache lines.
#[derive(Default)]
#[repr(align(128))]
pub struct Counters {
    reads: Count,
    writes: Count,
    others: Count,
    read_bytes: Count,
    written_bytes: Count,
    errors: Count,
    begun: Count,
    ended: Count,
    read_latency: Histogram,
    write_latency: Histogram,
}

impl Counters {
    /// A command began.
    #[inline]
    pub fn begin(&self) {
        self.begun.add(1);
    }

    /// So many commands ended without an answer.
    #[inline]
    pub fn end(&self, count: u64) {
        self.ended.add(count);
    }

    /// A command ended with a status after `time`; it moved so many bytes.
    #[inline]
    pub fn complete(&self, direction: Direction, bytes: u64, status: Status, time: Duration) {
        self.ended.add(1);
        if status != Status::GOOD {
            self.errors.add(1);
        }
        match direction {
            Direction::Read => {
                self.reads.add(1);
                self.read_bytes.add(bytes);
                self.read_latency.add(time);
            }
            Direction::Write => {
                self.writes.add(1);
                self.written_bytes.add(bytes);
                self.write_latency.add(time);
            }
            Direction::Other => self.others.add(1),
        }
    }

    fn read(&self) -> Traffic {
        // The end is read first: it never runs ahead of the beginning.
        let ended = self.ended.value();
        Traffic {
            reads: self.reads.value(),
            writes: self.writes.value(),
            others: self.others.value(),
            read_bytes: self.read_bytes.value(),
            written_bytes: self.written_bytes.value(),
            errors: self.errors.value(),
            queue_depth: self.begun.value().saturating_sub(ended),
            read_latency: self.read_latency.read(),
            write_latency: self.write_latency.read(),
        }
    }
}

impl fmt::Debug for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read().fmt(f)
    }
}

/// How long commands took, from the last byte of the command to its status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Latency {
    /// How many took at most [`latency_bound`] and more than the bound before it; the last one: longer than all bounds.
    pub counts: [u64; LATENCY_BOUNDS + 1],
    /// All of it together.
    pub sum: Duration,
}

/// What went through an object since it came to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// READ commands that ended.
    pub reads: u64,
    /// WRITE commands that ended.
    pub writes: u64,
    /// Other commands that ended.
    pub others: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Bytes written.
    pub written_bytes: u64,
    /// Commands that ended with another status than GOOD, unit attentions among them.
    pub errors: u64,
    /// Commands under way.
    pub queue_depth: u64,
    /// How long reads took.
    pub read_latency: Latency,
    /// How long writes took.
    pub write_latency: Latency,
}

impl Traffic {
    /// Adds another one up.
    pub fn add(&mut self, other: &Self) {
        self.reads += other.reads;
        self.writes += other.writes;
        self.others += other.others;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
        self.errors += other.errors;
        self.queue_depth += other.queue_depth;
        for (mine, theirs) in
            [(&mut self.read_latency, &other.read_latency), (&mut self.write_latency, &other.write_latency)]
        {
            mine.counts.iter_mut().zip(theirs.counts).for_each(|(mine, theirs)| *mine += theirs);
            mine.sum += theirs.sum;
        }
    }
}

impl TrafficReport {
    /// Adds the targets, sessions and units of another provider.
    pub fn add(&mut self, other: Self) {
        self.sessions.extend(other.sessions);
        other.targets.into_iter().for_each(|(name, traffic)| self.targets.entry(name).or_default().add(&traffic));
        other.lus.into_iter().for_each(|(guid, traffic)| self.lus.entry(guid).or_default().add(&traffic));
    }
}

/// All that goes through a provider.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TrafficReport {
    /// Of the sessions there are.
    pub sessions: BTreeMap<u64, Traffic>,
    /// Of each target by its name, with its sessions that have ended.
    pub targets: BTreeMap<String, Traffic>,
    /// Of each logical unit by its name.
    pub lus: BTreeMap<[u8; 16], Traffic>,
}

/// Where the counters of a provider are found.
#[derive(Default)]
pub struct Registry(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    sessions: HashMap<NexusId, (String, Arc<Counters>)>,
    /// Of sessions that have ended.
    past: BTreeMap<String, Traffic>,
    lus: Vec<([u8; 16], Arc<Counters>)>,
    /// Of units that workers have forgotten.
    past_lus: BTreeMap<[u8; 16], Traffic>,
}

impl Registry {
    /// Counters of a session of this target that begins.
    pub fn open(&self, nexus: NexusId, target: &str) -> Arc<Counters> {
        let counters = Arc::default();
        self.lock().sessions.insert(nexus, (target.to_owned(), Arc::clone(&counters)));
        counters
    }

    /// The session has ended: its target keeps what went through it.
    pub fn close(&self, nexus: NexusId) {
        let mut inner = self.lock();
        if let Some((target, counters)) = inner.sessions.remove(&nexus) {
            inner.past.entry(target).or_default().add(&Traffic { queue_depth: 0, ..counters.read() });
        }
    }

    fn add_lu(&self, guid: [u8; 16]) -> Arc<Counters> {
        let counters = Arc::default();
        self.lock().lus.push((guid, Arc::clone(&counters)));
        counters
    }

    fn forget_lu(&self, counters: &Arc<Counters>) {
        let mut inner = self.lock();
        if let Some(at) = inner.lus.iter().position(|(_, other)| Arc::ptr_eq(other, counters)) {
            let (guid, counters) = inner.lus.swap_remove(at);
            inner.past_lus.entry(guid).or_default().add(&Traffic { queue_depth: 0, ..counters.read() });
        }
    }

    /// All of it, added up.
    pub fn report(&self) -> TrafficReport {
        let inner = self.lock();
        let mut report =
            TrafficReport { targets: inner.past.clone(), lus: inner.past_lus.clone(), ..TrafficReport::default() };
        for (nexus, (target, counters)) in &inner.sessions {
            let traffic = counters.read();
            report.targets.entry(target.clone()).or_default().add(&traffic);
            report.sessions.insert(nexus.0, traffic);
        }
        for (guid, counters) in &inner.lus {
            report.lus.entry(*guid).or_default().add(&counters.read());
        }
        report
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.report().fmt(f)
    }
}

/// The counters of units at one thread, found by where a unit is in memory.
#[derive(Debug, Default)]
pub struct Units {
    known: HashMap<usize, Known>,
    /// Those of the unit that was asked for last; before the first, some of no unit.
    last: (usize, Arc<Counters>),
}

#[derive(Debug)]
struct Known {
    lu: Weak<dyn LogicalUnit>,
    counters: Arc<Counters>,
}

impl Units {
    /// The counters of a unit. Most commands are for the unit of the one before.
    #[inline]
    pub fn of(&mut self, registry: &Registry, lu: &Arc<dyn LogicalUnit>) -> &Counters {
        let address = Arc::as_ptr(lu).cast::<()>() as usize;
        if self.last.0 != address {
            self.last = (address, self.find(registry, address, lu));
        }
        &self.last.1
    }

    #[cold]
    fn find(&mut self, registry: &Registry, address: usize, lu: &Arc<dyn LogicalUnit>) -> Arc<Counters> {
        // What is kept weakly keeps its place in memory: an address means one unit.
        if let Some(known) = self.known.get(&address) {
            return Arc::clone(&known.counters);
        }
        if self.known.len().is_power_of_two() {
            self.known.retain(|_, known| {
                let lives = known.lu.strong_count() > 0;
                if !lives {
                    registry.forget_lu(&known.counters);
                }
                lives
            });
        }
        let counters = registry.add_lu(lu.guid());
        self.known.insert(address, Known { lu: Arc::downgrade(lu), counters: Arc::clone(&counters) });
        counters
    }

    /// The thread ends: the registry keeps the sums.
    pub fn leave(&mut self, registry: &Registry) {
        self.known.drain().for_each(|(_, known)| registry.forget_lu(&known.counters));
        self.last = (0, Arc::default());
    }
}

/// A command under way, as far as counting goes.
#[derive(Clone, Copy, Debug)]
pub struct Clocked {
    /// What it does with data.
    pub direction: Direction,
    /// When it was received.
    pub begun: Instant,
}

impl Clocked {
    /// A command that was received `now`.
    #[inline]
    pub fn new(cdb: &[u8], now: Instant) -> Self {
        Self { direction: Direction::of(cdb), begun: now }
    }

    /// Counts that it ended with a status.
    #[inline]
    pub fn complete(self, counters: &Counters, bytes: u64, status: Status, now: Instant) {
        counters.complete(self.direction, bytes, status, now.saturating_duration_since(self.begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_is_counted_below_its_bound() {
        let histogram = Histogram::default();
        for micros in [0, 32, 33, 64, 65, 1_048_576, 1_048_577, u64::from(u32::MAX)] {
            histogram.add(Duration::from_micros(micros));
        }
        let read = histogram.read();
        assert_eq!((read.counts[0], read.counts[1], read.counts[2]), (2, 2, 1));
        assert_eq!((read.counts[LATENCY_BOUNDS - 1], read.counts[LATENCY_BOUNDS]), (1, 2));
        assert_eq!(latency_bound(LATENCY_BOUNDS - 1), Duration::from_micros(1_048_576));
        assert_eq!(read.counts.iter().sum::<u64>(), 8);
    }

    #[test]
    fn a_target_keeps_what_its_sessions_did() {
        let registry = Registry::default();
        let counters = registry.open(NexusId(1), "iqn.t");
        counters.begin();
        counters.begin();
        counters.complete(Direction::Read, 512, Status::GOOD, Duration::from_micros(40));
        let now = registry.report();
        assert_eq!((now.sessions[&1].reads, now.sessions[&1].queue_depth), (1, 1));
        registry.close(NexusId(1));
        let after = registry.report();
        assert!(after.sessions.is_empty());
        assert_eq!((after.targets["iqn.t"].read_bytes, after.targets["iqn.t"].queue_depth), (512, 0));
    }

    #[test]
    fn directions_are_told_by_the_operation_code() {
        assert_eq!(Direction::of(&[0x88]), Direction::Read);
        assert_eq!(Direction::of(&[0x2a]), Direction::Write);
        assert_eq!((Direction::of(&[0x12]), Direction::of(&[])), (Direction::Other, Direction::Other));
    }
}

//! Operations that fail as planned.

use super::{Access, AccessKind, Intercepted, Interceptor, Wrap};
use crate::store::{BackingStore, Error};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stmf::provider::StoreErrorKind;

/// Which operations fail, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct FaultPlan {
    /// Kinds of operations it is about; empty for all.
    pub kinds: Vec<AccessKind>,
    /// The bytes it is about (first, behind the last): operations that touch none of them pass. `None` for all.
    pub range: Option<(u64, u64)>,
    /// Fail the n-th operation that it is about, from 1, and no other; `None`: see `probability`.
    pub nth: Option<u64>,
    /// Fail each with this probability, 0.0 to 1.0, by the seed.
    pub probability: f64,
    /// Where the chances begin: the same seed fails the same operations, if they come in the same order.
    pub seed: u64,
    /// How it fails; decides the sense data.
    pub error: StoreErrorKind,
    /// Carry the operation out all the same, and then say that it failed.
    pub carried_out: bool,
}

impl Default for FaultPlan {
    /// Everything fails, as a medium error.
    fn default() -> Self {
        Self {
            kinds: Vec::new(),
            range: None,
            nth: None,
            probability: 1.0,
            seed: 0,
            error: StoreErrorKind::Io,
            carried_out: false,
        }
    }
}

impl FaultPlan {
    /// The n-th operation of a kind fails, from 1.
    pub fn nth(kind: AccessKind, n: u64) -> Self {
        Self { kinds: vec![kind], nth: Some(n), ..Self::default() }
    }

    /// Every operation fails with this probability.
    pub fn random(probability: f64, seed: u64) -> Self {
        Self { probability, seed, ..Self::default() }
    }

    fn is_about(&self, access: &Access) -> bool {
        let is_inside = |(first, end): (u64, u64)| {
            access.kind == AccessKind::Flush || access.offset < end && access.offset + access.length > first
        };
        (self.kinds.is_empty() || self.kinds.contains(&access.kind)) && self.range.is_none_or(is_inside)
    }
}

#[derive(Debug)]
struct Active {
    plan: FaultPlan,
    seen: u64,
    random: u64,
}

/// The hand on a failing store: plans come and go while it is in use.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    plans: Arc<Mutex<Vec<Active>>>,
    injected: Arc<AtomicU64>,
}

impl Faults {
    /// Adds a plan; each operation fails by the first that says so.
    pub fn add(&self, plan: FaultPlan) {
        let random = plan.seed ^ 0x9e37_79b9_7f4a_7c15;
        self.lock().push(Active { plan, seen: 0, random });
    }

    /// Takes all plans away.
    pub fn heal(&self) {
        self.lock().clear();
    }

    /// Operations that were made to fail so far.
    pub fn injected(&self) -> u64 {
        self.injected.load(Ordering::Relaxed)
    }

    fn verdict(&self, access: &Access) -> Option<(StoreErrorKind, bool)> {
        let mut plans = self.lock();
        let mut verdict = None;
        for active in plans.iter_mut().filter(|active| active.plan.is_about(access)) {
            active.seen += 1;
            let fails = match active.plan.nth {
                Some(nth) => active.seen == nth,
                None => chance(&mut active.random) < active.plan.probability,
            };
            if fails && verdict.is_none() {
                verdict = Some((active.plan.error, active.plan.carried_out));
            }
        }
        if verdict.is_some() {
            self.injected.fetch_add(1, Ordering::Relaxed);
        }
        verdict
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Active>> {
        self.plans.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next number of a SplitMix64 sequence, as a fraction below 1.
fn chance(state: &mut u64) -> f64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
}

/// Fails operations as its plans say. Made by [`Failing::new`].
#[derive(Clone, Debug)]
pub struct Failing {
    faults: Faults,
}

impl Failing {
    /// `store`, which fails as planned, and the hand on it.
    pub fn new<S: BackingStore>(store: S, plan: Option<FaultPlan>) -> (Intercepted<S, Self>, Faults) {
        let faults = Faults::default();
        plan.into_iter().for_each(|plan| faults.add(plan));
        (store.wrap(Self { faults: faults.clone() }), faults)
    }
}

impl Interceptor for Failing {
    fn intercept(&self, access: Access, carry_out: &mut dyn FnMut() -> Result<(), Error>) -> Result<(), Error> {
        let Some((kind, carried_out)) = self.faults.verdict(&access) else { return carry_out() };
        if carried_out {
            carry_out()?;
        }
        Err(Error::new(kind, access.kind.operation()).at(access.offset, access.length).remedy("injected"))
    }
}

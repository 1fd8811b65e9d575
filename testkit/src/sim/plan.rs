//! What a seed decides beforehand.

use crate::rng::Rng;

/// Initiators.
pub(super) const PEERS: usize = 3;
/// Logical units: everybody sees the first at LUN 0, and one of the others at LUN 1.
pub(super) const UNITS: usize = 3;

/// One thing that is done. Its seed decides the rest.
#[derive(Clone, Copy, Debug)]
pub struct Action {
    pub(super) kind: Kind,
    pub(super) peer: usize,
    pub(super) seed: u64,
    /// How long after the one before, in virtual microseconds.
    pub(super) gap_us: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Read,
    Write,
    WriteFua,
    WriteSame,
    Unmap,
    Compare,
    Flush,
    Probe,
    ReserveOut,
    ReserveIn,
    Manage,
    Flood,
    LogOut,
    Reset,
    Reinstate,
    Stall,
    Lie,
    Storm,
    Silence,
    Gap,
    Links,
    SlowStores,
    StoreFault,
    FlushFault,
    Heal,
    View,
    Cache,
    PowerCut,
    Restart,
    Wait,
}

/// Each kind, how often it comes when it may, and whether each seed decides if it may come at all.
const KINDS: [(Kind, u64, bool); 26] = [
    (Kind::Read, 14, false),
    (Kind::Write, 16, false),
    (Kind::WriteFua, 5, false),
    (Kind::WriteSame, 3, false),
    (Kind::Unmap, 3, false),
    (Kind::Compare, 4, false),
    (Kind::Flush, 5, false),
    (Kind::Probe, 5, false),
    (Kind::ReserveOut, 14, true),
    (Kind::ReserveIn, 4, true),
    (Kind::Manage, 6, true),
    (Kind::Flood, 3, true),
    (Kind::LogOut, 2, true),
    (Kind::Reset, 3, true),
    (Kind::Reinstate, 3, true),
    (Kind::Stall, 3, true),
    (Kind::Links, 4, true),
    (Kind::SlowStores, 3, true),
    (Kind::StoreFault, 3, true),
    (Kind::FlushFault, 2, true),
    (Kind::Heal, 2, true),
    (Kind::View, 3, true),
    (Kind::Cache, 2, true),
    (Kind::PowerCut, 2, true),
    (Kind::Restart, 2, true),
    (Kind::Wait, 3, false),
];

/// Kinds that came later, and how often each comes at most. They are put between what a seed has otherwise, in every
/// other seed, so that the others stay what they were.
const LATER: [(Kind, u64); 4] = [(Kind::Lie, 6), (Kind::Storm, 3), (Kind::Silence, 2), (Kind::Gap, 2)];

impl Kind {
    /// What a kind that may be left out does to the target, and by which names that is counted.
    pub(super) fn fault(self) -> Option<(&'static str, &'static [&'static str])> {
        Some(match self {
            Self::Manage => ("aborts and resets by initiators", &["task management"]),
            Self::ReserveOut => ("reservations taken and preempted", &["reservation changes"]),
            Self::Flood => ("floods of commands", &["floods"]),
            Self::LogOut => ("logouts", &["logouts"]),
            Self::Reset => ("connections cut at any byte", &["connections cut"]),
            Self::Reinstate => ("sessions reinstated", &["reinstatements"]),
            Self::Stall => ("initiators that take nothing", &["stalls"]),
            Self::Lie => ("initiators that lie", &["lies"]),
            Self::Storm => ("pings of initiators that take nothing", &["storms of pings"]),
            Self::Silence => ("links that go dead without a word", &["links gone dead"]),
            Self::Gap => ("commands that never come", &["command numbers left out"]),
            Self::Links => ("links that split, delay and flip", &["links disturbed"]),
            Self::SlowStores => ("slow stores", &["stores slowed"]),
            Self::StoreFault => ("store errors, torn or full", &["store errors", "store full"]),
            Self::FlushFault => ("failed flushes", &["flush errors"]),
            Self::View => ("views taken and given", &["views changed"]),
            Self::Cache => ("write caches switched", &["write caches switched"]),
            Self::PowerCut => ("power cuts", &["power cuts"]),
            Self::Restart => ("ends of the process", &["process restarts"]),
            _ => return None,
        })
    }
}

/// The names of all kinds of faults, and by which names each is counted.
pub(super) fn faults() -> impl Iterator<Item = (&'static str, &'static [&'static str])> {
    let kinds = KINDS.into_iter().map(|(kind, _, _)| kind).chain(LATER.into_iter().map(|(kind, _)| kind));
    kinds.filter_map(Kind::fault)
}

/// The actions of a seed with one kind of faults and no other.
pub(super) fn generate_with(seed: u64, count: usize, fault: &str) -> Vec<Action> {
    let mut rng = Rng::new(seed ^ 0x01ea_fa17);
    let is_it = |kind: Kind| kind.fault().is_some_and(|(name, _)| name == fault);
    let kinds: Vec<(Kind, u64)> = KINDS
        .into_iter()
        .filter(|(kind, _, optional)| !optional || is_it(*kind))
        .map(|(kind, weight, _)| (kind, weight))
        .collect();
    let mut actions = pick(&mut rng, &kinds, count);
    for (kind, most) in LATER.into_iter().filter(|(kind, _)| is_it(*kind)) {
        put_between(&mut rng, &mut actions, kind, most);
    }
    actions
}

/// The actions of a seed. Every seed leaves some kinds out: what always comes together hides what one alone does.
pub(super) fn generate(seed: u64, count: usize) -> Vec<Action> {
    let mut rng = Rng::new(seed ^ 0x5e_ed0f_ac71_0115);
    let few = rng.chance(500_000);
    let kinds: Vec<(Kind, u64)> = KINDS
        .into_iter()
        .filter(|(_, _, optional)| !optional || rng.chance(if few { 250_000 } else { 600_000 }))
        .map(|(kind, weight, _)| (kind, weight))
        .collect();
    let mut actions = pick(&mut rng, &kinds, count);
    if has_later(seed) {
        let mut rng = Rng::new(seed ^ 0x1a7e_2511);
        for (kind, most) in LATER {
            if rng.chance(600_000) {
                put_between(&mut rng, &mut actions, kind, most);
            }
        }
    }
    actions
}

/// Whether what came later may come in a seed: in every other one.
pub(super) fn has_later(seed: u64) -> bool {
    seed.is_multiple_of(2)
}

fn put_between(rng: &mut Rng, actions: &mut Vec<Action>, kind: Kind, most: u64) {
    for _ in 0..1 + rng.below(most) {
        let action = Action { kind, peer: rng.below(PEERS as u64) as usize, seed: rng.next(), gap_us: rng.below(200) };
        let at = rng.below(actions.len() as u64 + 1) as usize;
        actions.insert(at, action);
    }
}

fn pick(rng: &mut Rng, kinds: &[(Kind, u64)], count: usize) -> Vec<Action> {
    let total: u64 = kinds.iter().map(|(_, weight)| weight).sum();
    let longest_gap = [200, 2_000, 20_000][rng.below(3) as usize];
    (0..count)
        .map(|_| {
            let mut at = rng.below(total);
            let found = kinds.iter().find(|(_, weight)| {
                let here = at < *weight;
                at = at.saturating_sub(*weight);
                here
            });
            let kind = found.map_or(Kind::Wait, |(kind, _)| *kind);
            let gap_us = if rng.chance(400_000) { 0 } else { rng.below(longest_gap) };
            Action { kind, peer: rng.below(PEERS as u64) as usize, seed: rng.next(), gap_us }
        })
        .collect()
}

//! Bursts of data on their way, and the tasks that wait for one.

use std::collections::{HashMap, VecDeque};
use stmf::TaskTag;
use stmf::provider::hba::PortId;

use crate::share::is_fair;

/// Turns at bursts. A remote port may have as many on their way as it leaves free for others, and those that wait take
/// turns: one that never sends what it is asked for keeps nobody else from writing.
#[derive(Debug)]
pub(super) struct Bursts {
    most: usize,
    under_way: usize,
    remotes: HashMap<PortId, Share>,
    /// Remote ports with tasks that wait, in the order of their turns.
    turns: VecDeque<PortId>,
}

#[derive(Debug, Default)]
struct Share {
    under_way: usize,
    waiting: VecDeque<TaskTag>,
}

impl Bursts {
    /// So many may be on their way at once, of all remote ports together.
    pub(super) fn new(most: usize) -> Self {
        Self { most, under_way: 0, remotes: HashMap::new(), turns: VecDeque::new() }
    }

    /// A task waits for its turn.
    pub(super) fn want(&mut self, remote: PortId, tag: TaskTag) {
        let share = self.remotes.entry(remote).or_default();
        if share.waiting.is_empty() {
            self.turns.push_back(remote);
        }
        share.waiting.push_back(tag);
    }

    /// The task whose turn it is; [`begin`](Self::begin) says that it has taken it.
    pub(super) fn next(&mut self) -> Option<(PortId, TaskTag)> {
        let free = self.most.saturating_sub(self.under_way);
        let may = |remote: &PortId| self.remotes.get(remote).is_some_and(|share| is_fair(share.under_way, free));
        let at = self.turns.iter().position(may)?;
        let remote = self.turns.remove(at)?;
        let share = self.remotes.get_mut(&remote)?;
        let tag = share.waiting.pop_front()?;
        if !share.waiting.is_empty() {
            self.turns.push_back(remote);
        }
        Some((remote, tag))
    }

    /// A burst is asked for.
    pub(super) fn begin(&mut self, remote: PortId) {
        self.under_way += 1;
        self.remotes.entry(remote).or_default().under_way += 1;
    }

    /// A burst has come, or will not any more.
    pub(super) fn end(&mut self, remote: PortId) {
        self.under_way = self.under_way.saturating_sub(1);
        if let Some(share) = self.remotes.get_mut(&remote) {
            share.under_way = share.under_way.saturating_sub(1);
            if share.under_way == 0 && share.waiting.is_empty() {
                self.remotes.remove(&remote);
            }
        }
    }

    /// A remote port is gone, and its tasks with it; their bursts have ended.
    pub(super) fn forget(&mut self, remote: PortId) {
        self.turns.retain(|&other| other != remote);
        if let Some(share) = self.remotes.remove(&remote) {
            self.under_way = self.under_way.saturating_sub(share.under_way);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GREEDY: PortId = PortId(1);
    const MODEST: PortId = PortId(2);

    /// Begins all that may begin; whose they were.
    fn begin_all(bursts: &mut Bursts) -> Vec<PortId> {
        std::iter::from_fn(|| {
            let (remote, _) = bursts.next()?;
            bursts.begin(remote);
            Some(remote)
        })
        .collect()
    }

    #[test]
    fn one_that_takes_all_it_gets_leaves_some_to_others() {
        let mut bursts = Bursts::new(8);
        (0..100).for_each(|tag| bursts.want(GREEDY, TaskTag(tag)));
        assert_eq!(begin_all(&mut bursts).len(), 4);
        bursts.want(MODEST, TaskTag(200));
        assert_eq!(begin_all(&mut bursts), [MODEST]);
        bursts.end(MODEST);
        assert_eq!(begin_all(&mut bursts), []);
        bursts.end(GREEDY);
        assert_eq!(begin_all(&mut bursts), [GREEDY]);
    }

    #[test]
    fn those_that_wait_take_turns() {
        let mut bursts = Bursts::new(7);
        (0..10).for_each(|tag| bursts.want(GREEDY, TaskTag(tag)));
        (0..10).for_each(|tag| bursts.want(MODEST, TaskTag(100 + tag)));
        assert_eq!(begin_all(&mut bursts), [GREEDY, MODEST, GREEDY, MODEST, GREEDY]);
    }

    #[test]
    fn who_is_gone_leaves_nothing_behind() {
        let mut bursts = Bursts::new(2);
        (0..10).for_each(|tag| bursts.want(GREEDY, TaskTag(tag)));
        assert_eq!(begin_all(&mut bursts), [GREEDY]);
        bursts.forget(GREEDY);
        assert!(bursts.remotes.is_empty() && bursts.turns.is_empty() && bursts.under_way == 0);
        assert!(bursts.next().is_none());
    }

    #[test]
    fn a_single_burst_is_for_whoever_wants_it() {
        let mut bursts = Bursts::new(1);
        bursts.want(GREEDY, TaskTag(1));
        assert_eq!(begin_all(&mut bursts), [GREEDY]);
    }
}

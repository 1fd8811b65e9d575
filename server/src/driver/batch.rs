//! Store operations that a thread of the pool took together.

use super::blocking::{Batch, BlockingJob, Together};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use stmf::NexusId;
use stmf::provider::{
    LogicalUnit, Segments, StoreCompletion, StoreError, StoreErrorKind, StoreOp, StoreOutcome, StoreRequest, StoreToken,
};

/// Slices that one write of several may have; a store gives the system at most 1024 at a time.
const MOST_SLICES: usize = 512;

/// A write on its way to a cache, of one unit with all others of its batch.
struct Write {
    nexus: NexusId,
    token: StoreToken,
    offset: u64,
    data: Segments,
    completion: StoreCompletion,
}

impl Write {
    fn end(&self) -> u64 {
        self.offset + self.data.iter().map(|bytes| bytes.len() as u64).sum::<u64>()
    }

    fn request(&self, data: Segments) -> StoreRequest {
        let op = StoreOp::Write { offset: self.offset, data, durable: false };
        StoreRequest { nexus: self.nexus, token: self.token, op }
    }
}

/// Carries out what was taken together.
pub(super) fn run(batch: Batch) {
    match batch.first().map(BlockingJob::together) {
        Some(Together::Commit) if batch.len() > 1 => commit(batch),
        Some(Together::Cached) if batch.len() > 1 => {
            let Sorted { lu, writes, .. } = sort(batch);
            let Some(lu) = lu else { return };
            // All answers together: whom the first would wake would only be woken again.
            for (write, outcome) in write_all(&lu, writes) {
                write.completion.finish(outcome);
            }
        }
        _ => batch.into_iter().for_each(BlockingJob::run),
    }
}

/// A batch by what is to be done.
struct Sorted {
    lu: Option<Arc<dyn LogicalUnit>>,
    writes: Vec<Write>,
    flushes: Vec<(StoreRequest, StoreCompletion)>,
}

fn sort(batch: Batch) -> Sorted {
    let mut sorted = Sorted { lu: None, writes: Vec::with_capacity(batch.len()), flushes: Vec::new() };
    for job in batch {
        let BlockingJob::Store { lu, request, completion } = job else {
            job.run();
            continue;
        };
        sorted.lu.get_or_insert(lu);
        let StoreRequest { nexus, token, op } = request;
        match op {
            StoreOp::Write { offset, data, .. } => {
                sorted.writes.push(Write { nexus, token, offset, data, completion });
            }
            op => sorted.flushes.push((StoreRequest { nexus, token, op }, completion)),
        }
    }
    sorted
}

/// Writes all, what is adjacent at once. Of writes under way together any may come first, so their order is free; where they
/// begin at the same place it is kept.
fn write_all(lu: &Arc<dyn LogicalUnit>, mut writes: Vec<Write>) -> Vec<(Write, StoreOutcome)> {
    writes.sort_by_key(|write| write.offset);
    let mut ended = Vec::with_capacity(writes.len());
    let mut rest = writes.into_iter().peekable();
    while let Some(first) = rest.next() {
        let (mut end, mut slices) = (first.end(), first.data.len());
        let mut together = vec![first];
        while let Some(next) = rest.next_if(|next| next.offset == end && slices + next.data.len() <= MOST_SLICES) {
            end = next.end();
            slices += next.data.len();
            together.push(next);
        }
        if together.len() > 1 {
            let data = together.iter().flat_map(|write| write.data.iter().cloned()).collect();
            if let StoreOutcome::Done = perform(lu, together[0].request(data)) {
                ended.extend(together.into_iter().map(|write| (write, StoreOutcome::Done)));
                continue;
            }
        }
        // Each by itself, also where they failed together: an error belongs to the one that has it.
        for mut write in together {
            let data = std::mem::take(&mut write.data);
            let outcome = perform(lu, write.request(data));
            ended.push((write, outcome));
        }
    }
    ended
}

/// Group commit: writes, one flush, answers.
fn commit(batch: Batch) {
    let Sorted { lu: Some(lu), writes, flushes } = sort(batch) else { return };
    let mut waiting: Vec<(StoreCompletion, bool)> = Vec::with_capacity(writes.len() + flushes.len());
    let mut flush = None;
    for (write, outcome) in write_all(&lu, writes) {
        if let StoreOutcome::Done = outcome {
            flush.get_or_insert((write.nexus, write.token));
            waiting.push((write.completion, false));
        } else {
            write.completion.finish(outcome);
        }
    }
    for (request, completion) in flushes {
        flush.get_or_insert((request.nexus, request.token));
        waiting.push((completion, true));
    }
    let Some((nexus, token)) = flush else { return };
    let outcome = perform(&lu, StoreRequest { nexus, token, op: StoreOp::Flush });
    for (completion, is_flush) in waiting {
        completion.finish(match &outcome {
            StoreOutcome::Failed(error) => {
                // The unit must not go on as if only this write were lost.
                let kind = if is_flush { error.kind } else { StoreErrorKind::Poisoned };
                failed(kind, error.context.clone())
            }
            _ => StoreOutcome::Done,
        });
    }
}

/// Carries out one operation.
pub(super) fn perform(lu: &Arc<dyn LogicalUnit>, request: StoreRequest) -> StoreOutcome {
    // A store's bug is that unit's failure, not the pool's.
    catch_unwind(AssertUnwindSafe(|| lu.perform(request))).map_or_else(
        |_| {
            tracing::error!(?lu, "a store panicked");
            failed(StoreErrorKind::Dropped, "the store panicked".into())
        },
        |done| done.outcome,
    )
}

pub(super) fn failed(kind: StoreErrorKind, context: String) -> StoreOutcome {
    StoreOutcome::Failed(StoreError { kind, context })
}

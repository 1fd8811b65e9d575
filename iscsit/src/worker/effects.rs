//! Effects of logical units, carried to where they belong.

use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::digest::Digests;
use iscsi_proto::target::{EndReason, TaskHandle, TaskStatus};
use scsi_core::{SenseData, SenseKey};
use stmf::TaskId;
use stmf::provider::{
    Completion, Disturbance, Effect, Effects, LogicalUnit, StoreDone, StoreOp, StoreOutcome, StoreRequest,
};

use super::tasks::Ended;
use super::timers::Timer;
use super::{SessionKey, StoreJob, StoreTicket, Worker};
use stmf::traffic::{Clocked, Counters};

impl Worker {
    /// Carries out what `lu` wished, in order; wishes for nexuses of other workers go to their mailboxes. `home` is the
    /// session that most of them are for, if that is known.
    pub(super) fn carry_out(
        &mut self,
        now: Instant,
        home: Option<SessionKey>,
        lu: Option<&Arc<dyn LogicalUnit>>,
        mut effects: Effects,
    ) {
        let home = home.and_then(|key| Some((self.sessions.get(key)?.nexus_id()?, key)));
        for effect in effects.drain(..) {
            let nexus = effect.nexus();
            let key = match home {
                Some((known, key)) if known == nexus => Some(key),
                _ => self.nexuses.get(&nexus).copied(),
            };
            match key {
                Some(key) => self.apply(now, key, lu, effect),
                // It lives on another worker or transport, or no more.
                None => {
                    if let Some(lu) = lu {
                        self.provider.stmf().deliver(lu, effect);
                    }
                }
            }
        }
        self.spare_effects.push(effects);
    }

    fn apply(&mut self, now: Instant, key: SessionKey, lu: Option<&Arc<dyn LogicalUnit>>, effect: Effect) {
        match effect {
            Effect::Store(request) => {
                if let Some(lu) = lu {
                    self.enqueue(now, key, lu, request);
                }
                return;
            }
            Effect::ReceiveData { task, offset, length } => self.want_data(now, key, task.tag, offset, length),
            Effect::SendData { task, offset, data } => {
                if let Some(entry) = self.sessions.get_mut(key) {
                    entry.protocol.send_data_in(TaskHandle::from_u64(task.tag.0), offset, data);
                }
            }
            Effect::Complete(completion) => {
                if !completion.sense.is_empty() {
                    self.restore_if_late(key, lu, &completion);
                }
                if let Some(entry) = self.sessions.get_mut(key)
                    && let Some(task) = entry.tasks.remove(completion.task.tag)
                {
                    let Clocked { direction, begun } = task.clocked;
                    let (bytes, time) = (completion.data_length, now.saturating_duration_since(begun));
                    if let Some(counters) = &entry.counters {
                        counters.complete(direction, bytes, completion.status, time);
                    }
                    let status = TaskStatus {
                        status: completion.status,
                        sense: &completion.sense,
                        data_length: completion.data_length,
                        bidirectional_read_length: 0,
                    };
                    entry.protocol.send_status(TaskHandle::from_u64(completion.task.tag.0), status);
                    if let Some(lu) = &task.lu {
                        self.lu_counters(lu).complete(direction, bytes, completion.status, time);
                    }
                }
            }
            Effect::Aborted { task, report } => {
                if let Some(entry) = self.sessions.get_mut(key)
                    && let Some(aborted) = entry.tasks.remove(task.tag)
                {
                    entry.protocol.task_aborted(TaskHandle::from_u64(task.tag.0), report);
                    self.count_aborted(key, &aborted);
                }
            }
            Effect::Managed { tag, response, .. } => self.managed(key, tag, response),
            Effect::Disturb { task, disturbance } => self.disturb(now, key, task, disturbance),
        }
        self.touch(key);
    }

    /// A reset that the unit carried out later may have been answered before this end of a task came from another thread.
    /// Then the task is aborted, and its unit attention is still to be told.
    fn restore_if_late(&self, key: SessionKey, lu: Option<&Arc<dyn LogicalUnit>>, completion: &Completion) {
        let Some(entry) = self.sessions.get(key) else { return };
        if entry.protocol.task_connection(TaskHandle::from_u64(completion.task.tag.0)).is_none()
            && let (Some(nexus), Some(lu)) = (entry.nexus_id(), lu)
            && let Some(sense) = SenseData::decode(&completion.sense)
            && sense.key == SenseKey::UNIT_ATTENTION
        {
            lu.restore_attention(nexus, sense.code);
        }
    }

    /// A task ended without a status.
    pub(super) fn count_aborted(&mut self, key: SessionKey, task: &Ended) {
        if let Some(counters) = self.sessions.get(key).and_then(|entry| entry.counters.as_ref()) {
            counters.end(1);
        }
        if let Some(lu) = &task.lu {
            self.lu_counters(lu).end(1);
        }
    }

    /// This worker's counters of a unit.
    pub(super) fn lu_counters(&mut self, lu: &Arc<dyn LogicalUnit>) -> &Counters {
        self.units.of(self.provider.traffic_registry(), lu)
    }

    fn disturb(&mut self, now: Instant, key: SessionKey, task: TaskId, disturbance: Disturbance) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let task = TaskHandle::from_u64(task.tag.0);
        match disturbance {
            // At error recovery level 0 a lost connection is a lost session (RFC 7143 7.1.4.4).
            Disturbance::DropConnection => entry.protocol.terminate(now, EndReason::Terminated),
            Disturbance::EndSession => entry.protocol.drop_session(now),
            Disturbance::SpoilHeaderDigest => entry.protocol.spoil_digests(task, Digests { header: true, data: false }),
            Disturbance::SpoilDataDigest => entry.protocol.spoil_digests(task, Digests { header: false, data: true }),
        }
    }

    /// Queues a store operation. A read waits while its session has too much unsent: an initiator that asks for much
    /// and takes little holds its own reads up, not memory.
    fn enqueue(&mut self, now: Instant, key: SessionKey, lu: &Arc<dyn LogicalUnit>, request: StoreRequest) {
        let reading = match request.op {
            StoreOp::Read { length, .. } => length,
            StoreOp::Wait { time } => {
                let ticket = StoreTicket { lu: Arc::clone(lu), session: Some(key), reading: 0 };
                let done = StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done };
                let wait = self.waits.insert((ticket, done));
                return self.timers.schedule(Timer::Wait(wait), &mut None, Some(now + time));
            }
            _ => 0,
        };
        let ticket = StoreTicket { lu: Arc::clone(lu), session: Some(key), reading };
        let job = StoreJob { request, ticket };
        let waits = !scsi_core::mutation::is_active(scsi_core::mutation::Mutation::ReadsNotHeldBack);
        if reading > 0
            && let Some(entry) = self.sessions.get_mut(key)
        {
            if waits
                && (!entry.deferred_reads.is_empty()
                    || entry.unsent_reads() >= self.provider.limits().unsent_read_bytes)
            {
                entry.deferred_reads.push_back(job);
                return;
            }
            entry.reading += u64::from(reading);
        }
        self.stores.push_back(job);
    }
}

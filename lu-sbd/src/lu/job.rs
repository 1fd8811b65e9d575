//! Jobs: what takes many store operations and may outlive its task, such as a copy in the background.
//!
//! A job does one step at a time. A task that waits for it ends with it; one that is aborted takes a copy along, which
//! stops after the piece that is under way.

use scsi_core::SenseData;
use stmf::NexusId;
use stmf::provider::Effects;

use super::Lu;
use super::copy::Copying;
use super::maintain::Maintaining;
use super::ops::{Owner, Purpose};
use super::slab::Key;
use super::task::Work;
use stmf::provider::StoreOp;

/// One job.
#[derive(Debug)]
pub(super) struct Job {
    /// On whose behalf.
    pub(super) nexus: NexusId,
    /// The task that ends with it; none for one in the background.
    pub(super) waiter: Option<Key>,
    /// Store operations and questions to others that are not answered.
    pub(super) in_flight: u32,
    /// Why it ends before its time; told when nothing is in flight any more.
    pub(super) failure: Option<Failure>,
    pub(super) work: JobWork,
}

/// Why a job ended before its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// This went wrong.
    Sense(SenseData),
    /// Nobody wants it any more.
    Cancelled,
}

/// What a job does.
#[derive(Debug)]
pub(super) enum JobWork {
    /// EXTENDED COPY, WRITE USING TOKEN.
    Copy(Box<Copying>),
    /// FORMAT UNIT, SANITIZE.
    Maintain(Box<Maintaining>),
}

impl Lu {
    /// Begins a job for a task: with `background` the task ends with GOOD now, else with the job.
    pub(super) fn begin_job(&mut self, key: Key, work: JobWork, background: bool, total: u64, fx: &mut Effects) -> Key {
        let nexus = self.tasks.get(key).map_or(NexusId(0), |task| task.id.nexus);
        let waiter = if background { None } else { Some(key) };
        let job = self.jobs.insert(Job { nexus, waiter, in_flight: 0, failure: None, work });
        self.runnable_jobs.push_back(job);
        if background {
            self.good(key, total, fx);
        } else if let Some(task) = self.tasks.get_mut(key) {
            task.in_flight += 1;
            task.work = Work::Job(job);
        }
        job
    }

    /// Asks for a store operation of a job.
    pub(super) fn issue_for_job(&mut self, job: Key, purpose: Purpose, op: StoreOp, fx: &mut Effects) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.in_flight += 1;
        let nexus = entry.nexus;
        self.hand_out(Owner::Job(job), nexus, purpose, op, fx);
    }

    /// A store operation of a job has ended.
    pub(super) fn job_operation_ended(&mut self, job: Key, failure: Option<SenseData>, fx: &mut Effects) {
        self.job_answered(job, failure.map(Failure::Sense), fx);
    }

    /// Something that a job waited for has come.
    pub(super) fn job_answered(&mut self, job: Key, failure: Option<Failure>, fx: &mut Effects) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.in_flight -= 1;
        entry.failure = entry.failure.or(failure);
        self.job_on(job, fx);
    }

    /// Goes on with a job of which nothing is in flight.
    pub(super) fn job_on(&mut self, job: Key, fx: &mut Effects) {
        let Some(entry) = self.jobs.get(job) else { return };
        if entry.in_flight > 0 {
            return;
        }
        if entry.failure.is_some() {
            return self.end_job(job, fx);
        }
        match &entry.work {
            JobWork::Copy(_) => self.copy_on(job, fx),
            JobWork::Maintain(_) => self.maintain_on(job, fx),
        }
    }

    /// A job is over: its task ends, if one waits.
    pub(super) fn end_job(&mut self, job: Key, fx: &mut Effects) {
        let Some(Job { waiter, failure, work, .. }) = self.jobs.remove(job) else { return };
        if !self.exclusives.is_empty() {
            self.include(Owner::Job(job), fx);
        }
        let (total, failure) = match work {
            JobWork::Copy(copying) => self.copy_ended(*copying, failure),
            JobWork::Maintain(maintaining) => self.maintenance_ended(&maintaining, failure),
        };
        let Some(key) = waiter else { return };
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        task.work = Work::Finish { total };
        task.failure = task.failure.or(failure);
        self.settle(key, fx);
    }

    /// The task of a job was aborted, by whichever means.
    pub(super) fn waiter_aborted(&mut self, job: Key, fx: &mut Effects) {
        match self.jobs.get(job).map(|entry| &entry.work) {
            Some(JobWork::Copy(_)) => self.cancel_job(job, Failure::Cancelled, fx),
            // It goes on all the same: a medium half written is of no use to anybody.
            Some(JobWork::Maintain(_)) => {
                if let Some(waiter) = self.jobs.get_mut(job).and_then(|entry| entry.waiter.take())
                    && let Some(task) = self.tasks.get_mut(waiter)
                {
                    task.in_flight -= 1;
                }
            }
            None => {}
        }
    }

    /// Ends a job before its time: now, or when what it has in flight has ended.
    pub(super) fn cancel_job(&mut self, job: Key, failure: Failure, fx: &mut Effects) {
        let Some(entry) = self.jobs.get_mut(job) else { return };
        entry.failure = entry.failure.or(Some(failure));
        self.drop_held(Owner::Job(job));
        self.cancel_operations(Owner::Job(job));
        if self.jobs.get(job).is_some_and(|entry| entry.in_flight == 0) {
            // The task, if any, is aborted already and ends where that is seen to.
            let aborted = self
                .jobs
                .get(job)
                .and_then(|entry| entry.waiter)
                .filter(|key| self.tasks.get(*key).is_some_and(|task| task.aborted.is_some()));
            if let (Some(key), Some(entry)) = (aborted, self.jobs.get_mut(job)) {
                entry.waiter = None;
                if let Some(task) = self.tasks.get_mut(key) {
                    task.in_flight -= 1;
                }
            }
            self.end_job(job, fx);
        } else {
            self.fence(Owner::Job(job));
        }
    }

    /// Ends the copies of the nexuses that `whose` takes.
    pub(super) fn cancel_copies(&mut self, whose: impl Fn(NexusId) -> bool, fx: &mut Effects) {
        let theirs: Vec<Key> = self
            .jobs
            .iter()
            // Those that a task waits for end with the task.
            .filter(|(_, job)| job.waiter.is_none() && whose(job.nexus) && matches!(job.work, JobWork::Copy(_)))
            .map(|(key, _)| key)
            .collect();
        for job in theirs {
            self.cancel_job(job, Failure::Cancelled, fx);
        }
    }
}

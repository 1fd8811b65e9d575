//! Store operations that the event-loop mode hands out.

use crate::handle::Table;
use crate::result::{Failure, guard, lunette_result};
use std::sync::{Arc, Mutex, PoisonError};
use stmf::provider::{LogicalUnit, StoreCompletion, StoreRequest};

/// A store operation to carry out, on a thread that may wait.
pub struct lunette_job {
    _opaque: (),
}

pub(crate) struct Job {
    pub(crate) lu: Arc<dyn LogicalUnit>,
    pub(crate) request: StoreRequest,
    pub(crate) completion: StoreCompletion,
}

impl Job {
    pub(crate) fn run(self) {
        let done = self.lu.perform(self.request);
        self.completion.finish(done.outcome);
    }
}

pub(crate) struct JobObject(Mutex<Option<Job>>);

impl JobObject {
    pub(crate) fn new(job: Job) -> Self {
        Self(Mutex::new(Some(job)))
    }

    fn take(&self) -> Result<Job, Failure> {
        let job = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        job.ok_or_else(|| Failure::closed("the job was run already"))
    }
}

pub(crate) static JOBS: Table<JobObject> = Table::new("job");

/// Carries out a store operation; may wait for a device. The outcome finds its way by itself, by `wake` of the server's
/// options and lunette_server_process. The job is used up.
///
/// From any thread, also after the server was freed.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_job_run(job: *mut lunette_job) -> lunette_result {
    guard(|| {
        JOBS.remove(job)?.take()?.run();
        Ok(())
    })
}

/// Gives a store operation up: it fails, and the initiator sees a CHECK CONDITION. NULL is allowed and does nothing.
#[unsafe(no_mangle)]
pub extern "C" fn lunette_job_free(job: *mut lunette_job) -> lunette_result {
    guard(|| if job.is_null() { Ok(()) } else { JOBS.remove(job)?.take().map(drop) })
}

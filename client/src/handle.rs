//! What both clients share: requests go in here, outcomes come out.

use crate::core::{Core, Job, Outcome};
use crate::error::{Error, command_name};
use crate::options::Options;
use crate::pending::{Expected, Outcomes, Pending, Reply, Slot};
use crate::plan::{Geometry, Operation, plan};
use iscsi_proto::initiator::{Command, DiscoveredTarget};
use iscsi_proto::login::Parameters;
use iscsi_proto::pdu::{Isid, TaskManagementResponseCode};
use scsi_core::TaskManagementFunction;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// What a disk and its driver share.
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Has the driver look at the core.
    wake: Box<dyn Fn() + Send + Sync>,
}

impl Shared {
    /// For the driver: the core under its lock, then the outcomes without it.
    pub(crate) fn with<R>(&self, work: impl FnOnce(&mut Core) -> R) -> R {
        let (result, finished) = {
            let mut core = self.lock();
            let result = work(&mut core);
            (result, core.take_finished())
        };
        finished.into_iter().for_each(crate::core::Finished::deliver);
        result
    }

    fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

/// The owner's side.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) shared: Arc<Shared>,
}

impl Handle {
    pub(crate) fn new(options: Options, wake: Box<dyn Fn() + Send + Sync>) -> Result<Self, Error> {
        let isid = match options.isid {
            Some(isid) => isid,
            None => random_isid().map_err(Error::system)?,
        };
        let core = Mutex::new(Core::new(options, isid, Instant::now()));
        Ok(Self { shared: Arc::new(Shared { core, wake }) })
    }

    pub(crate) fn jobs(&self, jobs: Vec<Job>) -> (Outcomes, Vec<u64>) {
        let slot = Slot::new(jobs.len());
        let now = Instant::now();
        let requests = self.shared.with(|core| {
            jobs.into_iter().enumerate().map(|(index, job)| core.submit(now, job, &slot, index)).collect()
        });
        (self.shared.wake)();
        (Outcomes(slot), requests)
    }

    pub(crate) fn submit(&self, geometry: &Geometry, operation: Operation) -> Result<Pending, Error> {
        let lun = self.options().lun_field();
        let commands = plan(geometry, lun, operation)?;
        let expected = commands
            .iter()
            .map(|command| Expected { command: command_name(&command.cdb), data_in: command.data_in_length as usize })
            .collect();
        let jobs = commands.into_iter().map(|command| Job::Command { command, repeatable: true }).collect();
        let (outcomes, requests) = self.jobs(jobs);
        Ok(Pending { outcomes, expected, requests })
    }

    pub(crate) fn command(&self, mut command: Command, repeatable: bool) -> Outcomes {
        if command.lun == scsi_core::Lun::ZERO {
            command.lun = self.options().lun_field();
        }
        self.jobs(vec![Job::Command { command, repeatable }]).0
    }

    pub(crate) fn manage(&self, function: TaskManagementFunction, of: Option<u64>) -> Outcomes {
        self.jobs(vec![Job::Manage { function, of }]).0
    }

    pub(crate) fn options(&self) -> Options {
        self.shared.lock().options().clone()
    }

    pub(crate) fn logins(&self) -> u64 {
        self.shared.lock().logins()
    }

    pub(crate) fn parameters(&self) -> Option<Parameters> {
        self.shared.lock().parameters()
    }

    pub(crate) fn close(&self) {
        self.shared.with(|core| core.close(Instant::now()));
        (self.shared.wake)();
    }

    pub(crate) fn drop_connection(&self) {
        self.shared.with(|core| core.drop_connection(Instant::now()));
        (self.shared.wake)();
    }
}

/// The only outcome there is.
pub(crate) fn only(outcomes: Vec<Result<Outcome, Error>>) -> Result<Outcome, Error> {
    outcomes.into_iter().next().unwrap_or(Err(Error::Closed))
}

pub(crate) fn reply(outcomes: Vec<Result<Outcome, Error>>) -> Result<Reply, Error> {
    match only(outcomes)? {
        Outcome::Reply(reply) => Ok(reply),
        _ => Err(Error::Closed),
    }
}

pub(crate) fn targets(outcomes: Vec<Result<Outcome, Error>>) -> Result<Vec<DiscoveredTarget>, Error> {
    match only(outcomes)? {
        Outcome::Targets(targets) => Ok(targets),
        _ => Err(Error::Closed),
    }
}

/// The answer of a function that was carried out.
pub(crate) fn managed(
    function: TaskManagementFunction,
    outcomes: Vec<Result<Outcome, Error>>,
) -> Result<TaskManagementResponseCode, Error> {
    use TaskManagementResponseCode as Code;
    match only(outcomes)? {
        Outcome::Managed(
            response @ (Code::FUNCTION_COMPLETE | Code::FUNCTION_SUCCEEDED | Code::TASK_DOES_NOT_EXIST),
        ) => Ok(response),
        Outcome::Managed(response) => Err(Error::TaskManagement { function, response }),
        _ => Err(Error::Closed),
    }
}

fn random_isid() -> io::Result<Isid> {
    let mut random = [0; 5];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let [a, b, c, d, e] = random;
    Ok(Isid::random([a, b, c], u16::from_be_bytes([d, e])))
}

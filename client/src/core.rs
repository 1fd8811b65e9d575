//! What a client decides, without I/O: when to connect, what to send again, what to give up.
//!
//! ```text
//!            due                connected            logged in
//!   Waiting ------> Connecting -----------> LoggingIn ----------> Open
//!      ^                |                      |                   |
//!      +----------------+----------------------+-------------------+  lost, and within reconnect_timeout
//!      |
//!   Idle: given up for now; the next request tries again        Ended: closed by the owner, or never connected
//! ```

use crate::error::{Error, command_name};
use crate::options::{Address, Options};
use crate::pending::{Reply, Slot};
use bytes::Bytes;
use iscsi_proto::RecvHint;
use iscsi_proto::auth::chap::Algorithm;
use iscsi_proto::initiator::{
    CloseReason, Command, ConnectionKey, DiscoveredTarget, Event, LoginError, Outcome as TaskOutcome, Session, TaskKey,
    TaskManagement,
};
use iscsi_proto::login::Parameters;
use iscsi_proto::pdu::{Isid, LoginStatus, ScsiResponseCode, TaskManagementResponseCode};
use scsi_core::{SenseData, SenseKey, Status, TaskManagementFunction};
use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first wait between two attempts to connect; it doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(5);

/// How often one request is sent again because of unit attentions and aborts by others.
const MAX_REPEATS: u32 = 16;

/// The waits between attempts when a unit is busy; they double up to the last.
const FIRST_BUSY_WAIT: Duration = Duration::from_millis(10);
const LAST_BUSY_WAIT: Duration = Duration::from_secs(1);

/// How long a command goes unanswered until the unit is asked whether it has forgotten it: the commands that another
/// initiator's reset ended are not answered (SAM, TAS bit of the Control mode page), and only a unit attention tells.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// How many redirections one attempt follows.
const MAX_REDIRECTIONS: u32 = 4;

/// How long the logout of a disk that is closed may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// What is asked of the client.
#[derive(Debug)]
pub(crate) enum Job {
    /// A command; `repeatable` if carrying it out twice does no harm.
    Command { command: Command, repeatable: bool },
    /// A task management function, on the task of a request if it is about one.
    Manage { function: TaskManagementFunction, of: Option<u64> },
    /// Which targets are there?
    Targets,
}

/// What came of a job that did not fail.
#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Reply),
    Managed(TaskManagementResponseCode),
    Targets(Vec<DiscoveredTarget>),
}

#[derive(Debug)]
struct Request {
    job: Job,
    slot: Arc<Slot>,
    index: usize,
    deadline: Option<Instant>,
    /// Where it is outstanding.
    task: Option<TaskKey>,
    /// Since when.
    sent: Option<Instant>,
    /// Not to be sent before.
    not_before: Option<Instant>,
    repeats: u32,
    /// By its owner: it is not sent again.
    is_aborted: bool,
}

#[derive(Debug)]
enum Link {
    Waiting {
        until: Instant,
    },
    Connecting {
        deadline: Instant,
    },
    LoggingIn {
        key: ConnectionKey,
    },
    Open {
        key: ConnectionKey,
    },
    /// The session gave the connection up; the driver has to close it.
    Closing {
        key: Option<ConnectionKey>,
    },
    Idle,
    Ended,
}

/// What the driver has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connect there, then say [`Core::handle_connected`] or [`Core::handle_connect_failed`].
    Connect(Address),
    /// Close the connection or give up making it, then say [`Core::handle_closed`].
    Close,
    /// The end: nothing will happen any more.
    Stop,
}

/// An answer to be given once no lock is held.
#[derive(Debug)]
pub(crate) struct Finished {
    slot: Arc<Slot>,
    index: usize,
    outcome: Result<Outcome, Error>,
}

impl Finished {
    pub(crate) fn deliver(self) {
        self.slot.fill(self.index, self.outcome);
    }
}

#[derive(Debug)]
pub(crate) struct Core {
    options: Options,
    isid: Isid,
    session: Option<Session>,
    link: Link,
    /// Where to connect: the URL's portal, or where that sent us.
    address: Address,
    redirections: u32,
    /// The login told another address, or what to offer, and is tried at once.
    is_redirected: bool,
    /// The target takes CHAP's number 7 for something else than SHA-256, so that it is not offered any more.
    is_without_sha256: bool,
    /// The first login is not tried twice: whoever waits for it should hear what is wrong.
    has_been_open: bool,
    attempts: u32,
    outage_since: Option<Instant>,
    last_error: Option<Error>,
    is_closing: Option<Instant>,
    next_request: u64,
    requests: HashMap<u64, Request>,
    /// Requests to be sent, oldest first.
    queue: BTreeSet<u64>,
    by_task: HashMap<TaskKey, u64>,
    /// The TEST UNIT READY that is out, of our own, and when the last one was sent.
    question: Option<TaskKey>,
    asked: Option<Instant>,
    finished: Vec<Finished>,
    logins: u64,
    parameters: Option<Parameters>,
}

impl Core {
    pub(crate) fn new(options: Options, isid: Isid, now: Instant) -> Self {
        Self {
            address: options.address(),
            options,
            isid,
            session: None,
            link: Link::Waiting { until: now },
            redirections: 0,
            is_redirected: false,
            is_without_sha256: false,
            has_been_open: false,
            attempts: 0,
            outage_since: None,
            last_error: None,
            is_closing: None,
            next_request: 0,
            requests: HashMap::new(),
            queue: BTreeSet::new(),
            by_task: HashMap::new(),
            question: None,
            asked: None,
            finished: Vec::new(),
            logins: 0,
            parameters: None,
        }
    }

    pub(crate) fn options(&self) -> &Options {
        &self.options
    }

    /// Logins so far.
    pub(crate) fn logins(&self) -> u64 {
        self.logins
    }

    /// What the last login agreed on.
    pub(crate) fn parameters(&self) -> Option<Parameters> {
        self.parameters
    }

    /// Takes a request; its outcome goes to `slot`. Gives its name.
    pub(crate) fn submit(&mut self, now: Instant, job: Job, slot: &Arc<Slot>, index: usize) -> u64 {
        let id = self.next_request;
        self.next_request += 1;
        let limit = self.options.command_timeout;
        let deadline = (!limit.is_zero()).then(|| now + limit);
        if let Job::Manage { function: TaskManagementFunction::AbortTask, of: Some(of) } = &job
            && let Some(request) = self.requests.get_mut(of)
        {
            request.is_aborted = true;
        }
        let request = Request {
            job,
            slot: Arc::clone(slot),
            index,
            deadline,
            task: None,
            sent: None,
            not_before: None,
            repeats: 0,
            is_aborted: false,
        };
        self.requests.insert(id, request);
        self.queue.insert(id);
        match self.link {
            Link::Ended => {
                let error = if self.is_closing.is_some() { None } else { self.last_error.clone() };
                self.finish(id, Err(error.unwrap_or(Error::Closed)));
            }
            _ if self.is_closing.is_some() => self.finish(id, Err(Error::Closed)),
            Link::Idle => {
                self.attempts = 0;
                self.outage_since = Some(now);
                self.link = Link::Waiting { until: now };
            }
            _ => self.pump(now),
        }
        id
    }

    /// Begins to end: logs out, or stops at once when there is nothing to log out of.
    pub(crate) fn close(&mut self, now: Instant) {
        if self.is_closing.is_some() {
            return;
        }
        self.is_closing = Some(now + CLOSE_TIMEOUT);
        if let (Link::Open { .. }, Some(session)) = (&self.link, &mut self.session)
            && session.logout().is_ok()
        {
            return;
        }
        self.give_up(Error::Closed);
        self.end();
    }

    /// Breaks the connection off as if the network had; a test of what follows.
    pub(crate) fn drop_connection(&mut self, now: Instant) {
        if let (Link::Open { key }, Some(session)) = (&self.link, &mut self.session) {
            session.close(*key);
        }
        self.take_events(now);
    }

    /// The driver's next step, once it has done what came before.
    pub(crate) fn poll_step(&mut self, now: Instant) -> Option<Step> {
        match self.link {
            Link::Waiting { until } if until <= now => {
                self.link = Link::Connecting { deadline: now + self.options.connect_timeout };
                Some(Step::Connect(self.address.clone()))
            }
            Link::Closing { .. } => Some(Step::Close),
            Link::Ended => Some(Step::Stop),
            _ => None,
        }
    }

    /// Whether [`poll_step`](Self::poll_step) has something to say now that no deadline brings about.
    pub(crate) fn has_step(&self) -> bool {
        matches!(self.link, Link::Closing { .. } | Link::Ended)
    }

    pub(crate) fn handle_connected(&mut self, now: Instant) {
        if !matches!(self.link, Link::Connecting { .. }) {
            return;
        }
        let mut random = [0; 4];
        let config = self.options.session_config(self.isid);
        let is_without_sha256 = self.is_without_sha256;
        let config = config.and_then(|mut config| {
            config.login.algorithms.retain(|algorithm| !is_without_sha256 || *algorithm != Algorithm::SHA256);
            getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
            Ok(config)
        });
        match config {
            Ok(config) => {
                let mut session = Session::new(config, u32::from_ne_bytes(random));
                self.link = Link::LoggingIn { key: session.connect(now) };
                self.session = Some(session);
            }
            Err(error) => {
                self.last_error = Some(Error::system(error));
                self.link = Link::Closing { key: None };
            }
        }
    }

    pub(crate) fn handle_connect_failed(&mut self, now: Instant, error: Error) {
        self.last_error = Some(error);
        self.after_loss(now);
    }

    pub(crate) fn handle_received(&mut self, now: Instant, bytes: Bytes) {
        if let (Some(key), Some(session)) = (self.key(), &mut self.session) {
            session.handle_received(now, key, bytes);
        }
        self.take_events(now);
    }

    /// The connection is closed: by the peer, by the network, or because [`Step::Close`] said so.
    pub(crate) fn handle_closed(&mut self, now: Instant, reason: Option<&io::Error>) {
        if let (Link::Open { .. } | Link::LoggingIn { .. }, true) = (&self.link, self.is_closing.is_none()) {
            let words = reason.map_or_else(|| "the target closed it".to_owned(), io::Error::to_string);
            self.last_error.get_or_insert_with(|| lost(&words));
        }
        if let (Some(key), Some(session)) = (self.key(), &mut self.session) {
            session.handle_closed(key);
        }
        self.take_events(now);
        self.after_loss(now);
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.handle_timeout(now);
        }
        self.take_events(now);
        if let Link::Connecting { deadline } = self.link
            && deadline <= now
        {
            let source = Arc::new(io::Error::from(io::ErrorKind::TimedOut));
            self.last_error = Some(Error::Connect { address: self.address.to_string(), source });
            self.link = Link::Closing { key: None };
        }
        if self.is_closing.is_some_and(|deadline| deadline <= now) && !matches!(self.link, Link::Ended) {
            self.end();
        }
        self.time_out_requests(now);
        self.ask(now);
        self.pump(now);
    }

    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let link = match self.link {
            Link::Waiting { until } => Some(until),
            Link::Connecting { deadline } => Some(deadline),
            _ => None,
        };
        let session = self.session.as_ref().and_then(Session::poll_timeout);
        let requests = self.requests.values().filter_map(|request| request.deadline).min();
        let waiting = self.queue.iter().filter_map(|id| self.requests.get(id)?.not_before).min();
        [link, session, requests, waiting, self.ask_at(), self.is_closing.filter(|_| !matches!(self.link, Link::Ended))]
            .into_iter()
            .flatten()
            .min()
    }

    /// Appends what is to be sent.
    pub(crate) fn poll_transmit(&mut self, now: Instant, out: &mut Vec<Bytes>) -> usize {
        match (self.key(), &mut self.session) {
            (Some(key), Some(session)) => session.poll_transmit(now, key, out),
            _ => 0,
        }
    }

    pub(crate) fn recv_hint(&self) -> RecvHint {
        match (self.key(), &self.session) {
            (Some(key), Some(session)) => session.recv_hint(key),
            _ => RecvHint::default(),
        }
    }

    pub(crate) fn take_finished(&mut self) -> Vec<Finished> {
        std::mem::take(&mut self.finished)
    }

    fn key(&self) -> Option<ConnectionKey> {
        match self.link {
            Link::LoggingIn { key } | Link::Open { key } | Link::Closing { key: Some(key) } => Some(key),
            _ => None,
        }
    }

    fn take_events(&mut self, now: Instant) {
        while let Some(event) = self.session.as_mut().and_then(Session::poll_event) {
            match event {
                Event::LoggedIn { connection } => self.logged_in(connection),
                Event::LoginFailed { error, .. } => self.login_failed(error),
                Event::TaskDone { task, outcome } => self.task_done(now, task, outcome),
                Event::TaskManaged { request, response } => {
                    let outcome = match response {
                        Some((code, _)) => Ok(Outcome::Managed(code)),
                        None => Err(self.loss()),
                    };
                    self.finish_task(request, outcome);
                }
                Event::Targets { request, targets } => {
                    let outcome = targets.map(Outcome::Targets).ok_or_else(|| self.loss());
                    self.finish_task(request, outcome);
                }
                Event::Close { reason, .. } => self.closing(&reason),
                _ => {}
            }
        }
        self.pump(now);
    }

    fn logged_in(&mut self, key: ConnectionKey) {
        self.link = Link::Open { key };
        self.parameters = self.session.as_ref().and_then(|session| session.parameters().copied());
        self.logins += 1;
        self.has_been_open = true;
        (self.attempts, self.redirections) = (0, 0);
        (self.outage_since, self.last_error) = (None, None);
    }

    fn login_failed(&mut self, error: LoginError) {
        if let LoginError::Moved { addresses, permanently } = &error
            && self.redirections < MAX_REDIRECTIONS
            && let Some(address) = addresses.iter().find_map(|address| Address::parse(address).ok())
        {
            self.redirections += 1;
            if *permanently {
                (self.options.host, self.options.port) = (address.host.clone(), address.port);
            }
            self.address = address;
            self.is_redirected = true;
            return;
        }
        // The numbers of the newer algorithms came late: tgt had taken 7 for SHA-1 by then, chooses it of our list, and
        // finds our response of 32 bytes malformed, which has another status than a wrong secret. What is left of the
        // list is no weaker than what a target could have chosen of it before.
        let malformed = LoginError::Refused { status: LoginStatus::INITIATOR_ERROR };
        if error == malformed && self.options.credentials.is_some() && !self.is_without_sha256 {
            (self.is_without_sha256, self.is_redirected) = (true, true);
            return;
        }
        let target = self.options.target.clone().unwrap_or_else(|| "discovery".into());
        self.last_error = Some(Error::Login { target, source: error });
    }

    fn closing(&mut self, reason: &CloseReason) {
        let is_expected = *reason == CloseReason::LoggedOut && self.is_closing.is_some();
        if !is_expected && *reason != CloseReason::LoginFailed {
            self.last_error.get_or_insert_with(|| lost(&reason.to_string()));
        }
        self.link = Link::Closing { key: self.key() };
    }

    /// Gives the next state after a connection is gone.
    fn after_loss(&mut self, now: Instant) {
        self.session = None;
        self.by_task.clear();
        self.question = None;
        let outstanding: Vec<u64> =
            self.requests.iter().filter(|(_, request)| request.task.is_some()).map(|(id, _)| *id).collect();
        outstanding.into_iter().for_each(|id| self.lose(id));
        if matches!(self.link, Link::Ended) {
            return;
        }
        if self.is_closing.is_some() {
            return self.end();
        }
        if std::mem::take(&mut self.is_redirected) {
            self.link = Link::Waiting { until: now };
            return;
        }
        let last = self.last_error.clone().unwrap_or_else(|| lost("the target closed it"));
        if !self.has_been_open || self.options.reconnect_timeout.is_zero() {
            self.give_up(last);
            self.link = Link::Ended;
            return;
        }
        self.address = self.options.address();
        self.redirections = 0;
        let since = *self.outage_since.get_or_insert(now);
        let outage = now.saturating_duration_since(since);
        if outage >= self.options.reconnect_timeout {
            let target = self.options.target.clone().unwrap_or_default();
            self.give_up(Error::Outage { target, seconds: outage.as_secs(), last: Box::new(last) });
            self.link = Link::Idle;
            return;
        }
        let backoff = FIRST_BACKOFF.saturating_mul(1 << self.attempts.min(10)).min(LAST_BACKOFF);
        self.attempts += 1;
        self.link = Link::Waiting { until: now + backoff };
    }

    fn end(&mut self) {
        self.give_up(Error::Closed);
        self.session = None;
        self.link = Link::Ended;
    }

    /// Every request fails.
    fn give_up(&mut self, error: Error) {
        let ids: Vec<u64> = self.requests.keys().copied().collect();
        ids.into_iter().for_each(|id| self.finish(id, Err(error.clone())));
    }

    fn loss(&self) -> Error {
        self.last_error.clone().unwrap_or_else(|| lost("the session ended"))
    }

    /// Sends what may be sent.
    fn pump(&mut self, now: Instant) {
        let (Link::Open { .. }, Some(session)) = (&self.link, &mut self.session) else { return };
        if self.is_closing.is_some() {
            return;
        }
        let mut refused = Vec::new();
        for id in self.queue.clone() {
            let Some(request) = self.requests.get(&id) else { continue };
            if let (Job::Command { command, .. }, true) = (&request.job, request.is_aborted) {
                refused.push((id, Err(aborted(command))));
                continue;
            }
            if request.not_before.is_some_and(|time| time > now) {
                continue;
            }
            let lun = self.options.lun_field();
            let submitted = match &request.job {
                Job::Command { .. } if session.outstanding() >= self.options.max_outstanding => break,
                Job::Command { command, .. } => session.submit(command.clone()),
                Job::Manage { function, of } => {
                    let referenced = of.and_then(|of| self.requests.get(&of)?.task);
                    if function.names_a_task() && referenced.is_none() {
                        refused.push((id, Ok(Outcome::Managed(TaskManagementResponseCode::TASK_DOES_NOT_EXIST))));
                        continue;
                    }
                    session.manage(TaskManagement { function: *function, lun, referenced })
                }
                Job::Targets => session.send_targets("All"),
            };
            match submitted {
                Ok(task) => {
                    self.queue.remove(&id);
                    self.by_task.insert(task, id);
                    if let Some(request) = self.requests.get_mut(&id) {
                        request.task = Some(task);
                        request.sent = Some(now);
                    }
                }
                Err(
                    iscsi_proto::initiator::SubmitError::NotLoggedIn
                    | iscsi_proto::initiator::SubmitError::TooMany { .. },
                ) => break,
                Err(error) => refused.push((id, Err(error.into()))),
            }
        }
        refused.into_iter().for_each(|(id, outcome)| self.finish(id, outcome));
    }

    /// When the unit is to be asked about what it has not answered.
    fn ask_at(&self) -> Option<Instant> {
        let is_open = matches!(self.link, Link::Open { .. }) && self.is_closing.is_none() && self.question.is_none();
        let commands = self.requests.values().filter(|request| matches!(request.job, Job::Command { .. }));
        let oldest = commands.filter_map(|request| request.task.and(request.sent)).min().filter(|_| is_open)?;
        Some(self.asked.map_or(oldest, |asked| asked.max(oldest)) + ASK_AFTER)
    }

    fn ask(&mut self, now: Instant) {
        if self.ask_at().is_some_and(|time| time <= now)
            && let Some(session) = &mut self.session
        {
            // TEST UNIT READY is all zeros.
            let question = Command { lun: self.options.lun_field(), cdb: vec![0; 6], ..Command::default() };
            self.question = session.submit(question).ok();
            self.asked = Some(now);
        }
    }

    /// The unit was reset, or its tasks were cleared: what it had before `task` it has forgotten. It is asked to abort
    /// that, so that none of it can happen any more, and then that is sent again.
    fn forget_before(&mut self, task: TaskKey) {
        let Some(session) = &mut self.session else { return };
        let (function, lun) = (TaskManagementFunction::AbortTask, self.options.lun_field());
        for (&older, id) in self.by_task.iter().filter(|(older, _)| **older < task) {
            if self.requests.get(id).is_some_and(|request| matches!(request.job, Job::Command { .. })) {
                // At the session's limit of requests the next question does it.
                let _ = session.manage(TaskManagement { function, lun, referenced: Some(older) });
            }
        }
    }

    fn task_done(&mut self, now: Instant, task: TaskKey, outcome: TaskOutcome) {
        if let TaskOutcome::Response(response) = &outcome
            && SenseData::decode(&response.sense).is_some_and(|sense| tells_of_a_reset(&sense))
        {
            self.forget_before(task);
        }
        if self.question == Some(task) {
            self.question = None;
            return;
        }
        let Some(id) = self.by_task.remove(&task) else { return };
        let Some(request) = self.requests.get_mut(&id) else { return };
        let Job::Command { command, repeatable } = &request.job else { return };
        let name = command_name(&command.cdb);
        match outcome {
            TaskOutcome::Lost => self.lose(id),
            TaskOutcome::Rejected(reason) => self.finish(id, Err(Error::Rejected { command: name, reason })),
            TaskOutcome::Response(response) if response.response != ScsiResponseCode::COMPLETED => self.lose(id),
            TaskOutcome::Response(response) => {
                let reply = Reply::from(response);
                let wait =
                    if *repeatable && !request.is_aborted { repeat_after(&reply, request.repeats) } else { None };
                match wait {
                    Some(wait) => {
                        request.repeats += 1;
                        request.not_before = (!wait.is_zero()).then(|| now + wait);
                        request.task = None;
                        self.queue.insert(id);
                    }
                    None => self.finish(id, Ok(Outcome::Reply(reply))),
                }
            }
        }
    }

    /// A request was out when its connection went.
    fn lose(&mut self, id: u64) {
        let is_open = matches!(self.link, Link::Open { .. }) && self.last_error.is_none();
        let reason = if is_open { lost("the target aborted it") } else { self.loss() };
        let Some(request) = self.requests.get_mut(&id) else { return };
        let will_return = self.has_been_open && !self.options.reconnect_timeout.is_zero() && self.is_closing.is_none();
        match &request.job {
            Job::Command { command, .. } if request.is_aborted => {
                let error = aborted(command);
                self.finish(id, Err(error));
            }
            Job::Command { command, repeatable } if !repeatable || !will_return => {
                let command = command_name(&command.cdb);
                let reason = match reason {
                    Error::Lost { reason, .. } => reason,
                    other => other.to_string(),
                };
                self.finish(id, Err(Error::Lost { command, reason }));
            }
            Job::Command { .. } => {
                request.task = None;
                self.queue.insert(id);
            }
            _ => self.finish(id, Err(reason)),
        }
    }

    fn time_out_requests(&mut self, now: Instant) {
        let due: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(request) = self.requests.get(&id) else { continue };
            let command = match &request.job {
                Job::Command { command, .. } => command_name(&command.cdb),
                Job::Manage { function, .. } => function.name(),
                Job::Targets => "SendTargets",
            };
            if let (Job::Command { .. }, Some(task), Some(session)) = (&request.job, request.task, &mut self.session) {
                // Nobody waits for the answer; if the target is dead the pings tell.
                let function = TaskManagementFunction::AbortTask;
                let lun = self.options.lun_field();
                let _ = session.manage(TaskManagement { function, lun, referenced: Some(task) });
            }
            let limit = self.options.command_timeout;
            self.finish(id, Err(Error::Timeout { command, limit }));
        }
    }

    fn finish_task(&mut self, task: TaskKey, outcome: Result<Outcome, Error>) {
        if let Some(id) = self.by_task.remove(&task) {
            self.finish(id, outcome);
        }
    }

    fn finish(&mut self, id: u64, outcome: Result<Outcome, Error>) {
        self.queue.remove(&id);
        if let Some(request) = self.requests.remove(&id) {
            if let Some(task) = request.task {
                self.by_task.remove(&task);
            }
            self.finished.push(Finished { slot: request.slot, index: request.index, outcome });
        }
    }
}

/// Whether tasks of this initiator were ended without an answer: resets, nexus loss, and CLEAR TASK SET or a preemption
/// by another initiator.
fn tells_of_a_reset(sense: &SenseData) -> bool {
    let is_cleared = matches!((sense.code.asc, sense.code.ascq), (0x29, _) | (0x2f, 0x00));
    sense.key == SenseKey::UNIT_ATTENTION && is_cleared
}

/// Whether a command that may run twice is sent again, and how long that waits.
fn repeat_after(reply: &Reply, repeats: u32) -> Option<Duration> {
    match reply.status {
        // Until the command's deadline.
        Status::BUSY | Status::TASK_SET_FULL => {
            Some(FIRST_BUSY_WAIT.saturating_mul(1 << repeats.min(10)).min(LAST_BUSY_WAIT))
        }
        _ if repeats >= MAX_REPEATS => None,
        Status::TASK_ABORTED => Some(Duration::ZERO),
        Status::CHECK_CONDITION => {
            let key = reply.sense.as_ref().map(|sense| sense.key);
            (key == Some(SenseKey::UNIT_ATTENTION)).then_some(Duration::ZERO)
        }
        _ => None,
    }
}

fn aborted(command: &Command) -> Error {
    Error::Lost { command: command_name(&command.cdb), reason: "it was aborted".to_owned() }
}

fn lost(reason: &str) -> Error {
    Error::Lost { command: "login", reason: reason.to_owned() }
}

//! An initiator on a fabric that never waits: it takes what has come, aborts what takes too long, and tells the judge.

use fct::initiator::{Command as FcCommand, Event, Initiator, Outcome};
use fct::soft::{Faults, Wire};
use fct::wire::{Els, ElsCommand, FcpService, RecAnswer, RoutingControl};
use iscsi_proto::pdu::{Residual, TaskManagementFunctionCode as Function};
use scsi_core::{Lun, SenseData, Status, TaskManagementFunction};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};
use stmf::provider::hba::{ExchangeId, PortId, Wwn};

use super::peer::{Ending, OpId, Said, State};
use crate::initiator::Command;
use crate::rng::Rng;
use crate::san::San;

/// Commands that a host has under way at most.
const WINDOW: u32 = 16;
/// How long an abort is waited for below.
const R_A_TOV: Duration = Duration::from_secs(10);
/// Where no frame is lost, an abort is answered sooner than that: stores take milliseconds.
const ABORT_TIME: Duration = Duration::from_millis(40);

pub(super) struct FcPeer {
    pub(super) name: String,
    pub(super) state: State,
    /// Takes nothing from its wire until then.
    pub(super) stalled_until: Duration,
    port_name: Wwn,
    offer: FcpService,
    /// How long a command may take.
    patience: Duration,
    faults: Faults,
    plug: Option<Plug>,
    tasks: BTreeMap<ExchangeId, Task>,
    /// Frames lost on wires that are gone.
    lost_before: u64,
    /// Information units that the target has agreed to send again.
    again: u64,
}

struct Plug {
    san: San,
    initiator: Initiator,
    wire: Wire,
    target: PortId,
    /// The link is up and the port registered.
    up: bool,
}

struct Task {
    op: OpId,
    /// Bytes of data that are expected, of a command.
    expected: Option<u32>,
    reads: bool,
    /// Frames that had been lost when it began.
    lost: u64,
    due: Instant,
    recovery: Recovery,
    abort: Option<Abort>,
}

/// How far a command is that takes too long, where both sides have agreed upon retries.
#[derive(Clone, Copy, Debug)]
enum Recovery {
    /// It may be looked into so often still.
    Left(u8),
    /// REC is sent: how far is it?
    Asked(ExchangeId, u8),
    /// SRR is sent for this unit.
    Again { request: ExchangeId, again: Again },
    /// The target has agreed to send it again.
    Agreed(Again),
}

/// An information unit that is asked for again.
#[derive(Clone, Copy, Debug)]
struct Again {
    unit: RoutingControl,
    /// Frames that had been lost, and transfers that had been asked for, by then.
    lost: u64,
    transfers: u32,
    left: u8,
}

/// How often a command is looked into before it is aborted.
const LOOKS: u8 = 3;

#[derive(Clone, Copy)]
struct Abort {
    first: Instant,
    last: Instant,
    lost: u64,
    /// ABORT TASK, where it was that and not impatience.
    function: Option<OpId>,
}

impl FcPeer {
    pub(super) fn new(index: usize, rng: &mut Rng) -> Self {
        let port_name = Wwn(0x2100_0000_0000_0100 | index as u64);
        let mut offer = FcpService::INITIATOR;
        if rng.chance(300_000) {
            offer = offer.and(FcpService::CONFIRMED_COMPLETION);
        }
        if rng.chance(300_000) {
            offer = offer.and(FcpService::RETRY).and(FcpService::REC_SUPPORTED);
        }
        Self {
            name: port_name.device_name(),
            state: State::Down,
            stalled_until: Duration::ZERO,
            port_name,
            offer,
            patience: Duration::from_millis(10 + rng.below(50)),
            faults: Faults::default(),
            plug: None,
            tasks: BTreeMap::new(),
            lost_before: 0,
            again: 0,
        }
    }

    /// Logs in, anew if it is logged in: the operations that will not be answered any more.
    pub(super) fn log_in(&mut self, san: &San) -> Vec<OpId> {
        let lost = self.take_tasks();
        self.stalled_until = Duration::ZERO;
        self.state = State::LoggingIn;
        let now = san.clock().now();
        match &mut self.plug {
            Some(plug) if plug.up => {
                plug.initiator.forget(now, plug.target);
                plug.initiator.log_in(now, plug.target);
            }
            // It logs in when it is registered.
            Some(_) => {}
            None => {
                let (hba, wire) = san.plug(self.port_name);
                wire.set_faults(self.faults);
                let mut initiator = Initiator::new(now, Box::new(hba), "");
                initiator.offer(self.offer);
                let target = san.fabric_port().0;
                self.plug = Some(Plug { san: san.clone(), initiator, wire, target, up: false });
            }
        }
        lost
    }

    /// Forgets its login without a word; the operations that will not be answered any more.
    pub(super) fn drop_login(&mut self) -> Vec<OpId> {
        if let Some(plug) = &mut self.plug {
            plug.initiator.forget(plug.san.clock().now(), plug.target);
        }
        self.state = State::Down;
        self.stalled_until = Duration::ZERO;
        self.take_tasks()
    }

    /// The target's machine is gone, and the switch with it.
    pub(super) fn forget(&mut self) -> Vec<OpId> {
        if let Some(plug) = self.plug.take() {
            self.lost_before += plug.wire.lost();
        }
        self.state = State::Down;
        self.stalled_until = Duration::ZERO;
        self.take_tasks()
    }

    fn take_tasks(&mut self) -> Vec<OpId> {
        let tasks = std::mem::take(&mut self.tasks).into_values();
        tasks.flat_map(|task| [Some(task.op), task.abort.and_then(|abort| abort.function)]).flatten().collect()
    }

    pub(super) fn log_out(&mut self) {
        self.state = State::LoggingOut;
        if let Some(plug) = &mut self.plug {
            let logo = Els::Logo { port_id: plug.initiator.address(), port_name: self.port_name };
            plug.initiator.request(plug.san.clock().now(), plug.target, &logo);
        }
    }

    pub(super) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
        if let Some(plug) = &self.plug {
            plug.wire.set_faults(faults);
        }
    }

    /// Unplugs it and plugs it in.
    pub(super) fn flap(&self) {
        if let Some(plug) = &self.plug {
            plug.wire.flap();
        }
    }

    /// Initialises a link anew on which the registration got stuck.
    pub(super) fn reset_unless_up(&mut self) {
        if self.plug.as_ref().is_some_and(|plug| !plug.up) {
            self.flap();
        }
    }

    /// Frames that were lost so far.
    pub(super) fn lost(&self) -> u64 {
        self.lost_before + self.plug.as_ref().map_or(0, |plug| plug.wire.lost())
    }

    /// Information units that the target has agreed to send again.
    pub(super) fn again(&self) -> u64 {
        self.again
    }

    pub(super) fn window(&self) -> u32 {
        WINDOW.saturating_sub(self.tasks.len() as u32)
    }

    pub(super) fn is_busy(&self) -> bool {
        !self.tasks.is_empty() || matches!(self.state, State::LoggingIn | State::LoggingOut)
    }

    /// Commands under way, by a number of its own.
    pub(super) fn open_tasks(&self) -> Vec<(u32, OpId)> {
        let open = self.tasks.values().filter(|task| task.expected.is_some() && task.abort.is_none());
        open.map(|task| (task.op as u32, task.op)).collect()
    }

    /// When it has something to do by itself.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        let plug = self.plug.as_ref()?;
        let due = self.tasks.values().map(|task| task.due).chain(plug.initiator.poll_timeout()).min()?;
        Some(plug.san.elapsed() + due.saturating_duration_since(plug.san.clock().now()))
    }

    pub(super) fn command(&mut self, op: OpId, command: &Command) {
        let lost = self.lost();
        let Some(plug) = &mut self.plug else { return };
        let now = plug.san.clock().now();
        let mut cdb = command.cdb.clone();
        cdb.resize(cdb.len().max(16), 0);
        let expected = if command.data.is_empty() { command.read_length } else { command.data.len() as u32 };
        let sent = FcCommand {
            lun: command.lun,
            cdb,
            attribute: command.attribute,
            data_out: command.data.clone(),
            data_in_length: command.read_length,
        };
        let exchange = plug.initiator.submit(now, plug.target, sent);
        let (reads, recovery) = (command.read_length > 0, Recovery::Left(LOOKS));
        let task = Task { op, expected: Some(expected), reads, lost, due: now + self.patience, recovery, abort: None };
        self.tasks.insert(exchange, task);
    }

    pub(super) fn manage(&mut self, op: OpId, function: Function, lun: u16, referenced: Option<u32>) {
        let lost = self.lost();
        let Some(plug) = &mut self.plug else { return };
        let now = plug.san.clock().now();
        let named = self.tasks.iter_mut().find(|(_, task)| Some(task.op as u32) == referenced);
        if let Some((exchange, task)) = named {
            // ABTS is what Fibre Channel has for ABORT TASK.
            task.abort = Some(Abort { first: now, last: now, lost, function: Some(op) });
            task.due = now + self.patience;
            plug.initiator.abort(now, *exchange);
            return;
        }
        let function = match function {
            Function::ABORT_TASK_SET => TaskManagementFunction::AbortTaskSet,
            Function::CLEAR_TASK_SET => TaskManagementFunction::ClearTaskSet,
            _ => TaskManagementFunction::LogicalUnitReset,
        };
        let lun = Lun::new(lun).unwrap_or_default();
        if let Some(exchange) = plug.initiator.manage(now, plug.target, lun, function) {
            let (due, recovery) = (now + self.patience, Recovery::Left(0));
            let task = Task { op, expected: None, reads: false, lost, due, recovery, abort: None };
            self.tasks.insert(exchange, task);
        }
    }

    /// Gives a command up that will not be answered; its exchange is aborted, and the end of that is of no interest.
    pub(super) fn give_up(&mut self, op: OpId) {
        let Some((exchange, _)) = self.tasks.iter().find(|(_, task)| task.op == op) else { return };
        let exchange = *exchange;
        self.tasks.remove(&exchange);
        if let Some(plug) = &mut self.plug {
            plug.initiator.abort(plug.san.clock().now(), exchange);
        }
    }

    /// Takes what has come. True when something has.
    pub(super) fn poll(&mut self, out: &mut Vec<Said>) -> bool {
        let Some(plug) = &mut self.plug else { return false };
        let mut moved = false;
        let mut events = Vec::new();
        loop {
            plug.san.settle();
            let progress = plug.initiator.drive(plug.san.clock().now());
            events.extend(std::iter::from_fn(|| plug.initiator.poll_event()));
            if !progress {
                break;
            }
            moved = true;
        }
        moved |= !events.is_empty();
        let now = plug.san.clock().now();
        // Exchanges that end with a login have ended without an answer.
        let gone = events.iter().any(|event| matches!(event, Event::Down | Event::LoggedOut(_)));
        let mut closed = None;
        for event in events {
            if let Some(why) = self.take(now, event, gone, out) {
                closed.get_or_insert(why);
            }
        }
        if closed.is_none() {
            match self.hurry(now) {
                Ok(hurried) => moved |= hurried,
                Err(said) => out.push(said),
            }
        }
        if let Some(why) = closed.filter(|_| self.state != State::Down) {
            out.push(Said::Closed(why));
        }
        moved
    }

    /// One event; why the login is over, if it is.
    fn take(&mut self, now: Instant, event: Event, gone: bool, out: &mut Vec<Said>) -> Option<String> {
        if let Event::Answered(request, answer) = &event
            && self.looked(now, *request, answer.as_deref())
        {
            return None;
        }
        let plug = self.plug.as_mut()?;
        match event {
            Event::Up(_) => {
                plug.up = true;
                if self.state == State::LoggingIn {
                    plug.initiator.log_in(now, plug.target);
                }
            }
            Event::Down => {
                plug.up = false;
                return Some("the link is down".into());
            }
            Event::LoggedOut(_) => return Some("logged out by the target".into()),
            Event::Changed(ids) if ids.contains(&plug.target) => return Some("the target has changed".into()),
            Event::Refused(..) if self.state == State::LoggingIn => return Some("the login is refused".into()),
            Event::LoggedIn(_) if self.state == State::LoggingIn => {
                self.state = State::Up;
                out.push(Said::LoggedIn);
            }
            Event::Answered(..) if self.state == State::LoggingOut => return Some("logged out".into()),
            Event::Done(exchange, outcome) => return self.done(now, exchange, outcome, gone, out),
            _ => {}
        }
        None
    }

    fn done(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        outcome: Outcome,
        gone: bool,
        out: &mut Vec<Said>,
    ) -> Option<String> {
        let lost = self.lost();
        let task = self.tasks.remove(&exchange)?;
        let Some(response) = outcome.response else {
            let unanswered = task.abort.filter(|abort| now >= abort.last + R_A_TOV);
            if gone || unanswered.is_some() {
                self.tasks.insert(exchange, task);
                return Some("an abort was not answered".into());
            }
            out.push(match task.abort.and_then(|abort| abort.function) {
                Some(function) => Said::Managed(function, 0),
                None => Said::Gone(task.op),
            });
            return None;
        };
        match (task.expected, response.response) {
            (None, Some((_, code))) => out.push(Said::Managed(task.op, code.0)),
            (None, None) => out.push(Said::Violation("a function is answered without a code".into())),
            (Some(_), Some((_, code))) if code.0 != 0 => {
                out.push(Said::Violation(format!("response code {}", code.0)));
            }
            (Some(expected), _) => {
                let status = Status(response.status);
                let due = expected.saturating_sub(response.underflow) as usize;
                let short = task.reads && (!outcome.whole || outcome.data.len() != due);
                if status == Status::GOOD && short && lost > task.lost {
                    // Data is missing that the wire has lost: to its user it has failed.
                    out.push(Said::Gone(task.op));
                } else {
                    let residual = match (response.overflow, response.underflow) {
                        (0, 0) => Residual::None,
                        (0, under) => Residual::Underflow(under),
                        (over, _) => Residual::Overflow(over),
                    };
                    let sense = SenseData::decode(&response.sense);
                    let (data, sent) = (outcome.data.to_vec(), outcome.sent as u32);
                    let crossed = task.abort.is_some();
                    let late = !matches!(task.recovery, Recovery::Left(LOOKS));
                    let ending = Ending { status, sense, data, residual, sent, crossed, late, lied: false };
                    out.push(Said::Ended(task.op, Box::new(ending)));
                }
            }
        }
        if let Some(function) = task.abort.and_then(|abort| abort.function) {
            out.push(Said::Managed(function, 0));
        }
        None
    }

    /// Takes the answer to REC or SRR; `false` when it is one to something else.
    fn looked(&mut self, now: Instant, request: ExchangeId, answer: Option<&[u8]>) -> bool {
        let lost = self.lost();
        let Some(plug) = &mut self.plug else { return false };
        let wanted = |task: &Task| match task.recovery {
            Recovery::Asked(asked, _) | Recovery::Again { request: asked, .. } => asked == request,
            _ => false,
        };
        let Some((&exchange, task)) = self.tasks.iter_mut().find(|(_, task)| wanted(task)) else { return false };
        let accepted = answer.is_some_and(|answer| answer.first() == Some(&ElsCommand::LS_ACC.0));
        // What is not known there, or cannot be had again, is aborted.
        (task.recovery, task.due) = match task.recovery {
            Recovery::Asked(_, left) => match answer.filter(|_| accepted).map(RecAnswer::decode) {
                Some(Ok(state)) => {
                    let wish = match state {
                        RecAnswer { complete: true, .. } if task.reads => Some((0, RoutingControl::DATA)),
                        RecAnswer { complete: true, .. } => Some((0, RoutingControl::RESPONSE)),
                        RecAnswer { initiative: false, .. } => {
                            Some((state.transferred, RoutingControl::TRANSFER_READY))
                        }
                        _ => None,
                    };
                    match wish {
                        Some((offset, unit)) => {
                            (plug.again(now, exchange, offset, unit, lost, left), now + self.patience)
                        }
                        // The target is at work on it.
                        None => (Recovery::Left(left), now + self.patience),
                    }
                }
                _ => (Recovery::Left(0), now),
            },
            Recovery::Again { again, .. } if accepted => {
                self.again += 1;
                (Recovery::Agreed(again), now + self.patience)
            }
            // There was no data: a response alone.
            Recovery::Again { again, .. } if again.unit == RoutingControl::DATA => {
                (plug.again(now, exchange, 0, RoutingControl::RESPONSE, lost, again.left), now + self.patience)
            }
            _ => (Recovery::Left(0), now),
        };
        true
    }

    /// Looks into what takes too long, or aborts it, again if need be.
    fn hurry(&mut self, now: Instant) -> Result<bool, Said> {
        let lost = self.lost();
        let Some(plug) = &mut self.plug else { return Ok(false) };
        let agreed = plug.initiator.remote(plug.target).map(|remote| FcpService(remote.service_parameters));
        let retries = self.offer.has(FcpService::RETRY) && agreed.is_some_and(|agreed| agreed.has(FcpService::RETRY));
        let mut hurried = false;
        for (exchange, task) in self.tasks.iter_mut().filter(|(_, task)| task.due <= now) {
            hurried = true;
            if task.abort.is_none() && retries && self.state == State::Up {
                if let Recovery::Agreed(again) = task.recovery {
                    let came = again.unit == RoutingControl::TRANSFER_READY
                        && plug.initiator.transfers_asked_for(*exchange) != Some(again.transfers);
                    if !came && again.lost == lost {
                        let words =
                            format!("{:?} was agreed to be sent again, was not, and no frame was lost", again.unit);
                        return Err(Said::Broken(task.op, words));
                    }
                    task.recovery = Recovery::Left(again.left);
                }
                if let Recovery::Left(left @ 1..) = task.recovery
                    && let Some(request) = plug.look(now, *exchange)
                {
                    task.recovery = Recovery::Asked(request, left - 1);
                    task.due = now + self.patience;
                    continue;
                }
            }
            let abort = task.abort.unwrap_or(Abort { first: now, last: now, lost, function: None });
            if abort.lost == lost && now >= abort.first + ABORT_TIME && self.state == State::Up {
                let words = format!("the abort of op {} is not answered, and no frame was lost", task.op);
                return Err(Said::Violation(words));
            }
            task.abort = Some(Abort { last: now, ..abort });
            task.due = now + self.patience;
            plug.initiator.abort(now, *exchange);
        }
        Ok(hurried)
    }
}

impl Plug {
    /// Asks how far a command is: REC.
    fn look(&mut self, now: Instant, exchange: ExchangeId) -> Option<ExchangeId> {
        let (ox_id, rx_id) = self.initiator.wire_names(exchange)?;
        let rec = Els::Rec { originator: self.initiator.address(), ox_id, rx_id };
        Some(self.initiator.request(now, self.target, &rec))
    }

    /// Asks for a unit again: SRR.
    fn again(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        offset: u32,
        unit: RoutingControl,
        lost: u64,
        left: u8,
    ) -> Recovery {
        let transfers = self.initiator.transfers_asked_for(exchange).unwrap_or(0);
        match self.initiator.ask_again(now, self.target, exchange, offset, unit) {
            Some(request) => Recovery::Again { request, again: Again { unit, lost, transfers, left } },
            None => Recovery::Left(0),
        }
    }
}

//! Commands: to the logical units, and what those want.

use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{
    AdditionalSense, Lun, SenseData, SenseKey, Status, TaskManagementFunction, TaskManagementResponse, fixed_length,
};
use smallvec::SmallVec;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;
use stmf::provider::hba::{ExchangeId, HbaRequest, PortId};
use stmf::provider::{
    Completion, Disturbance, Effect, Effects, LogicalUnit, LuTask, Segments, StoreOp, StoreRequest,
    TaskManagementRequest,
};
use stmf::traffic::{Clocked, Counters};
use stmf::{NexusId, TaskId, TaskTag};

use super::{Asked, MAX_STRANGERS, Port, StoreJob, segments};
use crate::share::is_fair;
use crate::wire::{FcpCommand, FcpResponse, ResponseCode, flat, length};

/// Marks the tags of aborts among those of commands.
const ABORT: u64 = 1 << 62;

/// A command that has not ended.
#[derive(Debug)]
pub(super) struct Task {
    nexus: NexusId,
    remote: PortId,
    lun: Lun,
    lu: Option<Arc<dyn LogicalUnit>>,
    clocked: Clocked,
    data_in: u32,
    data_out: u32,
    /// Bytes sent.
    sent: u32,
    /// Data that has to wait for what comes before it.
    pieces: BTreeMap<u32, Segments>,
    /// Bursts to ask for.
    wanted: VecDeque<(u32, u32)>,
    receiving: bool,
    queued: bool,
}

/// A unit attention that a response tells, until the exchange is over.
#[derive(Debug)]
pub(super) struct Told {
    exchange: ExchangeId,
    nexus: NexusId,
    lun: Lun,
    code: AdditionalSense,
}

/// Unit attentions that are kept in mind; the oldest are forgotten.
const MAX_TOLD: usize = 64;

/// The unit attention that a command ends with.
fn attention_of(completion: &Completion) -> Option<AdditionalSense> {
    let sense = SenseData::decode(&completion.sense).filter(|_| completion.status == Status::CHECK_CONDITION)?;
    (sense.key == SenseKey::UNIT_ATTENTION).then_some(sense.code)
}

/// A task management function that has not ended.
#[derive(Debug)]
pub(super) struct Managing {
    nexus: NexusId,
    exchange: ExchangeId,
}

impl Port {
    pub(super) fn take_command(&mut self, now: Instant, exchange: ExchangeId, from: PortId, payload: &Segments) {
        let session = self.remotes.get(&from).and_then(|remote| remote.session.clone());
        let Some(session) = session else {
            // Somebody who believes to be logged in has to hear that it is not.
            self.lower(now, HbaRequest::Terminate(exchange));
            if self.asked.values().filter(|&&asked| asked == Asked::Stranger).count() < MAX_STRANGERS {
                self.say_logo(now, from, Asked::Stranger);
            }
            return self.log_out(now, from, "it sent a command without a process login");
        };
        let command = match FcpCommand::decode(&flat(payload, FcpCommand::MAX_LENGTH)) {
            Ok(command) => command,
            Err(_) => return self.respond_code(now, exchange, from, ResponseCode::INVALID_COMMAND, [0; 3]),
        };
        let own = self.remotes.get(&from).map_or(0, |remote| remote.tasks);
        if !is_fair(own, self.max_exchanges.saturating_sub(self.tasks.len())) {
            let full = FcpResponse { status: Status::TASK_SET_FULL.0, ..FcpResponse::default() };
            return self.lower(now, HbaRequest::Respond { exchange, payload: segments(full.encode()) });
        }
        let tag = TaskTag(exchange.0);
        if let Some(management) = command.management {
            let Some(function) = management.function() else {
                return self.respond_code(now, exchange, from, ResponseCode::INVALID_COMMAND, [0; 3]);
            };
            return self.manage(now, &session, command.lun, function, None, tag, exchange);
        }
        let (data_out, data_in) = match (command.write, command.read) {
            (true, true) => (command.data_length, command.bidirectional_read_length),
            (true, false) => (command.data_length, 0),
            (false, true) => (0, command.data_length),
            (false, false) => (0, 0),
        };
        let task = Task {
            nexus: session.id(),
            remote: from,
            lun: command.lun,
            lu: None,
            clocked: Clocked::new(&command.cdb, now),
            data_in,
            data_out,
            sent: 0,
            pieces: BTreeMap::new(),
            wanted: VecDeque::new(),
            receiving: false,
            queued: false,
        };
        self.tasks.insert(tag, task);
        if let Some(remote) = self.remotes.get_mut(&from) {
            remote.tasks += 1;
        }
        let id = TaskId { nexus: session.id(), tag };
        let (lun, attribute) = (command.lun, command.attribute);
        let cdb = cut(&command.cdb);
        let priority = command.priority;
        let task = LuTask { id, lun, attribute, priority, cdb, data_out_length: data_out, data_in_length: data_in };
        let mut effects = Effects::new();
        let lu = session.submit(task, &mut effects);
        if let Some(task) = self.tasks.get_mut(&tag) {
            task.lu = lu.clone();
        }
        if let Some(counters) = self.session_counters.get(&session.id()) {
            counters.begin();
        }
        if let Some(lu) = &lu {
            self.unit_counters.of(&self.traffic, lu).begin();
        }
        self.take_effects(now, lu.as_ref(), effects);
    }

    pub(super) fn take_data(&mut self, now: Instant, exchange: ExchangeId, offset: u32, data: Segments) {
        let tag = TaskTag(exchange.0);
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        if !std::mem::replace(&mut task.receiving, false) {
            return;
        }
        self.bursts.end(task.remote);
        if !task.wanted.is_empty() && !task.queued {
            task.queued = true;
            self.bursts.want(task.remote, tag);
        }
        let (Some(lu), nexus) = (task.lu.clone(), task.nexus) else { return };
        if let Some(session) = self.session(nexus) {
            session.counters().add_written(length(&data) as u64);
        }
        let mut effects = Effects::new();
        lu.data_out(TaskId { nexus, tag }, offset, data, &mut effects);
        self.take_effects(now, Some(&lu), effects);
    }

    /// Keeps in mind what unit attention a response tells, in case it does not arrive.
    fn remember(&mut self, told: Told) {
        if self.told.len() >= MAX_TOLD {
            self.told.pop_front();
        }
        self.told.push_back(told);
    }

    /// ABTS: ABORT TASK.
    pub(super) fn take_abort(&mut self, now: Instant, exchange: ExchangeId) {
        let tag = TaskTag(exchange.0);
        // An initiator that aborts what was answered has not got the answer.
        if let Some(at) = self.told.iter().position(|told| told.exchange == exchange)
            && let Some(told) = self.told.remove(at)
            && let Some(session) = self.session(told.nexus)
            && !is_active(Mutation::FcAttentionLost)
        {
            session.restore_attention(told.lun, told.code);
        }
        let found = self.tasks.get(&tag).map(|task| (task.nexus, task.lun));
        let session = found.and_then(|(nexus, _)| self.session(nexus));
        let (Some((_, lun)), Some(session)) = (found, session) else {
            return self.lower(now, HbaRequest::AbortDone(exchange));
        };
        if is_active(Mutation::FcAbortDoesNothing) {
            return self.lower(now, HbaRequest::AbortDone(exchange));
        }
        let abort = TaskTag(exchange.0 | ABORT);
        self.manage(now, &session, lun, TaskManagementFunction::AbortTask, Some(tag), abort, exchange);
    }

    /// An exchange is over below. A command whose exchange was lost is aborted, and nobody is told.
    pub(super) fn exchange_ended(&mut self, now: Instant, exchange: ExchangeId) {
        if self.tasks.contains_key(&TaskTag(exchange.0)) {
            self.take_abort(now, exchange);
        }
    }

    fn manage(
        &mut self,
        now: Instant,
        session: &Arc<stmf::Session>,
        lun: Lun,
        function: TaskManagementFunction,
        referenced: Option<TaskTag>,
        tag: TaskTag,
        exchange: ExchangeId,
    ) {
        if self.managing.contains_key(&tag) {
            return;
        }
        self.managing.insert(tag, Managing { nexus: session.id(), exchange });
        let request = TaskManagementRequest { nexus: session.id(), tag, function, referenced };
        let mut effects = Effects::new();
        let calls = session.manage(lun, request, &mut effects);
        self.take_effects(now, None, effects);
        for call in calls {
            let mut effects = Effects::new();
            call.lu.manage(call.request, &mut effects);
            self.take_effects(now, Some(&call.lu), effects);
        }
    }

    /// Carries out effects; those for others go to them.
    pub(super) fn take_effects(&mut self, now: Instant, lu: Option<&Arc<dyn LogicalUnit>>, mut effects: Effects) {
        if let Some(lu) = lu {
            let nexuses = &self.nexuses;
            self.stmf.dispatch(lu, &mut effects, |nexus| nexuses.contains_key(&nexus));
        }
        for effect in effects {
            self.take_effect(now, lu, effect);
        }
    }

    fn take_effect(&mut self, now: Instant, lu: Option<&Arc<dyn LogicalUnit>>, effect: Effect) {
        match effect {
            Effect::Store(request) => self.store(lu, request),
            Effect::ReceiveData { task, offset, length } => self.want(task.tag, offset, length),
            Effect::SendData { task, offset, data } => self.send(now, task.tag, offset, data),
            Effect::Complete(completion) => self.complete(now, lu, &completion),
            Effect::Aborted { task, report } => {
                let Some(_) = self.abandon_task(task.tag) else { return };
                // Aborted by ABTS, the end of that is its answer.
                if self.managing.contains_key(&TaskTag(task.tag.0 | ABORT)) {
                    return;
                }
                let exchange = ExchangeId(task.tag.0);
                if report {
                    let aborted = FcpResponse { status: Status::TASK_ABORTED.0, ..FcpResponse::default() };
                    let payload = segments(aborted.encode());
                    self.lower(now, HbaRequest::Respond { exchange, payload });
                } else {
                    self.lower(now, HbaRequest::Terminate(exchange));
                }
            }
            Effect::Managed { tag, response, .. } => self.managed(now, tag, response),
            Effect::Disturb { task, disturbance } => {
                if matches!(disturbance, Disturbance::DropConnection | Disturbance::EndSession)
                    && let Some(remote) = self.tasks.get(&task.tag).map(|task| task.remote)
                {
                    self.say_logo(now, remote, Asked::Farewell);
                    self.log_out(now, remote, "it was disturbed on purpose");
                }
            }
        }
    }

    fn store(&mut self, lu: Option<&Arc<dyn LogicalUnit>>, request: StoreRequest) {
        if let Some(lu) = lu {
            self.stores.push_back(StoreJob { lu: Arc::clone(lu), request });
        }
    }

    /// What is read for a command may go right to the adapter's memory, if the adapter lends any.
    pub(super) fn lend_room(&mut self, request: &mut StoreRequest) {
        if let StoreOp::Read { length, lands: Some(landing), .. } = &mut request.op
            && let Some(task) = self.tasks.get(&landing.task.tag)
            && task.nexus == landing.task.nexus
            && landing.offset.checked_add(*length).is_some_and(|end| end <= task.data_in)
        {
            landing.room = self.hba.lend_room(ExchangeId(landing.task.tag.0), landing.offset, *length);
        }
    }

    /// A unit wants data of a write: it is asked for in bursts, one at a time.
    fn want(&mut self, tag: TaskTag, offset: u32, length: u32) {
        let burst = self.config.max_burst_length;
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        let end = offset.saturating_add(length).min(task.data_out);
        let mut at = offset;
        while at < end {
            let count = burst.min(end - at);
            task.wanted.push_back((at, count));
            at += count;
        }
        if !task.wanted.is_empty() && !task.receiving && !task.queued {
            task.queued = true;
            self.bursts.want(task.remote, tag);
        }
    }

    /// Asks for bursts, as many as may be on their way at once.
    pub(super) fn start_bursts(&mut self, now: Instant) {
        while let Some((remote, tag)) = self.bursts.next() {
            let Some(task) = self.tasks.get_mut(&tag) else { continue };
            task.queued = false;
            let Some((offset, length)) = task.wanted.pop_front() else { continue };
            task.receiving = true;
            self.bursts.begin(remote);
            self.lower(now, HbaRequest::Receive { exchange: ExchangeId(tag.0), offset, length });
        }
    }

    /// Sends data of a read, in order, and no more than there is room for.
    fn send(&mut self, now: Instant, tag: TaskTag, offset: u32, data: Segments) {
        let Some(task) = self.tasks.get_mut(&tag) else { return };
        task.pieces.insert(offset, data);
        let mut ready = Vec::new();
        while let Some(data) = task.pieces.remove(&task.sent) {
            let room = (task.data_in - task.sent) as usize;
            let data = shorten(data, room);
            let count = length(&data) as u32;
            if count == 0 {
                break;
            }
            ready.push((task.sent, data));
            task.sent += count;
        }
        let nexus = task.nexus;
        let offload = self.hba.offload();
        for (offset, data) in ready {
            if let Some(session) = self.session(nexus) {
                session.counters().add_read(length(&data) as u64);
            }
            let exchange = ExchangeId(tag.0);
            for (offset, data) in split(offset, data, offload.max_segments, offload.max_transfer_length) {
                self.lower(now, HbaRequest::SendData { exchange, offset, data });
            }
        }
    }

    fn complete(&mut self, now: Instant, lu: Option<&Arc<dyn LogicalUnit>>, completion: &Completion) {
        let tag = completion.task.tag;
        let attention = attention_of(completion);
        let Some(task) = self.remove_task(tag) else {
            // Its end comes from another thread, and an abort was answered meanwhile.
            if let (Some(code), Some(lu)) = (attention, lu) {
                lu.restore_attention(completion.task.nexus, code);
            }
            return;
        };
        if self.managing.contains_key(&TaskTag(tag.0 | ABORT)) {
            self.count_end(&task);
            // The initiator asked for no answer any more: what it would have told is still to be told.
            if let (Some(code), Some(session)) = (attention, self.session(task.nexus)) {
                session.restore_attention(task.lun, code);
            }
            return;
        }
        if let Some(code) = attention {
            self.remember(Told { exchange: ExchangeId(tag.0), nexus: task.nexus, lun: task.lun, code });
        }
        let count = |counters: &Counters| {
            task.clocked.complete(counters, completion.data_length, completion.status, now);
        };
        if let Some(counters) = self.session_counters.get(&task.nexus) {
            count(counters);
        }
        if let Some(lu) = &task.lu {
            count(self.unit_counters.of(&self.traffic, lu));
        }
        let expected = u64::from(if task.data_in > 0 { task.data_in } else { task.data_out });
        let moved = completion.data_length;
        let confirm =
            completion.status != Status::GOOD && self.remotes.get(&task.remote).is_some_and(|remote| remote.confirm);
        let response = FcpResponse {
            status: completion.status.0,
            overflow: u32::try_from(moved.saturating_sub(expected)).unwrap_or(u32::MAX),
            underflow: u32::try_from(expected.saturating_sub(moved)).unwrap_or(u32::MAX)
                + u32::from(is_active(Mutation::FcResidualOffByOne) && moved < expected),
            confirm,
            sense: if is_active(Mutation::FcSenseLeftOut) { SmallVec::new() } else { completion.sense.clone() },
            ..FcpResponse::default()
        };
        let payload = segments(response.encode());
        self.lower(now, HbaRequest::Respond { exchange: ExchangeId(tag.0), payload });
    }

    fn managed(&mut self, now: Instant, tag: TaskTag, response: TaskManagementResponse) {
        let Some(nexus) = self.managing.get(&tag).map(|managing| managing.nexus) else { return };
        let Some(session) = self.session(nexus) else { return };
        // A reset of the whole target waits for all its units.
        let Some(response) = session.managed(tag, response) else { return };
        let Some(Managing { exchange, .. }) = self.managing.remove(&tag) else { return };
        if tag.0 & ABORT != 0 {
            self.abandon_task(TaskTag(tag.0 & !ABORT));
            return self.lower(now, HbaRequest::AbortDone(exchange));
        }
        let (code, additional) = match response {
            TaskManagementResponse::FunctionComplete => (ResponseCode::COMPLETE, [0; 3]),
            TaskManagementResponse::FunctionSucceeded { additional } => (ResponseCode::SUCCEEDED, additional),
            TaskManagementResponse::FunctionRejected => (ResponseCode::REJECTED, [0; 3]),
            TaskManagementResponse::IncorrectLun => (ResponseCode::INCORRECT_LUN, [0; 3]),
            TaskManagementResponse::TaskDoesNotExist => (ResponseCode::COMPLETE, [0; 3]),
        };
        let remote = self.nexuses.get(&nexus).copied().unwrap_or_default();
        self.respond_code(now, exchange, remote, code, additional);
    }

    fn respond_code(
        &mut self,
        now: Instant,
        exchange: ExchangeId,
        _remote: PortId,
        code: ResponseCode,
        additional: [u8; 3],
    ) {
        let response = FcpResponse { response: Some((additional, code)), ..FcpResponse::default() };
        self.lower(now, HbaRequest::Respond { exchange, payload: segments(response.encode()) });
    }

    /// Forgets the commands of a nexus that ends.
    pub(super) fn drop_tasks(&mut self, now: Instant, nexus: NexusId) {
        let gone = self.tasks.iter().filter(|(_, task)| task.nexus == nexus).map(|(tag, _)| *tag);
        let mut gone: Vec<TaskTag> = gone.collect();
        gone.sort_unstable_by_key(|tag| tag.0);
        for tag in gone {
            self.abandon_task(tag);
            self.lower(now, HbaRequest::Terminate(ExchangeId(tag.0)));
        }
        let managing = self.managing.iter().filter(|(_, managing)| managing.nexus == nexus);
        let managing = managing.map(|(tag, managing)| (*tag, managing.exchange));
        let mut managing: Vec<(TaskTag, ExchangeId)> = managing.collect();
        managing.sort_unstable_by_key(|(tag, _)| tag.0);
        for (tag, exchange) in managing {
            self.managing.remove(&tag);
            self.lower(now, HbaRequest::Terminate(exchange));
        }
    }

    fn remove_task(&mut self, tag: TaskTag) -> Option<Task> {
        let task = self.tasks.remove(&tag)?;
        if task.receiving {
            self.bursts.end(task.remote);
        }
        if let Some(remote) = self.remotes.get_mut(&task.remote) {
            remote.tasks = remote.tasks.saturating_sub(1);
        }
        Some(task)
    }

    /// The same for a command that ends without a status.
    fn abandon_task(&mut self, tag: TaskTag) -> Option<Task> {
        let task = self.remove_task(tag)?;
        self.count_end(&task);
        Some(task)
    }

    fn count_end(&mut self, task: &Task) {
        if let Some(counters) = self.session_counters.get(&task.nexus) {
            counters.end(1);
        }
        if let Some(lu) = &task.lu {
            self.unit_counters.of(&self.traffic, lu).end(1);
        }
    }

    fn session(&self, nexus: NexusId) -> Option<Arc<stmf::Session>> {
        self.remotes.get(self.nexuses.get(&nexus)?)?.session.clone()
    }
}

/// The CDB without what the field of 16 bytes has behind it.
fn cut(cdb: &[u8]) -> &[u8] {
    let Some(&opcode) = cdb.first() else { return cdb };
    let length = match fixed_length(opcode) {
        Some(length) => length,
        // Of variable length: it says so itself.
        None if opcode == 0x7f => 8 + usize::from(cdb.get(7).copied().unwrap_or(8)),
        None => 16,
    };
    &cdb[..length.min(cdb.len())]
}

/// At most `room` bytes of it.
fn shorten(data: Segments, mut room: usize) -> Segments {
    let mut out = Segments::new();
    for mut piece in data {
        piece.truncate(room);
        room -= piece.len();
        if !piece.is_empty() {
            out.push(piece);
        }
    }
    out
}

/// Pieces that an adapter takes: of so many slices and bytes.
fn split(offset: u32, data: Segments, max_segments: usize, max_length: u32) -> Vec<(u32, Segments)> {
    let (max_segments, max_length) = (max_segments.max(1), max_length.max(512) as usize);
    if data.len() <= max_segments && length(&data) <= max_length {
        return vec![(offset, data)];
    }
    let (mut out, mut at, mut current, mut count) = (Vec::new(), offset, Segments::new(), 0);
    for mut piece in data {
        while !piece.is_empty() {
            if current.len() == max_segments || count == max_length {
                out.push((at, std::mem::take(&mut current)));
                at += count as u32;
                count = 0;
            }
            let part = piece.split_to(piece.len().min(max_length - count));
            count += part.len();
            current.push(part);
        }
    }
    if count > 0 {
        out.push((at, current));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use smallvec::smallvec;

    #[test]
    fn a_cdb_has_the_length_of_its_opcode() {
        assert_eq!(cut(&[0x00; 16]).len(), 6);
        assert_eq!(cut(&[0x28; 16]).len(), 10);
        assert_eq!(cut(&[0x8a; 16]).len(), 16);
        let mut variable = [0; 32];
        (variable[0], variable[7]) = (0x7f, 24);
        assert_eq!(cut(&variable).len(), 32);
    }

    #[test]
    fn long_lists_are_split_as_the_adapter_wants() {
        let data: Segments = smallvec![Bytes::from(vec![1; 700]), Bytes::from(vec![2; 700])];
        let pieces = split(100, data.clone(), 4, 1024);
        assert_eq!(pieces.iter().map(|(at, data)| (*at, length(data))).collect::<Vec<_>>(), [(100, 1024), (1124, 376)]);
        let pieces = split(0, data, 1, 4096);
        assert_eq!(pieces.iter().map(|(at, data)| (*at, length(data))).collect::<Vec<_>>(), [(0, 700), (700, 700)]);
    }
}

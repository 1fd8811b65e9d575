//! Events of a session: commands and their data on the way to logical units, requests, endings.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use iscsi_proto::name::IscsiName;
use iscsi_proto::target::{
    Command, ConnectionKey, EndReason, Event, SendTargetsScope, Session, TaskHandle, TaskManagement, TextHandle,
};
use scsi_core::mutation::{Mutation, is_active};
use scsi_core::{TaskManagementFunction, TaskManagementResponse};
use smallvec::SmallVec;
use stmf::provider::{LuTask, Segments, StoreDone, StoreError, StoreErrorKind, StoreOutcome, TaskManagementRequest};
use stmf::{NexusId, TaskId, TaskTag, Termination};

use super::tasks::Tasks;
use super::timers::Timer;
use super::{ConnectionId, SessionKey, Stage, StoreJob, Worker, WorkerEvent};
use crate::notice::Notice;
use crate::session_map::SessionName;
use stmf::traffic::{Clocked, Counters, Direction};

/// Marks the tag of a request that the worker itself makes, on behalf of the protocol: its answer goes nowhere.
const OWN_REQUEST: u64 = 1 << 63;

/// A session and what the worker keeps with it.
pub(super) struct SessionEntry {
    pub(super) protocol: Session,
    /// `None` for a discovery session, and once the session has ended.
    pub(super) nexus: Option<Arc<stmf::Session>>,
    pub(super) name: Option<SessionName>,
    pub(super) sockets: SmallVec<[(ConnectionKey, ConnectionId); 1]>,
    pub(super) tasks: Tasks,
    /// Reads that wait until less is unsent.
    pub(super) deferred_reads: VecDeque<StoreJob>,
    /// Bytes of reads that are being carried out.
    pub(super) reading: u64,
    /// Data that units ask for and that waits until less of it is held.
    deferred_data: VecDeque<(TaskTag, u32, u32)>,
    /// The task whose data does not wait, so that one ends whatever the others need.
    favoured: Option<TaskTag>,
    pub(super) scheduled: Option<Instant>,
    pub(super) ended: bool,
    /// On the worker's list of sessions to drive.
    pub(super) listed: bool,
    /// `None` for a discovery session.
    pub(super) counters: Option<Arc<Counters>>,
}

impl SessionEntry {
    pub(super) fn new(protocol: Session, nexus: Option<Arc<stmf::Session>>, name: Option<SessionName>) -> Self {
        Self {
            protocol,
            nexus,
            name,
            sockets: SmallVec::new(),
            tasks: Tasks::default(),
            deferred_reads: VecDeque::new(),
            reading: 0,
            deferred_data: VecDeque::new(),
            favoured: None,
            scheduled: None,
            ended: false,
            listed: false,
            counters: None,
        }
    }

    pub(super) fn nexus_id(&self) -> Option<NexusId> {
        self.nexus.as_ref().map(|nexus| nexus.id())
    }

    pub(super) fn forget_socket(&mut self, id: ConnectionId) {
        self.sockets.retain(|(_, socket)| *socket != id);
    }

    fn socket(&self, key: ConnectionKey) -> Option<ConnectionId> {
        self.sockets.iter().find(|(connection, _)| *connection == key).map(|(_, socket)| *socket)
    }

    /// Bytes of reads that are under way or not yet sent.
    pub(super) fn unsent_reads(&self) -> u64 {
        self.sockets.iter().map(|(key, _)| self.protocol.unsent_bytes(*key) as u64).sum::<u64>() + self.reading
    }
}

impl Worker {
    /// Puts a session on the list of those whose events are due.
    pub(super) fn touch(&mut self, key: SessionKey) {
        if let Some(entry) = self.sessions.get_mut(key)
            && !entry.listed
        {
            entry.listed = true;
            self.touched.push(key);
        }
    }

    /// Drains the events of every touched session, and of those that doing so touches.
    pub(super) fn settle(&mut self, now: Instant) {
        while let Some(key) = self.touched.pop() {
            let Some(entry) = self.sessions.get_mut(key) else { continue };
            entry.listed = false;
            while let Some(entry) = self.sessions.get_mut(key) {
                let event = entry.protocol.poll_event();
                while let Some((lun, sense)) = entry.protocol.poll_undelivered() {
                    if let Some(nexus) = &entry.nexus {
                        nexus.restore_attention(lun, sense.code);
                    }
                }
                let Some(event) = event else { break };
                self.handle_event(now, key, event);
            }
            self.release_data(now, key);
            self.release_reads(key);
            let Some(entry) = self.sessions.get(key) else { continue };
            for at in 0..entry.sockets.len() {
                let Some(entry) = self.sessions.get(key) else { break };
                let Some(&(connection, id)) = entry.sockets.get(at) else { break };
                if entry.protocol.has_output(connection) {
                    self.tell_transmit(id);
                }
                self.after_connection(id);
            }
            self.schedule_session(key);
            self.remove_if_over(key);
        }
    }

    fn handle_event(&mut self, now: Instant, key: SessionKey, event: Event) {
        match event {
            Event::Command(command) => self.submit(now, key, &command),
            Event::DataOut(arrived) => {
                self.data_out(now, key, arrived.task, arrived.offset, arrived.data.into_slices())
            }
            Event::TaskManagement(request) => self.manage(now, key, &request),
            Event::AbortTask { task, .. } => self.abort(now, key, task),
            Event::SendTargets { request, scope } => self.send_targets(key, request, &scope),
            Event::Close { connection, .. } => {
                if let Some(id) = self.sessions.get(key).and_then(|entry| entry.socket(connection)) {
                    self.tell_close(id);
                }
            }
            Event::Ended(reason) => self.session_ended(key, reason),
        }
    }

    fn submit(&mut self, now: Instant, key: SessionKey, command: &Command) {
        let mut effects = self.effects_buffer();
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let Some(nexus) = &entry.nexus else { return };
        let tag = TaskTag(command.task.to_u64());
        let task = LuTask {
            id: TaskId { nexus: nexus.id(), tag },
            lun: command.lun,
            attribute: command.attribute,
            // RFC 7143 has no command priority; it came with iSCSIProtocolLevel 2 (RFC 7144), which is not offered.
            priority: 0,
            cdb: command.cdb.as_slice(),
            data_out_length: command.data_out_length,
            data_in_length: command.data_in_length,
        };
        let lu = nexus.submit(task, &mut effects);
        let clocked = Clocked { direction: Direction::of(command.cdb.as_slice()), begun: now };
        let overtaken = entry.tasks.insert(tag, lu.clone(), clocked);
        if let Some(counters) = &entry.counters {
            counters.begin();
        }
        if let Some(lu) = &lu {
            self.lu_counters(lu).begin();
        }
        if let Some(overtaken) = overtaken {
            self.count_aborted(key, &overtaken);
        }
        self.carry_out(now, Some(key), lu.as_ref(), effects);
    }

    fn data_out(&mut self, now: Instant, key: SessionKey, handle: TaskHandle, offset: u32, data: Segments) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let Some(task) = entry.tasks.get_mut(TaskTag(handle.to_u64())) else { return };
        if task.wanted == 0 {
            task.early.push((offset, data));
        } else {
            self.pass_on(now, key, TaskTag(handle.to_u64()), offset, data);
        }
    }

    /// The unit asks for data. It waits while too much is held for the session: a unit that hangs would gather what an
    /// initiator is ready to send for all its commands.
    pub(super) fn want_data(&mut self, now: Instant, key: SessionKey, tag: TaskTag, offset: u32, length: u32) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        entry.deferred_data.push_back((tag, offset, length));
        self.release_data(now, key);
    }

    /// Lets data come, oldest first, as far as there is room for it. One task at a time goes beyond, so that one ends
    /// whatever the others need.
    fn release_data(&mut self, now: Instant, key: SessionKey) {
        let limit = self.provider.limits().unwritten_bytes;
        while let Some(entry) = self.sessions.get_mut(key)
            && let Some((tag, offset, length)) = entry.deferred_data.front().copied()
        {
            let has_room = entry.tasks.wanted() + u64::from(length) <= limit;
            if !has_room && entry.favoured != Some(tag) && !is_active(Mutation::WritesNotHeldBack) {
                if entry.favoured.is_some_and(|favoured| entry.tasks.get_mut(favoured).is_some()) {
                    return;
                }
                entry.favoured = Some(tag);
            }
            entry.deferred_data.pop_front();
            self.receive_data(now, key, tag, offset, length);
        }
    }

    /// What came before goes to the unit now, the rest is solicited.
    fn receive_data(&mut self, now: Instant, key: SessionKey, tag: TaskTag, offset: u32, length: u32) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let Some(mut early) = entry.tasks.want(tag, offset.saturating_add(length)) else { return };
        entry.protocol.request_data(TaskHandle::from_u64(tag.0), offset, length);
        self.touch(key);
        for (offset, data) in early.drain(..) {
            self.pass_on(now, key, tag, offset, data);
        }
        // Its memory goes back to the place, unless something has come there meanwhile.
        if let Some(task) = self.sessions.get_mut(key).and_then(|entry| entry.tasks.get_mut(tag))
            && task.early.is_empty()
        {
            task.early = early;
        }
    }

    /// Hands data to the unit as far as it wants any; what lies beyond is kept until it asks for more.
    fn pass_on(&mut self, now: Instant, key: SessionKey, tag: TaskTag, offset: u32, data: Segments) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let nexus = entry.nexus_id();
        let (Some(nexus), Some(task)) = (nexus, entry.tasks.get_mut(tag)) else { return };
        let Some(lu) = task.lu.clone() else { return };
        let mut room = task.wanted.saturating_sub(offset) as usize;
        let length: usize = data.iter().map(bytes::Bytes::len).sum();
        let wanted = if length <= room {
            data
        } else {
            let (mut wanted, mut beyond) = (Segments::new(), Segments::new());
            for mut segment in data {
                let rest = segment.split_off(room.min(segment.len()));
                room -= segment.len();
                wanted.extend((!segment.is_empty()).then_some(segment));
                beyond.extend((!rest.is_empty()).then_some(rest));
            }
            task.early.push((task.wanted.max(offset), beyond));
            wanted
        };
        if wanted.is_empty() {
            return;
        }
        let mut effects = self.effects_buffer();
        lu.data_out(TaskId { nexus, tag }, offset, wanted, &mut effects);
        self.carry_out(now, Some(key), Some(&lu), effects);
    }

    fn send_targets(&mut self, key: SessionKey, request: TextHandle, scope: &SendTargetsScope) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let Some(local) = entry.sockets.first().and_then(|(_, id)| self.connections.get(*id)).map(|s| s.local) else {
            return;
        };
        let scope = match scope {
            SendTargetsScope::All => None,
            SendTargetsScope::Session => entry.protocol.identity().target_name.as_ref().map(IscsiName::as_str),
            SendTargetsScope::Target(name) => Some(name.as_str()),
        };
        let records = self.provider.discover(entry.protocol.identity().initiator_name.as_str(), local, scope);
        entry.protocol.send_targets_response(request, &records);
    }

    fn manage(&mut self, now: Instant, key: SessionKey, request: &TaskManagement) {
        let Some(nexus) = self.sessions.get(key).and_then(|entry| entry.nexus.clone()) else { return };
        let lun = request.lun;
        let request = TaskManagementRequest {
            nexus: nexus.id(),
            tag: TaskTag(request.request.to_u64()),
            function: request.function,
            referenced: request.referenced.map(|task| TaskTag(task.to_u64())),
        };
        let mut effects = self.effects_buffer();
        let calls = nexus.manage(lun, request, &mut effects);
        self.carry_out(now, Some(key), None, effects);
        for call in calls {
            let mut effects = self.effects_buffer();
            call.lu.manage(call.request, &mut effects);
            self.carry_out(now, Some(key), Some(&call.lu), effects);
        }
    }

    /// The protocol gave a task up; the unit has to let go of it.
    fn abort(&mut self, now: Instant, key: SessionKey, handle: TaskHandle) {
        let tag = TaskTag(handle.to_u64());
        let Some(entry) = self.sessions.get_mut(key) else { return };
        let lu = entry.tasks.get_mut(tag).and_then(|task| task.lu.clone());
        let (Some(nexus), Some(lu)) = (entry.nexus_id(), lu) else {
            entry.protocol.task_aborted(handle, false);
            return;
        };
        let request = TaskManagementRequest {
            nexus,
            tag: TaskTag(OWN_REQUEST | tag.0),
            function: TaskManagementFunction::AbortTask,
            referenced: Some(tag),
        };
        let mut effects = self.effects_buffer();
        lu.manage(request, &mut effects);
        self.carry_out(now, Some(key), Some(&lu), effects);
    }

    pub(super) fn managed(&mut self, key: SessionKey, tag: TaskTag, response: TaskManagementResponse) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        if tag.0 & OWN_REQUEST != 0 {
            // The task's own ending (a completion or an abort) came before, unless the unit never knew it.
            let tag = TaskTag(tag.0 & !OWN_REQUEST);
            if let Some(task) = entry.tasks.remove(tag) {
                entry.protocol.task_aborted(TaskHandle::from_u64(tag.0), false);
                self.count_aborted(key, &task);
            }
            self.touch(key);
            return;
        }
        if let Some(response) = entry.nexus.as_ref().and_then(|nexus| nexus.managed(tag, response)) {
            entry.protocol.task_management_response(TaskHandle::from_u64(tag.0), response);
        }
        self.touch(key);
    }

    /// Starts reads that waited for others to be sent, oldest first.
    pub(super) fn release_reads(&mut self, key: SessionKey) {
        let limit = self.provider.limits().unsent_read_bytes;
        let Some(entry) = self.sessions.get_mut(key) else { return };
        while !entry.deferred_reads.is_empty() && entry.unsent_reads() < limit {
            let Some(job) = entry.deferred_reads.pop_front() else { return };
            entry.reading += u64::from(job.ticket.reading);
            self.stores.push_back(job);
        }
    }

    fn session_ended(&mut self, key: SessionKey, reason: EndReason) {
        let Some(entry) = self.sessions.get(key) else { return };
        self.events.push_back(WorkerEvent::Notice(Notice::SessionEnded {
            initiator: entry.protocol.identity().initiator_name.as_str().to_owned(),
            target: entry.nexus.as_ref().map(|nexus| nexus.nexus().target.clone()),
            tsih: entry.protocol.tsih(),
            reason,
        }));
        let sockets = entry.sockets.clone();
        for (_, id) in sockets {
            self.tell_close(id);
        }
        self.detach(key);
        self.remove_if_over(key);
    }

    /// Takes the session out of everything that others can see: the nexus, the name, the TSIH.
    pub(super) fn detach(&mut self, key: SessionKey) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        if std::mem::replace(&mut entry.ended, true) {
            return;
        }
        let tasks = entry.tasks.clear();
        let deferred = std::mem::take(&mut entry.deferred_reads);
        entry.deferred_data.clear();
        let nexus = entry.nexus.take();
        let name = entry.name.take();
        self.provider.sessions().free_tsih(entry.protocol.tsih());
        if let Some(name) = name {
            if self.names.get(&name) == Some(&key) {
                self.names.remove(&name);
            }
            self.provider.sessions().release(&name);
        }
        if let Some(nexus) = nexus {
            // The units keep the outcomes of what is still under way apart from the nexus; nothing more comes for it.
            self.nexuses.remove(&nexus.id());
            tasks.iter().for_each(|task| self.count_aborted(key, task));
            self.provider.traffic_registry().close(nexus.id());
            nexus.close();
        }
        // Nobody waits for these reads any more, but their unit does: the nexus's tasks end when they have.
        for StoreJob { request, ticket } in deferred {
            let error = StoreError { kind: StoreErrorKind::Cancelled, context: "the session has ended".into() };
            let outcome = StoreOutcome::Failed(error);
            let mut effects = self.effects_buffer();
            let done = StoreDone { nexus: request.nexus, token: request.token, outcome };
            ticket.lu.store_done(done, &mut effects);
            // By mail: this may be the end of the worker.
            self.provider.stmf().dispatch(&ticket.lu, &mut effects, |_| false);
            self.spare_effects.push(effects);
        }
    }

    /// Forgets a session that has ended and has no sockets left.
    pub(super) fn remove_if_over(&mut self, key: SessionKey) {
        if self.sessions.get(key).is_some_and(|entry| entry.ended && entry.sockets.is_empty()) {
            self.sessions.remove(key);
        }
    }

    pub(super) fn schedule_session(&mut self, key: SessionKey) {
        if let Some(entry) = self.sessions.get_mut(key) {
            let deadline = entry.protocol.poll_timeout();
            self.timers.schedule(Timer::Session(key), &mut entry.scheduled, deadline);
        }
    }

    /// STMF woke us about the session: it may have been asked to end.
    pub(super) fn look_at(&mut self, now: Instant, key: SessionKey) {
        let Some(entry) = self.sessions.get_mut(key) else { return };
        match entry.nexus.as_ref().and_then(|nexus| nexus.termination()) {
            Some(Termination::Logout) => entry.protocol.request_logout(now, self.provider.limits().logout_grace),
            Some(Termination::Kill) => entry.protocol.terminate(now, EndReason::Terminated),
            None => {}
        }
        self.touch(key);
    }

    /// Makes a socket the one of a session's connection.
    pub(super) fn bind(&mut self, key: SessionKey, connection: ConnectionKey, id: ConnectionId) {
        if let Some(entry) = self.sessions.get_mut(key) {
            entry.sockets.push((connection, id));
        }
        if let Some(socket) = self.connections.get_mut(id) {
            socket.stage = Stage::Session(key, connection);
        }
        self.touch(key);
    }
}

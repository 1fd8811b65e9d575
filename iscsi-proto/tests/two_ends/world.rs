//! An initiator's session and a target's, joined by wires that can be cut. The target is a disk of a few MiB.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::initiator::{self, Command, Event, LoginConfig, Outcome, SessionConfig, TaskKey};
use iscsi_proto::login::{LoginConfig as TargetLoginConfig, LoginPolicy, Preferences};
use iscsi_proto::pdu::{Isid, Tsih};
use iscsi_proto::target::{self, ConnectionEvent, TaskHandle, TaskStatus};
use scsi_core::{Status, TaskManagementFunction, TaskManagementResponse};

pub(crate) const HOST: &str = "iqn.2026-11.org.example:host";
pub(crate) const TARGET: &str = "iqn.2026-11.org.example:disk";
pub(crate) const READ: u8 = 0x28;
pub(crate) const WRITE: u8 = 0x2a;

/// One connection, from end to end.
#[derive(Clone, Copy)]
struct Wire {
    id: usize,
    key: initiator::ConnectionKey,
    /// What the initiator sends is lost on the way.
    swallows: bool,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) host: initiator::Session,
    pub(crate) events: Vec<Event>,
    pub(crate) target: Option<target::Session>,
    pub(crate) disk: Vec<u8>,
    /// Commands are kept instead of carried out.
    pub(crate) holds: bool,
    pub(crate) held: Vec<target::Command>,
    /// Commands the target has seen.
    pub(crate) seen: usize,
    pub(crate) policy: LoginPolicy,
    pub(crate) redirect: Option<Vec<String>>,
    pub(crate) target_preferences: Preferences,
    /// Bytes are handed over in pieces of this size.
    pub(crate) piece: usize,
    wires: Vec<Wire>,
    logins: HashMap<usize, target::Connection>,
    entered: HashMap<usize, target::ConnectionKey>,
    writes: HashMap<TaskHandle, Write>,
    arrived: Vec<target::DataArrived>,
    /// Connections that the target wants closed once everything is sent.
    closing: Vec<target::ConnectionKey>,
    has_ended: bool,
    next_id: usize,
    next_tsih: u16,
}

struct Write {
    at: usize,
    left: usize,
    length: u64,
}

pub(crate) fn login_config() -> LoginConfig {
    LoginConfig::new(HOST, Some(TARGET), Isid::random([1, 2, 3], 4))
}

pub(crate) fn config() -> SessionConfig {
    SessionConfig::new(login_config())
}

impl World {
    pub(crate) fn new(config: SessionConfig) -> Self {
        let mut world = Self::unconnected(config);
        world.connect();
        world.run();
        world
    }

    pub(crate) fn unconnected(config: SessionConfig) -> Self {
        Self {
            now: Instant::now(),
            host: initiator::Session::new(config, 0xffff_fffa),
            events: Vec::new(),
            target: None,
            disk: vec![0; 4 << 20],
            holds: false,
            held: Vec::new(),
            seen: 0,
            policy: LoginPolicy::open(Some(1)),
            redirect: None,
            target_preferences: Preferences::default(),
            piece: usize::MAX,
            wires: Vec::new(),
            logins: HashMap::new(),
            entered: HashMap::new(),
            writes: HashMap::new(),
            arrived: Vec::new(),
            closing: Vec::new(),
            has_ended: false,
            next_id: 0,
            next_tsih: 1,
        }
    }

    /// Opens a connection; [`World::run`] logs it in.
    pub(crate) fn connect(&mut self) -> usize {
        let id = self.next_id;
        self.next_id += 1;
        let login = TargetLoginConfig { preferences: self.target_preferences, ..TargetLoginConfig::default() };
        let config = target::ConnectionConfig { login: Arc::new(login), ..target::ConnectionConfig::default() };
        self.logins.insert(id, target::Connection::new(config, self.now));
        let key = self.host.connect(self.now);
        self.wires.push(Wire { id, key, swallows: false });
        id
    }

    pub(crate) fn wires(&self) -> usize {
        self.wires.len()
    }

    pub(crate) fn key(&self, id: usize) -> initiator::ConnectionKey {
        self.wires.iter().find(|wire| wire.id == id).expect("the wire is there").key
    }

    /// From now on, what the initiator sends on a connection does not arrive.
    pub(crate) fn swallow(&mut self, id: usize) {
        self.wires.iter_mut().filter(|wire| wire.id == id).for_each(|wire| wire.swallows = true);
    }

    /// The initiator learns that a connection is gone; the target has not noticed yet.
    pub(crate) fn cut_at_host(&mut self, id: usize) {
        let key = self.key(id);
        self.wires.retain(|wire| wire.id != id);
        self.host.handle_closed(key);
        self.run();
    }

    /// Both ends learn that a connection is gone.
    pub(crate) fn cut(&mut self, id: usize) {
        let key = self.key(id);
        self.wires.retain(|wire| wire.id != id);
        self.host.handle_closed(key);
        self.logins.remove(&id);
        if let (Some(key), Some(target)) = (self.entered.remove(&id), &mut self.target) {
            target.handle_closed(key, self.now);
        }
        self.run();
    }

    /// Time passes on both ends.
    pub(crate) fn pass(&mut self, time: Duration) {
        self.now += time;
        self.host.handle_timeout(self.now);
        if let Some(target) = &mut self.target {
            target.handle_timeout(self.now);
        }
        self.run();
    }

    /// Carries bytes both ways until nothing moves.
    pub(crate) fn run(&mut self) {
        loop {
            let mut moved = false;
            let ids: Vec<usize> = self.wires.iter().map(|wire| wire.id).collect();
            for id in ids {
                let Some(&Wire { key, swallows, .. }) = self.wires.iter().find(|wire| wire.id == id) else { continue };
                let mut out = Vec::new();
                while self.host.poll_transmit(self.now, key, &mut out) > 0 {}
                moved |= !out.is_empty();
                if !swallows {
                    for bytes in out {
                        self.deliver(id, &bytes);
                    }
                }
                self.serve();
                for bytes in self.collect(id) {
                    moved = true;
                    for piece in bytes.chunks(self.piece) {
                        self.host.handle_received(self.now, key, bytes.slice_ref(piece));
                    }
                }
            }
            moved |= self.close_what_the_target_closes();
            while let Some(event) = self.host.poll_event() {
                moved = true;
                if let Event::Close { connection, .. } = event {
                    self.close(connection);
                }
                self.events.push(event);
            }
            if !moved {
                return;
            }
        }
    }

    fn close(&mut self, key: initiator::ConnectionKey) {
        self.host.handle_closed(key);
        let Some(at) = self.wires.iter().position(|wire| wire.key == key) else { return };
        let id = self.wires.remove(at).id;
        self.logins.remove(&id);
        if let (Some(key), Some(target)) = (self.entered.remove(&id), &mut self.target) {
            target.handle_closed(key, self.now);
        }
        self.serve();
    }

    fn close_what_the_target_closes(&mut self) -> bool {
        let closing = std::mem::take(&mut self.closing);
        let moved = !closing.is_empty();
        for key in closing {
            let Some(id) = self.entered.iter().find(|(_, entered)| **entered == key).map(|(id, _)| *id) else {
                continue;
            };
            self.entered.remove(&id);
            if let Some(target) = &mut self.target {
                target.handle_closed(key, self.now);
            }
            if let Some(at) = self.wires.iter().position(|wire| wire.id == id) {
                let key = self.wires.remove(at).key;
                self.host.handle_closed(key);
            }
        }
        if std::mem::take(&mut self.has_ended) {
            self.target = None;
            self.held.clear();
            self.writes.clear();
        }
        moved
    }

    fn deliver(&mut self, id: usize, bytes: &Bytes) {
        for piece in bytes.chunks(self.piece) {
            let piece = bytes.slice_ref(piece);
            if let Some(login) = self.logins.get_mut(&id) {
                login.handle_received(piece);
                self.log_in(id);
            } else if let (Some(key), Some(target)) = (self.entered.get(&id), &mut self.target) {
                target.handle_received(*key, self.now, piece);
                self.serve();
            }
        }
    }

    fn collect(&mut self, id: usize) -> Vec<Bytes> {
        let mut out = Vec::new();
        if let Some(login) = self.logins.get_mut(&id) {
            while login.poll_transmit(&mut out) > 0 {}
            self.log_in(id);
        }
        if let (Some(key), Some(target)) = (self.entered.get(&id), &mut self.target) {
            while target.poll_transmit(*key, self.now, &mut out) > 0 {}
        }
        self.serve();
        out
    }

    fn log_in(&mut self, id: usize) {
        loop {
            let Some(login) = self.logins.get_mut(&id) else { return };
            match login.poll_event() {
                None => return,
                Some(ConnectionEvent::Identify(identity)) => match &self.redirect {
                    Some(addresses) => login.redirect(addresses, false),
                    None => {
                        let session = self.target.as_ref().filter(|_| !identity.is_leading());
                        let session = session.map(|session| *session.parameters());
                        login.accept(LoginPolicy { session, ..self.policy.clone() });
                    }
                },
                Some(ConnectionEvent::Negotiated(_)) => {
                    let Some(login) = self.logins.remove(&id) else { return };
                    self.enter(id, login);
                }
                Some(ConnectionEvent::Verify(_) | ConnectionEvent::Failed(_) | ConnectionEvent::Close(_)) => {}
            }
        }
    }

    fn enter(&mut self, id: usize, login: target::Connection) {
        let is_leading = login.identity().is_some_and(|identity| identity.is_leading());
        let key = match &mut self.target {
            Some(target) if !is_leading => target.join(login, self.now).expect("the session takes it"),
            _ => {
                // Session reinstatement: nothing of the old one goes on.
                self.entered.clear();
                self.closing.clear();
                self.has_ended = false;
                self.held.clear();
                self.writes.clear();
                let config = target::SessionConfig { ping_interval: Duration::ZERO, ..Default::default() };
                let tsih = Tsih(self.next_tsih);
                self.next_tsih += 1;
                let (session, key) = target::Session::establish(login, config, tsih, self.now).expect("negotiated");
                self.target = Some(session);
                key
            }
        };
        self.entered.insert(id, key);
    }

    /// Carries out what has come.
    pub(crate) fn serve(&mut self) {
        while let Some(target) = &mut self.target
            && let Some(event) = target.poll_event()
        {
            match event {
                target::Event::Command(command) => {
                    self.seen += 1;
                    match self.holds {
                        true => self.held.push(command),
                        false => self.carry_out(&command),
                    }
                }
                target::Event::DataOut(arrived) => {
                    self.arrived.push(arrived);
                    self.take_data();
                }
                target::Event::AbortTask { task, .. } => {
                    self.held.retain(|command| command.task != task);
                    self.writes.remove(&task);
                    target.task_aborted(task, false);
                }
                target::Event::TaskManagement(request) => {
                    if request.function == TaskManagementFunction::AbortTask {
                        let task = request.referenced.expect("known tasks only");
                        self.held.retain(|command| command.task != task);
                        target.task_aborted(task, false);
                    } else {
                        let lun = request.lun;
                        for command in self.held.extract_if(.., |command| command.lun == lun) {
                            target.task_aborted(command.task, false);
                        }
                    }
                    target.task_management_response(request.request, TaskManagementResponse::FunctionComplete);
                }
                target::Event::SendTargets { request, .. } => {
                    let record = |n: usize| target::TargetRecord {
                        name: format!("{TARGET}-{n}"),
                        addresses: vec![("192.0.2.1:3260".into(), 1), ("[2001:db8::1]:3260".into(), 1)],
                    };
                    let records: Vec<_> = (0..300).map(record).collect();
                    target.send_targets_response(request, &records);
                }
                target::Event::Close { connection, .. } => self.closing.push(connection),
                // What it still has to send goes out before it is dropped.
                target::Event::Ended(_) => self.has_ended = true,
            }
        }
    }

    /// Takes the data of writes that are carried out; that of others waits.
    fn take_data(&mut self) {
        let Some(target) = &mut self.target else { return };
        for arrived in std::mem::take(&mut self.arrived) {
            let Some(write) = self.writes.get_mut(&arrived.task) else {
                self.arrived.push(arrived);
                continue;
            };
            let at = write.at + arrived.offset as usize;
            let data = arrived.data.to_contiguous();
            self.disk[at..at + data.len()].copy_from_slice(&data);
            write.left -= data.len();
            if write.left == 0 {
                let length = write.length;
                self.writes.remove(&arrived.task);
                target.send_status(arrived.task, TaskStatus::new(Status::GOOD, length));
            }
        }
    }

    pub(crate) fn carry_out_held(&mut self) {
        self.holds = false;
        for command in std::mem::take(&mut self.held) {
            self.carry_out(&command);
        }
        self.run();
    }

    /// The CDB has an offset in bytes where a disk has a block address; the lengths are those of the transfer.
    fn carry_out(&mut self, command: &target::Command) {
        let Some(target) = &mut self.target else { return };
        let cdb = command.cdb.as_slice();
        let at = u32::from_be_bytes([cdb[2], cdb[3], cdb[4], cdb[5]]) as usize;
        match cdb[0] {
            READ => {
                let length = command.data_in_length as usize;
                for (index, piece) in self.disk[at..at + length].chunks(100_000).enumerate() {
                    target.send_data_in(command.task, (index * 100_000) as u32, [Bytes::copy_from_slice(piece)]);
                }
                target.send_status(command.task, TaskStatus::new(Status::GOOD, length as u64));
            }
            WRITE if command.data_out_length > 0 => {
                let length = command.data_out_length;
                self.writes.insert(command.task, Write { at, left: length as usize, length: length.into() });
                target.request_data(command.task, 0, length);
                self.take_data();
            }
            _ => target.send_status(command.task, TaskStatus::check_condition(&[0x70, 0, 5])),
        }
    }

    pub(crate) fn submit(&mut self, command: Command) -> TaskKey {
        let task = self.host.submit(command).unwrap();
        self.run();
        task
    }

    /// How a command ended, if it has.
    pub(crate) fn outcome(&mut self, task: TaskKey) -> Option<Outcome> {
        let is_it = |event: &Event| matches!(event, Event::TaskDone { task: done, .. } if *done == task);
        let at = self.events.iter().position(is_it)?;
        match self.events.remove(at) {
            Event::TaskDone { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// The data of a command that ended well.
    pub(crate) fn good(&mut self, task: TaskKey) -> Bytes {
        match self.outcome(task) {
            Some(Outcome::Response(response)) if response.status == Status::GOOD => response.data_in.to_bytes(),
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn read(at: u32, length: u32) -> Command {
    Command { cdb: cdb(READ, at), data_in_length: length, ..Command::default() }
}

pub(crate) fn write(at: u32, data: Vec<u8>) -> Command {
    Command { cdb: cdb(WRITE, at), data_out: Bytes::from(data).into(), ..Command::default() }
}

fn cdb(opcode: u8, at: u32) -> Vec<u8> {
    let mut cdb = vec![0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&at.to_be_bytes());
    cdb
}

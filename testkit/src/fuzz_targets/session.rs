//! An initiator's session as a series of operations, at a target whose bytes come late, in pieces, spoiled or not at all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::initiator::{
    Command, ConnectionKey, Event, LoginConfig, Outcome, Session, SessionConfig, TaskKey, TaskManagement,
};
use iscsi_proto::pdu::Isid;
use iscsit::ConnectionId;
use scsi_core::{Lun, TaskManagementFunction};

use super::whole::{TARGET, WholeTarget};

const DISK_BYTES: u64 = 256 * 512;
/// Operations of an input.
const MOST_OPERATIONS: usize = 120;

/// Whatever the target sends, each request ends exactly once, reads are never longer than there is room for, and when all
/// connections are gone nothing is left.
pub(super) fn initiator_session(data: &[u8]) {
    let mut lab = Lab::new(data.first().is_some_and(|first| first & 1 != 0));
    let mut input = data.get(1..).unwrap_or_default().iter().copied();
    lab.connect();
    for _ in 0..MOST_OPERATIONS {
        let Some(operation) = input.next() else { break };
        let mut byte = || input.next().unwrap_or(0);
        match operation & 0x0f {
            0..=2 => lab.submit(byte(), byte(), byte()),
            3 => lab.manage(byte(), byte()),
            4 => lab.request(byte()),
            5 => lab.connect(),
            6 => lab.close(byte(), operation & 0x10 != 0),
            7 => lab.advance(Duration::from_millis(u64::from(byte()) * 100)),
            8 => lab.spoil(byte(), byte(), byte()),
            9 => {
                let count = usize::from(byte());
                let bytes: Vec<u8> = (0..count).map(|_| byte()).collect();
                lab.receive(operation >> 4, bytes);
            }
            10 => lab.deliver(usize::from(byte()) + 1),
            _ => lab.deliver(usize::MAX),
        }
        lab.settle();
    }
    lab.end();
}

struct Line {
    key: ConnectionKey,
    far: ConnectionId,
    /// Bytes of the target that have not come yet.
    coming: Vec<u8>,
}

struct Lab {
    target: WholeTarget,
    session: Session,
    lines: Vec<Line>,
    now: Instant,
    /// Requests that have not ended, and the room of their reads.
    open: HashMap<TaskKey, u32>,
    keys: Vec<TaskKey>,
}

impl Lab {
    fn new(resubmit: bool) -> Self {
        let isid = Isid::random([1, 2, 3], 4);
        let login = LoginConfig::new("iqn.2026-11.org.example:host", Some(TARGET), isid);
        let config = SessionConfig { max_outstanding: 16, resubmit, ..SessionConfig::new(login) };
        Self {
            target: WholeTarget::new(DISK_BYTES),
            // Command numbers that wrap soon.
            session: Session::new(config, u32::MAX - 3),
            lines: Vec::new(),
            now: Instant::now(),
            open: HashMap::new(),
            keys: Vec::new(),
        }
    }

    fn connect(&mut self) {
        // The session takes no more than it negotiated; a host that opens more is the host's mistake.
        if self.lines.is_empty() {
            let key = self.session.connect(self.now);
            self.lines.push(Line { key, far: self.target.connect(), coming: Vec::new() });
        }
    }

    fn submit(&mut self, kind: u8, lba: u8, blocks: u8) {
        let blocks = blocks & 0x3f;
        let mut cdb = vec![if kind & 1 == 0 { 0x28 } else { 0x2a }, 0, 0, 0, 0, lba, 0, 0, blocks, 0];
        if kind & 0x80 != 0 {
            cdb = vec![kind; 16];
        }
        let bytes = u32::from(blocks) * 512;
        let mut command = Command { cdb, immediate: kind & 2 != 0, ..Command::default() };
        if kind & 1 == 0 {
            command.data_in_length = bytes;
        } else {
            command.data_out = vec![kind; bytes as usize].into();
        }
        let room = command.data_in_length;
        let key = self.session.submit(command).ok();
        self.begin(key, room);
    }

    fn begin(&mut self, key: Option<TaskKey>, room: u32) {
        if let Some(key) = key {
            assert!(self.open.insert(key, room).is_none(), "{key:?} was given twice");
            self.keys.push(key);
        }
    }

    fn manage(&mut self, function: u8, which: u8) {
        let function = match function % 5 {
            0 => TaskManagementFunction::AbortTask,
            1 => TaskManagementFunction::AbortTaskSet,
            2 => TaskManagementFunction::LogicalUnitReset,
            3 => TaskManagementFunction::ClearTaskSet,
            _ => TaskManagementFunction::QueryTask,
        };
        let referenced = self.keys.len().checked_sub(1 + usize::from(which & 7)).map(|at| self.keys[at]);
        let key = self.session.manage(TaskManagement { function, lun: Lun::ZERO, referenced }).ok();
        self.begin(key, 0);
    }

    fn request(&mut self, kind: u8) {
        let key = match kind % 3 {
            0 => self.session.ping(Bytes::from(vec![kind; usize::from(kind)])),
            1 => self.session.send_targets("All"),
            _ => {
                // Its end is that of the connection, answered or not.
                let _ = self.session.logout();
                return;
            }
        };
        self.begin(key.ok(), 0);
    }

    fn close(&mut self, which: u8, ours: bool) {
        let Some(line) = self.lines.get(usize::from(which) % self.lines.len().max(1)) else { return };
        let (key, far) = (line.key, line.far);
        if ours {
            self.session.close(key);
        } else {
            self.target.close(far);
            self.session.handle_closed(key);
            self.lines.retain(|line| line.key != key);
        }
    }

    /// Bytes that the target never sent.
    fn receive(&mut self, which: u8, bytes: Vec<u8>) {
        if let Some(line) = self.lines.get(usize::from(which) % self.lines.len().max(1)) {
            self.session.handle_received(self.now, line.key, bytes.into());
        }
    }

    /// What comes next is not what was sent.
    fn spoil(&mut self, at: u8, high: u8, with: u8) {
        if let Some(line) = self.lines.first_mut() {
            let at = usize::from(at) + usize::from(high) * 16;
            if let Some(byte) = line.coming.get_mut(at) {
                *byte ^= with;
            }
        }
    }

    fn deliver(&mut self, most: usize) {
        for index in 0..self.lines.len() {
            let Some(line) = self.lines.get_mut(index) else { return };
            let count = most.min(line.coming.len());
            let bytes: Vec<u8> = line.coming.drain(..count).collect();
            let key = line.key;
            if !bytes.is_empty() {
                self.session.handle_received(self.now, key, bytes.into());
            }
        }
    }

    fn advance(&mut self, by: Duration) {
        self.now += by;
        self.target.advance(by);
        self.session.handle_timeout(self.now);
    }

    /// Takes what the session has for its owner and for the target.
    fn settle(&mut self) {
        loop {
            while let Some(event) = self.session.poll_event() {
                self.hear(event);
            }
            let mut sent = 0;
            for line in &mut self.lines {
                let mut slices = Vec::new();
                while self.session.poll_transmit(self.now, line.key, &mut slices) > 0 {}
                let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.to_vec()).collect();
                sent += bytes.len();
                if !bytes.is_empty() {
                    self.target.receive(line.far, bytes);
                    self.target.perform_all();
                }
                line.coming.append(&mut self.target.take_sent(line.far));
            }
            if sent == 0 {
                return;
            }
        }
    }

    fn hear(&mut self, event: Event) {
        let ended = match event {
            Event::TaskDone { task, outcome } => {
                let room = self.open.get(&task).copied().unwrap_or(0) as usize;
                if let Outcome::Response(response) = outcome {
                    let got = response.data_in.received();
                    assert!(got <= room, "{got} bytes came where there is room for {room}");
                }
                task
            }
            Event::TaskManaged { request, .. } | Event::Targets { request, .. } | Event::Pong { request, .. } => {
                request
            }
            Event::Close { connection, .. } => {
                if let Some(at) = self.lines.iter().position(|line| line.key == connection) {
                    let line = self.lines.remove(at);
                    self.target.close(line.far);
                    self.session.handle_closed(connection);
                }
                return;
            }
            _ => return,
        };
        assert!(self.open.remove(&ended).is_some(), "{ended:?} ended twice");
    }

    fn end(&mut self) {
        for line in std::mem::take(&mut self.lines) {
            self.session.close(line.key);
            self.session.handle_closed(line.key);
        }
        while let Some(event) = self.session.poll_event() {
            self.hear(event);
        }
        // With resubmission commands wait for the next connection; without, nothing does.
        assert_eq!(self.session.outstanding(), self.open.len(), "requests that are lost: {:?}", self.open);
    }
}

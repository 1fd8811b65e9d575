//! A synchronous driver of one logical unit: commands go in, effects are carried out one by one, answers come out.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use bytes::Bytes;
use lu_sbd::meta::{Identity, RecordStore};
use lu_sbd::properties::CreateProperties;
use lu_sbd::store::{BackingStore, Error, MemoryStore};
use lu_sbd::{Limits, SbdLu};
use scsi_core::{
    AdditionalSense, GuidHost, Lun, SenseData, SenseKey, Status, TaskAttribute, TaskManagementFunction,
    TaskManagementResponse, TransportId,
};
use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};
use stmf::provider::{
    Completion, Effect, Effects, LogicalUnit, LuTask, NexusLoss, Segments, StoreRequest, TaskManagementRequest,
};
use stmf::{Nexus, NexusId, TaskId, TaskTag};

pub mod site;

pub const BLOCK: usize = 512;

/// Keeps the record where a test can look at it.
#[derive(Debug, Default)]
pub struct Records {
    pub saved: Mutex<Option<String>>,
    pub fail: Mutex<bool>,
}

impl RecordStore for Records {
    fn save(&self, record: &[u8]) -> Result<(), Error> {
        if *self.fail.lock().unwrap() {
            return Err(std::io::Error::other("told to fail").into());
        }
        *self.saved.lock().unwrap() = Some(String::from_utf8(record.to_vec()).unwrap());
        Ok(())
    }
}

impl Records {
    pub fn identity(&self) -> Identity {
        Identity::from_record(self.saved.lock().unwrap().as_deref().unwrap()).unwrap()
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: Status,
    pub sense: Option<SenseData>,
    pub data: Vec<u8>,
    pub data_length: u64,
}

impl Answer {
    #[track_caller]
    pub fn good(self) -> Vec<u8> {
        assert_eq!((self.status, self.sense), (Status::GOOD, None));
        self.data
    }

    #[track_caller]
    pub fn check(&self, key: SenseKey, asc: u8, ascq: u8) -> SenseData {
        assert_eq!(self.status, Status::CHECK_CONDITION);
        let sense = self.sense.unwrap();
        assert_eq!((sense.key, sense.code), (key, AdditionalSense { asc, ascq }), "{sense}");
        sense
    }

    /// 05/24/00 or 05/26/00 with the field in error.
    #[track_caller]
    pub fn invalid_field(&self, byte: u16) {
        let sense = self.sense.unwrap();
        assert_eq!(sense.key, SenseKey::ILLEGAL_REQUEST, "{sense}");
        assert_eq!(sense.field_pointer().map(|pointer| pointer.byte), Some(byte), "{sense}");
    }
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    Completed(Answer),
    Aborted { report: bool },
}

struct Running {
    data_out: Vec<u8>,
    data_in: Vec<u8>,
}

pub struct Rig {
    pub lu: Arc<SbdLu>,
    pub records: Arc<Records>,
    /// Store requests wait in `held` instead of being carried out.
    pub hold: bool,
    pub held: VecDeque<StoreRequest>,
    /// Data-out goes to the unit in pieces of this size, last piece first.
    pub backwards: Option<usize>,
    /// Requests for data are not answered.
    pub hold_data: bool,
    pub wanted: Vec<(TaskId, u32, u32)>,
    running: HashMap<TaskId, Running>,
    pub ended: HashMap<TaskId, End>,
    /// Task ids in the order of their end.
    pub order: Vec<TaskId>,
    pub managed: Vec<(TaskTag, TaskManagementResponse)>,
    next_tag: u64,
}

pub fn identity(size: u64, properties: &[&str]) -> Identity {
    let properties = CreateProperties::parse(properties.iter().copied(), None).unwrap();
    let guid = properties.guid(GuidHost::HostId(0x0102_0304), 1, 1);
    properties.identity(guid, Path::new("test"), size).unwrap()
}

pub fn nexus(number: u64) -> Arc<Nexus> {
    let initiator = format!("iqn.2026-11.org.example:host{number}");
    let mut transport_id = Vec::new();
    TransportId::iscsi_port(&initiator, [0, 2, 0x3d, 0, 0, number as u8]).encode(&mut transport_id);
    Arc::new(Nexus {
        id: NexusId(number),
        initiator,
        transport_id,
        target: "iqn.2026-11.org.example:disk".into(),
        target_port_name: "iqn.2026-11.org.example:disk,t,0x0001".into(),
        relative_target_port: 1,
        protocol: 5,
    })
}

impl Rig {
    pub fn new() -> Self {
        Self::with(Arc::new(MemoryStore::new(64 << 20)), &[])
    }

    pub fn with(store: Arc<dyn BackingStore>, properties: &[&str]) -> Self {
        let identity = identity(store.capacity(), properties);
        Self::of(identity, store, Limits::default())
    }

    pub fn of(identity: Identity, store: Arc<dyn BackingStore>, limits: Limits) -> Self {
        let records = Arc::new(Records::default());
        let lu = SbdLu::new(identity, store, Arc::clone(&records) as _, limits);
        Self::of_unit(lu, records)
    }

    pub fn of_unit(lu: SbdLu, records: Arc<Records>) -> Self {
        let mut rig = Self {
            lu: Arc::new(lu),
            records,
            hold: false,
            held: VecDeque::new(),
            backwards: None,
            hold_data: false,
            wanted: Vec::new(),
            running: HashMap::new(),
            ended: HashMap::new(),
            order: Vec::new(),
            managed: Vec::new(),
            next_tag: 1,
        };
        for number in 1..=3 {
            rig.attach(number);
        }
        rig
    }

    /// A nexus that has had its first unit attention.
    pub fn attach(&mut self, number: u64) {
        self.lu.attach(&nexus(number));
        self.run(number, &[0; 6], &[], 0).check(SenseKey::UNIT_ATTENTION, 0x29, 0);
    }

    pub fn start(&mut self, nexus: u64, attribute: TaskAttribute, cdb: &[u8], out: &[u8], room: u32) -> TaskId {
        let id = TaskId { nexus: NexusId(nexus), tag: TaskTag(self.next_tag) };
        self.next_tag += 1;
        self.running.insert(id, Running { data_out: out.to_vec(), data_in: Vec::new() });
        let mut effects = Effects::new();
        let task = LuTask {
            id,
            lun: Lun::new(7).unwrap(),
            attribute,
            priority: 0,
            cdb,
            data_out_length: out.len() as u32,
            data_in_length: room,
        };
        self.lu.submit(task, &mut effects);
        self.carry_out(effects);
        id
    }

    pub fn simple(&mut self, nexus: u64, cdb: &[u8], out: &[u8], room: u32) -> TaskId {
        self.start(nexus, TaskAttribute::Simple, cdb, out, room)
    }

    #[track_caller]
    pub fn run(&mut self, nexus: u64, cdb: &[u8], out: &[u8], room: u32) -> Answer {
        let id = self.simple(nexus, cdb, out, room);
        match self.ended.remove(&id) {
            Some(End::Completed(answer)) => answer,
            other => panic!("{cdb:02x?} ended as {other:?}"),
        }
    }

    pub fn carry_out(&mut self, effects: Effects) {
        let mut effects: VecDeque<Effect> = effects.into();
        while let Some(effect) = effects.pop_front() {
            let mut more = Effects::new();
            match effect {
                Effect::Store(request) if self.hold => self.held.push_back(request),
                Effect::Store(request) => {
                    let done = self.lu.perform(request);
                    self.lu.store_done(done, &mut more);
                }
                Effect::ReceiveData { task, offset, length } if self.hold_data => {
                    self.wanted.push((task, offset, length));
                }
                Effect::ReceiveData { task, offset, length } => self.feed(task, offset, length, &mut more),
                Effect::SendData { task, offset, data } => {
                    let running = self.running.get_mut(&task).expect("data for a task that runs");
                    let (bytes, offset) = (data.concat(), offset as usize);
                    if running.data_in.len() < offset + bytes.len() {
                        running.data_in.resize(offset + bytes.len(), 0xee);
                    }
                    running.data_in[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
                Effect::Complete(completion) => self.completed(completion),
                Effect::Aborted { task, report } => {
                    self.running.remove(&task).expect("a task ends once");
                    self.ended.insert(task, End::Aborted { report });
                    self.order.push(task);
                }
                Effect::Managed { tag, response, .. } => self.managed.push((tag, response)),
                Effect::Disturb { .. } => unreachable!("a unit by itself harms nobody"),
            }
            effects.extend(more);
        }
    }

    fn feed(&mut self, task: TaskId, offset: u32, length: u32, effects: &mut Effects) {
        let Some(running) = self.running.get(&task) else { return };
        let data = &running.data_out[offset as usize..(offset + length) as usize];
        let piece = self.backwards.unwrap_or(usize::MAX).min(data.len().max(1));
        let pieces: Vec<(u32, Bytes)> = data
            .chunks(piece)
            .enumerate()
            .map(|(index, bytes)| (offset + (index * piece) as u32, Bytes::copy_from_slice(bytes)))
            .collect();
        for (offset, bytes) in pieces.into_iter().rev() {
            self.lu.data_out(task, offset, Segments::from_iter([bytes]), effects);
        }
    }

    fn completed(&mut self, completion: Completion) {
        let running = self.running.remove(&completion.task).expect("a task ends once");
        let answer = Answer {
            status: completion.status,
            sense: SenseData::decode(&completion.sense),
            data: running.data_in,
            data_length: completion.data_length,
        };
        self.ended.insert(completion.task, End::Completed(answer));
        self.order.push(completion.task);
    }

    /// Answers what was asked for while `hold_data` was set.
    pub fn feed_wanted(&mut self) {
        for (task, offset, length) in std::mem::take(&mut self.wanted) {
            let mut effects = Effects::new();
            self.feed(task, offset, length, &mut effects);
            self.carry_out(effects);
        }
    }

    /// Carries out the held store request at `index`.
    pub fn release(&mut self, index: usize) {
        let request = self.held.remove(index).expect("a request is held");
        let done = self.lu.perform(request);
        let mut effects = Effects::new();
        self.lu.store_done(done, &mut effects);
        self.carry_out(effects);
    }

    /// Carries out every held request and those that follow.
    pub fn release_all(&mut self) {
        while !self.held.is_empty() {
            self.release(0);
        }
    }

    pub fn manage(&mut self, nexus: u64, function: TaskManagementFunction, referenced: Option<TaskId>) -> TaskTag {
        let tag = TaskTag(self.next_tag);
        self.next_tag += 1;
        let request =
            TaskManagementRequest { nexus: NexusId(nexus), tag, function, referenced: referenced.map(|id| id.tag) };
        let mut effects = Effects::new();
        self.lu.manage(request, &mut effects);
        self.carry_out(effects);
        tag
    }

    pub fn response(&self, tag: TaskTag) -> Option<TaskManagementResponse> {
        self.managed.iter().find(|(known, _)| *known == tag).map(|(_, response)| *response)
    }

    pub fn detach(&mut self, nexus: u64, loss: NexusLoss) {
        let mut effects = Effects::new();
        self.lu.detach(NexusId(nexus), loss, &mut effects);
        self.carry_out(effects);
    }

    #[track_caller]
    pub fn answer_of(&mut self, id: TaskId) -> Answer {
        match self.ended.remove(&id) {
            Some(End::Completed(answer)) => answer,
            other => panic!("ended as {other:?}"),
        }
    }

    #[track_caller]
    pub fn write(&mut self, nexus: u64, lba: u32, data: &[u8]) {
        self.run(nexus, &write10(lba, (data.len() / BLOCK) as u16), data, 0).good();
    }

    #[track_caller]
    pub fn read(&mut self, nexus: u64, lba: u32, blocks: u16) -> Vec<u8> {
        let length = u32::from(blocks) * BLOCK as u32;
        self.run(nexus, &read10(lba, blocks), &[], length).good()
    }
}

pub fn ten(opcode: u8, flags: u8, lba: u32, length: u16) -> [u8; 10] {
    let [a, b, c, d] = lba.to_be_bytes();
    let [h, l] = length.to_be_bytes();
    [opcode, flags, a, b, c, d, 0, h, l, 0]
}

pub fn sixteen(opcode: u8, flags: u8, lba: u64, length: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, flags);
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&length.to_be_bytes());
    cdb
}

pub fn read10(lba: u32, blocks: u16) -> [u8; 10] {
    ten(0x28, 0, lba, blocks)
}

pub fn write10(lba: u32, blocks: u16) -> [u8; 10] {
    ten(0x2a, 0, lba, blocks)
}

pub const TEST_UNIT_READY: [u8; 6] = [0; 6];

/// Blocks that are all different.
pub fn pattern(blocks: usize, seed: u8) -> Vec<u8> {
    (0..blocks * BLOCK).map(|at| (at / BLOCK) as u8 ^ (at % 251) as u8 ^ seed).collect()
}

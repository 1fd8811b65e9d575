//! Several units that find each other, driven by one thread that holds back what it likes.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part")]

use super::{Answer, End, Records, identity, nexus};
use bytes::Bytes;
use lu_sbd::store::BackingStore;
use lu_sbd::{Limits, SbdLu};
use scsi_core::{Lun, SenseData, TaskAttribute, TaskManagementFunction, TaskManagementResponse};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};
use stmf::provider::{
    Effect, Effects, Host, LogicalUnit, LuTask, NexusLoss, Segments, StoreRequest, Surroundings, TaskManagementRequest,
};
use stmf::{NexusId, TaskId, TaskTag};

/// Time as a test wants it, and randomness that is none.
#[derive(Debug)]
pub struct TestHost {
    pub now: Mutex<Instant>,
    random: Mutex<u8>,
}

impl Host for TestHost {
    fn now(&self) -> Instant {
        *self.now.lock().unwrap()
    }
    fn unix_time(&self) -> Duration {
        Duration::from_secs(1_229_651_227)
    }
    fn fill_random(&self, bytes: &mut [u8]) {
        let mut random = self.random.lock().unwrap();
        *random += 1;
        bytes.fill(*random);
    }
}

/// The framework of a test: every unit is reached by every nexus, unless hidden.
#[derive(Debug)]
pub struct Around {
    units: Mutex<Vec<Arc<SbdLu>>>,
    pub hidden: Mutex<Vec<(NexusId, usize)>>,
    delivered: Mutex<Vec<(usize, Effect)>>,
    host: Arc<TestHost>,
}

impl Around {
    fn index(&self, guid: [u8; 16]) -> Option<usize> {
        self.units.lock().unwrap().iter().position(|unit| unit.guid() == guid)
    }
}

impl Surroundings for Around {
    fn find(&self, guid: [u8; 16], reached_by: Option<NexusId>) -> Option<Arc<dyn LogicalUnit>> {
        let index = self.index(guid)?;
        if reached_by.is_some_and(|nexus| self.hidden.lock().unwrap().contains(&(nexus, index))) {
            return None;
        }
        Some(self.units.lock().unwrap()[index].clone())
    }
    fn carry_out(&self, lu: &Arc<dyn LogicalUnit>, effects: &mut Effects) {
        let index = self.index(lu.guid()).unwrap();
        self.delivered.lock().unwrap().extend(effects.drain(..).map(|effect| (index, effect)));
    }
    fn host(&self) -> Option<Arc<dyn Host>> {
        Some(self.host.clone())
    }
}

struct Running {
    data_out: Vec<u8>,
    data_in: Vec<u8>,
}

/// Units, what is under way at them, and what has ended.
pub struct Site {
    pub units: Vec<Arc<SbdLu>>,
    pub records: Vec<Arc<Records>>,
    pub around: Arc<Around>,
    pub host: Arc<TestHost>,
    /// Store requests wait in `held`.
    pub hold: bool,
    pub held: VecDeque<(usize, StoreRequest)>,
    running: HashMap<TaskId, Running>,
    pub ended: HashMap<TaskId, End>,
    pub managed: Vec<(TaskTag, TaskManagementResponse)>,
    next_tag: u64,
}

impl Site {
    pub fn new(stores: Vec<(Arc<dyn BackingStore>, &[&str])>) -> Self {
        let host = Arc::new(TestHost { now: Mutex::new(Instant::now()), random: Mutex::new(0) });
        let around = Arc::new(Around {
            units: Mutex::default(),
            hidden: Mutex::default(),
            delivered: Mutex::default(),
            host: host.clone(),
        });
        let mut site = Self {
            units: Vec::new(),
            records: Vec::new(),
            around,
            host,
            hold: false,
            held: VecDeque::new(),
            running: HashMap::new(),
            ended: HashMap::new(),
            managed: Vec::new(),
            next_tag: 1,
        };
        for (index, (store, properties)) in stores.into_iter().enumerate() {
            let mut identity = identity(store.capacity(), properties);
            let mut guid = *identity.guid.as_bytes();
            guid[15] = index as u8 + 1;
            identity.guid = scsi_core::Guid::from_bytes(guid).unwrap();
            let records = Arc::new(Records::default());
            site.records.push(records.clone());
            site.add(SbdLu::new(identity, store, records, Limits::default()));
        }
        for number in 1..=3 {
            for index in 0..site.units.len() {
                site.attach(number, index);
            }
        }
        site
    }

    fn add(&mut self, unit: SbdLu) {
        let unit = Arc::new(unit);
        let around: Arc<dyn Surroundings> = self.around.clone();
        unit.registered(&Arc::downgrade(&around));
        self.around.units.lock().unwrap().push(unit.clone());
        self.units.push(unit);
    }

    /// A nexus that has had its first unit attention.
    pub fn attach(&mut self, number: u64, unit: usize) {
        self.units[unit].attach(&nexus(number));
        let _ = self.run(unit, number, &[0; 6], &[], 0);
    }

    pub fn guid(&self, unit: usize) -> [u8; 16] {
        self.units[unit].guid()
    }

    pub fn start(&mut self, unit: usize, number: u64, cdb: &[u8], out: &[u8], room: u32) -> TaskId {
        let id = TaskId { nexus: NexusId(number), tag: TaskTag(self.next_tag) };
        self.next_tag += 1;
        self.running.insert(id, Running { data_out: out.to_vec(), data_in: Vec::new() });
        let task = LuTask {
            id,
            lun: Lun::new(unit as u16).unwrap(),
            attribute: TaskAttribute::Simple,
            priority: 0,
            cdb,
            data_out_length: out.len() as u32,
            data_in_length: room,
        };
        self.call(unit, |lu, effects| lu.submit(task, effects));
        id
    }

    /// Calls a unit and carries out what it wants.
    pub fn call(&mut self, unit: usize, call: impl FnOnce(&SbdLu, &mut Effects)) {
        let mut effects = Effects::new();
        call(&self.units[unit].clone(), &mut effects);
        self.carry_out(unit, effects);
    }

    fn carry_out(&mut self, unit: usize, effects: Effects) {
        let mut queue: VecDeque<(usize, Effect)> = effects.into_iter().map(|effect| (unit, effect)).collect();
        loop {
            queue.extend(self.around.delivered.lock().unwrap().drain(..));
            let Some((unit, effect)) = queue.pop_front() else { return };
            let lu = self.units[unit].clone();
            let mut more = Effects::new();
            match effect {
                Effect::Store(request) if self.hold => self.held.push_back((unit, request)),
                Effect::Store(request) => lu.store_done(lu.perform(request), &mut more),
                Effect::ReceiveData { task, offset, length } => {
                    if let Some(running) = self.running.get(&task) {
                        let data = &running.data_out[offset as usize..(offset + length) as usize];
                        let data = Segments::from_iter([Bytes::copy_from_slice(data)]);
                        lu.data_out(task, offset, data, &mut more);
                    }
                }
                Effect::SendData { task, offset, data } => {
                    let running = self.running.get_mut(&task).expect("data for a task that runs");
                    let (bytes, offset) = (data.concat(), offset as usize);
                    if running.data_in.len() < offset + bytes.len() {
                        running.data_in.resize(offset + bytes.len(), 0xee);
                    }
                    running.data_in[offset..offset + bytes.len()].copy_from_slice(&bytes);
                }
                Effect::Complete(completion) => {
                    let running = self.running.remove(&completion.task).expect("a task ends once");
                    let answer = Answer {
                        status: completion.status,
                        sense: SenseData::decode(&completion.sense),
                        data: running.data_in,
                        data_length: completion.data_length,
                    };
                    self.ended.insert(completion.task, End::Completed(answer));
                }
                Effect::Aborted { task, report } => {
                    self.running.remove(&task).expect("a task ends once");
                    self.ended.insert(task, End::Aborted { report });
                }
                Effect::Managed { tag, response, .. } => self.managed.push((tag, response)),
                Effect::Disturb { .. } => unreachable!("a unit by itself harms nobody"),
            }
            queue.extend(more.into_iter().map(|effect| (unit, effect)));
        }
    }

    /// Carries out the held store request at `index`, modulo their number; false when there is none.
    pub fn release(&mut self, index: usize) -> bool {
        if self.held.is_empty() {
            return false;
        }
        let (unit, request) = self.held.remove(index % self.held.len()).unwrap();
        self.call(unit, |lu, effects| lu.store_done(lu.perform(request), effects));
        true
    }

    pub fn release_all(&mut self) {
        while self.release(0) {}
    }

    #[track_caller]
    pub fn run(&mut self, unit: usize, number: u64, cdb: &[u8], out: &[u8], room: u32) -> Answer {
        let id = self.start(unit, number, cdb, out, room);
        self.answer_of(id)
    }

    #[track_caller]
    pub fn answer_of(&mut self, id: TaskId) -> Answer {
        match self.ended.remove(&id) {
            Some(End::Completed(answer)) => answer,
            other => panic!("ended as {other:?}"),
        }
    }

    pub fn manage(
        &mut self,
        unit: usize,
        number: u64,
        function: TaskManagementFunction,
        of: Option<TaskId>,
    ) -> TaskTag {
        let tag = TaskTag(self.next_tag);
        self.next_tag += 1;
        let request = TaskManagementRequest { nexus: NexusId(number), tag, function, referenced: of.map(|id| id.tag) };
        self.call(unit, |lu, effects| lu.manage(request, effects));
        tag
    }

    /// The session of the nexus ends, at every unit.
    pub fn detach(&mut self, number: u64) {
        for unit in 0..self.units.len() {
            self.call(unit, |lu, effects| lu.detach(NexusId(number), NexusLoss::SessionEnded, effects));
        }
        self.running.retain(|task, _| task.nexus != NexusId(number));
    }

    pub fn weak(&self) -> Weak<Around> {
        Arc::downgrade(&self.around)
    }
}

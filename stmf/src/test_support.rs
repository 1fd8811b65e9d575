//! A logical unit, a mailbox and a target port that only write down what happens to them.

use scsi_core::{Guid, GuidHost, Lun, ProtocolId, SenseData, Status, TaskAttribute, TaskManagementFunction};
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use crate::config::{Config, ConfigError, GroupKind, NewView};
use crate::nexus::{Nexus, NexusId, TaskId, TaskTag};
use crate::provider::{
    Completion, Effect, Effects, LogicalUnit, LuTask, Mailbox, NexusLoss, PortError, Segments, StoreDone, StoreError,
    StoreErrorKind, StoreOp, StoreOutcome, StoreRequest, StoreToken, TargetPort, TaskManagementRequest,
};
use crate::session::Session;
use crate::stmf::{SessionRequest, Stmf, TargetInfo};

pub(crate) fn guid(number: u16) -> Guid {
    Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(1), 0, number)
}

/// Takes commands and keeps them; answers management at once unless told to hold it.
#[derive(Debug)]
pub(crate) struct FakeLu {
    guid: Guid,
    pub(crate) attached: Mutex<BTreeMap<NexusId, ()>>,
    pub(crate) losses: Mutex<Vec<(NexusId, NexusLoss)>>,
    pub(crate) tasks: Mutex<BTreeSet<TaskId>>,
    pub(crate) managed: Mutex<Vec<TaskManagementRequest>>,
    pub(crate) hold_management: AtomicBool,
    pub(crate) fails_to_come_online: AtomicBool,
    /// Pushed with the next detach, to see where they go.
    pub(crate) on_detach: Mutex<Effects>,
    pub(crate) stores: Mutex<Vec<StoreToken>>,
}

impl FakeLu {
    pub(crate) fn new(number: u16) -> Arc<Self> {
        Arc::new(Self {
            guid: guid(number),
            attached: Mutex::default(),
            losses: Mutex::default(),
            tasks: Mutex::default(),
            managed: Mutex::default(),
            hold_management: AtomicBool::new(false),
            fails_to_come_online: AtomicBool::new(false),
            on_detach: Mutex::default(),
            stores: Mutex::default(),
        })
    }

    pub(crate) fn attached(&self) -> Vec<NexusId> {
        self.attached.lock().unwrap().keys().copied().collect()
    }
}

impl LogicalUnit for FakeLu {
    fn guid(&self) -> [u8; 16] {
        *self.guid.as_bytes()
    }

    fn attach(&self, nexus: &Arc<Nexus>) {
        assert!(self.attached.lock().unwrap().insert(nexus.id, ()).is_none(), "attached twice");
    }

    fn detach(&self, nexus: NexusId, loss: NexusLoss, effects: &mut Effects) {
        let mut attached = self.attached.lock().unwrap();
        assert!(attached.remove(&nexus).is_some(), "detached without being attached");
        self.losses.lock().unwrap().push((nexus, loss));
        effects.append(&mut self.on_detach.lock().unwrap());
        self.tasks.lock().unwrap().retain(|task| {
            let ends = task.nexus == nexus;
            if ends && loss == NexusLoss::Unmapped {
                effects.push(Effect::Aborted { task: *task, report: true });
            }
            !ends
        });
    }

    fn submit(&self, task: LuTask<'_>, effects: &mut Effects) {
        // Held to the end: a detach comes before the command or after it.
        let attached = self.attached.lock().unwrap();
        if !attached.contains_key(&task.id.nexus) {
            effects.push(Effect::Complete(Completion {
                task: task.id,
                status: Status::CHECK_CONDITION,
                sense: SmallVec::new(),
                data_length: 0,
            }));
            return;
        }
        self.tasks.lock().unwrap().insert(task.id);
    }

    fn data_out(&self, _task: TaskId, _offset: u32, _data: Segments, _effects: &mut Effects) {}

    fn store_done(&self, done: StoreDone, _effects: &mut Effects) {
        self.stores.lock().unwrap().push(done.token);
    }

    fn manage(&self, request: TaskManagementRequest, effects: &mut Effects) {
        self.managed.lock().unwrap().push(request);
        if !self.hold_management.load(Ordering::Relaxed) {
            let response = scsi_core::TaskManagementResponse::FunctionComplete;
            effects.push(Effect::Managed { nexus: request.nexus, tag: request.tag, response });
        }
    }

    fn bring_online(&self) -> Result<(), StoreError> {
        if self.fails_to_come_online.load(Ordering::Relaxed) {
            return Err(StoreError { kind: StoreErrorKind::Gone, context: "open vol1".into() });
        }
        Ok(())
    }

    fn perform(&self, request: StoreRequest) -> StoreDone {
        StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done }
    }
}

/// Keeps what is delivered and counts how often it is woken.
#[derive(Default)]
pub(crate) struct FakeMailbox {
    pub(crate) effects: Mutex<Effects>,
    pub(crate) wakes: AtomicUsize,
}

impl FakeMailbox {
    pub(crate) fn wakes(&self) -> usize {
        self.wakes.load(Ordering::Relaxed)
    }
}

impl Mailbox for FakeMailbox {
    fn deliver(&self, _lu: &Arc<dyn LogicalUnit>, effect: Effect) -> Result<(), Effect> {
        self.effects.lock().unwrap().push(effect);
        Ok(())
    }

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
pub(crate) struct FakePort {
    pub(crate) accepts: AtomicBool,
    pub(crate) broken: AtomicBool,
}

impl TargetPort for FakePort {
    fn bring_online(&self) -> Result<(), PortError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(PortError("no portal".into()));
        }
        self.accepts.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn take_offline(&self) {
        self.accepts.store(false, Ordering::Relaxed);
    }
}

/// A session and its mailbox.
pub(crate) struct Login {
    pub(crate) session: Arc<Session>,
    pub(crate) mailbox: Arc<FakeMailbox>,
}

impl Login {
    pub(crate) fn luns(&self) -> Vec<u16> {
        self.session.lun_map().iter().map(|entry| entry.lun).collect()
    }

    /// Gives the session a command; its effects.
    pub(crate) fn command(&self, lun: Lun, tag: u64, cdb: &[u8]) -> Effects {
        let mut effects = Effects::new();
        self.session.submit(task(&self.session, lun, tag, cdb), &mut effects);
        effects
    }

    /// Gives the session a command that is answered without a logical unit: data, or sense.
    pub(crate) fn answer(&self, lun: Lun, cdb: &[u8]) -> Result<Vec<u8>, SenseData> {
        let mut data = Vec::new();
        for effect in self.command(lun, 999, cdb) {
            match effect {
                Effect::SendData { offset: 0, data: segments, .. } => data = segments.concat(),
                Effect::Complete(done) if done.status == Status::GOOD => return Ok(data),
                Effect::Complete(done) => return Err(SenseData::decode(&done.sense).expect("sense data")),
                other => panic!("unexpected {other:?}"),
            }
        }
        panic!("no answer")
    }
}

pub(crate) fn task<'a>(session: &Session, lun: Lun, tag: u64, cdb: &'a [u8]) -> LuTask<'a> {
    LuTask {
        id: TaskId { nexus: session.id(), tag: TaskTag(tag) },
        lun,
        attribute: TaskAttribute::Simple,
        priority: 0,
        cdb,
        data_out_length: 0,
        data_in_length: 4096,
    }
}

pub(crate) fn management(session: &Session, function: TaskManagementFunction) -> TaskManagementRequest {
    TaskManagementRequest { nexus: session.id(), tag: TaskTag(7), function, referenced: None }
}

/// A framework in which store jobs run at once.
pub(crate) fn framework() -> Arc<Stmf> {
    Stmf::new(Config::new(), Box::new(crate::stmf::StoreJob::run))
}

pub(crate) fn target(stmf: &Stmf, name: &str) -> Arc<FakePort> {
    let port = Arc::new(FakePort::default());
    let info = TargetInfo { name: name.into(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
    stmf.register_target(info, port.clone()).unwrap();
    port
}

pub(crate) fn lu(stmf: &Stmf, number: u16) -> Arc<FakeLu> {
    let lu = FakeLu::new(number);
    stmf.register_lu(lu.clone(), "sbd").unwrap();
    lu
}

pub(crate) fn login(stmf: &Stmf, initiator: &str, target: &str) -> Login {
    let mailbox = Arc::new(FakeMailbox::default());
    let request = SessionRequest {
        initiator: initiator.into(),
        initiator_alias: None,
        transport_id: vec![],
        target: target.into(),
        target_port_name: format!("{target},t,0x0001"),
        mailbox: mailbox.clone(),
        logged_in: 1_229_651_227,
    };
    Login { session: stmf.open_session(request).unwrap(), mailbox }
}

/// Plans and commits in one go.
pub(crate) fn change(
    stmf: &Stmf,
    plan: impl FnOnce(&Config) -> Result<crate::config::Change, ConfigError>,
) -> Result<(), ConfigError> {
    stmf.commit(stmf.with_config(plan)?);
    Ok(())
}

pub(crate) fn view(stmf: &Stmf, number: u16, host_group: Option<&str>, target_group: Option<&str>, lun: u64) {
    let view = NewView { lu: guid(number), host_group, target_group, lun: Some(lun) };
    change(stmf, |config| Ok(config.add_view(&view)?.0)).unwrap();
}

pub(crate) fn group(stmf: &Stmf, kind: GroupKind, name: &str, members: &[&str]) {
    change(stmf, |config| config.create_group(kind, name)).unwrap();
    for member in members {
        change(stmf, |config| config.add_member(kind, name, member)).unwrap();
    }
}

/// A store effect of a nexus.
pub(crate) fn store(nexus: NexusId, token: u64) -> Effect {
    Effect::Store(StoreRequest { nexus, token: StoreToken(token), op: StoreOp::Flush })
}

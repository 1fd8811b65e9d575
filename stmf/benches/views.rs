//! What views cost: resolving a nexus, planning and committing a change, opening a session, at the size of a large
//! site: 1,000 host groups, 10,000 view entries.
#![allow(missing_docs, reason = "criterion's macros make public functions")]

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use scsi_core::{Guid, GuidHost, ProtocolId};
use std::hint::black_box;
use std::sync::Arc;

use stmf::config::{Config, GroupKind, NewView};
use stmf::provider::{
    Effect, Effects, LogicalUnit, LuTask, Mailbox, NexusLoss, PortError, Segments, StoreDone, StoreOutcome,
    StoreRequest, TargetPort, TaskManagementRequest,
};
use stmf::{Nexus, NexusId, Session, SessionRequest, Stmf, TargetInfo, TaskId};

const HOST_GROUPS: u32 = 1_000;
const VIEWS_PER_GROUP: u16 = 10;
const TARGET: &str = "iqn.2026-11.org.lunette:02:bench";

fn guid(group: u32, lun: u16) -> Guid {
    Guid::generate(Guid::DEFAULT_OUI, GuidHost::HostId(group), 0, lun)
}

fn initiator(group: u32) -> String {
    format!("iqn.1998-01.com.vmware:esx{group}")
}

/// 1,000 groups of one member, each with ten units of its own.
fn site() -> Config {
    let mut config = Config::new();
    let change = config
        .batch(|draft| {
            for group in 0..HOST_GROUPS {
                let name = format!("group{group}");
                draft.apply(draft.config().create_group(GroupKind::Host, &name)?);
                draft.apply(draft.config().add_member(GroupKind::Host, &name, &initiator(group))?);
                for lun in 0..VIEWS_PER_GROUP {
                    let lu = guid(group, lun);
                    let view = NewView { lu, host_group: Some(&name), target_group: None, lun: Some(lun.into()) };
                    draft.apply(draft.config().add_view(&view)?.0);
                }
            }
            Ok::<_, stmf::ConfigError>(())
        })
        .expect("a valid site");
    config.commit(change);
    config
}

#[derive(Debug)]
struct Unit(Guid);

impl LogicalUnit for Unit {
    fn guid(&self) -> [u8; 16] {
        *self.0.as_bytes()
    }

    fn attach(&self, _nexus: &Arc<Nexus>) {}

    fn detach(&self, _nexus: NexusId, _loss: NexusLoss, _effects: &mut Effects) {}

    fn submit(&self, _task: LuTask<'_>, _effects: &mut Effects) {}

    fn data_out(&self, _task: TaskId, _offset: u32, _data: Segments, _effects: &mut Effects) {}

    fn store_done(&self, _done: StoreDone, _effects: &mut Effects) {}

    fn manage(&self, _request: TaskManagementRequest, _effects: &mut Effects) {}

    fn perform(&self, request: StoreRequest) -> StoreDone {
        StoreDone { nexus: request.nexus, token: request.token, outcome: StoreOutcome::Done }
    }
}

#[derive(Debug)]
struct Nowhere;

impl TargetPort for Nowhere {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

impl Mailbox for Nowhere {
    fn deliver(&self, _lu: &Arc<dyn LogicalUnit>, _effect: Effect) -> Result<(), Effect> {
        Ok(())
    }

    fn wake(&self) {}
}

/// The site with all its units and a session of every initiator.
fn live() -> (Arc<Stmf>, Vec<Arc<Session>>) {
    let stmf = Stmf::new(site(), Box::new(|job| job.run()));
    let info = TargetInfo { name: TARGET.into(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
    stmf.register_target(info, Arc::new(Nowhere)).expect("a new target");
    for group in 0..HOST_GROUPS {
        for lun in 0..VIEWS_PER_GROUP {
            stmf.register_lu(Arc::new(Unit(guid(group, lun))), "sbd").expect("a new unit");
        }
    }
    let sessions = (0..HOST_GROUPS).map(|group| open(&stmf, group)).collect();
    (stmf, sessions)
}

fn open(stmf: &Stmf, group: u32) -> Arc<Session> {
    let request = SessionRequest {
        initiator: initiator(group),
        initiator_alias: None,
        transport_id: vec![0; 24],
        target: TARGET.into(),
        target_port_name: format!("{TARGET},t,0x0001"),
        mailbox: Arc::new(Nowhere),
        logged_in: 0,
    };
    stmf.open_session(request).expect("an online target")
}

fn views(c: &mut Criterion) {
    let mut config = site();
    c.bench_function("resolve a nexus among 10,000 views", |b| {
        b.iter(|| config.resolve(config.scope_of(black_box("iqn.1998-01.com.vmware:esx500"), TARGET)));
    });
    let spare = guid(HOST_GROUPS, 0);
    let named = NewView { lu: spare, host_group: Some("group500"), target_group: None, lun: None };
    let all = NewView { host_group: None, ..named };
    for (name, view) in [("plan and commit a view of one group", named), ("plan and commit a view of all", all)] {
        c.bench_function(name, |b| {
            b.iter(|| {
                let (change, entry) = config.add_view(black_box(&view)).expect("a free LUN");
                config.commit(change);
                let change = config.remove_view(entry.lu, entry.index).expect("the entry just made");
                config.commit(change);
            });
        });
    }

    let (stmf, sessions) = live();
    stmf.register_lu(Arc::new(Unit(spare)), "sbd").expect("a new unit");
    c.bench_function("open and close a session", |b| {
        b.iter_batched(|| (), |()| open(&stmf, 500).close(), BatchSize::SmallInput);
    });
    for (name, view) in
        [("add and remove a view that 1 session sees", named), ("add and remove a view that 1,000 sessions see", all)]
    {
        c.bench_function(name, |b| {
            b.iter(|| {
                let (change, entry) = stmf.with_config(|config| config.add_view(&view)).expect("a free LUN");
                stmf.commit(change);
                let change = stmf.with_config(|config| config.remove_view(entry.lu, entry.index));
                stmf.commit(change.expect("the entry just made"));
            });
        });
    }
    let lun = scsi_core::Lun::new(7).unwrap_or_default();
    c.bench_function("find the unit behind a LUN", |b| b.iter(|| sessions[500].resolve(black_box(lun))));
}

criterion_group!(benches, views);
criterion_main!(benches);

//! The whole way of a command without a socket: bytes into a worker, through the framework, a unit and a store in memory,
//! bytes out. What it costs can be counted exactly: allocations, instructions.

use bytes::{Bytes, BytesMut};
use iscsi_proto::digest::crc32c;
use iscsi_proto::target::{ConnectionConfig, SessionConfig};
use iscsit::config::{Config, TargetPatch};
use iscsit::{ConnectionId, DefaultPortals, Entropy, Limits, Provider, ProviderConfig, Waker, Worker, WorkerEvent};
use lu_sbd::meta::NoRecord;
use lu_sbd::properties::CreateProperties;
use lu_sbd::{BackingStore, SbdLu};
use scsi_core::{GuidHost, Lun, ProtocolId};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use stmf::config::{GroupKind, NewView};
use stmf::provider::{PortError, TargetPort};
use stmf::{Stmf, TargetInfo};
use testkit::initiator::{Command, Initiator, LoginOptions, Wire};

const TARGET: &str = "iqn.2026-11.org.lunette.bench:path";

#[derive(Debug)]
struct Port;

impl TargetPort for Port {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }

    fn take_offline(&self) {}
}

struct Nothing;

impl Entropy for Nothing {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

impl Waker for Nothing {
    fn wake(&self) {}
}

/// How much there is besides the one disk of the one session.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Units that each session sees, at the LUNs from 0 on; at most 16,384.
    pub units: u16,
    /// View entries, of which each unit has at least one for the initiators of the sessions; the others are for groups of hosts
    /// that are not there.
    pub views: u32,
    /// Sessions.
    pub sessions: u16,
}

/// Units and sessions that take turns: more would say the same.
const TURNS: usize = 16;

/// One worker with sessions of initiators with disks.
pub struct Path {
    target: Rc<RefCell<Target>>,
    sessions: Vec<Numbers>,
    turn: usize,
    units: u16,
    digests: bool,
    chunk: BytesMut,
    random: u64,
    blocks: u64,
}

/// Where a session stands.
struct Numbers {
    connection: ConnectionId,
    cmd_sn: u32,
    exp_stat_sn: u32,
}

struct Target {
    now: Instant,
    worker: Worker,
    out: Vec<Bytes>,
    to_initiator: VecDeque<Bytes>,
    /// Bytes sent, and the session's last answer for the numbers in it.
    keep: bool,
    sent: u64,
}

impl Target {
    /// The driver's loop, but for the sockets.
    fn settle(&mut self) {
        loop {
            let mut progress = false;
            while let Some(job) = self.worker.poll_store() {
                progress = true;
                let ticket = job.ticket;
                let done = match ticket.lu().try_perform(job.request) {
                    Ok(done) => done,
                    Err(request) => ticket.lu().perform(request),
                };
                self.worker.handle_store_done(self.now, &ticket, done);
            }
            while let Some(event) = self.worker.poll_event() {
                progress = true;
                if let WorkerEvent::Transmit(connection) = event {
                    loop {
                        let bytes = self.worker.poll_transmit(self.now, connection, &mut self.out);
                        if bytes == 0 {
                            break;
                        }
                        self.sent += bytes as u64;
                        if self.keep {
                            self.to_initiator.extend(self.out.drain(..));
                        }
                        // As if the socket had taken it.
                        self.out.clear();
                    }
                }
            }
            if !progress {
                return;
            }
        }
    }
}

struct InProcess(Rc<RefCell<Target>>, ConnectionId);

impl Wire for InProcess {
    fn send(&mut self, bytes: Bytes) -> io::Result<()> {
        let mut target = self.0.borrow_mut();
        let now = target.now;
        target.worker.handle_received(now, self.1, bytes);
        target.settle();
        Ok(())
    }

    fn receive(&mut self) -> io::Result<Option<Bytes>> {
        let bytes = self.0.borrow_mut().to_initiator.pop_front();
        bytes.map(Some).ok_or_else(|| io::ErrorKind::TimedOut.into())
    }
}

impl Path {
    /// A session with a disk on `store`, logged in and ready, every block written.
    ///
    /// # Panics
    /// When the target does not come up: never, but by a bug.
    pub fn new(store: Arc<dyn BackingStore>, digests: bool) -> Self {
        Self::furnished(&|_| Arc::clone(&store), digests, Scale { units: 1, views: 1, sessions: 1 })
    }

    /// The same beside much else; each unit has a store of its own, all of the same size.
    ///
    /// # Panics
    /// As [`new`](Self::new).
    pub fn furnished(store: &dyn Fn(u16) -> Arc<dyn BackingStore>, digests: bool, scale: Scale) -> Self {
        let properties = CreateProperties::default();
        let guids: Vec<_> =
            (0..scale.units).map(|unit| properties.guid(GuidHost::HostId(1), u32::from(unit), 1)).collect();
        let mut config = stmf::config::Config::new();
        let units = u32::from(scale.units);
        let count = scale.views.max(units);
        // The first group has the initiators; of the others, nobody is there.
        for group in 0..count.div_ceil(units) {
            config.commit(config.create_group(GroupKind::Host, &format!("hosts-{group}")).expect("a new group"));
        }
        for session in 0..scale.sessions {
            config.commit(config.add_member(GroupKind::Host, "hosts-0", &host(session)).expect("a new member"));
        }
        let views = config.batch(|draft| {
            for index in 0..count {
                let (group, unit) = (format!("hosts-{}", index / units), index % units);
                let (lu, lun) = (guids[unit as usize], Some(unit.into()));
                let view = NewView { lu, host_group: Some(&group), target_group: None, lun };
                let (change, _) = draft.config().add_view(&view)?;
                draft.apply(change);
            }
            Ok::<(), stmf::ConfigError>(())
        });
        config.commit(views.expect("a new view each"));
        let stmf = Stmf::new(config, Box::new(stmf::StoreJob::run));
        let mut size = 0;
        for (unit, guid) in guids.iter().enumerate() {
            let store = store(unit as u16);
            size = store.capacity();
            let identity = properties.identity(*guid, FilePath::new("path"), size).expect("a disk");
            let lu = SbdLu::new(identity, store, Arc::new(NoRecord), lu_sbd::Limits::default());
            stmf.register_lu(Arc::new(lu), "sbd").expect("a new unit");
        }
        let info =
            TargetInfo { name: TARGET.into(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
        stmf.register_target(info, Arc::new(Port)).expect("a new target");
        let config = ProviderConfig {
            limits: Limits::default(),
            connection: ConnectionConfig::default(),
            session: SessionConfig::default(),
            entropy: Box::new(Nothing),
            unix_time: Box::new(|| 1_700_000_000),
        };
        let provider = Provider::new(stmf, config);
        let mut config = Config::default();
        let patch = TargetPatch { name: Some(TARGET.into()), ..TargetPatch::default() };
        let (_, change) = config.plan_create_target(&patch, [0; 16]).expect("a new target");
        config.commit(change);
        provider.set_config(Arc::new(config));
        let portal: SocketAddr = ([192, 0, 2, 1], 3260).into();
        provider.set_default_portals(DefaultPortals { advertised: vec![portal], any_address: vec![] });
        let worker = Worker::new(provider, Arc::new(Nothing));
        let target =
            Target { now: Instant::now(), worker, out: Vec::new(), to_initiator: VecDeque::new(), keep: true, sent: 0 };
        let target = Rc::new(RefCell::new(target));
        let sessions = (0..scale.sessions).map(|session| log_in(&target, portal, session, scale.units, size, digests));
        let sessions = sessions.collect();
        target.borrow_mut().keep = false;
        Self {
            target,
            sessions,
            turn: 0,
            units: scale.units,
            digests,
            chunk: BytesMut::with_capacity(256 << 10),
            random: 88_172_645_463_325_252,
            blocks: size / 512,
        }
    }

    /// Bytes that the target has sent.
    pub fn sent(&self) -> u64 {
        self.target.borrow().sent
    }

    /// `count` reads or writes of `bytes` at random places, in one receive of up to 256 KiB.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn batch(&mut self, writes: bool, count: u32, bytes: u32) {
        let turns = self.sessions.len().min(TURNS);
        // The first, the last and some between.
        let at = self.turn % turns * (self.sessions.len() / turns);
        let lun = lun_of(self.units, self.turn / turns);
        self.turn += 1;
        let session = &mut self.sessions[at];
        self.chunk.clear();
        assert!(self.chunk.try_reclaim(256 << 10), "nothing of the last batch is held any more");
        for tag in 0..count {
            self.random ^= self.random << 13;
            self.random ^= self.random >> 7;
            self.random ^= self.random << 17;
            let blocks = bytes / 512;
            let lba = (self.random >> 20) % (self.blocks / u64::from(blocks)) * u64::from(blocks);
            let mut header = [0; 48];
            (header[0], header[1]) = (0x01, 0x81 | if writes { 0x20 } else { 0x40 });
            if writes {
                header[4..8].copy_from_slice(&bytes.to_be_bytes());
            }
            header[8..16].copy_from_slice(&lun);
            header[16..20].copy_from_slice(&tag.to_be_bytes());
            header[20..24].copy_from_slice(&bytes.to_be_bytes());
            header[24..28].copy_from_slice(&session.cmd_sn.to_be_bytes());
            header[28..32].copy_from_slice(&session.exp_stat_sn.to_be_bytes());
            header[32] = if writes { 0x8a } else { 0x88 };
            header[34..42].copy_from_slice(&lba.to_be_bytes());
            header[42..46].copy_from_slice(&blocks.to_be_bytes());
            self.chunk.extend_from_slice(&header);
            if self.digests {
                self.chunk.extend_from_slice(&crc32c(&header).to_le_bytes());
            }
            if writes {
                let data = self.chunk.len();
                self.chunk.resize(data + bytes as usize, 0xa5);
                if self.digests {
                    self.chunk.extend_from_slice(&crc32c(&self.chunk[data..]).to_le_bytes());
                }
            }
            session.cmd_sn = session.cmd_sn.wrapping_add(1);
            session.exp_stat_sn = session.exp_stat_sn.wrapping_add(1);
        }
        let received = self.chunk.split().freeze();
        let target = &mut *self.target.borrow_mut();
        target.worker.handle_received(target.now, session.connection, received);
        target.settle();
    }
}

/// The LUN of a turn, as it stands in a PDU.
fn lun_of(units: u16, turn: usize) -> [u8; 8] {
    Lun::new(place(units, turn)).unwrap_or_default().0
}

fn place(units: u16, turn: usize) -> u16 {
    let turns = usize::from(units).min(TURNS);
    (turn % turns * (usize::from(units) / turns)) as u16
}

/// The initiator of a session.
fn host(session: u16) -> String {
    format!("iqn.2026-11.org.lunette.bench:host{session}")
}

/// A session of its own initiator, whose disks have told that they are new. The first session writes every block of those that
/// will be used.
fn log_in(
    target: &Rc<RefCell<Target>>,
    portal: SocketAddr,
    session: u16,
    units: u16,
    size: u64,
    digests: bool,
) -> Numbers {
    let connection = {
        let mut target = target.borrow_mut();
        let now = target.now;
        target.worker.accept(now, portal, ([192, 0, 2, 2], 40_000).into()).expect("room for one more")
    };
    let mut initiator = Initiator::new(InProcess(Rc::clone(target), connection));
    let mut options = LoginOptions::normal(&host(session), TARGET)
        .with("ImmediateData", "Yes")
        .with("InitialR2T", "No")
        .with("FirstBurstLength", "262144")
        .with("MaxBurstLength", "1048576");
    if digests {
        options = options.with_digests();
    }
    initiator.login(&options).expect("a login");
    for turn in 0..TURNS.min(units.into()) {
        let lun = place(units, turn);
        while !initiator.command(&Command::new(lun, &[0; 6])).expect("an answer").is_good() {}
        for lba in (0..size / 512).step_by(128).take_while(|_| session == 0) {
            let write = Command::write_blocks(lun, lba, vec![0x5a; 64 << 10]);
            let outcome = initiator.command(&write).expect("an answer");
            assert!(outcome.is_good(), "{outcome:?}");
        }
    }
    Numbers { connection, cmd_sn: initiator.cmd_sn.0, exp_stat_sn: initiator.exp_stat_sn.0 }
}

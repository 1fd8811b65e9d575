//! An initiator and a whole target in one thread: no socket, no clock.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use iscsi_proto::auth::chap;
use iscsi_proto::initiator::{self, Command, ConnectionKey, Event, LoginConfig, LoginError, Outcome, Response};
use iscsi_proto::login::DigestPreference;
use iscsi_proto::pdu::{Isid, LoginStatus};
use iscsit::config::{AuthMethod, ChapMinimum, Config, DefaultsPatch, InitiatorPatch, Patch, Redirection, TargetPatch};
use iscsit::{
    ConnectionId, DefaultPortals, Entropy, Limits, Notice, ProofAnswer, ProofChecker, Provider, ProviderConfig, Waker,
    Worker, WorkerEvent,
};
use lu_sbd::SbdLu;
use lu_sbd::meta::{Identity, NoRecord};
use lu_sbd::store::MemoryStore;
use scsi_core::{Guid, Lun, ProtocolId, Status, TaskManagementFunction};
use stmf::config::NewView;
use stmf::provider::{LogicalUnit, PortError, TargetPort};
use stmf::{Stmf, TargetInfo};

const TARGET: &str = "iqn.2026-11.org.example:disk";
const HOST: &str = "iqn.2026-11.org.example:host";
const SECRET: &str = "correct horse battery";
const MIB: u64 = 1 << 20;

#[derive(Debug)]
struct Port;

impl TargetPort for Port {
    fn bring_online(&self) -> Result<(), PortError> {
        Ok(())
    }
    fn take_offline(&self) {}
}

struct Counting(AtomicU8);

impl Entropy for Counting {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.iter_mut().for_each(|byte| *byte = self.0.fetch_add(1, Ordering::Relaxed));
    }
}

struct NoThread;

impl Waker for NoThread {
    fn wake(&self) {}
}

/// One worker, one unit of 64 MiB seen by everybody as LUN 0.
struct Bench {
    now: Instant,
    provider: Arc<Provider>,
    worker: Worker,
    notices: Vec<Notice>,
    /// What the worker sent, by connection.
    sent: HashMap<ConnectionId, Vec<Bytes>>,
    closed: Vec<ConnectionId>,
    /// Connections that want nothing until they say so.
    stopped: HashSet<ConnectionId>,
    chunk: usize,
}

fn local() -> SocketAddr {
    "127.0.0.1:3260".parse().unwrap()
}

impl Bench {
    fn new() -> Self {
        let stmf = Stmf::new(stmf::config::Config::new(), Box::new(|job| job.run()));
        let guid = Guid::from_bytes([0x60, 0, 1, 0x44, 0xf0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11]).unwrap();
        let identity = Identity {
            guid,
            vendor: "LUNETTE".into(),
            product: "VIRTUAL DISK".into(),
            revision: "1.0".into(),
            serial: None,
            alias: "disk".into(),
            block_size: 512,
            size: 64 * MIB,
            write_protect: false,
            write_cache_disabled: false,
            management_urls: Vec::new(),
            data: None,
            removable: false,
            thick: false,
            io_limits: lu_sbd::IoLimits::default(),
            device_information: Vec::new(),
            text_information: String::new(),
            mode_pages: Vec::new(),
            reservations: Vec::new(),
            unfinished: None,
        };
        let store = Arc::new(MemoryStore::new(64 * MIB));
        let lu: Arc<dyn LogicalUnit> =
            Arc::new(SbdLu::new(identity, store, Arc::new(NoRecord), lu_sbd::Limits::default()));
        stmf.register_lu(lu, "sbd").unwrap();
        let view = NewView { lu: guid, host_group: None, target_group: None, lun: Some(0) };
        let (change, _) = stmf.with_config(|config| config.add_view(&view)).unwrap();
        stmf.commit(change);
        let info =
            TargetInfo { name: TARGET.into(), protocol: ProtocolId::ISCSI, alias: None, provider: "iscsit".into() };
        stmf.register_target(info, Arc::new(Port)).unwrap();

        let provider = Provider::new(
            stmf,
            ProviderConfig {
                limits: Limits::default(),
                connection: Default::default(),
                session: Default::default(),
                entropy: Box::new(Counting(AtomicU8::new(0))),
                unix_time: Box::new(|| 1_700_000_000),
            },
        );
        let mut config = Config::default();
        let wish = TargetPatch { name: Some(TARGET.into()), ..TargetPatch::default() };
        let (_, change) = config.plan_create_target(&wish, [0; 16]).unwrap();
        config.commit(change);
        provider.set_config(Arc::new(config));
        provider.set_default_portals(DefaultPortals { advertised: vec![local()], any_address: vec![] });
        let worker = Worker::new(Arc::clone(&provider), Arc::new(NoThread));
        Self {
            now: Instant::now(),
            provider,
            worker,
            notices: Vec::new(),
            sent: HashMap::new(),
            closed: Vec::new(),
            stopped: HashSet::new(),
            chunk: usize::MAX,
        }
    }

    fn configure(&mut self, change: impl FnOnce(&mut Config)) {
        let mut config = (*self.provider.config()).clone();
        change(&mut config);
        self.provider.set_config(Arc::new(config));
    }

    fn require_chap(&mut self, mutual: bool) {
        self.configure(|config| {
            let patch = InitiatorPatch { chap_secret: Patch::Set(SECRET.into()), ..InitiatorPatch::default() };
            let change = config.plan_create_initiator(HOST, &patch).unwrap();
            config.commit(change);
            let mut patch = TargetPatch { auth: Patch::Set(AuthMethod::Chap), ..TargetPatch::default() };
            if mutual {
                patch.chap_secret = Patch::Set("another horse battery".into());
            }
            for change in config.plan_modify_target(TARGET, &patch, true).unwrap().1 {
                config.commit(change);
            }
        });
    }

    fn require_at_least(&mut self, minimum: ChapMinimum) {
        self.configure(|config| {
            let patch = DefaultsPatch { chap_minimum: Some(minimum), ..DefaultsPatch::default() };
            let change = config.plan_modify_defaults(&patch).unwrap();
            config.commit(change);
        });
    }

    fn redirect(&mut self, portal: &str, permanent: bool) {
        self.configure(|config| {
            let redirection = Redirection { portals: vec![portal.parse().unwrap()], permanent };
            let patch = TargetPatch { redirection: Patch::Set(redirection), ..TargetPatch::default() };
            for change in config.plan_modify_target(TARGET, &patch, true).unwrap().1 {
                config.commit(change);
            }
        });
    }

    fn connect(&mut self) -> ConnectionId {
        self.worker.accept(self.now, local(), "127.0.0.1:40000".parse().unwrap()).unwrap()
    }

    /// Delivers bytes as a driver has to that asks once how much to receive, at once, and then waits to be told.
    fn receive(&mut self, id: ConnectionId, bytes: Bytes) {
        assert!(!self.stopped.contains(&id) || self.closed.contains(&id), "nobody said that receiving may go on");
        self.worker.handle_received(self.now, id, bytes);
        if self.worker.recv_hint(id).wanted == 0 {
            self.stopped.insert(id);
        }
        self.drain();
    }

    /// Runs the worker until it wants nothing more.
    fn drain(&mut self) {
        loop {
            let mut idle = true;
            while let Some(job) = self.worker.poll_store() {
                let done = job.ticket.lu().perform(job.request);
                self.worker.handle_store_done(self.now, &job.ticket, done);
                idle = false;
            }
            self.worker.handle_mail(self.now);
            while let Some(event) = self.worker.poll_event() {
                idle = false;
                match event {
                    WorkerEvent::Transmit(id) => {
                        while self.worker.poll_transmit(self.now, id, self.sent.entry(id).or_default()) > 0 {}
                    }
                    WorkerEvent::Close(id) => {
                        while self.worker.poll_transmit(self.now, id, self.sent.entry(id).or_default()) > 0 {}
                        self.worker.handle_closed(self.now, id);
                        self.closed.push(id);
                    }
                    WorkerEvent::Notice(notice) => self.notices.push(notice),
                    WorkerEvent::Receive(id) => drop(self.stopped.remove(&id)),
                    WorkerEvent::HandOff { .. } => panic!("there is one worker"),
                }
            }
            if idle {
                return;
            }
        }
    }
}

/// An initiator's session with the bench.
struct Host {
    session: initiator::Session,
    links: Vec<(ConnectionKey, ConnectionId)>,
    events: Vec<Event>,
}

fn login_config() -> LoginConfig {
    LoginConfig::new(HOST, Some(TARGET), Isid::random([1, 2, 3], 4))
}

impl Host {
    fn new(bench: &mut Bench, config: LoginConfig) -> Self {
        let session = initiator::Session::new(initiator::SessionConfig::new(config), 0xffff_fff0);
        let mut host = Self { session, links: Vec::new(), events: Vec::new() };
        host.connect(bench);
        host
    }

    fn connect(&mut self, bench: &mut Bench) {
        let link = (self.session.connect(bench.now), bench.connect());
        self.links.push(link);
        self.run(bench);
    }

    /// Carries bytes both ways until nothing moves.
    fn run(&mut self, bench: &mut Bench) {
        loop {
            let mut idle = true;
            for (key, id) in self.links.clone() {
                let mut out = Vec::new();
                while self.session.poll_transmit(bench.now, key, &mut out) > 0 {}
                for bytes in out {
                    for piece in bytes.chunks(bench.chunk) {
                        idle = false;
                        bench.receive(id, bytes.slice_ref(piece));
                    }
                }
                bench.drain();
                for bytes in bench.sent.remove(&id).unwrap_or_default() {
                    for piece in bytes.chunks(bench.chunk) {
                        idle = false;
                        self.session.handle_received(bench.now, key, bytes.slice_ref(piece));
                    }
                }
                if let Some(at) = bench.closed.iter().position(|closed| *closed == id) {
                    bench.closed.remove(at);
                    self.session.handle_closed(key);
                    self.links.retain(|link| link.1 != id);
                }
            }
            while let Some(event) = self.session.poll_event() {
                self.events.push(event);
            }
            if idle {
                return;
            }
        }
    }

    fn login_error(&self) -> Option<&LoginError> {
        self.events.iter().find_map(|event| match event {
            Event::LoginFailed { error, .. } => Some(error),
            _ => None,
        })
    }

    fn logged_in(&self) -> usize {
        self.events.iter().filter(|event| matches!(event, Event::LoggedIn { .. })).count()
    }

    fn command(&mut self, bench: &mut Bench, cdb: &[u8], data_out: &[u8], data_in_length: u32) -> Response {
        let command = Command {
            lun: Lun::ZERO,
            cdb: cdb.to_vec(),
            data_out: Bytes::copy_from_slice(data_out).into(),
            data_in_length,
            ..Command::default()
        };
        let task = self.session.submit(command).unwrap();
        self.run(bench);
        let at =
            self.events.iter().position(|event| matches!(event, Event::TaskDone { task: done, .. } if *done == task));
        match self.events.remove(at.expect("the command ended")) {
            Event::TaskDone { outcome: Outcome::Response(response), .. } => response,
            other => panic!("{other:?}"),
        }
    }

    /// Meets the unit attention of a new nexus.
    fn greet(&mut self, bench: &mut Bench) {
        let response = self.command(bench, &[0; 6], b"", 0);
        assert_eq!((response.status, response.sense[2] & 0xf, response.sense[12]), (Status::CHECK_CONDITION, 6, 0x29));
    }
}

fn read10(lba: u32, blocks: u16) -> [u8; 10] {
    rw10(0x28, lba, blocks)
}

fn write10(lba: u32, blocks: u16) -> [u8; 10] {
    rw10(0x2a, lba, blocks)
}

fn rw10(opcode: u8, lba: u32, blocks: u16) -> [u8; 10] {
    let (l, b) = (lba.to_be_bytes(), blocks.to_be_bytes());
    [opcode, 0, l[0], l[1], l[2], l[3], 0, b[0], b[1], 0]
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i * 7 + i / 251) as u8).collect()
}

fn round_trip(bench: &mut Bench, config: LoginConfig) {
    let mut host = Host::new(bench, config);
    assert_eq!((host.logged_in(), host.login_error()), (1, None));
    host.greet(bench);
    for (lba, blocks) in [(0u32, 1u16), (9, 16), (100, 513), (1000, 8192)] {
        let data = pattern(usize::from(blocks) * 512);
        assert_eq!(host.command(bench, &write10(lba, blocks), &data, 0).status, Status::GOOD);
        let read = host.command(bench, &read10(lba, blocks), b"", data.len() as u32);
        assert_eq!(read.status, Status::GOOD);
        assert_eq!(read.data_in.to_bytes(), data);
    }
}

#[test]
fn what_is_written_is_read() {
    round_trip(&mut Bench::new(), login_config());
}

#[test]
fn digests_and_any_split_change_nothing() {
    let mut bench = Bench::new();
    bench.chunk = 1021;
    let mut config = login_config();
    config.preferences.header_digest = DigestPreference::Require;
    config.preferences.data_digest = DigestPreference::Require;
    round_trip(&mut bench, config);
}

#[test]
fn an_initiator_that_waits_for_r2ts_is_served() {
    let mut config = login_config();
    config.preferences.session.initial_r2t = true;
    config.preferences.session.immediate_data = false;
    config.preferences.session.max_burst_length = 8192;
    config.preferences.session.max_outstanding_r2t = 1;
    config.preferences.max_recv_data_segment_length = 4096;
    round_trip(&mut Bench::new(), config);
}

#[test]
fn residuals_tell_what_did_not_fit() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, login_config());
    host.greet(&mut bench);
    let more = host.command(&mut bench, &read10(0, 1), b"", 1024);
    assert_eq!((more.residual, more.data_in.len()), (iscsi_proto::pdu::Residual::Underflow(512), 512));
    let less = host.command(&mut bench, &read10(0, 2), b"", 512);
    assert_eq!((less.residual, less.data_in.len()), (iscsi_proto::pdu::Residual::Overflow(512), 512));
}

#[test]
fn two_connections_make_one_session() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, login_config());
    host.connect(&mut bench);
    assert_eq!((host.logged_in(), host.login_error()), (2, None));
    assert_eq!((bench.worker.sessions(), bench.worker.connections()), (1, 2));
    host.greet(&mut bench);
    for lba in 0..16 {
        let data = pattern(512);
        assert_eq!(host.command(&mut bench, &write10(lba, 1), &data, 0).status, Status::GOOD);
    }
}

#[test]
fn the_same_isid_reinstates_the_session() {
    let mut bench = Bench::new();
    let mut first = Host::new(&mut bench, login_config());
    let second = Host::new(&mut bench, login_config());
    first.run(&mut bench);
    assert_eq!(second.logged_in(), 1);
    assert_eq!(bench.worker.sessions(), 1);
    assert!(first.links.is_empty(), "the old connection was closed");
}

#[test]
fn chap_lets_the_right_secret_in() {
    for algorithm in chap::Algorithm::SUPPORTED {
        let mut bench = Bench::new();
        bench.require_chap(false);
        let mut config = login_config();
        config.algorithms = vec![algorithm];
        config.credentials = Some(chap::Credentials { name: HOST.into(), secret: chap::Secret::new(SECRET) });
        round_trip(&mut bench, config);
    }
}

#[test]
fn chap_refuses_a_wrong_secret_with_0201_and_a_notice_that_names_the_initiator() {
    let mut bench = Bench::new();
    bench.require_chap(false);
    let mut config = login_config();
    let wrong = "wrong horse battery!!";
    config.credentials = Some(chap::Credentials { name: HOST.into(), secret: chap::Secret::new(wrong) });
    let host = Host::new(&mut bench, config);
    let refused = LoginError::Refused { status: LoginStatus::AUTHENTICATION_FAILURE };
    assert_eq!(host.login_error(), Some(&refused));
    let words: Vec<String> = bench.notices.iter().map(ToString::to_string).collect();
    assert!(words.iter().any(|line| line.contains(HOST) && line.contains("0201")), "{words:?}");
    assert!(words.iter().all(|line| !line.contains(SECRET) && !line.contains(wrong)));
    assert_eq!((bench.worker.sessions(), bench.worker.connections()), (0, 0));
}

#[test]
fn an_algorithm_below_the_minimum_is_refused() {
    for (offered, status) in [(chap::Algorithm::SHA1, false), (chap::Algorithm::SHA256, true)] {
        let mut bench = Bench::new();
        bench.require_chap(false);
        bench.require_at_least(ChapMinimum::Sha256);
        let mut config = login_config();
        config.algorithms = vec![offered];
        config.credentials = Some(chap::Credentials { name: HOST.into(), secret: chap::Secret::new(SECRET) });
        assert_eq!(Host::new(&mut bench, config).logged_in() == 1, status, "{offered}");
    }
}

#[test]
fn a_login_to_a_target_that_moved_is_told_where() {
    for permanently in [false, true] {
        let mut bench = Bench::new();
        // Who would have to prove itself there is told here without.
        bench.require_chap(false);
        bench.redirect("192.0.2.7:3333", permanently);
        let host = Host::new(&mut bench, login_config());
        let moved = LoginError::Moved { addresses: vec!["192.0.2.7:3333".into()], permanently };
        assert_eq!(host.login_error(), Some(&moved));
        let words: Vec<String> = bench.notices.iter().map(ToString::to_string).collect();
        let told = |line: &String| line.starts_with("redirected login") && line.contains("192.0.2.7:3333");
        assert!(words.iter().any(told), "{words:?}");
        assert!(bench.notices.iter().all(|notice| !notice.is_warning()));
        assert_eq!((bench.worker.sessions(), bench.worker.connections()), (0, 0));
    }
}

#[test]
fn an_initiator_without_credentials_is_refused_where_chap_is_required() {
    let mut bench = Bench::new();
    bench.require_chap(false);
    let host = Host::new(&mut bench, login_config());
    let refused = LoginError::Refused { status: LoginStatus::AUTHENTICATION_FAILURE };
    assert_eq!(host.login_error(), Some(&refused));
}

#[test]
fn mutual_chap_proves_the_target_too() {
    for (secret, proven) in [("another horse battery", true), ("not the target's secret", false)] {
        let mut bench = Bench::new();
        bench.require_chap(true);
        let mut config = login_config();
        config.credentials = Some(chap::Credentials { name: HOST.into(), secret: chap::Secret::new(SECRET) });
        config.target_proof = Some(initiator::TargetProof {
            credentials: chap::Credentials { name: String::new(), secret: chap::Secret::new(secret) },
            identifier: 9,
            challenge: vec![0xc3; 32],
        });
        let host = Host::new(&mut bench, config);
        assert_eq!(host.logged_in() == 1, proven, "{:?}", host.login_error());
    }
}

/// Keeps what it is asked.
#[derive(Clone, Default)]
struct Clerk(Arc<std::sync::Mutex<Vec<(chap::Proof, ProofAnswer)>>>);

impl ProofChecker for Clerk {
    fn check(&self, proof: chap::Proof, answer: ProofAnswer) {
        self.0.lock().unwrap().push((proof, answer));
    }
}

#[test]
fn a_proof_for_radius_is_judged_outside_and_later() {
    for verdict in [Some(Ok(())), Some(Err("the server is cross".to_owned())), None] {
        let mut bench = Bench::new();
        bench.configure(|config| {
            let defaults = DefaultsPatch {
                auth: Patch::Set(AuthMethod::Radius),
                radius_servers: Patch::Set(vec!["192.0.2.9:1812".parse().unwrap()]),
                radius_secret: Patch::Set("shared between two".into()),
                ..DefaultsPatch::default()
            };
            let change = config.plan_modify_defaults(&defaults).unwrap();
            config.commit(change);
        });
        let clerk = Clerk::default();
        bench.provider.set_proof_checker(Some(Box::new(clerk.clone())));
        let mut config = login_config();
        // The initiator would rather have another one, but RADIUS knows only MD5.
        config.algorithms = vec![chap::Algorithm::SHA256, chap::Algorithm::MD5];
        config.credentials = Some(chap::Credentials { name: HOST.into(), secret: chap::Secret::new(SECRET) });
        let mut host = Host::new(&mut bench, config);
        assert_eq!((host.logged_in(), host.login_error()), (0, None), "it waits");
        let (proof, answer) = clerk.0.lock().unwrap().pop().unwrap();
        assert_eq!((proof.name.as_str(), proof.algorithm), (HOST, chap::Algorithm::MD5));
        assert!(proof.verify(SECRET.as_bytes()));
        match verdict.clone() {
            Some(verdict) => answer.give(verdict),
            None => drop(answer),
        }
        host.run(&mut bench);
        assert_eq!(host.logged_in(), usize::from(verdict == Some(Ok(()))), "{verdict:?}");
        if verdict != Some(Ok(())) {
            let refused = LoginError::Refused { status: LoginStatus::AUTHENTICATION_FAILURE };
            assert_eq!(host.login_error(), Some(&refused));
            let words: Vec<String> = bench.notices.iter().map(ToString::to_string).collect();
            let reason = if verdict.is_some() { "cross" } else { "nobody could check" };
            assert!(words.iter().any(|line| line.contains(reason)), "{words:?}");
        }
    }
}

#[test]
fn an_unknown_target_is_0203() {
    let mut bench = Bench::new();
    let config = LoginConfig::new(HOST, Some("iqn.2026-11.org.example:nothing"), Isid::default());
    let host = Host::new(&mut bench, config);
    assert_eq!(host.login_error(), Some(&LoginError::Refused { status: LoginStatus::NOT_FOUND }));
}

#[test]
fn discovery_lists_the_target() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, LoginConfig::new(HOST, None, Isid::default()));
    assert_eq!(host.logged_in(), 1);
    host.session.send_targets("All").unwrap();
    host.run(&mut bench);
    let targets = host.events.iter().find_map(|event| match event {
        Event::Targets { targets: Some(targets), .. } => Some(targets),
        _ => None,
    });
    let targets = targets.expect("an answer");
    assert_eq!((targets.len(), targets[0].name.as_str()), (1, TARGET));
    assert_eq!(targets[0].addresses, ["127.0.0.1:3260,1"]);
}

#[test]
fn a_reset_is_answered_and_met_as_unit_attention() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, login_config());
    host.greet(&mut bench);
    let reset = initiator::TaskManagement {
        function: TaskManagementFunction::LogicalUnitReset,
        lun: Lun::ZERO,
        referenced: None,
    };
    let request = host.session.manage(reset).unwrap();
    host.run(&mut bench);
    assert!(host.events.iter().any(|event| matches!(event,
        Event::TaskManaged { request: done, response: Some((code, _)) }
            if *done == request && *code == iscsi_proto::pdu::TaskManagementResponseCode::FUNCTION_COMPLETE)));
    let response = host.command(&mut bench, &[0; 6], b"", 0);
    assert_eq!((response.status, response.sense[12]), (Status::CHECK_CONDITION, 0x29));
}

#[test]
fn logout_ends_the_session_and_frees_everything() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, login_config());
    host.session.logout().unwrap();
    host.run(&mut bench);
    assert!(host.events.iter().any(|event| matches!(event, Event::LoggedOut { .. })));
    assert_eq!((bench.worker.sessions(), bench.worker.connections()), (0, 0));
    assert_eq!(bench.provider.stmf().target(TARGET).unwrap().sessions.len(), 0);
}

#[test]
fn shutting_down_asks_for_logout_then_closes() {
    let mut bench = Bench::new();
    let mut host = Host::new(&mut bench, login_config());
    bench.worker.shut_down(bench.now, Duration::from_secs(3));
    host.run(&mut bench);
    assert!(host.events.iter().any(|event| matches!(event, Event::Async(_))), "asked to log out");
    bench.now += Duration::from_secs(4);
    bench.worker.handle_timeout(bench.now);
    host.run(&mut bench);
    assert_eq!((bench.worker.sessions(), bench.worker.connections()), (0, 0));
}

#[test]
fn a_connection_that_breaks_during_its_login_leaves_nothing() {
    let mut bench = Bench::new();
    let id = bench.connect();
    bench.worker.handle_received(bench.now, id, Bytes::from_static(&[0x43, 0x87, 0, 0]));
    bench.worker.handle_closed(bench.now, id);
    bench.drain();
    assert_eq!((bench.worker.sessions(), bench.worker.connections()), (0, 0));
}

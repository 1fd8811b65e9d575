//! A port over an adapter that does exchanges, and logins where it says so: what is asked of it, and what it may tell.

mod common;

use bytes::Bytes;
use common::{INITIATOR, LOW_INITIATOR, TARGET, framework, transfer};
use fct::wire::{
    CtCommand, CtHeader, CtReason, Els, ElsCommand, FcpCommand, FcpResponse, FcpService, LoginParameters,
    LsExplanation, LsReason, PrliPage,
};
use fct::{Port, PortConfig, PortEvent, PortState, PortType};
use scsi_core::{Lun, TaskAttribute};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use stmf::Stmf;
use stmf::provider::hba::{
    ExchangeId, FabricLogin, Hba, HbaControl, HbaDetails, HbaEvent, HbaLevel, HbaLimits, HbaRequest, Link, LinkService,
    LinkStatistics, Offload, PortId, RemotePort, Topology, Wwn,
};
use stmf::provider::{PortError, Segments};

/// Service parameters but for the names.
const ANY_LOGIN: LoginParameters = LoginParameters {
    port_name: Wwn(0),
    node_name: Wwn(0),
    f_port: false,
    credit: 8,
    max_frame_payload: 2048,
    class3: true,
    e_d_tov_ms: 2000,
    r_a_tov_ms: 0,
};

const ADDRESS: PortId = PortId(0x01_0400);
const FIRST: PortId = PortId(0x01_0300);
const SECOND: PortId = PortId(0x01_0500);

const STATISTICS: LinkStatistics = LinkStatistics {
    link_failures: 1,
    losses_of_sync: 2,
    losses_of_signal: 3,
    primitive_sequence_errors: 4,
    invalid_words: 5,
    invalid_crcs: 6,
};

/// What the adapter is told and tells.
#[derive(Debug, Default)]
struct Queues {
    events: VecDeque<HbaEvent>,
    requests: Vec<HbaRequest>,
}

#[derive(Debug)]
struct Firmware {
    offload: Offload,
    queues: Arc<Mutex<Queues>>,
}

impl Hba for Firmware {
    fn port_name(&self) -> Wwn {
        TARGET
    }

    fn node_name(&self) -> Wwn {
        Wwn(0x2000_001b_320e_fd58)
    }

    fn details(&self) -> HbaDetails {
        HbaDetails { driver_name: "firm".into(), ..HbaDetails::default() }
    }

    fn offload(&self) -> Offload {
        self.offload
    }

    fn limits(&self) -> HbaLimits {
        HbaLimits { max_logins: 2, max_exchanges: 64, max_frame_payload: 2048 }
    }

    fn statistics(&self) -> LinkStatistics {
        STATISTICS
    }

    fn control(&mut self, _now: Instant, _control: HbaControl) -> Result<(), PortError> {
        Ok(())
    }

    fn submit(&mut self, _now: Instant, request: HbaRequest) -> Result<(), HbaRequest> {
        self.queues.lock().unwrap().requests.push(request);
        Ok(())
    }

    fn poll_event(&mut self, _now: Instant) -> Option<HbaEvent> {
        self.queues.lock().unwrap().events.pop_front()
    }
}

struct World {
    now: Instant,
    stmf: Arc<Stmf>,
    port: Port,
    queues: Arc<Mutex<Queues>>,
    next: u64,
}

impl World {
    fn new(offload: Offload) -> Self {
        let (now, stmf, queues) = (Instant::now(), framework(), Arc::<Mutex<Queues>>::default());
        let hba = Firmware { offload, queues: Arc::clone(&queues) };
        let port = Port::new(&stmf, Box::new(hba), PortConfig::default(), Box::new(|| {})).unwrap();
        let mut world = Self { now, stmf, port, queues, next: 1 };
        // The framework switches it on before there can be a link.
        world.run();
        world
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap()
    }

    fn run(&mut self) {
        self.port.drive(self.now);
        while let Some(job) = self.port.poll_store() {
            let done = job.lu.perform(job.request);
            self.port.handle_store_done(self.now, &job.lu, done);
            self.port.drive(self.now);
        }
    }

    /// The adapter tells something; what it is asked then.
    fn tell(&mut self, event: HbaEvent) -> Vec<HbaRequest> {
        self.queues().events.push_back(event);
        self.run();
        std::mem::take(&mut self.queues().requests)
    }

    fn link_up(&mut self, topology: Topology, fabric_login: FabricLogin) -> Vec<HbaRequest> {
        self.tell(HbaEvent::LinkUp(Link { topology, port_id: ADDRESS, speed: 16, fabric_login }))
    }

    fn exchange(&mut self) -> ExchangeId {
        self.next += 1;
        ExchangeId(self.next)
    }

    /// A link service of a remote port; its answer.
    fn service(&mut self, from: PortId, payload: Vec<u8>) -> Vec<u8> {
        let (exchange, payload) = (self.exchange(), segments(payload));
        let event = HbaEvent::Service { exchange, service: LinkService::Els, from, to: ADDRESS, payload };
        let asked = self.tell(event);
        let answer = asked.into_iter().find_map(|request| match request {
            HbaRequest::Reply { exchange: answered, payload } if answered == exchange => Some(payload.concat()),
            _ => None,
        });
        answer.expect("an answer")
    }

    /// A command of a remote port; what is asked of the adapter.
    fn command(&mut self, from: PortId, cdb: [u8; 10], write: u32, read: u32) -> (ExchangeId, Vec<HbaRequest>) {
        let unit = FcpCommand {
            lun: Lun::ZERO,
            reference: 0,
            priority: 0,
            attribute: TaskAttribute::Simple,
            management: None,
            cdb: cdb.into_iter().chain([0; 6]).collect(),
            write: write > 0,
            read: read > 0,
            data_length: write.max(read),
            bidirectional_read_length: 0,
        };
        let (exchange, payload) = (self.exchange(), segments(unit.encode()));
        (exchange, self.tell(HbaEvent::Command { exchange, from, to: ADDRESS, ox_id: 1, payload }))
    }

    fn sessions(&self) -> Vec<String> {
        self.stmf.sessions().iter().map(|session| session.nexus().initiator.clone()).collect()
    }
}

fn segments(payload: Vec<u8>) -> Segments {
    [Bytes::from(payload)].into_iter().collect()
}

fn offload(logins: bool) -> Offload {
    Offload { level: HbaLevel::Commands, logins, max_segments: 2, max_transfer_length: 4096 }
}

fn remote(port_id: PortId, port_name: Wwn) -> RemotePort {
    let service_parameters = FcpService::INITIATOR.0;
    RemotePort { port_id, port_name, node_name: port_name, max_frame_payload: 2048, service_parameters }
}

/// A private loop, and two initiators that the firmware has logged in.
fn logged_in() -> World {
    let mut world = World::new(offload(true));
    world.link_up(Topology::PrivateLoop, FabricLogin::ToDo);
    for (id, name) in [(FIRST, INITIATOR), (SECOND, LOW_INITIATOR)] {
        world.tell(HbaEvent::RemotePortUp(remote(id, name)));
        // The unit attention of a new nexus.
        world.command(id, [0; 10], 0, 0);
    }
    world
}

fn response(asked: &[HbaRequest], of: ExchangeId) -> FcpResponse {
    let found = asked.iter().find_map(|request| match request {
        HbaRequest::Respond { exchange, payload } if *exchange == of => Some(payload.concat()),
        _ => None,
    });
    FcpResponse::decode(&found.expect("a response")).unwrap()
}

#[test]
fn logins_that_the_firmware_takes_are_sessions() {
    let mut world = logged_in();
    assert_eq!(world.sessions(), [INITIATOR.device_name(), LOW_INITIATOR.device_name()]);
    let (exchange, asked) = world.command(FIRST, [0; 10], 0, 0);
    assert_eq!(response(&asked, exchange).status, 0);
    // One too many is forgotten by the firmware as well.
    let asked = world.tell(HbaEvent::RemotePortUp(remote(PortId(9), Wwn(0x2100_0000_0000_0009))));
    assert!(asked.iter().any(|request| matches!(request, HbaRequest::Deregister(PortId(9)))), "{asked:?}");
    world.tell(HbaEvent::RemotePortDown(FIRST));
    assert_eq!(world.sessions(), [LOW_INITIATOR.device_name()]);
    world.tell(HbaEvent::LinkDown);
    assert!(world.sessions().is_empty());
}

#[test]
fn data_is_cut_as_the_adapter_wants_it() {
    let mut world = logged_in();
    let data = common::pattern(16 << 10);
    let (exchange, asked) = world.command(FIRST, transfer(0x2a, 0, data.len()), data.len() as u32, 0);
    // Fetched in bursts that it can carry, one at a time.
    let (mut asked, mut at) = (asked, 0);
    while at < data.len() {
        let burst = asked.iter().find_map(|request| match request {
            HbaRequest::Receive { exchange: of, offset, length } if *of == exchange => Some((*offset, *length)),
            _ => None,
        });
        assert_eq!(burst, Some((at as u32, 4096)), "{asked:?}");
        let piece = data[at..at + 4096].to_vec();
        asked = world.tell(HbaEvent::Data { exchange, offset: at as u32, data: segments(piece) });
        at += 4096;
    }
    assert_eq!(response(&asked, exchange).status, 0);
    let (exchange, asked) = world.command(FIRST, transfer(0x28, 0, data.len()), 0, data.len() as u32);
    let mut read = Vec::new();
    for request in &asked {
        if let HbaRequest::SendData { exchange: of, offset, data } = request {
            assert_eq!((*of, *offset as usize), (exchange, read.len()));
            assert!(data.len() <= 2 && data.iter().map(Bytes::len).sum::<usize>() <= 4096);
            read.extend(data.concat());
        }
    }
    assert!(read == data, "what was written is read");
    assert_eq!(response(&asked, exchange).status, 0);
}

#[test]
fn an_adapter_that_has_failed_is_left_alone() {
    let mut world = logged_in();
    assert!(world.tell(HbaEvent::Failed("its firmware has stopped".into())).is_empty());
    assert_eq!((world.port.failure(), world.port.info().state), (Some("its firmware has stopped"), PortState::Error));
    assert!(world.sessions().is_empty());
    let events: Vec<PortEvent> = std::iter::from_fn(|| world.port.poll_event()).collect();
    assert!(events.contains(&PortEvent::Failed("its firmware has stopped".into())), "{events:?}");
    // Whatever it says now: it has nothing to say, and is asked nothing.
    assert!(world.link_up(Topology::PointToPoint, FabricLogin::ToDo).is_empty());
    assert!(world.port.info().state == PortState::Error && world.port.info().remotes.is_empty());
}

#[test]
fn a_third_party_is_logged_out_and_others_stay() {
    let mut world = logged_in();
    let tprlo = |flags, parameters| Els::Tprlo(PrliPage { kind: 8, flags, words: [0; 2], parameters }).encode();
    // Neither one nor all.
    let refused = world.service(FIRST, tprlo(0, 0));
    let expected = Els::Reject { reason: LsReason::LOGICAL_ERROR, explanation: LsExplanation::PARAMETERS };
    assert_eq!(Els::decode(&refused).unwrap(), expected);
    // Another protocol than FCP, of which there are no processes here.
    let other = PrliPage { kind: 0x1b, flags: PrliPage::GLOBAL, words: [0; 2], parameters: 0 };
    let accepted = PrliPage::decode(&world.service(FIRST, Els::Tprlo(other).encode())).unwrap();
    assert_eq!((accepted.kind, accepted.flags & 0x0f00), (0x1b, PrliPage::NO_IMAGE));
    assert_eq!(world.sessions().len(), 2);
    let accepted = world.service(FIRST, tprlo(PrliPage::THIRD_PARTY, SECOND.0));
    assert_eq!(accepted[0], ElsCommand::LS_ACC.0);
    assert_eq!(PrliPage::decode(&accepted).unwrap().flags & 0x0f00, PrliPage::EXECUTED);
    assert_eq!(world.sessions(), [INITIATOR.device_name()]);
    assert_eq!(world.service(FIRST, tprlo(PrliPage::GLOBAL, 0))[0], ElsCommand::LS_ACC.0);
    assert!(world.sessions().is_empty());
}

#[test]
fn link_errors_are_those_that_the_adapter_counts() {
    let mut world = logged_in();
    let block = world.service(FIRST, Els::Rls.encode());
    let counters: Vec<u32> =
        block[4..].chunks_exact(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
    assert_eq!((block[0], counters.as_slice()), (ElsCommand::LS_ACC.0, &[1, 2, 3, 4, 5, 6][..]));
    assert_eq!(world.port.info().statistics, STATISTICS);
}

#[test]
fn a_port_on_a_fabric_tells_the_name_server_everything_even_if_some_is_refused() {
    let mut world = World::new(offload(false));
    let mut asked = world.link_up(Topology::PointToPoint, FabricLogin::Fabric);
    let mut told = Vec::new();
    loop {
        let next = asked.iter().find_map(|request| match request {
            HbaRequest::Request { exchange, service, from, to, payload } => {
                Some((*exchange, *service, *from, *to, payload.concat()))
            }
            _ => None,
        });
        let Some((exchange, service, from, to, payload)) = next else { break };
        assert_eq!(from, ADDRESS);
        let answer = match service {
            LinkService::Els => {
                assert_eq!(to, if told.is_empty() { PortId::DIRECTORY } else { PortId::FABRIC_CONTROLLER });
                told.push(u16::from(payload[0]));
                match Els::decode(&payload).unwrap() {
                    Els::Plogi(parameters) => LoginParameters { port_name: Wwn(1), ..parameters }.encode(2),
                    _ => vec![ElsCommand::LS_ACC.0, 0, 0, 0],
                }
            }
            LinkService::Ct => {
                assert_eq!(to, PortId::DIRECTORY);
                let command = CtHeader::decode(&payload).unwrap().command;
                told.push(command.0);
                // Old fabrics know no features.
                let command = if command == CtCommand::RFF_ID { CtCommand::REJECT } else { CtCommand::ACCEPT };
                CtHeader { command, words: 0, reason: CtReason::NOT_SUPPORTED }.encode()
            }
        };
        let payload = Some(segments(answer));
        asked = world.tell(HbaEvent::Reply { exchange, to: ADDRESS, payload });
    }
    let expected = [
        u16::from(ElsCommand::PLOGI.0),
        CtCommand::RNN_ID.0,
        CtCommand::RCS_ID.0,
        CtCommand::RFT_ID.0,
        CtCommand::RFF_ID.0,
        CtCommand::RSPN_ID.0,
        CtCommand::RSNN_NN.0,
        u16::from(ElsCommand::SCR.0),
    ];
    assert_eq!(told, expected);
}

#[test]
fn firmware_that_met_one_other_port_is_asked_for_no_fabric() {
    // The other port has the higher name, or the firmware logs in: there is nothing to ask.
    let mut world = World::new(offload(false));
    let asked = world.link_up(Topology::PointToPoint, FabricLogin::NoFabric { log_in_to: PortId::NONE });
    assert!(matches!(asked[..], [HbaRequest::Address(ADDRESS)]), "{asked:?}");
    assert_eq!((world.port.info().port_type, world.port.info().state), (PortType::PointToPoint, PortState::Online));
    let parameters = LoginParameters { port_name: INITIATOR, node_name: INITIATOR, ..ANY_LOGIN };
    assert_eq!(world.service(FIRST, Els::Plogi(parameters).encode())[0], ElsCommand::LS_ACC.0);
    let flags = PrliPage::IMAGE_PAIR;
    let page = PrliPage { kind: 8, flags, words: [0; 2], parameters: FcpService::INITIATOR.0 };
    let accepted = world.service(FIRST, Els::Prli(page).encode());
    assert_eq!(accepted[0], ElsCommand::LS_ACC.0);
    assert_eq!(world.sessions(), [INITIATOR.device_name()]);
}

#[test]
fn of_two_ports_the_one_with_the_higher_name_logs_in_though_the_firmware_did_flogi() {
    let mut world = World::new(offload(false));
    let asked = world.link_up(Topology::PointToPoint, FabricLogin::NoFabric { log_in_to: FIRST });
    let asked = requests(asked);
    let [(exchange, FIRST, payload)] = &asked[..] else { panic!("it logs in, and does nothing else: {asked:?}") };
    assert_eq!(payload[0], ElsCommand::PLOGI.0);
    let exchange = *exchange;
    let parameters = LoginParameters { port_name: INITIATOR, node_name: INITIATOR, ..ANY_LOGIN };
    let payload = Some(segments(parameters.encode(ElsCommand::LS_ACC.0)));
    let asked = world.tell(HbaEvent::Reply { exchange, to: ADDRESS, payload });
    assert!(requests(asked).is_empty(), "nobody else is asked anything");
    assert_eq!(world.port.info().remotes[0].port_name, INITIATOR);
}

#[test]
fn remote_ports_are_asked_for_the_errors_of_their_links() {
    let mut world = logged_in();
    world.port.ask_link_errors(world.now);
    // Whoever asks again meanwhile waits with the first.
    world.port.ask_link_errors(world.now);
    world.run();
    let asked = std::mem::take(&mut world.queues().requests);
    let asked = requests(asked);
    assert_eq!(
        asked.iter().map(|(_, to, payload)| (*to, payload[0])).collect::<Vec<_>>(),
        [(FIRST, ElsCommand::RLS.0), (SECOND, ElsCommand::RLS.0)]
    );
    assert!(world.port.awaits_link_errors());
    let mut block = vec![ElsCommand::LS_ACC.0, 0, 0, 0];
    (1..=6_u32).for_each(|counter| block.extend_from_slice(&counter.to_be_bytes()));
    world.tell(HbaEvent::Reply { exchange: asked[0].0, to: ADDRESS, payload: Some(segments(block)) });
    assert!(world.port.awaits_link_errors());
    let refusal = Els::Reject { reason: LsReason::NOT_SUPPORTED, explanation: LsExplanation::NONE };
    world.tell(HbaEvent::Reply { exchange: asked[1].0, to: ADDRESS, payload: Some(segments(refusal.encode())) });
    assert!(!world.port.awaits_link_errors());
    let found = |world: &World, name| {
        let remotes = world.port.info().remotes;
        remotes.into_iter().find(|remote| remote.port_name == name).and_then(|remote| remote.link_errors)
    };
    assert_eq!((found(&world, INITIATOR), found(&world, LOW_INITIATOR)), (Some(STATISTICS), None));
    // What is not answered is not waited for when the port is gone.
    world.port.ask_link_errors(world.now);
    assert!(world.port.awaits_link_errors() && found(&world, INITIATOR).is_none());
    world.tell(HbaEvent::LinkDown);
    assert!(!world.port.awaits_link_errors());
}

#[test]
fn a_change_on_the_fabric_has_those_concerned_asked() {
    let mut world = World::new(offload(true));
    world.link_up(Topology::PointToPoint, FabricLogin::Fabric);
    for (id, name) in [(FIRST, INITIATOR), (PortId(0x02_0100), LOW_INITIATOR)] {
        world.tell(HbaEvent::RemotePortUp(remote(id, name)));
    }
    // The whole area of the first; the other domain is not concerned.
    let rscn = |world: &mut World| {
        let payload = segments(Els::Rscn([(1, PortId(0x01_0300))].into_iter().collect()).encode());
        let (service, from) = (LinkService::Els, PortId::FABRIC_CONTROLLER);
        let exchange = world.exchange();
        requests(world.tell(HbaEvent::Service { exchange, service, from, to: ADDRESS, payload }))
    };
    let reply = |world: &mut World, exchange, answer| {
        requests(world.tell(HbaEvent::Reply { exchange, to: ADDRESS, payload: Some(segments(answer)) }))
    };
    // The name server is asked first, then the port, which answers with another name.
    let asked = rscn(&mut world);
    let [(exchange, PortId::DIRECTORY, payload)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!(payload[..], CtHeader::find(INITIATOR)[..]);
    let mut known = CtHeader { command: CtCommand::ACCEPT, words: 0, reason: CtReason::default() }.encode();
    known.extend_from_slice(&[0, 1, 3, 0]);
    let asked = reply(&mut world, *exchange, known);
    let [(exchange, FIRST, payload)] = &asked[..] else { panic!("{asked:?}") };
    assert_eq!((payload[0], world.sessions().len()), (ElsCommand::ADISC.0, 2));
    let mut other = payload.clone();
    (other[0], other[15]) = (ElsCommand::LS_ACC.0, 0xee);
    reply(&mut world, *exchange, other);
    assert_eq!(world.sessions(), [LOW_INITIATOR.device_name()]);
    // One that is not registered any more is not waited for.
    world.tell(HbaEvent::RemotePortUp(remote(FIRST, INITIATOR)));
    let asked = rscn(&mut world);
    let gone = CtHeader { command: CtCommand::REJECT, words: 0, reason: CtReason::NOT_REGISTERED }.encode();
    assert_eq!(world.sessions().len(), 2);
    reply(&mut world, asked[0].0, gone);
    assert_eq!(world.sessions(), [LOW_INITIATOR.device_name()]);
}

/// The link services that the adapter is asked to send.
fn requests(asked: Vec<HbaRequest>) -> Vec<(ExchangeId, PortId, Vec<u8>)> {
    let request = |request| match request {
        HbaRequest::Request { exchange, to, payload, .. } => Some((exchange, to, payload.concat())),
        _ => None,
    };
    asked.into_iter().filter_map(request).collect()
}

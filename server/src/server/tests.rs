//! A whole server in the process of the test, and an initiator that speaks over a socket.

use super::*;
use crate::driver::{Interface, Limits};
use lu_sbd::store::MemoryStore;
use std::time::Instant;
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};

const INITIATOR: &str = "iqn.2026-11.org.example:test";

fn over_each_interface(test: impl Fn(Interface)) {
    test(Interface::Epoll);
    // Where there is no io_uring it is the same again.
    test(Interface::IoUring);
}

fn builder(interface: Interface) -> ServerBuilder {
    Server::builder()
        .disk(Disk::new(MemoryStore::new(16 << 20)))
        .portal("127.0.0.1:0".parse().unwrap())
        .threads(2)
        .interface(interface)
}

fn connect(server: &Server) -> Initiator<TcpWire> {
    Initiator::new(TcpWire::connect(server.portals()[0]).unwrap())
}

fn log_in(server: &Server) -> Initiator<TcpWire> {
    let mut initiator = connect(server);
    initiator.login(&LoginOptions::normal(INITIATOR, server.target().unwrap())).unwrap();
    initiator
}

/// The first command meets the unit attention of a unit that was just reached.
fn ready(mut initiator: Initiator<TcpWire>) -> Initiator<TcpWire> {
    initiator.command(&Command::new(0, &[0; 6])).unwrap();
    initiator
}

fn pattern(seed: u8, bytes: usize) -> Vec<u8> {
    (0..bytes).map(|index| (index / 512) as u8 ^ index as u8 ^ seed).collect()
}

#[test]
fn what_is_written_is_read_back() {
    over_each_interface(|interface| {
        let server = builder(interface).start().unwrap();
        let mut initiator = ready(log_in(&server));
        let data = pattern(7, 1 << 20);
        assert!(initiator.command(&Command::write_blocks(0, 5, data.clone())).unwrap().is_good());
        let outcome = initiator.command(&Command::read_blocks(0, 5, (data.len() / 512) as u32)).unwrap();
        assert!(outcome.is_good() && outcome.data == data);
        initiator.logout().unwrap();
        server.stop();
    });
}

#[test]
fn discovery_lists_the_target_at_the_portal_that_was_reached() {
    let server = builder(Interface::Epoll).start().unwrap();
    let mut initiator = connect(&server);
    initiator.login(&LoginOptions::discovery(INITIATOR)).unwrap();
    let found = initiator.send_targets("All").unwrap();
    let address = format!("{},1", server.portals()[0]);
    let target = server.target().unwrap();
    assert!(found.contains(&("TargetName".into(), target.into())), "{found:?}");
    assert!(found.contains(&("TargetAddress".into(), address)), "{found:?}");
}

#[test]
fn many_sessions_on_two_threads_keep_their_data_apart() {
    over_each_interface(|interface| {
        let server = builder(interface).start().unwrap();
        let mut sessions: Vec<_> = (0..20)
            .map(|number| {
                let mut initiator = connect(&server);
                let name = format!("{INITIATOR}{number}");
                initiator.login(&LoginOptions::normal(&name, server.target().unwrap())).unwrap();
                ready(initiator)
            })
            .collect();
        for (number, initiator) in sessions.iter_mut().enumerate() {
            let write = Command::write_blocks(0, number as u64 * 64, pattern(number as u8, 64 * 512));
            assert!(initiator.command(&write).unwrap().is_good());
        }
        for (number, initiator) in sessions.iter_mut().enumerate() {
            let outcome = initiator.command(&Command::read_blocks(0, number as u64 * 64, 64)).unwrap();
            assert!(outcome.data == pattern(number as u8, 64 * 512));
        }
        assert_eq!(server.sessions().len(), 20);
        assert!(server.sessions().iter().all(|session| session.addresses.len() == 1 && session.luns == 1));
        let threads = server.statistics().threads;
        assert!(threads.iter().all(|thread| thread.connections == 10), "{threads:?}");
    });
}

#[test]
fn a_session_reinstated_over_another_thread_takes_the_place_of_the_old_one() {
    let server = builder(Interface::Epoll).start().unwrap();
    // Same initiator name, same ISID: the second login ends the first session, whichever thread it came in on.
    let mut first = ready(log_in(&server));
    let mut second = ready(log_in(&server));
    assert!(first.command(&Command::new(0, &[0; 6])).is_err());
    assert!(second.command(&Command::new(0, &[0; 6])).unwrap().is_good());
    assert_eq!(server.sessions().len(), 1);
}

#[test]
fn a_reader_that_does_not_take_its_data_holds_up_nobody() {
    over_each_interface(|interface| {
        let server = builder(interface).threads(1).start().unwrap();
        let mut slow = ready(log_in(&server));
        let tags: Vec<_> = (0..32).map(|_| slow.start(&Command::read_blocks(0, 0, 2048)).unwrap()).collect();
        let mut quick = connect(&server);
        quick.login(&LoginOptions::normal("iqn.2026-11.org.example:quick", server.target().unwrap())).unwrap();
        let mut quick = ready(quick);
        for _ in 0..50 {
            assert!(quick.command(&Command::read_blocks(0, 0, 8)).unwrap().is_good());
        }
        for tag in tags {
            let outcome = slow.finish(tag).unwrap();
            assert!(outcome.is_good() && outcome.data.len() == 1 << 20);
        }
    });
}

#[test]
fn half_open_logins_are_limited_and_cost_others_nothing() {
    let server = builder(Interface::Epoll).start().unwrap();
    let mut initiator = ready(log_in(&server));
    let flood: Vec<_> = (0..1000).map(|_| std::net::TcpStream::connect(server.portals()[0]).unwrap()).collect();
    assert!(initiator.command(&Command::read_blocks(0, 0, 8)).unwrap().is_good());
    let mut late = connect(&server);
    late.login(&LoginOptions::normal("iqn.2026-11.org.example:late", server.target().unwrap())).unwrap();
    assert!(server.statistics().half_open <= Limits::default().max_half_open_per_address);
    drop(flood);
}

#[test]
fn a_stop_asks_initiators_to_log_out() {
    over_each_interface(|interface| {
        let server = builder(interface).start().unwrap();
        let mut initiator = ready(log_in(&server));
        let stopping = std::thread::spawn(move || {
            let started = Instant::now();
            server.stop_within(Duration::from_secs(20));
            started.elapsed()
        });
        while initiator.async_messages.is_empty() {
            initiator.ping(b"still here").unwrap();
        }
        initiator.logout().unwrap();
        drop(initiator);
        assert!(stopping.join().unwrap() < Duration::from_secs(10));
    });
}

#[test]
fn a_stop_ends_though_an_initiator_stays() {
    let server = builder(Interface::Epoll).start().unwrap();
    let mut initiator = ready(log_in(&server));
    let started = Instant::now();
    server.stop_within(Duration::from_millis(100));
    assert!(started.elapsed() < Duration::from_secs(5));
    // The request to log out, then the end.
    while initiator.receive().is_ok() {}
}

#[test]
fn disks_come_and_go_while_sessions_go_on() {
    let server = builder(Interface::Epoll).start().unwrap();
    let mut initiator = ready(log_in(&server));
    let guid = server.add_disk(Disk::new(MemoryStore::new(1 << 20)).lun(5)).unwrap();
    assert!(server.add_disk(Disk::new(MemoryStore::new(1 << 20)).lun(5)).is_err(), "the LUN is taken");
    // The change of the LUN map, and the new unit's power on.
    initiator.command(&Command::new(0, &[0; 6])).unwrap();
    initiator.command(&Command::new(5, &[0; 6])).unwrap();
    assert!(initiator.command(&Command::write_blocks(5, 0, pattern(1, 4096))).unwrap().is_good());
    assert!(server.remove_disk(guid));
    assert!(!server.remove_disk(guid));
    let gone = initiator.command(&Command::read_blocks(5, 0, 8)).unwrap();
    assert_eq!(gone.sense_triple(), Some((5, 0x25, 0)));
}

#[test]
fn a_server_that_cannot_start_says_why_and_serves_nothing() {
    let first = builder(Interface::Epoll).start().unwrap();
    let error = Server::builder().portal(first.portals()[0]).start().unwrap_err();
    assert!(error.to_string().contains(&first.portals()[0].to_string()), "{error}");
    assert!(error.hint().unwrap().contains("another program"), "{error}");
    let error = Server::builder().target("no name").start().unwrap_err();
    assert!(error.to_string().contains("no name"), "{error}");
}

#[test]
fn a_server_of_a_state_directory_comes_back_as_it_was() {
    use crate::admin::{Request, TargetSettings};
    let place = tempfile::tempdir().unwrap();
    let config = ServerConfig {
        state: place.path().join("state"),
        socket: place.path().join("socket"),
        portals: vec!["127.0.0.1:0".parse().unwrap()],
        threads: NonZeroUsize::new(1),
        ..ServerConfig::default()
    };
    let name = "iqn.2026-11.org.example:kept";
    let server = Server::start(&config).unwrap();
    let execute = |server: &Server, request| server.engine().unwrap().lock().unwrap().execute(request).unwrap();
    execute(
        &server,
        Request::CreateTarget { settings: TargetSettings { name: Some(name.into()), ..Default::default() } },
    );
    let log_in = |server: &Server| connect(server).login(&LoginOptions::normal(INITIATOR, name));
    log_in(&server).unwrap();
    let error = Server::start(&config).unwrap_err();
    assert!(error.hint().unwrap().contains("a server runs"), "{error}: {:?}", error.hint());
    server.stop_within(Duration::from_millis(100));
    let server = Server::start(&config).unwrap();
    log_in(&server).unwrap();
    execute(&server, Request::DeleteTarget { target: name.into(), force: true });
    assert!(log_in(&server).is_err());
}

#[test]
fn a_server_is_configured_before_it_listens() {
    use iscsit::config::TargetPatch;
    let server = Server::builder().no_portal().threads(1).start().unwrap();
    assert!(server.portals().is_empty());
    let name = "iqn.2026-11.org.example:second";
    let patch = TargetPatch { name: Some(name.into()), ..TargetPatch::default() };
    server.change_iscsi(|config| Ok(vec![config.plan_create_target(&patch, [0; 16])?.1])).unwrap();
    let again = server.change_iscsi(|config| Ok(vec![config.plan_create_target(&patch, [0; 16])?.1]));
    assert!(matches!(again, Err(ChangeError::Refused(_))));
    let portal = server.listen("127.0.0.1:0".parse().unwrap()).unwrap();
    assert_eq!(server.portals(), [portal]);
    connect(&server).login(&LoginOptions::normal(INITIATOR, name)).unwrap();
}

#[test]
fn a_hidden_disk_has_no_lun_until_it_gets_a_view() {
    use stmf::config::NewView;
    let server = Server::builder().portal("127.0.0.1:0".parse().unwrap()).threads(1).start().unwrap();
    let lu = server.add_disk(Disk::new(MemoryStore::new(1 << 20)).hidden()).unwrap();
    let _initiator = log_in(&server);
    let luns = || server.stmf().explain(INITIATOR, server.target().unwrap()).luns.len();
    assert_eq!(luns(), 0);
    let view = NewView { lu, host_group: None, target_group: None, lun: Some(7) };
    let (change, _) = server.stmf().with_config(|config| config.add_view(&view)).unwrap();
    server.stmf().commit(change);
    assert_eq!(luns(), 1);
}

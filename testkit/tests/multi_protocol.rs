//! One logical unit, reached over Fibre Channel and iSCSI at once through one host group.

use fct::initiator::{Event, Initiator as FcInitiator};
use fct::soft::{SoftHba, SoftHbaConfig, Wire};
use fct::{Port, PortConfig};
use scsi_core::{Lun, Status};
use std::time::Instant;
use stmf::config::{GroupKind, NewView};
use stmf::provider::hba::{PortId, Wwn};
use testkit::initiator::{Command, Initiator, LoginOptions, Outcome};
use testkit::link::LinkFaults;
use testkit::san::{San, SanWire, TARGET, guid};

const HOST: &str = "iqn.1998-01.com.vmware:vh1";
const QLT2: Wwn = Wwn(0x2100_001b_320e_fd58);
/// The host's port, and its node as its own tool prints it.
const ESX_PORT: Wwn = Wwn(0x2100_00e0_8b01_f7e2);
const ESX_NODE: Wwn = Wwn(0x2000_00e0_8b01_f7e2);

/// A host with both kinds of adapter, and the array: one disk of 1 MiB at LUN 1 for the host group ESX1.
struct Site {
    san: San,
    now: Instant,
    port: Port,
    fc: FcInitiator,
    target: PortId,
    iscsi: Initiator<SanWire>,
}

impl Site {
    fn new() -> Self {
        let san = San::new(1, 1);
        san.disk(1, 1, 1 << 20);
        san.change(|config| config.create_group(GroupKind::Host, "ESX1"));
        // Upper or lower case makes no difference.
        san.change(|config| config.add_member(GroupKind::Host, "ESX1", "wwn.210000e08b01f7e2"));
        san.change(|config| config.add_member(GroupKind::Host, "ESX1", HOST));
        san.change(|config| config.remove_view(guid(1), 0));
        let view = NewView { lu: guid(1), host_group: Some("ESX1"), target_group: None, lun: Some(1) };
        san.change(|config| Ok(config.add_view(&view)?.0));
        let now = Instant::now();
        let (a, b) = Wire::new(1).ends();
        let mut adapter = SoftHbaConfig::new(QLT2, Wwn(0x2000_001b_320e_fd58));
        (adapter.details.driver_name, adapter.details.instance) = ("qlt".into(), 2);
        let hba = Box::new(SoftHba::new(adapter, a));
        let port = Port::new(&san.stmf(), hba, PortConfig::default(), Box::new(|| {})).unwrap();
        let fc = FcInitiator::new(now, Box::new(SoftHba::new(SoftHbaConfig::new(ESX_PORT, ESX_NODE), b)), ":qlc1");
        let iscsi = Initiator::new(san.connect(0, LinkFaults::default()));
        let mut site = Self { san, now, port, fc, target: PortId::NONE, iscsi };
        site.run();
        // The host's name is the higher one: it gave the addresses.
        site.target = PortId(2);
        site.fc.log_in(now, site.target);
        site.run();
        site.iscsi.login(&LoginOptions::normal(HOST, TARGET)).unwrap();
        // Each nexus has the unit attention of a unit that has just come up.
        assert_eq!(site.over_fc(Command::new(1, &[0; 6])).0, Status::CHECK_CONDITION);
        assert_eq!(site.over_iscsi(Command::new(1, &[0; 6])).status, Status::CHECK_CONDITION);
        site
    }

    fn run(&mut self) {
        loop {
            self.port.drive(self.now);
            let mut progress = false;
            while let Some(job) = self.port.poll_store() {
                progress = true;
                let done = job.lu.perform(job.request);
                self.port.handle_store_done(self.now, &job.lu, done);
                self.port.drive(self.now);
            }
            if !(self.fc.drive(self.now) || progress) {
                return;
            }
        }
    }

    fn over_fc(&mut self, command: Command) -> (Status, Vec<u8>) {
        let mut cdb = command.cdb;
        cdb.resize(cdb.len().max(16), 0);
        let command = fct::initiator::Command {
            lun: command.lun,
            cdb,
            attribute: command.attribute,
            data_out: command.data,
            data_in_length: command.read_length,
        };
        let exchange = self.fc.submit(self.now, self.target, command);
        self.run();
        while let Some(event) = self.fc.poll_event() {
            if let Event::Done(id, outcome) = event
                && id == exchange
            {
                return (Status(outcome.response.expect("a response").status), outcome.data.to_vec());
            }
        }
        panic!("no outcome");
    }

    fn over_iscsi(&mut self, command: Command) -> Outcome {
        self.iscsi.command(&command).unwrap()
    }
}

fn pattern(byte: u8, blocks: usize) -> Vec<u8> {
    vec![byte; blocks * 512]
}

#[test]
fn what_is_written_over_fibre_channel_is_read_over_iscsi() {
    let mut site = Site::new();
    let data: Vec<u8> = (0..64 << 10).map(|at: u32| (at * 7 + at / 512) as u8).collect();
    assert_eq!(site.over_fc(Command::write_blocks(1, 8, data.clone())).0, Status::GOOD);
    let outcome = site.over_iscsi(Command::read_blocks(1, 8, 128));
    assert!(outcome.is_good() && outcome.data == data);
    // And back.
    assert!(site.over_iscsi(Command::write_blocks(1, 8, pattern(9, 2))).is_good());
    assert_eq!(site.over_fc(Command::read_blocks(1, 8, 2)), (Status::GOOD, pattern(9, 2)));
}

#[test]
fn both_ways_lead_to_one_identity_by_ports_of_their_own() {
    let mut site = Site::new();
    let identification = Command::read(1, &[0x12, 1, 0x83, 4, 0, 0], 1024);
    let (status, over_fc) = site.over_fc(identification.clone());
    assert_eq!(status, Status::GOOD);
    let over_iscsi = site.over_iscsi(identification).data;
    // The designator of the unit: binary, NAA, 16 bytes.
    let unit =
        |page: &[u8]| page.windows(4).position(|four| four == [1, 3, 0, 16]).map(|at| page[at..at + 20].to_vec());
    assert!(unit(&over_fc).is_some() && unit(&over_fc) == unit(&over_iscsi));
    assert_ne!(over_fc[..], over_iscsi[..], "the designators of the ports differ");
    let stmf = site.san.stmf();
    let target = stmf.target("wwn.2100001b320efd58").unwrap();
    assert_eq!((target.name.as_str(), target.provider.as_str()), ("wwn.2100001B320EFD58", "qlt"));
    assert_eq!((target.alias.as_deref(), target.protocol), (Some("qlt2,0"), 0));
    assert_eq!(target.sessions[0].initiator, "wwn.210000E08B01F7E2");
}

#[test]
fn compare_and_write_meets_what_the_other_transport_wrote() {
    let mut site = Site::new();
    assert_eq!(site.over_fc(Command::write_blocks(1, 0, pattern(1, 1))).0, Status::GOOD);
    let mut cdb = [0; 16];
    (cdb[0], cdb[13]) = (0x89, 1);
    let swap = |old: u8, new: u8| Command::write(1, &cdb, [pattern(old, 1), pattern(new, 1)].concat());
    assert!(site.over_iscsi(swap(1, 2)).is_good());
    // The one that comes too late miscompares.
    assert_eq!(site.over_fc(swap(1, 3)).0, Status::CHECK_CONDITION);
    assert_eq!(site.over_fc(swap(2, 4)).0, Status::GOOD);
    assert_eq!(site.over_iscsi(Command::read_blocks(1, 0, 1)).data, pattern(4, 1));
}

#[test]
fn reservations_tell_the_transports_apart() {
    let mut site = Site::new();
    let register = |key: u8| {
        let mut parameters = vec![0; 24];
        parameters[15] = key;
        Command::write(1, &[0x5f, 0, 0, 0, 0, 0, 0, 0, 24, 0], parameters)
    };
    let reserve = |key: u8| {
        let mut parameters = vec![0; 24];
        parameters[7] = key;
        // Write exclusive.
        Command::write(1, &[0x5f, 1, 1, 0, 0, 0, 0, 0, 24, 0], parameters)
    };
    assert_eq!(site.over_fc(register(1)).0, Status::GOOD);
    assert!(site.over_iscsi(register(2)).is_good());
    assert_eq!(site.over_fc(reserve(1)).0, Status::GOOD);
    let outcome = site.over_iscsi(Command::write_blocks(1, 0, pattern(5, 1)));
    assert_eq!(outcome.status, Status::RESERVATION_CONFLICT);
    assert!(site.over_iscsi(Command::read_blocks(1, 0, 1)).is_good());
    assert_eq!(site.over_fc(Command::write_blocks(1, 0, pattern(6, 1))).0, Status::GOOD);
    // READ FULL STATUS names both: a port name of Fibre Channel, and an iSCSI name with its session.
    let full = site.over_iscsi(Command::read(1, &[0x5e, 3, 0, 0, 0, 0, 0, 4, 0, 0], 1024)).data;
    let has = |wanted: &[u8]| full.windows(wanted.len()).any(|some| some == wanted);
    assert!(has(&ESX_PORT.0.to_be_bytes()) && has(HOST.as_bytes()), "{full:02x?}");
}

#[test]
fn a_host_outside_the_group_sees_nothing_over_either() {
    let site = Site::new();
    let stmf = site.san.stmf();
    for initiator in ["wwn.2100000000000001", "iqn.1998-01.com.vmware:other"] {
        let explained =
            stmf.with_config(|config| config.resolve(config.scope_of(initiator, &QLT2.device_name())).len());
        assert_eq!(explained, 0, "{initiator}");
    }
    assert_eq!(stmf.sessions().len(), 2);
    assert!(stmf.sessions().iter().all(|session| session.lun_map().find(Lun::new(1).unwrap()).is_some()));
}

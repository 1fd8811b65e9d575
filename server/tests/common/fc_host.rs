//! A host with a Fibre Channel adapter, plugged by a cable into the fabric of a server.
#![allow(dead_code, reason = "each test file uses its part")]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use fct::initiator::{Command, Event, Initiator, Outcome};
use fct::soft::{SoftHba, SoftHbaConfig, Wire};
use lunette_server::fc::Wwn;
use lunette_server::fc::soft::Cable;
use scsi_core::{Lun, Status};
use stmf::provider::hba::{ExchangeId, PortId};

/// How long anything may take.
pub(crate) const TIME: Duration = Duration::from_secs(30);

/// An initiator port and the one target that it is logged in to.
pub(crate) struct FcHost {
    pub(crate) initiator: Initiator,
    pub(crate) target: PortId,
    /// Logins that are there, or on their way.
    asked: BTreeSet<PortId>,
    woken: Receiver<()>,
    _cable: Cable,
}

impl FcHost {
    /// Plugs a port in where a fabric listens, and logs in to the target of that port name.
    pub(crate) fn log_in(listening: &Path, port_name: Wwn, target: Wwn) -> Self {
        let mut host = Self::plug_in(listening, port_name);
        host.find(target);
        host
    }

    /// Waits until the target of that port name is there and logged in to.
    pub(crate) fn find(&mut self, target: Wwn) {
        let host = self;
        host.initiator.discover(Instant::now());
        let deadline = Instant::now() + TIME;
        loop {
            match host
                .next(deadline, |event| matches!(event, Event::Found(_) | Event::LoggedIn(_) | Event::Refused(..)))
            {
                Event::LoggedIn(id) if host.initiator.port_name_of(id) == Some(target) => {
                    host.target = id;
                    return;
                }
                Event::LoggedIn(_) => {}
                // It may have come before the target did.
                _ => {
                    std::thread::sleep(Duration::from_millis(5));
                    host.initiator.discover(Instant::now());
                }
            }
        }
    }

    /// Plugs a port in and waits until it is registered; logs in to whatever is found.
    pub(crate) fn plug_in(listening: &Path, port_name: Wwn) -> Self {
        let (ours, theirs) = Wire::new(port_name.0).ends();
        let (wake, woken) = channel();
        ours.set_wake(Box::new(move || {
            let _ = wake.send(());
        }));
        let cable = Cable::connect(listening, None, theirs).unwrap();
        let hba = SoftHba::new(SoftHbaConfig::new(port_name, Wwn(port_name.0 & !(0xf << 56))), ours);
        let initiator = Initiator::new(Instant::now(), Box::new(hba), ":qlc1");
        let mut host = Self { initiator, target: PortId::NONE, asked: BTreeSet::new(), woken, _cable: cable };
        host.next(Instant::now() + TIME, |event| matches!(event, Event::Up(_)));
        host
    }

    /// The next event that is wanted.
    pub(crate) fn next(&mut self, deadline: Instant, wanted: impl Fn(&Event) -> bool) -> Event {
        self.wait(deadline, wanted).expect("it has not happened in time")
    }

    /// The same; `None` if it does not happen in time.
    fn wait(&mut self, deadline: Instant, wanted: impl Fn(&Event) -> bool) -> Option<Event> {
        loop {
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let progress = self.initiator.drive(now);
            while let Some(event) = self.initiator.poll_event() {
                match &event {
                    Event::Found(ids) => {
                        for id in ids {
                            if self.asked.insert(*id) {
                                self.initiator.log_in(now, *id);
                            }
                        }
                    }
                    Event::Down => self.asked.clear(),
                    Event::Refused(id, _) | Event::LoggedOut(id) => {
                        self.asked.remove(id);
                    }
                    _ => {}
                }
                if wanted(&event) {
                    return Some(event);
                }
            }
            if !progress {
                let _ = self.woken.recv_timeout(Duration::from_millis(20));
            }
        }
    }

    /// Sends a command and waits for its end.
    pub(crate) fn run(&mut self, lun: u16, cdb: &[u8], data_out: &[u8], data_in_length: u32) -> Outcome {
        let mut cdb = cdb.to_vec();
        cdb.resize(16, 0);
        let data_out = data_out.to_vec().into();
        let command = Command { lun: Lun::new(lun).unwrap(), cdb, data_out, data_in_length, ..Command::default() };
        let id: ExchangeId = self.initiator.submit(Instant::now(), self.target, command);
        match self.next(Instant::now() + TIME, |event| matches!(event, Event::Done(done, _) if *done == id)) {
            Event::Done(_, outcome) => outcome,
            other => panic!("{other:?}"),
        }
    }

    /// Sends a command again until it has an answer, as a host does whose link loses frames: its status, what was read, and how
    /// often it was sent.
    pub(crate) fn insist(&mut self, cdb: &[u8], data_out: &[u8], data_in_length: u32) -> (Status, Vec<u8>, u32) {
        let mut cdb = cdb.to_vec();
        cdb.resize(16, 0);
        for sent in 1..200 {
            let command = Command {
                lun: Lun::ZERO,
                cdb: cdb.clone(),
                data_out: data_out.to_vec().into(),
                data_in_length,
                ..Command::default()
            };
            let id = self.initiator.submit(Instant::now(), self.target, command);
            let until = Instant::now() + Duration::from_millis(300);
            let outcome = self.wait(until, |event| matches!(event, Event::Done(done, _) if *done == id));
            let Some(Event::Done(_, Outcome { response: Some(response), data, whole: true, .. })) = outcome else {
                self.initiator.abort(Instant::now(), id);
                continue;
            };
            // A response may arrive where data did not.
            let attention = response.status == Status::CHECK_CONDITION.0;
            if !attention && data.len() == data_in_length as usize {
                return (Status(response.status), data.to_vec(), sent);
            }
        }
        panic!("nothing gets through");
    }

    /// The same, past unit attentions: its status and what was read.
    pub(crate) fn command(&mut self, lun: u16, cdb: &[u8], data_out: &[u8], data_in_length: u32) -> (Status, Vec<u8>) {
        for _ in 0..10 {
            let outcome = self.run(lun, cdb, data_out, data_in_length);
            let response = outcome.response.expect("a response");
            let attention =
                response.status == Status::CHECK_CONDITION.0 && response.sense.get(2).is_some_and(|key| key & 0xf == 6);
            if !attention {
                return (Status(response.status), outcome.data.to_vec());
            }
        }
        panic!("one unit attention after another");
    }

    /// WRITE(10).
    pub(crate) fn write(&mut self, lun: u16, lba: u32, data: &[u8]) -> Status {
        self.command(lun, &ten(0x2a, lba, data.len() / 512), data, 0).0
    }

    /// READ(10).
    pub(crate) fn read(&mut self, lun: u16, lba: u32, blocks: usize) -> (Status, Vec<u8>) {
        self.command(lun, &ten(0x28, lba, blocks), &[], blocks as u32 * 512)
    }

    /// The LUNs that the target shows.
    pub(crate) fn luns(&mut self) -> Vec<u16> {
        let (status, list) = self.command(0, &[0xa0, 0, 0, 0, 0, 0, 0, 0, 16, 0], &[], 4096);
        assert_eq!(status, Status::GOOD);
        list[8..].chunks_exact(8).map(|entry| u16::from_be_bytes([entry[0] & 0x3f, entry[1]])).collect()
    }
}

fn ten(opcode: u8, lba: u32, blocks: usize) -> [u8; 10] {
    let mut cdb = [0; 10];
    cdb[0] = opcode;
    cdb[2..6].copy_from_slice(&lba.to_be_bytes());
    cdb[7..9].copy_from_slice(&(blocks as u16).to_be_bytes());
    cdb
}

//! Faults from outside: the administrator's, and those of peers that mean no good.

use super::ledger::Fault;
use super::session::options;
use super::{Shared, Units};
use crate::process::{Served, TARGET};
use anyhow::{Context, Result, ensure};
use lunette_client::{Disk, TaskManagementFunction};
use lunette_server::admin::{Answer, Request};
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};
use testkit::rng::Rng;

/// The first LUN of units that come and go.
const CHURN_LUN: u16 = 100;
/// What a unit is made larger by, at most.
const MOST_GROWTH: u64 = 64 << 20;

/// Where the faults come from.
struct Chaos<'a> {
    shared: &'a Shared,
    served: &'a Served,
    units: &'a Units,
    directory: &'a Path,
    random: Rng,
    churned: u16,
}

pub(super) fn run(shared: &Shared, served: &Served, units: &Units, directory: &Path) {
    let random = Rng::new(shared.plan.seed ^ 0xc4a0);
    let mut chaos = Chaos { shared, served, units, directory, random, churned: 0 };
    // The last fault must be over, and its echo, before the parts are verified: no more in the last tenth.
    let end = Instant::now() + shared.plan.time.mul_f64(0.9);
    for fault in Fault::ALL.iter().cycle() {
        let began = Instant::now();
        if let Err(error) = chaos.inject(*fault) {
            // The administrator's and a peer's part in a fault have to work, too.
            shared.ledger.accuse(format!("{fault}: {error:#}"));
        }
        let pause = shared.plan.fault_interval.saturating_sub(began.elapsed());
        if Instant::now() + pause >= end || shared.stop.load(Ordering::Relaxed) {
            return;
        }
        std::thread::sleep(pause);
    }
}

impl Chaos<'_> {
    fn inject(&mut self, fault: Fault) -> Result<()> {
        let unit = self.random.below(self.units.names.len() as u64) as usize;
        let of_one_unit = matches!(fault, Fault::Reset | Fault::Offline | Fault::Hidden | Fault::Resized);
        let ongoing = self.shared.ledger.begin(fault, of_one_unit.then_some(unit));
        let outcome = match fault {
            Fault::Reinstated => self.reinstate(),
            Fault::Killed => self.kill(),
            Fault::Reset => self.reset(unit),
            Fault::Offline => self.offline(unit),
            Fault::Hidden => self.hide(unit),
            Fault::Resized => self.resize(unit),
            Fault::Churned => self.churn(),
            Fault::Noise => self.noise(),
            Fault::Torn => self.torn(),
            Fault::Stalled => self.stall(unit),
            Fault::HalfOpen => self.half_open(),
            Fault::Cut | Fault::Standstill => Ok(()),
        };
        self.shared.ledger.end(&ongoing);
        outcome
    }

    /// How long a state lasts.
    fn while_it_lasts(&mut self) {
        let most = self.shared.plan.fault_interval.as_millis() as u64 / 2;
        std::thread::sleep(Duration::from_millis(most / 4 + self.random.below(most)));
    }

    fn reinstate(&mut self) -> Result<()> {
        let number = self.random.below(self.shared.plan.sessions as u64) as usize;
        let mut wanted = options(self.shared, number);
        wanted.reconnect_timeout = Duration::ZERO;
        // The session that is thrown out logs in again, and throws this one out, at times before it is of use.
        let _ = Disk::connect_with(wanted);
        Ok(())
    }

    fn kill(&mut self) -> Result<()> {
        let Answer::Sessions(sessions) = self.served.client().execute(&Request::ListSessions {})? else {
            return Ok(());
        };
        ensure!(sessions.len() <= self.shared.plan.sessions * 2 + 16, "{} sessions", sessions.len());
        if let Some(session) = sessions.get(self.random.below(sessions.len() as u64) as usize) {
            // It may be gone meanwhile.
            let _ = self.served.client().execute(&Request::KillSession { id: session.id });
        }
        Ok(())
    }

    fn reset(&mut self, unit: usize) -> Result<()> {
        let mut wanted = options(self.shared, unit);
        wanted.initiator_name = "iqn.2026-11.org.example:resetter".into();
        wanted.isid = None;
        let disk = Disk::connect_with(wanted)?;
        disk.manage(TaskManagementFunction::LogicalUnitReset)?;
        Ok(())
    }

    fn offline(&mut self, unit: usize) -> Result<()> {
        let lu = self.units.names[unit].clone();
        self.served.change(&Request::SetLuState { lu: lu.clone(), online: false })?;
        self.while_it_lasts();
        self.served.change(&Request::SetLuState { lu, online: true })?;
        Ok(())
    }

    fn hide(&mut self, unit: usize) -> Result<()> {
        let lu = self.units.names[unit].clone();
        self.served.change(&Request::RemoveViews { lu: lu.clone(), indexes: None })?;
        self.while_it_lasts();
        let lun = Some(unit as u64);
        self.served.change(&Request::AddView { lu, host_group: None, target_group: None, lun })?;
        Ok(())
    }

    fn resize(&mut self, unit: usize) -> Result<()> {
        let size = self.shared.plan.unit_bytes() + (self.random.below(MOST_GROWTH) & !0xfffff);
        let lu = self.units.names[unit].clone();
        self.served.change(&Request::ModifyLu { lu, size: Some(size.to_string()), properties: vec![] })?;
        Ok(())
    }

    fn churn(&mut self) -> Result<()> {
        let lun = CHURN_LUN + self.churned % 100;
        self.churned += 1;
        let file = self.directory.join(format!("churned-{lun}"));
        let lu = self.served.add_unit(&file, 4 << 20, lun)?;
        let mut wanted = options(self.shared, 0);
        wanted.initiator_name = "iqn.2026-11.org.example:churner".into();
        (wanted.isid, wanted.lun) = (None, lun);
        let disk = Disk::connect_with(wanted)?;
        let data = vec![lun as u8; 64 << 10];
        disk.write_at(1 << 20, &data)?;
        ensure!(disk.read(1 << 20, data.len())? == data, "the new unit holds something else");
        self.served.change(&Request::RemoveViews { lu: lu.clone(), indexes: None })?;
        ensure!(disk.read(0, 4096).is_err(), "a unit without a view entry was read");
        drop(disk);
        self.served.change(&Request::DeleteLu { lu, keep_views: false })?;
        std::fs::remove_file(file.with_added_extension("lu"))?;
        std::fs::remove_file(file)?;
        Ok(())
    }

    fn noise(&mut self) -> Result<()> {
        for _ in 0..8 {
            let mut stream = TcpStream::connect(self.shared.portal)?;
            stream.set_write_timeout(Some(Duration::from_millis(200)))?;
            let mut bytes = vec![0; self.random.below(16 << 10) as usize];
            self.random.fill(&mut bytes);
            // It may be thrown out before it has said all.
            let _ = stream.write_all(&bytes);
        }
        Ok(())
    }

    fn initiator(&self, name: &str) -> Result<Initiator<TcpWire>> {
        let mut initiator = Initiator::new(TcpWire::connect(self.shared.portal)?);
        let login = LoginOptions::normal(&format!("iqn.2026-11.org.example:{name}"), TARGET);
        initiator.login(&login).context(name.to_owned())?;
        Ok(initiator)
    }

    /// A write command of which only a part comes.
    fn torn(&mut self) -> Result<()> {
        let mut initiator = self.initiator("torn")?;
        let mut bytes = vec![0x55; 48 + 8192];
        // A SCSI command with 8,192 bytes of immediate data, of which most are missing.
        bytes[..48].fill(0);
        (bytes[0], bytes[1], bytes[6], bytes[32]) = (0x01, 0xa1, 0x20, 0x8a);
        let length = self.random.below(bytes.len() as u64) as usize;
        initiator.send_raw(bytes[..length].to_vec())?;
        Ok(())
    }

    fn stall(&mut self, unit: usize) -> Result<()> {
        let mut initiator = self.initiator("stalled")?;
        for _ in 0..16 {
            initiator.start(&Command::read_blocks(unit as u16, 0, 512))?;
        }
        self.while_it_lasts();
        Ok(())
    }

    fn half_open(&mut self) -> Result<()> {
        let streams: Result<Vec<_>, _> = (0..40).map(|_| TcpStream::connect(self.shared.portal)).collect();
        let streams = streams.context("a connection was refused")?;
        self.while_it_lasts();
        drop(streams);
        Ok(())
    }
}

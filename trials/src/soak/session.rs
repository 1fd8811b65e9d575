//! One session of the load: random operations on its part, every byte checked, and accidents of its own.

use super::ledger::Fault;
use super::part::{PIECE, Part};
use super::{Plan, Shared};
use iscsi_proto::pdu::Isid;
use lunette_client::{DigestPreference, Disk, Error, Operation, Options, TaskManagementFunction};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use testkit::rng::Rng;

/// Most operations that a session has under way.
const MOST_AT_ONCE: u64 = 8;
/// Most pieces of an operation.
const MOST_PIECES: u64 = 32;
/// How long an operation may take before it counts as lost.
const PATIENCE: Duration = Duration::from_secs(600);
/// How long to wait after an error that a fault explains.
const PAUSE: Duration = Duration::from_millis(200);

/// The options by which session `number` logs in; always the same name and ISID, so that another can take its place.
pub(super) fn options(shared: &Shared, number: usize) -> Options {
    let unit = number % shared.plan.units;
    let mut options = Options::new(shared.portal.ip().to_string(), crate::process::TARGET, unit as u16);
    options.port = shared.portal.port();
    options.initiator_name = format!("iqn.2026-11.org.example:soak-{number}");
    options.isid = Some(Isid::random([0x12, 0x34, 0x56], number as u16));
    // Longer than the machine may stand still: what is not answered by then never will be.
    (options.command_timeout, options.reconnect_timeout) = (PATIENCE, PATIENCE);
    if number.is_multiple_of(3) {
        options = options.with_digests(DigestPreference::Require);
    }
    options
}

/// Keeps logging in until it is told to stop, for as long as faults explain that it cannot.
fn connect(shared: &Shared, number: usize, wanted: &Options) -> Option<Disk> {
    let unit = number % shared.plan.units;
    loop {
        let since = Instant::now();
        match Disk::connect_with(wanted.clone()) {
            Ok(disk) => return Some(disk),
            Err(error) => {
                // Refused or broken off: a fault of this connection, not of the unit, has to explain it.
                if !shared.ledger.judge_login(&format!("session {number}"), unit, since, &error) {
                    return None;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}

pub(super) fn run(shared: &Shared, number: usize) {
    let Plan { units, part_bytes, .. } = shared.plan;
    let unit = number % units;
    let mut random = Rng::new(shared.plan.seed ^ ((number as u64 + 1) << 40));
    let mut part = Part::new(number / units, unit, part_bytes);
    let wanted = options(shared, number);
    let mut disk = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let began = Instant::now();
        let Some(current) = disk.take().or_else(|| connect(shared, number, &wanted)) else { return };
        if !batch(shared, number, &current, &mut part, &mut random) {
            std::thread::sleep(PAUSE);
        }
        // Now and then it logs out and in again.
        if random.below(100) > 0 {
            disk = Some(current);
        }
        // The rate is that of all sessions together.
        let pace = shared.plan.pace.mul_f64(0.5 + random.below(1000) as f64 / 1000.0);
        std::thread::sleep(pace.saturating_sub(began.elapsed()));
    }
    drop(disk);
    verify(shared, number, &wanted, &mut part);
}

/// Several operations at once, no two on the same bytes, and perhaps an accident amid them. False when one failed.
fn batch(shared: &Shared, number: usize, disk: &Disk, part: &mut Part, random: &mut Rng) -> bool {
    let unit = number % shared.plan.units;
    let since = Instant::now();
    let slots = 1 + random.below(MOST_AT_ONCE);
    let room = part.pieces() as u64 / slots;
    let geometry = disk.geometry();
    let can_unmap = geometry.can_unmap && geometry.unmapped_reads_zero;
    let mut begun = Vec::new();
    for slot in 0..slots {
        // Mostly one or two pieces.
        let most = MOST_PIECES >> random.below(6);
        let count = (1 + random.below(most)).min(room);
        let first = slot * room + random.below(room - count + 1);
        let planned = part.plan(random, first as usize, count as usize, can_unmap);
        shared.count(&planned);
        begun.push((disk.submit(planned.operation.clone()), planned));
    }
    match random.below(shared.plan.accidents) {
        0 => {
            shared.ledger.note(Fault::Cut, Some(unit));
            disk.drop_connection();
        }
        1 => {
            shared.ledger.note(Fault::Reset, Some(unit));
            // Its answer may be lost with a connection that another cuts; the operations below tell what matters.
            let _ = disk.manage(TaskManagementFunction::AbortTaskSet);
        }
        2 => {
            if let Err(error) = disk.flush() {
                shared.ledger.judge(&format!("SYNCHRONIZE CACHE of session {number}"), unit, since, &error);
            }
        }
        _ => {}
    }
    let mut went_well = true;
    for (pending, planned) in begun {
        let outcome = pending.and_then(lunette_client::Pending::wait).map(|data| data.to_bytes());
        if let Err(error) = &outcome {
            went_well = false;
            shared.ledger.judge(&format!("session {number}"), unit, since, error);
        }
        if let Err(difference) = part.settle(&planned, outcome.as_ref().map(|data| &data[..])) {
            shared.ledger.accuse(format!("session {number}, unit {unit}: {difference}"));
        }
    }
    went_well
}

/// All of the part, by a session of its own.
fn verify(shared: &Shared, number: usize, wanted: &Options, part: &mut Part) {
    let unit = number % shared.plan.units;
    let Some(disk) = connect(shared, number, wanted) else { return };
    let step = 64;
    for first in (0..part.pieces()).step_by(step) {
        let planned = part.read(first, step.min(part.pieces() - first));
        let outcome = disk.submit(planned.operation.clone()).and_then(lunette_client::Pending::wait);
        match outcome {
            Ok(data) => {
                if let Err(difference) = part.settle(&planned, Ok(&data.to_bytes())) {
                    shared.ledger.accuse(format!("session {number}, unit {unit}, at the end: {difference}"));
                }
            }
            Err(error) => shared.ledger.accuse(format!("session {number}, unit {unit}, at the end: {error}")),
        }
    }
}

/// A neighbour that does nothing but measure: one small read at a time.
pub(super) fn measure(shared: &Shared, unit: usize) {
    let mut wanted = options(shared, unit);
    wanted.initiator_name = format!("iqn.2026-11.org.example:neighbour-{unit}");
    wanted.isid = None;
    let mut random = Rng::new(unit as u64);
    let mut disk: Option<Disk> = None;
    while !shared.stop.load(Ordering::Relaxed) {
        let since = Instant::now();
        let current = match disk.take() {
            Some(disk) => disk,
            None => match Disk::connect_with(wanted.clone()) {
                Ok(disk) => disk,
                Err(error) => {
                    shared.ledger.judge_login("a neighbour", unit, since, &error);
                    std::thread::sleep(PAUSE);
                    continue;
                }
            },
        };
        let offset = random.below(shared.plan.part_bytes / PIECE) * PIECE;
        let began = Instant::now();
        let read = Operation::Read { offset, length: PIECE as usize };
        let outcome: Result<_, Error> = current.submit(read).and_then(lunette_client::Pending::wait);
        match outcome {
            Ok(_) => shared.times.add(began.elapsed()),
            Err(error) => drop(shared.ledger.judge("a neighbour", unit, began, &error)),
        }
        disk = Some(current);
        std::thread::sleep(Duration::from_millis(20));
    }
}

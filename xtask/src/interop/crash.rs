//! `kill -9` in the middle of everything: what was acknowledged must be there.

use super::Check;
use super::target::{Kind, Target};
use super::wire::{Initiator, Outcome, Settings, cdb16};
use anyhow::{Context, Result, bail, ensure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const MIB: u64 = 1 << 20;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "crash/fua-writes",
        claim: "kill -9 in a stream of FUA writes: every acknowledged block is there after the restart, five times",
        needs: &[],
        peers: true,
        run: fua_writes,
    },
    Check {
        name: "crash/write-cache-disabled",
        claim: "with the write cache disabled by MODE SELECT an acknowledged plain write survives kill -9, and so does WCE",
        needs: &[],
        peers: false,
        run: write_cache_disabled,
    },
    Check {
        name: "crash/configuration",
        claim: "every configuration command that was acknowledged is there after kill -9",
        needs: &[],
        peers: false,
        run: configuration,
    },
    Check {
        name: "crash/reservation",
        claim: "a persistent reservation made with APTPL holds after kill -9, and one without is gone",
        needs: &[],
        peers: false,
        run: reservation,
    },
];

/// Writers, each with a session and a region of its own.
const WRITERS: u64 = 2;
/// Blocks of 4 KiB in a writer's region; more than are ever outstanding, so no two writes to a block overlap.
const SLOTS: u64 = 1024;
const DEPTH: usize = 16;
const SECTORS: u64 = 8;

/// What writer and judge share: per slot the last sequence number that the target acknowledged.
#[derive(Debug)]
struct Ledger {
    acknowledged: Vec<AtomicU64>,
    stop: AtomicBool,
}

fn fua_writes(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 64 * MIB, None)?.examine(|target| {
        let ledgers: Vec<Arc<Ledger>> = (0..WRITERS)
            .map(|_| {
                let acknowledged = (0..SLOTS).map(|_| AtomicU64::new(0)).collect();
                Arc::new(Ledger { acknowledged, stop: AtomicBool::new(false) })
            })
            .collect();
        let mut sequence = 1;
        let mut total = 0;
        for round in 0..5u64 {
            let mut writers = Vec::new();
            for (index, ledger) in ledgers.iter().enumerate() {
                let mut settings = Settings::new(target.portal(), target.iqn(), &format!("writer-{index}"));
                settings.qualifier = u16::try_from(index)?;
                let (ledger, lun) = (ledger.clone(), target.lun());
                ledger.stop.store(false, Ordering::SeqCst);
                writers
                    .push(std::thread::spawn(move || write_until_cut(&settings, lun, index as u64, sequence, &ledger)));
            }
            // Different moments of the stream, without a source of chance.
            std::thread::sleep(Duration::from_millis(150 + 170 * round));
            target.kill();
            for (writer, ledger) in writers.into_iter().zip(&ledgers) {
                ledger.stop.store(true, Ordering::SeqCst);
                let (next, count) = writer.join().map_err(|_| anyhow::anyhow!("a writer panicked"))??;
                sequence = sequence.max(next);
                ensure!(count > 0, "no write was acknowledged in round {round}");
                total += count;
            }
            target.restart()?;
            for (index, ledger) in ledgers.iter().enumerate() {
                judge(target, index as u64, ledger).with_context(|| format!("after kill {round}"))?;
            }
        }
        ensure!(total > 100, "only {total} writes were acknowledged in five rounds");
        Ok(())
    })
}

/// Each sector says which write it belongs to, so that a torn block shows.
fn stamp(sequence: u64, slot: u64) -> Vec<u8> {
    let mut block = Vec::with_capacity(SECTORS as usize * 512);
    for sector in 0..SECTORS {
        for word in [sequence, slot, sector, !sequence].iter().cycle().take(64) {
            block.extend_from_slice(&word.to_be_bytes());
        }
    }
    block
}

fn lba_of(writer: u64, slot: u64) -> u64 {
    (writer * SLOTS + slot) * SECTORS
}

/// Keeps `DEPTH` FUA writes outstanding until the connection breaks; gives the next unused sequence number and how many
/// were acknowledged.
fn write_until_cut(settings: &Settings, lun: u16, writer: u64, first: u64, ledger: &Ledger) -> Result<(u64, u64)> {
    let mut session = Initiator::login(settings)?;
    session.make_ready(lun)?;
    let mut outstanding = std::collections::HashMap::new();
    let (mut sequence, mut count) = (first, 0);
    loop {
        while outstanding.len() < DEPTH {
            let slot = sequence % SLOTS;
            let cdb = cdb16(0x8a, 0x08, lba_of(writer, slot), SECTORS as u32);
            match session.send_command(lun, &cdb, &stamp(sequence, slot), 0) {
                Ok(tag) => outstanding.insert(tag, (slot, sequence)),
                Err(error) => return ended(error, ledger, sequence + 1, count),
            };
            sequence += 1;
        }
        match session.receive_outcome() {
            Ok(None) => {}
            Ok(Some((tag, outcome))) => {
                let (slot, number) = outstanding.remove(&tag).context("an answer to no task")?;
                acknowledged(outcome)?;
                ledger.acknowledged[slot as usize].store(number, Ordering::SeqCst);
                count += 1;
            }
            Err(error) => return ended(error, ledger, sequence, count),
        }
    }
}

fn acknowledged(outcome: Outcome) -> Result<()> {
    outcome.good().context("a FUA write failed").map(drop)
}

/// A broken connection is the expected end, but only once the kill was on its way.
fn ended(error: anyhow::Error, ledger: &Ledger, sequence: u64, count: u64) -> Result<(u64, u64)> {
    for _ in 0..500 {
        if ledger.stop.load(Ordering::SeqCst) {
            return Ok((sequence, count));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(error.context("the session broke before the kill"))
}

fn judge(target: &Target, writer: u64, ledger: &Ledger) -> Result<()> {
    let mut session = Initiator::login(&Settings::new(target.portal(), target.iqn(), "judge"))?;
    session.make_ready(target.lun())?;
    for slot in 0..SLOTS {
        let least = ledger.acknowledged[slot as usize].load(Ordering::SeqCst);
        if least == 0 {
            continue;
        }
        let block = session.read(target.lun(), lba_of(writer, slot), SECTORS as u32)?;
        for (sector, bytes) in block.chunks_exact(512).enumerate() {
            let word = |index: usize| {
                let mut word = [0; 8];
                word.copy_from_slice(&bytes[index * 8..index * 8 + 8]);
                u64::from_be_bytes(word)
            };
            let found = word(0);
            // A later write that was under way may be there in whole sectors; an older one may not.
            let whole = bytes == &stamp(found, slot)[sector * 512..(sector + 1) * 512];
            if found < least || !whole {
                bail!(
                    "slot {slot} sector {sector}: write {least} was acknowledged, write {found} (whole: {whole}) is there"
                );
            }
        }
    }
    Ok(())
}

fn write_cache_disabled(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let settings = Settings::new(target.portal(), target.iqn(), "cache");
        let mut session = Initiator::login(&settings)?;
        session.make_ready(0)?;
        // Caching page, current values, no block descriptor; SPC MODE SENSE(6) with DBD.
        let sensed = session.command(0, &[0x1a, 0x08, 0x08, 0, 255, 0], &[], 255)?.good()?;
        let mut page = sensed.get(4..24).context("no caching page")?.to_vec();
        ensure!(page[0] & 0x3f == 8, "page {:#04x} instead of the caching page", page[0]);
        page[0] &= 0x3f;
        page[2] &= !0x04;
        let list = [&[0, 0, 0, 0][..], &page].concat();
        let select = [0x15, 0x11, 0, 0, u8::try_from(list.len())?, 0];
        session.command(0, &select, &list, 0)?.good().context("MODE SELECT with SP of WCE=0")?;
        session.command(0, &cdb16(0x8a, 0, 7, 8), &[0x77; 8 * 512], 0)?.good()?;
        target.kill_and_restart()?;
        let mut session = Initiator::login(&settings)?;
        session.make_ready(0)?;
        ensure!(session.read(0, 7, 8)? == [0x77; 8 * 512], "an acknowledged write is gone");
        let sensed = session.command(0, &[0x1a, 0x08, 0x08, 0, 255, 0], &[], 255)?.good()?;
        ensure!(sensed.get(6).is_some_and(|byte| byte & 0x04 == 0), "WCE=0 was saved and is gone: {sensed:02x?}");
        Ok(())
    })
}

fn configuration(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let mut expected = Vec::new();
        for number in 0..20 {
            let group = format!("hosts-{number}");
            target.administer(&["stmfadm", "create-hg", &group])?;
            let member = format!("iqn.2026-11.org.lunette.test:member-{number}");
            target.administer(&["stmfadm", "add-hg-member", "--group-name", &group, &member])?;
            expected.push((group, member));
            if number % 5 != 4 {
                continue;
            }
            target.kill_and_restart()?;
            let listed = target.administer(&["stmfadm", "list-hg", "--verbose"])?;
            for (group, member) in &expected {
                let lines = format!("Host Group: {group}\n\tMember: {member}\n");
                ensure!(listed.contains(&lines), "'{group}' with its member is gone:\n{listed}");
            }
        }
        let targets = target.administer(&["itadm", "list-target"])?;
        ensure!(targets.contains(target.iqn()), "the target is gone:\n{targets}");
        let mut session = Initiator::login(&Settings::new(target.portal(), target.iqn(), "after"))?;
        session.make_ready(0)
    })
}

const KEY: u64 = 0x4c55_4e45_5454_4531;

/// PERSISTENT RESERVE OUT with its parameter list; SPC.
fn reserve_out(session: &mut Initiator, action: u8, key: u64, new_key: u64, aptpl: bool) -> Result<Outcome> {
    let mut cdb = [0; 10];
    cdb[0] = 0x5f;
    cdb[1] = action;
    // Write Exclusive.
    cdb[2] = 0x01;
    cdb[8] = 24;
    let mut list = [0; 24];
    list[..8].copy_from_slice(&key.to_be_bytes());
    list[8..16].copy_from_slice(&new_key.to_be_bytes());
    list[20] = u8::from(aptpl);
    session.command(0, &cdb, &list, 0)
}

fn reserve_in(session: &mut Initiator, action: u8) -> Result<Vec<u8>> {
    session.command(0, &[0x5e, action, 0, 0, 0, 0, 0, 1, 0, 0], &[], 256)?.good()
}

fn reservation(kind: Kind) -> Result<()> {
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let holder = Settings::new(target.portal(), target.iqn(), "holder");
        let other = Settings::new(target.portal(), target.iqn(), "other");
        let mut session = Initiator::login(&holder)?;
        session.make_ready(0)?;
        reserve_out(&mut session, 0, 0, KEY, true)?.good().context("REGISTER")?;
        reserve_out(&mut session, 1, KEY, 0, false)?.good().context("RESERVE")?;
        target.kill_and_restart()?;
        let mut session = Initiator::login(&other)?;
        session.make_ready(0)?;
        let keys = reserve_in(&mut session, 0)?;
        ensure!(keys.get(8..16) == Some(&KEY.to_be_bytes()[..]), "the registration is gone: {keys:02x?}");
        let held = reserve_in(&mut session, 1)?;
        ensure!(held.get(8..16) == Some(&KEY.to_be_bytes()[..]), "the reservation is gone: {held:02x?}");
        let write = session.command(0, &cdb16(0x8a, 0, 0, 1), &[0; 512], 0)?;
        ensure!(write.status == 0x18, "a stranger's write gave {:#04x}, not RESERVATION CONFLICT", write.status);
        // The holder is still the holder, and lets go; then a registration without APTPL must not survive.
        let mut session = Initiator::login(&holder)?;
        session.make_ready(0)?;
        session.command(0, &cdb16(0x8a, 0, 0, 1), &[0; 512], 0)?.good().context("the holder's write")?;
        reserve_out(&mut session, 3, KEY, 0, false)?.good().context("CLEAR")?;
        reserve_out(&mut session, 0, 0, KEY, false)?.good().context("REGISTER without APTPL")?;
        target.kill_and_restart()?;
        let mut session = Initiator::login(&other)?;
        session.make_ready(0)?;
        let keys = reserve_in(&mut session, 0)?;
        ensure!(keys.get(4..8) == Some(&[0; 4][..]), "a registration without APTPL survived: {keys:02x?}");
        Ok(())
    })
}

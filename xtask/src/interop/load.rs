//! Several sessions at once: every byte read is compared with a model of what was written.

use super::Check;
use super::target::{Kind, Target};
use super::wire::{Initiator, OP_LOGOUT_RESPONSE, Settings, cdb16, header};
use crate::packages::Need;
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;
const SESSIONS: u64 = 8;
/// Blocks of 512 bytes in the region that a session has for itself.
const REGION_BLOCKS: u64 = 8192;
/// Longest transfer: past every default MaxBurstLength, so that it takes several R2Ts.
const LONGEST_BLOCKS: u64 = 2048;

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "load/verified-sessions",
        claim: "eight sessions read back what they wrote, 512 bytes to 1 MiB, with and without digests",
        needs: &[],
        peers: true,
        run: verified_sessions,
    },
    Check {
        name: "load/qemu-depth",
        claim: "qemu-img bench keeps 64 requests of 4 and of 64 KiB outstanding, both ways",
        needs: &[Need::Qemu],
        peers: true,
        run: qemu_depth,
    },
    Check {
        name: "session/reinstatement",
        claim: "a second login with the same name and ISID takes the session over and closes the first connection",
        needs: &[],
        peers: true,
        run: reinstatement,
    },
    Check {
        name: "session/logout",
        claim: "a logout is answered with success and the connection closed, and thousands of sessions leave nothing",
        needs: &[],
        peers: true,
        run: logout,
    },
];

fn verified_sessions(kind: Kind) -> Result<()> {
    Target::start(kind, SESSIONS * REGION_BLOCKS * 512)?.examine(|target| {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut workers = Vec::new();
        for index in 0..SESSIONS {
            let mut settings = Settings::new(target.portal(), target.iqn(), &format!("load-{index}"));
            settings.header_digest = index % 4 == 1 || index % 4 == 3;
            settings.data_digest = index % 4 >= 2;
            let lun = target.lun();
            workers.push(std::thread::spawn(move || work(&settings, lun, index, deadline)));
        }
        for (index, worker) in workers.into_iter().enumerate() {
            let done = worker.join().map_err(|_| anyhow::anyhow!("session {index} panicked"))?;
            let count = done.with_context(|| format!("session {index}"))?;
            ensure!(count >= 20, "session {index} got {count} commands done in 5 s");
        }
        Ok(())
    })
}

/// Random reads and writes of a region against a copy of it in memory; gives the number of commands.
fn work(settings: &Settings, lun: u16, index: u64, deadline: Instant) -> Result<u64> {
    let mut session = Initiator::login(settings)?;
    session.make_ready(lun)?;
    let mut model = vec![0u8; (REGION_BLOCKS * 512) as usize];
    // xorshift; a failure shows again in the next run.
    let mut state = 0x2545_f491_4f6c_dd1d ^ (index + 1);
    let mut next = |bound: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % bound
    };
    let mut count = 0;
    while Instant::now() < deadline {
        let blocks = if next(8) == 0 { 1 + next(LONGEST_BLOCKS) } else { 1 + next(64) };
        let first = next(REGION_BLOCKS - blocks);
        let region = (first * 512) as usize..((first + blocks) * 512) as usize;
        let lba = index * REGION_BLOCKS + first;
        if next(2) == 0 {
            let seed = next(1 << 32) as u32;
            for (at, byte) in model[region.clone()].iter_mut().enumerate() {
                *byte = (seed.wrapping_add(at as u32).wrapping_mul(2_654_435_761) >> 24) as u8;
            }
            session.command(lun, &cdb16(0x8a, 0, lba, blocks as u32), &model[region], 0)?.good()?;
        } else {
            let data = session.read(lun, lba, blocks as u32)?;
            ensure!(data == model[region], "{blocks} blocks at {lba} differ from what was written");
        }
        count += 1;
    }
    Ok(count)
}

fn qemu_depth(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        for (count, size, write) in [("4000", "4096", true), ("4000", "4096", false), ("800", "65536", true)] {
            let mut arguments = vec!["bench", "-f", "raw", "-c", count, "-d", "64", "-s", size, "-t", "none"];
            arguments.extend(write.then_some("-w"));
            let url = target.url();
            arguments.push(&url);
            super::clients::client_ok(&scratch, "qemu-img", &arguments)?;
        }
        Ok(())
    })
}

fn reinstatement(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let settings = Settings::new(target.portal(), target.iqn(), "again");
        let mut first = Initiator::login(&settings)?;
        first.make_ready(target.lun())?;
        let mut second = Initiator::login(&settings)?;
        second.make_ready(target.lun())?;
        // The first connection is gone: whatever it is asked, no answer comes but the end.
        first.stream().set_read_timeout(Some(Duration::from_secs(10)))?;
        let answer = first.command(target.lun(), &[0; 6], &[], 0);
        ensure!(answer.is_err(), "the first session still answers: {answer:?}");
        second.make_ready(target.lun())
    })
}

fn logout(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let settings = Settings::new(target.portal(), target.iqn(), "leaver");
        let mut after_warm_up = 0;
        for round in 0..2000 {
            let mut session = Initiator::login(&settings)?;
            // Close the session; RFC 7143 11.14.
            let mut bhs = header(0x06 | 0x40, 0x80, 0);
            bhs[16..20].copy_from_slice(&9u32.to_be_bytes());
            bhs[24..28].copy_from_slice(&1u32.to_be_bytes());
            bhs[28..32].copy_from_slice(&session.expected_status_number().to_be_bytes());
            session.send(&bhs, &[])?;
            let answer = session.receive()?;
            ensure!(answer.opcode() == OP_LOGOUT_RESPONSE, "opcode {:#04x} after a logout", answer.opcode());
            ensure!(answer.bhs[2] == 0, "logout response {:#04x}", answer.bhs[2]);
            ensure!(session.receive().is_err(), "the connection goes on after the logout");
            if round == 500 {
                after_warm_up = target.resident_bytes()?;
            }
        }
        let grown = target.resident_bytes()?.saturating_sub(after_warm_up);
        ensure!(grown < 8 * MIB, "1,500 sessions left {} KiB behind", grown / 1024);
        Ok(())
    })
}

//! Random commands of several nexuses to two units, their store operations carried out in any order, across aborts,
//! resets and logouts, against a model of what each block may hold.
//!
//! Every command writes a value of its own, so that a block tells which command it is from. A block may hold the value of
//! a command that began before the read ended, unless another that was GOOD before the read began had begun after that
//! one was over. A copied block may hold what its source might have held meanwhile.

mod common;

use common::site::Site;
use common::*;
use lu_sbd::store::MemoryStore;
use proptest::prelude::*;
use scsi_core::{Status, TaskManagementFunction as Function};
use std::sync::Arc;
use stmf::TaskId;
use stmf::provider::LogicalUnit;

const BLOCKS: u64 = 48;
const UNITS: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    Command {
        nexus: u64,
        unit: usize,
        kind: Kind,
        lba: u64,
        blocks: u64,
        other: u64,
    },
    /// Carry out the n-th of the store operations that wait.
    Release(usize),
    Abort(usize),
    AbortSet {
        nexus: u64,
        unit: usize,
    },
    Reset {
        nexus: u64,
        unit: usize,
    },
    Logout(u64),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Read,
    Write,
    WriteAtomic,
    WriteSame,
    Unmap,
    CompareAndWrite,
    CopyHere,
    CopyAcross,
    Populate,
    UseToken,
    BlockErase,
    Format,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![
        4 => Just(Kind::Read),
        5 => Just(Kind::Write),
        2 => Just(Kind::WriteAtomic),
        2 => Just(Kind::WriteSame),
        2 => Just(Kind::Unmap),
        4 => Just(Kind::CompareAndWrite),
        2 => Just(Kind::CopyHere),
        3 => Just(Kind::CopyAcross),
        2 => Just(Kind::Populate),
        2 => Just(Kind::UseToken),
        1 => Just(Kind::BlockErase),
        1 => Just(Kind::Format),
    ];
    let command = (1..=3u64, 0..UNITS, kind, 0..BLOCKS - 8, 1..=8u64, 0..BLOCKS - 8)
        .prop_map(|(nexus, unit, kind, lba, blocks, other)| Step::Command { nexus, unit, kind, lba, blocks, other });
    let step = prop_oneof![
        10 => command,
        14 => any::<usize>().prop_map(Step::Release),
        2 => any::<usize>().prop_map(Step::Abort),
        1 => (1..=3u64, 0..UNITS).prop_map(|(nexus, unit)| Step::AbortSet { nexus, unit }),
        1 => (1..=3u64, 0..UNITS).prop_map(|(nexus, unit)| Step::Reset { nexus, unit }),
        1 => (1..=3u64).prop_map(Step::Logout),
    ];
    prop::collection::vec(step, 1..120)
}

type Time = u64;

/// What a command may leave in a block.
#[derive(Clone, Debug)]
enum Value {
    Known(u64),
    /// What this block held at some time in between; without an end, or if the command fails, until the command ends: a
    /// token that is revoked while it is used fails the command, whose last piece may have read what revoked it.
    Of {
        unit: usize,
        block: u64,
        from: Time,
        to: Option<Time>,
    },
}

#[derive(Clone, Debug)]
struct Event {
    start: Time,
    end: Option<Time>,
    good: bool,
    value: Value,
    command: usize,
}

#[derive(Clone, Debug)]
struct Token {
    bytes: Vec<u8>,
    unit: usize,
    lba: u64,
    blocks: u64,
    from: Time,
    to: Time,
}

struct Running {
    id: TaskId,
    number: usize,
    start: Time,
    nexus: u64,
    unit: usize,
    kind: Kind,
    lba: u64,
    blocks: u64,
    compared: u64,
}

struct Model {
    site: Site,
    time: Time,
    history: Vec<Vec<Vec<Event>>>,
    running: Vec<Running>,
    tokens: Vec<Token>,
    /// Values that a COMPARE AND WRITE found and replaced, by unit and block; only where nothing was ever copied to.
    winners: Vec<(usize, u64, u64)>,
    number: usize,
}

fn stamp(value: u64) -> Vec<u8> {
    value.to_be_bytes().repeat(BLOCK / 8)
}

fn copy_list(site: &Site, from: usize, to: usize, source: u64, destination: u64, blocks: u64) -> Vec<u8> {
    let mut list = vec![0; 16];
    (list[1], list[3], list[11]) = (3 << 3, 64, 28);
    for unit in [from, to] {
        list.extend_from_slice(&[0xe4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend_from_slice(&site.guid(unit));
        list.extend_from_slice(&[0; 8]);
    }
    list.extend_from_slice(&[2, 2, 0, 24, 0, 0, 0, 1, 0, 0, 0, blocks as u8]);
    list.extend_from_slice(&source.to_be_bytes());
    list.extend_from_slice(&destination.to_be_bytes());
    list
}

fn with_list(opcode: u8, action: u8, identifier: u32, length: usize) -> [u8; 16] {
    let mut cdb = [0; 16];
    (cdb[0], cdb[1]) = (opcode, action);
    cdb[6..10].copy_from_slice(&identifier.to_be_bytes());
    cdb[10..14].copy_from_slice(&(length as u32).to_be_bytes());
    cdb
}

fn range(lba: u64, blocks: u64) -> Vec<u8> {
    [&lba.to_be_bytes()[..], &(blocks as u32).to_be_bytes(), &[0; 4]].concat()
}

impl Model {
    fn new() -> Self {
        // The smallest unit there is; its first blocks are enough.
        let store = || Arc::new(MemoryStore::new(1 << 20));
        let site = Site::new((0..UNITS).map(|_| (store() as _, &[][..])).collect());
        let zero = Event { start: 0, end: Some(0), good: true, value: Value::Known(0), command: 0 };
        let history = vec![vec![vec![zero]; BLOCKS as usize]; UNITS];
        let mut model = Self { site, time: 1, history, running: vec![], tokens: vec![], winners: vec![], number: 0 };
        model.site.hold = true;
        model
    }

    /// Whether a read that lasted from `from` to `to` may find `value`.
    fn possible(&self, unit: usize, block: u64, value: u64, from: Time, to: Time, depth: u32) -> bool {
        let events = &self.history[unit][block as usize];
        depth < 12
            && events.iter().filter(|event| event.start <= to).any(|event| {
                let holds = match event.value {
                    Value::Known(known) => known == value,
                    Value::Of { unit, block, from, to: until } => {
                        let until = until.filter(|_| event.good).or(event.end).unwrap_or(to);
                        self.possible(unit, block, value, from, until, depth + 1)
                    }
                };
                let replaced = |later: &Event| {
                    later.good
                        && later.end.is_some_and(|end| end < from)
                        && event.end.is_some_and(|end| end < later.start)
                };
                holds && !events.iter().any(replaced)
            })
    }

    fn write(&mut self, unit: usize, block: u64, value: Value) {
        let event = Event { start: self.time, end: None, good: false, value, command: self.number };
        self.history[unit][block as usize].push(event);
    }

    fn start(&mut self, step: &Step) {
        let Step::Command { nexus, unit, kind, lba, blocks, other } = *step else { return };
        self.number += 1;
        let value = self.number as u64;
        let mut compared = 0;
        let range_of = lba..lba + blocks;
        let mut out = Vec::new();
        let mut room = 0;
        let mut cdb = [0; 16];
        let mut length = 16;
        match kind {
            Kind::Read => {
                cdb = sixteen(0x88, 0, lba, blocks as u32);
                room = blocks as u32 * BLOCK as u32;
            }
            Kind::Write | Kind::WriteAtomic => {
                cdb = sixteen(0x8a, 0, lba, blocks as u32);
                if kind == Kind::WriteAtomic {
                    cdb = sixteen(0x9c, 0, lba, 0);
                    cdb[13] = blocks as u8;
                }
                out = stamp(value).repeat(blocks as usize);
                range_of.for_each(|block| self.write(unit, block, Value::Known(value)));
            }
            Kind::WriteSame => {
                cdb = sixteen(0x93, 0, lba, blocks as u32);
                out = stamp(value);
                range_of.for_each(|block| self.write(unit, block, Value::Known(value)));
            }
            Kind::Unmap => {
                (cdb[0], cdb[8], length) = (0x42, 24, 10);
                out = [&[0, 22, 0, 16, 0, 0, 0, 0][..], &range(lba, blocks)].concat();
                range_of.for_each(|block| self.write(unit, block, Value::Known(0)));
            }
            Kind::CompareAndWrite => {
                cdb = sixteen(0x89, 0, lba, 0);
                cdb[13] = 1;
                // With what is likely to be there.
                let events = &self.history[unit][lba as usize];
                let last = events.iter().rev().find_map(|event| match event.value {
                    Value::Known(known) if event.good => Some(known),
                    _ => None,
                });
                compared = last.unwrap_or(0);
                out = [stamp(compared), stamp(value)].concat();
                self.write(unit, lba, Value::Known(value));
            }
            Kind::CopyHere | Kind::CopyAcross => {
                let from = if kind == Kind::CopyHere { unit } else { 1 - unit };
                out = copy_list(&self.site, from, unit, other, lba, blocks);
                cdb = with_list(0x83, 0, 0, out.len());
                // Whichever of the two is asked.
                for at in 0..blocks {
                    let value = Value::Of { unit: from, block: other + at, from: self.time, to: None };
                    self.write(unit, lba + at, value);
                }
            }
            Kind::Populate => {
                out = [&[0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16][..], &range(lba, blocks)].concat();
                cdb = with_list(0x83, 0x10, value as u32, out.len());
            }
            Kind::UseToken => {
                let Some(token) = self.tokens.get(other as usize % self.tokens.len().max(1)).cloned() else { return };
                let blocks = blocks.min(token.blocks);
                out = vec![0; 536];
                (out[0], out[1], out[535]) = (2, 0x26, 16);
                out[16..528].copy_from_slice(&token.bytes);
                out.extend_from_slice(&range(lba, blocks));
                cdb = with_list(0x83, 0x11, value as u32, out.len());
                for at in 0..blocks {
                    let value =
                        Value::Of { unit: token.unit, block: token.lba + at, from: token.from, to: Some(token.to) };
                    self.write(unit, lba + at, value);
                }
            }
            Kind::BlockErase | Kind::Format => {
                (cdb[0], length) = (0x04, 6);
                if kind == Kind::BlockErase {
                    (cdb[0], cdb[1], length) = (0x48, 0x02, 10);
                }
                (0..BLOCKS).for_each(|block| self.write(unit, block, Value::Known(0)));
            }
        }
        let manager = if kind == Kind::CopyAcross && value.is_multiple_of(2) { 1 - unit } else { unit };
        let id = self.site.start(manager, nexus, &cdb[..length], &out, room);
        let (number, start) = (self.number, self.time);
        self.running.push(Running { id, number, start, nexus, unit, kind, lba, blocks, compared });
    }

    fn step(&mut self, step: &Step) {
        self.time += 1;
        match *step {
            Step::Command { .. } => self.start(step),
            Step::Release(index) => {
                self.site.release(index);
            }
            Step::Abort(index) if !self.running.is_empty() => {
                let running = &self.running[index % self.running.len()];
                let (unit, nexus, id) = (running.unit, running.nexus, running.id);
                self.site.manage(unit, nexus, Function::AbortTask, Some(id));
                self.site.manage(1 - unit, nexus, Function::AbortTask, Some(id));
            }
            Step::Abort(_) => {}
            Step::AbortSet { nexus, unit } => {
                self.site.manage(unit, nexus, Function::AbortTaskSet, None);
            }
            Step::Reset { nexus, unit } => {
                self.site.manage(unit, nexus, Function::LogicalUnitReset, None);
            }
            Step::Logout(nexus) => {
                self.site.detach(nexus);
                // Its tasks end silently, some time: what they do may come later.
                self.running.retain(|running| running.nexus != nexus);
                (0..UNITS).for_each(|unit| self.site.units[unit].attach(&nexus_of(nexus)));
            }
        }
        self.look();
    }

    /// Judges what has ended.
    fn look(&mut self) {
        self.time += 1;
        let (ended, running): (Vec<Running>, Vec<Running>) =
            std::mem::take(&mut self.running).into_iter().partition(|one| self.site.ended.contains_key(&one.id));
        self.running = running;
        for one in ended {
            let end = self.site.ended.remove(&one.id).unwrap();
            let good = matches!(&end, End::Completed(answer) if answer.status == Status::GOOD);
            for block in self.history.iter_mut().flatten() {
                for event in block.iter_mut().filter(|event| event.command == one.number) {
                    (event.end, event.good) = (Some(self.time), good);
                }
            }
            let End::Completed(answer) = end else { continue };
            if !good {
                continue;
            }
            match one.kind {
                Kind::Read => self.check(one.unit, one.lba, &answer.data, one.start),
                Kind::CompareAndWrite => {
                    let (from, to) = (one.start, self.time);
                    assert!(
                        self.possible(one.unit, one.lba, one.compared, from, to, 0),
                        "compared with what never was"
                    );
                    let copied = |event: &Event| matches!(event.value, Value::Of { .. });
                    // A value is there once, but zeros come again and copies bring anything.
                    if one.compared != 0 && !self.history[one.unit][one.lba as usize].iter().any(copied) {
                        let win = (one.unit, one.lba, one.compared);
                        assert!(!self.winners.contains(&win), "two found {} in block {}", one.compared, one.lba);
                        self.winners.push(win);
                    }
                }
                Kind::Populate => {
                    let mut cdb = [0; 16];
                    (cdb[0], cdb[1], cdb[12]) = (0x84, 7, 16);
                    cdb[2..6].copy_from_slice(&(one.number as u32).to_be_bytes());
                    let id = self.site.start(one.unit, one.nexus, &cdb, &[], 4096);
                    if let Some(End::Completed(answer)) = self.site.ended.remove(&id)
                        && answer.status == Status::GOOD
                    {
                        let bytes = answer.data[38..].to_vec();
                        let (from, to) = (one.start, self.time);
                        let token = Token { bytes, unit: one.unit, lba: one.lba, blocks: one.blocks, from, to };
                        self.tokens.push(token);
                    }
                }
                _ => {}
            }
        }
        // The answers of those that logged out.
        let known: Vec<TaskId> = self.running.iter().map(|running| running.id).collect();
        self.site.ended.retain(|id, _| known.contains(id));
    }

    fn check(&self, unit: usize, lba: u64, data: &[u8], start: Time) {
        for (at, block) in data.chunks(BLOCK).enumerate() {
            let value = u64::from_be_bytes(*block.first_chunk().unwrap());
            assert_eq!(block, stamp(value), "a torn block");
            let block = lba + at as u64;
            assert!(
                self.possible(unit, block, value, start, self.time, 0),
                "unit {unit}, block {block} holds {value} between {start} and {}: {:?}",
                self.time,
                self.history[unit][block as usize]
            );
        }
    }

    /// Everything is carried out; then every block is read.
    fn finish(&mut self) {
        while self.site.release(0) {
            self.time += 1;
            self.look();
        }
        self.time += 2;
        assert!(self.running.is_empty(), "{} commands never ended", self.running.len());
        self.site.hold = false;
        for unit in 0..UNITS {
            let mut answer = self.site.run(unit, 1, &sixteen(0x88, 0, 0, BLOCKS as u32), &[], BLOCKS as u32 * 512);
            while answer.status != Status::GOOD {
                let sense = answer.sense.unwrap();
                assert_eq!(sense.key, scsi_core::SenseKey::UNIT_ATTENTION, "{sense}");
                answer = self.site.run(unit, 1, &sixteen(0x88, 0, 0, BLOCKS as u32), &[], BLOCKS as u32 * 512);
            }
            self.time += 1;
            self.check(unit, 0, &answer.data, self.time - 1);
        }
    }
}

fn nexus_of(number: u64) -> Arc<stmf::Nexus> {
    nexus(number)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_block_holds_what_some_order_of_the_commands_left_there(steps in steps()) {
        let mut model = Model::new();
        for step in &steps {
            model.step(step);
        }
        model.finish();
    }

    #[test]
    fn of_those_that_compare_with_the_same_block_one_wins(
        steps in prop::collection::vec(
            prop_oneof![
                4 => (1..=3u64, 0..4u64).prop_map(|(nexus, lba)| (nexus, Kind::CompareAndWrite, lba)),
                1 => (1..=3u64, 0..4u64).prop_map(|(nexus, lba)| (nexus, Kind::Write, lba)),
                1 => (1..=3u64, 0..4u64).prop_map(|(nexus, lba)| (nexus, Kind::WriteSame, lba)),
                1 => (1..=3u64, 0..4u64).prop_map(|(nexus, lba)| (nexus, Kind::Unmap, lba)),
                1 => (1..=3u64, 0..4u64).prop_map(|(nexus, lba)| (nexus, Kind::WriteAtomic, lba)),
                5 => (0..8u64).prop_map(|index| (0, Kind::Read, index)),
            ],
            1..150,
        ),
    ) {
        let mut model = Model::new();
        for (nexus, kind, lba) in steps {
            model.step(&match nexus {
                0 => Step::Release(lba as usize),
                _ => Step::Command { nexus, unit: 0, kind, lba, blocks: 2, other: 0 },
            });
        }
        model.finish();
    }
}

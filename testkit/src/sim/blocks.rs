//! What the blocks of one unit may hold: every write there was, and what is known of when it took effect.

use std::collections::BTreeMap;

use super::peer::OpId;

/// The order of things that the judge saw.
pub(super) type Tick = u64;

/// Not yet, or never known.
pub(super) const OPEN: Tick = Tick::MAX;

/// Bytes of a block.
pub(super) const BLOCK: usize = 512;

/// What a block holds: 0 for zeros, else the number of the unit and of the operation that wrote it.
pub(super) type Value = u64;

#[derive(Clone, Debug)]
struct Write {
    value: Value,
    op: OpId,
    /// The same block was written everywhere.
    same: bool,
    start: Tick,
    /// It took effect by then, if ever.
    latest: Tick,
    /// It did take effect.
    happened: bool,
    durable: bool,
    /// Its session was gone by then.
    orphaned: Tick,
    /// Another one was read that took effect after it, by then: whoever looks later finds this one no more.
    superseded: Option<(Tick, OpId)>,
}

impl Write {
    /// What has taken its place for those who look at `at`, as far as reads have shown.
    fn seen_superseded(&self, at: Tick) -> Option<OpId> {
        self.superseded.filter(|(by, _)| *by < at).map(|(_, op)| op)
    }
}

/// The blocks of one unit.
#[derive(Clone, Debug)]
pub(super) struct Blocks {
    unit: usize,
    blocks: Vec<Vec<Write>>,
    /// Blocks of each operation.
    written: BTreeMap<OpId, Vec<usize>>,
}

/// The value that an operation writes to a unit.
pub(super) fn value(unit: usize, op: OpId) -> Value {
    op << 8 | (unit as u64 + 1)
}

/// The content of a block. `lba` is `None` where the same block is written everywhere.
pub(super) fn content(value: Value, lba: Option<u64>) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    if value != 0 {
        let place = lba.unwrap_or(u64::MAX);
        for (at, chunk) in block.chunks_exact_mut(16).enumerate() {
            chunk[..8].copy_from_slice(&value.wrapping_add(at as u64 * 0x0101_0000_0000_0000).to_le_bytes());
            chunk[8..].copy_from_slice(&place.to_le_bytes());
        }
    }
    block
}

/// What a block holds, if that was ever written as a whole to this place.
fn decode(block: &[u8], lba: u64) -> Option<Value> {
    let value = u64::from_le_bytes(*block.first_chunk()?);
    let is = |place| block == content(value, place);
    (is(Some(lba)) || value != 0 && is(None)).then_some(value)
}

impl Blocks {
    pub(super) fn new(unit: usize, count: usize) -> Self {
        let zeros = Write {
            value: 0,
            op: 0,
            same: false,
            start: 0,
            latest: 0,
            happened: true,
            durable: true,
            orphaned: OPEN,
            superseded: None,
        };
        Self { unit, blocks: vec![vec![zeros]; count], written: BTreeMap::new() }
    }

    /// A write begins.
    pub(super) fn begin(&mut self, op: OpId, value: Value, same: bool, lba: usize, count: usize, start: Tick) {
        for lba in lba..(lba + count).min(self.blocks.len()) {
            self.blocks[lba].push(Write {
                value,
                op,
                same,
                start,
                latest: OPEN,
                happened: false,
                durable: false,
                orphaned: OPEN,
                superseded: None,
            });
            self.written.entry(op).or_default().push(lba);
        }
    }

    /// A write is over: with GOOD, and durable by that, or nobody knows how much of it was done.
    pub(super) fn end(&mut self, op: OpId, at: Tick, happened: bool, durable: bool) {
        let Some(lbas) = self.written.remove(&op) else { return };
        for lba in lbas {
            for write in self.blocks[lba].iter_mut().filter(|write| write.op == op) {
                write.latest = write.latest.min(at);
                write.happened |= happened;
                write.durable |= durable;
            }
            let start = self.blocks[lba].iter().find(|write| write.op == op && write.happened).map(|write| write.start);
            if let Some(start) = start {
                for orphan in self.blocks[lba].iter_mut().filter(|write| write.orphaned < start) {
                    orphan.latest = orphan.latest.min(start - 1);
                }
            }
        }
    }

    /// A write has lost its session, and the target knows. It may still happen, but not after a write that begins from
    /// now on.
    pub(super) fn orphan(&mut self, op: OpId, at: Tick) {
        for lba in self.written.remove(&op).unwrap_or_default() {
            self.blocks[lba].iter_mut().filter(|write| write.op == op).for_each(|write| write.orphaned = at);
        }
    }

    /// A write did nothing at all.
    pub(super) fn undo(&mut self, op: OpId) {
        for lba in self.written.remove(&op).unwrap_or_default() {
            self.blocks[lba].retain(|write| write.op != op || write.happened);
        }
    }

    /// What a block probably holds now.
    pub(super) fn guess(&self, lba: usize) -> [u8; BLOCK] {
        let newest = self.blocks.get(lba).and_then(|writes| writes.iter().rfind(|write| write.happened));
        newest.map_or([0; BLOCK], |write| content(write.value, (!write.same).then_some(lba as u64)))
    }

    /// Everything that took effect before `start` is durable.
    pub(super) fn flushed(&mut self, start: Tick) {
        for write in self.blocks.iter_mut().flatten() {
            write.durable |= write.happened && write.latest < start;
        }
    }

    /// A read from `start` to `end` gave these bytes.
    pub(super) fn read(&mut self, lba: usize, data: &[u8], start: Tick, end: Tick) -> Result<(), String> {
        for (at, block) in data.chunks(BLOCK).enumerate() {
            self.read_block(lba + at, block, start, end)?;
        }
        Ok(())
    }

    fn read_block(&mut self, lba: usize, block: &[u8], start: Tick, end: Tick) -> Result<(), String> {
        let unit = self.unit;
        let value = if block.len() == BLOCK { decode(block, lba as u64) } else { None };
        let Some(value) = value else {
            return Err(format!("unit {unit} block {lba}: what was read was never written: {:02x?}", head(block)));
        };
        if value != 0 && (value & 0xff) as usize != unit + 1 {
            return Err(format!("unit {unit} block {lba}: holds the data of unit {}", (value & 0xff) - 1));
        }
        let Some(writes) = self.blocks.get_mut(lba) else { return Err(format!("block {lba} is beyond the end")) };
        let superseded = |write: &Write| {
            let over = writes.iter().find(|other| other.happened && other.start > write.latest && other.latest < start);
            over.map(|other| other.op).or_else(|| write.seen_superseded(start))
        };
        let mut found = Vec::new();
        let mut later = None;
        for (at, write) in writes.iter().enumerate().filter(|(_, write)| write.value == value && write.start < end) {
            match superseded(write) {
                None => found.push(at),
                Some(other) => later = Some(other),
            }
        }
        match (found.as_slice(), later) {
            ([], Some(later)) => Err(format!(
                "unit {unit} block {lba}: op {} was read, though op {later} had overwritten it",
                value >> 8
            )),
            ([], None) => Err(format!("unit {unit} block {lba}: op {} was read before it was written", value >> 8)),
            ([only], _) => {
                let write = &mut writes[*only];
                write.happened = true;
                write.latest = write.latest.min(end);
                // What had taken effect before the read did so before what was read.
                let (op, by) = (write.op, write.latest);
                for other in writes.iter_mut().filter(|other| other.op != op && other.latest < start) {
                    other.superseded = Some(other.superseded.map_or((by, op), |known| known.min((by, op))));
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// The machine stopped at `at` and this is on the medium now. After a loss of power only what is durable counts;
    /// what is there then is what there is.
    pub(super) fn restarted(&mut self, image: &[u8], at: Tick, power_lost: bool) -> Result<(), String> {
        let unit = self.unit;
        self.written.clear();
        for (lba, writes) in self.blocks.iter_mut().enumerate() {
            for write in writes.iter_mut() {
                write.latest = write.latest.min(at);
            }
            let Some(value) = image.get(lba * BLOCK..(lba + 1) * BLOCK).and_then(|block| decode(block, lba as u64))
            else {
                return Err(format!("unit {unit} block {lba}: the medium holds what was never written"));
            };
            let counts = |other: &Write| if power_lost { other.durable } else { other.happened };
            let lost = |write: &Write| {
                let over =
                    writes.iter().find(|other| counts(other) && other.start > write.latest).map(|other| other.op);
                over.or_else(|| write.seen_superseded(at).filter(|_| !power_lost))
            };
            let candidates: Vec<&Write> = writes.iter().filter(|write| write.value == value).collect();
            if candidates.iter().all(|write| lost(write).is_some()) {
                let lost = candidates.iter().find_map(|write| lost(write)).unwrap_or(0);
                let kind = if power_lost { "flushed" } else { "acknowledged" };
                return Err(format!(
                    "unit {unit} block {lba}: after the restart it holds op {}, though op {lost} was {kind}",
                    value >> 8
                ));
            }
            if power_lost {
                let same = candidates.iter().any(|write| write.same);
                *writes = vec![Write {
                    value,
                    op: 0,
                    same,
                    start: at,
                    latest: at,
                    happened: true,
                    durable: true,
                    orphaned: OPEN,
                    superseded: None,
                }];
            }
        }
        Ok(())
    }
}

fn head(block: &[u8]) -> &[u8] {
    &block[..block.len().min(16)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(op: OpId) -> [u8; BLOCK] {
        content(value(0, op), Some(0))
    }

    #[test]
    fn a_read_may_see_either_of_two_concurrent_writes_and_then_never_the_one_before() {
        let mut blocks = Blocks::new(0, 1);
        blocks.begin(1, value(0, 1), false, 0, 1, 1);
        blocks.begin(2, value(0, 2), false, 0, 1, 2);
        blocks.end(1, 3, true, false);
        blocks.end(2, 4, true, false);
        assert!(blocks.clone().read(0, &one(1), 5, 6).is_ok());
        assert!(blocks.clone().read(0, &one(2), 5, 6).is_ok());
        assert!(blocks.read(0, &[0; BLOCK], 5, 6).is_err(), "both are over");
    }

    #[test]
    fn of_two_concurrent_writes_the_one_that_was_read_last_stays() {
        let mut blocks = Blocks::new(0, 1);
        blocks.begin(1, value(0, 1), false, 0, 1, 1);
        blocks.begin(2, value(0, 2), false, 0, 1, 2);
        blocks.end(1, 3, true, false);
        blocks.end(2, 4, true, false);
        assert!(blocks.read(0, &one(1), 5, 6).is_ok());
        assert!(blocks.clone().read(0, &one(2), 7, 8).is_err(), "both were over when the first was read");
        assert!(blocks.clone().restarted(&one(2), 9, false).is_err());
        assert!(blocks.clone().restarted(&one(2), 9, true).is_ok(), "none was flushed");
        assert!(blocks.read(0, &one(1), 7, 8).is_ok());
    }

    #[test]
    fn a_write_that_goes_on_may_follow_one_that_was_read() {
        let mut blocks = Blocks::new(0, 1);
        blocks.begin(1, value(0, 1), false, 0, 1, 1);
        blocks.begin(2, value(0, 2), false, 0, 1, 2);
        blocks.end(1, 3, true, false);
        assert!(blocks.read(0, &one(1), 5, 6).is_ok());
        assert!(blocks.read(0, &one(2), 7, 8).is_ok());
        assert!(blocks.read(0, &one(1), 9, 10).is_err());
    }

    #[test]
    fn what_was_read_has_happened() {
        let mut blocks = Blocks::new(0, 1);
        blocks.begin(1, value(0, 1), false, 0, 1, 1);
        assert!(blocks.read(0, &one(1), 2, 3).is_ok());
        assert!(blocks.read(0, &[0; BLOCK], 4, 5).is_err(), "it cannot be undone");
    }

    #[test]
    fn a_loss_of_power_may_undo_what_was_not_flushed_only() {
        let mut blocks = Blocks::new(0, 1);
        blocks.begin(1, value(0, 1), false, 0, 1, 1);
        blocks.end(1, 2, true, false);
        assert!(blocks.clone().restarted(&[0; BLOCK], 9, true).is_ok());
        assert!(blocks.clone().restarted(&[0; BLOCK], 9, false).is_err());
        blocks.flushed(3);
        assert!(blocks.restarted(&[0; BLOCK], 9, true).is_err());
    }

    #[test]
    fn data_of_another_unit_or_place_is_noticed() {
        let mut blocks = Blocks::new(0, 2);
        assert!(blocks.read(0, &content(value(1, 1), Some(0)), 1, 2).unwrap_err().contains("unit 1"));
        assert!(blocks.read(0, &content(value(0, 1), Some(1)), 1, 2).unwrap_err().contains("never written"));
    }
}

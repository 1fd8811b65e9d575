//! ROD tokens: POPULATE TOKEN and WRITE USING TOKEN, with which Windows copies between disks and hosts.
//!
//! A token stands for ranges of this unit as they were when it was made. Nothing is set aside for it: the first write
//! to any of its ranges revokes it ("point in time copy - change vulnerable"), before the write reaches the store. A
//! copy that used a token asks once more, when all is copied, whether the token is still good: then no write came
//! between, and what was copied is what the token stood for.

use scsi_core::cdb::{PopulateToken, WriteUsingToken};
use scsi_core::command::Command;
use scsi_core::data::{BlockRange, PopulateTokenList, WriteUsingTokenList};
use scsi_core::{AdditionalSense, Designator, DesignatorName, Guid, SenseData};
use std::collections::VecDeque;
use std::time::{Duration, Instant};
use stmf::provider::{Effects, ROD_TOKEN_BYTES, Rod, Segments};

use super::Lu;
use super::copy::{Copying, Move, Peer, Source};
use super::foreign::{Outbound, Redeemed};
use super::gather::concat;
use super::job::JobWork;
use super::ops::Owner;
use super::slab::Key;
use super::task::Work;
use super::transfer::Checked;

/// ROD type: point in time copy, default: the copy manager chooses.
const DEFAULT_TYPE: u32 = 0x0080_0000;
/// ROD type: point in time copy, change vulnerable.
pub(super) const CHANGE_VULNERABLE: u32 = 0x0080_0001;
/// ROD type: a token everybody knows, for zeros.
pub(super) const ZERO_ROD: u32 = 0xffff_0001;

/// Ranges of one token, or of one use of it.
pub(super) const MAX_RANGES: usize = 64;
/// The longest a token may lie unused.
pub(super) const MAX_TIMEOUT_SECONDS: u32 = 3600;
/// How long it may if nobody asks for another time.
pub(super) const DEFAULT_TIMEOUT_SECONDS: u32 = 60;
/// What one token stands for at most.
pub(super) const MAX_TOKEN_BYTES: u64 = 64 << 30;
pub(super) const OPTIMAL_TRANSFER_BYTES: u64 = 64 << 20;
/// Tokens that are remembered, those that are void included; the oldest goes for a new one.
const MAX_TOKENS: usize = 128;

const MAX_POPULATE_BYTES: u32 = 16 + 16 * MAX_RANGES as u32;
const MAX_USE_BYTES: u32 = 536 + 16 * MAX_RANGES as u32;

/// What an initiator sends: 32 bytes that nobody can guess, at the end of the token.
pub(crate) const NAME_BYTES: usize = 32;

/// POPULATE TOKEN under way.
#[derive(Debug)]
pub(super) struct Populating {
    ranges: Vec<(u64, u64)>,
    timeout: Duration,
    pub(super) record: u64,
    total: u64,
    asked: bool,
}

/// WRITE USING TOKEN whose token is being looked for.
#[derive(Debug)]
pub(super) struct Redeeming {
    list: WriteUsingTokenList,
    list_identifier: u32,
    total: u64,
}

#[derive(Debug)]
struct Token {
    bytes: Box<[u8; ROD_TOKEN_BYTES]>,
    ranges: Vec<(u64, u64)>,
    timeout: Duration,
    deadline: Instant,
    /// Why it is good no more.
    void: Option<AdditionalSense>,
}

/// The tokens of a unit, the oldest first.
#[derive(Debug, Default)]
pub(super) struct Tokens {
    tokens: VecDeque<Token>,
    made: u64,
    /// Those that are not void.
    valid: usize,
}

impl Tokens {
    /// Whether no write has to look.
    pub(super) fn is_empty(&self) -> bool {
        self.valid == 0
    }

    fn void(&mut self, code: AdditionalSense, which: impl Fn(&Token) -> bool) {
        for token in self.tokens.iter_mut().filter(|token| token.void.is_none() && which(token)) {
            token.void = Some(code);
            self.valid -= 1;
        }
    }

    pub(super) fn revoke_all(&mut self) {
        self.void(AdditionalSense::INVALID_TOKEN_REVOKED, |_| true);
    }

    pub(super) fn delete(&mut self, token: &[u8; ROD_TOKEN_BYTES]) {
        self.void(AdditionalSense::INVALID_TOKEN_DELETED, |known| *known.bytes == *token);
    }

    fn find(&mut self, token: &[u8; ROD_TOKEN_BYTES]) -> Result<&mut Token, SenseData> {
        let invalid = SenseData::illegal_request;
        let same_id = |known: &&mut Token| known.bytes[8..16] == token[8..16];
        let known = self.tokens.iter_mut().find(same_id).ok_or(invalid(AdditionalSense::INVALID_TOKEN_UNKNOWN))?;
        if *known.bytes != *token {
            return Err(invalid(AdditionalSense::INVALID_TOKEN_CORRUPT));
        }
        match known.void {
            Some(code) => Err(invalid(code)),
            None => Ok(known),
        }
    }

    /// Whether what was copied from the token's ranges is what it stands for.
    pub(super) fn still_valid(&mut self, token: &[u8; ROD_TOKEN_BYTES]) -> Result<(), SenseData> {
        self.find(token).map(drop)
    }

    fn redeem(&mut self, token: &[u8; ROD_TOKEN_BYTES], now: Instant) -> Result<Vec<(u64, u64)>, SenseData> {
        self.void(AdditionalSense::INVALID_TOKEN_EXPIRED, |known| known.deadline <= now);
        let known = self.find(token)?;
        known.deadline = now + known.timeout;
        Ok(known.ranges.clone())
    }
}

impl Lu {
    /// Data in these ranges is about to change.
    pub(super) fn revoke_tokens(&mut self, changed: &[(u64, u64)]) {
        self.tokens.void(AdditionalSense::INVALID_TOKEN_REVOKED, |token| {
            token
                .ranges
                .iter()
                .any(|(offset, length)| changed.iter().any(|(begin, end)| begin < &(offset + length) && offset < end))
        });
    }

    /// What a token of this unit stands for; using it makes it live longer.
    pub(crate) fn redeem(&mut self, token: &[u8; ROD_TOKEN_BYTES], now: Instant) -> Result<Rod, SenseData> {
        let ranges = self.tokens.redeem(token, now)?;
        Ok(Rod { block_length: self.identity.block_size, ranges })
    }

    pub(crate) fn delete_token(&mut self, token: &[u8; ROD_TOKEN_BYTES]) {
        self.tokens.delete(token);
    }

    pub(super) fn populate_token(&mut self, key: Key, command: PopulateToken, fx: &mut Effects) {
        match command.parameter_list_length {
            0 => self.good(key, 0, fx),
            length => self.gather(key, Command::PopulateToken(command), length.min(MAX_POPULATE_BYTES), fx),
        }
    }

    pub(super) fn write_using_token(&mut self, key: Key, command: WriteUsingToken, fx: &mut Effects) {
        match command.parameter_list_length {
            0 => self.good(key, 0, fx),
            length => self.gather(key, Command::WriteUsingToken(command), length.min(MAX_USE_BYTES), fx),
        }
    }

    /// The range descriptors at `at` of a parameter list, in bytes of the medium.
    fn token_ranges(&self, ranges: &[BlockRange], at: u16) -> Result<Vec<(u64, u64)>, SenseData> {
        let mut list = Vec::with_capacity(ranges.len());
        let mut total = 0u64;
        for range in ranges.iter().filter(|range| range.blocks > 0) {
            let (offset, length) = self.range(range.lba, range.blocks.into())?;
            total += length;
            list.push((offset, length));
        }
        // Twice the same block in one token, or one command, has no meaning.
        let mut sorted = list.clone();
        sorted.sort_unstable();
        let overlaps = sorted.windows(2).any(|pair| pair[0].0 + pair[0].1 > pair[1].0);
        if overlaps || total > MAX_TOKEN_BYTES {
            return Err(SenseData::invalid_field_in_parameter_list(at, Some(7)));
        }
        Ok(list)
    }

    pub(super) fn received_populate_list(&mut self, key: Key, command: &PopulateToken, data: Segments) -> Checked {
        let bytes = concat(data);
        let list = PopulateTokenList::parse(&bytes, MAX_RANGES)?;
        if !matches!(list.rod_type, None | Some(DEFAULT_TYPE | CHANGE_VULNERABLE)) {
            return Err(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_UNSUPPORTED_TOKEN_TYPE));
        }
        if list.inactivity_timeout_seconds > MAX_TIMEOUT_SECONDS {
            return Err(SenseData::invalid_field_in_parameter_list(4, Some(7)));
        }
        let seconds = match list.inactivity_timeout_seconds {
            0 => DEFAULT_TIMEOUT_SECONDS,
            seconds => seconds,
        };
        let ranges = self.token_ranges(&list.ranges, 16)?;
        let (Some(begin), Some(end)) =
            (ranges.iter().map(|range| range.0).min(), ranges.iter().map(|range| range.0 + range.1).max())
        else {
            return Err(SenseData::invalid_field_in_parameter_list(14, Some(7)));
        };
        let Some(nexus) = self.tasks.get(key).map(|task| task.id.nexus) else { return Ok(()) };
        let record = self.copies.begin(nexus, command.list_identifier, 0x10, list.immediate)?;
        let total = bytes.len() as u64;
        let timeout = Duration::from_secs(seconds.into());
        self.set(key, Work::Populate(Box::new(Populating { ranges, timeout, record, total, asked: false })));
        // Writes that are under way come first, so that the token's data is that of one moment.
        self.exclude(Owner::Task(key), begin, end);
        Ok(())
    }

    pub(super) fn populate_on(&mut self, key: Key, mut populating: Box<Populating>) {
        let ready = self.has_range(Owner::Task(key)) && !populating.asked;
        populating.asked |= ready;
        self.set(key, Work::Populate(populating));
        if ready && let Some(task) = self.tasks.get_mut(key) {
            task.in_flight += 1;
            self.outbox.push(Outbound::Name { task: key });
        }
    }

    /// The time, and a name for a token that nobody can guess.
    pub(crate) fn named(&mut self, key: Key, now: Instant, name: [u8; NAME_BYTES], fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        let work = std::mem::replace(&mut task.work, Work::Running);
        let alive = task.is_alive();
        let Work::Populate(populating) = work else { return };
        let Populating { ranges, timeout, record, total, .. } = *populating;
        if !alive {
            self.copies.end(Some(record), Some(super::job::Failure::Cancelled));
            self.settle(key, fx);
        } else {
            let length = ranges.iter().map(|range| range.1).sum();
            let bytes = self.make_token(length, name);
            self.copies.made(Some(record), length, &bytes);
            self.tokens.void(AdditionalSense::INVALID_TOKEN_EXPIRED, |known| known.deadline <= now);
            if self.tokens.tokens.len() >= MAX_TOKENS
                && let Some(Token { void: None, .. }) = self.tokens.tokens.pop_front()
            {
                self.tokens.valid -= 1;
            }
            self.tokens.tokens.push_back(Token { bytes, ranges, timeout, deadline: now + timeout, void: None });
            self.tokens.valid += 1;
            self.good(key, total, fx);
        }
        self.run(fx);
    }

    /// A token (SPC-5, ROD token format).
    fn make_token(&mut self, length: u64, name: [u8; NAME_BYTES]) -> Box<[u8; ROD_TOKEN_BYTES]> {
        self.tokens.made += 1;
        let mut token = Box::new([0; ROD_TOKEN_BYTES]);
        token[..4].copy_from_slice(&CHANGE_VULNERABLE.to_be_bytes());
        token[6..8].copy_from_slice(&(ROD_TOKEN_BYTES as u16 - 8).to_be_bytes());
        // The identifier tells tokens of a unit apart, also those of an earlier life of it.
        token[8..12].copy_from_slice(&name[..4]);
        token[12..16].copy_from_slice(&(self.tokens.made as u32).to_be_bytes());
        let mut creator = vec![0xe4, 0, 0, 0];
        Designator::logical_unit(self.identity.guid).encode(&mut creator);
        token[16..16 + creator.len()].copy_from_slice(&creator);
        token[45..48].copy_from_slice(&self.identity.block_size.to_be_bytes()[1..]);
        token[56..64].copy_from_slice(&length.to_be_bytes());
        token[96..100].copy_from_slice(&self.identity.block_size.to_be_bytes());
        token[ROD_TOKEN_BYTES - NAME_BYTES..].copy_from_slice(&name);
        token
    }

    pub(super) fn received_token(
        &mut self,
        key: Key,
        command: &WriteUsingToken,
        data: Segments,
        fx: &mut Effects,
    ) -> Checked {
        let bytes = concat(data);
        let list = WriteUsingTokenList::parse(&bytes, MAX_RANGES)?;
        self.token_ranges(&list.ranges, 536)?;
        let total = bytes.len() as u64;
        let kind = u32::from_be_bytes([list.token[0], list.token[1], list.token[2], list.token[3]]);
        let redeeming = Redeeming { list, list_identifier: command.list_identifier, total };
        if kind == ZERO_ROD {
            return self.begin_write(key, redeeming, None, fx);
        }
        if kind != CHANGE_VULNERABLE {
            return Err(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_UNSUPPORTED_TOKEN_TYPE));
        }
        let creator = creator_of(&redeeming.list.token);
        let creator = creator.ok_or(SenseData::illegal_request(AdditionalSense::INVALID_TOKEN_CORRUPT))?;
        let Some(task) = self.tasks.get_mut(key) else { return Ok(()) };
        let token = redeeming.list.token.clone();
        task.in_flight += 1;
        task.work = Work::Redeem(Box::new(redeeming));
        let unit = (creator != self.identity.guid).then_some(creator);
        self.outbox.push(Outbound::Redeem { task: key, unit, token });
        Ok(())
    }

    /// The token of a WRITE USING TOKEN was looked for.
    pub(crate) fn redeemed(&mut self, key: Key, redeemed: Redeemed, fx: &mut Effects) {
        let Some(task) = self.tasks.get_mut(key) else { return };
        task.in_flight -= 1;
        if task.is_alive()
            && let Work::Redeem(redeeming) = std::mem::replace(&mut task.work, Work::Running)
        {
            let begun = redeemed.and_then(|(unit, rod)| {
                let peer = unit.map_or(Peer::This, Peer::Other);
                self.begin_write(key, *redeeming, Some((peer, rod)), fx)
            });
            if let Err(sense) = begun {
                self.fail(key, sense, fx);
            }
        } else {
            self.settle(key, fx);
        }
        self.run(fx);
    }

    /// Writes what a token stands for; without one zeros.
    fn begin_write(&mut self, key: Key, redeeming: Redeeming, rod: Option<(Peer, Rod)>, fx: &mut Effects) -> Checked {
        let Redeeming { list, list_identifier, total } = redeeming;
        let mut left = self.token_ranges(&list.ranges, 536)?;
        let mut moves = Vec::new();
        let token = match rod {
            None => {
                moves.extend(left.iter().map(|&(offset, length)| Move {
                    source: Source::Zeros,
                    source_offset: 0,
                    destination: Peer::This,
                    offset,
                    length,
                }));
                None
            }
            Some((peer, rod)) => {
                let wanted: u64 = left.iter().map(|range| range.1).sum();
                let represented: u64 = rod.ranges.iter().map(|range| range.1).sum();
                let skip =
                    list.offset.checked_shl(self.block_shift).filter(|skip| skip >> self.block_shift == list.offset);
                let skip = skip.filter(|skip| *skip < represented);
                let mut skip = skip.ok_or(SenseData::invalid_field_in_parameter_list(8, Some(7)))?;
                if wanted > represented - skip {
                    return Err(SenseData::invalid_field_in_parameter_list(536, Some(7)));
                }
                let mut sources = rod.ranges.into_iter().filter_map(|(offset, length)| {
                    let skipped = skip.min(length);
                    skip -= skipped;
                    (length > skipped).then_some((offset + skipped, length - skipped))
                });
                let mut source = sources.next();
                for (offset, length) in &mut left {
                    while *length > 0 {
                        let Some((from, available)) = &mut source else { break };
                        let piece = (*length).min(*available);
                        moves.push(Move {
                            source: Source::Peer(peer.clone()),
                            source_offset: *from,
                            destination: Peer::This,
                            offset: *offset,
                            length: piece,
                        });
                        (*offset, *length) = (*offset + piece, *length - piece);
                        (*from, *available) = (*from + piece, *available - piece);
                        if *available == 0 {
                            source = sources.next();
                        }
                    }
                }
                Some(list.token)
            }
        };
        let Some(nexus) = self.tasks.get(key).map(|task| task.id.nexus) else { return Ok(()) };
        let record = Some(self.copies.begin(nexus, list_identifier, 0x11, list.immediate)?);
        let copying = Copying { record, token, delete_token: list.delete_token, ..Copying::new(moves, total) };
        self.begin_job(key, JobWork::Copy(Box::new(copying)), list.immediate, total, fx);
        Ok(())
    }
}

/// The unit that made a token.
fn creator_of(token: &[u8; ROD_TOKEN_BYTES]) -> Option<Guid> {
    match Designator::decode(&token[20..44])?.0.name {
        DesignatorName::Naa6(guid) => Some(guid),
        _ => None,
    }
}

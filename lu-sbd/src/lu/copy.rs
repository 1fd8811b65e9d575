//! Copies as jobs: one piece after the other, inside the stores.

use scsi_core::{AdditionalSense, SenseData, SenseKey};
use std::sync::Arc;
use stmf::provider::{CopyRefusal, CopySource, Effects, LogicalUnit, ROD_TOKEN_BYTES, StoreOp};

use super::Lu;
use super::foreign::Outbound;
use super::job::{Failure, JobWork};
use super::ops::Purpose;
use super::slab::Key;

/// A copy goes to the store in pieces of this size, so that it can be aborted between them.
const PIECE_BYTES: u64 = 64 << 20;

/// One end of a copy.
#[derive(Clone, Debug)]
pub(super) enum Peer {
    /// This unit.
    This,
    /// Another one.
    Other(Arc<dyn LogicalUnit>),
}

/// Where bytes come from.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// From a medium.
    Peer(Peer),
    /// From nowhere: zeros.
    Zeros,
}

/// A range to copy.
#[derive(Clone, Debug)]
pub(super) struct Move {
    pub(super) source: Source,
    pub(super) source_offset: u64,
    pub(super) destination: Peer,
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// A copy.
#[derive(Debug)]
pub(super) struct Copying {
    pub(super) moves: Vec<Move>,
    /// The range it is at, and bytes of it that are done.
    pub(super) at: usize,
    pub(super) done: u64,
    /// The piece under way.
    pub(super) piece: u64,
    /// Bytes of all ranges that are done.
    pub(super) moved: u64,
    pub(super) step: Step,
    /// What the parameter list had in bytes.
    pub(super) total: u64,
    /// Its serial number among what is remembered of copies.
    pub(super) record: Option<u64>,
    /// What must still be valid when the copy is done.
    pub(super) token: Option<Box<[u8; ROD_TOKEN_BYTES]>>,
    /// The token goes when it is done.
    pub(super) delete_token: bool,
    /// EXTENDED COPY: failures are COPY ABORTED.
    pub(super) extended: bool,
}

/// What a copy does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Ask whether it may go on.
    Check,
    /// Copy a piece.
    Piece,
    /// A piece is done.
    Done,
    /// Make it durable where writes have to be.
    Flush,
    /// End.
    End,
}

impl Copying {
    pub(super) fn new(moves: Vec<Move>, total: u64) -> Self {
        Self {
            moves,
            at: 0,
            done: 0,
            piece: 0,
            moved: 0,
            step: Step::Check,
            total,
            record: None,
            token: None,
            delete_token: false,
            extended: false,
        }
    }

    /// What the next piece is of; without a piece left, the last one.
    fn current(&self) -> Option<&Move> {
        self.moves.get(self.at).or(self.moves.last())
    }

    /// Skips ranges of nothing.
    fn skip_empty(&mut self) {
        while self.moves.get(self.at).is_some_and(|range| self.done == range.length) {
            self.at += 1;
            self.done = 0;
        }
    }
}

impl Lu {
    fn copying(&mut self, job: Key) -> Option<&mut Copying> {
        match self.jobs.get_mut(job).map(|entry| &mut entry.work) {
            Some(JobWork::Copy(copying)) => Some(copying),
            _ => None,
        }
    }

    /// Goes on with a copy of which nothing is in flight.
    pub(super) fn copy_on(&mut self, job: Key, fx: &mut Effects) {
        loop {
            let Some(copying) = self.copying(job) else { return };
            copying.skip_empty();
            match copying.step {
                Step::Check => {
                    copying.step = if copying.at < copying.moves.len() { Step::Piece } else { Step::Flush };
                    if self.check_copy(job, fx) {
                        return;
                    }
                }
                Step::Piece => {
                    copying.step = Step::Done;
                    return self.copy_piece(job, fx);
                }
                Step::Done => {
                    copying.done += copying.piece;
                    copying.moved += copying.piece;
                    copying.step = Step::Check;
                    copying.skip_empty();
                    let (record, at, moved) = (copying.record, copying.at, copying.moved);
                    self.copies.progress(record, at.min(0xffff) as u16, moved);
                }
                Step::Flush => {
                    copying.step = Step::End;
                    // Other units have seen to it themselves.
                    let here = copying.moves.iter().any(|range| matches!(range.destination, Peer::This));
                    if here && copying.moved > 0 && self.must_flush(false) {
                        return self.issue_for_job(job, Purpose::Flush, StoreOp::Flush, fx);
                    }
                }
                Step::End => return self.end_job(job, fx),
            }
        }
    }

    /// Asks whether the copy may go on: its nexus may read the source and write the destination, and the token still
    /// stands for what was copied. True when the answer comes later, or the copy has ended.
    fn check_copy(&mut self, job: Key, fx: &mut Effects) -> bool {
        let Some(nexus) = self.jobs.get(job).map(|entry| entry.nexus) else { return true };
        let Some(copying) = self.copying(job) else { return true };
        let last = copying.at >= copying.moves.len();
        let token = copying.token.clone();
        let Some(Move { source, destination, .. }) = copying.current().cloned() else { return false };
        let mut permitted = Ok(());
        let mut others = (None, None);
        match (&source, token) {
            (Source::Peer(Peer::Other(unit)), Some(token)) => others.1 = Some((unit.clone(), token)),
            (Source::Peer(Peer::This), Some(token)) => {
                permitted = self.tokens.still_valid(&token).map_err(CopyRefusal::Sense);
            }
            // What is done is done.
            _ if last => {}
            (Source::Peer(Peer::Other(unit)), None) => others.0 = Some(unit.clone()),
            (Source::Peer(Peer::This), None) => permitted = self.permits(nexus, false),
            (Source::Zeros, _) => {}
        }
        if !last && permitted.is_ok() {
            match destination {
                // The other unit checks it again with each piece.
                Peer::Other(_) => {}
                Peer::This => permitted = self.permits(nexus, true),
            }
        }
        if let Err(refusal) = permitted {
            let failure = self.copy_failure(job, refusal);
            self.cancel_job(job, failure, fx);
            return true;
        }
        let (source, token) = others;
        if source.is_none() && token.is_none() {
            return false;
        }
        if let Some(entry) = self.jobs.get_mut(job) {
            entry.in_flight += 1;
        }
        self.outbox.push(Outbound::Check { job, nexus, source, token });
        true
    }

    /// The answer of another unit has come: to a question, or about a piece.
    pub(crate) fn checked(&mut self, job: Key, outcome: Result<(), CopyRefusal>, fx: &mut Effects) {
        let failure = outcome.err().map(|refusal| self.copy_failure(job, refusal));
        self.job_answered(job, failure, fx);
        self.run(fx);
    }

    /// A refusal in the terms of the command.
    fn copy_failure(&mut self, job: Key, refusal: CopyRefusal) -> Failure {
        let extended = self.copying(job).is_some_and(|copying| copying.extended);
        let device_failure = SenseData::new(SenseKey::COPY_ABORTED, AdditionalSense::THIRD_PARTY_DEVICE_FAILURE);
        Failure::Sense(match refusal {
            CopyRefusal::NotSupported => {
                SenseData::new(SenseKey::COPY_ABORTED, AdditionalSense::INCORRECT_COPY_TARGET_DEVICE_TYPE)
            }
            CopyRefusal::Status(_) => device_failure,
            CopyRefusal::Sense(sense) if extended => copy_aborted(sense),
            CopyRefusal::Sense(sense) => sense,
        })
    }

    fn copy_piece(&mut self, job: Key, fx: &mut Effects) {
        let Some(nexus) = self.jobs.get(job).map(|entry| entry.nexus) else { return };
        let Some(copying) = self.copying(job) else { return };
        let Some(range) = copying.moves.get(copying.at).cloned() else { return };
        let left = range.length - copying.done;
        let length = left.min(PIECE_BYTES);
        copying.piece = length;
        // Of overlapping ranges the part goes first that the rest would overwrite.
        let within = matches!((&range.source, &range.destination), (Source::Peer(Peer::This), Peer::This));
        let backwards =
            within && range.offset > range.source_offset && range.offset - range.source_offset < range.length;
        let at = if backwards { left - length } else { copying.done };
        let (source_offset, offset) = (range.source_offset + at, range.offset + at);
        match (range.source, range.destination) {
            (Source::Zeros, Peer::This) => {
                let op = self.zeros(offset, length);
                self.issue_for_job(job, Purpose::Write, op, fx);
            }
            (Source::Peer(source), Peer::This) => {
                let source = match source {
                    Peer::This => None,
                    Peer::Other(unit) => Some(unit),
                };
                let op = StoreOp::Copy { source, source_offset, offset, length };
                self.issue_for_job(job, Purpose::Write, op, fx);
            }
            (source, Peer::Other(destination)) => {
                let source = match source {
                    Source::Zeros => Some(CopySource::Zeros),
                    Source::Peer(Peer::Other(unit)) => Some(CopySource::Unit(unit, source_offset)),
                    Source::Peer(Peer::This) => None,
                };
                if let Some(entry) = self.jobs.get_mut(job) {
                    entry.in_flight += 1;
                }
                let piece = Outbound::CopyIn { job, nexus, destination, source, source_offset, offset, length };
                self.outbox.push(piece);
            }
        }
    }

    /// A copy is over: what its task ends with.
    pub(super) fn copy_ended(&mut self, copying: Copying, failure: Option<Failure>) -> (u64, Option<SenseData>) {
        let failure = match failure {
            // A failed store operation has sense data of a command of its own.
            Some(Failure::Sense(sense)) if copying.extended => Some(Failure::Sense(copy_aborted(sense))),
            other => other,
        };
        self.copies.end(copying.record, failure);
        if failure.is_none()
            && copying.delete_token
            && let Some(token) = copying.token
        {
            match copying.moves.first().map(|range| range.source.clone()) {
                Some(Source::Peer(Peer::Other(unit))) => self.outbox.push(Outbound::Delete { unit, token }),
                _ => self.tokens.delete(&token),
            }
        }
        let sense = failure.map(|failure| match failure {
            Failure::Sense(sense) => sense,
            Failure::Cancelled => SenseData::new(SenseKey::COPY_ABORTED, AdditionalSense::NO_ADDITIONAL_SENSE),
        });
        (copying.total, sense)
    }
}

/// The failure of a segment: COPY ABORTED, but for a lack of space, which initiators look for as it is.
pub(super) fn copy_aborted(sense: SenseData) -> SenseData {
    if sense.code == AdditionalSense::SPACE_ALLOCATION_FAILED_WRITE_PROTECT {
        return sense;
    }
    SenseData { key: SenseKey::COPY_ABORTED, ..sense }
}

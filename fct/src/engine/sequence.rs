//! Sequences of several frames that are no data: they are put together by SEQ_CNT.

use std::collections::BTreeMap;
use std::time::Instant;
use stmf::provider::Segments;
use stmf::provider::hba::PortId;

use super::Engine;
use crate::share::is_fair;
use crate::wire::{FrameControl, FrameHeader, length};

/// A sequence that has begun.
#[derive(Debug)]
pub(super) struct Partial {
    remote: PortId,
    ox_id: u16,
    from_responder: bool,
    seq_id: u8,
    pieces: BTreeMap<u16, Segments>,
    bytes: usize,
    /// SEQ_CNT and header of the last frame.
    last: Option<FrameHeader>,
    pub(super) deadline: Instant,
}

impl Engine {
    /// Takes a frame of a sequence; the whole payload with the header of its last frame when nothing is missing.
    pub(super) fn assemble(
        &mut self,
        now: Instant,
        header: &FrameHeader,
        payload: Segments,
    ) -> Option<(FrameHeader, Segments)> {
        let ends = header.f_ctl.has(FrameControl::END_SEQUENCE);
        if ends && header.seq_cnt == 0 {
            return Some((*header, payload));
        }
        let from_responder = header.f_ctl.has(FrameControl::RESPONDER);
        let at = self.partials.iter().position(|partial| {
            (partial.remote, partial.ox_id, partial.from_responder, partial.seq_id)
                == (header.s_id, header.ox_id, from_responder, header.seq_id)
        });
        let at = match at {
            Some(at) => at,
            None if !self.has_room_for(header.s_id) => {
                self.statistics.dropped_sequences += 1;
                return None;
            }
            None => {
                self.partials.push(Partial {
                    remote: header.s_id,
                    ox_id: header.ox_id,
                    from_responder,
                    seq_id: header.seq_id,
                    pieces: BTreeMap::new(),
                    bytes: 0,
                    last: None,
                    deadline: now,
                });
                self.partials.len() - 1
            }
        };
        let partial = &mut self.partials[at];
        partial.deadline = now + self.config.e_d_tov;
        partial.bytes += length(&payload);
        if let Some(before) = partial.pieces.insert(header.seq_cnt, payload) {
            partial.bytes -= length(&before);
        }
        if ends {
            partial.last = Some(*header);
        }
        // An empty frame is a frame as well: their number is limited by that of words.
        if partial.bytes > self.config.max_sequence_length
            || partial.pieces.len() > self.config.max_sequence_length / 128
        {
            self.partials.swap_remove(at);
            self.statistics.dropped_sequences += 1;
            return None;
        }
        let last = partial.last.filter(|last| partial.pieces.len() == usize::from(last.seq_cnt) + 1)?;
        let partial = self.partials.swap_remove(at);
        Some((last, partial.pieces.into_values().flatten().collect()))
    }

    /// Whether a remote port may begin another sequence of several frames.
    fn has_room_for(&self, remote: PortId) -> bool {
        let own = self.partials.iter().filter(|partial| partial.remote == remote).count();
        is_fair(own, self.config.max_open_sequences.saturating_sub(self.partials.len()))
    }
}

//! What a write still expects from the initiator: unsolicited data and the answers to R2Ts (RFC 7143 4.2.5, 11.7, 11.8).

use smallvec::SmallVec;

use scsi_core::mutation::{Mutation, is_active};

use super::event::DataOutError;
use crate::login::SessionParameters;
use crate::pdu::TargetTransferTag;
use crate::sn::{DataSn, R2tSn};

/// Data-Out PDUs that belong together: those of one R2T, or the unsolicited ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sequence {
    /// Offset of the next byte.
    next: u32,
    /// Offset after the last byte.
    end: u32,
    data_sn: DataSn,
    /// First byte, and bytes received: all that can be checked when the PDUs may come in any order.
    start: u32,
    received: u32,
}

impl Sequence {
    fn new(start: u32, end: u32) -> Self {
        Self { next: start, end, data_sn: DataSn(0), start, received: 0 }
    }

    /// Counts one PDU.
    fn take(&mut self, pdu: Arrived, in_order: bool) -> Result<(), DataOutError> {
        let sn_expected = self.data_sn.take();
        let Some(end) = pdu.offset.checked_add(pdu.length) else { return Err(DataOutError::WrongAmount) };
        if pdu.data_sn != sn_expected {
            // A PDU is missing; without recovery that is as if it had come damaged (RFC 7143 7.9).
            return Err(DataOutError::Damaged);
        }
        if pdu.offset < self.start || end > self.end || self.received + pdu.length > self.end - self.start {
            return Err(DataOutError::WrongAmount);
        }
        if in_order && pdu.offset != self.next {
            return Err(DataOutError::Damaged);
        }
        self.next = end;
        self.received += pdu.length;
        Ok(())
    }

    fn is_complete(&self) -> bool {
        self.received == self.end - self.start
    }
}

/// What the header of a Data-Out says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrived {
    pub(super) transfer: TargetTransferTag,
    pub(super) offset: u32,
    pub(super) length: u32,
    pub(super) data_sn: DataSn,
    pub(super) is_final: bool,
}

/// What to do with a Data-Out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Good data.
    Deliver,
    /// The transfer is not, or no longer, one of this task.
    Unknown,
    /// The task cannot succeed any more.
    Fail(DataOutError),
}

/// An R2T that was decided on; it is outstanding until the last of its data comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    pub(super) tag: TargetTransferTag,
    pub(super) offset: u32,
    pub(super) length: u32,
    /// The R2T left.
    pub(super) is_sent: bool,
    sequence: Sequence,
}

/// The write side of a task.
#[derive(Debug, Default)]
pub(super) struct DataOutBuffer {
    /// Expected data transfer length of the write part.
    pub(super) length: u32,
    /// Unsolicited data under way.
    unsolicited: Option<Sequence>,
    /// Everything before this offset has come, or will, without an R2T.
    unsolicited_end: u32,
    /// What was asked for below `unsolicited_end` and will have to be asked for if the initiator stops early.
    trusted: Option<(u32, u32)>,
    /// Ranges wanted and not yet asked for.
    wanted: SmallVec<[(u32, u32); 2]>,
    transfers: SmallVec<[Transfer; 4]>,
    /// Number of the next R2T.
    pub(super) r2t_sn: R2tSn,
}

impl DataOutBuffer {
    pub(super) fn clear(&mut self) {
        self.length = 0;
        self.unsolicited = None;
        self.unsolicited_end = 0;
        self.trusted = None;
        self.wanted.clear();
        self.transfers.clear();
        self.r2t_sn = R2tSn(0);
    }

    /// Begins a write of `length` bytes with `immediate` bytes in the command PDU and, unless `is_final`, unsolicited
    /// data behind it.
    ///
    /// # Errors
    /// The initiator sent what it may not. What it goes on to send is still expected, and swallowed.
    pub(super) fn begin(
        &mut self,
        length: u32,
        immediate: u32,
        is_final: bool,
        rules: &SessionParameters,
    ) -> Result<(), DataOutError> {
        self.length = length;
        self.unsolicited_end = immediate.min(length);
        if !is_final {
            let end = length.min(rules.first_burst_length).max(self.unsolicited_end);
            self.unsolicited = Some(Sequence::new(self.unsolicited_end, end));
            self.unsolicited_end = end;
        }
        if immediate > 0 && !rules.immediate_data {
            return Err(DataOutError::Unexpected);
        }
        if immediate > length || immediate > rules.first_burst_length {
            return Err(DataOutError::WrongAmount);
        }
        if !is_final && rules.initial_r2t {
            return Err(DataOutError::Unexpected);
        }
        Ok(())
    }

    /// Whether no data is under way: nothing unsolicited, and every R2T answered.
    pub(super) fn is_quiet(&self) -> bool {
        self.unsolicited.is_none() && self.transfers.is_empty()
    }

    pub(super) fn has_unsolicited(&self) -> bool {
        self.unsolicited.is_some()
    }

    pub(super) fn transfers(&self) -> &[Transfer] {
        &self.transfers
    }

    pub(super) fn transfer_mut(&mut self, tag: TargetTransferTag) -> Option<&mut Transfer> {
        self.transfers.iter_mut().find(|transfer| transfer.tag == tag)
    }

    /// Counts a Data-Out. On [`Verdict::Fail`] the sequence goes on, so that its end is seen.
    pub(super) fn arrive(&mut self, pdu: Arrived, rules: &SessionParameters) -> Verdict {
        if pdu.transfer.is_reserved() {
            return self.arrive_unsolicited(pdu, rules);
        }
        let is_meant = |transfer: &Transfer| transfer.tag == pdu.transfer || is_active(Mutation::WrongTransferTaken);
        let Some(index) = self.transfers.iter().position(|transfer| is_meant(transfer) && transfer.is_sent) else {
            return Verdict::Unknown;
        };
        let sequence = &mut self.transfers[index].sequence;
        let mut result = sequence.take(pdu, rules.data_pdu_in_order);
        if pdu.is_final {
            if result.is_ok() && !sequence.is_complete() {
                result = Err(DataOutError::WrongAmount);
            }
            self.transfers.remove(index);
        }
        result.map_or_else(Verdict::Fail, |()| Verdict::Deliver)
    }

    fn arrive_unsolicited(&mut self, pdu: Arrived, rules: &SessionParameters) -> Verdict {
        let Some(sequence) = &mut self.unsolicited else { return Verdict::Fail(DataOutError::Unexpected) };
        let result = sequence.take(pdu, rules.data_pdu_in_order);
        let received_end = sequence.start + sequence.received;
        if pdu.is_final {
            self.unsolicited = None;
            // An initiator may stop before FirstBurstLength: the rest is asked for like everything behind it.
            if received_end < self.unsolicited_end {
                self.unsolicited_end = received_end;
                if let Some((start, end)) = self.trusted.take()
                    && end > received_end
                {
                    self.wanted.insert(0, (start.max(received_end), end));
                }
            }
        }
        result.map_or_else(Verdict::Fail, |()| Verdict::Deliver)
    }

    /// The owner wants these bytes.
    pub(super) fn want(&mut self, offset: u32, length: u32) {
        let end = offset.saturating_add(length).min(self.length);
        if offset < end {
            self.wanted.push((offset, end));
        }
    }

    /// The owner wants nothing more.
    pub(super) fn want_nothing(&mut self) {
        self.wanted.clear();
        self.trusted = None;
        self.transfers.retain(|transfer| transfer.is_sent);
    }

    /// The next R2T, if one is wanted and the limits allow it. `tag` is called for its tag.
    pub(super) fn next_r2t(
        &mut self,
        rules: &SessionParameters,
        tag: impl FnOnce() -> TargetTransferTag,
    ) -> Option<Transfer> {
        while let Some((start, end)) = self.wanted.first_mut() {
            if *start < self.unsolicited_end {
                let covered = self.unsolicited_end.min(*end);
                if self.unsolicited.is_some() {
                    self.trusted = Some(match self.trusted {
                        Some((first, last)) => (first.min(*start), last.max(covered)),
                        None => (*start, covered),
                    });
                }
                *start = covered;
            }
            if *start < *end {
                break;
            }
            self.wanted.remove(0);
        }
        let (start, end) = self.wanted.first_mut()?;
        if self.transfers.len() >= usize::from(rules.max_outstanding_r2t.max(1)) {
            return None;
        }
        let most = if is_active(Mutation::R2tPastBurst) { u32::MAX } else { rules.max_burst_length.max(1) };
        let (offset, length) = (*start, (*end - *start).min(most));
        *start += length;
        let transfer =
            Transfer { tag: tag(), offset, length, is_sent: false, sequence: Sequence::new(offset, offset + length) };
        self.transfers.push(transfer);
        Some(transfer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use super::*;

    static RULES: LazyLock<SessionParameters> = LazyLock::new(|| SessionParameters {
        initial_r2t: false,
        immediate_data: true,
        first_burst_length: 1024,
        max_burst_length: 4096,
        max_outstanding_r2t: 2,
        ..SessionParameters::default()
    });

    fn pdu(transfer: u32, data_sn: u32, offset: u32, length: u32, is_final: bool) -> Arrived {
        Arrived { transfer: TargetTransferTag(transfer), offset, length, data_sn: DataSn(data_sn), is_final }
    }

    fn unsolicited(data_sn: u32, offset: u32, length: u32, is_final: bool) -> Arrived {
        pdu(u32::MAX, data_sn, offset, length, is_final)
    }

    fn r2ts(buffer: &mut DataOutBuffer, rules: &SessionParameters) -> Vec<(u32, u32)> {
        let mut list = Vec::new();
        while let Some(transfer) = buffer.next_r2t(rules, || TargetTransferTag(0)) {
            list.push((transfer.offset, transfer.length));
        }
        let last = list.len() as u32;
        for (index, transfer) in buffer.transfers.iter_mut().enumerate() {
            transfer.tag = TargetTransferTag(index as u32);
            transfer.is_sent = true;
        }
        assert!(last <= u32::from(rules.max_outstanding_r2t));
        list
    }

    #[test]
    fn r2ts_keep_to_max_burst_and_max_outstanding() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(10_000, 0, true, &RULES).unwrap();
        buffer.want(0, 10_000);
        assert_eq!(r2ts(&mut buffer, &RULES), [(0, 4096), (4096, 4096)]);
        assert_eq!(buffer.arrive(pdu(0, 0, 0, 4096, true), &RULES), Verdict::Deliver);
        assert_eq!(r2ts(&mut buffer, &RULES), [(8192, 1808)]);
    }

    #[test]
    fn what_comes_unsolicited_is_not_asked_for() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(4096, 512, false, &RULES).unwrap();
        buffer.want(0, 4096);
        assert_eq!(r2ts(&mut buffer, &RULES), [(1024, 3072)]);
        assert_eq!(buffer.arrive(unsolicited(0, 512, 512, true), &RULES), Verdict::Deliver);
        assert_eq!(buffer.arrive(pdu(0, 0, 1024, 3072, true), &RULES), Verdict::Deliver);
        assert!(buffer.is_quiet());
    }

    #[test]
    fn unsolicited_data_that_stops_early_is_asked_for() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(2048, 0, false, &RULES).unwrap();
        buffer.want(0, 2048);
        assert_eq!(r2ts(&mut buffer, &RULES), [(1024, 1024)]);
        assert_eq!(buffer.arrive(unsolicited(0, 0, 512, true), &RULES), Verdict::Deliver);
        assert_eq!(r2ts(&mut buffer, &RULES), [(512, 512)]);
    }

    #[test]
    fn a_gap_in_data_sn_counts_as_damage() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(1024, 0, false, &RULES).unwrap();
        assert_eq!(buffer.arrive(unsolicited(1, 0, 512, false), &RULES), Verdict::Fail(DataOutError::Damaged));
        assert!(!buffer.is_quiet());
        assert_eq!(buffer.arrive(unsolicited(2, 512, 512, true), &RULES), Verdict::Fail(DataOutError::Damaged));
        assert!(buffer.is_quiet());
    }

    #[test]
    fn a_final_pdu_must_complete_what_the_r2t_asked_for() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(4096, 0, true, &RULES).unwrap();
        buffer.want(0, 4096);
        r2ts(&mut buffer, &RULES);
        assert_eq!(buffer.arrive(pdu(0, 0, 0, 512, true), &RULES), Verdict::Fail(DataOutError::WrongAmount));
    }

    #[test]
    fn data_past_the_end_is_a_wrong_amount() {
        let mut buffer = DataOutBuffer::default();
        buffer.begin(1000, 0, false, &RULES).unwrap();
        assert_eq!(buffer.arrive(unsolicited(0, 0, 1004, true), &RULES), Verdict::Fail(DataOutError::WrongAmount));
        let huge = unsolicited(0, u32::MAX, 512, true);
        buffer.begin(1000, 0, false, &RULES).unwrap();
        assert_eq!(buffer.arrive(huge, &RULES), Verdict::Fail(DataOutError::WrongAmount));
    }

    #[test]
    fn the_negotiation_decides_what_may_come_unasked() {
        let begin = |length, immediate, is_final, rules: SessionParameters| {
            DataOutBuffer::default().begin(length, immediate, is_final, &rules)
        };
        let r2t_only = SessionParameters { initial_r2t: true, ..*RULES };
        let no_immediate = SessionParameters { immediate_data: false, ..*RULES };
        assert_eq!(begin(4096, 512, true, r2t_only), Ok(()));
        assert_eq!(begin(4096, 0, false, r2t_only), Err(DataOutError::Unexpected));
        assert_eq!(begin(4096, 512, true, no_immediate), Err(DataOutError::Unexpected));
        assert_eq!(begin(4096, 0, false, no_immediate), Ok(()));
        assert_eq!(begin(4096, 2048, true, *RULES), Err(DataOutError::WrongAmount));
        assert_eq!(begin(512, 513, true, *RULES), Err(DataOutError::WrongAmount));
    }
}

//! What RECEIVE COPY tells: operating parameters and the state of copies.

use crate::bytes_util::{be16, be32};
use crate::sense::{SenseData, SenseFormat};

/// RECEIVE COPY OPERATING PARAMETERS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct OperatingParameters {
    /// SNLID: copies without a list identifier are supported.
    pub no_list_identifier: bool,
    /// MAXIMUM CSCD DESCRIPTOR COUNT.
    pub max_cscd_count: u16,
    /// MAXIMUM SEGMENT DESCRIPTOR COUNT.
    pub max_segment_count: u16,
    /// MAXIMUM DESCRIPTOR LIST LENGTH in bytes.
    pub max_descriptor_list_length: u32,
    /// MAXIMUM SEGMENT LENGTH in bytes; 0 no limit told.
    pub max_segment_length: u32,
    /// MAXIMUM INLINE DATA LENGTH in bytes.
    pub max_inline_data_length: u32,
    /// HELD DATA LIMIT in bytes.
    pub held_data_limit: u32,
    /// TOTAL CONCURRENT COPIES.
    pub total_concurrent_copies: u16,
    /// MAXIMUM CONCURRENT COPIES with list identifiers.
    pub max_concurrent_copies: u8,
    /// DATA SEGMENT GRANULARITY as a power of two bytes.
    pub data_segment_granularity: u8,
    /// INLINE DATA GRANULARITY as a power of two bytes.
    pub inline_data_granularity: u8,
    /// HELD DATA GRANULARITY as a power of two bytes.
    pub held_data_granularity: u8,
    /// The descriptor type codes that are known, ascending.
    pub descriptor_types: Vec<u8>,
}

impl OperatingParameters {
    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 44];
        out[4] = u8::from(self.no_list_identifier);
        out[8..10].copy_from_slice(&self.max_cscd_count.to_be_bytes());
        out[10..12].copy_from_slice(&self.max_segment_count.to_be_bytes());
        out[12..16].copy_from_slice(&self.max_descriptor_list_length.to_be_bytes());
        out[16..20].copy_from_slice(&self.max_segment_length.to_be_bytes());
        out[20..24].copy_from_slice(&self.max_inline_data_length.to_be_bytes());
        out[24..28].copy_from_slice(&self.held_data_limit.to_be_bytes());
        out[34..36].copy_from_slice(&self.total_concurrent_copies.to_be_bytes());
        out[36] = self.max_concurrent_copies;
        out[37] = self.data_segment_granularity;
        out[38] = self.inline_data_granularity;
        out[39] = self.held_data_granularity;
        let types = &self.descriptor_types[..self.descriptor_types.len().min(255)];
        out[43] = types.len() as u8;
        out.extend_from_slice(types);
        let available = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }

    /// Reads the data; `None` when it is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let head: &[u8; 44] = data.first_chunk()?;
        Some(Self {
            no_list_identifier: head[4] & 1 != 0,
            max_cscd_count: be16(head, 8)?,
            max_segment_count: be16(head, 10)?,
            max_descriptor_list_length: be32(head, 12)?,
            max_segment_length: be32(head, 16)?,
            max_inline_data_length: be32(head, 20)?,
            held_data_limit: be32(head, 24)?,
            total_concurrent_copies: be16(head, 34)?,
            max_concurrent_copies: head[36],
            data_segment_granularity: head[37],
            inline_data_granularity: head[38],
            held_data_granularity: head[39],
            descriptor_types: data.get(44..44 + usize::from(head[43]))?.to_vec(),
        })
    }
}

/// How a copy goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum CopyState {
    /// It is under way.
    #[default]
    InProgress,
    /// It is done.
    Completed,
    /// It failed.
    Failed,
    /// COPY OPERATION ABORT, a task management function or a preemption ended it.
    Terminated,
}

/// RECEIVE COPY STATUS(LID1) data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct CopyStatusLid1 {
    /// How it goes.
    pub state: CopyState,
    /// SEGMENTS PROCESSED.
    pub segments_processed: u16,
    /// Bytes copied.
    pub bytes: u64,
}

impl CopyStatusLid1 {
    /// The 12 bytes. The transfer count is in bytes, or in the unit (KiB, MiB ...) that it has room in.
    pub fn encode(&self) -> Vec<u8> {
        let state = match self.state {
            CopyState::InProgress => 0,
            CopyState::Completed => 1,
            CopyState::Failed | CopyState::Terminated => 2,
        };
        let mut units = 0;
        let mut count = self.bytes;
        while count > u64::from(u32::MAX) {
            count >>= 10;
            units += 1;
        }
        let [high, low] = self.segments_processed.to_be_bytes();
        let mut out = vec![0, 0, 0, 8, state, high, low, units];
        out.extend_from_slice(&(count as u32).to_be_bytes());
        out
    }
}

/// RECEIVE COPY STATUS(LID4) data, and what stands first in RECEIVE ROD TOKEN INFORMATION data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct CopyStatusLid4 {
    /// RESPONSE TO SERVICE ACTION: the service action of 83h that began it.
    pub service_action: u8,
    /// How it goes.
    pub state: CopyState,
    /// It was begun with IMMED: it goes on in the background.
    pub background: bool,
    /// OPERATION COUNTER.
    pub operation_counter: u16,
    /// ESTIMATED STATUS UPDATE DELAY in milliseconds; FFFF_FFFEh not known.
    pub update_delay_ms: u32,
    /// Status byte and sense data of the end.
    pub sense: Option<SenseData>,
    /// TRANSFER COUNT; its unit is logical blocks when `count_in_blocks`, else bytes.
    pub transfer_count: u64,
    /// TRANSFER COUNT UNITS: F1h logical blocks, else bytes.
    pub count_in_blocks: bool,
    /// SEGMENTS PROCESSED.
    pub segments_processed: u16,
}

impl CopyStatusLid4 {
    /// The bytes; sense data, if any, in descriptor format.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = self.head();
        let available = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }

    pub(super) fn head(&self) -> Vec<u8> {
        let sense = self.sense.map(|sense| sense.encode(SenseFormat::Descriptor)).unwrap_or_default();
        let mut out = vec![0; 32];
        out[4] = self.service_action & 0x1f;
        out[5] = match self.state {
            CopyState::InProgress if self.background => 0x11,
            CopyState::InProgress => 0x10,
            CopyState::Completed => 0x01,
            CopyState::Failed => 0x02,
            CopyState::Terminated => 0x60,
        };
        out[6..8].copy_from_slice(&self.operation_counter.to_be_bytes());
        out[8..12].copy_from_slice(&self.update_delay_ms.to_be_bytes());
        out[12] = if self.sense.is_some() { crate::Status::CHECK_CONDITION.0 } else { 0 };
        out[13] = sense.len() as u8;
        out[14] = sense.len() as u8;
        out[15] = if self.count_in_blocks { 0xf1 } else { 0 };
        out[16..24].copy_from_slice(&self.transfer_count.to_be_bytes());
        out[24..26].copy_from_slice(&self.segments_processed.to_be_bytes());
        out.extend_from_slice(&sense);
        out
    }
}

/// RECEIVE COPY FAILURE DETAILS(LID1) data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyFailureDetails {
    /// What the copy ended with, together with CHECK CONDITION.
    pub sense: SenseData,
}

impl CopyFailureDetails {
    /// The bytes: 56 of header, the status, and the sense data in fixed format.
    pub fn encode(&self) -> Vec<u8> {
        let sense = self.sense.encode(SenseFormat::Fixed);
        let mut out = vec![0; 60];
        out[56] = crate::Status::CHECK_CONDITION.0;
        out[58..60].copy_from_slice(&(sense.len() as u16).to_be_bytes());
        out.extend_from_slice(&sense);
        let available = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&available.to_be_bytes());
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operating_parameters_round_trip() {
        let parameters = OperatingParameters {
            no_list_identifier: true,
            max_cscd_count: 2,
            max_segment_count: 8,
            max_descriptor_list_length: 1024,
            max_segment_length: 1 << 25,
            total_concurrent_copies: 64,
            max_concurrent_copies: 16,
            data_segment_granularity: 9,
            descriptor_types: vec![2, 0xe4],
            ..OperatingParameters::default()
        };
        let data = parameters.encode();
        assert_eq!(data[..4], [0, 0, 0, 42]);
        assert_eq!(OperatingParameters::decode(&data), Some(parameters));
    }

    #[test]
    fn a_large_count_has_a_larger_unit() {
        let status = CopyStatusLid1 { state: CopyState::Completed, segments_processed: 1, bytes: 1 << 40 };
        assert_eq!(status.encode(), [0, 0, 0, 8, 1, 0, 1, 1, 0x40, 0, 0, 0]);
    }

    #[test]
    fn a_failed_copy_tells_its_sense() {
        let status = CopyStatusLid4 {
            state: CopyState::Failed,
            sense: Some(SenseData::lba_out_of_range(8)),
            ..CopyStatusLid4::default()
        };
        let data = status.encode();
        assert_eq!((data[5], data[12], data[14]), (2, 2, 20));
        assert_eq!(SenseData::decode(&data[32..]), status.sense);
    }
}

//! Page B7h: Block Limits Extension.

use super::{VpdPage, fixed_body, padded};
use crate::bytes_util::{be16, be32};

/// Block Limits Extension (B7h): streams and scattered writes; zero means not supported.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct BlockLimitsExtension {
    /// RSCS: a reduced stream control.
    pub reduced_stream_control: bool,
    /// MAXIMUM NUMBER OF STREAMS.
    pub max_streams: u16,
    /// OPTIMAL STREAM WRITE SIZE in logical blocks.
    pub optimal_stream_write_size: u16,
    /// STREAM GRANULARITY SIZE, in optimal stream write sizes.
    pub stream_granularity: u32,
    /// MAXIMUM SCATTERED LBA RANGE TRANSFER LENGTH in logical blocks.
    pub max_scattered_range_length: u32,
    /// MAXIMUM SCATTERED LBA RANGE DESCRIPTOR COUNT.
    pub max_scattered_descriptors: u16,
    /// MAXIMUM SCATTERED TRANSFER LENGTH in logical blocks.
    pub max_scattered_transfer_length: u32,
}

const LENGTH: usize = 0x3c;

impl VpdPage for BlockLimitsExtension {
    const CODE: u8 = 0xb7;

    fn encode_body(&self, out: &mut Vec<u8>) {
        fixed_body(out, LENGTH, |body| {
            body.put8(5, u8::from(self.reduced_stream_control));
            body.put16(6, self.max_streams);
            body.put16(8, self.optimal_stream_write_size);
            body.put32(10, self.stream_granularity);
            body.put32(28, self.max_scattered_range_length);
            body.put16(34, self.max_scattered_descriptors);
            body.put32(36, self.max_scattered_transfer_length);
        });
    }

    fn decode_body(body: &[u8]) -> Option<Self> {
        let body = padded::<LENGTH>(body);
        Some(Self {
            reduced_stream_control: body[1] & 1 != 0,
            max_streams: be16(&body, 2)?,
            optimal_stream_write_size: be16(&body, 4)?,
            stream_granularity: be32(&body, 6)?,
            max_scattered_range_length: be32(&body, 24)?,
            max_scattered_descriptors: be16(&body, 30)?,
            max_scattered_transfer_length: be32(&body, 32)?,
        })
    }
}

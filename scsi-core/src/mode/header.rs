//! Mode parameter headers and block descriptors.

use crate::bytes_util::{be16, be32, be64};

/// What stands before the pages in MODE SENSE data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct ModeHeader {
    /// MEDIUM TYPE; 0 for direct access devices.
    pub medium_type: u8,
    /// DEVICE-SPECIFIC PARAMETER: WP bit 7, DPOFUA bit 4.
    pub device_specific: u8,
    /// LONGLBA: the block descriptors are long ones; (10) only.
    pub long_lba: bool,
    /// BLOCK DESCRIPTOR LENGTH in bytes.
    pub block_descriptor_length: u16,
}

/// How many blocks there are, and how large they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct BlockDescriptor {
    /// NUMBER OF LOGICAL BLOCKS.
    pub blocks: u64,
    /// LOGICAL BLOCK LENGTH in bytes.
    pub block_length: u32,
}

/// What the header of MODE SENSE tells of the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct DeviceParameters {
    /// WP: writes are refused, for whatever reason.
    pub write_protected: bool,
    /// DPOFUA: DPO and FUA are supported.
    pub dpo_fua: bool,
    /// The block descriptor, `None` when there is no medium.
    pub block_descriptor: Option<BlockDescriptor>,
}

impl DeviceParameters {
    pub(super) fn device_specific(&self) -> u8 {
        u8::from(self.write_protected) << 7 | u8::from(self.dpo_fua) << 4
    }
}

impl BlockDescriptor {
    /// Short: 8 bytes. A number beyond 32 bits becomes FFFF_FFFFh.
    pub(super) fn encode_short(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&u32::try_from(self.blocks).unwrap_or(u32::MAX).to_be_bytes());
        out.extend_from_slice(&(self.block_length & 0xff_ffff).to_be_bytes());
    }

    /// Long: 16 bytes.
    pub(super) fn encode_long(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.blocks.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&self.block_length.to_be_bytes());
    }

    pub(super) fn decode(data: &[u8], long: bool) -> Option<Self> {
        if long {
            return Some(Self { blocks: be64(data, 0)?, block_length: be32(data, 12)? });
        }
        Some(Self { blocks: be32(data, 0)?.into(), block_length: be32(data, 4)? & 0xff_ffff })
    }
}

impl ModeHeader {
    /// Bytes of the header.
    pub const fn length(ten: bool) -> usize {
        if ten { 8 } else { 4 }
    }

    /// Appends the header, its mode data length zero for [`finish`] to set.
    pub(super) fn encode(&self, ten: bool, out: &mut Vec<u8>) {
        let [high, low] = self.block_descriptor_length.to_be_bytes();
        if ten {
            let long = u8::from(self.long_lba);
            out.extend_from_slice(&[0, 0, self.medium_type, self.device_specific, long, 0, high, low]);
        } else {
            out.extend_from_slice(&[0, self.medium_type, self.device_specific, low]);
        }
    }

    /// Reads a header; `None` when it is cut.
    pub fn decode(data: &[u8], ten: bool) -> Option<Self> {
        if ten {
            let head: &[u8; 8] = data.first_chunk()?;
            return Some(Self {
                medium_type: head[2],
                device_specific: head[3],
                long_lba: head[4] & 1 != 0,
                block_descriptor_length: be16(head, 6)?,
            });
        }
        let head: &[u8; 4] = data.first_chunk()?;
        Some(Self {
            medium_type: head[1],
            device_specific: head[2],
            long_lba: false,
            block_descriptor_length: head[3].into(),
        })
    }
}

/// Sets MODE DATA LENGTH once all is appended.
pub(super) fn finish(out: &mut [u8], ten: bool) {
    if ten {
        let length = (out.len() - 2).min(0xffff) as u16;
        out[..2].copy_from_slice(&length.to_be_bytes());
    } else {
        out[0] = (out.len() - 1).min(0xff) as u8;
    }
}

//! GET LBA STATUS data.

use crate::bytes_util::{be32, be64};

/// PROVISIONING STATUS of an LBA range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProvisioningStatus {
    /// 0h: mapped, or not known.
    Mapped,
    /// 1h: deallocated.
    Deallocated,
    /// 2h: anchored.
    Anchored,
    /// Any other value.
    Other(u8),
}

/// One LBA range and its status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LbaStatusDescriptor {
    /// First logical block.
    pub lba: u64,
    /// Number of logical blocks.
    pub blocks: u32,
    /// What they are.
    pub status: ProvisioningStatus,
}

/// GET LBA STATUS data.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct LbaStatusList {
    /// The ranges, ascending, gapless from the asked logical block on.
    pub descriptors: Vec<LbaStatusDescriptor>,
}

impl LbaStatusList {
    /// How many descriptors have room in `allocation_length` bytes; at least one is always built.
    pub fn room(allocation_length: u32) -> usize {
        ((allocation_length.saturating_sub(8) / 16) as usize).max(1)
    }

    /// The bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![0; 8];
        for descriptor in &self.descriptors {
            let status = match descriptor.status {
                ProvisioningStatus::Mapped => 0,
                ProvisioningStatus::Deallocated => 1,
                ProvisioningStatus::Anchored => 2,
                ProvisioningStatus::Other(other) => other & 0x0f,
            };
            out.extend_from_slice(&descriptor.lba.to_be_bytes());
            out.extend_from_slice(&descriptor.blocks.to_be_bytes());
            out.extend_from_slice(&[status, 0, 0, 0]);
        }
        let length = (out.len() - 4) as u32;
        out[..4].copy_from_slice(&length.to_be_bytes());
        out
    }

    /// Reads the data; a last descriptor that is cut is left out. `None` when the header is cut.
    pub fn decode(data: &[u8]) -> Option<Self> {
        let length = usize::try_from(be32(data, 0)?).ok()?;
        let rest = data.get(8..)?;
        let rest = &rest[..rest.len().min(length.saturating_sub(4))];
        let descriptors = rest.chunks_exact(16).map_while(|bytes| {
            Some(LbaStatusDescriptor {
                lba: be64(bytes, 0)?,
                blocks: be32(bytes, 8)?,
                status: match bytes[12] & 0x0f {
                    0 => ProvisioningStatus::Mapped,
                    1 => ProvisioningStatus::Deallocated,
                    2 => ProvisioningStatus::Anchored,
                    other => ProvisioningStatus::Other(other),
                },
            })
        });
        Some(Self { descriptors: descriptors.collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_round_trips() {
        let mapped = LbaStatusDescriptor { lba: 1 << 40, blocks: 8, status: ProvisioningStatus::Mapped };
        let hole = LbaStatusDescriptor { lba: 8, blocks: u32::MAX, status: ProvisioningStatus::Deallocated };
        let list = LbaStatusList { descriptors: vec![mapped, hole] };
        let bytes = list.encode();
        assert_eq!((bytes.len(), bytes[3]), (40, 36));
        assert_eq!(LbaStatusList::decode(&bytes), Some(list));
        assert_eq!(LbaStatusList::decode(&bytes[..30]).unwrap().descriptors, [mapped]);
    }

    #[test]
    fn there_is_room_for_one_at_least() {
        assert_eq!([0, 8, 24, 39, 40].map(LbaStatusList::room), [1, 1, 1, 1, 2]);
    }
}

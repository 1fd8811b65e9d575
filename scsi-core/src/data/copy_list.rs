//! The parameter list of EXTENDED COPY: which logical units, which ranges.

use crate::bytes_util::{be16, be32, be64};
use crate::designator::{Association, Designator, DesignatorName};
use crate::guid::Guid;
use crate::sense::{AdditionalSense, SenseData, SenseKey};

/// How a copy source or destination is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CscdName {
    /// Identification descriptor (E4h) with the logical unit's NAA-6 name.
    Guid(Guid),
    /// Identification descriptor (E4h) with another name.
    Designator(Designator),
    /// NUL bit: no device; a segment that uses it fails.
    Null,
}

/// A copy source or copy destination (CSCD) descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CscdDescriptor {
    /// Who.
    pub name: CscdName,
    /// DISK BLOCK LENGTH in bytes; 0 not told.
    pub block_length: u32,
    /// PAD bit.
    pub pad: bool,
}

/// Copy from block device to block device (02h).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockSegment {
    /// Index of the source among the descriptors; FFFFh is this logical unit (LID4).
    pub source: u16,
    /// Index of the destination; FFFFh is this logical unit (LID4).
    pub destination: u16,
    /// DC: the number of blocks counts blocks of the destination, else of the source.
    pub destination_count: bool,
    /// CAT bit: what does not fill a block of the destination is kept for the next segment.
    pub cat: bool,
    /// Number of blocks; 0 copies nothing.
    pub blocks: u16,
    /// First logical block of the source.
    pub source_lba: u64,
    /// First logical block of the destination.
    pub destination_lba: u64,
}

/// One segment descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SegmentDescriptor {
    /// Type 02h.
    Block(BlockSegment),
}

/// The parameter list of EXTENDED COPY(LID1) or (LID4).
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct CopyList {
    /// LIST IDENTIFIER; one byte wide with LID1.
    pub list_identifier: u32,
    /// LIST ID USAGE: 0 and 2 the identifier counts, 3 there is none.
    pub list_id_usage: u8,
    /// STR: the copy shall be done in sequence.
    pub sequential: bool,
    /// PRIORITY of the copy, three bits.
    pub priority: u8,
    /// IMMED (LID4): GOOD is sent before it is done.
    pub immediate: bool,
    /// The sources and destinations.
    pub cscds: Vec<CscdDescriptor>,
    /// The segments.
    pub segments: Vec<SegmentDescriptor>,
}

const CSCD_LENGTH: usize = 32;
const IDENTIFICATION: u8 = 0xe4;
const BLOCK_TO_BLOCK: u8 = 0x02;
/// Bytes of a block to block segment.
const BLOCK_SEGMENT_LENGTH: usize = 28;

/// Where the parts of a list are.
struct Layout {
    cscd_length: usize,
    segment_length: usize,
    inline_length: usize,
    start: usize,
}

impl CopyList {
    /// Reads the list of EXTENDED COPY(LID1), or with `lid4` (LID4), checked against the limits that `parameters`
    /// tells. An empty list copies nothing.
    ///
    /// # Errors
    /// 05/1A/00 when it is cut or too long; 05/26/06, 07, 08, 09, 0B for counts, types and inline data; 05/26/00 with a
    /// field pointer for what else is wrong; 0A/0D/02 for a segment whose source or destination does not exist or is null.
    pub fn parse(data: &[u8], lid4: bool, parameters: &super::OperatingParameters) -> Result<Self, SenseData> {
        if data.is_empty() {
            return Ok(Self::default());
        }
        let (mut list, layout) = if lid4 { header_lid4(data)? } else { header_lid1(data)? };
        let Layout { cscd_length, segment_length, inline_length, start } = layout;
        let all = cscd_length + segment_length;
        if all > parameters.max_descriptor_list_length as usize {
            return Err(SenseData::parameter_list_length_error());
        }
        if inline_length > parameters.max_inline_data_length as usize {
            return Err(SenseData::illegal_request(AdditionalSense::INLINE_DATA_LENGTH_EXCEEDED));
        }
        if data.len() < start + all + inline_length || !cscd_length.is_multiple_of(CSCD_LENGTH) {
            return Err(SenseData::parameter_list_length_error());
        }
        if cscd_length / CSCD_LENGTH > parameters.max_cscd_count.into() {
            return Err(SenseData::illegal_request(AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS));
        }
        for at in (start..start + cscd_length).step_by(CSCD_LENGTH) {
            list.cscds.push(cscd(&data[at..at + CSCD_LENGTH], at)?);
        }
        let end = start + all;
        let mut at = start + cscd_length;
        while at < end {
            if list.segments.len() >= parameters.max_segment_count.into() {
                return Err(SenseData::illegal_request(AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS));
            }
            let (segment, length) = segment(&data[at..end], at)?;
            list.check(&segment, lid4)?;
            list.segments.push(segment);
            at += length;
        }
        Ok(list)
    }

    fn check(&self, SegmentDescriptor::Block(segment): &SegmentDescriptor, lid4: bool) -> Result<(), SenseData> {
        for id in [segment.source, segment.destination] {
            let known = match self.cscds.get(usize::from(id)) {
                Some(cscd) => cscd.name != CscdName::Null,
                None => lid4 && id == 0xffff,
            };
            if !known {
                let code = AdditionalSense::COPY_TARGET_DEVICE_NOT_REACHABLE;
                return Err(SenseData::new(SenseKey::COPY_ABORTED, code));
            }
        }
        Ok(())
    }

    /// The list of EXTENDED COPY(LID1), for the initiator's side.
    pub fn encode_lid1(&self) -> Vec<u8> {
        let mut out = vec![0; 16];
        out[0] = self.list_identifier as u8;
        out[1] = u8::from(self.sequential) << 5 | (self.list_id_usage & 3) << 3 | self.priority & 7;
        self.cscds.iter().for_each(|cscd| encode_cscd(cscd, &mut out));
        let cscd_length = (out.len() - 16) as u16;
        for SegmentDescriptor::Block(segment) in &self.segments {
            let flags = u8::from(segment.destination_count) << 1 | u8::from(segment.cat);
            out.extend_from_slice(&[BLOCK_TO_BLOCK, flags, 0, (BLOCK_SEGMENT_LENGTH - 4) as u8]);
            out.extend_from_slice(&segment.source.to_be_bytes());
            out.extend_from_slice(&segment.destination.to_be_bytes());
            out.extend_from_slice(&[0, 0]);
            out.extend_from_slice(&segment.blocks.to_be_bytes());
            out.extend_from_slice(&segment.source_lba.to_be_bytes());
            out.extend_from_slice(&segment.destination_lba.to_be_bytes());
        }
        let segment_length = (out.len() - 16 - usize::from(cscd_length)) as u32;
        out[2..4].copy_from_slice(&cscd_length.to_be_bytes());
        out[8..12].copy_from_slice(&segment_length.to_be_bytes());
        out
    }
}

fn flags(byte: u8) -> CopyList {
    CopyList { list_id_usage: byte >> 3 & 3, sequential: byte & 0x20 != 0, priority: byte & 7, ..CopyList::default() }
}

fn header_lid1(data: &[u8]) -> Result<(CopyList, Layout), SenseData> {
    let head: &[u8; 16] = data.first_chunk().ok_or(SenseData::parameter_list_length_error())?;
    let long = |at| be32(head, at).unwrap_or(0) as usize;
    let list = CopyList { list_identifier: head[0].into(), ..flags(head[1]) };
    let layout = Layout {
        cscd_length: be16(head, 2).unwrap_or(0).into(),
        segment_length: long(8).min(u32::MAX as usize / 4),
        inline_length: long(12).min(u32::MAX as usize / 4),
        start: 16,
    };
    Ok((list, layout))
}

fn header_lid4(data: &[u8]) -> Result<(CopyList, Layout), SenseData> {
    let head: &[u8; 48] = data.first_chunk().ok_or(SenseData::parameter_list_length_error())?;
    if head[0] != 1 {
        return Err(SenseData::invalid_field_in_parameter_list(0, Some(7)));
    }
    if head[2..4] != [0, 0x20] {
        return Err(SenseData::invalid_field_in_parameter_list(2, Some(7)));
    }
    if head[16] != 0xff {
        return Err(SenseData::invalid_field_in_parameter_list(16, Some(7)));
    }
    let short = |at| usize::from(be16(head, at).unwrap_or(0));
    let list =
        CopyList { list_identifier: be32(head, 20).unwrap_or(0), immediate: head[15] & 2 != 0, ..flags(head[1]) };
    Ok((list, Layout { cscd_length: short(42), segment_length: short(44), inline_length: short(46), start: 48 }))
}

fn cscd(bytes: &[u8], at: usize) -> Result<CscdDescriptor, SenseData> {
    if bytes[0] != IDENTIFICATION {
        return Err(SenseData::illegal_request(AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE));
    }
    let invalid =
        |offset: usize, bit| SenseData::invalid_field_in_parameter_list((at + offset).min(0xffff) as u16, bit);
    // LU ID TYPE is obsolete and not looked at: the designator says all.
    let block_length = be32(bytes, 28).unwrap_or(0) & 0xff_ffff;
    let pad = bytes[28] & 4 != 0;
    if bytes[1] & 0x20 != 0 {
        return Ok(CscdDescriptor { name: CscdName::Null, block_length, pad });
    }
    if bytes[1] & 0x1f != 0 {
        return Err(SenseData::illegal_request(AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE));
    }
    if bytes[7] > 20 {
        return Err(invalid(7, Some(7)));
    }
    let (designator, _) = Designator::decode(&bytes[4..28]).ok_or(invalid(4, None))?;
    if designator.association != Association::LogicalUnit {
        return Err(invalid(5, Some(5)));
    }
    let name = match designator.name {
        DesignatorName::Naa6(guid) => CscdName::Guid(guid),
        _ => CscdName::Designator(designator),
    };
    Ok(CscdDescriptor { name, block_length, pad })
}

fn encode_cscd(cscd: &CscdDescriptor, out: &mut Vec<u8>) {
    let start = out.len();
    let null = cscd.name == CscdName::Null;
    out.extend_from_slice(&[IDENTIFICATION, u8::from(null) << 5, 0, 0]);
    match &cscd.name {
        CscdName::Guid(guid) => Designator::logical_unit(*guid).encode(out),
        CscdName::Designator(designator) => designator.encode(out),
        CscdName::Null => {}
    }
    out.resize(start + CSCD_LENGTH, 0);
    out[start + 28..].copy_from_slice(&(cscd.block_length & 0xff_ffff).to_be_bytes());
    out[start + 28] |= u8::from(cscd.pad) << 2;
}

fn segment(bytes: &[u8], at: usize) -> Result<(SegmentDescriptor, usize), SenseData> {
    let too_short = SenseData::parameter_list_length_error();
    let kind = *bytes.first().ok_or(too_short)?;
    if kind != BLOCK_TO_BLOCK {
        return Err(SenseData::illegal_request(AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE));
    }
    let length = 4 + usize::from(be16(bytes, 2).ok_or(too_short)?);
    if length != BLOCK_SEGMENT_LENGTH {
        return Err(SenseData::invalid_field_in_parameter_list((at + 2).min(0xffff) as u16, Some(7)));
    }
    let bytes = bytes.get(..length).ok_or(too_short)?;
    let short = |at| be16(bytes, at).unwrap_or(0);
    let segment = BlockSegment {
        source: short(4),
        destination: short(6),
        destination_count: bytes[1] & 2 != 0,
        cat: bytes[1] & 1 != 0,
        blocks: short(10),
        source_lba: be64(bytes, 12).unwrap_or(0),
        destination_lba: be64(bytes, 20).unwrap_or(0),
    };
    Ok((SegmentDescriptor::Block(segment), length))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::OperatingParameters;
    use super::*;

    fn parameters() -> OperatingParameters {
        OperatingParameters {
            max_cscd_count: 2,
            max_segment_count: 2,
            max_descriptor_list_length: 200,
            ..OperatingParameters::default()
        }
    }

    fn list() -> CopyList {
        let guid = "600144f01eb3862c0000494b55cd0001".parse().unwrap();
        let cscd = CscdDescriptor { name: CscdName::Guid(guid), block_length: 512, pad: false };
        let segment = BlockSegment {
            source: 0,
            destination: 0,
            destination_count: true,
            cat: false,
            blocks: 2048,
            source_lba: 0,
            destination_lba: 1 << 33,
        };
        CopyList {
            list_identifier: 1,
            cscds: vec![cscd],
            segments: vec![SegmentDescriptor::Block(segment)],
            ..CopyList::default()
        }
    }

    fn refuse(list: &CopyList) -> AdditionalSense {
        CopyList::parse(&list.encode_lid1(), false, &parameters()).unwrap_err().code
    }

    #[test]
    fn a_list_round_trips() {
        let data = list().encode_lid1();
        assert_eq!(CopyList::parse(&data, false, &parameters()), Ok(list()));
        assert_eq!(CopyList::parse(&[], false, &parameters()), Ok(CopyList::default()));
    }

    #[test]
    fn a_cut_list_is_a_length_error() {
        let data = list().encode_lid1();
        for length in 1..data.len() {
            let error = CopyList::parse(&data[..length], false, &parameters()).unwrap_err();
            assert_eq!(error, SenseData::parameter_list_length_error(), "{length}");
        }
    }

    #[test]
    fn limits_have_their_own_codes() {
        let list = list();
        let cscds = CopyList { cscds: vec![list.cscds[0].clone(); 3], ..list.clone() };
        assert_eq!(refuse(&cscds), AdditionalSense::TOO_MANY_TARGET_DESCRIPTORS);
        let segments = CopyList { segments: vec![list.segments[0]; 3], ..list.clone() };
        assert_eq!(refuse(&segments), AdditionalSense::TOO_MANY_SEGMENT_DESCRIPTORS);
        let both = CopyList { cscds: vec![list.cscds[0].clone(); 4], segments: vec![list.segments[0]; 4], ..list };
        assert_eq!(refuse(&both), AdditionalSense::PARAMETER_LIST_LENGTH_ERROR);
    }

    #[test]
    fn types_that_are_not_supported_have_their_own_codes() {
        let refuse = |at: usize, value| {
            let mut data = list().encode_lid1();
            data[at] = value;
            CopyList::parse(&data, false, &parameters()).unwrap_err().code
        };
        assert_eq!(refuse(16, 0xe0), AdditionalSense::UNSUPPORTED_TARGET_DESCRIPTOR_TYPE_CODE);
        assert_eq!(refuse(48, 0x03), AdditionalSense::UNSUPPORTED_SEGMENT_DESCRIPTOR_TYPE_CODE);
    }

    #[test]
    fn a_source_that_is_not_there_aborts_the_copy() {
        for (at, value) in [(17, 0x20), (53, 1), (55, 1)] {
            let mut data = list().encode_lid1();
            data[at] = value;
            let error = CopyList::parse(&data, false, &parameters()).unwrap_err();
            assert_eq!(error.key, SenseKey::COPY_ABORTED);
        }
    }

    #[test]
    fn the_long_form_knows_this_logical_unit() {
        let mut data = vec![0; 48 + 28];
        data[0] = 1;
        data[3] = 0x20;
        data[15] = 2;
        data[16] = 0xff;
        data[23] = 9;
        data[45] = 28;
        data[48..52].copy_from_slice(&[2, 0, 0, 24]);
        data[52..56].fill(0xff);
        let list = CopyList::parse(&data, true, &parameters()).unwrap();
        assert_eq!((list.list_identifier, list.immediate, list.segments.len()), (9, true, 1));
    }

    proptest! {
        #[test]
        fn any_list_parses_without_panic(data in prop::collection::vec(any::<u8>(), 0..200), lid4 in any::<bool>()) {
            let _ = CopyList::parse(&data, lid4, &parameters());
        }
    }
}

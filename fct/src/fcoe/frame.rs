//! A Fibre Channel frame in an Ethernet frame.

use bytes::{Bytes, BytesMut};
use crc_fast::{CrcAlgorithm, Digest};
use stmf::provider::Segments;
use stmf::provider::hba::FcFrame;

use super::{ETHERTYPE_FCOE, MacAddress, ethernet_header};
use crate::wire::{FrameControl, FrameHeader};

/// Addresses and EtherType.
const ETHERNET: usize = 14;
/// Version, reserved bytes, start of frame.
const HEADER: usize = 14;
/// The frame's own header.
const FC_HEADER: usize = 24;
/// CRC, end of frame, reserved bytes.
const TRAILER: usize = 8;
/// The longest data field there is.
const MAX_PAYLOAD: usize = 2112;

/// What stands around a data field in an Ethernet frame's payload: an MTU less this is what a data field may have.
pub(super) const OVERHEAD: usize = HEADER + FC_HEADER + TRAILER;

/// Delimiters of class 3 (FC-FS-5, frame delimiters; their codes in FC-BB-6, FCoE frame format).
const SOF_I3: u8 = 0x2e;
const SOF_N3: u8 = 0x36;
const EOF_N: u8 = 0x41;
const EOF_T: u8 = 0x42;

/// Why an Ethernet frame holds no Fibre Channel frame of class 3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FcoeError {
    /// It is too short, too long, or no multiple of four bytes.
    #[error("an FCoE frame of {0} bytes")]
    Length(usize),
    /// Another version than 0.
    #[error("FCoE version {0}")]
    Version(u8),
    /// Delimiters of another class, or of a frame that its sender calls bad.
    #[error("delimiters {sof:02x}h and {eof:02x}h")]
    Delimiter {
        /// Start of frame.
        sof: u8,
        /// End of frame.
        eof: u8,
    },
    /// The CRC is wrong.
    #[error("the frame's CRC is wrong")]
    Crc,
}

/// The Ethernet frame of an FC frame, as a list to be sent one after the other: the payload's slices stay what they
/// are. Class 3; the first frame of a sequence is the one with SEQ_CNT 0, the last the one that says so.
pub fn encapsulate(to: MacAddress, from: MacAddress, frame: &FcFrame) -> Segments {
    let header = FrameHeader::decode(&frame.header);
    let length: usize = frame.payload.iter().map(|piece| piece.len()).sum();
    let fill = length.wrapping_neg() & 3;
    let mut bytes = BytesMut::with_capacity(ETHERNET + HEADER + FC_HEADER + TRAILER + fill);
    bytes.extend_from_slice(&ethernet_header(to, from, ETHERTYPE_FCOE));
    bytes.extend_from_slice(&[0; HEADER - 1]);
    bytes.extend_from_slice(&[if header.seq_cnt == 0 { SOF_I3 } else { SOF_N3 }]);
    bytes.extend_from_slice(&frame.header);
    let front = bytes.split();
    bytes.extend_from_slice(&[0; 4][..fill]);
    let mut crc = Digest::new(CrcAlgorithm::Crc32IsoHdlc);
    crc.update(&frame.header);
    frame.payload.iter().for_each(|piece| crc.update(piece));
    crc.update(&bytes);
    bytes.extend_from_slice(&(crc.finalize() as u32).to_le_bytes());
    let end = if header.f_ctl.has(FrameControl::END_SEQUENCE) { EOF_T } else { EOF_N };
    bytes.extend_from_slice(&[end, 0, 0, 0]);
    let mut out = Segments::with_capacity(frame.payload.len() + 2);
    out.push(front.freeze());
    out.extend(frame.payload.iter().cloned());
    out.push(bytes.freeze());
    out
}

/// The FC frame in an Ethernet frame, without its fill bytes; the data field is a slice of what was received.
///
/// # Errors
/// [`FcoeError`]: it is none that could be taken.
pub fn decapsulate(ethernet: &Bytes) -> Result<FcFrame, FcoeError> {
    let length = ethernet.len();
    let Some(payload) = length.checked_sub(ETHERNET + OVERHEAD) else { return Err(FcoeError::Length(length)) };
    if payload > MAX_PAYLOAD || !payload.is_multiple_of(4) {
        return Err(FcoeError::Length(length));
    }
    let version = ethernet[ETHERNET] >> 4;
    if version != 0 {
        return Err(FcoeError::Version(version));
    }
    let (begin, end) = (ETHERNET + HEADER, length - TRAILER);
    let (sof, eof) = (ethernet[begin - 1], ethernet[end + 4]);
    if !matches!(sof, SOF_I3 | SOF_N3) || !matches!(eof, EOF_N | EOF_T) {
        return Err(FcoeError::Delimiter { sof, eof });
    }
    let crc = crc_fast::checksum(CrcAlgorithm::Crc32IsoHdlc, &ethernet[begin..end]) as u32;
    if crc.to_le_bytes() != ethernet[end..end + 4] {
        return Err(FcoeError::Crc);
    }
    let mut header = [0; FC_HEADER];
    header.copy_from_slice(&ethernet[begin..begin + FC_HEADER]);
    let fill = FrameHeader::decode(&header).f_ctl.fill_bytes();
    if fill > payload {
        return Err(FcoeError::Length(length));
    }
    let data = ethernet.slice(begin + FC_HEADER..end - fill);
    Ok(FcFrame { header, payload: if data.is_empty() { Segments::new() } else { Segments::from_iter([data]) } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: MacAddress = MacAddress([0x0e, 0xfd, 0, 0, 0, 1]);
    const THERE: MacAddress = MacAddress([0x0e, 0xfd, 0, 0, 0, 2]);

    fn frame(payload: &[&'static [u8]], seq_cnt: u16, last: bool) -> FcFrame {
        let length: usize = payload.iter().map(|piece| piece.len()).sum();
        let mut header = FrameHeader::decode(&[0; 24]);
        header.seq_cnt = seq_cnt;
        header.f_ctl = FrameControl((length.wrapping_neg() & 3) as u32).and_if(last, FrameControl::END_SEQUENCE);
        FcFrame { header: header.encode(), payload: payload.iter().map(|piece| Bytes::from_static(piece)).collect() }
    }

    fn flat(segments: &Segments) -> Bytes {
        Bytes::from(segments.concat())
    }

    #[test]
    fn a_frame_comes_back_as_it_went_in() {
        let payloads: [&[&'static [u8]]; 3] = [&[], &[b"a"], &[b"four", b"five!", b"sixsix"]];
        for payload in payloads {
            let sent = frame(payload, 3, true);
            let taken = decapsulate(&flat(&encapsulate(THERE, HERE, &sent))).unwrap();
            assert_eq!((taken.header, flat(&taken.payload)), (sent.header, flat(&sent.payload)));
        }
    }

    #[test]
    fn the_wire_form_is_that_of_the_standard() {
        let bytes = flat(&encapsulate(THERE, HERE, &frame(&[], 0, true)));
        assert_eq!(bytes.len(), 60, "the smallest Ethernet frame has no padding");
        assert_eq!(&bytes[..14], [0x0e, 0xfd, 0, 0, 0, 2, 0x0e, 0xfd, 0, 0, 0, 1, 0x89, 0x06]);
        assert_eq!((&bytes[14..27], bytes[27]), (&[0; 13][..], SOF_I3));
        assert_eq!((bytes[56], &bytes[57..]), (EOF_T, &[0; 3][..]));
        let later = flat(&encapsulate(THERE, HERE, &frame(&[], 1, false)));
        assert_eq!((later[27], later[56]), (SOF_N3, EOF_N));
    }

    #[test]
    fn what_is_no_class_3_frame_is_told_from_one() {
        let good = encapsulate(THERE, HERE, &frame(&[b"datadata"], 0, true)).concat();
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            decapsulate(&Bytes::from(bytes))
        };
        assert_eq!(with(14, 0x10), Err(FcoeError::Version(1)));
        assert_eq!(with(27, 0x2d), Err(FcoeError::Delimiter { sof: 0x2d, eof: EOF_T }));
        assert_eq!(with(good.len() - 4, 0x49), Err(FcoeError::Delimiter { sof: SOF_I3, eof: 0x49 }));
        assert_eq!(with(30, good[30] ^ 1), Err(FcoeError::Crc));
        for length in [0, 13, 59, good.len() - 1] {
            assert_eq!(decapsulate(&Bytes::copy_from_slice(&good[..length])), Err(FcoeError::Length(length)));
        }
    }
}

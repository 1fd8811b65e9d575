//! The stream cut into frames: header, Additional Header Segments, data segment, digests checked.

use std::collections::VecDeque;

use bytes::{Buf, Bytes};
use thiserror::Error;

use scsi_core::mutation::{Mutation, is_active};

use crate::digest::{self, Crc32c, DIGEST_LEN, Digests, crc32c};
use crate::pdu::{BHS_LEN, Bhs, DataSegment, MAX_AHS_LEN, padding};

/// A data segment that comes in more pieces than this is copied together: a peer that sends byte by byte must not cost
/// a slice a byte.
pub const MAX_SLICES_PER_SEGMENT: usize = 256;

/// The whole of a PDU as it came, not yet understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The header.
    pub bhs: Bhs,
    /// The Additional Header Segments, with their padding.
    pub ahs: Bytes,
    /// The data segment, in slices of the chunks it came in.
    pub data: DataSegment,
    /// Whether the data segment's digest was right.
    pub data_digest: DigestCheck,
}

impl Frame {
    /// A frame of these parts, as if it had been received. For tests and for PDUs that do not come from a stream.
    pub fn new(bhs: Bhs, ahs: Bytes, data: DataSegment) -> Self {
        Self { bhs, ahs, data, data_digest: DigestCheck::None }
    }

    /// Parses one PDU without digests from a buffer that begins with it. What follows it is ignored.
    ///
    /// # Errors
    /// Fewer bytes than the header announces, told as the number that is missing.
    pub fn parse(bytes: Bytes) -> Result<Self, FrameError> {
        let mut framer = Framer::new(Limits { max_data_segment_length: u32::MAX, max_ahs_length: MAX_AHS_LEN });
        framer.handle_received(bytes);
        match framer.poll_frame()? {
            Some(frame) => Ok(frame),
            None => Err(FrameError::Truncated { missing: framer.recv_hint().wanted }),
        }
    }
}

/// What became of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestCheck {
    /// There was none: digests are off, or the segment is empty.
    None,
    /// It matches.
    Valid,
    /// It does not.
    Mismatch {
        /// The digest of what came.
        computed: u32,
        /// The digest that came.
        received: u32,
    },
}

impl DigestCheck {
    /// Whether the data may be used.
    pub const fn is_ok(self) -> bool {
        !matches!(self, Self::Mismatch { .. })
    }
}

/// Why the stream cannot be cut any further. The connection is lost, since nobody knows where the next header is.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum FrameError {
    /// The header's digest is wrong; its lengths cannot be trusted (RFC 7143 7.8).
    #[error("header digest {received:#010x}, computed {computed:#010x}")]
    HeaderDigest {
        /// The header as it came.
        bhs: Bhs,
        /// The digest of what came.
        computed: u32,
        /// The digest that came.
        received: u32,
    },
    /// The header announces more data than we said we would take (MaxRecvDataSegmentLength). Told before any of it is
    /// kept.
    #[error("a data segment of {length} bytes, {limit} is the most")]
    DataSegmentTooLong {
        /// The header.
        bhs: Bhs,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The header announces more Additional Header Segments than we take.
    #[error("additional header segments of {length} bytes, {limit} is the most")]
    AhsTooLong {
        /// The header.
        bhs: Bhs,
        /// Bytes announced.
        length: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// A buffer given to [`Frame::parse`] ends before its PDU does.
    #[error("{missing} more bytes needed")]
    Truncated {
        /// At least so many more.
        missing: usize,
    },
}

impl FrameError {
    /// The offending header, if it was read.
    pub const fn bhs(&self) -> Option<&Bhs> {
        match self {
            Self::HeaderDigest { bhs, .. } | Self::DataSegmentTooLong { bhs, .. } | Self::AhsTooLong { bhs, .. } => {
                Some(bhs)
            }
            Self::Truncated { .. } => None,
        }
    }
}

/// The longest PDU a framer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Our MaxRecvDataSegmentLength, in bytes. In the login phase 8,192 unless declared otherwise.
    pub max_data_segment_length: u32,
    /// Longest list of Additional Header Segments, in bytes, at most 1,020.
    pub max_ahs_length: usize,
}

impl Default for Limits {
    /// 8,192 bytes of data, any Additional Header Segments.
    fn default() -> Self {
        Self { max_data_segment_length: 8192, max_ahs_length: MAX_AHS_LEN }
    }
}

/// How much the host should receive next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct RecvHint {
    /// Bytes that complete what is being received: a header, or a data segment with padding and digest. 0 asks the
    /// host not to read now: back-pressure. More may be received at once, and should be where that is cheap.
    pub wanted: usize,
    /// Length of the data segment, if the next byte is its first: a host that wants its payloads aligned begins a
    /// fresh buffer here. 0 otherwise.
    pub payload: usize,
}

/// Cuts a stream into frames.
///
/// Feed chunks with [`Framer::handle_received`], take frames with [`Framer::poll_frame`] until there is none. Nothing
/// is looked at before its turn, so digests and limits that change between two frames hold from the next frame on.
///
/// Memory: the chunks given and not yet polled, plus at most one PDU.
///
/// ```text
///   Header --48 bytes--> HeaderRest --AHS, digest--> Data --data, padding, digest--> Header
///                                  \-- no data --------------------------------------^
/// ```
#[derive(Debug)]
pub struct Framer {
    chunks: VecDeque<Bytes>,
    buffered: usize,
    limits: Limits,
    digests: Digests,
    state: State,
    failed: Option<FrameError>,
}

#[derive(Debug)]
enum State {
    /// Waiting for the 48 bytes.
    Header,
    /// Waiting for what else belongs to the header.
    HeaderRest { bhs: Bhs, ahs_len: usize },
    /// Taking the data segment.
    Data { bhs: Bhs, ahs: Bytes, data: DataSegment, left: usize, crc: Option<Crc32c> },
    /// Waiting for padding and data digest.
    Trailer { bhs: Bhs, ahs: Bytes, data: DataSegment, crc: Option<Crc32c> },
}

impl Framer {
    /// A framer at the start of a stream, without digests.
    pub fn new(limits: Limits) -> Self {
        Self {
            chunks: VecDeque::new(),
            buffered: 0,
            limits,
            digests: Digests::default(),
            state: State::Header,
            failed: None,
        }
    }

    /// From the next frame on, expects these digests.
    pub fn set_digests(&mut self, digests: Digests) {
        self.digests = digests;
    }

    /// From the next frame on, these limits hold.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes the next bytes of the stream.
    pub fn handle_received(&mut self, chunk: Bytes) {
        if !chunk.is_empty() && self.failed.is_none() {
            self.buffered += chunk.len();
            self.chunks.push_back(chunk);
        }
    }

    /// The next frame, or `None` when it has not come whole.
    ///
    /// # Errors
    /// The stream is lost; every later call says so again.
    pub fn poll_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        if let Some(frame) = self.take_plain() {
            return Ok(Some(frame));
        }
        loop {
            match std::mem::replace(&mut self.state, State::Header) {
                State::Header => {
                    let Some(header) = self.take_array::<BHS_LEN>() else { return Ok(None) };
                    let bhs = Bhs::new(header);
                    let ahs_len = bhs.ahs_length();
                    self.check_ahs_length(bhs)?;
                    self.state = State::HeaderRest { bhs, ahs_len };
                }
                State::HeaderRest { bhs, ahs_len } => {
                    let rest = ahs_len + if self.digests.header { DIGEST_LEN } else { 0 };
                    if self.buffered < rest {
                        self.state = State::HeaderRest { bhs, ahs_len };
                        return Ok(None);
                    }
                    let ahs = self.take_contiguous(ahs_len);
                    if self.digests.header {
                        self.check_header_digest(bhs, &ahs)?;
                    }
                    // After the digest, so that a damaged length is not mistaken for a greedy peer.
                    self.check_data_length(bhs)?;
                    let left = bhs.data_segment_length();
                    if left == 0 {
                        return Ok(Some(Frame::new(bhs, ahs, DataSegment::new())));
                    }
                    let crc = self.digests.data.then(Crc32c::new);
                    self.state = State::Data { bhs, ahs, data: DataSegment::new(), left, crc };
                }
                State::Data { bhs, ahs, mut data, mut left, mut crc } => {
                    while left > 0 {
                        let Some(slice) = self.take_slice(left) else {
                            self.state = State::Data { bhs, ahs, data, left, crc };
                            return Ok(None);
                        };
                        left -= slice.len();
                        if let Some(crc) = &mut crc {
                            crc.update(&slice);
                        }
                        data.push(slice);
                        if data.slices().len() > MAX_SLICES_PER_SEGMENT {
                            data.coalesce();
                        }
                    }
                    self.state = State::Trailer { bhs, ahs, data, crc };
                }
                State::Trailer { bhs, ahs, data, crc } => {
                    let pad = bhs.data_padding();
                    if self.buffered < pad + if crc.is_some() { DIGEST_LEN } else { 0 } {
                        self.state = State::Trailer { bhs, ahs, data, crc };
                        return Ok(None);
                    }
                    let padding = self.take_contiguous(pad);
                    let data_digest = match crc {
                        None => DigestCheck::None,
                        Some(mut crc) => {
                            crc.update(&padding);
                            self.check_data_digest(crc.finish())
                        }
                    };
                    return Ok(Some(Frame { bhs, ahs, data, data_digest }));
                }
            }
        }
    }

    /// The next frame when it is as nearly all are: whole in the front chunk, without digests and Additional Header
    /// Segments, no longer than allowed. Anything else goes its way through the states.
    fn take_plain(&mut self) -> Option<Frame> {
        if !matches!(self.state, State::Header) || self.digests != Digests::default() {
            return None;
        }
        let front = self.chunks.front_mut()?;
        let bhs = Bhs::new(*front.first_chunk::<BHS_LEN>()?);
        let length = bhs.data_segment_length();
        let whole = BHS_LEN + length + padding(length);
        if bhs.ahs_length() > 0 || length > self.limits.max_data_segment_length as usize || front.len() < whole {
            return None;
        }
        let mut data = DataSegment::new();
        front.advance(BHS_LEN);
        if length > 0 && length == front.len() {
            data.push(std::mem::take(front));
        } else if length > 0 {
            data.push(front.split_to(length));
            front.advance(padding(length));
        }
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.buffered -= whole;
        Some(Frame { bhs, ahs: Bytes::new(), data, data_digest: DigestCheck::None })
    }

    /// What to receive next. After an error, nothing.
    pub fn recv_hint(&self) -> RecvHint {
        if self.failed.is_some() {
            return RecvHint::default();
        }
        let (whole, payload) = match &self.state {
            State::Header => (BHS_LEN, 0),
            State::HeaderRest { ahs_len, .. } => (ahs_len + if self.digests.header { DIGEST_LEN } else { 0 }, 0),
            State::Data { bhs, left, crc, data, .. } => {
                let trailer = padding(bhs.data_segment_length()) + if crc.is_some() { DIGEST_LEN } else { 0 };
                (left + trailer, if data.is_empty() { *left } else { 0 })
            }
            State::Trailer { bhs, crc, .. } => (bhs.data_padding() + if crc.is_some() { DIGEST_LEN } else { 0 }, 0),
        };
        // More than one whole unit may lie here unpolled; then one more byte is as good a wish as any.
        RecvHint { wanted: whole.saturating_sub(self.buffered).max(1), payload }
    }

    /// Bytes received and not yet part of a frame handed out. Those of a data segment under way do not count.
    pub fn buffered(&self) -> usize {
        self.buffered
    }

    fn check_ahs_length(&mut self, bhs: Bhs) -> Result<(), FrameError> {
        let (length, limit) = (bhs.ahs_length(), self.limits.max_ahs_length);
        if length > limit {
            return Err(self.fail(FrameError::AhsTooLong { bhs, length, limit }));
        }
        Ok(())
    }

    fn check_data_length(&mut self, bhs: Bhs) -> Result<(), FrameError> {
        let (length, limit) = (bhs.data_segment_length(), self.limits.max_data_segment_length as usize);
        if length > limit {
            return Err(self.fail(FrameError::DataSegmentTooLong { bhs, length, limit }));
        }
        Ok(())
    }

    fn check_header_digest(&mut self, bhs: Bhs, ahs: &[u8]) -> Result<(), FrameError> {
        let computed = if ahs.is_empty() {
            crc32c(bhs.as_ref())
        } else {
            let mut crc = Crc32c::new();
            crc.update(bhs.as_ref());
            crc.update(ahs);
            crc.finish()
        };
        match self.take_array::<DIGEST_LEN>().map(digest::from_wire) {
            Some(received) if received != computed => {
                Err(self.fail(FrameError::HeaderDigest { bhs, computed, received }))
            }
            _ => Ok(()),
        }
    }

    fn check_data_digest(&mut self, computed: u32) -> DigestCheck {
        match self.take_array::<DIGEST_LEN>().map(digest::from_wire) {
            Some(received) if received != computed && !is_active(Mutation::DataDigestNotChecked) => {
                DigestCheck::Mismatch { computed, received }
            }
            _ => DigestCheck::Valid,
        }
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.chunks.clear();
        self.buffered = 0;
        self.failed = Some(error.clone());
        error
    }

    /// Exactly `N` bytes copied out, or nothing taken.
    fn take_array<const N: usize>(&mut self) -> Option<[u8; N]> {
        if self.buffered < N {
            return None;
        }
        // Nearly always it lies in one chunk with more behind it: no slice need be counted.
        if let Some(front) = self.chunks.front_mut()
            && let Some(&array) = front.first_chunk::<N>()
        {
            front.advance(N);
            if front.is_empty() {
                self.chunks.pop_front();
            }
            self.buffered -= N;
            return Some(array);
        }
        let mut array = [0; N];
        let mut filled = 0;
        while filled < N {
            let slice = self.take_slice(N - filled)?;
            array[filled..filled + slice.len()].copy_from_slice(&slice);
            filled += slice.len();
        }
        Some(array)
    }

    /// Exactly `len` bytes in one piece; the caller has seen that they are there.
    fn take_contiguous(&mut self, len: usize) -> Bytes {
        if len == 0 {
            return Bytes::new();
        }
        let mut data = DataSegment::new();
        while data.len() < len {
            match self.take_slice(len - data.len()) {
                Some(slice) => data.push(slice),
                None => break,
            }
        }
        data.to_contiguous()
    }

    /// Up to `most` bytes from the front chunk, as a slice of it.
    fn take_slice(&mut self, most: usize) -> Option<Bytes> {
        let front = self.chunks.front_mut()?;
        let slice = if front.len() <= most { std::mem::take(front) } else { front.split_to(most) };
        if front.is_empty() {
            self.chunks.pop_front();
        }
        self.buffered -= slice.len();
        Some(slice)
    }
}

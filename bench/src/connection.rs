//! One session of the load: prepared headers out, as little as possible of what comes in looked at.

use crate::workload::{Operation, Workload};
use anyhow::{Context, Result, bail, ensure};
use bytes::{Buf, Bytes, BytesMut};
use iscsi_proto::digest::crc32c;
use iscsi_proto::pdu::Isid;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendAncillaryBuffer, SendFlags};
use smallvec::SmallVec;
use std::collections::{HashMap, VecDeque};
use std::io::IoSlice;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;
use testkit::initiator::{Command, Initiator, LoginOptions, TcpWire};

const HEADER: usize = 48;

/// Slices of one send.
const SLICES: usize = 128;

/// Data of this length and more is thrown away by the kernel, unseen.
const DISCARD_FROM: usize = 16 << 10;

/// What the login settled.
#[derive(Clone, Copy, Debug)]
struct Rules {
    immediate: usize,
    first_burst: usize,
    segment: usize,
    header_digest: bool,
    data_digest: bool,
}

/// A session, or a bare connection, under load.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    // Keeps what the login made; the socket is shared.
    _login: Option<Initiator<TcpWire>>,
    rules: Rules,
    lun: u16,
    cmd_sn: u32,
    max_cmd_sn: u32,
    exp_stat_sn: u32,
    free: Vec<u32>,
    started: Vec<Instant>,
    buffer: Vec<u8>,
    have: usize,
    skip: usize,
    head: BytesMut,
    out: VecDeque<Bytes>,
    payload: Bytes,
    digests: HashMap<usize, [u8; 4]>,
    /// The first block of the next command in sequence, and the share of the disk it goes through.
    next: u64,
    begin: u64,
    end: u64,
    random: u64,
    pub(crate) failed: u64,
}

/// Where the sessions work: blocks of 512 bytes.
static SPAN_BLOCKS: AtomicU64 = AtomicU64::new((256 << 20) / 512);

/// Keeps to the first `mib` MiB.
pub(crate) fn set_span(mib: u64) {
    SPAN_BLOCKS.store((mib.max(16) << 20) / 512, Ordering::Relaxed);
}

fn span_blocks() -> u64 {
    SPAN_BLOCKS.load(Ordering::Relaxed)
}

/// Writes every block once: no target shall win by reading holes.
pub(crate) fn fill(portal: SocketAddr, iqn: &str, lun: u16) -> Result<()> {
    let mut initiator = Initiator::new(TcpWire::connect(portal)?);
    let options = LoginOptions::normal("iqn.2026-11.org.lunette.bench:fill", iqn)
        .with("ImmediateData", "Yes")
        .with("InitialR2T", "No")
        .with("FirstBurstLength", "262144")
        .with("MaxBurstLength", "1048576");
    initiator.login(&options)?;
    make_ready(&mut initiator, lun)?;
    let data = vec![0x5a; 64 << 10];
    for at in 0..span_blocks() / 128 {
        let outcome = initiator.command(&Command::write_blocks(lun, at * 128, data.clone()))?;
        ensure!(outcome.is_good(), "cannot fill the disk: {outcome:?}");
    }
    initiator.logout()?;
    Ok(())
}

/// The first commands of a session meet unit attentions.
fn make_ready(initiator: &mut Initiator<TcpWire>, lun: u16) -> Result<()> {
    for _ in 0..8 {
        if initiator.command(&Command::new(lun, &[0; 6]))?.is_good() {
            return Ok(());
        }
    }
    bail!("the unit does not become ready")
}

impl Connection {
    /// Logs in to `target`, or with `None` only connects.
    pub(crate) fn open(
        portal: SocketAddr,
        target: Option<(&str, u16)>,
        workload: &Workload,
        index: usize,
        payload: &Bytes,
    ) -> Result<Self> {
        let share = span_blocks() / workload.sessions as u64 / 2048 * 2048;
        let (begin, end) = if workload.is_random() || share == 0 {
            (0, span_blocks())
        } else {
            (share * index as u64, share * (index as u64 + 1))
        };
        let mut connection = Self {
            stream: TcpStream::connect(portal).context("cannot connect")?,
            _login: None,
            rules: Rules {
                immediate: usize::MAX,
                first_burst: usize::MAX,
                segment: 1 << 20,
                header_digest: false,
                data_digest: false,
            },
            lun: 0,
            cmd_sn: 1,
            max_cmd_sn: 1 << 30,
            exp_stat_sn: 0,
            free: (0..workload.depth as u32).rev().collect(),
            started: vec![Instant::now(); workload.depth],
            // Untouched pages of it cost nothing: a thousand idle sessions fit.
            buffer: vec![0; 1 << 20],
            have: 0,
            skip: 0,
            head: BytesMut::new(),
            out: VecDeque::new(),
            payload: payload.clone(),
            digests: HashMap::new(),
            next: begin,
            begin,
            end,
            random: 0x9e37_79b9_7f4a_7c15 ^ (index as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d),
            failed: 0,
        };
        if let Some((iqn, lun)) = target {
            connection.log_in(portal, iqn, lun, workload, index)?;
        }
        connection.stream.set_nodelay(true)?;
        connection.stream.set_nonblocking(true)?;
        Ok(connection)
    }

    fn log_in(&mut self, portal: SocketAddr, iqn: &str, lun: u16, workload: &Workload, index: usize) -> Result<()> {
        let mut initiator = Initiator::new(TcpWire::connect(portal)?);
        // istgt tells sessions apart by this alone.
        initiator.isid = Isid([0x80, 0x12, 0x34, 0x56, (index >> 8) as u8, index as u8]);
        let mut options = LoginOptions::normal(&format!("iqn.2026-11.org.lunette.bench:load{index}"), iqn)
            .with("ImmediateData", "Yes")
            .with("InitialR2T", "No")
            .with("FirstBurstLength", "262144")
            .with("MaxBurstLength", "1048576")
            .with("MaxOutstandingR2T", "1");
        if workload.digests {
            options = options.with_digests();
        }
        initiator.login(&options)?;
        make_ready(&mut initiator, lun)?;
        let number = |key: &str, default: usize| {
            initiator.parameters.get(key).and_then(|value| value.parse().ok()).unwrap_or(default)
        };
        let says = |key: &str, value: &str| initiator.parameters.get(key).is_some_and(|said| said == value);
        let segment = number("MaxRecvDataSegmentLength", 8192);
        let first_burst = number("FirstBurstLength", 65536).min(262_144);
        self.rules = Rules {
            immediate: if says("ImmediateData", "No") { 0 } else { segment.min(first_burst) },
            first_burst: if says("InitialR2T", "Yes") { 0 } else { first_burst },
            segment,
            header_digest: says("HeaderDigest", "CRC32C"),
            data_digest: says("DataDigest", "CRC32C"),
        };
        ensure!(
            !workload.digests || self.rules.header_digest && self.rules.data_digest,
            "the target does not do digests"
        );
        self.lun = lun;
        self.cmd_sn = initiator.cmd_sn.0;
        self.max_cmd_sn = initiator.max_cmd_sn.0;
        self.exp_stat_sn = initiator.exp_stat_sn.0;
        self.stream = initiator.wire.stream().try_clone()?;
        self._login = Some(initiator);
        Ok(())
    }

    fn next_random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }

    /// Queues commands until the depth or the target's window is used up.
    pub(crate) fn issue(&mut self, workload: &Workload, now: Instant) {
        let blocks = u64::from(workload.bytes / 512);
        while self.cmd_sn.wrapping_sub(self.max_cmd_sn) as i32 <= 0
            && let Some(tag) = self.free.pop()
        {
            let random = self.next_random();
            let writes = match workload.operation {
                Operation::Read => false,
                Operation::Write => true,
                Operation::Mix => random % 10 < 3,
            };
            let lba = if workload.is_random() {
                (random >> 20) % (span_blocks() / blocks) * blocks
            } else {
                let lba = self.next;
                self.next += blocks;
                if self.next + blocks > self.end {
                    self.next = self.begin;
                }
                lba
            };
            self.started[tag as usize] = now;
            self.command(tag, writes, lba, workload);
            self.cmd_sn = self.cmd_sn.wrapping_add(1);
        }
    }

    fn command(&mut self, tag: u32, writes: bool, lba: u64, workload: &Workload) {
        let bytes = workload.bytes as usize;
        let immediate = if writes { bytes.min(self.rules.immediate) } else { 0 };
        let unsolicited = if writes { bytes.min(self.rules.first_burst).max(immediate) } else { 0 };
        let mut header = [0; HEADER];
        header[0] = 0x01;
        header[1] = if writes { 0x20 } else { 0x40 } | if unsolicited == immediate { 0x80 } else { 0 } | 1;
        header[5..8].copy_from_slice(&(immediate as u32).to_be_bytes()[1..]);
        header[8..10].copy_from_slice(&self.lun.to_be_bytes());
        header[16..20].copy_from_slice(&tag.to_be_bytes());
        header[20..24].copy_from_slice(&workload.bytes.to_be_bytes());
        header[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
        header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
        header[32] = if writes { 0x8a } else { 0x88 };
        header[33] = if workload.fua && writes { 8 } else { 0 };
        header[34..42].copy_from_slice(&lba.to_be_bytes());
        header[42..46].copy_from_slice(&(workload.bytes / 512).to_be_bytes());
        self.pdu(&header, immediate);
        if unsolicited > immediate {
            self.data_out(tag, u32::MAX, immediate, unsolicited);
        }
    }

    fn data_out(&mut self, tag: u32, transfer: u32, begin: usize, end: usize) {
        let (mut at, mut number) = (begin, 0u32);
        while at < end {
            let length = (end - at).min(self.rules.segment);
            let mut header = [0; HEADER];
            header[0] = 0x05;
            header[1] = if at + length == end { 0x80 } else { 0 };
            header[5..8].copy_from_slice(&(length as u32).to_be_bytes()[1..]);
            header[8..10].copy_from_slice(&if transfer == u32::MAX { [0; 2] } else { self.lun.to_be_bytes() });
            header[16..20].copy_from_slice(&tag.to_be_bytes());
            header[20..24].copy_from_slice(&transfer.to_be_bytes());
            header[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
            header[36..40].copy_from_slice(&number.to_be_bytes());
            header[40..44].copy_from_slice(&(at as u32).to_be_bytes());
            self.pdu(&header, length);
            at += length;
            number += 1;
        }
    }

    fn pdu(&mut self, header: &[u8; HEADER], data: usize) {
        self.head.extend_from_slice(header);
        if self.rules.header_digest {
            self.head.extend_from_slice(&crc32c(header).to_le_bytes());
        }
        if data > 0 {
            self.out.push_back(self.head.split().freeze());
            self.out.push_back(self.payload.slice(..data));
            if self.rules.data_digest {
                let payload = &self.payload;
                let digest = self.digests.entry(data).or_insert_with(|| crc32c(&payload[..data]).to_le_bytes());
                self.head.extend_from_slice(digest);
            }
        }
    }

    /// Sends as much as goes.
    pub(crate) fn send(&mut self) -> Result<()> {
        if !self.head.is_empty() {
            self.out.push_back(self.head.split().freeze());
            self.head.reserve(16 << 10);
        }
        while !self.out.is_empty() {
            let slices: SmallVec<[IoSlice<'_>; SLICES]> =
                self.out.iter().take(SLICES).map(|slice| IoSlice::new(slice)).collect();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            let sent = rustix::net::sendmsg(&self.stream, &slices, &mut SendAncillaryBuffer::default(), flags);
            drop(slices);
            let mut sent = match sent {
                Ok(sent) => sent,
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error).context("cannot send"),
            };
            while let Some(front) = self.out.front_mut() {
                if sent < front.len() {
                    front.advance(sent);
                    break;
                }
                sent -= front.len();
                self.out.pop_front();
            }
        }
        Ok(())
    }

    /// Receives what is there; `done` hears when each command that ended had begun. Whether there may be more.
    pub(crate) fn receive(&mut self, workload: &Workload, mut done: impl FnMut(Instant)) -> Result<bool> {
        let head = HEADER + if self.rules.header_digest { 4 } else { 0 };
        let exact = workload.bytes as usize >= DISCARD_FROM && workload.operation != Operation::Write;
        for _ in 0..64 {
            if self.skip >= DISCARD_FROM || exact && self.skip > 0 {
                // The kernel throws it away: nothing is written to the buffer.
                let most = self.skip.min(self.buffer.len());
                match rustix::net::recv(&self.stream, &mut self.buffer[..most], RecvFlags::TRUNC) {
                    Ok((_, 0)) => bail!("the target closed the connection"),
                    Ok((_, count)) => self.skip -= count,
                    Err(Errno::AGAIN) => return Ok(false),
                    Err(error) => return Err(error).context("cannot receive"),
                }
                continue;
            }
            let end = if exact { head } else { self.buffer.len() };
            let wanted = end - self.have;
            let count = match rustix::net::recv(&self.stream, &mut self.buffer[self.have..end], RecvFlags::empty()) {
                Ok((_, 0)) => bail!("the target closed the connection"),
                Ok((_, count)) => count,
                Err(Errno::AGAIN) => return Ok(false),
                Err(error) => return Err(error).context("cannot receive"),
            };
            self.have += count;
            let mut at = 0;
            loop {
                let skipped = self.skip.min(self.have - at);
                self.skip -= skipped;
                at += skipped;
                if self.skip > 0 || self.have - at < head {
                    break;
                }
                let mut header = [0; HEADER];
                header.copy_from_slice(&self.buffer[at..at + HEADER]);
                at += head;
                self.handle(&header, &mut done)?;
            }
            self.buffer.copy_within(at..self.have, 0);
            self.have -= at;
            if !exact && count < wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn handle(&mut self, header: &[u8; HEADER], done: &mut impl FnMut(Instant)) -> Result<()> {
        let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let length = word(4) as usize & 0xff_ffff;
        self.skip = length.next_multiple_of(4) + if length > 0 && self.rules.data_digest { 4 } else { 0 };
        self.max_cmd_sn = word(32);
        let tag = word(16);
        match header[0] & 0x3f {
            0x25 if header[1] & 1 == 0 => {}
            0x25 | 0x21 => {
                self.failed += u64::from(header[3] != 0 || header[0] & 0x3f == 0x21 && header[2] != 0);
                self.exp_stat_sn = word(24).wrapping_add(1);
                let started = self.started.get(tag as usize).context("an answer to nothing")?;
                done(*started);
                self.free.push(tag);
            }
            0x31 => {
                let (offset, length) = (word(40) as usize, word(44) as usize);
                self.data_out(tag, word(20), offset, offset + length);
            }
            0x20 if word(20) == u32::MAX => {}
            0x20 => {
                let mut answer = [0; HEADER];
                (answer[0], answer[1]) = (0x40, 0x80);
                answer[8..16].copy_from_slice(&header[8..16]);
                answer[16..20].copy_from_slice(&[0xff; 4]);
                answer[20..24].copy_from_slice(&header[20..24]);
                answer[24..28].copy_from_slice(&self.cmd_sn.to_be_bytes());
                answer[28..32].copy_from_slice(&self.exp_stat_sn.to_be_bytes());
                self.pdu(&answer, 0);
            }
            other => bail!("opcode {other:#04x}, reason {:#04x}", header[2]),
        }
        Ok(())
    }
}

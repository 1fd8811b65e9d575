//! An initiator written by hand from RFC 7143, for what no well-behaved program sends and for counting acknowledgements.
//!
//! It shares no code with the project's own protocol crate on purpose: a misreading there must not hide here as well.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// How long any answer may take before the check fails.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// What this initiator declares as its own MaxRecvDataSegmentLength.
const RECEIVE_SEGMENT_BYTES: u32 = 262_144;

pub(crate) const OP_NOP_OUT: u8 = 0x00;
pub(crate) const OP_SCSI_COMMAND: u8 = 0x01;
pub(crate) const OP_LOGIN: u8 = 0x03;
pub(crate) const OP_DATA_OUT: u8 = 0x05;
pub(crate) const OP_NOP_IN: u8 = 0x20;
pub(crate) const OP_SCSI_RESPONSE: u8 = 0x21;
pub(crate) const OP_LOGIN_RESPONSE: u8 = 0x23;
pub(crate) const OP_DATA_IN: u8 = 0x25;
pub(crate) const OP_LOGOUT_RESPONSE: u8 = 0x26;
pub(crate) const OP_R2T: u8 = 0x31;
pub(crate) const OP_ASYNC: u8 = 0x32;
pub(crate) const OP_REJECT: u8 = 0x3f;

/// One PDU as it stands on the wire, digests checked and removed.
#[derive(Debug, Clone)]
pub(crate) struct Pdu {
    pub(crate) bhs: [u8; 48],
    pub(crate) data: Vec<u8>,
}

impl Pdu {
    pub(crate) fn opcode(&self) -> u8 {
        self.bhs[0] & 0x3f
    }

    pub(crate) fn word(&self, offset: usize) -> u32 {
        u32::from_be_bytes([self.bhs[offset], self.bhs[offset + 1], self.bhs[offset + 2], self.bhs[offset + 3]])
    }

    fn task_tag(&self) -> u32 {
        self.word(16)
    }
}

/// A basic header segment with the data segment length filled in.
pub(crate) fn header(opcode: u8, flags: u8, data_segment_length: usize) -> [u8; 48] {
    let mut bhs = [0; 48];
    bhs[0] = opcode;
    bhs[1] = flags;
    let length = u32::try_from(data_segment_length).unwrap_or(u32::MAX).to_be_bytes();
    bhs[5..8].copy_from_slice(&length[1..]);
    bhs
}

/// The outcome of a SCSI command.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) status: u8,
    pub(crate) sense: Vec<u8>,
    pub(crate) data: Vec<u8>,
}

impl Outcome {
    /// # Errors
    /// When the status is not GOOD; the message has the sense data.
    pub(crate) fn good(self) -> Result<Vec<u8>> {
        ensure!(self.status == 0, "SCSI status {:#04x}, sense {:02x?}", self.status, self.sense);
        Ok(self.data)
    }
}

/// What a session is opened with.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) portal: SocketAddr,
    pub(crate) initiator: String,
    pub(crate) target: String,
    /// Tells sessions of one initiator apart.
    pub(crate) qualifier: u16,
    pub(crate) header_digest: bool,
    pub(crate) data_digest: bool,
}

impl Settings {
    pub(crate) fn new(portal: SocketAddr, target: &str, initiator: &str) -> Self {
        Self {
            portal,
            initiator: format!("iqn.2026-11.org.lunette.test:{initiator}"),
            target: target.to_owned(),
            qualifier: 1,
            header_digest: false,
            data_digest: false,
        }
    }

    /// The first Login Request of a session that wants no authentication, with `keys` behind the usual ones.
    pub(crate) fn login_request(&self, flags: u8, keys: &str) -> Vec<u8> {
        let text = format!("InitiatorName={}\0TargetName={}\0SessionType=Normal\0{keys}", self.initiator, self.target);
        let mut bhs = header(OP_LOGIN | 0x40, flags, text.len());
        // ISID: a random type, then the qualifier. RFC 7143 11.12.5.
        bhs[8] = 0x80;
        bhs[12..14].copy_from_slice(&self.qualifier.to_be_bytes());
        bhs[16..20].copy_from_slice(&1u32.to_be_bytes());
        // The number that the first command will have; an immediate request does not use it up.
        bhs[24..28].copy_from_slice(&1u32.to_be_bytes());
        frame(&bhs, text.as_bytes(), false, false)
    }
}

/// A session with one connection.
#[derive(Debug)]
pub(crate) struct Initiator {
    stream: TcpStream,
    command_number: u32,
    expected_status_number: u32,
    next_tag: u32,
    header_digest: bool,
    data_digest: bool,
    /// What of a command's data may travel with the command itself.
    immediate_bytes: usize,
    target_segment_bytes: usize,
    /// Data that R2Ts ask for, by task tag.
    outgoing: HashMap<u32, (u16, Vec<u8>)>,
    incoming: HashMap<u32, Vec<u8>>,
}

impl Initiator {
    /// Connects and logs in without authentication, straight into operational negotiation.
    pub(crate) fn login(settings: &Settings) -> Result<Self> {
        let stream = connect(settings.portal)?;
        let digest = |on: bool| if on { "CRC32C" } else { "None" };
        let keys = format!(
            "HeaderDigest={}\0DataDigest={}\0MaxRecvDataSegmentLength={RECEIVE_SEGMENT_BYTES}\0InitialR2T=Yes\0\
             ImmediateData=Yes\0FirstBurstLength=65536\0MaxBurstLength=262144\0MaxOutstandingR2T=1\0\
             MaxConnections=1\0ErrorRecoveryLevel=0\0DefaultTime2Wait=2\0DefaultTime2Retain=0\0",
            digest(settings.header_digest),
            digest(settings.data_digest),
        );
        let mut session = Self {
            stream,
            command_number: 1,
            expected_status_number: 0,
            next_tag: 2,
            header_digest: false,
            data_digest: false,
            immediate_bytes: 0,
            target_segment_bytes: 8192,
            outgoing: HashMap::new(),
            incoming: HashMap::new(),
        };
        // Operational negotiation, and on to the full feature phase.
        session.stream.write_all(&settings.login_request(0x80 | (1 << 2) | 3, &keys))?;
        let mut answers = HashMap::new();
        loop {
            let pdu = session.receive()?;
            ensure!(pdu.opcode() == OP_LOGIN_RESPONSE, "opcode {:#04x} instead of a login response", pdu.opcode());
            let status = (pdu.bhs[36], pdu.bhs[37]);
            ensure!(status == (0, 0), "login refused with status {:02x}{:02x}", status.0, status.1);
            for pair in pdu.data.split(|byte| *byte == 0) {
                if let Some((key, value)) = String::from_utf8_lossy(pair).split_once('=') {
                    answers.insert(key.to_owned(), value.to_owned());
                }
            }
            if pdu.bhs[1] & 0x80 != 0 {
                break;
            }
            let mut next = header(OP_LOGIN | 0x40, 0x80 | (1 << 2) | 3, 0);
            next[8..14].copy_from_slice(&pdu.bhs[8..14]);
            next[16..20].copy_from_slice(&1u32.to_be_bytes());
            next[24..28].copy_from_slice(&session.command_number.to_be_bytes());
            next[28..32].copy_from_slice(&session.expected_status_number.to_be_bytes());
            session.stream.write_all(&next)?;
        }
        let number = |key: &str, absent: usize| answers.get(key).and_then(|v| v.parse().ok()).unwrap_or(absent);
        session.header_digest = settings.header_digest;
        session.data_digest = settings.data_digest;
        if settings.header_digest {
            ensure!(
                answers.get("HeaderDigest").is_some_and(|value| value == "CRC32C"),
                "no header digest: {answers:?}"
            );
        }
        if settings.data_digest {
            ensure!(answers.get("DataDigest").is_some_and(|value| value == "CRC32C"), "no data digest: {answers:?}");
        }
        session.target_segment_bytes = number("MaxRecvDataSegmentLength", 8192);
        if answers.get("ImmediateData").is_none_or(|value| value == "Yes") {
            session.immediate_bytes = number("FirstBurstLength", 65536).min(session.target_segment_bytes);
        }
        Ok(session)
    }

    /// The StatSN that the target's next status should have.
    pub(crate) fn expected_status_number(&self) -> u32 {
        self.expected_status_number
    }

    /// The socket, for what goes around this type.
    pub(crate) fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Runs one command to its end.
    pub(crate) fn command(&mut self, lun: u16, cdb: &[u8], send: &[u8], expect: usize) -> Result<Outcome> {
        let tag = self.send_command(lun, cdb, send, expect)?;
        loop {
            if let Some((done, outcome)) = self.receive_outcome()?
                && done == tag
            {
                return Ok(outcome);
            }
        }
    }

    /// Sends one command, with as much of `send` as may go along, and gives its task tag.
    pub(crate) fn send_command(&mut self, lun: u16, cdb: &[u8], send: &[u8], expect: usize) -> Result<u32> {
        let tag = self.next_tag;
        self.next_tag += 1;
        let immediate = &send[..send.len().min(self.immediate_bytes)];
        // F, R when data is expected, W when some is sent, attribute SIMPLE.
        let flags = 0x80 | (u8::from(expect > 0) << 6) | (u8::from(!send.is_empty()) << 5) | 1;
        let mut bhs = header(OP_SCSI_COMMAND, flags, immediate.len());
        bhs[8..10].copy_from_slice(&lun.to_be_bytes());
        bhs[16..20].copy_from_slice(&tag.to_be_bytes());
        let length = u32::try_from(expect.max(send.len()))?;
        bhs[20..24].copy_from_slice(&length.to_be_bytes());
        bhs[24..28].copy_from_slice(&self.command_number.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.expected_status_number.to_be_bytes());
        bhs[32..32 + cdb.len()].copy_from_slice(cdb);
        self.command_number = self.command_number.wrapping_add(1);
        self.send(&bhs, immediate)?;
        if immediate.len() < send.len() {
            self.outgoing.insert(tag, (lun, send.to_vec()));
        }
        Ok(tag)
    }

    /// Takes the next PDU and gives a task's outcome when it was the last of a task.
    pub(crate) fn receive_outcome(&mut self) -> Result<Option<(u32, Outcome)>> {
        let pdu = self.receive()?;
        let tag = pdu.task_tag();
        match pdu.opcode() {
            OP_DATA_IN => {
                let offset = pdu.word(40) as usize;
                let buffer = self.incoming.entry(tag).or_default();
                ensure!(offset == buffer.len(), "Data-In at {offset}, {} expected", buffer.len());
                buffer.extend_from_slice(&pdu.data);
                // Status collapsed into the last Data-In.
                if pdu.bhs[1] & 1 != 0 {
                    return Ok(Some((tag, self.outcome(tag, pdu.bhs[3], Vec::new()))));
                }
            }
            OP_SCSI_RESPONSE => {
                ensure!(pdu.bhs[2] == 0, "iSCSI response {:#04x} for task {tag}", pdu.bhs[2]);
                let sense = pdu.data.get(2..).unwrap_or_default().to_vec();
                return Ok(Some((tag, self.outcome(tag, pdu.bhs[3], sense))));
            }
            OP_R2T => self.answer_r2t(&pdu)?,
            OP_NOP_IN => self.answer_nop(&pdu)?,
            OP_ASYNC => {}
            OP_REJECT => bail!("the target rejected a PDU, reason {:#04x}", pdu.bhs[2]),
            other => bail!("unexpected opcode {other:#04x}"),
        }
        Ok(None)
    }

    fn outcome(&mut self, tag: u32, status: u8, sense: Vec<u8>) -> Outcome {
        self.outgoing.remove(&tag);
        Outcome { status, sense, data: self.incoming.remove(&tag).unwrap_or_default() }
    }

    fn answer_r2t(&mut self, r2t: &Pdu) -> Result<()> {
        let (tag, offset, length) = (r2t.task_tag(), r2t.word(40) as usize, r2t.word(44) as usize);
        let (lun, data) = self.outgoing.get(&tag).context("an R2T for no task")?.clone();
        let wanted = data.get(offset..offset + length).context("an R2T past the end of the data")?;
        let segments = wanted.chunks(self.target_segment_bytes.max(1));
        let last = segments.len().saturating_sub(1);
        for (number, segment) in segments.enumerate() {
            let mut bhs = header(OP_DATA_OUT, u8::from(number == last) << 7, segment.len());
            bhs[8..10].copy_from_slice(&lun.to_be_bytes());
            bhs[16..20].copy_from_slice(&tag.to_be_bytes());
            bhs[20..24].copy_from_slice(&r2t.bhs[20..24]);
            bhs[28..32].copy_from_slice(&self.expected_status_number.to_be_bytes());
            bhs[36..40].copy_from_slice(&u32::try_from(number)?.to_be_bytes());
            let position = offset + number * self.target_segment_bytes;
            bhs[40..44].copy_from_slice(&u32::try_from(position)?.to_be_bytes());
            self.send(&bhs, segment)?;
        }
        Ok(())
    }

    fn answer_nop(&mut self, nop: &Pdu) -> Result<()> {
        if nop.word(20) == u32::MAX {
            return Ok(());
        }
        let mut bhs = header(OP_NOP_OUT | 0x40, 0x80, nop.data.len());
        bhs[8..16].copy_from_slice(&nop.bhs[8..16]);
        bhs[16..20].copy_from_slice(&u32::MAX.to_be_bytes());
        bhs[20..24].copy_from_slice(&nop.bhs[20..24]);
        bhs[24..28].copy_from_slice(&self.command_number.to_be_bytes());
        bhs[28..32].copy_from_slice(&self.expected_status_number.to_be_bytes());
        self.send(&bhs, &nop.data)
    }

    /// Sends a PDU as it is, with the digests of this session.
    pub(crate) fn send(&mut self, bhs: &[u8; 48], data: &[u8]) -> Result<()> {
        let bytes = frame(bhs, data, self.header_digest, self.data_digest);
        self.stream.write_all(&bytes).context("cannot send to the target")
    }

    /// Receives one PDU.
    pub(crate) fn receive(&mut self) -> Result<Pdu> {
        let pdu = receive(&mut self.stream, self.header_digest, self.data_digest)?;
        let numbered = matches!(pdu.opcode(), OP_SCSI_RESPONSE | OP_LOGIN_RESPONSE | OP_REJECT | OP_ASYNC)
            || (pdu.opcode() == OP_DATA_IN && pdu.bhs[1] & 1 != 0)
            || (pdu.opcode() == OP_NOP_IN && pdu.task_tag() != u32::MAX);
        if numbered {
            self.expected_status_number = pdu.word(24).wrapping_add(1);
        }
        Ok(pdu)
    }

    pub(crate) fn read(&mut self, lun: u16, lba: u64, blocks: u32) -> Result<Vec<u8>> {
        self.command(lun, &cdb16(0x88, 0, lba, blocks), &[], blocks as usize * 512)?.good()
    }

    /// TEST UNIT READY until no unit attention is left, at most a few times.
    pub(crate) fn make_ready(&mut self, lun: u16) -> Result<()> {
        for _ in 0..8 {
            let outcome = self.command(lun, &[0; 6], &[], 0)?;
            if outcome.status == 0 {
                return Ok(());
            }
            ensure!(outcome.sense.get(2).is_some_and(|key| key & 0xf == 6), "sense {:02x?}", outcome.sense);
        }
        bail!("eight unit attentions in a row")
    }
}

/// A 16-byte CDB of the READ/WRITE family; `flags` is its byte 1.
pub(crate) fn cdb16(opcode: u8, flags: u8, lba: u64, blocks: u32) -> [u8; 16] {
    let mut cdb = [0; 16];
    cdb[0] = opcode;
    cdb[1] = flags;
    cdb[2..10].copy_from_slice(&lba.to_be_bytes());
    cdb[10..14].copy_from_slice(&blocks.to_be_bytes());
    cdb
}

pub(crate) fn connect(portal: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&portal, ANSWER_LIMIT).context("cannot connect")?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Header, header digest, data, padding, data digest in one piece.
pub(crate) fn frame(bhs: &[u8; 48], data: &[u8], header_digest: bool, data_digest: bool) -> Vec<u8> {
    let mut bytes = bhs.to_vec();
    if header_digest {
        bytes.extend_from_slice(&crc32c(bhs).to_le_bytes());
    }
    let start = bytes.len();
    bytes.extend_from_slice(data);
    bytes.resize(start + data.len().next_multiple_of(4), 0);
    if data_digest && !data.is_empty() {
        let digest = crc32c(&bytes[start..]);
        bytes.extend_from_slice(&digest.to_le_bytes());
    }
    bytes
}

/// Receives one PDU from any connection.
pub(crate) fn receive(stream: &mut TcpStream, header_digest: bool, data_digest: bool) -> Result<Pdu> {
    let mut bhs = [0; 48];
    stream.read_exact(&mut bhs).context("the target sent no further PDU")?;
    let mut additional = vec![0; usize::from(bhs[4]) * 4];
    stream.read_exact(&mut additional)?;
    if header_digest {
        let mut digest = [0; 4];
        stream.read_exact(&mut digest)?;
        ensure!(u32::from_le_bytes(digest) == crc32c(&[&bhs[..], &additional].concat()), "header digest error");
    }
    let length = u32::from_be_bytes([0, bhs[5], bhs[6], bhs[7]]) as usize;
    ensure!(length <= RECEIVE_SEGMENT_BYTES as usize, "a data segment of {length} bytes");
    let mut data = vec![0; length.next_multiple_of(4)];
    stream.read_exact(&mut data)?;
    if data_digest && length > 0 {
        let mut digest = [0; 4];
        stream.read_exact(&mut digest)?;
        ensure!(u32::from_le_bytes(digest) == crc32c(&data), "data digest error");
    }
    data.truncate(length);
    Ok(Pdu { bhs, data })
}

/// CRC32C bit by bit, reflected, as RFC 7143 12.1 describes it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ (0x82f6_3b78 & 0u32.wrapping_sub(crc & 1)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_that_of_the_rfc() {
        // RFC 7143 A.4: 32 bytes of zeroes, of ones, and counting up.
        assert_eq!(crc32c(&[0; 32]).to_le_bytes(), [0xaa, 0x36, 0x91, 0x8a]);
        assert_eq!(crc32c(&[0xff; 32]).to_le_bytes(), [0x43, 0xab, 0xa8, 0x62]);
        let counting: Vec<u8> = (0..32).collect();
        assert_eq!(crc32c(&counting).to_le_bytes(), [0x4e, 0x79, 0xdd, 0x46]);
    }

    #[test]
    fn a_frame_is_padded_before_its_data_digest() {
        let bytes = frame(&header(OP_NOP_OUT, 0x80, 5), b"12345", true, true);
        assert_eq!(bytes.len(), 48 + 4 + 8 + 4);
        assert_eq!(bytes[5..8], [0, 0, 5]);
    }
}

//! A target with scripted connections: PDUs in, events and PDUs out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use scsi_core::{Lun, Status};

use crate::digest::Digests;
use crate::frame::{Framer, Limits};
use crate::login::{LoginConfig, LoginPolicy, Preferences};
use crate::pdu::*;
use crate::sn::{CmdSn, DataSn, StatSn};
use crate::target::*;

pub(super) const INITIATOR: &str = "iqn.2026-11.org.example:initiator";
pub(super) const TARGET: &str = "iqn.2026-11.org.example:target";
pub(super) const ISID: Isid = Isid([0x80, 1, 2, 3, 0, 1]);
pub(super) const FIRST: u32 = 0xffff_fffd;

/// An initiator's end of one connection.
pub(super) struct Peer {
    pub(super) encoder: Encoder,
    pub(super) framer: Framer,
}

impl Peer {
    fn new() -> Self {
        let limits = Limits { max_data_segment_length: 0xff_ffff, max_ahs_length: MAX_AHS_LEN };
        Self { encoder: Encoder::new(), framer: Framer::new(limits) }
    }

    fn with_digests(mut self, digests: Digests) -> Self {
        self.encoder.set_digests(digests);
        self.framer.set_digests(digests);
        self
    }

    pub(super) fn encode(&mut self, pdu: impl Into<InitiatorPdu>) -> Bytes {
        let mut out = Vec::new();
        self.encoder.encode(&pdu.into(), &mut out).unwrap();
        self.encoder.finish(&mut out);
        out.concat().into()
    }

    pub(super) fn decode(&mut self, bytes: Vec<Bytes>) -> Vec<TargetPdu> {
        bytes.into_iter().for_each(|chunk| self.framer.handle_received(chunk));
        let mut pdus = Vec::new();
        while let Some(frame) = self.framer.poll_frame().unwrap() {
            assert!(frame.data_digest.is_ok());
            pdus.push(TargetPdu::decode(frame).unwrap());
        }
        pdus
    }
}

/// A session with one connection or several.
pub(super) struct Rig {
    pub(super) session: Session,
    pub(super) key: ConnectionKey,
    pub(super) peers: Vec<(ConnectionKey, Peer)>,
    pub(super) now: Instant,
    pub(super) cmd_sn: u32,
    next_tag: u32,
}

pub(super) struct Options {
    pub(super) keys: Vec<(&'static str, &'static str)>,
    pub(super) session: SessionConfig,
    pub(super) preferences: Preferences,
    pub(super) is_discovery: bool,
}

impl Default for Options {
    fn default() -> Self {
        let mut preferences = Preferences::default();
        preferences.session.task_reporting = crate::login::TaskReporting::FastAbort;
        Self { keys: Vec::new(), session: SessionConfig::default(), preferences, is_discovery: false }
    }
}

pub(super) fn connection_config(preferences: Preferences) -> ConnectionConfig {
    ConnectionConfig {
        login: Arc::new(LoginConfig { preferences, ..LoginConfig::default() }),
        ..ConnectionConfig::default()
    }
}

pub(super) fn login_request(text: &str, tsih: Tsih, cid: u16, cmd_sn: u32) -> LoginRequest {
    LoginRequest {
        flags: LoginFlags {
            transit: true,
            is_continued: false,
            current: Stage::OPERATIONAL_NEGOTIATION,
            next: Stage::FULL_FEATURE_PHASE,
        },
        isid: ISID,
        tsih,
        cid: Cid(cid),
        initiator_task_tag: InitiatorTaskTag(1),
        cmd_sn: CmdSn(cmd_sn),
        exp_stat_sn: StatSn(0),
        data: Bytes::copy_from_slice(text.as_bytes()).into(),
        ..LoginRequest::default()
    }
}

pub(super) fn login_text(options: &Options) -> String {
    let mut text = format!("InitiatorName={INITIATOR}\0");
    match options.is_discovery {
        true => text.push_str("SessionType=Discovery\0"),
        false => text.push_str(&format!("TargetName={TARGET}\0SessionType=Normal\0")),
    }
    for (key, value) in &options.keys {
        text.push_str(&format!("{key}={value}\0"));
    }
    text
}

/// Logs a connection in up to its last response, which the session sends.
pub(super) fn negotiate(options: &Options, tsih: Tsih, cid: u16, cmd_sn: u32, now: Instant) -> (Connection, Peer) {
    let mut connection = Connection::new(connection_config(options.preferences), now);
    let mut peer = Peer::new();
    let mut text = login_text(options);
    loop {
        let bytes = peer.encode(login_request(&text, tsih, cid, cmd_sn));
        connection.handle_received(bytes);
        text.clear();
        while let Some(event) = connection.poll_event() {
            match event {
                ConnectionEvent::Identify(_) => {
                    let session = (!tsih.is_new()).then(Default::default);
                    let tag = (!options.is_discovery).then_some(1);
                    connection.accept(LoginPolicy { session, ..LoginPolicy::open(tag) });
                }
                ConnectionEvent::Negotiated(_) => return (connection, peer),
                other => panic!("{other:?}"),
            }
        }
        let mut out = Vec::new();
        connection.poll_transmit(&mut out);
        peer.decode(out);
    }
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(Options::default())
    }

    pub(super) fn keys(keys: &[(&'static str, &'static str)]) -> Self {
        Self::with(Options { keys: keys.to_vec(), ..Options::default() })
    }

    pub(super) fn with(options: Options) -> Self {
        let now = Instant::now();
        let (connection, peer) = negotiate(&options, Tsih::NEW, 0, FIRST, now);
        let (session, key) = Session::establish(connection, options.session, Tsih(7), now).unwrap();
        let mut rig = Self { session, key, peers: vec![(key, peer)], now, cmd_sn: FIRST, next_tag: 0x100 };
        let replies = rig.replies();
        assert!(matches!(&replies[..], [TargetPdu::LoginResponse(response)] if response.tsih == Tsih(7)));
        rig.use_digests(key);
        rig
    }

    fn use_digests(&mut self, key: ConnectionKey) {
        let digests = self.session.links.get(key).unwrap().parameters.digests;
        let (_, peer) = self.peers.iter_mut().find(|(other, _)| *other == key).unwrap();
        *peer = Peer::new().with_digests(digests);
    }

    /// Adds a connection; its login response is taken.
    pub(super) fn join(&mut self, cid: u16) -> ConnectionKey {
        let (connection, peer) = negotiate(&Options::default(), Tsih(7), cid, self.cmd_sn, self.now);
        let key = self.session.join(connection, self.now).unwrap();
        self.peers.push((key, peer));
        let replies = self.replies_on(key);
        assert!(matches!(&replies[..], [TargetPdu::LoginResponse(_)]), "{replies:?}");
        self.use_digests(key);
        key
    }

    pub(super) fn peer(&mut self, key: ConnectionKey) -> &mut Peer {
        &mut self.peers.iter_mut().find(|(other, _)| *other == key).unwrap().1
    }

    pub(super) fn send(&mut self, pdu: impl Into<InitiatorPdu>) {
        self.send_on(self.key, pdu);
    }

    pub(super) fn send_on(&mut self, key: ConnectionKey, pdu: impl Into<InitiatorPdu>) {
        let bytes = self.peer(key).encode(pdu);
        self.session.handle_received(key, self.now, bytes);
    }

    pub(super) fn events(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.session.poll_event()).collect()
    }

    pub(super) fn replies(&mut self) -> Vec<TargetPdu> {
        self.replies_on(self.key)
    }

    pub(super) fn replies_on(&mut self, key: ConnectionKey) -> Vec<TargetPdu> {
        let mut out = Vec::new();
        while self.session.poll_transmit(key, self.now, &mut out) > 0 {}
        self.peer(key).decode(out)
    }

    pub(super) fn tag(&mut self) -> InitiatorTaskTag {
        self.next_tag += 1;
        InitiatorTaskTag(self.next_tag)
    }

    pub(super) fn number(&mut self) -> CmdSn {
        let number = CmdSn(self.cmd_sn);
        self.cmd_sn = self.cmd_sn.wrapping_add(1);
        number
    }

    pub(super) fn command(&mut self, flags: ScsiCommandFlags, length: u32) -> ScsiCommand {
        ScsiCommand {
            flags,
            lun: Lun::ZERO,
            initiator_task_tag: self.tag(),
            expected_data_transfer_length: length,
            cmd_sn: self.number(),
            ..ScsiCommand::default()
        }
    }

    pub(super) fn read_command(&mut self, length: u32) -> ScsiCommand {
        self.command(ScsiCommandFlags::FINAL | ScsiCommandFlags::READ, length)
    }

    pub(super) fn write_command(&mut self, length: u32) -> ScsiCommand {
        self.command(ScsiCommandFlags::FINAL | ScsiCommandFlags::WRITE, length)
    }

    /// Sends a command and gives the task of its event.
    pub(super) fn open(&mut self, command: ScsiCommand) -> TaskHandle {
        self.send(command);
        task(&self.events())
    }

    pub(super) fn read(&mut self, length: u32) -> TaskHandle {
        let command = self.read_command(length);
        self.open(command)
    }

    pub(super) fn write(&mut self, length: u32) -> TaskHandle {
        let command = self.write_command(length);
        self.open(command)
    }

    pub(super) fn good(&mut self, task: TaskHandle, length: u64) {
        self.session.send_status(task, TaskStatus::new(Status::GOOD, length));
    }

    pub(super) fn management(
        &mut self,
        function: TaskManagementFunctionCode,
        immediate: bool,
    ) -> TaskManagementRequest {
        TaskManagementRequest {
            immediate,
            function,
            initiator_task_tag: self.tag(),
            cmd_sn: if immediate { CmdSn(self.cmd_sn) } else { self.number() },
            ..TaskManagementRequest::default()
        }
    }

    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.session.handle_timeout(self.now);
    }

    /// The window as the initiator was last told: ExpCmdSN and MaxCmdSN.
    pub(super) fn window(&self) -> (u32, u32) {
        (self.session.window.expected().0, self.session.window.max().0)
    }
}

/// The task of the first command among events.
pub(super) fn task(events: &[Event]) -> TaskHandle {
    events
        .iter()
        .find_map(|event| match event {
            Event::Command(command) => Some(command.task),
            _ => None,
        })
        .unwrap_or_else(|| panic!("no command in {events:?}"))
}

pub(super) fn data_out(
    tag: InitiatorTaskTag,
    transfer: TargetTransferTag,
    sn: u32,
    offset: u32,
    length: usize,
) -> DataOut {
    DataOut {
        is_final: true,
        initiator_task_tag: tag,
        target_transfer_tag: transfer,
        data_sn: DataSn(sn),
        buffer_offset: offset,
        data: payload(offset, length).into(),
        ..DataOut::default()
    }
}

/// Bytes that tell where they belong.
pub(super) fn payload(offset: u32, length: usize) -> Bytes {
    (offset..offset + length as u32).map(|at| (at % 251) as u8).collect::<Vec<u8>>().into()
}

pub(super) fn r2ts(replies: &[TargetPdu]) -> Vec<R2t> {
    replies
        .iter()
        .filter_map(|pdu| match pdu {
            TargetPdu::R2t(r2t) => Some(r2t.clone()),
            _ => None,
        })
        .collect()
}

pub(super) fn response(replies: &[TargetPdu]) -> ScsiResponse {
    match replies {
        [TargetPdu::ScsiResponse(response)] => response.clone(),
        other => panic!("{other:?}"),
    }
}

pub(super) fn reject_reason(replies: &[TargetPdu]) -> RejectReason {
    match replies {
        [TargetPdu::Reject(reject)] => reject.reason,
        other => panic!("{other:?}"),
    }
}

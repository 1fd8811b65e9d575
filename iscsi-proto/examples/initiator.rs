//! An initiator over a plain socket: the run loop that a host writes around [`iscsi_proto::initiator::Session`].
//!
//! ```text
//! cargo run -p iscsi-proto --example initiator -- 127.0.0.1:3260                     # which targets are there?
//! cargo run -p iscsi-proto --example initiator -- 127.0.0.1:3260 iqn.... [LUN]       # INQUIRY, capacity, read speed
//! cargo run -p iscsi-proto --example initiator -- 127.0.0.1:3260 iqn.... LUN verify  # overwrites the disk!
//! ```
//!
//! `ISCSI_USER` and `ISCSI_SECRET` are used for CHAP where the target asks for it, with the algorithms of `ISCSI_CHAP`
//! (5 for MD5, 6 SHA-1, 7 SHA-256, 8 SHA3-256); `ISCSI_TARGET_SECRET` makes it mutual; `ISCSI_DIGESTS=1` demands
//! digests.

use std::env;
use std::error::Error;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime};

use bytes::{Bytes, BytesMut};
use iscsi_proto::auth::chap::{Algorithm, Credentials, Secret};
use iscsi_proto::initiator::{
    Command, ConnectionKey, Event, LoginConfig, Outcome, Response, Session, SessionConfig, TargetProof, TaskKey,
};
use iscsi_proto::login::DigestPreference;
use iscsi_proto::pdu::Isid;
use scsi_core::{Lun, Status};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A session and its one socket.
struct Client {
    session: Session,
    connection: ConnectionKey,
    socket: TcpStream,
    buffer: BytesMut,
}

impl Client {
    fn connect(address: &str, config: LoginConfig) -> Result<Self> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        let mut session = Session::new(SessionConfig::new(config), 1);
        let connection = session.connect(Instant::now());
        let mut client = Self { session, connection, socket, buffer: BytesMut::new() };
        match client.run_until(|event| matches!(event, Event::LoggedIn { .. } | Event::LoginFailed { .. }))? {
            Event::LoginFailed { error, .. } => Err(error.into()),
            _ => Ok(client),
        }
    }

    /// The run loop: transmit, receive, deadlines, until the event that is waited for.
    fn run_until(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Event> {
        loop {
            while let Some(event) = self.session.poll_event() {
                if wanted(&event) {
                    return Ok(event);
                }
                if let Event::Close { reason, .. } = event {
                    return Err(format!("the connection ended: {reason}").into());
                }
            }
            let mut out = Vec::new();
            while self.session.poll_transmit(Instant::now(), self.connection, &mut out) > 0 {
                out.drain(..).try_for_each(|bytes| self.socket.write_all(&bytes))?;
            }
            let deadline = self.session.poll_timeout();
            let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1)));
            self.socket.set_read_timeout(wait)?;
            // As much as is there, in chunks that payloads can be slices of.
            self.buffer.resize(1 << 20, 0);
            match self.socket.read(&mut self.buffer) {
                Ok(0) => return Err("the target closed the connection".into()),
                Ok(length) => {
                    let chunk = self.buffer.split_to(length).freeze();
                    self.session.handle_received(Instant::now(), self.connection, chunk);
                }
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                    self.session.handle_timeout(Instant::now());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn finish(&mut self, task: TaskKey) -> Result<Response> {
        match self.run_until(|event| matches!(event, Event::TaskDone { task: done, .. } if *done == task))? {
            Event::TaskDone { outcome: Outcome::Response(response), .. } => Ok(response),
            other => Err(format!("{other:?}").into()),
        }
    }

    /// Runs a command; a unit attention is met once.
    fn command(&mut self, command: &Command) -> Result<Bytes> {
        for attempt in 0..3 {
            let task = self.session.submit(command.clone())?;
            let response = self.finish(task)?;
            let key = response.sense.get(2).map(|byte| byte & 0xf);
            match (response.status, key) {
                (Status::GOOD, _) => return Ok(response.data_in.to_bytes()),
                (Status::CHECK_CONDITION, Some(6)) if attempt < 2 => {}
                (status, _) => return Err(format!("{status}, sense {:02x?}", &response.sense[..]).into()),
            }
        }
        Err("one unit attention after the other".into())
    }
}

fn main() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let Some(address) = arguments.first() else {
        return Err("usage: initiator HOST:PORT [TARGET [LUN [verify]]]".into());
    };
    let random = SystemTime::UNIX_EPOCH.elapsed()?.as_nanos();
    let mut config = login_config(arguments.get(1).map(String::as_str), random);
    if env::var_os("ISCSI_DIGESTS").is_some() {
        config.preferences.header_digest = DigestPreference::Require;
        config.preferences.data_digest = DigestPreference::Require;
    }
    let mut client = Client::connect(address, config)?;
    match arguments.get(1) {
        None => discover(&mut client)?,
        Some(_) => {
            let lun = arguments.get(2).map_or(Ok(0), |lun| lun.parse())?;
            let lun = Lun::new(lun).ok_or("a LUN goes from 0 to 16383")?;
            use_disk(&mut client, lun, arguments.get(3).is_some_and(|word| word == "verify"))?;
        }
    }
    client.session.logout()?;
    // Some targets close the connection without an answer; either way we are out.
    let _ = client.run_until(|event| matches!(event, Event::LoggedOut { .. }));
    Ok(())
}

fn login_config(target: Option<&str>, random: u128) -> LoginConfig {
    let bytes = random.to_le_bytes();
    let isid = Isid::random([bytes[0], bytes[1], bytes[2]], 1);
    let mut config = LoginConfig::new("iqn.2026-11.org.lunette:example", target, isid);
    let credentials = |name: String, secret: &str| env::var(secret).ok().map(|secret| (name, Secret::new(secret)));
    let user = env::var("ISCSI_USER").unwrap_or_default();
    config.credentials = credentials(user, "ISCSI_SECRET").map(|(name, secret)| Credentials { name, secret });
    if let Ok(list) = env::var("ISCSI_CHAP") {
        config.algorithms = list.split(',').filter_map(|number| number.parse().ok().map(Algorithm)).collect();
    }
    config.target_proof = credentials(String::new(), "ISCSI_TARGET_SECRET").map(|(name, secret)| TargetProof {
        credentials: Credentials { name, secret },
        identifier: bytes[3],
        // A real host takes these from the system's random numbers.
        challenge: bytes.repeat(2),
    });
    config
}

fn discover(client: &mut Client) -> Result<()> {
    client.session.send_targets("All")?;
    let event = client.run_until(|event| matches!(event, Event::Targets { .. }))?;
    if let Event::Targets { targets: Some(targets), .. } = event {
        for target in targets {
            println!("{} {}", target.name, target.addresses.join(" "));
        }
    }
    Ok(())
}

fn use_disk(client: &mut Client, lun: Lun, verify: bool) -> Result<()> {
    let command = |cdb: Vec<u8>, data_in_length| Command { lun, cdb, data_in_length, ..Command::default() };
    let inquiry = client.command(&command(vec![0x12, 0, 0, 0, 96, 0], 96))?;
    let text = |range: std::ops::Range<usize>| {
        String::from_utf8_lossy(inquiry.get(range).unwrap_or_default()).trim().to_owned()
    };
    println!("{} {} {}", text(8..16), text(16..32), text(32..36));

    let mut cdb = vec![0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x10, 32);
    let capacity = client.command(&command(cdb, 32))?;
    let Some((last, block)) = capacity.first_chunk::<8>().zip(capacity.get(8..12)) else {
        return Err("a short answer to READ CAPACITY".into());
    };
    let blocks = u64::from_be_bytes(*last) + 1;
    let block = u32::from_be_bytes(block.try_into()?);
    println!("{blocks} blocks of {block} bytes");

    let transfer = |opcode: u8, lba: u64, count: u32| {
        let mut cdb = vec![opcode, 0];
        cdb.extend(lba.to_be_bytes());
        cdb.extend(count.to_be_bytes());
        cdb.extend([0, 0]);
        cdb
    };
    let span = (1 << 20) / block;
    let spans = (blocks / u64::from(span)).min(64);
    let mut sizes = vec![span];
    if verify {
        sizes.extend([1, 7, span / 2 + 1]);
        for (round, &count) in sizes.iter().enumerate() {
            for index in 0..spans {
                let data = pattern((count * block) as usize, index * 31 + round as u64);
                let lba = index * u64::from(span);
                let data_out = data.clone().into();
                client.command(&Command { lun, cdb: transfer(0x8a, lba, count), data_out, ..Command::default() })?;
                let read = client.command(&command(transfer(0x88, lba, count), count * block))?;
                if read != data {
                    return Err(format!("what was read at block {lba} is not what was written").into());
                }
            }
        }
        println!("{} writes read back as written", sizes.len() as u64 * spans);
    }
    let start = Instant::now();
    let tasks: Vec<TaskKey> = (0..spans)
        .map(|index| client.session.submit(command(transfer(0x88, index * u64::from(span), span), span * block)))
        .collect::<std::result::Result<_, _>>()?;
    let mut open = tasks.len();
    while open > 0 {
        client.run_until(|event| matches!(event, Event::TaskDone { .. }))?;
        open -= 1;
    }
    println!("{spans} reads of 1 MiB in {:?}", start.elapsed());
    Ok(())
}

fn pattern(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(length).collect::<Vec<u8>>().into()
}

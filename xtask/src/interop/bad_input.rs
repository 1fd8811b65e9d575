//! Peers that break the rules: each costs bounded memory and time, gets the RFC's answer, and disturbs nobody else.

use super::Check;
use super::target::{Kind, Target};
use super::wire::{self, Initiator, OP_LOGIN, OP_LOGIN_RESPONSE, OP_REJECT, Pdu, Settings, connect, header};
use anyhow::{Context, Result, ensure};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// How long a login may stay unfinished before the target must have closed the connection.
const LOGIN_LIMIT: Duration = Duration::from_secs(45);

/// How long another session's small read may take while a peer misbehaves.
const NEIGHBOUR_LIMIT: Duration = Duration::from_secs(5);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "bad-input/truncated-pdu",
        claim: "a connection that ends inside a PDU, before and after login, disturbs nobody",
        needs: &[],
        peers: true,
        run: truncated,
    },
    Check {
        name: "bad-input/oversized-data-segment",
        claim: "a data segment over the declared maximum is refused without being buffered",
        needs: &[],
        peers: true,
        run: oversized,
    },
    Check {
        name: "bad-input/unknown-opcode",
        claim: "an unknown opcode ends a login, and after login is rejected while the session goes on",
        needs: &[],
        peers: true,
        run: unknown_opcode,
    },
    Check {
        name: "bad-input/noise",
        claim: "random bytes on a hundred connections disturb nobody",
        needs: &[],
        peers: true,
        run: noise,
    },
    Check {
        name: "bad-input/half-open-logins",
        claim: "10,000 half-open logins cost bounded memory, others go on, and a newcomer gets in afterwards",
        needs: &[],
        peers: true,
        run: half_open,
    },
    Check {
        name: "bad-input/endless-login",
        claim: "a login that negotiates for ever, or sends text for ever, or nothing at all, is ended",
        needs: &[],
        peers: true,
        run: endless_login,
    },
];

/// Another initiator that must not notice anything.
struct Neighbour {
    session: Initiator,
    lun: u16,
}

impl Neighbour {
    fn new(target: &Target) -> Result<Self> {
        let mut session = Initiator::login(&Settings::new(target.portal(), target.iqn(), "neighbour"))?;
        session.make_ready(target.lun())?;
        Ok(Self { session, lun: target.lun() })
    }

    fn reads(&mut self) -> Result<()> {
        let started = Instant::now();
        self.session.read(self.lun, 0, 8).context("the neighbour's session broke")?;
        let took = started.elapsed();
        ensure!(took < NEIGHBOUR_LIMIT, "the neighbour waited {took:?} for 4 KiB");
        Ok(())
    }
}

fn settings(target: &Target, name: &str) -> Settings {
    Settings::new(target.portal(), target.iqn(), name)
}

fn truncated(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        let login = settings(target, "cut").login_request(0x87, "");
        for length in [1, 20, 47, 48, login.len() - 1] {
            connect(target.portal())?.write_all(&login[..length])?;
            neighbour.reads()?;
        }
        let mut write = header(wire::OP_SCSI_COMMAND, 0xa1, 4096);
        write[8..10].copy_from_slice(&target.lun().to_be_bytes());
        write[20..24].copy_from_slice(&4096u32.to_be_bytes());
        write[24..28].copy_from_slice(&1u32.to_be_bytes());
        write[32..48].copy_from_slice(&wire::cdb16(0x8a, 0, 0, 8));
        let whole = wire::frame(&write, &[0xee; 4096], false, false);
        for length in [1, 47, 48, 49, 4096] {
            let mut session = Initiator::login(&settings(target, "cut"))?;
            session.stream().write_all(&whole[..length])?;
            drop(session);
            neighbour.reads()?;
        }
        Ok(())
    })
}

/// What the target does with a connection: PDUs until it closes or nothing comes for `limit`.
fn answers(stream: &mut TcpStream, limit: Duration) -> Result<(Vec<Pdu>, bool)> {
    stream.set_read_timeout(Some(limit))?;
    let mut pdus = Vec::new();
    loop {
        let mut probe = [0];
        match stream.peek(&mut probe) {
            Ok(0) => return Ok((pdus, true)),
            Ok(_) => match wire::receive(stream, false, false) {
                Ok(pdu) => pdus.push(pdu),
                Err(_) => return Ok((pdus, true)),
            },
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {
                return Ok((pdus, false));
            }
            Err(_) => return Ok((pdus, true)),
        }
    }
}

fn oversized(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        let before = target.resident_bytes()?;
        let mut held = Vec::new();
        let megabyte = vec![0x20; 1 << 20];
        for round in 0..32 {
            let mut stream = if round % 2 == 0 {
                connect(target.portal())?
            } else {
                Initiator::login(&settings(target, &format!("oversized-{round}")))?.stream().try_clone()?
            };
            let opcode = if round % 2 == 0 { OP_LOGIN | 0x40 } else { wire::OP_NOP_OUT };
            let mut bhs = header(opcode, if round % 2 == 0 { 0x87 } else { 0x80 }, 0xff_ffff);
            bhs[16..20].copy_from_slice(&9u32.to_be_bytes());
            bhs[20..24].copy_from_slice(&u32::MAX.to_be_bytes());
            bhs[24..28].copy_from_slice(&1u32.to_be_bytes());
            stream.set_write_timeout(Some(Duration::from_millis(300)))?;
            let mut taken = stream.write(&bhs).unwrap_or(0);
            // As much as the target takes of 16 MiB; a refusal shows as an error or as no progress.
            for _ in 0..16 {
                match stream.write(&megabyte) {
                    Ok(count) => taken += count,
                    Err(_) => break,
                }
            }
            let (pdus, closed) = answers(&mut stream, Duration::from_secs(2))?;
            let rejected = pdus.iter().any(|pdu| match pdu.opcode() {
                OP_REJECT => true,
                OP_LOGIN_RESPONSE => pdu.bhs[36] == 2,
                _ => false,
            });
            ensure!(closed || rejected, "round {round}: {taken} bytes taken, no refusal");
            held.push(stream);
            neighbour.reads()?;
        }
        let grown = target.resident_bytes()?.saturating_sub(before);
        ensure!(grown < 64 * MIB, "32 such connections cost {} MiB", grown / MIB);
        Ok(())
    })
}

fn unknown_opcode(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        // Before login anything but a Login Request ends the connection (RFC 7143 6.3: no other PDU may be sent).
        let mut stream = connect(target.portal())?;
        stream.write_all(&header(0x0b, 0x80, 0))?;
        let (_, closed) = answers(&mut stream, Duration::from_secs(10))?;
        ensure!(closed, "an unknown opcode before login left the connection open");
        neighbour.reads()?;
        let mut session = Initiator::login(&settings(target, "opcode"))?;
        session.make_ready(target.lun())?;
        let mut bhs = header(0x0b | 0x40, 0x80, 0);
        bhs[16..20].copy_from_slice(&77u32.to_be_bytes());
        session.send(&bhs, &[])?;
        let reject = session.receive()?;
        ensure!(reject.opcode() == OP_REJECT, "opcode {:#04x} instead of a Reject", reject.opcode());
        // Command not supported; RFC 7143 11.17.1.
        ensure!(reject.bhs[2] == 0x05, "Reject reason {:#04x}, not 0x05", reject.bhs[2]);
        ensure!(reject.data.get(..48) == Some(&bhs[..]), "the Reject does not carry the header");
        session.make_ready(target.lun()).context("the session after the Reject")?;
        neighbour.reads()
    })
}

fn noise(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        let before = target.resident_bytes()?;
        let mut source = std::fs::File::open("/dev/urandom")?;
        let mut bytes = vec![0; 65_536];
        for round in 0..100 {
            source.read_exact(&mut bytes)?;
            let mut stream = if round % 2 == 0 {
                connect(target.portal())?
            } else {
                Initiator::login(&settings(target, "noise"))?.stream().try_clone()?
            };
            stream.set_write_timeout(Some(Duration::from_millis(300)))?;
            let _ = stream.write_all(&bytes);
            neighbour.reads()?;
        }
        let grown = target.resident_bytes()?.saturating_sub(before);
        ensure!(grown < 64 * MIB, "a hundred noisy connections cost {} MiB", grown / MIB);
        Ok(())
    })
}

/// Raises our own limit of open files as far as the system lets us, and gives how many connections that allows.
fn descriptors() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    usize::try_from(now.saturating_sub(200)).unwrap_or(usize::MAX)
}

fn half_open(kind: Kind) -> Result<()> {
    let count = 10_000;
    let possible = descriptors();
    if possible < count {
        return Err(
            super::Skip(format!("this system allows {possible} open files, {count} are needed (ulimit -Hn)")).into()
        );
    }
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        let before = target.resident_bytes()?;
        let login = settings(target, "half-open").login_request(0x04, "");
        let mut held = Vec::with_capacity(count);
        let mut refused = 0;
        let started = Instant::now();
        for number in 0..count {
            // A target may refuse or close connections over its limit; it may not fall over.
            match TcpStream::connect_timeout(&target.portal(), Duration::from_secs(5)) {
                Ok(mut stream) => {
                    // Nothing, half a header, a header without its text, a first request whose answer nobody reads.
                    let part = [0, 24, 48, login.len()][number % 4];
                    let _ = stream.write_all(&login[..part]);
                    held.push(stream);
                }
                Err(_) => refused += 1,
            }
            if number % 500 == 0 {
                neighbour.reads().with_context(|| format!("with {number} half-open logins"))?;
            }
        }
        let grown = target.resident_bytes()?.saturating_sub(before);
        ensure!(grown < 256 * MIB, "{count} half-open logins cost {} MiB", grown / MIB);
        neighbour.reads()?;
        // A newcomer may have to wait until the first of the idle ones have been thrown out.
        let newcomer = settings(target, "newcomer");
        let mut last = None;
        let deadline = started + LOGIN_LIMIT + Duration::from_secs(15);
        while Instant::now() < deadline {
            match Initiator::login(&newcomer) {
                Ok(mut session) => return session.make_ready(target.lun()),
                Err(error) => last = Some(error),
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        let error = last.unwrap_or_else(|| anyhow::anyhow!("no attempt was made"));
        Err(error.context(format!("no newcomer got in; {refused} of {count} connections were refused")))
    })
}

fn endless_login(kind: Kind) -> Result<()> {
    Target::start(kind, 16 * MIB)?.examine(|target| {
        let mut neighbour = Neighbour::new(target)?;
        let before = target.resident_bytes()?;
        // Nothing at all, and half a header: opened first, looked at last.
        let mut silent = connect(target.portal())?;
        let mut half = connect(target.portal())?;
        half.write_all(&settings(target, "half").login_request(0x87, "")[..30])?;
        let opened = Instant::now();

        let rounds = negotiate_for_ever(target, 0x04, b"").context("empty requests in the operational stage")?;
        neighbour.reads()?;
        let text = vec![b'X'; 8000];
        // The C bit: more text of the same request follows.
        let pieces = negotiate_for_ever(target, 0x44, &text).context("text that never ends")?;
        neighbour.reads()?;

        for (what, stream) in [("a silent connection", &mut silent), ("half a header", &mut half)] {
            let left = (LOGIN_LIMIT + Duration::from_secs(5)).saturating_sub(opened.elapsed());
            let (_, closed) = answers(stream, left.max(Duration::from_millis(100)))?;
            ensure!(closed, "{what} is still open after {:.0?}", opened.elapsed());
        }
        let grown = target.resident_bytes()?.saturating_sub(before);
        ensure!(grown < 32 * MIB, "{rounds} rounds and {pieces} pieces cost {} MiB", grown / MIB);
        Ok(())
    })
}

/// Sends login requests that lead nowhere until the target ends it; gives how many it took.
fn negotiate_for_ever(target: &Target, flags: u8, text: &[u8]) -> Result<usize> {
    let mut stream = connect(target.portal())?;
    stream.write_all(&settings(target, "endless").login_request(0x04, ""))?;
    let started = Instant::now();
    let mut rounds = 0;
    loop {
        let Ok(answer) = wire::receive(&mut stream, false, false) else { return Ok(rounds) };
        ensure!(answer.opcode() == OP_LOGIN_RESPONSE, "opcode {:#04x}", answer.opcode());
        if answer.bhs[36] != 0 {
            return Ok(rounds);
        }
        ensure!(started.elapsed() < LOGIN_LIMIT, "{rounds} rounds in {:.0?} and no end", started.elapsed());
        rounds += 1;
        let mut bhs = header(OP_LOGIN | 0x40, flags, text.len());
        bhs[8..14].copy_from_slice(&answer.bhs[8..14]);
        bhs[16..20].copy_from_slice(&1u32.to_be_bytes());
        bhs[28..32].copy_from_slice(&answer.word(24).wrapping_add(1).to_be_bytes());
        if stream.write_all(&wire::frame(&bhs, text, false, false)).is_err() {
            return Ok(rounds);
        }
    }
}

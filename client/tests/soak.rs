//! Logins with random parameters and random I/O whose every byte is checked, for a while: `cargo xtask initiator-soak`.

mod common;

use common::{Peer, Program, SIZE};
use iscsi_proto::login::{DigestPreference, Preferences};
use lu_sbd::store::MemoryStore;
use lunette_client::{Disk, Operation, Options, TaskManagementFunction, discover};
use lunette_server::Server;
use std::ops::AddAssign;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Sessions at a time, each with a part of the disk for itself.
const SESSIONS: u64 = 3;

/// The part of a session, in units.
const PART_UNITS: u64 = SIZE / SESSIONS / UNIT;

/// What a target can bear, apart from what is legal.
#[derive(Clone, Copy, Debug)]
struct Manners {
    /// Lengths of segments and bursts are multiples of this many bytes.
    multiple: u32,
    /// ABORT TASK SET while commands of the session are outstanding; else when it has none.
    aborts_amid_commands: bool,
    /// LOGICAL UNIT RESET while commands of all sessions are outstanding; else never.
    resets_amid_commands: bool,
}

impl Manners {
    fn of(name: &str) -> Self {
        let all = Self { multiple: 1, aborts_amid_commands: true, resets_amid_commands: true };
        match name {
            // It does not count the padding of a Data-In: what follows a segment of 9,847 bytes comes a byte too late.
            // A reset amid the commands of several sessions is at times left without an answer.
            "tgt" => Self { multiple: 4, resets_amid_commands: false, ..all },
            // It numbers the responses of aborted commands but does not send them, and at a reset forgets commands of
            // other sessions without a unit attention to tell them. It sleeps for a second in every login, one after
            // the other: more sessions at a time make no more logins.
            "istgt" => Self { aborts_amid_commands: false, resets_amid_commands: false, ..all },
            _ => all,
        }
    }
}

/// What a generation number is kept for, in bytes.
const UNIT: u64 = 4096;

/// Steele, Lea and Flood's SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// Small numbers as likely as large ones, and none of them round more often than others.
    fn scaled(&mut self, low: u32, high: u32) -> u32 {
        let bits = u64::from(high.ilog2() - low.ilog2() + 1);
        let magnitude = u64::from(low) << self.below(bits);
        (magnitude + self.below(magnitude)).clamp(low.into(), high.into()) as u32
    }
}

fn mix(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    logins: u64,
    reconnects: u64,
    resets: u64,
    commands: u64,
    read_bytes: u64,
    written_bytes: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, other: Self) {
        self.logins += other.logins;
        self.reconnects += other.reconnects;
        self.resets += other.resets;
        self.commands += other.commands;
        self.read_bytes += other.read_bytes;
        self.written_bytes += other.written_bytes;
    }
}

fn preferences(random: &mut Random, multiple: u32) -> Preferences {
    let mut wanted = Preferences::default();
    let session = &mut wanted.session;
    session.max_connections = 1 + random.below(8) as u16;
    session.initial_r2t = random.one_in(2);
    session.immediate_data = random.one_in(2);
    // Mostly such as programs ask for, now and then any that is legal.
    session.max_burst_length = if random.one_in(4) { random.scaled(512, 16_777_215) } else { 8192 << random.below(11) };
    session.first_burst_length = random.scaled(512, 16_777_215).min(session.max_burst_length);
    session.max_outstanding_r2t = random.scaled(1, 65_535) as u16;
    session.default_time2wait = random.below(3) as u16;
    session.default_time2retain = random.below(30) as u16;
    session.data_pdu_in_order = random.one_in(2);
    session.data_sequence_in_order = random.one_in(2);
    let digest = |random: &mut Random| match random.below(4) {
        0 => DigestPreference::Refuse,
        1 => DigestPreference::PreferNone,
        _ => DigestPreference::Require,
    };
    wanted.header_digest = digest(random);
    wanted.data_digest = digest(random);
    wanted.max_recv_data_segment_length =
        if random.one_in(4) { random.scaled(512, 16_777_215) } else { 4096 << random.below(10) };
    let session = &mut wanted.session;
    for length in
        [&mut wanted.max_recv_data_segment_length, &mut session.max_burst_length, &mut session.first_burst_length]
    {
        *length -= *length % multiple;
    }
    wanted
}

fn fill(unit: u64, generation: u32, into: &mut Vec<u8>) {
    if generation == 0 {
        into.resize(into.len() + UNIT as usize, 0);
        return;
    }
    let seed = mix(unit << 32 | u64::from(generation));
    into.extend((0..UNIT / 8).flat_map(|word| mix(seed ^ word).to_le_bytes()));
}

/// A session's part of the disk, and what should be there.
struct Part {
    random: Random,
    first: u64,
    generations: Vec<u32>,
    /// The generation that was given last.
    last: u32,
    figures: Figures,
    manners: Manners,
}

impl Part {
    fn content(&self, unit: u64, units: u64) -> Vec<u8> {
        let mut bytes = Vec::with_capacity((units * UNIT) as usize);
        for unit in unit..unit + units {
            fill(self.first + unit, self.generations[unit as usize], &mut bytes);
        }
        bytes
    }

    fn offset(&self, unit: u64) -> u64 {
        (self.first + unit) * UNIT
    }

    /// Logs in, does something, logs out.
    fn round(&mut self, url: &str) -> Result<(), String> {
        let mut options: Options = url.parse().map_err(|error| format!("{error}"))?;
        options.preferences = preferences(&mut self.random, self.manners.multiple);
        options.command_timeout = Duration::from_secs(30);
        options.initiator_name = format!("iqn.2026-11.org.example:soak-{}", self.first);
        let wanted = options.preferences;
        let failed = |error: &dyn std::fmt::Display| format!("{error}\nwith {wanted:?}");
        if self.random.one_in(16) {
            let portal = format!("iscsi://{}:{}", options.host, options.port);
            let found = discover(&portal).map_err(|error| failed(&error))?;
            self.figures.logins += 1;
            if found.is_empty() {
                return Err("discovery found nothing".into());
            }
        }
        let disk = Disk::connect_with(options).map_err(|error| failed(&error))?;
        for _ in 0..self.random.below(5) {
            self.batch(&disk).map_err(|error| failed(&error))?;
        }
        self.figures.logins += disk.logins();
        self.figures.reconnects += disk.logins() - 1;
        disk.close().map_err(|error| failed(&error))
    }

    /// Several operations at once, no two on the same bytes, and perhaps an accident amid them.
    fn batch(&mut self, disk: &Disk) -> Result<(), String> {
        let slots = 1 + self.random.below(16);
        let room = PART_UNITS / slots;
        let mut begun = Vec::new();
        let geometry = disk.geometry();
        for slot in 0..slots {
            // Up to 1 MiB, mostly far less.
            let units = u64::from(self.random.scaled(1, 256)).min(room);
            let unit = slot * room + self.random.below(room - units + 1);
            let (offset, length) = (self.offset(unit), units * UNIT);
            let kind = self.random.below(10);
            let operation = if kind < 5 {
                for unit in unit..unit + units {
                    self.last += 1;
                    self.generations[unit as usize] = self.last;
                }
                self.figures.written_bytes += length;
                Operation::Write { offset, data: self.content(unit, units).into(), durable: self.random.one_in(8) }
            } else if kind == 5 && geometry.can_unmap && geometry.unmapped_reads_zero {
                self.generations[unit as usize..(unit + units) as usize].fill(0);
                Operation::Unmap { offset, length }
            } else {
                self.figures.read_bytes += length;
                Operation::Read { offset, length: length as usize }
            };
            let expected = matches!(operation, Operation::Read { .. }).then_some((unit, units));
            self.figures.commands += 1;
            begun.push((expected, disk.submit(operation).map_err(|error| error.to_string())?));
        }
        let amid = self.manners.aborts_amid_commands;
        if self.random.one_in(12) {
            disk.drop_connection();
        } else if amid && self.random.one_in(24) {
            self.abort(disk)?;
        }
        for (expected, pending) in begun {
            let reply = pending.wait().map_err(|error| error.to_string())?;
            if let Some((unit, units)) = expected {
                compare(&reply.to_bytes(), &self.content(unit, units), self.offset(unit))?;
            }
        }
        if !amid && self.random.one_in(24) {
            disk.manage(TaskManagementFunction::AbortTaskSet).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Ends the session's own commands, or everybody's.
    fn abort(&mut self, disk: &Disk) -> Result<(), String> {
        let everybody = self.manners.resets_amid_commands && self.random.one_in(4);
        let function = match everybody {
            true => TaskManagementFunction::LogicalUnitReset,
            false => TaskManagementFunction::AbortTaskSet,
        };
        self.figures.resets += u64::from(everybody);
        disk.manage(function).map(drop).map_err(|error| error.to_string())
    }

    /// All of the part, by a session without wishes.
    fn verify(&self, url: &str) -> Result<(), String> {
        let disk = Disk::connect(url).map_err(|error| error.to_string())?;
        for unit in (0..PART_UNITS - 64).step_by(64) {
            let read = disk.read(self.offset(unit), 64 * UNIT as usize).map_err(|error| error.to_string())?;
            compare(&read, &self.content(unit, 64), self.offset(unit))?;
        }
        disk.close().map_err(|error| error.to_string())
    }
}

fn compare(got: &[u8], wanted: &[u8], offset: u64) -> Result<(), String> {
    if got == wanted {
        return Ok(());
    }
    let at = got.iter().zip(wanted).position(|(got, wanted)| got != wanted).unwrap_or(got.len().min(wanted.len()));
    Err(format!("{} bytes at {offset} differ from byte {at} on", got.len()))
}

fn soak(url: &str, seed: u64, until: Instant, manners: Manners) -> Result<Figures, String> {
    let outcomes: Vec<Result<Figures, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..SESSIONS)
            .map(|session| {
                scope.spawn(move || {
                    let mut part = Part {
                        random: Random(mix(seed ^ mix(session + 1))),
                        first: session * PART_UNITS,
                        generations: vec![0; PART_UNITS as usize],
                        last: 0,
                        figures: Figures::default(),
                        manners,
                    };
                    while Instant::now() < until {
                        part.round(url)?;
                    }
                    part.verify(url)?;
                    Ok(part.figures)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err("a session panicked".into()))).collect()
    });
    let mut sum = Figures::default();
    for outcome in outcomes {
        sum += outcome?;
    }
    Ok(sum)
}

/// What is to be logged in to; it ends when it is dropped.
enum Target {
    Peer(Peer),
    Ours(Server),
}

impl Target {
    fn start(name: &str) -> Result<Self, String> {
        match name {
            "tgt" => Program::Tgt.start(false).map(Self::Peer),
            "istgt" => Program::Istgt.start(false).map(Self::Peer),
            "lunette" => Server::builder()
                .disk(lunette_server::Disk::new(MemoryStore::new(SIZE)))
                .portal(([127, 0, 0, 1], 0).into())
                .start()
                .map(Self::Ours)
                .map_err(|error| error.to_string()),
            other => Err(format!("no target '{other}'; there are tgt, istgt, lunette")),
        }
    }

    fn url(&self) -> String {
        match self {
            Self::Peer(peer) => peer.url(),
            Self::Ours(server) => server.url(0),
        }
    }
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| arguments.iter().position(|word| word == name).and_then(|at| arguments.get(at + 1));
    let number = |name: &str, default| value(name).and_then(|word| word.parse().ok()).unwrap_or(default);
    let (seconds, seed) = (number("--seconds", 20), number("--seed", 1));
    let name = value("--target").map_or("lunette", String::as_str);
    let target = match Target::start(name) {
        Ok(target) => target,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    match soak(&target.url(), seed, Instant::now() + Duration::from_secs(seconds), Manners::of(name)) {
        Ok(sum) => {
            let mib = |bytes: u64| bytes >> 20;
            println!(
                "{name}: {} logins, {} of them reconnects; {} commands, {} resets, {} MiB written, {} MiB read, no difference; \
                 {seconds} s, seed {seed}",
                sum.logins,
                sum.reconnects,
                sum.commands,
                sum.resets,
                mib(sum.written_bytes),
                mib(sum.read_bytes)
            );
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{name}, seed {seed}: {error}");
            ExitCode::FAILURE
        }
    }
}

//! Ways of bytes between a socket and a file or memory, each alone: what a copy costs and what it costs to do without.

use crate::Arguments;
use crate::load::cpu_seconds;
use anyhow::{Context, Result, ensure};
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::{SpliceFlags, splice};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// `O_DIRECT` of Linux, but for the few machines that number it otherwise.
const O_DIRECT: i32 = if cfg!(any(target_arch = "aarch64", target_arch = "arm")) { 0o200_000 } else { 0o40_000 };

const FILE_BYTES: u64 = 256 << 20;
const PAGE: usize = 4096;
const PIPE_BYTES: usize = 1 << 20;

/// What is at the other end of the socket, on processor 1.
#[derive(Clone, Copy)]
enum Peer {
    DropsAll,
    SendsOn,
}

/// Moves the file piece by piece, on processor 0; pieces that are sent lie at random places, those received in sequence.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let path: PathBuf = arguments.get("file")?.context("--file PATH is missing")?;
    let time = Duration::from_secs_f64(arguments.get("seconds")?.unwrap_or(1.0));
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&path)?;
    let piece = vec![0x5a; 1 << 20];
    for at in 0..FILE_BYTES >> 20 {
        file.write_all_at(&piece, at << 20)?;
    }
    file.sync_all()?;
    let direct = OpenOptions::new().read(true).write(true).custom_flags(O_DIRECT).open(&path);
    let (pipe_out, pipe_in) = rustix::pipe::pipe()?;
    // What a splice moves at a time; more is the administrator's to allow.
    rustix::pipe::fcntl_setpipe_size(&pipe_in, PIPE_BYTES)?;
    let mut memory = vec![0x5a; FILE_BYTES as usize];
    println!(
        "| pieces | read and send | sendfile | direct read and send | receive and write | receive and splice | receive and \
         write directly | receive and keep in memory |\n|---|---:|---:|---:|---:|---:|---:|---:|"
    );
    for bytes in [4 << 10, 64 << 10, 256 << 10] {
        let copied = measure(Peer::DropsAll, time, bytes, |stream, buffer, at| {
            file.read_exact_at(buffer, at)?;
            send(stream, buffer)
        })?;
        let sent = measure(Peer::DropsAll, time, bytes, |stream, _, at| {
            let (mut at, end) = (at, at + bytes as u64);
            while at < end {
                let left = (end - at) as usize;
                ensure!(rustix::fs::sendfile(stream, &file, Some(&mut at), left)? > 0, "the file ends");
            }
            Ok(())
        })?;
        // Not every file system has direct I/O.
        let said = |rate: Option<Result<u64>>| {
            rate.map_or_else(|| "-".to_owned(), |rate| rate.map_or_else(|e| e.to_string(), |rate| rate.to_string()))
        };
        let read_directly = said(direct.as_ref().ok().map(|direct: &File| {
            measure(Peer::DropsAll, time, bytes, |stream, buffer, at| {
                direct.read_exact_at(buffer, at)?;
                send(stream, buffer)
            })
        }));
        let mut next = (0..FILE_BYTES).step_by(bytes).cycle();
        let written = measure(Peer::SendsOn, time, bytes, |mut stream, buffer, _| {
            stream.read_exact(buffer)?;
            Ok(file.write_all_at(buffer, next.next().unwrap_or_default())?)
        })?;
        let spliced = measure(Peer::SendsOn, time, bytes, |stream, _, _| {
            let (mut at, mut left) = (next.next().unwrap_or_default(), bytes);
            while left > 0 {
                let mut held = splice(stream, None, &pipe_in, None, left, SpliceFlags::MOVE)?;
                ensure!(held > 0, "the other end has gone");
                left -= held;
                while held > 0 {
                    held -= splice(&pipe_out, None, &file, Some(&mut at), held, SpliceFlags::MOVE)?;
                }
            }
            Ok(())
        })?;
        let written_directly = said(direct.as_ref().ok().map(|direct: &File| {
            measure(Peer::SendsOn, time, bytes, |mut stream, buffer, _| {
                stream.read_exact(buffer)?;
                Ok(direct.write_all_at(buffer, next.next().unwrap_or_default())?)
            })
        }));
        let kept = measure(Peer::SendsOn, time, bytes, |mut stream, buffer, _| {
            stream.read_exact(buffer)?;
            let at = next.next().unwrap_or_default() as usize;
            memory[at..at + bytes].copy_from_slice(buffer);
            Ok(())
        })?;
        println!(
            "| {} KiB | {copied} | {sent} | {read_directly} | {written} | {spliced} | {written_directly} | {kept} |",
            bytes >> 10
        );
    }
    std::fs::remove_file(&path)?;
    Ok(())
}

fn send(stream: &TcpStream, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        let sent = rustix::net::send(stream, bytes, SendFlags::NOSIGNAL)?;
        bytes = &bytes[sent..];
    }
    Ok(())
}

/// Pieces a processor second of this end.
fn measure(
    peer: Peer,
    time: Duration,
    bytes: usize,
    mut one: impl FnMut(&TcpStream, &mut [u8], u64) -> Result<()>,
) -> Result<u64> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let stream = TcpStream::connect(listener.local_addr()?)?;
    let (mut other, _) = listener.accept()?;
    let works = std::thread::spawn(move || {
        crate::pin(1)?;
        let mut buffer = vec![0; 1 << 20];
        match peer {
            Peer::DropsAll => while rustix::net::recv(&other, &mut buffer[..], RecvFlags::TRUNC)?.1 > 0 {},
            // Until the other end has gone.
            Peer::SendsOn => while other.write_all(&buffer).is_ok() {},
        }
        Ok::<(), anyhow::Error>(())
    });
    crate::pin(0)?;
    // Direct reads want a buffer at the start of a page.
    let mut memory = vec![0; bytes + PAGE];
    let start = memory.as_ptr().align_offset(PAGE);
    let buffer = &mut memory[start..start + bytes];
    let (mut count, mut random) = (0, 88_172_645_463_325_252_u64);
    let (began, before) = (Instant::now(), cpu_seconds("thread-self")?);
    while began.elapsed() < time {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        one(&stream, buffer, (random >> 20) % (FILE_BYTES / bytes as u64) * bytes as u64)?;
        count += 1;
    }
    let used = cpu_seconds("thread-self")? - before;
    drop(stream);
    works.join().ok().context("the other end panicked")??;
    ensure!(used > 0.0, "too short to tell");
    Ok((f64::from(count) / used) as u64)
}

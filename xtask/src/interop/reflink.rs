//! Copies on a file system that can share extents: made here, in a file, on a loop device.

use super::target::{Kind, Target};
use super::wire::{Initiator, Settings};
use super::{Check, Skip};
use crate::packages::Need;
use crate::process::{capture, find};
use crate::scratch::Scratch;
use anyhow::{Context, Result, ensure};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

const MIB: u64 = 1 << 20;
/// What is copied.
const COPY_BYTES: u64 = 1 << 30;
/// Blocks of one segment: as many as fit 16 bits and end with a block of the file system.
const SEGMENT_BLOCKS: u64 = 65528;

pub(super) const CHECKS: &[Check] = &[Check {
    name: "copy/reflink",
    claim: "EXTENDED COPY of 1 GiB between two units on a file system with reflinks shares extents",
    needs: &[Need::Xfs],
    peers: false,
    run: shares_extents,
}];

/// A file system in a file; unmounted when dropped.
struct Mounted {
    directory: PathBuf,
}

impl Mounted {
    fn new(scratch: &Scratch) -> Result<Self> {
        let skip = |reason: String| Skip(format!("no file system with reflinks can be mounted here: {reason}"));
        if !rustix::process::geteuid().is_root() {
            return Err(skip("only root may".into()).into());
        }
        let image = scratch.sparse_file("reflink.img", 3 << 30)?;
        let directory = scratch.join("reflink");
        std::fs::create_dir(&directory)?;
        let run = |program: &str, arguments: &[&str]| -> Result<()> {
            let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
            let output = output.map_err(|error| skip(format!("{program}: {error}")))?;
            if !output.status.success() {
                let words = String::from_utf8_lossy(&output.stderr);
                return Err(skip(format!("{program}: {}", words.trim())).into());
            }
            Ok(())
        };
        let (image, path) = (image.display().to_string(), directory.display().to_string());
        run("mkfs.xfs", &["-q", "-m", "reflink=1", &image])?;
        run("mount", &["-t", "xfs", "-o", "loop", &image, &path])?;
        Ok(Self { directory })
    }

    /// Bytes in use.
    fn used(&self) -> Result<u64> {
        // What was written is on its way until then.
        let root = File::open(&self.directory)?;
        rustix::fs::syncfs(&root)?;
        let stat = rustix::fs::statvfs(&self.directory)?;
        Ok((stat.f_blocks - stat.f_bfree) * stat.f_frsize)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.directory).status();
    }
}

/// Fills a file with blocks of 64 KiB that are all different.
fn fill(path: &Path) -> Result<()> {
    let mut file = File::create(path)?;
    for index in 0..COPY_BYTES / 65536 {
        file.write_all(&piece(index))?;
    }
    Ok(file.sync_all()?)
}

fn piece(index: u64) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut piece = Vec::with_capacity(65536);
    while piece.len() < 65536 {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        piece.extend_from_slice(&state.to_le_bytes());
    }
    piece
}

fn shares_extents(kind: Kind) -> Result<()> {
    let scratch = Scratch::new("reflink")?;
    let mounted = Mounted::new(&scratch)?;
    Target::start_configured(kind, 16 * MIB, None)?.examine(|target| {
        let (one, two) = (mounted.directory.join("one"), mounted.directory.join("two"));
        fill(&one)?;
        let create = |path: &Path, lun: &str| -> Result<Vec<u8>> {
            let path = path.display().to_string();
            let said = target.administer(&["stmfadm", "create-lu", "--size", "1024M", &path])?;
            let guid = said.trim().rsplit(' ').next().unwrap_or_default().to_owned();
            target.administer(&["stmfadm", "add-view", "--lun", lun, &guid])?;
            let digits = guid.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap_or_default());
            let bytes: Result<Vec<u8>, _> = digits.map(|pair| u8::from_str_radix(pair, 16)).collect();
            bytes.context("create-lu printed no GUID")
        };
        let guids = [create(&one, "1")?, create(&two, "2")?];
        let before = mounted.used()?;
        let mut session = Initiator::login(&Settings::new(target.portal(), target.iqn(), "copier"))?;
        session.make_ready(1)?;
        session.make_ready(2)?;
        let list = copy_list(&guids);
        let mut cdb = [0; 16];
        cdb[0] = 0x83;
        cdb[10..14].copy_from_slice(&(list.len() as u32).to_be_bytes());
        let began = Instant::now();
        session.command(1, &cdb, &list, 0)?.good()?;
        let took = began.elapsed();
        let grown = mounted.used()?.saturating_sub(before);
        ensure!(grown < 64 * MIB, "the file system grew by {} MiB in {took:?}", grown / MIB);
        compare(&two)?;
        let read = session.read(2, 1024 * 128, 128)?;
        ensure!(read == piece(1024), "what is read differs from what was copied");
        if find("filefrag").is_some() {
            let told = capture("filefrag", &["-v", &two.display().to_string()])?;
            ensure!(told.contains("shared"), "no extent is shared:\n{told}");
        }
        Ok(())
    })
}

/// The parameter list of EXTENDED COPY(LID1) that copies all of the first unit to the second.
fn copy_list(guids: &[Vec<u8>; 2]) -> Vec<u8> {
    let mut list = vec![0; 16];
    list[0] = 1;
    for guid in guids {
        list.extend_from_slice(&[0xe4, 0, 0, 0, 1, 3, 0, 16]);
        list.extend_from_slice(guid);
        list.extend_from_slice(&[0, 0, 0, 0, 0, 0, 2, 0]);
    }
    list[2..4].copy_from_slice(&64u16.to_be_bytes());
    let (mut lba, blocks) = (0, COPY_BYTES / 512);
    while lba < blocks {
        let count = SEGMENT_BLOCKS.min(blocks - lba);
        list.extend_from_slice(&[2, 2, 0, 24, 0, 0, 0, 1, 0, 0]);
        list.extend_from_slice(&(count as u16).to_be_bytes());
        list.extend_from_slice(&lba.to_be_bytes());
        list.extend_from_slice(&lba.to_be_bytes());
        lba += count;
    }
    let segments = (list.len() - 80) as u32;
    list[8..12].copy_from_slice(&segments.to_be_bytes());
    list
}

/// Every sixteenth piece of the copy.
fn compare(path: &Path) -> Result<()> {
    let mut file = File::open(path)?;
    let mut read = vec![0; 65536];
    for index in (0..COPY_BYTES / 65536).step_by(16) {
        file.seek(SeekFrom::Start(index * 65536))?;
        file.read_exact(&mut read)?;
        ensure!(read == piece(index), "the copy differs at {}", index * 65536);
    }
    Ok(())
}

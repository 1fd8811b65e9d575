//! A disk that a machine boots from by its firmware alone: syslinux with a kernel and an initramfs on a FAT partition, and
//! an ext4 partition that the initramfs looks for. Made without mounts and without being root.
//!
//! An emulated processor (TCG) translates code once, and learns that it was overwritten from its own stores only, not from
//! those that a vhost-user server makes into the guest's memory. So nothing may be read to where something else ran before:
//! the code in the first sector has the second boot sector read elsewhere and copies it, and no program is run off the disk
//! after the kernel.

use super::image::copy_modules;
use crate::process::capture;
use anyhow::{Context, Result, ensure};
use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// What makes it, besides mke2fs of the system.
pub(super) const PACKAGES: &[&str] = &["mtools", "syslinux", "syslinux-common"];

/// What the first process prints when it has its root disk, before it powers off.
pub(super) const BOOTED: &str = "@@booted from /dev/sda2@@";

/// What the file on the root disk says.
const ROOT_WORDS: &str = "/dev/sda2";

const MODULES: &[&str] = &["virtio_pci", "virtio_scsi", "sd_mod", "ext4", "crc32c_generic"];

/// In sectors of 512 bytes: where the partitions begin and how long they are.
const FAT: (u32, u32) = (2048, 40 * 2048);
const ROOT: (u32, u32) = (FAT.0 + FAT.1, 16 * 2048);

const SYSLINUX: &str = "SERIAL 0 115200
DEFAULT linux
LABEL linux
  KERNEL linux
  APPEND initrd=initrd console=ttyS0 quiet panic=-1 rdinit=/init
";

const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec </dev/ttyS0 >/dev/ttyS0 2>&1
for module in virtio_pci virtio_scsi sd_mod crc32c_generic ext4; do modprobe $module; done
tries=0
while ! test -b /dev/sda2 && test $tries -lt 300; do sleep 0.1; tries=$((tries + 1)); done
mount -t ext4 -o ro /dev/sda2 /root || cat /proc/partitions
echo "@@booted from $(cat /root/words)@@"
poweroff -f
"#;

/// The first sector's code, as it lies at 0000:7c00 with the drive's number in DL.
const CODE: &[u8] = &[
    0xfa, 0x31, 0xc0, 0x8e, 0xd0, 0xbc, 0x00, 0x7c, // cli; xor ax, ax; mov ss, ax; mov sp, 7c00h
    0x8e, 0xd8, 0x8e, 0xc0, 0xfb, 0xfc, // mov ds, ax; mov es, ax; sti; cld
    0x89, 0xe6, 0xbf, 0x00, 0x06, 0xb9, 0x00, 0x01, 0xf3, 0xa5, // copy this sector to 0600h
    0xea, 0x1d, 0x06, 0x00, 0x00, // jmp 0000:061d, the next instruction there
    0xbe, 0x40, 0x06, 0xb4, 0x42, 0xcd, 0x13, 0x72, 0xfe, // read what the packet at 0640h says, or stop
    0xbe, 0x00, 0x90, 0xbf, 0x00, 0x7c, 0xb9, 0x00, 0x01, 0xf3, 0xa5, // copy it from 9000h to 7c00h
    0xbe, 0xbe, 0x07, // mov si, 07beh: the partition's entry
    0xea, 0x00, 0x7c, 0x00, 0x00, // jmp 0000:7c00
];

/// Where the packet for the firmware is: one sector to 0000:9000; the sector's number follows.
const PACKET: (usize, [u8; 8]) = (0x40, [16, 0, 1, 0, 0x00, 0x90, 0, 0]);

/// Whatever the disk depends on, besides the packages.
pub(super) fn recipe() -> String {
    format!("{MODULES:?}{FAT:?}{ROOT:?}{SYSLINUX}{INIT}{ROOT_WORDS}{CODE:?}")
}

/// Makes the disk of an unpacked system (`root`), a kernel, and the unpacked [`PACKAGES`] (`tools`).
pub(super) fn make(disk: &Path, root: &Path, release: &str, kernel: &Path, tools: &Path) -> Result<()> {
    let place = disk.with_extension("parts");
    let _ = fs::remove_dir_all(&place);
    let (small, system) = (place.join("initramfs"), place.join("system"));
    for tree in [&small, &system] {
        for directory in ["bin", "dev", "proc", "root", "sbin", "sys"] {
            fs::create_dir_all(tree.join(directory))?;
        }
    }
    fs::copy(root.join("bin/busybox"), small.join("bin/busybox")).context("no busybox unpacked")?;
    fs::write(system.join("words"), ROOT_WORDS)?;
    let init = small.join("init");
    fs::write(&init, INIT)?;
    fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
    copy_modules(root, release, MODULES, &small)?;
    let initramfs = place.join("initrd");
    pack(&small, &initramfs)?;
    let configuration = place.join("syslinux.cfg");
    fs::write(&configuration, SYSLINUX)?;

    let mut file = fs::File::create(disk)?;
    file.set_len(u64::from(ROOT.0 + ROOT.1) * 512)?;
    file.write_all(&first_sector())?;
    let offset = u64::from(FAT.0) * 512;
    let volume = format!("{}@@{offset}", disk.display());
    let (sectors, hidden) = (FAT.1.to_string(), FAT.0.to_string());
    run(tools, "mformat", &["-i", &volume, "-T", &sectors, "-h", "16", "-s", "63", "-H", &hidden, "::"])?;
    for (from, to) in [(kernel, "::linux"), (&initramfs, "::initrd"), (&configuration, "::syslinux.cfg")] {
        run(tools, "mcopy", &["-i", &volume, &from.display().to_string(), to])?;
    }
    run(tools, "syslinux", &["--offset", &offset.to_string(), "--install", &disk.display().to_string()])?;

    // mke2fs would cut a file short that is longer than the file system.
    let partition = place.join("ext4");
    let tree = system.display().to_string();
    fs::File::create(&partition)?.set_len(u64::from(ROOT.1) * 512)?;
    capture("mke2fs", &["-q", "-t", "ext4", "-d", &tree, &partition.display().to_string()])?;
    file.seek(SeekFrom::Start(u64::from(ROOT.0) * 512))?;
    std::io::copy(&mut fs::File::open(&partition)?, &mut file)?;
    fs::remove_dir_all(&place)?;
    Ok(())
}

/// The first sector: code, and a table of both partitions; the first is the one to boot.
fn first_sector() -> [u8; 512] {
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(CODE);
    let (at, packet) = PACKET;
    sector[at..at + 8].copy_from_slice(&packet);
    sector[at + 8..at + 12].copy_from_slice(&FAT.0.to_le_bytes());
    for (at, active, kind, (start, length)) in [(446, 0x80, 0x06, FAT), (462, 0, 0x83, ROOT)] {
        let entry = &mut sector[at..at + 16];
        entry[0] = active;
        entry[4] = kind;
        // Cylinders that lie beyond what the old fields can say: the sectors count.
        entry[1..4].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[5..8].copy_from_slice(&[0xfe, 0xff, 0xff]);
        entry[8..12].copy_from_slice(&start.to_le_bytes());
        entry[12..16].copy_from_slice(&length.to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xaa]);
    sector
}

/// A tree as an initramfs.
pub(super) fn pack(tree: &Path, archive: &Path) -> Result<()> {
    let archive = fs::File::create(archive)?;
    let mut find = Command::new("find").arg(".").current_dir(tree).stdout(Stdio::piped()).spawn()?;
    let names = find.stdout.take().context("find has no output")?;
    let mut cpio = Command::new("cpio");
    cpio.args(["--create", "--format=newc", "--quiet"]).current_dir(tree).stdin(names).stdout(archive);
    let cpio = cpio.status().context("cannot start cpio")?;
    ensure!(find.wait()?.success() && cpio.success(), "cpio failed ({cpio})");
    Ok(())
}

/// Runs one of the unpacked tools; syslinux calls the others.
fn run(tools: &Path, program: &str, arguments: &[&str]) -> Result<()> {
    let directory = tools.join("usr/bin");
    let mut path = directory.clone().into_os_string();
    path.push(":/usr/bin:/bin");
    let mut command = Command::new(directory.join(program));
    command.args(arguments).env("PATH", path).env("MTOOLSRC", "/dev/null").env("MTOOLS_SKIP_CHECK", "1");
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {program}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} failed: {}", words.trim());
    Ok(())
}

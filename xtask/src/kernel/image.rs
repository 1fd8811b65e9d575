//! The guest: Debian's kernel and an initramfs of Debian's own programs, from packages that are unpacked and never
//! installed.

use super::boot_disk;
use crate::packages;
use crate::process::capture;
use crate::workspace;
use anyhow::{Context, Result, bail};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What the scenario calls, besides the kernel.
const PROGRAMS: &[&str] = &[
    "busybox-static",
    "ddpt",
    "e2fsprogs",
    "fio",
    "iproute2",
    "kmod",
    "multipath-tools",
    "open-iscsi",
    "sg3-utils",
    "udev",
    "xfsprogs",
];

/// What packages depend on for their installation, or for what nobody does here.
const LEFT_OUT: &[&str] = &[
    "adduser",
    "cdebconf",
    "coreutils",
    "cpio",
    "debconf",
    "debianutils",
    "dpkg",
    "dracut",
    "elogind",
    "gcc-12-base",
    "init-system-helpers",
    "initramfs",
    "install-info",
    "klibc-utils",
    "libelogind0",
    "libfile-find-rule-perl",
    "libgdbm",
    "libgtk",
    "libklibc",
    "libnewt",
    "libnumber-compare-perl",
    "libperl",
    "libpython",
    "libslang2",
    "libtext-glob-perl",
    "linux-base",
    "lsb-base",
    "mailcap",
    "media-types",
    "mime-support",
    "perl",
    "python",
    "readline-common",
    "sg3-utils-udev",
    "systemd",
    "sysvinit-utils",
    "tar",
    "tiny-initramfs",
    "usr-is-merged",
    "usrmerge",
    "x11",
];

/// The modules that the guest loads; what they need comes with them.
const MODULES: &[&str] = &[
    "e1000",
    "iscsi_tcp",
    "sd_mod",
    "sg",
    "dm_multipath",
    "dm_round_robin",
    "dm_service_time",
    "scsi_dh_alua",
    "ext4",
    "xfs",
    "crc32c_generic",
    "crc32c_intel",
    "fcoe",
    "virtio_pci",
    "virtio_scsi",
];

/// What a running system has no use for.
const BALLAST: &[&str] = &["boot", "lib/udev/hwdb.d", "usr/share"];

/// Kernel and initramfs, ready to boot.
#[derive(Debug, Clone)]
pub(super) struct Image {
    pub(super) kernel: PathBuf,
    pub(super) initramfs: PathBuf,
    /// A disk that a machine boots from, to be copied.
    pub(super) disk: PathBuf,
}

impl Image {
    /// The image as [`make`](Self::make) left it.
    pub(super) fn made() -> Result<Self> {
        let place = workspace::target_directory()?.join("xtask").join("kernel");
        Ok(Self { kernel: place.join("vmlinuz"), initramfs: place.join("initramfs"), disk: place.join("disk") })
    }

    /// Makes the image, or takes the one that was made of the same packages.
    pub(super) fn make() -> Result<Self> {
        let place = workspace::target_directory()?.join("xtask").join("kernel");
        fs::create_dir_all(&place).with_context(|| format!("cannot create '{}'", place.display()))?;
        let closure = closure()?;
        let packages: Vec<&str> = closure.iter().map(String::as_str).collect();
        // Names and versions say whether an image is still the right one.
        let versions = packages::in_archive(packages.iter().chain(boot_disk::PACKAGES).copied())?.join("\n");
        let recipe = format!("{versions}\n{MODULES:?}\n{INIT}\n{}", boot_disk::recipe());
        let image = Self::made()?;
        let stamp = place.join("recipe");
        if fs::read_to_string(&stamp).is_ok_and(|made| made == recipe)
            && image.kernel.is_file()
            && image.initramfs.is_file()
            && image.disk.is_file()
        {
            return Ok(image);
        }
        let _ = fs::remove_file(&stamp);
        let root = place.join("root");
        let with = place.join("tools");
        unpack(&packages, &place.join("packages"), &root)?;
        unpack(boot_disk::PACKAGES, &place.join("packages"), &with)?;
        image.furnish(&root, &with)?;
        fs::write(&stamp, recipe)?;
        fs::remove_dir_all(&root)?;
        fs::remove_dir_all(&with)?;
        Ok(image)
    }

    fn furnish(&self, root: &Path, tools: &Path) -> Result<()> {
        let release = only_entry(&root.join("lib/modules"))?;
        fs::copy(root.join("boot").join(format!("vmlinuz-{release}")), &self.kernel).context("no kernel unpacked")?;
        thin_out_modules(root, &release)?;
        for ballast in BALLAST {
            let _ = fs::remove_dir_all(root.join(ballast));
        }
        let init = root.join("init");
        fs::write(&init, INIT)?;
        fs::set_permissions(&init, fs::Permissions::from_mode(0o755))?;
        boot_disk::pack(root, &self.initramfs)?;
        boot_disk::make(&self.disk, root, &release, &self.kernel, tools).context("cannot make a disk to boot from")?;
        Ok(())
    }
}

/// Everything that the programs and the kernel need, by name.
fn closure() -> Result<BTreeSet<String>> {
    let kernel = match kernel() {
        Ok(kernel) => kernel,
        Err(_) => {
            packages::learn_archives()?;
            kernel()?
        }
    };
    let relations = ["recommends", "suggests", "conflicts", "breaks", "replaces", "enhances"];
    let without: Vec<String> = relations.iter().map(|relation| format!("--no-{relation}")).collect();
    let mut arguments = vec!["depends", "--recurse"];
    arguments.extend(without.iter().map(String::as_str));
    arguments.extend(PROGRAMS);
    let all = capture("apt-cache", &arguments)?;
    let named = all.lines().filter(|line| line.starts_with(|first: char| first.is_ascii_alphanumeric()));
    let mut packages: BTreeSet<String> =
        named.filter(|name| !LEFT_OUT.iter().any(|left| name.starts_with(left))).map(str::to_owned).collect();
    packages.insert(kernel);
    Ok(packages)
}

/// The package of the newest kernel.
fn kernel() -> Result<String> {
    let depends = capture("apt-cache", &["depends", "linux-image-amd64"])?;
    let version = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    let version = version.context("apt knows no linux-image-amd64: is a Debian archive in its sources?")?;
    Ok(format!("linux-image-{version}"))
}

fn unpack(packages: &[&str], archive: &Path, root: &Path) -> Result<()> {
    for directory in [archive, root] {
        let _ = fs::remove_dir_all(directory);
        fs::create_dir_all(directory)?;
    }
    packages::download(packages.iter().copied(), archive)?;
    for entry in fs::read_dir(archive)? {
        let package = entry?.path();
        capture("dpkg-deb", &["--extract", &package.display().to_string(), &root.display().to_string()])?;
    }
    fs::remove_dir_all(archive)?;
    Ok(())
}

/// Leaves of the kernel's modules only those that the guest loads: all of them would be the largest part of the image.
fn thin_out_modules(root: &Path, release: &str) -> Result<()> {
    capture("depmod", &["--basedir", &root.display().to_string(), release])?;
    let kept = root.join("kept");
    copy_modules(root, release, MODULES, &kept)?;
    let modules = root.join("lib/modules").join(release);
    fs::remove_dir_all(&modules)?;
    fs::rename(kept.join("lib/modules").join(release), &modules)?;
    fs::remove_dir_all(&kept)?;
    Ok(())
}

/// Copies modules, and those that they need, from one system into another.
pub(super) fn copy_modules(root: &Path, release: &str, names: &[&str], into: &Path) -> Result<()> {
    let root_name = root.display().to_string();
    let (modules, copies) = (root.join("lib/modules").join(release), into.join("lib/modules").join(release));
    for module in names {
        let said = capture("modprobe", &["--dirname", &root_name, "--set-version", release, "--show-depends", module])?;
        for file in said.lines().filter_map(|line| line.strip_prefix("insmod ")).map(str::trim) {
            let from = PathBuf::from(file);
            let to = copies.join(from.strip_prefix(&modules).with_context(|| format!("'{file}' is elsewhere"))?);
            fs::create_dir_all(to.parent().unwrap_or(&copies))?;
            fs::copy(&from, &to)?;
        }
    }
    for list in ["modules.builtin", "modules.order", "modules.builtin.modinfo"] {
        fs::copy(modules.join(list), copies.join(list))?;
    }
    capture("depmod", &["--basedir", &into.display().to_string(), release])?;
    Ok(())
}

fn only_entry(directory: &Path) -> Result<String> {
    let mut names = fs::read_dir(directory)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    match (names.next(), names.next()) {
        (Some(name), None) => Ok(name),
        _ => bail!("'{}' does not hold exactly one directory", directory.display()),
    }
}

/// The guest's first process: it sets the system up and then does what the console says, line by line.
const INIT: &str = r#"#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /tmp /var/lock /var/lib /mnt /root /etc/iscsi /etc/multipath
/bin/busybox --install -s /bin 2>/dev/null
export PATH=/sbin:/usr/sbin:/bin:/usr/bin:/lib/udev HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t tmpfs shm /dev/shm
mount -t tmpfs run /run
mkdir -p /run/lock
ln -sf /proc/self/fd /dev/fd
echo root:x:0:0:root:/root:/bin/sh > /etc/passwd
echo root:x:0: > /etc/group
dmesg -n 1
for module in e1000 iscsi_tcp sd_mod sg dm_multipath dm_round_robin dm_service_time scsi_dh_alua ext4 xfs; do
    modprobe $module || echo "no module $module"
done
/lib/systemd/systemd-udevd --daemon --resolve-names=never 2>/dev/null
udevadm trigger
udevadm settle
ip link set lo up
ip link set eth0 up
ip addr add 10.0.2.15/24 dev eth0
ip route add default via 10.0.2.2
stty -echo -F /dev/ttyS0
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo "@@ready@@"
while read -r line; do
    eval "$line"
    echo "@@$?@@"
done
"#;

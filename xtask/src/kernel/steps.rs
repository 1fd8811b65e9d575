//! What the guest does with the server, and what must come of it.

use super::lab::{INITIATOR, Lab, OPEN, PORTALS, plug, unplug};
use super::{fcoe, tools, vhost};
use crate::report::{Tally, human, tail};
use anyhow::{Result, ensure};
use std::time::{Duration, Instant};

const MIB: u64 = 1 << 20;

/// The size of the first logical unit; XFS makes nothing smaller than 300 MiB.
const SIZE: u64 = 512 * MIB;

// Secrets that occur nowhere else, so that finding one in a log means that it leaked.
const SECRET: &str = "kestrel-4711-tidal";
const TARGET_SECRET: &str = "osprey-0815-marsh";
const WRONG_SECRET: &str = "magpie-2718-ridge";

const ONE_WAY: &str = "iqn.2026-11.org.lunette.test:one-way";
const MUTUAL: &str = "iqn.2026-11.org.lunette.test:mutual";

/// One claim; later ones build on earlier ones.
pub(super) struct Step {
    pub(super) name: &'static str,
    pub(super) claim: &'static str,
    run: fn(&mut Lab) -> Result<()>,
}

/// Why a step cannot be made here; an error of this kind is no failure.
#[derive(Debug)]
pub(super) struct Skip(pub(super) String);

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Skip {}

pub(super) const STEPS: &[Step] = &[
    Step { name: "discovery", claim: "SendTargets lists the target at both portals", run: discovery },
    Step { name: "chap", claim: "the right secret logs in, a wrong one is refused and told in the log", run: chap },
    Step { name: "mutual", claim: "both prove themselves; a target with a wrong secret is refused", run: mutual },
    Step {
        name: "chap-discovery",
        claim: "discovery with CHAP works whether or not it is asked for; asked for, nothing else does",
        run: chap_discovery,
    },
    Step { name: "login", claim: "with both digests the disk appears with its size and its NAA", run: login },
    Step { name: "ext4", claim: "ext4 is made, filled, unmounted, found clean, and read back", run: ext4 },
    Step { name: "xfs", claim: "the same with XFS", run: xfs },
    Step { name: "fstrim", claim: "what the file system gives up leaves the backing file", run: fstrim },
    Step { name: "fio", claim: "fio reads back every block that it wrote at random", run: fio },
    Step { name: "persist", claim: "sg_persist registers, reserves, is shown both, and releases", run: persist },
    Step { name: "lun-added", claim: "a LUN that is added while logged in is told and appears", run: lun_added },
    Step {
        name: "lun-resized",
        claim: "a unit that grows is told and has its new size after a rescan",
        run: lun_resized,
    },
    Step {
        name: "copies",
        claim: "sg_xcopy and ddpt copy from disk to disk, by lists and by tokens",
        run: tools::copies,
    },
    Step { name: "decoders", claim: "sg3-utils read every answer and find what they look for", run: tools::decoders },
    Step { name: "lun-removed", claim: "a LUN that is removed answers no more; the others go on", run: lun_removed },
    Step {
        name: "restart",
        claim: "the server is killed and started again under verified load: no error",
        run: restart,
    },
    Step {
        name: "multipath",
        claim: "two paths, one pulled under verified load: no error; it comes back",
        run: multipath,
    },
    Step {
        name: "fcoe-login",
        claim: "an FCoE port is found without a fabric, logged in to, and shown",
        run: fcoe::login,
    },
    Step { name: "fcoe-data", claim: "over FCoE ext4 is made and read back, fio verifies", run: fcoe::data },
    Step {
        name: "fcoe-flap",
        claim: "the link goes down and up on either side, and the disk comes back",
        run: fcoe::flap,
    },
    Step { name: "fcoe-restart", claim: "the server starts again, and so does its FCoE port", run: fcoe::restart },
    Step {
        name: "vhost-user",
        claim: "a machine whose memory is shared: ext4, fio verifies on two queues, units come, grow and go while it runs",
        run: vhost::machine,
    },
    Step {
        name: "vhost-user-boot",
        claim: "a machine with no other disk boots from it by its firmware, and has its root there",
        run: vhost::boot,
    },
    Step {
        name: "vhost-user-restart",
        claim: "the server of such a machine is killed and started again under verified load: no error",
        run: vhost::restart,
    },
    Step {
        name: "vhost-user-rate",
        claim: "one unit is read at random over both ways, and the rates are told",
        run: vhost::rates,
    },
    Step { name: "end", claim: "the guest logs out, the server ends in order, no secret is in its log", run: end },
];

/// Runs all steps and prints a line for each. After a failure the rest is skipped: it would fail of that.
pub(super) fn run(names: &[String]) -> Tally {
    let began = Instant::now();
    let mut tally = Tally::default();
    let mut lab = match Lab::start(SIZE) {
        Ok(lab) => lab,
        Err(error) => {
            println!("    FAILED  boot: {error:#}");
            return Tally::FAILED;
        }
    };
    println!("    ok      boot ({})", human(began.elapsed()));
    let wanted = |step: &&Step| names.is_empty() || names.iter().any(|name| step.name.starts_with(name));
    for step in STEPS.iter().filter(wanted) {
        if let (true, Err(error)) = (step.name.starts_with("fcoe"), &lab.cable) {
            println!("    skipped {}: {error:#}", step.name);
            tally += Tally::SKIPPED;
            continue;
        }
        if tally.failed > 0 {
            println!("    skipped {}: after a failure", step.name);
            tally += Tally::SKIPPED;
            continue;
        }
        let started = Instant::now();
        match (step.run)(&mut lab) {
            Ok(()) => {
                println!("    ok      {} ({})", step.name, human(started.elapsed()));
                tally += Tally::PASSED;
            }
            Err(error) if error.is::<Skip>() => {
                println!("    skipped {}: {error}", step.name);
                tally += Tally::SKIPPED;
            }
            Err(error) => {
                println!("    FAILED  {} ({}): {}", step.name, human(started.elapsed()), step.claim);
                println!("            {}", format!("{error:#}").replace('\n', "\n            "));
                println!("            the server's last lines:\n{}", tail(&lab.log(), 15, "            "));
                if let Ok(kernel) = lab.guest.run("dmesg | tail -20") {
                    println!("            the guest's kernel:\n{}", tail(&kernel, 20, "            "));
                }
                tally += Tally::FAILED;
            }
        }
    }
    tally
}

/// The device of a LUN at a portal, as udev names it.
pub(super) fn device(target: &str, portal: &str, lun: u16) -> String {
    format!("/dev/disk/by-path/ip-{portal}:3260-iscsi-{target}-lun-{lun}")
}

pub(super) fn disk() -> String {
    device(OPEN, PORTALS[0], 0)
}

fn node(target: &str, portal: &str) -> String {
    format!("iscsiadm -m node -T {target} -p {portal}")
}

fn discovery(lab: &mut Lab) -> Result<()> {
    lab.guest.run(&format!("echo InitiatorName={INITIATOR} > /etc/iscsi/initiatorname.iscsi"))?;
    configure(lab, &[])?;
    lab.guest.run("iscsid && sleep 1")?;
    finds_the_target(lab)
}

/// Writes open-iscsi's configuration: what all steps want, and more.
fn configure(lab: &mut Lab, more: &[String]) -> Result<()> {
    let settings = [
        "node.startup = manual",
        "node.session.timeo.replacement_timeout = 120",
        "node.conn[0].timeo.noop_out_interval = 2",
        "node.conn[0].timeo.noop_out_timeout = 3",
        "node.session.initial_login_retry_max = 2",
    ];
    let lines = settings.into_iter().chain(more.iter().map(String::as_str)).collect::<Vec<_>>().join("' '");
    lab.guest.run(&format!("printf '%s\\n' '{lines}' > /etc/iscsi/iscsid.conf")).map(drop)
}

/// The line that asks a portal for its targets.
fn send_targets() -> String {
    format!("iscsiadm -m discovery -t sendtargets -p {}", PORTALS[0])
}

fn finds_the_target(lab: &mut Lab) -> Result<()> {
    let found = lab.guest.run(&send_targets())?;
    for portal in PORTALS {
        let line = format!("{portal}:3260,1 {OPEN}");
        ensure!(found.contains(&line), "discovery does not show '{line}':\n{found}");
    }
    Ok(())
}

/// Sets CHAP up for one target in the guest.
fn credentials(lab: &mut Lab, target: &str, secret: &str, target_secret: Option<&str>) -> Result<()> {
    let node = node(target, PORTALS[0]);
    lab.guest.run(&format!("{node} -o delete 2>/dev/null; {node} -o new"))?;
    let mut settings = vec![("authmethod", "CHAP"), ("username", INITIATOR), ("password", secret)];
    settings.extend(target_secret.iter().flat_map(|secret| [("username_in", "array"), ("password_in", *secret)]));
    for (name, value) in settings {
        lab.guest.run(&format!("{node} -o update -n node.session.auth.{name} -v {value}"))?;
    }
    Ok(())
}

/// Logs in and out again.
fn visit(lab: &mut Lab, target: &str) -> Result<()> {
    let node = node(target, PORTALS[0]);
    lab.guest.run(&format!("{node} --login"))?;
    lab.guest.run(&format!("{node} --logout"))?;
    Ok(())
}

fn chap(lab: &mut Lab) -> Result<()> {
    let secret = lab.secret("initiator-secret", SECRET)?;
    lab.administer(&["itadm", "create-initiator", "-S", &secret, INITIATOR])?;
    lab.administer(&["itadm", "create-target", "-a", "chap", "-n", ONE_WAY])?;
    credentials(lab, ONE_WAY, SECRET, None)?;
    visit(lab, ONE_WAY)?;
    credentials(lab, ONE_WAY, WRONG_SECRET, None)?;
    let told = [&wrong_secret(ONE_WAY)[..], &[AUTHENTICATION_FAILURE.into()]].concat();
    unauthorized(lab, &format!("{} --login", node(ONE_WAY, PORTALS[0])), "authorization failure", &told)
}

/// How the log ends a line about a login that did not prove who it is (RFC 7143 11.13.5).
const AUTHENTICATION_FAILURE: &str = "(status 0201)";

/// What the log says of a login at a target, or of a discovery, with another secret.
fn wrong_secret(target: &str) -> [String; 2] {
    [format!(" to {target} at {}:3260: ", PORTALS[0]), format!("wrong CHAP name or secret for {INITIATOR:?}")]
}

/// The target refuses: ISCSI_ERR_LOGIN_AUTH_FAILED of open-iscsi.
fn unauthorized(lab: &mut Lab, line: &str, words: &str, told: &[String]) -> Result<()> {
    fails_to_log_in(lab, line, 24, words, told)
}

/// Runs iscsiadm, which must end with this status and these words; the server must tell it by a line that names the initiator
/// and, as `told`, the reason.
fn fails_to_log_in(lab: &mut Lab, line: &str, status: i32, words: &str, told: &[String]) -> Result<()> {
    let before = lab.log().len();
    let said = lab.guest.try_run(&format!("{line} 2>&1"), Duration::from_secs(60))?;
    ensure!(
        said.status == status && said.text.contains(words),
        "status {}, and not '{words}':\n{}",
        said.status,
        said.text
    );
    let refusal = format!("refused login of {INITIATOR} from ");
    let is_told = |line: &str| line.contains(&refusal) && told.iter().all(|words| line.contains(words));
    // The server may hear of it after the guest has told.
    let deadline = Instant::now() + Duration::from_secs(10);
    while !lab.log()[before..].lines().any(is_told) {
        let log = &lab.log()[before..];
        ensure!(Instant::now() < deadline, "no line of the log tells of the refusal with {told:?}:\n{log}");
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Discovery with CHAP: COMSTAR never asks for it; this server does if it is told to.
fn chap_discovery(lab: &mut Lab) -> Result<()> {
    let settings = |secret: &str| {
        let values = [("authmethod", "CHAP"), ("username", INITIATOR), ("password", secret)];
        values.map(|(name, value)| format!("discovery.sendtargets.auth.{name} = {value}"))
    };
    // Offered and not needed.
    configure(lab, &settings(SECRET))?;
    finds_the_target(lab)?;
    let found = |lab: &Lab, from: usize, by: &str| {
        let log = lab.log().split_off(from);
        let words = format!("logged in to discovery at {}:3260", PORTALS[0]);
        let by = format!("(authentication {by})");
        ensure!(log.lines().any(|line| line.contains(&words) && line.contains(&by)), "no '{words}' {by}:\n{log}");
        Ok(())
    };
    found(lab, 0, "none")?;
    lab.administer(&["itadm", "modify-defaults", "--discovery-auth", "chap"])?;
    let before = lab.log().len();
    finds_the_target(lab)?;
    found(lab, before, "CHAP")?;
    configure(lab, &settings(WRONG_SECRET))?;
    let told = [&wrong_secret("discovery")[..], &[AUTHENTICATION_FAILURE.into()]].concat();
    unauthorized(lab, &send_targets(), "failed to authenticate", &told)?;
    configure(lab, &[])?;
    unauthorized(lab, &send_targets(), "authorization", &["to discovery at ".into(), AUTHENTICATION_FAILURE.into()])?;
    lab.administer(&["itadm", "modify-defaults", "--discovery-auth", "none"])?;
    finds_the_target(lab)
}

fn mutual(lab: &mut Lab) -> Result<()> {
    let secret = lab.secret("target-secret", TARGET_SECRET)?;
    lab.administer(&["itadm", "create-target", "-a", "chap", "-u", "array", "-S", &secret, "-n", MUTUAL])?;
    credentials(lab, MUTUAL, SECRET, Some(TARGET_SECRET))?;
    visit(lab, MUTUAL)?;
    let login = format!("{} --login", node(MUTUAL, PORTALS[0]));
    // It is the guest that refuses here: by hanging up, and with the words for an end that trying again does not mend.
    credentials(lab, MUTUAL, SECRET, Some(WRONG_SECRET))?;
    let told = [format!(" to {MUTUAL} at {}:3260: ", PORTALS[0]), "hung up after the proof of who it is".into()];
    fails_to_log_in(lab, &login, 19, "non-retryable iSCSI login failure", &told)?;
    credentials(lab, MUTUAL, WRONG_SECRET, Some(TARGET_SECRET))?;
    let told = [&wrong_secret(MUTUAL)[..], &[AUTHENTICATION_FAILURE.into()]].concat();
    unauthorized(lab, &login, "authorization failure", &told)
}

fn login(lab: &mut Lab) -> Result<()> {
    let node = node(OPEN, PORTALS[0]);
    for digest in ["HeaderDigest", "DataDigest"] {
        lab.guest.run(&format!("{node} -o update -n node.conn[0].iscsi.{digest} -v CRC32C"))?;
    }
    lab.guest.run(&format!("{node} --login"))?;
    appears(lab, &disk())?;
    let session = lab.guest.run("iscsiadm -m session -P 2")?;
    for digest in ["HeaderDigest: CRC32C", "DataDigest: CRC32C"] {
        ensure!(session.contains(digest), "no {digest}:\n{session}");
    }
    has_size(lab, &disk(), SIZE)?;
    let naa = format!("/dev/disk/by-id/wwn-0x{}", lab.guid.to_lowercase());
    let same = lab.guest.run(&format!("readlink -f {naa} && readlink -f {}", disk()))?;
    let devices: Vec<&str> = same.split_whitespace().collect();
    ensure!(devices.len() == 2 && devices[0] == devices[1], "{naa} is not the disk: {same}");
    Ok(())
}

fn appears(lab: &mut Lab, device: &str) -> Result<()> {
    lab.guest.wait_for(device, &format!("udevadm settle; test -b {device}"), Duration::from_secs(30)).map(drop)
}

fn has_size(lab: &mut Lab, device: &str, size: u64) -> Result<()> {
    let found = lab.guest.run(&format!("blockdev --getsize64 {device}"))?;
    ensure!(found.trim() == size.to_string(), "{device} has {} bytes and not {size}", found.trim());
    Ok(())
}

/// Makes a file system, fills a file, and reads it after unmounting, checking and mounting again.
pub(super) fn file_system(lab: &mut Lab, disk: &str, make: &str, check: &str) -> Result<()> {
    lab.guest.run(&format!("{make} {disk}"))?;
    lab.guest.run(&format!("mount {disk} /mnt"))?;
    lab.guest.run("head -c 33554432 /dev/urandom > /mnt/file && md5sum /mnt/file > /tmp/sum && sync")?;
    lab.guest.run("umount /mnt")?;
    lab.guest.run(&format!("{check} {disk}"))?;
    // What the guest remembers of the disk must not answer for the disk.
    lab.guest.run("echo 3 > /proc/sys/vm/drop_caches")?;
    lab.guest.run(&format!("mount {disk} /mnt && md5sum -c /tmp/sum"))?;
    lab.guest.run("umount /mnt").map(drop)
}

fn ext4(lab: &mut Lab) -> Result<()> {
    file_system(lab, &disk(), "mkfs.ext4 -q -F", "e2fsck -f -n")
}

fn xfs(lab: &mut Lab) -> Result<()> {
    file_system(lab, &disk(), "mkfs.xfs -q -f", "xfs_repair -n")
}

fn fstrim(lab: &mut Lab) -> Result<()> {
    lab.guest.run(&format!("mount {} /mnt", disk()))?;
    lab.guest.run("head -c 67108864 /dev/urandom > /mnt/more && sync")?;
    let full = lab.allocated("disk")?;
    lab.guest.run("rm /mnt/more && sync && fstrim -v /mnt")?;
    let trimmed = lab.allocated("disk")?;
    ensure!(full >= trimmed + 60 * MIB, "the backing file takes {trimmed} bytes after fstrim, {full} before");
    lab.guest.run("umount /mnt").map(drop)
}

/// The line that lets fio write at random and read all of it back.
pub(super) fn fio_line(device: &str, more: &str) -> String {
    // A colon in a file's name would be two files to fio.
    format!(
        "fio --name=verify --filename=$(readlink -f {device}) --ioengine=libaio --direct=1 --rw=randwrite --bs=4k --size=16m \
         --iodepth=16 --verify=crc32c --verify_fatal=1 --do_verify=1 --randseed=7 {more} > /tmp/fio.out 2>&1"
    )
}

fn fio(lab: &mut Lab) -> Result<()> {
    let line = fio_line(&disk(), "");
    let said = lab.guest.try_run(&line, Duration::from_secs(120))?;
    fio_ended_well(lab, said.status)
}

fn fio_ended_well(lab: &mut Lab, status: i32) -> Result<()> {
    let words = lab.guest.run("cat /tmp/fio.out")?;
    ensure!(status == 0 && words.contains("err= 0"), "fio ended with status {status}:\n{words}");
    Ok(())
}

/// Starts fio at a moderate rate, so that it runs for some ten seconds.
fn begin_load(lab: &mut Lab, device: &str) -> Result<()> {
    let line = fio_line(device, "--rate_iops=400");
    lab.guest.run(&format!("rm -f /tmp/fio.rc; ( {line}; echo $? > /tmp/fio.rc ) &"))?;
    std::thread::sleep(Duration::from_secs(3));
    lab.guest.run("test ! -e /tmp/fio.rc").map(drop)
}

fn end_load(lab: &mut Lab) -> Result<()> {
    let status = lab.guest.wait_for("the end of fio", "cat /tmp/fio.rc 2>/dev/null", Duration::from_secs(150))?;
    fio_ended_well(lab, status.trim().parse().unwrap_or(-1))
}

fn persist(lab: &mut Lab) -> Result<()> {
    let disk = disk();
    lab.guest.run(&format!("sg_persist --out --register --param-sark=0xabc123 {disk}"))?;
    lab.guest.run(&format!("sg_persist --out --reserve --param-rk=0xabc123 --prout-type=5 {disk}"))?;
    let keys = lab.guest.run(&format!("sg_persist --in --read-keys {disk}"))?;
    ensure!(keys.contains("0xabc123"), "the key is not shown:\n{keys}");
    let holder = lab.guest.run(&format!("sg_persist --in --read-reservation {disk}"))?;
    ensure!(holder.contains("Write Exclusive, registrants only"), "the reservation is not shown:\n{holder}");
    lab.guest.run(&format!("sg_persist --out --release --param-rk=0xabc123 --prout-type=5 {disk}"))?;
    lab.guest.run(&format!("sg_persist --out --register --param-rk=0xabc123 {disk}"))?;
    let keys = lab.guest.run(&format!("sg_persist --in --read-keys {disk}"))?;
    ensure!(!keys.contains("0xabc123"), "the key is still shown:\n{keys}");
    Ok(())
}

/// What the kernel said about the disks since the last call.
fn kernel_said(lab: &mut Lab, words: &str) -> Result<()> {
    let line = format!("dmesg | grep -q '{words}'");
    lab.guest.wait_for(&format!("the kernel's line '{words}'"), &line, Duration::from_secs(20))?;
    lab.guest.run("dmesg -c > /dev/null").map(drop)
}

fn lun_added(lab: &mut Lab) -> Result<()> {
    lab.guest.run("dmesg -c > /dev/null")?;
    let guid = lab.create_lu("second", 64 * MIB)?;
    lab.administer(&["stmfadm", "add-view", "-n", "7", &guid])?;
    // The unit attention comes with the next command.
    lab.guest.run(&format!("sg_turs -n 3 {} ; true", disk()))?;
    kernel_said(lab, "LUN assignments on this target have changed")?;
    lab.guest.run("iscsiadm -m session --rescan")?;
    let second = device(OPEN, PORTALS[0], 7);
    appears(lab, &second)?;
    has_size(lab, &second, 64 * MIB)
}

fn lun_resized(lab: &mut Lab) -> Result<()> {
    let guid = guid_of(lab, "second")?;
    lab.administer(&["stmfadm", "modify-lu", "-s", "128m", &guid])?;
    let second = device(OPEN, PORTALS[0], 7);
    lab.guest.run(&format!("sg_turs -n 3 {second} ; true"))?;
    kernel_said(lab, "apacity data has changed")?;
    lab.guest.run("iscsiadm -m session --rescan")?;
    let bigger = format!("test $(blockdev --getsize64 {second}) = {}", 128 * MIB);
    lab.guest.wait_for("the new size", &bigger, Duration::from_secs(20)).map(drop)
}

fn guid_of(lab: &Lab, file: &str) -> Result<String> {
    let listed = lab.administer(&["sbdadm", "list-lu"])?;
    let path = lab.backing(file).display().to_string();
    let line = listed.lines().find(|line| line.ends_with(&path));
    let guid = line.and_then(|line| line.split_whitespace().next()).unwrap_or_default().to_owned();
    ensure!(guid.len() == 32, "sbdadm list-lu does not show {path}:\n{listed}");
    Ok(guid)
}

fn lun_removed(lab: &mut Lab) -> Result<()> {
    let second = device(OPEN, PORTALS[0], 7);
    let read = format!("dd if={second} of=/dev/null bs=4096 count=1 iflag=direct");
    lab.guest.run(&read)?;
    let guid = guid_of(lab, "second")?;
    lab.administer(&["stmfadm", "remove-view", "-l", &guid, "-a"])?;
    lab.guest.refused(&read)?;
    lab.guest.run(&format!("dd if={} of=/dev/null bs=4096 count=1 iflag=direct", disk()))?;
    lab.guest.run(&format!("echo 1 > /sys/block/$(basename $(readlink -f {second}))/device/delete")).map(drop)
}

fn restart(lab: &mut Lab) -> Result<()> {
    begin_load(lab, &disk())?;
    lab.kill_and_restart(Duration::from_secs(1))?;
    end_load(lab)
}

fn multipath(lab: &mut Lab) -> Result<()> {
    let [first, second] = PORTALS.map(|portal| node(OPEN, portal));
    lab.guest.run(&format!("{first} --logout"))?;
    for node in [&first, &second] {
        let name = "node.session.timeo.replacement_timeout";
        lab.guest.run(&format!("{node} -o update -n {name} -v 5 && {node} --login"))?;
    }
    let [first, second] = PORTALS.map(|portal| device(OPEN, portal, 0));
    appears(lab, &first)?;
    appears(lab, &second)?;
    let configuration = [
        "defaults {",
        "    find_multipaths no",
        "    user_friendly_names no",
        "    path_grouping_policy multibus",
        "    polling_interval 1",
        "    max_polling_interval 2",
        "    no_path_retry queue",
        "}",
    ];
    lab.guest.run(&format!("printf '%s\\n' '{}' > /etc/multipath.conf", configuration.join("' '")))?;
    lab.guest.run("multipathd")?;
    let map = format!("/dev/mapper/3{}", lab.guid.to_lowercase());
    both_paths(lab, &map)?;
    begin_load(lab, &map)?;
    unplug(PORTALS[1])?;
    let faulty = "test $(multipathd show paths format %T | grep -c faulty) = 1";
    lab.guest.wait_for("a path's failure", faulty, Duration::from_secs(60))?;
    end_load(lab)?;
    plug(PORTALS[1])?;
    both_paths(lab, &map)?;
    // Nothing may hold the devices when they go.
    lab.guest.run("multipathd shutdown; sleep 1; multipath -F").map(drop)
}

fn both_paths(lab: &mut Lab, map: &str) -> Result<()> {
    let active = format!("test -b {map} && test $(multipath -ll {map} | grep -c 'active ready running') = 2");
    lab.guest.wait_for("two active paths", &active, Duration::from_secs(60)).map(drop)
}

fn end(lab: &mut Lab) -> Result<()> {
    lab.guest.run("iscsiadm -m node --logoutall=all")?;
    lab.stop()?;
    let log = lab.log();
    for secret in [SECRET, TARGET_SECRET, WRONG_SECRET] {
        ensure!(!log.contains(secret), "the log shows a secret");
    }
    ensure!(!log.contains(" ERROR "), "the log tells of an error:\n{log}");
    Ok(())
}

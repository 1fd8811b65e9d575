//! libiscsi's tools and QEMU as initiators.

use super::Check;
use super::target::{Kind, Target};
use super::wire::{Initiator, Settings, cdb16};
use crate::packages::Need;
use crate::process::{Finished, run_limited, tethered};
use crate::scratch::Scratch;
use anyhow::{Result, ensure};
use std::time::Duration;

const MIB: u64 = 1 << 20;

/// How long one client may take; moving 256 MiB on a busy machine is the longest.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

pub(super) const CHECKS: &[Check] = &[
    Check {
        name: "libiscsi/inquiry",
        claim: "iscsi-inq shows a connected disk, and its VPD pages 00 and 83",
        needs: &[Need::Libiscsi],
        peers: true,
        run: inquiry,
    },
    Check {
        name: "libiscsi/discovery",
        claim: "iscsi-ls finds the target at its portal, and the LU with its size",
        needs: &[Need::Libiscsi],
        peers: true,
        run: discovery,
    },
    Check {
        name: "libiscsi/read-capacity",
        claim: "iscsi-readcapacity16 reports the size that was asked for",
        needs: &[Need::Libiscsi],
        peers: true,
        run: read_capacity,
    },
    Check {
        name: "libiscsi/software-write-protect",
        claim: "iscsi-swp turns software write protection on and off, and a write fails in between",
        needs: &[Need::Libiscsi],
        peers: true,
        run: software_write_protect,
    },
    Check {
        name: "libiscsi/header-digest",
        claim: "libiscsi logs in with CRC32C header digests demanded",
        needs: &[Need::Libiscsi],
        peers: true,
        run: header_digest,
    },
    Check {
        name: "qemu/convert-and-compare",
        claim: "256 MiB of random data go in by qemu-img convert and compare equal, without digests",
        needs: &[Need::Qemu],
        peers: true,
        run: convert_plain,
    },
    Check {
        name: "qemu/convert-with-header-digest",
        claim: "256 MiB of random data go in and out with CRC32C header digests",
        needs: &[Need::Qemu],
        peers: true,
        run: convert_digest,
    },
    Check {
        name: "qemu/discard-and-write-zeroes",
        claim: "qemu-io discards and writes zeroes, with and without unmapping, and neighbours keep their data",
        needs: &[Need::Qemu],
        peers: true,
        run: discard_and_zeroes,
    },
    // No packaged user-space client offers data digests: libiscsi 1.19 always asks for DataDigest=None, and QEMU
    // builds on it. The kernel's initiator does, and until a test boots one the hand-written initiator stands in.
    Check {
        name: "wire/both-digests",
        claim: "a session with header and data digests moves data both ways, with immediate data and with R2T",
        needs: &[],
        peers: true,
        run: both_digests,
    },
];

/// Runs a client to its end.
pub(super) fn client(scratch: &Scratch, program: &str, arguments: &[&str]) -> Result<Finished> {
    let mut command = tethered(program);
    command.args(arguments);
    run_limited(program, command, CLIENT_LIMIT, &scratch.join("client.log"))
}

/// Runs a client that must succeed and gives what it said.
pub(super) fn client_ok(scratch: &Scratch, program: &str, arguments: &[&str]) -> Result<String> {
    let finished = client(scratch, program, arguments)?;
    let line = format!("{program} {}", arguments.join(" "));
    ensure!(finished.success(), "'{line}' ended with {}:\n{}", finished.verdict(), finished.output.trim());
    Ok(finished.output)
}

fn expect(output: &str, wanted: &str) -> Result<()> {
    ensure!(output.contains(wanted), "no '{wanted}' in:\n{}", output.trim());
    Ok(())
}

fn inquiry(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let standard = client_ok(&scratch, "iscsi-inq", &[&target.url()])?;
        expect(&standard, "Peripheral Qualifier:CONNECTED")?;
        expect(&standard, "Peripheral Device Type:DIRECT_ACCESS")?;
        let pages = client_ok(&scratch, "iscsi-inq", &["-e", "1", "-c", "0", &target.url()])?;
        expect(&pages, "DEVICE_IDENTIFICATION")?;
        client_ok(&scratch, "iscsi-inq", &["-e", "1", "-c", "131", &target.url()])?;
        Ok(())
    })
}

fn discovery(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let found = client_ok(&scratch, "iscsi-ls", &["-s", &target.portal_url()])?;
        expect(&found, &format!("Target:{} Portal:{}", target.iqn(), target.portal()))?;
        let lun = format!("Lun:{}", target.lun());
        let line = found.lines().find(|line| line.split_whitespace().next() == Some(&lun)).unwrap_or_default();
        // iscsi-ls counts full MiB below the last block's address.
        ensure!(line.contains("DIRECT_ACCESS") && line.contains("Size:63M"), "no LU of 64 MiB in:\n{found}");
        Ok(())
    })
}

fn read_capacity(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let said = client_ok(&scratch, "iscsi-readcapacity16", &[&target.url()])?;
        expect(&said, "LOGICAL BLOCK LENGTH IN BYTES:512")?;
        expect(&said, &format!("Total size:{}", 64 * MIB))?;
        expect(&said, "LBPME:1")
    })
}

fn software_write_protect(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let url = target.url();
        let swp = |arguments: &[&str]| client_ok(&scratch, "iscsi-swp", arguments);
        expect(&swp(&[&url])?, "SWP:0")?;
        swp(&["--swp=on", &url])?;
        expect(&swp(&[&url])?, "SWP:1")?;
        let mut session = Initiator::login(&Settings::new(target.portal(), target.iqn(), "swp"))?;
        session.make_ready(target.lun())?;
        let refused = session.command(target.lun(), &cdb16(0x8a, 0, 0, 1), &[1; 512], 0)?;
        let sense = (refused.sense.get(2).map(|key| key & 0xf), refused.sense.get(12), refused.sense.get(13));
        // DATA PROTECT, WRITE PROTECTED or a more exact qualifier of it.
        ensure!(refused.status == 2 && sense.0 == Some(7) && sense.1 == Some(&0x27), "a write gave {refused:02x?}");
        swp(&["--swp=off", &url])?;
        expect(&swp(&[&url])?, "SWP:0")?;
        session.make_ready(target.lun())?;
        session.command(target.lun(), &cdb16(0x8a, 0, 0, 1), &[1; 512], 0)?.good()?;
        Ok(())
    })
}

fn header_digest(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let url = format!("{}?header_digest=crc32c", target.url());
        expect(&client_ok(&scratch, "iscsi-inq", &[&url])?, "DIRECT_ACCESS")
    })
}

fn convert_plain(kind: Kind) -> Result<()> {
    convert_and_compare(kind, None)
}

fn convert_digest(kind: Kind) -> Result<()> {
    convert_and_compare(kind, Some("crc32c"))
}

/// The LU as QEMU's options name it; a URL cannot carry the digest.
fn qemu_options(target: &Target, header_digest: Option<&str>) -> String {
    let digest = header_digest.map(|value| format!(",file.header-digest={value}")).unwrap_or_default();
    format!(
        "driver=raw,file.driver=iscsi,file.transport=tcp,file.portal={},file.target={},file.lun={}{digest}",
        target.portal(),
        target.iqn(),
        target.lun()
    )
}

fn convert_and_compare(kind: Kind, header_digest: Option<&str>) -> Result<()> {
    let size = 256 * MIB;
    Target::start(kind, size)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let image = scratch.join("random.raw");
        write_random(&image, size)?;
        let image = image.display().to_string();
        let lu = qemu_options(target, header_digest);
        let source = format!("driver=raw,file.driver=file,file.filename={image}");
        // -n: the LU exists; without it QEMU would try to create one.
        client_ok(&scratch, "qemu-img", &["convert", "-n", "--image-opts", "--target-image-opts", &source, &lu])?;
        let said = client_ok(&scratch, "qemu-img", &["compare", "--image-opts", &source, &lu])?;
        expect(&said, "Images are identical")
    })
}

fn write_random(path: &std::path::Path, size: u64) -> Result<()> {
    use std::io::{Read, Write};
    let mut source = std::fs::File::open("/dev/urandom")?.take(size);
    let mut file = std::fs::File::create(path)?;
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = source.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        file.write_all(&buffer[..count])?;
    }
}

fn discard_and_zeroes(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let scratch = Scratch::new("client")?;
        let lu = qemu_options(target, None);
        let commands = [
            "write -P 0x5a 0 16M",
            "flush",
            "discard 1M 1M",
            "write -z 4M 1M",
            "write -z -u 8M 1M",
            "flush",
            "read -P 0x5a 0 1M",
            // LBPRZ is not asked for here: an initiator may not rely on zeroes after a discard without it, QEMU's
            // write -z must.
            "read -P 0x5a 2M 2M",
            "read -P 0 4M 1M",
            "read -P 0x5a 5M 3M",
            "read -P 0 8M 1M",
            "read -P 0x5a 9M 7M",
        ];
        let mut arguments = vec!["-d", "unmap", "--image-opts", &lu];
        for command in &commands {
            arguments.extend(["-c", command]);
        }
        let said = client_ok(&scratch, "qemu-io", &arguments)?;
        ensure!(!said.contains("failed"), "{}", said.trim());
        Ok(())
    })
}

fn both_digests(kind: Kind) -> Result<()> {
    Target::start(kind, 64 * MIB)?.examine(|target| {
        let mut settings = Settings::new(target.portal(), target.iqn(), "digests");
        settings.header_digest = true;
        settings.data_digest = true;
        let mut session = Initiator::login(&settings)?;
        session.make_ready(target.lun())?;
        // One block fits immediate data everywhere; 1 MiB needs R2Ts everywhere.
        for blocks in [1u32, 8, 2048] {
            let data: Vec<u8> = (0..blocks * 512).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
            session.command(target.lun(), &cdb16(0x8a, 0, 77, blocks), &data, 0)?.good()?;
            ensure!(session.read(target.lun(), 77, blocks)? == data, "{blocks} blocks read back differ");
        }
        Ok(())
    })
}

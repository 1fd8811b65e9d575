//! sg3-utils and ddpt on the guest's disks: what others read in our answers, and their copies.

use super::lab::{Lab, OPEN, PORTALS};
use super::steps::{device, disk};
use anyhow::{Result, ensure};

/// A command on a disk and what it has to say.
struct Sight {
    /// `DISK` stands for the device.
    line: &'static str,
    words: &'static [&'static str],
}

const fn sight(line: &'static str, words: &'static [&'static str]) -> Sight {
    Sight { line, words }
}

/// What only reads.
const READS: &[Sight] = &[
    sight("sg_inq DISK", &["Vendor identification: LUNETTE", "TPGS=3", "3PC=1"]),
    sight("sg_vpd --all DISK", &["Third party copy", "Block limits VPD page", "Device Identification VPD page"]),
    sight("sg_vpd --page=tpc DISK", &["Block Device ROD Token Limits", "Populate token", "block device zero"]),
    sight(
        "sg_logs --all DISK",
        &["Write error counter page", "General Statistics and Performance", "Self-test results"],
    ),
    sight("sg_modes --all --all DISK", &["Caching, page_control", "Control extension", "Logical block provisioning"]),
    sight("sg_opcodes --rctd DISK", &["Compare and write", "Sanitize, overwrite", "Write using token"]),
    sight("sg_opcodes --tmf DISK", &["Abort task", "Query asynchronous event", "I_T nexus reset"]),
    sight("sg_rtpg --decode DISK", &["active/optimized", "Relative target port ids"]),
    sight("sg_readcap --long DISK", &["lbpme=1, lbprz=1", "Logical block length=512 bytes"]),
    sight("sg_luns DISK", &["Report luns [select_report=0x0]"]),
    sight("sg_turs DISK", &[]),
    sight("sg_requests DISK", &["No Sense"]),
    sight("sg_get_lba_status --lba=0 DISK", &["LBA: 0x0000000000000000"]),
    sight("sg_timestamp --origin DISK", &["initialized by other method"]),
    sight("sg_persist --in --report-capabilities DISK", &["Report capabilities response"]),
    sight("sg_copy_results --params DISK", &["Receive copy results (report operating parameters)"]),
    sight("sg_senddiag --list DISK", &["Supported diagnostic pages"]),
    sight("sg_senddiag --test DISK", &[]),
];

/// What writes to a disk that nobody uses.
const WRITES: &[Sight] = &[
    sight("sg_write_same --16 --lba=0 --num=64 --ff DISK", &[]),
    sight("printf 0,8 | sed s/,/' '/ > /tmp/ranges; sg_unmap --force --in=/tmp/ranges DISK", &[]),
    sight("head -c 1024 /dev/zero > /tmp/blocks; sg_compare_and_write --in=/tmp/blocks --lba=0 --num=1 DISK", &[]),
    sight("sg_write_x --atomic=0 --in=/tmp/blocks --lba=8 --num=2 DISK", &[]),
    sight("sg_verify --lba=8 --count=2 --ndo=1024 --ebytchk=1 --in=/tmp/blocks DISK", &[]),
    sight("sg_sanitize --overwrite --zero --quick --wait DISK", &[]),
    sight("sg_format --format --quick --wait DISK", &["Block size=512"]),
    sight("echo -n guest | sg_ident --set DISK; sg_ident --ascii DISK", &["guest"]),
    sight("sg_stpg --active DISK; sg_turs DISK; sg_rtpg --decode DISK", &["active/non optimized"]),
    sight("sg_stpg --optimized DISK; sg_turs DISK; sg_rtpg --decode DISK", &["active/optimized"]),
];

/// Runs all of them before it says which were not as they should.
fn see(lab: &mut Lab, sights: &[Sight], device: &str) -> Result<()> {
    let mut wrong = Vec::new();
    for Sight { line, words } in sights {
        match lab.guest.run(&line.replace("DISK", &format!("$(readlink -f {device})"))) {
            Ok(said) => wrong.extend(
                words
                    .iter()
                    .filter(|word| !said.contains(**word))
                    .map(|word| format!("'{line}' does not say '{word}':\n{said}")),
            ),
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

fn second() -> String {
    device(OPEN, PORTALS[0], 7)
}

/// Every answer that sg3-utils decode.
pub(super) fn decoders(lab: &mut Lab) -> Result<()> {
    see(lab, READS, &disk())?;
    see(lab, WRITES, &second())
}

/// Bytes as printf in the guest writes them.
fn octal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:03o}")).collect()
}

/// POPULATE TOKEN at one disk, RECEIVE ROD TOKEN INFORMATION, WRITE USING TOKEN at the other, as Windows does, by the
/// kernel's pass-through: ddpt 0.97 makes the lists of --odx of ranges that nobody named.
fn tokens(from: &str, to: &str) -> String {
    let range = octal(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x80, 0, 0, 0, 0, 0]);
    // RTV with the type that lets the copy manager choose.
    let populate = octal(&[0, 30, 2, 0, 0, 0, 0, 60, 0, 0x80, 0, 0, 0, 0, 0, 16]);
    let head = octal(&[2, 0x26, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let tail = octal(&[0, 0, 0, 0, 0, 0, 0, 16]);
    [
        format!("printf '{populate}{range}' > /tmp/populate"),
        format!("sg_raw -s 32 -i /tmp/populate {from} 83 10 00 00 00 00 00 00 00 07 00 00 00 20 00 00"),
        format!("sg_raw -r 550 -o /tmp/information {from} 84 07 00 00 00 07 00 00 00 00 00 00 02 26 00 00"),
        format!("printf '{head}' > /tmp/use"),
        "dd if=/tmp/information bs=1 skip=38 count=512 2>/dev/null >> /tmp/use".to_owned(),
        format!("printf '{tail}{range}' >> /tmp/use"),
        format!("sg_raw -s 552 -i /tmp/use {to} 83 11 00 00 00 00 00 00 00 08 00 00 02 28 00 00"),
    ]
    .join(" && ")
}

/// EXTENDED COPY by sg_xcopy, sent to either disk, and by ddpt; ROD tokens by sg_raw. What was copied is compared.
pub(super) fn copies(lab: &mut Lab) -> Result<()> {
    let (from, to) = (format!("$(readlink -f {})", disk()), format!("$(readlink -f {})", second()));
    lab.guest
        .run(&format!("head -c 16777216 /dev/urandom > /tmp/data; dd if=/tmp/data of={from} bs=1M oflag=direct"))?;
    let sum = lab.guest.run("md5sum < /tmp/data")?;
    let ways = [
        ("sg_xcopy", format!("sg_xcopy --on_dst if={from} of={to} bs=512 count=32768")),
        ("sg_xcopy", format!("sg_xcopy --on_src if={from} of={to} bs=512 count=32768 bpt=1024")),
        ("ddpt", format!("ddpt --xcopy if={from} of={to} bs=512 count=32768")),
        ("sg_raw", tokens(&from, &to)),
    ];
    for (program, line) in ways {
        lab.guest.run(&format!("dd if=/dev/zero of={to} bs=1M count=16 oflag=direct"))?;
        lab.guest.run(&line)?;
        let copied = lab.guest.run(&format!("dd if={to} bs=1M count=16 iflag=direct 2>/dev/null | md5sum"))?;
        ensure!(copied.trim() == sum.trim(), "{program} copied something else by '{line}': {copied} and not {sum}");
    }
    Ok(())
}

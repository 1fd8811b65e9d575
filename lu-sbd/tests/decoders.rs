//! A second opinion: sg3-utils read what a unit answers, and see the same fields.

mod common;

use common::{BLOCK, Rig, ten};
use lu_sbd::store::MemoryStore;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stmf::provider::{LogicalUnit, PortGroup, TargetPorts};

/// A decoder of sg3-utils, if it is there; said aloud if it is not.
struct Decoder {
    program: PathBuf,
    directory: tempfile::TempDir,
}

fn decoder(name: &str) -> Option<Decoder> {
    let places = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"];
    let program = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file());
    match program {
        Some(program) => Some(Decoder { program, directory: tempfile::tempdir().unwrap() }),
        None => {
            println!("skipped: no {name}, install the package sg3-utils");
            None
        }
    }
}

impl Decoder {
    /// What it says about the bytes, one line after the other, blanks at the ends cut.
    fn says(&self, before: &[&str], data: &[u8]) -> Vec<String> {
        let path = self.directory.path().join("answer");
        let hex: Vec<String> =
            data.chunks(16).map(|line| line.iter().map(|byte| format!("{byte:02x} ")).collect()).collect();
        std::fs::write(&path, hex.join("\n") + "\n").unwrap();
        let mut command = Command::new(&self.program);
        for argument in before {
            command.arg(argument.replace("FILE", &path.display().to_string()));
        }
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{before:?}: {text}");
        text.lines().map(|line| line.trim().to_owned()).collect()
    }

    #[track_caller]
    fn sees(&self, before: &[&str], data: &[u8], wanted: &[&str]) {
        let said = self.says(before, data);
        for field in wanted {
            assert!(said.iter().any(|line| line.contains(field)), "no '{field}' in {said:#?}");
        }
    }
}

fn rig() -> Rig {
    let rig = Rig::with(Arc::new(MemoryStore::new(64 << 20)), &["serial=0815", "mgmt-url=http://a.example/"]);
    let group = PortGroup { id: 5, state: Default::default(), preferred: true, ports: vec![1] };
    rig.lu.set_target_ports(&Arc::new(TargetPorts { groups: vec![group] }));
    rig
}

fn vpd(rig: &mut Rig, page: u8) -> Vec<u8> {
    rig.run(1, &[0x12, 1, page, 4, 0, 0], &[], 1024).good()
}

#[test]
fn sg_inq_reads_the_standard_inquiry_data() {
    let Some(decoder) = decoder("sg_inq") else { return };
    let data = rig().run(1, &[0x12, 0, 0, 0, 96, 0], &[], 96).good();
    let wanted = [
        "PQual=0  PDT=0  RMB=0",
        "[SPC-4]",
        "NormACA=1  HiSUP=1  Resp_data_format=2",
        "TPGS=3",
        "CmdQue=1",
        "length=96",
        "Vendor identification: LUNETTE",
        "Product identification: VIRTUAL DISK",
        "SAM-5 (no version claimed)",
        "iSCSI (no version claimed)",
        "SPC-4 (no version claimed)",
        "SBC-3 (no version claimed)",
    ];
    decoder.sees(&["--descriptors", "--inhex=FILE"], &data, &wanted);
}

#[test]
fn sg_vpd_reads_every_page() {
    let Some(decoder) = decoder("sg_vpd") else { return };
    let mut rig = rig();
    let mut sees = |page: u8, wanted: &[&str]| {
        let data = vpd(&mut rig, page);
        decoder.sees(&["--inhex=FILE"], &data, wanted);
    };
    sees(0x00, &["Device identification", "Block limits", "Logical block provisioning"]);
    sees(0x80, &["Unit serial number: 0815"]);
    sees(
        0x83,
        &[
            "0x600144f0010203040000000000010001",
            "Relative target port: 0x1",
            "Target port group: 0x5",
            "iqn.2026-11.org.example:disk,t,0x0001",
        ],
    );
    sees(0x85, &["http://a.example/"]);
    sees(0x86, &["HEADSUP=1 ORDSUP=1 SIMPSUP=1", "Maximum supported sense data length=48"]);
    sees(0x87, &["Policy page code: 0x3f", "Policy: shared"]);
    sees(
        0xb0,
        &[
            "Write same non-zero (WSNZ): 1",
            "Maximum compare and write length: 128 blocks",
            "Maximum transfer length: 65536 blocks",
            "Maximum unmap LBA count: 1048576",
            "Maximum unmap block descriptor count: 256",
            "Unmap granularity alignment valid: true",
            "Maximum write same length: 0x800000 blocks",
        ],
    );
    sees(0xb1, &["Block device characteristics"]);
    sees(0xb2, &["(LBPU): 1", "(LBPWS): 1", "(LBPRZ): 1", "(thin provisioned)"]);
    sees(0xb3, &["Referrals VPD page"]);
    sees(0xb6, &["URSWRZ: 0"]);
    sees(0xb7, &["Block limits extension"]);
}

#[test]
fn sg_logs_reads_the_counters() {
    let Some(decoder) = decoder("sg_logs") else { return };
    let mut rig = rig();
    rig.write(1, 0, &[1; 4 * BLOCK]);
    rig.read(1, 0, 8);
    rig.run(1, &[0x1d, 5 << 5, 0, 0, 0, 0], &[], 0).good();
    let mut sees = |page: u8, wanted: &[&str]| {
        let data = rig.run(1, &ten(0x4d, 0, 0x4000_0000 | u32::from(page) << 24, 0x2000), &[], 0x2000).good();
        decoder.sees(&["--inhex=FILE"], &data, wanted);
    };
    sees(0x02, &["Write error counter page", "Total bytes processed = 2048"]);
    sees(0x03, &["Read error counter page", "Total bytes processed = 4096"]);
    sees(0x05, &["Verify error counter page"]);
    sees(0x10, &["foreground short"]);
    sees(
        0x19,
        &[
            "number of read commands = 1",
            "number of write commands = 1",
            "number of logical blocks received = 4",
            "number of logical blocks transmitted = 8",
        ],
    );
    sees(0x2f, &["IE asc = 0x0, ascq = 0x0"]);
}

#[test]
fn sg_get_lba_status_reads_what_is_mapped() {
    let Some(decoder) = decoder("sg_get_lba_status") else { return };
    let mut rig = rig();
    rig.write(1, 0, &[1; 8 * BLOCK]);
    let mut cdb = [0; 16];
    (cdb[0], cdb[1], cdb[13]) = (0x9e, 0x12, 24);
    let data = rig.run(1, &cdb, &[], 24).good();
    decoder.sees(&["--inhex=FILE"], &data, &["LBA: 0x0000000000000000", "mapped"]);
}

#[test]
fn sg_decode_sense_reads_both_formats() {
    let Some(decoder) = decoder("sg_decode_sense") else { return };
    let mut rig = rig();
    let fixed = raw_sense(&mut rig, &[0x12, 0, 0x80, 0, 96, 0]);
    let wanted = ["Illegal Request", "Invalid field in cdb", "byte 2 bit 7"];
    decoder.sees(&["-f", "FILE"], &fixed, &[&wanted[..], &["Fixed format"]].concat());
    // D_SENSE.
    let mut list = rig.run(1, &[0x1a, 8, 0x0a, 0, 255, 0], &[], 255).good();
    list[..4].fill(0);
    list[4] &= 0x7f;
    list[6] |= 4;
    rig.run(1, &[0x15, 0x10, 0, 0, list.len() as u8, 0], &list, 0).good();
    let descriptor = raw_sense(&mut rig, &[0x12, 0, 0x80, 0, 96, 0]);
    decoder.sees(&["-f", "FILE"], &descriptor, &[&wanted[..], &["Descriptor format"]].concat());
}

/// The sense bytes as they go out.
fn raw_sense(rig: &mut Rig, cdb: &[u8]) -> Vec<u8> {
    use scsi_core::{Lun, TaskAttribute};
    use stmf::provider::{Effect, Effects, LuTask};
    use stmf::{NexusId, TaskId, TaskTag};
    let task = LuTask {
        id: TaskId { nexus: NexusId(1), tag: TaskTag(1 << 40) },
        lun: Lun::ZERO,
        attribute: TaskAttribute::Simple,
        priority: 0,
        cdb,
        data_out_length: 0,
        data_in_length: 96,
    };
    let mut effects = Effects::new();
    rig.lu.submit(task, &mut effects);
    match effects.pop() {
        Some(Effect::Complete(completion)) => completion.sense.to_vec(),
        other => panic!("{other:?}"),
    }
}

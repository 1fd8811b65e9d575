//! Bad parameter lists: for each command that takes one a good list, the fields of it that cannot hold everything, and
//! every value of theirs. What is not legal ends with 05/26/00 and a pointer into the list, or as stands beside the field;
//! what is legal does not. Mode pages are generated from the masks that the unit tells.

mod common;

use common::site::Site;
use common::{Answer, BLOCK};
use lu_sbd::store::MemoryStore;
use scsi_core::data::{BlockSegment, CopyList, CscdDescriptor, CscdName, SegmentDescriptor};
use scsi_core::mode::{DecodedModeSense, PageId, field_at};
use scsi_core::{Guid, SenseKey, Status};
use std::collections::BTreeSet;
use std::sync::Arc;
use stmf::provider::{LogicalUnit, PortGroup, TargetPorts};

const SIZE: u64 = 64 << 20;
const BLOCKS: u64 = SIZE / BLOCK as u64;

fn unit() -> Site {
    let site = Site::new(vec![(Arc::new(MemoryStore::new(SIZE)), &[])]);
    let group = PortGroup { id: 3, state: Default::default(), preferred: false, ports: vec![1] };
    site.units[0].set_target_ports(&Arc::new(TargetPorts { groups: vec![group] }));
    site
}

/// What an illegal value ends with.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    /// 05/26/00, pointing to the field.
    Pointed,
    /// ILLEGAL REQUEST with another code, which says by itself what is wrong.
    Code(u8, u8),
}

/// A field of a list: its first byte, highest bit, width in bits, and the first and last of each range of legal values.
#[derive(Clone, Debug)]
struct Field {
    name: &'static str,
    byte: usize,
    bit: u8,
    width: u8,
    legal: Vec<(u64, u64)>,
    refusal: Refusal,
}

fn bits(name: &'static str, byte: usize, bit: u8, width: u8, legal: &[(u64, u64)]) -> Field {
    Field { name, byte, bit, width, legal: legal.to_vec(), refusal: Refusal::Pointed }
}

fn bytes(name: &'static str, byte: usize, count: u8, legal: &[(u64, u64)]) -> Field {
    bits(name, byte, 7, 8 * count, legal)
}

fn code(mut field: Field, asc: u8, ascq: u8) -> Field {
    field.refusal = Refusal::Code(asc, ascq);
    field
}

impl Field {
    fn byte_count(&self) -> usize {
        (usize::from(7 - self.bit) + usize::from(self.width)).div_ceil(8)
    }

    /// The list with the field set.
    fn put(&self, list: &[u8], value: u64) -> Vec<u8> {
        let mut image = [0; 8];
        let range = self.byte..self.byte + self.byte_count();
        image[..range.len()].copy_from_slice(&list[range.clone()]);
        let mask = (u64::MAX << (64 - self.width)) >> (7 - self.bit);
        let place = (value << (64 - self.width)) >> (7 - self.bit);
        let set = u64::from_be_bytes(image) & !mask | place;
        let mut list = list.to_vec();
        list[range.clone()].copy_from_slice(&set.to_be_bytes()[..range.len()]);
        list
    }

    fn is_legal(&self, value: u64) -> bool {
        self.legal.iter().any(|(low, high)| (*low..=*high).contains(&value))
    }

    fn candidates(&self) -> Vec<u64> {
        let max = u64::MAX >> (64 - self.width);
        if self.width <= 8 {
            return (0..=max).collect();
        }
        let edges = self.legal.iter().flat_map(|(low, high)| [*low, *high]);
        let around = |value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)];
        let all: BTreeSet<u64> = (0..64).map(|bit| 1 << bit).chain(edges).chain([0, max]).flat_map(around).collect();
        all.into_iter().filter(|value| *value <= max).collect()
    }
}

/// A command with a good list.
struct List {
    name: &'static str,
    /// Where its length stands in the CDB: byte and width.
    length_at: (usize, usize),
    cdb: Vec<u8>,
    list: Vec<u8>,
    fields: Vec<Field>,
    /// What comes before it.
    before: Vec<(Vec<u8>, Vec<u8>)>,
}

impl List {
    fn new(name: &'static str, cdb: &[u8], length_at: (usize, usize), list: Vec<u8>, fields: Vec<Field>) -> Self {
        Self { name, length_at, cdb: cdb.to_vec(), list, fields, before: Vec::new() }
    }

    fn send(&self, list: &[u8]) -> Answer {
        let mut site = unit();
        for (cdb, list) in &self.before {
            site.run(0, 1, cdb, list, 0).good();
        }
        let (at, width) = self.length_at;
        let mut cdb = self.cdb.clone();
        if width > 0 {
            cdb[at..at + width].copy_from_slice(&list.len().to_be_bytes()[8 - width..]);
        }
        site.run(0, 1, &cdb, list, 0)
    }

    /// Tries every field; how many values were refused.
    fn check(&self) -> usize {
        let good = self.send(&self.list);
        assert_eq!(good.status, Status::GOOD, "{}: {:?}", self.name, good.sense);
        let mut refused = 0;
        for field in &self.fields {
            for value in field.candidates() {
                let list = field.put(&self.list, value);
                let answer = self.send(&list);
                let what = format!("{}: {} = {value:#x}: {:?}", self.name, field.name, answer.sense);
                let sense = answer.sense.filter(|_| answer.status == Status::CHECK_CONDITION);
                let illegal = sense.filter(|sense| sense.key == SenseKey::ILLEGAL_REQUEST);
                let code = illegal.map(|sense| (sense.code.asc, sense.code.ascq));
                let pointer = illegal.and_then(|sense| sense.field_pointer());
                let pointer = pointer.filter(|pointer| !pointer.in_cdb).map(|pointer| (pointer.byte, pointer.bit));
                let here = Some((field.byte as u16, Some(field.bit)));
                match (field.is_legal(value), field.refusal) {
                    (true, Refusal::Pointed) => assert_ne!(pointer, here, "{what}"),
                    (true, Refusal::Code(asc, ascq)) => assert_ne!(code, Some((asc, ascq)), "{what}"),
                    (false, Refusal::Pointed) => {
                        assert_eq!((code, pointer), (Some((0x26, 0)), here), "{what}");
                        refused += 1;
                    }
                    (false, Refusal::Code(asc, ascq)) => {
                        assert_eq!(code, Some((asc, ascq)), "{what}");
                        refused += 1;
                    }
                }
            }
        }
        refused
    }
}

const ZERO: &[(u64, u64)] = &[(0, 0)];

fn concat(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// A CDB of `length` bytes with an operation code and what stands in byte 1.
fn cdb(length: usize, opcode: u8, first: u8) -> Vec<u8> {
    let mut cdb = vec![0; length];
    (cdb[0], cdb[1]) = (opcode, first);
    cdb
}

#[test]
fn lists_of_diagnostics_and_logs() {
    let diagnostic = [bytes("PAGE CODE", 0, 1, ZERO), bytes("PAGE LENGTH", 2, 2, ZERO)];
    let log = [bits("PAGE CODE", 0, 5, 6, &[(0x0f, 0x0f)]), bytes("PARAMETER CODE", 4, 2, &[(0, 63)])];
    let mut parameter = vec![0x0f, 0, 1, 0, 0, 3, 3, 252];
    parameter.resize(8 + 252, 0x41);
    let mut select = cdb(10, 0x4c, 0);
    select[2] = 0x40;
    let mut tried = List::new("SEND DIAGNOSTIC", &cdb(6, 0x1d, 0x10), (3, 2), vec![0; 4], diagnostic.into()).check();
    let list = List::new("LOG SELECT", &select, (7, 2), parameter, log.into());
    tried += list.check();
    // A parameter of another length leaves bytes behind it that are none, or lacks some: the list grows along.
    for length in 253..=255u8 {
        let mut long = vec![0x0f, 0, 0, 0, 0, 3, 3, length];
        long.resize(8 + usize::from(length), 0x41);
        let total = (long.len() - 4) as u16;
        long[2..4].copy_from_slice(&total.to_be_bytes());
        let sense = list.send(&long).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
        assert_eq!(sense.field_pointer().map(|at| (at.in_cdb, at.byte, at.bit)), Some((false, 7, Some(7))));
    }
    assert!(tried > 350, "{tried}");
}

#[test]
fn lists_of_format_and_sanitize() {
    let overwrite = [
        bits("TEST", 0, 6, 2, ZERO),
        bits("OVERWRITE COUNT", 0, 4, 5, &[(1, 31)]),
        // What is shorter than the pattern that is sent leaves a rest; what is longer than a block is no pattern.
        bytes("INITIALIZATION PATTERN LENGTH", 2, 2, &[(1, 512)]),
    ];
    let sanitize = List::new(
        "SANITIZE, OVERWRITE",
        &cdb(10, 0x48, 0x81),
        (7, 2),
        concat(&[&[1, 0, 2, 0], &[0xa5; 512]]),
        overwrite.into(),
    );
    let short = [
        bits("PROTECTION FIELD USAGE", 0, 2, 3, ZERO),
        bits("DSP", 1, 2, 1, ZERO),
        bits("vendor specific", 1, 0, 1, ZERO),
        bytes("DEFECT LIST LENGTH", 2, 2, ZERO),
        bits("IP MODIFIER", 4, 7, 2, ZERO),
        bits("SI", 4, 5, 1, ZERO),
        bytes("INITIALIZATION PATTERN TYPE", 5, 1, &[(0, 1)]),
        bytes("INITIALIZATION PATTERN LENGTH", 6, 2, &[(1, 512)]),
    ];
    let mut type_apart = short.to_vec();
    // With type 0 there must be no pattern: the pointer then is to its length.
    type_apart.retain(|field| field.name != "INITIALIZATION PATTERN TYPE");
    let pattern = concat(&[&[0, 0x8a, 0, 0, 0, 1, 2, 0], &[0x5a; 512]]);
    let format = List::new("FORMAT UNIT", &cdb(6, 0x04, 0x10), (0, 0), pattern, type_apart);
    let kinds = vec![short[6].clone()];
    let default = List::new("FORMAT UNIT", &cdb(6, 0x04, 0x10), (0, 0), vec![0, 0x8a, 0, 0, 0, 0, 0, 0], kinds);
    let options = [bits("DPRY, DCRT, STPF, IP without FOV", 1, 7, 1, &[(1, 1)])];
    let fov = List::new("FORMAT UNIT", &cdb(6, 0x04, 0x10), (0, 0), vec![0, 0xc2, 0, 0], options.into());
    let long = [
        bits("PROTECTION FIELD USAGE", 0, 2, 3, ZERO),
        bytes("P_I_INFORMATION, PROTECTION INTERVAL EXPONENT", 3, 1, ZERO),
        bytes("DEFECT LIST LENGTH", 4, 4, ZERO),
    ];
    let long =
        List::new("FORMAT UNIT, LONGLIST", &cdb(6, 0x04, 0x30), (0, 0), vec![0, 0x82, 0, 0, 0, 0, 0, 0], long.into());
    let tried: usize = [sanitize, format, default, fov, long].iter().map(List::check).sum();
    assert!(tried > 600, "{tried}");
}

#[test]
fn lists_of_ranges_and_port_groups() {
    let block = |lba: u64, blocks: u32| concat(&[&lba.to_be_bytes(), &blocks.to_be_bytes(), &[0; 4]]);
    let unmap = [code(bytes("UNMAP LOGICAL BLOCK ADDRESS", 8, 8, &[(0, BLOCKS - 8)]), 0x21, 0)];
    let unmap_list = concat(&[&[0, 22, 0, 16, 0, 0, 0, 0], &block(0, 8)]);
    let groups = [bits("ASYMMETRIC ACCESS STATE", 4, 3, 4, &[(0, 3)]), bytes("TARGET PORT GROUP", 6, 2, &[(3, 3)])];
    let text = [bytes("last byte", 4, 1, ZERO)];
    let mut information = cdb(12, 0xa4, 0x06);
    information[10] = 2 << 1;
    let text = List::new("SET IDENTIFYING INFORMATION", &information, (6, 4), b"disk\0".to_vec(), text.into());
    // A text has no bits: the pointer is to the byte alone.
    let mut tried = 0;
    for value in 1..=255u8 {
        let sense = text.send(&[b'd', b'i', b's', b'k', value]).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
        assert_eq!(sense.field_pointer().map(|at| (at.in_cdb, at.byte)), Some((false, 4)), "{:?}", text.fields);
        tried += 1;
    }
    let lists = [
        List::new("UNMAP", &cdb(10, 0x42, 0), (7, 2), unmap_list, unmap.into()),
        List::new("SET TARGET PORT GROUPS", &cdb(12, 0xa4, 0x0a), (6, 4), vec![0, 0, 0, 0, 1, 0, 0, 3], groups.into()),
    ];
    tried += lists.iter().map(List::check).sum::<usize>();
    assert!(tried > 400, "{tried}");
}

/// PERSISTENT RESERVE OUT with its list.
fn reserve_out(action: u8, kind: u8, list: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let mut cdb = cdb(10, 0x5f, action);
    cdb[2] = kind;
    cdb[8] = list.len() as u8;
    (cdb, list.to_vec())
}

fn keys(key: u64, new: u64, rest: &[u8]) -> Vec<u8> {
    concat(&[&key.to_be_bytes(), &new.to_be_bytes(), rest])
}

#[test]
fn lists_of_reservations() {
    let mut tried = 0;
    let basic = [0u8; 8];
    let register = reserve_out(0, 0, &keys(0, 7, &basic));
    // SPEC_I_PT is REGISTER's alone. The list has an empty list of TransportIDs behind it for the others.
    let spec_i_pt = |action, kind| {
        let mut list = keys(7, 7, &[0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0]);
        let (cdb, _) = reserve_out(action, kind, &list);
        list[20] = 8;
        let mut out = List::new("PERSISTENT RESERVE OUT", &cdb, (5, 4), list, Vec::new());
        out.before = vec![register.clone()];
        out
    };
    for (action, kind) in [(1, 5), (2, 5), (3, 0), (4, 5), (5, 5), (6, 0)] {
        let refused = spec_i_pt(action, kind);
        let sense = refused.send(&refused.list).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
        assert_eq!(sense.field_pointer().map(|at| (at.byte, at.bit)), Some((20, Some(3))), "{action}");
        tried += 1;
    }
    // REGISTER of other initiators: what they are named by.
    let name = b"iqn.2026-11.org.example:a\0\0\0";
    let id = concat(&[&[0x05, 0, 0, name.len() as u8], name]);
    let list = concat(&[&keys(0, 7, &[0, 0, 0, 0, 8, 0, 0, 0]), &(id.len() as u32).to_be_bytes(), &id]);
    let (register_cdb, _) = reserve_out(0, 0, &list);
    let named = List::new("REGISTER with SPEC_I_PT", &register_cdb, (5, 4), list, Vec::new());
    named.send(&named.list).good();
    for (byte, value, at) in [(30, 1, 30), (31, 27, 30), (31, 16, 30), (28, 0x85, 28), (28, 0xc5, 28), (28, 0x45, 32)] {
        let mut list = named.list.clone();
        list[byte] = value;
        let sense = named.send(&list).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
        assert_eq!(sense.field_pointer().map(|pointer| (pointer.in_cdb, pointer.byte)), Some((false, at)), "{byte}");
        tried += 1;
    }
    // PREEMPT of nobody's key.
    let (preempt, list) = reserve_out(4, 5, &keys(7, 7, &basic));
    let key = vec![bytes("SERVICE ACTION RESERVATION KEY", 8, 8, &[(1, u64::MAX)])];
    let mut preempt = List::new("PERSISTENT RESERVE OUT, PREEMPT", &preempt, (5, 4), list, key);
    preempt.before = vec![register.clone()];
    tried += preempt.check();
    // REGISTER AND MOVE: key, port, name.
    let moved = concat(&[&keys(7, 9, &[0, 0, 0, 1]), &(id.len() as u32).to_be_bytes(), &id]);
    let port_id = b"iqn.2026-11.org.example:a,i,0x00023d000001\0\0";
    let port_id = concat(&[&[0x45, 0, 0, port_id.len() as u8], port_id]);
    let moved = concat(&[&moved[..20], &(port_id.len() as u32).to_be_bytes(), &port_id]);
    let (cdb, _) = reserve_out(7, 0, &moved);
    let fields = vec![
        bytes("SERVICE ACTION RESERVATION KEY", 8, 8, &[(1, u64::MAX)]),
        bytes("RELATIVE TARGET PORT IDENTIFIER", 18, 2, &[(1, 1)]),
    ];
    let mut moved = List::new("PERSISTENT RESERVE OUT, REGISTER AND MOVE", &cdb, (5, 4), moved, fields);
    moved.before = vec![register, reserve_out(1, 5, &keys(7, 0, &basic))];
    tried += moved.check();
    assert!(tried > 40, "{tried}");
}

#[test]
fn lists_of_copies() {
    let site = unit();
    let guid = Guid::from_bytes(site.guid(0)).unwrap();
    let segment = BlockSegment {
        source: 0,
        destination: 0,
        destination_count: true,
        cat: false,
        blocks: 8,
        source_lba: 0,
        destination_lba: 64,
    };
    let list = CopyList {
        list_identifier: 1,
        cscds: vec![CscdDescriptor { name: CscdName::Guid(guid), block_length: 512, pad: false }],
        segments: vec![SegmentDescriptor::Block(segment)],
        ..CopyList::default()
    };
    let descriptors = |start: usize| {
        let segment = start + 32;
        vec![
            bits("LIST ID USAGE", 1, 4, 2, &[(0, 0), (2, 2), (3, 3)]),
            code(bytes("CSCD DESCRIPTOR TYPE CODE", start, 1, &[(0xe4, 0xe4)]), 0x26, 0x07),
            bits("ASSOCIATION", start + 5, 5, 2, ZERO),
            bytes("DESIGNATOR LENGTH", start + 7, 1, &[(0, 20)]),
            code(bytes("DESCRIPTOR TYPE CODE", segment, 1, &[(2, 2)]), 0x26, 0x09),
            bytes("DESCRIPTOR LENGTH", segment + 2, 2, &[(24, 24)]),
        ]
    };
    let lid1 = list.encode_lid1();
    let mut head = vec![0; 48];
    (head[0], head[3], head[16], head[23]) = (1, 0x20, 0xff, 1);
    (head[43], head[45]) = (32, 28);
    let lid4 = concat(&[&head, &lid1[16..]]);
    let mut fields = descriptors(48);
    fields.extend([
        bytes("PARAMETER LIST FORMAT", 0, 1, &[(1, 1)]),
        bytes("HEADER CSCD DESCRIPTOR LIST LENGTH", 2, 2, &[(0x20, 0x20)]),
        bytes("HEADER CSCD DESCRIPTOR TYPE CODE", 16, 1, &[(0xff, 0xff)]),
    ]);
    // Whoever says that there is no identifier must not give one.
    let mut nameless = list.clone();
    (nameless.list_identifier, nameless.list_id_usage) = (0, 3);
    let nameless_lid1 = nameless.encode_lid1();
    let mut nameless_lid4 = lid4.clone();
    (nameless_lid4[1], nameless_lid4[23]) = (3 << 3, 0);
    let mut sent = lid1.clone();
    sent[0] = 0;
    // A designator that is cut short is another unit's name, or none: its length is tried with the pointer alone.
    let lists = [
        List::new(
            "EXTENDED COPY(LID1)",
            &cdb(16, 0x83, 0),
            (10, 4),
            sent,
            without(descriptors(16), "DESIGNATOR LENGTH"),
        ),
        List::new(
            "EXTENDED COPY(LID4)",
            &cdb(16, 0x83, 1),
            (10, 4),
            {
                let mut sent = lid4.clone();
                sent[23] = 0;
                sent
            },
            without(fields, "DESIGNATOR LENGTH"),
        ),
        List::new("EXTENDED COPY(LID1)", &cdb(16, 0x83, 0), (10, 4), lid1, vec![descriptors(16)[3].clone()]),
        List::new("EXTENDED COPY(LID4)", &cdb(16, 0x83, 1), (10, 4), lid4, vec![descriptors(48)[3].clone()]),
        List::new(
            "EXTENDED COPY(LID1)",
            &cdb(16, 0x83, 0),
            (10, 4),
            nameless_lid1,
            vec![bytes("LIST IDENTIFIER", 0, 1, ZERO)],
        ),
        List::new(
            "EXTENDED COPY(LID4)",
            &cdb(16, 0x83, 1),
            (10, 4),
            nameless_lid4,
            vec![bytes("LIST IDENTIFIER", 20, 4, ZERO)],
        ),
    ];
    let tried: usize = lists.iter().map(List::check).sum();
    assert!(tried > 1500, "{tried}");
}

fn without(mut fields: Vec<Field>, name: &str) -> Vec<Field> {
    fields.retain(|field| field.name != name);
    fields
}

#[test]
fn lists_of_tokens() {
    let range = |lba: u64, blocks: u32| concat(&[&lba.to_be_bytes(), &blocks.to_be_bytes(), &[0; 4]]);
    let populate = concat(&[&[0, 30, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 16], &range(0, 8)]);
    let fields = vec![
        bytes("POPULATE TOKEN DATA LENGTH", 0, 2, &[(30, u64::MAX)]),
        bytes("INACTIVITY TIMEOUT", 4, 4, &[(0, 3600)]),
        code(bytes("LOGICAL BLOCK ADDRESS", 16, 8, &[(0, BLOCKS - 8)]), 0x21, 0),
        code(bytes("NUMBER OF LOGICAL BLOCKS", 24, 4, &[(0, BLOCKS)]), 0x21, 0),
    ];
    let lists = [
        List::new("POPULATE TOKEN", &cdb(16, 0x83, 0x10), (10, 4), populate.clone(), fields),
        List::new(
            "POPULATE TOKEN",
            &cdb(16, 0x83, 0x10),
            (10, 4),
            concat(&[&[0xff, 0xff], &populate[2..]]),
            vec![bits("RANGE DESCRIPTOR LENGTH", 14, 7, 16, &[(16, u64::MAX)])],
        ),
        List::new(
            "POPULATE TOKEN",
            &cdb(16, 0x83, 0x10),
            (10, 4),
            concat(&[&populate[..2], &[2, 0], &populate[4..8], &0x0080_0000u32.to_be_bytes(), &populate[12..]]),
            vec![code(bytes("ROD TYPE", 8, 4, &[(0x0080_0000, 0x0080_0001)]), 0x23, 0x01)],
        ),
    ];
    // The token that stands for zeros.
    let mut head = vec![0; 536];
    head[535] = 16;
    let length = (536 + 16 - 2) as u16;
    head[..2].copy_from_slice(&length.to_be_bytes());
    head[16..20].copy_from_slice(&0xffff_0001u32.to_be_bytes());
    (head[22], head[23]) = (1, 0xf8);
    let write = concat(&[&head, &range(64, 8)]);
    let fields = vec![
        bytes("WRITE USING TOKEN DATA LENGTH", 0, 2, &[(length.into(), u64::MAX)]),
        code(bytes("LOGICAL BLOCK ADDRESS", 536, 8, &[(0, BLOCKS - 8)]), 0x21, 0),
        code(bytes("NUMBER OF LOGICAL BLOCKS", 544, 4, &[(0, BLOCKS - 64)]), 0x21, 0),
        code(bytes("ROD TYPE", 16, 4, &[(0x0080_0001, 0x0080_0001), (0xffff_0001, 0xffff_0001)]), 0x23, 0x01),
    ];
    let write = List::new("WRITE USING TOKEN", &cdb(16, 0x83, 0x11), (10, 4), write, fields);
    let tried: usize = lists.iter().chain([&write]).map(List::check).sum();
    assert!(tried > 400, "{tried}");
}

/// What the header of MODE SELECT may not say.
#[test]
fn headers_of_mode_pages() {
    let page = |ten: bool| if ten { vec![0; 8] } else { vec![0; 4] };
    let six = vec![bytes("MEDIUM TYPE", 1, 1, ZERO), bytes("BLOCK DESCRIPTOR LENGTH", 3, 1, &[(0, 0), (8, 8)])];
    let ten = vec![bytes("MEDIUM TYPE", 2, 1, ZERO), bytes("BLOCK DESCRIPTOR LENGTH", 6, 2, &[(0, 0), (8, 8)])];
    let short = |blocks: u32| concat(&[&blocks.to_be_bytes(), &(BLOCK as u32).to_be_bytes()]);
    let blocks = (BLOCKS, BLOCKS);
    let descriptor = vec![
        bytes("NUMBER OF LOGICAL BLOCKS", 4, 4, &[(0, 0), blocks, (0xffff_ffff, 0xffff_ffff)]),
        bytes("LOGICAL BLOCK LENGTH", 9, 3, &[(0, 0), (512, 512)]),
    ];
    let long = vec![
        bytes("NUMBER OF LOGICAL BLOCKS", 8, 8, &[(0, 0), blocks, (u64::MAX, u64::MAX)]),
        bytes("LOGICAL BLOCK LENGTH", 20, 4, &[(0, 0), (512, 512)]),
    ];
    let with_long = concat(&[&[0, 0, 0, 0, 1, 0, 0, 16], &BLOCKS.to_be_bytes(), &[0; 4], &512u32.to_be_bytes()]);
    let with_short = concat(&[&[0, 0, 0, 8], &short(BLOCKS as u32)]);
    let lists = [
        List::new("MODE SELECT(6)", &cdb(6, 0x15, 0x10), (4, 1), page(false), six),
        List::new("MODE SELECT(10)", &cdb(10, 0x55, 0x10), (7, 2), page(true), ten),
        List::new("MODE SELECT(6)", &cdb(6, 0x15, 0x10), (4, 1), with_short, descriptor),
        List::new("MODE SELECT(10)", &cdb(10, 0x55, 0x10), (7, 2), with_long, long),
    ];
    let tried: usize = lists.iter().map(List::check).sum();
    assert!(tried > 900, "{tried}");
}

#[test]
fn every_bit_of_every_mode_page_that_cannot_be_changed() {
    let mut site = unit();
    let mut pages = |control: u8| {
        let data = site.run(0, 1, &[0x5a, 8, control << 6 | 0x3f, 0xff, 0, 0, 0, 0x40, 0, 0], &[], 0x4000).good();
        DecodedModeSense::decode(&data, true).unwrap().pages
    };
    let (current, masks) = (pages(0), pages(1));
    let (mut refused, mut taken) = (0, 0);
    for ((id, page), (other, mask)) in current.iter().zip(&masks) {
        assert_eq!(id, other);
        // PS is reserved here, and as good as every initiator sends back what it was told.
        let mut page = page.clone();
        page[0] &= 0x7f;
        let list = |page: &[u8]| concat(&[&[0; 8], page]);
        let select = List::new("MODE SELECT(10)", &cdb(10, 0x55, 0x10), (7, 2), list(&page), Vec::new());
        select.send(&select.list).good();
        let header = if page[0] & 0x40 != 0 { 4 } else { 2 };
        for at in header..page.len() {
            for bit in 0..8 {
                let mut changed = page.clone();
                changed[at] ^= 1 << bit;
                let answer = select.send(&list(&changed));
                let what = format!("{id:?} byte {at} bit {bit}: {:?}", answer.sense);
                let pointer = answer.sense.and_then(|sense| sense.field_pointer());
                let (first, highest) = field_at(*id, at, bit);
                let here = Some((false, (8 + first) as u16, Some(highest)));
                let pointer = pointer.map(|pointer| (pointer.in_cdb, pointer.byte, pointer.bit));
                if mask[at] & 1 << bit == 0 {
                    answer.check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
                    assert_eq!(pointer, here, "{what}");
                    refused += 1;
                } else {
                    taken += usize::from(answer.status == Status::GOOD);
                    // Some values of fields of several bits are none: those are tried whole below.
                    assert!(answer.status == Status::GOOD || answer.sense.unwrap().code.asc == 0x26, "{what}");
                }
            }
        }
        let length_at = if header == 2 { 1 } else { 2 };
        let exact = (page.len() - header) as u64;
        let width = if header == 2 { 1 } else { 2 };
        // A page that says that it is longer than what is there is cut, which is no field's fault.
        for length in 0..exact {
            let field = bytes("PAGE LENGTH", 8 + length_at, width, &[]);
            let short = field.put(&list(&page), length);
            let short = &short[..8 + header + length as usize];
            let sense = select.send(short).check(SenseKey::ILLEGAL_REQUEST, 0x26, 0);
            assert_eq!(sense.field_pointer().map(|at| usize::from(at.byte)), Some(8 + length_at), "{id:?} {length}");
            refused += 1;
        }
    }
    let codes: Vec<(u64, u64)> = current.iter().map(|(id, _)| (u64::from(id.page), u64::from(id.page))).collect();
    let caching = current.iter().find(|(id, _)| *id == PageId::CACHING).unwrap().1.clone();
    let mut list = concat(&[&[0; 8], &caching]);
    list[8] &= 0x7f;
    // The list of another page that is there has another length.
    let fields = vec![bits("PAGE CODE", 8, 5, 6, &codes)];
    refused += List::new("MODE SELECT(10)", &cdb(10, 0x55, 0x10), (7, 2), list, fields).check();
    assert!(refused > 700 && taken > 20, "{refused} refused, {taken} taken");
}

#[test]
fn fields_of_mode_pages_of_several_bits() {
    let mut site = unit();
    let mut fields = |page: u8, fields: Vec<Field>| {
        let data = site.run(0, 1, &[0x5a, 8, page, 0, 0, 0, 0, 0x40, 0, 0], &[], 0x4000).good();
        let mut list = concat(&[&[0; 8], &data[8..]]);
        list[8] &= 0x7f;
        List::new("MODE SELECT(10)", &cdb(10, 0x55, 0x10), (7, 2), list, fields).check()
    };
    let control = vec![
        bits("TST", 8 + 2, 7, 3, &[(0, 1)]),
        bits("QUEUE ALGORITHM MODIFIER", 8 + 3, 7, 4, &[(0, 1)]),
        bits("QERR", 8 + 3, 2, 2, &[(0, 1), (3, 3)]),
    ];
    let exceptions = vec![bits("MRIE", 8 + 3, 3, 4, &[(0, 0), (2, 6)])];
    let tried = fields(0x0a, control) + fields(0x1c, exceptions);
    assert!(tried > 25, "{tried}");
}

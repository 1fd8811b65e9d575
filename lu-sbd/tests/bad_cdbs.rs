//! Bad CDBs over whole units, generated from the command table: every reserved bit, every service action and operation
//! code that is not there, and every value of every field. The table says which values a field may have
//! ([`scsi_core::command::Field`]); where a unit decides, its own pages and limits are asked. A value that is not legal is
//! refused with a pointer to the field, one that is legal is not.

mod common;

use common::site::Site;
use common::{Answer, BLOCK};
use lu_sbd::store::MemoryStore;
use scsi_core::command::{
    COMMANDS, CommandEntry, CommandFlags, CommandKind as K, CommandSet, DataDirection, Field, Place, Values, When,
    entries_of,
};
use scsi_core::data::OperationCodesReport;
use scsi_core::log::LogPage;
use scsi_core::mode::DecodedModeSense;
use scsi_core::{SenseKey, Status};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stmf::provider::{LogicalUnit, PortGroup, TargetPorts};

const SIZE: u64 = 64 << 20;
const BLOCKS: u64 = SIZE / BLOCK as u64;

/// Units that together have every command of the table, and differ in what their fields may hold.
const KINDS: [(&str, &[&str]); 4] =
    [("thin", &[]), ("removable", &["removable=true"]), ("thick", &["thin=false"]), ("read-only", &["wp=true"])];

/// A unit, as it is before anything was asked of it.
fn unit(kind: usize) -> Site {
    let site = Site::new(vec![(Arc::new(MemoryStore::new(SIZE)), KINDS[kind].1)]);
    let group = PortGroup { id: 0, state: Default::default(), preferred: false, ports: vec![1] };
    site.units[0].set_target_ports(&Arc::new(TargetPorts { groups: vec![group] }));
    site
}

/// A command that is not refused for its CDB may want data; it gets zeros.
fn send(site: &mut Site, entry: &CommandEntry, cdb: &[u8]) -> Answer {
    let phase = entry.data.phase(cdb, BLOCK as u32);
    let length = phase.length.min(1 << 20) as usize;
    let (out, room) = match phase.direction {
        DataDirection::Out => (length, 0),
        DataDirection::In => (0, length as u32),
        DataDirection::None => (0, 0),
    };
    site.run(0, 1, cdb, &vec![0; out], room)
}

/// What a unit of a kind tells of itself.
struct Told {
    kind: usize,
    commands: Vec<&'static CommandEntry>,
    vpd: Vec<u8>,
    modes: BTreeSet<(u8, u8)>,
    /// The highest parameter code of each page; none of those that only list pages.
    logs: BTreeMap<(u8, u8), Option<u16>>,
    max_transfer: u64,
    max_compare_and_write: u64,
    max_write_same: u64,
    max_atomic: u64,
}

impl Told {
    fn of(kind: usize) -> Self {
        let mut site = unit(kind);
        let mut ask = |cdb: &[u8]| site.run(0, 1, cdb, &[], 0xffff).good();
        let report = ask(&[0xa3, 0xc, 0, 0, 0, 0, 0, 0, 0x40, 0, 0, 0]);
        let listed = OperationCodesReport::decode(&report).unwrap().commands;
        let is_listed = |entry: &&CommandEntry| listed.contains(&(entry.opcode, entry.service_action.map(u16::from)));
        let commands: Vec<&CommandEntry> = COMMANDS.iter().filter(is_listed).collect();
        assert_eq!(commands.len(), listed.len());
        let limits = ask(&[0x12, 1, 0xb0, 0, 255, 0]);
        let long = |at: usize| u64::from(u32::from_be_bytes(limits[at..at + 4].try_into().unwrap()));
        let modes = DecodedModeSense::decode(&ask(&[0x5a, 8, 0x3f, 0xff, 0, 0, 0, 0x40, 0, 0]), true).unwrap().pages;
        let listed = ask(&[0x4d, 0, 0x40, 0xff, 0, 0, 0, 0x40, 0, 0])[4..].to_vec();
        let pages: Vec<(u8, u8)> = listed.chunks_exact(2).map(|pair| (pair[0] & 0x3f, pair[1])).collect();
        let logs = pages.iter().map(|&(page, subpage)| {
            let data = ask(&[0x4d, 0, 0x40 | page, subpage, 0, 0, 0, 0xff, 0xff, 0]);
            let lists = page == 0 || subpage == 0xff;
            let highest = || LogPage::decode(&data).unwrap().parameters.iter().map(|parameter| parameter.code).max();
            ((page, subpage), if lists { None } else { highest().or(Some(0)) })
        });
        Self {
            kind,
            logs: logs.collect(),
            commands,
            vpd: ask(&[0x12, 1, 0, 0, 255, 0])[4..].to_vec(),
            modes: modes.iter().map(|(id, _)| (id.page, id.subpage)).collect(),
            max_transfer: long(8),
            max_compare_and_write: limits[5].into(),
            max_write_same: long(40),
            max_atomic: long(44),
        }
    }

    fn name(&self) -> &'static str {
        KINDS[self.kind].0
    }
}

fn place_of(entry: &CommandEntry, name: &str) -> Option<Place> {
    entry.fields.iter().find(|field| field.name == name).map(|field| field.place)
}

fn value_of(entry: &CommandEntry, name: &str, image: u128) -> u64 {
    place_of(entry, name).map_or(0, |place| place.get(image))
}

/// How a CDB has to end for what stands in a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Legal,
    /// 05/24/00 with a pointer to it.
    Pointed,
    /// 05/21/00.
    OutOfRange,
}

impl Told {
    /// What the declaration of a field says of a CDB.
    fn verdict(&self, entry: &CommandEntry, field: &Field, image: u128) -> Verdict {
        if !field.when.holds(image) {
            return Verdict::Legal;
        }
        let value = field.place.get(image);
        let byte = value as u8;
        let page = value_of(entry, "PAGE CODE", image) as u8;
        let subpage = value_of(entry, "SUBPAGE CODE", image) as u8;
        let selects = entry.kind == K::LogSelect;
        let legal = match field.values {
            Values::Any | Values::AllocationLength | Values::UnrestrictedExit | Values::ReservationType => true,
            Values::Only(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&value)),
            Values::ParameterListLength => {
                entry.kind != K::SanitizeOverwrite || (5..=BLOCK as u64 + 4).contains(&value)
            }
            Values::Lba | Values::Blocks => return self.range(entry, field, image),
            Values::VpdPage => self.vpd.contains(&byte),
            Values::ModePage => byte == 0x3f || self.modes.iter().any(|(page, _)| *page == byte),
            Values::ModeSubpage if page == 0x3f => matches!(byte, 0 | 0xff),
            Values::ModeSubpage => byte == 0xff || self.modes.contains(&(page, byte)),
            Values::LogPage => self.logs.keys().any(|(page, _)| *page == byte),
            Values::LogSubpage if selects && page != 0 => byte != 0xff && self.logs.contains_key(&(page, byte)),
            Values::LogSubpage => byte == 0xff || self.logs.contains_key(&(page, byte)),
            Values::LogPageControl => {
                matches!(byte, 1 | 3) || !matches!(self.logs.get(&(page, subpage)), Some(Some(_)))
            }
            Values::ParameterPointer => value <= self.logs.get(&(page, subpage)).copied().flatten().unwrap_or(0).into(),
            // A fresh unit remembers no copy.
            Values::ListIdentifier => false,
            Values::IfRemovable => value == 0 || self.name() == "removable",
            Values::IfDeallocating => value == 0 || self.name() != "thick",
            Values::AtomicBoundary => value == 0,
            Values::ReportingOptions => {
                let rows = entries_of(value_of(entry, "REQUESTED OPERATION CODE", image) as u8);
                let known = rows.iter().any(|row| self.commands.contains(&row));
                let has_actions = rows.iter().any(|row| row.service_action.is_some());
                !(known && (value == 1 && has_actions || value == 2 && !has_actions))
            }
            // No test runs in the background.
            Values::SelfTestCode => value != 4,
        };
        if legal { Verdict::Legal } else { Verdict::Pointed }
    }

    fn range(&self, entry: &CommandEntry, field: &Field, image: u128) -> Verdict {
        let lba = value_of(entry, "LOGICAL BLOCK ADDRESS", image);
        let blocks = match place_of(entry, "TRANSFER LENGTH") {
            Some(place) if place.width == 8 && place.get(image) == 0 && entry.cdb_length == 6 => 256,
            Some(place) => place.get(image),
            None => 1,
        };
        if lba.checked_add(blocks).is_none_or(|end| end > BLOCKS) {
            return Verdict::OutOfRange;
        }
        let most = match entry.kind {
            K::CompareAndWrite => self.max_compare_and_write,
            K::WriteSame10 | K::WriteSame16 => self.max_write_same,
            K::WriteAtomic16 => self.max_atomic,
            // Nothing is moved to the initiator or from it.
            K::PreFetch10 | K::PreFetch16 | K::SynchronizeCache10 | K::SynchronizeCache16 => u64::MAX,
            K::Verify10 | K::Verify12 | K::Verify16 if value_of(entry, "BYTCHK", image) != 1 => u64::MAX,
            _ => self.max_transfer,
        };
        let least = u64::from(matches!(entry.kind, K::WriteSame10 | K::WriteSame16));
        match field.values {
            Values::Blocks if blocks < least || blocks > most => Verdict::Pointed,
            _ => Verdict::Legal,
        }
    }

    /// What all declarations of a place say.
    fn verdict_of_place(&self, entry: &CommandEntry, place: Place, image: u128) -> Verdict {
        let fields = entry.fields.iter().filter(|field| field.place == place);
        fields
            .map(|field| self.verdict(entry, field, image))
            .find(|verdict| *verdict != Verdict::Legal)
            .unwrap_or(Verdict::Legal)
    }

    /// The image with every field legal, but for those of `keep`.
    fn made_legal(&self, entry: &CommandEntry, mut image: u128, keep: u128) -> u128 {
        for _ in 0..3 {
            image = entry.made_legal(image, keep);
            for field in entry.fields.iter().filter(|field| field.place.mask() & keep == 0) {
                if self.verdict_of_place(entry, field.place, image) != Verdict::Legal {
                    let legal = |value: &u64| {
                        self.verdict_of_place(entry, field.place, field.place.put(image, *value)) == Verdict::Legal
                    };
                    if let Some(value) = candidates(field.place).into_iter().find(legal) {
                        image = field.place.put(image, value);
                    }
                }
            }
        }
        image
    }

    /// Whether what was put beside a field is itself refused in a CDB: then nobody needs to look at the field.
    fn is_wrong_beside(&self, entry: &CommandEntry, place: Place, image: u128, keep: u128) -> bool {
        let beside = entry.fields.iter().map(|field| field.place).filter(|other| *other != place);
        let mut beside = beside.filter(|other| other.mask() & keep != 0);
        beside.any(|other| self.verdict_of_place(entry, other, image) == Verdict::Pointed)
    }

    /// What may stand beside a field under test: where a page decides what it may hold, each of them.
    fn bases(&self, entry: &CommandEntry, field: &Field) -> Vec<(u128, u128)> {
        let blank = whole(&entry.template());
        let base = |beside: &[(Place, u64)]| {
            let fixed = beside.iter().fold(blank, |image, (place, value)| place.put(image, *value));
            let keep = beside.iter().fold(field.place.mask(), |keep, (place, _)| keep | place.mask());
            (fixed, keep)
        };
        let pages = || (place_of(entry, "PAGE CODE").unwrap(), place_of(entry, "SUBPAGE CODE").unwrap());
        match (field.when, field.values) {
            (When::In(place, low, high), _) => {
                let edges = BTreeSet::from([low, high.min(place.max())]);
                edges.iter().map(|value| base(&[(place, *value)])).collect()
            }
            (_, Values::ModeSubpage) => {
                let codes: BTreeSet<u8> = self.modes.iter().map(|(page, _)| *page).chain([0x3f]).collect();
                codes.iter().map(|page| base(&[(pages().0, (*page).into())])).collect()
            }
            (_, Values::LogSubpage) => {
                let codes: BTreeSet<u8> = self.logs.keys().map(|(page, _)| *page).collect();
                codes.iter().map(|page| base(&[(pages().0, (*page).into())])).collect()
            }
            (_, Values::LogPageControl | Values::ParameterPointer) => {
                let ids = self.logs.keys();
                ids.map(|(page, subpage)| base(&[(pages().0, (*page).into()), (pages().1, (*subpage).into())]))
                    .collect()
            }
            (_, Values::ReportingOptions) => {
                let code = place_of(entry, "REQUESTED OPERATION CODE").unwrap();
                (0..=255).map(|opcode| base(&[(code, opcode)])).collect()
            }
            (_, Values::Lba) => match place_of(entry, "TRANSFER LENGTH") {
                Some(place) => vec![base(&[(place, 1)]), base(&[(place, 2)])],
                None => vec![base(&[])],
            },
            (_, Values::Blocks) => {
                let lba = place_of(entry, "LOGICAL BLOCK ADDRESS").unwrap();
                let mut bases = vec![base(&[(lba, 0)]), base(&[(lba, BLOCKS - 1)])];
                // What is compared with blocks that are sent is limited as what is written.
                bases.extend(place_of(entry, "BYTCHK").map(|compares| base(&[(lba, 0), (compares, 1)])));
                bases
            }
            _ => vec![base(&[])],
        }
    }
}

fn whole(cdb: &[u8]) -> u128 {
    let mut image = [0; 16];
    image[..cdb.len()].copy_from_slice(cdb);
    u128::from_be_bytes(image)
}

/// Every value of a short field; of a long one those at its ends, at powers of two, and at what limits there are.
fn candidates(place: Place) -> Vec<u64> {
    if place.width <= 8 {
        return (0..=place.max()).collect();
    }
    let around = |value: u64| [value.wrapping_sub(1), value, value.wrapping_add(1)];
    let limits = [BLOCKS, 128, 512, 516, (32 << 20) / 512, 1 << 16, place.max()];
    let all: BTreeSet<u64> = (0..64).map(|bit| 1 << bit).chain(limits).chain([0]).flat_map(around).collect();
    all.into_iter().filter(|value| *value <= place.max()).collect()
}

/// Byte and bit of a field pointer.
type At = (u16, Option<u8>);

/// Whether the answer is 05/`asc`/00, and where it points to in the CDB.
fn refusal(answer: &Answer) -> Option<(u8, Option<At>)> {
    let sense = answer.sense.filter(|_| answer.status == Status::CHECK_CONDITION)?;
    let illegal = sense.key == SenseKey::ILLEGAL_REQUEST && sense.code.ascq == 0;
    let pointer = sense.field_pointer().filter(|pointer| pointer.in_cdb);
    illegal.then(|| (sense.code.asc, pointer.map(|pointer| (pointer.byte, pointer.bit))))
}

#[track_caller]
fn pointed(answer: &Answer, what: &str, byte: u16, bit: Option<u8>) {
    assert_eq!(refusal(answer), Some((0x24, Some((byte, bit)))), "{what}: {:?}", answer.sense);
}

#[test]
fn every_reserved_bit_of_every_command_is_refused_and_pointed_to() {
    let (mut commands, mut bits) = (BTreeSet::new(), 0);
    for kind in 0..KINDS.len() {
        let told = Told::of(kind);
        let mut site = unit(kind);
        for entry in &told.commands {
            commands.insert(entry.kind);
            let used = entry.usage_data(true);
            let tolerated = entry.tolerated_data();
            for byte in 1..entry.cdb_length {
                for bit in (0..8).rev() {
                    let mask = 1u8 << bit;
                    let at = usize::from(byte);
                    let action = entry.service_action.is_some() && byte == 1 && bit < 5;
                    if used[at] & mask != 0 || tolerated[at] & mask != 0 || action {
                        continue;
                    }
                    let mut cdb = entry.template();
                    cdb[at] |= mask;
                    let answer = send(&mut site, entry, &cdb);
                    pointed(&answer, &format!("{} {cdb:02x?}", entry.name), byte.into(), Some(bit));
                    bits += 1;
                }
            }
        }
    }
    // The units together have every command of the table that is not refused by design.
    let all: BTreeSet<K> = CommandSet::all().entries().map(|entry| entry.kind).collect();
    assert_eq!(commands, all);
    assert!(bits > 6000, "{bits} bits were tried");
}

#[test]
fn every_field_of_every_command_refuses_the_values_that_it_cannot_have_and_no_other() {
    let (mut legal, mut pointed_to, mut out_of_range) = (0, 0, 0);
    let mut fields = BTreeSet::new();
    for kind in 0..KINDS.len() {
        let told = Told::of(kind);
        for entry in &told.commands {
            for (number, field) in entry.fields.iter().enumerate() {
                for (base, keep) in told.bases(entry, field) {
                    let mut site = unit(kind);
                    for value in candidates(field.place) {
                        let image = told.made_legal(entry, field.place.put(base, value), keep);
                        if told.is_wrong_beside(entry, field.place, image, keep) {
                            continue;
                        }
                        let cdb = &image.to_be_bytes()[..entry.cdb_length.into()];
                        let verdict = told.verdict_of_place(entry, field.place, image);
                        let answer = send(&mut site, entry, cdb);
                        let what = format!("{}: {} {} = {value:#x}: {cdb:02x?}", told.name(), entry.name, field.name);
                        // Where nothing may be written only what the parser looks at comes before that.
                        let key = answer.sense.map(|sense| sense.key);
                        if key == Some(SenseKey::DATA_PROTECT) {
                            let writes = entry.flags.contains(CommandFlags::CHANGES_DATA);
                            assert!(told.name() == "read-only" && writes, "{what}: {:?}", answer.sense);
                            assert_eq!(entry.made_legal(image, 0), image, "{what}: {:?}", answer.sense);
                            continue;
                        }
                        let here = (field.place.byte.into(), Some(field.place.bit));
                        let refused = refusal(&answer);
                        match verdict {
                            Verdict::Legal => {
                                assert_ne!(refused, Some((0x24, Some(here))), "{what}");
                                legal += 1;
                                // What was carried out must not stand in the way of the next.
                                site = unit(kind);
                            }
                            Verdict::Pointed => {
                                assert_eq!(refused, Some((0x24, Some(here))), "{what}: {:?}", answer.sense);
                                pointed_to += 1;
                                fields.insert((entry.kind, number));
                            }
                            Verdict::OutOfRange => {
                                let code = refused.map(|(asc, _)| asc);
                                assert_eq!(code, Some(0x21), "{what}: {:?}", answer.sense);
                                out_of_range += 1;
                                fields.insert((entry.kind, number));
                            }
                        }
                    }
                }
            }
        }
    }
    // Every declaration that limits a field was seen to refuse.
    for entry in CommandSet::all().entries() {
        for (number, field) in entry.fields.iter().enumerate() {
            let limits = !matches!(
                field.values,
                Values::Any
                    | Values::AllocationLength
                    | Values::ParameterListLength
                    | Values::UnrestrictedExit
                    | Values::ReservationType
                    | Values::Blocks
            );
            assert!(
                !limits || fields.contains(&(entry.kind, number)),
                "{}: {} was never refused",
                entry.name,
                field.name
            );
        }
    }
    println!("{legal} legal, {pointed_to} pointed to, {out_of_range} out of range");
    assert!(pointed_to > 5000 && out_of_range > 1000, "{legal} {pointed_to} {out_of_range}");
}

#[test]
fn operation_codes_and_service_actions_that_are_not_there_are_refused() {
    for kind in 0..KINDS.len() {
        let told = Told::of(kind);
        let mut site = unit(kind);
        for opcode in 0..=255u8 {
            let rows: Vec<_> = told.commands.iter().filter(|entry| entry.opcode == opcode).collect();
            let mut cdb = [0; 16];
            cdb[0] = opcode;
            if rows.is_empty() {
                site.run(0, 1, &cdb, &[], 0).check(SenseKey::ILLEGAL_REQUEST, 0x20, 0);
            } else if rows[0].service_action.is_some() {
                for action in (0..32).filter(|action| rows.iter().all(|entry| entry.service_action != Some(*action))) {
                    cdb[1] = action;
                    pointed(&site.run(0, 1, &cdb, &[], 0), &format!("{cdb:02x?}"), 1, Some(4));
                }
            }
        }
        for entry in COMMANDS.iter().filter(|entry| entry.flags.contains(CommandFlags::REFUSED)) {
            let alone = entries_of(entry.opcode).iter().all(|row| row.flags.contains(CommandFlags::REFUSED));
            let asc = if alone { 0x20 } else { 0x24 };
            site.run(0, 1, &entry.template(), &[], 0).check(SenseKey::ILLEGAL_REQUEST, asc, 0);
        }
    }
}

#[test]
fn a_cdb_that_ends_too_early_is_pointed_to_at_its_end() {
    let mut site = unit(0);
    for entry in Told::of(0).commands {
        let cdb = entry.template();
        let short = &cdb[..cdb.len() - 1];
        pointed(&site.run(0, 1, short, &[], 0), entry.name, short.len() as u16, None);
    }
}

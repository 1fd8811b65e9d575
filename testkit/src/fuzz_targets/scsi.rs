//! scsi-core: CDBs, and what parses parameter data and sense data.

use scsi_core::command::{Command, CommandSet, parse};
use scsi_core::mode::{BlockDescriptor, DeviceParameters, ModePages, standard};
use scsi_core::{Designator, SenseData, TransportId};

use super::steer;

/// A CDB is taken or refused with sense data that says where; the data it announces can be told.
pub(super) fn cdb(data: &[u8]) {
    match parse(data, CommandSet::all()) {
        Ok(parsed) => {
            for block_size in [512, 4096] {
                let _ = parsed.data_phase(block_size);
            }
        }
        Err(sense) => {
            let _ = SenseData::decode(&sense.encode(scsi_core::SenseFormat::Fixed));
            let _ = SenseData::decode(&sense.encode(scsi_core::SenseFormat::Descriptor));
        }
    }
}

/// A MODE SELECT with its list against a disk: refused wholly, or done wholly and then kept and taken back.
pub(super) fn mode_select(data: &[u8]) {
    let (length, rest) = steer(data);
    let (cdb, list) = rest.split_at(usize::from(length & 0x0f).min(rest.len()));
    let Ok(parsed) = parse(cdb, CommandSet::all()) else { return };
    let Command::ModeSelect(select) = parsed.command else { return };
    let device = DeviceParameters {
        block_descriptor: Some(BlockDescriptor { blocks: 1 << 20, block_length: 512 }),
        ..DeviceParameters::default()
    };
    let fresh = || ModePages::new(standard::disk(true, true, true));
    let mut disk = fresh();
    let before = disk.saved_record();
    match disk.select(&select, list, &device) {
        Ok(outcome) if outcome.save => {
            let kept = disk.saved_record();
            let mut restarted = fresh();
            assert!(restarted.restore(&kept), "what was kept is not taken back");
            assert_eq!(restarted.saved_record(), kept);
        }
        Ok(_) => {}
        Err(_) => assert_eq!(disk.saved_record(), before, "a refused MODE SELECT left something behind"),
    }
}

/// Saved mode pages as they come from a file.
pub(super) fn mode_record(data: &[u8]) {
    let mut disk = ModePages::new(standard::disk(true, true, true));
    let before = disk.saved_record();
    if !disk.restore(data) {
        assert_eq!(disk.saved_record(), before, "a malformed record left something behind");
    }
}

pub(super) fn sense(data: &[u8]) {
    // Cut anywhere, as allocation lengths do.
    for end in [data.len(), data.len() / 2] {
        let _ = SenseData::decode(&data[..end]);
    }
}

pub(super) fn designators(data: &[u8]) {
    for designator in Designator::decode_all(data) {
        let mut out = Vec::new();
        designator.encode(&mut out);
        assert_eq!(Designator::decode(&out).map(|(_, length)| length), Some(out.len()));
    }
}

pub(super) fn transport_id(data: &[u8]) {
    let Ok((id, length)) = TransportId::decode(data) else { return };
    assert!(length > 0 && length <= data.len(), "{length} of {} bytes taken", data.len());
    let mut out = Vec::new();
    id.encode(&mut out);
    let (again, length) = TransportId::decode(&out).expect("what was encoded decodes");
    assert_eq!((again, length), (id, out.len()));
}

use proptest::prelude::*;

use super::*;
use crate::cdb::{ModeSelect, ModeSense, PageControl};
use crate::sense::{AdditionalSense, SenseData};

fn pages() -> ModePages {
    ModePages::new(standard::disk(true, true, true))
}

fn device() -> DeviceParameters {
    let block_descriptor = Some(BlockDescriptor { blocks: 1 << 33, block_length: 512 });
    DeviceParameters { write_protected: false, dpo_fua: true, block_descriptor }
}

fn sense(page_code: u8, subpage_code: u8) -> ModeSense {
    ModeSense { page_code, subpage_code, allocation_length: 255, ..ModeSense::default() }
}

fn select() -> ModeSelect {
    ModeSelect { page_format: true, ..ModeSelect::default() }
}

/// A (6) parameter list of this page's current values, changed by `change`.
fn list(pages: &ModePages, id: PageId, change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let mut page = pages.page(id).unwrap().current().to_vec();
    change(&mut page);
    let mut data = vec![0; 4];
    data.extend_from_slice(&page);
    data
}

#[test]
fn the_header_tells_write_protect_and_dpofua() {
    let device = DeviceParameters { write_protected: true, ..device() };
    let data = pages().sense(&sense(0x08, 0), &device).unwrap();
    assert_eq!(data[..4], [data.len() as u8 - 1, 0, 0x90, 8]);
    // 2^33 blocks have no room in the short descriptor.
    assert_eq!(data[4..12], [0xff, 0xff, 0xff, 0xff, 0, 0, 2, 0]);
    assert_eq!(data[12..15], [0x88, 0x12, 0x04]);
}

#[test]
fn long_descriptors_come_when_accepted() {
    let command = ModeSense { ten: true, long_lba_accepted: true, ..sense(0x0a, 0) };
    let data = pages().sense(&command, &device()).unwrap();
    let decoded = DecodedModeSense::decode(&data, true).unwrap();
    assert!(decoded.header.long_lba);
    assert_eq!(decoded.block_descriptor, device().block_descriptor);
    assert_eq!(decoded.page(PageId::CONTROL).unwrap().len(), 12);
}

#[test]
fn all_pages_come_in_order_and_subpages_only_when_asked() {
    let codes = |subpage| {
        let data = pages().sense(&sense(0x3f, subpage), &DeviceParameters::default()).unwrap();
        let decoded = DecodedModeSense::decode(&data, false).unwrap();
        decoded.pages.iter().map(|(id, _)| (id.page, id.subpage)).collect::<Vec<_>>()
    };
    assert_eq!(codes(0), [(1, 0), (2, 0), (7, 0), (8, 0), (0x0a, 0), (0x1a, 0), (0x1c, 0)]);
    assert_eq!(codes(0xff).len(), 9);
    assert_eq!(codes(0xff)[5], (0x0a, 1));
}

#[test]
fn what_is_not_there_is_pointed_to() {
    let fixed = ModePage::new(PageId::new(0x20, 0), &[0; 2], &[], false);
    let pages = ModePages::new(pages().iter().cloned().chain([fixed]).collect());
    let error = |page, subpage| pages.sense(&sense(page, subpage), &device()).unwrap_err();
    assert_eq!(error(0x03, 0), SenseData::invalid_field_in_cdb(2, Some(5)));
    assert_eq!(error(0x08, 1), SenseData::invalid_field_in_cdb(3, Some(7)));
    assert_eq!(error(0x3f, 1), SenseData::invalid_field_in_cdb(3, Some(7)));
    let saved = ModeSense { page_control: PageControl::Saved, ..sense(0x20, 0) };
    let unsavable = SenseData::illegal_request(AdditionalSense::SAVING_PARAMETERS_NOT_SUPPORTED);
    assert_eq!(pages.sense(&saved, &device()), Err(unsavable));
}

#[test]
fn a_changeable_bit_is_changed_and_saved_only_on_demand() {
    let mut pages = pages();
    let data = list(&pages, PageId::CACHING, |page| page[2] &= !4);
    let outcome = pages.select(&select(), &data, &device()).unwrap();
    assert_eq!(outcome, ModeSelectOutcome { changed: true, save: false });
    assert!(!pages.write_cache_enabled());
    pages.reset();
    assert!(pages.write_cache_enabled());

    pages.select(&ModeSelect { save_pages: true, ..select() }, &data, &device()).unwrap();
    pages.reset();
    assert!(!pages.write_cache_enabled());
}

#[test]
fn a_fixed_bit_is_pointed_to_and_nothing_changes() {
    let mut pages = pages();
    let before = pages.clone();
    let mut data = list(&pages, PageId::CONTROL, |page| page[4] |= 0x08);
    data.extend_from_slice(&list(&pages, PageId::CACHING, |page| page[2] |= 1)[4..]);
    let expected = SenseData::invalid_field_in_parameter_list(4 + 12 + 2, Some(0));
    assert_eq!(pages.select(&select(), &data, &device()), Err(expected));
    assert_eq!(pages, before);
}

#[test]
fn reserved_values_of_changeable_fields_are_refused() {
    let mut pages = pages();
    let qerr = list(&pages, PageId::CONTROL, |page| page[3] |= 2 << 1);
    assert_eq!(
        pages.select(&select(), &qerr, &device()),
        Err(SenseData::invalid_field_in_parameter_list(4 + 3, Some(2)))
    );
    let mrie = list(&pages, PageId::INFORMATIONAL_EXCEPTIONS, |page| page[3] = 7);
    assert_eq!(
        pages.select(&select(), &mrie, &device()),
        Err(SenseData::invalid_field_in_parameter_list(4 + 3, Some(3)))
    );
}

#[test]
fn malformed_lists_are_refused() {
    let mut pages = pages();
    let mut refuse = |data: &[u8]| pages.select(&select(), data, &device()).unwrap_err();
    assert_eq!(refuse(&[0, 0, 0]), SenseData::parameter_list_length_error());
    assert_eq!(refuse(&[0, 0, 0, 0, 8]), SenseData::parameter_list_length_error());
    assert_eq!(refuse(&[0, 0, 0, 0, 8, 18, 0]), SenseData::parameter_list_length_error());
    assert_eq!(refuse(&[0, 0, 0, 0, 8, 1, 0]), SenseData::invalid_field_in_parameter_list(5, Some(7)));
    assert_eq!(refuse(&[0, 0, 0, 0, 3, 1, 0]), SenseData::invalid_field_in_parameter_list(4, Some(5)));
    assert_eq!(refuse(&[0, 1, 0, 0]), SenseData::invalid_field_in_parameter_list(1, Some(7)));
    assert_eq!(refuse(&[0, 0, 0, 4, 0, 0, 0, 0]), SenseData::invalid_field_in_parameter_list(3, Some(7)));
    let other_block_length = [0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 16, 0];
    assert_eq!(refuse(&other_block_length), SenseData::invalid_field_in_parameter_list(9, Some(7)));
    let no_pf = ModeSelect { page_format: false, ..select() };
    assert_eq!(pages.select(&no_pf, &[], &device()), Err(SenseData::invalid_field_in_cdb(1, Some(4))));
}

#[test]
fn the_switches_of_the_control_page_are_read_back() {
    let mut pages = pages();
    let data = list(&pages, PageId::CONTROL, |page| {
        page[2] = 0x24;
        page[3] = 0x06;
        page[4] = 0x08;
        page[5] = 0x40;
    });
    pages.select(&select(), &data, &device()).unwrap();
    assert_eq!(pages.sense_format(), crate::SenseFormat::Descriptor);
    assert_eq!(pages.task_set_type(), TaskSetType::PerItNexus);
    assert_eq!(pages.queue_error_management(), QueueErrorManagement::AbortNexus);
    assert!(pages.software_write_protect() && pages.task_aborted_status() && !pages.unrestricted_reordering());
}

#[test]
fn saved_values_survive_as_a_record() {
    let mut before = pages();
    let data = list(&before, PageId::CONTROL, |page| page[4] |= 8);
    before.select(&ModeSelect { save_pages: true, ..select() }, &data, &device()).unwrap();
    let mut after = pages();
    assert!(after.restore(&before.saved_record()));
    assert_eq!(after, before);
    assert!(!after.restore(&[1, 8, 0, 0, 9, 1]));
    assert!(!after.restore(&[9]));
}

proptest! {
    #[test]
    fn any_list_is_taken_or_refused_without_panic(data in prop::collection::vec(any::<u8>(), 0..80), ten in any::<bool>()) {
        let mut pages = pages();
        let before = pages.clone();
        if pages.select(&ModeSelect { ten, ..select() }, &data, &device()).is_err() {
            prop_assert_eq!(pages, before);
        }
        let _ = DecodedModeSense::decode(&data, ten);
    }

    #[test]
    fn what_mode_sense_gives_mode_select_takes_unchanged(subpages in any::<bool>(), ten in any::<bool>()) {
        let mut pages = pages();
        let command = ModeSense { ten, ..sense(0x3f, if subpages { 0xff } else { 0 }) };
        let data = pages.sense(&command, &device()).unwrap();
        let outcome = pages.select(&ModeSelect { ten, ..select() }, &data, &device()).unwrap();
        prop_assert_eq!(outcome, ModeSelectOutcome::default());
    }
}

use super::*;

#[test]
fn fixed_format_is_eighteen_bytes() {
    let bytes = SenseData::invalid_field_in_cdb(2, Some(7)).encode(SenseFormat::Fixed);
    assert_eq!(bytes, [0x70, 0, 5, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0x24, 0, 0, 0xcf, 0, 2]);
}

#[test]
fn descriptor_format_has_one_descriptor_per_fact() {
    let bytes = SenseData::invalid_field_in_parameter_list(0x105, None).encode(SenseFormat::Descriptor);
    assert_eq!(bytes, [0x72, 5, 0x26, 0, 0, 0, 0, 8, 2, 6, 0, 0, 0x80, 1, 5, 0]);
}

#[test]
fn information_beyond_32_bits_is_not_valid_in_fixed_format() {
    let sense = SenseData::lba_out_of_range(1 << 32);
    assert_eq!(sense.encode(SenseFormat::Fixed)[0], 0x70);
    assert_eq!(SenseData::decode(&sense.encode(SenseFormat::Descriptor)), Some(sense));
}

#[test]
fn cut_sense_data_still_tells_its_key() {
    let bytes = SenseData::miscompare(17).encode(SenseFormat::Fixed);
    let cut = SenseData::decode(&bytes[..8]).unwrap();
    assert_eq!((cut.key, cut.information), (SenseKey::MISCOMPARE, Some(17)));
    assert_eq!(SenseData::decode(&bytes[..2]), None);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn any_sense() -> impl Strategy<Value = SenseData> {
        (0u8..16, any::<[u8; 2]>(), any::<bool>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<[u8; 3]>())
            .prop_map(|(key, [asc, ascq], deferred, information, specific, bytes)| SenseData {
                deferred,
                incorrect_length: bytes[0] & 1 != 0,
                field_replaceable_unit: bytes[1],
                information: information.map(u64::from),
                command_specific: specific.filter(|&value| value != 0).map(u64::from),
                specific: SenseSpecific::decode(SenseKey(key), bytes),
                ..SenseData::new(SenseKey(key), AdditionalSense::new(asc, ascq))
            })
    }

    proptest! {
        #[test]
        fn both_formats_round_trip(sense in any_sense()) {
            for format in [SenseFormat::Fixed, SenseFormat::Descriptor] {
                let bytes = sense.encode(format);
                prop_assert!(bytes.len() <= SenseData::MAX_ENCODED_LENGTH);
                prop_assert_eq!(SenseData::decode(&bytes), Some(sense));
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _ = SenseData::decode(&bytes);
        }
    }
}

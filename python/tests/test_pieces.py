"""PDUs, CDBs, sense data and pages, decoded and encoded."""

import lunette
import pytest
from lunette import Sense, scsi
from lunette.pdu import Pdu, Stream, names


@pytest.mark.parametrize("name", names())
def test_every_kind_of_pdu_survives_the_way_there_and_back(name):
    pdu = Pdu(name)
    assert Pdu.decode(pdu.encode()) == pdu
    assert pdu.name in repr(pdu) and all(field in repr(pdu) for field in pdu.fields)
    assert list(Stream(header_digest=True, data_digest=True).feed(
        pdu.encode(header_digest=True, data_digest=True))) == [pdu]


def test_a_command_has_the_layout_of_the_standard():
    cdb = scsi.cdb("READ(10)", lba=8, blocks=2)
    pdu = Pdu("ScsiCommand", flags=0xC0, lun=5, initiator_task_tag=7, expected_data_transfer_length=1024, cdb=cdb)
    raw = pdu.encode()
    assert len(raw) == 48 and raw[0] == 0x01 and raw[1] & 0xC0 == 0xC0
    assert raw[8:16] == bytes([0, 5, 0, 0, 0, 0, 0, 0])
    assert raw[16:20] == (7).to_bytes(4, "big") and raw[20:24] == (1024).to_bytes(4, "big")
    assert raw[32:42] == cdb
    assert (pdu.lun, pdu.cdb[:10]) == (5, cdb)


def test_any_split_of_a_stream_gives_the_same_pdus():
    pdus = [Pdu("NopOut", initiator_task_tag=tag, data=b"x" * tag) for tag in range(5)]
    raw = b"".join(pdu.encode(header_digest=True, data_digest=True) for pdu in pdus)
    for size in (1, 7, 48, 1000):
        stream = Stream(header_digest=True, data_digest=True)
        found = [pdu for at in range(0, len(raw), size) for pdu in stream.feed(raw[at : at + size])]
        assert found == pdus and stream.buffered == 0


def test_bytes_that_make_no_sense_are_an_error():
    spoilt = bytearray(Pdu("NopOut", data=b"hello").encode(data_digest=True, header_digest=True))
    spoilt[-5] ^= 1
    with pytest.raises(lunette.DecodeError, match="digest"):
        Stream(header_digest=True, data_digest=True).feed(spoilt)
    for wrong in (b"", b"\x0f" + bytes(47), bytes(10)):
        with pytest.raises(lunette.DecodeError):
            Pdu.decode(wrong)
    for wrong in (lambda: Pdu("Nothing"), lambda: Pdu("NopOut", colour=1), lambda: Pdu("NopOut", lun=70000),
                  lambda: Sense.decode(b""), lambda: scsi.decode_cdb(b""), lambda: scsi.decode_cdb(b"\x28\0")):
        with pytest.raises(ValueError):
            wrong()
    with pytest.raises(AttributeError):
        Pdu("NopOut").colour


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("READ(6)", {"lba": 9, "blocks": 1}),
        ("READ(10)", {"lba": 9, "blocks": 1, "fua": True}),
        ("READ(16)", {"lba": 1 << 40, "blocks": 1}),
        ("WRITE(10)", {"lba": 9, "blocks": 1, "dpo": True}),
        ("WRITE(12)", {"lba": 9, "blocks": 1}),
        ("WRITE(16)", {"lba": 1 << 40, "blocks": 1}),
        ("WRITE SAME(16)", {"lba": 9, "blocks": 1, "unmap": True}),
        ("SYNCHRONIZE CACHE(10)", {"lba": 9, "blocks": 1}),
        ("COMPARE AND WRITE", {"lba": 9, "blocks": 1}),
    ],
)
def test_a_cdb_says_what_it_was_made_of(name, fields):
    decoded = scsi.decode_cdb(scsi.cdb(name, **fields))
    assert decoded["name"] == name
    assert (decoded["lba"], decoded["blocks"]) == (fields["lba"], fields["blocks"])


def test_cdbs_that_cannot_be_are_value_errors():
    for wrong in (
        lambda: scsi.cdb("READ(6)", lba=1 << 30, blocks=1),
        lambda: scsi.cdb("READ(10)", lba=0, block=1),
        lambda: scsi.cdb("NO SUCH COMMAND"),
        lambda: scsi.cdb("PERSISTENT RESERVE IN", action=9),
    ):
        with pytest.raises(ValueError):
            wrong()
    assert scsi.cdb("TEST UNIT READY") == bytes(6)
    assert "WRITE(10)" in scsi.command_names()
    assert scsi.status_name(0x18) == "RESERVATION CONFLICT"


def test_sense_data_survive_both_formats():
    sense = Sense("MEDIUM ERROR", 0x11, 0x01, information=1234)
    for descriptor in (False, True):
        raw = sense.encode(descriptor=descriptor)
        assert raw[0] & 0x7F == (0x72 if descriptor else 0x70)
        assert Sense.decode(raw) == sense
    assert (sense.key, sense.key_name, sense.asc, sense.ascq, sense.information) == (3, "MEDIUM ERROR", 0x11, 1, 1234)
    assert hash(sense) == hash(Sense(3, 0x11, 1, information=1234)) and "0x11" in repr(sense)
    assert "MEDIUM ERROR" in str(sense) and not sense.deferred and sense.field_pointer is None


@pytest.mark.parametrize(
    ("page", "fields"),
    [
        (0x00, {"pages": [0, 0x80, 0x83]}),
        (0x80, {"serial": "S-1"}),
        (0xB0, {"max_transfer_length": 2048, "max_unmap_lba_count": 8, "optimal_unmap_granularity": 8}),
        (0xB1, {"rotation_rate": 1}),
        (0xB2, {"unmap": True, "reads_zeros": 1, "provisioning_type": "thin"}),
        (0xC7, {"body": b"anything"}),
    ],
)
def test_pages_say_what_they_were_made_of(page, fields):
    decoded = scsi.vpd(scsi.vpd(page=page, **fields))
    assert decoded["page"] == page
    assert {name: decoded[name] for name in fields} == fields
    with pytest.raises(ValueError):
        scsi.vpd(page=page, colour=1)


def test_pages_of_a_disk_are_read(iscsi_disk):
    def ask(page=None):
        fields = {} if page is None else {"page": page}
        return iscsi_disk.execute(scsi.cdb("INQUIRY", **fields), data_in_length=4096).data

    assert scsi.inquiry(ask())["vendor"] == "LUNETTE"
    pages = scsi.vpd(ask(0))["pages"]
    assert {0x80, 0x83, 0xB0, 0xB1, 0xB2} <= set(pages)
    for page in pages:
        assert scsi.vpd(ask(page))["page"] == page
    kinds = {designator["kind"] for designator in scsi.vpd(ask(0x83))["designators"]}
    assert {"naa", "scsi name"} <= kinds
    for wrong in (b"", bytes(3)):
        with pytest.raises(lunette.DecodeError):
            scsi.vpd(wrong)

"""Who sees what, and who may log in."""

import lunette
import pytest
from disks import SIZE, Ram
from lunette import scsi

A, B = "iqn.2026-11.org.example:a", "iqn.2026-11.org.example:b"


def luns(url, **options):
    with lunette.Disk(url, **options) as disk:
        data = disk.execute(scsi.cdb("REPORT LUNS"), data_in_length=4096).data
    return [int.from_bytes(data[at : at + 2], "big") for at in range(8, 8 + int.from_bytes(data[:4], "big"), 8)]


def test_port_0_takes_a_free_one_and_targets_live_side_by_side():
    with lunette.Target(SIZE) as one, lunette.Target(SIZE) as other:
        assert one.portal != other.portal and not one.portal.endswith(":0")
        assert one.name != other.name
        assert [name for name, _ in lunette.discover(f"iscsi://{one.portal}")] == [one.name]


def test_each_disk_has_its_lun_and_its_content(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(b"file" * (SIZE // 4))
    ram = lunette.Lun(b"memo", size=SIZE)
    with lunette.Target(ram, path, Ram(b"obje" * (SIZE // 4)), lunette.Lun(SIZE, lun=300)) as target:
        for unit, start in zip(target.units, (b"memo", b"file", b"obje", bytes(4))):
            with lunette.Disk(target.url_of(unit)) as disk:
                assert disk.read(0, 512)[:4] == start
        assert luns(target.url) == [0, 1, 2, 0x4000 | 300]


def test_disks_come_and_go_while_the_target_is_up():
    with lunette.Target(SIZE) as target:
        unit = target.add(lunette.Lun(2 * SIZE, block_size=4096, vendor="ACME", product="Rocket", serial="S1"))
        with lunette.Disk(target.url_of(unit)) as disk:
            assert (disk.size, disk.block_size) == (2 * SIZE, 4096)
            assert (disk.geometry.vendor, disk.geometry.product) == ("ACME", "Rocket")
        assert target.remove(unit) and not target.remove(unit)
        assert luns(target.url) == [0]


def test_a_hidden_disk_is_seen_by_its_host_group_alone():
    with lunette.Target(SIZE) as target:
        unit = target.add(lunette.Lun(SIZE, hidden=True))
        assert luns(target.url, initiator=A) == [0]
        target.add_host_group("ours", [A])
        assert target.add_view(unit, host_group="ours", lun=7) == 7
        assert luns(target.url, initiator=A) == [0, 7]
        assert luns(target.url, initiator=B) == [0]
        target.add_to_group("ours", B)
        assert luns(target.url, initiator=B) == [0, 7]


def test_a_target_group_shows_a_disk_at_its_targets_alone():
    with lunette.Target(SIZE) as target:
        second = target.add_target("iqn.2026-11.org.example:second")
        unit = target.add(lunette.Lun(SIZE, hidden=True))
        target.add_target_group("seconds", [second])
        target.add_view(unit, target_group="seconds", lun=3)
        assert luns(target.url) == [0]
        assert luns(target.url_of(0, second)) == [0, 3]
        assert {name for name, _ in lunette.discover(f"iscsi://{target.portal}")} == {target.name, second}


def test_chap_lets_in_who_knows_the_secret():
    with lunette.Target(SIZE, chap=("user", "a secret of ours")) as target:
        lunette.Disk(target.url).close()
        for credentials in ("", "user%not the secret@", "other%a secret of ours@"):
            with pytest.raises(lunette.LoginError):
                url = target.url.replace("user%a secret of ours@", credentials)
                lunette.Disk(url, reconnect_timeout=0)


def test_each_initiator_has_a_secret_of_its_own():
    with lunette.Target(SIZE, chap={A: ("a", "the secret of a"), B: ("b", "the secret of b")}) as target:
        at = f"{target.portal}/{target.name}/0"
        lunette.Disk(f"iscsi://a%the secret of a@{at}", initiator=A).close()
        lunette.Disk(f"iscsi://b%the secret of b@{at}", initiator=B).close()
        with pytest.raises(lunette.LoginError):
            lunette.Disk(f"iscsi://a%the secret of a@{at}", initiator=B, reconnect_timeout=0)


def test_the_target_proves_itself_too():
    chap, back = ("user", "a secret of ours"), ("target", "its own secret")
    with lunette.Target(SIZE, chap=chap, target_chap=back) as target:
        lunette.Disk(target.url, target_chap=back).close()
        with pytest.raises(lunette.LoginError):
            lunette.Disk(target.url, target_chap=("target", "another secret"), reconnect_timeout=0)


def test_sessions_are_listed_and_ended():
    with lunette.Target(SIZE) as target, lunette.Disk(target.url, initiator=A) as disk:
        (session,) = target.sessions
        assert (session.initiator, session.target, session.luns) == (A, target.name, 1)
        target.end_session(session, at_once=True)
        assert disk.read(0, 512) == bytes(512)
        assert disk.logins == 2
        assert [other.id for other in target.sessions] != [session.id]


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: lunette.Target(), "needs a disk"),
        (lambda: lunette.Target(object()), "object is no disk"),
        (lambda: lunette.Target(True), "no disk"),
        (lambda: lunette.Target(lunette.Lun(SIZE, block_size=1000)), "block size"),
        (lambda: lunette.Target(b"too little"), "1 MiB"),
        (lambda: lunette.Target(lunette.Lun(SIZE, lun=1), lunette.Lun(SIZE, lun=1)), "1"),
        (lambda: lunette.Target(SIZE, name="no name"), "no name"),
        (lambda: lunette.Target(SIZE, portals=["somewhere"]), "no address"),
        (lambda: lunette.Target(SIZE, chap=("user", "short")), "short|12"),
        (lambda: lunette.Lun("x", size="3Q"), "no size"),
        (lambda: lunette.Disk("http://elsewhere"), "iscsi"),
    ],
)
def test_wrong_arguments_are_value_errors_that_name_them(make, error):
    with pytest.raises(ValueError, match=error) as caught:
        make()
    assert isinstance(caught.value, lunette.LunetteError)


def test_what_is_printed_says_what_it_is_and_no_secret():
    with lunette.Target(SIZE, chap=("user", "a secret of ours")) as target, lunette.Disk(target.url) as disk:
        fault = target.inject(op="READ", status=8)
        shown = [repr(thing) for thing in (target, disk, target.units[0], disk.geometry, fault)]
        assert target.name in shown[0] and target.portal in shown[0]
        assert target.name in shown[1] and str(SIZE) in shown[1]
        assert target.units[0].guid in shown[2] and "2048 blocks" in shown[3] and "0 hits" in shown[4]
        assert not any("secret" in text for text in shown)
    assert "closed" in repr(target) and "closed" in repr(disk)


def test_a_port_that_is_taken_is_an_os_error():
    with lunette.Target(SIZE) as target, pytest.raises(OSError, match=target.portal) as caught:
        lunette.Target(SIZE, portals=[target.portal])
    assert isinstance(caught.value, lunette.LunetteError)

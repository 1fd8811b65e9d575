"""What goes wrong on purpose, the record of what came, and the counters."""

import time

import lunette
import pytest
from disks import SIZE

BLOCK = b"\x33" * 512


def test_the_nth_command_meets_the_fault(iscsi_target, iscsi_disk):
    fault = iscsi_target.inject(op="WRITE(10)", nth=3, sense=("MEDIUM ERROR", 0x0C, 0))
    for turn in range(4):
        if turn == 2:
            with pytest.raises(lunette.CommandError) as caught:
                iscsi_disk.write(0, BLOCK)
            assert caught.value.sense == lunette.Sense("MEDIUM ERROR", 0x0C, 0)
            assert (caught.value.status, caught.value.command) == (2, "WRITE(10)")
        else:
            iscsi_disk.write(0, BLOCK)
    assert fault.hits == 1
    assert [command.injected for command in iscsi_target.commands("WRITE")] == [False, False, True, False]


def test_a_fault_ends_with_its_with_statement(iscsi_target, iscsi_disk):
    with iscsi_target.inject(op="READ", sense="HARDWARE ERROR") as fault:
        for _ in range(2):
            with pytest.raises(lunette.CommandError, match="HARDWARE ERROR"):
                iscsi_disk.read(0, 512)
    assert iscsi_disk.read(0, 512) == bytes(512)
    assert fault.hits == 2


def test_blocks_initiators_and_luns_narrow_it_down(iscsi_target, iscsi_disk):
    iscsi_target.inject(lba=range(8, 16), sense="MEDIUM ERROR")
    iscsi_target.inject(initiator="iqn.2026-11.org.example:other", sense="HARDWARE ERROR")
    iscsi_target.inject(lun=5, sense="HARDWARE ERROR")
    iscsi_disk.read(0, 8 * 512)
    iscsi_disk.read(16 * 512, 512)
    with pytest.raises(lunette.CommandError, match="MEDIUM ERROR"):
        iscsi_disk.read(15 * 512, 1024)
    iscsi_target.clear_injections()
    iscsi_disk.read(8 * 512, 512)


def test_a_status_other_than_check_condition(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ", nth=1, status=0x18)
    with pytest.raises(lunette.CommandError) as caught:
        iscsi_disk.read(0, 512)
    assert (caught.value.status, caught.value.sense) == (0x18, None)


def test_a_delay_delays_and_nothing_else(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ", nth=1, delay=0.3)
    began = time.monotonic()
    slow, quick = iscsi_disk.start_read(0, 512), iscsi_disk.start_read(512, 512)
    assert quick.wait() == bytes(512)
    assert time.monotonic() - began < 0.25
    assert slow.wait() == bytes(512)
    assert time.monotonic() - began >= 0.3
    with iscsi_target.inject(op="READ", nth=1, delay=0.1, sense="MEDIUM ERROR"):
        with pytest.raises(lunette.CommandError, match="MEDIUM ERROR"):
            iscsi_disk.read(0, 512)


@pytest.mark.parametrize(
    "fault",
    [{"drop_connection": True}, {"drop_connection": "after"}, {"kill_session": True}, {"kill_session": "after"}],
)
def test_a_broken_connection_is_made_again(iscsi_target, iscsi_disk, fault):
    iscsi_target.inject(op="WRITE", nth=1, **fault)
    iscsi_disk.write(0, BLOCK)
    assert iscsi_disk.logins == 2
    assert iscsi_disk.read(0, 512) == BLOCK
    # What was not answered is sent again, whether or not it was carried out.
    assert [command.injected for command in iscsi_target.commands("WRITE") if command.status != 2] == [True, False]


def test_a_connection_that_is_not_made_again_is_an_error(iscsi_target):
    with lunette.Disk(iscsi_target.url, reconnect_timeout=0) as disk:
        iscsi_target.inject(op="READ", nth=1, drop_connection=True)
        with pytest.raises(ConnectionError) as caught:
            disk.read(0, 512)
        assert isinstance(caught.value, lunette.LunetteError)


@pytest.mark.parametrize("which", ["header", "data"])
def test_a_spoilt_digest_is_found_and_the_read_repeated(iscsi_target, which):
    with lunette.Disk(iscsi_target.url, header_digest=True, data_digest=True) as disk:
        disk.write(0, BLOCK)
        fault = iscsi_target.inject(op="READ", nth=1, corrupt_digest=which)
        assert disk.read(0, 512) == BLOCK
        assert (fault.hits, disk.logins) == (1, 2)


def test_a_short_read_is_told_as_underflow(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ(10)", nth=1, count=2, short_read=512)
    reply = iscsi_disk.execute(lunette.scsi.cdb("READ(10)", lba=0, blocks=4), data_in_length=2048)
    assert (reply.ok, len(reply.data), reply.residual) == (True, 512, -1536)
    with pytest.raises(lunette.LunetteError):
        iscsi_disk.read(0, 2048)


def test_a_command_that_hangs_times_out_and_is_aborted(iscsi_target):
    with lunette.Disk(iscsi_target.url, timeout=0.5, reconnect_timeout=5) as disk:
        iscsi_target.clear_trace()
        iscsi_target.inject(op="READ", nth=1, hang=True)
        with pytest.raises(TimeoutError):
            disk.read(0, 512)
        assert disk.read(0, 512) == bytes(512)
        first = iscsi_target.commands("READ")[0]
        assert first.aborted and first.status is None


def test_one_command_meets_one_fault_only(iscsi_target):
    for wrong in (
        {"sense": "MEDIUM ERROR", "status": 8},
        {"drop_connection": True, "kill_session": True},
        {"sense": "MEDIUM ERROR", "hang": True},
        {},
        {"op": "NO SUCH COMMAND", "status": 8},
        {"nth": 0, "status": 8},
        {"sense": "NO SUCH KEY"},
        {"delay": -1.0},
    ):
        with pytest.raises(ValueError):
            iscsi_target.inject(**wrong)


def test_the_trace_has_every_command_and_how_it_ended(iscsi_target, iscsi_disk):
    iscsi_disk.write(4096, BLOCK * 3)
    iscsi_disk.flush()
    with iscsi_target.inject(op="READ", sense="MEDIUM ERROR"), pytest.raises(lunette.CommandError):
        iscsi_disk.read(0, 512)
    write, flush, read = iscsi_target.trace
    assert (write.name, write.lba, write.blocks, write.data_out_length) == ("WRITE(10)", 8, 3, 1536)
    assert (write.status, write.done, write.injected, write.initiator) == (0, True, False, lunette.DEFAULT_INITIATOR_NAME)
    assert write.cdb[0] == 0x2A and write.unit == iscsi_target.units[0].guid and write.lun == 0
    assert flush.name.startswith("SYNCHRONIZE CACHE")
    assert (read.status, read.sense.key_name, read.injected) == (2, "MEDIUM ERROR", True)
    assert 0 <= write.time <= flush.time <= read.time and write.duration >= 0
    assert repr(write) == "<WRITE(10) lba=8 blocks=3: GOOD>"
    iscsi_target.clear_trace()
    assert iscsi_target.trace == []


def test_the_trace_keeps_the_latest_commands_and_no_more():
    with lunette.Target(SIZE, trace=5) as target, lunette.Disk(target.url) as disk:
        for block in range(20):
            disk.read(block * 512, 512)
        assert [command.lba for command in target.trace] == [15, 16, 17, 18, 19]
    with lunette.Target(SIZE, trace=0) as target, lunette.Disk(target.url) as disk:
        disk.read(0, 512)
        assert target.trace == []


def test_a_test_can_wait_for_a_command(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ", delay=0.2)
    pending = iscsi_disk.start_read(0, 512)
    assert not iscsi_target.wait_for("READ", done=False).done
    assert iscsi_target.wait_for("READ").status == 0
    pending.wait()
    with pytest.raises(TimeoutError, match="UNMAP"):
        iscsi_target.wait_for("UNMAP", timeout=0.1)


def test_the_counters_count(iscsi_target, iscsi_disk):
    before = iscsi_target.statistics
    iscsi_disk.write(0, BLOCK * 8)
    iscsi_disk.read(0, 2048)
    iscsi_disk.unmap(0, 4096)
    after = iscsi_target.statistics
    gained = {name: after[name] - before[name] for name in ("reads", "read_bytes", "writes", "written_bytes", "unmaps")}
    assert gained == {"reads": 1, "read_bytes": 2048, "writes": 1, "written_bytes": 4096, "unmaps": 1}
    assert after["sessions"] == after["connections"] == 1
    assert iscsi_target.units[0].statistics()["failure"] is None

"""The initiator: blocking, for asyncio, and from the command line."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading

import lunette
import pytest
from disks import SIZE
from lunette import aio, scsi
from lunette.__main__ import main

DATA = bytes(range(256)) * 64


def test_a_disk_reads_into_memory_of_the_caller(iscsi_disk):
    iscsi_disk.write(0, memoryview(DATA))
    buffer = bytearray(len(DATA))
    assert iscsi_disk.read_into(0, memoryview(buffer)) == len(DATA)
    assert buffer == DATA
    with pytest.raises(BufferError):
        iscsi_disk.read_into(0, bytes(512))


def test_what_a_caller_changes_after_a_write_began_is_not_written(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="WRITE", delay=0.1)
    data = bytearray(DATA)
    pending = iscsi_disk.start_write(0, data)
    data[:] = bytes(len(data))
    pending.wait()
    assert iscsi_disk.read(0, len(DATA)) == DATA


def test_many_operations_are_under_way_at_once(iscsi_disk):
    writes = [iscsi_disk.start_write(block * 512, bytes([block]) * 512) for block in range(200)]
    for write in writes:
        write.wait()
    reads = [iscsi_disk.start_read(block * 512, 512) for block in range(200)]
    assert [read.wait() for read in reads] == [bytes([block]) * 512 for block in range(200)]
    iscsi_disk.start_unmap(0, 4096).wait()
    iscsi_disk.start_flush().wait()
    with pytest.raises(RuntimeError):
        reads[0].wait()


def test_many_threads_share_a_disk(iscsi_disk):
    def work(number):
        block = bytes([number]) * 4096
        for turn in range(20):
            iscsi_disk.write((number * 20 + turn) * 4096, block)
            assert iscsi_disk.read((number * 20 + turn) * 4096, 4096) == block
        done.append(number)

    done = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))


def test_any_cdb_can_be_sent(iscsi_disk):
    reply = iscsi_disk.execute(scsi.cdb("INQUIRY", page=0x80), data_in_length=255)
    assert reply.ok and scsi.vpd(reply.data)["serial"]
    parameters = bytes.fromhex("00160010" "00000000") + (8).to_bytes(8, "big") + (8).to_bytes(4, "big") + bytes(4)
    assert iscsi_disk.execute(scsi.cdb("UNMAP", parameter_list_length=24), data_out=parameters).ok
    refused = iscsi_disk.execute(b"\xc0" + bytes(9))
    assert (refused.ok, refused.sense.key_name, refused.sense.asc) == (False, "ILLEGAL REQUEST", 0x20)
    with pytest.raises(ValueError):
        iscsi_disk.execute(b"")


def test_task_management_goes_by_name(iscsi_disk):
    assert "complete" in iscsi_disk.manage("LOGICAL UNIT RESET").lower()
    with pytest.raises(ValueError, match="no task management"):
        iscsi_disk.manage("REBOOT")


def test_an_offset_that_does_not_fit_is_a_value_error(iscsi_disk):
    for operation in (
        lambda: iscsi_disk.read(1, 512),
        lambda: iscsi_disk.read(iscsi_disk.size, 512),
        lambda: iscsi_disk.write(0, b"x"),
    ):
        with pytest.raises(ValueError) as caught:
            operation()
        assert isinstance(caught.value, lunette.LunetteError)


def test_a_closed_disk_says_so(iscsi_target):
    disk = lunette.Disk(iscsi_target.url)
    disk.close()
    disk.close()
    assert disk.closed
    with pytest.raises(lunette.ClosedError):
        disk.read(0, 512)


def test_nobody_there_is_a_connection_error():
    with lunette.Target(SIZE) as target:
        url = target.url
    with pytest.raises(ConnectionError):
        lunette.Disk(url, connect_timeout=1, reconnect_timeout=0)


def test_both_digests_are_used_when_demanded(iscsi_target):
    with lunette.Disk(iscsi_target.url, header_digest=True, data_digest=True) as disk:
        disk.write(0, DATA)
        assert disk.read(0, len(DATA)) == DATA


def test_control_c_ends_a_wait(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ", hang=True)
    # Whoever runs the tests in the background may have it ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        # A wait that went on would end with a TimeoutError.
        with pytest.raises(KeyboardInterrupt):
            iscsi_disk.read(0, 512)
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_asyncio_client_does_all_the_same(iscsi_target):
    async def run():
        async with await aio.Disk.connect(iscsi_target.url) as disk:
            await asyncio.gather(*(disk.write(block * 512, bytes([block]) * 512) for block in range(64)))
            read = await asyncio.gather(*(disk.read(block * 512, 512) for block in range(64)))
            assert read == [bytes([block]) * 512 for block in range(64)]
            await disk.flush()
            await disk.unmap(0, 4096)
            await disk.write_same(4096, 4096, b"\x11" * 512)
            assert await disk.read(4096, 4096) == b"\x11" * 4096
            assert (await disk.execute(scsi.cdb("TEST UNIT READY"))).ok
            assert (await disk.refresh()).size == disk.size
            with pytest.raises(ValueError):
                await disk.read(1, 512)
            disk.drop_connection()
            await disk.read(0, 512)
            assert disk.logins == 2
        assert await aio.discover(f"iscsi://{iscsi_target.portal}")

    asyncio.run(run())


def test_an_awaited_operation_can_be_given_up(iscsi_target):
    async def run():
        iscsi_target.inject(op="READ", nth=1, delay=0.4)
        async with await aio.Disk.connect(iscsi_target.url) as disk:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(disk.read(0, 512), 0.05)
            assert await disk.read(0, 512) == bytes(512)

    asyncio.run(run())


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["inquiry"], "LUNETTE"),
        (["vpd"], "block limits"),
        (["vpd", "0x83"], "naa"),
        (["read-capacity"], "block_size: 512"),
        (["luns"], "luns: 0"),
        (["persist"], "generation: 0"),
    ],
)
def test_the_command_line_looks_at_a_disk(iscsi_target, capsys, words, shown):
    assert main([iscsi_target.url, *words]) == 0
    assert shown in capsys.readouterr().out
    assert main([iscsi_target.url, "--json", *words] if words[0] != "vpd" else ["--json", iscsi_target.url, *words]) == 0
    json.loads(capsys.readouterr().out)


def test_the_command_line_shows_who_is_registered(iscsi_target, iscsi_disk, capsys):
    def persist(action, key, service_key, **fields):
        parameters = key.to_bytes(8, "big") + service_key.to_bytes(8, "big") + bytes(8)
        cdb = scsi.cdb("PERSISTENT RESERVE OUT", action=action, parameter_list_length=24, **fields)
        assert iscsi_disk.execute(cdb, data_out=parameters).ok

    persist(0, 0, 0xABC)
    persist(1, 0xABC, 0, type=1)
    assert main([iscsi_target.url, "persist"]) == 0
    out = capsys.readouterr().out
    assert "type: write exclusive" in out and lunette.DEFAULT_INITIATOR_NAME in out


def test_the_command_line_is_a_module_with_exit_codes(iscsi_target):
    def run(*words):
        return subprocess.run([sys.executable, "-m", "lunette", *words], capture_output=True, text=True, timeout=60)

    done = run(f"iscsi://{iscsi_target.portal}", "discover")
    assert done.returncode == 0 and iscsi_target.name in done.stdout
    refused = run(iscsi_target.url.replace("/0", "/9"), "inquiry")
    assert refused.returncode == 1 and refused.stderr.startswith("lunette: ")
    assert run(iscsi_target.url).returncode == 2


@pytest.mark.skipif(shutil.which("iscsi-inq") is None, reason="iscsi-inq (libiscsi-bin) is not installed")
def test_libiscsi_sees_the_disk(iscsi_target):
    done = subprocess.run(["iscsi-inq", iscsi_target.url], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "LUNETTE" in done.stdout, done.stderr

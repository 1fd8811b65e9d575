"""Targets, stores, faults and the trace, against the package's own initiator and libiscsi."""

import asyncio
import shutil
import subprocess

import lunette
import pytest
from lunette import aio
from lunette.__main__ import main

SIZE = 1 << 20


class Ram(bytearray):
    def pread(self, length, offset):
        return bytes(self[offset : offset + length])

    def pwrite(self, data, offset):
        assert isinstance(data, memoryview) and data.readonly
        self[offset : offset + len(data)] = data


class Filled(Ram):
    def preadinto(self, buffer, offset):
        buffer[:] = self[offset : offset + len(buffer)]


class Awaited(bytearray):
    async def pread(self, length, offset):
        await asyncio.sleep(0)
        return bytes(self[offset : offset + length])

    async def pwrite(self, data, offset):
        self[offset : offset + len(data)] = data


class Broken(Ram):
    def pread(self, length, offset):
        raise RuntimeError("broken on purpose")


@pytest.mark.parametrize("make", [lambda: SIZE, lambda: bytes(SIZE), lambda: Ram(SIZE), lambda: Filled(SIZE),
                                  lambda: Awaited(SIZE)])
def test_what_is_written_is_read_back(make):
    data = bytes(range(256)) * 256
    with lunette.Target(make()) as target, lunette.Disk(target.url) as disk:
        disk.write(512, data)
        disk.flush()
        assert disk.read(512, len(data)) == data


def test_an_exception_in_a_store_is_a_check_condition():
    with lunette.Target(Broken(SIZE)) as target, lunette.Disk(target.url) as disk:
        with pytest.raises(lunette.CommandError):
            disk.read(0, 512)


def test_a_file_is_written_through(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    with lunette.Target(path) as target, lunette.Disk(target.url) as disk:
        disk.write(0, b"x" * 512)
        disk.flush()
    assert path.read_bytes()[:512] == b"x" * 512


def test_the_nth_command_meets_the_fault(iscsi_target, iscsi_disk):
    fault = iscsi_target.inject(op="WRITE", nth=3, sense=("MEDIUM ERROR", 0x0C, 0))
    for turn in range(4):
        if turn == 2:
            with pytest.raises(lunette.CommandError):
                iscsi_disk.write(0, bytes(512))
        else:
            iscsi_disk.write(0, bytes(512))
    assert fault.hits == 1
    assert [command.injected for command in iscsi_target.commands("WRITE")] == [False, False, True, False]


@pytest.mark.parametrize("fault", [{"drop_connection": True}, {"kill_session": True}, {"drop_connection": "after"}])
def test_a_broken_connection_is_made_again(iscsi_target, iscsi_disk, fault):
    iscsi_target.inject(op="READ", nth=1, **fault)
    assert iscsi_disk.read(0, 512) == bytes(512)
    assert iscsi_disk.logins == 2


def test_chap_lets_in_who_knows_the_secret():
    with lunette.Target(SIZE, chap=("user", "a secret of ours")) as target:
        lunette.Disk(target.url).close()
        with pytest.raises(lunette.LoginError):
            lunette.Disk(target.url.replace("user%a secret of ours@", ""), reconnect_timeout=0)


def test_the_asyncio_client_reads_several_at_once(iscsi_target):
    async def run():
        async with await aio.Disk.connect(iscsi_target.url) as disk:
            return await asyncio.gather(*(disk.read(at * 512, 512) for at in range(8)))

    assert asyncio.run(run()) == [bytes(512)] * 8


@pytest.mark.parametrize("command", ["inquiry", "vpd", "read-capacity", "luns", "persist"])
def test_the_command_line_looks_at_a_disk(iscsi_target, capsys, command):
    assert main([iscsi_target.url, command]) == 0
    assert capsys.readouterr().out


@pytest.mark.skipif(shutil.which("iscsi-inq") is None, reason="iscsi-inq (libiscsi-bin) is not installed")
def test_libiscsi_sees_the_disk(iscsi_target):
    done = subprocess.run(["iscsi-inq", iscsi_target.url], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0 and "LUNETTE" in done.stdout, done.stderr

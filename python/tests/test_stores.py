"""What a disk may be kept in."""

import asyncio
import subprocess
import sys
import threading
import time

import lunette
import pytest
from disks import SIZE, Awaited, Filled, Ram

DATA = bytes(range(256)) * 256


@pytest.mark.parametrize(
    "make",
    [lambda: SIZE, lambda: bytes(SIZE), lambda: bytearray(SIZE), lambda: Ram(SIZE), Filled, Awaited],
    ids=["size", "bytes", "bytearray", "pread", "preadinto", "async"],
)
def test_what_is_written_is_read_back(make):
    with lunette.Target(make()) as target, lunette.Disk(target.url) as disk:
        assert disk.size == SIZE
        disk.write(512, DATA)
        disk.flush()
        assert disk.read(512, len(DATA)) == DATA
        assert disk.read(0, 512) == bytes(512)
        disk.write_same(SIZE - 8192, 8192, b"\x55" * 512)
        assert disk.read(SIZE - 8192, 8192) == b"\x55" * 8192


def test_bytes_are_what_the_disk_begins_with():
    content = bytearray(DATA)
    with lunette.Target(lunette.Lun(content, size=SIZE)) as target, lunette.Disk(target.url) as disk:
        assert disk.read(0, len(DATA)) == DATA
        disk.write(0, bytes(512))
        assert bytes(content) == DATA, "the caller's own bytes are not touched"
        assert target.units[0].store.pread(512, 0) == bytes(512)
        target.units[0].store.pwrite(b"z" * 512, 512)
        assert disk.read(512, 512) == b"z" * 512


def test_a_file_is_written_through(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    for where in (path, str(path)):
        with lunette.Target(where) as target, lunette.Disk(target.url) as disk:
            disk.write(0, DATA)
            disk.flush()
        assert path.read_bytes()[: len(DATA)] == DATA


def test_a_file_is_made_at_the_size_that_is_asked_for(tmp_path):
    path = tmp_path / "new"
    with lunette.Target(lunette.Lun(path, size="2M", create=True)) as target, lunette.Disk(target.url) as disk:
        assert disk.size == 2 << 20
    with pytest.raises(FileNotFoundError) as caught:
        lunette.Target(tmp_path / "none")
    assert isinstance(caught.value, lunette.LunetteError)


def test_a_disk_that_is_read_only_refuses_writes(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    path.chmod(0o444)

    class Reader(bytes):
        def pread(self, length, offset):
            return self[offset : offset + length]

    for disk in (lunette.Lun(path, read_only=True), lunette.Lun(SIZE, read_only=True), Reader(SIZE)):
        with lunette.Target(disk) as target, lunette.Disk(target.url) as connected:
            assert connected.read(0, 512) == bytes(512)
            with pytest.raises(lunette.CommandError) as caught:
                connected.write(0, bytes(512))
            assert caught.value.sense.key_name == "DATA PROTECT"


@pytest.mark.parametrize("kind", [Ram, Awaited], ids=["pwrite", "async pwrite"])
def test_a_store_gets_whole_blocks_wherever_tcp_cuts_them(kind):
    lengths = []

    class Counting(kind):
        if kind is Awaited:
            async def pwrite(self, data, offset):
                lengths.append(len(data))
                await super().pwrite(data, offset)
        else:
            def pwrite(self, data, offset):
                lengths.append(len(data))
                super().pwrite(data, offset)

    with lunette.Target(Counting(SIZE)) as target, lunette.Disk(target.url) as disk:
        # Odd lengths over many receives: some block lies across the end of one.
        writes = [disk.start_write(at, DATA[:7 * 512]) for at in range(0, SIZE - 7 * 512, 7 * 512)]
        for write in writes:
            write.wait()
    assert sum(lengths) == len(writes) * 7 * 512
    assert [length for length in lengths if length % 512] == []


def test_an_object_gets_memoryviews_of_what_came_and_of_what_goes():
    store = Filled()
    with lunette.Target(store) as target, lunette.Disk(target.url) as disk:
        store.calls.clear()
        disk.write(4096, DATA)
        disk.read(4096, len(DATA))
    writes = [call for call in store.calls if call[0] == "write"]
    reads = [call for call in store.calls if call[0] == "read"]
    assert sum(call[2] for call in writes) == sum(call[2] for call in reads) == len(DATA)
    assert all(call[3:] == ({memoryview}, True) for call in writes)
    assert all(call[3:] == (memoryview, False) for call in reads)


def test_no_bytes_are_copied_on_their_way_to_a_store():
    """The pieces of one command lie in the memory that was received: the same object, piece after piece."""

    class Keeper(Ram):
        kept = []

        def pwrite(self, data, offset):
            self.kept.append((offset, data))

    store = Keeper(SIZE)
    with lunette.Target(store) as target, lunette.Disk(target.url) as disk:
        disk.write(0, DATA)
        # A view that is kept stays what it was, whatever comes after.
        disk.write(0, bytes(len(DATA)))
    first = {}
    for offset, data in store.kept:
        first.setdefault(offset, data)
    assert b"".join(first[offset] for offset in sorted(first)) == DATA
    assert {type(data.obj).__name__ for _, data in store.kept} == {"_Lent"}


@pytest.mark.parametrize("make", [Filled, Awaited])
def test_flush_and_unmap_reach_the_object(make):
    store = make()
    with lunette.Target(store) as target, lunette.Disk(target.url) as disk:
        assert disk.geometry.can_unmap
        disk.write(0, DATA)
        store.calls.clear()
        disk.flush()
        disk.unmap(4096, 8192)
        assert ("flush",) in store.calls
        assert sum(call[2] for call in store.calls if call[0] == "unmap") == 8192
        store.calls.clear()
        disk.write(0, DATA[:512], durable=True)
        assert [call[0] for call in store.calls] == ["write", "flush"]
        assert disk.read(4096, 8192) == bytes(8192)


def test_coroutines_run_on_the_loop_that_is_given():
    async def run():
        loop = asyncio.get_running_loop()
        seen = set()

        class Here(Awaited):
            async def pread(self, length, offset):
                seen.add(asyncio.get_running_loop())
                return await super().pread(length, offset)

        async with lunette.Target(lunette.Lun(Here(), loop=loop)) as target:
            async with await lunette.aio.Disk.connect(target.url) as disk:
                await disk.write(0, DATA)
                assert await disk.read(0, len(DATA)) == DATA
        assert seen == {loop}

    asyncio.run(run())


def test_several_operations_of_an_object_are_under_way_at_once():
    together = threading.Barrier(8)

    class Slow(Ram):
        def pread(self, length, offset):
            together.wait(60)  # raises unless all of them come
            return super().pread(length, offset)

    with lunette.Target(Slow(SIZE)) as target, lunette.Disk(target.url, timeout=120) as disk:
        pending = [disk.start_read(number * 512, 512) for number in range(8)]
        assert [one.wait() for one in pending] == [bytes(512)] * 8


READER = """
import sys, time, lunette
with lunette.Disk(sys.argv[1]) as disk:
    disk.write(0, bytes(65536))
    print("ready", flush=True)
    time.sleep(0.3)
    began = time.monotonic()
    for number in range(50):
        disk.write(number * 4096, bytes(4096))
        disk.read(number * 4096, 4096)
    print(began, time.monotonic(), flush=True)
"""


def held_interpreter(target):
    """Has an initiator in another process at work while nothing of Python can run here. Whether it was done then."""
    command = [sys.executable, "-c", READER, target.url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "ready\n"
        began = time.monotonic()
        # One call into C after the other holds the interpreter: it is let go of between bytecodes only.
        sum(range(HOLD))
        ended = time.monotonic()
        first, last = map(float, other.stdout.readline().split())
    return ended - began, began < first and last < ended


def calibrate():
    began = time.perf_counter()
    sum(range(5_000_000))
    return int(5_000_000 * 2.5 / (time.perf_counter() - began))


HOLD = calibrate()


def test_no_python_runs_on_the_data_path_of_memory_and_files(tmp_path):
    path = tmp_path / "disk"
    path.write_bytes(bytes(SIZE))
    for disk in (SIZE, path):
        with lunette.Target(disk) as target:
            for _ in range(3):
                held, done_meanwhile = held_interpreter(target)
                if done_meanwhile:
                    break
            assert done_meanwhile, f"{disk}: waited for the interpreter, which was held for {held:.1f} s"
    # The same with an object shows that the interpreter was held indeed.
    with lunette.Target(Ram(SIZE)) as target:
        assert not held_interpreter(target)[1]


def test_the_interpreter_runs_on_while_a_disk_waits(iscsi_target, iscsi_disk):
    iscsi_target.inject(op="READ", delay=0.5)
    pending = iscsi_disk.start_read(0, 512)
    counted = 0

    stop = threading.Event()

    def count():
        nonlocal counted
        while not stop.is_set():
            counted += 1
            time.sleep(0.005)

    thread = threading.Thread(target=count)
    thread.start()
    pending.wait()
    stop.set()
    thread.join()
    assert counted > 10

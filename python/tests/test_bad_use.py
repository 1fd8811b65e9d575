"""Stores that misbehave and callers that err: a CHECK CONDITION or an exception, never a hang or an abort."""

import asyncio
import gc
import logging
import os
import subprocess
import sys
import threading
import time
import weakref

import lunette
import pytest
from disks import SIZE, Awaited, Ram


def store(**methods):
    return type("Odd", (Ram,), methods)(SIZE)


def refused(disk_made_of, operation, caplog=None):
    with lunette.Target(disk_made_of) as target, lunette.Disk(target.url, timeout=5, reconnect_timeout=0) as disk:
        with pytest.raises(lunette.CommandError) as caught:
            operation(disk)
        assert caught.value.status == 2
        return caught.value.sense


def raises(error):
    def method(self, *arguments):
        raise error

    return method


def coroutine(result):
    async def method(self, *arguments):
        if isinstance(result, BaseException):
            raise result
        return result

    return method


READ = lambda disk: disk.read(0, 512)  # noqa: E731
WRITE = lambda disk: disk.write(0, bytes(512))  # noqa: E731


@pytest.mark.parametrize("error", [RuntimeError("no"), OSError(5, "EIO"), KeyboardInterrupt(), SystemExit(3), MemoryError()])
@pytest.mark.parametrize("method", ["pread", "pwrite"])
def test_what_a_method_raises_is_a_check_condition_and_in_the_log(error, method, caplog):
    sense = refused(store(**{method: raises(error)}), READ if method == "pread" else WRITE)
    assert sense.key_name in ("MEDIUM ERROR", "HARDWARE ERROR")
    records = [record for record in caplog.records if record.name == "lunette.store"]
    assert records and records[0].exc_info[0] is type(error)


@pytest.mark.parametrize("error", [RuntimeError("no"), asyncio.CancelledError(), KeyboardInterrupt()])
def test_what_a_coroutine_raises_is_a_check_condition_and_the_loop_goes_on(error, caplog):
    odd = type("Odd", (Awaited,), {"pread": coroutine(error)})()
    with lunette.Target(odd) as target, lunette.Disk(target.url, timeout=5, reconnect_timeout=0) as disk:
        for _ in range(3):
            with pytest.raises(lunette.CommandError):
                disk.read(0, 512)
        disk.write(0, bytes(512))


@pytest.mark.parametrize("result", [b"", b"x" * 511, b"x" * 513, None, 7, "text", [1, 2], memoryview(bytes(2048))[::4]])
def test_a_read_of_the_wrong_size_or_type_is_a_check_condition(result, caplog):
    if isinstance(result, memoryview):
        # Every fourth byte: the right length, though not in one piece. Copied, it will do.
        with lunette.Target(store(pread=lambda *_: result)) as target, lunette.Disk(target.url) as disk:
            assert disk.read(0, 512) == bytes(512)
        return
    refused(store(pread=lambda *_: result), READ)
    refused(type("Odd", (Awaited,), {"pread": coroutine(result)})(), READ)


def test_a_bytearray_that_its_store_keeps_is_copied():
    kept = bytearray(512)
    with lunette.Target(store(pread=lambda *_: kept)) as target, lunette.Disk(target.url) as disk:
        assert disk.read(0, 512) == bytes(512)
        kept[:] = b"y" * 512
        kept.extend(b"it can be resized: nobody lends it")
        del kept[512:]
        assert disk.read(0, 512) == b"y" * 512


def test_a_view_that_is_kept_after_a_read_changes_nothing():
    class Keeper:
        size = SIZE
        kept = []

        def preadinto(self, buffer, offset):
            buffer[:] = b"a" * len(buffer)
            self.kept.append(buffer[:])

    with lunette.Target(Keeper()) as target, lunette.Disk(target.url) as disk:
        assert disk.read(0, 4096) == b"a" * 4096
        for view in Keeper.kept:
            view[:] = b"b" * len(view)
        assert disk.read(0, 4096) == b"a" * 4096


def test_a_view_of_what_is_written_cannot_be_written(caplog):
    def scribble(self, data, offset):
        data[0] = 1

    refused(store(pwrite=scribble), WRITE)


def test_a_failed_flush_fails_the_disk(caplog):
    odd = store(flush=raises(OSError(28, "ENOSPC")))
    with lunette.Target(odd) as target, lunette.Disk(target.url, timeout=5) as disk:
        disk.write(0, bytes(512))
        with pytest.raises(lunette.CommandError):
            disk.flush()
        with pytest.raises(lunette.CommandError):
            disk.read(0, 512)
        assert target.units[0].statistics()["failure"]


def test_a_store_that_sleeps_holds_up_nobody_else():
    awake = threading.Event()

    class Slow(Ram):
        def pread(self, length, offset):
            assert awake.wait(60)
            return super().pread(length, offset)

    with lunette.Target(Slow(SIZE), SIZE) as target:
        slow, quick = (lunette.Disk(target.url_of(unit)) for unit in target.units)
        pending = slow.start_read(0, 512)
        for _ in range(20):
            quick.read(0, 512)
        # Only now: who waited for it would never have got here.
        awake.set()
        assert pending.wait() == bytes(512)
        slow.close()
        quick.close()


def test_a_target_is_closed_while_a_store_sleeps():
    class Slow(Ram):
        def pread(self, length, offset):
            time.sleep(0.5)
            return super().pread(length, offset)

    with lunette.Target(Slow(SIZE)) as target:
        disk = lunette.Disk(target.url, reconnect_timeout=0)
        pending = disk.start_read(0, 512)
        target.wait_for("READ", done=False)
    with pytest.raises(lunette.LunetteError):
        pending.wait()
    disk.close()


def test_a_coroutine_that_never_ends_is_cancelled_with_its_target(caplog):
    entered, ended = threading.Event(), threading.Event()

    class Endless(Awaited):
        async def pread(self, length, offset):
            if offset:
                return bytes(length)
            entered.set()
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    with lunette.Target(Endless()) as target, lunette.Disk(target.url, reconnect_timeout=0) as disk:
        pending = disk.start_read(0, 512)
        assert entered.wait(5)
        target.close()
        assert ended.wait(5)
        with pytest.raises(lunette.LunetteError):
            pending.wait()


def test_an_outcome_told_after_the_end_goes_nowhere(caplog):
    """Whoever keeps the completion of an operation may tell it late, twice, or never."""
    kept = []

    def start(store, method, steps, done):
        kept.append((done, steps))

    from lunette import _native

    made = _native.Store.asynchronous(Awaited(), start, SIZE, False)
    with lunette.Target(made) as target, lunette.Disk(target.url, timeout=1, reconnect_timeout=0) as disk:
        pending = disk.start_read(0, 512)
        target.wait_for("READ", done=False)
        while not kept:
            time.sleep(0.01)
        done, steps = kept.pop()
        done.finish(bytes(512))
        done.finish(bytes(512))
        done.fail(RuntimeError("too late"))
        assert pending.wait() == bytes(512)
        # Never told, and let go of: a CHECK CONDITION.
        pending = disk.start_read(0, 512)
        while not kept:
            time.sleep(0.01)
        kept.clear()
        gc.collect()
        with pytest.raises(lunette.CommandError):
            pending.wait()
        pending = disk.start_read(0, 512)
        while not kept:
            time.sleep(0.01)
        threading.Timer(0.5, lambda: [one.finish(bytes(512)) for one, _ in kept]).start()
    for one, _ in kept:
        one.finish(bytes(512))


def test_a_loop_that_is_closed_is_a_check_condition(caplog):
    loop = asyncio.new_event_loop()
    loop.close()
    refused(lunette.Lun(Awaited(), loop=loop), READ)


def test_a_store_with_plain_and_coroutine_methods_is_refused():
    async def flush(self):
        pass

    with pytest.raises(lunette.ConfigError, match="async def"):
        lunette.Target(store(flush=flush))
    with pytest.raises(lunette.ConfigError, match="size"):
        lunette.Target(type("Sizeless", (), {"pread": lambda *_: b""})())
    with pytest.raises(lunette.ConfigError):
        lunette.Target(type("Writer", (), {"size": SIZE, "pwrite": lambda *_: None})())


def test_a_store_that_closes_its_target_is_told_so(caplog):
    """It would wait for itself."""
    told = []

    class Closing(Ram):
        def pread(self, length, offset):
            for call in (target.close, lambda: target.remove(target.units[0])):
                try:
                    call()
                except lunette.DeadlockError as error:
                    told.append(error)
            return super().pread(length, offset)

    with lunette.Target(Closing(SIZE)) as target, lunette.Disk(target.url) as disk:
        assert disk.read(0, 512) == bytes(512)
    assert len(told) == 2


def test_a_target_that_only_its_store_knows_is_collected_anywhere():
    class Holder(Ram):
        other = None

        def pread(self, length, offset):
            self.other = None
            gc.collect()
            return super().pread(length, offset)

    held = Holder(SIZE)
    held.other = lunette.Target(SIZE)
    with lunette.Target(held) as target, lunette.Disk(target.url, timeout=5) as disk:
        assert disk.read(0, 512) == bytes(512)


def test_a_closed_target_says_so():
    target = lunette.Target(SIZE)
    target.close()
    target.close()
    assert target.closed
    for call in (lambda: target.add(SIZE), lambda: target.sessions, lambda: target.listen("127.0.0.1:0")):
        with pytest.raises(lunette.ClosedError):
            call()
    assert target.trace == []


@pytest.mark.parametrize("ending", ["", "import sys; sys.exit(0)", "import gc; del target; gc.collect()"])
@pytest.mark.parametrize("made_of", ["1 << 20", "Slow(1 << 20)", "Later()"])
def test_a_program_that_closes_nothing_ends_all_the_same(ending, made_of):
    program = f"""
import asyncio, lunette, sys, time
class Slow(bytearray):
    def pread(self, length, offset):
        time.sleep(0.5)
        return self[offset:offset + length]
    def pwrite(self, data, offset):
        self[offset:offset + len(data)] = data
class Later:
    size = 1 << 20
    async def pread(self, length, offset):
        await asyncio.sleep(0.5)
        return bytes(length)
    async def pwrite(self, data, offset):
        pass
target = lunette.Target({made_of})
disk = lunette.Disk(target.url)
pending = disk.start_read(0, 512)
{ending}
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=40)
    assert done.returncode == 0, done.stderr


def test_nothing_is_left_of_targets_that_were_closed():
    def held():
        return len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))

    def use():
        with lunette.Target(Ram(SIZE)) as target, lunette.Disk(target.url) as disk:
            disk.write(0, bytes(4096))

    # What an earlier test still held when this one began may go meanwhile: less than before is no leak.
    use()
    threads, files = held()
    for _ in range(20):
        use()
    deadline = time.monotonic() + 10
    while (held()[0] > threads or held()[1] > files) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert held()[0] <= threads and held()[1] <= files


@pytest.mark.parametrize("make", [lambda: Ram(SIZE), Awaited])
def test_a_store_is_let_go_of_when_its_target_is_closed(make):
    kept = make()
    known = weakref.ref(kept)
    target = lunette.Target(kept)
    with lunette.Disk(target.url) as disk:
        disk.write(0, bytes(4096))
    target.close()
    del kept
    deadline = time.monotonic() + 10
    while known() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.05)
    assert known() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_has_neither_target_nor_disk_and_harms_none(iscsi_target, iscsi_disk):
    child = os.fork()
    if child == 0:
        # In the child nothing of pytest may go on.
        code = 1
        try:
            try:
                iscsi_disk.read(0, 512)
            except lunette.ClosedError:
                try:
                    iscsi_target.add(SIZE)
                except lunette.ClosedError:
                    iscsi_disk.close()
                    iscsi_target.close()
                    code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert iscsi_disk.read(0, 512) == bytes(512)
    assert iscsi_disk.logins == 1


def test_the_log_of_a_store_names_the_operation(caplog):
    caplog.set_level(logging.ERROR, "lunette.store")
    refused(store(pread=raises(RuntimeError("of its own"))), READ)
    assert "read of Odd failed" in caplog.text and "of its own" in caplog.text

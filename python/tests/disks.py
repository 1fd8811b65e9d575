"""Disks that the tests serve."""

import asyncio
import threading

SIZE = 1 << 20


class Ram(bytearray):
    """The plainest one."""

    def pread(self, length, offset):
        return self[offset : offset + length]

    def pwrite(self, data, offset):
        self[offset : offset + len(data)] = data


class Noted:
    """Counts what is asked of it."""

    def __init__(self, size=SIZE):
        self.content = bytearray(size)
        self.size = size
        self.calls = []
        self.lock = threading.Lock()

    def note(self, *call):
        with self.lock:
            self.calls.append(call)


class Filled(Noted):
    """With `preadinto` and `pwritev`."""

    def preadinto(self, buffer, offset):
        self.note("read", offset, len(buffer), type(buffer), buffer.readonly)
        buffer[:] = self.content[offset : offset + len(buffer)]

    def pwritev(self, buffers, offset):
        self.note("write", offset, sum(map(len, buffers)), {type(data) for data in buffers}, buffers[0].readonly)
        for data in buffers:
            self.content[offset : offset + len(data)] = data
            offset += len(data)

    def flush(self):
        self.note("flush")

    def unmap(self, offset, length):
        self.note("unmap", offset, length)
        self.content[offset : offset + length] = bytes(length)


class Awaited(Noted):
    """With coroutines."""

    async def pread(self, length, offset):
        self.note("read", offset, length)
        await asyncio.sleep(0)
        return self.content[offset : offset + length]

    async def pwrite(self, data, offset):
        self.note("write", offset, len(data))
        await asyncio.sleep(0)
        self.content[offset : offset + len(data)] = data

    async def flush(self):
        self.note("flush")

    async def unmap(self, offset, length):
        self.note("unmap", offset, length)
        self.content[offset : offset + length] = bytes(length)

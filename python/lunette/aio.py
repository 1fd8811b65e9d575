"""The initiator for asyncio: `async with await Disk.connect(url) as disk: await disk.read(0, 4096)`."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Self

from lunette import _client
from lunette._native import Geometry, Pending, Reply

__all__ = ["Disk", "discover"]


class Disk:
    """A disk over the network, awaited. As `lunette.Disk` in everything else; made by `connect`."""

    def __init__(self, disk: _client.Disk) -> None:
        self._disk = disk

    @classmethod
    async def connect(cls, url: str, **options: Any) -> Self:
        """Connects; the options are those of `lunette.Disk`."""
        return cls(await asyncio.to_thread(_client.Disk, url, **options))

    def __repr__(self) -> str:
        return f"<aio.{repr(self._disk)[1:]}"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Logs out."""
        await asyncio.to_thread(self._disk.close)

    @property
    def size(self) -> int:
        """Bytes."""
        return self._disk.size

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._disk.block_size

    @property
    def geometry(self) -> Geometry:
        """What the disk told about itself."""
        return self._disk.geometry

    @property
    def logins(self) -> int:
        """Logins so far: 1, and one more for each connection that was lost and made again."""
        return self._disk.logins

    async def refresh(self) -> Geometry:
        """Asks for size and limits again."""
        return await asyncio.to_thread(self._disk.refresh)

    async def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on."""
        return await _done(self._disk._native.start_read(offset, length))

    async def write(self, offset: int, data: Any, *, durable: bool = False) -> None:
        """Writes any buffer from `offset` on; a mutable one is copied before this first waits."""
        await _done(self._disk._native.start_write(offset, data, durable=durable))

    async def flush(self) -> None:
        """Brings everything written to stable storage."""
        await _done(self._disk._native.start_flush())

    async def unmap(self, offset: int, length: int) -> None:
        """Gives a range back."""
        await _done(self._disk._native.start_unmap(offset, length))

    async def write_same(self, offset: int, length: int, block: Any) -> None:
        """Writes one block over and over."""
        await _done(self._disk._native.start_write_same(offset, length, block))

    async def execute(self, cdb: bytes, *, data_out: Any = None, data_in_length: int = 0) -> Reply:
        """Sends any CDB once; gives the answer whatever its status."""
        return await asyncio.to_thread(
            self._disk.execute, cdb, data_out=data_out, data_in_length=data_in_length
        )

    async def manage(self, function: str) -> str:
        """Sends a task management function by its name."""
        return await asyncio.to_thread(self._disk.manage, function)

    def drop_connection(self) -> None:
        """Breaks the connection off as if the network had."""
        self._disk.drop_connection()


async def discover(url: str, *, initiator: str | None = None) -> list[tuple[str, list[str]]]:
    """The targets at a portal: the name and the addresses of each."""
    return await asyncio.to_thread(_client.discover, url, initiator=initiator)


async def _done(pending: Pending) -> bytes:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def finish() -> None:
        # Whoever waited may have been cancelled meanwhile; the operation goes on all the same.
        if not future.done():
            future.set_result(None)

    def wake() -> None:
        try:
            loop.call_soon_threadsafe(finish)
        except RuntimeError:
            pass  # the loop is closed, and nobody waits any more

    pending.on_done(wake)
    await future
    return pending.wait()

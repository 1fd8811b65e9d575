"""The blocking initiator."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from lunette import _native
from lunette._native import Geometry, Pending, Reply

__all__ = ["Disk", "discover"]

Buffer = Any


class Disk:
    """A disk over the network: `with Disk("iscsi://user%secret@host/iqn.2026-11.org.example:disk/0") as disk: ...`

    Offsets and lengths are bytes, multiples of `block_size`. Methods may be called from any thread, several at a time;
    they let go of the interpreter while they wait. A lost connection is made again, and operations that were under way
    are sent again, for as long as `reconnect_timeout` says (seconds; 0: never).

    `initiator` is our name; `chap` is user and secret where the URL has none, `target_chap` those that the target has to
    prove itself by. `header_digest` and `data_digest` demand CRC32C (`True`) or refuse it (`False`); `timeout`
    is how many seconds a command may take.
    """

    def __init__(
        self,
        url: str,
        *,
        initiator: str | None = None,
        chap: tuple[str, str] | None = None,
        target_chap: tuple[str, str] | None = None,
        header_digest: bool | None = None,
        data_digest: bool | None = None,
        connect_timeout: float | None = None,
        login_timeout: float | None = None,
        timeout: float | None = None,
        reconnect_timeout: float | None = None,
    ) -> None:
        # Without the secret: what is shown ends up in logs.
        self._name = url.rpartition("@")[2].removeprefix("iscsi://").partition("?")[0]
        self._native = _native.Disk(
            url,
            initiator=initiator,
            chap=chap,
            target_chap=target_chap,
            header_digest=header_digest,
            data_digest=data_digest,
            connect_timeout=connect_timeout,
            login_timeout=login_timeout,
            timeout=timeout,
            reconnect_timeout=reconnect_timeout,
        )

    def __repr__(self) -> str:
        return f"<Disk {self._name}{' closed' if self.closed else f' {self.size} bytes'}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Logs out. The second call does nothing."""
        self._native.close()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._native.closed

    @property
    def size(self) -> int:
        """Bytes, as known from the connection or the last `refresh`."""
        return self._native.size

    @property
    def block_size(self) -> int:
        """Bytes of a block."""
        return self._native.block_size

    @property
    def geometry(self) -> Geometry:
        """What the disk told about itself."""
        return self._native.geometry

    @property
    def logins(self) -> int:
        """Logins so far: 1, and one more for each connection that was lost and made again."""
        return self._native.logins

    def refresh(self) -> Geometry:
        """Asks for size and limits again."""
        return self._native.refresh()

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on."""
        return self._native.read(offset, length)

    def read_into(self, offset: int, buffer: Buffer) -> int:
        """Fills a writable buffer from `offset` on; gives its length."""
        return self._native.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer, *, durable: bool = False) -> None:
        """Writes any buffer from `offset` on; `durable`: it is on stable storage when this returns (FUA)."""
        self._native.write(offset, data, durable=durable)

    def flush(self) -> None:
        """Brings everything written to stable storage (SYNCHRONIZE CACHE)."""
        self._native.flush()

    def unmap(self, offset: int, length: int) -> None:
        """Gives a range back (UNMAP)."""
        self._native.unmap(offset, length)

    def write_same(self, offset: int, length: int, block: Buffer) -> None:
        """Writes one block over and over (WRITE SAME)."""
        self._native.write_same(offset, length, block)

    def start_read(self, offset: int, length: int) -> Pending:
        """Begins a read; `wait()` of the result gives the bytes. Several may be under way at once."""
        return self._native.start_read(offset, length)

    def start_write(self, offset: int, data: Buffer, *, durable: bool = False) -> Pending:
        """Begins a write; `wait()` of the result is its end."""
        return self._native.start_write(offset, data, durable=durable)

    def start_flush(self) -> Pending:
        """Begins a flush; `wait()` of the result is its end."""
        return self._native.start_flush()

    def start_unmap(self, offset: int, length: int) -> Pending:
        """Begins to give a range back; `wait()` of the result is its end."""
        return self._native.start_unmap(offset, length)

    def execute(self, cdb: bytes, *, data_out: Buffer | None = None, data_in_length: int = 0) -> Reply:
        """Sends any CDB once; gives the answer whatever its status. `lunette.scsi.cdb` makes CDBs."""
        return self._native.execute(cdb, data_out=data_out, data_in_length=data_in_length)

    def manage(self, function: str) -> str:
        """Sends a task management function by its name, such as "LOGICAL UNIT RESET"."""
        return self._native.manage(function)

    def drop_connection(self) -> None:
        """Breaks the connection off as if the network had."""
        self._native.drop_connection()


def discover(url: str, *, initiator: str | None = None) -> list[tuple[str, list[str]]]:
    """The targets at `iscsi://[user%secret@]host[:port]`: the name and the addresses of each."""
    return _native.discover(url, initiator=initiator)

"""Targets: what is served, to whom, and what goes wrong on purpose."""

from __future__ import annotations

import asyncio
import atexit
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Self

from lunette import _native
from lunette._errors import ConfigError
from lunette._native import DEFAULT_INITIATOR_NAME, Command, Sense, Unit
from lunette._stores import make_store

__all__ = ["Injection", "Lun", "Server", "Session", "Target"]

_open: weakref.WeakSet[Server] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Ends every server while the interpreter still runs: their threads may be in a method of a store."""
    for server in list(_open):
        server.close(grace=0)


@dataclass(kw_only=True)
class _Properties:
    """What a disk is like to its initiators."""

    #: 0 to 16383; the lowest that is free if not given.
    lun: int | None = None
    #: 32 hexadecimal digits; generated if not given. Initiators know a disk by it.
    guid: str | None = None
    #: INQUIRY vendor, up to 8 characters.
    vendor: str | None = None
    #: INQUIRY product, up to 16 characters.
    product: str | None = None
    #: Unit serial number, up to 252 characters.
    serial: str | None = None
    #: Bytes of a block, a power of two from 512 to 32768; 512 if not given.
    block_size: int | None = None
    #: Writes are refused with DATA PROTECT.
    read_only: bool = False
    #: Writes are cached until a flush; without, each is durable before its GOOD.
    write_cache: bool = True
    #: Seen by nobody until `Server.add_view` says so.
    hidden: bool = False


class Lun(_Properties):
    """A disk with properties: `Target(Lun("disk.img", read_only=True), Lun(1 << 20, block_size=4096))`.

    `disk` is what `Target` takes: a size in bytes, the content, a path, or an object with `pread` and `pwrite`. `size`
    is for objects that do not tell theirs and for files to be larger than they are; `create` makes a file that is not
    there; `loop` is the event loop of an object with coroutine methods.
    """

    def __init__(
        self,
        disk: Any,
        *,
        size: int | str | None = None,
        create: bool = False,
        loop: asyncio.AbstractEventLoop | None = None,
        lun: int | None = None,
        guid: str | None = None,
        vendor: str | None = None,
        product: str | None = None,
        serial: str | None = None,
        block_size: int | None = None,
        read_only: bool = False,
        write_cache: bool = True,
        hidden: bool = False,
    ) -> None:
        super().__init__(
            lun=lun,
            guid=guid,
            vendor=vendor,
            product=product,
            serial=serial,
            block_size=block_size,
            read_only=read_only,
            write_cache=write_cache,
            hidden=hidden,
        )
        self.store, self._cancel = make_store(disk, size=size, create=create, read_only=read_only, loop=loop)


@dataclass(frozen=True)
class Session:
    """A session of an initiator."""

    #: For `Server.end_session`; never used twice.
    id: int
    #: The initiator's name, in lower case.
    initiator: str
    #: The target's name.
    target: str
    #: Where its connections come from.
    addresses: tuple[str, ...]
    #: How many LUNs it sees.
    luns: int


class Injection:
    """A fault in force. It ends with `remove()`, or with the `with` statement it was made for."""

    def __init__(self, server: Server, id: int) -> None:
        self._server = server
        self._id = id
        self._last = 0

    @property
    def hits(self) -> int:
        """How many commands met it so far."""
        hits = self._server._native.hits(self._id)
        if hits is not None:
            self._last = hits
        return self._last

    def __repr__(self) -> str:
        return f"<Injection {self._id}: {self.hits} hits>"

    def remove(self) -> None:
        """Takes it out of force; commands that met it are not changed by that."""
        _ = self.hits
        self._server._native.remove_rule(self._id)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class Server:
    """Targets, the disks behind them, who may see what, and what goes wrong on purpose.

    `Target` is a server with its disks given at once. All methods may be called from any thread.

    `portals` are addresses to listen on; port 0 takes a free one. `name` is the first target's. `trace` is how many of
    the latest commands are kept, 0 for none. `chap` is user and secret that `Disk` proves itself by, or a mapping from
    initiator names to such pairs; `target_chap` is what the target proves itself by in turn. Secrets have 12 to 255
    characters.
    """

    def __init__(
        self,
        *,
        portals: Iterable[str] = ("127.0.0.1:0",),
        name: str | None = None,
        chap: tuple[str, str] | Mapping[str, tuple[str, str]] | None = None,
        target_chap: tuple[str, str] | None = None,
        threads: int | None = 1,
        trace: int = 4096,
    ) -> None:
        self._native = _native.Server(target=name, threads=threads, trace=trace)
        self._units: list[Unit] = []
        self._cancels: list[Callable[[], None]] = []
        self._portals: list[str] = []
        self._luns: dict[str, int] = {}
        self._credentials = ""
        _open.add(self)
        try:
            if chap is not None:
                self._set_chap(chap)
            if target_chap is not None:
                self.set_target_chap(*target_chap)
            self._portals = [self._native.listen(portal) for portal in portals]
        except BaseException:
            self.close(grace=0)
            raise

    def _set_chap(self, chap: tuple[str, str] | Mapping[str, tuple[str, str]]) -> None:
        pairs = chap if isinstance(chap, Mapping) else {DEFAULT_INITIATOR_NAME: chap}
        for initiator, (user, secret) in pairs.items():
            self.add_initiator(initiator, user, secret)
        self.require_chap()
        if not isinstance(chap, Mapping):
            self._credentials = f"{chap[0]}%{chap[1]}@"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.close)

    def close(self, *, grace: float = 0.0) -> None:
        """Ends it. Initiators are asked to log out and have `grace` seconds to do so. The second call does nothing.

        What methods of a store are doing is waited for, 10 seconds at most; what coroutines are doing is cancelled. On
        an event loop that such coroutines need, use `async with` or `await asyncio.to_thread(target.close)`.
        """
        self._native.close(grace)
        _open.discard(self)
        for cancel in self._cancels:
            cancel()
        # Files are free for others when nobody else holds on to the units.
        self._units.clear()
        self._cancels.clear()

    @property
    def closed(self) -> bool:
        """Whether it was closed."""
        return self._native.closed

    def __repr__(self) -> str:
        state = "closed" if self.closed else ", ".join(self._portals)
        return f"<{type(self).__name__} {self.name} {state}>"

    # Where it is.

    @property
    def name(self) -> str:
        """The first target's iSCSI name."""
        return self._native.target

    @property
    def portals(self) -> list[str]:
        """The addresses it listens on, as they were bound."""
        return list(self._portals)

    @property
    def portal(self) -> str:
        """The first address it listens on."""
        return self._portals[0]

    @property
    def url(self) -> str:
        """The first disk's URL, as libiscsi, QEMU and `Disk` take it; with user and secret if `chap` gave one pair."""
        return self.url_of(self._units[0]) if self._units else self.url_of(0)

    def url_of(self, disk: Unit | int, target: str | None = None) -> str:
        """The URL of a unit, or of a LUN, by which `target` it may be."""
        lun = disk if isinstance(disk, int) else self._luns.get(disk.guid, 0)
        return f"iscsi://{self._credentials}{self.portal}/{target or self.name}/{lun}"

    def listen(self, portal: str) -> str:
        """Listens on one more address; gives it as it was bound."""
        bound = self._native.listen(portal)
        self._portals.append(bound)
        return bound

    # What is served.

    @property
    def units(self) -> list[Unit]:
        """The units, in the order in which they were added."""
        return list(self._units)

    def add(self, disk: Any) -> Unit:
        """Adds a disk: a `Lun`, or what one is made of."""
        lun = disk if isinstance(disk, Lun) else Lun(disk)
        unit = self._native.add_unit(
            lun.store,
            lun=lun.lun,
            hidden=lun.hidden,
            guid=lun.guid,
            vendor=lun.vendor,
            product=lun.product,
            serial=lun.serial,
            block_size=lun.block_size,
            read_only=lun.read_only,
            write_cache=lun.write_cache,
        )
        self._units.append(unit)
        if lun._cancel is not None:
            self._cancels.append(lun._cancel)
        if not lun.hidden:
            taken = set(self._luns.values())
            free = next(number for number in range(16384) if number not in taken)
            self._luns[unit.guid] = free if lun.lun is None else lun.lun
        return unit

    def remove(self, unit: Unit) -> bool:
        """Removes a unit from every session. `False`: it was not there."""
        self._units = [other for other in self._units if other.guid != unit.guid]
        self._luns.pop(unit.guid, None)
        return self._native.remove_unit(unit)

    # Who sees it.

    def add_target(self, name: str | None = None, *, chap: bool | None = None) -> str:
        """One more target; gives its name. `chap`: whether initiators have to prove themselves there."""
        made = self._native.add_target(name)
        if chap is not None:
            self._native.set_target(made, chap=chap)
        return made

    def add_initiator(self, name: str, user: str, secret: str) -> None:
        """What an initiator proves itself by, where that is asked for."""
        self._native.add_initiator(name, user=user, secret=secret.encode())

    def require_chap(self, target: str | None = None) -> None:
        """Initiators have to prove themselves at this target (the first one)."""
        self._native.set_target(target or self.name, chap=True)

    def set_target_chap(self, user: str, secret: str, *, target: str | None = None) -> None:
        """What the target proves itself by, to initiators that ask for it."""
        self._native.set_target(target or self.name, user=user, secret=secret.encode())

    def add_host_group(self, name: str, initiators: Iterable[str] = ()) -> None:
        """A group of initiators, for views."""
        self._native.add_group("host", name, list(initiators))

    def add_target_group(self, name: str, targets: Iterable[str] = ()) -> None:
        """A group of targets, for views."""
        self._native.add_group("target", name, list(targets))

    def add_to_group(self, group: str, member: str, *, kind: Literal["host", "target"] = "host") -> None:
        """Puts one more initiator (or target) into a group."""
        self._native.add_member(kind, group, member)

    def add_view(
        self, unit: Unit, *, host_group: str | None = None, target_group: str | None = None, lun: int | None = None
    ) -> int:
        """Lets a hidden unit be seen: by a host group or all, at a target group or all. Gives the LUN."""
        _index, number = self._native.add_view(unit, host_group=host_group, target_group=target_group, lun=lun)
        self._luns.setdefault(unit.guid, number)
        return number

    # Who is there.

    @property
    def sessions(self) -> list[Session]:
        """The sessions, oldest first."""
        return [
            Session(id, initiator, target, tuple(addresses), luns)
            for id, initiator, target, addresses, luns in self._native.sessions()
        ]

    def end_session(self, session: Session | int, *, at_once: bool = False) -> None:
        """Asks the initiator to log out, or breaks the session off."""
        self._native.end_session(session if isinstance(session, int) else session.id, at_once)

    @property
    def statistics(self) -> dict[str, Any]:
        """Counters: of the data path, and of all units together (`reads`, `written_bytes` ...)."""
        sums = dict(self._native.statistics())
        for unit in self._units:
            for name, value in unit.statistics().items():
                if type(value) is int and name != "sessions":
                    sums[name] = sums.get(name, 0) + value
        return sums

    # What goes wrong on purpose.

    def inject(
        self,
        *,
        op: str | None = None,
        nth: int | None = None,
        count: int | None = None,
        lun: int | None = None,
        unit: Unit | None = None,
        initiator: str | None = None,
        lba: int | range | None = None,
        sense: Sense | tuple[int | str, int, int] | str | None = None,
        status: int | None = None,
        delay: float | None = None,
        short_read: int | None = None,
        hang: bool = False,
        drop_connection: bool | Literal["before", "after"] = False,
        kill_session: bool | Literal["before", "after"] = False,
        corrupt_digest: Literal["header", "data"] | None = None,
    ) -> Injection:
        """Makes commands fail.

        Which: `op` by the standard's name, "WRITE(10)", or "WRITE" for each length of it; `lba` a block or a range of
        which one is enough; `lun`, `unit` and `initiator`. With `nth` the nth of them and, unless `count` says how
        many, only that one; without it all of them.

        How: `sense` and `status` in place of carrying it out; `delay` in seconds before that, alone or with another;
        `short_read` sends only so many bytes; `hang` never answers. `drop_connection` breaks the connection off,
        "before" the command is carried out or "after" it, in place of the answer; `kill_session` does so with an
        asynchronous message ahead. `corrupt_digest` spoils a digest of the answer, if digests are in use.
        """
        if isinstance(lba, int):
            lba = range(lba, lba + 1)
        if isinstance(sense, tuple):
            sense = Sense(*sense)
        elif isinstance(sense, str):
            sense = Sense(sense)
        if nth is not None and nth < 1:
            raise ConfigError(f"nth={nth}: commands are counted from 1")
        wishes = [("drop", drop_connection), ("kill", kill_session), (corrupt_digest, bool(corrupt_digest))]
        disturb = [(what, when) for what, when in wishes if when]
        if len(disturb) > 1:
            raise ConfigError("a command can meet one fault only, beside a delay")
        rule = self._native.inject(
            op=op,
            nth=nth or 1,
            count=1 if nth is not None and count is None else count,
            lun=lun,
            unit=unit,
            initiator=initiator,
            lba=None if lba is None else (lba.start, lba.stop),
            delay=delay,
            sense=sense,
            status=status,
            short_read=short_read,
            hang=hang,
            disturb=disturb[0][0] if disturb else None,
            after=bool(disturb) and disturb[0][1] == "after",
        )
        return Injection(self, rule)

    def clear_injections(self) -> None:
        """Takes all faults out of force."""
        self._native.clear_rules()

    # What came.

    @property
    def trace(self) -> list[Command]:
        """The commands that reached a unit, oldest first, up to the limit of `trace=`."""
        return self._native.trace()

    def commands(self, op: str | None = None) -> list[Command]:
        """Those of the trace with this name: "WRITE(10)", or "WRITE" for each length."""
        if op is None:
            return self.trace
        wanted = op.upper()
        return [command for command in self.trace if wanted in (command.name, command.name.partition("(")[0])]

    def clear_trace(self) -> None:
        """Forgets the commands that came."""
        self._native.trace_clear()

    def wait_for(self, op: str | None = None, *, timeout: float = 10.0, done: bool = True) -> Command:
        """Waits until such a command has come and, unless `done` is false, has ended; looks at the trace first."""
        found = self._native.trace_wait(0, timeout, op, done)
        if found is None:
            from lunette._errors import CommandTimeoutError

            raise CommandTimeoutError(f"no {op or 'command'} within {timeout} s")
        return found


class Target(Server):
    """A target with its disks: `with Target(64 << 20) as target: target.url`.

    A disk is a size in bytes (memory, zeros at first), `bytes` or `bytearray` (memory that begins with a copy of
    them), a path (`str` or `os.PathLike`, written through), or an object with the methods below; a `Lun` adds
    properties. Every initiator sees all of them, as LUN 0, 1 and so on.

    An object has `pread(length, offset) -> buffer` and `pwrite(data, offset)`, in the order of the `os` module, and
    perhaps `flush()` and `unmap(offset, length)`; its size is its attribute `size`, its `len()`, or `size=` of a `Lun`.
    `data` is a memoryview of what was received, not a copy. Instead of `pread` it may have `preadinto(buffer, offset)`,
    instead of `pwrite` `pwritev(buffers, offset)`. If `pread` is a coroutine function all of them are. They are called
    from threads of the server, several at a time. What they raise becomes a CHECK CONDITION, and a message of the
    logger `lunette.store`.
    """

    def __init__(
        self,
        *disks: Any,
        portals: Iterable[str] = ("127.0.0.1:0",),
        name: str | None = None,
        chap: tuple[str, str] | Mapping[str, tuple[str, str]] | None = None,
        target_chap: tuple[str, str] | None = None,
        threads: int | None = 1,
        trace: int = 4096,
    ) -> None:
        if not disks:
            raise ConfigError("a target needs a disk: Target(64 << 20) serves 64 MiB of memory")
        luns = [disk if isinstance(disk, Lun) else Lun(disk) for disk in disks]
        super().__init__(
            portals=(), name=name, chap=chap, target_chap=target_chap, threads=threads, trace=trace
        )
        try:
            for lun in luns:
                self.add(lun)
            # Last: whoever connects finds everything there.
            self._portals = [self._native.listen(portal) for portal in portals]
        except BaseException:
            self.close()
            raise

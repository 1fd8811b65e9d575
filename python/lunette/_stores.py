"""From what a caller gives as a disk to a store of the native module."""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import logging
import os
import threading
from collections.abc import Callable, Sequence
from typing import Any

from lunette._errors import ConfigError
from lunette._native import Store, _Completion

_log = logging.getLogger("lunette.store")
#: What an object that stands for a disk may have.
_METHODS = ("pread", "preadinto", "pwrite", "pwritev", "flush", "unmap")
#: Bytes of the smallest disk, as with COMSTAR.
MIN_SIZE = 1 << 20
_UNITS = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def parse_size(text: str | int) -> int:
    """Bytes from a number, or from a text such as "64M" or "1.5G"."""
    if isinstance(text, int):
        return text
    number, factor = text.strip(), 1
    suffix = number[-1:].upper()
    if suffix in _UNITS:
        number, factor = number[:-1], _UNITS[suffix]
    try:
        size = float(number) * factor
    except ValueError:
        raise ConfigError(f"'{text}' is no size: give a number and perhaps a unit, such as 64M or 1.5G") from None
    return int(size)


def make_store(
    disk: Any,
    *,
    size: int | str | None = None,
    create: bool = False,
    read_only: bool = False,
    loop: asyncio.AbstractEventLoop | None = None,
) -> tuple[Store, Callable[[], None] | None]:
    """A store of what stands for a disk: a size, bytes, a path, or an object with pread and pwrite.

    The second value ends operations that are under way, where that can be done.
    """
    wanted = None if size is None else parse_size(size)
    made, cancel = _make_store(disk, wanted, create, read_only, loop)
    if made.size < MIN_SIZE:
        error = ConfigError(f"{made.size} bytes are no disk: the least is 1 MiB")
        is_size = isinstance(disk, int)
        error.add_note("hint: Target(64 << 20) serves 64 MiB" if is_size else "hint: Lun(..., size='1M')")
        raise error
    return made, cancel


def _make_store(
    disk: Any, wanted: int | None, create: bool, read_only: bool, loop: asyncio.AbstractEventLoop | None
) -> tuple[Store, Callable[[], None] | None]:
    match disk:
        case Store():
            return disk, None
        case bool():
            raise ConfigError(f"{disk} is no disk")
        case _ if hasattr(disk, "pread") or hasattr(disk, "preadinto"):
            # Before anything else it may be: a subclass of bytearray with methods of its own is an object.
            return _python_store(disk, wanted, read_only, loop)
        case int():
            return Store.memory(disk), None
        case bytes() | bytearray() | memoryview():
            length = memoryview(disk).nbytes
            return Store.memory(max(length, wanted or 0), disk), None
        case str() | os.PathLike():
            try:
                return Store.file(os.fspath(disk), size=wanted, create=create, read_only=read_only), None
            except FileNotFoundError as missing:
                missing.add_note(f"hint: Lun({os.fspath(disk)!r}, size='1G', create=True) makes it, of any size")
                raise
    error = ConfigError(f"{type(disk).__name__} is no disk")
    error.add_note("hint: a disk is a size, bytes, a path, or an object with pread and pwrite as in the os module")
    raise error


def _python_store(
    disk: Any, wanted: int | None, read_only: bool, loop: asyncio.AbstractEventLoop | None
) -> tuple[Store, Callable[[], None] | None]:
    length = wanted if wanted is not None else _length_of(disk)
    methods = [getattr(disk, name) for name in _METHODS if hasattr(disk, name)]
    awaited = [inspect.iscoroutinefunction(method) for method in methods]
    if not any(awaited):
        return Store.python(disk, length, read_only), None
    if not all(awaited) or not hasattr(disk, "pread"):
        raise ConfigError(f"{type(disk).__name__} has plain and coroutine methods: let all of them be 'async def'")
    starter = _Starter(loop)
    return Store.asynchronous(disk, starter, length, read_only), starter.cancel


def _length_of(disk: Any) -> int:
    size = getattr(disk, "size", None)
    if isinstance(size, int):
        return size
    if hasattr(disk, "__len__"):
        return len(disk)
    error = ConfigError(f"the size of {type(disk).__name__} is not known")
    error.add_note("hint: give size=, or the object an attribute size or a method __len__")
    raise error


def log_failure(store: str, operation: str, error: BaseException) -> None:
    """Called by the native module when a method of a store raised."""
    _log.error("%s of %s failed; the initiator gets a CHECK CONDITION", operation, store, exc_info=error)


class _Starter:
    """Puts operations of an asynchronous store on an event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop | None) -> None:
        self._loop = loop
        self._started: set[concurrent.futures.Future[None]] = set()

    def __call__(self, store: Any, method: str, steps: Sequence[tuple[Any, ...]], done: _Completion) -> None:
        coroutine = _carry_out(store, method, steps, done)
        try:
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop or _background_loop())
        except BaseException:
            coroutine.close()
            raise
        self._started.add(future)
        future.add_done_callback(self._started.discard)

    def cancel(self) -> None:
        """Cancels what is under way: it fails."""
        for future in list(self._started):
            future.cancel()


async def _carry_out(store: Any, method: str, steps: Sequence[tuple[Any, ...]], done: _Completion) -> None:
    data: Any = b""
    try:
        if method == "unsupported":
            raise NotImplementedError(method)
        name, _, flush = method.partition("+")
        if name == "flush":
            flush = "flush"
        else:
            call = getattr(store, name)
            for arguments in steps:
                data = await call(*arguments)
        if flush and hasattr(store, "flush"):
            await store.flush()
    except asyncio.CancelledError as error:
        done.fail(error)
        raise
    except BaseException as error:
        # Told to the initiator and to the log. The loop does not end of it, whoever raised a KeyboardInterrupt.
        done.fail(error)
    else:
        done.finish(data)


_loop: asyncio.AbstractEventLoop | None = None
_loop_lock = threading.Lock()


def _background_loop() -> asyncio.AbstractEventLoop:
    """The event loop of stores that brought none: one for the process, on a thread of its own."""
    global _loop
    with _loop_lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="lunette-loop", daemon=True).start()
        return _loop

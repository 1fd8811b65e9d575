"""What lunette raises. Everything is a LunetteError; where Python has a class of its own, it is that too."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lunette._native import Sense

__all__ = [
    "ClosedError",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "ConnectionLostError",
    "DeadlockError",
    "DecodeError",
    "FileMissingError",
    "FilePermissionError",
    "LoginError",
    "LunetteError",
    "ProtocolError",
    "SystemCallError",
    "UnsupportedError",
]


class LunetteError(Exception):
    """The root of all exceptions of this package."""


class ConfigError(LunetteError, ValueError):
    """A value is wrong: a name, a size, a LUN that is taken, an offset past the end of a disk."""


class DecodeError(LunetteError, ValueError):
    """Bytes are no PDU, CDB, sense data or page."""


class ClosedError(LunetteError, ValueError):
    """The target or disk is closed, as with an I/O operation on a closed file."""


class DeadlockError(LunetteError, RuntimeError):
    """The call would wait for the very call it is made from: a store that closes its target."""


class SystemCallError(LunetteError, OSError):
    """The system refuses: a port that is taken, a file that cannot be read."""


class FileMissingError(SystemCallError, FileNotFoundError):
    """There is no such file."""


class FilePermissionError(SystemCallError, PermissionError):
    """The file may not be opened."""


class ConnectionLostError(LunetteError, ConnectionError):
    """Nobody answers, or the connection broke while a command was out that must not run twice."""


class LoginError(LunetteError, ConnectionError):
    """The target refused the login, or did not prove who it is."""


class CommandTimeoutError(LunetteError, TimeoutError):
    """A command was not answered in time."""


class ProtocolError(LunetteError, OSError):
    """The target broke the protocol, or rejected a PDU."""


class UnsupportedError(LunetteError, OSError):
    """The disk cannot do this."""


class CommandError(LunetteError, OSError):
    """The disk refused a command, or failed to carry it out."""

    #: The command's name, such as "WRITE(10)".
    command: str
    #: The status byte: 0x02 is CHECK CONDITION, 0x08 BUSY, 0x18 RESERVATION CONFLICT.
    status: int
    #: The sense data that came with a CHECK CONDITION.
    sense: Sense | None

    def __init__(self, message: str, command: str = "", status: int = 0, sense: Sense | None = None) -> None:
        super().__init__(message)
        self.command = command
        self.status = status
        self.sense = sense

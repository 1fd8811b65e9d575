"""iSCSI targets in one line, an initiator, and the protocol's pieces.

    with lunette.Target(64 << 20) as target:
        with lunette.Disk(target.url) as disk:
            disk.write(0, bytes(512))

- `Target`, `Server`: disks over memory, a file or a Python object, served to any initiator.
- `Disk`, `discover`: the initiator; `lunette.aio` has the same for asyncio.
- `Sense`, `lunette.scsi`, `lunette.pdu`: sense data, CDBs, pages and PDUs, decoded and encoded.
- `lunette.pytest_plugin`: the fixtures `iscsi_target` and `iscsi_disk`.
"""

from lunette import aio, pdu, scsi
from lunette._client import Disk, discover
from lunette._errors import (
    ClosedError,
    CommandError,
    CommandTimeoutError,
    ConfigError,
    ConnectionLostError,
    DeadlockError,
    DecodeError,
    FileMissingError,
    FilePermissionError,
    LoginError,
    LunetteError,
    ProtocolError,
    SystemCallError,
    UnsupportedError,
)
from lunette._native import DEFAULT_INITIATOR_NAME, Command, Geometry, Pending, Reply, Sense, Store, Unit, __version__
from lunette._target import Injection, Lun, Server, Session, Target

__all__ = [
    "DEFAULT_INITIATOR_NAME",
    "ClosedError",
    "Command",
    "CommandError",
    "CommandTimeoutError",
    "ConfigError",
    "ConnectionLostError",
    "DeadlockError",
    "DecodeError",
    "Disk",
    "FileMissingError",
    "FilePermissionError",
    "Geometry",
    "Injection",
    "LoginError",
    "Lun",
    "LunetteError",
    "Pending",
    "ProtocolError",
    "Reply",
    "Sense",
    "Server",
    "Session",
    "Store",
    "SystemCallError",
    "Target",
    "Unit",
    "UnsupportedError",
    "__version__",
    "aio",
    "discover",
    "pdu",
    "scsi",
]

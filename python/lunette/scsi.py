"""SCSI by hand: CDBs, pages and answers, decoded and encoded. Nothing here touches a network."""

from __future__ import annotations

from typing import Any

from lunette import _native
from lunette._native import Sense

__all__ = ["Sense", "cdb", "command_names", "decode_cdb", "inquiry", "persistent_reserve_in", "status_name", "vpd"]


def cdb(name: str, /, **fields: Any) -> bytes:
    """A CDB by the command's name: `cdb("READ(10)", lba=8, blocks=2)`, `cdb("INQUIRY", page=0x83)`.

    Fields that are not given are zero, but an allocation length, which is then as large as it can be.
    """
    limits = {"INQUIRY": 0xFFFF, "REQUEST SENSE": 252, "REPORT LUNS": 0xFFFF, "READ CAPACITY(16)": 32}
    limits["PERSISTENT RESERVE IN"] = 0xFFFF
    limit = limits.get(name.upper())
    if limit is not None:
        fields.setdefault("allocation_length", limit)
    return _native.encode_cdb(name, fields)


def decode_cdb(data: bytes) -> dict[str, Any]:
    """What a CDB says: name, opcode, service_action, length, direction, lba, blocks, transfer_length, control."""
    return _native.decode_cdb(data)


def command_names() -> list[str]:
    """The names of all commands that are known, as `Server.inject` takes them."""
    return _native.command_names()


def status_name(status: int) -> str:
    """What a status byte is called: 0x18 is "RESERVATION CONFLICT"."""
    return _native.status_name(status)


def inquiry(data: bytes) -> dict[str, Any]:
    """The standard INQUIRY data."""
    return _native.decode_inquiry(data)


def vpd(data: bytes | None = None, /, *, page: int | None = None, **fields: Any) -> Any:
    """A vital product data page: of bytes its fields, of `page=` and fields its bytes.

    The pages 00h, 80h, 83h (decoded only), B0h, B1h and B2h have fields; others have a `body`.
    """
    if data is not None:
        return _native.decode_vpd(data)
    if page is None:
        raise TypeError("vpd() needs the bytes of a page, or page= and fields")
    return _native.encode_vpd(page, fields)


def persistent_reserve_in(action: int, data: bytes) -> dict[str, Any]:
    """What PERSISTENT RESERVE IN answered; `action` is 0 READ KEYS, 1 READ RESERVATION, 3 READ FULL STATUS."""
    return _native.persistent_reserve_in(action, data)

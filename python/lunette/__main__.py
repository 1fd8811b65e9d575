"""`python -m lunette URL COMMAND`: looks at a disk from the command line."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

from lunette import Disk, LunetteError, Reply, discover, scsi
from lunette._errors import CommandError

_PAGES = {0x00: "supported pages", 0x80: "unit serial number", 0x83: "device identification", 0xB0: "block limits"}
_PAGES |= {0xB1: "block device characteristics", 0xB2: "logical block provisioning"}


def _good(reply: Reply, name: str) -> bytes:
    if not reply.ok:
        reason = str(reply.sense) if reply.sense else scsi.status_name(reply.status)
        raise CommandError(f"{name} failed: {reason}", name, reply.status, reply.sense)
    return reply.data


def _ask(disk: Disk, name: str, **fields: Any) -> bytes:
    cdb = scsi.cdb(name, **fields)
    return _good(disk.execute(cdb, data_in_length=32 if "CAPACITY" in name else 0xFFFF), name)


def _inquiry(disk: Disk, _: argparse.Namespace) -> Any:
    return scsi.inquiry(_ask(disk, "INQUIRY"))


def _vpd(disk: Disk, arguments: argparse.Namespace) -> Any:
    pages = [arguments.page] if arguments.page is not None else _ask_pages(disk)
    return {f"{page:#04x} {_PAGES.get(page, '')}".strip(): _page(disk, page) for page in pages}


def _ask_pages(disk: Disk) -> list[int]:
    pages: list[int] = scsi.vpd(_ask(disk, "INQUIRY", page=0))["pages"]
    return pages


def _page(disk: Disk, page: int) -> Any:
    fields = scsi.vpd(_ask(disk, "INQUIRY", page=page))
    del fields["page"]
    return {name: value.hex() if isinstance(value, bytes) else value for name, value in fields.items()}


def _read_capacity(disk: Disk, _: argparse.Namespace) -> Any:
    geometry = disk.refresh()
    return {"blocks": geometry.blocks, "block_size": geometry.block_size, "size": geometry.size}


def _luns(disk: Disk, _: argparse.Namespace) -> Any:
    data = _ask(disk, "REPORT LUNS")
    length = int.from_bytes(data[:4], "big")
    entries = [data[at : at + 8] for at in range(8, 8 + length, 8)]
    return {"luns": [(entry[0] & 0x3F) << 8 | entry[1] for entry in entries]}


def _persist(disk: Disk, _: argparse.Namespace) -> Any:
    held = scsi.persistent_reserve_in(1, _ask(disk, "PERSISTENT RESERVE IN", action=1))
    status = scsi.persistent_reserve_in(3, _ask(disk, "PERSISTENT RESERVE IN", action=3))
    return {"generation": held["generation"], "type": held["type"], "registrations": status["registrations"]}


_COMMANDS: dict[str, tuple[Callable[[Disk, argparse.Namespace], Any], str]] = {
    "inquiry": (_inquiry, "the standard INQUIRY data"),
    "vpd": (_vpd, "vital product data pages, all or one"),
    "read-capacity": (_read_capacity, "size and block size"),
    "luns": (_luns, "the LUNs that this initiator sees"),
    "persist": (_persist, "persistent reservations and who is registered"),
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m lunette",
        description="Looks at a disk over iSCSI.",
        epilog="example: python -m lunette iscsi://192.0.2.1/iqn.2026-11.org.example:disk/0 inquiry",
    )
    parser.add_argument("url", help="iscsi://[user%%secret@]host[:port]/target/lun; for discover without target and LUN")
    parser.add_argument("--initiator", metavar="NAME", help="the initiator name to use")
    parser.add_argument("--json", action="store_true", help="print JSON")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_function, about) in _COMMANDS.items():
        command = commands.add_parser(name, help=about)
        if name == "vpd":
            command.add_argument("page", nargs="?", type=lambda text: int(text, 0), help="such as 0x83")
    commands.add_parser("discover", help="the targets at the portal")
    return parser


def _show(value: Any, indent: str = "") -> None:
    for name, inner in value.items():
        if isinstance(inner, dict):
            print(f"{indent}{name}:")
            _show(inner, indent + "    ")
        elif isinstance(inner, list) and inner and isinstance(inner[0], dict):
            print(f"{indent}{name}:")
            for item in inner:
                print(f"{indent}  - " + ", ".join(f"{key}={entry}" for key, entry in item.items()))
        else:
            text = ", ".join(map(str, inner)) if isinstance(inner, list) else inner
            print(f"{indent}{name}: {text}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; gives the exit code: 0 done, 1 refused, 2 wrong usage."""
    parsed = _parser().parse_args(arguments)
    try:
        if parsed.command == "discover":
            result: Any = dict(discover(parsed.url, initiator=parsed.initiator))
        else:
            with Disk(parsed.url, initiator=parsed.initiator, reconnect_timeout=0) as disk:
                result = _COMMANDS[parsed.command][0](disk, parsed)
    except LunetteError as error:
        print(f"lunette: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", []):
            print(note, file=sys.stderr)
        return 1
    if parsed.json:
        print(json.dumps(result, indent=2))
    else:
        _show(result)
    return 0


if __name__ == "__main__":
    sys.exit(main())

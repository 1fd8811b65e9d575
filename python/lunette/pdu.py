"""iSCSI PDUs by hand (RFC 7143), decoded and encoded. Nothing here touches a network.

    >>> from lunette.pdu import Pdu
    >>> ping = Pdu("NopOut", initiator_task_tag=7, data=b"hello")
    >>> Pdu.decode(ping.encode()).data
    b'hello'
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lunette import _native

__all__ = ["Pdu", "Stream", "names"]


def names() -> list[str]:
    """The kinds of PDUs."""
    return _native.pdu_names()


class Pdu:
    """A PDU: its kind and its fields, under the names of the standard in snake case.

    Fields that are not given have the value 0, or the reserved one. Flags of login PDUs are (T, C, CSG, NSG); residuals
    are negative for an underflow; a LUN is its number.
    """

    __slots__ = ("fields", "name")

    def __init__(self, name: str, /, **fields: Any) -> None:
        self.name = name
        # What is wrong or missing shows at once, not when it is sent.
        self.fields: dict[str, Any] = _native.decode_pdu(_native.encode_pdu(name, fields))[1]

    @classmethod
    def _of(cls, name: str, fields: dict[str, Any]) -> Pdu:
        pdu = cls.__new__(cls)
        pdu.name = name
        pdu.fields = fields
        return pdu

    @classmethod
    def decode(cls, data: bytes) -> Pdu:
        """The PDU that the bytes begin with, sent without digests."""
        return cls._of(*_native.decode_pdu(data))

    def encode(self, *, header_digest: bool = False, data_digest: bool = False) -> bytes:
        """The bytes, with padding and the digests wanted."""
        return _native.encode_pdu(self.name, self.fields, header_digest=header_digest, data_digest=data_digest)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.fields[name]
        except KeyError:
            raise AttributeError(f"{self.name} has no field '{name}'") from None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Pdu) and (self.name, self.fields) == (other.name, other.fields)

    def __repr__(self) -> str:
        return f"Pdu({self.name!r}, {', '.join(f'{name}={value!r}' for name, value in self.fields.items())})"


class Stream:
    """Cuts a stream of bytes, in any split, into PDUs; checks digests."""

    def __init__(self, *, header_digest: bool = False, data_digest: bool = False) -> None:
        self._framer = _native.Framer(header_digest=header_digest, data_digest=data_digest)

    def feed(self, data: bytes) -> Iterator[Pdu]:
        """The PDUs that are complete with these bytes."""
        return iter([Pdu._of(name, fields) for name, fields in self._framer.feed(data)])

    @property
    def buffered(self) -> int:
        """Bytes that wait for the rest of their PDU."""
        return self._framer.buffered

"""Reading JSON that somebody else may have written: every field is checked, nothing is guessed.

Root, lock, manifest and plan are JSON objects with a `schema` number. A reader refuses what has
another schema, and says so; it never takes damaged bytes for an empty or a free one.
"""

import gzip
import json
import zlib
from collections.abc import Mapping
from typing import Any

from pdfs.core.ids import ObjectName, is_object_name
from pdfs.errors import ObjectDamaged

MOST_BYTES = 1 << 30
"""Longest document that is unpacked: 10 million entries; more is a bomb, not a manifest."""

_UNPACKED_FREELY = 4 << 20
_MOST_RATIO = 50
"""What grows beyond both is a bomb. The most regular stages shrink to 1/30; what shrinks further,
`pack` leaves as it is."""


_LATEST = (1 << 63) * 1_000_000_000
"""ns: what is later the kernel can't be told."""


class Malformed(ValueError):
    """A field is missing or not what it must be; callers turn it into the error of their kind."""


class Reader:
    """One JSON object, read field by field; a field of the wrong type raises Malformed."""

    __slots__ = ("_fields",)

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise Malformed(f"{_shown(value)} is not an object")
        self._fields: dict[str, Any] = value

    def has(self, name: str) -> bool:
        """Whether the field is there and not null."""
        return self._fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A string."""
        value = self._fields.get(name, default)
        if not isinstance(value, str):
            raise Malformed(f"{name!r} is {_shown(value)}, not a string")
        return value

    def whole(self, name: str, default: int | None = None, *, least: int = 0) -> int:
        """A whole number from `least` to 2^63 - 1."""
        value = self._fields.get(name, default)
        if type(value) is not int or not least <= value < 1 << 63:
            raise Malformed(f"{name!r} is {_shown(value)}, not a whole number from {least}")
        return value

    def object_name(self, name: str) -> ObjectName:
        """The name of an internal object: nothing else may become part of a key."""
        value = self.text(name)
        if not is_object_name(value):
            raise Malformed(f"{name!r} is {_shown(value)}, not the name of an object")
        return ObjectName(value)

    def number(self, name: str) -> float:
        """A finite number."""
        value = self._fields.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e15:
            raise Malformed(f"{name!r} is {_shown(value)}, not a number")
        return float(value)

    def time(self, name: str) -> int:
        """A file's time in ns since 1970, of which the seconds fit the kernel's 64 bits."""
        value = self._fields.get(name)
        if type(value) is not int or not -_LATEST <= value < _LATEST:
            raise Malformed(f"{name!r} is {_shown(value)}, not a time in ns")
        return value

    def flag(self, name: str) -> bool:
        """True or false; false where the field is missing."""
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise Malformed(f"{name!r} is {_shown(value)}, not true or false")
        return value

    def child(self, name: str) -> "Reader":
        """An object."""
        return Reader(self._fields.get(name))

    def items(self, name: str) -> list[Any]:
        """A list, empty where the field is missing."""
        value = self._fields.get(name, [])
        if not isinstance(value, list):
            raise Malformed(f"{name!r} is {_shown(value)}, not a list")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """A list of strings."""
        items = self.items(name)
        if not all(isinstance(item, str) for item in items):
            raise Malformed(f"{name!r} holds something that is not a string")
        return tuple(items)

    def pairs(self, name: str) -> tuple[tuple[str, int], ...]:
        """A list of [string, whole number from 0]."""
        found = []
        for item in self.items(name):
            match item:
                case [str(text), int(number)] if not isinstance(number, bool) and number >= 0:
                    found.append((text, number))
                case _:
                    raise Malformed(f"{name!r} holds {_shown(item)}")
        return tuple(found)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object as a dict, empty where the field is missing."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise Malformed(f"{name!r} is {_shown(value)}, not an object")
        return value


def parse(body: bytes, *, schema: int, most: int = MOST_BYTES) -> Reader:
    """The document in `body`. Raises Malformed for anything that is not one of this schema."""
    if len(body) > most:
        raise Malformed(f"it has {len(body)} bytes; at most {most} are read")
    try:
        value = json.loads(
            body.decode(), object_pairs_hook=_without_duplicates, parse_constant=_no_constant
        )
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except ValueError as error:
        raise Malformed(f"it is not JSON: {error}") from error
    reader = Reader(value)
    found = reader.whole("schema")
    if found != schema:
        whose = "a newer" if found > schema else "an older"
        raise Malformed(f"it has schema {found}, of {whose} PDFS; this one reads {schema}")
    return reader


def render(fields: Mapping[str, object]) -> bytes:
    """A document's bytes: equal fields give equal bytes."""
    return (json.dumps(fields, indent=1, ensure_ascii=True) + "\n").encode()


def pack(fields: Mapping[str, object]) -> bytes:
    """A document's bytes, compact and compressed; equal fields give equal bytes."""
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=True).encode()
    packed = gzip.compress(text, compresslevel=6, mtime=0)
    if len(text) > _most_from(packed):
        return gzip.compress(text, compresslevel=0, mtime=0)
    return packed


def unpack(key: str, body: bytes, *, schema: int, most: int = MOST_BYTES) -> Reader:
    """The inverse of `pack`, with bounded memory. Raises ObjectDamaged naming `key`."""
    try:
        most = min(most, _most_from(body))
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(body, most + 1)
        if len(text) > most or inflater.unconsumed_tail:
            raise Malformed(f"it unpacks to more than {most} bytes")
        if not inflater.eof or inflater.unused_data:
            raise Malformed("it is cut short, or followed by something else")
        return parse(text, schema=schema, most=most)
    except (zlib.error, Malformed) as error:
        raise damaged(key, error) from error


def _most_from(packed: bytes) -> int:
    return max(_UNPACKED_FREELY, _MOST_RATIO * len(packed))


def damaged(key: str, why: object) -> ObjectDamaged:
    """The error for an object that is not what its key says."""
    return ObjectDamaged(
        f"the object {key!r} is not one that this PDFS can read: {why}",
        remedy="leave it as it is and ask whoever looks after the bucket; nothing was changed",
    )


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a field stands twice")
    return fields


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _shown(value: object) -> str:
    if isinstance(value, dict | list):  # may be huge, or as deep as the stack
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."

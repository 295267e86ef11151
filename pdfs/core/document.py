"""Reading JSON that somebody else may have written: every field is checked, nothing is guessed.

Root, lock, manifest and plan are JSON objects with a `schema` number. A reader refuses what has
another schema, and says so; it never takes damaged bytes for an empty or a free one.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from pdfs.core.ids import ObjectName, is_object_name
from pdfs.errors import ObjectDamaged, OtherVersion

MOST_BYTES = 1 << 30
"""Longest document that is unpacked: 10 million entries; more is a bomb, not a manifest."""

_UNPACKED_FREELY = 4 << 20
_MOST_RATIO = 50
"""What grows beyond both is a bomb. The most regular stages shrink to 1/30; what shrinks further,
`pack` leaves as it is."""


Take = Callable[[Any], None]
NOTHING: Mapping[str, Take] = MappingProxyType({})
_AT_ONCE = 1000
"""Items of a list that are written together: with one at a time it takes half as long again."""

_LATEST = (1 << 63) * 1_000_000_000
"""ns: what is later the kernel can't be told."""


class Malformed(ValueError):
    """A field is missing or not what it must be; callers turn it into the error of their kind."""


class OtherSchema(Malformed):
    """A document of another version of PDFS."""


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

    def text_pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        """A list of [string, string]."""
        found = []
        for item in self.items(name):
            match item:
                case [str(first), str(second)]:
                    found.append((first, second))
                case _:
                    raise Malformed(f"{name!r} holds {_shown(item)}")
        return tuple(found)

    def mapping(self, name: str) -> dict[str, Any]:
        """An object as a dict, empty where the field is missing."""
        value = self._fields.get(name, {})
        if not isinstance(value, dict):
            raise Malformed(f"{name!r} is {_shown(value)}, not an object")
        return value


def parse(
    body: bytes, *, schema: int, most: int = MOST_BYTES, taken: Mapping[str, Take] = NOTHING
) -> Reader:
    """The document in `body`. Raises Malformed for anything that is not one of this schema.

    Items of the lists in `taken` go there, one by one, as soon as they are read, and are missing
    in what is returned: a list of a million objects never exists as a whole.
    """
    if len(body) > most:
        raise Malformed(f"it has {len(body)} bytes; at most {most} are read")
    try:
        value = _decoded(body.decode(), schema, taken)
    except RecursionError:
        raise Malformed("it is nested too deeply") from None
    except OtherSchema:
        raise
    except ValueError as error:
        raise Malformed(f"it is not JSON: {error}") from error
    reader = Reader(value)
    _check_schema(reader, schema)
    return reader


def _check_schema(reader: Reader, schema: int) -> None:
    found = reader.whole("schema")
    if found != schema:
        whose = "a newer" if found > schema else "an older"
        raise OtherSchema(f"it has schema {found}, of {whose} PDFS; this one reads {schema}")


_BLANKS = re.compile(r"[ \t\n\r]*")


def _decoded(text: str, schema: int, taken: Mapping[str, Take]) -> object:
    """The value that `text` is; an object is read field by field if any of it is to be `taken`."""
    scanner = _Scanner(text)
    if not taken or not scanner.has("{"):
        return _DECODER.decode(text)
    pairs: list[tuple[str, object]] = []
    is_over = scanner.has("}")
    while not is_over:
        name = scanner.value()
        if not isinstance(name, str):
            raise ValueError("the name of a field is no string")
        scanner.expect(":")
        if name in taken and scanner.has("["):
            _check_schema(Reader(dict(pairs)), schema)
            _take_items(scanner, taken[name])
            pairs.append((name, []))
        else:
            pairs.append((name, scanner.value()))
        is_over = scanner.is_last("}")
    scanner.expect_end()
    return _without_duplicates(pairs)


def _take_items(scanner: "_Scanner", take: Take) -> None:
    is_over = scanner.has("]")
    while not is_over:
        take(scanner.value())
        is_over = scanner.is_last("]")


class _Scanner:
    """Reads a JSON text piece by piece. Raises ValueError where it is none."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = self._skipped(0)

    def has(self, letter: str) -> bool:
        """Whether this comes next; it is passed then."""
        if not self._text.startswith(letter, self._at):
            return False
        self._at = self._skipped(self._at + 1)
        return True

    def expect(self, letter: str) -> None:
        if not self.has(letter):
            raise ValueError(f"no {letter!r} at {self._at}")

    def is_last(self, end: str) -> bool:
        """Pass what follows an item: `end`, or a comma before another one."""
        if self.has(end):
            return True
        self.expect(",")
        return False

    def value(self) -> object:
        """The value that comes next."""
        value, end = _DECODER.raw_decode(self._text, self._at)
        self._at = self._skipped(end)
        return value

    def expect_end(self) -> None:
        if self._at != len(self._text):
            raise ValueError(f"more follows at {self._at}")

    def _skipped(self, at: int) -> int:
        blanks = _BLANKS.match(self._text, at)
        return at if blanks is None else blanks.end()


def render(fields: Mapping[str, object]) -> bytes:
    """A document's bytes: equal fields give equal bytes."""
    return (json.dumps(fields, indent=1, ensure_ascii=True) + "\n").encode()


def pack(fields: Mapping[str, object]) -> bytes:
    """A document's bytes, compact and compressed; equal fields give equal bytes.

    A value that is an iterator is a list whose items are made as they are written, and dropped.
    """
    deflater, pieces, length = zlib.compressobj(6, wbits=31), [], 0
    for piece in _written(fields):
        length += len(piece)
        pieces.append(deflater.compress(piece))
    pieces.append(deflater.flush())
    packed = b"".join(pieces)
    if length > _most_from(packed):
        return gzip.compress(gzip.decompress(packed), compresslevel=0, mtime=0)
    return packed


def _written(fields: Mapping[str, object]) -> Iterator[bytes]:
    """The text of an object, in pieces."""
    before = b"{"
    for name, value in fields.items():
        yield before + _compact(name) + b":"
        if isinstance(value, Iterator):
            yield from _written_list(value)
        else:
            yield _compact(value)
        before = b","
    yield b"}" if fields else b"{}"


def _written_list(items: Iterator[object]) -> Iterator[bytes]:
    before = b"["
    while some := list(islice(items, _AT_ONCE)):
        yield before + _compact(some)[1:-1]
        before = b","
    yield b"]" if before == b"," else b"[]"


def _compact(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True).encode()


def unpack(
    key: str,
    body: bytes,
    *,
    schema: int,
    most: int = MOST_BYTES,
    taken: Mapping[str, Take] = NOTHING,
) -> Reader:
    """The inverse of `pack`, with bounded memory. Raises ObjectDamaged naming `key`.

    `taken` is as in `parse`; it may raise Malformed.
    """
    try:
        most = min(most, _most_from(body))
        inflater = zlib.decompressobj(wbits=31)
        text = inflater.decompress(body, most + 1)
        if len(text) > most or inflater.unconsumed_tail:
            raise Malformed(f"it unpacks to more than {most} bytes")
        if not inflater.eof or inflater.unused_data:
            raise Malformed("it is cut short, or followed by something else")
        return parse(text, schema=schema, most=most, taken=taken)
    except (zlib.error, Malformed) as error:
        raise damaged(key, error) from error


def _most_from(packed: bytes) -> int:
    return max(_UNPACKED_FREELY, _MOST_RATIO * len(packed))


def damaged(key: str, why: object) -> ObjectDamaged:
    """The error for an object that is not what its key says."""
    kind = OtherVersion if isinstance(why, OtherSchema) else ObjectDamaged
    return kind(
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


_DECODER = json.JSONDecoder(object_pairs_hook=_without_duplicates, parse_constant=_no_constant)


def _shown(value: object) -> str:
    if isinstance(value, dict | list):  # may be huge, or as deep as the stack
        return "an object" if isinstance(value, dict) else "a list"
    text = repr(value[:60] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:57]}..."

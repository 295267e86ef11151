"""What a session's journal says: one record per operation, and its bytes.

Records name inodes, never paths of the tree, so that replay needs nothing but the records; `path`
fields name keys in the bucket. They carry their time, owner and mode, so that replay asks no clock.

Encoding: a record is (code, body, data). `data` is the payload of a `Write` or `Brought` and empty
for all others. The body of a `Write` is `<QQq`: inode, offset, time in ns. Every other body
is a JSON object with the fields of the class below, in UTF-8; names and targets that are not UTF-8
are carried as lone surrogates, xattr values as base64. A field that is None is left out.

`decode` raises JournalDamaged for anything else: an unknown code, a missing or surplus field, a
value of the wrong type.
"""

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, ClassVar, get_type_hints

from pdfs.core.content import Content, ETag, Packed, Plain, content_fields, digest_in
from pdfs.core.ids import Inode, ObjectName, Path, PublishId, Sequence
from pdfs.errors import JournalDamaged


class Kind(StrEnum):
    """What a node of the tree is."""

    FILE = "file"
    DIRECTORY = "directory"
    SYMLINK = "symlink"
    FIFO = "fifo"
    SOCKET = "socket"
    CHARACTER = "character"
    BLOCK = "block"


@dataclass(frozen=True, slots=True, kw_only=True)
class Create:
    """A new node of any kind, under a name that is free."""

    code: ClassVar[int] = 1
    parent: Inode
    name: str
    ino: Inode
    kind: Kind
    mode: int
    """Permission bits, without the type."""
    uid: int
    gid: int
    time: int
    rdev: int = 0
    target: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Write:
    """Bytes laid over a file at `offset`; the bytes are the record's data."""

    code: ClassVar[int] = 2
    ino: Inode
    offset: int
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetAttributes:
    """What is not None is set; `size` cuts or extends with zeros and sets mtime by `mtime`."""

    code: ClassVar[int] = 3
    ino: Inode
    time: int
    """Becomes ctime."""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rename:
    """Move a name; what the new name held is unlinked, or swapped if `exchange`."""

    code: ClassVar[int] = 4
    parent: Inode
    name: str
    new_parent: Inode
    new_name: str
    time: int
    exchange: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """One more name for a node that is not a directory."""

    code: ClassVar[int] = 5
    ino: Inode
    parent: Inode
    name: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink:
    """Take a name away; of a directory only when it is empty."""

    code: ClassVar[int] = 6
    parent: Inode
    name: str
    time: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetXattr:
    """Set an extended attribute, or remove it where `value` is None."""

    code: ClassVar[int] = 7
    ino: Inode
    name: str
    time: int
    value: bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Drop:
    """Forget a node that has no name and that nobody has open."""

    code: ClassVar[int] = 8
    ino: Inode


@dataclass(frozen=True, slots=True, kw_only=True)
class Publishing:
    """From here on the tree as of the record before this one may become a generation."""

    code: ClassVar[int] = 9
    publish: PublishId
    sequence: Sequence
    """Of the last record that the publish includes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A plain object that another tool made enters the tree as a new file."""

    code: ClassVar[int] = 10
    parent: Inode
    name: str
    path: Path
    ino: Inode
    mode: int
    uid: int
    gid: int
    mtime: int
    time: int
    content: Content
    """Has the plain home (`path`, ETag)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """A plain object that was known is no longer in the bucket; its name leaves the tree."""

    code: ClassVar[int] = 11
    path: Path
    time: int
    parent: Inode | None = None
    """None where the tree has no such name any more, or holds changes there."""
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Echoed:
    """A plain object is a late write of our own; the next publish puts it right."""

    code: ClassVar[int] = 13
    path: Path
    content: Content
    """What the plain object holds now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brought:
    """Bytes that a file has from its base, as the record's data: nothing of it changes by that.

    The session then needs no bucket for them.
    """

    code: ClassVar[int] = 14
    ino: Inode
    start: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """A plan was verified in the bucket and the root says so: new bases, new expectations.

    If `publish` is this session's own, `sequence` is that of its `publishing` record: bases then
    replace everything that was written until it, and what was written later stays over them.
    Otherwise bases are the same bytes with other homes.
    """

    code: ClassVar[int] = 12
    publish: PublishId
    generation: int
    tree: ObjectName
    contents: tuple[Content, ...]
    bases: tuple[tuple[Inode, int], ...]
    """(inode, index in `contents`)."""
    known: tuple[tuple[Path, int], ...]
    """(path, index in `contents` of what its plain object now holds, or -1 for no object)."""
    sequence: Sequence | None = None
    moves: tuple[Rename, ...] = ()
    """Our files whose names now belong to somebody else's object."""
    found: tuple[Found, ...] = ()


Record = (
    Create
    | Write
    | SetAttributes
    | Rename
    | Link
    | Unlink
    | SetXattr
    | Drop
    | Publishing
    | Found
    | Gone
    | Settled
    | Echoed
    | Brought
)

_CLASSES: tuple[type[Any], ...] = (
    Create,
    Write,
    SetAttributes,
    Rename,
    Link,
    Unlink,
    SetXattr,
    Drop,
    Publishing,
    Found,
    Gone,
    Settled,
    Echoed,
    Brought,
)
_BY_CODE = {cls.code: cls for cls in _CLASSES}
_WRITE = struct.Struct("<QQq")


def encode(record: Record) -> tuple[int, bytes]:
    """(code, body) of a record."""
    if isinstance(record, Write):
        return record.code, _WRITE.pack(record.ino, record.offset, record.time)
    return record.code, json.dumps(_plain(record), separators=(",", ":")).encode()


def decode(code: int, body: bytes) -> Record:
    """The record of these bytes. Raises JournalDamaged where they are none."""
    cls = _BY_CODE.get(code)
    if cls is None:
        raise JournalDamaged(f"a journal record has the unknown code {code}")
    try:
        if cls is Write:
            ino, offset, time = _WRITE.unpack(body)
            return Write(ino=Inode(ino), offset=offset, time=time)
        record: Record = _built(cls, json.loads(body.decode()))
    except (ValueError, TypeError, KeyError, IndexError, struct.error, RecursionError) as error:
        raise JournalDamaged(f"a journal record of code {code} can't be read: {error}") from error
    return record


def _plain(record: Any) -> dict[str, object]:
    chosen = {field.name: getattr(record, field.name) for field in fields(record)}
    return {name: _value_out(value) for name, value in chosen.items() if value is not None}


def _value_out(value: object) -> object:
    match value:
        case bytes():
            return base64.b64encode(value).decode("ascii")
        case Content():
            return content_out(value)
        case tuple():
            return [_value_out(item) for item in value]
        case Rename() | Found():
            return _plain(value)
        case _:
            return value


def content_out(content: Content) -> dict[str, object]:
    """A content as JSON: size, digest, parts, packed [[name, offset]], plain [[path, etag]]."""
    out = content_fields(content)
    if content.plain:
        out["plain"] = [[home.path, home.etag] for home in content.plain]
    return out


def content_in(value: Any) -> Content:
    """The inverse of `content_out`. Raises ValueError, TypeError or KeyError for nonsense."""
    size = _int(value["size"])
    if size < 0:
        raise ValueError(f"a content of {size} bytes")
    digest = value.get("digest")
    return Content(
        size=size,
        digest=None if digest is None else digest_in(_str(digest)),
        parts=tuple(digest_in(_str(part)) for part in _list(value.get("parts", []))),
        packed=tuple(
            Packed(ObjectName(_str(name)), _int(offset))
            for name, offset in _list(value.get("packed", []))
        ),
        plain=tuple(
            Plain(Path(_str(path)), ETag(_str(etag)))
            for path, etag in _list(value.get("plain", []))
        ),
    )


def _int(value: object) -> int:
    if type(value) is not int:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def _str(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is not a string")
    value.encode("utf-8", "surrogateescape")  # a name that no file can have is a ValueError, too
    return value


def _bool(value: object) -> bool:
    if type(value) is not bool:
        raise ValueError(f"{value!r} is not true or false")
    return value


def _list(value: object) -> list[Any]:
    if type(value) is not list:
        raise ValueError(f"{value!r} is not a list")
    return value


def _bytes(value: object) -> bytes:
    return base64.b64decode(_str(value), validate=True)


def _pairs(kind: Callable[[object], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple((kind(first), _int(second)) for first, second in _list(value))


def _each(kind: Callable[[Any], Any]) -> Callable[[Any], tuple[Any, ...]]:
    return lambda value: tuple(kind(item) for item in _list(value))


_READERS: Mapping[object, Callable[[Any], Any]] = {
    int: _int,
    str: _str,
    bool: _bool,
    Kind: Kind,
    Inode: _int,
    Sequence: _int,
    Path: _str,
    PublishId: _str,
    ObjectName: _str,
    Content: content_in,
    int | None: _int,
    Inode | None: _int,
    Sequence | None: _int,
    bytes | None: _bytes,
    tuple[Content, ...]: _each(content_in),
    tuple[tuple[Inode, int], ...]: _pairs(_int),
    tuple[tuple[Path, int], ...]: _pairs(_str),
    tuple[Rename, ...]: _each(lambda value: _built(Rename, value)),
    tuple[Found, ...]: _each(lambda value: _built(Found, value)),
}
_FIELDS: Mapping[type[Any], Mapping[str, Callable[[Any], Any]]] = {
    cls: {name: _READERS[hint] for name, hint in get_type_hints(cls).items() if name != "code"}
    for cls in _CLASSES
    if cls is not Write
}


def _built(cls: type[Any], value: Any) -> Any:
    readers = _FIELDS[cls]
    if type(value) is not dict:
        raise ValueError(f"a record of {type(value).__name__}")
    return cls(**{name: readers[name](item) for name, item in value.items()})

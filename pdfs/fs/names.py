"""Names: bytes of a process, text in the tree; and which of them a record changes."""

from errno import EINVAL, ENAMETOOLONG
from typing import Final

from pdfs.core.ids import Inode
from pdfs.core.record import (
    Create,
    Found,
    Gone,
    Link,
    Record,
    Rename,
    Settled,
    Unlink,
)
from pdfs.fs.error import FsError

NAME_MAX: Final = 255
TARGET_MAX: Final = 4095
"""Of a symlink: PATH_MAX less the NUL."""


def text_of(raw: bytes) -> str:
    """As the tree keeps it: bytes that are not UTF-8 are lone surrogates."""
    return raw.decode("utf-8", "surrogateescape")


def raw_of(text: str) -> bytes:
    """As a process sees it: the inverse of `text_of`."""
    return text.encode("utf-8", "surrogateescape")


def name_of(raw: bytes) -> str:
    """A name to look for. Raises FsError where it is too long."""
    if len(raw) > NAME_MAX:
        raise FsError(ENAMETOOLONG)
    return text_of(raw)


def new_name_of(raw: bytes) -> str:
    """A name to give to something. Raises FsError where nothing can have it."""
    if raw in (b"", b".", b"..") or b"/" in raw or b"\0" in raw:
        raise FsError(EINVAL)
    return name_of(raw)


def target_of(raw: bytes) -> str:
    """What a new symlink points to."""
    if len(raw) > TARGET_MAX:
        raise FsError(ENAMETOOLONG)
    return text_of(raw)


def changed_names(record: Record) -> list[tuple[Inode, str]]:
    """(directory, name) of everything that stands for something else once `record` is applied."""
    match record:
        case Create() | Unlink() | Link() | Found():
            return [(record.parent, record.name)]
        case Rename():
            return [(record.parent, record.name), (record.new_parent, record.new_name)]
        case Gone():
            return [] if record.parent is None else [(record.parent, record.name)]
        case Settled():
            inner: tuple[Rename | Found, ...] = (*record.moves, *record.found)
            return [name for one in inner for name in changed_names(one)]
        case _:
            return []

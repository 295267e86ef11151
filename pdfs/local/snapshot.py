"""The bytes of a snapshot file, schema 2: any content, proved to be what was written.

    snapshot = "PDFSNAP" schema session size checksum content

7, 1, 16, 8, 8 and `size` bytes, integers little-endian; `checksum` is xxh3-64 of all the rest.
Every later schema keeps these 40 bytes, so that an older PDFS can refuse it in words.
"""

import os
import struct
from typing import Final, NamedTuple

import xxhash

from pdfs.core.ids import SessionId
from pdfs.disk import Disk, disk_error, opened, read_fully
from pdfs.errors import DamageFound, UsageError

SCHEMA: Final = 2
SNAPSHOT: Final = "snapshot"

_NEXT: Final = SNAPSHOT + ".__next-"
_MAGIC = b"PDFSNAP"
_HEAD = struct.Struct("<7sB16sQ")
_CHECKSUM = struct.Struct("<Q")
_CONTENT: Final = _HEAD.size + _CHECKSUM.size
HEAD_SIZE: Final = _CONTENT
"""Bytes before the content."""


class Head(NamedTuple):
    """What stands before the content; nothing of it is proved before the checksum is."""

    schema: int
    session: SessionId
    size: int
    """Of the content."""
    checksum: int
    checked: bytes
    """The part of the head that goes into the checksum, before the content."""


def next_snapshot(number: int) -> str:
    """The name of what the checkpoint of that number wrote, until it is committed."""
    return f"{_NEXT}{number}__"


def is_next_snapshot(name: str) -> bool:
    """Whether a checkpoint that was not committed, whichever it was, left this file."""
    return name.startswith(_NEXT)


def decode_head(raw: bytes, *, file: str) -> Head:
    """The head in the first `HEAD_SIZE` bytes of `file`. Raises DamageFound where there is none."""
    if len(raw) < HEAD_SIZE:
        raise _damaged(file, f"it has only {len(raw)} bytes")
    magic, schema, session, size = _HEAD.unpack_from(raw)
    if magic != _MAGIC:
        raise _damaged(file, "it is no snapshot, from byte 0 on")
    (checksum,) = _CHECKSUM.unpack_from(raw, _HEAD.size)
    return Head(schema, SessionId(session.hex()), size, checksum, raw[: _HEAD.size])


def encode_snapshot_head(session: SessionId, content: bytes) -> bytes:
    """What to write before `content`."""
    head = _HEAD.pack(_MAGIC, SCHEMA, bytes.fromhex(session), len(content))
    return head + _CHECKSUM.pack(_checksum(head, content))


def read_snapshot(
    disk: Disk, directory: int, session: SessionId, *, file: str = SNAPSHOT
) -> memoryview | None:
    """The content of the snapshot in `directory`; None where there is none. `file` is for people.

    Raises DamageFound for any other bytes, UsageError for another schema, DiskError.
    """
    try:
        with opened(disk, directory, SNAPSHOT) as descriptor:
            raw = read_fully(descriptor, os.fstat(descriptor).st_size, 0)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise disk_error(error, f"read {file}") from error
    return decode_snapshot(raw, session, file=file)


def decode_snapshot(raw: bytes, session: SessionId, *, file: str) -> memoryview:
    """The content of these bytes, the whole of `file`.

    Raises DamageFound where they are not what was written for this session, and UsageError for
    another schema.
    """
    content = memoryview(raw)[_CONTENT:]
    if len(raw) < _CONTENT:
        raise _damaged(file, f"it has only {len(raw)} bytes")
    magic, schema, owner, size = _HEAD.unpack_from(raw)
    if magic != _MAGIC or len(content) != size:
        raise _damaged(file, "it is cut short, or it is no snapshot")
    if _CHECKSUM.unpack_from(raw, _HEAD.size) != (_checksum(raw[: _HEAD.size], content),):
        raise _damaged(file, "its checksum is wrong")
    if schema != SCHEMA:
        raise UsageError(
            f"the snapshot {file} has schema {schema}, this PDFS reads {SCHEMA}",
            remedy="use the PDFS that wrote it, or a newer one; nothing was changed",
        )
    if owner != bytes.fromhex(session):
        raise _damaged(file, f"it belongs to session {owner.hex()}")
    return content


def _checksum(head: bytes, content: bytes | memoryview) -> int:
    hasher = xxhash.xxh3_64(head)
    hasher.update(content)
    return hasher.intdigest()


def _damaged(file: str, why: str) -> DamageFound:
    return DamageFound(
        f"the snapshot {file} is damaged: {why}",
        remedy="leave the session's directory as it is and bring that file back from a backup; pdfs"
        " journal dump shows what the others hold, pdfs recover discard puts all into the trash",
    )

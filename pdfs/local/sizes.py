"""How large the files of a journal are, and how much of them may be dead: one frozen value."""

import os
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalSizes:
    """Bytes, where nothing else is said."""

    segment: int = 64 << 20
    """Allocated for a segment when it is made; it takes no more once the next one is ready.

    Zero-filling it takes a thread 0.1 s, and a write rate of 700 MB/s fills it in that time.
    """
    growth: int = 4 << 20
    """Allocated at once for a segment that is full while the next one is not ready."""
    reserve: int = 8 << 20
    """Allocated, and left by writes to what makes room or ends the session.

    Deletes and renames leave half of it to the records of a publish.
    """
    garbage: int = 256 << 20
    """A checkpoint is due when so many bytes of the journal are dead, and more than live ones.

    What is written while it is made comes on top.
    """
    records: int = 300_000
    """Likewise when so many records would have to be replayed: about 5 s."""
    often: int = 64
    """So many syncs while one segment filled: the next is filled with zeros, too."""


ALONE: Final = JournalSizes(segment=0, growth=0, reserve=0)
"""Nothing is allocated, and a segment ends only where its owner says so."""


def free_bytes(directory: int) -> int:
    """What this user can still write to the file system of an open directory."""
    room = os.fstatvfs(directory)
    return room.f_bavail * room.f_frsize


def sizes_for(free: int) -> JournalSizes:
    """The sizes for a disk with so many bytes free: two segments take an eighth of it at most."""
    usual = JournalSizes()
    segment = max(1 << 20, min(usual.segment, free // 16))
    return JournalSizes(
        segment=segment,
        growth=segment // 16,
        reserve=segment // 8,
        garbage=4 * segment,
    )

"""The names of things: what must not be mistaken for one another has a type of its own."""

import re
from typing import NewType

SessionId = NewType("SessionId", str)
"""UUID4 in hex: one exclusive editing of a stage, from lock to release, through resumes."""

RunId = NewType("RunId", str)
"""UUID4 in hex: one process that carries a session."""

PublishId = NewType("PublishId", str)
"""`{fence:012}-{uuid}`: one publish, from its `publishing` record to its settle. Its plan and the
tree that it commits are objects of this name."""

Fence = NewType("Fence", int)
"""Raised by each Start; the root carries the newest."""

Sequence = NewType("Sequence", int)
"""Position of a record in a session's journal, from 1."""

Inode = NewType("Inode", int)
"""(fence << 32) + a counter: never used twice in a stage. The stage's top directory is 1."""

ObjectName = NewType("ObjectName", str)
"""`{fence:012}-{uuid}`: an internal object's name below its folder, without suffix."""

Path = NewType("Path", str)
"""Stage-relative, `/`-separated, no `/` at either end; `""` is the stage's top directory.

Bytes that are not UTF-8 are carried as lone surrogates (`os.fsdecode`)."""

TOP = Inode(1)

MOST_FENCE = (1 << 31) - 2
"""A document with a greater fence is damaged: the next one still numbers inodes below 2^63."""


_OBJECT_NAME = re.compile(r"[0-9]{12}-[0-9a-z]{1,64}")


def is_object_name(text: str) -> bool:
    """Whether `text` can name an internal object: no other may become part of a key."""
    return _OBJECT_NAME.fullmatch(text) is not None


def first_inode(fence: Fence) -> Inode:
    """The lowest inode number that the process of this fence may give."""
    return Inode(fence << 32)


def object_name(fence: Fence, unique: str) -> ObjectName:
    """Name of an immutable internal object, unique for ever and sorted by fence."""
    return ObjectName(f"{fence:012d}-{unique}")


def publish_name(publish: PublishId) -> ObjectName:
    """The name of the plan of a publish, and of the tree that it commits."""
    return ObjectName(publish)


def fence_of(name: ObjectName) -> Fence:
    """The fence under which an internal object was written."""
    return Fence(int(name[:12]))

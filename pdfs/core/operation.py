"""The operations of programs among the records of a journal, in words for people."""

from dataclasses import dataclass

from pdfs.core.ids import TOP, Inode, Path
from pdfs.core.keys import join
from pdfs.core.record import (
    Create,
    Link,
    Record,
    Rename,
    SetAttributes,
    SetXattr,
    Unlink,
    Write,
)
from pdfs.core.tree import Tree

_WORDS: dict[type[Record], str] = {
    Create: "made",
    Write: "written",
    SetAttributes: "size, mode or times set",
    Rename: "renamed",
    Link: "linked",
    Unlink: "removed",
    SetXattr: "attribute set",
}
CODES = frozenset(kind.code for kind in _WORDS)
"""The codes of records that programs made."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What a program did last."""

    what: str
    path: Path
    """As it is called now; empty where it has no name any more."""
    time: float
    """Seconds since 1970."""


def operation_of(record: Record, tree: Tree) -> Operation:
    """`record`, whose code is among `CODES`, in the tree that it led to."""
    match record:
        case Create(parent=parent, name=name) | Unlink(parent=parent, name=name):
            path = _below(tree, parent, name)
        case Link(parent=parent, name=name) | Rename(new_parent=parent, new_name=name):
            path = _below(tree, parent, name)
        case Write(ino=ino) | SetAttributes(ino=ino) | SetXattr(ino=ino):
            path = _path_of(tree, ino)
        case _:
            raise ValueError(record)
    return Operation(_WORDS[type(record)], path, record.time / 1e9)


def _below(tree: Tree, parent: Inode, name: str) -> Path:
    return join(_path_of(tree, parent), name)


def _path_of(tree: Tree, ino: Inode) -> Path:
    if ino == TOP:
        return Path("")
    return next((path for path, node in tree.walk() if node.ino == ino), Path(""))

"""Requests that change names or attributes, as records: all that POSIX asks is checked here.

Each function looks at the tree, raises FsError or returns the record, and changes nothing; what it
returns can be applied to that very tree. Whether the caller has the right to it, sticky
directories included, the kernel has decided before (`default_permissions`); what Linux leaves to
each file system is here: who owns what is new, and what a chown or a truncation takes from a mode.
"""

import stat
from dataclasses import dataclass
from errno import (
    EEXIST,
    EFBIG,
    EINVAL,
    EISDIR,
    ENOENT,
    ENOTDIR,
    ENOTEMPTY,
    EPERM,
    ESTALE,
)
from typing import Final, Protocol

from pdfs.core.ids import TOP, Inode
from pdfs.core.node import PERMISSIONS, Node
from pdfs.core.record import Create, Kind, Link, Rename, SetAttributes, Unlink
from pdfs.core.tree import Tree
from pdfs.fs.error import FsError
from pdfs.fs.names import name_of, new_name_of, target_of

RENAME_NOREPLACE: Final = 1
RENAME_EXCHANGE: Final = 2


class Caller(Protocol):
    """The process that makes a request."""

    @property
    def uid(self) -> int: ...
    @property
    def gid(self) -> int: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Attributes to set; None = as they are."""

    mode: int | None = None
    """Only the permission bits count."""
    uid: int | None = None
    gid: int | None = None
    size: int | None = None
    atime: int | None = None
    mtime: int | None = None


# --- looking ------------------------------------------------------------------------------------


def node_of(tree: Tree, ino: Inode) -> Node:
    """The node of a number that the kernel was given."""
    node = tree.nodes.get(ino)
    if node is None:
        raise FsError(ESTALE)
    return node


def directory_of(tree: Tree, ino: Inode) -> Node:
    """The directory of that number, which may have been removed while it is in use."""
    node = node_of(tree, ino)
    if not node.is_directory:
        raise FsError(ENOTDIR)
    return node


def entry_of(tree: Tree, parent: Inode, raw: bytes) -> tuple[str, Node]:
    """A name that is there, and its node."""
    directory, name = directory_of(tree, parent), name_of(raw)
    node = tree.child(directory.ino, name)
    if node is None:
        raise FsError(ENOENT)
    return name, node


def _vacancy(tree: Tree, parent: Inode, raw: bytes) -> tuple[Node, str]:
    """A directory that can take new names, and one that is free in it."""
    directory, name = directory_of(tree, parent), new_name_of(raw)
    if name in directory.entries:
        raise FsError(EEXIST)
    _check_alive(tree, directory)
    return directory, name


def _check_alive(tree: Tree, directory: Node) -> None:
    if directory.ino in tree.orphans:
        raise FsError(ENOENT)


# --- new names ----------------------------------------------------------------------------------


def plan_create(
    tree: Tree,
    parent: Inode,
    raw: bytes,
    caller: Caller,
    *,
    ino: Inode,
    kind: Kind,
    mode: int,
    time: int,
    rdev: int = 0,
    target: bytes = b"",
) -> Create:
    """A new node. In a setgid directory it gets the group of that, and directories the bit too."""
    directory, name = _vacancy(tree, parent, raw)
    mode, gid = mode & PERMISSIONS, caller.gid
    if directory.mode & stat.S_ISGID:
        gid = directory.gid
        mode |= stat.S_ISGID if kind is Kind.DIRECTORY else 0
    return Create(
        parent=directory.ino,
        name=name,
        ino=ino,
        kind=kind,
        mode=mode,
        uid=caller.uid,
        gid=gid,
        time=time,
        rdev=rdev if kind in (Kind.CHARACTER, Kind.BLOCK) else 0,
        target=target_of(target),
    )


def plan_link(tree: Tree, ino: Inode, parent: Inode, raw: bytes, *, time: int) -> Link:
    """One more name. A node that has lost its last one does not get a new one, as on Linux."""
    node = node_of(tree, ino)
    directory, name = _vacancy(tree, parent, raw)
    if node.is_directory:
        raise FsError(EPERM)
    if node.ino in tree.orphans:
        raise FsError(ENOENT)
    return Link(ino=node.ino, parent=directory.ino, name=name, time=time)


# --- names that go or move ----------------------------------------------------------------------


def plan_unlink(tree: Tree, parent: Inode, raw: bytes, *, time: int) -> Unlink:
    """Take a name from what is not a directory."""
    name, node = entry_of(tree, parent, raw)
    if node.is_directory:
        raise FsError(EISDIR)
    return Unlink(parent=parent, name=name, time=time)


def plan_rmdir(tree: Tree, parent: Inode, raw: bytes, *, time: int) -> Unlink:
    """Remove an empty directory."""
    name, node = entry_of(tree, parent, raw)
    if not node.is_directory:
        raise FsError(ENOTDIR)
    if node.entries:
        raise FsError(ENOTEMPTY)
    return Unlink(parent=parent, name=name, time=time)


def plan_rename(
    tree: Tree,
    parent: Inode,
    raw: bytes,
    new_parent: Inode,
    new_raw: bytes,
    flags: int,
    *,
    time: int,
) -> Rename | None:
    """Move a name; None where both are names of one node, and nothing is to be done."""
    if flags not in (0, RENAME_NOREPLACE, RENAME_EXCHANGE):
        raise FsError(EINVAL)
    source, target = directory_of(tree, parent), directory_of(tree, new_parent)
    name, moved = entry_of(tree, parent, raw)
    new_name = new_name_of(new_raw)
    _check_alive(tree, target)
    replaced = tree.child(target.ino, new_name)
    is_exchange = flags == RENAME_EXCHANGE
    if flags == RENAME_NOREPLACE and replaced is not None:
        raise FsError(EEXIST)
    if is_exchange and replaced is None:
        raise FsError(ENOENT)
    if replaced is moved:
        return None
    _check_no_loop(tree, moved, target)
    if is_exchange and replaced is not None:
        _check_no_loop(tree, replaced, source)
    elif replaced is not None:
        _check_replaceable(moved, replaced)
    return Rename(
        parent=source.ino,
        name=name,
        new_parent=target.ino,
        new_name=new_name,
        time=time,
        exchange=is_exchange,
    )


def _check_no_loop(tree: Tree, moved: Node, target: Node) -> None:
    above = target
    while moved.is_directory and above.ino != TOP:
        if above is moved:
            raise FsError(EINVAL)
        above = tree.nodes[above.parent]


def _check_replaceable(moved: Node, replaced: Node) -> None:
    if moved.is_directory and not replaced.is_directory:
        raise FsError(ENOTDIR)
    if replaced.is_directory and not moved.is_directory:
        raise FsError(EISDIR)
    if replaced.entries:
        raise FsError(ENOTEMPTY)


# --- attributes ---------------------------------------------------------------------------------


def plan_change(node: Node, change: Change, *, time: int, largest: int) -> SetAttributes | None:
    """Set attributes; None where there is nothing to set.

    A chown takes setuid and setgid from what is not a directory, unless the same request sets the
    mode. (The kernel does it by a mode of its own; whoever calls this without one may rely on it.)
    A new size is a change of content: it sets mtime, unless the request does.
    """
    if change == Change():
        return None
    mode, mtime = change.mode, change.mtime
    if change.size is not None:
        _check_size(node, change.size, largest)
        mtime = time if mtime is None else mtime
    is_chown = change.uid is not None or change.gid is not None
    if mode is None and is_chown and not node.is_directory:
        mode = unprivileged(node.mode)
    return SetAttributes(
        ino=node.ino,
        time=time,
        mode=None if mode is None else mode & PERMISSIONS,
        uid=change.uid,
        gid=change.gid,
        size=change.size,
        atime=change.atime,
        mtime=mtime,
    )


def plan_truncate(node: Node, caller: Caller, *, time: int) -> SetAttributes:
    """What O_TRUNC does, which takes setuid and setgid unless root asks for it."""
    mode = unprivileged(node.mode) if caller.uid else None
    return SetAttributes(ino=node.ino, time=time, mode=mode, size=0, mtime=time)


def unprivileged(mode: int) -> int | None:
    """The mode without setuid, and without setgid where the group may execute; None if it is so.

    Setgid without execution by the group marks mandatory locking, and stays.
    """
    kept = mode & ~stat.S_ISUID
    if mode & stat.S_IXGRP:
        kept &= ~stat.S_ISGID
    return None if kept == mode else kept


def _check_size(node: Node, size: int, largest: int) -> None:
    if node.is_directory:
        raise FsError(EISDIR)
    if not node.is_file or size < 0:
        raise FsError(EINVAL)
    if size > max(largest, node.size):
        raise FsError(EFBIG)

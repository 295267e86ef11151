"""Extended attributes: which can be kept, and how much of them.

Only `user.*` is kept. `system.posix_acl_*` accepted without being enforced would show a mode that
is not the one in force; `security.*` and `trusted.*` (labels, capabilities) are statements of one
machine's administrator, which must not travel through a bucket to other machines. All of them are
EOPNOTSUPP, which the tools that copy attributes take for “not on this file system”.
"""

from errno import E2BIG, ENODATA, ENOSPC, EOPNOTSUPP, ERANGE
from typing import Final

from pdfs.core.node import Node
from pdfs.core.record import SetXattr
from pdfs.fs.error import FsError
from pdfs.fs.names import raw_of, text_of

NAME_LIMIT: Final = 255
VALUE_LIMIT: Final = 64 << 10
"""XATTR_SIZE_MAX of Linux."""
LIST_LIMIT: Final = 64 << 10
"""XATTR_LIST_MAX: names of one node in all, each with its NUL; beyond it no list could be read."""
ROOM: Final = 1 << 20
"""Names and values of one node in all: they stand in every manifest."""

_KEPT: Final = b"user."


def attribute(node: Node, raw: bytes) -> bytes:
    """Its value. Raises FsError where there is none of that name."""
    try:
        return node.xattrs[_name(raw)]
    except KeyError:
        raise FsError(ENODATA) from None


def plan_set(node: Node, raw: bytes, value: bytes, time: int) -> SetXattr:
    """The record that sets it. Raises FsError where it can't be kept."""
    name = _name(raw)
    if len(raw) > NAME_LIMIT:
        raise FsError(ERANGE)
    if len(value) > VALUE_LIMIT:
        raise FsError(E2BIG)
    others = {raw_of(other): kept for other, kept in node.xattrs.items() if other != name}
    names = sum(len(other) + 1 for other in (*others, raw))
    if names > LIST_LIMIT or names + sum(map(len, (*others.values(), value))) > ROOM:
        raise FsError(ENOSPC)
    return SetXattr(ino=node.ino, name=name, value=value, time=time)


def plan_remove(node: Node, raw: bytes, time: int) -> SetXattr:
    """The record that removes it. Raises FsError where there is none of that name."""
    attribute(node, raw)
    return SetXattr(ino=node.ino, name=_name(raw), value=None, time=time)


def _name(raw: bytes) -> str:
    if not raw.startswith(_KEPT) or raw == _KEPT:
        raise FsError(EOPNOTSUPP)
    return text_of(raw)

"""What must go up from the requests: the one channel, which `mount` passes down."""

from collections.abc import Callable
from dataclasses import dataclass

from pdfs.core.ids import Inode
from pdfs.core.node import Node
from pdfs.errors import PdfsError


def _unheard(*_: object) -> None:
    pass


def _at_once(call: Callable[[], None]) -> None:
    call()


@dataclass(slots=True, kw_only=True)
class Upward:
    """Calls that are made from within a request: none may wait, raise, or touch the mount."""

    invalidate: Callable[[Inode, bytes], None] = _unheard
    """What a name of a directory stands for was changed by no process; the kernel must forget it.

    The one who hears it tells the kernel outside of any request."""
    changed: Callable[[Inode], None] = _unheard
    """A node has other attributes, by no process; the kernel must forget those that it has."""
    when_told: Callable[[Callable[[], None]], None] = _at_once
    """Call it once the kernel has been told all that went up before."""
    first_write: Callable[[Node], None] = _unheard
    """A clean file that has bytes of its base is about to be changed: fetch the rest of them.

    Called again after each publish, and maybe more often; only the first call may cost."""
    failed: Callable[[PdfsError], None] = _unheard
    """The journal takes nothing any more, and the mount is read-only from here on. Called once."""

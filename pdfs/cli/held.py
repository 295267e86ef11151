"""Why a session that a process of this machine has can't be had now."""

import shlex

from pdfs.cli.control import is_served
from pdfs.cli.sessions import LocalSession
from pdfs.config import Configuration
from pdfs.errors import LockError

IN_HAND = (
    "in the hands of another process of this machine, which recovers it, copies it out or discards"
    " it, or hangs"
)
"""What is said of a session that is held, though no daemon of it listens."""


def held_error(configuration: Configuration, found: LocalSession) -> LockError:
    """The error for it: it is mounted, is being published, or is no daemon's."""
    name = f"{found.name} (session {found.short})"
    if not is_served(configuration.runtime, found.session):
        return LockError(
            f"{name} is {IN_HAND}", remedy="wait until that is over, and try again: pdfs status"
        )
    if not found.mountpoint:
        return LockError(
            f"{name} is being published by another process",
            remedy="pdfs status shows how far it is",
        )
    return LockError(
        f"{name} is mounted at {found.mountpoint}",
        remedy=shlex.join(["pdfs", "umount", found.mountpoint]),
    )

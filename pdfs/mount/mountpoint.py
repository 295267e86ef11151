"""A mountpoint that is there only as long as the mount: made for it, and removed with it.

What programs save there later then fails where they see it, and does not land in a directory that
the next mount would hide. A directory that was there before stays as it was.
"""

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pdfs.disk import Disk, opened_directory
from pdfs.errors import MountError

logger = logging.getLogger(__name__)


@contextmanager
def made_for_mount(
    disk: Disk, path: str, *, is_ours: bool, note_made: Callable[[], None]
) -> Iterator[None]:
    """`path` is a directory while the body runs; it goes afterwards if PDFS made it.

    `is_ours`: an earlier run of the session did, and could not remove it. `note_made` is called
    once it is made. Raises MountError where it can't be.
    """
    try:
        if _make(disk, path):
            is_ours = True
            note_made()
        yield
    finally:
        if is_ours:
            remove_mountpoint(disk, path)


def remove_mountpoint(disk: Disk, path: str) -> None:
    """Remove a directory that was made for a mount, if nothing is in it; never raises OSError."""
    parent, name = os.path.split(path)
    try:
        with opened_directory(disk, None, parent) as above:
            disk.rmdir(above, name)
    except OSError as error:
        logger.warning("the mountpoint %s, made for the mount, stays: %s", path, error)


def _make(disk: Disk, path: str) -> bool:
    """Whether there was none. One that is there needs no right to read what is above it."""
    if os.path.lexists(path):
        return False
    parent, name = os.path.split(path)
    try:
        with opened_directory(disk, None, parent) as above:
            disk.mkdir(above, name)
    except FileExistsError:
        return False
    except OSError as error:
        raise MountError(
            f"the mountpoint {path} can't be made: {error.strerror}",
            remedy="name an empty directory of your own",
        ) from error
    return True

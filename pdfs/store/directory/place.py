"""Where the objects of a directory bucket are: from keys to open files, never through a symlink.

A *place* is the components of a key as file names. Every component is opened relative to the one
above it, so a symlink or a mount that another tool slips in redirects nothing.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pdfs.disk import Disk, opened
from pdfs.errors import ObjectNotFound, UsageError
from pdfs.store.request import check_key

HIDDEN = ".pdfs-bucket"
COMPONENT_LIMIT = 255

Place = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bucket:
    """The top directory, open."""

    disk: Disk
    root: int
    name: str
    """Its path, for people."""
    mode: int
    """Permission bits of the top directory: nothing below it is more open than these."""
    max_key_bytes: int

    @property
    def file_mode(self) -> int:
        return self.mode & 0o666


def place_of(key: str, max_bytes: int) -> Place:
    """The place of an object; raises UsageError for a key that no file of the bucket can have."""
    check_key(key, max_bytes)
    components = key.split("/")
    for component in components:
        fault = _fault(component)
        if fault is not None:
            raise UsageError(f"a directory can't hold the key {key!r}: {fault}")
    if components[0] == HIDDEN:
        raise UsageError(f"the key {key!r} is below {HIDDEN}, which is the bucket's own")
    return tuple(_file_name(component) for component in components)


def _fault(component: str) -> str | None:
    if component in ("", ".", ".."):
        return f"it has {component!r} between slashes"
    if len(component.encode()) > COMPONENT_LIMIT:
        return f"a part of it has more than {COMPONENT_LIMIT} bytes"
    return None


def _file_name(component: str) -> str:
    """As Python hands it to the system: file names are UTF-8 here, whatever the locale says."""
    return os.fsdecode(component.encode())


def component_of(name: str) -> str | None:
    """The inverse; None for a file name that is not UTF-8 and so is in no key."""
    try:
        return os.fsencode(name).decode()
    except UnicodeDecodeError:
        return None


@contextlib.contextmanager
def directory_of(bucket: Bucket, place: Sequence[str]) -> Iterator[int]:
    """A descriptor of the directory at `place`, the top one for ().

    Raises FileNotFoundError, or NotADirectoryError where a component is a file or a symlink.
    """
    with contextlib.ExitStack() as held:
        directory = bucket.root
        for component in place:
            directory = held.enter_context(directory_in(bucket.disk, directory, component))
        yield directory


@contextlib.contextmanager
def directory_in(disk: Disk, directory: int, name: str) -> Iterator[int]:
    """A descriptor of one subdirectory; errors as above."""
    try:
        descriptor = disk.open_directory(name, directory)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise NotADirectoryError(name) from None
        raise
    try:
        yield descriptor
    finally:
        disk.close(descriptor)


def status_of(directory: int, name: str) -> os.stat_result | None:
    """lstat(2) of `name`, None where there is nothing."""
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def object_at(bucket: Bucket, key: str) -> Iterator[int]:
    """A descriptor to read the object. Raises ObjectNotFound where there is no regular file."""
    place = place_of(key, bucket.max_key_bytes)
    with contextlib.ExitStack() as held:
        try:
            directory = held.enter_context(directory_of(bucket, place[:-1]))
            descriptor = held.enter_context(regular_file(bucket.disk, directory, place[-1]))
        except (FileNotFoundError, NotADirectoryError):
            raise ObjectNotFound(key) from None
        yield descriptor


@contextlib.contextmanager
def regular_file(disk: Disk, directory: int, name: str) -> Iterator[int]:
    """A descriptor of a regular file; what is of any other kind is FileNotFoundError.

    The kind is looked at first because opening a device can do something, and opened non-blocking
    because a fifo may have come in between.
    """
    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if not stat.S_ISREG(status.st_mode):
        raise FileNotFoundError(name)
    with opened(disk, directory, name, os.O_RDONLY | os.O_NONBLOCK) as descriptor:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise FileNotFoundError(name)
        yield descriptor

"""Putting a file in an object's place, and taking it out, under a condition.

All of it runs under the bucket's lock, so PDFS processes see one change after the other. Another
tool may still come between our look at a name and our rename. So a replacement is an exchange and a
removal is a move: what really was there ends under the hidden name, is looked at, and goes only if
it is what was expected. Else it is moved back and nothing was changed. Where the other tool has
meanwhile filled the name again, its newest file keeps the name and what we displaced stays under
the hidden one, with a warning.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, replace

from cachetools import LRUCache

from pdfs.core.content import ETag
from pdfs.errors import KeyClash, ObjectNotFound, PreconditionFailed
from pdfs.store.directory.hidden import Hidden, NewFile, fresh_name, is_named
from pdfs.store.directory.place import (
    HIDDEN,
    Bucket,
    Place,
    directory_in,
    directory_of,
    place_of,
    regular_file,
    status_of,
)
from pdfs.store.directory.version import TICK, Version, Versions, identity_of
from pdfs.store.objects import Condition, IfMatch

log = logging.getLogger(__name__)

_EXCHANGES = 10
_LEVELS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """The name that is to change: its directory is open."""

    key: str
    directory: int
    name: str


class Swap:
    """Changes names in one bucket."""

    def __init__(self, bucket: Bucket, hidden: Hidden, versions: Versions) -> None:
        self._bucket = bucket
        self._disk = bucket.disk
        self._hidden = hidden
        self._versions = versions
        self._synced: LRUCache[Place, bool] = LRUCache(10_000)
        """Directories whose own names have been synced by this process."""

    def put(self, key: str, new: NewFile, condition: Condition | None) -> None:
        """Make `new`, written and synced, the object `key`. The caller holds the bucket's lock.

        Raises PreconditionFailed, KeyClash: nothing was changed. An OSError leaves that open.
        """
        if isinstance(condition, IfMatch):
            try:
                with self._parent(key) as target:
                    self._put_instead(target, new, condition.etag)
            except ObjectNotFound:
                raise PreconditionFailed(key) from None
            return
        with self._parent_for_put(key) as target:
            if condition is None:
                self._put_any(target, new)
            else:
                self._put_absent(target, new)
            self._sync(target, new)

    def delete(self, key: str, condition: IfMatch | None) -> None:
        """Remove the object. The caller holds the bucket's lock.

        Raises ObjectNotFound, also without a condition, and PreconditionFailed.
        """
        with self._parent(key) as target:
            try:
                if condition is None:
                    self._unlink(target)
                else:
                    self._take_out(target, condition.etag)
            except FileNotFoundError:
                raise ObjectNotFound(key) from None
        self._prune(self._place(key))

    # Puts

    def _put_any(self, target: Target, new: NewFile) -> None:
        found = status_of(target.directory, target.name)
        if found is not None and not stat.S_ISREG(found.st_mode):
            self._clear(target)
        self._disk.rename(new.directory, new.name, target.directory, target.name)

    def _put_absent(self, target: Target, new: NewFile) -> None:
        while True:
            try:
                self._disk.rename_noreplace(new.directory, new.name, target.directory, target.name)
            except FileExistsError:
                self._clear(target)
            else:
                return

    def _clear(self, target: Target) -> None:
        """Remove directories without a file in them, so that a file can take the name."""
        found = status_of(target.directory, target.name)
        if found is None:
            return
        if stat.S_ISREG(found.st_mode):
            raise PreconditionFailed(target.key)
        if not stat.S_ISDIR(found.st_mode) or not self._remove_empty(target.directory, target.name):
            raise KeyClash(target.key)

    def _put_instead(self, target: Target, new: NewFile, etag: ETag) -> None:
        try:
            expected = self._expect(target, etag)
            self._disk.rename_exchange(new.directory, new.name, target.directory, target.name)
        except FileNotFoundError:
            raise PreconditionFailed(target.key) from None
        if not self._is_expected(new.directory, new.name, expected, target.key):
            self._exchange_back(target, new)
            raise PreconditionFailed(target.key)
        self._sync(target, new)
        self._disk.unlink(new.directory, new.name)

    def _sync(self, target: Target, new: NewFile) -> None:
        """A rename is sure to survive a power cut after fsync of both its directories."""
        self._disk.fsync(target.directory)
        self._disk.fsync(new.directory)

    def _exchange_back(self, target: Target, new: NewFile) -> None:
        """Undo an exchange: the newest file of another tool gets the name again."""
        last_put = os.fstat(new.descriptor)
        for _ in range(_EXCHANGES):
            under_hidden = os.stat(new.name, dir_fd=new.directory, follow_symlinks=False)
            try:
                self._disk.rename_exchange(new.directory, new.name, target.directory, target.name)
            except FileNotFoundError:  # removed by the other tool: so it is, as far as it knows
                break
            came_out = os.stat(new.name, dir_fd=new.directory, follow_symlinks=False)
            if os.path.samestat(came_out, last_put):
                break
            last_put = under_hidden
        self._disk.fsync(target.directory)
        if not is_named(new.descriptor, new.directory, new.name):
            self._warn_left(target, new.name)

    # Deletes

    def _unlink(self, target: Target) -> None:
        with regular_file(self._disk, target.directory, target.name):
            self._disk.unlink(target.directory, target.name)
        self._disk.fsync(target.directory)

    def _take_out(self, target: Target, etag: ETag) -> None:
        expected = self._expect(target, etag)
        with self._hidden.new_directory() as directory:
            name = fresh_name()
            self._disk.rename_noreplace(target.directory, target.name, directory, name)
            if not self._is_expected(directory, name, expected, target.key):
                self._move_back(target, directory, name)
                raise PreconditionFailed(target.key)
            self._disk.fsync(target.directory)
            self._disk.unlink(directory, name)

    def _move_back(self, target: Target, directory: int, name: str) -> None:
        try:
            self._disk.rename_noreplace(directory, name, target.directory, target.name)
        except FileExistsError:
            self._warn_left(target, name)

    def _prune(self, place: Place) -> None:
        """Remove the directories above that hold nothing any more: a key has none of its own."""
        for depth in range(len(place) - 1, 0, -1):
            self._synced.pop(place[:depth], None)
            try:
                with directory_of(self._bucket, place[: depth - 1]) as directory:
                    self._disk.rmdir(directory, place[depth - 1])
            except OSError:
                return

    # Looking

    def _expect(self, target: Target, etag: ETag) -> Version:
        """The file that the name leads to, if it holds the version that the condition names.

        Raises FileNotFoundError, PreconditionFailed.
        """
        with regular_file(self._disk, target.directory, target.name) as descriptor:
            version = self._versions.look(target.key, descriptor, self._hidden.now())
        if version.etag != etag:
            raise PreconditionFailed(target.key)
        return version

    def _is_expected(self, directory: int, name: str, expected: Version, key: str) -> bool:
        """Whether the displaced file is the one looked at, and was not written to since.

        Its ctime moved with the rename. Its mtime tells, unless it was written within one tick of
        the clock before the look: then its bytes tell.
        """
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        identity = identity_of(status)
        if replace(identity, ctime_ns=expected.identity.ctime_ns) != expected.identity:
            return False
        now = self._hidden.now()
        if expected.last_modified < now - TICK:
            return True
        with regular_file(self._disk, directory, name) as descriptor:
            return self._versions.look(key, descriptor, now).etag == expected.etag

    # Directories

    @contextlib.contextmanager
    def _parent_for_put(self, key: str) -> Iterator[Target]:
        """The directory of a new object, made and synced where it is missing."""
        place = self._place(key)
        with contextlib.ExitStack() as held:
            directory = self._bucket.root
            for depth, component in enumerate(place[:-1], start=1):
                self._make(directory, component, place[:depth])
                try:
                    below = directory_in(self._disk, directory, component)
                    directory = held.enter_context(below)
                except NotADirectoryError:
                    raise KeyClash(key) from None
            yield Target(key=key, directory=directory, name=place[-1])

    def _make(self, directory: int, component: str, place: Place) -> None:
        """Make sure the subdirectory exists and that its name survives a power cut.

        One that exists may have been made by a process that was killed before it synced: so the
        first use here syncs in any case.
        """
        with contextlib.suppress(FileExistsError):
            self._disk.mkdir(directory, component, self._bucket.mode)
            self._synced.pop(place, None)
        if place not in self._synced:
            self._disk.fsync(directory)
            self._synced[place] = True

    @contextlib.contextmanager
    def _parent(self, key: str) -> Iterator[Target]:
        """The directory of an object that should exist. Raises ObjectNotFound."""
        place = self._place(key)
        with contextlib.ExitStack() as held:
            try:
                directory = held.enter_context(directory_of(self._bucket, place[:-1]))
            except (FileNotFoundError, NotADirectoryError):
                raise ObjectNotFound(key) from None
            yield Target(key=key, directory=directory, name=place[-1])

    def _remove_empty(self, directory: int, name: str, levels: int = _LEVELS) -> bool:
        """Remove a directory if nothing but directories is below it; False = something is."""
        try:
            with directory_in(self._disk, directory, name) as below, os.scandir(below) as entries:
                for entry in entries:
                    is_directory = entry.is_dir(follow_symlinks=False)
                    if not (levels and is_directory):
                        return False
                    if not self._remove_empty(below, entry.name, levels - 1):
                        return False
            self._disk.rmdir(directory, name)
        except OSError as error:
            return error.errno == errno.ENOENT
        return True

    def _place(self, key: str) -> Place:
        return place_of(key, self._bucket.max_key_bytes)

    def _warn_left(self, target: Target, name: str) -> None:
        log.warning(
            "another program changed %r while it was replaced; what it had before is kept as %s",
            target.key,
            f"{self._bucket.name}/{HIDDEN}/new/{name}",
        )

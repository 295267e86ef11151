"""The hidden directory of a directory bucket: who may change it now, its clock, files on their way.

Every file in `new/` is flocked by the process that made it for as long as that lives. One that
nobody holds is left over from a crash: an upload that was not finished, or, if the crash came
between a replacement and the look at what it displaced, another tool's bytes. So it is reported
and never removed.
"""

import contextlib
import logging
import os
import stat
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from pdfs.disk import lock_file, opened
from pdfs.errors import StoreUnavailable
from pdfs.store.directory.place import HIDDEN, Bucket, status_of

log = logging.getLogger(__name__)

_POLL = 0.005
_UNLOCKED = "."
"""Begins the name of a file that is just being made: empty, and its lock not taken yet."""


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file in `new/` that this process is writing, or whose name it uses to displace another."""

    directory: int
    name: str
    descriptor: int


class Hidden:
    """The hidden directory, made when the first change needs it."""

    def __init__(self, bucket: Bucket, *, lock_wait: float) -> None:
        self._bucket = bucket
        self._lock_wait = lock_wait
        self._threads = threading.Lock()
        self._has_looked = False

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """For the length of the block, no other thread or process of PDFS changes the bucket.

        Raises StoreUnavailable when the lock did not come free in time: then nothing was done.
        """
        deadline = time.monotonic() + self._lock_wait
        if not self._threads.acquire(timeout=self._lock_wait):
            raise self._busy()
        try:
            with self._locked(deadline):
                yield
        finally:
            self._threads.release()

    @contextlib.contextmanager
    def _locked(self, deadline: float) -> Iterator[None]:
        disk = self._bucket.disk
        while True:
            with (
                self._directory() as hidden,
                opened(disk, hidden, "lock", os.O_RDWR | os.O_CREAT) as descriptor,
            ):
                if lock_file(descriptor) and is_named(descriptor, hidden, "lock"):
                    yield
                    return
            if time.monotonic() > deadline:
                raise self._busy()
            time.sleep(_POLL)

    def _busy(self) -> StoreUnavailable:
        return StoreUnavailable(
            f"another PDFS process has kept {self._bucket.name} locked for {self._lock_wait:g} s",
            remedy=f"fuser {self._bucket.name}/{HIDDEN}/lock shows it",
            sent=False,
        )

    def now(self) -> float:
        """The time by the clock that stamps the files of this bucket."""
        try:
            with (
                self._directory() as hidden,
                opened(self._bucket.disk, hidden, "clock", os.O_RDWR | os.O_CREAT) as descriptor,
            ):
                self._bucket.disk.utime(descriptor)
                return os.fstat(descriptor).st_mtime
        except OSError:  # read-only for us: this machine's clock must do, and nothing rests on it
            return time.time()

    @contextlib.contextmanager
    def new_file(self) -> Iterator[NewFile]:
        """An empty file in `new/`, held by us; removed at the end if it still has this name.

        What else may then stand under the name is somebody's bytes, and stays.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL
        with self.new_directory() as directory:
            name = fresh_name()
            disk, unlocked = self._bucket.disk, _UNLOCKED + name
            descriptor = disk.open(directory, unlocked, flags, self._bucket.file_mode)
            try:
                lock_file(descriptor)
                disk.rename(directory, unlocked, directory, name)
                yield NewFile(directory, name, descriptor)
            finally:
                for ours in (unlocked, name):
                    if is_named(descriptor, directory, ours):
                        disk.unlink(directory, ours)
                disk.close(descriptor)

    @contextlib.contextmanager
    def new_directory(self) -> Iterator[int]:
        with self._directory() as hidden, self._below(hidden, "new") as directory:
            yield directory

    @contextlib.contextmanager
    def uploads(self) -> Iterator[int]:
        with self._directory() as hidden, self._below(hidden, "uploads") as directory:
            yield directory

    def left_over(self) -> list[str]:
        """Paths of the files in `new/` that no living process holds."""
        with (
            self.exclusive(),
            self.new_directory() as directory,
        ):
            names = [name for name in os.listdir(directory) if self._is_free(directory, name)]
        return [f"{self._bucket.name}/{HIDDEN}/new/{name}" for name in sorted(names)]

    def report_left_over(self) -> None:
        """Warn once of what a crash left here."""
        if not self._has_looked:
            self._has_looked = True
            for path in self.left_over():
                log.warning("%s was left by a crash; it may hold a file's earlier bytes", path)

    def _is_free(self, directory: int, name: str) -> bool:
        if name.startswith(_UNLOCKED):
            return False
        status = status_of(directory, name)
        if status is None or not stat.S_ISREG(status.st_mode):
            return status is not None
        with opened(self._bucket.disk, directory, name) as descriptor:
            return lock_file(descriptor)

    @contextlib.contextmanager
    def _directory(self) -> Iterator[int]:
        with self._below(self._bucket.root, HIDDEN) as directory:
            yield directory

    @contextlib.contextmanager
    def _below(self, directory: int, name: str) -> Iterator[int]:
        """A descriptor of the subdirectory, made where there is none."""
        disk = self._bucket.disk
        try:
            descriptor = disk.open_directory(name, directory)
        except FileNotFoundError:
            with contextlib.suppress(FileExistsError):
                disk.mkdir(directory, name, self._bucket.mode)
            disk.fsync(directory)
            descriptor = disk.open_directory(name, directory)
        try:
            yield descriptor
        finally:
            disk.close(descriptor)


def fresh_name() -> str:
    return uuid.uuid4().hex


def is_named(descriptor: int, directory: int, name: str) -> bool:
    """Whether the name still leads to this file: a lock on a removed one excludes nobody."""
    named = status_of(directory, name)
    return named is not None and os.path.samestat(named, os.fstat(descriptor))

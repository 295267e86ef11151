"""One session's directory: its few files, each replaced as a whole. See `state` for what there is.

Whoever opens one by `StateDirectory` holds the session's flock until it is closed.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Set
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from pdfs.core.document import Malformed, Reader, parse, render
from pdfs.core.ids import SessionId
from pdfs.disk import (
    Disk,
    disk_error,
    make_directory,
    opened,
    opened_directory,
    read_fully,
    replace_file,
)
from pdfs.errors import DamageFound
from pdfs.local.journal_format import parse_segment_name
from pdfs.local.snapshot import (
    SNAPSHOT,
    encode_snapshot_head,
    is_next_snapshot,
    read_snapshot,
)

LOCK: Final = "session.lock"
_SCHEMA: Final = 1
_DESCRIPTION: Final = "session.json"
_DAMAGED: Final = "damaged"
BEGINNING: Final = "beginning-"
"""How the name of a note begins that a journal is just beginning: see `note_beginning`."""


class Descriptors:
    """What a context manager has open; the newest is closed first."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: list[int] = []

    def keep(self, descriptor: int) -> int:
        """Close this one, too, in the end."""
        self._open.append(descriptor)
        return descriptor

    def close(self) -> None:
        """Give everything back. Idempotent."""
        while self._open:
            with contextlib.suppress(OSError):
                self._disk.close(self._open.pop())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SessionDirectory(Descriptors):
    """One session's directory, held by this process until it is closed. A context manager."""

    def __init__(self, disk: Disk, path: PurePath, descriptor: int) -> None:
        """Use `StateDirectory.create_session` or `open_session`."""
        super().__init__(disk)
        self.path = path
        """For people; everything here goes by `descriptor`."""
        self.session = SessionId(path.name)
        self.descriptor = self.keep(descriptor)
        """Of the directory; the journal's too."""

    def describe(self, fields: Mapping[str, object]) -> None:
        """Write `session.json`: JSON fields, for whoever lists the sessions. Raises DiskError."""
        content = render({"schema": _SCHEMA, **fields})
        with words(f"write {self.path / _DESCRIPTION}"):
            replace_file(self._disk, self.descriptor, _DESCRIPTION, content)

    def description(self) -> Reader | None:
        """What `describe` wrote last; None where it never did.

        Raises DamageFound for bytes that it did not write, DiskError.
        """
        raw = self._read(_DESCRIPTION)
        try:
            return None if raw is None else parse(raw, schema=_SCHEMA)
        except Malformed as error:
            raise DamageFound(f"{self.path / _DESCRIPTION} can't be read: {error}") from error

    def write_snapshot(self, content: bytes) -> None:
        """Replace the snapshot; it survives power loss when this returns.

        A crash or an error leaves the old one or the new one. Raises DiskFull or another DiskError.
        """
        head = encode_snapshot_head(self.session, content)
        with words(f"write {self.path / SNAPSHOT}"):
            replace_file(self._disk, self.descriptor, SNAPSHOT, head, content)

    def read_snapshot(self) -> memoryview | None:
        """What `write_snapshot` wrote last; None where it never did.

        Raises DamageFound for any other bytes, UsageError for another schema, DiskError.
        """
        file = str(self.path / SNAPSHOT)
        return read_snapshot(self._disk, self.descriptor, self.session, file=file)

    def note_beginning(self, through: int) -> None:
        """The snapshot of that `through` may come to be without a segment behind it. DiskError.

        This survives power loss when it returns; it is over with `end_beginning`.
        """
        with words(f"begin a journal in {self.path}"):
            flags = os.O_WRONLY | os.O_CREAT
            with opened(self._disk, self.descriptor, _beginning(through), flags):
                self._disk.fsync(self.descriptor)

    def end_beginning(self, through: int) -> None:
        """There is a segment behind it now.

        Not synced, and raises nothing: a note that stays only lets nobody see that one is gone.
        """
        with contextlib.suppress(OSError):
            self._disk.unlink(self.descriptor, _beginning(through))

    @property
    def has_damage(self) -> bool:
        """Damage was found in this session's journal, by this process or an earlier one."""
        return _DAMAGED in os.listdir(self.descriptor)

    def note_damage(self) -> None:
        """From now on a recovery deletes no segment; this survives power loss. Raises DiskError."""
        with words(f"keep what is damaged in {self.path}"):
            make_directory(self._disk, self.descriptor, _DAMAGED)

    def let_go_segments(self, below: int, kept: Set[int]) -> None:
        """Delete the journal's segments below that number, but for those that are `kept`.

        Nothing refers to them any more. Where damage was noted, they go to `damaged` and stay;
        that survives power loss. Raises DiskError; calling it again goes on.
        """
        with words(f"remove old segments of {self.path}"):
            names = os.listdir(self.descriptor)
            for name in filter(is_next_snapshot, names):
                self._disk.unlink(self.descriptor, name)
            found = filter(None, map(parse_segment_name, names))
            old = [str(one) for one in found if one.number < below and one.number not in kept]
            if self.has_damage:
                self._keep_damaged(old)
            else:
                for name in old:
                    self._disk.unlink(self.descriptor, name)

    def _keep_damaged(self, names: list[str]) -> None:
        with opened_directory(self._disk, self.descriptor, _DAMAGED) as damaged:
            for name in names:
                self._disk.rename(self.descriptor, name, damaged, name)
            self._disk.fsync(damaged)
        self._disk.fsync(self.descriptor)

    def empty(self) -> None:
        """Delete everything in it, the lock last; nobody looks for a session there any more.

        Another process may be at it, too. Raises OSError.
        """
        _empty(self._disk, self.descriptor)

    def _read(self, name: str) -> bytes | None:
        with words(f"read {self.path / name}"):
            try:
                with opened(self._disk, self.descriptor, name) as descriptor:
                    return read_fully(descriptor, os.fstat(descriptor).st_size, 0)
            except FileNotFoundError:
                return None


def _beginning(through: int) -> str:
    return f"{BEGINNING}{through}"


def is_beginning(directory: int, through: int) -> bool:
    """Whether the snapshot of that `through` may have no segment behind it yet. DiskError."""
    with words("look at a session's directory"):
        return _beginning(through) in os.listdir(directory)


def _empty(disk: Disk, directory: int) -> None:
    with os.scandir(directory) as found:
        entries = sorted(found, key=lambda entry: entry.name == LOCK)
    for entry in entries:
        with contextlib.suppress(FileNotFoundError):
            if entry.is_dir(follow_symlinks=False):
                with opened_directory(disk, directory, entry.name) as below:
                    _empty(disk, below)
                disk.rmdir(directory, entry.name)
            else:
                disk.unlink(directory, entry.name)


@contextlib.contextmanager
def words(what: str) -> Iterator[None]:
    """Turn an OSError of the block into a DiskError that says `what` could not be done."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error

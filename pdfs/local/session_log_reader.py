"""Reading a session's log, also while it is written: whole lines, in order, and what is none.

A torn last line is normal: it is being written, or a crash cut it. Bytes in the middle that are no
line are reported where they stand and passed over. Memory is bounded, whatever the file holds; no
file is changed, and no lock is taken or waited for. Errors of the disk are DiskError.
"""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

from pdfs.core.ids import SessionId
from pdfs.disk import Disk, disk_error, open_regular
from pdfs.errors import DiskError, SessionNotFound
from pdfs.local.session_log_format import (
    LONGEST_LINE,
    LogHeader,
    LogLine,
    decode_header,
    decode_line,
    log_name,
    parse_log_name,
)

_CHUNK: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class BadLine:
    """Bytes between two line ends that were never written so."""

    offset: int
    size: int
    """With the line end."""


class LineReader:
    """The lines of an open file, which stays the caller's."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.end = 0
        """Behind the last line end that was passed."""
        self.torn = 0
        """Bytes behind it when `lines` was exhausted: a line that has no end yet."""

    def lines(self) -> Iterator[LogLine | BadLine]:
        """What was added since the last call, line by line. Raises OSError."""
        dropped, rest = 0, b""
        while chunk := os.pread(self._descriptor, _CHUNK, self.end + dropped + len(rest)):
            *whole, rest = (rest + chunk).split(b"\n")
            for raw in whole:
                start, size = self.end, dropped + len(raw) + 1
                self.end += size
                line = None if dropped else decode_line(raw, start)
                dropped = 0
                yield BadLine(offset=start, size=size) if line is None else line
            if len(rest) > LONGEST_LINE:
                dropped, rest = dropped + len(rest), b""
        self.torn = dropped + len(rest)


class LogReader:
    """One session's log, for whoever looks on. A context manager."""

    def __init__(self, disk: Disk, directory: int, session: SessionId) -> None:
        """Open it, under either name. Raises SessionNotFound, DiskError."""
        self._disk = disk
        self._descriptor = _open(disk, directory, session)
        self._lines = LineReader(self._descriptor)

    @property
    def torn(self) -> int:
        """Bytes of a last line that has no end yet, once `lines` was exhausted."""
        return self._lines.torn

    def lines(self) -> Iterator[LogLine | BadLine]:
        """What was added since the last call, line by line."""
        try:
            yield from self._lines.lines()
        except OSError as error:
            raise disk_error(error, "read the log") from error

    def changed(self) -> float:
        """When its last line was written, in s since 1970 by the file system's clock."""
        try:
            return os.fstat(self._descriptor).st_mtime
        except OSError as error:
            raise disk_error(error, "look at the log") from error

    def close(self) -> None:
        """Idempotent."""
        if self._descriptor >= 0:
            self._disk.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundLog:
    """One log of this machine."""

    session: SessionId
    is_whole: bool
    """Its session is over."""
    header: LogHeader | None
    """None where its first line can't be read."""
    begun: str
    """When, as it stands in the first line; or empty."""
    changed: float
    """When its last line was written, in s since 1970; 0.0 where it can't be read."""


def list_logs(disk: Disk, directory: int) -> list[FoundLog]:
    """Every session's log in that directory, in no order. Raises DiskError."""
    try:
        names = os.listdir(directory)
    except OSError as error:
        raise disk_error(error, "list the logs") from error
    parsed = filter(None, map(parse_log_name, names))
    return [_look_at(disk, directory, session, is_whole) for session, is_whole in parsed]


def _look_at(disk: Disk, directory: int, session: SessionId, is_whole: bool) -> FoundLog:
    header, begun, changed = None, "", 0.0
    with (
        contextlib.suppress(DiskError, SessionNotFound),
        LogReader(disk, directory, session) as log,
    ):
        changed = log.changed()
        first = next(log.lines(), None)
        if isinstance(first, LogLine):
            found, begun = decode_header(first), first.at
            header = found if isinstance(found, LogHeader) else None
    return FoundLog(session=session, is_whole=is_whole, header=header, begun=begun, changed=changed)


def _open(disk: Disk, directory: int, session: SessionId) -> int:
    """The partial log, else the whole one: one that is closed meanwhile is found all the same."""
    partial, whole = log_name(session, "partial"), log_name(session, "whole")
    try:
        for name in (partial, whole, partial):
            with contextlib.suppress(FileNotFoundError):
                return open_regular(disk, directory, name, os.O_RDONLY)
    except OSError as error:
        raise disk_error(error, f"read the log of session {session}") from error
    raise SessionNotFound(f"there is no log of session {session} on this machine")

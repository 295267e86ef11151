"""A session's log while it is written: what happened, for people and scripts. Lines and names:
`session_log_format`.

Each line is written at once and whole, at a tracked offset that moves only after that: a process
that is killed leaves every earlier line and at most one torn one. It is not synced line by line;
a power cut may cost what the kernel had not written yet, half a minute of it. It decides nothing:
whether a session has unpublished work is told by its journal and the bucket.

**Taken up again.** A process that resumes a session goes on in the same file. First it cuts off
what stands behind the last line end, for that is a line that a crash tore (or zeros that a power
cut left), and says so in its `resumed` line. Bytes in the middle that are no line stay where they
are. A log that was ended is given its partial name back.

One process has the log, by an exclusive flock for as long as it is open. The file is 0600 and the
directory 0700; neither may be a symlink. Methods may be called in any thread.
"""

import contextlib
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from pdfs.core.ids import SessionId
from pdfs.core.lease import moment
from pdfs.core.notes import Note, fields_of
from pdfs.disk import (
    FILE_MODE,
    Disk,
    disk_error,
    lock_file,
    make_below,
    open_regular,
    opened,
    write_fully,
)
from pdfs.errors import DamageFound, LockError, SessionError, UsageError
from pdfs.local.session_log_format import (
    BEGUN,
    ENDED,
    RESUMED,
    SCHEMA,
    LogHeader,
    LogLine,
    Tally,
    decode_header,
    encode_line,
    header_fields,
    log_name,
    parse_log_name,
)
from pdfs.local.session_log_reader import LineReader

_TRIES: Final = 8


class SessionLog:
    """The log of one session. A context manager: an exception abandons it, else it is closed."""

    def __init__(
        self, disk: Disk, directory: PurePath, header: LogHeader, *, now: Callable[[], float]
    ) -> None:
        """Begin the log in `directory`, absolute, or take it up; parents are made.

        The first line of this process is in the file and synced when this returns. Raises LockError
        where another process has it, DamageFound where the file is another session's, UsageError
        for another schema, DiskFull or another DiskError.
        """
        self.path = directory / log_name(header.session, "whole")
        """Where the log is once it was closed."""
        self.partial_path = directory / log_name(header.session, "partial")
        """Where it is until then."""
        self._disk = disk
        self._now = now
        self._turn = threading.Lock()
        self._tally = Tally()
        self._number = self._end = 0
        self._directory = self._file = -1
        try:
            with self._words("open"):
                self._directory = make_below(disk, directory, "XDG_STATE_HOME")
                self._file = self._open()
                self._begin(header, *self._take_up(header))
        except BaseException:
            self.abandon()
            raise

    @property
    def records_written(self) -> int:
        """Lines in the file but the first and the last, those of earlier processes included."""
        return self._tally.records

    def write(self, note: Note) -> None:
        """Add a line; it survives the death of this process when this returns.

        DiskFull or another DiskError: this line is lost, and a later one may come through.
        SessionError after `close` or `abandon`.
        """
        with self._turn, self._words("write"):
            if self._file < 0:
                raise SessionError(f"the log {self.partial_path} is closed")
            self._append(note.event, fields_of(note))

    def close(self) -> None:
        """Write the last line and rename the file; the session is over. Idempotent.

        When it raises DiskError the log is abandoned, under one name or the other.
        """
        with self._turn:
            if self._file < 0:
                return
            try:
                with self._words("close"):
                    self._finish()
            finally:
                self._let_go()

    def abandon(self) -> None:
        """Leave the log as it is, for whoever resumes the session. Idempotent, raises nothing."""
        with self._turn:
            self._let_go()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()

    # --- opening ----------------------------------------------------------------------------------

    def _open(self) -> int:
        """The file under its partial name, locked."""
        for _ in range(_TRIES):
            try:
                name, flags = self.path.name, os.O_RDWR
                descriptor = open_regular(self._disk, self._directory, name, flags)
            except FileNotFoundError:
                name, flags = self.partial_path.name, os.O_RDWR | os.O_CREAT
                descriptor = open_regular(self._disk, self._directory, name, flags)
            try:
                if self._is_ours(descriptor, name):
                    return descriptor
            except BaseException:
                self._disk.close(descriptor)
                raise
            self._disk.close(descriptor)
        raise LockError(f"the log {self.partial_path} is moved about by another process")

    def _is_ours(self, descriptor: int, name: str) -> bool:
        """Lock an open log and give it its partial name; False = it was moved before the lock."""
        if not lock_file(descriptor):
            raise LockError(
                f"the log {self.partial_path} belongs to a PDFS that is running on this machine",
                remedy="see pdfs status for where it is mounted",
            )
        found = os.fstat(descriptor)
        if not self._leads_to(name, found):
            return False
        if name == self.path.name:
            self._take_back()
        if stat.S_IMODE(found.st_mode) & ~FILE_MODE:
            self._disk.fchmod(descriptor, FILE_MODE)
        return True

    def _leads_to(self, name: str, found: os.stat_result) -> bool:
        try:
            named = os.stat(name, dir_fd=self._directory, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(named, found)

    def _take_back(self) -> None:
        """An ended log goes on: it gets its partial name."""
        partial = self.partial_path.name
        with contextlib.suppress(FileNotFoundError):
            os.stat(partial, dir_fd=self._directory, follow_symlinks=False)
            raise SessionError(
                f"there are both {self.path} and {partial}", remedy="move one of them elsewhere"
            )
        self._disk.rename(self._directory, self.path.name, self._directory, partial)

    def _take_up(self, header: LogHeader) -> tuple[bool, int]:
        """Count the lines that are there; (is there any, bytes cut off behind the last)."""
        reader, is_begun = LineReader(self._file), False
        for line in reader.lines():
            is_begun = True
            if isinstance(line, LogLine):
                self._check(decode_header(line), header)
                self._number = max(self._number, line.number)
                self._tally.add(line.event, line.fields)
        self._end = reader.end
        if reader.torn:
            self._disk.ftruncate(self._file, self._end)
        return is_begun, reader.torn

    def _check(self, found: LogHeader | int | None, header: LogHeader) -> None:
        match found:
            case int(schema):
                raise UsageError(
                    f"the log {self.partial_path} has schema {schema}, this PDFS writes {SCHEMA}"
                )
            case LogHeader(session=session) if session != header.session:
                raise DamageFound(
                    f"{self.partial_path} is the log of session {session}",
                    remedy="move that file elsewhere",
                )

    def _begin(self, header: LogHeader, is_begun: bool, cut: int) -> None:
        if is_begun:
            self._append(RESUMED, {**header_fields(header), "cut": cut})
        else:
            self._append(BEGUN, header_fields(header))
        self._disk.fsync(self._file)
        self._disk.fsync(self._directory)

    # --- writing ----------------------------------------------------------------------------------

    def _append(self, event: str, fields: Mapping[str, object]) -> None:
        """Write one line at the end. When it raises OSError, the next one is written over it."""
        self._number += 1
        line = encode_line(self._number, moment(self._now()), event, fields)
        self._end += write_fully(self._disk, self._file, [line], self._end)
        self._tally.add(event, fields)

    def _finish(self) -> None:
        tally = self._tally
        summary = {"records": tally.records, "lost": self._number - tally.lines}
        self._append(ENDED, {**summary, "counts": dict(tally.counts), "totals": tally.totals})
        self._disk.ftruncate(self._file, self._end)
        self._disk.fsync(self._file)
        self._disk.rename(self._directory, self.partial_path.name, self._directory, self.path.name)
        self._disk.fsync(self._directory)

    def _let_go(self) -> None:
        for descriptor in (self._file, self._directory):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    self._disk.close(descriptor)
        self._file = self._directory = -1

    @contextlib.contextmanager
    def _words(self, what: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise disk_error(error, f"{what} the log {self.partial_path}") from error


def delete_old_logs(disk: Disk, directory: int, before: float) -> list[SessionId]:
    """Delete logs that were ended before that time, in s since 1970; whose.

    Those of sessions that did not end stay, and so does one that a process is just taking up.
    Raises DiskError.
    """
    try:
        logs = filter(None, map(parse_log_name, os.listdir(directory)))
        ended = sorted(session for session, is_whole in logs if is_whole)
        return [session for session in ended if _is_deleted(disk, directory, session, before)]
    except OSError as error:
        raise disk_error(error, "delete old logs") from error


def _is_deleted(disk: Disk, directory: int, session: SessionId, before: float) -> bool:
    name = log_name(session, "whole")
    try:
        with opened(disk, directory, name, os.O_RDWR | os.O_NONBLOCK) as descriptor:
            if os.fstat(descriptor).st_mtime >= before or not lock_file(descriptor):
                return False
            disk.unlink(directory, name)
    except FileNotFoundError:
        return False
    return True

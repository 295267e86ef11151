"""This machine's state directory: which sessions there are, who holds them, and their few files.

    {state path}/
      sessions/{session}/   session.lock     flock, held as long as a process has the session
                            session.json     what people want to know of it; replaced as a whole
                            snapshot         the tree that the journal goes on from; likewise
                            journal-…        see `journal_format`
                            aside/           segments that a recovery has copied; not read again
                            damaged/         the same, once damage was found; never deleted
      trash/{session}/      a discarded session, as it was; for 30 days at least
      trash/{session}.old/  one that is being deleted
      logs/

Directories are 0700 and belong to this user, files are 0600. Symlinks are followed on the way to
the state directory, and never below it.

A free flock means that no process has the session, however the last one ended. Taking one, looking
at one, and moving a session all happen under a flock of `sessions` itself, held for an instant: so
a look never makes a mount fail, and nothing is moved under somebody who just opened it.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from types import TracebackType
from typing import Final, Self

from pdfs.core.document import Malformed, Reader, parse, render
from pdfs.core.ids import SessionId
from pdfs.disk import (
    DIRECTORY_MODE,
    Disk,
    disk_error,
    lock_file,
    make_directory,
    make_path,
    opened,
    opened_directory,
    read_fully,
    replace_file,
)
from pdfs.errors import (
    DamageFound,
    DiskError,
    LockError,
    PdfsError,
    SessionError,
    SessionNotFound,
    UsageError,
)
from pdfs.local.journal_format import is_uuid, parse_segment_name
from pdfs.local.snapshot import decode_snapshot, encode_snapshot_head

_SCHEMA: Final = 1
_LOCK: Final = "session.lock"
_DESCRIPTION: Final = "session.json"
_SNAPSHOT: Final = "snapshot"
_ASIDE: Final = "aside"
_DAMAGED: Final = "damaged"
_OLD: Final = ".old"


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One session of this machine, as found."""

    session: SessionId
    is_held: bool
    """A process has it: its daemon lives."""
    description: Reader | None
    """What `describe` wrote; None where there is nothing, or nothing that can be read."""
    problem: str
    """Why it can't be read, or empty."""
    changed: float
    """When its directory changed last (in the trash: when it was discarded), in s since 1970."""


class _Descriptors:
    """What a context manager has open; the newest is closed first."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._open: list[int] = []

    def _keep(self, descriptor: int) -> int:
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


class SessionDirectory(_Descriptors):
    """One session's directory, held by this process until it is closed. A context manager."""

    def __init__(self, disk: Disk, path: PurePath, descriptor: int) -> None:
        """Use `StateDirectory.create_session` or `open_session`."""
        super().__init__(disk)
        self.path = path
        """For people; everything here goes by `descriptor`."""
        self.session = SessionId(path.name)
        self.descriptor = self._keep(descriptor)
        """Of the directory; the journal's too."""

    def describe(self, fields: Mapping[str, object]) -> None:
        """Write `session.json`: JSON fields, for whoever lists the sessions. Raises DiskError."""
        content = render({"schema": _SCHEMA, **fields})
        with _words(f"write {self.path / _DESCRIPTION}"):
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
        with _words(f"write {self.path / _SNAPSHOT}"):
            replace_file(self._disk, self.descriptor, _SNAPSHOT, head, content)

    def read_snapshot(self) -> memoryview | None:
        """What `write_snapshot` wrote last; None where it never did.

        Raises DamageFound for any other bytes, UsageError for another schema, DiskError.
        """
        raw = self._read(_SNAPSHOT)
        if raw is None:
            return None
        return decode_snapshot(raw, self.session, file=str(self.path / _SNAPSHOT))

    @property
    def has_damage(self) -> bool:
        """Damage was found in this session's journal, by this process or an earlier one."""
        return _DAMAGED in os.listdir(self.descriptor)

    def note_damage(self) -> None:
        """From now on no segment is deleted; this survives power loss. Raises DiskError."""
        with _words(f"keep what is damaged in {self.path}"):
            make_directory(self._disk, self.descriptor, _DAMAGED)

    def set_aside_segments(self, highest: int) -> None:
        """Move the journal's segments up to that number out of the way: they are replayed no more.

        What an earlier recovery moved to `aside` is deleted; where damage was noted, they go to
        `damaged` and stay. Survives power loss. Raises DiskError; calling it again goes on.
        """
        target = _DAMAGED if self.has_damage else _ASIDE
        with _words(f"move old segments aside in {self.path}"):
            make_directory(self._disk, self.descriptor, target)
            with opened_directory(self._disk, self.descriptor, target) as aside:
                for old in os.listdir(aside) if target == _ASIDE else ():
                    self._disk.unlink(aside, old)
                for name in os.listdir(self.descriptor):
                    parsed = parse_segment_name(name)
                    if parsed is not None and parsed[0] <= highest:
                        self._disk.rename(self.descriptor, name, aside, name)
                self._disk.fsync(aside)
            self._disk.fsync(self.descriptor)

    def _empty(self) -> None:
        """Delete everything in it, the snapshot first: without one, a session holds no work."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(self.descriptor, _SNAPSHOT)
            self._disk.fsync(self.descriptor)
        for name in os.listdir(self.descriptor):
            if name in (_ASIDE, _DAMAGED):
                with opened_directory(self._disk, self.descriptor, name) as aside:
                    for old in os.listdir(aside):
                        self._disk.unlink(aside, old)
                self._disk.rmdir(self.descriptor, name)
            else:
                self._disk.unlink(self.descriptor, name)

    def _read(self, name: str) -> bytes | None:
        with _words(f"read {self.path / name}"):
            try:
                with opened(self._disk, self.descriptor, name) as descriptor:
                    return read_fully(descriptor, os.fstat(descriptor).st_size, 0)
            except FileNotFoundError:
                return None

    def _hold(self) -> bool:
        """Take the session's flock for as long as this is open; False = another process has it."""
        lock = self._disk.open(self.descriptor, _LOCK, os.O_RDWR | os.O_CREAT)
        self._open.append(lock)
        return lock_file(lock)


class StateDirectory(_Descriptors):
    """The state directory of this user. A context manager."""

    def __init__(self, disk: Disk, path: PurePath) -> None:
        """Open it, and make it where there is none; `path` is absolute. Raises DiskError."""
        super().__init__(disk)
        self.path = path
        try:
            with _words(f"open the state directory {path}"):
                self._root = self._keep(make_path(disk, str(path)))
                self._make_private(self._root, path)
                self._sessions = self._keep(self._make_below(self._root, path / "sessions"))
                self._trash = self._keep(self._make_below(self._root, path / "trash"))
                self.logs = self._keep(self._make_below(self._root, path / "logs"))
        except BaseException:
            self.close()
            raise

    def create_session(self, session: SessionId) -> SessionDirectory:
        """Make the directory of a new session and hold it; it survives power loss.

        Raises SessionError where there is one, DiskError.
        """
        _check_id(session)
        with self._guarded(f"make a directory for session {session}"):
            try:
                self._disk.mkdir(self._sessions, session)
            except FileExistsError:
                raise SessionError(f"there is a session {session} already") from None
            with contextlib.ExitStack() as undo:
                undo.callback(self._remove_new, session)
                directory = undo.enter_context(self._hold(session))
                self._disk.fsync(directory.descriptor)
                self._disk.fsync(self._sessions)
                undo.pop_all()
            return directory

    def open_session(self, session: SessionId) -> SessionDirectory:
        """Hold a session that no process has.

        Raises SessionNotFound, LockError where its daemon lives, DiskError.
        """
        _check_id(session)
        with self._guarded(f"open session {session}"):
            return self._hold(session)

    def sessions(self) -> list[Listed]:
        """Every session, in no order; what can't be read is told in its `problem`."""
        with self._guarded("list the sessions"):
            return self._list(self._sessions, self.path / "sessions")

    def trashed(self) -> list[Listed]:
        """Every discarded session, likewise."""
        with self._guarded("list the discarded sessions"):
            return self._list(self._trash, self.path / "trash")

    def remove(self, held: SessionDirectory) -> None:
        """Delete a session that this process holds and whose work is all in the bucket.

        A crash in between leaves a session without a snapshot, which holds no work. DiskError.
        """
        with self._guarded(f"remove session {held.session}"):
            held._empty()
            held.close()
            self._disk.rmdir(self._sessions, held.session)
            self._disk.fsync(self._sessions)

    def discard(self, session: SessionId) -> None:
        """Move a session that no process has to the trash; nothing in it changes.

        Raises as `open_session` does.
        """
        _check_id(session)
        with self._guarded(f"discard session {session}"), self._hold(session) as held:
            # Not every file system stamps a directory that is renamed; its age in the trash counts.
            self._disk.utime(held.descriptor)
            self._move(session, self._sessions, self._trash)

    def undo(self, session: SessionId) -> None:
        """Bring a discarded session back. Raises SessionNotFound, SessionError, DiskError."""
        _check_id(session)
        with self._guarded(f"bring back session {session}"):
            self._move(session, self._trash, self._sessions)

    def empty_trash(self, before: float, *, most: int) -> list[SessionId]:
        """Delete sessions that were discarded before that time (s since 1970), `most` at once.

        Returns which, the oldest first. One that is half deleted by a crash is deleted by the next
        call, and can't be brought back. Raises DiskError.
        """
        with self._guarded("look through the trash"):
            listed = self._list(self._trash, self.path / "trash")
            old = sorted((each for each in listed if 0 < each.changed < before), key=_changed)
            gone = [each.session for each in old[:most]]
            for session in gone:
                self._disk.rename(self._trash, session, self._trash, session + _OLD)
        with _words("empty the trash"):
            for name in os.listdir(self._trash):
                if name.endswith(_OLD) and is_uuid(name.removesuffix(_OLD)):
                    self._delete_old(name)
        return gone

    def _delete_old(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):  # another process was at it, too
            path = self.path / "trash" / name
            with SessionDirectory(self._disk, path, self._open_below(self._trash, path)) as old:
                old._empty()
            self._disk.rmdir(self._trash, name)

    def _move(self, session: SessionId, source: int, target: int) -> None:
        try:
            self._disk.rename(source, session, target, session)
        except FileNotFoundError:
            raise SessionNotFound(f"there is no discarded session {session}") from None
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise SessionError(f"session {session} is there already; nothing was moved") from None
        self._disk.fsync(target)
        self._disk.fsync(source)

    def _hold(self, session: SessionId) -> SessionDirectory:
        """The session's directory with its flock taken; the caller has the guard."""
        path = self.path / "sessions" / session
        try:
            directory = SessionDirectory(self._disk, path, self._open_below(self._sessions, path))
        except FileNotFoundError:
            raise SessionNotFound(f"there is no session {session} on this machine") from None
        try:
            lock = self._disk.open(directory.descriptor, _LOCK, os.O_RDWR | os.O_CREAT)
            if not lock_file(directory._keep(lock)):
                raise LockError(
                    f"session {session} belongs to a PDFS that is running on this machine",
                    remedy="see pdfs status for where it is mounted",
                )
        except BaseException:
            directory.close()
            raise
        return directory

    def _remove_new(self, session: SessionId) -> None:
        """Take back what there is of a session that could not be made."""
        with (
            contextlib.suppress(OSError),
            opened_directory(self._disk, self._sessions, session) as directory,
        ):
            self._disk.unlink(directory, _LOCK)
        with contextlib.suppress(OSError):
            self._disk.rmdir(self._sessions, session)

    def _list(self, parent: int, path: PurePath) -> list[Listed]:
        return [self._look_at(parent, path / name) for name in os.listdir(parent) if is_uuid(name)]

    def _look_at(self, parent: int, path: PurePath) -> Listed:
        is_held, description, problem, changed = False, None, "", 0.0
        try:
            with (
                _words(f"open {path}"),
                SessionDirectory(self._disk, path, self._open_below(parent, path)) as directory,
            ):
                is_held = self._is_held(directory.descriptor)
                changed = _changed_at(directory.descriptor)
                description = directory.description()
        except PdfsError as error:
            problem = str(error)
        return Listed(
            session=SessionId(path.name),
            is_held=is_held,
            description=description,
            problem=problem,
            changed=changed,
        )

    def _is_held(self, directory: int) -> bool:
        try:
            with opened(self._disk, directory, _LOCK, os.O_RDWR) as lock:
                return not lock_file(lock)
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Nobody else takes, looks at or moves sessions meanwhile; OSError becomes words."""
        with _words(what), opened_directory(self._disk, self._root, "sessions") as guard:
            lock_file(guard, wait=True)
            yield

    def _make_below(self, parent: int, path: PurePath) -> int:
        try:
            make_directory(self._disk, parent, path.name)
        except NotADirectoryError:
            raise _not_followed(path) from None
        return self._open_below(parent, path)

    def _open_below(self, parent: int, path: PurePath) -> int:
        try:
            descriptor = self._disk.open_directory(path.name, parent)
        except NotADirectoryError:
            raise _not_followed(path) from None
        try:
            self._make_private(descriptor, path)
        except BaseException:
            self._disk.close(descriptor)
            raise
        return descriptor

    def _make_private(self, descriptor: int, path: PurePath) -> None:
        """Refuse a directory of somebody else, and close ours to others."""
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            raise DiskError(
                f"{path} belongs to user {found.st_uid}, not to {os.geteuid()}",
                remedy="set XDG_STATE_HOME to a directory of your own",
            )
        if stat.S_IMODE(found.st_mode) & ~DIRECTORY_MODE:
            self._disk.fchmod(descriptor, DIRECTORY_MODE)


def _changed_at(directory: int) -> float:
    status = os.fstat(directory)
    return max(status.st_ctime, status.st_mtime)


def _changed(listed: Listed) -> float:
    return listed.changed


def _check_id(session: str) -> None:
    if not is_uuid(session):
        raise UsageError(f"{session!r} is not a session id")


def _not_followed(path: PurePath) -> DiskError:
    return DiskError(
        f"{path} is a symlink, or no directory",
        remedy="PDFS follows no links there: to keep its state elsewhere, set XDG_STATE_HOME",
    )


@contextlib.contextmanager
def _words(what: str) -> Iterator[None]:
    """Turn an OSError of the block into a DiskError that says `what` could not be done."""
    try:
        yield
    except OSError as error:
        raise disk_error(error, what) from error

"""This machine's state directory: which sessions there are, who holds them, and their few files.

    {state path}/
      sessions/{session}/   session.lock     flock, held as long as a process has the session
                            session.json     what people want to know of it; replaced as a whole
                            snapshot         the tree that the journal goes on from; likewise
                            journal-…        see `journal_format`
                            carried-…        see `carrying`
                            snapshot.__next-{n}__, reserve    see `checkpoint`
                            beginning-{n}    see `recovery`
                            damaged/         segments that a recovery let go, damage being found
      readers/{session}/    a read-only mount: session.lock and session.json, nothing else; one that
                            no process has is what a crash left, and says where its mount was
      trash/{session}/      a discarded session, as it was; for 30 days at least
      trash/{session}.old/  one that is being deleted, by who holds it or by the next mount
      trash.json            on how many days what is in the trash was seen there: see `trash_days`
      logs/

Directories are 0700 and belong to this user, files are 0600. Symlinks are followed on the way to
the state directory, and never below it.

A free flock means that no process has the session, however the last one ended. Taking one, looking
at one, and moving a session all happen under a flock of `sessions` itself, held for an instant: so
a look never makes a mount fail, and nothing is moved under somebody who just opened it.
"""

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath
from typing import Final

from pdfs.core.document import Reader
from pdfs.core.ids import SessionId
from pdfs.disk import (
    DIRECTORY_MODE,
    Disk,
    lock_file,
    make_directory,
    make_path,
    not_followed,
    opened,
    opened_directory,
    read_fully,
    replace_file,
)
from pdfs.errors import (
    DiskError,
    LockError,
    PdfsError,
    SessionError,
    SessionNotFound,
    UsageError,
)
from pdfs.local.journal_format import is_uuid
from pdfs.local.journal_listing import newest_header
from pdfs.local.session_directory import LOCK, Descriptors, SessionDirectory, words
from pdfs.local.trash_days import DAY, TrashDays, days_with, decode_days, encode_days

logger = logging.getLogger(__name__)

_OLD: Final = ".old"
_DAYS: Final = "trash.json"


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
    is_unbegun: bool
    """Nobody has it, and there is nothing in it: who was about to make it died."""


class StateDirectory(Descriptors):
    """The state directory of this user. A context manager."""

    def __init__(self, disk: Disk, path: PurePath) -> None:
        """Open it, and make it where there is none; `path` is absolute. Raises DiskError."""
        super().__init__(disk)
        self.path = path
        try:
            with words(f"open the state directory {path}"):
                self._root = self.keep(make_path(disk, str(path)))
                self._make_private(self._root, path)
                self._sessions = self.keep(self._make_below(self._root, path / "sessions"))
                self._readers = self.keep(self._make_below(self._root, path / "readers"))
                self._trash = self.keep(self._make_below(self._root, path / "trash"))
                self.logs = self.keep(self._make_below(self._root, path / "logs"))
        except BaseException:
            self.close()
            raise

    def create_session(self, session: SessionId) -> SessionDirectory:
        """Make the directory of a new session and hold it; it survives power loss.

        Raises SessionError where there is one, DiskError.
        """
        return self._create(session, self._sessions, self.path / "sessions")

    def create_reader(self, session: SessionId) -> SessionDirectory:
        """The same for a read-only mount."""
        return self._create(session, self._readers, self.path / "readers")

    def readers(self) -> list[Listed]:
        """Every read-only mount, in no order; those that no process has ended in a crash."""
        with self._guarded("list the read-only mounts"):
            return self._list(self._readers, self.path / "readers")

    def open_reader(self, session: SessionId) -> SessionDirectory:
        """Hold a read-only mount that no process has. Raises as `open_session` does."""
        _check_id(session)
        with self._guarded(f"open the read-only mount {session}"):
            return self._hold(session, self._readers, "readers")

    def remove_reader(self, held: SessionDirectory) -> None:
        """Delete a read-only mount that this process holds. Raises DiskError."""
        with self._guarded(f"remove the read-only mount {held.session}"), held:
            held.empty()
            self._disk.rmdir(self._readers, held.session)

    def _create(self, session: SessionId, parent: int, path: PurePath) -> SessionDirectory:
        _check_id(session)
        with self._guarded(f"make a directory for session {session}"):
            try:
                self._disk.mkdir(parent, session)
            except FileExistsError:
                raise SessionError(f"there is a session {session} already") from None
            with contextlib.ExitStack() as undo:
                undo.callback(self._remove_new, session, parent)
                directory = undo.enter_context(self._hold(session, parent, path.name))
                self._disk.fsync(directory.descriptor)
                self._disk.fsync(parent)
                undo.pop_all()
            return directory

    def open_session(self, session: SessionId) -> SessionDirectory:
        """Hold a session that no process has.

        Raises SessionNotFound, LockError where its daemon lives, DiskError.
        """
        _check_id(session)
        with self._guarded(f"open session {session}"):
            return self._hold(session, self._sessions, "sessions")

    @contextlib.contextmanager
    def looked_at(self, session: SessionId) -> Iterator[SessionDirectory]:
        """A session that no process has, for a block that only reads; others may take it meanwhile.

        Raises as `open_session` does, and LockError at the end of the block where somebody did:
        then nothing that it has read counts, nor any PdfsError that it met.
        """
        _check_id(session)
        with contextlib.ExitStack() as stack:
            with self._guarded(f"look at session {session}"):
                directory = stack.enter_context(self._opened(session, self._sessions, "sessions"))
                self._check_free(directory)
            try:
                yield directory
            except PdfsError:
                self._look_again(directory)
                raise
            self._look_again(directory)

    def sessions(self) -> list[Listed]:
        """Every session, in no order; what can't be read is told in its `problem`.

        Not those that a process died of making: they hold nothing (`remove_unbegun`).
        """
        with self._guarded("list the sessions"):
            found = self._list(self._sessions, self.path / "sessions")
        return [each for each in found if not each.is_unbegun]

    def remove_unbegun(self, before: float) -> None:
        """Delete directories of sessions that never were, if they are older (s since 1970).

        A younger one may be about to become a session. Raises DiskError.
        """
        with self._guarded("look for sessions that were not begun"):
            for each in self._list(self._sessions, self.path / "sessions"):
                if each.is_unbegun and 0 < each.changed < before:
                    self._remove_new(each.session, self._sessions)

    def trashed(self) -> list[Listed]:
        """Every discarded session, likewise."""
        with self._guarded("list the discarded sessions"):
            return self._list(self._trash, self.path / "trash")

    def remove(self, held: SessionDirectory) -> None:
        """Delete a session that this process holds and whose work is all in the bucket.

        Raises DiskError, with the session as it was. What a crash or an error leaves once it has
        gone from `sessions` is deleted with what is old in the trash.
        """
        name = held.session + _OLD
        with self._guarded(f"remove session {held.session}"):
            self._disk.rename(self._sessions, held.session, self._trash, name)
        try:
            self._sync_moves()
            held.empty()
            held.close()
            with contextlib.suppress(FileNotFoundError):  # another process was at it, too
                self._disk.rmdir(self._trash, name)
        except OSError as error:
            logger.warning("session %s is over, and is deleted later: %s", held.session, error)
        finally:
            held.close()

    def discard(self, held: SessionDirectory) -> None:
        """Move a session that this process holds, and goes on to hold, to the trash.

        Nothing in it changes. Raises DiskError, and SessionError where one of that name is there.
        """
        with self._guarded(f"discard session {held.session}"):
            # Not every file system stamps a directory that is renamed; its age in the trash counts.
            self._disk.utime(held.descriptor)
            self._move(held.session, self._sessions, self._trash)

    def undo(self, session: SessionId) -> None:
        """Bring a discarded session back. Raises SessionNotFound, SessionError, DiskError."""
        _check_id(session)
        with self._guarded(f"bring back session {session}"):
            self._move(session, self._trash, self._sessions)

    def empty_trash(self, now: float, *, days: int, most: int) -> list[SessionId]:
        """Delete sessions that were discarded more than so many days before `now`, `most` at once.

        And were seen here on as many, by earlier calls: `now`, in s since 1970, may be years off
        (ADR 0011). Returns which, the oldest first. One that is half deleted by a crash is deleted
        by the next call, and can't be brought back. Raises DiskError.
        """
        with self._guarded("look through the trash"):
            listed = self._list(self._trash, self.path / "trash")
            seen = self._seen_in_trash({each.session: each.changed for each in listed}, now)
            before = now - days * DAY
            old = sorted((each for each in listed if 0 < each.changed < before), key=_changed)
            old = [each for each in old if seen[each.session].days >= days]
            gone = [each.session for each in old[:most]]
            for session in gone:
                self._disk.rename(self._trash, session, self._trash, session + _OLD)
        with words("empty the trash"):
            for name in os.listdir(self._trash):
                if name.endswith(_OLD) and is_uuid(name.removesuffix(_OLD)):
                    self._delete_old(name)
        return gone

    def _seen_in_trash(self, there: Mapping[SessionId, float], now: float) -> TrashDays:
        """On how many days these were; a day that finds no room to be noted does not count."""
        try:
            with opened(self._disk, self._root, _DAYS) as file:
                before = decode_days(read_fully(file, os.fstat(file).st_size, 0))
        except OSError:
            before = {}
        days = days_with(before, there, now)
        if days != before:
            try:
                replace_file(self._disk, self._root, _DAYS, encode_days(days))
            except OSError as error:
                logger.warning("what is in the trash stays longer: %s", error)
                return days_with({}, there, now)
        return days

    def _delete_old(self, name: str) -> None:
        """Unless a process holds it: that is deleting it."""
        with contextlib.suppress(FileNotFoundError):  # another process was at it, too
            path = self.path / "trash" / name
            with SessionDirectory(self._disk, path, self._open_below(self._trash, path)) as old:
                if self._is_held(old.descriptor):
                    return
                self._sync_moves()
                old.empty()
            self._disk.rmdir(self._trash, name)

    def _sync_moves(self) -> None:
        """No power cut brings a session back of which a part is gone."""
        self._disk.fsync(self._trash)
        self._disk.fsync(self._sessions)

    def _move(self, session: SessionId, source: int, target: int) -> None:
        try:
            self._disk.rename(source, session, target, session)
        except FileNotFoundError:
            raise SessionNotFound(f"there is no discarded session {session}") from None
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            raise SessionError(
                f"there are two of session {session}, in sessions/ and trash/ below {self.path}: "
                "nothing was moved",
                remedy="move one of them away",
            ) from None
        self._disk.fsync(target)
        self._disk.fsync(source)

    def _hold(self, session: SessionId, parent: int, name: str) -> SessionDirectory:
        """The session's directory with its flock taken; the caller has the guard."""
        directory = self._opened(session, parent, name)
        try:
            if not lock_file(directory.keep(self._open_lock(directory.descriptor, os.O_CREAT))):
                raise _held(session)
        except BaseException:
            directory.close()
            raise
        return directory

    def _opened(self, session: SessionId, parent: int, name: str) -> SessionDirectory:
        path = self.path / name / session
        try:
            return SessionDirectory(self._disk, path, self._open_below(parent, path))
        except FileNotFoundError:
            raise SessionNotFound(f"there is no session {session} on this machine") from None

    def _look_again(self, directory: SessionDirectory) -> None:
        with self._guarded(f"look at session {directory.session}"):
            self._check_free(directory)

    def _check_free(self, directory: SessionDirectory) -> None:
        if self._is_held(directory.descriptor):
            raise _held(directory.session)

    def _remove_new(self, session: SessionId, parent: int) -> None:
        """Take back what there is of a session that could not be made."""
        with (
            contextlib.suppress(OSError),
            opened_directory(self._disk, parent, session) as directory,
        ):
            self._disk.unlink(directory, LOCK)
        with contextlib.suppress(OSError):
            self._disk.rmdir(parent, session)

    def _list(self, parent: int, path: PurePath) -> list[Listed]:
        return [self._look_at(parent, path / name) for name in os.listdir(parent) if is_uuid(name)]

    def _look_at(self, parent: int, path: PurePath) -> Listed:
        is_held, description, problem, changed, is_empty = False, None, "", 0.0, False
        try:
            with (
                words(f"open {path}"),
                SessionDirectory(self._disk, path, self._open_below(parent, path)) as directory,
            ):
                is_held = self._is_held(directory.descriptor)
                changed = _changed_at(directory.descriptor)
                description = directory.description() or self._by_journal(directory)
                if description is None:
                    is_empty = set(os.listdir(directory.descriptor)) <= {LOCK}
        except PdfsError as error:
            problem = str(error)
        return Listed(
            session=SessionId(path.name),
            is_held=is_held,
            description=description,
            problem=problem,
            changed=changed,
            is_unbegun=is_empty and not is_held and not problem,
        )

    def _by_journal(self, directory: SessionDirectory) -> Reader | None:
        """What the journal says of a session whose `session.json` is gone; None without one."""
        header = newest_header(self._disk, directory.descriptor, directory.session)
        if header is None:
            return None
        named: dict[str, object] = {"bucket": "", **header.base}
        for field in ("project", "stage", "user", "machine"):
            named[field] = getattr(header, field)
        return Reader(named)

    def _open_lock(self, directory: int, flags: int = 0) -> int:
        """What is read only can be held, too: so what it has is shown, and copied elsewhere."""
        try:
            return self._disk.open(directory, LOCK, os.O_RDWR | flags)
        except OSError as error:
            if error.errno != errno.EROFS:
                raise
            return self._disk.open(directory, LOCK, os.O_RDONLY)

    def _is_held(self, directory: int) -> bool:
        try:
            lock = self._open_lock(directory)
        except FileNotFoundError:
            return False
        try:
            return not lock_file(lock)
        finally:
            self._disk.close(lock)

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        """Nobody else takes, looks at or moves sessions meanwhile; OSError becomes words."""
        with words(what), opened_directory(self._disk, self._root, "sessions") as guard:
            lock_file(guard, wait=True)
            yield

    def _make_below(self, parent: int, path: PurePath) -> int:
        try:
            make_directory(self._disk, parent, path.name)
        except NotADirectoryError:
            raise not_followed(path, "XDG_STATE_HOME") from None
        return self._open_below(parent, path)

    def _open_below(self, parent: int, path: PurePath) -> int:
        try:
            descriptor = self._disk.open_directory(path.name, parent)
        except NotADirectoryError:
            raise not_followed(path, "XDG_STATE_HOME") from None
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


def _held(session: SessionId) -> LockError:
    return LockError(
        f"session {session} belongs to a PDFS that is running on this machine",
        remedy="see pdfs status for where it is mounted",
    )


def _check_id(session: str) -> None:
    if not is_uuid(session):
        raise UsageError(f"{session!r} is not a session id")

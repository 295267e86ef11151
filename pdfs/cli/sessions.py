"""The sessions of this machine, and the one that a user means by TARGET.

TARGET is a mountpoint or something below it, a session's id or the beginning of it, or
PROJECT[/STAGE].
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from pdfs.config import Configuration
from pdfs.core.document import Malformed, Reader
from pdfs.core.ids import SessionId
from pdfs.core.keys import StageKeys
from pdfs.disk import OsDisk
from pdfs.errors import SessionNotFound, UsageError
from pdfs.local.state import Listed, StateDirectory

SHORTEST_PREFIX = 4
_MOST_LINKS = 40
_NO_WORK = "it ended before it took any work"
SHOWN_ID = 8
"""So many digits of a session's id are shown; they are enough to name it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSession:
    """A session whose state is on this machine."""

    session: SessionId
    is_held: bool
    """Its daemon lives."""
    project: str
    stage: str
    user: str
    machine: str
    bucket: str
    """URL."""
    endpoint: str
    mountpoint: str
    """Empty where it was not mounted."""
    pid: int
    started: float
    """Seconds since 1970."""
    changed: float
    """When its directory changed last; in the trash: when it was discarded."""
    why: str
    """Why it was cut short, where its daemon could still say so; or empty."""
    problem: str
    """Why nothing is known of it but its id; or empty."""
    has_made_mountpoint: bool = False
    """Its mountpoint was made for it, and goes with its mount."""
    reading: str = ""
    """The directory that an import has not read to its end; empty for every other session."""
    is_reader: bool = False
    """It is no session, but a read-only mount."""

    @property
    def is_unreadable(self) -> bool:
        """It may hold work, and nobody knows of which stage."""
        return bool(self.problem) and not self.project and self.problem != _NO_WORK

    @property
    def name(self) -> str:
        """What it is called in messages."""
        return f"{self.project}/{self.stage}" if self.project else f"session {self.short}"

    @property
    def short(self) -> str:
        """The beginning of its id."""
        return self.session[:SHOWN_ID]

    def is_of(self, configuration: Configuration) -> bool:
        """Whether it belongs to the bucket that is configured."""
        return (self.bucket, self.endpoint) == (configuration.bucket, configuration.endpoint or "")


@contextmanager
def state_of(configuration: Configuration) -> Iterator[StateDirectory]:
    """The state directory of this user."""
    with StateDirectory(OsDisk(), configuration.state) as state:
        yield state


def local_sessions(configuration: Configuration) -> list[LocalSession]:
    """Every session of this machine, the oldest first."""
    if not os.path.isdir(configuration.state / "sessions"):
        return []  # who only looks makes nothing
    with state_of(configuration) as state:
        return _described(state.sessions())


def local_readers(configuration: Configuration) -> list[LocalSession]:
    """Every read-only mount of this machine, the oldest first."""
    if not os.path.isdir(configuration.state / "readers"):
        return []
    with state_of(configuration) as state:
        return [replace(each, is_reader=True) for each in _described(state.readers())]


def local_mounts(configuration: Configuration) -> list[LocalSession]:
    """Every session and every read-only mount."""
    return [*local_sessions(configuration), *local_readers(configuration)]


def discarded_sessions(configuration: Configuration) -> list[LocalSession]:
    """Every session in the trash, the one discarded first first."""
    if not os.path.isdir(configuration.state / "trash"):
        return []
    with state_of(configuration) as state:
        return sorted(_described(state.trashed()), key=lambda each: each.changed)


def _described(listed: list[Listed]) -> list[LocalSession]:
    return sorted(map(_session_of, listed), key=lambda each: (each.started, each.session))


def _session_of(listed: Listed) -> LocalSession:
    problem, reader = listed.problem, listed.description
    if reader is None:
        problem = problem or _NO_WORK
        reader = Reader({})
    try:
        return _read(listed, reader, problem)
    except Malformed as error:
        return _read(listed, Reader({}), f"session.json is not as PDFS writes it: {error}")


def _read(listed: Listed, reader: Reader, problem: str) -> LocalSession:
    return LocalSession(
        session=listed.session,
        is_held=listed.is_held,
        project=reader.text("project", ""),
        stage=reader.text("stage", ""),
        user=reader.text("user", ""),
        machine=reader.text("machine", ""),
        bucket=reader.text("bucket", ""),
        endpoint=reader.text("endpoint") if reader.has("endpoint") else "",
        mountpoint=reader.text("mountpoint") if reader.has("mountpoint") else "",
        pid=reader.whole("pid", 0),
        started=reader.number("started") if reader.has("started") else listed.changed,
        changed=listed.changed,
        why=reader.text("why") if reader.has("why") else "",
        problem=problem,
        has_made_mountpoint=reader.has("made_mountpoint") and reader.flag("made_mountpoint"),
        reading=reader.text("reading", ""),
    )


def full_path(path: str) -> str:
    """`path` from the root, as the kernel names it: with all links followed.

    What the last component is, is never asked: behind a dead mount that fails or hangs. Whether it
    is a link is known without.
    """
    for _ in range(_MOST_LINKS):
        head, name = os.path.split(os.path.abspath(path))
        head = os.path.realpath(head)
        path = os.path.join(head, name)
        try:
            path = os.path.join(head, os.readlink(path))
        except OSError:
            break
    return path


def find_session(sessions: list[LocalSession], target: str) -> LocalSession:
    """The session that `target` names. Raises SessionNotFound, UsageError where it names several.

    The mountpoint of one that lives goes before that of one that crashed there, and a session
    before read-only mounts of its stage.
    """
    for found in _named(sessions, target):
        chosen = [each for each in found if each.is_held] or found
        chosen = [each for each in chosen if not each.is_reader] or chosen
        if len(chosen) == 1:
            return chosen[0]
        if chosen:
            several = ", ".join(f"{each.name} ({each.short})" for each in chosen)
            raise UsageError(f"{target!r} names several sessions: {several}", remedy="name one")
    raise _not_found(target)


def find_last(sessions: list[LocalSession], target: str) -> LocalSession:
    """The same among sessions that are over: a mountpoint or a stage means the last that ended."""
    by_place, by_id, by_stage = _named(sessions, target)
    if by_id and not by_place:
        return find_session(by_id, target)
    found = by_place or by_stage
    if not found:
        raise _not_found(target)
    return max(found, key=lambda each: each.changed)


def _named(
    sessions: list[LocalSession], target: str
) -> tuple[list[LocalSession], list[LocalSession], list[LocalSession]]:
    """Those that `target` names by their mountpoint, by their id, and by their stage."""
    by_place = _innermost(
        [each for each in sessions if each.mountpoint and _is_at(target, each.mountpoint)], target
    )
    by_id = [each for each in sessions if _begins(each.session, target)]
    by_stage = [each for each in sessions if _is_stage(each, target)]
    return by_place, by_id, by_stage


def _innermost(around: list[LocalSession], target: str) -> list[LocalSession]:
    """Of mountpoints that lie one below the other, the one that hides the others.

    That of a dead session counts only where it is named itself: its mount may be gone.
    """
    path = full_path(target)
    around = [each for each in around if each.is_held or each.mountpoint == path] or around
    deepest = max((len(each.mountpoint) for each in around), default=0)
    return [each for each in around if len(each.mountpoint) == deepest]


def _not_found(target: str) -> SessionNotFound:
    return SessionNotFound(
        f"no session on this machine is called {target!r}", remedy="pdfs status shows what there is"
    )


def _is_at(target: str, mountpoint: str) -> bool:
    path = full_path(target)
    return path == mountpoint or path.startswith(mountpoint.rstrip("/") + "/")


def _begins(session: str, target: str) -> bool:
    return len(target) >= SHORTEST_PREFIX and session.startswith(target.lower())


def _is_stage(session: LocalSession, target: str) -> bool:
    project, _, stage = target.rstrip("/").partition("/")
    return bool(session.project) and session.project == project and stage in ("", session.stage)


def sessions_of(configuration: Configuration, keys: StageKeys) -> list[LocalSession]:
    """The sessions of a stage on this machine, the newest first."""
    return [
        each
        for each in reversed(local_sessions(configuration))
        if (each.project, each.stage) == (keys.project, keys.stage) and each.is_of(configuration)
    ]

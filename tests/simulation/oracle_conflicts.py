"""Judges every conflict copy: both sides had changed that name, or another tool had.

Two sessions clash over a name where one of them published a change of it while the other one, which
had mounted before, held a change of its own that it had not published, and came back afterwards.
"""

from dataclasses import dataclass, field
from math import inf

from pdfs.core.entries import Entry
from pdfs.core.ids import Path, SessionId
from pdfs.core.keys import ancestors
from pdfs.core.manifest import Manifest
from pdfs.core.root import Root
from tests.simulation.history import (
    CONFLICT,
    State,
    fence_in,
    fence_owners,
    is_disturbed,
    replayed,
    surely_in,
    tree_in,
)
from tests.simulation.world import World


def check_conflicts(world: World) -> None:
    """There is no conflict copy but of what somebody else had changed, too.

    A bucket that refuses keys keeps what is there in the way of other names, so nothing is judged.
    """
    if world.refused:
        return
    course = _Course(world)
    for session, path in course.copies:
        name = Path(CONFLICT.sub("", path))
        reason = is_disturbed(world, name) or course.is_clash(session, name) or name in course.lost
        assert reason, f"{path!r} of {session} is a conflict copy for nothing"


def is_contested(world: World, session: SessionId, path: Path) -> bool:
    """Whether another tool, a late write or another session's publish came between this session
    and what it did to this path, or to one above or below it, before or after it was published."""
    if world.refused or is_disturbed(world, path):
        return True
    course = _Course(world)
    is_after_others = course.is_clash(session, path) or course.is_followed(session, path)
    return is_after_others or path in course.lost


@dataclass(frozen=True, slots=True)
class _Commit:
    """A generation, when its root was written."""

    time: float
    session: SessionId
    surely_in: float
    """What the session's user did before then was in it."""
    changed: frozenset[Path]


@dataclass(slots=True)
class _Course:
    """Who took the stage and who published what, and when."""

    world: World
    starts: dict[SessionId, list[float]] = field(default_factory=dict)
    commits: list[_Commit] = field(default_factory=list)
    copies: list[tuple[SessionId, Path]] = field(default_factory=list)
    """Each conflict copy, by the session whose publish brought it in."""
    lost: set[Path] = field(default_factory=set)
    """Files whose bytes some generation did not have. What was there before stays in the bucket
    then, and whoever writes the file anew has not seen it."""

    def __post_init__(self) -> None:
        before: Root | None = None
        owners, seen = fence_owners(self.world), set[Path]()
        for change, state, root in replayed(self.world):
            if change.key == self.world.keys.root and root is not None:
                self._follow(change.time, state, before, root)
                if root.tree is not None and (before is None or before.tree != root.tree):
                    self._take_in(tree_in(self.world, state, root), owners, seen)
                before = root

    def _follow(self, time: float, state: State, before: Root | None, root: Root) -> None:
        if before is None or root.fence > before.fence:
            self.starts.setdefault(root.session, []).append(time)
        if before is not None and root.generation > before.generation:
            changed = _changed(self.world, state, before, root)
            begun = surely_in(self.world, root)
            self.commits.append(_Commit(time, root.session, begun, changed))

    def _take_in(self, manifest: Manifest, owners: dict[int, SessionId], seen: set[Path]) -> None:
        self.lost.update(entry.path for entry in manifest.entries if entry.lost)
        for entry in manifest.entries:
            if CONFLICT.search(entry.path) and entry.path not in seen:
                assert manifest.publish is not None
                seen.add(entry.path)
                self.copies.append((owners[fence_in(manifest.publish)], entry.path))

    def is_clash(self, session: SessionId, path: Path) -> bool:
        """Whether this session and another one had both changed the path."""
        return any(
            commit.session != session
            and _has_relative(commit.changed, path)
            and self._held_change(session, path, commit)
            for commit in self.commits
        )

    def is_followed(self, session: SessionId, path: Path) -> bool:
        """Whether another session changed the path, once this one had published a change of it."""
        published = [
            commit.time
            for commit in self.commits
            if commit.session == session and _has_relative(commit.changed, path)
        ]
        return any(
            commit.session != session
            and commit.time > min(published, default=inf)
            and _has_relative(commit.changed, path)
            for commit in self.commits
        )

    def _held_change(self, session: SessionId, path: Path, commit: _Commit) -> bool:
        """Whether the session had an unpublished change there when it came back after that."""
        starts = self.starts.get(session, [])
        if not any(start < commit.time for start in starts):
            return False
        back = min((start for start in starts if start > commit.time), default=None)
        if back is None:
            return False
        own = [c.surely_in for c in self.commits if c.session == session and c.time < commit.time]
        since = max(own, default=starts[0])
        diary = self.world.diaries.get(session)
        return diary is not None and any(
            since <= time <= back and _are_relatives(touched, path) for touched, time in diary.log
        )


def _changed(world: World, state: State, before: Root, after: Root) -> frozenset[Path]:
    """The paths at which two generations differ."""
    old = {} if before.tree is None else tree_in(world, state, before).by_path()
    new = tree_in(world, state, after).by_path()
    return frozenset(
        path for path in old.keys() | new.keys() if _what(old, path) != _what(new, path)
    )


def _what(entries: dict[Path, Entry], path: Path) -> tuple[object, ...] | None:
    entry = entries.get(path)
    if entry is None:
        return None
    content = entry.content
    if content is None:
        return (entry.kind,)
    known = content.digest if content.digest is not None else entry.etag
    return (entry.kind, known, entry.lost)


def _are_relatives(one: Path, other: Path) -> bool:
    return one == other or one in ancestors(other) or other in ancestors(one)


def _has_relative(paths: frozenset[Path], path: Path) -> bool:
    return any(_are_relatives(each, path) for each in paths)
